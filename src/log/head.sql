-- How far the log can be read.

CREATE FUNCTION es_head() RETURNS bigint
    AS 'MODULE_PATHNAME', 'es_head'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION es_head() IS
    'The greatest position such that no event at or below it can still appear';

CREATE FUNCTION es_epoch() RETURNS uuid
    AS 'MODULE_PATHNAME', 'es_epoch'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION es_epoch() IS
    'Identifies this history: another after promotion, restore or copy of the database';

CREATE FUNCTION es_wait(up_to bigint, timeout interval DEFAULT '5 s') RETURNS boolean
    AS 'MODULE_PATHNAME', 'es_wait'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION es_wait(bigint, interval) IS
    'Wait until the head has reached a position; false if time is up';
