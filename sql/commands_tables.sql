-- Without this: what docs/COMMANDS.md says about tables, types and functions that continuous views read might not be true.
-- Each "--#" names the row of the table that follows it.
SET timezone = 'UTC';
SET client_min_messages = warning;
CREATE ROLE cmd_owner;
GRANT CREATE, USAGE ON SCHEMA public TO cmd_owner;
CREATE SCHEMA cmd_schema;
GRANT USAGE ON SCHEMA cmd_schema TO cmd_owner;
CREATE TYPE cmd_mood AS ENUM ('sad', 'glad');
CREATE DOMAIN cmd_amount AS int CHECK (VALUE >= 0);
CREATE FUNCTION cmd_label(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT upper($1)';
CREATE AGGREGATE cmd_sum(int) (sfunc = int4pl, stype = int, initcond = '0');
CREATE OPERATOR === (leftarg = int, rightarg = int, function = int4eq);
CREATE TABLE cmd_names (k int PRIMARY KEY, name text, note text);
INSERT INTO cmd_names VALUES (1, 'one'), (2, 'two');
CREATE TABLE cmd_parted (k int, part text) PARTITION BY LIST (k);
CREATE TABLE cmd_part1 PARTITION OF cmd_parted FOR VALUES IN (1);
INSERT INTO cmd_parted VALUES (1, 'first');
CREATE MATERIALIZED VIEW cmd_snapshot AS SELECT k, name FROM cmd_names;
CREATE VIEW cmd_over AS SELECT k, name FROM cmd_names;
CREATE FOREIGN TABLE cmd_events (k int, mood cmd_mood, amount cmd_amount) SERVER pipeline_local;
CREATE VIEW cmd_over_stream AS SELECT k, amount::int AS amount FROM cmd_events WHERE amount > 0;
GRANT SELECT ON cmd_events, cmd_names TO cmd_owner;
CREATE VIEW cmd_joined WITH (pipeline.continuous) AS SELECT n.name, count(*) AS n FROM cmd_events JOIN cmd_names n USING (k) GROUP BY 1;
CREATE VIEW cmd_by_part WITH (pipeline.continuous) AS SELECT part, count(*) AS n FROM cmd_events JOIN cmd_parted USING (k) GROUP BY 1;
CREATE VIEW cmd_by_view WITH (pipeline.continuous) AS SELECT name, count(*) AS n FROM cmd_events JOIN cmd_over USING (k) GROUP BY 1;
CREATE VIEW cmd_by_snapshot WITH (pipeline.continuous) AS SELECT name, count(*) AS n FROM cmd_events JOIN cmd_snapshot USING (k) GROUP BY 1;
CREATE VIEW cmd_moods WITH (pipeline.continuous) AS SELECT cmd_label(mood::text) AS mood, count(*) AS n FROM cmd_events GROUP BY 1;
CREATE VIEW cmd_sums WITH (pipeline.continuous) AS SELECT k, cmd_sum(amount) AS s, max(amount) AS most FROM cmd_over_stream WHERE k === k GROUP BY k;
-- insert an event, and wait for all views
CREATE FUNCTION cmd_wait() RETURNS bool LANGUAGE sql AS $$ SELECT bool_and(pipeline.wait_for(view, '60 s')) FROM pipeline.views $$;
RESET client_min_messages;
INSERT INTO cmd_events VALUES (1, 'sad', 10), (2, 'glad', 20);
SELECT cmd_wait();
TABLE cmd_joined ORDER BY name;

--# ALTER TABLE RENAME, RENAME COLUMN, SET SCHEMA
ALTER TABLE cmd_names RENAME TO cmd_labels;
ALTER TABLE cmd_labels RENAME COLUMN name TO label;
ALTER TABLE cmd_labels SET SCHEMA cmd_schema;
INSERT INTO cmd_events VALUES (1, 'sad', 1);
SELECT cmd_wait();
TABLE cmd_joined ORDER BY name;
ALTER TABLE cmd_schema.cmd_labels SET SCHEMA public;
ALTER TABLE cmd_labels RENAME TO cmd_names;
ALTER TABLE cmd_names RENAME COLUMN label TO name;

--# ALTER TABLE ADD COLUMN, DROP COLUMN
ALTER TABLE cmd_names ADD COLUMN more int DEFAULT 5 NOT NULL, DROP COLUMN note;
ALTER TABLE cmd_names DROP COLUMN name;
INSERT INTO cmd_events VALUES (1, 'sad', 1);
SELECT cmd_wait();
TABLE cmd_joined ORDER BY name;
BEGIN;
SET LOCAL client_min_messages = warning;
ALTER TABLE cmd_names DROP COLUMN name CASCADE;
SELECT view FROM pipeline.views ORDER BY view::text;
ROLLBACK;

--# ALTER TABLE ALTER COLUMN TYPE
ALTER TABLE cmd_names ALTER COLUMN more TYPE text;
ALTER TABLE cmd_names ALTER COLUMN name TYPE varchar(10);
SET ROLE cmd_owner;
ALTER TABLE cmd_names ALTER COLUMN name TYPE varchar(10);
RESET ROLE;

--# ALTER TABLE, other forms
ALTER TABLE cmd_names ALTER COLUMN more SET DEFAULT '6', ADD CHECK (k < 100), SET UNLOGGED, DROP CONSTRAINT cmd_names_pkey;
ALTER TABLE cmd_names ADD PRIMARY KEY (k), SET LOGGED;
ALTER TABLE cmd_names SET TABLESPACE pg_default;
ALTER TABLE cmd_names DISABLE TRIGGER ALL, SET (fillfactor = 90), REPLICA IDENTITY FULL;
CREATE TABLE cmd_child () INHERITS (cmd_names);
INSERT INTO cmd_child VALUES (3, 'three');
INSERT INTO cmd_events VALUES (3, 'sad', 1);
SELECT cmd_wait();
TABLE cmd_joined ORDER BY name;
DROP TABLE cmd_child;

--# INSERT, UPDATE, DELETE, TRUNCATE of a joined table
UPDATE cmd_names SET name = 'zwei' WHERE k = 2;
INSERT INTO cmd_events VALUES (2, 'sad', 1);
SELECT cmd_wait();
TABLE cmd_joined ORDER BY name;
TRUNCATE cmd_names;
INSERT INTO cmd_events VALUES (2, 'sad', 1);
SELECT cmd_wait();
SELECT sum(n) FROM cmd_joined;
INSERT INTO cmd_names VALUES (1, 'one'), (2, 'two');

--# LOCK, CLUSTER, VACUUM FULL, REINDEX of a joined table
CLUSTER cmd_names USING cmd_names_pkey;
VACUUM FULL cmd_names;
REINDEX TABLE CONCURRENTLY cmd_names;
INSERT INTO cmd_events VALUES (2, 'sad', 1);
SELECT cmd_wait();
SELECT n FROM cmd_joined WHERE name = 'two';

--# Row security of a joined table
ALTER TABLE cmd_names ENABLE ROW LEVEL SECURITY;
CREATE POLICY cmd_policy ON cmd_names TO cmd_owner USING (k = 1);
SET client_min_messages = warning;
SET ROLE cmd_owner;
CREATE VIEW cmd_of_owner WITH (pipeline.continuous) AS SELECT name, count(*) AS n FROM cmd_events JOIN cmd_names USING (k) GROUP BY 1;
RESET ROLE;
RESET client_min_messages;
SELECT cmd_wait();
SELECT name FROM cmd_of_owner ORDER BY name;
ALTER POLICY cmd_policy ON cmd_names USING (k > 0);
INSERT INTO cmd_events VALUES (2, 'sad', 1);
SELECT cmd_wait();
SELECT name FROM cmd_of_owner ORDER BY name;
DROP POLICY cmd_policy ON cmd_names;
ALTER TABLE cmd_names DISABLE ROW LEVEL SECURITY;

--# REVOKE of rights on a joined table
REVOKE SELECT ON cmd_names FROM cmd_owner;
INSERT INTO cmd_events VALUES (1, 'sad', 1);
SELECT pipeline.wait_for('cmd_of_owner', '200 ms'), pipeline.wait_for('cmd_joined');
SELECT sum(n) AS before FROM cmd_of_owner \gset
GRANT SELECT ON cmd_names TO cmd_owner;
SELECT cmd_wait();
SELECT sum(n) - :before AS more FROM cmd_of_owner;
DROP VIEW cmd_of_owner;

--# ATTACH PARTITION, DETACH PARTITION of a joined table
CREATE TABLE cmd_part2 (k int, part text);
INSERT INTO cmd_part2 VALUES (2, 'second');
ALTER TABLE cmd_parted ATTACH PARTITION cmd_part2 FOR VALUES IN (2);
ALTER TABLE cmd_parted DETACH PARTITION cmd_part1;
INSERT INTO cmd_events VALUES (1, 'sad', 1), (2, 'sad', 1);
SELECT n AS n_before FROM cmd_by_part WHERE part = 'first' \gset
SELECT cmd_wait();
SELECT part, n - CASE part WHEN 'first' THEN :n_before ELSE 0 END AS more FROM cmd_by_part ORDER BY part;

--# CREATE OR REPLACE VIEW of an ordinary view
CREATE OR REPLACE VIEW cmd_over AS SELECT k, 'number ' || name AS name FROM cmd_names;
INSERT INTO cmd_events VALUES (1, 'sad', 1);
SELECT cmd_wait();
SELECT * FROM cmd_by_view WHERE name ~ 'number';
CREATE OR REPLACE VIEW cmd_over AS SELECT k, random()::text AS name FROM cmd_names;
CREATE OR REPLACE VIEW cmd_over AS SELECT k, mood::text AS name FROM cmd_events;
CREATE OR REPLACE VIEW cmd_over_stream AS SELECT k, amount::int AS amount FROM cmd_events WHERE amount > 5;
CREATE OR REPLACE RULE "_RETURN" AS ON SELECT TO cmd_over_stream DO INSTEAD SELECT k, amount::int AS amount FROM cmd_events WHERE amount > 5;

--# Materialized views that a view joins
UPDATE cmd_names SET name = 'uno' WHERE k = 1;
REFRESH MATERIALIZED VIEW cmd_snapshot;
INSERT INTO cmd_events VALUES (1, 'sad', 1);
SELECT cmd_wait();
SELECT * FROM cmd_by_snapshot WHERE name = 'uno';
DROP MATERIALIZED VIEW cmd_snapshot;

--# ALTER TYPE of an enum
ALTER TYPE cmd_mood ADD VALUE 'calm';
ALTER TYPE cmd_mood RENAME VALUE 'calm' TO 'quiet';
INSERT INTO cmd_events VALUES (1, 'quiet', 1);
SELECT cmd_wait();
SELECT * FROM cmd_moods WHERE mood = 'QUIET';

--# ALTER TYPE, ALTER DOMAIN
ALTER TYPE cmd_mood RENAME TO cmd_feeling;
ALTER TYPE cmd_feeling SET SCHEMA cmd_schema;
ALTER TYPE cmd_schema.cmd_feeling OWNER TO cmd_owner;
CREATE TYPE cmd_pair AS (a int, b int);
CREATE FOREIGN TABLE cmd_pairs (p cmd_pair) SERVER pipeline_local;
ALTER TYPE cmd_pair ADD ATTRIBUTE c int;
SET client_min_messages = warning;
CREATE VIEW cmd_by_pair WITH (pipeline.continuous) AS SELECT (p).a + count(*) AS n FROM cmd_pairs GROUP BY p;
RESET client_min_messages;
ALTER TYPE cmd_pair ADD ATTRIBUTE d int;
ALTER TYPE cmd_pair DROP ATTRIBUTE c;
ALTER TYPE cmd_pair RENAME ATTRIBUTE c TO e;
DROP FOREIGN TABLE cmd_pairs CASCADE;
DROP TYPE cmd_pair;
ALTER DOMAIN cmd_amount RENAME TO cmd_number;
ALTER DOMAIN cmd_number ADD CONSTRAINT cmd_limit CHECK (VALUE < 1000);
\set VERBOSITY sqlstate
ALTER DOMAIN cmd_number ADD CONSTRAINT cmd_low CHECK (VALUE < 2);
\set VERBOSITY default
INSERT INTO cmd_events VALUES (1, 'sad', 2000);
INSERT INTO cmd_events VALUES (2, 'sad', 200);
SELECT cmd_wait();
SELECT most FROM cmd_sums WHERE k = 2;

--# CREATE OR REPLACE FUNCTION, ALTER FUNCTION
CREATE OR REPLACE FUNCTION cmd_label(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT initcap($1)';
INSERT INTO cmd_events VALUES (1, 'glad', 1);
SELECT cmd_wait();
SELECT mood FROM cmd_moods WHERE mood ILIKE 'glad' ORDER BY mood;
CREATE OR REPLACE FUNCTION cmd_label(text) RETURNS text LANGUAGE sql AS 'SELECT initcap($1)';
ALTER FUNCTION cmd_label(text) VOLATILE;
ALTER FUNCTION cmd_label(text) STABLE;
ALTER FUNCTION cmd_label(text) RENAME TO cmd_title;
ALTER FUNCTION cmd_title(text) SET SCHEMA cmd_schema;
INSERT INTO cmd_events VALUES (1, 'glad', 1);
SELECT cmd_wait();
SELECT n FROM cmd_moods WHERE mood = 'Glad';

--# CREATE OR REPLACE AGGREGATE
CREATE OR REPLACE AGGREGATE cmd_sum(int) (sfunc = int4mul, stype = int, initcond = '1');
ALTER AGGREGATE cmd_sum(int) RENAME TO cmd_total;
INSERT INTO cmd_events VALUES (1, 'glad', 1);
SELECT cmd_wait();

--# DROP FUNCTION, DROP AGGREGATE, DROP OPERATOR
DROP FUNCTION cmd_schema.cmd_title(text);
DROP AGGREGATE cmd_total(int);
DROP OPERATOR === (int, int);

--# CREATE, ALTER, DROP COLLATION
CREATE COLLATION cmd_collation (locale = 'C');
CREATE FOREIGN TABLE cmd_texts (t text COLLATE cmd_collation) SERVER pipeline_local;
SET client_min_messages = warning;
CREATE VIEW cmd_least WITH (pipeline.continuous) AS SELECT min(t) AS least FROM cmd_texts;
RESET client_min_messages;
ALTER COLLATION cmd_collation RENAME TO cmd_order;
INSERT INTO cmd_texts VALUES ('b'), ('a');
SELECT pipeline.wait_for('cmd_least');
TABLE cmd_least;
\set VERBOSITY terse
DROP COLLATION cmd_order;
SET client_min_messages = warning;
DROP COLLATION cmd_order CASCADE;
RESET client_min_messages;
\set VERBOSITY default
SELECT count(*) FROM pipeline.views WHERE view::text = 'cmd_least';
DROP FOREIGN TABLE cmd_texts;

--# DROP TABLE
SELECT view, state, last_error FROM pipeline.stat_views WHERE view <> 'cmd_by_view'::regclass ORDER BY view::text;
DROP TABLE cmd_names;
SET client_min_messages = warning;
DROP TABLE cmd_names CASCADE;
RESET client_min_messages;
SELECT view FROM pipeline.views ORDER BY view::text;

--# DROP TYPE, DROP DOMAIN
\set VERBOSITY terse
DROP TYPE cmd_schema.cmd_feeling;
DROP DOMAIN cmd_number;
SET client_min_messages = warning;
DROP TYPE cmd_schema.cmd_feeling CASCADE;
DROP DOMAIN cmd_number CASCADE;
RESET client_min_messages;
\set VERBOSITY default
SELECT view FROM pipeline.views ORDER BY view::text;
INSERT INTO cmd_events VALUES (1);
SELECT count(*) FROM cmd_events;

SET client_min_messages = warning;
DROP FOREIGN TABLE cmd_events CASCADE;
DROP TABLE cmd_parted, cmd_part1;
DROP SCHEMA cmd_schema CASCADE;
DROP FUNCTION cmd_wait();
DROP AGGREGATE cmd_total(int);
DROP OPERATOR === (int, int);
DROP OWNED BY cmd_owner;
DROP ROLE cmd_owner;
SELECT relname FROM pg_class WHERE relname ~ '^[lqtkfh]_[0-9]+';
