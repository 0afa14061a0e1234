# Logical replication of the log to another server.
#
# A subscription to the tables event_log, event_tag, stream and event_type fills a log that has not
# seen an append, as a restore does.  When it has caught up the copy has every event where
# it was, reads as the original does, and is handed over by dropping the subscription: the
# first append checks that it is whole, and goes on above.  Whoever appends earlier ends
# the replication: what comes then is refused, in the server's log, and changes nothing.
# So is what a publisher sends to a log that has seen appends, and whatever is no INSERT.
#
# Rows come in the order of commits: a copy is to be followed by position only after it
# has been handed over.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use EventStore;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my ($origin, $copy) = map {
	new_node($_, extension => 0, allows_streaming => 'logical', conf => <<'CONF')
autovacuum = off
max_connections = 30
max_logical_replication_workers = 10
CONF
} qw(origin copy);
my $log_tables = 'eventstore.event_log, eventstore.event_tag, eventstore.stream, eventstore.event_type';

one($origin, "CREATE EXTENSION eventstore; CREATE PUBLICATION log FOR TABLE $log_tables");

# A database of the copy's server, named as its subscription is.
sub create_log
{
	my ($dbname) = @_;
	one($copy, "CREATE DATABASE $dbname");
	one($copy, 'CREATE EXTENSION eventstore', $dbname);
	return;
}

