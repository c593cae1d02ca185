-- Without this: a continuous view would not behave like a view under DROP, ALTER and GRANT, or leave
-- hidden relations behind.
SET timezone = 'UTC';
CREATE FUNCTION parts(view regclass) RETURNS TABLE (part text, owner name) LANGUAGE sql AS $$
  SELECT regexp_replace(c.oid::regclass::text, '_[0-9]+$', '_N'), pg_get_userbyid(c.relowner)
  FROM pg_depend d JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid
  WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = view AND d.deptype = 'i' ORDER BY 1
$$;
CREATE VIEW leftovers AS
SELECT c.relname FROM pg_class c
WHERE c.relnamespace = 'pipeline_data'::regnamespace AND c.relname ~ '^[qtk]_[0-9]+$'
UNION ALL SELECT 'row of views' FROM pipeline_data.views
UNION ALL SELECT 'row of tasks' FROM pipeline_data.tasks
UNION ALL SELECT 'row of checkpoints' FROM pipeline_data.checkpoints;

CREATE FOREIGN TABLE ddl_clicks (at timestamptz, page text, ms int) SERVER pipeline_local
  OPTIONS (event_time 'at', out_of_orderness '0');

-- CREATE says what it understood
CREATE VIEW per_minute WITH (pipeline.continuous, security_barrier) AS
SELECT page, pipeline.tumble(at, '1 minute') AS period, count(*) AS clicks, avg(ms)::numeric(10, 2) AS mean_ms
FROM ddl_clicks GROUP BY page, period;
CREATE VIEW totals (name, n) WITH (pipeline.continuous, pipeline.emit = changes) AS
SELECT page, count(*), sum(ms) + 1 AS more FROM ddl_clicks GROUP BY page;
CREATE VIEW slow WITH (pipeline.continuous) AS SELECT at, page FROM ddl_clicks WHERE ms > 1000;

-- to PostgreSQL they are views; beneath are hidden parts
\d per_minute
\d totals
SELECT reloptions FROM pg_class WHERE relname = 'per_minute';
SELECT * FROM parts('per_minute');
SELECT * FROM parts('totals');
SELECT * FROM parts('slow');
\d per_minute_late
SELECT view, owner = current_user::regrole AS mine, streams, emit, state, options, late_table, query LIKE '%FROM ddl_clicks%' AS has_query
FROM pipeline.views ORDER BY view::text;

-- options of a plain view that is not continuous
CREATE VIEW plain WITH (pipeline.continuous = false) AS SELECT 1 AS one;
SELECT count(*) FROM pipeline.views WHERE view = 'plain'::regclass;
DROP VIEW plain;

-- nobody writes to it
INSERT INTO per_minute (page) VALUES ('x');
INSERT INTO totals VALUES ('x', 1, 1);
COPY slow FROM STDIN;
2024-01-01	x
\.
TRUNCATE totals;

-- renaming, moving, commenting; the late table follows, and only as long as it is called after the view
COMMENT ON VIEW per_minute IS 'clicks';
ALTER VIEW per_minute RENAME TO by_minute;
ALTER VIEW by_minute RENAME COLUMN clicks TO hits;
SELECT * FROM parts('by_minute');
CREATE SCHEMA ddl_other;
ALTER VIEW by_minute SET SCHEMA ddl_other;
SELECT * FROM parts('ddl_other.by_minute');
ALTER TABLE ddl_other.by_minute_late RENAME TO latecomers;
ALTER TABLE ddl_other.by_minute RENAME TO minutes;
SELECT * FROM parts('ddl_other.minutes');
SELECT * FROM ddl_other.minutes;

