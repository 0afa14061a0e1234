-- What the projection cases use: read models twice, once for each side, the code
-- that keeps them, and a history to catch up with.  After yardstick.sql.

-- Sales a day, for a query; what each stream holds, for a handler; sales of 4,096
-- parts, by the last three characters of the stream's name, for an inline query.
CREATE TABLE daily_eventstore (
    day date PRIMARY KEY,
    orders bigint NOT NULL,
    total numeric NOT NULL
);
CREATE TABLE daily_yardstick (LIKE daily_eventstore INCLUDING ALL);

CREATE TABLE orders_eventstore (
    stream text PRIMARY KEY,
    events bigint NOT NULL,
    total numeric NOT NULL,
    changed_at timestamptz NOT NULL
);
CREATE TABLE orders_yardstick (LIKE orders_eventstore INCLUDING ALL);

CREATE TABLE parts_eventstore (
    part text PRIMARY KEY,
    events bigint NOT NULL,
    total numeric NOT NULL
)
WITH (fillfactor = 50);
CREATE TABLE parts_yardstick (LIKE parts_eventstore INCLUDING ALL)
WITH (fillfactor = 50);

-- ---- the log to catch up with ----

-- A year's history: so many events, a thousand a call, ten a stream,
-- a thousand streams open at a time.
CREATE PROCEDURE fill_history(events bigint, type text, data jsonb)
LANGUAGE plpgsql
AS $$
DECLARE
    names text[];
    times timestamptz[];
BEGIN
    FOR i IN 0 .. events - 1 BY 1000 LOOP
        SELECT array_agg(stream_name(e / 10000 * 1000 + e % 1000) ORDER BY e),
               array_agg(timestamptz '2025-01-01 00:00 UTC' + e * (interval '365 days' / events) ORDER BY e)
          INTO names, times
          FROM generate_series(i, least(i + 1000, events) - 1) AS e;
        PERFORM count(*)
           FROM es_append_batch(names,
                                array_fill(type, ARRAY[cardinality(names)]),
                                array_fill(data, ARRAY[cardinality(names)]),
                                created_at => times);
        COMMIT;
    END LOOP;
END
$$;

-- ---- handler ----

CREATE FUNCTION add_to_order(event es_event) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    INSERT INTO orders_eventstore AS o (stream, events, total, changed_at)
    VALUES (event.stream, 1, (event.data->>'total')::numeric, event.created_at)
    ON CONFLICT (stream) DO UPDATE SET
        events = o.events + 1,
        total = o.total + excluded.total,
        changed_at = excluded.changed_at;
END
$$;

-- The same by hand: pages of the log, a transaction each.
CREATE PROCEDURE add_to_orders(last bigint)
LANGUAGE plpgsql
AS $$
DECLARE
    event es_event;
    after bigint := 0;
BEGIN
    WHILE after < last LOOP
        FOR event IN SELECT * FROM es_read_all(after, 10000) LOOP
            INSERT INTO orders_yardstick AS o (stream, events, total, changed_at)
            VALUES (event.stream, 1, (event.data->>'total')::numeric, event.created_at)
            ON CONFLICT (stream) DO UPDATE SET
                events = o.events + 1,
                total = o.total + excluded.total,
                changed_at = excluded.changed_at;
        END LOOP;
        after := event.position;
        COMMIT;
    END LOOP;
END
$$;

-- ---- inline ----

-- The yardstick's way to keep a read model in the writer's transaction; the trigger
-- itself is created by the case.
CREATE FUNCTION add_to_parts() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    INSERT INTO parts_yardstick AS p (part, events, total)
    SELECT right(stream, 3) AS part, count(*), sum((data->>'total')::numeric)
      FROM added
     GROUP BY part
     ORDER BY part
    ON CONFLICT (part) DO UPDATE SET
        events = p.events + excluded.events,
        total = p.total + excluded.total;
    RETURN NULL;
END
$$;
