# The life of a stream: under load, through crashes, dumps and failover.
#
# Whatever is taken away, and whenever it is removed:
#  - no append fails or waits for long, no version and no position is given twice, and the
#    versions of a stream go on;
#  - what was hidden stays hidden, after a crash, in a restored database, on a standby;
#  - a projection applies what it comes to exactly once, and one that is rebuilt has what
#    readers are shown;
#  - listeners are told of what can be read, not of what was rolled back, and not too often.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use EventStore;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes;

my $writers = 8;
my $seconds = 3;
my $node = new_node('life', conf => <<'CONF');
max_connections = 40
max_worker_processes = 40
restart_after_crash = on
eventstore.scavenge_interval = 0
CONF
my $folder = $PostgreSQL::Test::Utils::tmp_check;

sub set_interval
{
	my ($interval) = @_;
	$node->safe_psql('postgres', "ALTER SYSTEM SET eventstore.scavenge_interval = '$interval'");
	$node->reload;
	await($node, "SELECT setting = '$interval' OR setting || 'ms' = '$interval' FROM pg_settings WHERE name = 'eventstore.scavenge_interval'", 'the setting to come');
	return;
}

# ---- under load ----

# Each writer appends to streams that others write too, as fast as it can, and keeps the
# longest time that an append took, commit included.
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE figure (phase text, appends bigint, longest interval, removed bigint);
CREATE PROCEDURE write(phase text, seconds int)
    LANGUAGE plpgsql
    AS $$
DECLARE
    until timestamptz := clock_timestamp() + make_interval(secs => seconds);
    begun timestamptz;
    n bigint := 0;
    longest interval := '0';
BEGIN
    WHILE clock_timestamp() < until LOOP
        begun := clock_timestamp();
        PERFORM es_append('Load-' || (random() * 40)::int, 'Tick', jsonb_build_object('text', repeat('x', 200)));
        COMMIT;
        longest := greatest(longest, clock_timestamp() - begun);
        n := n + 1;
    END LOOP;
    INSERT INTO figure VALUES (phase, n, longest, 0);
END $$;
CREATE PROCEDURE remove(phase text, seconds int)
    LANGUAGE plpgsql
    AS $$
DECLARE
    until timestamptz := clock_timestamp() + make_interval(secs => seconds);
    n bigint := 0;
BEGIN
    WHILE clock_timestamp() < until LOOP
        n := n + es_scavenge();
        COMMIT;
        PERFORM pg_sleep(0.02);
    END LOOP;
    INSERT INTO figure VALUES (phase, 0, '0', n);
END $$;
-- Somebody deletes and truncates.
CREATE PROCEDURE take_away(seconds int)
    LANGUAGE plpgsql
    AS $$
DECLARE
    until timestamptz := clock_timestamp() + make_interval(secs => seconds);
    name text;
BEGIN
    WHILE clock_timestamp() < until LOOP
        name := 'Load-' || (random() * 40)::int;
        IF random() < 0.5 THEN
            PERFORM es_delete_stream(name);
        ELSE
            PERFORM es_truncate_stream(name, greatest(es_stream_version(name), 1));
        END IF;
        COMMIT;
        PERFORM pg_sleep(0.02);
    END LOOP;
END $$;

CREATE TABLE applied (position bigint PRIMARY KEY, stream text, version bigint, UNIQUE (stream, version));
CREATE TABLE applied_inline (LIKE applied INCLUDING ALL);
SELECT es_create_projection('applied', query => 'INSERT INTO applied SELECT position, stream, version FROM es_batch', reset => 'TRUNCATE applied');
SELECT es_create_projection('applied_inline', query => 'INSERT INTO applied_inline SELECT position, stream, version FROM es_batch', mode => 'inline');
SQL
await($node, "SELECT bool_and(state = 'running') FROM eventstore.projections", 'the projections to run');

my $appended = 0;

