# Subscriptions in operation: idle consumers, dumps, standbys.
#
# Consumers that wait cost nothing.  A dump carries a subscription with all that is pending,
# held and parked, and it goes on after the restored log's first append.  On a standby one
# can look, but not fetch; after its promotion consumers go on.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use EventStore;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ReadModels;
use Test::More;

my $folder = $PostgreSQL::Test::Utils::tmp_check;
my $primary = new_node('primary', allows_streaming => 1, conf => 'autovacuum = off');

# What es_fetch gives, as "POSITION POSITION ..".
sub fetched
{
	my ($node, $arguments, $dbname) = @_;
	return one($node, "SELECT string_agg(position::text, ' ') FROM es_fetch($arguments)", $dbname);
}

# ---- waiting ----

one($primary, <<'SQL');
SELECT es_create_subscription('s', types => '{Ordered}', ack_timeout => '1 h', partitions => 4);
SELECT count(*) FROM generate_series(1, 20) n, es_append('Order-' || n % 5, 'Ordered');
SQL
my @sessions = map { open_session($primary) } 1 .. 5;
my $holder = $sessions[0];
$holder->query_safe(q{SELECT es_ack('s', 'holder', array_agg(position)) FROM es_fetch('s', 'holder')});

sub ticks
{
	my $total = 0;
	for my $session (@sessions)
	{
		my ($user, $system) = (split ' ', slurp_file("/proc/$session->{backend}/stat") =~ s/.*\) //r)[ 11, 12 ];
		$total += $user + $system;
	}
	return $total;
}

sub start_waiting
{
	my ($number) = @_;
	session_start($sessions[$number],
		"SELECT string_agg(position::text, ' ') FROM es_fetch('s', 'c$number', wait => '60 s')");
	return;
}
start_waiting($_) for 0 .. $#sessions;
wait_for_wait($primary, $_) for @sessions;
my $before = ticks();
one($primary, 'SELECT pg_sleep(6)');
cmp_ok(ticks() - $before, '<=', 6, 'five consumers that wait take next to no time in six seconds');

# What is none of their business wakes them, and that is all.
one($primary, q{SELECT count(*) FROM generate_series(1, 5) n, es_append('Order-1', 'Paid')});
wait_for_wait($primary, $_) for @sessions;

