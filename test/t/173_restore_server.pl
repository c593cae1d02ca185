# A whole server is dumped by pg_dumpall and restored into another one, whose transaction
# ids begin from below, while the broker is away.  If this failed, rows of local streams
# would seem to have been read long ago, or the restore would depend on Kafka.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use PostgreSQL::Test::Utils;
use Test::More;

use EveryView;
use KafkaBroker;
use PipelineNode;

my $conf = "timezone = 'UTC'\njit = off\nmax_worker_processes = 80\nfsync = off\npipeline.state_memory = '256MB'\npipeline.max_tasks = 200\n";
my $broker = KafkaBroker->new;
my $node = PipelineNode->create('first', extension => 0, conf => $conf);
my $views = EveryView->new($node, 'shop', $broker);
my $dir = $node->basedir;

$views->create;
$views->sql(q{CREATE SERVER secret FOREIGN DATA WRAPPER pipeline_kafka OPTIONS (bootstrap_servers 'nowhere.invalid:1', "security.protocol" 'sasl_ssl', "sasl.mechanism" 'PLAIN');
CREATE USER MAPPING FOR ann SERVER secret OPTIONS ("sasl.username" 'u', "sasl.password" 'p')});
$views->feed(1, 800);
$views->wait_for_all;
$node->command_ok([ 'pg_dumpall', '-d', $node->connstr('postgres'), '-f', "$dir/all.sql" ], 'a server is dumped');
$node->stop;
$broker->stop;

my $other = PipelineNode->create('other', extension => 0, conf => $conf);
my $restored = $views->in('shop', $other);

$other->command_ok([ 'psql', '-X', '-q', '-d', $other->connstr('postgres'), '-f', "$dir/all.sql" ], 'and restored into another one');
$restored->sql('SELECT pipeline.adopt()');
$restored->feed_local(801, 900);
$restored->sql(q{SELECT bool_and(pipeline.wait_for(view, '60 seconds')) FROM (SELECT view FROM pipeline.views v WHERE NOT EXISTS (SELECT FROM pg_foreign_table f WHERE f.ftrelid = ANY (v.streams) AND f.ftserver = (SELECT oid FROM pg_foreign_server WHERE srvname = 'Kafka')) ORDER BY view::text LIKE '%reader' OFFSET 0) v});
is_deeply([ $restored->wrong(grep { !/kafka/ } $restored->names) ], [], 'views of local streams go on without the broker');
is($restored->sql(q{SELECT count(*) FROM pipeline.stat_views WHERE view = 'kafka.windowed'::regclass AND state = 'running'}), 1, 'those of topics wait for it');
is($restored->sql(q{SELECT array(SELECT unnest(umoptions) ORDER BY 1) FROM pg_user_mappings WHERE srvname = 'secret'}), '{sasl.password=p,sasl.username=u}', 'secrets are in the dump of a superuser');
$broker->start;
$restored->sql(q{ALTER SERVER "Kafka" OPTIONS (SET bootstrap_servers '} . $broker->address . q{')});
$restored->feed_local(901, 1000);
$restored->feed_archive(801, 1000);
$restored->feed_topic(801, 1000);
$restored->wait_for_all;
is_deeply([ $restored->wrong ], [], 'and go on when it is back');

my $log = slurp_file($node->logfile) . slurp_file($other->logfile);
unlike($log, qr/PANIC|TRAP:|terminated by signal|leak:|refcount leak/, 'the logs show no internal error');

$other->stop;
done_testing();
