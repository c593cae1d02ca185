# A view is given history while events come and processes die, from a local stream and from Kafka.
# If this failed, a crash during a backfill would lose or double rows of the history or records of the
# stream, show readers a mixture, or leave something behind that cannot be dropped.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

use KafkaBroker;
use PipelineNode;

my $node = PipelineNode->create('backfill', conf => "timezone = 'UTC'\nmax_worker_processes = 32\nmax_connections = 40\n");

sub run_sql { return $node->safe_psql('postgres', $_[0]); }

# A statement in the background.
sub start_sql
{
	my ($sql) = @_;
	my ($out, $err) = ('', '');
	my $handle = IPC::Run::start([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), '-c', $sql ], '<', \undef, '>', \$out, '2>', \$err);

	return { handle => $handle, err => \$err };
}

sub finish_sql
{
	my ($job) = @_;

	return $job->{handle}->finish ? '' : ${ $job->{err} };
}

# ----------------------------------------------------------------------------
# A local stream.  Numbers up to 0 are history, those above are of the stream; 20 a second.

my $history = 60000;

run_sql(qq{
CREATE FOREIGN TABLE events (pos int, at timestamptz, k int, n int) SERVER pipeline_local
  OPTIONS (event_time 'at', out_of_orderness '5 seconds', idle_timeout 'off', retention '1 day');
CREATE TABLE archive (pos int PRIMARY KEY, at timestamptz, k int, n int);
CREATE FUNCTION time_of(i int) RETURNS timestamptz LANGUAGE sql AS 'SELECT timestamptz ''2024-01-01'' + (i - (i % 5 + 5) % 5) * interval ''50 milliseconds''';
INSERT INTO archive SELECT i, time_of(i), (i % 7 + 7) % 7, i FROM generate_series(1 - $history, 0) i;
INSERT INTO events VALUES (0, '2023-01-01', 1, 1);
CREATE VIEW minutes WITH (pipeline.continuous, pipeline.start = 'latest') AS
  SELECT k, pipeline.tumble(at, '1 minute') AS w, count(*) AS c, sum(n) AS s FROM events GROUP BY k, w;
CREATE VIEW totals WITH (pipeline.continuous, pipeline.start = 'latest') AS SELECT k, count(*) AS c, sum(n) AS s, max(pos) AS last FROM events GROUP BY k;
CREATE VIEW counted WITH (pipeline.continuous, pipeline.start = 'latest') AS
  SELECT k, pipeline.count_window(100) AS w, min(pos) AS first, max(pos) AS last FROM events GROUP BY k, w;
CREATE PROCEDURE produce(first int, rounds int) LANGUAGE plpgsql AS \$\$
BEGIN
  FOR r IN 0 .. rounds - 1 LOOP
    INSERT INTO archive SELECT i, time_of(i), i % 7, i FROM generate_series(first + r * 20, first + r * 20 + 19) i;
    INSERT INTO events SELECT * FROM archive WHERE pos BETWEEN first + r * 20 AND first + r * 20 + 19 ORDER BY pos;
    COMMIT;
  END LOOP;
END \$\$});
$node->wait_for($_) for qw(minutes totals counted);

my $produced = 0;
my %backfill = (
	minutes => q{CALL pipeline.backfill('minutes', 'SELECT * FROM archive WHERE pos <= 0 ORDER BY md5(pos::text)')},
	totals => q{CALL pipeline.backfill('totals', 'SELECT * FROM archive WHERE pos <= 0')},
	counted => q{CALL pipeline.backfill('counted', 'SELECT * FROM archive WHERE pos <= 0 ORDER BY pos')});
my %oracle = (
	minutes => q{SELECT k, w, count(*), sum(n) FROM archive, pipeline.tumble(at, '1 minute') w WHERE ROWS AND upper(w) <= pipeline.watermark('VIEW') GROUP BY k, w},
	totals => q{SELECT k, count(*), sum(n), max(pos) FROM archive WHERE ROWS GROUP BY k},
	counted => q{SELECT k, (r - 1) / 100 + 1, min(pos), max(pos) FROM (SELECT *, row_number() OVER (PARTITION BY k ORDER BY pos) AS r FROM archive WHERE ROWS) a GROUP BY k, (r - 1) / 100 HAVING count(*) = 100});

sub produce_in_background
{
	my ($rounds) = @_;
	my $job = start_sql('CALL produce(' . ($produced + 1) . ", $rounds)");

	$produced += $rounds * 20;
	return $job;
}

