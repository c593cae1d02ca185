-- Without this: windows would close too early, too late or twice, or hold other events than those in them.
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
CREATE FOREIGN TABLE w_events (at timestamptz, k text, n int, x float8, pos bigint OPTIONS (metadata 'offset'))
SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '10 seconds');
CREATE VIEW w_tumble WITH (pipeline.continuous) AS
SELECT k, pipeline.tumble(at, '1 minute') AS w, count(*) AS n, count(x) AS nx, sum(n) AS s, min(n) AS lo, max(x) AS hi,
  avg(n) AS mean, stddev(x) AS dev, bool_and(n > 1) AS big, count(*) FILTER (WHERE n > 2) AS over_two
FROM w_events GROUP BY k, w;
CREATE VIEW w_origin WITH (pipeline.continuous) AS
SELECT pipeline.tumble(at, '1 minute', '2000-01-01 00:00:30+00') AS w, count(*) AS n FROM w_events GROUP BY w;
CREATE VIEW w_bin WITH (pipeline.continuous) AS
SELECT date_bin('30 seconds', at, '2000-01-01+00') AS start, count(*) AS n FROM w_events GROUP BY start;
CREATE VIEW w_hour WITH (pipeline.continuous) AS
SELECT date_trunc('hour', at) AS hour, count(*) AS n FROM w_events GROUP BY 1;
CREATE VIEW w_day WITH (pipeline.continuous) AS
SELECT date_trunc('day', at, 'America/New_York') AS day, count(*) AS n FROM w_events GROUP BY 1;
CREATE VIEW w_bounds WITH (pipeline.continuous) AS
SELECT lower(pipeline.tumble(at, '1 minute')) AS from_time, upper(pipeline.tumble(at, '1 minute')) AS to_time, sum(n) AS s
FROM w_events GROUP BY 1, 2;
-- aggregates that cannot be kept incrementally, and events as they are: rows are kept until the window closes
CREATE VIEW w_rows WITH (pipeline.continuous) AS
SELECT k, pipeline.tumble(at, '1 minute') AS w, array_agg(n ORDER BY pos) AS all_n, string_agg(n::text, ',' ORDER BY n) AS sorted,
  count(DISTINCT n) AS different, percentile_disc(0.5) WITHIN GROUP (ORDER BY n) AS median, mode() WITHIN GROUP (ORDER BY k) AS mode
FROM w_events GROUP BY k, w;
CREATE VIEW w_distinct WITH (pipeline.continuous) AS
SELECT DISTINCT pipeline.tumble(at, '1 minute') AS w, k FROM w_events;

INSERT INTO w_events (at, k, n, x) VALUES
  ('2024-03-10 04:59:00', 'a', 1, 1.5), ('2024-03-10 04:59:59.999999', 'a', 3, NULL), ('2024-03-10 04:59:30', NULL, 2, 2),
  ('2024-03-10 05:00:00', 'a', 5, 4), ('2024-03-10 05:00:09.999999', 'b', NULL, 'NaN');
SELECT pipeline.wait_for('w_tumble'), pipeline.wait_for('w_rows');
-- one microsecond before the watermark reaches the end of the first minute
SELECT count(*) FROM w_tumble;
SELECT pipeline.watermark('w_tumble');
INSERT INTO w_events (at, k, n) VALUES ('2024-03-10 04:59:59', 'a', 3), ('2024-03-10 05:00:10', 'c', 1);
SELECT pipeline.wait_for(v) FROM unnest('{w_tumble,w_origin,w_bin,w_hour,w_day,w_bounds,w_rows,w_distinct}'::regclass[]) v;
SELECT * FROM w_tumble ORDER BY k;
SELECT * FROM w_origin;
SELECT * FROM w_bin;
SELECT * FROM w_hour;
SELECT * FROM w_day;
SELECT * FROM w_bounds;
SELECT * FROM w_rows ORDER BY k;
SELECT * FROM w_distinct ORDER BY k;

