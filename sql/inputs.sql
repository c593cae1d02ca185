-- A stream that is read several times: joins, unions and comparisons of windowed inputs.
SET TimeZone = 'UTC';
SET client_min_messages = warning;
CREATE FOREIGN TABLE acts (id int, kind text, who text, what int, at timestamptz)
  SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '5 seconds', idle_timeout 'off');
CREATE TABLE past_acts (id int, kind text, who text, what int, at timestamptz);
CREATE TABLE people (who text, name text);
INSERT INTO people VALUES ('p1', 'One'), ('p2', 'Two'), ('p3', 'Three');
INSERT INTO past_acts SELECT i, CASE i % 5 WHEN 0 THEN 'person' WHEN 1 THEN 'auction' WHEN 2 THEN 'auction' ELSE 'bid' END, 'p' || i * 7 % 6, i * 31 % 50,
  timestamptz '2024-01-01 00:00:00+00' + (i * 0.7 - i * 13 % 7 * 0.5) * interval '1 second' FROM generate_series(1, 300) i;

CREATE TABLE queries (id int PRIMARY KEY, query text);
INSERT INTO queries VALUES
(1, $$SELECT p.who, p.w, a.n FROM
  (SELECT who, pipeline.tumble(at, '10 seconds') AS w FROM {S} WHERE kind = 'person' GROUP BY 1, 2) p
  JOIN (SELECT who, pipeline.tumble(at, '10 seconds') AS w, count(*) AS n FROM {S} WHERE kind = 'auction' GROUP BY 1, 2) a USING (who, w)$$),
(2, $$SELECT a.who, lower(pipeline.tumble(a.at, '10 seconds')) AS since, a.id, b.what FROM {S} a JOIN {S} b
  ON a.who = b.who AND pipeline.tumble(a.at, '10 seconds') = pipeline.tumble(b.at, '10 seconds') WHERE a.kind = 'auction' AND b.kind = 'bid' AND b.what > a.what$$),
(3, $$SELECT p.who, p.w, a.n FROM (SELECT DISTINCT who, date_trunc('minute', at) AS w FROM {S} WHERE kind = 'person') p
  LEFT JOIN (SELECT who, date_trunc('minute', at) AS w, count(*) AS n FROM {S} WHERE kind = 'bid' AND what > 45 GROUP BY 1, 2) a ON a.who = p.who AND a.w = p.w$$),
(4, $$SELECT w, x.n AS people, y.n AS bids FROM (SELECT pipeline.tumble(at, '3 seconds') AS w, count(*) AS n FROM {S} WHERE kind = 'person' GROUP BY 1) x
  FULL JOIN (SELECT pipeline.tumble(at, '3 seconds') AS w, count(*) AS n FROM {S} WHERE kind = 'bid' GROUP BY 1) y USING (w)$$),
(5, $$SELECT w, sum(points) AS points, count(*) AS n FROM (SELECT pipeline.tumble(at, '10 seconds') AS w, what AS points FROM {S} WHERE kind = 'bid'
  UNION ALL SELECT pipeline.tumble(at, '10 seconds'), 100 FROM {S} WHERE kind = 'person') u GROUP BY w$$),
(6, $$SELECT who, w FROM (SELECT who, pipeline.tumble(at, '10 seconds') AS w FROM {S} WHERE kind = 'person'
  EXCEPT SELECT who, pipeline.tumble(at, '10 seconds') FROM {S} WHERE kind = 'bid') d$$),
(7, $$WITH c AS (SELECT who, pipeline.tumble(at, '20 seconds') AS w, count(*) AS n FROM {S} GROUP BY 1, 2)
  SELECT c.who, c.w, c.n, m.most, round(c.n / m.total, 3) AS share FROM c JOIN (SELECT w, max(n) AS most, sum(n) AS total FROM c GROUP BY w) m USING (w) WHERE c.n = m.most$$),
(8, $$SELECT t.name, pipeline.tumble(a.at, '10 seconds') AS w, count(DISTINCT b.id) AS n FROM {S} a JOIN people t USING (who), {S} b
  WHERE upper(pipeline.tumble(a.at, '10 seconds')) = upper(pipeline.tumble(b.at, '10 seconds')) AND a.kind = 'person' AND b.kind = 'bid' GROUP BY 1, 2$$),
