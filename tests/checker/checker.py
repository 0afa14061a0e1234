#!/usr/bin/python3
"""The history checker: are events ever lost, doubled or reordered?

    checker.py --dsn "host=/socket/dir dbname=x user=y" [--seconds 15] [--writers 8]
               [--readers 4] [--seed 1] [--survive-restarts]
               [--control bigserial|xmin|serial]

Writers and readers, each a process, work against a database that has the
extension; each writes a journal of what it asked and what it was told. When the
time is up, readers come to the head, the log is read as a whole, and the
journals are held against it: a line a rule, with counts.

Meanwhile somebody terminates connections at random; with --survive-restarts the
server itself may be stopped, killed and started from outside, and must be at
least once. With --control the same clients run against a store made of plain
tables, without the extension: "bigserial" and "xmin" lose events, and if they
pass, the checker is broken; "serial" is right, and must pass.

Exit status: 0 every rule holds; 1 a rule is broken, or was not exercised;
2 the run could not be carried out.
"""

import argparse
import ctypes
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import uuid

import control
import history
import reader
import writer
from history import History, Verdict
from rules_reads import Reads
from rules_writes import Writes
from session import Config, GaveUp, Journal, Lost, Refused, Session, now, processes

GAVE_UP = 3

OWN_TABLES = """
CREATE TABLE {schema}.checkpoint (reader text PRIMARY KEY, position bigint NOT NULL);
CREATE TABLE {schema}.delivered (number bigserial, reader text, position bigint, stream text,
                                 version bigint, token text)"""


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--dsn", required=True, help="libpq connection string")
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--readers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--survive-restarts", action="store_true",
                        help="the server will be restarted meanwhile; fails if it was not")
    parser.add_argument("--patience", type=float, default=None,
                        help="seconds to wait for the server (60 with --survive-restarts, else 5)")
    parser.add_argument("--control", choices=sorted(control.KINDS),
                        help="run against plain tables: two ways that lose events, one that does not")
    parser.add_argument("--asynchronous", action="store_true",
                        help="all writers commit with synchronous_commit = off")
    parser.add_argument("--keep", metavar="DIR",
                        help="keep the history in a new directory there, also of a good run")
    args = parser.parse_args()
    if args.writers < 1 or args.readers < 1 or args.seconds <= 0:
        parser.error("at least one writer, one reader, and some time")
    return args


# ---- the processes ----

def client(function, *args):
    """A child process. It dies quietly; the parent alone speaks."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        function(*args)
    except GaveUp as problem:
        print(f"{processes.current_process().name}: {problem}", file=sys.stderr)
        os._exit(GAVE_UP)


def disturb(config, pids, target):
    """Terminates connections at random, and looks at the head all the time."""
    rng = random.Random(f"{config.seed}/disturber")
    journal = Journal(config, "disturber")
    session = Session(config, "disturber", journal)
    session.connect()
    due = now() + 300_000
    while not target.value:
        session.die_with_parent()
        try:
            session.head()
            if now() > due:
                due = now() + int(rng.uniform(0.1, 1.0) * 1e6)
                pid = rng.choice(pids)
                if pid:
                    session.run("SELECT pg_terminate_backend(%s)", (pid,))
                    journal.write(k="terminated")
            time.sleep(0.02)
        except Lost:
            session.connect()
        except Refused as refusal:
            journal.write(k="refused", c="disturber", code=refusal.code, message=str(refusal))
            time.sleep(1)
    session.close()
    journal.close()


class Crew:
    """All children."""

    def __init__(self, config):
        self.config = config
        self.children = []
        self.target = processes.RawValue(ctypes.c_longlong, 0)
        self.pids = processes.RawArray(ctypes.c_int, config.writers + config.readers)

    def announcer(self, place):
        def announce(pid):
            self.pids[place] = pid
        return announce

    def start(self):
        config = self.config
        self.writers = [self.spawn(f"writer{n}", writer.main, config, n, self.announcer(n))
                        for n in range(config.writers)]
        self.others = [self.spawn(f"reader{n}", reader.main, config, n,
                                  self.announcer(config.writers + n), self.target)
                       for n in range(config.readers)]
        self.others.append(self.spawn("disturber", disturb, config, self.pids, self.target))

    def spawn(self, name, *args):
        child = processes.Process(target=client, args=args, name=name, daemon=True)
        child.start()
        self.children.append(child)
        return child

    def wait(self, children, seconds):
        """Until they have ended well; GaveUp if one did not, or takes too long."""
        deadline = time.monotonic() + seconds
        while any(child.is_alive() for child in children):
            self.look()
            if time.monotonic() > deadline:
                names = ", ".join(child.name for child in children if child.is_alive())
                raise GaveUp(f"still running after {seconds:.0f} s: {names}")
            time.sleep(0.05)
        self.look()

    def look(self):
        for child in self.children:
            if child.exitcode:
                raise GaveUp(f"{child.name} ended with status {child.exitcode}")

    def kill(self):
        for child in self.children:
            if child.is_alive():
                child.kill()
        for child in self.children:
            child.join()


# ---- before and after ----

def prepare(config, session):
    """Our own schema, and where the functions are."""
    session.run(f"CREATE SCHEMA {config.schema}")
    if config.control:
        config.search_path = config.schema
        session.run(f"SET search_path = {config.schema}")
        session.run(control.script(config.control))
    else:
        home = session.run("SELECT quote_ident(n.nspname), n.nspname = ANY (current_schemas(true))"
                           " FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace"
                           " WHERE e.extname = 'eventstore'")
        if not home:
            raise GaveUp("the database has no extension eventstore")
        if not home[0][1]:
            config.search_path = home[0][0]
            session.run(f"SET search_path = {home[0][0]}")
    session.run(OWN_TABLES.format(schema=config.schema))
    config.base = session.head()
    for number in range(config.readers):
        session.run(f"INSERT INTO {config.schema}.checkpoint VALUES (%s, %s)",
                    (f"reader{number}", config.base))
    config.incarnation = session.incarnation


def remove(config, session):
    try:
        config.incarnation = 0      # any server will do now
        session.connect()
        session.run(f"DROP SCHEMA IF EXISTS {config.schema} CASCADE")
    except (GaveUp, Lost, Refused) as problem:
        print(f"could not drop schema {config.schema}: {problem}", file=sys.stderr)


def final_head(config, session):
    """The head when no writer is left, not even the backend of one that is gone."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        busy = session.run("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE %s"
                           " AND state IS DISTINCT FROM 'idle'", (config.schema + " writer%",))
        if not busy[0][0]:
            break
        time.sleep(0.05)
    return session.head()


