# CREATE and DROP EXTENSION, databases that come and go, and the background workers.
#
# The extension can be created and dropped, committed and rolled back, any number of
# times, also under sessions that have used it before; a log that holds events is not
# dropped by mistake.  The scheduler gets out of the way of statements that need a
# database to themselves, and comes back.  Workers that die are restarted; without them
# appends, reads and waiting go on.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use EventStore;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('extension', extension => 0, conf => <<'CONF');
autovacuum = off
restart_after_crash = on
eventstore.max_databases = 12
CONF

# ---- in one transaction with appends ----

one($node, 'CREATE DATABASE log');
my $other = open_session($node, 'log');    # a session that lives through all of it

one($node, q{BEGIN; CREATE EXTENSION eventstore; SELECT es_append('A', 'T'); ROLLBACK}, 'log');
gives($node, q{SELECT to_regnamespace('eventstore') IS NULL},
	't', 'CREATE EXTENSION with an append, rolled back: nothing is left', 'log');
is(session_error($other, 'SELECT count(*) FROM eventstore.status'), '42P01',
	'nothing for other sessions');

one($node, q{BEGIN; CREATE EXTENSION eventstore; SELECT es_append('A', 'T'); COMMIT}, 'log');
is($other->query_safe(q{SELECT version FROM es_append('A', 'T')}), '2',
	'CREATE EXTENSION with an append, committed: another session appends');
is($other->query_safe('SELECT count(*) FROM es_read_all()'), '2', 'and reads');
wait_for_scheduler($node, 'log');

my $before = log_digest($node, 'log');
my $head = one($node, 'SELECT es_head()', 'log');
my $epoch = one($node, 'SELECT es_epoch()', 'log');
one($node, <<'SQL', 'log');
BEGIN;
SET LOCAL eventstore.allow_drop = on;
SELECT es_append('A', 'T');
DROP EXTENSION eventstore;
ROLLBACK;
SQL
is(log_digest($node, 'log'), $before,
	'DROP EXTENSION after an append, rolled back: all events are there');

my $dropper = open_session($node, 'log');
$dropper->query_safe($_) for
	'SELECT * FROM es_append($$A$$, $$T$$)', 'BEGIN', 'SET LOCAL eventstore.allow_drop = on',
	'DROP EXTENSION eventstore', 'CREATE EXTENSION eventstore';
is($dropper->query_safe('SELECT version FROM es_append($$A$$, $$T$$, $${}$$, 0)'), '1',
	'DROP and CREATE EXTENSION in one transaction: a new log');
is($dropper->query_safe('SELECT count(*) FROM es_read_stream($$A$$)'),
	'1', 'with the new event only');
$dropper->query_safe('ROLLBACK');
is($dropper->query_safe('SELECT version FROM es_append($$A$$, $$T$$)'),
	'4', 'rolled back: the old log again');
is($other->query_safe('SELECT version FROM es_append($$A$$, $$T$$)'),
	'5', 'for other sessions too');
gives($node, 'SELECT es_epoch()', $epoch, 'with the old epoch', 'log');
gives($node, "SELECT es_head() > $head, bool_and(position > 0) FROM es_read_all()",
	't|t', 'and a head that has not fallen', 'log');
gives($node, 'SELECT count(*) = count(DISTINCT position) FROM eventstore.events',
	't', 'no position twice', 'log');
nothing_in_flight($node, 'nobody holds the head back', 'log');

one($node, <<'SQL', 'log');
BEGIN;
SET LOCAL eventstore.allow_drop = on;
DROP EXTENSION eventstore;
CREATE EXTENSION eventstore;
SELECT es_append('A', 'T');
COMMIT;
SQL
is($other->query_safe('SELECT es_head() > 0, count(*) FROM es_read_all()'),
	't|1', 'DROP and CREATE EXTENSION, committed: other sessions see the new log');
is($other->query_safe('SELECT version FROM es_append($$A$$, $$T$$)'),
	'2', 'and append to it');
