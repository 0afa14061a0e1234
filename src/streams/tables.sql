-- The life of a stream: what is hidden, kept, rewritten and remembered.

CREATE TABLE eventstore.hidden (
    stream_key bigint NOT NULL,
    before_version bigint NOT NULL,
    hidden_at timestamptz NOT NULL,
    PRIMARY KEY (stream_key)
);
COMMENT ON TABLE eventstore.hidden IS
    'Streams with events that no reader is shown any more, but that are not removed yet';
COMMENT ON COLUMN eventstore.hidden.before_version IS 'Earlier events are hidden';
COMMENT ON COLUMN eventstore.hidden.hidden_at IS 'When the last of them were taken away';

CREATE TABLE eventstore.removed_id (
    event_id uuid NOT NULL,
    stream_key bigint NOT NULL,
    version bigint NOT NULL,
    "position" bigint NOT NULL,
    type_key bigint NOT NULL,
    taken_at timestamptz NOT NULL,
    digest bytea NOT NULL,
    payload_digest bytea
);
CREATE INDEX removed_id_event ON eventstore.removed_id (event_id);
CREATE INDEX removed_id_taken ON eventstore.removed_id (taken_at);
COMMENT ON TABLE eventstore.removed_id IS
    'Ids of events that were taken away and removed, by which a repeated append is known for some time';
COMMENT ON COLUMN eventstore.removed_id.taken_at IS 'When they were taken away, or, by a rule, removed';
COMMENT ON COLUMN eventstore.removed_id.digest IS 'SHA-256 of the data';
COMMENT ON COLUMN eventstore.removed_id.payload_digest IS 'SHA-256 of the payload; null: it had none';

CREATE TABLE eventstore.retention (
    name text COLLATE "C" NOT NULL,
    max_count bigint,
    max_age interval,
    PRIMARY KEY (name)
);
COMMENT ON TABLE eventstore.retention IS 'How much of a stream is kept, as es_set_retention() was told';
COMMENT ON COLUMN eventstore.retention.name IS 'A stream; or a category: each of its streams that has no rule of its own';
COMMENT ON COLUMN eventstore.retention.max_count IS 'Number of last events that are kept; null: all';
COMMENT ON COLUMN eventstore.retention.max_age IS 'Age up to which events are kept; null: for ever';

CREATE TABLE eventstore.scavenged (
    category text COLLATE "C" NOT NULL,
    events bigint NOT NULL,
    PRIMARY KEY (category)
);
COMMENT ON TABLE eventstore.scavenged IS 'How many events have been removed from the log';

CREATE SEQUENCE eventstore.upcaster_ids AS int;
COMMENT ON SEQUENCE eventstore.upcaster_ids IS 'Ids of upcasters; none is used twice';

CREATE TABLE eventstore.upcaster (
    upcaster_id int NOT NULL,
    type text COLLATE "C" NOT NULL,
    from_schema int NOT NULL,
    to_type text COLLATE "C" NOT NULL,
    to_schema int NOT NULL,
    function text NOT NULL,
    owner text COLLATE "C" NOT NULL,
    search_path text NOT NULL,
    active boolean NOT NULL,
    PRIMARY KEY (type, from_schema)
);
COMMENT ON TABLE eventstore.upcaster IS 'How events of an old shape are shown, as es_register_upcaster() was told';
COMMENT ON COLUMN eventstore.upcaster.function IS 'Its qualified name';
COMMENT ON COLUMN eventstore.upcaster.owner IS
    'A hint for a restore: the owner as of its last change here. The owner is that of the function owner_of_upcaster_...';
COMMENT ON COLUMN eventstore.upcaster.search_path IS 'The search_path that it runs with';
COMMENT ON COLUMN eventstore.upcaster.active IS
    'False: it was restored without its owner; events are shown as they are stored until it is registered again';

