# The promise: a record means what PostgreSQL itself makes of the same bytes -
# json_populate_record of a JSON document, COPY of a CSV row - or it is a dead
# letter where PostgreSQL has an error, with a message that says what is wrong;
# and what is said about tombstones, keys, bytes, and types that are altered
# while the worker runs.  Random records, from a real broker.  Without this,
# values would be changed or lost on their way in.

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

my $seed = $ENV{PIPELINE_SEED} || time % 100000;
my $dir = PostgreSQL::Test::Utils::tempdir_short();

srand($seed);
diag("PIPELINE_SEED=$seed");
chmod 0755, $dir;

sub pick { return $_[ int(rand(@_)) ]; }
sub chance { return rand() < $_[0]; }
sub number { my ($from, $to) = @_; return $from + int(rand($to - $from + 1)); }

# --- JSON: column, type, and what makes values of it, right ones and wrong ones.
my @letters = ('a' .. 'f', 'é', '😀', ' ', ',', '{', '}', '\\"', '\\\\', '\\n', '\\u00e9', '\\ud83d\\ude00', '\\/', "'", 'NULL');
sub word { return join '', map { pick(@letters) } 1 .. number(0, 6); }
sub plain { return join '', map { pick('a' .. 'z') } 1 .. number(1, 6); }
sub digits { return join '', map { number(0, 9) } 1 .. $_[0]; }
sub whole { return pick('', '-') . pick('0', number(1, 9) . digits(number(0, $_[0] - 1))); }
sub decimal { return whole(6) . pick('', '.' . digits(number(1, 5)), pick('e', 'E') . pick('', '-', '+') . number(0, 20)); }
sub quoted { return "\"$_[0]\""; }
sub maybe_quoted { return chance(0.3) ? quoted($_[0]) : $_[0]; }
sub date { return sprintf '%04d-%02d-%02d', number(1, 9999), number(1, 12), number(1, 28); }
sub clock { return sprintf '%02d:%02d:%02d%s', number(0, 23), number(0, 59), number(0, 59), pick('', '.' . digits(number(1, 6))); }
sub stamp { return date() . pick('T', ' ') . clock() . pick('', 'Z', '+02', '-05:30', '+0100'); }
sub list { my ($n, $make) = @_; return '[' . join(pick(',', ', '), map { $make->() } 1 .. $n) . ']'; }
sub matrix { my ($make) = @_; my $n = number(1, 3); return list(number(1, 3), sub { list($n, $make) }); }
sub pair { return '{' . join(', ', grep { chance(0.8) } quoted('a') . ': ' . whole(5), quoted('b') . ':' . quoted(word()), '"unknown": [1, {}]', quoted('a') . ':null') . '}'; }
sub nest { return '{"p": ' . pair() . ', "ps": ' . list(number(0, 3), \&pair) . ', "m": ' . pick('"ok"', 'null') . ', "n": ' . matrix(sub { whole(3) }) . '}'; }

sub any_json
{
	my ($depth) = @_;
	my $kind = $depth > 3 ? number(0, 4) : number(0, 6);

	return pick('null', 'true', 'false') if $kind == 0;
	return decimal() if $kind == 1;
	return quoted(word()) if $kind < 5;
	return list(number(0, 3), sub { any_json($depth + 1) }) if $kind == 5;
	return '{' . join(' , ', map { quoted(word()) . ':' . any_json($depth + 1) } 1 .. number(0, 3)) . '}';
}

