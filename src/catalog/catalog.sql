-- Schemas and catalog tables.  Nothing in pipeline_data is for users; what they may see is shown
-- by the views in schema pipeline.

CREATE SCHEMA pipeline;
COMMENT ON SCHEMA pipeline IS 'continuous queries: functions and statistics';
GRANT USAGE ON SCHEMA pipeline TO PUBLIC;

CREATE SCHEMA pipeline_data;
COMMENT ON SCHEMA pipeline_data IS 'hidden tables of continuous views and local streams';
REVOKE ALL ON SCHEMA pipeline_data FROM PUBLIC;

-- Who this database is.  Not dumped: a restored copy gets another value, and its tasks, which carry
-- the old one, stay paused until pipeline.adopt().
CREATE TABLE pipeline_data.identity (
  incarnation bigint NOT NULL PRIMARY KEY
);

-- Ids of views; never reused.
CREATE SEQUENCE pipeline_data.id_seq;

-- One row per continuous view.
CREATE TABLE pipeline_data.views (
  id bigint NOT NULL PRIMARY KEY,
  view regclass NOT NULL UNIQUE,          -- what the user sees
  streams regclass[] NOT NULL,            -- what it reads; the place is the stream's number elsewhere, from 0
  query regclass NOT NULL UNIQUE,         -- hidden view with the original query
  result regclass NOT NULL UNIQUE,        -- hidden table with the rows
  chunks regclass,                        -- operator state; null where there is none
  late regclass,                          -- late rows; null where there can be none
  options text[] NOT NULL,                -- name=value, as given
  settings text[] NOT NULL,               -- name=value, result-affecting settings at creation
  late_places int[]                       -- where the columns that late rows have of the streams stand in
                                          -- their table, from 0; null = first, in order
);

-- What each view is supposed to do.  Which views are run together is known to shared memory only.  state: running, paused, stopped (cannot go on; reason says why).
CREATE TABLE pipeline_data.tasks (
  id bigint NOT NULL PRIMARY KEY,
  database oid NOT NULL,                  -- identity: where the view was created ...
  incarnation bigint NOT NULL,            -- ... and adopted last
  state text NOT NULL CHECK (state IN ('running', 'paused', 'stopped')),
  reason text,
  advance_to timestamptz[],               -- pending advance_watermark(), by stream; -infinity = none of this one
  accept_loss boolean NOT NULL DEFAULT false, -- resume after a gap: go on at the earliest record there is
  apply_late bigint,                      -- pending apply_late(): how many requests, those carried out together left out
  retry bigint                            -- likewise retry_dead_letters()
);

-- How far each view is: its position, watermark and counters, changed in the transaction that writes
-- state and results.  One row per view, updated in place by its worker alone; the rows of views that
-- are run together name the same place in the stream.
CREATE TABLE pipeline_data.checkpoints (
  task bigint NOT NULL PRIMARY KEY,
  owner_epoch bigint NOT NULL,            -- of the worker that wrote last
  seq bigint NOT NULL,                    -- checkpoints so far
  closed_to timestamptz,                  -- the view's watermark; null = none yet
  next_gid bigint NOT NULL,
  events_in bigint NOT NULL,              -- records taken in, all counted below included
  filtered bigint NOT NULL,               -- dropped by WHERE at the scan
  unmatched bigint NOT NULL,              -- dropped by an inner join
  late bigint NOT NULL,                   -- (event, window) pairs that came late
  dead_letters bigint NOT NULL,
  retried bigint NOT NULL,                -- dead letters taken back to be processed again
  skipped bigint NOT NULL,                -- bad records dropped by on_error = skip
  lost bigint NOT NULL,                   -- records given up by resume(accept_loss)
  rows_out bigint NOT NULL,               -- result rows inserted or updated
  bytes_in bigint NOT NULL,
  windows_closed bigint NOT NULL,
  rows_expired bigint NOT NULL,           -- result rows deleted by the option retention
  checkpoint_us bigint NOT NULL,          -- total time spent in committing
  committed_at timestamptz NOT NULL,
  partitions bytea NOT NULL,              -- packed; see pipeline_data.partitions()
  frozen_to timestamptz,                  -- of a view with several workers: see runtime/shard.c
  told_windows bigint NOT NULL,           -- of windows_closed: listeners were told of so many ...
  told_upto timestamptz,                  -- ... and up to here of closed_to: see runtime/notify.c
  rows_kept bigint NOT NULL,              -- rows that the result table has, of those that this one wrote
  state_digest bigint                     -- of the chunk tables, see catalog/whole.c; null = not known
) WITH (fillfactor = 20, autovacuum_vacuum_threshold = 200, autovacuum_vacuum_scale_factor = 0);
ALTER TABLE pipeline_data.checkpoints ALTER COLUMN partitions SET STORAGE MAIN;

