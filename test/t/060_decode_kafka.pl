# The promise: what a record's payload says is what its row says.  Every type
# that a column can have, in each format, from a real broker: the value must be
# the one that SQL gives for the same text, and a record that has none must be a
# dead letter with the right SQLSTATE, and nothing else.  Without this, values
# would be changed, or records lost, on their way in.

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
use PipelineNode;

# Columns of the streams: name, type, options of a JSON stream.
my @columns = (
	[ 'i2', 'smallint' ], [ 'i4', 'integer' ], [ 'i8', 'bigint' ], [ 'f4', 'real' ], [ 'f8', 'double precision' ],
	[ 'num', 'numeric' ], [ 'dec', 'numeric(6,2)' ], [ 'bool', 'boolean' ], [ 'txt', 'text' ], [ 'vc', 'varchar(3)' ],
	[ 'bc', 'char(4)' ], [ 'uid', 'uuid' ], [ 'js', 'json' ], [ 'jb', 'jsonb' ], [ 'tz', 'timestamptz' ],
	[ 'ts', 'timestamp(0)' ], [ 'dt', 'date' ], [ 'tm', 'time' ], [ 'tmz', 'timetz' ], [ 'bin', 'bytea' ],
	[ 'iv', 'interval' ], [ 'net', 'inet' ], [ 'ints', 'integer[]' ], [ 'txts', 'text[]' ], [ 'jbs', 'jsonb[]' ],
	[ 'feel', 'mood' ], [ 'pos', 'positive' ], [ 'two', 'pair' ],
	[ 'es', 'timestamptz', "format 'epoch_s'" ], [ 'em', 'timestamp', "format 'epoch_ms'" ], [ 'eu', 'timestamptz', "format 'epoch_us'" ],
	[ 'deep', 'text', "field 'a.b'" ]);
my %type = map { $_->[0] => $_->[1] } @columns;

