# How the background processes are woken, and how they leave.
#
# An event that is appended in the moment in which a scheduler leaves is not forgotten, and
# neither is what happens while a statement holds a database.  A commit wakes a worker, and
# whoever waits for a projection; a projection made in a database at rest is run.  Where one
# process is all that there is, who has it makes way, however much it has to do, and who waits
# behind others gets its turn.
#
# The moments are short.  Mutants (tests/mutants) make them long: a scheduler waits there for an
# advisory lock of its database, and an append by "test/slow" until its scheduler has left.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use EventStore;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $recorded = 'SELECT recorded_head = head AND head = handed_out FROM eventstore.status';
my $applied_once = <<'SQL';
SELECT array_agg(position ORDER BY position) = (SELECT array_agg(position ORDER BY position) FROM eventstore.event_log)
FROM applied
SQL

sub make_databases
{
	my ($node, @names) = @_;

	one($node, 'CREATE DATABASE model');
	one($node, <<'SQL', 'model');
CREATE EXTENSION eventstore;
CREATE TABLE applied (position bigint);
SELECT es_create_projection('fill', query => 'INSERT INTO applied SELECT position FROM es_batch');
SQL
	one($node, join "\n", map { "CREATE DATABASE $_ TEMPLATE model;" } @names);
	return;
}

sub append
{
	my ($node, $dbname) = @_;
	return one($node, q{SELECT position FROM es_append('A', 'Tick')}, $dbname);
}

my $node = new_node('leaving', extension => 0, conf => "autovacuum = off\n");
make_databases($node, qw(leaves slow rests awake held));
one($node, q{SELECT es_drop_projection('fill')}, $_) for 'leaves', 'slow', 'rests';
append($node, $_) for qw(leaves rests slow held);

# The scheduler of one is not let go; an append to another ends only when its scheduler has left.
my $holder = open_session($node, 'leaves');
$holder->query_safe('SELECT pg_advisory_lock(2)');
my $slow;
comes_true($node, $recorded, 'there is a scheduler, and nothing to do for it', dbname => 'slow');
{
	local $ENV{PGAPPNAME} = 'test/slow';
	$slow = client($node, 'slow', q{SELECT position FROM es_append('A', 'Tick')}, 'slow');
}

# ---- a statement that holds a database ----

