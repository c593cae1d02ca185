-- Without this: rows that no record can be made of would be taken until COMMIT, or records would be kept, or asked
-- for, by transactions that are rolled back.  What needs a broker is in test/t/181_insert_kafka.pl; here nobody listens.
SET timezone = 'UTC';
\set SHOW_CONTEXT never
CREATE SERVER di_kafka FOREIGN DATA WRAPPER pipeline_kafka OPTIONS (bootstrap_servers 'localhost:1', "message.timeout.ms" '1000', "message.max.bytes" '2000');
CREATE FOREIGN TABLE di_orders (id bigint NOT NULL DEFAULT 7, amount numeric CHECK (amount > 0), twice numeric GENERATED ALWAYS AS (amount * 2) STORED,
  at timestamptz OPTIONS (format 'epoch_ms'), k text OPTIONS (metadata 'key'), p bigint OPTIONS (metadata 'partition'), o bigint OPTIONS (metadata 'offset'),
  t timestamp OPTIONS (metadata 'timestamp'), h json OPTIONS (metadata 'headers'), topic text OPTIONS (metadata 'topic')) SERVER di_kafka OPTIONS (topic 'orders');

-- rows that are forgotten
BEGIN;
INSERT INTO di_orders (id, amount, k, p, h) VALUES (1, 1.50, 'a', 3, '{"x": "y"}'), (DEFAULT, NULL, NULL, NULL, NULL) RETURNING *;
COPY di_orders (id, amount) FROM STDIN WITH (FORMAT csv);
2,3.5
3,
\.
SAVEPOINT s;
INSERT INTO di_orders SELECT g FROM generate_series(1, 1000) g;
ROLLBACK TO s;
INSERT INTO di_orders VALUES (4);
ROLLBACK;
EXPLAIN (COSTS off) INSERT INTO di_orders VALUES (1);

-- refused at once
INSERT INTO di_orders (id) VALUES (NULL);
INSERT INTO di_orders (amount) VALUES (-1);
INSERT INTO di_orders (o) VALUES (1);
INSERT INTO di_orders (topic) VALUES ('orders');
INSERT INTO di_orders (p) VALUES (-1);
INSERT INTO di_orders (p) VALUES (3000000000);
INSERT INTO di_orders (t) VALUES ('1969-12-31 23:59:59.999');
INSERT INTO di_orders (t) VALUES ('infinity');
INSERT INTO di_orders (h) VALUES ('[]');
INSERT INTO di_orders (h) VALUES ('"x"');
INSERT INTO di_orders (at) VALUES ('-infinity');
INSERT INTO di_orders (id, k) VALUES (1, repeat('x', 2000));
INSERT INTO di_orders (twice) VALUES (1);
UPDATE di_orders SET id = 1;
DELETE FROM di_orders WHERE p = 1;
TRUNCATE di_orders;
-- columns that no document has
CREATE FOREIGN TABLE di_twice (a int, b text OPTIONS (field 'a')) SERVER di_kafka OPTIONS (topic 'orders');
INSERT INTO di_twice VALUES (1);
CREATE FOREIGN TABLE di_inside (a int OPTIONS (field 'x.y.z'), b text OPTIONS (field 'x.y')) SERVER di_kafka OPTIONS (topic 'orders');
INSERT INTO di_inside VALUES (1);
CREATE FOREIGN TABLE di_keys (a int, k1 text OPTIONS (metadata 'key'), k2 bytea OPTIONS (metadata 'key')) SERVER di_kafka OPTIONS (topic 'orders');
INSERT INTO di_keys VALUES (1);
CREATE FOREIGN TABLE di_whole (a int, doc jsonb OPTIONS (metadata 'payload')) SERVER di_kafka OPTIONS (topic 'orders');
INSERT INTO di_whole VALUES (1, '{}');

-- nobody is there who could take the record: the transaction is aborted as a whole
CREATE TABLE di_here (id int);
BEGIN;
INSERT INTO di_here VALUES (1);
INSERT INTO di_orders VALUES (1);
COMMIT;
-- what is not to be written to is not asked for: its server may be gone
BEGIN;
INSERT INTO di_orders VALUES (1);
SAVEPOINT s;
CREATE SERVER di_gone FOREIGN DATA WRAPPER pipeline_kafka OPTIONS (bootstrap_servers 'localhost:1');
CREATE FOREIGN TABLE di_gone (id int) SERVER di_gone OPTIONS (topic 'gone');
INSERT INTO di_gone VALUES (1);
ROLLBACK TO s;
COMMIT;
BEGIN;
CREATE SERVER di_dropped FOREIGN DATA WRAPPER pipeline_kafka OPTIONS (bootstrap_servers 'localhost:1');
CREATE FOREIGN TABLE di_dropped (id int) SERVER di_dropped OPTIONS (topic 'dropped');
INSERT INTO di_dropped VALUES (1);
DROP FOREIGN TABLE di_dropped;
DROP SERVER di_dropped;
COMMIT;
BEGIN;
INSERT INTO di_orders VALUES (1);
PREPARE TRANSACTION 'di';
SELECT count(*) FROM di_here;
-- who may
CREATE ROLE di_reader;
GRANT SELECT ON di_orders TO di_reader;
SET ROLE di_reader;
INSERT INTO di_orders VALUES (1);
RESET ROLE;
BEGIN TRANSACTION READ ONLY;
INSERT INTO di_orders VALUES (1);
ROLLBACK;

DROP TABLE di_here;
DROP FOREIGN TABLE di_orders, di_twice, di_inside, di_keys, di_whole;
DROP SERVER di_kafka;
DROP ROLE di_reader;
