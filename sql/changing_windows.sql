-- Rows of windows that change: emit = 'changes', and allowed_lateness.
SET TimeZone = 'UTC';
SET client_min_messages = warning;
CREATE FOREIGN TABLE hits (id int, page text, ms int, price numeric, at timestamptz)
  SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '5 seconds', idle_timeout 'off');
CREATE TABLE all_hits (id int, page text, ms int, price numeric, at timestamptz);
RESET client_min_messages;
CREATE FUNCTION at(seconds numeric) RETURNS timestamptz IMMUTABLE LANGUAGE sql AS
  $$ SELECT timestamptz '2024-01-01 00:00:00+00' + seconds * interval '1 second' $$;

CREATE VIEW live WITH (pipeline.continuous, pipeline.emit = 'changes') AS
SELECT page, pipeline.tumble(at, '10 seconds') AS w, count(*) AS n, sum(price) AS price FROM hits GROUP BY page, w;
CREATE VIEW admitted WITH (pipeline.continuous, pipeline.allowed_lateness = '20 seconds') AS
SELECT page, pipeline.tumble(at, '10 seconds') AS w, count(*) AS n, sum(price) AS price FROM hits GROUP BY page, w;
CREATE VIEW both_ways WITH (pipeline.continuous, pipeline.emit = 'changes', pipeline.allowed_lateness = '20 seconds') AS
SELECT page, pipeline.tumble(at, '10 seconds') AS w, count(*) AS n FROM hits GROUP BY page, w;
-- what stands above the groups is evaluated on read
SET client_min_messages = warning;
CREATE VIEW top WITH (pipeline.continuous, pipeline.allowed_lateness = '20 seconds') AS
SELECT page, at, n FROM (
  SELECT page, upper(w) AS at, n, rank() OVER (PARTITION BY w ORDER BY n DESC) AS r
  FROM (SELECT page, pipeline.hop(at, '20 seconds', '10 seconds') AS w, count(*) AS n FROM hits GROUP BY page, w HAVING count(*) > 0) a) b WHERE r = 1;
CREATE VIEW people WITH (pipeline.continuous, pipeline.emit = 'changes') AS
SELECT date_trunc('minute', at) AS minute, count(DISTINCT page) AS pages, avg(ms) AS ms FROM hits GROUP BY 1;
RESET client_min_messages;
SELECT pipeline.explain('live');
SELECT view, emit FROM pipeline.views WHERE view::text IN ('live', 'admitted', 'both_ways', 'top', 'people') ORDER BY view::text;

CREATE FUNCTION insert_hits(VARIADIC seconds numeric[]) RETURNS void LANGUAGE sql AS $$
  WITH h AS (INSERT INTO all_hits SELECT (SELECT count(*) FROM all_hits) + n, CASE WHEN s > 100 THEN 'far' ELSE chr(97 + (s::int % 3)) END, n, 0.5 * n, at(s)
    FROM unnest(seconds) WITH ORDINALITY u(s, n) RETURNING *)
  INSERT INTO hits SELECT * FROM h ORDER BY id $$;
CREATE FUNCTION wait_for_all() RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE v regclass; BEGIN
  FOREACH v IN ARRAY '{live,admitted,both_ways,top,people}'::regclass[] LOOP
    IF NOT pipeline.wait_for(v) OR NOT pipeline.verify_state(v) THEN RAISE 'not %', v; END IF;
  END LOOP; RETURN true; END $$;

SELECT insert_hits(1, 2, 3, 4, 11, 7);
SELECT wait_for_all();
SELECT * FROM live ORDER BY w, page;
SELECT count(*) AS admitted FROM admitted;
SELECT * FROM both_ways ORDER BY w, page;
SELECT * FROM people;

-- the first window is complete; 8 comes too late for live, and changes the others
SELECT insert_hits(16);
SELECT wait_for_all();
SELECT * FROM admitted ORDER BY w, page;
SELECT insert_hits(8, 5);
SELECT wait_for_all();
SELECT * FROM live WHERE upper(w) <= pipeline.watermark('live') ORDER BY w, page;
SELECT * FROM admitted ORDER BY w, page;
SELECT * FROM both_ways ORDER BY w, page;
SELECT * FROM top ORDER BY at, page;
SELECT view, late, windows_closed, open_windows FROM pipeline.stat_views
WHERE view::text IN ('live', 'admitted', 'both_ways', 'top', 'people') ORDER BY view::text;
SELECT page, at, late_windows FROM live_late ORDER BY at;

