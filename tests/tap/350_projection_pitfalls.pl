# Projections in bad company.
#
# A session that holds a projection's lock delays that one alone; a statement repeated
# without pause costs no event, and none comes twice; retries come when they are due.
# Workers are not ended by a cancel that comes too late, and one serves two databases in
# turns; they leave when the extension is dropped.  Places in shared memory are given back
# with the database.  A standby learns of checkpoints of projections that have nothing to
# do.

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

my $node = new_node('pitfalls', allows_streaming => 1, conf => <<'CONF');
autovacuum = off
eventstore.max_projections = 8
eventstore.max_workers = 1
CONF
my $wait = $PostgreSQL::Test::Utils::timeout_default;

sub set_workers
{
	my ($n) = @_;
	$node->safe_psql('postgres', "ALTER SYSTEM SET eventstore.max_workers = $n");
	$node->reload;
	return;
}

# The pids of a database's workers.
sub workers
{
	my ($dbname) = @_;
	return one($node, "SELECT string_agg(pid::text, ' ' ORDER BY pid) FROM pg_stat_activity"
		  . " WHERE backend_type = 'eventstore worker' AND datname = '$dbname'");
}

sub applied
{
	my ($name, $dbname) = @_;
	return one($node, "SELECT es_wait_for_projection('$name', timeout => '$wait s')", $dbname);
}

sub database
{
	my ($name) = @_;
	$node->safe_psql('postgres', "CREATE DATABASE $name");
	$node->safe_psql($name, 'CREATE EXTENSION eventstore');
	$node->safe_psql($name, <<'SQL');
CREATE TABLE applied (projection text, n bigint);
CREATE FUNCTION one(event es_event) RETURNS void LANGUAGE sql AS $$ INSERT INTO applied VALUES ('one', event.position) $$;
CREATE FUNCTION two(event es_event) RETURNS void LANGUAGE sql AS $$ INSERT INTO applied VALUES ('two', event.position) $$;
CREATE FUNCTION nap(event es_event) RETURNS void LANGUAGE sql AS $$ SELECT pg_sleep(0.2) $$;
SQL
	return;
}

# ---- a standby, and projections that have nothing to do ----

