# Views that read a stream in several places, against the same SQL over a table:
# events out of order and late, batches and checkpoints of any size, restarts,
# crashes, and events that can be evaluated in one place and not in another.
# If this failed, an input's state would be lost or counted twice beside the
# others', or a window would be joined before it is complete everywhere.
#
# PIPELINE_SEED repeats a run.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use PostgreSQL::Test::Utils;
use Test::More;

use PipelineNode;

my $seed = $ENV{PIPELINE_SEED} || time % 100000;
my $node = PipelineNode->create('inputs',
	conf => "timezone = 'UTC'\npipeline.checkpoint_interval = '50ms'\npipeline.random_batches = on\npipeline.batch_size = 300\nautovacuum = off\n");

srand($seed);
diag("PIPELINE_SEED=$seed");

my %queries = (
	joined => q{SELECT w, k, a.n AS n_a, b.total AS n_b FROM (SELECT k, pipeline.tumble(at, '10 seconds') AS w, count(*) AS n FROM %s WHERE kind = 0 GROUP BY 1, 2) a
		JOIN (SELECT k, pipeline.tumble(at, '10 seconds') AS w, sum(v) AS total FROM %s WHERE kind = 1 GROUP BY 1, 2) b USING (k, w)},
	fully => q{SELECT w, k, a.n AS n_a, b.n AS n_b, a.all_v FROM (SELECT k, pipeline.tumble(at, '10 seconds') AS w, count(*) AS n, array_agg(v ORDER BY id) AS all_v FROM %s WHERE kind = 0 GROUP BY 1, 2) a
		FULL JOIN (SELECT k, pipeline.tumble(at, '10 seconds') AS w, count(DISTINCT v) AS n FROM %s WHERE kind = 2 AND k < 5 GROUP BY 1, 2) b USING (w, k)},
	kept => q{SELECT pipeline.tumble(a.at, '5 seconds') AS w, a.id, b.id AS other FROM %s a JOIN %s b
		ON a.k = b.k AND pipeline.tumble(a.at, '5 seconds') = pipeline.tumble(b.at, '5 seconds') AND a.v < b.v WHERE a.kind = 0 AND b.kind <> 0},
	united => q{SELECT w, sum(points) AS points, count(*) AS n FROM (SELECT pipeline.tumble(at, '10 seconds') AS w, v AS points FROM %s WHERE kind = 0
		UNION ALL SELECT pipeline.tumble(at, '10 seconds'), 100 FROM %s WHERE kind = 1) u GROUP BY w},
	without => q{SELECT k, w FROM (SELECT k, pipeline.tumble(at, '10 seconds') AS w FROM %s WHERE kind = 0 EXCEPT SELECT k, pipeline.tumble(at, '10 seconds') FROM %s WHERE kind = 1) d},
	shared => q{WITH c AS (SELECT k, pipeline.tumble(at, '10 seconds') AS w, count(*) AS n FROM %s GROUP BY 1, 2)
		SELECT k, w, n, round(n / (SELECT sum(n) FROM c o WHERE o.w = c.w), 4) AS share FROM c WHERE n >= (SELECT avg(n) FROM c o WHERE o.w = c.w)},
	fragile => q{SELECT w, k, a.n AS n_a, b.n AS n_b FROM (SELECT k, pipeline.tumble(at, '10 seconds') AS w, count(*) AS n FROM %s WHERE kind = 0 GROUP BY 1, 2) a
		LEFT JOIN (SELECT k, pipeline.tumble(at, '10 seconds') AS w, sum(100 / v) AS n FROM %s WHERE kind <> 1 GROUP BY 1, 2) b USING (k, w)});

sub value
{
	my ($sql) = @_;
	return $node->sql($sql);
}

my $next_id = 1;

