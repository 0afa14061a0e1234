-- What projections depend on.

CREATE EXTENSION eventstore;
\set VERBOSITY terse

\getenv source PG_ABS_SRCDIR
\set await :source '/tests/await.sql'
\set ECHO none
\i :await
\set ECHO all
CREATE VIEW there AS SELECT string_agg(name, ', ' ORDER BY name COLLATE "C") AS projections FROM eventstore.projections;
SELECT version FROM es_append('Order-1', 'Placed');


-- ---- functions ----

-- A handler, or a reducer, is not dropped while a projection has it; with CASCADE the
-- projection goes along, and what belonged to it.
CREATE TABLE model (position bigint);
CREATE FUNCTION handle(event es_event) RETURNS void LANGUAGE sql AS 'INSERT INTO model VALUES (event.position)';
CREATE FUNCTION handle(event es_event, n int) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION fold(state jsonb, event es_event) RETURNS jsonb LANGUAGE sql AS 'SELECT state';
SELECT es_create_projection('handler', 'handle'), es_create_projection('inline', 'handle', mode => 'inline'), es_create_projection('reducer', reducer => 'fold');
SELECT es_wait_for_projection('handler', timeout => '60 s'), es_wait_for_projection('reducer', timeout => '60 s');
DROP FUNCTION handle(es_event);
\echo :SQLSTATE
DROP FUNCTION fold;
\echo :SQLSTATE
-- One of the same name is another one.
DROP FUNCTION handle(es_event, int);
BEGIN;
DROP FUNCTION handle CASCADE;
SELECT * FROM there;
SELECT version FROM es_append('Order-1', 'Paid');
ROLLBACK;
SELECT * FROM there;
DROP FUNCTION fold CASCADE;
SELECT * FROM there;
SELECT count(*) FROM eventstore.projection_state;
DROP FUNCTION handle CASCADE;
SELECT * FROM there;
SELECT version FROM es_append('Order-1', 'Paid');

-- What its body uses is not known: that is an error when it runs.
CREATE FUNCTION handle(event es_event) RETURNS void LANGUAGE sql AS 'INSERT INTO model VALUES (event.position)';
SELECT es_create_projection('handler', 'handle', max_retries => 0);
SELECT es_wait_for_projection('handler', timeout => '60 s');
DROP TABLE model;
SELECT version FROM es_append('Order-1', 'Sent');
CALL await_state('handler', 'stopped');
SELECT last_sqlstate, last_error FROM eventstore.projections;
CREATE TABLE model (position bigint);
SELECT es_resume_projection('handler');
SELECT es_wait_for_projection('handler', timeout => '60 s');
SELECT count(*) FROM model;

-- Replaced, it is the same one; renamed, it is another, and missed.
CREATE OR REPLACE FUNCTION handle(event es_event) RETURNS void LANGUAGE sql AS 'INSERT INTO model VALUES (-event.position)';
SELECT version FROM es_append('Order-1', 'Received');
SELECT es_wait_for_projection('handler', timeout => '60 s');
SELECT count(*) FROM model WHERE position < 0;
ALTER FUNCTION handle(es_event) RENAME TO handle_it;
SELECT version FROM es_append('Order-1', 'Returned');
CALL await_state('handler', 'stopped');
SELECT last_sqlstate, last_error FROM eventstore.projections;
ALTER FUNCTION handle_it(es_event) RENAME TO handle;
SELECT es_resume_projection('handler');
SELECT es_wait_for_projection('handler', timeout => '60 s');
SELECT count(*) FROM model WHERE position < 0;
CREATE SCHEMA other;
ALTER FUNCTION handle(es_event) SET SCHEMA other;
SELECT version FROM es_append('Order-1', 'Returned');
CALL await_state('handler', 'stopped');
SELECT last_sqlstate, last_error FROM eventstore.projections;
-- What is called so now, is taken.
CREATE FUNCTION handle(event es_event) RETURNS void LANGUAGE sql AS 'INSERT INTO model VALUES (0)';
SELECT es_resume_projection('handler');
SELECT es_wait_for_projection('handler', timeout => '60 s');
SELECT count(*) FROM model WHERE position = 0;
-- Also if it is a procedure, or returns something that does not fit.
SELECT es_drop_projection('handler');
CREATE FUNCTION fold(state jsonb, event es_event) RETURNS jsonb LANGUAGE sql AS $$ SELECT '{"n": 1}'::jsonb $$;
SELECT es_create_projection('reducer', reducer => 'fold', max_retries => 0);
SELECT es_wait_for_projection('reducer', timeout => '60 s');
ALTER FUNCTION fold RENAME TO fold_it;
CREATE FUNCTION fold(state jsonb, event es_event) RETURNS text LANGUAGE sql AS $$ SELECT 'n'::text $$;
SELECT version FROM es_append('Order-1', 'Returned');
CALL await_state('reducer', 'stopped');
SELECT last_sqlstate, last_error FROM eventstore.projections;
SELECT es_drop_projection('reducer');
DROP FUNCTION fold, fold_it, handle, other.handle;


