-- Views with several workers: which ones can, what they consist of, and that it all goes with them.
SET client_min_messages = warning;
CREATE SERVER nowhere FOREIGN DATA WRAPPER pipeline_kafka OPTIONS (bootstrap_servers 'localhost:1');
CREATE FOREIGN TABLE hits (site text, page text, amount numeric, at timestamptz)
  SERVER nowhere OPTIONS (topic 'hits', event_time 'at', out_of_orderness '0');
CREATE FOREIGN TABLE clicks (id int, at timestamptz) SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '0');

-- the number
CREATE VIEW v WITH (pipeline.continuous, pipeline.workers = 0) AS SELECT site FROM hits;
CREATE VIEW v WITH (pipeline.continuous, pipeline.workers = 65) AS SELECT site FROM hits;
CREATE VIEW v WITH (pipeline.continuous, pipeline.workers = '2x') AS SELECT site FROM hits;
CREATE VIEW v WITH (pipeline.continuous, pipeline.workers = 2) AS SELECT id FROM clicks;

-- groups without a window must be in one partition each
CREATE VIEW v WITH (pipeline.continuous, pipeline.workers = 2) AS SELECT site, count(*) FROM hits GROUP BY site;
ALTER FOREIGN TABLE hits OPTIONS (ADD partition_key 'site');
CREATE VIEW v WITH (pipeline.continuous, pipeline.workers = 2) AS SELECT page, count(*) FROM hits GROUP BY page;
CREATE VIEW v WITH (pipeline.continuous, pipeline.workers = 2) AS SELECT lower(site), count(*) FROM hits GROUP BY 1;
CREATE VIEW v WITH (pipeline.continuous, pipeline.workers = 2) AS SELECT count(*) FROM hits;
CREATE VIEW totals WITH (pipeline.continuous, pipeline.workers = 2) AS
  SELECT s AS place, page, count(*) FROM (SELECT site AS s, page FROM hits) h GROUP BY s, page;
ALTER VIEW totals SET (pipeline.workers = 3);
ALTER VIEW totals SET (pipeline.workers = 2);

