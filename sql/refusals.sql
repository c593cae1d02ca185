-- Without this: a view that cannot be kept as its query says would be created, and be wrong; or be
-- refused without saying what to do instead.
SET timezone = 'UTC';
CREATE FOREIGN TABLE ref_events (at timestamptz, k text, n int, other timestamptz) SERVER pipeline_local
  OPTIONS (event_time 'at', out_of_orderness '0');
CREATE FOREIGN TABLE ref_untimed (k text, n int) SERVER pipeline_local;
CREATE TABLE ref_table (k text PRIMARY KEY, label text);
CREATE TEMP TABLE ref_temp (k text);
CREATE VIEW ref_plain AS SELECT k FROM ref_table;

-- options
CREATE VIEW r WITH (pipeline.continuous, pipeline.emti = 'changes') AS SELECT k FROM ref_events;
CREATE VIEW r WITH (pipeline.emit = 'changes') AS SELECT k FROM ref_events;
CREATE VIEW r WITH (continuous) AS SELECT k FROM ref_events;
CREATE VIEW r WITH (pipeline.continuous = perhaps) AS SELECT k FROM ref_events;
CREATE VIEW r WITH (pipeline.continuous, pipeline.continuous) AS SELECT k FROM ref_events;
CREATE VIEW r WITH (pipeline.continuous, pipeline.late = drop, pipeline.late = store) AS SELECT k FROM ref_events;
CREATE VIEW r WITH (pipeline.continuous, pipeline.emit = 'sometimes') AS SELECT k FROM ref_events;
CREATE VIEW r WITH (pipeline.continuous, pipeline.late = 'keep') AS SELECT k FROM ref_events;
CREATE VIEW r WITH (pipeline.continuous, pipeline.checkpoint_interval = '1 hour') AS SELECT k FROM ref_events;
CREATE VIEW r WITH (pipeline.continuous, pipeline.start = 'infinity') AS SELECT k FROM ref_events;
CREATE VIEW r WITH (pipeline.continuous, pipeline.allowed_lateness = '-1 minute') AS SELECT k FROM ref_events;
CREATE VIEW r WITH (pipeline.continuous, nonsense.option) AS SELECT k FROM ref_events;
CREATE SERVER r FOREIGN DATA WRAPPER pipeline_kafka OPTIONS ("bootstrap.servers" 'localhost:9092');
CREATE FOREIGN TABLE r (at text) SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '0');

-- not supported yet
CREATE VIEW r WITH (pipeline.continuous, pipeline.allowed_lateness = '1 minute') AS SELECT k FROM ref_events;
CREATE VIEW r WITH (pipeline.continuous, pipeline.workers = 2) AS SELECT k FROM ref_events;
CREATE VIEW r WITH (pipeline.continuous, pipeline.state_ttl = '1 day') AS SELECT k FROM ref_events;
CREATE VIEW r WITH (pipeline.continuous, pipeline.retention = '1 day') AS SELECT k FROM ref_events;
CREATE VIEW r WITH (pipeline.continuous, pipeline.sink = 'topic') AS SELECT k FROM ref_events;
CREATE VIEW r WITH (pipeline.continuos) AS SELECT k FROM ref_events;
CREATE VIEW r WITH (pipeline.continuous, pipeline.late) AS SELECT k FROM ref_events;
CREATE VIEW r WITH (pipeline.continuous) AS SELECT a.k FROM ref_events a JOIN ref_events b ON a.k = b.k;
CREATE VIEW r WITH (pipeline.continuous) AS SELECT a.k FROM ref_events a JOIN ref_untimed b ON a.k = b.k;
CREATE VIEW r WITH (pipeline.continuous) AS
SELECT k, pipeline.tumble(now(), '1 minute') AS w, count(*) FROM ref_untimed GROUP BY k, w;

-- other kinds of relations
CREATE TEMP VIEW r WITH (pipeline.continuous) AS SELECT k FROM ref_events;
CREATE VIEW pg_temp.r WITH (pipeline.continuous) AS SELECT k FROM ref_events;
CREATE RECURSIVE VIEW r (k) WITH (pipeline.continuous) AS SELECT k FROM ref_events;
CREATE VIEW r WITH (pipeline.continuous) AS SELECT k FROM ref_events WITH CHECK OPTION;
CREATE VIEW r WITH (pipeline.continuous, check_option = local) AS SELECT k FROM ref_events;
CREATE VIEW r WITH (pipeline.continuous, security_invoker) AS SELECT k FROM ref_events;
CREATE MATERIALIZED VIEW r WITH (pipeline.continuous) AS SELECT k FROM ref_events;
CREATE TABLE r WITH (pipeline.continuous) AS SELECT k FROM ref_events;