-- ---- tables of a query ----

CREATE TABLE source (n int);
CREATE VIEW source_view AS SELECT n FROM source;
CREATE MATERIALIZED VIEW source_matview AS SELECT n FROM source;
CREATE TABLE target (position bigint, n int);
CREATE FUNCTION helper(n int) RETURNS int LANGUAGE sql AS 'SELECT n';
CREATE SEQUENCE ids;
SELECT es_create_projection('query', query => $$ INSERT INTO target SELECT position, helper(v.n) FROM es_batch LEFT JOIN source_view v ON true $$);
SELECT es_create_projection('nested', query => $$
    WITH moved AS (DELETE FROM target WHERE n IN (SELECT n FROM source_matview) RETURNING *)
    SELECT (SELECT max(helper(s.n)) FROM source s WHERE EXISTS (SELECT FROM es_batch)) FROM moved $$, types => '{Never}');
SELECT es_wait_for_projection('query', timeout => '60 s'), es_wait_for_projection('nested', timeout => '60 s');
DROP TABLE target;
\echo :SQLSTATE
DROP VIEW source_view;
\echo :SQLSTATE
DROP MATERIALIZED VIEW source_matview;
\echo :SQLSTATE
DROP FUNCTION helper;
\echo :SQLSTATE
-- What a view is made of is protected by the view.
DROP TABLE source;
\echo :SQLSTATE
BEGIN;
DROP TABLE source CASCADE;
SELECT * FROM there;
ROLLBACK;
BEGIN;
DROP VIEW source_view CASCADE;
SELECT * FROM there;
ROLLBACK;
BEGIN;
DROP TABLE target, source CASCADE;
SELECT * FROM there;
ROLLBACK;
BEGIN;
DROP FUNCTION helper(int) CASCADE;
SELECT * FROM there;
ROLLBACK;
-- Other parts of tables are nobody's.
CREATE INDEX target_n ON target (n);
ALTER TABLE target ADD more int;
ALTER TABLE target DROP more;
DROP INDEX target_n;
TRUNCATE target;
DROP SEQUENCE ids;
SELECT * FROM there;

-- A schema.
CREATE SCHEMA models;
CREATE TABLE models.here (n bigint);
CREATE FUNCTION models.handle(event es_event) RETURNS void LANGUAGE sql AS '';
SELECT es_create_projection('in schema', query => 'INSERT INTO models.here SELECT position FROM es_batch'), es_create_projection('function in schema', 'models.handle');
SELECT es_wait_for_projection('in schema', timeout => '60 s'), es_wait_for_projection('function in schema', timeout => '60 s');
DROP SCHEMA models;
\echo :SQLSTATE
SELECT * FROM there;
DROP SCHEMA models CASCADE;
SELECT * FROM there;

-- Drop what was dropped with a cascade again.
DROP TABLE target CASCADE;
DROP TABLE source CASCADE;
DROP FUNCTION helper;
SELECT * FROM there;

-- Partitions are tables of their own.
CREATE TABLE parted (n bigint) PARTITION BY RANGE (n);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (1000);
SELECT es_create_projection('parted', query => 'INSERT INTO parted SELECT position FROM es_batch', max_retries => 0);
SELECT es_wait_for_projection('parted', timeout => '60 s');
DROP TABLE parted_1;
DROP TABLE parted;
\echo :SQLSTATE
DROP TABLE parted CASCADE;
SELECT * FROM there;


-- ---- the reset ----

