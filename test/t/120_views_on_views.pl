# Views that read other views, through every end of a worker or a server.  If this failed, rows of
# one view would be missing in another or in it twice, or results would depend on when what was
# committed.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use PostgreSQL::Test::Utils;
use Test::More;

use PipelineNode;

my $node = PipelineNode->create('views_on_views', conf => "timezone = 'UTC'\nmax_worker_processes = 64\nmax_connections = 40");

sub run_sql { return $node->safe_psql('postgres', $_[0]); }

# A stream and a chain of views over it: windows, windows and a top over these, a filter with what
# reads it, and totals at the end.
sub create_chain
{
	my ($c) = @_;

	run_sql(qq{
CREATE FOREIGN TABLE $c (id bigint, at timestamptz, k int, v int) SERVER pipeline_local
  OPTIONS (event_time 'at', out_of_orderness '5 seconds', idle_timeout 'off')});
	create_views($c);
	return;
}

sub create_views
{
	my ($c) = @_;

	run_sql(qq{
CREATE VIEW ${c}_minutes WITH (pipeline.continuous) AS
  SELECT k, pipeline.tumble(at, '1 minute') AS w, count(*) AS c, sum(v) AS s FROM $c GROUP BY k, w;
CREATE VIEW ${c}_hops WITH (pipeline.continuous) AS
  SELECT pipeline.hop(upper(w) - interval '1 microsecond', '10 minutes', '2 minutes') AS h, sum(c) AS c, max(s) AS best, count(*) AS n FROM ${c}_minutes GROUP BY h;
CREATE VIEW ${c}_top WITH (pipeline.continuous) AS
  SELECT * FROM (SELECT w, k, s, row_number() OVER (PARTITION BY pipeline.tumble(upper(w) - interval '1 microsecond', '1 minute') ORDER BY s DESC, k) AS r FROM ${c}_minutes) t WHERE r <= 3;
CREATE VIEW ${c}_odd WITH (pipeline.continuous) AS SELECT id, at, v FROM $c WHERE v % 2 = 1;
CREATE VIEW ${c}_odd_minutes WITH (pipeline.continuous) AS
  SELECT pipeline.tumble(at, '30 seconds') AS w, count(*) AS c, sum(v) AS s, min(id) AS first FROM ${c}_odd GROUP BY w;
CREATE VIEW ${c}_totals WITH (pipeline.continuous) AS SELECT count(*) AS n, sum(c) AS c, max(upper(h)) AS until FROM ${c}_hops});
	return;
}

my @views = qw(minutes hops top odd odd_minutes totals);
my %hops_of = (h => q{SELECT h, sum(c)::numeric, max(s), count(*) FROM %s_minutes, pipeline.hop(upper(w) - interval '1 microsecond', '10 minutes', '2 minutes') AS h
  WHERE upper(h) <= pipeline.watermark('%s_minutes') GROUP BY h});
my $rows = 0;

# Out of order within the bound, but for every 97th, which is late.
sub insert_rows
{
	my ($n, @streams) = @_;
	my ($first, $last) = ($rows + 1, $rows + $n);

	$rows = $last;
	run_sql(join ';', map { "INSERT INTO $_ SELECT i, timestamptz '2024-01-01' + (i - i * 31 % 5) * interval '1 second' - CASE WHEN i % 97 = 0 THEN interval '3 minutes' ELSE '0' END, i % 7, i * 7919 % 1000 FROM generate_series($first, $last) i" } @streams);
	return;
}

