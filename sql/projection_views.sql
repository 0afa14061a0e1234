-- How projections are doing: eventstore.projections and eventstore.dead_letters.

CREATE EXTENSION eventstore;

\getenv source PG_ABS_SRCDIR
\set await :source '/tests/await.sql'
\set ECHO none
\i :await
\set ECHO all

-- Waits until a worker waits for us, in the midst of a batch.
CREATE PROCEDURE await_worker()
    LANGUAGE plpgsql
    AS $$ BEGIN CALL await($c$ EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted) $c$); END $$;

-- The columns, without what is different each time.  Workers look now and then,
-- also when there is nothing to do.
CREATE VIEW shown AS
SELECT name, mode, form, state, since <= clock_timestamp() AS since, checkpoint = es_head() AS "at head", lag, lag_seconds > 0 AS "lags s",
    failures, dead_letters, rebuilt_percent, rebuild_time_left
FROM eventstore.projections
ORDER BY name COLLATE "C";
CREATE VIEW busy AS
SELECT name, worker_pid IS NOT NULL AS worker, batch_started <= clock_timestamp() AS started, batch_events, batch_done
FROM eventstore.projections
ORDER BY name COLLATE "C";


-- ---- what was declared ----

CREATE FUNCTION handle(event es_event) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF event.data ? 'wait' THEN PERFORM pg_advisory_xact_lock_shared(1); END IF;
    IF event.data ? 'bad' THEN RAISE EXCEPTION 'bad: %', event.data ->> 'bad' USING ERRCODE = 'UE001'; END IF;
END $$;
CREATE FUNCTION fold(state jsonb, event es_event) RETURNS jsonb LANGUAGE sql AS 'SELECT state';
CREATE ROLE regress_owner;
GRANT EXECUTE ON FUNCTION es_create_projection TO regress_owner;
SELECT es_create_projection('handler', 'handle', types => '{A, "b c"}', categories => '{Order}', batch_size => 7, on_error => 'park', max_retries => 3);
SELECT es_create_projection('query', query => 'SELECT 1 FROM es_batch', mode => 'inline');
SET ROLE regress_owner;
SELECT es_create_projection('reducer', reducer => 'fold', partition_by => 'data.a', on_error => 'skip');
RESET ROLE;
SELECT name, mode, form, owner, types, categories, code, batch_size, on_error, max_retries FROM eventstore.projections ORDER BY name;
DROP OWNED BY regress_owner;
SELECT count(es_drop_projection(name)) FROM eventstore.projections;
SELECT count(*) FROM eventstore.projections;
DROP ROLE regress_owner;


-- ---- running ----

-- On an empty log, there is nothing to do.
SELECT es_create_projection('a', 'handle', reset => ''), es_create_projection('b', 'handle', mode => 'inline', reset => '');
CALL await_state('a', 'running');
SELECT * FROM shown;
SELECT version FROM es_append_events('Order-1', (SELECT jsonb_agg('{"type": "T"}'::jsonb) FROM generate_series(1, 100)));
SELECT es_wait_for_projection('a', timeout => '60 s');
SELECT * FROM shown;
CALL await($$ (SELECT events_per_second > 0 FROM eventstore.projections WHERE name = 'a') $$);
SELECT name, events_per_second > 0 AS "events/s", batch_ms > 0 AS "batch ms" FROM eventstore.projections ORDER BY name;

-- In a batch: by whom, since when, how far.  (The inline one would wait, too.)
SELECT es_drop_projection('b');
SELECT pg_advisory_lock(1);
SELECT version FROM es_append_events('Order-1', (SELECT jsonb_agg(jsonb_build_object('type', 'T', 'data', CASE i WHEN 250 THEN '{"wait": 1}' ELSE '{}' END::jsonb)) FROM generate_series(1, 300) i));
CALL await_worker();
SELECT * FROM shown;
SELECT * FROM busy;
SELECT backend_type, query, wait_event_type FROM pg_stat_activity WHERE pid = (SELECT worker_pid FROM eventstore.projections);
SELECT es_wait_for_projection('a', timeout => '0.01 s');
SELECT pg_advisory_unlock(1);
SELECT es_wait_for_projection('a', timeout => '60 s');
SELECT * FROM shown;

-- The lag is that of the first event beyond.
SELECT es_pause_projection('a');
SELECT count(*) FROM es_append_batch('{Order-2, Order-2}', '{T, T}', '{1, 2}', created_at => ARRAY[clock_timestamp() - '1 hour'::interval, clock_timestamp() + '1 hour'::interval]);
SELECT * FROM shown;
SELECT lag_seconds BETWEEN 3599 AND 3700 AS "an hour" FROM eventstore.projections;
SELECT es_resume_projection('a');
SELECT es_wait_for_projection('a', timeout => '60 s');
SELECT es_pause_projection('a');
SELECT count(*) FROM es_append_batch('{Order-2}', '{T}', '{1}', created_at => ARRAY[clock_timestamp() + '1 hour'::interval]);
SELECT lag, lag_seconds FROM eventstore.projections;
SELECT es_resume_projection('a');
SELECT es_wait_for_projection('a', timeout => '60 s');

