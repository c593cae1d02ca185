-- Without this: views on one stream would disturb each other, or start in the middle of it.
SET timezone = 'UTC';
CREATE FOREIGN TABLE v_events (at timestamptz, k text, n int) SERVER pipeline_local
  OPTIONS (event_time 'at', out_of_orderness '0');
CREATE VIEW v_first WITH (pipeline.continuous, pipeline.emit = 'changes') AS SELECT count(*) AS n FROM v_events;
INSERT INTO v_events VALUES ('2024-01-01 00:00:00', 'a', 1), ('2024-01-01 00:00:30', 'b', 0);
SELECT pipeline.wait_for('v_first');

-- a view that comes later starts at the earliest event that is kept, or where it is told to
CREATE VIEW v_second WITH (pipeline.continuous, pipeline.emit = 'changes') AS SELECT count(*) AS n FROM v_events;
CREATE VIEW v_latest WITH (pipeline.continuous, pipeline.emit = 'changes', pipeline.start = 'latest') AS
SELECT count(*) AS n FROM v_events;
CREATE VIEW v_failing WITH (pipeline.continuous, pipeline.emit = 'changes') AS SELECT sum(1 / n) AS s FROM v_events;
SELECT pipeline.wait_for('v_second'), pipeline.wait_for('v_latest'), pipeline.wait_for('v_failing');
SELECT (SELECT n FROM v_first) AS first, (SELECT n FROM v_second) AS second, (SELECT n FROM v_latest) AS latest;
INSERT INTO v_events VALUES ('2024-01-01 00:01:00', 'a', 1);
SELECT pipeline.wait_for('v_first'), pipeline.wait_for('v_second'), pipeline.wait_for('v_latest'), pipeline.wait_for('v_failing');
SELECT (SELECT n FROM v_first) AS first, (SELECT n FROM v_second) AS second, (SELECT n FROM v_latest) AS latest,
  (SELECT s FROM v_failing) AS failing;
SELECT view, events_in, dead_letters FROM pipeline.stat_views ORDER BY view::text;

-- one that is paused or dropped leaves the others alone, and finds its events again
SELECT pipeline.pause('v_second');
INSERT INTO v_events SELECT '2024-01-01 00:02', 'x', 1 FROM generate_series(1, 1000);
SELECT pipeline.wait_for('v_first');
DROP VIEW v_failing;
INSERT INTO v_events SELECT '2024-01-01 00:02', 'x', 1 FROM generate_series(1, 1000);
SELECT pipeline.wait_for('v_first'), pipeline.wait_for('v_latest');
SELECT (SELECT n FROM v_first) AS first, (SELECT n FROM v_second) AS second, (SELECT n FROM v_latest) AS latest;
SELECT pipeline.resume('v_second');
SELECT pipeline.wait_for('v_second');
SELECT (SELECT n FROM v_first) AS first, (SELECT n FROM v_second) AS second, (SELECT n FROM v_latest) AS latest;
DROP FOREIGN TABLE v_events CASCADE;
