# The promise: pipeline.infer_columns() and IMPORT FOREIGN SCHEMA propose streams for
# topics nobody knows, as they are on a real broker, and what is proposed works at once
# in a continuous view.  Without this a new user would have to find out by other tools
# what is in a topic, and would learn of mistakes from dead letters.

use strict;
use warnings;
use utf8;

use FindBin;
use lib "$FindBin::Bin/../lib";

use IPC::Run ();
use Time::HiRes ();
use Test::More;

use KafkaBroker;
use PipelineNode;

my $broker = KafkaBroker->new;
my $node = PipelineNode->create('infer');
my $address = $broker->address;
my ($out, $err, $status, $begun);

$node->sql(<<"SQL");
CREATE SERVER shop FOREIGN DATA WRAPPER pipeline_kafka OPTIONS (bootstrap_servers '$address');
CREATE SERVER nowhere FOREIGN DATA WRAPPER pipeline_kafka OPTIONS (bootstrap_servers 'localhost:1');
SQL

# The last words of kcat come first: key, tombstones, headers.
sub kcat
{
	my ($topic, $partition, $input, @options) = @_;

	IPC::Run::run([ 'kcat', '-P', '-q', '-b', $address, '-t', $topic, '-p', $partition, @options ],
		'<', \$input, '2>', \$err)
	  or die "kcat failed: $err";
	return;
}

sub infer
{
	my ($topic, $more) = @_;

	$more //= '';
	return $node->sql("SELECT pipeline.infer_columns('shop', '$topic'$more)");
}

# Runs a proposal and reads all of the topic through it.
sub read_by_proposal
{
	my ($topic, $columns) = @_;
	my $statement = infer($topic, ", table_name => 'proposed'");

	$node->sql("DROP FOREIGN TABLE IF EXISTS proposed CASCADE; $statement");
	$node->sql("CREATE VIEW by_proposal WITH (pipeline.continuous) AS SELECT $columns FROM proposed");
	$node->wait_for('by_proposal');
	return $statement;
}

sub dead_letters
{
	return $node->sql("SELECT dead_letters FROM pipeline.stat_views WHERE view = 'by_proposal'::regclass");
}

# A long topic of three partitions, whose shape changes in the middle: the sample has some
# from the beginning and most from the end.
$broker->create_topic('orders', 3);
for my $p (0 .. 2)
{
	my @records = map {
		my $i = $_;
		sprintf '{"orderId": %d, "amount": %s, "customer": {"id": %d, "vip": %s}, "orderedAt": "2025-06-01T%02d:%02d:%02d%s"%s}',
		  $i * 3 + $p, $i % 7 == 0 ? '12' : '12.50', $i % 10, $i % 2 ? 'true' : 'null',
		  ($i - ($i % 5 == 0 && 2)) / 3600, ($i - ($i % 5 == 0 && 2)) / 60 % 60, ($i - ($i % 5 == 0 && 2)) % 60,
		  'Z', $i > 2000 ? ', "coupon": "SUMMER"' : ', "old": 1'
	} 10 .. 4009;

	$broker->produce_records('orders', $p, @records);
}
$out = read_by_proposal('orders', 'order_id, amount, customer_id, customer_vip, ordered_at, coupon, kafka_partition, kafka_offset');
like($out, qr/^-- Topic "orders": sample of 1000 records from 3 of 3 partitions, which have about 12000: 198 from the beginnings/, 'how was sampled');
like($out, qr/^  order_id bigint OPTIONS \(field 'orderId'\), +-- in every record;/m, 'a field');
like($out, qr/^  customer_vip boolean OPTIONS \(field 'customer\.vip'\), +-- in every record, (49|50)\d of them null;/m, 'a nested one');
like($out, qr/^  coupon text, +-- in 802 of 1000 records;/m, 'one that came later');
like($out, qr/^  old bigint, +-- in 198 of 1000 records;/m, 'one that is gone');
like($out, qr/event_time 'ordered_at', out_of_orderness '2 seconds'\);$/, 'event time, with twice the disorder that there is');
like($out, qr/^-- Behind an earlier record of the same partition: (19|20)\d of 1000 in the sample, by 1 second at most/m, 'how it was measured') or diag $out;
is($node->sql('SELECT count(*), count(amount), sum(order_id), count(coupon), count(DISTINCT kafka_partition) FROM by_proposal'),
	'12000|12000|72354000|6027|3', 'a view reads all of it');
