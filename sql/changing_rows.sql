-- Rows of windows that change although they cannot be kept incrementally: the close query runs again.
-- Without this: an open window would be shown as it once was, a late event would leave two versions of a row or none,
-- or a row that stays the same would be written again.
SET TimeZone = 'UTC';
SET client_min_messages = warning;
CREATE FOREIGN TABLE bids (id int, item text, price numeric, at timestamptz)
  SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '5 seconds', idle_timeout 'off');
CREATE TABLE all_bids (id int, item text, price numeric, at timestamptz);
RESET client_min_messages;
CREATE FUNCTION at(seconds numeric) RETURNS timestamptz IMMUTABLE LANGUAGE sql AS
  $$ SELECT timestamptz '2024-01-01 00:00:00+00' + seconds * interval '1 second' $$;
CREATE VIEW lists WITH (pipeline.continuous, pipeline.emit = 'changes') AS
SELECT item, pipeline.tumble(at, '10 seconds') AS w, string_agg(id::text, ',' ORDER BY price, id) AS ids, percentile_cont(0.5) WITHIN GROUP (ORDER BY price) AS middle
FROM bids GROUP BY item, w HAVING count(*) > 0;
CREATE VIEW admitted WITH (pipeline.continuous, pipeline.allowed_lateness = '20 seconds') AS
SELECT item, pipeline.tumble(at, '10 seconds') AS w, array_agg(DISTINCT price) AS prices, count(*) AS n FROM bids GROUP BY item, w;
SET client_min_messages = warning;
-- windows that overlap, several kinds of groups, rows without groups, equal rows
CREATE VIEW hops WITH (pipeline.continuous, pipeline.emit = 'changes', pipeline.allowed_lateness = '20 seconds') AS
SELECT item, pipeline.hop(at, '20 seconds', '10 seconds') AS w, array_agg(id ORDER BY id) AS ids FROM bids GROUP BY item, w;
CREATE VIEW cubes WITH (pipeline.continuous, pipeline.emit = 'changes', pipeline.emit_interval = '5 minutes') AS
SELECT item, price, lower(w) AS since, count(*) AS n FROM (SELECT *, date_trunc('minute', at) AS m, pipeline.tumble(at, '10 seconds') AS w FROM bids) b GROUP BY w, CUBE (item, price);
CREATE VIEW best WITH (pipeline.continuous, pipeline.allowed_lateness = '20 seconds') AS
SELECT id, item, upper(w) AS until, r FROM (SELECT id, item, w, rank() OVER (PARTITION BY w ORDER BY price DESC, id) AS r
  FROM (SELECT id, item, price, pipeline.tumble(at, '10 seconds') AS w FROM bids) a) b WHERE r <= 2;
CREATE VIEW firsts WITH (pipeline.continuous, pipeline.emit = 'changes', pipeline.allowed_lateness = '20 seconds') AS
SELECT item FROM (SELECT DISTINCT ON (item, pipeline.tumble(at, '10 seconds')) item, at FROM bids ORDER BY item, pipeline.tumble(at, '10 seconds'), id) a;
CREATE VIEW kept WITH (pipeline.continuous, pipeline.keep_closed = '1 hour') AS
SELECT item, pipeline.tumble(at, '10 seconds') AS w, array_agg(id ORDER BY id) AS ids FROM bids GROUP BY item, w;
CREATE INDEX ON admitted (item, w);
RESET client_min_messages;
SELECT pipeline.explain('lists');
SELECT view, emit FROM pipeline.views WHERE view::text IN ('lists', 'admitted', 'hops') ORDER BY view::text;
CREATE FUNCTION insert_bids(VARIADIC seconds numeric[]) RETURNS void LANGUAGE sql AS $$
  WITH b AS (INSERT INTO all_bids SELECT (SELECT count(*) FROM all_bids) + n, CASE WHEN s > 100 THEN 'far' ELSE chr(97 + (s::int % 2)) END, (s::int * 7 % 5), at(s)
    FROM unnest(seconds) WITH ORDINALITY u(s, n) RETURNING *)
  INSERT INTO bids SELECT * FROM b ORDER BY id $$;
CREATE FUNCTION wait_for_all() RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE v regclass; BEGIN
  FOREACH v IN ARRAY '{lists,admitted,hops,cubes,best,firsts,kept}'::regclass[] LOOP
    IF NOT pipeline.wait_for(v) OR NOT pipeline.verify_state(v) THEN RAISE 'not %', v; END IF;
  END LOOP; RETURN true; END $$;
