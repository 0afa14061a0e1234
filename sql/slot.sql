-- Slots: a number from 0 to 1,023 that anybody can compute from the name of a stream.

CREATE EXTENSION eventstore;
SET client_encoding = 'UTF8';

-- The slot of a name is XXH64 over its UTF-8, modulo 1,024.
SELECT stream, slot, es_slot(stream) = slot AS right
FROM (VALUES
    ('', 409),
    ('Order-1', 683),
    ('Order-1+items', 246),
    ('Order-1+items+2', 394),
    ('+Order-1', 95),
    (U&'Caf\00e9-1', 19),
    (U&'\6771\4eac-1', 551),
    ('0123456789abcdef0123456789abcdef-1', 991),
    ('11111111-2222-4333-8444-555555555555', 680),
    (repeat('x', 255), 536)) v (stream, slot);
SELECT es_slot(NULL);

-- All slots are used, alike.
SELECT count(DISTINCT es_slot('Order-' || n)), min(es_slot('Order-' || n)), max(es_slot('Order-' || n)) FROM generate_series(1, 20000) n;
SELECT max(n) < 40 AS "of 20 on average" FROM (SELECT count(*) AS n FROM generate_series(1, 20480) n GROUP BY es_slot('Order-' || n)) s;

-- ---- the boundary: the name up to a character, before the first append ----

SELECT es_set_boundary('+');
SELECT stream, slot, es_slot(stream) = slot AS right
FROM (VALUES
    ('Order-1', 683),
    ('Order-1+items', 683),
    ('Order-1+items+2', 683),
    ('+Order-1', 409),
    (U&'\6771+\4eac', 580),
    (U&'\6771\4eac-1', 551)) v (stream, slot);

-- A category is a boundary, too; a bare UUID is cut as any name.
SELECT es_set_boundary('-');
SELECT stream, slot, es_slot(stream) = slot AS right
FROM (VALUES
    ('Order-1', 611),
    ('Order-1+items', 611),
    (U&'\6771\4eac-1', 84),
    ('11111111-2222-4333-8444-555555555555', 337)) v (stream, slot);

-- Any character that a name may have.
SELECT es_set_boundary(U&'\00e9');
SELECT es_slot(U&'Caf\00e9-1') = 138, es_slot(U&'Caf\00e9') = 138, es_slot('Order-1') = 683;
SELECT es_set_boundary(U&'\+01f600');
SELECT es_slot(U&'a\+01f600b') = es_slot('a'), es_slot(U&'\+01f600a') = 409;
SELECT es_set_boundary(' ');
SELECT es_slot('a b') = es_slot('a');

-- NULL takes it away.
SELECT es_set_boundary(NULL);
SELECT es_slot('Order-1+items') = 246;
SELECT last_value, is_called FROM eventstore.boundary_register;

-- Nothing else.
CREATE FUNCTION outcome(statement text) RETURNS text
    LANGUAGE plpgsql
    AS $$
BEGIN
    EXECUTE statement;
    RETURN 'ok';
EXCEPTION
    WHEN OTHERS THEN
        RETURN SQLSTATE || ' ' || SQLERRM;
END $$;
SELECT separator, outcome(format('SELECT es_set_boundary(%L)', separator))
FROM (VALUES (''), ('++'), (U&'+\00e9'), (U&'e\0301')) v (separator);
SELECT code, outcome(format('SELECT es_set_boundary(chr(%s))', code))
FROM (VALUES (1), (9), (10), (31), (127), (128), (159), (160)) v (code);
SELECT outcome('SELECT es_set_boundary(repeat(''x'', 1000000))');
SELECT es_set_boundary('+');

-- It counts at once: a rollback does not take it back.
BEGIN;
SELECT es_set_boundary('/');
ROLLBACK;
SELECT es_slot('a/b') = es_slot('a') AS cut;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT es_slot('a/b') = es_slot('a') AS cut;
SELECT es_set_boundary('+');
SELECT es_slot('a/b') = es_slot('a') AS cut, es_slot('a+b') = es_slot('a') AS cut;
COMMIT;

