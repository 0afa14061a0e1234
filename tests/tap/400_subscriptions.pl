# Subscriptions: consumers that die, and a server that does.
#
# Writers append; consumers, psql each, fetch, note what they got, and ack; some are too
# late, some give events back.  At random moments a consumer or its backend is killed, or
# terminated, or the postmaster is.  In the end every event has been handed out to somebody;
# and nobody ever got an event of a stream before the one that precedes it had been handed
# out.  Redeliveries are allowed, and counted.
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

my @kinds = ('consumer', 'backend', 'terminated', 'postmaster');
my $seed = parameter('SEED', 1);
my $rounds = parameter('ROUNDS', 2 * @kinds);
srand $seed;
note("seed $seed");

my $node = new_node('crash', conf => <<'CONF');
restart_after_crash = on
autovacuum = off
max_connections = 40
CONF
$node->safe_psql('postgres', 'CREATE EXTENSION amcheck');
prepare_models($node);

# Nothing is parked: a killed consumer is not the event's fault here.
one($node, <<'SQL');
SELECT es_create_subscription('all', partitions => 3, ack_timeout => '300 ms', max_retries => 1000),
       es_create_subscription('rare', types => '{Rare}', ack_timeout => '300 ms', max_retries => 1000)
SQL

# ---- consumers ----

# A script that fetches and acks, some thousand times.  What it gets it notes at once, as
# "TIME POSITION=STREAM/VERSION ..".  Now and then it is late, or gives its first event back.
sub consumer_script
{
	my ($name, $subscription) = @_;
	my $page = <<'SQL';
SELECT extract(epoch FROM clock_timestamp()) AS at, coalesce(array_agg(position), '{}') AS got,
       coalesce(string_agg(position || '=' || stream || '/' || version, ' '), '') AS page
FROM es_fetch(:'subscription', :'me', 1 + (random() * 20)::int, wait => '0.3 s') \gset
\echo :at :page
SELECT pg_sleep(0.4) WHERE random() < 0.02 \g /dev/null
SELECT es_nack(:'subscription', :'me', (:'got'::bigint[])[1:1]) WHERE random() < 0.03 \g /dev/null
SELECT es_ack(:'subscription', :'me', :'got') \g /dev/null
SQL
	return "\\set ON_ERROR_STOP 0\n\\set me $name\n\\set subscription $subscription\n" . $page x 5000;
}

my (@running, @logs);
my $born = 0;

# Under a new name each time: under the old one it would get later events of a stream while
# the lease of its predecessor lasts, whose events come again after that.
sub start_consumer
{
	my ($slot, $subscription) = @_;
	my $name = "c$slot." . ++$born;
	my $consumer = client($node, "consumer" . scalar @logs, consumer_script($name, $subscription));

	$running[$slot] = { %$consumer, name => $name, subscription => $subscription };
	push @logs, { file => $consumer->{out}, err => $consumer->{err}, subscription => $subscription };
	return;
}

sub start_consumers
{
	for my $slot (0 .. 4)
	{
		next if $running[$slot] && $running[$slot]{run}->pumpable;
		$running[$slot]{run}->finish if $running[$slot];
		start_consumer($slot, $slot == 4 ? 'rare' : 'all');
	}
	return;
}

sub lines_noted
{
	my $n = 0;
	$n += () = slurp_file($_->{file}) =~ /=/g for @logs;
	return $n;
}

sub wait_for_consumers
{
	my ($more) = @_;
	my $from = lines_noted();

	wait_until(sub { lines_noted() >= $from + $more }, 'consumers');
	return;
}

# ---- ways to die ----

# That of a consumer which is fetching: there may be none at this moment.
sub await_backend
{
	my $pid;

	wait_until(sub { $pid = one($node, <<'SQL') }, 'a fetching consumer');
SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND query LIKE '%es_fetch(''all''%'
    AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1
SQL
	return $pid;
}