-- what each should show, by ordinary SQL over the events that were not late, in all windows or those that end by "upto"
CREATE FUNCTION wrong(upto timestamptz) RETURNS TABLE (view text, rows bigint) LANGUAGE sql AS $$
  WITH l AS (SELECT * FROM all_bids b WHERE NOT EXISTS (SELECT FROM lists_late x WHERE x.id = b.id)),
  a AS (SELECT * FROM all_bids b WHERE NOT EXISTS (SELECT FROM admitted_late x WHERE x.at = b.at)),
  aw AS (SELECT *, tstzrange(date_bin('10 seconds', at, '2000-01-03Z'), date_bin('10 seconds', at, '2000-01-03Z') + interval '10 seconds') AS w FROM a),
  e_lists AS (SELECT item, tstzrange(s, s + interval '10 seconds') AS w, string_agg(id::text, ',' ORDER BY price, id), percentile_cont(0.5) WITHIN GROUP (ORDER BY price) FROM (SELECT *, date_bin('10 seconds', at, '2000-01-03Z') AS s FROM l) x GROUP BY 1, 2),
  e_admitted AS (SELECT item, w, array_agg(DISTINCT price), count(*) FROM aw WHERE upper(w) <= upto GROUP BY 1, 2),
  e_hops AS (SELECT item, h, array_agg(id ORDER BY id) FROM a, pipeline.hop(at, '20 seconds', '10 seconds') h GROUP BY 1, 2),
  e_cubes AS (SELECT item, price, s, count(*) FROM (SELECT *, date_bin('10 seconds', at, '2000-01-03Z') AS s FROM l) x GROUP BY s, CUBE (item, price)),
  e_best AS (SELECT id, item, u, r FROM (SELECT id, item, upper(w) AS u, rank() OVER (PARTITION BY w ORDER BY price DESC, id) AS r FROM aw) x WHERE r <= 2 AND u <= upto),
  e_firsts AS (SELECT item FROM aw GROUP BY item, w)
  SELECT 'lists', (SELECT count(*) FROM (TABLE lists EXCEPT ALL TABLE e_lists) d) + (SELECT count(*) FROM (TABLE e_lists EXCEPT ALL TABLE lists) d) UNION ALL
  SELECT 'admitted', (SELECT count(*) FROM (TABLE admitted EXCEPT ALL TABLE e_admitted) d) + (SELECT count(*) FROM (TABLE e_admitted EXCEPT ALL TABLE admitted) d) UNION ALL
  SELECT 'hops', (SELECT count(*) FROM (TABLE hops EXCEPT ALL TABLE e_hops) d) + (SELECT count(*) FROM (TABLE e_hops EXCEPT ALL TABLE hops) d) UNION ALL
  SELECT 'cubes', (SELECT count(*) FROM (TABLE cubes EXCEPT ALL TABLE e_cubes) d) + (SELECT count(*) FROM (TABLE e_cubes EXCEPT ALL TABLE cubes) d) UNION ALL
  SELECT 'best', (SELECT count(*) FROM (TABLE best EXCEPT ALL TABLE e_best) d) + (SELECT count(*) FROM (TABLE e_best EXCEPT ALL TABLE best) d) UNION ALL
  SELECT 'firsts', (SELECT count(*) FROM (TABLE firsts EXCEPT ALL TABLE e_firsts) d) + (SELECT count(*) FROM (TABLE e_firsts EXCEPT ALL TABLE firsts) d) $$;

