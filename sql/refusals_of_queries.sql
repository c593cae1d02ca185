-- Without this: as for refusals.sql, of queries that few people write.
SET timezone = 'UTC';
\set SHOW_CONTEXT never
CREATE FOREIGN TABLE rq_events (at timestamptz, k text, n int) SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '0');
CREATE TABLE rq_table (k text PRIMARY KEY, label text);

-- emission
CREATE VIEW r WITH (pipeline.continuous, pipeline.emit = 'changes') AS SELECT k FROM rq_events;
CREATE VIEW r WITH (pipeline.continuous, pipeline.emit = 'window_close') AS SELECT k, count(*) FROM rq_events GROUP BY k;

-- what has no end
CREATE VIEW r WITH (pipeline.continuous) AS SELECT k, n, count(*) FROM rq_events GROUP BY GROUPING SETS ((k), (n));
CREATE VIEW r WITH (pipeline.continuous) AS SELECT k, percentile_cont(0.5) WITHIN GROUP (ORDER BY n) FROM rq_events GROUP BY k;
CREATE VIEW r WITH (pipeline.continuous) AS SELECT k, string_agg(k, ',' ORDER BY n) FROM rq_events GROUP BY k;
CREATE VIEW r WITH (pipeline.continuous) AS
WITH RECURSIVE t AS (SELECT k, 1 AS depth FROM rq_events UNION ALL SELECT k, depth + 1 FROM t WHERE depth < 3) SELECT * FROM t;
CREATE VIEW rq_recursive AS
WITH RECURSIVE t AS (SELECT k, 1 AS depth FROM rq_events UNION ALL SELECT k, depth + 1 FROM t WHERE depth < 3) SELECT * FROM t;
CREATE VIEW r WITH (pipeline.continuous) AS SELECT k FROM rq_recursive;
CREATE VIEW r WITH (pipeline.continuous) AS SELECT pipeline.tumble(e.at, '1 minute') AS w, count(*) FROM rq_events e, rq_recursive x WHERE x.k = e.k GROUP BY w;
DROP VIEW rq_recursive;
CREATE VIEW r WITH (pipeline.continuous) AS SELECT e.k FROM rq_events e JOIN rq_table TABLESAMPLE SYSTEM (10) USING (k);

-- sub-queries
CREATE VIEW r WITH (pipeline.continuous) AS SELECT t.k, l.n FROM rq_table t, LATERAL (SELECT e.n FROM rq_events e WHERE e.k = t.k) l;
CREATE VIEW r WITH (pipeline.continuous) AS SELECT s, count(*) FROM (SELECT k, n FROM rq_events) s GROUP BY s;
CREATE VIEW r WITH (pipeline.continuous) AS SELECT t.k FROM rq_table t WHERE EXISTS
  (SELECT FROM rq_events a JOIN rq_events b ON pipeline.tumble(a.at, '1 minute') = pipeline.tumble(b.at, '1 minute'));
CREATE VIEW r WITH (pipeline.continuous) AS
SELECT pipeline.tumble(e.at, '1 minute') AS w, t.k, t.label, count(*) FROM rq_events e JOIN rq_table t USING (k) GROUP BY w, t.k;

-- windows
CREATE VIEW r WITH (pipeline.continuous) AS SELECT pipeline.tumble(at, '1 minute', 'infinity') AS w, count(*) FROM rq_events GROUP BY w;
CREATE VIEW r WITH (pipeline.continuous) AS SELECT date_trunc('fortnight', at) AS w, count(*) FROM rq_events GROUP BY w;
CREATE VIEW r WITH (pipeline.continuous) AS SELECT date_trunc('timezone', at) AS w, count(*) FROM rq_events GROUP BY w;
CREATE VIEW r WITH (pipeline.continuous) AS SELECT a.k, pipeline.hop(a.at, '2 minutes', '1 minute') AS w
  FROM rq_events a JOIN rq_events b ON pipeline.tumble(a.at, '1 minute') = pipeline.tumble(b.at, '1 minute');
CREATE VIEW r WITH (pipeline.continuous) AS SELECT a.k, pipeline.hop(a.at, '2 minutes', '1 minute') AS v
  FROM (SELECT k, at, pipeline.hop(at, '2 minutes', '1 minute') AS w FROM rq_events) a
  JOIN (SELECT k, pipeline.hop(at, '2 minutes', '1 minute') AS w FROM rq_events) b USING (w);

