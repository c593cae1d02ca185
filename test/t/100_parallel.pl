# A view may be kept by several workers, which divide the partitions.  If this
# failed, windows would close before all workers' events are in them or never,
# parts of a group would be lost or counted twice when they are put together, or
# a kill or another number of workers would lose or double events.
#
# Views of every shape are compared with a batch query over an archive of all
# that was produced; then workers and the postmaster are killed while events are
# read and the number of workers is altered, and every snapshot must be exact as
# in 030_crash_kafka.pl.  PIPELINE_SEED repeats the random moments.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use KafkaBroker;
use Oracle qw(check_snapshot difference holds_for);
use PipelineNode;
use QueryGenerator;

my $seed = $ENV{PIPELINE_SEED} || time % 100000;
my $events = $ENV{PIPELINE_EVENTS} || 70_000;
my $kills = $ENV{PIPELINE_KILLS} || 6;
my $random = QueryGenerator->new(seed => $seed);

diag("PIPELINE_SEED=$seed");
my $broker = KafkaBroker->new;
my $node = PipelineNode->create('parallel', conf => "timezone = 'UTC'\njit = off\nmax_worker_processes = 50\npipeline.batch_size = 500\npipeline.checkpoint_interval = '100ms'\n");

sub run_sql
{
	my ($sql) = @_;
	return $node->safe_psql('postgres', $sql);
}

# The workers of a view, as shard:pid.
sub workers_of
{
	my ($view) = @_;
	return map { (split /:/)[1] } split /\n/,
	  run_sql("SELECT shard || ':' || pid FROM pipeline.stat_workers WHERE view = '$view'::regclass ORDER BY shard");
}

sub wait_for_views
{
	eval { $node->until_true("SELECT bool_and(pipeline.wait_for(view, '30 seconds')) FROM pipeline.views", 40) };
	return unless $@;
	diag(run_sql("SELECT s.view, s.watermark, c.task, c.seq, c.frozen_to, c.closed_to, t.pid, t.activity, t.watermark, t.error_message FROM pipeline.stat_views s JOIN pipeline_data.views v USING (view) JOIN pipeline_data.positions p ON p.view = v.id JOIN pipeline_data.checkpoints c ON c.task = p.id LEFT JOIN pipeline_data.task_slots() t ON t.task = p.id"));
	die $@;
}

