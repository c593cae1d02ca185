-- A view is seeded with rows of a query, before the records of its stream.  If this failed, rows of the
-- archive or records of the stream would be missing or counted twice, windows that span both would be torn,
-- or history would be late.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
SET timezone = 'UTC';

CREATE TABLE bf_names (k int PRIMARY KEY, name text);
INSERT INTO bf_names SELECT k, 'name ' || k FROM generate_series(0, 3) k;
-- one column was dropped, one is computed
CREATE FOREIGN TABLE bf_events (gone text, pos int NOT NULL, at timestamptz, k smallint, n int, comment text, twice int GENERATED ALWAYS AS (2 * n) STORED)
  SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '5 seconds', idle_timeout 'off', retention '1 day');
ALTER FOREIGN TABLE bf_events DROP COLUMN gone;

-- everything that was ever: a second apart, a little out of order; 5 is in no table, 22 cannot be divided by
CREATE TABLE bf_archive (pos int, at timestamptz, k bigint, n int);
INSERT INTO bf_archive SELECT i, timestamptz '2024-01-01' + (i - i % 4) * interval '1 second', i % 5, i % 23 FROM generate_series(1, 2000) i;
CREATE PROCEDURE bf_insert(first int, last int) LANGUAGE sql AS $$
INSERT INTO bf_events (pos, at, k, n) SELECT pos, at, k, n FROM bf_archive WHERE pos BETWEEN first AND last ORDER BY pos $$;
CREATE FUNCTION bf_wait() RETURNS bool LANGUAGE sql AS $$ SELECT bool_and(pipeline.wait_for(view, '30 seconds')) FROM pipeline.views WHERE view::text LIKE 'bf%' $$;

-- not for these views: they begin behind it
CALL bf_insert(1, 500);

CREATE VIEW bf_windows WITH (pipeline.continuous, pipeline.start = 'latest') AS
SELECT k, pipeline.tumble(at, '1 minute') AS w, count(*) AS c, sum(n) AS s, sum(twice) AS t FROM bf_events GROUP BY k, w;
CREATE VIEW bf_hop WITH (pipeline.continuous, pipeline.start = 'latest') AS
SELECT pipeline.hop(at, '2 minutes', '30 seconds') AS w, count(*) AS c, max(n) AS m FROM bf_events WHERE k <> 3 GROUP BY w;
CREATE VIEW bf_sessions WITH (pipeline.continuous, pipeline.start = 'latest') AS
SELECT n, pipeline.session(at, '20 seconds') AS w, count(*) AS c FROM bf_events WHERE n < 4 GROUP BY n, w;
CREATE VIEW bf_counts WITH (pipeline.continuous, pipeline.start = 'latest') AS
SELECT k, pipeline.count_window(7) AS w, min(pos) AS first, max(pos) AS last, sum(n) AS s FROM bf_events GROUP BY k, w;
CREATE VIEW bf_rows WITH (pipeline.continuous, pipeline.start = 'latest') AS
SELECT pipeline.tumble(at, '1 minute') AS w, string_agg(pos::text, ' ' ORDER BY pos) AS all, percentile_cont(0.5) WITHIN GROUP (ORDER BY n) AS median FROM bf_events GROUP BY w;
CREATE VIEW bf_totals WITH (pipeline.continuous, pipeline.start = 'latest') AS
SELECT name, count(*) AS c, count(DISTINCT n) AS d, sum(n) AS s FROM bf_events JOIN bf_names USING (k) GROUP BY name;
CREATE VIEW bf_append WITH (pipeline.continuous, pipeline.start = 'latest') AS
SELECT pos, name, 100 / (n - 22) AS ratio, comment IS NULL AS silent, at FROM bf_events LEFT JOIN bf_names USING (k);
CREATE VIEW bf_open WITH (pipeline.continuous, pipeline.start = 'latest', pipeline.emit = 'changes') AS
SELECT k, pipeline.tumble(at, '5 minutes') AS w, count(*) AS c FROM bf_events GROUP BY k, w;
CREATE VIEW bf_shown WITH (pipeline.continuous, pipeline.start = 'latest', pipeline.emit = 'changes', pipeline.allowed_lateness = '1 hour') AS
SELECT pipeline.tumble(at, '5 minutes') AS w, string_agg(pos::text, ' ' ORDER BY pos) AS all FROM bf_events GROUP BY w;
CREATE VIEW bf_shares WITH (pipeline.continuous, pipeline.start = 'latest') AS
WITH c AS (SELECT k, pipeline.tumble(at, '1 minute') AS w, count(*) AS c FROM bf_events GROUP BY k, w)
SELECT w, k, c, sum(c) OVER (PARTITION BY w) AS of_all, (SELECT max(c) FROM c d WHERE d.w = c.w) AS highest FROM c;
CREATE VIEW bf_ungrouped WITH (pipeline.continuous, pipeline.start = 'latest') AS SELECT count(*) AS c, min(at) AS first, max(pos) AS last FROM bf_events;
CREATE INDEX ON bf_windows (c);
SELECT bf_wait();

