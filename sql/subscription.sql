-- Subscriptions: consumers outside the database.
CREATE EXTENSION eventstore;

-- What a consumer gets, and what the row of its partition says then.
CREATE FUNCTION got(subscription text, consumer text, max_count int DEFAULT 100, wait interval DEFAULT NULL) RETURNS text
    LANGUAGE sql
    AS $$ SELECT coalesce(string_agg(format('%s:%s/%s', position, stream, version), ' '), 'nothing') FROM es_fetch(subscription, consumer, max_count, wait) $$;
CREATE VIEW partitions AS
SELECT partition AS p, checkpoint, pending, held, consumer, leased_until > now() AS leased, batch_limit AS "limit"
FROM eventstore.subscription_partitions
ORDER BY subscription, partition;
CREATE VIEW held AS
SELECT position, status, attempts, not_before IS NOT NULL AS timed, reason, consumer
FROM eventstore.subscription_event
ORDER BY subscription_id, position;

SELECT count(*)
FROM generate_series(1, 8) n, es_append(CASE n % 4 WHEN 1 THEN 'Order-1' WHEN 2 THEN 'Order-2' ELSE 'Customer-1' END, CASE WHEN n < 5 THEN 'Opened' ELSE 'Closed' END, to_jsonb(n));

-- ---- fetch and ack ----

SELECT es_create_subscription('mail');
SELECT position, stream, version, type, schema_version, data, metadata, tags, event_id IS NOT NULL AS id, created_at <= now() AS created
FROM es_fetch('mail', 'anna', 1);
SELECT got('mail', 'anna', 3);
TABLE partitions;
-- The partition is hers: nobody else gets anything, and nobody else can ack.
SELECT got('mail', 'bob');
SELECT es_ack('mail', 'bob', '{1}');
SELECT es_ack('mail', 'bob', '{}');
-- The checkpoint is what nothing is left below of.
SELECT es_ack('mail', 'anna', '{2, 3, 3, 2}');
TABLE partitions;
SELECT es_ack('mail', 'anna', '{1}');
TABLE partitions;
-- Once more: an ack whose answer was lost may be repeated.
SELECT es_ack('mail', 'anna', '{1, 2, 3, 4}');
TABLE partitions;
SELECT es_ack('mail', 'anna', '{1, 2, 3, 4}');
-- Free for all now.
SELECT got('mail', 'bob', 2);
SELECT es_ack('mail', 'anna', '{4}');
SELECT es_ack('mail', 'bob', '{5, 6}');
SELECT got('mail', 'bob', NULL);
SELECT es_ack('mail', 'bob', '{7, 8}');
SELECT got('mail', 'bob');
TABLE partitions;
SELECT checkpoint = es_head() FROM eventstore.subscriptions;
