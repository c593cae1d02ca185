-- Without this: a view rebuilt from history would lose rows that come meanwhile, count events twice,
-- or show what is neither the old nor the new.
SET timezone = 'UTC';

CREATE FOREIGN TABLE rp_events (pos int, at timestamptz, k int, n int)
  SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '5 seconds', idle_timeout 'off', retention '1 day');
CREATE TABLE rp_archive (pos int, at timestamptz, k int, n int);
CREATE TABLE rp_names (k int PRIMARY KEY, name text);
INSERT INTO rp_names SELECT i, 'wrong ' || i FROM generate_series(0, 4) i;
CREATE VIEW rp_windows WITH (pipeline.continuous) AS
SELECT name, pipeline.tumble(at, '1 minute') AS w, count(*) AS c, sum(n) AS s FROM rp_events JOIN rp_names USING (k) GROUP BY name, w;
CREATE INDEX rp_upper ON rp_windows (upper(name));
CREATE VIEW rp_totals WITH (pipeline.continuous) AS SELECT name, count(*) AS c, sum(n) AS s FROM rp_events JOIN rp_names USING (k) GROUP BY name;
CREATE VIEW rp_append WITH (pipeline.continuous) AS SELECT pos, name, 100 / (n - 22) AS q FROM rp_events JOIN rp_names USING (k);
CREATE VIEW rp_hop WITH (pipeline.continuous) AS
SELECT name, lower(w) AS since, string_agg(pos::text, ' ' ORDER BY pos) AS all FROM rp_events JOIN rp_names USING (k), pipeline.hop(at, '2 minutes', '1 minute') AS w GROUP BY name, w;
CREATE VIEW rp_open WITH (pipeline.continuous, pipeline.emit = 'changes') AS
SELECT name, pipeline.tumble(at, '5 minutes') AS w, count(*) AS c FROM rp_events JOIN rp_names USING (k) GROUP BY name, w;

-- two places of the stream in one view: two tables of state
CREATE VIEW rp_both WITH (pipeline.continuous) AS
SELECT a.w, a.name, a.c, b.c AS of_all FROM (SELECT name, pipeline.tumble(at, '1 minute') AS w, count(*) AS c FROM rp_events JOIN rp_names USING (k) GROUP BY name, w) a
JOIN (SELECT pipeline.tumble(at, '1 minute') AS w, count(*) AS c FROM rp_events GROUP BY w) b ON a.w = b.w;

