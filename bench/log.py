"""The cases of the log: appending and reading events, the bytes they take, one hot stream.

As the others, each is called with a Bench (see run).
"""

import os
import sys
import time
import uuid

import libpq
from server import DATA, TYPE, events

CALL = 1000                                             # events a call, in the bulk cases

def append(bench):
    """One event a transaction."""
    options, server = bench.options, bench.server
    database = server.create_database('append')
    eight = dict(clients=8)
    quick_commit = '-c synchronous_commit=off'

    def warm_up(streams):
        """Touch the pages once: after a checkpoint the first touch writes a whole page into the WAL."""
        for side in bench.sides:
            server.pgbench(database, f'append.{side}.sql', clients=8, seconds=options.seconds, options=quick_commit,
                           i=bench.fresh(), streams=streams)

    def pair(what, script, target=None, yardstick=None, **arguments):
        return bench.compare(what, 'events/s', bench.pgbench(database, f'{yardstick or script}.yardstick.sql', **arguments),
                             bench.pgbench(database, f'{script}.eventstore.sql', **arguments), target)

    def wal(figures):
        bench.report.row('  … WAL bytes an event', 'bytes', *([f['wal'] for f in figures[side]] for side in bench.sides),
                         ('≤', 1.15))

    streams = options.streams
    bench.report.header('append', 'one event a transaction, prepared')
    bench.fill(database, 1, streams, 1, 1000)
    warm_up(streams)
    wal(pair('existing stream, 1 client', 'append', ('≥', 1.0), streams=streams))
    wal(pair('existing stream, 8 clients', 'append', ('≥', 1.0), streams=streams, **eight))
    pair('existing stream, 32 clients', 'append', ('≥', 1.0), streams=streams, clients=32)
    for clients, many in ((1, '1 client'), (8, '8 clients'), (32, '32 clients')):
        pair(f'existing stream, {many}, asynchronous commit', 'append', ('≥', 1.0), streams=streams,
             options=quick_commit, clients=clients)
    pair("existing stream, 1 client, client's v7 id", 'ordered', ('≥', 0.9), streams=streams)
    pair("existing stream, 1 client, client's v4 id", 'ids', yardstick='append', streams=streams)
    pair('new stream, 1 client', 'new')
    pair('new stream, 8 clients', 'new', **eight)

    old = streams + max(0, options.log - streams) // 10
    if old > streams:
        bench.fill(database, streams + 1, old, 10, 1000)
        warm_up(old)
    log = f'log of {options.log:,}'
    pair(f'old stream, {log}, 1 client', 'append', ('≥', 0.95), streams=old)
    pair(f'old stream, {log}, 8 clients', 'append', ('≥', 0.95), streams=old, **eight)
    pair(f"old stream, {log}, 1 client, client's v4 id", 'ids', yardstick='append', streams=old)


def make_calls(count):
    """count calls to streams of their own, in both shapes: (names, versions) of each event.

    one: each call writes a new stream.  many: each call writes one event to each of 1,000 streams, and ten calls in a
    row go to the same ones.
    """
    one, many = [], []
    for call in range(count):
        one.append(([f'Order-{uuid.uuid4()}'] * CALL, range(1, CALL + 1)))
        names = many[-1][0] if call % 10 else [f'Order-{uuid.uuid4()}' for _ in range(CALL)]
        many.append((names, [call % 10 + 1] * CALL))
    return {'one': one, 'many': many}


COPY = 'COPY yardstick (stream, version, type, data) FROM STDIN'
COPY_NEW = 'COPY eventstore.new_events (stream, type, data) FROM STDIN'
INSERT_NEW = ('INSERT INTO eventstore.new_events (stream, type, data) '
              'SELECT * FROM unnest($1::text[], $2::text[], $3::jsonb[])')
TYPES = '{' + ','.join([TYPE] * CALL) + '}'
PAYLOADS = '{' + ','.join(['"' + DATA.replace('"', '\\"') + '"'] * CALL) + '}'
EVENTS = events(CALL)


def copy_rows(names, versions):
    return ''.join(f'{name}\t{version}\t{TYPE}\t{DATA}\n' for name, version in zip(names, versions))


def new_rows(names, versions):
    return ''.join(f'{name}\t{TYPE}\t{DATA}\n' for name in names)


def array(names):
    return '{' + ','.join(names) + '}'


