# A hot standby, its promotion, and recovery to a point in time.
#
# A standby reads up to the head that the primary has recorded, so its log is always a
# prefix of the primary's; it takes no appends.  A promotion and a recovery begin another
# history: the epoch changes, and positions go on at the next multiple of 2^32, so that no
# position means one event here and another there.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use EventStore;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $stride = 2**32;

# The tables say which events there are: position=id.
sub events
{
	my ($node) = @_;
	return one($node, <<'SQL');
SELECT string_agg(position || '=' || event_id, ' ' ORDER BY position) FROM eventstore.events
SQL
}

sub append
{
	my ($node, $stream) = @_;
	return one($node, "SELECT position FROM es_append('$stream', 'Tick')");
}

# Until the standby can read all that the primary can.
sub wait_for_head
{
	my ($primary, $standby) = @_;
	my $head = one($primary, 'SELECT es_head()');

	await($standby, "SELECT es_head() >= $head", 'the standby to come to the head');
	return $head;
}

# Positions that mean one event on one server and another on the other.
sub conflicts
{
	my ($one, $other) = @_;
	my %events = map { split /=/ } split / /, events($one);
	return join ' ', grep {
		my ($position, $id) = split /=/;
		exists $events{$position} && $events{$position} ne $id
	} split / /, events($other);
}

my $primary = new_node('primary', allows_streaming => 1, has_archiving => 1, conf => <<'CONF');
autovacuum = off
max_connections = 20
hot_standby_feedback = on
CONF
one($primary, q{SELECT es_set_boundary('-')});
append($primary, 'Before');
$primary->backup('base');

my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->append_conf('postgresql.conf', 'archive_mode = off');    # that is the primary's
$standby->append_conf('postgresql.conf', <<'CONF');
max_standby_streaming_delay = 1s
wal_receiver_status_interval = 1s
CONF
$standby->start;
my $epoch = one($primary, 'SELECT es_epoch()');

gives($standby, q{SELECT es_slot('Order-1')}, '611', 'a standby knows the boundary');
refused($standby, q{SELECT es_set_boundary('+')}, '25006', 'and does not set it');

# ---- the standby's log is a prefix of the primary's ----

# Writers with rollbacks; two of them keep transactions open, in turns, while others
# commit: whatever is recorded meanwhile stands next to positions that are in flight.
my @writers = map { client($primary, "fast$_", <<"SQL" x 200) } 1 .. 2;
SELECT * FROM es_append('Load-$_', 'Tick', '{}', metadata => '{"correlation_id": "c$_"}');
BEGIN; SELECT * FROM es_append('Load-$_', 'Never'); ROLLBACK;
SELECT pg_sleep(0.005);
SQL
push @writers, map { client($primary, "slow$_", <<"SQL" x 15) } 1 .. 2;
BEGIN;
SELECT * FROM es_append('Slow-$_', 'Tock'), pg_sleep(0.06);
SELECT * FROM es_append('Slow-$_', 'Tock'), pg_sleep(0.06);
COMMIT;
SQL
my $reader = client($standby, 'reader', reader_script(0, 20_000, 'event_id'));
finish_client($_) for @writers;
my $head = wait_for_head($primary, $standby);
wait_until(sub { slurp_file($reader->{out}) =~ /=.*^head $head$/ms }, 'the reader');

# A copy of what it has printed is enough: it goes on reading.
my (@read, $head_before);
my $falls = 0;
for my $line (split /\n/, slurp_file($reader->{out}))
{
	push @read, grep { /=/ } split / /, $line if $line =~ /^page/;
	next unless $line =~ /^head (\d+)$/;
	$falls++ if defined $head_before && $1 < $head_before;
	$head_before = $1;
}
is(join(' ', @read), events($primary), 'a reader on the standby has read all, in order');
is($falls, 0, 'the head on the standby never falls');

sound($_, $_->name . ': es_check() finds nothing') for $primary, $standby;

# ---- every function there ----

