"""The readers: consumers that tail the log and restart at random.

Each writes down what was delivered to it, page by page, with the checkpoint it
then had. Roles:

  plain          es_read_all; polling, waiting, or inside one long REPEATABLE
                 READ transaction; by the last position alone, or also by heads
  transactional  its deliveries and its checkpoint are rows in the database,
                 committed together: exactly once
  filter         es_read_all by types, categories, or both; keeps the head that
                 it read before a page that came back short
  category       es_read_category, likewise
"""

import random
import time

from session import Journal, Lost, Refused, Session, now
from workload import COMMON_TYPES, main_categories

ROLES = ("plain", "transactional", "filter", "category")

DELIVERED = "position, stream, version, data ->> 'token'"


def role_of(number):
    return ROLES[number % len(ROLES)]


class Reader:
    def __init__(self, config, number, announce, target):
        self.config = config
        self.client = f"reader{number}"
        self.role = role_of(number)
        self.shared_target = target         # 0, or the head to come to at the end
        self.rng = random.Random(f"{config.seed}/{self.client}")
        self.journal = Journal(config, self.client)
        self.session = Session(config, self.client, self.journal, announce)
        self.types, self.categories = self.draw_filter()
        self.checkpoint = config.base       # what it has in memory
        self.saved = config.base            # what a restart finds
        self.give_up = None
        self.journal.write(k="reader", r=self.client, role=self.role,
                           types=self.types, categories=self.categories)

    def draw_filter(self):
        rng, mains = self.rng, main_categories(self.config.run)
        if self.role == "category":
            return None, [rng.choice(mains)]
        if self.role != "filter":
            return None, None
        types = rng.sample(COMMON_TYPES, 2) + [f"Rare{self.config.run}.{rng.randrange(40)}"]
        categories = rng.sample(mains, 2) + [f"solo{self.config.run}"]
        return rng.choice(((types, None), (None, categories), (types, categories)))

    def main(self):
        self.session.connect()
        while not self.drained():
            self.session.die_with_parent()
            try:
                if self.role == "transactional":
                    self.commit_page()
                else:
                    self.life()
            except Lost:
                self.session.connect()
            except Refused as refusal:
                self.journal.write(k="refused", c=self.client, code=refusal.code,
                                   message=str(refusal))
                time.sleep(0.1)     # a transaction block may be open
                self.session.connect()
        self.journal.write(k="end", cp=self.checkpoint, target=self.target)
        self.session.close()
        self.journal.close()

    @property
    def target(self):
        return self.shared_target.value

    def drained(self):
        """Has it come to the end of the log, or tried for long enough?"""
        if not self.target:
            return False
        self.give_up = self.give_up or now() + int((self.config.patience + 20) * 1e6)
        return self.checkpoint >= self.target or now() > self.give_up

    # ---- outside the database: at least once ----

    def life(self):
        """From one start to the next: reads on from the saved checkpoint."""
        rng = self.rng
        style = rng.choices(("poll", "wait", "snapshot"), (4, 4, 2))[0]
        if self.config.control and style == "snapshot":
            style = "poll"          # what is made of SQL sees no newer snapshot
        remember_heads = self.role != "plain" or rng.random() < 0.5
        self.checkpoint = self.saved
        until = now() + int(rng.uniform(0.3, 2.5) * 1e6)
        snapshot = None
        if style == "snapshot":
            self.session.run("BEGIN ISOLATION LEVEL REPEATABLE READ")
            snapshot = self.session.head()
        self.journal.write(k="start", after=self.checkpoint, style=style, snapshot=snapshot)
        while not self.drained():
            count = rng.choice((1, 3, 20, 100, 500, 2000))
            head = self.session.head() if remember_heads else None
            wait = rng.choice((0.05, 0.2, 1)) if style == "wait" and not self.target else None
            if not self.page(count, head, wait) and style != "wait":
                time.sleep(rng.choice((0, 0.001, 0.01, 0.05)))
            if rng.random() < 0.5:
                self.saved = self.checkpoint
            if self.target:
                remember_heads = True       # a gap may stand at the end of the log
            if now() > until or not self.target and rng.random() < 0.03:
                break
        if style == "snapshot":
            self.session.run("COMMIT")
        elif rng.random() < 0.3:
            self.session.connect()

    def page(self, count, head, wait):
        after = self.checkpoint
        invoked = now()
        if self.role == "category":
            rows = self.session.run(
                f"SELECT {DELIVERED} FROM es_read_category(%s, %s, %s, wait => %s)",
                (self.categories[0], after, count, wait and f"{wait} s"))
        else:
            rows = self.session.run(
                f"SELECT {DELIVERED} FROM es_read_all(%s, %s, types => %s::text[],"
                " categories => %s::text[], wait => %s)",
                (after, count, self.types, self.categories, wait and f"{wait} s"))
        if rows:
            self.checkpoint = rows[-1][0]
        if head is not None and len(rows) < count:
            self.checkpoint = max(self.checkpoint, head)
        self.journal.write(k="page", inv=invoked, ret=now(), n=count, ev=rows, cp=self.checkpoint)
        return len(rows)

    # ---- in the database: exactly once ----

    def commit_page(self):
        rng, run, schema = self.rng, self.session.run, self.config.schema
        count = rng.choice((1, 20, 100, 500, 2000))
        head = self.session.head() if self.target or rng.random() < 0.5 else None
        level = ("REPEATABLE READ" if rng.random() < 0.2 and not self.config.control
                 else "READ COMMITTED")
        run("BEGIN ISOLATION LEVEL " + level)
        after = run(f"SELECT position FROM {schema}.checkpoint WHERE reader = %s FOR UPDATE",
                    (self.client,))[0][0]
        invoked = now()
        rows = run(f"INSERT INTO {schema}.delivered (reader, position, stream, version, token)"
                   f" SELECT %s, {DELIVERED} FROM es_read_all(%s, %s) RETURNING position",
                   (self.client, after, count))
        checkpoint = max([after] + [row[0] for row in rows])
        if head is not None and len(rows) < count:
            checkpoint = max(checkpoint, head)
        run(f"UPDATE {schema}.checkpoint SET position = %s WHERE reader = %s",
            (checkpoint, self.client))
        fate = rng.random()
        if fate < 0.05:                     # dies before it commits
            self.journal.write(k="undone", n=len(rows))
            self.session.close()
            raise Lost("left")
        if fate < 0.15:
            run("ROLLBACK")
            self.journal.write(k="undone", n=len(rows))
            return
        run("COMMIT")
        self.checkpoint = checkpoint
        if rows:
            self.journal.write(k="read", inv=invoked, ret=now(), head=rows[-1][0])
        elif not self.target:
            time.sleep(rng.choice((0, 0.001, 0.01, 0.05)))


def main(config, number, announce, target):
    Reader(config, number, announce, target).main()
