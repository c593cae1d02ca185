# State in shared memory: what an abort leaves, what the next worker finds, what
# happens when there is not enough.  If this failed, a view could go on counting
# from a state that was never committed, or the memory of dropped views would
# be lost until the next restart of the server.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use PostgreSQL::Test::Utils;
use Test::More;

use PipelineNode;

my $node = PipelineNode->create('state', conf => "timezone = 'UTC'\npipeline.state_memory = '8MB'\npipeline.checkpoint_interval = '200ms'\npipeline.share_tasks = off\nautovacuum = off\n");
my $options = q{OPTIONS (event_time 'at', out_of_orderness '0', idle_timeout 'off')};
my $next_id = 1;

sub value
{
	my ($sql) = @_;
	return $node->sql($sql);
}

sub stat_of
{
	my ($view, $column) = @_;
	return value("SELECT $column FROM pipeline.stat_views WHERE view = '$view'::regclass");
}

# Rows into the stream and into the table that says what is right.
sub insert_rows
{
	my ($count, %columns) = @_;
	my $first = $next_id;
	my $last = $next_id += $count;
	my $k = $columns{k} // 'g % 1000';
	my $v = $columns{v} // 'g % 97 + 1';

	$last--;
	value(qq{
BEGIN;
INSERT INTO archive SELECT g, timestamptz '2024-01-01 00:00:00+00' + g * interval '10 milliseconds', $k, $v FROM generate_series($first, $last) g;
INSERT INTO events SELECT * FROM archive WHERE id BETWEEN $first AND $last ORDER BY id;
COMMIT});
	return;
}

my %batch = (
	flat => 'SELECT k, count(*) AS n, sum(v) AS total, max(at) AS last FROM archive GROUP BY k',
	internal => 'SELECT k % 10 AS k, sum(v::numeric) AS total, stddev(v) AS spread FROM archive GROUP BY k % 10',
	members => 'SELECT k % 3 AS k, count(DISTINCT v) AS n, count(*) AS events FROM archive GROUP BY k % 3',
	own => 'SELECT k % 7 AS k, careful_sum(v) AS total FROM archive GROUP BY k % 7');
