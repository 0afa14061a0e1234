# pg_upgrade.
#
# Events, positions, versions, ids and the epoch are those of the old cluster, appends go
# on above everything that was handed out, a log that was restored and not yet appended to
# is still that, and no background process of the store runs meanwhile.  The new cluster's
# timeline begins at 1 again, also if the old one was promoted before; a promotion
# afterwards is a new history all the same.
#
# Both clusters are of the same version, unless EVENTSTORE_TEST_OLD_INSTALL names the folder
# above the bin of an older one, with the extension installed.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use EventStore;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $stride = 2**32;
my ($bindir) = run_command([ 'pg_config', '--bindir' ]);
my $old_install = $ENV{EVENTSTORE_TEST_OLD_INSTALL};
my @from = defined $old_install ? (install_path => $old_install) : ();
my $old_bindir = defined $old_install ? "$old_install/bin" : $bindir;

# With checksums, which are there by default from PostgreSQL 18 on: both must agree.
my @initdb = (extra => [ '-E', 'UTF8', '--locale=C', '--data-checksums' ], allows_streaming => 1);
my $folder = $PostgreSQL::Test::Utils::tmp_check;

# debug1: the postmaster tells which workers it starts, and pg_upgrade keeps its log.
my $conf = <<'CONF';
autovacuum = off
log_min_messages = debug1
max_connections = 20
CONF

sub append
{
	my ($node, $dbname) = @_;
	return one($node, q{SELECT position FROM es_append('Order-1', 'Placed')}, $dbname);
}

# What must be the same afterwards.
sub facts
{
	my ($node, $dbname) = @_;
	return one($node, <<'SQL', $dbname) . "\n" . log_digest($node, $dbname);
SELECT es_epoch(), sealed, format, es_slot('Order-1'),
       (SELECT string_agg(stream || '=' || es_stream_version(stream), ' ' ORDER BY stream)
        FROM eventstore.streams),
       (SELECT string_agg(t::text, ' ' ORDER BY t::text) FROM eventstore.event_types t),
       (SELECT count(*) FROM es_read_all(0, NULL)),
       (SELECT count(*) FROM es_read_category('Order')),
       (SELECT count(*) FROM es_read_correlation('c')),
       (SELECT string_agg(version::text, ' ') FROM es_read_stream('Order-1')),
       (SELECT string_agg(name || '=' || state || '=' || owner, ' ' ORDER BY name) FROM eventstore.projections),
       (SELECT string_agg(DISTINCT data ->> 'by', ' ') FROM es_read_category('Owned'))
FROM eventstore.status
SQL
}

# How often a background process of the store was started, as a log says.
sub workers_in
{
	my (@files) = @_;
	return scalar map { slurp_file($_) =~ /starting background worker process "eventstore [^"]*"/g } @files;
}

# ---- the old cluster: promoted once, with logs of several kinds ----

my $primary = new_node('primary', @initdb, conf => $conf, server => \@from);
one($primary, q{SELECT es_set_boundary('-')});
append($primary);
$primary->backup('base');
one($primary, 'CREATE ROLE app LOGIN');    # something to catch up with
my $old = PostgreSQL::Test::Cluster->new('old', @from);
$old->init_from_backup($primary, 'base', has_streaming => 1);
$old->start;
$primary->wait_for_catchup($old, 'replay', $primary->lsn('insert'));
$old->promote;
await($old, 'SELECT NOT pg_is_in_recovery()', 'the promotion');
$primary->stop;

one($old, <<'SQL');
SELECT es_append('Order-' || n % 7, 'Placed', jsonb_build_object('n', n, 'text', 'Zürich 東京'),
                 metadata => '{"correlation_id": "c"}', tags => ARRAY['a' || n], schema_version => 1 + n % 2)