for my $query (
	'es_head()', 'es_epoch()', q{es_stream_version('Load-1')}, q{es_category('Load-1')},
	q{es_position_at('-infinity')}, q{es_position_at('infinity')},
	q{(SELECT es_position_at(created_at) FROM eventstore.events WHERE position = 10)},
	q{es_read_stream('Load-1')}, q{es_read_stream('Load-2', 100, 5, true)},
	q{es_read_stream('Slow-1', types => '{Tick}')},
	'es_read_all(0, NULL)', 'es_read_all(backwards => true)',
	q{es_read_all(types => '{Tock}')}, q{es_read_all(100, 50, categories => '{Load,Slow}')},
	q{es_read_category('Slow', 20)}, q{es_read_category('Load', 0, 1000, 1, 2)},
	q{es_read_correlation('c2')},
	'eventstore.events', 'eventstore.streams', 'eventstore.event_types')
{
	my $sql = "SELECT count(*), md5(string_agg(r::text, ' ' ORDER BY r::text)) FROM $query r";
	is(one($standby, $sql), one($primary, $sql), "the same on the standby: $query");
}
gives($standby, <<'SQL', 't|t|t|||', 'status on the standby');
SELECT preloaded, standby, head = recorded_head, handed_out, sealed, scheduler_pid
FROM eventstore.status
SQL
gives($standby, 'SELECT count(*) FROM eventstore.blockers', '0', 'blockers on the standby');
gives($standby, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'eventstore%'},
	'0', 'no background worker on the standby');

# ---- a cursor there, while the log goes on ----

{
	my $session = open_session($standby);
	my $events = one($standby, q{SELECT string_agg(position::text, E'\\n') FROM es_read_all(0, NULL)});
	my $back = join("\n", reverse split /\n/, $events);

	$session->query_safe('BEGIN');
	$session->query_safe('DECLARE c CURSOR FOR SELECT position FROM es_read_all(0, NULL)');
	my $first = $session->query_safe('FETCH 3 FROM c');
	accepted($primary, q{SELECT * FROM es_append('Load-1', 'Tick')}, 'an append while a cursor is open on the standby');
	my $before = $head;
	$head = wait_for_head($primary, $standby);
	is($first . "\n" . $session->query_safe('FETCH ALL FROM c'), $events,
		'a cursor on the standby ends at the head that it took');
	is($session->query_safe('FETCH BACKWARD ALL FROM c'), $back, 'and goes back over the same events');
	$session->query_safe('COMMIT');
	is($session->query_safe("SELECT count(*) FROM es_read_all($before)"), '1', 'the next read goes on after it');
	$session->quit;
}

refused($standby, $_, '25006', "refused on the standby: $_") for (
	q{SELECT * FROM es_append('No', 'Tick')},
	q{SELECT * FROM es_append_events('No', '[{"type": "Tick"}]')},
	q{SELECT * FROM es_append_batch('{No}', '{Tick}', '{"{}"}')},
	q{INSERT INTO eventstore.new_events (stream, type) VALUES ('No', 'Tick')},
	q{COPY eventstore.new_events (stream, type) FROM PROGRAM 'true'},
	q{SELECT es_check_version('Load-1', -4)});
gives($standby, 'SELECT count(*) FROM es_read_all(1000000000000)',
	'0', 'a position beyond the log is no error on a standby');
refused($primary, 'SELECT * FROM es_read_all(1000000000000)', 'SE006',
	'a position beyond the log is an error on the primary');

# ---- waiting there ----

gives($standby, "SELECT es_wait($head, '0 s')", 't', 'es_wait for what is there');
gives($standby, "SELECT es_wait($head + 1, '200 ms')", 'f', 'es_wait: time is up');
for my $wait ("es_wait(HEAD + 1, '60 s')", "es_read_all(HEAD, wait => '60 s')")
{
	my $session = open_session($standby);
	session_start($session, "SELECT count(*) FROM " . $wait =~ s/HEAD/$head/r);
	wait_for_wait($standby, $session);
	append($primary, 'Awaited');
	is($session->query(''), '1', "a standby waits for the primary: $wait");
	$session->quit;
	$head = wait_for_head($primary, $standby);
}