sub oracle
{
	my ($shape, $with_history, $view) = @_;
	my $sql = $oracle{$shape};

	$sql =~ s/ROWS/$with_history ? 'true' : 'pos > 0'/e;
	$sql =~ s/VIEW/$view/;
	return $sql;
}

# A view, or the one that is built beside it, by rows with and without history.
sub check
{
	my ($view, $shape, $with_history, $when) = @_;
	my $rows = $with_history ? $history + $produced : $produced;

	$node->wait_for($view);
	is($node->rows_differ("SELECT * FROM $view", oracle($shape, $with_history, $view)), '', "$when: $view");
	is(run_sql("SELECT events_in, late, dead_letters, pipeline.verify_state(view) FROM pipeline.stat_views WHERE view = '$view'::regclass"), "$rows|0|0|t", "$when: $view, each row once");
	return;
}

sub is_clean
{
	my ($when) = @_;

	is(run_sql(q{SELECT count(*) FROM pg_class WHERE relname LIKE '%backfill' OR relname LIKE 'h\_%'}), 0, "$when: nothing is left");
	is(run_sql('SELECT count(*) FROM pipeline_data.beginnings WHERE history IS NOT NULL'), 0, "$when: no history is pending");
	return;
}

# What whoever reads sees: the history with the first row of it, and never less than before.
is(finish_sql(produce_in_background(50)), '', 'events');
check($_, $_, 0, 'at first') for sort keys %backfill;
for my $view (sort keys %backfill)
{
	my $events = produce_in_background(100);
	my $job = start_sql($backfill{$view});
	my ($before, $broken) = (0, 0);
	my $count = $view eq 'counted' ? 'count(*) * 100' : 'sum(c)';

	while ($job->{handle}->pumpable)
	{
		$job->{handle}->pump_nb;
		my $now = run_sql("SELECT coalesce($count, 0) FROM $view");

		$broken++ if $now < $before || ($now > $produced && $now < $history - 100 * 7 - 8 * 20 * 60);
		$before = $now;
	}
	is(finish_sql($job), '', "$view, while events come");
	is($broken, 0, 'readers see all of the history or none');
	is(finish_sql($events), '', 'events');
	check($view, $view, 1, 'while events come');
}
is_clean('while events come');

# The call is cancelled while it stores the rows, at the last of them: nothing has happened.
run_sql(q{
CREATE TABLE gate ();
CREATE FUNCTION passes(pos int) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN IF pos = 0 THEN PERFORM FROM gate; END IF; RETURN true; END $$});

sub start_and_hold
{
	run_sql(q{BEGIN; LOCK TABLE gate; PREPARE TRANSACTION 'gate'});
	my $call = start_sql(q{CALL pipeline.backfill('totals', 'SELECT pos, k, n FROM archive WHERE pos <= 0 AND passes(pos) ORDER BY pos')});

	$node->until_true(q{SELECT count(*) = 1 FROM pg_locks WHERE relation = 'gate'::regclass AND NOT granted});
	return $call;
}

my $job = start_and_hold();
run_sql(q{SELECT pg_cancel_backend(pid) FROM pg_locks WHERE relation = 'gate'::regclass AND NOT granted});
like(finish_sql($job), qr/canceling statement/, 'cancelled');
run_sql(q{ROLLBACK PREPARED 'gate'});
check('totals', 'totals', 1, 'after a cancelled call');
is_clean('after a cancelled call');

# Batches and checkpoints end at random from here on, so that there are many.
sub set_batches
{
	my ($random, $size) = @_;

	run_sql($_) for ("ALTER SYSTEM SET pipeline.random_batches = $random", "ALTER SYSTEM SET pipeline.batch_size = $size", 'SELECT pg_reload_conf()');
	return;
}

set_batches('on', 5);

# Hold the view that is built within its history, by a lock that outlives crashes.
sub hold_in_history
{
	my ($view) = @_;

	run_sql(qq{
BEGIN;
SET LOCAL statement_timeout = '60s';
DO \$\$
DECLARE result regclass;
BEGIN
  WHILE result IS NULL LOOP
    SELECT v.result INTO result FROM pipeline_data.views v JOIN pg_class r ON r.oid = v.view JOIN pipeline_data.checkpoints c ON c.task = v.id, pipeline_data.partitions(c.partitions) p
    WHERE r.relname = '${view}_backfill' AND p.partition = -1 AND p.next_offset > 0;
  END LOOP;
  EXECUTE format('LOCK TABLE %s IN SHARE MODE', result);
END \$\$;
PREPARE TRANSACTION 'hold'});
	is(run_sql(qq{SELECT count(*) FROM pipeline_data.beginnings WHERE history IS NOT NULL}), 1, "$view is held within its history");
	return;
}

