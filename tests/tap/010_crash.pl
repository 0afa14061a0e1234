# Crashes.
#
# Writers append, readers follow, and the server dies: stopped at once, all processes
# killed, or one backend killed in the middle of an append.  Afterwards:
#  - an event whose commit was acknowledged is there, once, where it was said to be;
#    with synchronous_commit = off it may be lost;
#  - a position that a client or a reader has seen never comes again with another
#    event, and new positions are above all that were seen;
#  - events of one transaction are there together or not at all;
#  - versions have no gaps, the head has not fallen, the epoch is the same, and the
#    indexes agree with the tables.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use EventStore;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('crash', conf => <<'CONF');
restart_after_crash = on
autovacuum = off
max_connections = 30
wal_buffers = 4MB
CONF
$node->safe_psql('postgres', 'CREATE EXTENSION amcheck');
my $epoch = one($node, 'SELECT es_epoch()');

# The boundary is on disk when it has been set, before any commit.
one($node, q{SET synchronous_commit = off; BEGIN; SELECT es_set_boundary('-'); ROLLBACK});
$node->stop('immediate');
$node->start;
gives($node, q{SELECT es_slot('Order-1')}, '611', 'the boundary survives a crash');

# What the clients were told, over all rounds.
my %committed;     # token → "position|version", must be there
my %lost_allowed;  # the same, may be lost
my %partner;       # token → the other event of its transaction
my %seen;          # position → token, as read or acknowledged
my $greatest = 0;  # of %seen
my $greatest_head = 0;
my $afterwards = 0;    # events appended between the rounds

# ---- clients ----

# A writer's script: single appends, and every fourth time a transaction on two streams.
# It prints token|position|version when it has been told that they are committed.
sub writer_script
{
	my ($name, $appends, $synchronous) = @_;
	my $script = "SET synchronous_commit = " . ($synchronous ? 'on' : 'off') . ";\n";

	for my $n (1 .. $appends)
	{
		my $token = "$name.$n";
		my $stream = $n * 7 % 10;

		if ($n % 4)
		{
			$script .= "SELECT '$token', position, version"
			  . " FROM es_append('Load-$stream', 'Tick', '{\"t\":\"$token\"}');\n";
			next;
		}

		# in the order of names: no deadlock
		my ($first, $second) = ("$token.a", "$token.b");
		$partner{$first} = $second;
		$partner{$second} = $first;
		$script .= <<SQL;
BEGIN;
SELECT position AS p1, version AS v1
FROM es_append('Load-$stream', 'Tick', '{"t":"$first"}') \\gset
SELECT position AS p2, version AS v2
FROM es_append('Pair-$stream', 'Tick', '{"t":"$second"}') \\gset
COMMIT;
\\echo $first|:p1|:v1
\\echo $second|:p2|:v2
SQL
	}
	return $script;
}

sub note_seen
{
	my ($position, $token, $errors) = @_;

	push @$errors, "position $position was $seen{$position}, is $token"
	  if exists $seen{$position} && $seen{$position} ne $token;
	$seen{$position} = $token;
	$greatest = $position if $position > $greatest;
	return;
}

# Starts writers and a reader, and returns when the reader has seen some events of this
# round: then they are all at work.
sub start_load
{
	my ($round, $synchronous, $asynchronous) = @_;
	my %load = (round => $round, writers => []);

	for my $n (1 .. $synchronous + $asynchronous)
	{
		my $name = "r$round.w$n";
		push @{ $load{writers} },
		  {
			client => client($node, $name, writer_script($name, 20_000, $n <= $synchronous)),
			synchronous => $n <= $synchronous,
		  };
	}
	$load{reader} = client($node, "r$round.reader", reader_script($greatest, 20_000, "data->>'t'"));
	wait_until(
		sub {
			my $out = slurp_file($load{reader}->{out});
			return scalar(() = $out =~ /=r$round\./g) > 600;
		},
		'the reader');
	return \%load;
}

# The clients have lost their server: what had they been told?
sub finish_load
{
	my ($load) = @_;
	my @errors;
	my $acknowledged = 0;

	for my $writer (@{ $load->{writers} })
	{
		for my $line (finish_client($writer->{client}))
		{
			my ($token, $position, $version) = split /\|/, $line;
			die "$writer->{client}{out} has a line that is not whole: $line" unless defined $version;
			my $promised = $writer->{synchronous} ? \%committed : \%lost_allowed;

			$acknowledged++;
			$promised->{$token} = "$position|$version";
			note_seen($position, $token, \@errors);
		}
	}
	for my $line (finish_client($load->{reader}))
	{
		if ($line =~ /^head (\d+)$/)
		{
			push @errors, "the head fell from $greatest_head to $1" if $1 < $greatest_head;
			$greatest_head = $1;
			next;
		}
		note_seen(split(/=/, $_), \@errors) for grep { /=/ } split / /, $line;
	}
	cmp_ok($acknowledged, '>', 0, "round $load->{round}: $acknowledged events acknowledged");
	is(join("\n", @errors), '', "round $load->{round}: clients and reader agree");
	return;
}

# ---- after the crash ----

