-- Without this: a stream could be defined that means nothing, and fail when a view reads it.
SET timezone = 'UTC';

-- local streams: rows go in and can be read; metadata columns fill themselves
CREATE FOREIGN TABLE s_local (at timestamptz, k text, n int DEFAULT 7,
  double_n int GENERATED ALWAYS AS (n * 2) STORED,
  pos bigint OPTIONS (metadata 'offset'))
SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '5 seconds', idle_timeout '1 second');
INSERT INTO s_local (at, k) VALUES ('2024-01-01', 'a'), ('2024-01-02', 'b');
INSERT INTO s_local (at, k, n) VALUES (NULL, 'c', 1) RETURNING k, n, double_n;
SELECT at, k, n, double_n, pos - min(pos) OVER () AS pos FROM s_local ORDER BY s_local.pos;
BEGIN;
INSERT INTO s_local (at, k) VALUES ('2024-01-01', 'rolled back');
ROLLBACK;
SELECT count(*) FROM s_local;
UPDATE s_local SET n = 1;
DELETE FROM s_local;
COPY s_local (at, k) FROM STDIN;
2024-01-03	copied
\.
SELECT k FROM s_local WHERE at >= '2024-01-03';

-- columns may be added and dropped while nobody reads them
ALTER FOREIGN TABLE s_local ADD COLUMN extra text;
INSERT INTO s_local (at, k, extra) VALUES ('2024-01-04', 'd', 'more');
ALTER FOREIGN TABLE s_local DROP COLUMN n CASCADE;
ALTER FOREIGN TABLE s_local RENAME COLUMN k TO key;
SELECT at, key, extra FROM s_local WHERE at >= '2024-01-03' ORDER BY at;

-- options are checked, whether given or changed
ALTER FOREIGN TABLE s_local OPTIONS (SET idle_timeout 'off', ADD max_ahead '1 day');
ALTER FOREIGN TABLE s_local OPTIONS (SET idle_timeout 'now');
ALTER FOREIGN TABLE s_local OPTIONS (DROP out_of_orderness);
ALTER FOREIGN TABLE s_local DROP COLUMN at;
DROP FOREIGN TABLE s_local;

CREATE FOREIGN TABLE s (at timestamptz) SERVER pipeline_local OPTIONS (even_time 'at');
CREATE FOREIGN TABLE s (at timestamptz) SERVER pipeline_local OPTIONS (topic 'x');
CREATE FOREIGN TABLE s (at timestamptz) SERVER pipeline_local OPTIONS (event_time 'when');
CREATE FOREIGN TABLE s (at date) SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '0');
CREATE FOREIGN TABLE s (at timestamptz) SERVER pipeline_local OPTIONS (event_time 'at');
CREATE FOREIGN TABLE s (at timestamptz) SERVER pipeline_local OPTIONS (out_of_orderness '0');
CREATE FOREIGN TABLE s (at timestamptz) SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '-1 s');
CREATE FOREIGN TABLE s (at timestamptz) SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '1 month');
CREATE FOREIGN TABLE s (at timestamptz) SERVER pipeline_local OPTIONS (on_error 'ignore');
CREATE FOREIGN TABLE s (at timestamptz) SERVER pipeline_local OPTIONS (primary_key 'id');
CREATE FOREIGN TABLE s (at timestamptz, m text OPTIONS (metadata 'colour')) SERVER pipeline_local;
CREATE FOREIGN TABLE s (at timestamptz, m text OPTIONS (metadata 'offset')) SERVER pipeline_local;
CREATE FOREIGN TABLE s (at timestamptz, m text OPTIONS (metadata 'topic')) SERVER pipeline_local;
CREATE FOREIGN TABLE s (at timestamptz, m text OPTIONS (field 'a.b')) SERVER pipeline_local;
CREATE SERVER s_server FOREIGN DATA WRAPPER pipeline_local OPTIONS (host 'x');

