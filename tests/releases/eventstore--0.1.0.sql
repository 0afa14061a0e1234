-- The schema for the store's tables and views.  Plain CREATE SCHEMA: one that
-- somebody else has made is not taken over.

\echo Use "CREATE EXTENSION eventstore" to load this file. \quit

CREATE SCHEMA eventstore;
COMMENT ON SCHEMA eventstore IS 'Tables and views of the event store';

-- The functions' own names are not in this schema but where the extension was
-- created, so USAGE alone opens nothing: each table and view has its own rights.
GRANT USAGE ON SCHEMA eventstore TO PUBLIC;

-- The event log.

-- ---- events ----

-- Made first, for DROP EXTENSION locks in the order of creation: everybody else
-- locks event_log before the rest.

-- The order of columns is the order of their alignment: no byte is padded.
CREATE TABLE eventstore.event_log (
    position bigint NOT NULL,
    stream_key bigint NOT NULL,
    version bigint NOT NULL,
    created_at timestamptz NOT NULL,
    type_key bigint NOT NULL,
    event_id uuid NOT NULL,
    data jsonb NOT NULL,
    metadata jsonb,
    tags text[] COLLATE "C"
);

CREATE UNIQUE INDEX event_log_position ON eventstore.event_log (position);
CREATE UNIQUE INDEX event_log_stream ON eventstore.event_log (stream_key, version);
CREATE UNIQUE INDEX event_log_id ON eventstore.event_log (event_id);
CREATE INDEX event_log_type ON eventstore.event_log (type_key, position);
CREATE INDEX event_log_correlation ON eventstore.event_log (
    pg_catalog.hashtextextended((metadata OPERATOR(pg_catalog.->>) 'correlation_id'::pg_catalog.text) COLLATE "C", 0::pg_catalog.int8),
    position)
    WHERE metadata OPERATOR(pg_catalog.?) 'correlation_id'::pg_catalog.text;

COMMENT ON TABLE eventstore.event_log IS 'The events; written by es_append() and its like only';
COMMENT ON COLUMN eventstore.event_log.position IS 'Place in the log: unique, rising, gaps allowed';
COMMENT ON COLUMN eventstore.event_log.stream_key IS 'The stream, in eventstore.stream';
COMMENT ON COLUMN eventstore.event_log.version IS 'Place in the stream: 1, 2, 3, no gaps';
COMMENT ON COLUMN eventstore.event_log.created_at IS 'When it was appended, or the time given with it';
COMMENT ON COLUMN eventstore.event_log.type_key IS 'Category, type and schema version, in eventstore.event_type';
COMMENT ON COLUMN eventstore.event_log.event_id IS 'Unique; a repeated append is known by it';
COMMENT ON COLUMN eventstore.event_log.data IS 'What happened';
COMMENT ON COLUMN eventstore.event_log.metadata IS 'Why and by whom: correlation_id, causation_id, and what the application adds';
COMMENT ON COLUMN eventstore.event_log.tags IS 'What the event is about, across streams; null: no tags';

-- ---- tags ----

CREATE TABLE eventstore.event_tag (
    tag bigint NOT NULL,
    position bigint NOT NULL
);

CREATE INDEX event_tag_tag ON eventstore.event_tag (tag, position);

COMMENT ON TABLE eventstore.event_tag IS 'Where the events of a tag are: a row for each tag of an event';
COMMENT ON COLUMN eventstore.event_tag.tag IS 'A hash of the tag';
COMMENT ON COLUMN eventstore.event_tag.position IS 'The event, in eventstore.event_log';

CREATE TABLE eventstore.append_lock ();
COMMENT ON TABLE eventstore.append_lock IS
    'Holds nothing; its lock orders appends with a condition that no tag stands for';

-- ---- streams ----

CREATE TABLE eventstore.stream (
    stream_key bigint NOT NULL,
    name text COLLATE "C" NOT NULL,
    first_version bigint,
    used_version bigint,
    deleted boolean,
    tombstoned boolean
);

CREATE UNIQUE INDEX stream_key ON eventstore.stream (stream_key);
CREATE UNIQUE INDEX stream_name ON eventstore.stream (name);

COMMENT ON TABLE eventstore.stream IS 'A row a stream: its lock orders the writers of the stream';
COMMENT ON COLUMN eventstore.stream.stream_key IS 'What stands for the stream in the log';
COMMENT ON COLUMN eventstore.stream.name IS 'Compared byte by byte';
COMMENT ON COLUMN eventstore.stream.first_version IS 'Earlier events are gone; null: none is';
COMMENT ON COLUMN eventstore.stream.used_version IS 'Versions up to here are used, even if no event has them; null: those of events';
COMMENT ON COLUMN eventstore.stream.deleted IS 'Deleted when it was at used_version';
COMMENT ON COLUMN eventstore.stream.tombstoned IS 'Gone for good: takes no events';

-- ---- event types ----

CREATE TABLE eventstore.event_type (
    type_key bigint NOT NULL,
    category text COLLATE "C",
    bucket int,
    type text COLLATE "C" NOT NULL,
    schema_version int NOT NULL
);

CREATE INDEX event_type_key ON eventstore.event_type (type_key);
CREATE INDEX event_type_category ON eventstore.event_type (category);
CREATE INDEX event_type_bucket ON eventstore.event_type (bucket);
CREATE INDEX event_type_type ON eventstore.event_type (type);

COMMENT ON TABLE eventstore.event_type IS
    'What a type key stands for; the same row may be there more than once';
COMMENT ON COLUMN eventstore.event_type.type_key IS 'A hash of the other columns';
COMMENT ON COLUMN eventstore.event_type.category IS 'Category of the streams; null: one of those that share the bucket';
COMMENT ON COLUMN eventstore.event_type.bucket IS 'Bucket of the categories beyond the first thousand';
COMMENT ON COLUMN eventstore.event_type.type IS 'Type of the events';
COMMENT ON COLUMN eventstore.event_type.schema_version IS 'Schema version of the events';

-- ---- registers: numbers that survive a crash and a rollback ----

CREATE SEQUENCE eventstore.position_register;
COMMENT ON SEQUENCE eventstore.position_register IS
    'No position beyond this one has been handed out';

CREATE SEQUENCE eventstore.stream_key_register;
COMMENT ON SEQUENCE eventstore.stream_key_register IS
    'No stream key beyond this one has been handed out';

CREATE SEQUENCE eventstore.seal_register;
COMMENT ON SEQUENCE eventstore.seal_register IS
    '2 once the log has seen an append: then it takes no direct INSERT';

CREATE SEQUENCE eventstore.timeline_register;
COMMENT ON SEQUENCE eventstore.timeline_register IS
    'Generation of the history << 32 | timeline of the server: a promotion begins a new generation';

-- ---- the mark ----

CREATE TABLE eventstore.mark (
    head bigint NOT NULL,
    identity uuid NOT NULL,
    moved_at timestamptz NOT NULL,
    single boolean NOT NULL DEFAULT true CHECK (single),
    PRIMARY KEY (single)
)
WITH (fillfactor = 10);

INSERT INTO eventstore.mark (head, identity, moved_at)
VALUES (0, pg_catalog.gen_random_uuid(), pg_catalog.clock_timestamp());

COMMENT ON TABLE eventstore.mark IS
    'One row: whoever sees it, on a standby too, sees every event up to its head';