SELECT es_drop_projection('a');


-- ---- the lag, and why ----

-- It is counted in events that the projection takes: not in positions, nor in events of others.
SELECT es_create_projection('few', 'handle', types => '{Few}'), es_create_projection('all', 'handle', categories => '{Lag}'),
    es_create_projection('one', 'handle', types => '{Few}', categories => '{Lag}'), es_create_projection('none', 'handle', types => '{Never}');
CREATE VIEW lags AS
SELECT name, lag, lag_capped AS capped, lag_seconds > 3000 AS old, reason
FROM eventstore.projections
ORDER BY name COLLATE "C";
SELECT es_pause_projection(name) FROM eventstore.projections ORDER BY name COLLATE "C";
BEGIN;
SELECT version FROM es_append_events('Gap-1', (SELECT jsonb_agg('{"type": "Gap"}'::jsonb) FROM generate_series(1, 50)));
ROLLBACK;
SELECT count(*) FROM es_append_batch('{Lag-1, Lag-1, Other-1, Lag-2}', '{Few, Many, Few, Many}', array_fill(jsonb '{}', '{4}'), created_at => ARRAY[now(), now() - interval '1 hour', now() - interval '1 hour', now()]);
SELECT * FROM lags;
-- Beyond ten thousand it says so.
SELECT version FROM es_append_events('Lag-3', (SELECT jsonb_agg('{"type": "Many"}'::jsonb) FROM generate_series(1, 10000)));
SELECT * FROM lags;
SELECT es_resume_projection(name) FROM eventstore.projections ORDER BY name COLLATE "C";
SELECT name, es_wait_for_projection(name, timeout => '60 s') FROM eventstore.projections ORDER BY name COLLATE "C";
SELECT * FROM lags;
-- Whoever does not ask for it does not pay for it.
CREATE FUNCTION plan_of(statement text) RETURNS SETOF text
    LANGUAGE plpgsql
    AS $$ BEGIN RETURN QUERY EXECUTE 'EXPLAIN (COSTS OFF) ' || statement; END $$;
SELECT statement, bool_or(line LIKE '%projection_lag%') AS counts
FROM unnest('{SELECT name\, state\, checkpoint\, last_error FROM eventstore.projections, SELECT lag FROM eventstore.projections}'::text[]) statement, plan_of(statement) line
GROUP BY statement ORDER BY statement;
SELECT count(es_drop_projection(name)) FROM eventstore.projections;
DROP VIEW lags;


-- ---- rebuilding ----

-- Percents are of positions, those that it passes over, too.
SELECT es_create_projection('rebuilt', 'handle', types => '{R}', batch_size => 20, reset => '');
SELECT version FROM es_append_events('Rebuild-1', (SELECT jsonb_agg(jsonb_build_object('type', 'R', 'data', CASE i WHEN 71 THEN '{"wait": 1}' ELSE '{}' END::jsonb)) FROM generate_series(1, 100) i));
SELECT es_wait_for_projection('rebuilt', timeout => '60 s');
SELECT pg_advisory_lock(1);
SELECT es_rebuild_projection('rebuilt');
CALL await_worker();
SELECT name, state, checkpoint < es_head() AS behind, lag BETWEEN 1 AND 100 AS lag, worker_pid IS NOT NULL AS worker,
    rebuilt_percent = round(100.0 * checkpoint / es_head(), 1) AS "percents of positions", rebuild_time_left < '1 hour' AS "time left"
FROM eventstore.projections;
-- More events do not make it take longer.
SELECT version FROM es_append_events('Rebuild-1', (SELECT jsonb_agg('{"type": "R"}'::jsonb) FROM generate_series(1, 1000)));
SELECT state, rebuilt_percent > 50 AS "more than half" FROM eventstore.projections;
-- Paused on the way, it goes on with it.
SELECT pg_advisory_unlock(1);
SELECT es_wait_for_projection('rebuilt', timeout => '60 s');
CALL await_state('rebuilt', 'running');
SELECT state, rebuilt_percent, rebuild_time_left FROM eventstore.projections;
SELECT pg_advisory_lock(1);
SELECT es_rebuild_projection('rebuilt');
CALL await_worker();
SELECT es_pause_projection('rebuilt');
SELECT state, rebuilt_percent > 5 AS "as far as it was" FROM eventstore.projections;
SELECT pg_advisory_unlock(1);
SELECT es_resume_projection('rebuilt');
SELECT es_wait_for_projection('rebuilt', timeout => '60 s');
CALL await_state('rebuilt', 'running');
SELECT es_drop_projection('rebuilt');