my @columns = (
	[ i2 => 'smallint', sub { maybe_quoted(whole(5)) } ],
	[ i4 => 'integer', sub { maybe_quoted(whole(10)) } ],
	[ i8 => 'bigint', sub { maybe_quoted(whole(19)) } ],
	[ o => 'oid', sub { maybe_quoted(number(0, 100000)) } ],
	[ f4 => 'real', sub { pick(maybe_quoted(decimal()), '"NaN"', '"-Infinity"') } ],
	[ f8 => 'double precision', sub { pick(maybe_quoted(decimal()), '"NaN"', '"-Infinity"') } ],
	[ num => 'numeric', sub { pick(maybe_quoted(decimal()), whole(40) . '.' . digits(20), '"NaN"', '"Infinity"') } ],
	[ dec => 'numeric(9,3)', sub { maybe_quoted(decimal()) } ],
	[ cash => 'money', sub { pick(quoted('$' . number(1, 9) . ',' . digits(3) . '.' . digits(2)), whole(5)) } ],
	[ bool => 'boolean', sub { pick('true', 'false', '"yes"', '"off"', '"t"', '1', '0') } ],
	[ txt => 'text', sub { pick(quoted(word()), decimal(), any_json(0)) } ],
	[ vc => 'varchar(5)', sub { quoted(word()) } ],
	[ bc => 'char(6)', sub { quoted(word()) } ],
	[ nm => 'name', sub { quoted(plain()) } ],
	[ ch => '"char"', sub { quoted(plain()) } ],
	[ ci => 'citext', sub { quoted(word()) } ],
	[ uid => 'uuid', sub { my $hex = join '', map { pick(0 .. 9, 'a' .. 'f', 'A' .. 'F') } 1 .. 32; quoted(pick($hex, "{$hex}", $hex =~ s/^(.{8})(.{4})(.{4})(.{4})/$1-$2-$3-$4-/r)) } ],
	[ js => 'json', sub { any_json(0) } ],
	[ jb => 'jsonb', sub { any_json(0) } ],
	[ jp => 'jsonpath', sub { quoted('$.' . plain()) } ],
	[ tz => 'timestamptz', sub { quoted(stamp()) } ],
	[ ts => 'timestamp(2)', sub { quoted(stamp()) } ],
	[ dt => 'date', sub { quoted(date()) } ],
	[ tm => 'time', sub { quoted(clock()) } ],
	[ tmz => 'timetz(1)', sub { quoted(clock() . pick('', '+03', 'Z')) } ],
	[ iv => 'interval', sub { quoted(pick(number(1, 99) . ' days ' . clock(), 'P' . number(1, 9) . 'Y' . number(1, 9) . 'M', number(1, 99) . ' weeks')) } ],
	[ bin => 'bytea', sub { quoted(pick('\\\\x' . digits(2 * number(0, 4)), plain(), '\\\\001x')) } ],
	[ net => 'inet', sub { quoted(join('.', map { number(0, 255) } 1 .. 4) . pick('', '/' . number(8, 32))) } ],
	[ cid => 'cidr', sub { quoted('10.' . number(0, 255) . '.0.0/16') } ],
	[ mac => 'macaddr', sub { quoted(join ':', map { sprintf '%02x', number(0, 255) } 1 .. 6) } ],
	[ bits => 'bit varying(8)', sub { quoted(join '', map { number(0, 1) } 1 .. number(0, 8)) } ],
	[ pt => 'point', sub { quoted('(' . whole(3) . ',' . whole(3) . ')') } ],
	[ bx => 'box', sub { quoted('(' . whole(2) . ',' . whole(2) . '),(1,2)') } ],
	[ poly => 'polygon', sub { quoted('((0,0),(' . whole(2) . ',1),(1,' . whole(2) . '))') } ],
	[ tsv => 'tsvector', sub { quoted(plain() . ' ' . plain()) } ],
	[ lsn => 'pg_lsn', sub { quoted(sprintf '%X/%X', number(0, 9999), number(0, 99999)) } ],
	[ hs => 'hstore', sub { quoted(join ', ', map { '\\"' . plain() . '\\"=>' . pick('NULL', '\\"' . plain() . '\\"') } 1 .. number(0, 3)) } ],
	[ ir => 'int4range', sub { my $from = number(-9, 9); quoted(pick('empty', "[$from," . ($from + number(0, 9)) . ')', "($from,]")) } ],
	[ tr => 'tstzrange', sub { quoted('[\\"2024-01-01 00:00+00\\",' . pick('', '\\"2025-01-01 00:00+00\\"') . ')') } ],
	[ mr => 'int8multirange', sub { quoted('{[' . number(1, 5) . ',' . number(6, 9) . '),[20,30]}') } ],
	[ feel => 'mood', sub { quoted(pick('ok', 'sad', 'very sad')) } ],
	[ pos => 'positive', sub { maybe_quoted(number(1, 99)) } ],
	[ must => 'required', sub { quoted(pick('x', plain())) }, 'not null' ],
	[ par => 'even_pair', sub { '{"a": ' . 2 * number(0, 99) . ', "b": ' . quoted(word()) . '}' } ],
	[ two => 'pair', sub { pick(pair(), quoted('(' . number(0, 9) . ',' . plain() . ')')) } ],
	[ deep => 'nested', \&nest ],
	[ ints => 'integer[]', sub { pick(list(number(0, 4), sub { pick(whole(4), 'null') }), matrix(sub { whole(4) }), quoted('{1,NULL,3}'), quoted('[0:1]={1,2}')) } ],
	[ decs => 'numeric(6,2)[]', sub { list(number(0, 4), sub { whole(3) . '.' . digits(3) }) } ],
	[ txts => 'text[]', sub { pick(list(number(0, 4), sub { pick(quoted(word()), 'null', 'true', whole(3)) }), matrix(sub { quoted(word()) })) } ],
	[ tss => 'timestamptz[]', sub { list(number(0, 3), sub { quoted(stamp()) }) } ],
	[ moods => 'mood[]', sub { list(number(0, 3), sub { pick('"ok"', '"sad"', 'null') }) } ],
	[ poss => 'positive[]', sub { list(number(0, 3), sub { number(1, 9) }) } ],
	[ few => 'short_list', sub { list(number(0, 3), sub { number(0, 9) }) } ],
	[ twos => 'pair[]', sub { pick(list(number(0, 3), \&pair), matrix(\&pair)) } ],
	[ irs => 'int4range[]', sub { list(number(0, 3), sub { '"[1,' . number(2, 9) . ']"' }) } ]);

