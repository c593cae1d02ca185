-- Without this: DDL that was rolled back, as a whole or to a savepoint, might leave rows, relations or files
-- behind, or a worker that is gone or runs what never was.
SET timezone = 'UTC';
SET client_min_messages = warning;
CREATE ROLE undo_owner;
GRANT CREATE, USAGE ON SCHEMA public TO undo_owner;
CREATE SCHEMA undo_schema;
CREATE TABLE undo_names (k int PRIMARY KEY, name text, note text);
INSERT INTO undo_names VALUES (1, 'one'), (2, 'two');
CREATE FUNCTION undo_label(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT upper($1)';
CREATE SERVER undo_server FOREIGN DATA WRAPPER pipeline_kafka OPTIONS (bootstrap_servers 'localhost:1');
CREATE FOREIGN TABLE undo_topic (k int) SERVER undo_server OPTIONS (topic 'undo');
CREATE FOREIGN TABLE undo_events (at timestamptz, k int, note text) SERVER pipeline_local
  OPTIONS (event_time 'at', out_of_orderness '0');
GRANT SELECT ON undo_events, undo_names TO undo_owner;
CREATE VIEW undo_minutes WITH (pipeline.continuous) AS
SELECT undo_label(n.name) AS name, pipeline.tumble(e.at, '1 minute') AS w, count(*) AS n
FROM undo_events e JOIN undo_names n USING (k) GROUP BY 1, 2;
CREATE VIEW undo_totals WITH (pipeline.continuous) AS SELECT k, count(*) AS n FROM undo_events GROUP BY k;
CREATE VIEW undo_above WITH (pipeline.continuous) AS SELECT w, sum(n) AS n FROM undo_minutes GROUP BY w;
CREATE INDEX undo_index ON undo_totals (k);
SET ROLE undo_owner;
CREATE VIEW undo_owned WITH (pipeline.continuous) AS SELECT k FROM undo_events;
RESET ROLE;

CREATE TABLE undo_before (place text, content jsonb);

-- All that a transaction may have left: rows of the system catalogs and of ours, but for what changes by itself.
CREATE FUNCTION undo_rows() RETURNS TABLE (place text, content jsonb) LANGUAGE plpgsql AS $$
DECLARE t regclass;
BEGIN
  FOR t IN SELECT oid FROM pg_class
    WHERE relkind = 'r' AND (relnamespace = 'pg_catalog'::regnamespace AND relname NOT IN ('pg_statistic', 'pg_largeobject')
      OR relnamespace = 'pipeline_data'::regnamespace AND relname !~ '^([ltk]_|checkpoints$)')
  LOOP
    RETURN QUERY EXECUTE format($q$ SELECT %L, to_jsonb(r) - '{relpages,reltuples,relallvisible,relallfrozen,relfrozenxid,relminmxid,datfrozenxid,datminmxid}'::text[]
      FROM %s AS r WHERE NOT coalesce(to_jsonb(r)->>'relname' LIKE 'pg_temp%%', false) $q$, t::text, t);
  END LOOP;
  RETURN QUERY SELECT 'file', to_jsonb(f) FROM pg_ls_dir('base/' || (SELECT oid FROM pg_database WHERE datname = current_database())) AS f
    WHERE f ~ '^[0-9]+$' AND NOT EXISTS (SELECT FROM pg_class c WHERE pg_relation_filenode(c.oid) = f::oid);
END $$;
CREATE FUNCTION undo_differences() RETURNS TABLE (sign text, place text, content jsonb) LANGUAGE sql AS $$
  (SELECT '-', * FROM undo_before EXCEPT ALL SELECT '-', * FROM undo_rows())
  UNION ALL (SELECT '+', * FROM undo_rows() EXCEPT ALL SELECT '+', * FROM undo_before)
$$;
CREATE FUNCTION undo_wait() RETURNS bool LANGUAGE sql AS $$
  SELECT bool_and(pipeline.wait_for(view, '60 s')) FROM pipeline.views WHERE view::text <> 'undo_of_topic'
$$;
CREATE VIEW undo_of_topic WITH (pipeline.continuous) AS SELECT k FROM undo_topic;
CREATE TABLE undo_statements (n serial, statement text);
INSERT INTO undo_statements (statement) VALUES
  ('CREATE VIEW undo_new WITH (pipeline.continuous) AS SELECT k, count(*) FROM undo_events GROUP BY k'),
  ('CREATE VIEW undo_new WITH (pipeline.continuous) AS SELECT n, count(*) FROM undo_totals GROUP BY n'),
  ('CREATE SCHEMA undo_new CREATE VIEW v WITH (pipeline.continuous) AS SELECT k FROM public.undo_events'),
  ('DROP VIEW undo_totals'),
  ('DROP VIEW undo_minutes CASCADE'),
  ('DROP FOREIGN TABLE undo_events CASCADE'),
  ('DROP SERVER undo_server CASCADE'),
  ('DROP TABLE undo_names CASCADE'),
  ('DROP FUNCTION undo_label CASCADE'),
  ('DROP EXTENSION pipeline_ext CASCADE'),
  ('DROP OWNED BY undo_owner'),
  ('ALTER VIEW undo_minutes RENAME TO undo_new'),
  ('ALTER VIEW undo_minutes RENAME COLUMN n TO m'),
  ('ALTER VIEW undo_minutes SET SCHEMA undo_schema'),
  ('ALTER VIEW undo_totals OWNER TO undo_owner'),
  ('ALTER VIEW undo_totals SET (pipeline.checkpoint_interval = ''10 s'')'),
  ('CREATE INDEX undo_new ON undo_totals (n)'),
  ('DROP INDEX undo_index'),
  ('ALTER INDEX undo_index RENAME TO undo_new'),
  ('REINDEX TABLE undo_totals'),
  ('COMMENT ON INDEX undo_index IS ''new'''),
  ('GRANT SELECT ON undo_totals TO undo_owner'),
  ('CREATE SERVER undo_new FOREIGN DATA WRAPPER pipeline_kafka OPTIONS (bootstrap_servers ''localhost:1'')'),
  ('ALTER SERVER undo_server OPTIONS (SET bootstrap_servers ''localhost:2'')'),
  ('CREATE USER MAPPING FOR CURRENT_USER SERVER undo_server OPTIONS ("sasl.username" ''u'')'),
  ('CREATE FOREIGN TABLE undo_new (k int) SERVER pipeline_local'),
  ('ALTER FOREIGN TABLE undo_events ADD COLUMN more int'),
  ('ALTER FOREIGN TABLE undo_events DROP COLUMN k CASCADE'),
  ('ALTER FOREIGN TABLE undo_events ALTER COLUMN note TYPE varchar(5)'),
  ('ALTER FOREIGN TABLE undo_events RENAME COLUMN at TO happened'),
  ('ALTER FOREIGN TABLE undo_events OPTIONS (SET out_of_orderness ''1 s'')'),
  ('ALTER FOREIGN TABLE undo_events OWNER TO undo_owner'),
  ('ALTER FOREIGN TABLE undo_events SET SCHEMA undo_schema'),
  ('ALTER TABLE undo_names RENAME COLUMN name TO label'),
  ('ALTER TABLE undo_names ALTER COLUMN note TYPE int USING 1'),
  ('TRUNCATE undo_names'),
  ('CREATE OR REPLACE FUNCTION undo_label(text) RETURNS text LANGUAGE sql IMMUTABLE AS ''SELECT lower($1)'''),
  ('REASSIGN OWNED BY undo_owner TO CURRENT_USER');
INSERT INTO undo_events VALUES ('2024-01-01', 1), ('2024-01-01 00:01', 2);
SELECT undo_wait();
-- for what has just been dropped by other tests, and what is to be kept of it
CHECKPOINT;
INSERT INTO undo_before SELECT * FROM undo_rows();
-- that they would be found
BEGIN;
CREATE VIEW undo_new WITH (pipeline.continuous) AS SELECT k FROM undo_events;
SELECT place, count(*) > 0 AS found FROM undo_differences() WHERE sign = '+' AND place IN ('pg_class', 'pipeline_data.views') GROUP BY 1 ORDER BY 1;
ROLLBACK;
RESET client_min_messages;

-- to a savepoint: all of them in one transaction, which commits
DO $$
DECLARE s text;
BEGIN
  SET LOCAL client_min_messages = warning;
  FOR s IN SELECT statement FROM undo_statements ORDER BY n LOOP
    BEGIN
      EXECUTE s;
      RAISE EXCEPTION USING errcode = 'UNDO1';
    EXCEPTION
      WHEN SQLSTATE 'UNDO1' THEN NULL;
      WHEN others THEN RAISE WARNING '%: %', s, SQLERRM;
    END;
  END LOOP;
END $$;
-- as a whole: each in a transaction of its own
SET client_min_messages = warning;
SELECT 'BEGIN', statement, 'ROLLBACK' FROM undo_statements ORDER BY n \gexec
RESET client_min_messages;

CHECKPOINT;
SELECT * FROM undo_differences();
SELECT count(*) AS tasks_that_never_were FROM pipeline_data.task_slots() s JOIN pg_database d ON d.oid = s.database
WHERE datname = current_database() AND s.task NOT IN (SELECT id FROM pipeline_data.views);
INSERT INTO undo_events VALUES ('2024-01-01 00:02', 1), ('2024-01-01 00:03', 2);
SELECT undo_wait();
SELECT name, lower(w) AS minute, n FROM undo_minutes ORDER BY 2;
SELECT * FROM undo_totals ORDER BY k;
SELECT state, last_error FROM pipeline.stat_views WHERE view::text <> 'undo_of_topic';

SET client_min_messages = warning;
DROP FOREIGN TABLE undo_events CASCADE;
DROP SERVER undo_server CASCADE;
DROP TABLE undo_names, undo_before, undo_statements;
DROP FUNCTION undo_rows(), undo_differences(), undo_wait(), undo_label(text);
DROP SCHEMA undo_schema;
DROP OWNED BY undo_owner;
DROP ROLE undo_owner;
