-- pipeline.alter() adds columns to views that are running.  If this failed, a view would lose what it had, show
-- new columns that are of a part of their events as if they were complete, or be altered to what it cannot be.
SET timezone = 'UTC';
CREATE FOREIGN TABLE al_events (pos int, at timestamptz, k int, n int, x numeric, name text)
  SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '5 seconds', idle_timeout 'off', retention '1 day');
CREATE TABLE al_archive (pos int, at timestamptz, k int, n int, x numeric, name text);
CREATE TABLE al_names (k int PRIMARY KEY, name text);
INSERT INTO al_names SELECT i, 'name ' || i FROM generate_series(0, 4) i;
-- in order, but for every 97th event, which is 10 minutes late
CREATE PROCEDURE al_insert(first int, last int) LANGUAGE sql AS $$
INSERT INTO al_archive SELECT i, timestamptz '2024-01-01' + (i - i % 4) * interval '1 second' - CASE WHEN i % 97 = 0 THEN interval '10 minutes' ELSE '0' END, i % 5, i % 23, i / 3.0, 'n' || i % 7
FROM generate_series(first, last) i;
INSERT INTO al_events SELECT * FROM al_archive WHERE pos BETWEEN first AND last ORDER BY pos $$;
CREATE FUNCTION al_wait() RETURNS bool LANGUAGE sql AS $$ SELECT bool_and(pipeline.wait_for(view, '30 seconds')) FROM pipeline.views WHERE view::text LIKE 'al%' $$;
CREATE FUNCTION al_same(got text, want text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE g bigint; a bigint; b bigint;
BEGIN
  EXECUTE format('SELECT count(*) FROM %s', got) INTO g;
  EXECUTE format('SELECT count(*) FROM (SELECT * FROM %s EXCEPT ALL (%s)) d', got, want) INTO a;
  EXECUTE format('SELECT count(*) FROM ((%s) EXCEPT ALL SELECT * FROM %s) d', want, got) INTO b;
  RETURN CASE WHEN g > 0 AND a = 0 AND b = 0 THEN 'same' ELSE format('%s rows, %s too many, %s missing', g, a, b) END;
END $$;
-- Events that are not late for windows of some minutes, and whether the views were altered after them.
CREATE VIEW al_base AS SELECT *, pos <= 1040 AS old FROM al_archive WHERE pos % 97 > 0;

-- Rows as events come; windows; groups for ever.
CREATE VIEW al_append WITH (pipeline.continuous) AS SELECT pos, k + 1 AS k1 FROM al_events WHERE n > 3;
CREATE VIEW al_windows WITH (pipeline.continuous) AS
SELECT k, pipeline.tumble(at, '1 minute') AS w, count(*) AS c FROM al_events GROUP BY k, w HAVING sum(n) > 0;
CREATE INDEX al_windows_k ON al_windows (k);
COMMENT ON VIEW al_windows IS 'it stays';
CREATE VIEW al_on_top AS SELECT k, c FROM al_windows;
CREATE VIEW al_totals WITH (pipeline.continuous) AS SELECT k, count(*) AS c, max(n) FILTER (WHERE n < 20) AS m FROM al_events GROUP BY k HAVING avg(n) > 0;
-- Windows that overlap: of counts alone, of states that are saved by functions, and without combine functions; sums so far.
CREATE VIEW al_hop_fast WITH (pipeline.continuous) AS SELECT k, pipeline.hop(at, '2 minutes', '30 seconds') AS w, count(*) AS c FROM al_events GROUP BY k, w;
CREATE VIEW al_hop WITH (pipeline.continuous) AS SELECT k, w, avg(x) AS a FROM al_events, pipeline.hop(at, '2 minutes', '30 seconds') AS w GROUP BY k, w;
CREATE AGGREGATE al_last(int) (SFUNC = int4larger, STYPE = int);
CREATE VIEW al_hop_apart WITH (pipeline.continuous) AS SELECT k, pipeline.hop(at, '2 minutes', '30 seconds') AS w, al_last(n) AS l FROM al_events GROUP BY k, w;
CREATE VIEW al_cumulate WITH (pipeline.continuous) AS SELECT k, pipeline.cumulate(at, '4 minutes', '1 minute') AS w, count(*) AS c FROM al_events GROUP BY k, w;
-- Sessions and count windows.
CREATE VIEW al_sessions WITH (pipeline.continuous) AS
SELECT k, pipeline.session(at, '30 seconds') AS w, count(*) AS c FROM al_events WHERE pos / 100 % 2 = 0 GROUP BY k, w;
CREATE VIEW al_counts WITH (pipeline.continuous) AS SELECT k, pipeline.count_window(7, 3) AS w, sum(n) AS s FROM al_events GROUP BY k, w;
-- Rows that change: of open windows, of count windows, and after late events.
CREATE VIEW al_open WITH (pipeline.continuous, pipeline.emit = 'changes') AS
SELECT k, pipeline.tumble(at, '5 minutes') AS w, count(DISTINCT n) AS d FROM al_events GROUP BY k, w HAVING count(*) > 0;
CREATE VIEW al_open_counts WITH (pipeline.continuous, pipeline.emit = 'changes') AS SELECT k, pipeline.count_window(50) AS w, sum(n) AS s FROM al_events GROUP BY k, w;
CREATE VIEW al_open_sessions WITH (pipeline.continuous, pipeline.allowed_lateness = '3 minutes') AS
SELECT k, pipeline.session(at, '30 seconds') AS w, count(*) AS c FROM al_events WHERE pos / 100 % 2 = 0 GROUP BY k, w;
CREATE VIEW al_late WITH (pipeline.continuous, pipeline.keep_closed = '1 hour') AS
SELECT k, pipeline.tumble(at, '1 minute') AS w, count(*) AS c FROM al_events GROUP BY k, w;
-- Windows that keep their events.
CREATE VIEW al_rows WITH (pipeline.continuous) AS
SELECT k, pipeline.tumble(at, '2 minutes') AS w, string_agg(pos::text, ' ' ORDER BY pos) AS all FROM al_events GROUP BY k, w;
CREATE VIEW al_top WITH (pipeline.continuous) AS
SELECT * FROM (SELECT pos, pipeline.tumble(at, '1 minute') AS w, row_number() OVER (PARTITION BY pipeline.tumble(at, '1 minute') ORDER BY n DESC, pos) AS r FROM al_events) t WHERE r <= 3;
CREATE VIEW al_open_rows WITH (pipeline.continuous, pipeline.emit = 'changes') AS
SELECT k, pipeline.tumble(at, '2 minutes') AS w, percentile_disc(0.5) WITHIN GROUP (ORDER BY n) AS p FROM al_events GROUP BY k, w;
-- Several inputs, sub-queries, a WITH query.
CREATE VIEW al_both WITH (pipeline.continuous) AS
SELECT a.w, a.k, a.c, b.c AS of_all FROM (SELECT k, pipeline.tumble(at, '1 minute') AS w, count(*) AS c FROM al_events GROUP BY k, w) a
JOIN (SELECT pipeline.tumble(at, '1 minute') AS w, count(*) AS c FROM al_events GROUP BY w) b ON a.w = b.w;
CREATE VIEW al_levels WITH (pipeline.continuous) AS
WITH g AS (SELECT k, pipeline.tumble(at, '1 minute') AS w, count(*) AS c FROM al_events GROUP BY k, w)
SELECT k, w, c, rank() OVER (PARTITION BY w ORDER BY c DESC, k) AS r FROM g;
CREATE VIEW al_union WITH (pipeline.continuous) AS
SELECT k, pipeline.tumble(at, '1 minute') AS w, count(*) AS c FROM (SELECT at, k, n FROM al_events WHERE n < 10 UNION ALL SELECT at, k, n FROM al_events WHERE n >= 10) u GROUP BY k, w;
-- A view that others read, and such a reader.
CREATE VIEW al_hours WITH (pipeline.continuous) AS
SELECT pipeline.tumble(upper(w) - interval '1 microsecond', '3 minutes') AS h, max(c) AS most FROM al_windows GROUP BY h;
CREATE VIEW al_histogram WITH (pipeline.continuous) AS SELECT c, count(*) AS n FROM al_totals GROUP BY c;

CALL al_insert(1, 1040);
SELECT al_wait();

-- What is done is said; a transaction can take it back.
BEGIN;
SELECT pipeline.alter('al_windows', $$SELECT k, pipeline.tumble(at, '1 minute') AS w, count(*) AS c, count(name) AS gone FROM al_events GROUP BY k, w HAVING sum(n) > 0$$);
SELECT count(*) > 0 AS rows, count(gone) AS values FROM al_windows;
SAVEPOINT s;
SELECT pipeline.alter('al_append', 'SELECT pos, k + 1 AS k1, x FROM al_events e WHERE n > 3');
ROLLBACK TO s;
ROLLBACK;
SELECT attname FROM pg_attribute WHERE attrelid IN ('al_windows'::regclass, 'al_append'::regclass) ORDER BY attrelid::regclass::text, attnum;

SELECT pipeline.alter('al_hours', $$SELECT pipeline.tumble(upper(w) - interval '1 microsecond', '3 minutes') AS h, max(c) AS most, count(*) AS n FROM al_windows GROUP BY h$$);
SELECT pipeline.alter('al_append', 'SELECT pos, k + 1 AS k1, name, (SELECT a.name FROM al_names a WHERE a.k = e.k) AS other FROM al_events e WHERE n > 3');
SELECT pipeline.alter('al_windows', $$SELECT k, pipeline.tumble(at, '1 minute') AS w, count(*) AS c, sum(x) AS s, coalesce(max(name), '?') AS m, sum(n) * 2 AS n2, count(*) + 1 AS c1
  FROM al_events GROUP BY k, w HAVING sum(n) > 0$$);
SELECT pipeline.alter('al_totals', 'SELECT k, count(*) AS c, max(n) FILTER (WHERE n < 20) AS m, sum(x) AS s, count(DISTINCT n) AS d FROM al_events GROUP BY k HAVING avg(n) > 0');
SET client_min_messages = warning;
SELECT pipeline.alter('al_hop_fast', $$SELECT k, pipeline.hop(at, '2 minutes', '30 seconds') AS w, count(*) AS c, sum(n) AS s FROM al_events GROUP BY k, w$$);
SELECT pipeline.alter('al_hop', $$SELECT k, w, avg(x) AS a, sum(x) + avg(x) AS b, max(name) AS m FROM al_events, pipeline.hop(at, '2 minutes', '30 seconds') AS w GROUP BY k, w$$);
SELECT pipeline.alter('al_hop_apart', $$SELECT k, pipeline.hop(at, '2 minutes', '30 seconds') AS w, al_last(n) AS l, al_last(pos) AS p FROM al_events GROUP BY k, w$$);
SELECT pipeline.alter('al_cumulate', $$SELECT k, pipeline.cumulate(at, '4 minutes', '1 minute') AS w, count(*) AS c, min(pos) AS p FROM al_events GROUP BY k, w$$);
SELECT pipeline.alter('al_sessions', $$SELECT k, pipeline.session(at, '30 seconds') AS w, count(*) AS c, sum(x) AS s FROM al_events WHERE pos / 100 % 2 = 0 GROUP BY k, w$$);
SELECT pipeline.alter('al_counts', $$SELECT k, pipeline.count_window(7, 3) AS w, sum(n) AS s, sum(x) AS sx FROM al_events GROUP BY k, w$$);
SELECT pipeline.alter('al_open', $$SELECT k, pipeline.tumble(at, '5 minutes') AS w, count(DISTINCT n) AS d, sum(DISTINCT n) AS s, count(DISTINCT name) AS names FROM al_events GROUP BY k, w HAVING count(*) > 0$$);
SELECT pipeline.alter('al_open_counts', $$SELECT k, pipeline.count_window(50) AS w, sum(n) AS s, count(name) AS c, sum(n) + 1 AS s1 FROM al_events GROUP BY k, w$$);
SELECT pipeline.alter('al_open_sessions', $$SELECT k, pipeline.session(at, '30 seconds') AS w, count(*) AS c, max(pos) AS m FROM al_events WHERE pos / 100 % 2 = 0 GROUP BY k, w$$);
SELECT pipeline.alter('al_rows', $$SELECT k, pipeline.tumble(at, '2 minutes') AS w, string_agg(pos::text, ' ' ORDER BY pos) AS all, max(pos) AS m FROM al_events GROUP BY k, w$$);
SELECT pipeline.alter('al_top', $$SELECT * FROM (SELECT pos, pipeline.tumble(at, '1 minute') AS w, row_number() OVER (PARTITION BY pipeline.tumble(at, '1 minute') ORDER BY n DESC, pos) AS r, n * 10 AS n10 FROM al_events) t WHERE r <= 3$$);
SELECT pipeline.alter('al_open_rows', $$SELECT k, pipeline.tumble(at, '2 minutes') AS w, percentile_disc(0.5) WITHIN GROUP (ORDER BY n) AS p, sum(n) AS s FROM al_events GROUP BY k, w$$);
SELECT pipeline.alter('al_both', $$SELECT a.w, a.k, a.c, b.c AS of_all, a.s, b.s - a.s AS of_others
  FROM (SELECT k, pipeline.tumble(at, '1 minute') AS w, count(*) AS c, sum(n) AS s FROM al_events GROUP BY k, w) a
  JOIN (SELECT pipeline.tumble(at, '1 minute') AS w, count(*) AS c, sum(n) AS s FROM al_events GROUP BY w) b ON a.w = b.w$$);
SELECT pipeline.alter('al_levels', $$WITH g AS (SELECT k, pipeline.tumble(at, '1 minute') AS w, count(*) AS c, sum(n) AS s FROM al_events GROUP BY k, w)
  SELECT k, w, c, rank() OVER (PARTITION BY w ORDER BY c DESC, k) AS r, s, sum(c) OVER (PARTITION BY w) AS of_all FROM g$$);
SELECT pipeline.alter('al_union', $$SELECT k, pipeline.tumble(at, '1 minute') AS w, count(*) AS c, max(n) AS m
  FROM (SELECT at, k, n FROM al_events WHERE n < 10 UNION ALL SELECT at, k, n FROM al_events WHERE n >= 10) u GROUP BY k, w$$);
SET client_min_messages = notice;

-- Groups that are there have nothing yet.
SELECT k, c > 0 AS c, m > 0 AS m, s, d FROM al_totals ORDER BY k LIMIT 2;
SELECT count(*) > 0 AS rows, count(s) AS s, count(names) AS names FROM al_open;
\d al_windows
SELECT count(*) FROM al_on_top WHERE c > 0;
SELECT query FROM pipeline.views WHERE view = 'al_windows'::regclass;

-- Late rows that are there do not have what a column is made of; without them they can be applied as before.
SELECT pipeline.alter('al_late', $$SELECT k, pipeline.tumble(at, '1 minute') AS w, count(*) AS c, count(name) AS names FROM al_events GROUP BY k, w$$);
SELECT pipeline.apply_late('al_late');
SELECT pipeline.wait_for('al_late');
SELECT pipeline.alter('al_late', $$SELECT k, pipeline.tumble(at, '1 minute') AS w, count(*) AS c, count(name) AS names FROM al_events GROUP BY k, w$$);
\d al_late_late

CALL al_insert(1041, 2000);
SELECT al_wait();
SELECT view, pipeline.verify_state(view) FROM pipeline.views WHERE view::text LIKE 'al%' AND NOT pipeline.verify_state(view) ORDER BY view::text;

-- Columns that there were hold for everything, new ones for what is newer.
SELECT al_same('al_append', $$SELECT pos, k + 1, CASE WHEN pos > 1040 THEN e.name END, CASE WHEN pos > 1040 THEN a.name END FROM al_archive e JOIN al_names a USING (k) WHERE n > 3$$);
SELECT al_same('(SELECT k, w, c, s, m FROM al_windows) v', $$SELECT k, w, count(*), CASE WHEN NOT bool_or(old) THEN sum(x) END, CASE WHEN NOT bool_or(old) THEN max(name) END FROM al_base, pipeline.tumble(at, '1 minute') w
  WHERE upper(w) <= pipeline.watermark('al_windows') GROUP BY k, w HAVING sum(n) > 0$$);
SELECT al_same('(SELECT k, w, n2, c1 FROM al_windows WHERE c1 IS NOT NULL) v', $$SELECT k, w, sum(n) * 2, count(*) + 1 FROM al_base, pipeline.tumble(at, '1 minute') w
  WHERE upper(w) <= pipeline.watermark('al_windows') AND upper(w) > (SELECT max(at) - interval '5 seconds' FROM al_archive WHERE pos <= 1040) GROUP BY k, w HAVING sum(n) > 0$$);
SELECT al_same('al_totals', $$SELECT k, count(*), max(n) FILTER (WHERE n < 20), sum(x) FILTER (WHERE pos > 1040), count(DISTINCT n) FILTER (WHERE pos > 1040) FROM al_archive GROUP BY k$$);
SELECT al_same('al_hop_fast', $$SELECT k, w, count(*), CASE WHEN NOT bool_or(old) THEN sum(n) END FROM al_base, pipeline.hop(at, '2 minutes', '30 seconds') w
  WHERE upper(w) <= pipeline.watermark('al_hop_fast') GROUP BY k, w$$);
SELECT al_same('al_hop', $$SELECT k, w, avg(x), CASE WHEN NOT bool_or(old) THEN sum(x) + avg(x) END, CASE WHEN NOT bool_or(old) THEN max(name) END FROM al_base, pipeline.hop(at, '2 minutes', '30 seconds') w
  WHERE upper(w) <= pipeline.watermark('al_hop') GROUP BY k, w$$);
SELECT al_same('al_hop_apart', $$SELECT k, w, max(n), CASE WHEN NOT bool_or(old) THEN max(pos) END FROM al_base, pipeline.hop(at, '2 minutes', '30 seconds') w
  WHERE upper(w) <= pipeline.watermark('al_hop_apart') GROUP BY k, w$$);
SELECT al_same('al_cumulate', $$SELECT k, w, count(*), CASE WHEN NOT bool_or(old) THEN min(pos) END FROM al_base, pipeline.cumulate(at, '4 minutes', '1 minute') w
  WHERE upper(w) <= pipeline.watermark('al_cumulate') GROUP BY k, w$$);
SELECT al_same('(SELECT k, c, s FROM al_sessions) v', $$SELECT k, count(*), CASE WHEN NOT bool_or(old) THEN sum(x) END FROM al_base WHERE pos / 100 % 2 = 0
  AND pos / 100 < 20 GROUP BY k, pos / 100$$);
SELECT al_same('(SELECT k, c, m FROM al_open_sessions) v', $$SELECT k, count(*), CASE WHEN NOT bool_or(old) THEN max(pos) END FROM al_base WHERE pos / 100 % 2 = 0
  AND pos / 100 < 20 GROUP BY k, pos / 100$$);
SELECT al_same('al_counts', $$SELECT k, w, sum(n), CASE WHEN bool_and(pos > 1040) THEN sum(x) END
  FROM (SELECT *, row_number() OVER (PARTITION BY k ORDER BY pos) AS e FROM al_archive) a, generate_series((e + 2 - 7) / 3 + 1, (e - 1) / 3 + 1) w
  WHERE w >= 1 AND e BETWEEN (w - 1) * 3 + 1 AND (w - 1) * 3 + 7 GROUP BY k, w HAVING count(*) = 7$$);
SELECT al_same('al_open_counts', $$SELECT k, w, sum(n), CASE WHEN bool_and(pos > 1040) THEN count(name) END, sum(n) + 1
  FROM (SELECT *, (row_number() OVER (PARTITION BY k ORDER BY pos) - 1) / 50 + 1 AS w FROM al_archive) a GROUP BY k, w$$);
SELECT al_same('al_open', $$SELECT k, w, count(DISTINCT n), CASE WHEN bool_and(pos > 1040) THEN sum(DISTINCT n) END, CASE WHEN bool_and(pos > 1040) THEN count(DISTINCT name) END
  FROM al_base, pipeline.tumble(at, '5 minutes') w GROUP BY k, w$$);
SELECT al_same('al_rows', $$SELECT k, w, string_agg(pos::text, ' ' ORDER BY pos), CASE WHEN upper(w) > (SELECT max(at) - interval '5 seconds' FROM al_archive WHERE pos <= 1040) THEN max(pos) END
  FROM al_base, pipeline.tumble(at, '2 minutes') w WHERE upper(w) <= pipeline.watermark('al_rows') GROUP BY k, w$$);
SELECT al_same('al_top', $$SELECT pos, w, r, CASE WHEN upper(w) > (SELECT max(at) - interval '5 seconds' FROM al_archive WHERE pos <= 1040) THEN n * 10 END
  FROM (SELECT *, row_number() OVER (PARTITION BY w ORDER BY n DESC, pos) AS r FROM al_base, pipeline.tumble(at, '1 minute') w) t
  WHERE r <= 3 AND upper(w) <= pipeline.watermark('al_top')$$);
SELECT al_same('al_open_rows', $$SELECT k, w, percentile_disc(0.5) WITHIN GROUP (ORDER BY n), CASE WHEN max(pos) > 1040 THEN sum(n) END FROM al_base, pipeline.tumble(at, '2 minutes') w GROUP BY k, w$$);
SELECT al_same('al_both', $$SELECT w, k, count(*), max(t), CASE WHEN NOT bool_or(old) THEN sum(n) END, CASE WHEN NOT bool_or(told) THEN max(ts) - sum(n) END
  FROM (SELECT *, count(*) OVER v AS t, sum(n) OVER v AS ts, bool_or(old) OVER v AS told FROM al_base, pipeline.tumble(at, '1 minute') w WINDOW v AS (PARTITION BY w)) b
  WHERE upper(w) <= pipeline.watermark('al_both') GROUP BY w, k$$);
SELECT al_same('al_levels', $$SELECT k, w, c, rank() OVER (PARTITION BY w ORDER BY c DESC, k), CASE WHEN NOT o THEN s END,
  CASE WHEN upper(w) > (SELECT max(at) - interval '5 seconds' FROM al_archive WHERE pos <= 1040) THEN sum(c) OVER (PARTITION BY w) END
  FROM (SELECT k, w, count(*) AS c, sum(n) AS s, bool_or(old) AS o FROM al_base, pipeline.tumble(at, '1 minute') w WHERE upper(w) <= pipeline.watermark('al_levels') GROUP BY k, w) g$$);
SELECT al_same('al_union', $$SELECT k, w, count(*), CASE WHEN NOT bool_or(old) THEN max(n) END FROM al_base, pipeline.tumble(at, '1 minute') w
  WHERE upper(w) <= pipeline.watermark('al_union') GROUP BY k, w$$);
SELECT al_same('(SELECT h, most, n FROM al_hours WHERE n IS NOT NULL) v', $$SELECT h, max(c), count(*) FROM al_windows, pipeline.tumble(upper(w) - interval '1 microsecond', '3 minutes') h
  WHERE upper(h) <= pipeline.watermark('al_hours') AND lower(h) > (SELECT max(at) FROM al_archive WHERE pos <= 1040) GROUP BY h$$);
SELECT al_same('(SELECT h, most FROM al_hours) v', $$SELECT h, max(c) FROM al_windows, pipeline.tumble(upper(w) - interval '1 microsecond', '3 minutes') h
  WHERE upper(h) <= pipeline.watermark('al_hours') GROUP BY h$$);
SELECT al_same('al_histogram', 'SELECT c, count(*) FROM al_totals GROUP BY c');

-- Late rows that came since are applied to windows with the new columns; what is late now is stored with them.
SELECT count(*) > 0 AS late, count(name) = count(*) AS named FROM al_late_late;
SELECT pipeline.apply_late('al_late');
SELECT pipeline.wait_for('al_late');
SELECT count(*) FROM al_late_late;
SELECT al_same('al_late', $$SELECT k, w, count(*), CASE WHEN bool_and(pos > 1040) THEN count(name) END FROM al_archive, pipeline.tumble(at, '1 minute') w
  WHERE upper(w) <= pipeline.watermark('al_late') GROUP BY k, w$$);

SELECT pipeline.alter('al_late', $$SELECT k, pipeline.tumble(at, '1 minute') AS w, count(*) AS c, count(name) AS names, sum(x) AS s FROM al_events GROUP BY k, w$$);
-- A view can be altered again, also by the query as it is stored, and when a column has another name.
ALTER VIEW al_windows RENAME COLUMN m TO most;
DO $$ BEGIN
  PERFORM pipeline.alter('al_windows', regexp_replace(replace(query, ' AS m,', ' AS most,'), 'AS c1\s+FROM', 'AS c1, sum(al_events.x) / 2 AS half, min(al_events.pos) AS first FROM')) FROM pipeline.views WHERE view = 'al_windows'::regclass;
END $$;
SELECT pipeline.alter('al_windows', $$SELECT k, pipeline.tumble(at, '1 minute') AS w, count(*) AS c, sum(x) AS s, coalesce(max(name), '?') AS most, sum(n) * 2 AS n2, count(*) + 1 AS c1, sum(x) / 2 AS half, min(pos) AS first
  FROM al_events GROUP BY k, w HAVING sum(n) > 0$$);
SELECT pipeline.alter('al_totals', 'SELECT k, count(*) AS c, max(n) FILTER (WHERE n < 20) AS m, sum(x) AS s, count(DISTINCT n) AS d, avg(n) AS a, min(pos) AS first FROM al_events GROUP BY k HAVING avg(n) > 0');
SELECT query FROM pipeline.views WHERE view = 'al_windows'::regclass;
CALL al_insert(2001, 3000);
SELECT al_wait();
SELECT al_same('(SELECT k, w, c, s, most, half, first FROM al_windows WHERE lower(w) > (SELECT max(at) FROM al_archive WHERE pos <= 2000)) v', $$SELECT k, w, count(*), sum(x), max(name), sum(x) / 2, min(pos) FROM al_base, pipeline.tumble(at, '1 minute') w
  WHERE upper(w) <= pipeline.watermark('al_windows') AND lower(w) > (SELECT max(at) FROM al_archive WHERE pos <= 2000) GROUP BY k, w$$);
SELECT count(*) > 0 AS rows, count(first) AS first, bool_and(half IS NULL OR half = s / 2) AS half FROM al_windows WHERE lower(w) < (SELECT max(at) FROM al_archive WHERE pos <= 2000);
SELECT al_same('al_totals', $$SELECT k, count(*), max(n) FILTER (WHERE n < 20), sum(x) FILTER (WHERE pos > 1040), count(DISTINCT n) FILTER (WHERE pos > 1040), avg(n), min(pos) FILTER (WHERE pos > 2000) FROM al_archive GROUP BY k$$);

-- It can be read by other views, have indexes, and be rebuilt: then new columns are there for everything.
CREATE VIEW al_by_sum WITH (pipeline.continuous) AS SELECT d, count(*) AS n, sum(c) AS c FROM al_totals GROUP BY d;
CREATE INDEX ON al_totals (k);
CREATE INDEX ON al_open_rows (s);
SELECT pipeline.wait_for('al_by_sum');
SELECT al_same('al_by_sum', 'SELECT d, count(*), sum(c) FROM al_totals GROUP BY d');
SELECT pipeline.alter('al_by_sum', 'SELECT d, count(*) AS n, sum(c) AS c, count(*) + sum(c) AS e FROM al_totals GROUP BY d');
SELECT pipeline.alter('al_by_sum', 'SELECT d, count(*) AS n, sum(c) AS c, count(*) + sum(c) AS e, sum(m) AS m FROM al_totals GROUP BY d');
DROP VIEW al_by_sum, al_histogram;
CALL pipeline.replay('al_totals');
CALL pipeline.replay('al_open');
CALL pipeline.replay('al_open_rows');
CALL pipeline.replay('al_hop');
CALL pipeline.replay('al_late');
SELECT al_wait();
SELECT al_same('al_totals', $$SELECT k, count(*), max(n) FILTER (WHERE n < 20), sum(x), count(DISTINCT n), avg(n), min(pos) FROM al_archive GROUP BY k$$);
SELECT al_same('al_open', $$SELECT k, w, count(DISTINCT n), sum(DISTINCT n), count(DISTINCT name) FROM al_base, pipeline.tumble(at, '5 minutes') w GROUP BY k, w$$);
SELECT al_same('al_open_rows', $$SELECT k, w, percentile_disc(0.5) WITHIN GROUP (ORDER BY n), sum(n) FROM al_base, pipeline.tumble(at, '2 minutes') w GROUP BY k, w$$);
SELECT al_same('al_hop', $$SELECT k, w, avg(x), sum(x) + avg(x), max(name) FROM al_base, pipeline.hop(at, '2 minutes', '30 seconds') w WHERE upper(w) <= pipeline.watermark('al_hop') GROUP BY k, w$$);
SELECT al_same('al_late', $$SELECT k, w, count(*), count(name), sum(x) FROM al_base, pipeline.tumble(at, '1 minute') w WHERE upper(w) <= pipeline.watermark('al_late') GROUP BY k, w$$);
SELECT count(*) AS late, count(name) AS named, count(x) AS x, count(late_windows) AS windows, count("offset") AS offsets FROM al_late_late;
CALL al_insert(3001, 3200);
SELECT al_wait();
SELECT al_same('al_totals', $$SELECT k, count(*), max(n) FILTER (WHERE n < 20), sum(x), count(DISTINCT n), avg(n), min(pos) FROM al_archive GROUP BY k$$);
SELECT al_same('al_open_rows', $$SELECT k, w, percentile_disc(0.5) WITHIN GROUP (ORDER BY n), sum(n) FROM al_base, pipeline.tumble(at, '2 minutes') w GROUP BY k, w$$);
SELECT view, pipeline.verify_state(view) FROM pipeline.views WHERE view::text LIKE 'al%' AND NOT pipeline.verify_state(view) ORDER BY view::text;

-- A stream gets a column, and views show it; an ORDER BY says nothing.
CREATE FOREIGN TABLE al_more (at timestamptz, k int) SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '0', idle_timeout 'off');
CREATE VIEW al_more_rows WITH (pipeline.continuous) AS SELECT * FROM al_more WHERE k > 0;
CREATE VIEW al_more_windows WITH (pipeline.continuous) AS
SELECT k, pipeline.tumble(at, '1 minute') AS w, count(*) AS c, rank() OVER (PARTITION BY pipeline.tumble(at, '1 minute') ORDER BY count(*)) AS r FROM al_more GROUP BY k, w ORDER BY w, c;
INSERT INTO al_more VALUES ('2025-01-01 10:00:30', 1), ('2025-01-01 10:05:00', 2);
SELECT pipeline.wait_for('al_more_windows');
ALTER FOREIGN TABLE al_more ADD COLUMN extra text;
SELECT pipeline.alter('al_more_rows', 'SELECT * FROM al_more m WHERE k > 0');
SELECT pipeline.alter('al_more_windows', $$SELECT k, pipeline.tumble(at, '1 minute') AS w, count(*) AS c, rank() OVER (PARTITION BY pipeline.tumble(at, '1 minute') ORDER BY count(*)) AS r, max(extra) AS m FROM al_more GROUP BY k, w$$);
SELECT pipeline.alter('al_more_windows', $$SELECT k, pipeline.tumble(at, '1 minute') AS w, count(*) AS c, rank() OVER (PARTITION BY pipeline.tumble(at, '1 minute') ORDER BY count(*)) AS r, max(extra) AS m, min(extra) AS m2 FROM al_more GROUP BY k, w ORDER BY m$$);
SELECT pipeline.alter('al_more_windows', $$SELECT k, pipeline.tumble(at, '1 minute') AS w, count(*) AS c, rank() OVER (PARTITION BY pipeline.tumble(at, '1 minute') ORDER BY count(*)) AS r, max(extra) AS m, min(extra) AS m2, 1 AS one FROM al_more GROUP BY w, k ORDER BY m$$);
INSERT INTO al_more VALUES ('2025-01-01 10:06:30', 1, 'x'), ('2025-01-01 10:07:00', 2, 'y');
SELECT pipeline.wait_for('al_more_rows') AND pipeline.wait_for('al_more_windows') AS done;
SELECT * FROM al_more_rows ORDER BY at;
SELECT * FROM al_more_windows ORDER BY w;
DROP FOREIGN TABLE al_more CASCADE;

