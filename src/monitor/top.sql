-- pipeline.top(): what is slow, or empty, and why.
--
-- The facts are those of the statistics views; here they become sentences.  As with those views, each
-- role sees its own views; what a record holds that failed is told to the view's owner only.

CREATE VIEW pipeline_data.health WITH (security_barrier) AS
SELECT s.*,
  v.id,
  v.streams,
  k.is_kafka,
  k.server,
  k.names,
  f.source AS reads_view,
  o.start_latest,
  -- where the events went that gave no row
  s.dead_letters - s.retried + s.skipped AS bad,
  l.locks,
  p.partitions,
  p.unread,
  p.empty,
  p.newest,
  h.holder,
  h.holder_is_off,
  w.phase,
  w.share,
  w.advice,
  CASE WHEN pg_catalog.pg_has_role(v.relowner, 'USAGE') THEN d.message END AS bad_message,
  GREATEST(1 - s.busy, 0) AS waiting_share,
  pipeline_data.launcher_pid() IS NOT NULL AS has_launcher
FROM pipeline_data.visible_views v
JOIN pipeline.stat_views s ON s.view = v.view
CROSS JOIN LATERAL (
  SELECT bool_and(w.fdwname = 'pipeline_kafka') AS is_kafka, min(r.srvname)::text AS server,
    string_agg(t.ftrelid::regclass::text || COALESCE(' (topic ' || (
      SELECT o.option_value FROM pg_catalog.pg_options_to_table(t.ftoptions) o WHERE o.option_name = 'topic') || ')', ''), ', '
      ORDER BY t.ftrelid::regclass::text) AS names
  FROM pipeline_data.views x
  JOIN pg_catalog.pg_foreign_table t ON t.ftrelid = ANY (x.streams::oid[])
  JOIN pg_catalog.pg_foreign_server r ON r.oid = t.ftserver
  JOIN pg_catalog.pg_foreign_data_wrapper w ON w.oid = r.srvfdw
  WHERE x.id = v.id) k
CROSS JOIN LATERAL (
  SELECT min(b.view::text) AS source
  FROM pipeline_data.feeds e JOIN pipeline_data.views b ON b.id = e.source WHERE e.view = v.id) f
CROSS JOIN LATERAL (
  SELECT COALESCE('start=latest' = ANY (v.options), false)
      OR (NOT EXISTS (SELECT FROM pg_catalog.unnest(v.options) n WHERE n ~ '^start=')
          AND EXISTS (SELECT FROM pipeline_data.views x
                      JOIN pg_catalog.pg_foreign_table t ON t.ftrelid = ANY (x.streams::oid[])
                      CROSS JOIN LATERAL pg_catalog.pg_options_to_table(t.ftoptions) n
                      WHERE x.id = v.id AND n.option_name = 'start' AND n.option_value = 'latest')) AS start_latest) o
