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
import bisect
import collections
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
import uuid

from history import Verdict
from session import Config, GaveUp, Journal, Lost, Refused, Session, now

PLACES = 5                  # of a course
COURSES_EACH = 3            # of a student
COURSES = 8
STUDENTS = 12
NAMES = 40
SERIES = 3
SPAN = 4_000_000            # microseconds after which new courses, students, names begin

# Who asks for everything is refused as long as anybody appends: there are moments when
# only such ones are under way, and none of them in a longer transaction.
ROUND = 1_000_000
WIDE_ONLY = 150_000         # at the end of a round

LEVELS = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")
# What any client must be ready for. 40001: a stream that has changed, SERIALIZABLE.
EXPECTED = ("SE004", "SE001", "40P01", "40001")


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
        self.wide = rng.uniform(0, 0.06) if wide else rng.random()
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
        if self.wide < 0.03:
            self.condition = [{}]
        elif self.wide < 0.06:
            self.condition = [item(types=both)]
        elif self.wide < 0.10:
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
    def __init__(self, config, number):
        self.config = config
        self.rng = random.Random(f"{config.seed}/{number}")
        self.number = number
        self.journal = Journal(config, f"client{number}")
        self.session = Session(config, f"client{number}", self.journal)
        self.attempts = 0

    def run(self):
        self.session.connect()
        while now() < self.config.end:
            self.session.die_with_parent()
            self.transaction = f"{self.number}.{self.attempts}"
            try:
                outcome = self.transact()
            except Lost:
                outcome = "unknown" if self.committing else "lost"
                self.session.connect()
            except Refused as refusal:
                outcome = refusal.code
                try:
                    self.session.run("ROLLBACK")
                except Lost:
                    self.session.connect()
            self.journal.write(k="end", tx=self.transaction, out=outcome, ret=now(),
                               level=self.level)
        self.session.close()
        self.journal.close()

    def transact(self):
        """One to three decisions; alone and outside of a transaction, or in one."""
        rng, session = self.rng, self.session
        self.committing = False
        if (now() - self.config.started) % ROUND > ROUND - WIDE_ONLY:
            self.level = "one statement"
            self.attempt(Plan(rng, self.config, wide=True), alone=True)
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


