-- Without this: what docs/COMMANDS.md says about continuous views, command by command, might not be true.
-- Each "--#" names the row of the table that follows it.
SET timezone = 'UTC';
SET client_min_messages = warning;
CREATE TABLE cmd_names (k int PRIMARY KEY, name text);
INSERT INTO cmd_names SELECT i, 'n' || i FROM generate_series(1, 3) i;
CREATE FOREIGN TABLE cmd_events (at timestamptz, k int, ms int) SERVER pipeline_local
  OPTIONS (event_time 'at', out_of_orderness '0');
CREATE FUNCTION cmd_insert(minute int, n int) RETURNS void LANGUAGE sql AS $$
  INSERT INTO cmd_events SELECT '2024-01-01Z'::timestamptz + minute * interval '1 minute', i % 3 + 1, i FROM generate_series(1, n) i
$$;
CREATE FUNCTION cmd_state() RETURNS TABLE (view regclass, state text, has_error boolean) LANGUAGE sql AS $$
  SELECT view, state, last_error IS NOT NULL FROM pipeline.stat_views ORDER BY view::text
$$;
CREATE ROLE cmd_owner;
CREATE ROLE cmd_reader;
GRANT CREATE, USAGE ON SCHEMA public TO cmd_owner;
GRANT USAGE ON FOREIGN SERVER pipeline_local TO cmd_owner;
CREATE SCHEMA cmd_schema;
GRANT CREATE, USAGE ON SCHEMA cmd_schema TO cmd_owner;
RESET client_min_messages;

--# CREATE VIEW WITH (pipeline.continuous)
CREATE VIEW cmd_minutes WITH (pipeline.continuous) AS
SELECT n.name, pipeline.tumble(e.at, '1 minute') AS w, count(*) AS n, sum(e.ms) AS ms
FROM cmd_events e JOIN cmd_names n USING (k) GROUP BY 1, 2;
CREATE VIEW cmd_totals WITH (pipeline.continuous) AS SELECT k, count(*) AS n, sum(ms) + 1 AS more FROM cmd_events GROUP BY k;
CREATE TEMP VIEW cmd_no WITH (pipeline.continuous) AS SELECT k FROM cmd_events;
CREATE RECURSIVE VIEW cmd_no (k) WITH (pipeline.continuous) AS SELECT k FROM cmd_events;
CREATE VIEW cmd_no WITH (pipeline.continuous) AS SELECT k FROM cmd_events WITH CHECK OPTION;
SELECT cmd_insert(0, 9), cmd_insert(1, 3);
SELECT pipeline.wait_for('cmd_minutes'), pipeline.wait_for('cmd_totals');
SELECT * FROM cmd_minutes ORDER BY name;
SELECT * FROM cmd_totals ORDER BY k;

--# CREATE OR REPLACE VIEW
CREATE OR REPLACE VIEW cmd_rows WITH (pipeline.continuous) AS SELECT at, k FROM cmd_events WHERE ms = 1;
SELECT pipeline.wait_for('cmd_rows');
CREATE OR REPLACE VIEW cmd_rows WITH (pipeline.continuous) AS SELECT at, k FROM cmd_events;
CREATE OR REPLACE VIEW cmd_rows AS SELECT now() AS at, 1 AS k;
CREATE VIEW cmd_plain AS SELECT 1 AS one;
CREATE OR REPLACE VIEW cmd_plain WITH (pipeline.continuous) AS SELECT k FROM cmd_events;
CREATE OR REPLACE VIEW cmd_plain AS SELECT 1 AS one, 2 AS two;
DROP VIEW cmd_plain;

--# ALTER VIEW RENAME TO
ALTER VIEW cmd_minutes RENAME TO cmd_by_minute;
SELECT to_regclass('cmd_by_minute_late') IS NOT NULL AS followed;
ALTER VIEW cmd_by_minute RENAME TO cmd_minutes;

--# ALTER VIEW RENAME COLUMN
CREATE VIEW cmd_above AS SELECT k, n FROM cmd_totals;
ALTER VIEW cmd_totals RENAME COLUMN n TO events;
SELECT cmd_insert(2, 3);
SELECT pipeline.wait_for('cmd_totals');
SELECT k, events FROM cmd_totals ORDER BY k;
SELECT * FROM cmd_above ORDER BY k;
ALTER VIEW cmd_totals RENAME COLUMN events TO n;

