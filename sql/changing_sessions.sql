-- Rows of sessions that change: emit = 'changes', and allowed_lateness.
-- Without this: a session that two have become would be shown with parts of itself, or not at all; one that a late event
-- makes longer would stay as it was, or be there although it is open again.
SET TimeZone = 'UTC';
SET client_min_messages = warning;
CREATE FOREIGN TABLE clicks (id int, person text, ms int, at timestamptz)
  SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '5 seconds', idle_timeout 'off');
RESET client_min_messages;
CREATE FUNCTION at(seconds numeric) RETURNS timestamptz IMMUTABLE LANGUAGE sql AS
  $$ SELECT timestamptz '2024-01-01 00:00:00+00' + seconds * interval '1 second' $$;
CREATE VIEW live WITH (pipeline.continuous, pipeline.emit = 'changes') AS
SELECT person, pipeline.session(at, '10 seconds') AS s, count(*) AS n, sum(ms) AS ms FROM clicks GROUP BY person, s;
CREATE VIEW admitted WITH (pipeline.continuous, pipeline.allowed_lateness = '20 seconds') AS
SELECT person, pipeline.session(at, '10 seconds') AS s, count(*) AS n, sum(ms) AS ms, max(id::text) AS last FROM clicks GROUP BY person, s;
SET client_min_messages = warning;
CREATE VIEW both_ways WITH (pipeline.continuous, pipeline.emit = 'changes', pipeline.allowed_lateness = '20 seconds', pipeline.emit_interval = '5 minutes') AS
SELECT person, pipeline.session(at, '10 seconds') AS s, count(*) AS n, sum(ms) AS ms FROM clicks GROUP BY person, s;
-- where rows are kept: the close query runs again over sessions that have changed
CREATE VIEW lists WITH (pipeline.continuous, pipeline.emit = 'changes') AS
SELECT person, pipeline.session(at, '10 seconds') AS s, array_agg(id ORDER BY id) AS ids FROM clicks GROUP BY person, s;
CREATE VIEW admitted_lists WITH (pipeline.continuous, pipeline.allowed_lateness = '20 seconds') AS
SELECT person, pipeline.session(at, '10 seconds') AS s, array_agg(id ORDER BY id) AS ids FROM clicks GROUP BY person, s;
CREATE VIEW both_lists WITH (pipeline.continuous, pipeline.emit = 'changes', pipeline.allowed_lateness = '20 seconds', pipeline.emit_interval = '5 minutes') AS
SELECT person, s, id, row_number() OVER (PARTITION BY person, s ORDER BY at, id) AS r FROM (SELECT person, pipeline.session(at, '10 seconds') AS s, id, at FROM clicks) a;
-- what stands above is evaluated on read
CREATE VIEW longest WITH (pipeline.continuous, pipeline.emit = 'changes') AS
SELECT person, upper(s) - lower(s) AS long, rank() OVER (PARTITION BY s ORDER BY n DESC) AS r FROM (
  SELECT person, pipeline.session(at, '10 seconds') AS s, count(*) AS n FROM clicks GROUP BY person, s HAVING count(*) > 1) a;
RESET client_min_messages;
CREATE INDEX ON live (person);
SELECT pipeline.explain('live');
SELECT view, emit FROM pipeline.views WHERE view::text IN ('live', 'admitted', 'both_ways') ORDER BY view::text;
CREATE FUNCTION wait_for_all() RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE v regclass; BEGIN
  FOREACH v IN ARRAY '{live,admitted,both_ways,lists,admitted_lists,both_lists,longest}'::regclass[] LOOP
    IF NOT pipeline.wait_for(v) OR NOT pipeline.verify_state(v) THEN RAISE 'not %', v; END IF;
  END LOOP;
  IF EXISTS (SELECT FROM (SELECT person, s, n FROM live UNION ALL SELECT person, s, cardinality(ids) FROM lists) x GROUP BY person, s, n HAVING count(*) <> 2)
     OR EXISTS (SELECT FROM (SELECT person, s, n FROM admitted UNION ALL SELECT person, s, cardinality(ids) FROM admitted_lists) x GROUP BY person, s, n HAVING count(*) <> 2)
     OR EXISTS (SELECT FROM (SELECT person, s, n FROM both_ways UNION ALL SELECT person, s, count(*) FROM both_lists GROUP BY 1, 2 HAVING max(r) = count(*)) x GROUP BY person, s, n HAVING count(*) <> 2)
  THEN RAISE 'lists differ'; END IF;
  RETURN true; END $$;

