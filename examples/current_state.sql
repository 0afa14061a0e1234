-- current_state: the state of each order as one JSON document, by a function from a state and
-- an event to the next state; and, by another, a few figures of each customer.
--
--   psql -v mode=inline -f examples/current_state.sql
--
-- mode: inline or async (the default).  schema: where the functions go, and the name of the
-- first projection (the second: with _customers behind it); current_state_inline or
-- current_state_async unless given.
--
-- Form: reducer.  There are no tables to design and nothing to reset: eventstore keeps the
-- states.  The same function folds a stream on the fly, today's or that of last week.
-- Mode: inline for the orders: whoever decides upon an order reads its state in one look-up,
-- up to date.  A key is a stream, so nobody waits for more than the stream.  The figures of a
-- customer are fine either way; async, if customers have many orders at a time.

\set ON_ERROR_STOP on
\if :{?mode}
\else
    \set mode async
\endif
\if :{?schema}
\else
    \set schema current_state_:mode
\endif

CREATE SCHEMA :"schema";
-- A projection keeps the search_path that it was created with: names need no schema below.
SET search_path = :"schema", public;

-- ---- a document an order ----

-- {"status": "shipped", "customer_id": "Customer-7", "lines": {"Product-3": 2}, "total_cents": 2580}
--
-- A reducer depends on nothing but its arguments: hence IMMUTABLE.  Types that it does not
-- know leave the state as it is.
CREATE FUNCTION order_state(state jsonb, event es_event) RETURNS jsonb
LANGUAGE plpgsql
IMMUTABLE
AS $$
DECLARE
    product_id text;
    quantity bigint;
    left_over bigint;
BEGIN
    CASE event.type
        WHEN 'OrderCreated' THEN
            RETURN jsonb_build_object(
                'status', 'open',
                'customer_id', event.data->'customer_id',
                'lines', '{}'::jsonb,
                'total_cents', 0);
        WHEN 'OrderItemAdded', 'OrderItemRemoved' THEN
            product_id := event.data->>'product_id';
            quantity := (event.data->'quantity')::bigint;
            IF event.type = 'OrderItemRemoved' THEN
                quantity := -quantity;
            END IF;
            state := jsonb_set(state, '{total_cents}',
                to_jsonb((state->'total_cents')::bigint + quantity * (event.data->'price_cents')::bigint));
            -- A line that is empty is no line: a sum could not say that, an order of events can.
            left_over := coalesce((state->'lines'->product_id)::bigint, 0) + quantity;
            IF left_over = 0 THEN
                RETURN state #- ARRAY['lines', product_id];
            END IF;
            RETURN jsonb_set(state, ARRAY['lines', product_id], to_jsonb(left_over));
        WHEN 'OrderShipped' THEN
            RETURN state || jsonb_build_object('status', 'shipped', 'parcel', event.data->'parcel');
        WHEN 'OrderCompleted' THEN
            RETURN state || '{"status": "completed"}';
        WHEN 'OrderCancelled' THEN
            RETURN state || jsonb_build_object('status', 'cancelled', 'reason', event.data->'reason');
        WHEN 'OrderRefunded' THEN
            RETURN state || jsonb_build_object(
                'status', 'refunded',
                'refunded_cents', coalesce((state->'refunded_cents')::bigint, 0) + (event.data->'amount_cents')::bigint);
        ELSE
            RETURN state;
    END CASE;
END;
$$;
COMMENT ON FUNCTION order_state(jsonb, es_event) IS 'An order''s state after one more event';

SELECT es_create_projection(
    :'schema',
    mode => :'mode',
    reducer => 'order_state',
    -- The whole category, whatever the type: then the state kept is the one that es_aggregate
    -- finds, which folds every event of the stream.
    categories => ARRAY['Order']);

-- ---- figures a customer ----

-- A key can be any field of the events.  Streams meet in it, and inline they do in any order:
-- so this one only adds up.
CREATE FUNCTION customer_figures(state jsonb, event es_event) RETURNS jsonb
LANGUAGE sql
IMMUTABLE
AS $$
    SELECT jsonb_build_object(
        'orders', coalesce((state->'orders')::bigint, 0) + 1,
        'cents', coalesce((state->'cents')::bigint, 0) + (event.data->'total_cents')::bigint);
$$;
COMMENT ON FUNCTION customer_figures(jsonb, es_event) IS 'A customer''s figures after one more completed order';

SELECT es_create_projection(
    :'schema' || '_customers',
    mode => :'mode',
    reducer => 'customer_figures',
    -- Only what is counted: an order that was completed.  It names its customer, so nobody
    -- has to look at how the order began.
    types => ARRAY['OrderCompleted'],
    partition_by => 'data.customer_id');

SELECT es_wait_for_projection(:'schema', timeout => '30 s');
SELECT es_wait_for_projection(:'schema' || '_customers', timeout => '30 s');

-- ---- use ----

-- One look-up.
SELECT es_projection_state(:'schema', 'Order-1029');
SELECT es_projection_state(:'schema' || '_customers', 'Customer-7');

