-- Without this: count windows would hold other events of a group than those that came, be shown before they
-- are complete, or depend on how events are batched and on restarts.
SET timezone = 'UTC';
SET client_min_messages = error;

CREATE TABLE n_rows (pos int PRIMARY KEY, k text, n int, x float8, num numeric);
INSERT INTO n_rows SELECT i, CASE WHEN i % 11 > 0 THEN 'k' || i * 7919 % 5 END, CASE WHEN i % 7 > 0 THEN i * 37 % 101 END, (i * 53 % 97) / 4.0, (i * 29 % 83) / 10.0
FROM generate_series(1, 900) i;
CREATE TABLE n_names (k text, name text);
INSERT INTO n_names VALUES ('k1', 'one'), ('k2', 'two'), ('k2', 'zwei');
CREATE FUNCTION n_add(bigint, int) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 3 + coalesce($2, 0)';
CREATE AGGREGATE n_alone(int) (sfunc = n_add, stype = bigint, initcond = '0');
CREATE FUNCTION n_join(text, int) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT coalesce($1 || ',', '') || $2$$;
CREATE AGGREGATE n_list(int) (sfunc = n_join, stype = text);

-- each with its size, slide and group
CREATE TABLE n_queries (id int PRIMARY KEY, size int, slide int, keys text, what text, query text);
INSERT INTO n_queries VALUES
(1, 10, 10, 'k', 'count(*) AS c, sum(n) AS s, avg(n) AS a, min(x) AS lo, max(x) AS hi, max(pos) AS last', $$SELECT {K}, pipeline.count_window(10) AS w, {A} FROM n_events GROUP BY 1, w$$),
(2, 10, 3, 'k', 'count(*) AS c, sum(n) AS s, count(n) AS cn, sum(x) AS sx, min(pos) AS first, max(pos) AS last', $$SELECT {K}, pipeline.count_window(10, 3) AS w, {A} FROM n_events GROUP BY 1, w$$),
(3, 7, 1, 'k', 'sum(num) AS s, avg(num) AS a, n_list(pos) AS l, n_alone(n) AS o', $$SELECT {K}, w, {A} FROM n_events, pipeline.count_window(7, 1) AS w GROUP BY 1, w$$),
(4, 1, 1, 'k', 'count(*) AS c, n_list(pos) AS l', $$SELECT {K}, pipeline.count_window(1) AS w, {A} FROM n_events GROUP BY 1, w$$),
(5, 50, 20, '0', 'count(*) AS c, count(*) FILTER (WHERE n > 50) AS f, max(pos) AS last', $$SELECT 0 AS key, pipeline.count_window(50, 20) AS w, {A} FROM n_events GROUP BY w$$),
(6, 4, 4, 'n % 3', 'max(k) AS m, n_list(pos) AS l, stddev(num) AS d', $$SELECT {K}, w, {A} FROM (SELECT *, pipeline.count_window(4) AS w FROM n_events) e GROUP BY 1, w$$);
CREATE VIEW n_expected AS SELECT 0 AS id, ''::text AS r WHERE false;
DO $$
DECLARE
  q record;
  parts text := '';
