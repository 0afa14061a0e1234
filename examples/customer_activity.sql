-- customer_activity: what a customer has done, from orders, reviews and the customer's own
-- stream, in three tables.
--
--   psql -v mode=inline -f examples/customer_activity.sql
--
-- mode: inline or async (the default).  schema: where the tables go, and the projection's
-- name; customer_activity_inline or customer_activity_async unless given.
--
-- Form: query.  One statement can write several tables: an INSERT in each part of a WITH.
-- Mode: async for a shop of any size.  Inline is exact as well, but a customer's row is shared
-- by the streams of all his orders and reviews, so their writers wait for each other.

\set ON_ERROR_STOP on
\if :{?mode}
\else
    \set mode async
\endif
\if :{?schema}
\else
    \set schema customer_activity_:mode
\endif

CREATE SCHEMA :"schema";
-- A projection keeps the search_path that it was created with: names need no schema below.
SET search_path = :"schema", public;

-- No foreign keys between them.  Inline, the events of different streams come in the order in
-- which their transactions get here, so an order can come before its customer.  What belongs
-- together is decided before events are appended; a read model only tells of it.
CREATE TABLE customer (
    customer_id text PRIMARY KEY,
    name text,
    country text,
    tier text,
    tier_changes bigint,
    registered_at timestamptz
);
COMMENT ON TABLE customer IS 'Who they are: from the streams of the customers';

CREATE TABLE customer_activity (
    customer_id text PRIMARY KEY,
    ordered bigint NOT NULL,
    completed bigint NOT NULL,
    cancelled bigint NOT NULL,
    spent_cents bigint NOT NULL,
    refunded_cents bigint NOT NULL,
    reviews bigint NOT NULL,
    stars bigint NOT NULL,
    average_stars numeric GENERATED ALWAYS AS (round(stars::numeric / nullif(reviews, 0), 2)) STORED,
    first_seen_at timestamptz NOT NULL,
    last_seen_at timestamptz NOT NULL,
    last_type text NOT NULL,
    last_position bigint NOT NULL
);
COMMENT ON TABLE customer_activity IS 'What they have done, ever';
COMMENT ON COLUMN customer_activity.stars IS 'Sum of all ratings: averages cannot be added up, sums and counts can';
COMMENT ON COLUMN customer_activity.last_position IS 'Of the event that last_type speaks of';

CREATE TABLE customer_month (
    customer_id text,
    month date,
    completed bigint NOT NULL,
    spent_cents bigint NOT NULL,
    refunded_cents bigint NOT NULL,
    PRIMARY KEY (customer_id, month)
);
COMMENT ON TABLE customer_month IS 'What they have paid, month by month in UTC';

