# Views get columns while events come, workers, sessions and servers are killed, and state is larger than
# memory.  If this failed, pipeline.alter() would lose events or count them twice, or a new column would
# show what is of a part of its events; or an alteration that was not committed would leave something behind.
#
# Events are numbered in the order in which they are inserted, by one session.  With each alteration its
# transaction notes how many of them the view has read: a new column must be that of the events from there on,
# and in windows null wherever there was one before.  PIPELINE_SEED repeats the random moments.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use PipelineNode;
use QueryGenerator;

my $seed = $ENV{PIPELINE_SEED} || time % 100000;
my $random = QueryGenerator->new(seed => $seed);

diag("PIPELINE_SEED=$seed");
my $node = PipelineNode->create('alter', conf => "timezone = 'UTC'\nmax_worker_processes = 40\nmax_connections = 40\npipeline.state_memory = '8MB'\n"
	  . "pipeline.checkpoint_interval = '50ms'\npipeline.batch_size = 200\n");

sub run_sql { return $node->safe_psql('postgres', $_[0]); }

sub start_sql
{
	my ($sql) = @_;
	my ($out, $err) = ('', '');
	my $handle = IPC::Run::start([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), '-c', $sql ], '<', \undef, '>', \$out, '2>', \$err);

	return { handle => $handle, err => \$err };
}

