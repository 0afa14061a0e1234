# What the commit of a fetch waits for, and what a crash may forget of it.
#
# With a synchronous standby that does not exist, whatever commits as synchronous_commit
# asks for waits for ever: so it is seen which transactions do.  One that does nothing but
# fetch does not; one that does anything else does.  After a crash, what was fetched and
# not acked comes again, whether the lease was forgotten or has expired, and what was acked
# does not.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use EventStore;
use PostgreSQL::Test::Utils;
use Test::More;

# What autovacuum or the first look at a catalog may write is nobody's business here.
my $node = new_node('main', allows_streaming => 1, conf => "autovacuum = off\nwal_writer_delay = 10s");

one($node, <<'SQL');
SELECT es_create_subscription('s', types => '{Ordered}', ack_timeout => '1 h');
SELECT es_create_subscription('shown', types => '{Old}', ack_timeout => '1 h');
SELECT count(*) FROM generate_series(1, 100) n, es_append('Order-' || n, 'Ordered') a, es_append('Old-' || n, 'Old') b;
CREATE FUNCTION renew(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN data; END $$;
SELECT es_register_upcaster('Old', 1, 'renew', 'New', 2);
CREATE TABLE kept (n bigint);
SQL

my $consumer = open_session($node);

sub ask
{
	my ($sql) = @_;
	return $consumer->query_safe($sql);
}

# Each of these once while nothing waits: so that nothing is done for the first time below.
my %transactions = (
	'a fetch' => [ 0, q{SELECT count(*) FROM es_fetch('s', 'me', 2)} ],
	'a fetch that may wait for more' => [ 0, q{SELECT count(*) FROM es_fetch('s', 'me', 1, wait => '10 s')} ],
	'two fetches' => [ 0, q{BEGIN; SELECT count(*) FROM es_fetch('s', 'me', 1); SELECT count(*) FROM es_fetch('s', 'me', 1); COMMIT} ],
	'a fetch between reads' => [ 0, q{BEGIN; SELECT count(*) FROM kept; SELECT count(*) FROM es_fetch('s', 'me', 1); SELECT es_head() > 0; COMMIT} ],
	'a fetch in a savepoint' => [ 0, q{BEGIN; SAVEPOINT a; SELECT count(*) FROM es_fetch('s', 'me', 1); RELEASE a; COMMIT} ],
	'an ack' => [ 1, q{SELECT es_ack('s', 'me', ARRAY[(SELECT min(p) FROM eventstore.subscription_partition JOIN eventstore.subscription USING (subscription_id), unnest(pending) p WHERE name = 's')])} ],
	'a fetch that is acked' => [ 1, q{SELECT es_ack('s', 'me', array_agg(position)) FROM es_fetch('s', 'me', 1)} ],
	'a write, then a fetch' => [ 1, q{BEGIN; INSERT INTO kept VALUES (1); SELECT count(*) FROM es_fetch('s', 'me', 1); COMMIT} ],
	'a fetch, then a write' => [ 1, q{BEGIN; SELECT count(*) FROM es_fetch('s', 'me', 1); INSERT INTO kept VALUES (1); COMMIT} ],
	'a write between fetches' => [ 1, q{BEGIN; SELECT count(*) FROM es_fetch('s', 'me', 1); INSERT INTO kept VALUES (1); SELECT count(*) FROM es_fetch('s', 'me', 1); COMMIT} ],
	'a fetch that is asked to wait' => [ 1, q{BEGIN; SET LOCAL synchronous_commit = remote_write; SELECT count(*) FROM es_fetch('s', 'me', 1); COMMIT} ],
	'an append and a fetch' => [ 1, q{BEGIN; SELECT es_append('Order-1', 'Ordered'); SELECT count(*) FROM es_fetch('s', 'me', 1); COMMIT} ],
	'a fetch that runs an upcaster' => [ 1, q{SELECT count(*) FROM es_fetch('shown', 'me', 1)} ],
);
ask($transactions{$_}[1]) for sort keys %transactions;

# Does the transaction wait for the standby?  It is cancelled then, which leaves it committed.
sub waits
{
	my ($sql) = @_;
	my $waits = 0;

	session_start($consumer, "$sql;\nSELECT 'end' || 'ed'");
	wait_until(
		sub {
			(my $ended, $waits) = split /\|/, one($node, <<"SQL");
SELECT (state = 'idle' AND query LIKE '%|| ''ed''%')::int, (wait_event IS NOT DISTINCT FROM 'SyncRep')::int
FROM pg_stat_activity WHERE pid = $consumer->{backend}
SQL
			return $ended || $waits;
		},
		$sql);
	one($node, "SELECT pg_cancel_backend($consumer->{backend})") if $waits;
	$consumer->query('');
	$consumer->{stderr} = '';	# the warning of the cancelled wait
	is(ask('SHOW synchronous_commit'), 'on', 'the setting is what it was');
	return $waits;
}

one($node, q{ALTER SYSTEM SET synchronous_standby_names = 'nobody'});
$node->reload;
wait_until(sub { return waits('INSERT INTO kept VALUES (0)') }, 'the setting');
for my $what (sort keys %transactions)
{
	my ($waits, $sql) = @{ $transactions{$what} };

	is(waits($sql), $waits, "$what " . ($waits ? 'waits' : 'does not wait'));
}
$consumer->quit;
one($node, 'SET synchronous_commit = off; ALTER SYSTEM RESET synchronous_standby_names');
$node->reload;

# ---- a crash ----

one($node, <<'SQL');
SET synchronous_commit = off;
SELECT es_create_subscription('crash', types => '{Ordered}', ack_timeout => '1 s');
SQL
one($node, q{CHECKPOINT});
my @acked = split /\n/, one($node, q{SELECT position FROM es_fetch('crash', 'me', 10)});
is(scalar @acked, 10, 'events were fetched');
is(one($node, "SELECT es_ack('crash', 'me', '{" . join(',', @acked) . "}')"), 10, 'and acked');
my @lost = split /\n/, one($node, q{SELECT position FROM es_fetch('crash', 'me', 10)});
is(scalar @lost, 10, 'more were fetched');
$node->stop('immediate');
$node->start;
wait_for_scheduler($node);
my @again;
wait_until(
	sub {
		push @again, split /\n/, one($node, <<'SQL');
SELECT position FROM es_fetch('crash', 'other', 10, wait => '1 s')
SQL
		return @again >= 10;
	},
	'what was not acked');
is("@again[0 .. 9]", "@lost", 'after a crash they come again, and none that was acked');
refused($node, "SELECT es_ack('crash', 'me', '{" . join(',', @lost) . "}')", '55000', 'whoever had them is told');

finish($node);