# A value that is right for few of the types.  We take 1e3 and 1.0 as integers, which
# json_populate_record does not.
sub odd
{
	my $any = any_json(0);

	$any = any_json(0) while $any =~ /\d[.eE]/;
	return pick(quoted(plain()), quoted(''), '[]', '[[1],[2,3]]', '[1,"x"]', '{}', '{"a":"no"}', '{"a":3}', '[{"a":"no"}]', 'true', '99999999999999999999', '-1',
		'"2024-02-30"', '"25:00"', '[0]', '[1,2,3,4,5]', '["dull"]', $any);
}

# A document: all columns have a value, but for some that are null or not there; one may be odd.
sub document
{
	my $odd = chance(0.5) ? pick(@columns)->[0] : '';
	my @fields;

	foreach my $column (@columns)
	{
		my ($name, undef, $make, $required) = @$column;
		my $value = $name eq $odd ? odd() : !$required && chance(0.1) ? 'null' : $make->();

		push @fields, quoted($name) . pick(':', ' : ', ': ') . $value unless !$required && chance(0.1);
		unshift @fields, quoted($name) . ':' . any_json(0) if chance(0.01);   # the last one counts
	}
	push @fields, quoted(word()) . ':' . any_json(0) if chance(0.3);
	return '{' . join(pick(',', ', '), @fields) . '}';
}

my $broker = KafkaBroker->new;
my $node = PipelineNode->create('formats', conf => "timezone = 'Asia/Kolkata'\nlc_monetary = 'C'\n");

$node->sql(<<'SQL');
CREATE EXTENSION hstore;
CREATE EXTENSION citext;
CREATE TYPE mood AS ENUM ('ok', 'sad', 'very sad');
CREATE DOMAIN positive AS integer CHECK (VALUE > 0);
CREATE DOMAIN required AS text NOT NULL;
CREATE TYPE pair AS (a integer, b text);
CREATE DOMAIN short_list AS integer[] CHECK (cardinality(VALUE) < 4);
CREATE DOMAIN even_pair AS pair CHECK ((VALUE).a % 2 = 0);
CREATE TYPE nested AS (p pair, ps pair[], m mood, n integer[]);
SQL
$node->sql("CREATE SERVER kafka FOREIGN DATA WRAPPER pipeline_kafka OPTIONS (bootstrap_servers '@{[ $broker->address ]}')");

# Send records; each is a text, bytes behind a reference, or undef for no payload.
my $files = 0;
sub send_records
{
	my ($topic, $records, @arguments) = @_;
	my @run;
	my $flush = sub {
		return unless @run;
		IPC::Run::run([ 'kcat', '-P', '-q', '-b', $broker->address, '-t', $topic, '-p', '0', @arguments, @run ], '<', \'') or die "kcat failed\n";
		@run = ();
	};

	foreach my $record (@$records)
	{
		my $file = "$dir/" . $files++;

		if (!defined $record || $record eq '')
		{
			$flush->();
			IPC::Run::run([ 'kcat', '-P', '-q', '-b', $broker->address, '-t', $topic, '-p', '0', '-K', '|', defined $record ? () : '-Z' ], '<', \"gone|\n") or die "kcat failed\n";
			next;
		}
		write_file($file, $record);
		push @run, $file;
	}
	$flush->();
	return;
}

sub write_file
{
	my ($path, $content) = @_;

	open my $file, '>', $path or die "could not write \"$path\": $!\n";
	binmode $file;
	print $file ref $content ? $$content : encode('UTF-8', $content);
	close $file or die "could not write \"$path\": $!\n";
	return;
}

# One letter a line: offset, SQLSTATE, message.
sub dead_letters
{
	my ($view, $columns) = @_;

	return $node->sql("SELECT $columns FROM pipeline.dead_letters WHERE view = '$view'::regclass ORDER BY \"offset\"");
}

