# The extension in a database that is busy with something else.  If this failed,
# CREATE EXTENSION, continuous views over an application's tables or DROP EXTENSION
# would make the application fail or wait, or leave something behind.
#
# pgbench runs its own transactions all the time.  Meanwhile the extension is
# created, ten views over local streams join pgbench's tables, events come from
# other clients, views are altered, indexed and dropped, and then all of it goes by
# DROP EXTENSION CASCADE.  Of pgbench no transaction may fail or wait for a lock for
# a second; afterwards the catalogs, files, processes and shared memory are as
# before.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use IPC::Run ();
use PostgreSQL::Test::Utils;
use Test::More;

use PipelineNode;

my $node = PipelineNode->create('traffic', extension => 0, conf => <<'CONF');
timezone = 'UTC'
jit = off
autovacuum = off
log_lock_waits = on
deadlock_timeout = 1s
CONF
my $logs = $node->basedir . '/pgbench';
my ($app, $feed) = ([], []);

# A second database, from which to look at what all databases share.
$node->safe_psql('postgres', 'CREATE DATABASE shop');
$node->safe_psql('postgres', 'CREATE EXTENSION pipeline_ext');
$node->command_ok([ 'pgbench', '-i', '-q', '-s', '2', 'shop' ], 'pgbench has its tables');

sub shop
{
	my ($sql) = @_;
	return $node->safe_psql('shop', $sql);
}

sub start_pgbench
{
	my ($run, @options) = @_;

	local %ENV = (%{ { $node->_get_env } }, PGAPPNAME => 'pgbench');
	@$run = ('', '');
	unshift @$run, IPC::Run::start([ 'pgbench', '-n', @options, 'shop' ], '<', \undef, '>', \$run->[0], '2>', \$run->[1]);
	return;
}

# What DDL may leave: objects and what they depend on, and files that belong to none.
sub traces
{
	return shop(<<'SQL');
CHECKPOINT;
SELECT 'class ' || relname || ' ' || relkind::text FROM pg_class WHERE oid >= 16384 AND relnamespace <> 'pg_toast'::regnamespace
UNION ALL SELECT 'toast ' || count(*) FROM pg_class WHERE relnamespace = 'pg_toast'::regnamespace
UNION ALL SELECT 'depend ' || count(*) FROM pg_depend
UNION ALL SELECT 'shdepend ' || count(*) FROM pg_shdepend WHERE dbid = (SELECT oid FROM pg_database WHERE datname = 'shop')
UNION ALL SELECT 'proc ' || count(*) FROM pg_proc
UNION ALL SELECT 'type ' || count(*) FROM pg_type
UNION ALL SELECT 'rewrite ' || count(*) FROM pg_rewrite
UNION ALL SELECT 'trigger ' || count(*) FROM pg_trigger
UNION ALL SELECT 'attribute ' || count(*) FROM pg_attribute
UNION ALL SELECT 'constraint ' || count(*) FROM pg_constraint
UNION ALL SELECT 'description ' || count(*) FROM pg_description
UNION ALL SELECT 'init_privs ' || count(*) FROM pg_init_privs
UNION ALL SELECT 'namespace ' || nspname FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp'
UNION ALL SELECT 'server ' || srvname FROM pg_foreign_server
UNION ALL SELECT 'wrapper ' || fdwname FROM pg_foreign_data_wrapper
UNION ALL SELECT 'extension ' || extname FROM pg_extension
UNION ALL SELECT 'foreign table ' || ftrelid FROM pg_foreign_table
UNION ALL SELECT 'replication slot ' || slot_name FROM pg_replication_slots
UNION ALL SELECT 'prepared transaction ' || gid FROM pg_prepared_xacts
UNION ALL SELECT 'file ' || f FROM pg_ls_dir('base/' || (SELECT oid FROM pg_database WHERE datname = 'shop')) f
  WHERE f ~ '^[0-9]+' AND NOT EXISTS (SELECT FROM pg_class c WHERE pg_relation_filenode(c.oid) = substring(f FROM '^[0-9]+')::oid)
ORDER BY 1
SQL
}

# The longest that a client of pgbench is waiting for a lock right now, in ms; the log has those of a second exactly.
my $longest = 0;

sub look_for_waits
{
	my $ms = $node->safe_psql('postgres', <<'SQL');
SELECT coalesce(max(extract(epoch FROM clock_timestamp() - l.waitstart) * 1000), 0)::int
FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT l.granted AND a.application_name = 'pgbench'
SQL
	$longest = $ms if $ms > $longest;
	return;
}