# A column, what is sent for it, the literal of its type that means the same
# (undef: NULL); or a reference to the SQLSTATE with which it is refused.
my @json_values = (
	[ i2 => '1', '1' ], [ i2 => '-32768', '-32768' ], [ i2 => '32768', \'22003' ], [ i2 => '1.0', '1' ], [ i2 => '1.5', \'22P02' ],
	[ i2 => '"12"', '12' ], [ i2 => '" 7 "', '7' ], [ i2 => 'true', \'22P02' ], [ i2 => '[1]', \'22P02' ], [ i2 => '1e2', '100' ],
	[ i4 => 'null', undef ], [ i4 => '2147483648', \'22003' ], [ i4 => '-0', '0' ], [ i4 => '""', \'22P02' ],
	[ i8 => '9223372036854775807', '9223372036854775807' ], [ i8 => '-9223372036854775808', '-9223372036854775808' ],
	[ i8 => '9223372036854775808', \'22003' ], [ i8 => '0.9223372036854775807e19', '9223372036854775807' ],
	[ i8 => '1e400', \'22003' ], [ i8 => '1e-400', \'22P02' ],
	[ f4 => '0.1', '0.1' ], [ f4 => '16777217', '16777217' ], [ f4 => '3.4028235e38', '3.4028235e38' ], [ f4 => '1e39', \'22003' ],
	[ f4 => '"-Infinity"', '-Infinity' ],
	[ f8 => '0.1', '0.1' ], [ f8 => '1e308', '1e308' ], [ f8 => '1e309', \'22003' ], [ f8 => '-0.0', '-0.0' ],
	[ f8 => '9007199254740993', '9007199254740993' ], [ f8 => '5e-324', '5e-324' ], [ f8 => '"NaN"', 'NaN' ],
	[ num => '0.10', '0.10' ], [ num => '12345678901234567890.123456789', '12345678901234567890.123456789' ], [ num => '1e3', '1e3' ],
	[ num => '-0.000', '-0.000' ], [ num => '"NaN"', 'NaN' ], [ num => '{}', \'22P02' ],
	[ dec => '1234.565', '1234.565' ], [ dec => '99999.99', \'22003' ],
	[ bool => 'true', 'true' ], [ bool => '"off"', 'off' ], [ bool => '0', '0' ], [ bool => '"maybe"', \'22P02' ], [ bool => '{}', \'22P02' ],
	[ txt => '"x"', 'x' ], [ txt => '""', '' ], [ txt => '"\u00e9\ud83d\ude00é"', 'é😀é' ], [ txt => '"a\u0000b"', \'22P05' ],
	[ txt => '12.50', '12.50' ], [ txt => 'false', 'false' ], [ txt => '{"a": [1, 2]}', '{"a": [1, 2]}' ],
	[ txt => '"\"\\\\\/\b\f\n\r\t"', "\"\\/\b\f\n\r\t" ], [ txt => '"' . 'x' x 500_000 . '"', 'x' x 500_000 ],
	[ vc => '"äöü"', 'äöü' ], [ vc => '"abcd"', \'22001' ], [ bc => '"ab"', 'ab' ], [ bc => '"abcde"', \'22001' ],
	[ uid => '"A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11' ],
	[ uid => '"{a0eebc999c0b4ef8bb6d6bb9bd380a11}"', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11' ], [ uid => '"x"', \'22P02' ],
	[ js => '[1,  2]', '[1,  2]' ], [ js => '"s"', '"s"' ], [ js => '1.0', '1.0' ], [ js => '{"b":1,"a":{"c":null}}', '{"b":1,"a":{"c":null}}' ],
	[ jb => '{"b":1,"a":1,"a":[2]}', '{"a":[2],"b":1}' ], [ jb => '"\u0000"', \'22P05' ], [ jb => '1.50', '1.50' ],
	[ tz => '"2024-01-01T00:00:00Z"', '2024-01-01 00:00:00+00' ], [ tz => '"2024-01-01T00:00:00.123456+05:30"', '2024-01-01 00:00:00.123456+05:30' ],
	[ tz => '"2024-06-30 23:59:60Z"', '2024-07-01 00:00:00+00' ], [ tz => '"2024-01-01T24:00:00Z"', '2024-01-02 00:00:00+00' ],
	[ tz => '"0044-03-15 12:00:00+00 BC"', '0044-03-15 12:00:00+00 BC' ], [ tz => '"4714-11-24 00:00:00+00 BC"', '4714-11-24 00:00:00+00 BC' ],
	[ tz => '"4714-11-23 00:00:00+00 BC"', \'22008' ], [ tz => '"294276-12-31 23:59:59.999999+00"', '294276-12-31 23:59:59.999999+00' ],
	[ tz => '"294277-01-01 00:00:00+00"', \'22008' ], [ tz => '"infinity"', 'infinity' ], [ tz => '"now"', \'22007' ],
	[ tz => '1704067200', \'22007' ], [ tz => '"2024-02-30T00:00:00Z"', \'22008' ], [ tz => '"2024-01-01T00:00:00.1234567Z"', '2024-01-01 00:00:00.1234567+00' ],
	[ tz => '"2023-03-26 02:30:00 Europe/Berlin"', '2023-03-26 02:30:00 Europe/Berlin' ], [ tz => '"2024-01-01 12:00"', '2024-01-01 12:00+00' ],
	[ ts => '"2024-01-01T00:00:00.5"', '2024-01-01 00:00:00.5' ], [ ts => '"2024-01-01T00:00:00+09"', '2024-01-01 00:00:00' ],
	[ dt => '"2024-02-29"', '2024-02-29' ], [ dt => '"2023-02-29"', \'22008' ], [ dt => '"0001-01-01"', '0001-01-01' ],
	[ dt => '"5874897-12-31"', '5874897-12-31' ], [ dt => '20240101', \'22007' ], [ dt => '"Today"', \'22007' ],
	[ tm => '"23:59:60"', '24:00:00' ], [ tm => '"25:00:00"', \'22008' ], [ tmz => '"12:00:00+02"', '12:00:00+02' ],
	[ bin => '"\\\\x00ff"', '\x00ff' ], [ bin => '"abc"', 'abc' ], [ iv => '"P1Y2M"', '1 year 2 mons' ], [ net => '"10.0.0.0/8"', '10.0.0.0/8' ],
	[ ints => '[1, null, 3]', '{1,NULL,3}' ], [ ints => '[]', '{}' ], [ ints => '[[1,2],[3,4]]', '{{1,2},{3,4}}' ],
	[ ints => '[[1],[2,3]]', \'22P02' ], [ ints => '"{4,5}"', '{4,5}' ], [ ints => '[1,"x"]', \'22P02' ], [ ints => '[[[[[[[1]]]]]]]', \'54000' ],
	[ txts => '["a,b","\"q\"",null,"NULL","]"]', '{"a,b","\"q\"",NULL,"NULL","]"}' ], [ jbs => '[[1],{"a":2}]', '{[1],"{\"a\": 2}"}' ],
	[ feel => '"ok"', 'ok' ], [ feel => '"dull"', \'22P02' ], [ pos => '5', '5' ], [ pos => '0', \'23514' ],
	[ two => '{"b":"x","a":1}', '(1,x)' ], [ two => '{"b":"y"}', '(,y)' ], [ two => '"(3,z)"', '(3,z)' ], [ two => '{"a":"no"}', \'22P02' ],
	[ es => '1704067200.5', '2024-01-01 00:00:00.5+00' ], [ es => '-1', '1969-12-31 23:59:59+00' ], [ em => '"1704067200123"', '2024-01-01 00:00:00.123' ],
	[ em => '1e30', \'22008' ], [ em => '"2024-01-01"', \'22007' ], [ eu => '-1', '1969-12-31 23:59:59.999999+00' ]);

