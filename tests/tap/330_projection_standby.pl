# Projections on a standby, after its promotion, and in a restored database.
#
# A standby runs nothing; there read models, checkpoints and states are those of the
# primary, at any moment what the log says, and one can wait for them.  The promoted server
# goes on where the primary's transactions ended.  A dump carries projections, checkpoints,
# states and dead letters.  Nobody can know that a restore is over before the first append:
# until then nothing is applied, then the restored database goes on from its checkpoints,
# and nothing is applied twice.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use EventStore;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ReadModels;
use Test::More;

my $folder = $PostgreSQL::Test::Utils::tmp_check;
my $conf = <<'CONF';
autovacuum = off
max_connections = 40
max_worker_processes = 60
deadlock_timeout = 20ms
eventstore.max_workers = 40
hot_standby_feedback = on
CONF

my $primary = new_node('primary', allows_streaming => 1, conf => $conf);
prepare_models($primary);
my @forms = qw(handler query reducer);
for my $form (@forms)
{
	create_model($primary, "inline_$form", $form, more => q{mode => 'inline'});
	create_model($primary, "async_$form", $form, more => 'batch_size => 100');
}
create_model($primary, 'rare', 'query', more => q{types => '{Rare}'});
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;

# Until the standby can read all that the primary can.
sub wait_for_head
{
	my $head = one($primary, 'SELECT es_head()');
	await($standby, "SELECT es_head() >= $head", 'the standby to come to the head');
	return $head;
}

# ---- a standby while the primary writes ----

my $load = start_load($primary, 'load', load_script(20), clients => 4);
for my $sample (1 .. 5)
{
	wait_for_events($primary, 200);
	models_right($standby, "standby, sample $sample");
}
is(finish_load($primary, $load), '', 'every append succeeds');
models_caught_up($primary, 'primary');
my $head = wait_for_head();
is( one($standby, <<'SQL'), 't', 'the standby waits for projections, and has them');
SELECT bool_and(es_wait_for_projection(name, timeout => '30 s'))
FROM eventstore.projections WHERE name <> 'rare'
SQL
models_right($standby, 'standby, in the end');
my $view = 'SELECT name, state, mode, form, owner, failures, dead_letters FROM eventstore.projections ORDER BY name';
is(one($standby, $view), one($primary, $view), 'the view tells the same there');
gives($standby, 'SELECT count(*) FROM eventstore.projections WHERE worker_pid IS NOT NULL OR batch_started IS NOT NULL',
	'0', 'no worker is at work there');
gives($standby, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'eventstore%'},
	'0', 'there is none');
is( one($standby, q{SELECT es_projection_state('async_reducer', 'Load-1')}),
	one($primary, q{SELECT es_projection_state('async_reducer', 'Load-1')}),
	'a state can be read there');

# Whose events come, and whose do not: both have come to the head.
one($primary, q{SELECT es_append('Load-1', 'Tick')});
gives($primary, q{SELECT es_wait_for_projection('rare', timeout => '30 s')}, 't',
	'an event that a projection leaves out: it has come to the head');
wait_for_head();
gives($standby, q{SELECT es_wait_for_projection('async_query', timeout => '30 s')}, 't',
	'on the standby as well, if it took the event');
gives($standby, q{SELECT es_wait_for_projection('rare', timeout => '30 s')}, 't',
	'and, some seconds later, if it left it out');
gives($standby, q{SELECT es_wait_for_projection('inline_query', timeout => '30 s')}, 't',
	'an inline projection is where the log is');

# Waiting for what is yet to come.
my $waiter = open_session($standby);
$head = one($standby, 'SELECT es_head()');
session_start($waiter, "SELECT es_wait_for_projection('async_query', $head + 1, '60 s')");
wait_for_wait($standby, $waiter);
one($primary, q{SELECT es_append('Load-1', 'Tick')});
is($waiter->query(''), 't', 'a standby waits for what the primary will apply');
$waiter->quit;

