# The ways in which databases are restored in practice: over itself, without owners,
# definitions first and data later or never, a part of it.  If this failed, one of
# them would end half way, or leave what looks like a continuous view and is none.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use PostgreSQL::Test::Utils;
use Test::More;

use EveryView;
use PipelineNode;

my $conf = "timezone = 'UTC'\njit = off\nmax_worker_processes = 80\nfsync = off\npipeline.state_memory = '256MB'\npipeline.max_tasks = 200\n";
my $node = PipelineNode->create('ways', extension => 0, conf => $conf);
my $views = EveryView->new($node, 'shop');
my $dir = $node->basedir;

sub dump_ok
{
	my ($name, @arguments) = @_;

	return $node->command_ok([ 'pg_dump', '-d', $node->connstr('shop'), @arguments ], $name);
}

# Into a database of that name, made unless it is the original.
sub restore_ok
{
	my ($name, $database, @files) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $database") unless $database eq 'shop' || $node->safe_psql('postgres', "SELECT count(*) FROM pg_database WHERE datname = '$database'");
	return $node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr($database), map { ('-f', $_) } @files ], $name);
}

sub goes_on
{
	my ($copy, $name) = @_;

	$copy->sql('SELECT pipeline.adopt()');
	$copy->feed_local(801, 1000);
	$copy->wait_for_all;
	return is_deeply([ $copy->wrong ], [], $name);
}

$views->create;
$views->feed(1, 800);
$views->wait_for_all;

dump_ok('a dump that cleans up first', '--clean', '--if-exists', '-f', "$dir/clean.sql");
dump_ok('a dump without owners and rights', '--no-owner', '--no-privileges', '-f', "$dir/no_owner.sql");
dump_ok('definitions', '--schema-only', '-f', "$dir/schema.sql");
dump_ok('data', '--data-only', '-f', "$dir/data.sql");
dump_ok('a schema', '-n', '"App One"', '-f', "$dir/one_schema.sql");
dump_ok('a view', '-t', '"App One"."Windowed"', '-f', "$dir/one_view.sql");

#
# Over itself, with workers at work and events that are not in the dump.
#
$views->feed_local(801, 850);
restore_ok('restored over itself', 'shop', "$dir/clean.sql");
is($views->sql(q{SELECT count(*) FROM pipeline.views WHERE state <> 'not adopted'}), 0, 'its views are not run before they are adopted');
goes_on($views, 'then they go on from the dump');
restore_ok('the same again', 'shop', "$dir/clean.sql");
restore_ok('and again, over what was not adopted', 'shop', "$dir/clean.sql");
goes_on($views, 'and they go on from it again');

#
# All belongs to who restores it.
#
restore_ok('restored without owners', 'no_owner', "$dir/no_owner.sql");
goes_on($views->in('no_owner'), 'the views of another owner go on');
is($views->in('no_owner')->sql('SELECT DISTINCT owner FROM pipeline.views'), 'postgres', 'who restored them');

#
# Definitions first, data later.
#
restore_ok('definitions and then data', 'halves', "$dir/schema.sql", "$dir/data.sql");
goes_on($views->in('halves'), 'are as good as a whole dump');

#
# Definitions only: what is not known any more is said, and can be made anew.
#
restore_ok('definitions alone', 'empty', "$dir/schema.sql");
my $empty = $views->in('empty');
my (undef, undef, $said) = $node->psql('empty', 'SELECT pipeline.adopt()');

like($said, qr/WARNING:  views that were restored without their data are not continuous any more.*Windowed \(query: pipeline_data\.q_\d+\).*HINT:  Drop them and create them again/s, 'adopt() says that the views are none');
is($empty->sql('SELECT count(*) FROM pipeline.views'), 0, 'they are not among the continuous views');
is($empty->sql('SELECT count(*) FROM "App One"."Windowed"'), 0, 'and are empty');
like($empty->sql(q{SELECT pg_get_viewdef('pipeline_data.' || (SELECT min(relname) FROM pg_class WHERE relname LIKE 'q\_%'))}), qr/SELECT/, 'their queries can be seen');
$empty->sql('DROP VIEW "App One".over_it; DROP VIEW ' . join(', ', $empty->names));
is($empty->sql(q{SELECT string_agg(relname, ', ') FROM pg_class WHERE relnamespace = 'pipeline_data'::regnamespace AND relname ~ '^[qtf]_' OR relname ~ '_late$'}), '', 'dropping them leaves nothing behind');
$empty->sql(q{SET ROLE ann; } . $empty->view_sql('"App One"."Windowed"'));
$empty->feed_local(1, 300);
$empty->wait_for_all;
is_deeply([ $empty->wrong('"App One"."Windowed"') ], [], 'a view that is created again works, on a stream that was restored');

#
# A part: the relations of a view are in a schema of ours.
#
for my $part (qw(one_schema one_view))
{
	my $database = "only_$part";

	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, 'CREATE EXTENSION pipeline_ext; CREATE SCHEMA "App One"') if $part eq 'one_view';
	$node->safe_psql($database, 'CREATE EXTENSION pipeline_ext') if $part eq 'one_schema';
	$node->command_fails_like([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr($database), '-f', "$dir/$part.sql" ],
		qr/ERROR:  relation "pipeline_data\.t_\d+" does not exist|storage/, "a view is not restored with $part");
	is($node->safe_psql($database, 'SELECT count(*) FROM pipeline.views'), 0, 'and does not seem to be there');
}

my $log = slurp_file($node->logfile);
unlike($log, qr/PANIC|TRAP:|terminated by signal|leak:|refcount leak/, 'the log shows no internal error');

$node->stop;
done_testing();
