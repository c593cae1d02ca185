-- What continuous views need in the database.

-- Rows of a continuous view are the result of its query over events: nobody else writes them.
CREATE FUNCTION pipeline_data.refuse_dml() RETURNS trigger
LANGUAGE C AS 'MODULE_PATHNAME', 'cq_refuse_dml';
REVOKE EXECUTE ON FUNCTION pipeline_data.refuse_dml() FROM PUBLIC;
