# Partitions of different pace: which of them hold the watermark and which do
# not - idle ones, those that wake, new ones, those that are far ahead - and what
# does not count as being idle.  If this failed, one silent partition would stop
# a view for ever, or an outage would make the events of hours late.  Time passes
# when we say so.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use PostgreSQL::Test::Utils;
use Test::More;

use KafkaBroker;
use PipelineNode;

my $broker = KafkaBroker->new;
my $node = PipelineNode->create('idle', conf => "timezone = 'UTC'\nmax_worker_processes = 64\nmax_connections = 40\npipeline.state_memory = 16MB\npipeline.batch_size = 256\n");

sub run_sql
{
	my ($sql) = @_;
	return $node->safe_psql('postgres', $sql);
}

run_sql(qq{CREATE SERVER shop FOREIGN DATA WRAPPER pipeline_kafka OPTIONS (bootstrap_servers '@{[ $broker->address ]}', "topic.metadata.refresh.interval.ms" '1000')});

# A topic, a stream over it and a view that counts its events in 10 s windows.
sub create_all
{
	my ($name, $partitions, %options) = @_;
	my $workers = delete $options{workers} || 1;
	my %all = (topic => $name, event_time => 'at', out_of_orderness => '0', idle_timeout => '1 minute', %options);
	my $list = join(', ', map { "$_ '$all{$_}'" } sort keys %all);

	$broker->create_topic($name, $partitions);
	run_sql("CREATE FOREIGN TABLE $name (id bigint, at timestamptz) SERVER shop OPTIONS ($list)");
	run_sql("CREATE VIEW v_$name WITH (pipeline.continuous, pipeline.workers = $workers) AS SELECT pipeline.tumble(at, '10 seconds') AS w, count(*) AS n FROM $name GROUP BY w");
	return;
}

my $id = 0;

sub time_text
{
	my ($seconds) = @_;
	return sprintf('2024-01-%02dT%02d:%02d:%02dZ', 1 + int($seconds / 86400), int($seconds / 3600) % 24, int($seconds / 60) % 60, $seconds % 60);
}

# Events in these seconds since the beginning of the tests' time.
sub send_to
{
	my ($topic, $partition, @seconds) = @_;

	$broker->produce_records($topic, $partition, map { sprintf('{"id": %d, "at": "%s"}', ++$id, time_text($_)) } @seconds);
	return;
}

# Send events to partitions, given as [partition, seconds ...], and wait for them.
sub send_all
{
	my ($topic, @parts) = @_;

	send_to($topic, @$_) for @parts;
	$node->wait_for("v_$topic");
	return;
}

sub pass
{
	my ($time) = @_;
	run_sql("SELECT pipeline.shift_clock('$time')");
	return;
}

sub watermark_of
{
	my ($view) = @_;
	return run_sql("SELECT round(extract(epoch FROM pipeline.watermark('$view') - timestamptz '2024-01-01 00:00Z'), 6)::float8");
}

sub windows_of
{
	my ($view) = @_;
	return run_sql("SELECT coalesce(string_agg(extract(epoch FROM lower(w) - timestamptz '2024-01-01 00:00Z')::int || ':' || n, ' ' ORDER BY w), '') FROM $view");
}

sub late_of
{
	my ($view) = @_;
	return run_sql("SELECT late FROM pipeline.stat_views WHERE view = '$view'::regclass");
}

# Are these partitions of a view idle, and no others?
sub idle_are
{
	my ($view, @partitions) = @_;
	my $list = join(',', @partitions);

	return "(SELECT coalesce(string_agg(partition::text, ',' ORDER BY partition) FILTER (WHERE idle), '') = '$list' FROM pipeline.stat_partitions WHERE view = '$view'::regclass)";
}

sub until_idle
{
	my ($view, @partitions) = @_;

	$node->until_true('SELECT ' . idle_are($view, @partitions), 30);
	return;
}

# Let time pass until all partitions are idle.  A client learns a little after the
# last record that there are no more, so it is not known how much it takes.
sub pass_until_idle
{
	my ($view, @partitions) = @_;

	$node->until_true(q{SELECT pipeline.shift_clock('61 seconds') > '0' AND } . idle_are($view, @partitions), 30);
	return;
}

# The same while other partitions get events, up to the time that is returned.
sub pass_while_sending
{
	my ($topic, $idle, $seconds, @active) = @_;

	for (1 .. 100)
	{
		$seconds++;
		send_all($topic, map { [ $_, $seconds ] } @active);
		pass('31 seconds');
		$node->wait_for("v_$topic");
		return $seconds if run_sql('SELECT ' . idle_are("v_$topic", $idle)) eq 't';
	}
	die "partition $idle of $topic does not become idle\n";
}

