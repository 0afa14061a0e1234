# The workers that run projections.
#
# However many projections there are, two workers serve them in turns; a slow and a failing
# one disturb no other; a stopped process holds up only what it holds.  A commit wakes a
# worker, and without work no process uses the CPU.  Databases share the workers.
# Statements that need a database to themselves, or drop the store, get what they need while
# handlers run, and leave nothing behind.

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

my $node = new_node('workers', conf => <<'CONF');
autovacuum = off
max_connections = 40
eventstore.max_workers = 0
CONF

sub set
{
	my ($on, $name, $value) = @_;
	$on->safe_psql('postgres', "ALTER SYSTEM SET $name = $value; SELECT pg_reload_conf()");
	return;
}

sub append
{
	my ($stream, $dbname) = @_;
	return one($node, "SELECT position FROM es_append('$stream', 'Tick')", $dbname);
}

sub is_applied
{
	my ($name, $what, $dbname) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return gives($node, "SELECT es_wait_for_projection('$name', timeout => '30 s')", 't', $what,
		$dbname);
}

# ---- none ----

# Each of the 200 notes its turns, of at most five events, in the order they were taken.
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE turn (number bigserial, name text, events bigint, pid int DEFAULT pg_backend_pid());
SELECT count(es_append('Load-' || n % 3, 'Tick')) FROM generate_series(1, 25) n;
SELECT count(es_create_projection('p' || n,
    query => format('INSERT INTO turn (name, events) SELECT %L, count(*) FROM es_batch', 'p' || n),
    batch_size => 5))
FROM generate_series(1, 200) n;
SQL
gives($node, q{SELECT es_wait_for_projection('p1', timeout => '500 ms')},
	'f', 'max_workers = 0: nothing is applied');
is_deeply([ pids_of($node, 'worker') ], [], 'max_workers = 0: there is no worker');
gives($node, 'SELECT DISTINCT state, checkpoint, lag, worker_pid IS NULL FROM eventstore.projections',
	'waiting for a worker|0|25|t', 'max_workers = 0: the view shows what waits');

# ---- 200 on one, then on two ----

set($node, 'eventstore.max_workers', 1);
comes_true($node, 'SELECT bool_and(checkpoint = es_head()) FROM eventstore.projections',
	'a reload raises max_workers: all 200 catch up');
gives($node, <<'SQL', '200|25|25', 'each has applied each event once');
SELECT count(*), min(events), max(events)
FROM (SELECT name, sum(events) AS events FROM turn GROUP BY name) p
SQL
gives($node, 'SELECT count(DISTINCT pid) FROM turn', '1', 'by one worker');

# Turns are taken in turns: nobody has had one more than anybody.
gives($node, <<'SQL', '', 'they are served fairly');
WITH t AS (SELECT name, number, row_number() OVER (PARTITION BY name ORDER BY number) AS nth FROM turn),
     n AS (SELECT nth, min(number) AS first, max(number) AS last FROM t GROUP BY nth)
SELECT string_agg(format('turn %s of one comes before turn %s of another', later.nth, n.nth), ', ')
FROM n JOIN n AS later ON later.nth = n.nth + 1
WHERE later.first < n.last
SQL

# All of them once more, for each of these events, and by a second worker too.
set($node, 'eventstore.max_workers', 2);
append("Load-$_") for 1 .. 5;
comes_true($node, 'SELECT bool_and(checkpoint = es_head()) FROM eventstore.projections',
	'all 200 follow');
gives($node, 'SELECT count(DISTINCT name), sum(events) FROM turn', '200|6000', 'and miss nothing');
cmp_ok(one($node, 'SELECT count(DISTINCT pid) FROM turn'), '<=', 2, 'by two workers');

# ---- the commit wakes a worker ----

