# A dump holds a view as it was: its rows, its state and how far it had read, all
# workers' parts of it.  If this failed, a restored view would run unasked beside
# the original, would not go on where the dump was made, or windows that were open
# then would lack events; or a gap in a topic would be passed over unseen.
#
# Half of the events are read, a dump is made and restored into another database,
# and after pipeline.adopt() both databases read the other half: each view must
# show in both what a batch query over all of it gives.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use PostgreSQL::Test::Utils;
use Test::More;

use KafkaBroker;
use Oracle qw(difference);
use PipelineNode;

my $broker = KafkaBroker->new;
my $node = PipelineNode->create('restore', conf => "timezone = 'UTC'\njit = off\nmax_worker_processes = 50\n");
my $columns = 'seq bigint, key bigint, customer_id bigint, amount numeric, ordered_at timestamptz, country text';
my %spec = (partitions => 3, seed => 7, size => 160, step => '10ms', disorder => '2s', late_share => 0);
my $half = 9_000;
my $csv = $node->basedir . '/orders.csv';

my %queries = (
	single => [ q{SELECT country, date_trunc('minute', ordered_at) AS m, count(*) AS n, sum(amount) AS s FROM {rows} GROUP BY country, m}, 'workers = 1', 2, 4 ],
	pair => [ q{SELECT country, date_trunc('minute', ordered_at) AS m, count(*) AS n, sum(amount) AS s, count(DISTINCT key) AS keys FROM {rows} GROUP BY country, m}, 'workers = 2', 2, 5 ],
	fewer => [ q{SELECT date_trunc('minute', ordered_at) AS m, key % 5 AS k, max(amount) AS high, count(*) AS n FROM {rows} GROUP BY m, k}, 'workers = 3', 1, 4 ],
	lists => [ q{SELECT date_trunc('minute', ordered_at) AS m, array_agg(seq ORDER BY seq) AS list FROM {rows} WHERE key % 20 = 7 GROUP BY m}, 'workers = 2', 1, 2 ],
	totals => [ 'SELECT part, key, count(*) AS n, sum(amount) AS s FROM {rows} GROUP BY part, key', 'workers = 2', undef, 4 ],
	plain => [ 'SELECT seq, country, amount FROM {rows} WHERE amount > 900', 'workers = 2', undef, 3 ]);

sub sql_in
{
	my ($database, $sql) = @_;
	return $node->safe_psql($database, $sql);
}

sub wait_for_all
{
	my ($database) = @_;

	is(sql_in($database, q{SELECT count(*) FROM pipeline.views WHERE NOT pipeline.wait_for(view, '60 seconds')}), 0, "$database has read all there is");
	return;
}

# Every view of a database against a batch query; windows as far as they are closed.
sub wrong_views
{
	my ($database) = @_;
	my @wrong;

	for my $name (sort keys %queries)
	{
		my ($query, undef, $time, $n) = @{ $queries{$name} };
		my $list = join(', ', map { "c$_" } 1 .. $n);
		my $end = $time ? "WHERE x.c$time + interval '1 minute' <= pipeline.watermark('$name')" : '';

		$query =~ s/\{rows\}/(SELECT *, "partition" AS part FROM archive) AS orders/;
		my $difference = difference(sub { sql_in($database, $_[0]) }, columns => $n,
			expected => "SELECT * FROM ($query) AS x ($list) $end", actual => "SELECT * FROM $name AS x ($list)");
		push @wrong, "$name: $difference" if defined $difference;
	}
	return @wrong;
}

sub closed_to
{
	my ($database) = @_;
	return sql_in($database, q{SELECT string_agg(DISTINCT pipeline.watermark(view)::text, ' ') FROM pipeline.views WHERE view NOT IN ('local'::regclass, 'mixed')});
}