# Mostly forward, some up to 4 seconds back, a few far behind the bound of 3 seconds.
sub insert_rows
{
	my ($count) = @_;
	my $values = join(', ', map {
			my $id = $next_id++;
			my $back = rand() < 0.02 ? int(rand(40000)) : rand() < 0.4 ? int(rand(3500)) : 0;
			sprintf("(%d, %d, %d, %s, timestamptz '2024-01-01 00:00:00+00' + %d * interval '1 millisecond')",
				$id, int(rand(3)), int(rand(8)), rand() < 0.01 ? '0' : 1 + int(rand(50)), $id * 50 - $back);
		} 1 .. $count);

	value("BEGIN; INSERT INTO past VALUES $values; INSERT INTO events SELECT * FROM past WHERE id > "
		  . ($next_id - 1 - $count) . " ORDER BY id; COMMIT");
	return;
}

sub check_all
{
	my ($name) = @_;

	for my $view (sort keys %queries)
	{
		$node->wait_for($view);
		my $good = "(SELECT * FROM past p WHERE NOT EXISTS (SELECT FROM ${view}_late l WHERE l.id = p.id)"
		  . " AND NOT EXISTS (SELECT FROM pipeline.dead_letters d WHERE d.view = '$view'::regclass AND (convert_from(d.payload, 'UTF8')::json ->> 'id')::int = p.id))";
		my $sql = $queries{$view} =~ s/%s( [ab]\b)?/$good . ($1 || ' AS x')/ger;

		is($node->rows_differ("SELECT * FROM ($sql) AS q WHERE upper(w) <= pipeline.watermark('$view')", "SELECT * FROM $view"), '', "$name: $view");
		is(value("SELECT pipeline.verify_state('$view')"), 't', "$name: the state of $view is what is saved");
	}
	return;
}

value(q{
CREATE TABLE past (id int PRIMARY KEY, kind int, k int, v int, at timestamptz);
CREATE FOREIGN TABLE events (id int, kind int, k int, v int, at timestamptz) SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '3 seconds', idle_timeout 'off')});
# The late tables have the columns that a view reads: have each read the id.
for my $view (sort keys %queries)
{
	my $sql = $queries{$view} =~ s/WHERE ((?:a\.)?)kind/WHERE ${1}id > 0 AND ${1}kind/gr;

	$sql =~ s/%s GROUP/%s WHERE id > 0 GROUP/;
	$sql =~ s/%s/events/g;
	value("SET client_min_messages = warning; CREATE VIEW $view WITH (pipeline.continuous) AS $sql");
}
insert_rows(2000);
check_all('first events');
$node->kill_worker('joined', 'TERM');
insert_rows(1500);
check_all('a worker ended');
insert_rows(3000);
$node->kill_worker('kept');
insert_rows(500);
check_all('a worker was killed');
value('ALTER SYSTEM SET pipeline.random_batches = off');
value('SELECT pg_reload_conf()');
insert_rows(3000);
$node->kill_postmaster;
insert_rows(1000);
check_all('the server was killed');
for my $view (sort keys %queries)
{
	cmp_ok(value("SELECT count(*) FROM ${view}_late"), '>', 5, "some events were late for $view");
	is(value("SELECT count(*) - count(DISTINCT id) FROM ${view}_late"), 0, "each once");
}
is(value("SELECT string_agg(DISTINCT view::text, ', ') FROM pipeline.dead_letters"), 'fragile', 'only one view has dead letters');
is(value("SELECT count(*) - count(DISTINCT (partition, \"offset\")) FROM pipeline.dead_letters"), 0, 'each once');
cmp_ok(value("SELECT count(*) FROM pipeline.dead_letters"), '>', 5, 'some events were');
is(value("SELECT bool_and(s.events_in = $next_id - 1) FROM pipeline.stat_views s"), 't', 'each event was taken in once');
value('SELECT pipeline.advance_watermark(\'events\', \'infinity\')');
check_all('all windows closed');
value("DROP FOREIGN TABLE events CASCADE");
is(value("SELECT count(*) FROM pipeline_data.inputs"), 0, 'nothing is left in the catalog');
is(value("SELECT count(*) FROM pg_class WHERE relnamespace = 'pipeline_data'::regnamespace AND relname ~ '^k_'"), 0, 'nor of the state');
done_testing();
