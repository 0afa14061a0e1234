-- Waiting in the regression tests, for what a background worker does.  To be included, with
-- ECHO off, once the extension is there.

-- Until a condition holds; for a minute at most.
CREATE PROCEDURE await(condition text)
    LANGUAGE plpgsql
    AS $$
DECLARE
    holds boolean;
    upto timestamptz := clock_timestamp() + interval '1 minute';
BEGIN
    LOOP
        EXECUTE 'SELECT ' || condition INTO holds;
        EXIT WHEN holds;
        IF clock_timestamp() > upto THEN
            RAISE 'waited in vain for % (last seen: %)', condition, coalesce(holds::text, 'null')
                USING DETAIL = (SELECT string_agg(concat_ws(' ', name, state, failures, last_error), E'\n')
                                FROM eventstore.projections);
        END IF;
        COMMIT;
        PERFORM pg_sleep(0.01);
    END LOOP;
END $$;

-- Until a projection is in a state.
CREATE PROCEDURE await_state(name text, state text)
    LANGUAGE plpgsql
    AS $$ BEGIN CALL await(format('(SELECT state = %L FROM eventstore.projections WHERE name = %L)', state, name)); END $$;