# What wakes is not a clock: at rest the scheduler hardly ever looks.
sub switches
{
	my ($pid) = @_;
	slurp_file("/proc/$pid/status") =~ /^voluntary_ctxt_switches:\s+(\d+)$/m or die 'no count';
	return $1;
}

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
	skip 'no /proc here', 6 unless -e "/proc/$$/status";

	my $rest = 3;
	my @all = map { pids_of($node, $_) } 'worker', 'scheduler', 'launcher';
	cmp_ok(scalar @all, '>=', 3, 'a worker, a scheduler and the launcher are there');
	one($node, 'SELECT pg_sleep(0.5)');
	my $switches = 0;
	$switches -= switches($_) for @all;
	my $ticks = ticks(@all);
	one($node, "SELECT pg_sleep($rest)");
	$ticks = ticks(@all) - $ticks;
	$switches += switches($_) for @all;
	cmp_ok($ticks, '<=', 1, "200 projections at rest use no CPU: $ticks ticks in $rest s");
	cmp_ok($switches, '<=', 2 * $rest, "nobody looks at a clock: awake $switches times in $rest s");

	# So whoever waits for a clock would wait for more than half a second.
	$node->safe_psql('postgres', <<'SQL');
SELECT es_drop_projection('p' || n) FROM generate_series(21, 200) n;
CREATE TABLE answer (position bigint);
SELECT es_create_projection('answer', query => 'INSERT INTO answer SELECT position FROM es_batch');
SELECT es_wait_for_projection('answer');
SQL
	my $session = open_session($node);
	my $begun = time;
	my $answers = '';
	for my $n (1 .. 40)
	{
		$session->query_safe(q{SELECT * FROM es_append('Load-1', 'Tick')});
		$answers .= $session->query_safe(q{SELECT es_wait_for_projection('answer', timeout => '10 s')});
	}
	my $took = time - $begun;
	is($answers, 't' x 40, 'commit, applied, 40 times');
	cmp_ok($took, '<', 40 * 0.25, sprintf('a commit wakes a worker: %.1f ms on average', 25 * $took));
	gives($node, 'SELECT count(*) FROM answer', '70', 'all are applied');
	$session->quit;
}

# ---- a slow one, a failing one, a stopped worker ----