COMMENT ON COLUMN eventstore.mark.head IS 'The head as last recorded';
COMMENT ON COLUMN eventstore.mark.identity IS 'Made by CREATE EXTENSION; part of es_epoch()';
COMMENT ON COLUMN eventstore.mark.moved_at IS 'When it was recorded';
COMMENT ON COLUMN eventstore.mark.single IS 'There is one row, even where a publication would bring another';

-- ---- append-only ----

CREATE FUNCTION eventstore.guard() RETURNS trigger
    AS 'MODULE_PATHNAME', 'es_guard'
    LANGUAGE C;
COMMENT ON FUNCTION eventstore.guard() IS
    'Keeps the log append-only; takes INSERTs to restore it before its first append';

CREATE TRIGGER eventstore_guard BEFORE INSERT OR UPDATE OR DELETE ON eventstore.event_log
    FOR EACH ROW EXECUTE FUNCTION eventstore.guard();
CREATE TRIGGER eventstore_guard BEFORE INSERT OR UPDATE OR DELETE ON eventstore.stream
    FOR EACH ROW EXECUTE FUNCTION eventstore.guard();
CREATE TRIGGER eventstore_guard BEFORE INSERT OR UPDATE OR DELETE ON eventstore.event_type
    FOR EACH ROW EXECUTE FUNCTION eventstore.guard();
CREATE TRIGGER eventstore_guard BEFORE INSERT OR UPDATE OR DELETE ON eventstore.event_tag
    FOR EACH ROW EXECUTE FUNCTION eventstore.guard();
CREATE TRIGGER eventstore_guard_all BEFORE UPDATE OR DELETE OR TRUNCATE ON eventstore.event_tag
    FOR EACH STATEMENT EXECUTE FUNCTION eventstore.guard();
CREATE TRIGGER eventstore_guard_all BEFORE UPDATE OR DELETE OR TRUNCATE ON eventstore.event_log
    FOR EACH STATEMENT EXECUTE FUNCTION eventstore.guard();
CREATE TRIGGER eventstore_guard_all BEFORE UPDATE OR DELETE OR TRUNCATE ON eventstore.stream
    FOR EACH STATEMENT EXECUTE FUNCTION eventstore.guard();
CREATE TRIGGER eventstore_guard_all BEFORE UPDATE OR DELETE OR TRUNCATE ON eventstore.event_type
    FOR EACH STATEMENT EXECUTE FUNCTION eventstore.guard();

-- Also when session_replication_role is set.
ALTER TABLE eventstore.event_log ENABLE ALWAYS TRIGGER eventstore_guard;
ALTER TABLE eventstore.event_log ENABLE ALWAYS TRIGGER eventstore_guard_all;
ALTER TABLE eventstore.stream ENABLE ALWAYS TRIGGER eventstore_guard;
ALTER TABLE eventstore.stream ENABLE ALWAYS TRIGGER eventstore_guard_all;
ALTER TABLE eventstore.event_type ENABLE ALWAYS TRIGGER eventstore_guard;
ALTER TABLE eventstore.event_type ENABLE ALWAYS TRIGGER eventstore_guard_all;
ALTER TABLE eventstore.event_tag ENABLE ALWAYS TRIGGER eventstore_guard;
ALTER TABLE eventstore.event_tag ENABLE ALWAYS TRIGGER eventstore_guard_all;

-- A drop that would lose events is refused by the library: it must be loaded.
CREATE FUNCTION eventstore.load_guard() RETURNS event_trigger
    AS 'MODULE_PATHNAME', 'es_guard_loaded'
    LANGUAGE C;
COMMENT ON FUNCTION eventstore.load_guard() IS
    'Loads the library before a statement that could drop the log';

CREATE EVENT TRIGGER eventstore_load_guard ON ddl_command_start
    WHEN TAG IN ('DROP EXTENSION', 'DROP SCHEMA', 'DROP TABLE', 'DROP INDEX', 'DROP OWNED', 'ALTER TABLE',
                 'DROP FUNCTION', 'DROP ROUTINE', 'DROP VIEW', 'DROP MATERIALIZED VIEW')
    EXECUTE FUNCTION eventstore.load_guard();
ALTER EVENT TRIGGER eventstore_load_guard ENABLE ALWAYS;
COMMENT ON EVENT TRIGGER eventstore_load_guard IS
    'Loads the library before a statement that could drop the log';

-- ---- dump: what a new database cannot make itself ----

SELECT pg_catalog.pg_extension_config_dump('eventstore.position_register', '');
SELECT pg_catalog.pg_extension_config_dump('eventstore.stream_key_register', '');
SELECT pg_catalog.pg_extension_config_dump('eventstore.stream', '');
SELECT pg_catalog.pg_extension_config_dump('eventstore.event_type', '');
SELECT pg_catalog.pg_extension_config_dump('eventstore.event_tag', '');
SELECT pg_catalog.pg_extension_config_dump('eventstore.event_log', '');
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
    OUT version bigint,
    OUT "position" bigint,
    OUT duplicate boolean)
    AS 'MODULE_PATHNAME', 'es_append'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION es_append(text, text, jsonb, bigint, jsonb, uuid, text[], int, jsonb) IS
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
    schema_versions int[] DEFAULT NULL)
    RETURNS TABLE (stream text, version bigint, "position" bigint, duplicate boolean)
    AS 'MODULE_PATHNAME', 'es_append_batch'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION es_append_batch(text[], text[], jsonb[], bigint[], jsonb[], uuid[], timestamptz[], jsonb[], int[]) IS
    'Append events to many streams, all or none; a row a stream, of its last event';

CREATE FUNCTION es_check_version(stream text, expected_version bigint) RETURNS bigint
    AS 'MODULE_PATHNAME', 'es_check_version'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION es_check_version(text, bigint) IS
    'Verify the version of a stream and keep other writers off it until the transaction ends';

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
    created_at timestamptz
);
COMMENT ON TYPE es_event IS 'An event as it is read';

CREATE FUNCTION es_read_stream(
    stream text,
    from_version bigint DEFAULT NULL,
    max_count int DEFAULT NULL,
    backwards boolean DEFAULT false,
    types text[] DEFAULT NULL)
    RETURNS SETOF es_event
    AS 'MODULE_PATHNAME', 'es_read_stream'
    LANGUAGE C STABLE PARALLEL RESTRICTED ROWS 100;
COMMENT ON FUNCTION es_read_stream(text, bigint, int, boolean, text[]) IS
    'The events of a stream, by version';

CREATE FUNCTION es_read_all(
    after_position bigint DEFAULT NULL,
    max_count int DEFAULT 1000,
    types text[] DEFAULT NULL,
    categories text[] DEFAULT NULL,
    backwards boolean DEFAULT false,
    wait interval DEFAULT NULL)
    RETURNS SETOF es_event
    AS 'MODULE_PATHNAME', 'es_read_all'
    LANGUAGE C VOLATILE ROWS 1000;
COMMENT ON FUNCTION es_read_all(bigint, int, text[], text[], boolean, interval) IS
    'The events of the log, by position, up to the head';

CREATE FUNCTION es_read_category(
    category text,
    after_position bigint DEFAULT NULL,
    max_count int DEFAULT 1000,
    consumer_group_member int DEFAULT NULL,
    consumer_group_size int DEFAULT NULL,
    wait interval DEFAULT NULL)
    RETURNS SETOF es_event
    AS 'MODULE_PATHNAME', 'es_read_category'
    LANGUAGE C VOLATILE ROWS 1000;