CREATE TABLE model_a (position bigint);
CREATE TABLE model_b (position bigint);
CREATE FUNCTION empty_both() RETURNS void LANGUAGE sql AS 'DELETE FROM model_a; DELETE FROM model_b';
CREATE FUNCTION handle(event es_event) RETURNS void LANGUAGE sql AS 'INSERT INTO model_a VALUES (event.position); INSERT INTO model_b VALUES (event.position)';
SELECT es_create_projection('resettable', 'handle', reset => 'DELETE FROM model_a; TRUNCATE model_b');
SELECT es_wait_for_projection('resettable', timeout => '60 s');
DROP TABLE model_a;
\echo :SQLSTATE
DROP TABLE model_b;
\echo :SQLSTATE
-- Another reset, another list.
SELECT es_alter_projection('resettable', reset => 'SELECT empty_both()');
BEGIN;
DROP TABLE model_a, model_b;
ROLLBACK;
DROP FUNCTION empty_both;
\echo :SQLSTATE
SELECT es_rebuild_projection('resettable');
SELECT es_wait_for_projection('resettable', timeout => '60 s');
SELECT count(*) - (SELECT count(*) FROM es_read_all()) AS lost_or_doubled FROM model_a;
SELECT es_alter_projection('resettable', reset => '');
DROP FUNCTION empty_both;
SELECT es_rebuild_projection('resettable');
SELECT es_wait_for_projection('resettable', timeout => '60 s');
SELECT count(*) - 2 * (SELECT count(*) FROM es_read_all()) AS lost_or_tripled FROM model_a;
-- One that names what has gone since is an error of the rebuild.
SELECT es_alter_projection('resettable', reset => 'TRUNCATE model_a');
ALTER TABLE model_a RENAME TO model_c;
SELECT es_rebuild_projection('resettable');
\echo :SQLSTATE
ALTER TABLE model_c RENAME TO model_a;
SELECT es_rebuild_projection('resettable');
SELECT es_wait_for_projection('resettable', timeout => '60 s');
DROP TABLE model_a, model_b CASCADE;
SELECT * FROM there;
DROP FUNCTION handle;


-- ---- what is temporary ----

CREATE TEMPORARY TABLE brief (n bigint);
CREATE FUNCTION pg_temp.brief(event es_event) RETURNS void LANGUAGE sql AS '';
CREATE TEMPORARY VIEW brief_view AS SELECT 1 AS n;
SELECT es_create_projection('temporary', query => 'INSERT INTO brief SELECT position FROM es_batch');
\echo :SQLSTATE
SELECT es_create_projection('temporary', query => 'SELECT n FROM es_batch, brief_view');
\echo :SQLSTATE
\set VERBOSITY sqlstate
SELECT es_create_projection('temporary function', 'pg_temp.brief');
SELECT es_create_projection('temporary function in query', query => 'SELECT pg_temp.brief(NULL::es_event)');
\set VERBOSITY terse
CREATE FUNCTION handle(event es_event) RETURNS void LANGUAGE sql AS '';
SELECT es_create_projection('temporary', 'handle', reset => 'TRUNCATE brief');
\echo :SQLSTATE
SELECT * FROM there;
-- A temporary table does not stand in for another of the same name.
CREATE TABLE shaded (n bigint);
SELECT es_create_projection('shaded', mode => 'inline', query => 'INSERT INTO shaded SELECT position FROM es_batch');
CREATE TEMPORARY TABLE shaded (n bigint);
SELECT version > 0 AS appended FROM es_append('Order-1', 'Placed');
SELECT (SELECT count(*) FROM public.shaded) > 0 AS "in the table", (SELECT count(*) FROM pg_temp.shaded) AS "in the temporary one";
-- Nor does its drop take projections along.
DROP TABLE pg_temp.shaded;
SELECT * FROM there;
DROP TABLE shaded CASCADE;
SELECT * FROM there;


-- ---- roles ----