sub subscribe
{
	my ($dbname, $publication, $from) = @_;
	my $connection = $origin->connstr($from // 'postgres') =~ s/'/''/gr;

	one($copy, "CREATE SUBSCRIPTION $dbname CONNECTION '$connection' PUBLICATION $publication",
		$dbname);
	return;
}

# Sequences are not replicated: the secret that ids are derived with is copied once.
sub copy_secret
{
	my ($dbname) = @_;
	one($copy, one($origin, <<'SQL'), $dbname);
SELECT format('SELECT setval(''eventstore.id_secret_1'', %s), setval(''eventstore.id_secret_2'', %s), setval(''eventstore.id_check'', %s)',
              a.last_value, b.last_value, c.last_value)
FROM eventstore.id_secret_1 a, eventstore.id_secret_2 b, eventstore.id_check c
SQL
	return;
}

# What the server's log says of an error of a replication worker.
sub is_refused
{
	my ($state, $like, $since, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return log_says($copy, qr/logical replication (?:\w+ )?worker $state ERROR:  $like/, $name, $since);
}

# ---- a copy that is filled while the original is written to ----

my @writers = map { client($origin, "fast$_", <<"SQL" x 300) } 1 .. 2;
SELECT es_append('Load-$_', 'Tick', '{"text": "Zürich"}', tags => '{a}',
                 metadata => '{"correlation_id": "c$_"}', payload => '\\x00ff5c', content_type => 'a/b$_');
BEGIN; SELECT es_append('Load-$_', 'Never'); ROLLBACK;
SQL
push @writers, map { client($origin, "slow$_", <<"SQL" x 60) } 1 .. 2;
BEGIN;
SELECT es_append('Slow-$_', 'Tock'), pg_sleep(0.01);
SELECT es_append('Slow-$_.' || es_stream_version('Slow-$_'), 'Tock'), pg_sleep(0.01);
COMMIT;
SQL
await($origin, 'SELECT count(*) > 20 FROM eventstore.event_log', 'the writers to write');
create_log('follower');
subscribe('follower', 'log');
my $before = one($origin, 'SELECT count(*) FROM eventstore.event_log');
await($copy, 'SELECT count(*) > 20 FROM eventstore.event_log', 'the first copied events', 'follower');
finish_client($_) for @writers;
cmp_ok(one($origin, 'SELECT count(*) FROM eventstore.event_log'), '>', $before,
	'appends were running while the copy was made');
$copy->wait_for_subscription_sync($origin, 'follower', 'follower');

refused($copy, 'SELECT event_id FROM es_read_all()', '55000', 'the ids cannot be derived without the secret',
	dbname => 'follower', like => qr/ids of events cannot be derived.*HINT:.*sequences/s);
refused($copy, q{SELECT es_append('Load-1', 'Tick')}, '55000', 'nor can the log be sealed',
	dbname => 'follower', like => qr/ids of events cannot be derived/);
copy_secret('follower');
my $digest = log_digest($origin);
like($digest, qr/^840 events/, 'all of them have been made');
is(log_digest($copy, 'follower'), $digest, 'the copy has every byte of every event');
for my $query (
	'es_read_all(0, NULL)', q{es_read_all(types => '{Tock}')}, 'es_read_all(backwards => true)',
	q{es_read_category('Load')}, q{es_read_stream('Load-1')}, q{es_read_correlation('c2')},
	'eventstore.streams', 'eventstore.event_types')
{
	my $sql = "SELECT count(*), md5(string_agg(r::text, ' ' ORDER BY r::text)), "
	  . "md5(string_agg(r::text, ' ')) FROM $query r";
	$sql =~ s/, md5\(string_agg\(r::text, ' '\)\)// if $query =~ /^eventstore/;
	is(one($copy, $sql, 'follower'), one($origin, $sql), "the same on the copy: $query");
}
my $epoch = one($copy, 'SELECT es_epoch()', 'follower');
isnt($epoch, one($origin, 'SELECT es_epoch()'), 'it has an epoch of its own');
gives($copy, 'SELECT sealed FROM eventstore.status', 'f', 'it is not sealed yet', 'follower');
nothing_in_flight($origin, 'replication holds nothing back');

# ---- handed over ----

one($origin, q{SELECT es_append('Last', 'Tick', event_id => '11111111-2222-4333-8444-555555555555')});
my $version = one($origin, q{SELECT es_stream_version('Load-1')});
my $greatest = one($origin, 'SELECT max(position) FROM eventstore.event_log');
$origin->wait_for_catchup('follower');
one($copy, 'DROP SUBSCRIPTION follower', 'follower');
gives($copy, <<'SQL', "1|$greatest|t", 'handed over: an event is known by its id', 'follower');
SELECT * FROM es_append('Last', 'Tick', event_id => '11111111-2222-4333-8444-555555555555')
SQL
my $next = one($copy, "SELECT position FROM es_append('Load-1', 'Tick', '{}', $version)", 'follower');
cmp_ok($next, '>', $greatest, 'handed over: an old stream goes on, above all there was');
gives($copy, q{SELECT version FROM es_append('New', 'Tick')}, '1', 'handed over: a new one begins', 'follower');
gives($copy, 'SELECT sealed FROM eventstore.status', 't', 'handed over: sealed', 'follower');
refused($copy, 'INSERT INTO eventstore.event_log SELECT * FROM eventstore.event_log', '42501',
	'handed over: no direct INSERT', dbname => 'follower');
is(broken_streams($copy, 'follower'), '0', 'handed over: versions have no gaps');
gives($copy, "SELECT count(*) FROM es_read_all($greatest)", '2', 'handed over: it can be followed', 'follower');
gives($copy, 'SELECT es_epoch()', $epoch, 'handed over: the epoch of the copy', 'follower');
$next = one($copy, 'SELECT es_head()', 'follower');
comes_true($copy, "SELECT recorded_head >= $next FROM eventstore.status", 'handed over: a scheduler serves it',
	dbname => 'follower');
is(one($origin, q{SELECT version FROM es_append('Load-1', 'Tick')}), $version + 1,
	'handed over: the original knows nothing of that');

# ---- appended to too early ----

create_log('early');
subscribe('early', 'log');
copy_secret('early');
$copy->wait_for_subscription_sync($origin, 'early', 'early');
is(log_digest($copy, 'early'), log_digest($origin), 'early: a copy that follows');
my $own = one($copy, q{SELECT position FROM es_append('Load-1', 'Own')}, 'early');
my $early = log_digest($copy, 'early');
my $since = -s $copy->logfile;
one($origin, q{SELECT es_append('Load-1', 'Tick') FROM generate_series(1, 3)});
is_refused(42501, 'cannot INSERT into "eventstore.event_log": the event log is append-only',
	$since, 'early: what comes after an append is refused');
is(log_digest($copy, 'early'), $early, 'early: it has changed nothing');
gives($copy, 'SELECT apply_error_count > 0 FROM pg_stat_subscription_stats', 't',
	'early: monitoring can see it', 'early');
gives($copy, "SELECT position > $own FROM es_append('Load-1', 'Own')", 't',
	'early: appends go on', 'early');
is(broken_streams($copy, 'early'), '0', 'early: versions have no gaps');
one($copy, 'ALTER SUBSCRIPTION early DISABLE', 'early');

create_log('sealed');
one($copy, q{SELECT es_append('Own', 'Own')}, 'sealed');
my $sealed = log_digest($copy, 'sealed');
$since = -s $copy->logfile;
subscribe('sealed', 'log');
is_refused(42501, 'cannot INSERT into "eventstore.\w+": the event log is append-only',
	$since, 'a log that has seen an append takes no copy');
one($copy, 'ALTER SUBSCRIPTION sealed DISABLE', 'sealed');
is(log_digest($copy, 'sealed'), $sealed, 'and is as before');
gives($copy, q{SELECT version FROM es_append('Own', 'Own')}, '2', 'and goes on', 'sealed');

# ---- tables that are missing ----

one($origin, 'CREATE PUBLICATION events FOR TABLE eventstore.event_log');
create_log('incomplete');
subscribe('incomplete', 'events');
copy_secret('incomplete');
$copy->wait_for_subscription_sync($origin, 'incomplete', 'incomplete');
refused($copy, q{SELECT es_append('Load-1', 'Tick')}, '55000', 'events without their streams: no append',
	dbname => 'incomplete', like => qr/not restored completely.*HINT:.*event_log, event_tag, stream and event_type/s);
one($origin, "ALTER PUBLICATION events SET TABLE $log_tables");
one($copy, 'ALTER SUBSCRIPTION incomplete REFRESH PUBLICATION', 'incomplete');
$copy->wait_for_subscription_sync($origin, 'incomplete', 'incomplete');
is(log_digest($copy, 'incomplete'), log_digest($origin), 'with them it is whole');
one($copy, 'DROP SUBSCRIPTION incomplete', 'incomplete');
gives($copy, q{SELECT count(*) FROM es_append('Load-1', 'Tick')}, '1', 'and takes appends', 'incomplete');
is(broken_streams($copy, 'incomplete'), '0', 'whose versions have no gaps');

# ---- a publisher that changes what it has sent ----

my $key = one($origin, q{SELECT eventstore.type_key('A', NULL, 'T', 1)});

# Plain tables of the same names, from which rows can be deleted.
one($origin, 'CREATE DATABASE plain');
one($origin, <<"SQL", 'plain');
CREATE SCHEMA eventstore;
CREATE TABLE eventstore.event_log (position bigint, stream_key bigint, version bigint,
    created_at timestamptz, type_key bigint, event_id uuid, stream text, data jsonb, metadata jsonb, tags text[]);
CREATE TABLE eventstore.event_tag (tag bigint, position bigint);
CREATE TABLE eventstore.stream (stream_key bigint, name text);
CREATE TABLE eventstore.event_type (type_key bigint, category text, bucket int, type text, schema_version int);
INSERT INTO eventstore.stream VALUES (1, 'A');
INSERT INTO eventstore.event_type VALUES ($key, 'A', NULL, 'T', 1);
INSERT INTO eventstore.event_log VALUES
    (1, 1, 1, now(), $key, gen_random_uuid(), 'A', '{}'), (2, 1, 2, now(), $key, gen_random_uuid(), 'A', '{}');
ALTER TABLE eventstore.event_log REPLICA IDENTITY FULL;
CREATE PUBLICATION plain FOR TABLE $log_tables;
SQL
create_log('changed');
subscribe('changed', 'plain', 'plain');
$copy->wait_for_subscription_sync($origin, 'changed', 'changed');
my $changed = log_digest($copy, 'changed');
like($changed, qr/^2 events/, 'plain tables fill a log');
for my $statement ('UPDATE', 'DELETE', 'TRUNCATE')
{
	my %sql = (
		UPDATE => q{UPDATE eventstore.event_log SET data = '{"changed": true}' WHERE position = 1},
		DELETE => 'DELETE FROM eventstore.event_log WHERE position = 2',
		TRUNCATE => 'TRUNCATE eventstore.event_log');
	$since = -s $copy->logfile;
	one($origin, $sql{$statement}, 'plain');
	is_refused(42501, qr/cannot $statement .*append-only/, $since, "no $statement arrives");
	is(log_digest($copy, 'changed'), $changed, "$statement: the log is as before");
	my ($lsn) = slurp_file($copy->logfile, $since) =~
	  m{during message type "$statement" .* finished at ([0-9A-F]+/[0-9A-F]+)};
	one($copy, "ALTER SUBSCRIPTION changed SKIP (lsn = '$lsn')", 'changed');
}
one($origin, "INSERT INTO eventstore.event_log VALUES (3, 1, 3, now(), $key, gen_random_uuid(), 'A', '{}')", 'plain');
comes_true($copy, 'SELECT count(*) = 3 FROM eventstore.events', 'INSERT does', dbname => 'changed');
one($copy, 'DROP SUBSCRIPTION changed', 'changed');
gives($copy, q{SELECT version FROM es_append('A', 'T')}, '4', 'and then appends', 'changed');

finish($copy, $origin);
