-- Without this: views could not be paused, waited for or closed, or would lose or repeat events by it.
SET timezone = 'UTC';
CREATE FUNCTION eventually(query text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE answer boolean;
BEGIN
  WHILE clock_timestamp() < statement_timestamp() + interval '30 seconds' LOOP
    EXECUTE query INTO answer;
    IF answer THEN RETURN true; END IF;
  END LOOP;
  RETURN false;
END $$;
CREATE FOREIGN TABLE f_events (at timestamptz, k text) SERVER pipeline_local
  OPTIONS (event_time 'at', out_of_orderness '10 seconds');
CREATE VIEW f_minutes WITH (pipeline.continuous) AS
SELECT k, pipeline.tumble(at, '1 minute') AS period, count(*) AS n FROM f_events GROUP BY k, period;
CREATE VIEW f_totals WITH (pipeline.continuous, pipeline.emit = 'changes') AS
SELECT k, count(*) AS n FROM f_events GROUP BY k;

-- wait_for and watermark
SELECT pipeline.wait_for('f_minutes');
SELECT pipeline.watermark('f_minutes');
INSERT INTO f_events VALUES ('2024-01-01 00:00:05', 'a'), ('2024-01-01 00:00:55', 'a'), ('2024-01-01 00:01:05', 'b');
SELECT pipeline.wait_for('f_minutes'), pipeline.wait_for('f_totals', '30 seconds');
SELECT pipeline.watermark('f_minutes');
SELECT * FROM f_minutes;
SELECT * FROM f_totals ORDER BY k;
INSERT INTO f_events VALUES ('2024-01-01 00:01:10', 'b');
SELECT pipeline.wait_for('f_minutes'), pipeline.wait_for('f_totals');
SELECT pipeline.watermark('f_minutes');
SELECT *, upper(period) <= pipeline.watermark('f_minutes') AS final FROM f_minutes ORDER BY k;

-- pause and resume: nothing is processed meanwhile, nothing is lost or repeated
SELECT pipeline.pause('f_totals');
SELECT pipeline.pause('f_totals');
SELECT eventually($$SELECT pid IS NULL FROM pipeline.stat_views WHERE view = 'f_totals'::regclass$$);
SELECT state FROM pipeline.views WHERE view = 'f_totals'::regclass;
INSERT INTO f_events VALUES ('2024-01-01 00:01:11', 'b'), ('2024-01-01 00:01:12', 'c');
SELECT pipeline.wait_for('f_minutes');
SELECT pipeline.wait_for('f_totals');
SELECT * FROM f_totals ORDER BY k;
SELECT pipeline.resume('f_totals');
SELECT pipeline.resume('f_totals');
SELECT pipeline.wait_for('f_totals');
SELECT * FROM f_totals ORDER BY k;
-- a rollback takes it back
BEGIN;
SELECT pipeline.pause('f_totals');
ROLLBACK;
SELECT state FROM pipeline.views WHERE view = 'f_totals'::regclass;
-- nobody would tell the workers when a prepared transaction commits
BEGIN;
SELECT pipeline.pause('f_totals');
PREPARE TRANSACTION 'f_pause';
SELECT state FROM pipeline.views WHERE view = 'f_totals'::regclass;
INSERT INTO f_events VALUES ('2024-01-01 00:01:13', 'c');
SELECT pipeline.wait_for('f_totals'), pipeline.wait_for('f_minutes');
SELECT * FROM f_totals ORDER BY k;

-- advance_watermark closes what is open; what comes after it is late
SELECT pipeline.advance_watermark('f_events', '2024-01-01 00:02');
SELECT eventually($$SELECT count(*) = 3 FROM f_minutes$$);
SELECT * FROM f_minutes ORDER BY lower(period), k;
SELECT pipeline.watermark('f_minutes');
INSERT INTO f_events VALUES ('2024-01-01 00:01:59', 'c'), ('2024-01-01 00:02:00', 'c');
SELECT pipeline.wait_for('f_minutes');
SELECT k, at, late_windows, watermark, partition FROM f_minutes_late;
SELECT pipeline.advance_watermark('f_events', 'infinity');
SELECT eventually($$SELECT count(*) = 4 FROM f_minutes$$);
SELECT pipeline.watermark('f_minutes');
INSERT INTO f_events VALUES ('2024-01-01 00:03:00', 'd');
SELECT pipeline.wait_for('f_minutes');
SELECT late FROM pipeline.stat_views WHERE view = 'f_minutes'::regclass;

-- a table for late rows can be stopped and started
ALTER VIEW f_minutes SET (pipeline.late = 'drop');
INSERT INTO f_events VALUES ('2024-01-01 00:00:01', 'dropped');
SELECT pipeline.wait_for('f_minutes');
ALTER VIEW f_minutes RESET (pipeline.late);
INSERT INTO f_events VALUES ('2024-01-01 00:00:02', 'stored');
SELECT pipeline.wait_for('f_minutes');
SELECT k FROM f_minutes_late ORDER BY k;
SELECT late FROM pipeline.stat_views WHERE view = 'f_minutes'::regclass;

-- wrong arguments
SELECT pipeline.pause('f_events');
SELECT pipeline.resume('pg_class');
SELECT pipeline.wait_for('f_minutes_late');
SELECT pipeline.watermark(0);
SELECT pipeline.advance_watermark('f_minutes', now());
SELECT pipeline.advance_watermark('f_events', '-infinity');
SELECT pipeline.pause(NULL) IS NULL;
CREATE FOREIGN TABLE f_unread (k text) SERVER pipeline_local;
SELECT pipeline.advance_watermark('f_unread', 'infinity');
BEGIN;
CREATE VIEW f_new WITH (pipeline.continuous) AS SELECT k FROM f_unread;
SELECT pipeline.wait_for('f_new');
ROLLBACK;
SELECT pipeline.pause('f_totals');
SELECT pipeline.wait_for('f_totals', '0');

-- explain tells the stages
SELECT count(*) > 5 AS has_lines,
  bool_or(line ILIKE '%foreign scan%f_events%') AS shows_plan
FROM pipeline.explain('f_minutes') AS line;

DROP FOREIGN TABLE f_events, f_unread CASCADE;
DROP FUNCTION eventually(text);

-- the clock that tests shift: forward only, and by superusers
SELECT pipeline.shift_clock('-1 second');
SELECT pipeline.shift_clock('1 month');
SELECT pipeline.shift_clock('300 years');
SELECT pipeline.shift_clock('40000 days');
SELECT pipeline.shift_clock('0') >= '0' AS not_back;
SELECT pipeline.shift_clock(NULL) IS NULL AS nothing;
