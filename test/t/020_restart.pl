# State, positions and counters survive every way a server or a worker can end,
# and workers never stand in the way of commands about databases.  If this
# failed, a restart would lose or double events, or an administrator's CREATE or
# DROP DATABASE would hang because of a view.  Runs alone: it measures time.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use PostgreSQL::Test::Utils;
use Test::More;

use Oracle qw(difference seconds_of wait_until);
use PipelineNode;

my $node = PipelineNode->create('restart', conf => "timezone = 'UTC'\nmax_worker_processes = 64\nmax_connections = 40\n");
my $stream_definition = q{(id bigint, at timestamptz, k int, v numeric) SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '10 seconds', idle_timeout 'off')};
my %rows;

sub run_sql
{
	my ($sql, $database) = @_;
	return $node->safe_psql($database || 'postgres', $sql);
}

# A stream, the table of its rows and a view of every shape.
sub create_objects
{
	my ($database) = @_;

	run_sql(qq{
CREATE TABLE archive (id bigint, at timestamptz, k int, v numeric);
CREATE TABLE names (k int PRIMARY KEY, name text);
INSERT INTO names SELECT g, 'name ' || g FROM generate_series(0, 9) g;
CREATE FOREIGN TABLE events $stream_definition;
CREATE VIEW windowed WITH (pipeline.continuous) AS
  SELECT n.name, pipeline.tumble(e.at, '1 minute') AS w, count(*) AS events, sum(e.v) AS total, stddev(e.v) AS spread FROM events e JOIN names n USING (k) GROUP BY n.name, w;
CREATE VIEW ordered WITH (pipeline.continuous) AS
  SELECT date_trunc('hour', at) AS hour, array_agg(id ORDER BY id DESC) AS ids FROM events WHERE id % 10 = 0 GROUP BY hour;
CREATE VIEW totals WITH (pipeline.continuous) AS SELECT k, count(*) AS events, sum(v) AS total, max(at) AS last FROM events GROUP BY k;
CREATE VIEW large WITH (pipeline.continuous) AS SELECT id, k, v FROM events WHERE v > 900;
}, $database);
	return;
}

# Rows n seconds apart, a tenth of them 5 seconds too early: none is late.
sub insert_rows
{
	my ($count, $database) = @_;
	my $first = ($rows{ $database || 'postgres' } || 0) + 1;
	my $last = $rows{ $database || 'postgres' } = $first + $count - 1;

	run_sql(qq{
BEGIN;
INSERT INTO archive SELECT g, timestamptz '2024-01-01 00:00:00+00' + (g - CASE WHEN g % 10 = 3 THEN 5 ELSE 0 END) * interval '1 second', g % 13, (g * 7919 % 100000) / 100.0
  FROM generate_series($first, $last) g;
INSERT INTO events SELECT * FROM archive WHERE id BETWEEN $first AND $last ORDER BY id;
COMMIT}, $database);
	return;
}

my @views = qw(windowed ordered totals large);
my %oracle = (
	totals => [ 'k, events, total, last', 'SELECT k AS c1, count(*) AS c2, sum(v) AS c3, max(at) AS c4 FROM archive GROUP BY k' ],
	large => [ 'id, k, v', 'SELECT id AS c1, k AS c2, v AS c3 FROM archive WHERE v > 900' ],
	windowed => [ 'name, w, events, total, spread',
		q{SELECT n.name AS c1, tstzrange(date_trunc('minute', at), date_trunc('minute', at) + interval '1 minute') AS c2, count(*) AS c3, sum(v) AS c4, stddev(v) AS c5
		  FROM archive e JOIN names n USING (k) WHERE date_trunc('minute', at) + interval '1 minute' <= (SELECT max(at) - interval '10 seconds' FROM archive) GROUP BY n.name, 2} ],
	ordered => [ 'hour, ids',
		q{SELECT date_trunc('hour', at) AS c1, array_agg(id ORDER BY id DESC) AS c2 FROM archive
		  WHERE id % 10 = 0 AND date_trunc('hour', at) + interval '1 hour' <= (SELECT max(at) - interval '10 seconds' FROM archive) GROUP BY 1} ]);

sub wait_for_views
{
	my ($database) = @_;
	my $answers = run_sql(join('; ', map { "SELECT pipeline.wait_for('$_', '60 seconds')" } @views), $database);

	die "the views do not catch up: $answers" if $answers =~ /f/;
	return;
}

