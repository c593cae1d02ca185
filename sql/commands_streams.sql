-- Without this: what docs/COMMANDS.md says about streams, command by command, might not be true.
-- Each "--#" names the row of the table that follows it.
SET timezone = 'UTC';
SET client_min_messages = warning;
CREATE ROLE cmd_owner;
GRANT CREATE, USAGE ON SCHEMA public TO cmd_owner;
CREATE SCHEMA cmd_schema;
CREATE FUNCTION cmd_hidden(stream regclass) RETURNS TABLE (owner name, tables bigint) LANGUAGE sql AS $$
  SELECT pg_get_userbyid(c.relowner), count(*) FROM pg_depend d JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid
  WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = stream AND d.deptype = 'a' AND c.relkind = 'r' GROUP BY 1
$$;
RESET client_min_messages;

--# CREATE SERVER, ALTER SERVER
CREATE SERVER cmd_server FOREIGN DATA WRAPPER pipeline_kafka;
CREATE SERVER cmd_server FOREIGN DATA WRAPPER pipeline_kafka OPTIONS (bootstrap_servers 'localhost:1');
ALTER SERVER cmd_server VERSION '3.9';
ALTER SERVER cmd_server OPTIONS (ADD "fetch.wait.max.ms" '100');
ALTER SERVER cmd_server OPTIONS (SET "fetch.wait.max.ms" '200');
ALTER SERVER cmd_server OPTIONS (ADD speed 'high');
ALTER SERVER cmd_server OPTIONS (DROP bootstrap_servers);
ALTER SERVER cmd_server RENAME TO cmd_kafka;
ALTER SERVER cmd_kafka OWNER TO cmd_owner;
ALTER SERVER pipeline_local RENAME TO cmd_local;
ALTER SERVER pipeline_local OPTIONS (ADD speed 'high');

--# CREATE FOREIGN TABLE
CREATE FOREIGN TABLE cmd_events (at timestamptz, k int, ms int, note text) SERVER pipeline_local
  OPTIONS (event_time 'at', out_of_orderness '0');
CREATE FOREIGN TABLE IF NOT EXISTS cmd_events (at timestamptz) SERVER pipeline_local;
CREATE FOREIGN TABLE cmd_topic (at timestamptz, k int, ms int, doubled int GENERATED ALWAYS AS (ms * 2) STORED) SERVER cmd_kafka
  OPTIONS (topic 'cmd', event_time 'at', out_of_orderness '0');
CREATE FOREIGN TABLE cmd_no (at timestamptz) SERVER cmd_kafka OPTIONS (topic 'cmd', event_time 'time', out_of_orderness '0');
CREATE VIEW cmd_totals WITH (pipeline.continuous) AS SELECT k, count(*) AS n, sum(ms) AS ms FROM cmd_events GROUP BY k;
CREATE VIEW cmd_whole WITH (pipeline.continuous) AS SELECT to_jsonb(e) - 'at' AS event FROM cmd_events e WHERE k > 100;
CREATE VIEW cmd_of_topic WITH (pipeline.continuous) AS SELECT k, sum(doubled) FROM cmd_topic GROUP BY k;

--# INSERT into a local stream
INSERT INTO cmd_events VALUES ('2024-01-01', 1, 10), ('2024-01-01', 2, 20) RETURNING k, ms;
INSERT INTO cmd_events VALUES ('2024-01-01', 1, 10) ON CONFLICT DO NOTHING;
INSERT INTO cmd_events VALUES ('2024-01-01', 1, 10) ON CONFLICT (k) DO NOTHING;
SELECT pipeline.wait_for('cmd_totals');
SELECT * FROM cmd_totals ORDER BY k;

--# INSERT into a Kafka stream
ALTER SERVER cmd_kafka OPTIONS (ADD "message.timeout.ms" '1000');
INSERT INTO cmd_topic (k) VALUES (1);

--# COPY with a stream
COPY cmd_events (at, k, ms) FROM STDIN;
2024-01-01	2	5
\.
COPY cmd_events TO STDOUT;
COPY (SELECT k, ms FROM cmd_events ORDER BY k, ms) TO STDOUT;

--# SELECT from a local stream
SELECT k, ms FROM cmd_events WHERE ms >= 10 ORDER BY k, ms;
EXPLAIN (COSTS off) SELECT k FROM cmd_events;
BEGIN;
SELECT count(*) FROM (SELECT k FROM cmd_events FOR UPDATE) AS locked;
SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND relation = 'cmd_events'::regclass AND mode <> 'AccessShareLock' AND mode <> 'RowShareLock';
ROLLBACK;

