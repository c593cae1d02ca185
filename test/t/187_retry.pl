# Dead letters are processed again, whole and each once: while workers are killed, while they fail again, and while
# new records come in.  If this failed, a record could be counted twice, or be in neither view nor dead letters, or come
# back without its key, headers, time or place.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use IPC::Run ();
use PostgreSQL::Test::Utils;
use Test::More;

use KafkaBroker;
use PipelineNode;

my $seed = $ENV{PIPELINE_TEST_SEED} // 1 + int(rand(1e6));
note("PIPELINE_TEST_SEED=$seed");
srand($seed);

my $broker = KafkaBroker->new;
my $node = PipelineNode->create('retry', conf => "timezone = 'UTC'\npipeline.batch_size = 100\npipeline.checkpoint_interval = '50ms'\nautovacuum = off\n");
my $PARTITIONS = 4;

sub value
{
	my ($sql) = @_;
	return $node->sql($sql);
}

$broker->create_topic('numbers', $PARTITIONS);
$broker->create_topic('odd', 1);
value(qq{
CREATE DOMAIN checked AS int CONSTRAINT small CHECK (value < 90);
CREATE TABLE archive (p int, id int, at timestamptz, k int, v int);
CREATE TABLE divisors (k int PRIMARY KEY, d int);
INSERT INTO divisors SELECT k, k % 3 FROM generate_series(0, 9) k;
CREATE SERVER kafka FOREIGN DATA WRAPPER pipeline_kafka OPTIONS (bootstrap_servers '$broker->{address}');
CREATE FOREIGN TABLE numbers (id int, at timestamptz, k int, v checked, p int OPTIONS (metadata 'partition'), o bigint OPTIONS (metadata 'offset'))
  SERVER kafka OPTIONS (topic 'numbers', event_time 'at', out_of_orderness '5 seconds', idle_timeout 'off');
CREATE FUNCTION step(state bigint, v int, d int) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT state + v + 0 * (1 / (d + v / 10))';
CREATE AGGREGATE sum_over(int, int) (SFUNC = step, STYPE = bigint, INITCOND = '0', COMBINEFUNC = int8pl, PARALLEL = SAFE);
});

# Of each view the query over the archive, which has all records; and what counts its records.
my %views = (
	listed => {
		query => 'SELECT id, k, v::int AS v, p, 10 / d AS x FROM %s JOIN divisors USING (k)',
		counted => 'SELECT count(*) FROM listed' },
	totals => {
		query => 'SELECT k, count(*) AS n, sum(v::int) AS v, sum(10 / d) AS x, sum(id) AS ids FROM %s JOIN divisors USING (k) GROUP BY k',
		counted => 'SELECT coalesce(sum(n), 0) FROM totals' },
	# an error of the transition function, of few records
	stateful => {
		query => 'SELECT k, count(*) AS n, sum_over(v::int, d) AS v FROM %s JOIN divisors USING (k) GROUP BY k',
		counted => 'SELECT coalesce(sum(n), 0) FROM stateful' },
	windows => {
		options => q{, pipeline.allowed_lateness = '20 seconds'},
		query => q{SELECT pipeline.tumble(at, '10 seconds') AS w, k, count(*) AS n, sum(v::int) AS v, sum(10 / d) AS x, sum(id) AS ids FROM %s JOIN divisors USING (k) GROUP BY w, k} },
	divided => {
		options => ', pipeline.workers = 2',
		query => q{SELECT pipeline.tumble(at, '10 seconds') AS w, k, count(*) AS n, sum(v::int) AS v, sum(10 / d) AS x, sum(id) AS ids FROM %s JOIN divisors USING (k) GROUP BY w, k} });
for my $name (sort keys %views)
{
	my $view = $views{$name};

	$view->{options} //= '';
	value("CREATE VIEW $name WITH (pipeline.continuous$view->{options}) AS " . sprintf($view->{query}, 'numbers'));
}

# Events of 100 seconds each time, in the order of their times in each partition.
my $round_number = 0;
my $next_id = 0;
sub produce
{
	my ($count) = @_;
	my @rows;

	for my $p (0 .. $PARTITIONS - 1)
	{
		my @records;

		for my $i (0 .. $count - 1)
		{
			my $id = $next_id++;
			my ($k, $v) = (int(rand(10)), int(rand(100)));
			my $at = 1704067200 + $round_number * 100 + int(100 * $i / $count);

			push @records, qq{{"id": $id, "at": "${\ scalar_time($at)}", "k": $k, "v": $v}};
			push @rows, "($p, $id, to_timestamp($at), $k, $v)";
		}
		$broker->produce_records('numbers', $p, @records);
	}
	$round_number++;
	value('INSERT INTO archive VALUES ' . join(', ', @rows));
	return;
}