-- the views by plain SQL, over what the archive has between two places
CREATE FUNCTION bf_want(view text, first int, last int) RETURNS text LANGUAGE sql AS $f$
SELECT format('WITH e AS (SELECT *, 2 * n AS twice FROM bf_archive WHERE pos BETWEEN %s AND %s) ', first, last) || replace(CASE view
  WHEN 'bf_windows' THEN $$SELECT k::smallint, w, count(*), sum(n), sum(twice) FROM e, pipeline.tumble(at, '1 minute') w WHERE upper(w) <= MARK GROUP BY k, w$$
  WHEN 'bf_hop' THEN $$SELECT w, count(*), max(n) FROM e, pipeline.hop(at, '2 minutes', '30 seconds') w WHERE k <> 3 AND upper(w) <= MARK GROUP BY w$$
  WHEN 'bf_sessions' THEN $$SELECT n, tstzrange(min(at), max(at) + interval '20 seconds') AS w, count(*)
    FROM (SELECT *, sum(begins) OVER (PARTITION BY n ORDER BY at, pos) AS s
          FROM (SELECT *, CASE WHEN at - lag(at) OVER (PARTITION BY n ORDER BY at, pos) <= interval '20 seconds' THEN 0 ELSE 1 END AS begins FROM e WHERE n < 4) x) y
    GROUP BY n, s HAVING max(at) + interval '20 seconds' < MARK$$
  WHEN 'bf_counts' THEN $$SELECT k::smallint, (r - 1) / 7 + 1, min(pos), max(pos), sum(n) FROM (SELECT *, row_number() OVER (PARTITION BY k ORDER BY pos) AS r FROM e) x
    GROUP BY k, (r - 1) / 7 HAVING count(*) = 7$$
  WHEN 'bf_rows' THEN $$SELECT w, string_agg(pos::text, ' ' ORDER BY pos), percentile_cont(0.5) WITHIN GROUP (ORDER BY n) FROM e, pipeline.tumble(at, '1 minute') w WHERE upper(w) <= MARK GROUP BY w$$
  WHEN 'bf_totals' THEN $$SELECT name, count(*), count(DISTINCT n), sum(n) FROM e JOIN bf_names USING (k) GROUP BY name$$
  WHEN 'bf_append' THEN $$SELECT pos, name, 100 / (n - 22), true, at FROM e LEFT JOIN bf_names USING (k) WHERE n <> 22$$
  WHEN 'bf_open' THEN $$SELECT k::smallint, w, count(*) FROM e, pipeline.tumble(at, '5 minutes') w GROUP BY k, w$$
  WHEN 'bf_shown' THEN $$SELECT w, string_agg(pos::text, ' ' ORDER BY pos) FROM e, pipeline.tumble(at, '5 minutes') w GROUP BY w$$
  WHEN 'bf_shares' THEN $$SELECT w, k::smallint, c, sum(c) OVER (PARTITION BY w), max(c) OVER (PARTITION BY w) FROM (SELECT w, k, count(*) AS c FROM e, pipeline.tumble(at, '1 minute') w GROUP BY w, k) c WHERE upper(w) <= MARK$$
  WHEN 'bf_ungrouped' THEN $$SELECT count(*), min(at), max(pos) FROM e$$ END, 'MARK', format('pipeline.watermark(%L)', view)) $f$;
