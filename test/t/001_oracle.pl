# The judges of the other tests are judged here, without the extension: every
# generated query is valid SQL with one right answer, and the comparison and the
# snapshot checker find anomalies planted in front of them.  If this failed, a
# green differential or crash test would mean nothing.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use Oracle qw(difference check_snapshot);
use QueryGenerator;

my $node = PostgreSQL::Test::Cluster->new('oracle');

$node->init;
$node->append_conf('postgresql.conf', 'jit = off');
$node->start;

sub run_sql
{
	my ($sql) = @_;
	return $node->safe_psql('postgres', $sql);
}

run_sql(QueryGenerator->fixtures);

# The generator: repeatable, and each query runs over an ordinary table, twice
# with the same result though the second copy of the rows lies in another order.
sub test_generator
{
	my ($seed, %params) = @_;
	my $generator = QueryGenerator->new(seed => $seed, %params);
	my $again = QueryGenerator->new(seed => $seed, %params);
	my (@wrong, %kinds, $rows);

	run_sql('DROP TABLE IF EXISTS ev_all, ev CASCADE');
	run_sql("CREATE TABLE ev_all (" . $generator->column_definitions . "); CREATE TABLE ev (LIKE ev_all)");
	run_sql("SELECT setseed(0.5); INSERT INTO ev_all "
		  . $generator->rows_query(count => 1500, step => 20, jitter => 600));
	run_sql('INSERT INTO ev SELECT * FROM ev_all ORDER BY md5(id::text)');
	run_sql('CREATE VIEW ev_view AS SELECT * FROM ev WHERE ' . QueryGenerator->view_condition);
	for my $n (1 .. 80)
	{
		my $query = $generator->query;
		my %here = (tumble => 'oracle.tumble', hop => 'oracle.hop(e.id, ', stream => 'ev_all', view => '(SELECT * FROM ev_all WHERE ' . QueryGenerator->view_condition . ')');
		my $expected = $generator->fill($query->{sql}, %here);
		my $actual = $generator->fill($query->{sql}, tumble => 'oracle.tumble', hop => 'oracle.hop(e.id, ', stream => 'ev', view => 'ev_view');
		my $difference;

		die "the generator is not repeatable" if $again->query->{sql} ne $query->{sql};
		$kinds{ $query->{kind} }++;
		eval {
			$difference = difference(\&run_sql, expected => $expected, actual => $actual, columns => $query->{columns}, inexact => $query->{inexact});
			$rows += run_sql("SELECT count(*) FROM ($expected) q");
			run_sql('SELECT count(id), min(window_end) FROM (' . $generator->fill($query->{contributes}, %here) . ') q') if $query->{contributes};
			run_sql("SELECT min($query->{window_end}) FROM ($expected) q") if $query->{window_end};
			1;
		} or $difference = $@;
		push @wrong, "query $n of seed $seed: $expected\n$difference" if defined $difference;
	}
	is(scalar @wrong, 0, "queries of seed $seed have one right answer") or diag(join("\n\n", @wrong[ 0 .. ($#wrong > 2 ? 2 : $#wrong) ]));
	ok(scalar(keys %kinds) == 3 && $rows > 1000, "queries of seed $seed are of every kind and find rows");
	return;
}

test_generator(1);
test_generator(2, time_type => 'timestamp');
test_generator(3, late => 1);

# The comparison: equal is equal, and one row lost, added twice or changed shows.
sub test_difference
{
	my $values = "(VALUES (1, 'a', 1.0::float8), (1, 'a', 1.0), (2, NULL, 'NaN'), (3, 'c', 1e6)) AS v (c1, c2, c3)";
	my %queries = (
		'a lost row' => "SELECT * FROM $values WHERE c1 <> 3",
		'a lost copy' => "SELECT DISTINCT * FROM $values",
		'a repeated row' => "SELECT * FROM $values UNION ALL SELECT 2, NULL, 'NaN'",
		'a changed value' => "SELECT c1, c2, CASE c1 WHEN 3 THEN c3 + 1 ELSE c3 END AS c3 FROM $values",
		'a value that became null' => "SELECT c1, nullif(c2, 'c') AS c2, c3 FROM $values",
		'a null that got a value' => "SELECT c1, coalesce(c2, '') AS c2, c3 FROM $values",
		'a NaN that got a value' => "SELECT c1, c2, CASE c3 WHEN 'NaN' THEN 0 ELSE c3 END AS c3 FROM $values");

	for my $inexact ({}, { 3 => 1 })
	{
		my %args = (expected => "SELECT * FROM $values", columns => 3, inexact => $inexact);
		my $how = %$inexact ? 'loosely' : 'exactly';

		is(difference(\&run_sql, %args, actual => "SELECT * FROM $values ORDER BY c1 DESC"), undef, "equal rows are equal, compared $how");
		ok(defined difference(\&run_sql, %args, actual => $queries{$_}), "$_ is found, compared $how") for sort keys %queries;
	}
	is( difference(\&run_sql,
			expected => "SELECT * FROM $values", columns => 3, inexact => { 3 => 1 },
			actual => "SELECT c1, c2, c3 * (1 + 1e-13) AS c3 FROM $values"),
		undef, 'rounding is tolerated where it may happen');
	ok( defined difference(\&run_sql,
			expected => "SELECT * FROM $values", columns => 3,
			actual => "SELECT c1, c2, c3 * (1 + 1e-13) AS c3 FROM $values"),
		'and only there');
	return;
}

test_difference();

# The snapshot checker, over a made-up archive of two partitions and a made-up
# view that has read a part of it.
run_sql(q{
CREATE TABLE archive AS
  SELECT g % 2 AS "partition", (g / 2)::bigint AS "offset", g % 7 AS key, g AS amount, g % 50 = 0 AS bad FROM generate_series(0, 1999) g;
CREATE TABLE positions AS VALUES (0, 0::bigint, 500::bigint), (1, 100::bigint, 400::bigint);
ALTER TABLE positions RENAME column1 TO "partition"; ALTER TABLE positions RENAME column2 TO start_offset; ALTER TABLE positions RENAME column3 TO next_offset;
CREATE TABLE may_be_late AS SELECT "partition", "offset" FROM archive WHERE "offset" % 20 = 1;
CREATE TABLE late AS SELECT m.* FROM may_be_late m JOIN positions USING ("partition") WHERE "offset" >= start_offset AND "offset" < next_offset AND "offset" % 40 = 1;
CREATE TABLE dead AS SELECT a."partition", a."offset" FROM archive a JOIN positions USING ("partition") WHERE "offset" >= start_offset AND "offset" < next_offset AND bad;
CREATE TABLE view AS SELECT key AS c1, count(*) AS c2, sum(amount) AS c3 FROM archive a JOIN positions p USING ("partition")
  WHERE "offset" >= start_offset AND "offset" < next_offset AND NOT bad AND ("partition", "offset") NOT IN (SELECT "partition", "offset" FROM late) GROUP BY key;
CREATE TABLE counters AS SELECT (SELECT sum(next_offset - start_offset) FROM positions)::bigint AS events_in,
  (SELECT count(*) FROM late) AS late, (SELECT count(*) FROM dead) AS dead_letters;
});

my %what = (
	positions => 'SELECT * FROM positions',
	archive => 'archive',
	expected => 'SELECT key AS c1, count(*) AS c2, sum(amount) AS c3 FROM {rows} GROUP BY key',
	view => 'SELECT c1, c2, c3 FROM view',
	columns => 3,
	late => 'SELECT "partition", "offset" FROM late',
	may_be_late => 'SELECT * FROM may_be_late',
	dead => 'SELECT "partition", "offset" FROM dead',
	bad => 'bad',
	counters => 'SELECT * FROM counters');

sub problems_after
{
	my ($anomaly) = @_;
	my $output = '';
	my $run = sub { return run_sql_quietly("BEGIN; $anomaly; $_[0]; ROLLBACK"); };

	return check_snapshot($run, %what);
}

# Only what the last query printed; INSERT and the like print nothing under -q.
sub run_sql_quietly
{
	my ($sql) = @_;
	my ($stdout, $stderr);

	$node->psql('postgres', $sql, stdout => \$stdout, stderr => \$stderr, extra_params => ['-q'], on_error_die => 1);
	return $stdout;
}

is_deeply([ problems_after('SELECT WHERE false') ], [], 'a sound snapshot passes');

my @anomalies = (
	[ 'a lost event', 'UPDATE view SET c2 = c2 - 1, c3 = c3 - 9 WHERE c1 = 2', 'contents' ],
	[ 'an event counted twice', 'UPDATE view SET c2 = c2 + 1, c3 = c3 + 4 WHERE c1 = 4', 'contents' ],
	[ 'an event in place of another', 'UPDATE view SET c3 = c3 + 1 WHERE c1 = 4', 'contents' ],
	[ 'a lost row', 'DELETE FROM view WHERE c1 = 0', 'contents' ],
	[ 'a row twice', 'INSERT INTO view SELECT * FROM view WHERE c1 = 0', 'contents' ],
	[ 'a position too far', 'UPDATE positions SET next_offset = next_offset + 1 WHERE "partition" = 1', 'contents' ],
	[ 'a position too low', 'UPDATE positions SET next_offset = next_offset - 1 WHERE "partition" = 0', 'contents' ],
	[ 'a late row twice', 'INSERT INTO late SELECT * FROM late LIMIT 1', 'recorded more than once' ],
	[ 'a lost late row', 'DELETE FROM late WHERE "offset" = (SELECT max("offset") FROM late)', 'contents' ],
	[ 'a late row from the future', 'INSERT INTO late VALUES (1, 401)', 'recorded but not yet read' ],
	[ 'a late row that is not late', 'INSERT INTO late VALUES (0, 200)', 'late, but could not be' ],
	[ 'a dead letter twice', 'INSERT INTO dead SELECT * FROM dead LIMIT 1', 'recorded more than once' ],
	[ 'a record both late and dead', 'INSERT INTO late SELECT * FROM dead LIMIT 1', 'recorded more than once' ],
	[ 'a lost dead letter', 'DELETE FROM dead WHERE "offset" = (SELECT max("offset") FROM dead)', 'bad, but no dead letter' ],
	[ 'a dead letter that is not bad', 'INSERT INTO dead VALUES (0, 201)', 'dead letter, but not bad' ],
	[ 'too few events counted', 'UPDATE counters SET events_in = events_in - 1', 'events_in is' ],
	[ 'too many late counted', 'UPDATE counters SET late = late + 1', 'late is' ],
	[ 'too few dead letters counted', 'UPDATE counters SET dead_letters = dead_letters - 1', 'dead_letters is' ],
	[ 'no counters', 'DELETE FROM counters', 'there are no counters' ]);

for my $anomaly (@anomalies)
{
	my ($name, $sql, $symptom) = @$anomaly;
	my @problems = problems_after($sql);

	ok((grep { index($_, $symptom) == 0 } @problems) > 0, "$name is found") or diag(join("\n", 'found instead:', @problems));
}

$node->stop;
done_testing();