CREATE ROLE regress_owner;
CREATE ROLE regress_member IN ROLE regress_owner;
GRANT EXECUTE ON FUNCTION es_create_projection, es_alter_projection, es_drop_projection, es_pause_projection, es_resume_projection, es_append TO regress_owner;
CREATE SCHEMA owned AUTHORIZATION regress_owner;
SET ROLE regress_owner;
CREATE TABLE owned.model (position bigint, who name);
CREATE FUNCTION owned.handle(event es_event) RETURNS void LANGUAGE sql AS 'INSERT INTO owned.model VALUES (event.position, current_user)';
SELECT es_create_projection('owned', 'owned.handle', max_retries => 0, types => '{Owned}');
RESET ROLE;
-- A member of the role may do what the role may; others may not.
SET ROLE regress_member;
SELECT es_pause_projection('owned'), es_resume_projection('owned');
RESET ROLE;
-- A role that has projections is not dropped.
BEGIN;
DROP SCHEMA owned CASCADE;
ROLLBACK;
DROP ROLE regress_owner;
\echo :SQLSTATE
-- What it may no more, its projection may no more.
REVOKE ALL ON owned.model FROM regress_owner;
ALTER TABLE owned.model OWNER TO postgres;
SELECT version > 0 AS appended FROM es_append('Order-1', 'Owned');
CALL await_state('owned', 'stopped');
SELECT last_sqlstate, last_error FROM eventstore.projections WHERE name = 'owned';
GRANT INSERT ON owned.model TO regress_owner;
SELECT es_resume_projection('owned');
SELECT es_wait_for_projection('owned', timeout => '60 s');
SELECT count(*) FROM owned.model;
REVOKE EXECUTE ON FUNCTION owned.handle FROM regress_owner, PUBLIC;
ALTER FUNCTION owned.handle OWNER TO postgres;
SELECT version > 0 AS appended FROM es_append('Order-1', 'Owned');
CALL await_state('owned', 'stopped');
SELECT last_sqlstate, last_error FROM eventstore.projections WHERE name = 'owned';
GRANT EXECUTE ON FUNCTION owned.handle TO regress_owner;
SELECT es_resume_projection('owned');
SELECT es_wait_for_projection('owned', timeout => '60 s');
SELECT count(*) FROM owned.model;
-- With all that is its own, its projections go, too.
DROP OWNED BY regress_owner;
SELECT * FROM there;
DROP OWNED BY regress_owner CASCADE;
SELECT * FROM there;
DROP ROLE regress_member, regress_owner;

-- Where what they name is somebody else's, too.
CREATE ROLE regress_owner;
GRANT EXECUTE ON FUNCTION es_create_projection, es_head TO regress_owner;
SET ROLE regress_owner;
SELECT es_create_projection('with a function of others', 'handle');
RESET ROLE;
REVOKE ALL ON FUNCTION es_create_projection, es_head FROM regress_owner;
DROP ROLE regress_owner;
\echo :SQLSTATE
DROP OWNED BY regress_owner;
SELECT * FROM there;
DROP ROLE regress_owner;

-- Renamed, it is the same role; another of its name is another.
CREATE ROLE regress_owner;
GRANT EXECUTE ON FUNCTION es_create_projection TO regress_owner;
CREATE TABLE who (owner name, superuser boolean);
GRANT INSERT ON who TO PUBLIC;
CREATE FUNCTION look(event es_event) RETURNS void LANGUAGE sql AS $$ INSERT INTO who SELECT current_user, rolsuper FROM pg_roles WHERE rolname = current_user $$;
SET ROLE regress_owner;
SELECT es_create_projection('renamed', 'look', types => '{Owned}', max_retries => 0, start_after => 0);
SELECT es_create_projection('renamed inline', 'look', mode => 'inline', types => '{Owned}');
RESET ROLE;
SELECT es_wait_for_projection('renamed', timeout => '60 s');
TRUNCATE who;
ALTER ROLE regress_owner RENAME TO regress_renamed;
CREATE ROLE regress_owner SUPERUSER;
SELECT name, owner FROM eventstore.projections WHERE name LIKE 'renamed%' ORDER BY name;
SELECT version > 0 AS appended FROM es_append('Order-1', 'Owned');
SELECT es_wait_for_projection('renamed', timeout => '60 s');
SELECT * FROM who;
DROP ROLE regress_owner;
SELECT es_drop_projection('renamed'), es_drop_projection('renamed inline');
DROP OWNED BY regress_renamed;
DROP ROLE regress_renamed;


-- ---- the extension ----

SELECT es_create_projection('last', 'handle'), es_create_projection('last inline', 'handle', mode => 'inline');
SELECT es_wait_for_projection('last', timeout => '60 s');
DROP TYPE es_event CASCADE;
\echo :SQLSTATE
DROP EXTENSION eventstore;
\echo :SQLSTATE
DROP EXTENSION eventstore CASCADE;
\echo :SQLSTATE
SELECT * FROM there;
SELECT version > 0 AS appended FROM es_append('Order-1', 'Last');
SET eventstore.allow_drop = on;
DROP EXTENSION eventstore CASCADE;
SELECT to_regproc('handle'), to_regclass('eventstore.projection');
CREATE EXTENSION eventstore;
CREATE FUNCTION handle(event es_event) RETURNS void LANGUAGE sql AS '';
SELECT es_create_projection('first', 'handle');
SELECT version FROM es_append('Order-1', 'Placed');
SELECT es_wait_for_projection('first', timeout => '60 s');
