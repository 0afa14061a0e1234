"""The history of a run, a directory of files:

  <client>.jsonl    the journal of each client
  final.log         the log as it stands after the faults, an event a line
  delivered.log     what the transactional readers committed, a delivery a line
  run.json          the run, and how the log reads in other ways

So a history can be judged again later, and be tampered with by the self-test.
"""

import dataclasses
import glob
import itertools
import json
import os

from session import Config, Refused
from workload import category_of, main_categories

PAGE = 5000


class FinalLog:
    """The log as it stands after the faults, in the order in which it was read."""

    def __init__(self, run, base):
        self.run = run
        self.base = base
        self.position, self.stream, self.version = [], [], []
        self.type, self.id, self.token = [], [], []
        self.at = {}                # position -> index
        self.places = {}            # token -> index of its first appearance
        self.repeated = []          # indexes of further appearances
        self.streams = {}           # stream -> indexes

    def add(self, position, stream, version, kind, identity, token):
        index = len(self.position)
        self.position.append(position)
        self.stream.append(stream)
        self.version.append(version)
        self.type.append(kind)
        self.id.append(identity)
        self.token.append(token)
        self.at[position] = index
        self.streams.setdefault(stream, []).append(index)
        if self.is_own(index):
            if self.places.setdefault(token, index) != index:
                self.repeated.append(index)

    def __len__(self):
        return len(self.position)

    def is_own(self, index):
        token = self.token[index]
        return token is not None and token.startswith(self.run + ".")

    def seen_as(self, index):
        return self.position[index], self.stream[index], self.version[index], self.token[index]

    def select(self, types, categories):
        """Indexes of the events that a filter lets through."""
        return [index for index in range(len(self))
                if (types is None or self.type[index] in types)
                and (categories is None or category_of(self.stream[index]) in categories)]


def read_otherwise(session, log, control):
    """The log once more, by every other way. Returns what was compared, and
    what differs."""
    compared, differences = {}, []

    def compare(what, sql, args, want):
        compared[what] = compared.get(what, 0) + 1
        try:
            got = [row[0] for row in session.run(sql, args)]
        except Refused as refusal:
            differences.append(f"{what} {args}: {refusal}")
            return
        if got != want:
            differences.append(f"{what} {args}: {len(got)} events, {len(want)} in the log")

    everything = len(log) + 1
    total = log.position[::-1]
    compare("backwards", "SELECT position FROM es_read_all(NULL, %s, backwards => true)",
            (len(log) or 1,), total)

    own = [stream for stream in log.streams if log.is_own(log.streams[stream][0])]
    for stream in own[:50] + own[-50:]:
        compare("stream", "SELECT position FROM es_read_stream(%s)", (stream,),
                [log.position[index] for index in log.streams[stream]])

    by_category, by_type = {}, {}
    for index in range(len(log)):
        by_category.setdefault(category_of(log.stream[index]), []).append(log.position[index])
        by_type.setdefault(log.type[index], []).append(log.position[index])
    names = sorted(name for name in by_category if log.run in name)
    for name in [""] + main_categories(log.run) + names[:20] + names[-20:]:
        compare("category", "SELECT position FROM es_read_category(%s, %s, %s)",
                (name, log.base, everything), by_category.get(name, []))
    for name in sorted(by_type)[:40]:
        compare("type", "SELECT position FROM es_read_all(%s, %s, types => %s)",
                (log.base, everything, [name]), by_type[name])

    if not control:
        compared["position ahead of the log"] = 1
        try:
            session.run("SELECT * FROM es_read_all(%s)", (2 ** 62,))
            differences.append("a position ahead of the log was not refused with SE006")
        except Refused as refusal:
            if refusal.code != "SE006":
                differences.append(f"a position ahead of the log: {refusal}")
    return compared, differences


def read_log(config, session, log):
    after = config.base
    while True:
        rows = session.run("SELECT position, stream, version, type, event_id::text, data ->> 'token'"
                           " FROM es_read_all(%s, %s)", (after, PAGE))
        for row in rows:
            log.add(*row)
        if len(rows) < PAGE:
            return
        after = rows[-1][0]


def record(config, session):
    """Reads everything there is to read after the run, into files."""
    log, unreadable = FinalLog(config.run, config.base), None
    try:
        read_log(config, session, log)
    except Refused as refusal:
        unreadable = str(refusal)
    compared, differences = read_otherwise(session, log, config.control)
    delivered = session.run("SELECT reader, position, stream, version, token"
                            f" FROM {config.schema}.delivered ORDER BY number")
    write_lines(config, "final.log", zip(log.position, log.stream, log.version,
                                         log.type, log.id, log.token))
    write_lines(config, "delivered.log", delivered)
    with open(os.path.join(config.log_dir, "run.json"), "w", encoding="utf-8") as file:
        json.dump({"config": dataclasses.asdict(config), "compared": compared,
                   "differences": differences, "unreadable": unreadable}, file)


def write_lines(config, name, rows):
    with open(os.path.join(config.log_dir, name), "w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row) + "\n")


class History:
    def __init__(self, directory):
        with open(os.path.join(directory, "run.json"), encoding="utf-8") as file:
            recorded = json.load(file)
        self.directory = directory
        self.config = Config(**recorded["config"])
        self.compared = recorded["compared"]
        self.differences = recorded["differences"]
        self.unreadable = recorded["unreadable"]
        self.log = FinalLog(self.config.run, self.config.base)
        for row in self.rows("final.log"):
            self.log.add(*row)
        self.files = sorted(glob.glob(os.path.join(directory, "*.jsonl")))
        self.lives = sorted({line["inc"] for line in self.lines() if line["k"] == "connect"})

    def rows(self, name):
        with open(os.path.join(self.directory, name), encoding="utf-8") as file:
            for line in file:
                yield json.loads(line)

    def lines(self, prefix=""):
        for path in self.files:
            if os.path.basename(path).startswith(prefix):
                yield from self.rows(os.path.basename(path))

    def readers(self):
        """The lines of each reader."""
        for path in self.files:
            name = os.path.basename(path)
            if name.startswith("reader"):
                yield name.removesuffix(".jsonl"), self.rows(name)

    def transactions(self):
        """The operations of each transaction, in the order in which they were sent."""
        operations = (line for line in self.lines("writer") if line["k"] == "op")
        for _, group in itertools.groupby(operations, lambda op: (op["c"], op["tx"])):
            yield list(group)

    def may_be_lost(self, operation):
        """A server that crashes may forget what it acknowledged with
        synchronous_commit = off, and nothing else."""
        return operation["async_"] and operation["inc"] < self.lives[-1]


class Verdict:
    """A rule: what was looked at, and what contradicts it."""

    SHOWN = 5

    def __init__(self, name):
        self.name = name
        self.facts = ""
        self.problems = 0
        self.examples = []

    def bad(self, text):
        self.problems += 1
        if len(self.examples) < self.SHOWN:
            self.examples.append(text)

    def require(self, count, what):
        """Nothing looked at is no success."""
        if not count:
            self.bad(f"not exercised: {what}")

    def print(self):
        print(f"{self.name}: {'ok' if not self.problems else 'FAILED'}: {self.facts}"
              + (f"; {self.problems:,} problems" if self.problems else ""))
        for example in self.examples:
            print(f"    {example}")
        if self.problems > len(self.examples):
            print(f"    and {self.problems - len(self.examples):,} more")