-- a name for the late table, a taken one, and none
CREATE VIEW named WITH (pipeline.continuous, pipeline.late_table = 'too_late') AS
SELECT date_trunc('hour', at) AS hour, count(*) FROM ddl_clicks GROUP BY 1;
CREATE TABLE taken_late (i int);
CREATE VIEW taken WITH (pipeline.continuous) AS
SELECT date_trunc('hour', at) AS hour, count(*) FROM ddl_clicks GROUP BY 1;
CREATE VIEW taken WITH (pipeline.continuous, pipeline.late = drop) AS
SELECT date_trunc('hour', at) AS hour, count(*) FROM ddl_clicks GROUP BY 1;
SELECT * FROM parts('named');
SELECT * FROM parts('taken');
DROP TABLE taken_late;
DROP VIEW named, taken;

-- ours avoid the names of the stream's columns
CREATE FOREIGN TABLE ddl_names (at timestamptz, watermark text, "offset" int, _offset int) SERVER pipeline_local
  OPTIONS (event_time 'at', out_of_orderness '0');
CREATE VIEW names WITH (pipeline.continuous) AS
SELECT date_trunc('hour', at) AS hour, max(watermark) AS w, max("offset") AS o, max(_offset) AS p
FROM ddl_names GROUP BY 1;
\d names_late
DROP FOREIGN TABLE ddl_names CASCADE;

-- options
ALTER VIEW totals SET (pipeline.checkpoint_interval = '20 ms');
SELECT options FROM pipeline.views WHERE view = 'totals'::regclass;
ALTER VIEW totals SET (pipeline.checkpoint_interval = '30 ms', security_barrier);
SELECT options FROM pipeline.views WHERE view = 'totals'::regclass;
SELECT reloptions FROM pg_class WHERE oid = 'totals'::regclass;
ALTER VIEW totals RESET (pipeline.checkpoint_interval);
SELECT options FROM pipeline.views WHERE view = 'totals'::regclass;
ALTER VIEW totals RESET (security_barrier);

-- dropping: what is read cannot go alone, and CASCADE takes everything along
DROP FOREIGN TABLE ddl_clicks;
ALTER FOREIGN TABLE ddl_clicks DROP COLUMN ms;
\set VERBOSITY terse
ALTER FOREIGN TABLE ddl_clicks ALTER COLUMN ms TYPE bigint;
\set VERBOSITY default
DROP TABLE ddl_other.latecomers;
DO $$
BEGIN
  EXECUTE format('DROP TABLE %s', (SELECT result FROM pipeline_data.views WHERE view = 'totals'::regclass));
EXCEPTION WHEN dependent_objects_still_exist THEN
  RAISE NOTICE '%', regexp_replace(SQLERRM, '_[0-9]+', '_N');
END $$;
BEGIN;
DROP VIEW slow;
SELECT count(*) FROM pipeline.views WHERE view::text = 'slow';
ROLLBACK;
SELECT count(*) FROM pipeline.views WHERE view::text = 'slow';
DROP VIEW slow;
DROP SCHEMA ddl_other CASCADE;
DROP VIEW totals;
SELECT * FROM leftovers;

