# The clients in tests/clients: what the README sends readers to.
#
# Each client, directly and through PgBouncer in transaction mode, in a category of its own.
# Clients are brought into the situations they are written for: all of them lose a race, a
# connection is lost before the request arrives and after the event was stored, a tail and a
# consumer are killed, two consumers have the same events, a read model lags or is stopped.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use EventStore;
use IPC::Run;
use JSON::PP;
use PgBouncer;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $clients = "$FindBin::RealBin/../clients";
my %program = (
	psycopg => ["$clients/psycopg_client.py"],
	asyncpg => ["$clients/asyncpg_client.py"],
	node => [ 'node', "$clients/node/client.js" ]);
ok(-d "$clients/node/node_modules", 'what the client in Node needs is installed') or delete $program{node};

my $node = new_node('clients', conf => <<'CONF');
autovacuum = off
max_connections = 200
max_worker_processes = 32
eventstore.max_workers = 8
CONF
my %route = (direct => $node, pooled => start_pgbouncer($node, 8));
my @cases = map {
	my $client = $_;
	map { { client => $client, route => $_, category => "${client}_$_" } } sort keys %route
} sort keys %program;

my $user = one($node, 'SELECT current_user');

# ---- running clients ----

# start_run(CASE, HOST =>, NAME =>, [ ARGUMENT.. ]): in the background.
sub start_run
{
	my ($case, $arguments, %param) = @_;
	my $to = $route{ $case->{route} };
	my $base = "$PostgreSQL::Test::Utils::tmp_check/$case->{category}_$param{name}";
	my $run = IPC::Run::start(
		[   'env', 'PGHOST=' . ($param{host} // $to->host),
			'PGPORT=' . $to->port, 'PGDATABASE=postgres',
			"PGUSER=$user", "CATEGORY=$case->{category}",
			@{ $program{ $case->{client} } }, @$arguments
		],
		'<', \undef, '>', "$base.out", '2>', "$base.err");
	return { run => $run, out => "$base.out", err => "$base.err" };
}

# What it has printed.
sub lines_of
{
	my ($run) = @_;
	return split /\n/, slurp_file($run->{out});
}

# Its end, which has to be a good one, and what it has printed.
sub end_of
{
	my ($run, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	$run->{run}->finish;
	is($run->{run}->result(0), 0, "$name: ends well") or diag(slurp_file($run->{err}));
	return lines_of($run);
}

sub kill_run
{
	my ($run) = @_;
	$run->{run}->kill_kill(grace => 0);
	return;
}

sub name_of { return "$_[0]->{client} $_[0]->{route}" }

sub announce
{
	my ($case, $number, $seats) = @_;
	my $show = "$case->{category}-$number";
	one($node, qq(SELECT FROM es_append('$show', 'ShowAnnounced', '{"seats": $seats}', expected_version => 0)));
	return $show;
}

# Until so many statements, or more, with this in their text wait for a lock.
sub wait_for_blocked
{
	my ($number, $text) = @_;
	await($node, <<"SQL", "$number statements to wait: $text");
SELECT count(*) >= $number FROM pg_stat_activity
WHERE state = 'active' AND wait_event_type = 'Lock' AND position('$text' IN query) > 0
SQL
	return;
}

for my $case (@cases)
{
	$node->command_ok(
		[   'psql', '-Xq', '-d', $node->connstr('postgres'), '-v', "category=$case->{category}",
			'-f', "$clients/setup.sql"
		],
		name_of($case) . ': setup.sql');
}

# ---- reserve: all lose a race, decide again, and nobody gets a seat twice ----

for my $case (@cases)
{
	my $name = name_of($case);
	my $show = announce($case, 1, 10);
	my $holder = open_session($node);

	# Each reads version 1, and waits for us with its append.
	$holder->query_safe("BEGIN; SELECT es_check_version('$show', 1)");
	my @runs = map {
		my $n = $_;
		start_run($case, [ 'reserve', $show, map { "c$n.$_" } 1 .. 4 ], name => "reserve$n")
	} 1 .. 4;
	wait_for_blocked(4, 'es_append(');
	$holder->query_safe(
		qq(SELECT FROM es_append('$show', 'SeatReserved', '{"who": "holder"}', expected_version => 1); COMMIT));
	$holder->quit;

	my @told = map { end_of($_, $name) } @runs;
	my @reserved = map { /^(\S+) (\d+) (\d+) stored (\d+)$/ ? [ $1, $2, $3, $4 ] : () } @told;
	my @sold_out = grep { /^\S+ sold-out \d+$/ } @told;
	my $retries = 0;
	$retries += (split / /)[-1] for @told;
	is(@reserved . ' ' . @sold_out, '9 7', "$name: nine seats for sixteen, who all are told");
	cmp_ok($retries, '>=', 4, "$name: each client has decided again");
	is( join(' ', sort map { "$_->[0]=$_->[1]=$_->[2]" } @reserved),
		one($node, <<"SQL"), "$name: the log has what they were told");
SELECT string_agg(line, ' ' ORDER BY line COLLATE "C")
FROM (SELECT concat_ws('=', data->>'who', version, position) AS line
      FROM es_read_stream('$show') WHERE version > 2) l
SQL
}

# ---- reserve: the outcome is not known ----

for my $case (@cases)
{
	my $name = name_of($case);
	my %expected = (request => 'stored', answer => 'duplicate');

	for my $lost (sort keys %expected)
	{
		my $folder = PostgreSQL::Test::Utils::tempdir_short();
		my $to = $route{ $case->{route} };
		my $socket = '.s.PGSQL.' . $to->port;
		my $network = IPC::Run::start(
			[ "$clients/lossy.py", "$folder/$socket", $to->host . "/$socket", $lost ],
			'<', \undef, '>', "$folder/out", '2>', "$folder/err");
		wait_until(sub { -S "$folder/$socket" }, 'the network');

		# The last seat: who reads again, and decides again, finds the show sold out, by himself.
		my $show = announce($case, $lost eq 'request' ? 2 : 3, 1);
		my ($line) = end_of(start_run($case, [ 'reserve', $show, 'Ada' ], name => $lost, host => $folder),
			"$name, $lost lost");
		$network->kill_kill(grace => 0);
		is(slurp_file("$folder/out"), "lost\n", "$name: the $lost was lost");
		is($line, one($node, "SELECT 'Ada 2 ' || position || ' $expected{$lost} 0' FROM es_read_stream('$show', 2)"),
			"$name: the seat is reserved, and the client knows");
		gives($node, "SELECT es_stream_version('$show')", '2', "$name: once");
	}
}

# ---- tail ----

# The positions of the events of a type.
sub positions_of
{
	my ($type) = @_;
	return one($node, <<"SQL");
SELECT coalesce(string_agg(position || ' ' || stream || ' ' || type, ',' ORDER BY position), '')
FROM eventstore.events WHERE type = '$type'
SQL
}

# Events that a tail wants, and others after them.
sub append_pings
{
	my ($count) = @_;

	for my $case (@cases)
	{
		one($node, <<"SQL");
SELECT count(*) FROM generate_series(1, $count) n, es_append('Ping-' || n % 3, 'Ping_$case->{category}')
SQL
	}
	one($node, q{SELECT count(*) FROM generate_series(1, 20), es_append('Ping-0', 'Noise')});
	return;
}

sub remembered
{
	my ($case) = @_;
	return -e $case->{file} ? decode_json(slurp_file($case->{file})) : { position => 0 };
}

# Until each tail remembers that it has come to the head, though what it wants ends before.
sub tails_at_head
{
	my $head = one($node, 'SELECT es_head()');
	wait_until(
		sub {
			!grep { remembered($_)->{position} < $head } @cases;
		},
		'the tails');
	return $head;
}

for my $case (@cases)
{
	$case->{file} = "$PostgreSQL::Test::Utils::tmp_check/$case->{category}_position";
	$case->{tail} = start_run($case, [ 'tail', $case->{file}, "Ping_$case->{category}" ], name => 'tail1');
}
append_pings(1200);    # some pages
my $head = tails_at_head();
is(remembered($_)->{position}, $head, name_of($_) . ': a tail comes to the head') for @cases;

# All connections of the tails are lost while they wait.
my $waiting = q{FROM pg_stat_activity WHERE state = 'active' AND wait_event_type = 'Extension'
	AND position('FROM es_read_all(' IN query) > 0};
await($node, "SELECT count(*) $waiting", 'the tails to wait', 'postgres', scalar(@cases));
one($node, "SELECT count(pg_terminate_backend(pid)) $waiting");
append_pings(3);
tails_at_head();

# They end, and others begin where they were.
for my $case (@cases)
{
	kill_run($case->{tail});
	$case->{seen} = join(',', lines_of($case->{tail}));
	is($case->{seen}, positions_of("Ping_$case->{category}"),
		name_of($case) . ': a tail has seen each event once, in order, also when it lost its connection');
}
append_pings(5);
for my $case (@cases)
{
	$case->{tail} = start_run($case, [ 'tail', $case->{file}, "Ping_$case->{category}" ], name => 'tail2');
}
tails_at_head();
for my $case (@cases)
{
	kill_run($case->{tail});
	is(join(',', $case->{seen}, lines_of($case->{tail})), positions_of("Ping_$case->{category}"),
		name_of($case) . ': another goes on where it was');

	# The same file with the log of another history.
	my $memory = remembered($case);
	$memory->{epoch} = '00000000-0000-0000-0000-000000000000';
	unlink $case->{file};
	append_to_file($case->{file}, encode_json($memory));
	my $run = start_run($case, [ 'tail', $case->{file} ], name => 'tail3');
	$run->{run}->finish;
	isnt($run->{run}->result(0), 0, name_of($case) . ': a tail does not follow another history');
	like(slurp_file($run->{err}), qr/not the log that was followed before/, 'and says why');
}

# ---- consume ----

# hold_reservations(CASE, NUMBER OF FIRST SHOW, NAME OF THE SECOND): of three shows, six each.
# Returns a session that keeps one of the tickets from being sent, until it ends.
sub hold_reservations
{
	my ($case, $first, $second) = @_;
	my $holder = open_session($node);
	my $event_id = sub { return "md5('$case->{category}' || $_[0] || ' ' || $_[1])::uuid" };

	$holder->query_safe(<<"SQL");
BEGIN;
INSERT INTO "$case->{category}".ticket (event_id, show, version, who, sent_by)
VALUES (${\$event_id->($first + 1, 4)}, '', 0, '', 'holder')
SQL
	one($node, <<"SQL");
SELECT count(*)
FROM generate_series(1, 6) n, generate_series($first, $first + 2) show,
     es_append('$case->{category}-' || show, 'SeatReserved',
               jsonb_build_object('who', CASE n WHEN 2 THEN '$second' ELSE 'c' || n END),
               event_id => ${\$event_id->('show', 'n')})
SQL
	return $holder;
}

sub let_go
{
	my ($holder) = @_;
	$holder->query_safe('ROLLBACK');
	$holder->quit;
	return;
}

sub wait_for_blocked_tickets
{
	my ($case, $number) = @_;
	return wait_for_blocked($number, qq("$case->{category}".ticket));
}

# Until so many tickets are sent, so many events parked, and nothing is left to do.
sub wait_for_tickets
{
	my ($case, $tickets, $parked) = @_;
	await($node, <<"SQL", "the tickets of $case->{category}", 'postgres', "$tickets|0|0|$parked");
SELECT (SELECT count(*) FROM "$case->{category}".ticket), pending, held, parked
FROM eventstore.subscriptions
WHERE name = '$case->{category}'
SQL
	return;
}

# Too slow: a waits for the ticket, its lease ends, b is given the same events, and comes to
# the same ticket.  All cases at once, for there is much waiting.
for my $case (@cases)
{
	$case->{holder} = hold_reservations($case, 11, 'c2');
	$case->{a} = start_run($case, [ 'consume', 'a' ], name => 'consume_a');
}
for my $case (@cases)
{
	wait_for_blocked_tickets($case, 1);
	$case->{b} = start_run($case, [ 'consume', 'b' ], name => 'consume_b');
}
for my $case (@cases)
{
	wait_for_blocked_tickets($case, 2);
	let_go($case->{holder});
}
for my $case (@cases)
{
	wait_for_tickets($case, 30, 0);
	ok(wait_until(sub { grep { /^late$/ } lines_of($case->{a}) }, 'a to be told'),
		name_of($case) . ': a consumer that was too slow is told');
	ok((grep { /^known / } map { lines_of($_) } @$case{qw(a b)}),
		name_of($case) . ': and what was sent before is not sent again');
}

# Killed, with tickets sent that were not acknowledged; others take over.  And three of the new
# reservations can never be handled.
for my $case (@cases)
{
	$case->{holder} = hold_reservations($case, 21, '');
}
for my $case (@cases)
{
	wait_for_blocked_tickets($case, 1);
	kill_run($_) for @$case{qw(a b)};
	let_go($case->{holder});
	$case->{$_} = start_run($case, [ 'consume', $_ ], name => "consume_$_") for qw(c d);
}
for my $case (@cases)
{
	my $name = name_of($case);

	wait_for_tickets($case, 45, 3);
	kill_run($_) for @$case{qw(c d)};
	gives($node, <<"SQL", '', "$name: every ticket was sent once, in the order of its show");
SELECT string_agg(e.stream || ' ' || e.version, ', ')
FROM (SELECT stream, version, event_id, data->>'who' AS who, row_number() OVER w AS place
      FROM eventstore.events
      WHERE es_category(stream) = '$case->{category}' AND type = 'SeatReserved' AND data->>'who' <> ''
      WINDOW w AS (PARTITION BY stream ORDER BY version)) e
FULL JOIN (SELECT *, row_number() OVER (PARTITION BY show ORDER BY number) AS place
           FROM "$case->{category}".ticket) t USING (event_id)
WHERE (e.who, e.place) IS DISTINCT FROM (t.who, t.place)
SQL
	gives($node, <<"SQL", '3|a ticket for nobody|3', "$name: what can never be handled is parked, with the reason");
SELECT count(*), min(reason), min(attempts) FROM eventstore.parked_events WHERE subscription = '$case->{category}'
SQL
	gives($node, <<"SQL", '12|0', "$name: and what comes after it in its stream has waited");
SELECT count(*), count(*) FILTER (WHERE sent_at < parked_at)
FROM eventstore.parked_events p
JOIN eventstore.events e USING (position)
JOIN "$case->{category}".ticket t ON t.show = e.stream AND t.version > e.version
WHERE subscription = '$case->{category}'
SQL
}

# ---- book ----

# All cases at once: seats that are left, and whether the answer may be stale.
sub book
{
	my ($who, $expected, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	$_->{book} = start_run($_, [ 'book', "$_->{category}-4", $who ], name => "book_$who") for @cases;
	for my $case (@cases)
	{
		my ($line) = end_of($case->{book}, name_of($case));
		my $answer = decode_json($line);
		is(join(' ', $answer->{seats_left}, $answer->{may_be_stale} ? 'may be stale' : 'fresh'),
			$expected, name_of($case) . ": $name");
	}
	return;
}

sub for_all_projections
{
	my ($call) = @_;
	one($node, "SELECT $call FROM eventstore.projections");
	return;
}

announce($_, 4, 10) for @cases;
book('Ada', '9 fresh', 'a query sees what the command did');
for_all_projections('es_pause_projection(name)');
book('Blaise', '9 may be stale', 'or says that it may not');
for_all_projections('es_resume_projection(name)');
book('Carl', '7 fresh', 'until it does again');

# No number.
for_all_projections('es_alter_projection(name, max_retries => 0)');
announce($_, 5, '"many"') for @cases;
book('Dorothy', '7 may be stale', 'also of a projection that is stopped');
for_all_projections('es_resume_projection(name, skip_failed => true)');
book('Edsger', '5 fresh', 'and goes on');

nothing_in_flight($node, 'nobody holds the head back');
finish($node);
