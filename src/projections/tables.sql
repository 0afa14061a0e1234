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
    filter jsonb,
    PRIMARY KEY (projection_id)
);
CREATE UNIQUE INDEX projection_name ON eventstore.projection (name);

COMMENT ON TABLE eventstore.projection IS 'The projections, as es_create_projection() was told';
COMMENT ON COLUMN eventstore.projection.owner IS
    'A hint for a restore: the owner as of its last change here. The owner is that of the function owner_of_projection_...';
COMMENT ON COLUMN eventstore.projection.search_path IS 'The search_path that its code runs with';
COMMENT ON COLUMN eventstore.projection.form IS 'handler, query or reducer';
COMMENT ON COLUMN eventstore.projection.code IS 'The function''s qualified name, or the statement';
COMMENT ON COLUMN eventstore.projection.named IS 'Qualified names of what its code and reset name: not dropped without it';
COMMENT ON COLUMN eventstore.projection.state IS 'running, paused or stopped';
COMMENT ON COLUMN eventstore.projection.live IS
    'Inline: do appends apply it, where it runs? Not while it catches up';
COMMENT ON COLUMN eventstore.projection.rebuild_up_to IS 'Being rebuilt until its checkpoint is there';
COMMENT ON COLUMN eventstore.projection.since IS 'When its state came to be';
COMMENT ON COLUMN eventstore.projection.filter IS 'A query, instead of types and categories; null: none';

CREATE TABLE eventstore.projection_progress (
    projection_id int NOT NULL,
    checkpoint bigint NOT NULL,
    failures int NOT NULL DEFAULT 0,
    failed_position bigint,
    error text,
    sqlstate text COLLATE "C",
    detail text,
    hint text,
    context text,
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
    detail text,
    hint text,
    context text,
    skipped_by text COLLATE "C",
    failed_at timestamptz NOT NULL,
    PRIMARY KEY (projection_id, "position")
);
CREATE INDEX dead_letter_stream ON eventstore.dead_letter (projection_id, stream) WHERE parks;
COMMENT ON TABLE eventstore.dead_letter IS 'Events that a projection was let pass without applying them';
COMMENT ON COLUMN eventstore.dead_letter.parks IS 'Do later events of the stream wait behind it?';
COMMENT ON COLUMN eventstore.dead_letter.error IS 'Null: not tried, it waits behind an earlier event of its stream';
COMMENT ON COLUMN eventstore.dead_letter.skipped_by IS 'The role that skipped it with es_resume_projection(); null: on_error did';

-- Sessions that append keep a copy of the inline projections, and the scheduler one of the
-- others: a change of the table makes them read it anew.
CREATE FUNCTION eventstore.projections_changed() RETURNS trigger
    AS 'MODULE_PATHNAME', 'projections_changed'
    LANGUAGE C;
COMMENT ON FUNCTION eventstore.projections_changed() IS
    'Makes every process read the list of projections anew';
CREATE TRIGGER eventstore_projections_changed
    AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON eventstore.projection
    FOR EACH STATEMENT EXECUTE FUNCTION eventstore.projections_changed();
ALTER TABLE eventstore.projection ENABLE ALWAYS TRIGGER eventstore_projections_changed;

-- A restore must not have a superuser run what was another role's.
CREATE FUNCTION eventstore.projection_restored() RETURNS trigger
    AS 'MODULE_PATHNAME', 'projection_restored'
    LANGUAGE C;
COMMENT ON FUNCTION eventstore.projection_restored() IS
    'Pauses a projection that is restored without its owner, to be a superuser''s';
CREATE TRIGGER eventstore_projection_restored
    BEFORE INSERT ON eventstore.projection
    FOR EACH ROW EXECUTE FUNCTION eventstore.projection_restored();
ALTER TABLE eventstore.projection ENABLE ALWAYS TRIGGER eventstore_projection_restored;

-- Rows come from the store itself, or from a restore: see log/guard.c.
CREATE TRIGGER eventstore_guard BEFORE INSERT ON eventstore.projection
    FOR EACH ROW EXECUTE FUNCTION eventstore.guard();
CREATE TRIGGER eventstore_guard BEFORE INSERT ON eventstore.projection_progress
    FOR EACH ROW EXECUTE FUNCTION eventstore.guard();
CREATE TRIGGER eventstore_guard BEFORE INSERT ON eventstore.projection_state
    FOR EACH ROW EXECUTE FUNCTION eventstore.guard();
CREATE TRIGGER eventstore_guard BEFORE INSERT ON eventstore.dead_letter
    FOR EACH ROW EXECUTE FUNCTION eventstore.guard();
ALTER TABLE eventstore.projection ENABLE ALWAYS TRIGGER eventstore_guard;
ALTER TABLE eventstore.projection_progress ENABLE ALWAYS TRIGGER eventstore_guard;
ALTER TABLE eventstore.projection_state ENABLE ALWAYS TRIGGER eventstore_guard;
ALTER TABLE eventstore.dead_letter ENABLE ALWAYS TRIGGER eventstore_guard;

SELECT pg_catalog.pg_extension_config_dump('eventstore.projection_ids', '');
SELECT pg_catalog.pg_extension_config_dump('eventstore.projection', '');
SELECT pg_catalog.pg_extension_config_dump('eventstore.projection_progress', '');
SELECT pg_catalog.pg_extension_config_dump('eventstore.projection_state', '');
SELECT pg_catalog.pg_extension_config_dump('eventstore.dead_letter', '');
