-- The event log.

-- ---- events ----

-- Made before the tables that everybody else locks after it, for DROP EXTENSION locks in the
-- order of creation.

-- The order of columns is the order of their alignment: no byte is padded.
CREATE TABLE eventstore.event_log (
    position bigint NOT NULL,
    stream_key bigint NOT NULL,
    version bigint NOT NULL,
    created_at timestamptz NOT NULL,
    type_key bigint NOT NULL,
    event_id uuid,
    stream text COLLATE "C" NOT NULL,
    data jsonb NOT NULL,
    metadata jsonb,
    tags text[] COLLATE "C",
    payload bytea
);

-- Read with each event: never compressed, never in another table.
ALTER TABLE eventstore.event_log ALTER COLUMN stream SET STORAGE PLAIN;

CREATE UNIQUE INDEX event_log_position ON eventstore.event_log (position);
CREATE UNIQUE INDEX event_log_stream ON eventstore.event_log (stream_key, version);
CREATE UNIQUE INDEX event_log_id ON eventstore.event_log (event_id) WHERE event_id IS NOT NULL;
CREATE INDEX event_log_type ON eventstore.event_log (type_key, position);
CREATE INDEX event_log_correlation ON eventstore.event_log (
    pg_catalog.hashtextextended((metadata OPERATOR(pg_catalog.->>) 'correlation_id'::pg_catalog.text) COLLATE "C", 0::pg_catalog.int8),
    position)
    WHERE metadata OPERATOR(pg_catalog.?) 'correlation_id'::pg_catalog.text;

COMMENT ON TABLE eventstore.event_log IS 'The events; written by es_append() and its like only';
COMMENT ON COLUMN eventstore.event_log.position IS 'Place in the log: unique, rising, gaps allowed';
COMMENT ON COLUMN eventstore.event_log.stream_key IS 'The stream''s key in eventstore.stream';
COMMENT ON COLUMN eventstore.event_log.version IS 'Place in the stream: 1, 2, 3, no gaps';
COMMENT ON COLUMN eventstore.event_log.created_at IS 'When it was appended, or the time given with it';
COMMENT ON COLUMN eventstore.event_log.type_key IS 'Category, type, schema version and content type, in eventstore.event_type';
COMMENT ON COLUMN eventstore.event_log.event_id IS 'Unique; a repeated append is known by it; null: derived, see eventstore.event_id()';
COMMENT ON COLUMN eventstore.event_log.stream IS 'Name of the stream, as in eventstore.stream';
COMMENT ON COLUMN eventstore.event_log.data IS 'What happened';
COMMENT ON COLUMN eventstore.event_log.metadata IS 'Why and by whom: correlation_id, causation_id, and what the application adds';
COMMENT ON COLUMN eventstore.event_log.tags IS 'What the event is about, across streams; null: no tags';
COMMENT ON COLUMN eventstore.event_log.payload IS 'Bytes that are carried beside data; null: none';

-- ---- tags ----

CREATE TABLE eventstore.event_tag (
    tag bigint NOT NULL,
    position bigint NOT NULL
);

CREATE INDEX event_tag_tag ON eventstore.event_tag (tag, position);

COMMENT ON TABLE eventstore.event_tag IS 'Where the events of a tag are: a row for each tag of an event';
COMMENT ON COLUMN eventstore.event_tag.tag IS 'eventstore.name_hash() of the tag';
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
    schema_version int NOT NULL,
    content_type text COLLATE "C"
);

CREATE INDEX event_type_key ON eventstore.event_type (type_key);
CREATE INDEX event_type_category ON eventstore.event_type (category);
CREATE INDEX event_type_bucket ON eventstore.event_type (bucket);
CREATE INDEX event_type_type ON eventstore.event_type (type);

COMMENT ON TABLE eventstore.event_type IS
    'What a type key stands for; the same row may be there more than once';
COMMENT ON COLUMN eventstore.event_type.type_key IS 'eventstore.type_key() of the other columns';
COMMENT ON COLUMN eventstore.event_type.category IS 'Category of the streams; null: one of those that share the bucket';
COMMENT ON COLUMN eventstore.event_type.bucket IS 'Bucket of the categories beyond the first thousand';
COMMENT ON COLUMN eventstore.event_type.type IS 'Type of the events';
COMMENT ON COLUMN eventstore.event_type.schema_version IS 'Schema version of the events';
COMMENT ON COLUMN eventstore.event_type.content_type IS 'Content type of their payload; null: none was given';

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

CREATE SEQUENCE eventstore.format_register;
COMMENT ON SEQUENCE eventstore.format_register IS
    'The format of the log, written with its first append: how the hashes are made that it is found by';

-- Nobody is granted these: who knows the secret can tell positions from ids.
CREATE SEQUENCE eventstore.id_secret_1;
COMMENT ON SEQUENCE eventstore.id_secret_1 IS
    'First half of the secret that ids of events are derived with';

CREATE SEQUENCE eventstore.id_secret_2;
COMMENT ON SEQUENCE eventstore.id_secret_2 IS
    'Second half of the secret that ids of events are derived with';

CREATE SEQUENCE eventstore.id_check;
COMMENT ON SEQUENCE eventstore.id_check IS
    'Tells whether both halves of the secret belong together';

CREATE SEQUENCE eventstore.boundary_register MINVALUE 0 MAXVALUE 1114111;
COMMENT ON SEQUENCE eventstore.boundary_register IS
    'The character that ends the boundary of a stream''s name, as es_set_boundary() was told: its code point; 0, or never written: none does';

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
    AS 'MODULE_PATHNAME', 'guard'
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
    AS 'MODULE_PATHNAME', 'load_guard'
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
SELECT pg_catalog.pg_extension_config_dump('eventstore.format_register', '');
SELECT pg_catalog.pg_extension_config_dump('eventstore.id_secret_1', '');
SELECT pg_catalog.pg_extension_config_dump('eventstore.id_secret_2', '');
SELECT pg_catalog.pg_extension_config_dump('eventstore.id_check', '');
SELECT pg_catalog.pg_extension_config_dump('eventstore.boundary_register', '');
SELECT pg_catalog.pg_extension_config_dump('eventstore.stream', '');
SELECT pg_catalog.pg_extension_config_dump('eventstore.event_type', '');
SELECT pg_catalog.pg_extension_config_dump('eventstore.event_tag', '');
SELECT pg_catalog.pg_extension_config_dump('eventstore.event_log', '');
