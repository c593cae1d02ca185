-- Without this: what stands above a window's aggregation would be applied to the wrong rows.
SET timezone = 'UTC';
CREATE FOREIGN TABLE q_events (at timestamptz, k text, n int) SERVER pipeline_local
  OPTIONS (event_time 'at', out_of_orderness '0');
CREATE TABLE q_labels (k text PRIMARY KEY, label text);
INSERT INTO q_labels VALUES ('a', 'alpha'), ('b', 'beta');

CREATE VIEW q_having WITH (pipeline.continuous) AS
SELECT k || '?' AS k, lower(pipeline.tumble(at, '1 minute')) AS minute, sum(n) + count(*) AS mixed
FROM q_events GROUP BY k, pipeline.tumble(at, '1 minute') HAVING count(*) > 1 AND sum(n) < 100;
CREATE VIEW q_ranked WITH (pipeline.continuous) AS
SELECT k, w, n, r FROM (
  SELECT k, w, n, rank() OVER (PARTITION BY w ORDER BY n DESC) AS r
  FROM (SELECT k, pipeline.tumble(at, '1 minute') AS w, sum(n) AS n FROM q_events GROUP BY k, w) s) t
WHERE r <= 2;
CREATE VIEW q_rows WITH (pipeline.continuous) AS
SELECT k, n, w FROM (
  SELECT k, n, pipeline.tumble(at, '1 minute') AS w,
    row_number() OVER (PARTITION BY pipeline.tumble(at, '1 minute') ORDER BY n DESC, k) AS r FROM q_events) t
WHERE r = 1;
CREATE VIEW q_twice WITH (pipeline.continuous) AS
SELECT w, count(*) AS keys, sum(n) AS n, max(n) AS biggest
FROM (SELECT k, pipeline.tumble(at, '1 minute') AS w, count(*) AS n FROM q_events GROUP BY k, w) t GROUP BY w;
CREATE VIEW q_cte WITH (pipeline.continuous) AS
WITH counted AS (SELECT k, date_bin('1 minute', at, '2000-01-01+00') AS minute, sum(n) AS n FROM q_events GROUP BY k, minute)
SELECT c.minute, l.label, c.n FROM counted c LEFT JOIN q_labels l USING (k) WHERE c.n > 0;
CREATE VIEW q_ordered WITH (pipeline.continuous) AS
SELECT pipeline.tumble(at, '1 minute') AS w, k, count(*) AS n FROM q_events GROUP BY w, k ORDER BY n;
CREATE VIEW q_case WITH (pipeline.continuous) AS
SELECT pipeline.tumble(at, '1 minute') AS w, CASE WHEN n > 5 THEN 'big' ELSE 'small' END AS size, count(*) AS n
FROM q_events GROUP BY 1, 2;

INSERT INTO q_events VALUES
  ('2024-01-01 00:00:00', 'a', 1), ('2024-01-01 00:00:10', 'a', 9), ('2024-01-01 00:00:20', 'b', 5),
  ('2024-01-01 00:00:30', 'b', 200), ('2024-01-01 00:00:40', 'c', 0), ('2024-01-01 00:00:50', 'c', -3),
  ('2024-01-01 00:01:00', 'a', 2), ('2024-01-01 00:01:01', 'c', 2), ('2024-01-01 00:02:00', 'a', 0);
SELECT pipeline.wait_for(v) FROM unnest('{q_having,q_ranked,q_rows,q_twice,q_cte,q_ordered,q_case}'::regclass[]) v;
SELECT * FROM q_having ORDER BY minute, k;
SELECT * FROM q_ranked ORDER BY w, r, k;
SELECT * FROM q_rows ORDER BY w;
SELECT * FROM q_twice ORDER BY w;
SELECT * FROM q_cte ORDER BY minute, n, label;
SELECT * FROM q_ordered ORDER BY w, k;
SELECT * FROM q_case ORDER BY w, size;

-- the close query sees tables as they are when the window closes
UPDATE q_labels SET label = 'ALPHA' WHERE k = 'a';
INSERT INTO q_events VALUES ('2024-01-01 00:02:30', 'a', 4), ('2024-01-01 00:03:00', 'a', 0);
SELECT pipeline.wait_for('q_cte');
SELECT * FROM q_cte ORDER BY minute, n, label;
DROP FOREIGN TABLE q_events CASCADE;
DROP TABLE q_labels;

-- an error over the groups of a window fails for ever and is no record's: the view stops, others go on
CREATE FOREIGN TABLE c_ratio (at timestamptz, k text, v int) SERVER pipeline_local
  OPTIONS (event_time 'at', out_of_orderness '0');
CREATE VIEW c_divides WITH (pipeline.continuous) AS
SELECT k, pipeline.tumble(at, '1 minute') AS w, sum(v) / (count(*) - 3) AS q FROM c_ratio GROUP BY k, w;
CREATE VIEW c_counts WITH (pipeline.continuous) AS
SELECT k, pipeline.tumble(at, '1 minute') AS w, count(*) AS n FROM c_ratio GROUP BY k, w;
INSERT INTO c_ratio SELECT timestamptz '2024-01-01 00:00:00Z' + g * interval '1 second', 'a', g FROM generate_series(1, 3) g;
INSERT INTO c_ratio VALUES ('2024-01-01 00:02:00Z', 'b', 1);
SELECT pipeline.wait_for('c_counts', '30 seconds');
SELECT k, lower(w) AT TIME ZONE 'UTC' AS minute, n FROM c_counts;
SELECT pipeline.wait_for('c_divides', '30 seconds');
SELECT state, reason FROM pipeline.views WHERE view = 'c_divides'::regclass;
SELECT count(*) FROM pipeline.dead_letters WHERE view = 'c_divides'::regclass;
DROP FOREIGN TABLE c_ratio CASCADE;
