-- idempotent_commands: a command that is sent twice is carried out once.
--
--   psql -f examples/idempotent_commands.sql
--
-- schema: where the functions go; idempotent_commands unless given.
--
-- A call that repeats the same event in the same stream needs nothing but an event_id.  Here the
-- second attempt may decide otherwise, for the world has moved on meanwhile: so the id of the
-- command is a tag of what it has led to, and its answer is found there.  The same condition keeps
-- the rule of the command: no account is overdrawn.

\set ON_ERROR_STOP on
\if :{?schema}
\else
    \set schema idempotent_commands
\endif

CREATE SCHEMA :"schema";
SET search_path = :"schema", public;

-- transferred, or refused: for good, whatever comes later.
CREATE FUNCTION transfer(command uuid, payer text, payee text, cents bigint) RETURNS text
    LANGUAGE plpgsql
    SET search_path FROM CURRENT
    AS $$
DECLARE
    query jsonb := jsonb_build_array(
        jsonb_build_object('tags', ARRAY['command:' || command]),
        jsonb_build_object('tags', ARRAY['account:' || payer], 'types', ARRAY['MoneyDeposited', 'MoneyTransferred']));
    known bigint;
    state record;
    outcome text;
    conflict text;
BEGIN
    LOOP
        known := es_head();
        SELECT
            max(type) FILTER (WHERE 'command:' || command = ANY (tags)) AS answered,
            coalesce(sum(CASE
                WHEN data->>'payee' = payer AND data->>'payer' IS DISTINCT FROM payer THEN (data->>'cents')::bigint
                WHEN data->>'payer' = payer AND data->>'payee' <> payer THEN -(data->>'cents')::bigint
            END) FILTER (WHERE type <> 'TransferRefused'), 0) AS balance
        INTO state
        FROM es_query(query, max_count => NULL);

        IF state.answered IS NOT NULL THEN
            RETURN CASE state.answered WHEN 'MoneyTransferred' THEN 'transferred' ELSE 'refused' END;
        END IF;
        outcome := CASE WHEN state.balance >= cents THEN 'MoneyTransferred' ELSE 'TransferRefused' END;
        BEGIN
            PERFORM es_append('Command-' || command, outcome, jsonb_build_object('payer', payer, 'payee', payee, 'cents', cents),
                tags => CASE outcome
                    WHEN 'MoneyTransferred' THEN ARRAY['command:' || command, 'account:' || payer, 'account:' || payee]
                    ELSE ARRAY['command:' || command]
                END,
                condition => jsonb_build_object('query', query, 'after', known));
        EXCEPTION
            WHEN SQLSTATE 'SE004' THEN
                GET STACKED DIAGNOSTICS conflict = PG_EXCEPTION_DETAIL;
                PERFORM es_wait(substring(conflict FROM 'position: (\d+)')::bigint);
                CONTINUE;
        END;
        RETURN CASE outcome WHEN 'MoneyTransferred' THEN 'transferred' ELSE 'refused' END;
    END LOOP;
END;
$$;

CREATE FUNCTION deposit(payee text, cents bigint) RETURNS void
    LANGUAGE sql
    SET search_path FROM CURRENT
    AS $$
        SELECT FROM es_append('Account-' || payee, 'MoneyDeposited', jsonb_build_object('payee', payee, 'cents', cents),
            tags => ARRAY['account:' || payee])
    $$;

CREATE VIEW difference AS
SELECT 'overdrawn' AS what, account AS who
FROM (
    SELECT account, sum(cents) OVER (PARTITION BY account ORDER BY position) AS balance
    FROM (
        SELECT position, data->>'payee' AS account, (data->>'cents')::bigint AS cents
        FROM eventstore.events
        WHERE type IN ('MoneyDeposited', 'MoneyTransferred')
        UNION ALL
        SELECT position, data->>'payer', -(data->>'cents')::bigint
        FROM eventstore.events
        WHERE type = 'MoneyTransferred') move) balance
WHERE balance < 0
UNION ALL
SELECT 'carried out twice', tag
FROM eventstore.events, unnest(tags) tag
WHERE tag LIKE 'command:%'
GROUP BY tag
HAVING count(*) > 1;
COMMENT ON VIEW difference IS 'Accounts that were overdrawn, and commands with two answers; no rows: neither';

-- What it is good for.
SELECT deposit('ada', 1000);
SELECT transfer('8a3a1f8e-29a5-4e8e-9d55-2f0d4b7a0001', 'ada', 'grace', 700);
SELECT transfer('8a3a1f8e-29a5-4e8e-9d55-2f0d4b7a0002', 'ada', 'grace', 700);
SELECT deposit('ada', 1000);
SELECT transfer('8a3a1f8e-29a5-4e8e-9d55-2f0d4b7a0001', 'ada', 'grace', 700) AS again \gset
SELECT transfer('8a3a1f8e-29a5-4e8e-9d55-2f0d4b7a0002', 'ada', 'grace', 700) AS "still" \gset
SELECT :'again' = 'transferred' AND :'still' = 'refused' AS right \gset
\if :right
\else
    DO $$ BEGIN RAISE 'a command was carried out twice'; END; $$;
\endif
