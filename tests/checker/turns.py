"""Who is at work: everybody, or for a moment only those that ask for everything.

An append on condition that nothing at all was added is refused as long as others append,
so by chance it would hardly ever be accepted. Now and then, therefore, ordinary
transactions end and none begins; the clients race each other with conditions that no tag
narrows, and each time one of them reads, decides and appends before the others do. The
turn is over when a condition of each kind has been accepted: by what happened, not after
a time, which on a busy machine is never the right one.
"""

from session import now, processes

EVERY = 1_000_000           # microseconds between two turns
KINDS = ("all", "types")


class Turns:
    def __init__(self, started):
        self.changed = processes.Condition()
        self.next = processes.Value("q", started + EVERY, lock=False)
        self.missing = processes.Value("i", 0, lock=False)    # a bit a kind; 0: no turn
        self.ordinary = processes.Value("i", 0, lock=False)   # transactions under way

    def enter(self, wait=1.0):
        """"wide" or "ordinary", what to do next; None: not yet, ask again."""
        with self.changed:
            if not self.missing.value and now() >= self.next.value:
                self.missing.value = (1 << len(KINDS)) - 1
            if not self.missing.value:
                self.ordinary.value += 1
                return "ordinary"
            if self.changed.wait_for(lambda: not self.missing.value or not self.ordinary.value, wait) and self.missing.value:
                return "wide"
            return None

    def leave(self, turn):
        if turn == "ordinary":
            with self.changed:
                self.ordinary.value -= 1
                self.changed.notify_all()

    def accepted(self, kind):
        """A condition of this kind was accepted while only such were at work."""
        with self.changed:
            if kind in KINDS and self.missing.value:
                self.missing.value &= ~(1 << KINDS.index(kind))
                if not self.missing.value:
                    self.next.value = now() + EVERY
                    self.changed.notify_all()
