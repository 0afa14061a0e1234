-- How the log is doing.

CREATE FUNCTION eventstore.log_status(
    OUT preloaded boolean,
    OUT head bigint,
    OUT handed_out bigint,
    OUT sealed boolean,
    OUT scheduler_pid int,
    OUT worker_shortage text,
    OUT library_version text,
    OUT format int,
    OUT background text,
    OUT waiting_since timestamptz)
    AS 'MODULE_PATHNAME', 'log_status'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION eventstore.log_status() IS 'What eventstore.status shows of the server''s memory and the registers';

CREATE FUNCTION eventstore.in_flight(OUT pid int, OUT above bigint)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'in_flight'
    LANGUAGE C VOLATILE ROWS 10;
COMMENT ON FUNCTION eventstore.in_flight() IS 'The backends whose appends are not yet committed';

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
    s.scheduler_pid,
    s.worker_shortage,
    s.background,
    s.waiting_since,
    (SELECT f.pid FROM eventstore.in_flight() f ORDER BY f.above LIMIT 1) AS blocked_by,
    s.library_version,
    s.format
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
COMMENT ON COLUMN eventstore.status.scheduler_pid IS 'The scheduler of this database; null: there is nothing for one to do, or see background';
COMMENT ON COLUMN eventstore.status.worker_shortage IS
    'The setting that keeps this database waiting for a background process: eventstore.max_workers or max_worker_processes; null: none does';
COMMENT ON COLUMN eventstore.status.background IS
    'What the launcher thinks of this database: at rest, starting, awake, waiting for a process, failed (and when it tries again), held by a statement, no launcher; null on a standby';
COMMENT ON COLUMN eventstore.status.waiting_since IS 'Since when it waits for a process; null: it does not';
COMMENT ON COLUMN eventstore.status.blocked_by IS
    'The process that holds the head back, the first of eventstore.blockers; null: the head stands at handed_out';
COMMENT ON COLUMN eventstore.status.library_version IS 'Version of the library that the server has loaded';
COMMENT ON COLUMN eventstore.status.format IS 'The format of what is stored; null: nothing has been yet';

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

