-- Results, late rows and dead letters that are too old are deleted, and nothing else is.
SET TimeZone = 'UTC';
SET client_min_messages = warning;
CREATE FOREIGN TABLE rt (at timestamptz, k text, v int) SERVER pipeline_local
  OPTIONS (event_time 'at', out_of_orderness '0', idle_timeout 'off', max_ahead 'off');
CREATE FUNCTION rt_at(minutes numeric) RETURNS timestamptz IMMUTABLE LANGUAGE sql AS
  $$ SELECT timestamptz '2024-01-01 00:00:00+00' + minutes * interval '1 minute' $$;
CREATE PROCEDURE rt_until(query text) LANGUAGE plpgsql AS $$
DECLARE done boolean; BEGIN
  FOR i IN 1 .. 100000 LOOP
    EXECUTE query INTO done;
    EXIT WHEN done OR clock_timestamp() > statement_timestamp() + interval '60 s';
    COMMIT;
  END LOOP;
  IF NOT done THEN RAISE 'not yet: %', query; END IF;
END $$;

-- each way in which a row shows its time
CREATE VIEW rt_range WITH (pipeline.continuous, pipeline.retention = '1 hour') AS
SELECT pipeline.tumble(at, '10 minutes') AS w, count(*) AS n FROM rt GROUP BY w;
CREATE VIEW rt_start WITH (pipeline.continuous, pipeline.retention = '1 hour') AS
SELECT k, date_trunc('hour', at) AS hour, sum(v) AS v FROM rt GROUP BY k, hour;
CREATE VIEW rt_end WITH (pipeline.continuous, pipeline.retention = '1 hour') AS
SELECT upper(w) AS w_end, count(*) AS n FROM rt, pipeline.hop(at, '20 minutes', '10 minutes') AS w GROUP BY w;
CREATE VIEW rt_session WITH (pipeline.continuous, pipeline.retention = '1 hour') AS
SELECT k, pipeline.session(at, '5 minutes') AS s, count(*) AS n FROM rt GROUP BY k, s;
CREATE VIEW rt_changes WITH (pipeline.continuous, pipeline.emit = 'changes', pipeline.allowed_lateness = '30 minutes', pipeline.retention = '1 hour') AS
SELECT k || '!' AS kk, pipeline.tumble(at, '10 minutes') AS w, count(*) AS n FROM rt GROUP BY k, w;
CREATE VIEW rt_replaced WITH (pipeline.continuous, pipeline.emit = 'changes', pipeline.retention = '1 hour') AS
SELECT pipeline.tumble(at, '10 minutes') AS w, k, rank() OVER (PARTITION BY pipeline.tumble(at, '10 minutes') ORDER BY sum(v) DESC) AS place
FROM rt GROUP BY w, k;
CREATE VIEW rt_filter WITH (pipeline.continuous, pipeline.retention = '1 hour') AS SELECT at, k, 100 / v AS part FROM rt WHERE k <> 'x';
CREATE VIEW rt_kept WITH (pipeline.continuous) AS
SELECT pipeline.tumble(at, '10 minutes') AS w, count(*) AS n FROM rt GROUP BY w;
-- who reads a view keeps what it was given
CREATE VIEW rt_reader WITH (pipeline.continuous) AS SELECT sum(n) AS n FROM rt_range;
RESET client_min_messages;
SELECT indexrelid::regclass::text ~ '^pipeline_data.t_\d+_retention$' AS named, regexp_replace(pg_get_indexdef(indexrelid), 't_\d+', 't_N', 'g') AS index
FROM pg_index i JOIN pipeline_data.views v ON v.result = i.indrelid
WHERE NOT indisprimary AND view::text LIKE 'rt\_%' ORDER BY v.view::text;

INSERT INTO rt SELECT rt_at(m), 'ab', m FROM generate_series(1, 179) m;
CREATE FUNCTION rt_wait() RETURNS boolean LANGUAGE sql AS $$
  SELECT bool_and(pipeline.wait_for(view) AND pipeline.verify_state(view)) FROM pipeline.views WHERE view::text LIKE 'rt\_%' $$;