(9, $$SELECT coalesce(x.w, y.w) AS w, count(*) AS n, array_agg(DISTINCT y.who) AS who FROM (SELECT who, pipeline.tumble(at, '3 seconds') AS w FROM {S} WHERE kind = 'person') x
  FULL JOIN (SELECT who, pipeline.tumble(at, '3 seconds') AS w FROM {S} WHERE kind = 'auction') y ON x.w = y.w AND x.who = y.who GROUP BY coalesce(x.w, y.w)$$),
(10, $$WITH c AS (SELECT who, pipeline.tumble(at, '20 seconds') AS w, count(*) AS n FROM {S} GROUP BY 1, 2)
  SELECT who, w, n, round(n / (SELECT sum(n) FROM c o WHERE o.w = c.w), 3) AS share FROM c WHERE n > (SELECT avg(n) FROM c o WHERE c.w = o.w AND o.who <> c.who)$$),
(11, $$SELECT who, w, n FROM (SELECT who, pipeline.tumble(at, '10 seconds') AS w, count(*) AS n FROM {S} WHERE kind = 'auction' GROUP BY 1, 2) c
  WHERE (who, w) NOT IN (SELECT who, pipeline.tumble(at, '10 seconds') FROM {S} WHERE kind = 'person')$$),
(12, $$SELECT a.id, pipeline.tumble(a.at, '10 seconds') AS w FROM {S} a WHERE a.kind = 'bid' AND NOT EXISTS
  (SELECT FROM {S} b WHERE b.kind = 'auction' AND b.who = a.who AND pipeline.tumble(a.at, '10 seconds') = pipeline.tumble(b.at, '10 seconds'))$$),
(13, $$SELECT t.w, l.who, l.n FROM (SELECT pipeline.tumble(at, '20 seconds') AS w FROM {S} GROUP BY 1) t,
  LATERAL (SELECT who, n FROM (SELECT who, pipeline.tumble(at, '20 seconds') AS w, count(*) AS n FROM {S} GROUP BY 1, 2) c WHERE c.w = t.w ORDER BY n DESC, who LIMIT 2) l$$),
(14, $$SELECT a.w, a.id, b.id AS other FROM (SELECT id, what, pipeline.hop(at, '10 seconds', '5 seconds') AS w FROM {S} WHERE kind = 'auction') a
  JOIN (SELECT id, what, pipeline.hop(at, '10 seconds', '5 seconds') AS w FROM {S} WHERE kind = 'bid') b ON a.w = b.w AND a.id % 3 = b.id % 3 AND b.what > a.what$$),
(15, $$SELECT who, w, sum(n) AS n, grouping(who) AS g FROM (SELECT who, pipeline.hop(at, '10 seconds', '5 seconds') AS w, count(*) AS n FROM {S} WHERE kind = 'bid' GROUP BY 1, 2) a
  JOIN (SELECT who, pipeline.hop(at, '10 seconds', '5 seconds') AS w, max(what) AS m FROM {S} WHERE kind = 'auction' GROUP BY 1, 2) b USING (who, w) GROUP BY w, ROLLUP (who)$$),
(16, $$SELECT w, x.n AS x, y.n AS y, z.n AS z FROM (SELECT pipeline.tumble(at, '2 seconds') AS w, count(*) AS n FROM {S} WHERE kind = 'person' GROUP BY 1) x
  FULL JOIN (SELECT pipeline.tumble(at, '2 seconds') AS w, count(*) AS n FROM {S} WHERE kind = 'bid' GROUP BY 1) y USING (w)
  FULL JOIN (SELECT pipeline.tumble(at, '2 seconds') AS w, count(*) AS n FROM {S} WHERE kind = 'auction' GROUP BY 1) z USING (w)$$),
(17, $$SELECT DISTINCT ON (w) w, b.who, a.n AS a, b.n AS b, rank() OVER (PARTITION BY w ORDER BY b.n DESC, who) AS r FROM (SELECT who, pipeline.tumble(at, '10 seconds') AS w, count(*) AS n FROM {S} WHERE kind = 'person' GROUP BY 1, 2) a
  RIGHT JOIN (SELECT who, pipeline.tumble(at, '10 seconds') AS w, count(*) AS n FROM {S} WHERE kind = 'bid' GROUP BY 1, 2) b USING (who, w) ORDER BY w, r$$),
