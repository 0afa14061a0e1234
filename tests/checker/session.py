"""A client's connection and its journal.

A Session runs one statement at a time on an autocommitting connection;
transactions are opened and ended with plain BEGIN and COMMIT, so that the
caller always knows which statement was in flight when a connection broke.
Nothing depends on session state (a pooler in transaction mode may stand
between), except for the search path where the functions are not on it anyway.

Times are microseconds of CLOCK_MONOTONIC, which all processes of one machine
share: "acknowledged before invoked" can be compared across clients.
"""

import dataclasses
import json
import multiprocessing
import os
import time

import psycopg2


# Clients go on with all that their parent has made, also where Python would start anew.
processes = multiprocessing.get_context("fork")


class Lost(Exception):
    """The connection is gone; whether the last statement took effect is not known."""


class GaveUp(Exception):
    """The server stayed away for longer than we are willing to wait."""


class Refused(Exception):
    """The server answered a statement with an error."""

    def __init__(self, code, message, detail):
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.detail = detail


@dataclasses.dataclass
class Config:
    dsn: str
    run: str                    # names everything this run creates
    seed: int
    seconds: float
    writers: int
    readers: int
    control: str = None
    survive: bool = False
    asynchronous: bool = False
    patience: float = 60.0
    log_dir: str = None
    search_path: str = None     # only where the functions are not on the default one
    base: int = 0               # the head before the run: nothing of ours is below
    end: int = 0                # when writers stop, as now()
    incarnation: int = 0        # of the server when the run began

    @property
    def schema(self):
        return f"checker_{self.run}"


def now():
    return time.monotonic_ns() // 1000


class Journal:
    """One JSON object a line; a client writes its own file only."""

    def __init__(self, config, client):
        self.path = os.path.join(config.log_dir, client + ".jsonl")
        self.file = open(self.path, "w", encoding="utf-8", buffering=1 << 16)

    def write(self, **fields):
        self.file.write(json.dumps(fields, separators=(",", ":")))
        self.file.write("\n")

    def close(self):
        self.file.close()


# Told apart: the server's life (a crash ends one and begins the next) and a
# connection's. Recovery after a crash resets the statistics, a restart of the
# postmaster changes its start time; the later of the two names the life.
INCARNATION = """
SELECT (extract(epoch FROM greatest(pg_postmaster_start_time(), stats_reset)) * 1000)::bigint,
       pg_backend_pid()
FROM pg_stat_bgwriter"""

SERVER_IS_LEAVING = ("57P01", "57P02", "57P03", "57P05", "25P03")


class Session:
    def __init__(self, config, client, journal, on_connect=None):
        self.config = config
        self.client = client
        self.journal = journal
        self.on_connect = on_connect
        self.conn = None
        self.incarnation = None
        self.parent = os.getppid()

    def connect(self):
        """Connects, however long it takes up to the patience of the run."""
        deadline = time.monotonic() + self.config.patience
        while True:
            self.close()
            try:
                self.conn = psycopg2.connect(
                    self.config.dsn, connect_timeout=5,
                    application_name=f"{self.config.schema} {self.client}")
                self.conn.autocommit = True
                if self.config.search_path:
                    self.run(f"SET search_path = {self.config.search_path}")
                if self.config.asynchronous and self.client.startswith("writer"):
                    self.run("SET synchronous_commit = off")
                self.incarnation, pid = self.run(INCARNATION)[0]
                break
            except (psycopg2.Error, Lost, Refused) as problem:
                if time.monotonic() > deadline:
                    raise GaveUp(f"no connection for {self.config.patience:.0f} s: {problem}") from None
                self.die_with_parent()
                time.sleep(0.1)
        if (self.config.incarnation and not self.config.survive
                and self.incarnation != self.config.incarnation):
            raise GaveUp("the server was restarted (--survive-restarts allows it)")
        self.journal.write(k="connect", t=now(), inc=self.incarnation)
        if self.on_connect:
            self.on_connect(pid)

    def run(self, sql, args=None):
        """Runs one statement; its rows, Refused, or Lost."""
        try:
            with self.conn.cursor() as cursor:
                cursor.execute(sql, args)
                return cursor.fetchall() if cursor.description else []
        except psycopg2.Error as error:
            if self.conn.closed or error.pgcode is None or error.pgcode in SERVER_IS_LEAVING:
                self.close()
                raise Lost(str(error)) from None
            raise Refused(error.pgcode, error.diag.message_primary,
                          error.diag.message_detail) from None

    def head(self):
        """es_head(), remembered: heads never fall."""
        invoked = now()
        head = self.run("SELECT es_head()")[0][0]
        self.journal.write(k="head", inv=invoked, ret=now(), head=head)
        return head

    def close(self):
        if self.conn is not None:
            try:
                self.conn.close()
            except psycopg2.Error:
                pass

    def die_with_parent(self):
        """A client does not outlive the checker, even one that was killed hard."""
        if os.getppid() != self.parent:
            os._exit(3)
