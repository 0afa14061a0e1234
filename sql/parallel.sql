-- Parallel queries: what may run in a worker of one, and what is refused there.

CREATE EXTENSION eventstore;
SELECT count(*) FROM es_append_batch(
    (SELECT array_agg('Order-' || i % 50) FROM generate_series(1, 2000) i),
    (SELECT array_agg(CASE i % 3 WHEN 0 THEN 'Paid' ELSE 'Placed' END) FROM generate_series(1, 2000) i),
    (SELECT array_agg(jsonb_build_object('n', i)) FROM generate_series(1, 2000) i));
CREATE FUNCTION count_up(state jsonb, event es_event) RETURNS jsonb
    LANGUAGE sql
    AS $$ SELECT jsonb_build_object('n', coalesce((state ->> 'n')::int, 0) + 1) $$;
SELECT es_create_projection('counts', reducer => 'count_up', mode => 'inline', categories => '{Other}');
SELECT es_run_projection('counts') >= 0 AS ran;

-- Whatever the query costs, it is worth a worker.
SET max_parallel_workers_per_gather = 2;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET min_parallel_index_scan_size = 0;
SET parallel_leader_participation = off;

-- Does a query run in parallel, and what does it answer?
CREATE FUNCTION in_parallel(query text, OUT parallel boolean, OUT answer text)
    LANGUAGE plpgsql
    AS $$
DECLARE
    plan json;
BEGIN
    EXECUTE 'EXPLAIN (FORMAT json) ' || query INTO plan;
    parallel := plan::text ~ 'Gather';
    EXECUTE query INTO answer;
END $$;


-- ---- reads ----

-- The views are plain tables to the planner.
SELECT * FROM in_parallel('SELECT count(*) FROM eventstore.event_log');
SELECT * FROM in_parallel('SELECT sum((data ->> ''n'')::int) FROM eventstore.events');
SELECT * FROM in_parallel('SELECT count(DISTINCT stream) FROM eventstore.events WHERE type = ''Paid''');
-- What depends on nothing but the snapshot is run by the workers,
SELECT * FROM in_parallel('SELECT count(DISTINCT es_category(stream)) FROM eventstore.events');
SELECT * FROM in_parallel('SELECT count(*) FROM eventstore.events WHERE version = es_stream_version(stream)');
-- a read of a stream by the leader;
SELECT * FROM in_parallel('SELECT count(*) FROM eventstore.event_log WHERE version <= (SELECT count(*) FROM es_read_stream(''Order-1''))');
-- and with a function that reads what is newer than the snapshot, nothing is parallel.
SELECT * FROM in_parallel('SELECT count(*) FROM eventstore.event_log WHERE position <= (SELECT es_head())');
SELECT * FROM in_parallel('SELECT count(*) FROM eventstore.event_log JOIN es_read_all(0, 100) USING (position)');
SELECT * FROM in_parallel('SELECT count(*) FROM eventstore.event_log WHERE position > es_position_at(now() - interval ''1 hour'')');
SELECT * FROM in_parallel('SELECT count(*) FROM eventstore.event_log, es_projection_state(''counts'', ''Other-1'') s WHERE s IS NULL');


-- ---- what lies ----

-- A function that says that it is safe, and is not: what writes is refused in a worker.
CREATE TABLE numbers AS SELECT i FROM generate_series(1, 1000) i;
ANALYZE numbers;
CREATE FUNCTION in_worker(statement text) RETURNS text
    LANGUAGE plpgsql
    PARALLEL SAFE
    AS $$
BEGIN
    EXECUTE statement;
    RETURN 'done';
END $$;
CREATE FUNCTION outcome(statement text) RETURNS text
    LANGUAGE plpgsql
    AS $$
DECLARE
    message text;
    plan json;
BEGIN
    EXECUTE format('EXPLAIN (FORMAT json) SELECT in_worker(%L) FROM numbers WHERE i = 7', statement) INTO plan;
    IF plan::text !~ 'Gather' THEN
        RETURN 'not parallel';
    END IF;
    EXECUTE format('SELECT in_worker(%L) FROM numbers WHERE i = 7', statement) INTO message;
    RETURN message;
EXCEPTION
    WHEN OTHERS THEN
        RETURN SQLSTATE || ': ' || SQLERRM;
END $$;
SELECT says, outcome(says)
FROM unnest(ARRAY[
    $$SELECT es_append('Order-1', 'Paid')$$,
    $$SELECT es_append_events('Order-1', '[{"type": "Paid"}]')$$,
    $$SELECT es_append_batch('{Order-1}', '{Paid}', '{1}')$$,
    $$SELECT es_check_version('Order-1', NULL)$$,
    $$SELECT es_create_projection('p', query => 'SELECT FROM es_batch')$$,
    $$SELECT es_alter_projection('counts', 7)$$,
    $$SELECT es_pause_projection('counts')$$,
    $$SELECT es_resume_projection('counts')$$,
    $$SELECT es_rebuild_projection('counts')$$,
    $$SELECT es_run_projection('counts')$$,
    $$SELECT es_retry_dead_letters('counts')$$,
    $$SELECT es_drop_projection('counts')$$]) says;

-- Reads are refused where they need a snapshot of the moment, which a worker cannot take.  The head needs none.
SELECT says, CASE outcome(says) WHEN 'done' THEN 'done' ELSE 'refused' END AS outcome
FROM unnest(ARRAY[
    $$SELECT * FROM es_read_stream('Order-1')$$,
    $$SELECT * FROM es_read_all(0, 10)$$,
    $$SELECT * FROM es_read_category('Order', 0, 10)$$,
    $$SELECT es_stream_version('Order-1')$$,
    $$SELECT es_head()$$,
    $$SELECT es_epoch()$$,
    $$SELECT es_wait(0)$$,
    $$SELECT es_wait_for_projection('counts')$$,
    $$SELECT es_projection_state('counts', 'Other-1')$$,
    $$SELECT es_aggregate('Order-1', 'count_up')$$,
    $$SELECT * FROM eventstore.projections$$,
    $$SELECT * FROM eventstore.status$$]) says;

-- Nothing of all that has happened.
SELECT count(*), max(version) FROM eventstore.events;
SELECT name, state FROM eventstore.projections;
SELECT version FROM es_append('Order-1', 'Paid');


-- ---- in a projection ----

-- Its statement may be parallel, where it only reads.
CREATE TABLE most (n bigint);
SELECT es_create_projection('most', query => 'INSERT INTO most SELECT count(*) FROM eventstore.event_log WHERE EXISTS (SELECT FROM es_batch)');
SELECT es_wait_for_projection('most', timeout => '60 s');
SELECT max(n) FROM most;
