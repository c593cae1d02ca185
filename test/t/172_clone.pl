# CREATE DATABASE ... TEMPLATE copies a database with running views, and the copy is
# paused until it is adopted.  If this failed, users would have to stop the views to
# copy a database, views of the copy would take events away from nobody's knowledge,
# or either of the two would count wrongly afterwards.

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
my $node = PipelineNode->create('clone', extension => 0, conf => "timezone = 'UTC'\njit = off\nmax_worker_processes = 80\nfsync = off\npipeline.state_memory = '256MB'\npipeline.max_tasks = 200\n");
my $views = EveryView->new($node, 'shop', $broker);
my $last = 700;
my $number = () = $views->names;

$views->create;
$views->feed(1, $last);
$views->wait_for_all;

for my $strategy (qw(wal_log file_copy))
{
	my $copy = $views->in("by_$strategy");

	# not waited for: state and positions are copied in the middle of it
	$views->feed($last + 1, $last + 200);
	$last += 200;
	$node->safe_psql('postgres', "CREATE DATABASE by_$strategy TEMPLATE shop STRATEGY $strategy");
	pass("$strategy: a database with running views is copied");
	is($copy->sql(q{SELECT count(*) FROM pipeline.views WHERE state <> 'not adopted'}), 0, "$strategy: views of the copy do not run");
	is($copy->sql(qq{SELECT count(*) FROM pipeline.stat_workers WHERE database = 'by_$strategy'}), 0, "$strategy: nor has it workers");
	$copy->sql('SELECT pipeline.adopt()');
	$copy->feed_local($last + 1, $last + 100);
	$copy->wait_for_all;
	is_deeply([ $copy->wrong ], [], "$strategy: after adopt() they go on");
	$views->feed_local($last + 1, $last + 50);
	$last += 50;
	$views->feed_archive($last - 49, $last);
	$views->feed_topic($last - 49, $last);
	$copy->feed_archive($last - 49, $last);
	$copy->wait_for_all;
	is_deeply([ $copy->wrong ], [], "$strategy: with what comes to the topic that both read");
	$views->wait_for_all;
	is_deeply([ $views->wrong ], [], "$strategy: and so does the original");
	is($copy->sql('SELECT bool_and(pipeline.verify_state(view)) FROM pipeline.views'), 't', "$strategy: state is what is saved");
	is($copy->sql('SELECT count(*) FROM (SELECT pipeline.adopt()) a JOIN pipeline.views ON true'), $number, "$strategy: adopting again changes nothing");
	$node->safe_psql('postgres', "DROP DATABASE by_$strategy");
}

# What was a copy can be a template itself.
$node->safe_psql('postgres', 'CREATE DATABASE first TEMPLATE shop');
$node->safe_psql('postgres', 'CREATE DATABASE second TEMPLATE first');
$views->in('second')->sql('SELECT pipeline.adopt()');
$views->in('second')->wait_for_all;
is_deeply([ $views->in('second')->wrong ], [], 'a copy of a copy that was not adopted is right');

my $log = slurp_file($node->logfile);
unlike($log, qr/PANIC|TRAP:|terminated by signal|leak:|refcount leak/, 'the log shows no internal error');

$node->stop;
done_testing();