-- open sessions are there, two of ann's
INSERT INTO clicks VALUES (1, 'ann', 1, at(0)), (2, 'bob', 1, at(3)), (3, 'ann', 2, at(15));
SELECT wait_for_all();
SELECT * FROM live ORDER BY person, s;
SELECT count(*) FROM admitted;
SELECT * FROM both_ways ORDER BY person, s;
-- one more connects them: one row, of the whole range
INSERT INTO clicks VALUES (4, 'ann', 4, at(10));
SELECT wait_for_all();
SELECT * FROM live ORDER BY person, s;
SELECT * FROM longest ORDER BY person;
-- at 13.000001 bob's is complete, not with its end
INSERT INTO clicks VALUES (5, 'dan', 1, at(18));
SELECT wait_for_all();
SELECT * FROM admitted;
INSERT INTO clicks VALUES (6, 'dan', 1, at(18.000001));
SELECT wait_for_all();
SELECT * FROM admitted;
-- late for live, where bob's is over: a session of its own would be past; the others take it into bob's, whose row comes later then
INSERT INTO clicks VALUES (7, 'bob', 2, at(2)), (8, 'bob', 4, at(8));
SELECT wait_for_all();
SELECT * FROM live WHERE person = 'bob' ORDER BY s;
SELECT person, at, late_windows, watermark FROM live_late;
SELECT * FROM admitted;
SELECT * FROM both_ways WHERE person = 'bob';
-- complete again; and cid has one that is complete from the beginning
INSERT INTO clicks VALUES (9, 'dan', 1, at(24)), (10, 'cid', 1, at(1)), (11, 'cid', 1, at(40));
SELECT wait_for_all();
SELECT * FROM admitted ORDER BY person, s;
-- a late event bridges two of hal's that are complete: one row in place of two, after the restart of a worker, too
INSERT INTO clicks VALUES (12, 'cid', 2, at(17)), (13, 'eve', 1, at(41)), (23, 'hal', 1, at(8)), (24, 'hal', 2, at(24));
SELECT wait_for_all();
SELECT * FROM admitted WHERE person IN ('cid', 'hal') ORDER BY person, s;
SELECT bool_and(pg_terminate_backend(pid)) FROM (SELECT DISTINCT pid FROM pipeline.stat_views WHERE pid IS NOT NULL) p;
-- cid's first one takes no more
INSERT INTO clicks VALUES (14, 'cid', 4, at(11)), (25, 'hal', 4, at(16));
SELECT wait_for_all();
SELECT * FROM admitted WHERE person IN ('cid', 'hal') ORDER BY person, s;
-- one that bridges a complete and an open one: no row until that is complete
INSERT INTO clicks VALUES (15, 'cid', 8, at(32)), (16, 'cid', 16, at(27)), (17, 'eve', 1, at(42));
SELECT wait_for_all();
SELECT * FROM admitted WHERE person = 'cid' ORDER BY s;
SELECT * FROM both_ways WHERE person = 'cid' ORDER BY s;
INSERT INTO clicks VALUES (18, 'eve', 1, at(56));
SELECT wait_for_all();
SELECT * FROM admitted WHERE person = 'cid' ORDER BY s;
SELECT view, late, windows_closed, open_windows FROM pipeline.stat_views WHERE view::text IN ('live', 'admitted', 'both_ways') ORDER BY view::text;
-- past at last: kept no longer
INSERT INTO clicks VALUES (19, 'eve', 1, at(100)), (20, 'cid', 1, at(50)), (21, 'ann', 1, at(65)), (22, 'ann', 1, at(64.999999));
SELECT wait_for_all();
SELECT * FROM admitted ORDER BY person, s;
SELECT id, late_windows FROM admitted_late ORDER BY id;
SELECT pipeline.advance_watermark('clicks', 'infinity');
SELECT wait_for_all();
SELECT count(*) FROM (TABLE both_ways EXCEPT SELECT person, s, n, ms FROM admitted) d;
SELECT count(*) FROM (SELECT person, s, n, ms FROM admitted EXCEPT TABLE both_ways) d;
SELECT * FROM admitted_lists ORDER BY person, s;
SELECT view, windows_closed, open_windows FROM pipeline.stat_views WHERE view::text IN ('live', 'admitted', 'both_ways') ORDER BY view::text;
SELECT pipeline.apply_late('admitted');
-- interval: absorbed rows go at once, with the one that stays
INSERT INTO clicks VALUES (30, 'fay', 1, at(200)), (31, 'fay', 2, at(215));
SELECT wait_for_all();
INSERT INTO clicks VALUES (32, 'gil', 1, at(207)), (33, 'fay', 4, at(208));
DO $$ BEGIN WHILE clock_timestamp() < statement_timestamp() + interval '60 seconds' LOOP
  IF (SELECT events_in = 29 FROM pipeline.stat_views WHERE view::text = 'both_ways') THEN RETURN; END IF; END LOOP; RAISE 'not taken in'; END $$;
SELECT * FROM both_ways WHERE lower(s) >= at(200) ORDER BY person, s;
SELECT wait_for_all();
SELECT * FROM both_ways WHERE lower(s) >= at(200) ORDER BY person, s;
DROP VIEW live, admitted, both_ways, longest, lists, admitted_lists, both_lists;
DROP FUNCTION wait_for_all, at;
DROP FOREIGN TABLE clicks;
