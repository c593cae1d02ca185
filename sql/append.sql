-- Without this: views without aggregation would drop, repeat or change rows.
SET timezone = 'UTC';
CREATE FOREIGN TABLE a_events (at timestamptz, k text, n int, tags text[], doc jsonb) SERVER pipeline_local
  OPTIONS (event_time 'at', out_of_orderness '0');
CREATE TABLE a_labels (k text, label text);
INSERT INTO a_labels VALUES ('a', 'alpha'), ('a', 'first'), ('b', 'beta');

CREATE VIEW a_filtered WITH (pipeline.continuous) AS
SELECT at, upper(k) AS k, n * 2 AS twice, tags[1] AS tag, doc ->> 'x' AS x FROM a_events WHERE n > 0;
CREATE VIEW a_inner WITH (pipeline.continuous) AS SELECT e.k, e.n, l.label FROM a_events e JOIN a_labels l ON l.k = e.k;
CREATE VIEW a_left WITH (pipeline.continuous) AS SELECT e.k, e.n, l.label FROM a_events e LEFT JOIN a_labels l USING (k);
CREATE VIEW a_sub WITH (pipeline.continuous) AS
SELECT k, n, (SELECT count(*) FROM a_labels l WHERE l.k = e.k) AS labels
FROM a_events e WHERE EXISTS (SELECT FROM a_labels l WHERE l.k = e.k) OR n IN (SELECT 3);
CREATE VIEW a_unnested WITH (pipeline.continuous) AS SELECT k, tag FROM a_events, unnest(tags) AS tag;
CREATE VIEW a_names AS SELECT k, n FROM a_events WHERE n <> 2;
CREATE VIEW a_through WITH (pipeline.continuous) AS
WITH positive AS (SELECT * FROM a_names WHERE n > 0) SELECT k, n AS m FROM positive;
CREATE VIEW a_constant WITH (pipeline.continuous) AS SELECT 1 AS one FROM a_events;

INSERT INTO a_events VALUES
  ('2024-01-01', 'a', 1, '{x,y}', '{"x": 1}'), ('2024-01-01', 'b', 2, '{}', '{"y": 1}'), (NULL, 'c', 3, NULL, NULL), ('2023-01-01', 'a', -1, '{z}', '"x"');
SELECT pipeline.wait_for(v) FROM unnest('{a_filtered,a_inner,a_left,a_sub,a_unnested,a_through,a_constant}'::regclass[]) v;
SELECT * FROM a_filtered ORDER BY k;
SELECT * FROM a_inner ORDER BY n, label;
SELECT * FROM a_left ORDER BY n, label;
SELECT * FROM a_sub ORDER BY n;
SELECT * FROM a_unnested ORDER BY tag;
SELECT * FROM a_through ORDER BY m;
SELECT count(*) FROM a_constant;

-- an event joins the rows that are there when it is processed
UPDATE a_labels SET label = 'ALPHA' WHERE label = 'alpha';
INSERT INTO a_events (at, k, n) VALUES ('2024-01-02', 'a', 9);
SELECT pipeline.wait_for(v) FROM unnest('{a_inner,a_constant}'::regclass[]) v;
SELECT * FROM a_inner ORDER BY n, label;

-- rows of a slow transaction come when it commits, in a stream with others
SELECT count(*) FROM a_constant;
BEGIN;
INSERT INTO a_events (k, n) VALUES ('inside', 100);
SELECT pipeline.wait_for('a_constant');
SELECT count(*) FROM a_constant;
SAVEPOINT s;
INSERT INTO a_events (k, n) VALUES ('undone', 101);
ROLLBACK TO s;
COMMIT;
SELECT pipeline.wait_for('a_constant'), pipeline.wait_for('a_filtered');
SELECT count(*) FROM a_constant;
SELECT k FROM a_filtered WHERE twice >= 200;

-- many at once
INSERT INTO a_events (k, n) SELECT 'many', i FROM generate_series(1, 20000) i;
SELECT pipeline.wait_for('a_filtered');
SELECT count(*), count(DISTINCT twice), sum(twice) FROM a_filtered WHERE k = 'MANY';
DROP FOREIGN TABLE a_events CASCADE;
DROP TABLE a_labels;