is(dead_letters(), 0, 'no record is bad for it');

# With windows, as a new user would begin, by \gexec
$node->sql('DROP FOREIGN TABLE proposed CASCADE');
$status = $node->psql('postgres', "SELECT pipeline.infer_columns('shop', 'orders', sample_size => 50) \\gexec\n"
	  . 'CREATE VIEW per_minute WITH (pipeline.continuous) AS SELECT pipeline.tumble(ordered_at, \'1 minute\') AS minute, count(*) AS orders FROM orders GROUP BY 1',
	stderr => \$err);
is($status, 0, 'the statement is run by \gexec') or diag $err;
$node->wait_for('per_minute');
is($node->sql("SELECT sum(orders) FROM per_minute WHERE upper(minute) <= pipeline.watermark('per_minute')"),
	$node->sql('SELECT sum(orders) FROM per_minute'), 'windows close');
ok($node->sql('SELECT count(*) FROM per_minute') > 60, 'many of them');
is($node->sql("SELECT late FROM pipeline.stat_views WHERE view = 'per_minute'::regclass"), 0, 'nothing is late');

# Keys, headers, tombstones; an epoch
$broker->create_topic('changes', 1);
kcat('changes', 0, join('', map { "k$_:{\"id\": $_, \"ts\": " . (1748779200000 + $_) . "}\n" } 1 .. 5), '-K:', '-H', 'a=b');
kcat('changes', 0, "k1:\nk2:\n", '-K:', '-Z');
$out = read_by_proposal('changes', 'kafka_key, id, kafka_headers');
like($out, qr/^  ts timestamptz OPTIONS \(format 'epoch_ms'\)/m, 'an epoch');
like($out, qr/^-- 2 of 7 records have no value/m, 'tombstones are counted');
is($node->sql('SELECT * FROM by_proposal ORDER BY id, kafka_key'),
	join("\n", (map { "k$_|$_|{\"a\": \"b\"}" } 1 .. 5), 'k1||{}', 'k2||{}'), 'keys and headers are read');

# A topic that is compacted to tombstones at its end still says what it had
$broker->create_topic('deleted', 1);
kcat('deleted', 0, join('', map { "k$_:{\"id\": $_}\n" } 1 .. 5), '-K:');
kcat('deleted', 0, join('', map { "k$_:\n" } 1 .. 200), '-K:', '-Z');
like(infer('deleted', ', sample_size => 1'), qr/^  id bigint, /m, 'values are looked for in front of tombstones');

# CSV, text, bytes
$broker->create_topic('csv', 1);
$broker->produce_records('csv', 0, 'Order ID,name,at', '1,"a, b",2025-06-01T00:00:00Z', '2,,2025-06-01T00:00:01Z');
$out = read_by_proposal('csv', 'order_id, name, at');
is($node->sql('SELECT order_id, name FROM by_proposal ORDER BY 1'), "1|a, b\n2|", 'CSV is read');
is(dead_letters(), 1, 'but for its header, as the proposal says');
like($out, qr/^-- The record at offset 0 of partition 0 is a header/m, 'it says so');
$broker->create_topic('files', 1);
kcat('files', 0, "id;name\n1;a~id;name\n2;\"b;c\"~", '-D', '~');
$out = read_by_proposal('files', 'id, name');
is($node->sql('SELECT * FROM by_proposal ORDER BY 1'), "1|a\n2|b;c", 'CSV with semicolons, and a header in each record') or diag $out;
is(dead_letters(), 0, 'which is none of its events');
$broker->create_topic('lines', 1);
$broker->produce_records('lines', 0, 'GET / 200', 'größe');
read_by_proposal('lines', 'payload, kafka_timestamp');
is($node->sql("SELECT count(*) FROM by_proposal WHERE payload IN ('GET / 200', 'größe')"), 2, 'text is read');
$broker->create_topic('bytes', 1);
kcat('bytes', 0, "\x00\xff\xfe");
read_by_proposal('bytes', 'payload');
is($node->sql('SELECT payload FROM by_proposal'), '\x00fffe', 'bytes are read');
$broker->create_topic('arrays', 1);
$broker->produce_records('arrays', 0, '[1, 2]', '[{"a": 3}]');
read_by_proposal('arrays', 'payload');
is($node->sql("SELECT payload->0 FROM by_proposal ORDER BY 1"), "1\n{\"a\": 3}", 'documents that are no objects are read');

