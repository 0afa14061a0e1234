# The history checker under load.
#
# Writers, readers and connections that are terminated, for some seconds; then the recorded
# history is held against the rules (tests/checker).  The same clients against two stores
# made of plain tables that lose events must find them wanting, and against one that is
# right must find nothing: else the checker proves nothing.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use EventStore;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $checker = "$FindBin::RealBin/../checker/checker.py";
my $storm = "$FindBin::RealBin/../checker/storm.py";

# Its default: 8 writers, 4 readers, and a few more.
my $node = new_node('load', conf => 'max_connections = 60');

# check(SECONDS, OPTIONS...): the exit status, 0 good, 1 a rule is broken.
sub check
{
	my ($seconds, @options) = @_;
	my $output;

	IPC::Run::run([ $checker, '--dsn', $node->connstr('postgres'), '--seconds', $seconds,
		'--seed', 1, @options ],
		'>&', \$output);
	note($output);
	return ($? >> 8, $output);
}

my ($status, $output) = check(15);
is($status, 0, 'the event store keeps its promises') or diag($output);
nothing_in_flight($node, 'nobody holds the head back afterwards');
is(broken_streams($node), '0', 'versions have no gaps');

# Races that are open for nanoseconds: short transactions as fast as they go.
my $counted;
IPC::Run::run([ $storm, '--dsn', $node->connstr('postgres'), '--seconds', 6 ], '>&', \$counted);
is($? >> 8, 0, 'nor are events lost in a storm') or diag($counted);

for my $control ('bigserial', 'xmin')
{
	($status, $output) = check(4, '--control', $control);
	is($status, 1, "a store that loses events is found out: $control") or diag($output);
	like($output, qr/^rule 5\b.*: FAILED: .* [1-9]\S* lost/m,
		"because readers lost events: $control");
}
($status, $output) = check(6, '--control', 'serial');
is($status, 0, 'a store that is right, if slow, passes') or diag($output);

finish($node);