-- Two streams share a table of late rows, which gets columns of both.  Windows of processing time, and of the calendar.
CREATE FOREIGN TABLE al_calls (at timestamptz, k int, n int, x text) SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '0', idle_timeout 'off');
CREATE FOREIGN TABLE al_texts (sent timestamptz, x bigint, k int, n int) SERVER pipeline_local OPTIONS (event_time 'sent', out_of_orderness '0', idle_timeout 'off');
CREATE VIEW al_two WITH (pipeline.continuous, pipeline.keep_closed = '2 hours') AS
SELECT k, pipeline.tumble(at, '1 minute') AS w, count(*) AS c FROM (SELECT at, k, n, x FROM al_calls UNION ALL SELECT sent, k, n, x::text FROM al_texts) u GROUP BY k, w;
CREATE VIEW al_proc WITH (pipeline.continuous) AS SELECT k, pipeline.tumble(pipeline.proctime(), '1 hour') AS w, count(*) AS c FROM al_calls GROUP BY k, w;
CREATE VIEW al_trunc WITH (pipeline.continuous) AS SELECT k, date_trunc('hour', at, 'Europe/Berlin') AS h, count(*) AS c FROM al_calls GROUP BY k, h;
INSERT INTO al_calls VALUES ('2025-01-01 10:00:30', 1, 1, 'a'), ('2025-01-01 10:05:00', 1, 2, 'b');
INSERT INTO al_texts VALUES ('2025-01-01 10:00:40', 7, 1, 10), ('2025-01-01 10:05:00', 8, 2, 20);
SELECT pipeline.wait_for('al_two') AND pipeline.wait_for('al_proc') AND pipeline.wait_for('al_trunc') AS done;
SELECT pipeline.alter('al_two', $$SELECT k, pipeline.tumble(at, '1 minute') AS w, count(*) AS c, max(x) AS x, sum(n) AS s FROM (SELECT at, k, n, x FROM al_calls UNION ALL SELECT sent, k, n, x::text FROM al_texts) u GROUP BY k, w$$);
SELECT pipeline.alter('al_proc', $$SELECT k, pipeline.tumble(pipeline.proctime(), '1 hour') AS w, count(*) AS c, sum(n) AS s FROM al_calls GROUP BY k, w$$);
SELECT pipeline.alter('al_trunc', $$SELECT k, date_trunc('hour', at, 'Europe/Berlin') AS h, count(*) AS c, sum(n) AS s FROM al_calls GROUP BY k, h$$);
\d al_two_late
INSERT INTO al_calls VALUES ('2025-01-01 10:00:50', 1, 100, 'late'), ('2025-01-01 10:03:00', 3, 200, 'late'), ('2025-01-01 10:06:00', 3, 3, 'c'), ('2025-01-01 11:07:00', 3, 3, 'c');
INSERT INTO al_texts VALUES ('2025-01-01 10:00:50', 9, 1, 1000), ('2025-01-01 10:03:00', 9, 3, 2000), ('2025-01-01 10:06:00', 10, 3, 4), ('2025-01-01 11:07:00', 10, 3, 4);
SELECT pipeline.wait_for('al_two') AND pipeline.wait_for('al_proc') AND pipeline.wait_for('al_trunc') AS done;
SELECT stream, x, al_texts_x, n, late_windows FROM al_two_late ORDER BY stream::text, "offset";
SELECT k, w, c, x, s FROM al_two ORDER BY w, k;
SELECT pipeline.apply_late('al_two');
SELECT pipeline.wait_for('al_two') AND pipeline.wait_for('al_proc') AND pipeline.wait_for('al_trunc') AS done;
SELECT * FROM al_two ORDER BY w, k;
SELECT * FROM al_trunc ORDER BY h, k;
SELECT pipeline.verify_state('al_proc');
DROP FOREIGN TABLE al_calls, al_texts CASCADE;

