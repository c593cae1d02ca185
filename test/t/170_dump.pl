# A dump has all of a database's continuous views as of one moment: results, state,
# positions, late rows, dead letters.  If this failed, a restored database would
# count events twice or not at all, or would do so next to the original unasked.
#
# A database with views of every kind is dumped while events flow, in each of the ways
# that pg_dump has; copies go on beside the original, and each must show what a batch
# query over its own events gives.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use IPC::Run ();
use PostgreSQL::Test::Utils;
use Test::More;

use EveryView;
use KafkaBroker;
use PipelineNode;

my $broker = KafkaBroker->new;
my $node = PipelineNode->create('dump', extension => 0, conf => "timezone = 'UTC'\njit = off\nmax_worker_processes = 80\nfsync = off\npipeline.state_memory = '256MB'\npipeline.max_tasks = 200\n");
my $views = EveryView->new($node, 'shop', $broker);
my $dir = $node->basedir;

sub run_ok
{
	my ($name, $program, $database, @arguments) = @_;

	return $node->command_ok([ $program, '-d', $node->connstr($database), @arguments ], $name);
}

sub restore_ok
{
	my ($name, $database, @arguments) = @_;

	return run_ok($name, 'psql', $database, '-X', '-q', '-v', 'ON_ERROR_STOP=1', @arguments);
}

$views->create;
$views->feed(1, 800);
$views->wait_for_all;
is_deeply([ $views->wrong ], [], 'all views are right before');
$views->sql(q{SELECT pipeline.pause('"App One".hop')});

#
# Events flow while dumps are made.
#
my $next = 801;

sub dump_meanwhile
{
	my (@arguments) = @_;
	my $run = IPC::Run::start([ 'pg_dump', '-d', $node->connstr('shop'), @arguments ], '<', \undef, '>&', \my $output);
	my $rounds = 0;

	while ($run->pumpable || $rounds == 0)
	{
		$views->feed_local($next, $next + 9);
		$next += 10;
		$rounds++;
		$run->pump_nb;
	}
	ok($run->finish, "a dump is made while events flow: $arguments[0]") or diag($output);
	return;
}

dump_meanwhile('-Fp', '-f', "$dir/plain.sql");
dump_meanwhile('-Fc', '-f', "$dir/custom");
$views->feed_archive(801, 1000);
$views->feed_topic(801, 1000);

for my $name (qw(plain custom))
{
	$node->safe_psql('postgres', "CREATE DATABASE $name");
}
restore_ok('the plain one is restored', 'plain', '-f', "$dir/plain.sql");
run_ok('the other by several jobs', 'pg_restore', 'custom', '-j', '4', '--exit-on-error', "$dir/custom");
# Each time something is missing, or of another time.
sub refuses_what_is_torn
{
	my ($copy) = @_;
	my $id = $copy->sql(q{SELECT id FROM pipeline_data.views WHERE view = '"App One"."Windowed"'::regclass});
	my $of_workers = $copy->sql(q{SELECT s.chunks FROM pipeline_data.shards s JOIN pipeline_data.views v ON v.id = s.view WHERE v.view = 'kafka.workers'::regclass});
	my $of_input = $copy->sql('SELECT chunks FROM pipeline_data.inputs');
	my %tears = (
		'state is missing' => [ "TRUNCATE pipeline_data.k_$id", qr/"Windowed": table "pipeline_data\.k_$id" does not have the state/ ],
		'a chunk is missing' => [ "DELETE FROM pipeline_data.k_$id WHERE seq = (SELECT max(seq) FROM pipeline_data.k_$id)", qr/"Windowed": table "pipeline_data\.k_$id"/ ],
		'state of another worker is missing' => [ "TRUNCATE $of_workers", qr/"workers": table "$of_workers"/ ],
		'state of another input is missing' => [ "TRUNCATE $of_input", qr/"several_inputs": table/ ],
		'results are missing' => [ "TRUNCATE pipeline_data.t_$id", qr/"Windowed": table "pipeline_data\.t_$id" has 0 rows of results, but [1-9]\d* go/ ],
		'there is a row too many' => [ "INSERT INTO pipeline_data.t_$id SELECT * FROM pipeline_data.t_$id LIMIT 1", qr/"Windowed": table "pipeline_data\.t_$id" has/ ],
		'the position is an older one' => [ "UPDATE pipeline_data.checkpoints SET seq = 1, state_digest = 0, rows_kept = 0 WHERE task = $id", qr/"Windowed": table/ ],
		'there is no position' => [ "DELETE FROM pipeline_data.checkpoints WHERE task = $id", qr/"Windowed": it has no position/ ],
		'there is no task' => [ "DELETE FROM pipeline_data.tasks WHERE id = $id", qr/"Windowed": it has no row in pipeline_data\.tasks/ ],
		'our tables are empty' => [ 'TRUNCATE pipeline_data.views, pipeline_data.tasks, pipeline_data.checkpoints, pipeline_data.shards, pipeline_data.inputs, pipeline_data.feeds', qr/restored without what makes it continuous/ ]);

	for my $tear (sort keys %tears)
	{
		my ($sql, $message) = @{ $tears{$tear} };
		my (undef, undef, $error) = $node->psql($copy->{database}, "BEGIN; $sql; SELECT pipeline.adopt();");

		like($error, qr/ERROR:.*$message.*HINT:/s, "adopt() refuses: $tear");
	}
	my (undef, $state) = $node->psql($copy->{database}, "BEGIN; TRUNCATE pipeline_data.k_$id, pipeline_data.t_$id; SELECT pipeline.adopt(accept_loss => true); SELECT state FROM pipeline.views WHERE view = '\"App One\".\"Windowed\"'::regclass; ROLLBACK");

	is($state, "\nrunning", 'unless the loss is accepted');
	return;
}

