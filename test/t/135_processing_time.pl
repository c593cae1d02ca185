# Windows of processing time: an event is in the window of the moment at which it
# was taken in, windows close by the clock although nothing comes, none is opened
# again, and nothing is late, over restarts and a clock that is set back.  If this
# failed, windows would stay open on quiet streams, or events would be lost.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use PostgreSQL::Test::Utils;
use Test::More;

use PipelineNode;

my $node = PipelineNode->create('proctime', conf => "timezone = 'UTC'\nmax_worker_processes = 64\n");
my @views = qw(v_tumble v_hop v_cumulate v_session v_trunc v_rows v_open v_timed v_own);
my $next_id = 1;

sub value
{
	my ($sql) = @_;
	return $node->sql($sql);
}

# What a view has to do at this time is done.
sub settle
{
	$node->wait_for($_) for @views;
	return;
}

sub pass
{
	my ($time) = @_;

	value("SELECT pipeline.shift_clock('$time')");
	settle();
	return;
}

sub insert
{
	my ($n) = @_;

	for (1 .. $n)
	{
		value("INSERT INTO s VALUES ($next_id, 'k" . $next_id % 2 . "'); INSERT INTO t VALUES ($next_id, timestamptz '2024-01-01 00:00:00+00' - $next_id * interval '1 day', 'k')");
		$next_id++;
	}
	settle();
	return;
}

# The time of day, to the worker.
sub now { return value(q{SELECT clock_timestamp() + pipeline.shift_clock('0')}); }

# Half past ten on the next day: no boundary of windows is near.
sub to_half_past
{
	value(q{SELECT pipeline.shift_clock(date_trunc('day', t) + interval '34 hours 30 minutes' - t) FROM (SELECT clock_timestamp() + pipeline.shift_clock('0') AS t) n});
	settle();
	return;
}

value(q{
SET client_min_messages = warning;
CREATE FOREIGN TABLE s (id int, k text) SERVER pipeline_local;
CREATE FOREIGN TABLE t (id int, at timestamptz, k text) SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '0', idle_timeout 'off');
CREATE AGGREGATE own_sum(int) (sfunc = int4pl, stype = int, initcond = '0');
CREATE VIEW v_tumble WITH (pipeline.continuous) AS
  SELECT k, pipeline.tumble(pipeline.proctime(), '1 hour') AS w, count(*) AS n, array_to_string(array_agg(id ORDER BY id), ',') AS ids,
    min(pipeline.proctime()) AS first, max(pipeline.proctime()) AS last FROM s GROUP BY k, w;
CREATE VIEW v_hop WITH (pipeline.continuous) AS SELECT w, sum(id) AS ids, count(*) AS n FROM s, pipeline.hop(pipeline.proctime(), '2 hours', '1 hour') AS w GROUP BY w;
CREATE VIEW v_cumulate WITH (pipeline.continuous) AS SELECT pipeline.cumulate(pipeline.proctime(), '2 days', '1 day') AS w, sum(id) AS ids FROM s GROUP BY w;
CREATE VIEW v_session WITH (pipeline.continuous) AS SELECT w, count(*) AS n, sum(id) AS ids FROM s, pipeline.session(pipeline.proctime(), '20 minutes') AS w GROUP BY w;
CREATE VIEW v_trunc WITH (pipeline.continuous) AS SELECT date_trunc('hour', pipeline.proctime()) AS h, sum(id) AS ids FROM s GROUP BY 1;
CREATE VIEW v_rows WITH (pipeline.continuous) AS
  SELECT w, id, r FROM (SELECT w, id, rank() OVER (PARTITION BY w ORDER BY id DESC) AS r FROM (SELECT *, pipeline.tumble(pipeline.proctime(), '1 hour') AS w FROM s) x) y WHERE r <= 2;
CREATE VIEW v_open WITH (pipeline.continuous, pipeline.emit = 'changes') AS SELECT pipeline.tumble(pipeline.proctime(), '1 hour') AS w, sum(id) AS ids FROM s GROUP BY w;
CREATE VIEW v_timed WITH (pipeline.continuous) AS SELECT pipeline.tumble(pipeline.proctime(), '1 hour') AS w, sum(id) AS ids, max(at) AS at FROM t GROUP BY w;
CREATE VIEW v_own WITH (pipeline.continuous) AS SELECT pipeline.hop(pipeline.proctime(), '2 hours', '1 hour') AS w, own_sum(id) AS ids FROM s GROUP BY w;
});

# nothing is complete before its time
to_half_past();
insert(3);
my $hour = value(q{SELECT date_trunc('hour', timestamptz '} . now() . q{')});
is(value("SELECT count(*) FROM v_tumble") . value("SELECT count(*) FROM v_session") . value("SELECT count(*) FROM v_timed"), '000', 'windows are open');
is(value("SELECT w = tstzrange('$hour', '$hour'::timestamptz + '1 hour'), ids FROM v_open"), 't|6', 'an open window is shown where rows change');
value(q{SELECT pipeline.advance_watermark('s', 'infinity'); SELECT pipeline.advance_watermark('t', 'infinity')});
settle();
is(value("SELECT count(*) FROM v_tumble") . value("SELECT count(*) FROM v_timed"), '00', 'but for the clock nothing closes them');

