# Rows of open windows that are refreshed now and then only: what is owed to the
# table must survive workers that end, crashes of the server, and memory that gets
# short, and windows that close must be right whatever was put off.
# If this failed, rows would be missing, appear twice, or stay as they once were.
#
# PIPELINE_SEED repeats a run; PIPELINE_ROUNDS (2) rounds.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use PostgreSQL::Test::Utils;
use Test::More;

use PipelineNode;

my $seed = $ENV{PIPELINE_SEED} || time % 100000;
my $rounds = $ENV{PIPELINE_ROUNDS} || 2;
my $node = PipelineNode->create('emit_interval',
	conf => "timezone = 'UTC'\nmax_worker_processes = 64\npipeline.checkpoint_interval = '50ms'\n"
	  . "pipeline.random_batches = on\npipeline.batch_size = 300\nautovacuum = off\n");

srand($seed);
diag("PIPELINE_SEED=$seed");

sub value
{
	my ($sql) = @_;
	return $node->sql($sql);
}

value('SELECT setseed(' . ($seed % 1000) / 1000 . ')');

# What each view has to show, from the events; "done": the end of a window that is over.
my %views = (
	tumble => [ "pipeline.emit = 'changes'", q{SELECT k, pipeline.tumble(at, '10 seconds') AS w, count(*) AS n, count(DISTINCT v) AS d, max(v) AS top FROM %s GROUP BY k, w}, 'upper(w) <= %s' ],
	texts => [ "pipeline.emit = 'changes'", q{SELECT k, pipeline.tumble(at, '10 seconds') AS w, max(v::text) AS top, sum(v::numeric) AS v FROM %s GROUP BY k, w}, 'upper(w) <= %s' ],
	hop => [ "pipeline.emit = 'changes', pipeline.allowed_lateness = '1 minute'", q{SELECT k, w, count(*) AS n, sum(v) AS v FROM %s, pipeline.hop(at, '20 seconds', '5 seconds') AS w GROUP BY k, w}, 'upper(w) <= %s' ],
	lists => [ "pipeline.emit = 'changes'", q{SELECT k, pipeline.tumble(at, '10 seconds') AS w, array_agg(v ORDER BY id) AS vs FROM %s GROUP BY k, w}, 'upper(w) <= %s' ],
	total => [ "pipeline.late = 'store'", q{SELECT k, count(*) AS n, sum(v) AS v FROM %s GROUP BY k}, 'false' ],
	all => [ "pipeline.late = 'store'", q{SELECT count(*) AS n, max(id) AS id FROM %s}, 'false' ],
);

sub create_views
{
	my ($name, $interval) = @_;

	value(qq{SET client_min_messages = warning;
CREATE FOREIGN TABLE $name (id int, k int, v int, at timestamptz) SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '0', idle_timeout 'off');
CREATE TABLE ${name}_rows (id int, k int, v int, at timestamptz);});
	for my $view (sort keys %views)
	{
		value("SET client_min_messages = warning; CREATE VIEW ${name}_$view WITH (pipeline.continuous, $views{$view}[0], pipeline.emit_interval = '$interval') AS " . sprintf($views{$view}[1], $name));
	}
	value(qq{SET client_min_messages = warning;
CREATE VIEW ${name}_counted WITH (pipeline.continuous, pipeline.emit = 'changes', pipeline.emit_interval = '$interval') AS SELECT k, pipeline.count_window(5, 3) AS w, count(*) AS n, sum(v) AS v FROM $name GROUP BY k, w});
	return;
}

# In order, so that none is late.
sub insert_events
{
	my ($name, $from, $n, $keys) = @_;
	my $to = $from + $n - 1;

	value("INSERT INTO ${name}_rows SELECT i, floor(random() * $keys), floor(random() * 9), timestamptz '2024-01-01Z' + i * interval '20 milliseconds' FROM generate_series($from, $to) i;"
		  . "INSERT INTO $name SELECT * FROM ${name}_rows WHERE id >= $from ORDER BY id");
	return;
}