SELECT es_create_projection(
    :'schema',
    mode => :'mode',
    -- The types that are about a customer, from three categories.  Items, shipping and the
    -- catalogue are most of the log, and are not even read.
    types => ARRAY[
        'CustomerCreated', 'CustomerTierChanged',
        'OrderCreated', 'OrderCompleted', 'OrderCancelled', 'OrderRefunded',
        'ReviewSubmitted'],
    -- Each table is grouped by its own key, so no row is written twice a batch.
    --
    -- Streams come in any order when inline.  So what several streams write into one row must
    -- come out the same in any order: sums, least and greatest do; "the last one wins" does
    -- if it is decided by position and not by who comes last.  Within one stream the order is
    -- certain: customer needs no such care.
    --
    -- ORDER BY: each part locks its rows by key, and the parts of a statement run in the same
    -- order every time.  So two transactions with several customers each cannot wait for
    -- each other in a circle.
    query => $query$
        WITH fact AS (
            SELECT
                -- An event in the customer's own stream does not repeat who it is.
                CASE es_category(stream) WHEN 'Customer' THEN stream ELSE data->>'customer_id' END AS customer_id,
                date_trunc('month', created_at AT TIME ZONE 'UTC')::date AS month,
                position,
                type,
                data,
                created_at
            FROM es_batch
        ), profile AS (
            INSERT INTO customer AS c (customer_id, name, country, tier, tier_changes, registered_at)
            SELECT
                customer_id,
                max(data->>'name'),
                max(data->>'country'),
                (array_agg(coalesce(data->>'to', data->>'tier') ORDER BY position DESC))[1],
                count(*) FILTER (WHERE type = 'CustomerTierChanged'),
                min(created_at) FILTER (WHERE type = 'CustomerCreated')
            FROM fact
            WHERE type IN ('CustomerCreated', 'CustomerTierChanged')
            GROUP BY customer_id
            ORDER BY customer_id
            ON CONFLICT (customer_id) DO UPDATE SET
                name = coalesce(c.name, excluded.name),
                country = coalesce(c.country, excluded.country),
                tier = excluded.tier,
                tier_changes = c.tier_changes + excluded.tier_changes,
                registered_at = coalesce(c.registered_at, excluded.registered_at)
        ), monthly AS (
            INSERT INTO customer_month AS m (customer_id, month, completed, spent_cents, refunded_cents)
            SELECT
                customer_id,
                month,
                count(*) FILTER (WHERE type = 'OrderCompleted'),
                coalesce(sum((data->>'total_cents')::bigint) FILTER (WHERE type = 'OrderCompleted'), 0),
                coalesce(sum((data->>'amount_cents')::bigint) FILTER (WHERE type = 'OrderRefunded'), 0)
            FROM fact
            WHERE type IN ('OrderCompleted', 'OrderRefunded')
            GROUP BY customer_id, month
            ORDER BY customer_id, month
            ON CONFLICT (customer_id, month) DO UPDATE SET
                completed = m.completed + excluded.completed,
                spent_cents = m.spent_cents + excluded.spent_cents,
                refunded_cents = m.refunded_cents + excluded.refunded_cents
        )
        INSERT INTO customer_activity AS a
            (customer_id, ordered, completed, cancelled, spent_cents, refunded_cents, reviews, stars,
             first_seen_at, last_seen_at, last_type, last_position)
        SELECT
            customer_id,
            count(*) FILTER (WHERE type = 'OrderCreated'),
            count(*) FILTER (WHERE type = 'OrderCompleted'),
            count(*) FILTER (WHERE type = 'OrderCancelled'),
            coalesce(sum((data->>'total_cents')::bigint) FILTER (WHERE type = 'OrderCompleted'), 0),
            coalesce(sum((data->>'amount_cents')::bigint) FILTER (WHERE type = 'OrderRefunded'), 0),
            count(*) FILTER (WHERE type = 'ReviewSubmitted'),
            coalesce(sum((data->>'rating')::bigint) FILTER (WHERE type = 'ReviewSubmitted'), 0),
            min(created_at),
            max(created_at),
            (array_agg(type ORDER BY position DESC))[1],
            max(position)
        FROM fact
        GROUP BY customer_id
        ORDER BY customer_id
        ON CONFLICT (customer_id) DO UPDATE SET
            ordered = a.ordered + excluded.ordered,
            completed = a.completed + excluded.completed,
            cancelled = a.cancelled + excluded.cancelled,
            spent_cents = a.spent_cents + excluded.spent_cents,
            refunded_cents = a.refunded_cents + excluded.refunded_cents,
            reviews = a.reviews + excluded.reviews,
            stars = a.stars + excluded.stars,
            first_seen_at = least(a.first_seen_at, excluded.first_seen_at),
            last_seen_at = greatest(a.last_seen_at, excluded.last_seen_at),
            last_type = CASE WHEN excluded.last_position > a.last_position THEN excluded.last_type ELSE a.last_type END,
            last_position = greatest(a.last_position, excluded.last_position)
    $query$,
    reset => 'TRUNCATE customer, customer_activity, customer_month');

SELECT es_wait_for_projection(:'schema', timeout => '30 s');

-- ---- use ----

-- Who deserves gold?
SELECT customer_id, name, tier, completed, spent_cents - refunded_cents AS net_cents, average_stars
FROM customer_activity
JOIN customer USING (customer_id)
WHERE tier <> 'gold'
ORDER BY net_cents DESC, customer_id
LIMIT 5;

-- What each has paid, month by month.
SELECT customer_id, array_agg(spent_cents ORDER BY month) AS spent_cents
FROM customer_month
GROUP BY customer_id
ORDER BY customer_id
LIMIT 5;

-- ---- replay by hand ----

-- The same tables from the whole log, in one go each.
CREATE VIEW customer_replayed AS
SELECT
    created.stream AS customer_id,
    created.data->>'name' AS name,
    created.data->>'country' AS country,
    coalesce(last.data->>'to', created.data->>'tier') AS tier,
    coalesce(last.changes, 0) AS tier_changes,
    created.created_at AS registered_at
