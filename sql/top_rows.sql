-- Without this: rows that belong to the first ones of a window could be forgotten when they come,
-- or all rows of a window be kept although the query wants a few.
SET timezone = 'UTC';
CREATE FOREIGN TABLE top_events (at timestamptz, k text, n int, x numeric, id int) SERVER pipeline_local
  OPTIONS (event_time 'at', out_of_orderness '1 hour');
CREATE TABLE top_rows (at timestamptz, k text, n int, x numeric, id int);
-- few different values, so that there are ties, and NULLs
INSERT INTO top_rows
SELECT '2024-01-01'::timestamptz + ((i * 7919) % 300) * '1 second'::interval, chr(97 + (i * 31) % 5),
  nullif((i * 613) % 17, 3), nullif((i * 271) % 23, 5) / 2.0, i
FROM generate_series(1, 1000) AS i;

CREATE VIEW top_ranks WITH (pipeline.continuous) AS
SELECT id, n, w, r FROM (
  SELECT id, n, pipeline.tumble(at, '1 minute') AS w,
    rank() OVER (PARTITION BY pipeline.tumble(at, '1 minute') ORDER BY n DESC NULLS LAST) AS r FROM top_events) t
WHERE r <= 2;
CREATE VIEW top_numbers WITH (pipeline.continuous) AS
SELECT k, id, x, r FROM (
  SELECT k, id, x, pipeline.tumble(at, '1 minute') AS w,
    row_number() OVER (PARTITION BY k, pipeline.tumble(at, '1 minute') ORDER BY x NULLS FIRST, k || id) AS r
  FROM top_events WHERE id % 10 <> 1) t
WHERE 4 > r AND id > 0;
CREATE VIEW top_second WITH (pipeline.continuous) AS
SELECT w, id FROM (
  SELECT id, date_trunc('minute', at) AS w,
    row_number() OVER (PARTITION BY date_trunc('minute', at) ORDER BY k COLLATE "C" DESC, id) AS r FROM top_events) t
WHERE r = 2;
-- nothing may be forgotten: another window function counts all rows, and ranks are wanted from below
CREATE VIEW top_counted WITH (pipeline.continuous) AS
SELECT id, c, r FROM (
  SELECT id, count(*) OVER (PARTITION BY pipeline.tumble(at, '1 minute')) AS c,
    rank() OVER (PARTITION BY pipeline.tumble(at, '1 minute') ORDER BY n) AS r FROM top_events) t
WHERE r = 1;
CREATE VIEW top_rest WITH (pipeline.continuous) AS
SELECT id, r FROM (
  SELECT id, rank() OVER (PARTITION BY pipeline.tumble(at, '1 minute') ORDER BY n) AS r FROM top_events) t
WHERE r >= 190;
CREATE VIEW top_none WITH (pipeline.continuous) AS
SELECT id FROM (
  SELECT id, rank() OVER (PARTITION BY pipeline.tumble(at, '1 minute') ORDER BY n) AS r FROM top_events) t
WHERE r < 1;

SELECT v, trim(line) AS kept FROM unnest('{top_ranks,top_numbers,top_second,top_counted,top_rest,top_none}'::regclass[]) AS v,
  pipeline.explain(v) AS line WHERE line ~ 'Only rows';

-- in parts, with workers that begin anew while windows are open
INSERT INTO top_events SELECT * FROM top_rows WHERE id <= 400 ORDER BY id;
SELECT bool_and(pipeline.wait_for(v)) FROM unnest('{top_ranks,top_numbers,top_second,top_counted,top_rest,top_none}'::regclass[]) v;
SELECT bool_and(pg_terminate_backend(pid, 10000)) FROM (SELECT DISTINCT pid FROM pipeline.stat_views WHERE view::text ~ '^top_') w;
INSERT INTO top_events SELECT * FROM top_rows WHERE id > 400 ORDER BY id;
SELECT bool_and(pipeline.wait_for(v)) FROM unnest('{top_ranks,top_numbers,top_second,top_counted,top_rest,top_none}'::regclass[]) v;
SELECT pipeline.advance_watermark('top_events', 'infinity');
SELECT bool_and(pipeline.wait_for(v)) FROM unnest('{top_ranks,top_numbers,top_second,top_counted,top_rest,top_none}'::regclass[]) v;