my %windows = (
	windowed => 'SELECT k, pipeline.tumble(at, \'5 seconds\') AS w, count(*) AS n, sum(v) AS total FROM archive GROUP BY k, w',
	hopping => 'SELECT k % 100 AS k, w, count(*) AS n, max(v) AS most FROM archive, pipeline.hop(at, \'10 seconds\', \'2 seconds\') AS w GROUP BY k % 100, w',
	running => 'SELECT k % 500 AS k, w, count(*) AS n, sum(v) AS total, avg(v) AS mean FROM archive, pipeline.hop(at, \'10 seconds\', \'1.5 seconds\') AS w GROUP BY k % 500, w',
	sessions => 'WITH a AS (SELECT k % 100 AS k, at, v FROM archive WHERE id % 1000 < 400 + k % 10),
		b AS (SELECT *, sum(new) OVER (PARTITION BY k ORDER BY at) AS s FROM (SELECT *, (at - lag(at) OVER (PARTITION BY k ORDER BY at) > interval \'3 seconds\' IS NOT FALSE)::int AS new FROM a) c)
		SELECT k, tstzrange(min(at), max(at) + interval \'3 seconds\') AS w, count(*) AS n, sum(v) AS total FROM b GROUP BY k, s',
	careful => 'SELECT k % 10 AS k, w, careful_sum(v) AS total FROM archive, pipeline.hop(at, \'10 seconds\', \'2 seconds\') AS w WHERE v <> 666 GROUP BY k % 10, w',
	ordered => 'SELECT pipeline.tumble(at, \'20 seconds\') AS w, array_agg(v ORDER BY id DESC) AS v FROM archive WHERE k < 50 GROUP BY w');

sub check_all
{
	my ($name) = @_;

	$node->wait_for($_) for sort(keys %batch, keys %windows);
	for my $view (sort keys %batch)
	{
		is($node->rows_differ($batch{$view}, "SELECT * FROM $view"), '', "$name: $view");
	}
	for my $view (sort keys %windows)
	{
		my $before = $view eq 'sessions' ? '<' : '<=';
		my $closed = "SELECT * FROM ($windows{$view}) AS b WHERE upper(w) $before (SELECT max(at) FROM archive)";

		is($node->rows_differ($closed, "SELECT * FROM $view"), '', "$name: $view");
	}
	is(value("SELECT bool_and(pipeline.verify_state(v)) FROM unnest(ARRAY[" . join(', ', map { "'$_'::regclass" } sort(keys %batch, keys %windows)) . "]) AS v"),
		't', "$name: memory is what the chunks say");
	return;
}

value(qq{
CREATE TABLE archive (id bigint, at timestamptz, k bigint, v int);
CREATE FOREIGN TABLE events (id bigint, at timestamptz, k bigint, v int) SERVER pipeline_local $options;
CREATE FUNCTION careful_add(state bigint, v int) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS \$\$
BEGIN
  IF v = 666 THEN RAISE EXCEPTION 'not this one' USING ERRCODE = 'data_exception'; END IF;
  RETURN state + v;
END\$\$;
CREATE AGGREGATE careful_sum(int) (SFUNC = careful_add, STYPE = bigint, INITCOND = '0', COMBINEFUNC = int8pl);
});
for my $view (sort keys %batch, keys %windows)
{
	my $query = $batch{$view} // $windows{$view};

	$query =~ s/\barchive\b/events/;
	# the same in words that an ordinary query does not have
	$query = q{SELECT k % 100 AS k, pipeline.session(at, '3 seconds') AS w, count(*) AS n, sum(v) AS total FROM events WHERE id % 1000 < 400 + k % 10 GROUP BY k % 100, w} if $view eq 'sessions';
	$query =~ s/WHERE v <> 666 // if $view eq 'careful';
	value("CREATE VIEW $view WITH (pipeline.continuous) AS $query");
}

insert_rows(20000);
check_all('at first');

# Undo: a transition function fails in the middle of a batch.  The record becomes a dead letter of the views that
# have the function; their other rows, and the other views, are as if nothing had happened.
for my $round (1 .. 3)
{
	insert_rows(3000, v => "CASE WHEN g % 1500 = 700 THEN 666 ELSE g % 97 + 1 END");
	$batch{own} = 'SELECT k % 7 AS k, careful_sum(v) AS total FROM archive WHERE v <> 666 GROUP BY k % 7';
	check_all("after a transition function failed, round $round");
}
is(value("SELECT count(*) FROM pipeline.dead_letters WHERE view = 'own'::regclass"), '6', 'each bad record is a dead letter');

# Another restart of the worker, with nothing in flight: the state is taken over where all of it is in shared memory.
for my $view (qw(flat own members windowed sessions ordered internal))
{
	my $pid = $node->worker_pid($view);

	value("SELECT pg_terminate_backend($pid)");
	$node->until_true("SELECT count(*) = 1 FROM pipeline.stat_views WHERE view = '$view'::regclass AND pid <> $pid");
	$node->wait_for($view);
	is(stat_of($view, 'state_reused'), $view eq 'internal' ? 'f' : 't', "$view: state after the worker was terminated");
}
insert_rows(2000);
check_all('after workers were terminated');

# pause and resume
value("SELECT pipeline.pause('flat')");
$node->until_true("SELECT pid IS NULL FROM pipeline.stat_views WHERE view = 'flat'::regclass");
insert_rows(2000);
value("SELECT pipeline.resume('flat')");
$node->wait_for('flat');
is(stat_of('flat', 'state_reused'), 't', 'state is kept over a pause');
check_all('after a pause');

# terminated again and again while it works
for my $round (1 .. 10)
{
	insert_rows(1500, v => "CASE WHEN g % 1400 = 700 THEN 666 ELSE g % 97 + 1 END");
	value("SELECT pg_terminate_backend(pid) FROM pipeline.stat_views WHERE pid IS NOT NULL");
}
check_all('after workers were terminated at work');

# the chunk table moves: what is known about it is wrong
value(q{SELECT pipeline.pause('flat')});
$node->until_true("SELECT pid IS NULL FROM pipeline.stat_views WHERE view = 'flat'::regclass");
value("VACUUM FULL " . value("SELECT chunks FROM pipeline_data.views WHERE view = 'flat'::regclass"));
value("SELECT pipeline.resume('flat')");
$node->wait_for('flat');
is(stat_of('flat', 'state_reused'), 'f', 'state is read again when the table was rewritten');
insert_rows(1000);
value("VACUUM FULL " . value("SELECT chunks FROM pipeline_data.views WHERE view = 'windowed'::regclass"));
insert_rows(1000);
check_all('after chunk tables were rewritten');

# a crash
$node->kill_worker('flat');
insert_rows(1000);
check_all('after a crash');
is(stat_of('flat', 'state_reused'), 'f', 'no state survives a crash');

# An abort in and after the save: an index expression of the user's fails while rows are written.
my $table = value("SELECT result::text FROM pipeline_data.views WHERE view = 'flat'::regclass");
value("CREATE FUNCTION small(n bigint) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS \$\$ BEGIN IF n > 1000000 THEN RAISE EXCEPTION 'too large' USING ERRCODE = 'data_exception'; END IF; RETURN n; END\$\$");
value("CREATE INDEX flat_index ON flat (small(total))");
insert_rows(100, k => '7', v => '20000');
$node->until_true("SELECT state = 'stopped' FROM pipeline.views WHERE view = 'flat'::regclass");
value("DROP INDEX flat_index");
value("SELECT pipeline.resume('flat')");
check_all('after the view\'s rows could not be written');

# A view without events costs nothing: no WAL, and no CPU but for a look at the clock now and then.
sub cpu_ticks
{
	my ($pid) = @_;
	my @fields = split ' ', slurp_file("/proc/$pid/stat") =~ s/^.*\) //r;

	return $fields[11] + $fields[12];
}
{
	my @pids = map { $node->worker_pid($_) } sort(keys %batch, keys %windows);
	my $wal_before = value('CHECKPOINT; SELECT pg_current_wal_insert_lsn()');
	my $ticks_before = 0;
	my $ticks_after = 0;
	my $turns = "SELECT pipeline.verify_state('flat')";
	my $until = time + 3;

	$ticks_before += cpu_ticks($_) for @pids;
	# the worker answers at once, so it does wake up when there is a reason
	$node->until_true('SELECT clock_timestamp() > to_timestamp(' . $until . ')');
	$ticks_after += cpu_ticks($_) for @pids;
	is(value('SELECT pg_current_wal_insert_lsn()'), $wal_before, 'idle views write no WAL');
	cmp_ok($ticks_after - $ticks_before, '<=', 2, 'idle views take no CPU');
	is(value($turns), 't', 'an idle worker answers');
}

# Views that share a task: a worker with several states, which are handed over when views join and leave.
value('ALTER SYSTEM SET pipeline.share_tasks = on');
value('SELECT pg_reload_conf()');
insert_rows(3000, v => "CASE WHEN g % 1500 = 700 THEN 666 ELSE g % 97 + 1 END");
check_all('while views share tasks');
value("SELECT pg_terminate_backend(pid) FROM pipeline.stat_views WHERE pid IS NOT NULL");
insert_rows(3000, v => "CASE WHEN g % 1500 = 700 THEN 666 ELSE g % 97 + 1 END");
check_all('after shared tasks were terminated');
value('ALTER SYSTEM SET pipeline.share_tasks = off');
value('SELECT pg_reload_conf()');

# Dropping gives everything back.
my $before = value("SELECT used_bytes FROM pipeline.state_memory()");
value("DROP VIEW $_") for sort keys %batch, keys %windows;
$node->until_true("SELECT used_bytes = 0 FROM pipeline.state_memory()");
cmp_ok($before, '>', 0, 'state takes shared memory until its view is dropped');

# Larger than memory: 8 MB, and several times that much state.
value(qq{
TRUNCATE archive;
DROP FOREIGN TABLE events;
CREATE FOREIGN TABLE events (id bigint, at timestamptz, k bigint, v int) SERVER pipeline_local $options;
CREATE VIEW many WITH (pipeline.continuous) AS SELECT k, count(*) AS n, sum(v) AS total FROM events GROUP BY k;
CREATE VIEW closing WITH (pipeline.continuous) AS SELECT pipeline.tumble(at, '1 hour') AS w, k, count(*) AS n FROM events GROUP BY w, k;
CREATE VIEW sets WITH (pipeline.continuous) AS SELECT k % 2 AS k, count(DISTINCT k) AS n FROM events GROUP BY k % 2;
CREATE VIEW rows WITH (pipeline.continuous) AS
  SELECT pipeline.tumble(at, '1 hour') AS w, count(*) AS n, (array_agg(v ORDER BY id))[1:3] AS first FROM events GROUP BY w;
});
my %large = (
	many => 'SELECT k, count(*) AS n, sum(v) AS total FROM archive GROUP BY k',
	closing => 'SELECT pipeline.tumble(at, \'1 hour\') AS w, k, count(*) AS n FROM archive GROUP BY w, k',
	sets => 'SELECT k % 2 AS k, count(DISTINCT k) AS n FROM archive GROUP BY k % 2',
	rows => 'SELECT pipeline.tumble(at, \'1 hour\') AS w, count(*) AS n, (array_agg(v ORDER BY id))[1:3] AS first FROM archive GROUP BY w');

# 200,000 keys in order, then in no order, again and again
insert_rows(200000, k => 'g');
insert_rows(100000, k => 'g::bigint * 7919 % 300000');
$node->wait_for($_, 120) for sort keys %large;
for my $view (sort keys %large)
{
	is(value("SELECT pipeline.verify_state('$view')"), 't', "$view, larger than memory: memory is what the chunks say");
	cmp_ok(stat_of($view, 'state_evictions'), '>', 0, "$view: some of its state is on disk");
}
cmp_ok(stat_of('many', 'state_loads'), '>', 0, 'groups came back');
cmp_ok(value('SELECT used_bytes FROM pipeline.state_memory()'), '<=', 8 * 1024 * 1024, 'memory is bounded');
is($node->rows_differ($large{$_}, "SELECT * FROM $_"), '', "$_, larger than memory: same rows") for qw(many sets);

# The chunk table moves under a view that has state on disk only: nothing may be looked for where it was.
for my $round (1 .. 4)
{
	value("VACUUM FULL " . value("SELECT chunks FROM pipeline_data.views WHERE view = 'many'::regclass"));
	insert_rows(300, k => "(g::bigint * 7919 + $round) % 300000");
	$node->wait_for('many', 60);
}
is(value("SELECT pipeline.verify_state('many')"), 't', 'many: verified after its chunk table was rewritten');
is($node->rows_differ($large{many}, 'SELECT * FROM many'), '', 'many: same rows after its chunk table was rewritten');
unlike(slurp_file($node->logfile), qr/state is damaged|could not read block/, 'chunks are not looked for where they were');

# read again, by each way
value("SELECT pg_terminate_backend(pid) FROM pipeline.stat_views WHERE pid IS NOT NULL");
insert_rows(5000, k => 'g::bigint * 104729 % 400000');
$node->wait_for($_, 120) for sort keys %large;
is(value("SELECT pipeline.verify_state('$_')"), 't', "$_: verified after workers were terminated") for sort keys %large;
$node->stop('immediate');
$node->start;
insert_rows(5000, k => 'g::bigint * 104729 % 400000');
$node->wait_for($_, 120) for sort keys %large;
is(value("SELECT pipeline.verify_state('$_')"), 't', "$_: verified after a crash") for sort keys %large;
is($node->rows_differ($large{$_}, "SELECT * FROM $_"), '', "$_: same rows after a crash") for qw(many sets);

# windows close from disk
value("SELECT pipeline.advance_watermark('events', 'infinity')");
$node->wait_for($_, 120) for sort keys %large;
$node->until_true("SELECT count(*) > 0 FROM closing");
$node->until_true("SELECT count(*) > 0 FROM rows");
is($node->rows_differ($large{$_}, "SELECT * FROM $_"), '', "$_: same rows when the window has closed") for qw(closing rows);

# A view may have grown to more than would be left for it now, had it to be read again while others hold
# their shares.  It may be, and shrinks then.
value("DROP VIEW $_") for sort keys %large;
value(qq{
TRUNCATE archive;
DROP FOREIGN TABLE events;
CREATE FOREIGN TABLE events (id bigint, at timestamptz, k bigint, v int) SERVER pipeline_local $options;
CREATE FOREIGN TABLE quiet (at timestamptz, k bigint) SERVER pipeline_local $options;
CREATE VIEW many WITH (pipeline.continuous) AS SELECT k, count(*) AS n, sum(v) AS total FROM events GROUP BY k;
});
insert_rows(50000, k => 'g');
$node->wait_for('many', 60);
value(q{SELECT pipeline.pause('many')});
$node->until_true("SELECT pid IS NULL FROM pipeline.stat_views WHERE view = 'many'::regclass");
value("CREATE VIEW quiet_$_ WITH (pipeline.continuous) AS SELECT k, count(*) AS n FROM quiet GROUP BY k") for 1 .. 7;
$node->restart;
$node->wait_for("quiet_$_", 60) for 1 .. 7;
value(q{SELECT pipeline.resume('many')});
insert_rows(1000, k => 'g');
$node->wait_for('many', 60);
is(stat_of('many', 'state_reused'), 'f', 'many: its state was read again');
is($node->rows_differ($large{many}, 'SELECT * FROM many'), '', 'many: same rows when less than it had is left for it');
value("DROP VIEW quiet_$_") for 1 .. 7;
value('DROP VIEW many');

# Hopping windows that take most of memory together with their slices: these go to disk to make room.
value(qq{
TRUNCATE archive;
DROP FOREIGN TABLE events;
CREATE FOREIGN TABLE events (id bigint, at timestamptz, k bigint, v int) SERVER pipeline_local $options;
CREATE VIEW hops WITH (pipeline.continuous) AS SELECT k, w, count(*) AS n, sum(v) AS total
  FROM events, pipeline.hop(at, '8 minutes', '1 minute') AS w GROUP BY k, w HAVING count(*) > 1;
});
my $hops = "SELECT k, w, count(*) AS n, sum(v) AS total FROM archive, pipeline.hop(at, '8 minutes', '1 minute') AS w
  WHERE upper(w) <= (SELECT max(at) FROM archive) GROUP BY k, w HAVING count(*) > 1";
my %spread = (k => 'g::bigint * 7919 % 40000');

insert_rows(60000, %spread);
$node->wait_for('hops', 60);
cmp_ok(stat_of('hops', 'state_evictions'), '>', 0, 'hops: some of its state is on disk');
for my $round (1 .. 5)
{
	insert_rows(4000, %spread);
	value("SELECT pg_terminate_backend(pid) FROM pipeline.stat_views WHERE pid IS NOT NULL");
}
$node->wait_for('hops', 60);
is(value("SELECT pipeline.verify_state('hops')"), 't', 'hops: verified after its worker was terminated at work');
insert_rows(10000, %spread);
$node->stop('immediate');
$node->start;
insert_rows(10000, %spread);
$node->wait_for('hops', 60);
is(value("SELECT pipeline.verify_state('hops')"), 't', 'hops: verified after a crash');
is($node->rows_differ($hops, 'SELECT * FROM hops'), '', 'hops: same rows');

$node->stop;
done_testing();
