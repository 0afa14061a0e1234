# The figures of the benchmarks: intervals, verdicts, turns that measured nothing.
#
# The benchmarks themselves are no test: speed is measured by `make bench`.

use strict;
use warnings FATAL => 'all';

use Test::More;

my $output = `python3 bench/test_figures.py 2>&1`;
is($?, 0, 'bench/test_figures.py passes') or diag($output);
my ($tests) = $output =~ /^Ran (\d+) tests/m;
cmp_ok($tests // 0, '>=', 10, 'it has run its tests');

done_testing();
