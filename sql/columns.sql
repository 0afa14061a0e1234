-- Users' own columns on the log.

CREATE EXTENSION eventstore;

SELECT version FROM es_append('Order-1', 'Placed', '{"customer": "ada"}');

-- The append functions do not know them: they get their defaults.
ALTER TABLE eventstore.event_log ADD COLUMN tenant text DEFAULT 'nobody';
ALTER TABLE eventstore.event_log ADD COLUMN customer text GENERATED ALWAYS AS (data ->> 'customer') STORED;
SELECT version FROM es_append('Order-1', 'Paid', '{"customer": "ada"}');
SELECT version FROM es_append_events('Order-1', '[{"type": "Shipped"}, {"type": "Rated", "data": {"customer": "grace"}}]');
SELECT e.version, e.type, l.tenant, l.customer
FROM es_read_stream('Order-1') e
JOIN eventstore.event_log l USING (position)
ORDER BY e.version;

-- What the events are read as, stays.
SELECT version, type, data FROM es_read_stream('Order-1');

-- One that must be filled, and is not, keeps events out.
ALTER TABLE eventstore.event_log ADD COLUMN region text;
ALTER TABLE eventstore.event_log ADD CONSTRAINT has_region CHECK (region IS NOT NULL) NOT VALID;
\set VERBOSITY terse
SELECT version FROM es_append('Order-1', 'Closed');
\echo :SQLSTATE
\set VERBOSITY default

-- A trigger can fill it.
CREATE FUNCTION fill() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    NEW.region := NEW.metadata ->> 'region';
    RETURN NEW;
END $$;
CREATE TRIGGER fill BEFORE INSERT ON eventstore.event_log
    FOR EACH ROW EXECUTE FUNCTION fill();
SELECT version FROM es_append('Order-1', 'Closed', metadata => '{"region": "north"}');
SELECT region FROM eventstore.event_log ORDER BY position DESC LIMIT 1;
DROP TRIGGER fill ON eventstore.event_log;

-- They may go again; the log's own may not.
ALTER TABLE eventstore.event_log DROP COLUMN tenant;
ALTER TABLE eventstore.event_log DROP COLUMN customer;
ALTER TABLE eventstore.event_log DROP COLUMN region;
SELECT version FROM es_append('Order-1', 'Archived', '{"n": 1}', 5, metadata => '{"by": "ada"}', tags => ARRAY['a']);
SELECT version, type, data, metadata, tags FROM es_read_stream('Order-1');
ALTER TABLE eventstore.event_log DROP COLUMN tags CASCADE;
SELECT :'SQLSTATE' <> '00000' AS refused;
