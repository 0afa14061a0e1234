# A thousand projections, and many databases, that have nothing to do.
#
# After some seconds only the launcher is left of the store's processes.  It wakes every ten
# seconds, to read shared memory; nobody else does, no transaction id is taken, and nothing is
# written to the write-ahead log or to the server's.  A commit ends the rest, of its own
# database alone: each wakes a worker for those that want its event, and whoever waits for
# them: not a clock.
#
# `make soak` is the same with a longer rest and more databases: EVENTSTORE_TEST_SECONDS and
# EVENTSTORE_TEST_DATABASES.

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

my $seconds = parameter('SECONDS', 60);
my $databases = parameter('DATABASES', 30);

# What the server itself writes now and then does not count.
my $node = new_node('idle', conf => <<'CONF');
autovacuum = off
eventstore.max_projections = 1300
eventstore.scavenge_interval = 1s
checkpoint_timeout = 1d
max_wal_size = 10GB
wal_level = minimal
max_wal_senders = 0
CONF
my $launcher = (pids_of($node, 'launcher'))[0];

# ---- many databases ----

# The first of them has all that could make a scheduler come: a projection, a subscription, a rule
# that will hide its events one day, an id that will be forgotten.
one($node, 'CREATE DATABASE tenant');
one($node, <<'SQL', 'tenant');
CREATE EXTENSION eventstore;
CREATE TABLE applied (position bigint);
SELECT es_create_projection('mine', query => 'INSERT INTO applied SELECT position FROM es_batch');
SELECT es_create_subscription('theirs');
SELECT es_set_retention('Kept', max_age => '1 day');
SELECT es_append('Kept-' || n, 'T', event_id => gen_random_uuid()) FROM generate_series(1, 2) n;
SELECT es_delete_stream('Kept-2');
SELECT es_wait_for_projection('mine', timeout => '60 s');
SQL
my @tenants = map { "tenant_$_" } 1 .. $databases;
my $creator = client($node, 'create', join '', map { <<"SQL" } @tenants);
CREATE DATABASE $_ TEMPLATE tenant STRATEGY file_copy;
\\c $_
SELECT es_append('Order-1', 'T');
\\c postgres
SQL

# Runs statements in each of some databases, by one client; the lines of their answers.
sub in_each
{
	my ($name, $statements, @names) = @_;
	return finish_client(client($node, $name, join '', map { "\\c $_\n$statements" } @names));
}

# ---- a thousand projections ----

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
my $next_xid = q{SELECT pg_snapshot_xmax(pg_current_snapshot())};
my $xids = one($node, $next_xid);
for my $n (1 .. 5)
{
	one($node, q{SELECT es_append('Idle-1', 'Nobody''s')});
	comes_true($node, 'SELECT bool_and(checkpoint = es_head()) FROM eventstore.projections',
		"event $n that none of them wants");
}
$xids = one($node, $next_xid) - $xids;
cmp_ok($xids, '<', 3000, "a look in vain takes no transaction id: $xids for all");

# Their checkpoints are stored some seconds later, and then nothing is left to do.
comes_true($node, 'SELECT min(checkpoint) = es_head() FROM eventstore.projection_progress',
	'and store that');

# ---- at rest ----

is(scalar(finish_client($creator)), $databases, 'the databases are there, and appended to');

# Those of the store's processes that are there.
sub processes
{
	return one($node, <<'SQL');
SELECT string_agg(substr(backend_type, 12), ', ' ORDER BY backend_type)
FROM pg_stat_activity
WHERE backend_type LIKE 'eventstore %'
SQL
}

# What the kernel has counted: of the launcher its CPU time in ticks of 10 ms, how often it has
# slept, its own memory and its files; of the server the page faults of its processes that have
# ended, which are more with each.
sub counted
{
	my ($launchers, $servers) = map {
		[ split ' ', slurp_file("/proc/$_/stat") =~ s/^.*\) //sr ]
	} $launcher, $node->{_pid};
	my $status = slurp_file("/proc/$launcher/status");
	my %counted = (
		ticks => $launchers->[11] + $launchers->[12],
		files => scalar(my @files = glob "/proc/$launcher/fd/*"),
		ended => $servers->[8]);
	($counted{naps}) = $status =~ /^voluntary_ctxt_switches:\s+(\d+)$/m;
	($counted{memory}) = $status =~ /^RssAnon:\s+(\d+) kB$/m;
	return \%counted;
}

# A look at dead rows may remove them, and whoever sees a row first after its commit may mark
# its page: that is done before.
my $proc = -e "/proc/$$/stat";
my $used = "$next_xid || ' ' || pg_current_wal_insert_lsn()";
wait_until(sub { processes() eq 'launcher' }, 'all but the launcher to leave');
$node->safe_psql('postgres', 'VACUUM');
$node->safe_psql('postgres', 'CHECKPOINT');
wait_until(
	sub {
		my $ended = $proc && counted()->{ended};
		sleep 2;
		return (!$proc || counted()->{ended} == $ended) && processes() eq 'launcher';
	},
	'rest');