SELECT rt_wait();
-- a row is old when its window ended more than an hour before the watermark, which is 02:59
CREATE VIEW rt_left AS
SELECT 'rt_range' AS view, count(*) AS rows, min(lower(w)) AS first, max(lower(w)) AS last FROM rt_range
UNION ALL SELECT 'rt_start', count(*), min(hour), max(hour) FROM rt_start
UNION ALL SELECT 'rt_end', count(*), min(w_end), max(w_end) FROM rt_end
UNION ALL SELECT 'rt_session', count(*), min(lower(s)), max(lower(s)) FROM rt_session
UNION ALL SELECT 'rt_changes', count(*), min(lower(w)), max(lower(w)) FROM rt_changes
UNION ALL SELECT 'rt_replaced', count(*), min(lower(w)), max(lower(w)) FROM rt_replaced
UNION ALL SELECT 'rt_filter', count(*), min(at), max(at) FROM rt_filter
UNION ALL SELECT 'rt_kept', count(*), min(lower(w)), max(lower(w)) FROM rt_kept
UNION ALL SELECT 'rt_reader', max(n), NULL, NULL FROM rt_reader;
CREATE FUNCTION rt_none_older(before timestamptz) RETURNS boolean LANGUAGE sql AS $$
  SELECT NOT EXISTS (SELECT FROM rt_range WHERE upper(w) < before) AND NOT EXISTS (SELECT FROM rt_start WHERE hour + interval '1 hour' < before)
    AND NOT EXISTS (SELECT FROM rt_end WHERE w_end < before) AND NOT EXISTS (SELECT FROM rt_session WHERE upper(s) < before)
    AND NOT EXISTS (SELECT FROM rt_changes WHERE upper(w) < before) AND NOT EXISTS (SELECT FROM rt_replaced WHERE upper(w) < before)
    AND NOT EXISTS (SELECT FROM rt_filter WHERE at < before) $$;
CALL rt_until($$ SELECT rt_none_older(rt_at(119)) $$);
TABLE rt_left ORDER BY view;
SELECT view, CASE WHEN view::text !~ 'changes|replaced' THEN rows_out - rows_expired END AS left, rows_expired FROM pipeline.stat_views WHERE view::text LIKE 'rt\_%' AND view <> 'rt_reader'::regclass ORDER BY view::text;

-- a late event that is admitted still finds its row; a late row and a dead letter of its own
INSERT INTO rt VALUES (rt_at(150), 'ab', 1), (rt_at(100), 'ab', 2), (rt_at(179), 'ab', 0);
SELECT rt_wait();
SELECT * FROM rt_changes WHERE n > 10;
INSERT INTO rt VALUES (rt_at(241), 'c', 5), (rt_at(241), 'x', 0);
SELECT rt_wait();
CALL rt_until($$ SELECT rt_none_older(rt_at(181)) $$);
SELECT view, rows, first, last FROM rt_left ORDER BY view;
SELECT * FROM rt_changes ORDER BY w;
SELECT at, arrived_at > now() - interval '1 hour' AS recent FROM rt_range_late ORDER BY at;
SELECT view, message FROM pipeline.dead_letters WHERE stream = 'rt'::regclass;

-- late rows and dead letters are as old as they are by the clock
UPDATE rt_range_late SET arrived_at = arrived_at - interval '59 minutes' WHERE at = rt_at(150);
UPDATE rt_range_late SET arrived_at = arrived_at - interval '61 minutes' WHERE at = rt_at(100);
INSERT INTO pipeline_data.dead_letters SELECT (jsonb_populate_record(d, jsonb_build_object('failed_at', d.failed_at - interval '61 minutes', 'offset', -1))).*
FROM pipeline_data.dead_letters d WHERE stream = 'rt'::regclass;
ALTER VIEW rt_range SET (pipeline.late_retention = 'off');
ALTER VIEW rt_filter SET (pipeline.checkpoint_interval = '50ms');
CALL rt_until($$ SELECT NOT EXISTS (SELECT FROM rt_range_late WHERE at = rt_at(100)) AND NOT EXISTS (SELECT FROM pipeline.dead_letters WHERE "offset" = -1) $$);
SELECT at FROM rt_range_late ORDER BY at;
SELECT view, message FROM pipeline.dead_letters WHERE stream = 'rt'::regclass;

