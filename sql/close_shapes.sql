-- Without this: what can be done with the groups and rows of a window would be applied to the rows of others.
SET TimeZone = 'UTC';
SET client_min_messages = warning;
CREATE FOREIGN TABLE doings (id int, kind text, who text, what int, at timestamptz)
  SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '5 seconds', idle_timeout 'off');
CREATE TABLE past_doings (id int, kind text, who text, what int, at timestamptz);
INSERT INTO past_doings SELECT i, CASE i % 5 WHEN 0 THEN 'person' WHEN 1 THEN 'auction' WHEN 2 THEN 'auction' ELSE 'bid' END, 'p' || i * 7 % 6, i * 31 % 50,
  timestamptz '2024-01-01 00:00:00+00' + (i * 0.7 - i * 13 % 7 * 0.5) * interval '1 second' FROM generate_series(1, 300) i;

CREATE TABLE queries (id int PRIMARY KEY, query text);
INSERT INTO queries VALUES
(1, $$SELECT w, max(n) AS most, min(n) AS least, count(*) AS groups, percentile_cont(0.5) WITHIN GROUP (ORDER BY n) AS median, string_agg(who, ',' ORDER BY n DESC, who) AS list
  FROM (SELECT who, pipeline.tumble(at, '20 seconds') AS w, count(*) AS n FROM {S} GROUP BY 1, 2) c GROUP BY w HAVING count(*) > 2$$),
(2, $$SELECT w, n, count(*) AS groups FROM (SELECT who, kind, pipeline.hop(at, '20 seconds', '10 seconds') AS w, count(*) AS n FROM {S} GROUP BY 1, 2, 3) c GROUP BY w, n$$),
(3, $$SELECT who, w, round(n / sum(n) OVER (PARTITION BY w), 3) AS share, n - lag(n) OVER (PARTITION BY w ORDER BY n, who) AS step
  FROM (SELECT who, pipeline.tumble(at, '20 seconds') AS w, count(*) AS n FROM {S} GROUP BY 1, 2) c$$),
(4, $$SELECT who, kind, pipeline.tumble(at, '20 seconds') AS w, count(*) AS n, sum(what) AS total, grouping(who, kind) AS g FROM {S} GROUP BY pipeline.tumble(at, '20 seconds'), CUBE (who, kind)$$),
(5, $$SELECT who, w, sum(n) AS n, grouping(who) AS g FROM (SELECT who, kind, pipeline.tumble(at, '20 seconds') AS w, count(*) AS n FROM {S} GROUP BY 1, 2, 3) c GROUP BY GROUPING SETS ((who, w), (w))$$),
(6, $$SELECT DISTINCT ON (w) w, who, n FROM (SELECT who, pipeline.tumble(at, '20 seconds') AS w, count(*) AS n FROM {S} GROUP BY 1, 2) c ORDER BY w, n DESC, who$$),
(7, $$SELECT DISTINCT ON (kind, date_bin('20 seconds', at, '2000-01-01+00')) kind, date_bin('20 seconds', at, '2000-01-01+00') AS since, id, what FROM {S} ORDER BY kind, since, what DESC, id$$),
(8, $$SELECT DISTINCT w, n FROM (SELECT who, pipeline.cumulate(at, '20 seconds', '10 seconds') AS w, count(*) AS n FROM {S} GROUP BY 1, 2) c$$),
(9, $$SELECT * FROM (SELECT kind, who, w, n, rank() OVER (PARTITION BY w, kind ORDER BY n DESC) AS r, first_value(who) OVER (PARTITION BY w ORDER BY n DESC, who, kind) AS best
  FROM (SELECT kind, who, pipeline.tumble(at, '20 seconds') AS w, count(*) AS n FROM {S} GROUP BY 1, 2, 3) c) t WHERE r <= 2$$),
(10, $$SELECT w, max(rate) AS rate FROM (SELECT w, kind, avg(n) AS rate FROM (SELECT who, kind, pipeline.tumble(at, '20 seconds') AS w, count(*) AS n FROM {S} GROUP BY 1, 2, 3) a GROUP BY w, kind) b GROUP BY w$$),
(11, $$SELECT coalesce(who, 'all') AS who, coalesce(kind, 'any') || '!' AS kind, pipeline.tumble(at, '20 seconds') AS w, count(*) AS n FROM {S} GROUP BY pipeline.tumble(at, '20 seconds'), ROLLUP (who, kind) HAVING kind IS NULL AND (who IS NULL OR who > 'p1')$$);
DO $$ DECLARE q record; BEGIN
  FOR q IN TABLE queries ORDER BY id LOOP
    EXECUTE format('CREATE VIEW shape_%s WITH (pipeline.continuous) AS %s', q.id, replace(q.query, '{S}', 'doings'));
  END LOOP; END $$;
CREATE FUNCTION check_shapes() RETURNS TABLE (id int, differ bigint, n bigint) LANGUAGE plpgsql AS $$ DECLARE q record; BEGIN
  FOR q IN TABLE queries ORDER BY queries.id LOOP
    IF NOT pipeline.wait_for(('shape_' || q.id)::regclass) OR NOT pipeline.verify_state(('shape_' || q.id)::regclass) THEN RAISE 'not %', q.id; END IF;
    RETURN QUERY EXECUTE format('WITH v AS MATERIALIZED (TABLE shape_%1$s), b AS MATERIALIZED (%2$s)
      SELECT %1$s, (SELECT count(*) FROM (TABLE v EXCEPT ALL TABLE b) d) + (SELECT count(*) FROM (TABLE b EXCEPT ALL TABLE v) d), (SELECT count(*) FROM v)', q.id,
      replace(q.query, '{S}', 'past_doings'));
  END LOOP; END $$;
INSERT INTO doings SELECT * FROM past_doings ORDER BY id;
SELECT pipeline.advance_watermark('doings', 'infinity');
SELECT * FROM check_shapes();
DROP FOREIGN TABLE doings CASCADE;
DROP TABLE past_doings, queries;
DROP FUNCTION check_shapes;