COMMENT ON FUNCTION es_read_category(text, bigint, int, int, int, interval) IS
    'The events of a category, by position, up to the head';

CREATE FUNCTION es_read_correlation(correlation_id text, max_count int DEFAULT 1000)
    RETURNS SETOF es_event
    AS 'MODULE_PATHNAME', 'es_read_correlation'
    LANGUAGE C VOLATILE ROWS 100;
COMMENT ON FUNCTION es_read_correlation(text, int) IS
    'The events with a correlation_id in their metadata, by position, up to the head';

CREATE FUNCTION es_query(
    query jsonb,
    after_position bigint DEFAULT NULL,
    max_count int DEFAULT 1000,
    wait interval DEFAULT NULL)
    RETURNS SETOF es_event
    AS 'MODULE_PATHNAME', 'es_query'
    LANGUAGE C VOLATILE ROWS 100;
COMMENT ON FUNCTION es_query(jsonb, bigint, int, interval) IS
    'The events that a query by types and tags matches, by position, up to the head';
-- How the log is doing.

CREATE FUNCTION eventstore.log_status(
    OUT preloaded boolean,
    OUT head bigint,
    OUT handed_out bigint,
    OUT sealed boolean,
    OUT scheduler_pid int)
    AS 'MODULE_PATHNAME', 'es_status'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION eventstore.log_status() IS 'What eventstore.status shows from shared memory';

CREATE VIEW eventstore.status AS
SELECT
    (SELECT extversion FROM pg_catalog.pg_extension WHERE extname OPERATOR(pg_catalog.=) 'eventstore'::pg_catalog.name) AS version,
    s.preloaded,
    pg_catalog.pg_is_in_recovery() AS standby,
    s.head,
    s.handed_out,
    m.head AS recorded_head,
    m.moved_at AS recorded_at,
    es_epoch() AS epoch,
    s.sealed,
    s.scheduler_pid
FROM eventstore.log_status() s, eventstore.mark m;
COMMENT ON VIEW eventstore.status IS 'One row: how the event log of this database is doing';
COMMENT ON COLUMN eventstore.status.version IS 'Version of the extension in this database';
COMMENT ON COLUMN eventstore.status.preloaded IS 'Is eventstore in shared_preload_libraries?';
COMMENT ON COLUMN eventstore.status.standby IS 'Is this a standby?';
COMMENT ON COLUMN eventstore.status.head IS 'How far the log can be read';
COMMENT ON COLUMN eventstore.status.handed_out IS 'Greatest position handed out; null on a standby';
COMMENT ON COLUMN eventstore.status.recorded_head IS 'The head that standbys read up to';
COMMENT ON COLUMN eventstore.status.recorded_at IS 'When that was recorded';
COMMENT ON COLUMN eventstore.status.epoch IS 'Identity of this history, as es_epoch()';
COMMENT ON COLUMN eventstore.status.sealed IS 'Has the log seen its first append? Before, it can be restored';
COMMENT ON COLUMN eventstore.status.scheduler_pid IS 'The background worker of this database; null: none runs';

CREATE FUNCTION eventstore.in_flight(OUT pid int, OUT above bigint)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'es_blockers'
    LANGUAGE C VOLATILE ROWS 10;
COMMENT ON FUNCTION eventstore.in_flight() IS 'The backends whose appends are not yet committed';

CREATE VIEW eventstore.blockers AS
SELECT
    f.pid,
    f.above AS holds_head_below,
    a.usename,
    a.application_name,
    a.client_addr,
    a.state,
    a.xact_start AS since,
    pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) a.xact_start AS age,
    a.wait_event_type,
    a.wait_event,
    a.query
FROM eventstore.in_flight() f
LEFT JOIN pg_catalog.pg_stat_activity a USING (pid)
ORDER BY f.above, a.xact_start;
COMMENT ON VIEW eventstore.blockers IS
    'Open transactions that have appended and hold the head back, the first of them on top';
COMMENT ON COLUMN eventstore.blockers.holds_head_below IS 'The head stays below this position until the transaction ends';
COMMENT ON COLUMN eventstore.blockers.since IS 'When its transaction began';

-- The life of a stream: what is hidden, kept, rewritten and remembered.

CREATE TABLE eventstore.hidden (
    stream_key bigint NOT NULL,
    before_version bigint NOT NULL,
    PRIMARY KEY (stream_key)
);
COMMENT ON TABLE eventstore.hidden IS
    'Streams with events that no reader is shown any more, but that are not removed yet';
COMMENT ON COLUMN eventstore.hidden.before_version IS 'Earlier events are hidden';

CREATE TABLE eventstore.retention (
    name text COLLATE "C" NOT NULL,
    max_count bigint,
    max_age interval,
    PRIMARY KEY (name)
);
COMMENT ON TABLE eventstore.retention IS 'How much of a stream is kept, as es_set_retention() was told';
COMMENT ON COLUMN eventstore.retention.name IS 'A stream; or a category: each of its streams that has no rule of its own';
COMMENT ON COLUMN eventstore.retention.max_count IS 'So many of its last events are kept; null: all';
COMMENT ON COLUMN eventstore.retention.max_age IS 'Events are kept so long; null: for ever';

CREATE TABLE eventstore.scavenged (
    category text COLLATE "C" NOT NULL,
    events bigint NOT NULL,
    PRIMARY KEY (category)
);
COMMENT ON TABLE eventstore.scavenged IS 'How many events have been removed from the log';

CREATE TABLE eventstore.upcaster (
    type text COLLATE "C" NOT NULL,
    from_schema int NOT NULL,
    to_type text COLLATE "C" NOT NULL,
    to_schema int NOT NULL,
    function text NOT NULL,
    owner text COLLATE "C" NOT NULL,
    search_path text NOT NULL,
    PRIMARY KEY (type, from_schema)
);
COMMENT ON TABLE eventstore.upcaster IS 'How events of an old shape are shown, as es_register_upcaster() was told';
COMMENT ON COLUMN eventstore.upcaster.function IS 'Its qualified name';
COMMENT ON COLUMN eventstore.upcaster.owner IS 'The role whose rights it has';
COMMENT ON COLUMN eventstore.upcaster.search_path IS 'The search_path that it runs with';

CREATE TABLE eventstore.snapshot (
    stream_key bigint NOT NULL,
    kind text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    state jsonb NOT NULL,
    saved_at timestamptz NOT NULL,
    PRIMARY KEY (stream_key, kind)
);
COMMENT ON TABLE eventstore.snapshot IS 'The last snapshot of each kind of a stream';
COMMENT ON COLUMN eventstore.snapshot.version IS 'The state is that after the event of this version';

-- Whoever reads keeps the upcasters: whatever changes the table tells them.
CREATE FUNCTION eventstore.upcasters_changed() RETURNS trigger
    AS 'MODULE_PATHNAME', 'es_upcasters_changed'
    LANGUAGE C;
COMMENT ON FUNCTION eventstore.upcasters_changed() IS
    'Makes every process read the upcasters anew';
CREATE TRIGGER eventstore_upcasters_changed
    AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON eventstore.upcaster
    FOR EACH STATEMENT EXECUTE FUNCTION eventstore.upcasters_changed();
