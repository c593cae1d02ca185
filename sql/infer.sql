-- pipeline.infer_columns() proposes a stream for a topic that nobody knows: if it failed, a new
-- user would get types that do not take the records, a wrong event time, or a statement that is
-- not valid SQL.  Here the records are given; 185_infer.pl has them in a broker.
\pset format unaligned
\pset tuples_only on
SET timezone = 'UTC';

-- The same as texts; each proposal must be a statement that PostgreSQL takes.
CREATE SERVER shop FOREIGN DATA WRAPPER pipeline_kafka OPTIONS (bootstrap_servers 'localhost:1');
CREATE FUNCTION propose(topic text, VARIADIC records text[]) RETURNS text LANGUAGE sql AS $$
  SELECT pipeline_data.infer_from_records(topic, (SELECT array_agg(convert_to(r, 'UTF8') ORDER BY n) FROM unnest(records) WITH ORDINALITY AS u (r, n)))
$$;
CREATE PROCEDURE try(statement text) LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE statement;
END
$$;

-- Types of JSON, nested objects, and names
SELECT propose('web.Orders-v2',
  '{"orderId": 1, "amount": 10.50, "ok": true, "customer": {"id": 7, "address": {"country": "de"}}, "orderedAt": "2025-06-01T12:00:00Z", "user": "a", "tags": ["x", "y"], "ratio": 0.3333333333333333}',
  '{"orderId": 9007199254740993, "amount": 7, "ok": null, "customer": {"id": 8, "address": null}, "orderedAt": "2025-06-01T12:00:10.123456789+02:00", "tags": [], "ratio": 1e-3, "ref": "c1f0a7f2-6f4d-4f4e-8f9e-0d8d1f0a0001"}');
SELECT propose('types',
  '{"big": 1, "mixed": 1, "quoted": 1, "zip": "01234", "day": "2025-06-01", "ip": "10.0.0.1", "local": "2025-06-01 12:00:00", "o": {}, "ints": [1, 2], "nums": [1, 2.5], "objs": [{"a": 1}], "both": {"a": 1}, "nothing": null, "none": []}',
  '{"big": 123456789012345678901234567890, "mixed": "x", "quoted": "2", "zip": "99999", "day": "2025-06-02", "ip": "::1", "local": "2025-06-01 12:00:01", "o": {}, "ints": [], "nums": [3], "objs": [], "both": [1], "nothing": null, "none": []}');
-- A few values that do not fit make a column text, and it is said what the others are
SELECT propose('few_bad', VARIADIC (SELECT array_agg(format('{"amount": %s, "ok": %s, "placed": "%s", "code": "%s"}',
  CASE i WHEN 7 THEN '"n/a"' ELSE i::text END, CASE i WHEN 8 THEN '"yes"' ELSE 'true' END, CASE i WHEN 9 THEN 'soon' ELSE '2025-06-01T12:00:00Z' END, i) ORDER BY i) FROM generate_series(1, 20) i));
SELECT propose('names',
  '{"select": 1, "Select": 2, "SELECT": 3, "@timestamp": 4, "1st": 5, "a.b": 6, "a\\b": 7, "ctid": 8, "größe": 9, "": 10, "it''s": 11, "---": 12, "kafka_offset": 13, "x\u0000y": 14, "HTTPStatusCode": 15}');
SELECT propose('long', '{"' || repeat('a', 70) || '": 1, "' || repeat('a', 71) || '": 2}');

-- Numbers that are times: the name and the size must say so
SELECT propose('epochs', format('{"ts": %s, "created_at": %s, "t_us": %s, "id": %s, "at": "%s", "updated": %s}',
  1748779200000 + n * 1000, 1748779200 + n, 1748779200000000 + n, 1748779200000 + n, 1748779200 + n, CASE n WHEN 3 THEN 0 ELSE 1748779200 + n END))
FROM generate_series(3, 3) AS n;

