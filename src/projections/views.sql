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
    OUT empty_upto bigint,
    OUT due boolean)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'projection_figures'
    LANGUAGE C VOLATILE ROWS 100;
COMMENT ON FUNCTION eventstore.projection_figures() IS
    'What is going on in the projections that workers run, from shared memory';

CREATE FUNCTION eventstore.projection_lag(
    projection_id int,
    OUT lag bigint,
    OUT lag_capped boolean,
    OUT first_position bigint,
    OUT first_at timestamptz)
    AS 'MODULE_PATHNAME', 'projection_lag'
    LANGUAGE C VOLATILE COST 1000;
COMMENT ON FUNCTION eventstore.projection_lag(int) IS
    'Events that a projection has yet to apply, at most 10,000 or those among 100,000 that were looked at, and the first of them';

CREATE VIEW eventstore.projections AS
SELECT
    p.name,
    CASE
        WHEN o.proowner IS NULL THEN 'stopped'
        WHEN p.state OPERATOR(pg_catalog.<>) 'running' THEN p.state
        WHEN g.failures OPERATOR(pg_catalog.>) 0 OR f.worker_deaths OPERATOR(pg_catalog.>) 0 THEN 'retrying'
        WHEN p.rebuild_up_to IS NOT NULL THEN 'rebuilding'
        WHEN w.waits THEN 'waiting for a worker'
        WHEN p.mode OPERATOR(pg_catalog.=) 'inline' AND NOT p.live THEN 'catching up'
        ELSE 'running'
    END AS state,
    CASE WHEN w.waits THEN h.waiting_since ELSE p.since END AS since,
    p.mode,
    p.form,
    pg_catalog.pg_get_userbyid(o.proowner)::pg_catalog.text AS owner,
    c.checkpoint,
    l.lag,
    l.lag_capped,
    CASE WHEN l.lag OPERATOR(pg_catalog.=) 0 THEN 0::pg_catalog.float8
         ELSE greatest(pg_catalog.extract('epoch', h.now OPERATOR(pg_catalog.-) l.first_at), 0)::pg_catalog.float8
    END AS lag_seconds,
    CASE
        WHEN o.proowner IS NULL THEN 'no owner'
        WHEN p.state OPERATOR(pg_catalog.=) 'paused' THEN 'paused'
        WHEN p.state OPERATOR(pg_catalog.=) 'stopped' THEN 'stopped by an error'
        WHEN p.live THEN 'applied by appends'
        WHEN h.standby THEN 'standby'
        WHEN l.lag OPERATOR(pg_catalog.=) 0 AND p.mode OPERATOR(pg_catalog.=) 'inline' THEN 'waiting to become inline'
        WHEN l.lag OPERATOR(pg_catalog.=) 0 THEN 'caught up'
        WHEN NOT h.sealed THEN 'waiting for the first append'
        WHEN f.worker_pid IS NOT NULL AND l.first_position OPERATOR(pg_catalog.<=) h.head THEN 'being applied'
        WHEN (g.failures OPERATOR(pg_catalog.>) 0 OR f.worker_deaths OPERATOR(pg_catalog.>) 0)
            AND f.not_before OPERATOR(pg_catalog.>) h.now
            THEN pg_catalog.concat('retry at ', pg_catalog.to_char(f.not_before, 'YYYY-MM-DD HH24:MI:SSOF'))
        WHEN l.first_position OPERATOR(pg_catalog.>) h.head AND h.blocked_by IS NOT NULL
            THEN pg_catalog.concat('blocked head (process ', h.blocked_by, ')')
        WHEN h.background OPERATOR(pg_catalog.=) 'no launcher' THEN 'no launcher'
        WHEN h.worker_shortage IS NOT NULL THEN pg_catalog.concat('no worker slot (', h.worker_shortage, ')')
        WHEN f.projection_id IS NULL AND h.background OPERATOR(pg_catalog.=) 'awake' THEN 'no entry (eventstore.max_projections)'
        ELSE 'waiting for a worker'
    END AS reason,
    f.events_per_second,
    f.batch_ms,
    f.worker_pid,
    f.batch_started,
    f.batch_events,
    f.batch_done,
    g.failures,
    f.worker_deaths,
    CASE
        WHEN o.proowner IS NULL THEN 'it has no owner'
        WHEN p.state OPERATOR(pg_catalog.=) 'paused' AND p.owner OPERATOR(pg_catalog.<>) pg_catalog.pg_get_userbyid(o.proowner)::pg_catalog.text THEN
            pg_catalog.format('restored without its owner, role "%s"', p.owner)
        ELSE g.error
    END AS last_error,
    CASE WHEN o.proowner IS NULL THEN 'SE005' ELSE g.sqlstate END AS last_sqlstate,
    g.detail AS last_detail,
    g.hint AS last_hint,
    g.context AS last_context,
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
    p.filter,
    p.code,
    p.batch_size,
    p.on_error,
    p.max_retries
FROM eventstore.projection p
JOIN eventstore.projection_progress g USING (projection_id)
LEFT JOIN eventstore.projection_figures() f USING (projection_id)
LEFT JOIN pg_catalog.pg_proc o
    ON o.proname OPERATOR(pg_catalog.=) pg_catalog.concat('owner_of_projection_', p.projection_id)::pg_catalog.name
    AND o.pronargs OPERATOR(pg_catalog.=) 0
    AND o.pronamespace OPERATOR(pg_catalog.=) (SELECT s.oid FROM pg_catalog.pg_namespace s WHERE s.nspname OPERATOR(pg_catalog.=) 'eventstore')
