# Views at the same place in a stream are run by one worker, which fetches and
# decodes for all of them.  If this failed, each would cost a worker and a
# connection of its own; or one view's trouble - a record on which it fails, a
# locked table, an option, its end - would stop the others, or lose or double
# their events when views leave and join.
#
# A dozen views of every shape read one topic; each is compared with a batch
# query over an archive of all that was produced, after random kills and after
# each kind of trouble.  PIPELINE_SEED repeats the random moments.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use KafkaBroker;
use Oracle qw(difference);
use PipelineNode;
use QueryGenerator;

my $seed = $ENV{PIPELINE_SEED} || time % 100000;
my $random = QueryGenerator->new(seed => $seed);
my $kills = $ENV{PIPELINE_KILLS} || 5;
my $produced = 0;

diag("PIPELINE_SEED=$seed");
my $broker = KafkaBroker->new;
my $node = PipelineNode->create('shared', conf => "timezone = 'UTC'\njit = off\nmax_worker_processes = 16\npipeline.batch_size = 500\npipeline.checkpoint_interval = '200ms'\n");
my $csv = $node->basedir . '/archive.csv';

sub run_sql
{
	my ($sql) = @_;
	return $node->safe_psql('postgres', $sql);
}

# One record in 2000 has an amount that is no number: bad for views that read it,
# an event for the others.
my %spec = (
	partitions => 2, seed => $seed, size => 160, step => '10ms', disorder => '2s', late_share => 0,
	bad_share => 0.0005, bad_kind => 'amount');

$broker->create_topic('orders', 2);
KafkaBroker::events_csv($csv, %spec, count => 400_000);
run_sql(qq{
CREATE TABLE archive ("partition" int, "offset" bigint, seq bigint, key bigint, customer_id bigint, amount numeric, ordered_at timestamptz, country text, bad boolean);
COPY archive FROM '$csv' WITH (FORMAT csv);
CREATE UNIQUE INDEX ON archive (seq);
CREATE TABLE customers (customer_id bigint PRIMARY KEY, segment text);
INSERT INTO customers SELECT g, 'segment ' || g % 21 FROM generate_series(0, 989) g;
CREATE SERVER shop FOREIGN DATA WRAPPER pipeline_kafka OPTIONS (bootstrap_servers '@{[ $broker->address ]}');
CREATE FOREIGN TABLE orders (seq bigint, key bigint, customer_id bigint, amount numeric, ordered_at timestamptz, country text OPTIONS (field 'address.country'))
  SERVER shop OPTIONS (topic 'orders', event_time 'ordered_at', out_of_orderness '5 seconds', idle_timeout 'off');
});

# Query and what it should show over {rows}; views named with a read amount.
my %views = (
	few => ['SELECT seq, key FROM {rows} WHERE key % 123 = 0'],
	few_a => ['SELECT seq, amount FROM {rows} WHERE amount > 990'],
	lands => ['SELECT seq, country FROM {rows} WHERE seq % 97 = 3'],
	by_key => ['SELECT key, count(*) AS n, max(seq) AS last FROM {rows} GROUP BY key'],
	by_key_a => ['SELECT key, count(*) AS n, sum(amount) AS s FROM {rows} GROUP BY key'],
	all_a => ['SELECT count(*) AS n, sum(amount) AS s, max(ordered_at) AS last FROM {rows}'],
	joined => ['SELECT segment, count(*) AS n FROM {rows} JOIN customers USING (customer_id) GROUP BY segment'],
	joined_a => ['SELECT seq, segment, amount FROM {rows} JOIN customers USING (customer_id) WHERE amount < 5'],
	minutes => ["SELECT country, date_trunc('minute', ordered_at) AS m, count(*) AS n FROM {rows} GROUP BY country, m", 1],
	minutes_a => ["SELECT date_trunc('minute', ordered_at) AS m, sum(amount) AS s, max(seq) AS n FROM {rows} GROUP BY m", 1],
	hours => ["SELECT date_trunc('hour', ordered_at) AS h, count(DISTINCT key) AS keys FROM {rows} GROUP BY h", 1],
	lists => ["SELECT date_trunc('minute', ordered_at) AS m, array_agg(seq ORDER BY seq) AS list FROM {rows} WHERE key = 7 GROUP BY m", 1]);