-- Event time: the name decides among those that every record has and that are in some order
CREATE FUNCTION events(field text, n int, VARIADIC offsets int[]) RETURNS text[] LANGUAGE sql AS $$
  SELECT array_agg(format('{"id": %s, "created_at": "%s", "event_time": "%s"%s}', i,
    to_char(timestamp '2025-06-01' + i * interval '1 second', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
    to_char(timestamp '2025-06-01' + (i - coalesce(offsets[i], 0)) * interval '1 second', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
    CASE WHEN field <> '' AND i > 1 THEN format(', "%s": "2020-01-01T00:00:00Z"', field) ELSE '' END) ORDER BY i)
  FROM generate_series(1, n) AS i
$$;
CREATE FUNCTION options(statement text) RETURNS SETOF text LANGUAGE sql AS $$
  SELECT line FROM regexp_split_to_table(statement, E'\n') AS line WHERE line LIKE '--%' OR line LIKE ')%'
$$;
SELECT options(propose('in_order', VARIADIC events('', 10, 0)));
SELECT options(propose('disorder', VARIADIC events('', 10, 0, 0, 3, 0, 2)));
SELECT options(propose('stragglers', VARIADIC events('', 300, 0, 0, 1, 90000)));
SELECT options(propose('not_always', VARIADIC array_append(events('', 3, 0), '{"id": 4, "created_at": "2025-06-01T00:00:04Z"}')));
SELECT options(propose('birthdays', '{"birth_time": "1990-06-01T00:00:00Z"}', '{"birth_time": "1970-06-01T00:00:00Z"}', '{"birth_time": "2001-06-01T00:00:00Z"}'));
SELECT options(propose('ahead', '{"expires_at": "2199-06-01T00:00:00Z"}'));
SELECT options(pipeline_data.infer_from_records('broker_time', ARRAY['{"a": 1}', '{"a": 2}', '{"a": 3}']::bytea[],
  ARRAY['2025-06-01 00:00:00Z', '2025-06-01 00:00:20Z', '2025-06-01 00:00:10Z']::timestamptz[]));

SELECT propose('kinds', VARIADIC (SELECT array_agg(CASE i % 2 WHEN 0 THEN format('{"bid": {"expires": %s, "dateTime": %s}}', 1748779300000 + i, 1748779200000 + i) ELSE format('{"auction": {"dateTime": %s}}', 1748779200000 + i) END ORDER BY i) FROM generate_series(1, 10) AS i));
CALL try(propose('kinds', '{"a": {"at": 1748779200}}', '{"b": {"at": 1748779200}}'));
SELECT options(propose('kinds_but_one', '{"a": {"at": 1748779200}}', '{"b": {"at": 1748779200}}', '{"c": 1}'));

-- Dictionaries are data, not columns
SELECT propose('dictionaries', VARIADIC (SELECT array_agg(format('{"id": %s, "by_user": {"u%s": 1, "u%s": 2}}', i, i, i + 1000)) FROM generate_series(1, 100) AS i));
SELECT propose('dictionary', VARIADIC (SELECT array_agg(format('{"u%s": %s}', i, i)) FROM generate_series(1, 100) AS i));
SELECT options(propose('deep', (SELECT repeat('{"a": ', 12) || '1' || repeat('}', 12))));

-- Not all of it JSON
SELECT options(propose('some_bad', VARIADIC array_append(events('', 9, 0), '{broken')));
SELECT propose('json_arrays', '[1, 2]', ' [{"a": 1}]');
SELECT propose('half', '{"a": 1}', 'a line of text');

-- CSV
SELECT propose('csv', '1,"Smith, J.",2025-06-01T12:00:00Z,10.5', '2,O''Hara,2025-06-01T12:00:05Z,', '3,"say ""hi""",2025-06-01T12:00:03Z,7');
SELECT propose('with_header', 'Order ID,name,placed at,code', '1,a,1748779200,007', '2,b,1748779201,008');
SELECT propose('semicolons', 'a;1', 'b;2');
SELECT options(propose('two_rows', E'id;name\n1;a\n', E'id;name\n2;b\n3;c'));
SELECT propose('own_headers', E'id;name;ID\r\n1;a;1\r\n', E'id;name;ID\r\n2;"x;y";3');
CALL try(propose('own_headers', E'id;name\n1;a', E'id;name\n2;b'));
SELECT propose('prose', 'Hello, world', 'Goodbye, world');
SELECT propose('lines', 'GET /a 200', 'GET /b, 404');

-- Bytes, keys, and nothing
SELECT pipeline_data.infer_from_records('bytes', ARRAY['\x00ff01', '\xff']::bytea[], NULL, ARRAY['\x6b', NULL]::bytea[]);
SELECT options(pipeline_data.infer_from_records('registry', ARRAY['\x000000000102ff', '\x0000000001ff02']::bytea[], NULL, ARRAY['\xff', NULL]::bytea[]));
SELECT options(pipeline_data.infer_from_records('tombstones', ARRAY[NULL, NULL]::bytea[]));
SELECT options(pipeline_data.infer_from_records('some_tombstones', ARRAY['\x7b2261223a317d', NULL]::bytea[]));
SELECT options(pipeline_data.infer_from_records('empty', '{}'));
SELECT pipeline_data.infer_from_records(NULL, '{}') IS NULL, pipeline_data.infer_from_records('x', NULL) IS NULL;

-- What is in a record ends no comment
SELECT propose('hostile', E'{"a\\n); DROP TABLE x; --": "b\\r\\n; DROP TABLE y", "c": "\\u001b[31mred"}');
CALL try(propose('hostile', E'{"a\\n); DROP TABLE x; --": "b\\r\\n; DROP TABLE y", "c": "\\u001b[31mred"}'));
CALL try(propose('names2', '{"select": 1, "Select": 2, "@timestamp": 4, "a.b": 6, "a\\b": 7, "ctid": 8, "größe": 9, "it''s": 11, "xmin": {"xmax": 1}}'));
CALL try(propose('types2', '{"big": 123456789012345678901234567890, "ip": "::1", "a": [1], "b": [true], "c": ["2025-06-01T00:00:00Z"], "d": [1e5], "ts": 1748779200000, "day": "2025-06-01", "event_time": "2025-06-01T00:00:00"}'));
SELECT attname, attfdwoptions FROM pg_attribute WHERE attrelid IN ('hostile'::regclass, 'names2'::regclass) AND attnum > 0 AND attfdwoptions IS NOT NULL ORDER BY attrelid, attnum;

-- Errors that need no broker
SELECT pipeline.infer_columns('nowhere', 'orders');
SELECT pipeline.infer_columns('pipeline_local', 'orders');
SELECT pipeline.infer_columns('shop', 'orders', sample_size => 0);
SELECT pipeline.infer_columns('shop', 'orders', timeout => '0');
SELECT pipeline.infer_columns('shop', 'orders', table_name => 'a.b.c');
SELECT pipeline.infer_columns('shop', NULL) IS NULL;
CREATE ROLE regress_pipeline_infer;
SET ROLE regress_pipeline_infer;
SELECT pipeline.infer_columns('shop', 'orders');
RESET ROLE;
IMPORT FOREIGN SCHEMA kafka FROM SERVER pipeline_local INTO public;
IMPORT FOREIGN SCHEMA kafka FROM SERVER shop INTO public OPTIONS (sample_size 'x');
IMPORT FOREIGN SCHEMA kafka FROM SERVER shop INTO public OPTIONS (sample '1');
IMPORT FOREIGN SCHEMA kafka FROM SERVER shop INTO public OPTIONS (out_of_orderness 'x');

DROP ROLE regress_pipeline_infer;
DROP SERVER shop CASCADE;
DROP PROCEDURE try;
DROP FUNCTION propose, events, options;
