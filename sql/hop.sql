-- Without this: hopping windows would hold other events than the same query finds in a table, would
-- take in events after they were complete, or would depend on how events are batched.
SET timezone = 'UTC';

-- rows that come up to 5 seconds out of order, some 25 seconds late, and a gap
CREATE TABLE h_rows (pos int PRIMARY KEY, at timestamptz, ts timestamp, k text, n int, x float8, num numeric, small int2, big int8);
INSERT INTO h_rows SELECT i, t, t AT TIME ZONE 'UTC', CASE WHEN i % 11 > 0 THEN 'k' || i % 5 END, CASE WHEN i % 7 > 0 THEN i * 37 % 101 END,
  (i * 53 % 97) / 4.0, (i * 29 % 83) / 10.0, (i % 13)::int2, i * 1000003
FROM (SELECT i, timestamptz '2024-02-28 23:59:00' + (i * 0.15 - (i * 31 % 34) * 0.15 - CASE WHEN i % 97 = 0 THEN 25 ELSE 0 END + CASE WHEN i > 700 THEN 300 ELSE 0 END) * interval '1 second' AS t
      FROM generate_series(1, 900) i) s;
CREATE TABLE h_names (k text, name text);
INSERT INTO h_names VALUES ('k1', 'one'), ('k2', 'two'), ('k2', 'zwei'), ('k9', 'nine');

