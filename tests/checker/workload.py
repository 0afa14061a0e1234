"""What writers write: streams, types, expected versions, batch sizes.

Drawn at random, from a seed; names carry the run, so that several runs can
share a database. The mix is chosen for trouble: a few hot streams that
everybody wants, streams that everybody tries to create at the same moment,
categories and types that are first used in a transaction that rolls back.
"""

import collections
import time
import uuid

COMMON_TYPES = ("Opened", "Changed", "Moved", "Paid", "Shipped", "Closed")
HOT_STREAMS = 3
COLD_STREAMS = 120
RARE_TYPES = 40
EXISTS = -4

Event = collections.namedtuple("Event", "stream type expected token id data")


def category_of(stream):
    """The category as API.md defines it."""
    try:
        if len(stream) == 36 and str(uuid.UUID(stream)) == stream.lower():
            return ""
    except ValueError:
        pass
    return stream.split("-", 1)[0]


def main_categories(run):
    """The categories that most events are in."""
    return [f"{name}{run}" for name in ("hot", "order", "cart", "user")]


class Workload:
    def __init__(self, config, client, rng):
        self.run = config.run
        self.client = client
        self.rng = rng
        self.tokens = 0
        self.own_types = collections.deque(maxlen=5)
        self.uuid_stream = str(uuid.uuid5(uuid.NAMESPACE_OID, config.run))

    def token(self):
        self.tokens += 1
        return f"{self.run}.{self.client}.{self.tokens}"

    def chance(self, probability):
        return self.rng.random() < probability

    def stream(self):
        rng, run = self.rng, self.run
        kind = rng.random()
        if kind < 0.40:
            return f"hot{run}-{rng.randrange(HOT_STREAMS)}"
        if kind < 0.85:
            category = rng.choice(main_categories(run)[1:])
            return f"{category}-{rng.randrange(COLD_STREAMS)}"
        if kind < 0.91:             # new five times a second, to all writers at once
            return f"fresh{run}-{int(time.monotonic() * 5)}"
        if kind < 0.95:             # a category of its own, shared or not
            return f"new{run}x{int(time.monotonic() * 20)}-{rng.randrange(2)}"
        if kind < 0.98:
            return f"solo{run}"     # no dash: the whole name is the category
        return self.uuid_stream     # a bare UUID: no category

    def cold_streams(self, count):
        category = self.rng.choice(main_categories(self.run)[1:])
        numbers = self.rng.sample(range(COLD_STREAMS), min(count, COLD_STREAMS))
        return [f"{category}-{number}" for number in numbers]

    def type(self):
        kind = self.rng.random()
        if kind < 0.95:
            return self.rng.choice(COMMON_TYPES)
        if kind < 0.98:             # new to somebody for a good while
            return f"Rare{self.run}.{self.rng.randrange(RARE_TYPES)}"
        if kind < 0.985 or not self.own_types:
            self.own_types.append(f"Own{self.run}.{self.client}.{self.tokens}")
        return self.rng.choice(self.own_types)

    def data(self, token):
        size = self.rng.choice((0, 0, 10, 80, 200))
        if self.chance(0.005):
            size = 20000
        return '{"token": "%s", "pad": "%s"}' % (token, "x" * size)

    def event(self, stream, expected=None, with_id=False, kind=None):
        token = self.token()
        identity = str(uuid.UUID(int=self.rng.getrandbits(128), version=4)) if with_id else None
        return Event(stream, kind or self.type(), expected, token, identity, self.data(token))

    def batch(self):
        """The events of a batch: several streams, some with several events."""
        rng = self.rng
        size = rng.choice((1, 2, 3, 5, 10, 20))
        if self.chance(0.06):
            size = rng.choice((100, 300))
        if self.chance(0.004):
            size = 1000
        streams = self.cold_streams(rng.randint(1, max(1, size * 2 // 3)))
        if self.chance(0.2):
            streams.append(self.stream())
        with_id = self.chance(0.5)
        return [self.event(rng.choice(streams), with_id=with_id) for _ in range(size)]

    def raced(self):
        """An event that other writers send in the same quarter of a second too."""
        number = int(time.monotonic() * 4)
        token = f"{self.run}.raced.{number}"
        return Event(f"hot{self.run}-{number % HOT_STREAMS}", "Raced", None, token,
                     str(uuid.uuid5(uuid.NAMESPACE_OID, token)), '{"token": "%s"}' % token)
