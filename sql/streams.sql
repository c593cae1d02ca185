-- Different streams in one view: joins, unions, the watermark over all of them.
SET TimeZone = 'UTC';
SET client_min_messages = warning;
CREATE FOREIGN TABLE persons (id int, name text, at timestamptz)
  SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '5 seconds', idle_timeout 'off');
CREATE FOREIGN TABLE auctions (id int, seller int, price numeric, opened timestamptz)
  SERVER pipeline_local OPTIONS (event_time 'opened', out_of_orderness '3 seconds', idle_timeout 'off');
CREATE FOREIGN TABLE bids (auction bigint, bidder smallint, price int, at timestamptz, note text)
  SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '4 seconds', idle_timeout 'off');
CREATE TABLE past_persons (id int, name text, at timestamptz);
CREATE TABLE past_auctions (id int, seller int, price numeric, opened timestamptz);
CREATE TABLE past_bids (auction bigint, bidder smallint, price int, at timestamptz, note text);
CREATE TABLE cities (person int, city text);
INSERT INTO cities SELECT i, 'c' || i % 3 FROM generate_series(0, 30) i WHERE i % 4 <> 0;
INSERT INTO past_persons SELECT i % 30, 'p' || i % 30, timestamptz '2024-01-01 00:00:00+00' + (i * 2 - i * 13 % 7 * 0.6) * interval '1 second' FROM generate_series(1, 100) i;
INSERT INTO past_auctions SELECT i, i * 7 % 30, i % 17 + 0.5, timestamptz '2024-01-01 00:00:00+00' + (i * 1.3 - i * 5 % 3 * 0.9) * interval '1 second' FROM generate_series(1, 160) i;
INSERT INTO past_bids SELECT i * 3 % 160 + 1, i * 11 % 30, i * 31 % 50, timestamptz '2024-01-01 00:00:00+00' + (i * 0.4 - i * 7 % 5 * 0.7) * interval '1 second', repeat('x', i % 3) FROM generate_series(1, 500) i;

CREATE TABLE queries (id int PRIMARY KEY, query text, options text NOT NULL DEFAULT 'pipeline.continuous', oracle text);
INSERT INTO queries VALUES
-- joins: of groups, of rows, left, full, three streams, with a table, semi and anti
(1, $$SELECT p.id, p.w, a.n FROM (SELECT id, pipeline.tumble(at, '10 seconds') AS w FROM {persons} GROUP BY 1, 2) p
  JOIN (SELECT seller, pipeline.tumble(opened, '10 seconds') AS w, count(*) AS n FROM {auctions} GROUP BY 1, 2) a ON a.seller = p.id AND a.w = p.w$$),
(2, $$SELECT a.id, pipeline.tumble(a.opened, '10 seconds') AS w, b.price FROM {auctions} a JOIN {bids} b ON b.auction = a.id AND pipeline.tumble(b.at, '10 seconds') = pipeline.tumble(a.opened, '10 seconds')$$),
(3, $$SELECT w, a.n AS auctions, b.n AS bids, b.most FROM (SELECT pipeline.tumble(opened, '2 seconds') AS w, count(*) AS n FROM {auctions} WHERE price > 10 GROUP BY 1) a
  FULL JOIN (SELECT pipeline.tumble(at, '2 seconds') AS w, count(*) AS n, max(price) AS most FROM {bids} GROUP BY 1) b USING (w)$$),
(4, $$SELECT w, p.n AS p, a.n AS a, b.n AS b FROM (SELECT pipeline.hop(at, '20 seconds', '5 seconds') AS w, count(*) AS n FROM {persons} GROUP BY 1) p
  LEFT JOIN (SELECT pipeline.hop(opened, '20 seconds', '5 seconds') AS w, count(*) AS n FROM {auctions} GROUP BY 1) a USING (w)
  LEFT JOIN (SELECT pipeline.hop(at, '20 seconds', '5 seconds') AS w, count(*) AS n FROM {bids} WHERE price > 40 GROUP BY 1) b USING (w)$$),
(5, $$SELECT c.city, date_trunc('minute', p.at) AS w, count(DISTINCT a.id) AS n FROM {persons} p JOIN cities c ON c.person = p.id JOIN {auctions} a ON a.seller = p.id AND date_trunc('minute', a.opened) = date_trunc('minute', p.at) GROUP BY 1, 2$$),
(6, $$SELECT a.id, pipeline.tumble(a.opened, '10 seconds') AS w FROM {auctions} a WHERE NOT EXISTS
  (SELECT FROM {bids} b WHERE b.auction = a.id AND pipeline.tumble(b.at, '10 seconds') = pipeline.tumble(a.opened, '10 seconds'))$$),
