# Event time, event by event: when a window is frozen, which rows come late and
# where they go, what moves the watermark and what does not.  If this failed,
# results would depend on how events happen to be batched, a broken clock could
# end a stream, or the last window would never close.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use PostgreSQL::Test::Utils;
use Test::More;

use PipelineNode;

my $node = PipelineNode->create('watermark', conf => "timezone = 'UTC'\nmax_worker_processes = 64\nmax_connections = 40\n");
my $zero = q{timestamptz '2024-01-01 00:00:00+00'};
my $scenarios = 0;

sub run_sql
{
	my ($sql) = @_;
	return $node->safe_psql('postgres', $sql);
}

# Until a view has processed what its stream holds; dies when it does not.
sub wait_for
{
	my ($view) = @_;

	$node->until_true("SELECT pipeline.wait_for('$view', '60 seconds')", 60);
	return;
}

# An event time, in seconds since the beginning of the tests' time.
sub at
{
	my ($seconds) = @_;
	return "$zero + interval '$seconds seconds'";
}

sub seconds_since_zero
{
	my ($expression) = @_;
	return "round(extract(epoch FROM $expression - $zero), 6)::float8";
}

sub create_stream
{
	my ($name, %options) = @_;
	my %all = (event_time => 'at', out_of_orderness => '0', idle_timeout => 'off', %options);
	my $list = join(', ', map { "$_ '$all{$_}'" } sort keys %all);

	run_sql("CREATE FOREIGN TABLE $name (id int, at timestamptz, k text, v int) SERVER pipeline_local OPTIONS ($list)");
	return;
}

sub create_view
{
	my ($name, $query, @options) = @_;

	run_sql("CREATE VIEW $name WITH (" . join(', ', 'pipeline.continuous', @options) . ") AS $query");
	return;
}

sub count_by_window
{
	my ($stream, $size) = @_;
	return "SELECT pipeline.tumble(at, '$size') AS w, count(*) AS n, max(id) AS last FROM $stream GROUP BY w";
}

# What a view shows: start of each window and its count.
sub windows_of
{
	my ($view) = @_;
	my $start = seconds_since_zero('lower(w)');

	return run_sql("SELECT coalesce(string_agg($start || ':' || n, ' ' ORDER BY w), '') FROM $view");
}

# Its late rows: id, start of the window missed, watermark when it came.
sub late_rows_of
{
	my ($view) = @_;
	my $start = seconds_since_zero('lower(late_windows[1])');
	my $watermark = seconds_since_zero('watermark');

	return run_sql("SELECT coalesce(string_agg(id || ':' || $start || ':' || $watermark, ' ' ORDER BY id), '') FROM ${view}_late");
}

sub watermark_of
{
	my ($view) = @_;
	return run_sql('SELECT ' . seconds_since_zero("pipeline.watermark('$view')"));
}

sub counters_of
{
	my ($view) = @_;
	return run_sql("SELECT events_in, filtered, late, dead_letters FROM pipeline.stat_views WHERE view = '$view'::regclass");
}

sub drop_scenario
{
	my ($stream) = @_;

	run_sql("DROP FOREIGN TABLE $stream CASCADE");
	return;
}

# Insert events numbered from first, given by their times: in one statement, each
# by itself, or each by itself with the worker ended in between.
sub insert_events
{
	my ($stream, $view, $how, $first, @times) = @_;
	my @rows = map { '(' . ($first + $_) . ', ' . at($times[$_]) . ", 'k', 1)" } 0 .. $#times;

	return run_sql("INSERT INTO $stream VALUES " . join(', ', @rows)) if $how eq 'together';
	for my $row (@rows)
	{
		run_sql("INSERT INTO $stream VALUES $row");
		wait_for($view);
		$node->kill_worker($view, 'TERM') if $how eq 'with restarts';
	}
	return;
}