# It fails after five seconds, for somebody is connected to the database.  Its scheduler is
# ended before.
my $guest = open_session($node, 'held');
my $pid = wait_for_scheduler($node, 'held');
my $renames = client($node, 'renames', 'ALTER DATABASE held RENAME TO other');
await($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid", 'the scheduler to be ended');
is($guest->query_safe('SELECT background FROM eventstore.status'), 'held by a statement', 'a statement holds a database');
$guest->query_safe(q{SELECT * FROM es_append('A', 'Tick')});

# ---- awake: a commit wakes ----

# Who waits for a clock waits for a second.
my $session = open_session($node, 'awake');
my $reached = '';
my $begun;
for my $n (0 .. 20)
{
	$begun = time if $n == 1;    # the first has a worker started
	$session->query_safe(q{SELECT * FROM es_append('A', 'Tick')});
	$reached .= $session->query_safe(q{SELECT es_wait_for_projection('fill', timeout => '20 s')});
	last if $n > 0 && time - $begun > 20;
}
my $took = time - $begun;
is($reached, 't' x 21, 'commit, applied');
cmp_ok($took, '<', 5, sprintf('a commit wakes a worker, and that who waits: %.1f ms on average', 50 * $took));
gives($node, $applied_once, 't', 'each is applied once', 'awake');
$session->quit;

# ---- a scheduler that leaves ----

await($node, <<'SQL', 'the scheduler to leave, or to be about to', 'leaves');
SELECT background = 'at rest' OR wait_event = 'advisory'
FROM eventstore.status LEFT JOIN pg_stat_activity ON pid = scheduler_pid
SQL
append($node, 'leaves');
$holder->query_safe('SELECT pg_advisory_unlock(2)');
$holder->quit;
comes_true($node, $recorded, 'an append while the scheduler leaves: its event is seen', dbname => 'leaves', seconds => 15);

is(scalar(finish_client($slow)), 1, 'an append that takes so long as to see it leave');
comes_true($node, $recorded, 'its event is seen, too', dbname => 'slow', seconds => 15);

# ---- what has been held ----

$renames->{run}->finish;
like(slurp_file($renames->{err}), qr/is being accessed by other users/, 'the statement that held a database has failed');
comes_true($node, $recorded, 'the event that came meanwhile is seen', dbname => 'held', seconds => 15);
comes_true($node, 'SELECT count(*) = 2 FROM applied', 'and applied', dbname => 'held', seconds => 15);
$guest->quit;

# ---- at rest ----

await($node, q{SELECT background = 'at rest' FROM eventstore.status}, 'a database to be at rest', 'rests');
one($node, <<'SQL', 'rests');
SELECT es_create_projection('new', query => 'INSERT INTO applied SELECT position FROM es_batch');
SQL
comes_true($node, $applied_once, 'a new projection in a database at rest is run', dbname => 'rests', seconds => 15);

# ---- one process ----

# The server's own, the launcher, and one more.  The log tells which processes are started.
my $small = new_node('small', extension => 0, conf => <<'CONF');
autovacuum = off
max_worker_processes = 3
log_min_messages = debug1
CONF
my @waiting = qw(b c d);
make_databases($small, 'a', @waiting);

# Each process that was started since the log was so long: "scheduler NAME", "worker NAME".
sub started
{
	my ($since) = @_;
	my %name_of = map { split /\|/ } split /\n/, one($small, 'SELECT oid, datname FROM pg_database');
	return map { /process "eventstore (\w+) for database (\d+)"/ ? "$1 $name_of{$2}" : () }
	  grep { /starting background worker/ } split /\n/, slurp_file($small->logfile, $since);
}

# Each event is seen and applied, soon.
sub served
{
	my ($dbname, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return comes_true($small, $recorded, "$what: the event of $dbname is seen", dbname => $dbname)
	  && comes_true($small, $applied_once, "$what: and applied", dbname => $dbname);
}

append($small, $_) for @waiting;
served($_, 'one process for all') for @waiting;

# All wait for the one process, and want it twice: for a scheduler, and for a worker.
$holder = open_session($small, 'a');
$holder->query_safe('SELECT pg_advisory_lock(1)');
one($small, <<'SQL', 'a');
CREATE TABLE passed (position bigint);
SELECT es_create_projection('holds', query => 'WITH h AS MATERIALIZED (SELECT pg_advisory_xact_lock_shared(1))
    INSERT INTO passed SELECT position FROM es_batch, h')
SQL
append($small, 'a');
await($small, <<'SQL', 'a worker to have the process');
SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'eventstore worker' AND wait_event = 'advisory'
SQL
my $since = -s $small->logfile;
append($small, $_) for @waiting;
await($small, q{SELECT background IN ('starting', 'waiting for a process') FROM eventstore.status}, "$_ to wait", $_) for @waiting;
$holder->query_safe('SELECT pg_advisory_unlock(1)');
$holder->quit;
served($_, 'who has waited') for @waiting;
my @order = map { (split)[1] } grep { / [bcd]$/ } started($since);
is(join(' ', sort @order[0 .. $#waiting]), "@waiting", 'who has been served goes behind the others');

# There is always something to do for a scheduler and a worker of one database.
my $busy = client($small, 'busy_for_long', qq{SELECT * FROM es_append('B', 'Tick'); SELECT pg_sleep(0.01);\n} x 50_000, 'a');
await($small, q{SELECT count(*) > 100 FROM applied}, 'a database to be busy', 'a');
for my $dbname (@waiting, @waiting)
{
	append($small, $dbname);
	served($dbname, 'beside one that always has something to do') or last;
}
$busy->{run}->kill_kill;
$busy->{run}->finish;
served('a', 'the busy one');

finish($node, $small);
