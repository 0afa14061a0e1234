-- When all of the store is there, its history begins.

CREATE FUNCTION eventstore.begin_history() RETURNS void
    AS 'MODULE_PATHNAME', 'begin_history'
    LANGUAGE C;
SELECT eventstore.begin_history();
DROP FUNCTION eventstore.begin_history();

-- Large values of events are compressed by lz4 if the server has it.
CREATE FUNCTION eventstore.use_lz4() RETURNS void
    AS 'MODULE_PATHNAME', 'use_lz4'
    LANGUAGE C;
SELECT eventstore.use_lz4();
DROP FUNCTION eventstore.use_lz4();
