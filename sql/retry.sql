-- Dead letters are processed again, each once, when what they failed for was put right.
SET TimeZone = 'UTC';
SET client_min_messages = warning;
CREATE TABLE y_all (id int, at timestamptz, k text, v text, n int);
CREATE TABLE y_factors (k text PRIMARY KEY, factor int);
INSERT INTO y_factors VALUES ('a', 1), ('b', 0), ('c', 3);
CREATE FOREIGN TABLE y_events (id int, at timestamptz, k text, v text, n int) SERVER pipeline_local
  OPTIONS (event_time 'at', out_of_orderness '0', idle_timeout 'off');
CREATE FUNCTION y_number(v text) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT v::int';
CREATE FUNCTION y_add(state bigint, v int) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT state + 100 / v * v';
CREATE AGGREGATE y_sum(int) (SFUNC = y_add, STYPE = bigint, INITCOND = '0');
CREATE FUNCTION y_at(seconds numeric) RETURNS timestamptz IMMUTABLE LANGUAGE sql AS
  $$ SELECT timestamptz '2024-01-01 00:00:00+00' + seconds * interval '1 second' $$;

CREATE VIEW y_filter WITH (pipeline.continuous) AS SELECT id, y_number(v) AS v FROM y_events;
CREATE VIEW y_total WITH (pipeline.continuous) AS SELECT k, count(*) AS n, sum(y_number(v)) AS v FROM y_events GROUP BY k;
CREATE VIEW y_window WITH (pipeline.continuous) AS
SELECT pipeline.tumble(at, '10 seconds') AS w, count(*) AS n, sum(y_number(v)) AS v FROM y_events GROUP BY w;
CREATE VIEW y_kept WITH (pipeline.continuous, pipeline.allowed_lateness = '1 minute') AS
SELECT pipeline.tumble(at, '10 seconds') AS w, count(*) AS n, sum(y_number(v)) AS v FROM y_events GROUP BY w;
CREATE VIEW y_joined WITH (pipeline.continuous) AS
SELECT k, count(*) AS n, sum(100 / factor) AS v FROM y_events JOIN y_factors USING (k) GROUP BY k;
CREATE VIEW y_state WITH (pipeline.continuous) AS SELECT k, count(*) AS n, y_sum(n) AS v FROM y_events GROUP BY k;
CREATE VIEW y_union WITH (pipeline.continuous) AS
SELECT k, sum(v) AS v FROM (SELECT k, y_number(v) AS v FROM y_events UNION ALL SELECT upper(k), 100 / n FROM y_events) u GROUP BY k;
RESET client_min_messages;

CREATE FUNCTION y_insert(VARIADIC events y_all[]) RETURNS void LANGUAGE sql AS $$
  WITH r AS (INSERT INTO y_all SELECT (e).* FROM unnest(events) e RETURNING *) INSERT INTO y_events SELECT * FROM r ORDER BY id $$;
CREATE FUNCTION y_wait() RETURNS boolean LANGUAGE sql AS $$
  SELECT bool_and(pipeline.wait_for(view) AND pipeline.verify_state(view)) FROM pipeline.views WHERE view::text LIKE 'y\_%' $$;
CREATE VIEW y_letters AS SELECT d.view, id, sqlstate, message, retry FROM pipeline.dead_letters d WHERE view::text LIKE 'y\_%';
-- everything is counted, filtered, late, skipped or a dead letter that is still there
CREATE VIEW y_counts AS SELECT view, events_in, filtered, unmatched, late, dead_letters, retried,
  dead_letters - retried = (SELECT count(*) FROM pipeline.dead_letters d WHERE d.view = s.view) AS sound
FROM pipeline.stat_views s WHERE view::text LIKE 'y\_%';

SELECT y_insert((1, y_at(1), 'a', '1', 1), (2, y_at(2), 'b', 'two', 2), (3, y_at(3), 'c', '3', 0), (4, y_at(14), 'a', 'four', 4),
  (5, y_at(15), 'b', '5', 0), (6, y_at(25), 'c', '6', 6));
SELECT y_wait();
SELECT view, message, count(*) FROM y_letters GROUP BY 1, 2 ORDER BY view::text, message;
SELECT * FROM y_counts ORDER BY view::text;
SELECT * FROM y_window ORDER BY w;

