-- What users see of their continuous views.
--
-- The tables beneath are closed to users; these views open to each role the rows of the continuous
-- views that it owns, statistics also to members of pg_read_all_stats.  Functions in a view run
-- with the rights of its reader, hence the grants; without USAGE on the schema nobody can call
-- them in another way.

CREATE FUNCTION pipeline_data.task_slots(
  OUT database oid, OUT task bigint, OUT pid int, OUT activity text, OUT started_at timestamptz,
  OUT retry_at timestamptz, OUT failures int, OUT watermark timestamptz, OUT last_checkpoint interval,
  OUT state_bytes bigint, OUT groups bigint, OUT open_windows bigint,
  OUT error_at timestamptz, OUT error_code text, OUT error_message text, OUT leader bigint,
  OUT commit_time interval, OUT longest_commit_time interval, OUT saved_groups bigint,
  OUT evictions bigint, OUT loads bigint, OUT state_reused boolean,
  OUT chunk_bytes bigint, OUT live_chunk_bytes bigint, OUT first_end timestamptz)
RETURNS SETOF record LANGUAGE C ROWS 20 AS 'MODULE_PATHNAME', 'cq_task_slots';

CREATE FUNCTION pipeline_data.partition_slots(
  OUT database oid, OUT leader bigint, OUT stream int, OUT partition int, OUT end_offset bigint,
  OUT next_offset bigint, OUT max_event_time timestamptz, OUT idle boolean, OUT unreachable boolean,
  OUT records_per_second float8, OUT lag_time interval)
RETURNS SETOF record LANGUAGE C ROWS 20 AS 'MODULE_PATHNAME', 'cq_partition_slots';

-- Of the positions of one view, put together.
CREATE FUNCTION pipeline_data.metrics(database oid, positions bigint[],
  OUT events_per_second float8, OUT events_per_second_15min float8,
  OUT bytes_per_second float8, OUT bytes_per_second_15min float8, OUT rows_out_per_second float8,
  OUT dead_letters_per_second float8, OUT errors_per_second float8, OUT errors bigint, OUT state_loads_per_second float8,
  OUT lag bigint, OUT lag_time interval, OUT lag_change_per_second float8,
  OUT busy float8, OUT backpressure float8, OUT cpu float8,
  OUT decode_share float8, OUT stage_share float8, OUT operator_share float8, OUT close_share float8,
  OUT commit_share float8, OUT other_share float8,
  OUT processing_latency_p50 interval, OUT processing_latency_p95 interval, OUT processing_latency_p99 interval,
  OUT end_to_end_latency_p50 interval, OUT end_to_end_latency_p95 interval, OUT end_to_end_latency_p99 interval,
  OUT commit_time_p50 interval, OUT commit_time_p95 interval, OUT commit_time_p99 interval,
  OUT last_event_at timestamptz, OUT stats_reset timestamptz, OUT clock timestamptz)
LANGUAGE C STRICT AS 'MODULE_PATHNAME', 'cq_view_metrics';

CREATE FUNCTION pipeline_data.launcher_pid() RETURNS int
LANGUAGE C AS 'MODULE_PATHNAME', 'cq_launcher_pid';

GRANT EXECUTE ON FUNCTION pipeline_data.task_slots(), pipeline_data.partition_slots(),
  pipeline_data.metrics(oid, bigint[]),
  pipeline_data.launcher_pid(), pipeline_data.partitions(bytea) TO PUBLIC;

-- Continuous views of this database with what all views below need of them.
CREATE VIEW pipeline_data.visible_views AS
SELECT v.id, v.view,
  -- of another view's rows, the view
  ARRAY(SELECT COALESCE(s.view, r.stream)
        FROM pg_catalog.unnest(v.streams) WITH ORDINALITY r(stream, n)
        LEFT JOIN pipeline_data.feeds f ON f.relation = r.stream
        LEFT JOIN pipeline_data.views s ON s.id = f.source ORDER BY r.n) AS streams,
  v.query, v.result, v.chunks, v.late, v.options, v.settings, c.relowner,
  t.state, t.reason,
  (SELECT max(a) FROM pg_catalog.unnest(t.advance_to) a) AS advance_to,
  t.database = d.oid AND t.incarnation = i.incarnation AS is_ours,
  d.oid AS database
