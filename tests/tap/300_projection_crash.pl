# Projections and crashes.
#
# Writers append; inline and async projections of each form apply; two projections append
# themselves.  At random moments a worker, the scheduler, the launcher, an appender or the
# postmaster is killed, or the server is stopped at once.  After each, and at the end, the
# read models are what a replay of the log gives: each event was applied exactly once, and
# each cause has one effect.  A worker that is terminated, in a handler or between batches,
# has a successor; one that a handler ends again and again makes no storm.
#
# EVENTSTORE_TEST_ROUNDS: how many rounds of crashes; EVENTSTORE_TEST_SEED.

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

my $seed = parameter('SEED', 1);
my @kinds = ('worker', 'scheduler', 'launcher', 'appender', 'postmaster', 'all at once');
my $rounds = parameter('ROUNDS', 2 * @kinds);
srand $seed;
note("seed $seed");

my $node = new_node('crash', conf => <<'CONF');
restart_after_crash = on
autovacuum = off
max_connections = 40
deadlock_timeout = 20ms
eventstore.max_workers = 3
wal_buffers = 4MB
CONF
$node->safe_psql('postgres', 'CREATE EXTENSION amcheck');
prepare_models($node);

my @forms = qw(handler query reducer);
for my $form (@forms)
{
	create_model($node, "inline_$form", $form, more => q{mode => 'inline'});
	create_model($node, "async_$form", $form, more => 'batch_size => 50');
}
create_model($node, 'rare', 'query', more => q{types => '{Rare}'});
create_model($node, 'inline_category', 'reducer', key => 'category', more => q{mode => 'inline'});