CREATE FUNCTION bf_check(view text, first int, last int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE want text := bf_want(view, first, last); g bigint; a bigint; b bigint;
BEGIN
  EXECUTE format('SELECT count(*) FROM %s', view) INTO g;
  EXECUTE format('SELECT count(*) FROM (SELECT * FROM %s EXCEPT ALL (%s)) d', view, want) INTO a;
  EXECUTE format('SELECT count(*) FROM ((%s) EXCEPT ALL SELECT * FROM %s) d', want, view) INTO b;
  RETURN CASE WHEN g > 0 AND a = 0 AND b = 0 THEN 'same' ELSE format('%s rows, %s too many, %s missing', g, a, b) END;
END $$;
CREATE VIEW bf_state AS SELECT s.view, s.state, s.events_in, s.late, s.dead_letters AS dead, pipeline.verify_state(s.view) AS sound FROM pipeline.stat_views s WHERE s.view::text LIKE 'bf%';

-- some views have begun with the stream, others have seen nothing of it yet, one is paused
SELECT pipeline.pause(v) FROM unnest(ARRAY['bf_totals', 'bf_ungrouped']::regclass[]) v;
CALL bf_insert(1001, 1200);
CALL pipeline.backfill('bf_append', 'SELECT pos, at, k, n FROM bf_archive WHERE pos <= 1000 ORDER BY md5(pos::text)');
SELECT bf_check('bf_append', 1, 1200);
SELECT pipeline.wait_for('bf_windows');
CALL pipeline.backfill('bf_windows', 'SELECT pos, at, k, n FROM bf_archive WHERE pos <= 1000 ORDER BY md5(pos::text)');
CALL pipeline.backfill('bf_hop', 'SELECT n, k, pos, at FROM bf_archive WHERE pos <= 1000 ORDER BY md5(pos::text)');
CALL pipeline.backfill('bf_sessions', 'SELECT pos, at, n FROM bf_archive WHERE pos <= 1000 ORDER BY pos DESC');
CALL pipeline.backfill('bf_counts', 'SELECT pos, k, n FROM bf_archive WHERE pos <= 1000 ORDER BY pos');
CALL pipeline.backfill('bf_rows', 'SELECT pos, at, n FROM bf_archive WHERE pos <= 1000 ORDER BY md5(pos::text)');
CALL pipeline.backfill('bf_open', 'SELECT pos, at, k FROM bf_archive WHERE pos <= 1000 ORDER BY md5(pos::text)');
CALL pipeline.backfill('bf_shown', 'SELECT pos, at FROM bf_archive WHERE pos <= 1000 ORDER BY md5(pos::text)');
CALL pipeline.backfill('bf_shares', 'WITH a AS (SELECT * FROM bf_archive) SELECT pos, at, k FROM a WHERE pos <= 1000 ORDER BY md5(pos::text)');
CALL pipeline.backfill('bf_totals', 'SELECT pos, at, k, n FROM bf_archive WHERE pos <= 1000');
CALL pipeline.backfill('bf_ungrouped', 'SELECT pos, at FROM bf_archive WHERE pos <= 1000');
SELECT view, bf_check(view::text, 1, 1200), state FROM pipeline.views WHERE view::text LIKE 'bf%' ORDER BY view::text;
SELECT partition, count(*), min("offset"), (array_agg(convert_from(payload, 'UTF8') ORDER BY "offset"))[1] AS first, min(message) AS message FROM pipeline.dead_letters WHERE view = 'bf_append'::regclass GROUP BY 1 ORDER BY 1;
SELECT pipeline.resume(v) FROM unnest(ARRAY['bf_totals', 'bf_ungrouped']::regclass[]) v;

-- they go on: windows that were open with rows of both, groups of both
CALL bf_insert(1201, 1500);
SELECT bf_wait();
SELECT bf_check(s.view::text, 1, 1500), s.* FROM bf_state s ORDER BY s.view::text;
SELECT count(*) FROM pg_class WHERE relname LIKE 'bf%backfill' OR relname LIKE 'h\_%';
SELECT history, count(*), min(history_rows) FROM pipeline_data.beginnings GROUP BY 1;
SET enable_seqscan = off;
SELECT count(*) > 0 AS by_index FROM bf_windows WHERE c = 12;
RESET enable_seqscan;

-- another history takes the place of the first; none at all, too
CALL pipeline.backfill('bf_totals', 'SELECT pos, at, k, n FROM bf_archive WHERE pos BETWEEN 901 AND 1000');
CALL pipeline.backfill('bf_append', 'SELECT pos, at, k, n FROM bf_archive WHERE pos BETWEEN 1000 AND 1000');
CALL pipeline.backfill('bf_windows', 'SELECT pos, at, k, n FROM bf_archive WHERE pos < 0');
SELECT bf_check('bf_totals', 901, 1500), bf_check('bf_append', 1000, 1500), bf_check('bf_windows', 1001, 1500);
SELECT partition, count(*) FROM pipeline.dead_letters WHERE view = 'bf_append'::regclass GROUP BY 1 ORDER BY 1;

-- history that reaches beyond the stream's records makes those late
CALL pipeline.backfill('bf_windows', $$SELECT pos, at, k, n FROM bf_archive WHERE pos <= 1000 UNION ALL SELECT 0, '2024-01-01 00:21:05', 9, 9$$);
SELECT pipeline.watermark('bf_windows'), (SELECT sum(c) FROM bf_windows) AS counted, late, (SELECT count(*) FROM bf_windows_late) AS late_rows FROM pipeline.stat_views WHERE view = 'bf_windows'::regclass;

-- rows that cannot be processed: no time, infinite, of the future; they are not counted, and move nothing
CALL pipeline.backfill('bf_windows', $$SELECT pos, at, k, n FROM bf_archive WHERE pos <= 1000
  UNION ALL VALUES (5001, NULL, 1, 1), (5002, 'infinity', 1, 1), (5003, now() + interval '1 year', 1, 1), (5004, '-infinity', 1, 1)$$);
SELECT bf_check('bf_windows', 1, 1500);
SELECT "offset", message FROM pipeline.dead_letters WHERE view = 'bf_windows'::regclass AND partition = -1 ORDER BY 1;
ALTER FOREIGN TABLE bf_events OPTIONS (ADD on_error 'stop');
CALL pipeline.backfill('bf_windows', 'SELECT pos, CASE WHEN pos <> 700 THEN at END AS at FROM bf_archive WHERE pos <= 1000');
SELECT bf_check('bf_windows', 1, 1500);
DROP VIEW bf_windows_backfill;
ALTER FOREIGN TABLE bf_events OPTIONS (DROP on_error);

-- a replay would lose the history, unless windows from later on are asked for
CALL pipeline.replay('bf_windows');
CALL pipeline.replay('bf_totals');
SELECT bf_check('bf_windows', 1, 1500);
CALL bf_insert(1501, 2000);
SELECT bf_wait();
CALL pipeline.replay('bf_windows', replace_from => '2024-01-01 00:20:00');
SELECT bf_check('bf_windows', 1, 2000);
CALL pipeline.replay('bf_windows');
-- the view has read the stream from its beginning since, which has 1 to 500, too
CALL pipeline.backfill('bf_windows', $$SELECT -i AS pos, timestamptz '2024-01-01' - i * interval '1 second' AS at FROM generate_series(1, 100) i$$);
SELECT sum(c) = 100 + (SELECT count(*) FROM bf_archive, pipeline.tumble(at, '1 minute') w WHERE (pos <= 500 OR pos > 1000) AND upper(w) <= pipeline.watermark('bf_windows')) AS right,
  min(lower(w)) AS first, (SELECT late FROM pipeline.stat_views WHERE view = 'bf_windows'::regclass) FROM bf_windows;

-- views that began at a time, or with all that there was
DO $$ BEGIN EXECUTE format('CREATE VIEW bf_since WITH (pipeline.continuous, pipeline.start = %L) AS SELECT min(pos) AS first, max(pos) AS last, count(*) AS c FROM bf_events', clock_timestamp()); END $$;
CREATE VIEW bf_all WITH (pipeline.continuous) AS SELECT min(pos) AS first, max(pos) AS last, count(*) AS c FROM bf_events;
INSERT INTO bf_events (pos, at) SELECT i, timestamptz '2024-01-01' + i * interval '1 second' FROM generate_series(2001, 2010) i;
SELECT bf_wait();
CALL pipeline.backfill('bf_since', 'SELECT pos, at FROM bf_archive WHERE pos > 1900');
CALL pipeline.backfill('bf_since', 'SELECT pos, at FROM bf_archive WHERE pos > 1990');
CALL pipeline.backfill('bf_all', 'SELECT 0 AS pos');
SELECT * FROM bf_since;
SELECT * FROM bf_all;
DROP VIEW bf_since, bf_all;

-- what the query may be
CALL pipeline.backfill('bf_windows', NULL);
CALL pipeline.backfill('bf_windows', '');
CALL pipeline.backfill('bf_windows', 'SELECT 1 AS pos; SELECT 2 AS pos');
CALL pipeline.backfill('bf_windows', 'DELETE FROM bf_archive RETURNING pos, at');
CALL pipeline.backfill('bf_windows', 'WITH d AS (DELETE FROM bf_archive RETURNING *) SELECT pos, at FROM d');
CALL pipeline.backfill('bf_windows', 'SELECT pos, at INTO bf_new FROM bf_archive');
CALL pipeline.backfill('bf_windows', 'SELECT pos, at FROM bf_nowhere');
CALL pipeline.backfill('bf_windows', 'SELECT pos, at, name FROM bf_archive JOIN bf_names USING (k)');
CALL pipeline.backfill('bf_windows', 'SELECT pos, at, n + 1 FROM bf_archive');
CALL pipeline.backfill('bf_windows', 'SELECT pos, at, n, n FROM bf_archive');
CALL pipeline.backfill('bf_windows', 'SELECT pos, at, n AS twice FROM bf_archive');
CALL pipeline.backfill('bf_windows', 'SELECT pos, at, at AS n FROM bf_archive');
CALL pipeline.backfill('bf_windows', 'SELECT pos, k FROM bf_archive');
CALL pipeline.backfill('bf_windows', 'SELECT at, k FROM bf_archive');
CALL pipeline.backfill('bf_windows', 'SELECT nullif(pos, 3) AS pos, at FROM bf_archive ORDER BY 1');
\set SHOW_CONTEXT errors
CALL pipeline.backfill('bf_windows', 'SELECT pos, at, 1 / (pos - 3) AS n FROM (SELECT * FROM bf_archive ORDER BY pos) a');
CALL pipeline.backfill('bf_windows', 'SELECT pos, at, 40000 * (pos / 7) AS k FROM (SELECT * FROM bf_archive ORDER BY pos) a');
\set SHOW_CONTEXT never
SELECT count(*) AS left FROM pg_class WHERE relname LIKE 'bf%backfill' OR relname LIKE 'h\_%';

-- which views it is for
BEGIN;
CALL pipeline.backfill('bf_windows', 'SELECT pos, at FROM bf_archive');
ROLLBACK;
CALL pipeline.backfill('bf_archive', 'SELECT pos, at FROM bf_archive');
CALL pipeline.backfill(NULL, 'SELECT pos, at FROM bf_archive');
CREATE VIEW bf_clock WITH (pipeline.continuous) AS SELECT pipeline.tumble(pipeline.proctime(), '1 minute') AS w, count(*) FROM bf_events GROUP BY w;
CALL pipeline.backfill('bf_clock', 'SELECT pos, at FROM bf_archive');
DROP VIEW bf_clock;
CREATE VIEW bf_over WITH (pipeline.continuous) AS SELECT k, c FROM bf_windows;
CALL pipeline.backfill('bf_windows', 'SELECT pos, at FROM bf_archive');
CALL pipeline.backfill('bf_over', 'SELECT 1 AS k, 1 AS c');
DROP VIEW bf_over;
CREATE FOREIGN TABLE bf_others (pos int, at timestamptz) SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '5 seconds');
CREATE VIEW bf_two WITH (pipeline.continuous) AS SELECT pos FROM bf_events UNION ALL SELECT pos FROM bf_others;
CALL pipeline.backfill('bf_two', 'SELECT pos, at FROM bf_archive');
DROP FOREIGN TABLE bf_others CASCADE;
CREATE TABLE bf_windows_backfill ();
CALL pipeline.backfill('bf_windows', 'SELECT pos, at FROM bf_archive');
DROP TABLE bf_windows_backfill;

