-- Reading the log, by position.

CREATE EXTENSION eventstore;

-- An empty log.
SELECT count(*) FROM es_read_all();
SELECT es_head() >= 0 AS "has a head", es_wait(es_head()), es_epoch() IS NOT NULL AS "has an epoch";

CREATE TABLE answer AS
SELECT row_number() OVER () AS n, a.version, a.position
FROM (VALUES
    ('Order-1', 'Placed'), ('Stock-9', 'Reserved'), ('Order-2', 'Placed'), ('Order-1', 'Paid'),
    ('Invoice-1', 'Sent'), ('Order-1', 'Shipped'), ('Stock-9', 'Taken'), ('Order-2', 'Paid'),
    ('Invoice-2', 'Sent'), ('Invoice-1', 'Paid')) v (stream, type),
    LATERAL es_append(v.stream, v.type) a;
SELECT min(position) - 1 AS before, max(position) AS last FROM answer \gset
SELECT position AS fourth FROM answer WHERE n = 4 \gset
SELECT position AS seventh FROM answer WHERE n = 7 \gset

-- All of it, in order.
SELECT stream, version, type FROM es_read_all();
SELECT array_agg(e.position ORDER BY ordinality) = (SELECT array_agg(position ORDER BY n) FROM answer) AS "in order"
FROM es_read_all() WITH ORDINALITY e;

-- After a position: that of the last event seen.
SELECT stream, version, type FROM es_read_all(:seventh);
SELECT stream, version, type FROM es_read_all(:fourth, 2);
SELECT stream, version, type FROM es_read_all(:last);
SELECT stream, version, type FROM es_read_all(0, 1);
SELECT count(*) FROM es_read_all(:before, 2147483647);

-- Backwards: the newest first, from the end, or those below a position.
SELECT stream, version, type FROM es_read_all(backwards => true, max_count => 3);
SELECT stream, version, type FROM es_read_all(:fourth, backwards => true);
SELECT stream, version, type FROM es_read_all(:fourth, 1, backwards => true);
SELECT stream, version, type FROM es_read_all(0, backwards => true);

-- Up to a position: the greatest wanted or, backwards, the least.  It need not be there yet.
SELECT stream, version, type FROM es_read_all(up_to => :fourth);
SELECT stream, version, type FROM es_read_all(:fourth - 2, types => ARRAY['Paid', 'Placed'], up_to => :fourth);
SELECT stream, version, type FROM es_read_all(:fourth + 1, backwards => true, up_to => :fourth - 1);
SELECT count(*) FROM es_read_all(:fourth, up_to => :fourth);
SELECT count(*) FROM es_read_all(:fourth, backwards => true, up_to => :fourth);
SELECT count(*) = (SELECT count(*) FROM es_read_all()) AS "all" FROM es_read_all(up_to => 9223372036854775807);
SELECT * FROM es_read_all(up_to => -1);
\echo :SQLSTATE

-- Some types, some categories, both.  max_count counts what is returned.
SELECT stream, version, type FROM es_read_all(types => ARRAY['Paid']);
SELECT stream, version, type FROM es_read_all(types => ARRAY['Taken', 'Sent', 'Unknown', 'Sent']);
SELECT stream, version, type FROM es_read_all(categories => ARRAY['Stock', 'Invoice']);
SELECT stream, version, type FROM es_read_all(types => ARRAY['Paid', 'Sent'], categories => ARRAY['Invoice', 'Stock']);
SELECT stream, version, type FROM es_read_all(types => ARRAY['Paid'], categories => ARRAY['Order'], backwards => true);
SELECT stream, version, type FROM es_read_all(:fourth, 1, ARRAY['Paid']);
SELECT stream, version, type FROM es_read_all(:seventh, 1, ARRAY['Paid', 'Placed'], ARRAY['Order'], true);
SELECT count(*) FROM es_read_all(types => ARRAY['Reserved'], categories => ARRAY['Order']);
SELECT count(*) FROM es_read_all(types => ARRAY['paid'], categories => ARRAY['order']);
SELECT count(*) FROM es_read_all(categories => ARRAY['Order-1', 'Ord']);