# All types together: what is proposed reads what it was made from
$broker->create_topic('types', 2);
$broker->produce_records('types', 0,
	'{"big": 123456789012345678901234567890, "f": 1e300, "n": 0.10, "u": "c1f0a7f2-6f4d-4f4e-8f9e-0d8d1f0a0001", "ip": "10.0.0.1", "d": "2025-06-01", "ts": "2025-06-01 12:00:00", "tz": "2025-06-01T12:00:00.123456789Z", "ints": [1, 2], "txts": ["a", null], "objs": [{"a": 1}], "mix": 1, "b": false, "quoted": 1, "weird": "\u0000x", "Größe (cm)": 3}');
$broker->produce_records('types', 1,
	'{"big": 1, "f": 0.12345678901, "n": 10, "u": null, "ip": "fe80::1", "d": "2024-02-29", "ts": "2025-06-01T12:00:00", "tz": "2025-06-01T12:00:00+05:30", "ints": [], "txts": [], "objs": [], "mix": "x", "b": true, "quoted": "2", "weird": "y", "Größe (cm)": 4}');
$out = read_by_proposal('types', '*');
is(dead_letters(), 0, 'every type reads its values') or diag $out;
is($node->sql('SELECT big, f, n, u, ip, d, ts, tz AT TIME ZONE \'UTC\', ints, txts, objs, mix, b, quoted, weird, "größe_cm" FROM by_proposal ORDER BY 1 DESC'),
	'123456789012345678901234567890|1e+300|0.10|c1f0a7f2-6f4d-4f4e-8f9e-0d8d1f0a0001|10.0.0.1|2025-06-01|2025-06-01 12:00:00|2025-06-01 12:00:00.123457|{1,2}|{a,NULL}|[{"a": 1}]|1|f|1|"\u0000x"|3' . "\n"
	  . '1|0.12345678901|10||fe80::1|2024-02-29|2025-06-01 12:00:00|2025-06-01 06:30:00|{}|{}|[]|x|t|2|"y"|4', 'all types') or diag $out;

# Long records, in a sample that is bounded
$broker->create_topic('long', 1, 'max.message.bytes=10000000');
kcat('long', 0, join('', map { '{"id": ' . $_ . ', "x": "' . 'x' x 900_000 . "\"}\n" } 1 .. 80), '-X', 'message.max.bytes=10000000');
kcat('long', 0, '{"id": 81, "x": "' . 'x' x 5_000_000 . "\"}\n", '-X', 'message.max.bytes=10000000');
$out = infer('long');
like($out, qr/^-- Topic "long": sample of [3-7]\d records/, 'no more than fit into memory');
like($out, qr/^  x text, +-- in every record; as in x{40}\.\.\.$/m, 'an example is short');