sub create_view
{
	my ($name) = @_;
	(my $query = $views{$name}[0]) =~ s/\{rows\}/orders/;

	return "CREATE VIEW $name WITH (pipeline.continuous) AS $query;";
}

sub produce
{
	my ($count, %options) = @_;

	$broker->produce(topic => 'orders', %spec, first => $produced, count => $count, %options);
	$produced += $count;
	return;
}

sub wait_for_views
{
	$node->until_true("SELECT bool_and(pipeline.wait_for(view, '120 seconds')) FROM pipeline.views WHERE state = 'running'", 180);
	return;
}

# What is wrong with any of these views, once they have read everything.
sub check_views
{
	my ($when, @names) = @_;
	my @wrong;

	wait_for_views();
	for my $name (@names)
	{
		my ($query, $windowed) = @{ $views{$name} };
		my $bad = $name =~ /_a$/ ? 'NOT bad' : 'true';
		my $columns = run_sql("SELECT count(*) FROM pg_attribute WHERE attrelid = '$name'::regclass AND attnum > 0");
		my $list = join(', ', map { "c$_" } 1 .. $columns);
		my $end = $windowed ? "WHERE x.c" . ($name eq 'minutes' ? 2 : 1) . " + interval '1 " . ($name eq 'hours' ? 'hour' : 'minute') . "' <= pipeline.watermark('$name')" : '';

		$query =~ s/\{rows\}/(SELECT * FROM archive WHERE seq < $produced AND $bad) AS orders/;
		my $difference = difference(\&run_sql, columns => $columns,
			expected => "SELECT * FROM ($query) AS x ($list) $end", actual => "SELECT * FROM $name AS x ($list)");
		push @wrong, "$name: $difference" if defined $difference;

		my $counts = run_sql(qq{SELECT events_in, late, dead_letters, skipped FROM pipeline.stat_views WHERE view = '$name'::regclass});
		my $dead = $name =~ /_a$/ ? run_sql("SELECT count(*) FROM archive WHERE seq < $produced AND bad") : 0;
		push @wrong, "$name: counters are $counts, not $produced|0|$dead|0" if $counts ne "$produced|0|$dead|0";
		push @wrong, "$name: positions do not add up"
		  if run_sql("SELECT sum(next_offset - start_offset) FROM pipeline.stat_partitions WHERE view = '$name'::regclass") ne $produced;
	}
	is_deeply(\@wrong, [], "$when: views and counters are right");
	return;
}

# All of these views in one task, run by one worker.
sub together
{
	my ($when, @names) = @_;
	my $list = join(', ', map { "'$_'::regclass" } @names);

	eval {
		$node->until_true("SELECT count(DISTINCT task) = 1 AND count(task) = @{[ scalar @names ]} FROM pipeline.views WHERE view IN ($list)", 60);
		$node->until_true("SELECT count(DISTINCT pid) = 1 FROM pipeline.stat_views WHERE view IN ($list)", 10);
	};
	is($@, '', "$when: they are one task");
	diag(run_sql('SELECT v.view, v.task, s.state, s.activity, s.pid, s.watermark, s.last_error FROM pipeline.views v JOIN pipeline.stat_views s USING (view)')
		  . "\n" . run_sql('SELECT view, partition, next_offset, max_event_time FROM pipeline.stat_partitions ORDER BY 2, 1')) if $@;
	return;
}

sub task_of
{
	my ($name) = @_;
	return run_sql("SELECT task FROM pipeline.views WHERE view = '$name'::regclass");
}

# Created at once, before there is anything.
my @names = sort keys %views;
my $late = 'minutes';
@names = grep { $_ ne $late } @names;
run_sql('BEGIN; ' . join(' ', map { create_view($_) } @names) . 'COMMIT;');
together('created in one transaction', @names);
is(run_sql("SELECT count(*) || ' ' || max(cardinality(views)) FROM pipeline.stat_workers WHERE kind = 'worker'"), '1 ' . @names, 'one worker runs them all');
produce(20_000);
check_views('at first', @names);
together('after records that are bad for some', @names);