-- ---- catching up ----

-- An inline projection behind many events is not inline yet.
SELECT version FROM es_append_events('Catch-1', (SELECT jsonb_agg(jsonb_build_object('type', 'C', 'data', CASE i WHEN 1500 THEN '{"wait": 1}' ELSE '{}' END::jsonb)) FROM generate_series(1, 2000) i));
SELECT pg_advisory_lock(1);
SELECT es_create_projection('c', 'handle', mode => 'inline', types => '{C}', batch_size => 100);
CALL await_worker();
SELECT * FROM shown;
SELECT * FROM busy;
SELECT version FROM es_append('Catch-1', 'C');
SELECT pg_advisory_unlock(1);
CALL await_state('c', 'running');
SELECT name, mode, state, checkpoint = es_head() AS "at head", lag, lag_seconds FROM eventstore.projections;
-- From then on it is always at the head.
SELECT version FROM es_append('Catch-1', 'C');
SELECT name, mode, state, checkpoint = es_head() AS "at head", lag, lag_seconds FROM eventstore.projections;
SELECT es_drop_projection('c');


-- ---- retrying, stopped ----

SELECT es_create_projection('e', 'handle', types => '{E}', max_retries => 1000), es_create_projection('f', 'handle', types => '{E}', max_retries => 0),
    es_create_projection('g', 'handle', types => '{E}', max_retries => 0, on_error => 'skip'), es_create_projection('h', 'handle', types => '{E}', max_retries => 0, on_error => 'park');
SELECT count(*) FROM es_append_batch('{Error-1, Error-2, Error-2}', '{E, E, E}', '{1, "{\"bad\": \"egg\"}", 3}') \gset
SELECT position FROM es_read_stream('Error-2', 1, 1) \gset
CALL await_state('e', 'retrying');
CALL await_state('f', 'stopped');
SELECT es_wait_for_projection('g', timeout => '60 s'), es_wait_for_projection('h', timeout => '60 s');
CALL await($$ (SELECT next_try_at IS NOT NULL FROM eventstore.projections WHERE name = 'e') $$);
SELECT name, state, failures > 0 AS failed, last_error, last_sqlstate, failed_position = :position AS "the event", failed_at <= clock_timestamp() AS at, next_try_at > failed_at AS "next try", dead_letters
FROM eventstore.projections ORDER BY name;
SELECT name, checkpoint - :position AS "at", lag FROM eventstore.projections ORDER BY name;
SELECT name, regexp_replace(reason, '^retry at \d.*', 'retry at ...') AS reason FROM eventstore.projections WHERE name <> 'e' ORDER BY name;
CALL await($$ (SELECT reason ~ '^retry at \d{4}' FROM eventstore.projections WHERE name = 'e') $$);
SELECT projection, position - :position AS position, stream, reason, attempts, error, sqlstate, failed_at <= clock_timestamp() AS at FROM eventstore.dead_letters ORDER BY projection, position;

-- Paused meanwhile.
SELECT es_pause_projection('e');
SELECT state, failures > 0 AS failed, last_error, next_try_at FROM eventstore.projections WHERE name = 'e';
SELECT count(es_drop_projection(name)) FROM eventstore.projections;
SELECT * FROM eventstore.dead_letters;


-- ---- who may look ----

SELECT es_create_projection('seen', 'handle', types => '{Never}'), es_create_projection('seen inline', 'handle', mode => 'inline', types => '{Never}');
SET ROLE pg_monitor;
SELECT name, state, checkpoint IS NOT NULL AS checkpoint, lag IS NOT NULL AS lag, reason FROM eventstore.projections ORDER BY name;
SELECT worker_shortage, blocked_by FROM eventstore.status;
-- What has been taken away does not count.
RESET ROLE;
SELECT es_pause_projection('seen');
SELECT version FROM es_append_events('Lag-4', (SELECT jsonb_agg('{"type": "Never"}'::jsonb) FROM generate_series(1, 10)));
SELECT es_truncate_stream('Lag-4', 8);
SELECT name, lag, reason FROM eventstore.projections ORDER BY name;
SET ROLE pg_monitor;
SELECT count(*) FROM eventstore.dead_letters;
SELECT count(*) FROM eventstore.projection;
\echo :SQLSTATE
RESET ROLE;
CREATE ROLE regress_nobody;
SET ROLE regress_nobody;
SELECT count(*) FROM eventstore.projections;
\echo :SQLSTATE
SELECT count(*) FROM eventstore.dead_letters;
\echo :SQLSTATE
RESET ROLE;
DROP ROLE regress_nobody;

-- Whatever the search_path, and the settings.
SET search_path = '';
SET DateStyle = 'German';
SELECT name, mode FROM eventstore.projections ORDER BY 1;