# sessions go on while events come within the gap
pass('15 minutes');
insert(1);
is(value("SELECT count(*) FROM v_session"), '0', 'a session goes on');

# the clock passes without events
pass('21 minutes');
is(value("SELECT n, ids FROM v_session"), '4|10', 'a session is complete after the gap');
is(value("SELECT upper(w) - lower(w) BETWEEN '35 minutes' AND '40 minutes' FROM v_session"), 't', 'and lasts from the first event to the gap after the last');
is(value("SELECT k, n, ids, lower(w) = '$hour', first <= last AND first >= lower(w) AND last < upper(w) FROM v_tumble ORDER BY k"), "k0|2|2,4|t|t\nk1|2|1,3|t|t", 'tumbling windows closed by the clock');
is(value("SELECT ids, lower(w) = '$hour'::timestamptz - '1 hour'::interval FROM v_hop"), '10|t', 'of hopping ones the first');
is(value("SELECT ids, lower(w) = '$hour'::timestamptz - '1 hour'::interval FROM v_own"), '10|t', 'with states that cannot be combined, too');
is(value("SELECT h = '$hour', ids FROM v_trunc"), 't|10', 'calendar windows');
is(value("SELECT id, r, lower(w) = '$hour' FROM v_rows ORDER BY r"), "4|1|t\n3|2|t", 'rows that are kept');
is(value("SELECT ids, lower(w) = '$hour', at FROM v_timed"), '10|t|2023-12-31 00:00:00+00', 'windows over a stream with event time, whatever that is');
is(value("SELECT count(*) FROM v_cumulate"), '0', 'a long window is open');

# restarts: what is open is kept
insert(2);
value("SELECT pg_terminate_backend(pid) FROM (SELECT DISTINCT pid FROM pipeline.stat_views WHERE pid IS NOT NULL) w");
settle();
insert(1);
is(value("SELECT bool_and(pipeline.verify_state(v)) FROM unnest('{" . join(',', @views) . "}'::regclass[]) v"), 't', 'state is what the chunks say');
pass('1 hour');
is(value("SELECT sum(n), string_agg(ids, ' ' ORDER BY k) FROM v_tumble WHERE lower(w) > '$hour'"), '3|6 5,7', 'a window over a restart');
is(value("SELECT sum(ids) FROM v_hop"), 10 + 28, 'hopping windows over a restart');

# after a restart of the server the clock is what it really is: hours behind
my $watermark = value("SELECT pipeline.watermark('v_tumble')");
pass('5 hours');
insert(1);
$watermark = value("SELECT pipeline.watermark('v_tumble')");
$node->stop('fast');
$node->start;
insert(2);
is(value("SELECT now() < '$watermark'"), 't', 'the clock was set back');
is(value("SELECT pipeline.watermark('v_tumble') = '$watermark', pipeline.watermark('v_timed') >= '$watermark'::timestamptz - '1 minute'::interval"), 't|t', 'watermarks were not');
is(value("SELECT sum(late + dead_letters) FROM pipeline.stat_views"), '0', 'nothing is late');
is(value("SELECT count(*) FROM v_tumble WHERE '8' = ANY (string_to_array(ids, ','))"), '0', 'the window that was open still is');
pass('3 days');
is(value("SELECT string_agg(ids, ' ' ORDER BY k), count(DISTINCT w), bool_and(w \@> '$watermark'::timestamptz), bool_and(first <= last) FROM v_tumble WHERE upper(w) > '$watermark'"),
	'8,10 9|1|t|t', 'what came then is in it');
is(value("SELECT sum(ids) FROM v_trunc") . ' ' . value("SELECT sum(ids) FROM v_timed") . ' ' . value("SELECT sum(ids) FROM v_open") . ' ' . value("SELECT sum(n) FROM v_session"), '55 55 55 10', 'each event counts once');
is(value("SELECT sum(ids) FROM v_hop") . ' ' . value("SELECT sum(ids) FROM v_own"), '110 110', 'or in both of its windows');
pass('3 days');
is(value("SELECT min(ids), max(ids), bool_or(upper(w) - lower(w) = '2 days') FROM v_cumulate"), '55|55|t', 'cumulating windows close by the clock, too');
is(value("SELECT to_regclass('v_tumble_late') IS NULL"), 't', 'there is no table for late events');
is(value("SELECT bool_and(pipeline.verify_state(v)) FROM unnest('{" . join(',', @views) . "}'::regclass[]) v"), 't', 'state is what the chunks say');

$node->stop;
done_testing();
