-- Subscriptions.

CREATE FUNCTION es_create_subscription(
    name text,
    types text[] DEFAULT NULL,
    categories text[] DEFAULT NULL,
    start_after bigint DEFAULT 0,
    partitions int DEFAULT 1,
    ack_timeout interval DEFAULT '30 s',
    max_retries int DEFAULT 10,
    if_not_exists boolean DEFAULT false,
    filter jsonb DEFAULT NULL)
    RETURNS void
    AS 'MODULE_PATHNAME', 'es_create_subscription'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION es_create_subscription(text, text[], text[], bigint, int, interval, int, boolean, jsonb) IS
    'Have the database remember how far a group of consumers has come';

CREATE FUNCTION es_alter_subscription(
    name text,
    ack_timeout interval DEFAULT NULL,
    max_retries int DEFAULT NULL)
    RETURNS void
    AS 'MODULE_PATHNAME', 'es_alter_subscription'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION es_alter_subscription(text, interval, int) IS
    'Change how a subscription treats its consumers; NULL leaves a setting as it is';

CREATE FUNCTION es_seek_subscription(name text, after_position bigint) RETURNS void
    AS 'MODULE_PATHNAME', 'es_seek_subscription'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION es_seek_subscription(text, bigint) IS
    'Go on from another position; all leases end';

CREATE FUNCTION es_drop_subscription(name text) RETURNS void
    AS 'MODULE_PATHNAME', 'es_drop_subscription'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION es_drop_subscription(text) IS
    'Forget a subscription, and what it has parked';

CREATE FUNCTION es_fetch(
    subscription text,
    consumer text,
    max_count int DEFAULT 100,
    wait interval DEFAULT NULL)
    RETURNS SETOF es_event
    AS 'MODULE_PATHNAME', 'es_fetch'
    LANGUAGE C VOLATILE ROWS 100;
COMMENT ON FUNCTION es_fetch(text, text, int, interval) IS
    'Lease the next events to a consumer';

CREATE FUNCTION es_ack(subscription text, consumer text, positions bigint[]) RETURNS bigint
    AS 'MODULE_PATHNAME', 'es_ack'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION es_ack(text, text, bigint[]) IS
    'Events have been handled, and the consumer is alive; the number that were pending';

CREATE FUNCTION es_nack(
    subscription text,
    consumer text,
    positions bigint[],
    action text DEFAULT 'retry',
    reason text DEFAULT NULL)
    RETURNS bigint
    AS 'MODULE_PATHNAME', 'es_nack'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION es_nack(text, text, bigint[], text, text) IS
    'Events could not be handled: retry, park or skip them; the number that were pending';

CREATE FUNCTION es_replay_parked(subscription text, positions bigint[] DEFAULT NULL) RETURNS bigint
    AS 'MODULE_PATHNAME', 'es_replay_parked'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION es_replay_parked(text, bigint[]) IS
    'Hand out again what was parked, all of it or some; the number of events that will be delivered';

CREATE FUNCTION es_discard_parked(subscription text, positions bigint[]) RETURNS bigint
    AS 'MODULE_PATHNAME', 'es_discard_parked'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION es_discard_parked(text, bigint[]) IS
    'Forget parked events for good; the number of those that were parked';