def batch(bench):
    """A thousand events a call."""
    server = bench.server
    database = server.create_database('batch')
    count = 20 * bench.options.seconds
    path = os.path.join(server.folder, 'calls.sql')

    def driver(shape, encode, send, joined=False):
        """Measure calls as a driver sends them, or joined to one; they are encoded before the clock starts."""
        def measure():
            calls = [encode(*call) for call in make_calls(count)[shape]]
            if joined:
                calls = [b''.join(calls)]
            connection = bench.connect(database)
            connection.prepare(b'batch', b'SELECT * FROM es_append_batch($1, $2, $3)')
            connection.prepare(b'events', b'SELECT * FROM es_append_events($1, $2)')
            connection.prepare(b'insert', INSERT_NEW.encode())
            cpu = server.cpu()
            start = time.perf_counter()
            try:
                for call in calls:
                    send(connection, call)
            except libpq.Error as error:
                sys.exit(f'{error}\n{server.last_words()}')
            seconds = time.perf_counter() - start
            connection.close()
            return {'rate': count * CALL / seconds, 'cpu': server.cpu() - cpu}
        return measure

    def copy(shape, joined=False):
        return driver(shape, lambda names, versions: copy_rows(names, versions).encode(),
                      lambda connection, rows: connection.copy(COPY.encode(), rows), joined)

    def copy_new(shape, joined=False):
        return driver(shape, lambda names, versions: new_rows(names, versions).encode(),
                      lambda connection, rows: connection.copy(COPY_NEW.encode(), rows), joined)

    def arrays(shape, statement):
        return driver(shape, lambda names, versions: [array(names).encode(), TYPES.encode(), PAYLOADS.encode()],
                      lambda connection, parameters: connection.query(statement, parameters))

    def append_events(shape):
        return driver(shape, lambda names, versions: [names[0].encode(), EVENTS.encode()],
                      lambda connection, parameters: connection.query(b'events', parameters))

    def psql(shape, statement):
        """Measure calls written out in a script for psql; the script prints the seconds that the calls took."""
        def measure():
            with open(path, 'w') as script:
                script.write('\\o /dev/null\nSELECT extract(epoch FROM clock_timestamp()) AS start \\gset\n')
                script.writelines(statement(*call) for call in make_calls(count)[shape])
                script.write('SELECT extract(epoch FROM clock_timestamp()) - :start AS seconds \\gset\n\\echo :seconds\n')
            cpu = server.cpu()
            seconds = float(server.script(database, path))
            os.unlink(path)
            return {'rate': count * CALL / seconds, 'cpu': server.cpu() - cpu}
        return measure

    def copy_script(names, versions):
        return f'{COPY};\n{copy_rows(names, versions)}\\.\n'

    def batch_script(names, versions):
        return f"SELECT * FROM es_append_batch('{array(names)}', '{TYPES}', '{PAYLOADS}');\n"

    bench.report.header('batch', '1,000 events a call, against COPY of the same rows')
    bench.fill(database, 1, 1000, 1, 1000)
    one, many = ('≥', 0.8), ('≥', 0.5)
    bench.compare('es_append_batch, one stream', 'events/s', copy('one'), arrays('one', b'batch'), one)
    bench.compare('es_append_batch, 1,000 streams', 'events/s', copy('many'), arrays('many', b'batch'), many)
    new = ('≥', 0.9)
    bench.compare('COPY new_events, one stream', 'events/s', copy('one'), copy_new('one'), new)
    bench.compare('COPY new_events, 1,000 streams', 'events/s', copy('many'), copy_new('many'), new)
    bench.compare('COPY new_events, all in one', 'events/s', copy('many', True), copy_new('many', True), new)
    bench.compare('INSERT … SELECT into new_events, one stream', 'events/s', copy('one'), arrays('one', b'insert'), new)
    bench.compare('INSERT … SELECT into new_events, 1,000 streams', 'events/s', copy('many'), arrays('many', b'insert'), new)
    bench.compare('es_append_events, one stream', 'events/s', copy('one'), append_events('one'))
    bench.compare('es_append_batch, one stream, literals in psql', 'events/s',
                  psql('one', copy_script), psql('one', batch_script), one)
    bench.compare('es_append_batch, 1,000 streams, literals in psql', 'events/s',
                  psql('many', copy_script), psql('many', batch_script), many)


def read(bench):
    """Reads: all columns, to the client, prepared."""
    server = bench.server
    database = server.create_database('read')
    streams = 1000                                      # of each kind, 100 events each

    bench.report.header('read', '100 events of a stream, 1,000 of the log; prepared, 1 client')
    bench.fill(database, 1, streams, 100, 1)
    bench.fill(database, streams + 1, 2 * streams, 100, streams)

    def pair(what, script, yardstick, eventstore):
        for columns, named in (('', ''), ('  … the columns of the yardstick', '_named')):
            bench.compare(columns or what, 'reads/s', bench.pgbench(database, f'{script}.yardstick.sql', **yardstick),
                          bench.pgbench(database, f'{script}{named}.eventstore.sql', **eventstore), ('≥', 1.0))

    def pages(table, first, count):
        """The positions after which a full page follows, among count events of the log after the first so many."""
        return dict(zip(('first', 'last'), server.sql(
            database, f'SELECT position - 1 FROM {table} ORDER BY position OFFSET {first} LIMIT 1',
            f'SELECT position - 1 FROM {table} ORDER BY position OFFSET {first + count - 1000} LIMIT 1').split()))

    together = dict(first=1, last=streams)
    pair('es_read_stream, its events side by side', 'stream', together, together)
    scattered = dict(first=streams + 1, last=2 * streams)
    pair('es_read_stream, among 1,000 other streams', 'stream', scattered, scattered)
    for what, first in (('es_read_all, 10 streams a page', 0), ('es_read_all, 1,000 streams a page', 100 * streams)):
        pair(what, 'all', *(pages(table, first, 100 * streams) for table in ('yardstick', 'eventstore.event_log')))


