-- Snapshots: a stream's state, kept so that it need not be folded from the first event.

ALTER SYSTEM SET eventstore.scavenge_interval = 0;
SELECT pg_reload_conf();
\c
CREATE EXTENSION eventstore;

CREATE FUNCTION outcome(statement text) RETURNS text
    LANGUAGE plpgsql
    AS $$
DECLARE
    answer text;
BEGIN
    EXECUTE statement INTO answer;
    RETURN 'ok' || coalesce(nullif(': ' || answer, ': '), '');
EXCEPTION
    WHEN OTHERS THEN
        RETURN SQLSTATE || ': ' || left(SQLERRM, 150);
END $$;
CREATE FUNCTION fill(of text, n int) RETURNS void LANGUAGE sql
    AS $$ SELECT es_append_batch(array_fill(of, ARRAY[n]), array_fill('T'::text, ARRAY[n]), (SELECT array_agg(to_jsonb(i)) FROM generate_series(1, n) i)) $$;
-- What es_load gives, in short.
CREATE FUNCTION loaded(of text, kind text DEFAULT 'default') RETURNS TABLE (snapshot_version bigint, state jsonb, version bigint, events text)
    LANGUAGE sql
    AS $$ SELECT snapshot_version, state, version, (SELECT string_agg(e ->> 'version', ' ' ORDER BY n) FROM jsonb_array_elements(events) WITH ORDINALITY j (e, n)) FROM es_load(of, kind) $$;


-- ---- a stream in one row ----

SELECT version FROM es_append_events('Order-1', '[
    {"type": "OrderPlaced", "data": {"customer": "Ada"}, "metadata": {"user": "web"}, "tags": ["a", "b"], "event_id": "0b6f6b1c-3c5c-4a53-9b1e-0f3f0a7f1f10", "schema_version": 2},
    {"type": "OrderPaid", "data": null, "event_id": "0b6f6b1c-3c5c-4a53-9b1e-0f3f0a7f1f11"}]');
SELECT snapshot_version, state, version, jsonb_pretty(jsonb_agg(e - 'position' - 'created_at' ORDER BY e -> 'version')) AS events
FROM es_load('Order-1') l, jsonb_array_elements(l.events) e GROUP BY 1, 2, 3;
-- An element is the event, with the keys of es_event, all of them.
SELECT count(*) AS the_same
FROM es_load('Order-1') l, jsonb_array_elements(l.events) WITH ORDINALITY j (e, n)
JOIN es_read_stream('Order-1') r ON r.version = n AND to_jsonb(r) = e;
SELECT jsonb_populate_record(NULL::es_event, events -> 0) = (SELECT r FROM es_read_stream('Order-1', 1, 1) r) AS the_same FROM es_load('Order-1');
-- A stream that is not there is one without events.
SELECT * FROM es_load('Order-2');
SELECT * FROM es_load('');
-- The longest that anybody should have.
SELECT fill('Long-1', 1000);
SELECT version, jsonb_array_length(events) AS events, (SELECT bool_and((e ->> 'version')::int = n AND e -> 'data' = to_jsonb(n)) FROM jsonb_array_elements(events) WITH ORDINALITY j (e, n)) AS "in order"
FROM es_load('Long-1');


-- ---- with a snapshot ----

SELECT fill('Cart-1', 10);
SELECT es_save_snapshot('Cart-1', 4, '{"items": 4}');
SELECT * FROM loaded('Cart-1');
SELECT es_save_snapshot('Cart-1', 7, '{"items": 7}');
SELECT * FROM loaded('Cart-1');
-- An older one is no news, the same version once more is.
SELECT es_save_snapshot('Cart-1', 6, '{"items": 6}');
SELECT * FROM loaded('Cart-1');
SELECT es_save_snapshot('Cart-1', 7, 'null');
SELECT * FROM loaded('Cart-1');
SELECT es_save_snapshot('Cart-1', 10, '[]');
SELECT * FROM loaded('Cart-1');
-- Each kind for itself.
SELECT es_save_snapshot('Cart-1', 8, '"x"', 'other');
SELECT * FROM loaded('Cart-1', 'other');
SELECT * FROM loaded('Cart-1', 'none');
SELECT stream, kind, version, state, saved_at <= clock_timestamp() AS saved FROM eventstore.snapshots ORDER BY kind;