# Writers for some seconds, and what else is given.
sub load
{
	my ($phase, @others) = @_;
	my @clients = map { client($node, "$phase.$_", "CALL write('$phase', $seconds);\n") } 1 .. $writers;

	push @clients, map { client($node, "$phase.other$_", "$others[$_];\n") } 0 .. $#others;
	for my $client (@clients)
	{
		finish_client($client);
		is(slurp_file($client->{err}), '', "$phase: no append and nothing else fails");
	}
	my ($appends, $longest, $removed) = split /\|/, one($node, <<"SQL");
SELECT sum(appends), round(max(extract(epoch FROM longest)) * 1000, 1), sum(removed) FROM figure WHERE phase = '$phase'
SQL
	diag("$phase: $appends appends, the longest took $longest ms; es_scavenge() removed $removed");
	cmp_ok($longest, '<', 1000, "$phase: no append takes a second");
	$appended += $appends;
	gives($node, 'SELECT sum(es_stream_version(stream)) FROM eventstore.streams', $appended,
		"$phase: every append has made a version");
	gives($node, 'SELECT count(*), count(DISTINCT (stream, version)) FROM applied_inline', "$appended|$appended",
		"$phase: the inline projection has them all, once");
	gives($node, <<'SQL', '0', "$phase: what is stored is what was appended, where it was");
SELECT count(*) FROM eventstore.event_log l JOIN eventstore.stream s USING (stream_key)
LEFT JOIN applied_inline a ON a.position = l.position AND a.stream = s.name AND a.version = l.version
WHERE a.position IS NULL
SQL
	return;
}

sub all_hidden_removed
{
	my ($phase) = @_;

	await($node, 'SELECT (SELECT count(*) FROM eventstore.event_log) = (SELECT count(*) FROM eventstore.events)',
		'the removal of what is hidden');
	gives($node, 'SELECT count(*) > 0 FROM eventstore.streams', 't', "$phase: all that was hidden is removed in the background");
	return;
}

load('nothing is removed');

$node->safe_psql('postgres', q{SELECT es_set_retention('Load', max_count => 20)});
set_interval('10ms');
load('in the background');
all_hidden_removed('in the background');

load('with deletions', "CALL take_away($seconds)");
all_hidden_removed('with deletions');

# All of a stream is too old at once: its last event goes too.
$node->safe_psql('postgres', q{SELECT es_set_retention('Load', max_age => '5 ms')});
load('with last events');
all_hidden_removed('with last events');
gives($node, 'SELECT count(*) FROM eventstore.event_log', '0', 'nothing is left');

set_interval('0');
$node->safe_psql('postgres', q{SELECT es_set_retention('Load', max_count => 20)});
load('es_scavenge()', "CALL remove('es_scavenge()', $seconds)");
$node->safe_psql('postgres', q{SELECT es_set_retention('Load', max_age => '5 ms')});
load('es_scavenge() with last events', "CALL remove('es_scavenge() with last events', $seconds)", "CALL take_away($seconds)");

# ---- projections ----

# What an asynchronous one has come to, it has applied once.
$node->safe_psql('postgres', q{SELECT es_set_retention('Load')});
gives($node, q{SELECT es_wait_for_projection('applied', timeout => '60 s')}, 't', 'the asynchronous projection catches up');
gives($node, 'SELECT count(*) FROM applied a LEFT JOIN applied_inline i USING (position, stream, version) WHERE i.position IS NULL',
	'0', 'it has nothing that was not appended');
$node->safe_psql('postgres', 'SELECT es_scavenge()');
$node->safe_psql('postgres', q{SELECT es_append('Load-' || i % 7, 'Tick'), es_append('Kept-1', 'Tick') FROM generate_series(1, 70) i});
gives($node, q{SELECT es_wait_for_projection('applied', timeout => '60 s')}, 't', 'and goes on');
gives($node, <<'SQL', '0', 'nothing that is there now is missing');
SELECT count(*) FROM es_read_all(0, NULL) e LEFT JOIN applied a USING (position) WHERE a.position IS NULL AND e.stream LIKE 'Kept%'
SQL

