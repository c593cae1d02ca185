-- Functions that users call.  Each checks by itself who may use it on what.

CREATE FUNCTION pipeline.pause(view regclass) RETURNS void
LANGUAGE C STRICT AS 'MODULE_PATHNAME', 'cq_pause';
COMMENT ON FUNCTION pipeline.pause(regclass) IS
  'stop processing events for a continuous view until resume()';

CREATE FUNCTION pipeline.resume(view regclass, accept_loss boolean DEFAULT false) RETURNS void
LANGUAGE C STRICT AS 'MODULE_PATHNAME', 'cq_resume';
COMMENT ON FUNCTION pipeline.resume(regclass, boolean) IS
  'go on with a continuous view that was paused or has stopped; accept_loss: although records are gone';

CREATE FUNCTION pipeline.wait_for(view regclass, timeout interval DEFAULT '1 minute') RETURNS boolean
LANGUAGE C STRICT AS 'MODULE_PATHNAME', 'cq_wait_for';
COMMENT ON FUNCTION pipeline.wait_for(regclass, interval) IS
  'wait until a continuous view has processed all that its stream holds now; false if it took too long';

CREATE FUNCTION pipeline.watermark(view regclass) RETURNS timestamptz
LANGUAGE C STRICT STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'cq_watermark';
COMMENT ON FUNCTION pipeline.watermark(regclass) IS
  'time up to which the events of a continuous view are complete: rows of windows that end by then are final';

CREATE FUNCTION pipeline.advance_watermark(stream regclass, ts timestamptz) RETURNS void
LANGUAGE C STRICT AS 'MODULE_PATHNAME', 'cq_advance_watermark';
COMMENT ON FUNCTION pipeline.advance_watermark(regclass, timestamptz) IS
  'declare the events of a stream complete up to a time, for all continuous views that read it';

CREATE FUNCTION pipeline.apply_late(view regclass) RETURNS void
LANGUAGE C STRICT AS 'MODULE_PATHNAME', 'cq_apply_late';
COMMENT ON FUNCTION pipeline.apply_late(regclass) IS
  'when this transaction commits: count the stored late rows of a continuous view in those of their windows that are still kept, and delete them; wait_for() waits until that is done';

CREATE FUNCTION pipeline.retry_dead_letters(view regclass, "where" text DEFAULT NULL) RETURNS bigint
LANGUAGE C AS 'MODULE_PATHNAME', 'cq_retry_dead_letters';
COMMENT ON FUNCTION pipeline.retry_dead_letters(regclass, text) IS
  'when this transaction commits: process the records of dead letters of a continuous view again, those for which a condition over the columns of pipeline.dead_letters holds; how many. Those that fail again stay; wait_for() waits until it is done';

CREATE FUNCTION pipeline.explain(view regclass) RETURNS SETOF text
LANGUAGE C STRICT AS 'MODULE_PATHNAME', 'cq_explain';
COMMENT ON FUNCTION pipeline.explain(regclass) IS
  'how a continuous view is kept up to date: its stages, and the plans of its queries';

CREATE FUNCTION pipeline.verify_state(view regclass) RETURNS boolean
LANGUAGE C STRICT AS 'MODULE_PATHNAME', 'cq_verify_state';
COMMENT ON FUNCTION pipeline.verify_state(regclass) IS
  'true if the state that a continuous view has in memory is what it has saved; an error if not';

CREATE FUNCTION pipeline.alter(view regclass, new_query text) RETURNS void
LANGUAGE C STRICT AS 'MODULE_PATHNAME', 'cq_alter';
COMMENT ON FUNCTION pipeline.alter(regclass, text) IS
  'add columns to a continuous view, from where it is on: the new query is its own with columns behind';

-- What pipeline.alter() puts into the query of a view, to tell which groups are older than a column:
-- the state of count(*) FILTER (WHERE ...) begins with one in those.
CREATE FUNCTION pipeline.before_alter(number int) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN false;
COMMENT ON FUNCTION pipeline.before_alter(int) IS
  'false; in the query of a view that was altered: is an event missing in the columns that were added then?';

CREATE PROCEDURE pipeline.replay(view regclass, "from" timestamptz DEFAULT NULL, replace_from timestamptz DEFAULT NULL)
LANGUAGE C AS 'MODULE_PATHNAME', 'cq_replay';
COMMENT ON PROCEDURE pipeline.replay(regclass, timestamptz, timestamptz) IS
  'rebuild a continuous view from the history of its stream beside the running one, and exchange the two at the same place';

CREATE PROCEDURE pipeline.backfill(view regclass, query text)
LANGUAGE C AS 'MODULE_PATHNAME', 'cq_backfill';
COMMENT ON PROCEDURE pipeline.backfill(regclass, text) IS
  'rebuild a continuous view from the rows of a query, with columns of the stream, and the stream''s records from where the view began; beside the running one, and exchange the two at the same place';

CREATE FUNCTION pipeline.adopt(accept_loss boolean DEFAULT false) RETURNS void
LANGUAGE C STRICT SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'cq_adopt';
COMMENT ON FUNCTION pipeline.adopt(boolean) IS
  'after a restore or a copy of a database: let its continuous views run here; accept_loss: although what was restored does not belong together';
REVOKE EXECUTE ON FUNCTION pipeline.adopt(boolean) FROM PUBLIC;

CREATE FUNCTION pipeline.shift_clock(by interval) RETURNS interval
LANGUAGE C STRICT AS 'MODULE_PATHNAME', 'cq_shift_clock';
COMMENT ON FUNCTION pipeline.shift_clock(interval) IS
  'for tests: let the clock by which streams are judged go forward at once, until the server is restarted';
REVOKE EXECUTE ON FUNCTION pipeline.shift_clock(interval) FROM PUBLIC;

CREATE FUNCTION pipeline.version() RETURNS text
LANGUAGE C STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'cq_version';
COMMENT ON FUNCTION pipeline.version() IS 'version of the loaded library';