# Errors
$broker->create_topic('empty', 1);
$broker->create_topic('tombstones', 1);
kcat('tombstones', 0, "a:\n", '-K:', '-Z');
sub error_of
{
	my ($sql) = @_;

	$node->psql('postgres', $sql, stderr => \$err);
	return $err;
}
like(error_of("SELECT pipeline.infer_columns('shop', 'empty')"),
	qr/nothing can be inferred about topic "empty" of server "shop"\nDETAIL:  At present it has no records\.\nHINT:  .*format 'raw'/, 'an empty topic');
like(error_of("SELECT pipeline.infer_columns('shop', 'tombstones')"), qr/DETAIL:  At present its records have no values\./, 'only tombstones');
like(error_of("SELECT pipeline.infer_columns('shop', 'order')"), qr/topic "order" of server "shop" does not exist.*\nHINT:  Perhaps you meant the topic "orders"\./, 'an unknown topic');
like(error_of("SELECT pipeline.infer_columns('shop', 'something_else')"), qr/HINT:  There are: arrays, bytes, /, 'one that is like no other');
$begun = Time::HiRes::time();
like(error_of("SELECT pipeline.infer_columns('nowhere', 'orders')"), qr/could not reach the brokers of server "nowhere"\nDETAIL:  .*\nHINT:  Compare/, 'no broker');
cmp_ok(Time::HiRes::time() - $begun, '<', 20, 'it does not wait for long');
like(error_of("SET statement_timeout = '500ms'; SELECT pipeline.infer_columns('nowhere', 'orders')"), qr/canceling statement due to statement timeout/, 'the wait is interruptible');
$begun = Time::HiRes::time();
error_of("SET statement_timeout = '500ms'; SELECT pipeline.infer_columns('nowhere', 'orders')");
cmp_ok(Time::HiRes::time() - $begun, '<', 2.5, 'at once');
like(error_of("SELECT pipeline.infer_columns('nowhere', 'orders', timeout => '300 milliseconds')"), qr/could not reach the brokers/, 'a timeout of one\'s own');
$node->sql(<<'SQL');
CREATE ROLE carol LOGIN;
GRANT CREATE ON SCHEMA public TO carol;
GRANT USAGE ON FOREIGN SERVER shop TO carol;
CREATE USER MAPPING FOR carol SERVER shop OPTIONS ("sasl.username" 'carol', "sasl.password" 'secret');
SQL
like(error_of("SET ROLE carol; SELECT pipeline.infer_columns('nowhere', 'orders')"), qr/permission denied for foreign server nowhere/, 'USAGE is needed');
like(error_of("SET ROLE carol; SELECT pipeline.infer_columns('shop', 'orders')"), qr/credentials for foreign server "shop" cannot be sent/, 'the mapping of the caller is used');
$node->sql('DROP USER MAPPING FOR carol SERVER shop');
like($node->sql("SET ROLE carol; SELECT pipeline.infer_columns('shop', 'changes')"), qr/CREATE FOREIGN TABLE changes/, 'others may use it, too');

# IMPORT
$broker->create_topic($_, 1) foreach ('web.clicks', 'web.page-views', 'web_other', '_hidden', 'a.b', 'a-b');
$broker->produce_records('web.clicks', 0, map { "{\"url\": \"/$_\", \"happened\": \"2025-06-01T00:00:0${_}Z\", \"sent\": \"2025-06-01T00:00:0${_}Z\"}" } 1 .. 5);
$broker->produce_records('web.page-views', 0, '{"url": "/x"}');
$broker->produce_records($_, 0, '{"id": 1}') foreach ('web_other', '_hidden', 'a.b', 'a-b');
$node->sql('CREATE SCHEMA imported; CREATE SCHEMA chosen; CREATE SCHEMA web');
my $tables = sub {
	my ($schema) = @_;

	return $node->sql("SELECT string_agg(relname, ' ' ORDER BY relname COLLATE \"C\") FROM pg_class WHERE relnamespace = '$schema'::regnamespace AND relkind = 'f'");
};
like(error_of('IMPORT FOREIGN SCHEMA kafka FROM SERVER shop INTO imported OPTIONS (sample_size \'100\')'),
	qr/WARNING:  nothing can be inferred about topic "empty"\nDETAIL:  At present it has no records\./, 'IMPORT tells what it knows nothing about');