-- aggregates of all kinds of combine functions: none; strict, without and with an initial value; not strict
CREATE FUNCTION h_add(bigint, int) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT coalesce($1, 0) + coalesce($2, 0)';
CREATE AGGREGATE h_alone(int) (sfunc = h_add, stype = bigint);
CREATE AGGREGATE h_least(text) (sfunc = text_smaller, stype = text, combinefunc = text_smaller);
CREATE AGGREGATE h_sum(numeric) (sfunc = numeric_add, stype = numeric, initcond = '0', combinefunc = numeric_add);
CREATE FUNCTION h_either(bigint, bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT coalesce($1 + $2, $1, $2)';
CREATE AGGREGATE h_loose(int) (sfunc = h_add, stype = bigint, combinefunc = h_either);

CREATE TABLE h_queries (id int PRIMARY KEY, query text);
INSERT INTO h_queries VALUES
-- states of every kind, combined
(1, $$SELECT k, {H}(at, '10 seconds', '2 seconds') AS w, count(*) AS c, count(n) AS cn, sum(n) AS s, avg(n) AS a, min(n) AS lo, max(x) AS hi,
      sum(x) AS sx, sum(small) AS ss, avg(small) AS ma, sum(big) AS sb, avg(big) AS ab, min(at) AS first, max(x::real) AS r, sum(x::real) AS sr, max(pos) AS last
      FROM {S} GROUP BY k, w$$),
(2, $$SELECT w, k, sum(num) AS s, avg(num) AS a, stddev(n) AS d, variance(big) AS v, max(k) AS m, bool_and(n > 3) AS b, bit_or(small) AS o, sum(at - '2024-01-01') AS i
      FROM {S}, {H}(at, '10 seconds', '2 seconds') AS w GROUP BY k, w$$),
(3, $$SELECT {H}(at, '10 seconds', '3 seconds') AS w, h_least(k) AS l, h_sum(num) AS s, h_loose(n) AS o, count(*) FILTER (WHERE n > 50) AS f, sum(n) FILTER (WHERE k > 'k2') AS fs, max(pos) AS last
      FROM {S} GROUP BY w$$),
-- not combined: windows by themselves; rows
(4, $$SELECT k, {H}(at, '10 seconds', '2 seconds') AS w, h_alone(n) AS a, sum(num) AS s, max(pos) AS last FROM {S} GROUP BY k, w$$),
(5, $$SELECT k, {H}(at, '7 seconds', '3 seconds', '2000-01-01 00:00:01+00') AS w, count(DISTINCT n) AS d, array_agg(n ORDER BY pos) AS a,
      percentile_disc(0.5) WITHIN GROUP (ORDER BY x) AS p FROM {S} GROUP BY k, w$$),
(6, $$SELECT lower(w) AS s, upper(w) AS e, r, pos FROM (SELECT w, pos, rank() OVER (PARTITION BY w, k ORDER BY n DESC NULLS LAST, pos) AS r
      FROM (SELECT pos, k, n, {H}(at, '10 seconds', '5 seconds') AS w FROM {S}) s) t WHERE r <= 2$$),
(7, $$SELECT DISTINCT ON ({H}(at, '4 seconds', '2 seconds')) {H}(at, '4 seconds', '2 seconds') AS w, k, n FROM {S} ORDER BY 1, n, pos$$),
(8, $$SELECT k, upper(w) AS e, count(*) AS c, count(DISTINCT n) AS d FROM {S} CROSS JOIN LATERAL {H}(at, '6 seconds', '4 seconds') AS w GROUP BY k, w$$),
(9, $$SELECT w, (SELECT count(*) FROM h_names t WHERE t.k = min(s.k) AND upper(s.w) > '2024-01-01') AS c, string_agg(k, ',' ORDER BY pos) AS a
      FROM (SELECT *, {H}(at, '6 seconds', '2 seconds') AS w FROM {S}) s GROUP BY w$$),
-- where the window stands
(10, $$SELECT lower({H}(at, '10 seconds', '2.5 seconds')) AS s, upper({H}(at, '10 seconds', '2.5 seconds')) AS e, count(*) AS c FROM {S} GROUP BY 1, 2$$),
(11, $$SELECT count(*) AS c FROM {S} GROUP BY {H}(at, '10 seconds', '5 seconds')$$),
(12, $$SELECT DISTINCT k, {H}(at, '10 seconds', '5 seconds') AS w FROM {S}$$),
(13, $$WITH windows AS (SELECT k, n, {H}(at, size => '10 seconds', slide => '2 seconds') AS w FROM {S} WHERE n IS NOT NULL)
      SELECT upper(w) - interval '1 second' AS e, k, sum(n) AS s FROM windows WHERE k <> 'k3' GROUP BY k, w HAVING sum(n) > 40 AND lower(w) > '2024-02-28 23:59:10+00'$$),
(14, $$SELECT t.name, w, count(*) AS c FROM {S} s JOIN h_names t USING (k) LEFT JOIN LATERAL {H}(at, '10 seconds', '2 seconds') AS w ON true GROUP BY t.name, w HAVING w IS NOT NULL$$),
(15, $$SELECT w, x2, generate_series(1, 2) AS g, count(*) AS c FROM (SELECT *, k || '!' AS x2 FROM {S}) s, {H}(at, '5 seconds', '5 seconds') AS w GROUP BY w, x2$$),
-- above it
(17, $$SELECT * FROM (SELECT k, w, count(*) AS num, max(count(*)) OVER (PARTITION BY w) AS top FROM {S}, {H}(at, '10 seconds', '2 seconds') AS w
      GROUP BY k, w) t WHERE num = top$$),
(18, $$SELECT k, num, lower(w) AS s, upper(w) AS e FROM (SELECT k, w, num, rank() OVER (PARTITION BY w ORDER BY num DESC) AS r
      FROM (SELECT k, {H}(at, '10 seconds', '2 seconds') AS w, count(*) AS num FROM {S} GROUP BY k, w) c) t WHERE r = 1$$),
(19, $$SELECT w, max(c) AS m, count(*) AS g FROM (SELECT k, {H}(at, '10 seconds', '100 ms') AS w, count(pos) AS c FROM {S} GROUP BY k, w) t GROUP BY w$$),
(20, $$SELECT w, sum(x) AS s, avg(x) AS a, min(num) AS m, stddev(n) FILTER (WHERE n < 3) AS d, avg(num) FILTER (WHERE n < 3) AS f FROM {S}, {H}(at, '10 seconds', '150 ms') AS w GROUP BY w$$),
-- what can be taken back: each window is made from the one before it
(21, $$SELECT k, {H}(at, '10 seconds', '3 seconds') AS w, count(*) AS c, count(n) AS cn, sum(small) AS ss, avg(small) AS sa, sum(n) AS s, avg(n) AS a, sum(big) AS bs, avg(big) AS ba,
      sum(n) FILTER (WHERE n > 50) AS f FROM {S} GROUP BY k, w$$),
(22, $$SELECT pos % 50 AS g, w, sum(n) AS s FROM {S}, {H}(at, '5 seconds', '700 ms') AS w GROUP BY pos % 50, w$$),
(23, $$SELECT w, avg(big * 9000000000) AS a, sum(n) AS s FROM {S}, {H}(at, '4 seconds', '50 ms') AS w WHERE n IS NULL OR n > 90 GROUP BY w$$);

-- The same over the rows: hop() with the windows only that a row is in time for, by the watermark before it.
CREATE VIEW h_judged AS SELECT *, max(at) OVER (ORDER BY pos ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) - interval '2 seconds' AS watermark
FROM h_rows;
CREATE FUNCTION h_in_time(watermark timestamptz, at timestamptz, size interval, slide interval, origin timestamptz DEFAULT '2000-01-03 00:00+00')
RETURNS SETOF tstzrange LANGUAGE sql IMMUTABLE AS $$
  SELECT w FROM pipeline.hop(at, size, slide, origin) w WHERE watermark IS NULL OR watermark < upper(w)
$$;
CREATE TABLE h_expected (id int, r text);
DO $$
DECLARE q record;
BEGIN
  FOR q IN SELECT * FROM h_queries LOOP
    EXECUTE format('INSERT INTO h_expected SELECT %s, q::text FROM (%s) q', q.id,
      replace(replace(q.query, '{S}', 'h_judged'), '{H}(', 'h_in_time(watermark, '));
  END LOOP;
END $$;
SELECT id, count(*) FROM h_expected GROUP BY id ORDER BY id;

CREATE PROCEDURE h_create() LANGUAGE plpgsql AS $$
DECLARE q record;
BEGIN
  CREATE FOREIGN TABLE h_events (pos int, at timestamptz, k text, n int, x float8, num numeric, small int2, big int8)
    SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '2 seconds');
  FOR q IN SELECT * FROM h_queries ORDER BY id LOOP
    EXECUTE format('CREATE VIEW h_view%s WITH (pipeline.continuous) AS %s', q.id, replace(replace(q.query, '{S}', 'h_events'), '{H}(', 'pipeline.hop('));
  END LOOP;