database('app');
$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('pitfalls_standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;

one($node, "SELECT es_create_projection('idle', 'one', types => '{Never}')", 'app');
my $last = one($node, <<'SQL', 'app');
SELECT max(position) FROM es_append_events('Idle-1', (SELECT jsonb_agg(jsonb_build_object('type', 'Other')) FROM generate_series(1, 50)))
SQL
is(applied('idle', 'app'), 't', 'a projection passes events that it does not want');
$node->wait_for_catchup($standby);    # it has to know the projection
gives($standby, "SELECT es_wait_for_projection('idle', $last, '30 s')", 't',
	'a standby learns that within some seconds', 'app');
gives($standby, "SELECT checkpoint >= $last, lag FROM eventstore.projections", 't|0',
	'and shows the checkpoint', 'app');
$standby->stop('immediate');
one($node, "SELECT es_drop_projection('idle')", 'app');

# ---- a session that holds a projection's lock ----

# One worker for both.  The held one comes first each time it looks for work.
one($node, "SELECT es_create_projection('held', 'one'), es_create_projection('other', 'two')", 'app');
is(applied('held', 'app') . applied('other', 'app'), 'tt', 'two projections have caught up');
my $session = open_session($node, 'app');
$session->query_safe("BEGIN; SELECT es_alter_projection('held', max_retries => 1, on_error => 'skip')");
for my $n (1 .. 3)
{
	one($node, "SELECT es_append('Held-$n', 'Held')", 'app');
	is(applied('other', 'app'), 't', "while a session holds one, the other goes on: $n");
}
gives($node, "SELECT state, failures, lag > 0, last_error FROM eventstore.projections WHERE name = 'held'",
	'running|0|t|', 'which is no failure of the one that is held', 'app');
$session->query_safe('COMMIT');
$session->quit;
is(applied('held', 'app'), 't', 'it goes on when the session ends');
gives($node, <<'SQL', 't|0', 'and has applied each event once', 'app');
SELECT array_agg(n ORDER BY n) = (SELECT array_agg(position ORDER BY position) FROM eventstore.events),
       (SELECT count(*) FROM eventstore.dead_letters)
FROM applied WHERE projection = 'one'
SQL
one($node, "SELECT es_drop_projection('held'), es_drop_projection('other')", 'app');

# ---- a cancel that comes when the worker is idle ----

my $idle = workers('app');
isnt($idle, '', 'a worker stays');
one($node, "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE backend_type = 'eventstore worker'");
one($node, "SELECT es_create_projection('after', 'one', types => '{After}'); SELECT es_append('After-1', 'After')", 'app');
is(applied('after', 'app'), 't', 'cancelled while idle, it runs the next batch');
is(workers('app'), $idle, 'the same process');
gives($node, "SELECT failures, dead_letters FROM eventstore.projections", '0|0', 'without a failure', 'app');
one($node, "SELECT es_drop_projection('after')", 'app');

# ---- retries of a slow batch ----

one($node, <<'SQL', 'app');
CREATE FUNCTION tries(event es_event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    RAISE LOG 'try at %', extract(epoch FROM clock_timestamp());
    PERFORM pg_sleep(0.2);
    RAISE EXCEPTION 'in vain';
END $$;
SELECT es_create_projection('slow', 'tries', types => '{Slow}', max_retries => 3);
SELECT es_append('Slow-1', 'Slow');
SQL
await($node, "SELECT state = 'stopped' FROM eventstore.projections", 'the projection to stop', 'app');
my @tries = slurp_file($node->logfile) =~ /try at (\d+\.\d+)/g;
is(scalar @tries, 4, 'an event is tried four times');
for my $n (1 .. 3)
{
	my $delay = $tries[$n] - $tries[ $n - 1 ] - 0.2;
	my $due = 0.1 * 2**($n - 1);

	ok($delay >= 0.9 * $due && $delay < $due + 3, "retry $n comes when it is due")
	  or diag("after $delay s instead of $due s");
}
one($node, "SELECT es_drop_projection('slow')", 'app');

# ---- two busy databases, one worker ----

# More than it could do in the time of the test, a fifth of a second each.
database('second');
for my $dbname ('app', 'second')
{
	one($node, "SELECT es_create_projection('naps', 'nap', batch_size => 1, types => '{Nap}')", $dbname);
	one($node, <<'SQL', $dbname);
SELECT count(*) FROM es_append_events('Nap-1', (SELECT jsonb_agg(jsonb_build_object('type', 'Nap')) FROM generate_series(1, 500)))
SQL
}
for my $turn (1, 2)
{
	for my $dbname ('app', 'second')
	{
		my $at = one($node, 'SELECT checkpoint FROM eventstore.projections', $dbname);
		comes_true($node, "SELECT checkpoint > $at AND lag > 0 FROM eventstore.projections",
			"one worker for two busy databases: $dbname goes on, $turn", dbname => $dbname, seconds => 60);
	}
}
one($node, "SELECT es_drop_projection('naps')", $_) for ('app', 'second');
one($node, 'DROP DATABASE second');

# ---- statements without pause while events are appended ----

set_workers(4);
database('busy');
one($node, "SELECT es_create_projection('altered', 'two', mode => 'inline', types => '{Tick}')", 'busy');
my $alters = client($node, 'alters', "SELECT es_alter_projection('altered', batch_size => 1000);\n" x 500, 'busy');
my @appends = map {
	client($node, "appends$_", "SELECT version FROM es_append('Tick-$_', 'Tick');\n" x 1000, 'busy')
} (1, 2);
is(scalar(finish_client($_)), 1000, 'appends go on while a projection is altered all the time') for @appends;
finish_client($alters);
is(slurp_file($_->{err}), '', 'without an error') for ($alters, @appends);
gives($node, <<'SQL', '2000|2000|t', 'each event was applied once', 'busy');
SELECT count(*), count(DISTINCT n),
       array_agg(n ORDER BY n) = (SELECT array_agg(position ORDER BY position) FROM eventstore.events WHERE type = 'Tick')
FROM applied WHERE projection = 'two'
SQL
gives($node, "SELECT state, mode FROM eventstore.projections", 'running|inline', 'and it is still inline', 'busy');

# ---- es_aggregate over many events ----

my $folder = open_session($node, 'busy');
$folder->query_safe(<<'SQL');
CREATE FUNCTION grow(state jsonb, event es_event) RETURNS jsonb LANGUAGE sql
    AS $$ SELECT jsonb_build_object('n', coalesce((state ->> 'n')::int, 0) + 1, 'pad', repeat('x', 20000)) $$;
SELECT count(*) FROM es_append_events('Long-1', (SELECT jsonb_agg(jsonb_build_object('type', 'Long')) FROM generate_series(1, 20000)));
SQL
$folder->quit;
$folder = open_session($node, 'busy');
SKIP:
{
	skip 'no /proc', 2 if !-r "/proc/$folder->{backend}/status";
	my $peak = sub { slurp_file("/proc/$folder->{backend}/status") =~ /VmHWM:\s+(\d+) kB/ ? $1 : die 'no VmHWM' };
	$folder->query_safe("SELECT es_aggregate('Long-1', 'grow', up_to_version => 100) ->> 'n'");
	my $before = $peak->();
	is($folder->query_safe("SELECT es_aggregate('Long-1', 'grow') ->> 'n'"), '20000', '20,000 events are folded');
	cmp_ok($peak->() - $before, '<', 60_000, 'in the memory that a hundred take');
}
$folder->quit;

# ---- the extension is dropped while there is work ----

database('dropped');
one($node, <<'SQL', 'dropped');
SELECT es_create_projection('naps', 'nap', batch_size => 1), es_create_projection('waits', 'one', types => '{Nap}');
SELECT count(*) FROM es_append_events('Nap-1', (SELECT jsonb_agg(jsonb_build_object('type', 'Nap')) FROM generate_series(1, 100)));
SQL
await($node, "SELECT checkpoint > 0 FROM eventstore.projections WHERE name = 'naps'", 'the first event to be applied', 'dropped');
one($node, 'SET eventstore.allow_drop = on; DROP EXTENSION eventstore CASCADE', 'dropped');

# The scheduler is told; a worker that had nothing to do looks after ten seconds.
comes_true($node, <<'SQL', 'the scheduler leaves at once when the store has gone', seconds => 6);
SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'eventstore scheduler' AND datname = 'dropped'
SQL
comes_true($node, <<'SQL', 'and the workers leave', seconds => 60);
SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type LIKE 'eventstore %' AND datname = 'dropped'
SQL

# Nothing to do, and none of the eight places free: what is dropped makes room for others.
one($node, 'CREATE EXTENSION eventstore', 'dropped');
one($node, <<'SQL', 'dropped');
SELECT count(es_create_projection('idle' || n, query => 'SELECT FROM es_batch', types => '{Never}')) FROM generate_series(1, 8) n;
SELECT es_append('A-1', 'T');
SQL
is(one($node, "SELECT bool_and(es_wait_for_projection('idle' || n, timeout => '$wait s')) FROM generate_series(1, 8) n", 'dropped'),
	't', 'eight projections of a new store find eight places');
one($node, 'SET eventstore.allow_drop = on; DROP EXTENSION eventstore', 'dropped');
my $begun = time;
my $found = '';
while ($found ne 't' && time - $begun < $wait)
{
	# made anew each time: a scheduler that finds no room tries again when something changes
	$found = one($node, <<'SQL', 'app');
SELECT es_create_projection('finds', query => 'SELECT FROM es_batch', types => '{Never}');
SELECT es_append('A-1', 'T');
SELECT es_wait_for_projection('finds', timeout => '300 ms');
SELECT es_drop_projection('finds');
SQL
	$found = $found =~ /^t$/m ? 't' : 'f';
}
is($found, 't', 'when the extension is dropped, others find room');
cmp_ok(time - $begun, '<', 6, 'and find it at once');

# ---- places of a database that is dropped ----

# Eight places; two more databases with five projections each would not find any.
for my $round (1 .. 3)
{
	my $dbname = "gone$round";
	database($dbname);
	one($node, "SELECT es_create_projection('p' || n, 'one') FROM generate_series(1, 5) n; SELECT es_append('Gone-1', 'T')", $dbname);
	is(join('', map { applied("p$_", $dbname) } 1 .. 5), 'ttttt', "five projections find places, database $round");
	one($node, "DROP DATABASE $dbname");
}

finish($node, $standby);