# Rebuilt, it has what readers are shown.
$node->safe_psql('postgres', q{SELECT es_delete_stream('Load-1'), es_truncate_stream('Load-2', es_stream_version('Load-2'))});
my ($code, $out, $err) = $node->psql('postgres', q{SELECT es_rebuild_projection('applied')});
like($err, qr/WARNING:.*rebuilt without \d+ events that have been taken away/, 'a rebuild says that it will lack events');
await($node, q{SELECT state = 'running' FROM eventstore.projections WHERE name = 'applied'}, 'the rebuild');
gives($node, q{SELECT es_wait_for_projection('applied', timeout => '60 s')}, 't', 'it is rebuilt');
gives($node, <<'SQL', '0|0', 'without what was taken away, with all else, once');
SELECT count(*) FILTER (WHERE a.position IS NULL), count(*) FILTER (WHERE e.position IS NULL)
FROM applied a FULL JOIN es_read_all(0, NULL) e USING (position, stream, version)
SQL
$node->safe_psql('postgres', 'SELECT es_drop_projection(name) FROM eventstore.projections');

# ---- crashes ----

# The newest events are removed, and the server is killed.
sub crash
{
	my ($pid) = ($node->{_pid});

	$node->kill9;
	wait_until(sub { !kill(0, $pid) }, 'the end of the postmaster');
	wait_until(sub { $node->start(fail_ok => 1) }, 'the server to start again');
	return;
}

my $round = 0;
for my $synchronous ('on', 'off')
{
	for my $way ("es_delete_stream('Crash-1')", "es_truncate_stream('Crash-1', es_stream_version('Crash-1') + 1)",
		"es_set_retention('Crash', max_age => '1 microsecond')")
	{
		$round++;
		my ($version, $position) = split /\|/, one($node, <<"SQL");
SET synchronous_commit = $synchronous;
SELECT max(version), max(position) FROM generate_series(1, 3) i, LATERAL es_append('Crash-1', 'Tick', to_jsonb(i))
SQL
		my $what = "round $round, synchronous_commit = $synchronous";
		$node->safe_psql('postgres', "SET synchronous_commit = $synchronous; SELECT $way; SELECT es_scavenge()");
		gives($node, q{SELECT count(*) FROM eventstore.event_log JOIN eventstore.stream USING (stream_key) WHERE name = 'Crash-1'},
			'0', "$what: nothing of the stream is left");
		$node->safe_psql('postgres', 'CHECKPOINT') if $round % 2;
		crash();
		gives($node, "SELECT es_head() >= 0, count(*) FROM es_read_stream('Crash-1')",
			't|' . one($node, q{SELECT count(*) FROM eventstore.events WHERE stream = 'Crash-1'}), "$what: the server is back");

		# What was removed with synchronous_commit = off may be there again, hidden or not.
		my $now = one($node, q{SELECT es_stream_version('Crash-1')});
		is($now, $version, "$what: the version is what it was") if $synchronous eq 'on';
		my ($next, $at) = split /\|/, one($node, "SELECT version, position FROM es_append('Crash-1', 'Tick', expected_version => $now)");
		is($next, $now + 1, "$what: versions go on");
		cmp_ok($at, '>', $position, "$what: no position comes again");
		$node->safe_psql('postgres', q{SELECT es_set_retention('Crash')});
	}
}

# ---- dump and restore ----

# Streams in every state, twice: with their events, and removed.
sub fill
{
	my ($server, $prefix) = @_;

	$server->safe_psql('postgres', <<"SQL");
SELECT es_append('$prefix-' || s, 'Old', to_jsonb(i), tags => '{tag}') FROM generate_series(1, 5) i, unnest('{kept, truncated, emptied, deleted, rewritten, gone}'::text[]) s;
SELECT es_truncate_stream('$prefix-truncated', 3), es_truncate_stream('$prefix-emptied', 6), es_delete_stream('$prefix-deleted'), es_delete_stream('$prefix-rewritten'),
    es_tombstone_stream('$prefix-gone'), es_tombstone_stream('$prefix-never');
SELECT es_append('$prefix-rewritten', 'Old');
SELECT es_append('Count$prefix-1', 'Tick') FROM generate_series(1, 5);
SELECT es_set_retention('Count$prefix', max_count => 2);
SELECT es_save_snapshot('$prefix-kept', 3, '{"at": 3}'), es_save_snapshot('$prefix-truncated', 2, '{"at": 2}');
SQL
	return;
}

# Everything that can be said of the streams.
sub story
{
	my ($server, $dbname) = @_;
	return one($server, <<'SQL', $dbname);
SELECT string_agg(concat_ws('|', s.stream, s.version, es_stream_version(s.stream), s.first_version, s.deleted, s.tombstoned,
           (SELECT string_agg(e::text, ',') FROM es_read_stream(s.stream) e), es_load(s.stream)), E'\n' ORDER BY s.stream COLLATE "C")
FROM eventstore.streams s
SQL
}

