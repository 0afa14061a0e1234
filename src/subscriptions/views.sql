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
