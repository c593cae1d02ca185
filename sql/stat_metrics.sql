-- Without this: a rate, a latency or a share of time could stand still, be another view's, or never forget.
-- The clock by which they fade is shifted, so that minutes pass at once.
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
CREATE FOREIGN TABLE sm_events (at timestamptz, n int) SERVER pipeline_local
  OPTIONS (event_time 'at', out_of_orderness '0', idle_timeout 'off');
CREATE VIEW sm_view WITH (pipeline.continuous) AS
SELECT pipeline.tumble(at, '1 minute') AS w, count(*) AS n, sum(10 / n) AS s FROM sm_events GROUP BY w;
CREATE VIEW sm AS SELECT * FROM pipeline.stat_views WHERE view = 'sm_view'::regclass;
SELECT pipeline.wait_for('sm_view');

-- nothing has happened
SELECT events_per_second, bytes_per_second, rows_out_per_second, dead_letters_per_second, errors, errors_per_second, backpressure,
  processing_latency_p99, end_to_end_latency_p99, last_event_at, stats_reset, watermark_lag FROM sm;

SELECT eventually($$SELECT activity = 'waiting for events' FROM sm$$);
SELECT a.application_name, a.backend_type, a.state, a.query, a.wait_event_type FROM pg_stat_activity a JOIN sm USING (pid);

-- rates: of the last second of a young view, then an average that fades by 1/e in one minute and in fifteen
INSERT INTO sm_events SELECT '2024-01-01Z'::timestamptz + i * interval '1 minute', i FROM generate_series(0, 299) i;
SELECT pipeline.wait_for('sm_view');
SELECT events_per_second BETWEEN 2 AND 310 AS events, events_per_second_15min BETWEEN 2 AND 310 AS events_15,
  rows_out_per_second BETWEEN 2 AND 310 AS rows_out, dead_letters_per_second BETWEEN 0.005 AND 1.1 AS dead_letters,
  last_event_at > now() - interval '1 hour' AS seen, lag, lag_time, lag_change_per_second, backpressure FROM sm;
SELECT pipeline.shift_clock('20 minutes') IS NOT NULL AS shifted;
CREATE TEMP TABLE sm_before AS SELECT * FROM sm;
SELECT events_per_second AS events, round(events_per_second_15min::numeric, 1) AS events_15 FROM sm_before;
SELECT pipeline.shift_clock('15 minutes') IS NOT NULL AS shifted;
-- exp(-1) by time, and as the average is of 35 minutes and no more of 20: (1 - exp(-20/15)) / (1 - exp(-35/15))
SELECT round((a.events_per_second_15min / b.events_per_second_15min)::numeric, 2) AS faded,
  a.last_event_at = b.last_event_at AS same_event FROM sm a, sm_before b;

-- percentiles: ten rows have waited for an hour, ninety have not; exact to a sixteenth
SELECT processing_latency_p50, end_to_end_latency_p50, commit_time_p50 FROM sm;   -- older than four minutes: forgotten
SELECT pipeline.pause('sm_view');
INSERT INTO sm_events SELECT '2024-01-02Z'::timestamptz, 1 FROM generate_series(1, 10) i;
SELECT pipeline.shift_clock('1 hour') IS NOT NULL AS shifted;
INSERT INTO sm_events SELECT '2024-01-02 00:00:01Z'::timestamptz, 1 FROM generate_series(1, 90) i;
SELECT lag, lag_time, activity FROM sm;                                           -- nobody looks
SELECT pipeline.resume('sm_view');
SELECT pipeline.wait_for('sm_view');
SELECT end_to_end_latency_p50 < '2 minutes' AS p50, end_to_end_latency_p95 BETWEEN '56 minutes' AND '65 minutes' AS p95,
  end_to_end_latency_p99 BETWEEN '56 minutes' AND '65 minutes' AS p99,
  processing_latency_p50 BETWEEN '1 us' AND '1 minute' AS processing, processing_latency_p50 <= processing_latency_p99 AS ordered,
  commit_time_p50 BETWEEN '1 us' AND '1 minute' AS commit_time, lag, lag_time FROM sm;

-- the watermark's distance from the clock
CREATE TEMP TABLE sm_lag AS SELECT watermark_lag FROM sm;
SELECT pipeline.shift_clock('10 minutes') IS NOT NULL AS shifted;
SELECT a.watermark_lag - b.watermark_lag BETWEEN '10 minutes' AND '12 minutes' AS grown FROM sm a, sm_lag b;
INSERT INTO sm_events SELECT now(), 1;
SELECT pipeline.wait_for('sm_view');
SELECT b.watermark_lag - a.watermark_lag > '1 year' AS shrunk FROM sm a, sm_lag b;
SELECT pipeline.pause('sm_view');
INSERT INTO sm_events SELECT now(), 1;
SELECT pipeline.shift_clock('1 hour') IS NOT NULL AS shifted;
SELECT pipeline.resume('sm_view');
SELECT pipeline.wait_for('sm_view');

