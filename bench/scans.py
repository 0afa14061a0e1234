"""The cases of reads that stream: a long log through a cursor, the first rows of it, counting it.

As the others, each is called with a Bench (see run).
"""

import os
import time

PAGE = 1000                                             # rows a FETCH
WHOLE = {'yardstick': 'SELECT * FROM yardstick ORDER BY position',
         'eventstore': 'SELECT * FROM es_read_all(0, NULL)'}


class Cursor:
    """A connection that reads a whole query through a cursor, again and again."""

    def __init__(self, bench, database, query):
        self.server = bench.server
        self.connection = bench.connect(database)
        for name, statement in (('begin', 'BEGIN'), ('declare', f'DECLARE c NO SCROLL CURSOR FOR {query}'),
                                ('fetch', f'FETCH {PAGE} FROM c'), ('end', 'COMMIT')):
            self.connection.prepare(name.encode(), statement.encode())

    def read(self):
        """All of it, once: rows a second, and CPU seconds of the server a row."""
        run, began, ticks = self.connection.query, time.perf_counter(), self.server.ticks([self.connection.pid()])
        rows = 0
        run(b'begin', ())
        run(b'declare', ())
        while page := len(self.connection.column(b'fetch', ())):
            rows += page
        run(b'end', ())
        cpu = (self.server.ticks([self.connection.pid()]) - ticks) / os.sysconf('SC_CLK_TCK')
        return {'rate': rows / (time.perf_counter() - began), 'cpu': cpu / rows, 'rows': rows}

    def memory(self):
        """Memory of the serving process that is its own, in kB."""
        with open(f'/proc/{self.connection.pid()}/status') as status:
            return next(int(line.split()[1]) for line in status if line.startswith('RssAnon:'))


def scan(bench):
    """A long log: all of it, its beginning, its length."""
    server = bench.server
    database = server.create_database('scan')
    streams = max(1000, bench.options.log // 8000 * 1000)
    count = 8 * streams
    bench.report.header('scan', f'a log of {count:,} events of {streams:,} streams')
    server.sql(database, 'ALTER DATABASE scan SET max_parallel_workers_per_gather = 0')
    bench.fill(database, 1, streams, 8, streams)

    cursors = {side: Cursor(bench, database, WHOLE[side]) for side in bench.sides}
    measured = bench.compare('all of it through a cursor', 'rows/s', *(cursors[side].read for side in bench.sides), ('≥', 1.0))
    if {turn['rows'] for turns in measured.values() for turn in turns} != {count}:
        raise SystemExit('a cursor did not give all events')
    bench.report.row('  … memory of the process', 'kB', *([cursors[side].memory()] for side in bench.sides))
    named = Cursor(bench, database, WHOLE['eventstore'].replace('*', 'position, stream, version, type, data, metadata, event_id, created_at'))
    bench.compare('  … the columns of the yardstick', 'rows/s', cursors['yardstick'].read, named.read, ('≥', 1.0))
    few = Cursor(bench, database, WHOLE['eventstore'] + ' LIMIT 10000')
    few.read()
    bench.report.row('  … against that after 10,000 rows', 'kB', [few.memory()], [cursors['eventstore'].memory()], ('≤', 1.1),
                     counted=True)

    anywhere = dict(last=count - 1000)
    for what, script, target in (('the first 10 after a position, LIMIT', 'first', ('≥', 0.5)),
                                 ('count(*)', 'count', ('≥', 1.0))):
        bench.compare(what, 'reads/s', *(bench.pgbench(database, f'{script}.{side}.sql', **anywhere) for side in bench.sides), target)


CASES = (scan,)