# What the primary cleans up while a statement waits there: with hot_standby_feedback the
# snapshot of the statement counts on the primary, without it the statement must give way.
sub clean_up_the_mark
{
	append($primary, 'Cleaned');
	await($primary, 'SELECT recorded_head = head FROM eventstore.status', 'the head to be recorded');
	$primary->safe_psql('postgres', 'VACUUM eventstore.mark');
	return;
}

sub feedback
{
	my ($on) = @_;
	$standby->adjust_conf('postgresql.conf', 'hot_standby_feedback', $on ? 'on' : 'off');
	$standby->reload;
	return;
}

for my $on (1, 0)
{
	my $session = open_session($standby);
	$head = wait_for_head($primary, $standby);
	feedback($on);
	session_start($session, "SELECT es_wait($head + 1000000, '60 s')");
	wait_for_wait($standby, $session);
	my $known = $on ? 'IS NOT NULL' : 'IS NULL';
	await($primary, "SELECT bool_and(backend_xmin $known) FROM pg_stat_replication", 'the primary to be told');
	clean_up_the_mark();
	if ($on)
	{
		$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
		gives($standby, "SELECT wait_event_type FROM pg_stat_activity WHERE pid = $session->{backend}",
			'Extension', 'with hot_standby_feedback a statement that waits goes on');
		one($standby, "SELECT pg_cancel_backend($session->{backend})");
		is(session_error($session, ''), '57014', 'until it is cancelled');
	}
	else
	{
		is(session_error($session, ''), '40001', 'without, it is cancelled by what is replayed');
	}
	$session->quit;
}
feedback(1);
$head = wait_for_head($primary, $standby);

# ---- an appender that is open on the primary ----

my $appender = open_session($primary);
$appender->query_safe('BEGIN');
my $own = $appender->query_safe(q{SELECT position FROM es_append('Open', 'Tick')});
my $later = append($primary, 'Later') + 0;
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
gives($standby, "SELECT count(*) FROM eventstore.events WHERE position = $later",
	'1', 'a later event has come to the standby');
gives($standby, "SELECT es_wait($own, '500 ms'), count(*) FROM es_read_all($head)",
	'f|0', 'an open appender on the primary holds readers on the standby back');
$appender->query_safe('COMMIT');
$appender->quit;
gives($standby, "SELECT es_wait($later, '60 s')", 't', 'they go on when it commits');
gives($standby, "SELECT string_agg(position::text, ' ') FROM es_read_all($head)",
	"$own $later", 'and get both events in order');

$head = wait_for_head($primary, $standby);
$standby->restart;
gives($standby, 'SELECT es_head()', $head, 'the head on a standby outlives its restart');
gives($standby, 'SELECT es_epoch()', $epoch, 'the epoch as well');

# ---- promotion of a standby that lacks the newest events ----

$standby->append_conf('postgresql.conf', q{primary_conninfo = ''});
$standby->restart;
append($primary, 'Tail') for 1 .. 5;
my $tail = one($primary, 'SELECT es_head()');
cmp_ok(one($standby, 'SELECT es_head()'), '<', $tail, 'the standby lacks the tail');

$standby->promote;
await($standby, 'SELECT NOT pg_is_in_recovery()', 'the promotion');
my $new_epoch = one($standby, 'SELECT es_epoch()');
isnt($new_epoch, $epoch, 'promotion: the epoch has changed before the first append');
cmp_ok(one($standby, 'SELECT es_head()'), '<', $stride,
	'promotion: the head is below the positions to come');
accepted($standby, "SELECT * FROM es_read_all($tail)",
	'promotion: a reader that has seen the tail is told by the epoch');