# A session that is in a transaction and stays there until it is told what else to do.
sub open_session
{
	my ($sql) = @_;
	my $session = { in => "BEGIN ISOLATION LEVEL REPEATABLE READ;\n$sql;\n\\echo there\n", out => '', err => '' };

	$session->{handle} = IPC::Run::start([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres') ],
		'<', \$session->{in}, '>', \$session->{out}, '2>', \$session->{err}, IPC::Run::timeout(180));
	$session->{handle}->pump until $session->{out} =~ /there/;
	return $session;
}

# Each with its query, of which {new} stands for columns that come, and the batch query it is compared with; {new} then
# stands for what they must be.  The query has no more than the columns, and {since} is where an alteration was.
my %views = (
	minutes => {
		query => q{SELECT k, pipeline.tumble(at, '20 seconds') AS w, count(*) AS c, sum(n) AS s{new} FROM events GROUP BY k, w},
		batch => q{SELECT k, w, count(*), sum(n){new} FROM archive, pipeline.tumble(at, '20 seconds') w WHERE upper(w) <= pipeline.watermark('minutes') GROUP BY k, w},
		column => 'sum(n * {i})', new => 'CASE WHEN min(pos) >= {since} THEN sum(n * {i}) END' },
	hops => {
		query => q{SELECT k % 3 AS k3, w, count(*) AS c, avg(x) AS mean{new} FROM events, pipeline.hop(at, '1 minute', '14 seconds') AS w GROUP BY k3, w},
		batch => q{SELECT k % 3, w, count(*), avg(x){new} FROM archive, pipeline.hop(at, '1 minute', '14 seconds') w WHERE upper(w) <= pipeline.watermark('hops') GROUP BY 1, 2},
		column => 'max(x * {i})', new => 'CASE WHEN min(pos) >= {since} THEN max(x * {i}) END' },
	open => {
		query => q{SELECT k, pipeline.tumble(at, '30 seconds') AS w, sum(x) AS s{new} FROM events GROUP BY k, w HAVING count(*) > 0},
		batch => q{SELECT k, w, sum(x){new} FROM archive, pipeline.tumble(at, '30 seconds') w GROUP BY k, w},
		column => 'count(DISTINCT n % (3 + {i}))', new => 'CASE WHEN min(pos) >= {since} THEN count(DISTINCT n % (3 + {i})) END' },
	sessions => {
		query => q{SELECT k, pipeline.session(at, '20 seconds') AS w, count(*) AS c{new} FROM events WHERE pos / 200 % 2 = k % 2 GROUP BY k, w},
		batch => q{SELECT k, pipeline_range(at), count(*){new} FROM (SELECT * FROM archive WHERE pos / 200 % 2 = k % 2) a GROUP BY k, pos / 200 HAVING max(at) + interval '20 seconds' < pipeline.watermark('sessions')},
		column => 'sum(x * {i})', new => 'CASE WHEN min(pos) >= {since} THEN sum(x * {i}) END' },
	totals => {
		query => q{SELECT k, count(*) AS c, max(n) AS m{new} FROM events GROUP BY k HAVING sum(n) >= 0},
		batch => q{SELECT k, count(*), max(n){new} FROM archive GROUP BY k},
		column => 'sum(n * {i})', new => 'sum(n * {i}) FILTER (WHERE pos >= {since})' },
	plain => {
		query => q{SELECT pos, k{new} FROM events WHERE n > 20},
		batch => q{SELECT pos, k{new} FROM archive WHERE n > 20},
		column => 'n * {i} + k', new => 'CASE WHEN pos >= {since} THEN n * {i} + k END' },
	lists => {
		query => q{SELECT pipeline.tumble(at, '20 seconds') AS w, string_agg(k::text, '' ORDER BY pos) AS l{new} FROM events GROUP BY w},
		batch => undef, column => 'count(k) * {i}' });
my @names = sort keys %views;

sub query_of
{
	my ($view, $n) = @_;
	my $new = join('', map { my $i = $_; ", $views{$view}{column} AS new$i" =~ s/\{i\}/$i/gr } 1 .. $n);

	return $views{$view}{query} =~ s/\{new\}/$new/r;
}

run_sql(q{
CREATE FOREIGN TABLE events (pos int, at timestamptz, k int, n int, x numeric) SERVER pipeline_local
  OPTIONS (event_time 'at', out_of_orderness '5 seconds', idle_timeout 'off', retention '1 day');
CREATE TABLE archive (pos int, at timestamptz, k int, n int, x numeric);
CREATE FUNCTION range_step(tstzrange, timestamptz) RETURNS tstzrange LANGUAGE sql IMMUTABLE AS
  $$SELECT tstzrange(LEAST(lower($1), $2), GREATEST(upper($1), $2 + interval '20 seconds'))$$;
CREATE AGGREGATE pipeline_range(timestamptz) (SFUNC = range_step, STYPE = tstzrange);
CREATE TABLE altered (view text, n int, since bigint);
CREATE FUNCTION alter_view(v text, number int, query text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pipeline.alter(v::regclass, query);
  INSERT INTO altered SELECT v, number, coalesce(max(p.next_offset), 0) FROM pipeline_data.views w JOIN pipeline_data.checkpoints c ON c.task = w.id, pipeline_data.partitions(c.partitions) p WHERE w.view = v::regclass;
END $$;
CREATE PROCEDURE produce(first int, rounds int) LANGUAGE plpgsql AS $$
BEGIN
  FOR r IN 0 .. rounds - 1 LOOP
    INSERT INTO archive SELECT i, timestamptz '2024-01-01' + (i - i % 3) * interval '0.5 second', i % 7, i % 101, i / 3.0 FROM generate_series(first + r * 20, first + r * 20 + 19) i;
    INSERT INTO events SELECT * FROM archive WHERE pos BETWEEN first + r * 20 AND first + r * 20 + 19 ORDER BY pos;
    COMMIT;
  END LOOP;
END $$});
run_sql('CREATE VIEW ' . $_ . ' WITH (pipeline.continuous' . ($_ eq 'open' ? ", pipeline.emit = 'changes'" : '') . ') AS ' . query_of($_, 0)) for @names;

my %altered = map { $_ => 0 } @names;

# Go on where the last one was interrupted, if it was.
sub produce
{
	my ($rounds) = @_;
	my $first = run_sql('SELECT coalesce(max(pos), -1) + 1 FROM archive');

	return start_sql("CALL produce($first, $rounds)");
}

sub alteration
{
	my ($view) = @_;
	my $n = $altered{$view} + 1;

	return "SELECT alter_view('$view', $n, \$\$" . query_of($view, $n) . '$$)';
}

sub alter_view
{
	my ($view) = @_;

	run_sql(alteration($view));
	$altered{$view}++;
	return;
}

sub check
{
	my ($when) = @_;

	$node->wait_for($_) for @names;
	for my $view (grep { $views{$_}{batch} } @names)
	{
		my @since = split /\n/, run_sql("SELECT since FROM altered WHERE view = '$view' ORDER BY n");
		my $new = join('', map { my ($i, $s) = ($_, $since[ $_ - 1 ]); ", $views{$view}{new}" =~ s/\{i\}/$i/gr =~ s/\{since\}/$s/gr } 1 .. @since);

		is(scalar @since, $altered{$view}, "$when: $view was altered $altered{$view} times");
		is($node->rows_differ("SELECT * FROM $view", $views{$view}{batch} =~ s/\{new\}/$new/r), '', "$when: $view");
	}
	is(run_sql(q{SELECT count(*) FROM lists l, LATERAL (SELECT string_agg(k::text, '' ORDER BY pos) AS l, count(k) AS c FROM archive WHERE at >= lower(w) AND at < upper(w)) a
		WHERE l.l <> a.l} . join('', map { " OR l.new$_ <> a.c * $_" } 1 .. $altered{lists})), 0, "$when: lists");
	is(run_sql(q{SELECT count(*) FROM pipeline.stat_views WHERE state <> 'running' OR dead_letters + late > 0 OR events_in <> (SELECT count(*) FROM archive) OR NOT pipeline.verify_state(view)}), 0, "$when: each event once");
	return;
}

produce(100)->{handle}->finish;
check('at first');

# While events come.
my $events = produce(150);
for (1 .. 2)
{
	alter_view($_) for sort { $random->chance(0.5) ? -1 : 1 } @names;
}
$events->{handle}->finish;
check('while events come');
cmp_ok(run_sql('SELECT count(DISTINCT since) FROM altered'), '>', 3, 'at several places');

# A transaction that is not committed leaves nothing, however it ends: rolled back, or killed with the server.
$events = produce(150);
my @columns = map { run_sql("SELECT count(*) FROM pg_attribute WHERE attrelid = '$_'::regclass AND attnum > 0") } @names;
run_sql('BEGIN; ' . join('; ', map { alteration($_) } @names) . '; ROLLBACK');
for my $how (qw(session worker postmaster))
{
	my $session = open_session("SELECT 'pid ' || pg_backend_pid(); " . join('; ', map { alteration($_) } @names));

	if ($how eq 'session')
	{
		my $started = $node->started_at;

		kill('KILL', $session->{out} =~ /pid (\d+)/);
		$node->until_true("SELECT backend_start > '$started' FROM pg_stat_activity WHERE backend_type = 'checkpointer'");
	}
	elsif ($how eq 'worker')
	{
		$node->kill_worker($random->pick(@names));
	}
	else
	{
		$node->kill_postmaster;
	}
	$session->{in} .= "\\q\n";
	eval { $session->{handle}->finish };
	is_deeply([ map { run_sql("SELECT count(*) FROM pg_attribute WHERE attrelid = '$_'::regclass AND attnum > 0") } @names ], \@columns, "no columns when the $how was killed");
	$events->{handle}->finish;
	$events = produce(60);
}
$events->{handle}->finish;
check('after alterations that were lost');

# And one that is committed is there, whatever is killed at once.
for my $how (1 .. 4)
{
	$events = produce(60);
	alter_view($_) for $random->pick(@names), $how > 2 ? () : $random->pick(@names);
	if ($how % 2)
	{
		$node->kill_worker($random->pick(@names));
	}
	else
	{
		$node->kill_postmaster;
	}
	$events->{handle}->finish;
}
produce(50)->{handle}->finish;
check('after kills');

# Somebody who is in the middle of reading sees the view as it was, and nobody else waits for long.
my $reader = open_session('SELECT count(*) FROM minutes');
my $waiting = start_sql(alteration('minutes'));
$node->until_true("SELECT count(*) = 1 FROM pg_locks WHERE relation = 'minutes'::regclass AND NOT granted");
$reader->{in} .= "SELECT 'columns ' || count(*) FROM (SELECT * FROM minutes LIMIT 1) m;\nCOMMIT;\n";
$reader->{handle}->finish;
like($reader->{out}, qr/columns 1/, 'the reader goes on');
ok($waiting->{handle}->finish, 'and then the other one') or diag(${ $waiting->{err} });
$altered{minutes}++;
check('beside a reader');

# A view that is altered while it is replayed is not exchanged for one without the new columns.
my $holder = open_session('LOCK TABLE totals IN SHARE UPDATE EXCLUSIVE MODE');
my $replay = start_sql("CALL pipeline.replay('totals')");
$node->until_true("SELECT count(*) = 1 FROM pg_locks WHERE relation = 'totals'::regclass AND NOT granted");
$holder->{in} .= alteration('totals') . ";\nCOMMIT;\n";
$holder->{handle}->finish;
$altered{totals}++;
ok(!$replay->{handle}->finish, 'the replay fails');
like(${ $replay->{err} }, qr/was altered meanwhile.*HINT:  Drop view "totals_replay"/s, 'and says why');
run_sql('DROP VIEW totals_replay');
check('beside a replay');

# A dump has altered views as they are.
my $dump = $node->basedir . '/dump.sql';
$node->command_ok([ 'pg_dump', '-d', $node->connstr('postgres'), '-f', $dump ], 'a dump is made');
run_sql('CREATE DATABASE copy');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('copy'), '-f', $dump ], 'and restored');
run_sql(q{SELECT pipeline.pause(view) FROM pipeline.views});
{
	no warnings 'redefine';
	local *run_sql = sub { return $node->safe_psql('copy', $_[0]); };

	run_sql('SELECT pipeline.adopt()');
	my $first = run_sql('SELECT max(pos) + 1 FROM archive');
	run_sql("CALL produce($first, 60)");
	run_sql("SELECT pipeline.wait_for(view) FROM pipeline.views");
	for my $view (@names)
	{
		run_sql(alteration($view));
		$altered{$view}++;
	}
	$first = run_sql('SELECT max(pos) + 1 FROM archive');
	run_sql("CALL produce($first, 60)");
	run_sql("SELECT pipeline.wait_for(view) FROM pipeline.views");
	for my $view (grep { $views{$_}{batch} } @names)
	{
		my @since = split /\n/, run_sql("SELECT since FROM altered WHERE view = '$view' ORDER BY n");
		my $new = join('', map { my ($i, $s) = ($_, $since[ $_ - 1 ]); ", $views{$view}{new}" =~ s/\{i\}/$i/gr =~ s/\{since\}/$s/gr } 1 .. @since);
		my $batch = $views{$view}{batch} =~ s/\{new\}/$new/r;

		is(run_sql("SELECT count(*) FROM ((SELECT * FROM $view EXCEPT ALL ($batch)) UNION ALL (($batch) EXCEPT ALL SELECT * FROM $view)) d"), 0, "in the copy: $view");
	}
	run_sql('SELECT pipeline.pause(view) FROM pipeline.views');
}
run_sql('SELECT pipeline.resume(view) FROM pipeline.views');