# One more comes later, reads what is there and joins, while more is produced.
# Those that read amounts are away much of the time, for the bad ones' sake.
my $flow = $broker->produce_start(topic => 'orders', %spec, first => $produced, count => 60_000, rate => 3000);
$produced += 60_000;
run_sql(create_view($late));
push @names, $late;
together('a new one while records flow', grep { !/_a$/ } @names);
is(run_sql("SELECT events_in < $produced FROM pipeline.stat_views WHERE view = '$late'::regclass"), 't', 'they did flow');
$broker->produce_finish($flow);
check_views('after it joined', @names);

# Random kills while records flow.
$flow = $broker->produce_start(topic => 'orders', %spec, first => $produced, count => 100_000, rate => 6000);
my $before = $produced;
$produced += 100_000;
for my $n (1 .. $kills)
{
	my $share = ($n - 1 + $random->random) / $kills;

	$node->until_true("SELECT min(events_in) >= $before + $share * 100000 FROM pipeline.stat_views");
	if ($random->chance(0.6)) { $node->kill_worker($random->pick(@names)); }
	else { $node->kill_postmaster; }
}
$broker->produce_finish($flow);
check_views("$kills kills", @names);
together('after the kills', @names);
is(run_sql("SELECT count(*) FROM pipeline.stat_workers WHERE kind = 'worker'"), 1, 'and there is one worker');

# A record on which one view fails is that view's dead letter.
run_sql("CREATE VIEW divides WITH (pipeline.continuous) AS SELECT seq, 1000 / (seq - $produced - 777) AS q FROM orders WHERE seq >= $produced");
run_sql("CREATE VIEW sums WITH (pipeline.continuous) AS SELECT key % 2 AS k, sum(CASE WHEN seq = $produced + 888 THEN 9223372036854775807 ELSE 1 END) AS s, sum((CASE WHEN seq >= $produced + 888 AND seq < $produced + 890 THEN 9223372036854775807 ELSE 0 END)::bigint) AS t, max(1 / (seq - $produced - 999)) AS u FROM orders WHERE seq >= $produced GROUP BY 1");
together('with two that will fail', @names, 'divides', 'sums');
my $pid = $node->worker_pid('few');
produce(5000);
check_views('others after one has failed', @names);
is(run_sql("SELECT count(*) FROM divides"), 4999, 'the failing view has all other rows');
is(run_sql("SELECT events_in = $produced AND dead_letters = 1 FROM pipeline.stat_views WHERE view = 'divides'::regclass"), 't', 'and one dead letter');
is(run_sql("SELECT dead_letters FROM pipeline.stat_views WHERE view = 'sums'::regclass"), 1, 'so has the aggregate');
is(run_sql("SELECT count(*) FROM pipeline.dead_letters WHERE view NOT IN ('divides'::regclass, 'sums'::regclass) AND sqlstate = '22012'"), 0, 'the others have none of it');
is(run_sql("SELECT pid FROM pipeline.stat_views WHERE view = 'few'::regclass"), $pid, 'their worker is the same');
produce(1000);
together('it joins again', @names, 'divides', 'sums');
run_sql('DROP VIEW divides, sums');

# A locked table holds up those that read it, and nobody else.
my $locker = $node->background_psql('postgres');
$locker->query_safe('BEGIN; LOCK TABLE customers');
produce(3000);
my @free = grep { !/^joined/ } @names;
$node->until_true("SELECT bool_and(pipeline.wait_for(v, '60 seconds')) FROM unnest('{@{[ join(',', @free) ]}}'::regclass[]) v");
isnt(run_sql("SELECT events_in FROM pipeline.stat_views WHERE view = 'joined'::regclass"), $produced, 'a view whose table is locked waits');
isnt(task_of('joined'), task_of('few'), 'in a task of its own');
$locker->query_safe('COMMIT');
$locker->quit;
check_views('after the lock', @names);
together('after the lock', @names);

# Paused, altered, renamed, dropped.
run_sql("SELECT pipeline.pause('by_key')");
produce(2000);
$node->until_true("SELECT bool_and(pipeline.wait_for(view, '60 seconds')) FROM pipeline.views WHERE state = 'running'");
is(run_sql("SELECT task IS NULL FROM pipeline.views WHERE view = 'by_key'::regclass"), 't', 'a paused view is in no task');
run_sql("SELECT pipeline.resume('by_key')");
check_views('after pause and resume', @names);
together('after pause and resume', @names);