-- a window that had no events when it was complete gets its first one; one whose grace is over takes none
SELECT insert_hits(45);
SELECT wait_for_all();
SELECT insert_hits(35, 25, 9);
SELECT wait_for_all();
SELECT * FROM admitted ORDER BY w, page;
SELECT page, at, late_windows FROM admitted_late ORDER BY at;
SELECT * FROM top ORDER BY at, page;
SELECT page, at, late_windows FROM top_late ORDER BY at;

-- after another worker took over, and all windows have closed
SELECT bool_and(pg_terminate_backend(pid)) FROM (SELECT DISTINCT pid FROM pipeline.stat_views WHERE pid IS NOT NULL) p;
SELECT insert_hits(46, 33, 28, 61);
SELECT wait_for_all();
SELECT pipeline.advance_watermark('hits', 'infinity');
SELECT wait_for_all();
-- equal to the query over what was not late
CREATE VIEW in_time AS SELECT * FROM all_hits a WHERE NOT EXISTS (SELECT FROM admitted_late l WHERE l.at = a.at);
SELECT page, pipeline.tumble(at, '10 seconds') AS w, count(*) AS n, sum(price) AS price FROM in_time GROUP BY page, w EXCEPT TABLE admitted;
SELECT count(*) FROM (TABLE admitted EXCEPT SELECT page, pipeline.tumble(at, '10 seconds') AS w, count(*) AS n, sum(price) AS price FROM in_time GROUP BY page, w) d;
SELECT count(*) FROM (TABLE both_ways EXCEPT SELECT page, w, n FROM admitted) d;
SELECT count(*) FROM (TABLE live EXCEPT SELECT page, pipeline.tumble(at, '10 seconds') AS w, count(*) AS n, sum(price) AS price
  FROM all_hits a WHERE NOT EXISTS (SELECT FROM live_late l WHERE l.at = a.at) GROUP BY page, w) d;
TABLE people;

-- refused
CREATE VIEW no WITH (pipeline.continuous, pipeline.emit = 'changes') AS SELECT n, rank() OVER (PARTITION BY s ORDER BY n) FROM (SELECT page, pipeline.session(at, '1 minute') AS s, count(DISTINCT id) AS n FROM hits GROUP BY page, s) a;
CREATE VIEW no WITH (pipeline.continuous, pipeline.keep_closed = '1 minute') AS SELECT page, count(*) FROM hits GROUP BY page, pipeline.session(at, '1 minute');
CREATE VIEW no WITH (pipeline.continuous, pipeline.allowed_lateness = '1 second', pipeline.keep_closed = '1 minute') AS SELECT page, count(*) FROM hits GROUP BY page, pipeline.session(at, '1 minute');
CREATE VIEW no WITH (pipeline.continuous, pipeline.emit = 'changes', pipeline.workers = 2) AS SELECT page, count(*) FROM hits GROUP BY page, pipeline.tumble(at, '1 minute');
CREATE VIEW no WITH (pipeline.continuous, pipeline.allowed_lateness = '1 minute') AS SELECT page, count(*) FROM hits GROUP BY page;
CREATE VIEW no WITH (pipeline.continuous, pipeline.allowed_lateness = '1 minute') AS SELECT page FROM hits;
CREATE VIEW no WITH (pipeline.continuous, pipeline.allowed_lateness = '-1 minute') AS SELECT page, count(*) FROM hits GROUP BY page, pipeline.tumble(at, '1 minute');
ALTER VIEW admitted SET (pipeline.allowed_lateness = '1 hour');
DROP VIEW in_time, live, admitted, both_ways, top, people;
DROP FUNCTION insert_hits, wait_for_all, at;
DROP FOREIGN TABLE hits;
DROP TABLE all_hits;