SELECT insert_bids(1, 2, 3, 4, 11, 7);
SELECT wait_for_all();
SELECT * FROM lists ORDER BY w, item;
SELECT count(*) AS admitted FROM admitted;
SELECT * FROM wrong(at(0)) WHERE rows > 0 AND view <> 'hops';
-- a row that stays the same is not written: a of the first window
SELECT 't_' || id AS table_of_lists FROM pipeline_data.views WHERE view = 'lists'::regclass \gset
SELECT xmin AS written FROM pipeline_data.:table_of_lists WHERE c1 = 'a' AND lower(c2) = at(0) \gset
SELECT insert_bids(5);
SELECT wait_for_all();
SELECT * FROM lists ORDER BY w, item;
SELECT c1, xmin = :'written' AS untouched FROM pipeline_data.:table_of_lists WHERE lower(c2) = at(0) ORDER BY c1;
-- the first window is complete; 8 and 5.5 come too late for lists, and change the others
SELECT insert_bids(16);
SELECT wait_for_all();
SELECT * FROM admitted ORDER BY w, item;
SELECT insert_bids(8, 5.5);
SELECT wait_for_all();
SELECT * FROM lists WHERE lower(w) = at(0) ORDER BY item;
SELECT * FROM admitted ORDER BY w, item;
SELECT * FROM best ORDER BY until, r;
SELECT id, late_windows FROM lists_late ORDER BY id;
SELECT * FROM wrong(at(11)) WHERE rows > 0;
SELECT view, late, windows_closed, open_windows FROM pipeline.stat_views WHERE view::text IN ('lists', 'admitted', 'hops', 'best') ORDER BY view::text;
-- a window that had no events when it was complete; another worker; late rows that are applied
SELECT insert_bids(45);
SELECT wait_for_all();
SELECT bool_and(pg_terminate_backend(pid)) FROM (SELECT DISTINCT pid FROM pipeline.stat_views WHERE pid IS NOT NULL) p;
SELECT insert_bids(35, 25, 9, 32);
SELECT wait_for_all();
SELECT * FROM admitted WHERE lower(w) >= at(20) ORDER BY w, item;
SELECT * FROM wrong(at(40)) WHERE rows > 0;
SELECT * FROM kept ORDER BY w, item;
SELECT pipeline.apply_late('kept');
SELECT pipeline.wait_for('kept');
SELECT * FROM kept ORDER BY w, item;
SELECT count(*) FROM kept_late;
SELECT insert_bids(100);
SELECT wait_for_all();
SELECT pipeline.advance_watermark('bids', 'infinity');
SELECT wait_for_all();
SELECT * FROM wrong('infinity') WHERE rows > 0;
SELECT (SELECT count(*) FROM lists) AS lists, (SELECT count(*) FROM hops) AS hops, (SELECT count(*) FROM cubes) AS cubes, (SELECT count(*) FROM best) AS best, (SELECT count(*) FROM firsts) AS firsts;
SELECT view, windows_closed, open_windows FROM pipeline.stat_views WHERE view::text IN ('lists', 'admitted', 'hops', 'best') ORDER BY view::text;
-- rebuilt
CALL pipeline.replay('lists');
SELECT * FROM wrong('infinity') WHERE rows > 0;
SELECT insert_bids(101, 105);
SELECT pipeline.wait_for('lists');
SELECT * FROM wrong('infinity') WHERE rows > 0 AND view = 'lists';
-- refused
CREATE VIEW no WITH (pipeline.continuous, pipeline.emit = 'changes', pipeline.workers = 2) AS SELECT array_agg(id ORDER BY id) FROM bids GROUP BY pipeline.tumble(at, '1 minute');
CREATE VIEW no WITH (pipeline.continuous, pipeline.emit = 'changes') AS SELECT array_agg(id ORDER BY id), pipeline.tumble(at, '1 minute') AS w FROM bids GROUP BY w HAVING max(at) > now();
CREATE VIEW no WITH (pipeline.continuous) AS SELECT pipeline.tumble(upper(w) - interval '1 microsecond', '1 minute') AS m, count(*) FROM lists GROUP BY m;
-- the close query fails: the view stops, and says why
SET client_min_messages = warning;
CREATE VIEW failing WITH (pipeline.continuous, pipeline.emit = 'changes', pipeline.start = 'latest') AS
SELECT 1 / (percentile_disc(0.5) WITHIN GROUP (ORDER BY price))::int AS p FROM bids GROUP BY pipeline.tumble(at, '10 seconds');
SELECT pipeline.wait_for('failing');
SELECT insert_bids(110);
DO $$ BEGIN WHILE clock_timestamp() < statement_timestamp() + interval '60 seconds' LOOP
  IF (SELECT state = 'stopped' FROM pipeline.views WHERE view = 'failing'::regclass) THEN RETURN; END IF; END LOOP; RAISE 'not stopped'; END $$;
SELECT reason FROM pipeline.views WHERE view = 'failing'::regclass;
DROP FUNCTION wrong;
DROP VIEW lists, admitted, hops, cubes, best, firsts, kept, failing;
DROP FUNCTION insert_bids, wait_for_all, at;
DROP FOREIGN TABLE bids;
DROP TABLE all_bids;