-- set, altered and taken away later
ALTER VIEW rt_kept SET (pipeline.retention = '2 hours');
CALL rt_until($$ SELECT min(lower(w)) = rt_at(120) FROM rt_kept $$);
ALTER VIEW rt_kept SET (pipeline.retention = '90 minutes');
CALL rt_until($$ SELECT min(lower(w)) = rt_at(150) FROM rt_kept $$);
BEGIN;
ALTER VIEW rt_kept RESET (pipeline.retention);
SELECT count(*) FROM pg_class WHERE relname ~ '^t_\d+_retention$';
ROLLBACK;
SELECT count(*) FROM pg_class WHERE relname ~ '^t_\d+_retention$';
ALTER VIEW rt_kept SET (pipeline.retention = 'off');
ALTER VIEW rt_range SET (pipeline.retention = 'off');
SELECT count(*) FROM pg_class WHERE relname ~ '^t_\d+_retention$';
INSERT INTO rt VALUES (rt_at(400), 'ab', 1);
SELECT rt_wait();
CALL rt_until($$ SELECT NOT EXISTS (SELECT FROM rt_end WHERE w_end < rt_at(340)) $$);
SELECT count(*), min(lower(w)) FROM rt_kept;
SELECT n FROM rt_reader;
-- the index is not the user's to drop
SELECT indexrelid::regclass::text AS retention_index FROM pg_index i JOIN pipeline_data.views v ON v.result = i.indrelid WHERE view = 'rt_end'::regclass \gset
SELECT replace(:'retention_index', 'pipeline_data.', '') AS retention_index \gset
\set VERBOSITY sqlstate
DROP INDEX :retention_index;
\set VERBOSITY default

-- an event time of the future moves the watermark, but nothing becomes old before its time
INSERT INTO rt VALUES (now() + interval '2 days', 'ab', 1);
INSERT INTO rt VALUES (now() + interval '4 days', 'ab', 1);
SELECT rt_wait();
CALL rt_until($$ SELECT count(*) = 2 FROM rt_filter $$);
SELECT count(*) AS rows, min(at) > now() AS all_to_come FROM rt_filter;
SELECT count(*) AS rows, min(lower(w)) > now() - interval '1 hour' AS all_to_come FROM rt_changes;

-- more than one portion, and a view that has nothing else to do
SET client_min_messages = warning;
CREATE FOREIGN TABLE rt_many (at timestamptz, n int) SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '0');
CREATE VIEW rt_all WITH (pipeline.continuous) AS SELECT at, n FROM rt_many;
RESET client_min_messages;
INSERT INTO rt_many SELECT rt_at(n / 10000.0), n FROM generate_series(1, 300000) n;
SELECT pipeline.wait_for('rt_all');
ALTER VIEW rt_all SET (pipeline.retention = '1 minute');
CALL rt_until($$ SELECT count(*) = 10001 FROM rt_all $$);
SELECT min(n), max(n) FROM rt_all;
SELECT rows_expired FROM pipeline.stat_views WHERE view = 'rt_all'::regclass;

-- a replay gives what is not too old
ALTER VIEW rt_all SET (pipeline.retention = '2 minutes');
SET client_min_messages = warning;
CREATE FOREIGN TABLE rt_few (at timestamptz, n int) SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '0', retention '1 day');
CREATE VIEW rt_again WITH (pipeline.continuous, pipeline.retention = '1 hour') AS SELECT date_bin('10 minutes', at, '2024-01-01 00:00Z') AS w, count(*) AS n FROM rt_few GROUP BY w;
RESET client_min_messages;
INSERT INTO rt_few SELECT rt_at(m), m FROM generate_series(1, 179) m;
SELECT pipeline.wait_for('rt_again');
CALL rt_until($$ SELECT count(*) = 6 FROM rt_again $$);
CALL pipeline.replay('rt_again');
SELECT pipeline.wait_for('rt_again');
CALL rt_until($$ SELECT count(*) = 6 FROM rt_again $$);
TABLE rt_again ORDER BY w;
SELECT count(*) FROM pg_class WHERE relname ~ '^t_\d+_retention$';