BEGIN
  FOR q IN SELECT * FROM n_queries ORDER BY id LOOP
    parts := parts || format(' UNION ALL SELECT %s, q::text FROM (SELECT key, w, %s FROM (
        SELECT r.*, %s AS key, row_number() OVER (PARTITION BY %s ORDER BY pos) AS e FROM n_rows r ORDER BY pos) r,
        generate_series(greatest(1, (e - %s + %s - 1) / %s + 1), (e - 1) / %s + 1) w
      WHERE (w - 1) * %s < e AND e <= (w - 1) * %s + %s GROUP BY key, w HAVING count(*) = %s) q',
      q.id, replace(replace(q.what, 'n_list(pos)', 'n_list(pos ORDER BY pos)'), 'n_alone(n)', 'n_alone(n ORDER BY pos)'), q.keys, q.keys, q.size, q.slide, q.slide, q.slide, q.slide, q.slide, q.size, q.size);
  END LOOP;
  EXECUTE 'CREATE OR REPLACE VIEW n_expected AS SELECT 0 AS id, ''''::text AS r WHERE false' || parts;
END $$;
SELECT id, count(*) FROM n_expected GROUP BY id ORDER BY id;

CREATE PROCEDURE n_play() LANGUAGE plpgsql AS $$
DECLARE
  q record;
  i int;
BEGIN
  -- no event time: count windows need none
  CREATE FOREIGN TABLE n_events (pos int, k text, n int, x float8, num numeric) SERVER pipeline_local;
  FOR q IN SELECT * FROM n_queries ORDER BY id LOOP
    EXECUTE format('CREATE VIEW n_view%s WITH (pipeline.continuous) AS %s', q.id, replace(replace(q.query, '{K}', q.keys || ' AS key'), '{A}', q.what));
    EXECUTE format('CREATE VIEW n_open%s WITH (pipeline.continuous, pipeline.emit = ''changes'') AS %s', q.id, replace(replace(q.query, '{K}', q.keys || ' AS key'), '{A}', q.what));
  END LOOP;
  COMMIT;
  FOR i IN 0..3 LOOP
    INSERT INTO n_events SELECT * FROM n_rows WHERE pos / 226 = i ORDER BY pos;
    COMMIT;
    PERFORM pipeline.wait_for(v) FROM n_queries, LATERAL (VALUES (('n_view' || id)::regclass), (('n_open' || id)::regclass)) v(v);
    PERFORM pipeline.verify_state(v) FROM n_queries, LATERAL (VALUES (('n_view' || id)::regclass), (('n_open' || id)::regclass)) v(v);
    PERFORM pg_terminate_backend(pid) FROM (SELECT DISTINCT pid FROM pipeline.stat_views WHERE view::text ~ '^n_(view|open)') w WHERE pid IS NOT NULL;
    COMMIT;
  END LOOP;
END $$;
-- closed windows are the expected ones; where open ones are shown they are besides
CREATE FUNCTION n_wrong() RETURNS TABLE (id int, what text, row_text text) LANGUAGE plpgsql AS $$
DECLARE q record;
BEGIN
  FOR q IN SELECT * FROM n_queries ORDER BY 1 LOOP
    RETURN QUERY EXECUTE format('SELECT %1$s, ''missing'', d.r FROM (SELECT r FROM n_expected WHERE id = %1$s EXCEPT ALL SELECT shown::text FROM n_view%1$s shown) d
      UNION ALL SELECT %1$s, ''unexpected'', d.r FROM (SELECT shown::text AS r FROM n_view%1$s shown EXCEPT ALL SELECT r FROM n_expected WHERE id = %1$s) d
      UNION ALL SELECT %1$s, ''not shown'', d.r FROM (SELECT r FROM n_expected WHERE id = %1$s EXCEPT ALL SELECT shown::text FROM n_open%1$s shown) d
      ORDER BY 1, 2, 3 LIMIT 5', q.id);
  END LOOP;
END $$;
CALL n_play();
SELECT * FROM n_wrong();
-- what is open: every window of a group that has begun
SELECT count(*) AS open, count(*) FILTER (WHERE o.c = e.c AND o.s IS NOT DISTINCT FROM e.s AND o.first = e.first AND o.last = e.last) AS right FROM n_open2 o
LEFT JOIN (SELECT k, w, count(*) AS c, sum(n) AS s, min(pos) AS first, max(pos) AS last FROM
    (SELECT r.*, row_number() OVER (PARTITION BY k ORDER BY pos) AS e FROM n_rows r) r, generate_series(1, e) w
  WHERE (w - 1) * 3 < e AND e <= (w - 1) * 3 + 10 GROUP BY k, w) e ON e.k IS NOT DISTINCT FROM o.key AND e.w = o.w
WHERE o.c < 10;
SELECT view, windows_closed, late FROM pipeline.stat_views WHERE view IN ('n_view1'::regclass, 'n_open1'::regclass, 'n_view2'::regclass, 'n_open2'::regclass) ORDER BY view::text;
DROP FOREIGN TABLE n_events CASCADE;
ALTER SYSTEM SET pipeline.batch_size = 1;
SELECT pg_reload_conf();
CALL n_play();
SELECT * FROM n_wrong();
DROP FOREIGN TABLE n_events CASCADE;
ALTER SYSTEM SET pipeline.batch_size = 7;
ALTER SYSTEM SET pipeline.checkpoint_interval = '1 ms';
SELECT pg_reload_conf();
CALL n_play();
SELECT * FROM n_wrong();
DROP FOREIGN TABLE n_events CASCADE;
ALTER SYSTEM RESET pipeline.batch_size;
ALTER SYSTEM RESET pipeline.checkpoint_interval;
SELECT pg_reload_conf();

-- what CREATE and explain say; a stream with event time, in whatever order; HAVING, joins and expressions above; bad events
SET client_min_messages = notice;
CREATE FOREIGN TABLE n_timed (at timestamptz, k text, n int) SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '0');
CREATE VIEW n_three WITH (pipeline.continuous) AS SELECT k, pipeline.count_window(3) AS w, sum(12 / n) AS s FROM n_timed GROUP BY k, w;
CREATE VIEW n_named WITH (pipeline.continuous) AS
SELECT c.w * 10 AS w, c.s, t.name FROM (SELECT k, pipeline.count_window(3, 2) AS w, sum(n) AS s FROM n_timed WHERE n <> 0 GROUP BY k, w HAVING sum(n) > 3) c LEFT JOIN n_names t USING (k);
CREATE VIEW n_pairs WITH (pipeline.continuous) AS SELECT DISTINCT k, pipeline.count_window(2) AS w FROM n_timed;
CREATE VIEW n_best WITH (pipeline.continuous, pipeline.emit = 'changes') AS
SELECT w, max(s) AS best, count(*) AS groups FROM (SELECT k, pipeline.count_window(2) AS w, sum(n) AS s FROM n_timed GROUP BY k, w) t GROUP BY w;
SELECT pipeline.explain('n_three');
SELECT pipeline.explain('n_named');
SELECT line FROM pipeline.explain('n_best') line WHERE line ~ 'Operator|Key|Result';
INSERT INTO n_timed VALUES ('2024-01-01 00:00:05+00', 'k2', 1), ('2024-01-01 00:00:01+00', 'k2', 2), (NULL, 'k2', 3), ('2024-01-01 00:00:01+00', 'k1', 4), ('2023-01-01 00:00:01+00', 'k2', 6), ('infinity', 'k1', 1);
SELECT bool_and(pipeline.wait_for(v)) FROM unnest('{n_three,n_named,n_pairs,n_best}'::regclass[]) v;
SELECT * FROM n_three ORDER BY k, w;
SELECT * FROM n_named ORDER BY w, name;
SELECT * FROM n_pairs ORDER BY k, w;
SELECT * FROM n_best ORDER BY w;
-- an event that fails is taken back and does not count
INSERT INTO n_timed VALUES ('2024-01-01 00:00:05+00', 'k2', 0), ('2024-01-01 00:00:05+00', 'k2', 4), ('2024-01-01 00:00:05+00', 'k1', 12);
SELECT bool_and(pipeline.wait_for(v)) FROM unnest('{n_three,n_named,n_pairs,n_best}'::regclass[]) v;
SELECT * FROM n_three ORDER BY k, w;
SELECT * FROM n_named ORDER BY w, name;
SELECT * FROM n_best ORDER BY w;
SELECT view, dead_letters, late, groups FROM pipeline.stat_views WHERE view::text IN ('n_three', 'n_named') ORDER BY view::text;
-- nothing closes them but events
SELECT pipeline.advance_watermark('n_timed', 'infinity');
SELECT pipeline.wait_for('n_pairs');
SELECT * FROM n_pairs ORDER BY k, w;
SELECT bool_and(pipeline.verify_state(v)) FROM unnest('{n_three,n_named,n_pairs,n_best}'::regclass[]) v;
SELECT to_regclass('n_three_late') IS NULL AS no_late_table;

-- what cannot be kept incrementally: the rows of a group's windows are kept, and the last one for ever
SET client_min_messages = warning;
CREATE FOREIGN TABLE n_listed (id int, k text, n int) SERVER pipeline_local;
CREATE TABLE n_all (id int, k text, n int);
RESET client_min_messages;
CREATE VIEW n_lists WITH (pipeline.continuous) AS
SELECT k, pipeline.count_window(3) AS w, string_agg(id::text, ',' ORDER BY n DESC, id) AS ids, count(DISTINCT n) AS d FROM n_listed GROUP BY k, w HAVING count(*) > 0;
CREATE VIEW n_open_lists WITH (pipeline.continuous, pipeline.emit = 'changes') AS
SELECT k, pipeline.count_window(3, 2) AS w, percentile_disc(0.5) WITHIN GROUP (ORDER BY n) AS middle, count(*) AS c FROM n_listed GROUP BY k, w;
SET client_min_messages = warning;
CREATE VIEW n_slow_lists WITH (pipeline.continuous, pipeline.emit = 'changes', pipeline.emit_interval = '10 minutes') AS
SELECT t.name, l.k, w * 10 AS w, l.ids FROM (SELECT k, w, array_agg(id ORDER BY id) AS ids FROM n_listed, pipeline.count_window(3, 1) AS w GROUP BY k, w) l LEFT JOIN n_names t USING (k);
RESET client_min_messages;
SELECT pipeline.explain('n_lists');
CREATE FUNCTION n_insert(VARIADIC ks text[]) RETURNS void LANGUAGE sql AS $$
  WITH e AS (INSERT INTO n_all SELECT (SELECT count(*) FROM n_all) + i, k, (i * 7 + length(k)) % 5 FROM unnest(ks) WITH ORDINALITY u(k, i) RETURNING *)
  INSERT INTO n_listed SELECT * FROM e ORDER BY id $$;
CREATE FUNCTION n_wait() RETURNS boolean LANGUAGE sql AS $$
  SELECT bool_and(pipeline.wait_for(v) AND pipeline.verify_state(v)) FROM unnest('{n_lists,n_open_lists,n_slow_lists}'::regclass[]) v $$;
-- by ordinary SQL that numbers the events of each group
CREATE FUNCTION n_windows(size int, slide int) RETURNS TABLE (k text, w bigint, id int, n int) LANGUAGE sql AS $$
  SELECT k, w, id, n FROM (SELECT *, row_number() OVER (PARTITION BY k ORDER BY id) AS e FROM n_all) a, generate_series(1, 100) w WHERE e > (w - 1) * slide AND e <= (w - 1) * slide + size $$;
CREATE VIEW n_wrong AS
SELECT 'n_lists' AS view, count(*) FROM (SELECT k, w, ids, d, 1 FROM n_lists UNION ALL SELECT k, w, string_agg(id::text, ',' ORDER BY n DESC, id), count(DISTINCT n), 2 FROM n_windows(3, 3) GROUP BY k, w HAVING count(*) = 3) x
  GROUP BY k, w, ids, d HAVING count(*) <> 2 UNION ALL
SELECT 'n_open_lists', count(*) FROM (SELECT k, w, middle, c FROM n_open_lists UNION ALL SELECT k, w, percentile_disc(0.5) WITHIN GROUP (ORDER BY n), count(*) FROM n_windows(3, 2) GROUP BY k, w) x
  GROUP BY k, w, middle, c HAVING count(*) <> 2 UNION ALL
SELECT 'n_slow_lists', count(*) FROM (SELECT k, w, ids FROM n_slow_lists UNION ALL SELECT k, w * 10, array_agg(id ORDER BY id) FROM n_windows(3, 1) GROUP BY k, w) x GROUP BY k, w, ids HAVING count(*) <> 2;
SELECT n_insert('a', 'b', 'a', NULL, 'a', 'a');
SELECT n_wait();
SELECT * FROM n_lists ORDER BY k, w;
SELECT * FROM n_open_lists ORDER BY k, w;
SELECT * FROM n_slow_lists ORDER BY k, w;
SELECT * FROM n_wrong;
-- after workers have read it all again
SELECT bool_and(pg_terminate_backend(pid)) FROM (SELECT DISTINCT pid FROM pipeline.stat_views WHERE pid IS NOT NULL) p;
SELECT n_insert('a', 'b', NULL, 'a');
SELECT n_wait();
SELECT * FROM n_wrong;
SELECT bool_and(pg_terminate_backend(pid)) FROM (SELECT DISTINCT pid FROM pipeline.stat_views WHERE pid IS NOT NULL) p;
SELECT n_insert('b', 'c', NULL, 'b', 'b', 'a');
SELECT n_wait();
SELECT * FROM n_wrong;
SELECT * FROM n_lists ORDER BY k, w;
SELECT view, groups, windows_closed FROM pipeline.stat_views WHERE view::text LIKE 'n\_%lists' ORDER BY view::text;
-- many events: chunks of which little is left are written again
INSERT INTO n_all SELECT i + 100, 'k' || i % 7, i FROM generate_series(1, 20000) i;
INSERT INTO n_listed SELECT * FROM n_all WHERE id > 100 ORDER BY id;
SELECT n_wait();
SELECT count(*), sum(w) FROM n_lists WHERE k LIKE 'k%';
SELECT count(*) FROM (SELECT k, w, ids, d FROM n_lists EXCEPT SELECT k, row_number() OVER (PARTITION BY k ORDER BY id), ids, d FROM (
  SELECT k, min(id) AS id, string_agg(id::text, ',' ORDER BY n DESC, id) AS ids, count(DISTINCT n) AS d FROM (SELECT *, (row_number() OVER (PARTITION BY k ORDER BY id) - 1) / 3 AS g FROM n_all) a GROUP BY k, g HAVING count(*) = 3) b) c;
SELECT view, groups < 60 AS few_rows, chunk_bytes < 100000 AS few_chunks FROM pipeline.stat_views WHERE view::text LIKE 'n\_%lists' ORDER BY view::text;
DROP VIEW n_wrong;
DROP FUNCTION n_windows, n_wait, n_insert;
DROP FOREIGN TABLE n_listed CASCADE;
DROP TABLE n_all;

-- refused
CREATE VIEW r WITH (pipeline.continuous) AS SELECT pipeline.count_window(0) AS w, count(*) FROM n_timed GROUP BY w;
CREATE VIEW r WITH (pipeline.continuous) AS SELECT pipeline.count_window(10, -1) AS w, count(*) FROM n_timed GROUP BY w;
CREATE VIEW r WITH (pipeline.continuous) AS SELECT pipeline.count_window(3, 10) AS w, count(*) FROM n_timed GROUP BY w;
CREATE VIEW r WITH (pipeline.continuous) AS SELECT pipeline.count_window(1001, 1) AS w, count(*) FROM n_timed GROUP BY w;
CREATE VIEW r WITH (pipeline.continuous) AS SELECT pipeline.count_window(n) AS w, count(*) FROM n_timed GROUP BY w;
CREATE VIEW r WITH (pipeline.continuous) AS SELECT k, pipeline.count_window(3) AS w FROM n_timed;
CREATE VIEW r WITH (pipeline.continuous) AS SELECT k, count(*) FROM n_timed WHERE pipeline.count_window(3) = 1 GROUP BY k;
CREATE VIEW r WITH (pipeline.continuous) AS SELECT w, k, max(n + w) FROM n_timed, pipeline.count_window(3) w GROUP BY k, w;
CREATE VIEW r WITH (pipeline.continuous) AS SELECT n, row_number() OVER (PARTITION BY pipeline.count_window(3) ORDER BY n) FROM n_timed;
CREATE VIEW r WITH (pipeline.continuous, pipeline.emit = 'changes') AS SELECT n, row_number() OVER (PARTITION BY pipeline.count_window(3) ORDER BY n) FROM n_timed;
CREATE VIEW r WITH (pipeline.continuous) AS SELECT k, n, pipeline.count_window(3) AS w, count(*) FROM n_timed GROUP BY w, GROUPING SETS (k, n);
CREATE VIEW r WITH (pipeline.continuous, pipeline.emit = 'changes') AS SELECT w, max(c) FROM (SELECT k, pipeline.count_window(3) AS w, count(DISTINCT n) AS c FROM n_timed GROUP BY k, w) t GROUP BY w;
CREATE VIEW r WITH (pipeline.continuous) AS SELECT pipeline.count_window(3) AS w, pipeline.tumble(at, '1 minute') AS t, count(*) FROM n_timed GROUP BY w, t;
CREATE VIEW r WITH (pipeline.continuous, pipeline.allowed_lateness = '1 minute') AS SELECT pipeline.count_window(3) AS w, count(*) FROM n_timed GROUP BY w;
CREATE VIEW r WITH (pipeline.continuous, pipeline.workers = 2) AS SELECT pipeline.count_window(3) AS w, count(*) FROM n_timed GROUP BY w;
CREATE VIEW r WITH (pipeline.continuous) AS SELECT w, max(c) FROM (SELECT k, pipeline.count_window(3) AS w, count(*) AS c FROM n_timed GROUP BY k, w) t GROUP BY w;
CREATE VIEW r WITH (pipeline.continuous) AS SELECT k, pipeline.count_window(3) AS w, rank() OVER (PARTITION BY pipeline.count_window(3) ORDER BY sum(n)) FROM n_timed GROUP BY k, w;
CREATE VIEW r WITH (pipeline.continuous) AS SELECT DISTINCT c FROM (SELECT k, pipeline.count_window(3) AS w, count(*) AS c FROM n_timed GROUP BY k, w) t;

-- sizes that no group reaches
SET client_min_messages = warning;
CREATE VIEW n_huge WITH (pipeline.continuous, pipeline.emit = 'changes') AS
SELECT k, pipeline.count_window(9223372036854775807) AS w, count(*) AS c FROM n_timed GROUP BY k, w;
CREATE VIEW n_slow WITH (pipeline.continuous, pipeline.emit = 'changes') AS
SELECT k, pipeline.count_window(9223372036854775807, 9223372036854775806) AS w, count(*) AS c FROM n_timed GROUP BY k, w;
RESET client_min_messages;
INSERT INTO n_timed (k) VALUES (1), (1);
SELECT pipeline.wait_for('n_huge'), pipeline.wait_for('n_slow');
SELECT w, c FROM n_huge WHERE k = '1' UNION ALL SELECT w, c FROM n_slow WHERE k = '1';

DROP FOREIGN TABLE n_timed CASCADE;
DROP VIEW n_expected;
DROP TABLE n_rows, n_names, n_queries;
DROP PROCEDURE n_play;
DROP FUNCTION n_wrong;
DROP AGGREGATE n_alone(int), n_list(int);
DROP FUNCTION n_add, n_join;
