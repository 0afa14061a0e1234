#!/usr/bin/python3
"""Can the checker fail? A test of the checker, without the extension.

    selftest.py --dsn "host=/socket/dir dbname=x user=y" [--seconds 5]

1 The two stores that lose events are found out by rule 5; the right one passes.
2 The history of the right one is tampered with, one fact at a time; each time the
  rule that is there for it must notice.

Exit status: 0 the checker can be trusted, 1 it cannot.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile

from checker import judge

HERE = os.path.dirname(os.path.abspath(__file__))


class Tampered:
    """A copy of a history, read and written as lists of lines."""

    def __init__(self, source, directory):
        shutil.copytree(source, directory)
        self.directory = directory
        self.rng = random.Random(1)

    def load(self, name):
        with open(os.path.join(self.directory, name), encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    def store(self, name, lines):
        with open(os.path.join(self.directory, name), "w", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)

    def files(self, prefix):
        return sorted(name for name in os.listdir(self.directory)
                      if name.startswith(prefix) and name.endswith(".jsonl"))

    def change_one(self, prefix, wanted, change):
        """Changes one line, somewhere in the middle, of those wanted."""
        found = [(name, number) for name in self.files(prefix)
                 for number, line in enumerate(self.load(name)) if wanted(line)]
        name, number = found[len(found) // 2]
        lines = self.load(name)
        change(lines[number])
        self.store(name, lines)

    def stored_alone(self):
        """A line of the log whose event came by a call of its own, and its place."""
        tokens = {line["ev"][0][3] for name in self.files("writer") for line in self.load(name)
                  if line["k"] == "op" and line["op"] == "append" and line["out"] == "ok"
                  and not line["res"][0][3] and "raced" not in line}
        log = self.load("final.log")
        places = [place for place, row in enumerate(log) if row[5] in tokens]
        return log, places[len(places) // 2]


def is_op(outcome, kind="append", expecting=False):
    return lambda line: (line["k"] == "op" and line["out"] == outcome and line["op"] == kind
                         and "raced" not in line and "again" not in line
                         and (not expecting or (line["ev"][0][2] or 0) > 0)
                         and (outcome != "ok" or not line["res"][0][3]))


def event_gone(history):
    log, place = history.stored_alone()
    history.store("final.log", log[:place] + log[place + 1:])


def event_twice(history):
    log, place = history.stored_alone()
    again = [log[-1][0] + 1, "elsewhere-1", 1] + log[place][3:]
    history.store("final.log", log + [again])


def undone_event_kept(history):
    history.change_one("writer", is_op("ok"), lambda op: op.update(out="rolled_back"))


def other_type(history):
    log, place = history.stored_alone()
    log[place][3] = "Strange"
    history.store("final.log", log)


def versions_swapped(history):
    log = history.load("final.log")
    hot = [row for row in log if row[1].startswith("hot")]
    hot = [row for row in hot if row[1] == hot[0][1]]
    a, b = hot[len(hot) // 2:len(hot) // 2 + 2]
    a[2], b[2] = b[2], a[2]
    history.store("final.log", log)


def call_in_part(history):
    batches = [line for name in history.files("writer") for line in history.load(name)
               if is_op("ok", "batch")(line) and len(line["ev"]) > 2]
    token = batches[len(batches) // 2]["ev"][1][3]
    history.store("final.log", [row for row in history.load("final.log") if row[5] != token])


def wrong_winner(history):
    def change(op):
        op["ev"][0][2] += 1
    history.change_one("writer", is_op("ok", expecting=True), change)


def groundless_conflict(history):
    def change(op):
        head, _ = op["detail"].rsplit(" ", 1)
        op["detail"] = f"{head} {op['ev'][0][2]}"
    history.change_one("writer", is_op("conflict", expecting=True), change)


def conflict_with_the_future(history):
    def change(op):
        head, _ = op["detail"].rsplit(" ", 1)
        op["detail"] = f"{head} 999999"
    history.change_one("writer", is_op("conflict", expecting=True), change)


def stale_conflict(history):
    def change(op):
        op["inv"] = op["ret"] = op["end"] = 1 << 60

    def wanted(line):
        return is_op("conflict", expecting=True)(line) and line["ev"][0][0].startswith("hot")
    history.change_one("writer", wanted, change)


def sent_too_late(history):
    """An event that was sent after a later one of its stream was acknowledged."""
    log = history.load("final.log")
    early = next(row[5] for row in log if row[1].startswith("hot") and row[2] == 3)

    def wanted(line):
        return (line["k"] == "op" and any(event[3] == early for event in line["ev"])
                and line["out"] == "ok" and not line["res"][0][3])
    history.change_one("writer", wanted, lambda op: op.update(inv=1 << 60, end=1 << 61))


def own_append_unseen(history):
    history.change_one("writer", lambda line: line["k"] == "reread" and line["how"] == "stream",
                       lambda line: line.update(got=line["got"][:-1]))


def old_version_seen(history):
    history.change_one("writer", lambda line: line["k"] == "version" and line["version"] > 3,
                       lambda line: line.update(version=1, inv=1 << 60, ret=1 << 60))


def delivery_missing(history):
    history.change_one("reader", lambda line: line["k"] == "page" and len(line["ev"]) > 2,
                       lambda line: line["ev"].pop(1))


def delivery_twice(history):
    history.change_one("reader", lambda line: line["k"] == "page" and len(line["ev"]) > 2,
                       lambda line: line["ev"].insert(1, line["ev"][1]))


def deliveries_swapped(history):
    history.change_one("reader", lambda line: line["k"] == "page" and len(line["ev"]) > 2,
                       lambda line: line["ev"].reverse())


def checkpoint_too_far(history):
    log = history.load("final.log")
    middle = log[len(log) // 2][0]
    history.change_one("reader", lambda line: line["k"] == "page" and 0 < line["cp"] < middle,
                       lambda line: line.update(cp=log[-1][0]))


def beyond_the_head(history):
    history.change_one("reader", lambda line: line["k"] == "page" and line["bound"] and line["ev"],
                       lambda line: line.update(bound=line["ev"][-1][0] - 1))


def not_the_same_back(history):
    history.change_one("reader", lambda line: line["k"] == "again" and len(line["back"]) > 1,
                       lambda line: line["back"].pop(0))


def not_the_same_forth(history):
    history.change_one("reader", lambda line: line["k"] == "again" and len(line["forth"]) > 1,
                       lambda line: line["forth"].append(line["forth"][-1]))


def committed_delivery_missing(history):
    rows = history.load("delivered.log")
    del rows[len(rows) // 2]
    history.store("delivered.log", rows)


def committed_delivery_twice(history):
    rows = history.load("delivered.log")
    history.store("delivered.log", rows + rows[-1:])


def delivered_then_gone(history):
    def change(line):
        line["ev"][0][3] += "x"
    history.change_one("reader", lambda line: line["k"] == "page" and line["ev"], change)


def head_falls(history):
    history.change_one("disturber", lambda line: line["k"] == "head" and line["head"] > 500,
                       lambda line: line.update(head=line["head"] - 400, inv=1 << 60))


def position_twice(history):
    taken = history.load("final.log")[20][0]

    def change(op):
        op["res"][-1][2] = taken
    history.change_one("writer", lambda line: is_op("rolled_back")(line) and line["res"], change)


def strange_error(history):
    history.change_one("writer", is_op("error"), lambda op: op.update(code="XX000"))


TAMPERING = {
    "rule 1": (event_gone, event_twice, undone_event_kept, other_type),
    "rule 2": (versions_swapped, call_in_part),
    "rule 3": (wrong_winner, groundless_conflict, conflict_with_the_future, stale_conflict),
    "rule 4": (sent_too_late, own_append_unseen, old_version_seen),
    "rule 5": (delivery_missing, delivery_twice, deliveries_swapped, checkpoint_too_far, beyond_the_head,
               committed_delivery_missing, committed_delivery_twice),
    "rule 6": (delivered_then_gone, head_falls, position_twice, not_the_same_back, not_the_same_forth),
    "errors": (strange_error,),
}


def failed_rules(verdicts):
    return [verdict.name.split(",")[0] for verdict in verdicts if verdict.problems]


def run_control(args, kind, keep):
    """A run of the checker, and the directory with its history."""
    where = os.path.join(keep, kind)
    done = subprocess.run(
        [sys.executable, os.path.join(HERE, "checker.py"), "--dsn", args.dsn, "--control", kind,
         "--seconds", str(args.seconds), "--seed", str(args.seed), "--keep", where],
        stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode == 2:
        sys.exit(f"{kind}: could not run")
    return done, os.path.join(where, os.listdir(where)[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--dsn", required=True)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    good = True

    def say(what, right):
        nonlocal good
        good = good and right
        print(f"{'ok' if right else 'NOT OK'}: {what}", flush=True)

    with tempfile.TemporaryDirectory(prefix="selftest.") as keep:
        for kind in ("bigserial", "xmin"):
            done, _ = run_control(args, kind, keep)
            lost = [line for line in done.stdout.splitlines() if line.startswith("rule 5")]
            found = done.returncode == 1 and any("lost to reader" in line
                                                 for line in done.stdout.splitlines())
            say(f"{kind} is found to lose events: {lost}", found)
        done, source = run_control(args, "serial", keep)
        say("serial passes", done.returncode == 0)
        if done.returncode != 0:
            print(done.stdout)
        for rule, changes in TAMPERING.items():
            for change in changes:
                directory = os.path.join(keep, change.__name__)
                change(Tampered(source, directory))
                failed = failed_rules(judge(directory))
                say(f"{change.__name__}: {', '.join(failed) or 'nothing'} noticed it", rule in failed)
                shutil.rmtree(directory)
    print("PASS" if good else "FAIL")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
