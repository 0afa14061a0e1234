# EventStore.pm
#   What the TAP tests share: a server with the extension, what an error says, clients
#   in the background, waiting, and the look at the servers' logs that ends each file.
#
# A database is 'postgres' unless said otherwise.  Everything here waits for conditions,
# for as long as PostgreSQL::Test::Utils allows (PG_TEST_TIMEOUT_DEFAULT).

package EventStore;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

our @EXPORT = qw(
  new_node one gives error_of refused accepted wait_until wait_for_restart wait_for_scheduler
  open_session session_error session_start wait_for_wait vanish
  client finish_client reader_script
  log_digest broken_streams nothing_in_flight sound
  finish
);

# ---- servers ----

# new_node(NAME, conf => TEXT, extension => 0, server => PARAMETERS OF new, PARAMETERS OF
# init...): a running server with the extension in its database postgres.
sub new_node
{
	my ($name, %param) = @_;
	my $conf = delete $param{conf} // '';
	my $extension = delete $param{extension} // 1;
	my $node = PostgreSQL::Test::Cluster->new($name, @{ delete $param{server} // [] });

	$node->init(extra => [ '-E', 'UTF8', '--locale=C' ], %param);

	# %e, the SQLSTATE, is what finish() looks at.
	$node->append_conf('postgresql.conf',
		"log_line_prefix = '%m [%p] %b %e %q%a '\nlog_statement = none\n$conf");
	$node->start;
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

sub wait_until
{
	my ($condition, $what) = @_;

	for (1 .. 100 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return 1 if $condition->();
		usleep(10_000);
	}
	die "timed out waiting for $what";
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

# The scheduler's pid, when there is one, other than that given.
sub wait_for_scheduler
{
	my ($node, $dbname, $other) = @_;
	$dbname //= 'postgres';
	$other //= 0;
	$node->poll_query_until($dbname,
		"SELECT coalesce(scheduler_pid NOT IN (0, $other), false) FROM eventstore.status")
	  or die "no scheduler in $dbname";
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
	$node->poll_query_until('postgres',
		"SELECT count(*) = 1 FROM pg_stat_activity"
		  . " WHERE pid = $session->{backend} AND state = 'active' AND $condition")
	  or die 'the session does not wait';
	return;
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