# All look at once when there is an event.  One gets it; the others, a moment later, wait on.
my ($position, $winner, @wrong);
for my $round (1 .. 30)
{
	$position = one($primary, qq{SELECT position FROM es_append('Order-$round', 'Ordered')});
	my $won = '';
	wait_until(
		sub {
			$won = one($primary, q{SELECT max(consumer) FROM eventstore.subscription_partitions WHERE pending > 0});
			return $won ne '';
		},
		'a consumer');
	my $number = substr $won, 1;
	$winner = $sessions[$number];
	my $got = $winner->query('');
	push @wrong, "round $round: $got instead of $position" if $got ne $position;
	for my $other (grep { $sessions[$_] != $winner } 0 .. $#sessions)
	{
		my $asleep;
		wait_until(
			sub {
				(my $ended, $asleep) = split /\|/, one($primary, <<"SQL");
SELECT (state = 'idle')::int, (wait_event_type IS NOT DISTINCT FROM 'Extension')::int
FROM pg_stat_activity WHERE pid = $sessions[$other]{backend}
SQL
				return $ended || $asleep;
			},
			'a consumer that gets nothing');
		next if $asleep;
		push @wrong, "round $round: c$other came back with nothing";
		$sessions[$other]->query('');
		start_waiting($other);
	}
	next if $round == 30;
	is($winner->query_safe("SELECT es_ack('s', '$won', '{$position}')"), 1, "round $round: one of five gets the event, and it alone");
	start_waiting($number);
	wait_for_wait($primary, $winner);
}
is(join(', ', @wrong), '', 'each time it is the event, and nobody else comes back');
gives($primary, 'SELECT sum(pending), count(consumer) FILTER (WHERE pending > 0) FROM eventstore.subscription_partitions', '1|1',
	'and it alone');

# Whoever ends one of them hears no more of it; the others wait on.
my @others = grep { $_ != $winner } @sessions;
one($primary, "SELECT pg_cancel_backend($_->{backend})") for @others[ 0, 1 ];
await($primary, <<"SQL", 'the end of two waits');
SELECT count(*) = 0 FROM pg_stat_activity WHERE pid IN ($others[0]{backend}, $others[1]{backend}) AND state = 'active'
SQL
wait_for_wait($primary, $others[2]);
vanish($_) for $others[0];
one($primary, q{SELECT es_drop_subscription('s')});
comes_true($primary, <<'SQL', 'a subscription that is dropped ends the waits for it');
SELECT count(*) = 0 FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%es_fetch%' AND pid <> pg_backend_pid()
SQL
$_->quit for grep { $_ != $others[0] } @sessions;

# ---- dump and restore ----

one($primary, <<'SQL');
SELECT es_create_subscription('mail', partitions => 2, ack_timeout => '2 s', max_retries => 1),
       es_create_subscription('other', categories => '{Order}', start_after => 5, ack_timeout => '1 h');
SQL
is(fetched($primary, q{'mail', 'anna', 6}), '1 3 6 8 11 13', 'events are fetched');
one($primary, q{SELECT es_nack('mail', 'anna', '{1}', 'park', 'why not')});
one($primary, q{SELECT es_nack('mail', 'anna', '{3}', 'retry', 'later')});
gives($primary, q{SELECT pending FROM eventstore.subscription_partition WHERE consumer = 'anna'}, '{6,11}',
	'two of them are pending');
my $tables = <<'SQL';
SELECT s::text FROM eventstore.subscription s
UNION ALL SELECT p::text FROM eventstore.subscription_partition p
UNION ALL SELECT e::text FROM eventstore.subscription_event e
ORDER BY 1
SQL
my $rows = one($primary, $tables);
my $digest = log_digest($primary);
$primary->command_ok([ 'pg_dump', '-Fc', '-f', "$folder/dump", 'postgres' ], 'pg_dump');
one($primary, 'CREATE DATABASE restored TEMPLATE template0');
$primary->command_ok([ 'pg_restore', '--exit-on-error', '-d', 'restored', "$folder/dump" ], 'pg_restore');
is(one($primary, $tables, 'restored'), $rows, 'all that is known of the subscriptions is restored');
is(log_digest($primary, 'restored'), $digest, 'the log, too');
is(fetched($primary, q{'mail', 'bob', wait => '3 s'}, 'restored'), '', 'nothing is handed out before the first append');
$position = one($primary, q{SELECT position FROM es_append('Order-9', 'Ordered')}, 'restored');
is(fetched($primary, q{'mail', 'bob', wait => '60 s'}, 'restored'), '3',
	'then an expired lease is taken over, little by little, what was held first');
is(one($primary, q{SELECT es_ack('mail', 'bob', '{3}')}, 'restored'), '1', 'and acked');
is(fetched($primary, q{'mail', 'bob'}, 'restored'), '6 8', 'and so on');
refused($primary, q{SELECT es_ack('mail', 'anna', '{11}')}, '55000', 'not by whom it was with', dbname => 'restored');
gives($primary, q{SELECT position, reason FROM eventstore.parked_events}, '1|why not', 'what is parked is parked', 'restored');
gives($primary, q{SELECT es_create_subscription('third'); SELECT max(subscription_id) > 3 FROM eventstore.subscription},
	"\nt", 'a new subscription has an id of its own', 'restored');

# ---- a standby ----

$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;
is(fetched($primary, q{'other', 'anna', 4}), '6 7 8 9', 'the primary goes on');
one($primary, q{SELECT es_ack('other', 'anna', '{6, 7}')});
$primary->wait_for_catchup($standby);
my $view = 'SELECT name, checkpoint, pending, held, parked, consumers FROM eventstore.subscriptions ORDER BY name';
is(one($standby, $view), one($primary, $view), 'the view tells the same on the standby');
gives($standby, 'SELECT count(*) FROM eventstore.parked_events', '1', 'and what is parked');
refused($standby, "SELECT $_", '25006', "not on a standby: $_", like => qr/during recovery/)
  for q{count(*) FROM es_fetch('other', 'anna')}, q{es_ack('other', 'anna', '{8}')},
  q{es_nack('other', 'anna', '{8}')}, q{es_create_subscription('x')}, q{es_alter_subscription('other')},
  q{es_seek_subscription('other', 0)}, q{es_drop_subscription('other')}, q{es_replay_parked('other')};

# The promoted server goes on with what was pending.
$primary->stop;
$standby->promote;
await($standby, 'SELECT NOT pg_is_in_recovery()', 'the promotion');
is(one($standby, q{SELECT es_ack('other', 'anna', '{8, 9}')}), '2', 'after the promotion what was fetched before is acked');
$position = one($standby, q{SELECT position FROM es_append('Order-9', 'Ordered')});
cmp_ok($position, '>=', 2**32, 'positions have taken a leap');
like(fetched($standby, q{'other', 'bob', 1000}), qr/^10 .* $position$/, 'and the next ones come');
one($standby, q{SELECT es_ack('other', 'bob', pending) FROM eventstore.subscription_partition WHERE consumer = 'bob'});
is(fetched($standby, q{'other', 'bob'}), '', 'to the end');
gives($standby, q{SELECT checkpoint = es_head(), lag FROM eventstore.subscriptions WHERE name = 'other'}, 't|0',
	'the checkpoint is the head');

finish($primary, $standby);