-- aggregates that cannot be put together: rows are kept, unless groups are in one partition
CREATE FUNCTION longest_step(text, text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT CASE WHEN length($2) > length($1) OR $1 IS NULL THEN $2 ELSE $1 END';
CREATE AGGREGATE longest(text) (SFUNC = longest_step, STYPE = text);
SET client_min_messages = notice;
CREATE VIEW by_hour WITH (pipeline.continuous, pipeline.workers = 3) AS
  SELECT page, date_trunc('hour', at) AS h, longest(page) FROM hits GROUP BY page, h;
CREATE VIEW by_site WITH (pipeline.continuous, pipeline.workers = 3) AS
  SELECT site, date_trunc('hour', at) AS h, longest(page) FROM hits GROUP BY site, h;
ALTER VIEW by_site SET (pipeline.workers = 2);
CREATE VIEW one WITH (pipeline.continuous) AS
  SELECT page, date_trunc('hour', at) AS h, longest(page) FROM hits GROUP BY page, h;
ALTER VIEW one SET (pipeline.workers = 2);
CREATE VIEW counts WITH (pipeline.continuous, pipeline.workers = 3) AS
  SELECT page, date_trunc('hour', at) AS h, count(*) AS n, count(DISTINCT site) AS sites FROM hits GROUP BY page, h;
SELECT line FROM pipeline.explain('counts') AS line WHERE line LIKE '%orker%';

-- slices of windows that overlap, which need an instant for each window
CREATE VIEW hops WITH (pipeline.continuous, pipeline.workers = 2) AS
  SELECT page, w, count(*) FROM (SELECT page, pipeline.hop(at, '1 hour', '10 minutes') AS w FROM hits) h GROUP BY page, w;
SELECT line FROM pipeline.explain('hops') AS line WHERE line ~ 'orker|Windows';
CREATE VIEW v WITH (pipeline.continuous, pipeline.workers = 2) AS
  SELECT page, w, count(*) FROM (SELECT page, pipeline.hop(at, '20 seconds', '4 milliseconds') AS w FROM hits) h GROUP BY page, w;
CREATE VIEW v WITH (pipeline.continuous, pipeline.workers = 2) AS
  SELECT page, w, count(*) FROM (SELECT page, pipeline.hop(at, '10.000002 seconds', '2 seconds') AS w FROM hits) h GROUP BY page, w;
DROP VIEW hops;

-- sessions, each of which may have events from all partitions
CREATE VIEW stays WITH (pipeline.continuous, pipeline.workers = 2) AS
  SELECT site, pipeline.session(at, '5 minutes') AS w, count(*), sum(amount) FROM hits GROUP BY site, w;
CREATE VIEW walks WITH (pipeline.continuous, pipeline.workers = 2) AS
  SELECT site, pipeline.session(at, '5 minutes') AS w, array_agg(page ORDER BY at) FROM hits GROUP BY site, w;
SELECT line FROM pipeline.explain('stays') AS line WHERE line LIKE '%orker%';
DROP VIEW stays, walks;

-- a stream in several places: each worker has a table of state for each
CREATE VIEW shares WITH (pipeline.continuous, pipeline.workers = 3) AS
  SELECT a.page, a.h, a.n, t.n AS total FROM (SELECT page, date_trunc('hour', at) AS h, count(*) AS n FROM hits GROUP BY page, h) a
  JOIN (SELECT date_trunc('hour', at) AS h, count(*) AS n FROM hits GROUP BY h) t ON a.h = t.h;
SELECT line FROM pipeline.explain('shares') AS line WHERE line LIKE '%orker%';
SELECT s.number, i.number AS input, c.relname ~ '^k_[0-9]+$' AS has_state FROM pipeline_data.shards s JOIN pipeline_data.views v ON v.id = s.view
JOIN pipeline_data.inputs i ON i.view = s.id JOIN pg_class c ON c.oid = i.chunks WHERE v.view = 'shares'::regclass ORDER BY 1, 2;
CREATE VIEW v WITH (pipeline.continuous, pipeline.workers = 2) AS
  SELECT a.page, a.w, b.n FROM (SELECT page, pipeline.hop(at, '20 seconds', '4 milliseconds') AS w FROM hits) a
  JOIN (SELECT page, w, count(*) AS n FROM (SELECT page, pipeline.hop(at, '20 seconds', '4 milliseconds') AS w FROM hits) h GROUP BY page, w) b ON a.w = b.w AND a.page = b.page;
DROP VIEW shares;
SELECT count(*) FROM pipeline_data.inputs;

-- what only one worker can tell
CREATE VIEW v WITH (pipeline.continuous, pipeline.workers = 2) AS SELECT site, pipeline.count_window(10) AS w, count(*) FROM hits GROUP BY site, w;
CREATE VIEW v WITH (pipeline.continuous, pipeline.workers = 2) AS SELECT site, pipeline.tumble(pipeline.proctime(), '1 minute') AS w, count(*) FROM hits GROUP BY site, w;
CREATE VIEW v WITH (pipeline.continuous, pipeline.workers = 2, pipeline.emit = 'changes') AS SELECT site, date_trunc('hour', at) AS h, count(*) FROM hits GROUP BY site, h;
CREATE VIEW v WITH (pipeline.continuous, pipeline.workers = 2, pipeline.allowed_lateness = '1 minute') AS SELECT site, date_trunc('hour', at) AS h, count(*) FROM hits GROUP BY site, h;

-- before they have found their partitions the number cannot be altered
ALTER VIEW counts SET (pipeline.workers = 2);
ALTER VIEW counts SET (pipeline.workers = 3);

-- what they consist of
SELECT v.view, s.number, c.relname ~ '^k_[0-9]+$' AS has_state, pg_get_userbyid(c.relowner) = current_user AS own
FROM pipeline_data.shards s JOIN pipeline_data.views v ON v.id = s.view LEFT JOIN pg_class c ON c.oid = s.chunks ORDER BY 1, 2;
SELECT view, state, options FROM pipeline.views ORDER BY view::text;
SELECT view, events_in, late FROM pipeline.stat_views ORDER BY view::text;

-- all of it follows the view's owner, and goes with it
CREATE ROLE regress_pipeline_other;
GRANT SELECT ON hits TO regress_pipeline_other;
GRANT USAGE ON FOREIGN SERVER nowhere TO regress_pipeline_other;
GRANT CREATE ON SCHEMA public TO regress_pipeline_other;
ALTER VIEW by_hour OWNER TO regress_pipeline_other;
SELECT count(*), bool_and(pg_get_userbyid(relowner) = 'regress_pipeline_other') FROM pg_class
WHERE oid IN (SELECT s.chunks FROM pipeline_data.shards s JOIN pipeline_data.views v ON v.id = s.view WHERE v.view = 'by_hour'::regclass);
SELECT pipeline.pause('counts');
SELECT state FROM pipeline.views WHERE view = 'counts'::regclass;
SELECT pipeline.resume('counts');
DROP VIEW counts;
DROP SERVER nowhere CASCADE;
SELECT count(*) FROM pipeline_data.shards;
SELECT count(*) FROM pipeline_data.checkpoints;
DROP AGGREGATE longest(text);
DROP FUNCTION longest_step;
DROP FOREIGN TABLE clicks;
DROP OWNED BY regress_pipeline_other;
DROP ROLE regress_pipeline_other;