refused($standby, $_, '25006', "refused on the standby: $_") for (
	q{SELECT es_create_projection('no', query => 'SELECT FROM es_batch')},
	q{SELECT es_alter_projection('rare', batch_size => 1)},
	q{SELECT es_drop_projection('rare')},
	q{SELECT es_pause_projection('rare')},
	q{SELECT es_resume_projection('rare')},
	q{SELECT es_rebuild_projection('rare')},
	q{SELECT es_run_projection('rare')},
	q{SELECT es_retry_dead_letters('rare')});

# ---- promotion, in the middle of it all ----

one($primary, q{SELECT es_rebuild_projection('inline_handler')});
$load = start_load($primary, 'until_promotion', load_script(20), clients => 4);
wait_for_events($primary, 300);
$primary->stop('immediate');
abandoned_load($load);
models_right($standby, 'the primary has gone');
$standby->promote;
await($standby, 'SELECT NOT pg_is_in_recovery()', 'the promotion');
models_right($standby, 'promoted');
$load = start_load($standby, 'promoted', load_script(20), clients => 4);
wait_for_events($standby, 300);
models_right($standby, 'promoted, under load');
is(finish_load($standby, $load), '', 'promoted: every append succeeds');
models_caught_up($standby, 'promoted');
is(broken_streams($standby), '0', 'promoted: versions have no gaps');

# One that is promoted and gets no event: what was left over is applied all the same.
$standby->backup('second');
my $third = PostgreSQL::Test::Cluster->new('third');
$third->init_from_backup($standby, 'second', has_streaming => 1);
$third->append_conf('postgresql.conf', 'eventstore.max_workers = 40');
$third->start;
$standby->append_conf('postgresql.conf', 'eventstore.max_workers = 0');
$standby->restart;
one($standby, q{SELECT count(es_append('Load-1', 'Tick')) FROM generate_series(1, 20)});
$standby->wait_for_catchup($third, 'replay', $standby->lsn('insert'));
$standby->stop;
gives($third, q{SELECT lag >= 20 FROM eventstore.projections WHERE name = 'async_query'}, 't',
	'a standby whose primary has applied nothing lately');
$third->promote;
await($third, 'SELECT NOT pg_is_in_recovery()', 'the promotion');
models_caught_up($third, 'promoted, without an append');
$third->stop;

# ---- dump and restore ----

