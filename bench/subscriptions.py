"""The cases of subscriptions: consumers that fetch and ack, against a plain read.

As the others, each is called with a Bench (see run).
"""

import concurrent.futures
import sys
import time

import projections

PAGE, FETCH = 1000, 100                                 # events a call
READ = f'SELECT * FROM es_read_all($1, {PAGE})'.encode()
CONSUMERS = 4


def subscriptions(bench):
    """From the beginning of the log to its end."""
    server, events = bench.server, bench.options.events
    database = projections.set_up(bench, 'subscriptions')
    projections.store(bench, database, events)
    server.sql(database, *(f"SELECT es_create_subscription('{name}', partitions => {partitions})"
                           for name, partitions in (('one', 1), ('four', CONSUMERS))))

    def cpu(connections):
        return server.ticks(connection.pid() for connection in connections) / projections.TICK

    def measure(connections, work):
        """Run work on each connection at once; the rate at which events came."""
        busy, start = cpu(connections), time.perf_counter()
        with concurrent.futures.ThreadPoolExecutor(len(connections)) as pool:
            handled = sum(pool.map(work, connections, range(len(connections))))
        seconds = time.perf_counter() - start
        busy = cpu(connections) - busy
        for connection in connections:
            connection.close()
        if handled != events:
            sys.exit(f'{handled} of {events} events were handled\n{server.last_words()}')
        return {'rate': handled / seconds, 'cpu': busy}

    def read(connection, number):
        """The whole log, page by page; how many events it has."""
        last, count = b'0', 0
        while page := connection.column(b'read', [last]):
            last, count = page[-1], count + len(page)
        return count

    def reader(options):
        def turn():
            connection = bench.connect(database, options)
            connection.prepare(b'read', READ)
            return measure([connection], read)
        return turn

    def consume(connection, number):
        """Fetch and ack until nothing is left; how many events were acked.

        A fetch can come back empty while others have what is left: that is waited for.
        """
        me, count = f'consumer {number}'.encode(), 0
        while batch := connection.column(b'fetch', [me]) or connection.column(b'last', [me]):
            count += int(connection.query(b'ack', [me, b'{' + b','.join(batch) + b'}']))
        return count

    def consumers(name, options):
        def turn():
            server.sql(database, f"SELECT es_seek_subscription('{name}', 0)")
            connections = [bench.connect(database, options) for number in range(1 if name == 'one' else CONSUMERS)]
            for connection in connections:
                connection.prepare(b'fetch', f"SELECT * FROM es_fetch('{name}', $1, {FETCH})".encode())
                connection.prepare(b'last', f"SELECT * FROM es_fetch('{name}', $1, {FETCH}, wait => '0.05 s')".encode())
                connection.prepare(b'ack', f"SELECT es_ack('{name}', $1, $2)".encode())
            return measure(connections, consume)
        return turn

    quick_commit = '-c synchronous_commit=off'
    bench.report.header('subscriptions', f'{events:,} events fetched and acked; yardstick: es_read_all in pages of {PAGE:,}')
    half = ('≥', 0.5)
    bench.compare('4 consumers, 100 events a fetch', 'events/s', reader(None), consumers('four', None), half)
    bench.compare('4 consumers, asynchronous commit', 'events/s', reader(None), consumers('four', quick_commit))
    bench.compare('1 consumer, asynchronous commit', 'events/s', reader(None), consumers('one', quick_commit))

    bench.say('idle')
    for number in (1, CONSUMERS):
        connections = [bench.connect(database, None) for _ in range(number)]
        for connection in connections:
            connection.prepare(b'wait', b"SELECT * FROM es_fetch('one', $1, wait => '10 s')")
            connection.column(b'wait', [b'nobody']) if number == 1 else None
        with concurrent.futures.ThreadPoolExecutor(number) as pool:
            ticks = server.ticks(connection.pid() for connection in connections)
            list(pool.map(lambda connection: connection.column(b'wait', [b'nobody']), connections))
            ticks = server.ticks(connection.pid() for connection in connections) - ticks
        for connection in connections:
            connection.close()
        bench.report.figure(f'CPU of {number} waiting for 10 s, in 1/{projections.TICK} s', 'ticks', [ticks])


CASES = (subscriptions,)
