"""How the shop stores what it decides: load, decide, append, and again if somebody was first.

run() is the whole of it.  A command reads its stream, and perhaps one other that it only
decides upon, and appends one event, all in one transaction:

 1. The event's id is made before the first attempt (or is the client's Idempotency-Key), so
    that whatever happens the event is stored once.
 2. The append has the version that was read as its expected version; the other stream is
    verified by es_check_version.  If either has changed, it is SE001, and the command is
    decided anew.  Locks: the other stream first, then the command's own.
 3. If the connection is lost, nobody knows the outcome.  The next attempt looks for the
    event's id first, and decides anew only if it is not there.
"""
import json
import secrets
import time
import uuid
from dataclasses import dataclass
from typing import Callable, Optional

import psycopg
from psycopg.rows import namedtuple_row
from psycopg.types.json import Jsonb
from psycopg_pool import ConnectionPool, PoolTimeout

from rules import Refused

ATTEMPTS = 50

# Nothing was stored, and the next attempt may well succeed.
AGAIN = ("SE001", "40001", "40P01")

# No prepared statements: PgBouncer in transaction mode may stand in between.
pool = ConnectionPool(
    "", min_size=2, max_size=12, timeout=5, open=False,
    kwargs={"autocommit": True, "prepare_threshold": None, "row_factory": namedtuple_row})


class NotFound(Exception):
    """There is nothing of that name."""


class Conflict(Exception):
    """The client has decided upon a version that is not the last one."""

    def __init__(self, text, version):
        super().__init__(text)
        self.version = version


class KeyReused(Exception):
    """The Idempotency-Key belongs to another command."""


@dataclass
class Command:
    kind: str                           # the event's type
    stream: str
    state: type                         # of rules.py
    decide: Callable                    # (state), or (state, other state): the event's data
    metadata: dict
    creates: bool = False               # the stream must not be there; else it must
    other: Optional[str] = None         # a stream that is decided upon as well
    other_state: Optional[type] = None
    expected_version: Optional[int] = None      # what the client has decided upon
    key: Optional[uuid.UUID] = None     # Idempotency-Key


@dataclass
class Appended:
    stream: str
    version: int
    position: int


def uuid7():
    """An event id that rises with time, as an index likes it."""
    milliseconds = time.time_ns() // 1_000_000
    return uuid.UUID(
        int=milliseconds << 80 | 0x7 << 76 | secrets.randbits(12) << 64 | 0b10 << 62 | secrets.randbits(62))


def load(db, stream, state):
    """The state of a stream, and the version that it was read at."""
    folded = state()
    version = 0
    for event in db.execute("SELECT version, type, data FROM es_read_stream(%s)", (stream,)):
        folded.apply(event.type, event.data)
        version = event.version
    return folded, version


def find(db, command, event_id):
    """The event of an earlier attempt, if it was stored."""
    found = db.execute(
        "SELECT stream, type, version, position FROM eventstore.events WHERE event_id = %s", (event_id,)).fetchone()
    if found is None:
        return None
    # A repeated creation has drawn another name for its stream.
    if found.type != command.kind or not command.creates and found.stream != command.stream:
        raise KeyReused("this Idempotency-Key was used for another command")
    return Appended(found.stream, found.version, found.position)


def attempt(db, command, event_id):
    """One attempt, in a transaction."""
    # For this transaction only: connections are shared.
    db.execute("SELECT set_config('eventstore.metadata', %s, true)", (json.dumps(command.metadata),))

    state, version = load(db, command.stream, command.state)
    if version == 0 and not command.creates:
        raise NotFound(command.stream)
    if version > 0 and command.creates:
        raise Conflict("it is there already", version)
    if command.expected_version not in (None, version):
        raise Conflict("somebody else has changed it", version)
    states = [state] if not command.creates else []
    if command.other:
        other, other_version = load(db, command.other, command.other_state)
        states.append(other)
    try:
        data = command.decide(*states)
    except Refused as refused:
        raise Conflict(str(refused), version) from refused

    if command.other:
        db.execute("SELECT es_check_version(%s, %s)", (command.other, other_version))
    appended = db.execute(
        "SELECT version, position FROM es_append(%s, %s, %s, expected_version => %s, event_id => %s)",
        (command.stream, command.kind, Jsonb(data), version, event_id)).fetchone()
    return Appended(command.stream, appended.version, appended.position)


def run(command):
    """Runs a command: the event that it has stored, now or by an earlier request."""
    event_id = command.key or uuid7()
    may_be_stored = command.key is not None
    for last in [False] * (ATTEMPTS - 1) + [True]:
        try:
            with pool.connection() as db, db.transaction():
                stored = find(db, command, event_id) if may_be_stored else None
                return stored or attempt(db, command, event_id)
        except psycopg.Error as error:
            # SE003: a request with the same key was faster.
            if error.sqlstate == "SE003" or lost(error):
                may_be_stored = True
            elif error.sqlstate not in AGAIN:
                raise
            if last:
                raise


def lost(error):
    """Was the connection lost, by its own end or by the server's?"""
    return isinstance(error, psycopg.OperationalError) and not isinstance(error, PoolTimeout) and (
        error.sqlstate is None or error.sqlstate[:2] == "08" or error.sqlstate[:3] == "57P")


def rows(sql, *values):
    """Asks, and again if the connection is lost: that does no harm.  The rows are dicts."""
    for last in [False] * (ATTEMPTS - 1) + [True]:
        try:
            with pool.connection() as db:
                cursor = db.execute(sql, values)
                names = [column.name for column in cursor.description]
                return [dict(zip(names, row)) for row in cursor]
        except psycopg.Error as error:
            if last or not lost(error):
                raise


def new_stream(category):
    return rows("SELECT %s || '-' || nextval(%s) AS name", category, f"shop.{category.lower()}_number")[0]["name"]


def caught_up(projection, position):
    """Waits until a read model has come to a position; False: what it shows may be stale."""
    try:
        return rows("SELECT es_wait_for_projection(%s, %s, timeout => '2 s') AS done", projection, position)[0]["done"]
    except psycopg.Error as error:
        if error.sqlstate != "SE005":       # stopped by an error; old data are better than none
            raise
        return False
