-- Late rows: counted in windows that are kept, by apply_late(); deleted when they are old.
SET TimeZone = 'UTC';
SET client_min_messages = warning;
CREATE FOREIGN TABLE reads (id int, meter text, v int, note text, at timestamptz)
  SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '5 seconds', idle_timeout 'off');
CREATE TABLE all_reads (id int, meter text, v int, note text, at timestamptz);
CREATE TABLE meters (meter text PRIMARY KEY, town text);
INSERT INTO meters VALUES ('a', 'Ghent'), ('b', 'Lier'), ('c', 'Ghent');
CREATE FUNCTION at(seconds numeric) RETURNS timestamptz IMMUTABLE LANGUAGE sql AS
  $$ SELECT timestamptz '2024-01-01 00:00:00+00' + seconds * interval '1 second' $$;
-- a state that some value cannot be added to
CREATE FUNCTION add_carefully(state bigint, v int) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT state + 100 / v * v';
CREATE AGGREGATE careful_sum(int) (SFUNC = add_carefully, STYPE = bigint, INITCOND = '0');
RESET client_min_messages;

CREATE VIEW plain WITH (pipeline.continuous, pipeline.keep_closed = '1 minute') AS
SELECT meter, pipeline.tumble(at, '10 seconds') AS w, count(*) AS n, sum(v) AS v, max(note) AS note FROM reads GROUP BY meter, w;
CREATE VIEW graced WITH (pipeline.continuous, pipeline.keep_closed = '1 minute', pipeline.allowed_lateness = '10 seconds', pipeline.emit = 'changes') AS
SELECT meter, pipeline.tumble(at, '10 seconds') AS w, count(*) AS n, count(DISTINCT v) AS different FROM reads GROUP BY meter, w;
SET client_min_messages = warning;
CREATE VIEW hopping WITH (pipeline.continuous, pipeline.keep_closed = '20 seconds') AS
SELECT w, count(*) AS n, sum(v) AS v FROM reads, pipeline.hop(at, '20 seconds', '10 seconds') AS w GROUP BY w;
CREATE VIEW towns WITH (pipeline.continuous, pipeline.keep_closed = '1 hour') AS
SELECT town, pipeline.tumble(at, '1 minute') AS w, count(*) AS n FROM reads JOIN meters USING (meter) WHERE v > 0 GROUP BY town, w;
RESET client_min_messages;
SELECT line FROM pipeline.explain('plain') AS line WHERE line LIKE '%Rows:%';
SELECT view, emit FROM pipeline.views WHERE view::text IN ('plain', 'graced', 'hopping', 'towns') ORDER BY view::text;

CREATE FUNCTION insert_reads(meter text, VARIADIC seconds numeric[]) RETURNS void LANGUAGE sql AS $$
  WITH r AS (INSERT INTO all_reads SELECT (SELECT count(*) FROM all_reads) + n, meter, n, repeat('note ', 100) || s, at(s)
    FROM unnest(seconds) WITH ORDINALITY u(s, n) RETURNING *)
  INSERT INTO reads SELECT * FROM r ORDER BY id $$;
CREATE FUNCTION wait_for_all() RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE v regclass; BEGIN
  FOREACH v IN ARRAY '{plain,graced,hopping,towns}'::regclass[] LOOP
    IF NOT pipeline.wait_for(v) OR NOT pipeline.verify_state(v) THEN RAISE 'not %', v; END IF;
  END LOOP; RETURN true; END $$;
-- what a view should show: the query over the events that are not among its late rows, per window
CREATE FUNCTION differ() RETURNS TABLE (view text, rows bigint) LANGUAGE sql AS $$
  WITH batch AS (SELECT meter, pipeline.tumble(at, '10 seconds') AS w, count(*) AS n, sum(v) AS v, max(note) AS note
      FROM all_reads a WHERE id NOT IN (SELECT a.id FROM all_reads a JOIN plain_late l USING (meter, v, at)) GROUP BY meter, w
      HAVING upper(pipeline.tumble(min(at), '10 seconds')) <= pipeline.watermark('plain'))
  SELECT 'plain', count(*) FROM ((TABLE batch EXCEPT TABLE plain) UNION ALL (TABLE plain EXCEPT TABLE batch)) d
  UNION ALL
  SELECT 'graced', count(*) FROM ((SELECT meter, w, count(*), count(DISTINCT v) FROM (SELECT *, pipeline.tumble(at, '10 seconds') AS w FROM all_reads) a
      WHERE id NOT IN (SELECT a.id FROM all_reads a JOIN graced_late l USING (meter, v, at)) GROUP BY meter, w) EXCEPT TABLE graced) d
  UNION ALL
  SELECT 'hopping', count(*) FROM ((SELECT w, count(*), sum(v) FROM all_reads a, pipeline.hop(at, '20 seconds', '10 seconds') AS w
      WHERE upper(w) <= pipeline.watermark('hopping') AND NOT EXISTS (SELECT FROM hopping_late l WHERE (l.at, l.v) = (a.at, a.v) AND w = ANY (late_windows)) GROUP BY w)
      EXCEPT TABLE hopping) d $$;

