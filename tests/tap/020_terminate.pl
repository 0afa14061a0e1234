# Appenders and readers that are interrupted.
#
# Whoever has appended and not yet committed holds the head back, and eventstore.blockers
# says so.  However such a transaction ends (cancelled, terminated, timed out, its client
# gone), the head moves on, nothing of it is left, and no slot stays taken.  A stopped
# appender delays readers, not writers.  A waiting reader that is interrupted leaves no
# trace either: the scheduler is not woken on its behalf any more.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use EventStore;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = new_node('terminate', conf => <<'CONF');
autovacuum = off
eventstore.max_event_size = 10MB
CONF

# An open transaction that has appended to a stream.
sub open_appender
{
	my ($stream) = @_;
	my $session = open_session($node);

	$session->query_safe('BEGIN');
	$session->query_safe("SELECT * FROM es_append('$stream', 'Tick')");
	return $session;
}

sub append
{
	my ($stream) = @_;
	return one($node, "SELECT position FROM es_append('$stream', 'Tick')");
}

sub blockers
{
	return one($node, 'SELECT string_agg(pid::text, $$ $$) FROM eventstore.blockers');
}

sub wait_for_end
{
	my ($session) = @_;
	await($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $session->{backend}", 'the end of the backend');
	return;
}

# After a transaction has ended: is all as if it had not been?
sub check_gone
{
	my ($what, $stream) = @_;
	my $last = append('Other');

	nothing_in_flight($node, "$what: nobody holds the head back");
	gives($node, 'SELECT es_head()', $last, "$what: the head moves on");
	gives($node, "SELECT es_stream_version('$stream')", '0', "$what: nothing is left");
	gives($node, "SELECT position > $last FROM es_append('$stream', 'Tick', '{}', 0)",
		't', "$what: others can append to the stream");
	return;
}

append('Other');

# ---- what is shown while a transaction is open ----

my $session = open_appender('Open');
my $last = append('Other');
my $head = one($node, 'SELECT es_head()');
cmp_ok($head, '<', $last, 'an open appender holds the head back');
is(one($node, 'SELECT count(*) FROM es_read_all(' . ($last - 1) . ')'), '0',
	'nobody reads beyond the head');
gives($node, <<"SQL", "$session->{backend}|idle in transaction|t|t|t", 'blockers names it');
SELECT pid, state, holds_head_below > $head, since <= now(), query LIKE '%es_append%'
FROM eventstore.blockers
SQL

# A transaction that has only read, or has written elsewhere, does not hold it back.
my $bystander = open_session($node);
$bystander->query_safe('BEGIN; CREATE TABLE unrelated (); SELECT count(*) FROM es_read_all()');
is(blockers(), $session->{backend}, 'blockers does not name who has not appended');
$bystander->quit;
$session->query_safe('COMMIT');
gives($node, 'SELECT es_head()', $last, 'the head moves on when it commits');
nothing_in_flight($node, 'nobody holds the head back then');
$session->quit;

# ---- cancelled while it waits for a stream, inside its transaction ----

my $holder = open_appender('Held');
$session = open_appender('Cancelled');
session_start($session, q{SELECT * FROM es_append('Held', 'Tick')});
wait_for_wait($node, $session, "wait_event_type = 'Lock'");
gives($node, 'SELECT count(*) FROM eventstore.blockers', '2', 'two appenders are open');
one($node, "SELECT pg_cancel_backend($session->{backend})");
is(session_error($session, ''), '57014', 'the waiting appender is cancelled');
is(blockers(), $holder->{backend}, 'cancelled: its failed transaction holds nobody back');
$holder->query_safe('COMMIT');
check_gone('cancelled', 'Cancelled');
$session->query_safe('ROLLBACK');
is(session_error($session, q{SELECT * FROM es_append('Session', 'Tick')}), '00000',
	'cancelled: the session can go on');
$session->quit;
$holder->quit;

# The same under a savepoint: the transaction lives on and still holds the head back.
$holder = open_appender('Held');
$session = open_appender('Savepoint');
$session->query_safe('SAVEPOINT a');
session_start($session, q{SELECT * FROM es_append('Held', 'Tick')});
wait_for_wait($node, $session, "wait_event_type = 'Lock'");
one($node, "SELECT pg_cancel_backend($session->{backend})");
is(session_error($session, ''), '57014', 'the waiting appender is cancelled under a savepoint');
$session->query_safe('ROLLBACK TO a');
$holder->query_safe('COMMIT');
$last = append('Other');
cmp_ok(one($node, 'SELECT es_head()'), '<', $last, 'savepoint: the head is still held back');
is(blockers(), $session->{backend}, 'savepoint: by that transaction');
$session->query_safe(q{SELECT * FROM es_append('Savepoint', 'Tick')});
$session->query_safe('COMMIT');
nothing_in_flight($node, 'savepoint: nobody holds the head back after COMMIT');
gives($node, q{SELECT string_agg(version::text, ' ') FROM es_read_stream('Savepoint')},
	'1 2', 'savepoint: both events are there');
$session->quit;
$holder->quit;

# ---- terminated ----

$session = open_appender('Terminated idle');
one($node, "SELECT pg_terminate_backend($session->{backend}, 60000)");
check_gone('terminated between statements', 'Terminated idle');

$holder = open_appender('Held');
$session = open_appender('Terminated waiting');
session_start($session, q{SELECT * FROM es_append('Held', 'Tick')});
wait_for_wait($node, $session, "wait_event_type = 'Lock'");
one($node, "SELECT pg_terminate_backend($session->{backend}, 60000)");
is(blockers(), $holder->{backend}, 'terminated while waiting: it holds nobody back');
$holder->query_safe('ROLLBACK');
$holder->quit;
check_gone('terminated while waiting', 'Terminated waiting');

$session = open_session($node);
session_start($session, <<'SQL');
SELECT count(*) FROM es_append_batch(
    array_fill('Terminated working'::text, ARRAY[300000]), array_fill('Tick'::text, ARRAY[300000]),
    array_fill('{}'::jsonb, ARRAY[300000]))
SQL
await($node, <<"SQL", 'the appender to append');
SELECT count(*) = 1 FROM eventstore.blockers WHERE pid = $session->{backend} AND state = 'active'
SQL
one($node, "SELECT pg_terminate_backend($session->{backend}, 60000)");
check_gone('terminated while storing', 'Terminated working');

# ---- the client has gone ----

$session = open_appender('Vanished');
is(blockers(), $session->{backend}, 'a client has appended');
vanish($session);
wait_for_end($session);
check_gone('client vanished', 'Vanished');

$session = open_appender('Timed out');
is(blockers(), $session->{backend}, 'another client has appended');
$session->query_safe(q{SET idle_in_transaction_session_timeout = '100ms'});
wait_for_end($session);
check_gone('idle in transaction for too long', 'Timed out');

# ---- an appender stands still ----

$session = open_appender('Stopped');
kill 'STOP', $session->{backend};
$last = append('Other');
append("Writer $_") for 1 .. 3;
gives($node, 'SELECT max(version) FROM es_read_stream($$Writer 3$$)',
	'1', 'stopped appender: writers of other streams go on');
cmp_ok(one($node, 'SELECT es_head()'), '<', $last, 'stopped appender: the head stands still');
is(blockers(), $session->{backend}, 'stopped appender: blockers says why');
kill 'CONT', $session->{backend};
$session->query_safe('COMMIT');
nothing_in_flight($node, 'stopped appender: the head moves on afterwards');
gives($node, q{SELECT es_stream_version('Stopped')}, '1', 'stopped appender: its event is there');
$session->quit;

# ---- waiting readers ----

# How often a second the scheduler was awake while events were appended one by one.  While a
# reader waits that is about once a millisecond, if there is a processor for it, else ten times
# a second and once more to record what it saw.
sub awake
{
	my $scheduler = wait_for_scheduler($node);
	my $switches = sub {
		slurp_file("/proc/$scheduler/status") =~ /^voluntary_ctxt_switches:\s+(\d+)$/m;
		return $1;
	};
	my ($before, $began) = ($switches->(), time);

	$node->safe_psql('postgres', "SELECT * FROM es_append('Load', 'Tick');\n" x 1000);
	return int(($switches->() - $before) / (time - $began));
}

sub start_waiting
{
	my $reader = open_session($node);
	my $from = one($node, 'SELECT es_head()');

	session_start($reader,
		"SELECT count(*) FROM es_read_all($from, types => '{Never}', wait => '60 s')");
	wait_for_wait($node, $reader);
	return $reader;
}

SKIP:
{
	skip 'no /proc here', 8 unless -e "/proc/$$/status";

	my $quiet = awake();
	my $reader = start_waiting();
	my $busy = awake();
	cmp_ok($busy, '>', 3 * $quiet, "a waiting reader keeps the scheduler busy: $busy, not $quiet");

	one($node, "SELECT pg_cancel_backend($reader->{backend})");
	is(session_error($reader, ''), '57014', 'a waiting reader can be cancelled');
	cmp_ok(awake(), '<', $busy / 2, 'cancelled reader: the scheduler is at ease');
	$reader->quit;

	$reader = start_waiting();
	one($node, "SELECT pg_terminate_backend($reader->{backend}, 60000)");
	cmp_ok(awake(), '<', $busy / 2, 'terminated reader: the scheduler is at ease');

	$reader = open_session($node);
	$reader->query_safe(q{SET statement_timeout = '200ms'});
	my $writer = open_session($node);
	$writer->query_safe(q{BEGIN; SELECT FROM es_append('Load', 'Open')});
	is(session_error($reader, q{SELECT es_wait(es_head() + 1, '60 s')}), '57014',
		'statement_timeout ends es_wait');
	$writer->query_safe('ROLLBACK');
	$writer->quit;
	cmp_ok(awake(), '<', $busy / 2, 'timed-out reader: the scheduler is at ease');
	$reader->quit;

	# One that got what it waited for.
	$reader = open_session($node);
	$head = one($node, 'SELECT es_head()');
	session_start($reader,
		"SELECT type FROM es_read_all($head, types => '{Bell}', wait => '60 s')");
	wait_for_wait($node, $reader);
	one($node, q{SELECT * FROM es_append('Load', 'Bell')});
	is($reader->query(''), 'Bell', 'a waiting reader gets what it waited for');
	$reader->quit;
	cmp_ok(awake(), '<', $busy / 2, 'satisfied reader: the scheduler is at ease');
}

is(broken_streams($node), '0', 'versions have no gaps');
finish($node);
