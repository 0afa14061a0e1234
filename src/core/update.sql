-- What a script of ALTER EXTENSION eventstore UPDATE begins with.

CREATE FUNCTION eventstore.require_library(version text) RETURNS void
    AS 'MODULE_PATHNAME', 'require_library'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION eventstore.require_library(text) IS
    'Fails unless the library in memory serves that version: the first statement of a script of ALTER EXTENSION UPDATE';

