"""The statistics of the rounds, and the table.

A case is measured in rounds, and a round gives a figure of each side.  None stands for a turn that measured nothing: its
round is left out.  README.md says how a verdict is found.
"""

import functools
import math
import operator
import statistics

CONFIDENCE = 0.95
MARGIN = 0.8                                            # of the target: what the worse end of an interval must come up to

LEGEND = '''\
ratio: eventstore / yardstick, a plain table, or what a group says; 95 %: where it lies at that confidence (few rounds: least–greatest)
met: the 95 % interval reaches the target; short: it lies wholly on the wrong side; no verdict: too few rounds, or too wide, to say'''


def ratios(yardstick, eventstore):
    """The ratio of each round in which both sides measured something.

    A difference of times can come out as 0 or less.  Beside such a yardstick any cost is infinitely more; beside none there
    is nothing to compare.
    """
    both = [(y, e) for y, e in zip(yardstick, eventstore) if y is not None and e is not None and (y > 0 or e > 0)]
    return [e / y if y > 0 else math.inf for y, e in both]


def interval(values, share=0.5):
    """The confidence interval of the median, from the ranks alone; None if there are too few values.

    Each value is below the median with probability 1/2, so that the number of those below has a binomial distribution: the
    (k+1)th smallest is above the median with the probability that at most k are below, the (k+1)th greatest below it with
    that probability, too.  So for any other share of values below.
    """
    values, count = sorted(values), len(values)
    low = ranks_beyond(count, share)
    high = ranks_beyond(count, 1 - share)
    return (values[low], values[-1 - high]) if low >= 0 and high >= 0 else None


@functools.lru_cache
def ranks_beyond(count, share):
    """The greatest k such that, of count values, at most k are below with probability (1 - CONFIDENCE) / 2; -1: none is."""
    k, below = -1, 0.0
    while k + 1 < count:
        i = k + 1
        below += math.exp(math.lgamma(count + 1) - math.lgamma(i + 1) - math.lgamma(count - i + 1)
                          + i * math.log(share) + (count - i) * math.log1p(-share))
        if below > (1 - CONFIDENCE) / 2:
            break
        k = i
    return k


MEETS = {'≥': operator.ge, '≤': operator.le, '<': operator.lt}


def judge(values, target, counted=False, share=0.5):
    """The verdict on one value a round: 'met', 'short' or 'no verdict: …'.  target: (a key of MEETS, value).

    counted: the one value is no sample of a time, but was counted, and says it all.  share: of the values that shall meet
    the target; there is one a call then.
    """
    sign, value = target
    what = 'round' if share == 0.5 else 'call'
    bounds = (values[0], values[0]) if counted and values else interval(values, share)
    if not bounds:
        return none(values, what)
    better, worse = reversed(bounds) if sign == '≥' else bounds
    if not MEETS[sign](better, value):
        return 'short'
    tolerated = value * MARGIN if sign == '≥' else value / MARGIN
    return 'met' if counted or MEETS[sign](worse, tolerated) else none(values, what)


def none(values, what='round'):
    return f'no verdict: {len(values)} {what}{"" if len(values) == 1 else "s"}'


def percentile99(values):
    """That below which 99 % of the values are; None if there are none."""
    return sorted(values)[len(values) * 99 // 100] if values else None


def middle(values, share):
    """The median, or that below which another share of the values is."""
    return statistics.median(values) if share == 0.5 else sorted(values)[int(len(values) * share)]


def number(value):
    """As the table prints it."""
    if value is None:
        return '–'
    return '∞' if math.isinf(value) else f'{value:.2f}'


def spread(values, share=0.5):
    """The interval; of too few values, in parentheses, the smallest and the greatest."""
    bounds = interval(values, share)
    if bounds:
        return '–'.join(map(number, bounds))
    return f'({number(min(values))}–{number(max(values))})' if len(values) > 1 else ''


class Report:
    """The table, printed row by row as the cases end."""

    def __init__(self):
        self.group = None
        self.verdicts = []                              # (verdict, line for the end)

    def header(self, group, title):
        self.group = group
        print(f'\n{group}: {title}')
        self.line('', 'unit', 'yardstick', 'eventstore', 'ratio', '95 %', 'CPU', 'target')

    def line(self, what, unit, yardstick, eventstore, ratio, bounds, cpu, rest):
        print(f'  {what:55}{unit:>12}{yardstick:>12}{eventstore:>12}{ratio:>8}  {bounds:14}{cpu:>5}  {rest}'.rstrip(), flush=True)

    def row(self, what, unit, yardstick, eventstore, target=None, costs=(), counted=False):
        """A case; yardstick and eventstore hold a figure a round, costs the ratio of CPU times a round."""
        sides = [[value for value in side if value is not None] for side in (yardstick, eventstore)]
        large = any(sides) and statistics.median(sides[0] or sides[1]) >= 100
        medians = ['–' if not side else f'{statistics.median(side):{",.0f" if large else ",.2f"}}' for side in sides]
        values = ratios(yardstick, eventstore)
        ratio = f'{statistics.median(values):.3f}'.replace('inf', '∞') if values else '–'
        cpu = number(statistics.median(costs)) if costs else ''
        self.line(what, unit, *medians, ratio, spread(values), cpu, self.verdict(what, values, len(yardstick), target, counted))

    def figure(self, what, unit, values, target=None, counted=False, share=0.5):
        """A figure of the event store alone, one a round; the target is one for the median.

        share: 0.99: one a call; the figure, and the target, is what 99 % of them stay within.
        """
        known = [value for value in values if value is not None]
        median = f'{middle(known, share):,.2f}' if known else '–'
        self.line(what, unit, '', median, '', spread(known, share), '',
                  self.verdict(what, known, len(values), target, counted, share))

    def verdict(self, what, values, rounds, target, counted, share=0.5):
        """What stands behind the figures: the target and whether it was met, and rounds that measured nothing."""
        missing = f'({rounds - len(values)} of {rounds} measured nothing)' if len(values) < rounds else ''
        if not target:
            return missing
        verdict = judge(values, target, counted, share)
        wanted = f'{target[0]} {target[1]:.2f}'
        median = number(middle(values, share)) if values else 'nothing measured'
        said = f'{median} {spread(values, share)}'.rstrip()
        self.verdicts.append((verdict, f'{self.group}: {what.strip(" …")}: {said}, target {wanted}'))
        return f'{wanted}  {verdict} {missing}'

    def end(self):
        groups = {'met': [], 'short': [], 'no verdict': []}
        for verdict, line in self.verdicts:
            groups[verdict.partition(':')[0]].append(line)
        print('\n' + ', '.join(f'{len(lines)} {verdict}' for verdict, lines in groups.items()))
        for title, verdict in ('Short of the target:', 'short'), ('No verdict; more rounds would say:', 'no verdict'):
            if groups[verdict]:
                print(title, *groups[verdict], sep='\n  ')
