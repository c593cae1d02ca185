-- Without this: what docs/COMMANDS.md says about roles, schemas, transactions, the extension and databases might not be true.
-- Each "--#" names the row of the table that follows it.
SET timezone = 'UTC';
SET client_min_messages = warning;
CREATE FOREIGN TABLE cmd_events (k int, v int) SERVER pipeline_local;
CREATE VIEW cmd_totals WITH (pipeline.continuous) AS SELECT k, count(*) AS n FROM cmd_events GROUP BY k;
RESET client_min_messages;
INSERT INTO cmd_events VALUES (1, 1), (2, 2);
SELECT pipeline.wait_for('cmd_totals');

--# CREATE ROLE, ALTER ROLE, DROP ROLE
CREATE ROLE cmd_first;
CREATE ROLE cmd_second;
ALTER ROLE cmd_first SET TimeZone = 'Asia/Tokyo';
GRANT CREATE, USAGE ON SCHEMA public TO cmd_first, cmd_second;
GRANT USAGE ON FOREIGN SERVER pipeline_local TO cmd_first;
GRANT SELECT ON cmd_events TO cmd_first;
SET client_min_messages = warning;
SET ROLE cmd_first;
CREATE FOREIGN TABLE cmd_own (k int) SERVER pipeline_local;
CREATE VIEW cmd_of_own WITH (pipeline.continuous) AS SELECT k, count(*) AS n FROM cmd_own GROUP BY k;
CREATE VIEW cmd_of_others WITH (pipeline.continuous) AS SELECT k, count(*) AS n FROM cmd_events GROUP BY k;
RESET ROLE;
RESET client_min_messages;
\set VERBOSITY terse
DROP ROLE cmd_first;
\set VERBOSITY default

--# REASSIGN OWNED
REASSIGN OWNED BY cmd_first TO cmd_second;
SELECT pg_get_userbyid(relowner) AS owner, count(*) FROM pg_class
WHERE relowner IN ('cmd_first'::regrole, 'cmd_second'::regrole) AND relkind IN ('v', 'r', 'f') GROUP BY 1;
INSERT INTO cmd_own VALUES (1);
INSERT INTO cmd_events VALUES (1, 1);
SELECT pipeline.wait_for('cmd_of_own'), pipeline.wait_for('cmd_of_others', '200 ms');
GRANT SELECT ON cmd_events TO cmd_second;
SELECT pipeline.wait_for('cmd_of_others');
SELECT sum(n) FROM cmd_of_others;
DROP OWNED BY cmd_first;
DROP ROLE cmd_first;

--# DROP OWNED
BEGIN;
DROP OWNED BY cmd_second;
SELECT count(*) FROM pipeline.views;
ROLLBACK;
SELECT count(*) FROM pipeline.views;
SELECT max(id) AS last_id FROM pipeline_data.views \gset
DROP OWNED BY cmd_second;
DROP ROLE cmd_second;
SELECT view FROM pipeline.views;
SELECT relname FROM pg_class WHERE relname ~ ('_' || :last_id || '$');

--# ALTER DEFAULT PRIVILEGES
CREATE ROLE cmd_reader;
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO cmd_reader;
SET client_min_messages = warning;
CREATE VIEW cmd_shared WITH (pipeline.continuous) AS SELECT k FROM cmd_events;
RESET client_min_messages;
SELECT has_table_privilege('cmd_reader', 'cmd_shared', 'SELECT');
ALTER DEFAULT PRIVILEGES REVOKE SELECT ON TABLES FROM cmd_reader;
DROP VIEW cmd_shared;
DROP OWNED BY cmd_reader;
DROP ROLE cmd_reader;

