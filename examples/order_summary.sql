-- order_summary: one row an order, the list that a shop's back office works with.
--
--   psql -v mode=inline -f examples/order_summary.sql
--
-- mode: inline or async (the default).  schema: where the table goes, and the projection's
-- name; order_summary_inline or order_summary_async unless given.
--
-- Form: query.  What the events of an order do to its row can be said in sums and "the last
-- one wins", so a batch of thousands is one statement.
-- Mode: either.  Every row belongs to one stream, whose writers wait for each other anyway,
-- so inline adds no waiting between orders.

\set ON_ERROR_STOP on
\if :{?mode}
\else
    \set mode async
\endif
\if :{?schema}
\else
    \set schema order_summary_:mode
\endif

CREATE SCHEMA :"schema";
-- A projection keeps the search_path that it was created with: names need no schema below.
SET search_path = :"schema", public;

-- Only the key is NOT NULL, and there are no CHECKs.  The row that an upsert proposes is
-- checked before the conflict is found, and a batch need not hold an order's first event: it
-- proposes a row without a customer, or with minus one unit.
CREATE TABLE order_summary (
    order_id text PRIMARY KEY,
    customer_id text,
    status text,
    units bigint,
    total_cents bigint,
    refunded_cents bigint,
    created_at timestamptz,
    updated_at timestamptz,
    version bigint
);
COMMENT ON TABLE order_summary IS 'The orders, as they stand';
COMMENT ON COLUMN order_summary.version IS 'Of the last event in it: the expected_version to decide upon this row';

CREATE INDEX ON order_summary (customer_id, created_at);
-- What is left to do.
CREATE INDEX ON order_summary (status) WHERE status IN ('open', 'shipped');

SELECT es_create_projection(
    :'schema',
    mode => :'mode',
    -- All events of the category, not a list of types: so version is that of the stream, also
    -- after an event that changes nothing else here.
    categories => ARRAY['Order'],
    -- Grouped first, so that a row is written once a batch, however many events it has there:
    -- an upsert may not touch a row twice.  Everything is relative to the row as it is, and
    -- nothing is read beforehand: so it does not matter where a batch ends and the next one
    -- begins.
    --
    -- ORDER BY: rows are locked in the order in which they are inserted.  If all writers lock
    -- in one order, none can wait for another in a circle.  (Here the locks of the streams
    -- would do, for they come first and in a fixed order.)
    query => $query$
        WITH change AS (
            SELECT
                stream,
                version,
                created_at,
                CASE type WHEN 'OrderCreated' THEN created_at END AS opened_at,
                CASE type WHEN 'OrderCreated' THEN data->>'customer_id' END AS customer_id,
                CASE type
                    WHEN 'OrderCreated' THEN 'open'
                    WHEN 'OrderShipped' THEN 'shipped'
                    WHEN 'OrderCompleted' THEN 'completed'
                    WHEN 'OrderCancelled' THEN 'cancelled'
                    WHEN 'OrderRefunded' THEN 'refunded'
                END AS status,
                CASE type
                    WHEN 'OrderItemAdded' THEN (data->>'quantity')::bigint
                    WHEN 'OrderItemRemoved' THEN -(data->>'quantity')::bigint
                END AS units,
                (data->>'price_cents')::bigint AS price_cents,
                CASE type WHEN 'OrderRefunded' THEN (data->>'amount_cents')::bigint END AS refunded_cents
            FROM es_batch
        )
        INSERT INTO order_summary AS o
            (order_id, customer_id, status, units, total_cents, refunded_cents, created_at, updated_at, version)
        SELECT
            stream,
            max(customer_id),
            -- es_batch is a relation: its rows have no order but the one that is asked for.
            (array_agg(status ORDER BY version DESC) FILTER (WHERE status IS NOT NULL))[1],
            coalesce(sum(units), 0),
            coalesce(sum(units * price_cents), 0),
            coalesce(sum(refunded_cents), 0),
            min(opened_at),
            max(created_at),
            max(version)
        FROM change
        GROUP BY stream
        ORDER BY stream
        ON CONFLICT (order_id) DO UPDATE SET
            customer_id = coalesce(o.customer_id, excluded.customer_id),
            status = coalesce(excluded.status, o.status),
            units = o.units + excluded.units,
            total_cents = o.total_cents + excluded.total_cents,
            refunded_cents = o.refunded_cents + excluded.refunded_cents,
            created_at = coalesce(o.created_at, excluded.created_at),
            updated_at = greatest(o.updated_at, excluded.updated_at),
            version = excluded.version
    $query$,
    reset => 'TRUNCATE order_summary');

SELECT es_wait_for_projection(:'schema', timeout => '30 s');

-- ---- use ----

-- What waits longest?
SELECT order_id, customer_id, status, units, total_cents
FROM order_summary
WHERE status IN ('open', 'shipped')
ORDER BY created_at, order_id
LIMIT 5;

SELECT status, count(*), sum(total_cents) AS total_cents, sum(refunded_cents) AS refunded_cents
FROM order_summary
GROUP BY status
ORDER BY status;

-- ---- replay by hand ----

-- The same table from the whole log, in one go.
CREATE VIEW replayed AS
SELECT
    e.stream AS order_id,
    opened.data->>'customer_id' AS customer_id,
    last.status,
    coalesce(sum((e.data->>'quantity')::bigint) FILTER (WHERE e.type = 'OrderItemAdded'), 0)
        - coalesce(sum((e.data->>'quantity')::bigint) FILTER (WHERE e.type = 'OrderItemRemoved'), 0) AS units,
    coalesce(sum((e.data->>'quantity')::bigint * (e.data->>'price_cents')::bigint) FILTER (WHERE e.type = 'OrderItemAdded'), 0)
        - coalesce(sum((e.data->>'quantity')::bigint * (e.data->>'price_cents')::bigint) FILTER (WHERE e.type = 'OrderItemRemoved'), 0) AS total_cents,
    coalesce(sum((e.data->>'amount_cents')::bigint) FILTER (WHERE e.type = 'OrderRefunded'), 0) AS refunded_cents,
    opened.created_at,
    max(e.created_at) AS updated_at,
    max(e.version) AS version
FROM eventstore.events e
LEFT JOIN eventstore.events opened ON opened.stream = e.stream AND opened.type = 'OrderCreated'
LEFT JOIN (
    SELECT DISTINCT ON (stream) stream, status
    FROM eventstore.events
    JOIN (VALUES
        ('OrderCreated', 'open'),
        ('OrderShipped', 'shipped'),
        ('OrderCompleted', 'completed'),
        ('OrderCancelled', 'cancelled'),
        ('OrderRefunded', 'refunded')) meaning (type, status) USING (type)
    ORDER BY stream, version DESC) last ON last.stream = e.stream
WHERE es_category(e.stream) = 'Order'
GROUP BY e.stream, opened.data, opened.created_at, last.status;
COMMENT ON VIEW replayed IS 'order_summary, computed from the log by hand';

-- What one has and the other has not: never anything, once the projection has caught up.
CREATE VIEW difference AS
SELECT 'only in the read model' AS side, kept.*
FROM (TABLE order_summary EXCEPT TABLE replayed) kept
UNION ALL
SELECT 'only in the log', folded.*
FROM (TABLE replayed EXCEPT TABLE order_summary) folded;
COMMENT ON VIEW difference IS 'Rows by which order_summary and the log differ';

TABLE difference;
