# A server's databases: with a log, without one, with something that looks like one.
#
# A schema eventstore that somebody else has made is not taken over by CREATE EXTENSION,
# and nothing in it is touched by a background worker, whoever made it.  A log in template1
# is copied like any database: the copy has an epoch of its own, goes on beyond all that
# was copied, and no position comes twice, through renames, copies and a crash.  A store
# that takes the place of another never gets the other's head recorded as its own, since a
# standby would read up to there.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use EventStore;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# debug1: the postmaster tells which workers it starts.
my $node = new_node('databases', extension => 0, conf => <<'CONF');
autovacuum = off
log_min_messages = debug1
CONF

one($node, <<'SQL');
CREATE ROLE planter LOGIN;
CREATE ROLE maker LOGIN CREATEDB;
CREATE ROLE stranger LOGIN;
CREATE DATABASE good;
SQL

# ---- a database whose log must not notice what happens in others ----

one($node, <<'SQL', 'good');
CREATE EXTENSION eventstore;
SELECT es_append('Order-' || n % 3, 'T' || n % 2, jsonb_build_object('n', n),
                 metadata => '{"correlation_id": "c"}')
FROM generate_series(1, 10) n;
SQL
my $good_appends = 0;

# What every function answers that changes nothing.
sub good_answers
{
	return one($node, <<'SQL', 'good');
SELECT md5(string_agg(e::text, ' ')) FROM es_read_all(0, NULL) e WHERE stream LIKE 'Order%'
UNION ALL SELECT md5(string_agg(e::text, ' ')) FROM es_read_all(backwards => true, types => '{T1}') e
UNION ALL SELECT md5(string_agg(e::text, ' ')) FROM es_read_stream('Order-1') e
UNION ALL SELECT md5(string_agg(e::text, ' ')) FROM es_read_category('Order') e
UNION ALL SELECT md5(string_agg(e::text, ' ')) FROM es_read_correlation('c') e
UNION ALL SELECT es_epoch()::text
UNION ALL SELECT es_stream_version('Order-1')::text
UNION ALL SELECT es_category('Order-1')
UNION ALL SELECT es_check_version('Order-1', 4)::text
UNION ALL SELECT (es_position_at('-infinity') = 0)::text
UNION ALL SELECT (es_position_at('infinity') <= es_head())::text
UNION ALL SELECT es_wait(es_head(), '0 s')::text
SQL
}

my $good_answers = good_answers();
like($good_answers, qr/^(?:\w{32}\n){5}\S{36}\n4\nOrder\n4\ntrue\ntrue\ntrue$/,
	'every function of a database with a log answers');

sub good_is_right
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is(good_answers(), $good_answers, "$what: a log in another database reads as before");
	my $expected = join '|', map { $good_appends + $_ } 1 .. 3;
	gives($node, <<"SQL", "$expected|t", "$what: and takes appends", 'good');
SELECT a.version, b.version, c.version, a.position < b.position AND b.position < c.position
FROM es_append('More', 'T', '{}', $good_appends) a,
     LATERAL es_append_events('More', '[{"type": "T"}]', a.version) b,
     LATERAL es_append_batch('{More}', '{T}', '{"{}"}', ARRAY[b.version]) c
SQL
	$good_appends += 3;
	nothing_in_flight($node, "$what: nobody holds its head back", 'good');
	return;
}

# ---- schemas that somebody else has made ----

# All of the store's relations, and what anybody who ran code in them would do for the
# planter: a trigger, an index that evaluates a function, a function in place of each of
# the extension's.
my $planted = <<'SQL';
CREATE SCHEMA eventstore;
CREATE FUNCTION public.spring() RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    ALTER ROLE planter SUPERUSER;
    RETURN 1;
END $$;
CREATE FUNCTION public.trap(bigint) RETURNS bigint IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
    RETURN public.spring();
END $$;
CREATE FUNCTION public.trap_trigger() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM public.spring();
    RETURN NEW;
END $$;
CREATE TABLE eventstore.event_log (position bigint, stream_key bigint, version bigint,
    created_at timestamptz, type_key bigint, event_id uuid, data jsonb, metadata jsonb, tags text[]);
