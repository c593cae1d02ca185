# INSERT INTO a Kafka stream writes to its topic when the transaction commits: all
# rows or, if the transaction is rolled back before, none; and what is written
# reads back equal.  If this failed, rows would be lost though their transaction was
# committed, or be in the topic though it was not, or mean something else to readers.

use strict;
use warnings;
use utf8;

use Encode qw(encode);
use FindBin;
use lib "$FindBin::Bin/../lib";

use IPC::Run ();
use PostgreSQL::Test::Utils;
use Test::More;

use KafkaBroker;
use Oracle qw(seconds_of wait_until);
use PipelineNode;

# An answer to an interrupt: 200 ms, and what a busy machine adds.
my $quick = 2;
my $many = $ENV{PIPELINE_ROWS} || 1_000_000;
my $broker = KafkaBroker->new;
my $node = PipelineNode->create('insert', conf => "timezone = 'UTC'\njit = off\nfsync = off\n");

sub sql { return $node->sql(encode('UTF-8', $_[0])); }

# What psql says on standard error; the statements must fail.
sub complaint
{
	my ($statement) = @_;
	my ($status, $out, $err) = $node->psql('postgres', $statement);

	die "succeeded: $statement\n$out" if $status == 0;
	return $err;
}

sub ends { return join ' ', $broker->end_offsets($_[0]); }

sub create_stream
{
	my ($name, $columns, $options) = @_;

	sql("CREATE FOREIGN TABLE $name ($columns) SERVER shop OPTIONS (topic '$name'" . ($options ? ", $options" : '') . ')');
	return;
}

sql("CREATE SERVER shop FOREIGN DATA WRAPPER pipeline_kafka OPTIONS (bootstrap_servers '@{[ $broker->address ]}', \"message.timeout.ms\" '60000')");
sql(q{CREATE TYPE mood AS ENUM ('ok', 'so "so"'); CREATE DOMAIN positive AS integer CHECK (VALUE > 0); CREATE TYPE pair AS (a integer, b text, at timestamptz, bytes bytea);
	CREATE TYPE nest AS (p pair, ps pair[], m mood, f float8); CREATE DOMAIN moods AS mood[]});

