# A physical standby shows continuous views and runs none; promoted, it goes on with
# them from the positions that were replicated to it.  If this failed, a standby would
# read topics that the primary reads, or fail at writing; or a failover would lose
# events or count them twice.  Runs alone: it measures time.
#
# There are two standbys, one synchronous and one that is cut off before the last
# events: what it lacks of local streams is lost with the primary, as of any table,
# and what it lacks of the topic it reads again.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);

use EveryView;
use KafkaBroker;
use PipelineNode;

my $MOST_SECONDS = 5;    # from promotion until all views run

my $broker = KafkaBroker->new;
my $primary = PipelineNode->create('primary', extension => 0, init => { allows_streaming => 1 },
	conf => "timezone = 'UTC'\njit = off\nmax_worker_processes = 40\npipeline.state_memory = '128MB'\n");
my $views = EveryView->new($primary, 'shop', $broker);

sub standby_of
{
	my ($name) = @_;
	my $node = PipelineNode->new($name);

	$node->init_from_backup($primary, 'base', has_streaming => 1);
	$node->start;
	return $node;
}

sub refused
{
	my ($node, $sql) = @_;
	my (undef, undef, $error) = $node->psql('shop', $sql);

	return $error =~ /ERROR:  cannot execute .* (?:in a read-only transaction|during recovery)/ ? '' : "$sql: $error";
}

# How long it takes until a view of each kind has a worker that has read its state.
sub promote
{
	my ($node) = @_;
	my $began;

	$node->safe_psql('postgres', 'SELECT pg_promote()');
	$began = time;
	$node->poll_query_until('shop', q{SELECT count(*) = 0 FROM pipeline.stat_views WHERE activity IS NULL OR activity IN ('not started', 'starting', 'loading state', 'waiting for a background worker slot')})
	  or die 'views do not run';
	return time - $began;
}

$views->create;
$views->feed(1, 500);
$views->wait_for_all;
$primary->backup('base');
my $near = standby_of('near');
my $far = standby_of('far');
my $standby = $views->in('shop', $near);

$primary->append_conf('postgresql.conf', "synchronous_standby_names = 'near'\n");
$primary->reload;
$primary->poll_query_until('postgres', q{SELECT sync_state = 'sync' FROM pg_stat_replication WHERE application_name = 'near'}) or die 'there is no synchronous standby';
$views->feed(501, 700);
$views->wait_for_all;
$primary->wait_for_catchup($_) for $near, $far;

#
# Reading
#
is_deeply([ $standby->wrong ], [], 'views, late rows and dead letters can be read on a standby');
is($standby->sql('SELECT view, state, reason, late_table, query FROM pipeline.views ORDER BY view::text'), $views->sql('SELECT view, state, reason, late_table, query FROM pipeline.views ORDER BY view::text'), 'so can what they are');
is($standby->sql('SELECT view, events_in, late, rows_out, watermark, pid FROM pipeline.stat_views ORDER BY view::text'), $views->sql('SELECT view, events_in, late, rows_out, watermark, NULL FROM pipeline.stat_views ORDER BY view::text'), 'and what they have done');
is($standby->sql('SELECT view, stream, partition, next_offset, watermark FROM pipeline.stat_partitions ORDER BY view::text, stream::text, partition'), $views->sql('SELECT view, stream, partition, next_offset, watermark FROM pipeline.stat_partitions ORDER BY view::text, stream::text, partition'), 'and how far they are');
is($standby->sql(q{SELECT count(*), min(id), max(id) FROM "App One".clicks}), $views->sql(q{SELECT count(*), min(id), max(id) FROM "App One".clicks}), 'a local stream can be read');
cmp_ok($standby->sql(q{SELECT count(*) FROM pipeline.explain('"App One"."Windowed"')}), '>', 0, 'a view can be explained');

#
# Nothing runs, and nothing can be changed
#
is($near->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pipeline%'}), 0, 'nothing of ours runs on a standby');
is($standby->sql('SELECT count(*) FROM pipeline.stat_workers'), 0, 'and it says so');
is_deeply([ grep { $_ ne '' } map { refused($near, $_) } (
	(map { qq{SELECT pipeline.$_} } q{pause('"App One"."Windowed"')}, q{resume('"App One"."Windowed"')}, 'adopt()', q{advance_watermark('"App One".clicks', 'infinity')},
		q{apply_late('"App One"."Windowed"')}, q{wait_for('"App One"."Windowed"')}, q{verify_state('"App One"."Windowed"')}),
	q{CALL pipeline.replay('"App One"."Windowed"')},
	q{CALL pipeline.backfill('"App One"."Windowed"', 'SELECT 1')},
	'CREATE VIEW v WITH (pipeline.continuous) AS SELECT * FROM "App One".clicks',
	'DROP VIEW "App One".hop',
	'ALTER VIEW "App One".hop SET (pipeline.late = \'drop\')',
	'ALTER VIEW "App One".hop RENAME TO skip',
	'CREATE INDEX ON "App One".changes (n)',
	'CREATE FOREIGN TABLE f (i int) SERVER pipeline_local',
	'DELETE FROM pipeline.dead_letters',
	'INSERT INTO "App One".clicks VALUES (1, 1, now())') ], [], 'all that would write is refused');

#
# Failover
#
$far->append_conf('postgresql.conf', "primary_conninfo = ''\n");
$far->reload;
$primary->poll_query_until('postgres', q{SELECT count(*) = 0 FROM pg_stat_replication WHERE application_name = 'far'}) or die 'it stays connected';
$views->feed(701, 900);
$primary->kill9;
my $seconds = promote($near);

cmp_ok($seconds, '<', $MOST_SECONDS, 'views go on within five seconds of promotion') or diag("$seconds seconds");
is($standby->sql('SELECT max(id) FROM archive.clicks'), 900, 'a synchronous standby has all events');
$standby->feed_local(901, 1000);
$standby->wait_for_all;
is_deeply([ $standby->wrong ], [], 'after promotion its views are right');

my $behind = $views->in('shop', $far);

$seconds = promote($far);
cmp_ok($seconds, '<', $MOST_SECONDS, 'the same where it lagged behind') or diag("$seconds seconds");
is($behind->sql('SELECT max(id) FROM archive.clicks'), 700, 'which does not have the last events');
$behind->sql('DELETE FROM archive.records');
$behind->feed_archive(1, 900);
$behind->feed_local(701, 1000);
$behind->wait_for_all;
is_deeply([ $behind->wrong ], [], 'views go on from there, and read again what is in the topic');
is($behind->sql(q{SELECT events_in FROM pipeline.stat_views WHERE view = 'kafka.windowed'::regclass}), 900, 'each record once');
for my $copy ($standby, $behind)
{
	is($copy->sql('SELECT bool_and(pipeline.verify_state(view)) FROM pipeline.views'), 't', 'state is what is saved');
}

my $log = slurp_file($near->logfile) . slurp_file($far->logfile);
unlike($log, qr/PANIC|TRAP:|terminated by signal|leak:|refcount leak/, 'the logs show no internal error');

$_->stop for $near, $far;
done_testing();