is($dropper->query_safe('SELECT version FROM es_append($$A$$, $$T$$)'),
	'3', 'the session that did it as well');
isnt(one($node, 'SELECT es_epoch()', 'log'), $epoch, 'the epoch has changed');
nothing_in_flight($node, 'nobody holds the head back in the new log', 'log');
is(broken_streams($node, 'log'), '0', 'versions have no gaps');

# A scheduler that served the old log leaves, and one comes for the new.
my $last = one($node, 'SELECT es_head()', 'log');
comes_true($node, "SELECT recorded_head >= $last FROM eventstore.status", 'a scheduler serves the new log',
	dbname => 'log');

# Also if all of it happened while the old scheduler was in office, and nobody appends
# again: its successor is wanted by itself.
for my $round (1 .. 3)
{
	one($node, <<'SQL', 'log');
SET eventstore.allow_drop = on;
DROP EXTENSION eventstore;
CREATE EXTENSION eventstore;
SELECT es_append('A', 'T');
SQL
	comes_true($node, 'SELECT recorded_head >= head FROM eventstore.status',
		"a scheduler comes to a new log that is appended to only once, time $round", dbname => 'log');
}

# ---- where it goes, and what is in its way ----

one($node, 'CREATE DATABASE elsewhere');
one($node, 'CREATE SCHEMA tools; CREATE EXTENSION eventstore SCHEMA tools', 'elsewhere');
gives($node, q{SELECT version FROM tools.es_append('A-1', 'T')},
	'1', 'SCHEMA: append', 'elsewhere');
gives($node, q{SELECT stream FROM tools.es_read_all()}, 'A-1', 'SCHEMA: read', 'elsewhere');
gives($node, q{SELECT category FROM eventstore.streams}, 'A', 'SCHEMA: views', 'elsewhere');
gives($node, q{SELECT to_regproc('public.es_append') IS NULL},
	't', 'SCHEMA: nothing in public', 'elsewhere');
wait_for_scheduler($node, 'elsewhere');

one($node, 'CREATE DATABASE planted');
one($node, 'CREATE SCHEMA eventstore', 'planted');
refused($node, 'CREATE EXTENSION eventstore', '42P06',
	'a schema eventstore that is there is not taken over',
	dbname => 'planted');
refused($node, 'CREATE EXTENSION eventstore CASCADE',
	'42P06', 'nor with CASCADE', dbname => 'planted');
one($node, 'DROP SCHEMA eventstore', 'planted');
for my $plant (
	[ 'FUNCTION es_append', <<'SQL', '42723' ],
(text, text, jsonb, bigint, jsonb, uuid, text[], int, jsonb, bytea, text,
 OUT version bigint, OUT "position" bigint, OUT duplicate boolean)
AS $$ SELECT 1::bigint, 1::bigint, true $$ LANGUAGE sql
SQL
	[ 'FUNCTION es_head', '() RETURNS bigint AS $$ SELECT 0::bigint $$ LANGUAGE sql', '42723' ],
	[ 'TYPE es_event', 'AS (planted int)', '42710' ])
{
	my ($what, $definition, $state) = @$plant;

	one($node, "CREATE $what $definition", 'planted');
	refused($node, 'CREATE EXTENSION eventstore',
		$state, "a planted $what is not taken over", dbname => 'planted');
	one($node, "DROP $what", 'planted');
}
accepted($node, 'CREATE EXTENSION eventstore',
	'without all that it can be created', dbname => 'planted');

# ---- no log is dropped by mistake ----

my $refusal = qr/holds events.*HINT:.*eventstore\.allow_drop/s;
refused($node, 'DROP EXTENSION eventstore',
	'55006', 'DROP EXTENSION', dbname => 'log', like => $refusal);
refused($node, 'DROP EXTENSION eventstore CASCADE',
	'55006', 'DROP EXTENSION CASCADE', dbname => 'log', like => $refusal);
