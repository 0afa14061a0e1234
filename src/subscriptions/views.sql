-- Views of the subscriptions.

CREATE FUNCTION eventstore.subscription_lag(
    name text,
    OUT partition int,
    OUT lag bigint,
    OUT lag_capped boolean,
    OUT first_position bigint,
    OUT first_at timestamptz)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'subscription_lag'
    LANGUAGE C VOLATILE COST 1000 ROWS 10;
COMMENT ON FUNCTION eventstore.subscription_lag(text) IS
    'Events of a subscription that are yet to be handled, by partition, and the first of them; at most 10,000 new ones are counted, among 100,000 that were looked at';

CREATE VIEW eventstore.subscription_partitions AS
SELECT
    s.name AS subscription,
    p.partition,
    p.checkpoint,
    p.lag,
    p.lag_capped,
    CASE WHEN p.lag OPERATOR(pg_catalog.=) 0 THEN 0::pg_catalog.float8
         ELSE greatest(pg_catalog.extract('epoch', pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) p.first_at), 0)::pg_catalog.float8
    END AS lag_seconds,
    pg_catalog.cardinality(p.pending) AS pending,
    p.held,
    CASE WHEN p.leased_until IS NOT NULL THEN p.consumer END AS consumer,
    p.leased_until,
    p.fetched_at,
    p.batch_limit
FROM eventstore.subscription s
-- The lags of all partitions are counted at once.
CROSS JOIN LATERAL (
    SELECT q.*, l.lag, l.lag_capped, l.first_at
    FROM eventstore.subscription_partition q
    LEFT JOIN eventstore.subscription_lag(s.name) l USING (partition)
    WHERE q.subscription_id OPERATOR(pg_catalog.=) s.subscription_id
    OFFSET 0) p
ORDER BY s.name, p.partition;
COMMENT ON VIEW eventstore.subscription_partitions IS 'How each partition of a subscription is doing';
COMMENT ON COLUMN eventstore.subscription_partitions.checkpoint IS 'Nothing at or below is left to handle';
COMMENT ON COLUMN eventstore.subscription_partitions.lag IS
    'Events yet to be handled: pending, held, and new ones; also those that are committed but cannot be read yet, behind a blocked head';
COMMENT ON COLUMN eventstore.subscription_partitions.lag_capped IS 'May there be more than lag? No more than 10,000 new events of the subscription are counted';
COMMENT ON COLUMN eventstore.subscription_partitions.lag_seconds IS 'Age of the first of them; 0: there is none';
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
    l.lag,
    l.lag_capped,
    CASE WHEN l.lag OPERATOR(pg_catalog.=) 0 THEN 0::pg_catalog.float8
         ELSE greatest(pg_catalog.extract('epoch', h.now OPERATOR(pg_catalog.-) l.first_at), 0)::pg_catalog.float8
    END AS lag_seconds,
    CASE
        WHEN l.lag OPERATOR(pg_catalog.=) 0 THEN 'caught up'
        WHEN p.expired OPERATOR(pg_catalog.>) 0 THEN 'a lease has expired'
        WHEN p.consumers IS NOT NULL THEN 'with consumers'
        WHEN l.first_position OPERATOR(pg_catalog.>) h.head AND h.blocked_by IS NOT NULL
            THEN pg_catalog.concat('blocked head (process ', h.blocked_by, ')')
        WHEN r.retry_at OPERATOR(pg_catalog.>) h.now AND p.held OPERATOR(pg_catalog.>=) l.lag
            THEN pg_catalog.concat('retry at ', pg_catalog.to_char(r.retry_at, 'YYYY-MM-DD HH24:MI:SSOF'))
        ELSE 'nobody fetches'
    END AS reason,
    p.pending,
    p.held,
    (SELECT pg_catalog.count(*) FROM eventstore.subscription_event e
     WHERE e.subscription_id OPERATOR(pg_catalog.=) s.subscription_id
         AND e.status OPERATOR(pg_catalog.=) 'parked'::pg_catalog.text) AS parked,
    p.consumers,
    p.leased_until,
    s.types,
    s.categories,
    s.filter,
    s.ack_timeout,
    s.max_retries,
    s.created_at
FROM eventstore.subscription s
CROSS JOIN (
    SELECT
        t.head,
        pg_catalog.clock_timestamp() AS now,
        (SELECT i.pid FROM eventstore.in_flight() i ORDER BY i.above LIMIT 1) AS blocked_by
    FROM eventstore.log_status() t) h
CROSS JOIN LATERAL (
    SELECT
        pg_catalog.min(q.checkpoint) AS checkpoint,
        pg_catalog.sum(pg_catalog.cardinality(q.pending)) AS pending,
        pg_catalog.sum(q.held) AS held,
        pg_catalog.array_agg(DISTINCT q.consumer) FILTER (WHERE q.leased_until IS NOT NULL) AS consumers,
        pg_catalog.min(q.leased_until) AS leased_until,
        pg_catalog.count(*) FILTER (WHERE q.leased_until OPERATOR(pg_catalog.<=) h.now) AS expired
    FROM eventstore.subscription_partition q
    WHERE q.subscription_id OPERATOR(pg_catalog.=) s.subscription_id) p
-- Aggregates are one row, so the planner leaves these joins out of a query that needs none of
-- their columns; that works because nothing volatile stands in the list above.
LEFT JOIN LATERAL (
    SELECT
        pg_catalog.sum(m.lag)::pg_catalog.int8 AS lag,
        pg_catalog.bool_or(m.lag_capped) AS lag_capped,
        pg_catalog.min(m.first_position) AS first_position,
        pg_catalog.min(m.first_at) AS first_at
    FROM eventstore.subscription_lag(s.name) m) l ON true
LEFT JOIN LATERAL (
    SELECT pg_catalog.min(e.not_before) AS retry_at
    FROM eventstore.subscription_event e
    WHERE e.subscription_id OPERATOR(pg_catalog.=) s.subscription_id
        AND e.status OPERATOR(pg_catalog.=) 'retry'::pg_catalog.text) r ON true;
COMMENT ON VIEW eventstore.subscriptions IS 'How each subscription is doing';
COMMENT ON COLUMN eventstore.subscriptions.checkpoint IS 'Nothing at or below is left to handle, in any partition';
COMMENT ON COLUMN eventstore.subscriptions.lag IS
    'Events yet to be handled: pending, held, and new ones; also those that are committed but cannot be read yet, behind a blocked head';
COMMENT ON COLUMN eventstore.subscriptions.lag_capped IS 'Are there more than lag? No more than 10,000 new ones are counted';
COMMENT ON COLUMN eventstore.subscriptions.lag_seconds IS 'Age of the first of them; 0: there is none';
COMMENT ON COLUMN eventstore.subscriptions.reason IS
    'Why it moves or does not: caught up, with consumers, a lease has expired, retry at ... (all that is left has failed), blocked head (process ...: see eventstore.blockers), nobody fetches';
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
    e.sqlstate,
    e.detail,
    e.hint,
    e.context,
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
COMMENT ON COLUMN eventstore.parked_events.sqlstate IS 'Of an upcaster''s error, whose message is the reason; null: the consumer gave it up';
COMMENT ON COLUMN eventstore.parked_events.detail IS 'Its DETAIL';
COMMENT ON COLUMN eventstore.parked_events.hint IS 'Its HINT';
COMMENT ON COLUMN eventstore.parked_events.context IS 'Its CONTEXT: where in the upcaster it was raised';
COMMENT ON COLUMN eventstore.parked_events.consumer IS 'Whose it was';
