-- Who owns a projection, or an upcaster: as a function is owned.

CREATE EXTENSION eventstore;
CREATE ROLE regress_joe;
CREATE ROLE regress_jane;
CREATE ROLE regress_jim;
GRANT EXECUTE ON FUNCTION es_create_projection, es_alter_projection, es_pause_projection, es_resume_projection, es_drop_projection, es_register_upcaster, es_append TO regress_joe, regress_jane, regress_jim;
CREATE SCHEMA models;
GRANT USAGE, CREATE ON SCHEMA models TO regress_joe, regress_jane, regress_jim;

-- What a handler and an upcaster run as.
CREATE TABLE models.seen (n int GENERATED ALWAYS AS IDENTITY, by text, who name);
GRANT INSERT ON models.seen TO PUBLIC;
CREATE FUNCTION see(event es_event) RETURNS void LANGUAGE sql AS $$ INSERT INTO models.seen (by, who) VALUES (event.data ->> 'upcast by', current_user) $$;
CREATE FUNCTION upcast(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT data || jsonb_build_object('upcast by', current_user) $$;
CREATE VIEW owners AS
SELECT p.oid::regprocedure AS function, pg_get_userbyid(p.proowner) AS owner, p.proacl AS rights, d.deptype, obj_description(p.oid, 'pg_proc') AS comment
FROM pg_proc p
LEFT JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.refclassid = 'pg_extension'::regclass
WHERE p.proname LIKE 'owner\_of\_%'
ORDER BY p.proname COLLATE "C";

SET ROLE regress_joe;
SELECT es_create_projection('inline', 'see', mode => 'inline', types => '{T}');
SELECT es_create_projection('async', 'see', types => '{Never}');
SELECT es_register_upcaster('T', 1, 'upcast');
RESET ROLE;
SELECT * FROM owners;
-- None is left of one that was not made.
SELECT es_create_projection('async', 'see', if_not_exists => true);
SELECT count(*) FROM owners;


-- ---- renamed ----

ALTER ROLE regress_joe RENAME TO regress_joseph;
CREATE ROLE regress_joe SUPERUSER;
SELECT version FROM es_append('A-1', 'T');
SELECT by, who FROM models.seen ORDER BY n DESC LIMIT 1;
SELECT name, state, owner FROM eventstore.projections ORDER BY name;
SELECT data FROM es_read_all();
DROP ROLE regress_joe;
ALTER ROLE regress_joseph RENAME TO regress_joe;


-- ---- given away ----

-- By REASSIGN OWNED, with what else the role owns.
SET ROLE regress_joe;
CREATE TABLE models.joes (n bigint);
CREATE FUNCTION models.note(event es_event) RETURNS void LANGUAGE sql AS $$ INSERT INTO models.joes VALUES (event.position) $$;
SELECT es_create_projection('own model', 'models.note', mode => 'inline');
RESET ROLE;
SELECT version FROM es_append('A-1', 'T');
REASSIGN OWNED BY regress_joe TO regress_jane;
SELECT name, state, owner FROM eventstore.projections ORDER BY name;
SELECT version FROM es_append('A-1', 'T');
SELECT by, who FROM models.seen ORDER BY n DESC LIMIT 1;
SELECT count(*) FROM models.joes;
SET ROLE regress_jane;
SELECT es_pause_projection('inline'), es_resume_projection('inline');
SET ROLE regress_joe;
SELECT es_pause_projection('inline');
SELECT es_register_upcaster('T', 1, 'upcast');
RESET ROLE;
-- What is rolled back has not been.
BEGIN;
REASSIGN OWNED BY regress_jane TO regress_joe;
SELECT version FROM es_append('A-1', 'T');
SELECT by, who FROM models.seen ORDER BY n DESC LIMIT 1;
ROLLBACK;
SELECT version FROM es_append('A-1', 'T');
SELECT by, who FROM models.seen ORDER BY n DESC LIMIT 1;

-- By a role that may: one of both, who may not create anything in the schema.
CREATE ROLE regress_both IN ROLE regress_joe, regress_jane;
SET ROLE regress_both;
\set VERBOSITY sqlstate
REASSIGN OWNED BY regress_jane TO regress_jim;
\set VERBOSITY default
REASSIGN OWNED BY regress_jane TO regress_joe;
RESET ROLE;
SELECT function, owner FROM owners;
REASSIGN OWNED BY regress_joe TO regress_nobody;
REASSIGN OWNED BY regress_nobody TO regress_joe;

-- By the function that carries the owner.
ALTER FUNCTION eventstore.owner_of_projection_1() OWNER TO regress_jane;
ALTER FUNCTION eventstore.owner_of_upcaster_1() OWNER TO regress_jim;
SELECT version FROM es_append('A-1', 'T');
SELECT by, who FROM models.seen ORDER BY n DESC LIMIT 1;
SELECT data FROM es_read_stream('A-1', max_count => 1);
SELECT function, owner, rights FROM owners;

-- By es_alter_projection(): an owner to a role that he could be, and superusers.
SET ROLE regress_joe;
SELECT es_alter_projection('inline', owner => 'regress_joe');
SET ROLE regress_jane;
\set VERBOSITY sqlstate
SELECT es_alter_projection('inline', owner => 'regress_joe');
\set VERBOSITY default
SELECT es_alter_projection('inline', owner => 'regress_nobody');
RESET ROLE;
GRANT regress_joe TO regress_jane;
SET ROLE regress_jane;
SELECT es_alter_projection('inline', owner => 'regress_joe', batch_size => 7);
RESET ROLE;
REVOKE regress_joe FROM regress_jane;
SELECT es_alter_projection('async', owner => 'regress_jim');
SELECT name, owner, batch_size FROM eventstore.projections ORDER BY name;
SELECT version FROM es_append('A-1', 'T');
SELECT who FROM models.seen ORDER BY n DESC LIMIT 1;

-- An upcaster is registered again by its owner, or a superuser, and his then.
SET ROLE regress_jane;
SELECT es_register_upcaster('T', 1, 'upcast');
SET ROLE regress_jim;
SELECT es_register_upcaster('T', 1, 'upcast');
RESET ROLE;
SELECT es_register_upcaster('T', 1, 'upcast');
SELECT function, owner FROM owners WHERE function::text ~ 'upcaster';
SELECT data FROM es_read_stream('A-1', max_count => 1);


-- ---- the functions themselves ----

ALTER FUNCTION eventstore.owner_of_projection_1() RENAME TO other;
ALTER FUNCTION eventstore.owner_of_upcaster_1() SET SCHEMA models;
DROP FUNCTION eventstore.owner_of_projection_1();
DROP FUNCTION eventstore.owner_of_projection_1() CASCADE;
DROP ROUTINE eventstore.owner_of_upcaster_1();
-- Who says that the log may be dropped, as one who restores in its place, may drop them.
BEGIN;
SET LOCAL eventstore.allow_drop = on;
DROP FUNCTION eventstore.owner_of_projection_1();
DROP FUNCTION eventstore.owner_of_upcaster_1();
SELECT count(*) AS left FROM eventstore.projections WHERE name = 'inline';
SELECT count(*) AS left FROM eventstore.upcaster WHERE upcaster_id = 1;
ROLLBACK;
-- But not while an event is being stored.
BEGIN;
SET LOCAL eventstore.allow_drop = on;
CREATE FUNCTION drop_carrier() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN DROP FUNCTION eventstore.owner_of_projection_1(); RETURN NEW; END $$;
CREATE TRIGGER drop_carrier BEFORE INSERT ON eventstore.event_log FOR EACH ROW EXECUTE FUNCTION drop_carrier();
SELECT version FROM es_append('A-1', 'T');
ROLLBACK;
SET ROLE regress_joe;
SELECT eventstore.owner_of_projection_1();
DROP FUNCTION eventstore.owner_of_projection_1();
SET ROLE regress_jane;
SELECT eventstore.owner_of_projection_1();
RESET ROLE;
-- What else one may do with a function, changes nothing.
ALTER FUNCTION eventstore.owner_of_projection_1() COST 1;
CREATE OR REPLACE FUNCTION eventstore.owner_of_projection_1() RETURNS void LANGUAGE sql AS 'SELECT 1';
SELECT version FROM es_append('A-1', 'T');
SELECT who FROM models.seen ORDER BY n DESC LIMIT 1;
-- An error that is caught leaves nothing behind.
DO $$
BEGIN
    DROP TABLE nothing CASCADE;
EXCEPTION WHEN undefined_table THEN
    EXECUTE 'DROP FUNCTION see(es_event)';
END $$;
\echo :SQLSTATE


-- ---- roles that go ----

-- DROP ROLE is refused as for any owner.
REVOKE ALL ON FUNCTION es_create_projection, es_alter_projection, es_pause_projection, es_resume_projection, es_drop_projection, es_register_upcaster, es_append FROM regress_jim;
REVOKE ALL ON SCHEMA models FROM regress_jim;
DROP ROLE regress_jim;
SELECT es_drop_projection('async');
DROP ROLE regress_jim;

-- DROP OWNED: without what else it owns, and with that, in whatever order.
SELECT function, owner FROM owners;
SELECT es_alter_projection('own model', owner => 'regress_jane');
-- what another's projection needs
DROP OWNED BY regress_joe;
SELECT name, owner FROM eventstore.projections ORDER BY name;
-- a projection alone
BEGIN;
ALTER TABLE models.joes OWNER TO regress_jane;
ALTER FUNCTION models.note OWNER TO regress_jane;
GRANT USAGE ON SCHEMA models TO regress_jane;
DROP OWNED BY regress_joe;
SELECT name, owner FROM eventstore.projections ORDER BY name;
SELECT function, owner FROM owners;
SELECT version FROM es_append('A-1', 'T');
ROLLBACK;
-- with a table, a function and an upcaster
SELECT es_alter_projection('own model', owner => 'regress_joe');
SET ROLE regress_joe;
CREATE FUNCTION models.joes_upcast(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT data $$;
SELECT es_register_upcaster('Other', 1, 'models.joes_upcast');
RESET ROLE;
SET ROLE regress_jane;
\set VERBOSITY sqlstate
DROP OWNED BY regress_joe;
\set VERBOSITY default
RESET ROLE;
SELECT es_create_projection('of another', query => 'INSERT INTO models.joes SELECT position FROM es_batch');
DROP OWNED BY regress_joe;
SELECT es_drop_projection('of another');
DROP OWNED BY regress_joe;
SELECT name FROM eventstore.projections;
SELECT function, owner FROM owners;
SELECT to_regclass('models.joes'), to_regproc('models.note'), to_regproc('models.joes_upcast');
SELECT version FROM es_append('A-1', 'T');
DROP ROLE regress_joe;


-- ---- without an owner ----

-- It takes a superuser to come about; it counts as stopped, and appends go on.
SET ROLE regress_jane;
SELECT es_create_projection('inline', 'see', mode => 'inline', types => '{T}');
SELECT es_create_projection('async', 'see', types => '{Never}');
RESET ROLE;
SELECT es_register_upcaster('T', 1, 'upcast');
CREATE PROCEDURE forget_owners()
    LANGUAGE sql
    AS $$
    DELETE FROM pg_depend WHERE classid = 'pg_proc'::regclass AND objid IN (SELECT oid FROM pg_proc WHERE proname LIKE 'owner\_of\_%');
    DELETE FROM pg_shdepend WHERE classid = 'pg_proc'::regclass AND objid IN (SELECT oid FROM pg_proc WHERE proname LIKE 'owner\_of\_%');
    DELETE FROM pg_proc WHERE proname LIKE 'owner\_of\_%' $$;
SET allow_system_table_mods = on;
CALL forget_owners();
RESET allow_system_table_mods;
UPDATE eventstore.projection SET name = name;
UPDATE eventstore.upcaster SET type = type;
SELECT version FROM es_append('A-1', 'T');
SELECT name, state, owner, last_error, last_sqlstate FROM eventstore.projections ORDER BY name;
SELECT data FROM es_read_stream('A-1', max_count => 1);
SELECT es_wait_for_projection('async');
SELECT es_run_projection('async');
SELECT es_rebuild_projection('async');
SELECT es_retry_dead_letters('async');
SET ROLE regress_jane;
SELECT es_resume_projection('async');
SELECT es_drop_projection('async');
RESET ROLE;
-- A superuser gives it one, or takes it.
SELECT es_alter_projection('inline', owner => 'regress_jane');
SELECT es_resume_projection('async');
SELECT es_register_upcaster('T', 1, 'upcast');
SELECT name, owner FROM eventstore.projections ORDER BY name;
SELECT es_drop_projection('async');
SELECT data FROM es_read_stream('A-1', max_count => 1);
SELECT function, owner FROM owners;


-- ---- with the extension ----

SET eventstore.allow_drop = on;
DROP FUNCTION see(es_event) CASCADE;
SELECT function, owner FROM owners;
CREATE FUNCTION see(event es_event) RETURNS void LANGUAGE sql AS '';
SELECT es_create_projection('with it', 'see', mode => 'inline');
-- In a drop that comes to the function first, and to what carries the owner then.
BEGIN;
SET LOCAL client_min_messages = warning;
DROP SCHEMA public CASCADE;
SELECT count(*) FROM pg_proc WHERE proname LIKE 'owner\_of\_%';
ROLLBACK;
SELECT name FROM eventstore.projections;
DROP VIEW owners;
DROP FUNCTION see CASCADE;
SELECT es_create_projection('with it', query => 'SELECT FROM es_batch', mode => 'inline');
DROP EXTENSION eventstore;
SELECT count(*) FROM pg_proc WHERE proname LIKE 'owner\_of\_%';
DROP OWNED BY regress_jane, regress_both;
DROP SCHEMA models CASCADE;
DROP ROLE regress_jane, regress_both;
