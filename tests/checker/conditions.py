#!/usr/bin/python3
"""The checker of conditions: is a rule that spans streams ever broken?

    conditions.py --dsn "host=/socket/dir dbname=x user=y" [--seconds 10] [--clients 16]
                  [--seed 1] [--control unguarded]

Clients, each a process, subscribe students to courses: at most 5 students a course, at
most 3 courses a student, nobody twice. They take names that must be unique, and write
invoices whose numbers have no gaps. Each reads what matters with es_query(), decides,
and appends on condition that nothing which matters was added: with items of all kinds,
with an "after" of each kind that is sound, one call or several a transaction, at
random isolation levels, with savepoints and rollbacks. Others append events that bear
the same tags without a condition. Somebody terminates connections all the time.

When the time is up, the log is read as a whole and held against the journals:

  rules     replayed by position, the log breaks no rule at any event
  accepted  no event between "after" and the accepted one matches its condition
  refused   each SE004 names an event beyond "after" that matches, and that is in the
            log or was the transaction's own
  stored    what was acknowledged is in the log at its position, what was rolled back
            is not, and positions rise with time
  errors    no SQLSTATE but those that a correct client must expect

With --control unguarded the same clients append without conditions: the rules must
break, or this checker is broken.

Exit status: 0 every rule holds; 1 a rule is broken, or was not exercised; 2 the run
could not be carried out.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import uuid

from history import Verdict
from rules_conditions import COURSES_EACH, EXPECTED, LEVELS, PLACES, Event, Judge
from session import Config, GaveUp, Journal, Lost, Refused, Session, now, processes
from turns import KINDS, Turns

COURSES = 8
STUDENTS = 12
NAMES = 40
SERIES = 3
SPAN = 4_000_000            # microseconds after which new courses, students, names begin


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--dsn", required=True, help="libpq connection string")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--control", choices=["unguarded"], help="append without conditions: must fail")
    return parser.parse_args()


# ---- deciding ----

def fold(events):
    """Who is in which course, after these events."""
    members = set()
    for kind, data in events:
        if kind == "Subscribed":
            members.add((data["course"], data["student"]))
        elif kind == "Left":
            members.discard((data["course"], data["student"]))
    return members


def item(tags=None, types=None):
    made = {}
    if tags:
        made["tags"] = tags
    if types:
        made["types"] = types
    return made


class Plan:
    """One decision: what to read, what to append, and on what condition."""

    def __init__(self, rng, config, wide=False):
        self.rng = rng
        self.scope = rng.choice(KINDS) if wide else rng.choices(("all", "types", "split", None), (3, 3, 4, 90))[0]
        self.name = f"{config.run}.{(now() - config.started) // SPAN}"
        self.kind = "subscribe" if wide else rng.choices(("subscribe", "name", "invoice", "certify", "note"), (60, 12, 12, 8, 8))[0]
        getattr(self, "plan_" + self.kind)()

    def plan_subscribe(self):
        self.course = f"course:{self.name}.{self.rng.randrange(COURSES)}"
        self.student = f"student:{self.name}.{self.rng.randrange(STUDENTS)}"
        both = ["Subscribed", "Left"]
        typed = both if self.rng.random() < 0.5 else None
        self.read = [item([self.course], typed), item([self.student], typed)]
        self.rng.shuffle(self.read)
        self.condition = self.read
        if self.scope == "all":
            self.condition = [{}]
        elif self.scope == "types":
            self.condition = [item(types=both)]
        elif self.scope == "split":
            self.condition = [item([self.student])] + [item([self.course], [one]) for one in both]
        self.stream = f"Enrolment-{self.student}" if self.rng.random() < 0.7 else f"Enrolment-{uuid.UUID(int=self.rng.getrandbits(128))}"

    def decide_subscribe(self, events):
        members = fold(events)
        in_course = [student for course, student in members if course == self.course]
        of_student = [course for course, student in members if student == self.student]
        tags = [self.course, self.student]
        if self.student in in_course:
            if self.rng.random() < 0.5:
                return None
            return "Left", {"course": self.course, "student": self.student}, tags
        if len(in_course) < PLACES and len(of_student) < COURSES_EACH:
            return "Subscribed", {"course": self.course, "student": self.student}, tags
        if len(in_course) >= PLACES and self.rng.random() < 0.5:
            leaver = self.rng.choice(sorted(in_course))
            return "Left", {"course": self.course, "student": leaver}, [self.course, leaver]
        return None

    def plan_name(self):
        self.tag = f"name:{self.name}.{self.rng.randrange(NAMES)}"
        self.read = self.condition = [item([self.tag], ["NameTaken"] if self.rng.random() < 0.5 else None)]
        self.stream = f"Name-{uuid.UUID(int=self.rng.getrandbits(128))}"

    def decide_name(self, events):
        return None if events else ("NameTaken", {"name": self.tag}, [self.tag])

    def plan_invoice(self):
        self.tag = f"series:{self.name}.{self.rng.randrange(SERIES)}"
        self.read = self.condition = [item([self.tag], ["Invoiced"])]
        self.stream = f"Invoice-{uuid.UUID(int=self.rng.getrandbits(128))}"

    def decide_invoice(self, events):
        return "Invoiced", {"series": self.tag, "number": len(events) + 1}, [self.tag, f"{self.tag}/{len(events) + 1}"]

    def plan_certify(self):
        """An item with two tags: a student and a course have at most one certificate."""
        self.course = f"course:{self.name}.{self.rng.randrange(COURSES)}"
        self.student = f"student:{self.name}.{self.rng.randrange(STUDENTS)}"
        self.tags = [self.student, self.course]
        self.rng.shuffle(self.tags)
        self.read = self.condition = [item(self.tags, ["Certified"])]
        self.stream = f"Certificate-{uuid.UUID(int=self.rng.getrandbits(128))}"

    def decide_certify(self, events):
        return None if events else ("Certified", {"course": self.course, "student": self.student}, [self.course, self.student])

    def plan_note(self):
        """An event that matters to others, without a condition of its own."""
        self.tags = [f"course:{self.name}.{self.rng.randrange(COURSES)}", f"student:{self.name}.{self.rng.randrange(STUDENTS)}"]
        self.read = self.condition = None
        self.stream = f"Note-{self.rng.randrange(20)}"

    def decide_note(self, _):
        return "Noted", {}, self.tags

    def decide(self, events):
        return getattr(self, "decide_" + self.kind)(events)


# ---- clients ----

class Client:
    def __init__(self, config, turns, number):
        self.config = config
        self.turns = turns
        self.rng = random.Random(f"{config.seed}/{number}")
        self.number = number
        self.journal = Journal(config, f"client{number}")
        self.session = Session(config, f"client{number}", self.journal)
        self.attempts = 0

    def run(self):
        self.session.connect()
        while now() < self.config.end:
            self.session.die_with_parent()
            turn = self.turns.enter()
            if not turn:
                continue
            self.transaction = f"{self.number}.{self.attempts}"
            try:
                outcome = self.transact(turn)
            except Lost:
                outcome = "unknown" if self.committing else "lost"
                self.session.connect()
            except Refused as refusal:
                outcome = refusal.code
                try:
                    self.session.run("ROLLBACK")
                except Lost:
                    self.session.connect()
            self.turns.leave(turn)
            self.journal.write(k="end", tx=self.transaction, out=outcome, ret=now(),
                               level=self.level)
        self.session.close()
        self.journal.close()

    def transact(self, turn):
        """One to three decisions; alone and outside of a transaction, or in one."""
        rng, session = self.rng, self.session
        self.committing = False
        if turn == "wide":
            self.level = "one statement"
            plan = Plan(rng, self.config, wide=True)
            if self.attempt(plan, alone=True):
                self.turns.accepted(plan.scope)
            return "committed"
        calls = rng.choices((1, 2, 3), (75, 15, 10))[0]
        self.level = rng.choice(LEVELS)
        if calls == 1 and rng.random() < 0.4:
            self.level = "one statement"
            self.attempt(Plan(rng, self.config), alone=True)
            return "committed"
        session.run(f"BEGIN ISOLATION LEVEL {self.level}")
        if rng.random() < 0.2:
            session.run("SELECT 1")                 # a snapshot that will be old
            time.sleep(rng.random() * 0.01)
        for _ in range(calls):
            plan = Plan(rng, self.config)
            if rng.random() < 0.3:
                self.savepoint(plan)
            else:
                self.attempt(plan)
        if rng.random() < 0.1:
            session.run("ROLLBACK")
            return "rolled back"
        self.committing = True
        session.run("COMMIT")
        return "committed"

    def savepoint(self, plan):
        """The same in a savepoint, from which it may come back, refused or not."""
        self.session.run("SAVEPOINT s")
        token = None
        try:
            token = self.attempt(plan)
            back = self.rng.random() < 0.3
        except Refused as refusal:
            if refusal.code not in EXPECTED:
                raise
            back = True
        if back:
            self.session.run("ROLLBACK TO s")
            if token:
                self.journal.write(k="undone", token=token)
        else:
            self.session.run("RELEASE s")

    def read(self, plan):
        """The events that matter, and a sound "after"."""
        if plan.read is None:
            return [], 0
        session = self.session
        head = session.run("SELECT es_head()")[0][0]
        rows = session.run("SELECT position, type, data FROM es_query(%s, %s, NULL)",
                           (json.dumps(plan.read), self.config.base))
        after = head
        # The last position of the query is one, if the condition is that query.
        if plan.condition is plan.read and self.rng.random() < 0.4:
            after = rows[-1][0] if rows else self.config.base
        return [(kind, data) for _, kind, data in rows], after

    def attempt(self, plan, alone=False):
        """Reads, decides, appends. The token of the append, if there was one."""
        rng, session = self.rng, self.session
        events, after = self.read(plan)
        decided = plan.decide(events)
        if rng.random() < 0.1:
            time.sleep(rng.random() * 0.02)
        if decided is None:
            return None
        kind, data, tags = decided
        self.attempts += 1
        token = f"{self.number}.{self.attempts}"
        data = dict(data, token=token)
        condition = None
        if plan.condition is not None and not self.config.control:
            condition = {"query": plan.condition, "after": after}
        entry = dict(k="call", tx=self.transaction, token=token, kind=plan.kind, inv=now(),
                     condition=condition, alone=alone)
        form = rng.random()
        try:
            if form < 0.6 or condition is None and form < 0.8:
                sql, args = ("SELECT position, position FROM es_append(%s, %s, %s, tags => %s::text[], condition => %s)",
                             (plan.stream, kind, json.dumps(data), tags, condition and json.dumps(condition)))
            elif condition is None:
                sql, args = ("SELECT position, position FROM es_append_batch(ARRAY[%s], ARRAY[%s], ARRAY[%s::jsonb], tags => ARRAY[%s::jsonb])",
                             (plan.stream, kind, json.dumps(data), json.dumps(tags)))
            else:
                # Two events; the second one is about the same.
                made = [{"type": kind, "data": data, "tags": tags}, {"type": "Told", "data": {"token": token}, "tags": tags[:1]}]
                sql, args = ("SELECT position - 1, position FROM es_append_events(%s, %s, condition => %s)",
                             (plan.stream, json.dumps(made), json.dumps(condition)))
            if alone:
                self.committing = True
            first, last = session.run(sql, args)[0]
        except Refused as refusal:
            self.journal.write(**entry, ret=now(), out=refusal.code, detail=refusal.detail,
                               message=refusal.message)
            raise
        except Lost:
            self.journal.write(**entry, ret=now(), out="lost")
            raise
        self.journal.write(**entry, ret=now(), out="ok", first=first, last=last)
        return token


def client(config, turns, number):
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        Client(config, turns, number).run()
    except GaveUp as problem:
        print(f"client{number}: {problem}", file=sys.stderr)
        os._exit(3)


# ---- the run ----

def disturb(config, session):
    """Terminates connections at random, until the time is up."""
    rng = random.Random(f"{config.seed}/disturber")
    terminated = 0
    while now() < config.end:
        time.sleep(rng.uniform(0.05, 0.4))
        # One that is in a transaction, or at work: those are worth it.
        terminated += len(session.run(
            "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity"
            " WHERE application_name LIKE %s AND state <> 'idle' ORDER BY hashint8(pid + %s) LIMIT 1) one",
            (config.schema + " client%", rng.randrange(10**6))))
    return terminated


def carry_out(config, session):
    session.connect()
    config.base = session.head()
    config.started = now()
    config.end = config.started + int(config.seconds * 1e6)
    turns = Turns(config.started)
    children = [processes.Process(target=client, args=(config, turns, number), daemon=True)
                for number in range(config.writers)]
    try:
        for child in children:
            child.start()
        terminated = disturb(config, session)
        deadline = time.monotonic() + config.patience + 30
        for child in children:
            child.join(max(0, deadline - time.monotonic()))
            if child.exitcode != 0:
                raise GaveUp(f"{child.name} ended with status {child.exitcode}")
    finally:
        for child in children:
            if child.is_alive():
                child.kill()
                child.join()
    wait_for_quiet(config, session)
    return terminated


def wait_for_quiet(config, session):
    """Until no backend of a client is left, nor of one that is gone."""
    deadline = time.monotonic() + 20
    while session.run("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE %s",
                      (config.schema + " client%",))[0][0]:
        if time.monotonic() > deadline:
            raise GaveUp("a client's backend does not end")
        time.sleep(0.05)


def read_log(config, session):
    rows = session.run("SELECT position, type, data, tags FROM es_read_all(%s, NULL)", (config.base,))
    return [Event(position, kind, data, frozenset(tags or ()), data.get("token") if isinstance(data, dict) else None)
            for position, kind, data, tags in rows]


def read_journals(config):
    lines = []
    for number in range(config.writers):
        with open(os.path.join(config.log_dir, f"client{number}.jsonl"), encoding="utf-8") as file:
            lines += [json.loads(line) for line in file]
    return lines


def main():
    args = arguments()
    name = uuid.uuid4().hex[:6]
    log_dir = tempfile.mkdtemp(prefix=f"conditions.{name}.")
    config = Config(dsn=args.dsn, run=name, seed=args.seed, seconds=args.seconds, writers=args.clients,
                    readers=0, control=args.control, patience=10, log_dir=log_dir)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))
    session = Session(config, "checker", Journal(config, "checker"))
    keep = False
    try:
        print(f"run {name}: {args.control or 'conditions'}, {args.seconds:g} s, {args.clients} clients,"
              f" seed {args.seed}", flush=True)
        terminated = carry_out(config, session)
        lines = read_journals(config)
        load = Verdict("load")
        ends = sum(line["k"] == "end" for line in lines)
        calls = sum(line["k"] == "call" for line in lines)
        load.facts = f"{calls:,} calls in {ends:,} transactions, {terminated:,} connections terminated"
        load.require(terminated, "connections terminated")
        verdicts = [load, *Judge(config, read_log(config, session), lines).verdicts()]
        for verdict in verdicts:
            verdict.print()
        good = not any(verdict.problems for verdict in verdicts)
        keep = not good and not args.control
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
        session.close()
        if not keep:
            shutil.rmtree(log_dir, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
