# Recovery to a point in mid-stream brings back positions, state and results of the same
# moment, and views go on from there by themselves; so does a base backup that is started
# beside the original.  If this failed, a recovered view would count records twice that
# were in it already, or never those that came after.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use PostgreSQL::Test::Utils;
use Test::More;

use EveryView;
use KafkaBroker;
use PipelineNode;

my $broker = KafkaBroker->new;
my $primary = PipelineNode->create('primary', extension => 0, init => { allows_streaming => 1, has_archiving => 1 },
	conf => "timezone = 'UTC'\njit = off\nfsync = off\nmax_worker_processes = 40\npipeline.state_memory = '128MB'\n");
my $views = EveryView->new($primary, 'shop', $broker);
my $end = 900;

# A server that is recovered from the backup and the archive up to a target.
sub recovered
{
	my ($name, $target) = @_;
	my $node = PipelineNode->new($name);

	$node->init_from_backup($primary, 'base', has_restoring => 1, standby => 0);
	$node->append_conf('postgresql.conf', "$target\nrecovery_target_action = 'promote'\narchive_mode = off\n");
	$node->start;
	$node->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()') or die 'it does not end recovery';
	return $views->in('shop', $node);
}

# It goes on with the topic as it is now, and other rows of its own.
sub goes_on
{
	my ($copy, $had, $name) = @_;

	is($copy->sql('SELECT max(id) FROM archive.clicks'), $had, "$name: it has what was there then");
	is($copy->sql(q{SELECT count(*) FROM pipeline.views WHERE state <> 'running'}), 0, "$name: its views are its own");
	$copy->sql('DELETE FROM archive.records');
	$copy->feed_archive(1, $end);
	$copy->feed_local($had + 1, $had + 150);
	$copy->wait_for_all;
	is_deeply([ $copy->wrong ], [], "$name: they go on from there");
	is($copy->sql(q{SELECT DISTINCT events_in FROM pipeline.stat_views WHERE view::text LIKE 'kafka%' AND view <> 'kafka.of_both'::regclass}), $end, "$name: each record is read once");
	is($copy->sql('SELECT bool_and(pipeline.verify_state(view)) FROM pipeline.views'), 't', "$name: state is what is saved");
	return;
}

$views->create;
$views->feed(1, 300);
$views->wait_for_all;
$primary->backup('base');
$views->feed(301, 500);
# in the middle of it: nobody has waited
$views->sql(q{SELECT pg_create_restore_point('middle')});
$views->feed(501, 700);
my $lsn = $views->sql('SELECT pg_current_wal_flush_lsn()');

$views->feed(701, $end);
$views->wait_for_all;
$views->sql('DROP SCHEMA "App One" CASCADE');
$views->sql('SELECT pg_switch_wal()');
$primary->poll_query_until('postgres', q{SELECT last_archived_wal >= pg_walfile_name(pg_current_wal_lsn() - 1) OR archived_count > 0 AND last_archived_wal >= pg_walfile_name('} . $lsn . q{') FROM pg_stat_archiver}) or die 'nothing is archived';

my $by_name = recovered('by_name', q{recovery_target_name = 'middle'});
goes_on($by_name, 500, 'to a name');
$by_name->{node}->stop;
my $by_lsn = recovered('by_lsn', "recovery_target_lsn = '$lsn'");
goes_on($by_lsn, 700, 'to a place in the log');
$by_lsn->{node}->stop;

#
# A copy of the files that is started where the original still runs.
#
$primary->backup('beside');
my $beside = PipelineNode->new('beside');
$beside->init_from_backup($primary, 'beside');
$beside->start;
my $copy = $views->in('shop', $beside);

$views->feed_archive($end + 1, $end + 100);
$views->feed_topic($end + 1, $end + 100);
$copy->feed_archive($end + 1, $end + 100);
for my $each ($views, $copy)
{
	$each->wait_for_all;
	is_deeply([ $each->wrong(qw(kafka.windowed kafka.workers kafka.totals kafka."Copied")) ], [], 'both of two that read the same topic are right');
}

my $log = join('', map { slurp_file($_->logfile) } $by_name->{node}, $by_lsn->{node}, $beside);
unlike($log, qr/PANIC|TRAP:|terminated by signal|leak:|refcount leak/, 'the logs show no internal error');

$_->stop for $beside, $primary;
done_testing();