$broker->create_topic('orders', $spec{partitions});
KafkaBroker::events_csv($csv, %spec, count => 2 * $half);
$broker->produce(topic => 'orders', %spec, count => $half);
sql_in('postgres', qq{
CREATE TABLE archive ("partition" int, "offset" bigint, $columns, bad boolean);
COPY archive FROM '$csv' WITH (FORMAT csv);
CREATE SERVER shop FOREIGN DATA WRAPPER pipeline_kafka OPTIONS (bootstrap_servers '@{[ $broker->address ]}');
CREATE FOREIGN TABLE orders ($columns OPTIONS (field 'address.country'), part int OPTIONS (metadata 'partition'))
  SERVER shop OPTIONS (topic 'orders', event_time 'ordered_at', partition_key 'part', out_of_orderness '5 seconds', idle_timeout 'off');
CREATE FOREIGN TABLE clicks (id int, at timestamptz) SERVER pipeline_local
  OPTIONS (event_time 'at', out_of_orderness '0', idle_timeout 'off');
CREATE VIEW local WITH (pipeline.continuous) AS SELECT date_trunc('minute', at) AS m, count(*) AS n FROM clicks GROUP BY m;
CREATE VIEW mixed WITH (pipeline.continuous) AS SELECT k, count(*) AS n, sum(id) AS ids FROM (SELECT 'click' AS k, id FROM clicks UNION ALL SELECT 'order', seq FROM orders) u GROUP BY k;
INSERT INTO clicks SELECT i, timestamptz '2024-01-01' + i * interval '1 second' FROM generate_series(0, 89) AS i});
for my $name (sort keys %queries)
{
	my ($query, $options) = @{ $queries{$name} };

	$query =~ s/\{rows\}/orders/;
	sql_in('postgres', "CREATE VIEW $name WITH (pipeline.continuous, pipeline.$options) AS $query");
}
wait_for_all('postgres');
# a shard without a worker keeps its part of the open windows until another worker takes it over
sql_in('postgres', q{SELECT pipeline.pause('fewer')});
sql_in('postgres', 'ALTER VIEW fewer SET (pipeline.workers = 2)');
is(sql_in('postgres', 'SELECT count(*) FROM pipeline_data.shards WHERE number IS NULL'), 1, 'a shard is retired');
cmp_ok(sql_in('postgres', 'SELECT min(open_windows) FROM pipeline.stat_views WHERE open_windows > 0'), '>', 0, 'windows are open');

my $dump = $node->basedir . '/dump.sql';

$node->command_ok([ 'pg_dump', '-d', $node->connstr('postgres'), '-f', $dump ], 'a dump is made');
$node->safe_psql('postgres', 'CREATE DATABASE copy');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('copy'), '-f', $dump ], 'and restored');
is(sql_in('copy', q{SELECT count(*) FROM pipeline.views WHERE state = 'not adopted'}), 2 + keys %queries, 'no view runs before it is adopted');
is(sql_in('copy', q{SELECT count(*) FROM pipeline.stat_workers WHERE database = 'copy'}), 0, 'there is no worker');
for my $call (q{resume('pair')}, q{wait_for('pair')})
{
	my ($status, undef, $message) = $node->psql('copy', "SELECT pipeline.$call");

	like($message, qr/was restored from another database.*HINT:  If it shall run here, call pipeline\.adopt/s, "$call says why not");
}

$broker->produce(topic => 'orders', %spec, first => $half, count => $half);
sql_in('postgres', q{SELECT pipeline.resume('fewer')});
wait_for_all('postgres');
is_deeply([ wrong_views('postgres') ], [], 'the original is right');
sql_in('copy', 'SELECT pipeline.adopt()');
sql_in('copy', q{SELECT pipeline.resume('fewer')});
wait_for_all('copy');
is_deeply([ wrong_views('copy') ], [], 'and so is the copy');
is(closed_to('copy'), closed_to('postgres'), 'both have come as far');
is(sql_in('copy', q{SELECT count(*) FROM pipeline.stat_views WHERE events_in <> } . 2 * $half . q{ AND view NOT IN ('local'::regclass, 'mixed') OR late > 0}), 0, 'each event was read once');
is(sql_in('copy', 'SELECT bool_and(pipeline.verify_state(view)) FROM pipeline.views'), 't', 'state is what the chunks say');
is(sql_in('copy', q{SELECT count(*) FROM pipeline.stat_workers WHERE view = 'pair'::regclass}), 2, 'a view has its workers');

