-- What is about the whole of a store.

CREATE FUNCTION es_check(OUT severity text, OUT object text, OUT problem text)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'es_check'
    LANGUAGE C VOLATILE ROWS 10;
COMMENT ON FUNCTION es_check() IS
    'What is wrong with the store, beside running appends; no row: nothing';

CREATE FUNCTION eventstore.rehash() RETURNS void
    AS 'MODULE_PATHNAME', 'rehash'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION eventstore.rehash() IS
    'Makes the hashes of a restored log those of this format, before its first append';
