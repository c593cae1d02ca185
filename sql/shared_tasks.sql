-- Without this: views that share a task would share what is each one's own - watermark, lateness, counters,
-- dead letters - or would not show who runs them.
SET timezone = 'UTC';
CREATE FUNCTION eventually(query text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE answer boolean;
BEGIN
  WHILE clock_timestamp() < statement_timestamp() + interval '60 seconds' LOOP
    EXECUTE query INTO answer;
    IF answer THEN RETURN true; END IF;
  END LOOP;
  RETURN false;
END $$;
CREATE FOREIGN TABLE st_events (at timestamptz, k text, n int) SERVER pipeline_local
  OPTIONS (event_time 'at', out_of_orderness '0', idle_timeout 'off');
BEGIN;
CREATE VIEW st_minutes WITH (pipeline.continuous) AS
SELECT pipeline.tumble(at, '1 minute') AS w, count(*) AS n FROM st_events GROUP BY w;
CREATE VIEW st_hours WITH (pipeline.continuous) AS
SELECT pipeline.tumble(at, '1 hour') AS w, sum(n) AS s FROM st_events GROUP BY w;
CREATE VIEW st_rows WITH (pipeline.continuous) AS SELECT k, n FROM st_events WHERE n > 10;
CREATE VIEW st_failing WITH (pipeline.continuous) AS SELECT k, 10 / n AS q FROM st_events;
COMMIT;
CREATE VIEW st_together AS
SELECT count(DISTINCT task) = 1 AND count(task) = count(*) AS yes FROM pipeline.views WHERE streams = ARRAY['st_events'::regclass];
SELECT eventually('TABLE st_together');
SELECT view = ANY (views) AS leads, views FROM pipeline.stat_workers WHERE 'st_rows'::regclass = ANY (views);
SELECT count(*), count(DISTINCT pid) FROM pipeline.stat_views;

INSERT INTO st_events VALUES ('2024-01-01 00:00:00', 'a', 1), ('2024-01-01 00:00:30', 'b', 20), ('2024-01-01 00:01:00', 'c', 3);
SELECT pipeline.wait_for(view) FROM pipeline.views;
SELECT view, events_in, filtered, late, rows_out, windows_closed, watermark FROM pipeline.stat_views ORDER BY view::text;
SELECT view, start_offset, next_offset, lag FROM pipeline.stat_partitions ORDER BY view::text;

-- each view's watermark goes to the end of its own last window; what is late for one is not for another
SELECT pipeline.advance_watermark('st_events', 'infinity');
SELECT eventually('SELECT bool_and(advance_to IS NULL) FROM pipeline.views');
SELECT view, watermark FROM pipeline.stat_views ORDER BY view::text;
SELECT eventually('TABLE st_together');
INSERT INTO st_events VALUES ('2024-01-01 00:05:00', 'd', 4), ('2024-01-01 00:01:30', 'e', 50), ('2024-01-01 00:06:00', 'f', 6);
SELECT pipeline.wait_for(view) FROM pipeline.views;
SELECT view, late FROM pipeline.stat_views ORDER BY view::text;
SELECT * FROM st_minutes ORDER BY w;
SELECT * FROM st_hours;
SELECT at, watermark FROM st_minutes_late;
SELECT at, n, watermark FROM st_hours_late ORDER BY at;

-- a record on which one of them fails
INSERT INTO st_events VALUES ('2024-01-01 00:07:00', 'g', 0), ('2024-01-01 01:00:00', 'h', 70);
SELECT pipeline.wait_for(view) FROM pipeline.views;
SELECT view, "offset", message FROM pipeline.dead_letters;
SELECT * FROM st_rows ORDER BY n;
SELECT k, q FROM st_failing ORDER BY k;
SELECT view, events_in, dead_letters, watermark FROM pipeline.stat_views ORDER BY view::text;

-- another owner's view never shares
CREATE ROLE regress_st_other;
GRANT SELECT ON st_events TO regress_st_other;
GRANT CREATE ON SCHEMA public TO regress_st_other;
SET ROLE regress_st_other;
CREATE VIEW st_other WITH (pipeline.continuous) AS SELECT k FROM st_events;
RESET ROLE;
SELECT pipeline.wait_for('st_other');
SELECT a.task <> b.task AS apart FROM pipeline.views a, pipeline.views b WHERE a.view = 'st_other'::regclass AND b.view = 'st_rows'::regclass;
DROP OWNED BY regress_st_other;
DROP ROLE regress_st_other;
SELECT pipeline.wait_for('st_rows');
DROP VIEW st_together;
DROP FOREIGN TABLE st_events CASCADE;
DROP FUNCTION eventually(text);