END $$;
-- Feed the views and close all windows.
CREATE PROCEDURE h_feed() LANGUAGE plpgsql AS $$
DECLARE q record;
BEGIN
  INSERT INTO h_events SELECT pos, at, k, n, x, num, small, big FROM h_rows WHERE pos <= 300 ORDER BY pos;
  COMMIT;
  INSERT INTO h_events SELECT pos, at, k, n, x, num, small, big FROM h_rows WHERE pos > 300 ORDER BY pos;
  COMMIT;
  PERFORM pipeline.wait_for(('h_view' || id)::regclass) FROM h_queries;
  COMMIT;
  PERFORM pipeline.advance_watermark('h_events', 'infinity');
  COMMIT;
  PERFORM pipeline.wait_for(('h_view' || id)::regclass) FROM h_queries;
END $$;
-- Which views show something else, and which late rows are there that should not be, or the other way round.
CREATE FUNCTION h_wrong() RETURNS TABLE (id int, what text, row_text text) LANGUAGE plpgsql AS $$
DECLARE
  q record;
  late text := 'SELECT pos || '' '' || array_agg(w ORDER BY w)::text FROM h_judged, pipeline.hop(at, %L, %L) w WHERE watermark >= upper(w) GROUP BY pos';
BEGIN
  FOR q IN SELECT h_queries.id FROM h_queries ORDER BY 1 LOOP
    RETURN QUERY EXECUTE format('SELECT %1$s, ''missing'', d.r FROM (SELECT r FROM h_expected WHERE id = %1$s EXCEPT ALL SELECT shown::text FROM h_view%1$s shown) d
      UNION ALL SELECT %1$s, ''unexpected'', d.r FROM (SELECT shown::text AS r FROM h_view%1$s shown EXCEPT ALL SELECT r FROM h_expected WHERE id = %1$s) d
      ORDER BY 1, 2, 3 LIMIT 5', q.id);
  END LOOP;
  FOR q IN SELECT * FROM (VALUES (1, '10 seconds', '2 seconds'), (3, '10 seconds', '3 seconds'), (4, '10 seconds', '2 seconds'),
    (9, '6 seconds', '2 seconds'), (19, '10 seconds', '100 ms')) AS v (id, size, slide) LOOP
    RETURN QUERY EXECUTE format('SELECT %1$s, ''late'', d.r FROM ((%2$s) EXCEPT ALL SELECT pos || '' '' || late_windows::text FROM h_view%1$s_late) d(r)
      UNION ALL SELECT %1$s, ''late unexpected'', d.r FROM (SELECT pos || '' '' || late_windows::text FROM h_view%1$s_late EXCEPT ALL %2$s) d(r)
      LIMIT 5', q.id, format(late, q.size, q.slide));
  END LOOP;
END $$;

SET client_min_messages = warning;
CALL h_create();
CALL h_feed();
SELECT * FROM h_wrong();
-- events that were late for all of their windows, and for some
SELECT (SELECT max(cardinality(late_windows)) FROM h_view1_late) AS all_missed, (SELECT min(cardinality(late_windows)) FROM h_view1_late) AS some_missed;
SELECT late = (SELECT sum(cardinality(late_windows)) FROM h_view1_late) AS counted FROM pipeline.stat_views WHERE view = 'h_view1'::regclass;
DROP FOREIGN TABLE h_events CASCADE;

-- the same whatever is evaluated together
ALTER SYSTEM SET pipeline.batch_size = 1;
SELECT pg_reload_conf();
CALL h_create();
CALL h_feed();
SELECT * FROM h_wrong();
DROP FOREIGN TABLE h_events CASCADE;
ALTER SYSTEM SET pipeline.batch_size = 7;
ALTER SYSTEM SET pipeline.checkpoint_interval = '1 ms';
SELECT pg_reload_conf();
CALL h_create();
CALL h_feed();
SELECT * FROM h_wrong();
DROP FOREIGN TABLE h_events CASCADE;
ALTER SYSTEM RESET pipeline.batch_size;
ALTER SYSTEM RESET pipeline.checkpoint_interval;
SELECT pg_reload_conf();

-- what CREATE and explain say; timestamp without time zone; windows that close by themselves
SET client_min_messages = notice;
CREATE FOREIGN TABLE h_plain (at timestamp, k text, n int, other timestamp) SERVER pipeline_local
  OPTIONS (event_time 'at', out_of_orderness '1 hour', idle_timeout '100 ms');
CREATE VIEW h_combined WITH (pipeline.continuous) AS
SELECT k, pipeline.hop(at, '10 seconds', '2 seconds') AS w, sum(n) AS s FROM h_plain GROUP BY k, w;
CREATE VIEW h_odd WITH (pipeline.continuous) AS
SELECT w, count(*) AS n FROM h_plain, pipeline.hop(at, '1 day', '7 hours') AS w GROUP BY w;
CREATE VIEW h_own WITH (pipeline.continuous) AS
SELECT pipeline.hop(at, '1 minute', '30 seconds') AS w, h_alone(n) AS s FROM h_plain GROUP BY w;
CREATE VIEW h_kept WITH (pipeline.continuous) AS
SELECT pipeline.hop(at, '1 minute', '30 seconds') AS w, string_agg(k, ',' ORDER BY k) AS s FROM h_plain GROUP BY w;
SELECT pipeline.explain('h_combined');
SELECT pipeline.explain('h_odd');
SELECT pipeline.explain('h_own');
SELECT line FROM pipeline.explain('h_kept') line WHERE line NOT LIKE '%Sort Key%';
-- of a window's groups only those that may be its first reach the close query
CREATE VIEW h_first WITH (pipeline.continuous) AS
SELECT * FROM (SELECT k, w, count(*) AS c, max(count(*)) OVER (PARTITION BY w) AS top
  FROM h_plain, pipeline.hop(at, '4 seconds', '2 seconds') AS w GROUP BY k, w) t WHERE c = top;
CREATE VIEW h_two WITH (pipeline.continuous) AS
SELECT k, s, w FROM (SELECT t.*, rank() OVER (PARTITION BY w ORDER BY s DESC NULLS LAST, k) AS r
  FROM (SELECT k, w, sum(n) AS s FROM h_plain, pipeline.hop(at, '4 seconds', '2 seconds') AS w GROUP BY k, w) t) r WHERE r <= 2;
CREATE VIEW h_per_key WITH (pipeline.continuous) AS
SELECT * FROM (SELECT k, n, w, min(sum(n)) OVER (PARTITION BY w, k) AS least, sum(n) AS s
  FROM h_plain, pipeline.hop(at, '4 seconds', '2 seconds') AS w GROUP BY k, n, w) t WHERE least = s AND w IS NOT NULL;
-- not where it would change what is ranked: a condition on groups, a second function, part of a partition
CREATE VIEW h_all1 WITH (pipeline.continuous) AS
SELECT * FROM (SELECT k, w, count(*) AS c, max(count(*)) OVER (PARTITION BY w) AS top
  FROM h_plain, pipeline.hop(at, '4 seconds', '2 seconds') AS w GROUP BY k, w HAVING min(n) < 4) t WHERE c = top;
CREATE VIEW h_all2 WITH (pipeline.continuous) AS
SELECT * FROM (SELECT k, w, count(*) AS c, max(count(*)) OVER (PARTITION BY w) AS top, sum(count(*)) OVER (PARTITION BY w) AS total
  FROM h_plain, pipeline.hop(at, '4 seconds', '2 seconds') AS w GROUP BY k, w) t WHERE c = top;
CREATE VIEW h_all3 WITH (pipeline.continuous) AS
SELECT * FROM (SELECT k, w, count(*) AS c, max(count(*)) OVER (PARTITION BY w ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS top
  FROM h_plain, pipeline.hop(at, '4 seconds', '2 seconds') AS w GROUP BY k, w) t WHERE c = top;
SELECT v, line FROM (SELECT v, pipeline.explain(v) AS text FROM unnest('{h_first,h_two,h_per_key,h_all1,h_all2,h_all3}'::regclass[]) v) x,
  string_to_table(text, chr(10)) line WHERE line LIKE '%may be%';
INSERT INTO h_plain VALUES ('2024-01-01 00:00:01', 'a', 1), ('2024-01-01 00:00:04', 'b', 2), ('2024-01-01 00:00:05.5', 'a', 4),
  ('2024-01-01 00:00:05.6', 'a', 8), ('2024-01-01 00:00:05', 'c', 1);
CREATE PROCEDURE h_until(query text, n bigint) LANGUAGE plpgsql AS $$
DECLARE seen bigint;
BEGIN
  WHILE clock_timestamp() < statement_timestamp() + interval '30 seconds' AND seen IS DISTINCT FROM n LOOP
    EXECUTE query INTO seen;
  END LOOP;
END $$;
CALL h_until('SELECT count(*) FROM h_combined', 17);
SELECT * FROM h_combined ORDER BY w, k;
CALL h_until('SELECT count(*) FROM h_odd', 4);
SELECT * FROM h_odd ORDER BY w;
CALL h_until('SELECT count(*) FROM h_own', 2);
SELECT * FROM h_own ORDER BY w;
CALL h_until('SELECT count(*) FROM h_kept', 2);
SELECT * FROM h_kept ORDER BY w;
CALL h_until('SELECT count(*) FROM h_first', 4);
SELECT * FROM h_first ORDER BY w, k;
CALL h_until('SELECT count(*) FROM h_two', 6);
SELECT * FROM h_two ORDER BY w, k;
CALL h_until('SELECT count(*) FROM h_per_key', 8);
SELECT * FROM h_per_key ORDER BY w, k, n;
CALL h_until('SELECT count(*) FROM h_all1', 6);
SELECT k, w, c FROM h_all1 ORDER BY w, k;
CALL h_until('SELECT count(*) FROM h_all2', 4);
SELECT * FROM h_all2 ORDER BY w, k;
SELECT pipeline.watermark('h_odd');

-- refused
CREATE VIEW r WITH (pipeline.continuous) AS
SELECT pipeline.hop(other, '1 minute', '10 seconds') AS w, count(*) FROM h_plain GROUP BY w;
CREATE VIEW r WITH (pipeline.continuous) AS
SELECT pipeline.hop(at, '10 seconds', '1 minute') AS w, count(*) FROM h_plain GROUP BY w;
CREATE VIEW r WITH (pipeline.continuous) AS
SELECT pipeline.hop(at, '1 minute', n * interval '1 second') AS w, count(*) FROM h_plain GROUP BY w;
CREATE VIEW r WITH (pipeline.continuous) AS
SELECT pipeline.hop(at, '1 day', '1 microsecond') AS w, count(*) FROM h_plain GROUP BY w;
CREATE VIEW r WITH (pipeline.continuous) AS
SELECT w, count(*) FROM h_plain, pipeline.hop(at, '1 minute', '10 seconds') AS w WHERE lower(w) > '2024-01-01' GROUP BY w;
CREATE VIEW r WITH (pipeline.continuous) AS
SELECT w, max(at - lower(w)) FROM h_plain, pipeline.hop(at, '1 minute', '10 seconds') AS w GROUP BY w;
CREATE VIEW r WITH (pipeline.continuous) AS
SELECT w, count(*) FROM h_plain, pipeline.hop(at, '1 minute', '10 seconds') AS w GROUP BY w, date_part('minute', lower(w));
CREATE VIEW r WITH (pipeline.continuous) AS
SELECT w, v, count(*) FROM h_plain, pipeline.hop(at, '1 minute', '10 seconds') AS w, pipeline.hop(at, '1 minute', '20 seconds') AS v GROUP BY w, v;
CREATE VIEW r WITH (pipeline.continuous) AS
SELECT pipeline.hop(at, '1 minute', '10 seconds') AS w, pipeline.tumble(at, '1 minute') AS t, count(*) FROM h_plain GROUP BY w, t;
CREATE VIEW r WITH (pipeline.continuous) AS
SELECT pipeline.hop(at, '1 minute', '10 seconds') AS w, generate_series(1, n) AS g, count(*) FROM h_plain GROUP BY w, g;
CREATE VIEW r WITH (pipeline.continuous) AS
SELECT k, sum(c) FROM (SELECT k, pipeline.hop(at, '1 minute', '10 seconds') AS w, count(*) AS c FROM h_plain GROUP BY k, w) s GROUP BY k;

DROP FOREIGN TABLE h_plain CASCADE;
DROP VIEW h_judged;
DROP TABLE h_rows, h_names, h_queries, h_expected;
DROP PROCEDURE h_create, h_feed, h_until;
DROP FUNCTION h_wrong, h_in_time;
DROP AGGREGATE h_alone(int), h_least(text), h_sum(numeric), h_loose(int);
DROP FUNCTION h_add, h_either;