-- Only the owner of the store and superusers set it, in a transaction that may write.
BEGIN READ ONLY;
SELECT es_slot('a+b') = es_slot('a') AS cut;
SELECT es_set_boundary('/');
ROLLBACK;
\echo :LAST_ERROR_SQLSTATE
CREATE ROLE regress_slot;
GRANT EXECUTE ON FUNCTION es_slot, es_set_boundary TO regress_slot;
SET ROLE regress_slot;
SELECT es_slot('a+b');
SELECT es_set_boundary('/');
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;
DROP OWNED BY regress_slot;
SET ROLE regress_slot;
SELECT es_slot('a');
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;
DROP ROLE regress_slot;

-- Not by code that runs in the midst of an append.
CREATE FUNCTION from_inside(event es_event) RETURNS void LANGUAGE sql AS $$ SELECT es_set_boundary('/') $$;
SELECT es_create_projection('inside', 'from_inside', mode => 'inline');

-- ---- afterwards it stays ----

SELECT es_append('Order-1', 'Placed');
SELECT es_drop_projection('inside');
SELECT version, position FROM es_append('Order-1+items', 'Added');
SELECT es_set_boundary('/');
\echo :LAST_ERROR_SQLSTATE
SELECT es_set_boundary(NULL);
SELECT es_set_boundary('+');
SELECT es_slot('Order-1+items') = es_slot('Order-1') AS cut;

-- Also when the store has been emptied, or opened for a restore.
SET eventstore.allow_drop = on;
SELECT es_reset();
SELECT es_set_boundary('/');
SELECT es_slot('Order-1+items') = es_slot('Order-1') AS cut;
SELECT version FROM es_append('Order-1+items', 'Added', expected_version => 0);
SET eventstore.restore = on;
INSERT INTO eventstore.stream (stream_key, name) VALUES (1000, 'Restored-1');
SELECT sealed FROM eventstore.status;
SELECT es_set_boundary('/');
RESET eventstore.restore;

-- A new store has none.
DROP EXTENSION eventstore CASCADE;
CREATE EXTENSION eventstore;
SELECT es_slot('Order-1+items') = 246;
BEGIN;
SELECT es_set_boundary('+');
SELECT es_slot('Order-1+items') = 683 AS cut;
SELECT version FROM es_append('Order-1', 'Placed');
SELECT es_set_boundary('/');
ROLLBACK;

-- An append that was rolled back was one.
SELECT es_set_boundary('/');
SELECT es_slot('Order-1+items') = 683 AS cut;

-- ---- other encodings: the same slots ----

SELECT current_database() AS home \gset
CREATE DATABASE regress_latin1 TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C';
\c regress_latin1
SET client_encoding = 'UTF8';
CREATE EXTENSION eventstore;
SELECT es_slot('Café-1') = 19;
SELECT es_set_boundary('é');
SELECT es_slot('Café-1') = 138, es_slot('Café-1é2') = 138;
SELECT last_value FROM eventstore.boundary_register;
SELECT es_set_boundary(chr(133));
\echo :LAST_ERROR_SQLSTATE

-- In EUC_JP the end of a character and the beginning of the next may be the bytes of a third.
CREATE DATABASE regress_euc_jp TEMPLATE template0 ENCODING 'EUC_JP' LOCALE 'C';
\c regress_euc_jp
SET client_encoding = 'UTF8';
CREATE EXTENSION eventstore;
SELECT es_slot('東京-1') = 551;
SELECT es_set_boundary('東');
SELECT es_slot('東京-1') = 409, es_slot('京東1') = es_slot('京');
SELECT es_set_boundary(convert_from('\xecb5', 'EUC_JP'));
SELECT es_slot('東京-1') = 551;

-- What is not known to be UTF-8 is taken for it.
CREATE DATABASE regress_ascii TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C';
\c regress_ascii
CREATE EXTENSION eventstore;
SELECT es_slot(E'Caf\xc3\xa9-1') = 19, es_slot(E'\xe9') BETWEEN 0 AND 1023;
SELECT es_set_boundary(E'\xc3\xa9');
SELECT es_slot(E'Caf\xc3\xa9-1') = 138;
SELECT last_value FROM eventstore.boundary_register;
SELECT es_set_boundary(E'\xe9');
\echo :LAST_ERROR_SQLSTATE
SELECT es_set_boundary(E'\xc3');
SELECT es_set_boundary('+');

\c :home
DROP DATABASE regress_latin1;
DROP DATABASE regress_euc_jp;
DROP DATABASE regress_ascii;
