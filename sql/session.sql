-- Session windows: they last until nothing comes for the gap.
SET client_min_messages = warning;
CREATE FOREIGN TABLE visits (id int, person text, page text, ms int, price numeric, at timestamptz)
  SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '10 seconds', idle_timeout 'off');
RESET client_min_messages;
CREATE VIEW stays WITH (pipeline.continuous) AS
SELECT person, pipeline.session(at, '10 seconds') AS stay, count(*) AS n, sum(ms) AS ms, min(id) AS first, sum(price) AS price
FROM visits GROUP BY person, stay;
SELECT pipeline.explain('stays');
CREATE FUNCTION at(seconds numeric) RETURNS timestamptz IMMUTABLE LANGUAGE sql AS
  $$ SELECT timestamptz '2024-01-01 00:00:00+00' + seconds * interval '1 second' $$;
SET TimeZone = 'UTC';

INSERT INTO visits VALUES
  (1, 'ann', '/', 5, 1.5, at(0)),
  (2, 'ann', '/', 5, 1.5, at(10)),        -- exactly the gap after: joins
  (3, 'bob', '/', 5, 1.5, at(3)),
  (4, 'ann', '/', 5, 1.5, at(20.000001)), -- a moment later: another
  (5, 'cid', '/', 1, NULL, at(1)),
  (6, 'cid', '/', 2, NULL, at(21)),       -- two sessions
  (7, 'cid', '/', 4, NULL, at(11)),       -- that this one connects
  (8, NULL, '/', 7, 0.1, at(5));
SELECT pipeline.wait_for('stays');
SELECT count(*) FROM stays;
SELECT groups, open_windows FROM pipeline.stat_views WHERE view = 'stays'::regclass;
SELECT pipeline.verify_state('stays');

-- the watermark must have passed the end: at 20 bob's and the nameless one's are complete, the end of ann's first is 20
INSERT INTO visits VALUES (9, 'dan', '/', 1, 1, at(30));
SELECT pipeline.wait_for('stays');
SELECT * FROM stays ORDER BY person, stay;
INSERT INTO visits VALUES (10, 'dan', '/', 1, 1, at(30.000001));
SELECT pipeline.wait_for('stays');
SELECT * FROM stays ORDER BY person, stay;

-- an event right at the end of an open session extends it; late is what would be a complete session of its own
INSERT INTO visits VALUES (11, 'eve', '/', 1, 1, at(10.000001)), (12, 'eve', '/', 1, 1, at(10)), (13, 'ann', '/', 1, 1, at(12)),
  (14, 'fay', '/', 1, 1, at(10)), (15, 'ann', '/', 1, 1, at(1));
SELECT pipeline.wait_for('stays');
SELECT person, at, late_windows FROM stays_late ORDER BY at;
SELECT late, windows_closed FROM pipeline.stat_views WHERE view = 'stays'::regclass;

-- what closes by itself
SELECT pipeline.advance_watermark('visits', 'infinity');
SELECT pipeline.wait_for('stays');
SELECT * FROM stays ORDER BY person NULLS LAST, stay;
SELECT groups, open_windows FROM pipeline.stat_views WHERE view = 'stays'::regclass;
SELECT pipeline.verify_state('stays');
DROP VIEW stays;

-- start and end, HAVING, an outer query, sessions of the whole stream, DISTINCT, in FROM
SET client_min_messages = warning;
CREATE VIEW long_stays WITH (pipeline.continuous) AS
SELECT person, lower(s) AS since, upper(s) - lower(s) AS long, n, rank() OVER (PARTITION BY s ORDER BY n DESC) AS place
FROM (SELECT person, pipeline.session(at, '10 seconds') AS s, count(*) AS n FROM visits WHERE id < 9 GROUP BY 1, 2 HAVING count(*) > 1) t;
CREATE VIEW busy WITH (pipeline.continuous) AS
SELECT lower(pipeline.session(at, '3 seconds')) AS since, upper(pipeline.session(at, '3 seconds')) AS until, avg(ms) AS ms
FROM visits WHERE id < 9 GROUP BY pipeline.session(at, '3 seconds');
CREATE VIEW who WITH (pipeline.continuous) AS
SELECT DISTINCT person, s FROM visits v, pipeline.session(v.at, '10 seconds') AS s WHERE id < 9;
RESET client_min_messages;
SELECT pipeline.advance_watermark('visits', 'infinity');
SELECT bool_and(pipeline.wait_for(v)) FROM unnest('{long_stays,busy,who}'::regclass[]) v;
SELECT * FROM long_stays ORDER BY person;
SELECT * FROM busy ORDER BY since;
SELECT * FROM who ORDER BY person, s;
DROP VIEW long_stays, busy, who;

