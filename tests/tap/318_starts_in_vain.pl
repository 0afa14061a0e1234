# Processes that the launcher starts in vain, or does not start.
#
# What cannot be done is not tried again and again: a pass over a log that can be restored, a
# projection of a store that was dropped, or one in a database that lets nobody in.  A
# projection that is tried again later keeps its entry in shared memory.  What is restored, and
# what a prepared transaction has hidden, is seen to.  A process that does not make way is not
# counted on.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use EventStore;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('starts', conf => <<'CONF');
autovacuum = off
eventstore.allow_drop = on
eventstore.max_projections = 2
eventstore.scavenge_interval = '1 s'
log_min_messages = debug1
CONF

sub new_database
{
	my ($on, $dbname, $sql) = @_;
	$on->safe_psql('postgres', "CREATE DATABASE $dbname");
	$on->safe_psql($dbname, "CREATE EXTENSION eventstore; $sql");
	return;
}

sub rests
{
	my ($dbname) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return await($node, "SELECT background = 'at rest' FROM eventstore.status", "rest in $dbname", $dbname);
}

# How many processes were started for a database since the log was so long; else, are in 3 s.
sub starts
{
	my ($dbname, $from) = @_;
	my $oid = one($node, "SELECT oid FROM pg_database WHERE datname = '$dbname'");
	if (!defined $from)
	{
		$from = -s $node->logfile;
		one($node, 'SELECT pg_sleep(3)');
	}
	my $log = substr slurp_file($node->logfile), $from;
	return scalar(() = $log =~ /starting background worker process "eventstore \w+ for database $oid"/g);
}

# ---- projections that are tried again later ----

my $fails = <<'SQL';
CREATE TABLE never (i int);
SELECT es_append('Order-1', 'Tick');
SELECT es_create_projection('fails', query => 'INSERT INTO never SELECT 1 / 0 FROM es_batch', max_retries => 1000);
SQL

# The next try is some seconds away, and no scheduler is there.
sub fails_and_rests
{
	my ($dbname) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	await($node, 'SELECT failures >= 7 FROM eventstore.projections', 'seven failures', $dbname);
	call_scheduler($node, $dbname);
	rests($dbname);
	return;
}

new_database($node, $_, $fails) for 'dropped', 'closed';
fails_and_rests($_) for 'dropped', 'closed';
my $try = one($node, 'SELECT extract(epoch FROM next_try_at) FROM eventstore.projections', 'closed');
$node->safe_psql('dropped', 'DROP EXTENSION eventstore CASCADE');
my $closed_at = -s $node->logfile;
$node->safe_psql('postgres', 'ALTER DATABASE closed ALLOW_CONNECTIONS false');
await($node, "SELECT clock_timestamp() > to_timestamp($try + 3)", 'the next try');
cmp_ok(starts('dropped'), '<=', 3, 'a store that was dropped is not looked for again and again');
cmp_ok(starts('closed'), '<=', 3, 'nor is a database tried at once that lets nobody in');

# It was tried 1, 3, 7, 15 s after it first let nobody in, if it was tried again.
await($node, "SELECT clock_timestamp() > to_timestamp($try + 18)", 'the time of further tries');
cmp_ok(starts('closed', $closed_at), '<=', 2, 'a database that lets nobody in is not tried again');

# These two are all that there is room for: what is due in "closed" waits for its next append.
new_database($node, $_, $fails) for 'kept', 'brief';
fails_and_rests($_) for 'kept', 'brief';
new_database($node, 'crowded', <<'SQL');
CREATE TABLE seen (position bigint);
SELECT es_append('Order-1', 'Tick');
SELECT es_create_projection('seen', query => 'INSERT INTO seen SELECT position FROM es_batch');
SQL
comes_true($node, q{(SELECT reason = 'no entry (eventstore.max_projections)' FROM eventstore.projections)},
	'where the table is full, a projection has no entry', dbname => 'crowded');
gives($node, q{SELECT reason LIKE 'retry at %' FROM eventstore.projections}, 't',
	'one that is tried again later keeps its entry', 'kept');
$node->safe_psql('postgres', 'DROP DATABASE brief');
comes_true($node, '(SELECT lag = 0 FROM eventstore.projections)',
	'the entry of one that is dropped serves another', dbname => 'crowded');

# ---- a log that can be restored ----

new_database($node, 'restored', <<'SQL');
SELECT es_append('Order-1', 'Tick');
SELECT es_set_retention('Order', max_age => '1 day');
SQL
rests('restored');
$node->safe_psql('restored', <<'SQL');
SET eventstore.restore = on;
INSERT INTO eventstore.event_log
SELECT 1000, stream_key, 2, created_at, type_key, gen_random_uuid(), stream, data, metadata, tags, payload
FROM eventstore.event_log;
SQL
comes_true($node, '(SELECT recorded_head = 1000 AND NOT sealed FROM eventstore.status)',
	'what is restored moves the recorded head', dbname => 'restored');
rests('restored');
one($node, 'SELECT pg_sleep(1)');
cmp_ok(starts('restored'), '<=', 1, 'a log that can be restored is not visited to remove events');

# ---- a prepared transaction ----

$node->safe_psql('postgres', q{SELECT es_append('Order-1', 'Tick')});
rests('postgres');
$node->safe_psql('postgres', q{BEGIN; SELECT es_delete_stream('Order-1'); PREPARE TRANSACTION 'hides'});
rests('postgres');
$node->safe_psql('postgres', q{COMMIT PREPARED 'hides'});
comes_true($node, 'NOT EXISTS (SELECT FROM eventstore.event_log)',
	'what a prepared transaction has hidden is removed');

# ---- a process that does not make way ----

# The launcher of logical replication and ours take two of these; two are left.
my $small = new_node('small', conf => <<'CONF');
autovacuum = off
max_worker_processes = 4
CONF
new_database($small, 'sleeps', q{SELECT es_append('Order-1', 'Tick')});
new_database($small, 'works', q{SELECT count(es_append('Order-1', 'Tick')) FROM generate_series(1, 300)});
new_database($small, 'waits', '');
$small->safe_psql('sleeps', q{SELECT es_create_projection('sleeps', query => 'SELECT pg_sleep(50) FROM es_batch')});
await($small, 'SELECT worker_pid IS NOT NULL FROM eventstore.projections', 'the long batch', 'sleeps');
$small->safe_psql('works',
	q{SELECT es_create_projection('works', query => 'SELECT pg_sleep(0.2) FROM es_batch', batch_size => 1)});
await($small, 'SELECT worker_pid IS NOT NULL FROM eventstore.projections', 'the short batches', 'works');
one($small, 'SELECT pg_sleep(1.5)');
my $position = one($small, q{SELECT position FROM es_append('Order-1', 'Tick')}, 'waits');
comes_true($small, "(SELECT recorded_head = $position FROM eventstore.status)",
	'one that waits does not wait for a long batch where a short one makes way', dbname => 'waits', seconds => 15);
gives($small, 'SELECT worker_pid IS NOT NULL AND checkpoint = 0 FROM eventstore.projections', 't',
	'the long batch goes on', 'sleeps');

finish($node, $small);