sub until_watermark
{
	my ($view, $seconds) = @_;

	$node->until_true("SELECT pipeline.watermark('$view') = timestamptz '2024-01-01 00:00Z' + interval '$seconds seconds'", 30);
	return;
}

# One idle partition of three, then all of them.
create_all('several', 3);
send_all('several', [ 0, 1, 30 ], [ 1, 2, 12 ], [ 2, 3, 15 ]);
is(watermark_of('v_several'), 12, 'the lowest partition holds the watermark');
pass('29 seconds');
send_all('several', [ 0, 60 ], [ 2, 55 ]);
is(watermark_of('v_several'), 12, 'while it may still have something to say');
my $now = pass_while_sending('several', 1, 60, 0, 2);
until_watermark('v_several', $now);
is(windows_of('v_several'), '0:3 10:2 30:1 50:1', 'an idle partition is left out');

# It wakes in front of the watermark, and holds it again.
send_all('several', [ 1, $now + 2 ]);
until_idle('v_several');
send_all('several', [ 0, 200 ], [ 2, 201 ]);
is(watermark_of('v_several'), $now + 2, 'one that has woken counts');
$now = pass_while_sending('several', 1, 201, 0, 2);
until_watermark('v_several', $now);

# It wakes far behind: what it has is late, and the others need not wait for it.
send_all('several', [ 1, $now - 30 ]);
until_idle('v_several');
is(late_of('v_several'), 1, 'what comes behind the watermark is late');
send_all('several', [ 0, 500 ], [ 2, 510 ]);
until_watermark('v_several', 500);
is(watermark_of('v_several'), 500, 'one that is behind and has no backlog holds nobody up');

# Neither after a restart.
$node->kill_worker('v_several', 'TERM');
send_all('several', [ 0, 520 ], [ 2, 530 ]);
until_watermark('v_several', 520);
is(watermark_of('v_several'), 520, 'nor after the worker was started again');
$node->stop('immediate');
$node->start;
send_all('several', [ 0, 540 ], [ 2, 550 ]);
until_watermark('v_several', 540);
is(watermark_of('v_several'), 540, 'nor after a crash of the server');

# A new partition: empty it is no reason to wait, but its events are.
$broker->add_partitions('several', 4);
$node->until_true(q{SELECT count(*) = 4 FROM pipeline.stat_partitions WHERE view = 'v_several'::regclass}, 30);
send_all('several', [ 0, 560 ], [ 2, 570 ]);
until_watermark('v_several', 560);
is(watermark_of('v_several'), 560, 'a new partition without events holds nobody up');
send_all('several', [ 3, 565 ]);
send_all('several', [ 0, 600 ], [ 2, 610 ]);
is(watermark_of('v_several'), 565, 'with events it counts like the others');
send_all('several', [ 1, 580 ], [ 3, 620 ]);
is(watermark_of('v_several'), 580, 'and so does the one that has caught up');

# All of them.
pass_until_idle('v_several', 0, 1, 2, 3);
until_watermark('v_several', 630);
like(windows_of('v_several'), qr/ 620:1$/, 'all idle: the last window closes');
pass('30 days');
$node->wait_for('v_several');
is(watermark_of('v_several'), 630, 'all idle: no further than the last window');
send_all('several', [ 0, 631 ], [ 1, 632 ], [ 2, 633 ], [ 3, 634 ]);
is(late_of('v_several'), 1, 'all idle: what comes then is not late');
is(run_sql('SELECT sum(n) FROM v_several'), $id - 1 - 4, 'each event counts once');

# Without idle_timeout a partition that has caught up is no reason to wait either.
create_all('off', 2, idle_timeout => 'off');
send_all('off', [ 0, 10 ], [ 1, 11 ]);
$broker->add_partitions('off', 3);
$node->until_true(q{SELECT count(*) = 3 FROM pipeline.stat_partitions WHERE view = 'v_off'::regclass}, 30);
send_all('off', [ 0, 20, 21, 22 ], [ 1, 23, 24, 25 ]);
until_watermark('v_off', 22);
is(watermark_of('v_off'), 22, 'idle_timeout = off: a new partition without events holds nobody up');
pass('30 days');
send_all('off', [ 1, 40 ]);
is(watermark_of('v_off'), 22, 'idle_timeout = off: one that was heard of does, for ever');