-- they fail again: they stay, with another time
CREATE TEMP TABLE y_before AS SELECT id, failed_at FROM pipeline.dead_letters WHERE view = 'y_filter'::regclass;
SELECT pipeline.retry_dead_letters('y_filter');
SELECT y_wait();
SELECT count(*), count(*) FILTER (WHERE d.failed_at > b.failed_at) AS later, bool_or(retry) AS retry
FROM pipeline.dead_letters d JOIN y_before b USING (id) WHERE view = 'y_filter'::regclass;
SELECT * FROM y_counts WHERE view = 'y_filter'::regclass;

-- the error is another one now; and what was rolled back was never asked for
CREATE OR REPLACE FUNCTION y_number(v text) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
  IF v = 'two' THEN RETURN 2; END IF;
  RETURN v::int;
EXCEPTION WHEN others THEN RAISE 'what is %?', v; END $$;
BEGIN;
SELECT pipeline.retry_dead_letters('y_filter');
ROLLBACK;
SELECT y_wait();
SELECT view, message, retry FROM y_letters WHERE view = 'y_filter'::regclass ORDER BY message;
SELECT pipeline.retry_dead_letters('y_filter', $$ message LIKE '%"four"%' -- only this one $$);
SELECT y_wait();
SELECT view, message FROM y_letters WHERE view = 'y_filter'::regclass ORDER BY message;
TABLE y_filter ORDER BY id;
SELECT pipeline.retry_dead_letters('y_filter');
SELECT y_wait();
SELECT view, message FROM y_letters WHERE view = 'y_filter'::regclass ORDER BY message;
TABLE y_filter ORDER BY id;

-- all that is left, in all views: late by what the watermark is now, or in a window that still takes it
CREATE OR REPLACE FUNCTION y_number(v text) RETURNS int IMMUTABLE LANGUAGE sql AS $$ SELECT CASE v WHEN 'two' THEN 2 WHEN 'four' THEN 4 ELSE v::int END $$;
UPDATE y_factors SET factor = 2 WHERE k = 'b';
SELECT view, pipeline.retry_dead_letters(view) FROM pipeline.views WHERE view::text LIKE 'y\_%' ORDER BY view::text;
SELECT y_wait();
SELECT view, message, count(*) FROM y_letters GROUP BY 1, 2 ORDER BY view::text, message;
SELECT * FROM y_counts ORDER BY view::text;
-- the query over all records, but for those that are late, or dead letters still
SELECT 'y_filter', count(*) FROM ((SELECT id, y_number(v) FROM y_all EXCEPT ALL TABLE y_filter) UNION ALL (TABLE y_filter EXCEPT ALL SELECT id, y_number(v) FROM y_all)) d
UNION ALL SELECT 'y_total', count(*) FROM (SELECT k, count(*), sum(y_number(v)) FROM y_all GROUP BY k EXCEPT TABLE y_total) d
UNION ALL SELECT 'y_kept', count(*) FROM (SELECT pipeline.tumble(at, '10 seconds') AS w, count(*), sum(y_number(v)) FROM y_all WHERE at < y_at(20) GROUP BY w EXCEPT TABLE y_kept) d
UNION ALL SELECT 'y_joined', count(*) FROM (SELECT k, count(*), sum(100 / factor) FROM y_all JOIN y_factors USING (k) GROUP BY k EXCEPT TABLE y_joined) d
UNION ALL SELECT 'y_state', count(*) FROM (SELECT k, count(*), y_sum(n) FROM y_all WHERE n <> 0 GROUP BY k EXCEPT TABLE y_state) d;
SELECT * FROM y_window ORDER BY w;
SELECT at, v, late_windows FROM y_window_late ORDER BY at;
TABLE y_union ORDER BY k;
-- and of the transition function
CREATE OR REPLACE FUNCTION y_add(state bigint, v int) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT CASE WHEN v = 0 THEN state ELSE state + 100 / v * v END';
SELECT pipeline.retry_dead_letters('y_state');
SELECT y_wait();
SELECT count(*) FROM (SELECT k, count(*), y_sum(n) FROM y_all GROUP BY k EXCEPT TABLE y_state) d;
SELECT * FROM y_counts WHERE view = 'y_state'::regclass;

