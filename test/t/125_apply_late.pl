# Late rows that go into kept windows by apply_late(), again and again, a few at a time, while workers are terminated
# and the server is killed.  If this failed, a late row could be counted twice, or be gone from the late table
# without being counted.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use PostgreSQL::Test::Utils;
use Test::More;

use PipelineNode;

my $seed = $ENV{PIPELINE_TEST_SEED} // 1 + int(rand(1e6));
note("PIPELINE_TEST_SEED=$seed");
srand($seed);

my $node = PipelineNode->create('apply_late', conf => "timezone = 'UTC'\npipeline.batch_size = 40\npipeline.state_memory = '8MB'\nautovacuum = off\n");

# Windows of each event, for the batch query, and what each view makes of them.
my %views = (
	tumbling => {
		windows => q{LATERAL (SELECT pipeline.tumble(at, '10 seconds') AS w) x},
		options => q{pipeline.keep_closed = '60 seconds'},
		list => 'k, w, count(*) AS n, sum(v) AS v, count(DISTINCT v) AS different',
		keep => 60 },
	graced => {
		windows => q{LATERAL (SELECT pipeline.tumble(at, '7 seconds') AS w) x},
		options => q{pipeline.keep_closed = '90 seconds', pipeline.allowed_lateness = '5 seconds', pipeline.emit = 'changes'},
		list => 'k, w, count(*) AS n, max(v) AS v, stddev(v::numeric) AS spread',
		open => 1,
		keep => 90 },
	hopping => {
		windows => q{pipeline.hop(at, '20 seconds', '5 seconds') AS w},
		options => q{pipeline.keep_closed = '40 seconds'},
		list => 'k, w, count(*) AS n, avg(v) AS v, min(v) AS least',
		keep => 40 },
	cumulating => {
		windows => q{pipeline.cumulate(at, '30 seconds', '10 seconds') AS w},
		options => q{pipeline.keep_closed = '60 seconds'},
		list => 'k, w, count(*) AS n, sum(v) AS v',
		keep => 60 });

sub value
{
	my ($sql) = @_;
	return $node->sql($sql);
}

value(q{
CREATE TABLE archive (id bigint, at timestamptz, k int, v int);
CREATE FOREIGN TABLE events (id bigint, at timestamptz, k int, v int)
  SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '5 seconds', idle_timeout 'off');
});
for my $name (sort keys %views)
{
	my $view = $views{$name};
	my $from = $view->{windows} !~ /LATERAL/ ? "events, $view->{windows}" : 'events';
	my ($window) = $view->{windows} =~ /SELECT (.*) AS w\)/;
	my $list = $view->{windows} !~ /LATERAL/ ? $view->{list} : $view->{list} =~ s/\bw\b/$window AS w/r;

	value("CREATE VIEW $name WITH (pipeline.continuous, $view->{options}) AS SELECT $list, sum(id) AS ids FROM $from GROUP BY k, w");
	# what the view ought to show by what is in its late table, all in one snapshot; id is not among a group's keys
	$view->{batch} = qq{SELECT $view->{list}, sum(id) AS ids FROM archive a, $view->{windows}
		WHERE (upper(w) <= pipeline.watermark('$name') OR ${\ ($view->{open} ? 'true' : 'false')})
		AND NOT EXISTS (SELECT FROM ${name}_late l WHERE l.id = a.id AND w = ANY (l.late_windows)) GROUP BY k, w};
}

# Events over the next 100 seconds; some of them late by up to 70.
my $next_id = 1;
my $now = 0;
sub insert_events
{
	my ($count) = @_;
	my $last = $next_id + $count - 1;

	value(qq{
BEGIN;
SELECT setseed(${\ rand(1)});
INSERT INTO archive SELECT g, timestamptz '2024-01-01 00:00:00+00' + interval '1 second'
  * ($now + 100.0 * (g - $next_id) / $count - CASE WHEN random() < 0.4 THEN 70 * random() ELSE 4 * random() END), (10 * random())::int, (100 * random())::int
  FROM generate_series($next_id, $last) g;
INSERT INTO events SELECT * FROM archive WHERE id >= $next_id ORDER BY id;
COMMIT});
	$next_id = $last + 1;
	$now += 100;
	return;
}

sub check_all
{
	my ($when, %options) = @_;

	for my $name (sort keys %views)
	{
		my $view = $views{$name};

		$node->wait_for($name) unless $options{at_once};
		is($node->rows_differ($view->{batch}, "SELECT * FROM $name"), '', "$when: $name is the query over what is not in its late table");
		next if $options{at_once};
		is(value("SELECT pipeline.verify_state('$name')"), 't', "$when: memory of $name is what is saved");
	}
	return;
}