-- a worker's error counts, and a new worker goes on counting
SELECT errors, errors_per_second FROM sm;
SELECT pg_cancel_backend(pid) FROM sm;
SELECT eventually('SELECT errors = 1 AND errors_per_second > 0 FROM sm');
SELECT eventually($$SELECT activity = 'waiting for events' FROM sm$$);
SELECT pg_terminate_backend(pid, 60000) FROM sm;
SELECT eventually($$SELECT activity = 'waiting for events' FROM sm$$);
SELECT errors, events_per_second > 0 AS events, end_to_end_latency_p99 > '50 minutes' AS latency, last_error FROM sm;

-- shares of time: full batches are backpressure, and there was none before; the parts make up the whole
SELECT backpressure FROM sm;
SELECT pipeline.stat_reset('sm_view');
INSERT INTO sm_events SELECT '2024-01-03Z'::timestamptz, 1 FROM generate_series(1, 200000) i;
SELECT pipeline.wait_for('sm_view');
SELECT backpressure > 0 AS backpressure, backpressure <= busy AS less, busy BETWEEN 0.001 AND 1 AS busy, cpu > 0 AS cpu, decode_share > 0 AS decode,
  stage_share > 0 AS stage, operator_share > 0 AS operator,
  abs(busy - decode_share - stage_share - operator_share - close_share - commit_share - other_share) < 0.01 AS whole FROM sm;
SELECT records_per_second > 0 AS records, lag_time FROM pipeline.stat_partitions WHERE view = 'sm_view'::regclass;
SELECT events_per_second > 0 AS events, bytes_per_second, busy > 0 AS busy, backpressure > 0 AS backpressure, cpu > 0 AS cpu
FROM pipeline.stat_workers WHERE view = 'sm_view'::regclass;

-- reset: what is measured begins anew, what is accounted for stays
SELECT stats_reset > now() - interval '1 hour' AS reset, errors, last_error, longest_commit_time > '0' AS longest FROM sm;
CREATE TEMP TABLE sm_counted AS SELECT * FROM sm;
SELECT pipeline.stat_reset();
SELECT a.events_in = b.events_in AS events_in, a.dead_letters = b.dead_letters AS dead_letters, a.checkpoints >= b.checkpoints AS checkpoints,
  a.events_per_second, a.end_to_end_latency_p99, a.longest_commit_time, a.last_event_at, a.stats_reset > b.stats_reset AS again FROM sm a, sm_counted b;

-- by the owner, or a superuser; without a view of what one owns
CREATE ROLE regress_reader IN ROLE pg_monitor;
SET ROLE regress_reader;
SELECT pipeline.stat_reset('sm_view');
CREATE TEMP TABLE sm_seen AS SELECT stats_reset FROM pipeline.stat_views WHERE view::text = 'sm_view';
SELECT pipeline.stat_reset();
SELECT a.stats_reset = b.stats_reset AS untouched FROM pipeline.stat_views a, sm_seen b WHERE view::text = 'sm_view';
RESET ROLE;
SELECT pipeline.stat_reset('sm_events');

-- views that share a worker have metrics of their own
CREATE VIEW sm_other WITH (pipeline.continuous) AS SELECT n FROM sm_events WHERE n > 1000000;
SELECT pipeline.wait_for('sm_other');
SELECT eventually($$SELECT count(DISTINCT task) = 1 AND count(task) = 2 FROM pipeline.views WHERE view::text ~ '^sm_'$$);
SELECT pipeline.stat_reset('sm_other');
SELECT pipeline.pause('sm_other');
INSERT INTO sm_events SELECT '2024-01-03Z'::timestamptz, 1 FROM generate_series(1, 50) i;
SELECT pipeline.wait_for('sm_view');
SELECT view, events_per_second > 0 AS events FROM pipeline.stat_views WHERE view::text ~ '^sm_' ORDER BY view::text;
SELECT pipeline.resume('sm_other');
SELECT pipeline.wait_for('sm_other');
SELECT view, events_per_second > 0 AS events, end_to_end_latency_p50 >= '0' AS latency FROM pipeline.stat_views WHERE view::text ~ '^sm_' ORDER BY view::text;
DROP TABLE sm_before, sm_lag, sm_counted, sm_seen;
DROP ROLE regress_reader;
DROP VIEW sm, sm_view, sm_other;
DROP FOREIGN TABLE sm_events;
DROP FUNCTION eventually;