# Every type, with values that are hard to write; written under settings that change what
# types look like, read under others.
my @types = (
	[ 'i2', 'smallint', -32768, 32767 ], [ 'i4', 'integer', 0, -2147483648 ], [ 'i8', 'bigint', '9223372036854775807', '-9223372036854775808' ],
	[ 'f4', 'real', '0.1', "'-Infinity'", "'NaN'", '3.4028235e38', '1e-45', "'-0'" ], [ 'f8', 'double precision', '0.1', '1e308', '5e-324', '9007199254740993', "'Infinity'", "'-0'", 'pi()' ],
	[ 'num', 'numeric', '0.10', '12345678901234567890.123456789', "'NaN'", "'-Infinity'", '1e100', '-0.000' ], [ 'dec', 'numeric(6,2)', '1234.565' ],
	[ 'bool', 'boolean', 'true', 'false' ],
	[ 'txt', 'text', "''", "'a,\"b\"'", "E'\\n\\r\\t\\b\\\\'", "'é😀'", "'null'", "E'\\u0001'", "'NULL'", "'\\N'", "repeat('x', 5000)" ],
	[ 'vc', 'varchar(3)', "'äöü'" ], [ 'bc', 'char(4)', "'ab'", "''" ], [ 'uid', 'uuid', "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'" ],
	[ 'js', 'json', q('{"b": 1,  "a": [null, 1.0]}'), q('"s"'), '\'1.50\'', "'[]'", "E'{\\n}'" ], [ 'jb', 'jsonb', q('{"b":1,"a":{"c":"\u00e9\""}}'), "'[]'", "'1.50'" ],
	[ 'tz', 'timestamptz', "'2024-01-01 00:00:00.123456+05:30'", "'infinity'", "'-infinity'", "'0044-03-15 12:00:00+00 BC'", "'294276-12-31 23:59:59.999999+00'", "'4714-11-24 00:00:00+00 BC'" ],
	[ 'ts', 'timestamp', "'2024-06-30 23:59:59.999999'", "'infinity'", "'0001-01-01 00:00:00 BC'" ], [ 'dt', 'date', "'2024-02-29'", "'5874897-12-31'", "'-infinity'", "'0044-03-15 BC'" ],
	[ 'tm', 'time', "'24:00:00'", "'00:00:00.000001'" ], [ 'tmz', 'timetz', "'12:00:00.5+02:30'" ],
	[ 'bin', 'bytea', "'\\x00ff5c22'", "''" ], [ 'iv', 'interval', "'-1 year -2 mons +3 days -04:05:06.789'", "'1 day -1 hour'", "'0'" ], [ 'net', 'inet', "'10.0.0.0/8'" ],
	[ 'ints', 'integer[]', "'{1,NULL,3}'", "'{}'", "'{{1,2},{3,4}}'", "'[2:3]={7,8}'", "'[0:0][5:6]={{1,2}}'" ], [ 'txts', 'text[]', q('{"a,b","\"q\"",NULL,"NULL","]","",é}') ],
	[ 'tzs', 'timestamptz[]', "'{2024-01-01 00:00:00+01,NULL,infinity}'" ], [ 'jbs', 'jsonb[]', q('{"[1]","{\"a\": 2}"}'), q('{{"[1]","2"},{"3","{}"}}') ], [ 'bins', 'bytea[]', q('{"\\\\x00ff",""}') ],
	[ 'f8s', 'float8[]', "'{0.1,NaN,-Infinity,1e300}'" ], [ 'feel', 'mood', "'ok'", "'so \"so\"'" ], [ 'ms', 'moods', q('{ok,"so \"so\""}') ], [ 'pos', 'positive', 5 ],
	[ 'two', 'pair', "ROW(1, 'x\"y', '2024-01-01 12:00+00', '\\x00ff')::pair", 'ROW(NULL, NULL, NULL, NULL)::pair', "ROW(NULL, '', 'infinity', '')::pair" ],
	[ 'nst', 'nest', "ROW(ROW(1, 'a', NULL, NULL)::pair, ARRAY[ROW(2, 'b', now(), NULL)::pair, NULL], 'ok', 'NaN')::nest" ],
	[ 'rng', 'tstzrange', "'[2024-01-01 00:00:00+01,2024-02-01 00:00:00+01)'", "'empty'", "'(,)'" ], [ 'nr', 'nummultirange', "'{[1.5,2),(3,)}'" ],
	[ 'bits', 'bit varying', "B'1010'" ], [ 'pt', 'point', "'(1.5,-2e-10)'" ], [ 'tv', 'tsvector', "'a:1 ''b c'':2'" ], [ 'ltn', 'name', "'n'" ], [ 'o', 'oid', '4294967295' ],
	[ 'es', 'timestamptz', "'2024-01-01 00:00:00.5+00'", "'1969-12-31 23:59:59.000001+00'", "'1900-01-01 00:00+00'" ], [ 'em', 'timestamp', "'2024-01-01 00:00:00.123456'", "'2000-01-01'" ],
	[ 'eu', 'timestamptz', "'1969-12-31 23:59:59.999999+00'" ], [ 'ed', 'date', "'2024-02-29'", "'1960-01-01'" ], [ 'ess', 'timestamptz[]', "'{2024-01-01 00:00:00.25+00,NULL}'" ],
	[ 'b64', 'bytea', "'\\x00ff5c22'", "decode(repeat('ab', 100), 'hex')" ],
	[ 'deep', 'text', "'down'", "''" ], [ 'deeper', 'integer', 1 ], [ 'el0', 'integer', 7 ], [ 'el1', 'text', "'one'" ]);
my %options = (
	es => "format 'epoch_s'", em => "format 'epoch_ms'", eu => "format 'epoch_us'", ed => "format 'epoch_s'", ess => "format 'epoch_s'", b64 => "format 'base64'",
	deep => "field 'a.b'", deeper => "field 'a.c.d \"e'", el0 => "field 'list.0'", el1 => "field 'list.1'");

# In CSV an array's elements are in its text, which knows no numbers for times.
my %csv_options = %options{qw(es em eu ed b64)};
my $hostile = "SET datestyle = 'German'; SET intervalstyle = 'sql_standard'; SET extra_float_digits = -10; SET bytea_output = 'escape'; SET timezone = 'Asia/Kolkata';";

sub column_list
{
	my ($options) = @_;

	return join ', ', 'id bigint', map { "$_->[0] $_->[1]" . ($options->{ $_->[0] } ? " OPTIONS ($options->{$_->[0]})" : '') } @types;
}