-- The same by folding the stream now: without a projection, or as it was once.
SELECT es_aggregate('Order-1029', 'order_state');
SELECT es_aggregate('Order-1029', 'order_state', up_to_version => 2);
SELECT es_aggregate('Order-1029', 'order_state', as_of => '2025-01-14 12:00+00');

-- A view gives the documents columns, and other SQL need not know that they are documents.
CREATE VIEW order_document AS
SELECT
    s.stream AS order_id,
    d.state->>'status' AS status,
    (d.state->'total_cents')::bigint AS total_cents,
    d.state
FROM eventstore.streams s
CROSS JOIN LATERAL es_projection_state(:'schema', s.stream) AS d (state)
WHERE s.category = 'Order';
COMMENT ON VIEW order_document IS 'The states of the orders';

SELECT status, count(*), sum(total_cents) AS total_cents
FROM order_document
GROUP BY status
ORDER BY status;

-- ---- replay by hand ----

-- The same documents from the whole log, without the reducers.
CREATE VIEW order_replayed AS
WITH line AS (
    SELECT
        stream,
        data->>'product_id' AS product_id,
        sum(sign * (data->'quantity')::bigint) AS quantity,
        sum(sign * (data->'quantity')::bigint * (data->'price_cents')::bigint) AS cents
    FROM eventstore.events
    JOIN (VALUES ('OrderItemAdded', 1), ('OrderItemRemoved', -1)) direction (type, sign) USING (type)
    GROUP BY 1, 2
), basket AS (
    SELECT
        stream,
        jsonb_object_agg(product_id, quantity) FILTER (WHERE quantity <> 0) AS lines,
        sum(cents) AS cents
    FROM line
    GROUP BY stream
), last AS (
    SELECT DISTINCT ON (stream) stream, lower(replace(type, 'Order', '')) AS type
    FROM eventstore.events
    WHERE type IN ('OrderCreated', 'OrderShipped', 'OrderCompleted', 'OrderCancelled', 'OrderRefunded')
    ORDER BY stream, version DESC
), refund AS (
    SELECT stream, sum((data->'amount_cents')::bigint) AS cents
    FROM eventstore.events
    WHERE type = 'OrderRefunded'
    GROUP BY stream
)
SELECT
    created.stream AS order_id,
    jsonb_strip_nulls(jsonb_build_object(
        'status', CASE last.type WHEN 'created' THEN 'open' ELSE last.type END,
        'customer_id', created.data->'customer_id',
        'lines', coalesce(basket.lines, '{}'),
        'total_cents', coalesce(basket.cents, 0),
        'parcel', shipped.data->'parcel',
        'reason', cancelled.data->'reason',
        'refunded_cents', refund.cents)) AS state
FROM eventstore.events created
JOIN last USING (stream)
LEFT JOIN basket USING (stream)
LEFT JOIN refund USING (stream)
LEFT JOIN eventstore.events shipped ON shipped.stream = created.stream AND shipped.type = 'OrderShipped'
LEFT JOIN eventstore.events cancelled ON cancelled.stream = created.stream AND cancelled.type = 'OrderCancelled'
WHERE created.type = 'OrderCreated';
COMMENT ON VIEW order_replayed IS 'The states of the orders, computed from the log by hand';

CREATE VIEW customer_replayed AS
SELECT
    data->>'customer_id' AS customer_id,
    jsonb_build_object('orders', count(*), 'cents', sum((data->'total_cents')::bigint)) AS state
FROM eventstore.events
WHERE type = 'OrderCompleted'
GROUP BY 1;
COMMENT ON VIEW customer_replayed IS 'The figures of the customers, computed from the log by hand';

-- What one has and the other has not: never anything, once the projections have caught up.
-- Nor does folding on the fly come to another end.
CREATE VIEW difference AS
WITH order_kept AS (
    SELECT order_id, state
    FROM order_document
), customer_kept AS (
    SELECT s.stream AS customer_id, d.state
    FROM eventstore.streams s
    CROSS JOIN LATERAL es_projection_state(:'schema' || '_customers', s.stream) AS d (state)
    WHERE s.category = 'Customer' AND d.state IS NOT NULL
), order_folded AS (
    SELECT stream AS order_id, es_aggregate(stream, :'schema' || '.order_state') AS state
    FROM eventstore.streams
    WHERE category = 'Order'
)
SELECT 'order: only in the read model' AS side, kept.*
FROM (TABLE order_kept EXCEPT TABLE order_replayed) kept
UNION ALL
SELECT 'order: only in the log', replayed.*
FROM (TABLE order_replayed EXCEPT TABLE order_kept) replayed
UNION ALL
SELECT 'order: only by es_aggregate', folded.*
FROM (TABLE order_folded EXCEPT TABLE order_replayed) folded
UNION ALL
SELECT 'customer: only in the read model', kept.*
FROM (TABLE customer_kept EXCEPT TABLE customer_replayed) kept
UNION ALL
SELECT 'customer: only in the log', replayed.*
FROM (TABLE customer_replayed EXCEPT TABLE customer_kept) replayed;
COMMENT ON VIEW difference IS 'States by which the projections and the log differ';

TABLE difference;