--# SELECT from a Kafka stream
ALTER SERVER cmd_kafka OPTIONS (ADD "socket.timeout.ms" '1000');
SELECT * FROM cmd_topic;

--# UPDATE, DELETE, MERGE, TRUNCATE of a stream
UPDATE cmd_events SET k = 1;
DELETE FROM cmd_topic;
\set VERBOSITY terse
MERGE INTO cmd_events USING cmd_totals t ON t.k = cmd_events.k WHEN MATCHED THEN DELETE;
\set VERBOSITY default
TRUNCATE cmd_events;
CREATE TABLE cmd_merged (k int, n int);
MERGE INTO cmd_merged m USING cmd_events e ON e.k = m.k WHEN NOT MATCHED THEN INSERT VALUES (e.k, 1);
SELECT count(*) FROM cmd_merged;
DROP TABLE cmd_merged;

--# ALTER FOREIGN TABLE RENAME TO, SET SCHEMA
ALTER FOREIGN TABLE cmd_events RENAME TO cmd_renamed;
ALTER FOREIGN TABLE cmd_renamed SET SCHEMA cmd_schema;
INSERT INTO cmd_schema.cmd_renamed VALUES ('2024-01-02', 3, 30);
SELECT pipeline.wait_for('cmd_totals');
SELECT * FROM cmd_totals ORDER BY k;
ALTER TABLE cmd_schema.cmd_renamed SET SCHEMA public;
ALTER TABLE cmd_renamed RENAME TO cmd_events;

--# ALTER FOREIGN TABLE RENAME COLUMN
ALTER FOREIGN TABLE cmd_events RENAME COLUMN at TO happened;
ALTER FOREIGN TABLE cmd_topic RENAME COLUMN ms TO duration;
SELECT ftoptions @> ARRAY['event_time=happened'] AS followed FROM pg_foreign_table WHERE ftrelid = 'cmd_events'::regclass;
SELECT attname, attfdwoptions FROM pg_attribute WHERE attrelid = 'cmd_topic'::regclass AND attname = 'duration';
ALTER FOREIGN TABLE cmd_events RENAME COLUMN happened TO at;

--# ALTER FOREIGN TABLE ADD COLUMN
ALTER FOREIGN TABLE cmd_events ADD COLUMN extra text DEFAULT 'new';
INSERT INTO cmd_events (at, k, ms) VALUES ('2024-01-02', 101, 7);
SELECT k, extra FROM cmd_events WHERE k IN (3, 101) ORDER BY k;
SELECT pipeline.wait_for('cmd_whole');
SELECT * FROM cmd_whole;

--# ALTER FOREIGN TABLE DROP COLUMN
ALTER FOREIGN TABLE cmd_events DROP COLUMN extra;
ALTER FOREIGN TABLE cmd_events DROP COLUMN ms;
ALTER FOREIGN TABLE cmd_events DROP COLUMN at CASCADE;
INSERT INTO cmd_events (at, k, ms) VALUES ('2024-01-02', 102, 8);
SELECT pipeline.wait_for('cmd_whole');
SELECT * FROM cmd_whole ORDER BY event -> 'k';

--# ALTER FOREIGN TABLE ALTER COLUMN TYPE
ALTER FOREIGN TABLE cmd_events ALTER COLUMN note TYPE varchar(20);
ALTER FOREIGN TABLE cmd_events ALTER COLUMN ms TYPE bigint;
ALTER FOREIGN TABLE cmd_topic ALTER COLUMN at TYPE timestamp;
ALTER FOREIGN TABLE cmd_topic ALTER COLUMN k TYPE bigint;
SELECT DISTINCT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attname = 'a4' AND attrelid IN
  (SELECT objid FROM pg_depend WHERE refobjid = 'cmd_events'::regclass AND deptype = 'a');

--# ALTER FOREIGN TABLE OPTIONS
ALTER FOREIGN TABLE cmd_events OPTIONS (ADD idle_timeout '10 s');
ALTER FOREIGN TABLE cmd_events OPTIONS (DROP idle_timeout, SET out_of_orderness '1 s', ADD retention '1 day');
ALTER FOREIGN TABLE cmd_events OPTIONS (SET event_time 'k');
ALTER FOREIGN TABLE cmd_events OPTIONS (ADD backing 'l_1');
ALTER FOREIGN TABLE cmd_events OPTIONS (ADD era '2');
ALTER FOREIGN TABLE cmd_events OPTIONS (ADD speed 'high');
ALTER FOREIGN TABLE cmd_topic OPTIONS (SET topic 'other');
ALTER FOREIGN TABLE cmd_topic OPTIONS (ADD partitions '0');
ALTER FOREIGN TABLE cmd_topic OPTIONS (ADD format 'csv');
ALTER FOREIGN TABLE cmd_topic OPTIONS (ADD start 'latest');