$node->safe_psql('postgres', <<'SQL');
DROP TABLE figure, applied, applied_inline;
DROP PROCEDURE write, remove, take_away;
CREATE FUNCTION upcast(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('old', data) $$;
SELECT es_register_upcaster('Old', 1, 'public.upcast', 'New', 1);
SELECT es_delete_stream(stream) FROM eventstore.streams;
SQL
fill($node, 'Removed');
$node->safe_psql('postgres', 'SELECT es_scavenge()');
fill($node, 'Hidden');
my $greatest = one($node, q{SELECT position FROM es_append('Last-2', 'Tick')});
$node->safe_psql('postgres', q{SELECT es_delete_stream('Last-2')});

# Rows that somebody has locked are left.
my $holder = open_session($node);
$holder->query_safe(<<'SQL');
BEGIN;
SELECT count(*) FROM (SELECT FROM eventstore.event_log JOIN eventstore.stream USING (stream_key) WHERE name ~ 'Hidden' FOR KEY SHARE OF event_log) l
SQL
gives($node, 'SELECT es_scavenge()', '1', 'the newest event is removed, nothing of the other streams');
$holder->query_safe('COMMIT');
$holder->quit;
my $story = story($node);
like($story, qr/^Hidden-truncated\|5\|5\|3\|f\|f\|.*New/m, 'the story tells of a truncated stream');
like($story, qr/^Removed-gone\|5\|5\|6\|[tf]\|t\|/m, 'and of one that is gone');

sub check_restored
{
	my ($what, $dbname, $above) = @_;

	is(story($node, $dbname), $story, "$what: every stream is what it was");
	for my $prefix ('Removed', 'Hidden')
	{
		for my $stream ('kept', 'truncated', 'emptied', 'deleted')
		{
			gives($node, "SELECT version, position > $above FROM es_append('$prefix-$stream', 'Tick', expected_version => 5)",
				'6|t', "$what: versions of $prefix-$stream go on, and positions", $dbname);
		}
		gives($node, "SELECT version FROM es_append('$prefix-rewritten', 'Tick', expected_version => 6)",
			'7', "$what: and those of $prefix-rewritten", $dbname);
		refused($node, "SELECT es_append('$prefix-$_', 'Tick')", 'SE002', "$what: $prefix-$_ is gone", dbname => $dbname)
		  for 'gone', 'never';
		gives($node, "SELECT string_agg(version::text, ' ') FROM es_read_stream('$prefix-truncated')",
			'3 4 5 6', "$what: $prefix-truncated hides what it hid", $dbname);
		gives($node, "SELECT string_agg(version::text, ' ') FROM es_read_stream('$prefix-deleted')",
			'6', "$what: and so does $prefix-deleted", $dbname);
		gives($node, "SELECT version FROM es_append('Count$prefix-1', 'Tick')", '6', "$what: a rule is kept", $dbname);
		gives($node, "SELECT string_agg(version::text, ' ') FROM es_read_stream('Count$prefix-1')",
			'5 6', "$what: and does what it says", $dbname);
		gives($node, "SELECT snapshot_version, state ->> 'at', version FROM es_load('$prefix-kept')", '3|3|6',
			"$what: snapshots are used", $dbname);
	}
	gives($node, 'SELECT es_scavenge() > 0, es_scavenge()', 't|0', "$what: what is hidden can be removed", $dbname);
	gives($node, <<'SQL', '0', "$what: and is", $dbname);
SELECT (SELECT count(*) FROM eventstore.event_log) - (SELECT count(*) FROM eventstore.events)
SQL
	gives($node, q{SELECT string_agg(version::text, ' ') FROM es_read_stream('Hidden-truncated')}, '3 4 5 6',
		"$what: nothing else is", $dbname);
	gives($node, q{SELECT DISTINCT type FROM es_read_stream('Hidden-kept', 1, 3)}, 'New', "$what: old events are shown anew", $dbname);
	refused($node, 'DROP FUNCTION upcast', '2BP01', "$what: their function is kept", dbname => $dbname);
	nothing_in_flight($node, "$what: nobody holds the head back", $dbname);
	return;
}

sub create_database
{
	my ($dbname) = @_;
	$node->safe_psql('postgres', "CREATE DATABASE $dbname TEMPLATE template0");
	return $dbname;
}

$node->command_ok([ 'pg_dump', '-f', "$folder/life.sql", 'postgres' ], 'pg_dump');
$node->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', create_database('plain'), '-f', "$folder/life.sql" ], 'psql -f');
check_restored('plain', 'plain', $greatest);

$node->command_ok([ 'pg_dump', '-Fc', '-f', "$folder/life.custom", 'postgres' ], 'pg_dump -Fc');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', create_database('custom'), "$folder/life.custom" ], 'pg_restore');
check_restored('custom', 'custom', $greatest);

$node->command_ok([ 'pg_dump', '-Fc', '--data-only', '-f', "$folder/life.data", 'postgres' ], 'pg_dump --data-only');
create_database('data_only');
$node->safe_psql('data_only', <<'SQL');
CREATE EXTENSION eventstore;
CREATE FUNCTION upcast(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('old', data) $$;
SQL
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', 'data_only', "$folder/life.data" ], 'pg_restore --data-only');
gives($node, q{SELECT DISTINCT type FROM es_read_stream('Hidden-kept')}, 'Old', '--data-only: an upcaster without owner is not applied',
	'data_only');
$node->safe_psql('data_only', q{SELECT es_register_upcaster('Old', 1, 'public.upcast', 'New', 1)});
check_restored('--data-only', 'data_only', $greatest);

# ---- listeners ----

create_database('listen');
$node->safe_psql('listen', 'CREATE EXTENSION eventstore');
my $listener = open_session($node, 'listen');
$listener->query_safe('LISTEN eventstore');

my $first = one($node, q{SELECT position FROM es_append('Tick-1', 'Tick')}, 'listen');
my $scheduler = wait_for_scheduler($node, 'listen');

my $strange = '';    # notifications of others

# The payloads that have come.
sub heard
{
	my $text = $listener->query('SELECT 1');
	my @payloads = $text =~ /Asynchronous notification "eventstore" with payload "(\d+)" received from server process with PID $scheduler\b/g;

	$strange .= $text if @payloads != (() = $text =~ /Asynchronous/g);
	return @payloads;
}

sub hear_of
{
	my ($position) = @_;
	my @all;

	wait_until(sub { push @all, heard(); @all && $all[-1] >= $position }, "the notification of $position");
	return @all;
}

$first = one($node, q{SELECT position FROM es_append('Tick-1', 'Tick')}, 'listen');
my @told = hear_of($first);
cmp_ok($told[-1], '<=', one($node, 'SELECT es_head()', 'listen'), 'a listener is told the head');

# Nothing of what is rolled back, or not committed yet.
my $writer = open_session($node, 'listen');
$writer->query_safe('BEGIN');
my $open = $writer->query_safe(q{SELECT position FROM es_append('Tick-2', 'Tick')});
my $other = one($node, q{SELECT position FROM es_append('Tick-3', 'Tick')}, 'listen');
await($node, 'SELECT recorded_head = head FROM eventstore.status', 'the scheduler', 'listen');
is(join(' ', grep { $_ >= $open } heard()), '', 'nothing is told while an append is open');
$writer->query_safe('COMMIT');
cmp_ok((hear_of($other))[-1], '>=', $other, 'when it is committed, it is told of both');

# After a rollback there may be one, for the head goes on: it tells of nothing else.
$writer->query_safe(q{BEGIN; SELECT es_append('Tick-2', 'Tick'); ROLLBACK});
$writer->query_safe(q{BEGIN; SAVEPOINT s; SELECT es_append('Tick-2', 'Tick'); ROLLBACK TO s; COMMIT});
await($node, 'SELECT recorded_head = handed_out FROM eventstore.status', 'the scheduler', 'listen');
my $head = one($node, 'SELECT es_head()', 'listen');
is(join(' ', grep { $_ > $head } heard()), '', 'nothing is told of that is not readable');
gives($node, "SELECT count(*) FROM es_read_all($other)", '0', 'and there is nothing to read', 'listen');
$writer->quit;

# Many appends are told of together.
my @busy = map { client($node, "busy$_", <<'SQL', 'listen') } 1 .. 2;
DO $$ DECLARE until timestamptz := clock_timestamp() + '2 s'; BEGIN WHILE clock_timestamp() < until LOOP PERFORM es_append('Busy-' || (random() * 9)::int, 'Tick'); COMMIT; END LOOP; END $$;
SQL
my $began = Time::HiRes::time();
finish_client($_) for @busy;
my $last = one($node, 'SELECT max(position) FROM eventstore.event_log', 'listen');
@told = hear_of($last);
my $lasted = Time::HiRes::time() - $began;
diag(sprintf '%d notifications of %d positions in %.1f s', scalar @told, $last - $other, $lasted);
cmp_ok(scalar @told, '<=', 10 * $lasted + 3, 'about ten notifications a second');
cmp_ok(scalar @told, '>=', 3, 'and some');
is(join(' ', @told), join(' ', sort { $a <=> $b } @told), 'the head rises');
is($strange, '', 'only the scheduler tells, no append');
$listener->quit;

# ---- a standby ----

my $primary = new_node('primary', allows_streaming => 1, conf => <<'CONF');
autovacuum = off
eventstore.scavenge_interval = 0
CONF
$primary->safe_psql('postgres', <<'SQL');
CREATE FUNCTION upcast(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('old', data) $$;
SELECT es_register_upcaster('Old', 1, 'upcast', 'New', 1);
SQL
fill($primary, 'Removed');
$primary->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;

# The standby, when it has come as far as the primary, tells the same.
sub same_story
{
	my ($what) = @_;

	$primary->safe_psql('postgres', q{SELECT es_append('Sync-1', 'Tick')});
	my $head = one($primary, 'SELECT es_head()');
	await($standby, "SELECT es_head() >= $head", 'the standby to come to the head');
	$primary->wait_for_catchup($standby);
	is(story($standby), story($primary), "$what: the standby tells the same story");
	my $all = "SELECT md5(string_agg(e::text, ' ' ORDER BY position)) FROM es_read_all(0, NULL) e WHERE position <= $head";
	is(one($standby, $all), one($primary, $all), "$what: and by position");
	sound($_, "$what: es_check() finds nothing on the " . $_->name) for $primary, $standby;
	return;
}

same_story('at first');
$primary->safe_psql('postgres', 'SELECT es_scavenge()');
same_story('after a removal');
fill($primary, 'Hidden');
same_story('after more');
$primary->safe_psql('postgres', 'SELECT es_scavenge()');
$primary->safe_psql('postgres', 'VACUUM eventstore.event_log, eventstore.hidden, eventstore.stream, eventstore.retention');
same_story('after a vacuum');
$primary->safe_psql('postgres', q{SELECT es_register_upcaster('Old', 1, 'upcast', 'Newer', 1)});
same_story('after another upcaster');
gives($standby, q{SELECT DISTINCT type FROM es_read_stream('Hidden-kept')}, 'Newer', 'which is that of the standby, too');

refused($standby, "SELECT $_", '25006', "a standby refuses $_")
  for "es_truncate_stream('Hidden-kept', 2)", "es_delete_stream('Hidden-kept')", "es_tombstone_stream('Hidden-kept')",
  "es_set_retention('Hidden', 1)", 'es_scavenge()', "es_save_snapshot('Hidden-kept', 1, '1')", "es_register_upcaster('Old', 2, 'upcast')";

# A promotion: positions begin anew, versions do not.
my $before = one($primary, 'SELECT handed_out FROM eventstore.status');
$primary->stop;
$standby->promote;
gives($standby, "SELECT version, position > $before FROM es_append('$_-deleted', 'Tick', expected_version => 0)",
	'6|t', "after a promotion, versions of $_-deleted go on")
  for 'Removed', 'Hidden';
refused($standby, q{SELECT es_append('Removed-never', 'Tick')}, 'SE002', 'and what is gone is gone');
accepted($standby, 'SELECT es_scavenge()', 'it removes by itself');
sound($standby, 'es_check() finds nothing');
sound($node, "es_check() finds nothing in $_", $_)
  for split /\n/, one($node, q{SELECT datname FROM pg_database WHERE datallowconn AND datname !~ '^template'});
finish($node, $primary, $standby);
