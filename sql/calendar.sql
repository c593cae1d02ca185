-- Without this: windows of the calendar would not be those of date_trunc() where clocks change, or would
-- depend on the order of events; windows in other places of a query would not be found.
SET timezone = 'America/New_York';

-- an event every 7 minutes over both changes of 2024, and one every 5 hours over two years; each zone has its own
CREATE TABLE k_rows (pos int, at timestamptz);
INSERT INTO k_rows SELECT row_number() OVER (ORDER BY at), at FROM (
  SELECT generate_series(timestamptz '2024-03-09 20:00+00', '2024-03-11 08:00+00', '7 minutes')
  UNION SELECT generate_series(timestamptz '2024-03-30 20:00+00', '2024-04-01 08:00+00', '7 minutes')
  UNION SELECT generate_series(timestamptz '2024-04-06 10:00+00', '2024-04-07 22:00+00', '7 minutes')
  UNION SELECT generate_series(timestamptz '2024-10-26 20:00+00', '2024-10-28 08:00+00', '7 minutes')
  UNION SELECT generate_series(timestamptz '2024-11-02 20:00+00', '2024-11-04 08:00+00', '7 minutes')
  UNION SELECT generate_series(timestamptz '2023-12-25 00:00+00', '2025-01-10 00:00+00', '5 hours')
  -- the moments themselves, and around
  UNION SELECT t + d * interval '1 microsecond' FROM unnest('{2024-03-10 07:00+00, 2024-11-03 06:00+00, 2024-11-03 05:00+00, 2024-03-31 01:00+00, 2024-10-27 01:00+00, 2024-01-01 05:00+00,
    2024-04-06 15:00+00, 2024-04-06 15:30+00, 2024-04-01 04:00+00}'::timestamptz[]) t, generate_series(-1, 1) d) e (at);

CREATE TABLE k_queries (id int PRIMARY KEY, query text);
INSERT INTO k_queries SELECT row_number() OVER (ORDER BY z, u), format('SELECT date_trunc(%L, at%s) AS w, count(*) AS n, min(at) AS first, max(at) AS last FROM {S} GROUP BY 1', u, ', ' || quote_literal(z))
FROM unnest('{hour,day,week,month,quarter,year}'::text[]) u, unnest('{America/New_York,Europe/Berlin,Asia/Kathmandu,Australia/Lord_Howe,UTC}'::text[]) z;
INSERT INTO k_queries SELECT 100 + row_number() OVER (), format('SELECT date_trunc(%L, at) AS w, count(*) AS n, min(at) AS first, max(at) AS last FROM {S} GROUP BY w', u)
FROM unnest('{minute,hour,day,week,month,quarter,year,decade}'::text[]) u;

-- all events are in time: whatever the order within two days
CREATE FOREIGN TABLE k_events (pos int, at timestamptz) SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '4 days', max_ahead 'off', idle_timeout 'off');
SET client_min_messages = warning;
DO $$
DECLARE q record;
BEGIN
  FOR q IN SELECT * FROM k_queries LOOP
    EXECUTE format('CREATE VIEW k_view%s WITH (pipeline.continuous) AS %s', q.id, replace(q.query, '{S}', 'k_events'));
  END LOOP;
