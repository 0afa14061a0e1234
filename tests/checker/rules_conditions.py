"""The rules of conditions: the log, replayed by position, against the clients' journals.

What each verdict says stands in conditions.py.
"""

import bisect
import collections
import re

from history import Verdict

PLACES = 5                  # of a course
COURSES_EACH = 3            # of a student

LEVELS = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")
# What any client must be ready for. 40001: a stream that has changed, SERIALIZABLE.
EXPECTED = ("SE004", "SE001", "40P01", "40001")

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
