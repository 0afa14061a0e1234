# Owners of projections and upcasters, beyond one database: roles that another database
# drops, and dumps that are restored with the owner, without the role, or by another.
#
# Whatever comes back takes appends, and is read.  What joe had the database run never
# runs with the rights of a superuser because of it: his handler and his upcaster take
# down as whom they run.  And each event is applied once, whether before the dump or after.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use EventStore;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $conf = "autovacuum = off\nmax_worker_processes = 40";
my $node = new_node('here', conf => $conf, extension => 0);
my $folder = $PostgreSQL::Test::Utils::tmp_check;

one($node, 'CREATE ROLE joe; CREATE ROLE jane; CREATE ROLE restorer LOGIN');

# A store in which all is joe's: an inline and an asynchronous projection, and an upcaster.
sub make_store
{
	my ($dbname) = @_;

	one($node, "CREATE DATABASE $dbname");
	one($node, <<'SQL', $dbname);
CREATE EXTENSION eventstore;
GRANT EXECUTE ON FUNCTION es_create_projection, es_register_upcaster TO joe;
CREATE SCHEMA models;
GRANT ALL ON SCHEMA models TO joe, jane;
SET ROLE joe;
CREATE TABLE models.seen (projection text, position bigint, who name, session name, upcast_by text);
CREATE FUNCTION models.see_inline(event es_event) RETURNS void LANGUAGE sql
    AS $$ INSERT INTO models.seen VALUES ('inline', event.position, current_user, session_user, event.data ->> 'by') $$;
CREATE FUNCTION models.see_async(event es_event) RETURNS void LANGUAGE sql
    AS $$ INSERT INTO models.seen VALUES ('async', event.position, current_user, session_user, event.data ->> 'by') $$;
CREATE FUNCTION models.upcast(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE sql
    AS $$ SELECT data || jsonb_build_object('by', current_user) $$;
SELECT es_create_projection('inline', 'models.see_inline', mode => 'inline'),
       es_create_projection('async', 'models.see_async'),
       es_register_upcaster('T', 1, 'models.upcast');
RESET ROLE;
SELECT es_append('A-' || n, 'T') FROM generate_series(1, 5) n;
SELECT es_wait_for_projection('async', timeout => '60 s');
SQL
	return $dbname;
}

my $states = q{SELECT string_agg(name || ' ' || state || ' ' || coalesce(owner, '-'), ', ' ORDER BY name) FROM eventstore.projections};

sub appends
{
	my ($server, $dbname, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return accepted($server, q{SELECT es_append('A-1', 'T'), es_append('B-1', 'T')},
		"$name: takes appends", dbname => $dbname);
}

# All events are applied, each once.
sub each_once
{
	my ($server, $dbname, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	one($server, q{SELECT es_wait_for_projection(name, timeout => '60 s') FROM eventstore.projection}, $dbname);
	gives($server, <<'SQL', "async t t\ninline t t", "$name: each event is applied once", $dbname);
SELECT projection || ' ' || (count(*) = (SELECT count(*) FROM eventstore.event_log))::text::char
       || ' ' || (count(*) = count(DISTINCT position))::text::char
FROM models.seen
GROUP BY projection
ORDER BY projection
SQL
	return;
}

# And none by a superuser.
sub applied_once
{
	my ($server, $dbname, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	each_once($server, $dbname, $name);
	nothing_as_superuser($server, $dbname, $name);
	return;
}

sub nothing_as_superuser
{
	my ($server, $dbname, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return gives($server, <<'SQL', '', "$name: nothing of joe's has run as a superuser", $dbname);
SELECT DISTINCT s.*
FROM models.seen s
JOIN pg_roles r ON r.rolsuper AND (r.rolname = s.who OR r.rolname = s.upcast_by)
SQL
}

sub stored_as_is
{
	my ($server, $dbname, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return gives($server, q{SELECT DISTINCT data FROM es_read_all(0)},
		'{}', "$name: events are shown as they are stored", $dbname);
}

# ---- roles that another database drops ----

make_store('first');
one($node, 'CREATE DATABASE elsewhere');
refused($node, 'DROP ROLE joe', '2BP01', 'DROP ROLE is refused from another database',
	dbname => 'elsewhere', like => qr/objects? in database first/);
refused($node, 'DROP ROLE joe', '2BP01', 'and there',
	dbname => 'first', like => qr/owner of function eventstore\.owner_of_projection_1\(\)/);
accepted($node, 'REASSIGN OWNED BY joe TO jane; DROP OWNED BY joe',
	'what joe owns in another database, goes', dbname => 'elsewhere');
gives($node, $states, 'async running joe, inline running joe', 'and here it stays', 'first');
applied_once($node, 'first', 'first');

accepted($node, 'REASSIGN OWNED BY joe TO jane; DROP OWNED BY joe', 'REASSIGN OWNED', dbname => 'first');
one($node, 'DROP ROLE joe', 'elsewhere');
gives($node, $states, 'async running jane, inline running jane', 'all is jane\'s', 'first');
appends($node, 'first', 'after REASSIGN OWNED');
applied_once($node, 'first', 'after REASSIGN OWNED');
gives($node, q{SELECT DISTINCT who, upcast_by FROM models.seen WHERE position > 5}, 'jane|jane',
	'her rights', 'first');

one($node, 'ALTER ROLE jane RENAME TO janet; CREATE ROLE jane SUPERUSER', 'elsewhere');
appends($node, 'first', 'after a rename elsewhere');
each_once($node, 'first', 'after a rename elsewhere');
gives($node, q{SELECT DISTINCT who, upcast_by FROM models.seen WHERE position > 7}, 'janet|janet',
	'with the rights of the role that was renamed', 'first');
gives($node, $states, 'async running janet, inline running janet', 'a renamed role keeps what is its own', 'first');
one($node, 'DROP ROLE jane; ALTER ROLE janet RENAME TO jane', 'elsewhere');

refused($node, 'DROP ROLE jane', '2BP01', 'DROP ROLE is refused still', dbname => 'elsewhere');
accepted($node, 'DROP OWNED BY jane', 'DROP OWNED', dbname => 'first');
gives($node, 'SELECT count(*) FROM eventstore.projections', '0', 'the projections have gone', 'first');
one($node, 'DROP ROLE jane; CREATE ROLE jane; CREATE ROLE joe', 'elsewhere');
appends($node, 'first', 'after DROP OWNED');
stored_as_is($node, 'first', 'after DROP OWNED');

# A copy of a database has owners of its own.
make_store('origin');
one($node, 'CREATE DATABASE copy TEMPLATE origin');
refused($node, 'DROP ROLE joe', '2BP01', 'DROP ROLE is refused for a copy',
	dbname => 'elsewhere', like => qr/database copy/);
appends($node, 'copy', 'a copy');
applied_once($node, 'copy', 'a copy');
one($node, 'DROP DATABASE copy');

# ---- restored with the owner ----

sub run_ok
{
	my ($server, $what, @command) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return $server->command_ok(\@command, $what);
}

run_ok($node, 'pg_dump', 'pg_dump', '-f', "$folder/plain.sql", 'origin');
run_ok($node, 'pg_dump -Fc', 'pg_dump', '-Fc', '-f', "$folder/custom", 'origin');
run_ok($node, 'pg_dump -Fd -j2', 'pg_dump', '-Fd', '-j2', '-f', "$folder/directory", 'origin');

sub check_with_owner
{
	my ($server, $dbname) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	gives($server, $states, 'async running joe, inline running joe', "$dbname: joe's", $dbname);
	appends($server, $dbname, $dbname);
	applied_once($server, $dbname, $dbname);
	gives($server, q{SELECT DISTINCT who, upcast_by FROM models.seen}, 'joe|joe', "$dbname: by joe", $dbname);
	refused($server, 'DROP ROLE joe', '2BP01', "$dbname: DROP ROLE is refused", dbname => $dbname);
	return;
}

sub new_database
{
	my ($server, $dbname) = @_;
	one($server, "CREATE DATABASE $dbname TEMPLATE template0");
	return $dbname;
}

run_ok($node, 'plain', 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', new_database($node, 'plain'),
	'-f', "$folder/plain.sql");
check_with_owner($node, 'plain');
run_ok($node, 'pg_restore', 'pg_restore', '-e', '-d', new_database($node, 'custom'), "$folder/custom");
check_with_owner($node, 'custom');
run_ok($node, 'pg_restore -1', 'pg_restore', '-1', '-d', new_database($node, 'single'), "$folder/custom");
check_with_owner($node, 'single');
run_ok($node, 'pg_restore -j2', 'pg_restore', '-e', '-j2', '-d', new_database($node, 'directory'),
	"$folder/directory");
check_with_owner($node, 'directory');

# ---- by a superuser, without the owner ----

# What comes back of a dump from which a superuser has made all his own.
sub check_foreign
{
	my ($server, $dbname) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	gives($server, $states, 'async paused postgres, inline paused postgres', "$dbname: is paused", $dbname);
	gives($server, q{SELECT DISTINCT last_error FROM eventstore.projections},
		'restored without its owner, role "joe"', "$dbname: which says why", $dbname);
	like(slurp_file($server->logfile),
		qr/WARNING:.*projection "inline" is paused: its owner was role "joe" and is superuser "postgres" now/,
		"$dbname: a warning");
	like(slurp_file($server->logfile),
		qr/WARNING:.*the upcaster of type "T", schema version 1, is not applied: its owner was role "joe"/,
		"$dbname: and one of the upcaster");
	appends($server, $dbname, $dbname);
	stored_as_is($server, $dbname, $dbname);
	gives($server, q{SELECT projection, count(*) FROM models.seen GROUP BY 1 ORDER BY 1}, "async|5\ninline|5",
		"$dbname: nothing is applied", $dbname);
	nothing_as_superuser($server, $dbname, $dbname);
	return;
}

run_ok($node, 'pg_restore --no-owner', 'pg_restore', '-e', '--no-owner', '-d', new_database($node, 'no_owner'),
	"$folder/custom");
check_foreign($node, 'no_owner');

# Dumped and restored anew as it is, it is paused again.
run_ok($node, 'pg_dump of that', 'pg_dump', '-Fc', '-f', "$folder/again", 'no_owner');
run_ok($node, 'pg_restore of that', 'pg_restore', '-e', '-d', new_database($node, 'again'), "$folder/again");
gives($node, $states, 'async paused postgres, inline paused postgres', 'again: is paused', 'again');
appends($node, 'again', 'again');
stored_as_is($node, 'again', 'again');

# Given to a role, all that came since is applied.
sub give_to_joe
{
	my ($server, $dbname, $resume) = @_;
	my $do = $resume ? ', es_resume_projection(name)' : '';

	one($server, <<"SQL", $dbname);
GRANT USAGE ON SCHEMA models TO joe;
GRANT SELECT, INSERT ON models.seen TO joe;
GRANT EXECUTE ON FUNCTION es_register_upcaster TO joe;
SELECT es_alter_projection(name, owner => 'joe')$do FROM eventstore.projection ORDER BY name;
SQL
	return;
}
give_to_joe($node, 'no_owner', 1);
refused($node, q{SET ROLE joe; SELECT es_register_upcaster('T', 1, 'models.upcast')}, '42501',
	'what is a superuser\'s now, joe does not register again', dbname => 'no_owner');
applied_once($node, 'no_owner', 'no_owner: given to joe');
gives($node, q{SELECT projection, count(*) FROM models.seen WHERE who = 'joe' AND upcast_by IS NULL GROUP BY 1 ORDER BY 1},
	"async|2\ninline|2", 'no_owner: as joe, and as stored', 'no_owner');
appends($node, 'no_owner', 'no_owner: given to joe');
applied_once($node, 'no_owner', 'no_owner: given to joe, inline again');
gives($node, q{SELECT string_agg(name, ' ') FROM eventstore.projection WHERE live}, 'inline',
	'no_owner: and inline', 'no_owner');
accepted($node, <<'SQL', 'no_owner: the upcaster is given to joe', dbname => 'no_owner');
ALTER FUNCTION eventstore.owner_of_upcaster_1() OWNER TO joe;
SET ROLE joe;
SELECT es_register_upcaster('T', 1, 'models.upcast');
SQL
gives($node, q{SELECT DISTINCT data FROM es_read_all(0)}, '{"by": "joe"}', 'no_owner: and applied again', 'no_owner');

# Or a superuser wants it as it is.
one($node, q{SELECT es_resume_projection(name) FROM eventstore.projection}, 'again');
gives($node, $states, 'async running postgres, inline running postgres', 'again: a superuser wants it so', 'again');
one($node, q{SELECT es_wait_for_projection(name, timeout => '60 s') FROM eventstore.projection}, 'again');
gives($node, q{SELECT projection, count(*), count(DISTINCT position) FROM models.seen GROUP BY 1 ORDER BY 1},
	"async|9|9\ninline|9|9", 'again: each event is applied once', 'again');
run_ok($node, 'pg_dump of what he wanted', 'pg_dump', '-Fc', '-f', "$folder/wanted", 'again');
run_ok($node, 'and pg_restore', 'pg_restore', '-e', '-d', new_database($node, 'wanted'), "$folder/wanted");
gives($node, $states, 'async running postgres, inline running postgres', 'wanted: it is no news', 'wanted');

# Before the first append, too: what is restored is applied already.
run_ok($node, 'pg_restore --no-owner', 'pg_restore', '-e', '--no-owner', '-d', new_database($node, 'early'),
	"$folder/custom");
give_to_joe($node, 'early', 1);
appends($node, 'early', 'early: resumed before the first append');
applied_once($node, 'early', 'early: resumed before the first append');

# ---- by an ordinary role, which can do so where it may act as the owner of the store ----

one($node, 'CREATE EXTENSION eventstore', new_database($node, 'ordinary'));
one($node, 'GRANT CREATE ON DATABASE ordinary TO restorer');
$node->command_fails([ 'pg_restore', '--no-owner', '--no-acl', '-U', 'restorer', '-d', 'ordinary', "$folder/custom" ],
	'a role without rights on the store restores no log');
gives($node, 'SELECT count(*) FROM eventstore.event_log', '0', 'ordinary: nothing of it', 'ordinary');
accepted($node, q{SELECT es_append('A-1', 'T')}, 'ordinary: takes appends', dbname => 'ordinary');

one($node, 'CREATE EXTENSION eventstore', new_database($node, 'member'));
one($node, 'GRANT CREATE ON DATABASE member TO restorer; GRANT postgres TO restorer');
run_ok($node, 'a member of the store\'s owner does', 'pg_restore', '-e', '--no-owner', '--no-acl', '-U', 'restorer',
	'-d', 'member', "$folder/custom");
gives($node, $states, 'async running restorer, inline running restorer', 'member: is the owner', 'member');
appends($node, 'member', 'member');
applied_once($node, 'member', 'member');
gives($node, q{SELECT DISTINCT who, upcast_by FROM models.seen ORDER BY 1}, "joe|joe\nrestorer|restorer",
	'member: with his rights', 'member');
one($node, 'REVOKE postgres FROM restorer');

# ---- data alone ----

one($node, 'CREATE EXTENSION eventstore', new_database($node, 'data_only'));
one($node, 'CREATE SCHEMA models', 'data_only');
run_ok($node, 'pg_restore of the models', 'pg_restore', '-e', '-n', 'models', '--section=pre-data',
	'-d', 'data_only', "$folder/custom");
run_ok($node, 'pg_restore --data-only', 'pg_restore', '-e', '--data-only', '-d', 'data_only', "$folder/custom");
gives($node, $states, 'async stopped -, inline stopped -', 'data_only: has no owner', 'data_only');
appends($node, 'data_only', 'data_only');
stored_as_is($node, 'data_only', 'data_only');
refused($node, q{SELECT es_wait_for_projection('async')}, 'SE005', 'data_only: counts as stopped', dbname => 'data_only');
give_to_joe($node, 'data_only', 0);
gives($node, q{SELECT count(*) FROM eventstore.projections WHERE owner = 'joe' AND state <> 'stopped'}, '2',
	'data_only: has one', 'data_only');
applied_once($node, 'data_only', 'data_only');
appends($node, 'data_only', 'data_only, with an owner');
applied_once($node, 'data_only', 'data_only, with an owner');

# What carries the owners, later than the rows: for a moment all is the superuser's.
my ($list) = run_command([ 'pg_restore', '-l', "$folder/custom" ]);
append_to_file("$folder/owners.list", join("\n", grep { /owner_of_/ } split /\n/, $list) . "\n");
for my $late ([ 'late', [], 'paused joe' ], [ 'late_foreign', ['--no-owner'], 'paused postgres' ])
{
	my ($dbname, $options, $state) = @$late;

	one($node, 'CREATE EXTENSION eventstore', new_database($node, $dbname));
	one($node, 'CREATE SCHEMA models', $dbname);
	run_ok($node, "$dbname: the models", 'pg_restore', '-e', '-n', 'models', '--section=pre-data', '-d', $dbname,
		"$folder/custom");
	run_ok($node, "$dbname: the data", 'pg_restore', '-e', '--data-only', '-d', $dbname, "$folder/custom");
	appends($node, $dbname, $dbname);
	$node->command_checks_all(
		[ 'pg_restore', @$options, '-L', "$folder/owners.list", '-d', $dbname, "$folder/custom" ],
		0, [qr/^$/], [qr/^$/], "$dbname: the owners");
	nothing_as_superuser($node, $dbname, $dbname);
	gives($node, $states, "async $state, inline $state", "$dbname: $state", $dbname);
	appends($node, $dbname, $dbname);
	stored_as_is($node, $dbname, $dbname);
	give_to_joe($node, $dbname, 1);
	applied_once($node, $dbname, $dbname);
}

# Of the definitions alone there are owners of nothing: the next projection is its creator's.
run_ok($node, 'pg_restore --schema-only', 'pg_restore', '-e', '--schema-only', '-d', new_database($node, 'schema_only'),
	"$folder/custom");
accepted($node, <<'SQL', 'schema_only: a projection is made', dbname => 'schema_only');
SELECT es_create_projection('mine', query => 'SELECT FROM es_batch', mode => 'inline'), es_register_upcaster('T', 1, 'models.upcast');
SQL
gives($node, $states, 'mine running postgres', 'schema_only: it is its creator\'s', 'schema_only');
gives($node, q{SELECT data FROM es_append('A-1', 'T'), es_read_all(0)}, '', 'schema_only: an append', 'schema_only');
gives($node, q{SELECT data FROM es_read_all(0)}, '{"by": "postgres"}', 'schema_only: likewise the upcaster', 'schema_only');

# ---- where the role is not there ----

my $there = new_node('there', conf => $conf, extension => 0);
run_ok($there, 'without the role, --no-owner', 'pg_restore', '-e', '--no-owner', '--no-acl', '-d',
	new_database($there, 'no_owner'), "$folder/custom");
check_foreign($there, 'no_owner');
$there->command_checks_all(
	[ 'pg_restore', '-j2', '-d', new_database($there, 'no_role'), "$folder/directory" ],
	1, [qr/^$/], [qr/role "joe" does not exist/], 'without the role');
check_foreign($there, 'no_role');
one($there, 'CREATE ROLE joe');
give_to_joe($there, $_, 1) for 'no_owner', 'no_role';
for my $dbname ('no_owner', 'no_role')
{
	applied_once($there, $dbname, "$dbname, given to joe");
	appends($there, $dbname, "$dbname, given to joe");
	applied_once($there, $dbname, "$dbname, given to joe");
}

finish($there, $node);
