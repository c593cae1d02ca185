-- Without this: options that say how records are written would be taken where they mean nothing, or with values that
-- COPY does not take either, and the records would be read as something that they are not.
\set SHOW_CONTEXT never
\set VERBOSITY default
CREATE SERVER fo_kafka FOREIGN DATA WRAPPER pipeline_kafka OPTIONS (bootstrap_servers 'localhost:1');

-- CSV: the rules of COPY
CREATE FOREIGN TABLE r (a int) SERVER fo_kafka OPTIONS (topic 'x', format 'csv', delimiter '||');
CREATE FOREIGN TABLE r (a int) SERVER fo_kafka OPTIONS (topic 'x', format 'csv', delimiter '');
CREATE FOREIGN TABLE r (a int) SERVER fo_kafka OPTIONS (topic 'x', format 'csv', delimiter E'\n');
CREATE FOREIGN TABLE r (a int) SERVER fo_kafka OPTIONS (topic 'x', format 'csv', delimiter '"');
CREATE FOREIGN TABLE r (a int) SERVER fo_kafka OPTIONS (topic 'x', format 'csv', quote '<<');
CREATE FOREIGN TABLE r (a int) SERVER fo_kafka OPTIONS (topic 'x', format 'csv', quote E'\r');
CREATE FOREIGN TABLE r (a int) SERVER fo_kafka OPTIONS (topic 'x', format 'csv', escape '');
CREATE FOREIGN TABLE r (a int) SERVER fo_kafka OPTIONS (topic 'x', format 'csv', "null" 'a,b');
CREATE FOREIGN TABLE r (a int) SERVER fo_kafka OPTIONS (topic 'x', format 'csv', "null" E'a\nb');
CREATE FOREIGN TABLE r (a int) SERVER fo_kafka OPTIONS (topic 'x', format 'csv', "null" '"');
CREATE FOREIGN TABLE r (a int) SERVER fo_kafka OPTIONS (topic 'x', format 'csv', header 'maybe');
CREATE FOREIGN TABLE r (a int) SERVER fo_kafka OPTIONS (topic 'x', format 'csv', encoding 'klingon');
CREATE FOREIGN TABLE r (a int) SERVER fo_kafka OPTIONS (topic 'x', format 'csv', encoding 'SQL_ASCII');
CREATE FOREIGN TABLE r (a int OPTIONS (force_null 'maybe')) SERVER fo_kafka OPTIONS (topic 'x', format 'csv');

-- what belongs to another format
CREATE FOREIGN TABLE r (a int) SERVER fo_kafka OPTIONS (topic 'x', delimiter ';');
CREATE FOREIGN TABLE r (a text) SERVER fo_kafka OPTIONS (topic 'x', format 'raw', header 'true');
CREATE FOREIGN TABLE r (a int) SERVER fo_kafka OPTIONS (topic 'x', encoding 'LATIN1');
CREATE FOREIGN TABLE r (a int OPTIONS (field 'b')) SERVER fo_kafka OPTIONS (topic 'x', format 'csv', header 'true');
CREATE FOREIGN TABLE r (a text OPTIONS (field 'b')) SERVER fo_kafka OPTIONS (topic 'x', format 'raw');
CREATE FOREIGN TABLE r (a int OPTIONS (force_null 'true')) SERVER fo_kafka OPTIONS (topic 'x');
CREATE FOREIGN TABLE r (a text OPTIONS (force_not_null 'true')) SERVER fo_kafka OPTIONS (topic 'x', format 'raw');
CREATE FOREIGN TABLE r (a int) SERVER pipeline_local OPTIONS (delimiter ';');
CREATE FOREIGN TABLE r (a int OPTIONS (field 'b')) SERVER pipeline_local;
CREATE FOREIGN TABLE r (a text OPTIONS (metadata 'payload')) SERVER pipeline_local;

-- raw: one column
CREATE FOREIGN TABLE r (a int) SERVER fo_kafka OPTIONS (topic 'x', format 'raw');
CREATE VIEW v WITH (pipeline.continuous) AS SELECT a FROM r;
DROP FOREIGN TABLE r;
CREATE FOREIGN TABLE r (a text, b text) SERVER fo_kafka OPTIONS (topic 'x', format 'raw');
CREATE VIEW v WITH (pipeline.continuous) AS SELECT a FROM r;
DROP FOREIGN TABLE r;

