# pg_upgrade moves a server's files to a new version, and views go on in the new server by
# themselves, as the database is still the same one.  If this failed, an upgrade would
# stop all views, lose their open windows, or let DROP VIEW leave their parts behind.
#
# Without another version at hand the server is upgraded to its own, with all that
# pg_upgrade does and checks.  PIPELINE_TEST_OTHER_INSTALL names the folder of another
# installation (the one that has bin/), with the extension installed for it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use PostgreSQL::Test::Utils;
use Test::More;

use EveryView;
use KafkaBroker;
use PipelineNode;

my $conf = "timezone = 'UTC'\njit = off\nfsync = off\nshared_preload_libraries = 'pipeline_ext'\nmax_worker_processes = 60\npipeline.state_memory = '128MB'\n";
my $broker = KafkaBroker->new;
my $old = PipelineNode->create('old', extension => 0, conf => $conf);
my $views = EveryView->new($old, 'shop', $broker);
my $other = $ENV{PIPELINE_TEST_OTHER_INSTALL};
my $new = PipelineNode->new('new', $other ? (install_path => $other) : ());
my $old_bin = $old->config_data('--bindir');
my $new_bin = $new->config_data('--bindir');

chomp($old_bin, $new_bin);
my ($version) = `$new_bin/postgres --version` =~ /(\d+)/;

$new->init(extra => $version >= 18 ? ['--no-data-checksums'] : []);
$new->append_conf('postgresql.conf', $conf);
note("to version $version");

$views->create;
$views->feed(1, 700);
$views->wait_for_all;
# what is not in any checkpoint yet is in the streams
$views->feed(701, 800);

$old->stop;
chdir $new->basedir or die "could not go there: $!";
$new->command_ok([ 'pg_upgrade', ($version >= 16 ? () : ('--no-sync')), '-d', $old->data_dir, '-D', $new->data_dir, '-b', $old_bin, '-B', $new_bin,
	'-s', $new->host, '-p', $old->port, '-P', $new->port ], 'pg_upgrade succeeds') or diag(join "\n", map { "$_:\n" . slurp_file($_) } grep { -f } glob($new->data_dir . '/pg_upgrade_output.d/*/log/*.log'));
$new->start;

my $upgraded = $views->in('shop', $new);

is($upgraded->sql(q{SELECT count(*) FROM pipeline.views WHERE state <> 'running'}), 0, 'views run without being adopted') or diag($upgraded->sql('SELECT view, state, reason FROM pipeline.views'));
$upgraded->wait_for_all;
is_deeply([ $upgraded->wrong ], [], 'and have read what came before the upgrade');
$upgraded->feed(801, 1000);
$upgraded->wait_for_all;
is_deeply([ $upgraded->wrong ], [], 'and what comes after it');
is($upgraded->sql(q{SELECT bool_and(events_in = 1000) FROM pipeline.stat_views WHERE view::text IN ('kafka.windowed', '"App One".changes')}), 't', 'each event once');
is($upgraded->sql('SELECT bool_and(pipeline.verify_state(view)) FROM pipeline.views'), 't', 'state is what is saved');

# The parts of a view, and of a stream, belong to it.
$upgraded->sql('ALTER FOREIGN TABLE "App One".history_clicks ADD COLUMN more text; INSERT INTO "App One".history_clicks (id, k, at, more) VALUES (1, 1, now(), \'x\')');
$upgraded->sql('DROP VIEW "App One".over_it; DROP VIEW ' . join(', ', $upgraded->names) . '; DROP FOREIGN TABLE "App One"."Orders", "App One".clicks, "App One".history_clicks');
is($upgraded->sql(q{SELECT string_agg(relname, ' ') FROM pg_class WHERE relnamespace = 'pipeline_data'::regnamespace AND relname ~ '^[qtkfhl]_[0-9]' OR relname ~ '_late$'}), '', 'dropping all leaves nothing behind');

my $log = slurp_file($new->logfile);
unlike($log, qr/PANIC|TRAP:|terminated by signal|leak:|refcount leak/, 'the log shows no internal error');

$new->stop;
done_testing();
