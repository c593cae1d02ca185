-- Without this: a query that is split into stage, groups and upper query would mean something else than the same
-- query over a table.
SET timezone = 'UTC';
SET client_min_messages = warning;
CREATE FOREIGN TABLE shape_events (at timestamptz, id int, v int, k text, tags int[], span interval) SERVER pipeline_local
  OPTIONS (event_time 'at', out_of_orderness '0');
CREATE TABLE shape_rows (at timestamptz, id int, v int, k text, tags int[], span interval);
CREATE TABLE shape_names (id int PRIMARY KEY, name text);
CREATE TABLE shape_queries (number int GENERATED ALWAYS AS IDENTITY, query text);
INSERT INTO shape_names SELECT i, 'name ' || i FROM generate_series(1, 10) i;
INSERT INTO shape_rows
SELECT timestamptz '2024-01-01' + i * interval '10 s', i, i % 4, (ARRAY['a', 'b', NULL])[i % 3 + 1],
  CASE WHEN i % 5 > 0 THEN ARRAY[i % 2, i % 3] END, (ARRAY['1 day', '24 hours', '1 mon', '30 days'])[i % 4 + 1]::interval
FROM generate_series(1, 40) i;
INSERT INTO shape_queries (query) VALUES
  ($$SELECT DISTINCT k, 'c' AS c FROM shape_events$$),
  ($$SELECT upper(k) || count(*) AS x, upper(k) AS u, k = 'a' AS y FROM shape_events GROUP BY upper(k), k$$),
  ($$SELECT x.k, sum(x.c) OVER () AS s, x.c FROM (SELECT k, count(*) AS c FROM shape_events GROUP BY k) x$$),
  ($$SELECT k, count(*) AS c FROM shape_events GROUP BY k HAVING count(*) > (SELECT avg(c) FROM (VALUES (1), (3)) w(c))$$),
  ($$SELECT max(v) FILTER (WHERE k = 'a') AS m, count(*) FILTER (WHERE k IS NULL) AS c, corr(v, id) AS r FROM shape_events WHERE v > 1$$),
  ($$SELECT count(*) AS c FROM shape_events WHERE false$$),
  ($$SELECT 1 AS one FROM shape_events HAVING count(*) > 2$$),
  ($$SELECT k, (k, v) = ('a', 1) AS t, count(*) AS c FROM shape_events GROUP BY k, v$$),
  ($$SELECT generate_series(1, count(*)) AS g, k FROM shape_events GROUP BY k$$),
  ($$SELECT unnest(tags) AS u, count(*) AS c FROM shape_events GROUP BY 1$$),
  ($$SELECT justify_days(span) AS days, count(*) AS c FROM shape_events GROUP BY span$$),
  ($$SELECT k, (SELECT max(n.id + 0 * sum(e.v)) FROM shape_names n WHERE n.id <= sum(e.v)) AS m FROM shape_events e GROUP BY k
     HAVING EXISTS (SELECT FROM shape_names n WHERE n.id < count(e.v) AND e.k IS NOT NULL)$$),
  ($$SELECT k, count(*) FILTER (WHERE v IN (SELECT id FROM shape_names)) AS c, sum((SELECT n.id FROM shape_names n WHERE n.id = e.id)) AS s
     FROM shape_events e GROUP BY k$$),
  ($$SELECT id, count(*) AS c FROM shape_events e LEFT JOIN shape_names n USING (id) GROUP BY e.id$$),
  ($$SELECT e.k, l.name FROM shape_events e, LATERAL (SELECT n.name FROM shape_names n WHERE n.id <= e.v ORDER BY n.id DESC LIMIT 2) l$$),
  ($$SELECT e.id, n FROM shape_events e LEFT JOIN shape_names n ON n.id = e.id AND e.v > 1$$),
  ($$SELECT id FROM shape_events WHERE id NOT IN (SELECT id FROM shape_names WHERE id > 5)$$);

DO $$
DECLARE q record;
BEGIN
  FOR q IN SELECT * FROM shape_queries ORDER BY number LOOP
    EXECUTE format('CREATE VIEW shape_%s WITH (pipeline.continuous) AS %s', q.number, q.query);
  END LOOP;
END $$;
INSERT INTO shape_events TABLE shape_rows;
SELECT bool_and(pipeline.wait_for(format('shape_%s', number)::regclass)) FROM shape_queries;
CREATE FUNCTION shape_compare(number int, query text, OUT rows bigint, OUT wrong bigint, OUT missing bigint) LANGUAGE plpgsql AS $$
DECLARE shape text := 'shape_' || number;
BEGIN
  EXECUTE format('SELECT (SELECT count(*) FROM %I), (SELECT count(*) FROM (TABLE %1$I EXCEPT ALL (%s)) d), '
    '(SELECT count(*) FROM ((%2$s) EXCEPT ALL TABLE %1$I) d)', shape, replace(query, 'shape_events', 'shape_rows'))
  INTO rows, wrong, missing;
END $$;
SELECT number, c.* FROM shape_queries, shape_compare(number, query) c ORDER BY number;
\set VERBOSITY terse
DROP FOREIGN TABLE shape_events CASCADE;
DROP TABLE shape_rows, shape_names, shape_queries;
DROP FUNCTION shape_compare;