-- all goes with the stream, a joined table, a function
CREATE TABLE ddl_pages (page text PRIMARY KEY, site text);
CREATE FUNCTION ddl_upper(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT upper($1)';
CREATE VIEW joined WITH (pipeline.continuous) AS
SELECT ddl_upper(site) AS site, pipeline.tumble(at, '1 minute') AS period, count(*) AS clicks
FROM ddl_clicks JOIN ddl_pages USING (page) GROUP BY 1, 2;
DROP TABLE ddl_pages;
ALTER TABLE ddl_pages DROP COLUMN site;
DROP FUNCTION ddl_upper(text);
DROP TABLE ddl_pages CASCADE;
SELECT * FROM leftovers;
CREATE VIEW again WITH (pipeline.continuous) AS SELECT ddl_upper(page) AS page FROM ddl_clicks;
DROP FUNCTION ddl_upper(text) CASCADE;
CREATE VIEW again WITH (pipeline.continuous) AS SELECT page FROM ddl_clicks;
CREATE VIEW above AS SELECT count(*) FROM again;
DROP VIEW again;
DROP FOREIGN TABLE ddl_clicks CASCADE;
SELECT * FROM leftovers;

-- a type of a column that the view shows: dropping it drops the view, and the hidden table only once
CREATE TYPE ddl_mood AS ENUM ('sad', 'glad');
CREATE FOREIGN TABLE ddl_moods (at timestamptz, mood ddl_mood) SERVER pipeline_local
  OPTIONS (event_time 'at', out_of_orderness '0');
CREATE VIEW moods WITH (pipeline.continuous) AS SELECT mood, count(*) FROM ddl_moods GROUP BY mood;
SET client_min_messages = warning;
DROP TYPE ddl_mood CASCADE;
RESET client_min_messages;
SELECT * FROM leftovers;
DROP FOREIGN TABLE ddl_moods;

-- in a transaction that is rolled back nothing remains; a savepoint is like one
CREATE FOREIGN TABLE ddl_clicks (at timestamptz, page text) SERVER pipeline_local
  OPTIONS (event_time 'at', out_of_orderness '0');
BEGIN;
CREATE VIEW gone WITH (pipeline.continuous) AS SELECT page FROM ddl_clicks;
ROLLBACK;
BEGIN;
SAVEPOINT before;
CREATE VIEW gone WITH (pipeline.continuous) AS SELECT page FROM ddl_clicks;
ROLLBACK TO before;
CREATE VIEW stays WITH (pipeline.continuous) AS SELECT page FROM ddl_clicks;
COMMIT;
INSERT INTO ddl_clicks VALUES ('2024-01-01', 'home');
SELECT pipeline.wait_for('stays');
SELECT * FROM stays;

-- an event trigger sees the view and nothing hidden
CREATE FUNCTION ddl_report() RETURNS event_trigger LANGUAGE plpgsql AS $$
DECLARE r record;
BEGIN
  FOR r IN SELECT * FROM pg_event_trigger_ddl_commands() LOOP
    RAISE NOTICE 'event trigger: % %', r.command_tag, regexp_replace(r.object_identity, '_[0-9]+$', '_N');
  END LOOP;
END $$;
CREATE EVENT TRIGGER ddl_reporter ON ddl_command_end EXECUTE FUNCTION ddl_report();
CREATE VIEW seen WITH (pipeline.continuous) AS
SELECT date_trunc('hour', at) AS hour, count(*) FROM ddl_clicks GROUP BY 1;
CREATE SCHEMA ddl_schema
  CREATE VIEW nested WITH (pipeline.continuous) AS
  SELECT date_trunc('hour', at) AS hour, count(*) FROM public.ddl_clicks GROUP BY 1;
DROP EVENT TRIGGER ddl_reporter;
DROP SCHEMA ddl_schema CASCADE;

DROP FOREIGN TABLE ddl_clicks CASCADE;
SELECT * FROM leftovers;
DROP VIEW leftovers;
DROP FUNCTION ddl_report(), parts(regclass);

-- a view's start is a time: not what its text means to somebody else, or tomorrow
SET client_min_messages = warning;
CREATE FOREIGN TABLE begun (id int) SERVER pipeline_local;
SET TimeZone = 'Europe/Berlin';
SET DateStyle = 'SQL, DMY';
CREATE VIEW since_christmas WITH (pipeline.continuous, pipeline.start = '25/12/2023 00:00') AS SELECT id FROM begun;
CREATE VIEW since_today WITH (pipeline.continuous, pipeline.start = 'today') AS SELECT id FROM begun;
RESET DateStyle;
RESET TimeZone;
RESET client_min_messages;
INSERT INTO begun VALUES (1);
SELECT pipeline.wait_for('since_christmas');
TABLE since_christmas;
SELECT options FROM pipeline.views WHERE view = 'since_christmas'::regclass;
SELECT count(*) FROM pipeline.views WHERE view = 'since_today'::regclass AND options::text LIKE '%today%';
DROP FOREIGN TABLE begun CASCADE;
