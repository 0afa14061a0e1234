"""Rules 5 and 6: what was delivered, and whether reads contradict each other."""

import bisect
import collections

from history import Verdict
from reader import FORMS


class Reads:
    def __init__(self, history, writes):
        self.history = history
        self.log = history.log
        self.writes = writes
        self.rule5 = Verdict("rule 5, readers get the log in order, nothing lost")
        self.rule6 = Verdict("rule 6, no read contradicts another")
        self.deliveries = self.lost = self.restarts = self.filtered = 0
        self.beyond_snapshot = self.snapshots = self.taken = self.again = 0
        self.forms = collections.Counter()
        self.gone = {}              # position -> token of events seen that a crash took

    def check(self):
        readers = 0
        for name, lines in self.history.readers():
            readers += 1
            before = self.deliveries
            header = next(lines)
            if header["role"] == "transactional":
                self.committed(name, lines)
            else:
                self.delivered(name, header, lines)
            if self.deliveries == before:
                self.rule5.bad(f"not exercised: nothing was delivered to {name} ({header['role']})")
        self.positions_of_writers()
        heads = self.heads()
        for difference in self.history.differences:
            self.rule6.bad(difference)

        self.rule5.facts = (f"{readers} readers, {self.deliveries:,} deliveries, {self.lost:,} lost;"
                            f" {self.filtered:,} with filters, {self.restarts:,} restarts,"
                            f" {self.beyond_snapshot:,} newer than the snapshot of"
                            f" {self.snapshots:,} long transactions;"
                            f" {self.forms['limit']:,} pages by LIMIT, {self.forms['condition']:,}"
                            f" by a condition, {self.forms['cursor']:,} of cursors")
        otherwise = ", ".join(f"{n} {what}" for what, n in self.history.compared.items())
        self.rule6.facts = (f"{heads:,} heads, {self.taken:,} positions handed out and not in the log,"
                            f" {self.again:,} events fetched again;"
                            f" read otherwise: {otherwise}")
        self.rule5.require(self.restarts, "restarts")
        self.rule6.require(heads, "heads")
        if not self.history.config.control:
            self.rule5.require(self.snapshots, "reads in a REPEATABLE READ transaction")
            for form in FORMS + ("cursor",):
                self.rule5.require(self.forms[form], f"reads by {form}")
            self.rule6.require(self.again, "going back in a cursor")
        return [self.rule5, self.rule6]

    # ---- rule 5 ----

    def see(self, name, position, stream, version, token):
        """An event that was delivered. False: a crash took it, as it may."""
        index = self.log.at.get(position)
        if index is not None and self.log.seen_as(index) == (position, stream, version, token):
            return True
        if index is not None:
            self.rule6.bad(f"position {position} was {token} to {name}, and is"
                           f" {self.log.token[index]} now")
        elif token not in self.writes.forgotten:
            self.rule5.bad(f"{token} at {position} was delivered to {name}, and is not in the log")
        self.remember(position, token)
        return False

    def remember(self, position, token):
        if self.gone.setdefault(position, token) != token:
            self.rule6.bad(f"position {position} was {token} and {self.gone[position]}")

    def miss(self, name, selected, first, beyond):
        """The events selected[first:beyond] were passed by."""
        log = self.log
        for place in range(first, beyond):
            index = selected[place]
            self.lost += 1
            self.rule5.bad(f"lost to {name}: {log.token[index]} at {log.position[index]}")

    def delivered(self, name, header, lines):
        log = self.log
        selected = log.select(header["types"], header["categories"])
        positions = [log.position[index] for index in selected]
        place, last, snapshot, ended = 0, 0, None, False
        shown = []                  # by the cursor
        for line in lines:
            if line["k"] == "start":
                self.restarts += 1
                last, snapshot = line["after"], line["snapshot"]
                self.snapshots += snapshot is not None
                place = bisect.bisect_right(positions, last)
            elif line["k"] == "cursor":
                shown = []
            elif line["k"] == "again":
                self.fetched_again(name, line, shown)
            elif line["k"] == "page":
                self.forms[line["form"]] += 1
                shown += line["ev"]
                for event in line["ev"]:
                    position = event[0]
                    self.deliveries += 1
                    if line["bound"] is not None and position > line["bound"]:
                        self.rule5.bad(f"{name} got {position} by a cursor that began when the head"
                                       f" was {line['bound']} at most")
                    self.filtered += header["role"] != "plain"
                    self.beyond_snapshot += snapshot is not None and position > snapshot
                    if position <= last:
                        self.rule5.bad(f"{name} got {position} after {last}")
                    last = max(last, position)
                    if not self.see(name, *event):
                        continue
                    here = bisect.bisect_left(positions, position)
                    if here == len(positions) or positions[here] != position:
                        self.rule5.bad(f"{name} got {event[3]}, which its filter does not want")
                        continue
                    self.miss(name, selected, place, here)
                    place = max(place, here + 1)
                if len(line["ev"]) > line["n"]:
                    self.rule5.bad(f"{name} asked for {line['n']} events and got {len(line['ev'])}")
                come = bisect.bisect_right(positions, line["cp"])
                self.miss(name, selected, place, come)
                place = max(place, come)
            elif line["k"] == "end":
                ended = line["cp"] >= line["target"]
                self.miss(name, selected, place, len(selected))
        if not ended:
            self.rule5.bad(f"{name} did not come to the head")

    def fetched_again(self, name, line, shown):
        """A cursor that went back so many rows, and on to where it was, shows the same."""
        place = len(shown) + line["past"]       # 1: on the first event; 0: before it
        there = max(place - line["n"], 0)
        self.again += len(line["back"]) + len(line["forth"])
        if line["back"] != shown[max(there, 1) - 1:place - 1][::-1]:
            self.rule6.bad(f"{name} went {line['n']} back in a cursor, after"
                           f" {shown[-1:]}, and got other events than before")
        if line["forth"] != shown[there:]:
            self.rule6.bad(f"{name} went on again in a cursor, after {shown[there - 1:there]},"
                           " and got other events than before")

    def committed(self, name, lines):
        """The reader whose deliveries are rows, committed with its checkpoint."""
        log, place, last, ended = self.log, 0, 0, False
        for line in lines:
            self.restarts += line["k"] == "undone"
            ended = ended or line["k"] == "end" and line["cp"] >= line["target"]
        selected = range(len(log))
        rows = (row[1:] for row in self.history.rows("delivered.log") if row[0] == name)
        for event in rows:
            self.deliveries += 1
            if event[0] <= last:
                self.rule5.bad(f"{name} committed {event[0]} after {last}")
            last = max(last, event[0])
            index = log.at.get(event[0])
            if index is None or not self.see(name, *event):
                self.rule5.bad(f"{name} committed {event[3]} at {event[0]}, not as it is in the log")
                continue
            self.miss(name, selected, place, index)
            place = max(place, index + 1)
        self.miss(name, selected, place, len(log))
        if not ended:
            self.rule5.bad(f"{name} did not come to the head")

    # ---- rule 6 ----

    def positions_of_writers(self):
        """No position is handed out twice, not even one that was rolled back."""
        log = self.log
        for transaction in self.history.transactions():
            for op in transaction:
                for stream, _, position, duplicate in op["res"] or ():
                    if duplicate:
                        continue
                    token = [event[3] for event in op["ev"] if event[0] == stream][-1]
                    index = log.at.get(position)
                    if index is None:
                        self.taken += 1
                        self.remember(position, token)
                    elif log.token[index] != token:
                        self.rule6.bad(f"position {position} was given to {token}, {op['out']},"
                                       f" and is {log.token[index]} now")

    def heads(self):
        """The head never falls, and nobody was ever beyond it."""
        asked, seen = [], []
        for line in self.history.lines():
            if line["k"] == "head":
                asked.append((line["inv"], line["head"]))
                seen.append((line["ret"], line["head"]))
            elif line["k"] == "page" and line["ev"]:
                seen.append((line["ret"], line["ev"][-1][0]))
            elif line["k"] == "read":
                seen.append((line["ret"], line["head"]))
        asked.sort()
        seen.sort()
        place = greatest = 0
        for invoked, head in asked:
            while place < len(seen) and seen[place][0] < invoked:
                greatest = max(greatest, seen[place][1])
                place += 1
            if head < greatest:
                self.rule6.bad(f"the head was {head} after {greatest} had been read")
        return len(asked)
