-- The hashes by which the log's rows are found, for whoever checks or mends them.

CREATE FUNCTION eventstore.name_hash(name text) RETURNS bigint
    AS 'MODULE_PATHNAME', 'name_hash'
    LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION eventstore.name_hash(text) IS
    'The hash of a name: XXH64 over UTF-8, the same on every machine and in every encoding';

CREATE FUNCTION eventstore.stream_bucket(stream text) RETURNS int
    AS 'MODULE_PATHNAME', 'stream_bucket'
    LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION eventstore.stream_bucket(text) IS
    'The bucket that a stream is in if its category is beyond the first thousand';

CREATE FUNCTION eventstore.type_key(category text, bucket int, type text, schema_version int,
    attempt int DEFAULT 0, content_type text DEFAULT NULL)
    RETURNS bigint
    AS 'MODULE_PATHNAME', 'type_key'
    LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION eventstore.type_key(text, int, text, int, int, text) IS
    'The key of a type; an attempt from 1 on, where the key before stands for something else';

-- The ids that are derived (src/log/event_id.h).

CREATE FUNCTION eventstore.event_id("position" bigint, created_at timestamptz) RETURNS uuid
    AS 'MODULE_PATHNAME', 'event_id'
    LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION eventstore.event_id(bigint, timestamptz) IS
    'The id of the event at a position, where event_log has none stored; null: the time does not fit';

CREATE FUNCTION eventstore.event_id_under(secret_1 bigint, secret_2 bigint, "position" bigint, created_at timestamptz)
    RETURNS uuid
    AS 'MODULE_PATHNAME', 'event_id_under'
    LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION eventstore.event_id_under(bigint, bigint, bigint, timestamptz) IS
    'The id of the event at a position in a store with that secret; null: the time does not fit';

CREATE FUNCTION eventstore.event_id_position(secret_1 bigint, secret_2 bigint, event_id uuid) RETURNS bigint
    AS 'MODULE_PATHNAME', 'event_id_position'
    LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION eventstore.event_id_position(bigint, bigint, uuid) IS
    'The position that an id was derived from under that secret; null: it is of another version';