my $memory_before = $node->sql('SELECT used_bytes FROM pipeline.state_memory()');
my $before = traces();
my $log_start = -s $node->logfile;

start_pgbench($app, '-c', 4, '-j', 2, '-R', 150, '-T', 600, '-l', '--log-prefix', $logs);
$node->until_true(q{SELECT count(*) >= 4 FROM pg_stat_activity WHERE application_name = 'pgbench' AND datname = 'shop'});

shop('CREATE EXTENSION pipeline_ext');
shop(<<'SQL');
CREATE FOREIGN TABLE payments (at timestamptz, aid int, bid int, amount int) SERVER pipeline_local
  OPTIONS (event_time 'at', out_of_orderness '0', idle_timeout '1 s');
CREATE FOREIGN TABLE visits (tid int, at timestamptz DEFAULT clock_timestamp()) SERVER pipeline_local;
SQL

my $script = $node->basedir . '/feed.sql';
append_to_file($script, <<'SQL');
\set aid random(1, 200000)
\set bid random(1, 2)
\set tid random(1, 20)
INSERT INTO payments VALUES (clock_timestamp(), :aid, :bid, :aid % 100);
INSERT INTO visits (tid) VALUES (:tid);
SQL
start_pgbench($feed, '-c', 2, '-R', 100, '-T', 600, '-f', $script);

my @views = (
	[ 'branches', '', 'SELECT b.bid, count(*) AS n, sum(p.amount) AS s FROM payments p JOIN pgbench_branches b USING (bid) GROUP BY 1' ],
	[ 'seconds', '', q{SELECT a.bid, pipeline.tumble(p.at, '1 second') AS w, count(*) AS n FROM payments p JOIN pgbench_accounts a USING (aid) GROUP BY 1, 2} ],
	[ 'sliding', '', q{SELECT a.bid, pipeline.hop(p.at, '2 seconds', '1 second') AS w, max(p.amount) AS high FROM payments p JOIN pgbench_accounts a USING (aid) GROUP BY 1, 2} ],
	[ 'sessions', '', q{SELECT p.bid, pipeline.session(p.at, '1 second') AS w, count(*) AS n FROM payments p JOIN pgbench_branches b USING (bid) GROUP BY 1, 2} ],
	[ 'large', '', 'SELECT p.aid, p.amount, a.abalance FROM payments p LEFT JOIN pgbench_accounts a USING (aid) WHERE p.amount > 90' ],
	[ 'tellers', '', 'SELECT t.bid, count(*) AS n FROM visits v JOIN pgbench_tellers t USING (tid) GROUP BY 1' ],
	[ 'visit_windows', '', q{SELECT t.tid, pipeline.tumble(pipeline.proctime(), '1 second') AS w, count(*) AS n FROM visits v JOIN pgbench_tellers t USING (tid) GROUP BY 1, 2} ],
	[ 'lists', '', q{SELECT p.bid, pipeline.tumble(p.at, '1 second') AS w, string_agg(a.aid::text, ',' ORDER BY a.aid) AS l FROM payments p JOIN pgbench_accounts a USING (aid) GROUP BY 1, 2} ],
	[ 'changing', ', pipeline.emit = changes', q{SELECT b.bid, pipeline.tumble(p.at, '1 second') AS w, count(*) AS n FROM payments p JOIN pgbench_branches b USING (bid) GROUP BY 1, 2} ],
	[ 'above', '', 'SELECT w, sum(n) AS n FROM seconds GROUP BY w' ]);
for (@views)
{
	my ($name, $options, $query) = @$_;

	shop("CREATE VIEW $name WITH (pipeline.continuous$options) AS $query");
	look_for_waits();
}
$node->poll_query_until('shop', <<'SQL') or die 'views have no rows';
SELECT (SELECT sum(n) FROM branches) > 100 AND (SELECT count(*) FROM seconds) > 0 AND (SELECT count(*) FROM sliding) > 0
  AND (SELECT count(*) FROM large) > 0 AND (SELECT sum(n) FROM tellers) > 100 AND (SELECT count(*) FROM visit_windows) > 0
  AND (SELECT count(*) FROM lists) > 0 AND (SELECT count(*) FROM changing) > 0 AND (SELECT count(*) FROM above) > 0
SQL
is(shop(q{SELECT count(*) FROM pipeline.stat_views WHERE state <> 'running' OR last_error IS NOT NULL}), 0, 'ten views run without an error');
is(shop('SELECT count(*) FROM pipeline.views'), 10, 'all of them are there');