ALTER TABLE eventstore.upcaster ENABLE ALWAYS TRIGGER eventstore_upcasters_changed;

SELECT pg_catalog.pg_extension_config_dump('eventstore.hidden', '');
SELECT pg_catalog.pg_extension_config_dump('eventstore.retention', '');
SELECT pg_catalog.pg_extension_config_dump('eventstore.scavenged', '');
SELECT pg_catalog.pg_extension_config_dump('eventstore.upcaster', '');
SELECT pg_catalog.pg_extension_config_dump('eventstore.snapshot', '');
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
-- Views of events and streams, as readers are shown them.  security_invoker: the
-- rights, and row-level security, of whoever selects.

CREATE VIEW eventstore.event_types WITH (security_invoker = true) AS
SELECT
    t.category,
    t.type,
    t.schema_version,
    (SELECT pg_catalog.count(*)
     FROM eventstore.event_log l
     WHERE l.type_key OPERATOR(pg_catalog.=) t.type_key) AS events
FROM (SELECT DISTINCT type_key, category, type, schema_version FROM eventstore.event_type) t;
COMMENT ON VIEW eventstore.event_types IS
    'The types and schema versions that are stored; category null: in categories beyond the first thousand';
COMMENT ON COLUMN eventstore.event_types.events IS 'How many there are in the log; counted when asked for';

CREATE VIEW eventstore.events WITH (security_invoker = true) AS
SELECT
    l.position,
    s.name AS stream,
    l.version,
    t.type,
    t.schema_version,
    l.data,
    l.metadata,
    l.tags,
    l.event_id,
    l.created_at
FROM eventstore.event_log l
JOIN eventstore.stream s USING (stream_key)
JOIN (SELECT DISTINCT ON (type_key) type_key, type, schema_version
      FROM eventstore.event_type) t USING (type_key)
WHERE (s.first_version IS NULL OR l.version OPERATOR(pg_catalog.>=) s.first_version)
  AND NOT EXISTS (
    SELECT FROM eventstore.retention r
    WHERE r.name OPERATOR(pg_catalog.=) coalesce(
              (SELECT o.name FROM eventstore.retention o WHERE o.name OPERATOR(pg_catalog.=) s.name),
              es_category(s.name))
      AND (l.created_at OPERATOR(pg_catalog.<) (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) r.max_age)
           OR l.version OPERATOR(pg_catalog.<=) (
              (SELECT pg_catalog.max(m.version) FROM eventstore.event_log m
               WHERE m.stream_key OPERATOR(pg_catalog.=) l.stream_key) OPERATOR(pg_catalog.-) r.max_count)));
COMMENT ON VIEW eventstore.events IS
    'All events that the snapshot sees, as they are stored, also above the head: for questions, not for consumers';

CREATE VIEW eventstore.streams WITH (security_invoker = true) AS
SELECT
    s.name AS stream,
    es_category(s.name) AS category,
    coalesce(greatest(l.version, s.used_version), 0) AS version,
    l.created_at AS last_event_at,
    coalesce(s.first_version, 1) AS first_version,
    (s.deleted IS TRUE AND s.tombstoned IS NOT TRUE AND greatest(l.version, s.used_version) OPERATOR(pg_catalog.=) s.used_version) AS deleted,
    s.tombstoned IS TRUE AS tombstoned
FROM eventstore.stream s
LEFT JOIN LATERAL (
    SELECT e.version, e.created_at
    FROM eventstore.event_log e
    WHERE e.stream_key OPERATOR(pg_catalog.=) s.stream_key
    ORDER BY e.version DESC
    LIMIT 1) l ON true
WHERE l.version IS NOT NULL OR s.used_version IS NOT NULL OR s.tombstoned;
COMMENT ON VIEW eventstore.streams IS 'The streams and their versions';
COMMENT ON COLUMN eventstore.streams.version IS 'Of the last event; it stays when events are taken away';
COMMENT ON COLUMN eventstore.streams.last_event_at IS 'When that was created; null: it has been removed';
COMMENT ON COLUMN eventstore.streams.first_version IS 'Earlier events were truncated or deleted';
COMMENT ON COLUMN eventstore.streams.deleted IS 'Deleted, and not written again since';
COMMENT ON COLUMN eventstore.streams.tombstoned IS 'Gone for good: takes no events';

CREATE VIEW eventstore.snapshots WITH (security_invoker = true) AS
SELECT
    s.name AS stream,
    n.kind,
    n.version,
    n.state,
    n.saved_at
FROM eventstore.snapshot n
JOIN eventstore.stream s USING (stream_key);
COMMENT ON VIEW eventstore.snapshots IS 'The snapshots that es_load() and es_aggregate() begin with';
COMMENT ON COLUMN eventstore.snapshots.version IS 'The state is that after the event of this version';
-- Projections: what they are, how far they have come, and what they could not apply.

CREATE SEQUENCE eventstore.projection_ids AS int;
COMMENT ON SEQUENCE eventstore.projection_ids IS 'Ids of projections; none is used twice';

-- What a projection is changes with statements about it only.  What changes with
-- every batch stands in projection_progress, whose updates touch no index.
CREATE TABLE eventstore.projection (
    projection_id int NOT NULL,
    name text COLLATE "C" NOT NULL,
    owner text COLLATE "C" NOT NULL,
    search_path text NOT NULL,
    form text COLLATE "C" NOT NULL,
    code text NOT NULL,
    mode text COLLATE "C" NOT NULL,
    types text[] COLLATE "C",
    categories text[] COLLATE "C",
    partition_by text NOT NULL,
    start_after bigint NOT NULL,
    batch_size int NOT NULL,
    on_error text COLLATE "C" NOT NULL,
    max_retries int NOT NULL,
    reset text,
    named text[] NOT NULL,
    state text COLLATE "C" NOT NULL,
    live boolean NOT NULL,
    rebuild_up_to bigint,
    since timestamptz NOT NULL,
    PRIMARY KEY (projection_id)
);
CREATE UNIQUE INDEX projection_name ON eventstore.projection (name);

COMMENT ON TABLE eventstore.projection IS 'The projections, as es_create_projection() was told';
COMMENT ON COLUMN eventstore.projection.owner IS 'The role whose rights its code has';
COMMENT ON COLUMN eventstore.projection.search_path IS 'The search_path that its code runs with';
COMMENT ON COLUMN eventstore.projection.form IS 'handler, query or reducer';
COMMENT ON COLUMN eventstore.projection.code IS 'The function''s qualified name, or the statement';
COMMENT ON COLUMN eventstore.projection.named IS 'Qualified names of what its code and reset name: not dropped without it';
COMMENT ON COLUMN eventstore.projection.state IS 'running, paused or stopped';
COMMENT ON COLUMN eventstore.projection.live IS 'Inline: do appends apply it? Not while it catches up';
COMMENT ON COLUMN eventstore.projection.rebuild_up_to IS 'Being rebuilt until its checkpoint is there';
COMMENT ON COLUMN eventstore.projection.since IS 'When its state came to be';

CREATE TABLE eventstore.projection_progress (
    projection_id int NOT NULL,
    checkpoint bigint NOT NULL,
    failures int NOT NULL DEFAULT 0,
    failed_position bigint,
    error text,
    sqlstate text COLLATE "C",
    failed_at timestamptz,
    PRIMARY KEY (projection_id)
)
WITH (fillfactor = 20);

