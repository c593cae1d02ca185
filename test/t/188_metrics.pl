# What is measured over a real topic is right: lag in records and in time, rates
# and bytes, latencies from the broker's timestamp, backpressure, and what
# several workers of one view have measured, put together.  If this failed,
# whoever watches streams by these numbers would be told that all is well, or be
# woken for nothing.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use PostgreSQL::Test::Utils;
use Test::More;

use KafkaBroker;
use PipelineNode;

my $broker = KafkaBroker->new;
my $node = PipelineNode->create('metrics', conf => "timezone = 'UTC'\n");
my $address = $broker->address;

sub run_sql { return $node->safe_psql('postgres', $_[0]); }

sub stat_of
{
	my ($view, $what) = @_;
	return run_sql("SELECT $what FROM pipeline.stat_views WHERE view = '$view'::regclass");
}

sub records
{
	my ($from, $to) = @_;
	return map { my $at = sprintf('2024-01-01T%02d:%02d:00Z', int($_ / 60) % 24, $_ % 60); qq({"id":$_,"at":"$at","v":1}) } $from .. $to;
}

$broker->create_topic('orders', 2);
run_sql(qq{
CREATE SERVER shop FOREIGN DATA WRAPPER pipeline_kafka OPTIONS (bootstrap_servers '$address');
CREATE FOREIGN TABLE orders (id bigint, at timestamptz, v int) SERVER shop OPTIONS (topic 'orders', event_time 'at', out_of_orderness '1 day', idle_timeout 'off');
CREATE TABLE names (v int PRIMARY KEY, name text);
INSERT INTO names VALUES (1, 'one');
CREATE VIEW named WITH (pipeline.continuous) AS SELECT name, count(*) AS n FROM orders JOIN names USING (v) GROUP BY name;
});

# Rates and bytes.
$broker->produce_records('orders', 0, records(1, 100));
$broker->produce_records('orders', 1, records(101, 300));
$node->wait_for('named');
is(stat_of('named', q{events_in, events_per_second > 0, bytes_in > 300 * 30, round((bytes_per_second / events_per_second)::numeric) = round(bytes_in::numeric / events_in)}), '300|t|t|t', 'bytes and events per second');
is(stat_of('named', q{lag, lag_time, end_to_end_latency_p99 < '2 minutes'}), '0|00:00:00|t', 'no lag when all is read');
is(run_sql(q{SELECT string_agg(partition || ':' || (records_per_second > 0), ' ' ORDER BY partition) FROM pipeline.stat_partitions}), '0:true 1:true', 'partitions have rates of their own');

# A locked table holds the view up; the topic grows meanwhile, and lag with it.
my $locker = $node->background_psql('postgres');
$locker->query_safe('BEGIN; LOCK TABLE names');
$node->until_true(q{SELECT pipeline.stat_reset('named') IS NOT NULL AND activity = 'waiting for events' FROM pipeline.stat_views});
$broker->produce_records('orders', 0, records(301, 550));
$node->until_true(q{SELECT lag = 250 AND activity = 'waiting for a lock' FROM pipeline.stat_views});
is(stat_of('named', q{lag_time > '0', lag_change_per_second > 1}), 't|t', 'lag is a time, too, and grows');
is(run_sql(q{SELECT string_agg(partition || ':' || lag || ':' || (lag_time > '0'), ' ' ORDER BY partition) FROM pipeline.stat_partitions}), '0:250:true 1:0:false', 'of the partition that has it');
run_sql(q{SELECT pipeline.shift_clock('10 minutes')});
$locker->query_safe('COMMIT');
$locker->quit;
$node->wait_for('named');
is(stat_of('named', q{lag, lag_time, lag_change_per_second < 0}), '0|00:00:00|t', 'and goes away');