sub check_chain
{
	my ($c, $when) = @_;
	my @wrong;

	for my $view (@views) { $node->wait_for("${c}_$view", 120); }
	my %expected = (
		minutes => qq{SELECT k, w, count(*), sum(v) FROM (SELECT *, pipeline.tumble(at, '1 minute') AS w FROM archive WHERE id % 97 > 0) a
			WHERE upper(w) <= pipeline.watermark('${c}_minutes') GROUP BY k, w},
		hops => qq{SELECT h, sum(c), max(s), count(*) FROM ${c}_minutes, pipeline.hop(upper(w) - interval '1 microsecond', '10 minutes', '2 minutes') AS h
			WHERE upper(h) <= pipeline.watermark('${c}_minutes') GROUP BY h},
		top => qq{SELECT * FROM (SELECT w, k, s, row_number() OVER (PARTITION BY w ORDER BY s DESC, k) AS r FROM ${c}_minutes) t WHERE r <= 3},
		odd => 'SELECT id, at, v FROM archive WHERE v % 2 = 1',
		odd_minutes => qq{SELECT w, count(*), sum(v), min(id) FROM (SELECT *, pipeline.tumble(at, '30 seconds') AS w FROM archive WHERE id % 97 > 0 AND v % 2 = 1) a
			WHERE upper(w) <= pipeline.watermark('${c}_odd') GROUP BY w},
		totals => qq{SELECT count(*), sum(c), max(upper(h)) FROM ${c}_hops});

	run_sql('DROP TABLE IF EXISTS archive; CREATE TABLE archive AS SELECT i AS id, timestamptz \'2024-01-01\' + (i - i * 31 % 5) * interval \'1 second\''
		  . " - CASE WHEN i % 97 = 0 THEN interval '3 minutes' ELSE '0' END AS at, (i % 7)::int AS k, (i * 7919 % 1000)::int AS v FROM generate_series(1, ${rows}) i");
	for my $view (@views)
	{
		my $difference = $node->rows_differ("SELECT * FROM ${c}_$view", $expected{$view});

		push @wrong, "$view: $difference" if $difference ne '';
	}
	# each row that a view gave out is one event of each reader
	my $counters = run_sql(join ' UNION ALL ', map { my ($reader, $source) = @$_; "SELECT '$reader' WHERE (SELECT events_in FROM pipeline.stat_views WHERE view = '${c}_$reader'::regclass) <> (SELECT count(*) FROM ${c}_$source)" }
		  ([qw(hops minutes)], [qw(top minutes)], [qw(odd_minutes odd)], [qw(totals hops)]));
	push @wrong, "events were lost or read twice: $counters" if $counters ne '';
	is_deeply(\@wrong, [], "$when: all levels are right");
	return;
}

$node->append_conf('postgresql.conf', "pipeline.random_batches = on");
$node->reload;
create_chain('a');
insert_rows(2000, 'a');
check_chain('a', 'at first');

my %ends = (
	'fast restart' => sub { $node->stop('fast'); $node->start; },
	'immediate restart' => sub { $node->stop('immediate'); $node->start; },
	'kill of the postmaster' => sub { $node->kill_postmaster; },
	'kill of the lowest worker' => sub { $node->kill_worker('a_minutes'); },
	'kill of a reader' => sub { $node->kill_worker('a_hops'); },
	'end of the lowest worker' => sub { $node->kill_worker('a_minutes', 'TERM'); },
	'end of a reader' => sub { $node->kill_worker('a_top', 'TERM'); });

for my $end (sort keys %ends)
{
	insert_rows(3000, 'a');
	$ends{$end}->();
	insert_rows(1000, 'a');
	check_chain('a', $end);
}

# Determinism: the same events at once, undisturbed, in batches of another size; and readers that
# come when all is over.
$node->append_conf('postgresql.conf', "pipeline.random_batches = off");
$node->reload;
my $all = $rows;
$rows = 0;
create_chain('b');
insert_rows($all, 'b');
check_chain('b', 'undisturbed');
for my $view (@views, 'minutes_late', 'odd_minutes_late')
{
	my $columns = $view =~ /late/ ? 'id, at, v, late_windows' : '*';

	$columns = 'at, v, late_windows, watermark' if $view eq 'odd_minutes_late';
	$columns = 'at, k, v, late_windows, watermark' if $view eq 'minutes_late';
	is($node->rows_differ("SELECT $columns FROM a_$view", "SELECT $columns FROM b_$view"), '', "$view does not depend on batches and crashes");
}
cmp_ok(run_sql('SELECT count(*) FROM b_odd_minutes_late'), '>', 50, 'there were late rows');
run_sql(q{CREATE VIEW late_comer WITH (pipeline.continuous) AS
  SELECT pipeline.hop(upper(w) - interval '1 microsecond', '10 minutes', '2 minutes') AS h, sum(c) AS c, max(s) AS best, count(*) AS n FROM b_minutes GROUP BY h});
$node->wait_for('late_comer');
is($node->rows_differ('SELECT * FROM late_comer', 'SELECT * FROM b_hops'), '', 'a reader that comes later begins with what there is');