# What a DBA does to views and to the tables that they join, all in the midst of it.
for my $ddl ('CREATE INDEX by_bid ON seconds (bid)',
	'ALTER VIEW large RENAME TO large_payments',
	q{ALTER VIEW branches SET (pipeline.checkpoint_interval = '100 ms')},
	'REINDEX TABLE seconds',
	'VACUUM (ANALYZE) seconds, branches',
	'COMMENT ON VIEW sliding IS $$x$$',
	'ALTER FOREIGN TABLE visits ADD COLUMN note text',
	'DROP VIEW sessions',
	'BEGIN; DROP EXTENSION pipeline_ext CASCADE; ROLLBACK')
{
	shop($ddl);
	look_for_waits();
}
is(shop(q{SELECT bool_and(pipeline.wait_for(view, '60 s')) FROM pipeline.views}), 't', 'and the views go on');

# The end: while events come, and while nobody listens to the views.
my ($status, $out, $err);
{
	local %ENV = $node->_get_env;
	my ($o, $e) = ('', '');
	my $drop = IPC::Run::start([ 'psql', '-X', '-d', 'shop', '-c', 'DROP EXTENSION pipeline_ext CASCADE' ], '<', \undef, '>', \$o, '2>', \$e);

	while ($drop->pumpable) { $drop->pump_nb; look_for_waits(); }
	$drop->finish;
	($status, $out, $err) = ($drop->result(0), $o, $e);
}
is($status, 0, 'DROP EXTENSION CASCADE') or diag $err;
look_for_waits();

# Who fed the streams notices that they are gone.
$feed->[0]->finish;
like($feed->[2], qr/relation "(payments|visits)" does not exist/, 'streams are gone for those who fed them');
unlike($feed->[2], qr/cache lookup|unexpected|could not open relation|server closed/, '... with a message that says so');

# pgbench goes on for a while after that.
my $done = shop('SELECT count(*) FROM pgbench_history');
$node->poll_query_until('shop', "SELECT count(*) > $done + 200 FROM pgbench_history") or die 'pgbench has stopped';
$app->[0]->signal('INT');
$app->[0]->finish;
unlike($app->[2], qr/error|aborted|FATAL/i, 'no error in pgbench') or diag $app->[2];

my @latencies;
for my $file (glob "$logs.*")
{
	# client, transaction, latency, script, seconds, microseconds, lag
	push @latencies, map { (split)[2] / 1000 } split /\n/, slurp_file($file);
}
@latencies = sort { $a <=> $b } @latencies;
cmp_ok(scalar @latencies, '>', 200, 'pgbench was busy');
note sprintf '%d transactions: median %.1f ms, 99 %% %.1f ms, longest %.1f ms; longest wait for a lock that was seen: %d ms',
  scalar @latencies, $latencies[@latencies / 2], $latencies[@latencies * 0.99], $latencies[-1], $longest;
my $log = slurp_file($node->logfile, $log_start);
my @waits = $log =~ /^.*still waiting for.*$/mg;
is("@waits", '', 'nobody waited for a lock for a second');
cmp_ok($longest, '<', 1000, '... nor was seen to');
# pgbench is ended by a signal
$log =~ s/FATAL: +connection to client lost//g;
my @severe = $log =~ /^.*(?:PANIC|FATAL|TRAP|was terminated by signal|deadlock).*$/mg;
is("@severe", '', 'nothing worse in the log');

# Nothing is left.
$node->until_true(q{SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = 'shop' AND backend_type <> 'client backend'});
$node->until_true(q{SELECT count(*) = 0 FROM pipeline_data.task_slots()});
is($node->sql(q{SELECT string_agg(DISTINCT backend_type, ',') FROM pg_stat_activity WHERE backend_type ~ 'pipeline'}), 'pipeline launcher', 'no worker is left');
is($node->sql('SELECT count(*) FROM pipeline_data.partition_slots()'), 0, 'no slot of a partition');
is($node->sql('SELECT used_bytes FROM pipeline.state_memory()'), $memory_before, 'all shared memory was given back');
is(traces(), $before, 'no object and no file is left');
is(shop(q{SELECT count(*) FROM pg_locks WHERE NOT granted}), 0, 'nobody waits');

# And it can be used again at once.
shop('CREATE EXTENSION pipeline_ext');
shop('CREATE FOREIGN TABLE again (k int) SERVER pipeline_local');
shop('CREATE VIEW again_n WITH (pipeline.continuous) AS SELECT count(*) AS n FROM again');
shop('INSERT INTO again VALUES (1)');
is(shop(q{SELECT pipeline.wait_for('again_n', '60 s') AND (SELECT n = 1 FROM again_n)}), 't', 'and the extension can be created again');

$node->stop;
done_testing();
