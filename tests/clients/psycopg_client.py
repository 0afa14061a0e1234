#!/usr/bin/python3
"""An application of eventstore: Python with psycopg 3.

    psycopg_client.py reserve SHOW WHO..        decide upon a stream, append, retry
    psycopg_client.py tail FILE [TYPE..]        follow the log, and remember where one is
    psycopg_client.py consume NAME              one of several consumers of a subscription
    psycopg_client.py book SHOW WHO             a command, then a query that sees what it did

The database is named by PGHOST, PGDATABASE and so on, the schema and category by
CATEGORY; setup.sql creates what is needed there.  All of it also works behind
PgBouncer in transaction mode.
"""
import json
import os
import secrets
import sys
import time
import uuid

import psycopg
from psycopg.rows import namedtuple_row
from psycopg.types.json import Jsonb

CATEGORY = os.environ.get("CATEGORY", "Show")
PAGE = 500


def connect():
    """A connection; for half a minute we believe that the server will come back."""
    for _ in range(60):
        try:
            # Behind PgBouncer the next statement may reach another backend: hence no
            # prepared statements that outlive their call, and every statement a
            # transaction of its own.
            return psycopg.connect("", autocommit=True, prepare_threshold=None, row_factory=namedtuple_row)
        except psycopg.OperationalError as error:
            failure = error
            time.sleep(0.5)
    raise failure


def uuid7():
    """An event id that rises with time, as an index likes it."""
    milliseconds = time.time_ns() // 1_000_000
    return uuid.UUID(int=milliseconds << 80 | 0x7 << 76 | secrets.randbits(12) << 64 | 0b10 << 62 | secrets.randbits(62))


# ---- commands ----

def append(db, stream, version, event_id, kind, data):
    """Appends an event to a stream at that version.

    Returns the connection, which may be a new one, with version, position and duplicate.
    If the connection is lost, nobody knows whether the event was stored.  The same call
    with the same event id finds out: it stores the event, or says where it stands.  Not to
    read and decide again: that would mistake one's own event for another's.
    """
    while True:
        try:
            return db, db.execute(
                "SELECT version, position, duplicate"
                " FROM es_append(%s, %s, %s, expected_version => %s, event_id => %s)",
                (stream, kind, Jsonb(data), version, event_id)).fetchone()
        except psycopg.Error:
            if not db.closed:
                raise
            db = connect()


def decide(events, who):
    """The rule: a seat each, as long as there are seats.  The event to append, or None."""
    seats = 0
    for event in events:
        if event.type == "ShowAnnounced":
            seats = event.data["seats"]
        elif event.type == "SeatReserved":
            seats -= 1
    return ("SeatReserved", {"who": who}) if seats > 0 else None


def reserve(db, show, who):
    """Reserves a seat.  Returns the connection, what was appended or None, and the retries."""
    event_id = uuid7()      # of the command, however often it is tried
    retries = 0
    while True:
        events = db.execute("SELECT version, type, data FROM es_read_stream(%s)", (show,)).fetchall()
        decision = decide(events, who)
        if decision is None:
            return db, None, retries
        version = events[-1].version if events else 0
        try:
            db, appended = append(db, show, version, event_id, *decision)
            return db, appended, retries
        except psycopg.Error as error:
            # SE001: somebody else has appended since we read.  Another state, so perhaps
            # another decision.
            if error.sqlstate != "SE001":
                raise
            retries += 1


def reserve_all(show, names):
    db = connect()
    for who in names:
        db, appended, retries = reserve(db, show, who)
        if appended:
            print(f"{who} {appended.version} {appended.position}"
                  f" {'duplicate' if appended.duplicate else 'stored'} {retries}")
        else:
            print(f"{who} sold-out {retries}")


# ---- a tail ----

def remember(file, position, epoch):
    """Replaces the file at once: a crash leaves the old one or the new one."""
    with open(file + ".new", "w", encoding="utf-8") as new:
        json.dump({"position": position, "epoch": epoch}, new)
        new.flush()
        os.fsync(new.fileno())
    os.replace(file + ".new", file)


