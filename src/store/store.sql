-- What is about the whole of a store.

CREATE FUNCTION eventstore.rehash() RETURNS void
    AS 'MODULE_PATHNAME', 'rehash'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION eventstore.rehash() IS
    'Makes the hashes of a restored log those of this format, before its first append';