# Events in 10 s windows: windows shown, late rows and watermark afterwards are
# the same however the events are batched.
sub scenario
{
	my ($name, $events, %expected) = @_;

	for my $how ('together', 'one by one', 'with restarts')
	{
		my $n = ++$scenarios;
		my ($stream, $view) = ("s$n", "v$n");

		create_stream($stream, out_of_orderness => $expected{out_of_orderness} || '0');
		create_view($view, count_by_window($stream, '10 seconds'));
		insert_events($stream, $view, $how, 1, @$events);
		wait_for($view);
		is(windows_of($view), $expected{windows}, "$name, $how: windows");
		is(late_rows_of($view), $expected{late}, "$name, $how: late rows");
		is(watermark_of($view), $expected{watermark}, "$name, $how: watermark");
		is(counters_of($view), join('|', scalar @$events, 0, scalar(split ' ', $expected{late}), 0), "$name, $how: counters");
		drop_scenario($stream);
	}
	return;
}

scenario('frozen by the crossing event', [ 1, 5, 11, 7, 12 ], windows => '0:2', late => '4:0:11', watermark => 12);
scenario('the end belongs to the next window', [ 1, 10, 9.999999, 10, 20 ], windows => '0:1 10:2', late => '3:0:10', watermark => 20);
scenario('disorder within the bound', [ 1, 14, 8, 14.999999, 9, 15, 9, 16 ], out_of_orderness => '5 seconds', windows => '0:3', late => '7:0:10', watermark => 11);
scenario('a gap gives no rows', [ 1, 35, 12, 36, 41 ], windows => '0:1 30:2', late => '3:10:35', watermark => 41);
scenario('old events do not move the watermark back', [ 25, 3, 4, 26, 24, 31 ], windows => '20:3', late => '2:0:25 3:0:25', watermark => 31);
scenario('nothing closes early', [ 1, 2, 3, 9.999999 ], windows => '', late => '', watermark => 9.999999);
scenario('before the origin of windows', [ -800000000, -799999995, -799999990 ], windows => '-800000000:2', late => '', watermark => -799999990);

# late = drop: counted, not stored.
create_stream('dropping');
create_view('v_dropping', count_by_window('dropping', '10 seconds'), q{pipeline.late = 'drop'});
insert_events('dropping', 'v_dropping', 'together', 1, 1, 11, 7, 8, 12);
wait_for('v_dropping');
is(windows_of('v_dropping'), '0:1', 'late = drop: the late rows are not counted in the window');
is(counters_of('v_dropping'), '5|0|2|0', 'late = drop: they are counted as late');
is(run_sql(q{SELECT late_table IS NULL AND to_regclass('v_dropping_late') IS NULL FROM pipeline.views WHERE view = 'v_dropping'::regclass}), 't', 'late = drop: there is no late table');
drop_scenario('dropping');

# Late is said of rows that would have contributed; the watermark is moved by all
# events, also those that the query filters out.
create_stream('filtering');
run_sql(q{CREATE TABLE known (k text PRIMARY KEY); INSERT INTO known VALUES ('yes')});
create_view('v_filtering', q{SELECT pipeline.tumble(at, '10 seconds') AS w, count(*) AS n, max(id) AS last FROM filtering JOIN known USING (k) WHERE v > 0 GROUP BY w});
run_sql("INSERT INTO filtering VALUES (1, " . at(1) . ", 'yes', 1), (2, " . at(12) . ", 'yes', -1), (3, " . at(2) . ", 'yes', -1), (4, " . at(3) . ", 'no', 1), (5, " . at(4) . ", 'yes', 1), (6, " . at(21) . ", 'no', 1)");
wait_for('v_filtering');
is(windows_of('v_filtering'), '0:1', 'a filtered event freezes the window');
is(late_rows_of('v_filtering'), '5:0:12', 'filtered and unmatched events are not late');
is(watermark_of('v_filtering'), 21, 'an unmatched event moves the watermark');
is(run_sql(q{SELECT events_in, filtered, unmatched, late FROM pipeline.stat_views WHERE view = 'v_filtering'::regclass}), '6|2|2|1', 'each event is accounted for once');
drop_scenario('filtering');

