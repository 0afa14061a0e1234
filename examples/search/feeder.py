"""The feeder: brings the products of the log into an index of a search engine.

An event says that a product has changed. What it looks like now the feeder folds from the
product's stream, and writes with the version of the last event folded. So

1. a document is a function of its stream and its version, never of what the index holds;
2. what comes twice is written twice, and changes nothing: the engine keeps the later version;
3. an event that comes again after the product was deleted finds a stream that ends with
   ProductDeleted, and brings nothing back;
4. an event is acked when the engine has its document, or a later one. Whoever dies before that
   leaves a lease, and when it has expired the events go to another feeder.

The engine is away: the feeder keeps its events, renews the lease and tries again, after 0.1, 0.2,
0.4 … seconds. That is not the events' fault, so it does not nack them. What no try can help, a
product without a name, say, is parked.

Each index has a subscription of its own name. An index is built from nothing beside the one that
serves, by a feeder that runs the new code; when it has come as far as the log, the engine's alias
goes over to it, and the other's subscription is dropped: by that its feeders know that they are no
longer needed, and end.
"""

import signal
import sys
import time

from engine import FIELDS, NAME, Gone, Unavailable
from log import LeaseLost, Replaced, Unreachable

PRICES = range(-2 ** 63, 2 ** 63)


class BadProduct(Exception):
    """Events from which no product can be made."""


def say(text):
    print(text, file=sys.stderr, flush=True)


def number(index):
    return int(index.rpartition('_')[2])


def fold(events):
    """The product that the events make, in order, (version, type, data) each; None: there is none."""
    product = None
    for version, kind, data in events:
        if kind == 'ProductDeleted':
            product = None
        elif not isinstance(data, dict):
            raise BadProduct(f'version {version}: the data is not an object')
        elif kind == 'ProductCreated':
            product = {field: data.get(field) for field in FIELDS}
        elif product is not None:
            product |= {field: data[field] for field in FIELDS if data.get(field) is not None}
    if product is None:
        return None
    for field, wanted in FIELDS.items():
        if type(product[field]) is not wanted or wanted is int and product[field] not in PRICES:
            raise BadProduct(f'{field} is {product[field]!r:.100}')
    return product


