-- Without this: a view that reads another one would miss rows of it or take them twice, would close
-- its windows before all rows of them are there, or would be read without the right to.
SET timezone = 'UTC';

CREATE FOREIGN TABLE vv_events (pos int, at timestamptz, k text, n int)
  SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '5 seconds');

-- minutes, read by what follows; there are rows already when the first reader comes
CREATE VIEW vv_minutes WITH (pipeline.continuous) AS
SELECT k, pipeline.tumble(at, '1 minute') AS w, count(*) AS c, sum(n) AS s FROM vv_events GROUP BY k, w;
INSERT INTO vv_events SELECT i, timestamptz '2024-01-01 10:00:00' + i * interval '7 seconds' - (i % 3) * interval '1 second', 'k' || i % 4, i % 23
FROM generate_series(1, 200) i;
SELECT pipeline.wait_for('vv_minutes', '30 seconds');
SELECT count(*) > 0 AS has_rows FROM vv_minutes;

-- two levels of windows of each kind, a top of each window, filters, joins, no window
CREATE VIEW vv_tumble WITH (pipeline.continuous) AS
SELECT k, pipeline.tumble(upper(w) - interval '1 microsecond', '5 minutes') AS w5, count(*) AS minutes, sum(c) AS c, max(s) AS best
FROM vv_minutes GROUP BY k, w5;
CREATE VIEW vv_hop WITH (pipeline.continuous) AS
SELECT pipeline.hop(upper(w) - interval '1 microsecond', '10 minutes', '2 minutes') AS h, sum(c) AS c, count(DISTINCT k) AS ks
FROM vv_minutes GROUP BY h;
CREATE VIEW vv_top WITH (pipeline.continuous) AS
SELECT * FROM (SELECT w, k, s, row_number() OVER (PARTITION BY pipeline.tumble(upper(w) - interval '1 microsecond', '1 minute') ORDER BY s DESC, k) AS r
               FROM vv_minutes) t WHERE r <= 2;
CREATE VIEW vv_start WITH (pipeline.continuous) AS
SELECT pipeline.tumble(lower(w) + interval '59.999999 seconds', '3 minutes') AS w3, sum(c) AS c FROM vv_minutes GROUP BY w3;
CREATE VIEW vv_session WITH (pipeline.continuous) AS
SELECT k, pipeline.session(upper(w) - interval '1 microsecond', '90 seconds') AS ses, sum(c) AS c FROM vv_minutes GROUP BY k, ses;
CREATE TABLE vv_names (k text PRIMARY KEY, name text);
INSERT INTO vv_names VALUES ('k1', 'one'), ('k2', 'two');
CREATE VIEW vv_filter WITH (pipeline.continuous) AS
SELECT name, w, s FROM vv_minutes m JOIN vv_names USING (k) WHERE s > 10;
CREATE VIEW vv_total WITH (pipeline.continuous) AS
SELECT k, sum(c) AS c, max(upper(w)) AS until FROM vv_minutes GROUP BY k;
-- through an ordinary view and a WITH query
CREATE VIEW vv_plain AS SELECT k AS kk, w AS ww, c AS cc FROM vv_minutes WHERE k <> 'k0';
CREATE VIEW vv_through WITH (pipeline.continuous) AS
WITH x AS (SELECT * FROM vv_plain)
SELECT pipeline.tumble(upper(ww) - interval '1 microsecond', '4 minutes') AS w4, sum(cc) AS c FROM x GROUP BY w4;
-- a third level; an append view keeps its column's event time, or its window's
CREATE VIEW vv_third WITH (pipeline.continuous) AS
SELECT pipeline.tumble(upper(w5) - interval '1 microsecond', '15 minutes') AS w15, sum(c) AS c FROM vv_tumble GROUP BY w15;
CREATE VIEW vv_over_filter WITH (pipeline.continuous) AS
SELECT pipeline.tumble(upper(w) - interval '1 microsecond', '6 minutes') AS w6, count(*) AS c, sum(s) AS s FROM vv_filter GROUP BY w6;
CREATE VIEW vv_append WITH (pipeline.continuous) AS SELECT k, at AS happened, n FROM vv_events WHERE n % 2 = 0;
CREATE VIEW vv_over_append WITH (pipeline.continuous) AS
SELECT k, pipeline.tumble(happened, '2 minutes') AS w2, count(*) AS c, sum(n) AS s FROM vv_append GROUP BY k, w2;
-- from now on only
CREATE VIEW vv_latest WITH (pipeline.continuous, pipeline.start = 'latest') AS SELECT w, k, c FROM vv_minutes;

SELECT array_to_string(array(SELECT line FROM pipeline.explain('vv_tumble') line LIMIT 1), '') AS explain;
SELECT view, streams FROM pipeline.views WHERE view::text LIKE 'vv%' AND view::text NOT IN ('vv_events') ORDER BY view::text;
SELECT view, stream, partition FROM pipeline.stat_partitions WHERE view = 'vv_tumble'::regclass;