FROM pipeline_data.views v
JOIN pg_catalog.pg_class c ON c.oid = v.view
JOIN pipeline_data.tasks t ON t.id = v.id
JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database()
CROSS JOIN (SELECT incarnation FROM pipeline_data.identity LIMIT 1) i -- it has one row, which the planner cannot know
WHERE pg_catalog.pg_has_role(c.relowner, 'USAGE')
   OR pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE');

-- What a view is run as: itself and, if it has several workers, its further shards.  Shards without
-- a worker (number is null) still count for what they did.
CREATE VIEW pipeline_data.positions AS
SELECT id AS view, id, 0 AS shard, EXISTS (SELECT FROM pipeline_data.shards s WHERE s.view = v.id) AS sharded
FROM pipeline_data.views v
UNION ALL
SELECT view, id, number, true FROM pipeline_data.shards;

CREATE VIEW pipeline.views WITH (security_barrier) AS
SELECT v.view,
  v.relowner::regrole AS owner,
  v.streams,
  CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_attribute a
                    WHERE a.attrelid = v.result AND a.attname = '_gid' AND a.attnum > 0)
      -- rows of windows that take late events in may change, too, but not before they are complete
      AND ('emit=changes' = ANY (v.options)
           OR NOT EXISTS (SELECT FROM pg_catalog.unnest(v.options) o WHERE o ~ '^(allowed_lateness|keep_closed)=.*[1-9]'))
    THEN 'changes' ELSE 'window_close' END AS emit,
  CASE WHEN v.is_ours THEN v.state ELSE 'not adopted' END AS state,
  v.reason,
  v.options,
  v.settings,
  v.late AS late_table,
  v.advance_to,
  l.view AS task,
  pg_catalog.pg_get_viewdef(v.query::oid) AS query
FROM pipeline_data.visible_views v
LEFT JOIN pipeline_data.task_slots() s ON s.database = v.database AND s.task = v.id
LEFT JOIN pipeline_data.views l ON l.id = s.leader;
COMMENT ON VIEW pipeline.views IS
  'continuous views: definition and state; those with the same task read their stream together';

CREATE VIEW pipeline.stat_views WITH (security_barrier) AS
SELECT v.view,
  CASE WHEN v.is_ours THEN v.state ELSE 'not adopted' END AS state,
  v.reason,
  -- a view without a slot: the server has none left, or nothing runs in it
  COALESCE(p.activity, CASE WHEN NOT v.is_ours OR v.state <> 'running' THEN NULL
    WHEN pg_catalog.pg_is_in_recovery() THEN 'not run in recovery'
    ELSE 'waiting for a task slot' END) AS activity,
  s.pid,
  p.events_in,
  p.filtered,
  p.unmatched,
  p.late,
  p.dead_letters,
  p.retried,
  p.skipped,
  p.lost,
  p.rows_out,
  p.bytes_in,
  p.windows_closed,
  p.rows_expired,
  c.closed_to AS watermark,
  p.checkpoints,
  p.last_checkpoint_at,
  p.last_checkpoint_time,
  p.checkpoint_us / NULLIF(p.checkpoints, 0) * interval '1 microsecond' AS mean_checkpoint_time,
  p.last_commit_time,
  p.longest_commit_time,
  p.saved_groups,
  p.state_bytes,
  p.chunk_bytes,
  p.live_chunk_bytes,
  p.groups,
  p.open_windows,
  p.next_window_end,
  p.state_evictions,
  p.state_loads,
  p.state_reused,
  p.failures,
  p.retry_at,
  e.error_at AS last_error_at,
  e.error_code AS last_error_code,
  e.error_message AS last_error,
  m.errors,
  m.events_per_second,
  m.events_per_second_15min,
  m.bytes_per_second,
  m.bytes_per_second_15min,
  m.rows_out_per_second,
  m.dead_letters_per_second,
  m.errors_per_second,
  m.state_loads_per_second,
  m.lag,
  m.lag_time,
  m.lag_change_per_second,
  m.clock - c.closed_to AS watermark_lag,
  m.processing_latency_p50,
  m.processing_latency_p95,
  m.processing_latency_p99,
  m.end_to_end_latency_p50,
  m.end_to_end_latency_p95,
  m.end_to_end_latency_p99,
  m.commit_time_p50,
  m.commit_time_p95,
  m.commit_time_p99,
  m.busy,
  m.backpressure,
  m.cpu,
  m.decode_share,
  m.stage_share,
  m.operator_share,
  m.close_share,
  m.commit_share,
  m.other_share,
  m.last_event_at,
  m.stats_reset