FROM generate_series(1, 100) n;
SELECT es_append('Order-1', 'Placed', event_id => '11111111-2222-4333-8444-555555555555');
BEGIN;
SELECT es_append('Order-1', 'Never') FROM generate_series(1, 10);
ROLLBACK;
GRANT EXECUTE ON FUNCTION es_append, es_create_projection, es_register_upcaster TO app;
CREATE FUNCTION say(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('by', current_user) $$;
CREATE FUNCTION add(state jsonb, event es_event) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('n', coalesce((state ->> 'n')::int, 0) + 1) $$;
SET ROLE app;
SELECT es_register_upcaster('Owned', 1, 'say');
SELECT es_create_projection('sum', reducer => 'add', partition_by => 'all', mode => 'inline');
SELECT es_create_projection('async sum', reducer => 'add', partition_by => 'all');
RESET ROLE;
SELECT es_append('Owned-1', 'Owned');
SELECT es_wait_for_projection('sum', timeout => '60 s'), es_wait_for_projection('async sum', timeout => '60 s');
SQL
cmp_ok(append($old), '>', $stride, 'the old cluster was promoted: it is in its second history');

# Elsewhere, restored, empty; in template1.
one($old, "CREATE DATABASE $_ TEMPLATE template0") for qw(elsewhere restored empty);
one($old, 'CREATE SCHEMA tools; CREATE EXTENSION eventstore SCHEMA tools', 'elsewhere');
one($old, q{SELECT tools.es_append('A-1', 'T')}, 'elsewhere');
one($old, 'CREATE EXTENSION eventstore', $_) for 'empty', 'template1';
$old->command_ok([ 'pg_dump', '-Fc', '-f', "$folder/dump", 'postgres' ], 'pg_dump');
$old->command_ok([ 'pg_restore', '-d', 'restored', "$folder/dump" ], 'pg_restore');
one($old, <<'SQL');
CREATE INDEX own_index ON eventstore.event_log (created_at);
ALTER TABLE eventstore.event_log ADD COLUMN own_column int DEFAULT 7;
SQL
wait_for_scheduler($old);

my @databases = qw(postgres restored empty);
my %facts = map { $_ => facts($old, $_) } @databases;
like($facts{postgres}, qr/^\S{36}\|t\|1\|611\|.*\n104 events/s, 'postgres has a sealed log');
like($facts{restored}, qr/^\S{36}\|f\|1\|611\|.*\n104 events/s, 'restored has one that takes a restore');
my $handed_out = one($old, 'SELECT handed_out FROM eventstore.status');
my $elsewhere = one($old, 'SELECT tools.es_epoch()', 'elsewhere');

# From PostgreSQL 18 on, LOAD, by which pg_upgrade looks for libraries, heeds no path.
if ($old->psql('postgres', q{LOAD '$libdir/eventstore'}) != 0)
{
	note('pg_upgrade finds no library in a private folder');
	finish($old);
	exit;
}
$old->stop;
cmp_ok(workers_in($old->logfile), '>', 1, 'the log of a server tells of background workers');

# ---- pg_upgrade ----

my $new = new_node('new', @initdb, conf => $conf, start => 0);

# pg_upgrade writes a script where it stands.
my $here = PostgreSQL::Test::Utils::tempdir();
my @upgrade = (
	'env', '-C', $here, 'pg_upgrade', '--no-sync', '--retain',
	'--old-datadir', $old->data_dir, '--new-datadir', $new->data_dir,
	'--old-bindir', $old_bindir, '--new-bindir', $bindir,
	'--old-port', $old->port, '--new-port', $new->port, '--socketdir', $new->host);
command_ok([ @upgrade, '--check' ], 'pg_upgrade --check');
command_ok(\@upgrade, 'pg_upgrade');

my @logs = glob($new->data_dir . '/pg_upgrade_output.d/*/log/pg_upgrade_server.log');
is(scalar(@logs), 2, 'both have left the logs of the servers that they started');
like(slurp_file($_), qr/DEBUG:  loaded library "eventstore"/,
	'which had the library, and told as much as the log above')
  for @logs;
is(workers_in(@logs), 0, 'and none was one of ours');

# ---- the new cluster ----

$new->start;
is(facts($new, $_), $facts{$_}, "$_: everything is as before") for @databases;
gives($new, 'SELECT tools.es_epoch()', $elsewhere, 'elsewhere: the epoch as well', 'elsewhere');
gives($new, q{SELECT timeline_id FROM pg_control_checkpoint()},
	'1', 'the new cluster is on timeline 1');
ok(wait_for_scheduler($new), 'a scheduler comes');
gives($new, <<'SQL', '7|t', 'an index and a column of the user are there');
SELECT min(own_column), (SELECT indisvalid FROM pg_index WHERE indexrelid = 'eventstore.own_index'::regclass)
FROM eventstore.event_log
SQL

my $position = append($new);
cmp_ok($position, '>', $handed_out, 'appends go on above all that was handed out');
cmp_ok($position, '<', 2 * $stride, 'in the same history');
one($new, q{SELECT es_wait_for_projection('async sum', timeout => '60 s')});
gives($new, <<'SQL', '2|t', 'projections go on');
SELECT count(*), bool_and(state = jsonb_build_object('n', (SELECT count(*) FROM eventstore.event_log)))
FROM eventstore.projection_states
SQL
refused($new, 'DROP ROLE app', '2BP01', 'with their owner',
	like => qr/owner of function eventstore\.owner_of_projection_1\(\)/);
gives($new, <<'SQL', '17|t', 'an event is known by its id');
SELECT version, duplicate
FROM es_append('Order-1', 'Placed', event_id => '11111111-2222-4333-8444-555555555555')
SQL
accepted($new, q{SELECT * FROM es_append('Order-1', 'Placed', expected_version => 19)},
	'a role may what it might', user => 'app');
refused($new, q{SELECT * FROM es_append('Order-1', 'Placed', expected_version => 19)}, 'SE001',
	'expected versions hold');
refused($new, 'DELETE FROM eventstore.event_log', '42501', 'the log is append-only');
refused($new, 'DROP EXTENSION eventstore CASCADE', '55006', 'and guarded');
is(broken_streams($new), '0', 'versions have no gaps');
gives($new, 'SELECT es_epoch()', $facts{postgres} =~ s/\|.*//sr, 'the epoch stays after appends');
gives($new, 'SELECT count(*) = count(DISTINCT position) FROM eventstore.event_log',
	't', 'no position twice');

my $greatest = one($new, 'SELECT max(position) FROM eventstore.event_log', 'restored');
cmp_ok(append($new, 'restored'), '>', $greatest, 'restored: takes appends, above all that is there');
gives($new, 'SELECT sealed FROM eventstore.status', 't', 'restored: and is sealed then', 'restored');
is(broken_streams($new, 'restored'), '0', 'restored: versions have no gaps');
gives($new, q{SELECT version, position FROM es_append('A', 'T')}, '1|1', 'empty: takes appends', 'empty');
gives($new, q{SELECT version FROM tools.es_append('A-1', 'T')}, '2', 'elsewhere: takes appends', 'elsewhere');
one($new, 'CREATE DATABASE from_template1');
gives($new, q{SELECT version, position FROM es_append('A', 'T')},
	'1|1', 'template1: a copy takes appends', 'from_template1');

one($new, 'CREATE EXTENSION amcheck');
$new->command_ok([ qw(pg_amcheck -d postgres -s eventstore --heapallindexed --parent-check) ],
	'indexes agree with tables');

# ---- a promotion afterwards ----

$new->backup('base');
append($new);
my $promoted = PostgreSQL::Test::Cluster->new('promoted');
$promoted->init_from_backup($new, 'base', has_streaming => 1);
$promoted->start;
$new->wait_for_catchup($promoted, 'replay', $new->lsn('insert'));
$promoted->promote;
await($promoted, 'SELECT NOT pg_is_in_recovery()', 'the promotion');
isnt(one($promoted, 'SELECT es_epoch()'), one($new, 'SELECT es_epoch()'),
	'a promotion after the upgrade begins another history');
is(append($promoted), 2 * $stride, 'with positions of its own');
is(broken_streams($promoted), '0', 'versions have no gaps there');

finish($promoted, $new);
