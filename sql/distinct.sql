-- Without this: aggregates with DISTINCT could take a value twice, or forget after a restart which
-- ones they have taken.
SET timezone = 'UTC';
CREATE FOREIGN TABLE dist_events (at timestamptz, k text, n int, x numeric, f float8, at2 timestamptz) SERVER pipeline_local
  OPTIONS (event_time 'at', out_of_orderness '1 hour');
CREATE TABLE dist_rows (at timestamptz, k text, n int, x numeric, f float8, at2 timestamptz, id int);
-- equal numbers that look different, both zeros, NULLs
INSERT INTO dist_rows
SELECT '2024-01-01'::timestamptz + ((i * 7919) % 300) * '1 second'::interval, chr(97 + (i * 31) % 5),
  nullif((i * 613) % 17, 3), nullif((i * 271) % 23, 5) / CASE i % 3 WHEN 0 THEN 2 WHEN 1 THEN 2.0 ELSE 2.00 END,
  CASE (i * 37) % 5 WHEN 0 THEN float8 '-0' WHEN 1 THEN 0 WHEN 2 THEN 'NaN' ELSE i % 4 END,
  '2024-01-01'::timestamptz + (i % 11) * '1 hour'::interval, i
FROM generate_series(1, 1000) AS i;

CREATE VIEW dist_keyed WITH (pipeline.continuous) AS
SELECT k, pipeline.tumble(at, '1 minute') AS w, count(*) AS c, count(DISTINCT n) AS n, sum(DISTINCT n) AS sn,
  avg(DISTINCT n) AS an, count(DISTINCT n) FILTER (WHERE n > 8) AS big, sum(DISTINCT n) FILTER (WHERE x < 3) AS small,
  count(DISTINCT x) AS x, count(DISTINCT f) AS f, max(DISTINCT at2) AS last, sum(n) AS s
FROM dist_events GROUP BY k, w;
CREATE VIEW dist_alone WITH (pipeline.continuous) AS
SELECT date_bin('1 minute', at, '2000-01-01+00') AS w, count(DISTINCT k) AS k, count(DISTINCT lower(k) || n % 3) AS e
FROM dist_events WHERE n IS NOT NULL GROUP BY 1 HAVING count(DISTINCT k) > 1;
CREATE VIEW dist_forever WITH (pipeline.continuous) AS
SELECT k, count(DISTINCT n) AS n, count(DISTINCT x) FILTER (WHERE f > 1) AS x FROM dist_events GROUP BY k;
CREATE VIEW dist_total WITH (pipeline.continuous) AS SELECT count(DISTINCT k) AS k, min(DISTINCT n) AS n FROM dist_events;
-- these depend on the order of the values, so the window's rows are kept
CREATE VIEW dist_kept WITH (pipeline.continuous) AS
SELECT pipeline.tumble(at, '1 minute') AS w, string_agg(DISTINCT k, '' ORDER BY k) AS k, count(DISTINCT n) AS n
FROM dist_events GROUP BY w;
SELECT v, count(*) FILTER (WHERE line ~ 'values that were seen') AS incremental, count(*) FILTER (WHERE line ~ 'keeps rows') AS kept
FROM unnest('{dist_keyed,dist_alone,dist_forever,dist_total,dist_kept}'::regclass[]) AS v, pipeline.explain(v) AS line GROUP BY v ORDER BY v;

INSERT INTO dist_events SELECT at, k, n, x, f, at2 FROM dist_rows WHERE id <= 400 ORDER BY id;
SELECT bool_and(pipeline.wait_for(v)) FROM unnest('{dist_keyed,dist_alone,dist_forever,dist_total,dist_kept}'::regclass[]) v;
SELECT * FROM dist_total;
SELECT bool_and(pg_terminate_backend(pid, 10000)) FROM (SELECT DISTINCT pid FROM pipeline.stat_views WHERE view::text ~ '^dist_') w;
INSERT INTO dist_events SELECT at, k, n, x, f, at2 FROM dist_rows WHERE id > 400 ORDER BY id;
SELECT bool_and(pipeline.wait_for(v)) FROM unnest('{dist_keyed,dist_alone,dist_forever,dist_total,dist_kept}'::regclass[]) v;
SELECT pipeline.advance_watermark('dist_events', 'infinity');
SELECT bool_and(pipeline.wait_for(v)) FROM unnest('{dist_keyed,dist_alone,dist_forever,dist_total,dist_kept}'::regclass[]) v;

CREATE TEMP VIEW expected_keyed AS
SELECT k, pipeline.tumble(at, '1 minute') AS w, count(*) AS c, count(DISTINCT n) AS n, sum(DISTINCT n) AS sn,
  avg(DISTINCT n) AS an, count(DISTINCT n) FILTER (WHERE n > 8) AS big, sum(DISTINCT n) FILTER (WHERE x < 3) AS small,
  count(DISTINCT x) AS x, count(DISTINCT f) AS f, max(DISTINCT at2) AS last, sum(n) AS s
FROM dist_rows GROUP BY k, w;
CREATE TEMP VIEW expected_alone AS
SELECT date_bin('1 minute', at, '2000-01-01+00') AS w, count(DISTINCT k) AS k, count(DISTINCT lower(k) || n % 3) AS e
FROM dist_rows WHERE n IS NOT NULL GROUP BY 1 HAVING count(DISTINCT k) > 1;
CREATE TEMP VIEW expected_forever AS
SELECT k, count(DISTINCT n) AS n, count(DISTINCT x) FILTER (WHERE f > 1) AS x FROM dist_rows GROUP BY k;
CREATE TEMP VIEW expected_total AS SELECT count(DISTINCT k) AS k, min(DISTINCT n) AS n FROM dist_rows;
CREATE TEMP VIEW expected_kept AS
SELECT pipeline.tumble(at, '1 minute') AS w, string_agg(DISTINCT k, '' ORDER BY k) AS k, count(DISTINCT n) AS n
FROM dist_rows GROUP BY w;
SELECT (SELECT count(*) FROM dist_keyed) AS rows, (SELECT count(*) FROM (TABLE dist_keyed EXCEPT ALL TABLE expected_keyed) a) AS more,
  (SELECT count(*) FROM (TABLE expected_keyed EXCEPT ALL TABLE dist_keyed) a) AS less;
SELECT (SELECT count(*) FROM dist_alone) AS rows, (SELECT count(*) FROM (TABLE dist_alone EXCEPT ALL TABLE expected_alone) a) AS more,
  (SELECT count(*) FROM (TABLE expected_alone EXCEPT ALL TABLE dist_alone) a) AS less;
SELECT (SELECT count(*) FROM dist_forever) AS rows, (SELECT count(*) FROM (TABLE dist_forever EXCEPT ALL TABLE expected_forever) a) AS more,
  (SELECT count(*) FROM (TABLE expected_forever EXCEPT ALL TABLE dist_forever) a) AS less;
SELECT (SELECT count(*) FROM dist_total) AS rows, (SELECT count(*) FROM (TABLE dist_total EXCEPT ALL TABLE expected_total) a) AS more,
  (SELECT count(*) FROM (TABLE expected_total EXCEPT ALL TABLE dist_total) a) AS less;
SELECT (SELECT count(*) FROM dist_kept) AS rows, (SELECT count(*) FROM (TABLE dist_kept EXCEPT ALL TABLE expected_kept) a) AS more,
  (SELECT count(*) FROM (TABLE expected_kept EXCEPT ALL TABLE dist_kept) a) AS less;
DROP VIEW dist_keyed, dist_alone, dist_forever, dist_total, dist_kept;
DROP FOREIGN TABLE dist_events;
