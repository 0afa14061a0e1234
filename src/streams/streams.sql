-- The life of a stream.

CREATE FUNCTION es_truncate_stream(stream text, before_version bigint) RETURNS void
    AS 'MODULE_PATHNAME', 'es_truncate_stream'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION es_truncate_stream(text, bigint) IS
    'Take away the events of a stream before a version';

CREATE FUNCTION es_delete_stream(stream text, expected_version bigint DEFAULT NULL) RETURNS void
    AS 'MODULE_PATHNAME', 'es_delete_stream'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION es_delete_stream(text, bigint) IS
    'Take away all events of a stream; it may be written again, and its versions go on';

CREATE FUNCTION es_tombstone_stream(stream text, expected_version bigint DEFAULT NULL) RETURNS void
    AS 'MODULE_PATHNAME', 'es_tombstone_stream'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION es_tombstone_stream(text, bigint) IS
    'Take away all events of a stream, for good: it takes no more';

CREATE FUNCTION es_set_retention(
    stream_or_category text,
    max_count bigint DEFAULT NULL,
    max_age interval DEFAULT NULL)
    RETURNS void
    AS 'MODULE_PATHNAME', 'es_set_retention'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION es_set_retention(text, bigint, interval) IS
    'Say how much is kept of a stream, or of each stream of a category; both null: everything';

CREATE FUNCTION es_scavenge() RETURNS bigint
    AS 'MODULE_PATHNAME', 'es_scavenge'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION es_scavenge() IS
    'Remove the events that truncation, deletion and retention hide; how many';

CREATE FUNCTION es_register_upcaster(
    type text,
    from_schema int,
    upcast text,
    to_type text DEFAULT NULL,
    to_schema int DEFAULT NULL)
    RETURNS void
    AS 'MODULE_PATHNAME', 'es_register_upcaster'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION es_register_upcaster(text, int, text, text, int) IS
    'Have events of a type and schema version shown in a newer shape';

CREATE FUNCTION es_save_snapshot(stream text, version bigint, state jsonb, kind text DEFAULT 'default') RETURNS void
    AS 'MODULE_PATHNAME', 'es_save_snapshot'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION es_save_snapshot(text, bigint, jsonb, text) IS
    'Keep the state of a stream at a version, to load it faster';

CREATE FUNCTION es_delete_snapshots(kind text, stream text DEFAULT NULL) RETURNS bigint
    AS 'MODULE_PATHNAME', 'es_delete_snapshots'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION es_delete_snapshots(text, text) IS
    'Remove the snapshots of a kind, of one stream or of all; how many';

CREATE FUNCTION es_load(
    stream text,
    kind text DEFAULT 'default',
    OUT snapshot_version bigint,
    OUT state jsonb,
    OUT version bigint,
    OUT events jsonb)
    AS 'MODULE_PATHNAME', 'es_load'
    LANGUAGE C STABLE PARALLEL RESTRICTED;
COMMENT ON FUNCTION es_load(text, text) IS
    'A stream as one row: its snapshot, the events since, and its version';
