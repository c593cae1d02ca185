-- Without this: conditions on the place of a record in its topic would not be used to find it, or conditions
-- that say nothing about it would be; or reading a stream directly would ask a broker for nothing.  What needs
-- a broker is in test/t/180_read_kafka.pl; here nobody listens.
SET timezone = 'UTC';
CREATE SERVER dr_kafka FOREIGN DATA WRAPPER pipeline_kafka OPTIONS (bootstrap_servers 'localhost:1', "socket.timeout.ms" '1000');
CREATE FOREIGN TABLE dr_orders (id bigint, amount numeric, p int OPTIONS (metadata 'partition'), o bigint OPTIONS (metadata 'offset'),
  t timestamptz OPTIONS (metadata 'timestamp'), k text OPTIONS (metadata 'key')) SERVER dr_kafka OPTIONS (topic 'orders');
CREATE FOREIGN TABLE dr_rounded (id bigint, t timestamptz(0) OPTIONS (metadata 'timestamp'), p bigint OPTIONS (metadata 'partition'))
  SERVER dr_kafka OPTIONS (topic 'orders');
CREATE TABLE dr_places (part int, at bigint, since timestamptz);

-- what is used
EXPLAIN (COSTS off) SELECT id FROM dr_orders;
EXPLAIN (COSTS off) SELECT id FROM dr_orders WHERE p = 1 AND o >= 10 AND amount > 5;
EXPLAIN (COSTS off) SELECT id FROM dr_orders WHERE (p = 0 AND o > 10 AND id > 3) OR (p IN (1, 2) AND 20 < o);
EXPLAIN (COSTS off) SELECT id FROM dr_orders WHERE t >= '2025-01-01' AND t < '2025-01-02' AND o BETWEEN 1::smallint AND 2::int;
EXPLAIN (COSTS off) SELECT id FROM dr_orders WHERE o = ANY ('{1,2,3}') AND NOT p > 4;
-- what is not: what may hold without it, other operators and types, rounded times, functions that give something else each time
EXPLAIN (COSTS off) SELECT id FROM dr_orders WHERE p = 1 OR amount > 5;
EXPLAIN (COSTS off) SELECT id FROM dr_orders WHERE p <> 1 AND o % 2 = 0 AND k = 'x' AND o = 5.0 AND t = date '2025-01-01' AND o > p AND o <> ALL ('{1,2}');
EXPLAIN (COSTS off) SELECT id FROM dr_orders WHERE o > random() * 10 AND o > (random() * 10)::bigint;
EXPLAIN (COSTS off) SELECT id FROM dr_rounded WHERE t >= '2025-01-01' AND p = 1;
-- parameters
SET plan_cache_mode = force_generic_plan;
PREPARE dr_since (int, bigint) AS SELECT id FROM dr_orders WHERE p = $1 AND o >= $2;
EXPLAIN (COSTS off) EXECUTE dr_since (1, 2);
RESET plan_cache_mode;
ANALYZE dr_places;
EXPLAIN (COSTS off) SELECT id FROM dr_places JOIN dr_orders ON p = part AND o = at;
EXPLAIN (COSTS off) SELECT id FROM dr_places, LATERAL (SELECT id FROM dr_orders WHERE p = part AND o >= at ORDER BY o LIMIT 2) s;
EXPLAIN (COSTS off) SELECT (SELECT max(id) FROM dr_orders WHERE o = at) FROM dr_places;
SELECT id FROM dr_orders WHERE o = (SELECT max(at) FROM dr_places);

-- nothing can be found, so nobody is asked
SELECT id FROM dr_orders WHERE o > 5 AND o < 3;
SELECT id FROM dr_orders WHERE o = NULL::bigint;
SELECT count(*) FROM dr_orders WHERE (o < 0 AND p = 1) OR t > 'infinity' OR p = ANY ('{}');
EXECUTE dr_since (NULL, 5);
SELECT count(*) FROM dr_places JOIN dr_orders ON p = part AND o = at;

-- somebody must be asked, and is not there
\set VERBOSITY terse
SELECT id FROM dr_orders LIMIT 1;
SELECT id FROM dr_orders WHERE o = 5;
SET statement_timeout = '100ms';
SELECT id FROM dr_orders WHERE p = 1;
RESET statement_timeout;
\set VERBOSITY default

-- events cannot be changed
UPDATE dr_orders SET amount = 0;
DELETE FROM dr_orders;
TRUNCATE dr_orders;

-- a local stream gives the rows that it keeps, in the order of their offsets
CREATE FOREIGN TABLE dr_local (k text, o bigint OPTIONS (metadata 'offset'), p int OPTIONS (metadata 'partition'), at timestamptz OPTIONS (metadata 'timestamp'))
  SERVER pipeline_local OPTIONS (retention '1 hour');
INSERT INTO dr_local SELECT 'k' || g FROM generate_series(1, 5) g;
SELECT k, o, p, at <= clock_timestamp() AS past FROM dr_local;
SELECT k FROM dr_local WHERE o > 3 AND at > now() - interval '1 hour';
EXPLAIN (COSTS off) SELECT k FROM dr_local WHERE o > 3;
CREATE TABLE dr_copy AS SELECT k, o FROM dr_local;
COPY (SELECT k FROM dr_local WHERE o < 3) TO STDOUT;
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT k FROM dr_local;
FETCH 2 FROM c;
INSERT INTO dr_local VALUES ('later');
FETCH ALL FROM c;
FETCH BACKWARD 1 FROM c;
ROLLBACK;
SELECT count(*) FROM dr_local;

DROP TABLE dr_places, dr_copy;
DROP FOREIGN TABLE dr_orders, dr_rounded, dr_local;
DROP SERVER dr_kafka;