# A worker may be about to begin while the view is altered: what it reads of the catalog is of one time.
run_sql(q{
CREATE PROCEDURE alter_at_once(rounds int) LANGUAGE plpgsql AS $$
BEGIN
  FOR i IN 1 .. rounds LOOP
    EXECUTE format('CREATE FOREIGN TABLE s%s (at timestamptz, k int) SERVER pipeline_local OPTIONS (event_time ''at'', out_of_orderness ''0'', idle_timeout ''off'')', i);
    EXECUTE format('CREATE VIEW v%s WITH (pipeline.continuous) AS SELECT k, pipeline.tumble(at, ''1 minute'') AS w, count(*) AS c FROM s%s GROUP BY k, w', i, i);
    EXECUTE format('INSERT INTO s%s VALUES (''2025-01-01 10:00:30'', 1), (''2025-01-01 10:05:00'', 2)', i);
    COMMIT;
    EXECUTE format('ALTER FOREIGN TABLE s%s ADD COLUMN extra text, ADD COLUMN more int', i);
    COMMIT;
    PERFORM count(*) FROM generate_series(1, (random() * 300000)::int);
    PERFORM pipeline.alter(format('v%s', i)::regclass, format('SELECT k, pipeline.tumble(at, ''1 minute'') AS w, count(*) AS c, max(extra) AS m FROM s%s GROUP BY k, w', i));
    COMMIT;
    PERFORM count(*) FROM generate_series(1, (random() * 300000)::int);
    PERFORM pipeline.alter(format('v%s', i)::regclass, format('SELECT k, pipeline.tumble(at, ''1 minute'') AS w, count(*) AS c, max(extra) AS m, max(more) AS m2 FROM s%s GROUP BY k, w', i));
    EXECUTE format('INSERT INTO s%s VALUES (''2025-01-01 10:06:30'', 1, ''x'', 1), (''2025-01-01 10:07:00'', 2, ''y'', 2), (''2025-01-01 10:01:00'', 2, ''y'', 2)', i);
    COMMIT;
  END LOOP;
END $$});
for my $round (1 .. 3)
{
	run_sql('CALL alter_at_once(10)');
	$node->wait_for("v$_") for 1 .. 10;
	is(run_sql("SELECT count(*) FROM pipeline.stat_views WHERE view::text ~ '^v[0-9]' AND (state <> 'running' OR late <> 1 OR events_in <> 5)"), 0, "altered while workers begin, $round");
	is(run_sql('SELECT min(c), max(c), min(m), min(m2) FROM v10 WHERE m IS NOT NULL'), '1|1|x|1', 'with the new columns');
	run_sql(join(';', map { "DROP FOREIGN TABLE s$_ CASCADE" } 1 .. 10));
}