COMMENT ON TABLE eventstore.projection_progress IS 'How far each projection has come; commits with what it applied';
COMMENT ON COLUMN eventstore.projection_progress.checkpoint IS 'All events at or below are applied';
COMMENT ON COLUMN eventstore.projection_progress.failures IS 'Attempts that failed since the checkpoint last moved';
COMMENT ON COLUMN eventstore.projection_progress.failed_position IS 'The event that failed; null: no single one';

CREATE TABLE eventstore.projection_state (
    projection_id int NOT NULL,
    key text COLLATE "C" NOT NULL,
    state jsonb NOT NULL,
    PRIMARY KEY (projection_id, key)
)
WITH (fillfactor = 80);
COMMENT ON TABLE eventstore.projection_state IS 'What reducers have made of the events, by key';

CREATE TABLE eventstore.dead_letter (
    projection_id int NOT NULL,
    "position" bigint NOT NULL,
    stream text COLLATE "C" NOT NULL,
    parks boolean NOT NULL,
    attempts int NOT NULL,
    error text,
    sqlstate text COLLATE "C",
    failed_at timestamptz NOT NULL,
    PRIMARY KEY (projection_id, "position")
);
CREATE INDEX dead_letter_stream ON eventstore.dead_letter (projection_id, stream) WHERE parks;
COMMENT ON TABLE eventstore.dead_letter IS 'Events that a projection was let pass without applying them';
COMMENT ON COLUMN eventstore.dead_letter.parks IS 'Do later events of the stream wait behind it?';
COMMENT ON COLUMN eventstore.dead_letter.error IS 'Null: not tried, it waits behind an earlier event of its stream';

-- Sessions that append keep the list of inline projections, and the scheduler that
-- of the others: whatever changes the table tells them.
CREATE FUNCTION eventstore.projections_changed() RETURNS trigger
    AS 'MODULE_PATHNAME', 'es_projections_changed'
    LANGUAGE C;
COMMENT ON FUNCTION eventstore.projections_changed() IS
    'Makes every process read the list of projections anew';
CREATE TRIGGER eventstore_projections_changed
    AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON eventstore.projection
    FOR EACH STATEMENT EXECUTE FUNCTION eventstore.projections_changed();
ALTER TABLE eventstore.projection ENABLE ALWAYS TRIGGER eventstore_projections_changed;

SELECT pg_catalog.pg_extension_config_dump('eventstore.projection_ids', '');
SELECT pg_catalog.pg_extension_config_dump('eventstore.projection', '');
SELECT pg_catalog.pg_extension_config_dump('eventstore.projection_progress', '');
SELECT pg_catalog.pg_extension_config_dump('eventstore.projection_state', '');
SELECT pg_catalog.pg_extension_config_dump('eventstore.dead_letter', '');
-- Projections.

CREATE FUNCTION es_create_projection(
    name text,
    handler text DEFAULT NULL,
    query text DEFAULT NULL,
    reducer text DEFAULT NULL,
    mode text DEFAULT 'async',
    types text[] DEFAULT NULL,
    categories text[] DEFAULT NULL,
    partition_by text DEFAULT 'stream',
    start_after bigint DEFAULT 0,
    batch_size int DEFAULT 10000,
    on_error text DEFAULT 'stop',
    max_retries int DEFAULT 5,
    reset text DEFAULT NULL,
    if_not_exists boolean DEFAULT false)
    RETURNS void
    AS 'MODULE_PATHNAME', 'es_create_projection'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION es_create_projection(text, text, text, text, text, text[], text[], text, bigint, int, text, int, text, boolean) IS
    'Have the database keep a read model: inline with each append, or by the background worker';

CREATE FUNCTION es_alter_projection(
    name text,
    batch_size int DEFAULT NULL,
    on_error text DEFAULT NULL,
    max_retries int DEFAULT NULL,
    reset text DEFAULT NULL)
    RETURNS void
    AS 'MODULE_PATHNAME', 'es_alter_projection'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION es_alter_projection(text, int, text, int, text) IS
    'Change how a projection runs; NULL leaves a setting as it is';

CREATE FUNCTION es_drop_projection(name text) RETURNS void
    AS 'MODULE_PATHNAME', 'es_drop_projection'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION es_drop_projection(text) IS
    'Stop keeping a read model; what it has written stays';

CREATE FUNCTION es_pause_projection(name text) RETURNS void
    AS 'MODULE_PATHNAME', 'es_pause_projection'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION es_pause_projection(text) IS
    'Leave a projection where it is until it is resumed';

CREATE FUNCTION es_resume_projection(name text, skip_failed boolean DEFAULT false) RETURNS void
    AS 'MODULE_PATHNAME', 'es_resume_projection'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION es_resume_projection(text, boolean) IS
    'Let a paused or stopped projection go on; past the event that failed, if asked';

CREATE FUNCTION es_rebuild_projection(name text) RETURNS void
    AS 'MODULE_PATHNAME', 'es_rebuild_projection'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION es_rebuild_projection(text) IS
    'Empty the read model and apply all events anew';

CREATE FUNCTION es_run_projection(name text, up_to bigint DEFAULT NULL) RETURNS bigint
    AS 'MODULE_PATHNAME', 'es_run_projection'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION es_run_projection(text, bigint) IS
    'Catch up now, in this session and transaction; the number of events applied';

CREATE FUNCTION es_wait_for_projection(
    name text,
    up_to bigint DEFAULT NULL,
    timeout interval DEFAULT '5 s')
    RETURNS boolean
    AS 'MODULE_PATHNAME', 'es_wait_for_projection'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION es_wait_for_projection(text, bigint, interval) IS
    'Wait until a projection has applied a position, or all that there was; false if time is up';

CREATE FUNCTION es_retry_dead_letters(name text, positions bigint[] DEFAULT NULL) RETURNS bigint
    AS 'MODULE_PATHNAME', 'es_retry_dead_letters'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION es_retry_dead_letters(text, bigint[]) IS
    'Apply events that were let pass; the number that could be applied';

CREATE FUNCTION es_projection_state(name text, key text) RETURNS jsonb
    AS 'MODULE_PATHNAME', 'es_projection_state'
    LANGUAGE C STABLE;
COMMENT ON FUNCTION es_projection_state(text, text) IS
    'What a reducer has made of the events of a key; NULL: nothing';

CREATE FUNCTION es_aggregate(
    stream text,
    reducer text,
    initial jsonb DEFAULT '{}',
    up_to_version bigint DEFAULT NULL,
    as_of timestamptz DEFAULT NULL)
    RETURNS jsonb
    AS 'MODULE_PATHNAME', 'es_aggregate'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION es_aggregate(text, text, jsonb, bigint, timestamptz) IS
    'Fold the events of a stream now, up to a version or a moment';
-- Views of the projections.

CREATE FUNCTION eventstore.projection_figures(
    OUT projection_id int,
    OUT worker_pid int,
    OUT batch_started timestamptz,
    OUT batch_events bigint,
    OUT batch_done bigint,
    OUT batch_ms float8,
    OUT events_per_second float8,
    OUT worker_deaths int,
    OUT not_before timestamptz,
    OUT empty_from bigint,
    OUT empty_upto bigint)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'es_projection_figures'
    LANGUAGE C VOLATILE ROWS 100;