-- values that cannot be stored
CREATE VIEW r WITH (pipeline.continuous) AS SELECT ROW(k, n) AS r, count(*) FROM rq_events GROUP BY ROW(k, n);
CREATE VIEW r WITH (pipeline.continuous) AS SELECT count(s) FROM (SELECT k, n FROM rq_events) s;
CREATE VIEW r WITH (pipeline.continuous) AS SELECT row_to_json(s) AS j FROM (SELECT k, n FROM rq_events) s;

-- relations that others inherit from
CREATE TABLE rq_parent (at timestamptz, k text, n int);
ALTER FOREIGN TABLE rq_events INHERIT rq_parent;
CREATE VIEW r WITH (pipeline.continuous) AS SELECT e.k FROM rq_events e JOIN rq_parent p USING (k);
CREATE VIEW r WITH (pipeline.continuous) AS SELECT k FROM rq_parent;
ALTER FOREIGN TABLE rq_events NO INHERIT rq_parent;
ALTER TABLE rq_parent INHERIT rq_events;
CREATE VIEW r WITH (pipeline.continuous) AS SELECT k FROM rq_events;
ALTER TABLE rq_parent NO INHERIT rq_events;

-- too many streams
DO $$ BEGIN FOR i IN 1 .. 17 LOOP EXECUTE format('CREATE FOREIGN TABLE rq_%s (at timestamptz, k text) SERVER pipeline_local OPTIONS (event_time ''at'', out_of_orderness ''0'')', i); END LOOP; END $$;
DO $$ BEGIN EXECUTE (SELECT 'CREATE VIEW r WITH (pipeline.continuous) AS ' || string_agg('SELECT k FROM rq_' || i, ' UNION ALL ') FROM generate_series(1, 17) i); END $$;

-- views that read views, and several workers
CREATE SERVER rq_kafka FOREIGN DATA WRAPPER pipeline_kafka OPTIONS (bootstrap_servers 'localhost:1');
CREATE FOREIGN TABLE rq_topic (at timestamptz, k text) SERVER rq_kafka OPTIONS (topic 'x', event_time 'at', out_of_orderness '0');
SET client_min_messages = warning;
CREATE VIEW rq_two WITH (pipeline.continuous, pipeline.workers = 2) AS SELECT pipeline.tumble(at, '1 minute') AS w, count(*) AS n FROM rq_topic GROUP BY w;
CREATE VIEW rq_one WITH (pipeline.continuous) AS SELECT pipeline.tumble(at, '1 minute') AS w, count(*) AS n FROM rq_topic GROUP BY w;
CREATE VIEW rq_reader WITH (pipeline.continuous) AS SELECT n FROM rq_one;
SET client_min_messages = notice;
CREATE VIEW r WITH (pipeline.continuous) AS SELECT n FROM rq_two;
ALTER VIEW rq_one SET (pipeline.workers = 2);
CALL pipeline.replay('rq_two');

-- rights
CREATE ROLE regress_pipeline_rq;
SET ROLE regress_pipeline_rq;
SELECT pipeline.adopt();
SELECT pipeline.shift_clock('1 day');
RESET ROLE;
GRANT USAGE ON SCHEMA pipeline TO regress_pipeline_rq;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA pipeline TO regress_pipeline_rq;
SET ROLE regress_pipeline_rq;
SELECT pipeline.adopt();
SELECT pipeline.shift_clock('1 day');
RESET ROLE;
SELECT pipeline.shift_clock('1 month');
SELECT pipeline.shift_clock('36500 days 2500:00');

-- none of these has left anything behind
SELECT count(*) FROM pg_class WHERE relname = 'r';
SET client_min_messages = warning;
DROP OWNED BY regress_pipeline_rq;
DROP ROLE regress_pipeline_rq;
DROP SERVER rq_kafka CASCADE;
DO $$ BEGIN FOR i IN 1 .. 17 LOOP EXECUTE format('DROP FOREIGN TABLE rq_%s', i); END LOOP; END $$;
DROP FOREIGN TABLE rq_events;
DROP TABLE rq_parent, rq_table;