-- who stands in the way: the worker needs ACCESS SHARE on what it reads, ROW EXCLUSIVE on its own tables
LEFT JOIN LATERAL (
  SELECT string_agg(DISTINCT n.name || ' held by process ' || c.pid, ', ') AS locks
  FROM (
    SELECT r.refobjid AS relation, r.refobjid::regclass::text AS name, false AS own
    FROM pg_catalog.pg_rewrite q
    JOIN pg_catalog.pg_depend r ON r.classid = 'pg_catalog.pg_rewrite'::regclass AND r.objid = q.oid
      AND r.refclassid = 'pg_catalog.pg_class'::regclass
    WHERE q.ev_class = v.query
    UNION
    SELECT r, 'the view''s own table', true FROM pg_catalog.unnest(ARRAY[v.result::oid, v.chunks::oid, v.late::oid]) r) n
  JOIN pg_catalog.pg_locks c ON c.locktype = 'relation' AND c.relation = n.relation AND c.database = v.database AND c.granted
    AND (c.mode = 'AccessExclusiveLock'
         OR (n.own AND c.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock')))
    AND c.pid IS DISTINCT FROM s.pid
  WHERE s.activity = 'waiting for a lock') l ON true
CROSS JOIN LATERAL (
  SELECT count(*) AS partitions,
    bool_and(p.next_offset = p.start_offset) AS unread,
    bool_and(p.end_offset = 0) AS empty,
    max(p.max_event_time) AS newest
  FROM pipeline.stat_partitions p WHERE p.view = v.view) p
-- the partition that the watermark waits for while others are ahead of it
LEFT JOIN LATERAL (
  SELECT CASE WHEN k.is_kafka THEN 'partition ' || p.partition || ' of ' ELSE '' END || p.stream::text
      || COALESCE(', whose highest event time is ' || p.max_event_time, ', which has had no event yet') AS holder,
    EXISTS (SELECT FROM pg_catalog.pg_foreign_table t
            CROSS JOIN LATERAL pg_catalog.pg_options_to_table(t.ftoptions) n
            WHERE t.ftrelid = p.stream AND n.option_name = 'idle_timeout' AND n.option_value = 'off') AS holder_is_off
  FROM pipeline.stat_partitions p
  WHERE p.view = v.view AND p.idle IS FALSE
    AND EXISTS (SELECT FROM pipeline.stat_partitions q
                WHERE q.view = v.view AND (q.stream, q.partition) <> (p.stream, p.partition)
                  AND q.watermark >= s.next_window_end)
    AND COALESCE(p.watermark < s.next_window_end, true)
  ORDER BY p.watermark NULLS FIRST LIMIT 1) h ON true
CROSS JOIN LATERAL (
  SELECT a.* FROM (VALUES
    ('fetching and decoding records', s.decode_share,
     'Leave columns out that no query needs, or divide the topic''s partitions: ALTER VIEW ... SET (pipeline.workers = 2).'),
    ('stage plan (filters, expressions, joins with tables)', s.stage_share,
     'pipeline.explain(view) shows the plan: is there an index for each join? Else ALTER VIEW ... SET (pipeline.workers = 2).'),
    ('operator (groups and windows)', s.operator_share,
     'pipeline.explain(view) says which aggregates are kept incrementally. Else ALTER VIEW ... SET (pipeline.workers = 2).'),
    ('closing windows', s.close_share,
     'Fewer groups in each window, a cheaper query above them, or ALTER VIEW ... SET (pipeline.workers = 2).'),
    ('commit (state, rows, WAL)', s.commit_share,
     'A longer checkpoint_interval or emit_interval, fewer indexes on the view, or a faster disk.'),
    ('other views of the same worker', s.other_share,
     'See pipeline.top() for these views; pipeline.views has the task that they share.')) a(phase, share, advice)
  ORDER BY a.share DESC NULLS LAST LIMIT 1) w
-- what a bad record of it was, one of the last: found at the end of the index
LEFT JOIN LATERAL (
  SELECT d.message FROM pipeline_data.dead_letters d WHERE d.view = v.id AND s.dead_letters > 0
  ORDER BY d.view DESC, d.stream DESC, d.partition DESC, d."offset" DESC LIMIT 1) d ON true;

GRANT SELECT ON pipeline_data.health TO PUBLIC;

-- How a view is: one word or two, and how much it needs attention.
CREATE FUNCTION pipeline_data.health_status(h pipeline_data.health, OUT status text, OUT urgency int)
LANGUAGE sql STABLE
BEGIN ATOMIC
  SELECT a.status, a.urgency FROM (VALUES
    ('stopped', h.state = 'stopped', 1),
    ('not adopted', h.state = 'not adopted', 1),
    ('paused', h.state = 'paused', 8),
    ('standby', h.activity = 'not run in recovery', 9),
    ('waiting', h.activity IN ('waiting for a task slot', 'waiting for a background worker slot', 'waiting after an error', 'source unreachable', 'waiting for a lock'), 2),
    ('starting', h.activity IN ('not started', 'starting', 'loading state'), 6),
    ('catching up', h.lag > 0 AND h.lag_time > interval '10 seconds' AND h.lag_change_per_second < 0, 5),
    ('falling behind', h.lag > 0 AND h.lag_time > interval '10 seconds', 3),
    ('at its limit', h.backpressure >= 0.5, 4),
    ('held back', h.holder IS NOT NULL, 4),
    ('losing events', h.dead_letters_per_second > 0, 4),
    ('empty', h.rows_out = 0, 7),
    ('running', true, 9)) a(status, applies, urgency)
  WHERE a.applies LIMIT 1;
END;

-- What holds it up, and what to do about it.
CREATE FUNCTION pipeline_data.health_bottleneck(h pipeline_data.health, OUT bottleneck text, OUT hint text)
LANGUAGE sql STABLE
BEGIN ATOMIC
  SELECT a.bottleneck, a.hint FROM (VALUES
    (h.state = 'not adopted', 'restored from another database, where the original may still run',
     'If the view shall go on here, call pipeline.adopt() as a superuser.'),
    (h.state = 'stopped', 'stopped: ' || COALESCE(h.reason, 'no reason is known'),
     'When the cause is gone, pipeline.resume(' || pg_catalog.quote_literal(h.view::text) || ') goes on at the same place.'),
    (h.state = 'paused', 'paused', 'pipeline.resume(' || pg_catalog.quote_literal(h.view::text) || ') goes on at the same place.'),
    (h.activity = 'not run in recovery', 'this server is a standby: the primary''s workers keep the view', 'See pipeline.top() there.'),
    (h.activity = 'waiting for a task slot', CASE WHEN h.has_launcher THEN 'waits for a task slot: all of pipeline.max_tasks are taken'
                              ELSE 'nobody runs views: the library is not in shared_preload_libraries' END,
     CASE WHEN h.has_launcher THEN 'Increase pipeline.max_tasks and restart the server.'
          ELSE 'Add pipeline_ext to shared_preload_libraries and restart the server.' END),
    (h.activity = 'waiting for a background worker slot', 'waits for a background worker slot: all of max_worker_processes are taken',
     'Increase max_worker_processes and restart the server.'),
    (h.activity = 'waiting after an error', 'waits after an error' || COALESCE(' until ' || h.retry_at, '') || ': ' || COALESCE(h.last_error, ''),
     CASE WHEN h.last_error ~ '^topic .* does not exist yet' THEN 'Is the option topic of the stream right? The view begins as soon as there is such a topic.'
          ELSE 'The server''s log has the details.' END),
    (h.activity = 'source unreachable', 'source: no broker of server ' || h.server || ' answers',
     'Is bootstrap_servers right, do the brokers run, and does the network let us through? The server''s log has what the client says.'),
    (h.activity = 'waiting for a lock', COALESCE('lock on ' || h.locks, 'a lock that another session holds'),
     'Wait for that transaction to end, or end it: SELECT pg_terminate_backend(...).'),
    (h.activity IN ('not started', 'starting', 'loading state'), h.activity, NULL),
    (h.state_loads_per_second > 100, 'state on disk: ' || round(h.state_loads_per_second::numeric) || ' groups or rows are read back each second',
     'Increase pipeline.state_memory and restart the server, or keep fewer groups.'),
    ((h.backpressure >= 0.5 OR (h.lag > 0 AND h.busy >= 0.5)) AND h.cpu < 0.5 * h.busy,
     'disk, WAL, locks or too few CPUs: ' || round(100 * h.busy::numeric) || ' % busy, but ' || round(100 * h.cpu::numeric) || ' % CPU; most time goes into ' || h.phase,
     'Look at the worker''s wait events: SELECT * FROM pg_stat_activity WHERE pid = ' || h.pid || '.'),
    (h.backpressure >= 0.5 OR (h.lag > 0 AND h.busy >= 0.5),
     'CPU: ' || h.phase || ' ' || round(100 * h.share::numeric) || ' %', h.advice),
    (h.lag > 0 AND h.lag_time > interval '10 seconds', 'source: records come more slowly than the worker could take them',
     'The broker, the network or pipeline.kafka_memory limit it; or one partition waits for others, see max_skew.'),
    (h.holder IS NOT NULL, 'watermark held back by ' || h.holder || CASE WHEN h.holder_is_off THEN '; idle_timeout is off' ELSE '' END,
     CASE WHEN h.holder_is_off THEN 'Windows close when events come there, after pipeline.advance_watermark(), or with the option idle_timeout.'
          ELSE 'Windows close when events come there, or when it has been idle for idle_timeout.' END),
    (h.dead_letters_per_second > 0, 'nothing, but records cannot be processed: ' || h.dead_letters - h.retried || ' so far' || COALESCE('; one of the last: ' || h.bad_message, ''),
     'SELECT message, count(*) FROM pipeline.dead_letters WHERE view = ' || pg_catalog.quote_literal(h.view::text)
       || '::regclass GROUP BY 1 says what is wrong with them.'),
    (h.next_window_end IS NOT NULL, 'waiting for events: the next window ends at ' || h.next_window_end
     || COALESCE(', the watermark is ' || h.watermark, ', and there is no watermark yet'),
     'It closes when an event of that time, and out_of_orderness more, has come; without events by the clock, when the stream has been idle for idle_timeout.'),
    (h.activity = 'processing events', 'nothing', NULL),
    (true, 'waiting for events', NULL)) a(applies, bottleneck, hint)
  WHERE a.applies LIMIT 1;
END;

-- Why a view that has never given out a row has not.
CREATE FUNCTION pipeline_data.health_emptiness(h pipeline_data.health, OUT empty_because text, OUT hint text)
LANGUAGE sql STABLE
BEGIN ATOMIC
  SELECT a.because, a.hint FROM (VALUES
    (h.rows_out > 0, NULL, NULL),
    -- nothing came
    (h.events_in = 0 AND h.state <> 'running', 'it is ' || h.state || ' and has read nothing', NULL),
    (h.events_in = 0 AND h.activity NOT IN ('waiting for events', 'processing events'), 'it has read nothing yet, because of that', NULL),
    (h.events_in = 0 AND h.lag > 0, 'it has read nothing yet; records to read: ' || h.lag, NULL),
    (h.events_in = 0 AND h.reads_view IS NOT NULL, 'the view that it reads, ' || h.reads_view || ', has given out nothing since',
     'See what pipeline.top() says about that view.'),
    (h.events_in = 0 AND h.partitions = 0, 'no partition of ' || h.names || ' is known yet', 'Does the topic exist?'),
    (h.events_in = 0 AND h.start_latest, 'nothing has come since the view was created: it begins at the end of the stream (start = latest)',
     'To read what was there before, create it WITH (pipeline.start = ''earliest'').'),
    (h.events_in = 0 AND h.is_kafka AND h.empty, h.names || ' holds no records', 'Is it the topic that is written to?'),
    (h.events_in = 0 AND h.is_kafka, h.names || ' holds no records: those before were deleted', 'The topic''s retention has removed them.'),
    (h.events_in = 0, 'nothing was inserted into ' || h.names, NULL),
    -- what came was bad
    (h.bad >= h.events_in AND h.bad_message ~ 'future', 'every event (' || h.events_in || ') is from the future, further than max_ahead allows',
     'Is event_time in the right unit and time zone? See the column option format (epoch_s, epoch_ms, epoch_us), and max_ahead.'),
    (h.bad >= h.events_in AND h.bad_message ~ 'event time is null', 'no event (of ' || h.events_in || ') has an event time',
     'Is the column of event_time named as in the records, or its option field right?'),
    (h.bad >= h.events_in, 'every record (' || h.events_in || ') is bad' || COALESCE('; one of the last: ' || h.bad_message, ''),
     CASE WHEN h.bad_message ~ ': number ".*" is not valid for type (timestamp|date)'
          THEN 'Times that are numbers need the column option format: epoch_s, epoch_ms or epoch_us.'
          WHEN h.skipped > 0 THEN 'They are dropped, as on_error = ''skip'' says.'
          ELSE 'SELECT message, count(*) FROM pipeline.dead_letters WHERE view = ' || pg_catalog.quote_literal(h.view::text)
       || '::regclass GROUP BY 1 says what is wrong with them.' END),
    -- it was dropped by the query
    (h.filtered > 0 AND h.filtered + h.bad >= h.events_in, 'no event passes WHERE: ' || h.filtered || ' of ' || h.events_in || ' were filtered out'
     || CASE WHEN h.bad > 0 THEN ', the others are bad' ELSE '' END,
     'Is each column named as in the records? One that a record does not have is null.'),
    (h.unmatched > 0 AND h.filtered + h.bad + h.unmatched >= h.events_in, 'no event finds a partner in the joined tables: ' || h.unmatched
     || ' of ' || h.events_in || CASE WHEN h.filtered > 0 THEN '; ' || h.filtered || ' were filtered out' ELSE '' END,
     'Compare the columns of the join; a LEFT JOIN keeps such events.'),
    (h.late > 0 AND h.next_window_end IS NULL AND h.windows_closed = 0, 'every event came too late: the watermark is ' || h.watermark,
     'An event of a later time came before them. See out_of_orderness, allowed_lateness and the late rows.'),
    (h.late * 2 > h.events_in AND h.windows_closed = 0,
     'most of ' || h.events_in || ' events came too late for their windows: the highest event time is ' || h.newest || ', the watermark ' || h.watermark,
     'Was one event ahead of its time? See max_ahead, and the late rows.'),
    -- it waits
    (h.newest >= h.next_window_end AND h.holder IS NULL AND h.windows_closed = 0,
     'no window has closed yet: the first one ends at ' || h.next_window_end || ', the highest event time is ' || h.newest
     || ', and out_of_orderness keeps the watermark at ' || h.watermark,
     'Compare out_of_orderness with max_disorder in pipeline.stat_partitions: a smaller one closes windows sooner.'),
    (h.next_window_end IS NOT NULL AND h.windows_closed = 0, 'no window has closed yet: the first one ends at ' || h.next_window_end
     || COALESCE(', the watermark is ' || h.watermark, ', and there is no watermark yet'),
     CASE WHEN h.holder IS NULL THEN
       'It closes when an event of that time, and out_of_orderness more, has come. With pipeline.emit = ''changes'' a view shows open windows, too.' END),
    (h.windows_closed > 0, 'the windows that have closed gave no rows: ' || h.windows_closed, 'HAVING, or what else is above the groups, leaves none of them.'),
    (h.groups > 0, 'none of its groups is complete: ' || h.groups, NULL),
    (true, 'nothing of what came gave a row', 'See the counters in pipeline.stat_views and pipeline.explain(view).')) a(applies, because, hint)
  WHERE a.applies LIMIT 1;
END;

CREATE FUNCTION pipeline.top(
  OUT view regclass, OUT status text, OUT bottleneck text, OUT empty_because text, OUT hint text,
  OUT events_per_second float8, OUT lag bigint, OUT lag_time interval, OUT lag_change_per_second float8, OUT catch_up interval,
  OUT watermark_lag interval, OUT end_to_end_latency_p99 interval, OUT backpressure float8,
  OUT waiting float8, OUT decode float8, OUT stage float8, OUT operator float8, OUT close float8, OUT commit float8, OUT other float8)
RETURNS SETOF record LANGUAGE sql STABLE ROWS 20 SET jit = off
BEGIN ATOMIC
  SELECT h.view::regclass, s.status, b.bottleneck, e.empty_because, COALESCE(e.hint, b.hint),
    h.events_per_second, h.lag, h.lag_time, h.lag_change_per_second,
    CASE WHEN h.lag = 0 THEN interval '0'
         WHEN h.lag_change_per_second < 0 THEN LEAST(h.lag / -h.lag_change_per_second, 1e9) * interval '1 second' END,
    h.watermark_lag, h.end_to_end_latency_p99, h.backpressure,
    h.waiting_share, h.decode_share, h.stage_share, h.operator_share, h.close_share, h.commit_share, h.other_share
  FROM (SELECT * FROM pipeline_data.health OFFSET 0) h
  CROSS JOIN LATERAL pipeline_data.health_status(h) s
  CROSS JOIN LATERAL pipeline_data.health_bottleneck(h) b
  CROSS JOIN LATERAL pipeline_data.health_emptiness(h) e
  ORDER BY s.urgency, h.lag DESC NULLS LAST, h.backpressure DESC NULLS LAST, h.view::text;
END;
COMMENT ON FUNCTION pipeline.top() IS
  'continuous views, those that need attention first: what holds each up, why it is empty, what to do';
