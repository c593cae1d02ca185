# Views over views whose rows change, through every end of a worker or a server, with random
# queries, larger than memory, and as others see them meanwhile.  If this failed, something would
# have been taken back twice, or never, or what was never there.
#
# PIPELINE_SEED repeats a run, PIPELINE_ROUNDS says how often rows come.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use PostgreSQL::Test::Utils;
use Test::More;

use PipelineNode;

my $seed = $ENV{PIPELINE_SEED} || int(rand(1_000_000));
my $rounds = $ENV{PIPELINE_ROUNDS} || 10;
my $node = PipelineNode->create('changes_as_input', conf => "timezone = 'UTC'\nmax_worker_processes = 100\nmax_connections = 60\npipeline.random_batches = on\npipeline.batch_size = 300\n");
my $rows = 0;
my %expected;

diag("PIPELINE_SEED=$seed");
srand($seed);

sub run_sql { return $node->sql($_[0]); }

sub create
{
	my ($view, $query, $options, $expected) = @_;

	run_sql('CREATE VIEW ' . $view . ' WITH (pipeline.continuous' . ($options // '') . ") AS $query");
	$expected{$view} = $expected // $query;
	return;
}

sub insert_rows
{
	my ($n, $keys) = @_;
	my ($first, $last) = ($rows + 1, $rows + $n);

	$rows = $last;
	run_sql(qq{INSERT INTO events SELECT i, timestamptz '2024-01-01' + i * interval '1 second' - (random() * 4)::int * interval '1 second',
  nullif((random() * $keys)::int, 3), (random() * 4)::int, nullif((random() * 40)::int - 20, 0),
  CASE WHEN random() < 0.9 THEN round((random() * 100)::numeric, (random() * 4)::int) END, nullif('t' || (random() * 9)::int, 't4')
  FROM generate_series($first, $last) i});
	return;
}

# Upstream ones first: what is read stands still when its readers are asked.
sub check
{
	my ($when, @views) = @_;
	my @wrong;

	for my $view (@views)
	{
		$node->wait_for($view, 120);
	}
	for my $view (@views)
	{
		my $difference = $node->rows_differ("SELECT * FROM $view", $expected{$view});

		push @wrong, "$view ($expected{$view}): $difference" if $difference ne '';
		push @wrong, "$view: state differs from its chunks" if run_sql("SELECT pipeline.verify_state('$view')") ne 't';
	}
	push @wrong, run_sql('SELECT view, dead_letters FROM pipeline.stat_views WHERE dead_letters > 0');
	is_deeply([ grep { $_ ne '' } @wrong ], [], "$when: all levels are right");
	return;
}

run_sql(q{CREATE FOREIGN TABLE events (id bigint, at timestamptz, k int, g int, v int, x numeric, t text) SERVER pipeline_local
  OPTIONS (event_time 'at', out_of_orderness '5 seconds', idle_timeout 'off')});
insert_rows(300, 60);
run_sql(q{CREATE VIEW customers WITH (pipeline.continuous) AS SELECT k, count(*) AS n, sum(v) AS s, max(x) AS best, min(t) AS t FROM events GROUP BY k});
run_sql(q{CREATE VIEW busy WITH (pipeline.continuous) AS SELECT k, g, 10 * count(*) AS n, sum(x) AS x FROM events GROUP BY k, g HAVING count(*) % 3 > 0});
run_sql(q{CREATE VIEW minutes WITH (pipeline.continuous, pipeline.emit = 'changes') AS SELECT pipeline.tumble(at, '1 minute') AS w, g, count(*) AS c, max(v) AS v FROM events GROUP BY w, g});
run_sql(q{CREATE VIEW sessions WITH (pipeline.continuous, pipeline.emit = 'changes') AS SELECT k, pipeline.session(at, '20 seconds') AS ses, count(*) AS c FROM events GROUP BY k, ses});
run_sql(q{CREATE VIEW fives WITH (pipeline.continuous, pipeline.emit = 'changes') AS SELECT k, pipeline.count_window(5) AS w, count(*) AS c, sum(v) AS s FROM events GROUP BY k, w});
create('histogram', 'SELECT n, count(*) AS c, sum(s) AS s FROM customers GROUP BY n');
create('third', 'SELECT c, count(*) AS m, sum(n) AS n FROM histogram GROUP BY c');
create('fourth', 'SELECT m, count(*) AS c FROM third GROUP BY m');
create('averages', 'SELECT k % 5 AS g, avg(best) AS mean, sum(best) AS total, count(t) AS t FROM customers GROUP BY k % 5');
create('total', 'SELECT sum(n) AS n, avg(s) AS s, count(*) FILTER (WHERE s IS NULL) AS nulls FROM customers');
create('busiest', 'SELECT g, sum(n) AS n, sum(x) AS x, avg(x) AS mean, count(*) AS c FROM busy GROUP BY g');
create('by_g', 'SELECT g, sum(c) AS c, avg(v) AS v FROM minutes GROUP BY g');
create('by_session', 'SELECT c, count(*) AS sessions FROM sessions GROUP BY c');
create('by_five', 'SELECT k, count(*) AS n, sum(c) AS c, sum(s) AS s FROM fives GROUP BY k');
create('closed', q{SELECT pipeline.hop(upper(w) - interval '1 microsecond', '4 minutes', '2 minutes') AS h, sum(c) AS c, max(v) AS v, count(*) AS n FROM minutes GROUP BY h}, '',
	q{SELECT h, sum(c), max(v), count(*) FROM minutes, pipeline.hop(upper(w) - interval '1 microsecond', '4 minutes', '2 minutes') AS h WHERE upper(h) <= pipeline.watermark('minutes') GROUP BY h});
create('top', q{SELECT * FROM (SELECT w, g, c, row_number() OVER (PARTITION BY pipeline.tumble(upper(w) - interval '1 microsecond', '1 minute') ORDER BY c DESC, g) AS r FROM minutes) x WHERE r <= 2}, '',
	q{SELECT * FROM (SELECT w, g, c, row_number() OVER (PARTITION BY w ORDER BY c DESC, g) AS r FROM minutes WHERE upper(w) <= pipeline.watermark('minutes')) x WHERE r <= 2});
my @chain = qw(histogram third fourth averages total busiest by_g by_session by_five closed top);

check('at first', @chain);
my %ends = (
	'fast restart' => sub { $node->stop('fast'); $node->start; },
	'immediate restart' => sub { $node->stop('immediate'); $node->start; },
	'kill of the postmaster' => sub { $node->kill_postmaster; },
	'kill of a lower worker' => sub { $node->kill_worker('customers'); },
	'kill of a reader' => sub { $node->kill_worker('histogram'); },
	'end of a lower worker' => sub { $node->kill_worker('minutes', 'TERM'); },
	'end of readers' => sub { $node->kill_worker($_, 'TERM') for qw(third averages closed) });

for my $end (sort keys %ends)
{
	insert_rows(1500, 60);
	$ends{$end}->();
	insert_rows(500, 60);
	check($end, @chain);
}
is(run_sql('SELECT sum(n) FROM customers'), $rows, 'and nothing was lost below');
is(run_sql('SELECT sum(c * n) FROM histogram'), $rows, 'nor above');

# As others see it meanwhile: customers change at once, never without being anywhere or twice.
my $customers = run_sql('SELECT count(*) FROM customers');
my ($status, $out, $err) = $node->psql('postgres', qq{DO \$\$ BEGIN FOR i IN 1 .. 400 LOOP
  INSERT INTO events SELECT 0, timestamptz '2024-01-02' + i * interval '1 second', 10 + j % 20, 1, 1, 1, 't' FROM generate_series(1, i % 50 + 1) j;
  COMMIT;
  IF (SELECT sum(c) FROM histogram) <> $customers THEN
    RAISE EXCEPTION 'there are % customers', (SELECT sum(c) FROM histogram);
  END IF;
END LOOP; END \$\$});
is($err, '', 'what changed at once is seen at once');
check('after that', @chain);

# Readers come and go while rows do; one that is dropped holds nobody up.
for my $i (1 .. 4)
{
	insert_rows(700, 60);
	create("guest_$i", 'SELECT n, count(*) AS c, sum(best) AS total FROM customers GROUP BY n');
	insert_rows(300, 60);
	run_sql('DROP VIEW guest_' . ($i - 1)) if $i == 3;
}
check('with guests', qw(guest_1 guest_3 guest_4));
run_sql('DROP VIEW guest_1, guest_3, guest_4');
run_sql(q{ALTER VIEW customers SET (pipeline.checkpoint_interval = '50 milliseconds')});
run_sql(q{ALTER VIEW histogram SET (pipeline.emit_interval = '200 milliseconds')});
run_sql(q{SELECT pipeline.pause('third')});
insert_rows(700, 60);
my ($refused, undef, $why) = $node->psql('postgres', 'ALTER VIEW customers SET (pipeline.workers = 2)');
like($why, qr/cannot have several workers/, 'a view that is read stays with one worker');
run_sql(q{SELECT pipeline.resume('third')});
check('altered and paused', @chain);
($refused, undef, $why) = $node->psql('postgres', q{CALL pipeline.replay('histogram')});
like($why, qr/cannot be replayed/, 'what was taken back cannot be replayed');

# A dump keeps what a reader gets.
my $dump = $node->basedir . '/dump.sql';
run_sql('SELECT pipeline.pause(view) FROM pipeline.views');
$node->command_ok([ 'pg_dump', '-f', $dump, $node->connstr('postgres') ], 'dump');
run_sql('CREATE DATABASE copy');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $dump, $node->connstr('copy') ], 'restore');
$node->safe_psql('copy', 'SELECT pipeline.adopt(); SELECT pipeline.resume(view) FROM pipeline.views');
$node->safe_psql('copy', q{INSERT INTO events SELECT i, timestamptz '2024-02-01' + i * interval '1 second', i % 70, i % 5, i, i / 3.0, 't' FROM generate_series(1, 2000) i});
is($node->safe_psql('copy', qq{SELECT pipeline.wait_for('$_', '60 seconds')}), 't', "$_ goes on in the copy") for qw(histogram averages third);
is($node->safe_psql('copy', "SELECT count(*) FROM (SELECT * FROM $_ EXCEPT ALL ($expected{$_})) x"), 0, "$_ is right there") for qw(histogram averages third);
$node->safe_psql('copy', 'DROP FOREIGN TABLE events CASCADE');
run_sql('DROP DATABASE copy WITH (FORCE)');
run_sql('SELECT pipeline.resume(view) FROM pipeline.views');
run_sql('DROP FOREIGN TABLE events CASCADE');

