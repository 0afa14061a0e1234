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
    if_not_exists boolean DEFAULT false,
    filter jsonb DEFAULT NULL)
    RETURNS void
    AS 'MODULE_PATHNAME', 'es_create_projection'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION es_create_projection(text, text, text, text, text, text[], text[], text, bigint, int, text, int, text, boolean, jsonb) IS
    'Have the database keep a read model: inline with each append, or by the background worker';

CREATE FUNCTION es_alter_projection(
    name text,
    batch_size int DEFAULT NULL,
    on_error text DEFAULT NULL,
    max_retries int DEFAULT NULL,
    reset text DEFAULT NULL,
    owner text DEFAULT NULL)
    RETURNS void
    AS 'MODULE_PATHNAME', 'es_alter_projection'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION es_alter_projection(text, int, text, int, text, text) IS
    'Change how a projection runs, or whose it is; NULL leaves that as it is';

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
