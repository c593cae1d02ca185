# What an administrator sets for the server, a database or a role changes neither
# what views contain nor whether they go on: the same events go into views of two
# databases, one of which is set up as badly as PostgreSQL allows.  And limits: of
# worker processes (views wait, and say so), of tasks in shared memory, of a role
# and of a database (CREATE is refused).  If this failed, results would depend on a
# line in postgresql.conf, or one user could take all workers.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use PostgreSQL::Test::Utils;
use Test::More;

use PipelineNode;

# Of the server, of all roles, of the database: what can be set where.
my @of_server = (
	"statement_timeout = '50ms'", "lock_timeout = '20ms'", "idle_in_transaction_session_timeout = '20ms'",
	"default_transaction_isolation = 'serializable'", 'default_transaction_deferrable = on',
	'exit_on_error = on', "DateStyle = 'German, DMY'", "IntervalStyle = 'sql_standard'", "timezone = 'Asia/Kathmandu'",
	"work_mem = '64kB'", 'extra_float_digits = -15', "bytea_output = 'escape'", 'array_nulls = off',
	'quote_all_identifiers = on', "xmlbinary = 'hex'", "default_text_search_config = 'pg_catalog.german'",
	"timezone_abbreviations = 'Australia'", 'jit = on', 'jit_above_cost = 0', 'max_parallel_workers_per_gather = 4',
	'min_parallel_table_scan_size = 0', 'parallel_setup_cost = 0', 'parallel_tuple_cost = 0', 'force_parallel_mode = on',
	'from_collapse_limit = 1', 'join_collapse_limit = 1', 'enable_hashjoin = off', 'enable_sort = off',
	'enable_seqscan = off', 'plan_cache_mode = force_generic_plan', "search_path = 'hostile, pg_catalog'");
my @of_database = ('default_transaction_read_only = on', "row_security = off", "session_replication_role = 'replica'",
	"role = 'nobody'", "restrict_nonsystem_relation_kind = 'view, foreign-table'", "lc_time = 'C'", "lc_numeric = 'C'");

# Sessions of the test are not to suffer.
$ENV{PGOPTIONS} = join ' ', map { "-c $_" } 'statement_timeout=0', 'lock_timeout=0', 'idle_in_transaction_session_timeout=0', 'default_transaction_read_only=off',
  'session_replication_role=origin', 'exit_on_error=off', 'role=none', 'row_security=on', 'restrict_nonsystem_relation_kind=',
  'default_transaction_isolation=read\ committed', 'search_path=public', 'timezone=UTC', 'datestyle=ISO', 'intervalstyle=postgres', 'extra_float_digits=1',
  'bytea_output=hex', 'array_nulls=on', 'quote_all_identifiers=off', 'xmlbinary=base64', 'default_text_search_config=pg_catalog.english',
  'timezone_abbreviations=Default', 'force_parallel_mode=off';

my $node = PipelineNode->create('limits', extension => 0, conf => "timezone = 'UTC'\npipeline.checkpoint_interval = '50ms'\npipeline.share_tasks = off\n");
my @databases = qw(plain hostile);

sub sql
{
	my ($database, $sql) = @_;

	return $node->safe_psql($database, $sql);
}