# Of all states: paused, stopped, with dead letters, behind; and one of another role.
my $node = $standby;
$node->adjust_conf('postgresql.conf', 'eventstore.max_workers', '40');
$node->start;
models_caught_up($node, 'before the dump');
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE refused (position bigint);
CREATE FUNCTION refuses(e es_event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF e.type = 'Bad' THEN
        RAISE 'refused';
    END IF;
    INSERT INTO refused VALUES (e.position);
END $$;
SELECT es_create_projection('skips', 'refuses', on_error => 'skip', max_retries => 0, start_after => es_head());
SELECT es_create_projection('stops', 'refuses', max_retries => 0, start_after => es_head());
CREATE ROLE keeper;
GRANT ALL ON SCHEMA public TO keeper;
GRANT ALL ON ALL TABLES IN SCHEMA public TO keeper;
GRANT SELECT ON ALL TABLES IN SCHEMA eventstore TO keeper;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO keeper;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA eventstore TO keeper;
SET ROLE keeper;
CREATE TABLE kept (position bigint);
SELECT es_create_projection('kept', query => 'INSERT INTO kept SELECT position FROM es_batch', start_after => es_head());
RESET ROLE;
SELECT es_append('Bad-1', 'Bad');

-- Of what they count: an update that finds no row is lost.
CREATE TABLE tally (name text, n bigint);
INSERT INTO tally VALUES ('tally_inline', 0), ('tally_async', 0);
SELECT es_create_projection(name, mode => replace(name, 'tally_', ''), query => format(
    'UPDATE tally SET n = n + (SELECT count(*) FROM es_batch) WHERE name = %L', name))
FROM tally;
SQL
comes_true($node, "es_wait_for_projection('$_', timeout => '30 s')", "$_ has come to the head")
  for 'skips', 'kept', 'tally_async';
comes_true($node, q{(SELECT state FROM eventstore.projections WHERE name = 'tally_inline') = 'running'},
	'one is inline');
comes_true($node, q{(SELECT state FROM eventstore.projections WHERE name = 'stops') = 'stopped'},
	'one is stopped by an error');
one($node, q{SELECT es_pause_projection('async_handler')});
one($node, q{SELECT es_pause_projection('tally_inline')});

# Behind: no worker, and then events; and one that is to be inline, which an appender hinders.
$node->safe_psql('postgres', 'ALTER SYSTEM SET eventstore.max_workers = 0; SELECT pg_reload_conf()');
$node->restart;
$node->safe_psql('postgres', q{
SELECT es_rebuild_projection('inline_query');
SELECT count(es_append('Load-' || n % 7, 'Tick')) FROM generate_series(1, 300) n;
});
my $appender = open_session($node);
$appender->query_safe('BEGIN');
$appender->query_safe(q{SELECT * FROM es_append('Open', 'Tick')});
one($node, q{SELECT es_resume_projection('tally_inline')});
$appender->query_safe('COMMIT');
$appender->quit;
my $lag = q{SELECT string_agg(concat_ws(' ', name, state, lag > 0), ', ' ORDER BY name)
            FROM eventstore.projections};
my $checkpoints = q{SELECT md5(string_agg(t::text, ' ' ORDER BY t::text)) FROM (
    SELECT p::text FROM eventstore.projection p UNION ALL SELECT p::text FROM eventstore.projection_progress p
    UNION ALL SELECT p::text FROM eventstore.projection_state p
    UNION ALL SELECT p::text FROM eventstore.dead_letter p) t};
my $before = one($node, $lag);
note($before);
like($before, qr/async_query waiting for a worker t.*inline_query rebuilding t.*kept waiting for a worker t.*tally_inline waiting for a worker t/,
	'some are behind');
my $digest = one($node, $checkpoints);

$node->command_ok([ 'pg_dump', '-Fc', '-f', "$folder/all.dump", 'postgres' ], 'pg_dump -Fc');
$node->command_ok([ 'pg_dump', '-Fd', '-j', '4', '-f', "$folder/all.dir", 'postgres' ], 'pg_dump -Fd -j 4');
$node->safe_psql('postgres', 'ALTER SYSTEM SET eventstore.max_workers = 40; SELECT pg_reload_conf()');

sub restore
{
	my ($dbname, @options) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return $node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $dbname, @options ],
		"pg_restore @options");
}

sub goes_on
{
	my ($what, $dbname) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	models_right($node, "$what: restored", $dbname);
	gives($node, q{SELECT state, dead_letters FROM eventstore.projections WHERE name IN ('skips', 'stops') ORDER BY name},
		"running|1\nstopped|0", "$what: dead letters and a stop have come along", $dbname);
	gives($node, q{SELECT state FROM eventstore.projections WHERE name = 'async_handler'},
		'paused', "$what: what was paused is paused", $dbname);

	# The scheduler has seen them all by then.
	wait_for_scheduler($node, $dbname);
	gives($node, q{SELECT es_wait_for_projection('async_query', timeout => '1 s')}, 'f',
		"$what: nothing is applied before the first append", $dbname);
	is(one($node, $checkpoints, $dbname), $digest,
		"$what: projections, checkpoints, states and dead letters are those of the dump");

	one($node, q{SELECT es_append('Load-1', 'Tick')}, $dbname);
	one($node, q{SELECT es_resume_projection('async_handler')}, $dbname);
	models_caught_up($node, $what, $dbname);
	gives($node, q{SELECT count(*), count(DISTINCT position) FROM refused}, '302|302',
		"$what: dead letters are not applied again", $dbname);
	gives($node, q{SELECT count(*), count(DISTINCT position) FROM kept}, '303|303',
		"$what: the one of another role goes on", $dbname);
	comes_true($node, q{(SELECT bool_and(checkpoint = es_head()) FROM eventstore.projections WHERE name LIKE 'tally%')},
		"$what: those that update come to the head", dbname => $dbname);
	gives($node, q{SELECT name FROM tally WHERE n <> (SELECT count(*) FROM eventstore.event_log)},
		'', "$what: no update is lost", $dbname);
	return;
}

