-- Without this: a server, a user mapping or a stream with options that mean nothing, or mean something else
-- than was meant, would be created; or be refused without saying what to do instead.
SET timezone = 'UTC';
\set SHOW_CONTEXT never
CREATE SERVER so_kafka FOREIGN DATA WRAPPER pipeline_kafka OPTIONS (bootstrap_servers 'localhost:1');

-- servers, wrappers and user mappings
CREATE SERVER r FOREIGN DATA WRAPPER pipeline_kafka;
CREATE SERVER r FOREIGN DATA WRAPPER pipeline_kafka OPTIONS (bootstrap_servers '');
CREATE SERVER r FOREIGN DATA WRAPPER pipeline_kafka OPTIONS (bootstrap_servers 'localhost:none');
DO $$ BEGIN EXECUTE format('CREATE SERVER r FOREIGN DATA WRAPPER pipeline_kafka OPTIONS (bootstrap_servers %L)',
  (SELECT string_agg('host' || i, ',') FROM generate_series(1, 101) i)); END $$;
CREATE SERVER r FOREIGN DATA WRAPPER pipeline_kafka OPTIONS (bootstrap_servers 'localhost:1', "sasl.password" 'secret');
CREATE SERVER r FOREIGN DATA WRAPPER pipeline_kafka OPTIONS (bootstrap_servers 'localhost:1', "group.id" 'mine');
CREATE SERVER r FOREIGN DATA WRAPPER pipeline_kafka OPTIONS (bootstrap_servers 'localhost:1', "no.such.property" '1');
CREATE SERVER r FOREIGN DATA WRAPPER pipeline_local OPTIONS (bootstrap_servers 'localhost:1');
CREATE USER MAPPING FOR CURRENT_USER SERVER pipeline_local OPTIONS (name 'x');
CREATE USER MAPPING FOR CURRENT_USER SERVER so_kafka OPTIONS (bootstrap_servers 'localhost:1');
ALTER FOREIGN DATA WRAPPER pipeline_kafka OPTIONS (ADD topic 'x');

-- options of streams
CREATE FOREIGN TABLE r (k text) SERVER so_kafka;
CREATE FOREIGN TABLE r (k text) SERVER so_kafka OPTIONS (topic 'two words');
CREATE FOREIGN TABLE r (k text) SERVER so_kafka OPTIONS (topic 'x', topics 'y');
CREATE FOREIGN TABLE r (k text) SERVER so_kafka OPTIONS (topic 'x', nonsense 'y');
CREATE FOREIGN TABLE r (k text) SERVER so_kafka OPTIONS (topic 'x', format 'avro');
CREATE FOREIGN TABLE r (k text) SERVER so_kafka OPTIONS (topic 'x', format 'xml');
CREATE FOREIGN TABLE r (k text) SERVER so_kafka OPTIONS (topic 'x', partitions '3-1');
CREATE FOREIGN TABLE r (k text) SERVER so_kafka OPTIONS (topic 'x', start 'sometime');
CREATE FOREIGN TABLE r (k text) SERVER so_kafka OPTIONS (topic 'x', on_error 'ignore');
CREATE FOREIGN TABLE r (k text) SERVER pipeline_local OPTIONS (topic 'x');
CREATE FOREIGN TABLE r (at timestamptz) SERVER pipeline_local OPTIONS (out_of_orderness '1 second');
CREATE FOREIGN TABLE r (at timestamptz) SERVER pipeline_local OPTIONS (event_time 'at');
CREATE FOREIGN TABLE r (at timestamptz) SERVER pipeline_local OPTIONS (event_time 'time', out_of_orderness '0');
CREATE FOREIGN TABLE r (at text) SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '0');
CREATE FOREIGN TABLE r (at timestamptz) SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '-1 second');
CREATE FOREIGN TABLE r (at timestamptz) SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '1 month');
CREATE FOREIGN TABLE r (at timestamptz) SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness 'soon');
CREATE FOREIGN TABLE r (at timestamptz) SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness 'off');
CREATE FOREIGN TABLE r (at timestamptz) SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '0', idle_timeout '0');
CREATE FOREIGN TABLE r (k text) SERVER so_kafka OPTIONS (topic 'x', partition_key 'site');
CREATE FOREIGN TABLE r (k text) SERVER so_kafka OPTIONS (topic 'x', primary_key '');

-- options of columns
CREATE FOREIGN TABLE r (k text OPTIONS (metadata 'key', field 'a')) SERVER so_kafka OPTIONS (topic 'x');
CREATE FOREIGN TABLE r (k text OPTIONS (metadata 'size')) SERVER so_kafka OPTIONS (topic 'x');
CREATE FOREIGN TABLE r (k text OPTIONS (metadata 'topic')) SERVER pipeline_local;
CREATE FOREIGN TABLE r (k text OPTIONS (metadata 'offset')) SERVER so_kafka OPTIONS (topic 'x');
CREATE FOREIGN TABLE r (k int OPTIONS (metadata 'topic')) SERVER so_kafka OPTIONS (topic 'x');
CREATE FOREIGN TABLE r (k int OPTIONS (metadata 'timestamp')) SERVER so_kafka OPTIONS (topic 'x');
CREATE FOREIGN TABLE r (k int OPTIONS (metadata 'headers')) SERVER so_kafka OPTIONS (topic 'x');
CREATE FOREIGN TABLE r (k text OPTIONS (metadata 'partition')) SERVER so_kafka OPTIONS (topic 'x');
CREATE FOREIGN TABLE r (k int OPTIONS (format 'epoch_ms')) SERVER so_kafka OPTIONS (topic 'x');
CREATE FOREIGN TABLE r (at timestamptz OPTIONS (format 'epoch')) SERVER so_kafka OPTIONS (topic 'x');
CREATE FOREIGN TABLE r (k text OPTIONS (path 'a.b')) SERVER so_kafka OPTIONS (topic 'x');
CREATE FOREIGN TABLE r (k int, g int OPTIONS (field 'a') GENERATED ALWAYS AS (k + 1) STORED) SERVER so_kafka OPTIONS (topic 'x');
CREATE FOREIGN TABLE r (o bigint OPTIONS (metadata 'offset'), g bigint GENERATED ALWAYS AS (o + 1) STORED) SERVER pipeline_local;

-- what is no stream
CREATE TABLE so_table (at timestamptz);
SELECT pipeline.advance_watermark('so_table', '2024-01-01Z');

-- none of these has left anything behind
SELECT count(*) FROM pg_class WHERE relname = 'r';
SELECT count(*) FROM pg_foreign_server WHERE srvname = 'r';
DROP TABLE so_table;
DROP SERVER so_kafka CASCADE;