-- What it cannot be altered to: first what is not the query with more columns.
\set VERBOSITY terse
SELECT pipeline.alter('al_windows', NULL) IS NULL AS nothing;
SELECT pipeline.alter('al_names', 'SELECT 1');
SELECT pipeline.alter('al_on_top', 'SELECT 1');
SELECT pipeline.alter('al_append', 'SELECT pos');
SELECT pipeline.alter('al_append', 'SELECT pos, k + 1 AS k1, name; SELECT 2');
SELECT pipeline.alter('al_append', 'DELETE FROM al_names');
SELECT pipeline.alter('al_append', 'SELECT pos, k + 1 AS k1, name, nothing FROM al_events WHERE n > 3');
SELECT pipeline.alter('al_append', 'SELECT pos, k + 1 AS k2, name, 1 AS other, 2 AS two FROM al_events WHERE n > 3');
CREATE TEMP TABLE al_temp (k int PRIMARY KEY, name text);
SELECT pipeline.alter('al_append', 'SELECT pos, k + 1 AS k1, al_events.name, al_temp.name AS other, 2 AS two FROM al_events LEFT JOIN al_temp USING (k) WHERE n > 3');
BEGIN READ ONLY;
SELECT pipeline.alter('al_append', 'SELECT pos, k + 1 AS k1, name, 1 AS other, 2 AS two FROM al_events WHERE n > 3');
ROLLBACK;
\set VERBOSITY default
CREATE VIEW al_refuse WITH (pipeline.continuous) AS SELECT k, pipeline.hop(at, '2 minutes', '30 seconds') AS w, count(*) AS c, rank() OVER (PARTITION BY pipeline.hop(at, '2 minutes', '30 seconds') ORDER BY count(*)) AS r
FROM al_events WHERE n > 3 GROUP BY 1, 2 HAVING count(*) > 1;
CREATE FUNCTION al_try(view regclass, query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE detail text; hint text; message text;
BEGIN
  PERFORM pipeline.alter(view, query);
  RETURN 'altered';
EXCEPTION WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
  RETURN CASE WHEN message ~ 'cannot be altered to this query' AND hint ~ 'CALL pipeline.replay' THEN detail ELSE message || ' / ' || detail || ' / ' || hint END;
END $$;
CREATE TABLE al_queries (n int, view regclass, query text);
INSERT INTO al_queries VALUES
(1, 'al_append', 'SELECT pos + 1 AS pos, k + 1 AS k1, name, (SELECT a.name FROM al_names a WHERE a.k = e.k) AS other, 1 AS one FROM al_events e WHERE n > 3'),
(2, 'al_append', 'SELECT pos::bigint, k + 1 AS k1, name, (SELECT a.name FROM al_names a WHERE a.k = e.k) AS other, 1 AS one FROM al_events e WHERE n > 3'),
(3, 'al_append', 'SELECT pos, k + 1 AS k1, name, (SELECT a.name FROM al_names a WHERE a.k = e.k) AS other, 1 AS one FROM al_events e WHERE n > 4'),
(4, 'al_append', 'SELECT pos, k + 1 AS k1, e.name, (SELECT a.name FROM al_names a WHERE a.k = e.k) AS other, b.name AS b FROM al_events e LEFT JOIN al_names b USING (k) WHERE n > 3'),
(5, 'al_append', 'SELECT DISTINCT pos, k + 1 AS k1, name, (SELECT a.name FROM al_names a WHERE a.k = e.k) AS other, 1 AS one FROM al_events e WHERE n > 3'),
(6, 'al_append', 'SELECT pos, k + 1 AS k1, name, (SELECT a.name FROM al_names a WHERE a.k = e.k) AS other, generate_series(1, 2) AS one FROM al_events e WHERE n > 3'),
(7, 'al_append', 'SELECT pos, k + 1 AS k1, name, (SELECT a.name FROM al_names a WHERE a.k = e.k) AS other, random() AS one FROM al_events e WHERE n > 3'),
(8, 'al_append', 'SELECT pos, k + 1 AS k1, name, (SELECT a.name FROM al_names a WHERE a.k = e.k) AS other, (SELECT count(*) FROM al_events) AS one FROM al_events e WHERE n > 3'),
(9, 'al_append', 'SELECT pos, k + 1 AS k1, name, (SELECT a.name FROM al_names a WHERE a.k = e.k) AS other, count(*) OVER () AS one FROM al_events e WHERE n > 3'),
(20, 'al_refuse', $$SELECT k, pipeline.hop(at, '2 minutes', '1 minute') AS w, count(*) AS c, rank() OVER (PARTITION BY pipeline.hop(at, '2 minutes', '1 minute') ORDER BY count(*)) AS r, 1 AS one FROM al_events WHERE n > 3 GROUP BY 1, 2 HAVING count(*) > 1$$),
(21, 'al_refuse', $$SELECT k, pipeline.hop(at, '2 minutes', '30 seconds') AS w, count(*) AS c, rank() OVER (PARTITION BY pipeline.hop(at, '2 minutes', '30 seconds') ORDER BY count(*)) AS r, n FROM al_events WHERE n > 3 GROUP BY 1, 2, n HAVING count(*) > 1$$),
(22, 'al_refuse', $$SELECT k, pipeline.hop(at, '2 minutes', '30 seconds') AS w, count(*) AS c, rank() OVER (PARTITION BY pipeline.hop(at, '2 minutes', '30 seconds') ORDER BY count(*)) AS r, sum(n) AS s FROM al_events WHERE n > 3 GROUP BY 1, 2 HAVING count(*) > 2$$),
(23, 'al_refuse', $$SELECT k, pipeline.hop(at, '2 minutes', '30 seconds') AS w, count(*) AS c, rank() OVER (PARTITION BY pipeline.hop(at, '2 minutes', '30 seconds') ORDER BY count(*)) AS r, rank() OVER (PARTITION BY pipeline.hop(at, '2 minutes', '30 seconds') ORDER BY sum(n)) AS r2 FROM al_events WHERE n > 3 GROUP BY 1, 2 HAVING count(*) > 1$$),
(24, 'al_refuse', $$SELECT k, pipeline.hop(at, '2 minutes', '30 seconds') AS w, count(*) AS c, rank() OVER (PARTITION BY pipeline.hop(at, '2 minutes', '30 seconds') ORDER BY count(*)) AS r, sum(sum(n)) OVER (PARTITION BY pipeline.hop(at, '2 minutes', '30 seconds')) AS r2 FROM al_events WHERE n > 3 GROUP BY 1, 2 HAVING count(*) > 1$$),
(25, 'al_refuse', $$SELECT k, pipeline.hop(at, '2 minutes', '30 seconds') AS w, count(*) AS c, rank() OVER (PARTITION BY pipeline.hop(at, '2 minutes', '30 seconds') ORDER BY count(*)) AS r, al_last(n) AS l FROM al_events WHERE n > 3 GROUP BY 1, 2 HAVING count(*) > 1$$),
(26, 'al_refuse', $$SELECT k, pipeline.hop(at, '2 minutes', '30 seconds') AS w, count(*) AS c, rank() OVER (PARTITION BY pipeline.hop(at, '2 minutes', '30 seconds') ORDER BY count(*)) AS r, percentile_disc(0.5) WITHIN GROUP (ORDER BY n) AS p FROM al_events WHERE n > 3 GROUP BY 1, 2 HAVING count(*) > 1$$),
(30, 'al_rows', $$SELECT k, pipeline.tumble(at, '2 minutes') AS w, string_agg(pos::text, ' ' ORDER BY pos) AS all, max(pos) AS m, sum(x) AS s FROM al_events GROUP BY k, w$$),
(31, 'al_top', $$SELECT * FROM (SELECT pos, pipeline.tumble(at, '1 minute') AS w, row_number() OVER (PARTITION BY pipeline.tumble(at, '1 minute') ORDER BY n DESC, pos) AS r, n * 10 AS n10, count(*) OVER (PARTITION BY pipeline.tumble(at, '1 minute')) AS c FROM al_events) t WHERE r <= 3$$),
(40, 'al_levels', $$WITH g AS (SELECT k, pipeline.tumble(at, '1 minute') AS w, count(*) AS c, sum(n) AS s FROM al_events GROUP BY k, w) SELECT k, w, c, rank() OVER (PARTITION BY w ORDER BY c DESC, k) AS r, s, sum(c) OVER (PARTITION BY w) AS of_all, sum(s) OVER (PARTITION BY w) AS s_all FROM g$$),
(41, 'al_levels', $$WITH g AS (SELECT k, pipeline.tumble(at, '1 minute') AS w, count(*) AS c, sum(n) AS s, max(x) AS x FROM al_events GROUP BY k, w) SELECT k, w, c, rank() OVER (PARTITION BY w ORDER BY c DESC, k) AS r, s, sum(c) OVER (PARTITION BY w) AS of_all, coalesce(x, 0) AS s0 FROM g$$),
(42, 'al_levels', $$WITH g AS (SELECT k, pipeline.tumble(at, '1 minute') AS w, count(*) AS c, sum(n) AS s FROM al_events GROUP BY k, w) SELECT k, w, c, rank() OVER (PARTITION BY w ORDER BY c DESC, k) AS r, s, sum(c) OVER (PARTITION BY w) AS of_all, row_number() OVER (PARTITION BY w ORDER BY s) AS n FROM g$$),
(43, 'al_refuse', $$SELECT k, pipeline.hop(at, '2 minutes', '30 seconds') AS w, count(*) AS c, rank() OVER (PARTITION BY pipeline.hop(at, '2 minutes', '30 seconds') ORDER BY count(*)) AS r, sum(n) AS s FROM al_events WHERE n > 3 GROUP BY 1, 2 HAVING count(*) > 1$$),
(44, 'al_refuse', $$SELECT k, pipeline.hop(at, '2 minutes', '30 seconds') AS w, count(*) AS c, rank() OVER (PARTITION BY pipeline.hop(at, '2 minutes', '30 seconds') ORDER BY count(*)) AS r, sum(n) AS s, rank() OVER (PARTITION BY pipeline.hop(at, '2 minutes', '30 seconds') ORDER BY sum(n)) AS r2 FROM al_events WHERE n > 3 GROUP BY 1, 2 HAVING count(*) > 1$$),
(45, 'al_levels', $$WITH g AS (SELECT k, pipeline.tumble(at, '1 minute') AS w, count(*) AS c, sum(n) AS s, max(x) AS x FROM al_events GROUP BY k, w) SELECT k, w, c, rank() OVER (PARTITION BY w ORDER BY c DESC, k) AS r, s, sum(c) OVER (PARTITION BY w) AS of_all, x + s AS xs FROM g$$),
(50, 'al_union', $$SELECT k, pipeline.tumble(at, '1 minute') AS w, count(*) AS c, max(n) AS m, 1 AS one FROM (SELECT at, k, n FROM al_events WHERE n < 10 UNION SELECT at, k, n FROM al_events WHERE n >= 10) u GROUP BY k, w$$),
(51, 'al_union', $$SELECT k, pipeline.tumble(at, '1 minute') AS w, count(*) AS c, max(n) AS m, max(name) AS name FROM (SELECT at, k, n, name FROM al_events WHERE n < 10 UNION ALL SELECT at, k, n, name FROM al_events WHERE n >= 10) u GROUP BY k, w$$),
(52, 'al_totals', $$SELECT k, count(*) AS c, max(n) FILTER (WHERE n < 20) AS m, sum(x) AS s, count(DISTINCT n) AS d, avg(n) AS a, min(pos) AS first, string_agg(name, ' ' ORDER BY pos) AS names FROM al_events GROUP BY k HAVING avg(n) > 0$$);
SELECT n, view, al_try(view, query) FROM al_queries ORDER BY n;

-- Who may: the owner, whose rights the view has.
CREATE ROLE al_owner;
CREATE ROLE al_other;
CREATE TABLE al_secrets (k int PRIMARY KEY, secret text);
GRANT USAGE, CREATE ON SCHEMA public TO al_owner;
GRANT SELECT ON al_events TO al_owner, al_other;
SET ROLE al_owner;
CREATE VIEW al_owned WITH (pipeline.continuous) AS SELECT pos FROM al_events;
GRANT SELECT ON al_owned TO al_other;
SELECT pipeline.wait_for('al_owned');
SET ROLE al_other;
SELECT pipeline.alter('al_owned', 'SELECT pos, k FROM al_events');
RESET ROLE;
SELECT pipeline.alter('al_owned', 'SELECT pos, (SELECT secret FROM al_secrets s WHERE s.k = e.k) AS secret FROM al_events e');
-- What runs of the owner's code runs with the owner's rights.
SET ROLE al_owner;
CREATE FUNCTION al_check(int) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'checked as %', current_user; RETURN true; END $$;
CREATE DOMAIN al_domain AS int CHECK (al_check(VALUE));
CREATE VIEW al_one WITH (pipeline.continuous) AS SELECT pos FROM al_events WHERE pos = 7;
CREATE VIEW al_own_windows WITH (pipeline.continuous, pipeline.emit = 'changes') AS SELECT pos, pipeline.tumble(at, '1 minute') AS w, count(*) AS c FROM al_events WHERE pos = 7 GROUP BY pos, w;
SELECT pipeline.wait_for('al_one');
SELECT pipeline.wait_for('al_own_windows');
SELECT pipeline.alter('al_one', 'SELECT pos, n::al_domain AS n FROM al_events WHERE pos = 7');
SELECT pipeline.alter('al_own_windows', $$SELECT pos, pipeline.tumble(at, '1 minute') AS w, count(*) AS c, max(n) AS n FROM al_events WHERE pos = 7 GROUP BY pos, w$$);
SELECT * FROM al_one;
SELECT pos, c, n FROM al_own_windows;
-- Names are given once, and what is being read in this session stays.
SELECT pipeline.alter('al_one', 'SELECT pos, n::al_domain AS n, k AS two, k + 1 AS two FROM al_events WHERE pos = 7');
BEGIN;
DECLARE al_cursor CURSOR FOR SELECT * FROM al_one;
FETCH 1 FROM al_cursor;
SELECT pipeline.alter('al_one', 'SELECT pos, n::al_domain AS n, n::al_domain AS more FROM al_events WHERE pos = 7');
ROLLBACK;
RESET ROLE;
SET ROLE al_owner;
SELECT pipeline.alter('al_owned', 'SELECT pos, k FROM al_events');
RESET ROLE;
SET ROLE al_other;
SELECT count(*) > 0 AS readable, count(k) AS k FROM al_owned;
RESET ROLE;
DROP OWNED BY al_owner, al_other;
DROP ROLE al_owner, al_other;
-- A column that the new query reads is held as others are.
ALTER FOREIGN TABLE al_events DROP COLUMN x;
DROP FOREIGN TABLE al_events CASCADE;
DROP TABLE al_archive, al_names, al_queries, al_secrets CASCADE;
