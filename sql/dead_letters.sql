-- Without this: one bad record would stop a view, or disappear without a trace.
SET timezone = 'UTC';
CREATE FUNCTION eventually(query text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE answer boolean;
BEGIN
  WHILE clock_timestamp() < statement_timestamp() + interval '30 seconds' LOOP
    EXECUTE query INTO answer;
    IF answer THEN RETURN true; END IF;
  END LOOP;
  RETURN false;
END $$;
CREATE FOREIGN TABLE d_events (at timestamptz, k text, n int, pos bigint OPTIONS (metadata 'offset'))
SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '0');
CREATE VIEW d_where WITH (pipeline.continuous) AS SELECT k, n FROM d_events WHERE 10 / n > 1;
CREATE VIEW d_cast WITH (pipeline.continuous, pipeline.emit = 'changes') AS
SELECT count(*) AS n, sum(k::int) AS s FROM d_events;
CREATE VIEW d_window WITH (pipeline.continuous) AS
SELECT pipeline.tumble(at, '1 minute') AS period, count(*) AS n, max(10 / n) AS m FROM d_events GROUP BY period;

INSERT INTO d_events (at, k, n) VALUES
  ('2024-01-01 00:00:00', '1', 1), ('2024-01-01 00:00:01', '2', 0), ('2024-01-01 00:00:02', 'three', 3),
  ('2024-01-01 00:00:03', '4', 4), ('infinity', '5', 5), (NULL, '6', 6), ('2024-01-01 00:01:00', '7', 7);
SELECT pipeline.wait_for('d_where'), pipeline.wait_for('d_cast'), pipeline.wait_for('d_window');

-- each view has its own dead letters: those that its own query cannot take
SELECT * FROM d_where ORDER BY n;
SELECT * FROM d_cast;
SELECT * FROM d_window;
SELECT d.view, e.k, d.sqlstate, d.message, d.failed_at > now() - interval '1 hour' AS recent, d.payload
FROM pipeline.dead_letters d JOIN d_events e ON e.pos = d."offset" ORDER BY d.view::text, e.pos;
SELECT view, events_in, dead_letters FROM pipeline.stat_views ORDER BY view::text;

-- many bad ones among good ones
INSERT INTO d_events (at, k, n) SELECT '2024-01-01 00:01:30', i, i % 5 FROM generate_series(1, 1000) i;
SELECT pipeline.wait_for('d_where'), pipeline.wait_for('d_window');
SELECT count(*) FROM d_where;
SELECT dead_letters FROM pipeline.stat_views WHERE view = 'd_where'::regclass;

-- too far ahead of the clock: it must not close windows
INSERT INTO d_events (at, k, n) VALUES (now() + interval '2 hours', '1', 1), ('2024-01-01 00:01:31', '1', 1);
SELECT pipeline.wait_for('d_window');
SELECT watermark FROM pipeline.stat_views WHERE view = 'd_window'::regclass;
DROP FOREIGN TABLE d_events CASCADE;
SELECT count(*) FROM pipeline.dead_letters;

-- on_error = skip counts, and keeps nothing
CREATE FOREIGN TABLE d_skip (k text) SERVER pipeline_local OPTIONS (on_error 'skip');
CREATE VIEW d_skipping WITH (pipeline.continuous) AS SELECT k::int AS k FROM d_skip;
INSERT INTO d_skip VALUES ('1'), ('two'), ('3');
SELECT pipeline.wait_for('d_skipping');
SELECT * FROM d_skipping ORDER BY k;
SELECT dead_letters, skipped FROM pipeline.stat_views WHERE view = 'd_skipping'::regclass;
SELECT count(*) FROM pipeline.dead_letters;
DROP FOREIGN TABLE d_skip CASCADE;

-- on_error = stop stops the view at the record; a better definition lets it go on from there
CREATE FOREIGN TABLE d_stop (k text) SERVER pipeline_local OPTIONS (on_error 'stop');
CREATE VIEW d_stopping WITH (pipeline.continuous) AS SELECT k::int AS k FROM d_stop;
INSERT INTO d_stop VALUES ('1');
SELECT pipeline.wait_for('d_stopping');
INSERT INTO d_stop VALUES ('2'), ('three'), ('4');
SELECT eventually($$SELECT state = 'stopped' FROM pipeline.views WHERE view = 'd_stopping'::regclass$$);
SELECT regexp_replace(reason, '[0-9]+', 'N', 'g') AS reason FROM pipeline.views WHERE view = 'd_stopping'::regclass;
SELECT pipeline.pause('d_stopping');
SELECT pipeline.wait_for('d_stopping');
ALTER FOREIGN TABLE d_stop OPTIONS (SET on_error 'dead_letter');
SELECT pipeline.resume('d_stopping');
SELECT pipeline.wait_for('d_stopping');
SELECT * FROM d_stopping ORDER BY k;
SELECT events_in, dead_letters, rows_out FROM pipeline.stat_views WHERE view = 'd_stopping'::regclass;
DROP FOREIGN TABLE d_stop CASCADE;

DROP FUNCTION eventually(text);