-- many, more than a batch of them, some of them bad still
SET client_min_messages = warning;
CREATE FOREIGN TABLE y_stream (n int, v int) SERVER pipeline_local;
CREATE TABLE y_limit (low int);
INSERT INTO y_limit VALUES (1000000);
CREATE FUNCTION y_checked(v int, low int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
  IF v < low THEN RAISE '% is too little', v USING ERRCODE = 'check_violation'; END IF; RETURN v; END $$;
CREATE VIEW y_many WITH (pipeline.continuous) AS SELECT count(*) AS n, sum(y_checked(v, low)) AS v FROM y_stream CROSS JOIN y_limit;
RESET client_min_messages;
INSERT INTO y_stream SELECT n, n FROM generate_series(1, 5000) n;
SELECT pipeline.wait_for('y_many');
SELECT * FROM y_many;
SELECT count(*) FROM y_letters WHERE view = 'y_many'::regclass;
UPDATE y_limit SET low = 101;
SELECT pipeline.retry_dead_letters('y_many', '"offset" % 2 = 0') + pipeline.retry_dead_letters('y_many', '"offset" % 2 = 1') AS chosen;
SELECT pipeline.wait_for('y_many'), pipeline.verify_state('y_many');
SELECT * FROM y_many;
SELECT count(*), max(message) FROM y_letters WHERE view = 'y_many'::regclass;
-- deleted meanwhile; a paused view does it when it goes on
SELECT pipeline.pause('y_many');
UPDATE y_limit SET low = 0;
SELECT pipeline.retry_dead_letters('y_many');
SELECT pipeline.retry_dead_letters('y_many') AS again;
DELETE FROM pipeline.dead_letters WHERE view = 'y_many'::regclass AND retry AND "offset" <= 50;
SELECT pipeline.resume('y_many');
SELECT pipeline.wait_for('y_many');
SELECT n, v, 5000 - n AS deleted FROM y_many;
SELECT count(*) FROM y_letters WHERE view = 'y_many'::regclass;

-- rows come back as they were
SET client_min_messages = warning;
CREATE TYPE y_mood AS ENUM ('sad', 'so so');
CREATE TYPE y_pair AS (a int, b text);
CREATE DOMAIN y_positive AS numeric CHECK (value > 0);
CREATE FOREIGN TABLE y_types (ok int, t text, c char(5), f float8, r real, n numeric, p y_positive, d date, ts timestamp, tz timestamptz, i interval, b bytea, u uuid,
  m y_mood, ar int[], at text[], tza timestamptz[], rg tstzrange, pr y_pair, j json, jb jsonb, ip inet, bo boolean, bits bit varying(9), pos bigint OPTIONS (metadata 'offset'))
SERVER pipeline_local;
CREATE TABLE y_switch (on_ int);
INSERT INTO y_switch VALUES (0);
SET DateStyle = 'German'; SET IntervalStyle = 'sql_standard'; SET bytea_output = 'escape'; SET TimeZone = 'Asia/Kathmandu';
CREATE VIEW y_typed WITH (pipeline.continuous) AS
SELECT t, c, f, r, n, p, d, ts, tz, i, b, u, m, ar, at, tza, rg, pr, j, jb, ip, bo, bits, pos, ok / on_ AS x FROM y_types CROSS JOIN y_switch;
RESET DateStyle; RESET IntervalStyle; RESET bytea_output; SET TimeZone = 'UTC';
RESET client_min_messages;
INSERT INTO y_types VALUES
  (1, E'a "b" \\ \t ü€', 'ab', 0.1 + 0.2, 1.1, 1.500, 3, '2024-02-29', '2024-03-31 02:30:00.123456', '1600-01-01 00:00:00.000001+05:45', '-1 day +02:03:04.5', '\x00ff61', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
   'so so', '[0:2]={1,NULL,3}', '{"x,y",NULL,"{}"}', '{2024-01-01 00:00:00+00,infinity}', '["2024-01-01 00:00:00+00",)', '(1,"x ""y"" ,")', '{"a" : [1, "\u00fc"]}', '{"a": null}', '10.0.0.0/8', true, '101'),
  (2, '', NULL, 'NaN', '-Infinity', 'NaN', NULL, '-infinity', 'infinity', '-infinity', NULL, '', NULL, NULL, '{}', NULL, '{}', 'empty', NULL, '"text"', '3', NULL, false, ''),
  (3, 'json null', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'null', NULL, NULL, NULL);
SELECT pipeline.wait_for('y_typed');
SELECT "offset", truncated, message, convert_from(payload, 'UTF8')::json ->> 't' AS t FROM pipeline.dead_letters WHERE view = 'y_typed'::regclass ORDER BY 1;
UPDATE y_switch SET on_ = 1;
SELECT pipeline.retry_dead_letters('y_typed');
SELECT pipeline.wait_for('y_typed');
SELECT count(*) FROM y_typed;
SELECT y.t, (y.*)::text = (s.*)::text AS same FROM y_typed y JOIN (SELECT t, c, f, r, n, p, d, ts, tz, i, b, u, m, ar, at, tza, rg, pr, j, jb, ip, bo, bits, pos, ok AS x FROM y_types) s USING (pos) ORDER BY y.pos;
-- a column that was renamed cannot be told from one that was dropped
UPDATE y_switch SET on_ = 0;
INSERT INTO y_types (ok, t) VALUES (4, 'four');
SELECT pipeline.wait_for('y_typed');
UPDATE y_switch SET on_ = 1;
ALTER FOREIGN TABLE y_types RENAME bits TO some_bits;
SELECT pipeline.retry_dead_letters('y_typed', 'NOT truncated');
SELECT pipeline.wait_for('y_typed');
SELECT message FROM y_letters WHERE view = 'y_typed'::regclass ORDER BY message;
ALTER FOREIGN TABLE y_types RENAME some_bits TO bits;
ALTER FOREIGN TABLE y_types ADD COLUMN more int;
SELECT pipeline.retry_dead_letters('y_typed');
SELECT pipeline.wait_for('y_typed');
SELECT t, x FROM y_typed WHERE x > 3;

-- views on views, and history
SET client_min_messages = warning;
CREATE VIEW y_below WITH (pipeline.continuous) AS SELECT at, k, n FROM y_events;
CREATE VIEW y_above WITH (pipeline.continuous) AS SELECT k, sum(100 / n) AS v FROM y_below JOIN y_factors USING (k) WHERE factor <> 1000 GROUP BY k;
CREATE FOREIGN TABLE y_plain (k text, n int) SERVER pipeline_local OPTIONS (retention '1 day');
CREATE VIEW y_history WITH (pipeline.continuous) AS SELECT k, sum(100 / (n + on_)) AS v FROM y_plain CROSS JOIN y_switch GROUP BY k;
RESET client_min_messages;
UPDATE y_switch SET on_ = 0;
INSERT INTO y_plain VALUES ('b', 0), ('b', 5);
SELECT pipeline.wait_for('y_history');
CALL pipeline.backfill('y_history', $$ SELECT 'a'::text AS k, n FROM generate_series(0, 2) n $$);
SELECT y_insert((7, y_at(40), 'a', '7', 0), (8, y_at(41), 'c', '8', 50));
SELECT y_wait();
TABLE y_above ORDER BY k;
TABLE y_history ORDER BY k;
SELECT view, partition, convert_from(payload, 'UTF8')::jsonb - 'pipeline_mark' AS payload FROM pipeline.dead_letters WHERE view::text IN ('y_above', 'y_history') ORDER BY 1, 2, id;
UPDATE y_switch SET on_ = 10;
SELECT pipeline.retry_dead_letters('y_history'), pipeline.retry_dead_letters('y_above');
SELECT y_wait();
TABLE y_history ORDER BY k;
SELECT message FROM y_letters WHERE view IN ('y_above'::regclass, 'y_history');

-- on_error does not matter to what is a dead letter already
ALTER FOREIGN TABLE y_events OPTIONS (ADD on_error 'stop');
SELECT pipeline.retry_dead_letters('y_above');
SELECT y_wait();
SELECT count(*) FROM y_letters WHERE view = 'y_above'::regclass;

-- whose, and what
CREATE ROLE y_other;
GRANT SELECT ON y_filter TO y_other;
SET ROLE y_other;
SELECT pipeline.retry_dead_letters('y_filter');
RESET ROLE;
SELECT pipeline.retry_dead_letters('y_all');
SELECT pipeline.retry_dead_letters(NULL);
SELECT pipeline.retry_dead_letters('y_above', 'no_such_column = 1');
SELECT pipeline.retry_dead_letters('y_above', 'true) UNION ALL (SELECT id FROM pipeline.dead_letters WHERE true');
SELECT view, retry FROM y_letters WHERE view <> 'y_above'::regclass AND retry;
SELECT pipeline.retry_dead_letters('y_above', 'true); DELETE FROM y_all WHERE (true');
SELECT y_wait();
SELECT pipeline.retry_dead_letters('y_above', 'true) UNION ALL (SELECT ''1''');
BEGIN READ ONLY;
SELECT pipeline.retry_dead_letters('y_above');
ROLLBACK;
SELECT y_wait();

SET client_min_messages = warning;
DROP FOREIGN TABLE y_events, y_stream, y_types, y_plain CASCADE;
DROP TABLE y_all, y_factors, y_limit, y_switch CASCADE;
DROP VIEW y_letters, y_counts;
DROP FUNCTION y_number, y_at, y_wait, y_checked;
DROP AGGREGATE y_sum(int);
DROP FUNCTION y_add;
DROP TYPE y_mood, y_pair;
DROP DOMAIN y_positive;
DROP ROLE y_other;
