-- What CREATE EXTENSION puts where.

CREATE EXTENSION eventstore;

CREATE TEMP VIEW member AS
SELECT d.classid, d.objid, i.type, i.schema, i.identity
FROM pg_depend d, LATERAL pg_identify_object(d.classid, d.objid, 0) i
WHERE d.refclassid = 'pg_extension'::regclass
    AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'eventstore')
    AND d.deptype = 'e';

-- The functions: names, order of arguments, defaults, results.
\a\t
SELECT format(E'%s(%s)\n  -> %s\n', p.proname, pg_get_function_arguments(p.oid), pg_get_function_result(p.oid))
FROM pg_proc p
JOIN member m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
WHERE p.pronamespace = 'public'::regnamespace
ORDER BY p.proname COLLATE "C";
\a\t

-- No overloads: drivers send untyped parameters.
SELECT p.proname, count(*)
FROM pg_proc p
JOIN member m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
GROUP BY p.proname
HAVING count(*) > 1;

-- An event.  The type may grow at its end.
SELECT attnum, attname, format_type(atttypid, atttypmod) AS type
FROM pg_attribute
WHERE attrelid = 'es_event'::regclass AND attnum BETWEEN 1 AND 10
ORDER BY attnum;

-- Everything else is in the schema eventstore.
SELECT DISTINCT type, schema
FROM member
WHERE schema = 'public'
ORDER BY type;
SELECT relname FROM pg_class
WHERE relnamespace = 'eventstore'::regnamespace AND relkind = 'v' AND relname IN ('events', 'streams', 'event_types', 'status', 'blockers')
ORDER BY relname COLLATE "C";

-- What writes, waits, or reads what is newer than the query's snapshot, is volatile.
SELECT p.proname, p.provolatile, p.proparallel
FROM pg_proc p
JOIN member m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
WHERE p.pronamespace = 'public'::regnamespace AND (p.provolatile <> 'v' OR p.proparallel <> 'u')
    AND p.proname ~ '^es_(append|check|head|epoch|wait|read_(all|category|correlation))';

-- Each object says what it is for.
SELECT type, identity AS "without a comment"
FROM member
WHERE obj_description(objid, (SELECT relname FROM pg_class WHERE oid = classid)) IS NULL
    AND type IN ('function', 'table', 'view', 'sequence', 'schema', 'composite type', 'foreign table', 'foreign-data wrapper', 'server')
ORDER BY type, identity COLLATE "C";

-- Of the types, only es_event: the others are those of tables.
SELECT obj_description('es_event'::regtype, 'pg_type') IS NOT NULL AS "es_event has one";


-- Nothing is PUBLIC's, except that the schema's name can be spoken.
SELECT p.oid::regprocedure AS "PUBLIC may execute"
FROM pg_proc p
JOIN member m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid,
    LATERAL aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
WHERE a.grantee = 0;
SELECT c.oid::regclass AS "PUBLIC may", a.privilege_type
FROM pg_class c
JOIN member m ON m.classid = 'pg_class'::regclass AND m.objid = c.oid,
    LATERAL aclexplode(c.relacl) a
WHERE a.grantee = 0;

-- The settings are known.
SELECT name, setting, unit, vartype, context FROM pg_settings
WHERE name IN ('eventstore.allow_drop', 'eventstore.max_event_size', 'eventstore.metadata')
ORDER BY name COLLATE "C";

-- It stays in its schema.
CREATE SCHEMA elsewhere;
ALTER EXTENSION eventstore SET SCHEMA elsewhere;
\echo :SQLSTATE
DROP SCHEMA elsewhere;

-- A store whose schema or tables have been renamed says so.
ALTER SCHEMA eventstore RENAME TO elsewhere;
SELECT es_head();
ALTER SCHEMA elsewhere RENAME TO eventstore;
ALTER TABLE eventstore.stream RENAME TO flow;
SELECT es_head();
ALTER TABLE eventstore.flow RENAME TO stream;
SELECT es_head();