# Random queries at three levels.
sub pick { return $_[ int(rand(@_)) ]; }

sub some
{
	my @all = @_;
	my @some = grep { rand() < 0.4 } @all;

	return @some ? @some : (pick(@all));
}

sub named
{
	my $i = 0;

	return join(', ', map { $_ . ' AS a' . ++$i } @_);
}

sub random_views
{
	my ($i) = @_;
	my $keys = pick('k', 'k, g', 'g', 't');
	my $having = pick('', '', ' HAVING count(*) % 2 = 0', ' HAVING sum(v) > 5', ' HAVING max(x) IS NOT NULL');
	my $where = pick('', '', ' WHERE n > 2', ' WHERE x > 50', ' WHERE best IS NOT NULL');
	my $group = pick('', 'n', 'n % 3', 'best', 's IS NULL', 'n, best');
	my @aggregates = some(
		'count(*)', 'count(s)', 'sum(n)', 'sum(s)', 'avg(s)', 'sum(x)', 'avg(x)', 'bool_and(n > 3)', 'bool_or(s > 0)', 'sum(x) FILTER (WHERE n < 9)', 'count(*) FILTER (WHERE s > 10)',
		'stddev(n::int)', 'var_samp(s)', 'avg(n::smallint)', q{sum(n * interval '1 hour')}, 'sum(n::money)', 'avg(x) FILTER (WHERE best > 10)');

	run_sql("CREATE VIEW low_$i WITH (pipeline.continuous) AS SELECT $keys, count(*) AS n, sum(v) AS s, sum(x) AS x, max(v) AS best FROM r GROUP BY $keys$having");
	create("middle_$i", 'SELECT ' . ($group eq '' ? '' : "$group, ") . named(@aggregates) . " FROM low_$i$where" . ($group eq '' ? '' : " GROUP BY $group"));
	create("high_$i", "SELECT a1, count(*) AS c FROM middle_$i GROUP BY a1");
	return ("middle_$i", "high_$i");
}

