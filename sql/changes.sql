-- Without this: aggregates over all events would not be kept up to date in place, or be computed wrongly on read.
SET timezone = 'UTC';
CREATE FOREIGN TABLE c_events (k text, n int, x numeric) SERVER pipeline_local;
CREATE TABLE c_labels (k text PRIMARY KEY, label text);
INSERT INTO c_labels VALUES ('a', 'one'), ('b', 'one'), ('c', 'two');

CREATE VIEW c_groups WITH (pipeline.continuous, pipeline.emit = 'changes') AS
SELECT k, count(*) AS n, sum(n) AS s, avg(x) AS mean, min(k) AS lo, max(x) AS hi FROM c_events GROUP BY k;
CREATE VIEW c_default WITH (pipeline.continuous) AS SELECT k, count(*) AS n FROM c_events GROUP BY k;
CREATE VIEW c_all WITH (pipeline.continuous, pipeline.emit = 'changes') AS
SELECT count(*) AS n, sum(n) AS s, round(avg(x), 2) AS mean FROM c_events;
CREATE VIEW c_having WITH (pipeline.continuous, pipeline.emit = 'changes') AS
SELECT label || '!' AS label, sum(n) * 10 AS s, sum(n) / count(*) AS ratio
FROM c_events JOIN c_labels USING (k) GROUP BY label HAVING count(*) > 1;
CREATE VIEW c_ranked WITH (pipeline.continuous, pipeline.emit = 'changes') AS
SELECT k, s, rank() OVER (ORDER BY s DESC) AS rank FROM (SELECT k, sum(n) AS s FROM c_events GROUP BY k) t;
CREATE VIEW c_joined WITH (pipeline.continuous, pipeline.emit = 'changes') AS
SELECT l.label, t.n FROM (SELECT k, count(*) AS n FROM c_events GROUP BY k) t LEFT JOIN c_labels l USING (k);
CREATE VIEW c_distinct WITH (pipeline.continuous, pipeline.emit = 'changes') AS SELECT DISTINCT k FROM c_events;
CREATE VIEW c_waiting AS SELECT pipeline.wait_for(v) AS waited
FROM unnest('{c_groups,c_default,c_all,c_having,c_ranked,c_joined,c_distinct}'::regclass[]) v;

SELECT bool_and(waited) FROM c_waiting;
SELECT * FROM c_all;
INSERT INTO c_events VALUES ('a', 1, 1.5), ('b', 2, NULL), ('a', 3, 2.5), (NULL, 4, 'NaN'), ('d', NULL, 0);
SELECT bool_and(waited) FROM c_waiting;
SELECT * FROM c_groups ORDER BY k;
SELECT * FROM c_default ORDER BY k;
SELECT * FROM c_all;
SELECT * FROM c_having ORDER BY label;
SELECT * FROM c_ranked ORDER BY k;
SELECT * FROM c_joined ORDER BY n, label;
SELECT * FROM c_distinct ORDER BY k;

INSERT INTO c_events VALUES ('a', 10, 3), ('c', 7, 1), ('c', 1, 1);
SELECT bool_and(waited) FROM c_waiting;
SELECT * FROM c_groups ORDER BY k;
SELECT * FROM c_all;
SELECT * FROM c_having ORDER BY label;
SELECT * FROM c_ranked ORDER BY k;
SELECT * FROM c_joined ORDER BY n, label;
-- what is above the aggregation is evaluated on read: a changed label shows at once
UPDATE c_labels SET label = 'three' WHERE k = 'c';
SELECT * FROM c_joined ORDER BY n, label;
SELECT * FROM c_having ORDER BY label;

-- groups survive the worker
SELECT pg_terminate_backend(pid) FROM pipeline.stat_views WHERE view = 'c_groups'::regclass;
INSERT INTO c_events SELECT 'g' || i % 500, i, i FROM generate_series(1, 5000) i;
SELECT bool_and(waited) FROM c_waiting;
SELECT count(*), sum(n), sum(s) FROM c_groups WHERE k LIKE 'g%';
SELECT * FROM c_groups WHERE k IN ('a', 'g7') ORDER BY k;
SELECT pipeline.pause('c_groups');
INSERT INTO c_events SELECT 'g' || i % 500, i, i FROM generate_series(1, 5000) i;
SELECT pipeline.resume('c_groups');
SELECT bool_and(waited) FROM c_waiting;
SELECT count(*), sum(n), sum(s) FROM c_groups WHERE k LIKE 'g%';
SELECT c_groups.n = c_default.n AS agree, count(*) FROM c_groups JOIN c_default USING (k) GROUP BY 1;
DROP VIEW c_waiting;
DROP FOREIGN TABLE c_events CASCADE;
DROP TABLE c_labels;
