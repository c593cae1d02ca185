-- Without this: a view over another one whose rows change would keep what was made of earlier states
-- of its rows, or take back what was never there; or would show windows before their rows are final.
SET timezone = 'UTC';

CREATE FUNCTION ca_same(got text, want text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE g bigint; a bigint; b bigint;
BEGIN
  PERFORM pipeline.wait_for(got::regclass, '60 seconds');
  EXECUTE format('SELECT count(*) FROM %s', got) INTO g;
  EXECUTE format('SELECT count(*) FROM (SELECT * FROM %s EXCEPT ALL (%s)) d', got, want) INTO a;
  EXECUTE format('SELECT count(*) FROM ((%s) EXCEPT ALL SELECT * FROM %s) d', want, got) INTO b;
  RETURN CASE WHEN g > 0 AND a = 0 AND b = 0 THEN 'same' ELSE format('%s rows, %s too many, %s missing', g, a, b) END;
END $$;

CREATE FOREIGN TABLE ca_orders (customer int, category text, price numeric, n int, ok bool, pause interval)
  SERVER pipeline_local;
CREATE VIEW ca_customers WITH (pipeline.continuous) AS
SELECT customer, count(*) AS orders, sum(n) AS n, max(price) AS best, bool_and(ok) AS ok, max(pause) AS pause FROM ca_orders GROUP BY customer;
INSERT INTO ca_orders SELECT i % 5, 'c' || i % 3, i / 4.0, CASE WHEN i % 7 > 0 THEN i END, i % 11 > 0, i * interval '1 minute' FROM generate_series(1, 12) i;
SELECT pipeline.wait_for('ca_customers', '30 seconds');

-- customers per number of orders; it begins with the rows that there are
CREATE VIEW ca_histogram WITH (pipeline.continuous) AS SELECT orders, count(*) AS customers FROM ca_customers GROUP BY orders;
SELECT pipeline.wait_for('ca_histogram', '30 seconds');
SELECT * FROM ca_histogram ORDER BY orders;
SELECT array_to_string(array(SELECT line FROM pipeline.explain('ca_histogram') line LIMIT 1), '') AS explain;
-- a total; without GROUP BY there is always a row
CREATE VIEW ca_total WITH (pipeline.continuous) AS SELECT sum(n) AS n, sum(orders) AS orders, avg(best) AS best, count(n) AS known FROM ca_customers;
-- average of maxima: Nexmark's q4
CREATE VIEW ca_best WITH (pipeline.continuous) AS SELECT category, customer, max(price) AS price FROM ca_orders GROUP BY category, customer;
CREATE VIEW ca_average WITH (pipeline.continuous) AS SELECT category, avg(price) AS price, sum(price) AS total, count(*) AS n FROM ca_best GROUP BY category;
-- whatever has an inverse, and FILTER
CREATE VIEW ca_kinds WITH (pipeline.continuous) AS
SELECT orders % 2 AS odd, count(*) FILTER (WHERE n > 20) AS large, sum(orders::int4) AS i4, avg(orders::int2) AS i2, avg(n) AS i8, bool_and(ok) AS a, bool_or(ok) AS o, every(n > 10) AS e,
  sum(pause) AS p, avg(pause) AS ap, stddev(orders::int4) AS dev, var_pop(n) AS v, sum(orders::money) AS m, sum(best) FILTER (WHERE ok) AS okbest
FROM ca_customers GROUP BY orders % 2;
-- DISTINCT: rows that appear and disappear
CREATE VIEW ca_distinct WITH (pipeline.continuous) AS SELECT DISTINCT best > 5 AS big, ok FROM ca_customers;
-- HAVING and expressions of the view below, which has fewer rows than groups; HAVING above
CREATE VIEW ca_some WITH (pipeline.continuous) AS SELECT 'x' || customer AS who, count(*) * 10 AS tens, sum(n)::text AS n FROM ca_orders GROUP BY customer HAVING count(*) BETWEEN 3 AND 100;
CREATE VIEW ca_over_some WITH (pipeline.continuous) AS SELECT tens / 10 AS orders, count(*) AS c, sum(n::int) + 1 AS n1 FROM ca_some WHERE who <> 'x0' GROUP BY tens HAVING count(*) > 1;
-- a third level, and one row for each row
CREATE VIEW ca_third WITH (pipeline.continuous) AS SELECT customers, count(*) AS c, sum(orders) AS s FROM ca_histogram GROUP BY customers;
CREATE VIEW ca_spread WITH (pipeline.continuous) AS SELECT u, count(*) AS c FROM (SELECT unnest(ARRAY[orders, orders + 1]) AS u FROM ca_customers) x GROUP BY u;
-- a UNION ALL of two of them
CREATE VIEW ca_union WITH (pipeline.continuous) AS SELECT w, count(*) AS c FROM (SELECT customer::text AS w FROM ca_customers UNION ALL SELECT who FROM ca_some) x GROUP BY w;

CREATE FUNCTION ca_check() RETURNS TABLE (view text, result text) LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pipeline.wait_for('ca_third', '60 seconds');
  RETURN QUERY SELECT v, ca_same(v, q) FROM (VALUES
    ('ca_histogram', 'SELECT orders, count(*) FROM ca_customers GROUP BY orders'),
    ('ca_total', 'SELECT sum(n), sum(orders), avg(best), count(n) FROM ca_customers'),
    ('ca_average', 'SELECT category, avg(price), sum(price), count(*) FROM ca_best GROUP BY category'),
    ('ca_kinds', 'SELECT orders % 2, count(*) FILTER (WHERE n > 20), sum(orders::int4), avg(orders::int2), avg(n), bool_and(ok), bool_or(ok), every(n > 10), sum(pause), avg(pause),
      stddev(orders::int4), var_pop(n), sum(orders::money), sum(best) FILTER (WHERE ok) FROM ca_customers GROUP BY orders % 2'),
    ('ca_distinct', 'SELECT DISTINCT best > 5, ok FROM ca_customers'),
    ('ca_over_some', $q$SELECT tens / 10, count(*), sum(n::int) + 1 FROM ca_some WHERE who <> 'x0' GROUP BY tens HAVING count(*) > 1$q$),
    ('ca_third', 'SELECT customers, count(*), sum(orders) FROM ca_histogram GROUP BY customers'),
    ('ca_spread', 'SELECT unnest(ARRAY[orders, orders + 1]) u, count(*) FROM ca_customers GROUP BY u'),
    ('ca_union', 'SELECT w, count(*) FROM (SELECT customer::text AS w FROM ca_customers UNION ALL SELECT who FROM ca_some) x GROUP BY w')) t (v, q)
    WHERE ca_same(v, q) <> 'same';
END $$;
SELECT * FROM ca_check();
SELECT * FROM ca_histogram ORDER BY orders;
DO $$ BEGIN FOR i IN 1..20 LOOP INSERT INTO ca_orders SELECT i * j % 9, 'c' || j % 4, (i * j % 31) / 8.0, CASE WHEN j % 3 > 0 THEN i - 7 END, i % 5 > 0, j * interval '1 month' - i * interval '1 hour' FROM generate_series(1, i % 4 + 1) j; END LOOP; END $$;
SELECT * FROM ca_check();
INSERT INTO ca_orders SELECT i % 40, 'c' || i % 6, i % 300 / 16.0, nullif(i % 5, 0), i % 100 > 0, '1 day' FROM generate_series(1, 3000) i;
SELECT * FROM ca_check();
-- the scale of a sum is that of its values
CREATE VIEW ca_scales WITH (pipeline.continuous) AS SELECT ok, sum(best) AS s, avg(best) AS a FROM ca_customers GROUP BY ok;
INSERT INTO ca_orders VALUES (1000, 'd', 1000.12345, 1, true, NULL);
SELECT pipeline.wait_for('ca_scales', '30 seconds');
INSERT INTO ca_orders VALUES (1000, 'd', 2000, 1, false, NULL), (1001, 'd', 'NaN', 1, NULL, NULL), (1002, 'd', '-Infinity', 1, NULL, NULL), (1003, 'd', NULL, 1, NULL, NULL);
SELECT pipeline.wait_for('ca_scales', '30 seconds');
SELECT s.ok, s.s::text = q.s::text AS s, s.a::text = q.a::text AS a FROM ca_scales s JOIN (SELECT ok, sum(best) AS s, avg(best) AS a FROM ca_customers GROUP BY ok) q ON q.ok IS NOT DISTINCT FROM s.ok ORDER BY s.ok;
INSERT INTO ca_orders VALUES (1001, 'd', 1, 1, true, NULL), (1002, 'd', 7.25, 1, true, NULL), (1003, 'd', 'Infinity', 1, true, NULL);
SELECT pipeline.wait_for('ca_scales', '30 seconds');
SELECT s.ok, s.s::text = q.s::text AS s, s.a::text = q.a::text AS a FROM ca_scales s JOIN (SELECT ok, sum(best) AS s, avg(best) AS a FROM ca_customers GROUP BY ok) q ON q.ok IS NOT DISTINCT FROM s.ok ORDER BY s.ok;
SELECT * FROM ca_check();
-- keys that come and go for ever leave nothing behind
CREATE VIEW ca_sums WITH (pipeline.continuous) AS SELECT n AS total, count(*) AS c FROM ca_customers GROUP BY n;
DO $$ BEGIN FOR i IN 1..60 LOOP INSERT INTO ca_orders SELECT j, 'c', 1, j * i + 1000, true, NULL FROM generate_series(0, 49) j; PERFORM pipeline.wait_for('ca_sums', '30 seconds'); COMMIT; END LOOP; END $$;
SELECT ca_same('ca_sums', 'SELECT n, count(*) FROM ca_customers GROUP BY n');
SELECT groups < 2000 AS few FROM pipeline.stat_views WHERE view = 'ca_sums'::regclass;
SELECT pipeline.pause('ca_sums');
SELECT pipeline.resume('ca_sums');
INSERT INTO ca_orders SELECT j, 'c', 1, 1, true, NULL FROM generate_series(0, 49) j;
SELECT ca_same('ca_sums', 'SELECT n, count(*) FROM ca_customers GROUP BY n');
SELECT * FROM ca_check();
SELECT view, dead_letters FROM pipeline.stat_views WHERE view::text LIKE 'ca\_%' AND dead_letters > 0;

-- windows that change: readers without windows follow, readers with windows get what is final
CREATE FOREIGN TABLE ca_events (at timestamptz, k int, v int) SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '0', idle_timeout 'off');
CREATE VIEW ca_minutes WITH (pipeline.continuous, pipeline.emit = 'changes') AS
SELECT pipeline.tumble(at, '1 minute') AS w, k, count(*) AS c, sum(v) AS s FROM ca_events GROUP BY w, k;
CREATE VIEW ca_graced WITH (pipeline.continuous, pipeline.allowed_lateness = '10 minutes') AS
SELECT pipeline.tumble(at, '1 minute') AS w, count(*) AS c FROM ca_events GROUP BY w;
INSERT INTO ca_events SELECT timestamptz '2024-01-01' + i * interval '1 second', i % 3, i FROM generate_series(1, 200) i;
CREATE VIEW ca_sessions WITH (pipeline.continuous, pipeline.emit = 'changes', pipeline.allowed_lateness = '1 minute') AS
SELECT k, pipeline.session(at, '30 seconds') AS ses, count(*) AS c FROM ca_events GROUP BY k, ses;
SELECT pipeline.wait_for('ca_minutes', '30 seconds'), pipeline.wait_for('ca_graced', '30 seconds');
CREATE VIEW ca_by_session WITH (pipeline.continuous) AS SELECT k, count(*) AS sessions, sum(c) AS c FROM ca_sessions GROUP BY k;
CREATE VIEW ca_session_ends WITH (pipeline.continuous) AS SELECT pipeline.tumble(upper(ses) - interval '1 microsecond', '5 minutes') AS w, count(*) AS n, sum(c) AS c, max(lower(ses)) AS last FROM ca_sessions GROUP BY w;
CREATE VIEW ca_by_key WITH (pipeline.continuous) AS SELECT k, sum(c) AS c, count(*) AS windows, sum(s) AS s FROM ca_minutes GROUP BY k;
CREATE VIEW ca_by_window WITH (pipeline.continuous) AS SELECT w, count(*) AS keys, sum(c) AS c FROM ca_minutes GROUP BY w;
CREATE VIEW ca_max WITH (pipeline.continuous) AS SELECT w, max(s) AS best, array_agg(k ORDER BY k) AS ks FROM ca_minutes GROUP BY w, pipeline.tumble(upper(w) - interval '1 microsecond', '1 minute');
CREATE VIEW ca_hours WITH (pipeline.continuous) AS SELECT pipeline.hop(upper(w) - interval '1 microsecond', '4 minutes', '2 minutes') AS h, sum(c) AS c, max(s) AS best, count(*) AS n FROM ca_minutes GROUP BY h;
CREATE VIEW ca_graced_hours WITH (pipeline.continuous) AS SELECT pipeline.tumble(upper(w) - interval '1 microsecond', '2 minutes') AS h, sum(c) AS c, max(c) AS best FROM ca_graced GROUP BY h;
CREATE VIEW ca_graced_total WITH (pipeline.continuous) AS SELECT count(*) AS n, sum(c) AS c FROM ca_graced;
CREATE FUNCTION ca_check_windows() RETURNS TABLE (view text, result text) LANGUAGE sql AS $$
  SELECT v, ca_same(v, q) FROM (VALUES
    ('ca_by_key', 'SELECT k, sum(c), count(*), sum(s) FROM ca_minutes GROUP BY k'),
    ('ca_by_window', 'SELECT w, count(*), sum(c) FROM ca_minutes GROUP BY w'),
    ('ca_max', $q$SELECT w, max(s), array_agg(k ORDER BY k) FROM ca_minutes WHERE upper(w) <= pipeline.watermark('ca_minutes') GROUP BY w$q$),
    ('ca_hours', $q$SELECT h, sum(c), max(s), count(*) FROM ca_minutes, pipeline.hop(upper(w) - interval '1 microsecond', '4 minutes', '2 minutes') AS h WHERE upper(h) <= pipeline.watermark('ca_minutes') GROUP BY h$q$),
    ('ca_graced_hours', $q$SELECT h, sum(c), max(c) FROM (SELECT *, pipeline.tumble(upper(w) - interval '1 microsecond', '2 minutes') AS h FROM ca_graced) x WHERE upper(h) <= pipeline.watermark('ca_graced') - interval '10 minutes' GROUP BY h$q$),
    ('ca_by_session', 'SELECT k, count(*), sum(c) FROM ca_sessions GROUP BY k'),
    ('ca_session_ends', $q$SELECT w, count(*), sum(c), max(lower(ses)) FROM (SELECT *, pipeline.tumble(upper(ses) - interval '1 microsecond', '5 minutes') AS w FROM ca_sessions) x WHERE upper(w) < pipeline.watermark('ca_sessions') - interval '1 minute' GROUP BY w$q$),
    ('ca_graced_total', 'SELECT count(*), sum(c) FROM ca_graced')) t (v, q)
$$;
INSERT INTO ca_events SELECT timestamptz '2024-01-01' + (i + i / 50 * 40) * interval '1 second', i % 3, i FROM generate_series(140, 700) i;
SELECT * FROM ca_check_windows();
INSERT INTO ca_events SELECT timestamptz '2024-01-01' + i * interval '1 second', i % 3, i FROM generate_series(1230, 1500) i;
SELECT * FROM ca_check_windows();
-- late ones are admitted below for ten minutes
INSERT INTO ca_events SELECT timestamptz '2024-01-01' + i * interval '1 second', 1, 1 FROM generate_series(1600, 1000, -25) i;
SELECT * FROM ca_check_windows();
INSERT INTO ca_events SELECT timestamptz '2024-01-01' + i * interval '1 second', i % 4, i FROM generate_series(1601, 2600) i;
SELECT * FROM ca_check_windows();
SELECT pipeline.watermark('ca_minutes') AS minutes, pipeline.watermark('ca_max') AS max, pipeline.watermark('ca_graced') AS graced, pipeline.watermark('ca_graced_hours') AS graced_hours;
SELECT count(*) AS late FROM ca_hours_late;
SELECT gives, count(*) FROM pipeline_data.feeds GROUP BY gives ORDER BY gives;

-- refused
\set VERBOSITY default
CREATE VIEW ca_bad WITH (pipeline.continuous) AS SELECT customer, orders FROM ca_customers WHERE orders > 3;
CREATE VIEW ca_bad WITH (pipeline.continuous) AS SELECT orders, max(n) FROM ca_customers GROUP BY orders;
CREATE VIEW ca_bad WITH (pipeline.continuous) AS SELECT ok, sum(orders::float8) FROM ca_customers GROUP BY ok;
CREATE VIEW ca_bad WITH (pipeline.continuous) AS SELECT ok, array_agg(n) FROM ca_customers GROUP BY ok;
CREATE VIEW ca_bad WITH (pipeline.continuous) AS SELECT ok, stddev(best) FROM ca_customers GROUP BY ok;
CREATE VIEW ca_bad WITH (pipeline.continuous) AS SELECT ok, count(DISTINCT n) FROM ca_customers GROUP BY ok;
CREATE TABLE ca_names (customer int, name text);
CREATE VIEW ca_bad WITH (pipeline.continuous) AS SELECT name, sum(orders) FROM ca_customers JOIN ca_names USING (customer) GROUP BY name;
CREATE VIEW ca_bad WITH (pipeline.continuous) AS SELECT count(*) FROM ca_customers WHERE now() > '2024-01-01';
CREATE FUNCTION ca_stable(bigint) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT $1';
CREATE VIEW ca_bad WITH (pipeline.continuous) AS SELECT ca_stable(orders), count(*) FROM ca_customers GROUP BY 1;
CREATE VIEW ca_bad WITH (pipeline.continuous, pipeline.start = 'latest') AS SELECT orders, count(*) FROM ca_customers GROUP BY orders;
CREATE VIEW ca_bad WITH (pipeline.continuous) AS SELECT pipeline.tumble(pipeline.proctime(), '1 minute') AS w, count(*) FROM ca_customers GROUP BY w;
CREATE VIEW ca_bad WITH (pipeline.continuous) AS SELECT pipeline.count_window(3) AS w, count(*) FROM ca_customers GROUP BY w;
CREATE VIEW ca_bad WITH (pipeline.continuous, pipeline.emit = 'changes') AS SELECT pipeline.tumble(upper(w) - interval '1 microsecond', '2 minutes') AS h, sum(c) FROM ca_minutes GROUP BY h;
CREATE VIEW ca_bad WITH (pipeline.continuous, pipeline.allowed_lateness = '1 minute') AS SELECT pipeline.tumble(upper(w) - interval '1 microsecond', '2 minutes') AS h, sum(c) FROM ca_minutes GROUP BY h;
-- of the view below
CREATE VIEW ca_nested WITH (pipeline.continuous) AS SELECT orders, count(*) AS c FROM (SELECT customer, count(*) AS orders FROM ca_orders GROUP BY customer) x GROUP BY orders;
CREATE VIEW ca_ranked WITH (pipeline.continuous) AS SELECT customer, count(*) AS c, rank() OVER (ORDER BY count(*)) AS r FROM ca_orders GROUP BY customer;
CREATE VIEW ca_named WITH (pipeline.continuous) AS SELECT name, c FROM (SELECT customer, count(*) AS c FROM ca_orders GROUP BY customer) x JOIN ca_names USING (customer);
CREATE VIEW ca_looked_up WITH (pipeline.continuous) AS SELECT customer, count(*) AS c, (SELECT max(name) FROM ca_names) AS m FROM ca_orders GROUP BY customer;
CREATE VIEW ca_clock WITH (pipeline.continuous) AS SELECT customer, count(*) AS c, now() AS t FROM ca_orders GROUP BY customer;
CREATE VIEW ca_unsteady WITH (pipeline.continuous) AS SELECT customer, ca_stable(count(*)) AS c FROM ca_orders GROUP BY customer;
CREATE VIEW ca_kept WITH (pipeline.continuous, pipeline.emit = 'changes') AS SELECT pipeline.tumble(at, '1 minute') AS w, string_agg(v::text, ',' ORDER BY v) AS vs FROM ca_events GROUP BY w;
CREATE VIEW ca_bad WITH (pipeline.continuous) AS SELECT vs, count(*) FROM ca_kept GROUP BY vs;
CREATE VIEW ca_bad WITH (pipeline.continuous) AS SELECT c, count(*) FROM ca_nested GROUP BY c;
CREATE VIEW ca_bad WITH (pipeline.continuous) AS SELECT c, count(*) FROM ca_ranked GROUP BY c;
CREATE VIEW ca_bad WITH (pipeline.continuous) AS SELECT c, count(*) FROM ca_named GROUP BY c;
CREATE VIEW ca_bad WITH (pipeline.continuous) AS SELECT c, count(*) FROM ca_looked_up GROUP BY c;
CREATE VIEW ca_bad WITH (pipeline.continuous) AS SELECT c, count(*) FROM ca_clock GROUP BY c;
CREATE VIEW ca_bad WITH (pipeline.continuous) AS SELECT c, count(*) FROM ca_unsteady GROUP BY c;

-- what an aggregate fails on would be missing when it is taken back: the reader stops; what its expressions fail on is left out both times
CREATE FOREIGN TABLE ca_money (k int, m money) SERVER pipeline_local;
CREATE VIEW ca_most WITH (pipeline.continuous) AS SELECT k, max(m) AS m, count(*) AS n FROM ca_money GROUP BY k;
CREATE VIEW ca_fortune WITH (pipeline.continuous) AS SELECT sum(m) AS m FROM ca_most;
CREATE VIEW ca_inverse WITH (pipeline.continuous) AS SELECT 6 / (n - 3) AS i, count(*) AS c FROM ca_most GROUP BY 6 / (n - 3);
DO $$ BEGIN FOR i IN 1..5 LOOP INSERT INTO ca_money VALUES (1, i::money), (2, i::money), (3 + i % 2, '1'); PERFORM pipeline.wait_for('ca_inverse', '30 seconds'); COMMIT; END LOOP; END $$;
SELECT ca_same('ca_fortune', 'SELECT sum(m) FROM ca_most'), ca_same('ca_inverse', 'SELECT 6 / (n - 3), count(*) FROM ca_most WHERE n <> 3 GROUP BY 1');
SELECT dead_letters > 0 AS left_out, dead_letters % 2 AS odd FROM pipeline.stat_views WHERE view = 'ca_inverse'::regclass;
INSERT INTO ca_money VALUES (1, '92233720368547758.07');
SELECT pipeline.wait_for('ca_most', '30 seconds');
\set VERBOSITY terse
SELECT pipeline.wait_for('ca_fortune', '30 seconds');
SELECT state, reason LIKE 'record at partition 0, offset % of stream "ca_most" cannot be processed%' AS reason FROM pipeline.views WHERE view = 'ca_fortune'::regclass;
SELECT m FROM ca_fortune;
DROP FOREIGN TABLE ca_money CASCADE;

-- rights: to read the view is enough, and needed
CREATE ROLE ca_reader;
GRANT CREATE ON SCHEMA public TO ca_reader;
SET ROLE ca_reader;
CREATE VIEW ca_theirs WITH (pipeline.continuous) AS SELECT orders, count(*) AS c FROM ca_customers GROUP BY orders;
RESET ROLE;
GRANT SELECT ON ca_customers TO ca_reader;
SET ROLE ca_reader;
CREATE VIEW ca_theirs WITH (pipeline.continuous) AS SELECT orders, count(*) AS c FROM ca_customers GROUP BY orders;
RESET ROLE;
INSERT INTO ca_orders VALUES (1, 'c', 1, 1, true, NULL);
SELECT ca_same('ca_theirs', 'SELECT orders, count(*) FROM ca_customers GROUP BY orders');
DROP VIEW ca_theirs;
REVOKE CREATE ON SCHEMA public FROM ca_reader;
REVOKE SELECT ON ca_customers FROM ca_reader;
DROP ROLE ca_reader;

-- a reader that goes leaves nothing with the view below; one that comes later has what there is
DROP VIEW ca_histogram CASCADE;
INSERT INTO ca_orders SELECT i, 'c', 1, 1, true, '1 day' FROM generate_series(1, 30) i;
CREATE VIEW ca_histogram WITH (pipeline.continuous) AS SELECT orders, count(*) AS customers FROM ca_customers GROUP BY orders;
SELECT ca_same('ca_histogram', 'SELECT orders, count(*) FROM ca_customers GROUP BY orders');
SELECT ca_same('ca_total', 'SELECT sum(n), sum(orders), avg(best), count(n) FROM ca_customers');
\set VERBOSITY terse
DROP FOREIGN TABLE ca_orders CASCADE;
DROP FOREIGN TABLE ca_events CASCADE;
SELECT count(*) FROM pipeline_data.feeds;
DROP TABLE ca_names;
DROP FUNCTION ca_same, ca_check, ca_check_windows, ca_stable;
