# A thousand projections that have nothing to do.
#
# At rest no process uses the CPU, no worker wakes, no transaction id is taken and nothing is
# written to the write-ahead log, though the scheduler looks every ten seconds and the
# scavenger every second.  One that is made among them is run at once, and each commit wakes
# a worker for those that want its event, and whoever waits for them: not a clock.

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
eventstore.max_workers = 1
eventstore.scavenge_interval = 1s
# What the server itself writes now and then does not count.
checkpoint_timeout = 1h
wal_level = minimal
max_wal_senders = 0
CONF

$node->safe_psql('postgres', <<'SQL');
CREATE TABLE applied (projection text, position bigint);
SELECT count(es_create_projection('p' || n, types => ARRAY['T' || n],
    query => format('INSERT INTO applied SELECT %L, position FROM es_batch', 'p' || n)))
FROM generate_series(1, 1000) n;
SELECT es_append('Idle-1', 'Nobody''s');
SELECT es_set_retention('Idle', max_age => '1 day');
SQL
comes_true($node, 'SELECT count(*) = 1000 AND bool_and(lag = 0) FROM eventstore.projections',
	'a thousand projections pass an event that none of them wants');

# All look at each event that nobody wants: five thousand looks.  What costs a transaction id is
# to store a checkpoint, which each does every five seconds at most.
my $xids = one($node, 'SELECT pg_snapshot_xmax(pg_current_snapshot())');
for my $n (1 .. 5)
{
	one($node, q{SELECT es_append('Idle-1', 'Nobody''s')});
	comes_true($node, 'SELECT bool_and(checkpoint = es_head()) FROM eventstore.projections',
		"event $n that none of them wants");
}
$xids = one($node, "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint - $xids");
cmp_ok($xids, '<', 3000, "a look in vain takes no transaction id: $xids for all");

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

# How often processes have slept.
sub naps
{
	my $naps = 0;
	for my $pid (@_)
	{
		slurp_file("/proc/$pid/status") =~ /^voluntary_ctxt_switches:\s+(\d+)$/m or die 'no count';
		$naps += $1;
	}
	return $naps;
}

# A minute at rest.  A look at dead rows may remove them, and whoever sees a row first after
# its commit may mark its page: that is done before.
{
	my @all = map { pids_of($node, $_) } 'worker', 'scheduler', 'launcher';
	my @workers = pids_of($node, 'worker');
	my $proc = -e "/proc/$$/stat";
	my $watch = open_session($node);
	my $used = q{SELECT pg_snapshot_xmax(pg_current_snapshot()) || ' ' || pg_current_wal_insert_lsn()};

	$node->safe_psql('postgres', 'VACUUM');
	$node->safe_psql('postgres', 'CHECKPOINT');
	if ($proc)
	{
		wait_until(sub { my $before = naps(@workers); sleep 3; return naps(@workers) == $before },
			'the worker to be at rest');
	}
	my $before = $watch->query_safe($used);
	my ($ticks, $naps) = $proc ? (ticks(@all), naps(@workers)) : ();
	$watch->query_safe('SELECT pg_sleep(60)');
	is($watch->query_safe($used), $before,
		'at rest no transaction id is taken in a minute, and nothing is written to the WAL');
	$watch->quit;
	is_deeply([ pids_of($node, 'worker') ], \@workers, 'at rest the worker stays');

	SKIP:
	{
		skip 'no /proc here', 2 unless $proc;
		$ticks = ticks(@all) - $ticks;
		$naps = naps(@workers) - $naps;
		cmp_ok($ticks, '<=', 20, "at rest they use no CPU: $ticks ticks in a minute");

		# It sleeps without a limit once it knows that no other worker is there.
		cmp_ok($naps, '<=', 2, "at rest no worker wakes: $naps times in a minute");
	}
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
gives($node, q{SELECT count(*) FROM applied WHERE projection = 'new'}, '17', 'and has applied all events');
$session->quit;

finish($node);