sub check_json
{
	my @documents = map { document() } 1 .. 400;
	my $definitions = join ', ', map { "$_->[0] $_->[1]" } @columns;
	my $names = join ', ', map { $_->[0] } @columns;

	$broker->create_topic('json', 1);
	$broker->produce_records('json', 0, map { encode('UTF-8', $_) } @documents);
	write_file("$dir/documents", join '', map { s/\\/\\\\/gr . "\n" } @documents);
	$node->sql(<<"SQL");
CREATE TYPE all_types AS ($definitions);
CREATE TABLE documents (n bigint GENERATED ALWAYS AS IDENTITY (MINVALUE 0), doc text);
COPY documents (doc) FROM '$dir/documents';
CREATE TABLE wrong (n bigint, class text, reason text);
CREATE FUNCTION populate(n bigint, doc text) RETURNS SETOF all_types LANGUAGE plpgsql AS \$\$
DECLARE
  r all_types;
BEGIN
  IF EXISTS (SELECT FROM unnest('{tz,ts,dt,tm,tmz}'::text[]) c WHERE json_typeof(doc::json -> c) NOT IN ('string', 'null')) THEN
    RAISE data_exception USING MESSAGE = 'only strings are times';
  END IF;
  r := json_populate_record(NULL::all_types, doc::json);
  -- which writes strings anew for json; we leave them as they are
  r.js := CASE WHEN json_typeof(doc::json -> 'js') <> 'null' THEN doc::json -> 'js' END;
  RETURN NEXT r;
EXCEPTION WHEN OTHERS THEN
  -- some input functions report a bad value as an error of syntax, or an internal one
  INSERT INTO wrong VALUES (n, regexp_replace(left(SQLSTATE, 2), '^(42|XX|0A)\$', '22'), SQLERRM);
END \$\$;
CREATE TABLE expected_json AS SELECT n AS at_offset, p.* FROM documents, populate(n, doc) p;
CREATE FOREIGN TABLE s_json ($definitions, at_offset bigint OPTIONS (metadata 'offset')) SERVER kafka OPTIONS (topic 'json');
CREATE VIEW v_json WITH (pipeline.continuous, pipeline.start = 'earliest') AS SELECT at_offset, $names FROM s_json;
SQL
	$node->wait_for('v_json', 60);
	my $good = $node->sql('SELECT count(*) FROM expected_json');
	cmp_ok($good, '>', 100, "json: many documents are right ($good)");
	cmp_ok($good, '<', 390, 'json: some are not');
	is($node->sql(join ' UNION ALL ', map { "SELECT '$_', at_offset, v.${_}::text, e.${_}::text FROM v_json v JOIN expected_json e USING (at_offset) WHERE v.${_}::text IS DISTINCT FROM e.${_}::text" }
		map { $_->[0] } @columns), '', 'json: values are those of json_populate_record');
	is($node->rows_differ('TABLE v_json', 'TABLE expected_json'), '', 'json: rows are those of json_populate_record');
	is($node->sql(<<'SQL'), '', 'json: what json_populate_record refuses is a dead letter, with an error of the same class');
SELECT n, w.class, w.reason, l.sqlstate, l.message FROM wrong w
FULL JOIN (SELECT "offset" AS n, sqlstate, message FROM pipeline.dead_letters WHERE view = 'v_json'::regclass) l USING (n)
WHERE w.class IS DISTINCT FROM left(l.sqlstate, 2) ORDER BY n
SQL
	return;
}

# --- CSV: sets of options, as text of both kinds.
my @csv = (
	{},
	{ delimiter => ';', quote => "'" },
	{ delimiter => "\t", escape => '\\', null => '\\N' },
	{ quote => '|', escape => '"', null => 'na', force_null => 1, force_not_null => 1 },
	{ header => 'true', null => 'x' },
	{ header => 'match' },
	{ encoding => 'WIN1252', delimiter => '|' });

my @csv_columns = ([ c1 => 'text' ], [ c2 => 'integer' ], [ c3 => 'text' ], [ c4 => 'text[]' ], [ c5 => 'date' ]);