-- The categories of streams that are bare UUIDs, or without a '-'.
SELECT version FROM es_append('11111111-2222-3333-4444-555555555555', 'Bare');
SELECT version FROM es_append('Stock', 'Counted');
SELECT stream, type FROM es_read_all(categories => ARRAY['']);
SELECT stream, type FROM es_read_all(categories => ARRAY['', 'Stock'], types => ARRAY['Bare', 'Counted']);

-- Paging by the last position seen finds each event once, with a filter and
-- without, forwards and backwards.
CREATE FUNCTION pages(size int, types text[], categories text[], backwards boolean) RETURNS TABLE (page int, events text)
    LANGUAGE plpgsql
    AS $$
DECLARE
    last bigint;
BEGIN
    page := 0;
    LOOP
        page := page + 1;
        SELECT string_agg(e.stream || '@' || e.version, ' ' ORDER BY ordinality), (array_agg(e.position ORDER BY ordinality DESC))[1]
        INTO events, last
        FROM es_read_all(last, size, types, categories, backwards) WITH ORDINALITY e;
        EXIT WHEN events IS NULL;
        RETURN NEXT;
    END LOOP;
END $$;
SELECT * FROM pages(5, NULL, NULL, false);
SELECT * FROM pages(5, NULL, NULL, true);
SELECT * FROM pages(2, '{Paid, Sent}', NULL, false);
SELECT * FROM pages(2, '{Paid, Sent}', '{Order, Invoice}', true);


-- ---- the head ----

-- Reads by position stop at the head, and one's own uncommitted event is above it.
SELECT es_head() AS head \gset
BEGIN;
SELECT version, position > :head AS "above head" FROM es_append('Order-3', 'Placed');
SELECT es_head() - :head AS moved;
SELECT count(*) FROM es_read_stream('Order-3');
SELECT count(*) FROM es_read_all(:head);
SELECT count(*) FROM es_read_all(:head, categories => ARRAY['Order']);
SELECT stream, type FROM es_read_all(backwards => true, max_count => 1);
COMMIT;
SELECT es_head() > :head AS moved;
SELECT stream, type FROM es_read_all(:head);

-- It is at the last position when nothing is in flight, and past one that was
-- rolled back, if only by the next append.
SELECT es_head() - position AS "behind the head" FROM es_read_all(backwards => true, max_count => 1);
BEGIN;
SELECT position AS gone FROM es_append('Order-4', 'Placed') \gset
ROLLBACK;
SELECT position AS next FROM es_append('Order-5', 'Placed') \gset
SELECT :next > :gone AS rises, es_head() - :next AS "head at it";

-- A position is never used twice, also if a savepoint takes it back.
BEGIN;
SAVEPOINT s;
SELECT position AS gone FROM es_append('Order-4', 'Placed') \gset
ROLLBACK TO s;
SELECT position AS next FROM es_append('Order-4', 'Placed') \gset
SELECT :next > :gone AS rises, es_head() < :gone AS "head below";
COMMIT;
SELECT es_head() - :next AS "head at it";

-- es_wait() returns at once if the head is there.  What nobody has got yet, and one's own
-- uncommitted position, it would wait for in vain.  (The messages hold positions, which vary.)
SELECT es_wait(es_head()), es_wait(0), es_wait(es_head(), '0 s');
\set VERBOSITY sqlstate
SELECT es_wait(es_head() + 1000000, '60 s');
BEGIN;
SELECT position AS own FROM es_append('Order-6', 'Placed') \gset
SELECT es_wait(:own - 1, '0 s');
SELECT es_wait(:own, '60 s');
ROLLBACK;
BEGIN;
SELECT position AS own FROM es_append('Order-6', 'Placed') \gset
SELECT count(*) FROM es_read_all(:own - 1, wait => '60 s');
ROLLBACK;
BEGIN;
SELECT position AS own FROM es_append('Order-6', 'Placed') \gset
SELECT count(*) FROM es_read_category('Order', :own - 1, wait => '60 s');
ROLLBACK;
\set VERBOSITY default