refused($node, 'DROP SCHEMA eventstore CASCADE', '2BP01', 'DROP SCHEMA', dbname => 'log');
refused($node, 'DROP TABLE eventstore.event_log CASCADE', '2BP01', 'DROP TABLE', dbname => 'log');
one($node, 'CREATE ROLE boss SUPERUSER LOGIN; CREATE DATABASE owned OWNER boss');
is( $node->psql('owned', q{CREATE EXTENSION eventstore; SELECT es_append('A', 'T')},
		extra_params => [ '-U', 'boss' ]),
	0, 'a log that belongs to a role');
refused($node, 'DROP OWNED BY boss CASCADE',
	'55006', 'DROP OWNED', dbname => 'owned', like => $refusal);
gives($node, 'SELECT count(*) FROM es_read_all()', '1', 'its events are there', 'owned');
accepted($node, 'SET eventstore.allow_drop = on; DROP OWNED BY boss CASCADE',
	'DROP OWNED when it is allowed', dbname => 'owned');
gives($node, q{SELECT to_regnamespace('eventstore') IS NULL},
	't', 'then the log has gone', 'owned');
one($node, 'CREATE EXTENSION eventstore', 'owned');
accepted($node, 'DROP EXTENSION eventstore', 'DROP EXTENSION of an empty log', dbname => 'owned');

# An append in progress counts, if it commits.
for my $case ([ 'COMMIT', '55006' ], [ 'ROLLBACK', '00000' ])
{
	my ($end, $state) = @$case;
	one($node, 'CREATE EXTENSION eventstore', 'owned');
	my $appender = open_session($node, 'owned');
	$appender->query_safe('BEGIN');
	$appender->query_safe('SELECT * FROM es_append($$A$$, $$T$$)');
	my $drop = open_session($node, 'owned');
	session_start($drop, 'DROP EXTENSION eventstore');
	wait_for_wait($node, $drop, "wait_event_type = 'Lock'");
	$appender->query_safe($end);
	is(session_error($drop, ''), $state, "DROP EXTENSION waits for an appender: $end");
	$drop->query('SET eventstore.allow_drop = on; DROP EXTENSION IF EXISTS eventstore');
	$_->quit for $appender, $drop;
}

# ---- statements that need the database to themselves ----

$_->quit for $other, $dropper;
my $digest = log_digest($node, 'log');
my $scheduler = wait_for_scheduler($node, 'log');

accepted($node, 'ALTER DATABASE log RENAME TO renamed',
	'ALTER DATABASE RENAME while the scheduler runs');
is(log_digest($node, 'renamed'), $digest, 'RENAME: all events are there');
$scheduler = wait_for_scheduler($node, 'renamed', $scheduler);
ok($scheduler, 'RENAME: the scheduler is back');

my $tablespace = PostgreSQL::Test::Utils::tempdir();
one($node, "CREATE TABLESPACE space LOCATION '$tablespace'");
accepted($node, 'ALTER DATABASE renamed SET TABLESPACE space',
	'ALTER DATABASE SET TABLESPACE while it runs');
is(log_digest($node, 'renamed'), $digest, 'SET TABLESPACE: all events are there');
$scheduler = wait_for_scheduler($node, 'renamed', $scheduler);
ok($scheduler, 'SET TABLESPACE: the scheduler is back');

# Who may not does not disturb the scheduler; who fails gets it back.
one($node, 'CREATE ROLE nobody LOGIN');
refused($node, 'DROP DATABASE renamed', '42501', 'DROP DATABASE by a stranger', user => 'nobody');
is(wait_for_scheduler($node, 'renamed'), $scheduler, 'does not end the scheduler');
my $guest = open_session($node, 'renamed');
refused($node, 'DROP DATABASE renamed', '55006', 'DROP DATABASE while somebody is connected');
$scheduler = wait_for_scheduler($node, 'renamed', $scheduler);
ok($scheduler, 'DROP DATABASE that fails: the scheduler is back');
$guest->quit;