sql('CREATE TABLE vals (' . column_list({}) . ')');
my $id = 0;
foreach my $type (@types)
{
	my ($name, undef, @values) = @$type;

	sql(join ';', map { "INSERT INTO vals (id, $name) VALUES (" . ++$id . ", $_)" } @values);
}

# A row with something in every column, so that none is a neighbour's.
sql('INSERT INTO vals SELECT 0, ' . join(', ', map { "(SELECT $_->[0] FROM vals WHERE $_->[0] IS NOT NULL ORDER BY id LIMIT 1)" } @types));
foreach my $format ([ 'json', \%options, '' ], [ 'csv', \%csv_options, '' ], [ 'csv_other', \%csv_options, ", delimiter ';', quote '\$', escape '!', \"null\" 'nil', header 'match', encoding 'UTF8'" ])
{
	my ($name, $options, $more) = @$format;

	$broker->create_topic($name, 2);
	create_stream($name, column_list($options), 'format \'' . ($name =~ s/_.*//r) . "'$more");
	sql("$hostile INSERT INTO $name SELECT * FROM vals");
	is($node->rows_differ("SELECT * FROM $name", 'SELECT * FROM vals'), '', "$name: what is inserted reads back equal");
}

# The same through a continuous view: it reads what any client wrote.
sql("CREATE VIEW read_back WITH (pipeline.continuous, pipeline.start = 'earliest') AS SELECT * FROM json");
$node->wait_for('read_back', 60);
is($node->rows_differ('SELECT * FROM read_back', 'SELECT * FROM vals'), '', 'json: a continuous view reads the same');
is(sql('SELECT count(*) FROM pipeline.dead_letters'), 0, 'json: without dead letters');
sql('DROP VIEW read_back');

# What other clients see.
sub kcat
{
	my ($topic, $format) = @_;
	my $output;

	IPC::Run::run([ 'kcat', '-C', '-q', '-e', '-b', $broker->address, '-t', $topic, '-o', 'beginning', '-f', $format ], '>', \$output) or die "kcat failed\n";
	return $output;
}
$broker->create_topic('plain', 2);
create_stream('plain', q{k text OPTIONS (metadata 'key'), p int OPTIONS (metadata 'partition'), o bigint OPTIONS (metadata 'offset'), t timestamptz OPTIONS (metadata 'timestamp'),
	h jsonb OPTIONS (metadata 'headers'), topic text OPTIONS (metadata 'topic'), id int DEFAULT 42, country text OPTIONS (field 'address.country'), amount numeric, twice numeric GENERATED ALWAYS AS (amount * 2) STORED});
is(sql(q{INSERT INTO plain (k, p, t, h, country, amount) VALUES ('key', 1, '2024-01-01 12:00:00.123456+00', '{"a": "x", "n": null, "num": 1.5, "bytes": "\\\\xff00"}', E'D"E\n', 1.50) RETURNING id, amount, twice, k, p, o, topic}),
	'42|1.50|3.00|key|1||', 'RETURNING gives what is inserted, with defaults and generated columns');
is(kcat('plain', '%k|%p|%o|%T|%s'), q(key|1|0|1704110400123|{"id":42,"address":{"country":"D\"E\n"},"amount":1.50}), 'the record as another client sees it');
is(sql(q{SELECT k, p, o, t, h, topic, id, country = E'D"E\n', amount, twice FROM plain}), 'key|1|0|2024-01-01 12:00:00.123+00|{"a": "x", "n": null, "num": "1.5", "bytes": "\\\\xff00"}|plain|42|t|1.50|3.00', 'it reads back, its time to milliseconds');
sql(q{INSERT INTO plain (k, p, id) VALUES ('gone', 0, NULL)});
is(kcat('plain', '%k|%p|%S;') =~ /gone\|0\|(-?\d+)/ ? $1 : '', -1, 'a row without values is a tombstone');
is(sql(q{SELECT id, country, amount, twice FROM plain WHERE k = 'gone'}), '|||', 'which reads back as the row');
sql(q{INSERT INTO plain (k, id) SELECT 'k' || g % 10, g FROM generate_series(1, 100) g});
is(sql(q{SELECT max(n) FROM (SELECT count(DISTINCT p) AS n FROM plain WHERE k LIKE 'k_' GROUP BY k) s}), 1, 'records of a key are in one partition');
is(sql(q{SELECT count(*) FROM plain WHERE k LIKE 'k_' AND t > now() - interval '1 hour'}), 100, 'the time is that of the commit if not said');
# keys go where clients in Java put them: murmur2("21") % 2 is 0 there, "foobar" 1
is(sql(q{INSERT INTO plain (k, id) VALUES ('21', 1000), ('foobar', 1001)}) . sql('SELECT id, p FROM plain WHERE id >= 1000 ORDER BY id'),
	"1000|" . (murmur2('21') % 2) . "\n1001|" . (murmur2('foobar') % 2), "keys are where clients in Java put them");

# Of Kafka's DefaultPartitioner, without its sign.
sub murmur2
{
	my ($key) = @_;
	my @bytes = unpack 'C*', $key;
	my ($m, $length) = (0x5bd1e995, scalar @bytes);
	my $h = 0x9747b28c ^ $length;
	my $multiply = sub { my ($a, $b) = @_; return (($a & 0xffff) * $b + (((($a >> 16) * $b) & 0xffff) << 16)) & 0xffffffff; };

	while (@bytes >= 4)
	{
		my $k = unpack 'V', pack 'C4', splice @bytes, 0, 4;

		$k = $multiply->($k, $m);
		$k = $multiply->($k ^ ($k >> 24), $m);
		$h = $multiply->($h, $m) ^ $k;
	}
	$h ^= $bytes[2] << 16 if @bytes > 2;
	$h ^= $bytes[1] << 8 if @bytes > 1;
	$h = $multiply->($h ^ $bytes[0], $m) if @bytes;
	$h = $multiply->($h ^ ($h >> 13), $m);
	return ($h ^ ($h >> 15)) & 0x7fffffff;
}

# raw, binary keys, the whole payload.
$broker->create_topic($_, 1) for qw(raw_text raw_bytes raw_json whole);
create_stream('raw_text', q{body text, k bigint OPTIONS (metadata 'key', format 'binary')}, q{format 'raw'});
create_stream('raw_bytes', q{body bytea, k bytea OPTIONS (metadata 'key')}, q{format 'raw'});
create_stream('raw_json', q{body jsonb, k uuid OPTIONS (metadata 'key')}, q{format 'raw'});
create_stream('whole', q{a int, doc jsonb OPTIONS (metadata 'payload')});
sql(q{INSERT INTO raw_text VALUES ('é', -2), ('', 5), (NULL, 7)});
is(sql('SELECT k, body, body IS NULL FROM raw_text ORDER BY k'), encode('UTF-8', "-2|é|f\n5||f\n7||t"), 'raw: text, empty and none; a binary key');
sql(q{INSERT INTO raw_bytes VALUES ('\x00ff', '\xfe00'), ('', ''), (NULL, NULL)});
is(sql('SELECT body, k FROM raw_bytes'), "\\x00ff|\\xfe00\n\\x|\\x\n|", 'raw: bytes');
sql(q{INSERT INTO raw_json VALUES ('{"a": [1]}', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'), ('null', NULL)});
is(sql('SELECT body, k FROM raw_json'), "{\"a\": [1]}|a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11\nnull|", 'raw: json');
sql(q{INSERT INTO whole (doc) VALUES ('{"a": 3, "b": {}}'); INSERT INTO whole (a) VALUES (4)});
is(sql('SELECT a, doc FROM whole'), "3|{\"a\": 3, \"b\": {}}\n4|{\"a\": 4}", 'the whole payload, or its parts');

# Refused, at the statement.
like(complaint(q{INSERT INTO plain (o) VALUES (1)}), qr/cannot insert a value into metadata column "o"\nDETAIL:  The broker gives a record its offset/, 'an offset');
like(complaint(q{INSERT INTO plain (topic) VALUES ('x')}), qr/cannot insert a value into metadata column "topic"/, 'a topic');
like(complaint(q{INSERT INTO plain (p) VALUES (-1)}), qr/metadata column "p" is out of range/, 'a negative partition');
like(complaint(q{INSERT INTO plain (t) VALUES ('infinity')}), qr/metadata column "t" is out of range/, 'an infinite timestamp');
like(complaint(q{INSERT INTO plain (h) VALUES ('[1]')}), qr/metadata column "h" must be a JSON object/, 'headers that are none');
like(complaint(q{INSERT INTO plain (country) VALUES (repeat('x', 1000000))}), qr/row for stream "plain" is too long to be sent.*message.max.bytes/s, 'a row that is too long');
like(complaint(q{INSERT INTO whole VALUES (1, '{}')}), qr/cannot insert values both into metadata column "doc"/, 'the payload twice');
like(complaint(q{INSERT INTO json (id, es) VALUES (1, 'infinity')}), qr/cannot send an infinite time in column "es"/, 'infinity as a number');
sql(q{CREATE FOREIGN TABLE twice (a int, b int OPTIONS (field 'a')) SERVER shop OPTIONS (topic 'plain'); CREATE FOREIGN TABLE inside (a int, b int OPTIONS (field 'a.b')) SERVER shop OPTIONS (topic 'plain');
	CREATE FOREIGN TABLE checked (a int NOT NULL CHECK (a > 0)) SERVER shop OPTIONS (topic 'plain')});
like(complaint("INSERT INTO $_ VALUES (1)"), qr/Column "b" and another one are in the same place/, "two columns in one place: $_") for qw(twice inside);
like(complaint('INSERT INTO checked VALUES (NULL)'), qr/violates not-null constraint/, 'NOT NULL is checked');
like(complaint('INSERT INTO checked VALUES (0)'), qr/violates check constraint/, 'CHECK is checked');
like(complaint("$_ plain SET id = 1"), qr/cannot update stream "plain".*HINT:  Insert another event/s, 'UPDATE') for 'UPDATE';
like(complaint('DELETE FROM plain'), qr/cannot delete from stream "plain"/, 'DELETE');
like(complaint('TRUNCATE plain'), qr/cannot truncate stream "plain"/, 'TRUNCATE');

# The transaction: nothing before COMMIT, nothing after ROLLBACK, all in order.
$broker->create_topic($_, 1) for qw(tx big);
create_stream($_, 'id bigint, note text') for qw(tx big);
sql('CREATE TABLE here (id bigint)');
sql("BEGIN; INSERT INTO tx SELECT g FROM generate_series(1, 1000) g; ROLLBACK");
is(ends('tx'), '0', 'ROLLBACK: nothing was sent');
like(complaint("BEGIN; INSERT INTO tx VALUES (1); SELECT 1/0; COMMIT"), qr/division by zero/, 'an error');
like(complaint("BEGIN; CREATE TABLE unique_at_end (a int UNIQUE DEFERRABLE INITIALLY DEFERRED); INSERT INTO tx VALUES (1); INSERT INTO unique_at_end VALUES (1), (1); COMMIT"), qr/duplicate key/, 'an error at COMMIT');
is(ends('tx'), '0', 'an error, then or at COMMIT: nothing was sent');
# savepoints, some rolled back, in memory and beyond it
foreach my $setting ("SET work_mem = '64kB'", "SET work_mem = '64MB'")
{
	my $before = ends('tx');

	sql(qq{$setting; BEGIN;
INSERT INTO tx SELECT g, 'kept' FROM generate_series(1, 2000) g;
SAVEPOINT a; INSERT INTO tx SELECT g, 'gone' FROM generate_series(1, 3000) g; ROLLBACK TO a;
INSERT INTO tx SELECT g, 'kept' FROM generate_series(2001, 2010) g;
SAVEPOINT b; INSERT INTO tx VALUES (2011, 'kept');
SAVEPOINT c; INSERT INTO tx SELECT g, 'gone' FROM generate_series(1, 5000) g; SAVEPOINT d; INSERT INTO tx VALUES (0, 'gone'); RELEASE d; ROLLBACK TO c; RELEASE b;
SAVEPOINT e; INSERT INTO tx VALUES (2012, 'kept'); RELEASE e;
DO \$\$ BEGIN
  FOR i IN 2013..2020 LOOP
    BEGIN INSERT INTO tx VALUES (i, 'kept'); EXCEPTION WHEN others THEN RAISE; END;
    BEGIN INSERT INTO tx VALUES (i, 'gone'); RAISE 'no'; EXCEPTION WHEN others THEN NULL; END;
  END LOOP; END \$\$;
SAVEPOINT f; INSERT INTO tx SELECT g, 'gone' FROM generate_series(1, 1000) g; ROLLBACK TO f;
COMMIT});
	is(sql("SELECT count(*), min(id), max(id), count(DISTINCT note), bool_and(id = n) FROM (SELECT id, note, row_number() OVER (ORDER BY o) AS n FROM (SELECT id, note, o FROM (SELECT *, row_number() OVER () AS o FROM tx) x WHERE o > $before) y) s"),
		'2020|1|2020|1|t', "$setting: savepoints that are rolled back take their rows along; the others come in order");
}
is(sql("SELECT count(*) FROM pg_ls_tmpdir()"), 0, 'no temporary file is left');
like(complaint("BEGIN; INSERT INTO tx VALUES (1); PREPARE TRANSACTION 'p'"), qr/cannot PREPARE a transaction that has inserted into Kafka streams/, 'PREPARE TRANSACTION');
sql("BEGIN; SAVEPOINT a; INSERT INTO tx VALUES (1); ROLLBACK TO a; INSERT INTO here VALUES (0); PREPARE TRANSACTION 'p'; COMMIT PREPARED 'p'");
is(sql('SELECT count(*) FROM here'), 1, 'it is possible if nothing is to be sent');
is(ends('tx'), 4040, 'and sends nothing');
# a topic that nothing is to be sent to after all is not asked for: its server may be gone
sql(q{BEGIN; INSERT INTO here VALUES (97);
SAVEPOINT a; CREATE SERVER passing FOREIGN DATA WRAPPER pipeline_kafka OPTIONS (bootstrap_servers 'localhost:1');
CREATE FOREIGN TABLE passing (id int) SERVER passing OPTIONS (topic 'passing'); INSERT INTO passing VALUES (1); ROLLBACK TO a;
INSERT INTO tx VALUES (4041, 'kept'); INSERT INTO big SELECT 1 WHERE false; INSERT INTO tx VALUES (4042, 'kept');
COMMIT});
is(sql('SELECT count(*) FROM here WHERE id = 97') . ' ' . ends('tx'), '1 4042', 'a server that is rolled back is no reason to fail');
my $end = ends('tx');
is(sql("BEGIN; INSERT INTO tx VALUES (1, 'own'); SELECT count(*) FROM tx WHERE note = 'own'; COMMIT"), 0, 'own rows are not seen before COMMIT');
is(sql("SELECT count(*) FROM tx WHERE note = 'own'"), 1, 'afterwards they are');

# COPY, INSERT ... SELECT from a stream, a partition of a table, a view.
sql("COPY tx (id, note) FROM STDIN WITH (FORMAT csv);\n7001,copied\n7002,\"co\"\"pied\"\n\\.\n");
is(sql('SELECT id, note FROM tx WHERE id BETWEEN 7000 AND 7100'), "7001|copied\n7002|co\"pied", 'COPY FROM');
sql(q{INSERT INTO tx SELECT id + 1000, note FROM tx WHERE id > 7000});
is(sql('SELECT count(*) FROM tx WHERE id > 8000'), 2, 'INSERT ... SELECT of itself ends');
sql(q{CREATE TABLE parted (id bigint, note text) PARTITION BY RANGE (id); CREATE TABLE low PARTITION OF parted FOR VALUES FROM (0) TO (100);
	CREATE FOREIGN TABLE high PARTITION OF parted FOR VALUES FROM (100) TO (200) SERVER shop OPTIONS (topic 'big'); INSERT INTO parted VALUES (1, 'low'), (101, 'high')});
is(sql('SELECT tableoid::regclass, id FROM parted'), "low|1\nhigh|101", 'a stream as a partition');
sql(q{CREATE ROLE with_secret; CREATE ROLE without; GRANT USAGE ON FOREIGN SERVER shop TO with_secret, without;
	CREATE USER MAPPING FOR with_secret SERVER shop OPTIONS ("sasl.username" 'u', "sasl.password" 'p'); GRANT ALL ON tx TO with_secret, without;
	CREATE VIEW of_without AS SELECT * FROM tx; ALTER VIEW of_without OWNER TO without; GRANT ALL ON of_without TO PUBLIC});
like(complaint(q{SET ROLE with_secret; INSERT INTO tx VALUES (1)}), qr/credentials .* cannot be sent/, 'the mapping of the current role is used');
sql(q{SET ROLE with_secret; INSERT INTO of_without VALUES (9001)});
is(sql('SELECT count(*) FROM tx WHERE id = 9001'), 1, "through a view that of its owner is");
like(complaint(q{CREATE ROLE reader; GRANT SELECT ON tx TO reader; SET ROLE reader; INSERT INTO tx VALUES (1)}), qr/permission denied/, 'INSERT must be granted');

# A pool's session that writes for many roles keeps the connections of a few.
sql(join ';', map { "CREATE ROLE pooled$_; GRANT INSERT ON tx TO pooled$_" } 1 .. 9);
my $pooled = $node->background_psql('postgres');
my $pid = $pooled->query_safe('SELECT pg_backend_pid()');
my $write = sub { $pooled->query_safe("SET ROLE pooled$_[0]; INSERT INTO tx VALUES ($_[0], 'pooled')"); };
$write->(1);
my $threads = sql("SELECT count(*) - 1 FROM pg_ls_dir('/proc/$pid/task')");
$write->($_) for 2 .. 9;
$node->until_true("SELECT count(*) - 1 <= 5 * $threads FROM pg_ls_dir('/proc/$pid/task')", 30);
$pooled->quit;
is(sql("SELECT count(*) FROM tx WHERE note = 'pooled'"), 9, 'each role wrote, and a few producers were kept');

# Timestamps that do not ascend: what a condition on them skips is right.
$broker->create_topic('times', 1, 'index.interval.bytes=500', 'segment.bytes=200000');
create_stream('times', q{id int, pad text, t timestamptz OPTIONS (metadata 'timestamp'), o bigint OPTIONS (metadata 'offset')});
sql(q{SELECT setseed(0.5); CREATE TABLE times_here AS SELECT g AS id, repeat('x', 50) AS pad, timestamptz '2024-01-01 00:00+00' + (g / 3 + (random() * 300)::int) * interval '1 millisecond' * (1 + (random() < 0.01)::int) AS t FROM generate_series(1, 20000) g});
for my $part (0 .. 19) { sql("INSERT INTO times SELECT id, pad, t FROM times_here WHERE id > $part * 1000 AND id <= $part * 1000 + 1000 ORDER BY id"); }
is(sql('SELECT count(*), count(DISTINCT id) FROM times'), '20000|20000', 'times: all are there');
is(sql(q{SELECT count(*), count(*) FILTER (WHERE ours <> right_ones) FROM (SELECT (SELECT count(*) FROM times WHERE t >= x) AS ours, (SELECT count(*) FROM times_here WHERE t >= x) AS right_ones
	FROM (SELECT t AS x FROM times_here WHERE id % 500 = 1 UNION ALL SELECT t + interval '400 microseconds' FROM times_here WHERE id % 900 = 1 UNION ALL SELECT max(t) FROM times_here) v) s}), '64|0', 'times: no record is missed');
is(sql(q{SELECT count(*), count(*) FILTER (WHERE ours <> right_ones) FROM (SELECT (SELECT count(*) FROM times WHERE t = x) AS ours, (SELECT count(*) FROM times_here WHERE t = x) AS right_ones
	FROM (SELECT t AS x FROM times_here WHERE id % 700 = 3) v) s}), '29|0', 'times: equality');
like(sql("EXPLAIN (ANALYZE, TIMING off) SELECT * FROM times WHERE t >= (timestamptz '2024-01-01 00:00+00' + interval '6 s')"), qr/Records Read: 1[01]\d{3}\n/, 'times: those in front are skipped');

# Many rows in bounded memory, written in order.
my ($out, $in) = ('', '');
my $psql = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres') ], '<', \$in, '>', \$out, '2>&1');
my $rss = "substring(pg_read_file('/proc/self/status') FROM 'VmHWM:\\s+(\\d+)')::int / 1024";
$in .= "SELECT 'before ' || $rss; INSERT INTO big SELECT g, repeat('n', 150) FROM generate_series(1, $many) g; SELECT 'after ' || $rss;\n";
my $seconds = seconds_of(sub { wait_until(300, sub { $psql->pump_nb; $out =~ /after \d+|ERROR/ }) or die "no answer: $out"; });
$psql->finish;
my ($before, $after) = $out =~ /before (\d+)\nafter (\d+)/ or die $out;
diag(sprintf('%d rows in %.1f s (%d/s), memory grew by %d MB', $many, $seconds, $many / $seconds, $after - $before));
cmp_ok($after - $before, '<', 300, 'memory is bounded');
is(sql("SELECT count(*), sum(id), bool_and(id > last) FROM (SELECT id, lag(id, 1, 0::bigint) OVER () AS last FROM big WHERE note <> 'high') s"),
	"$many|" . ($many * ($many + 1) / 2) . '|t', 'all are there, once, in order');

# kill -9 while a transaction's records are written: here nothing, there some, never too few
# once it was repeated.
sub session
{
	my ($name, $statement) = @_;
	my $output = '';

	my $harness = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-v', 'ON_ERROR_STOP=1', '-c', "/* $name */ $statement" ], '<', \undef, '>&', \$output);
	return { harness => $harness, output => \$output, name => $name };
}
sub pid_of { return sql("SELECT pid FROM pg_stat_activity WHERE query LIKE '/* $_[0] */%' AND pid <> pg_backend_pid()"); }

$broker->create_topic('killed', 1);
create_stream('killed', 'id bigint, note text');
sql('CREATE TABLE killed_here (id bigint)');
my $work = "WITH w AS (INSERT INTO killed SELECT g, repeat('n', 200) FROM generate_series(1, 300000) g) INSERT INTO killed_here VALUES (1)";
my $run = session('kill', $work);
wait_until(60, sub { (ends('killed'))[0] > 0 }) or die "nothing is written: ${ $run->{output} }";
my $started = $node->started_at;
kill 'KILL', pid_of('kill') || 0;
eval { $run->{harness}->finish; };
$node->until_true("SELECT backend_start > '$started' FROM pg_stat_activity WHERE backend_type = 'checkpointer'", 60);
my $written = ends('killed');
is(sql('SELECT count(*) FROM killed_here'), $written >= 300000 ? sql('SELECT count(*) FROM killed_here') : 0, "killed after $written of 300000 records: the transaction is not committed");
sql($work) if sql('SELECT count(*) FROM killed_here') == 0;
is(sql('SELECT count(DISTINCT id), count(*) >= 300000 FROM killed'), '300000|t', 'after a repetition each is there at least once');

# A topic or partition that is not there; the transaction is aborted.
create_stream('missing', 'id int');
like(complaint('BEGIN; INSERT INTO here VALUES (99); INSERT INTO missing VALUES (1); COMMIT'), qr/topic "missing" does not exist/, 'a topic that does not exist');
like(complaint('BEGIN; INSERT INTO here VALUES (99); INSERT INTO plain (id, p) VALUES (1, 17); COMMIT'), qr/partition 17 of topic "plain" does not exist/, 'a partition that does not exist');
is(sql('SELECT count(*) FROM here WHERE id = 99'), 0, 'neither is committed');

# The broker is away at COMMIT: an error in bounded time, or an interrupt; afterwards all goes on.
sql('INSERT INTO tx VALUES (1, \'connected\')');
sql(q{ALTER SERVER shop OPTIONS (SET "message.timeout.ms" '2000')});
$broker->stop;
like(complaint("BEGIN; INSERT INTO here VALUES (98); INSERT INTO tx VALUES (98, 'away'); COMMIT"), qr/ERROR:  could not write to topic "tx"\nDETAIL:  The Kafka client reports: Local: Message timed out\.\nHINT:  How long to wait is the server's option "message.timeout.ms"/, 'no broker: an error');
sql(q{ALTER SERVER shop OPTIONS (SET "message.timeout.ms" '300000')});
foreach my $signal (qw(pg_cancel_backend pg_terminate_backend))
{
	$run = session($signal, "INSERT INTO tx VALUES (97, 'away')");
	$node->until_true("SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE '/* $signal */%' AND wait_event_type = 'Extension' AND pid <> pg_backend_pid()", 30);
	$seconds = seconds_of(sub { sql("SELECT $signal(" . pid_of($signal) . ')'); eval { $run->{harness}->finish; }; });
	cmp_ok($seconds, '<', $quick, "$signal while COMMIT waits");
	like(${ $run->{output} }, qr/canceling statement due to user request|terminating connection/, "$signal: the transaction is aborted");
}
is(sql('SELECT count(*) FROM here WHERE id = 98'), 0, 'nothing is committed here');
$broker->start;
sql("INSERT INTO tx VALUES (1, 'back')");
is(sql("SELECT count(*) FILTER (WHERE note = 'back'), count(*) FILTER (WHERE note = 'away') FROM tx"), '1|0', 'what was not committed is not there; the next is');
unlike(slurp_file($node->logfile), qr/PANIC|TRAP:|leak|terminated by signal (?!9\b)\d+/, 'the log shows no internal error');
$node->stop;
done_testing();