def wide(bench):
    """A log in which the events of a stream stand far apart: eight each, of an eighth as many streams as events."""
    server = bench.server
    database = server.create_database('wide')
    streams = max(1000, bench.options.log // 8000 * 1000)
    count = 8 * streams
    bench.report.header('wide', f'{count:,} events of {streams:,} streams, each stream\'s events far apart; prepared')
    bench.fill(database, 1, streams, 8, streams)

    def last(table):
        return server.sql(database, f'SELECT max(position) - 1000 FROM {table}')

    def pair(what, unit, script, target, yardstick, eventstore, **arguments):
        bench.compare(what, unit, bench.pgbench(database, f'{script}.yardstick.sql', **yardstick, **arguments),
                      bench.pgbench(database, f'{script}.eventstore.sql', **eventstore, **arguments), target)

    pages = [dict(first=0, last=last(table)) for table in ('yardstick', 'eventstore.event_log')]
    pair('a page of 1,000', 'reads/s', 'all', ('≥', 0.95), *pages)
    anywhere = dict(first=1, last=streams)
    pair('a stream of 8', 'reads/s', 'stream', ('≥', 0.9), anywhere, anywhere)
    old = dict(streams=streams)
    pair('append to one of them, 1 client', 'events/s', 'append', ('≥', 0.95), old, old)

    # What a checkpoint leaves to pay: the first touch of each page writes it whole into the WAL.
    def after_checkpoint(side):
        def measure():
            server.sql(database, 'CHECKPOINT')
            before = server.whole_pages()
            run = server.measure(database, f'append.{side}.sql', clients=8, transactions=500 * bench.options.seconds,
                                 options='-c synchronous_commit=off', i=bench.fresh(), **old)
            run['pages'] = (server.whole_pages() - before) / (8 * 500 * bench.options.seconds)
            return run
        return measure

    turns = bench.compare('append right after a checkpoint, 8 clients', 'events/s',
                          *map(after_checkpoint, bench.sides), ('≥', 0.95))
    for what, unit in (('wal', 'bytes'), ('pages', 'pages')):
        name = {'wal': 'WAL bytes an event', 'pages': 'whole pages in the WAL an event'}[what]
        bench.report.row(f'  … {name}', unit, *([turn[what] for turn in turns[side]] for side in bench.sides))


def size(bench):
    """Bytes on disk and in the WAL, after one event a transaction, ten events a stream."""
    server = bench.server
    streams = max(1000, bench.options.streams // 5000 * 1000)
    count = 10 * streams
    bench.report.header('size', f'{count:,} events, one a transaction, ten a stream')
    tables = {'yardstick': "c.oid = 'yardstick'::regclass",
              'eventstore': "c.relnamespace = 'eventstore'::regnamespace AND c.relkind = 'r'"}

    for what, width in (('one stream after another', 1), ('1,000 streams open at a time', 1000)):
        database = server.create_database(f'size_{width}')
        bench.say(what)
        disk, wal = {}, {}
        for side in bench.sides:
            # What grew: with TOAST and indexes, without what the empty tables take.
            total = f'SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class AS c WHERE {tables[side]}'
            before = int(server.sql(database, total))
            run = server.measure(database, f'load.{side}.sql', transactions=count, options='-c synchronous_commit=off',
                                 i=0, width=width)
            disk[side] = (int(server.sql(database, total)) - before) / count
            wal[side] = run['wal']
        stored = server.sql(database, 'SELECT (SELECT count(*) FROM yardstick), (SELECT count(*) FROM eventstore.event_log)')
        if stored != f'{count}|{count}':
            sys.exit(f'{count} events were written on each side, the tables hold {stored}')
        bench.report.row(what, 'bytes/event', *([disk[side]] for side in bench.sides), ('≤', 0.95),
                         counted=True)
        bench.report.row('  … WAL bytes an event', 'bytes/event', *([wal[side]] for side in bench.sides), ('≤', 1.15), counted=True)


def hot(bench):
    """Everybody writes one stream.  The yardstick's writers do not wait for each other: theirs have no order to keep."""
    database = bench.server.create_database('hot')
    bench.report.header('hot', 'one stream, one event a transaction')
    bench.fill(database, 1, 1, 1, 1)
    for clients in (1, 64):
        arguments = dict(clients=clients, streams=1, p99=True)
        figures = bench.compare(f'{clients} client{"s" if clients > 1 else ""}', 'events/s',
                                bench.pgbench(database, 'append.yardstick.sql', **arguments),
                                bench.pgbench(database, 'append.eventstore.sql', **arguments))
        bench.report.row('  … 99 % of the calls within', 'ms', *([f['p99'] for f in figures[side]] for side in bench.sides))


CASES = (append, batch, read, wide, size, hot)
