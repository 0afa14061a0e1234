-- The schema for the store's tables and views.  Plain CREATE SCHEMA: one that
-- somebody else has made is not taken over.

\echo Use "CREATE EXTENSION eventstore" to load this file. \quit

CREATE SCHEMA eventstore;
COMMENT ON SCHEMA eventstore IS 'Tables and views of the event store';

-- The functions' own names are not in this schema but where the extension was
-- created, so USAGE alone opens nothing: each table and view has its own rights.
GRANT USAGE ON SCHEMA eventstore TO PUBLIC;

