# The same events give the same rows and the same late rows, wherever batches and
# checkpoints end and however often the worker or the server dies in between (P3).
# If this failed, what a view shows would depend on how busy the machine was.
#
# PIPELINE_EVENTS: how many events the longest run has; 161_determinism_kafka.pl
# has a million.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use PostgreSQL::Test::Utils;
use Test::More;

use PipelineNode;

my $most = $ENV{PIPELINE_EVENTS} || 60_000;
my $seed = $ENV{PIPELINE_SEED} || int(rand(1_000_000));
my $node = PipelineNode->create('determinism', conf => "timezone = 'UTC'\nmax_worker_processes = 64\npipeline.checkpoint_interval = 200ms\n");

diag("PIPELINE_SEED=$seed");
srand($seed);

# A line for each kind of window: its query over a stream, and options.
my %views = (
	tumble => ['SELECT k, pipeline.tumble(at, \'10 seconds\') AS w, count(*) AS n, sum(v) AS s, min(id) AS first FROM %s GROUP BY k, w'],
	trunc => ['SELECT k, date_trunc(\'minute\', at) AS w, count(*) AS n, avg(v) AS mean FROM %s GROUP BY k, w'],
	hop => ['SELECT k, pipeline.hop(at, \'10 seconds\', \'2 seconds\') AS w, count(*) AS n, max(v) AS m FROM %s GROUP BY k, w'],
	cumulate => ['SELECT k, pipeline.cumulate(at, \'1 minute\', \'10 seconds\') AS w, count(*) AS n, sum(v) AS s FROM %s GROUP BY k, w'],
	session => ['SELECT k, pipeline.session(at, \'500 milliseconds\') AS w, count(*) AS n, sum(v) AS s FROM %s GROUP BY k, w'],
	top => ['SELECT id, v, w FROM (SELECT id, v, pipeline.tumble(at, \'10 seconds\') AS w, row_number() OVER (PARTITION BY pipeline.tumble(at, \'10 seconds\') ORDER BY v DESC, id) AS r FROM %s) AS s WHERE r <= 3'],
	distinct => ['SELECT DISTINCT k, pipeline.tumble(at, \'10 seconds\') AS w FROM %s'],
	rows => ['SELECT k, pipeline.tumble(at, \'10 seconds\') AS w, array_agg(id ORDER BY v, id) AS ids FROM %s GROUP BY k, w'],
	count => ['SELECT k, pipeline.count_window(7) AS w, sum(v) AS s, min(id) AS first FROM %s GROUP BY k, w'],
	lateness => ['SELECT k, pipeline.tumble(at, \'10 seconds\') AS w, count(*) AS n, sum(v) AS s FROM %s GROUP BY k, w', q{pipeline.allowed_lateness = '3 seconds'}],
	changes => ['SELECT k, pipeline.tumble(at, \'10 seconds\') AS w, count(*) AS n, sum(v) AS s FROM %s GROUP BY k, w', q{pipeline.emit = 'changes'}],
	totals => ['SELECT k, count(*) AS n, sum(v) AS s FROM %s GROUP BY k'],
);

# An event every 10 ms, up to 2 s out of order, and one in a hundred by up to 8 s more.
$node->sql(<<SQL);
CREATE TABLE history AS
SELECT i AS id, timestamptz '2024-01-01 00:00Z' + i * interval '10 milliseconds'
    - (mod(hashint4(i)::bigint + 2147483648, 2000) + CASE WHEN mod(hashint4(i + 7)::bigint + 2147483648, 100) = 0
       THEN mod(hashint4(i + 13)::bigint + 2147483648, 8000) ELSE 0 END) * interval '1 millisecond' AS at,
  (mod(hashint4(i + 3)::bigint + 2147483648, 20))::int AS k, (mod(hashint4(i + 5)::bigint + 2147483648, 1000))::int AS v
FROM generate_series(1, $most) AS i
SQL

sub set_batches
{
	my ($size, $random) = @_;

	$node->sql("ALTER SYSTEM SET pipeline.batch_size = $size");
	$node->sql("ALTER SYSTEM SET pipeline.random_batches = $random");
	$node->sql('SELECT pg_reload_conf()');
	return;
}

# Views over the first events, taken in batches of a size, disturbed by signals.
sub run_views
{
	my ($name, $events, $size, $random, @signals) = @_;
	my $step = int($events / (@signals + 1));
	my $from = 0;

	set_batches($size, $random);
	$node->sql("CREATE FOREIGN TABLE $name (id int, at timestamptz, k int, v int) SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '2 seconds', idle_timeout 'off')");
	for my $kind (sort keys %views)
	{
		my ($query, @options) = @{ $views{$kind} };

		$node->sql("CREATE VIEW ${name}_$kind WITH (" . join(', ', 'pipeline.continuous', @options) . ') AS ' . sprintf($query, $name));
	}
	for my $signal (@signals, undef)
	{
		my $to = $signal ? $from + $step : $events;

		$node->sql("INSERT INTO $name SELECT * FROM history WHERE id > $from AND id <= $to ORDER BY id");
		$node->kill_worker($name . '_' . (sort keys %views)[ int(rand(keys %views)) ], $signal) if $signal;
		$from = $to;
	}
	$node->wait_for("${name}_$_") for sort keys %views;
	return;
}

# The late rows of a view, without what is of the moment.
sub late_rows
{
	my ($view) = @_;

	return q{SELECT NULL::jsonb WHERE false} if $node->sql("SELECT to_regclass('${view}_late') IS NULL") eq 't';
	return "SELECT to_jsonb(l) - 'arrived_at' - 'offset' FROM ${view}_late AS l";
}

sub compare
{
	my ($name, $other) = @_;

	for my $kind (sort keys %views)
	{
		is($node->rows_differ("SELECT * FROM ${name}_$kind", "SELECT * FROM ${other}_$kind"), '', "$name: $kind: rows as in $other");
		is($node->rows_differ(late_rows("${name}_$kind"), late_rows("${other}_$kind")), '', "$name: $kind: late rows as in $other");
		is($node->sql("SELECT pipeline.watermark('${name}_$kind')"), $node->sql("SELECT pipeline.watermark('${other}_$kind')"), "$name: $kind: watermark as in $other");
	}
	return;
}

run_views('few', 2000, 4096, 'off');
run_views('few_single', 2000, 1, 'off');
compare('few_single', 'few');
run_views('few_random', 2000, 50, 'on', ('TERM') x 6);
compare('few_random', 'few');
cmp_ok($node->sql('SELECT count(*) FROM few_tumble_late'), '>', 0, 'there are late rows');
$node->sql("DROP FOREIGN TABLE few, few_single, few_random CASCADE");

my $some = $most < 20000 ? $most : 20000;

run_views('part', $some, 1000, 'off');
run_views('part_seven', $some, 7, 'off', 'TERM');
compare('part_seven', 'part');
$node->sql("DROP FOREIGN TABLE part, part_seven CASCADE");

run_views('many', $most, 1000, 'off');
run_views('many_random', $most, 4096, 'on', qw(TERM KILL TERM TERM KILL TERM));
compare('many_random', 'many');
cmp_ok($node->sql("SELECT count(*) FROM many_$_"), '>', 100, "$_: there is something to compare") for grep { $_ ne 'totals' } sort keys %views;

$node->stop;
done_testing();