sub count_applicable
{
	my ($name) = @_;
	return value("SELECT count(*) FROM ${name}_late, unnest(late_windows) w WHERE upper(w) > pipeline.watermark('$name') - interval '$views{$name}{keep} seconds'");
}

# Workers are terminated, or all processes are killed, while late rows are being applied.
my @disturbances = (
	sub { },
	sub { value("SELECT count(pg_terminate_backend(pid)) FROM pipeline.stat_views WHERE pid IS NOT NULL") },
	sub { my ($name) = @_; $node->kill_worker($name); $node->until_true('SELECT true') },
	sub { $node->stop('immediate'); $node->start });

my %applied;
for my $round (1 .. 6)
{
	my $disturb = $disturbances[$round % @disturbances];

	insert_events(1500);
	check_all("round $round, late rows stored");
	my %before;
	for my $name (sort keys %views)
	{
		$before{$name} = count_applicable($name);
		cmp_ok($before{$name}, '>', 50, "round $round: $name has late rows of windows that are kept");
		value("SELECT pipeline.apply_late('$name')");
	}
	check_all("round $round, on the way", at_once => 1);
	$disturb->((sort keys %views)[ int(rand(keys %views)) ]);
	# events go on coming in
	insert_events(200) if $round % 3 == 0;
	check_all("round $round, applied");
	for my $name (sort keys %views)
	{
		$applied{$name} += $before{$name};
		is(count_applicable($name), '0', "round $round: no row of a kept window is left of $name") if $round % 3 != 0;
	}
}
for my $name (sort keys %views)
{
	my $view = $views{$name};
	# as if all had come in time, but for the windows that were not kept
	is(value(qq{SELECT count(*) FROM archive a, $view->{windows} WHERE upper(w) <= pipeline.watermark('$name')}),
		value(qq{SELECT (SELECT sum(n) FROM $name WHERE upper(w) <= pipeline.watermark('$name')) + (SELECT sum(cardinality(late_windows)) FROM ${name}_late)}),
		"$name and its late rows are all (event, window) pairs");
	cmp_ok($applied{$name}, '>', 500, "$applied{$name} were applied to $name");
}

# A row that another transaction is about to delete is left alone, without waiting, and found when that has ended.
insert_events(1500);
$node->wait_for('tumbling');
my $session = $node->background_psql('postgres');
my $deleted = count_applicable('tumbling');
$session->query_safe('BEGIN');
my $id = value("SELECT max(id) FROM tumbling_late WHERE upper(late_windows[1]) > pipeline.watermark('tumbling') - interval '60 seconds'");
$session->query_safe("DELETE FROM tumbling_late WHERE id = $id");
value("SELECT pipeline.apply_late('tumbling')");
$node->until_true("SELECT count(*) = 1 FROM tumbling_late, unnest(late_windows) w WHERE upper(w) > pipeline.watermark('tumbling') - interval '60 seconds'");
value("INSERT INTO events VALUES (0, timestamptz '2024-01-01 00:00:00+00' + interval '$now seconds', 0, 0)");
$node->until_true("SELECT events_in = $next_id FROM pipeline.stat_views WHERE view = 'tumbling'::regclass");
pass('the view goes on meanwhile');
is(value("SELECT pipeline.wait_for('tumbling', '300 milliseconds')"), 'f', 'and the request is not carried out yet');
$session->query_safe('ROLLBACK');
$session->quit;
$node->wait_for('tumbling');
is(count_applicable('tumbling'), '0', 'then the row is applied');
value("INSERT INTO archive VALUES (0, timestamptz '2024-01-01 00:00:00+00' + interval '$now seconds', 0, 0)");
check_all('after that');

