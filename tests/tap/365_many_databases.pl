# More databases than there are processes for them.
#
# On a server with eight slots sixty databases are served in the order in which they began to
# wait: a handler that does not end, databases that are never done and one that is dropped hold
# nobody up, and what waits says so.  On a server where one process is all that there is, for twenty
# databases, every event is applied once and every head recorded, through all that may happen to
# a process, a store and a database.  In a database at rest a commit wakes who waits and who
# listens.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use EventStore;
use List::Util qw(max shuffle);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ReadModels;
use Test::More;
use Time::HiRes qw(time usleep);

# Long enough for a busy machine: a failure, not a measure.
my $patience = 2 * $PostgreSQL::Test::Utils::timeout_default;
my $seed = parameter('SEED', 1);
srand($seed);

# ---- many databases ----

# A database with a store and two projections that note what they are given.  No key: what was
# applied twice is there twice.
my $template = <<'SQL';
CREATE EXTENSION eventstore;
CREATE TABLE applied (projection text, position bigint, at timestamptz DEFAULT clock_timestamp());
SELECT es_create_projection(p, query => format('INSERT INTO applied SELECT %L, position FROM es_batch', p))
FROM unnest('{p1,p2}'::text[]) p;
SQL

sub make_databases
{
	my ($node, @names) = @_;
	my $begun = time;

	one($node, 'CREATE DATABASE model');
	one($node, $template, 'model');
	one($node, join "\n", map { "CREATE DATABASE $_ TEMPLATE model;" } @names);
	note(sprintf '%s: %d databases made in %.1f s', $node->name, scalar @names, time - $begun);
	return @names;
}

# Statements in each of these databases, one after the other.  The lines that they give.
sub in_each
{
	my ($node, $sql, @names) = @_;
	return split /\n/, one($node, join '', map { "\\connect $_\n" . $sql =~ s/:DB/$_/gr . ";\n" } @names);
}

# An event more in each, in an order of its own; the server's log says when.
sub append_in_each
{
	my ($node, @names) = @_;
	in_each($node, <<'SQL', shuffle(@names));
DO $$ BEGIN RAISE LOG 'appending to :DB'; END $$;
SELECT FROM es_append('Load-1', 'Tick')
SQL
	return;
}

# In which of these databases has a projection not applied all events, or one twice, or is the
# head not recorded?  Only tables are looked at: it does not bring a database to anybody's mind.
sub not_served
{
	my ($node, @names) = @_;
	return grep { !/\|t$/ } in_each($node, <<'SQL', @names);
SELECT ':DB', applied, positions, log, recorded, applied = positions AND positions = log AND recorded >= head
FROM (SELECT count(*), count(DISTINCT (projection, position)) FROM applied WHERE projection IN ('p1', 'p2')) a (applied, positions),
     (SELECT 2 * count(*), coalesce(max(position), 0) FROM eventstore.event_log) e (log, head),
     (SELECT head FROM eventstore.mark) m (recorded)
SQL
}

