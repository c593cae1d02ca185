# A view is rebuilt while events come, is read, and workers die.  If this failed, a replay would lose
# or double events that came meanwhile, show readers a mixture, or leave a view behind that cannot
# go on.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

use PipelineNode;

my $node = PipelineNode->create('replay', conf => "timezone = 'UTC'\nmax_worker_processes = 32\nmax_connections = 40");

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

run_sql(q{
CREATE FOREIGN TABLE events (pos int, at timestamptz, k int, n int) SERVER pipeline_local
  OPTIONS (event_time 'at', out_of_orderness '5 seconds', idle_timeout 'off', retention '1 day');
CREATE TABLE archive (pos int, at timestamptz, k int, n int);
CREATE TABLE version (k int, v int);
INSERT INTO version SELECT k, 0 FROM generate_series(0, 6) k;
CREATE VIEW minutes WITH (pipeline.continuous) AS
  SELECT v, pipeline.tumble(at, '1 minute') AS w, count(*) AS c, sum(n) AS s FROM events JOIN version USING (k) GROUP BY v, w;
CREATE VIEW totals WITH (pipeline.continuous) AS SELECT v, k, count(*) AS c, sum(n) AS s FROM events JOIN version USING (k) GROUP BY v, k;
CREATE PROCEDURE produce(first int, rounds int) LANGUAGE plpgsql AS $$
BEGIN
  FOR r IN 0 .. rounds - 1 LOOP
    INSERT INTO archive SELECT i, timestamptz '2024-01-01' + (i - i % 5) * interval '1 second', i % 7, i FROM generate_series(first + r * 20, first + r * 20 + 19) i;
    INSERT INTO events SELECT * FROM archive WHERE pos BETWEEN first + r * 20 AND first + r * 20 + 19 ORDER BY pos;
    COMMIT;
  END LOOP;
END $$});

my $produced = 0;

sub produce_in_background
{
	my ($rounds) = @_;
	my $job = start_sql("CALL produce($produced, $rounds)");

	$produced += $rounds * 20;
	return $job;
}

# All rows of one version, those of all events.
sub check
{
	my ($version, $when) = @_;

	$node->wait_for($_) for qw(minutes totals);
	is($node->rows_differ('SELECT * FROM minutes', qq{SELECT $version, w, count(*), sum(n) FROM archive, pipeline.tumble(at, '1 minute') w
		WHERE upper(w) <= pipeline.watermark('minutes') GROUP BY w}), '', "$when: windows");
	is($node->rows_differ('SELECT * FROM totals', "SELECT $version, k, count(*), sum(n) FROM archive GROUP BY k"), '', "$when: totals");
	is(run_sql('SELECT min(events_in), max(events_in), bool_and(pipeline.verify_state(view)) FROM pipeline.stat_views'), "$produced|$produced|t", "$when: each event once");
	return;
}

is(finish_sql(produce_in_background(100)), '', 'events');
check(0, 'at first');

# While events come, three times; whoever reads sees one version, and no event less than before.
for my $version (1 .. 3)
{
	my $events = produce_in_background(150);

	run_sql("UPDATE version SET v = $version");
	for my $view (qw(minutes totals))
	{
		my $replay = start_sql("CALL pipeline.replay('$view')");
		my ($before, $broken) = (0, 0);

		while ($replay->{handle}->pumpable)
		{
			$replay->{handle}->pump_nb;
			my $now = run_sql("SELECT coalesce(sum(c), 0) FROM $view");

			$broken++ if $now < $before;
			$before = $now;
		}
		is(finish_sql($replay), '', "replay of $view while events come");
		is($broken, 0, 'readers never see less than before');
	}
	is(finish_sql($events), '', 'events');
	check($version, "version $version");
}

# Views come in the way of each other: one worker for both, or another for each.
my $events = produce_in_background(200);
run_sql('UPDATE version SET v = 4');
my @jobs = map { start_sql("CALL pipeline.replay('$_')") } qw(minutes totals);
is(finish_sql($_), '', 'replay of two views at once') for @jobs;
is(finish_sql($events), '', 'events');
check(4, 'two at once');

# Workers end: the call goes on.
$events = produce_in_background(200);
run_sql('UPDATE version SET v = 5');
my $job = start_sql("CALL pipeline.replay('minutes'); ");
run_sql("SELECT pg_terminate_backend(pid) FROM pipeline.stat_views WHERE pid IS NOT NULL");
is(finish_sql($job), '', 'replay while a worker is terminated');
run_sql("CALL pipeline.replay('totals')");
is(finish_sql($events), '', 'events');
check(5, 'terminated worker');

# Everything dies: the view is what it was, or the new one; what is left is dropped and it is done again.
for my $how (qw(worker postmaster))
{
	run_sql('UPDATE version SET v = v + 1');
	my $version = run_sql('SELECT max(v) FROM version');
	my $replay = start_sql("CALL pipeline.replay('minutes')");

	# a worker may leave by itself before it is killed
	$node->kill_postmaster if $how eq 'postmaster';
	1 until $how eq 'postmaster' || eval { $node->kill_worker('totals'); 1 };
	finish_sql($replay);
	$node->wait_for('minutes');
	my $found = run_sql('SELECT array_agg(DISTINCT v) FROM minutes');

	like($found, qr/^\{\d+\}$/, "kill of a $how: not a mixture");
	run_sql('DROP VIEW IF EXISTS minutes_replay');
	run_sql("CALL pipeline.replay('$_')") for qw(minutes totals);
	check($version, "after the kill of a $how");
	is(finish_sql(produce_in_background(30)), '', 'events');
	check($version, 'it goes on');
}
is(run_sql(q{SELECT count(*) FROM pg_class WHERE relname LIKE '%replay'}), 0, 'nothing is left');

# History that is not there: what would be lost is kept, or the call is refused.
run_sql(q{
CREATE FOREIGN TABLE brief (pos int, at timestamptz) SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '0', idle_timeout 'off');
CREATE VIEW brief_minutes WITH (pipeline.continuous) AS SELECT pipeline.tumble(at, '1 minute') AS w, count(*) AS c FROM brief GROUP BY w;
INSERT INTO brief SELECT i, timestamptz '2024-01-01' + i * interval '1 second' FROM generate_series(1, 600) i});
$node->wait_for('brief_minutes');
my $half = run_sql('SELECT now()');
run_sql(q{INSERT INTO brief SELECT i, timestamptz '2024-01-01' + i * interval '1 second' FROM generate_series(601, 1200) i});
$node->wait_for('brief_minutes');
my ($result, $out, $err) = $node->psql('postgres', "CALL pipeline.replay('brief_minutes', '$half')");
like($err, qr/cannot be rebuilt as a whole/, 'half of the history does not replace all rows');
is(run_sql('SELECT count(*), sum(c) FROM brief_minutes'), '20|1199', 'which stay');
run_sql("CALL pipeline.replay('brief_minutes', '$half', '2024-01-01 00:11:00')");
run_sql(q{INSERT INTO brief SELECT i, timestamptz '2024-01-01' + i * interval '1 second' FROM generate_series(1201, 1260) i});
$node->wait_for('brief_minutes');
is(run_sql('SELECT count(*), sum(c) FROM brief_minutes'), '21|1259', 'but its part of them');

$node->stop('fast');
done_testing();