COMMENT ON FUNCTION eventstore.projection_figures() IS
    'What is going on in the projections that workers run, from shared memory';

CREATE VIEW eventstore.projections AS
SELECT
    p.name,
    CASE
        WHEN p.state OPERATOR(pg_catalog.<>) 'running' THEN p.state
        WHEN g.failures OPERATOR(pg_catalog.>) 0 OR f.worker_deaths OPERATOR(pg_catalog.>) 0 THEN 'retrying'
        WHEN p.rebuild_up_to IS NOT NULL THEN 'rebuilding'
        WHEN p.mode OPERATOR(pg_catalog.=) 'inline' AND NOT p.live THEN 'catching up'
        ELSE 'running'
    END AS state,
    p.since,
    p.mode,
    p.form,
    p.owner,
    c.checkpoint,
    greatest(h.head OPERATOR(pg_catalog.-) c.checkpoint, 0) AS lag,
    CASE WHEN c.checkpoint OPERATOR(pg_catalog.>=) h.head THEN 0::pg_catalog.float8
         ELSE greatest(pg_catalog.extract('epoch', pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) n.created_at), 0)::pg_catalog.float8
    END AS lag_seconds,
    f.events_per_second,
    f.batch_ms,
    f.worker_pid,
    f.batch_started,
    f.batch_events,
    f.batch_done,
    g.failures,
    f.worker_deaths,
    g.error AS last_error,
    g.sqlstate AS last_sqlstate,
    g.failed_position,
    g.failed_at,
    CASE WHEN (g.failures OPERATOR(pg_catalog.>) 0 OR f.worker_deaths OPERATOR(pg_catalog.>) 0) AND p.state OPERATOR(pg_catalog.=) 'running' THEN f.not_before END AS next_try_at,
    (SELECT pg_catalog.count(*) FROM eventstore.dead_letter d
     WHERE d.projection_id OPERATOR(pg_catalog.=) p.projection_id) AS dead_letters,
    CASE WHEN p.rebuild_up_to IS NOT NULL THEN
        pg_catalog.round(100.0 OPERATOR(pg_catalog.*) (c.checkpoint OPERATOR(pg_catalog.-) p.start_after)
                         OPERATOR(pg_catalog./) greatest(p.rebuild_up_to OPERATOR(pg_catalog.-) p.start_after, 1), 1)
    END AS rebuilt_percent,
    CASE WHEN p.rebuild_up_to IS NOT NULL AND f.events_per_second OPERATOR(pg_catalog.>) 0 THEN
        pg_catalog.make_interval(secs => least(greatest(p.rebuild_up_to OPERATOR(pg_catalog.-) c.checkpoint, 0)
                                               OPERATOR(pg_catalog./) f.events_per_second, 1e9))
    END AS rebuild_time_left,
    p.types,
    p.categories,
    p.code,
    p.batch_size,
    p.on_error,
    p.max_retries
FROM eventstore.projection p
JOIN eventstore.projection_progress g USING (projection_id)
LEFT JOIN eventstore.projection_figures() f USING (projection_id)
CROSS JOIN (SELECT s.head FROM eventstore.log_status() s) h
CROSS JOIN LATERAL (
    SELECT CASE
        WHEN p.live THEN h.head
        WHEN f.empty_from OPERATOR(pg_catalog.=) g.checkpoint THEN greatest(g.checkpoint, f.empty_upto)
        ELSE g.checkpoint
    END AS checkpoint) c
LEFT JOIN LATERAL (
    SELECT l.created_at
    FROM eventstore.event_log l
    WHERE l."position" OPERATOR(pg_catalog.>) c.checkpoint
    ORDER BY l."position"
    LIMIT 1) n ON c.checkpoint OPERATOR(pg_catalog.<) h.head;
COMMENT ON VIEW eventstore.projections IS 'How each projection is doing';
COMMENT ON COLUMN eventstore.projections.state IS 'running, catching up (not inline yet), rebuilding, retrying (after an error), stopped (by one), paused';
COMMENT ON COLUMN eventstore.projections.since IS 'When it was last created, paused, resumed, stopped, rebuilt, or became inline';
COMMENT ON COLUMN eventstore.projections.checkpoint IS 'All events at or below are applied';
COMMENT ON COLUMN eventstore.projections.lag IS 'Positions behind the head';
COMMENT ON COLUMN eventstore.projections.lag_seconds IS 'Age of the first event beyond the checkpoint';
COMMENT ON COLUMN eventstore.projections.events_per_second IS 'While it applies events, lately';
COMMENT ON COLUMN eventstore.projections.batch_ms IS 'Time of the last batch with events, in milliseconds';
COMMENT ON COLUMN eventstore.projections.worker_pid IS 'The worker that runs it now; null: none';
COMMENT ON COLUMN eventstore.projections.batch_started IS 'When the batch that is running began; null: none is';
COMMENT ON COLUMN eventstore.projections.batch_events IS 'Events in that batch';
COMMENT ON COLUMN eventstore.projections.batch_done IS 'How many of them have been handled; not for a query';
COMMENT ON COLUMN eventstore.projections.failures IS 'Attempts that failed since the checkpoint last moved';
COMMENT ON COLUMN eventstore.projections.worker_deaths IS 'Workers that ended in the midst of a batch, since one last ended well';
COMMENT ON COLUMN eventstore.projections.failed_position IS 'The event that failed; null: the error is not about one event';
COMMENT ON COLUMN eventstore.projections.next_try_at IS 'When the next attempt is due';
COMMENT ON COLUMN eventstore.projections.dead_letters IS 'Events that it was let pass';
COMMENT ON COLUMN eventstore.projections.rebuilt_percent IS 'While it is rebuilt: positions passed, of those there were at its beginning';
COMMENT ON COLUMN eventstore.projections.rebuild_time_left IS 'While it is rebuilt: at the present rate';

CREATE VIEW eventstore.dead_letters AS
SELECT
    p.name AS projection,
    d."position",
    d.stream,
    CASE WHEN d.error IS NULL THEN 'waiting' WHEN d.parks THEN 'parked' ELSE 'skipped' END AS reason,
    d.attempts,
    d.error,
    d.sqlstate,
    d.failed_at
FROM eventstore.dead_letter d
JOIN eventstore.projection p USING (projection_id);
COMMENT ON VIEW eventstore.dead_letters IS 'Events that projections were let pass without applying them';
COMMENT ON COLUMN eventstore.dead_letters.reason IS
    'skipped; parked: later events of its stream wait; waiting: behind a parked one';

CREATE VIEW eventstore.projection_states AS
SELECT p.name AS projection, s.key, s.state
FROM eventstore.projection_state s
JOIN eventstore.projection p USING (projection_id);
COMMENT ON VIEW eventstore.projection_states IS 'What reducers have made of the events, by projection and key';
COMMENT ON COLUMN eventstore.projection_states.key IS 'As partition_by says: a stream, a category, ...';
-- Subscriptions: what they are, how far each partition has come, and the events that
-- need more than one delivery.

CREATE SEQUENCE eventstore.subscription_ids AS int;
COMMENT ON SEQUENCE eventstore.subscription_ids IS 'Ids of subscriptions; none is used twice';