# What came before those ten minutes has waited for them; percentiles are right to a sixteenth.
is(stat_of('named', q{end_to_end_latency_p50 BETWEEN '9 minutes' AND '12 minutes', processing_latency_p50 BETWEEN '1 us' AND '9 minutes'}), 't|t', 'latency since the broker got a record');
run_sql(q{SELECT pipeline.shift_clock('5 minutes')});
is(stat_of('named', 'end_to_end_latency_p99 IS NULL'), 't', 'which is of the last minutes only');

# Backpressure: more is waiting than a batch may have.  None where there is not.
is(stat_of('named', 'backpressure'), '0', 'no backpressure while batches are small');
run_sql(q{ALTER SYSTEM SET pipeline.batch_size = 50; SELECT pg_reload_conf(); SELECT pipeline.pause('named')});
$broker->produce(topic => 'orders', partitions => 2, count => 20_000);
run_sql(q{SELECT pipeline.stat_reset('named'); SELECT pipeline.resume('named')});
$node->wait_for('named');
is(stat_of('named', 'backpressure > 0, backpressure <= busy, decode_share > 0'), 't|t|t', 'backpressure while they are full');
is(run_sql(q{SELECT busy > 0, backpressure > 0, bytes_per_second > 0 FROM pipeline.stat_workers WHERE view = 'named'::regclass}), 't|t|t', 'of the worker, too');
run_sql(q{ALTER SYSTEM RESET pipeline.batch_size; SELECT pg_reload_conf()});

# Two workers: what they have measured is put together.
$broker->create_topic('halves', 2);
run_sql(qq{
CREATE FOREIGN TABLE halves (id bigint, at timestamptz, v int) SERVER shop OPTIONS (topic 'halves', event_time 'at', out_of_orderness '0', idle_timeout 'off');
CREATE VIEW halved WITH (pipeline.continuous, pipeline.workers = 2) AS SELECT pipeline.tumble(at, '1 hour') AS w, count(*) AS n FROM halves GROUP BY w;
});
$node->until_true(q{SELECT count(*) = 2 FROM pipeline.stat_workers WHERE view = 'halved'::regclass AND activity = 'waiting for events'});
run_sql(q{SELECT pipeline.pause('halved')});
$broker->produce_records('halves', 0, records(1, 180));
run_sql(q{SELECT pipeline.shift_clock('1 hour')});
$broker->produce_records('halves', 1, records(1, 20));
run_sql(q{SELECT pipeline.stat_reset('halved'); SELECT pipeline.resume('halved')});
$node->wait_for('halved');
is(stat_of('halved', 'events_in, lag, lag_time'), '200|0|00:00:00', 'both have read their part');
is(run_sql(q{
SELECT abs(v.events_per_second - w.sum) < 0.05 * w.sum, w.least > 0, 9 * w.least BETWEEN 0.9 * w.most AND 1.1 * w.most
FROM pipeline.stat_views v, (SELECT sum(events_per_second), min(events_per_second) AS least, max(events_per_second) AS most FROM pipeline.stat_workers WHERE view = 'halved'::regclass) w
WHERE v.view = 'halved'::regclass}), 't|t|t', 'the rate of the view is the sum of its workers\'');
# Kafka's timestamps are of one clock, ours of a shifted one: all are an hour old, or older
is(stat_of('halved', q{end_to_end_latency_p50 >= '56 minutes', end_to_end_latency_p95 >= '56 minutes'}), 't|t', 'percentiles are over what both have measured');

# What a worker measured outlives it.
my $before = stat_of('halved', 'end_to_end_latency_p50');
$node->kill_worker('halved', 'TERM');
$node->until_true(q{SELECT count(*) = 2 FROM pipeline.stat_workers WHERE view = 'halved'::regclass AND activity = 'waiting for events'});
is(stat_of('halved', q{end_to_end_latency_p50, events_per_second > 0}), "$before|t", 'a new worker goes on measuring');

# With the broker gone lag is what it was, and the views say why nothing moves.
$broker->stop;
$node->until_true(q{SELECT bool_and(unreachable) FROM pipeline.stat_partitions});
is(stat_of('named', 'activity'), 'source unreachable', 'a broker that is gone');

$node->stop('fast');
done_testing();
