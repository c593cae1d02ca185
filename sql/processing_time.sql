-- Without this: processing time would be accepted where it is not the time of an event, or refused where it is.
-- Windows that close by the clock are in test/t/135_processing_time.pl.
SET timezone = 'UTC';
CREATE FOREIGN TABLE pt_events (id int, k text) SERVER pipeline_local;
CREATE FOREIGN TABLE pt_timed (id int, at timestamptz, k text) SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '0');
CREATE TABLE pt_names (k text, since timestamptz, name text);
INSERT INTO pt_names VALUES ('a', '2000-01-01', 'one');
CREATE TABLE pt_before AS SELECT clock_timestamp() AS t;

CREATE VIEW pt_rows WITH (pipeline.continuous) AS SELECT *, pipeline.proctime() AS p FROM pt_events;
CREATE VIEW pt_last WITH (pipeline.continuous) AS SELECT k, max(pipeline.proctime()) AS last, count(*) AS n FROM pt_events GROUP BY k;
CREATE VIEW pt_century WITH (pipeline.continuous, pipeline.emit = 'changes') AS
SELECT date_trunc('century', pipeline.proctime()) AS c, k, count(*) AS n FROM pt_timed GROUP BY 1, 2;
CREATE VIEW pt_hours WITH (pipeline.continuous) AS
SELECT w, k, count(*) AS n FROM pt_events, pipeline.hop(pipeline.proctime(), '1 hour', '10 minutes') AS w GROUP BY w, k;
CREATE VIEW pt_kept WITH (pipeline.continuous) AS
SELECT pipeline.tumble(p, '1 hour') AS w, string_agg(k, ',' ORDER BY id) AS ks FROM (SELECT *, pipeline.proctime() AS p FROM pt_events) e GROUP BY 1;
CREATE VIEW pt_joined WITH (pipeline.continuous) AS
SELECT e.id, n.name FROM (SELECT *, pipeline.proctime() AS p FROM pt_events) e LEFT JOIN pt_names n ON n.k = e.k AND n.since < e.p AND e.p < n.since + interval '1000 years';
SELECT pipeline.explain('pt_hours');
SELECT DISTINCT line ~ 'Join Filter' AS joined FROM pipeline.explain('pt_joined') line WHERE line ~ 'e\.p';
SELECT line FROM pipeline.explain('pt_kept') line WHERE line ~ 'Operator|Reason';
INSERT INTO pt_events VALUES (1, 'a'), (2, 'b'), (3, 'a');
INSERT INTO pt_timed VALUES (1, '2024-01-01', 'a'), (2, '1999-01-01', 'a'), (3, NULL, 'a');
SELECT bool_and(pipeline.wait_for(v)) FROM unnest('{pt_rows,pt_last,pt_century,pt_hours,pt_kept,pt_joined}'::regclass[]) v;
SELECT id, k, p >= t - interval '1 second' AND p < clock_timestamp() + interval '1 month' AS now FROM pt_rows, pt_before ORDER BY id;
SELECT k, n, last = (SELECT max(p) FROM pt_rows r WHERE r.k = l.k) AS same FROM pt_last l ORDER BY k;
SELECT * FROM pt_century;
SELECT * FROM pt_joined ORDER BY id;
SELECT open_windows BETWEEN 6 AND 7 AS windows, late FROM pipeline.stat_views WHERE view = 'pt_hours'::regclass;
SELECT to_regclass('pt_hours_late') IS NULL AS no_late_table;

-- refused
CREATE VIEW r WITH (pipeline.continuous) AS SELECT id FROM pt_events WHERE pipeline.proctime() > '2024-01-01';
CREATE VIEW r WITH (pipeline.continuous) AS SELECT e.id FROM pt_events e JOIN pt_names n ON n.since < pipeline.proctime();
CREATE VIEW r WITH (pipeline.continuous) AS SELECT id, (SELECT pipeline.proctime()) AS p FROM pt_events;
CREATE VIEW r WITH (pipeline.continuous) AS SELECT e.id, n.p FROM pt_events e, (SELECT pipeline.proctime() AS p) n;
CREATE VIEW r WITH (pipeline.continuous) AS SELECT id, p FROM pt_events, pipeline.proctime() p;
CREATE VIEW r WITH (pipeline.continuous) AS SELECT k, count(*), pipeline.proctime() AS p FROM pt_events GROUP BY k;
CREATE VIEW r WITH (pipeline.continuous) AS
SELECT w, count(*) FROM pt_events, pipeline.tumble(pipeline.proctime(), '1 minute') w GROUP BY w HAVING upper(w) > pipeline.proctime();
CREATE VIEW r WITH (pipeline.continuous) AS
SELECT w, max(id) FROM pt_events, pipeline.tumble(pipeline.proctime(), '1 minute') w WHERE lower(w) > '2024-01-01' GROUP BY w;
CREATE VIEW r WITH (pipeline.continuous, pipeline.allowed_lateness = '1 minute') AS
SELECT w, count(*) FROM pt_events, pipeline.tumble(pipeline.proctime(), '1 minute') w GROUP BY w;
CREATE VIEW r WITH (pipeline.continuous, pipeline.workers = 2) AS
SELECT w, count(*) FROM pt_events, pipeline.tumble(pipeline.proctime(), '1 minute') w GROUP BY w;
CREATE VIEW r WITH (pipeline.continuous) AS
SELECT pipeline.tumble(pipeline.proctime(), '1 minute') AS w, pipeline.tumble(at, '1 minute') AS v, count(*) FROM pt_timed GROUP BY w, v;
CREATE VIEW r WITH (pipeline.continuous) AS
SELECT pipeline.tumble(pipeline.proctime() + interval '1 hour', '1 minute') AS w, count(*) FROM pt_timed GROUP BY w;
CREATE VIEW r WITH (pipeline.continuous) AS
SELECT a.w, a.n, b.m FROM (SELECT pipeline.tumble(pipeline.proctime(), '1 minute') AS w, count(*) AS n FROM pt_timed GROUP BY 1) a
JOIN (SELECT pipeline.tumble(pipeline.proctime(), '1 minute') AS w, max(id) AS m FROM pt_timed GROUP BY 1) b USING (w);
SELECT pipeline.proctime();
SELECT * FROM pt_names WHERE since > pipeline.proctime();

SET client_min_messages = warning;
DROP FOREIGN TABLE pt_events, pt_timed CASCADE;
DROP TABLE pt_names, pt_before;
