# Count windows against plain SQL that numbers the events of each group: random
# sizes, slides and keys, batches and checkpoints that end anywhere, workers and
# servers that go away, and more groups than memory holds.  If this failed, a window
# would have other events after a restart, be given out twice, or not at all.
#
# PIPELINE_SEED repeats a run; PIPELINE_ROUNDS (3) rounds, each with several streams.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use PostgreSQL::Test::Utils;
use Test::More;

use PipelineNode;

my $seed = $ENV{PIPELINE_SEED} || time % 100000;
my $rounds = $ENV{PIPELINE_ROUNDS} || 3;
my $streams = 4;
my @all_views = qw(c o n p l m i);
my $node = PipelineNode->create('counts',
	conf => "timezone = 'UTC'\nmax_worker_processes = 64\npipeline.checkpoint_interval = '100ms'\n"
	  . "pipeline.random_batches = on\npipeline.batch_size = 300\nautovacuum = off\n");

srand($seed);
diag("PIPELINE_SEED=$seed");

# What views of a stream show; the order of sums of numeric does not matter, that of a list does.
my $values = 'count(*) AS n, sum(v) AS v, max(v) AS top, min(id) AS first, max(id) AS last';
my $lists = 'count(*) AS n, array_agg(id ORDER BY v, id) AS ids, count(DISTINCT v) AS d, percentile_disc(0.5) WITHIN GROUP (ORDER BY v) AS middle';
my $kept = "$values, sum(v::numeric / 7) AS exact, max(txt) AS txt, list(id) AS ids";

sub value
{
	my ($sql) = @_;
	return $node->sql($sql);
}

# All windows of a stream, complete or not.
sub windows_sql
{
	my ($stream, $what) = @_;
	my ($size, $slide) = @$stream{qw(size slide)};

	$what =~ s/list\(id\)/list(id ORDER BY id)/;
	return "SELECT k, w, $what FROM (SELECT r.*, row_number() OVER (PARTITION BY k ORDER BY id) AS e FROM $stream->{name}_rows r) r,"
	  . " LATERAL generate_series(greatest(1, (e - $size + $slide - 1) / $slide + 1), (e - 1) / $slide + 1) w"
	  . " WHERE (w - 1) * $slide < e AND e <= (w - 1) * $slide + $size GROUP BY k, w";
}

sub create_stream
{
	my ($name, $size, $slide, $keys) = @_;

	value(qq{
SET client_min_messages = warning;
CREATE FOREIGN TABLE $name (id int, k text, v int, txt text) SERVER pipeline_local;
CREATE TABLE ${name}_rows (id int, k text, v int, txt text);
CREATE VIEW ${name}_c WITH (pipeline.continuous) AS SELECT k, pipeline.count_window($size, $slide) AS w, $values FROM $name GROUP BY k, w;
CREATE VIEW ${name}_o WITH (pipeline.continuous, pipeline.emit = 'changes') AS SELECT k, pipeline.count_window($size, $slide) AS w, $values FROM $name GROUP BY k, w;
CREATE VIEW ${name}_n WITH (pipeline.continuous) AS SELECT k, pipeline.count_window($size, $slide) AS w, $kept FROM $name GROUP BY k, w;
CREATE VIEW ${name}_p WITH (pipeline.continuous, pipeline.emit = 'changes') AS SELECT k, pipeline.count_window($size, $slide) AS w, $kept FROM $name GROUP BY k, w;
CREATE VIEW ${name}_l WITH (pipeline.continuous) AS SELECT k, pipeline.count_window($size, $slide) AS w, $lists FROM $name GROUP BY k, w;
CREATE VIEW ${name}_m WITH (pipeline.continuous, pipeline.emit = 'changes') AS SELECT k, pipeline.count_window($size, $slide) AS w, $lists FROM $name GROUP BY k, w;
CREATE VIEW ${name}_i WITH (pipeline.continuous, pipeline.emit = 'changes', pipeline.emit_interval = '1 hour') AS SELECT k, pipeline.count_window($size, $slide) AS w, $lists FROM $name GROUP BY k, w;});
	return { name => $name, size => $size, slide => $slide, keys => $keys };
}

# Rows that are made up once, so that stream and table have the same.
sub insert_events
{
	my ($stream, $from, $to) = @_;

	value("INSERT INTO $stream->{name}_rows SELECT i, CASE WHEN random() > 0.02 THEN 'key ' || floor(random() * $stream->{keys}) END, CASE WHEN random() > 0.1 THEN floor(random() * 100) END,"
		  . " md5(i::text) FROM generate_series($from, $to) i");
	value("INSERT INTO $stream->{name} SELECT * FROM $stream->{name}_rows WHERE id BETWEEN $from AND $to ORDER BY id");
	return;
}