FROM pipeline_data.visible_views v
JOIN pipeline_data.checkpoints c ON c.task = v.id
LEFT JOIN pipeline_data.task_slots() s ON s.database = v.database AND s.task = v.id
CROSS JOIN LATERAL (
  SELECT sum(c.events_in)::bigint AS events_in, sum(c.filtered)::bigint AS filtered,
    sum(c.unmatched)::bigint AS unmatched, sum(c.late)::bigint AS late,
    sum(c.dead_letters)::bigint AS dead_letters, sum(c.retried)::bigint AS retried, sum(c.skipped)::bigint AS skipped,
    sum(c.lost)::bigint AS lost, sum(c.rows_out)::bigint AS rows_out, sum(c.bytes_in)::bigint AS bytes_in,
    sum(c.windows_closed)::bigint AS windows_closed, sum(c.rows_expired)::bigint AS rows_expired, sum(c.seq)::bigint AS checkpoints,
    max(c.committed_at) AS last_checkpoint_at, sum(c.checkpoint_us)::bigint AS checkpoint_us,
    max(s.last_checkpoint) AS last_checkpoint_time, sum(s.state_bytes)::bigint AS state_bytes,
    sum(s.chunk_bytes)::bigint AS chunk_bytes, sum(s.live_chunk_bytes)::bigint AS live_chunk_bytes,
    sum(s.groups)::bigint AS groups, max(s.open_windows) AS open_windows, min(s.first_end) AS next_window_end,
    max(s.commit_time) AS last_commit_time, max(s.longest_commit_time) AS longest_commit_time,
    sum(s.saved_groups)::bigint AS saved_groups, sum(s.evictions)::bigint AS state_evictions,
    sum(s.loads)::bigint AS state_loads, bool_and(s.state_reused) AS state_reused,
    max(s.failures) AS failures, min(s.retry_at) AS retry_at,
    -- of several workers, the one that keeps the others waiting
    (array_agg(s.activity ORDER BY array_position(ARRAY['stopped',
       'waiting for a background worker slot', 'waiting after an error', 'source unreachable',
       'waiting for a lock', 'not started', 'starting', 'loading state'], s.activity), o.shard)
     FILTER (WHERE o.shard IS NOT NULL))[1] AS activity
  FROM pipeline_data.positions o
  JOIN pipeline_data.checkpoints c ON c.task = o.id
  LEFT JOIN pipeline_data.task_slots() s ON s.database = v.database AND s.task = o.id
  WHERE o.view = v.id) p
LEFT JOIN LATERAL (
  SELECT s.error_at, s.error_code, s.error_message
  FROM pipeline_data.positions o
  JOIN pipeline_data.task_slots() s ON s.database = v.database AND s.task = o.id
  WHERE o.view = v.id AND s.error_at IS NOT NULL
  ORDER BY s.error_at DESC LIMIT 1) e ON true
LEFT JOIN LATERAL pipeline_data.metrics(v.database,
  ARRAY(SELECT o.id FROM pipeline_data.positions o WHERE o.view = v.id)) m ON true;
COMMENT ON VIEW pipeline.stat_views IS
  'continuous views: what was processed, as of the last checkpoint, what the worker does now, and how fast';

CREATE VIEW pipeline.stat_partitions WITH (security_barrier) AS
SELECT v.view,
  v.streams[p.stream + 1] AS stream,
  p.partition,
  p.start_offset,
  p.next_offset,
  s.end_offset,
  GREATEST(s.end_offset - p.next_offset, 0) AS lag,
  p.max_event_time,
  p.max_event_time - p.out_of_orderness AS watermark,
  p.max_disorder,
  s.idle,
  s.unreachable,
  CASE WHEN GREATEST(s.end_offset - p.next_offset, 0) = 0 THEN interval '0' ELSE s.lag_time END AS lag_time,
  s.records_per_second