-- A read that waits returns at once if something matches, else when time is up.
SELECT stream, type FROM es_read_all(:fourth, 2, wait => '60 s');
SELECT clock_timestamp() AS began \gset
SELECT count(*) FROM es_read_all(es_head(), wait => '0.2 s');
SELECT count(*) FROM es_read_all(0, types => ARRAY['Unknown'], wait => '0.2 s');
SELECT count(*) FROM es_read_category('Unknown', 0, wait => '0.2 s');
SELECT clock_timestamp() - :'began' BETWEEN '0.6 s' AND '10 s' AS waited;
SELECT count(*) FROM es_read_all(es_head(), wait => '0 s');

-- What was never handed out is ahead of the log: an error, never "no news".
SELECT handed_out FROM eventstore.status \gset
SELECT count(*) FROM es_read_all(:handed_out);
\set VERBOSITY sqlstate
SELECT count(*) FROM es_read_all(:handed_out + 1);
SELECT count(*) FROM es_read_all(:handed_out + 1, types => ARRAY['Paid'], wait => '60 s');
SELECT count(*) FROM es_read_all(:handed_out + 1, max_count => 0);
SELECT count(*) FROM es_read_all(9223372036854775807);
SELECT count(*) FROM es_read_all(:handed_out + 1, backwards => true);
SELECT count(*) FROM es_read_category('Order', :handed_out + 1);
SELECT count(*) FROM es_read_category('Unknown', 9223372036854775807);
\set VERBOSITY default

-- ---- a moment ----

-- es_position_at() is the position to read after, to begin with the events of a
-- moment.
SELECT pg_sleep(0.01);
SELECT clock_timestamp() AS moment \gset
SELECT pg_sleep(0.01);
SELECT version FROM es_append('Moment-1', 'A');
SELECT version FROM es_append('Moment-1', 'B');
SELECT stream, version FROM es_read_all(es_position_at(:'moment'));
SELECT stream, version
FROM es_read_stream('Moment-1', 2) e, LATERAL (SELECT type FROM es_read_all(es_position_at(e.created_at), 1)) r (first)
WHERE r.first = 'B';
SELECT stream, version FROM es_read_all(es_position_at('-infinity'), 1);
SELECT stream, version FROM es_read_all(es_position_at('infinity'));
SELECT stream, version FROM es_read_all(es_position_at(clock_timestamp() + '1 h'));
SELECT es_position_at('infinity') <= es_head() AS "in the log";


-- ---- cursors ----

-- What a cursor returns does not change while others commit; from the last position
-- it gave, nothing is missed.
SELECT es_head() AS head \gset
CREATE PROCEDURE tail(after bigint)
    LANGUAGE plpgsql
    AS $$
DECLARE
    e es_event;
    n int := 0;
    last bigint := after;
BEGIN
    FOR e IN SELECT * FROM es_read_all(after) LOOP
        n := n + 1;
        last := e.position;
        PERFORM es_append('Later-' || n, 'AfterFetch');
        COMMIT;
    END LOOP;
    RAISE NOTICE 'cursor: % events', n;
    FOR e IN SELECT * FROM es_read_all(last) LOOP
        RAISE NOTICE 'then: %', e.stream;
    END LOOP;
END $$;
SELECT count(*) FROM generate_series(1, 3) i, LATERAL es_append('Sooner-' || i, 'BeforeFetch');
CALL tail(:head);

-- With hold, and in steps.
DECLARE c CURSOR WITH HOLD FOR SELECT position, stream, type FROM es_read_all(:head);
FETCH 0 FROM c;
SELECT version FROM es_append('Later-4', 'AfterOpen');
MOVE 5 FROM c;
FETCH 1 FROM c \gset
SELECT :'stream' AS stream;
FETCH 1 FROM c;
CLOSE c;
SELECT stream FROM es_read_all(:position);

-- Early ends: LIMIT, a cursor that is closed in the middle.
SELECT stream FROM es_read_all() LIMIT 2;
BEGIN;
DECLARE c NO SCROLL CURSOR FOR SELECT stream FROM es_read_all(NULL, 1000000);
FETCH 1 FROM c;
ROLLBACK;

-- Drivers send parameters without types.
PREPARE read AS SELECT stream, version FROM es_read_all($1, $2, $3, $4, $5, $6);
EXECUTE read(NULL, 1, NULL, NULL, true, NULL);
EXECUTE read(0, 1, '{Paid}', '{Invoice}', false, '0 s');
DEALLOCATE read;