sub disturb
{
	my ($stream) = @_;
	my $r = rand;

	value("SELECT pg_terminate_backend(pid) FROM (SELECT DISTINCT pid FROM pipeline.stat_views WHERE view::text LIKE '$stream->{name}\\_%' AND pid IS NOT NULL) w") if $r < 0.12;
	return if $r < 0.96;
	$node->stop(rand() < 0.5 ? 'immediate' : 'fast');
	$node->start;
	return;
}

sub judge
{
	my ($stream, @views) = @_;
	my $name = $stream->{name};
	my $complete = "count(*) = $stream->{size}";
	my $problems = '';

	for my $view (@views)
	{
		my $windows = windows_sql($stream, $view =~ /[co]/ ? $values : $view =~ /[np]/ ? $kept : $lists);

		$node->wait_for("${name}_$view");
		$problems .= "${name}_$view: state is not what its chunks say\n" if value("SELECT pipeline.verify_state('${name}_$view')") ne 't';
		my $wrong = $node->rows_differ($windows . ($view =~ /[cnl]/ ? " HAVING $complete" : ''), "SELECT * FROM ${name}_$view");
		$problems .= "${name}_$view: $wrong\n" if $wrong;
	}
	return $problems;
}

sub play_round
{
	my ($round) = @_;
	my @all;
	my $problems = '';

	for my $i (1 .. $streams)
	{
		my $size = 1 + int(exp(rand(4)));
		my $slide = rand() < 0.3 ? $size : 1 + int(rand($size));

		push @all, create_stream("s$i", $size, $slide, 1 + int(exp(rand(4))));
	}
	for my $stream (@all)
	{
		my $last = 0;

		while ($last < 1200)
		{
			my $size = 1 + int(exp(rand(6)));

			insert_events($stream, $last + 1, $last + $size);
			$last += $size;
			disturb($stream);
			$problems .= judge($stream, $all_views[ int(rand(@all_views)) ]) if rand() < 0.1;
		}
	}
	$problems .= judge($_, @all_views) for @all;
	is($problems, '', "round $round: windows of $streams streams");
	value('SET client_min_messages = warning; ' . join('', map { "DROP FOREIGN TABLE $_->{name} CASCADE; DROP TABLE $_->{name}_rows;" } @all));
	return;
}

value(q{SELECT setseed(} . ($seed % 1000) / 1000 . q{);
CREATE FUNCTION list_add(text, int) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT coalesce($1 || ',', '') || $2$$;
CREATE AGGREGATE list(int) (sfunc = list_add, stype = text);});
play_round($_) for 1 .. $rounds;

# more groups than memory holds, each with several open windows
$node->append_conf('postgresql.conf', "pipeline.state_memory = '8MB'\n");
$node->restart;
value('ALTER SYSTEM SET pipeline.random_batches = off; ALTER SYSTEM SET pipeline.batch_size = 4096; SELECT pg_reload_conf()');
my $many = create_stream('many', 8, 2, 50000);
value('DROP VIEW many_n, many_p, many_l, many_m, many_i');
insert_events($many, $_ * 20000 + 1, ($_ + 1) * 20000) for 0 .. 9;
$node->wait_for("many_$_") for qw(c o);
is(value(q{SELECT bool_and(state_evictions > 0 AND state_loads > 0) FROM pipeline.stat_views WHERE view::text LIKE 'many\_%'}), 't', 'groups were given up and brought back');
is(judge($many, qw(c o)), '', 'and their windows are right');
$node->stop('immediate');
$node->start;
insert_events($many, 200001, 220000);
is(judge($many, qw(c o)), '', 'after a crash, too');

# rows are not given up: the view stops, others go on
value("SET client_min_messages = warning; CREATE VIEW many_l WITH (pipeline.continuous) AS SELECT k, pipeline.count_window(8, 2) AS w, $lists FROM many GROUP BY k, w");
insert_events($many, $_ * 20000 + 1, ($_ + 1) * 20000) for 11 .. 15;
$node->until_true(q{SELECT state = 'stopped' FROM pipeline.views WHERE view = 'many_l'::regclass});
like(value(q{SELECT reason FROM pipeline.views WHERE view = 'many_l'::regclass}), qr/operator state does not fit into memory/, 'a view that keeps more rows than memory holds stops');
is(judge($many, qw(c o)), '', 'the others do not');

$node->stop;
done_testing();
