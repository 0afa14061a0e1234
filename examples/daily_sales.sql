-- daily_sales: orders completed and money refunded, day by day.
--
--   psql -v mode=inline -f examples/daily_sales.sql
--
-- mode: inline or async (the default).  schema: where the table goes, and the projection's
-- name; daily_sales_inline or daily_sales_async unless given.
--
-- Form: query.  Counts and sums.
-- Mode: async, unless orders are few.  All orders that are completed today share today's row:
-- inline, each of them waits until the one before has committed.  The worker adds up a
-- whole batch and writes the row once.

\set ON_ERROR_STOP on
\if :{?mode}
\else
    \set mode async
\endif
\if :{?schema}
\else
    \set schema daily_sales_:mode
\endif

CREATE SCHEMA :"schema";
-- A projection keeps the search_path that it was created with: names need no schema below.
SET search_path = :"schema", public;

CREATE TABLE daily_sales (
    day date PRIMARY KEY,
    orders bigint NOT NULL,
    sold_cents bigint NOT NULL,
    refunds bigint NOT NULL,
    refunded_cents bigint NOT NULL,
    net_cents bigint NOT NULL GENERATED ALWAYS AS (sold_cents - refunded_cents) STORED
);
COMMENT ON TABLE daily_sales IS 'Sales a day, in UTC';
COMMENT ON COLUMN daily_sales.orders IS 'Orders completed on that day';
COMMENT ON COLUMN daily_sales.refunds IS 'Refunds on that day; an order can be refunded in parts';

SELECT es_create_projection(
    :'schema',
    mode => :'mode',
    -- Two types out of fourteen: the others cost nothing, not even reading.
    types => ARRAY['OrderCompleted', 'OrderRefunded'],
    -- A day is a day in UTC, said here: what the TimeZone of an appending session says, or of
    -- the worker, must not matter, or a rebuild would give another table.
    --
    -- ORDER BY day: inline, two transactions that complete orders of several days lock the
    -- rows in one order, and cannot wait for each other in a circle.
    query => $query$
        INSERT INTO daily_sales AS d (day, orders, sold_cents, refunds, refunded_cents)
        SELECT
            (created_at AT TIME ZONE 'UTC')::date AS day,
            count(*) FILTER (WHERE type = 'OrderCompleted'),
            coalesce(sum((data->>'total_cents')::bigint) FILTER (WHERE type = 'OrderCompleted'), 0),
            count(*) FILTER (WHERE type = 'OrderRefunded'),
            coalesce(sum((data->>'amount_cents')::bigint) FILTER (WHERE type = 'OrderRefunded'), 0)
        FROM es_batch
        GROUP BY day
        ORDER BY day
        ON CONFLICT (day) DO UPDATE SET
            orders = d.orders + excluded.orders,
            sold_cents = d.sold_cents + excluded.sold_cents,
            refunds = d.refunds + excluded.refunds,
            refunded_cents = d.refunded_cents + excluded.refunded_cents
    $query$,
    reset => 'TRUNCATE daily_sales');

SELECT es_wait_for_projection(:'schema', timeout => '30 s');

-- ---- use ----

-- The best days.
SELECT day, orders, sold_cents, refunds, refunded_cents, net_cents
FROM daily_sales
ORDER BY net_cents DESC, day
LIMIT 5;

SELECT
    date_trunc('month', day)::date AS month,
    sum(orders) AS orders,
    sum(net_cents) AS net_cents,
    round(100 * sum(refunded_cents) / nullif(sum(sold_cents), 0), 1) AS refunded_percent
FROM daily_sales
GROUP BY month
ORDER BY month;

-- ---- replay by hand ----

-- The same table from the whole log, in one go.
CREATE VIEW replayed AS
WITH sold AS (
    SELECT (created_at AT TIME ZONE 'UTC')::date AS day, (data->>'total_cents')::bigint AS cents
    FROM eventstore.events
    WHERE type = 'OrderCompleted'
), refunded AS (
    SELECT (created_at AT TIME ZONE 'UTC')::date AS day, (data->>'amount_cents')::bigint AS cents
    FROM eventstore.events
    WHERE type = 'OrderRefunded'
)
SELECT
    day,
    coalesce(s.orders, 0) AS orders,
    coalesce(s.cents, 0) AS sold_cents,
    coalesce(r.refunds, 0) AS refunds,
    coalesce(r.cents, 0) AS refunded_cents,
    coalesce(s.cents, 0) - coalesce(r.cents, 0) AS net_cents
FROM (SELECT day, count(*) AS orders, sum(cents) AS cents FROM sold GROUP BY day) s
FULL JOIN (SELECT day, count(*) AS refunds, sum(cents) AS cents FROM refunded GROUP BY day) r USING (day);
COMMENT ON VIEW replayed IS 'daily_sales, computed from the log by hand';

-- What one has and the other has not: never anything, once the projection has caught up.
CREATE VIEW difference AS
SELECT 'only in the read model' AS side, kept.*
FROM (TABLE daily_sales EXCEPT TABLE replayed) kept
UNION ALL
SELECT 'only in the log', folded.*
FROM (TABLE replayed EXCEPT TABLE daily_sales) folded;
COMMENT ON VIEW difference IS 'Rows by which daily_sales and the log differ';

TABLE difference;