-- one of 97 is late; one of 23 cannot be divided by
CREATE PROCEDURE rp_insert(first int, last int) LANGUAGE sql AS $$
INSERT INTO rp_archive SELECT i, timestamptz '2024-01-01' + (i - i % 4) * interval '1 second' - CASE WHEN i % 97 = 0 THEN interval '10 minutes' ELSE '0' END, i % 5, i % 23
FROM generate_series(first, last) i;
INSERT INTO rp_events SELECT * FROM rp_archive WHERE pos BETWEEN first AND last ORDER BY pos $$;
CREATE FUNCTION rp_wait() RETURNS bool LANGUAGE sql AS $$ SELECT bool_and(pipeline.wait_for(view, '30 seconds')) FROM pipeline.views WHERE view::text LIKE 'rp%' $$;
CREATE FUNCTION rp_same(got text, want text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE g bigint; a bigint; b bigint;
BEGIN
  EXECUTE format('SELECT count(*) FROM %s', got) INTO g;
  EXECUTE format('SELECT count(*) FROM (SELECT * FROM %s EXCEPT ALL (%s)) d', got, want) INTO a;
  EXECUTE format('SELECT count(*) FROM ((%s) EXCEPT ALL SELECT * FROM %s) d', want, got) INTO b;
  RETURN CASE WHEN g > 0 AND a = 0 AND b = 0 THEN 'same' ELSE format('%s rows, %s too many, %s missing', g, a, b) END;
END $$;
-- the views, by plain SQL; names are as they are now
CREATE FUNCTION rp_check(view text) RETURNS text LANGUAGE sql AS $f$
SELECT rp_same(view, CASE view
  WHEN 'rp_windows' THEN $$SELECT name, w, count(*), sum(n) FROM rp_archive JOIN rp_names USING (k), pipeline.tumble(at, '1 minute') w
    WHERE pos % 97 > 0 AND upper(w) <= pipeline.watermark('rp_windows') GROUP BY name, w$$
  WHEN 'rp_totals' THEN $$SELECT name, count(*), sum(n) FROM rp_archive JOIN rp_names USING (k) GROUP BY name$$
  WHEN 'rp_append' THEN $$SELECT pos, name, 100 / (n - 22) FROM rp_archive JOIN rp_names USING (k) WHERE n <> 22$$
  WHEN 'rp_hop' THEN $$SELECT name, lower(w), string_agg(pos::text, ' ' ORDER BY pos) FROM rp_archive JOIN rp_names USING (k), pipeline.hop(at, '2 minutes', '1 minute') w
    WHERE pos % 97 > 0 AND upper(w) <= pipeline.watermark('rp_hop') GROUP BY name, w$$
  WHEN 'rp_both' THEN $$SELECT w, name, count(*), (SELECT count(*) FROM rp_archive, pipeline.tumble(at, '1 minute') v WHERE pos % 97 > 0 AND v = w)
    FROM rp_archive JOIN rp_names USING (k), pipeline.tumble(at, '1 minute') w
    WHERE pos % 97 > 0 AND upper(w) <= pipeline.watermark('rp_both') GROUP BY w, name$$
  WHEN 'rp_open' THEN $$SELECT name, w, count(*) FROM rp_archive JOIN rp_names USING (k), pipeline.tumble(at, '5 minutes') w
    WHERE pos % 97 > 0 GROUP BY name, w$$ END) $f$;

CALL rp_insert(1, 1000);
SELECT rp_wait();
SELECT view, rp_check(view::text) FROM pipeline.views WHERE view::text LIKE 'rp%' ORDER BY view::text;
SELECT (SELECT count(*) FROM rp_windows_late) AS late, (SELECT count(*) FROM pipeline.dead_letters WHERE view = 'rp_append'::regclass) AS dead;

-- names were wrong: what is out already is wrong for ever, but for a replay
UPDATE rp_names SET name = 'right ' || k;
SELECT rp_check('rp_windows') <> 'same' AS wrong, (SELECT count(*) FROM rp_windows WHERE name LIKE 'right%') AS right;
CALL pipeline.replay('rp_windows');
SELECT rp_check('rp_windows');
CALL pipeline.replay('rp_totals');
CALL pipeline.replay('rp_append');
CALL pipeline.replay('rp_hop');
CALL pipeline.replay('rp_open');
CALL pipeline.replay('rp_both');
SELECT view, rp_check(view::text) FROM pipeline.views WHERE view::text LIKE 'rp%' ORDER BY view::text;
SELECT (SELECT count(*) FROM rp_windows_late) AS late, (SELECT count(*) FROM pipeline.dead_letters WHERE view = 'rp_append'::regclass) AS dead;

-- windows that were open go on; nothing is read twice
CALL rp_insert(1001, 1500);
SELECT rp_wait();
SELECT v.view, rp_check(v.view::text), s.events_in, s.state, pipeline.verify_state(v.view) FROM pipeline.views v JOIN pipeline.stat_views s USING (view) WHERE v.view::text LIKE 'rp%' ORDER BY v.view::text;
SET enable_seqscan = off;
SELECT count(*) > 0 AS by_index FROM rp_windows WHERE upper(name) = 'RIGHT 1';
RESET enable_seqscan;

-- only later windows: earlier rows stay, late rows too
UPDATE rp_names SET name = 'later ' || k;
CALL pipeline.replay('rp_windows', replace_from => '2024-01-01 00:10:00');
SELECT split_part(name, ' ', 1) AS name, min(lower(w)) AS first, max(lower(w)) AS last, sum(c) AS events FROM rp_windows GROUP BY 1 ORDER BY 1;
CALL pipeline.replay('rp_hop', replace_from => '2024-01-01 00:10:00');
SELECT split_part(name, ' ', 1) AS name, min(since) AS first, max(since) AS last FROM rp_hop GROUP BY 1 ORDER BY 1;
SELECT count(*) AS late FROM rp_windows_late;
CALL rp_insert(1501, 2000);
SELECT rp_wait();
SELECT sum(c) = (SELECT count(*) FROM rp_archive, pipeline.tumble(at, '1 minute') w WHERE pos % 97 > 0 AND upper(w) <= pipeline.watermark('rp_windows')) AS complete FROM rp_windows;

-- the watermark does not go back
SELECT pipeline.advance_watermark('rp_events', '2024-01-01 01:00:00');
SELECT rp_wait();
-- nor do the numbers of checkpoints, by which a worker knows its position
DO $$ BEGIN
  FOR i IN 1..30 LOOP
    PERFORM pipeline.advance_watermark('rp_events', timestamptz '2024-01-01 01:00:00' + i * interval '1 second');
    COMMIT;
    PERFORM pipeline.wait_for('rp_windows');
    COMMIT;
  END LOOP;
END $$;
SELECT seq AS old_seq FROM pipeline_data.checkpoints JOIN pipeline_data.views ON id = task WHERE view = 'rp_windows'::regclass \gset
CALL pipeline.replay('rp_windows');
SELECT pipeline.watermark('rp_windows'), rp_check('rp_windows'),
  (SELECT seq > :old_seq FROM pipeline_data.checkpoints JOIN pipeline_data.views ON id = task WHERE view = 'rp_windows'::regclass) AS seq;

-- paused and stopped views can be replayed, too
SELECT pipeline.pause('rp_totals');
CALL pipeline.replay('rp_totals');
SELECT rp_check('rp_totals'), state FROM pipeline.views WHERE view = 'rp_totals'::regclass;
SELECT pipeline.resume('rp_totals');

-- refused
BEGIN;
CALL pipeline.replay('rp_windows');
ROLLBACK;
CALL pipeline.replay('rp_archive');
CALL pipeline.replay(NULL);
CALL pipeline.replay('rp_totals', replace_from => '2024-01-01');
CALL pipeline.replay('rp_append', replace_from => '2024-01-01');
CALL pipeline.replay('rp_open', replace_from => '2024-01-01');
CALL pipeline.replay('rp_windows', "from" => now() + interval '1 hour');
SELECT count(*) FROM pg_class WHERE relname LIKE 'rp%replay';
CREATE VIEW rp_clock WITH (pipeline.continuous) AS SELECT pipeline.tumble(pipeline.proctime(), '1 minute') AS w, count(*) FROM rp_events GROUP BY w;
CALL pipeline.replay('rp_clock');
DROP VIEW rp_clock;
CREATE TABLE rp_windows_replay ();
CALL pipeline.replay('rp_windows');
DROP TABLE rp_windows_replay;
CREATE VIEW rp_over WITH (pipeline.continuous) AS SELECT name, c FROM rp_windows;
CALL pipeline.replay('rp_windows');
CALL pipeline.replay('rp_over');
DROP VIEW rp_over;
CREATE ROLE rp_somebody;
SET ROLE rp_somebody;
CALL pipeline.replay('rp_windows');
RESET ROLE;
DROP ROLE rp_somebody;

\set VERBOSITY terse
DROP FOREIGN TABLE rp_events CASCADE;
DROP TABLE rp_archive, rp_names;
DROP FUNCTION rp_check, rp_same, rp_wait;
DROP PROCEDURE rp_insert;
