# Conditions under load.
#
# 16 clients decide upon rules that span streams, and append on condition, while connections
# are terminated; then the log is held against the rules and against each condition that was
# accepted or refused (tests/checker/conditions.py).  The same clients without conditions must
# be found to break the rules.
#
# And what only a restart shows: conditions count what was there before, and locks are gone.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use EventStore;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $checker = "$FindBin::RealBin/../checker/conditions.py";
my $node = new_node('conditions', conf => 'max_connections = 60');

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

my ($status, $output) = check(10);
is($status, 0, 'no rule is broken, and each condition was decided rightly') or diag($output);
nothing_in_flight($node, 'nobody holds the head back afterwards');
is(broken_streams($node), '0', 'versions have no gaps');
gives($node, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' OR relation = 'eventstore.append_lock'::regclass",
	'0', 'nobody holds a lock');

($status, $output) = check(3, '--control', 'unguarded');
is($status, 1, 'without conditions rules are broken, and that is found') or diag($output);
like($output, qr/^rules: FAILED: .* [1-9]\S* problems/m, 'because of the rules');

# ---- waiting ends when it is told to ----

my $condition = q({"query": [{"tags": ["held"]}]});
my $holder = open_session($node);
$holder->query_safe(q{BEGIN; SELECT es_append('Held-1', 'Happened', tags => '{held}')});
refused($node, "SET lock_timeout = '100ms'; SELECT es_append('Held-2', 'Happened', condition => '$condition')",
	'55P03', 'lock_timeout ends the wait for a tag');
refused($node, "SET statement_timeout = '100ms'; SELECT es_append('Held-2', 'Happened', condition => '$condition')",
	'57014', 'statement_timeout too');
refused($node, "SET lock_timeout = '100ms'; SELECT es_append('Held-2', 'Happened', condition => '{\"query\": [{\"types\": [\"Unheard\"]}]}')",
	'55P03', 'and the wait for all');
refused($node, "SET lock_timeout = '100ms'; SELECT es_append('Held-2', 'Happened', condition => '{\"query\": [{}]}')",
	'SE004', 'what fails already does not wait');
accepted($node, q{SET lock_timeout = '100ms'; SELECT es_append('Held-2', 'Happened', tags => '{held}')},
	'what was given up keeps nobody waiting');

# ---- a client that dies, a server that dies ----

vanish($holder);
await($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $holder->{backend}",
	'the end of the backend whose client died');
accepted($node, q{SELECT es_append('Held-3', 'Happened', condition => '{"query": [{"tags": ["held", "never"]}]}')},
	'the locks of a client that died are gone');
refused($node, "SELECT es_append('Held-3', 'Happened', condition => '$condition')", 'SE004',
	'an event counts', like => qr/append condition failed.*DETAIL:\s+position: \d+, type: Happened/s);
$node->stop('immediate');
$node->start;
refused($node, "SELECT es_append('Held-3', 'Happened', condition => '$condition')", 'SE004',
	'also after a crash');
accepted($node, q{SELECT es_append('Held-3', 'Happened', condition => '{"query": [{"tags": ["free"]}]}')},
	'what matches nothing is accepted');

finish($node);