(7, $$SELECT seller AS id, pipeline.tumble(opened, '10 seconds') AS w FROM {auctions} EXCEPT SELECT id, pipeline.tumble(at, '10 seconds') FROM {persons}$$),
-- unions: rows, groups, kept for ever, with different types, two of one stream, nested, sessions, changes, corrections, rows that are kept, a table
(20, $$SELECT id, at, 'person' AS kind FROM {persons} WHERE id > 5 UNION ALL SELECT seller, opened, 'auction' FROM {auctions} UNION ALL SELECT bidder, at, note FROM {bids} WHERE price > 25$$),
(21, $$SELECT kind, pipeline.tumble(at, '10 seconds') AS w, count(*) AS n, sum(price) AS price FROM
  (SELECT at, price, 'bid' AS kind FROM {bids} UNION ALL SELECT opened, price, 'auction' FROM {auctions}) u GROUP BY 1, 2$$),
(22, $$SELECT w, count(*) AS n, min(id) AS first, max(id) AS last FROM (SELECT pipeline.tumble(at, '10 seconds') AS w, auction AS id FROM {bids}
  UNION ALL SELECT pipeline.tumble(opened, '10 seconds'), id FROM {auctions} UNION ALL SELECT pipeline.tumble(at, '10 seconds'), id FROM {persons} WHERE id < 20) u GROUP BY w HAVING count(*) > 3$$),
(23, $$SELECT price, count(*) AS n FROM (SELECT price FROM {bids} UNION ALL SELECT price FROM {auctions}) u GROUP BY 1$$),
(24, $$SELECT id, pipeline.session(at, '3 seconds') AS w, count(*) AS n FROM (SELECT id, at FROM {persons} UNION ALL (SELECT seller, opened FROM {auctions} UNION ALL SELECT bidder, at FROM {bids})) u GROUP BY 1, pipeline.session(at, '3 seconds')$$),
(25, $$SELECT c.city, pipeline.hop(u.at, '10 seconds', '5 seconds') AS w, count(*) AS n, string_agg(u.kind, ',' ORDER BY u.kind, u.id) AS kinds FROM
  (SELECT id, at, 'p' AS kind FROM {persons} UNION ALL SELECT seller, opened, 'a' FROM {auctions}) u JOIN cities c ON c.person = u.id GROUP BY 1, 2$$),
(26, $$SELECT side, pipeline.tumble(at, '10 seconds') AS w, count(*) AS n FROM (SELECT bidder AS side, at FROM {bids} UNION ALL SELECT price, at FROM {bids} UNION ALL SELECT seller, opened FROM {auctions}) u GROUP BY 1, 2$$),
(27, $$SELECT pipeline.tumble(at, '10 seconds') AS w, count(*) AS n, avg(price) AS mean FROM (SELECT at, price FROM {bids} UNION ALL SELECT opened, price FROM {auctions}) u GROUP BY 1$$),
(28, $$SELECT id, at, row_number() OVER (PARTITION BY pipeline.tumble(at, '20 seconds') ORDER BY at, id, kind) AS nth FROM (SELECT id, at, 1 AS kind FROM {persons} UNION ALL SELECT seller, opened, 2 FROM {auctions}) u$$),
(29, $$SELECT x.w, x.n, p.n AS persons FROM (SELECT pipeline.tumble(at, '10 seconds') AS w, count(*) AS n FROM {bids} GROUP BY 1
  UNION ALL SELECT pipeline.tumble(opened, '10 seconds'), count(*) FROM {auctions} GROUP BY 1) x JOIN (SELECT pipeline.tumble(at, '10 seconds') AS w, count(*) AS n FROM {persons} GROUP BY 1) p USING (w)$$),
