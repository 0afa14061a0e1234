-- A repeated append whose events were taken away meanwhile: the same answer before and
-- after they are removed.

-- Only when we say so: nothing is removed in the background.
ALTER SYSTEM SET eventstore.scavenge_interval = 0;
SELECT pg_reload_conf();
\c
CREATE EXTENSION eventstore;
SHOW eventstore.remember_ids;

CREATE FUNCTION id(n int) RETURNS uuid LANGUAGE sql IMMUTABLE
    AS $$ SELECT ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid $$;
CREATE FUNCTION ids(VARIADIC n int[]) RETURNS uuid[] LANGUAGE sql IMMUTABLE
    AS $$ SELECT array_agg(id(i) ORDER BY o) FROM unnest(n) WITH ORDINALITY u (i, o) $$;
CREATE FUNCTION outcome(statement text) RETURNS text
    LANGUAGE plpgsql
    AS $$
DECLARE
    answer text;
    detail text;
BEGIN
    EXECUTE statement INTO answer;
    RETURN coalesce(answer, 'none');
EXCEPTION
    WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
        RETURN SQLSTATE || coalesce(nullif(' (' || detail || ')', ' ()'), '');
END $$;
-- Events of ids, stored in one call: what it gives back.
CREATE FUNCTION put(of text, ids uuid[], data jsonb DEFAULT '{"n": 1.0, "of": [true, null, {"b": "é", "aa": -0.50}]}', type text DEFAULT 'T') RETURNS text LANGUAGE sql
    AS $$ SELECT string_agg(stream || '/' || coalesce(version::text, '?') || CASE WHEN duplicate THEN ' duplicate' ELSE ' new' END, ', ')
        FROM es_append_batch(array_fill(of, ARRAY[cardinality(ids)]), array_fill(type, ARRAY[cardinality(ids)]),
            array_fill(data, ARRAY[cardinality(ids)]), event_ids => ids) $$;
-- What repeated calls give, all taken back.
CREATE TABLE call (n int GENERATED ALWAYS AS IDENTITY, says text, statement text, answer text);
CREATE FUNCTION answers() RETURNS TABLE (n int, answer text) LANGUAGE plpgsql
    AS $$
DECLARE
    c record;
    got text[] := '{}';
BEGIN
    FOR c IN SELECT * FROM call ORDER BY call.n LOOP
        BEGIN
            got := got || outcome(c.statement);
            RAISE EXCEPTION USING ERRCODE = 'P9999';
        EXCEPTION WHEN SQLSTATE 'P9999' THEN
        END;
    END LOOP;
    RETURN QUERY SELECT o::int, a FROM unnest(got) WITH ORDINALITY u (a, o);
END $$;

-- ---- alike before and after ----

SELECT put('Deleted-1', ids(11, 12)), put('Truncated-1', ids(21, 22, 23)), put('Tombstoned-1', ids(31)), put('Counted-1', ids(41, 42)),
    put('Counted-1', ids(43)), put('Aged-1', ids(51, 52)), put('Kept-1', ids(61)), put('Again-1', ids(71));
SELECT * FROM es_append_batch('{Old-1,Old-1}', '{T,T}', '{1,2}', event_ids => ids(81, 82), created_at => ARRAY[now() - '1 year'::interval, now()]);
SELECT es_delete_stream('Deleted-1'), es_truncate_stream('Truncated-1', 3), es_tombstone_stream('Tombstoned-1'), es_delete_stream('Again-1');
SELECT es_set_retention('Counted', max_count => 1), es_set_retention('Aged', max_age => '1 us'), es_set_retention('Old', max_age => '1 month');
SELECT put('Again-1', ids(72));