def tail(file, types):
    """Prints the events of the log, from where the file says on.

    What was handled is remembered afterwards, page by page: after a crash, the events of
    one page are handled again.
    """
    remembered = {"position": 0, "epoch": None}
    if os.path.exists(file):
        with open(file, encoding="utf-8") as old:
            remembered = json.load(old)
    position = remembered["position"]
    db = connect()
    while True:
        try:
            # Another epoch is another history (a restore, a failover): it may lack events
            # that we have handled.
            epoch = str(db.execute("SELECT es_epoch()").fetchone()[0])
            if remembered["epoch"] not in (None, epoch):
                sys.exit("this is not the log that was followed before")
            # Before the page, for what it is needed for below.
            head = db.execute("SELECT es_head()").fetchone()[0]
            page = db.execute(
                "SELECT position, stream, type, data FROM es_read_all(%s, %s, types => %s, wait => '2 s')",
                (position, PAGE, types or None)).fetchall()
        except psycopg.Error:
            if not db.closed:
                raise
            db = connect()
            continue
        for event in page:
            print(event.position, event.stream, event.type, flush=True)
        before = position
        if page:
            position = page[-1].position
        # A short page: there was nothing else for us up to that head.  Without this, a tail
        # of rare types would look at the same part of the log for ever.
        if len(page) < PAGE:
            position = max(position, head)
        if position > before:
            remember(file, position, epoch)
            remembered["epoch"] = epoch


# ---- a competing consumer ----

def send_ticket(db, consumer, event):
    """Does what has to be done for an event, once: the id tells that it was done before.

    Here the table stands for the world outside.  What accepts a key of ours (a payment, a
    queue, a mail with a Message-ID) is given the event's id in the same way.
    """
    if not event.data["who"]:
        raise ValueError("a ticket for nobody")
    return db.execute(
        f'INSERT INTO "{CATEGORY}".ticket (event_id, show, version, who, sent_by)'
        " VALUES (%s, %s, %s, %s, %s) ON CONFLICT (event_id) DO NOTHING",
        (event.event_id, event.stream, event.version, event.data["who"], consumer)).rowcount > 0


def consume(consumer):
    """Fetch, handle, acknowledge.  The name must not be that of another process."""
    db = connect()
    while True:
        try:
            events = db.execute(
                "SELECT position, stream, version, data, event_id FROM es_fetch(%s, %s, 100, wait => '5 s')",
                (CATEGORY, consumer)).fetchall()
            done, failed = [], set()
            for event in events:
                # es_nack has taken back the later events of the stream: they come again,
                # after the one that failed.
                if event.stream in failed:
                    continue
                try:
                    sent = send_ticket(db, consumer, event)
                except (KeyError, ValueError) as error:
                    failed.add(event.stream)
                    db.execute("SELECT es_nack(%s, %s, %s, 'retry', %s)",
                               (CATEGORY, consumer, [event.position], str(error)))
                    print("failed", event.position, flush=True)
                    continue
                done.append(event.position)
                print("sent" if sent else "known", event.position, flush=True)
            if done:
                db.execute("SELECT es_ack(%s, %s, %s)", (CATEGORY, consumer, done))
        except psycopg.Error as error:
            if db.closed:
                db = connect()
            # 55000: we took longer than ack_timeout, and others have these events now.  No
            # harm: they find the tickets sent.
            elif error.sqlstate == "55000":
                print("late", flush=True)
            else:
                raise


# ---- a command, then a query ----

def seats_left(db, show, position):
    """What the read model says, once it has come to a position; else what it says, and that."""
    try:
        caught_up = db.execute(
            "SELECT es_wait_for_projection(%s, %s, timeout => '1 s')", (CATEGORY, position)).fetchone()[0]
    except psycopg.Error as error:
        # SE005: the projection is stopped by an error.  Old data are better than none.
        if error.sqlstate != "SE005":
            raise
        caught_up = False
    row = db.execute(f'SELECT seats_left FROM "{CATEGORY}".seats WHERE show = %s', (show,)).fetchone()
    return {"seats_left": row.seats_left if row else None, "may_be_stale": not caught_up}


def book(show, who):
    db, appended, _ = reserve(connect(), show, who)
    print(json.dumps(seats_left(db, show, appended.position if appended else None)))


def main():
    command, *arguments = sys.argv[1:] or ["help"]
    if command == "reserve":
        reserve_all(arguments[0], arguments[1:])
    elif command == "tail":
        tail(arguments[0], arguments[1:])
    elif command == "consume":
        consume(arguments[0])
    elif command == "book":
        book(*arguments)
    else:
        sys.exit(__doc__)


main()