--# ALTER VIEW SET SCHEMA
ALTER VIEW cmd_minutes SET SCHEMA cmd_schema;
SELECT relname, relnamespace::regnamespace FROM pg_class WHERE relname ~ '^cmd_minutes' AND relkind IN ('v', 'r') ORDER BY 1;
ALTER VIEW cmd_schema.cmd_minutes SET SCHEMA public;

--# ALTER VIEW OWNER TO
ALTER VIEW cmd_totals OWNER TO cmd_owner;
GRANT SELECT ON cmd_events TO cmd_owner;
ALTER VIEW cmd_totals OWNER TO cmd_owner;
SELECT c.relkind, count(*), min(pg_get_userbyid(c.relowner)) FROM pipeline_data.views v JOIN pg_class c ON c.oid IN (v.view, v.query, v.result, v.chunks)
WHERE v.view = 'cmd_totals'::regclass GROUP BY 1 ORDER BY 1;
SELECT cmd_insert(3, 3);
SELECT pipeline.wait_for('cmd_totals');
SELECT sum(n) FROM cmd_totals;
ALTER VIEW cmd_totals OWNER TO CURRENT_USER;

--# ALTER VIEW SET (pipeline.*)
SELECT oid AS query_before FROM pg_class WHERE oid = (SELECT query FROM pipeline_data.views WHERE view = 'cmd_totals'::regclass) \gset
ALTER VIEW cmd_totals SET (pipeline.checkpoint_interval = '20 ms');
SELECT options FROM pipeline.views WHERE view = 'cmd_totals'::regclass;
SELECT query = :query_before AS same_parts FROM pipeline_data.views WHERE view = 'cmd_totals'::regclass;
ALTER VIEW cmd_totals SET (pipeline.emit = 'changes');
ALTER VIEW cmd_totals SET (pipeline.speed = 'high');
ALTER VIEW cmd_totals SET (pipeline.checkpoint_interval = 'soon');
ALTER TABLE cmd_names SET (pipeline.checkpoint_interval = '1 s');

--# ALTER VIEW RESET (pipeline.*)
ALTER VIEW cmd_totals RESET (pipeline.checkpoint_interval);
SELECT options FROM pipeline.views WHERE view = 'cmd_totals'::regclass;
ALTER VIEW cmd_totals RESET (pipeline.speed);

--# ALTER VIEW SET (security_barrier)
ALTER VIEW cmd_totals SET (security_barrier);
SELECT reloptions FROM pg_class WHERE oid = 'cmd_totals'::regclass;
ALTER VIEW cmd_totals RESET (security_barrier);
ALTER VIEW cmd_totals SET (security_invoker);
ALTER VIEW cmd_totals SET (check_option = 'local');

--# ALTER VIEW ALTER COLUMN SET DEFAULT
ALTER VIEW cmd_totals ALTER COLUMN n SET DEFAULT 5;
INSERT INTO cmd_totals (k) VALUES (1);
ALTER VIEW cmd_totals ALTER COLUMN n DROP DEFAULT;

--# ALTER VIEW IF EXISTS
ALTER VIEW IF EXISTS cmd_nothing SET (pipeline.workers = 2);
ALTER VIEW cmd_nothing SET (pipeline.workers = 2);
ALTER VIEW IF EXISTS cmd_nothing RENAME TO cmd_something;

--# ALTER TABLE of a view
ALTER TABLE cmd_totals RENAME TO cmd_sums;
ALTER TABLE cmd_sums RENAME TO cmd_totals;
ALTER TABLE cmd_totals SET SCHEMA cmd_schema;
ALTER TABLE cmd_schema.cmd_totals SET SCHEMA public;
ALTER TABLE cmd_totals OWNER TO CURRENT_USER;
ALTER TABLE cmd_totals ADD COLUMN more int;
ALTER TABLE cmd_totals DROP COLUMN k;
ALTER TABLE cmd_totals ALTER COLUMN k TYPE bigint;
ALTER TABLE cmd_totals ADD CHECK (k > 0);
ALTER TABLE cmd_totals SET UNLOGGED;
ALTER TABLE cmd_totals SET TABLESPACE pg_default;
ALTER TABLE cmd_totals DISABLE TRIGGER ALL;
ALTER TABLE cmd_totals DISABLE RULE "_RETURN";
ALTER TABLE cmd_totals ENABLE ROW LEVEL SECURITY;
ALTER TABLE cmd_totals INHERIT cmd_names;
ALTER TABLE cmd_totals REPLICA IDENTITY FULL;
ALTER MATERIALIZED VIEW cmd_totals RENAME TO cmd_sums;