class Feeder:
    """Feeds one engine from one log, until it is told to stop."""

    longest_delay = 5.0                 # seconds between two tries

    def __init__(self, log, engine, partitions=4, ack_timeout='30 s', batch=200):
        self.log, self.engine = log, engine
        self.partitions, self.ack_timeout, self.batch = partitions, ack_timeout, batch
        self.busy = self.stopping = False

    # ---- ending ----

    def stop(self, *_):
        """A signal's handler: at once, but what has been fetched is brought in and acked first."""
        first = not self.stopping
        self.stopping = True
        if first and not self.busy:
            sys.exit(0)

    def stop_on_signals(self):
        for number_of_signal in signal.SIGTERM, signal.SIGINT:
            signal.signal(number_of_signal, self.stop)

    # ---- feeding ----

    def feed(self, index, up_to=None):
        """For ever, or until everything up to a position is in the index."""
        longest = min(self.longest_delay, self.patiently(lambda: self.log.ack_timeout(index)) / 4)
        while True:
            def step():
                self.step(index, longest, None if up_to else '2 s')
                return up_to is not None and self.log.checkpoint(index) >= up_to
            if self.patiently(step):
                return

    def step(self, index, longest, wait):
        """The next events, if there are any. After Unreachable and LeaseLost they come again."""
        events = self.log.fetch(index, self.batch, wait)
        if not events:
            if wait is None:
                time.sleep(0.05)        # another feeder has the rest
            return
        self.busy = True
        try:
            self.deliver(index, longest, events)
        finally:
            self.busy = False
        if self.stopping:
            sys.exit(0)

    def deliver(self, index, longest, events):
        documents, refused = self.documents(events)
        delay = 0.1
        while True:
            try:
                refused |= self.engine.write(index, documents)
                break
            except Unavailable as error:
                say(f'{index}: the engine is unavailable, again in {delay:.1f} s: {error}')
            if self.stopping:
                sys.exit(0)             # they stay leased for a while, then they come again
            time.sleep(delay)
            delay = min(2 * delay, longest)
            self.log.ack(index, [])     # nothing done yet, but still here

        good = []
        bad = {}
        for position, stream, _ in events:
            if stream in refused:
                bad.setdefault(stream, []).append(position)
            else:
                good.append(position)
        for stream, positions in bad.items():
            say(f'{index}: {stream} is parked: {refused[stream]}')
            self.log.park(index, positions, refused[stream])
        self.log.ack(index, good)

    def documents(self, events):
        """What is to be written, and {stream: reason} of what cannot be."""
        # The stream may have been emptied since (es_delete_stream): then the event's own version will do.
        version = {}
        for _, stream, version_of_event in events:
            version[stream] = max(version_of_event, version.get(stream, 0))
        documents, refused = [], {}
        for stream, history in self.log.products(list(version)).items():
            try:
                fields = fold(history)
            except BadProduct as error:
                refused[stream] = str(error)
            else:
                last = history[-1][0] if history else 0
                documents.append((stream, max(last, version[stream]), fields))
        return documents, refused

    def patiently(self, action):
        """Do it; again if the engine or the database is away, with growing delays."""
        delay = 0.1
        while True:
            try:
                return action()
            except LeaseLost as error:
                say(f'the lease is lost: {error}')
                self.log.close()        # with it goes the consumer's name
            except (Unavailable, Unreachable) as error:
                say(f'again in {delay:.1f} s: {error}')
            time.sleep(delay)
            delay = min(2 * delay, self.longest_delay)

    # ---- indexes ----

    def follow(self):
        """Feed the index that serves; make the first one if there is none."""
        index = self.patiently(self.engine.serving)
        if index is None:
            return self.rebuild()
        say(f'feeding {index}')
        self.patiently(lambda: self.drop_subscriptions(index))      # whoever let it serve may have died just then
        return self.until_replaced(index)

    def rebuild(self, anew=False):
        """Build an index from the whole log beside the one that serves, let it serve, and go on feeding it."""
        index = self.patiently(lambda: self.next_index(anew))
        say(f'building {index}')
        # Twice: the second time there is little left.
        for _ in range(2):
            self.feed(index, self.patiently(self.log.head))
        self.patiently(lambda: self.engine.serve(index))
        say(f'{index} serves')
        self.patiently(lambda: self.drop_subscriptions(index))
        return self.until_replaced(index)

    def next_index(self, anew):
        """Make the next index, or go on with one that was begun; remove what is left of earlier ones.

        The one that serves stays, and so does the subscription of it, until the swap. When it no
        longer serves it stays till the next rebuild, for searches may still be reading it."""
        with self.log.alone():
            serving = self.engine.serving()
            current = number(serving) if serving else 0
            indexes, subscriptions = set(self.engine.indexes()), set(self.log.subscriptions())
            there = indexes | subscriptions
            # An index that the engine has lost was not begun, however far its subscription has come.
            begun = None if anew else max(
                (index for index in indexes & subscriptions if number(index) > current), key=number, default=None)
            index = begun or f'{NAME}_{1 + max(map(number, there), default=0)}'
            for other in there - {index, serving}:
                self.log.unsubscribe(other)
                self.engine.drop(other)
            self.engine.create(index)
            self.log.subscribe(index, self.partitions, self.ack_timeout)
            return index

    def drop_subscriptions(self, index):
        """Of the indexes before this one."""
        for other in self.log.subscriptions():
            if number(other) < number(index):
                self.log.unsubscribe(other)

    def until_replaced(self, index):
        try:
            self.feed(index)
        except Gone:
            sys.exit(f'{index} is not there any more: rebuild')
        except Replaced:
            serving = self.patiently(self.engine.serving)
            if serving == index:
                sys.exit(f'{index} serves, but has no subscription: rebuild')
            say(f'{index} has been replaced by {serving}')