# Readers come and go while rows do: each has every row once.
for my $i (1 .. 5)
{
	insert_rows(1500, 'b');
	run_sql("CREATE VIEW guest_$i WITH (pipeline.continuous) AS SELECT k, w, c, s FROM b_minutes");
	insert_rows(500, 'b');
	run_sql('DROP VIEW guest_' . ($i - 1)) if $i > 1 && $i % 2 == 0;
}
for my $i (2, 4, 5)
{
	$node->wait_for("guest_$i");
	is($node->rows_differ("SELECT * FROM guest_$i", 'SELECT * FROM b_minutes'), '', "guest $i has every row once");
}
check_chain('b', 'with guests');

# Idle: the clock closes the windows of all levels, one after the other.
run_sql(q{
CREATE FOREIGN TABLE quiet (at timestamptz, v int) SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '5 seconds', max_ahead 'off');
CREATE VIEW quiet_minutes WITH (pipeline.continuous) AS SELECT pipeline.tumble(at, '1 minute') AS w, count(*) AS c FROM quiet GROUP BY w;
CREATE VIEW quiet_hours WITH (pipeline.continuous) AS SELECT pipeline.tumble(upper(w) - interval '1 microsecond', '1 hour') AS h, sum(c) AS c FROM quiet_minutes GROUP BY h;
INSERT INTO quiet SELECT date_trunc('hour', now()) + i * interval '1 second', i FROM generate_series(1, 59) i});
$node->wait_for('quiet_hours');
is(run_sql('SELECT count(*) FROM quiet_hours'), 0, 'a window of readers waits');
run_sql(q{SELECT pipeline.shift_clock('61 minutes')});
$node->until_true('SELECT sum(c) = 59 FROM quiet_hours');
is(run_sql('SELECT count(*), sum(c) FROM quiet_minutes'), '1|59', 'and is closed by the clock');

# Rights that are taken back: the reader gets nothing more.
run_sql(q{CREATE ROLE guest; GRANT CREATE ON SCHEMA public TO guest; GRANT SELECT ON b_minutes TO guest; SET ROLE guest;
CREATE VIEW guests WITH (pipeline.continuous) AS SELECT k, w, c FROM b_minutes});
$node->wait_for('guests');
my $seen = run_sql('SELECT count(*) FROM guests');
run_sql('REVOKE SELECT ON b_minutes FROM guest');
insert_rows(500, 'b');
$node->wait_for('b_minutes');
$node->until_true(q{SELECT state = 'stopped' OR last_error LIKE '%permission denied%' FROM pipeline.stat_views WHERE view = 'guests'::regclass});
is(run_sql('SELECT count(*) FROM guests'), $seen, 'without the right to read a view nothing comes from it');
run_sql(q{GRANT SELECT ON b_minutes TO guest});
run_sql(q{SELECT pipeline.resume('guests')}) if run_sql(q{SELECT state FROM pipeline.views WHERE view = 'guests'::regclass}) eq 'stopped';
$node->wait_for('guests');
is($node->rows_differ('SELECT * FROM guests', 'SELECT k, w, c FROM b_minutes'), '', 'with it again, all does');

# A dump keeps who reads whom.
my $dump = $node->basedir . '/dump.sql';
run_sql('SELECT pipeline.pause(view) FROM pipeline.views');
$node->command_ok([ 'pg_dump', '-f', $dump, $node->connstr('postgres') ], 'dump');
run_sql('CREATE DATABASE copy');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $dump, $node->connstr('copy') ], 'restore');
$node->safe_psql('copy', 'SELECT pipeline.adopt(); SELECT pipeline.resume(view) FROM pipeline.views');
$node->safe_psql('copy', "INSERT INTO b SELECT i, timestamptz '2024-03-01' + i * interval '1 second', i % 7, i FROM generate_series(1, 2000) i");
is($node->safe_psql('copy', q{SELECT pipeline.wait_for('b_totals', '60 seconds')}), 't', 'the copy goes on');
is($node->safe_psql('copy', q{SELECT (SELECT sum(c) FROM b_hops) = (SELECT c FROM b_totals), (SELECT count(*) FROM b_hops WHERE lower(h) >= '2024-03-01') > 5}), 't|t', 'at all levels');
my ($result, $out, $err) = $node->psql('copy', 'DROP VIEW b_minutes');
like($err, qr/b_hops depends on view b_minutes/, 'and dependencies are as they were');

$node->stop('fast');
done_testing();