CREATE TABLE eventstore.stream (stream_key bigint, name text);
CREATE TABLE eventstore.event_type (type_key bigint, category text, bucket int, type text, schema_version int);
CREATE TABLE eventstore.mark (head bigint, identity uuid, moved_at timestamptz);
INSERT INTO eventstore.mark VALUES (5, gen_random_uuid(), now());
CREATE SEQUENCE eventstore.position_register;
CREATE SEQUENCE eventstore.stream_key_register;
CREATE SEQUENCE eventstore.seal_register;
CREATE SEQUENCE eventstore.timeline_register;
SELECT setval('eventstore.position_register', 100), setval('eventstore.seal_register', 2);
CREATE INDEX event_log_position ON eventstore.event_log (position);
CREATE INDEX event_log_stream ON eventstore.event_log (stream_key, version);
CREATE INDEX event_log_id ON eventstore.event_log (event_id);
CREATE INDEX event_log_type ON eventstore.event_log (type_key, position);
CREATE INDEX event_log_correlation ON eventstore.event_log (public.trap(position))
    WHERE position > 5;
CREATE INDEX stream_key ON eventstore.stream (stream_key);
CREATE INDEX stream_name ON eventstore.stream (name);
CREATE INDEX event_type_key ON eventstore.event_type (type_key);
CREATE INDEX event_type_category ON eventstore.event_type (category);
CREATE INDEX event_type_bucket ON eventstore.event_type (bucket);
CREATE INDEX event_type_type ON eventstore.event_type (type);
CREATE INDEX mark_head ON eventstore.mark (public.trap(head)) WHERE head > 5;
CREATE TRIGGER trap BEFORE INSERT OR UPDATE ON eventstore.mark
    FOR EACH ROW EXECUTE FUNCTION public.trap_trigger();
CREATE TRIGGER trap BEFORE INSERT ON eventstore.event_log
    FOR EACH ROW EXECUTE FUNCTION public.trap_trigger();
CREATE FUNCTION public.es_head() RETURNS bigint LANGUAGE sql AS 'SELECT public.spring()';
CREATE FUNCTION eventstore.log_status() RETURNS bigint LANGUAGE sql AS 'SELECT public.spring()';
SQL

# What is in a database, but for the system's own.
sub inventory
{
	my ($dbname) = @_;
	return one($node, <<'SQL', $dbname);
SELECT coalesce(string_agg(what, ' ' ORDER BY what), '')
FROM (SELECT 'relation ' || oid::regclass || ' ' || pg_relation_filenode(oid)
      FROM pg_class WHERE oid >= 16384 AND relkind <> 't' AND relnamespace <> 'pg_toast'::regnamespace
      UNION ALL SELECT 'function ' || oid::regprocedure FROM pg_proc WHERE oid >= 16384
      UNION ALL SELECT 'schema ' || nspname FROM pg_namespace WHERE oid >= 16384
      UNION ALL SELECT 'extension ' || extname FROM pg_extension WHERE oid >= 16384) o (what)
SQL
}

my $user = one($node, 'SELECT current_user');
my %makers = (
	by_superuser => [ $user, 'CREATE SCHEMA eventstore' ],
	by_owner => [ 'planter', $planted ],
	by_guest => [ 'planter', $planted =~ s/public\./own./gr =~ s/^/CREATE SCHEMA own; /r ]);
for my $dbname (sort keys %makers)
{
	my ($role, $script) = @{ $makers{$dbname} };

	one($node, "CREATE DATABASE $dbname" . ($dbname eq 'by_owner' ? ' OWNER planter' : ''));
	one($node, 'GRANT CREATE ON DATABASE by_guest TO planter') if $dbname eq 'by_guest';
	accepted($node, $script, "$dbname: a schema eventstore is there",
		dbname => $dbname, user => $role);
	my $before = inventory($dbname);
	refused($node, $_, '42P06', "$dbname: $_ does not take it over",
		dbname => $dbname, like => qr/ERROR:.*schema "eventstore" already exists/)
	  for 'CREATE EXTENSION eventstore', 'CREATE EXTENSION eventstore SCHEMA pg_catalog',
	  'CREATE EXTENSION eventstore CASCADE';
	is(inventory($dbname), $before, "$dbname: nothing was added or replaced");
	good_is_right("CREATE EXTENSION refused $dbname");
}

# How often the launcher has had a worker look into a database since the log was so long.
sub visits
{
	my ($dbname, $since) = @_;
	my $oid = one($node, "SELECT oid FROM pg_database WHERE datname = '$dbname'");
	my $log = slurp_file($node->logfile, $since);
	return scalar(() =
		  $log =~ /starting background worker process "eventstore scheduler for database $oid"/g);
}

