-- What the functions make of input that is wrong: a clear error, before anything
-- is locked or written.

CREATE EXTENSION eventstore;

SELECT version FROM es_append('Order-1', 'Placed', '{"n": 1}', tags => ARRAY['a']);

CREATE FUNCTION outcome(statement text) RETURNS text
    LANGUAGE plpgsql
    AS $$
DECLARE
    answer text;
BEGIN
    EXECUTE statement INTO answer;
    RETURN coalesce('ok: ' || answer, 'ok');
EXCEPTION
    WHEN OTHERS THEN
        RETURN SQLSTATE || ': ' || left(SQLERRM, 150);
END $$;


-- ---- null ----

-- Every function, with null for each of its arguments in turn.
CREATE TABLE call (n int GENERATED ALWAYS AS IDENTITY, name text, arguments text[]);
INSERT INTO call (name, arguments) VALUES
    ('es_append', ARRAY['''Order-1''', '''T''', '''{}''', '-4', '''{}''', 'gen_random_uuid()', '''{a}''', '1', 'NULL', '''x''', '''a/b''']),
    ('es_append_events', ARRAY['''Order-1''', '''[{"type": "T"}]''', '-4', 'NULL']),
    ('es_append_batch', ARRAY['''{Order-1}''', '''{T}''', '''{"{}"}''', '''{-4}''', '''{"{}"}''', 'ARRAY[gen_random_uuid()]', '''{now}''',
        '''{"[\"a\"]"}''', '''{1}''', '''{"query": [{"tags": ["unheard"]}]}''', '''{"x"}''', '''{a/b}''']),
    ('es_check_version', ARRAY['''Order-1''', '-4']),
    ('es_head', '{}'),
    ('es_epoch', '{}'),
    ('es_wait', ARRAY['0', '''0 s''']),
    ('es_stream_version', ARRAY['''Order-1''']),
    ('es_category', ARRAY['''Order-1''']),
    ('es_slot', ARRAY['''Order-1''']),
    ('es_set_boundary', ARRAY['''+''']),
    ('es_position_at', ARRAY['''-infinity''']),
    ('es_read_stream', ARRAY['''Order-1''', '1', '1', 'false', '''{Placed}''']),
    ('es_read_all', ARRAY['0', '1', '''{Placed}''', '''{Order}''', 'false', '''0 s''', '1000000']),
    ('es_read_category', ARRAY['''Order''', '0', '1', '0', '1', '''0 s''', '''+''']),
    ('es_read_correlation', ARRAY['''x''', '1', '0', '''correlation_id''']),
    ('es_read_event', ARRAY['''019b7ca9-8f2e-7e6a-8e9e-9c21ca8e4bf7''']),
    ('es_query', ARRAY['''[{}]''', '0', '1', '''0 s''', 'false', '1000000']),
    ('es_create_projection', ARRAY['''orders''', '''handle''', 'NULL', 'NULL', '''async''', '''{Placed}''', '''{Order}''', '''stream''', '0',
        '1', '''stop''', '0', '''''', 'true', 'NULL']),
    ('es_alter_projection', ARRAY['''orders''', '1', '''stop''', '0', '''''', 'current_user']),
    ('es_pause_projection', ARRAY['''orders''']),
    ('es_resume_projection', ARRAY['''orders''', 'false']),
    ('es_rebuild_projection', ARRAY['''orders''']),
    ('es_run_projection', ARRAY['''orders''', '0']),
    ('es_wait_for_projection', ARRAY['''orders''', '0', '''1 s''']),
    ('es_retry_dead_letters', ARRAY['''orders''', '''{1}''']),
    ('es_projection_state', ARRAY['''totals''', '''Order-1''']),
    ('es_drop_projection', ARRAY['''orders''']),
    ('es_load', ARRAY['''Order-1''', '''default''']),
    ('es_save_snapshot', ARRAY['''Order-1''', '1', '''{}''', '''default''']),
    ('es_delete_snapshots', ARRAY['''default''', '''Order-1''']),
    ('es_truncate_stream', ARRAY['''Order-1''', '1']),
    ('es_delete_stream', ARRAY['''Gone-1''', '0']),
    ('es_tombstone_stream', ARRAY['''Gone-2''', '0']),
    ('es_set_retention', ARRAY['''Gone''', '1', '''1 day''']),
    ('es_scavenge', '{}'),
    ('es_check', '{}'),
    ('es_reset', '{}'),
    ('es_register_upcaster', ARRAY['''Gone''', '1', '''upcast''', '''Went''', '1']),
    ('es_aggregate', ARRAY['''Order-1''', '''reduce''', '''{}''', '1', '''infinity''']),
    ('es_create_subscription', ARRAY['''mail''', '''{Placed}''', '''{Order}''', '0', '1', '''1 h''', '1', 'true', 'NULL']),
    ('es_alter_subscription', ARRAY['''mail''', '''1 h''', '1']),
    ('es_fetch', ARRAY['''mail''', '''me''', '1', '''0 s''']),
    ('es_ack', ARRAY['''mail''', '''me''', '''{}''']),
    ('es_nack', ARRAY['''mail''', '''me''', '''{}''', '''skip''', '''why''']),
    ('es_replay_parked', ARRAY['''mail''', '''{1}''']),
    ('es_discard_parked', ARRAY['''mail''', '''{1}''']),
    ('es_seek_subscription', ARRAY['''mail''', '0']),
    ('es_drop_subscription', ARRAY['''mail''']);