is($tables->('imported'), 'a_b a_b_2 arrays bytes changes csv deleted empty files lines long orders tombstones types web_clicks web_other web_page_views',
	'all topics but those of Kafka itself');
is($node->sql("SELECT ftoptions FROM pg_foreign_table WHERE ftrelid = 'imported.empty'::regclass"), '{topic=empty,format=raw,event_time=kafka_timestamp}', 'an empty topic is not lost');
$node->sql(<<'SQL');
CREATE VIEW imported.clicks WITH (pipeline.continuous) AS SELECT url FROM imported.web_clicks;
CREATE VIEW imported.per_hour WITH (pipeline.continuous) AS SELECT pipeline.tumble(ordered_at, '1 hour') AS w, count(*) FROM imported.orders GROUP BY 1;
CREATE VIEW imported.raws WITH (pipeline.continuous) AS SELECT payload FROM imported.empty;
SQL
$broker->produce_records('empty', 0, 'now there is one');
$node->wait_for("imported.$_") foreach ('clicks', 'per_hour', 'raws');
is($node->sql('SELECT count(*) FROM imported.clicks'), 5, 'a view reads an imported stream');
is($node->sql('SELECT sum(count) FROM imported.per_hour'), 3591 * 3, 'another one');
is($node->sql('SELECT payload FROM imported.raws'), 'now there is one', 'and one that was empty');
like(error_of('IMPORT FOREIGN SCHEMA kafka LIMIT TO (orders, "web.clicks", _hidden, missing) FROM SERVER shop INTO chosen OPTIONS (event_time \'sent\', out_of_orderness \'1 minute\')'),
	qr/^psql:<stdin>:1: WARNING:  server "shop" has no topic "missing" to import$/, 'LIMIT TO tells what there is not');
is($tables->('chosen'), '_hidden orders web.clicks', 'LIMIT TO by topic or table');
is($node->sql("SELECT ftoptions FROM pg_foreign_table WHERE ftrelid = 'chosen.\"web.clicks\"'::regclass"),
	'{topic=web.clicks,format=json,event_time=sent,"out_of_orderness=1 minute"}', 'options of IMPORT');
$node->sql('IMPORT FOREIGN SCHEMA web EXCEPT ("web.page-views") FROM SERVER shop INTO web');
is($tables->('web'), 'clicks other', 'topics with a prefix');
is($node->sql('DROP SCHEMA chosen CASCADE; CREATE SCHEMA chosen; IMPORT FOREIGN SCHEMA kafka LIMIT TO (tombstones, lines) FROM SERVER shop INTO chosen OPTIONS (import_empty \'false\')') . $tables->('chosen'),
	'lines', 'without those of which nothing is known');
like(error_of('IMPORT FOREIGN SCHEMA public FROM SERVER shop INTO chosen'), qr/has no topics that begin with "public".*\nHINT:  IMPORT FOREIGN SCHEMA kafka stands for all topics\./, 'a schema that is none');
like(error_of('IMPORT FOREIGN SCHEMA kafka FROM SERVER nowhere INTO chosen'), qr/could not reach the brokers of server "nowhere"/, 'no broker');

# A session that is ended in the middle of it takes nothing with it
$begun = $node->started_at;
my $session = $node->background_psql('postgres', on_error_stop => 0);
my $pid = $session->query_safe('SELECT pg_backend_pid()');
$session->{stdin} .= "SELECT pipeline.infer_columns('nowhere', 'orders', timeout => '1 hour');\n";
$session->{run}->pump_nb;
$node->until_true("SELECT wait_event_type = 'Extension' FROM pg_stat_activity WHERE pid = $pid");
$node->sql("SELECT pg_terminate_backend($pid)");
$node->until_true("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid", 10);
is($node->started_at, $begun, 'a session ends while it asks');
eval { $session->quit; };

done_testing();
