# A Kafka stream can be read like any other relation: SELECT gives what its topic
# holds when it begins, with conditions on partition, offset and timestamp used
# to find the records.  If this failed, queries would miss records or read all of a
# topic for a few of them, or could not be stopped, or would leave threads behind.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use IO::Socket::INET;
use IPC::Run ();
use PostgreSQL::Test::Utils;
use Test::More;

use KafkaBroker;
use Oracle qw(seconds_of wait_until);
use PipelineNode;

# An answer to an interrupt: 200 ms, and what a busy machine adds.
my $quick = 2;
my $events = 30_000;
my $broker = KafkaBroker->new;
my $node = PipelineNode->create('read', conf => "timezone = 'UTC'\njit = off\n");
my $csv = $node->basedir . '/archive.csv';

sub sql { return $node->sql($_[0]); }

# What psql says on standard error; the statements must fail unless told otherwise.
sub complaint
{
	my ($statement, $may_succeed) = @_;
	my ($status, $out, $err) = $node->psql('postgres', $statement);

	die "succeeded: $statement\n$out" if $status == 0 && !$may_succeed;
	return $err;
}

# How many records the scans of a query read, by EXPLAIN ANALYZE.
sub records_read
{
	my ($query, $before) = @_;
	my $plan = sql(($before // '') . "EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off) $query");
	my $sum = 0;

	$sum += $1 while $plan =~ /Records Read: (\d+)/g;
	return $sum;
}

# A query gives what the same over the archive gives, and reads so many records.
sub check
{
	my ($where, $records, $name) = @_;
	my $columns = 'seq, key, customer_id, amount, ordered_at, country, p, o';

	is($node->rows_differ("SELECT $columns FROM orders WHERE $where", "SELECT $columns FROM archive WHERE $where"), '', "$name: rows");
	is(records_read("SELECT $columns FROM orders WHERE $where"), $records, "$name: records read") if defined $records;
	return;
}

my $columns = q{seq bigint, key bigint, customer_id bigint, amount numeric, ordered_at timestamptz, country text OPTIONS (field 'address.country')};
my $places = q{p int OPTIONS (metadata 'partition'), o bigint OPTIONS (metadata 'offset'), t timestamptz OPTIONS (metadata 'timestamp')};

sub create_stream
{
	my ($name, $topic, $options) = @_;

	sql("CREATE FOREIGN TABLE $name ($columns, $places) SERVER shop OPTIONS (topic '$topic', event_time 'ordered_at', out_of_orderness '0'" . ($options ? ", $options" : '') . ')');
	return;
}

$broker->create_topic('orders', 3);
$broker->produce(topic => 'orders', partitions => 3, count => $events, csv => $csv, size => 200);
sql(qq{CREATE TABLE archive (p int, o bigint, seq bigint, key bigint, customer_id bigint, amount numeric, ordered_at timestamptz, country text, bad boolean);
COPY archive FROM '$csv' WITH (FORMAT csv);
CREATE SERVER shop FOREIGN DATA WRAPPER pipeline_kafka OPTIONS (bootstrap_servers '@{[ $broker->address ]}')});
create_stream('orders', 'orders');

# Everything, and parts of it.
check('true', $events, 'the whole topic');
check('p = 1', 10_000, 'one partition');
check('p = 1 AND o >= 9990', 10, 'the end of a partition');
check('o < 5', 15, 'the beginning of all partitions');
check('o <= 5 AND o > 2 AND p >= 1', 6, 'both ends');
check('o BETWEEN 100 AND 109', 30, 'BETWEEN');
check('7 > o', 21, 'the column on the right');
check('o IN (3, 5000, 9999)', 9, 'offsets far from each other');
check('o IN (10, 12, 14) AND p = 2', 3, 'offsets near each other');
check('(p = 0 AND o >= 9995) OR (p = 2 AND o >= 9999)', 6, 'positions by partition');
check('(p = 0 AND o >= 9995 AND amount > 500) OR (p = 2 AND o >= 9999 AND key < 500)', 6, 'with other conditions beside them');
check('NOT (o >= 4)', 12, 'NOT');
check('o = 17 AND p = ANY (ARRAY[0, 2, NULL])', 2, 'ANY');
check('o > 5 AND o < 3', 0, 'nothing can be');
check('o = NULL', 0, 'NULL');
check('o >= 1000000', 0, 'behind the end');
check('o >= -5 AND o < 2 AND p < 100000000000', 6, 'numbers that no place has');
check('o > 9223372036854775807', 0, 'the largest number');
check('o < 5 OR amount > 900', $events, 'OR with something else');
check('o % 2 = 0 AND o < 10', 30, 'a part only');

# Timestamps: the broker finds the first record that is not before.
my $middle = sql('SELECT t FROM orders WHERE p = 0 AND o = 5000');
is($node->rows_differ("SELECT p, o FROM orders WHERE t >= '$middle'", "SELECT p, o FROM (SELECT p, o, t FROM orders OFFSET 0) s WHERE t >= '$middle'"), '', 'timestamp: rows');
cmp_ok(records_read("SELECT * FROM orders WHERE t >= '$middle'"), '<', $events, 'timestamp: not all is read');
is(sql("SELECT count(*) FROM orders WHERE t = '$middle' AND p = 0 AND o = 5000"), 1, 'timestamp: equal');
is(records_read("SELECT * FROM orders WHERE t > 'infinity'"), 0, 'timestamp: infinity');
is(sql("SELECT count(*) FROM orders WHERE t > '-infinity' AND t < '$middle' AND p = 0 AND o >= 5000 AND t < '1971-01-01'"), 0, 'timestamp: before');
is(records_read("SELECT * FROM orders WHERE t > now() + interval '1 day'"), 0, 'timestamp: in the future');

# LIMIT ends reading.
is(records_read('SELECT * FROM orders LIMIT 5'), 5, 'LIMIT');
is(sql('SELECT seq, o FROM orders WHERE p = 2 LIMIT 3'), "2|0\n5|1\n8|2", 'a partition comes in its order');

# Parameters: prepared statements, nested loops, subqueries.
is(records_read('EXECUTE q (1, 9998)', "SET plan_cache_mode = force_generic_plan; PREPARE q (int, bigint) AS SELECT * FROM orders WHERE p = \$1 AND o >= \$2;"), 2, 'a prepared statement');
sql('CREATE TABLE wanted (part int, at bigint); INSERT INTO wanted VALUES (0, 1), (1, 5000), (2, 9999), (2, 10000), (1, NULL); ANALYZE wanted');
my $join = 'SELECT seq FROM wanted JOIN orders ON p = part AND o = at';
is($node->rows_differ($join, $join =~ s/orders/archive/r), '', 'a join by place: rows');
is(records_read($join), 3, 'a join by place: each is looked up');
my $lateral = 'SELECT part, seq FROM wanted, LATERAL (SELECT seq FROM orders WHERE p = part AND o >= at ORDER BY o LIMIT 2) s';
is($node->rows_differ($lateral, $lateral =~ s/orders/archive/r), '', 'LATERAL: rows');
my $sub = 'SELECT (SELECT max(seq) FROM orders WHERE p = part AND o BETWEEN at - 5 AND at) FROM wanted';
is($node->rows_differ($sub, $sub =~ s/orders/archive/r), '', 'a correlated subquery: rows');
is(records_read($sub), 2 + 6 + 6 + 5, 'a correlated subquery: records read');
is(sql('SELECT count(*) FROM orders a JOIN orders b USING (seq) WHERE a.o < 100 AND b.o < 50'), 150, 'a stream joined with itself');
is(sql("SELECT count(*) FROM (VALUES (1), (2), (3)) v (x), LATERAL (SELECT * FROM orders WHERE o < x AND p = 0 OFFSET 0) s"), 6, 'a scan that is started again');

# EXPLAIN says what is used, and connects to nothing.
my $shown = sql('EXPLAIN (COSTS off) SELECT seq FROM orders WHERE p = 1 AND o >= 10 AND amount > 5');
like($shown, qr/Topic: orders\n  Seek Cond: \(\(o >= 10\) AND \(p = 1\)\)/, 'EXPLAIN shows what is looked up');
like(sql('EXPLAIN (ANALYZE, COSTS off, TIMING off) SELECT seq FROM orders WHERE p = 1 AND o >= 9990'), qr/Partitions Read: 1 of 3\s+Records Read: 10\s+Bytes Read: \d{4}\s/, 'EXPLAIN ANALYZE shows what was read');

# Ends are those that were there; what is asked for later is not.
sub session
{
	my ($script) = @_;

	return sql($script);
}
is(session('BEGIN; DECLARE a CURSOR FOR SELECT seq FROM orders WHERE p = 0; DECLARE b CURSOR WITH HOLD FOR SELECT o FROM orders WHERE p = 1 AND o < 3;
	FETCH 2 FROM a; FETCH 1 FROM b; FETCH 1 FROM a; FETCH 1 FROM b; COMMIT; FETCH ALL FROM b; CLOSE b'), "0\n3\n0\n6\n1\n2", 'cursors side by side, WITH HOLD');
is(session("BEGIN; DECLARE c SCROLL CURSOR FOR SELECT o FROM orders WHERE p = 1 AND o < 3; FETCH 2 FROM c; FETCH BACKWARD 1 FROM c; FETCH ALL FROM c; COMMIT"), "0\n1\n0\n1\n2", 'a scroll cursor');

# A cursor does not see what is produced behind the ends that it found.
$broker->create_topic('growing', 1);
create_stream('growing', 'growing');
$broker->produce(topic => 'growing', count => 1000);
my ($in, $out) = ('', '');
my $psql = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres') ], '<', \$in, '>', \$out, '2>&1');
$in .= "BEGIN; DECLARE c CURSOR FOR SELECT seq FROM growing; FETCH 1 FROM c;\n";
wait_until(30, sub { $psql->pump_nb; $out =~ /^0$/m }) or die "no row: $out";
$broker->produce(topic => 'growing', count => 1000, first => 1000);
$in .= "MOVE ALL FROM c; FETCH 1 FROM c; SELECT 'later: ' || count(*) FROM growing; COMMIT;\n";
wait_until(30, sub { $psql->pump_nb; $out =~ /later/ }) or die "no answer: $out";
$psql->finish;
like($out, qr/^0\nlater: 2000$/m, 'a scan ends where the topic ended when it began');

# Not visible: aborted transactions, their markers, an open transaction and what is behind it.
$broker->create_topic('transactions', 1);
create_stream('transactions', 'transactions');
is(sql('SELECT count(*) FROM transactions'), 0, 'an empty topic');
$broker->produce(topic => 'transactions', count => 300, transaction => 'commit');
$broker->produce(topic => 'transactions', first => 300, count => 500, transaction => 'abort');
is(sql('SELECT count(*), sum(seq), max(o) FROM transactions'), '300|44850|299', 'aborted records are not seen; a marker is the end');
is(sql('SELECT count(*) FROM transactions WHERE o >= 300'), 0, 'nor is there anything else behind');
$broker->produce(topic => 'transactions', first => 300, count => 1, transaction => 'hang');
$broker->produce_records('transactions', 0, '{"seq": 301}');
is(sql('SELECT count(*) FROM transactions'), 300, 'an open transaction hides what is behind it');

# Records that retention took; a log that begins later.
$broker->create_topic('trimmed', 1);
create_stream('trimmed', 'trimmed', "start 'latest', partitions '0-5'");
$broker->produce(topic => 'trimmed', count => 1000);
$broker->delete_records('trimmed', 0, 400);
is(sql('SELECT count(*), min(o) FROM trimmed'), '600|400', 'a topic that begins later; "start" is for views');
is(sql('SELECT count(*) FROM trimmed WHERE o IN (100, 399, 400)'), 1, 'offsets that are gone');
create_stream('part_of', 'orders', "partitions '1,2'");
is(sql('SELECT count(*), min(p) FROM part_of'), '20000|1', 'the option "partitions" holds');

# A compacted topic: gaps in the offsets.
$broker->create_topic('compacted', 1, 'cleanup.policy=compact', 'segment.bytes=1048576', 'min.cleanable.dirty.ratio=0.01', 'segment.ms=100', 'max.compaction.lag.ms=100');
sql("CREATE FOREIGN TABLE compacted (body text, k text OPTIONS (metadata 'key'), o bigint OPTIONS (metadata 'offset')) SERVER shop OPTIONS (topic 'compacted', format 'raw')");

sub produce_keyed
{
	my ($input) = @_;

	IPC::Run::run([ 'kcat', '-P', '-q', '-b', $broker->address, '-t', 'compacted', '-p', '0', '-K', ':', '-Z' ], '<', \$input) or die 'kcat failed';
	return;
}
produce_keyed(join('', map { "k" . ($_ % 10) . ":v$_\n" } 0 .. 999) . "k3:\n");
is(sql("SELECT count(*), count(body), max(o) FROM compacted WHERE o >= 990"), '11|10|1000', 'a tombstone is a row without values');
# what is compacted is what is behind the last record of a full segment
produce_keyed("pad:$_\n") for 1 .. 2;
$node->until_true('SELECT count(*) < 1000 FROM compacted', 60);
is(sql("SELECT string_agg(k || body, ' ' ORDER BY k) FROM (SELECT DISTINCT ON (k) k, body FROM compacted WHERE k <> 'pad' ORDER BY k, o DESC) s WHERE body IS NOT NULL"),
	join(' ', map { "k${_}v99$_" } grep { $_ != 3 } 0 .. 9), 'a compacted topic: the last of each key');
is(sql('SELECT count(*) FROM compacted WHERE o BETWEEN 2 AND 400'), 0, 'a compacted topic: a range without a record');

# What cannot be decoded.
$broker->create_topic('bad', 1);
my @records = map { $_ % 10 == 7 ? ($_ % 20 == 7 ? 'no json' : '{"seq": "x"}') : "{\"seq\": $_, \"feel\": \"ok\"}" } 0 .. 299;
$broker->produce_records('bad', 0, @records, '{"seq": 300, "feel": "dull"}');
sql("CREATE TYPE mood AS ENUM ('ok', 'sad')");
sql(qq{CREATE FOREIGN TABLE $_ (seq bigint, feel mood, $places) SERVER shop OPTIONS (topic 'bad', on_error '$_')}) for qw(stop dead_letter skip);
for my $stream (qw(stop dead_letter))
{
	like(complaint("SELECT seq FROM $stream"), qr/ERROR:  cannot decode a record of stream "$stream": the payload is not a valid JSON object.*DETAIL:  It has offset 7 in partition 0 of topic "bad"\.\nHINT:  Leave it out/s, "on_error $stream: an error that says where");
}
is(sql('SELECT count(*) FROM stop WHERE o < 27 AND o NOT IN (7, 17) AND (o < 7 OR o BETWEEN 8 AND 16 OR o > 17)'), 25, 'a bad record is left out by its offset');
is(sql('SELECT count(*) FROM (SELECT seq FROM stop LIMIT 7) s'), 7, 'LIMIT in front of it');
is(sql('SELECT count(*) FROM stop WHERE o = 17 AND p = 0'), 1, 'a column that is not read is not decoded');
like(complaint('SELECT feel FROM stop WHERE o = 300'), qr/invalid input value for enum mood.*HINT:  Leave it out.*record at offset 300 of partition 0 of topic "bad"/s, 'an error of an input function says where');
is(sql('SELECT count(*), sum(seq) FROM skip'), '271|' . (300 * 299 / 2 - 30 * 152 + 300), 'on_error skip: they are left out');
like(complaint('SELECT count(feel) FROM skip', 1), qr/WARNING:  16 records of stream "skip" could not be decoded and were left out/, 'on_error skip: a warning counts them');
is(sql("SET client_min_messages = error; SELECT count(feel), sum(seq) FROM skip"), '270|' . (300 * 299 / 2 - 30 * 152), 'on_error skip: also what input functions refuse');

# Views and tables made of it; values are those of views.
sql('CREATE TABLE copied AS SELECT * FROM orders WHERE o < 1000');
is(sql('SELECT count(*) FROM copied'), 3000, 'CREATE TABLE AS');
is(sql(q{COPY (SELECT seq FROM orders WHERE o = 1 ORDER BY seq) TO STDOUT}), "3\n4\n5", 'COPY (SELECT ...)');
sql('CREATE VIEW ordinary AS SELECT * FROM orders WHERE o < 10; CREATE MATERIALIZED VIEW kept AS SELECT * FROM ordinary');
is(sql('SELECT count(*) FROM kept'), 30, 'views and materialized views');
sql("CREATE VIEW continuous WITH (pipeline.continuous, pipeline.start = 'earliest') AS SELECT * FROM orders");
$node->wait_for('continuous', 60);
is($node->rows_differ('SELECT * FROM continuous', 'SELECT * FROM orders'), '', 'the values are those that a view gets');
sql('DROP VIEW continuous');

# Whose user mapping: a secret on an open line is refused, which tells who was asked.
sql(q{CREATE ROLE with_secret; CREATE ROLE without; GRANT USAGE ON FOREIGN SERVER shop TO with_secret, without;
	CREATE USER MAPPING FOR with_secret SERVER shop OPTIONS ("sasl.username" 'u', "sasl.password" 'p');
	GRANT SELECT ON orders TO with_secret, without;
	CREATE VIEW of_secret AS SELECT * FROM orders WHERE o < 1; ALTER VIEW of_secret OWNER TO with_secret; GRANT SELECT ON of_secret TO PUBLIC;
	CREATE VIEW of_without AS SELECT * FROM orders WHERE o < 1; ALTER VIEW of_without OWNER TO without; GRANT SELECT ON of_without TO PUBLIC});
is(sql('SET ROLE without; SELECT count(*) FROM orders WHERE o < 1'), 3, 'a role without a mapping reads');
like(complaint('SET ROLE with_secret; SELECT * FROM orders'), qr/credentials .* cannot be sent/, 'the mapping of the current role is used');
is(sql('SET ROLE with_secret; SELECT count(*) FROM of_without'), 3, "a view is read with its owner's mapping");
like(complaint('SET ROLE without; SELECT * FROM of_secret'), qr/credentials .* cannot be sent/, 'and with no other');
like(complaint('CREATE ROLE nobody_special; SET ROLE nobody_special; SELECT * FROM orders'), qr/permission denied/, 'SELECT must be granted');

# Nothing is left: not after rows, errors, rollbacks to savepoints, or queries that stop early.
($in, $out) = ('', '');
$psql = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres') ], '<', \$in, '>', \$out, '2>&1');
$in .= q{
DO $$
BEGIN
	FOR i IN 1..10 LOOP
		BEGIN
			PERFORM seq / (o - 3) FROM orders;
		EXCEPTION WHEN division_by_zero THEN NULL;
		END;
		PERFORM seq FROM orders LIMIT 1;
		BEGIN
			PERFORM * FROM stop;
		EXCEPTION WHEN data_exception THEN NULL;
		END;
	END LOOP;
END $$;
BEGIN; SAVEPOINT s; DECLARE c CURSOR FOR SELECT * FROM orders; FETCH 1 FROM c; ROLLBACK TO s; COMMIT;
BEGIN; DECLARE c CURSOR FOR SELECT * FROM orders; FETCH 1 FROM c; ROLLBACK;
SELECT 'pid ' || pg_backend_pid();
};
wait_until(60, sub { $psql->pump_nb; $out =~ /pid \d+/ }) or die "no answer: $out";
my ($pid) = $out =~ /pid (\d+)/;
unlike($out, qr/ERROR/, 'errors in subtransactions are caught');
$node->until_true("SELECT count(*) = 1 FROM pg_ls_dir('/proc/$pid/task')", 30);
cmp_ok(sql("SELECT count(*) FROM pg_ls_dir('/proc/$pid/fd')"), '<', 40, 'no thread and no file is left');
$psql->finish;

# A broker that does not answer: bounded, and interruptible at once.
my $silent = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Proto => 'tcp', Listen => 50) or die "could not listen: $!";
sql("CREATE SERVER silent FOREIGN DATA WRAPPER pipeline_kafka OPTIONS (bootstrap_servers '127.0.0.1:@{[ $silent->sockport ]}', \"socket.timeout.ms\" '1500');
CREATE FOREIGN TABLE unheard (body text) SERVER silent OPTIONS (topic 'x', format 'raw')");
like(complaint('SELECT * FROM unheard'), qr/ERROR:  could not read topic "x" of stream "unheard"\nDETAIL:  The brokers of server "silent" did not answer for 1500 milliseconds.*\nHINT:  How long to wait is the server's option "socket.timeout.ms"/, 'silence is an error after the time that the server says');
sql(q{ALTER SERVER silent OPTIONS (SET "socket.timeout.ms" '60000')});
my $seconds = seconds_of(sub { like(complaint("SET statement_timeout = '300ms'; SELECT * FROM unheard"), qr/statement timeout/, 'statement_timeout'); });
cmp_ok($seconds, '<', 0.3 + $quick, 'statement_timeout is obeyed');

# Sends a signal to a session that waits for a topic, and waits for its end.
sub interrupted
{
	my ($name, $query, $signal, $pattern) = @_;
	my $output = '';
	my $waiting = "SELECT pid FROM pg_stat_activity WHERE query LIKE '%/* $name */%' AND pid <> pg_backend_pid() AND wait_event_type = 'Extension'";
	my $harness = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', "$query /* $name */" ], '<', \undef, '>&', \$output);

	wait_until(30, sub { sql($waiting) ne '' }) or die "$name: it does not wait: $output";
	my $took = seconds_of(sub { $signal->(sql($waiting)); $harness->finish; });
	diag(sprintf('%s took %.2f seconds', $name, $took));
	cmp_ok($took, '<', $quick, "$name: at once");
	like($output, $pattern, "$name: says so");
	return;
}
interrupted('cancel', 'SELECT * FROM unheard', sub { sql("SELECT pg_cancel_backend($_[0])"); }, qr/canceling statement due to user request/);
interrupted('terminate', 'SELECT * FROM unheard', sub { sql("SELECT pg_terminate_backend($_[0])"); }, qr/terminating connection/);
like(complaint('ALTER FOREIGN TABLE unheard OPTIONS (SET topic \'y\'); CREATE FOREIGN TABLE missing (body text) SERVER shop OPTIONS (topic \'missing\', format \'raw\'); SELECT * FROM missing'),
	qr/ERROR:  topic "missing" of stream "missing" does not exist/, 'a topic that does not exist');

# The broker goes away in the middle, and comes back.
sql(q{ALTER SERVER shop OPTIONS (ADD "socket.timeout.ms" '3000')});
($in, $out) = ('', '');
$psql = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres') ], '<', \$in, '>', \$out, '2>&1');
$in .= "BEGIN; DECLARE c CURSOR FOR SELECT seq FROM orders; FETCH 1 FROM c;\n";
wait_until(30, sub { $psql->pump_nb; $out =~ /^\d+$/m }) or die "no row: $out";
$broker->stop;
my $away = complaint('SELECT * FROM orders');
like($away, qr/did not answer for 3000 milliseconds; the last problem was: (?!none)/, 'a broker that is away');
$broker->start;
is(sql('SELECT count(*) FROM orders'), $events, 'a broker that is back');
$in .= "MOVE ALL FROM c; FETCH 1 FROM c; SELECT 'over'; COMMIT;\n";
wait_until(60, sub { $psql->pump_nb; $out =~ /over|ERROR/ }) or die "no answer: $out";
$psql->finish;
unlike($out, qr/ERROR/, 'a scan goes on when the broker is back');

# Fast shutdown while a query waits.
my $output = '';
my $harness = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', 'SELECT * FROM unheard /* shutdown */' ], '<', \undef, '>&', \$output);
$node->until_true("SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE '%/* shutdown */' AND wait_event_type = 'Extension'", 30);
$seconds = seconds_of(sub { $node->stop('fast'); });
cmp_ok($seconds, '<', $quick + 1, 'fast shutdown does not wait for a query');
$harness->finish;
unlike(slurp_file($node->logfile), qr/PANIC|TRAP:|leak|was terminated by signal/, 'the log shows no internal error');
done_testing();