# Returns how many asynchronous events are lost, of all rounds so far.
sub check_log
{
	my ($what) = @_;
	my (%there, @errors);
	my $lost = 0;

	for my $line (split /\n/,
		one($node, "SELECT position, version, data->>'t' FROM eventstore.events ORDER BY position"))
	{
		my ($position, $version, $token) = split /\|/, $line;
		push @errors, "$token is there twice" if exists $there{$token};
		$there{$token} = "$position|$version";
		push @errors, "position $position was $seen{$position}, is $token"
		  if exists $seen{$position} && $seen{$position} ne $token;
	}
	for my $token (keys %committed)
	{
		my $found = $there{$token} // 'lost';
		push @errors, "$token: acknowledged as $committed{$token}, $found"
		  if $found ne $committed{$token};
	}
	for my $token (keys %lost_allowed)
	{
		my $found = $there{$token};
		$lost++ unless defined $found;
		push @errors, "$token: acknowledged as $lost_allowed{$token}, is $found"
		  if defined $found && $found ne $lost_allowed{$token};
	}
	for my $token (keys %there)
	{
		push @errors, "$token is there without $partner{$token}"
		  if exists $partner{$token} && !exists $there{ $partner{$token} };
	}
	is(join("\n", splice(@errors, 0, 10)), '', "$what: the log is what clients were told");
	is(broken_streams($node), '0', "$what: versions have no gaps");
	sound($node, "$what: es_check() finds nothing");

	cmp_ok(one($node, 'SELECT es_head()'), '>=', $greatest_head, "$what: the head has not fallen");
	gives($node, 'SELECT es_epoch()', $epoch, "$what: the epoch is the same");
	accepted($node, "SELECT * FROM es_read_all($greatest)",
		"$what: a reader can go on from the last position it saw");
	$afterwards++;
	cmp_ok(
		one($node, "SELECT position FROM es_append('After', 'T', '{\"t\":\"after.$afterwards\"}')"),
		'>', $greatest, "$what: new positions are above all seen");
	is(one($node, 'SELECT count(*) FROM es_read_all(0, NULL)'),
		one($node, 'SELECT count(*) FROM eventstore.event_log'),
		"$what: everything can be read");
	$node->command_ok(
		[ qw(pg_amcheck -d postgres -s eventstore --heapallindexed --parent-check) ],
		"$what: indexes agree with tables");
	return $lost;
}

# ---- ways to crash ----

# All processes at the same moment, as when the machine loses power.
sub kill_everything
{
	my $postmaster = $node->{_pid};

	kill 'STOP', $postmaster;
	my ($children) = run_command([ 'ps', '-o', 'pid=', '--ppid', $postmaster ]);
	my @children = split ' ', $children;
	kill 'KILL', @children;
	$node->kill9;

	# A dead process has no folder, also as long as nobody has waited for it.  The next
	# postmaster would take it for one that runs: it finds the pid in two files.
	wait_until(sub { !grep { defined readlink "/proc/$_/cwd" } @children, $postmaster },
		'the end of all processes');
	is(unlink($node->data_dir . '/postmaster.pid',
			$node->host . '/.s.PGSQL.' . $node->port . '.lock'),
		2, 'all processes killed');
	return;
}

# Positions are covered in blocks, on disk before they are used.  Leaves few of the
# present block, so that a round takes a new one.
sub use_up_block
{
	$node->safe_psql('postgres', <<'SQL');
BEGIN;
SELECT count(*) FROM es_append_batch(
    array_fill(text 'Block', ARRAY[8000]), array_fill(text 'Tick', ARRAY[8000]),
    array_fill(jsonb '{}', ARRAY[8000]));
ROLLBACK;
SQL
	return;
}

# What is not on disk yet stays in memory: the WAL writer does nothing.
sub stop_wal_writer
{
	kill 'STOP', one($node, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'");
	return;
}

# ---- rounds ----

my $load = start_load(1, 3, 0);
$node->stop('immediate');
finish_load($load);
$node->start;
is(check_log('immediate stop'), 0, 'immediate stop: nothing is lost');

my $lost_before = 0;
for my $round (2, 3)
{
	use_up_block();
	stop_wal_writer();
	$load = start_load($round, 0, 3);
	kill_everything();
	finish_load($load);
	$node->start;
	my $lost = check_log("asynchronous, round $round");
	cmp_ok($lost, '>', $lost_before, "round $round: the crash has cost events that were seen");
	$lost_before = $lost;
}

$load = start_load(4, 2, 2);
kill_everything();
finish_load($load);
$node->start;
check_log('both kinds');

# One backend, killed in the middle of a large append, among others.
$load = start_load(5, 2, 0);
my $victim = open_session($node);
session_start($victim, <<'SQL');
SELECT count(*) FROM es_append_batch(
    array_fill('Victim'::text, ARRAY[200000]), array_fill('Tick'::text, ARRAY[200000]),
    array_fill('{"t":"victim"}'::jsonb, ARRAY[200000]))
SQL
await($node, "SELECT count(*) = 1 FROM eventstore.blockers WHERE pid = $victim->{backend}", 'the victim to append');
kill 'KILL', $victim->{backend};
finish_load($load);
wait_for_restart($node, $victim->{backend});
check_log('backend killed in an append');
gives($node, "SELECT es_stream_version('Victim'), count(*) FROM es_read_stream('Victim')",
	'0|0', 'backend killed in an append: nothing of it is left');
nothing_in_flight($node, 'backend killed in an append: it holds nobody back');

# One backend, killed while its transaction is open.
$victim = open_session($node);
$victim->query_safe('BEGIN');
$victim->query_safe(q{SELECT * FROM es_append('Victim', 'Tick', '{"t":"victim"}')});
my $head = one($node, 'SELECT es_head()');
kill 'KILL', $victim->{backend};
wait_for_restart($node, $victim->{backend});
check_log('backend killed in a transaction');
gives($node, "SELECT es_stream_version('Victim')",
	'0', 'backend killed in a transaction: nothing of it is left');
cmp_ok(one($node, 'SELECT es_head()'), '>', $head,
	'backend killed in a transaction: the head moves on');
nothing_in_flight($node, 'backend killed in a transaction: it holds nobody back');
ok(wait_for_scheduler($node), 'the scheduler is back');

finish($node);
