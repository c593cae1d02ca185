# Views that several workers keep get columns while they read a topic, and workers are killed.  If this failed,
# parts of a group would be altered at different places: columns that were there would lose events, or a new one
# would show what is of a part of its events.
#
# A new column must be null in a window's group if any of its events, in whichever partition, was read before the
# view was altered, and that of all its events otherwise.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use PostgreSQL::Test::Utils;
use Test::More;

use KafkaBroker;
use PipelineNode;

my $broker = KafkaBroker->new;
my $node = PipelineNode->create('alter_kafka', conf => "timezone = 'UTC'\njit = off\nmax_worker_processes = 40\npipeline.batch_size = 300\npipeline.checkpoint_interval = '50ms'\n");
my $columns = 'seq bigint, key bigint, customer_id bigint, amount numeric, ordered_at timestamptz, country text';
my %spec = (partitions => 3, seed => 7, size => 160, step => '10ms', disorder => '2s', late_share => 0);
my $events = 60_000;
my $csv = $node->basedir . '/orders.csv';

sub run_sql { return $node->safe_psql('postgres', $_[0]); }

$broker->create_topic('orders', $spec{partitions});
KafkaBroker::events_csv($csv, %spec, count => $events);
run_sql(qq{
CREATE TABLE archive ("partition" int, "offset" bigint, $columns, bad boolean);
COPY archive FROM '$csv' WITH (FORMAT csv);
CREATE SERVER shop FOREIGN DATA WRAPPER pipeline_kafka OPTIONS (bootstrap_servers '@{[ $broker->address ]}');
CREATE FOREIGN TABLE orders ($columns OPTIONS (field 'address.country'), part int OPTIONS (metadata 'partition'))
  SERVER shop OPTIONS (topic 'orders', event_time 'ordered_at', partition_key 'part', out_of_orderness '5 seconds', idle_timeout 'off');
CREATE TABLE altered (view text, "partition" int, since bigint);
CREATE FUNCTION alter_view(v text, query text) RETURNS void LANGUAGE plpgsql AS \$\$
BEGIN
  PERFORM pipeline.alter(v::regclass, query);
  INSERT INTO altered SELECT v, g, coalesce(max(p.next_offset) FILTER (WHERE p.partition = g), 0) FROM generate_series(0, 2) g,
    pipeline_data.views w JOIN pipeline_data.positions o ON o.view = w.id JOIN pipeline_data.checkpoints c ON c.task = o.id LEFT JOIN LATERAL pipeline_data.partitions(c.partitions) p ON true
    WHERE w.view = v::regclass GROUP BY g;
END \$\$;
});

# Each with its query, one more column, that of the batch query, what it groups by there and in what windows.
my %views = (
	minutes => [ 3, q{SELECT country, date_trunc('minute', ordered_at) AS m, count(*) AS n, sum(amount) AS s{new} FROM orders GROUP BY country, m},
		'count(DISTINCT key)', 'country, m, count(*), sum(amount)', q{(SELECT *, date_trunc('minute', ordered_at) AS m FROM archive)}, q{m + interval '1 minute'} ],
	hops => [ 2, q{SELECT key % 5 AS k, w, sum(amount) AS s{new} FROM orders, pipeline.hop(ordered_at, '1 minute', '20 seconds') AS w GROUP BY k, w},
		'max(amount)', 'k, w, sum(amount)', q{(SELECT *, key % 5 AS k FROM archive, pipeline.hop(ordered_at, '1 minute', '20 seconds') AS w)}, 'upper(w)' ],
	one => [ 1, q{SELECT country, pipeline.tumble(ordered_at, '10 seconds') AS w, avg(amount) AS mean{new} FROM orders GROUP BY country, w},
		'min(seq)', 'country, w, avg(amount)', q{(SELECT *, pipeline.tumble(ordered_at, '10 seconds') AS w FROM archive)}, 'upper(w)' ],
	totals => [ 3, 'SELECT part, key, count(*) AS n{new} FROM orders GROUP BY part, key', 'sum(amount)', '"partition", key, count(*)', undef, undef ]);

for my $name (sort keys %views)
{
	my ($workers, $query) = @{ $views{$name} };

	run_sql("CREATE VIEW $name WITH (pipeline.continuous, pipeline.workers = $workers) AS " . $query =~ s/\{new\}//r);
}
$broker->produce(topic => 'orders', %spec, count => $events / 2);

# While they are reading.
$node->until_true("SELECT bool_and(events_in > 3000) FROM pipeline.stat_views");
for my $name (sort keys %views)
{
	my ($workers, $query, $column) = @{ $views{$name} };

	run_sql("SELECT alter_view('$name', \$\$" . $query =~ s/\{new\}/, $column AS more/r . '$$)');
	$node->kill_worker($name, $name eq 'one' ? 'TERM' : 'KILL') unless $name eq 'totals';
}
$broker->produce(topic => 'orders', %spec, first => $events / 2, count => $events / 2);
for my $name (sort keys %views)
{
	my (undef, undef, $column, $group, $rows, $end) = @{ $views{$name} };
	my $keys = join(', ', (split /, /, $group)[ 0, 1 ]);

	$node->wait_for($name);
	if (defined $rows)
	{
		is($node->rows_differ("SELECT * FROM $name",
				qq{SELECT $group, CASE WHEN bool_and("offset" >= since) THEN $column END FROM $rows a JOIN altered USING ("partition") WHERE view = '$name' AND $end <= pipeline.watermark('$name') GROUP BY $keys}), '', $name);
		cmp_ok(run_sql("SELECT count(more) FROM $name"), '>', 20, 'some windows are new');
		cmp_ok(run_sql("SELECT count(*) FROM $name WHERE more IS NULL"), '>', 0, 'and some are not');
	}
	else
	{
		is($node->rows_differ("SELECT * FROM $name",
				qq{SELECT $group, $column FILTER (WHERE "offset" >= since) FROM archive JOIN altered USING ("partition") WHERE view = '$name' GROUP BY $keys}), '', $name);
	}
}
is(run_sql("SELECT count(*) FROM pipeline.stat_views WHERE state <> 'running' OR events_in <> $events OR late + dead_letters > 0 OR NOT pipeline.verify_state(view)"), 0, 'each event once');

# Other numbers of workers go on with what was altered.
run_sql('ALTER VIEW minutes SET (pipeline.workers = 1)');
$node->until_true("SELECT NOT EXISTS (SELECT FROM pipeline_data.shards s JOIN pipeline_data.views v ON v.id = s.view WHERE v.view = 'minutes'::regclass)");
run_sql("SELECT alter_view('minutes', \$\$" . $views{minutes}[1] =~ s/\{new\}/, $views{minutes}[2] AS more, avg(amount) AS mean/r . '$$)');
is(run_sql("SELECT pipeline.wait_for('minutes', '30 seconds')"), 't', 'the view goes on');

done_testing();
