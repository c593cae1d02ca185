-- Without this: a few events would each time read the whole of a large joined table, or the plan for
-- a few and the one for many would disagree.
SET timezone = 'UTC';
CREATE TABLE few_big (id int, v text);
INSERT INTO few_big SELECT g % 20000, 'v' || g FROM generate_series(1, 40000) AS g;
ANALYZE few_big;
CREATE FOREIGN TABLE few_events (id int, n int) SERVER pipeline_local;
CREATE VIEW few_unindexed WITH (pipeline.continuous) AS
SELECT e.n, b.v FROM few_events e JOIN few_big b USING (id);
CREATE INDEX few_big_id ON few_big (id);
CREATE VIEW few_joined WITH (pipeline.continuous) AS
SELECT e.n, b.v FROM few_events e LEFT JOIN few_big b ON b.id = e.id WHERE e.n % 3 <> 0;
CREATE VIEW few_counted WITH (pipeline.continuous) AS
SELECT b.id % 10 AS k, count(*) AS c, sum(e.n) AS n FROM few_events e JOIN few_big b USING (id) GROUP BY 1;
SELECT * FROM pipeline.explain('few_joined');

CREATE TABLE few_sent (id int, n int);
INSERT INTO few_sent SELECT (i * 7919) % 25000, i FROM generate_series(1, 30000) AS i;
-- a few at a time, then many, then a few
INSERT INTO few_events SELECT * FROM few_sent WHERE n = 1;
SELECT pipeline.wait_for(v) FROM unnest('{few_unindexed,few_joined,few_counted}'::regclass[]) v;
INSERT INTO few_events SELECT * FROM few_sent WHERE n BETWEEN 2 AND 60 ORDER BY n;
SELECT pipeline.wait_for(v) FROM unnest('{few_unindexed,few_joined,few_counted}'::regclass[]) v;
INSERT INTO few_events SELECT * FROM few_sent WHERE n BETWEEN 61 AND 29999 ORDER BY n;
SELECT pipeline.wait_for(v) FROM unnest('{few_unindexed,few_joined,few_counted}'::regclass[]) v;
INSERT INTO few_events SELECT * FROM few_sent WHERE n = 30000;
SELECT pipeline.wait_for(v) FROM unnest('{few_unindexed,few_joined,few_counted}'::regclass[]) v;

WITH expected AS MATERIALIZED (SELECT e.n, b.v FROM few_sent e JOIN few_big b USING (id))
SELECT (SELECT count(*) FROM few_unindexed) AS rows, (SELECT count(*) FROM (TABLE few_unindexed EXCEPT ALL TABLE expected) a) AS more,
  (SELECT count(*) FROM (TABLE expected EXCEPT ALL TABLE few_unindexed) a) AS less;
WITH expected AS MATERIALIZED (SELECT e.n, b.v FROM few_sent e LEFT JOIN few_big b ON b.id = e.id WHERE e.n % 3 <> 0)
SELECT (SELECT count(*) FROM few_joined) AS rows, (SELECT count(*) FROM (TABLE few_joined EXCEPT ALL TABLE expected) a) AS more,
  (SELECT count(*) FROM (TABLE expected EXCEPT ALL TABLE few_joined) a) AS less;
WITH expected AS MATERIALIZED (
  SELECT b.id % 10 AS k, count(*) AS c, sum(e.n) AS n FROM few_sent e JOIN few_big b USING (id) GROUP BY 1)
SELECT (SELECT count(*) FROM few_counted) AS rows, (SELECT count(*) FROM (TABLE few_counted EXCEPT ALL TABLE expected) a) AS more,
  (SELECT count(*) FROM (TABLE expected EXCEPT ALL TABLE few_counted) a) AS less;
SELECT view, filtered, unmatched FROM pipeline.stat_views WHERE view::text ~ '^few_' ORDER BY view;
DROP VIEW few_unindexed, few_joined, few_counted;
DROP FOREIGN TABLE few_events;