run_sql("ALTER VIEW few SET (pipeline.checkpoint_interval = '150ms')");
produce(1000);
check_views('with an option of its own', @names);
isnt(task_of('few'), task_of('by_key'), 'another interval, another task');
run_sql('ALTER VIEW few RESET (pipeline.checkpoint_interval)');
run_sql('ALTER VIEW hours RENAME TO other; ALTER VIEW other RENAME TO hours');
together('after ALTER', @names);
run_sql("ALTER FOREIGN TABLE orders OPTIONS (ADD max_skew '2 minutes')");
produce(1000);
check_views('after the stream was altered', @names);
together('after the stream was altered', @names);

my $leader = task_of('few');
run_sql("DROP VIEW $leader");
@names = grep { $_ ne $leader } @names;
produce(1000);
check_views('after the first of them was dropped', @names);
together('after the first of them was dropped', @names);

# By the clock or by hand, each view's windows close as if it were alone.
run_sql("SELECT pipeline.advance_watermark('orders', 'infinity')");
$node->until_true('SELECT bool_and(advance_to IS NULL) FROM pipeline.views');
check_views('after the watermark was advanced', @names);

# A task that cannot be shared: settings at CREATE and the owner differ.
run_sql("SET timezone = 'Asia/Tokyo'; CREATE VIEW elsewhere WITH (pipeline.continuous) AS SELECT seq FROM orders WHERE seq < 0");
wait_for_views();
isnt(task_of('elsewhere'), task_of($names[0]), 'other settings, another task');
run_sql('DROP SERVER shop CASCADE');
is(run_sql('SELECT count(*) FROM pipeline_data.checkpoints'), 0, 'nothing is left of them');

# Local streams, too: readers of a stream that began at different times.
run_sql(q{
CREATE FOREIGN TABLE clicks (id int, at timestamptz) SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '0', on_error 'stop');
CREATE VIEW c_1 WITH (pipeline.continuous, pipeline.start = 'latest') AS SELECT id FROM clicks});
run_sql("SELECT pipeline.wait_for('c_1')");
run_sql("INSERT INTO clicks SELECT g, timestamptz '2024-01-01' + g * interval '1 second' FROM generate_series(1, 100) g; SELECT pipeline.wait_for('c_1')");
run_sql(q{CREATE VIEW c_2 WITH (pipeline.continuous, pipeline.start = 'latest') AS SELECT count(*) AS n FROM clicks; CREATE VIEW c_3 WITH (pipeline.continuous, pipeline.start = 'latest') AS SELECT id, 7 / (id - 150) AS q FROM clicks});
run_sql("SELECT pipeline.wait_for('c_2'), pipeline.wait_for('c_3')");
is(run_sql("SELECT count(DISTINCT task) > 1 FROM pipeline.views"), 't', 'one that has not seen the highest time cannot join yet');
run_sql("INSERT INTO clicks SELECT g, timestamptz '2024-01-01' + g * interval '1 second' FROM generate_series(101, 140) g");
together('a local stream', qw(c_1 c_2 c_3));
run_sql("INSERT INTO clicks SELECT g, timestamptz '2024-01-01' + g * interval '1 second' FROM generate_series(141, 200) g");
run_sql("SELECT pipeline.wait_for('c_1'), pipeline.wait_for('c_2')");
is(run_sql('SELECT (SELECT count(*) FROM c_1), n FROM c_2'), '200|100', 'each has what came after it began');
$node->until_true("SELECT state = 'stopped' FROM pipeline.views WHERE view = 'c_3'::regclass", 60);
like(run_sql("SELECT reason FROM pipeline.views WHERE view = 'c_3'::regclass"), qr/cannot be processed/, 'the one that fails has stopped, with the reason');
is(run_sql("SELECT max(id) FROM c_3"), 149, 'in front of the record');
is(run_sql("SELECT string_agg(view || ' ' || (next_offset - start_offset), ', ' ORDER BY view::text) FROM pipeline.stat_partitions"), 'c_1 200, c_2 100, c_3 49', 'rows are counted from where each began');
together('the others', qw(c_1 c_2));

my $log = slurp_file($node->logfile);
unlike($log, qr/PANIC|TRAP:|terminated by signal (?!9\b)\d+|leak:|refcount leak/, 'the log shows no internal error');

$node->stop;
done_testing();