CREATE TABLE eventstore.snapshot (
    stream_key bigint NOT NULL,
    kind text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    state jsonb NOT NULL,
    saved_at timestamptz NOT NULL,
    made_by bytea,
    PRIMARY KEY (stream_key, kind)
);
COMMENT ON TABLE eventstore.snapshot IS 'The last snapshot of each kind of a stream';
COMMENT ON COLUMN eventstore.snapshot.version IS 'The state is that after the event of this version';
COMMENT ON COLUMN eventstore.snapshot.made_by IS 'SHA-256 of the definition, then, of the reducer that the kind names; null: it named none';

-- Every backend that reads keeps a copy of this table: a change of the table makes it read anew.
CREATE FUNCTION eventstore.upcasters_changed() RETURNS trigger
    AS 'MODULE_PATHNAME', 'upcasters_changed'
    LANGUAGE C;
COMMENT ON FUNCTION eventstore.upcasters_changed() IS
    'Makes every process read the upcasters anew';
CREATE TRIGGER eventstore_upcasters_changed
    AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON eventstore.upcaster
    FOR EACH STATEMENT EXECUTE FUNCTION eventstore.upcasters_changed();
ALTER TABLE eventstore.upcaster ENABLE ALWAYS TRIGGER eventstore_upcasters_changed;

-- A restore must not have a superuser run what was another role's.
CREATE FUNCTION eventstore.upcaster_restored() RETURNS trigger
    AS 'MODULE_PATHNAME', 'upcaster_restored'
    LANGUAGE C;
COMMENT ON FUNCTION eventstore.upcaster_restored() IS
    'Leaves an upcaster out of use that is restored without its owner, to be a superuser''s';
CREATE TRIGGER eventstore_upcaster_restored
    BEFORE INSERT ON eventstore.upcaster
    FOR EACH ROW EXECUTE FUNCTION eventstore.upcaster_restored();
ALTER TABLE eventstore.upcaster ENABLE ALWAYS TRIGGER eventstore_upcaster_restored;

-- Rows come from the store itself, or from a restore: see log/guard.c.
CREATE TRIGGER eventstore_guard BEFORE INSERT ON eventstore.hidden
    FOR EACH ROW EXECUTE FUNCTION eventstore.guard();
CREATE TRIGGER eventstore_guard BEFORE INSERT ON eventstore.removed_id
    FOR EACH ROW EXECUTE FUNCTION eventstore.guard();
CREATE TRIGGER eventstore_guard BEFORE INSERT ON eventstore.retention
    FOR EACH ROW EXECUTE FUNCTION eventstore.guard();
CREATE TRIGGER eventstore_guard BEFORE INSERT ON eventstore.scavenged
    FOR EACH ROW EXECUTE FUNCTION eventstore.guard();
CREATE TRIGGER eventstore_guard BEFORE INSERT ON eventstore.upcaster
    FOR EACH ROW EXECUTE FUNCTION eventstore.guard();
CREATE TRIGGER eventstore_guard BEFORE INSERT ON eventstore.snapshot
    FOR EACH ROW EXECUTE FUNCTION eventstore.guard();
ALTER TABLE eventstore.hidden ENABLE ALWAYS TRIGGER eventstore_guard;
ALTER TABLE eventstore.removed_id ENABLE ALWAYS TRIGGER eventstore_guard;
ALTER TABLE eventstore.retention ENABLE ALWAYS TRIGGER eventstore_guard;
ALTER TABLE eventstore.scavenged ENABLE ALWAYS TRIGGER eventstore_guard;
ALTER TABLE eventstore.upcaster ENABLE ALWAYS TRIGGER eventstore_guard;
ALTER TABLE eventstore.snapshot ENABLE ALWAYS TRIGGER eventstore_guard;

SELECT pg_catalog.pg_extension_config_dump('eventstore.upcaster_ids', '');
SELECT pg_catalog.pg_extension_config_dump('eventstore.hidden', '');
SELECT pg_catalog.pg_extension_config_dump('eventstore.removed_id', '');
SELECT pg_catalog.pg_extension_config_dump('eventstore.retention', '');
SELECT pg_catalog.pg_extension_config_dump('eventstore.scavenged', '');
SELECT pg_catalog.pg_extension_config_dump('eventstore.upcaster', '');
SELECT pg_catalog.pg_extension_config_dump('eventstore.snapshot', '');