my %crash = (
	consumer => sub { $running[ int rand 4 ]{run}->kill_kill for 1, 2 },
	terminated => sub {
		my $pid = await_backend();
		one($node, "SELECT pg_terminate_backend($pid, 60000)");
	},
	backend => sub {
		my $pid = await_backend();
		kill 'KILL', $pid;
		wait_for_restart($node, $pid);
	},
	postmaster => sub {
		my ($children) = run_command([ 'ps', '-o', 'pid=', '--ppid', $node->{_pid} ]);
		my @all = ($node->{_pid}, split ' ', $children);
		$node->kill9;
		wait_until(sub { !grep { defined readlink "/proc/$_/cwd" } @all }, 'the end of all processes');
		unlink $node->data_dir . '/postmaster.pid', $node->host . '/.s.PGSQL.' . $node->port . '.lock';
		$node->start;
	});

# ---- rounds ----

my @order;
for my $round (1 .. $rounds)
{
	@order = sort { rand() <=> 0.5 } @kinds unless @order;
	my $kind = shift @order;
	my $load = start_load($node, "load$round", load_script(8), clients => 4, seed => $seed * 1000 + $round);

	start_consumers();
	wait_for_consumers(50 + int rand 100);
	note("round $round: $kind");
	$crash{$kind}->();
	start_consumers();
	if ($kind eq 'postmaster' || $kind eq 'backend')
	{
		abandoned_load($load);
	}
	else
	{
		wait_for_consumers(50);
		is(finish_load($node, $load), '', "round $round, $kind: appends are not disturbed");
	}
}
start_consumers();
comes_true($node, <<'SQL', 'all comes to its end', seconds => 120)
SELECT bool_and(checkpoint = es_head() AND pending = 0 AND held = 0) FROM eventstore.subscriptions
SQL
  or diag(one($node, 'SELECT * FROM eventstore.subscription_partitions; SELECT * FROM eventstore.subscription_event LIMIT 10'));
$_->{run}->kill_kill for @running;

# ---- what they got ----

# Errors that a consumer may meet: its lease has moved on, or the server is away.
my %odd;
for my $log (@logs)
{
	$odd{$_}++ for grep { /ERROR|FATAL|PANIC/ && !/the lease of partition|has not been fetched|terminating connection|the database system/ }
	  split /\n/, slurp_file($log->{err});
}
is(join("\n", %odd), '', 'consumers meet no other error than that a lease has moved on');

for my $subscription ('all', 'rare')
{
	my (%first, %times, @late);

	for my $log (grep { $_->{subscription} eq $subscription } @logs)
	{
		my (%seen, %reached);
		for my $line (split /\n/, slurp_file($log->{file}))
		{
			my ($at, @events) = split / /, $line;
			for my $event (@events)
			{
				my ($position, $stream, $version) = $event =~ m{^(\d+)=(\S+)/(\d+)$} or next;
				push @late, "$event in $log->{file}"
				  if !$seen{$event}++ && $version < ($reached{$stream} // 0);
				$reached{$stream} = $version if $version > ($reached{$stream} // 0);
				$times{$event}++;
				$first{$stream}{$version} = $at
				  if !defined $first{$stream}{$version} || $at < $first{$stream}{$version};
			}
		}
	}
	is(join("\n", @late), '', "$subscription: nobody gets an earlier event of a stream for the first time");

	my @expected = split /\n/, one($node, <<"SQL");
SELECT position || '=' || stream || '/' || version FROM eventstore.events
WHERE '$subscription' = 'all' OR type = 'Rare' ORDER BY position
SQL
	is(join("\n", grep { !$times{$_} } @expected), '', "$subscription: no event is lost");
	my %known = map { $_ => 1 } @expected;
	is(join("\n", grep { !$known{$_} } keys %times), '', "$subscription: none is made up");
	cmp_ok(scalar @expected, '>', 20, "$subscription: there were some");

	my @overtaken;
	for my $stream (keys %first)
	{
		my $before = 0;
		for my $version (sort { $a <=> $b } keys %{ $first{$stream} })
		{
			push @overtaken, "$stream/$version" if $first{$stream}{$version} < $before;
			$before = $first{$stream}{$version};
		}
	}
	is(join("\n", @overtaken), '', "$subscription: no event is handed out before the one that precedes it");
	my $again = grep { $_ > 1 } values %times;
	note("$subscription: ", scalar @expected, " events, $again of them more than once");
}
is(broken_streams($node), '0', 'versions have no gaps');
$node->command_ok([ qw(pg_amcheck -d postgres --heapallindexed --parent-check) ],
	'indexes agree with tables');
gives($node, 'SELECT count(*) FROM eventstore.subscription_event', '0', 'nothing is left behind');

finish($node);