-- It is one's own until the commit.
BEGIN;
SELECT version FROM es_append('Cart-2', 'T');
SELECT es_save_snapshot('Cart-2', 1, '1');
SELECT * FROM loaded('Cart-2');
SAVEPOINT s;
SELECT version FROM es_append('Cart-2', 'T', expected_version => 1);
SELECT es_save_snapshot('Cart-2', 2, '2');
SELECT * FROM loaded('Cart-2');
ROLLBACK TO s;
SELECT * FROM loaded('Cart-2');
COMMIT;
SELECT * FROM loaded('Cart-2');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT * FROM loaded('Cart-2');
SELECT version FROM es_append('Cart-2', 'T', expected_version => 1);
SELECT es_save_snapshot('Cart-2', 2, '2');
SELECT * FROM loaded('Cart-2');
ROLLBACK;
-- In one statement with what it is of.
SELECT s FROM es_append('Cart-3', 'T') a, LATERAL es_save_snapshot('Cart-3', a.version, '1') s;
SELECT * FROM loaded('Cart-3');


-- ---- and the life of the stream ----

-- Events after it may be taken away,
SELECT fill('Life-1', 8);
SELECT es_save_snapshot('Life-1', 5, '"five"');
SELECT es_truncate_stream('Life-1', 6);
SELECT * FROM loaded('Life-1');
SELECT es_scavenge();
SELECT * FROM loaded('Life-1');
SELECT es_save_snapshot('Life-1', 7, '"seven"');
SELECT * FROM loaded('Life-1');
SELECT es_truncate_stream('Life-1', 9);
SELECT * FROM loaded('Life-1');
SELECT es_scavenge();
SELECT * FROM loaded('Life-1');
SELECT es_save_snapshot('Life-1', 8, '"eight"');
SELECT * FROM loaded('Life-1');
-- by retention too;
SELECT es_set_retention('Life', 2);
SELECT fill('Life-1', 3);
SELECT es_save_snapshot('Life-1', 9, '"nine"');
SELECT * FROM loaded('Life-1');
-- with a deleted stream its snapshots are gone, and none is taken of what was before.
SELECT es_save_snapshot('Life-1', 9, '"nine"', 'other');
BEGIN;
SELECT es_delete_stream('Life-1');
SELECT * FROM loaded('Life-1');
ROLLBACK;
SELECT snapshot_version FROM loaded('Life-1');
SELECT es_delete_stream('Life-1');
SELECT * FROM loaded('Life-1');
SELECT count(*) FROM eventstore.snapshots WHERE stream = 'Life-1';
SELECT outcome($$ SELECT es_save_snapshot('Life-1', 11, '1') $$), outcome($$ SELECT es_save_snapshot('Life-1', 3, '1') $$);
SELECT version FROM es_append('Life-1', 'T', expected_version => 0);
SELECT outcome($$ SELECT es_save_snapshot('Life-1', 11, '1') $$), outcome($$ SELECT es_save_snapshot('Life-1', 12, '"twelve"') $$);
SELECT * FROM loaded('Life-1');
SELECT es_tombstone_stream('Life-1');
SELECT * FROM loaded('Life-1');
SELECT count(*) FROM eventstore.snapshots WHERE stream = 'Life-1';


-- ---- aggregates ----

CREATE FUNCTION collect(state jsonb, event es_event) RETURNS jsonb LANGUAGE sql AS $$ SELECT state || to_jsonb(event.version) $$;
SELECT count(*)
FROM es_append_batch(array_fill('Agg-1'::text, '{6}'), array_fill('T'::text, '{6}'), array_fill('1'::jsonb, '{6}'),
    created_at => (SELECT array_agg('2020-01-01 00:00+00'::timestamptz + i * '1 day'::interval) FROM generate_series(0, 5) i));
SELECT es_aggregate('Agg-1', 'collect', '[]');
SELECT es_save_snapshot('Agg-1', 3, '["default"]');
SELECT es_aggregate('Agg-1', 'collect', '[]');
-- That is another's; its own has its name.
SELECT es_save_snapshot('Agg-1', 2, '["own"]', 'collect');
SELECT es_aggregate('Agg-1', 'collect', '[]');
SELECT v AS up_to, es_aggregate('Agg-1', 'collect', '[]', up_to_version => v) FROM unnest('{1, 2, 3, 6, 7, 9223372036854775807}'::bigint[]) v;
-- What it was on some day; then nobody knew of the snapshots.
SELECT es_aggregate('Agg-1', 'collect', '[]', as_of => '2020-01-04 12:00+00'), es_aggregate('Agg-1', 'collect', '[]', as_of => '2019-12-31 00:00+00'),
    es_aggregate('Agg-1', 'collect', '[]', as_of => '-infinity'), es_aggregate('Agg-1', 'collect', '[]', 2, '2020-01-04 12:00+00');