sub release
{
	run_sql(q{ROLLBACK PREPARED 'hold'});
	return;
}

# The worker ends within the history: the call goes on.
for my $view (sort keys %backfill)
{
	my $events = produce_in_background(50);

	$job = start_sql($backfill{$view});
	hold_in_history($view);
	$node->kill_worker("${view}_backfill", 'TERM');
	release();
	is(finish_sql($job), '', "$view, while its worker is terminated");
	is(finish_sql($events), '', 'events');
	check($view, $view, 1, 'terminated worker');
}
is_clean('terminated worker');

# Everything dies within the history: the view is what it was, the one beside it goes on where it was, and is
# what the other would have become.
for my $how (qw(worker postmaster))
{
	for my $view (sort keys %backfill)
	{
		is(finish_sql(produce_in_background(20)), '', 'events');
		$job = start_sql($backfill{$view});
		hold_in_history($view);
		$node->kill_postmaster if $how eq 'postmaster';
		$node->kill_worker("${view}_backfill") if $how eq 'worker';
		isnt(finish_sql($job), '', "the call ends with the $how");
		release();
		check($view, $view, 1, "kill of a $how");
		check("${view}_backfill", $view, 1, "kill of a $how");
		my ($result, $out, $err) = $node->psql('postgres', $backfill{$view});
		like($err, qr/relation "${view}_backfill" exists already/, 'what is left must be dropped');
		run_sql("DROP VIEW ${view}_backfill");
		run_sql($backfill{$view});
		check($view, $view, 1, "after the kill of a $how");
	}
	is_clean("after the kill of a $how");
}

# It is stored whole or not at all.
$job = start_and_hold();
$node->kill_postmaster;
isnt(finish_sql($job), '', 'the call ends with the postmaster');
run_sql(q{ROLLBACK PREPARED 'gate'});
is(finish_sql(produce_in_background(20)), '', 'events');
check('totals', 'totals', 1, 'kill while rows are stored');
is_clean('kill while rows are stored');

# Records that the view has read are gone: refused, and the view stays.
run_sql(q{
CREATE FOREIGN TABLE brief (pos int) SERVER pipeline_local;
CREATE VIEW brief_total WITH (pipeline.continuous, pipeline.start = 'latest') AS SELECT count(*) AS c, max(pos) AS last FROM brief});
$node->wait_for('brief_total');
my $backing = run_sql(q{SELECT split_part(o, '=', 2) FROM pg_foreign_table, unnest(ftoptions) o WHERE ftrelid = 'brief'::regclass AND o LIKE 'backing=%'});
run_sql('INSERT INTO brief SELECT i FROM generate_series(1, 100) i');
$node->wait_for('brief_total');
run_sql('TRUNCATE ' . join(', ', map { "pipeline_data.${backing}_$_" } 0 .. 2));
run_sql('INSERT INTO brief SELECT i FROM generate_series(101, 300) i');
my ($result, $out, $err) = $node->psql('postgres', q{CALL pipeline.backfill('brief_total', 'SELECT 0 AS pos')});
like($err, qr/cannot be rebuilt as a whole.*retention/s, 'a view whose records are gone cannot be backfilled');
$node->wait_for('brief_total');
is(run_sql('SELECT c, last FROM brief_total'), '300|300', 'and stays as it is');
run_sql('DROP FOREIGN TABLE brief CASCADE');
is_clean('refused');

# ----------------------------------------------------------------------------
# Kafka: joined exactly at the offsets at which the view began.

my $broker = KafkaBroker->new;
my $address = $broker->address;
my $dir = PostgreSQL::Test::Utils::tempdir;
my @events = (topic => 'orders', partitions => 3, step => '20ms', disorder => '2s', start => '2025-01-01', late_share => 0);

sub produce
{
	my ($first, $count) = @_;

	$broker->produce(@events, first => $first, count => $count, csv => "$dir/$first.csv");
	run_sql("COPY orders_archive FROM '$dir/$first.csv' (FORMAT csv)");
	return;
}

