"""The negative controls: the same functions over plain tables, made wrongly.

They answer to the names of the real functions, so that exactly the same
clients run against them. Everything is right about them (versions, conflicts,
idempotence) but the one thing under test: when a position may be read.

  bigserial   a reader sees whatever is committed beyond its position
  xmin        it sees what was written by transactions older than every one
              still running; transaction ids are not drawn in the order of
              positions, so this too passes by events that are still to come

A checker that lets either of them pass is of no use. And one that is never
satisfied is of no use either, hence a third, slow but right:

  serial      all writers wait for each other, from the first append to commit
"""

# Which events a reader by position may see, and what a writer does first.
KINDS = {
    "bigserial": ("true", "NULL"),
    "xmin": ("xid < pg_snapshot_xmin(pg_current_snapshot())", "NULL"),
    "serial": ("true", "pg_advisory_xact_lock('log'::regclass::oid::bigint)"),
}

SCRIPT = """
CREATE TABLE stream (
    name text COLLATE "C" PRIMARY KEY,
    version bigint NOT NULL);

CREATE TABLE log (
    position bigserial PRIMARY KEY,
    stream text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    type text NOT NULL,
    data jsonb NOT NULL,
    event_id uuid NOT NULL UNIQUE,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    UNIQUE (stream, version));

CREATE FUNCTION es_category(name text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN name ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN ''
                ELSE split_part(name, '-', 1) END
$$;

CREATE FUNCTION es_stream_version(name text) RETURNS bigint LANGUAGE sql AS $$
    SELECT coalesce((SELECT s.version FROM stream s WHERE s.name = $1), 0)
$$;

-- Locks the stream, which is created if need be, and verifies its version.
CREATE FUNCTION es_check_version(name text, expected bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    actual bigint;
BEGIN
    IF expected = -1 THEN
        RAISE EXCEPTION 'expected version out of range' USING ERRCODE = '22023';
    END IF;
    PERFORM {first};
    INSERT INTO stream VALUES ($1, 0) ON CONFLICT DO NOTHING;
    SELECT s.version INTO actual FROM stream s WHERE s.name = $1 FOR UPDATE;
    IF expected >= 0 AND expected <> actual OR expected = -4 AND actual = 0 THEN
        RAISE EXCEPTION 'wrong expected version' USING ERRCODE = 'SE001',
            DETAIL = format('stream: %s, expected: %s, actual: %s', $1, expected, actual);
    END IF;
    RETURN actual;
END $$;

CREATE FUNCTION es_append(name text, type text, data jsonb, expected_version bigint DEFAULT NULL,
                          event_id uuid DEFAULT NULL,
                          OUT version bigint, OUT "position" bigint, OUT duplicate boolean)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    known log;
BEGIN
    IF $2 = '' THEN
        RAISE EXCEPTION 'no type' USING ERRCODE = '22023';
    END IF;
    IF octet_length($3::text) > 1048576 THEN
        RAISE EXCEPTION 'event too large' USING ERRCODE = '54000';
    END IF;
    PERFORM es_check_version($1, NULL);
    SELECT l.* INTO known FROM log l WHERE l.event_id = $5;
    IF FOUND THEN
        IF known.stream <> $1 OR known.type <> $2 OR known.data <> $3 THEN
            RAISE EXCEPTION 'event id belongs to another event' USING ERRCODE = 'SE003';
        END IF;
        es_append.version := known.version;
        es_append.position := known.position;
        es_append.duplicate := true;
        RETURN;
    END IF;
    es_append.version := es_check_version($1, $4) + 1;
    UPDATE stream s SET version = s.version + 1 WHERE s.name = $1;
    INSERT INTO log (stream, version, type, data, event_id)
    VALUES ($1, es_append.version, $2, $3, coalesce($5, gen_random_uuid()))
    RETURNING log.position INTO es_append.position;
    es_append.duplicate := false;
END $$;

CREATE FUNCTION es_append_events(name text, events jsonb, expected_version bigint DEFAULT NULL)
RETURNS TABLE (version bigint, "position" bigint, duplicate boolean) LANGUAGE plpgsql AS $$
DECLARE
    event jsonb;
    expected bigint := expected_version;
BEGIN
    FOR event IN SELECT * FROM jsonb_array_elements(events) LOOP
        SELECT a.version, a.position, a.duplicate INTO version, position, duplicate
        FROM es_append($1, event ->> 'type', event -> 'data', expected, (event ->> 'event_id')::uuid) a;
        expected := NULL;
    END LOOP;
    RETURN NEXT;
END $$;

CREATE FUNCTION es_append_batch(streams text[], types text[], data jsonb[],
                                expected_versions bigint[] DEFAULT NULL, event_ids uuid[] DEFAULT NULL)
RETURNS TABLE (stream text, version bigint, "position" bigint, duplicate boolean) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM es_check_version(s, NULL)
    FROM (SELECT DISTINCT s COLLATE "C" AS s FROM unnest(streams) s ORDER BY 1) s;
    RETURN QUERY
    WITH done AS MATERIALIZED (
        SELECT i, a.version, a.position, a.duplicate
        FROM generate_subscripts(streams, 1) i,
             LATERAL es_append(streams[i], types[i], $3[i], expected_versions[i], event_ids[i]) a)
    SELECT DISTINCT ON (streams[d.i]) streams[d.i], d.version, d.position, d.duplicate
    FROM done d ORDER BY streams[d.i], d.i DESC;
END $$;

CREATE FUNCTION es_read_stream(name text, from_version bigint DEFAULT NULL, max_count int DEFAULT NULL)
RETURNS SETOF log LANGUAGE sql AS $$
    SELECT * FROM log WHERE stream = $1 AND version >= coalesce($2, 1) ORDER BY version LIMIT $3
$$;

CREATE FUNCTION es_head() RETURNS bigint LANGUAGE sql AS $$
    SELECT coalesce(max(position), 0) FROM log WHERE {readable}
$$;

CREATE FUNCTION es_wait(up_to bigint, timeout interval DEFAULT '5 s') RETURNS boolean LANGUAGE sql AS $$
    SELECT es_head() >= up_to
$$;

CREATE FUNCTION es_read_all(after_position bigint DEFAULT NULL, max_count int DEFAULT 1000,
                            types text[] DEFAULT NULL, categories text[] DEFAULT NULL,
                            backwards boolean DEFAULT false, wait interval DEFAULT NULL)
RETURNS SETOF log LANGUAGE plpgsql AS $$
BEGIN
    IF backwards THEN
        RETURN QUERY
        SELECT * FROM log WHERE {readable} AND ($1 IS NULL OR position < $1)
        ORDER BY position DESC LIMIT max_count;
        RETURN;
    END IF;
    RETURN QUERY
    SELECT * FROM log
    WHERE {readable} AND position > coalesce($1, 0)
      AND (types IS NULL OR type = ANY (types))
      AND (categories IS NULL OR es_category(stream) = ANY (categories))
    ORDER BY position LIMIT max_count;
    IF NOT FOUND AND wait IS NOT NULL THEN
        PERFORM pg_sleep(least(extract(epoch FROM wait), 0.02));
    END IF;
END $$;

CREATE FUNCTION es_read_category(category text, after_position bigint DEFAULT NULL,
                                 max_count int DEFAULT 1000, wait interval DEFAULT NULL)
RETURNS SETOF log LANGUAGE sql AS $$
    SELECT * FROM es_read_all($2, $3, categories => ARRAY[$1], wait => $4)
$$;
"""


def script(kind):
    readable, first = KINDS[kind]
    return SCRIPT.replace("{readable}", readable).replace("{first}", first)