SELECT es_aggregate('Agg-1', 'collect', '[]', as_of => 'infinity');
-- Of what is left.
SELECT es_truncate_stream('Agg-1', 5);
SELECT es_aggregate('Agg-1', 'collect', '[]', up_to_version => 1);
SELECT es_delete_stream('Agg-1');
SELECT es_aggregate('Agg-1', 'collect', '[]'), es_aggregate('Agg-9', 'collect', '["none"]');
SELECT version FROM es_append('Agg-1', 'T');
SELECT es_aggregate('Agg-1', 'collect', '[]');


-- ---- a reducer that is replaced ----

SELECT fill('Fold-1', 4), fill('Fold-2', 1);
CREATE FUNCTION tally(state jsonb, event es_event) RETURNS jsonb LANGUAGE sql AS $$ SELECT to_jsonb((state #>> '{}')::int + 1) $$;
SELECT es_save_snapshot('Fold-1', 3, '103', 'tally'), es_save_snapshot('Fold-1', 3, '203', 'public.tally');
SELECT es_aggregate('Fold-1', 'tally', '0'), es_aggregate('Fold-1', 'public.tally', '0'), es_aggregate('Fold-1', 'Tally', '0');
-- Nobody's reducer then: of no use to the one that has the name now.
SELECT es_save_snapshot('Fold-1', 3, '303', 'later');
CREATE FUNCTION later(state jsonb, event es_event) RETURNS jsonb LANGUAGE sql AS $$ SELECT tally(state, event) $$;
SELECT es_aggregate('Fold-1', 'later', '0');
SELECT es_save_snapshot('Fold-1', 3, '303', 'later');
SELECT es_aggregate('Fold-1', 'later', '0');
-- The same again is no other one; the body, or how it runs, makes one.
BEGIN;
CREATE OR REPLACE FUNCTION tally(state jsonb, event es_event) RETURNS jsonb LANGUAGE sql AS $$ SELECT to_jsonb((state #>> '{}')::int + 1) $$;
SELECT es_aggregate('Fold-1', 'tally', '0');
SET LOCAL search_path = pg_temp, public, pg_catalog;
SELECT es_aggregate('Fold-1', 'tally', '0');
ALTER FUNCTION tally STRICT;
SELECT es_aggregate('Fold-1', 'tally', '0');
ROLLBACK;
SELECT es_aggregate('Fold-1', 'tally', '0');
CREATE OR REPLACE FUNCTION tally(state jsonb, event es_event) RETURNS jsonb LANGUAGE sql AS $$ SELECT to_jsonb((state #>> '{}')::int + 10) $$;
SELECT es_aggregate('Fold-1', 'tally', '0'), es_aggregate('Fold-1', 'public.tally', '0'), es_aggregate('Fold-1', 'later', '0');
-- What the old one has made is replaced also by one of an older version.
SELECT es_save_snapshot('Fold-1', 2, '1000', 'tally');
SELECT es_aggregate('Fold-1', 'tally', '0'), es_aggregate('Fold-1', 'tally', '0', up_to_version => 2);
SELECT es_save_snapshot('Fold-1', 1, '10', 'tally');
SELECT version, state FROM eventstore.snapshots WHERE kind = 'tally';
-- A body that the server has parsed, and another schema's function of the same text.
CREATE SCHEMA other;
CREATE FUNCTION other.tally(state jsonb, event es_event) RETURNS jsonb RETURN to_jsonb((state #>> '{}')::int + 100);
SELECT es_save_snapshot('Fold-1', 3, '300', 'other.tally');
SELECT es_aggregate('Fold-1', 'other.tally', '7'), es_aggregate('Fold-1', 'tally', '0');
SET search_path = other, public;
SELECT es_aggregate('Fold-1', 'tally', '7');
RESET search_path;
-- Kinds that look like names, and are none that the caller could use.
CREATE ROLE regress_saver;
GRANT EXECUTE ON FUNCTION es_save_snapshot TO regress_saver;
SET ROLE regress_saver;
SELECT kind, outcome(format($$ SELECT es_save_snapshot('Fold-2', 1, '1', %L) $$, kind)) FROM unnest('{other.tally, a.b, a.b.c, "\"a", v1.2, ".", my kind, tally}'::text[]) kind;
RESET ROLE;
SELECT kind, made_by IS NOT NULL AS "of a reducer" FROM eventstore.snapshot JOIN eventstore.stream s USING (stream_key) WHERE s.name = 'Fold-2' ORDER BY kind;
DROP OWNED BY regress_saver;
DROP ROLE regress_saver;


-- ---- removed ----

SELECT es_save_snapshot('Fold-2', 1, '1'), es_save_snapshot('Fold-1', 1, '1');
SELECT stream, count(*) FROM eventstore.snapshots WHERE stream LIKE 'Fold%' GROUP BY stream ORDER BY stream;
SELECT es_delete_snapshots('tally', 'Fold-2'), es_delete_snapshots('tally', 'Fold-2'), es_delete_snapshots('tally', 'Fold-9'), es_delete_snapshots('none');
SELECT stream, kind FROM eventstore.snapshots WHERE kind LIKE 'tally' ORDER BY stream;
SELECT es_delete_snapshots('tally'), es_aggregate('Fold-1', 'tally', '0');
BEGIN;
SELECT es_delete_snapshots('default', 'Fold-1');
SELECT count(*) FROM eventstore.snapshots WHERE kind = 'default' AND stream LIKE 'Fold%';
ROLLBACK;
SELECT count(*) FROM eventstore.snapshots WHERE kind = 'default' AND stream LIKE 'Fold%';
SELECT outcome($$ SELECT es_delete_snapshots(NULL) $$), outcome($$ SELECT es_delete_snapshots('') $$), outcome($$ SELECT es_delete_snapshots('x', '') $$);
SELECT outcome($$ SELECT es_delete_snapshots('x', NULL) $$);


-- ---- errors ----

SELECT fill('Bad-1', 3);
SELECT es_truncate_stream('Bad-1', 2);
SELECT statement, outcome('SELECT ' || statement) FROM unnest(ARRAY[
    $$es_save_snapshot('Bad-1', 4, '1')$$,
    $$es_save_snapshot('Bad-1', 9223372036854775807, '1')$$,
    $$es_save_snapshot('Bad-1', 0, '1')$$,
    $$es_save_snapshot('Bad-1', -1, '1')$$,
    $$es_save_snapshot('Bad-2', 1, '1')$$,
    $$es_save_snapshot('Bad-1', 3, NULL)$$,
    $$es_save_snapshot('Bad-1', 3, '1', NULL)$$,
    $$es_save_snapshot('Bad-1', 3, '1', '')$$,
    $$es_save_snapshot('Bad-1', 3, '1', '-x')$$,
    $$es_save_snapshot('Bad-1', 3, '1', E'a\nb')$$,
    $$es_save_snapshot('Bad-1', 3, '1', repeat('x', 256))$$,
    $$es_load('Bad-1', '')$$,
    $$es_load('Bad-1', '-x')$$,
    $$es_load('Bad-1', repeat('x', 256))$$,
    $$es_save_snapshot('Bad-1', 3, '1', repeat('x', 255))$$]) statement;
BEGIN READ ONLY;
SELECT outcome($$ SELECT es_save_snapshot('Bad-1', 3, '1') $$);
SELECT * FROM loaded('Bad-1');
COMMIT;
-- Only who may.
CREATE ROLE regress_nobody;
SET ROLE regress_nobody;
SELECT outcome($$ SELECT es_save_snapshot('Bad-1', 3, '1') $$), outcome($$ SELECT es_load('Bad-1') $$), outcome($$ SELECT count(*) FROM eventstore.snapshots $$);
RESET ROLE;
GRANT EXECUTE ON FUNCTION es_load, es_save_snapshot TO regress_nobody;
SET ROLE regress_nobody;
SELECT snapshot_version, jsonb_array_length(events) FROM es_load('Bad-1', repeat('x', 255));
SELECT es_save_snapshot('Bad-1', 3, '"theirs"', 'theirs');
SELECT snapshot_version, state FROM es_load('Bad-1', 'theirs');
RESET ROLE;
DROP OWNED BY regress_nobody;
DROP ROLE regress_nobody;
