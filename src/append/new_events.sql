-- The table to write to.

-- Made before the log: whoever writes to it locks it before event_log, and DROP EXTENSION
-- locks in the order of creation.

CREATE FUNCTION eventstore.new_events_handler() RETURNS fdw_handler
    AS 'MODULE_PATHNAME', 'new_events_handler'
    LANGUAGE C STRICT;
COMMENT ON FUNCTION eventstore.new_events_handler() IS 'Appends what is written to eventstore.new_events';

CREATE FUNCTION eventstore.new_events_validator(options text[], catalog oid) RETURNS void
    AS 'MODULE_PATHNAME', 'new_events_validator'
    LANGUAGE C;
COMMENT ON FUNCTION eventstore.new_events_validator(text[], oid) IS
    'Refuses options: eventstore.new_events has none';

CREATE FOREIGN DATA WRAPPER eventstore
    HANDLER eventstore.new_events_handler
    VALIDATOR eventstore.new_events_validator;
COMMENT ON FOREIGN DATA WRAPPER eventstore IS 'For eventstore.new_events alone';

CREATE SERVER eventstore FOREIGN DATA WRAPPER eventstore;
COMMENT ON SERVER eventstore IS 'This database: for eventstore.new_events alone';

-- The last columns are generated, so that a COPY without a list of columns leaves them out.
CREATE FOREIGN TABLE eventstore.new_events (
    stream text NOT NULL,
    type text NOT NULL,
    data jsonb NOT NULL DEFAULT '{}',
    expected_version bigint,
    metadata jsonb,
    event_id uuid,
    tags text[],
    schema_version int NOT NULL DEFAULT 1,
    created_at timestamptz,
    content_type text,
    payload bytea,
    version bigint GENERATED ALWAYS AS (NULL::bigint) STORED,
    "position" bigint GENERATED ALWAYS AS (NULL::bigint) STORED,
    duplicate boolean GENERATED ALWAYS AS (NULL::boolean) STORED
)
SERVER eventstore;

COMMENT ON FOREIGN TABLE eventstore.new_events IS
    'To write events to, with INSERT and COPY: each row is appended as by es_append()';
COMMENT ON COLUMN eventstore.new_events.stream IS 'The stream to append to';
COMMENT ON COLUMN eventstore.new_events.type IS 'Type of the event';
COMMENT ON COLUMN eventstore.new_events.data IS 'What happened';
COMMENT ON COLUMN eventstore.new_events.expected_version IS
    'The version that the stream must have just before this event; null: any';
COMMENT ON COLUMN eventstore.new_events.metadata IS 'Why and by whom; merged over eventstore.metadata';
COMMENT ON COLUMN eventstore.new_events.event_id IS 'To know a repetition by; null: none is';
COMMENT ON COLUMN eventstore.new_events.tags IS 'What the event is about, across streams';
COMMENT ON COLUMN eventstore.new_events.schema_version IS 'Schema version of the event';
COMMENT ON COLUMN eventstore.new_events.created_at IS 'When it happened; null: now';
COMMENT ON COLUMN eventstore.new_events.content_type IS 'Content type of the payload';
COMMENT ON COLUMN eventstore.new_events.payload IS 'Bytes that are carried beside data';
COMMENT ON COLUMN eventstore.new_events.version IS 'Given back: its place in the stream';
COMMENT ON COLUMN eventstore.new_events."position" IS 'Given back: its place in the log';
COMMENT ON COLUMN eventstore.new_events.duplicate IS 'Given back: was it stored before?';

