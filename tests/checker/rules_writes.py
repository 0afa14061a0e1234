"""Rules 1 to 4: what was acknowledged, refused or undone, against the log.

One pass over the transactions finds for each operation whether its events
stand in the log, and which operation stored which event (Writes.stored); the
rules about time then work on that.
"""

import bisect
import re

from history import Verdict
from workload import EXISTS

FOREVER = 1 << 62
CONFLICT = re.compile(r"stream: (.*), expected: (.*), actual: (\d+)", re.S)
RETRY_CODES = ("40001", "40P01")


class Writes:
    def __init__(self, history):
        self.history = history
        self.log = history.log
        self.rule1 = Verdict("rule 1, each acknowledged event once, no other")
        self.rule2 = Verdict("rule 2, positions rise, versions without gaps, calls whole")
        self.rule3 = Verdict("rule 3, expected versions")
        self.rule4 = Verdict("rule 4, real time")
        self.errors = Verdict("errors, none but the expected ones")
        self.count = dict.fromkeys(
            ("operations", "transactions", "ok", "rolled_back", "conflict", "error", "unknown",
             "found", "duplicates", "savepoints", "after_savepoint", "failed_calls", "async",
             "snapshot_transactions", "batches", "tables", "lost", "checks", "serialization", "deadlock",
             "id_misused", "raced", "repeated"), 0)
        self.stored = [None] * len(self.log)        # (inv, ack) of the operation
        self.maybe = {}             # index -> inv of an operation of unknown fate
        self.fates = {}             # token -> outcome of an operation that failed
        self.versions = {(self.log.stream[i], self.log.version[i]): i for i in range(len(self.log))}
        self.lost_streams = set()   # streams with events that a crash may have taken
        self.forgotten = set()      # tokens of operations that a crash may have taken
        self.echoes = []            # duplicates of events that are not there
        self.attempts = {}          # (stream, expected) -> clients that tried
        self.wins = {}              # (stream, expected) -> successes in the log
        self.conflicts = []         # (operation, transaction)
        self.locks = []             # (transaction, place of the check in it)

    def check(self):
        for transaction in self.history.transactions():
            self.count["transactions"] += 1
            self.count["snapshot_transactions"] += transaction[0]["iso"] != "rc"
            self.take(transaction)
        self.every_event()
        self.every_stream()
        self.acks = self.acknowledgements()
        for operation, transaction in self.conflicts:
            self.conflict(operation, transaction)
        for transaction, place in self.locks:
            self.version_lock(transaction, place)
        self.wins_once()
        self.order_in_time()
        self.reads_after_acknowledgement()
        self.refusals()
        self.summarize()
        return [self.rule1, self.rule2, self.rule3, self.rule4, self.errors]

    # ---- the pass over the transactions ----

    def take(self, transaction):
        count, presence = self.count, {}
        savepoint_undone = False
        for place, op in enumerate(transaction):
            out = op["out"]
            count["operations"] += 1
            count[out] += 1
            count["async"] += op["async_"]
            count["batches"] += op["op"] == "batch"
            count["tables"] += op["op"] == "table"
            count["raced"] += "raced" in op
            count["repeated"] += "again" in op
            if op.get("savepoint"):
                count["savepoints"] += 1
                savepoint_undone = True
            elif savepoint_undone and out == "ok" and op["ev"]:
                count["after_savepoint"] += 1
            if "check" in op:
                count["checks"] += 1
                if out == "ok":
                    self.locks.append((transaction, place))
            if op["ev"] and op["ev"][0][2] is not None and out in ("ok", "conflict"):
                self.attempts.setdefault((op["ev"][0][0], op["ev"][0][2]), set()).add(op["c"])
            if out == "conflict":
                self.conflicts.append((op, transaction))
            elif out == "error":
                self.refused_operation(op)
            if out in ("ok", "unknown") and op["ev"]:
                if self.history.may_be_lost(op):
                    self.forgotten.update(event[3] for event in op["ev"])
                present, duplicate = self.place(op)
                if not duplicate:
                    presence[present] = op
                count["found"] += out == "unknown" and present
            else:
                for event in op["ev"]:
                    self.fates.setdefault(event[3], f"{out} {op['code'] or ''}")
        if len(presence) > 1:
            self.rule2.bad(f"a transaction is there in part: {presence[True]['ev'][0][3]} is in the"
                           f" log, {presence[False]['ev'][0][3]} is not")

    def place(self, op):
        """Where the events of an acknowledged or unknown operation stand. Returns
        whether they do, and whether the operation only repeated another."""
        if op["res"] is None:
            return self.place_unreported(op), False
        log, found, missing, indexes, repeats = self.log, 0, 0, {}, set()
        for stream, version, position, duplicate in op["res"]:
            events = [event for event in op["ev"] if event[0] == stream]
            last = log.at.get(position)
            repeats.add(duplicate)
            if last is None or log.token[last] != events[-1][3]:
                missing += 1
                continue
            found += 1
            for place, event in enumerate(events):
                index = self.versions.get((stream, version - len(events) + 1 + place))
                if index is None or log.token[index] != event[3]:
                    self.rule2.bad(f"{event[3]} is not version {version - len(events) + 1 + place}"
                                   f" of {stream}, as its call returned")
                else:
                    indexes[event[3]] = index
        if found and missing or len(repeats) > 1 or {e[0] for e in op["ev"]} != {r[0] for r in op["res"]}:
            self.rule2.bad(f"a call is there in part, or its result is: {op['res']}")
        duplicate = True in repeats
        self.count["duplicates"] += duplicate
        if missing:
            self.absent(op, duplicate)
            return False, duplicate
        self.present(op, indexes, duplicate)
        return True, duplicate

    def place_unreported(self, op):
        """An operation that was in flight when the connection was lost."""
        there = [self.log.places.get(event[3]) for event in op["ev"]]
        if None in there and any(index is not None for index in there):
            self.rule2.bad(f"a call of unknown fate is there in part: {op['ev'][0][3]}")
        for index in there:
            if index is not None:
                self.maybe[index] = min(op["inv"], self.maybe.get(index, FOREVER))
        return None not in there

    def absent(self, op, duplicate):
        if op["out"] == "unknown":
            return
        if duplicate:
            self.echoes.append(op)
        elif self.history.may_be_lost(op):
            self.count["lost"] += 1
            self.lost_streams.update(event[0] for event in op["ev"])
        else:
            self.rule1.bad(f"acknowledged, but not in the log: {op['ev'][0][3]} of {op['c']},"
                           f" {op['res'][0]}")

    def present(self, op, indexes, duplicate):
        log = self.log
        order = [indexes[event[3]] for event in op["ev"] if event[3] in indexes]
        if any(a >= b for a, b in zip(order, order[1:])):
            self.rule2.bad(f"positions do not rise in the order of the call: {op['ev'][0][3]}")
        for event in op["ev"]:
            index = indexes.get(event[3])
            if index is None:
                continue
            if log.type[index] != event[1] or event[4] and log.id[index] != event[4]:
                self.rule1.bad(f"{event[3]} has type {log.type[index]} and id {log.id[index]},"
                               f" not {event[1]} and {event[4]}")
            if duplicate:
                continue
            if op["out"] == "unknown":
                self.maybe[index] = min(op["inv"], self.maybe.get(index, FOREVER))
            elif self.stored[index] is not None:
                self.rule1.bad(f"two calls claim to have stored {event[3]}")
            else:
                self.stored[index] = (op["inv"], op["end"])
            self.expectation(event, log.version[index])

    def expectation(self, event, version):
        stream, expected = event[0], event[2]
        if expected is None:
            return
        if expected >= 0:
            self.wins[stream, expected] = self.wins.get((stream, expected), 0) + 1
        if expected >= 0 and version != expected + 1 or expected == EXISTS and version < 2:
            self.rule3.bad(f"{event[3]} expected {expected} of {stream} and became version {version}")

    def refused_operation(self, op):
        count, code, wrong = self.count, op["code"], op.get("wrong")
        if code in RETRY_CODES:
            count["serialization" if code == "40001" else "deadlock"] += 1
        elif wrong == "SE003" and code == "SE003":
            count["id_misused"] += 1
        elif wrong == "22/54" and (code[:2] == "22" or code == "54000"):
            count["failed_calls"] += 1
        else:
            self.errors.bad(f"{op['c']}, {op['op']}: {code} {op['detail']}")

    # ---- the log by itself ----

    def every_event(self):
        log, rule = self.log, self.rule1
        for index in log.repeated:
            rule.bad(f"{log.token[index]} is in the log more than once")
        for index in range(len(log)):
            if log.is_own(index) and self.stored[index] is None and index not in self.maybe:
                fate = self.fates.get(log.token[index], "nobody's")
                rule.bad(f"{log.token[index]} is in the log, and was {fate}")
        for op in self.echoes:
            if not all(event[3] in self.forgotten for event in op["ev"]):
                rule.bad(f"returned as a duplicate, but not in the log: {op['ev'][0][3]}")

    def every_stream(self):
        log = self.log
        for a, b in zip(log.position, log.position[1:]):
            if a >= b:
                self.rule2.bad(f"position {b} was read after {a}")
        for stream, indexes in log.streams.items():
            versions = [log.version[index] for index in indexes]
            start = 1 if log.is_own(indexes[0]) else versions[0]
            if versions != list(range(start, start + len(versions))):
                self.rule2.bad(f"the versions of {stream} by position are not"
                               f" {start} to {start + len(versions) - 1}")

    # ---- expected versions ----

    def acknowledgements(self):
        """For each stream the times of acknowledgement, and the greatest version
        acknowledged up to each."""
        acks = {}
        for stream, indexes in self.log.streams.items():
            known = sorted((self.stored[i][1], self.log.version[i])
                           for i in indexes if self.stored[i] is not None)
            times, versions, greatest = [], [], 0
            for time, version in known:
                greatest = max(greatest, version)
                times.append(time)
                versions.append(greatest)
            acks[stream] = (times, versions)
        return acks

    def acknowledged_before(self, stream, time):
        times, versions = self.acks.get(stream, ((), ()))
        place = bisect.bisect_left(times, time)
        return versions[place - 1] if place else 0

    def existed(self, stream, version, time):
        """Could anybody have seen this version before that time?"""
        if version == 0 or stream in self.lost_streams:
            return True
        index = self.versions.get((stream, version))
        if index is None:
            return False
        stored = self.stored[index]
        return (stored[0] if stored else self.maybe.get(index, 0)) <= time

    def conflict(self, op, transaction):
        rule = self.rule3
        match = CONFLICT.search(op["detail"] or "")
        if not match:
            rule.bad(f"a conflict without stream, expected and actual in its DETAIL: {op['detail']!r}")
            return
        stream, expected, actual = match[1], match[2], int(match[3])
        expected = EXISTS if not expected.lstrip("-").isdigit() else int(expected)
        wanted = [op["check"][:2]] if "check" in op else [[e[0], e[2]] for e in op["ev"]]
        if [stream, expected] not in wanted:
            rule.bad(f"a conflict names {stream} and {expected}, not what was expected")
        if actual == expected or expected == EXISTS and actual > 0:
            rule.bad(f"a conflict although {stream} had the expected version: {op['detail']}")

        # Its own transaction may have gone further, and events earlier in the call.
        own = set()
        for earlier in transaction:
            if earlier is op:
                break
            for name, version, _, _ in earlier["res"] or ():
                if name == stream:
                    own.add(version)
        within = range(1 + sum(1 for event in op["ev"] if event[0] == stream))
        if not any(actual - n in own or self.existed(stream, actual - n, op["ret"]) for n in within):
            rule.bad(f"a conflict names a version that did not exist: {op['detail']}")
        known = self.acknowledged_before(stream, op["inv"])
        if actual < known:
            rule.bad(f"a conflict names an old version, {known} was acknowledged: {op['detail']}")
        if op.get("again") and op["iso"] == "rc":
            self.refused_repeat(op)

    def refused_repeat(self, op):
        """Repeating what is stored is no conflict."""
        stored = [self.stored[index] for event in op["ev"]
                  if (index := self.log.places.get(event[3])) is not None]
        if stored and all(s is not None and s[1] < op["inv"] for s in stored):
            self.rule3.bad(f"a repeated call was refused: {op['ev'][0][3]} {op['detail']}")

    def wins_once(self):
        for (stream, expected), wins in self.wins.items():
            if wins > 1:
                self.rule3.bad(f"{wins} appends to {stream} with expected version {expected} succeeded")

    def version_lock(self, transaction, place):
        """A verified stream stands still until the verifying transaction ends."""
        stream, expected, returned = transaction[place]["check"]
        if expected >= 0 and returned != expected or expected == EXISTS and returned < 1:
            self.rule3.bad(f"es_check_version of {stream} expected {expected}, returned {returned}")
        own, positions = False, []
        for op in transaction:
            own = own or any(event[0] == stream for event in op["ev"])
        for op in transaction[place + 1:]:
            if op["out"] == "ok":
                positions += [row[2] for row in op["res"] or () if not row[3]]
        if own or not positions or any(p not in self.log.at for p in positions):
            return
        before = self.versions.get((stream, returned))
        after = self.versions.get((stream, returned + 1))
        if (before is not None and self.log.position[before] > min(positions)
                or after is not None and self.log.position[after] < max(positions)):
            self.rule3.bad(f"{stream} moved from version {returned} while it was locked")

    # ---- time ----

    def order_in_time(self):
        log = self.log
        self.ordered = 0
        for stream, indexes in log.streams.items():
            latest = 0
            for index in indexes:
                stored = self.stored[index]
                if stored is None:
                    continue
                if stored[1] < latest:
                    self.rule4.bad(f"{log.token[index]} was acknowledged before an event below it"
                                   f" in {stream} was sent")
                latest = max(latest, stored[0])
                self.ordered += 1

    def reads_after_acknowledgement(self):
        self.rereads, self.held, self.looks = {"stream": 0, "position": 0, "id": 0}, 0, 0
        for line in self.history.lines("writer"):
            if line["k"] == "reread" and line["how"] == "held":
                self.held += 1
            elif line["k"] == "reread":
                self.rereads[line["how"]] += 1
                if line["got"] != line["want"]:
                    self.rule4.bad(f"version {line['version']} of {line['stream']} was acknowledged,"
                                   f" but reading ({line['how']}) gave {line['got'][:3]},"
                                   f" not {line['want'][:3]}")
            elif line["k"] == "version":
                self.looks += 1
                stream, version = line["stream"], line["version"]
                if version < self.acknowledged_before(stream, line["inv"]):
                    self.rule4.bad(f"{stream} was at {version}, but more was acknowledged before")
                if not self.existed(stream, version, line["ret"]):
                    self.rule4.bad(f"{stream} was at {version}, which nobody had written")

    # ---- the rest ----

    def refusals(self):
        self.refused = 0
        for line in self.history.lines():
            if line["k"] == "refused":
                self.refused += 1
                allowed = RETRY_CODES + (("22012",) if line["c"].startswith("writer") else ())
                if line["code"] not in allowed:
                    self.errors.bad(f"{line['c']}: {line['message']}")

    def summarize(self):
        count, log = self.count, self.log
        own = sum(1 for index in range(len(log)) if log.is_own(index))
        self.own = own
        refused = count["rolled_back"] + count["conflict"] + count["error"]
        self.rule1.facts = (
            f"{own:,} events of {count['ok']:,} acknowledged operations; {count['duplicates']:,}"
            f" repeated and found; {refused:,} undone or refused, none in the log;"
            f" {count['unknown']:,} unknown, {count['found']:,} of them found")
        if count["lost"]:
            self.rule1.facts += f"; {count['lost']:,} acknowledged asynchronously and lost in a crash"
        self.rule2.facts = (f"{len(log):,} positions, {len(log.streams):,} streams,"
                            f" {count['batches']:,} batches, {count['tables']:,} INSERTs, {count['transactions']:,} transactions,"
                            f" {count['after_savepoint']:,} appends after ROLLBACK TO")
        contested = sum(1 for clients in self.attempts.values() if len(clients) > 1)
        self.rule3.facts = (f"{len(self.attempts):,} expectations, {contested:,} of several writers,"
                            f" {len(self.wins):,} won, {count['conflict']:,} conflicts,"
                            f" {len(self.locks):,} streams verified")
        self.rule4.facts = (f"{self.ordered:,} events in order; read after acknowledgement:"
                            f" {self.rereads['stream']:,} by stream, {self.rereads['position']:,}"
                            f" by position, {self.rereads['id']:,} by id and repeated,"
                            f" {self.held:,} still held back; {self.looks:,} versions")
        self.errors.facts = (f"{count['serialization']:,} serialization failures,"
                             f" {count['deadlock']:,} deadlocks, {count['failed_calls']:,} bad calls,"
                             f" {count['id_misused']:,} ids used twice")

        self.rule1.require(own, "events")
        self.rule1.require(count["duplicates"], "calls repeated with their ids")
        self.rule1.require(count["rolled_back"], "rollbacks")
        self.rule2.require(count["batches"], "batches")
        self.rule2.require(count["savepoints"], "ROLLBACK TO")
        self.rule2.require(count["after_savepoint"], "appends after ROLLBACK TO")
        self.rule3.require(count["conflict"], "conflicts")
        if self.history.config.writers > 1:
            self.rule3.require(contested, "expected versions of several writers")
        self.rule4.require(self.rereads["stream"], "reads after acknowledgement")
        if not self.history.config.control:
            self.rule2.require(count["tables"], "INSERTs into the table to write to")
            self.rule4.require(self.rereads["id"], "reads by id")
        self.errors.require(count["failed_calls"], "calls that fail")
        self.errors.require(count["snapshot_transactions"], "REPEATABLE READ writers")