# While a session is asking once more the worker cannot say that it is done.  It does not wait for the session, either.
insert_events(1500);
$node->wait_for('tumbling');
my $before = value('SELECT count(*) FROM tumbling_late');
my ($holder, $asker) = map { $node->background_psql('postgres') } 1, 2;
$id = value("SELECT max(id) FROM tumbling_late WHERE upper(late_windows[1]) > pipeline.watermark('tumbling') - interval '60 seconds'");
$holder->query_safe("BEGIN; DELETE FROM tumbling_late WHERE id = $id");
value("SELECT pipeline.apply_late('tumbling')");
$asker->query_safe("BEGIN; SELECT pipeline.apply_late('tumbling')");
$holder->query_safe('ROLLBACK');
$node->until_true("SELECT count(*) = 0 FROM tumbling_late, unnest(late_windows) w WHERE upper(w) > pipeline.watermark('tumbling') - interval '60 seconds'");
value("INSERT INTO events VALUES (-1, timestamptz '2024-01-01 00:00:00+00' + interval '$now seconds', 0, 0)");
$node->until_true("SELECT events_in = $next_id + 1 FROM pipeline.stat_views WHERE view = 'tumbling'::regclass");
pass('the view goes on while the task is being changed');
is(value("SELECT pipeline.wait_for('tumbling', '300 milliseconds')"), 'f', 'and the request is not forgotten');
$asker->query_safe('COMMIT');
$_->quit for $holder, $asker;
$node->wait_for('tumbling');
value("INSERT INTO archive VALUES (-1, timestamptz '2024-01-01 00:00:00+00' + interval '$now seconds', 0, 0)");
check_all('at the end');

# Groups of kept windows that are on disk only take late rows, too.
value("DROP VIEW $_") for keys %views;
value(q{
ALTER SYSTEM SET pipeline.batch_size = 4096;
SELECT pg_reload_conf();
CREATE TABLE wide_archive (id bigint, at timestamptz, k int, v int);
CREATE FOREIGN TABLE wide_events (id bigint, at timestamptz, k int, v int)
  SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '5 seconds', idle_timeout 'off');
CREATE VIEW wide WITH (pipeline.continuous, pipeline.keep_closed = '1 hour') AS
  SELECT k, pipeline.tumble(at, '1 minute') AS w, count(*) AS n, sum(v) AS v, max(id) AS id FROM wide_events GROUP BY k, w;
BEGIN;
INSERT INTO wide_archive SELECT g, timestamptz '2024-01-01 00:00:00+00' + g * interval '5 milliseconds', g, g % 1000 FROM generate_series(1, 150000) g;
INSERT INTO wide_events SELECT * FROM wide_archive ORDER BY id;
COMMIT;
BEGIN;
INSERT INTO wide_archive SELECT g, timestamptz '2024-01-01 00:00:00+00' + (g * 7919 % 100000) * interval '5 milliseconds', g * 7919 % 100000, g % 100 FROM generate_series(200001, 205000) g;
INSERT INTO wide_events SELECT * FROM wide_archive WHERE id > 200000 ORDER BY id;
COMMIT;
});
$node->wait_for('wide');
my $all = q{SELECT k, pipeline.tumble(at, '1 minute') AS w, count(*) AS n, sum(v) AS v, max(id) AS id FROM wide_archive GROUP BY k, w HAVING pipeline.tumble(min(at), '1 minute') << tstzrange(pipeline.watermark('wide'), NULL)};
cmp_ok(value("SELECT state_evictions FROM pipeline.stat_views WHERE view = 'wide'::regclass"), '>', 0, 'some groups are on disk only');
is(value('SELECT count(*) FROM wide_late'), '5000', 'late rows of many of them');
value("SELECT pipeline.apply_late('wide')");
$node->wait_for('wide');
is(value('SELECT count(*) FROM wide_late'), '0', 'are applied');
is($node->rows_differ($all, 'SELECT * FROM wide'), '', 'to groups on disk and in memory');
is(value("SELECT pipeline.verify_state('wide')"), 't', 'whose memory is what is saved');

# Events that are late for thousands of windows each do not add up in memory.
value(q{
CREATE FOREIGN TABLE far_events (at timestamptz) SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '0', idle_timeout 'off');
CREATE VIEW far WITH (pipeline.continuous) AS SELECT w, count(*) AS n FROM far_events, pipeline.hop(at, '10000 seconds', '2 seconds') AS w GROUP BY w;
INSERT INTO far_events VALUES ('2024-01-02');
});
$node->wait_for('far');
value("INSERT INTO far_events SELECT timestamptz '2024-01-01' FROM generate_series(1, 1000)");
$node->wait_for('far');
is(value('SELECT count(*) FROM far_late WHERE cardinality(late_windows) = 5000'), '1000', 'events late for 5000 windows each are stored');
my $pid = value("SELECT pid FROM pipeline.stat_views WHERE view = 'far'::regclass");
my ($private) = slurp_file("/proc/$pid/status") =~ /^RssAnon:\s+(\d+) kB/m;
cmp_ok($private, '<', 100_000, 'in little memory');

$node->stop;
done_testing();