--# ALTER FOREIGN TABLE ALTER COLUMN OPTIONS
ALTER FOREIGN TABLE cmd_topic ALTER COLUMN k OPTIONS (ADD field 'key');
ALTER FOREIGN TABLE cmd_events ALTER COLUMN k OPTIONS (ADD metadata 'offset');

--# ALTER FOREIGN TABLE OWNER TO
ALTER FOREIGN TABLE cmd_events OWNER TO cmd_owner;
SELECT * FROM cmd_hidden('cmd_events');
ALTER FOREIGN TABLE cmd_events OWNER TO CURRENT_USER;

--# ALTER FOREIGN TABLE SET NOT NULL, ADD CHECK
ALTER FOREIGN TABLE cmd_events ALTER COLUMN k SET NOT NULL, ADD CONSTRAINT cmd_check CHECK (k < 1000);
INSERT INTO cmd_events (at) VALUES ('2024-01-02');
INSERT INTO cmd_events (at, k) VALUES ('2024-01-02', 1000);
ALTER FOREIGN TABLE cmd_events VALIDATE CONSTRAINT cmd_check;
ALTER FOREIGN TABLE cmd_events ALTER COLUMN k DROP NOT NULL, DROP CONSTRAINT cmd_check;
ALTER FOREIGN TABLE cmd_topic ALTER COLUMN k SET NOT NULL, ADD CHECK (k < 1000);

--# ALTER FOREIGN TABLE SET DEFAULT
ALTER FOREIGN TABLE cmd_events ALTER COLUMN note SET DEFAULT 'none';
INSERT INTO cmd_events (at, k) VALUES ('2024-01-02', 4) RETURNING note;
ALTER FOREIGN TABLE cmd_events ALTER COLUMN note DROP DEFAULT;

--# ALTER FOREIGN TABLE DROP EXPRESSION
ALTER FOREIGN TABLE cmd_topic ALTER COLUMN doubled DROP EXPRESSION;

--# ALTER FOREIGN TABLE SET STATISTICS, SET STORAGE, triggers
ALTER FOREIGN TABLE cmd_events ALTER COLUMN note SET STORAGE plain, ALTER COLUMN k SET STATISTICS 10, ALTER COLUMN k SET (n_distinct = 5);
ALTER FOREIGN TABLE cmd_events DISABLE TRIGGER ALL, ENABLE TRIGGER ALL;

--# ALTER FOREIGN TABLE with what foreign tables lack
\set VERBOSITY terse
ALTER FOREIGN TABLE cmd_events ADD PRIMARY KEY (k);
ALTER FOREIGN TABLE cmd_events ENABLE ROW LEVEL SECURITY;
ALTER FOREIGN TABLE cmd_events SET UNLOGGED;
ALTER FOREIGN TABLE cmd_events ALTER COLUMN note TYPE int USING 1;
\set VERBOSITY default

--# INHERIT, PARTITION OF, ATTACH PARTITION
CREATE TABLE cmd_parted (at timestamptz, k int, ms int) PARTITION BY RANGE (at);
CREATE FOREIGN TABLE cmd_part PARTITION OF cmd_parted FOR VALUES FROM ('2024-01-01') TO ('2025-01-01') SERVER pipeline_local
  OPTIONS (event_time 'at', out_of_orderness '0');