gives($node, 'SELECT background FROM eventstore.status', 'at rest', 'a thousand projections are at rest');

my $before = one($node, $used);
my $said = -s $node->logfile;
my $counted;
if ($proc)
{
	# who has just asked is on his way out
	wait_until(sub { $counted = counted(); sleep 1; return counted()->{ended} == $counted->{ended} },
		'the end of a session');
	$counted = counted();
}
my $end = time + $seconds;
sleep 1 while time < $end;

SKIP:
{
	skip 'no /proc here', 5 unless $proc;
	my $now = counted();
	my %more = map { $_ => $now->{$_} - $counted->{$_} } keys %$now;
	is($more{ended}, 0, "at rest no process has been there meanwhile");
	cmp_ok($more{naps}, '<=', 1 + $seconds / 10, "at rest the launcher wakes once in ten seconds: $more{naps} times");
	cmp_ok($more{ticks}, '<=', 2 + $seconds / 60, "at rest it uses no CPU: $more{ticks} ticks");
	is($more{memory}, 0, 'at rest its memory does not grow');
	is($more{files}, 0, 'at rest it opens no files');
}
is(one($node, $used), $before, "at rest no transaction id is taken in $seconds s, and nothing is written to the WAL");
is(slurp_file($node->logfile, $said), '', 'at rest nothing is logged');
is(processes(), 'launcher', 'at rest only the launcher is there');

# It was no rest of those that wait.
is(join("\n", in_each('look', <<'SQL', @tenants)), join("\n", ('t|0|at rest|') x @tenants), 'all databases had done their work');
SELECT (SELECT max(position) = es_head() FROM applied), lag, background, waiting_since
FROM eventstore.projections, eventstore.status;
SQL

# ---- the end of the rest ----

# In the database of a thousand a new one is run, and only that.
my $session = open_session($node);
my $looks = q{SELECT xact_commit FROM pg_stat_database WHERE datname = 'postgres'};
my $looked = one($node, $looks);
my $begun = time;
$session->query_safe(q{SELECT es_create_projection('new', query => 'INSERT INTO applied SELECT ''new'', position FROM es_batch')});
is($session->query_safe(q{SELECT es_wait_for_projection('new', timeout => '30 s')}), 't', 'a new projection is run');
my $took = time - $begun;
cmp_ok($took, '<', 5, sprintf('a new projection is run at once: after %.0f ms', 1000 * $took));
gives($node, q{SELECT count(*) FROM applied WHERE projection = 'new'}, '6', 'and has applied all events');
await($node, q{SELECT bool_and(state = 'idle') IS NOT FALSE FROM pg_stat_activity WHERE backend_type = 'eventstore worker'},
	'the worker to be done');
$looked = one($node, $looks) - $looked;
cmp_ok($looked, '<', 500, "at rest the others are left alone: $looked transactions");

# Each of them has to look at each event, so only some go on: who waits for a clock waits
# for a second at least.
$session->query_safe(q{SELECT es_append('Idle-2', 'T1000')});
is($session->query_safe(q{SELECT es_wait_for_projection('p1000', timeout => '60 s')}),
	't', 'one of a thousand applies its event');
$session->query_safe(q{SELECT es_drop_projection('p' || n) FROM generate_series(1, 1000) n WHERE n % 100 <> 0});
$session->query_safe(q{SELECT es_wait_for_projection('p1000', timeout => '60 s')});
$begun = time;
my $reached = '';
for my $n (1 .. 10)
{
	my $p = 100 * $n;
	$session->query_safe("SELECT version FROM es_append('Idle-$n', 'T$p')");
	$reached .= $session->query_safe("SELECT es_wait_for_projection('p$p', timeout => '20 s')");
	last if time - $begun > 20;
}
$took = time - $begun;
is($reached, 't' x 10, 'a commit wakes a worker: each event is applied');
cmp_ok($took, '<', 5, sprintf('a commit wakes a worker, and that who waits: %.0f ms on average', 100 * $took));
gives($node, q{SELECT count(*), count(DISTINCT projection) FROM applied WHERE projection <> 'new'}, '11|10', 'by the one that wants it');
$session->quit;

# Others are at rest until they are appended to.
my @some = splice @tenants, 0, 10;
$begun = time;
is(join('', in_each('wake', <<'SQL', @some)), 't' x @some, 'a commit wakes a database: each event is applied');
DO $$ BEGIN PERFORM es_append('Order-1', 'T'); END $$;
SELECT es_wait_for_projection('mine', timeout => '20 s');
SQL
$took = time - $begun;
cmp_ok($took, '<', 5, sprintf('a commit wakes a database: %.0f ms on average', 1000 * $took / @some));
gives($node, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'eventstore %' AND datname = ANY (}
	. "'{" . join(',', @tenants) . "}')", '0', 'and only that');

finish($node);