-- what cannot be worked up event by event: sessions keep their rows
CREATE VIEW trails WITH (pipeline.continuous) AS
SELECT person, pipeline.session(at, '10 seconds') AS s, string_agg(id::text, ',' ORDER BY at) AS trail, count(DISTINCT page) AS pages, count(*) AS n
FROM visits WHERE id < 9 GROUP BY person, s HAVING count(*) > 0;
SELECT pipeline.explain('trails');
SET client_min_messages = warning;
CREATE VIEW ranked WITH (pipeline.continuous) AS
SELECT person, upper(s) AS until, id, r FROM (
  SELECT person, s, id, row_number() OVER (PARTITION BY person, s ORDER BY at) AS r
  FROM (SELECT person, pipeline.session(at, '10 seconds') AS s, id, at FROM visits WHERE id < 9) a) b;
CREATE VIEW first_of WITH (pipeline.continuous) AS
SELECT DISTINCT ON (person, pipeline.session(at, '10 seconds')) person, id, pipeline.session(at, '10 seconds') AS s FROM visits WHERE id < 9
ORDER BY person, pipeline.session(at, '10 seconds'), at DESC;
RESET client_min_messages;
SELECT bool_and(pipeline.wait_for(v)) FROM unnest('{trails,ranked,first_of}'::regclass[]) v;
SELECT bool_and(pg_terminate_backend(pid)) FROM (SELECT DISTINCT pid FROM pipeline.stat_views WHERE pid IS NOT NULL) p;
SELECT pipeline.advance_watermark('visits', 'infinity');
SELECT bool_and(pipeline.wait_for(v)) FROM unnest('{trails,ranked,first_of}'::regclass[]) v;
SELECT * FROM trails ORDER BY person, s;
SELECT * FROM ranked ORDER BY person, until, r;
SELECT * FROM first_of ORDER BY person, s;
SELECT bool_and(pipeline.verify_state(v)) FROM unnest('{trails,ranked,first_of}'::regclass[]) v;
DROP VIEW trails, ranked, first_of;

-- refused
CREATE VIEW no WITH (pipeline.continuous) AS SELECT person, page, count(*) FROM visits GROUP BY GROUPING SETS ((person, pipeline.session(at, '10 seconds')), (page, pipeline.session(at, '10 seconds')));
CREATE VIEW no WITH (pipeline.continuous) AS SELECT rank() OVER (PARTITION BY person, pipeline.session(at, '1 minute') ORDER BY id), rank() OVER (PARTITION BY page, pipeline.session(at, '1 minute') ORDER BY id) FROM visits;
CREATE VIEW no WITH (pipeline.continuous) AS SELECT person, pipeline.session(at, '10 seconds') FROM visits;
CREATE VIEW no WITH (pipeline.continuous) AS SELECT person, count(*) FROM visits WHERE lower(pipeline.session(at, '10 seconds')) > '2024-01-01' GROUP BY person, pipeline.session(at, '10 seconds');
CREATE VIEW no WITH (pipeline.continuous) AS SELECT person, count(*) FROM visits GROUP BY person, pipeline.session(at, '0');
CREATE VIEW no WITH (pipeline.continuous) AS SELECT person, count(*) FROM visits GROUP BY person, pipeline.session(at, '1 month');
CREATE VIEW no WITH (pipeline.continuous) AS SELECT person, count(*) FROM visits GROUP BY person, pipeline.session(now(), '1 minute');
CREATE VIEW no WITH (pipeline.continuous) AS SELECT count(*) FROM visits GROUP BY pipeline.session(at, '1 minute'), pipeline.session(at, '2 minutes');
CREATE VIEW no WITH (pipeline.continuous) AS SELECT person, max(n) FROM (
  SELECT person, pipeline.session(at, '10 seconds') AS s, count(*) AS n FROM visits GROUP BY 1, 2) t GROUP BY person;
-- sessions of two persons may begin together, and end at other times
CREATE VIEW no WITH (pipeline.continuous) AS SELECT lower(s), max(n) FROM (
  SELECT person, pipeline.session(at, '10 seconds') AS s, count(*) AS n FROM visits GROUP BY 1, 2) t GROUP BY 1;
CREATE VIEW no WITH (pipeline.continuous) AS SELECT DISTINCT lower(pipeline.session(at, '10 seconds')), count(*) FROM visits
  GROUP BY person, pipeline.session(at, '10 seconds');
CREATE VIEW no WITH (pipeline.continuous) AS SELECT a.person, b.person AS other FROM
  (SELECT person, pipeline.session(at, '10 seconds') AS s, count(*) AS n FROM visits GROUP BY 1, 2) a JOIN
  (SELECT person, pipeline.session(at, '10 seconds') AS s, count(*) AS n FROM visits GROUP BY 1, 2) b ON lower(a.s) = lower(b.s);
BEGIN;
CREATE VIEW yes WITH (pipeline.continuous) AS SELECT person, lower(pipeline.session(at, '10 seconds')) AS since, count(*) FROM visits GROUP BY 1, 2;
ROLLBACK;
DROP FOREIGN TABLE visits;
DROP FUNCTION at;
