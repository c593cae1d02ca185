-- Without this: cumulating windows would hold other events than the same query finds in a table, or would
-- not agree with each other about late ones.
SET timezone = 'UTC';

-- rows that come up to 5 seconds out of order, some 25 seconds late, and a gap
CREATE TABLE c_rows (pos int PRIMARY KEY, at timestamptz, k text, n int, x float8, num numeric);
INSERT INTO c_rows SELECT i, t, CASE WHEN i % 11 > 0 THEN 'k' || i % 5 END, CASE WHEN i % 7 > 0 THEN i * 37 % 101 END, (i * 53 % 97) / 4.0, (i * 29 % 83) / 10.0
FROM (SELECT i, timestamptz '2024-02-28 23:59:00' + (i * 0.15 - (i * 31 % 34) * 0.15 - CASE WHEN i % 97 = 0 THEN 25 ELSE 0 END + CASE WHEN i > 500 THEN 300 ELSE 0 END) * interval '1 second' AS t
      FROM generate_series(1, 600) i) s;
CREATE FUNCTION c_add(bigint, int) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT $1 + coalesce($2, 0)';
CREATE AGGREGATE c_alone(int) (sfunc = c_add, stype = bigint, initcond = '0');

CREATE TABLE c_queries (id int PRIMARY KEY, size text, step text, query text);
INSERT INTO c_queries VALUES
(1, '20 seconds', '5 seconds', $$SELECT k, {C}(at, '20 seconds', '5 seconds') AS w, count(*) AS c, sum(n) AS s, avg(num) AS a, min(x) AS lo, max(pos) AS last FROM {S} GROUP BY k, w$$),
(2, '1 minute', '1 second', $$SELECT w, k, sum(x) AS s, stddev(n) AS d, count(*) FILTER (WHERE n > 50) AS f FROM {S}, {C}(at, '1 minute', '1 second') AS w GROUP BY w, k$$),
(3, '1 day', '6 hours', $$SELECT lower({C}(at, '1 day', '6 hours')) AS s, upper({C}(at, '1 day', '6 hours')) AS e, count(*) AS c FROM {S} GROUP BY 1, 2$$),
-- each window by itself: no combine function
(4, '20 seconds', '5 seconds', $$SELECT k, {C}(at, '20 seconds', '5 seconds') AS w, c_alone(n) AS a, sum(num) AS s FROM {S} GROUP BY k, w$$),
(5, '12 seconds', '12 seconds', $$SELECT {C}(at, '12 seconds', '12 seconds') AS w, c_alone(n) AS a, count(*) AS c FROM {S} GROUP BY w$$),
-- rows
(6, '20 seconds', '4 seconds', $$SELECT k, w, count(DISTINCT n) AS d, array_agg(n ORDER BY pos) AS a FROM {S} CROSS JOIN LATERAL {C}(at, '20 seconds', '4 seconds') AS w GROUP BY k, w$$),
(7, '20 seconds', '10 seconds', $$SELECT lower(w) AS s, upper(w) AS e, r, pos FROM (SELECT w, pos, rank() OVER (PARTITION BY w, k ORDER BY n DESC NULLS LAST, pos) AS r
   FROM (SELECT pos, k, n, {C}(at, '20 seconds', '10 seconds') AS w FROM {S}) s) t WHERE r <= 2$$),
(8, '20 seconds', '5 seconds', $$SELECT DISTINCT k, {C}(at, '20 seconds', '5 seconds') AS w FROM {S}$$),
-- above
(9, '20 seconds', '5 seconds', $$SELECT * FROM (SELECT k, w, count(*) AS num, max(count(*)) OVER (PARTITION BY w) AS top FROM {S}, {C}(at, '20 seconds', '5 seconds') AS w
   GROUP BY k, w) t WHERE num = top$$),
(10, '20 seconds', '5 seconds', $$SELECT upper(w) - interval '5 seconds' AS since, max(c) AS m FROM (SELECT k, {C}(at, '20 seconds', '5 seconds') AS w, count(*) AS c FROM {S} GROUP BY k, w HAVING count(*) > 1) t
   GROUP BY w$$);

-- The same over the rows: cumulate() with the windows only that a row is in time for, by the watermark before it.
CREATE VIEW c_judged AS SELECT *, max(at) OVER (ORDER BY pos ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) - interval '2 seconds' AS watermark FROM c_rows;
CREATE FUNCTION c_in_time(watermark timestamptz, at timestamptz, size interval, step interval) RETURNS SETOF tstzrange LANGUAGE sql IMMUTABLE AS $$
  SELECT w FROM pipeline.cumulate(at, size, step) w WHERE watermark IS NULL OR watermark < upper(w)
