-- Without this: a continuous view would read for its owner what the owner may not, or show its
-- results, late rows and dead letters to others.
SET timezone = 'UTC';
CREATE ROLE regress_owner;
CREATE ROLE regress_heir;
CREATE ROLE regress_other;
CREATE SCHEMA rights;
GRANT USAGE, CREATE ON SCHEMA rights TO regress_owner, regress_heir;
GRANT USAGE ON SCHEMA rights TO regress_other;
CREATE FOREIGN TABLE rights.events (at timestamptz, k text, n int) SERVER pipeline_local
  OPTIONS (event_time 'at', out_of_orderness '0');
CREATE TABLE rights.secrets (k text PRIMARY KEY, secret text);
INSERT INTO rights.secrets VALUES ('a', 'alpha');
CREATE FUNCTION rights.closed(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
REVOKE EXECUTE ON FUNCTION rights.closed(int) FROM PUBLIC;

-- rights are checked when the view is created, as the user who creates it
SET ROLE regress_owner;
CREATE FOREIGN TABLE rights.own (at timestamptz) SERVER pipeline_local;
CREATE VIEW rights.v WITH (pipeline.continuous) AS SELECT k FROM rights.events;
RESET ROLE;
GRANT SELECT ON rights.events TO regress_owner;
SET ROLE regress_owner;
CREATE VIEW rights.v WITH (pipeline.continuous) AS
SELECT e.k, s.secret FROM rights.events e JOIN rights.secrets s USING (k);
CREATE VIEW rights.v WITH (pipeline.continuous) AS SELECT rights.closed(n) AS n FROM rights.events;
CREATE VIEW pipeline_data.v WITH (pipeline.continuous) AS SELECT k FROM rights.events;
CREATE VIEW pg_catalog.v WITH (pipeline.continuous) AS SELECT k FROM rights.events;
CREATE VIEW rights.v WITH (pipeline.continuous) AS
SELECT k, date_bin('1 minute', at, '2024-01-01+00') AS minute, sum(100 / n) AS s FROM rights.events GROUP BY k, minute;
RESET ROLE;
-- with the rights of views in between
CREATE VIEW rights.window AS SELECT k, secret FROM rights.secrets;
GRANT SELECT ON rights.window TO regress_owner;
SET ROLE regress_owner;
CREATE VIEW rights.w WITH (pipeline.continuous) AS
SELECT e.k, s.secret FROM rights.events e JOIN rights.window s USING (k);
RESET ROLE;
-- but not where those would be lost: what stands above groups without windows is read as the owner
CREATE VIEW rights.totals AS
SELECT t.k, t.n, s.secret FROM (SELECT k, count(*) AS n FROM rights.events GROUP BY k) t JOIN rights.secrets s USING (k);
GRANT SELECT ON rights.totals TO regress_owner;
SET ROLE regress_owner;
CREATE VIEW rights.x WITH (pipeline.continuous) AS SELECT * FROM rights.totals;
RESET ROLE;

INSERT INTO rights.events VALUES ('2024-01-01 00:00', 'a', 1), ('2024-01-01 00:00', 'a', 0),
  ('2024-01-01 00:02', 'a', 2), ('2024-01-01 00:01', 'late', 1);
SELECT pipeline.wait_for('rights.v'), pipeline.wait_for('rights.w');

-- the owner sees results, late rows and dead letters, and nothing of the hidden tables
SET ROLE regress_owner;
SELECT * FROM rights.v;
SELECT * FROM rights.w;
SELECT k, n, late_windows FROM rights.v_late;
SELECT view, stream, sqlstate, message FROM pipeline.dead_letters;
SELECT view FROM pipeline.views ORDER BY 1;
SELECT view, late, dead_letters FROM pipeline.stat_views ORDER BY 1;
SELECT view, next_offset - start_offset >= 0 AS read FROM pipeline.stat_partitions ORDER BY 1;
SELECT count(*) FROM pipeline_data.views;
SELECT has_table_privilege(result, 'SELECT') AS "select", has_table_privilege(result, 'INSERT') AS "insert",
  has_table_privilege(result, 'UPDATE') AS "update", has_table_privilege(result, 'DELETE') AS "delete",
  has_table_privilege(result, 'TRUNCATE') AS "truncate"
FROM (SELECT d.objid AS result FROM pg_depend d JOIN pg_class c ON c.oid = d.objid
      WHERE d.refobjid = 'rights.v'::regclass AND d.deptype = 'i' AND c.relname ~ '^t_') t;
DELETE FROM rights.v_late;
DELETE FROM pipeline.dead_letters;
SELECT count(*) FROM pipeline.dead_letters;
RESET ROLE;

-- others see what is granted, and control nothing
SET ROLE regress_other;
SELECT * FROM rights.v;
SELECT * FROM rights.v_late;
SELECT count(*) FROM pipeline.views;
SELECT count(*) FROM pipeline.stat_views;
SELECT count(*) FROM pipeline.stat_partitions;
SELECT count(*) FROM pipeline.stat_workers;
SELECT count(*) FROM pipeline.dead_letters;
SELECT pipeline.pause('rights.v');
SELECT pipeline.resume('rights.v');
SELECT pipeline.watermark('rights.v');
SELECT pipeline.wait_for('rights.v');
SELECT pipeline.explain('rights.v');
SELECT pipeline.advance_watermark('rights.events', 'infinity');
SELECT pipeline.adopt();
SELECT pipeline.shift_clock('0');
ALTER VIEW rights.v SET (pipeline.late = 'drop');
ALTER VIEW rights.v RENAME TO mine;
DROP VIEW rights.v;
RESET ROLE;
GRANT SELECT ON rights.v TO regress_other;
SET ROLE regress_other;
SELECT * FROM rights.v;
SELECT pipeline.watermark('rights.v');
SELECT pipeline.wait_for('rights.v');
SELECT * FROM rights.v_late;
RESET ROLE;
GRANT pg_read_all_stats TO regress_other;
SET ROLE regress_other;
SELECT view, late FROM pipeline.stat_views ORDER BY 1;
SELECT count(*) FROM pipeline.dead_letters;
RESET ROLE;
REVOKE pg_read_all_stats FROM regress_other;

-- the owner of the stream, not of the view, declares it complete
SET ROLE regress_owner;
SELECT pipeline.advance_watermark('rights.events', 'infinity');
RESET ROLE;

-- a new owner gets all parts, if the new owner may read what the view reads
ALTER VIEW rights.v OWNER TO regress_heir;
GRANT SELECT ON rights.events TO regress_heir;
ALTER VIEW rights.v OWNER TO regress_heir;
SELECT DISTINCT pg_get_userbyid(c.relowner) FROM pg_depend d JOIN pg_class c ON c.oid = d.objid
WHERE d.refobjid = 'rights.v'::regclass AND d.deptype = 'i' AND d.classid = 'pg_class'::regclass;
INSERT INTO rights.events VALUES ('2024-01-01 00:05', 'a', 1);
SELECT pipeline.wait_for('rights.v');
SELECT * FROM rights.v ORDER BY minute;
GRANT SELECT ON rights.window TO regress_heir;
REASSIGN OWNED BY regress_owner TO regress_heir;
SELECT view, owner FROM pipeline.views ORDER BY 1;
INSERT INTO rights.events VALUES ('2024-01-01 00:06', 'a', 1);
SELECT pipeline.wait_for('rights.w');
SELECT count(*) FROM rights.w;

-- what types bring along for rows that there are is evaluated as the owner, never as the system
SET ROLE regress_owner;
CREATE FUNCTION rights.who() RETURNS text LANGUAGE sql VOLATILE AS 'SELECT current_user::text';
CREATE DOMAIN rights.whose AS text DEFAULT rights.who();
CREATE TYPE rights.caster AS ENUM ('regress_owner');
CREATE FUNCTION rights.cast_by(int) RETURNS rights.caster LANGUAGE sql VOLATILE AS 'SELECT current_user::text::rights.caster';
CREATE CAST (int AS rights.caster) WITH FUNCTION rights.cast_by(int);
CREATE FOREIGN TABLE rights.mine (at timestamptz, k int) SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '0', retention '1 day');
INSERT INTO rights.mine VALUES ('2024-01-01 00:05', 1);
ALTER FOREIGN TABLE rights.mine ADD COLUMN whose rights.whose, ALTER k TYPE rights.caster;
SELECT * FROM rights.mine;
CREATE VIEW rights.mine_v WITH (pipeline.continuous) AS SELECT at FROM rights.mine;
SELECT pipeline.wait_for('rights.mine_v');
SELECT pipeline.alter('rights.mine_v', $$SELECT at, 'x'::rights.whose AS whose FROM rights.mine$$);
DROP VIEW rights.mine_v;
RESET ROLE;
-- whose types a superuser may add that the owner cannot name
CREATE SCHEMA rights_closed;
CREATE DOMAIN rights_closed.number AS int;
ALTER FOREIGN TABLE rights.mine ADD COLUMN n rights_closed.number, ADD COLUMN m bigint, DROP COLUMN k;
ALTER FOREIGN TABLE rights.mine ALTER m TYPE rights_closed.number;
SELECT * FROM rights.mine;
ALTER FOREIGN TABLE rights.mine DROP COLUMN n, DROP COLUMN m;
DROP DOMAIN rights_closed.number;
DROP SCHEMA rights_closed;
SET ROLE regress_owner;
DROP FOREIGN TABLE rights.mine;
DROP CAST (int AS rights.caster);
DROP FUNCTION rights.cast_by(int);
DROP TYPE rights.caster;
DROP DOMAIN rights.whose;
DROP FUNCTION rights.who();
RESET ROLE;

-- rights that are taken away stop the view, not the others
REVOKE SELECT ON rights.events FROM regress_heir;
DROP OWNED BY regress_heir;
SELECT count(*) FROM pipeline.views;
SELECT count(*) FROM pg_class WHERE relname ~ '^[qtk]_[0-9]+$';

DROP SCHEMA rights CASCADE;
REVOKE ALL ON FOREIGN SERVER pipeline_local FROM regress_owner;
DROP ROLE regress_owner, regress_heir, regress_other;