# To be asked to leave is no failure, after which it would stay away longer each time.
my $asked = time;
accepted($node, 'CREATE DATABASE copied TEMPLATE renamed',
	'CREATE DATABASE TEMPLATE while it runs');
is(log_digest($node, 'copied'), $digest, 'TEMPLATE: all events are there');
$scheduler = wait_for_scheduler($node, 'renamed', $scheduler);
cmp_ok(time - $asked, '<', 6, 'TEMPLATE: the scheduler is back soon');
one($node, q{SELECT es_append('A', 'T')}, 'renamed');
gives($node, 'SELECT es_head() = max(position) FROM es_read_all()',
	't', 'appends go on', 'renamed');

accepted($node, 'DROP DATABASE renamed', 'DROP DATABASE while the scheduler runs');
my @states;
for my $round (1 .. 12)
{
	one($node, 'CREATE DATABASE shortlived');
	push @states, (error_of($node, q{CREATE EXTENSION eventstore; SELECT es_append('A', 'T')}, dbname => 'shortlived'))[0];
	wait_for_scheduler($node, 'shortlived') if $round <= 2;
	one($node, 'DROP DATABASE shortlived' . ($round % 2 ? '' : ' WITH (FORCE)'));
}
is("@states", '00000' . ' 00000' x 11, 'databases that are dropped leave no entry behind');

comes_true($node, <<'SQL', 'a scheduler leaves when the extension is dropped');
SELECT count(*) = 0
FROM pg_stat_activity
WHERE backend_type = 'eventstore scheduler' AND datname = 'owned'
SQL

# ---- template databases, and those that take no connections ----

one($node, $_) for 'CREATE DATABASE model', 'CREATE DATABASE closed';
one($node, 'CREATE EXTENSION eventstore', $_) for 'model', 'closed', 'template1';
one($node, q{SELECT es_append('A', 'T')}, $_) for 'model', 'closed';
one($node, $_) for 'ALTER DATABASE model IS_TEMPLATE true',
	'ALTER DATABASE closed ALLOW_CONNECTIONS false';
one($node, "CREATE DATABASE many$_ TEMPLATE planted") for 1 .. 3;
my $log_before = -s $node->logfile;
$node->restart;
my $restarted = time;
wait_for_scheduler($node, $_) for 'copied', 'elsewhere', 'planted', map { "many$_" } 1 .. 3;
cmp_ok(time - $restarted, '<', 9, 'after a start every log has a scheduler soon');
gives($node, <<'SQL', '0', 'no scheduler in a template or a closed database');
SELECT count(*)
FROM pg_stat_activity JOIN pg_database USING (datname)
WHERE backend_type LIKE 'eventstore%' AND (datistemplate OR NOT datallowconn)
SQL
unlike(slurp_file($node->logfile, $log_before), qr/not currently accepting connections/,
	'nobody has tried');
accepted($node, 'CREATE DATABASE from_model TEMPLATE model',
	'a database with the extension can be a template');
isnt(one($node, 'SELECT es_epoch()', 'from_model'), one($node, 'SELECT es_epoch()', 'model'),
	'its copy has its own epoch');
gives($node, q{SELECT version FROM es_append('A', 'T')}, '2', 'and takes appends', 'from_model');
ok(wait_for_scheduler($node, 'from_model'), 'and gets a scheduler');
one($node, 'DROP DATABASE from_model');
accepted($node, 'CREATE DATABASE from_template1', 'template1 with the extension');
gives($node, q{SELECT version, position FROM es_append('A', 'T')},
	'1|1', 'its copy begins at 1', 'from_template1');

# ---- workers that are ended ----

sub launcher
{
	return one($node,
		q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'eventstore launcher'});
}

sub wait_for_launcher
{
	my ($other_than) = @_;
	await($node, <<"SQL", 'a launcher');
SELECT count(*) = 1
FROM pg_stat_activity
WHERE backend_type = 'eventstore launcher' AND pid <> $other_than
SQL
	return;
}