# A local stream goes on with its own rows.
sql_in('copy', q{INSERT INTO clicks SELECT i, timestamptz '2024-01-01' + i * interval '1 second' FROM generate_series(90, 130) AS i});
wait_for_all('copy');
is(sql_in('copy', q{SELECT string_agg(n::text, ' ' ORDER BY m) FROM local}), '60 60', 'a local stream goes on');
is(sql_in('copy', q{SELECT string_agg(k || ' ' || n || ' ' || ids, ', ' ORDER BY k) FROM mixed}), 'click 131 8515, order ' . 2 * $half . ' ' . sql_in('postgres', 'SELECT sum(seq) FROM archive'), 'and so does a view of both');

# The parts of a view belong to it again.
sql_in('copy', q{ALTER VIEW fewer SET (pipeline.workers = 3)});
wait_for_all('copy');
sql_in('copy', q{SELECT pipeline.advance_watermark('orders', 'infinity')});
$node->safe_psql('copy', 'SELECT 1') until sql_in('copy', 'SELECT bool_and(advance_to IS NULL) FROM pipeline.views') eq 't';
wait_for_all('copy');
is_deeply([ wrong_views('copy') ], [], 'after the last windows have closed');
is(sql_in('copy', 'SELECT sum(n) FROM pair'), 2 * $half, 'which has all events');
sql_in('copy', 'DROP VIEW pair, fewer, lists, totals, plain, single, local, mixed');
is(sql_in('copy', q{SELECT count(*) FROM pg_class WHERE relnamespace = 'pipeline_data'::regnamespace AND relname ~ '^[kqt]_[0-9]+$'}), 0, 'nothing is left of what was dropped');
$node->safe_psql('postgres', 'DROP DATABASE copy');

#
# A worker that starts from a saved position with idle_timeout off: the watermark
# goes on from there.
#
$node->kill_worker('single', 'TERM');
$broker->produce(topic => 'orders', %spec, first => 2 * $half, count => 300);
wait_for_all('postgres');
is(sql_in('postgres', q{SELECT DISTINCT pipeline.watermark('single') = min(watermark) FROM pipeline.stat_partitions WHERE view = 'single'::regclass}), 't', 'the watermark is the lowest of the partitions');

#
# The watermark is that of all that was waited for, also where workers must agree
# on it and no window closes.
#
my @marks;

for my $n (0 .. 4)
{
	$broker->produce(topic => 'orders', %spec, first => 2 * $half + 300 + 30 * $n, count => 30);
	push @marks, map { $node->wait_for($_); sql_in('postgres', "SELECT pipeline.watermark('$_')") } qw(pair single);
}
is_deeply([ @marks[ map { 2 * $_ } 0 .. 4 ] ], [ @marks[ map { 2 * $_ + 1 } 0 .. 4 ] ], 'two workers have come as far as one');

#
# Records are deleted that one of two workers has not read.
#
sub stopped
{
	my ($view) = @_;

	$node->until_true("SELECT state = 'stopped' FROM pipeline.views WHERE view = '$view'::regclass");
	$node->until_true("SELECT count(*) = 0 FROM pipeline.stat_workers WHERE view = '$view'::regclass");
	return sql_in('postgres', "SELECT reason FROM pipeline.views WHERE view = '$view'::regclass");
}

sub send_events
{
	my ($partition, $from, $to) = @_;

	$broker->produce_records('gap', $partition, map { sprintf('{"id": %d, "at": "2024-01-01T%02d:%02d:00Z"}', $_, $_ / 60, $_ % 60) } $from .. $to);
	return;
}

