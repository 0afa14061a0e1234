-- Who may do what.

CREATE EXTENSION eventstore;

SELECT version FROM es_append('Order-1', 'Placed', '{"customer": "ada"}', metadata => '{"correlation_id": "x"}');

CREATE TABLE reached (n bigint);
CREATE FUNCTION handle(event es_event) RETURNS void
    LANGUAGE sql
    AS $$ INSERT INTO reached VALUES ((event).position) $$;
CREATE FUNCTION count_one(state jsonb, event es_event) RETURNS jsonb
    LANGUAGE sql
    AS $$ SELECT to_jsonb(coalesce(state ->> 'n', '0')::int + 1) $$;
BEGIN;
SELECT es_create_projection('theirs', 'handle', reset => 'TRUNCATE reached');
SELECT es_create_projection('counts', reducer => 'count_one');
SELECT es_run_projection('theirs'), es_run_projection('counts');
COMMIT;
SELECT es_create_subscription('theirs');

CREATE FUNCTION outcome(statement text) RETURNS text
    LANGUAGE plpgsql
    AS $$
BEGIN
    EXECUTE statement;
    RETURN 'ok';
EXCEPTION
    WHEN OTHERS THEN
        RETURN SQLSTATE;
END $$;

-- A plain role can do nothing: call no function, read no table, and of course change
-- none.
CREATE TABLE attempt AS
SELECT format('SELECT * FROM %s(%s)', p.oid::regproc,
    (SELECT string_agg(format('NULL::%s', format_type(t, NULL)), ', ' ORDER BY o) FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY u (t, o))) AS statement
FROM pg_proc p
JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
    AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'eventstore')
WHERE p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype, 'fdw_handler'::regtype, 'internal'::regtype)
UNION ALL
SELECT format('SELECT count(*) FROM %s', c.oid::regclass)
FROM pg_class c
WHERE c.relnamespace = 'eventstore'::regnamespace AND c.relkind IN ('r', 'v', 'S');
INSERT INTO attempt VALUES
    ('INSERT INTO eventstore.event_log DEFAULT VALUES'),
    ('INSERT INTO eventstore.new_events (stream, type) VALUES (''Order-1'', ''Paid'')'),
    ('UPDATE eventstore.stream SET name = name'),
    ('DELETE FROM eventstore.event_type'),
    ('TRUNCATE eventstore.event_log'),
    ('SELECT nextval(''eventstore.position_register'')'),
    ('SELECT setval(''eventstore.position_register'', 1)'),
    ('ALTER TABLE eventstore.event_log DISABLE TRIGGER ALL'),
    ('CREATE TABLE eventstore.mine (n int)'),
    ('DROP EXTENSION eventstore'),
    ('DROP TABLE eventstore.event_log CASCADE'),
    ('SET eventstore.restore = on'),
    ('SET eventstore.max_event_size = 2000000'),
    ('INSERT INTO eventstore.projection DEFAULT VALUES'),
    ('UPDATE eventstore.projection_progress SET checkpoint = 0'),
    ('DELETE FROM eventstore.dead_letter'),
    ('TRUNCATE eventstore.projection_state');
CREATE ROLE regress_plain;
GRANT SELECT ON attempt TO regress_plain;
SET ROLE regress_plain;
SELECT count(*) > 30 AS tried FROM attempt;
-- es_category() is for everybody: it computes from its argument alone, and views call it.
SELECT statement, outcome(statement) FROM attempt WHERE outcome(statement) <> '42501';
RESET ROLE;

-- SELECT on a view, and on what it reads, is all that a view of events needs.
GRANT SELECT ON eventstore.events, eventstore.streams, eventstore.event_log, eventstore.stream,
    eventstore.event_type, eventstore.retention TO regress_plain;
SET ROLE regress_plain;
SELECT count(*) AS events FROM eventstore.events;
SELECT count(*) AS streams FROM eventstore.streams;
RESET ROLE;
REVOKE ALL ON ALL TABLES IN SCHEMA eventstore FROM regress_plain;


-- ---- the three grants ----

CREATE ROLE regress_app;
CREATE ROLE regress_reader;
CREATE ROLE regress_operator;

