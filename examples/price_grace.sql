-- price_grace: what a customer was shown is what is paid, for some minutes.
--
--   psql -f examples/price_grace.sql
--
-- schema: where the functions go; price_grace unless given.
--
-- An order names the price that the customer saw of each product.  It is taken if that is the price,
-- or was until ten minutes ago.  Prices may change while the order is being decided upon: the
-- order is appended on condition that no price of its products did.  Orders bear no tag of a
-- price, so orders of the same product do not fail each other; they wait for each other only
-- while one is being stored.

\set ON_ERROR_STOP on
\if :{?schema}
\else
    \set schema price_grace
\endif

CREATE SCHEMA :"schema";
SET search_path = :"schema", public;

CREATE FUNCTION set_price(product text, cents bigint) RETURNS void
    LANGUAGE sql
    SET search_path FROM CURRENT
    AS $$
        SELECT FROM es_append('Price-' || product, 'PriceSet', jsonb_build_object('product', product, 'cents', cents),
            tags => ARRAY['price:' || product])
    $$;

-- Is this a price that a product has now, or had until so long ago?
CREATE FUNCTION price_holds(prices es_event[], product text, cents bigint, grace interval) RETURNS boolean
    LANGUAGE sql
    STABLE
    AS $$
        SELECT coalesce(bool_or((data->>'cents')::bigint = cents AND (until IS NULL OR until >= clock_timestamp() - grace)), false)
        FROM (
            SELECT data, lead(created_at) OVER (ORDER BY position) AS until
            FROM unnest(prices)
            WHERE data->>'product' = product) price
    $$;

-- items: {"lamp": 1290, "desk": 9900}, as shown.  False: a price is too old; show the new ones.
CREATE FUNCTION place_order(order_id text, items jsonb, grace interval DEFAULT '10 min') RETURNS boolean
    LANGUAGE plpgsql
    SET search_path FROM CURRENT
    AS $$
DECLARE
    query jsonb := (
        SELECT jsonb_agg(jsonb_build_object('tags', ARRAY['price:' || product], 'types', ARRAY['PriceSet']))
        FROM jsonb_object_keys(items) product);
    known bigint;
    prices es_event[];
    conflict text;
BEGIN
    LOOP
        known := es_head();
        prices := ARRAY(SELECT e FROM es_query(query, max_count => NULL) e);
        IF EXISTS (
            SELECT FROM jsonb_each_text(items) item
            WHERE NOT price_holds(prices, item.key, item.value::bigint, grace))
        THEN
            RETURN false;
        END IF;
        BEGIN
            -- "decided_at" is the last price that the decision knows.
            PERFORM es_append('Order-' || order_id, 'OrderPlaced', jsonb_build_object('items', items, 'grace', grace,
                    'decided_at', (SELECT max(p.position) FROM unnest(prices) p)),
                condition => jsonb_build_object('query', query, 'after', known));
            RETURN true;
        EXCEPTION
            WHEN SQLSTATE 'SE004' THEN
                GET STACKED DIAGNOSTICS conflict = PG_EXCEPTION_DETAIL;
                PERFORM es_wait(substring(conflict FROM 'position: (\d+)')::bigint);
        END;
    END LOOP;
END;
$$;

CREATE VIEW difference AS
SELECT o.position, item.key AS product, item.value AS cents
FROM eventstore.events o, jsonb_each_text(o.data->'items') item
WHERE o.type = 'OrderPlaced'
AND NOT EXISTS (
    SELECT
    FROM (
        SELECT position, (data->>'cents')::bigint AS cents, lead(created_at) OVER (ORDER BY position) AS until
        FROM eventstore.events
        WHERE type = 'PriceSet' AND data->>'product' = item.key AND position < o.position) price
    WHERE price.cents = item.value::bigint
    -- The clock went on between the decision and the order.
    AND (price.until IS NULL OR price.until >= o.created_at - (o.data->>'grace')::interval - interval '1 min'))
UNION ALL
SELECT o.position, p.data->>'product', p.data->>'cents'
FROM eventstore.events o
JOIN eventstore.events p ON p.type = 'PriceSet' AND o.data->'items' ? (p.data->>'product')
    AND p.position > (o.data->>'decided_at')::bigint AND p.position < o.position
WHERE o.type = 'OrderPlaced';
COMMENT ON VIEW difference IS 'Orders at a price that did not hold, or that was not the last one known; no rows: there are none';

-- What it is good for.
SELECT set_price('lamp', 1290), set_price('desk', 9900);
SELECT place_order('1', '{"lamp": 1290, "desk": 9900}');
SELECT set_price('lamp', 1490);
SELECT place_order('2', '{"lamp": 1290}') AS grace, place_order('3', '{"lamp": 1290}', '0 s') AS none,
    place_order('4', '{"lamp": 1}') AS never \gset
SELECT place_order('5', '{"lamp": 1490}', '0 s') AS now \gset
SELECT :'grace' = 't' AND :'none' = 'f' AND :'never' = 'f' AND :'now' = 't' AS right \gset
\if :right
\else
    DO $$ BEGIN RAISE 'an order at a wrong price'; END; $$;
\endif
