-- Events that were taken away from their streams, where something still waits for them.

-- Only when we say so: nothing is removed in the background.
ALTER SYSTEM SET eventstore.scavenge_interval = 0;
SELECT pg_reload_conf();
\c
CREATE EXTENSION eventstore;
CREATE FUNCTION fill(of text, data jsonb[]) RETURNS bigint LANGUAGE sql
    AS $$ SELECT version FROM es_append_batch(array_fill(of, ARRAY[cardinality(data)]), array_fill('T'::text, ARRAY[cardinality(data)]), data) $$;

-- ---- dead letters ----

CREATE TABLE applied (stream text, version bigint);
CREATE TABLE refused (data jsonb);
INSERT INTO refused VALUES ('"bad"');
CREATE FUNCTION apply(event es_event) RETURNS void LANGUAGE plpgsql
    AS $$
BEGIN
    IF event.data IN (SELECT data FROM refused) THEN
        RAISE EXCEPTION 'I do not like this one';
    END IF;
    INSERT INTO applied VALUES (event.stream, event.version);
END $$;
CREATE VIEW letters AS
SELECT stream, count(*) AS letters, count(error) AS tried
FROM eventstore.dead_letters
GROUP BY stream
ORDER BY stream;
CREATE VIEW progress AS
SELECT stream, string_agg(version::text, ' ' ORDER BY version) AS applied FROM applied GROUP BY stream ORDER BY stream;

SELECT es_create_projection('p', 'apply', on_error => 'park', max_retries => 0, reset => 'TRUNCATE applied');
SELECT fill('Order-1', '{"\"bad\"", 2, 3, 4, 5}'), fill('Order-2', '{"\"bad\"", 2, 3}'), fill('Order-3', '{1, "\"bad\"", 3}'),
    fill('Order-4', '{"\"bad\"", 2}');
SELECT es_wait_for_projection('p', timeout => '60 s');
TABLE letters;
TABLE progress;

-- Nothing waits for what is gone: neither before it is removed ...
SELECT es_truncate_stream('Order-1', 6), es_delete_stream('Order-2');
SELECT fill('Order-1', '{6}'), fill('Order-2', '{4}');
SELECT es_wait_for_projection('p', timeout => '60 s');
TABLE letters;
TABLE progress;
-- ... nor afterwards.
SELECT es_tombstone_stream('Order-4');
SELECT es_scavenge() > 0 AS removed;
TABLE letters;

-- What is hidden is no letter that waits behind one, either.
SELECT fill('Order-3', '{4, 5}');
SELECT es_pause_projection('p');
SELECT fill('Order-3', '{6, 7}');
SELECT es_set_retention('Order-3', max_count => 1);
SELECT es_resume_projection('p');
SELECT es_wait_for_projection('p', timeout => '60 s');
TABLE letters;
TABLE progress;

-- Those that are left are applied, and counted; the others are let go.
SELECT fill('Order-5', '{"\"bad\"", 2, 3, 4, 5, 6, 7, 8}');
SELECT es_wait_for_projection('p', timeout => '60 s');
TABLE letters;
SELECT es_truncate_stream('Order-5', 6);
TRUNCATE refused;
-- Positions may be given twice, and be none of a letter.
SELECT es_retry_dead_letters('p', (SELECT array_agg(position) || array_agg(position) || 0::bigint || NULLIF(max(position), 0) FROM eventstore.dead_letters WHERE stream = 'Order-5'));
TABLE letters;
TABLE progress;
SELECT es_retry_dead_letters('p');
SELECT es_drop_projection('p');

-- ---- parked events ----

CREATE FUNCTION parked(subscription text) RETURNS text LANGUAGE sql
    AS $$ SELECT string_agg(format('%s %s', stream, type), ', ' ORDER BY position) FROM eventstore.parked_events p WHERE p.subscription = parked.subscription $$;
CREATE FUNCTION park_all(subscription text) RETURNS bigint LANGUAGE sql
    AS $$ SELECT es_nack(subscription, 'me', coalesce((SELECT array_agg(position) FROM es_fetch(subscription, 'me')), '{}'), 'park') $$;
SELECT es_create_subscription('s', categories => '{Mail}', partitions => 4);
SELECT es_create_subscription('other', categories => '{Mail}');
SELECT fill('Mail-1', '{1, 2, 3, 4, 5}'), fill('Mail-2', '{1, 2}'), fill('Mail-3', '{1, 2}');
SELECT park_all('s'), park_all('other');
-- One of nine can still be delivered.
SELECT es_truncate_stream('Mail-1', 6), es_delete_stream('Mail-2');
SELECT es_set_retention('Mail-3', max_count => 1);
SELECT es_replay_parked('s');
SELECT parked('s');
SELECT stream, version FROM es_fetch('s', 'me');
SELECT park_all('s');
-- What is removed from the log is not parked any more.
SELECT stream, count(*) FROM eventstore.parked_events WHERE subscription = 'other' GROUP BY stream ORDER BY stream;
SELECT es_scavenge() > 0 AS removed;
SELECT stream, count(*) FROM eventstore.parked_events WHERE subscription = 'other' GROUP BY stream ORDER BY stream;
SELECT es_replay_parked('other', '{}');
SELECT es_replay_parked('other');
SELECT stream, version FROM es_fetch('other', 'me');

-- ---- parked events that nobody wants ----

SELECT fill('Mail-4', '{1, 2, 3, 4}');
SELECT park_all('s'), park_all('other');
SELECT position AS p FROM es_read_stream('Mail-4') WHERE version = 1 \gset
-- Those of one's own that are parked.
SELECT es_discard_parked('s', ARRAY[:p, :p, :p + 2, :p + 1000]);
SELECT es_discard_parked('s', ARRAY[:p]);
SELECT es_discard_parked('s', '{}');
SELECT position - :p AS position FROM eventstore.parked_events WHERE subscription = 's' ORDER BY 1;
SELECT position - :p AS position FROM eventstore.parked_events WHERE subscription = 'other' ORDER BY 1;
-- Some are handed out again, and are parked no more.
SELECT es_replay_parked('s', ARRAY[:p + 1, :p + 2, :p + 1]);
SELECT es_discard_parked('s', ARRAY[:p + 1, :p + 3]);
SELECT position - :p AS position FROM es_fetch('s', 'me');
SELECT parked, held, pending FROM eventstore.subscriptions WHERE name = 's';
SELECT es_discard_parked('s', NULL);
SELECT es_discard_parked('s', '{NULL}');
SELECT es_discard_parked(NULL, '{1}');
SELECT es_discard_parked('none', '{1}');
