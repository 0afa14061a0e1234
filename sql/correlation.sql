-- Reading the events of one request, across streams.

CREATE EXTENSION eventstore;

-- correlation_id and causation_id get onto the events by the setting, or by hand.
BEGIN;
SET LOCAL eventstore.metadata = '{"correlation_id": "request-1"}';
SELECT version FROM es_append('Order-1', 'Placed');
SELECT version FROM es_append('Stock-9', 'Reserved', metadata => '{"causation_id": "x"}');
COMMIT;
SELECT version FROM es_append('Order-2', 'Placed', metadata => '{"correlation_id": "request-2"}');
SELECT version FROM es_append('Order-3', 'Placed');
SELECT version FROM es_append_events('Invoice-1', '[{"type": "Sent", "metadata": {"correlation_id": "request-1"}}, {"type": "Paid"}]');
SELECT stream, version
FROM es_append_batch('{Order-1, Order-4}', '{Paid, Placed}', '{"{}", "{}"}', metadata => '{NULL, "{\"correlation_id\": \"request-1\"}"}')
ORDER BY stream;

SELECT stream, version, type, metadata FROM es_read_correlation('request-1');
SELECT stream, version, type, metadata FROM es_read_correlation('request-1', 2);
SELECT stream, version, type, metadata FROM es_read_correlation('request-2');
SELECT count(*) FROM es_read_correlation('request');
SELECT count(*) FROM es_read_correlation('Request-1');
SELECT count(*) FROM es_read_correlation('request-1 ');

-- Only a key at the top counts.
SELECT version FROM es_append('Order-5', 'Placed', '{"correlation_id": "deep"}', metadata => '{"a": {"correlation_id": "deep"}}');
SELECT count(*) FROM es_read_correlation('deep');

-- Ids that are not text are found by their text; null is no id.
SELECT count(*)
FROM (VALUES ('{"correlation_id": 42}'::jsonb), ('{"correlation_id": null}'), ('{"correlation_id": ""}'), ('{"correlation_id": "null"}')) m (metadata),
    LATERAL es_append('Order-6', 'Placed', metadata => m.metadata);
SELECT id, version, metadata FROM unnest(ARRAY['42', 'null', '']) id, LATERAL es_read_correlation(id) ORDER BY version;

-- It is compared byte by byte.
SELECT count(*)
FROM (VALUES (U&'Caf\00e9'), (U&'Cafe\0301'), ('🚀 "x"'), (repeat('x', 1000))) v (id),
    LATERAL es_append('Order-7', 'Placed', metadata => jsonb_build_object('correlation_id', v.id));
SELECT version FROM es_read_correlation(U&'Caf\00e9');
SELECT version FROM es_read_correlation(U&'Cafe\0301');
SELECT version FROM es_read_correlation('🚀 "x"');
SELECT version FROM es_read_correlation(repeat('x', 1000));

-- It stops at the head.
BEGIN;
SELECT version FROM es_append('Order-8', 'Placed', metadata => '{"correlation_id": "request-3"}');
SELECT count(*) FROM es_read_correlation('request-3');
COMMIT;
SELECT count(*) FROM es_read_correlation('request-3');

-- All of a long one, in order.
BEGIN;
SET LOCAL eventstore.metadata = '{"correlation_id": "long"}';
SELECT count(*) FROM generate_series(1, 1500) i, LATERAL es_append('Long-' || i % 7, 'Turn', to_jsonb(i));
COMMIT;
SELECT count(*) FROM es_read_correlation('long');
SELECT count(*) FROM es_read_correlation('long', 1000);
SELECT count(*), bool_and(data = to_jsonb(n)) AS "in order"
FROM es_read_correlation('long', 2000) WITH ORDINALITY
    AS e (position, stream, version, type, schema_version, data, metadata, tags, event_id, created_at, content_type, payload, n);

-- After a position, a page at a time.
SELECT max(position) AS last FROM es_read_correlation('long', 1000) \gset
SELECT count(*), bool_and(position > :last) AS after FROM es_read_correlation('long', after_position => :last);
SELECT count(*) FROM es_read_correlation('long', 10, :last);
SELECT count(*) FROM es_read_correlation('long', after_position => es_head());
SELECT * FROM es_read_correlation('long', after_position => -1);
\echo :SQLSTATE
SELECT * FROM es_read_correlation('long', after_position => es_head() + 1000000);
\echo :SQLSTATE

-- ---- another key of metadata ----

-- The hint is the statement that makes its index.  It is quoted as it must be.
SELECT version FROM es_append('Order-9', 'Placed', metadata => '{"tenant": "acme", "it''s \"x\\y": "odd", "": "no name"}');
SELECT version FROM es_append('Order-9', 'Paid', metadata => '{"tenant": "acme"}');
SELECT version FROM es_append('Order-9', 'Sent', metadata => '{"tenant": 7}');
SELECT * FROM es_read_correlation('acme', key => 'tenant');
\echo :SQLSTATE
CREATE FUNCTION hint(key text) RETURNS text
    LANGUAGE plpgsql
    AS $$
DECLARE
    told text;
BEGIN
    PERFORM es_read_correlation('x', key => key);
    RETURN NULL;
EXCEPTION
    WHEN undefined_object THEN
        GET STACKED DIAGNOSTICS told = PG_EXCEPTION_HINT;
        RETURN told;
END $$;
SELECT hint(key) FROM unnest(ARRAY['tenant', $$it's "x\y$$, '']) key \gexec
SELECT key, hint(key) FROM unnest(ARRAY['tenant', $$it's "x\y$$, '', 'correlation_id']) key;
SELECT stream, version FROM es_read_correlation('acme', key => 'tenant');
SELECT stream, version FROM es_read_correlation('7', key => 'tenant');
SELECT stream, version FROM es_read_correlation('odd', key => $$it's "x\y$$);
SELECT stream, version FROM es_read_correlation('no name', key => '');
SELECT count(*) FROM es_read_correlation('acme', key => 'Tenant');
\echo :SQLSTATE
SELECT * FROM es_read_correlation('acme', key => NULL);
\echo :SQLSTATE

-- The index is used: without it, the same read is an error again.  One of another kind is none.
BEGIN;
DROP INDEX eventstore.event_log_hashtextextended_position_idx;
SELECT hint('tenant') IS NOT NULL AS missing;
CREATE INDEX ON eventstore.event_log ((metadata ->> 'tenant'), position);
CREATE INDEX ON eventstore.event_log (hashtextextended(metadata ->> 'tenant', 0), position) WHERE metadata ? 'tenant';
CREATE INDEX ON eventstore.event_log (hashtextextended((metadata ->> 'tenant') COLLATE "C", 0), position) WHERE metadata ? 'user';
CREATE INDEX ON eventstore.event_log (hashtextextended((metadata ->> 'tenant') COLLATE "C", 0), position DESC) WHERE metadata ? 'tenant';
CREATE INDEX ON eventstore.event_log (hashtextextended((metadata ->> 'tenant') COLLATE "C", 0), version) WHERE metadata ? 'tenant';
CREATE INDEX ON eventstore.event_log (hashtextextended((metadata ->> 'tenant') COLLATE "C", 1), position) WHERE metadata ? 'tenant';
SELECT hint('tenant') IS NOT NULL AS missing;
-- Written otherwise, and of all events, it is the same.
CREATE INDEX ON eventstore.event_log (hashtextextended((metadata ->> 'tenant') COLLATE "C", 0), position);
SELECT stream, version FROM es_read_correlation('acme', key => 'tenant');
ROLLBACK;