FROM eventstore.events created
LEFT JOIN (
    SELECT DISTINCT ON (stream) stream, data, count(*) OVER (PARTITION BY stream) AS changes
    FROM eventstore.events
    WHERE type = 'CustomerTierChanged'
    ORDER BY stream, version DESC) last USING (stream)
WHERE created.type = 'CustomerCreated';
COMMENT ON VIEW customer_replayed IS 'customer, computed from the log by hand';

CREATE VIEW activity_replayed AS
WITH fact (customer_id, position, type, created_at, spent, refunded, stars) AS (
    SELECT stream, position, type, created_at, 0, 0, NULL::bigint
    FROM eventstore.events
    WHERE type IN ('CustomerCreated', 'CustomerTierChanged')
    UNION ALL
    SELECT data->>'customer_id', position, type, created_at, 0, 0, NULL
    FROM eventstore.events
    WHERE type IN ('OrderCreated', 'OrderCancelled')
    UNION ALL
    SELECT data->>'customer_id', position, type, created_at, (data->>'total_cents')::bigint, 0, NULL
    FROM eventstore.events
    WHERE type = 'OrderCompleted'
    UNION ALL
    SELECT data->>'customer_id', position, type, created_at, 0, (data->>'amount_cents')::bigint, NULL
    FROM eventstore.events
    WHERE type = 'OrderRefunded'
    UNION ALL
    SELECT data->>'customer_id', position, type, created_at, 0, 0, (data->>'rating')::bigint
    FROM eventstore.events
    WHERE type = 'ReviewSubmitted'
)
SELECT
    customer_id,
    sum((type = 'OrderCreated')::int) AS ordered,
    sum((type = 'OrderCompleted')::int) AS completed,
    sum((type = 'OrderCancelled')::int) AS cancelled,
    sum(spent) AS spent_cents,
    sum(refunded) AS refunded_cents,
    count(stars) AS reviews,
    coalesce(sum(stars), 0) AS stars,
    round(avg(stars), 2) AS average_stars,
    min(created_at) AS first_seen_at,
    max(created_at) AS last_seen_at,
    (array_agg(type ORDER BY position DESC))[1] AS last_type,
    max(position) AS last_position
FROM fact
GROUP BY customer_id;
COMMENT ON VIEW activity_replayed IS 'customer_activity, computed from the log by hand';

CREATE VIEW month_replayed AS
SELECT
    data->>'customer_id' AS customer_id,
    date_trunc('month', created_at AT TIME ZONE 'UTC')::date AS month,
    sum((type = 'OrderCompleted')::int) AS completed,
    sum(CASE type WHEN 'OrderCompleted' THEN (data->>'total_cents')::bigint ELSE 0 END) AS spent_cents,
    sum(CASE type WHEN 'OrderRefunded' THEN (data->>'amount_cents')::bigint ELSE 0 END) AS refunded_cents
FROM eventstore.events
WHERE type IN ('OrderCompleted', 'OrderRefunded')
GROUP BY 1, 2;
COMMENT ON VIEW month_replayed IS 'customer_month, computed from the log by hand';

-- What one has and the other has not: never anything, once the projection has caught up.
CREATE VIEW difference AS
SELECT 'customer' AS name, 'only in the read model' AS side, to_jsonb(kept) AS row
FROM (TABLE customer EXCEPT TABLE customer_replayed) kept
UNION ALL
SELECT 'customer', 'only in the log', to_jsonb(folded)
FROM (TABLE customer_replayed EXCEPT TABLE customer) folded
UNION ALL
SELECT 'customer_activity', 'only in the read model', to_jsonb(kept)
FROM (TABLE customer_activity EXCEPT TABLE activity_replayed) kept
UNION ALL
SELECT 'customer_activity', 'only in the log', to_jsonb(folded)
FROM (TABLE activity_replayed EXCEPT TABLE customer_activity) folded
UNION ALL
SELECT 'customer_month', 'only in the read model', to_jsonb(kept)
FROM (TABLE customer_month EXCEPT TABLE month_replayed) kept
UNION ALL
SELECT 'customer_month', 'only in the log', to_jsonb(folded)
FROM (TABLE month_replayed EXCEPT TABLE customer_month) folded;
COMMENT ON VIEW difference IS 'Rows by which the three tables and the log differ';

TABLE difference;