CREATE TABLE eventstore.subscription (
    subscription_id int NOT NULL,
    name text COLLATE "C" NOT NULL,
    types text[] COLLATE "C",
    categories text[] COLLATE "C",
    start_after bigint NOT NULL,
    partitions int NOT NULL,
    ack_timeout interval NOT NULL,
    max_retries int NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (subscription_id)
);
CREATE UNIQUE INDEX subscription_name ON eventstore.subscription (name);

COMMENT ON TABLE eventstore.subscription IS 'The subscriptions, as es_create_subscription() was told';
COMMENT ON COLUMN eventstore.subscription.partitions IS 'So many consumers can be served at once';
COMMENT ON COLUMN eventstore.subscription.ack_timeout IS 'How long a lease lasts that is not renewed';
COMMENT ON COLUMN eventstore.subscription.max_retries IS 'An event that fails more often is parked';

-- A fetch and an ack are one update of this row each.  It has no index but its key,
-- and room on its page: the update touches no index.
CREATE TABLE eventstore.subscription_partition (
    subscription_id int NOT NULL,
    partition int NOT NULL,
    checkpoint bigint NOT NULL,
    delivered bigint NOT NULL,
    pending bigint[] NOT NULL DEFAULT '{}',
    held int NOT NULL DEFAULT 0,
    batch_limit int,
    consumer text COLLATE "C",
    leased_until timestamptz,
    fetched_at timestamptz,
    PRIMARY KEY (subscription_id, partition)
)
WITH (fillfactor = 20);

COMMENT ON TABLE eventstore.subscription_partition IS 'How far each partition of a subscription has come, and who has it';
COMMENT ON COLUMN eventstore.subscription_partition.checkpoint IS 'Nothing at or below is left to handle';
COMMENT ON COLUMN eventstore.subscription_partition.delivered IS 'Everything at or below has been handed out, or is in subscription_event';
COMMENT ON COLUMN eventstore.subscription_partition.pending IS 'Handed out to the consumer and not acked, in order; empty: the partition is free';
COMMENT ON COLUMN eventstore.subscription_partition.held IS 'Its events in subscription_event that are not parked';
COMMENT ON COLUMN eventstore.subscription_partition.batch_limit IS 'At most so many events at once, after a consumer has let its lease expire; null: no such limit';
COMMENT ON COLUMN eventstore.subscription_partition.consumer IS 'Who has the lease, or had the last one';
COMMENT ON COLUMN eventstore.subscription_partition.leased_until IS 'Then another consumer may have what is pending; null: nothing is';

CREATE TABLE eventstore.subscription_event (
    subscription_id int NOT NULL,
    "position" bigint NOT NULL,
    partition int NOT NULL,
    stream_key bigint NOT NULL,
    status text COLLATE "C" NOT NULL,
    attempts int NOT NULL,
    not_before timestamptz,
    reason text,
    consumer text COLLATE "C",
    at timestamptz NOT NULL,
    PRIMARY KEY (subscription_id, "position")
);
CREATE INDEX subscription_event_held ON eventstore.subscription_event (subscription_id, partition, "position")
    WHERE status OPERATOR(pg_catalog.<>) 'parked'::pg_catalog.text;

COMMENT ON TABLE eventstore.subscription_event IS 'Events that are to be handed out again, or wait behind such a one, or are parked';
COMMENT ON COLUMN eventstore.subscription_event.status IS
    'retry: again, from not_before on; waiting: after the earlier ones of its stream; parked: until es_replay_parked()';
COMMENT ON COLUMN eventstore.subscription_event.attempts IS 'Deliveries that have failed';
COMMENT ON COLUMN eventstore.subscription_event.reason IS 'Why the last one did';
COMMENT ON COLUMN eventstore.subscription_event.consumer IS 'Whose it was';
COMMENT ON COLUMN eventstore.subscription_event.at IS 'When it failed, or was held back';

SELECT pg_catalog.pg_extension_config_dump('eventstore.subscription_ids', '');
SELECT pg_catalog.pg_extension_config_dump('eventstore.subscription', '');
SELECT pg_catalog.pg_extension_config_dump('eventstore.subscription_partition', '');
SELECT pg_catalog.pg_extension_config_dump('eventstore.subscription_event', '');
-- Subscriptions.

CREATE FUNCTION es_create_subscription(
    name text,
    types text[] DEFAULT NULL,
    categories text[] DEFAULT NULL,
    start_after bigint DEFAULT 0,
    partitions int DEFAULT 1,
    ack_timeout interval DEFAULT '30 s',
    max_retries int DEFAULT 10,
    if_not_exists boolean DEFAULT false)
    RETURNS void
    AS 'MODULE_PATHNAME', 'es_create_subscription'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION es_create_subscription(text, text[], text[], bigint, int, interval, int, boolean) IS
    'Have the database remember how far a group of consumers has come';

CREATE FUNCTION es_alter_subscription(
    name text,
    ack_timeout interval DEFAULT NULL,
    max_retries int DEFAULT NULL)
    RETURNS void
    AS 'MODULE_PATHNAME', 'es_alter_subscription'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION es_alter_subscription(text, interval, int) IS
    'Change how a subscription treats its consumers; NULL leaves a setting as it is';

CREATE FUNCTION es_seek_subscription(name text, after_position bigint) RETURNS void
    AS 'MODULE_PATHNAME', 'es_seek_subscription'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION es_seek_subscription(text, bigint) IS
    'Go on from another position; all leases end';

CREATE FUNCTION es_drop_subscription(name text) RETURNS void
    AS 'MODULE_PATHNAME', 'es_drop_subscription'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION es_drop_subscription(text) IS
    'Forget a subscription, and what it has parked';

CREATE FUNCTION es_fetch(
    subscription text,
    consumer text,
    max_count int DEFAULT 100,
    wait interval DEFAULT NULL)
    RETURNS SETOF es_event
    AS 'MODULE_PATHNAME', 'es_fetch'
    LANGUAGE C VOLATILE ROWS 100;
COMMENT ON FUNCTION es_fetch(text, text, int, interval) IS
    'Lease the next events to a consumer';

CREATE FUNCTION es_ack(subscription text, consumer text, positions bigint[]) RETURNS bigint
    AS 'MODULE_PATHNAME', 'es_ack'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION es_ack(text, text, bigint[]) IS
    'Events have been handled, and the consumer is alive; the number that were pending';

CREATE FUNCTION es_nack(
    subscription text,
    consumer text,
    positions bigint[],
    action text DEFAULT 'retry',
    reason text DEFAULT NULL)
    RETURNS bigint
    AS 'MODULE_PATHNAME', 'es_nack'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION es_nack(text, text, bigint[], text, text) IS
    'Events could not be handled: retry, park or skip them; the number that were pending';

CREATE FUNCTION es_replay_parked(subscription text) RETURNS bigint
    AS 'MODULE_PATHNAME', 'es_replay_parked'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION es_replay_parked(text) IS
    'Hand out again what was parked; the number of events';
-- Views of the subscriptions.

CREATE VIEW eventstore.subscription_partitions AS
SELECT
    s.name AS subscription,
    p.partition,
    p.checkpoint,
    greatest(h.head OPERATOR(pg_catalog.-) p.checkpoint, 0) AS lag,
    pg_catalog.cardinality(p.pending) AS pending,
    p.held,
    CASE WHEN p.leased_until IS NOT NULL THEN p.consumer END AS consumer,
    p.leased_until,
    p.fetched_at,
    p.batch_limit