# What depends on each of the settings that results can depend on.
my $setup = <<'SQL';
CREATE EXTENSION pipeline_ext;
CREATE SCHEMA hostile;
CREATE FUNCTION hostile.lower(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'not this one' $$;
CREATE FUNCTION hostile.shape(x int) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'hostile' $$;
CREATE FUNCTION public.shape(x int) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'public' || x $$;
-- the owner's functions may set what they like: it ends with the batch
CREATE FUNCTION public.setting(x int) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
  PERFORM set_config('timezone', 'Asia/Tokyo', false), set_config('lock_timeout', '1ms', false), set_config('datestyle', 'German', false);
  RETURN shape(x);  -- found by the search path of CREATE VIEW
END $$;
CREATE FUNCTION public.slow(x int) RETURNS int LANGUAGE plpgsql STABLE AS $$
BEGIN
  IF x % 500 = 0 THEN PERFORM count(*) FROM generate_series(1, 1000000); END IF;  -- longer than statement_timeout
  RETURN x;
END $$;
CREATE TABLE public.dim (k int PRIMARY KEY, name text);
INSERT INTO public.dim SELECT i, 'name ' || i FROM generate_series(0, 9) i;
CREATE TABLE public.secret (k int);
INSERT INTO public.secret SELECT i FROM generate_series(0, 9) i;
ALTER TABLE public.secret ENABLE ROW LEVEL SECURITY;
CREATE FOREIGN TABLE public.s (k int, x int, f float8, at timestamptz, said text) SERVER pipeline_local
  OPTIONS (event_time 'at', out_of_orderness '0', idle_timeout 'off');
CREATE VIEW public.shown WITH (pipeline.continuous) AS
SELECT s.x, at::text AS at_text, (at - timestamptz '2024-01-01')::text AS since, f::text AS f_text, decode(md5(x::text), 'hex')::text AS bytes,
  said::int[] AS numbers, quote_ident('quoted') AS quoted, to_tsvector('The houses ' || said) AS words,
  extract(epoch FROM ('2024-01-02 12:00 EST'::text)::timestamptz) AS est, lower('ABC') AS lowered, shape(x) AS shape, slow(x) AS slow,
  to_char(x / 7.0, 'FM999D99') AS number, d.name
FROM s JOIN dim d ON d.k = s.k JOIN secret ON secret.k = s.k;
CREATE VIEW public.setting WITH (pipeline.continuous) AS SELECT x, setting(x) AS setting FROM s;
CREATE VIEW public.windows WITH (pipeline.continuous) AS
SELECT s.k, pipeline.tumble(at, '1 minute') AS w, count(*) AS n, sum(f) AS f, string_agg(d.name, ',' ORDER BY x DESC) AS names, min(date_trunc('day', at)) AS day
FROM s JOIN dim d USING (k) GROUP BY s.k, w;
CREATE VIEW public.totals WITH (pipeline.continuous) AS SELECT k, count(*) AS n, sum(x) AS x, avg(f) AS f FROM s GROUP BY k;
SQL

sub insert
{
	my ($from, $to) = @_;

	sql($_, "INSERT INTO s SELECT i % 10, i, i / 3.0, timestamptz '2024-01-01' + i * interval '1 s', '{1,NULL,' || i || '}' FROM generate_series($from, $to) i") for @databases;
	return;
}

sub wait_for_views
{
	is(sql($_, "SELECT bool_and(pipeline.wait_for(view)) FROM pipeline.views"), 't', "views of database $_ have caught up") for @databases;
	return;
}

sql('postgres', 'CREATE ROLE nobody');
for my $database (@databases)
{
	sql('postgres', "CREATE DATABASE $database");
	sql($database, $setup);
}
insert(1, 1000);
wait_for_views();

# From here on everything is set; the workers begin anew under it.
$node->append_conf('postgresql.conf', join("\n", @of_server, ''));
sql('postgres', "ALTER DATABASE hostile SET $_") for @of_database;
sql('postgres', "ALTER ROLE CURRENT_USER IN DATABASE hostile SET $_") for @of_database, grep { !/^search_path/ } @of_server;
$node->restart;
is($node->safe_psql('hostile', 'SHOW default_transaction_read_only'), 'off', "the test's own sessions are spared");
is(sql('hostile', "SELECT count(*) FROM pg_db_role_setting, unnest(setconfig)"), @of_database + @of_database + @of_server - 1, 'everything is set');
insert(1001, 2000);
wait_for_views();
my ($plain, $hostile) = map { sql($_, 'SELECT * FROM shown ORDER BY x') . sql($_, 'SELECT * FROM windows ORDER BY k, w') . sql($_, 'SELECT * FROM totals ORDER BY k') } @databases;
is($hostile eq $plain ? 'equal' : substr($hostile, 0, 500), 'equal', 'the views of both databases are equal');
is(sql($_, "SELECT count(*), count(DISTINCT (since ~ 'days|:')), min(shape), max(length(at_text)), min(lowered) FROM shown"), '2000|1|public1|22|abc', "of all events in $_") for @databases;
is(sql('hostile', "SELECT at_text, since, f_text, quoted, est, numbers, bytes = '\\x' || md5('2000') FROM shown WHERE x = 2000"),
	'2024-01-01 00:33:20+00|00:33:20|666.6666666666666|quoted|1704214800.000000|{1,NULL,2000}|t', 'with the settings of CREATE VIEW');
is(sql('hostile', "SELECT to_tsvector('english', 'The houses {1,NULL,2000}') = words FROM shown WHERE x = 2000"), 't', 'text search configuration included');
is(sql('hostile', 'SELECT bool_and(s.n = b.n AND s.x = b.x) FROM totals s JOIN (SELECT i % 10 AS k, count(*) AS n, sum(i) AS x FROM generate_series(1, 2000) i GROUP BY 1) b USING (k)'),
	't', 'and they are right');
is(sql($_, 'SELECT count(*) FROM pipeline.dead_letters'), '0', "no event of $_ was refused") for @databases;
is(sql($_, 'SELECT count(*) FROM pipeline.stat_views WHERE last_error IS NOT NULL'), '0', "no worker of $_ failed") for @databases;

# A bad record is found by errors, which exit_on_error makes the end of other sessions.
sql('hostile', 'CREATE VIEW divided WITH (pipeline.continuous) AS SELECT x, 100 / (x - 2005) AS d FROM s');
my $worker = sql('hostile', "SELECT pipeline.wait_for('divided'); SELECT pid FROM pipeline.stat_views WHERE view = 'divided'::regclass") =~ s/^t\n//r;
insert(2001, 2010);
wait_for_views();
is(sql('hostile', 'SELECT count(*), (SELECT count(*) FROM pipeline.dead_letters) FROM divided'), '2009|1', 'a record on which the query fails is a dead letter');
is(sql('hostile', "SELECT pid FROM pipeline.stat_views WHERE view = 'divided'::regclass"), $worker, 'of a worker that lives on');
sql('hostile', 'DROP VIEW divided');

# Views of a role and of a database.  The limits themselves are for superusers to set.
sql('plain', <<'SQL');
CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN;
GRANT CREATE ON SCHEMA public TO alice, bob; GRANT SELECT ON s TO alice, bob;
ALTER ROLE alice SET pipeline.max_tasks_per_role = 2;
SQL
my $view = 'WITH (pipeline.continuous) AS SELECT k, count(*) AS n FROM s GROUP BY k';

sub psql_as
{
	my ($role, $sql) = @_;
	local $ENV{PGOPTIONS} = $ENV{PGOPTIONS} =~ s/-c session_replication_role=\S+//r;
	my (undef, undef, $stderr) = $node->psql('plain', $sql, connstr => $node->connstr('plain') . " user=$role", on_error_stop => 1);

	return $stderr;
}

unlike(psql_as('alice', "CREATE VIEW a1 $view; CREATE VIEW a2 $view"), qr/ERROR/, 'as many views as a role may have');
like(psql_as('alice', "CREATE VIEW a3 $view"), qr/role "alice" cannot have continuous view "a3"\nDETAIL:  It would have 3 tasks in this database, and may have 2/, 'one more is refused');
like(psql_as('alice', 'SET pipeline.max_tasks_per_role = 5'), qr/permission denied/, 'nor can the role change its limit');
unlike(psql_as('bob', "CREATE VIEW b1 $view"), qr/ERROR/, 'another role is not affected');
unlike(psql_as('alice', "DROP VIEW a2; CREATE VIEW a3 $view"), qr/ERROR/, 'room that becomes free can be used');
sql('plain', 'ALTER DATABASE plain SET pipeline.max_tasks_per_database = 8; GRANT alice TO bob');
like(psql_as('bob', "CREATE VIEW b2 $view"), qr/^(?!.*ERROR)/s, 'a database: up to the limit');
like(psql_as('bob', "CREATE VIEW b3 $view"), qr/this database cannot have continuous view "b3"\nDETAIL:  It would have 9 tasks, and may have 8/, 'one more is refused');
unlike($node->psql('plain', "CREATE VIEW p1 $view") || '', qr/ERROR/, 'superusers are not bound by it');
sql('plain', 'ALTER ROLE alice RESET pipeline.max_tasks_per_role; ALTER ROLE bob SET pipeline.max_tasks_per_role = 2');
like(psql_as('bob', 'ALTER VIEW b1 OWNER TO alice'), qr/role "alice" cannot have/, 'nor can a view be given to a role that has enough');
sql('plain', 'DROP OWNED BY alice, bob; DROP VIEW p1');

# Worker processes: those that find none wait, which CREATE and the statistics say, and begin when one is free.
$node->append_conf('postgresql.conf', "max_worker_processes = 5\npipeline.max_tasks = 8");
sql('hostile', 'DROP VIEW shown, setting, windows, totals');
sql('plain', 'DROP VIEW setting');
$node->restart;
insert(2011, 2020);
is(sql('plain', 'SELECT bool_and(pipeline.wait_for(view)) FROM pipeline.views'), 't', 'three views have a worker each, beside the launchers');
my (undef, undef, $warning) = $node->psql('plain', "CREATE VIEW waiting $view");
like($warning, qr/max_worker_processes is too low.*\n.*It is 5; at least 6 are needed.*\n.*Raise/, 'CREATE says that a fourth will wait');
$node->safe_psql('plain', 'SELECT 1');
my $activity = sub { my ($view) = @_; return sql('plain', "SELECT activity FROM pipeline.stat_views WHERE view = '$view'::regclass") };
until_equal(sub { $activity->('waiting') }, 'waiting for a background worker slot', 'it waits, and says so');
is(sql('plain', "SELECT pipeline.wait_for('waiting', '100 ms')"), 'f', 'it is not there in time');
is(sql('plain', "SELECT state FROM pipeline.views WHERE view = 'waiting'::regclass"), 'running', 'it shall run');
insert(2021, 2030);
is(sql('plain', "SELECT pipeline.wait_for('totals'); SELECT sum(n) FROM totals"), "t\n2030", 'the others go on');
sql('plain', 'DROP VIEW windows');
is(sql('plain', "SELECT pipeline.wait_for('waiting'); SELECT sum(n) FROM waiting"), "t\n2030", 'with a process free it begins, and misses nothing');

# Slots in shared memory: no view without one.
sql('plain', "CREATE VIEW more$_ $view") for 1 .. 5;
my (undef, undef, $error) = $node->psql('plain', "CREATE VIEW more6 $view");
like($error, qr/there is no room for continuous view "more6"\nDETAIL:  The server keeps at most 8 tasks/, 'no more views than pipeline.max_tasks');
is(sql('plain', "SELECT to_regclass('more6') IS NULL AND (SELECT count(*) = 8 FROM pipeline.views)"), 't', 'and nothing is left of it');
sql('plain', 'DROP VIEW more5');
is(sql('plain', "CREATE VIEW more6 $view; SELECT count(*) FROM pipeline.views"), 8, 'a slot that becomes free can be used');

sub until_equal
{
	my ($get, $expected, $name) = @_;
	my $deadline = time + 60;
	my $got = $get->();

	$got = $get->() while $got ne $expected && time < $deadline;
	return is($got, $expected, $name);
}

$node->stop;
done_testing();