-- queries
CREATE VIEW r WITH (pipeline.continuous) AS SELECT k FROM ref_table;
CREATE VIEW r WITH (pipeline.continuous) AS SELECT 1 AS one;
CREATE VIEW r WITH (pipeline.continuous) AS SELECT e.k FROM ref_events e JOIN ref_temp USING (k);
CREATE VIEW r WITH (pipeline.continuous) AS SELECT nothing FROM ref_events;
CREATE VIEW r (a, b) WITH (pipeline.continuous) AS SELECT k FROM ref_events;
CREATE VIEW r WITH (pipeline.continuous) AS SELECT k, k FROM ref_events;
CREATE VIEW r WITH (pipeline.continuous) AS SELECT k FROM ref_events FOR UPDATE;
CREATE VIEW r WITH (pipeline.continuous) AS
WITH d AS (DELETE FROM ref_table RETURNING k) SELECT e.k FROM ref_events e JOIN d USING (k);
CREATE VIEW r WITH (pipeline.continuous) AS SELECT k FROM ref_events LIMIT 10;
CREATE VIEW r WITH (pipeline.continuous) AS
SELECT k, pipeline.tumble(at, '1 minute') AS w, count(*) AS n FROM ref_events GROUP BY k, w ORDER BY n DESC LIMIT 10;
CREATE VIEW r WITH (pipeline.continuous) AS SELECT k, random() AS r FROM ref_events;
CREATE VIEW r WITH (pipeline.continuous) AS SELECT k FROM ref_events WHERE at > now() - interval '1 hour';
CREATE VIEW r WITH (pipeline.continuous) AS
SELECT e.k FROM ref_events e, LATERAL (SELECT 1 WHERE e.at > now() - interval '1 hour') recent;
CREATE VIEW r WITH (pipeline.continuous) AS
SELECT e.k, days FROM ref_events e, generate_series(e.at, now(), interval '1 day') days;
CREATE VIEW r WITH (pipeline.continuous) AS SELECT ctid, k FROM ref_events;
CREATE VIEW r WITH (pipeline.continuous) AS SELECT k, count(ctid) FROM ref_events GROUP BY k;
CREATE VIEW r WITH (pipeline.continuous) AS SELECT count(*) FROM ref_events GROUP BY ctid;
CREATE VIEW r WITH (pipeline.continuous) AS
SELECT pipeline.tumble(other, '1 minute') AS w, count(*) FROM ref_events GROUP BY w;
CREATE VIEW r WITH (pipeline.continuous) AS
SELECT pipeline.tumble(at + interval '1 hour', '1 minute') AS w, count(*) FROM ref_events GROUP BY w;
CREATE VIEW r WITH (pipeline.continuous) AS
SELECT pipeline.tumble(at, n * interval '1 minute') AS w, count(*) FROM ref_events GROUP BY w;
CREATE VIEW r WITH (pipeline.continuous) AS
SELECT pipeline.tumble(at, '-1 minute') AS w, count(*) FROM ref_events GROUP BY w;
CREATE VIEW r WITH (pipeline.continuous) AS
SELECT pipeline.tumble(at, '1 month') AS w, count(*) FROM ref_events GROUP BY w;
CREATE VIEW r WITH (pipeline.continuous) AS
SELECT e.k, t.label FROM ref_table t LEFT JOIN ref_events e USING (k);
CREATE VIEW r WITH (pipeline.continuous) AS
SELECT k FROM ref_table t WHERE EXISTS (SELECT FROM ref_events e WHERE e.k = t.k);
CREATE VIEW r WITH (pipeline.continuous) AS
SELECT k, row_number() OVER (PARTITION BY k ORDER BY at) AS r FROM ref_events;
CREATE VIEW r WITH (pipeline.continuous) AS SELECT k, json_agg(n) AS all_n FROM ref_events GROUP BY k;
CREATE VIEW r WITH (pipeline.continuous) AS SELECT DISTINCT ON (k) k, n FROM ref_events ORDER BY k, at;

-- none of these has left anything behind
SELECT count(*) FROM pg_class WHERE relname = 'r' OR relname ~ '^[qtk]_[0-9]+$';

-- what cannot be done to a view that is there
CREATE VIEW r WITH (pipeline.continuous) AS
SELECT k, pipeline.tumble(at, '1 minute') AS w, count(*) FROM ref_events GROUP BY k, w;
CREATE VIEW r WITH (pipeline.continuous) AS SELECT k FROM ref_events;
CREATE OR REPLACE VIEW r AS SELECT k FROM ref_table;
ALTER VIEW r SET (pipeline.continuous = false);
ALTER VIEW r SET (pipeline.emit = 'changes');
ALTER VIEW r RESET (pipeline.emit);
ALTER VIEW r SET (pipeline.start = 'latest');
ALTER VIEW r SET (pipeline.late_table = 'x');
ALTER VIEW r SET (pipeline.emti = 'changes');
ALTER VIEW r SET (security_invoker);
ALTER VIEW ref_plain SET (pipeline.late = 'drop');
ALTER TABLE ref_table SET (pipeline.late = 'drop');
CREATE RULE redirect AS ON INSERT TO r DO INSTEAD INSERT INTO ref_table VALUES (new.k);
ALTER TABLE r_late ADD COLUMN more int;
ALTER TABLE r_late DROP COLUMN k;
ALTER TABLE r_late OWNER TO CURRENT_USER;
DROP TABLE r_late;
VACUUM r;
CREATE VIEW d WITH (pipeline.continuous, pipeline.late = 'drop') AS
SELECT pipeline.tumble(at, '1 minute') AS w, count(*) FROM ref_events GROUP BY w;
ALTER VIEW d SET (pipeline.late = 'store');

-- streams beneath a view keep their meaning
ALTER FOREIGN TABLE ref_events OPTIONS (SET event_time 'other');
ALTER FOREIGN TABLE ref_events OPTIONS (DROP event_time);
ALTER FOREIGN TABLE ref_events ALTER COLUMN k OPTIONS (ADD metadata 'offset');
ALTER FOREIGN TABLE ref_events RENAME COLUMN at TO happened;
ALTER FOREIGN TABLE ref_events OPTIONS (SET out_of_orderness '1 second');
ALTER FOREIGN TABLE ref_events ADD COLUMN extra int;
ALTER FOREIGN TABLE ref_events DROP COLUMN extra;

DROP FOREIGN TABLE ref_events CASCADE;
DROP FOREIGN TABLE ref_untimed;
DROP VIEW ref_plain;
DROP TABLE ref_table, ref_temp;