run_sql(qq{
CREATE SERVER shop FOREIGN DATA WRAPPER pipeline_kafka OPTIONS (bootstrap_servers '@{[ $broker->address ]}', "topic.metadata.refresh.interval.ms" '1000');
CREATE FUNCTION longest_step(text, text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT CASE WHEN (length(\$2), \$2) > (length(\$1), \$1) OR \$1 IS NULL THEN \$2 ELSE \$1 END';
CREATE AGGREGATE longest(text) (SFUNC = longest_step, STYPE = text);
});

# A topic, its stream, and a table of what it will hold.
sub make_stream
{
	my ($name, $options, %spec) = @_;
	my $csv = $node->basedir . "/$name.csv";
	my $columns = 'seq bigint, key bigint, customer_id bigint, amount numeric, ordered_at timestamptz, country text';

	$broker->create_topic($name, $spec{partitions});
	KafkaBroker::events_csv($csv, %spec);
	run_sql(qq{
CREATE TABLE ${name}_archive ("partition" int, "offset" bigint, $columns, bad boolean);
COPY ${name}_archive FROM '$csv' WITH (FORMAT csv);
CREATE UNIQUE INDEX ON ${name}_archive ("partition", "offset");
CREATE FOREIGN TABLE $name ($columns OPTIONS (field 'address.country'), part int OPTIONS (metadata 'partition'))
  SERVER shop OPTIONS (topic '$name', event_time 'ordered_at', partition_key 'part', out_of_orderness '5 seconds'$options)});
	return;
}

#
# The same rows as a batch query gives, whatever is kept.
#
my %spec = (partitions => 5, seed => $seed, size => 160, step => '10ms', disorder => '2s', late_share => 0, count => 25_000);
my $minute = "date_trunc('minute', ordered_at)";

# What sessions there are, by the times between events that follow each other.
sub islands
{
	my ($key, $gap, @aggregates) = @_;
	my $aggregates = join(', ', @aggregates);

	return "SELECT k, tstzrange(min(ordered_at), max(ordered_at) + interval '$gap'), $aggregates FROM
		(SELECT *, count(*) FILTER (WHERE parted) OVER (PARTITION BY k ORDER BY ordered_at, seq) AS island FROM
			(SELECT *, ordered_at - lag(ordered_at) OVER (PARTITION BY k ORDER BY ordered_at, seq) > interval '$gap' AS parted FROM
				(SELECT *, $key AS k FROM {rows}) a) b) c GROUP BY k, island";
}
my %queries = (
	fast => ["SELECT country, $minute AS m, count(*) AS n, sum(key) AS s, min(seq) AS low, max(ordered_at) AS high, avg(customer_id) AS a FROM {rows} GROUP BY country, m", 2],
	numbers => ["SELECT $minute AS m, key % 7 AS k, sum(amount) AS s, avg(amount) AS a, stddev(amount) AS d, max(country) AS c, bool_and(amount > 5) AS b, count(*) FILTER (WHERE amount > 500) AS f FROM {rows} GROUP BY m, k", 1],
	uniques => ["SELECT $minute AS m, count(DISTINCT key) AS keys, sum(DISTINCT customer_id) AS customers, count(DISTINCT country) FILTER (WHERE amount > 900) AS lands, max(DISTINCT key), count(*) AS n FROM {rows} GROUP BY m", 1],
	lists => ["SELECT $minute AS m, array_agg(seq ORDER BY seq) AS list FROM {rows} WHERE key % 50 = 7 GROUP BY m", 1],
	uncombined => ["SELECT $minute AS m, longest(country) AS l, count(*) AS n FROM {rows} GROUP BY m", 1],
	most => ["SELECT m, country, n FROM (SELECT m, country, n, rank() OVER (PARTITION BY m ORDER BY n DESC) AS r FROM (SELECT $minute AS m, country, count(*) AS n FROM {rows} GROUP BY m, country HAVING count(*) > 3) g) r WHERE r <= 3", 1],
	first_rows => ["SELECT m, country, seq FROM (SELECT $minute AS m, country, seq, row_number() OVER (PARTITION BY $minute, country ORDER BY amount DESC, seq) AS r FROM {rows}) r WHERE r <= 2", 1],
	hops => ["SELECT country, upper(w) - interval '1 minute' AS m, count(*) AS n, sum(key) AS s, avg(amount) AS a, max(seq) AS high FROM (SELECT *, pipeline.hop(ordered_at, '1 minute', '25 seconds') AS w FROM {rows}) h GROUP BY country, w", 2],
	hop_rows => ["SELECT upper(w) - interval '1 minute' AS m, array_agg(seq ORDER BY seq) AS list, count(DISTINCT country) AS lands FROM (SELECT *, pipeline.hop(ordered_at, '1 minute', '20 seconds') AS w FROM {rows}) h WHERE key % 50 = 7 GROUP BY w", 1],
	hop_parts => ["SELECT part, upper(w) - interval '1 minute' AS m, longest(country) AS l, count(*) AS n FROM (SELECT *, pipeline.hop(ordered_at, '1 minute', '20 seconds') AS w FROM {rows}) h GROUP BY part, w", 2],
	cumulated => ["SELECT key % 5 AS k, upper(w) - interval '1 minute' AS m, lower(w) AS l, count(*) AS n, stddev(amount) AS d FROM (SELECT *, pipeline.cumulate(ordered_at, '1 minute', '15 seconds') AS w FROM {rows}) h GROUP BY key % 5, w", 2],
	plain => ['SELECT seq, country, amount FROM {rows} WHERE amount > 800'],
	by_part => ['SELECT part, key, count(*) AS n, sum(amount) AS s, count(DISTINCT country) AS lands FROM {rows} GROUP BY part, key'],
	sessions => ["SELECT key % 40 AS k, pipeline.session(ordered_at, '1 second') AS w, count(*) AS n, sum(seq) AS s, avg(amount) AS a, max(country) AS c FROM {rows} GROUP BY key % 40, w", 0,
		islands('key % 40', '1 second', 'count(*), sum(seq), avg(amount), max(country)')],
	session_rows => ["SELECT key % 40 AS k, pipeline.session(ordered_at, '1 second') AS w, array_agg(seq ORDER BY seq) AS list, count(DISTINCT country) AS lands FROM {rows} GROUP BY key % 40, w", 0,
		islands('key % 40', '1 second', 'array_agg(seq ORDER BY seq), count(DISTINCT country)')],
	shares => ["SELECT a.m, a.country, a.n, t.n AS total, t.keys FROM (SELECT $minute AS m, country, count(*) AS n FROM {rows} GROUP BY m, country) a JOIN (SELECT $minute AS m, count(*) AS n, count(DISTINCT key) AS keys FROM {rows} GROUP BY m) t ON a.m = t.m", 1],
	pairs => ["SELECT date_trunc('minute', x.ordered_at) AS m, x.key, x.seq AS a, y.seq AS b FROM (SELECT ordered_at, key, seq FROM {rows} WHERE key % 40 = 1) x LEFT JOIN (SELECT ordered_at, key, seq FROM {rows} WHERE key % 20 = 1) y ON date_trunc('minute', x.ordered_at) = date_trunc('minute', y.ordered_at) AND x.key = y.key AND x.seq < y.seq", 1],
	joined => ["SELECT upper(coalesce(a.w, b.w)) - interval '1 minute' AS m, coalesce(a.k, b.k) AS k, a.n, b.s FROM (SELECT w, key % 9 AS k, count(*) AS n FROM (SELECT *, pipeline.hop(ordered_at, '1 minute', '20 seconds') AS w FROM {rows}) h WHERE amount > 400 GROUP BY w, key % 9) a FULL JOIN (SELECT w, key % 9 AS k, sum(amount) AS s FROM (SELECT *, pipeline.hop(ordered_at, '1 minute', '20 seconds') AS w FROM {rows}) h WHERE amount < 300 GROUP BY w, key % 9) b ON a.w = b.w AND a.k = b.k", 1],
	by_part_minute => ["SELECT part, $minute AS m, longest(country) AS l, count(DISTINCT key) AS n FROM {rows} GROUP BY part, m", 2]);
my $partitions = $spec{partitions};

make_stream('orders', '', %spec);
$broker->produce(topic => 'orders', %spec);
my $create = '';
for my $name (sort keys %queries)
{
	(my $query = $queries{$name}[0]) =~ s/\{rows\}/orders/g;
	my $workers = { fast => 4, numbers => 3, sessions => 3 }->{$name} || 2;

	$create .= "CREATE VIEW $name WITH (pipeline.continuous, pipeline.workers = $workers) AS $query;\n";
}
run_sql($create);

sub check_queries
{
	my ($when) = @_;
	my @wrong;

	wait_for_views();
	my %columns = map { split /\|/ } split /\n/,
	  run_sql("SELECT attrelid::regclass, count(*) FROM pg_attribute JOIN pipeline.views ON attrelid = view WHERE attnum > 0 GROUP BY 1");
	for my $name (sort keys %queries)
	{
		my ($query, $time, $islands) = @{ $queries{$name} };
		my $list = join(', ', map { "c$_" } 1 .. $columns{$name});
		my $end = $islands ? "WHERE upper(x.c2) < pipeline.watermark('$name')" : $time ? "WHERE x.c$time + interval '1 minute' <= pipeline.watermark('$name')" : '';

		$query = $islands if $islands;
		$query =~ s/\{rows\}/(SELECT *, "partition" AS part FROM orders_archive) AS orders/g;
		my $difference = difference(\&run_sql, columns => $columns{$name},
			expected => "SELECT * FROM ($query) AS x ($list) $end", actual => "SELECT * FROM $name AS x ($list)");
		push @wrong, "$name: $difference" if defined $difference;
	}
	push @wrong, split /\n/,
	  run_sql("SELECT view, events_in, late, rows_out FROM pipeline.stat_views WHERE events_in <> $spec{count} OR late <> 0 OR rows_out = 0");
	is_deeply(\@wrong, [], "$when: all views are right");
	return;
}

check_queries('at first');
is(run_sql('SELECT bool_and(pipeline.verify_state(view)) FROM pipeline.views'), 't', 'and what they keep is what is saved');
is(run_sql("SELECT string_agg(DISTINCT view || ':' || n, ' ') FROM (SELECT view, count(*) AS n FROM pipeline.stat_workers WHERE view = 'fast'::regclass GROUP BY 1) w"), 'fast:4', 'a view has its workers');
is(run_sql("SELECT count(*) FROM pipeline.stat_partitions WHERE view = 'fast'::regclass"), $partitions, 'and they have each partition once');
run_sql("SELECT pipeline.advance_watermark('orders', 'infinity')");
$node->until_true('SELECT bool_and(advance_to IS NULL) FROM pipeline.views');
check_queries('after the watermark was advanced');
is(run_sql("SELECT sum(n) FROM fast"), $spec{count}, 'all windows are closed');
is(run_sql("SELECT coalesce(sum(open_windows), 0) FROM pipeline.stat_views"), 0, 'and none is open') or diag(run_sql('SELECT view, open_windows FROM pipeline.stat_views'));

run_sql("SELECT pipeline.pause('fast')");
$node->until_true("SELECT count(*) = 0 FROM pipeline.stat_workers WHERE view = 'fast'::regclass");
run_sql("SELECT pipeline.resume('fast')");
$node->until_true("SELECT count(*) = 4 FROM pipeline.stat_workers WHERE view = 'fast'::regclass");
run_sql('DROP FOREIGN TABLE orders CASCADE');
is(run_sql('SELECT (SELECT count(*) FROM pipeline_data.shards) + (SELECT count(*) FROM pipeline_data.checkpoints)'), 0, 'nothing is left of them');
$node->until_true("SELECT count(*) = 0 FROM pipeline.stat_workers WHERE kind = 'worker'");

#
# Exactness in every snapshot, with kills and another number of workers while
# events are read; some of them are late, or damaged.
#
my %load = (
	partitions => 4, seed => $seed, size => 160, step => '10ms', disorder => '2s', late_share => 0.002,
	late_by => '10min', bad_share => 0.0005, bad_kind => 'mixed');
my $ahead = 4000;
my $snapshots = 0;
my @views = qw(windowed totals large hopped parted visits shares);

my $total = $ahead + $kills * 4 * int($events / $kills / 4);
make_stream('trades', ", idle_timeout 'off'", %load, count => $total);
$broker->produce(topic => 'trades', %load, count => $ahead);
run_sql(q{
CREATE TABLE watermarks AS
  SELECT "partition", "offset", ordered_at, bad, max(ordered_at) OVER (PARTITION BY "partition" ORDER BY "offset" ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) - interval '5 seconds' AS watermark FROM trades_archive;
CREATE TABLE may_be_late AS
  SELECT "partition", "offset" FROM watermarks WHERE watermark >= date_trunc('minute', ordered_at) + interval '1 minute' AND NOT bad;
CREATE INDEX ON trades_archive ("partition", "offset") WHERE bad;
ANALYZE;
CREATE SCHEMA snap;
CREATE TABLE snap.moments (n int, watermark timestamptz, hopped timestamptz, parted timestamptz, visits timestamptz, shares timestamptz);
CREATE TABLE snap.positions (n int, view text, "partition" int, start_offset bigint, next_offset bigint);
CREATE TABLE snap.counters (n int, view text, events_in bigint, late bigint, dead_letters bigint);
CREATE TABLE snap.windowed (n int, c1 text, c2 timestamptz, c3 bigint, c4 numeric, c5 bigint);
CREATE TABLE snap.parted (n int, c1 int, c2 tstzrange, c3 bigint, c4 numeric, c5 bigint);
CREATE TABLE snap.totals (n int, c1 int, c2 bigint, c3 bigint, c4 numeric);
CREATE TABLE snap.large (n int, c1 bigint, c2 bigint, c3 numeric);
CREATE TABLE snap.hopped (n int, c1 text, c2 tstzrange, c3 bigint, c4 numeric);
CREATE TABLE snap.visits (n int, c1 bigint, c2 tstzrange, c3 bigint, c4 numeric);
CREATE TABLE snap.shares (n int, c1 timestamptz, c2 text, c3 bigint, c4 numeric, c5 bigint);
CREATE TABLE snap.shares_late (n int, "partition" int, "offset" bigint);
CREATE TABLE snap.visits_late (n int, "partition" int, "offset" bigint);
CREATE TABLE snap.late (n int, "partition" int, "offset" bigint);
CREATE TABLE snap.hopped_late (n int, "partition" int, "offset" bigint, late_windows tstzrange[]);
CREATE TABLE snap.dead (n int, view text, "partition" int, "offset" bigint)});
run_sql(q{CREATE VIEW windowed WITH (pipeline.continuous, pipeline.workers = 2) AS
  SELECT country, date_trunc('minute', ordered_at) AS m, count(*) AS n, sum(amount) AS s, count(DISTINCT key) AS keys FROM trades GROUP BY country, m});
run_sql(q{CREATE VIEW visits WITH (pipeline.continuous, pipeline.workers = 2) AS
  SELECT key % 20 AS k, pipeline.session(ordered_at, '700 milliseconds') AS w, count(*) AS n, sum(amount) AS s FROM trades GROUP BY key % 20, w});
run_sql(q{CREATE VIEW shares WITH (pipeline.continuous, pipeline.workers = 3) AS
  SELECT a.m, a.country, a.n, t.s AS total, a.keys FROM (SELECT date_trunc('minute', ordered_at) AS m, country, count(*) AS n, count(DISTINCT key) AS keys FROM trades GROUP BY m, country) a
  JOIN (SELECT date_trunc('minute', ordered_at) AS m, sum(amount) AS s FROM trades GROUP BY m) t ON a.m = t.m});
run_sql(q{CREATE VIEW hopped WITH (pipeline.continuous, pipeline.workers = 3) AS
  SELECT country, w, count(*) AS n, sum(amount) AS s FROM (SELECT *, pipeline.hop(ordered_at, '11 minutes', '90 seconds') AS w FROM trades) h GROUP BY country, w});
run_sql(q{CREATE VIEW parted WITH (pipeline.continuous, pipeline.workers = 4, pipeline.late = 'drop') AS
  SELECT part, pipeline.tumble(ordered_at, '1000 days', '2023-06-01 00:00+00') AS w, count(*) AS n, sum(amount) AS s, count(DISTINCT key) AS keys FROM trades GROUP BY part, w});
run_sql(q{CREATE VIEW totals WITH (pipeline.continuous, pipeline.workers = 4) AS SELECT part, key, count(*) AS n, sum(amount) AS s FROM trades GROUP BY part, key});
run_sql(q{CREATE VIEW large WITH (pipeline.continuous, pipeline.workers = 2) AS SELECT seq, key, amount FROM trades WHERE amount > 990 AND ordered_at > '2000-01-01'});

sub take_snapshot
{
	my $n = $snapshots + 1;
	my ($stdout, $stderr);
	my $status = $node->psql('postgres', qq{
BEGIN ISOLATION LEVEL REPEATABLE READ;
INSERT INTO snap.moments VALUES ($n, pipeline.watermark('windowed'), pipeline.watermark('hopped'), pipeline.watermark('parted'), pipeline.watermark('visits'), pipeline.watermark('shares'));
INSERT INTO snap.positions SELECT $n, view::text, "partition", start_offset, next_offset FROM pipeline.stat_partitions;
INSERT INTO snap.counters SELECT $n, view::text, events_in, late, dead_letters FROM pipeline.stat_views;
INSERT INTO snap.windowed SELECT $n, * FROM windowed;
INSERT INTO snap.parted SELECT $n, * FROM parted;
INSERT INTO snap.totals SELECT $n, * FROM totals;
INSERT INTO snap.large SELECT $n, * FROM large;
INSERT INTO snap.hopped SELECT $n, * FROM hopped;
INSERT INTO snap.visits SELECT $n, * FROM visits;
INSERT INTO snap.visits_late SELECT $n, "partition", "offset" FROM visits_late;
INSERT INTO snap.shares SELECT $n, * FROM shares;
INSERT INTO snap.shares_late SELECT $n, "partition", "offset" FROM shares_late;
INSERT INTO snap.late SELECT $n, "partition", "offset" FROM windowed_late;
INSERT INTO snap.hopped_late SELECT $n, "partition", "offset", late_windows FROM hopped_late;
INSERT INTO snap.dead SELECT $n, view::text, "partition", "offset" FROM pipeline.dead_letters;
COMMIT}, stdout => \$stdout, stderr => \$stderr);

	return 0 if $status != 0;
	$snapshots = $n;
	return 1;
}

sub progress
{
	my ($status, $stdout) = $node->psql('postgres', 'SELECT coalesce(sum(next_offset - start_offset), 0) FROM pipeline.stat_partitions');
	return defined $status && $status == 0 ? $stdout : undef;
}

# Another number of workers; while they have not found their partitions, again.
sub alter_workers
{
	my ($view, $workers) = @_;

	$node->until_true("SELECT bool_and(c.seq > 0) FROM pipeline_data.checkpoints c");
	run_sql("ALTER VIEW $view SET (pipeline.workers = $workers)");
	return;
}

sub kill_something
{
	my ($n) = @_;
	my $view = $random->pick(@views);
	my @pids = workers_of($view);

	if ($n % 3 == 0 || !@pids)
	{
		note("kill $n: postmaster");
		$node->kill_postmaster;
		return;
	}
	my $started = run_sql("SELECT backend_start FROM pg_stat_activity WHERE backend_type = 'checkpointer'");

	note("kill $n: a worker of $view");
	kill('KILL', $random->pick(@pids));
	$node->until_true("SELECT backend_start > '$started' FROM pg_stat_activity WHERE backend_type = 'checkpointer'");
	return;
}

my @numbers = (4, 1, 3, 2, 4, 3);
my $under_way = 0;
my $portion = 4 * int($events / $kills / 4);
my $produced = $ahead;

# A kill at a random moment of each portion, after the number of workers was
# altered: what is altered last may be what the kill takes back or not.
for my $n (1 .. $kills)
{
	my $producer = $broker->produce_start(topic => 'trades', %load, first => $produced, count => $portion, rate => int($portion / 10));
	my $threshold = @views * ($produced + $portion * 0.5 * $random->random);
	my $done = progress();

	$produced += $portion;
	while (!defined $done || $done < $threshold)
	{
		take_snapshot() if $random->chance(0.05) && $snapshots < $kills + 2;
		$done = progress();
	}
	alter_workers('windowed', $numbers[ $n % @numbers ]);
	alter_workers('parted', $numbers[ ($n + 3) % @numbers ]);
	alter_workers('hopped', $numbers[ ($n + 2) % @numbers ]);
	alter_workers('visits', $numbers[ ($n + 4) % @numbers ]);
	alter_workers('shares', $numbers[ ($n + 5) % @numbers ]);
	alter_workers('large', $numbers[ ($n + 1) % @numbers ]) if $n % 2;
	progress() for 1 .. $random->below(12);
	$under_way++ if (progress() // 0) < @views * $produced;
	kill_something($n);
	take_snapshot() or die 'no snapshot right after a restart';
	$broker->produce_finish($producer);
}
cmp_ok($under_way, '>=', $kills - 1, 'the kills came while events were being read');
wait_for_views();
take_snapshot();
run_sql(q{SELECT pipeline.advance_watermark('trades', 'infinity')});
$node->until_true('SELECT bool_and(advance_to IS NULL) FROM pipeline.views');
wait_for_views();
take_snapshot();

my %expected = (
	windowed => q{SELECT country AS c1, date_trunc('minute', ordered_at) AS c2, count(*) AS c3, sum(amount) AS c4, count(DISTINCT key) AS c5
		FROM {rows} WHERE date_trunc('minute', ordered_at) + interval '1 minute' <= (SELECT watermark FROM snap.moments WHERE n = {n}) GROUP BY 1, 2},
	hopped => q{SELECT country AS c1, w AS c2, count(*) AS c3, sum(amount) AS c4 FROM (SELECT *, pipeline.hop(ordered_at, '11 minutes', '90 seconds') AS w FROM {rows}) h
		WHERE upper(w) <= (SELECT hopped FROM snap.moments WHERE n = {n})
		AND NOT EXISTS (SELECT FROM snap.hopped_late l WHERE l.n = {n} AND l."partition" = h."partition" AND l."offset" = h."offset" AND w = ANY (l.late_windows)) GROUP BY country, w},
	# one window, which closes at the end: nothing is late for it
	parted => q{SELECT "partition" AS c1, w AS c2, count(*) AS c3, sum(amount) AS c4, count(DISTINCT key) AS c5 FROM {rows}, pipeline.tumble(ordered_at, '1000 days', '2023-06-01 00:00+00') AS w
		WHERE upper(w) <= (SELECT parted FROM snap.moments WHERE n = {n}) GROUP BY 1, 2},
	visits => 'SELECT k AS c1, w AS c2, n AS c3, s AS c4 FROM (' . islands('key % 20', '700 milliseconds', 'count(*)', 'sum(amount)') . ') AS v (k, w, n, s) WHERE upper(w) < (SELECT visits FROM snap.moments WHERE n = {n})',
	shares => q{SELECT m AS c1, country AS c2, count(*) AS c3, sum(sum(amount)) OVER (PARTITION BY m) AS c4, count(DISTINCT key) AS c5 FROM (SELECT date_trunc('minute', ordered_at) AS m, country, amount, key FROM {rows}) t
		WHERE m + interval '1 minute' <= (SELECT shares FROM snap.moments WHERE n = {n}) GROUP BY 1, 2},
	totals => 'SELECT "partition" AS c1, key AS c2, count(*) AS c3, sum(amount) AS c4 FROM {rows} GROUP BY "partition", key',
	large => 'SELECT seq AS c1, key AS c2, amount AS c3 FROM {rows} WHERE amount > 990');

sub problems_of
{
	my ($n, $view, $run) = @_;
	my %what = (
		positions => qq{SELECT "partition", start_offset, next_offset FROM snap.positions WHERE n = $n AND view = '$view'},
		archive => 'trades_archive',
		view => "SELECT * FROM snap.$view WHERE n = $n",
		columns => { windowed => 5, totals => 4, large => 3, hopped => 4, parted => 5, visits => 4, shares => 5 }->{$view},
		bad => 'bad',
		dead => qq{SELECT "partition", "offset" FROM snap.dead WHERE n = $n AND view = '$view'},
		counters => "SELECT events_in, late, dead_letters FROM snap.counters WHERE n = $n AND view = '$view'");

	($what{expected} = $expected{$view}) =~ s/\{n\}/$n/g;
	if ($view eq 'windowed')
	{
		$what{late} = qq{SELECT "partition", "offset" FROM snap.late WHERE n = $n};
		$what{may_be_late} = 'SELECT "partition", "offset" FROM may_be_late';
	}
	if ($view eq 'shares')
	{
		$what{late} = qq{SELECT "partition", "offset" FROM snap.shares_late WHERE n = $n};
		$what{may_be_late} = 'SELECT "partition", "offset" FROM may_be_late';
	}
	if ($view eq 'visits')
	{
		$what{late} = qq{SELECT "partition", "offset" FROM snap.visits_late WHERE n = $n};
		$what{may_be_late} = q{SELECT "partition", "offset" FROM watermarks WHERE watermark > ordered_at + interval '700 milliseconds' AND NOT bad};
	}
	return check_snapshot($run, %what) unless $view eq 'hopped';

	# an event may be late for some of its windows and count in the others
	delete $what{counters};
	my @problems = check_snapshot($run, %what);
	push @problems, split /\n/, $run->(qq{
SELECT 'late is ' || late || ', but late rows have ' || windows || ' windows' FROM snap.counters c, (SELECT coalesce(sum(cardinality(late_windows)), 0) AS windows FROM snap.hopped_late WHERE n = $n) l WHERE n = $n AND view = 'hopped' AND late <> windows
UNION ALL SELECT 'late more than once: ' || "partition" || ':' || "offset" FROM snap.hopped_late WHERE n = $n GROUP BY "partition", "offset" HAVING count(*) > 1
UNION ALL SELECT 'late, but could not be: ' || "partition" || ':' || "offset" || ' ' || w FROM snap.hopped_late JOIN watermarks USING ("partition", "offset"), unnest(late_windows) AS w WHERE n = $n AND NOT watermark >= upper(w)
UNION ALL SELECT 'late for a window that it is not in: ' || "partition" || ':' || "offset" || ' ' || w FROM snap.hopped_late JOIN watermarks USING ("partition", "offset"), unnest(late_windows) AS w WHERE n = $n AND NOT w @> ordered_at});
	return @problems;
}

for my $n (1 .. $snapshots)
{
	my @problems = map { my $view = $_; map { "$view: $_" } problems_of($n, $view, \&run_sql) } @views;
	my $where = run_sql("SELECT string_agg(view || ' ' || sum, ', ' ORDER BY view) FROM (SELECT view, sum(next_offset) FROM snap.positions WHERE n = $n GROUP BY view) p");

	is(scalar @problems, 0, "snapshot $n of $snapshots is exact (" . ($where // '') . ')') or diag(join("\n", @problems));
}
is(run_sql("SELECT string_agg(view || ' ' || sum, ', ' ORDER BY view) FROM (SELECT view, sum(next_offset) FROM snap.positions WHERE n = $snapshots GROUP BY view) p"),
	"hopped $total, large $total, parted $total, shares $total, totals $total, visits $total, windowed $total", 'at the end all events were read');
cmp_ok(run_sql("SELECT count(*) FROM snap.late WHERE n = $snapshots"), '>', 0, 'there were late rows');
cmp_ok(run_sql("SELECT count(*) FROM snap.hopped_late WHERE n = $snapshots AND cardinality(late_windows) BETWEEN 1 AND 6"), '>', 0, 'some count in other windows');
is(run_sql("SELECT c.n = w.n FROM (SELECT sum(c3) AS n FROM snap.windowed WHERE n = $snapshots) w, (SELECT count(*) - (SELECT count(*) FROM snap.late WHERE n = $snapshots) AS n FROM trades_archive WHERE NOT bad) c"), 't', 'and all others are in a window');
is(run_sql(q{SELECT string_agg(state, ',') FROM pipeline.views}), join(',', ('running') x @views), 'all views still run');

# The checks above can fail.
for my $anomaly (
	[ 'windowed', "UPDATE snap.windowed SET c3 = c3 - 1 WHERE ctid = (SELECT max(ctid) FROM snap.windowed WHERE n = $snapshots)" ],
	[ 'hopped', "UPDATE snap.hopped SET c3 = c3 + 1 WHERE ctid = (SELECT min(ctid) FROM snap.hopped WHERE n = $snapshots)" ],
	[ 'hopped', "UPDATE snap.hopped_late SET late_windows = late_windows || tstzrange('2020-01-01', '2020-01-01 00:11') WHERE n = $snapshots" ],
	[ 'visits', "UPDATE snap.visits SET c3 = c3 + 1 WHERE ctid = (SELECT min(ctid) FROM snap.visits WHERE n = $snapshots)" ],
	[ 'visits', "DELETE FROM snap.visits_late WHERE ctid = (SELECT min(ctid) FROM snap.visits_late WHERE n = $snapshots)" ],
	[ 'totals', "DELETE FROM snap.totals WHERE ctid = (SELECT max(ctid) FROM snap.totals WHERE n = $snapshots)" ],
	[ 'large', "INSERT INTO snap.large SELECT * FROM snap.large WHERE n = $snapshots LIMIT 1" ])
{
	my ($view, $sql) = @$anomaly;
	my $run = sub {
		my ($stdout, $stderr);

		$node->psql('postgres', "BEGIN; $sql; $_[0]; ROLLBACK", stdout => \$stdout, stderr => \$stderr, extra_params => ['-q'], on_error_die => 1);
		return $stdout;
	};

	ok(scalar problems_of($snapshots, $view, $run), "an anomaly in $view would have been found");
}

#
# More workers than partitions, partitions that are idle, new ones; a worker that
# cannot go on.
#
run_sql('DROP FOREIGN TABLE trades CASCADE');
$broker->create_topic('few', 2);
run_sql(q{
CREATE FOREIGN TABLE few (id int, at timestamptz, part int OPTIONS (metadata 'partition'))
  SERVER shop OPTIONS (topic 'few', event_time 'at', out_of_orderness '0', idle_timeout '500 ms', on_error 'stop')});

# Events with these numbers, a second apart.
sub send_events
{
	my ($partition, @ids) = @_;

	$broker->produce_records('few', $partition, map { sprintf('{"id": %d, "at": "2024-01-01T%02d:%02d:%02dZ"}', $_, $_ / 3600, $_ / 60 % 60, $_ % 60) } @ids);
	return;
}

send_events(0, 0 .. 9);
run_sql(q{CREATE VIEW few_all WITH (pipeline.continuous, pipeline.workers = 4) AS SELECT date_trunc('minute', at) AS m, count(*) AS n, sum(id) AS s FROM few GROUP BY m});
run_sql(q{CREATE VIEW few_new WITH (pipeline.continuous, pipeline.workers = 4, pipeline.start = 'latest') AS SELECT id, part FROM few});
$node->until_true("SELECT count(*) = 2 AND sum(n) = 8 FROM (SELECT view, count(*) AS n FROM pipeline.stat_workers WHERE view IS NOT NULL GROUP BY 1) w");
# what was there when it began is not read
$node->until_true("SELECT count(*) = 2 AND max(start_offset) = 10 FROM pipeline.stat_partitions WHERE view = 'few_new'::regclass");
$node->until_true("SELECT bool_and(c.seq > 0) FROM pipeline_data.checkpoints c");
send_events(0, 10 .. 69);
wait_for_views();
$node->until_true("SELECT string_agg(n || ' ' || s, ', ' ORDER BY m) LIKE '60 1770%' FROM few_all");
pass('a partition without events holds nobody up, nor do workers without partitions');
$node->until_true("SELECT string_agg(n || ' ' || s, ', ' ORDER BY m) = '60 1770, 10 645' FROM few_all");
pass('when all is quiet the last windows close by the clock');
send_events(1, 50);
wait_for_views();
is(run_sql(q{SELECT count(*) || ' ' || min(cardinality(late_windows)) FROM few_all_late}), '1 1', 'an event for a window that has closed is late');
is(run_sql('SELECT count(*) || \' \' || sum(id) FROM few_new'), (60 + 1) . ' ' . (2415 - 45 + 50), 'the other view has all that came');

# Partitions 2 and 3 come into being, for the workers that have none.
$broker->add_partitions('few', 4);
send_events($_, 130 + $_) for 0 .. 3;
$node->until_true("SELECT count(*) = 4 FROM pipeline.stat_partitions WHERE view = 'few_new'::regclass", 60);
wait_for_views();
is(run_sql("SELECT string_agg(id || ':' || part, ' ' ORDER BY id) FROM few_new WHERE id > 100"), '130:0 131:1 132:2 133:3', 'new partitions are read from their beginning');

# Paused, altered, resumed: positions are handed round all the same.
run_sql("SELECT pipeline.pause('few_new')");
run_sql('ALTER VIEW few_new SET (pipeline.workers = 1)');
send_events($_, 140 + $_) for 0 .. 3;
is(run_sql("SELECT count(*) FROM pipeline.stat_partitions WHERE view = 'few_new'::regclass"), 4, 'one worker has all partitions');
run_sql("SELECT pipeline.resume('few_new')");
wait_for_views();
is(run_sql("SELECT string_agg(id || ':' || part, ' ' ORDER BY id) FROM few_new WHERE id >= 140"), '140:0 141:1 142:2 143:3', 'and goes on where the four were');
is(run_sql("SELECT count(*) FROM pipeline.stat_workers WHERE view = 'few_new'::regclass"), 1, 'alone');

# A record that one worker cannot process stops all of them, with the reason.
$broker->produce_records('few', 3, '{"id": "x", "at": "2024-01-01T00:10:00Z"}');
$node->until_true("SELECT bool_and(state = 'stopped') FROM pipeline.views");
like(run_sql("SELECT reason FROM pipeline.views WHERE view = 'few_all'::regclass"), qr/cannot be processed/, 'the view has stopped, with the reason');
$node->until_true("SELECT count(*) = 0 FROM pipeline.stat_workers WHERE kind = 'worker'");
pass('and none of its workers runs on');
is(run_sql("SELECT string_agg(next_offset::text, ' ' ORDER BY partition) FROM pipeline.stat_partitions WHERE view = 'few_all'::regclass"), '72 3 2 2', 'in front of the record');
run_sql("ALTER FOREIGN TABLE few OPTIONS (SET on_error 'skip')");
run_sql("SELECT pipeline.resume(view) FROM pipeline.views");
wait_for_views();
is(run_sql('SELECT skipped FROM pipeline.stat_views ORDER BY view::text'), "1\n1", 'resumed, they go on');

# Workers that the server has no room for keep the others waiting, and that shows.
$node->append_conf('postgresql.conf', 'max_worker_processes = 4');
$node->restart;
$node->until_true("SELECT count(*) = 2 FROM pipeline.stat_workers WHERE kind = 'worker' AND activity = 'waiting for events'");
$node->until_true("SELECT activity = 'waiting for a background worker slot' FROM pipeline.stat_views WHERE view = 'few_all'::regclass");
pass('a view says that one of its workers is missing');
my ($status, undef, $warning) = $node->psql('postgres', 'ALTER VIEW few_all SET (pipeline.workers = 5)');
like($warning, qr/max_worker_processes is too low/, 'ALTER warns of it');
run_sql("SELECT pipeline.pause('few_all')");
$node->until_true("SELECT activity = 'paused' FROM pipeline.stat_views WHERE view = 'few_all'::regclass");
pass('workers that never ran are paused like the others');

# What cannot be closed without the others is not piled up.
my $at = q{SELECT next_offset FROM pipeline.stat_partitions WHERE view = 'few_all'::regclass AND "partition" = 0};
my $before = run_sql($at);

run_sql(q{SELECT pipeline.pause('few_new'), pipeline.resume('few_all')});
$node->until_true("SELECT count(*) = 2 FROM pipeline.stat_workers WHERE view = 'few_all'::regclass");
send_events(0, 200 .. 3599);
$node->until_true("SELECT ($at) > $before");
ok(holds_for(1, sub { run_sql($at) < $before + 2000 }), 'a worker waits for those that are missing');
$node->append_conf('postgresql.conf', 'max_worker_processes = 50');
$node->restart;
$node->until_true("SELECT ($at) = $before + 3400");
run_sql(q{SELECT pipeline.resume('few_new')});
wait_for_views();
$node->until_true(q{SELECT sum(n) = 3360 AND count(*) = 56 FROM few_all WHERE m >= '2024-01-01 00:04:00Z'});
pass('when they are there it reads on');

#
# With one worker again a view is like any other, although it has open windows
# that several workers had parts of; where it cannot be yet, it says so.
#
run_sql(q{ALTER FOREIGN TABLE few OPTIONS (SET idle_timeout 'off')});
run_sql(q{CREATE VIEW few_longest WITH (pipeline.continuous, pipeline.workers = 3) AS SELECT date_trunc('minute', at) AS m, longest(id::text) AS l, count(*) AS n FROM few GROUP BY m});
send_events($_, 3600 + $_, 3604 + $_) for 0 .. 3;
wait_for_views();
is(run_sql(q{SELECT sum(n), max(m) < '2024-01-01 01:00:00Z' FROM few_all WHERE m >= '2024-01-01 00:04:00Z'}), '3360|t', 'a window is open that all workers have a part of');
$before = run_sql("SELECT events_in, late FROM pipeline.stat_views WHERE view = 'few_all'::regclass");
alter_workers('few_all', 1);
alter_workers('few_longest', 1);
$node->until_true(q{SELECT count(*) = 1 FROM pipeline_data.shards});
is(run_sql(q{SELECT v.view, s.number IS NULL FROM pipeline_data.shards s JOIN pipeline_data.views v ON v.id = s.view}), 'few_longest|t', 'nothing is left of the other workers, but where rows were kept for them');
like(($node->psql('postgres', 'CREATE VIEW few_r WITH (pipeline.continuous) AS SELECT m, n FROM few_longest'))[2], qr/taking over what the others kept/, 'which is said');
is(run_sql("SELECT events_in, late FROM pipeline.stat_views WHERE view = 'few_all'::regclass"), $before, 'counters are the same');
run_sql(q{CREATE VIEW few_read WITH (pipeline.continuous) AS SELECT m, n, s FROM few_all});
send_events(2, 3620);
run_sql("SELECT pipeline.wait_for('few_all', '30 seconds'), pipeline.advance_watermark('few', '2024-01-01 01:02:00Z')");
wait_for_views();
$node->until_true(q{SELECT array_agg(n || ' ' || s) = '{9 32448}' FROM few_all WHERE m = '2024-01-01 01:00:00Z'});
$node->until_true('SELECT count(*) = 0 FROM (SELECT m, n, s FROM few_all EXCEPT ALL SELECT m, n, s FROM few_read) x');
pass('its windows are whole, and another view reads it');
is(run_sql(q{SELECT l, n FROM few_longest WHERE m = '2024-01-01 01:00:00Z'}), '3620|9', 'so are those whose rows were kept');
$node->until_true(q{SELECT count(*) = 0 FROM pipeline_data.shards});
is(run_sql('SELECT count(*) FROM pipeline_data.checkpoints c WHERE NOT EXISTS (SELECT FROM pipeline_data.views WHERE id = c.task)'), 0, 'and then nothing is left there either');
is(run_sql(q{SELECT bool_and(pipeline.verify_state(view)) FROM pipeline.views WHERE view::text IN ('few_all', 'few_longest')}), 't', 'their state is what is saved');

my $log = slurp_file($node->logfile);
unlike($log, qr/PANIC|TRAP:|terminated by signal (?!9\b)\d+|leak:|refcount leak/, 'the log shows no internal error');

$node->stop;
done_testing();
