-- Without this: one could not see what a view has done, or counts would not add up to the events read.
SET timezone = 'UTC';
CREATE FOREIGN TABLE m_events (at timestamptz, k text, n int) SERVER pipeline_local
  OPTIONS (event_time 'at', out_of_orderness '0');
CREATE TABLE m_labels (k text PRIMARY KEY, label text);
INSERT INTO m_labels VALUES ('a', 'alpha'), ('b', 'beta');
CREATE VIEW m_view WITH (pipeline.continuous) AS
SELECT label, pipeline.tumble(at, '1 minute') AS period, sum(100 / n) AS s
FROM m_events JOIN m_labels USING (k) WHERE k <> 'filtered' GROUP BY label, period;

INSERT INTO m_events VALUES
  ('2024-01-01 00:00:00', 'a', 1),         -- counted
  ('2024-01-01 00:00:01', 'b', 1),         -- counted
  ('2024-01-01 00:00:02', 'filtered', 1),
  ('2024-01-01 00:00:03', 'unmatched', 1),
  ('2024-01-01 00:00:04', 'a', 0),         -- dead letter
  ('2024-01-01 00:01:00', 'a', 1),         -- closes the first window
  ('2024-01-01 00:00:59', 'a', 1),         -- late
  (NULL, 'a', 1);                          -- dead letter: no time
SELECT pipeline.wait_for('m_view');
SELECT * FROM m_view ORDER BY label;
SELECT state, reason, events_in, filtered, unmatched, late, dead_letters, skipped, lost, rows_out,
  windows_closed, watermark, groups, open_windows, failures, last_error
FROM pipeline.stat_views WHERE view = 'm_view'::regclass;
SELECT pid > 0 AS pid, bytes_in >= 0 AS bytes, checkpoints > 0 AS checkpoints, last_checkpoint_at > now() - interval '1 hour' AS recent,
  last_checkpoint_time > '0' AS last_time, mean_checkpoint_time > '0' AS mean_time, state_bytes > 0 AS state_bytes,
  chunk_bytes >= live_chunk_bytes AND live_chunk_bytes > 0 AS chunk_bytes
FROM pipeline.stat_views WHERE view = 'm_view'::regclass;
SELECT view, stream, partition, start_offset, next_offset, lag, max_event_time, max_disorder, idle, unreachable
FROM pipeline.stat_partitions WHERE view = 'm_view'::regclass;
SELECT kind, database = current_database() AS here, view FROM pipeline.stat_workers
WHERE kind = 'launcher' OR view = 'm_view'::regclass ORDER BY kind;
SELECT backend_type, datname = current_database() AS here FROM pg_stat_activity a
JOIN pipeline.stat_workers w USING (pid) WHERE w.view = 'm_view'::regclass;
SELECT view, stream, partition, sqlstate, message FROM pipeline.dead_letters ORDER BY "offset";

-- what is counted is what was read
SELECT s.events_in = p.next_offset - p.start_offset AS all_counted
FROM pipeline.stat_views s JOIN pipeline.stat_partitions p USING (view) WHERE view = 'm_view'::regclass;

-- a paused view shows its committed numbers
SELECT pipeline.pause('m_view');
SELECT state, events_in, late FROM pipeline.stat_views WHERE view = 'm_view'::regclass;
DROP VIEW m_view;
SELECT count(*) FROM pipeline.stat_views;
SELECT count(*) FROM pipeline.stat_partitions;
SELECT count(*) FROM pipeline.dead_letters;
DROP FOREIGN TABLE m_events;
DROP TABLE m_labels;