INSERT INTO call (says, statement) VALUES
    ('deleted', $$ SELECT put('Deleted-1', ids(11, 12)) $$),
    ('its last', $$ SELECT put('Deleted-1', ids(12)) $$),
    ('its first', $$ SELECT put('Deleted-1', ids(11)) $$),
    ('the data as they are the same', $$ SELECT put('Deleted-1', ids(11), '{"of": [true, null, {"aa": -0.5, "b": "é"}], "n": 1}') $$),
    ('other data', $$ SELECT put('Deleted-1', ids(11), '{"of": [true, null, {"aa": -0.5, "b": "é"}], "n": 2}') $$),
    ('other data', $$ SELECT put('Deleted-1', ids(11), '{"of": [[true, null, {"aa": -0.5, "b": "é"}]], "n": 1}') $$),
    ('other data', $$ SELECT put('Deleted-1', ids(11), '{"of": [true, null, {"aa": -0.5}, "b", "é"], "n": 1}') $$),
    ('other type', $$ SELECT put('Deleted-1', ids(11), type => 'U') $$),
    ('other stream', $$ SELECT put('Deleted-2', ids(11)) $$),
    ('other order', $$ SELECT put('Deleted-1', ids(12, 11)) $$),
    ('twice', $$ SELECT put('Deleted-1', ids(11, 11)) $$),
    ('one that never was', $$ SELECT put('Deleted-1', ids(11, 13)) $$),
    ('one that never was', $$ SELECT put('Deleted-1', ids(10, 11)) $$),
    ('one more', $$ SELECT put('Deleted-1', ids(11, 12, 13)) $$),
    ('expected version', $$ SELECT version || ' ' || duplicate FROM es_append('Deleted-1', 'T', '{"n": 1.0, "of": [true, null, {"b": "é", "aa": -0.50}]}', 99, event_id => id(12)) $$),
    ('truncated', $$ SELECT put('Truncated-1', ids(21, 22, 23)) $$),
    ('truncated', $$ SELECT put('Truncated-1', ids(21, 22)) $$),
    ('truncated', $$ SELECT put('Truncated-1', ids(23)) $$),
    ('tombstoned', $$ SELECT put('Tombstoned-1', ids(31)) $$),
    ('tombstoned, other data', $$ SELECT put('Tombstoned-1', ids(31), '2') $$),
    ('tombstoned, new', $$ SELECT put('Tombstoned-1', ids(32)) $$),
    ('max_count', $$ SELECT put('Counted-1', ids(41, 42)) $$),
    ('max_count', $$ SELECT put('Counted-1', ids(42, 43)) $$),
    ('max_count', $$ SELECT put('Counted-1', ids(41, 43)) $$),
    ('max_age', $$ SELECT put('Aged-1', ids(51, 52)) $$),
    ('max_age, imported', $$ SELECT version || ' ' || duplicate FROM es_append_batch('{Old-1,Old-1}', '{T,T}', '{1,2}', event_ids => ids(81, 82)) $$),
    ('not taken away', $$ SELECT put('Kept-1', ids(61)) $$),
    ('written again since', $$ SELECT put('Again-1', ids(71)) $$),
    ('written again since', $$ SELECT put('Again-1', ids(71, 72)) $$);
UPDATE call SET answer = a.answer FROM answers() a WHERE a.n = call.n;
SELECT n, says, answer FROM call ORDER BY n;
-- In one transaction with the removal, and after it; through savepoints.
BEGIN;
SELECT es_scavenge();
SELECT call.*, a.answer AS "inside" FROM call JOIN answers() a USING (n) WHERE a.answer <> call.answer;
SAVEPOINT s;
SELECT es_delete_stream('Kept-1'), es_scavenge();
SELECT put('Kept-1', ids(61)), put('Kept-1', ids(62));
ROLLBACK TO s;
SELECT put('Kept-1', ids(61));
ROLLBACK;
SELECT call.*, a.answer AS "taken back" FROM call JOIN answers() a USING (n) WHERE a.answer <> call.answer;
SELECT es_scavenge();
SELECT call.*, a.answer AS "after" FROM call JOIN answers() a USING (n) WHERE a.answer <> call.answer;
SELECT stream, array_agg(version ORDER BY version) AS stored FROM eventstore.event_log GROUP BY stream ORDER BY stream;
-- The positions, too.
SELECT position, duplicate FROM es_append('Tombstoned-1', 'T', '{"n": 1.0, "of": [true, null, {"b": "é", "aa": -0.50}]}', event_id => id(31));
SELECT s.name AS stream, r.version, r.position, octet_length(r.digest) AS digest, r.taken_at BETWEEN now() - '1 h'::interval AND now() AS taken FROM eventstore.removed_id r JOIN eventstore.stream s USING (stream_key) ORDER BY position;

-- ---- forgotten ----

ALTER SYSTEM SET eventstore.remember_ids = '10 s';
SELECT pg_reload_conf();
\c
SHOW eventstore.remember_ids;
-- As if that were long ago: what was taken away, and for how long it has been remembered.
CREATE PROCEDURE let_time_pass() LANGUAGE sql
    AS $$
    UPDATE eventstore.removed_id SET taken_at = taken_at - '10 s'::interval;
    UPDATE eventstore.hidden SET hidden_at = hidden_at - '10 s'::interval;
    $$;