def persistently(session, function, *args):
    """For the statements after the load: the server may be about to come back."""
    while True:
        try:
            return function(*args)
        except Lost:
            session.connect()


def run(config, session, crew):
    config.end = now() + int(config.seconds * 1e6)
    crew.start()
    crew.wait(crew.writers, config.seconds + config.patience + 30)
    session.connect()
    crew.target.value = max(1, persistently(session, final_head, config, session))
    crew.wait(crew.others, config.patience + 60)

    persistently(session, history.record, config, session)
    session.journal.file.flush()


def judge(directory):
    """All rules, applied to a recorded history."""
    recorded = History(directory)
    config = recorded.config
    if recorded.unreadable:
        verdict = Verdict("the log cannot be read")
        verdict.bad(recorded.unreadable)
        return [verdict]
    writes = Writes(recorded)
    verdicts = writes.check()
    verdicts[4:4] = Reads(recorded, writes).check()
    count = writes.count
    terminated = sum(1 for line in recorded.lines("disturber") if line["k"] == "terminated")
    load = Verdict("load")
    load.facts = (f"{count['operations']:,} operations in {count['transactions']:,} transactions"
                  f" ({count['snapshot_transactions']:,} above READ COMMITTED, {count['async']:,}"
                  f" operations asynchronous, {count['raced']:,} raced, {count['repeated']:,} repeated),"
                  f" {terminated:,} connections terminated, {len(recorded.lives) - 1} restarts")
    if config.seconds >= 5:
        load.require(terminated, "connections terminated")
    if config.survive:
        load.require(len(recorded.lives) - 1, "a restart of the server (--survive-restarts)")
    verdicts.insert(0, load)
    return verdicts


def main():
    args = arguments()
    patience = args.patience or (60 if args.survive_restarts else 5)
    name = uuid.uuid4().hex[:6]
    if args.keep:
        log_dir = os.path.join(args.keep, name)
        os.makedirs(log_dir)
    else:
        log_dir = tempfile.mkdtemp(prefix=f"checker.{name}.")
    config = Config(dsn=args.dsn, run=name, seed=args.seed, seconds=args.seconds,
                    writers=args.writers, readers=args.readers, control=args.control,
                    survive=args.survive_restarts, asynchronous=args.asynchronous,
                    patience=patience, log_dir=log_dir)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))
    session = Session(config, "checker", Journal(config, "checker"))
    crew = Crew(config)
    made, keep = False, bool(args.keep)
    try:
        session.connect()
        made = True
        prepare(config, session)
        print(f"run {config.run}: {args.control or 'eventstore'}, {args.seconds:g} s,"
              f" {args.writers} writers, {args.readers} readers, seed {args.seed}", flush=True)
        run(config, session, crew)
        verdicts = judge(log_dir)
        for verdict in verdicts:
            verdict.print()
        good = not any(verdict.problems for verdict in verdicts)
        keep = keep or not good and not args.control
        if keep:
            print(f"history: {log_dir}")
        print("PASS" if good else "FAIL")
        return 0 if good else 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 2
    except (GaveUp, Lost, Refused) as problem:
        print(f"could not run: {problem}", file=sys.stderr)
        return 2
    except Exception:
        traceback.print_exc()
        return 2
    finally:
        crew.kill()
        if made:
            remove(config, session)
        session.close()
        if not keep:
            shutil.rmtree(log_dir, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