SELECT insert_reads('a', 1, 2, 3, 14, 21, 36);
SELECT insert_reads('b', 4, 17, 9, 33);
SELECT wait_for_all();
SELECT meter, at, late_windows FROM plain_late ORDER BY at, meter;
SELECT meter, at, late_windows FROM graced_late ORDER BY at, meter;
SELECT at, v, late_windows FROM hopping_late ORDER BY at;
SELECT meter, w, n, v FROM plain ORDER BY w, meter;
SELECT * FROM differ();

-- nothing is asked for if the transaction rolls back
BEGIN;
SELECT pipeline.apply_late('plain');
ROLLBACK;
SELECT wait_for_all();
SELECT count(*) FROM plain_late;

-- what the transaction did to the late rows before counts
BEGIN;
DELETE FROM plain_late WHERE at = at(9);
SELECT pipeline.apply_late('plain');
COMMIT;
SELECT pipeline.apply_late('graced'), pipeline.apply_late('hopping');
SELECT wait_for_all();
SELECT count(*) FROM plain_late;
SELECT meter, w, n, v, right(note, 2) AS note FROM plain ORDER BY w, meter;
SELECT meter, at, late_windows FROM graced_late ORDER BY at, meter;
TABLE graced ORDER BY w, meter;
SELECT at, v, late_windows FROM hopping_late ORDER BY at;
TABLE hopping ORDER BY w;
SELECT * FROM differ() WHERE view <> 'plain';
-- once more there is nothing to do
SELECT pipeline.apply_late('plain'), pipeline.apply_late('graced'), pipeline.apply_late('hopping');
SELECT wait_for_all();
SELECT * FROM differ() WHERE view <> 'plain';

-- windows that are not kept any longer: in part, and all
SELECT insert_reads('a', 49);
SELECT wait_for_all();
SELECT insert_reads('c', 11, 22, 31);
SELECT wait_for_all();
SELECT at, v, late_windows FROM hopping_late ORDER BY at;
SELECT pipeline.apply_late('hopping');
SELECT wait_for_all();
SELECT at, v, late_windows FROM hopping_late ORDER BY at;
TABLE hopping ORDER BY w;
SELECT * FROM differ() WHERE view <> 'plain';

-- joined tables are as they are then; what joins nothing any more is counted as such
SELECT insert_reads('a', 130);
SELECT wait_for_all();
SELECT insert_reads('a', 7);
SELECT insert_reads('b', 8);
SELECT insert_reads('c', 9);
SELECT wait_for_all();
SELECT meter, v, at FROM towns_late ORDER BY at;
TABLE towns ORDER BY w, town;
UPDATE meters SET town = 'Mol' WHERE meter = 'a';
DELETE FROM meters WHERE meter = 'b';
SELECT pipeline.apply_late('towns');
SELECT wait_for_all();
SELECT count(*) FROM towns_late;
TABLE towns ORDER BY w, town;
SELECT late, unmatched FROM pipeline.stat_views WHERE view = 'towns'::regclass;

-- a paused view does it when it goes on
SELECT insert_reads('a', 3);
SELECT wait_for_all();
SELECT pipeline.pause('towns');
SELECT pipeline.apply_late('towns');
SELECT count(*) FROM towns_late;
SELECT pipeline.resume('towns');
SELECT wait_for_all();
SELECT count(*) FROM towns_late;
SELECT * FROM towns WHERE town = 'Mol' ORDER BY w;

