-- What is in a topic: a stream's definition from sampled records.

CREATE FUNCTION pipeline.infer_columns(
  server name, topic text, sample_size integer DEFAULT 1000, table_name text DEFAULT NULL,
  timeout interval DEFAULT '30 seconds') RETURNS text
LANGUAGE C AS 'MODULE_PATHNAME', 'cq_infer_columns';
COMMENT ON FUNCTION pipeline.infer_columns(name, text, integer, text, interval) IS
  'CREATE FOREIGN TABLE statement for a Kafka topic, proposed from a sample of its records; to be read, or run by \gexec';

-- For tests: the same from records that are given.
CREATE FUNCTION pipeline_data.infer_from_records(
  topic text, payloads bytea[], timestamps timestamptz[] DEFAULT NULL, keys bytea[] DEFAULT NULL) RETURNS text
LANGUAGE C AS 'MODULE_PATHNAME', 'cq_infer_from_records';