sub scalar_time
{
	my @t = gmtime($_[0]);
	return sprintf('%04d-%02d-%02dT%02d:%02d:%02dZ', $t[5] + 1900, $t[4] + 1, @t[3, 2, 1, 0]);
}

# In every snapshot a record that is behind the position is in the view, or a dead letter, or late.
sub check_counts
{
	my ($when) = @_;
	my @wrong;

	for my $name (grep { $views{$_}{counted} } sort keys %views)
	{
		push @wrong, "$name: " . value(qq{SELECT events_in || ' in, ' || ($views{$name}{counted}) || ' counted, ' || d.n || ' dead, ' || dead_letters - retried
			FROM pipeline.stat_views, LATERAL (SELECT count(*) AS n FROM pipeline.dead_letters WHERE view = '$name'::regclass) d
			WHERE view = '$name'::regclass AND (events_in <> ($views{$name}{counted}) + d.n OR d.n <> dead_letters - retried)});
	}
	is(join('', grep { !/: $/ } @wrong), '', "$when: what came in is counted or a dead letter");
	return;
}

sub wait_for_all
{
	$node->wait_for($_) for sort keys %views;
	return;
}

# As with late rows, see 125_apply_late.pl.
my @disturbances = (
	sub { value("SELECT count(pg_terminate_backend(pid)) FROM pipeline.stat_views WHERE pid IS NOT NULL") },
	sub { my ($name) = @_; $node->kill_worker($name); $node->until_true('SELECT true') },
	sub { $node->stop('immediate'); $node->start });

my $asked = 0;
for my $round (1 .. 3)
{
	produce(120);
	wait_for_all();
	check_counts("round $round, with dead letters");
	# some are good now, some others bad
	value("UPDATE divisors SET d = (k + $round) % 3");
	for my $name (sort keys %views)
	{
		$asked += value("SELECT pipeline.retry_dead_letters('$name', 'partition <> $round % 4 AND sqlstate <> ''00000''')");
	}
	check_counts("round $round, on the way");
	$disturbances[ $round % @disturbances ]->((sort keys %views)[ int(rand(keys %views)) ]);
	check_counts("round $round, disturbed");
	produce(20) if $round == 2;
	wait_for_all();
	check_counts("round $round, done");
	is(value('SELECT count(*) FROM pipeline.dead_letters WHERE retry'), '0', "round $round: no request is left");
}
cmp_ok($asked, '>', 500, "$asked were asked for");

# What stood in the way is put right.
value('ALTER DOMAIN checked DROP CONSTRAINT small; UPDATE divisors SET d = 1 + k % 3');
my $left = value('SELECT count(*) FROM pipeline.dead_letters');
cmp_ok($left, '>', 200, "$left dead letters are left");
value("SELECT pipeline.retry_dead_letters('$_')") for sort keys %views;
$node->stop('immediate');
$node->start;
wait_for_all();
is(value('SELECT count(*) FROM pipeline.dead_letters'), '0', 'all were processed');
check_counts('at the end');
# joined as it was when each was processed: all but that is the query over all records
my %compared = (
	listed => 'SELECT id, k, v, p FROM %s',
	totals => 'SELECT k, n, v, ids FROM %s',
	stateful => 'SELECT k, n, v FROM %s');
for my $name (sort keys %compared)
{
	is($node->rows_differ(sprintf($compared{$name}, '(' . sprintf($views{$name}{query}, 'archive') . ') a'), sprintf($compared{$name}, $name)),
		'', "$name is the query over all records");
}
for my $name ('windows', 'divided')
{
	my $until = value("SELECT pipeline.watermark('$name')");
	my $batch = q{SELECT pipeline.tumble(at, '10 seconds') AS w, k, count(*) AS n, sum(v) AS v, sum(id) AS ids FROM archive}
	  . qq{ WHERE id NOT IN (SELECT id FROM ${name}_late) GROUP BY w, k HAVING upper(pipeline.tumble(min(at), '10 seconds')) <= '$until'};

	is($node->rows_differ($batch, "SELECT w, k, n, v, ids FROM $name WHERE upper(w) <= '$until'"), '', "$name is the query over all that is not late");
	cmp_ok(value("SELECT count(*) FROM ${name}_late"), '>', 20, "$name: what is too late by now is late");
	is(value("SELECT count(*) - count(DISTINCT id) FROM ${name}_late"), '0', "$name: once each");
}
cmp_ok(value("SELECT count(*) FROM (SELECT w, sum(n) AS n FROM windows GROUP BY w) v JOIN (SELECT pipeline.tumble(at, '10 seconds') AS w, count(*) AS n FROM archive GROUP BY 1) a USING (w, n)"),
	'>', 1, 'and windows that still took late events have got them');