# Every database is looked into after a start.  What a worker did there is counted when it
# ends: so it has looked, and gone.
my @planted = sort keys %makers;
my %before = map { $_ => inventory($_) } @planted;
my %marks = map { $_ => one($node, 'TABLE eventstore.mark', $_) } qw(by_owner by_guest);
one($node, 'SELECT pg_stat_reset()', $_) for @planted;
$node->stop;
my $log_before = -s $node->logfile;
$node->start;
for my $dbname (@planted)
{
	await($node, <<"SQL", "somebody to look into $dbname");
SELECT xact_commit > 0
FROM pg_stat_database
WHERE datname = '$dbname' AND stats_reset < pg_postmaster_start_time()
SQL
}
wait_for_scheduler($node, 'good');
gives($node, <<'SQL', 'good', 'only a log has a scheduler');
SELECT string_agg(datname, ' ')
FROM pg_stat_activity
WHERE backend_type = 'eventstore scheduler'
SQL
for my $dbname (@planted)
{
	is(visits($dbname, $log_before), 1, "$dbname: a worker has come, once");
	is(inventory($dbname), $before{$dbname}, "$dbname: and changed nothing");
}
is(one($node, 'TABLE eventstore.mark', $_), $marks{$_}, "$_: nor the planted mark")
  for sort keys %marks;
gives($node, q{SELECT rolsuper FROM pg_roles WHERE rolname = 'planter'},
	'f', 'nobody has stepped into the trap');
my @complaints = grep { /\] eventstore \w+ .*(?:WARNING|ERROR|FATAL|PANIC):/ }
  split /\n/, slurp_file($node->logfile, $log_before);
is(join("\n", @complaints), '', 'no worker has complained');
good_is_right('after a start beside planted schemas');

# The trap works, and the server knows the planted tables only as somebody's tables.
is((error_of($node, 'UPDATE eventstore.mark SET head = 6', dbname => 'by_guest', user => 'planter'))[0],
	'42501', 'the trap springs when a plain role touches it');
gives($node, <<'SQL', 't', 'and does its work when a superuser does', 'by_owner');
BEGIN;
UPDATE eventstore.mark SET head = 6;
SELECT rolsuper FROM pg_roles WHERE rolname = 'planter';
ROLLBACK;
SQL

one($node, 'DROP SCHEMA eventstore CASCADE', 'by_superuser');
accepted($node, 'CREATE EXTENSION eventstore', 'without the schema the extension can be created',
	dbname => 'by_superuser');
gives($node, q{SELECT version, position FROM es_append('A', 'T')},
	'1|1', 'and works', 'by_superuser');
good_is_right('a log more');

# ---- a log in template1 ----

one($node, <<'SQL', 'template1');
CREATE EXTENSION eventstore;
SELECT es_append('Order-' || n % 3, 'T') FROM generate_series(1, 30) n;
BEGIN;
SELECT es_append('Order-1', 'Never') FROM generate_series(1, 5) n;
ROLLBACK;
SQL
my $digest = log_digest($node, 'template1');
my $handed_out = one($node, 'SELECT handed_out FROM eventstore.status', 'template1');
my %epochs = (template1 => one($node, 'SELECT es_epoch()', 'template1'));
my $scheduler = wait_for_scheduler($node, 'template1');

sub epoch_is_new
{
	my ($dbname) = @_;
	my $epoch = one($node, 'SELECT es_epoch()', $dbname);
	my @same = grep { $epochs{$_} eq $epoch } keys %epochs;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	$epochs{$dbname} = $epoch;
	return is("@same", '', "$dbname: an epoch of its own");
}

# Positions, of rolled-back appends too, in the order in which they were handed out.  The
# first is that up to which the database was filled when it was made.
my @positions;

sub append_some
{
	my ($dbname) = @_;
	push @positions, split /\n/, one($node, <<'SQL', $dbname);
SELECT position FROM es_append('Order-1', 'T');
BEGIN;
SELECT position FROM es_append('Order-2', 'Never');
ROLLBACK;
SELECT position FROM es_append('Order-2', 'T');
SQL
	return;
}

sub positions_rise
{
	my ($what) = @_;
	my @falls = grep { $positions[$_] <= $positions[ $_ - 1 ] } 1 .. $#positions;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(scalar(@falls), 0, "$what: no position again") or diag("@positions");
	return;
}

accepted($node, 'CREATE DATABASE first', 'CREATE DATABASE, while the scheduler of template1 runs',
	user => 'maker', dbname => 'postgres');
