-- Windows as functions.  tumble, hop and cumulate work on any table; inside a continuous view the same
-- calls say how to window its stream.  The others only mean something there.

CREATE FUNCTION pipeline.tumble(ts timestamptz, size interval,
  origin timestamptz DEFAULT '2000-01-03 00:00:00+00')
RETURNS tstzrange LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'cq_tumble_timestamptz';
COMMENT ON FUNCTION pipeline.tumble(timestamptz, interval, timestamptz) IS
  'window of a fixed size that a time falls into';
GRANT EXECUTE ON FUNCTION pipeline.tumble(timestamptz, interval, timestamptz) TO PUBLIC;

CREATE FUNCTION pipeline.hop(ts timestamptz, size interval, slide interval,
  origin timestamptz DEFAULT '2000-01-03 00:00:00+00')
RETURNS SETOF tstzrange LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE ROWS 5
AS 'MODULE_PATHNAME', 'cq_hop_timestamptz';
COMMENT ON FUNCTION pipeline.hop(timestamptz, interval, interval, timestamptz) IS
  'windows of a fixed size, one beginning every slide, that a time falls into';
GRANT EXECUTE ON FUNCTION pipeline.hop(timestamptz, interval, interval, timestamptz) TO PUBLIC;

CREATE FUNCTION pipeline.cumulate(ts timestamptz, size interval, step interval)
RETURNS SETOF tstzrange LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE ROWS 5
AS 'MODULE_PATHNAME', 'cq_cumulate_timestamptz';
COMMENT ON FUNCTION pipeline.cumulate(timestamptz, interval, interval) IS
  'windows that grow in steps up to a size, that a time falls into';
GRANT EXECUTE ON FUNCTION pipeline.cumulate(timestamptz, interval, interval) TO PUBLIC;

CREATE FUNCTION pipeline.session(ts timestamptz, gap interval)
RETURNS tstzrange LANGUAGE C IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'cq_only_continuous';
COMMENT ON FUNCTION pipeline.session(timestamptz, interval) IS
  'window that lasts until no event has come for the length of gap';
GRANT EXECUTE ON FUNCTION pipeline.session(timestamptz, interval) TO PUBLIC;

CREATE FUNCTION pipeline.tumble(ts timestamp, size interval,
  origin timestamp DEFAULT '2000-01-03 00:00:00')
RETURNS tsrange LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'cq_tumble_timestamp';
COMMENT ON FUNCTION pipeline.tumble(timestamp, interval, timestamp) IS
  'window of a fixed size that a time falls into';
GRANT EXECUTE ON FUNCTION pipeline.tumble(timestamp, interval, timestamp) TO PUBLIC;

CREATE FUNCTION pipeline.hop(ts timestamp, size interval, slide interval,
  origin timestamp DEFAULT '2000-01-03 00:00:00')
RETURNS SETOF tsrange LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE ROWS 5
AS 'MODULE_PATHNAME', 'cq_hop_timestamp';
COMMENT ON FUNCTION pipeline.hop(timestamp, interval, interval, timestamp) IS
  'windows of a fixed size, one beginning every slide, that a time falls into';
GRANT EXECUTE ON FUNCTION pipeline.hop(timestamp, interval, interval, timestamp) TO PUBLIC;

CREATE FUNCTION pipeline.cumulate(ts timestamp, size interval, step interval)
RETURNS SETOF tsrange LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE ROWS 5
AS 'MODULE_PATHNAME', 'cq_cumulate_timestamp';
COMMENT ON FUNCTION pipeline.cumulate(timestamp, interval, interval) IS
  'windows that grow in steps up to a size, that a time falls into';
GRANT EXECUTE ON FUNCTION pipeline.cumulate(timestamp, interval, interval) TO PUBLIC;

CREATE FUNCTION pipeline.session(ts timestamp, gap interval)
RETURNS tsrange LANGUAGE C IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'cq_only_continuous';
COMMENT ON FUNCTION pipeline.session(timestamp, interval) IS
  'window that lasts until no event has come for the length of gap';
GRANT EXECUTE ON FUNCTION pipeline.session(timestamp, interval) TO PUBLIC;

CREATE FUNCTION pipeline.count_window(n bigint)
RETURNS bigint LANGUAGE C STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'cq_only_continuous';
COMMENT ON FUNCTION pipeline.count_window(bigint) IS
  'number of the window of n events of a group';
GRANT EXECUTE ON FUNCTION pipeline.count_window(bigint) TO PUBLIC;

CREATE FUNCTION pipeline.count_window(n bigint, slide bigint)
RETURNS bigint LANGUAGE C STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'cq_only_continuous';
COMMENT ON FUNCTION pipeline.count_window(bigint, bigint) IS
  'number of the window of n events of a group, one beginning every slide events';
GRANT EXECUTE ON FUNCTION pipeline.count_window(bigint, bigint) TO PUBLIC;

CREATE FUNCTION pipeline.proctime()
RETURNS timestamptz LANGUAGE C VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'cq_proctime';
COMMENT ON FUNCTION pipeline.proctime() IS
  'time at which an event was taken in';
GRANT EXECUTE ON FUNCTION pipeline.proctime() TO PUBLIC;