FROM pipeline_data.visible_views v
JOIN pipeline_data.positions o ON o.view = v.id
JOIN pipeline_data.checkpoints c ON c.task = o.id
CROSS JOIN LATERAL pipeline_data.partitions(c.partitions) p
LEFT JOIN pipeline_data.task_slots() t ON t.database = v.database AND t.task = o.id
LEFT JOIN pipeline_data.partition_slots() s
  ON s.database = v.database AND s.leader = t.leader AND s.stream = p.stream AND s.partition = p.partition;
COMMENT ON VIEW pipeline.stat_partitions IS
  'partitions that continuous views read: committed position, and what the worker knows of the log''s end';

CREATE VIEW pipeline.stat_workers WITH (security_barrier) AS
SELECT pipeline_data.launcher_pid() AS pid,
  'launcher' AS kind,
  NULL::name AS database,
  NULL::regclass AS view,
  NULL::regclass[] AS views,
  NULL::int AS shard,
  NULL::text AS activity,
  NULL::timestamptz AS started_at,
  NULL::float8 AS events_per_second,
  NULL::float8 AS bytes_per_second,
  NULL::float8 AS busy,
  NULL::float8 AS backpressure,
  NULL::float8 AS cpu
WHERE pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE') AND pipeline_data.launcher_pid() IS NOT NULL
UNION ALL
SELECT s.pid, 'worker', d.datname, v.view,
  (SELECT pg_catalog.array_agg(m.view ORDER BY m.id)
   FROM pipeline_data.task_slots() o
   JOIN pipeline_data.positions n ON n.id = o.task
   JOIN pipeline_data.visible_views m ON m.database = o.database AND m.id = n.view
   WHERE o.pid = s.pid),
  CASE WHEN p.sharded THEN p.shard END,
  s.activity, s.started_at,
  e.events_per_second, e.bytes_per_second, e.busy, e.backpressure, e.cpu
FROM pipeline_data.task_slots() s
LEFT JOIN LATERAL pipeline_data.metrics(s.database, ARRAY[s.task]) e ON true
LEFT JOIN pg_catalog.pg_database d ON d.oid = s.database
LEFT JOIN pipeline_data.positions p ON p.id = s.task AND d.datname = pg_catalog.current_database()
LEFT JOIN pipeline_data.visible_views v ON v.database = s.database AND v.id = p.view
WHERE s.pid IS NOT NULL AND s.task = s.leader
  AND (v.id IS NOT NULL OR pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE'));
COMMENT ON VIEW pipeline.stat_workers IS
  'background workers of all databases: each runs the views of one task, the first of which names it';

CREATE FUNCTION pipeline.state_memory(OUT total_bytes bigint, OUT used_bytes bigint)
LANGUAGE C STRICT AS 'MODULE_PATHNAME', 'cq_state_memory';
COMMENT ON FUNCTION pipeline.state_memory() IS
  'shared memory for the state of continuous views of all databases, and what of it is in use';

-- Records may hold what only the owner of the view may see.  Owners may delete what they have dealt with.
CREATE VIEW pipeline.dead_letters WITH (security_barrier) AS
SELECT (SELECT v.view FROM pipeline_data.views v WHERE v.id = d.view) AS view,
  d.stream,
  d.partition,
  d."offset",
  d.broker_time,
  d.failed_at,
  d.sqlstate,
  d.message,
  d.key,
  d.payload,
  d.headers,
  d.truncated,
  d.retry,
  d.id
FROM pipeline_data.dead_letters d
WHERE EXISTS (SELECT FROM pipeline_data.views v JOIN pg_catalog.pg_class c ON c.oid = v.view
              WHERE v.id = d.view AND pg_catalog.pg_has_role(c.relowner, 'USAGE'));
COMMENT ON VIEW pipeline.dead_letters IS
  'records that could not be decoded or evaluated, of the continuous views that you own';

GRANT SELECT ON pipeline.views, pipeline.stat_views, pipeline.stat_partitions, pipeline.stat_workers TO PUBLIC;
GRANT SELECT, DELETE ON pipeline.dead_letters TO PUBLIC;

CREATE FUNCTION pipeline.stat_reset(view regclass DEFAULT NULL) RETURNS void
LANGUAGE C AS 'MODULE_PATHNAME', 'cq_stat_reset';
COMMENT ON FUNCTION pipeline.stat_reset(regclass) IS
  'measure a continuous view anew, or all that you own: rates, latencies, shares of time, longest commit, errors';
