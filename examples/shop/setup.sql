-- setup: the database of the shop.
--
--   psql -f examples/shop/setup.sql
--
-- The read models are those of the other examples, and one of the shop's own.  Inline is what
-- belongs to one stream: a page shows it as it is.  Async is what many streams share: a page
-- can wait for it.

\set ON_ERROR_STOP on
\set QUIET on

CREATE EXTENSION eventstore;

-- Each leaves the session in a schema of its own.
\set mode inline
\ir ../order_summary.sql
RESET search_path;
\unset schema
\ir ../product_search.sql
RESET search_path;
\unset schema
\set mode async
\ir ../customer_activity.sql
RESET search_path;
\unset schema
\ir ../daily_sales.sql

CREATE SCHEMA shop;
SET search_path = shop, public;

-- Of new streams: Order-5001, ..
CREATE SEQUENCE order_number START 5001;
CREATE SEQUENCE customer_number START 101;
CREATE SEQUENCE product_number START 101;

-- ---- what is in an order ----

CREATE TABLE order_line (
    order_id text,
    product_id text,
    price_cents bigint,
    quantity bigint NOT NULL,
    PRIMARY KEY (order_id, product_id, price_cents)
);
COMMENT ON TABLE order_line IS 'The lines of the orders; with quantity 0 if all was taken out again';

SELECT es_create_projection(
    'order_line',
    mode => 'inline',
    types => ARRAY['OrderItemAdded', 'OrderItemRemoved'],
    query => $query$
        INSERT INTO order_line AS l (order_id, product_id, price_cents, quantity)
        SELECT
            stream,
            data->>'product_id',
            (data->>'price_cents')::bigint,
            sum(CASE type WHEN 'OrderItemAdded' THEN 1 ELSE -1 END * (data->>'quantity')::bigint)
        FROM es_batch
        GROUP BY 1, 2, 3
        ORDER BY 1, 2, 3
        ON CONFLICT (order_id, product_id, price_cents) DO UPDATE SET quantity = l.quantity + excluded.quantity
    $query$,
    reset => 'TRUNCATE order_line');

-- The same from the whole log, for check.sql.
CREATE VIEW replayed AS
SELECT
    stream AS order_id,
    data->>'product_id' AS product_id,
    (data->>'price_cents')::bigint AS price_cents,
    sum((data->>'quantity')::bigint * CASE type WHEN 'OrderItemAdded' THEN 1 ELSE -1 END)::bigint AS quantity
FROM eventstore.events
WHERE type IN ('OrderItemAdded', 'OrderItemRemoved')
GROUP BY 1, 2, 3;
COMMENT ON VIEW replayed IS 'order_line, computed from the log by hand';

CREATE VIEW difference AS
SELECT 'only in the read model' AS side, kept.*
FROM (TABLE order_line EXCEPT TABLE replayed) kept
UNION ALL
SELECT 'only in the log', folded.*
FROM (TABLE replayed EXCEPT TABLE order_line) folded;
COMMENT ON VIEW difference IS 'Rows by which order_line and the log differ';

-- ---- as the pages see it ----

CREATE VIEW orders AS SELECT * FROM order_summary_inline.order_summary;
CREATE VIEW products AS SELECT product_id, name, department, description, price_cents FROM product_search_inline.product;
CREATE VIEW customers AS
SELECT
    customer_id, c.name, c.country, c.tier, c.registered_at,
    coalesce(a.ordered, 0) AS ordered,
    coalesce(a.completed, 0) AS completed,
    coalesce(a.cancelled, 0) AS cancelled,
    coalesce(a.spent_cents, 0) AS spent_cents,
    coalesce(a.refunded_cents, 0) AS refunded_cents
FROM customer_activity_async.customer c
LEFT JOIN customer_activity_async.customer_activity a USING (customer_id);
CREATE VIEW sales AS SELECT * FROM daily_sales_async.daily_sales;

COMMENT ON VIEW orders IS 'Orders, in the transaction that changes them';
COMMENT ON VIEW products IS 'The catalogue, in the transaction that changes it';
COMMENT ON VIEW customers IS 'Customers and what they have done, some milliseconds later';
COMMENT ON VIEW sales IS 'Sales a day, some milliseconds later';
