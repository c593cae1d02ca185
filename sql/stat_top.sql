-- Without this: pipeline.top() could give a wrong reason why a view is slow or empty, or none, or tell it to those it does not concern.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET client_min_messages = warning;
CREATE SCHEMA top;
SET search_path = top, public;
CREATE FUNCTION eventually(query text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE answer boolean;
BEGIN
  WHILE clock_timestamp() < statement_timestamp() + interval '60 seconds' LOOP
    EXECUTE query INTO answer;
    IF answer THEN RETURN true; END IF;
  END LOOP;
  RETURN false;
END $$;
CREATE FUNCTION why(v regclass, OUT status text, OUT bottleneck text, OUT empty_because text, OUT hint text) LANGUAGE sql AS $$
SELECT pipeline.wait_for(v) FROM pipeline.stat_views s WHERE s.view = v AND s.state = 'running';
SELECT status, bottleneck, empty_because, hint FROM pipeline.top() t WHERE t.view = v $$;
\pset expanded on
\pset null '-'

CREATE FOREIGN TABLE t_events (at timestamptz, k text, n int) SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '1 second', idle_timeout 'off');
CREATE TABLE t_labels (k text PRIMARY KEY, label text);

-- nothing came
CREATE VIEW t_nothing WITH (pipeline.continuous) AS SELECT pipeline.tumble(at, '1 minute') AS w, count(*) AS n FROM t_events GROUP BY w;
SELECT * FROM why('t_nothing');
CREATE VIEW t_above WITH (pipeline.continuous) AS SELECT w, n FROM t_nothing WHERE n > 1;
SELECT empty_because, hint FROM why('t_above');
CREATE VIEW t_latest WITH (pipeline.continuous, pipeline.start = 'latest') AS SELECT k FROM t_events;
SELECT empty_because, hint FROM why('t_latest');
DROP VIEW t_above, t_latest;

-- no event passes WHERE; none finds a partner; both
CREATE VIEW t_filtered WITH (pipeline.continuous) AS SELECT pipeline.tumble(at, '1 minute') AS w, count(*) AS n FROM t_events WHERE n > 100 GROUP BY w;
CREATE VIEW t_unmatched WITH (pipeline.continuous) AS SELECT label, n FROM t_events JOIN t_labels USING (k) WHERE n > 1;
-- a window is open; the first rows come when it closes
INSERT INTO t_events VALUES ('2024-01-01 00:00:10', 'a', 1), ('2024-01-01 00:00:20', 'b', 2), ('2024-01-01 00:00:30', 'c', 3);
SELECT empty_because, hint FROM why('t_filtered');
SELECT empty_because, hint FROM why('t_unmatched');
SELECT * FROM why('t_nothing');
INSERT INTO t_events VALUES ('2024-01-01 00:01:02', 'a', 1);
SELECT * FROM why('t_nothing');

-- what closed gave no rows
CREATE VIEW t_having WITH (pipeline.continuous) AS SELECT pipeline.tumble(at, '1 minute') AS w, count(*) AS n FROM t_events GROUP BY w HAVING count(*) > 1000;
INSERT INTO t_events VALUES ('2024-01-01 00:01:03', 'a', 1);
SELECT eventually($$SELECT windows_closed > 0 FROM pipeline.stat_views WHERE view = 't_having'::regclass$$);
SELECT empty_because, hint FROM why('t_having');
DROP VIEW t_having, t_filtered, t_unmatched, t_nothing;

-- all late, all without a time, all of the future, all bad
CREATE FOREIGN TABLE t_late (at timestamptz, n int) SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '0', idle_timeout 'off');
CREATE VIEW t_all_late WITH (pipeline.continuous) AS SELECT pipeline.tumble(at, '1 minute') AS w, count(*) AS n FROM t_late GROUP BY w;
SELECT pipeline.wait_for('t_all_late');
SELECT pipeline.advance_watermark('t_late', '2024-01-02');
SELECT eventually($$SELECT watermark IS NOT NULL FROM pipeline.stat_views WHERE view = 't_all_late'::regclass$$);
INSERT INTO t_late VALUES ('2024-01-01', 1), ('2024-01-01', 2);
SELECT empty_because, hint FROM why('t_all_late');
DROP VIEW t_all_late;
-- most are late, as one was ahead of them; nothing closes, as events may be a day out of order
CREATE VIEW t_most_late WITH (pipeline.continuous, pipeline.start = 'latest') AS SELECT pipeline.tumble(at, '1 hour') AS w, count(*) AS n FROM t_late GROUP BY w;
SELECT pipeline.wait_for('t_most_late');
INSERT INTO t_late VALUES ('2024-01-03 00:00:10', 1);
SELECT pipeline.wait_for('t_most_late');
INSERT INTO t_late VALUES ('2024-01-02 01:00:10', 2), ('2024-01-02 01:00:20', 3);
SELECT * FROM why('t_most_late');
CREATE FOREIGN TABLE t_patient (at timestamptz) SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '1 day', idle_timeout 'off');
CREATE VIEW t_waits WITH (pipeline.continuous) AS SELECT pipeline.tumble(at, '1 hour') AS w, count(*) AS n FROM t_patient GROUP BY w;
INSERT INTO t_patient VALUES ('2024-01-02 01:00:10'), ('2024-01-02 03:00:10');
SELECT * FROM why('t_waits');
DROP VIEW t_most_late, t_waits;
CREATE FOREIGN TABLE t_bad (at timestamptz, n int) SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '0');
CREATE VIEW t_untimed WITH (pipeline.continuous) AS SELECT pipeline.tumble(at, '1 minute') AS w, count(*) AS n FROM t_bad GROUP BY w;
CREATE VIEW t_divides WITH (pipeline.continuous) AS SELECT 1 / (n - n) AS q FROM t_bad;
INSERT INTO t_bad VALUES (NULL, 1), (NULL, 2);
SELECT empty_because, hint FROM why('t_untimed');
SELECT empty_because, hint FROM why('t_divides');
DROP VIEW t_untimed, t_divides;
-- dead letters that were processed after all are bad no longer
CREATE TABLE t_rates (r int);
INSERT INTO t_rates VALUES (0);
CREATE VIEW t_retried WITH (pipeline.continuous, pipeline.start = 'latest') AS SELECT pipeline.tumble(at, '1 minute') AS w, sum(1 / r) AS s FROM t_bad, t_rates GROUP BY w;
SELECT pipeline.wait_for('t_retried');
INSERT INTO t_bad VALUES ('2024-01-01 00:00:10', 1);
SELECT empty_because FROM why('t_retried');
UPDATE t_rates SET r = 1;
SELECT pipeline.retry_dead_letters('t_retried');
SELECT empty_because FROM why('t_retried');
DROP VIEW t_retried;
CREATE VIEW t_future WITH (pipeline.continuous, pipeline.start = 'latest') AS SELECT pipeline.tumble(at, '1 minute') AS w, count(*) AS n FROM t_bad GROUP BY w;
SELECT pipeline.wait_for('t_future');
INSERT INTO t_bad VALUES (now() + interval '1000 years', 1);
SELECT status, empty_because, hint FROM why('t_future');
DROP VIEW t_future;