sql_in('postgres', 'DROP FOREIGN TABLE orders, clicks CASCADE');
$broker->create_topic('gap', 2);
sql_in('postgres', q{
CREATE FOREIGN TABLE gap (id int, at timestamptz) SERVER shop OPTIONS (topic 'gap', event_time 'at', out_of_orderness '0', idle_timeout 'off');
CREATE VIEW hours WITH (pipeline.continuous, pipeline.workers = 2) AS SELECT date_trunc('hour', at) AS h, count(*) AS n, sum(id) AS s FROM gap GROUP BY h});
send_events($_, 0, 69) for 0, 1;
wait_for_all('postgres');
is(sql_in('postgres', 'SELECT n, s FROM hours'), '120|3540', 'the first hour is out');
sql_in('postgres', q{SELECT pipeline.pause('hours')});
$node->until_true(q{SELECT count(*) = 0 FROM pipeline.stat_workers WHERE view = 'hours'::regclass});
send_events($_, 70, 129) for 0, 1;
$broker->delete_records('gap', 1, 100);
sql_in('postgres', q{SELECT pipeline.resume('hours')});
like(stopped('hours'), qr/topic "gap"/, 'records deleted before they were read stop both workers');
is(sql_in('postgres', 'SELECT count(*) FROM hours'), 1, 'the second hour is not out');
sql_in('postgres', q{SELECT pipeline.resume('hours', accept_loss => true)});
wait_for_all('postgres');
# 60 to 119 once, and again without 70 to 99
is(sql_in('postgres', q{SELECT string_agg(n || ' ' || s, ', ' ORDER BY h) FROM hours}), '120 3540, 90 8205', 'accept_loss goes on with what there is');
is(sql_in('postgres', 'SELECT lost FROM pipeline.stat_views'), 30, 'and counts what was lost');
$node->until_true('SELECT NOT accept_loss FROM pipeline_data.tasks');
pass('the permission is used up');
sql_in('postgres', q{SELECT pipeline.pause('hours')});
$node->until_true(q{SELECT count(*) = 0 FROM pipeline.stat_workers WHERE view = 'hours'::regclass});
send_events($_, 130, 189) for 0, 1;
$broker->delete_records('gap', 0, 150);
sql_in('postgres', q{SELECT pipeline.resume('hours')});
like(stopped('hours'), qr/topic "gap"/, 'accepting one loss does not accept the next');

#
# Partitions are handed round while the only worker waits after an error: it must
# not go on with the partitions that it had.
#
$broker->create_topic('handed', 2);
sql_in('postgres', q{
CREATE TABLE gate (shut boolean);
INSERT INTO gate VALUES (false);
CREATE FUNCTION passes(int) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
  IF (SELECT shut FROM public.gate) THEN RAISE insufficient_privilege; END IF;
  RETURN true;
END $$;
CREATE FOREIGN TABLE handed_stream (id int, part int OPTIONS (metadata 'partition')) SERVER shop OPTIONS (topic 'handed');
CREATE VIEW handed WITH (pipeline.continuous) AS SELECT id, part FROM handed_stream WHERE passes(id)});

sub send_ids
{
	my ($from, $to) = @_;

	$broker->produce_records('handed', $_, map { qq({"id": $_}) } $from .. $to) for 0, 1;
	return;
}

send_ids(1, 10);
ok($node->safe_psql('postgres', q{SELECT pipeline.wait_for('handed')}) eq 't', 'ten records of each partition are in');
sql_in('postgres', 'UPDATE gate SET shut = true');
send_ids(11, 20);
$node->until_true(q{SELECT activity = 'waiting after an error' FROM pipeline.stat_views WHERE view = 'handed'::regclass});
sql_in('postgres', 'BEGIN; UPDATE gate SET shut = false; ALTER VIEW handed SET (pipeline.workers = 2); COMMIT');
ok($node->safe_psql('postgres', q{SELECT pipeline.wait_for('handed')}) eq 't', 'and the others');
is(sql_in('postgres', q{SELECT count(*), count(DISTINCT (id, part)) FROM handed}), '40|40', 'each of them once');
is(sql_in('postgres', q{SELECT string_agg("partition" || ':' || next_offset, ' ' ORDER BY "partition") FROM pipeline.stat_partitions WHERE view = 'handed'::regclass}), '0:20 1:20', 'each partition has one worker');

my $log = slurp_file($node->logfile);
unlike($log, qr/PANIC|TRAP:|terminated by signal|leak:|refcount leak/, 'the log shows no internal error');

$node->stop;
done_testing();