CREATE FUNCTION handle(event es_event) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION upcast(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT data';
CREATE FUNCTION reduce(state jsonb, event es_event) RETURNS jsonb LANGUAGE sql AS 'SELECT state';
SELECT es_create_projection('totals', reducer => 'reduce');

SELECT c.name, p.proargnames[i] AS argument,
    outcome(format('SELECT count(*) >= 0 FROM %s(%s)', c.name,
        (SELECT string_agg(CASE WHEN o = i THEN 'NULL' ELSE a END, ', ' ORDER BY o) FROM unnest(c.arguments) WITH ORDINALITY u (a, o)))) AS outcome
FROM call c
JOIN pg_proc p ON p.proname = c.name,
    generate_series(1, cardinality(c.arguments)) i
ORDER BY c.n, i;

-- None has been forgotten.
SELECT p.proname AS missing, p.pronargs
FROM pg_proc p
JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
LEFT JOIN call c ON c.name = p.proname AND cardinality(c.arguments) = p.pronargs
WHERE p.pronamespace = 'public'::regnamespace AND c.n IS NULL;

-- Null as an element.
SELECT statement, outcome(statement)
FROM unnest(ARRAY[
    $$SELECT version FROM es_append('Order-2', 'T', tags => '{a, NULL}')$$,
    $$SELECT version FROM es_append_batch('{NULL}', '{T}', '{1}')$$,
    $$SELECT version FROM es_append_batch('{Order-2}', '{NULL}', '{1}')$$,
    $$SELECT version FROM es_append_batch('{Order-2}', '{T}', '{NULL}')$$,
    $$SELECT version FROM es_append_batch('{Null-1}', '{T}', '{1}', '{NULL}', '{NULL}', '{NULL}', '{NULL}', '{NULL}', '{NULL}')$$,
    $$SELECT count(*) FROM es_read_stream('Order-1', types => '{NULL}')$$,
    $$SELECT count(*) FROM es_read_all(types => '{Placed, NULL}')$$,
    $$SELECT count(*) FROM es_read_all(categories => '{NULL, Order}')$$,
    $$SELECT es_create_projection('nulls', 'handle', types => '{Placed, NULL}')$$,
    $$SELECT es_create_projection('nulls', 'handle', categories => '{NULL, Order}')$$,
    $$SELECT es_retry_dead_letters('totals', '{1, NULL}')$$]) statement;


-- ---- names ----

-- 1 to 255 characters, however many bytes; no control characters; no '-' in front.
CREATE TABLE name (n int GENERATED ALWAYS AS IDENTITY, says text, name text);
INSERT INTO name (says, name) VALUES
    ('empty', ''),
    ('one character', 'x'),
    ('255', repeat('x', 255)),
    ('256', repeat('x', 256)),
    ('255, of 4 bytes each', repeat('🚀', 255)),
    ('256, of 4 bytes each', repeat('🚀', 256)),
    ('a million', repeat('x', 1000000)),
    ('line feed', E'a\nb'),
    ('tab at the end', E'a\t'),
    ('U+0001', E'\x01'),
    ('delete', E'a\x7Fb'),
    ('U+0085', U&'a\0085b'),
    ('dash', '-'),
    ('dash in front', '-Order-1'),
    ('space in front', ' -Order-1'),
    ('dash inside', 'Order--1'),
    ('dash at the end', 'Order-');
SELECT says,
    outcome(format('SELECT version FROM es_append(%L, ''T'')', name)) AS "as a stream",
    outcome(format('SELECT version FROM es_append(%L, %L)', 'Type-' || n, name)) AS "as a type"
FROM name ORDER BY n;

-- The same everywhere.
SELECT says,
    outcome(format('SELECT version FROM es_append_events(%L, ''[{"type": "T"}]'')', name)) AS "in es_append_events()",
    outcome(format('SELECT version FROM es_append_batch(ARRAY[%L], ''{T}'', ''{1}'')', name)) AS "in es_append_batch()",
    outcome(format('SELECT es_check_version(%L, NULL) > 0', name)) AS "in es_check_version()"
FROM name ORDER BY n;
SELECT says,
    outcome(format('SELECT version FROM es_append_events(%L, jsonb_build_array(jsonb_build_object(''type'', %L)))', 'Events-' || n, name)) AS "in es_append_events()",
    outcome(format('SELECT version FROM es_append_batch(ARRAY[%L], ARRAY[%L], ''{1}'')', 'Batch-' || n, name)) AS "in es_append_batch()"
FROM name ORDER BY n;

-- To ask for what cannot be there is no error.
SELECT says,
    outcome(format('SELECT count(*) > 0 FROM es_read_stream(%L)', name)) AS stream,
    outcome(format('SELECT count(*) > 0 FROM es_read_all(types => ARRAY[%L])', name)) AS type,
    outcome(format('SELECT count(*) > 0 FROM es_read_category(%L)', name)) AS category
FROM name ORDER BY n;

-- A projection's name is such a name, too.
SELECT says, outcome(format('SELECT es_create_projection(%L, ''handle'')', name)) AS "as a projection",
    left(outcome(format('SELECT es_drop_projection(%L)', name)), 5) AS dropped
FROM name ORDER BY n;

-- What cannot be there, is not there.
SELECT es_wait_for_projection('totals', timeout => '60 s');
SELECT says, left(outcome(format('SELECT es_projection_state(%L, ''Order-1'')', name)), 5) AS projection,
    outcome(format('SELECT es_projection_state(''totals'', %L)', name)) AS key,
    outcome(format('SELECT es_aggregate(%L, ''reduce'')', name)) AS stream
FROM name ORDER BY n;
SELECT name, outcome(format('SELECT %s(''nobody'')', name))
FROM unnest(ARRAY['es_alter_projection', 'es_drop_projection', 'es_pause_projection', 'es_resume_projection', 'es_rebuild_projection', 'es_run_projection',
    'es_wait_for_projection', 'es_retry_dead_letters']) name;


-- ---- arrays ----

SELECT statement, outcome(statement)
FROM unnest(ARRAY[
    -- of unequal length
    $$SELECT version FROM es_append_batch('{Order-2, Order-3}', '{T}', '{1}')$$,
    $$SELECT version FROM es_append_batch('{Order-2}', '{T, T}', '{1, 1}')$$,
    $$SELECT version FROM es_append_batch('{Order-2}', '{T}', '{1, 1}')$$,
    $$SELECT version FROM es_append_batch('{Order-2}', '{T}', '{1}', '{}')$$,
    $$SELECT version FROM es_append_batch('{Order-2}', '{T}', '{1}', metadata => '{NULL, NULL}')$$,
    $$SELECT version FROM es_append_batch('{Order-2}', '{T}', '{1}', event_ids => '{}')$$,
    $$SELECT version FROM es_append_batch('{Order-2}', '{T}', '{1}', created_at => '{now, now}')$$,
    $$SELECT version FROM es_append_batch('{Order-2}', '{T}', '{1}', tags => '{}')$$,
    $$SELECT version FROM es_append_batch('{Order-2}', '{T}', '{1}', schema_versions => '{1, 1}')$$,
    $$SELECT version FROM es_append_batch('{}', '{}', '{}', '{0}')$$,
    -- of arrays
    $$SELECT version FROM es_append_batch('{{Order-2}}', '{{T}}', '{{1}}')$$,
    $$SELECT version FROM es_append_batch('{{Order-2, Order-3}}', '{T, T}', '{1, 1}')$$,
    $$SELECT version FROM es_append_batch('{Order-2}', '{{T}}', '{1}')$$,
    $$SELECT version FROM es_append_batch('{Order-2}', '{T}', '{{1}}')$$,
    $$SELECT version FROM es_append_batch('{Order-2}', '{T}', '{1}', '{{0}}')$$,
    $$SELECT version FROM es_append_batch('{Order-2}', '{T}', '{1}', metadata => '{{NULL}}')$$,
    $$SELECT version FROM es_append_batch('{Order-2}', '{T}', '{1}', event_ids => '{{NULL}}')$$,
    $$SELECT version FROM es_append_batch('{Order-2}', '{T}', '{1}', created_at => '{{NULL}}')$$,
    $$SELECT version FROM es_append_batch('{Order-2}', '{T}', '{1}', tags => '{{NULL}}')$$,
    $$SELECT version FROM es_append_batch('{Order-2}', '{T}', '{1}', schema_versions => '{{1}}')$$,
    $$SELECT version FROM es_append('Order-2', 'T', tags => '{{a, b}, {c, d}}')$$,
    $$SELECT count(*) FROM es_read_stream('Order-1', types => '{{Placed}}')$$,
    $$SELECT count(*) FROM es_read_all(types => '{{Placed}}')$$,
    $$SELECT count(*) FROM es_read_all(categories => '{{Order}}')$$,
    $$SELECT es_create_projection('arrays', 'handle', types => '{{Placed}}')$$,
    $$SELECT es_create_projection('arrays', 'handle', categories => '{{Order}}')$$,
    $$SELECT es_retry_dead_letters('totals', '{{1}}')$$,
    -- of nothing
    $$SELECT es_create_projection('arrays', 'handle', types => '{}')$$,
    $$SELECT es_create_projection('arrays of nothing', 'handle', categories => '{}')$$,
    $$SELECT es_retry_dead_letters('totals', '{}')$$]) statement;

-- Where an array begins to count, does not matter.
SELECT stream, version
FROM es_append_batch('[0:1]={Low-1, Low-1}', '[7:8]={A, B}', '[-1:0]={1, 2}', '[0:1]={0, 1}', created_at => '[3:4]={now, NULL}')
ORDER BY stream;
SELECT version FROM es_append('Low-1', 'C', '3', tags => '[5:6]={a, b}');
SELECT version, type, data, tags[1] FROM es_read_stream('Low-1', types => '[0:2]={A, B, C}');
BEGIN;
SELECT es_create_projection('low', 'handle', types => '[0:1]={A, C}', categories => '[-1:-1]={Low}');
SELECT es_run_projection('low'), es_retry_dead_letters('low', '[-5:-4]={1, 2}');
ROLLBACK;


-- ---- JSON ----

-- The events of es_append_events(): an array of objects with known keys, each of
-- its type.
SELECT events, outcome(format('SELECT version FROM es_append_events(''Json-1'', %L)', events))
FROM unnest(ARRAY[
    '{}', '{"type": "T"}', '"T"', '1', 'null', '[1]', '["T"]', '[null]', '[[]]', '[[{"type": "T"}]]', '[{}]',
    '[{"type": null}]', '[{"type": 1}]', '[{"type": ["T"]}]', '[{"Type": "T"}]', '[{"type": "T", "": 1}]',
    '[{"type": "T", "id": 1}]', '[{"type": "T", "stream": "Order-1"}]', '[{"type": "T", "version": 1}]', '[{"type": "T", "created_at": "now"}]',
    '[{"type": "T", "metadata": []}]', '[{"type": "T", "metadata": "x"}]', '[{"type": "T", "metadata": 1}]',
    '[{"type": "T", "event_id": 1}]', '[{"type": "T", "event_id": ""}]', '[{"type": "T", "event_id": "0b8a3a2e-6a58-4a5f-8f34-2d1a0f0c1e0"}]',
    '[{"type": "T", "event_id": {}}]',
    '[{"type": "T", "tags": "a"}]', '[{"type": "T", "tags": {}}]', '[{"type": "T", "tags": [1]}]', '[{"type": "T", "tags": [null]}]',
    '[{"type": "T", "tags": [["a"]]}]', '[{"type": "T", "tags": [""]}]',
    '[{"type": "T", "schema_version": "1"}]', '[{"type": "T", "schema_version": 1.5}]', '[{"type": "T", "schema_version": true}]',
    '[{"type": "T", "schema_version": 0}]']) events;
SELECT events, left(outcome(format('SELECT version FROM es_append_events(''Json-1'', %L)', events)), 5) AS outcome
FROM unnest(ARRAY[
    '[{"type": "T", "schema_version": 2147483648}]', '[{"type": "T", "schema_version": -2147483649}]',
    '[{"type": "T", "schema_version": 9223372036854775808}]', '[{"type": "T", "schema_version": 1e400}]']) events;

-- Keys are told apart also where they are odd.
SELECT outcome(format('SELECT version FROM es_append_events(''Json-1'', %L)', jsonb_build_array(jsonb_build_object('type', 'T', key, 1))))
FROM unnest(ARRAY['tags ', 'Tags', 'typ', 'types', U&'d\0430ta', '🚀', repeat('k', 200)]) key;

-- Those of the other functions.
SELECT statement, outcome(statement)
FROM unnest(ARRAY[
    $$SELECT version FROM es_append('Json-2', 'T', metadata => '[]')$$,
    $$SELECT version FROM es_append('Json-2', 'T', metadata => '"x"')$$,
    $$SELECT version FROM es_append('Json-2', 'T', metadata => 'null')$$,
    $$SELECT version FROM es_append_batch('{Json-2}', '{T}', '{1}', metadata => '{1}')$$,
    $$SELECT version FROM es_append_batch('{Json-2}', '{T}', '{1}', metadata => '{"[]"}')$$,
    $$SELECT version FROM es_append_batch('{Json-2}', '{T}', '{1}', tags => '{"{}"}')$$,
    $$SELECT version FROM es_append_batch('{Json-2}', '{T}', '{1}', tags => '{"\"a\""}')$$,
    $$SELECT version FROM es_append_batch('{Json-2}', '{T}', '{1}', tags => '{"[1]"}')$$,
    $$SELECT version FROM es_append_batch('{Json-2}', '{T}', '{1}', tags => '{"[null]"}')$$,
    $$SELECT version FROM es_append_batch('{Json-2}', '{T}', '{1}', tags => '{"[[\"a\"]]"}')$$,
    $$SELECT version FROM es_append_batch('{Json-2}', '{T}', '{1}', tags => '{"[\"\"]"}')$$]) statement;
SELECT es_stream_version('Json-1'), es_stream_version('Json-2');

-- What is no JSON or no UUID does not come as far as here.
SELECT left(outcome(format('SELECT version FROM es_append(''Json-3'', ''T'', %L)', data)), 5) AS outcome, left(data, 30) AS data
FROM unnest(ARRAY['', '{', '{"a": 1', '{a: 1}', '[1,]', '"\u0000"', '"\ud83d"', '"\ude80\ud83d"', '"\x"', 'NaN', '1e400000', repeat('[', 100000),
    repeat('[', 100000) || repeat(']', 100000)]) data;
SELECT left(outcome(format('SELECT version FROM es_append(''Json-3'', ''T'', event_id => %L)', id)), 5) AS outcome, id
FROM unnest(ARRAY['', 'x', '0b8a3a2e-6a58-4a5f-8f34-2d1a0f0c1e0', '0b8a3a2e-6a58-4a5f-8f34-2d1a0f0c1e01x']) id;

-- What is JSON comes back as it went in.
SELECT version, left(data::text, 40) AS data, length(data::text)
FROM unnest(ARRAY['{"a": {"a": {"a": []}}}', '"\u00e9\ud83d\ude80"', '1e400', '-0.0', '1.10', '""', '{"": ""}', '[]']) WITH ORDINALITY d (data, n),
    LATERAL es_append('Json-4', 'T', data::jsonb, n - 1);
SELECT version, left(data::text, 40) AS data, length(data::text) FROM es_read_stream('Json-4');
SELECT version FROM es_append('Json-5', 'T', (repeat('[', 1000) || repeat(']', 1000))::jsonb);
SELECT data::text = repeat('[', 1000) || repeat(']', 1000) AS same FROM es_read_stream('Json-5');


-- ---- numbers ----

SELECT statement, outcome(statement)
FROM unnest(ARRAY[
    $$SELECT count(*) FROM es_read_stream('Order-1', -1)$$,
    $$SELECT count(*) FROM es_read_stream('Order-1', -9223372036854775808)$$,
    $$SELECT count(*) FROM es_read_stream('Order-1', -9223372036854775808, backwards => true)$$,
    $$SELECT count(*) > 0 FROM es_read_stream('Order-1', 0)$$,
    $$SELECT count(*) FROM es_read_stream('Order-1', 9223372036854775807)$$,
    $$SELECT count(*) FROM es_read_stream('Order-1', 9223372036854775807, 1, true)$$,
    $$SELECT count(*) FROM es_read_stream('Order-1', max_count => -1)$$,
    $$SELECT count(*) FROM es_read_stream('Order-1', max_count => -2147483648)$$,
    $$SELECT count(*) > 0 FROM es_read_stream('Order-1', max_count => 2147483647)$$,
    $$SELECT count(*) FROM es_read_all(-1)$$,
    $$SELECT count(*) FROM es_read_all(-9223372036854775808)$$,
    $$SELECT count(*) FROM es_read_all(-1, backwards => true)$$,
    $$SELECT count(*) FROM es_read_all(max_count => -1)$$,
    $$SELECT count(*) > 0 FROM es_read_all(max_count => 2147483647)$$,
    $$SELECT count(*) FROM es_read_category('Order', -1)$$,
    $$SELECT count(*) FROM es_read_category('Order', max_count => -1)$$,
    $$SELECT count(*) > 0 FROM es_read_category('Order', max_count => 2147483647)$$,
    $$SELECT count(*) FROM es_read_correlation('x', -1)$$,
    $$SELECT es_wait(-1)$$,
    $$SELECT es_wait(-9223372036854775808)$$,
    $$SELECT es_wait(9223372036854775807, '0 s')$$,
    $$SELECT version FROM es_append('Order-2', 'T', schema_version => 0)$$,
    $$SELECT version FROM es_append('Order-2', 'T', schema_version => -1)$$,
    $$SELECT version FROM es_append('Number-1', 'T', schema_version => 2147483647)$$,
    $$SELECT version FROM es_append_events('Order-3', '[{"type": "T", "schema_version": -1}]')$$,
    $$SELECT version FROM es_append_batch('{Order-3}', '{T}', '{1}', schema_versions => '{-1}')$$,
    $$SELECT version FROM es_append_batch('{Order-3}', '{T}', '{1}', '{-2}')$$,
    $$SELECT version FROM es_append_batch('{Order-3}', '{T}', '{1}', '{9223372036854775807}')$$,
    $$SELECT version FROM es_append_batch('{Order-3}', '{T}', '{1}', '{-9223372036854775808}')$$,
    $$SELECT es_create_projection('numbers', 'handle', start_after => -1)$$,
    $$SELECT es_create_projection('numbers', 'handle', start_after => -9223372036854775808)$$,
    $$SELECT es_create_projection('numbers', 'handle', start_after => 9223372036854775807)$$,
    $$SELECT es_create_projection('numbers', 'handle', batch_size => 0)$$,
    $$SELECT es_create_projection('numbers', 'handle', batch_size => -1)$$,
    $$SELECT es_create_projection('numbers', 'handle', batch_size => -2147483648)$$,
    $$SELECT es_create_projection('numbers', 'handle', max_retries => -1)$$,
    $$SELECT es_create_projection('numbers', 'handle', max_retries => -2147483648)$$,
    $$SELECT es_alter_projection('totals', batch_size => 0)$$,
    $$SELECT es_alter_projection('totals', batch_size => -2147483648)$$,
    $$SELECT es_alter_projection('totals', max_retries => -1)$$,
    $$SELECT es_alter_projection('totals', batch_size => 2147483647, max_retries => 2147483647)$$,
    $$SELECT es_run_projection('totals', -1)$$,
    $$SELECT es_run_projection('totals', -9223372036854775808)$$,
    $$SELECT es_run_projection('totals', 9223372036854775807) >= 0$$,
    $$SELECT es_wait_for_projection('totals', -1)$$,
    $$SELECT es_wait_for_projection('totals', -9223372036854775808)$$,
    $$SELECT es_wait_for_projection('totals', 9223372036854775807, '0 s')$$,
    $$SELECT es_retry_dead_letters('totals', '{0}')$$,
    $$SELECT es_retry_dead_letters('totals', '{-1, 9223372036854775807}')$$,
    $$SELECT es_aggregate('Order-1', 'reduce', up_to_version => -1)$$,
    $$SELECT es_aggregate('Order-1', 'reduce', up_to_version => 0)$$,
    $$SELECT es_aggregate('Order-1', 'reduce', up_to_version => 9223372036854775807)$$,
    $$SELECT es_aggregate('Order-1', 'reduce', as_of => '-infinity')$$,
    $$SELECT es_aggregate('Order-1', 'reduce', as_of => 'infinity')$$]) statement;

-- Times to wait.
SELECT statement, outcome(statement)
FROM unnest(ARRAY[
    $$SELECT es_wait(0, '-1 s')$$,
    $$SELECT es_wait(0, '60 s')$$,
    $$SELECT count(*) > 0 FROM es_read_all(wait => '60 s')$$,
    $$SELECT count(*) FROM es_read_all(wait => '-1 s')$$,
    $$SELECT count(*) FROM es_read_all(wait => '60.001 s')$$,
    $$SELECT count(*) FROM es_read_all(wait => '1 month')$$,
    $$SELECT count(*) FROM es_read_category('Order', wait => '-1 s')$$,
    $$SELECT count(*) FROM es_read_category('Order', wait => '61 s')$$,
    $$SELECT es_wait_for_projection('totals', 1, '-1 s')$$,
    $$SELECT es_wait_for_projection('totals', 0, '60 s')$$,
    $$SELECT es_wait_for_projection('totals', 0, '1 month')$$]) statement;
SELECT statement, outcome(statement) ~ '^22' AS refused
FROM unnest(ARRAY[
    $$SELECT es_wait(0, '-178000000 years')$$,
    $$SELECT count(*) FROM es_read_all(wait => '178000000 years')$$,
    $$SELECT count(*) FROM es_read_all(wait => '-178000000 years')$$,
    $$SELECT count(*) FROM es_read_category('Order', wait => '178000000 years')$$,
    $$SELECT es_wait_for_projection('totals', 1, '-178000000 years')$$]) statement;
SELECT outcome($$SELECT es_wait_for_projection('totals', 0, '178000000 years')$$) ~ '^(22|ok: t)' AS "no overflow";

-- Times of events: any that there is, but no infinity.
SELECT at, outcome(format('SELECT version FROM es_append_batch(''{Time-1}'', ''{T}'', ''{1}'', created_at => ARRAY[%L::timestamptz])', at))
FROM unnest(ARRAY['4714-11-24 00:00:00+00 BC', '294276-12-31 23:59:59+00', '1970-01-01 00:00:00+00', 'infinity', '-infinity']) at;


-- ---- size ----

-- An event may be so large, and no larger.  The limit is the administrator's.
SET eventstore.max_event_size = 10000;
SELECT size, left(outcome(format('SELECT version FROM es_append(%L, ''T'', to_jsonb(repeat(''x'', %s)))', 'Size-1', size)), 5) AS append,
    left(outcome(format($$SELECT version FROM es_append_events('Size-1', jsonb_build_array(jsonb_build_object('type', 'T', 'data', repeat('x', %s))))$$, size)), 5) AS events,
    left(outcome(format($$SELECT version FROM es_append_batch('{Size-1}', '{T}', ARRAY[to_jsonb(repeat('x', %s))])$$, size)), 5) AS batch
FROM unnest(ARRAY[9000, 10001, 20000, 1000000]) size;

-- It is one threshold, the same in all functions, and near the setting; what can be
-- compressed counts as it is.
CREATE FUNCTION largest(append text) RETURNS int
    LANGUAGE plpgsql
    AS $$
DECLARE
    low int := 0;
    high int := 20000;
    middle int;
BEGIN
    WHILE high - low > 1 LOOP
        middle := (low + high) / 2;
        IF outcome(format(append, middle)) LIKE 'ok%' THEN
            low := middle;
        ELSE
            high := middle;
        END IF;
    END LOOP;
    RETURN low;
END $$;
SELECT largest($$SELECT version FROM es_append('Size-1', 'T', to_jsonb(repeat('x', %s)))$$) AS largest \gset
SELECT :largest BETWEEN 9900 AND 10000 AS near;
SELECT outcome(format($$SELECT version IS NOT NULL FROM es_append('Size-1', 'T', to_jsonb(repeat('x', %s)))$$, :largest)),
    outcome(format($$SELECT version IS NOT NULL FROM es_append('Size-1', 'T', to_jsonb(repeat('x', %s)))$$, :largest + 1)) AS "one more";
SELECT :largest - largest($$SELECT version FROM es_append_events('Size-1', jsonb_build_array(jsonb_build_object('type', 'T', 'data', repeat('x', %s))))$$) AS events,
    :largest - largest($$SELECT version FROM es_append_batch('{Size-1}', '{T}', ARRAY[to_jsonb(repeat('x', %s))])$$) AS batch;

-- Metadata, that of the setting too, and tags count.
SELECT left(outcome($$SELECT version FROM es_append('Size-1', 'T', metadata => jsonb_build_object('x', repeat('x', 10001)))$$), 5) AS metadata,
    left(outcome($$SELECT version FROM es_append('Size-1', 'T', tags => array(SELECT 'tag' || i FROM generate_series(1, 3000) i))$$), 5) AS tags,
    left(outcome($$SELECT version FROM es_append('Size-1', 'T', to_jsonb(repeat('x', 6000)), metadata => jsonb_build_object('x', repeat('x', 6000)))$$), 5) AS sum;
BEGIN;
SELECT set_config('eventstore.metadata', jsonb_build_object('x', repeat('x', 10001))::text, true) <> '' AS set;
SELECT left(outcome($$SELECT version FROM es_append('Size-1', 'T')$$), 5) AS setting;
ROLLBACK;

-- It is an event that has the limit, not a call; and one that is too large takes
-- all with it.
SELECT version > 0 AS stored FROM es_append_events('Size-2', (SELECT jsonb_agg(jsonb_build_object('type', 'T', 'data', repeat('x', 9000))) FROM generate_series(1, 50)));
SELECT es_stream_version('Size-2');
SELECT version FROM es_append_events('Size-2', (SELECT jsonb_agg(jsonb_build_object('type', 'T', 'data', repeat('x', 9000 * (i / 3)))) FROM generate_series(3, 6) i));
\echo :SQLSTATE
SELECT es_stream_version('Size-2');

-- By default it is 1 MB.
RESET eventstore.max_event_size;
SHOW eventstore.max_event_size;
SELECT left(outcome($$SELECT version FROM es_append('Size-3', 'T', to_jsonb(repeat('x', 1024 * 1024 - 100)))$$), 5) AS below,
    left(outcome($$SELECT version FROM es_append('Size-3', 'T', to_jsonb(repeat('x', 1024 * 1024 + 100)))$$), 5) AS above,
    left(outcome($$SELECT version FROM es_append('Size-3', 'T', to_jsonb(repeat('x', 20 * 1024 * 1024)))$$), 5) AS far_above;
SELECT length(data ->> 0) FROM es_read_stream('Size-3');

-- Not everybody may change it.
CREATE ROLE regress_sizer;
SET ROLE regress_sizer;
SET eventstore.max_event_size = 100000000;
\echo :SQLSTATE
RESET ROLE;
DROP ROLE regress_sizer;


-- ---- projections ----

-- One of handler, query and reducer, and what belongs to it.
CREATE FUNCTION two(event es_event, n int DEFAULT 1) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION variadic_one(VARIADIC events es_event[]) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION setof_nothing(event es_event) RETURNS SETOF void LANGUAGE sql AS '';
CREATE FUNCTION of_json(event jsonb) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION of_anything(event anyelement) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION returns_text(state jsonb, event es_event) RETURNS text LANGUAGE sql AS 'SELECT NULL';
CREATE FUNCTION setof_states(state jsonb, event es_event) RETURNS SETOF jsonb LANGUAGE sql AS 'SELECT state';
CREATE FUNCTION wrong_order(event es_event, state jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT state';
CREATE PROCEDURE proc(event es_event) LANGUAGE sql AS '';
CREATE PROCEDURE proc_state(INOUT state jsonb, event es_event) LANGUAGE sql AS 'SELECT state';
CREATE AGGREGATE agg(es_event) (SFUNC = reduce, STYPE = jsonb);
SELECT arguments, outcome(format('SELECT es_create_projection(''bad ' || n || ''', %s)', arguments))
FROM unnest(ARRAY[
    $$handler => NULL$$,
    $$handler => 'handle', query => 'SELECT 1'$$,
    $$handler => 'handle', reducer => 'reduce'$$,
    $$query => 'SELECT 1', reducer => 'reduce'$$,
    $$handler => 'handle', query => 'SELECT 1', reducer => 'reduce'$$,
    $$handler => ''$$,
    $$handler => ' '$$,
    $$handler => '.'$$,
    $$handler => 'public.'$$,
    $$handler => '.handle'$$,
    $$handler => 'a.b.c.d'$$,
    $$handler => 'nowhere.handle'$$,
    $$handler => 'no_such_function'$$,
    $$handler => 'HANDLE'$$,
    $$handler => '"Handle"'$$,
    $$handler => '"handle'$$,
    $$handler => 'handle(es_event)'$$,
    $$handler => 'handle; DROP TABLE call'$$,
    $$handler => 'reduce'$$,
    $$handler => 'two'$$,
    $$handler => 'variadic_one'$$,
    $$handler => 'of_json'$$,
    $$handler => 'of_anything'$$,
    $$handler => 'proc'$$,
    $$handler => 'agg'$$,
    $$handler => 'setof_nothing'$$,
    $$handler => repeat('x', 100000)$$,
    $$reducer => 'handle'$$,
    $$reducer => 'returns_text'$$,
    $$reducer => 'setof_states'$$,
    $$reducer => 'wrong_order'$$,
    $$reducer => 'proc_state'$$,
    $$reducer => ''$$,
    $$query => ''$$,
    $$query => ' -- nothing'$$,
    $$query => 'SELEC 1'$$,
    $$query => 'SELECT 1; SELECT 2'$$,
    $$query => 'SELECT $1'$$,
    $$query => 'SELECT nothing FROM es_batch'$$,
    $$query => 'SELECT * FROM no_such_table'$$,
    $$query => 'UPDATE es_batch SET data = NULL'$$,
    $$query => 'DELETE FROM es_batch'$$,
    $$query => 'INSERT INTO es_batch DEFAULT VALUES'$$,
    $$query => 'SELECT * INTO made_by_query FROM es_batch'$$,
    $$query => 'DECLARE c CURSOR FOR SELECT * FROM es_batch'$$,
    $$query => 'TRUNCATE call'$$,
    $$query => 'BEGIN'$$,
    $$query => 'COMMIT'$$,
    $$query => 'VACUUM'$$,
    $$query => 'CREATE TABLE made_by_query AS SELECT * FROM es_batch'$$,
    $$query => 'SET work_mem = 100'$$,
    $$query => 'PREPARE p AS SELECT 1'$$,
    $$query => 'LISTEN x'$$,
    $$query => 'DO ''BEGIN END'''$$,
    $$query => 'CALL proc(NULL)'$$,
    $$query => 'COPY call TO STDOUT'$$,
    $$query => 'EXPLAIN SELECT 1'$$,
    $$handler => 'handle', mode => ''$$,
    $$handler => 'handle', mode => 'Inline'$$,
    $$handler => 'handle', mode => 'sync'$$,
    $$handler => 'handle', on_error => ''$$,
    $$handler => 'handle', on_error => 'STOP'$$,
    $$handler => 'handle', on_error => 'retry'$$,
    $$reducer => 'reduce', partition_by => ''$$,
    $$reducer => 'reduce', partition_by => 'Stream'$$,
    $$reducer => 'reduce', partition_by => 'tags'$$,
    $$reducer => 'reduce', partition_by => 'data'$$,
    $$reducer => 'reduce', partition_by => 'data.'$$,
    $$reducer => 'reduce', partition_by => 'data..a'$$,
    $$reducer => 'reduce', partition_by => 'data.a.'$$,
    $$reducer => 'reduce', partition_by => '.a'$$,
    $$reducer => 'reduce', partition_by => 'Data.a'$$,
    $$reducer => 'reduce', partition_by => 'data.' || repeat('x.', 10000) || 'x'$$,
    $$handler => 'handle', partition_by => 'all'$$,
    $$query => 'SELECT 1', partition_by => 'data.a'$$,
    $$handler => 'handle', reset => 'SELEC 1'$$,
    $$handler => 'handle', reset => 'DELETE FROM no_such_table'$$,
    $$handler => 'handle', reset => 'COMMIT'$$,
    $$handler => 'handle', types => '{""}'$$,
    $$handler => 'handle', categories => '{""}'$$]) WITH ORDINALITY u (arguments, n);
SELECT code, count(*) FROM eventstore.projections WHERE name LIKE 'bad%' GROUP BY code ORDER BY code COLLATE "C";
SELECT outcome(format('SELECT es_run_projection(%L) >= 0', name)) AS outcome, count(*) FROM eventstore.projections WHERE name LIKE 'bad%' GROUP BY 1;
SELECT arguments, outcome(format('SELECT es_alter_projection(''totals'', %s)', arguments))
FROM unnest(ARRAY[
    $$on_error => ''$$,
    $$on_error => 'retry'$$,
    $$reset => 'SELEC 1'$$,
    $$reset => 'DELETE FROM no_such_table'$$,
    $$reset => 'COMMIT'$$]) arguments;
SELECT reducer, outcome(format('SELECT es_aggregate(''Order-1'', %L)', reducer))
FROM unnest(ARRAY['', '.', 'nowhere.reduce', 'no_such_function', 'handle', 'returns_text', 'setof_states', 'wrong_order', 'proc_state', 'reduce(jsonb, es_event)']) reducer;
SELECT outcome(format('SELECT es_drop_projection(%L)', name)) AS outcome, count(*) > 0 AS dropped FROM eventstore.projections GROUP BY 1;
SELECT count(*) FROM eventstore.projections;


-- ---- other ----

-- Nothing of all that has disturbed the store.
SELECT count(*) FROM eventstore.blockers;
SELECT version FROM es_append('Order-1', 'Paid', '{}', -4) \gset
SELECT es_stream_version('Order-1') = :version AS last, es_stream_version('Order-2'), es_stream_version('Order-3');
SELECT count(*) AS "not readable" FROM eventstore.events v
LEFT JOIN es_read_all(max_count => 1000000) e USING (position)
WHERE e.position IS NULL;