for my $name (qw(plain custom))
{
	my $copy = $views->in($name);
	my $last = $copy->sql('SELECT max(id) FROM archive.clicks');

	is($copy->sql(q{SELECT count(*) FROM pipeline.views WHERE state <> 'not adopted'}), 0, "$name: no view runs before it is adopted");
	refuses_what_is_torn($copy) if $name eq 'plain';
	$copy->sql('SELECT pipeline.adopt()');
	is($copy->sql(q{SELECT view::text, state FROM pipeline.views WHERE state <> 'running'}), '"App One".hop|paused', "$name: what was paused still is");
	$copy->sql(q{SELECT pipeline.resume('"App One".hop')});
	$copy->feed_local($last + 1, $next + 300);
	# what is in the topic and not in the dump
	$copy->sql('TRUNCATE archive.records');
	$copy->feed_archive(1, 1000);
}
$views->sql(q{SELECT pipeline.resume('"App One".hop')});
$views->feed_local($next, $next + 100);
for my $copy ($views, map { $views->in($_) } qw(plain custom))
{
	$copy->wait_for_all;
	is_deeply([ $copy->wrong ], [], "$copy->{database}: right afterwards");
	is($copy->sql('SELECT bool_and(pipeline.verify_state(view)) FROM pipeline.views'), 't', "$copy->{database}: state is what is saved");
}

my $copy = $views->in('plain');

is($copy->sql(q{SELECT string_agg(DISTINCT relowner::regrole::text, ' ') FROM pg_class WHERE oid IN (SELECT view FROM pipeline.views UNION SELECT late_table FROM pipeline.views)}), 'ann', 'owners are as they were');
is($copy->sql(q{SELECT has_table_privilege('bob', '"App One"."Windowed"', 'SELECT'), has_column_privilege('bob', '"App One".open_windows', 'Kind', 'SELECT'), has_table_privilege('bob', '"App One".hop', 'SELECT')}), 't|t|f', 'so are rights');
is($copy->sql(q{SELECT obj_description('"App One"."Windowed"'::regclass), count(*) FROM pg_indexes WHERE indexname IN ('Windowed_Kind_n_idx', 'My Index')}), q{it's windowed|2}, 'comments and indexes');
my (undef, undef, $refused) = $node->psql('plain', q{DELETE FROM "App One".changes});
like($refused, qr/cannot/, 'rows are still nobody\'s to change');


#
# State that somebody changes while the worker is away stops the view when it comes back.
#
$copy->sql(q{SELECT pipeline.pause('"App One"."Windowed"')});
$node->poll_query_until('plain', q{SELECT count(*) = 0 FROM pipeline.stat_workers WHERE view = '"App One"."Windowed"'::regclass OR '"App One"."Windowed"'::regclass = ANY (views)}) or die 'it does not stop';
my $chunks = $copy->sql(q{SELECT chunks FROM pipeline_data.views WHERE view = '"App One"."Windowed"'::regclass});
$copy->sql("DELETE FROM $chunks; VACUUM FULL $chunks");
$copy->sql(q{SELECT pipeline.resume('"App One"."Windowed"')});
$node->poll_query_until('plain', q{SELECT state = 'stopped' AND reason LIKE '%does not belong to its position%' FROM pipeline.views WHERE view = '"App One"."Windowed"'::regclass})
  or die $copy->sql('SELECT view, state, reason, last_error FROM pipeline.stat_views');
pass('a view stops whose state was deleted');

my $log = slurp_file($node->logfile);
unlike($log, qr/PANIC|TRAP:|terminated by signal|leak:|refcount leak/, 'the log shows no internal error');

$node->stop;
done_testing();
