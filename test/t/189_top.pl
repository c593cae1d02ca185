# pipeline.top() gives the right reason where only a real topic, a second session
# or a full server brings it about: an empty topic, one read from its end, a
# partition that holds the watermark, a broker that is gone, a lock, an
# expensive query, no process left, a standby.  If this failed, somebody who asks
# why a view is slow or empty would be sent the wrong way.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use PostgreSQL::Test::Utils;
use Test::More;

use KafkaBroker;
use PipelineNode;

my $broker = KafkaBroker->new;
my $node = PipelineNode->create('top', conf => "timezone = 'UTC'\npipeline.batch_size = 20\n");
my $address = $broker->address;

sub run_sql { return $node->safe_psql('postgres', $_[0]); }

sub top_of
{
	my ($view, $what) = @_;
	return run_sql("SELECT $what FROM pipeline.top() WHERE view = '$view'::regclass");
}

sub until_top
{
	my ($view, $condition, $name) = @_;
	my $ok = eval { $node->until_true("SELECT $condition FROM pipeline.top() WHERE view = '$view'::regclass", 60); 1 };

	ok($ok, $name) or diag($@, run_sql("SELECT t FROM pipeline.top() t; SELECT s FROM pipeline.stat_views s"));
	return;
}

$broker->create_topic($_, 2) for qw(empty_one used gone);
$broker->produce_records('used', 0, map { qq({"id":$_,"at":"2024-01-01T00:00:00Z","v":1}) } 1 .. 10);
$broker->produce_records('gone', 0, qw({"id":1} {"id":2}));
$broker->delete_records('gone', 0, 2);
run_sql(qq{
CREATE SERVER shop FOREIGN DATA WRAPPER pipeline_kafka OPTIONS (bootstrap_servers '$address');
CREATE FOREIGN TABLE empty_one (id bigint) SERVER shop OPTIONS (topic 'empty_one');
CREATE FOREIGN TABLE gone (id bigint) SERVER shop OPTIONS (topic 'gone');
CREATE FOREIGN TABLE used (id bigint, at timestamptz, v int) SERVER shop OPTIONS (topic 'used', event_time 'at', out_of_orderness '0', idle_timeout 'off');
CREATE FOREIGN TABLE misnamed (identity bigint, at timestamptz) SERVER shop OPTIONS (topic 'used', event_time 'at', out_of_orderness '0');
CREATE TABLE names (v int PRIMARY KEY, name text);
INSERT INTO names VALUES (1, 'one');
});

# Empty for different reasons.
run_sql(q{
CREATE VIEW v_empty WITH (pipeline.continuous) AS SELECT id FROM empty_one;
CREATE VIEW v_gone WITH (pipeline.continuous) AS SELECT id FROM gone;
CREATE VIEW v_latest WITH (pipeline.continuous, pipeline.start = 'latest') AS SELECT id FROM used;
CREATE VIEW v_misnamed WITH (pipeline.continuous) AS SELECT identity FROM misnamed WHERE identity > 0;
});
$node->wait_for($_) for qw(v_empty v_gone v_latest v_misnamed);
until_top('v_empty', q{empty_because = 'empty_one (topic empty_one) holds no records'}, 'an empty topic');
until_top('v_gone', q{empty_because = 'gone (topic gone) holds no records: those before were deleted'}, 'a topic whose records were deleted');
like(top_of('v_latest', 'empty_because'), qr/begins at the end of the stream/, 'read from its end');
is(top_of('v_misnamed', 'empty_because, hint'), 'no event passes WHERE: 10 of 10 were filtered out|Is each column named as in the records? One that a record does not have is null.', 'a column that no record has');
run_sql('DROP VIEW v_empty, v_gone, v_latest, v_misnamed');

# A partition that has nothing holds the watermark.
run_sql(q{CREATE VIEW v_minutes WITH (pipeline.continuous) AS SELECT pipeline.tumble(at, '1 minute') AS w, count(*) AS n FROM used GROUP BY w});
$broker->produce_records('used', 0, q({"id":11,"at":"2024-01-01T00:05:00Z","v":1}));
$node->wait_for('v_minutes');
is(top_of('v_minutes', 'status, bottleneck'), 'held back|watermark held back by partition 1 of used, which has had no event yet; idle_timeout is off', 'a partition without events holds the watermark');
like(top_of('v_minutes', 'hint'), qr/idle_timeout/, 'and what can be done');
$broker->produce_records('used', 1, q({"id":12,"at":"2024-01-01T00:00:30Z","v":1}));
$node->wait_for('v_minutes');
is(top_of('v_minutes', 'bottleneck'), 'watermark held back by partition 1 of used, whose highest event time is 2024-01-01 00:00:30+00; idle_timeout is off', 'one that is behind');
$broker->produce_records('used', 1, q({"id":13,"at":"2024-01-01T00:05:30Z","v":1}));
$node->wait_for('v_minutes');
is(top_of('v_minutes', 'status, empty_because'), 'running|', 'when it is there the window closes');