-- forms of values
CREATE FOREIGN TABLE r (a int OPTIONS (format 'hex')) SERVER fo_kafka OPTIONS (topic 'x');
CREATE FOREIGN TABLE r (a text OPTIONS (format 'base64')) SERVER fo_kafka OPTIONS (topic 'x');
CREATE FOREIGN TABLE r (a bigint OPTIONS (format 'binary')) SERVER fo_kafka OPTIONS (topic 'x');
CREATE FOREIGN TABLE r (a text OPTIONS (format 'binary')) SERVER fo_kafka OPTIONS (topic 'x', format 'raw');
CREATE FOREIGN TABLE r (a numeric OPTIONS (metadata 'key', format 'binary')) SERVER fo_kafka OPTIONS (topic 'x');
CREATE FOREIGN TABLE r (a bigint[] OPTIONS (metadata 'key', format 'binary')) SERVER fo_kafka OPTIONS (topic 'x');
CREATE FOREIGN TABLE r (a text OPTIONS (metadata 'topic', format 'base64')) SERVER fo_kafka OPTIONS (topic 'x');
CREATE FOREIGN TABLE r (a text OPTIONS (metadata 'key', force_null 'true')) SERVER fo_kafka OPTIONS (topic 'x', format 'csv');
CREATE FOREIGN TABLE r (a interval OPTIONS (format 'epoch_ms')) SERVER fo_kafka OPTIONS (topic 'x');
CREATE FOREIGN TABLE r (a int, b int OPTIONS (force_null 'true') GENERATED ALWAYS AS (a + 1) STORED) SERVER fo_kafka OPTIONS (topic 'x', format 'csv');

-- none of these has left anything behind; and these are right
SELECT count(*) FROM pg_class WHERE relname = 'r';
CREATE DOMAIN fo_day AS date;
CREATE FOREIGN TABLE fo_csv (a int OPTIONS (force_null 'true'), b text OPTIONS (field 'other.b', force_not_null 'on'), p text OPTIONS (metadata 'payload'))
  SERVER fo_kafka OPTIONS (topic 'x', format 'csv', delimiter E'\t', quote '''', escape E'\\', "null" '\N', header 'match', encoding 'latin1');
CREATE FOREIGN TABLE fo_json (a int OPTIONS (field 'items.0.a'), b bytea[] OPTIONS (format 'base64'), d fo_day[] OPTIONS (format 'epoch_s'),
  k uuid OPTIONS (metadata 'key', format 'binary'), p jsonb OPTIONS (metadata 'payload')) SERVER fo_kafka OPTIONS (topic 'x');
CREATE FOREIGN TABLE fo_raw (a double precision OPTIONS (format 'binary'), k bytea OPTIONS (metadata 'key', format 'base64')) SERVER fo_kafka OPTIONS (topic 'x', format 'raw');

-- a column that is renamed keeps its name in headers; what records mean is not changed under a view
ALTER FOREIGN TABLE fo_csv RENAME COLUMN a TO number;
ALTER FOREIGN TABLE fo_csv RENAME COLUMN b TO text;
SELECT attname, attfdwoptions FROM pg_attribute WHERE attrelid = 'fo_csv'::regclass AND attnum > 0 ORDER BY attnum;
CREATE VIEW fo_v WITH (pipeline.continuous) AS SELECT number, text, p FROM fo_csv;
ALTER FOREIGN TABLE fo_csv OPTIONS (SET delimiter ';');
ALTER FOREIGN TABLE fo_csv OPTIONS (DROP header);
ALTER FOREIGN TABLE fo_csv ALTER COLUMN number OPTIONS (SET force_null 'false');
DROP VIEW fo_v;
ALTER FOREIGN TABLE fo_csv OPTIONS (SET delimiter ';');

DROP SERVER fo_kafka CASCADE;
DROP DOMAIN fo_day;