-- the watermark waits for a stream, or a partition, that has nothing
CREATE FOREIGN TABLE t_other (at timestamptz, n int) SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '0', idle_timeout 'off');
CREATE VIEW t_two WITH (pipeline.continuous) AS
SELECT pipeline.tumble(at, '1 minute') AS w, count(*) AS n FROM (SELECT at FROM t_bad UNION ALL SELECT at FROM t_other) u GROUP BY w;
INSERT INTO t_bad VALUES ('2024-01-01 00:00:10', 1), ('2024-01-01 00:05:10', 1);
SELECT * FROM why('t_two');
INSERT INTO t_other VALUES ('2024-01-01 00:00:30', 1);
SELECT status, bottleneck FROM why('t_two');
INSERT INTO t_other VALUES ('2024-01-01 00:05:30', 1);
SELECT status, empty_because FROM why('t_two');
DROP VIEW t_two;

-- paused, stopped, restored; their order
CREATE VIEW t_rows WITH (pipeline.continuous) AS SELECT k, n FROM t_events;
CREATE VIEW t_paused WITH (pipeline.continuous) AS SELECT k, n FROM t_events;
CREATE FOREIGN TABLE t_strict (n int) SERVER pipeline_local OPTIONS (on_error 'stop');
CREATE VIEW t_stopped WITH (pipeline.continuous) AS SELECT 1 / n AS q FROM t_strict;
INSERT INTO t_events VALUES ('2024-01-01 00:02:00', 'a', 1);
SELECT pipeline.wait_for('t_rows'), pipeline.wait_for('t_paused');
SELECT pipeline.pause('t_paused');
INSERT INTO t_strict VALUES (0);
SELECT eventually($$SELECT state = 'stopped' FROM pipeline.views WHERE view = 't_stopped'::regclass$$);
SELECT * FROM why('t_stopped');
SELECT status, bottleneck, hint FROM why('t_paused');
SELECT status, bottleneck, empty_because FROM why('t_rows');
\pset expanded off
SELECT view, status FROM pipeline.top();

-- dead letters now
CREATE VIEW t_some_bad WITH (pipeline.continuous) AS SELECT 1 / n AS q FROM t_bad;
INSERT INTO t_bad SELECT '2024-01-01', i % 2 FROM generate_series(1, 10) i;
SELECT status, bottleneck, hint, empty_because FROM why('t_some_bad');

-- each role sees its own views; who may see all statistics is not told what records hold
CREATE ROLE regress_nobody;
CREATE ROLE regress_watcher IN ROLE pg_monitor;
CREATE VIEW t_secret WITH (pipeline.continuous) AS SELECT k::int AS i FROM t_events;
INSERT INTO t_events VALUES ('2024-01-01 00:02:00', 'secret', 1);
SELECT empty_because FROM why('t_secret');
GRANT USAGE ON SCHEMA top TO regress_nobody, regress_watcher;
SET ROLE regress_nobody;
SELECT count(*) FROM pipeline.top();
SET ROLE regress_watcher;
SELECT view, empty_because FROM pipeline.top() WHERE view::text = 't_secret';
SELECT * FROM pipeline_data.health;
RESET ROLE;
SELECT count(*) = (SELECT count(*) FROM pipeline.views) AS all_of_them, count(*) = count(waiting + decode + stage + operator + close + commit + other) AS with_times,
  bool_and(waiting + decode + stage + operator + close + commit + other BETWEEN 0.98 AND 1.02) AS whole FROM pipeline.top();

-- a view that came from another database
UPDATE pipeline_data.tasks SET incarnation = 0 WHERE id = (SELECT id FROM pipeline_data.views WHERE view = 't_rows'::regclass);
SELECT view, status, bottleneck, hint FROM pipeline.top() WHERE view = 't_rows'::regclass;

DROP SCHEMA top CASCADE;
DROP ROLE regress_nobody, regress_watcher;