(18, $$(SELECT who, pipeline.tumble(at, '10 seconds') AS w FROM {S} WHERE kind = 'bid' UNION ALL SELECT who, pipeline.tumble(at, '10 seconds') AS w FROM {S} WHERE kind = 'person')
  EXCEPT ALL SELECT who, pipeline.tumble(at, '10 seconds') FROM {S} WHERE kind = 'auction'$$),
(19, $$SELECT a.w, a.who, p.name FROM (SELECT DISTINCT who, lower(pipeline.cumulate(at, '20 seconds', '5 seconds')) AS s, pipeline.cumulate(at, '20 seconds', '5 seconds') AS w FROM {S} WHERE kind = 'person') a
  JOIN (SELECT who, pipeline.cumulate(at, '20 seconds', '5 seconds') AS w, count(*) AS n FROM {S} GROUP BY 1, 2) b ON a.w = b.w AND a.who = b.who LEFT JOIN people p ON p.who = a.who$$);
DO $$ DECLARE q record; BEGIN
  FOR q IN TABLE queries ORDER BY id LOOP
    EXECUTE format('CREATE VIEW i_%s WITH (pipeline.continuous) AS %s', q.id, replace(q.query, '{S}', 'acts'));
  END LOOP; END $$;
-- such a view read by another one, and a view read in two places
CREATE VIEW above WITH (pipeline.continuous) AS SELECT pipeline.tumble(upper(w) - interval '1 microsecond', '30 seconds') AS w, sum(people) AS people, sum(bids) AS bids FROM i_4 GROUP BY 1;
CREATE VIEW above_twice WITH (pipeline.continuous) AS SELECT w, a.n AS n_a, b.n AS n_b
  FROM (SELECT pipeline.tumble(upper(w) - interval '1 microsecond', '30 seconds') AS w, count(*) AS n FROM i_4 WHERE people > 0 GROUP BY 1) a
  JOIN (SELECT pipeline.tumble(upper(w) - interval '1 microsecond', '30 seconds') AS w, count(*) AS n FROM i_4 WHERE bids > 1 GROUP BY 1) b USING (w);
RESET client_min_messages;
SELECT pipeline.explain('i_1');
CREATE FUNCTION check_inputs(until interval) RETURNS TABLE (id int, differ bigint, n bigint) LANGUAGE plpgsql AS $$ DECLARE q record; BEGIN
  FOR q IN TABLE queries ORDER BY queries.id LOOP
    IF NOT pipeline.wait_for(('i_' || q.id)::regclass) OR NOT pipeline.verify_state(('i_' || q.id)::regclass) THEN RAISE 'not %', q.id; END IF;
    RETURN QUERY EXECUTE format('WITH v AS MATERIALIZED (TABLE i_%1$s), b AS MATERIALIZED (%2$s)
      SELECT %1$s, (SELECT count(*) FROM (TABLE v EXCEPT ALL TABLE b) d) + (SELECT count(*) FROM (TABLE b EXCEPT ALL TABLE v) d), (SELECT count(*) FROM v)', q.id,
      replace(q.query, '{S}', 'past_acts'));
  END LOOP; END $$;
INSERT INTO acts SELECT * FROM past_acts WHERE id <= 100 ORDER BY id;
SELECT bool_and(pipeline.wait_for(('i_' || id)::regclass)) FROM queries;
SELECT bool_and(pg_terminate_backend(pid)) FROM (SELECT DISTINCT pid FROM pipeline.stat_views WHERE pid IS NOT NULL) p;
INSERT INTO acts SELECT * FROM past_acts WHERE id > 100 ORDER BY id;
SELECT pipeline.advance_watermark('acts', 'infinity');
SELECT * FROM check_inputs('1 minute');
SELECT pipeline.wait_for('above'), pipeline.wait_for('above_twice'), pipeline.verify_state('above_twice');
SELECT (SELECT count(*) FROM (SELECT pipeline.tumble(lower(w), '30 seconds') AS w, sum(people) AS people, sum(bids) AS bids FROM i_4 GROUP BY 1 EXCEPT ALL TABLE above) d) AS differ, count(*) AS n FROM above;
SELECT (SELECT count(*) FROM (SELECT pipeline.tumble(lower(w), '30 seconds') AS w, count(*) FILTER (WHERE people > 0) AS n_a, count(*) FILTER (WHERE bids > 1) AS n_b FROM i_4 GROUP BY 1 EXCEPT ALL TABLE above_twice) d) AS differ, count(*) AS n FROM above_twice;
SELECT sum(late) FROM pipeline.stat_views WHERE view::text LIKE 'i\__';