INSERT INTO cmd_parted VALUES ('2024-02-01', 1, 2);
CREATE VIEW cmd_no WITH (pipeline.continuous) AS SELECT k FROM cmd_parted;
SET client_min_messages = warning;
CREATE VIEW cmd_of_part WITH (pipeline.continuous) AS SELECT k, count(*) AS n FROM cmd_part GROUP BY k;
RESET client_min_messages;
ALTER TABLE cmd_parted ADD COLUMN more text, ALTER COLUMN ms TYPE bigint;
ALTER TABLE cmd_parted RENAME COLUMN at TO happened;
ALTER TABLE cmd_parted DROP COLUMN more;
INSERT INTO cmd_parted VALUES ('2024-03-01', 1, 3);
TABLE cmd_parted;
SELECT pipeline.wait_for('cmd_of_part');
TABLE cmd_of_part;
SELECT ftoptions @> ARRAY['event_time=happened'] AS followed FROM pg_foreign_table WHERE ftrelid = 'cmd_part'::regclass;
CREATE TABLE cmd_no () INHERITS (cmd_part);
ALTER TABLE cmd_parted DETACH PARTITION cmd_part;
CREATE TABLE cmd_child () INHERITS (cmd_part);
CREATE FOREIGN TABLE cmd_other (k int) SERVER pipeline_local;
CREATE TABLE cmd_child () INHERITS (cmd_other);
SET client_min_messages = warning;
CREATE VIEW cmd_no WITH (pipeline.continuous) AS SELECT k FROM cmd_other;
CREATE VIEW cmd_only WITH (pipeline.continuous) AS SELECT k FROM ONLY cmd_other;
DROP TABLE cmd_child;
CREATE VIEW cmd_yes WITH (pipeline.continuous) AS SELECT k FROM cmd_other;
RESET client_min_messages;
INSERT INTO cmd_other VALUES (1);
SELECT pipeline.wait_for('cmd_yes'), pipeline.wait_for('cmd_only');
SELECT * FROM cmd_yes;
-- a table that a view joins, also by way of an ordinary view
CREATE TABLE cmd_joined (k int);
CREATE VIEW cmd_over AS SELECT k FROM cmd_joined;
SET client_min_messages = warning;
CREATE VIEW cmd_join WITH (pipeline.continuous) AS SELECT e.k FROM cmd_events e JOIN cmd_over USING (k);
RESET client_min_messages;
CREATE FOREIGN TABLE cmd_no () INHERITS (cmd_joined) SERVER pipeline_local;
ALTER FOREIGN TABLE cmd_other INHERIT cmd_joined;
CREATE TABLE cmd_child () INHERITS (cmd_joined);
CREATE FOREIGN TABLE cmd_no () INHERITS (cmd_child) SERVER pipeline_local;
DROP VIEW cmd_join;
CREATE FOREIGN TABLE cmd_grandchild () INHERITS (cmd_child) SERVER pipeline_local;
CREATE VIEW cmd_join WITH (pipeline.continuous) AS SELECT e.k FROM cmd_events e JOIN cmd_over USING (k);
SET client_min_messages = warning;
DROP TABLE cmd_parted, cmd_joined CASCADE;
DROP FOREIGN TABLE cmd_other, cmd_part CASCADE;
RESET client_min_messages;

--# VACUUM, ANALYZE, CLUSTER, REINDEX, LOCK of a stream
VACUUM cmd_events;
ANALYZE cmd_events, cmd_topic;
\set VERBOSITY terse
CLUSTER cmd_events;
REINDEX TABLE cmd_events;
BEGIN;
LOCK TABLE cmd_events;
ROLLBACK;

--# CREATE INDEX on a stream
CREATE INDEX ON cmd_events (k);
\set VERBOSITY default

--# CREATE TRIGGER on a stream
CREATE FUNCTION cmd_trigger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.note := 'by trigger'; RETURN NEW; END $$;
CREATE TRIGGER cmd_trigger BEFORE INSERT ON cmd_events FOR EACH ROW EXECUTE FUNCTION cmd_trigger();
INSERT INTO cmd_events (at, k) VALUES ('2024-01-03', 5) RETURNING note;
ALTER FOREIGN TABLE cmd_events DISABLE TRIGGER cmd_trigger;
INSERT INTO cmd_events (at, k) VALUES ('2024-01-03', 5) RETURNING note;
DROP TRIGGER cmd_trigger ON cmd_events;
CREATE TRIGGER cmd_trigger BEFORE INSERT ON cmd_topic FOR EACH ROW EXECUTE FUNCTION cmd_trigger();
DROP TRIGGER cmd_trigger ON cmd_topic;

--# CREATE RULE, CREATE POLICY on a stream
\set VERBOSITY terse
CREATE RULE cmd_rule AS ON INSERT TO cmd_events DO INSTEAD NOTHING;
CREATE POLICY cmd_policy ON cmd_events USING (true);

--# CREATE PUBLICATION with a stream
CREATE PUBLICATION cmd_publication FOR TABLE cmd_events;
\set VERBOSITY default

--# CREATE STATISTICS on a stream
CREATE STATISTICS cmd_statistics ON k, note FROM cmd_events;
DROP STATISTICS cmd_statistics;

