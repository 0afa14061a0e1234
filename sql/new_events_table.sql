-- eventstore.new_events as a table: what it is not there for, rights, triggers, changes of it.

CREATE EXTENSION eventstore;
CREATE FUNCTION outcome(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE hint text;
BEGIN EXECUTE statement; RETURN 'ok';
EXCEPTION WHEN OTHERS THEN GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    RETURN concat_ws('; ', SQLSTATE || ': ' || SQLERRM, nullif(hint, '')); END $$;
INSERT INTO eventstore.new_events (stream, type) VALUES ('Order-1', 'Placed');

-- ---- it is only there to write to ----

CREATE VIEW seen AS SELECT stream, type FROM eventstore.new_events;
CREATE TABLE mine (stream text, type text);
SELECT statement, outcome(statement) FROM (VALUES
    ('SELECT * FROM eventstore.new_events'), ('SELECT version FROM eventstore.new_events'), ('SELECT count(*) FROM eventstore.new_events'),
    ('SELECT * FROM eventstore.new_events FOR UPDATE'), ('SELECT * FROM mine JOIN eventstore.new_events USING (stream) FOR UPDATE OF mine'),
    ('EXPLAIN SELECT * FROM eventstore.new_events'), ('TABLE seen'), ('DECLARE c CURSOR FOR SELECT * FROM eventstore.new_events'),
    ('COPY eventstore.new_events TO PROGRAM ''cat'''), ('COPY (TABLE eventstore.new_events) TO PROGRAM ''cat''') ,
    ('CREATE TABLE copied AS TABLE eventstore.new_events'),
    ($$UPDATE eventstore.new_events SET type = 'T'$$), ($$UPDATE eventstore.new_events SET type = 'T' WHERE false$$),
    ($$UPDATE eventstore.new_events n SET type = 'T' FROM mine WHERE mine.stream = n.stream$$),
    ('DELETE FROM eventstore.new_events'), ('DELETE FROM eventstore.new_events USING mine'), ('DELETE FROM seen'), ('TRUNCATE eventstore.new_events'),
    ($$INSERT INTO eventstore.new_events (stream, type) VALUES ('A', 'B') ON CONFLICT DO NOTHING$$),
    ($$INSERT INTO eventstore.new_events (stream, type) VALUES ('A', 'B') ON CONFLICT (event_id) DO UPDATE SET type = 'C'$$),
    ($$MERGE INTO eventstore.new_events USING mine ON false WHEN NOT MATCHED THEN INSERT (stream, type) VALUES ('A', 'B')$$),
    ($$INSERT INTO eventstore.new_events (stream, type, version) VALUES ('A', 'B', 1)$$),
    ('COPY eventstore.new_events (stream, type, version) FROM PROGRAM ''true'''),
    ('LOCK TABLE eventstore.new_events'), ('CREATE INDEX ON eventstore.new_events (stream)'),
    ('IMPORT FOREIGN SCHEMA s FROM SERVER eventstore INTO public')) v (statement);

SELECT outcome('COPY eventstore.new_events (stream, type) FROM PROGRAM ''true'' (FREEZE)') ~ '^(0A000|55000): cannot perform COPY FREEZE' AS no_freeze;

-- Nothing needs to be read.
SELECT count(*) FROM eventstore.new_events WHERE false;
INSERT INTO eventstore.new_events (stream, type) SELECT stream, type FROM mine RETURNING version;
EXPLAIN (COSTS off) INSERT INTO eventstore.new_events (stream, type) VALUES ('Order-1', 'Explained');
SELECT outcome($$EXPLAIN (ANALYZE, VERBOSE) INSERT INTO eventstore.new_events (stream, type) SELECT 'Order-1', 'Analyzed' FROM generate_series(1, 2)$$);
ANALYZE;
ANALYZE eventstore.new_events;
INSERT INTO seen VALUES ('Order-1', 'ByView');
CREATE VIEW checked AS SELECT * FROM eventstore.new_events WHERE stream LIKE 'Order-%' WITH CHECK OPTION;
INSERT INTO checked (stream, type) VALUES ('Order-1', 'ByCheckedView');
INSERT INTO checked (stream, type) VALUES ('Stock-1', 'ByCheckedView');
SELECT version, type FROM es_read_all();

-- What the row was stored as is no row of a table.
INSERT INTO eventstore.new_events (stream, type) VALUES ('Order-2', 'T') RETURNING tableoid::regclass, version;
INSERT INTO eventstore.new_events (stream, type) VALUES ('Order-2', 'T') RETURNING xmin;

-- ---- rights ----

CREATE ROLE regress_new_app;
CREATE ROLE regress_new_asks;
GRANT INSERT ON eventstore.new_events TO regress_new_app, regress_new_asks;
GRANT SELECT (version, position, duplicate) ON eventstore.new_events TO regress_new_asks;
SET ROLE regress_new_app;
INSERT INTO eventstore.new_events (stream, type) VALUES ('Order-3', 'T');
COPY eventstore.new_events (stream, type) FROM STDIN;
Order-3	T
\.
INSERT INTO eventstore.new_events (stream, type) VALUES ('Order-3', 'T') RETURNING version;
SELECT * FROM eventstore.events;
SET ROLE regress_new_asks;
INSERT INTO eventstore.new_events (stream, type) VALUES ('Order-3', 'T') RETURNING version, duplicate;
INSERT INTO eventstore.new_events (stream, type) VALUES ('Order-3', 'T') RETURNING stream;
SELECT * FROM es_append('Order-3', 'T');
SELECT eventstore.new_events_handler();
CREATE FOREIGN TABLE another (stream text) SERVER eventstore;
CREATE SERVER mine FOREIGN DATA WRAPPER eventstore;
RESET ROLE;
-- (Of a file, for not every psql goes on after a COPY of its own that is refused.)
CREATE ROLE regress_new_none;
GRANT pg_read_server_files TO regress_new_none;
SET ROLE regress_new_none;
INSERT INTO eventstore.new_events (stream, type) VALUES ('Order-3', 'T');
COPY eventstore.new_events (stream, type) FROM '/dev/null';
RESET ROLE;
SELECT es_stream_version('Order-3');

-- ---- triggers ----

-- A row that triggers look at is stored at once, and AFTER triggers find it.
CREATE TABLE fired (n int GENERATED ALWAYS AS IDENTITY, says text);
CREATE FUNCTION before_row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO fired (says) VALUES (format('before %s: version %s', NEW.type, es_stream_version(NEW.stream)));
    IF NEW.type = 'Dropped' THEN RETURN NULL; END IF;
    NEW.data := NEW.data || '{"seen": true}'; NEW.version := 99; RETURN NEW; END $$;
CREATE FUNCTION after_row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO fired (says) VALUES (format('after %s: %s, version %s', NEW.type, NEW.version, es_stream_version(NEW.stream))); RETURN NULL; END $$;
CREATE FUNCTION of_statement() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO fired (says) VALUES (format('%s statement: version %s', lower(TG_WHEN), es_stream_version('Trig-1'))); RETURN NULL; END $$;
CREATE TRIGGER before_row BEFORE INSERT ON eventstore.new_events FOR EACH ROW EXECUTE FUNCTION before_row();
CREATE TRIGGER after_row AFTER INSERT ON eventstore.new_events FOR EACH ROW EXECUTE FUNCTION after_row();
CREATE TRIGGER before_statement BEFORE INSERT ON eventstore.new_events FOR EACH STATEMENT EXECUTE FUNCTION of_statement();
CREATE TRIGGER after_statement AFTER INSERT ON eventstore.new_events FOR EACH STATEMENT EXECUTE FUNCTION of_statement();
INSERT INTO eventstore.new_events (stream, type) VALUES ('Trig-1', 'A'), ('Trig-1', 'Dropped'), ('Trig-1', 'B') RETURNING version, data;
COPY eventstore.new_events (stream, type) FROM STDIN;
Trig-1	C
Trig-1	Dropped
Trig-1	D
\.
SELECT says FROM fired ORDER BY n;
DROP TRIGGER before_row ON eventstore.new_events;
DROP TRIGGER after_row ON eventstore.new_events;

-- Those of the statement: AFTER it, all of its rows are stored.
TRUNCATE fired;
INSERT INTO eventstore.new_events (stream, type) SELECT 'Trig-1', 'E' FROM generate_series(1, 500);
COPY eventstore.new_events (stream, type) FROM STDIN;
Trig-1	F
Trig-1	G
\.
SELECT says FROM fired ORDER BY n;
DROP TRIGGER before_statement ON eventstore.new_events;
DROP TRIGGER after_statement ON eventstore.new_events;

-- A trigger on the log writes here.
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.data ? 'audit' THEN INSERT INTO eventstore.new_events (stream, type) VALUES ('Audit-1', 'Audited'); END IF; RETURN NULL; END $$;
CREATE TRIGGER audit AFTER INSERT ON eventstore.event_log FOR EACH ROW EXECUTE FUNCTION audit();
INSERT INTO eventstore.new_events (stream, type, data) VALUES ('Order-4', 'T', '{"audit": 1}'), ('Order-4', 'T', '{"audit": 2}');
SELECT es_stream_version('Audit-1');
DROP TRIGGER audit ON eventstore.event_log;

-- What users' constraints on the log refuse is told with its row.
ALTER TABLE eventstore.event_log ADD CONSTRAINT small CHECK (NOT data ? 'large');
SELECT outcome($$INSERT INTO eventstore.new_events (stream, type, data) VALUES ('Order-4', 'T', '{}'), ('Order-4', 'T', '{"large": 1}')$$) ~ '^23514';
ALTER TABLE eventstore.event_log DROP CONSTRAINT small;

-- ---- as a partition ----

CREATE TABLE all_events (LIKE eventstore.new_events INCLUDING GENERATED INCLUDING DEFAULTS) PARTITION BY LIST (type);
CREATE TABLE other_events PARTITION OF all_events FOR VALUES IN ('Other');
ALTER TABLE all_events ATTACH PARTITION eventstore.new_events FOR VALUES IN ('Mine', 'More');
INSERT INTO all_events (stream, type) VALUES ('Part-1', 'Mine'), ('Part-1', 'Other'), ('Part-1', 'More') RETURNING tableoid::regclass, version;
INSERT INTO all_events (stream, type) SELECT 'Part-1', 'Mine' FROM generate_series(1, 300);
COPY all_events (stream, type) FROM STDIN;
Part-1	Mine
Part-1	Other
Part-1	More
\.
SELECT es_stream_version('Part-1');
SELECT statement, outcome(statement) FROM (VALUES
    ('SELECT * FROM all_events'), ($$SELECT * FROM all_events WHERE type = 'Other'$$), ($$UPDATE all_events SET stream = 'S'$$), ('DELETE FROM all_events'),
    ($$UPDATE all_events SET data = '[]' WHERE type = 'Other'$$), ($$UPDATE all_events SET type = 'Mine' WHERE type = 'Other'$$),
    ($$INSERT INTO all_events (stream, type) VALUES ('Part-1', 'Mine') ON CONFLICT DO NOTHING$$), ('TRUNCATE all_events')) v (statement);
SELECT version, type, data FROM es_read_stream('Part-1', backwards => true, max_count => 3);
ALTER TABLE all_events DETACH PARTITION eventstore.new_events;
DROP TABLE all_events;

-- ---- other tables of the wrapper, and changes of this one ----

DROP VIEW seen, checked;
CREATE FOREIGN TABLE another (stream text, type text) SERVER eventstore;
CREATE SERVER mine FOREIGN DATA WRAPPER eventstore;
CREATE FOREIGN TABLE yet_another (stream text, type text) SERVER mine;
SELECT statement, outcome(statement) FROM (VALUES
    ('SELECT * FROM another'), ($$INSERT INTO another VALUES ('S', 'T')$$), ('COPY another FROM PROGRAM ''echo S'' (DELIMITER '' '')'), ('DELETE FROM another'),
    ($$INSERT INTO yet_another VALUES ('S', 'T')$$),
    ('CREATE FOREIGN TABLE t (stream text) SERVER eventstore OPTIONS (a ''b'')'), ('CREATE SERVER s FOREIGN DATA WRAPPER eventstore OPTIONS (a ''b'')'),
    ('CREATE USER MAPPING FOR CURRENT_USER SERVER eventstore OPTIONS (a ''b'')'), ('ALTER FOREIGN TABLE eventstore.new_events OPTIONS (ADD a ''b'')'),
    ('DROP FOREIGN TABLE eventstore.new_events'), ('DROP SERVER eventstore'), ('DROP FOREIGN DATA WRAPPER eventstore')) v (statement);
DROP FOREIGN TABLE another, yet_another;
DROP SERVER mine;

BEGIN;
ALTER FOREIGN TABLE eventstore.new_events ADD COLUMN note text;
INSERT INTO eventstore.new_events (stream, type) VALUES ('Order-5', 'T');
ROLLBACK;
BEGIN;
ALTER FOREIGN TABLE eventstore.new_events DROP COLUMN tags;
COPY eventstore.new_events (stream, type) FROM '/dev/null';
ROLLBACK;
BEGIN;
ALTER FOREIGN TABLE eventstore.new_events ALTER COLUMN data TYPE text;
INSERT INTO eventstore.new_events (stream, type) VALUES ('Order-5', 'T');
ROLLBACK;
BEGIN;
ALTER FOREIGN TABLE eventstore.new_events DROP COLUMN tags;
ALTER FOREIGN TABLE eventstore.new_events ADD COLUMN tags text[];
ALTER FOREIGN TABLE eventstore.new_events ALTER COLUMN type SET DEFAULT 'Usual';
INSERT INTO eventstore.new_events (stream, tags) VALUES ('Order-5', '{a}') RETURNING type, tags, version;
ROLLBACK;

DROP ROLE regress_new_none;
DROP OWNED BY regress_new_app, regress_new_asks;
DROP ROLE regress_new_app, regress_new_asks;
SELECT * FROM es_check();
SET eventstore.allow_drop = on;
DROP EXTENSION eventstore;
SELECT count(*) FROM pg_foreign_data_wrapper;
