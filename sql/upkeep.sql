-- Things that happen around a running view: its stream keeps trickling, an
-- administrator compacts tables, what it reads is defined anew.  If this failed,
-- events that came in time would be late, the server would crash, or columns
-- that nobody read would show up as null.
SET client_min_messages = warning;
CREATE SCHEMA upkeep;
SET search_path = upkeep, public;
SET timezone = 'UTC';

-- A stream is not idle as long as events arrive, however old their times are:
-- the clock must not close their window.
CREATE FOREIGN TABLE trickle (id int, at timestamptz) SERVER pipeline_local
  OPTIONS (event_time 'at', out_of_orderness '0', idle_timeout '3 seconds');
CREATE VIEW v_trickle WITH (pipeline.continuous) AS
  SELECT lower(pipeline.tumble(at, '1 minute')) AS w, count(*) AS n FROM trickle GROUP BY w;
INSERT INTO trickle VALUES (1, '2024-01-01 00:00:01Z');
DO $$
DECLARE
  finish timestamptz := clock_timestamp() + interval '4 seconds';
BEGIN
  WHILE clock_timestamp() < finish LOOP
    INSERT INTO trickle VALUES (2, '2024-01-01 00:00:02Z');
    COMMIT;
    PERFORM pipeline.wait_for('v_trickle', '60 s');
  END LOOP;
END $$;
INSERT INTO trickle VALUES (6, '2024-01-01 00:00:06Z'), (7, '2024-01-01 00:01:00Z');
SELECT pipeline.wait_for('v_trickle', '60 s');
SELECT w, n > 3 AS counted FROM v_trickle;
SELECT count(*) AS late FROM v_trickle_late;

-- Positions survive being moved to another place in their table.
DO $$
BEGIN
  FOR i IN 1..5 LOOP
    INSERT INTO trickle VALUES (10, '2024-01-01 00:01:01Z');
  END LOOP;
END $$;
SELECT pipeline.wait_for('v_trickle', '60 s');
VACUUM FULL pipeline_data.checkpoints;
INSERT INTO trickle VALUES (11, '2024-01-01 00:02:00Z');
SELECT pipeline.wait_for('v_trickle', '60 s');
SELECT w, n > 3 AS counted FROM v_trickle ORDER BY w;
SELECT failures, last_error FROM pipeline.stat_views WHERE view = 'v_trickle'::regclass;

-- A second dead letter of the same partition and offset, as after a topic was
-- recreated, must not stop the view.
CREATE FOREIGN TABLE numbers (a int) SERVER pipeline_local;
CREATE VIEW v_numbers WITH (pipeline.continuous) AS SELECT 1 / a AS x FROM numbers;
INSERT INTO pipeline_data.dead_letters
  SELECT id, 'numbers', 0, n, NULL, now(), '22012', 'earlier', NULL, NULL
  FROM pipeline_data.views, generate_series(0, 3) AS n WHERE view = 'v_numbers'::regclass;
INSERT INTO numbers VALUES (0), (1);
SELECT pipeline.wait_for('v_numbers', '60 s');
SELECT x FROM v_numbers;
SELECT message, count(*) > 0 AS there FROM pipeline.dead_letters
  WHERE view = 'v_numbers'::regclass GROUP BY message ORDER BY message;

RESET search_path;
DROP SCHEMA upkeep CASCADE;
