"""The case of conditions: what an append on condition costs, and whether it grows with the log.

As the others, it is called with a Bench (see run).
"""

SMALL = 10_000                                          # tagged events in the small log
TAGS = 10                                               # events of a tag there


def fill(bench, database, count):
    """count events with two tags: one that TAGS of them share, and one of its own."""
    bench.say(f'storing {count:,} events with tags')
    bench.server.sql(database, f"""
        DO $$
        BEGIN
            FOR i IN 0 .. {count} / 1000 - 1 LOOP
                PERFORM count(*)
                FROM (
                    SELECT array_agg('Order-' || md5((n / {TAGS})::text)::uuid) AS streams,
                        array_agg(jsonb_build_array('order:' || n / {TAGS}, 'payment:' || n)) AS tags
                    FROM generate_series(i * 1000, i * 1000 + 999) AS n) AS call,
                    es_append_batch(streams, array_fill('{bench.type}'::text, ARRAY[1000]),
                                    array_fill('{bench.data}'::jsonb, ARRAY[1000]), tags => call.tags);
                COMMIT;
            END LOOP;
        END $$""", options='-c synchronous_commit=off')
    bench.settle(database)
    return dict(streams=count // TAGS, step=1, head=bench.server.sql(database, 'SELECT es_head()'))


def warm_up(bench, database, log):
    """Append until nearly each page of the index on tags has been touched: after a checkpoint
    the first touch writes a whole page into the WAL."""
    bench.say(f'warming {database} up')
    pages = int(bench.server.sql(database, "SELECT relpages FROM pg_class WHERE oid = 'eventstore.event_tag_tag'::regclass"))
    bench.server.pgbench(database, 'guarded.sql', clients=16, transactions=max(pages // 8, 1),
                         options='-c synchronous_commit=off', **log)


def conditions(bench):
    """One event with two tags and one condition a transaction, nobody asking for what others append."""
    options, server = bench.options, bench.server
    large = max(options.log, SMALL)
    small_log, large_log = (server.create_database(name) for name in ('small', 'large'))
    bench.report.header('conditions', 'one event with two tags a transaction; "yardstick" is said in each row')
    small, big = fill(bench, small_log, SMALL), fill(bench, large_log, large)

    def turn(database, script, log, clients=1, **more):
        return bench.pgbench(database, f'{script}.sql', clients=clients, **log, **more)

    for database, log in (small_log, small), (large_log, big):
        warm_up(bench, database, log)

    for clients in (1, 16):
        who = f'{clients} client{"s" if clients > 1 else ""}'
        bench.compare(f'with a condition / without, {who}', 'events/s',
                      turn(small_log, 'tagged', small, clients), turn(small_log, 'guarded', small, clients), ('≥', 0.85))
    bench.compare('with tags / without tags, 16 clients', 'events/s',
                  turn(small_log, 'append.eventstore', small, 16), turn(small_log, 'tagged', small, 16))
    sizes = f'{large:,} events / {SMALL:,}'
    bench.compare(f'without tags, {sizes}', 'events/s',
                  turn(small_log, 'append.eventstore', small, 16), turn(large_log, 'append.eventstore', big, 16))
    bench.compare(f'with a condition / without, {large:,} events', 'events/s',
                  turn(large_log, 'tagged', big, 16), turn(large_log, 'guarded', big, 16), ('≥', 0.85))
    # as many orders as the small log has, from all over the large one; and any, which is also
    # to ask the caches of the machine for a thousand times as many pages
    some = dict(big, step=large // SMALL)
    for orders, log, target in ('as many orders', some, ('≥', 0.9)), ('any order', big, None):
        bench.compare(f'with a condition, {orders}, {sizes}', 'events/s',
                      turn(small_log, 'guarded', small, 16), turn(large_log, 'guarded', log, 16), target)
    bench.settle(large_log)
    for orders, log, target in ('as many orders', some, ('≥', 0.9)), ('any order', big, None):
        bench.compare(f'es_query of {TAGS} events, {orders}, {sizes}', 'reads/s',
                      turn(small_log, 'query', small), turn(large_log, 'query', log), target)


CASES = (conditions,)
