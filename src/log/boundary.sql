-- Slots: which streams belong together when there is more than one store.

CREATE FUNCTION es_slot(stream text) RETURNS int
    AS 'MODULE_PATHNAME', 'es_slot'
    LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION es_slot(text) IS
    'The slot of a stream, 0 to 1,023: a hash of its boundary, the same on every machine and in every encoding';

CREATE FUNCTION es_set_boundary(separator text) RETURNS void
    AS 'MODULE_PATHNAME', 'es_set_boundary'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION es_set_boundary(text) IS
    'Before the first append: the boundary of a stream is its name up to that character; null: the whole name';