# Two views with windows of their own: late for one, in time for the other.
create_stream('shared');
create_view('v_short', count_by_window('shared', '10 seconds'));
create_view('v_long', count_by_window('shared', '1 minute'));
insert_events('shared', 'v_short', 'together', 1, 1, 11, 9, 61);
wait_for($_) for qw(v_short v_long);
is(windows_of('v_short') . '/' . windows_of('v_long'), '0:1 10:1/0:3', 'each view judges by its own windows');
is(late_rows_of('v_short') . '/' . late_rows_of('v_long'), '3:0:11/', 'an event is late for the view whose window it missed');
drop_scenario('shared');

# Future: beyond max_ahead is a dead letter and leaves the watermark alone.
create_stream('ahead', max_ahead => '1 hour');
create_stream('far_ahead', max_ahead => 'off');
create_view('v_ahead', count_by_window('ahead', '10 seconds'));
create_view('v_far_ahead', count_by_window('far_ahead', '10 seconds'));
for my $stream ('ahead', 'far_ahead')
{
	run_sql("INSERT INTO $stream VALUES (1, " . at(1) . ", 'k', 1), (2, now() + interval '2 hours', 'k', 1), (3, " . at(5) . ", 'k', 1), (4, " . at(11) . ", 'k', 1)");
	wait_for("v_$stream");
}
is(windows_of('v_ahead'), '0:2', 'max_ahead: an event with a wrong clock does not close windows');
is(watermark_of('v_ahead'), 11, 'max_ahead: nor move the watermark');
is(run_sql(q{SELECT count(*) FROM pipeline.dead_letters WHERE view = 'v_ahead'::regclass}), 1, 'max_ahead: it is a dead letter');
is(counters_of('v_ahead'), '4|0|0|1', 'max_ahead: and counted as one');
is(late_rows_of('v_far_ahead') =~ /^3:0:\d+(\.\d+)? 4:10:\d+(\.\d+)?$/ ? 'late' : late_rows_of('v_far_ahead'), 'late', 'max_ahead = off: any time is taken');
run_sql("INSERT INTO ahead VALUES (5, now() + interval '30 minutes', 'k', 1)");
wait_for('v_ahead');
is(windows_of('v_ahead'), '0:2 10:1', 'max_ahead: an event within the bound counts');
drop_scenario($_) for qw(ahead far_ahead);

# No time: a dead letter of the views that use time, if the row passed WHERE.
create_stream('timeless');
create_view('v_windowed', q{SELECT pipeline.tumble(at, '10 seconds') AS w, count(*) AS n FROM timeless WHERE v > 0 GROUP BY w});
create_view('v_plain', 'SELECT k, count(*) AS n, count(at) AS with_time FROM timeless GROUP BY k');
run_sql("INSERT INTO timeless VALUES (1, NULL, 'k', 1), (2, '-infinity', 'k', 1), (3, " . at(1) . ", 'k', 1), (4, 'infinity', 'k', 1), (5, NULL, 'k', -1), (6, " . at(2) . ", 'k', 1), (7, " . at(10) . ", 'k', 1)");
wait_for($_) for qw(v_windowed v_plain);
is(windows_of('v_windowed'), '0:2', 'rows without a finite time are in no window');
is(watermark_of('v_windowed'), 10, 'and do not move the watermark');
is(counters_of('v_windowed'), '7|1|0|3', 'they are dead letters if they passed WHERE');
is(run_sql('SELECT n, with_time FROM v_plain'), '7|5', 'a view that uses no time counts them');
is(run_sql(q{SELECT count(*) FROM pipeline.dead_letters WHERE view = 'v_plain'::regclass}), 0, 'and has no dead letters');
drop_scenario('timeless');

