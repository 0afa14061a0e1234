-- unique_names: a user name has one owner at a time.
--
--   psql -f examples/unique_names.sql
--
-- schema: where the functions go; unique_names unless given.
--
-- A name has no stream of its own: users do, and they change their names.  The events bear the
-- name as a tag, in the spelling that decides; who wants it appends on condition that nothing was
-- added about it.

\set ON_ERROR_STOP on
\if :{?schema}
\else
    \set schema unique_names
\endif

CREATE SCHEMA :"schema";
SET search_path = :"schema", public;

-- What is equal is equal in the tag.
CREATE FUNCTION name_tag(name text) RETURNS text
    LANGUAGE sql
    IMMUTABLE
    RETURN 'username:' || lower(normalize(btrim(name), NFKC));

CREATE FUNCTION name_query(name text) RETURNS jsonb
    LANGUAGE sql
    IMMUTABLE
    SET search_path FROM CURRENT
    AS $$ SELECT jsonb_build_array(jsonb_build_object('tags', ARRAY[name_tag(name)], 'types', ARRAY['NameClaimed', 'NameReleased'])) $$;

CREATE FUNCTION owner_of(name text) RETURNS text
    LANGUAGE sql
    SET search_path FROM CURRENT
    AS $$
        SELECT CASE type WHEN 'NameClaimed' THEN data->>'user' END
        FROM es_query(name_query(name), max_count => NULL)
        ORDER BY position DESC
        LIMIT 1
    $$;

-- False: somebody has it.
CREATE FUNCTION claim_name(name text, "user" text) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path FROM CURRENT
    AS $$
DECLARE
    known bigint;
    conflict text;
BEGIN
    LOOP
        known := es_head();
        IF owner_of(name) IS NOT NULL THEN
            RETURN false;
        END IF;
        BEGIN
            PERFORM es_append('User-' || "user", 'NameClaimed', jsonb_build_object('name', name, 'user', "user"),
                tags => ARRAY[name_tag(name)],
                condition => jsonb_build_object('query', name_query(name), 'after', known));
            RETURN true;
        EXCEPTION
            WHEN SQLSTATE 'SE004' THEN
                GET STACKED DIAGNOSTICS conflict = PG_EXCEPTION_DETAIL;
                PERFORM es_wait(substring(conflict FROM 'position: (\d+)')::bigint);
        END;
    END LOOP;
END;
$$;

-- Two that release it at a time: one of them finds that it is not the owner's any more.
CREATE FUNCTION release_name(name text, "user" text) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path FROM CURRENT
    AS $$
DECLARE
    known bigint;
    conflict text;
BEGIN
    LOOP
        known := es_head();
        IF owner_of(name) IS DISTINCT FROM "user" THEN
            RETURN false;
        END IF;
        BEGIN
            PERFORM es_append('User-' || "user", 'NameReleased', jsonb_build_object('name', name, 'user', "user"),
                tags => ARRAY[name_tag(name)],
                condition => jsonb_build_object('query', name_query(name), 'after', known));
            RETURN true;
        EXCEPTION
            WHEN SQLSTATE 'SE004' THEN
                GET STACKED DIAGNOSTICS conflict = PG_EXCEPTION_DETAIL;
                PERFORM es_wait(substring(conflict FROM 'position: (\d+)')::bigint);
        END;
    END LOOP;
END;
$$;

-- Of each name: claimed, released, claimed ..., and released by whom it was claimed.
CREATE VIEW difference AS
SELECT *
FROM (
    SELECT position, type, tag, data->>'user' AS "user",
        lag(type) OVER (PARTITION BY tag ORDER BY position) AS type_before,
        lag(data->>'user') OVER (PARTITION BY tag ORDER BY position) AS user_before
    FROM eventstore.events, unnest(tags) tag
    WHERE type IN ('NameClaimed', 'NameReleased') AND tag LIKE 'username:%') e
WHERE CASE type
    WHEN 'NameClaimed' THEN type_before = 'NameClaimed'
    ELSE type_before IS DISTINCT FROM 'NameClaimed' OR user_before <> "user"
END;
COMMENT ON VIEW difference IS 'Names that were given twice; no rows: the rule holds';

-- What it is good for.
SELECT claim_name('Ada', '1');
SELECT claim_name(' ADA', '2') AS twice, release_name('ada', '2') AS other \gset
SELECT release_name('ada', '1');
SELECT claim_name('aDa', '2');
SELECT owner_of('ada') \gset

SELECT :'twice' = 'f' AND :'other' = 'f' AND :'owner_of' = '2' AS right \gset
\if :right
\else
    DO $$ BEGIN RAISE 'a name was given twice'; END; $$;
\endif