END $$;
INSERT INTO k_events SELECT * FROM k_rows ORDER BY floor(extract(epoch FROM at) / 172800), pos * 7919 % 1009, pos;
SELECT pipeline.advance_watermark('k_events', 'infinity');
SELECT bool_and(pipeline.wait_for(('k_view' || id)::regclass)) FROM k_queries;
CREATE FUNCTION k_wrong() RETURNS TABLE (id int, what text, row_text text) LANGUAGE plpgsql AS $$
DECLARE q record;
BEGIN
  FOR q IN SELECT * FROM k_queries ORDER BY 1 LOOP
    RETURN QUERY EXECUTE format('SELECT %1$s, ''missing'', d::text FROM (%2$s EXCEPT ALL SELECT * FROM k_view%1$s) d
      UNION ALL SELECT %1$s, ''unexpected'', d::text FROM (SELECT * FROM k_view%1$s EXCEPT ALL (%2$s)) d ORDER BY 1, 2, 3 LIMIT 5', q.id, '(' || replace(q.query, '{S}', 'k_rows') || ')');
  END LOOP;
END $$;
SELECT * FROM k_wrong();
-- the lengths of days, in hours
SELECT w, n, last - first > interval '24 hours' AS long_day FROM (SELECT * FROM k_view103) d WHERE w::date IN ('2024-03-10', '2024-11-03') ORDER BY w;
SELECT sum(late) AS late, sum(dead_letters) AS dead FROM pipeline.stat_views WHERE view::text LIKE 'k\_view%';
DROP FOREIGN TABLE k_events CASCADE;

-- the ambiguous hour of a fall-back: two windows, closed one after the other; and a day of 25 hours is open for 25 hours
CREATE FOREIGN TABLE k_fall (at timestamptz, k text) SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '0', idle_timeout 'off');
CREATE VIEW k_hours WITH (pipeline.continuous) AS SELECT date_trunc('hour', at) AS hour, count(*) AS n, string_agg(k, ',' ORDER BY at) AS ks FROM k_fall GROUP BY 1;
CREATE VIEW k_days WITH (pipeline.continuous) AS SELECT date_trunc('day', at, 'America/New_York') AS day, count(*) AS n FROM k_fall GROUP BY 1;
INSERT INTO k_fall VALUES ('2024-11-03 04:00:00+00', 'midnight'), ('2024-11-03 05:30:00+00', '1:30 EDT'), ('2024-11-03 06:00:00+00', '1:00 EST');
SELECT pipeline.wait_for('k_hours'), pipeline.wait_for('k_days');
SELECT hour, hour AT TIME ZONE 'UTC' AS utc, n, ks FROM k_hours ORDER BY hour;
INSERT INTO k_fall VALUES ('2024-11-03 05:59:59+00', 'late'), ('2024-11-03 06:30:00+00', '1:30 EST'), ('2024-11-04 04:59:59.999999+00', 'the last'), ('2024-11-03 07:00:00+00', 'late, not for the day');
SELECT pipeline.wait_for('k_hours'), pipeline.wait_for('k_days');
SELECT hour AT TIME ZONE 'UTC' AS utc, n, ks FROM k_hours ORDER BY hour;
SELECT at, late_windows FROM k_hours_late ORDER BY at;
SELECT count(*) AS days FROM k_days;
INSERT INTO k_fall VALUES ('2024-11-04 05:00:00+00', 'the next day');
SELECT pipeline.wait_for('k_days');
SELECT * FROM k_days;
DROP FOREIGN TABLE k_fall CASCADE;