SELECT put('Late-1', ids(101, 102, 103)), put('Late-2', ids(111, 112)), put('Late-3', ids(121)), put('Late-4', ids(131));
SELECT es_delete_stream('Late-1'), es_truncate_stream('Late-2', 2), es_tombstone_stream('Late-3');
CALL let_time_pass();
TRUNCATE call RESTART IDENTITY;
INSERT INTO call (says, statement) VALUES
    ('deleted', $$ SELECT put('Late-1', ids(101, 102, 103)) $$),
    ('its last', $$ SELECT put('Late-1', ids(103)) $$),
    ('other data', $$ SELECT put('Late-1', ids(102), '2') $$),
    ('other stream', $$ SELECT put('Late-5', ids(102)) $$),
    ('other order, and new ones', $$ SELECT put('Late-1', ids(103, 104, 101)) $$),
    ('all of it, then again', $$ SELECT put('Late-1', ids(101, 102, 103)) || ', then ' || put('Late-1', ids(101, 102, 103)) $$),
    ('what still stands of it is known', $$ SELECT put('Late-2', ids(111, 112)) $$),
    ('what still stands of it is known', $$ SELECT put('Late-2', ids(112)) $$),
    ('only what is forgotten', $$ SELECT put('Late-2', ids(111)) $$),
    ('another one before', $$ SELECT put('Late-2', ids(113, 112)) $$),
    ('one more', $$ SELECT put('Late-2', ids(111, 112, 113)) $$),
    ('two before', $$ SELECT put('Late-2', ids(110, 111, 112)) $$),
    ('tombstoned', $$ SELECT put('Late-3', ids(121)) $$),
    ('removed before', $$ SELECT put('Deleted-1', ids(11, 12)) $$),
    ('removed before, by a rule', $$ SELECT put('Counted-1', ids(41, 42)) $$),
    ('removed before, by a rule', $$ SELECT put('Counted-1', ids(42, 43)) $$),
    ('two streams', $$ SELECT string_agg(stream || '/' || coalesce(version::text, '?') || ' ' || duplicate, ', ')
        FROM es_append_batch('{Late-6,Late-7}', '{T,T}', '{1,2}', event_ids => ids(141, 142)) $$),
    ('two streams, one new', $$ SELECT string_agg(stream || '/' || coalesce(version::text, '?') || ' ' || duplicate, ', ')
        FROM es_append_batch('{Late-4,Late-7}', '{T,T}', '{1,2}', event_ids => ids(132, 142)) $$),
    ('two streams, the other new', $$ SELECT string_agg(stream || '/' || coalesce(version::text, '?') || ' ' || duplicate, ', ')
        FROM es_append_batch('{New-1,Late-7}', '{T,T}', '{1,2}', event_ids => ids(132, 142)) $$);
SELECT stream, version, duplicate FROM es_append_batch('{Late-6,Late-7}', '{T,T}', '{1,2}', event_ids => ids(141, 142));
SELECT es_delete_stream('Late-6');
CALL let_time_pass();
UPDATE call SET answer = a.answer FROM answers() a WHERE a.n = call.n;
-- Of a stream of which nothing is remembered the version is not known.
SELECT n, says, answer FROM call ORDER BY n;
SELECT es_scavenge();
SELECT call.n, call.says, call.answer, a.answer AS "after" FROM call JOIN answers() a USING (n) WHERE a.answer <> call.answer;
SELECT count(*) FROM eventstore.removed_id;

-- What gives way is gone for good.
SELECT put('Way-1', ids(201, 202)), put('Way-2', ids(211));
SELECT es_delete_stream('Way-1');
CALL let_time_pass();
SELECT put('Way-1', ids(201)), put('Way-2', ids(202));
SELECT stream, version, event_id FROM es_read_all(categories => '{Way}');
SELECT es_scavenge();
SELECT stream, version, event_id FROM es_read_all(categories => '{Way}');
-- An append that fails takes nothing away.
SELECT es_delete_stream('Way-2');
CALL let_time_pass();
SELECT outcome($$ SELECT es_append('Way-2', 'T', expected_version => 9, event_id => id(202)) $$);
SELECT count(*) FROM eventstore.event_log WHERE event_id = id(202);

-- ---- not remembered at all ----

ALTER SYSTEM SET eventstore.remember_ids = 0;
SELECT pg_reload_conf();
\c
SELECT put('Short-1', ids(301));
SELECT es_delete_stream('Short-1');
SELECT put('Short-1', ids(301));
SELECT put('Short-1', ids(301));
SELECT es_delete_stream('Short-1');
SELECT es_scavenge() > 0 AS removed;
SELECT count(*) FROM eventstore.removed_id;
SELECT put('Short-1', ids(301));
