# src/ keeps the rules of the house, says tests/house; which finds each rule broken
# in a small tree of its own.
use strict;
use warnings;

use IPC::Run qw(run);
use PostgreSQL::Test::Utils;
use Test::More;

my ($told, $complaints);

ok(run([ 'tests/house', '--self-test' ], '>&', \$told), 'each rule, when broken, is complained about')
  or diag($told);

ok(run(['tests/house'], '>&', \$complaints), 'nothing in src/ breaks a rule')
  or diag($complaints);
like($complaints, qr/^[1-9]\d* rooms, [1-9]\d* files, [1-9]\d* arrows between rooms/m, 'there was something to check');

done_testing();