is(log_digest($node, 'first'), $digest, 'first: every byte of every event');
epoch_is_new('first');
is(one($node, 'SELECT count(*) FROM es_read_all(0, NULL)', 'first'), '30', 'first: all can be read');
@positions = ($handed_out);
append_some('first');
positions_rise('first');
is(broken_streams($node, 'first'), '0', 'first: versions have no gaps');
$scheduler = wait_for_scheduler($node, 'template1', $scheduler);
ok($scheduler, 'the scheduler of template1 is back');
wait_for_scheduler($node, 'first');

# Several at the same time, in both ways of copying, while schedulers of template1 try to
# come back.
my @makers = map {
	client($node, "maker$_", <<"SQL")
SELECT 'CREATE DATABASE m_${_}_' || n || CASE WHEN n % 2 = 0 THEN ' STRATEGY file_copy' ELSE '' END
FROM generate_series(1, 4) n \\gexec
SQL
} 1 .. 3;
finish_client($_) for @makers;
is(join('', map { slurp_file($_->{err}) } @makers), '', 'three sessions make databases at once');
my @made = split /\n/, one($node, q{SELECT datname FROM pg_database WHERE datname ~ '^m_' ORDER BY 1});
is(scalar(@made), 12, 'all of them are there');
my @wrong = grep {
	one($node, <<"SQL", $_) ne 't|t|t'
SELECT (SELECT count(*) = 30 FROM es_read_all(0, NULL)), es_epoch() <> '$epochs{template1}',
       (es_append('Order-1', 'T')).position > $handed_out
SQL
} @made;
is("@wrong", '', 'each is a whole log that goes on');
is(one($node, 'SELECT es_epoch()', 'template1'), $epochs{template1}, 'template1 keeps its epoch');
is(log_digest($node, 'template1'), $digest, 'and its events');
one($node, "DROP DATABASE $_ WITH (FORCE)") for @made;

# The owner, who is no superuser, does to the copy what needs it to itself.
$scheduler = wait_for_scheduler($node, 'first');
accepted($node, 'CREATE DATABASE second TEMPLATE first', 'its owner copies the copy',
	user => 'maker', dbname => 'postgres');
epoch_is_new('second');
is(log_digest($node, 'second'), log_digest($node, 'first'), 'second: every byte of every event');
my @of_first = @positions;
append_some('second');
positions_rise('second');
is(broken_streams($node, 'second'), '0', 'second: versions have no gaps');
@positions = @of_first;
append_some('first');
positions_rise('first, after it was copied');

wait_for_scheduler($node, 'second');
accepted($node, 'DROP DATABASE second', 'its owner drops it while the scheduler runs',
	user => 'maker', dbname => 'postgres');
$scheduler = wait_for_scheduler($node, 'first');
accepted($node, 'ALTER DATABASE first RENAME TO renamed', 'its owner renames one while it runs',
	user => 'maker', dbname => 'postgres');
gives($node, 'SELECT es_epoch()', $epochs{first}, 'renamed: the epoch is the same', 'renamed');
append_some('renamed');
positions_rise('renamed');
$scheduler = wait_for_scheduler($node, 'renamed', $scheduler);
ok($scheduler, 'renamed: the scheduler is back');

# Who may not does not disturb.
my $of_template = wait_for_scheduler($node, 'template1');
refused($node, $_->[1], '42501', "$_->[0]: $_->[1]", user => $_->[0], dbname => 'postgres')
  for [ 'stranger', 'CREATE DATABASE x' ], [ 'stranger', 'CREATE DATABASE x TEMPLATE renamed' ],
  [ 'stranger', 'ALTER DATABASE renamed RENAME TO x' ],
  [ 'stranger', 'ALTER DATABASE template1 RENAME TO x' ],
  [ 'stranger', 'DROP DATABASE renamed' ], [ 'maker', 'CREATE DATABASE x TEMPLATE good' ],
  [ 'maker', 'ALTER DATABASE good RENAME TO x' ], [ 'maker', 'DROP DATABASE good WITH (FORCE)' ];
is(wait_for_scheduler($node, 'template1'), $of_template, 'the scheduler of template1 has not been ended');
is(wait_for_scheduler($node, 'renamed'), $scheduler, 'nor that of a database');

# A crash: the register of positions was copied with the rest.
$node->stop('immediate');
$node->start;
append_some('renamed');
positions_rise('after a crash');
is(broken_streams($node, 'renamed'), '0', 'after a crash: versions have no gaps');
gives($node, 'SELECT es_epoch()', $epochs{first}, 'after a crash: the epoch is the same', 'renamed');
is(log_digest($node, 'template1'), $digest, 'after a crash: the events of template1');
good_is_right('after a crash');

