"""The cases of projections: catching up, inline, and the worker itself.

As the others, each is called with a Bench (see run).
"""

import concurrent.futures
import contextlib
import os
import random
import statistics
import sys
import time

BATCH = 10_000                                          # events a transaction: the default of projections
INT8, TEXT, JSONB = 20, 25, 3802                        # pg_type.oid
TICK = os.sysconf('SC_CLK_TCK')

DAILY = """
INSERT INTO daily_{side} AS d (day, orders, total)
SELECT (created_at AT TIME ZONE 'UTC')::date AS day, count(*), sum((data->>'total')::numeric)
  FROM {events}
 GROUP BY day
ON CONFLICT (day) DO UPDATE SET
    orders = d.orders + excluded.orders,
    total = d.total + excluded.total"""

PARTS = """
INSERT INTO parts_eventstore AS p (part, events, total)
SELECT right(stream, 3) AS part, count(*), sum((data->>'total')::numeric)
  FROM es_batch
 GROUP BY part
 ORDER BY part
ON CONFLICT (part) DO UPDATE SET
    events = p.events + excluded.events,
    total = p.total + excluded.total"""

QUERY = f"""
SELECT es_create_projection('daily', query => $query${DAILY.format(side='eventstore', events='es_batch')}$query$,
                            reset => 'TRUNCATE daily_eventstore')"""
HANDLER = """
SELECT es_create_projection('orders', handler => 'add_to_order', reset => 'TRUNCATE orders_eventstore')"""
INLINE = f"""
SELECT es_create_projection('parts', mode => 'inline', query => $query${PARTS}$query$)"""
TRIGGER = """
CREATE TRIGGER add_to_parts AFTER INSERT ON yardstick
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION add_to_parts()"""
ALL_PARTS = "INSERT INTO parts_{side} SELECT lpad(to_hex(n), 3, '0'), 0, 0 FROM generate_series(0, 4095) AS n"

NAME = "'Order-' || md5($1::text)::uuid"
CALL = {
    'yardstick': 'INSERT INTO yardstick (stream, version, type, data) VALUES '
                 + ', '.join(f'({NAME}, {version}, $2, $3)' for version in range(1, 11)),
    'eventstore': f'SELECT * FROM es_append_events({NAME}, $2)'
}

REBUILD = "SELECT es_rebuild_projection('{name}');\nSELECT es_wait_for_projection('{name}', timeout => '1 h')"


def store(bench, database, events):
    """Store a history, in the event store only."""
    bench.say(f'storing {events:,} events')
    bench.server.sql(database, f"CALL fill_history({events}, '{bench.type}', '{bench.data}')",
                     options='-c synchronous_commit=off')
    bench.settle(database)


def set_up(bench, name):
    database = bench.server.create_database(name)
    bench.server.script(database, os.path.join(bench.server.folder, 'projections.sql'))
    return database


def same(bench, database, name, column, events):
    """End everything unless both sides have made the same read model, of so many events."""
    one, other = f'{name}_yardstick', f'{name}_eventstore'
    different, applied = map(int, bench.server.sql(
        database, f'SELECT (SELECT count(*) FROM ((TABLE {one} EXCEPT TABLE {other}) UNION ALL '
                  f'(TABLE {other} EXCEPT TABLE {one})) AS d), (SELECT sum({column}) FROM {other})').split('|'))
    if different or applied != events:
        sys.exit(f'{one} and {other} differ in {different} rows; {applied} of {events} events were applied')


# Catching up