# All views show what plain SQL says about all rows; nothing was late, every view
# has taken in every row once.
sub check_views
{
	my ($when, $database) = @_;
	my $rows = $rows{ $database || 'postgres' };
	my @wrong;

	wait_for_views($database);
	for my $view (@views)
	{
		my ($columns, $expected) = @{ $oracle{$view} };
		my @names = split /, /, $columns;
		my $actual = 'SELECT ' . join(', ', map { "$names[$_] AS c" . ($_ + 1) } 0 .. $#names) . " FROM $view";
		my $difference = difference(sub { run_sql($_[0], $database) }, expected => $expected, actual => $actual, columns => scalar @names);
		my $counters = run_sql("SELECT events_in, late, dead_letters FROM pipeline.stat_views WHERE view = '$view'::regclass", $database);

		push @wrong, "$view: $difference" if defined $difference;
		push @wrong, "$view: counters are $counters" if $counters ne "$rows|0|0";
	}
	is_deeply(\@wrong, [], "$when: views and counters are right");
	return;
}

create_objects('postgres');
insert_rows(500);
check_views('at first');

# The ends of a server.  Rows come right before, so that work is under way, and
# right after.
my %ends = (
	'fast restart' => sub { $node->stop('fast'); $node->start; },
	'immediate restart' => sub { $node->stop('immediate'); $node->start; },
	'kill of the postmaster' => sub { $node->kill_postmaster; },
	'kill of a worker' => sub { $node->kill_worker('totals'); },
	'end of a worker' => sub { $node->kill_worker('windowed', 'TERM'); },
	'fast restart while idle' => sub { wait_for_views(); $node->stop('fast'); $node->start; });

for my $end (sort keys %ends)
{
	insert_rows(1700);
	$ends{$end}->();
	insert_rows(900);
	check_views($end);
}
$node->stop('fast');
$node->start;
check_views('a restart without new rows');

# Late rows are judged after a restart as they would have been before.
insert_rows(300);
wait_for_views();
my $closed_to = run_sql(q{SELECT pipeline.watermark('windowed')});
$node->stop('immediate');
$node->start;
wait_for_views();    # the last commits, asynchronous, may be lost and their rows read again
is(run_sql(q{SELECT pipeline.watermark('windowed')}), $closed_to, 'the watermark survives an immediate shutdown');
run_sql(q{INSERT INTO events VALUES (-1, '2024-01-01 00:00:05+00', 1, 1), (-2, '2024-01-01 00:00:06+00', 12, 1)});
wait_for_views();
is(run_sql(q{SELECT k, v, late_windows, watermark = pipeline.watermark('windowed') FROM windowed_late}),
	q~1|1|{"[\"2024-01-01 00:00:00+00\",\"2024-01-01 00:01:00+00\")"}|t~, 'an event for a window closed before the restart is late');
is(run_sql(q{SELECT count(*) FROM windowed WHERE lower(w) = '2024-01-01 00:00:00+00' AND name = 'name 1'}), 1, 'and does not open it again');
run_sql(q{INSERT INTO archive VALUES (-1, '2024-01-01 00:00:05+00', 1, 1), (-2, '2024-01-01 00:00:06+00', 12, 1)});
is(difference(\&run_sql, expected => $oracle{totals}[1], actual => 'SELECT k AS c1, events AS c2, total AS c3, last AS c4 FROM totals', columns => 4), undef, 'a view without windows counts it');

# From here on the archive must not have the two late rows for the other views.
run_sql(q{DROP VIEW windowed, ordered, totals, large; DROP FOREIGN TABLE events; DROP TABLE archive, names});
%rows = ();
create_objects('postgres');
insert_rows(200);

# Paused: nothing moves, over a restart too; then all rows are there, once.
wait_for_views();
run_sql(q{SELECT pipeline.pause('totals')});
$node->until_true(q{SELECT pid IS NULL FROM pipeline.stat_views WHERE view = 'totals'::regclass}, 10);
my $paused_sum = run_sql('SELECT sum(events) FROM totals');
insert_rows(300);
$node->until_true(q{SELECT pipeline.wait_for('windowed', '60 seconds')}, 60);
is(run_sql('SELECT sum(events) FROM totals'), $paused_sum, 'a paused view stands still');
is(run_sql(q{SELECT state FROM pipeline.views WHERE view = 'totals'::regclass}), 'paused', 'and is shown as paused');
$node->stop('fast');
$node->start;
insert_rows(100);
$node->until_true(q{SELECT pipeline.wait_for('windowed', '60 seconds')}, 60);
is(run_sql('SELECT sum(events) FROM totals'), $paused_sum, 'a paused view stays paused over a restart');
is(run_sql(q{SELECT v.state, s.pid IS NULL FROM pipeline.views v JOIN pipeline.stat_views s USING (view) WHERE view = 'totals'::regclass}), 'paused|t', 'without a worker');
run_sql(q{SELECT pipeline.resume('totals')});
check_views('resume');
run_sql(q{SELECT pipeline.resume('totals')});
check_views('resume of a running view');

# A pause that is rolled back did not happen.
run_sql(q{BEGIN; SELECT pipeline.pause('totals'); ROLLBACK});
insert_rows(100);
check_views('a pause rolled back');

# DROP VIEW while it runs: its worker goes, the others stay.
run_sql('CREATE VIEW doomed WITH (pipeline.continuous) AS SELECT k, count(*) AS n FROM events GROUP BY k');
insert_rows(2000);
my $doomed = $node->worker_pid('doomed');
run_sql('DROP VIEW doomed');
ok( wait_until(5, sub { run_sql("SELECT count(*) FROM pg_stat_activity WHERE pid = $doomed AND pid NOT IN (SELECT pid FROM pipeline.stat_views WHERE pid IS NOT NULL)") == 0 }),
	'DROP VIEW ends the worker, unless it runs others');
insert_rows(100);
check_views('DROP VIEW of a running view');
run_sql('BEGIN; DROP VIEW large; ROLLBACK');
insert_rows(100);
check_views('DROP VIEW rolled back');

# CREATE VIEW that is rolled back leaves no worker and no objects.
my $objects = run_sql(q{SELECT count(*) FROM pg_class WHERE relnamespace = 'pipeline_data'::regnamespace});
run_sql('BEGIN; CREATE VIEW unborn WITH (pipeline.continuous) AS SELECT count(*) AS n FROM events; ROLLBACK');
is(run_sql(q{SELECT count(*) FROM pg_class WHERE relnamespace = 'pipeline_data'::regnamespace}), $objects, 'CREATE VIEW rolled back leaves nothing');

# pg_terminate_backend: gone within a second, back soon.
my $pid = $node->worker_pid('windowed');
my $gone = seconds_of(sub {
	run_sql("SELECT pg_terminate_backend($pid, 5000)");
	wait_until(10, sub { run_sql("SELECT count(*) FROM pg_stat_activity WHERE pid = $pid") == 0 });
});
note("the worker ended after $gone seconds");
ok($gone < 1.5, 'pg_terminate_backend ends a worker at once');
my $back = seconds_of(sub { $node->until_true("SELECT count(*) = 1 FROM pipeline.stat_views WHERE view = 'windowed'::regclass AND pid <> $pid", 20) });
note("another took over after $back seconds");
insert_rows(100);
check_views('pg_terminate_backend');

# pg_cancel_backend: whatever was under way is done again.
insert_rows(1000);
run_sql('SELECT pg_cancel_backend(pid) FROM pipeline.stat_views WHERE pid IS NOT NULL');
check_views('pg_cancel_backend');

# Several databases, each with views of the same names.
run_sql('CREATE DATABASE second');
run_sql('CREATE DATABASE empty');
run_sql('CREATE EXTENSION pipeline_ext', 'second');
create_objects('second');
insert_rows(700, 'second');
check_views('another database', 'second');
check_views('the first database meanwhile');
$node->stop('fast');
$node->start;
check_views('the first database after a restart');
insert_rows(100);
insert_rows(400, 'second');
check_views('the second database after a restart', 'second');

# Commands about databases do not wait for workers, nor fail because of them.
sub quick
{
	my ($what, $sql) = @_;
	my ($status, $stdout, $stderr);
	my $seconds = seconds_of(sub { ($status, $stdout, $stderr) = $node->psql('postgres', $sql) });

	is($status, 0, "$what succeeds") or diag($stderr);
	ok($seconds < 2, "$what does not hang") or diag("it took $seconds seconds");
	note(sprintf('%s took %.2f seconds', $what, $seconds));
	return;
}

quick('CREATE DATABASE', 'CREATE DATABASE third');
quick('DROP DATABASE', 'DROP DATABASE third');
quick('ALTER DATABASE RENAME', 'ALTER DATABASE empty RENAME TO empty2');
quick('CREATE DATABASE TEMPLATE of a database with running views', 'CREATE DATABASE copy TEMPLATE second');
quick('ALTER DATABASE RENAME of a database with running views', 'ALTER DATABASE second RENAME TO renamed');
is(run_sql('SELECT DISTINCT state FROM pipeline.views', 'renamed'), 'running', 'its views are still to run');
$rows{renamed} = $rows{second};
insert_rows(200, 'renamed');
check_views('the database renamed', 'renamed');
is(run_sql(q{SELECT count(*) FROM pg_stat_activity WHERE datname = 'copy' AND backend_type NOT LIKE 'autovacuum%'}), 0, 'a copied database starts no views by itself');
quick('DROP DATABASE of a copy', 'DROP DATABASE copy');
quick('DROP DATABASE of a database with running views', 'DROP DATABASE renamed');
quick('CREATE DATABASE with the name of one dropped', 'CREATE DATABASE renamed');
ok(wait_until(5, sub { run_sql(q{SELECT count(*) FROM pg_stat_activity WHERE datname = 'renamed'}) == 0 }), 'the views dropped with a database are forgotten');
insert_rows(300);
check_views('all that');

# DROP EXTENSION takes the views along; rolled back, they go on.
run_sql('BEGIN; DROP EXTENSION pipeline_ext CASCADE; ROLLBACK');
insert_rows(100);
check_views('DROP EXTENSION rolled back');
quick('DROP DATABASE of an empty one at last', 'DROP DATABASE empty2');
run_sql('DROP EXTENSION pipeline_ext CASCADE');
ok( wait_until(5, sub { run_sql(q{SELECT count(*) FROM pg_stat_activity WHERE datname = 'postgres' AND backend_type LIKE 'pipeline%'}) == 0 }),
	'DROP EXTENSION ends all workers');

# Nothing went wrong on the way that nobody asked about.
my $log = slurp_file($node->logfile);
unlike($log, qr/PANIC|TRAP:|still waiting for backend|resource was not closed|leak:|refcount leak/, 'the log shows no internal error');

$node->stop;
done_testing();