-- more events, with a late one for minutes and one that is late for none; then time for all to close
INSERT INTO vv_events SELECT i, timestamptz '2024-01-01 10:00:00' + i * interval '7 seconds' - (i % 3) * interval '1 second', 'k' || i % 4, i % 23
FROM generate_series(201, 500) i;
INSERT INTO vv_events VALUES (501, '2024-01-01 10:00:30', 'k1', 2), (502, '2024-01-01 12:00:00', 'end', 1);
INSERT INTO vv_events VALUES (503, '2024-01-01 13:00:00', 'end', 1);
SELECT bool_and(pipeline.wait_for(view, '30 seconds')) FROM pipeline.views WHERE view::text LIKE 'vv%';
SELECT count(*) AS late FROM vv_minutes_late;

-- each against the same query over the result of the level below
CREATE FUNCTION vv_same(got text, want text, until text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE g bigint; a bigint; b bigint;
BEGIN
  IF until IS NOT NULL THEN want := format('SELECT * FROM (%s) q WHERE upper(%s) <= timestamptz ''2024-01-01 13:00:00''', want, until); END IF;
  EXECUTE format('SELECT count(*) FROM %s', got) INTO g;
  EXECUTE format('SELECT count(*) FROM (SELECT * FROM %s EXCEPT ALL (%s)) d', got, want) INTO a;
  EXECUTE format('SELECT count(*) FROM ((%s) EXCEPT ALL SELECT * FROM %s) d', want, got) INTO b;
  RETURN CASE WHEN g > 0 AND a = 0 AND b = 0 THEN 'same' ELSE format('%s rows, %s too many, %s missing', g, a, b) END;
END $$;
SELECT pipeline.watermark('vv_minutes') AS minutes, pipeline.watermark('vv_tumble') AS tumble, pipeline.watermark('vv_third') AS third,
  pipeline.watermark('vv_append') AS append, pipeline.watermark('vv_over_append') AS over_append;
SELECT vv_same('vv_tumble', $$SELECT k, pipeline.tumble(upper(w) - interval '1 microsecond', '5 minutes') AS w5, count(*), sum(c), max(s) FROM vv_minutes GROUP BY k, w5$$, 'w5') AS tumble,
  vv_same('vv_hop', $$SELECT h, sum(c), count(DISTINCT k) FROM vv_minutes, pipeline.hop(upper(w) - interval '1 microsecond', '10 minutes', '2 minutes') AS h GROUP BY h$$, 'h') AS hop,
  vv_same('vv_top', $$SELECT * FROM (SELECT w, k, s, row_number() OVER (PARTITION BY w ORDER BY s DESC, k) AS r FROM vv_minutes) t WHERE r <= 2$$) AS top,
  vv_same('vv_start', $$SELECT pipeline.tumble(lower(w), '3 minutes') AS w3, sum(c) FROM vv_minutes GROUP BY w3$$, 'w3') AS start,
  vv_same('vv_filter', $$SELECT name, w, s FROM vv_minutes m JOIN vv_names USING (k) WHERE s > 10$$) AS filter,
  vv_same('vv_total', $$SELECT k, sum(c), max(upper(w)) FROM vv_minutes GROUP BY k$$) AS total,
  vv_same('vv_through', $$SELECT pipeline.tumble(upper(w) - interval '1 microsecond', '4 minutes') AS w4, sum(c) FROM vv_minutes WHERE k <> 'k0' GROUP BY w4$$, 'w4') AS through,
  vv_same('vv_third', $$SELECT pipeline.tumble(upper(w5) - interval '1 microsecond', '15 minutes') AS w15, sum(c) FROM vv_tumble GROUP BY w15$$, 'w15') AS third,
  vv_same('vv_over_filter', $$SELECT pipeline.tumble(upper(w) - interval '1 microsecond', '6 minutes') AS w6, count(*), sum(s) FROM vv_filter GROUP BY w6$$, 'w6') AS over_filter;
-- what is late for the append view's reader is counted; with it everything is accounted for
SELECT (SELECT sum(c) FROM vv_over_append) + (SELECT count(*) FROM vv_over_append_late) +
  (SELECT count(*) FROM vv_append WHERE happened >= '2024-01-01 12:58:00') = (SELECT count(*) FROM vv_append) AS complete,
  (SELECT count(*) FROM vv_over_append_late) AS late;
SELECT count(*) = (SELECT count(*) FROM vv_minutes WHERE lower(w) >= (SELECT min(lower(w)) FROM vv_latest)) AS latest, min(lower(w)) > '2024-01-01 10:20:00' AS later FROM vv_latest;
SELECT k, c, lower(ses) AS from, upper(ses) AS to FROM vv_session ORDER BY k, ses;
-- neither lost nor read twice: marks are no events
SELECT s.events_in = (SELECT count(*) FROM vv_minutes) AS events, s.dead_letters FROM pipeline.stat_views s WHERE view = 'vv_tumble'::regclass;

-- the clock can be moved by hand, for readers as for a stream
SELECT count(*) FROM vv_third WHERE upper(w15) > '2024-01-01 12:15:00';
SELECT pipeline.advance_watermark('vv_tumble', 'infinity');
SELECT pipeline.wait_for('vv_third', '30 seconds');
SELECT pipeline.advance_watermark('vv_names', 'infinity');

-- paused below: waiting says so; then it goes on
SELECT pipeline.pause('vv_minutes');
SELECT pipeline.wait_for('vv_tumble', '30 seconds');
INSERT INTO vv_events VALUES (504, '2024-01-01 14:00:00', 'end', 1), (505, '2024-01-01 15:00:00', 'end', 1);
SELECT pipeline.resume('vv_minutes');
SELECT pipeline.wait_for('vv_tumble', '30 seconds');
SELECT k, w5, minutes, c FROM vv_tumble WHERE lower(w5) >= '2024-01-01 13:00:00' ORDER BY w5;

-- refused
CREATE VIEW vv_bad WITH (pipeline.continuous) AS SELECT pipeline.tumble(upper(w), '5 minutes') AS b, sum(c) FROM vv_minutes GROUP BY b;
CREATE VIEW vv_bad WITH (pipeline.continuous) AS SELECT pipeline.tumble(lower(w), '5 minutes') AS b, sum(c) FROM vv_minutes GROUP BY b;
CREATE VIEW vv_bad WITH (pipeline.continuous) AS SELECT k, c FROM vv_total;
CREATE VIEW vv_bad WITH (pipeline.continuous) AS SELECT a.k FROM vv_minutes a JOIN vv_tumble b ON a.k = b.k; -- no windows
CREATE VIEW vv_bad WITH (pipeline.continuous) AS SELECT w, a.k FROM vv_minutes a JOIN vv_minutes b USING (w); -- no event time is named
CREATE VIEW vv_bad WITH (pipeline.continuous) AS SELECT m FROM vv_minutes m;
CREATE VIEW vv_bad WITH (pipeline.continuous, pipeline.workers = 2) AS SELECT k FROM vv_minutes;
CREATE VIEW vv_untimed WITH (pipeline.continuous) AS SELECT k, count(*) AS c, max(upper(w)) AS m FROM vv_minutes GROUP BY k, pipeline.tumble(upper(w) - interval '1 microsecond', '5 minutes');
CREATE VIEW vv_bad WITH (pipeline.continuous) AS SELECT pipeline.tumble(m, '5 minutes') AS b, sum(c) FROM vv_untimed GROUP BY b;
CREATE VIEW vv_untimed_total WITH (pipeline.continuous) AS SELECT sum(c) AS c FROM vv_untimed;
-- a stream joined with a continuous view: that is a table
CREATE VIEW vv_joined WITH (pipeline.continuous) AS SELECT e.pos, m.c FROM vv_events e JOIN vv_minutes m ON m.k = e.k AND m.w @> e.at;

-- dependencies
DROP VIEW vv_tumble;
DROP VIEW vv_third;
DROP VIEW vv_hop;
INSERT INTO vv_events VALUES (506, '2024-01-01 16:00:00', 'end', 1), (507, '2024-01-01 17:00:00', 'end', 1);
SELECT pipeline.wait_for('vv_tumble', '30 seconds');
SELECT count(*) FROM vv_tumble WHERE lower(w5) >= '2024-01-01 15:00:00';

-- rights: to read the view is enough, and needed, at creation and later
CREATE ROLE vv_reader;
GRANT CREATE ON SCHEMA public TO vv_reader;
SET ROLE vv_reader;
CREATE VIEW vv_theirs WITH (pipeline.continuous) AS SELECT k, c FROM vv_minutes;
RESET ROLE;
GRANT SELECT ON vv_minutes TO vv_reader;
SET ROLE vv_reader;
CREATE VIEW vv_theirs WITH (pipeline.continuous) AS SELECT k, c FROM vv_minutes;
RESET ROLE;
SELECT pipeline.wait_for('vv_theirs', '30 seconds');
SELECT (SELECT count(*) FROM vv_theirs) = (SELECT count(*) FROM vv_minutes) AS all;
SELECT count(DISTINCT relowner) AS owners, count(*) AS relations FROM pg_class
WHERE relname ~ ('_' || (SELECT id FROM pipeline_data.views WHERE view = 'vv_theirs'::regclass) || '$');
DROP VIEW vv_theirs;
\set VERBOSITY terse
DROP VIEW vv_minutes;
DROP VIEW vv_minutes CASCADE;
DROP FOREIGN TABLE vv_events CASCADE;
SELECT count(*) FROM pipeline_data.feeds;
SELECT count(*) FROM pg_class WHERE relnamespace = 'pipeline_data'::regnamespace AND relname ~ '^[fl]_' AND relkind = 'f';
DROP TABLE vv_names;
DROP FUNCTION vv_same;
REVOKE CREATE ON SCHEMA public FROM vv_reader;
DROP ROLE vv_reader;
