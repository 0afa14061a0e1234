-- How far the log can be read.

CREATE FUNCTION es_head() RETURNS bigint
    AS 'MODULE_PATHNAME', 'es_head'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION es_head() IS
    'The greatest position such that no event at or below it can still appear';

CREATE FUNCTION es_epoch() RETURNS uuid
    AS 'MODULE_PATHNAME', 'es_epoch'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION es_epoch() IS
    'Identifies this history: another after promotion, restore or copy of the database';

CREATE FUNCTION es_wait(up_to bigint, timeout interval DEFAULT '5 s') RETURNS boolean
    AS 'MODULE_PATHNAME', 'es_wait'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION es_wait(bigint, interval) IS
    'Wait until the head has reached a position; false if time is up';

CREATE FUNCTION es_stream_version(stream text) RETURNS bigint
    AS 'MODULE_PATHNAME', 'es_stream_version'
    LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION es_stream_version(text) IS
    'Version of the last event of a stream; 0: none';

CREATE FUNCTION es_category(stream text) RETURNS text
    AS 'MODULE_PATHNAME', 'es_category'
    LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION es_category(text) IS
    'The category of a stream: its name up to the first "-"';

CREATE FUNCTION es_position_at(at timestamptz) RETURNS bigint
    AS 'MODULE_PATHNAME', 'es_position_at'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION es_position_at(timestamptz) IS
    'The position to read after, to begin with the events of a moment';