-- Kafka streams: everything that can be checked without a broker
CREATE SERVER s_kafka FOREIGN DATA WRAPPER pipeline_kafka;
CREATE SERVER s_kafka FOREIGN DATA WRAPPER pipeline_kafka OPTIONS (bootstrap_servers 'no port:');
CREATE SERVER s_kafka FOREIGN DATA WRAPPER pipeline_kafka OPTIONS (bootstrap_servers 'localhost:1', "sasl.password" 'secret');
CREATE SERVER s_kafka FOREIGN DATA WRAPPER pipeline_kafka OPTIONS (bootstrap_servers 'localhost:1', "plugin.library.paths" '/tmp/x.so');
CREATE SERVER s_kafka FOREIGN DATA WRAPPER pipeline_kafka OPTIONS (bootstrap_servers 'localhost:1', "group.id" 'x');
CREATE SERVER s_kafka FOREIGN DATA WRAPPER pipeline_kafka OPTIONS (bootstrap_servers 'localhost:1', "no.such.property" 'x');
CREATE SERVER s_kafka FOREIGN DATA WRAPPER pipeline_kafka OPTIONS (bootstrap_servers 'localhost:1', "client.id" 'regress');
CREATE FOREIGN TABLE s (at timestamptz) SERVER s_kafka;
CREATE FOREIGN TABLE s (at timestamptz) SERVER s_kafka OPTIONS (topic 'bad topic');
CREATE FOREIGN TABLE s (at timestamptz) SERVER s_kafka OPTIONS (topic 't', format 'xml');
CREATE FOREIGN TABLE s (at timestamptz) SERVER s_kafka OPTIONS (topic 't', start 'yesterday');
CREATE FOREIGN TABLE s (at timestamptz) SERVER s_kafka OPTIONS (topic 't', partitions '3-1');
CREATE FOREIGN TABLE s (at timestamptz) SERVER s_kafka OPTIONS (topic 't', retention '1 day');
CREATE FOREIGN TABLE s (at timestamptz, v text OPTIONS (field '')) SERVER s_kafka OPTIONS (topic 't');
CREATE FOREIGN TABLE s (at int OPTIONS (format 'epoch_ms')) SERVER s_kafka OPTIONS (topic 't');
CREATE FOREIGN TABLE s (at timestamptz OPTIONS (format 'roman')) SERVER s_kafka OPTIONS (topic 't');
CREATE FOREIGN TABLE s (h int OPTIONS (metadata 'headers')) SERVER s_kafka OPTIONS (topic 't');
CREATE FOREIGN TABLE s (at timestamptz OPTIONS (metadata 'timestamp', field 'at')) SERVER s_kafka OPTIONS (topic 't');
CREATE FOREIGN TABLE s_topic (
  at timestamptz OPTIONS (field 'meta.at', format 'epoch_ms'), k text, pos bigint OPTIONS (metadata 'offset'),
  hour timestamptz GENERATED ALWAYS AS (date_bin('1 hour', at, '2000-01-01+00')) STORED)
SERVER s_kafka OPTIONS (topic 't', event_time 'at', out_of_orderness '5 seconds', partitions '0-3,7', start '2024-01-01');
SELECT * FROM s_topic;
INSERT INTO s_topic (k) VALUES ('x');
CREATE USER MAPPING FOR CURRENT_USER SERVER s_kafka OPTIONS ("bootstrap_servers" 'localhost:1');
CREATE USER MAPPING FOR CURRENT_USER SERVER s_kafka OPTIONS ("sasl.username" 'u', "sasl.password" 'p');
ALTER USER MAPPING FOR CURRENT_USER SERVER s_kafka OPTIONS (SET "sasl.password" 'q');
DROP USER MAPPING FOR CURRENT_USER SERVER s_kafka;
DROP SERVER s_kafka CASCADE;

-- a renamed column keeps its meaning: options follow, and JSON is read under the old name
CREATE SERVER renamed_shop FOREIGN DATA WRAPPER pipeline_kafka OPTIONS (bootstrap_servers 'localhost:1');
CREATE FOREIGN TABLE renamed (id int, "a.b" text, at timestamptz, other text OPTIONS (field 'x.y'))
  SERVER renamed_shop OPTIONS (topic 't', event_time 'at', out_of_orderness '0', primary_key 'id, "a.b"');
ALTER FOREIGN TABLE renamed RENAME COLUMN "a.b" TO "Odd, name";
ALTER FOREIGN TABLE renamed RENAME COLUMN at TO moment;
ALTER FOREIGN TABLE renamed RENAME COLUMN other TO another;
\d renamed
CREATE FOREIGN TABLE renamed_local (id int, at timestamptz) SERVER pipeline_local
  OPTIONS (event_time 'at', out_of_orderness '0');
ALTER FOREIGN TABLE renamed_local RENAME COLUMN at TO moment;
INSERT INTO renamed_local VALUES (1, '2024-01-01');
SELECT count(moment) FROM renamed_local;
DROP FOREIGN TABLE renamed, renamed_local;
DROP SERVER renamed_shop;