# ---- a store that takes the place of another ----

one($node, 'CREATE DATABASE replaced TEMPLATE template0');
one($node, 'CREATE EXTENSION eventstore', 'replaced');

# The head that is recorded, and the head, of one and the same store: es_head() locks it.
my $recorded_and_head = <<'SQL';
BEGIN ISOLATION LEVEL READ COMMITTED;
SELECT es_head() AS _ \gset
SELECT head AS recorded FROM eventstore.mark \gset
SELECT :recorded <= es_head(), :recorded, es_head();
COMMIT;
SQL

# The scheduler has a head to record and waits for the lock of whoever replaces the store:
# an appender is open; the drop queues behind it; the commit moves the head; the
# scheduler queues behind the drop.
for my $case ([ 'without an append', '0' ], [ 'with an append', '1' ])
{
	my ($what, $appends) = @$case;
	my ($appender, $dropper) = map { open_session($node, 'replaced') } 1 .. 2;

	one($node, q{SELECT es_append('A', 'T') FROM generate_series(1, 500)}, 'replaced');
	my $scheduler = wait_for_scheduler($node, 'replaced');
	await($node, 'SELECT recorded_head = head FROM eventstore.status', 'the head to be recorded', 'replaced');
	$appender->query_safe($_) for 'BEGIN', q{SELECT * FROM es_append('A', 'T')};
	$dropper->query_safe($_) for 'SET eventstore.allow_drop = on', 'BEGIN';
	session_start($dropper, 'DROP EXTENSION eventstore');
	wait_for_wait($node, $dropper, "wait_event_type = 'Lock'");
	$appender->query_safe('COMMIT');
	$dropper->query_safe('');
	await($node, <<"SQL", 'the scheduler to wait');
SELECT count(*) = 1 FROM pg_stat_activity WHERE pid = $scheduler AND wait_event_type = 'Lock'
SQL
	$dropper->query_safe('CREATE EXTENSION eventstore');
	$dropper->query_safe(q{SELECT * FROM es_append('A', 'T')}) if $appends;
	$dropper->query_safe('COMMIT');
	$_->quit for $appender, $dropper;
	await($node, <<"SQL", 'the scheduler of the old store to leave');
SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $scheduler
SQL
	like(one($node, $recorded_and_head, 'replaced'), qr/^t\|[01]\|$appends$/,
		"replaced in one transaction, $what: the old head is not recorded in the new store");
}
comes_true($node, 'SELECT recorded_head = 1 FROM eventstore.status', 'its own is', dbname => 'replaced');

# The same at full speed, in one transaction and in two, with appenders and the scheduler
# at whatever they are.
my @appenders = map { client($node, "appender$_", <<"SQL", 'replaced') } 1 .. 2;
\\set ON_ERROR_STOP off
@{[ "SELECT es_append('B-$_', 'T') FROM generate_series(1, 20);\nSELECT pg_sleep(0.002);\n" x 50_000 ]}
SQL
my @readings;
for my $round (1 .. 8)
{
	my $head = one($node, 'SELECT es_head()', 'replaced');
	await($node, "SELECT recorded_head > 0 AND handed_out > $head + 100 FROM eventstore.status", 'the appenders to append', 'replaced');
	one($node, $round % 2 ? <<'SQL' : <<'SQL', 'replaced');
SET eventstore.allow_drop = on;
BEGIN; DROP EXTENSION eventstore; CREATE EXTENSION eventstore; COMMIT;
SQL
SET eventstore.allow_drop = on;
DROP EXTENSION eventstore;
CREATE EXTENSION eventstore;
SQL
	push @readings, split /\n/, one($node, $recorded_and_head x 50, 'replaced');
}
$_->{run}->kill_kill for @appenders;
is(scalar(@readings), 400, 'replaced again and again: the mark has been looked at');
is(join("\n", grep { !/^t/ } @readings), '', 'it never is ahead of the head of its store');
my $last = one($node, q{SELECT position FROM es_append('A', 'T')}, 'replaced');
comes_true($node, "SELECT recorded_head = $last FROM eventstore.status", 'the last store is served',
	dbname => 'replaced');
is(broken_streams($node, 'replaced'), '0', 'its versions have no gaps');
good_is_right('after all that');

finish($node);