-- append
GRANT EXECUTE ON FUNCTION es_append, es_append_events, es_append_batch, es_check_version, es_stream_version, es_slot, es_save_snapshot TO regress_app; GRANT INSERT, SELECT (version, position, duplicate) ON eventstore.new_events TO regress_app;
-- read
GRANT EXECUTE ON FUNCTION es_read_stream, es_read_all, es_read_category, es_read_correlation, es_read_event, es_query, es_head, es_epoch, es_wait, es_stream_version, es_category, es_slot, es_position_at, es_wait_for_projection, es_projection_state, es_aggregate, es_load, es_fetch, es_ack, es_nack, eventstore.event_id, eventstore.log_status, eventstore.in_flight, eventstore.projection_figures, eventstore.projection_lag, eventstore.subscription_lag TO regress_reader; GRANT SELECT ON ALL TABLES IN SCHEMA eventstore TO regress_reader;
-- administer
GRANT EXECUTE ON FUNCTION es_create_projection, es_alter_projection, es_drop_projection, es_pause_projection, es_resume_projection, es_rebuild_projection, es_run_projection, es_retry_dead_letters, es_truncate_stream, es_delete_stream, es_tombstone_stream, es_set_retention, es_scavenge, es_check, eventstore.name_hash, eventstore.stream_bucket, eventstore.type_key, eventstore.event_id_under, eventstore.event_id_position, es_register_upcaster, es_delete_snapshots, es_create_subscription, es_alter_subscription, es_seek_subscription, es_drop_subscription, es_replay_parked, es_discard_parked TO regress_operator; GRANT regress_app, regress_reader, pg_monitor TO regress_operator;

-- Together they give out every function but those for the owner and superusers alone.
SELECT p.oid::regprocedure AS "given to nobody"
FROM pg_proc p
JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
    AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'eventstore')
WHERE p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype, 'fdw_handler'::regtype, 'internal'::regtype) AND p.proname NOT IN ('rehash', 'require_library', 'es_reset', 'es_set_boundary', 'new_events_validator') AND NOT has_function_privilege('regress_operator', p.oid, 'EXECUTE');