--# CREATE INDEX
CREATE INDEX cmd_index ON cmd_totals (k);
CREATE INDEX IF NOT EXISTS cmd_index ON cmd_totals (k);
CREATE INDEX cmd_partial ON cmd_minutes USING btree ((lower(w))) INCLUDE (n) WHERE n > 1;
CREATE UNIQUE INDEX ON cmd_totals (k);
CREATE INDEX CONCURRENTLY ON cmd_totals (k);
CREATE INDEX ON cmd_totals (more);

--# ALTER INDEX
ALTER INDEX cmd_index RENAME TO cmd_renamed;
ALTER INDEX cmd_renamed SET (fillfactor = 50);
SELECT reloptions FROM pg_class WHERE relname = 'cmd_renamed';
ALTER INDEX cmd_renamed RESET (fillfactor);
ALTER INDEX cmd_renamed SET TABLESPACE pg_default;
ALTER INDEX cmd_partial ALTER COLUMN 1 SET STATISTICS 100;
ALTER INDEX cmd_renamed ATTACH PARTITION cmd_partial;
ALTER INDEX IF EXISTS cmd_no_index RENAME TO cmd_other;
ALTER INDEX cmd_no_index SET (fillfactor = 50);

--# REINDEX
REINDEX INDEX cmd_renamed;
REINDEX (VERBOSE false) TABLE cmd_totals;
REINDEX TABLE CONCURRENTLY cmd_totals;
REINDEX (TABLESPACE pg_default) INDEX cmd_renamed;
REINDEX SCHEMA pipeline_data;
SELECT cmd_insert(4, 3);
SELECT pipeline.wait_for('cmd_totals');
SELECT sum(n) FROM cmd_totals;

--# COMMENT ON INDEX
COMMENT ON INDEX cmd_renamed IS 'by key';
SELECT obj_description(oid) FROM pg_class WHERE relname = 'cmd_renamed';
COMMENT ON INDEX cmd_no_index IS 'none';

--# DROP INDEX
DROP INDEX CONCURRENTLY cmd_partial;
SET ROLE cmd_reader;
DROP INDEX cmd_partial;
RESET ROLE;
DROP INDEX cmd_renamed, cmd_partial;
DROP INDEX IF EXISTS cmd_renamed;

--# CLUSTER
CLUSTER cmd_totals USING cmd_index;

--# VACUUM, ANALYZE
ANALYZE cmd_totals (k, n);
SELECT count(*) FROM pg_stats s JOIN pipeline_data.views v ON v.result = format('%I.%I', s.schemaname, s.tablename)::regclass
WHERE v.view = 'cmd_totals'::regclass AND attname IN ('c1', 'c2');
VACUUM (FULL, ANALYZE) cmd_totals, cmd_minutes;
SELECT cmd_insert(5, 3);
SELECT pipeline.wait_for('cmd_totals');
SELECT sum(n) FROM cmd_totals;
ANALYZE cmd_totals (more);
ANALYZE cmd_totals (less);

--# TRUNCATE
TRUNCATE cmd_names, cmd_totals;

--# LOCK
BEGIN;
LOCK TABLE cmd_totals;
SELECT mode FROM pg_locks l JOIN pipeline_data.views v ON l.relation = v.result
WHERE v.view = 'cmd_totals'::regclass AND l.pid = pg_backend_pid();
ROLLBACK;

--# COMMENT ON VIEW
COMMENT ON VIEW cmd_totals IS 'events per key';
COMMENT ON COLUMN cmd_totals.n IS 'how many';
SELECT obj_description('cmd_totals'::regclass), col_description('cmd_totals'::regclass, 2);

--# SECURITY LABEL
SECURITY LABEL ON VIEW cmd_totals IS 'secret';

--# GRANT, REVOKE on a view
GRANT SELECT (k, n), INSERT ON cmd_totals TO cmd_reader;
SET ROLE cmd_reader;
SELECT k, n FROM cmd_totals ORDER BY k LIMIT 1;
SELECT * FROM cmd_totals;
INSERT INTO cmd_totals (k) VALUES (1);
RESET ROLE;
REVOKE ALL (k, n) ON cmd_totals FROM cmd_reader;
REVOKE ALL ON cmd_totals FROM cmd_reader;

