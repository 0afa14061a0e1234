-- The whole of a store, emptied.

CREATE FUNCTION es_reset() RETURNS void
    AS 'MODULE_PATHNAME', 'es_reset'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION es_reset() IS
    'Remove all events and streams, and set projections and subscriptions to the empty log: for the next test';
