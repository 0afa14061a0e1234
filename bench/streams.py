"""The cases of streams: loading one with a snapshot, appending beside the scavenger.

As the others, each is called with a Bench (see run).
"""

import time

EVENTS = 1000
HIDDEN_STREAMS = 2000                                   # of 50 events each, to be removed while others append


def load(bench):
    """A stream of 1,000 events, without and with a snapshot at 990."""
    server = bench.server
    database = server.create_database('load')
    bench.report.header('load', f'a stream of {EVENTS:,} events; "yardstick" is es_load without a snapshot')
    for name in ('Whole-1', 'Kept-1'):
        server.sql(database, f"SELECT es_append_batch(array_fill('{name}'::text, ARRAY[{EVENTS}]), "
                             f"array_fill('{bench.type}'::text, ARRAY[{EVENTS}]), "
                             f"array_fill('{bench.data}'::jsonb, ARRAY[{EVENTS}]))")
    server.sql(database, "SELECT es_save_snapshot('Kept-1', 990, '{\"total\": 990}')")
    bench.settle(database)
    bench.compare('es_load, snapshot at 990', 'loads/s', bench.pgbench(database, 'loading.sql', name='Whole-1'),
                  bench.pgbench(database, 'loading.sql', name='Kept-1'), ('≥', 20.0))


def scavenge(bench):
    """Appends of 8 clients while hidden events are removed in the background."""
    server = bench.server
    database = server.create_database('scavenge')
    bench.report.header('scavenge', 'one event a transaction, 8 clients; "yardstick" is without anything to remove')
    server.sql(database, "ALTER SYSTEM SET eventstore.scavenge_interval = '10ms'", 'SELECT pg_reload_conf()')
    turns = iter(range(10**6))

    def beside():
        turn = next(turns)
        server.sql(database, f"""
            SELECT count(*) FROM generate_series(1, {HIDDEN_STREAMS}) AS n,
                LATERAL es_append_batch(array_fill('Gone-{turn}-' || n, ARRAY[50]), array_fill('{bench.type}'::text, ARRAY[50]),
                                        array_fill('{bench.data}'::jsonb, ARRAY[50]))""")
        server.sql(database, f"SELECT count(es_delete_stream('Gone-{turn}-' || n)) FROM generate_series(1, {HIDDEN_STREAMS}) AS n")
        figures = alone()
        while server.sql(database, 'SELECT count(*) FROM eventstore.hidden') != '0':
            time.sleep(0.1)
        return figures

    alone = bench.pgbench(database, 'new.eventstore.sql', clients=8, p99=True)
    figures = bench.compare('appends beside the scavenger', 'events/s', alone, beside)
    bench.report.row('  … 99 % of the calls within', 'ms', *([f['p99'] for f in figures[side]] for side in bench.sides))
    bench.report.row('  … the longest call', 'ms', *([f['longest'] for f in figures[side]] for side in bench.sides))
    server.sql(database, 'ALTER SYSTEM RESET eventstore.scavenge_interval', 'SELECT pg_reload_conf()')


CASES = (load, scavenge)