--# CREATE SCHEMA, ALTER SCHEMA, DROP SCHEMA
SET client_min_messages = warning;
CREATE SCHEMA cmd_schema CREATE VIEW cmd_nested WITH (pipeline.continuous) AS SELECT k, count(*) AS n FROM public.cmd_events GROUP BY k;
RESET client_min_messages;
ALTER SCHEMA cmd_schema RENAME TO cmd_renamed;
INSERT INTO cmd_events VALUES (1, 1);
SELECT pipeline.wait_for('cmd_renamed.cmd_nested');
SELECT sum(n) FROM cmd_renamed.cmd_nested;
ALTER SCHEMA pipeline RENAME TO cmd_pipeline;
ALTER SCHEMA pipeline_data RENAME TO cmd_data;
ALTER TABLE pipeline_data.views RENAME TO cmd_views;
ALTER TABLE pipeline_data.views SET SCHEMA public;
ALTER FUNCTION pipeline.watermark(regclass) RENAME TO cmd_watermark;
DROP SCHEMA pipeline_data CASCADE;
DROP SCHEMA cmd_renamed;
DROP SCHEMA cmd_renamed CASCADE;
SELECT view FROM pipeline.views;

--# Event triggers
CREATE FUNCTION cmd_report() RETURNS event_trigger LANGUAGE plpgsql AS $$
DECLARE r record;
BEGIN
  IF TG_EVENT = 'sql_drop' THEN
    FOR r IN SELECT * FROM pg_event_trigger_dropped_objects() WHERE original LOOP RAISE NOTICE 'dropped: %', r.object_identity; END LOOP;
  ELSE
    FOR r IN SELECT * FROM pg_event_trigger_ddl_commands() LOOP RAISE NOTICE '%: %', r.command_tag, r.object_identity; END LOOP;
  END IF;
END $$;
CREATE EVENT TRIGGER cmd_reporter ON ddl_command_end EXECUTE FUNCTION cmd_report();
CREATE EVENT TRIGGER cmd_dropper ON sql_drop EXECUTE FUNCTION cmd_report();
CREATE VIEW cmd_seen WITH (pipeline.continuous) AS SELECT k FROM cmd_events;
CREATE FOREIGN TABLE cmd_stream (k int) SERVER pipeline_local;
ALTER FOREIGN TABLE cmd_stream ALTER COLUMN k TYPE bigint;
DROP FOREIGN TABLE cmd_stream;
CREATE INDEX cmd_index ON cmd_seen (k);
ALTER VIEW cmd_seen SET (pipeline.checkpoint_interval = '1 s');
ALTER FOREIGN TABLE cmd_events ADD COLUMN more int;
DROP VIEW cmd_seen;
DROP EVENT TRIGGER cmd_reporter;
DROP EVENT TRIGGER cmd_dropper;
DROP FUNCTION cmd_report();

--# BEGIN, COMMIT, ROLLBACK, SAVEPOINT and what goes with them
START TRANSACTION;
SET TRANSACTION ISOLATION LEVEL SERIALIZABLE;
SAVEPOINT cmd_savepoint;
DROP VIEW cmd_totals;
ROLLBACK TO SAVEPOINT cmd_savepoint;
SAVEPOINT cmd_second;
ALTER VIEW cmd_totals RENAME TO cmd_sums;
RELEASE SAVEPOINT cmd_second;
END;
INSERT INTO cmd_events VALUES (3, 3);
SELECT pipeline.wait_for('cmd_sums');
SELECT * FROM cmd_sums WHERE k = 3;
BEGIN;
ALTER VIEW cmd_sums RENAME TO cmd_totals;
ABORT;
BEGIN;
ALTER VIEW cmd_sums RENAME TO cmd_totals;
COMMIT AND CHAIN;
SELECT count(*) FROM pipeline.views;
COMMIT;

--# PREPARE TRANSACTION
BEGIN;
INSERT INTO cmd_events VALUES (4, 4);
PREPARE TRANSACTION 'cmd_insert';
COMMIT PREPARED 'cmd_insert';
SELECT pipeline.wait_for('cmd_totals');
SELECT * FROM cmd_totals WHERE k = 4;
BEGIN;
INSERT INTO cmd_events VALUES (5, 5);
PREPARE TRANSACTION 'cmd_insert';
ROLLBACK PREPARED 'cmd_insert';
BEGIN;
ALTER VIEW cmd_totals SET (pipeline.checkpoint_interval = '1 s');
PREPARE TRANSACTION 'cmd_alter';
BEGIN;
DROP VIEW cmd_totals;
PREPARE TRANSACTION 'cmd_drop';
BEGIN;
ALTER FOREIGN TABLE cmd_events DROP COLUMN more;
PREPARE TRANSACTION 'cmd_alter';
SELECT options FROM pipeline.views;

