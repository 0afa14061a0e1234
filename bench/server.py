"""A private PostgreSQL server with the installed extension, and PostgreSQL's client programs."""

import contextlib
import os
import shutil
import subprocess
import sys
import time

from figures import percentile99

TYPE = 'OrderShipped'                                   # 12 letters
DATA = ('{"order": 48213, "customer": "C-20417", "currency": "EUR", "total": 129.95, '
        '"items": [{"sku": "AX-1001", "quantity": 2}, {"sku": "BT-2040", "quantity": 1}], '
        '"carrier": "DHL", "note": "')
DATA += 'x' * (200 - len(DATA) - 2) + '"}'              # 200 bytes


def events(count):
    """Events as es_append_events takes them."""
    return '[' + ','.join([f'{{"type": "{TYPE}", "data": {DATA}}}'] * count) + ']'


def pg_config(what):
    return subprocess.run([os.environ.get('PG_CONFIG', 'pg_config'), what],
                          check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


class Server:
    """A private PostgreSQL server in folder, and its client programs."""

    WORKERS = ("SELECT string_agg(pid::text, ' ') FROM pg_stat_activity "
               "WHERE backend_type = 'eventstore worker' AND datname = current_database()")

    def __init__(self, folder, identity, memory):
        self.bindir = pg_config('--bindir')
        self.libdir = pg_config('--libdir')
        self.folder = folder
        self.identity = identity                        # who runs it, as arguments for subprocess
        self.data = os.path.join(folder, 'data')
        self.log = os.path.join(folder, 'log')
        self.settings = {
            'shared_preload_libraries': 'eventstore',
            'listen_addresses': '',
            'unix_socket_directories': folder,
            'max_connections': 120,
            # The schedulers and the workers of the databases that are awake.
            'max_worker_processes': 80,
            # A thousand in one database, and one in each of the others of the case wake.
            'eventstore.max_projections': 1300,
            'shared_buffers': f'{min(8192, memory // 4)}MB',
            'fsync': 'on',
            'synchronous_commit': 'on',
            'autovacuum': 'on',
            # No checkpoint but those asked for: one that falls into the turn
            # of one side would count against that side alone.
            'checkpoint_timeout': '1d',
            'max_wal_size': '64GB',
            'min_wal_size': '2GB',
            # Everything is in memory: an index scan is then the yardstick's
            # better plan for a stream, and this makes the planner choose it.
            'random_page_cost': 1.1,
            'jit': 'off',
            'lc_messages': 'C',
        }
        self.env = dict(os.environ, PGHOST=folder, PGPORT='5432', PGUSER='bench', HOME=folder, LC_ALL='C')
        for name in ('PGOPTIONS', 'PGDATABASE', 'PGSERVICE', 'PGPASSFILE', 'PGSSLMODE'):
            self.env.pop(name, None)

    def run(self, *command, options=None):
        """Run one program of PostgreSQL and return what it printed; end everything if it fails."""
        env = dict(self.env, PGOPTIONS=options) if options else self.env
        done = subprocess.run([os.path.join(self.bindir, command[0]), *map(str, command[1:])],
                              env=env, cwd=self.folder, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              **self.identity)
        if done.returncode:
            sys.exit(f'{command[0]} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}\n{self.last_words()}')
        return done.stdout

    def last_words(self):
        with contextlib.suppress(OSError), open(self.log, errors='replace') as log:
            return 'The end of the server log:\n' + ''.join(log.readlines()[-20:])
        return ''

    def start(self):
        self.run('initdb', '-D', self.data, '-U', 'bench', '-A', 'trust', '-E', 'UTF8', '--locale=C')
        with open(os.path.join(self.data, 'postgresql.conf'), 'a') as conf:
            for name, value in self.settings.items():
                conf.write(f"{name} = '{value}'\n")
        self.run('pg_ctl', '-D', self.data, '-l', self.log, '-w', '-s', 'start')

    def stop(self):
        subprocess.run([os.path.join(self.bindir, 'pg_ctl'), '-D', self.data, '-m', 'immediate', '-s', 'stop'],
                       cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                       **self.identity)

    def sql(self, database, *statements, options=None):
        """Run statements one by one; the last one's output."""
        commands = [word for statement in statements for word in ('-c', statement)]
        return self.run('psql', '-X', '-q', '-A', '-t', '-v', 'ON_ERROR_STOP=1', '-d', database, *commands,
                        options=options).strip()

    def script(self, database, path):
        return self.run('psql', '-X', '-q', '-A', '-t', '-v', 'ON_ERROR_STOP=1', '-d', database, '-f', path).strip()

    def create_database(self, name):
        self.sql('postgres', f'CREATE DATABASE {name} TEMPLATE template0')
        self.sql(name, 'CREATE EXTENSION eventstore')
        self.script(name, os.path.join(self.folder, 'yardstick.sql'))
        return name

    def cpu(self, workers=()):
        """CPU seconds of all sessions that have ended: what the kernel has added up for the postmaster's children.

        That of workers that are there now is added.
        """
        time.sleep(0.2)                                 # the last session is on its way out
        with contextlib.suppress(OSError), open(os.path.join(self.data, 'postmaster.pid')) as pid:
            with open(f'/proc/{pid.readline().strip()}/stat') as stat:
                children = stat.read().rpartition(')')[2].split()[13:15]
            return (sum(map(int, children)) + self.ticks(workers)) / os.sysconf('SC_CLK_TCK')
        return 0

    def ticks(self, pids):
        """CPU of running processes, in the kernel's ticks."""
        total = 0
        for pid in pids:
            with contextlib.suppress(OSError), open(f'/proc/{pid}/stat') as stat:
                total += sum(map(int, stat.read().rpartition(')')[2].split()[11:13]))
        return total

    def workers(self, database):
        """The processes that run projections of a database."""
        return list(map(int, self.sql(database, self.WORKERS).split()))

    def wal(self):
        return int(self.sql('postgres', "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint"))

    def whole_pages(self):
        """Pages written whole into the WAL so far."""
        return int(self.sql('postgres', 'SELECT wal_fpi FROM pg_stat_wal'))

    def pgbench(self, database, script, clients=1, seconds=None, transactions=None, options=None, latencies=False,
                **variables):
        """One run of a pgbench script: transactions and rate a second; if asked for, latencies in ms."""
        command = ['pgbench', '-n', '-M', 'prepared', '-c', clients, '-j', min(clients, os.cpu_count()),
                   '-f', os.path.join(self.folder, script)]
        command += ['-t', transactions] if transactions else ['-T', seconds]
        for name, value in dict(type=TYPE, data=DATA, **variables).items():
            command += ['-D', f'{name}={value}']
        logs = os.path.join(self.folder, 'latency')
        if latencies:
            os.mkdir(logs)
            os.chmod(logs, 0o777)
            command += ['-l', '--log-prefix', os.path.join(logs, 'log')]

        figures = {'latencies': []}
        for line in self.run(*command, database, options=options).splitlines():
            if line.startswith('number of transactions actually processed: '):
                figures['transactions'] = int(line.split(': ')[1].split('/')[0])
            elif line.startswith('tps = '):
                figures['rate'] = float(line.split()[2])
        if latencies:
            for name in os.listdir(logs):
                with open(os.path.join(logs, name)) as log:
                    figures['latencies'] += [int(line.split()[2]) / 1000 for line in log]
            shutil.rmtree(logs)
        return figures

    def start_pgbench(self, database, script, **variables):
        """One client that runs a script until it is terminated."""
        command = [os.path.join(self.bindir, 'pgbench'), '-n', '-M', 'prepared', '-T', '86400',
                   '-f', os.path.join(self.folder, script)]
        for name, value in dict(type=TYPE, data=DATA, **variables).items():
            command += ['-D', f'{name}={value}']
        return subprocess.Popen([*command, database], env=self.env, cwd=self.folder, stdin=subprocess.DEVNULL,
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **self.identity)

    def measure(self, database, script, p99=False, **arguments):
        """The same; and WAL bytes and CPU seconds a transaction, p99 and the longest call in ms.

        All are None if the turn was over before the clients had connected.
        """
        wal, cpu = self.wal(), self.cpu()
        run = self.pgbench(database, script, latencies=p99, **arguments)
        transactions, latencies = run['transactions'], run['latencies']
        if not transactions:
            return dict.fromkeys(('rate', 'cpu', 'wal', 'p99', 'longest'))
        return {'rate': run['rate'], 'cpu': (self.cpu() - cpu) / transactions, 'wal': (self.wal() - wal) / transactions,
                'p99': percentile99(latencies), 'longest': max(latencies, default=None)}