$$;
CREATE TABLE c_expected (id int, r text);
DO $$
DECLARE q record;
BEGIN
  FOR q IN SELECT * FROM c_queries LOOP
    EXECUTE format('INSERT INTO c_expected SELECT %s, q::text FROM (%s) q', q.id, replace(replace(q.query, '{S}', 'c_judged'), '{C}(', 'c_in_time(watermark, '));
  END LOOP;
END $$;
SELECT id, count(*) FROM c_expected GROUP BY id ORDER BY id;

CREATE PROCEDURE c_play() LANGUAGE plpgsql AS $$
DECLARE
  q record;
  i int;
BEGIN
  CREATE FOREIGN TABLE c_events (pos int, at timestamptz, k text, n int, x float8, num numeric)
    SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '2 seconds');
  FOR q IN SELECT * FROM c_queries ORDER BY id LOOP
    EXECUTE format('CREATE VIEW c_view%s WITH (pipeline.continuous) AS %s', q.id, replace(replace(q.query, '{S}', 'c_events'), '{C}(', 'pipeline.cumulate('));
  END LOOP;
  COMMIT;
  FOR i IN 0..2 LOOP
    INSERT INTO c_events SELECT * FROM c_rows WHERE pos / 201 = i ORDER BY pos;
    COMMIT;
    PERFORM pipeline.wait_for(('c_view' || id)::regclass) FROM c_queries;
    -- a worker that starts anew reads what is open from the chunks, or takes it over
    PERFORM pipeline.verify_state(('c_view' || id)::regclass) FROM c_queries;
    PERFORM pg_terminate_backend(pid) FROM (SELECT DISTINCT pid FROM pipeline.stat_views WHERE view::text LIKE 'c\_view%') w WHERE pid IS NOT NULL;
    COMMIT;
  END LOOP;
  PERFORM pipeline.advance_watermark('c_events', 'infinity');
  COMMIT;
  PERFORM pipeline.wait_for(('c_view' || id)::regclass) FROM c_queries;
END $$;
CREATE FUNCTION c_wrong() RETURNS TABLE (id int, what text, row_text text) LANGUAGE plpgsql AS $$
DECLARE
  q record;
  late text := 'SELECT pos || '' '' || array_agg(w ORDER BY w)::text FROM c_judged, pipeline.cumulate(at, %L, %L) w WHERE watermark >= upper(w) GROUP BY pos';