--# INSERT, UPDATE, DELETE, MERGE into a view
INSERT INTO cmd_rows VALUES (now(), 1);
INSERT INTO cmd_rows VALUES (now(), 1) ON CONFLICT DO NOTHING;
UPDATE cmd_rows SET k = 2;
DELETE FROM cmd_rows;
DO $$
BEGIN
  MERGE INTO cmd_rows USING cmd_names n ON n.k = cmd_rows.k WHEN MATCHED THEN DELETE;
EXCEPTION WHEN others THEN -- since PostgreSQL 17 it gets as far as our trigger
  RAISE NOTICE 'refused: %', SQLERRM ~ '^cannot (execute MERGE on relation|delete from continuous view) "cmd_rows"$';
END $$;

--# COPY with a view
COPY cmd_rows FROM STDIN;
2024-01-01	1
\.
COPY cmd_totals TO STDOUT;
COPY (SELECT k FROM cmd_totals ORDER BY k) TO STDOUT;

--# SELECT
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT sum(n) FROM cmd_totals;
SELECT sum(n) FROM cmd_totals;
COMMIT;
\set VERBOSITY terse
SELECT * FROM cmd_totals TABLESAMPLE system (10);
\set VERBOSITY default

--# SELECT FOR UPDATE
BEGIN;
SELECT count(*) FROM (SELECT k FROM cmd_rows FOR UPDATE) AS locked;
ROLLBACK;

--# DECLARE, FETCH, MOVE, CLOSE
BEGIN;
DECLARE cmd_cursor SCROLL CURSOR WITH HOLD FOR SELECT k FROM cmd_totals ORDER BY k;
MOVE 1 IN cmd_cursor;
FETCH 1 FROM cmd_cursor;
COMMIT;
FETCH PRIOR FROM cmd_cursor;
CLOSE cmd_cursor;
BEGIN;
DECLARE cmd_cursor CURSOR FOR SELECT * FROM cmd_rows;
FETCH 1 FROM cmd_cursor;
DELETE FROM cmd_rows WHERE CURRENT OF cmd_cursor;
ROLLBACK;

--# PREPARE, EXECUTE, DEALLOCATE
PREPARE cmd_prepared (int) AS SELECT n > 0 FROM cmd_totals WHERE k = $1;
EXECUTE cmd_prepared (1);
ALTER VIEW cmd_totals RENAME TO cmd_sums;
EXECUTE cmd_prepared (2);
ALTER VIEW cmd_sums RENAME TO cmd_totals;
DEALLOCATE cmd_prepared;

--# EXPLAIN
DO $$
DECLARE line text;
BEGIN
  FOR line IN EXPLAIN (COSTS off) SELECT * FROM cmd_rows LOOP RAISE NOTICE '%', regexp_replace(line, '_[0-9]+', '_N'); END LOOP;
END $$;

--# CREATE TRIGGER
CREATE FUNCTION cmd_trigger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE '% % %', TG_WHEN, TG_OP, TG_LEVEL; RETURN NEW; END $$;
CREATE TRIGGER cmd_trigger INSTEAD OF INSERT ON cmd_totals FOR EACH ROW EXECUTE FUNCTION cmd_trigger();
CREATE TRIGGER cmd_trigger AFTER INSERT ON cmd_minutes_late FOR EACH ROW EXECUTE FUNCTION cmd_trigger();

--# ALTER TRIGGER, DROP TRIGGER
ALTER TRIGGER pipeline_refuse_dml ON cmd_rows RENAME TO cmd_refuse;
DROP TRIGGER cmd_refuse ON cmd_rows;
DROP TRIGGER IF EXISTS pipeline_refuse_dml ON cmd_totals;
INSERT INTO cmd_rows VALUES (now(), 1);
ALTER TRIGGER cmd_refuse ON cmd_rows RENAME TO pipeline_refuse_dml;
DROP TRIGGER IF EXISTS cmd_trigger ON cmd_totals;

--# CREATE RULE, ALTER RULE, DROP RULE
CREATE RULE cmd_rule AS ON INSERT TO cmd_rows DO INSTEAD NOTHING;
ALTER RULE "_RETURN" ON cmd_rows RENAME TO cmd_rule;
DROP RULE "_RETURN" ON cmd_rows;

--# CREATE POLICY
CREATE POLICY cmd_policy ON cmd_totals USING (k = 1);

