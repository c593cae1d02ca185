# Aggregates of other extensions, with internal states of their own, are kept
# incrementally and survive restarts.  If this failed, sketches would have to be
# built from all rows of a window, or would lose what came before a restart.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use PostgreSQL::Test::Utils;
use Test::More;

use PipelineNode;

my $node = PipelineNode->create('sketches', conf => "timezone = 'UTC'\n");
my $available = $node->sql("SELECT count(*) FROM pg_available_extensions WHERE name IN ('hll', 'tdigest')");

plan skip_all => 'this server lacks the extensions hll and tdigest' if $available != 2;

$node->sql(q{
CREATE EXTENSION hll;
CREATE EXTENSION tdigest;
CREATE FUNCTION gather(text, anyelement) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT coalesce($1 || ',', '') || $2::text$$;
CREATE AGGREGATE gathered(anyelement) (SFUNC = gather, STYPE = text);
CREATE TABLE archive (id bigint, at timestamptz, k int, v float8);
INSERT INTO archive SELECT g, timestamptz '2024-01-01+00' + g * interval '1 second', g % 3, (g * 7919 % 10007) / 10.0
  FROM generate_series(1, 20000) g;
CREATE FOREIGN TABLE events (id bigint, at timestamptz, k int, v float8) SERVER pipeline_local
  OPTIONS (event_time 'at', out_of_orderness '0', idle_timeout 'off');
CREATE VIEW windowed WITH (pipeline.continuous) AS
  SELECT k, date_trunc('hour', at) AS hour, hll_add_agg(hll_hash_bigint((v * 10)::bigint)) AS distinct_values,
    tdigest_percentile(v, 100, 0.9) AS p90, tdigest(v, 100) FILTER (WHERE id % 2 = 0) AS even, gathered(id % 10) AS text,
    count(*) AS n
  FROM events GROUP BY k, hour;
CREATE VIEW totals WITH (pipeline.continuous) AS
  SELECT k, hll_add_agg(hll_hash_bigint((v * 10)::bigint)) AS distinct_values, tdigest_percentile(v, 100, 0.9) AS p90, count(*) AS n
  FROM events GROUP BY k;
});
is($node->sql(q{SELECT count(*) FROM unnest('{windowed,totals}'::regclass[]) v, pipeline.explain(v) line
  WHERE line ~ '(hll_add_agg|tdigest|gathered).*kept incrementally'}), 6, 'all of them are kept incrementally');

for my $part (0 .. 3)
{
	$node->sql("INSERT INTO events SELECT * FROM archive WHERE id > $part * 5000 AND id <= ($part + 1) * 5000 ORDER BY id");
	$node->wait_for($_) for qw(windowed totals);
	$node->kill_worker('windowed') if $part == 0;
	$node->restart if $part == 1;
	$node->kill_postmaster if $part == 2;
}
$node->sql("SELECT pipeline.advance_watermark('events', 'infinity')");
$node->wait_for('windowed');

is($node->sql(q{
SELECT count(*) FROM windowed v
JOIN (SELECT k, date_trunc('hour', at) AS hour, hll_add_agg(hll_hash_bigint((v * 10)::bigint)) AS distinct_values,
    percentile_cont(0.9) WITHIN GROUP (ORDER BY v) AS p90,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY v) FILTER (WHERE id % 2 = 0) AS even, gathered(id % 10 ORDER BY id) AS text, count(*) AS n
  FROM archive GROUP BY 1, 2) b USING (k, hour)
WHERE v.distinct_values = b.distinct_values AND v.text = b.text AND v.n = b.n
  AND abs(v.p90 - b.p90) < 10 AND abs((SELECT tdigest_percentile(d, 0.5) FROM unnest(ARRAY[v.even]) d) - b.even) < 20}),
	$node->sql(q{SELECT count(*) FROM (SELECT DISTINCT k, date_trunc('hour', at) FROM archive) a}),
	'windows: sketches equal those of a batch query, percentiles are near');
is($node->sql(q{
SELECT count(*) FROM totals v
JOIN (SELECT k, hll_add_agg(hll_hash_bigint((v * 10)::bigint)) AS distinct_values, percentile_cont(0.9) WITHIN GROUP (ORDER BY v) AS p90,
    count(*) AS n FROM archive GROUP BY 1) b USING (k)
WHERE v.distinct_values = b.distinct_values AND v.n = b.n AND abs(v.p90 - b.p90) < 10}), 3, 'the same without windows');
$node->stop;
done_testing();
