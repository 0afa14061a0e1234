-- Names and data in other encodings, and under other collations.

CREATE EXTENSION eventstore;
SET client_encoding = 'UTF8';

-- Two names are the same if their bytes are, whatever a collation says.
SELECT CASE WHEN EXISTS (SELECT FROM pg_collation WHERE collprovider = 'i')
    THEN 'provider = icu, locale = ''und-u-ks-level1'', deterministic = false'
    ELSE 'locale = ''C''' END AS options \gset
CREATE COLLATION loose (:options);
SELECT name, version
FROM (VALUES (1, 'Order-1'), (2, 'order-1'), (3, 'ORDER-1'), (4, U&'Ord\00e9r-1'), (5, U&'Orde\0301r-1')) v (n, name),
    LATERAL es_append(v.name COLLATE loose, v.name COLLATE loose, to_jsonb(n), 0, metadata => jsonb_build_object('correlation_id', v.name))
ORDER BY n;
SELECT data FROM es_read_stream('order-1' COLLATE loose);
SELECT data FROM es_read_category('ORDER' COLLATE loose);
SELECT data FROM es_read_all(types => ARRAY[U&'Orde\0301r-1' COLLATE loose]);
SELECT data FROM es_read_all(categories => ARRAY['Order' COLLATE loose]);
SELECT data FROM es_read_correlation('order-1' COLLATE loose);
SELECT es_stream_version('oRDER-1' COLLATE loose), es_category('oRDER-1' COLLATE loose);

-- ---- one byte a character ----

SELECT current_database() AS home \gset
CREATE DATABASE regress_latin1 TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C';
\c regress_latin1
SET client_encoding = 'UTF8';
CREATE EXTENSION eventstore;
CREATE FUNCTION outcome(statement text) RETURNS text
    LANGUAGE plpgsql
    AS $$
DECLARE
    answer text;
BEGIN
    EXECUTE statement INTO answer;
    RETURN coalesce('ok: ' || answer, 'ok');
EXCEPTION
    WHEN OTHERS THEN
        RETURN SQLSTATE;
END $$;
SELECT version FROM es_append('Café-1', 'Öffnet', '{"ä": "ß"}', tags => ARRAY['é'], metadata => '{"correlation_id": "ü"}');
SELECT stream, version, type, data, metadata, tags FROM es_read_category('Café', 0);
SELECT stream FROM es_read_all(types => ARRAY['Öffnet']);
SELECT stream FROM es_read_correlation('ü');
SELECT outcome(format('SELECT version FROM es_append(%L, ''T'')', repeat('é', n))) FROM (VALUES (255), (256)) v (n);
SELECT outcome(format('SELECT version FROM es_append(%L, ''T'')', 'a' || chr(133))) AS "0x85";
SELECT outcome($$SELECT version FROM es_append('Json-1', 'T', '"\u00e9"')$$), outcome($$SELECT version FROM es_append('Json-1', 'T', '"\u20ac"')$$);
SELECT version, type, data FROM es_read_stream('Json-1');

-- ---- no encoding at all ----

CREATE DATABASE regress_ascii TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C';
\c regress_ascii
SET client_encoding = 'SQL_ASCII';
CREATE EXTENSION eventstore;
CREATE FUNCTION outcome(statement text) RETURNS text
    LANGUAGE plpgsql
    AS $$
DECLARE
    answer text;
BEGIN
    EXECUTE statement INTO answer;
    RETURN coalesce('ok: ' || answer, 'ok');
EXCEPTION
    WHEN OTHERS THEN
        RETURN SQLSTATE;
END $$;

-- Bytes go in and come out; a character is a byte.
SELECT version FROM es_append('🚀é-1', 'Öffnet', '{"ä": "ß 🚀"}', tags => ARRAY['é'], metadata => '{"correlation_id": "ü"}');
SELECT stream, version, type, data, metadata, tags FROM es_read_category('🚀é');
SELECT stream FROM es_read_all(types => ARRAY['Öffnet']);
SELECT stream FROM es_read_correlation('ü');
SELECT outcome(format('SELECT version FROM es_append(%L, ''T'')', repeat('é', n) || 'x')) FROM (VALUES (127), (128)) v (n);
SELECT outcome(format('SELECT version FROM es_append(%L, ''T'')', E'a\x01'));

\c :home
DROP DATABASE regress_latin1;
DROP DATABASE regress_ascii;