--# SET, RESET, SHOW, DISCARD, LOAD, SET ROLE, SET SESSION AUTHORIZATION
SET client_min_messages = warning;
SET TimeZone = 'Asia/Tokyo';
CREATE VIEW cmd_days WITH (pipeline.continuous) AS SELECT date_trunc('day', timestamptz '2024-01-01 18:00Z')::text AS day FROM cmd_events WHERE k = 6;
SET TimeZone = 'UTC';
RESET client_min_messages;
LOAD 'pipeline_ext';
SHOW pipeline.checkpoint_interval;
SET SESSION AUTHORIZATION DEFAULT;
SET ROLE NONE;
DISCARD ALL;
INSERT INTO cmd_events VALUES (6, 6);
SELECT pipeline.wait_for('cmd_days');
TABLE cmd_days;
DROP VIEW cmd_days;

--# DO, CALL, CHECKPOINT, LISTEN, NOTIFY, UNLISTEN, VALUES, SET CONSTRAINTS
DO $$ BEGIN EXECUTE 'ALTER VIEW cmd_totals RENAME TO cmd_sums'; ALTER VIEW cmd_sums RENAME TO cmd_totals; END $$;
CREATE PROCEDURE cmd_procedure() LANGUAGE plpgsql AS $$
BEGIN
  FOR i IN 1..2 LOOP INSERT INTO cmd_events VALUES (7, i); COMMIT; END LOOP;
END $$;
CREATE OR REPLACE PROCEDURE cmd_procedure() LANGUAGE plpgsql AS $$
BEGIN
  FOR i IN 1..3 LOOP INSERT INTO cmd_events VALUES (7, i); COMMIT; END LOOP;
END $$;
ALTER PROCEDURE cmd_procedure() SET search_path = public;
ALTER PROCEDURE cmd_procedure() RESET ALL;
CALL cmd_procedure();
BEGIN;
SET CONSTRAINTS ALL DEFERRED;
COMMIT;
CHECKPOINT;
SELECT pipeline.wait_for('cmd_totals');
SELECT * FROM cmd_totals WHERE k IN (VALUES (7));
LISTEN cmd_channel;
UNLISTEN *;
NOTIFY cmd_channel;
DROP PROCEDURE cmd_procedure();

--# ALTER SYSTEM, tablespaces
ALTER SYSTEM SET pipeline.checkpoint_interval = '2 s';
ALTER SYSTEM RESET pipeline.checkpoint_interval;
SET client_min_messages = warning;
SET allow_in_place_tablespaces = on;
CREATE TABLESPACE cmd_space LOCATION '';
SET default_tablespace = cmd_space;
CREATE VIEW cmd_placed WITH (pipeline.continuous) AS SELECT k, count(*) AS n FROM cmd_events GROUP BY k;
RESET default_tablespace;
RESET client_min_messages;
SELECT count(*) FROM pg_class c JOIN pg_tablespace t ON t.oid = c.reltablespace JOIN pipeline_data.views v ON c.oid IN (v.result, v.chunks)
WHERE spcname = 'cmd_space' AND v.view = 'cmd_placed'::regclass;
SELECT pipeline.wait_for('cmd_placed');
\set VERBOSITY terse
DROP TABLESPACE cmd_space;
\set VERBOSITY default
DROP VIEW cmd_placed;
CHECKPOINT;
DROP TABLESPACE cmd_space;

--# CREATE, ALTER, DROP SUBSCRIPTION
SET client_min_messages = error;
CREATE SUBSCRIPTION cmd_subscription CONNECTION 'dbname=nowhere' PUBLICATION nothing WITH (connect = false);
RESET client_min_messages;
ALTER SUBSCRIPTION cmd_subscription SET (slot_name = NONE);
DROP SUBSCRIPTION cmd_subscription;