-- refused: what would bring windows together
CREATE VIEW no WITH (pipeline.continuous) AS SELECT a.id FROM acts a JOIN acts b USING (who);
CREATE VIEW no WITH (pipeline.continuous) AS SELECT a.id FROM acts a JOIN acts b USING (who) WHERE pipeline.tumble(a.at, '1 minute') <> pipeline.tumble(b.at, '1 minute');
CREATE VIEW no WITH (pipeline.continuous) AS SELECT a.id FROM acts a JOIN acts b ON pipeline.tumble(a.at, '1 minute') = pipeline.tumble(b.at, '2 minutes');
CREATE VIEW no WITH (pipeline.continuous) AS SELECT a.id FROM acts a JOIN acts b ON lower(pipeline.tumble(a.at, '1 minute')) = upper(pipeline.tumble(b.at, '1 minute'));
CREATE VIEW no WITH (pipeline.continuous) AS SELECT a.who, count(*) FROM acts a JOIN acts b ON pipeline.tumble(a.at, '1 minute') = pipeline.tumble(b.at, '1 minute') GROUP BY a.who;
CREATE VIEW no WITH (pipeline.continuous) AS SELECT y.w, count(*) FROM (SELECT pipeline.tumble(at, '1 minute') AS w FROM acts) x
  LEFT JOIN (SELECT pipeline.tumble(at, '1 minute') AS w FROM acts) y USING (w) GROUP BY y.w;
CREATE VIEW no WITH (pipeline.continuous) AS SELECT a.id FROM acts a LEFT JOIN acts b USING (who) LEFT JOIN acts c
  ON pipeline.tumble(a.at, '1 minute') = pipeline.tumble(c.at, '1 minute') AND pipeline.tumble(b.at, '1 minute') = pipeline.tumble(c.at, '1 minute');