for my $case ([ 'custom', "$folder/all.dump" ], [ 'jobs', '-j', '4', "$folder/all.dir" ])
{
	my ($dbname, @options) = @$case;

	$node->safe_psql('postgres', "CREATE DATABASE $dbname TEMPLATE template0");
	restore($dbname, @options);
	goes_on("-F$dbname", $dbname);
}

# --data-only: into the objects of the same dump.
$node->safe_psql('postgres', 'CREATE DATABASE data TEMPLATE template0');
restore('data', '--section=pre-data', "$folder/all.dump");
restore('data', '--section=post-data', "$folder/all.dump");
restore('data', '--data-only', "$folder/all.dump");
goes_on('--data-only', 'data');

# A restore that takes its time between the projections and their read models: there is no
# row yet that a worker could update.
$node->safe_psql('postgres', 'CREATE DATABASE slow TEMPLATE template0');
my ($list) = run_command([ 'pg_restore', '-l', "$folder/all.dump" ]);
my @data = grep { /TABLE DATA|SEQUENCE SET/ } split /\n/, $list;
my @late = grep { / public tally / } @data;
is(scalar @late, 1, 'the data of a read model is one entry of the dump');
append_to_file("$folder/first.list", join "\n", grep { !/ public tally / } @data);
append_to_file("$folder/then.list", join "\n", @late);
restore('slow', '--section=pre-data', "$folder/all.dump");
restore('slow', '-L', "$folder/first.list", "$folder/all.dump");
wait_for_scheduler($node, 'slow');
gives($node, q{SELECT es_wait_for_projection('tally_inline', timeout => '2 s')}, 'f',
	'in the midst of a restore: nothing is applied', 'slow');
restore('slow', '-L', "$folder/then.list", "$folder/all.dump");
restore('slow', '--section=post-data', "$folder/all.dump");
goes_on('a slow restore', 'slow');

# ---- where the owner's role is missing ----

my $other = new_node('other', extension => 0, conf => $conf);
$other->safe_psql('postgres', 'CREATE DATABASE orphan TEMPLATE template0');
$other->command_ok(
	[ 'pg_restore', '--no-owner', '--no-acl', '--exit-on-error', '-d', 'orphan', "$folder/all.dump" ],
	'a restore without the roles');
one($other, q{SELECT es_append('Load-1', 'Tick')}, 'orphan');
gives($other, q{SELECT state, last_error FROM eventstore.projections WHERE name = 'kept'},
	'paused|restored without its owner, role "keeper"', 'the owner is missing: the view says so', 'orphan');
one($other, q{SELECT es_resume_projection('async_handler')}, 'orphan');
models_caught_up($other, 'the owner is missing: the others go on', 'orphan');
gives($other, 'SELECT count(*) FROM kept', '1', 'nobody else applies it in its place', 'orphan');
$other->safe_psql('orphan', <<'SQL');
CREATE ROLE keeper;
ALTER TABLE kept OWNER TO keeper;
GRANT USAGE ON SCHEMA public, eventstore TO keeper;
SELECT es_alter_projection('kept', owner => 'keeper'), es_resume_projection('kept');
SQL
comes_true($other, q{(SELECT count(*) FROM kept) = 303}, 'the role is made, and the owner: it goes on', dbname => 'orphan');

finish($node, $other);
