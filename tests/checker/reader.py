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

Each but the transactional one reads in every style: a page a statement, with max_count,
LIMIT or a condition on top, or by an SQL cursor, which goes back now and then and on
again.
"""

import random
import time

from session import Journal, Lost, Refused, Session, now
from workload import COMMON_TYPES, main_categories

# How a page is cut out of the log.
FORMS = ("max_count", "limit", "condition")

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
        style = rng.choices(("poll", "wait", "snapshot", "cursor"), (3, 3, 2, 3))[0]
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
            if style == "cursor":
                got = self.cursor(head, until)
            else:
                got = self.page(count, head, wait)
            if not got and style != "wait":
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

    def query(self, form, count, wait=None):
        """A read from the checkpoint on, of count events or, with None, all; and its arguments."""
        after = self.checkpoint
        types, conditions, values, limit = self.types, [], [], ""
        if form == "condition" and not self.config.control:
            conditions, values, after = ["position > %s"], [after], 0
            if types is not None:
                conditions.append("type = ANY (%s::text[])")
                values, types = values + [types], None
        if form != "max_count" and count is not None:
            limit, count = f" LIMIT {count}", None
        wait = wait and f"{wait} s"
        if self.role == "category":
            call, args = "es_read_category(%s, %s, %s, wait => %s)", (self.categories[0], after, count, wait)
        else:
            call = ("es_read_all(%s, %s, types => %s::text[],"
                    " categories => %s::text[], wait => %s)")
            args = (after, count, types, self.categories, wait)
        where = " WHERE " + " AND ".join(conditions) if conditions else ""
        return f"SELECT {DELIVERED} FROM {call}{where}{limit}", (*args, *values)

    def page(self, count, head, wait):
        form = self.rng.choice(FORMS)
        if wait and form == "condition":
            form = "limit"          # what the condition leaves out would end the wait
        invoked = now()
        rows = self.session.run(*self.query(form, count, wait))
        self.take(form, invoked, rows, count, head)
        return len(rows)

    def take(self, form, invoked, rows, count, head, bound=None):
        """What a page brought; "head" was read before it, and "bound" when it had begun."""
        if rows:
            self.checkpoint = rows[-1][0]
        if head is not None and len(rows) < count:
            self.checkpoint = max(self.checkpoint, head)
        self.journal.write(k="page", inv=invoked, ret=now(), n=count, ev=rows, cp=self.checkpoint,
                           form=form, bound=bound)

    def cursor(self, head, until):
        """One cursor, in pages, to its end or until it is left; how many events it gave."""
        rng, run = self.rng, self.session.run
        level = ("REPEATABLE READ" if rng.random() < 0.3 and not self.config.control
                 else "READ COMMITTED")
        sql, args = self.query(rng.choice(("max_count", "condition")), None)
        run("BEGIN ISOLATION LEVEL " + level)
        run("DECLARE page SCROLL CURSOR FOR " + sql, args)
        self.journal.write(k="cursor")
        shown, bound = 0, None
        while True:
            count = rng.choice((1, 3, 20, 100, 500, 2000))
            invoked = now()
            rows = run(f"FETCH {count} FROM page")
            if bound is None:
                bound = self.session.head()     # not below the one that the cursor took
            shown += len(rows)
            self.take("cursor", invoked, rows, count, head, bound)
            past = len(rows) < count
            if rng.random() < 0.3:
                self.go_back(shown, past, rng.choice((1, 4, 60, 700)))
            if past or now() > until or rng.random() < 0.05:
                break
        run("COMMIT")
        return shown

    def go_back(self, shown, past, count):
        """Back in the cursor, and on again to where it was."""
        back = self.session.run(f"FETCH BACKWARD {count} FROM page")
        onward = min(count, shown + past)
        forth = self.session.run(f"FETCH {onward} FROM page")
        self.journal.write(k="again", past=past, n=count, back=back, forth=forth)

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
        asked, limit = (count, "") if rng.random() < 0.5 else (None, f" LIMIT {count}")
        rows = run(f"INSERT INTO {schema}.delivered (reader, position, stream, version, token)"
                   f" SELECT %s, {DELIVERED} FROM es_read_all(%s, %s){limit} RETURNING position",
                   (self.client, after, asked))
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