run_sql(q{CREATE FOREIGN TABLE r (k int, g int, v int, x numeric, t text) SERVER pipeline_local});
my @random = map { random_views($_) } 1 .. 8;
for my $round (1 .. $rounds)
{
	my $n = pick(1, 7, 50, 400);
	my $keys = pick(3, 10, 40);

	for (1 .. 3)
	{
		run_sql(qq{INSERT INTO r SELECT nullif((random() * $keys)::int, 2), (random() * 3)::int, nullif((random() * 40)::int - 20, 0),
  CASE WHEN random() < 0.8 THEN round((random() * 100)::numeric, (random() * 3)::int) END, nullif('t' || (random() * $keys)::int, 't1') FROM generate_series(1, $n)});
	}
	$node->kill_worker(pick(@random), 'TERM') if $round % 3 == 0;
	check("random queries, round $round", @random);
}
run_sql('DROP FOREIGN TABLE r CASCADE');

# Idle: the clock completes windows below; those above wait until the ones below take no more events.
my $hour = run_sql(q{SELECT date_trunc('hour', now())});
run_sql(qq{
CREATE FOREIGN TABLE quiet (at timestamptz, v int) SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '5 seconds', max_ahead 'off');
CREATE VIEW quiet_open WITH (pipeline.continuous, pipeline.emit = 'changes') AS SELECT pipeline.tumble(at, '1 minute') AS w, count(*) AS c FROM quiet GROUP BY w;
CREATE VIEW quiet_graced WITH (pipeline.continuous, pipeline.allowed_lateness = '3 hours') AS SELECT pipeline.tumble(at, '1 minute') AS w, count(*) AS c FROM quiet GROUP BY w;
CREATE VIEW open_hours WITH (pipeline.continuous) AS SELECT pipeline.tumble(upper(w) - interval '1 microsecond', '1 hour') AS h, sum(c) AS c FROM quiet_open GROUP BY h;
CREATE VIEW graced_hours WITH (pipeline.continuous) AS SELECT pipeline.tumble(upper(w) - interval '1 microsecond', '1 hour') AS h, sum(c) AS c FROM quiet_graced GROUP BY h;
INSERT INTO quiet SELECT timestamptz '$hour' + i * interval '1 second', i FROM generate_series(1, 59) i});
$node->wait_for('open_hours');
run_sql(q{SELECT pipeline.shift_clock('61 minutes')});
$node->until_true('SELECT sum(c) = 59 FROM open_hours');
$node->until_true('SELECT sum(c) = 59 FROM quiet_graced');
run_sql(q{SELECT pipeline.shift_clock('200 minutes')});
run_sql(qq{INSERT INTO quiet VALUES (timestamptz '$hour' + interval '30 seconds', 60)});
$node->wait_for('graced_hours');
is(run_sql('SELECT sum(c) FROM quiet_graced'), 60, 'a late event was admitted');
is(run_sql('SELECT count(*) FROM graced_hours'), 0, 'nothing is final yet');
run_sql(qq{INSERT INTO quiet VALUES (timestamptz '$hour' + interval '10 hours', 61)});
$node->wait_for('graced_hours');
is(run_sql('SELECT sum(c) FROM graced_hours'), 60, 'and then all is');
is(run_sql('SELECT (SELECT count(*) FROM graced_hours_late) + (SELECT count(*) FROM open_hours_late)'), 0, 'nothing was late for the windows above');
run_sql('DROP FOREIGN TABLE quiet CASCADE');

