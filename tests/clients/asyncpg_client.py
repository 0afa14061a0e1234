#!/usr/bin/python3
"""An application of eventstore: Python with asyncpg.

    asyncpg_client.py reserve SHOW WHO..        decide upon a stream, append, retry
    asyncpg_client.py tail FILE [TYPE..]        follow the log, and remember where one is
    asyncpg_client.py consume NAME              one of several consumers of a subscription
    asyncpg_client.py book SHOW WHO             a command, then a query that sees what it did

The database is named by PGHOST, PGDATABASE and so on, the schema and category by
CATEGORY; setup.sql creates what is needed there.  All of it also works behind
PgBouncer in transaction mode.
"""
import asyncio
import json
import os
import secrets
import sys
import time
import uuid

import asyncpg

CATEGORY = os.environ.get("CATEGORY", "Show")
PAGE = 500


class Database:
    """A connection, made anew when it is lost.

    If it is lost, nobody knows what became of the statement.  So each one here is such that
    it may be run twice, and is sent again, for half a minute.
    """

    def __init__(self):
        self.connection = None

    async def ask(self, sql, *values):
        for attempt in range(60):
            try:
                if self.connection is None or self.connection.is_closed():
                    # Behind PgBouncer the next statement may reach another backend, which
                    # knows nothing of statements prepared before: hence no cache of them.
                    self.connection = await asyncpg.connect(statement_cache_size=0)
                    await self.connection.set_type_codec(
                        "jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)
                return await self.connection.fetch(sql, *values)
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
                if self.connection is not None and not self.connection.is_closed():
                    raise           # it is the statement's own
                failure = error
                await asyncio.sleep(0.5 if attempt else 0)
        raise failure


def uuid7():
    """An event id that rises with time, as an index likes it."""
    milliseconds = time.time_ns() // 1_000_000
    return uuid.UUID(
        int=milliseconds << 80 | 0x7 << 76 | secrets.randbits(12) << 64 | 0b10 << 62 | secrets.randbits(62))


# ---- commands ----

async def append(db, stream, version, event_id, kind, data):
    """Appends an event to a stream at that version: version, position, duplicate.

    If the connection is lost, the same call with the same event id is sent again: it stores
    the event, or says where it stands.  Not to read and decide again: that would mistake
    one's own event for another's.
    """
    return (await db.ask(
        "SELECT version, position, duplicate FROM es_append($1, $2, $3, expected_version => $4, event_id => $5)",
        stream, kind, data, version, event_id))[0]


def decide(events, who):
    """The rule: a seat each, as long as there are seats.  The event to append, or None."""
    seats = 0
    for event in events:
        if event["type"] == "ShowAnnounced":
            seats = event["data"]["seats"]
        elif event["type"] == "SeatReserved":
            seats -= 1
    return ("SeatReserved", {"who": who}) if seats > 0 else None


async def reserve(db, show, who):
    """Reserves a seat: what was appended or None, and how often it was decided again."""
    event_id = uuid7()      # of the command, however often it is tried
    retries = 0
    while True:
        events = await db.ask("SELECT version, type, data FROM es_read_stream($1)", show)
        decision = decide(events, who)
        if decision is None:
            return None, retries
        version = events[-1]["version"] if events else 0
        try:
            return await append(db, show, version, event_id, *decision), retries
        except asyncpg.PostgresError as error:
            # SE001: somebody else has appended since we read.  Another state, so perhaps
            # another decision.
            if error.sqlstate != "SE001":
                raise
            retries += 1


async def reserve_all(show, names):
    db = Database()
    for who in names:
        appended, retries = await reserve(db, show, who)
        if appended:
            print(f"{who} {appended['version']} {appended['position']}"
                  f" {'duplicate' if appended['duplicate'] else 'stored'} {retries}")
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


async def tail(file, types):
    """Prints the events of the log, from where the file says on.

    What was handled is remembered afterwards, page by page: after a crash, the events of
    one page are handled again.
    """
    remembered = {"position": 0, "epoch": None}
    if os.path.exists(file):
        with open(file, encoding="utf-8") as old:
            remembered = json.load(old)
    position = remembered["position"]
    db = Database()
    while True:
        # Another epoch is another history (a restore, a failover): it may lack events that
        # we have handled.
        epoch = str((await db.ask("SELECT es_epoch()"))[0][0])
        if remembered["epoch"] not in (None, epoch):
            sys.exit("this is not the log that was followed before")
        # Before the page, for what it is needed for below.
        head = (await db.ask("SELECT es_head()"))[0][0]
        page = await db.ask(
            "SELECT position, stream, type, data FROM es_read_all($1, $2, types => $3, wait => '2 s')",
            position, PAGE, types or None)
        for event in page:
            print(event["position"], event["stream"], event["type"], flush=True)
        before = position
        if page:
            position = page[-1]["position"]
        # A short page: there was nothing else for us up to that head.  Without this, a tail
        # of rare types would look at the same part of the log for ever.
        if len(page) < PAGE:
            position = max(position, head)
        if position > before:
            remember(file, position, epoch)
            remembered["epoch"] = epoch


# ---- a competing consumer ----

async def send_ticket(db, consumer, event):
    """Does what has to be done for an event, once: the id tells that it was done before.

    Here the table stands for the world outside.  What accepts a key of ours (a payment, a
    queue, a mail with a Message-ID) is given the event's id in the same way.
    """
    if not event["data"]["who"]:
        raise ValueError("a ticket for nobody")
    return bool(await db.ask(
        f'INSERT INTO "{CATEGORY}".ticket (event_id, show, version, who, sent_by)'
        " VALUES ($1, $2, $3, $4, $5) ON CONFLICT (event_id) DO NOTHING RETURNING true",
        event["event_id"], event["stream"], event["version"], event["data"]["who"], consumer))


async def consume(consumer):
    """Fetch, handle, acknowledge.  The name must not be that of another process."""
    db = Database()
    while True:
        events = await db.ask(
            "SELECT position, stream, version, data, event_id FROM es_fetch($1, $2, 100, wait => '5 s')",
            CATEGORY, consumer)
        try:
            await handle(db, consumer, events)
        except asyncpg.PostgresError as error:
            # 55000: we took longer than ack_timeout, and others have these events now.  No
            # harm: they find the tickets sent.
            if error.sqlstate != "55000":
                raise
            print("late", flush=True)


async def handle(db, consumer, events):
    done, failed = [], set()
    for event in events:
        # es_nack has taken back the later events of the stream: they come again, after the
        # one that failed.
        if event["stream"] in failed:
            continue
        try:
            sent = await send_ticket(db, consumer, event)
        except ValueError as error:
            failed.add(event["stream"])
            await db.ask("SELECT es_nack($1, $2, $3, 'retry', $4)", CATEGORY, consumer, [event["position"]], str(error))
            print("failed", event["position"], flush=True)
        else:
            done.append(event["position"])
            print("sent" if sent else "known", event["position"], flush=True)
    if done:
        await db.ask("SELECT es_ack($1, $2, $3)", CATEGORY, consumer, done)


# ---- a command, then a query ----

async def seats_left(db, show, position):
    """What the read model says, once it has come to a position; else what it says, and that."""
    try:
        caught_up = (await db.ask("SELECT es_wait_for_projection($1, $2, timeout => '1 s')", CATEGORY, position))[0][0]
    except asyncpg.PostgresError as error:
        # SE005: the projection is stopped by an error.  Old data are better than none.
        if error.sqlstate != "SE005":
            raise
        caught_up = False
    rows = await db.ask(f'SELECT seats_left FROM "{CATEGORY}".seats WHERE show = $1', show)
    return {"seats_left": rows[0]["seats_left"] if rows else None, "may_be_stale": not caught_up}


async def book(show, who):
    db = Database()
    appended, _ = await reserve(db, show, who)
    print(json.dumps(await seats_left(db, show, appended["position"] if appended else None)))


def main():
    command, *arguments = sys.argv[1:] or ["help"]
    if command == "reserve":
        work = reserve_all(arguments[0], arguments[1:])
    elif command == "tail":
        work = tail(arguments[0], arguments[1:])
    elif command == "consume":
        work = consume(arguments[0])
    elif command == "book":
        work = book(*arguments)
    else:
        sys.exit(__doc__)
    asyncio.run(work)


main()
