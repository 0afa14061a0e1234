# EventStore.pm
#   What the TAP tests share: a server with the extension, what an error says, clients
#   in the background, waiting, and the look at the servers' logs that ends each file.
#
# A database is 'postgres' unless said otherwise, and so is the role: the superuser of every
# server, whoever runs the tests.  Everything here waits for conditions, for as long as
# PostgreSQL::Test::Utils allows (PG_TEST_TIMEOUT_DEFAULT).  What does not come is a failure
# that says what was awaited and what was seen last; the test goes on.

package EventStore;

use strict;
use warnings FATAL => 'all';

use Carp qw(confess);
use Exporter 'import';
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

our @EXPORT = qw(
  new_node one gives error_of refused accepted
  await comes_true log_says wait_until wait_for_restart call_scheduler wait_for_scheduler
  open_session session_error session_start wait_for_wait vanish
  client finish_client reader_script
  log_digest broken_streams nothing_in_flight sound
  finish
);

# For psql and all other clients; PostgreSQL::Test::Utils has removed the caller's.
$ENV{PGUSER} = 'postgres';

# A file that dies says where it was, and not only where in a module it was.
$SIG{__DIE__} = sub { confess(@_) if defined $^S && !$^S };

# ---- servers ----

# new_node(NAME, conf => TEXT, start => 0, extension => 0, server => PARAMETERS OF new,
# PARAMETERS OF init...): a running server with the extension in its database postgres.
sub new_node
{
	my ($name, %param) = @_;
	my $conf = delete $param{conf} // '';
	my $start = delete $param{start} // 1;
	my $extension = delete $param{extension} // $start;
	my $node = PostgreSQL::Test::Cluster->new($name, @{ delete $param{server} // [] });
	my $extra = delete $param{extra} // [ '-E', 'UTF8', '--locale=C' ];

	$node->init(extra => [ '-U', $ENV{PGUSER}, @$extra ], %param);

	# %e, the SQLSTATE, is what finish() looks at.
	$node->append_conf('postgresql.conf',
		"log_line_prefix = '%m [%p] %b %e %q%a '\nlog_statement = none\n$conf");
	$node->start if $start;
	$node->safe_psql('postgres', 'CREATE EXTENSION eventstore') if $extension;
	return $node;
}

# The answer of a query that must not fail.
sub one
{
	my ($node, $sql, $dbname) = @_;
	return $node->safe_psql($dbname // 'postgres', $sql);
}

# gives(NODE, SQL, EXPECTED ANSWER, TEST NAME, DATABASE)
sub gives
{
	my ($node, $sql, $expected, $name, $dbname) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(one($node, $sql, $dbname), $expected, $name);
}

# ---- waiting ----

# Until a query gives what is expected.  It may fail meanwhile, as when a server restarts or
# a store is replaced.  Returns what to say if that has not come within so many seconds.
sub in_vain
{
	my ($node, $query, $expected, $seconds, $dbname) = @_;
	my $end = time + $seconds;
	my ($status, $seen, $said);

	do
	{
		usleep(50_000) if defined $seen;
		$seen = $said = '';
		$status = eval {
			$node->psql($dbname // 'postgres', $query, stdout => \$seen, stderr => \$said);
		};
		$said = $@ unless defined $status;
		return if defined $status && $status == 0 && $seen eq $expected;
	} while (time < $end);
	return "not within $seconds s:\n$query\nexpected: $expected\nlast seen: $seen\n$said";
}

# await(NODE, QUERY, WHAT, DATABASE, EXPECTED ANSWER): until the query gives 't', or what is
# expected.  WHAT is what that means, for the failure.
sub await
{
	my ($node, $query, $what, $dbname, $expected) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	my $vain = in_vain($node, $query, $expected // 't', $PostgreSQL::Test::Utils::timeout_default, $dbname);
	return !defined $vain || fail("waited in vain for $what") || diag($vain);
}

# comes_true(NODE, CONDITION, TEST NAME, dbname =>, seconds =>): an assertion that it is true
# soon.
sub comes_true
{
	my ($node, $condition, $name, %param) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	my $vain = in_vain($node, "SELECT ($condition) IS TRUE", 't', $param{seconds} // 30, $param{dbname});
	return ok(!defined $vain, $name) || diag($vain);
}

# log_says(NODE, PATTERN, TEST NAME, SINCE): an assertion that the server's log, from there
# on, comes to say so.
sub log_says
{
	my ($node, $pattern, $name, $since) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	my $found = eval { $node->wait_for_log($pattern, $since) };
	return ok($found, $name)
	  || diag("not $pattern:\n" . join "\n", grep { defined } (split /\n/, slurp_file($node->logfile))[ -20 .. -1 ]);
}

# The same as await() for what no query tells.
sub wait_until
{
	my ($condition, $what) = @_;
	my $end = time + $PostgreSQL::Test::Utils::timeout_default;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	while (time < $end)
	{
		return 1 if $condition->();
		usleep(10_000);
	}
	return fail("waited in vain for $what");
}

# Until a server whose process PID was killed has restarted all the others.
#
# Not by psql: one that finds no server ends without reading its statement, and IPC::Run
# dies of the broken pipe.
sub wait_for_restart
{
	my ($node, $pid) = @_;

	# Not even a zombie: the postmaster knows, and lets nobody in until all is well again.
	wait_until(sub { !-e "/proc/$pid" }, 'the end of a process');
	wait_until(
		sub { system('pg_isready', '--quiet', '--host', $node->host, '--port', $node->port) == 0 },
		'the restart');
	return;
}

# Wakes the scheduler of a database, or has one started: as a change of the projections does.
sub call_scheduler
{
	my ($node, $dbname) = @_;
	return one($node, 'UPDATE eventstore.projection SET name = name WHERE false', $dbname);
}

# Calls the scheduler, and gives its pid when there is one, other than that given; 0: none
# comes.  It stays for some seconds.
sub wait_for_scheduler
{
	my ($node, $dbname, $other) = @_;
	$dbname //= 'postgres';
	$other //= 0;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	call_scheduler($node, $dbname);
	await($node, "SELECT coalesce(scheduler_pid NOT IN (0, $other), false) FROM eventstore.status",
		"a scheduler in $dbname", $dbname)
	  or return 0;
	return one($node, 'SELECT scheduler_pid FROM eventstore.status', $dbname);
}

# Stops the servers; their logs must not tell of a defect.  The last call of a file.
sub finish
{
	for my $node (@_)
	{
		$node->stop('fast') if defined $node->{_pid};
		my @bad = grep {
			/PANIC|TRAP:|WARNING:.*leak|\bXX\d\w{2}\b|terminated by signal (?:4|6|7|8|11)\b/
		} split /\n/, slurp_file($node->logfile);
		is(join("\n", @bad), '', $node->name . ': nothing in the log that tells of a defect');
	}
	done_testing();
}

# ---- errors ----

# error_of(NODE, SQL, dbname =>, user =>): SQLSTATE ('00000': none) and the whole text.
sub error_of
{
	my ($node, $sql, %param) = @_;
	my ($stdout, $stderr);
	my @user = $param{user} ? ('-U', $param{user}) : ();
	my $status = eval {
		$node->psql($param{dbname} // 'postgres', $sql,
			stdout => \$stdout, stderr => \$stderr,
			extra_params => [ '-v', 'VERBOSITY=verbose', @user ]);
	};

	# psql was let in so late, to be sent away, that the statement found nobody to read it
	return error_of(@_) if !defined $status && $@ =~ /Broken pipe/;
	die $@ unless defined $status;
	return ($1, $stderr) if $stderr =~ /(?:ERROR|FATAL):\s+(\w{5}):/;
	return ($status == 0 ? '00000' : "exit $status", $stderr);
}

# refused(NODE, SQL, SQLSTATE, TEST NAME, like => TEXT OF MESSAGE, DETAIL OR HINT, ...)
sub refused
{
	my ($node, $sql, $state, $name, %param) = @_;
	my ($got, $text) = error_of($node, $sql, %param);
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is($got, $state, $name) or diag($text);
	like($text, $param{like}, "$name: says why") if $param{like};
	return;
}

sub accepted
{
	my ($node, $sql, $name, %param) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return refused($node, $sql, '00000', $name, %param);
}

# ---- sessions: psql that waits for the next statement ----

sub open_session
{
	my ($node, $dbname) = @_;
	my $session = $node->background_psql($dbname // 'postgres', on_error_stop => 0);

	$session->query_safe('\set VERBOSITY verbose');
	$session->{backend} = $session->query_safe('SELECT pg_backend_pid()');
	return $session;
}

# The SQLSTATE of a statement, or of what has been running since session_start ('').
# Notices do not count.
sub session_error
{
	my ($session, $sql) = @_;

	$session->{stderr} = '';
	$session->query($sql);
	my $text = $session->{stderr};
	$session->{stderr} = '';
	$text =~ s/^.*\bNOTICE:  .*\n?(?:(?:DETAIL|HINT|CONTEXT|LOCATION):  .*\n?)*//gm;
	return $text =~ /(?:ERROR|FATAL):\s+(\w{5}):/ ? $1 : $text eq '' ? '00000' : $text;
}

# Starts a statement and returns at once; session->query('') gives its answer.
sub session_start
{
	my ($session, $sql) = @_;
	$session->query_until(qr/^started$/m, "\\echo started\n$sql;\n");
	return;
}

# Until the session's backend sleeps in the extension, or as told (a condition on a row
# of pg_stat_activity).
sub wait_for_wait
{
	my ($node, $session, $condition) = @_;
	$condition //= "wait_event_type = 'Extension'";
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return await(
		$node, "SELECT count(*) = 1 FROM pg_stat_activity"
		  . " WHERE pid = $session->{backend} AND state = 'active' AND $condition",
		'the session to wait');
}

# The client dies without a word.
sub vanish
{
	my ($session) = @_;
	$session->{run}->kill_kill;
	return;
}

# ---- clients: psql with a script, its output in a file ----

sub client
{
	my ($node, $name, $script, $dbname) = @_;
	my $base = "$PostgreSQL::Test::Utils::tmp_check/$name";

	append_to_file("$base.sql", $script);
	my $run = IPC::Run::start(
		[ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr($dbname // 'postgres'),
			'-f', "$base.sql" ],
		'>', "$base.out", '2>', "$base.err");
	return { run => $run, out => "$base.out", err => "$base.err" };
}

# Waits for the end of a client; the lines it has printed.
sub finish_client
{
	my ($client) = @_;
	$client->{run}->finish;
	return split /\n/, slurp_file($client->{out});
}

# A script that follows the log from a position, so many pages long.  It prints lines
# "page POSITION=TEXT POSITION=TEXT..", where TEXT is an expression over es_event, and
# "head POSITION".
sub reader_script
{
	my ($after, $pages, $text) = @_;
	my $page = <<"SQL";
SELECT coalesce(max(position), :last) AS last,
       coalesce(string_agg(position || '=' || ($text), ' '), '') AS page
FROM es_read_all(:last, 500, wait => '1 s') \\gset
\\echo page :page
SELECT es_head() AS head \\gset
\\echo head :head
SQL
	return "\\set last $after\n" . $page x $pages;
}

# ---- the log ----

# Stands for every byte of every event, in order.
sub log_digest
{
	my ($node, $dbname) = @_;
	return one($node, <<'SQL', $dbname);
SELECT count(*) || ' events ' || coalesce(md5(string_agg(e::text, E'\n' ORDER BY position)), '')
FROM eventstore.events e
SQL
}

# Streams whose versions are not 1, 2, 3 .. what the stream says its version is.
sub broken_streams
{
	my ($node, $dbname) = @_;
	return one($node, <<'SQL', $dbname);
SELECT count(*)
FROM (SELECT stream, count(*) AS n, min(version) AS first, max(version) AS last
      FROM eventstore.events
      GROUP BY stream) e
FULL JOIN eventstore.streams s USING (stream)
WHERE (n IS NULL AND s.version = 0
       OR n = s.version AND first = 1 AND last = n AND es_stream_version(stream) = n) IS NOT TRUE
SQL
}

# es_check() finds nothing.
sub sound
{
	my ($node, $name, $dbname) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return gives($node, 'SELECT severity, object, problem FROM es_check() LIMIT 10', '', $name, $dbname);
}

# No backend holds the head back: it stands at the last position handed out.
sub nothing_in_flight
{
	my ($node, $name, $dbname) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return is(one($node, <<'SQL', $dbname), '0|t', $name);
SELECT (SELECT count(*) FROM eventstore.blockers), head = handed_out FROM eventstore.status
SQL
}

1;