--# COMMENT ON FOREIGN TABLE
COMMENT ON FOREIGN TABLE cmd_events IS 'what happened';
COMMENT ON COLUMN cmd_events.k IS 'key';
COMMENT ON SERVER cmd_kafka IS 'nobody there';
SELECT obj_description('cmd_events'::regclass), col_description('cmd_events'::regclass, 2);

--# CREATE TABLE LIKE, CREATE TABLE AS a stream
CREATE TABLE cmd_like (LIKE cmd_events INCLUDING ALL);
CREATE TABLE cmd_as AS SELECT k FROM cmd_events WHERE k > 100;
SELECT count(*) FROM cmd_as;
DROP TABLE cmd_like, cmd_as;

--# Materialized views over a stream
CREATE MATERIALIZED VIEW cmd_snapshot AS SELECT count(*) AS n FROM cmd_events WHERE k > 100;
INSERT INTO cmd_events (at, k) VALUES ('2024-01-03', 103);
REFRESH MATERIALIZED VIEW cmd_snapshot;
TABLE cmd_snapshot;
DROP MATERIALIZED VIEW cmd_snapshot;

--# GRANT, REVOKE on a stream
GRANT SELECT, INSERT ON cmd_events TO cmd_owner;
SET ROLE cmd_owner;
SET client_min_messages = warning;
CREATE VIEW cmd_of_owner WITH (pipeline.continuous) AS SELECT k FROM cmd_events WHERE k < 100 OR k = 200;
RESET client_min_messages;
INSERT INTO cmd_events (at, k) VALUES ('2024-01-03', 6);
UPDATE cmd_events SET k = 1;
RESET ROLE;
SELECT pipeline.wait_for('cmd_of_owner');
REVOKE SELECT ON cmd_events FROM cmd_owner;
INSERT INTO cmd_events (at, k) VALUES ('2024-01-03', 200);
SELECT pipeline.wait_for('cmd_of_owner', '200 ms');
GRANT SELECT ON cmd_events TO cmd_owner;
SELECT pipeline.wait_for('cmd_of_owner');
SELECT count(*) FROM cmd_of_owner WHERE k = 200;
DROP VIEW cmd_of_owner;

--# CREATE, ALTER, DROP USER MAPPING
CREATE USER MAPPING FOR CURRENT_USER SERVER cmd_kafka OPTIONS ("sasl.username" 'u', "sasl.password" 'p');
ALTER USER MAPPING FOR CURRENT_USER SERVER cmd_kafka OPTIONS (SET "sasl.password" 'q');
ALTER USER MAPPING FOR CURRENT_USER SERVER cmd_kafka OPTIONS (ADD topic 'q');
DROP USER MAPPING FOR CURRENT_USER SERVER cmd_kafka;
DROP USER MAPPING IF EXISTS FOR CURRENT_USER SERVER cmd_kafka;

--# CREATE, ALTER, DROP FOREIGN DATA WRAPPER
ALTER FOREIGN DATA WRAPPER pipeline_kafka RENAME TO cmd_wrapper;
ALTER FOREIGN DATA WRAPPER pipeline_kafka NO HANDLER;
ALTER FOREIGN DATA WRAPPER pipeline_kafka OPTIONS (ADD speed 'high');
DROP FOREIGN DATA WRAPPER pipeline_local CASCADE;
CREATE FOREIGN DATA WRAPPER cmd_wrapper;
DROP FOREIGN DATA WRAPPER cmd_wrapper;

--# IMPORT FOREIGN SCHEMA
IMPORT FOREIGN SCHEMA topics FROM SERVER pipeline_local INTO public;

--# DROP FOREIGN TABLE
SELECT view, state, last_error IS NOT NULL AS has_error FROM pipeline.stat_views WHERE view <> 'cmd_of_topic'::regclass ORDER BY view::text;
DROP FOREIGN TABLE cmd_events;
SELECT count(*) FROM cmd_hidden('cmd_events');
\set VERBOSITY terse
DROP FOREIGN TABLE cmd_events CASCADE;
\set VERBOSITY default
DROP FOREIGN TABLE IF EXISTS cmd_events;

--# DROP SERVER
DROP SERVER cmd_kafka;
DROP SERVER pipeline_local CASCADE;
\set VERBOSITY terse
DROP SERVER cmd_kafka CASCADE;
\set VERBOSITY default
SELECT count(*) FROM pipeline.views;
SELECT relname FROM pg_class WHERE relname ~ '^[lqtkfh]_[0-9]+';

DROP SCHEMA cmd_schema;
DROP FUNCTION cmd_hidden(regclass), cmd_trigger();
DROP OWNED BY cmd_owner;
DROP ROLE cmd_owner;