def catchup(bench):
    """From an empty read model to the end of the log."""
    server, events = bench.server, bench.options.events
    database = set_up(bench, 'catchup')
    path = os.path.join(server.folder, 'catchup.sql')
    store(bench, database, events)
    ends = [0, *map(int, server.sql(
        database, 'SELECT position FROM (SELECT position, row_number() OVER (ORDER BY position) AS n '
                  f'FROM eventstore.event_log) AS e WHERE n % {BATCH} = 0 OR n = {events}').split())]

    def turns(statements, times):
        """Measure statements, run so many times; psql prints the seconds they took."""
        def measure():
            with open(path, 'w') as script:
                script.write('SET synchronous_commit = off;\n\\o /dev/null\n'
                             'SELECT extract(epoch FROM clock_timestamp()) AS start \\gset\n')
                script.write(';\n'.join(statements * times) + ';\n')
                script.write('SELECT extract(epoch FROM clock_timestamp()) - :start AS seconds \\gset\n'
                             '\\echo :seconds\n')
            cpu = server.cpu(server.workers(database))
            seconds = float(server.script(database, path))
            return {'rate': events * times / seconds, 'cpu': server.cpu(server.workers(database)) - cpu}
        return measure

    def pair(what, name, column, by_hand, projection, target=None):
        once = turns(by_hand, 1)
        turns(projection, 1)()                          # a worker has started, everything is in memory
        times = max(1, round(bench.options.seconds * max(once()['rate'], once()['rate']) / events))
        bench.compare(what, 'events/s', turns(by_hand, times), turns(projection, times), target)
        same(bench, database, name, column, events)

    def daily(source):
        return DAILY.format(side='yardstick', events=source)

    bench.report.header('catchup', f'from an empty read model through {events:,} events; yardstick: by hand')
    server.sql(database, QUERY)
    empty = 'TRUNCATE daily_yardstick'
    query = [REBUILD.format(name='daily')]
    ranges = [f'WHERE position > {after} AND position <= {upto}' for after, upto in zip(ends, ends[1:])]
    pair('query, against ranges of 10,000', 'daily', 'orders',
         [empty, *(daily(f'eventstore.events {one}') for one in ranges)], query, ('≥', 0.9))
    pair('query, against one statement', 'daily', 'orders', [empty, daily('eventstore.events')], query, ('≥', 0.5))
    pair('query, against ranges of the bare table', 'daily', 'orders',
         [empty, *(daily(f'eventstore.event_log {one}') for one in ranges)], query)
    # A worker that has nothing else to do would look at that one, too.
    server.sql(database, "SELECT es_pause_projection('daily')", HANDLER)
    pair('handler, against a loop in PL/pgSQL', 'orders', 'events',
         ['TRUNCATE orders_yardstick', f'CALL add_to_orders({ends[-1]})'],
         [REBUILD.format(name='orders')], ('≥', 0.85))


# Inline


def inline(bench):
    """A read model in the transaction of the append, as a query; ten events a call."""
    server = bench.server
    with_it, without = databases = [set_up(bench, name) for name in ('inline_with', 'inline_without')]
    server.sql(with_it, ALL_PARTS.format(side='eventstore'), ALL_PARTS.format(side='yardstick'), INLINE, TRIGGER)
    for database in databases:
        bench.fill(database, 1, 10_000, 1, 1000)
    sorts = [(side, database) for side in bench.sides for database in databases]
    types = {'yardstick': [INT8, TEXT, JSONB], 'eventstore': [INT8, JSONB]}
    parameters = {'yardstick': [bench.type.encode(), bench.data.encode()], 'eventstore': [bench.ten.encode()]}

    def calls(connection, side, count):
        """Make so many calls; how long one took."""
        first = bench.fresh()
        start = time.perf_counter()
        for n in range(first, first + count):
            connection.query(b'ten', [str(n).encode(), *parameters[side]])
        return (time.perf_counter() - start) / count

    def one_round(pool, connections, count):
        """Figures of both sides: all four sorts of calls in turns of a few milliseconds."""
        def cpu(sort):
            return server.ticks(connection.pid() for connection in connections[sort]) / TICK

        times = {sort: [] for sort in sorts}
        costs = {sort: cpu(sort) for sort in sorts}
        end = time.monotonic() + 2 * bench.options.seconds
        while time.monotonic() < end:
            for sort in random.sample(sorts, len(sorts)):
                start = time.perf_counter()
                took = list(pool.map(lambda connection: calls(connection, sort[0], count), connections[sort]))
                times[sort].append(took[0] if count == 1 else (time.perf_counter() - start) / count / len(took))
        for sort in sorts:
            costs[sort] = (cpu(sort) - costs[sort]) / len(times[sort]) / count / len(connections[sort])
            times[sort] = statistics.median(times[sort])
        return {side: {'overhead': (times[side, with_it] - times[side, without]) * 1e6,
                       'cpu': (costs[side, with_it] - costs[side, without]) * 1e6,
                       'with': 1 / times[side, with_it], 'without': 1 / times[side, without]} for side in bench.sides}

    def case(what, clients, count, options, target):
        connections = {(side, database): [bench.connect(database, options) for client in range(clients)]
                       for side, database in sorts}
        for side, database in sorts:
            for connection in connections[side, database]:
                connection.prepare(b'ten', CALL[side].encode(), types[side])
        figures = []
        with concurrent.futures.ThreadPoolExecutor(clients) as pool:
            for number in range(bench.options.rounds):
                bench.say(f'{what}: round {number + 1} of {bench.options.rounds}')
                figures.append(one_round(pool, connections, count))
        for connection in sum(connections.values(), []):
            connection.close()

        def row(text, unit, key, target=None):
            bench.report.row(text, unit, *([f[side][key] for f in figures] for side in bench.sides), target)

        row(what, 'µs a call', 'overhead', target)
        row('  … CPU', 'µs a call', 'cpu')
        row('  … calls without the read model', 'calls/s', 'without')
        row('  … calls with it', 'calls/s', 'with')

    bench.report.header('inline', 'what the read model adds to a call of 10 events; yardstick: a trigger')
    quick_commit = '-c synchronous_commit=off'
    case('1 client', 1, 1, None, ('≤', 1.0))
    case('1 client, asynchronous commit', 1, 1, quick_commit, ('≤', 1.0))
    case('8 clients', 8, 10, None, ('≤', 1.0))
    case('8 clients, asynchronous commit', 8, 10, quick_commit, ('≤', 1.0))
    if server.sql(with_it, 'SELECT live FROM eventstore.projection') != 't':
        sys.exit('the projection was not applied inline')
    for side, log in (('yardstick', 'yardstick'), ('eventstore', 'eventstore.event_log')):
        kept = server.sql(with_it, f'SELECT (SELECT sum(events) FROM parts_{side}) = (SELECT count(*) FROM {log})')
        if kept != 't':
            sys.exit(f'parts_{side} does not hold every event')


