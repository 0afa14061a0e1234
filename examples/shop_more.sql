-- shop_more: one more day in the shop, by single calls, as an application makes them.
--
--   psql -f examples/shop_more.sql
--
-- After examples/shop_events.sql, once.  Old orders, customers and products go on, new ones
-- begin; one transaction is rolled back, one call is refused, one is repeated.

\set ON_ERROR_STOP on
\set QUIET on
\o /dev/null

-- An order from the basket to the parcel: a call, then several events in one call.
SELECT * FROM es_append('Order-2001', 'OrderCreated', '{"customer_id": "Customer-7"}', expected_version => 0);
SELECT * FROM es_append_events('Order-2001', '[
    {"type": "OrderItemAdded", "data": {"product_id": "Product-1", "quantity": 2, "price_cents": 1290}},
    {"type": "OrderItemAdded", "data": {"product_id": "Product-2", "quantity": 1, "price_cents": 4900}},
    {"type": "OrderItemRemoved", "data": {"product_id": "Product-1", "quantity": 2, "price_cents": 1290}}]',
    expected_version => 1);
SELECT * FROM es_append('Order-2001', 'OrderShipped', '{"carrier": "Bike", "parcel": "P900001"}', expected_version => 4);

-- Completed and refunded in one transaction; the savepoint takes back a mistake.
BEGIN;
SELECT * FROM es_append('Order-2001', 'OrderCompleted', '{"customer_id": "Customer-7", "total_cents": 4900}', expected_version => 5);
SAVEPOINT a;
SELECT * FROM es_append('Order-2001', 'OrderRefunded', '{"customer_id": "Customer-7", "amount_cents": 49000, "reason": "returned"}');
ROLLBACK TO a;
SELECT * FROM es_append('Order-2001', 'OrderRefunded', '{"customer_id": "Customer-7", "amount_cents": 4900, "reason": "returned"}');
SELECT * FROM es_append('Customer-7', 'CustomerTierChanged', '{"from": "silver", "to": "bronze"}');
COMMIT;

-- A whole order, a new customer and a review in one call: many streams, the customer last.
SELECT * FROM es_append_batch(
    ARRAY['Order-2002', 'Product-9', 'Order-2002', 'Customer-41', 'Order-2002'],
    ARRAY['OrderCreated', 'ReviewSubmitted', 'OrderItemAdded', 'CustomerCreated', 'OrderCompleted'],
    ARRAY[
        '{"customer_id": "Customer-41"}',
        '{"customer_id": "Customer-7", "rating": 5, "text": "Warm."}',
        '{"product_id": "Product-9", "quantity": 1, "price_cents": 7900}',
        '{"name": "Ida Noether", "country": "DE", "tier": "bronze"}',
        '{"customer_id": "Customer-41", "total_cents": 7900}']::jsonb[]);

-- Never happened.
BEGIN;
SELECT * FROM es_append('Order-2003', 'OrderCreated', '{"customer_id": "Customer-1"}');
SELECT * FROM es_append('Order-2003', 'OrderCompleted', '{"customer_id": "Customer-1", "total_cents": 1}');
SELECT * FROM es_append('Product-3', 'ProductDeleted');
ROLLBACK;

-- Refused: the order is further than that.
DO $$
BEGIN
    PERFORM es_append('Order-2001', 'OrderCancelled', '{"customer_id": "Customer-7", "reason": "changed mind"}', expected_version => 1);
    RAISE 'this append should have been refused';
EXCEPTION WHEN SQLSTATE 'SE001' THEN
    NULL;
END;
$$;

-- Repeated: stored once, and counted once.
SELECT * FROM es_append('Order-1002', 'OrderCancelled', '{"customer_id": "Customer-3", "reason": "changed mind"}',
                        event_id => '01976b7c-0000-7000-8000-000000000001');
SELECT * FROM es_append('Order-1002', 'OrderCancelled', '{"customer_id": "Customer-3", "reason": "changed mind"}',
                        event_id => '01976b7c-0000-7000-8000-000000000001');

-- The catalogue: changed, gone, and back within one call.
SELECT * FROM es_append('Product-4', 'ProductPriceChanged', '{"price_cents": 2190}');
SELECT * FROM es_append_events('Product-5', '[
    {"type": "ProductPriceChanged", "data": {"price_cents": 790}},
    {"type": "ProductDeleted"},
    {"type": "ProductCreated", "data": {"name": "Squared Notebook", "department": "Office", "description": "For sums.", "price_cents": 950}},
    {"type": "ProductUpdated", "data": {"description": "For sums, and for everything else."}}]');
SELECT * FROM es_append('Product-60', 'ProductCreated',
    '{"name": "Thermos Jug", "department": "Kitchen", "description": "Tea for six.", "price_cents": 3990}');

\o

SELECT count(*) AS events
FROM eventstore.events;
