#!/usr/bin/python3
"""Checks figures.py: python3 bench/test_figures.py; needs no server."""

import contextlib
import io
import math
import random
import statistics
import sys
import unittest

sys.dont_write_bytecode = True

import figures                                          # noqa: E402, the module beside this file


class Ratios(unittest.TestCase):
    def test_of_each_round(self):
        self.assertEqual(figures.ratios([2, 4], [1, 4]), [0.5, 1])

    def test_rounds_that_measured_nothing_are_left_out(self):
        self.assertEqual(figures.ratios([2, None, 4, None], [1, 1, None, None]), [0.5])

    def test_a_yardstick_of_nothing(self):
        self.assertEqual(figures.ratios([0, -1, 0, -1], [3, 3, 0, -2]), [math.inf, math.inf])

    def test_an_event_store_that_adds_nothing(self):
        self.assertEqual(figures.ratios([2, 2], [0, -1]), [0, -0.5])


class Interval(unittest.TestCase):
    def test_too_few(self):
        for count in range(6):
            self.assertIsNone(figures.interval(range(count)), count)

    def test_ranks(self):
        # as in tables of the sign test
        for count, low in (6, 1), (8, 1), (9, 2), (11, 2), (12, 3), (20, 6), (100, 40):
            self.assertEqual(figures.interval(range(count, 0, -1)), (low, count + 1 - low), count)

    def test_holds_the_median_as_often_as_it_says(self):
        draw = random.Random(1)
        for count in (6, 11, 30):
            held = 0
            for _ in range(4000):
                low, high = figures.interval([draw.expovariate(1) for _ in range(count)])
                held += low <= math.log(2) <= high
            self.assertGreater(held / 4000, 0.94, count)

    def test_of_another_share(self):
        # 0.99 ** 367 > 0.025: too few to say what 99 % of them stay within
        self.assertIsNone(figures.interval(range(367), 0.99))
        self.assertEqual(figures.interval(range(368), 0.99)[1], 367)
        draw = random.Random(2)
        for count in (400, 1000):
            held = 0
            for _ in range(1000):
                low, high = figures.interval([draw.expovariate(1) for _ in range(count)], 0.99)
                held += low <= math.log(100) <= high
            self.assertGreater(held / 1000, 0.94, count)

    def test_does_not_need_finite_values(self):
        self.assertEqual(figures.interval([1, 2, 3, 4, 5, math.inf]), (1, math.inf))


class Verdict(unittest.TestCase):
    def check(self, low, high, target, verdict):
        self.assertEqual(figures.judge([low, high] + [(low + high) / 2] * 4, target), verdict)

    def test_more_is_better(self):
        least = ('≥', 0.95)
        self.check(0.96, 1.1, least, 'met')
        self.check(0.80, 0.95, least, 'met')
        self.check(0.80, 0.94, least, 'short')
        self.check(0.27, 0.50, least, 'short')
        self.check(0.27, 1.30, least, 'no verdict: 6 rounds')

    def test_less_is_better(self):
        most = ('≤', 1.0)
        self.check(0.5, 0.9, most, 'met')
        self.check(1.0, 1.2, most, 'met')
        self.check(1.01, 1.2, most, 'short')
        self.check(0.5, 1.3, most, 'no verdict: 6 rounds')
        self.check(0.5, math.inf, most, 'no verdict: 6 rounds')
        self.check(1.0, 1.2, ('<', 1.0), 'short')

    def test_too_few_rounds(self):
        self.assertEqual(figures.judge([1, 1, 1], ('≥', 0.5)), 'no verdict: 3 rounds')
        self.assertEqual(figures.judge([1], ('≥', 0.5)), 'no verdict: 1 round')
        self.assertEqual(figures.judge([], ('≥', 0.5)), 'no verdict: 0 rounds')

    def test_of_what_99_percent_stay_within(self):
        calls = list(range(1, 401))
        self.assertEqual(figures.judge(calls, ('<', 500), share=0.99), 'met')
        self.assertEqual(figures.judge(calls, ('<', 390), share=0.99), 'short')
        self.assertEqual(figures.judge(calls[:300], ('<', 500), share=0.99), 'no verdict: 300 calls')

    def test_what_was_counted(self):
        for value, verdict in (0.9, 'met'), (1.0, 'short'):
            self.assertEqual(figures.judge([value], ('<', 1), counted=True), verdict)
        self.assertEqual(figures.judge([], ('<', 1), counted=True), 'no verdict: 0 rounds')


class Table(unittest.TestCase):
    def print(self, *rows):
        report, output = figures.Report(), io.StringIO()
        with contextlib.redirect_stdout(output):
            report.header('group', 'title')
            for call, arguments in rows:
                getattr(report, call)(**arguments)
            report.end()
        return output.getvalue()

    def test_nothing_measured(self):
        nothing = [None] * 3
        for call in ('row', dict(yardstick=nothing, eventstore=nothing)), ('figure', dict(values=nothing)):
            call[1].update(what='case', unit='events/s', target=('≥', 0.95))
            table = self.print(call)
            self.assertIn('≥ 0.95  no verdict: 0 rounds (3 of 3 measured nothing)', table)
            self.assertIn('0 met, 0 short, 1 no verdict', table)

    def test_all_sorts(self):
        six = [100] * 6
        table = self.print(
            ('row', dict(what='good', unit='u', yardstick=six, eventstore=six, target=('≥', 0.9), costs=[0.5])),
            ('row', dict(what='bad', unit='u', yardstick=six, eventstore=[50] * 6, target=('≥', 0.9))),
            ('row', dict(what='unsure', unit='u', yardstick=six, eventstore=[27, 130] * 3, target=('≥', 0.9))),
            ('row', dict(what='one side', unit='u', yardstick=[None] * 6, eventstore=six)))
        self.assertRegex(table, r'good .* 1\.000  1\.00–1\.00 +0\.50  ≥ 0\.90  met\n')
        self.assertRegex(table, r'bad .* 0\.500  0\.50–0\.50 +≥ 0\.90  short\n')
        self.assertRegex(table, r'unsure .* 0\.27–1\.30 +≥ 0\.90  no verdict: 6 rounds\n')
        self.assertRegex(table, r'one side .* – +100 +– +\(6 of 6 measured nothing\)\n')
        self.assertIn('\n1 met, 1 short, 1 no verdict\nShort of the target:\n  group: bad: 0.50', table)
        self.assertIn('\nNo verdict; more rounds would say:\n  group: unsure: ', table)

    def test_what_99_percent_stay_within(self):
        table = self.print(('figure', dict(what='case', unit='ms', values=range(1, 1001), target=('<', 2000), share=0.99)))
        self.assertRegex(table, r'case .* 991\.00 +983\.00–99\d\.00 .* < 2000\.00  met')

    def test_percentile(self):
        self.assertIsNone(figures.percentile99([]))
        self.assertEqual(figures.percentile99([7]), 7)
        self.assertEqual(figures.percentile99(range(1000, 0, -1)), 991)

    def test_medians_are_of_what_was_measured(self):
        self.assertIn(f'{statistics.median([100, 300]):,.0f}', self.print(
            ('row', dict(what='case', unit='u', yardstick=[100, None, 300], eventstore=[1, 2, 3]))))


if __name__ == '__main__':
    unittest.main()