CROSS JOIN (
    SELECT
        s.head,
        s.sealed,
        s.worker_shortage,
        s.background,
        s.waiting_since,
        pg_catalog.pg_is_in_recovery() AS standby,
        pg_catalog.clock_timestamp() AS now,
        (SELECT i.pid FROM eventstore.in_flight() i ORDER BY i.above LIMIT 1) AS blocked_by
    FROM eventstore.log_status() s) h
CROSS JOIN LATERAL (
    SELECT CASE
        WHEN p.live AND p.state OPERATOR(pg_catalog.=) 'running' AND o.proowner IS NOT NULL THEN h.head
        WHEN f.empty_from OPERATOR(pg_catalog.=) g.checkpoint THEN greatest(g.checkpoint, f.empty_upto)
        ELSE g.checkpoint
    END AS checkpoint) c
CROSS JOIN LATERAL (
    SELECT h.worker_shortage IS NOT NULL AND h.waiting_since IS NOT NULL
        AND NOT p.live AND f.worker_pid IS NULL AND p.state OPERATOR(pg_catalog.=) 'running'
        AND g.failures OPERATOR(pg_catalog.=) 0 AND p.rebuild_up_to IS NULL
        AND coalesce(f.due, c.checkpoint OPERATOR(pg_catalog.<) h.head) AS waits) w
-- An aggregate is one row, so the planner leaves the join out of a query that needs none of its
-- columns; that works because nothing volatile stands in the list above.
LEFT JOIN LATERAL (
    SELECT
        pg_catalog.max(m.lag) AS lag,
        pg_catalog.bool_or(m.lag_capped) AS lag_capped,
        pg_catalog.max(m.first_position) AS first_position,
        pg_catalog.max(m.first_at) AS first_at
    FROM eventstore.projection_lag(p.projection_id) m) l ON true;
COMMENT ON VIEW eventstore.projections IS 'How each projection is doing';
COMMENT ON COLUMN eventstore.projections.state IS 'running, catching up (not inline yet), waiting for a worker, rebuilding, retrying (after an error), stopped (by one), paused';
COMMENT ON COLUMN eventstore.projections.since IS 'When it was last created, paused, resumed, stopped, rebuilt, or became inline; or since when it waits for a worker';
COMMENT ON COLUMN eventstore.projections.checkpoint IS 'All events at or below are applied';
COMMENT ON COLUMN eventstore.projections.lag IS
    'Events that it has yet to apply, of those that it takes; also those that are committed but cannot be read yet, behind a blocked head';
COMMENT ON COLUMN eventstore.projections.lag_capped IS 'Are there more than lag? It counts no further than 10,000';
COMMENT ON COLUMN eventstore.projections.lag_seconds IS 'Age of the first of them; 0: there is none';
COMMENT ON COLUMN eventstore.projections.reason IS
    'Why it moves or does not: caught up, being applied, applied by appends, paused, stopped by an error, retry at ..., blocked head (process ...: see eventstore.blockers), no launcher, no worker slot (the setting that is used up), no entry (eventstore.max_projections is used up), waiting for a worker, waiting for the first append, waiting to become inline, standby';
COMMENT ON COLUMN eventstore.projections.events_per_second IS 'While it applies events, lately';
COMMENT ON COLUMN eventstore.projections.batch_ms IS 'Time of the last batch with events, in milliseconds';
COMMENT ON COLUMN eventstore.projections.worker_pid IS 'The worker that runs it now; null: none';
COMMENT ON COLUMN eventstore.projections.batch_started IS 'When the batch that is running began; null: none is';
COMMENT ON COLUMN eventstore.projections.batch_events IS 'Events in that batch';
COMMENT ON COLUMN eventstore.projections.batch_done IS 'How many of them have been handled; not for a query';
COMMENT ON COLUMN eventstore.projections.failures IS 'Attempts that failed since the checkpoint last moved';
COMMENT ON COLUMN eventstore.projections.worker_deaths IS 'Workers that ended in the midst of a batch, since one last ended well';
COMMENT ON COLUMN eventstore.projections.last_error IS 'The message of the last failure since the checkpoint moved; or what keeps it from becoming inline';
COMMENT ON COLUMN eventstore.projections.last_detail IS 'Its DETAIL';
COMMENT ON COLUMN eventstore.projections.last_hint IS 'Its HINT';
COMMENT ON COLUMN eventstore.projections.last_context IS 'Its CONTEXT: where in which code it was raised';
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
    d.detail,
    d.hint,
    d.context,
    d.skipped_by,
    d.failed_at
FROM eventstore.dead_letter d
JOIN eventstore.projection p USING (projection_id);
COMMENT ON VIEW eventstore.dead_letters IS 'Events that projections were let pass without applying them';
COMMENT ON COLUMN eventstore.dead_letters.reason IS
    'skipped; parked: later events of its stream wait; waiting: behind a parked one';
COMMENT ON COLUMN eventstore.dead_letters.error IS 'Why it could not be applied; null: not tried yet';
COMMENT ON COLUMN eventstore.dead_letters.context IS 'Where in which code the error was raised';
COMMENT ON COLUMN eventstore.dead_letters.skipped_by IS 'The role that skipped it with es_resume_projection(); null: on_error did';

CREATE VIEW eventstore.projection_states AS
SELECT p.name AS projection, s.key, s.state
FROM eventstore.projection_state s
JOIN eventstore.projection p USING (projection_id);
COMMENT ON VIEW eventstore.projection_states IS 'What reducers have made of the events, by projection and key';
COMMENT ON COLUMN eventstore.projection_states.key IS 'As partition_by says: a stream, a category, ...';