--# Access methods, casts, conversions, languages, large objects, operator classes and families, sequences, text search, transforms
CREATE TYPE cmd_pair AS (a int, b int);
CREATE FUNCTION cmd_cast(cmd_pair) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT ($1).a::text';
CREATE CAST (cmd_pair AS text) WITH FUNCTION cmd_cast(cmd_pair);
SET client_min_messages = warning;
CREATE VIEW cmd_casts WITH (pipeline.continuous) AS SELECT (ROW(k, v)::cmd_pair)::text AS t FROM cmd_events;
RESET client_min_messages;
DROP FUNCTION cmd_cast(cmd_pair);
CREATE SEQUENCE cmd_sequence;
CREATE TEXT SEARCH CONFIGURATION cmd_search (COPY = simple);
CREATE ACCESS METHOD cmd_method TYPE INDEX HANDLER bthandler;
CREATE OPERATOR FAMILY cmd_family USING btree;
SELECT lo_unlink(lo_create(0)) = 1;
DROP OPERATOR FAMILY cmd_family USING btree;
DROP ACCESS METHOD cmd_method;
DROP TEXT SEARCH CONFIGURATION cmd_search;
DROP SEQUENCE cmd_sequence;
SELECT pipeline.wait_for('cmd_casts');
SELECT t FROM cmd_casts LIMIT 1;
DROP VIEW cmd_casts;
DROP TYPE cmd_pair CASCADE;

--# ALTER EXTENSION
ALTER EXTENSION pipeline_ext SET SCHEMA pg_catalog;
ALTER EXTENSION pipeline_ext UPDATE;
ALTER EXTENSION pipeline_ext ADD VIEW cmd_totals;
DROP VIEW cmd_totals;
ALTER EXTENSION pipeline_ext DROP VIEW cmd_totals;

--# CREATE EXTENSION, DROP EXTENSION
SELECT state, last_error FROM pipeline.stat_views;
DROP EXTENSION pipeline_ext;
BEGIN;
SET LOCAL client_min_messages = warning;
DROP EXTENSION pipeline_ext CASCADE;
SELECT count(*) FROM pg_class WHERE relname ~ '^[lqtkfh]_[0-9]+' OR relname ~ '^cmd_';
ROLLBACK;
INSERT INTO cmd_events VALUES (8, 8);
SELECT pipeline.wait_for('cmd_totals');
SET client_min_messages = warning;
DROP EXTENSION pipeline_ext CASCADE;
RESET client_min_messages;
SELECT relname FROM pg_class WHERE relname ~ '^[lqtkfh]_[0-9]+' OR relname ~ '^cmd_';
SELECT nspname FROM pg_namespace WHERE nspname ~ 'pipeline';
CREATE EXTENSION pipeline_ext;
SELECT count(*) FROM pipeline.views;

--# CREATE, ALTER, DROP DATABASE
CREATE DATABASE cmd_source;
SELECT current_database() AS here \gset
\c cmd_source
SET client_min_messages = warning;
CREATE EXTENSION pipeline_ext;
CREATE FOREIGN TABLE cmd_events (k int) SERVER pipeline_local;
CREATE VIEW cmd_totals WITH (pipeline.continuous) AS SELECT k, count(*) AS n FROM cmd_events GROUP BY k;
INSERT INTO cmd_events VALUES (1);
SELECT pipeline.wait_for('cmd_totals');
\c :here
CREATE DATABASE cmd_copy TEMPLATE cmd_source;
ALTER DATABASE cmd_source RENAME TO cmd_renamed;
\c cmd_renamed
INSERT INTO cmd_events VALUES (1);
SELECT pipeline.wait_for('cmd_totals');
TABLE cmd_totals;
\c cmd_copy
SELECT view, state FROM pipeline.views;
TABLE cmd_totals;
\c :here
DROP DATABASE cmd_renamed;
DROP DATABASE cmd_copy;