-- Views that read streams in several places: one row for each place but the first, and for each worker.
CREATE TABLE pipeline_data.inputs (
  view bigint NOT NULL,                   -- id of the view, or of one of its shards
  number int NOT NULL,                    -- 1, 2, ...
  chunks regclass NOT NULL,               -- operator state
  PRIMARY KEY (view, number)
);

-- Views with several workers: one row for each worker but the first, which is the view itself.  A
-- shard has a row of checkpoints, too.
CREATE TABLE pipeline_data.shards (
  id bigint NOT NULL PRIMARY KEY,         -- from id_seq
  view bigint NOT NULL,                   -- id
  number int,                             -- reads partitions with partition % workers = number; null: retired
  chunks regclass,                        -- operator state; null where there is none
  UNIQUE (view, number)
);

-- Views that read another view: the hidden local stream into which the worker of the other one writes
-- what it gives out.  time_column: where a row's window, or its event time, stands; null = unknown.
CREATE TABLE pipeline_data.feeds (
  relation regclass NOT NULL PRIMARY KEY, -- the hidden stream
  view bigint NOT NULL,                   -- id of the view that reads it
  source bigint NOT NULL,                 -- id of the view that fills it
  time_column int,                        -- of the view that fills it
  time_role text,                         -- what that column is: time, range, start or end
  window_us bigint,                       -- size of the windows if they are all of one, else null
  gives text NOT NULL                     -- rows (they never change), changes, or final rows of those that do
);

-- How views began, where their options do not say it; and history that comes before: see runtime/history.c.
CREATE TABLE pipeline_data.beginnings (
  view bigint NOT NULL PRIMARY KEY,       -- id
  start text,                             -- what replay() put in the place of the option
  cursor text,                            -- local streams: the position that "latest" was
  history regclass,                       -- hidden stream with rows that are still to be taken in
  history_rows bigint                     -- that were given to backfill(); null = it was not called
);

-- Records that could not be decoded or evaluated.
CREATE SEQUENCE pipeline_data.dead_letter_ids;
CREATE TABLE pipeline_data.dead_letters (
  view bigint NOT NULL,                   -- id
  stream regclass NOT NULL,
  partition int NOT NULL,
  "offset" bigint NOT NULL,
  broker_time timestamptz,
  failed_at timestamptz NOT NULL,
  sqlstate text NOT NULL,
  message text NOT NULL,
  key bytea,
  payload bytea,
  headers bytea,                          -- of Kafka records that have any: a JSON object, in UTF-8
  truncated boolean NOT NULL DEFAULT false, -- not all of the record was kept
  retry boolean NOT NULL DEFAULT false,   -- chosen by retry_dead_letters(), not carried out yet
  id bigint NOT NULL DEFAULT pg_catalog.nextval('pipeline_data.dead_letter_ids')
);
-- Not unique: offsets come again when a topic was recreated and its loss accepted.
CREATE INDEX dead_letters_record ON pipeline_data.dead_letters (view, stream, partition, "offset");
CREATE INDEX dead_letters_retry ON pipeline_data.dead_letters (view, retry, id);
CREATE INDEX dead_letters_failed_at ON pipeline_data.dead_letters (view, failed_at);

SELECT pg_catalog.pg_extension_config_dump('pipeline_data.id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('pipeline_data.views', '');
SELECT pg_catalog.pg_extension_config_dump('pipeline_data.tasks', '');
SELECT pg_catalog.pg_extension_config_dump('pipeline_data.checkpoints', '');
SELECT pg_catalog.pg_extension_config_dump('pipeline_data.inputs', '');
SELECT pg_catalog.pg_extension_config_dump('pipeline_data.shards', '');
SELECT pg_catalog.pg_extension_config_dump('pipeline_data.feeds', '');
SELECT pg_catalog.pg_extension_config_dump('pipeline_data.beginnings', '');
SELECT pg_catalog.pg_extension_config_dump('pipeline_data.dead_letters', '');
SELECT pg_catalog.pg_extension_config_dump('pipeline_data.dead_letter_ids', '');

INSERT INTO pipeline_data.identity
SELECT ('x' || pg_catalog.substr(pg_catalog.md5(pg_catalog.gen_random_uuid()::text), 1, 15))::bit(60)::bigint;

-- The packed partitions of a checkpoint, a row each.
CREATE FUNCTION pipeline_data.partitions(bytea,
  OUT stream int, OUT partition int, OUT next_offset bigint, OUT start_offset bigint, OUT cursor text,
  OUT max_event_time timestamptz, OUT max_disorder interval, OUT out_of_orderness interval)
RETURNS SETOF record LANGUAGE C STRICT IMMUTABLE ROWS 2 -- low, lest JIT compiles stat_partitions
AS 'MODULE_PATHNAME', 'cq_partitions';