# Whole payloads: the column deep with a value, or a SQLSTATE.
my @json_payloads = (
	[ deep => '{"a":{"b":"down"}}', 'down' ], [ deep => '{"a":{"b":"first"},"a":{"b":"last"}}', 'last' ], [ deep => '{"a":{"b":"x"},"a":1}', undef ],
	[ deep => '{"\u0061":{"b":"escaped key"}}', 'escaped key' ], [ deep => " \t{} ", undef ], [ deep => '{"a.b":"x","A":{"b":"x"}}', undef ],
	[ deep => '{"z":' . '[' x 1000 . ']' x 1000 . ',"a":{"b":"far"}}', 'far' ],
	[ deep => '{"z":' . '[' x 200_000 . ']' x 200_000 . '}', \'22032' ], [ deep => '{"a":' x 100_000, \'22032' ],
	map({ [ deep => $_, \'22032' ] } '[]', '"x"', '{', '{"a":1', '{"a":1}}', '{"a":1}{}', '{"a":01}', '{"a":.5}', '{"a":1.}', '{"a":tru}', '{"a":truex}',
		'{"a":"b""c"}', '{"a":"b"c}', '{"a":1,}', '{,}', '{"a" 1}', '{a:1}', "{'a':1}", '{"a":"\x"}', '{"a":"\ud800"}', '{"a":"\udc00\ud800"}',
		'{"a":"\u12"}', "{\"a\":\"\t\"}", '{"a":NaN}', '{"a":1 2}', '{"a":[1,]}', '{"a":[1}}', 'nonsense', "\x{FEFF}{}"),
	[ deep => \"{\"a\":{\"b\":\"\xff\"}}", \'22021' ], [ deep => \"{\"a\":{\"b\":\"\xed\xa0\x80\"}}", \'22021' ]);