$node->safe_psql('postgres', <<'SQL');
CREATE FUNCTION slow(e es_event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_sleep(0.5);
END $$;
CREATE FUNCTION fails(e es_event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    RAISE 'never';
END $$;
SELECT es_create_projection('slow', 'slow', batch_size => 20);
SELECT es_create_projection('fails', 'fails', max_retries => 1000);
SQL
await($node, <<'SQL', 'the slow one and the failing one to run');
SELECT count(*) = 2 FROM eventstore.projections
WHERE name = 'slow' AND batch_done IS NOT NULL OR name = 'fails' AND state = 'retrying' AND failures > 1
SQL
append('Load-1');
is( one($node, <<'SQL'), 't', 'a slow and a failing one: the others go on');
SELECT bool_and(es_wait_for_projection(name, timeout => '30 s'))
FROM eventstore.projections WHERE name LIKE 'p%'
SQL
gives($node, <<'SQL', 'slow|running|t|t', 'meanwhile the slow one is in the same batch');
SELECT name, state, lag > 0, batch_started < now() - interval '0 s'
FROM eventstore.projections WHERE worker_pid IS NOT NULL AND name = 'slow'
SQL
gives($node, <<'SQL', 't|P0001|never|t', 'and the failing one says why, and when next');
SELECT failures > 1, last_sqlstate, last_error, next_try_at > failed_at
FROM eventstore.projections WHERE name = 'fails'
SQL
one($node, "SELECT es_drop_projection('$_')") for 'slow', 'fails';

# A worker stands still in a handler.
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE stood (position bigint);
CREATE FUNCTION stands(e es_event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO stood VALUES (e.position);
    PERFORM pg_advisory_xact_lock_shared(1);
END $$;
SQL
my $holder = open_session($node);
$holder->query_safe('SELECT pg_advisory_lock(1)');
my $last = append('Load-1');
one($node, "SELECT es_create_projection('stands', 'stands', start_after => $last - 1)");
my $stopped;
wait_until(
	sub {
		$stopped = one($node, q{SELECT worker_pid FROM eventstore.projections WHERE name = 'stands' AND batch_events = 1});
		return $stopped ne '';
	},
	'the handler');
kill 'STOP', $stopped;
$holder->query_safe('SELECT pg_advisory_unlock(1)');
append('Load-1') for 1 .. 3;
is( one($node, <<'SQL'), 't', 'a stopped worker: the others go on');
SELECT bool_and(es_wait_for_projection(name, timeout => '30 s'))
FROM eventstore.projections WHERE name <> 'stands'
SQL
gives($node, <<"SQL", "$stopped|t|1|4", 'a stopped worker: the view tells who, since when, and the lag');
SELECT worker_pid, batch_started < now(), batch_events, lag
FROM eventstore.projections WHERE name = 'stands'
SQL
gives($node, 'SELECT count(*) FROM stood', '0', 'a stopped worker: nothing of it is seen');
kill 'CONT', $stopped;
is_applied('stands', 'a stopped worker: it goes on');
gives($node, 'SELECT count(*), count(DISTINCT position) FROM stood', '4|4', 'and has applied all once');
$holder->quit;

# ---- fast shutdown ----

$node->safe_psql('postgres', <<'SQL');
CREATE FUNCTION loops(e es_event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    LOOP
        BEGIN
            PERFORM 1 / 0;
        EXCEPTION WHEN OTHERS THEN
        END;
    END LOOP;
END $$;
CREATE FUNCTION sleeps(e es_event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_sleep(600);
END $$;
SELECT es_create_projection('loops', 'loops');
SELECT es_create_projection('sleeps', 'sleeps');
SQL
await($node, <<'SQL', 'handlers that loop and sleep');
SELECT count(*) = 2 FROM eventstore.projections WHERE name IN ('loops', 'sleeps') AND batch_events > 0
SQL
my $begun = time;
$node->stop('fast');
cmp_ok(time - $begun, '<', 5, 'a fast shutdown takes less than 5 s while handlers loop and sleep');
$node->start;
await($node, <<'SQL', 'the same after the restart');
SELECT count(*) = 2 FROM eventstore.projections WHERE name IN ('loops', 'sleeps') AND batch_events > 0
SQL
one($node, "SELECT es_drop_projection('$_')") for 'loops', 'sleeps';
append('Load-1');
is_applied('p1', 'after a restart and two drops the workers are free');

# ---- several databases ----

my $applied_once = <<'SQL';
SELECT array_agg(position ORDER BY position) = (SELECT array_agg(position ORDER BY position) FROM eventstore.event_log)
FROM applied
SQL

# A database with a store, a table, and a projection that fills it.
sub create_database
{
	my ($on, $dbname) = @_;
	$on->safe_psql('postgres', "CREATE DATABASE $dbname");
	$on->safe_psql($dbname, <<'SQL');
CREATE EXTENSION eventstore;
CREATE TABLE applied (position bigint);
SELECT es_create_projection('fill', query => 'INSERT INTO applied SELECT position FROM es_batch');
SQL
	return $dbname;
}

create_database($node, $_) for 'one', 'two', 'three';
for my $dbname ('one', 'two', 'three')
{
	append('A', $dbname);
	is_applied('fill', "three databases, two workers: $dbname is served", $dbname);
}

# Two databases in which there always is something to do, and both workers.
my $trickle = q{SELECT * FROM es_append('A', 'Tick'); SELECT pg_sleep(0.2);} . "\n";
my %busy = map { $_ => client($node, "trickle_$_", $trickle x 5000, $_) } 'one', 'two';
await($node, <<'SQL', 'the two databases to have both workers');
SELECT array_agg(DISTINCT datname ORDER BY datname) = '{one,two}' FROM (
    SELECT datname, CASE WHEN datname NOT IN ('one', 'two') THEN pg_terminate_backend(pid) END
    FROM pg_stat_activity WHERE backend_type = 'eventstore worker') worker
SQL
append('A', 'three');
is_applied('fill', 'another database gets its turn', 'three');

# The workers leave when there shall be none.
set($node, 'eventstore.max_workers', 0);
comes_true($node, <<'SQL', 'max_workers lowered: the workers leave, though there is something to do');
SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'eventstore worker'
SQL
append('A', 'three');
gives($node, q{SELECT es_wait_for_projection('fill', timeout => '500 ms')}, 'f',
	'nothing is applied then', 'three');
set($node, 'eventstore.max_workers', 4);
is_applied('fill', 'until there are workers again', 'three');
$busy{$_}->{run}->kill_kill for keys %busy;
$busy{$_}->{run}->finish for keys %busy;
gives($node, $applied_once, 't', 'each event is applied once', 'three');

# ---- statements that need a database to themselves ----

# Handlers that do not end by themselves.
sub make_busy
{
	my ($dbname) = @_;
	$node->safe_psql($dbname, <<'SQL');
CREATE FUNCTION sleeps(e es_event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_sleep(600);
END $$;
SELECT es_create_projection('sleeps' || n, 'sleeps') FROM generate_series(1, 2) n;
SELECT es_append('A', 'Tick');
SQL
	return;
}

sub wait_for_busy
{
	my ($dbname) = @_;
	await($node, <<'SQL', 'the handlers to run', $dbname);
SELECT count(*) = 2 FROM eventstore.projections WHERE name LIKE 'sleeps%' AND batch_events > 0
SQL
	return;
}

make_busy('three');
wait_for_busy('three');
accepted($node, 'ALTER DATABASE three RENAME TO third', 'RENAME while handlers run');
wait_for_busy('third');
accepted($node, 'CREATE DATABASE copy TEMPLATE third', 'CREATE DATABASE TEMPLATE while handlers run');
wait_for_busy('third');
append('A', 'third');
is_applied('fill', 'afterwards the database is served', 'third');
accepted($node, 'DROP DATABASE third', 'DROP DATABASE while handlers run');

# The copy's projections are its own.
one($node, "SELECT es_drop_projection('sleeps$_')", 'copy') for 1 .. 2;
append('A', 'copy');
is_applied('fill', 'the copy is served', 'copy');
gives($node, $applied_once, 't', 'and applies each event once', 'copy');
one($node, "DROP DATABASE $_") for 'one', 'two', 'copy';

# ---- another store in the same database ----

one($node, 'CREATE DATABASE again');
$node->safe_psql('again', <<'SQL');
CREATE EXTENSION eventstore;
CREATE TABLE applied (store text, position bigint);
CREATE FUNCTION fail_slowly(bigint) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(1);
    RAISE 'an error of the old store';
END $$;
SELECT count(es_append('A', 'Tick')) FROM generate_series(1, 10);
SELECT es_create_projection('old', query => 'INSERT INTO applied SELECT ''old'', position FROM es_batch');
SELECT es_create_projection('idle', query => 'INSERT INTO applied SELECT ''idle'', position FROM es_batch',
                            types => '{Other}');
SELECT es_wait_for_projection('idle');
SELECT es_wait_for_projection('old');
SELECT es_create_projection('bad', max_retries => 0,
    query => 'INSERT INTO applied SELECT ''old'', fail_slowly(position) FROM es_batch');
SQL

# Dropped while a worker is in a batch, which then fails: the id that it knows is that of a
# projection of the new store, by the time it may write down the failure.
$holder = open_session($node, 'again');
$holder->query_safe('SELECT pg_advisory_lock(1)');
one($node, "SELECT es_drop_projection('$_')", 'again') for 'old', 'idle', 'bad';
one($node, 'SELECT es_append($$A$$, $$Tick$$)', 'again');
one($node, 'ALTER SEQUENCE eventstore.projection_ids RESTART', 'again');
one($node, <<'SQL', 'again');
SELECT es_create_projection('bad', max_retries => 0, start_after => es_head() - 1,
    query => 'INSERT INTO applied SELECT ''old'', fail_slowly(position) FROM es_batch')
SQL
await($node, q{SELECT batch_events = 1 FROM eventstore.projections}, 'the query to run', 'again');
my $dropper = open_session($node, 'again');
session_start($dropper, <<'SQL');
SET eventstore.allow_drop = on;
BEGIN;
DROP EXTENSION eventstore;
CREATE EXTENSION eventstore;
SELECT es_create_projection('new', max_retries => 0,
    query => 'INSERT INTO applied SELECT ''new'', position FROM es_batch');
SELECT es_append('A', 'Tick');
COMMIT
SQL
wait_for_wait($node, $dropper, "wait_event_type = 'Lock'");
$holder->query_safe('SELECT pg_advisory_unlock(1)');
is(session_error($dropper, ''), '00000', 'DROP and CREATE EXTENSION while a worker is in a batch');
$holder->quit;
$dropper->quit;
comes_true($node, q{SELECT checkpoint = es_head() FROM eventstore.projections WHERE name = 'new'},
	'the projection of the new store runs', dbname => 'again');
gives($node, 'SELECT projection_id, name, v.state, failures, last_error
              FROM eventstore.projections v JOIN eventstore.projection USING (name)',
	'1|new|running|0|', 'and knows nothing of the errors of the old one', 'again');
gives($node, q{SELECT array_agg(position) FROM applied WHERE store = 'new'},
	'{1}', 'it has applied the one event', 'again');

# Not even what the old one had passed without a match.
$node->safe_psql('again', <<'SQL');
SELECT es_drop_projection('new');
ALTER SEQUENCE eventstore.projection_ids RESTART;
SELECT es_create_projection('passes', types => '{Never}', query => 'SELECT FROM es_batch');
SELECT count(es_append('A', 'Tick')) FROM generate_series(1, 50);
SELECT es_wait_for_projection('passes');
SET eventstore.allow_drop = on;
BEGIN;
DROP EXTENSION eventstore;
CREATE EXTENSION eventstore;
SELECT es_create_projection('new', query => 'INSERT INTO applied SELECT ''newest'', position FROM es_batch');
SELECT count(es_append('A', 'Tick')) FROM generate_series(1, 30);
COMMIT;
SQL
is_applied('new', 'a third store in the same database', 'again');
gives($node, q{SELECT count(*), min(position), max(position) FROM applied WHERE store = 'newest'},
	'30|1|30', 'applies all of its events', 'again');

# With a function of the type es_event, as most have: CASCADE takes all along.
$node->safe_psql('again', <<'SQL');
CREATE FUNCTION note(e es_event) RETURNS void LANGUAGE sql AS
    $$ INSERT INTO applied VALUES ('handler', e.position) $$;
SELECT es_create_projection('handler', 'note');
SQL
is_applied('handler', 'a projection with a handler', 'again');
accepted($node, 'SET eventstore.allow_drop = on; DROP EXTENSION eventstore CASCADE',
	'DROP EXTENSION CASCADE with a handler and its projection', dbname => 'again');
gives($node, q{SELECT count(*) FROM pg_proc WHERE proname = 'note'}, '0', 'both have gone', 'again');

# Under load, again and again: never a deadlock, and the new store works each time.
one($node, 'CREATE DATABASE loop');
my @errors;
for my $round (1 .. 8)
{
	my ($state, $text) = error_of($node, <<'SQL', dbname => 'loop');
SET eventstore.allow_drop = on;
DROP EXTENSION IF EXISTS eventstore;
DROP TABLE IF EXISTS applied;
CREATE EXTENSION eventstore;
CREATE TABLE applied (position bigint);
SELECT es_create_projection('fill' || n, query => 'INSERT INTO applied SELECT position FROM es_batch', batch_size => 1)
FROM generate_series(1, 4) n;
SELECT count(es_append('A', 'Tick')) FROM generate_series(1, 200);
SQL
	push @errors, $text if $state ne '00000';
	await($node, 'SELECT count(*) > 4 FROM applied', "the first events to be applied, round $round", 'loop');
}
is(join("\n", @errors), '', 'DROP EXTENSION between the batches of workers');
is_applied("fill$_", "the last store: projection $_", 'loop') for 1 .. 4;
gives($node, 'SELECT count(*), count(DISTINCT position), max(position) FROM applied',
	'800|200|200', 'each of its projections has applied each event once', 'loop');

# ---- little room ----

# PostgreSQL's own, the launcher, and one more: schedulers and workers of all databases take
# turns.  And shared memory for three projections.
my $small = new_node('small', extension => 0, conf => <<'CONF');
autovacuum = off
max_worker_processes = 3
eventstore.max_projections = 3
CONF
$small->safe_psql('template1', 'SELECT 1');
create_database($small, $_) for 'first', 'second';
for my $dbname ('first', 'second')
{
	$small->safe_psql($dbname, 'SELECT es_append($$A$$, $$Tick$$)');
	gives($small, q{SELECT es_wait_for_projection('fill', timeout => '30 s')},
		't', "one process is enough for all: $dbname", $dbname);
	comes_true($small, 'SELECT recorded_head = head FROM eventstore.status', "and the head is recorded: $dbname",
		dbname => $dbname);
}
$small->safe_psql('second', <<'SQL');
SELECT es_create_projection('sleeper', query => 'SELECT pg_sleep(60) FROM es_batch LIMIT 1');
SQL
await($small, q{SELECT worker_pid IS NOT NULL FROM eventstore.projections WHERE name = 'sleeper'},
	'the sleeper to have the process', 'second');
$small->safe_psql('first', 'SELECT es_append($$A$$, $$Tick$$)');
log_says($small,
	qr/WARNING: .*1 database waits for a background process.*\n.*DETAIL: .*\n.*HINT: .*max_worker_processes/,
	'no worker slot is free: the log says so');
gives($small, <<'SQL', 'waiting for a worker|1|t|t|no worker slot (max_worker_processes)', 'the view shows the lag', 'first');
SELECT state, lag, worker_pid IS NULL, since < now() - interval '9 s', reason FROM eventstore.projections
SQL
gives($small, q{SELECT version FROM es_append('A', 'Tick')}, '3', 'appends go on', 'first');
gives($small, q{SELECT es_run_projection('fill')}, '2', 'a session can run it', 'first');
accepted($small, 'DROP DATABASE second', 'a database less, and its worker');
$small->safe_psql('first', 'SELECT es_append($$A$$, $$Tick$$)');
gives($small, q{SELECT es_wait_for_projection('fill', timeout => '60 s')},
	't', 'a slot is free: a worker comes', 'first');

# What is dropped makes room.
$small->adjust_conf('postgresql.conf', 'max_worker_processes', '12');
$small->restart;
for my $round (1 .. 6)
{
	my $dbname = create_database($small, "brief$round");
	$small->safe_psql($dbname, 'SELECT es_append($$A$$, $$Tick$$)');
	gives($small, q{SELECT es_wait_for_projection('fill', timeout => '30 s')},
		't', "there is room for its projection, time $round", $dbname);
	if ($round % 2)
	{
		$small->safe_psql($dbname, 'SET eventstore.allow_drop = on; DROP EXTENSION eventstore');
	}
	else
	{
		$small->safe_psql('postgres', "DROP DATABASE $dbname");
	}
}
$small->safe_psql('first', q{
SELECT es_create_projection('p' || n, query => 'SELECT FROM es_batch') FROM generate_series(1, 3) n;
SELECT es_append('A', 'Tick');
});
log_says($small, qr/WARNING: .* 1 projections are not run: .*\n.*HINT: .*eventstore\.max_projections/,
	'there really are too many: the log says so');

# ---- settings that are not meant for workers ----

create_database($node, 'hurried');
my %normal = (
	statement_timeout => 0, lock_timeout => 0, idle_in_transaction_session_timeout => 0,
	default_transaction_read_only => 'off', default_transaction_isolation => "read\\ committed",
	search_path => 'public');
my %hurry = (
	statement_timeout => 10, lock_timeout => 10, idle_in_transaction_session_timeout => 10,
	default_transaction_read_only => 'on', default_transaction_isolation => 'serializable',
	search_path => 'nowhere');
if (one($node, q{SELECT count(*) FROM pg_settings WHERE name = 'transaction_timeout'}))
{
	$normal{transaction_timeout} = 0;
	$hurry{transaction_timeout} = 10;
}
one($node, "ALTER DATABASE hurried SET $_ = '$hurry{$_}'") for keys %hurry;
{
	local $ENV{PGOPTIONS} = join ' ', map { "-c $_=$normal{$_}" } keys %normal;

	# a worker that comes after the settings, and one that takes its time
	$node->safe_psql('hurried', <<'SQL');
CREATE FUNCTION takes_time(e es_event) RETURNS void LANGUAGE sql AS $$ SELECT pg_sleep(0.2) $$;
SELECT es_create_projection('takes_time', 'public.takes_time');
SELECT es_append('A', 'Tick') FROM generate_series(1, 3);
SQL
	is_applied('takes_time', 'what ALTER DATABASE says to hurry others does not hurry a worker', 'hurried');
	gives($node, q{SELECT worker_deaths, failures FROM eventstore.projections WHERE name = 'takes_time'},
		'0|0', 'which has neither failed nor died', 'hurried');
}
finish($node, $small);