-- a late row that cannot be applied: none is, and the view goes on
SET client_min_messages = warning;
CREATE VIEW careful WITH (pipeline.continuous, pipeline.keep_closed = '1 hour') AS
SELECT pipeline.tumble(at, '10 seconds') AS w, careful_sum(v) AS v FROM reads GROUP BY w;
RESET client_min_messages;
SELECT pipeline.wait_for('careful');
INSERT INTO reads VALUES (1, 'a', 5, '', at(200)), (2, 'a', 7, '', at(300)), (3, 'a', 10, '', at(201)), (4, 'a', 20, '', at(202));
SELECT pipeline.wait_for('careful');
INSERT INTO reads VALUES (5, 'a', 0, '', at(203));
SELECT pipeline.wait_for('careful');
SELECT v FROM careful_late WHERE at > at(199) ORDER BY at;
SELECT pipeline.apply_late('careful');
SELECT pipeline.wait_for('careful');
SELECT v FROM careful_late WHERE at > at(199) ORDER BY at;
SELECT last_error, state FROM pipeline.stat_views WHERE view = 'careful'::regclass;
SELECT pipeline.verify_state('careful');
DELETE FROM careful_late WHERE v = 0;
SELECT pipeline.apply_late('careful');
SELECT pipeline.wait_for('careful');
SELECT count(*) FROM careful_late WHERE at > at(199);
SELECT * FROM careful WHERE lower(w) = at(200);

-- rows of somebody's hand
INSERT INTO careful_late (v, at, late_windows) VALUES (1, at(250), ARRAY[tstzrange(at(300), at(310))]);
SELECT pipeline.apply_late('careful');
SELECT pipeline.wait_for('careful');
SELECT last_error FROM pipeline.stat_views WHERE view = 'careful'::regclass;
UPDATE careful_late SET late_windows = ARRAY['empty'::tstzrange, NULL] WHERE v = 1;
SELECT pipeline.apply_late('careful');
SELECT pipeline.wait_for('careful');
SELECT v, late_windows FROM careful_late WHERE v = 1;

-- late rows do not stay for ever
SELECT count(*) FROM plain_late;
UPDATE plain_late SET arrived_at = arrived_at - interval '8 days' WHERE v = 1;
SELECT count(*) AS left FROM plain_late WHERE v <> 1;
ALTER VIEW plain SET (pipeline.late_retention = '7 days');
CREATE PROCEDURE wait_until_gone(query text) LANGUAGE plpgsql AS $$
DECLARE n bigint; BEGIN
  FOR i IN 1 .. 20000 LOOP
    EXECUTE query INTO n;
    EXIT WHEN n = 0;
    PERFORM pipeline.wait_for('plain');
    COMMIT;
  END LOOP;
  IF n > 0 THEN RAISE '% are still there', n; END IF;
END $$;
CALL wait_until_gone('SELECT count(*) FROM plain_late WHERE v = 1');
SELECT count(*) AS left FROM plain_late;
ALTER VIEW plain SET (pipeline.late_retention = '50 milliseconds');
CALL wait_until_gone('SELECT count(*) FROM plain_late');
ALTER VIEW plain SET (pipeline.late_retention = 'off');