-- windows wherever they stand
CREATE FOREIGN TABLE p_events (at timestamptz, k text, n int) SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '0', idle_timeout 'off');
CREATE TABLE p_rows (at timestamptz, k text, n int);
INSERT INTO p_rows SELECT timestamptz '2024-01-01 00:00+00' + i * interval '7 seconds', 'k' || i % 3, i FROM generate_series(1, 100) i;
CREATE TABLE p_queries (id int PRIMARY KEY, query text);
INSERT INTO p_queries VALUES
(1, $$SELECT w, k, sum(n) AS s FROM {S}, pipeline.tumble(at, '1 minute') AS w GROUP BY w, k$$),
(2, $$SELECT lower(w) AS since, upper(w) AS until, count(*) AS c FROM {S} s CROSS JOIN LATERAL pipeline.tumble(s.at, '1 minute', '2000-01-01 00:00:30+00') AS w GROUP BY 1, 2$$),
(3, $$SELECT upper(w) AS until, count(*) AS c FROM {S} s LEFT JOIN LATERAL pipeline.tumble(s.at, '1 minute') AS w ON true GROUP BY w$$),
-- looked at by something else as well: then it is computed
(4, $$SELECT w, max(at - lower(w)) AS longest FROM {S}, pipeline.tumble(at, '1 minute') AS w WHERE upper(w) - at > interval '10 seconds' GROUP BY w$$),
(5, $$SELECT d, count(*) AS c FROM {S}, date_trunc('minute', at) AS d GROUP BY d$$),
(6, $$SELECT d, count(*) AS c FROM {S}, date_bin('90 seconds', at, '2000-01-01 00:00+00') AS d(d) GROUP BY d$$),
-- in a select list only
(7, $$SELECT DISTINCT pipeline.tumble(at, '1 minute') AS w FROM {S}$$),
(8, $$SELECT DISTINCT lower(pipeline.tumble(at, '1 minute')) AS since, k FROM {S}$$),
(9, $$SELECT upper(w) AS until, s FROM (SELECT pipeline.tumble(at, '1 minute') AS w, sum(n) AS s FROM {S} GROUP BY 1) t$$),
(10, $$SELECT w, w2, count(*) AS c FROM (SELECT *, pipeline.tumble(at, '1 minute') AS w FROM {S}) s, pipeline.tumble(s.at, '1 minute') AS w2 GROUP BY w, w2$$),
(11, $$SELECT w, k, row_number() OVER (PARTITION BY w ORDER BY n) AS r FROM {S}, pipeline.tumble(at, '1 minute') AS w$$),
(12, $$SELECT pipeline.hop(at, '1 minute', '20 seconds', '2000-01-01 00:00:05+00') AS w, count(*) AS c FROM {S} GROUP BY w$$),
(13, $$SELECT lower(w) AS since, count(*) AS c FROM {S}, pipeline.hop(at, '1 minute', '20 seconds', '1999-12-31 23:59:05+00') AS w GROUP BY lower(w)$$),
(14, $$SELECT date_bin('1 minute', at, '2000-01-01 00:00:30+00') AS d, lower(pipeline.tumble(at, '1 minute', '2000-01-01 00:00:30+00')) AS l, count(*) AS c FROM {S} GROUP BY 1, 2$$),
(15, $$SELECT t, h, count(*) AS c FROM {S}, pipeline.tumble(at, '1 minute') AS t, pipeline.hop(at, '1 minute', '20 seconds') AS h GROUP BY t, h$$);
DO $$
DECLARE q record;
BEGIN
  FOR q IN SELECT * FROM p_queries WHERE id < 15 LOOP
    EXECUTE format('CREATE VIEW p_view%s WITH (pipeline.continuous) AS %s', q.id, replace(q.query, '{S}', 'p_events'));
  END LOOP;
END $$;
-- two windows
DO $$
BEGIN
  EXECUTE 'CREATE VIEW p_view15 WITH (pipeline.continuous) AS ' || (SELECT replace(query, '{S}', 'p_events') FROM p_queries WHERE id = 15);
EXCEPTION WHEN feature_not_supported THEN
  RAISE WARNING '%', SQLERRM;
END $$;
INSERT INTO p_events SELECT * FROM p_rows;
SELECT pipeline.advance_watermark('p_events', 'infinity');
SELECT bool_and(pipeline.wait_for(('p_view' || id)::regclass)) FROM p_queries WHERE id < 15;
CREATE FUNCTION p_wrong() RETURNS TABLE (id int, what text, row_text text) LANGUAGE plpgsql AS $$
DECLARE q record;
BEGIN
  FOR q IN SELECT * FROM p_queries WHERE p_queries.id < 15 ORDER BY 1 LOOP
    RETURN QUERY EXECUTE format('SELECT %1$s, ''missing'', d::text FROM (%2$s EXCEPT ALL SELECT * FROM p_view%1$s) d
      UNION ALL SELECT %1$s, ''unexpected'', d::text FROM (SELECT * FROM p_view%1$s EXCEPT ALL %2$s) d ORDER BY 1, 2, 3 LIMIT 5', q.id, '(' || replace(q.query, '{S}', 'p_rows') || ')');
  END LOOP;
END $$;
SELECT * FROM p_wrong();
SELECT id, line FROM p_queries, pipeline.explain(('p_view' || id)::regclass) line WHERE id IN (1, 4) AND line ~ 'Operator|Function Scan';
DROP FOREIGN TABLE p_events CASCADE;
DROP TABLE k_rows, k_queries, p_rows, p_queries;
DROP FUNCTION k_wrong, p_wrong;