# An append is recorded: the scheduler works.
sub scheduler_works
{
	my ($name) = @_;
	my $position = one($node, q{SELECT position FROM es_append('A', 'T')}, 'copied');

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return comes_true($node, "SELECT recorded_head >= $position FROM eventstore.status", $name, dbname => 'copied');
}

$scheduler = wait_for_scheduler($node, 'copied');
my $launcher = launcher();
one($node, "SELECT pg_terminate_backend($launcher)");
scheduler_works('launcher terminated: schedulers go on');
one($node, "SELECT pg_terminate_backend($scheduler, 60000)");
is(one($node, q{SELECT count(*) FROM es_append('A', 'T'), es_read_all()}, 'copied') > 0, 1,
	'neither launcher nor scheduler: appends and reads go on');
wait_for_launcher($launcher);
ok(wait_for_scheduler($node, 'copied', $scheduler), 'both come back');
scheduler_works('and work');

for my $victim ('launcher', 'scheduler')
{
	$launcher = launcher();
	$scheduler = wait_for_scheduler($node, 'copied');
	my $killed = $victim eq 'launcher' ? $launcher : $scheduler;
	kill 'KILL', $killed;
	wait_for_restart($node, $killed);
	wait_for_launcher($launcher);
	ok(wait_for_scheduler($node, 'copied', $scheduler), "$victim killed: both come back");
	scheduler_works("$victim killed: and work");
}
is(broken_streams($node, 'copied'), '0', 'versions have no gaps after all that');

# ---- no room ----

my $small = new_node('small', conf => <<'CONF');
autovacuum = off
max_worker_processes = 2    # PostgreSQL's own, and the launcher
eventstore.max_databases = 2
CONF

# A reader that waits gets what it waits for.
sub waiting_works
{
	my ($name) = @_;
	my $reader = open_session($small);
	my $from = one($small, 'SELECT es_head()');
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	session_start($reader, "SELECT count(*) FROM es_read_all($from, wait => '60 s')");
	wait_for_wait($small, $reader);
	one($small, q{SELECT es_append('A', 'T')});
	is($reader->query(''), '1', $name);
	return $reader->quit;
}

one($small, q{SELECT es_append('A', 'T')});
log_says($small,
	qr/WARNING: .*1 database waits for a background process.*\n.*DETAIL.*\n.*HINT: .*max_worker_processes/,
	'no worker slot is free: the log says so');
gives($small, <<'SQL', '|waiting for a process|max_worker_processes|t', 'status shows no scheduler, and why');
SELECT scheduler_pid, background, worker_shortage, waiting_since < now() - interval '9 s' FROM eventstore.status
SQL
gives($small, q{SELECT version FROM es_append('A', 'T')}, '2', 'no scheduler: appends go on');
gives($small, 'SELECT count(*) FROM es_read_all()', '2', 'no scheduler: reads go on');
waiting_works('no scheduler: waiting readers look by themselves');

# More databases than there is room for.
one($small, "CREATE DATABASE $_") for 'second', 'third';
one($small, 'CREATE EXTENSION eventstore', $_) for 'second', 'third';
one($small, q{SELECT es_append('A', 'T')}, 'second');
refused($small, $_, '53400', "too many databases: $_",
	dbname => 'third', like => qr/HINT:.*eventstore\.max_databases/)
  for q{SELECT es_append('A', 'T')}, 'SELECT es_head()', 'SELECT * FROM es_read_all()';
gives($small, q{SELECT version FROM es_append('A', 'T')}, '2', 'the others go on', 'second');
one($small, 'DROP DATABASE second');
gives($small, q{SELECT version FROM es_append('A', 'T')},
	'1', 'a database less: there is room', 'third');

$small->adjust_conf('postgresql.conf', 'max_worker_processes', '1');
$small->restart;
gives($small, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'eventstore%'},
	'0', 'no room even for the launcher');
gives($small, q{SELECT count(*) FROM es_append('A', 'T')}, '1', 'no launcher: appends go on');
waiting_works('no launcher: waiting readers look by themselves');

finish($node, $small);