(30, $$SELECT pipeline.tumble(at, '10 seconds') AS w, count(*) AS n, sum(price) AS total, count(DISTINCT kind) AS kinds FROM (SELECT at, price, note AS kind FROM {bids} UNION ALL SELECT opened, price, seller::text FROM {auctions}) u GROUP BY 1$$);
UPDATE queries SET oracle = $$WITH u AS (SELECT id, at FROM {persons} UNION ALL SELECT seller, opened FROM {auctions} UNION ALL SELECT bidder, at FROM {bids}),
  n AS (SELECT *, coalesce(at - lag(at) OVER (PARTITION BY id ORDER BY at) > '3 seconds', true)::int AS new FROM u), s AS (SELECT *, sum(new) OVER (PARTITION BY id ORDER BY at) AS s FROM n)
  SELECT id, tstzrange(min(at), max(at) + interval '3 seconds') AS w, count(*) AS n FROM s GROUP BY id, s$$ WHERE id = 24;
UPDATE queries SET options = 'pipeline.continuous, pipeline.emit = changes' WHERE id = 27;
UPDATE queries SET options = $$pipeline.continuous, pipeline.allowed_lateness = '10 seconds'$$ WHERE id = 21;
UPDATE queries SET options = $$pipeline.continuous, pipeline.keep_closed = '1 day'$$ WHERE id = 30;
CREATE FUNCTION query_over(id int, prefix text) RETURNS text LANGUAGE sql AS $$ SELECT regexp_replace(CASE WHEN prefix = 'past_' THEN coalesce(oracle, query) ELSE query END, '\{(\w+)\}', prefix || '\1', 'g') FROM queries q WHERE q.id = query_over.id $$;
DO $$ DECLARE q record; BEGIN
  FOR q IN TABLE queries ORDER BY id LOOP
    BEGIN
      EXECUTE format('CREATE VIEW s_%s WITH (%s) AS %s', q.id, q.options, query_over(q.id, ''));
    EXCEPTION WHEN OTHERS THEN RAISE WARNING 'query %: %', q.id, SQLERRM;
    END;
  END LOOP; END $$;
-- read by another view
CREATE VIEW above WITH (pipeline.continuous) AS SELECT pipeline.tumble(upper(w) - interval '1 microsecond', '30 seconds') AS w, sum(bids) AS bids FROM s_3 GROUP BY 1;
-- two views that are read like streams, in turn
CREATE VIEW joined_views WITH (pipeline.continuous) AS SELECT w, a.n, b.bids FROM (SELECT pipeline.tumble(upper(w) - interval '1 microsecond', '30 seconds') AS w, sum(n) AS n FROM s_1 GROUP BY 1) a
  FULL JOIN (SELECT pipeline.tumble(upper(w) - interval '1 microsecond', '30 seconds') AS w, sum(bids) AS bids FROM s_3 GROUP BY 1) b USING (w);
CREATE VIEW united_views WITH (pipeline.continuous) AS SELECT source, pipeline.tumble(upper(w) - interval '1 microsecond', '30 seconds') AS w, sum(n) AS n
  FROM (SELECT w, 's_1' AS source, n FROM s_1 UNION ALL SELECT w, 's_3', bids FROM s_3 UNION ALL SELECT w, 's_22', n FROM s_22) u GROUP BY 1, 2;
RESET client_min_messages;
SELECT pipeline.explain('s_1');
SELECT pipeline.explain('s_21');
SELECT view, streams, emit FROM pipeline.views WHERE view IN ('s_1'::regclass, 's_20', 'above', 'joined_views', 'united_views') ORDER BY 1;