# Cause and effect: one event in Echo for each in Load, by a worker; one in Mirror for each
# in Rare, by the appender.
$node->safe_psql('postgres', <<'SQL');
CREATE FUNCTION echo(e es_event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM es_append('Echo-' || e.version % 3, 'Echo', jsonb_build_object('of', e.position));
END $$;
CREATE FUNCTION mirror(e es_event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM es_append('Mirror-' || e.version % 3, 'Mirror', jsonb_build_object('of', e.position));
END $$;
SELECT es_create_projection('echo', 'echo', categories => '{Load}', batch_size => 20);
SELECT es_create_projection('mirror', 'mirror', mode => 'inline', types => '{Rare}');

-- Causes up to the checkpoint without an effect, or with two; effects without a cause.
CREATE FUNCTION effects_wrong() RETURNS text LANGUAGE sql STABLE AS $$
    WITH cause AS (
        SELECT position, CASE type WHEN 'Rare' THEN 'Mirror' ELSE 'Echo' END AS effect
        FROM eventstore.events, eventstore.projection JOIN eventstore.projection_progress USING (projection_id)
        WHERE name = 'mirror' AND type = 'Rare'
              OR name = 'echo' AND es_category(stream) = 'Load' AND position <= checkpoint),
    effect AS (
        SELECT (data->>'of')::bigint AS position, type AS effect, count(*) AS n
        FROM eventstore.events WHERE type IN ('Echo', 'Mirror') GROUP BY 1, 2)
    SELECT coalesce(string_agg(format('%s of %s: %s', effect, position, coalesce(n, 0)), ', '), '')
    FROM cause FULL JOIN effect USING (position, effect)
    WHERE cause.position IS NULL OR n IS DISTINCT FROM 1
$$;
SQL

# All that must hold at any moment.
sub check
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	models_right($node, $name);
	return gives($node, 'SELECT effects_wrong()', '', "$name: each cause has one effect");
}

# ---- ways to crash ----

sub has_gone
{
	my ($pid) = @_;
	return !defined readlink "/proc/$pid/cwd";
}

# The postmaster restarts all others.
sub kill_one
{
	my ($pid) = @_;

	note("kill $pid");
	kill 'KILL', $pid;
	wait_for_restart($node, $pid);
	return;
}

# A worker with a batch at hand if there is one.
sub kill_worker
{
	my $pid;

	wait_until(
		sub {
			$pid = one($node, <<'SQL');
SELECT pid FROM pg_stat_activity LEFT JOIN eventstore.projections ON worker_pid = pid
WHERE backend_type = 'eventstore worker' ORDER BY batch_started NULLS LAST LIMIT 1
SQL
			return $pid ne '';
		},
		'a worker');
	kill_one($pid);
	return;
}

sub kill_appender
{
	my $pid;

	wait_until(
		sub {
			$pid = one($node, 'SELECT pid FROM eventstore.blockers LIMIT 1');
			return $pid ne '';
		},
		'an appender');
	kill_one($pid);
	return;
}

sub children_of_postmaster
{
	my ($children) = run_command([ 'ps', '-o', 'pid=', '--ppid', $node->{_pid} ]);
	return split ' ', $children;
}

# A dead postmaster's children end by themselves; the next one must not meet them.
sub kill_postmaster
{
	my ($all) = @_;
	my $postmaster = $node->{_pid};

	kill 'STOP', $postmaster if $all;
	my @children = children_of_postmaster();
	kill 'KILL', @children if $all;
	$node->kill9;
	wait_until(sub { !grep { !has_gone($_) } @children, $postmaster }, 'the end of all processes');

	# They name a pid that may be another process by now.
	unlink $node->data_dir . '/postmaster.pid',
	  $node->host . '/.s.PGSQL.' . $node->port . '.lock';
	$node->start;
	return;
}

my %crash = (
	worker => \&kill_worker,
	scheduler => sub { kill_one(wait_for_scheduler($node)) },
	launcher => sub { kill_one((pids_of($node, 'launcher'))[0]) },
	appender => \&kill_appender,
	postmaster => sub { kill_postmaster(0) },
	'all at once' => sub { kill_postmaster(1) });

# ---- rounds ----

my @order;
for my $round (1 .. $rounds)
{
	@order = sort { rand() <=> 0.5 } @kinds unless @order;
	my $kind = shift @order;
	my $load =
	  start_load($node, "crash$round", load_script(20), clients => 4, seed => $seed * 1000 + $round);

	wait_for_events($node, 20 + int rand 800);
	$crash{$kind}->();
	abandoned_load($load);
	check("round $round, $kind killed");
}
comes_true($node, "es_wait_for_projection('echo', timeout => '30 s')", 'the effects are there');
models_caught_up($node, 'after all crashes');
check('after all crashes');
is(broken_streams($node), '0', 'versions have no gaps');
$node->command_ok([ qw(pg_amcheck -d postgres --heapallindexed --parent-check) ],
	'indexes agree with tables');

# ---- a worker is terminated ----

# In a handler, which waits for a lock of ours.
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE applied (position bigint);
CREATE FUNCTION wait_and_apply(e es_event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO applied VALUES (e.position);
    PERFORM pg_advisory_xact_lock_shared(1);
END $$;
SQL
my $holder = open_session($node);
$holder->query_safe('SELECT pg_advisory_lock(1)');
one($node, q{SELECT es_create_projection('waits', 'wait_and_apply', types => '{Bell}')});
my $position = one($node, q{SELECT position FROM es_append('Bell-1', 'Bell')});

sub wait_for_handler
{
	my ($other_than) = @_;
	await($node, <<"SQL", 'a handler that waits');
SELECT count(*) = 1 FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND NOT granted AND backend_type = 'eventstore worker' AND pid <> $other_than
SQL
	return one($node, <<'SQL');
SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
SQL
}

my $worker = wait_for_handler(0);
gives($node, q{SELECT worker_pid, batch_events, state FROM eventstore.projections WHERE name = 'waits'},
	"$worker|1|running", 'a worker is in the handler, and the view says so');
my $next = 0;
for my $time (1 .. 2)
{
	is(one($node, "SELECT pg_terminate_backend($worker, 60000)"), 't', "it is terminated, time $time");
	$next = wait_for_handler($worker);
	isnt($next, $worker, "another one is in the handler, time $time");
	$worker = $next;
}
gives($node, 'SELECT count(*) FROM applied', '0', 'nothing of it was committed');
$holder->query_safe('SELECT pg_advisory_unlock(1)');
ok(one($node, q{SELECT es_wait_for_projection('waits', timeout => '30 s')}) eq 't',
	'the handler comes to its end');
gives($node, 'SELECT array_agg(position) FROM applied', "{$position}", 'and has been applied once');
$holder->quit;

# Between two batches.
await($node, <<"SQL", 'the workers to rest');
SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'eventstore worker' AND state <> 'idle'
SQL
my @idle = pids_of($node, 'worker');
is_deeply([ map { one($node, "SELECT pg_terminate_backend($_, 60000)") } @idle ],
	[ ('t') x @idle ], 'idle workers are terminated');
$position = one($node, q{SELECT position FROM es_append('Bell-1', 'Bell')});
gives($node, q{SELECT es_wait_for_projection('waits', timeout => '30 s')},
	't', 'the next event has a worker');
gives($node, 'SELECT max(position) FROM applied', $position, 'and is applied');

# Scheduler and launcher.
for my $kind ('scheduler', 'launcher')
{
	my ($pid) = pids_of($node, $kind);
	one($node, "SELECT pg_terminate_backend($pid, 60000)");
	one($node, q{SELECT es_append('Bell-1', 'Bell')});
	gives($node, q{SELECT es_wait_for_projection('waits', timeout => '60 s')},
		't', "$kind terminated: the next event is applied");
}

# ---- a handler that ends its worker ----

# A sequence counts also what is rolled back.
$node->safe_psql('postgres', <<'SQL');
CREATE SEQUENCE attempt;
CREATE FUNCTION end_it(e es_event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM nextval('attempt');
    PERFORM pg_terminate_backend(pg_backend_pid());
    PERFORM pg_sleep(10);
END $$;
SELECT es_create_projection('fatal', 'end_it', types => '{Fatal}');
SQL
my $begun = time;
one($node, q{SELECT es_append('Fatal-1', 'Fatal')});

# After 1, 2 and 4 seconds: the fourth attempt comes seven seconds after the first.
comes_true($node, '(SELECT last_value FROM attempt) >= 4', 'a handler that ends its worker: it is tried again');
cmp_ok(time - $begun, '>=', 7, 'a handler that ends its worker: attempts become rare');
one($node, q{SELECT es_append('Bell-1', 'Bell')});
gives($node, q{SELECT es_wait_for_projection('waits', timeout => '30 s')},
	't', 'a handler that ends its worker: others go on');
gives($node, q{SELECT failures > 0 OR state IN ('retrying', 'stopped')
               FROM eventstore.projections WHERE name = 'fatal'},
	't', 'a handler that ends its worker: the view tells');
one($node, q{SELECT es_drop_projection('fatal')});

models_caught_up($node, 'at the end');
check('at the end');
finish($node);
