-- Without this: joins with tables would repeat, lose or mix up the events of a window.
SET timezone = 'UTC';
CREATE FOREIGN TABLE j_orders (at timestamptz, customer int, product int, amount numeric) SERVER pipeline_local
  OPTIONS (event_time 'at', out_of_orderness '0');
CREATE TABLE j_customers (customer int PRIMARY KEY, segment text, country text);
CREATE TABLE j_products (product int PRIMARY KEY, category text);
CREATE TABLE j_empty (customer int);
INSERT INTO j_customers VALUES (1, 'gold', 'DE'), (2, 'gold', 'FR'), (3, 'silver', 'DE');
INSERT INTO j_products VALUES (10, 'book'), (11, 'toy');
CREATE VIEW j_germans AS SELECT * FROM j_customers WHERE country = 'DE';

CREATE VIEW j_inner WITH (pipeline.continuous) AS
SELECT c.segment, p.category, pipeline.tumble(o.at, '1 minute') AS period, count(*) AS orders, sum(o.amount) AS revenue
FROM j_orders o JOIN j_customers c USING (customer) JOIN j_products p ON p.product = o.product
GROUP BY c.segment, p.category, period;
CREATE VIEW j_left WITH (pipeline.continuous) AS
SELECT c.segment, pipeline.tumble(o.at, '1 minute') AS period, count(*) AS orders, count(c.customer) AS known
FROM j_orders o LEFT JOIN j_customers c USING (customer) GROUP BY c.segment, period;
CREATE VIEW j_right WITH (pipeline.continuous) AS
SELECT c.segment, pipeline.tumble(o.at, '1 minute') AS period, count(*) AS orders
FROM j_customers c RIGHT JOIN j_orders o USING (customer) GROUP BY c.segment, period;
CREATE VIEW j_view WITH (pipeline.continuous) AS
SELECT pipeline.tumble(o.at, '1 minute') AS period, sum(o.amount) AS german
FROM j_orders o JOIN j_germans g USING (customer) GROUP BY period;
CREATE VIEW j_none WITH (pipeline.continuous) AS
SELECT pipeline.tumble(o.at, '1 minute') AS period, count(*) AS n
FROM j_orders o JOIN j_empty USING (customer) GROUP BY period;
CREATE VIEW j_anti WITH (pipeline.continuous) AS
SELECT pipeline.tumble(o.at, '1 minute') AS period, count(*) AS n
FROM j_orders o WHERE NOT EXISTS (SELECT FROM j_customers c WHERE c.customer = o.customer) GROUP BY period;
CREATE VIEW j_lateral WITH (pipeline.continuous) AS
SELECT pipeline.tumble(o.at, '1 minute') AS period, max(t.others) AS others
FROM j_orders o, LATERAL (SELECT count(*) AS others FROM j_customers c WHERE c.customer <> o.customer) t GROUP BY period;

INSERT INTO j_orders VALUES
  ('2024-01-01 00:00:00', 1, 10, 10), ('2024-01-01 00:00:10', 2, 10, 20), ('2024-01-01 00:00:20', 3, 11, 40),
  ('2024-01-01 00:00:30', 4, 10, 80), ('2024-01-01 00:00:40', 1, 12, 160), ('2024-01-01 00:01:00', 1, 10, 1);
SELECT pipeline.wait_for(v) FROM unnest('{j_inner,j_left,j_right,j_view,j_none,j_anti,j_lateral}'::regclass[]) v;
SELECT * FROM j_inner ORDER BY segment;
SELECT * FROM j_left ORDER BY segment;
SELECT * FROM j_right ORDER BY segment;
SELECT * FROM j_view;
SELECT * FROM j_none;
SELECT * FROM j_anti;
SELECT * FROM j_lateral;
SELECT view, events_in, unmatched FROM pipeline.stat_views ORDER BY view::text;

-- both ways of joining with a big table, for few events and for many
DROP VIEW j_lateral;
INSERT INTO j_customers SELECT i, 'bulk', 'XX' FROM generate_series(1000, 20000) i;
ANALYZE j_customers;
INSERT INTO j_orders VALUES ('2024-01-01 00:02:00', 1234, 10, 1);
SELECT pipeline.wait_for('j_inner');
INSERT INTO j_orders SELECT '2024-01-01 00:02:00', 1000 + i % 30000, 10 + i % 2, 1 FROM generate_series(1, 30000) i;
INSERT INTO j_orders VALUES ('2024-01-01 00:03:00', 1, 10, 1);
SELECT pipeline.wait_for('j_inner'), pipeline.wait_for('j_left');
SELECT * FROM j_inner WHERE segment = 'bulk' ORDER BY category;
SELECT * FROM j_left WHERE lower(period) = '2024-01-01 00:02' ORDER BY segment;
SELECT 1 + count(*) AS expected FROM generate_series(1, 30000) i WHERE 1000 + i % 30000 <= 20000;
DROP FOREIGN TABLE j_orders CASCADE;
DROP VIEW j_germans;
DROP TABLE j_customers, j_products, j_empty;