# advance_watermark: forward only; infinity means the end of the last window.
create_stream('advanced');
create_view('v_advanced', count_by_window('advanced', '10 seconds'));
insert_events('advanced', 'v_advanced', 'together', 1, 1, 2, 12);
wait_for('v_advanced');
run_sql("SELECT pipeline.advance_watermark('advanced', " . at(25) . ")");
wait_for('v_advanced');
is(windows_of('v_advanced'), '0:2 10:1', 'advance_watermark closes windows');
is(watermark_of('v_advanced'), 25, 'and moves the watermark');
run_sql("SELECT pipeline.advance_watermark('advanced', " . at(5) . ")");
wait_for('v_advanced');
is(watermark_of('v_advanced'), 25, 'it does not move back');
insert_events('advanced', 'v_advanced', 'together', 4, 13, 26, 47);
wait_for('v_advanced');
is(late_rows_of('v_advanced'), '4:10:25', 'later events are judged by it');
run_sql(q{SELECT pipeline.advance_watermark('advanced', 'infinity')});
wait_for('v_advanced');
is(windows_of('v_advanced'), '0:2 10:1 20:1 40:1', 'infinity closes the last window');
is(watermark_of('v_advanced'), 50, 'and advances to its end');
run_sql(q{SELECT pipeline.advance_watermark('advanced', 'infinity')});
wait_for('v_advanced');
is(watermark_of('v_advanced'), 50, 'infinity without an open window changes nothing');
insert_events('advanced', 'v_advanced', 'together', 7, 49, 51, 60);
wait_for('v_advanced');
is(windows_of('v_advanced'), '0:2 10:1 20:1 40:1 50:1', 'the stream goes on afterwards');
is(late_rows_of('v_advanced'), '4:10:25 7:40:50', 'with the closed windows closed');

# Kept over restarts, whether or not a new event came.
my $before = watermark_of('v_advanced');
for my $mode ('fast', 'immediate')
{
	$node->stop($mode);
	$node->start;
	is(watermark_of('v_advanced'), $before, "the watermark is kept over a restart ($mode)");
}
$node->worker_pid('v_advanced');
is(watermark_of('v_advanced'), $before, 'also when the worker runs again');
insert_events('advanced', 'v_advanced', 'together', 10, 55, 61);
wait_for('v_advanced');
is(late_rows_of('v_advanced'), '4:10:25 7:40:50 10:50:60', 'lateness is judged as before');
is(watermark_of('v_advanced'), 61, 'the watermark goes on');
drop_scenario('advanced');

# Idle: the last window closes without new input, and no further.  Time passes
# when we say so.
sub pass
{
	my ($time, $view) = @_;

	run_sql("SELECT pipeline.shift_clock('$time')");
	wait_for($view);
	return;
}

create_stream('idle', idle_timeout => '1 minute');
create_view('v_idle', count_by_window('idle', '10 seconds'));
insert_events('idle', 'v_idle', 'together', 1, 1, 2, 34);
wait_for('v_idle');
pass('50 seconds', 'v_idle');
is(windows_of('v_idle'), '0:2', 'idle: not before the timeout');
pass('11 seconds', 'v_idle');
is(windows_of('v_idle'), '0:2 30:1', 'idle: the last window closes');
is(watermark_of('v_idle'), 40, 'idle: the watermark stops at its end');
pass('3 days', 'v_idle');
is(watermark_of('v_idle'), 40, 'idle: however long it takes');
insert_events('idle', 'v_idle', 'together', 4, 35, 41);
wait_for('v_idle');
is(late_rows_of('v_idle'), '4:30:40', 'idle: an event for the closed window is late');
is(watermark_of('v_idle'), 41, 'idle: the stream goes on');
pass('30 seconds', 'v_idle');
insert_events('idle', 'v_idle', 'together', 6, 42);
wait_for('v_idle');
pass('40 seconds', 'v_idle');
is(windows_of('v_idle'), '0:2 30:1', 'idle: the timeout begins anew with each event');
pass('21 seconds', 'v_idle');
is(windows_of('v_idle'), '0:2 30:1 40:2', 'idle: the next window closes when it is over');