def client(config, number):
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        Client(config, number).run()
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
    children = [multiprocessing.Process(target=client, args=(config, number), daemon=True)
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


# ---- judging ----

Event = collections.namedtuple("Event", "position type data tags token")


def matches(query, event):
    return any((not one.get("types") or event.type in one["types"])
               and event.tags.issuperset(one.get("tags") or ()) for one in query)


class Judge:
    def __init__(self, config, log, lines):
        self.log = log
        self.positions = [event.position for event in log]
        self.by_position = {event.position: event for event in log}
        self.by_tag = collections.defaultdict(list)
        for event in log:
            for tag in event.tags:
                self.by_tag[tag].append(event)
        self.calls = [line for line in lines if line["k"] == "call"]
        self.ends = {line["tx"]: line for line in lines if line["k"] == "end"}
        self.undone = {line["token"] for line in lines if line["k"] == "undone"}
        self.by_token = collections.defaultdict(list)
        for event in log:
            if event.token:
                self.by_token[event.token].append(event)
        self.config = config

    def verdicts(self):
        return [self.rules(), self.accepted(), self.refused(), self.stored(), self.errors()]

    def rules(self):
        verdict = Verdict("rules")
        members, courses = collections.defaultdict(set), collections.defaultdict(set)
        taken, certified, numbers = set(), set(), collections.Counter()
        count = collections.Counter(event.type for event in self.log)
        full = 0
        for event in self.log:
            data = event.data
            if event.type == "Subscribed":
                course, student = data["course"], data["student"]
                if student in members[course]:
                    verdict.bad(f"{student} subscribed twice to {course} at {event.position}")
                members[course].add(student)
                courses[student].add(course)
                if len(members[course]) > PLACES:
                    verdict.bad(f"{course} has {len(members[course])} students at {event.position}")
                if len(courses[student]) > COURSES_EACH:
                    verdict.bad(f"{student} has {len(courses[student])} courses at {event.position}")
                full += len(members[course]) == PLACES or len(courses[student]) == COURSES_EACH
            elif event.type == "Left":
                members[data["course"]].discard(data["student"])
                courses[data["student"]].discard(data["course"])
            elif event.type == "NameTaken":
                if data["name"] in taken:
                    verdict.bad(f"{data['name']} is taken twice, at {event.position}")
                taken.add(data["name"])
            elif event.type == "Certified":
                if (data["course"], data["student"]) in certified:
                    verdict.bad(f"{data['student']} has two certificates for {data['course']}, at {event.position}")
                certified.add((data["course"], data["student"]))
            elif event.type == "Invoiced":
                numbers[data["series"]] += 1
                if data["number"] != numbers[data["series"]]:
                    verdict.bad(f"number {data['number']} of {data['series']} stands at place"
                                f" {numbers[data['series']]}, at {event.position}")
        verdict.facts = (f"{count['Subscribed']:,} subscribed, {full:,} of them the last that could be, {count['Left']:,} left,"
                         f" {count['NameTaken']:,} names, {count['Invoiced']:,} invoices, {count['Certified']:,} certificates,"
                         f" {count['Noted']:,} events without a condition")
        for kind in ("Subscribed", "Left", "NameTaken", "Invoiced", "Certified", "Noted"):
            verdict.require(count[kind], kind)
        verdict.require(full, "courses or students that were full")
        return verdict

    def between(self, query, after, before):
        """The first event with after < position < before that matches."""
        narrow = [one["tags"][0] for one in query if one.get("tags")]
        if len(narrow) == len(query):
            candidates = (event for tag in set(narrow) for event in self.by_tag[tag]
                          if after < event.position < before)
        else:
            candidates = self.log[bisect.bisect_right(self.positions, after):bisect.bisect_left(self.positions, before)]
        return next((event for event in candidates if matches(query, event)), None)

    def accepted(self):
        verdict = Verdict("accepted")
        count = collections.Counter()
        for call in self.calls:
            stored = self.by_token.get(call["token"])
            if not stored or not call["condition"]:
                continue
            condition = call["condition"]
            count["calls"] += 1
            count["by " + self.form(condition["query"])] += 1
            count[self.ends.get(call["tx"], {}).get("level")] += 1
            wrong = self.between(condition["query"], condition["after"], stored[0].position)
            if wrong:
                verdict.bad(f"{call['token']} at {stored[0].position} was accepted with {condition},"
                            f" though {wrong.type} stands at {wrong.position}")
        verdict.facts = f"{count['calls']:,} conditions held" + self.told(count)
        if not self.config.control:
            for what in ("tags", "types", "all", "one statement", *LEVELS):
                verdict.require(count[what] + count["by " + what], f"accepted: {what}")
        return verdict

    @staticmethod
    def form(query):
        if all(one.get("tags") for one in query):
            return "tags"
        return "all" if query == [{}] else "types"

    @staticmethod
    def told(count):
        names = ("by tags", "by types", "by all", "one statement", *LEVELS)
        return ": " + ", ".join(f"{count[name]:,} {name.lower()}" for name in names)

    def refused(self):
        verdict = Verdict("refused")
        own = collections.defaultdict(dict)     # what a transaction appended, by position
        count = collections.Counter()
        for call in self.calls:
            if call["out"] == "ok":
                for position in range(call["first"], call["last"] + 1):
                    own[call["tx"]][position] = call["token"]
            if call["out"] != "SE004":
                continue
            count["calls"] += 1
            count["by " + self.form(call["condition"]["query"])] += 1
            count[self.ends.get(call["tx"], {}).get("level")] += 1
            named = re.match(r"position: (\d+), type: (.+)$", call["detail"] or "")
            position = int(named.group(1)) if named else 0
            event = self.by_position.get(position)
            if position <= call["condition"]["after"]:
                verdict.bad(f"{call['token']}: {call['detail']!r} is not beyond {call['condition']}")
            elif event is not None:
                if event.type != named.group(2) or not matches(call["condition"]["query"], event):
                    verdict.bad(f"{call['token']}: the event at {position} does not match {call['condition']}")
            elif position in own[call["tx"]]:
                count["own"] += 1
            else:
                verdict.bad(f"{call['token']}: there is no event at {position}: {call['condition']}")
        verdict.facts = f"{count['calls']:,} conditions failed" + self.told(count) + f"; {count['own']:,} by own events"
        if not self.config.control:
            verdict.require(count["calls"], "conditions that failed")
            if self.config.seconds >= 30:
                verdict.require(count["own"], "conditions that failed by own events")
        return verdict

    def stored(self):
        verdict = Verdict("stored")
        count = collections.Counter()
        acknowledged = []                       # (time, greatest position up to then)
        known = set()
        for call in sorted(self.calls, key=lambda call: call["ret"]):
            known.add(call["token"])
            end = self.ends.get(call["tx"])
            there = self.by_token.get(call["token"])
            fate = end["out"] if end else "unknown"
            if call["out"] == "ok" and fate == "committed" and call["token"] not in self.undone:
                count["committed"] += 1
                if not there or (there[0].position, there[-1].position) != (call["first"], call["last"]):
                    verdict.bad(f"{call['token']} was acknowledged at {call['first']}, the log has"
                                f" {[event.position for event in there or []]}")
                acknowledged.append((end["ret"], call["last"]))
            elif fate == "unknown" and call["out"] in ("ok", "lost") and call["token"] not in self.undone:
                count["of unknown fate"] += 1
                count["of these there"] += bool(there)
            else:
                count["rolled back, refused, or lost"] += 1
                if there:
                    verdict.bad(f"{call['token']} ended with {call['out']}, {fate}, and is at {there[0].position}")
        for token, events in self.by_token.items():
            if token not in known:
                verdict.bad(f"nobody appended {token} at {events[0].position}")
        self.rising(verdict, sorted(acknowledged))
        verdict.facts = ", ".join(f"{number:,} {what}" for what, number in count.items())
        verdict.require(count["committed"], "committed calls")
        verdict.require(count["rolled back, refused, or lost"], "calls that were rolled back")
        return verdict

    def rising(self, verdict, acknowledged):
        """Who was told of a commit before a call began has the lower position."""
        times, greatest, top = [], [], 0
        for when, position in acknowledged:
            top = max(top, position)
            times.append(when)
            greatest.append(top)
        for call in self.calls:
            place = bisect.bisect_left(times, call["inv"])
            if call["out"] == "ok" and place and call["first"] <= greatest[place - 1]:
                verdict.bad(f"{call['token']} got {call['first']} after {greatest[place - 1]} was acknowledged")

    def errors(self):
        verdict = Verdict("errors")
        count = collections.Counter(call["out"] for call in self.calls if call["out"] not in ("ok", "lost"))
        for call in self.calls:
            if call["out"] not in ("ok", "lost", *EXPECTED):
                verdict.bad(f"{call['out']}: {call['message']}, in {call['token']}")
        for end in self.ends.values():
            count[f"{end['out']} at the end"] += end["out"] not in ("committed", "rolled back", "lost", "unknown")
            if len(end["out"]) == 5 and end["out"] not in EXPECTED:
                verdict.bad(f"{end['out']} in transaction {end['tx']}")
        verdict.facts = ", ".join(f"{number:,} {code}" for code, number in sorted(count.items()) if number)
        return verdict


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