CREATE FUNCTION check_streams(ids int[] DEFAULT NULL) RETURNS TABLE (id int, differ bigint, n bigint, late bigint) LANGUAGE plpgsql AS $$ DECLARE q record; BEGIN
  FOR q IN SELECT * FROM queries WHERE ids IS NULL OR queries.id = ANY (ids) ORDER BY queries.id LOOP
    IF NOT pipeline.wait_for(('s_' || q.id)::regclass) OR NOT pipeline.verify_state(('s_' || q.id)::regclass) THEN RAISE 'not %', q.id; END IF;
    RETURN QUERY EXECUTE format('WITH v AS MATERIALIZED (TABLE s_%1$s), b AS MATERIALIZED (%2$s)
      SELECT %1$s, (SELECT count(*) FROM (TABLE v EXCEPT ALL TABLE b) d) + (SELECT count(*) FROM (TABLE b EXCEPT ALL TABLE v) d), (SELECT count(*) FROM v),
        (SELECT s.late FROM pipeline.stat_views s WHERE s.view = ''s_%1$s''::regclass)', q.id, query_over(q.id, 'past_'));
  END LOOP; END $$;

-- one stream far ahead of the others, workers ended in between
INSERT INTO bids SELECT * FROM past_bids WHERE at < '2024-01-01 00:01:30+00';
INSERT INTO persons SELECT * FROM past_persons WHERE at < '2024-01-01 00:00:40+00';
SELECT bool_and(pipeline.wait_for(('s_' || id)::regclass)) FROM queries;
-- auctions have said nothing yet, so no window is complete
SELECT pipeline.watermark('s_3') IS NULL AS open, (SELECT count(*) FROM s_3) AS rows;
INSERT INTO auctions SELECT * FROM past_auctions WHERE opened < '2024-01-01 00:02:00+00';
SELECT bool_and(pipeline.wait_for(('s_' || id)::regclass)) FROM queries;
-- the lowest of what each stream has come to
SELECT pipeline.watermark('s_1') = (SELECT max(at) - interval '5 seconds' FROM past_persons WHERE at < '2024-01-01 00:00:40+00') AS by_persons,
  pipeline.watermark('s_2') = (SELECT max(at) - interval '4 seconds' FROM past_bids WHERE at < '2024-01-01 00:01:30+00') AS by_bids;
SELECT s.stream, s.partition, s.next_offset, s.max_event_time - s.watermark AS bound FROM pipeline.stat_partitions s WHERE view = 's_4'::regclass ORDER BY 1;
SELECT bool_and(pg_terminate_backend(pid)) FROM (SELECT DISTINCT pid FROM pipeline.stat_views WHERE pid IS NOT NULL) p;
INSERT INTO bids SELECT * FROM past_bids WHERE at >= '2024-01-01 00:01:30+00';
INSERT INTO auctions SELECT * FROM past_auctions WHERE opened >= '2024-01-01 00:02:00+00';
INSERT INTO persons SELECT * FROM past_persons WHERE at >= '2024-01-01 00:00:40+00';
-- a promise about one stream is none about the others
SELECT pipeline.advance_watermark('bids', 'infinity');
SELECT bool_and(pipeline.wait_for(('s_' || id)::regclass)) FROM queries;
SELECT pipeline.watermark('s_3') < '2024-01-01 00:04:00+00' AS held, (SELECT advance_to IS NULL FROM pipeline.views WHERE view = 's_3'::regclass) AS done;
SELECT pipeline.advance_watermark('auctions', 'infinity'), pipeline.advance_watermark('persons', 'infinity');
SELECT bool_and(pipeline.wait_for(('s_' || id)::regclass)) FROM queries;
SELECT pipeline.advance_watermark('bids', 'infinity'), pipeline.advance_watermark('auctions', 'infinity'), pipeline.advance_watermark('persons', 'infinity');
SELECT * FROM check_streams();
SELECT pipeline.advance_watermark(v, 'infinity') FROM unnest('{s_1,s_3,s_22}'::regclass[]) v;
SELECT pipeline.wait_for('above'), pipeline.verify_state('above');
SELECT (SELECT count(*) FROM (SELECT pipeline.tumble(lower(w), '30 seconds') AS w, sum(bids) AS bids FROM s_3 GROUP BY 1 EXCEPT ALL TABLE above) d) AS differ, count(*) AS n FROM above;
SELECT pipeline.wait_for('joined_views'), pipeline.wait_for('united_views'), pipeline.verify_state('joined_views'), pipeline.verify_state('united_views');
CREATE VIEW expected_joined AS SELECT w, a.n, b.bids FROM (SELECT pipeline.tumble(lower(w), '30 seconds') AS w, sum(n) AS n FROM s_1 GROUP BY 1) a
  FULL JOIN (SELECT pipeline.tumble(lower(w), '30 seconds') AS w, sum(bids) AS bids FROM s_3 GROUP BY 1) b USING (w);
CREATE VIEW expected_united AS SELECT source, pipeline.tumble(lower(w), '30 seconds') AS w, sum(n) AS n
  FROM (SELECT w, 's_1' AS source, n FROM s_1 UNION ALL SELECT w, 's_3', bids FROM s_3 UNION ALL SELECT w, 's_22', n FROM s_22) u GROUP BY 1, 2;
SELECT (SELECT count(*) FROM (TABLE joined_views EXCEPT ALL TABLE expected_joined) d) + (SELECT count(*) FROM (TABLE expected_joined EXCEPT ALL TABLE joined_views) d) AS differ, count(*) AS n FROM joined_views;
SELECT (SELECT count(*) FROM (TABLE united_views EXCEPT ALL TABLE expected_united) d) + (SELECT count(*) FROM (TABLE expected_united EXCEPT ALL TABLE united_views) d) AS differ, count(*) AS n FROM united_views;

-- late events of all streams are in one table; what is late for a window counts in the groups that it was in time for
INSERT INTO bids VALUES (1, 2, 3, '2024-01-01 00:00:01+00', 'late'), (1, 2, 3, NULL, 'untimed');
INSERT INTO auctions VALUES (999, 3, 4.5, '2024-01-01 00:00:02+00');
SELECT pipeline.wait_for('s_2'), pipeline.wait_for('s_21'), pipeline.wait_for('s_22'), pipeline.wait_for('s_23');
\d s_2_late
SELECT stream, at, price, opened, auctions_price, late_windows FROM s_21_late ORDER BY stream::text;
SELECT stream, at, opened, auction, id FROM s_22_late ORDER BY stream::text;
SELECT view, stream, message FROM pipeline.dead_letters WHERE view IN ('s_2'::regclass, 's_22') ORDER BY view::text;
SELECT count(*) AS differ FROM (SELECT price, count(*) FROM (SELECT price FROM past_bids UNION ALL SELECT price FROM past_auctions UNION ALL VALUES (3), (3), (4.5)) u GROUP BY 1 EXCEPT ALL TABLE s_23) d;

-- late rows of each of them are applied
SELECT pipeline.wait_for('s_30');
SELECT stream, at, opened FROM s_30_late ORDER BY stream::text;
SELECT pipeline.apply_late('s_30');
SELECT pipeline.wait_for('s_30'), pipeline.verify_state('s_30');
SELECT count(*) AS left FROM s_30_late;
INSERT INTO past_bids VALUES (1, 2, 3, '2024-01-01 00:00:01+00', 'late');
INSERT INTO past_auctions VALUES (999, 3, 4.5, '2024-01-01 00:00:02+00');
SELECT * FROM check_streams(ARRAY[30]);
DELETE FROM past_bids WHERE note = 'late';
DELETE FROM past_auctions WHERE id = 999;

-- rebuilt from history beside the running view
CALL pipeline.replay('s_5');
CALL pipeline.replay('s_24');
SELECT * FROM check_streams(ARRAY[5]);

-- what is refused
CREATE VIEW no WITH (pipeline.continuous, pipeline.workers = 2) AS SELECT at FROM persons UNION ALL SELECT opened FROM auctions;
CREATE VIEW no WITH (pipeline.continuous) AS SELECT p.id FROM persons p JOIN auctions a ON a.seller = p.id;
CREATE VIEW no WITH (pipeline.continuous) AS SELECT w, count(*) FROM (SELECT pipeline.tumble(at, '1 minute') AS w FROM persons UNION ALL SELECT pipeline.tumble(opened, '2 minutes') FROM auctions) u GROUP BY w;
CREATE VIEW no WITH (pipeline.continuous) AS SELECT at FROM persons UNION SELECT opened FROM auctions;
CREATE VIEW no WITH (pipeline.continuous) AS SELECT at FROM persons UNION ALL SELECT opened FROM auctions LIMIT 3;
CREATE VIEW no WITH (pipeline.continuous) AS SELECT at FROM persons UNION ALL SELECT opened FROM past_auctions;
CREATE VIEW no WITH (pipeline.continuous) AS SELECT pipeline.tumble(at, '1 minute'), count(*) FROM (SELECT at FROM persons UNION ALL SELECT at + interval '1 hour' FROM bids) u GROUP BY 1;
CREATE FOREIGN TABLE unzoned (at timestamp) SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '0');
CREATE VIEW no WITH (pipeline.continuous) AS SELECT pipeline.tumble(at, '1 minute'), count(*) FROM (SELECT at FROM unzoned UNION ALL SELECT at FROM bids) u GROUP BY 1;
DROP FOREIGN TABLE unzoned;
ALTER FOREIGN TABLE auctions OPTIONS (SET event_time 'id');
DROP FOREIGN TABLE auctions;
DROP FOREIGN TABLE auctions CASCADE;
SELECT view FROM pipeline.views ORDER BY view::text;
DROP FOREIGN TABLE bids, persons CASCADE;
SELECT (SELECT count(*) FROM pipeline_data.views) AS views, (SELECT count(*) FROM pipeline_data.inputs) AS inputs;
