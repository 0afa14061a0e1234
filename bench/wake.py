"""The case wake: from a commit to its projection, and what many databases cost that have nothing to do.

As the others, it is called with a Bench (see run).
"""

import contextlib
import os
import random
import sys
import time

import projections

SESSIONS = 60                                           # that take turns with databases at rest
APPENDING = 4                                           # clients beside those that are measured
PROJECTIONS = 1000                                      # in one database
REST = 60                                               # seconds
ENOUGH_WORKERS = 30                                     # for each database that still lingers to keep its own

APPEND = b'SELECT position FROM es_append($1, $2, $3)'
WAIT = b"SELECT es_wait_for_projection('daily', $1, '60 s')"
RESTS = b"""
SELECT background = 'at rest' AND NOT EXISTS (SELECT FROM pg_stat_activity
                                               WHERE datname = current_database() AND backend_type LIKE 'eventstore %')
  FROM eventstore.status"""
PROCESSES = ("SELECT coalesce(string_agg(pid::text, ' '), '') FROM pg_stat_activity "
             "WHERE backend_type LIKE 'eventstore %' AND backend_type <> 'eventstore launcher'")
LAUNCHER = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'eventstore launcher'"
THOUSAND = f"""
SELECT count(es_create_projection('p' || n, types => ARRAY['T' || n], query => 'SELECT FROM es_batch'))
  FROM generate_series(1, {PROJECTIONS}) AS n"""


class Client:
    """A session in a database with a projection."""

    def __init__(self, bench, database):
        self.bench = bench
        self.connection = bench.connect(database)
        for name, statement in (b'append', APPEND), (b'wait', WAIT), (b'rests', RESTS):
            self.connection.prepare(name, statement)

    def call(self):
        """Append an event and wait until the projection has applied it: the milliseconds from then to then, and once
        more for the wait, which has nothing to wait for any more.
        """
        stream = f'Order-{self.bench.fresh()}'
        position = self.connection.query(b'append', [stream.encode(), self.bench.type.encode(), self.bench.data.encode()])
        return self.wait(position), self.wait(position)

    def wait(self, position):
        start = time.perf_counter()
        if self.connection.query(b'wait', [position]) != b't':
            sys.exit(f'the projection did not come\n{self.bench.server.last_words()}')
        return (time.perf_counter() - start) * 1000

    def rest(self):
        """Until all processes have left the database: it is not woken by the question."""
        end = time.monotonic() + 120
        while self.connection.query(b'rests', []) != b't':
            if time.monotonic() > end:
                sys.exit(f'a database does not come to rest\n{self.bench.server.last_words()}')
            time.sleep(0.1)


@contextlib.contextmanager
def appending(bench, databases):
    """Meanwhile a client appends to each of these."""
    clients = [bench.server.start_pgbench(database, 'new.eventstore.sql', i=bench.fresh()) for database in databases]
    try:
        time.sleep(1)                                   # they have connected
        yield
        if any(client.poll() is not None for client in clients):
            sys.exit(f'a client that appends has ended\n{bench.server.last_words()}')
    finally:
        for client in clients:
            client.terminate()
            client.wait()


def measure(bench, what, goal, clients, count, pause, rest):
    """Calls of clients in turns, and the rows of them."""
    applied, again = [], []
    for number in range(bench.options.rounds):
        bench.say(f'{what}: round {number + 1} of {bench.options.rounds}')
        for call in range(count):
            time.sleep(random.uniform(*pause))
            client = clients[(number * count + call) % len(clients)]
            if rest:
                client.rest()
            first, second = client.call()
            applied.append(first)
            again.append(second)
    bench.report.figure(what, 'ms', applied)
    bench.report.figure('  … 99 % within', 'ms', applied, ('<', goal), share=0.99)
    return again


def run_time(pid):
    """Seconds of CPU that a process has used, to the nanosecond where the kernel says so."""
    with contextlib.suppress(OSError), open(f'/proc/{pid}/schedstat') as schedstat:
        return int(schedstat.read().split()[0]) / 1e9
    return None


def cost(bench):
    """What the processes of the store use in a minute in which nobody does anything."""
    server = bench.server
    bench.say(f'{REST} s at rest')
    end = time.monotonic() + 300
    while server.sql('postgres', PROCESSES):
        if time.monotonic() > end:
            sys.exit(f'the databases do not come to rest\n{server.last_words()}')
        time.sleep(1)
    launcher = int(server.sql('postgres', LAUNCHER))
    before = run_time(launcher), server.cpu()
    time.sleep(REST)
    after = run_time(launcher), server.cpu()
    left = server.ticks(map(int, server.sql('postgres', PROCESSES).split())) / projections.TICK
    launchers, others = ((last - first) * 1000 if last is not None else None for first, last in zip(before, after))
    bench.report.figure(f'at rest: {bench.options.databases} databases, {PROJECTIONS:,} projections in one: launcher',
                        'CPU ms/min', [launchers], ('<', 60.0), counted=True)
    bench.report.figure('  … all that came and went', 'CPU ms/min', [others + left * 1000], ('<', 60.0), counted=True)


def wake(bench):
    """From commit to applied: in a database that is awake, in one at rest, alone and beside others; and the rest."""
    server, options = bench.server, bench.options
    bench.report.header('wake', 'one append at a time; from its commit until its projection has applied it')
    template = projections.set_up(bench, 'wake')
    server.sql(template, projections.QUERY, f"SELECT es_append('Order-1', '{bench.type}', '{bench.data}')",
               "SELECT es_wait_for_projection('daily')")
    bench.say(f'creating {options.databases} databases')
    tenants = [f'wake_{n}' for n in range(1, options.databases + 1)]
    server.sql('postgres', *(f'CREATE DATABASE {name} TEMPLATE {template}' for name in tenants),
               'ALTER SYSTEM SET autovacuum = off', f'ALTER SYSTEM SET eventstore.max_workers = {ENOUGH_WORKERS}',
               'SELECT pg_reload_conf()')
    busy, tenants = tenants[:APPENDING], tenants[APPENDING:]
    clients = [Client(bench, name) for name in tenants[:SESSIONS]]

    awake = dict(goal=5.0, clients=clients[:1], count=25 * options.seconds, pause=(0.02, 0.12), rest=False)
    # 30 at a time linger for 6 s, each with a scheduler and a worker: there are processes to be had for the next
    asleep = dict(goal=60.0, clients=clients, count=20 * options.seconds, pause=(0.2, 0.25), rest=True)
    again = measure(bench, 'awake', **awake)
    bench.report.figure('  … the wait itself, nothing to wait for', 'ms', again)
    bench.report.figure('  … 99 % within', 'ms', again, share=0.99)
    measure(bench, 'at rest', **asleep)
    with appending(bench, busy):
        measure(bench, f'awake, {APPENDING} clients append to other databases', **awake)
        measure(bench, f'at rest, {APPENDING} clients append to other databases', **asleep)
    server.sql('postgres', 'ALTER SYSTEM RESET eventstore.max_workers', 'SELECT pg_reload_conf()')
    measure(bench, 'at rest, all workers are idle in others', **dict(asleep, pause=(0.02, 0.12)))

    server.sql('postgres', f'CREATE DATABASE thousand TEMPLATE {template}')
    server.sql('thousand', THOUSAND, f"SELECT es_append('Order-2', '{bench.type}', '{bench.data}')",
               "SELECT es_wait_for_projection('daily')")
    cost(bench)
    for client in clients:
        client.connection.close()
    server.sql('postgres', 'ALTER SYSTEM RESET autovacuum', 'SELECT pg_reload_conf()')


CASES = (wake,)