# The worker


def private_memory(pid):
    """Megabytes of the process that are its own: of shared memory it maps the more the more it reads.

    None if the process is about to end.
    """
    with open(f'/proc/{pid}/status') as status:
        return next((int(line.split()[1]) / 1024 for line in status if line.startswith('RssAnon:')), None)


def worker(bench):
    """What a worker takes of memory while it applies a long log."""
    server, events = bench.server, bench.options.log
    database = set_up(bench, 'worker')
    store(bench, database, events)
    bench.report.header('worker', f'memory of its own while it applies {events:,} events')

    def watch(name, projection):
        """Run a projection through the log; the memory of the worker that did most, after a tenth of it and at the end.

        None if the log was too short to see a worker at work.
        """
        connection = bench.connect(database)
        connection.prepare(b'reached', f"SELECT checkpoint FROM eventstore.projections WHERE name = '{name}'".encode())
        connection.prepare(b'workers', server.WORKERS.encode())
        busy = {pid: server.ticks([pid]) for pid in server.workers(database)}
        seen = {}
        server.sql(database, projection)
        reached = 0
        moved = time.monotonic()
        while reached < events:
            time.sleep(0.02)
            before, reached = reached, int(connection.query(b'reached', []))
            if reached > before:
                moved = time.monotonic()
            elif time.monotonic() > moved + 60:
                sys.exit(f'{name} stands still at {reached}\n{server.last_words()}')
            for pid in map(int, connection.query(b'workers', []).split()):
                with contextlib.suppress(OSError):      # it may just have left
                    memory = private_memory(pid)
                    if memory is not None:
                        seen.setdefault(pid, []).append((server.ticks([pid]) - busy.get(pid, 0), memory))
        connection.close()
        looks = max(seen.values(), key=lambda looks: looks[-1], default=[(0, None)])
        all_ticks, at_the_end = looks[-1]
        if not all_ticks:
            return None, None
        return next(memory for ticks, memory in looks if ticks >= all_ticks / 10), at_the_end

    for what, name, projection in (('query', 'daily', QUERY), ('handler', 'orders', HANDLER)):
        bench.say(what)
        warm, at_the_end = watch(name, projection)
        bench.report.figure(f'{what}, after a tenth', 'MB', [warm])
        bench.report.figure('  … at the end', 'MB', [at_the_end])
        bench.report.figure('  … how much more', 'MB', [warm and at_the_end - warm], ('<', 1.0), counted=True)


CASES = (catchup, inline, worker)
