-- invoice_numbers: numbers without gaps, across streams.
--
--   psql -f examples/invoice_numbers.sql
--
-- schema: where the functions go; invoice_numbers unless given.
--
-- A sequence leaves gaps when a transaction is rolled back.  Here a number is an event: it counts
-- from the commit on, and not at all if there is none.  The invoices of a series wait for each
-- other, as numbers without gaps must; those of different series do not.
--
-- (If all that is to be numbered were events of one stream, their versions would be the numbers.)

\set ON_ERROR_STOP on
\if :{?schema}
\else
    \set schema invoice_numbers
\endif

CREATE SCHEMA :"schema";
SET search_path = :"schema", public;

-- Where each series stood some time ago: so that the whole of it need not be read each time.  It
-- may be behind, or empty; what it says was true, and all later events are read.
CREATE TABLE series (
    name text PRIMARY KEY,
    number bigint NOT NULL,
    position bigint NOT NULL
);

CREATE FUNCTION issue_invoice(series_name text, customer text, cents bigint) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path FROM CURRENT
    AS $$
DECLARE
    query jsonb := jsonb_build_array(jsonb_build_object('tags', ARRAY['invoices:' || series_name], 'types', ARRAY['InvoiceIssued']));
    start record;
    known bigint;
    last bigint;
    conflict text;
BEGIN
    LOOP
        known := es_head();
        SELECT coalesce(max(number), 0) AS number, coalesce(max(position), 0) AS position INTO start FROM series WHERE name = series_name;
        SELECT coalesce(max((data->>'number')::bigint), start.number) INTO last
        FROM es_query(query, start.position, NULL);
        BEGIN
            PERFORM es_append('Invoice-' || series_name || '-' || last + 1, 'InvoiceIssued',
                jsonb_build_object('series', series_name, 'number', last + 1, 'customer', customer, 'cents', cents),
                tags => ARRAY['invoices:' || series_name, 'customer:' || customer],
                condition => jsonb_build_object('query', query, 'after', known));
            RETURN last + 1;
        EXCEPTION
            WHEN SQLSTATE 'SE004' THEN
                GET STACKED DIAGNOSTICS conflict = PG_EXCEPTION_DETAIL;
                PERFORM es_wait(substring(conflict FROM 'position: (\d+)')::bigint);
        END;
    END LOOP;
END;
$$;

-- Now and then, by whom it may please.
CREATE PROCEDURE remember_series()
    LANGUAGE sql
    SET search_path FROM CURRENT
    AS $$
        INSERT INTO series AS s (name, number, position)
        SELECT data->>'series', max((data->>'number')::bigint), max(position)
        FROM es_query('[{"types": ["InvoiceIssued"]}]', max_count => NULL)
        GROUP BY data->>'series'
        ORDER BY 1
        ON CONFLICT (name) DO UPDATE
        SET number = excluded.number, position = excluded.position
        WHERE excluded.position > s.position
    $$;

CREATE VIEW difference AS
SELECT *
FROM (
    SELECT position, data->>'series' AS series, (data->>'number')::bigint AS number,
        row_number() OVER (PARTITION BY data->>'series' ORDER BY position) AS place
    FROM eventstore.events
    WHERE type = 'InvoiceIssued') e
WHERE number <> place;
COMMENT ON VIEW difference IS 'Invoices whose number is not their place in the series; no rows: there are no gaps';

-- What it is good for.
SELECT issue_invoice('2026', 'ada', 1290);
BEGIN;
SELECT issue_invoice('2026', 'grace', 550);
ROLLBACK;
SELECT issue_invoice('2026', 'emmy', 4200);
CALL remember_series();
SELECT issue_invoice('2026', 'ada', 1000) AS third \gset
SELECT :third = 3 AS right \gset
\if :right
\else
    DO $$ BEGIN RAISE 'there is a gap'; END; $$;
\endif