$broker->create_topic('orders', 3);
run_sql(qq{
CREATE SERVER shop FOREIGN DATA WRAPPER pipeline_kafka OPTIONS (bootstrap_servers '$address');
CREATE USER MAPPING FOR CURRENT_USER SERVER shop;
CREATE FOREIGN TABLE orders (part int OPTIONS (metadata 'partition'), pos bigint OPTIONS (metadata 'offset'), customer_id int, amount numeric, ordered_at timestamptz, day date GENERATED ALWAYS AS ((ordered_at AT TIME ZONE 'UTC')::date) STORED)
  SERVER shop OPTIONS (topic 'orders', format 'json', event_time 'ordered_at', out_of_orderness '10 seconds', idle_timeout 'off', start 'latest');
CREATE TABLE orders_archive ("partition" int, "offset" bigint, seq bigint, key text, customer_id int, amount numeric, ordered_at timestamptz, country text, bad text)});
produce(0, 6000);
run_sql(q{
CREATE VIEW revenue WITH (pipeline.continuous) AS
  SELECT day, customer_id % 10 AS g, pipeline.tumble(ordered_at, '10 seconds') AS w, count(*) AS c, sum(amount) AS s, string_agg(part || ':' || pos, ' ' ORDER BY part, pos) AS which FROM orders GROUP BY 1, 2, 3;
CREATE VIEW spent WITH (pipeline.continuous) AS SELECT customer_id, count(*) AS c, sum(amount) AS s FROM orders GROUP BY customer_id});
$node->wait_for($_) for qw(revenue spent);
produce(6000, 6000);
$node->wait_for($_) for qw(revenue spent);

# The archive has everything, so the query leaves out what the view reads itself.
sub before_start
{
	my ($view) = @_;

	return qq{SELECT a."partition" AS part, a."offset" AS pos, a.customer_id, a.amount, a.ordered_at FROM orders_archive a JOIN pipeline.stat_partitions p ON p.view = ''$view''::regclass AND p."partition" = a."partition" AND a."offset" < p.start_offset ORDER BY md5(a.seq::text)};
}

sub check_kafka
{
	my ($when) = @_;

	$node->wait_for($_) for qw(revenue spent);
	is($node->rows_differ('SELECT * FROM revenue', q{SELECT (ordered_at AT TIME ZONE 'UTC')::date, customer_id % 10, w, count(*), sum(amount), string_agg("partition" || ':' || "offset", ' ' ORDER BY "partition", "offset")
		FROM orders_archive, pipeline.tumble(ordered_at, '10 seconds') w WHERE upper(w) <= pipeline.watermark('revenue') GROUP BY 1, 2, 3}), '', "$when: windows");
	is($node->rows_differ('SELECT * FROM spent', 'SELECT customer_id, count(*), sum(amount) FROM orders_archive GROUP BY customer_id'), '', "$when: groups");
	is(run_sql(q{SELECT DISTINCT events_in = (SELECT count(*) FROM orders_archive), late, pipeline.verify_state(view) FROM pipeline.stat_views WHERE view::text IN ('revenue', 'spent')}), 't|0|t', "$when: each record once");
	return;
}

is(run_sql('SELECT sum(c) FROM spent'), 6000, 'the view begins with the latest');
run_sql("CALL pipeline.backfill('$_', '" . before_start($_) . "')") for qw(revenue spent);
check_kafka('backfilled');
cmp_ok(run_sql('SELECT count(*) FROM revenue'), '>', 100, 'windows have closed');

# Again with crashes, while events come.
for my $signal (qw(TERM KILL))
{
	my $first = 12000 + ($signal eq 'KILL' ? 3000 : 0);

	$job = start_sql("CALL pipeline.backfill('revenue', '" . before_start('revenue') . "')");
	hold_in_history('revenue');
	$node->kill_worker('revenue_backfill', $signal);
	release();
	produce($first, 3000);
	my $error = finish_sql($job);
	if ($signal eq 'KILL')
	{
		isnt($error, '', 'the call ends with the worker');
		$node->wait_for('revenue_backfill');
		is($node->rows_differ('TABLE revenue_backfill', 'TABLE revenue'), '', 'what is left is the same');
		run_sql('DROP VIEW revenue_backfill');
		run_sql("CALL pipeline.backfill('$_', '" . before_start($_) . "')") for qw(revenue spent);
	}
	else
	{
		is($error, '', 'backfill while its worker is terminated');
	}
	check_kafka("worker ended by $signal");
}
is_clean('Kafka');

# Records at which the view began are gone: the one beside it stops, and says so.
$broker->delete_records('orders', 1, 2500);
($result, $out, $err) = $node->psql('postgres', "CALL pipeline.backfill('spent', '" . before_start('spent') . "')");
like($err, qr/"spent_backfill" has stopped/, 'the beginning of the view is gone');
run_sql('DROP VIEW spent_backfill');
produce(18000, 100);
check_kafka('after that');

$node->stop('fast');
done_testing();