# A field that is right for its column, quoted if it must be or just so.
sub csv_field
{
	my ($options, $column) = @_;
	my ($delimiter, $quote) = ($options->{delimiter} // ',', $options->{quote} // '"');
	my $escape = $options->{escape} // $quote;
	my $null = $options->{null} // '';
	my $value =
	    $column eq 'c2' ? whole(4)
	  : $column eq 'c4' ? pick('{}', "{1,\"a$delimiter b\",NULL}", '{{x},{y}}')
	  : $column eq 'c5' ? date()
	  :                  join '', map { pick('a' .. 'd', ' ', $delimiter, $quote, $escape, "\n", "\r\n", '\\', ($options->{encoding} ? 'é' : 'ß')) } 1 .. number(0, 5);

	return $null if chance(0.1);
	return "$quote$null$quote" if chance(0.05);
	return $value if chance(0.5) && $value !~ /[\Q$delimiter$quote$escape\E\r\n]/;
	$value =~ s/([\Q$quote$escape\E])/$escape$1/g;
	return "$quote$value$quote";
}

sub csv_row
{
	my ($options) = @_;
	my $delimiter = $options->{delimiter} // ',';
	my $row = join $delimiter, map { csv_field($options, $_->[0]) } @csv_columns;
	my $end = pick("\n", "\r\n", "\r");

	if (chance(0.3))   # damage
	{
		my $at = number(0, length $row);

		substr($row, $at, chance(0.5)) = pick($delimiter, $options->{quote} // '"', $options->{escape} // '"', "\n", "\r", 'z', '');
	}
	if ($options->{header})
	{
		my @names = map { pick(0, 0, 0, 0, 1) ? "\"$_->[0]\"" : $_->[0] } @csv_columns;

		$names[ number(0, 4) ] = 'other' if chance(0.1);
		pop @names if chance(0.05);
		$row = join($delimiter, @names) . pick($end, $end, $end, $end, "\n") . $row unless chance(0.05);
	}
	return $row . pick('', $end);
}

sub check_csv
{
	my ($number, $options) = @_;
	my $encoding = $options->{encoding} ? 'cp1252' : 'UTF-8';
	my (@records, @table_options, @copy_options, @definitions);
	my $first;

	for (1 .. 120)
	{
		my $row = csv_row($options);
		my $bytes = encode($encoding, $row);

		$bytes .= pick("\x81", "\xff", "\xc3") if chance(0.02);
		# neither what COPY takes as its end, nor an empty record, which is no row for it
		push @records, \$bytes unless $bytes =~ /^\\\./m || $bytes =~ /^[\r\n]*$/;
	}
	foreach my $name (sort keys %$options)
	{
		next if $name =~ /^force/;
		push @table_options, "$name E'" . ($options->{$name} =~ s/(['\\])/\\$1/gr) . "'";
		push @copy_options, $name eq 'header' ? "header $options->{$name}" : $table_options[-1];
	}
	foreach my $column (@csv_columns)
	{
		my @own = grep { $options->{$_} && $column->[0] =~ ($_ eq 'force_null' ? qr/[125]/ : qr/[13]/) } qw(force_null force_not_null);

		push @definitions, "$column->[0] $column->[1]" . (@own ? ' OPTIONS (' . join(', ', map { "$_ 'true'" } @own) . ')' : '');
	}
	push @copy_options, 'force_null (c1, c2, c5)' if $options->{force_null};
	push @copy_options, 'force_not_null (c1, c3)' if $options->{force_not_null};
	push @copy_options, "encoding 'UTF8'" unless $options->{encoding};
	$broker->create_topic("csv_$number", 1);
	$first = $files;
	send_records("csv_$number", \@records);
	my $types = join ', ', map { "$_->[0] $_->[1]" } @csv_columns;
	$node->sql(<<"SQL");
CREATE TABLE csv_expected_$number (at_offset bigint, $types);
CREATE TABLE csv_wrong_$number (n bigint, reason text);
CREATE TEMP TABLE one ($types);
DO \$\$
DECLARE
  n bigint;
  rows bigint;
BEGIN
  FOR n IN 0 .. @{[ $#records ]} LOOP
    BEGIN
      EXECUTE format('COPY one FROM %L WITH (@{[ join(', ', 'format csv', map { s/'/''/gr } @copy_options) ]})', '$dir/' || n + $first);
      GET DIAGNOSTICS rows = ROW_COUNT;
      IF rows = 1 THEN
        INSERT INTO csv_expected_$number SELECT n, * FROM one;
      ELSE
        INSERT INTO csv_wrong_$number VALUES (n, rows || ' rows');
      END IF;
      TRUNCATE one;
    EXCEPTION WHEN data_exception THEN
      INSERT INTO csv_wrong_$number VALUES (n, SQLERRM);
    END;
  END LOOP;
END \$\$;
CREATE FOREIGN TABLE s_csv_$number (@{[ join ', ', @definitions, "at_offset bigint OPTIONS (metadata 'offset')" ]})
  SERVER kafka OPTIONS (@{[ join ', ', "topic 'csv_$number', format 'csv'", @table_options ]});
CREATE VIEW v_csv_$number WITH (pipeline.continuous, pipeline.start = 'earliest') AS SELECT at_offset, c1, c2, c3, c4, c5 FROM s_csv_$number;
SQL
	$node->wait_for("v_csv_$number", 60);
	my $label = 'csv ' . join ', ', 'plain' x !@table_options, @copy_options;
	my $good = $node->sql("SELECT count(*) FROM csv_expected_$number");

	ok($good > 30 && $good < @records, "$label: some records are right, some are not ($good)");
	is($node->rows_differ("TABLE v_csv_$number", "TABLE csv_expected_$number"), '', "$label: rows are those of COPY");
	is($node->sql(<<"SQL"), '', "$label: what COPY refuses is a dead letter");
SELECT n, w.reason, l.message, encode(pg_read_binary_file('$dir/' || n + $first), 'escape') FROM csv_wrong_$number w
FULL JOIN (SELECT "offset" AS n, message FROM pipeline.dead_letters WHERE view = 'v_csv_$number'::regclass) l USING (n)
WHERE w IS NULL OR l IS NULL ORDER BY n
SQL
	return;
}

# --- What only we decide: all records of a topic through one view.
sub check_records
{
	my ($name, $definition, $options, $columns, $records, $rows, $letters, @arguments) = @_;

	$broker->create_topic($name, 1);
	send_records($name, $records, @arguments);
	$node->sql("CREATE FOREIGN TABLE s_$name ($definition, at_offset bigint OPTIONS (metadata 'offset')) SERVER kafka OPTIONS (topic '$name', $options)");
	$node->sql("CREATE VIEW v_$name WITH (pipeline.continuous, pipeline.start = 'earliest') AS SELECT at_offset, $columns FROM s_$name");
	$node->wait_for("v_$name", 60);
	is($node->sql("SELECT * FROM v_$name ORDER BY at_offset"), encode('UTF-8', join "\n", @$rows), "$name: rows");
	is(dead_letters("v_$name", '"offset", sqlstate, message'), encode('UTF-8', join "\n", @$letters), "$name: dead letters");
	return;
}

check_json();
check_csv($_, $csv[$_]) for 0 .. $#csv;

# Tombstones have no values, which a domain may refuse; an empty payload is another thing.
check_records('tombstones', "a integer, whole text OPTIONS (metadata 'payload'), k text OPTIONS (metadata 'key')", "format 'json'",
	'a, whole, k', [ '{"a": 1}', undef, '{"a": null}', '', 'null' ],
	[ '0|1|{"a": 1}|', '1|||gone', '2||{"a": null}|' ],
	[ '3|22032|the payload is not a valid JSON object: empty', '4|22032|the payload is not a valid JSON object: it is not an object (at byte 1)' ]);
check_records('tombstones_csv', "a integer, b required, whole bytea OPTIONS (metadata 'payload')", "format 'csv'", 'a, b, whole',
	[ "1,x\r\n", undef, '', ',', ',""', '1', '1,2,3', "1,2\n3,4", '1,"2', 'x,y' ],
	[ '0|1|x|\\x312c780d0a', '4|||\\x2c2222' ],
	[ '1|23502|column "b": domain required does not allow null values', '2|22P04|the payload has 1 CSV fields, but the stream has 2 columns for them',
		'3|23502|column "b": domain required does not allow null values', '5|22P04|the payload has 1 CSV fields, but the stream has 2 columns for them',
		'6|22P04|the payload has 3 CSV fields, but the stream has 2 columns for them', '7|22P04|the payload has more than one row of CSV',
		'8|22P04|the payload is not a row of CSV: field 2 has no closing quote', '9|22P02|column "a": invalid input syntax for type integer: "x"' ]);
check_records('tombstones_raw', 'doc text', "format 'raw', encoding 'LATIN1'", 'doc', [ \"\xe9", undef, '', \"a\0b" ],
	[ '0|é', '1|', '2|' ], [ '3|22021|the payload has a zero byte in it' ]);
is($node->sql('SELECT at_offset, doc IS NULL FROM v_tombstones_raw ORDER BY 1'), "0|f\n1|t\n2|f", 'raw: an empty payload is an empty text');
check_records('headers', 'a integer, "B b" text OPTIONS (field \'other.b\')', "format 'csv', header 'match'", 'a, "B b"', [ "a,other.b\n1,x", 'a,other.b', '1,x', "a,b\n1,x", "a\n1" ],
	[ '0|1|x' ],
	[ map({ "$_|22P04|the payload has no row of CSV behind its header" } 1, 2), '3|22P04|field 2 in the header of the payload is not "other.b"',
		'4|22P04|the header of the payload has 1 fields, but the stream has 2 columns for them' ]);

# Nesting, and numbers beyond what types hold.
my $deep = '[' x 1000 . ']' x 1000;
check_records('edges', 'jb jsonb, js json, n numeric, p pair', "format 'json'", 'jb::text = js::text, length(js::text), n, p',
	[ qq({"jb":$deep,"js":$deep}), qq({"p":{"a":1,"deep":$deep}}), '{"jb":1e200000}', '{"js":1e200000}', '{"n":1e200000}', '{"jb":"\\u0000"}', '{"js":"\\u0000","n":1}', '{"p":{"b":"\\u0000"}}' ],
	[ '0|t|2000||', '1||||(1,)', '3||8||', '6||8|1|' ],
	[ '2|22003|column "jb": value overflows numeric format', '4|22003|column "n": value overflows numeric format',
		map({ $_ . '|22P05|column "' . ($_ == 5 ? 'jb' : 'p') . '": unsupported Unicode escape sequence' } 5, 7) ]);

# Input functions that call a bad value an error of syntax, or an internal one: no view stops for that.
$broker->create_topic('misreported', 1);
send_records('misreported', [ '{"hs":"a=>"}', '{"jp":"$$$"}', '{"rc":"nothing"}', '{"a":["a=>"]}', '{"w":{"hs":"a=>"}}', '{"hs":"a=>1","rc":"pg_class"}' ]);
$node->sql('CREATE TYPE with_hstore AS (hs hstore)');
$node->sql("CREATE FOREIGN TABLE s_misreported (hs hstore, jp jsonpath, rc regclass, a hstore[], w with_hstore, at_offset bigint OPTIONS (metadata 'offset')) SERVER kafka OPTIONS (topic 'misreported')");
$node->sql("CREATE VIEW v_misreported WITH (pipeline.continuous, pipeline.start = 'earliest') AS SELECT at_offset, hs, jp, rc, a, w FROM s_misreported");
$node->wait_for('v_misreported', 60);
is($node->sql('SELECT * FROM v_misreported'), '5|"a"=>"1"||pg_class||', 'misreported: rows');
is(dead_letters('v_misreported', q{"offset", sqlstate, substring(message, '^column "[a-z]+"')}), join("\n", map { "$_->[0]|22P02|column \"$_->[1]\"" } [ 0, 'hs' ], [ 1, 'jp' ], [ 2, 'rc' ], [ 3, 'a' ], [ 4, 'w' ]),
	'misreported: dead letters');
is($node->sql("SELECT failures FROM pipeline.stat_views WHERE view = 'v_misreported'::regclass"), '0', 'misreported: no failure of the view');

# Elements of arrays, by their place.
check_records('paths', "price numeric OPTIONS (field 'items.0.price'), item jsonb OPTIONS (field 'items.1'), n integer OPTIONS (field 'm.1.10')", "format 'json'", 'price, item, n',
	[ '{"items":[{"price":1.50},"second",3],"m":[0,[9,8,7,6,5,4,3,2,1,0,"10"]]}', '{"items":[]}', '{"items":{"0":{"price":2},"1":[]}}', '{"items":[[{"price":3}],{"price":4}]}',
		'{"items":[{"price":1}],"items":[]}', '{"items":[{"price":[1]}]}', '[]', '{"items":[{"price":5},{}],"m":[[],["1"]],"m":[7]}' ],
	[ '0|1.50|"second"|10', '1|||', '2|2|[]|', '3||{"price": 4}|', '4|||', '7|5|{}|' ],
	[ '5|22P02|column "price": JSON array is not valid for type numeric', '6|22032|the payload is not a valid JSON object: it is not an object (at byte 1)' ]);
check_records('tuples', "id integer OPTIONS (field '0'), info text OPTIONS (field '2.name')", "format 'json'", 'id, info',
	[ '[1, null, {"name": "x"}]', '[]', '{"0": 7}', '[[2]]', '3', '[1,2' ],
	[ '0|1|x', '1||', '2|7|' ],
	[ '3|22P02|column "id": JSON array is not valid for type integer', '4|22032|the payload is not a valid JSON object: it is not an object (at byte 1)',
		'5|22032|the payload is not a valid JSON object: it ends too early (at byte 5)' ]);

# Bytes.
check_records('base64', "b bytea OPTIONS (format 'base64'), bs bytea[] OPTIONS (format 'base64'), x bytea", "format 'json'", 'b, bs, x',
	[ '{"b":"AP8=","bs":["AQ==",null],"x":"\\\\x01"}', '{"b":"A"}', '{"b":"!"}', '{"b":12}', '{"b":"","bs":[]}' ],
	[ '0|\\x00ff|{"\\\\x01",NULL}|\\x01', '4|\\x|{}|' ],
	[ '1|22023|column "b": invalid base64 end sequence', '2|22023|column "b": invalid symbol "!" found while decoding base64 sequence', '3|22P02|column "b": number "12" is not valid for type bytea' ]);
check_records('binary', "n bigint OPTIONS (format 'binary')", "format 'raw'", 'n', [ \"\0\0\0\0\0\0\1\0", \("\xff" x 8), undef, \"\0\0\0\1", '' ],
	[ '0|256', '1|-1', '2|' ], [ '3|22P03|column "n": 4 bytes are not a binary value of type bigint', '4|22P03|column "n": 0 bytes are not a binary value of type bigint' ]);
check_records('binary_keys', "v integer, k integer OPTIONS (metadata 'key', format 'binary')", "format 'json'", 'v, k', [ '{"v":1}' ], [ '0|1|1819042152' ], [], '-k', 'llah');
check_records('keys', "v integer, k bigint OPTIONS (metadata 'key'), kb bytea OPTIONS (metadata 'key', format 'base64'), h jsonb OPTIONS (metadata 'headers')", "format 'json'", 'v, k, kb, h',
	[ '{"v":1}' ], [ '0|1|1234|\\xd76df8|{"a": "2", "b": "x"}' ], [], '-k', '1234', '-H', 'a=1', '-H', 'b=x', '-H', 'a=2');

# Times since 1970, in arrays and domains, too.
$node->sql('CREATE DOMAIN day AS date');
check_records('epochs', "d date OPTIONS (format 'epoch_ms'), ds day[] OPTIONS (format 'epoch_s'), ts timestamptz[] OPTIONS (format 'epoch_s')", "format 'json'", 'd, ds, ts',
	[ '{"d":86400000,"ds":["0",-1],"ts":[1704067200.5,null]}', '{"ds":["2024-01-01"]}' ], [ '0|1970-01-02|{1970-01-01,1969-12-31}|{"2024-01-01 05:30:00.5+05:30",NULL}' ],
	[ '1|22007|column "ds": string "2024-01-01" is not valid for type date' ]);

# Types that are altered while the worker runs: the same worker follows.
$node->sql('CREATE TABLE allowed (n integer)');
$node->sql('CREATE FUNCTION is_allowed(n integer) RETURNS boolean LANGUAGE sql AS $$SELECT EXISTS (SELECT FROM public.allowed a WHERE a.n = $1)$$');
$node->sql('CREATE DOMAIN listed AS integer CHECK (VALUE IS NULL OR is_allowed(VALUE))');
$node->sql('INSERT INTO allowed VALUES (1)');
$node->sql('CREATE TYPE inner_one AS (a integer, b text); CREATE TYPE outer_one AS (i inner_one, l listed)');
check_records('altered', 'm mood, p positive, l listed, o outer_one', "format 'json'", 'm, p, l, o',
	[ '{"m":"ok","p":1,"l":1,"o":{"i":{"a":1,"b":"x"}}}', '{"m":"new"}', '{"p":100}', '{"l":2}', '{"p":0}' ],
	[ '0|ok|1|1|("(1,x)",)', '2||100||' ],
	[ '1|22P02|column "m": invalid input value for enum mood: "new"', '3|23514|column "l": value for domain listed violates check constraint "listed_check"',
		'4|23514|column "p": value for domain positive violates check constraint "positive_check"' ]);
my $worker = $node->worker_pid('v_altered');
$node->sql(<<'SQL');
ALTER TYPE mood ADD VALUE 'new';
ALTER DOMAIN positive DROP CONSTRAINT positive_check;
ALTER DOMAIN positive ADD CONSTRAINT small CHECK (VALUE < 100) NOT VALID;
INSERT INTO allowed VALUES (2);
ALTER TYPE inner_one RENAME ATTRIBUTE b TO c;
SQL
send_records('altered', [ '{"m":"new"}', '{"p":100}', '{"l":2}', '{"p":0}', '{"o":{"i":{"a":1,"b":"x","c":"y"},"l":2}}' ]);
$node->wait_for('v_altered', 60);
is($node->sql('SELECT * FROM v_altered WHERE at_offset > 4 ORDER BY 1'), "5|new|||\n7|||2|\n8||0||\n9||||(\"(1,y)\",2)", 'altered types are followed');
is(dead_letters('v_altered', '"offset", message') =~ s/.*\n//sr, '6|column "p": value for domain positive violates check constraint "small"', 'and what they refuse now');
is($node->worker_pid('v_altered'), $worker, 'by the same worker');

# A database in another encoding: what it has no character for is refused.
$node->sql("CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
$broker->create_topic('latin', 1);
$broker->create_topic('latin_csv', 1);
send_records('latin', [ '{"ä":"é","a":["ü"],"p":{"ö":"ß"},"j":["é"]}', '{"ä":"😀"}', '{"a":["😀"]}', '{"j":"😀","ä":"\\u00e9"}' ]);
send_records('latin_csv', [ \"\xe4\n\xe9", \"\xe4\n\xa4", \"\xc3\xa4\n\xe9" ]);
$node->safe_psql('latin', encode('UTF-8', <<"SQL"));
SET client_encoding = 'UTF8';
CREATE EXTENSION pipeline_ext;
CREATE TYPE pair AS (ö text);
CREATE SERVER kafka FOREIGN DATA WRAPPER pipeline_kafka OPTIONS (bootstrap_servers '@{[ $broker->address ]}');
CREATE FOREIGN TABLE s (ä text, a text[], p pair, j json, o bigint OPTIONS (metadata 'offset')) SERVER kafka OPTIONS (topic 'latin');
CREATE FOREIGN TABLE c (ä text, o bigint OPTIONS (metadata 'offset')) SERVER kafka OPTIONS (topic 'latin_csv', format 'csv', header 'match', encoding 'LATIN9', "null" 'é');
CREATE VIEW v WITH (pipeline.continuous) AS SELECT o, ä, a, p, j FROM s;
CREATE VIEW w WITH (pipeline.continuous) AS SELECT o, ä FROM c;
SELECT pipeline.wait_for('v', '60 seconds'), pipeline.wait_for('w', '60 seconds');
SQL
is($node->safe_psql('latin', "SET client_encoding = 'UTF8'; SELECT * FROM v ORDER BY o"), encode('UTF-8', '0|é|{ü}|(ß)|["é"]'), 'latin: json');
is($node->safe_psql('latin', q{SELECT "offset", sqlstate FROM pipeline.dead_letters WHERE view = 'v'::regclass ORDER BY 1}), "1|22P05\n2|22P05\n3|22P05", 'latin: dead letters');
is($node->safe_psql('latin', q{SELECT o, w IS NULL, (SELECT count(*) FROM pipeline.dead_letters WHERE view = 'w'::regclass) FROM w}), '0|f|2', 'latin: csv');
is($node->safe_psql('latin', encode('UTF-8', "SET client_encoding = 'UTF8'; SELECT ä IS NULL FROM w")), 't', 'latin: the null text');

$node->stop;
done_testing();