--# CREATE STATISTICS
\set VERBOSITY terse
CREATE STATISTICS cmd_statistics ON k, n FROM cmd_totals;

--# CREATE PUBLICATION
CREATE PUBLICATION cmd_publication FOR TABLE cmd_totals;
SET client_min_messages = error;
CREATE PUBLICATION cmd_publication FOR ALL TABLES;
RESET client_min_messages;
SELECT cmd_insert(6, 3), cmd_insert(0, 1);
SELECT pipeline.wait_for('cmd_minutes'), pipeline.wait_for('cmd_totals');
SELECT count(*) FROM cmd_minutes_late;
SELECT * FROM cmd_state();
DROP PUBLICATION cmd_publication;
\set VERBOSITY default

--# CREATE TABLE LIKE, CREATE TABLE AS, SELECT INTO
CREATE TABLE cmd_like (LIKE cmd_totals);
CREATE TABLE cmd_as AS TABLE cmd_rows;
SELECT k INTO cmd_into FROM cmd_totals;
DROP TABLE cmd_like, cmd_as, cmd_into;
CREATE TABLE cmd_no WITH (pipeline.continuous) AS SELECT k FROM cmd_events;

--# CREATE TABLE INHERITS, OF, REFERENCES a view
CREATE TABLE cmd_no () INHERITS (cmd_totals);
CREATE TABLE cmd_no OF cmd_totals;
CREATE TABLE cmd_no (k int REFERENCES cmd_totals (k));

--# CREATE MATERIALIZED VIEW, REFRESH
CREATE MATERIALIZED VIEW cmd_snapshot AS SELECT count(*) AS n FROM cmd_totals;
REFRESH MATERIALIZED VIEW cmd_snapshot;
TABLE cmd_snapshot;
DROP MATERIALIZED VIEW cmd_snapshot;
CREATE MATERIALIZED VIEW cmd_no WITH (pipeline.continuous) AS SELECT k FROM cmd_events;

--# Ordinary views and functions over a view
CREATE FUNCTION cmd_sum() RETURNS numeric LANGUAGE sql BEGIN ATOMIC SELECT sum(n) FROM cmd_totals; END;
SELECT cmd_sum() > 0;
DROP VIEW cmd_totals;
DROP FUNCTION cmd_sum();

--# Tables for late rows
CREATE INDEX cmd_late_index ON cmd_minutes_late (k);
SELECT cmd_insert(0, 2);
SELECT pipeline.wait_for('cmd_minutes');
SELECT k, ms FROM cmd_minutes_late ORDER BY ms, k;
DELETE FROM cmd_minutes_late WHERE ms = 2;
TRUNCATE cmd_minutes_late;
GRANT SELECT ON cmd_minutes_late TO cmd_reader;
ALTER TABLE cmd_minutes_late SET SCHEMA cmd_schema;
ALTER TABLE cmd_schema.cmd_minutes_late RENAME TO cmd_late;
SELECT cmd_insert(0, 1);
SELECT pipeline.wait_for('cmd_minutes');
SELECT k, ms FROM cmd_schema.cmd_late;
CREATE UNIQUE INDEX ON cmd_schema.cmd_late (k);
ALTER TABLE cmd_schema.cmd_late SET UNLOGGED;
ALTER TABLE cmd_schema.cmd_late ADD COLUMN more int;
ALTER TABLE cmd_schema.cmd_late ADD CHECK (k > 0);
ALTER TABLE cmd_schema.cmd_late OWNER TO cmd_owner;
DROP TABLE cmd_schema.cmd_late CASCADE;

--# DROP VIEW
SELECT * FROM cmd_state();
DROP VIEW cmd_totals RESTRICT;
\set VERBOSITY terse
DROP VIEW cmd_totals CASCADE;
\set VERBOSITY default
DROP VIEW IF EXISTS cmd_totals;
DROP VIEW cmd_minutes, cmd_rows;
SELECT count(*) FROM pipeline.views;
SELECT relname FROM pg_class WHERE relname ~ '^[qtkfh]_[0-9]+$' OR relname ~ '^cmd_.*late';

DROP FOREIGN TABLE cmd_events;
DROP TABLE cmd_names;
DROP SCHEMA cmd_schema;
DROP FUNCTION cmd_insert(int, int), cmd_state(), cmd_trigger();
DROP OWNED BY cmd_owner, cmd_reader;
DROP ROLE cmd_owner, cmd_reader;
