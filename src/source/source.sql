-- Foreign-data wrappers of streams, and the server of local ones.

CREATE FUNCTION pipeline_data.pipeline_kafka_handler() RETURNS fdw_handler
LANGUAGE C STRICT
AS 'MODULE_PATHNAME', 'cq_kafka_handler';

CREATE FUNCTION pipeline_data.pipeline_kafka_validator(text[], oid) RETURNS void
LANGUAGE C STRICT
AS 'MODULE_PATHNAME', 'cq_kafka_validator';

CREATE FUNCTION pipeline_data.pipeline_local_handler() RETURNS fdw_handler
LANGUAGE C STRICT
AS 'MODULE_PATHNAME', 'cq_local_handler';

CREATE FUNCTION pipeline_data.pipeline_local_validator(text[], oid) RETURNS void
LANGUAGE C STRICT
AS 'MODULE_PATHNAME', 'cq_local_validator';

REVOKE ALL ON FUNCTION pipeline_data.pipeline_kafka_handler() FROM PUBLIC;
REVOKE ALL ON FUNCTION pipeline_data.pipeline_kafka_validator(text[], oid) FROM PUBLIC;
REVOKE ALL ON FUNCTION pipeline_data.pipeline_local_handler() FROM PUBLIC;
REVOKE ALL ON FUNCTION pipeline_data.pipeline_local_validator(text[], oid) FROM PUBLIC;

-- Who may name brokers for the server to connect to is for an administrator to say: no USAGE for PUBLIC.
CREATE FOREIGN DATA WRAPPER pipeline_kafka
  HANDLER pipeline_data.pipeline_kafka_handler
  VALIDATOR pipeline_data.pipeline_kafka_validator;
COMMENT ON FOREIGN DATA WRAPPER pipeline_kafka IS 'streams that are Kafka topics';

CREATE FOREIGN DATA WRAPPER pipeline_local
  HANDLER pipeline_data.pipeline_local_handler
  VALIDATOR pipeline_data.pipeline_local_validator;
COMMENT ON FOREIGN DATA WRAPPER pipeline_local IS 'streams that are filled by INSERT';

CREATE SERVER pipeline_local FOREIGN DATA WRAPPER pipeline_local;
COMMENT ON SERVER pipeline_local IS 'streams that are filled by INSERT and kept in this database';
GRANT USAGE ON FOREIGN SERVER pipeline_local TO PUBLIC;