-- late is judged per event and window, against the watermark when the event came
INSERT INTO w_events (at, k, n) VALUES ('2024-03-10 04:59:59.999999', 'late', 1), ('2024-03-10 05:00:00', 'in time', 1);
SELECT pipeline.wait_for('w_tumble'), pipeline.wait_for('w_hour'), pipeline.wait_for('w_day');
SELECT at, k, n, x, late_windows, watermark, partition FROM w_tumble_late;
SELECT at, late_windows FROM w_hour_late;
SELECT count(*) AS late_for_the_day FROM w_day_late;

-- events that come together close windows between them
INSERT INTO w_events (at, k, n) VALUES
  ('2024-03-10 05:01:00', 'd', 1), ('2024-03-10 05:03:00', 'd', 2), ('2024-03-10 05:01:30', 'd', 4), ('2024-03-10 05:02:50', 'd', 8),
  ('2024-03-10 05:05:00', 'd', 16);
SELECT pipeline.wait_for('w_tumble');
SELECT k, w, n, s FROM w_tumble WHERE k = 'd' ORDER BY w;
SELECT at, n, watermark FROM w_tumble_late WHERE k = 'd';
SELECT events_in, late, windows_closed FROM pipeline.stat_views WHERE view = 'w_tumble'::regclass;

-- days of a zone that changes its clocks: 23 hours
SELECT pipeline.advance_watermark('w_events', 'infinity');
SELECT eventually('SELECT count(*) = 2 FROM w_day');
SELECT day, n FROM w_day ORDER BY day;
SELECT pipeline.watermark('w_day');
DROP FOREIGN TABLE w_events CASCADE;

-- timestamp without time zone counts as UTC
CREATE FOREIGN TABLE w_local_time (at timestamp, n int) SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '0');
CREATE VIEW w_plain WITH (pipeline.continuous) AS
SELECT pipeline.tumble(at, '1 hour') AS w, sum(n) AS s FROM w_local_time GROUP BY w;
INSERT INTO w_local_time VALUES ('2024-01-01 00:30', 1), ('2024-01-01 01:00', 2), ('2024-01-01 00:59', 4);
SELECT pipeline.wait_for('w_plain');
SELECT * FROM w_plain;
SELECT at, late_windows FROM w_plain_late;
\d w_plain_late
DROP FOREIGN TABLE w_local_time CASCADE;

-- a stream that has gone quiet closes its windows by itself
CREATE FOREIGN TABLE w_idle (at timestamptz) SERVER pipeline_local
  OPTIONS (event_time 'at', out_of_orderness '1 hour', idle_timeout '100 ms');
CREATE VIEW w_quiet WITH (pipeline.continuous) AS
SELECT pipeline.tumble(at, '1 minute') AS w, count(*) AS n FROM w_idle GROUP BY w;
INSERT INTO w_idle VALUES ('2024-01-01 00:00:30');
SELECT eventually('SELECT count(*) = 1 FROM w_quiet');
SELECT * FROM w_quiet;
SELECT pipeline.watermark('w_quiet');
DROP FOREIGN TABLE w_idle CASCADE;

-- the event time may be computed
CREATE FOREIGN TABLE w_generated (bid_at timestamptz, ask_at timestamptz,
  at timestamptz GENERATED ALWAYS AS (coalesce(bid_at, ask_at)) STORED)
SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '0');
CREATE VIEW w_computed WITH (pipeline.continuous) AS
SELECT pipeline.tumble(at, '1 minute') AS w, count(bid_at) AS bids, count(ask_at) AS asks FROM w_generated GROUP BY w;
INSERT INTO w_generated (bid_at, ask_at) VALUES ('2024-01-01 00:00', NULL), (NULL, '2024-01-01 00:00:30'), (NULL, '2024-01-01 00:01');
SELECT pipeline.wait_for('w_computed');
SELECT * FROM w_computed;
DROP FOREIGN TABLE w_generated CASCADE;
DROP FUNCTION eventually(text);