BEGIN
  FOR q IN SELECT * FROM c_queries ORDER BY 1 LOOP
    RETURN QUERY EXECUTE format('SELECT %1$s, ''missing'', d.r FROM (SELECT r FROM c_expected WHERE id = %1$s EXCEPT ALL SELECT shown::text FROM c_view%1$s shown) d
      UNION ALL SELECT %1$s, ''unexpected'', d.r FROM (SELECT shown::text AS r FROM c_view%1$s shown EXCEPT ALL SELECT r FROM c_expected WHERE id = %1$s) d
      ORDER BY 1, 2, 3 LIMIT 5', q.id);
    CONTINUE WHEN q.query NOT LIKE '%pos%'; -- the late table has what the view reads
    RETURN QUERY EXECUTE format('SELECT %1$s, ''late'', d.r FROM ((%2$s) EXCEPT ALL SELECT pos || '' '' || late_windows::text FROM c_view%1$s_late) d(r)
      UNION ALL SELECT %1$s, ''late unexpected'', d.r FROM (SELECT pos || '' '' || late_windows::text FROM c_view%1$s_late EXCEPT ALL %2$s) d(r)
      LIMIT 5', q.id, format(late, q.size, q.step));
  END LOOP;
END $$;

SET client_min_messages = error;
CALL c_play();
SELECT * FROM c_wrong();
-- events that were late for all of their windows, and for some
SELECT count(*) > 0 AS late, count(DISTINCT cardinality(late_windows)) > 1 AS some_and_all, bool_or(lower(late_windows[1]) = lower(late_windows[2])) AS same_start FROM c_view1_late;
SELECT late = (SELECT sum(cardinality(late_windows)) FROM c_view1_late) AS counted FROM pipeline.stat_views WHERE view = 'c_view1'::regclass;
DROP FOREIGN TABLE c_events CASCADE;
ALTER SYSTEM SET pipeline.batch_size = 1;
SELECT pg_reload_conf();
CALL c_play();
SELECT * FROM c_wrong();
DROP FOREIGN TABLE c_events CASCADE;
ALTER SYSTEM RESET pipeline.batch_size;
SELECT pg_reload_conf();

-- what CREATE and explain say
SET client_min_messages = notice;
CREATE FOREIGN TABLE c_plain (at timestamp, k text, n int, other timestamp) SERVER pipeline_local
  OPTIONS (event_time 'at', out_of_orderness '1 hour', idle_timeout 'off');
CREATE VIEW c_combined WITH (pipeline.continuous) AS
SELECT k, pipeline.cumulate(at, '1 day', '1 hour') AS w, sum(n) AS s FROM c_plain GROUP BY k, w;
CREATE VIEW c_own WITH (pipeline.continuous) AS
SELECT w, c_alone(n) AS s FROM c_plain, pipeline.cumulate(at, '1 minute', '20 seconds') AS w GROUP BY w;
CREATE VIEW c_kept WITH (pipeline.continuous) AS
SELECT pipeline.cumulate(at, '1 minute', '30 seconds') AS w, string_agg(k, ',' ORDER BY k) AS s FROM c_plain GROUP BY w;
SELECT pipeline.explain('c_combined');
SELECT line FROM pipeline.explain('c_own') line WHERE line LIKE '%Windows:%';
SELECT line FROM pipeline.explain('c_kept') line WHERE line LIKE '%Windows:%';
INSERT INTO c_plain VALUES ('2024-01-01 00:00:01', 'a', 1), ('2024-01-01 00:00:45', 'b', 2), ('2024-01-01 00:02:00', 'c', 4), ('2024-01-01 01:02:30', 'd', 8);
SELECT bool_and(pipeline.wait_for(v)) FROM unnest('{c_combined,c_own,c_kept}'::regclass[]) v;
SELECT * FROM c_own ORDER BY w;
SELECT * FROM c_kept ORDER BY w;
-- nothing is known of one that is just going to another's worker
DO $$ DECLARE n bigint[]; BEGIN
  LOOP
    SELECT array_agg(open_windows ORDER BY view::text) INTO n FROM pipeline.stat_views WHERE view = ANY ('{c_combined,c_own,c_kept}'::regclass[]);
    EXIT WHEN array_position(n, NULL) IS NULL;
  END LOOP;
  RAISE NOTICE 'open windows: c_combined, c_kept, c_own: %', n;
END $$;
SELECT pipeline.advance_watermark('c_plain', '2024-01-01 02:30:00+00');
SELECT pipeline.wait_for('c_combined');
SELECT * FROM c_combined ORDER BY w, k;

-- refused
CREATE VIEW r WITH (pipeline.continuous) AS
SELECT pipeline.cumulate(other, '1 minute', '10 seconds') AS w, count(*) FROM c_plain GROUP BY w;
CREATE VIEW r WITH (pipeline.continuous) AS
SELECT pipeline.cumulate(at, '10 seconds', '1 minute') AS w, count(*) FROM c_plain GROUP BY w;
CREATE VIEW r WITH (pipeline.continuous) AS
SELECT pipeline.cumulate(at, '1 minute', '7 seconds') AS w, count(*) FROM c_plain GROUP BY w;
CREATE VIEW r WITH (pipeline.continuous) AS
SELECT pipeline.cumulate(at, '1 minute', n * interval '1 second') AS w, count(*) FROM c_plain GROUP BY w;
CREATE VIEW r WITH (pipeline.continuous) AS
SELECT pipeline.cumulate(at, '1 day', '1 microsecond') AS w, count(*) FROM c_plain GROUP BY w;
CREATE VIEW r WITH (pipeline.continuous) AS
SELECT w, count(*) FROM c_plain, pipeline.cumulate(at, '1 minute', '10 seconds') AS w WHERE lower(w) > '2024-01-01' GROUP BY w;
CREATE VIEW r WITH (pipeline.continuous) AS
SELECT pipeline.cumulate(at, '1 minute', '10 seconds') AS w, pipeline.hop(at, '1 minute', '10 seconds') AS v, count(*) FROM c_plain GROUP BY w, v;
CREATE VIEW r WITH (pipeline.continuous) AS
SELECT pipeline.cumulate(at, '1 minute', '10 seconds') AS w, generate_series(1, n) AS g, count(*) FROM c_plain GROUP BY w, g;
-- all windows of a period begin together: the start is no window
CREATE VIEW r WITH (pipeline.continuous) AS
SELECT lower(w), count(*) FROM c_plain, pipeline.cumulate(at, '1 minute', '10 seconds') AS w GROUP BY lower(w);
CREATE VIEW r WITH (pipeline.continuous, pipeline.emit = 'changes') AS
SELECT lower(w), count(*) FROM c_plain, pipeline.cumulate(at, '1 minute', '10 seconds') AS w GROUP BY lower(w);
CREATE VIEW r WITH (pipeline.continuous) AS
SELECT DISTINCT k, lower(w) FROM c_plain, pipeline.cumulate(at, '1 minute', '10 seconds') AS w;
CREATE VIEW r WITH (pipeline.continuous) AS
SELECT lower(w), max(c) FROM (SELECT k, w, count(*) AS c FROM c_plain, pipeline.cumulate(at, '1 minute', '10 seconds') AS w GROUP BY k, w) t GROUP BY lower(w);
CREATE VIEW r WITH (pipeline.continuous) AS
SELECT w, rank() OVER (PARTITION BY lower(w) ORDER BY c) FROM (SELECT k, w, count(*) AS c FROM c_plain, pipeline.cumulate(at, '1 minute', '10 seconds') AS w GROUP BY k, w) t;
CREATE VIEW r WITH (pipeline.continuous) AS
SELECT a.w, a.c FROM (SELECT w, count(*) AS c FROM c_plain, pipeline.cumulate(at, '1 minute', '10 seconds') AS w GROUP BY w) a
JOIN (SELECT w, count(*) AS c FROM c_plain, pipeline.cumulate(at, '1 minute', '10 seconds') AS w WHERE n > 1 GROUP BY w) b ON lower(a.w) = lower(b.w);
CREATE VIEW r WITH (pipeline.continuous) AS
SELECT lower(w) FROM (SELECT w, count(*) AS c FROM c_plain, pipeline.cumulate(at, '1 minute', '10 seconds') AS w GROUP BY w) a
UNION SELECT lower(w) FROM (SELECT w, count(*) AS c FROM c_plain, pipeline.cumulate(at, '1 minute', '10 seconds') AS w WHERE n > 1 GROUP BY w) b;
BEGIN;
CREATE VIEW r WITH (pipeline.continuous) AS
SELECT lower(w), upper(w), max(c) FROM (SELECT k, w, count(*) AS c FROM c_plain, pipeline.cumulate(at, '1 minute', '10 seconds') AS w GROUP BY k, w) t GROUP BY lower(w), upper(w);
ROLLBACK;

-- open windows shown, late events admitted
CREATE VIEW c_open WITH (pipeline.continuous, pipeline.emit = 'changes', pipeline.allowed_lateness = '30 minutes') AS
SELECT k, pipeline.cumulate(at, '1 hour', '30 minutes') AS w, count(*) AS c, sum(n) AS s FROM c_plain GROUP BY k, w;
SELECT pipeline.explain('c_open');
INSERT INTO c_plain VALUES ('2024-01-01 04:10:00', 'a', 1), ('2024-01-01 04:40:00', 'a', 2);
SELECT pipeline.wait_for('c_open');
SELECT * FROM c_open WHERE s < 4 ORDER BY w, k;
INSERT INTO c_plain VALUES ('2024-01-01 06:00:00', 'b', 3), ('2024-01-01 04:15:00', 'a', 4);
SELECT pipeline.wait_for('c_open');
SELECT * FROM c_open WHERE lower(w) > '2024-01-01 03:00' ORDER BY w, k;
INSERT INTO c_plain VALUES ('2024-01-01 06:15:00', 'b', 5), ('2024-01-01 04:15:00', 'a', 6);
SELECT pipeline.wait_for('c_open');
SELECT * FROM c_open WHERE k = 'a' AND lower(w) > '2024-01-01 03:00' ORDER BY w, k;
SELECT at, n, late_windows FROM c_open_late WHERE at > '2024-01-01 03:00' ORDER BY n;
SELECT pipeline.verify_state('c_open');

DROP FOREIGN TABLE c_plain CASCADE;
DROP VIEW c_judged;
DROP TABLE c_rows, c_queries, c_expected;
DROP PROCEDURE c_play;
DROP FUNCTION c_wrong, c_in_time;
DROP AGGREGATE c_alone(int);
DROP FUNCTION c_add;