# Behind, because the query is expensive: twenty records at a time, with backpressure.
run_sql(q{
CREATE FUNCTION ponder(v int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE COST 1 AS 'BEGIN FOR i IN 1 .. 400000 LOOP NULL; END LOOP; RETURN true; END';
CREATE VIEW v_slow WITH (pipeline.continuous) AS SELECT count(*) AS n FROM used WHERE ponder(v);
});
$broker->produce(topic => 'used', partitions => 2, count => 5_000);
$node->until_true(q{SELECT lag > 1000 FROM pipeline.stat_views WHERE view = 'v_slow'::regclass});
run_sql(q{SELECT pipeline.stat_reset()});
until_top('v_slow', q{bottleneck ~ '^(CPU: |disk, WAL, locks or too few CPUs.*)stage plan'}, 'an expensive filter is found');
like(top_of('v_slow', 'status, backpressure > 0, stage > decode + operator + close + commit'), qr/^(at its limit|falling behind|catching up)\|t\|t$/, 'and where the time goes');
like(top_of('v_slow', 'hint'), qr/pipeline\.explain|pg_stat_activity/, 'and what can be done');
until_top('v_slow', q{lag > 0 AND lag_change_per_second < 0 AND catch_up > '0'}, 'when it will have caught up');
run_sql('DROP VIEW v_slow; DROP FUNCTION ponder');

# A lock: on what, and by whom.
run_sql(q{CREATE VIEW v_named WITH (pipeline.continuous) AS SELECT name, count(*) AS n FROM used JOIN names USING (v) GROUP BY name});
$node->wait_for('v_named');
my $locker = $node->background_psql('postgres');
$locker->query_safe('BEGIN; LOCK TABLE names');
my $pid = run_sql(q{SELECT pid FROM pg_locks WHERE relation = 'names'::regclass AND mode = 'AccessExclusiveLock'});
$broker->produce_records('used', 0, q({"id":14,"at":"2024-01-01T00:06:00Z","v":1}));
until_top('v_named', "status = 'waiting' AND bottleneck = 'lock on names held by process $pid'", 'a lock is shown, and who holds it');
$locker->query_safe('COMMIT');
$locker->quit;
$node->wait_for('v_named');

# No broker.
$broker->stop;
until_top('v_named', q{status = 'waiting' AND bottleneck = 'source: no broker of server shop answers'}, 'a broker that is gone');
is(run_sql('SELECT status FROM pipeline.top() LIMIT 1'), 'waiting', 'what needs attention comes first');
$node->stop('fast');

# No process: the launcher of logical replication has one, ours another, one view the third.
my $full = PipelineNode->create('full', conf => "max_worker_processes = 3\nwal_level = replica\nmax_wal_senders = 3\n");
$full->safe_psql('postgres', q{
CREATE FOREIGN TABLE one (id bigint) SERVER pipeline_local;
CREATE FOREIGN TABLE two (id bigint) SERVER pipeline_local;
CREATE VIEW v_one WITH (pipeline.continuous) AS SELECT id FROM one;
CREATE VIEW v_two WITH (pipeline.continuous) AS SELECT id FROM two;
});
$full->until_true(q{SELECT count(*) = 1 FROM pipeline.top() WHERE status = 'waiting' AND bottleneck = 'waits for a background worker slot: all of max_worker_processes are taken'});
like($full->safe_psql('postgres', q{SELECT hint FROM pipeline.top() LIMIT 1}), qr/max_worker_processes/, 'a view that gets no process');
$full->append_conf('postgresql.conf', "max_worker_processes = 8\npipeline.max_tasks = 1\n");
$full->restart;
$full->until_true(q{SELECT array_agg(status || '|' || bottleneck || '|' || left(empty_because, 11) ORDER BY status) = ARRAY['empty|waiting for events|nothing was', 'waiting|waits for a task slot: all of pipeline.max_tasks are taken|it has read'] FROM pipeline.top()});
pass('one that gets no task slot');

# Of a standby, and of a server that does not load the library.
$full->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($full, 'copy', has_streaming => 1);
$standby->start;
is($standby->safe_psql('postgres', q{SELECT DISTINCT status, bottleneck FROM pipeline.top()}), q{standby|this server is a standby: the primary's workers keep the view}, 'a standby');
$standby->stop('fast');
$full->append_conf('postgresql.conf', "shared_preload_libraries = ''\n");
$full->restart;
is($full->safe_psql('postgres', q{SELECT DISTINCT status, bottleneck FROM pipeline.top()}), 'waiting|nobody runs views: the library is not in shared_preload_libraries', 'a server without the library');
$full->safe_psql('postgres', 'CREATE DATABASE plain');
$full->psql('plain', 'CREATE EXTENSION pipeline_ext', stderr => \my $warning);
like($warning, qr/WARNING:  pipeline_ext is not loaded via shared_preload_libraries/, 'CREATE EXTENSION says so');
$full->stop('fast');
done_testing();
