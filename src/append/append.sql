-- Append.

CREATE FUNCTION es_append(
    stream text,
    type text,
    data jsonb DEFAULT '{}',
    expected_version bigint DEFAULT NULL,
    metadata jsonb DEFAULT NULL,
    event_id uuid DEFAULT NULL,
    tags text[] DEFAULT NULL,
    schema_version int DEFAULT 1,
    condition jsonb DEFAULT NULL,
    payload bytea DEFAULT NULL,
    content_type text DEFAULT NULL,
    OUT version bigint,
    OUT "position" bigint,
    OUT duplicate boolean)
    AS 'MODULE_PATHNAME', 'es_append'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION es_append(text, text, jsonb, bigint, jsonb, uuid, text[], int, jsonb, bytea, text) IS
    'Append one event to a stream';

CREATE FUNCTION es_append_events(
    stream text,
    events jsonb,
    expected_version bigint DEFAULT NULL,
    condition jsonb DEFAULT NULL,
    OUT version bigint,
    OUT "position" bigint,
    OUT duplicate boolean)
    AS 'MODULE_PATHNAME', 'es_append_events'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION es_append_events(text, jsonb, bigint, jsonb) IS
    'Append the events of a JSON array to a stream, all or none';

CREATE FUNCTION es_append_batch(
    streams text[],
    types text[],
    data jsonb[],
    expected_versions bigint[] DEFAULT NULL,
    metadata jsonb[] DEFAULT NULL,
    event_ids uuid[] DEFAULT NULL,
    created_at timestamptz[] DEFAULT NULL,
    tags jsonb[] DEFAULT NULL,
    schema_versions int[] DEFAULT NULL,
    condition jsonb DEFAULT NULL,
    payloads bytea[] DEFAULT NULL,
    content_types text[] DEFAULT NULL)
    RETURNS TABLE (stream text, version bigint, "position" bigint, duplicate boolean)
    AS 'MODULE_PATHNAME', 'es_append_batch'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION es_append_batch(text[], text[], jsonb[], bigint[], jsonb[], uuid[], timestamptz[], jsonb[], int[], jsonb, bytea[], text[]) IS
    'Append events to many streams, all or none; a row a stream, of its last event';

CREATE FUNCTION es_check_version(stream text, expected_version bigint) RETURNS bigint
    AS 'MODULE_PATHNAME', 'es_check_version'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION es_check_version(text, bigint) IS
    'Verify the version of a stream and keep other writers off it until the transaction ends';