FROM eventstore.subscription s
JOIN eventstore.subscription_partition p USING (subscription_id)
CROSS JOIN (SELECT l.head FROM eventstore.log_status() l) h;
COMMENT ON VIEW eventstore.subscription_partitions IS 'How each partition of a subscription is doing';
COMMENT ON COLUMN eventstore.subscription_partitions.checkpoint IS 'Nothing at or below is left to handle';
COMMENT ON COLUMN eventstore.subscription_partitions.lag IS 'Positions behind the head';
COMMENT ON COLUMN eventstore.subscription_partitions.pending IS 'Events handed out and not acked';
COMMENT ON COLUMN eventstore.subscription_partitions.held IS 'Events to be handed out again, and those behind them';
COMMENT ON COLUMN eventstore.subscription_partitions.consumer IS 'Who has the lease; null: it is free';
COMMENT ON COLUMN eventstore.subscription_partitions.leased_until IS 'When another consumer may have what is pending';
COMMENT ON COLUMN eventstore.subscription_partitions.fetched_at IS 'When events were last handed out';
COMMENT ON COLUMN eventstore.subscription_partitions.batch_limit IS
    'Events handed out at once, since a consumer has let its lease expire; null: no such limit';

CREATE VIEW eventstore.subscriptions AS
SELECT
    s.name,
    s.partitions,
    p.checkpoint,
    greatest(h.head OPERATOR(pg_catalog.-) p.checkpoint, 0) AS lag,
    CASE WHEN p.checkpoint OPERATOR(pg_catalog.>=) h.head THEN 0::pg_catalog.float8
         ELSE greatest(pg_catalog.extract('epoch', pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) n.created_at), 0)::pg_catalog.float8
    END AS lag_seconds,
    p.pending,
    p.held,
    (SELECT pg_catalog.count(*) FROM eventstore.subscription_event e
     WHERE e.subscription_id OPERATOR(pg_catalog.=) s.subscription_id
         AND e.status OPERATOR(pg_catalog.=) 'parked'::pg_catalog.text) AS parked,
    p.consumers,
    p.leased_until,
    s.types,
    s.categories,
    s.ack_timeout,
    s.max_retries,
    s.created_at
FROM eventstore.subscription s
CROSS JOIN (SELECT l.head FROM eventstore.log_status() l) h
CROSS JOIN LATERAL (
    SELECT
        pg_catalog.min(q.checkpoint) AS checkpoint,
        pg_catalog.sum(pg_catalog.cardinality(q.pending)) AS pending,
        pg_catalog.sum(q.held) AS held,
        pg_catalog.array_agg(DISTINCT q.consumer) FILTER (WHERE q.leased_until IS NOT NULL) AS consumers,
        pg_catalog.min(q.leased_until) AS leased_until
    FROM eventstore.subscription_partition q
    WHERE q.subscription_id OPERATOR(pg_catalog.=) s.subscription_id) p
LEFT JOIN LATERAL (
    SELECT l.created_at
    FROM eventstore.event_log l
    WHERE l."position" OPERATOR(pg_catalog.>) p.checkpoint
    ORDER BY l."position"
    LIMIT 1) n ON p.checkpoint OPERATOR(pg_catalog.<) h.head;
COMMENT ON VIEW eventstore.subscriptions IS 'How each subscription is doing';
COMMENT ON COLUMN eventstore.subscriptions.checkpoint IS 'Nothing at or below is left to handle, in any partition';
COMMENT ON COLUMN eventstore.subscriptions.lag IS 'Positions behind the head';
COMMENT ON COLUMN eventstore.subscriptions.lag_seconds IS 'Age of the first event beyond the checkpoint';
COMMENT ON COLUMN eventstore.subscriptions.pending IS 'Events handed out and not acked';
COMMENT ON COLUMN eventstore.subscriptions.held IS 'Events to be handed out again, and those behind them';
COMMENT ON COLUMN eventstore.subscriptions.parked IS 'Events given up until es_replay_parked()';
COMMENT ON COLUMN eventstore.subscriptions.consumers IS 'Who has a lease; null: nobody';
COMMENT ON COLUMN eventstore.subscriptions.leased_until IS 'When the first lease ends that is not renewed';

CREATE VIEW eventstore.parked_events AS
SELECT
    s.name AS subscription,
    e."position",
    t.name AS stream,
    (SELECT y.type FROM eventstore.event_log l JOIN eventstore.event_type y USING (type_key)
     WHERE l."position" OPERATOR(pg_catalog.=) e."position" LIMIT 1) AS type,
    e.attempts,
    e.reason,
    e.consumer,
    e.at AS parked_at
FROM eventstore.subscription_event e
JOIN eventstore.subscription s USING (subscription_id)
LEFT JOIN eventstore.stream t USING (stream_key)
WHERE e.status OPERATOR(pg_catalog.=) 'parked'::pg_catalog.text;
COMMENT ON VIEW eventstore.parked_events IS 'Events that subscriptions have given up, until es_replay_parked()';
COMMENT ON COLUMN eventstore.parked_events.type IS 'Null: the event has gone from the log';
COMMENT ON COLUMN eventstore.parked_events.attempts IS 'Deliveries that have failed';
COMMENT ON COLUMN eventstore.parked_events.reason IS 'Why the last one did';
COMMENT ON COLUMN eventstore.parked_events.consumer IS 'Whose it was';
-- When all of the store is there, its history begins.

CREATE FUNCTION eventstore.begin_history() RETURNS void
    AS 'MODULE_PATHNAME', 'es_begin_history'
    LANGUAGE C;
SELECT eventstore.begin_history();
DROP FUNCTION eventstore.begin_history();

-- Rights: nobody but the owner has any, except that monitoring may look.  The
-- README shows the three lines that give out append, read and administer.

REVOKE EXECUTE ON FUNCTION
    es_append, es_append_events, es_append_batch, es_check_version,
    es_head, es_epoch, es_wait, es_stream_version, es_category, es_position_at,
    es_read_stream, es_read_all, es_read_category, es_read_correlation, es_query,
    es_create_projection, es_alter_projection, es_drop_projection, es_pause_projection,
    es_resume_projection, es_rebuild_projection, es_run_projection, es_wait_for_projection,
    es_retry_dead_letters, es_projection_state, es_aggregate,
    es_truncate_stream, es_delete_stream, es_tombstone_stream, es_set_retention, es_scavenge,
    es_register_upcaster, es_save_snapshot, es_load, eventstore.upcasters_changed,
    es_create_subscription, es_alter_subscription, es_seek_subscription, es_drop_subscription,
    es_fetch, es_ack, es_nack, es_replay_parked,
    eventstore.projections_changed, eventstore.projection_figures,
    eventstore.guard, eventstore.load_guard, eventstore.log_status, eventstore.in_flight
FROM PUBLIC;

GRANT SELECT ON eventstore.status, eventstore.blockers, eventstore.projections, eventstore.dead_letters,
    eventstore.subscriptions, eventstore.subscription_partitions, eventstore.parked_events TO pg_monitor;
GRANT SELECT ON eventstore.mark TO pg_monitor;
GRANT EXECUTE ON FUNCTION eventstore.log_status, eventstore.in_flight, eventstore.projection_figures, es_epoch TO pg_monitor;