# Outage: the events of the time are at the producers, or in the log.
create_all('outage', 2);
send_all('outage', [ 0, 1, 5 ], [ 1, 2, 4 ]);
$broker->stop;
$node->until_true(q{SELECT bool_and(unreachable) FROM pipeline.stat_partitions WHERE view = 'v_outage'::regclass}, 60);
pass('2 hours');
$broker->start;
send_all('outage', [ 0, 6 ], [ 1, 7 ]);
is(windows_of('v_outage') . '/' . late_of('v_outage'), '/0', 'an outage does not count');
$node->until_true(q{SELECT NOT bool_or(unreachable) FROM pipeline.stat_partitions WHERE view = 'v_outage'::regclass}, 60);
pass_until_idle('v_outage', 0, 1);
until_watermark('v_outage', 10);
is(windows_of('v_outage'), '0:6', 'afterwards time counts again');

# All idle, and then an outage, in which a window ends: its events may yet come.
my $soon = run_sql(q{SELECT extract(epoch FROM date_bin('1 day', now(), '2024-01-01Z') + pipeline.shift_clock('0') + interval '2 days' - timestamptz '2024-01-01 00:00Z')::bigint});
run_sql(q{ALTER FOREIGN TABLE outage OPTIONS (ADD max_ahead 'off')});
run_sql(q{CREATE VIEW v_days WITH (pipeline.continuous, pipeline.start = 'latest') AS SELECT pipeline.tumble(at, '1 day') AS w, count(*) AS n FROM outage GROUP BY w});
$node->until_true(q{SELECT count(*) = 2 FROM pipeline.stat_partitions WHERE view = 'v_days'::regclass}, 30);
$broker->produce_records('outage', $_, sprintf('{"id": %d, "at": "%s"}', ++$id, run_sql("SELECT timestamptz '2024-01-01 00:00Z' + interval '$soon seconds'"))) for 0, 1;
$node->wait_for('v_days');
pass_until_idle('v_days', 0, 1);
$broker->stop;
$node->until_true(q{SELECT bool_and(unreachable) FROM pipeline.stat_partitions WHERE view = 'v_days'::regclass}, 60);
pass('10 days');
$broker->start;
$broker->produce_records('outage', 0, sprintf('{"id": %d, "at": "%s"}', ++$id, run_sql("SELECT timestamptz '2024-01-01 00:00Z' + interval '$soon seconds'")));
$node->wait_for('v_days');
is(run_sql('SELECT (SELECT count(*) FROM v_days) || \' \' || (SELECT count(*) FROM v_days_late)'), '0 0', 'no window closes by the clock during an outage');
$node->until_true(q{SELECT NOT bool_or(unreachable) FROM pipeline.stat_partitions WHERE view = 'v_days'::regclass}, 60);
pass_until_idle('v_days', 0, 1);
$node->until_true('SELECT n = 3 FROM v_days', 30);
ok(1, 'but afterwards');

# Paused and down.
create_all('pauses', 2);
send_all('pauses', [ 0, 1, 5 ], [ 1, 2, 4 ]);
run_sql(q{SELECT pipeline.pause('v_pauses')});
$node->until_true(q{SELECT pid IS NULL FROM pipeline.stat_views WHERE view = 'v_pauses'::regclass});
pass('2 hours');
run_sql(q{SELECT pipeline.resume('v_pauses')});
send_all('pauses', [ 0, 6 ]);
is(windows_of('v_pauses'), '', 'a pause does not count');
pass('50 seconds');
$node->kill_worker('v_pauses', 'TERM');
send_all('pauses', [ 0, 7 ], [ 1, 8 ]);
pass('50 seconds');
$node->wait_for('v_pauses');
is(windows_of('v_pauses'), '', 'nor does the time before a restart');
pass_until_idle('v_pauses', 0, 1);
until_watermark('v_pauses', 10);
is(windows_of('v_pauses'), '0:7', 'the time after it does');