# State that is larger than memory: most of it is on disk, in buckets.
run_sql(q{
CREATE FOREIGN TABLE many (pos int, k int, n int) SERVER pipeline_local;
CREATE TABLE many_archive (pos int, k int, n int);
CREATE VIEW large WITH (pipeline.continuous) AS SELECT k, count(*) AS c FROM many GROUP BY k;
INSERT INTO many_archive SELECT i, i::bigint * 7919 % 300000, i % 10 FROM generate_series(1, 400000) i;
INSERT INTO many SELECT * FROM many_archive});
$node->wait_for('large');
cmp_ok(run_sql("SELECT chunk_bytes FROM pipeline.stat_views WHERE view = 'large'::regclass"), '>', 10 * 1024 * 1024, 'state is larger than memory');
cmp_ok(run_sql("SELECT state_evictions FROM pipeline.stat_views WHERE view = 'large'::regclass"), '>', 0, 'and is on disk');
my $began = time;
run_sql(q{SELECT pipeline.alter('large', 'SELECT k, count(*) AS c, sum(n) AS s, max(pos) AS m FROM many GROUP BY k')});
note(sprintf('300000 groups were altered in %.1f s', time - $began));
run_sql('INSERT INTO many_archive SELECT i, i::bigint * 7919 % 310000, i % 10 FROM generate_series(400001, 460000) i; INSERT INTO many SELECT * FROM many_archive WHERE pos > 400000');
$node->wait_for('large');
is($node->rows_differ('SELECT * FROM large', 'SELECT k, count(*), sum(n) FILTER (WHERE pos > 400000), max(pos) FILTER (WHERE pos > 400000) FROM many_archive GROUP BY k'), '', 'large state');
is(run_sql("SELECT pipeline.verify_state('large')"), 't', 'is what its chunks say');

done_testing();