-- refused
CREATE VIEW no WITH (pipeline.continuous, pipeline.keep_closed = '-1 minute') AS SELECT meter, count(*) FROM reads GROUP BY meter, pipeline.tumble(at, '1 minute');
CREATE VIEW no WITH (pipeline.continuous, pipeline.keep_closed = '1000000000 days') AS SELECT meter, count(*) FROM reads GROUP BY meter, pipeline.tumble(at, '1 minute');
CREATE VIEW no WITH (pipeline.continuous, pipeline.keep_closed = '1 month') AS SELECT meter, count(*) FROM reads GROUP BY meter, pipeline.tumble(at, '1 minute');
CREATE VIEW no WITH (pipeline.continuous, pipeline.keep_closed = '1 minute', pipeline.allowed_lateness = '1 hour') AS SELECT meter, count(*) FROM reads GROUP BY meter, pipeline.tumble(at, '1 minute');
CREATE VIEW no WITH (pipeline.continuous, pipeline.keep_closed = '1 minute') AS SELECT meter, count(*) FROM reads GROUP BY meter;
CREATE VIEW no WITH (pipeline.continuous, pipeline.keep_closed = '1 minute') AS SELECT meter, count(*) FROM reads GROUP BY meter, pipeline.session(at, '1 minute');
CREATE VIEW no WITH (pipeline.continuous, pipeline.late_retention = '0') AS SELECT meter, count(*) FROM reads GROUP BY meter, pipeline.tumble(at, '1 minute');
CREATE VIEW no WITH (pipeline.continuous, pipeline.late_retention = 'a while') AS SELECT meter, count(*) FROM reads GROUP BY meter, pipeline.tumble(at, '1 minute');
ALTER VIEW plain SET (pipeline.keep_closed = '1 hour');
SELECT pipeline.apply_late('all_reads');
SET client_min_messages = warning;
CREATE VIEW forgets WITH (pipeline.continuous) AS SELECT meter, count(*) FROM reads GROUP BY meter, pipeline.tumble(at, '1 minute');
CREATE VIEW lateless WITH (pipeline.continuous) AS SELECT meter, count(*) FROM reads GROUP BY meter;
CREATE VIEW drops WITH (pipeline.continuous, pipeline.late = 'drop', pipeline.keep_closed = '1 hour') AS SELECT meter, count(*) FROM reads GROUP BY meter, pipeline.tumble(at, '1 minute');
RESET client_min_messages;
SELECT pipeline.apply_late('forgets');
SELECT pipeline.apply_late('lateless');
SELECT pipeline.apply_late('drops');
-- late rows are taken in when they are applied
SET client_min_messages = warning;
CREATE FOREIGN TABLE takes (at timestamptz) SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '0', idle_timeout 'off');
CREATE VIEW taken WITH (pipeline.continuous, pipeline.keep_closed = '1 hour') AS
SELECT pipeline.tumble(at, '1 minute') AS w, count(*) AS n, max(pipeline.proctime()) AS last FROM takes GROUP BY w;
RESET client_min_messages;
INSERT INTO takes VALUES ('2024-01-01 00:00:10'), ('2024-01-01 00:01:00'), ('2024-01-01 00:00:20');
SELECT pipeline.wait_for('taken');
SELECT last AS first_last FROM taken \gset
SELECT pipeline.apply_late('taken');
SELECT pipeline.wait_for('taken', '60 s');
SELECT w, n, last > :'first_last' AS later FROM taken;

-- a view that is asked for something stays with the others of its task
SET client_min_messages = warning;
BEGIN;
CREATE VIEW stays WITH (pipeline.continuous, pipeline.keep_closed = '1 hour') AS SELECT pipeline.tumble(at, '1 minute') AS w, count(*) AS n FROM takes GROUP BY w;
CREATE VIEW stays_too WITH (pipeline.continuous) AS SELECT pipeline.tumble(at, '2 minutes') AS w, count(*) AS n FROM takes GROUP BY w;
COMMIT;
RESET client_min_messages;
CREATE VIEW together AS SELECT count(DISTINCT pid) = 1 AND count(pid) = 3 AS yes FROM pipeline.stat_views WHERE view::text IN ('taken', 'stays', 'stays_too');
DO $$ BEGIN
  WHILE NOT yes FROM together LOOP
    IF clock_timestamp() > statement_timestamp() + interval '60 seconds' THEN RAISE 'not together'; END IF;
  END LOOP; END $$;
SELECT pipeline.wait_for(view) FROM pipeline.views WHERE view::text IN ('taken', 'stays', 'stays_too');
SELECT pipeline.apply_late('stays');
SELECT pipeline.wait_for('stays');
TABLE together;
SELECT w, n FROM stays;
DROP VIEW together;
DROP FOREIGN TABLE takes CASCADE;

CREATE ROLE reader;
GRANT SELECT ON plain, plain_late TO reader;
SET ROLE reader;
SELECT pipeline.apply_late('plain');
RESET ROLE;
BEGIN READ ONLY;
SELECT pipeline.apply_late('plain');
ROLLBACK;
DROP VIEW plain, graced, hopping, towns, careful, forgets, lateless, drops;
DROP FOREIGN TABLE reads;
DROP FUNCTION insert_reads, wait_for_all, differ, at;
DROP PROCEDURE wait_until_gone;
DROP AGGREGATE careful_sum(int);
DROP FUNCTION add_carefully;
DROP TABLE all_reads, meters;
DROP ROLE reader;