# Cells, as they stand between commas.
my @csv_cells = (
	[ i4 => '42', '42' ], [ i4 => '"-7"', '-7' ], [ i4 => '', undef ], [ i4 => '""', \'22P02' ], [ i4 => '1.0', \'22P02' ], [ f8 => '1e-5', '1e-5' ],
	[ num => '0.10', '0.10' ], [ dec => '1234.565', '1234.565' ], [ bool => 't', 't' ], [ txt => 'plain', 'plain' ], [ txt => '""', '' ],
	[ txt => '"a,""b"""', 'a,"b"' ], [ txt => '""""', '"' ], [ txt => ' é ', ' é ' ], [ txt => 'a"b', \'22P04' ], [ txt => '"a', \'22P04' ],
	[ txt => '"a"b', 'ab' ], [ txt => "a\rb", \'22P04' ], [ txt => "\"a\rb\"", "a\rb" ], [ vc => 'abcd', \'22001' ],
	[ uid => 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11' ],
	[ js => '"{""a"":  1}"', '{"a":  1}' ], [ jb => '"[1,2]"', '[1,2]' ], [ jb => '{', \'22P02' ],
	[ tz => '2024-01-01 00:00:00+01', '2024-01-01 00:00:00+01' ], [ dt => '2024-02-29', '2024-02-29' ], [ tm => '24:00:00', '24:00:00' ],
	[ bin => '\x00ff', '\x00ff' ], [ iv => '1 day', '1 day' ], [ ints => '"{1,NULL}"', '{1,NULL}' ], [ txts => '"{""a,b""}"', '{"a,b"}' ],
	[ feel => 'ok', 'ok' ], [ pos => '0', \'23514' ], [ two => '"(1,""x y"")"', '(1,"x y")' ], [ es => '1704067200.5', '2024-01-01 00:00:00.5+00' ],
	[ deep => \"\xff", \'22021' ]);

my $broker = KafkaBroker->new;
my $node = PipelineNode->create('decode', conf => "timezone = 'UTC'\n");

$node->sql("CREATE TYPE mood AS ENUM ('ok', 'sad')");
$node->sql('CREATE DOMAIN positive AS integer CHECK (VALUE > 0)');
$node->sql('CREATE TYPE pair AS (a integer, b text)');
$node->sql("CREATE SERVER kafka FOREIGN DATA WRAPPER pipeline_kafka OPTIONS (bootstrap_servers '@{[ $broker->address ]}')");

# Bytes of a text; a reference is to bytes already.
sub bytes
{
	my ($text) = @_;

	return ref $text ? $$text : encode('UTF-8', $text);
}

sub literal
{
	my ($text) = @_;

	return 'NULL' unless defined $text;
	$text =~ s/(['\\])/$1$1/g;
	return "E'$text'";
}

sub csv_line
{
	my ($column, $cell) = @_;
	my @cells = map { $_->[0] eq $column ? bytes($cell) : '' } @columns;

	return join ',', @cells;
}

# Send the records, read them through a view of all columns, and compare.  The
# records of a topic are numbered by their offsets.
sub check_format
{
	my ($format, $cases, @records) = @_;
	my $is_json = $format eq 'json';
	my $definitions = join ', ', map { my $option = !$_->[2] || (!$is_json && $_->[2] =~ /^field/) ? '' : "OPTIONS ($_->[2])"; "$_->[0] $_->[1] $option" } @columns;
	my $names = join ', ', map { $_->[0] } @columns;
	my $one = join ', ', map { "$_->[0]::text" } @columns;
	my (@good, %bad);

	$broker->create_topic($format, 1);
	$broker->produce_records($format, 0, @records);
	for my $offset (0 .. $#$cases)
	{
		my ($column, undef, $meaning) = @{ $cases->[$offset] };

		if (ref $meaning) { $bad{$offset} = $$meaning; }
		else { push @good, "SELECT $offset, (" . literal($meaning) . "::$type{$column})::text"; }
	}
	$node->sql("CREATE FOREIGN TABLE s_$format ($definitions, at_offset bigint OPTIONS (metadata 'offset')) SERVER kafka OPTIONS (topic '$format', format '$format')");
	$node->sql("CREATE VIEW v_$format WITH (pipeline.continuous, pipeline.start = 'earliest') AS SELECT at_offset, $names FROM s_$format");
	$node->wait_for("v_$format", 60);
	is($node->rows_differ("SELECT at_offset, coalesce($one) FROM v_$format", encode('UTF-8', join(' UNION ALL ', @good))), '', "$format: values are those of SQL");
	is($node->sql(qq{SELECT "offset", sqlstate FROM pipeline.dead_letters WHERE view = 'v_$format'::regclass ORDER BY 1}),
		join("\n", map { "$_|$bad{$_}" } sort { $a <=> $b } keys %bad), "$format: bad records, and no others, are dead letters");
	is($node->sql(qq{SELECT count(*) FROM pipeline.dead_letters WHERE view = 'v_$format'::regclass AND (payload IS NULL OR message IS NULL OR stream <> 's_$format'::regclass)}),
		'0', "$format: dead letters keep their payloads");
	return;
}

my @json_cases = (@json_values, @json_payloads);
check_format('json', \@json_cases, (map { bytes("{\"other\": [{}], \"$_->[0]\" : $_->[1]}") } @json_values), map { bytes($_->[1]) } @json_payloads);

my @csv_cases = (@csv_cells, [ i4 => 'a field less', \'22P04' ], [ i4 => 'a field more', \'22P04' ], [ i4 => 'ends with a line end', '8' ]);
my $line = csv_line('i4', '8');
check_format('csv', \@csv_cases, (map { csv_line($_->[0], $_->[1]) } @csv_cells), $line =~ s/,//r, "$line,", "$line\r");

# One topic, three streams: bytes are taken by all of bytea, by text if they are UTF-8.
sub kcat
{
	my ($input, @arguments) = @_;

	IPC::Run::run([ 'kcat', '-P', '-q', '-b', $broker->address, '-t', 'raw', '-p', '0', @arguments ], '<', \$input) or die "kcat failed\n";
	return;
}

$broker->create_topic('raw', 1);
kcat(encode('UTF-8', "k1|{\"a\": 1}\nk2|é\n"), '-K', '|', '-H', 'who=me', '-H', 'n=1');
kcat("\xfe|\xff\x01\n", '-K', '|');
kcat("gone|\n", '-K', '|', '-Z');
foreach my $type (qw(text bytea jsonb))
{
	$node->sql(qq{CREATE FOREIGN TABLE s_$type (body $type, k bytea OPTIONS (metadata 'key'), p int OPTIONS (metadata 'partition'), o bigint OPTIONS (metadata 'offset'),
	  t text OPTIONS (metadata 'topic'), at timestamptz OPTIONS (metadata 'timestamp'), h jsonb OPTIONS (metadata 'headers')) SERVER kafka OPTIONS (topic 'raw', format 'raw')});
	$node->sql("CREATE VIEW v_$type WITH (pipeline.continuous, pipeline.start = 'earliest') AS SELECT o, body, k, p, t, at, h FROM s_$type");
}
$node->wait_for("v_$_", 60) foreach qw(text bytea jsonb);
is($node->sql("SELECT o, body, k, h, p, t FROM v_text ORDER BY o"),
	encode('UTF-8', "0|{\"a\": 1}|\\x6b31|{\"n\": \"1\", \"who\": \"me\"}|0|raw\n1|é|\\x6b32|{\"n\": \"1\", \"who\": \"me\"}|0|raw\n3||\\x676f6e65|{}|0|raw"),
	'raw: text, keys, headers, and a record without payload');
is($node->sql("SELECT o, body, k FROM v_bytea ORDER BY o"), "0|\\x7b2261223a20317d|\\x6b31\n1|\\xc3a9|\\x6b32\n2|\\xff01|\\xfe\n3||\\x676f6e65", 'raw: bytea');
is($node->sql("SELECT o, body FROM v_jsonb ORDER BY o"), "0|{\"a\": 1}\n3|", 'raw: jsonb');
is($node->sql(q{SELECT view, "offset", sqlstate, payload FROM pipeline.dead_letters WHERE view::text ~ 'text|bytea|jsonb' ORDER BY view::text, "offset"}),
	"v_jsonb|1|22P02|\\xc3a9\nv_jsonb|2|22021|\\xff01\nv_text|2|22021|\\xff01", 'raw: bad records');
is($node->sql('SELECT bool_and(at BETWEEN now() - interval \'5 minutes\' AND now()) FROM v_bytea'), 't', 'raw: the time of a record');

$node->stop;
done_testing();