# Paused and down: nobody looks, so the time does not count.
insert_events('idle', 'v_idle', 'together', 7, 51);
wait_for('v_idle');
run_sql(q{SELECT pipeline.pause('v_idle')});
$node->until_true(q{SELECT pid IS NULL FROM pipeline.stat_views WHERE view = 'v_idle'::regclass});
run_sql(q{SELECT pipeline.shift_clock('2 hours'); SELECT pipeline.resume('v_idle')});
wait_for('v_idle');
pass('50 seconds', 'v_idle');
is(windows_of('v_idle'), '0:2 30:1 40:2', 'idle: time spent paused does not count');
$node->kill_worker('v_idle', 'TERM');
wait_for('v_idle');
pass('50 seconds', 'v_idle');
is(windows_of('v_idle'), '0:2 30:1 40:2', 'idle: what counts begins anew with the worker');
pass('11 seconds', 'v_idle');
is(windows_of('v_idle'), '0:2 30:1 40:2 50:1', 'idle: and then counts');
drop_scenario('idle');

# Idle, a window that the clock has not reached: it closes when it ends and the
# bound on disorder has passed, not before.
create_stream('current', idle_timeout => '1 minute', out_of_orderness => '5 seconds', max_ahead => 'off');
create_view('v_current', q{SELECT pipeline.tumble(at, '1 day') AS w, count(*) AS n FROM current GROUP BY w});
my $shifted = q{(clock_timestamp() + pipeline.shift_clock('0'))};
run_sql("INSERT INTO current VALUES (1, $shifted + interval '40 days', 'k', 1)");
wait_for('v_current');
pass('39 days', 'v_current');
is(windows_of('v_current'), '', 'idle: a window is open until the clock has reached its end');
pass('48 hours', 'v_current');
is(run_sql(q{SELECT n, upper(w) = pipeline.watermark('v_current') FROM v_current}), '1|t', 'idle: then it closes, and the watermark stays there');
drop_scenario('current');

# Idle, several windows open: the clock closes those that are over, one by one.
create_stream('steps', idle_timeout => '1 minute', max_ahead => 'off');
create_view('v_steps', q{SELECT pipeline.tumble(at, '1 hour') AS w, count(*) AS n FROM steps GROUP BY w});
create_view('v_steps_long', q{SELECT pipeline.tumble(at, '100 days') AS w, count(*) AS n FROM steps GROUP BY w});
run_sql(q{ALTER FOREIGN TABLE steps OPTIONS (SET out_of_orderness '4 hours')});
run_sql("INSERT INTO steps SELECT i, $shifted + i * interval '1 hour', 'k', 1 FROM generate_series(1, 3) AS i");
wait_for($_) for qw(v_steps v_steps_long);
pass('2 minutes', 'v_steps');
is(run_sql('SELECT count(*) FROM v_steps'), 0, 'idle: none of them is over');
pass('1 hour', 'v_steps');
my %seen = (run_sql('SELECT count(*) FROM v_steps') => 1);
for (1 .. 8)
{
	pass('1 hour', 'v_steps');
	$seen{run_sql('SELECT count(*) FROM v_steps')} = 1;
}
is(join(' ', sort keys %seen), '0 1 2 3', 'idle: windows close one by one as the clock passes them');
is(run_sql('SELECT count(*) FROM v_steps_long'), 0, 'idle: one that is not over stays open');
wait_for('v_steps_long');
is(run_sql(qq{SELECT pipeline.watermark('v_steps_long') < $shifted - interval '4 hours'}), 't', 'idle: and its watermark is not ticked');
drop_scenario('steps');

