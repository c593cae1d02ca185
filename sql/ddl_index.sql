-- Without this: results could not be indexed, or an index would be on the wrong column.
SET timezone = 'UTC';
CREATE FOREIGN TABLE index_clicks (at timestamptz, page text, ms int) SERVER pipeline_local
  OPTIONS (event_time 'at', out_of_orderness '0');
CREATE VIEW index_closed WITH (pipeline.continuous) AS
SELECT pipeline.tumble(at, '1 minute') AS period, page AS c2, count(*) AS c1 FROM index_clicks GROUP BY period, page;
CREATE VIEW index_live WITH (pipeline.continuous, pipeline.emit = 'changes') AS
SELECT page, count(*) AS clicks, sum(ms) * 2 AS twice FROM index_clicks GROUP BY page;
CREATE FUNCTION indexes(v regclass) RETURNS SETOF text LANGUAGE sql AS $$
  SELECT regexp_replace(pg_get_indexdef(i.indexrelid), '\mt_[0-9]+', 't_N', 'g')
  FROM pipeline_data.views w JOIN pg_index i ON i.indrelid = w.result WHERE w.view = v ORDER BY 1
$$;
CREATE FUNCTION plan(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE line text;
BEGIN
  FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
    RETURN NEXT regexp_replace(line, '\mt_[0-9]+', 't_N', 'g');
  END LOOP;
END $$;

-- names are those of the view, whatever the columns beneath are called
CREATE INDEX ON index_closed (c1);
CREATE INDEX ON index_closed (c2, period);
CREATE INDEX closed_upper ON index_closed (upper(period) DESC) INCLUDE (c2) WHERE index_closed.c2 <> 'home';
CREATE INDEX closed_gist ON index_closed USING gist (period);
SELECT * FROM indexes('index_closed');
CREATE INDEX IF NOT EXISTS closed_gist ON index_closed USING gist (period);
SET enable_seqscan = off;
SELECT * FROM plan($$SELECT * FROM index_closed WHERE period @> timestamptz '2024-01-01'$$);
RESET enable_seqscan;

-- rows written later are in the index
INSERT INTO index_clicks VALUES ('2024-01-01 00:00', 'a', 1), ('2024-01-01 00:00', 'b', 1), ('2024-01-01 00:01', 'a', 1);
SELECT pipeline.wait_for('index_closed');
SET enable_seqscan = off;
SELECT * FROM index_closed WHERE period @> timestamptz '2024-01-01 00:00:30' ORDER BY c2;
RESET enable_seqscan;

-- a view that shows changes: keys are free of charge, other columns are not, computed ones impossible
CREATE INDEX ON index_live (page text_pattern_ops);
CREATE INDEX ON index_live (clicks);
CREATE INDEX ON index_live (twice);
SELECT * FROM indexes('index_live');

-- refused
CREATE UNIQUE INDEX ON index_closed (c2);
CREATE INDEX CONCURRENTLY ON index_closed (c2);
CREATE INDEX ON index_closed (c3);
CREATE INDEX ON index_closed ((index_closed.*));
CREATE INDEX ON index_closed ((other.c1));
CREATE ROLE regress_index_user;
GRANT SELECT ON index_closed TO regress_index_user;
SET ROLE regress_index_user;
CREATE INDEX ON index_closed (c2);
DROP INDEX closed_upper;
RESET ROLE;
DROP OWNED BY regress_index_user;
DROP ROLE regress_index_user;

-- found by DROP INDEX where the view would be found
DROP INDEX CONCURRENTLY closed_upper;
DROP INDEX closed_upper;
DROP INDEX public.closed_gist, index_closed_c1_idx;
DROP INDEX closed_upper;
DROP INDEX IF EXISTS closed_upper;
SELECT * FROM indexes('index_closed');
DROP FOREIGN TABLE index_clicks CASCADE;
DROP FUNCTION indexes(regclass), plan(text);