my $first = append($standby, 'After');
is($first % $stride, 0, 'promotion: positions go on at a multiple of 2^32');
is($first, $stride, 'promotion: at the next one');
ok(wait_for_scheduler($standby), 'promotion: the scheduler has started');
await($standby, "SELECT recorded_head >= $first FROM eventstore.status", 'the mark to move');
gives($standby, "SELECT standby, sealed, head = $first, handed_out FROM eventstore.status",
	"f|t|t|$first", 'promotion: status');
gives($standby, 'SELECT stream FROM es_read_all(backwards => true, max_count => 1)',
	'After', 'promotion: the new event can be read');
gives($standby, 'SELECT es_epoch()', $new_epoch, 'promotion: the append does not change the epoch');
$standby->restart;
gives($standby, 'SELECT es_epoch()', $new_epoch, 'promotion: a restart does not change the epoch');
my $second = append($standby, 'After');
cmp_ok($second, '>', $first, 'promotion: positions rise after a restart');
cmp_ok($second, '<', 2 * $stride, 'promotion: a restart does not jump');

gives($primary, 'SELECT es_epoch()', $epoch, 'the old primary keeps its epoch');
cmp_ok(append($primary, 'Old'), '<', $stride, 'and its positions');
is(conflicts($primary, $standby), '', 'no position stands for two events');
refused($primary, "SELECT * FROM es_read_all($second)", 'SE006',
	'the old primary has not handed out what the new one has');

# ---- a second promotion ----

$standby->adjust_conf('postgresql.conf', 'primary_conninfo', undef);
$standby->restart;
$standby->backup('base');
my $third = PostgreSQL::Test::Cluster->new('third');
$third->init_from_backup($standby, 'base', has_streaming => 1);
$third->start;
append($standby, 'After');
wait_for_head($standby, $third);
gives($third, 'SELECT es_epoch()', $new_epoch, 'a standby of the promoted server has its epoch');
is(events($third), events($standby), 'and its events');
$third->promote;
await($third, 'SELECT NOT pg_is_in_recovery()', 'the promotion');
my $third_epoch = one($third, 'SELECT es_epoch()');
isnt($third_epoch, $new_epoch, 'second promotion: the epoch has changed');
isnt($third_epoch, $epoch, 'second promotion: not back to the first');
is(append($third, 'After'), 2 * $stride, 'second promotion: the next multiple of 2^32');
append($standby, 'After');
is(conflicts($standby, $third), '', 'second promotion: no position stands for two events');

# ---- recovery to a point in time, which is a new history too ----

my $kept = events($primary);
one($primary, q{SELECT pg_create_restore_point('here')});
append($primary, 'Forgotten');
one($primary, 'SELECT pg_switch_wal()');
my $restored = PostgreSQL::Test::Cluster->new('restored');
$restored->init_from_backup($primary, 'base', has_restoring => 1, standby => 0);
$restored->append_conf('postgresql.conf', <<'CONF');
recovery_target_name = 'here'
recovery_target_action = 'promote'
archive_mode = off
CONF
$restored->start;
await($restored, 'SELECT NOT pg_is_in_recovery()', 'the promotion');
is(events($restored), $kept, 'recovery to a point: all events up to there');
isnt(one($restored, 'SELECT es_epoch()'), $epoch, 'recovery to a point: the epoch has changed');
is(append($restored, 'After') % $stride, 0, 'recovery to a point: positions at a multiple of 2^32');
is(conflicts($primary, $restored), '', 'recovery to a point: no position stands for two events');
is(one($restored, 'SELECT count(*) FROM es_read_all(0, NULL)'),
	one($restored, 'SELECT count(*) FROM eventstore.event_log'),
	'recovery to a point: all can be read');

is(broken_streams($_), '0', $_->name . ': versions have no gaps')
  for $primary, $standby, $third, $restored;
sound($_, $_->name . ': es_check() finds nothing') for $primary, $standby, $third, $restored;
finish($restored, $third, $standby, $primary);