-- the time is in a column that was added, behind others
SET client_min_messages = warning;
CREATE FOREIGN TABLE rt_added (at timestamptz, n int, k int) SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '0');
CREATE VIEW rt_evolved WITH (pipeline.continuous) AS SELECT n FROM rt_added;
CREATE VIEW rt_groups WITH (pipeline.continuous, pipeline.emit = 'changes', pipeline.retention = '1 hour') AS
SELECT k, pipeline.tumble(at, '10 minutes') AS w, count(*) AS n FROM rt_added GROUP BY k, w;
INSERT INTO rt_added SELECT rt_at(m), m FROM generate_series(1, 30) m;
SELECT pipeline.wait_for('rt_evolved'), pipeline.wait_for('rt_groups');
SELECT pipeline.alter('rt_evolved', 'SELECT n, k, at FROM rt_added');
SELECT pipeline.alter('rt_groups', $$ SELECT k, pipeline.tumble(at, '10 minutes') AS w, count(*) AS n, max(n) AS most FROM rt_added GROUP BY k, w $$);
RESET client_min_messages;
ALTER VIEW rt_evolved SET (pipeline.retention = '1 hour');
INSERT INTO rt_added SELECT rt_at(m), m FROM generate_series(31, 150) m;
SELECT pipeline.wait_for('rt_evolved'), pipeline.wait_for('rt_groups');
CALL rt_until($$ SELECT NOT EXISTS (SELECT FROM rt_evolved WHERE at < rt_at(90)) AND NOT EXISTS (SELECT FROM rt_groups WHERE upper(w) < rt_at(90)) $$);
SELECT count(*), count(at), min(at), max(n) FROM rt_evolved;
SELECT count(*), min(lower(w)), max(most) FROM rt_groups;

-- refused
CREATE VIEW no WITH (pipeline.continuous, pipeline.retention = '0') AS SELECT at FROM rt;
CREATE VIEW no WITH (pipeline.continuous, pipeline.retention = '1 month') AS SELECT at FROM rt;
CREATE VIEW no WITH (pipeline.continuous, pipeline.retention = 'a while') AS SELECT at FROM rt;
CREATE VIEW no WITH (pipeline.continuous, pipeline.retention = '1 hour') AS SELECT k FROM rt;
CREATE VIEW no WITH (pipeline.continuous, pipeline.retention = '1 hour') AS SELECT k, count(*) FROM rt GROUP BY k;
CREATE VIEW no WITH (pipeline.continuous, pipeline.retention = '1 hour') AS SELECT k, count(*) FROM rt GROUP BY k, pipeline.tumble(at, '1 hour');
CREATE VIEW no WITH (pipeline.continuous, pipeline.retention = '1 hour') AS SELECT k, lower(pipeline.session(at, '1 hour')) AS s, count(*) FROM rt GROUP BY k, s;
CREATE VIEW no WITH (pipeline.continuous, pipeline.retention = '1 hour') AS SELECT k, pipeline.count_window(10) AS c, count(*) FROM rt GROUP BY k, c;
CREATE VIEW no WITH (pipeline.continuous, pipeline.retention = '1 hour', pipeline.allowed_lateness = '2 hours') AS
SELECT pipeline.tumble(at, '1 hour') AS w, count(*) FROM rt GROUP BY w;
CREATE VIEW no WITH (pipeline.continuous, pipeline.retention = '1 hour', pipeline.keep_closed = '2 hours') AS
SELECT pipeline.tumble(at, '1 hour') AS w, count(*) FROM rt GROUP BY w;
ALTER VIEW rt_changes SET (pipeline.retention = '10 minutes');
ALTER VIEW rt_reader SET (pipeline.retention = '10 minutes');

SET client_min_messages = warning;
DROP FOREIGN TABLE rt, rt_many, rt_few, rt_added CASCADE;
SELECT count(*) FROM pg_class WHERE relname ~ '^t_\d+_retention$';
DROP FUNCTION rt_at, rt_wait, rt_none_older;
DROP PROCEDURE rt_until;
