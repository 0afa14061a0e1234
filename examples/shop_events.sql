-- shop_events: the history of a small shop, the first months of 2025.
--
--   psql -f examples/shop_events.sql
--
-- About 2,900 events of all fourteen types (their payloads: examples/README.md), always the
-- same ones: every choice is arithmetic on the number of an order, a product or a customer.
-- They are appended in calls and transactions of many sizes, some are rolled back first, and
-- some are sent twice, as a client does that got no answer.  Run it once in a database.

\set ON_ERROR_STOP on
\set QUIET on

-- ---- what happened ----

-- Times are without time zone until the last step, where they become UTC: so the session's
-- TimeZone has no say in the history.
CREATE TEMP TABLE history AS
WITH kind (k, thing, department, cents, description) AS (
    VALUES
        (0, 'Ceramic Mug', 'Kitchen', 1290, 'Holds a third of a litre of coffee or tea. Dishwasher safe.'),
        (1, 'Steel Kettle', 'Kitchen', 4900, 'Boils water on every kind of stove, and whistles.'),
        (2, 'Glass Teapot', 'Kitchen', 3450, 'With a strainer, for loose tea.'),
        (3, 'Bamboo Cutting Board', 'Kitchen', 2290, 'Kind to knives. Not for the dishwasher.'),
        (4, 'Paper Notebook', 'Office', 890, 'Dotted pages that lie flat.'),
        (5, 'Desk Lamp', 'Office', 5900, 'Warm light, with a dimmer.'),
        (6, 'Leather Backpack', 'Travel', 12900, 'Carries a laptop and a day of luggage.'),
        (7, 'Storm Umbrella', 'Travel', 3900, 'Folds small and survives the wind.'),
        (8, 'Wool Blanket', 'Home', 7900, 'Woven from the wool of mountain sheep.'),
        (9, 'Vacuum Flask', 'Travel', 2790, 'Keeps coffee hot for a day.')
), product AS (
    SELECT
        p,
        'Product-' || p AS product_id,
        (ARRAY['Red', 'Blue', 'Green', 'Black', 'Small', 'Large'])[1 + (p - 1) / 10] || ' ' || thing AS name,
        department,
        cents + 50 * ((p - 1) / 10) AS cents,
        description,
        timestamp '2025-01-01 06:00' + p * interval '1 minute' AS at
    FROM generate_series(1, 60) p
    JOIN kind ON k = (p - 1) % 10
), price AS (
    -- c = 0: at first; then up to four changes, which can go up and down.
    SELECT
        p,
        product_id,
        c,
        CASE c WHEN 0 THEN cents ELSE cents * (88 + p * c * 7 % 25) / 100 END AS cents,
        CASE c WHEN 0 THEN at ELSE timestamp '2025-01-14' + c * interval '19 days' + p * interval '1 hour' END AS at
    FROM product, generate_series(0, 1 + p % 4) c
), customer AS (
    SELECT
        c,
        'Customer-' || c AS customer_id,
        (ARRAY['Ada', 'Blaise', 'Carl', 'Dorothy', 'Edsger', 'Frances', 'Grace', 'Hedy'])[1 + c % 8]
            || ' ' || (ARRAY['Berg', 'Ferri', 'Laurent', 'Novak', 'Okafor'])[1 + c % 5] AS name,
        (ARRAY['AT', 'CH', 'DE', 'FR', 'IT'])[1 + c * 3 % 5] AS country,
        timestamp '2025-01-02' + c * interval '13 hours' AS at
    FROM generate_series(1, 40) c
), purchase AS (
    -- Customers appear one by one, and buy from then on.
    SELECT
        n,
        'Order-' || 1000 + n AS order_id,
        'Customer-' || 1 + n * 7 % least(40, 4 + n / 4) AS customer_id,
        1 + n * 5 % 4 AS items,
        CASE
            WHEN n % 20 IN (0, 1) THEN 'cancelled'
            WHEN n % 20 = 2 THEN 'open'
            WHEN n % 20 = 3 THEN 'shipped'
            WHEN n % 50 = 27 THEN 'cancelled after shipping'
            ELSE 'completed'
        END AS fate,
        timestamp '2025-01-06' + n * interval '5 hours 10 minutes' AS at
    FROM generate_series(1, 420) n
), item AS (
    -- At the price of that moment.
    SELECT
        n,
        i,
        p.product_id,
        1 + (n + i) % 3 AS quantity,
        (SELECT price.cents
         FROM price
         WHERE price.p = p.p AND price.at <= purchase.at
         ORDER BY price.at DESC
         LIMIT 1) AS price_cents
    FROM purchase, generate_series(1, items) i
    JOIN product p ON true
    WHERE p.p = 1 + (n * 13 + i * 17) % 50
), basket AS (
    -- +: into the basket, -: out of it again.  In every eleventh order the first item once
    -- more; in every sixth the first one out; in every tenth one piece less of the second.
    SELECT n, 10 + i AS step, '+' AS sign, product_id, quantity, price_cents FROM item
    UNION ALL
    SELECT n, 20, '+', product_id, 1, price_cents FROM item WHERE i = 1 AND n % 11 = 5
    UNION ALL
    SELECT n, 21, '-', product_id, quantity, price_cents FROM item WHERE i = 1 AND n % 6 = 0
        AND EXISTS (SELECT FROM item other WHERE other.n = item.n AND other.i = 2)
    UNION ALL
    SELECT n, 22, '-', product_id, 1, price_cents FROM item WHERE i = 2 AND n % 10 = 3
), paid AS (
    SELECT
        purchase.*,
        total_cents,
        at + (20 + n % 30) * interval '1 hour' AS shipped_at,
        at + (60 + n % 50) * interval '1 hour' AS completed_at
    FROM purchase
    JOIN (SELECT n, sum(CASE sign WHEN '+' THEN quantity ELSE -quantity END * price_cents) AS total_cents
          FROM basket
          GROUP BY n) basket USING (n)
), happened (stream, step, type, data, at) AS (
    SELECT order_id, 1, 'OrderCreated', jsonb_build_object('customer_id', customer_id), at
    FROM purchase
    UNION ALL
    SELECT
        order_id,
        step,
        CASE sign WHEN '+' THEN 'OrderItemAdded' ELSE 'OrderItemRemoved' END,
        jsonb_build_object('product_id', product_id, 'quantity', quantity, 'price_cents', price_cents),
        at + step * interval '40 seconds'
    FROM basket
    JOIN purchase USING (n)
    UNION ALL
    SELECT
        order_id,
        30,
        'OrderShipped',
        jsonb_build_object('carrier', (ARRAY['Post', 'Bike'])[1 + n % 2], 'parcel', 'P' || 700000 + n * 31),
        shipped_at
    FROM paid
    WHERE fate IN ('shipped', 'completed', 'cancelled after shipping')
    UNION ALL
    SELECT
        order_id,
        40,
        'OrderCompleted',
        jsonb_build_object('customer_id', customer_id, 'total_cents', total_cents),
        completed_at
    FROM paid
    WHERE fate = 'completed'
    UNION ALL
    SELECT
        order_id,
        40,
        'OrderCancelled',
        jsonb_build_object('customer_id', customer_id,
            'reason', CASE fate WHEN 'cancelled' THEN 'changed mind' ELSE 'lost on the way' END),
        CASE fate WHEN 'cancelled' THEN at + interval '1 hour' ELSE completed_at END
    FROM paid
    WHERE fate LIKE 'cancelled%'
    UNION ALL
    -- In full, or in two parts.
    SELECT
        order_id,
        50 + part,
        'OrderRefunded',
        jsonb_build_object('customer_id', customer_id,
            'amount_cents', CASE WHEN n % 9 = 4 THEN total_cents ELSE total_cents / (3 + part) END,
            'reason', CASE WHEN n % 9 = 4 THEN 'returned' ELSE 'damaged' END),
        completed_at + (part * 30 + n % 60) * interval '1 hour'
    FROM paid, generate_series(1, 2) part
    WHERE fate = 'completed'
        AND (n % 9 = 4 AND part = 1 OR n % 9 = 8)
    UNION ALL
    SELECT
        customer_id,
        1,
        'CustomerCreated',
        jsonb_build_object('name', name, 'country', country, 'tier', 'bronze'),
        at
    FROM customer
    UNION ALL
    SELECT
        customer_id,
        1 + change,
        'CustomerTierChanged',
        jsonb_build_object('from', tiers[change], 'to', tiers[change + 1]),
        timestamp '2025-01-20' + change * interval '25 days' + c * interval '1 hour'
    FROM customer,
        (VALUES
            (0, ARRAY['bronze', 'silver', 'gold']),
            (1, ARRAY['bronze', 'silver']),
            (2, ARRAY['bronze', 'silver', 'bronze', 'silver'])) career (r, tiers),
        generate_series(1, cardinality(tiers) - 1) change
    WHERE c % 5 = r
    UNION ALL
    SELECT
        product_id,
        1,
        'ProductCreated',
        jsonb_build_object('name', name, 'department', department, 'description', description, 'price_cents', cents),
        at
    FROM product
    UNION ALL
    SELECT
        product_id,
        10 + c,
        'ProductPriceChanged',
        jsonb_build_object('price_cents', cents),
        at
    FROM price
    WHERE c > 0
    UNION ALL
    -- An update tells what has changed, and only that.
    SELECT
        product_id,
        20,
        'ProductUpdated',
        CASE p % 3
            WHEN 0 THEN jsonb_build_object('name', name || ' II')
            WHEN 1 THEN jsonb_build_object('description', description || ' Now in a gift box.')
            ELSE jsonb_build_object('department', 'Gifts', 'description', 'A gift. ' || description)
        END,
        timestamp '2025-02-20' + p * interval '50 minutes'
    FROM product
    WHERE p % 4 <> 0
    UNION ALL
    -- The last ten are taken out of the catalogue, and two of them come back.
    SELECT product_id, 30, 'ProductDeleted', '{}', timestamp '2025-04-12' + p * interval '1 minute'
    FROM product
    WHERE p > 50
    UNION ALL
    SELECT
        product_id,
        31,
        'ProductCreated',
        jsonb_build_object('name', 'New ' || name, 'department', department, 'description', description,
            'price_cents', cents + 300),
        timestamp '2025-04-14' + p * interval '1 minute'
    FROM product
    WHERE p IN (51, 52)
    UNION ALL
    SELECT
        product_id,
        40,
        'ReviewSubmitted',
        jsonb_build_object('customer_id', customer_id, 'rating', 1 + n * 7 % 5,
            'text', (ARRAY['Broken after a day.', 'Smaller than I thought.', 'Fine.', 'Good.', 'I bought a second one.'])[1 + n * 7 % 5]),
        completed_at + interval '26 hours'
    FROM paid
    JOIN item USING (n)
    WHERE fate = 'completed' AND i = 1 AND n % 2 = 0
)
SELECT
    row_number() OVER (ORDER BY at, stream COLLATE "C", step) AS number,
    stream,
    type,
    data,
    -- Ids from outside make a call repeatable, see below.
    md5(stream || ' ' || step || ' ' || at)::uuid AS event_id,
    at AT TIME ZONE 'UTC' AS created_at
