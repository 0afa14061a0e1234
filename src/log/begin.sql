-- When all of the store is there, its history begins.

CREATE FUNCTION eventstore.begin_history() RETURNS void
    AS 'MODULE_PATHNAME', 'begin_history'
    LANGUAGE C;
SELECT eventstore.begin_history();
DROP FUNCTION eventstore.begin_history();