# Idle, a transaction that has written to the stream and is still open: its
# events are on the way, so the time does not count.
create_stream('held', idle_timeout => '1 minute');
create_view('v_held', count_by_window('held', '10 seconds'));
insert_events('held', 'v_held', 'together', 1, 1);
wait_for('v_held');
my $writer = $node->background_psql('postgres');
$writer->query_safe('BEGIN; INSERT INTO held VALUES (2, ' . at(3) . ", 'k', 1)");
pass('1 hour', 'v_held');
is(windows_of('v_held'), '', 'idle: not while a transaction has uncommitted events');
$writer->query_safe('COMMIT');
$writer->quit;
wait_for('v_held');
pass('1 second', 'v_held');
is(windows_of('v_held'), '', 'idle: the timeout begins when it has committed');
pass('61 seconds', 'v_held');
is(windows_of('v_held') . '/' . late_rows_of('v_held'), '0:2/', 'idle: its events count');

# The same for one that is prepared, and for one that is rolled back.
run_sql('BEGIN; INSERT INTO held VALUES (3, ' . at(12) . ", 'k', 1); PREPARE TRANSACTION 'held'");
insert_events('held', 'v_held', 'together', 4, 11);
wait_for('v_held');
pass('1 hour', 'v_held');
is(windows_of('v_held'), '0:2', 'idle: not while a transaction is prepared');
run_sql(q{ROLLBACK PREPARED 'held'});
pass('1 second', 'v_held');
pass('61 seconds', 'v_held');
is(windows_of('v_held'), '0:2 10:1', 'idle: when it was rolled back, again');
drop_scenario('held');

# A generated event-time column, where events of several kinds have their times
# in different columns.
run_sql(q{CREATE FOREIGN TABLE kinds (id int, a_time timestamptz, b_time timestamptz, at timestamptz GENERATED ALWAYS AS (coalesce(b_time, a_time)) STORED)
  SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '0', idle_timeout 'off')});
create_view('v_kinds', count_by_window('kinds', '10 seconds'));
run_sql('INSERT INTO kinds (id, a_time, b_time) VALUES (1, ' . at(1) . ', NULL), (2, ' . at(99) . ', ' . at(5) . '), (3, NULL, ' . at(11) . '), (4, ' . at(2) . ', NULL)');
wait_for('v_kinds');
is(windows_of('v_kinds') . '/' . late_rows_of('v_kinds'), '0:2/4:0:11', 'the event time may be a generated column');
drop_scenario('kinds');

# timestamp without zone counts as UTC, whatever the session's zone.
run_sql(q{CREATE FOREIGN TABLE naive (id int, at timestamp) SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '0', idle_timeout 'off')});
run_sql(q{SET timezone = 'America/New_York'; CREATE VIEW v_naive WITH (pipeline.continuous) AS SELECT pipeline.tumble(at, '10 seconds') AS w, count(*) AS n FROM naive GROUP BY w});
run_sql(q{SET timezone = 'Asia/Tokyo'; INSERT INTO naive VALUES (1, '2024-01-01 00:00:01'), (2, '2024-01-01 00:00:12')});
wait_for('v_naive');
is(run_sql('SELECT w, n FROM v_naive'), '["2024-01-01 00:00:00","2024-01-01 00:00:10")|1', 'timestamp: windows are in local time');
is(watermark_of('v_naive'), 12, 'timestamp: the watermark takes it as UTC');
drop_scenario('naive');

# date_trunc in the zone of the session that created the view.
create_stream('zoned');
run_sql(q{SET timezone = 'America/New_York'; CREATE VIEW v_zoned WITH (pipeline.continuous) AS SELECT date_trunc('day', at) AS day, count(*) AS n FROM zoned GROUP BY day});
run_sql(q{INSERT INTO zoned VALUES (1, '2024-03-10 04:59:59+00'), (2, '2024-03-10 05:00:00+00'), (3, '2024-03-11 03:59:59+00'), (4, '2024-03-11 04:00:00+00')});
wait_for('v_zoned');
is(run_sql('SELECT string_agg(day || \' \' || n, \', \' ORDER BY day) FROM v_zoned'), '2024-03-09 05:00:00+00 1, 2024-03-10 05:00:00+00 2', 'date_trunc: days of the zone at CREATE, the one of 23 hours too');
drop_scenario('zoned');

$node->stop;
done_testing();