CREATE TEMP VIEW expected_ranks AS
SELECT id, n, w, r FROM (
  SELECT id, n, pipeline.tumble(at, '1 minute') AS w,
    rank() OVER (PARTITION BY pipeline.tumble(at, '1 minute') ORDER BY n DESC NULLS LAST) AS r FROM top_rows) t
WHERE r <= 2;
CREATE TEMP VIEW expected_numbers AS
SELECT k, id, x, r FROM (
  SELECT k, id, x, pipeline.tumble(at, '1 minute') AS w,
    row_number() OVER (PARTITION BY k, pipeline.tumble(at, '1 minute') ORDER BY x NULLS FIRST, k || id) AS r
  FROM top_rows WHERE id % 10 <> 1) t
WHERE 4 > r AND id > 0;
CREATE TEMP VIEW expected_second AS
SELECT w, id FROM (
  SELECT id, date_trunc('minute', at) AS w,
    row_number() OVER (PARTITION BY date_trunc('minute', at) ORDER BY k COLLATE "C" DESC, id) AS r FROM top_rows) t
WHERE r = 2;
CREATE TEMP VIEW expected_counted AS
SELECT id, c, r FROM (
  SELECT id, count(*) OVER (PARTITION BY pipeline.tumble(at, '1 minute')) AS c,
    rank() OVER (PARTITION BY pipeline.tumble(at, '1 minute') ORDER BY n) AS r FROM top_rows) t
WHERE r = 1;
CREATE TEMP VIEW expected_rest AS
SELECT id, r FROM (
  SELECT id, rank() OVER (PARTITION BY pipeline.tumble(at, '1 minute') ORDER BY n) AS r FROM top_rows) t
WHERE r >= 190;

SELECT (SELECT count(*) FROM top_ranks) AS rows,
  (SELECT count(*) FROM (TABLE top_ranks EXCEPT ALL TABLE expected_ranks) a) AS more,
  (SELECT count(*) FROM (TABLE expected_ranks EXCEPT ALL TABLE top_ranks) a) AS less;
SELECT (SELECT count(*) FROM top_numbers) AS rows,
  (SELECT count(*) FROM (TABLE top_numbers EXCEPT ALL TABLE expected_numbers) a) AS more,
  (SELECT count(*) FROM (TABLE expected_numbers EXCEPT ALL TABLE top_numbers) a) AS less;
SELECT (SELECT count(*) FROM top_second) AS rows,
  (SELECT count(*) FROM (TABLE top_second EXCEPT ALL TABLE expected_second) a) AS more,
  (SELECT count(*) FROM (TABLE expected_second EXCEPT ALL TABLE top_second) a) AS less;
SELECT (SELECT count(*) FROM top_counted) AS rows,
  (SELECT count(*) FROM (TABLE top_counted EXCEPT ALL TABLE expected_counted) a) AS more,
  (SELECT count(*) FROM (TABLE expected_counted EXCEPT ALL TABLE top_counted) a) AS less;
SELECT (SELECT count(*) FROM top_rest) AS rows,
  (SELECT count(*) FROM (TABLE top_rest EXCEPT ALL TABLE expected_rest) a) AS more,
  (SELECT count(*) FROM (TABLE expected_rest EXCEPT ALL TABLE top_rest) a) AS less;
SELECT count(*) FROM top_none;
DROP VIEW top_ranks, top_numbers, top_second, top_counted, top_rest, top_none;
DROP FOREIGN TABLE top_events;
