-- What is stored by its hash has the same hash on every machine and in every encoding.

CREATE EXTENSION eventstore;
SET client_encoding = 'UTF8';

-- ---- the hash of a name: XXH64 over UTF-8 ----

SELECT name, hash, to_hex(eventstore.name_hash(name)) = hash AS right
FROM (VALUES
    ('', 'ef46db3751d8e999'),
    ('a', 'd24ec4f1a98c6e5b'),
    ('abc', '44bc2cf5ad770999'),
    (U&'\00e9', '17d757dfb8b46f78'),
    (U&'\6771\4eac', '954cd0c831e41454'),
    ('course:1', '8a25e8218d18d09d'),
    ('0123456789abcdef0123456789abcde', '1fdfc63febacfde7'),
    ('0123456789abcdef0123456789abcdef', '642a94958e71e6c5'),
    ('0123456789abcdef0123456789abcdef0', 'e87684f08d6d0816')) v (name, hash);
SELECT eventstore.name_hash(NULL), eventstore.stream_bucket(NULL);

-- That is what stands in event_tag.
SELECT version FROM es_append('Order-1', 'Placed', tags => ARRAY['a', U&'\00e9', 'course:1']);
SELECT to_hex(tag) FROM eventstore.event_tag ORDER BY to_hex(tag);

-- ---- the key of a type, and the bucket of a category ----

SELECT category, type, schema_version, type_key, type_key = eventstore.type_key(category, bucket, type, schema_version) AS right
FROM eventstore.event_type;
SELECT eventstore.stream_bucket(U&'caf\00e9-1'), eventstore.stream_bucket(U&'caf\00e9'),
       (eventstore.name_hash(U&'caf\00e9') & 255) AS expected;
SELECT eventstore.type_key('Order', NULL, 'Placed', 1), eventstore.type_key(NULL, 7, 'Placed', 1),
       eventstore.type_key('Order', NULL, 'Placed', 2), eventstore.type_key('Order', NULL, 'Placed', 1, 1);
SELECT eventstore.type_key(NULL, NULL, 'Placed', 1);
SELECT eventstore.type_key('Order', 7, 'Placed', 1);
SELECT eventstore.type_key('Order', NULL, NULL, 1);
SELECT eventstore.type_key('Order', NULL, 'Placed', NULL);
SELECT eventstore.type_key('Order', NULL, 'Placed', 1, NULL);

-- ---- the members of a consumer group ----

SELECT es_append('Member-' || n, 'Joined') FROM generate_series(1, 9) n \g /dev/null
SELECT member, string_agg(stream, ' ' ORDER BY stream),
       bool_and((eventstore.name_hash(stream)::numeric + 2::numeric ^ 64) % (2::numeric ^ 64) % 3 = member) AS right
FROM generate_series(0, 2) member, es_read_category('Member', 0, 1000, member, 3)
GROUP BY member ORDER BY member;

-- The format is written with the first append.
SELECT last_value, is_called FROM eventstore.format_register;

-- ---- other encodings: the same hashes ----

SELECT current_database() AS home \gset
CREATE DATABASE regress_latin1 TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C';
\c regress_latin1
CREATE EXTENSION eventstore;
SELECT to_hex(eventstore.name_hash(convert_from('\xe9', 'LATIN1'))), eventstore.stream_bucket(convert_from('\x636166e92d31', 'LATIN1'));

-- In EUC_JP é is a character of JIS X 0212.
CREATE DATABASE regress_euc_jp TEMPLATE template0 ENCODING 'EUC_JP' LOCALE 'C';
\c regress_euc_jp
CREATE EXTENSION eventstore;
SELECT to_hex(eventstore.name_hash(convert_from('\xc5ecb5fe', 'EUC_JP'))), to_hex(eventstore.name_hash(convert_from('\x8fabb1', 'EUC_JP')));

-- The server converts MULE_INTERNAL to other encodings only, each of a part of it.
CREATE DATABASE regress_mule TEMPLATE template0 ENCODING 'MULE_INTERNAL' LOCALE 'C';
\c -reuse-previous=on "dbname=regress_mule client_encoding=SQL_ASCII"
CREATE EXTENSION eventstore;
SELECT to_hex(eventstore.name_hash(convert_from('\xc5ecb5fe', 'EUC_JP'))), to_hex(eventstore.name_hash(convert_from('\xe9', 'LATIN1'))),
       to_hex(eventstore.name_hash('course:' || 1));
SELECT version FROM es_append(convert_from('\xe9', 'LATIN1') || convert_from('\xc5ecb5fe', 'EUC_JP'), 'T', tags => ARRAY[convert_from('\xe9', 'LATIN1')]);
SELECT count(*) FROM es_query(jsonb_build_array(jsonb_build_object('tags', ARRAY[convert_from('\xe9', 'LATIN1')])));

-- What is not UTF-8 has the hash of its bytes.
CREATE DATABASE regress_ascii TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C';
\c regress_ascii
CREATE EXTENSION eventstore;
SELECT to_hex(eventstore.name_hash(E'\xc3\xa9')), to_hex(eventstore.name_hash(E'\xe6\x9d\xb1\xe4\xba\xac')), eventstore.name_hash(E'\xe9') IS NOT NULL AS bytes;

-- A name without a form in UTF-8 is refused before anything is stored.
CREATE DATABASE regress_win1252 TEMPLATE template0 ENCODING 'WIN1252' LOCALE 'C';
\c regress_win1252
CREATE EXTENSION eventstore;
SELECT to_hex(eventstore.name_hash(chr(233)));
\set VERBOSITY terse
SELECT es_append('A-' || chr(129), 'T');
\echo :SQLSTATE
SELECT es_append('A', 'T' || chr(129));
SELECT es_append('A', 'T', tags => ARRAY[chr(129)]);
SELECT count(*) FROM eventstore.stream;
SELECT count(*) FROM eventstore.event_type;

\c :home
DROP DATABASE regress_latin1;
DROP DATABASE regress_euc_jp;
DROP DATABASE regress_mule;
DROP DATABASE regress_ascii;
DROP DATABASE regress_win1252;