CREATE FUNCTION upcast(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT data';
CREATE TABLE matrix (n int GENERATED ALWAYS AS IDENTITY, says text, statement text);
INSERT INTO matrix (says, statement) VALUES
    ('es_append', $$SELECT es_append('Order-1', 'Paid')$$),
    ('es_append_events', $$SELECT es_append_events('Order-1', '[{"type": "Paid"}]')$$),
    ('es_append_batch', $$SELECT es_append_batch('{Order-1}', '{Paid}', '{1}')$$),
    ('new_events', $$INSERT INTO eventstore.new_events (stream, type) VALUES ('Order-1', 'Paid')$$),
    ('new_events RETURNING', $$INSERT INTO eventstore.new_events (stream, type) VALUES ('Order-1', 'Paid') RETURNING version, position, duplicate$$),
    ('es_check_version', $$SELECT es_check_version('Order-1', NULL)$$),
    ('es_stream_version', $$SELECT es_stream_version('Order-1')$$),
    ('es_category', $$SELECT es_category('Order-1')$$),
    ('es_read_stream', $$SELECT es_read_stream('Order-1')$$),
    ('es_read_all', $$SELECT es_read_all()$$),
    ('es_read_category', $$SELECT es_read_category('Order')$$),
    ('es_read_correlation', $$SELECT es_read_correlation('x')$$),
    ('es_read_event', $$SELECT es_read_event('019b7ca9-8f2e-7e6a-8e9e-9c21ca8e4bf7')$$),
    ('es_query', $$SELECT es_query('[{}]')$$),
    ('es_head', $$SELECT es_head()$$),
    ('es_epoch', $$SELECT es_epoch()$$),
    ('es_wait', $$SELECT es_wait(0)$$),
    ('es_position_at', $$SELECT es_position_at(now())$$),
    ('es_wait_for_projection', $$SELECT es_wait_for_projection('theirs', 0)$$),
    ('es_projection_state', $$SELECT es_projection_state('counts', 'Order-1')$$),
    ('es_aggregate', $$SELECT es_aggregate('Order-1', 'count_one')$$),
    ('es_save_snapshot', $$SELECT es_save_snapshot('Order-1', 1, '{}')$$),
    ('es_load', $$SELECT es_load('Order-1')$$),
    ('es_truncate_stream', $$SELECT es_truncate_stream('Order-1', 1)$$),
    ('es_delete_stream', $$SELECT es_delete_stream('Gone-1')$$),
    ('es_tombstone_stream', $$SELECT es_tombstone_stream('Gone-1')$$),
    ('es_set_retention', $$SELECT es_set_retention('Gone-1', 1)$$),
    ('es_scavenge', $$SELECT es_scavenge()$$),
    ('es_check', $$SELECT count(*) FROM es_check()$$),
    ('es_delete_snapshots', $$SELECT es_delete_snapshots('default')$$),
    ('es_register_upcaster', $$SELECT es_register_upcaster('Paid', 100, 'upcast')$$),
    ('es_create_projection', $$SELECT es_create_projection('mine', 'handle', reset => '')$$),
    ('es_alter_projection', $$SELECT es_alter_projection('mine', 100)$$),
    ('es_rebuild_projection', $$SELECT es_rebuild_projection('mine')$$),
    ('es_retry_dead_letters', $$SELECT es_retry_dead_letters('mine')$$),
    ('es_pause_projection', $$SELECT es_pause_projection('mine')$$),
    ('es_resume_projection', $$SELECT es_resume_projection('mine')$$),
    ('es_run_projection, and INSERT', $$SELECT es_run_projection('mine')$$),
    ('es_drop_projection', $$SELECT es_drop_projection('mine')$$),
    ('es_fetch', $$SELECT count(*) FROM es_fetch('theirs', current_user::text, 1)$$),
    ('es_ack', $$SELECT es_ack('theirs', current_user::text, '{}')$$),
    ('es_nack', $$SELECT es_nack('theirs', current_user::text, '{}')$$),
    ('es_create_subscription', $$SELECT es_create_subscription('mine')$$),
    ('es_alter_subscription', $$SELECT es_alter_subscription('mine', max_retries => 1)$$),
    ('es_seek_subscription', $$SELECT es_seek_subscription('mine', 0)$$),
    ('es_replay_parked', $$SELECT es_replay_parked('mine')$$),
    ('es_discard_parked', $$SELECT es_discard_parked('mine', '{1}')$$),
    ('es_drop_subscription', $$SELECT es_drop_subscription('mine')$$),
    ('es_alter_projection, theirs', $$SELECT es_alter_projection('theirs', 100)$$),
    ('es_rebuild_projection, theirs', $$SELECT es_rebuild_projection('theirs')$$),
    ('es_retry_dead_letters, theirs', $$SELECT es_retry_dead_letters('theirs')$$),
    ('es_pause_projection, theirs', $$SELECT es_pause_projection('theirs')$$),
    ('es_resume_projection, theirs', $$SELECT es_resume_projection('theirs')$$),
    ('es_run_projection, theirs', $$SELECT es_run_projection('theirs')$$),
    ('es_drop_projection, theirs', $$SELECT es_drop_projection('theirs')$$),
    ('events', $$SELECT count(*) FROM eventstore.events$$),
    ('streams', $$SELECT * FROM eventstore.streams$$),
    ('event_types', $$SELECT count(*) FROM eventstore.event_types$$),
    ('status', $$SELECT count(*) FROM eventstore.status$$),
    ('blockers', $$SELECT count(*) FROM eventstore.blockers$$),
    ('projections', $$SELECT count(*) FROM eventstore.projections$$),
    ('dead_letters', $$SELECT count(*) FROM eventstore.dead_letters$$),
    ('subscriptions', $$SELECT count(*) FROM eventstore.subscriptions$$),
    ('subscription_partitions', $$SELECT count(*) FROM eventstore.subscription_partitions$$),
    ('parked_events', $$SELECT count(*) FROM eventstore.parked_events$$),
    ('UPDATE subscription', $$UPDATE eventstore.subscription SET max_retries = 0$$),
    ('UPDATE delivered', $$UPDATE eventstore.subscription_partition SET delivered = 0$$),
    ('DELETE parked', $$DELETE FROM eventstore.subscription_event$$),
    ('projection_state', $$SELECT count(*) FROM eventstore.projection_state$$),
    ('snapshots', $$SELECT count(*) FROM eventstore.snapshots$$),
    ('hidden', $$SELECT count(*) FROM eventstore.hidden$$),
    ('UPDATE stream', $$UPDATE eventstore.stream SET first_version = 1$$),
    ('DELETE hidden', $$DELETE FROM eventstore.hidden$$),
    ('INSERT retention', $$INSERT INTO eventstore.retention VALUES ('Order', 1)$$),
    ('UPDATE upcaster', $$UPDATE eventstore.upcaster SET owner = 'postgres'$$),
    ('projection_states', $$SELECT count(*) FROM eventstore.projection_states$$),
    ('UPDATE projection', $$UPDATE eventstore.projection SET owner = 'postgres'$$),
    ('UPDATE checkpoint', $$UPDATE eventstore.projection_progress SET checkpoint = 0$$),
    ('DELETE dead letters', $$DELETE FROM eventstore.dead_letter$$),
    ('INSERT', $$INSERT INTO eventstore.event_log SELECT * FROM eventstore.event_log$$),
    ('UPDATE', $$UPDATE eventstore.event_log SET data = '{}'$$),
    ('DELETE', $$DELETE FROM eventstore.event_log$$),
    ('TRUNCATE', $$TRUNCATE eventstore.event_log$$),
    ('trigger', $$CREATE TRIGGER t BEFORE INSERT ON eventstore.event_log FOR EACH ROW EXECUTE FUNCTION eventstore.guard()$$),
    ('DROP', $$DROP EXTENSION eventstore$$),
    ('max_event_size', $$SET LOCAL eventstore.max_event_size = 2000000$$),
    ('restore', $$SET LOCAL eventstore.restore = on$$),
    ('metadata', $$SET LOCAL eventstore.metadata = '{"user": "ada"}'$$);
CREATE TABLE result (says text, role name, outcome text);
GRANT SELECT ON matrix TO regress_app, regress_reader, regress_operator, pg_monitor;
GRANT INSERT ON result TO regress_app, regress_reader, regress_operator, pg_monitor;
SET ROLE pg_monitor;
INSERT INTO result SELECT says, current_user, outcome(statement) FROM matrix ORDER BY n;
SET ROLE regress_app;
INSERT INTO result SELECT says, current_user, outcome(statement) FROM matrix ORDER BY n;
SET ROLE regress_reader;
INSERT INTO result SELECT says, current_user, outcome(statement) FROM matrix ORDER BY n;
SET ROLE regress_operator;
INSERT INTO result SELECT says, current_user, outcome(statement) FROM matrix ORDER BY n;
RESET ROLE;
SELECT m.says,
    max(outcome) FILTER (WHERE role = 'pg_monitor') AS pg_monitor,
    max(outcome) FILTER (WHERE role = 'regress_app') AS app,
    max(outcome) FILTER (WHERE role = 'regress_reader') AS reader,
    max(outcome) FILTER (WHERE role = 'regress_operator') AS operator
FROM result r
JOIN matrix m USING (says)
GROUP BY m.n, m.says
ORDER BY m.n;

-- A function of the owner's can do more for its callers, as everywhere.
CREATE FUNCTION place(customer text) RETURNS bigint
    LANGUAGE sql
    SECURITY DEFINER
    SET search_path = public, pg_temp
    AS $$ SELECT version FROM es_append('Order-2', 'Placed', jsonb_build_object('customer', customer)) $$;
SET ROLE regress_plain;
SELECT place('grace');
RESET ROLE;


-- ---- row-level security ----

-- Policies hold for the views.  Reads that would go around them are refused, and so
-- tell nothing; appends are not subject to them.
ALTER TABLE eventstore.event_log ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON eventstore.event_log FOR SELECT TO regress_reader USING (data ->> 'customer' = 'ada');
SELECT count(*) > 1 AS "the owner sees all" FROM eventstore.events;
SELECT count(*) > 1 AS "the owner reads all" FROM es_read_all();
SET ROLE regress_reader;
SELECT stream, version, type, data FROM eventstore.events;
SELECT count(*) FROM es_read_all();
\echo :SQLSTATE
SELECT count(*) FROM es_read_stream('Order-1');
\echo :SQLSTATE
SELECT count(*) FROM es_read_category('Order');
\echo :SQLSTATE
SELECT count(*) FROM es_read_correlation('x');
\echo :SQLSTATE
SELECT count(*) FROM es_fetch('theirs', 'me');
\echo :SQLSTATE
SET ROLE regress_app;
SELECT version > 1 AS appended FROM es_append('Order-1', 'Shipped');
RESET ROLE;
ALTER TABLE eventstore.event_log DISABLE ROW LEVEL SECURITY;
SET ROLE regress_reader;
SELECT count(*) > 1 AS "reads again" FROM es_read_all();
RESET ROLE;

DROP OWNED BY regress_plain, regress_app, regress_reader, regress_operator;
REVOKE ALL ON matrix, result FROM pg_monitor;
DROP ROLE regress_plain, regress_app, regress_reader, regress_operator;