# Larger than memory; groups that are empty are not written for ever.
$node->append_conf('postgresql.conf', "pipeline.state_memory = '8MB'\npipeline.random_batches = off\npipeline.batch_size = 5000\nautovacuum = off\n");
$node->restart;
run_sql(q{CREATE FOREIGN TABLE m (k int, v int) SERVER pipeline_local});
run_sql(q{CREATE VIEW sums WITH (pipeline.continuous) AS SELECT k, sum(v) AS s, count(*) AS n FROM m GROUP BY k});
create('of_sums', 'SELECT s, k % 1000 AS k, count(*) AS c, sum(n) AS n FROM sums GROUP BY s, k % 1000');
create('sums_of_n', 'SELECT n, count(*) AS c FROM sums GROUP BY n');
for my $round (1 .. 4)
{
	run_sql("INSERT INTO m SELECT (i::bigint * 7919 + $round) % 80000, i % 100 + $round * 1000 FROM generate_series(1, 60000) i");
	$node->kill_worker('of_sums', 'TERM') if $round == 3;
	check("larger than memory, round $round", qw(of_sums sums_of_n));
}
cmp_ok(run_sql(q{SELECT state_evictions FROM pipeline.stat_views WHERE view = 'of_sums'::regclass}), '>', 0, 'some of its state is on disk');
for my $round (5 .. 12)
{
	run_sql("INSERT INTO m SELECT (i::bigint * 7919 + $round) % 80000, i % 100 + $round * 1000 FROM generate_series(1, 60000) i");
	check("larger than memory, round $round", qw(of_sums sums_of_n));
}
diag(run_sql(q{SELECT view, groups, chunk_bytes FROM pipeline.stat_views WHERE view IN ('of_sums'::regclass, 'sums'::regclass)}));
$node->kill_postmaster;
run_sql('INSERT INTO m SELECT i, 1 FROM generate_series(1, 3000) i');
check('larger than memory, after a crash', qw(of_sums sums_of_n));

$node->stop('fast');
done_testing();