CREATE VIEW no WITH (pipeline.continuous) AS SELECT t.who, a.id FROM people t LEFT JOIN (acts a JOIN acts b ON pipeline.tumble(a.at, '1 minute') = pipeline.tumble(b.at, '1 minute')) ON a.who = t.who;
CREATE VIEW no WITH (pipeline.continuous) AS SELECT who FROM acts WHERE kind = 'bid' UNION SELECT who FROM acts WHERE kind = 'person';
CREATE VIEW no WITH (pipeline.continuous) AS SELECT who, pipeline.tumble(at, '1 minute') AS w FROM acts UNION SELECT who, pipeline.tumble(at, '1 minute') FROM acts WHERE id > 5 UNION SELECT who, NULL FROM people;
CREATE VIEW no WITH (pipeline.continuous) AS SELECT w, count(*) FROM (SELECT pipeline.tumble(at, '1 minute') AS w FROM acts UNION ALL SELECT NULL FROM acts) u GROUP BY w;
CREATE VIEW no WITH (pipeline.continuous) AS SELECT who, pipeline.tumble(at, '1 minute') AS w FROM acts a WHERE EXISTS (SELECT FROM acts b WHERE b.who = a.who);
CREATE VIEW no WITH (pipeline.continuous) AS SELECT w FROM (SELECT id, pipeline.hop(at, '1 minute', '30 seconds') AS w FROM acts) a JOIN (SELECT id, pipeline.hop(at, '1 minute', '20 seconds') AS w FROM acts) b USING (w);
CREATE VIEW no WITH (pipeline.continuous) AS SELECT w, a.id FROM acts a, pipeline.hop(a.at, '1 minute', '30 seconds') w JOIN (SELECT id, pipeline.hop(at, '1 minute', '30 seconds') AS w FROM acts) b USING (w);
CREATE VIEW no WITH (pipeline.continuous) AS WITH c AS (SELECT who, pipeline.tumble(at, '1 minute') AS w, count(*) AS n FROM acts GROUP BY 1, 2) SELECT who, w, n / (SELECT sum(n) FROM c) FROM c;
CREATE VIEW no WITH (pipeline.continuous) AS WITH c AS (SELECT who, pipeline.tumble(at, '1 minute') AS w, count(*) AS n FROM acts GROUP BY 1, 2) SELECT who, w, n FROM c WHERE n > (SELECT avg(n) FROM c o WHERE o.who = c.who);
CREATE VIEW no WITH (pipeline.continuous) AS WITH c AS (SELECT who, pipeline.tumble(at, '1 minute') AS w, count(*) AS n FROM acts GROUP BY 1, 2) SELECT who, w FROM c WHERE who IN (SELECT who FROM c WHERE n > 3);
CREATE VIEW no WITH (pipeline.continuous) AS WITH c AS (SELECT who, pipeline.tumble(at, '1 minute') AS w, count(*) AS n FROM acts GROUP BY 1, 2) SELECT c.who, c.w, l.who FROM c, LATERAL (SELECT * FROM c o WHERE o.n > c.n ORDER BY n LIMIT 1) l;
CREATE VIEW no WITH (pipeline.continuous) AS WITH c AS (SELECT who, pipeline.tumble(at, '1 minute') AS w, count(*) AS n FROM acts GROUP BY 1, 2) SELECT w, rank() OVER (ORDER BY c.n) FROM c JOIN c o USING (w);
CREATE VIEW no WITH (pipeline.continuous) AS WITH c AS (SELECT who, pipeline.tumble(at, '1 minute') AS w, count(*) AS n FROM acts GROUP BY 1, 2) SELECT w, sum(c.n) FROM c JOIN c o USING (w) GROUP BY ROLLUP (w);
CREATE VIEW no WITH (pipeline.continuous) AS WITH c AS (SELECT who, count(*) AS n FROM acts GROUP BY 1) SELECT * FROM c JOIN c o USING (who);
CREATE VIEW no WITH (pipeline.continuous) AS WITH c AS (SELECT who, pipeline.tumble(at, '1 minute') AS w, count(*) AS n FROM acts GROUP BY 1, 2) SELECT name, (SELECT max(n) FROM c WHERE c.who = p.who), (SELECT min(n) FROM c WHERE c.who = p.who) FROM people p;
CREATE VIEW no WITH (pipeline.continuous) AS WITH c AS (SELECT who, pipeline.tumble(at, '1 minute') AS w, count(*) AS n FROM acts GROUP BY 1, 2) SELECT w, now() AS seen FROM c JOIN c o USING (w);
CREATE VIEW no WITH (pipeline.continuous, pipeline.allowed_lateness = '1 minute') AS WITH c AS (SELECT who, pipeline.tumble(at, '1 minute') AS w, count(*) AS n FROM acts GROUP BY 1, 2) SELECT c.who, w FROM c JOIN c o USING (w);
CREATE VIEW no WITH (pipeline.continuous) AS WITH c AS (SELECT who, pipeline.count_window(10) AS w, count(*) AS n FROM acts GROUP BY 1, 2) SELECT c.who, w FROM c JOIN c o USING (w);
CREATE VIEW no WITH (pipeline.continuous) AS SELECT a.id FROM (SELECT id, pipeline.session(at, '1 minute') AS w FROM acts) a JOIN (SELECT id, pipeline.session(at, '1 minute') AS w FROM acts) b USING (w);
CREATE VIEW no WITH (pipeline.continuous) AS SELECT a.id, a.ctid FROM acts a JOIN acts b ON pipeline.tumble(a.at, '1 minute') = pipeline.tumble(b.at, '1 minute');
CREATE VIEW no WITH (pipeline.continuous) AS SELECT a FROM acts a JOIN acts b ON pipeline.tumble(a.at, '1 minute') = pipeline.tumble(b.at, '1 minute');
CREATE VIEW no WITH (pipeline.continuous) AS SELECT a.id FROM acts a JOIN acts b ON pipeline.tumble(a.at, '1 minute') = pipeline.tumble(b.at, '1 minute') LIMIT 3;
CREATE VIEW no WITH (pipeline.continuous, pipeline.emit = 'changes') AS SELECT a.id FROM acts a JOIN acts b ON pipeline.tumble(a.at, '1 minute') = pipeline.tumble(b.at, '1 minute');
DROP FOREIGN TABLE acts CASCADE;
DROP TABLE past_acts, people, queries;
DROP FUNCTION check_inputs;
