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
    AS 'MODULE_PATHNAME', 'projection_figures'
    LANGUAGE C VOLATILE ROWS 100;
COMMENT ON FUNCTION eventstore.projection_figures() IS
    'What is going on in the projections that workers run, from shared memory';

CREATE VIEW eventstore.projections AS
SELECT
    p.name,
    CASE
        WHEN o.proowner IS NULL THEN 'stopped'
        WHEN p.state OPERATOR(pg_catalog.<>) 'running' THEN p.state
        WHEN g.failures OPERATOR(pg_catalog.>) 0 OR f.worker_deaths OPERATOR(pg_catalog.>) 0 THEN 'retrying'
        WHEN p.rebuild_up_to IS NOT NULL THEN 'rebuilding'
        WHEN p.mode OPERATOR(pg_catalog.=) 'inline' AND NOT p.live THEN 'catching up'
        ELSE 'running'
    END AS state,
    p.since,
    p.mode,
    p.form,
    pg_catalog.pg_get_userbyid(o.proowner)::pg_catalog.text AS owner,
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
    CASE
        WHEN o.proowner IS NULL THEN 'it has no owner'
        WHEN p.state OPERATOR(pg_catalog.=) 'paused' AND p.owner OPERATOR(pg_catalog.<>) pg_catalog.pg_get_userbyid(o.proowner)::pg_catalog.text THEN
            pg_catalog.format('restored without its owner, role "%s"', p.owner)
        ELSE g.error
    END AS last_error,
    CASE WHEN o.proowner IS NULL THEN 'SE005' ELSE g.sqlstate END AS last_sqlstate,
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
LEFT JOIN pg_catalog.pg_proc o
    ON o.proname OPERATOR(pg_catalog.=) pg_catalog.concat('owner_of_projection_', p.projection_id)::pg_catalog.name
    AND o.pronargs OPERATOR(pg_catalog.=) 0
    AND o.pronamespace OPERATOR(pg_catalog.=) (SELECT s.oid FROM pg_catalog.pg_namespace s WHERE s.nspname OPERATOR(pg_catalog.=) 'eventstore')
CROSS JOIN (SELECT s.head FROM eventstore.log_status() s) h
CROSS JOIN LATERAL (
    SELECT CASE
        WHEN p.live AND p.state OPERATOR(pg_catalog.=) 'running' AND o.proowner IS NOT NULL THEN h.head
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
