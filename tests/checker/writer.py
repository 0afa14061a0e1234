"""A writer: random transactions against the append functions, one journal line
an operation, written when the fate of its transaction is known.

Outcomes
    ok           returned, and the transaction was acknowledged
    rolled_back  returned, and then undone: ROLLBACK, ROLLBACK TO, an error later
                 on, or a connection lost before COMMIT was sent
    conflict     refused with SE001
    error        refused with another SQLSTATE
    unknown      the connection was lost while COMMIT, or the operation itself
                 outside a transaction block, was in flight
"""

import collections
import json
import random
import time

from session import Journal, Lost, Refused, Session, now
from workload import EXISTS, Workload

# What a correct client must be ready for, anywhere.
RETRY_CODES = ("40001", "40P01")


class Operation:
    def __init__(self, kind, events, **extra):
        self.kind = kind
        self.events = events
        self.extra = extra
        self.inv = self.ret = self.end = None
        self.outcome = None
        self.incarnation = None     # of the server that acknowledged it
        self.code = self.detail = None
        self.results = None         # [stream, version, position, duplicate] a stream


class Writer:
    def __init__(self, config, number, announce):
        self.config = config
        self.client = f"writer{number}"
        self.rng = random.Random(f"{config.seed}/{self.client}")
        self.work = Workload(config, self.client, self.rng)
        self.journal = Journal(config, self.client)
        self.session = Session(config, self.client, self.journal, announce)
        self.transactions = 0
        self.in_block = None        # the operations of the open transaction block
        self.isolation = "rc"
        self.asynchronous = False
        self.committing = False
        self.doubtful = False       # the connection was just lost
        self.again = collections.deque(maxlen=40)   # operations with ids, to be repeated
        self.acknowledged = collections.deque(maxlen=40)
        self.known = {}             # stream -> a version it has had

    # ---- the loop ----

    def main(self):
        self.session.connect()
        while now() < self.config.end:
            self.session.die_with_parent()
            try:
                self.step()
            except Lost:
                self.connection_lost()
            except Refused as refusal:
                self.unexpected(refusal)
        self.session.close()
        self.journal.close()

    def step(self):
        if self.doubtful:           # what was the fate of the last append?
            self.doubtful = False
            if self.again and self.work.chance(0.7):
                self.autocommitted(self.repeat(self.again[-1]))
        kind = self.rng.random()
        if kind < 0.40:
            self.autocommitted(self.draw_operation())
        elif kind < 0.46:
            self.reread()
        elif kind < 0.98:
            self.transaction()
        else:                       # leave without a word, as a client that dies
            self.session.run("BEGIN")
            self.begin_block("rc", False)
            try:
                self.attempt(self.draw_operation())
            except Refused:
                pass
            self.session.close()
            raise Lost("left")

    def unexpected(self, refusal):
        """A refusal of something other than an operation."""
        self.journal.write(k="refused", c=self.client, code=refusal.code, message=str(refusal))

    def connection_lost(self):
        block, self.in_block = self.in_block, None
        if block is not None:
            self.settle(block, "unknown" if self.committing else "rolled_back")
        self.committing = False
        self.session.connect()
        self.doubtful = True

    # ---- transactions ----

    def begin_block(self, isolation, asynchronous):
        self.in_block = []
        self.committing = False
        self.isolation = isolation
        self.asynchronous = asynchronous

    def settle(self, operations, fate):
        """The transaction is over: what its operations came to, into the journal."""
        end = now()
        self.transactions += 1
        for operation in operations:
            if operation.outcome == "returned":
                operation.outcome = fate
            operation.end = end
            operation.incarnation = self.session.incarnation
            self.write(operation)
            if operation.events and operation.events[0].id and "wrong" not in operation.extra:
                self.again.append(operation)
            if operation.outcome == "ok" and operation.results:
                self.acknowledged.append(operation)

    def write(self, operation):
        self.journal.write(
            k="op", c=self.client, tx=self.transactions, op=operation.kind,
            iso=self.isolation, async_=self.asynchronous, inc=self.session.incarnation,
            inv=operation.inv, ret=operation.ret, end=operation.end,
            ev=[event[:5] for event in operation.events],
            out=operation.outcome, code=operation.code, detail=operation.detail,
            res=operation.results, **operation.extra)

    def autocommitted(self, operation):
        self.isolation, self.asynchronous = "rc", self.config.asynchronous
        try:
            self.call(operation)
        except Refused:
            pass
        except Lost:
            operation.outcome = "unknown"
            self.settle([operation], None)
            raise
        self.settle([operation], "ok")

    def transaction(self):
        rng, run = self.rng, self.session.run
        isolation = rng.choices(("rc", "rr", "ser"), (80, 15, 5))[0]
        level = {"rc": "READ COMMITTED", "rr": "REPEATABLE READ", "ser": "SERIALIZABLE"}[isolation]
        run("BEGIN ISOLATION LEVEL " + level)
        self.begin_block(isolation, self.config.asynchronous or self.work.chance(0.25))
        if self.asynchronous:
            run("SET LOCAL synchronous_commit = off")
        try:
            self.block()
            self.pause_before_end()
            fate = "ok" if self.work.chance(0.8) else "rolled_back"
            self.committing = fate == "ok"
            run("COMMIT" if self.committing else "ROLLBACK")
        except Refused as refusal:
            fate = "rolled_back"
            self.committing = False
            if not (self.in_block and self.in_block[-1].code == refusal.code):
                self.unexpected(refusal)
            run("ROLLBACK")
        self.committing = False
        block, self.in_block = self.in_block, None
        self.settle(block, fate)

    def block(self):
        """The inside of a transaction: operations, savepoints, errors."""
        operations = [self.draw_operation(in_block=True) for _ in range(self.rng.randint(1, 4))]
        if not self.work.chance(0.1):       # else: opposite orders, deadlocks
            operations.sort(key=lambda operation: min(e.stream for e in operation.events)
                            if operation.events else operation.extra["check"][0])
        if self.isolation != "rc":          # take the snapshot, and let it age
            self.session.run("SELECT es_stream_version(%s)", (self.work.stream(),))
            time.sleep(self.rng.choice((0, 0.002, 0.02)))
        for operation in operations:
            if self.work.chance(0.25):
                self.savepoint(operation)
            else:
                self.attempt(operation)
            if self.work.chance(0.15):
                time.sleep(self.rng.choice((0.001, 0.01)))
            if self.work.chance(0.02):
                self.session.run("SELECT 1/0")

    def savepoint(self, operation):
        """An operation under a savepoint, perhaps undone, perhaps followed by more."""
        run = self.session.run
        run("SAVEPOINT s")
        before = len(self.in_block)
        try:
            self.attempt(operation)
            if self.work.chance(0.3):
                self.attempt(self.draw_operation(in_block=True))
            undo = self.work.chance(0.5)
            if self.work.chance(0.05):
                run("SELECT 1/0")
        except Refused as refusal:
            if refusal.code in RETRY_CODES:
                raise
            undo = True
        if undo:
            run("ROLLBACK TO s")
            for undone in self.in_block[before:]:
                if undone.outcome == "returned":
                    undone.outcome = "rolled_back"
                    undone.extra["savepoint"] = True
            if self.work.chance(0.6):       # what was just undone, or something else
                self.attempt(self.repeat(operation) if operation.events and self.work.chance(0.5)
                             else self.draw_operation(in_block=True))
        elif self.work.chance(0.5):
            run("RELEASE s")

    def attempt(self, operation):
        """An operation in the open block. Remembered before it is sent."""
        self.in_block.append(operation)
        try:
            self.call(operation)
        except Lost:
            operation.outcome = "rolled_back"
            raise

    def pause_before_end(self):
        """Positions are drawn, nothing is committed: the moment that loses events."""
        pause = self.rng.random()
        if pause < 0.30:
            time.sleep(self.rng.random() * 0.005)
        elif pause < 0.38:
            time.sleep(self.rng.random() * 0.03)
        elif pause < 0.385:
            time.sleep(0.1 + self.rng.random() * 0.5)

    # ---- operations ----

    def draw_operation(self, in_block=False):
        kind = self.rng.random()
        if kind < 0.42:
            operation = self.draw_append()
        elif kind < 0.57:
            stream = self.work.stream()
            with_id = self.work.chance(0.5)
            events = [self.work.event(stream, with_id=with_id)
                      for _ in range(self.rng.randint(1, 6))]
            events[0] = events[0]._replace(expected=self.draw_expected(stream))
            operation = Operation("events", events)
        elif kind < 0.74:
            operation = self.draw_batch()
            if not self.config.control and self.work.chance(0.3):
                operation.kind = "table"
        elif kind < 0.78:
            stream = self.work.stream()
            operation = Operation("twice", [self.work.event(stream), self.work.event(stream)])
        elif kind < 0.88:
            operation = (self.repeat(self.rng.choice(self.again)) if self.again
                         else self.draw_append())
        elif kind < 0.93:
            operation = Operation("append", [self.work.raced()], raced=True)
        elif kind < 0.95:
            operation = self.draw_misuse()
        elif kind < 0.97 or not in_block:
            operation = self.draw_bad()
        else:
            stream = self.work.stream()
            expected = self.draw_expected(stream)
            operation = Operation("check", [], check=[stream, 0 if expected is None else expected, None])
        return operation

    def draw_expected(self, stream):
        """None, exact, stale, no stream, exists, or nonsense; exact ones race."""
        kind = self.rng.random()
        if kind < 0.50:
            return None
        if kind < 0.76:
            invoked = now()
            version = self.session.run("SELECT es_stream_version(%s)", (stream,))[0][0]
            if self.in_block is None:
                self.journal.write(k="version", stream=stream, inv=invoked, ret=now(),
                                   version=version)
            self.known[stream] = version
            if self.work.chance(0.2):
                time.sleep(0.001)
            return version
        if kind < 0.84:
            return self.known.get(stream, 0)
        if kind < 0.91:
            return 0
        if kind < 0.98:
            return EXISTS
        return self.known.get(stream, 0) + 5

    def draw_append(self):
        stream = self.work.stream()
        return Operation("append", [self.work.event(stream, self.draw_expected(stream),
                                                    with_id=self.work.chance(0.5))])

    def draw_batch(self):
        events = self.work.batch()
        if self.work.chance(0.3):           # the second event of a stream sees the first
            stream = events[0].stream
            expected = self.draw_expected(stream)
            for place, event in enumerate(events):
                if event.stream == stream and expected is not None:
                    events[place] = event._replace(expected=expected)
                    expected = None if expected < 0 else expected + 1
        return Operation("batch", events)

    def repeat(self, operation):
        """The very same call again, as a client does that does not know its fate."""
        extra = {key: operation.extra[key] for key in ("raced", "wrong") if key in operation.extra}
        return Operation(operation.kind, operation.events, again=True, **extra)

    def draw_misuse(self):
        """An id that an acknowledged event has, with other data: SE003."""
        for earlier in reversed(self.again):
            if earlier.outcome == "ok" and "raced" not in earlier.extra:
                event = earlier.events[0]
                token = self.work.token()
                return Operation("append", [event._replace(token=token, data=self.work.data(token))],
                                 wrong="SE003")
        return self.draw_bad()

    def draw_bad(self):
        """A call that fails in its middle: nothing of it may stay."""
        operation = self.draw_batch() if self.work.chance(0.5) else self.draw_append()
        last = operation.events[-1]
        fault = self.rng.random()
        if fault < 0.5:
            last = last._replace(type="")
        elif fault < 0.97 or operation.kind == "batch":
            last = last._replace(expected=-1)
        else:
            last = last._replace(data='{"pad": "%s"}' % ("x" * 1100000))
        operation.events = [event._replace(id=None) for event in operation.events[:-1] + [last]]
        operation.extra["wrong"] = "22/54"
        return operation

    def call(self, operation):
        """Sends an operation; its outcome stands in it, also when this raises."""
        statement, args = self.statement(operation)
        operation.inv = now()
        try:
            rows = self.session.run(statement, args)
        except Refused as refusal:
            operation.ret = now()
            operation.outcome = "conflict" if refusal.code == "SE001" else "error"
            operation.code, operation.detail = refusal.code, refusal.detail
            if operation.code not in ("SE001", "SE003") + RETRY_CODES:
                operation.detail = refusal.detail or str(refusal)[:200]
            raise
        operation.ret = now()
        operation.outcome = "returned"
        self.take_results(operation, rows)

    @staticmethod
    def statement(operation):
        events = operation.events
        if operation.kind == "append":
            event = events[0]
            return ("SELECT version, position, duplicate FROM es_append(%s, %s, %s,"
                    " expected_version => %s, event_id => %s)",
                    (event.stream, event.type, event.data, event.expected, event.id))
        if operation.kind == "events":
            items = []
            for event in events:
                item = {"type": event.type, "data": json.loads(event.data)}
                if event.id:
                    item["event_id"] = event.id
                items.append(item)
            return ("SELECT version, position, duplicate"
                    " FROM es_append_events(%s, %s, expected_version => %s)",
                    (events[0].stream, json.dumps(items), events[0].expected))
        if operation.kind == "batch":
            return ("SELECT stream, version, position, duplicate FROM es_append_batch("
                    "%s::text[], %s::text[], %s::jsonb[],"
                    " expected_versions => %s::bigint[], event_ids => %s::uuid[])",
                    ([e.stream for e in events], [e.type for e in events],
                     [e.data for e in events], [e.expected for e in events],
                     [e.id for e in events] if events[0].id else None))
        if operation.kind == "table":
            return ("INSERT INTO eventstore.new_events (stream, type, data, expected_version, event_id)"
                    " SELECT * FROM unnest(%s::text[], %s::text[], %s::jsonb[], %s::bigint[], %s::uuid[])"
                    " RETURNING stream, version, position, duplicate",
                    ([e.stream for e in events], [e.type for e in events],
                     [e.data for e in events], [e.expected for e in events], [e.id for e in events]))
        if operation.kind == "twice":
            return ("SELECT a.version, a.position, b.version, b.position"
                    " FROM es_append(%s, %s, %s) a, es_append(%s, %s, %s) b",
                    [value for e in events for value in (e.stream, e.type, e.data)])
        stream, expected, _ = operation.extra["check"]
        return "SELECT es_check_version(%s, %s)", (stream, expected)

    def take_results(self, operation, rows):
        if operation.kind == "check":
            operation.extra["check"][2] = rows[0][0]
            return
        if operation.kind == "twice":
            first, second = rows[0][:2], rows[0][2:]
            if first > second:
                operation.events.reverse()
                second = first
            operation.results = [[operation.events[0].stream, *second, False]]
        elif operation.kind in ("batch", "table"):      # of a table's rows, the last of each stream
            operation.results = list({row[0]: list(row) for row in rows}.values())
        else:
            operation.results = [[operation.events[0].stream, *row] for row in rows]
        for stream, version, _, _ in operation.results:
            self.known[stream] = version

    def reread(self):
        """What was acknowledged can be read: in its stream at once, by position
        when the head has come that far."""
        candidates = [operation for operation in self.acknowledged
                      if operation.incarnation == self.session.incarnation]
        if not candidates:
            self.autocommitted(self.draw_operation())
            return
        operation = candidates[-1] if self.work.chance(0.5) else self.rng.choice(candidates)
        stream, version, position, _ = self.rng.choice(operation.results)
        want = [event.token for event in operation.events if event.stream == stream]
        fields = {"stream": stream, "version": version, "want": want}
        if not self.config.control and self.work.chance(0.3):
            self.reread_by_id(fields, position)
        elif self.work.chance(0.7):
            rows = self.session.run(
                "SELECT data ->> 'token' FROM es_read_stream(%s, %s, %s)",
                (stream, version - len(want) + 1, len(want)))
            self.journal.write(k="reread", how="stream", got=[row[0] for row in rows], **fields)
        elif self.session.run("SELECT es_wait(%s, '2 s')", (position,))[0][0]:
            rows = self.session.run(
                "SELECT data ->> 'token' FROM es_read_all(%s, 1)", (position - 1,))
            fields["want"] = want[-1:]
            self.journal.write(k="reread", how="position", got=[row[0] for row in rows], **fields)
        else:
            self.journal.write(k="reread", how="held")


    def reread_by_id(self, fields, position):
        """The event's id, whoever made it, leads to it and is known when it is sent again."""
        run, stream, version = self.session.run, fields["stream"], fields["version"]
        read = run("SELECT event_id::text, type, data::text FROM es_read_stream(%s, %s, 1)", (stream, version))
        got = []
        for event_id, kind, data in read:
            got += run("SELECT (es_read_event(%s)).data ->> 'token'", (event_id,))[0]
            got += run("SELECT version, position, duplicate FROM es_append(%s, %s, %s, event_id => %s)",
                       (stream, kind, data, event_id))[0]
        fields["want"] = [fields["want"][-1], version, position, True]
        self.journal.write(k="reread", how="id", got=got, **fields)


def main(config, number, announce):
    Writer(config, number, announce).main()