is(value("SELECT bool_and(pipeline.verify_state(view)) FROM pipeline.views"), 't', 'memory is what is saved');

# A dead letter has all that the decoder needs: key, headers, time and place, a payload that is not small, or none.
my $big = 'x' x 600_000;
sub produce_one
{
	my ($payload, @options) = @_;
	IPC::Run::run([ 'kcat', '-P', '-q', '-b', $broker->{address}, '-t', 'odd', '-p', '0', '-X', 'message.max.bytes=900000', '-D', '|', @options ], '<', \$payload)
	  or die 'kcat failed';
	return;
}
value(qq{
CREATE TABLE switch (s int);
INSERT INTO switch VALUES (0);
CREATE FOREIGN TABLE odd (t text, key bytea OPTIONS (metadata 'key'), headers json OPTIONS (metadata 'headers'), at timestamptz OPTIONS (metadata 'timestamp'),
  p int OPTIONS (metadata 'partition'), o bigint OPTIONS (metadata 'offset'), topic text OPTIONS (metadata 'topic'))
  SERVER kafka OPTIONS (topic 'odd');
CREATE VIEW kept WITH (pipeline.continuous) AS SELECT md5(t) AS t, key, headers::text AS headers, at, p, o, topic FROM odd;
CREATE VIEW odd_view WITH (pipeline.continuous) AS SELECT md5(t) AS t, key, headers::text AS headers, at, p, o, topic, s / s AS x FROM odd CROSS JOIN switch;
});
produce_one(qq{{"t": "$big"}}, '-k', 'a key', '-H', 'first=1', '-H', 'second="two"', '-H', 'first=again');
produce_one('{"t": "plain"}');
produce_one('gone#', '-K', '#', '-Z');
$node->wait_for($_) for 'kept', 'odd_view';
is(value('SELECT count(*) FROM pipeline.dead_letters WHERE NOT truncated'), '3', 'three dead letters');
value('UPDATE switch SET s = 7');
value("SELECT pipeline.retry_dead_letters('odd_view')");
$node->wait_for('odd_view');
is(value('SELECT count(*) FROM odd_view'), '3', 'are processed');
is($node->rows_differ('SELECT * FROM kept', 'SELECT t, key, headers, at, p, o, topic FROM odd_view'), '', 'like the records that they were');
like(value('SELECT headers FROM odd_view WHERE o = 0'), qr/^\{"first": "1", "second": "\\"two\\"", "first": "again"\}$/, 'with headers');

# A letter that another transaction is about to delete is left alone, without waiting, and found when that has ended.
value('UPDATE switch SET s = 0');
produce_one(qq{{"t": "$_"}}) for 1 .. 3;
$node->wait_for('odd_view');
value('UPDATE switch SET s = 1');
value("SELECT pipeline.pause('odd_view')");
is(value("SELECT pipeline.retry_dead_letters('odd_view')"), '3', 'three more are asked for');
my @sessions = map { $node->background_psql('postgres') } 1, 2;
$sessions[0]->query_safe("BEGIN; DELETE FROM pipeline.dead_letters WHERE view = 'odd_view'::regclass AND \"offset\" = 4");
$sessions[1]->query_safe("BEGIN; DELETE FROM pipeline.dead_letters WHERE view = 'odd_view'::regclass AND \"offset\" = 5");
value("SELECT pipeline.resume('odd_view')");
$node->until_true("SELECT count(*) = 2 FROM pipeline.dead_letters WHERE view = 'odd_view'::regclass");
is(value("SELECT pipeline.wait_for('odd_view', '300 milliseconds')"), 'f', 'the request is not carried out yet');
$sessions[0]->query_safe('ROLLBACK');
$sessions[1]->query_safe('COMMIT');
$_->quit for @sessions;
$node->wait_for('odd_view');
is(value("SELECT string_agg(o::text, ' ' ORDER BY o) FROM odd_view"), '0 1 2 3 4', 'one is processed, the deleted one is not');
is(value("SELECT count(*) FROM pipeline.dead_letters"), '0', 'none is left');

done_testing();
