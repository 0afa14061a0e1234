-- Subscriptions: what they are, how far each partition has come, and the events that
-- need more than one delivery.

CREATE SEQUENCE eventstore.subscription_ids AS int;
COMMENT ON SEQUENCE eventstore.subscription_ids IS 'Ids of subscriptions; none is used twice';

CREATE TABLE eventstore.subscription (
    subscription_id int NOT NULL,
    name text COLLATE "C" NOT NULL,
    types text[] COLLATE "C",
    categories text[] COLLATE "C",
    start_after bigint NOT NULL,
    partitions int NOT NULL,
    ack_timeout interval NOT NULL,
    max_retries int NOT NULL,
    created_at timestamptz NOT NULL,
    filter jsonb,
    PRIMARY KEY (subscription_id)
);
CREATE UNIQUE INDEX subscription_name ON eventstore.subscription (name);

COMMENT ON TABLE eventstore.subscription IS 'The subscriptions, as es_create_subscription() was told';
COMMENT ON COLUMN eventstore.subscription.partitions IS 'Number of consumers that can be served at once';
COMMENT ON COLUMN eventstore.subscription.ack_timeout IS 'How long a lease lasts that is not renewed';
COMMENT ON COLUMN eventstore.subscription.max_retries IS 'An event that fails more often is parked';
COMMENT ON COLUMN eventstore.subscription.filter IS 'A query, instead of types and categories; null: none';

-- A fetch and an ack are one update of this row each.  It has no index but its key,
-- and room on its page: the update touches no index.
CREATE TABLE eventstore.subscription_partition (
    subscription_id int NOT NULL,
    partition int NOT NULL,
    checkpoint bigint NOT NULL,
    delivered bigint NOT NULL,
    pending bigint[] NOT NULL DEFAULT '{}',
    held int NOT NULL DEFAULT 0,
    batch_limit int,
    consumer text COLLATE "C",
    leased_until timestamptz,
    fetched_at timestamptz,
    PRIMARY KEY (subscription_id, partition)
)
WITH (fillfactor = 20);

COMMENT ON TABLE eventstore.subscription_partition IS 'How far each partition of a subscription has come, and who has it';
COMMENT ON COLUMN eventstore.subscription_partition.checkpoint IS 'Nothing at or below is left to handle';
COMMENT ON COLUMN eventstore.subscription_partition.delivered IS 'Everything at or below has been handed out, or is in subscription_event';
COMMENT ON COLUMN eventstore.subscription_partition.pending IS 'Handed out to the consumer and not acked, in order; empty: the partition is free';
COMMENT ON COLUMN eventstore.subscription_partition.held IS 'Its events in subscription_event that are not parked';
COMMENT ON COLUMN eventstore.subscription_partition.batch_limit IS 'Most events handed out at once, after a consumer has let its lease expire; null: no such limit';
COMMENT ON COLUMN eventstore.subscription_partition.consumer IS 'Who has the lease, or had the last one';
COMMENT ON COLUMN eventstore.subscription_partition.leased_until IS 'Then another consumer may have what is pending; null: nothing is';

CREATE TABLE eventstore.subscription_event (
    subscription_id int NOT NULL,
    "position" bigint NOT NULL,
    partition int NOT NULL,
    stream_key bigint NOT NULL,
    status text COLLATE "C" NOT NULL,
    attempts int NOT NULL,
    not_before timestamptz,
    reason text,
    sqlstate text COLLATE "C",
    detail text,
    hint text,
    context text,
    consumer text COLLATE "C",
    at timestamptz NOT NULL,
    PRIMARY KEY (subscription_id, "position")
);
CREATE INDEX subscription_event_held ON eventstore.subscription_event (subscription_id, partition, "position")
    WHERE status OPERATOR(pg_catalog.<>) 'parked'::pg_catalog.text;

COMMENT ON TABLE eventstore.subscription_event IS 'Events that are to be handed out again, or wait behind such a one, or are parked';
COMMENT ON COLUMN eventstore.subscription_event.status IS
    'retry: again, from not_before on; waiting: after the earlier ones of its stream; parked: until es_replay_parked()';
COMMENT ON COLUMN eventstore.subscription_event.attempts IS 'Deliveries that have failed';
COMMENT ON COLUMN eventstore.subscription_event.reason IS 'Why the last one did';
COMMENT ON COLUMN eventstore.subscription_event.sqlstate IS 'Of an upcaster''s error, whose message is the reason; so are detail, hint and context';
COMMENT ON COLUMN eventstore.subscription_event.consumer IS 'Whose it was';
COMMENT ON COLUMN eventstore.subscription_event.at IS 'When it failed, or was held back';

-- Rows come from the store itself, or from a restore: see log/guard.c.
CREATE TRIGGER eventstore_guard BEFORE INSERT ON eventstore.subscription
    FOR EACH ROW EXECUTE FUNCTION eventstore.guard();
CREATE TRIGGER eventstore_guard BEFORE INSERT ON eventstore.subscription_partition
    FOR EACH ROW EXECUTE FUNCTION eventstore.guard();
CREATE TRIGGER eventstore_guard BEFORE INSERT ON eventstore.subscription_event
    FOR EACH ROW EXECUTE FUNCTION eventstore.guard();
ALTER TABLE eventstore.subscription ENABLE ALWAYS TRIGGER eventstore_guard;
ALTER TABLE eventstore.subscription_partition ENABLE ALWAYS TRIGGER eventstore_guard;
ALTER TABLE eventstore.subscription_event ENABLE ALWAYS TRIGGER eventstore_guard;

SELECT pg_catalog.pg_extension_config_dump('eventstore.subscription_ids', '');
SELECT pg_catalog.pg_extension_config_dump('eventstore.subscription', '');
SELECT pg_catalog.pg_extension_config_dump('eventstore.subscription_partition', '');
SELECT pg_catalog.pg_extension_config_dump('eventstore.subscription_event', '');
