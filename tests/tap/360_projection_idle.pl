# A thousand projections that have nothing to do.
#
# At rest no process uses the CPU.  One that is made among them is run at once, and each
# commit wakes a worker for those that want its event, and whoever waits for them: not a
# clock.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use EventStore;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ReadModels;
use Test::More;
use Time::HiRes qw(time);

my $node = new_node('idle', conf => <<'CONF');
autovacuum = off
eventstore.max_projections = 1010
eventstore.max_workers = 2
CONF

$node->safe_psql('postgres', <<'SQL');
CREATE TABLE applied (projection text, position bigint);
SELECT count(es_create_projection('p' || n, types => ARRAY['T' || n],
    query => format('INSERT INTO applied SELECT %L, position FROM es_batch', 'p' || n)))
FROM generate_series(1, 1000) n;
SELECT es_append('Idle-1', 'Nobody''s');
SQL
comes_true($node, 'SELECT count(*) = 1000 AND bool_and(lag = 0) FROM eventstore.projections',
	'a thousand projections pass an event that none of them wants');

# Their checkpoints are stored some seconds later, and then nothing is left to do.
comes_true($node, 'SELECT min(checkpoint) = es_head() FROM eventstore.projection_progress',
	'and store that');

# CPU time used, in ticks of 10 ms.
sub ticks
{
	my $ticks = 0;
	for my $pid (@_)
	{
		my @stat = split ' ', slurp_file("/proc/$pid/stat") =~ s/^.*\) //r;
		$ticks += $stat[11] + $stat[12];
	}
	return $ticks;
}

SKIP:
{
	skip 'no /proc here', 1 unless -e "/proc/$$/stat";

	my @all = map { pids_of($node, $_) } 'worker', 'scheduler', 'launcher';
	one($node, 'SELECT pg_sleep(0.5)');
	my $ticks = ticks(@all);
	one($node, 'SELECT pg_sleep(4)');
	$ticks = ticks(@all) - $ticks;
	cmp_ok($ticks, '<=', 2, "at rest they use no CPU: $ticks ticks in 4 s");
}

# Each of them has to look at each event, so only some go on: who waits for a clock waits
# for a second at least.
my $session = open_session($node);
$session->query_safe(q{SELECT es_append('Idle-2', 'T1000')});
is($session->query_safe(q{SELECT es_wait_for_projection('p1000', timeout => '60 s')}),
	't', 'one of a thousand applies its event');
$session->query_safe(q{SELECT es_drop_projection('p' || n) FROM generate_series(1, 1000) n WHERE n % 100 <> 0});
$session->query_safe(q{SELECT es_wait_for_projection('p1000', timeout => '60 s')});
my $begun = time;
my $reached = '';
for my $n (1 .. 10)
{
	my $p = 100 * $n;
	$session->query_safe("SELECT version FROM es_append('Idle-$n', 'T$p')");
	$reached .= $session->query_safe("SELECT es_wait_for_projection('p$p', timeout => '20 s')");
	last if time - $begun > 20;
}
my $took = time - $begun;
is($reached, 't' x 10, 'a commit wakes a worker: each event is applied');
cmp_ok($took, '<', 5, sprintf('a commit wakes a worker, and that who waits: %.0f ms on average', 100 * $took));
gives($node, 'SELECT count(*), count(DISTINCT projection) FROM applied', '11|10', 'by the one that wants it');

# The scheduler looks by itself after ten seconds.
$begun = time;
$session->query_safe(q{SELECT es_create_projection('new', query => 'INSERT INTO applied SELECT ''new'', position FROM es_batch')});
is($session->query_safe(q{SELECT es_wait_for_projection('new', timeout => '30 s')}), 't', 'a new projection is run');
$took = time - $begun;
cmp_ok($took, '<', 5, sprintf('a new projection is run at once: after %.0f ms', 1000 * $took));
gives($node, q{SELECT count(*) FROM applied WHERE projection = 'new'}, '12', 'and has applied all events');
$session->quit;

finish($node);
