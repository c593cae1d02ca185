-- Without this: CREATE EXTENSION could leave something behind, or open to everybody what is not theirs.

-- it goes without a trace and comes back
DROP EXTENSION pipeline_ext;
SELECT nspname FROM pg_namespace WHERE nspname LIKE 'pipeline%' ORDER BY 1;
SELECT fdwname FROM pg_foreign_data_wrapper WHERE fdwname LIKE 'pipeline%' ORDER BY 1;
CREATE VIEW v WITH (pipeline.continuous) AS SELECT 1 AS one;
CREATE EXTENSION pipeline_ext;
CREATE EXTENSION pipeline_ext;
SELECT extversion = pipeline.version() AS versions_agree FROM pg_extension WHERE extname = 'pipeline_ext';

-- what there is for users
SELECT c.relname, c.relkind FROM pg_class c
WHERE c.relnamespace = 'pipeline'::regnamespace ORDER BY 1;
SELECT fdwname FROM pg_foreign_data_wrapper WHERE fdwname LIKE 'pipeline%' ORDER BY 1;
SELECT srvname, fdwname FROM pg_foreign_server s JOIN pg_foreign_data_wrapper w ON w.oid = s.srvfdw
WHERE srvname LIKE 'pipeline%' ORDER BY 1;

-- every public function and view is commented
SELECT p.oid::regprocedure AS uncommented FROM pg_proc p
WHERE p.pronamespace = 'pipeline'::regnamespace AND obj_description(p.oid, 'pg_proc') IS NULL;
SELECT c.oid::regclass AS uncommented FROM pg_class c
WHERE c.relnamespace = 'pipeline'::regnamespace AND c.relkind IN ('v', 'r')
  AND obj_description(c.oid, 'pg_class') IS NULL;

-- rights: users see schema pipeline and nothing of pipeline_data; pipeline.top() reads health as its caller, who sees his views in it
CREATE ROLE regress_extension_user;
SELECT has_schema_privilege('regress_extension_user', 'pipeline', 'USAGE') AS "pipeline",
  has_schema_privilege('regress_extension_user', 'pipeline', 'CREATE') AS "create in pipeline",
  has_schema_privilege('regress_extension_user', 'pipeline_data', 'USAGE') AS "pipeline_data",
  has_schema_privilege('regress_extension_user', 'pipeline_data', 'CREATE') AS "create in pipeline_data";
SELECT c.oid::regclass AS open_table FROM pg_class c
WHERE c.relnamespace = 'pipeline_data'::regnamespace AND c.relkind IN ('r', 'v', 'S')
  AND (has_table_privilege('regress_extension_user', c.oid, 'SELECT')
    OR has_table_privilege('regress_extension_user', c.oid, 'INSERT'));
SELECT c.oid::regclass AS relation,
  has_table_privilege('regress_extension_user', c.oid, 'SELECT') AS "select",
  has_table_privilege('regress_extension_user', c.oid, 'INSERT, UPDATE, TRUNCATE') AS "write",
  has_table_privilege('regress_extension_user', c.oid, 'DELETE') AS "delete"
FROM pg_class c WHERE c.relnamespace = 'pipeline'::regnamespace AND c.relkind IN ('r', 'v') ORDER BY 1;

-- functions that anybody may execute, and those that nobody else may
SELECT p.oid::regprocedure AS public_function, p.provolatile, p.proparallel FROM pg_proc p
JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'pipeline_ext'
WHERE has_function_privilege('regress_extension_user', p.oid, 'EXECUTE')
ORDER BY p.oid::regprocedure::text COLLATE "C";
SELECT p.oid::regprocedure AS closed_function FROM pg_proc p
JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'pipeline_ext'
WHERE NOT has_function_privilege('regress_extension_user', p.oid, 'EXECUTE')
ORDER BY p.oid::regprocedure::text COLLATE "C";
SELECT p.oid::regprocedure AS security_definer FROM pg_proc p
WHERE p.pronamespace IN ('pipeline'::regnamespace, 'pipeline_data'::regnamespace) AND p.prosecdef;
DROP ROLE regress_extension_user;

-- dumped with the database: everything but who this database is
SELECT unnest(extconfig)::regclass AS dumped FROM pg_extension WHERE extname = 'pipeline_ext' ORDER BY 1;

-- settings
SELECT name, context, vartype, unit FROM pg_settings WHERE name LIKE 'pipeline.%' ORDER BY 1;

-- a server that users depend on keeps the extension in place
CREATE FOREIGN TABLE clicks_extension (at timestamptz, page text) SERVER pipeline_local
  OPTIONS (event_time 'at', out_of_orderness '0');
DROP EXTENSION pipeline_ext;
DROP FOREIGN TABLE clicks_extension;
