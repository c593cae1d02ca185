-- How often rows of open windows are refreshed: emit_interval.
-- Without this: rows would be written at each checkpoint whatever was asked for; or what was put off would never be
-- shown, be shown wrongly after a restart, or be missing when its window closes.
SET TimeZone = 'UTC';
SET client_min_messages = warning;
CREATE FOREIGN TABLE ticks (id int, k text, v int, at timestamptz)
  SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '0', idle_timeout 'off');
CREATE FUNCTION at(seconds numeric) RETURNS timestamptz IMMUTABLE LANGUAGE sql AS
  $$ SELECT timestamptz '2024-01-01 00:00:00+00' + seconds * interval '1 second' $$;
CREATE VIEW slow WITH (pipeline.continuous, pipeline.emit = 'changes', pipeline.emit_interval = '10 minutes') AS
SELECT k, pipeline.tumble(at, '10 seconds') AS w, count(*) AS n, sum(v) AS v, count(DISTINCT v) AS d FROM ticks GROUP BY k, w;
CREATE VIEW slow_hop WITH (pipeline.continuous, pipeline.emit = 'changes', pipeline.emit_interval = '10 minutes', pipeline.allowed_lateness = '5 seconds') AS
SELECT k, pipeline.hop(at, '20 seconds', '10 seconds') AS w, count(*) AS n, max(v::text) AS v FROM ticks GROUP BY k, w;
CREATE VIEW slow_total WITH (pipeline.continuous, pipeline.emit_interval = '10 minutes') AS SELECT k, count(*) AS n FROM ticks GROUP BY k;
CREATE VIEW slow_all WITH (pipeline.continuous, pipeline.emit_interval = '10 minutes') AS SELECT count(*) AS n FROM ticks;
CREATE VIEW slow_three WITH (pipeline.continuous, pipeline.emit = 'changes', pipeline.emit_interval = '10 minutes') AS
SELECT k, pipeline.count_window(3, 2) AS w, count(*) AS n, sum(v) AS v FROM ticks GROUP BY k, w;
CREATE VIEW fast WITH (pipeline.continuous, pipeline.emit = 'changes', pipeline.emit_interval = '0') AS
SELECT k, pipeline.tumble(at, '10 seconds') AS w, count(*) AS n FROM ticks GROUP BY k, w;
RESET client_min_messages;
CREATE TABLE all_ticks (id int, k text, v int, at timestamptz);
CREATE FUNCTION insert_ticks(VARIADIC seconds numeric[]) RETURNS void LANGUAGE sql AS $$
  WITH t AS (INSERT INTO all_ticks SELECT (SELECT count(*) FROM all_ticks) + n, chr(97 + s::int % 2), s::int % 5, at(s) FROM unnest(seconds) WITH ORDINALITY u(s, n) RETURNING *)
  INSERT INTO ticks SELECT * FROM t ORDER BY id $$;
-- that they are in, without asking to see them
CREATE PROCEDURE taken_in() LANGUAGE plpgsql AS $$
DECLARE events bigint; BEGIN
  WHILE clock_timestamp() < statement_timestamp() + interval '60 seconds' LOOP
    IF (SELECT bool_and(events_in = (SELECT count(*) FROM all_ticks)) FROM pipeline.stat_views WHERE view::text ~ '^slow|^fast') THEN RETURN; END IF;
    COMMIT;
  END LOOP; RAISE 'not taken in'; END $$;
CREATE FUNCTION wait_for_all() RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE v regclass; BEGIN
  FOREACH v IN ARRAY '{slow,slow_hop,slow_total,slow_all,slow_three,fast}'::regclass[] LOOP
    IF NOT pipeline.wait_for(v) OR NOT pipeline.verify_state(v) THEN RAISE 'not %', v; END IF;
  END LOOP; RETURN true; END $$;
-- what each view shows and what it should show at once
CREATE VIEW counts AS SELECT (SELECT sum(n) FROM slow) AS slow, (SELECT sum(n) FROM slow_hop) AS hop, (SELECT sum(n) FROM slow_total) AS total,
  (SELECT n FROM slow_all) AS all_of_them, (SELECT sum(n) FROM slow_three) AS three, (SELECT sum(n) FROM fast) AS fast;

