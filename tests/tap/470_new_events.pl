# eventstore.new_events: crashes in the middle of a COPY, long COPYs beside each other, dumps.
#
# What a COPY has stored before its end is gone with the backend that dies, and with the
# server; the log is sound afterwards and takes the next append.  COPYs of disjoint streams
# do not disturb each other.  The table is in no dump of data, and a dump and a restore
# bring it back as it was, with its rights.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use EventStore;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('copying', conf => <<'CONF');
restart_after_crash = on
autovacuum = off
CONF
my $folder = $PostgreSQL::Test::Utils::tmp_check;
one($node, q{SELECT FROM es_append('Order-1', 'Placed')});

# ---- crashes ----

# A COPY that has sent so many rows and not yet all: its run, and its backend when the server
# has dealt with them.
sub half_a_copy
{
	my ($rows) = @_;
	my $in = "COPY eventstore.new_events (stream, type, data) FROM STDIN;\n"
	  . join('', map { 'Half-' . $_ % 10 . "\tTick\t{\"n\": $_}\n" } 1 .. $rows);
	my ($out, $err) = ('', '');
	my $run = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres') ], '<', \$in, '>', \$out, '2>', \$err);

	# the last of them stay on their way, in psql
	wait_until(sub { $run->pump_nb; one($node, "SELECT tuples_processed > $rows - 1000 FROM pg_stat_progress_copy") eq 't' },
		'a COPY to get on');
	return ($run, one($node, 'SELECT pid FROM pg_stat_progress_copy'));
}

sub nothing_is_left
{
	my ($name) = @_;

	gives($node, q{SELECT count(*) FROM eventstore.events WHERE stream LIKE 'Half-%'}, '0', "$name: nothing of it is there");
	sound($node, "$name: the log is sound");
	is(broken_streams($node), '0', "$name: no version is missing");
	nothing_in_flight($node, "$name: nothing holds the head");
	gives($node, q{INSERT INTO eventstore.new_events (stream, type, expected_version) VALUES ('Half-1', 'Tick', 0), ('Half-1', 'Tick', 1)
		RETURNING version}, "1\n2", "$name: the next append works");
	one($node, q{SELECT es_delete_stream('Half-1'), es_scavenge()});
	return;
}

my ($run, $backend) = half_a_copy(20_000);
gives($node, q{SELECT count(*) FROM eventstore.blockers}, '1', 'a COPY holds the head');
kill 'KILL', $backend;
$run->kill_kill;
wait_for_restart($node, $backend);
nothing_is_left('a backend was killed');
one($node, q{SELECT es_append('Half-2', 'Tick')});
one($node, q{SELECT es_delete_stream('Half-2'), es_scavenge()});

($run) = half_a_copy(20_000);
$node->stop('immediate');
$run->kill_kill;
$node->start;
gives($node, q{SELECT count(*) FROM eventstore.events WHERE stream LIKE 'Half-%'}, '0', 'the server was stopped: nothing of it is there');
sound($node, 'the server was stopped: the log is sound');

# Cancelled, and sent away.
for my $how (qw(cancel terminate))
{
	($run, $backend) = half_a_copy(10_000);
	one($node, "SELECT pg_${how}_backend($backend)");
	$run->kill_kill;
	await($node, 'SELECT count(*) = 0 FROM pg_stat_progress_copy', 'the end of a COPY');
	gives($node, q{SELECT count(*) FROM eventstore.events WHERE stream LIKE 'Half-%'}, '0', "$how: nothing of it is there");
	nothing_in_flight($node, "$how: nothing holds the head");
}

# ---- side by side ----

my @clients = map {
	my $category = "Side$_";
	client($node, "copy$_", "COPY eventstore.new_events (stream, type, data, expected_version) FROM STDIN;\n"
		  . join('', map { "$category-" . $_ % 100 . "\tTick\t{\"n\": $_}\t" . int($_ / 100) . "\n" } 0 .. 19_999) . "\\.\n")
} 1 .. 3;
finish_client($_) for @clients;
is(slurp_file($_->{err}), '', 'a COPY beside others') for @clients;
gives($node, q{SELECT count(*), count(DISTINCT stream), bool_and((data ->> 'n')::int / 100 = version - 1)
	FROM eventstore.events WHERE stream LIKE 'Side%'}, '60000|300|t', 'all of them are there, in order');
gives($node, q{SELECT count(*) FROM (SELECT position, lag(position) OVER (PARTITION BY es_category(stream) ORDER BY version, (data ->> 'n')::int) AS before
	FROM eventstore.events WHERE stream LIKE 'Side%') e WHERE position < before}, '0', 'positions rise in the order of rows');
sound($node, 'the log is sound');

# ---- dumps ----

one($node, 'CREATE ROLE writer; GRANT INSERT, SELECT (version) ON eventstore.new_events TO writer');
my $dump = "$folder/dump";
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, $node->connstr('postgres') ], 'a dump');
unlike(scalar run_command([ 'pg_restore', '-l', $dump ]), qr/TABLE DATA eventstore new_events/, 'it has no data of the table');
$node->command_ok([ 'pg_dump', '--include-foreign-data=eventstore', '-f', "$folder/foreign.sql", $node->connstr('postgres') ],
	'a dump with the data of foreign tables');
unlike(slurp_file("$folder/foreign.sql"), qr/COPY eventstore\.new_events/, 'it has none either');
one($node, 'CREATE DATABASE restored');
$node->command_ok([ 'pg_restore', '-d', $node->connstr('restored'), $dump ], 'a restore');
is(log_digest($node, 'restored'), log_digest($node), 'it is the same log');
gives($node, q{SET ROLE writer; INSERT INTO eventstore.new_events (stream, type) VALUES ('Order-1', 'Paid') RETURNING version},
	'2', 'and takes rows, by the same rights', 'restored');
sound($node, 'it is sound', 'restored');

finish($node);