sub taken_in
{
	my ($name) = @_;
	$node->until_true("SELECT bool_and(events_in = (SELECT count(*) FROM ${name}_rows)) FROM pipeline.stat_views WHERE view::text LIKE '$name\\_%'");
	return;
}

# Windows that are over are right although nobody waited; and all of them when somebody does.
sub judge
{
	my ($name) = @_;
	my $problems = '';

	taken_in($name);
	for my $view (sort keys %views)
	{
		my $over = sprintf($views{$view}[2], "pipeline.watermark('${name}_$view')");
		my $expected = sprintf($views{$view}[1], "${name}_rows");

		$problems .= $node->rows_differ("SELECT * FROM ($expected) AS x WHERE $over", "SELECT * FROM ${name}_$view WHERE $over");
		$node->wait_for("${name}_$view");
		$problems .= "${name}_$view: state\n" if value("SELECT pipeline.verify_state('${name}_$view')") ne 't';
		$problems .= $node->rows_differ($expected, "SELECT * FROM ${name}_$view");
	}
	$node->wait_for("${name}_counted");
	$problems .= "${name}_counted: state\n" if value("SELECT pipeline.verify_state('${name}_counted')") ne 't';
	$problems .= $node->rows_differ("SELECT k, w, count(*), sum(v) FROM (SELECT *, row_number() OVER (PARTITION BY k ORDER BY id) AS i FROM ${name}_rows) a,"
		  . ' generate_series(greatest(1, (i - 5 + 2) / 3 + 1), (i - 1) / 3 + 1) w WHERE i > (w - 1) * 3 AND i <= (w - 1) * 3 + 5 GROUP BY 1, 2', "SELECT * FROM ${name}_counted");
	return $problems;
}

sub disturb
{
	my ($name) = @_;
	my $r = rand;

	if ($r < 0.2)
	{
		value("SELECT pg_terminate_backend(pid) FROM (SELECT DISTINCT pid FROM pipeline.stat_views WHERE view::text LIKE '$name\\_%' AND pid IS NOT NULL) w");
	}
	elsif ($r < 0.35)
	{
		$node->stop(rand() < 0.7 ? 'immediate' : 'fast');
		$node->start;
	}
	elsif ($r < 0.45)
	{
		value(q{SELECT pipeline.shift_clock('2 hours')});
	}
	elsif ($r < 0.5)
	{
		value("ALTER VIEW ${name}_total SET (pipeline.emit_interval = '" . (rand() < 0.5 ? 0 : '1 hour') . "')");
	}
	return;
}

for my $round (1 .. $rounds)
{
	my $name = "s$round";
	my $problems = '';
	my $last = 0;

	create_views($name, $round % 3 == 0 ? '30 milliseconds' : '1 hour');
	while ($last < 6000)
	{
		my $n = 1 + int(exp(rand(6.5)));

		insert_events($name, $last + 1, $n, 8);
		$last += $n;
		disturb($name);
		$problems .= judge($name) if rand() < 0.15;
	}
	$problems .= judge($name);
	is($problems, '', "round $round");
	value("SET client_min_messages = warning; DROP FOREIGN TABLE $name CASCADE; DROP TABLE ${name}_rows");
}

# more groups than memory holds: they are shown before they are given up
$node->append_conf('postgresql.conf', "pipeline.state_memory = '8MB'\npipeline.share_tasks = off\npipeline.random_batches = off\npipeline.batch_size = 4096\n");
$node->restart;
create_views('many', '1 hour');
value('SET client_min_messages = warning; DROP VIEW many_texts, many_hop, many_lists, many_all');
delete @views{qw(texts hop lists all)};
for my $i (0 .. 9)
{
	insert_events('many', $i * 20000 + 1, 20000, 60000);
	next if $i != 5;
	taken_in('many');
	$node->stop('immediate');
	$node->start;
}
taken_in('many');
is(value(q{SELECT bool_and(state_evictions > 0) FROM pipeline.stat_views WHERE view::text IN ('many_total', 'many_counted')}), 't', 'groups were given up');
is(judge('many'), '', 'and their rows are right');

$node->stop;
done_testing();