# A producer's transaction that is open: its records are on the way.
$broker->create_topic('open', 1);
run_sql(q{CREATE FOREIGN TABLE open (seq bigint, at timestamptz OPTIONS (field 'ordered_at')) SERVER shop OPTIONS (topic 'open', event_time 'at', out_of_orderness '0', idle_timeout '1 minute')});
run_sql(q{CREATE VIEW v_open WITH (pipeline.continuous) AS SELECT date_trunc('year', at) AS w, count(*) AS n FROM open GROUP BY w});
$broker->produce(topic => 'open', count => 10, transaction => 'commit');
$broker->produce(topic => 'open', first => 10, count => 5, transaction => 'hang');
$node->until_true(q{SELECT events_in = 10 FROM pipeline.stat_views WHERE view = 'v_open'::regclass}, 30);
$node->until_true(q{SELECT lag > 0 FROM pipeline.stat_partitions WHERE view = 'v_open'::regclass}, 30);
pass('2 hours');
is(run_sql(q{SELECT pipeline.wait_for('v_open', '1 second')}), 'f', 'what an open transaction has written is not read');
is(run_sql(q{SELECT count(*) FROM v_open}) . run_sql(q{SELECT idle FROM pipeline.stat_partitions WHERE view = 'v_open'::regclass}), '0f', 'a partition with an open transaction is not idle');

# Skew: the partition that is ahead waits for those that have a backlog, so that
# a week of one and the last day of another open few windows: all of that day are
# more than memory holds.
run_sql("DROP FOREIGN TABLE several, off, outage, pauses, open CASCADE");
$broker->create_topic('week', 2);
{
	my $week = 7 * 86400;
	my $day = 6 * 86400;

	send_to('week', 0, map { $_ * 60 } 0 .. $week / 60 - 1);
	send_to('week', 1, map { $day + int($_ * 0.864) } 0 .. 99999);
}
run_sql("CREATE FOREIGN TABLE aligned (id bigint, at timestamptz, p int OPTIONS (metadata 'partition')) SERVER shop OPTIONS (topic 'week', event_time 'at', out_of_orderness '0', idle_timeout '1 minute', max_skew '1 minute')");
run_sql("CREATE VIEW v_aligned WITH (pipeline.continuous) AS SELECT id, pipeline.tumble(at, '1 minute') AS w, p, count(*) AS n FROM aligned GROUP BY id, w, p");
$node->wait_for('v_aligned');
is(run_sql(q{SELECT events_in || ' ' || late || ' ' || (state_evictions < 10) FROM pipeline.stat_views WHERE view = 'v_aligned'::regclass}), '110080 0 true', 'a partition that is ahead waits: memory holds the windows that are open');
pass_until_idle('v_aligned', 0, 1);
$node->until_true('SELECT count(*) = 110080 FROM v_aligned', 60);
is(run_sql(q{SELECT string_agg(p || ':' || n || ':' || windows, ' ' ORDER BY p) FROM (SELECT p, sum(n) AS n, count(DISTINCT w) AS windows FROM v_aligned GROUP BY p) s}), '0:10080:10080 1:100000:1440', 'and each event counts in its window');
run_sql('DROP FOREIGN TABLE aligned CASCADE');

# One that is far ahead does not wait for one that has nothing.
create_all('ahead', 2, max_skew => '1 minute');
send_all('ahead', [ 0, 1 ], [ 1, 1, 5000, 9000 ]);
is(run_sql(q{SELECT sum(next_offset) FROM pipeline.stat_partitions WHERE view = 'v_ahead'::regclass}), 4, 'who is ahead of a partition without a backlog is read');
is(watermark_of('v_ahead'), 1, 'but the watermark waits');

# advance_watermark(): what was in the topic at the call is not late, although a
# client that has just begun has nothing yet.
for my $workers (1, 2)
{
	my $topic = "advanced$workers";

	create_all($topic, 2, workers => $workers, idle_timeout => 'off');
	send_all($topic, [ 0, 1 ], [ 1, 2 ]);
	for my $round (1 .. 5)
	{
		my @seconds = map { $round * 100 + $_ % 90 } 0 .. 199;

		run_sql("SELECT pipeline.pause('v_$topic')");
		$node->until_true("SELECT pid IS NULL FROM pipeline.stat_views WHERE view = 'v_$topic'::regclass");
		send_to($topic, $_, sort { $a <=> $b } @seconds) for 0, 1;
		run_sql("SELECT pipeline.advance_watermark('$topic', timestamptz '2024-01-01 00:00Z' + interval '@{[ $round * 100 + 95 ]} seconds')");
		run_sql("SELECT pipeline.resume('v_$topic')");
		$node->wait_for("v_$topic");
		is(watermark_of("v_$topic"), $round * 100 + 95, "advance_watermark, $workers workers, round $round: applied");
		is(late_of("v_$topic") . ' ' . run_sql("SELECT sum(n) FROM v_$topic"), '0 ' . (2 + $round * 400), "advance_watermark, $workers workers, round $round: to what was there");
	}
}

$node->stop;
done_testing();