SELECT wait_for_all();
SELECT insert_ticks(1, 2, 3);
SELECT wait_for_all();   -- whoever waits sees all of it
TABLE counts;
SELECT insert_ticks(4, 5);
CALL taken_in();
TABLE counts;            -- 5 is the third event of b: that window is complete, and shown
SELECT bool_and(pipeline.verify_state(v)) FROM unnest('{slow,slow_hop,slow_total,slow_all,slow_three,fast}'::regclass[]) v;
-- another worker finds what is owed
SELECT bool_and(pg_terminate_backend(pid)) FROM (SELECT DISTINCT pid FROM pipeline.stat_views WHERE pid IS NOT NULL) p;
SELECT insert_ticks(5.5);
CALL taken_in();
TABLE counts;
SELECT wait_for_all();
TABLE counts;
-- windows that close are shown at once, whatever the interval
SELECT insert_ticks(6, 6.5, 7);
CALL taken_in();
SELECT insert_ticks(11);
CALL taken_in();
SELECT * FROM slow WHERE upper(w) <= pipeline.watermark('slow') ORDER BY k;
SELECT k, w, count(*) AS n, sum(v) AS v, count(DISTINCT v) AS d FROM (SELECT *, pipeline.tumble(at, '10 seconds') AS w FROM all_ticks) a WHERE upper(w) <= at(10) GROUP BY k, w ORDER BY k;
SELECT (SELECT sum(n) FROM slow) AS slow, (SELECT n FROM slow_all) AS all_of_them, (SELECT sum(n) FROM fast) AS fast;
-- time passes, no events come
DO $$ BEGIN PERFORM pipeline.shift_clock('11 minutes'); WHILE clock_timestamp() < statement_timestamp() + interval '60 seconds' LOOP
  IF (SELECT sum(n) FROM slow_hop) = 20 AND (SELECT n FROM slow_all) = 10 AND (SELECT sum(n) FROM slow) = 10 THEN RETURN; END IF; END LOOP; RAISE 'not refreshed'; END $$;
TABLE counts;
-- a shorter interval, and none
ALTER VIEW slow_total SET (pipeline.emit_interval = '20 minutes');
SELECT insert_ticks(12);
CALL taken_in();
SELECT insert_ticks(13);
CALL taken_in();
SELECT sum(n) FROM slow_total;
ALTER VIEW slow_total RESET (pipeline.emit_interval);
SELECT insert_ticks(14);
CALL taken_in();
SELECT sum(n) FROM slow_total;
SELECT pipeline.advance_watermark('ticks', 'infinity');
SELECT wait_for_all();
-- in the end all is what it would be without
CREATE VIEW differ AS SELECT 'slow', count(*) FROM (TABLE slow EXCEPT SELECT k, pipeline.tumble(at, '10 seconds') AS w, count(*), sum(v), count(DISTINCT v) FROM all_ticks GROUP BY 1, 2) d
UNION ALL SELECT 'hop', count(*) FROM (TABLE slow_hop EXCEPT SELECT k, h, count(*), max(v::text) FROM all_ticks, pipeline.hop(at, '20 seconds', '10 seconds') h GROUP BY 1, 2) d
UNION ALL SELECT 'three', count(*) FROM (TABLE slow_three EXCEPT SELECT k, w, count(*), sum(v) FROM (SELECT *, row_number() OVER (PARTITION BY k ORDER BY id) AS i FROM all_ticks) a,
  generate_series(1, 100) w WHERE i > (w - 1) * 2 AND i <= (w - 1) * 2 + 3 GROUP BY 1, 2) d;
TABLE differ;
SELECT count(*) FROM slow;
SELECT view, windows_closed, open_windows FROM pipeline.stat_views WHERE view::text IN ('slow', 'slow_hop', 'slow_three') ORDER BY view::text;

-- refused
CREATE VIEW no WITH (pipeline.continuous, pipeline.emit_interval = '1 second') AS SELECT k, count(*) FROM ticks GROUP BY k, pipeline.tumble(at, '1 minute');
CREATE VIEW no WITH (pipeline.continuous, pipeline.emit_interval = '1 second', pipeline.allowed_lateness = '1 second') AS SELECT k, count(*) FROM ticks GROUP BY k, pipeline.tumble(at, '1 minute');
CREATE VIEW no WITH (pipeline.continuous, pipeline.emit_interval = '1 second') AS SELECT k FROM ticks;
CREATE VIEW no WITH (pipeline.continuous, pipeline.emit_interval = '-1 second') AS SELECT k, count(*) FROM ticks GROUP BY k;
CREATE VIEW no WITH (pipeline.continuous, pipeline.emit_interval = '1 month') AS SELECT k, count(*) FROM ticks GROUP BY k;
SET client_min_messages = warning;
CREATE VIEW closing WITH (pipeline.continuous) AS SELECT k, count(*) FROM ticks GROUP BY k, pipeline.tumble(at, '1 minute');
ALTER VIEW closing SET (pipeline.emit_interval = '1 second');
DROP VIEW differ, counts, closing, slow, slow_hop, slow_total, slow_all, slow_three, fast;
DROP FUNCTION insert_ticks, wait_for_all, at;
DROP PROCEDURE taken_in;
DROP FOREIGN TABLE ticks;
DROP TABLE all_ticks;
