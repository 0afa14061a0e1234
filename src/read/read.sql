-- Read.

CREATE TYPE es_event AS (
    position bigint,
    stream text,
    version bigint,
    type text,
    schema_version int,
    data jsonb,
    metadata jsonb,
    tags text[],
    event_id uuid,
    created_at timestamptz,
    content_type text,
    payload bytea
);
COMMENT ON TYPE es_event IS 'An event as it is read';

CREATE FUNCTION eventstore.read_rows(internal) RETURNS internal
    AS 'MODULE_PATHNAME', 'read_rows'
    LANGUAGE C STRICT;
COMMENT ON FUNCTION eventstore.read_rows(internal) IS
    'Tells the planner how many rows a call that reads will return';

CREATE FUNCTION es_read_stream(
    stream text,
    from_version bigint DEFAULT NULL,
    max_count int DEFAULT NULL,
    backwards boolean DEFAULT false,
    types text[] DEFAULT NULL)
    RETURNS SETOF es_event
    AS 'MODULE_PATHNAME', 'es_read_stream'
    LANGUAGE C STABLE PARALLEL RESTRICTED ROWS 100 SUPPORT eventstore.read_rows;
COMMENT ON FUNCTION es_read_stream(text, bigint, int, boolean, text[]) IS
    'The events of a stream, by version';

CREATE FUNCTION es_read_all(
    after_position bigint DEFAULT NULL,
    max_count int DEFAULT 1000,
    types text[] DEFAULT NULL,
    categories text[] DEFAULT NULL,
    backwards boolean DEFAULT false,
    wait interval DEFAULT NULL,
    up_to bigint DEFAULT NULL)
    RETURNS SETOF es_event
    AS 'MODULE_PATHNAME', 'es_read_all'
    LANGUAGE C VOLATILE ROWS 1000 SUPPORT eventstore.read_rows;
COMMENT ON FUNCTION es_read_all(bigint, int, text[], text[], boolean, interval, bigint) IS
    'The events of the log, by position, up to the head';

CREATE FUNCTION es_read_category(
    category text,
    after_position bigint DEFAULT NULL,
    max_count int DEFAULT 1000,
    consumer_group_member int DEFAULT NULL,
    consumer_group_size int DEFAULT NULL,
    wait interval DEFAULT NULL,
    group_by text DEFAULT NULL)
    RETURNS SETOF es_event
    AS 'MODULE_PATHNAME', 'es_read_category'
    LANGUAGE C VOLATILE ROWS 1000 SUPPORT eventstore.read_rows;
COMMENT ON FUNCTION es_read_category(text, bigint, int, int, int, interval, text) IS
    'The events of a category, by position, up to the head';

CREATE FUNCTION es_read_correlation(
    correlation_id text,
    max_count int DEFAULT NULL,
    after_position bigint DEFAULT NULL,
    key text DEFAULT 'correlation_id')
    RETURNS SETOF es_event
    AS 'MODULE_PATHNAME', 'es_read_correlation'
    LANGUAGE C VOLATILE ROWS 100 SUPPORT eventstore.read_rows;
COMMENT ON FUNCTION es_read_correlation(text, int, bigint, text) IS
    'The events with a correlation_id, or another key, in their metadata, by position, up to the head';

CREATE FUNCTION es_read_event(event_id uuid)
    RETURNS es_event
    AS 'MODULE_PATHNAME', 'es_read_event'
    LANGUAGE C STABLE PARALLEL RESTRICTED;
COMMENT ON FUNCTION es_read_event(uuid) IS
    'The event of an id; null: there is none';

CREATE FUNCTION es_query(
    query jsonb,
    after_position bigint DEFAULT NULL,
    max_count int DEFAULT NULL,
    wait interval DEFAULT NULL,
    backwards boolean DEFAULT false,
    up_to bigint DEFAULT NULL)
    RETURNS SETOF es_event
    AS 'MODULE_PATHNAME', 'es_query'
    LANGUAGE C VOLATILE ROWS 100 SUPPORT eventstore.read_rows;
COMMENT ON FUNCTION es_query(jsonb, bigint, int, interval, boolean, bigint) IS
    'The events that a query by types and tags matches, by position, up to the head';

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