# An assertion that they all are served.
sub all_served
{
	my ($node, $name, @names) = @_;
	my $begun = time;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	my @left;
	while ((@left = not_served($node, @names)) && time < $begun + $patience)
	{
		@names = map { s/\|.*//r } @left;
		usleep(100_000);
	}
	note(sprintf '%s: %.1f s', $name, time - $begun);
	return is(join("\n", @left), '', "$name: each applied once, each head recorded");
}

# ---- what the processes are ----

# A projection that waits until the test lets it go: see hold().
my $held = <<'SQL';
SELECT es_create_projection('held' || n, start_after => es_head(), query => format(
    'WITH h AS MATERIALIZED (SELECT pg_advisory_xact_lock_shared(1))
     INSERT INTO applied SELECT %L, position FROM es_batch, h', 'held' || n))
FROM generate_series(1, $count) n
SQL

# A session that keeps the held projections of a database in their batches.
sub hold
{
	my ($node, $dbname, $count) = @_;
	my $holder = open_session($node, $dbname);

	$holder->set_query_timer_restart;    # it stays for long
	$holder->query_safe('SELECT pg_advisory_lock(1)');
	one($node, $held =~ s/\$count/$count/r, $dbname);
	return $holder;
}

# The workers that are held there.
sub held_pids
{
	my ($node, $dbname) = @_;
	return split /\n/, one($node, <<"SQL");
SELECT pid FROM pg_stat_activity
WHERE datname = '$dbname' AND backend_type = 'eventstore worker' AND wait_event = 'advisory'
SQL
}

sub await_held
{
	my ($node, $dbname, $count, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok(wait_until(sub { held_pids($node, $dbname) == $count }, "$count workers in $dbname"), $name);
}

# What eventstore.status says of why each of these databases waits, and eventstore.projections: the
# different answers.
sub why_they_wait
{
	my ($node, @names) = @_;
	my %answers = map { $_ => 1 } in_each($node, <<'SQL', @names);
SELECT string_agg(DISTINCT format('%s, %s, %s, %s, %s', p.state, p.reason, s.background, s.worker_shortage,
    CASE WHEN p.since = s.waiting_since AND p.since <= clock_timestamp() THEN 'since then' ELSE format('since %s, not %s', p.since, s.waiting_since) END), '; ')
FROM eventstore.status s, eventstore.projections p
SQL
	return join "\n", sort keys %answers;
}

# ---- the order in which databases are served ----

# What the server's log tells from there on: "append NAME", and "scheduler NAME" or "worker NAME"
# for a process that was started, in that order.
sub history
{
	my ($node, $since) = @_;
	my %name_of = map { split /\|/ } split /\n/, one($node, 'SELECT oid, datname FROM pg_database');
	my @history;

	for (split /\n/, slurp_file($node->logfile, $since))
	{
		push @history, [ append => $1 ] if /LOG:  appending to (\w+)$/;
		push @history, [ $1 => $name_of{$2} // "dropped" ]
		  if /starting background worker process "eventstore (\w+) for database (\d+)"/;
	}
	return @history;
}

# Between the first append to each of these databases and the first process, or the first of a
# kind, that was started for it: which other one got most processes, and how many.
sub waits
{
	my ($history, $kind, @names) = @_;
	my @waits;

	for my $name (@names)
	{
		my (%got, $waits);

		for (@$history)
		{
			my ($what, $whose) = @$_;
			if ($what eq 'append') { $waits //= 1 if $whose eq $name; next; }
			next unless $waits && $what =~ /$kind/;
			if ($whose eq $name) { $waits = 2; last; }
			$got{$whose}++;
		}
		my ($most) = sort { $got{$b} <=> $got{$a} || $a cmp $b } keys %got;
		push @waits, { name => $name, most => $most // '', got => $most ? $got{$most} : 0 } if ($waits // 0) == 2;
	}
	return @waits;
}

# Nobody got more than so many while somebody waited.  Who waits longest is next, and who has been
# served waits behind all others: so each other database gets a scheduler and a worker at most, and
# one process that was on its way.  A worker is waited for in two turns, for the scheduler finds what
# is due: so each other database gets two, and one that was on its way.
sub fair
{
	my ($history, $kind, $bound, $name, @names) = @_;
	my @waits = waits($history, $kind, @names);
	my ($worst) = sort { $b->{got} <=> $a->{got} } @waits;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return fail("$name: nobody waited") unless $worst;
	note(sprintf '%s: %d waited; %s got %d while %s waited', $name, scalar @waits, @$worst{qw(most got name)});
	return cmp_ok($worst->{got}, '<=', $bound, $name)
	  || diag(map { "$_->{most} got $_->{got} while $_->{name} waited\n" } @waits);
}

# ---- eight slots: a queue of sixty ----

my $many = new_node('many', extension => 0, conf => <<'CONF');
autovacuum = off
max_worker_processes = 8
eventstore.projection_timeout = 0
# The postmaster tells which processes it starts.
log_min_messages = debug1
CONF

sub set
{
	my ($node, $name, $value) = @_;
	return one($node, "ALTER SYSTEM SET $name = $value; SELECT pg_reload_conf()");
}

my @names = make_databases($many, 'hog', map { sprintf 'd%02d', $_ } 1 .. parameter('DATABASES', 60));
shift @names;

# A database alone has all workers; who comes then waits for one, and says so.
my $holder = hold($many, 'hog', 8);
append_in_each($many, 'hog');
await_held($many, 'hog', 4, 'nobody else waits: a database has all workers');
my @early = @names[ 0 .. 3 ];
append_in_each($many, @early);
my $by_workers = qr/^(?:waiting for a worker, no worker slot \(eventstore\.max_workers\), (?:awake|waiting for a process), eventstore\.max_workers, since then\n?)+$/;
wait_until(sub { why_they_wait($many, @early) =~ $by_workers }, 'four databases to wait for a worker');
like(why_they_wait($many, @early), $by_workers, 'no worker is free: the views of those who wait say so');
is(scalar(not_served($many, @early)), 4, 'nothing is applied');

# With as many workers as it likes, all processes: but not before the four.  Those it had are asked to
# make way, and cannot; who has nothing more to do leaves at once all the same.
my $begun = time;
set($many, 'eventstore.max_workers', 8);
await_held($many, 'hog', 6, 'it has all processes');
my $took = time - $begun;
cmp_ok($took, '<', 10, sprintf 'those of the others leave as soon as they are idle: after %.1f s', $took);
all_served($many, 'who waited before', @early);

# All wait now.  The launcher comes to know all of them at once: who was first is first all the same.
my $queued = -s $many->logfile;
my ($stopped) = pids_of($many, 'launcher');
kill 'STOP', $stopped;
append_in_each($many, @names);
kill 'CONT', $stopped;
append_in_each($many, @names);
my $by_processes = 'waiting for a worker, no worker slot (max_worker_processes), waiting for a process, max_worker_processes, since then';
wait_until(sub { why_they_wait($many, @names) eq $by_processes }, 'all databases to wait for a process');
is(why_they_wait($many, @names), $by_processes, 'no process is free: the views of sixty databases say so');
is(scalar(not_served($many, @names)), scalar(@names), 'nothing is applied, nothing recorded');
my $starves = qr/WARNING: .* databases wait for a background process of eventstore.*\n.*DETAIL: .*\n.*HINT: .*max_worker_processes/;
log_says($many, $starves, 'after ten seconds the log says so');

# One that waits is dropped; one has a handler that sleeps, and always more to do.
my $slow = pop @names;
one($many, <<'SQL', $slow);
SELECT es_create_projection('sleeper', query => 'SELECT pg_sleep(3) FROM es_batch LIMIT 1', batch_size => 1);
SELECT count(es_append('Load-2', 'Tick')) FROM generate_series(1, 30);
SQL
my $dropped = pop @names;
accepted($many, "DROP DATABASE $dropped", 'DROP DATABASE of one that waits');

# Meanwhile the other server is made.
my $three = new_node('three', extension => 0, allows_streaming => 1, conf => <<'CONF');
autovacuum = off
max_worker_processes = 3
max_connections = 40
restart_after_crash = on
eventstore.projection_timeout = 0
eventstore.scavenge_interval = 1s
CONF
my @few = make_databases($three, map { sprintf 't%02d', $_ } 1 .. 20);

# Twice as long as it takes to be said: it is not said again.
await($many, q{SELECT waiting_since < clock_timestamp() - interval '22 s' FROM eventstore.status}, 'them to wait for long', $names[0]);
my $released = -s $many->logfile;
$begun = time;
$holder->query_safe('SELECT pg_advisory_unlock(1)');
$holder->quit;
all_served($many, 'sixty databases that waited', @names);
$took = time - $begun;
cmp_ok($took, '<', 60, sprintf 'within a bounded time: %.1f s', $took);
gives($many, q{SELECT checkpoint < es_head() FROM eventstore.projections WHERE name = 'sleeper'}, 't',
	'while the handler that sleeps has more to do', $slow);
gives($many, q{SELECT count(*), count(DISTINCT position) FROM applied WHERE projection LIKE 'held%'}, '8|1',
	'what was held goes on', 'hog');
accepted($many, "DROP DATABASE $slow", 'DROP DATABASE of one whose handler sleeps');

# The first process for each comes in the order of the appends, whatever was appended later.  There
# are six processes: so many that can be had at once come in any order.
my @history = history($many, $queued);
my %is_one = map { $_ => 1 } @names;
my (%appended, %started);
my @appended = grep { $is_one{$_} && !$appended{$_}++ } map { $_->[1] } grep { $_->[0] eq 'append' } @history;
my @started = grep { $is_one{$_} && !$started{$_}++ } map { $_->[1] } grep { $_->[0] ne 'append' } @history;
my %place = map { $appended[$_] => $_ } 0 .. $#appended;
my $off = max(map { abs $place{ $started[$_] } - $_ } 0 .. $#started);
cmp_ok($off, '<=', 5, "longest waiting first: each is served within $off places of its own")
  || diag("appended: @appended\nstarted: @started");
fair(\@history, '.', 3, 'before its first process', @names);
fair(\@history, 'worker', 3, 'before its first worker', @names);

# ---- eight slots: some are never done ----

one($many, 'ALTER SYSTEM RESET eventstore.max_workers; SELECT pg_reload_conf()');
my @busy = @names[ 0 .. 5 ];
my @quiet = @names[ 6 .. 17 ];
my $wave = -s $many->logfile;
in_each($many, <<'SQL', @busy);
SELECT es_create_projection(p, query => 'SELECT pg_sleep(0.02) FROM es_batch', batch_size => 1, start_after => es_head())
FROM unnest('{busy1,busy2}'::text[]) p;
SELECT count(es_append('Busy', 'Tick')) FROM generate_series(1, 3000)
SQL
await($many, <<'SQL', 'the busy databases to have all workers');
SELECT count(*) = 4 FROM pg_stat_activity WHERE backend_type = 'eventstore worker' AND state = 'active'
SQL
for my $round (1 .. 3)
{
	my $since = -s $many->logfile;
	append_in_each($many, @quiet);
	all_served($many, "beside six that are never done, round $round", @quiet);
	@history = history($many, $since);
	fair(\@history, '.', 3, "round $round: before its first process", @quiet);
	fair(\@history, 'worker', 3, "round $round: before its first worker", @quiet);
}
my %workers;
$workers{ $_->[1] }++ for grep { $_->[0] eq 'worker' } history($many, $wave);
cmp_ok($workers{$_}, '>=', 2, "$_ was served $workers{$_} times meanwhile") for @busy;
is_deeply([ in_each($many, q{SELECT DISTINCT checkpoint < es_head() FROM eventstore.projections WHERE name LIKE 'busy%'}, @busy) ],
	[ ('t') x @busy ], 'and is not done');
accepted($many, "DROP DATABASE $_", "DROP DATABASE $_, which is busy") for @busy;
@names = @names[ 6 .. $#names ];

# ---- at rest: who waits, who listens ----

my @resting = @names[ 0 .. 3 ];
my $rests = q{SELECT background || ' ' || (scheduler_pid IS NULL) FROM eventstore.status};
await($many, $rests, "$_ to be at rest", $_, 'at rest true') for @resting;
for my $dbname (@resting)
{
	my $waiter = open_session($many, $dbname);
	my $listener = open_session($many, $dbname);

	my $appender = open_session($many, $dbname);

	$listener->query_safe('LISTEN eventstore');
	$appender->query_safe('BEGIN');
	my $position = $appender->query_safe(q{SELECT position FROM es_append('Wait-1', 'Tick')});
	session_start($waiter, qq{SELECT waited, extract(epoch FROM clock_timestamp())
FROM (SELECT es_wait($position, '30 s') AS waited OFFSET 0) w});
	wait_for_wait($many, $waiter);
	gives($many, $rests, 'at rest true', "$dbname is at rest, while one waits and one listens", $dbname);

	# Who is not woken looks after a second.
	my $at = $appender->query_safe('SELECT extract(epoch FROM clock_timestamp())');
	$appender->query_safe('COMMIT');
	my ($waited, $until) = split /\|/, $waiter->query_safe('');
	is($waited, 't', "$dbname: es_wait() ends");
	cmp_ok($until - $at, '<', 0.5, sprintf "%s: after %.0f ms", $dbname, 1000 * ($until - $at));
	my $heard = '';
	wait_until(sub { $heard .= $listener->query('SELECT'); $heard =~ /Asynchronous/ }, 'a notification');
	like($heard, qr/notification "eventstore" with payload "$position" received/, "$dbname: the listener is told the head");
	$_->quit for $waiter, $listener, $appender;
}
all_served($many, 'what was at rest', @names);

# ---- one process for twenty databases ----

append_in_each($three, @few) for 1 .. 2;
all_served($three, 'one process for all', @few);

# All have something to do while something happens to one, and afterwards one more.
sub beside
{
	my ($name, $happens) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	append_in_each($three, @few);
	$happens->();
	append_in_each($three, @few);
	return all_served($three, $name, @few);
}

# ---- one process: extensions ----

one($three, 'CREATE DATABASE plain');
beside('CREATE and DROP EXTENSION', sub {
	one($three, "BEGIN;\n$template;\nSELECT es_append('A', 'Never');\nROLLBACK", 'plain');
	one($three, $template, 'plain');
	push @few, 'plain';

	one($three, <<'SQL', 't01');
SET eventstore.allow_drop = on;
BEGIN;
DROP EXTENSION eventstore;
ROLLBACK;
SQL
	one($three, <<"SQL", 't02');
SET eventstore.allow_drop = on;
BEGIN;
DROP EXTENSION eventstore;
DROP TABLE applied;
$template;
SELECT es_append('A', 'Tick');
COMMIT;
SQL
	one($three, 'SET eventstore.allow_drop = on; DROP EXTENSION eventstore', 't03');
	@few = grep { $_ ne 't03' } @few;
});
comes_true($three, <<'SQL', 'DROP EXTENSION: nobody stays', dbname => 't03');
NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = 't03' AND backend_type LIKE 'eventstore%')
SQL

# ---- one process: databases ----

beside('DROP, RENAME and CREATE DATABASE', sub {
	accepted($three, 'DROP DATABASE t04', 'DROP DATABASE');
	accepted($three, 'ALTER DATABASE t05 RENAME TO renamed', 'RENAME');
	accepted($three, 'CREATE DATABASE copy TEMPLATE t06', 'CREATE DATABASE TEMPLATE, with a log');
	refused($three, 'CREATE DATABASE copy TEMPLATE t07', '42P04', 'CREATE DATABASE TEMPLATE that fails');
	@few = ('renamed', 'copy', grep { $_ !~ /t04|t05/ } @few);
});
gives($three, 'SELECT count(DISTINCT position) > 4 FROM applied', 't', 'the copy has a log', 'copy');

# ---- one process: it is ended ----

# The scheduler while it waits for a lock, to record the head.
my $locker = open_session($three, 't08');
beside('pg_terminate_backend of a scheduler', sub {
	$locker->query_safe($_) for 'BEGIN', 'LOCK eventstore.mark IN EXCLUSIVE MODE';
	one($three, q{SELECT es_append('A', 'Tick')}, 't08');
	my $scheduler = q{SELECT %s FROM pg_stat_activity
WHERE datname = 't08' AND backend_type = 'eventstore scheduler' AND wait_event_type = 'Lock'};
	await($three, sprintf($scheduler, 'count(*) = 1'), 'the scheduler to wait for a lock');
	gives($three, sprintf($scheduler, 'pg_terminate_backend(pid)'), 't', 'the scheduler is terminated');
	$locker->query_safe('COMMIT');
});
$locker->quit;

beside('pg_terminate_backend of a worker in a batch', sub {
	$holder = hold($three, 't09', 1);
	one($three, q{SELECT es_append('A', 'Tick')}, 't09');
	await_held($three, 't09', 1, 'a worker in a batch');
	one($three, 'SELECT pg_terminate_backend(' . (held_pids($three, 't09'))[0] . ')');
	$holder->query_safe('SELECT pg_advisory_unlock(1)');
});
$holder->quit;
my $held_once = q{(SELECT array_agg(position ORDER BY position) FROM applied WHERE projection = 'held1')
    = (SELECT array_agg(position ORDER BY position) FROM eventstore.event_log
       WHERE position > (SELECT start_after FROM eventstore.projection WHERE name = 'held1'))};
comes_true($three, $held_once, 'its batch is applied later, once', dbname => 't09');

my ($launcher) = pids_of($three, 'launcher');
beside('pg_terminate_backend of the launcher', sub {
	one($three, "SELECT pg_terminate_backend($launcher)");
});
isnt((pids_of($three, 'launcher'))[0], $launcher, 'there is another launcher');

# What was appended before the crash is applied, and recorded, without another append.
$holder = hold($three, 't10', 1);
one($three, q{SELECT es_append('A', 'Tick')}, 't10');
await_held($three, 't10', 1, 'a worker in a batch again');
append_in_each($three, @few);
my ($killed) = held_pids($three, 't10');
kill 'KILL', $killed;
wait_for_restart($three, $killed);
vanish($holder);
all_served($three, 'kill -9', @few);
comes_true($three, $held_once, 'the batch of who was killed is applied once', dbname => 't10');

append_in_each($three, @few);
$three->stop('immediate');
$three->start;
all_served($three, 'immediate stop and start', @few);

# ---- one process: projections, an empty store ----

my $before;
beside('projections', sub {
	one($three, q{SELECT es_create_projection('p3', query => 'INSERT INTO applied SELECT ''p3'', position FROM es_batch')}, 't11');
	one($three, q{SELECT es_pause_projection('p1')}, 't12');
	$before = one($three, q{SELECT count(*) FROM applied WHERE projection = 'p1'}, 't12');
	@few = grep { $_ ne 't12' } @few;
	one($three, q{SELECT es_append('A', 'Tick')}, 't12');

	# fails three times
	one($three, <<'SQL', 't13');
CREATE SEQUENCE tries;
CREATE FUNCTION fails() RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('tries') <= 3 THEN
        RAISE 'not yet';
    END IF;
    RETURN 1;
END $$;
SELECT es_create_projection('fails', start_after => es_head(), query =>
    'WITH f AS MATERIALIZED (SELECT fails()) INSERT INTO applied SELECT ''fails'', position FROM es_batch, f');
SELECT es_append('A', 'Tick');
SQL
	one($three, 'SET eventstore.allow_drop = on; SELECT es_reset(); TRUNCATE applied', 't15');
});
my $all_by = q{(SELECT count(*) FROM applied WHERE projection = '%s') = (SELECT count(*) FROM eventstore.event_log)};
comes_true($three, sprintf($all_by, 'p3'), 'one that was created has applied all', dbname => 't11');
comes_true($three, sprintf($all_by, 'p2'), 'beside one that is paused another goes on', dbname => 't12');
gives($three, q{SELECT count(*) FROM applied WHERE projection = 'p1'}, $before, 'it does not', 't12');
one($three, q{SELECT es_resume_projection('p1')}, 't12');
push @few, 't12';
all_served($three, 'resumed', @few);
comes_true($three, q{(SELECT array_agg(position ORDER BY position) FROM applied WHERE projection = 'fails')
    = (SELECT array_agg(position ORDER BY position) FROM eventstore.event_log
       WHERE position > (SELECT start_after FROM eventstore.projection WHERE name = 'fails'))},
	'one that fails is tried again', dbname => 't13');
gives($three, 'SELECT last_value > 3 FROM tries', 't', 'it had failed', 't13');

# ---- one process: all at rest ----

await($three, $rests, "$_ to be at rest", $_, 'at rest true') for @few;
my $stored = q{SELECT count(*) FROM eventstore.event_log JOIN eventstore.stream USING (stream_key) WHERE name = '%s'};
one($three, q{SELECT es_append('Kept-1', 'Tick')}, $_) for 't16', 't17', 't18';
all_served($three, 'before events are hidden', @few);
await($three, $rests, "$_ to be at rest", $_, 'at rest true') for 't16', 't17', 't18';
one($three, q{SELECT es_delete_stream('Load-1')}, 't16');
one($three, q{SELECT es_set_retention('Load', max_age => '3 s')}, 't17');
one($three, q{BEGIN; SELECT es_delete_stream('Load-1'); PREPARE TRANSACTION 'deletes'}, 't18');
await($three, sprintf($stored, 'Load-1'), 'the events of a deleted stream to be removed', 't16', '0');
await($three, sprintf($stored, 'Load-1'), 'events to become old and be removed', 't17', '0');
one($three, q{COMMIT PREPARED 'deletes'}, 't18');
await($three, sprintf($stored, 'Load-1'), 'those of a prepared transaction to be removed', 't18', '0');
gives($three, sprintf($stored, 'Kept-1'), '1', "$_: hidden events are removed at rest, and no other", $_) for 't16', 't17', 't18';
@few = grep { !/t1[678]/ } @few;

# Others take the one process for a parallel query, which does not wait for it: so at rest.
my $parallel = open_session($three);
$parallel->query_safe(sprintf 'SET %s = on', one($three, q{SELECT name FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query')}));
my $parallel_worker = q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'parallel worker' AND wait_event = 'PgSleep'};
wait_until(sub {
	await($three, $rests, "$_ to be at rest", $_, 'at rest true') for 't18', @few;
	session_start($parallel, 'SELECT pg_sleep(3600)');
	wait_for_wait($three, $parallel, q{wait_event IN ('PgSleep', 'ExecuteGather', 'BgWorkerShutdown')});
	return 1 if one($three, $parallel_worker) == 1;
	one($three, "SELECT pg_cancel_backend($parallel->{backend})");
	$parallel->query('');
	return 0;
}, 'a parallel query to take the process');
append_in_each($three, @few);
wait_until(sub { why_they_wait($three, @few) eq $by_processes }, 'all to wait');
is(why_they_wait($three, @few), $by_processes, 'others use all processes: the views say so');
is(scalar(not_served($three, @few)), scalar(@few), 'nothing is applied');
gives($three, $parallel_worker, '1', 'the process still is theirs');
one($three, "SELECT pg_cancel_backend($parallel->{backend})");
is(session_error($parallel, ''), '57014', 'they let it go');
all_served($three, 'processes used up by others and freed', @few);
$parallel->quit;

# ---- one process: a standby is promoted ----

$three->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($three, 'base', has_streaming => 1);
$standby->start;
append_in_each($three, @few);
$three->wait_for_catchup($standby, 'replay', $three->lsn('insert'));
$three->stop('immediate');
$standby->promote;
all_served($standby, 'promoted: what was not applied before', @few);
append_in_each($standby, @few);
all_served($standby, 'promoted: what is appended', @few);
sound($standby, "promoted: $_ is sound", $_) for @few[ 0 .. 2 ];

# ---- the log has not complained all the time ----

log_says($many, qr/LOG: .*no database waits for a background process/, 'eight slots: a minute later the log says that it is over', $released);
my $log = slurp_file($many->logfile);
is(scalar(() = $log =~ /WARNING: .* for a background process/g), 1, 'it has said once that databases wait,');
is(scalar(() = $log =~ /LOG: .* for a background process/g), 1, 'and once that none does any more');

finish($many, $three, $standby);