-- whoever calls it, the query has the rights of the view's owner, under the settings of the session
CREATE ROLE bf_owner;
CREATE ROLE bf_somebody;
CREATE SCHEMA bf_schema;
CREATE TABLE bf_schema.bf_elsewhere AS SELECT * FROM bf_archive WHERE pos <= 10;
GRANT USAGE ON SCHEMA bf_schema TO bf_owner;
GRANT CREATE ON SCHEMA public TO bf_owner;
ALTER FOREIGN TABLE bf_events OWNER TO bf_owner;
GRANT SELECT ON bf_names TO bf_owner;
ALTER VIEW bf_totals OWNER TO bf_owner;
CALL pipeline.backfill('bf_totals', 'SELECT pos, k FROM bf_archive');
SET search_path = bf_schema;
CALL pipeline.backfill('public.bf_totals', 'SELECT pos, k FROM bf_elsewhere');
GRANT SELECT ON bf_elsewhere TO bf_owner;
CALL pipeline.backfill('public.bf_totals', 'SELECT pos, k, current_user AS comment FROM bf_elsewhere');
RESET search_path;
SELECT sum(c) = 8 + (SELECT count(*) FROM bf_archive WHERE pos > 1000 AND k < 4) AS right FROM bf_totals;
SET ROLE bf_somebody;
CALL pipeline.backfill('bf_totals', 'SELECT 1 AS pos');
SET ROLE bf_owner;
CALL pipeline.backfill('bf_totals', 'SELECT 1 AS pos, 1 AS k, $$owner$$::text AS comment');
RESET ROLE;
SELECT sum(c) = 1 + (SELECT count(*) FROM bf_archive WHERE pos > 1000 AND k < 4) AS right FROM bf_totals;

\set VERBOSITY terse
DROP FOREIGN TABLE bf_events CASCADE;
SELECT count(*) FROM pipeline_data.beginnings;
DROP VIEW IF EXISTS bf_state;
DROP TABLE bf_archive, bf_names;
DROP FUNCTION bf_check, bf_want, bf_wait;
DROP PROCEDURE bf_insert;
DROP SCHEMA bf_schema CASCADE;
REVOKE CREATE ON SCHEMA public FROM bf_owner;
DROP OWNED BY bf_owner;
DROP ROLE bf_owner, bf_somebody;