FROM happened;

-- ---- how it gets into the log ----

-- Append events number first to last, in one call.
CREATE FUNCTION pg_temp.append_history(first bigint, last bigint)
RETURNS void
LANGUAGE sql
AS $$
    SELECT count(*)
    FROM (
        SELECT
            array_agg(stream ORDER BY number) AS streams,
            array_agg(type ORDER BY number) AS types,
            array_agg(data ORDER BY number) AS data,
            array_agg(event_id ORDER BY number) AS event_ids,
            array_agg(created_at ORDER BY number) AS created_at
        FROM history
        WHERE number BETWEEN first AND last) h,
        es_append_batch(streams, types, h.data, event_ids => h.event_ids, created_at => h.created_at);
$$;

\o /dev/null

-- The first 200 one by one, each in a transaction of its own.
SELECT format('SELECT pg_temp.append_history(%s, %s)', n, n)
FROM generate_series(1, 200) n
\gexec

-- Then calls of 2, 3, 4, .. 40 events: 819 in all.
SELECT format('SELECT pg_temp.append_history(%s, %s)', 201 + n * (n - 1) / 2 - 1, 200 + n * (n + 1) / 2 - 1)
FROM generate_series(2, 40) n
\gexec

-- What is rolled back has not happened: it leaves a gap in the positions, and no trace in a
-- read model.
BEGIN;
SELECT pg_temp.append_history(1020, 1039);
ROLLBACK;

-- Several calls a transaction.
BEGIN;
SELECT pg_temp.append_history(1020, 1024);
SELECT pg_temp.append_history(1025, 1025);
SAVEPOINT before_the_rest;
SELECT pg_temp.append_history(1026, 1200);
ROLLBACK TO before_the_rest;
SELECT pg_temp.append_history(1026, 1199);
SELECT pg_temp.append_history(1200, 1250);
COMMIT;

-- Sent again, for the answer got lost: the ids are known, and nothing is counted twice.
SELECT pg_temp.append_history(1200, 1250);

-- The rest in one call.
SELECT pg_temp.append_history(1251, max(number))
FROM history;

\o

DROP FUNCTION pg_temp.append_history;
DROP TABLE history;

SELECT type, count(*), min(created_at AT TIME ZONE 'UTC')::date AS first_day, max(created_at AT TIME ZONE 'UTC')::date AS last_day
FROM eventstore.events
GROUP BY type
ORDER BY type COLLATE "C";
