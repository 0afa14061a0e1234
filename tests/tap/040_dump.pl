# Dump, restore and copy of a database.
#
# Whatever way a dump takes, every event arrives with its position, version, id and time;
# readers see all of it before the first append; appends go on above; and the epoch is
# another.  A restore that left something out is refused at the first append, and a log
# that has seen appends takes no restore unless a superuser says so.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use EventStore;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# A scheduler a database.
my $node = new_node('dump', conf => "autovacuum = off\nmax_worker_processes = 40");
my $folder = $PostgreSQL::Test::Utils::tmp_check;
my %epochs;    # epoch → database

# Streams, types, ids, times, tags, texts, bytes and gaps of all kinds.
$node->safe_psql('postgres', <<'SQL');
SELECT es_set_boundary('-');
SELECT es_append('Order-' || n % 7, 'Placed',
                 jsonb_build_object('n', n, 'text', E'tab\t "quoted" \\ Zürich 東京'),
                 metadata => '{"correlation_id": "c1"}', tags => ARRAY['a' || n, 'comma, {brace}'],
                 schema_version => 1 + n % 2,
                 payload => CASE n % 3 WHEN 0 THEN decode(repeat('00ff5c0a', n * 100), 'hex') WHEN 1 THEN ''::bytea END,
                 content_type => CASE WHEN n % 6 < 2 THEN 'text/é; \t' || n % 6 END)
FROM generate_series(1, 50) n;
BEGIN;
SELECT es_append('Order-1', 'Placed');
ROLLBACK;
SELECT es_append_batch(array_agg('Import-' || n % 5), array_agg(text 'Imported'),
                       array_agg('{}'::jsonb),
                       created_at => array_agg('2001-02-03 04:05:06.789+00'::timestamptz
                                               + n * '1 s'::interval))
FROM generate_series(1, 200) n;
SELECT es_append('no category', 'Type with spaces', '[1, null, "x"]',
                 event_id => '11111111-2222-4333-8444-555555555555');
SELECT es_check_version('Never-1', 0);
SELECT es_create_projection('some', query => 'SELECT position FROM es_batch', filter => '[{"tags": ["a7"]}, {"types": ["Imported"], "tags": []}]');
SELECT es_pause_projection('some');
SELECT es_create_subscription('some', filter => '[{"tags": ["a7", "comma, {brace}"]}, {"types": ["Type with spaces"]}]');
SQL
my $digest = log_digest($node);
my $greatest = one($node, 'SELECT max(position) FROM eventstore.event_log');
$epochs{ one($node, 'SELECT es_epoch()') } = 'postgres';

sub run_ok
{
	my ($what, @command) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return $node->command_ok(\@command, $what);
}

sub dump_database
{
	my ($file, @options) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return run_ok("pg_dump @options", 'pg_dump', @options, '-f', "$folder/$file", 'postgres');
}

sub restore_ok
{
	my ($what, $dbname, @options) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return run_ok($what, 'pg_restore', '--exit-on-error', '-d', $dbname, @options);
}

sub run_script
{
	my ($file, $dbname) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return run_ok("psql -f $file",
		'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $dbname, '-f', "$folder/$file");
}

# pg_restore that fails, and what it says.
sub restore_fails
{
	my ($what, $dbname, $like, @options) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return $node->command_fails_like([ 'pg_restore', '--exit-on-error', '-d', $dbname, @options ],
		$like, $what);
}

sub create_database
{
	my ($dbname) = @_;
	$node->safe_psql('postgres', "CREATE DATABASE $dbname TEMPLATE template0");
	return $dbname;
}

sub epoch_is_new
{
	my ($dbname, $name) = @_;
	my $epoch = one($node, 'SELECT es_epoch()', $dbname);
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is($epochs{$epoch}, undef, $name);
	$epochs{$epoch} = $dbname;
	return;
}

sub all_readable
{
	my ($dbname, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(
		one($node, 'SELECT count(*) || es_head()::text FROM es_read_all(0, NULL)', $dbname),
		one($node, 'SELECT count(*) || max(position)::text FROM eventstore.event_log', $dbname),
		$name);
}

# Appends to a database that should stand where the original stood.
sub goes_on
{
	my ($what, $dbname, $after) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	gives($node, <<'SQL', 't|t', "$what: an event is known by its id", $dbname);
SELECT duplicate,
       position = (SELECT position FROM eventstore.events WHERE type = 'Type with spaces')
FROM es_append('no category', 'Type with spaces', '[1, null, "x"]',
               event_id => '11111111-2222-4333-8444-555555555555')
SQL
	my $version = one($node, q{SELECT es_stream_version('Order-1')}, $dbname);
	gives($node, "SELECT version, position > $after FROM es_append('Order-1', 'Placed')",
		($version + 1) . '|t', "$what: an old stream goes on, above all there was", $dbname);
	gives($node, "SELECT version FROM es_append('New-$dbname', 'New')",
		'1', "$what: a new stream begins", $dbname);
	$node->safe_psql($dbname, q{SELECT es_seek_subscription('some', 0)});
	gives($node, q{SELECT string_agg(stream, ' ' ORDER BY position) FROM es_fetch('some', 'me')},
		'Order-0 no category', "$what: a subscription takes what its filter says", $dbname);
	gives($node, q{SELECT es_resume_projection('some')}, '', "$what: a projection is resumed", $dbname);
	gives($node, q{SELECT count(*) FROM es_query((SELECT filter FROM eventstore.projections))}, '201',
		"$what: a projection has its filter", $dbname);
	gives($node, q{SELECT es_wait_for_projection('some', timeout => '60 s')}, 't', "$what: and applies it", $dbname);
	is(broken_streams($node, $dbname), '0', "$what: versions have no gaps");
	sound($node, "$what: es_check() finds nothing", $dbname);
	all_readable($dbname, "$what: all can be read after appends");
	refused($node, 'INSERT INTO eventstore.event_log SELECT * FROM eventstore.event_log', '42501',
		"$what: sealed now", dbname => $dbname);
	return;
}

# A database that was restored from a dump of 'postgres'.
sub check_restored
{
	my ($what, $dbname) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is(log_digest($node, $dbname), $digest, "$what: every byte of every event");
	gives($node, 'SELECT sealed FROM eventstore.status', 'f', "$what: not sealed yet", $dbname);
	all_readable($dbname, "$what: all can be read before the first append");
	sound($node, "$what: es_check() finds nothing before the first append", $dbname);
	gives($node, q{SELECT count(*) FROM es_read_category('Import')},
		'200', "$what: by category", $dbname);
	is(one($node, q{SELECT count(*) FROM es_read_stream('Order-3')}, $dbname),
		one($node, q{SELECT count(*) FROM es_read_stream('Order-3')}), "$what: by stream");
	gives($node, q{SELECT es_slot('Order-1'), es_slot('Order-3')}, '611|611', "$what: the boundary", $dbname);
	epoch_is_new($dbname, "$what: another epoch");
	refused($node, q{SELECT es_set_boundary('+')}, '55000', "$what: it is not set anew", dbname => $dbname);
	goes_on($what, $dbname, $greatest);
	return;
}

# ---- formats ----

dump_database('plain.sql');
run_script('plain.sql', create_database('plain'));
check_restored('plain', 'plain');

dump_database('inserts.sql', '--inserts');
run_script('inserts.sql', create_database('inserts'));
check_restored('--inserts', 'inserts');

dump_database('custom', '-Fc');
restore_ok('pg_restore', create_database('custom'), "$folder/custom");
check_restored('custom', 'custom');

restore_ok('pg_restore -1', create_database('single'), '--single-transaction', "$folder/custom");
check_restored('in one transaction', 'single');

dump_database('directory', '-Fd', '-j4');
restore_ok('pg_restore -j4', create_database('directory'), '-j4', "$folder/directory");
check_restored('-j4', 'directory');

dump_database('data', '-Fc', '--data-only');
create_database('data_only');
one($node, 'CREATE EXTENSION eventstore', 'data_only');
restore_ok('pg_restore --data-only', 'data_only', "$folder/data");
check_restored('--data-only', 'data_only');

dump_database('extension', '-Fc', '-e', 'eventstore');
restore_ok('pg_restore of the extension alone', create_database('extension'), "$folder/extension");
check_restored('-e eventstore', 'extension');

dump_database('schema.sql', '--schema-only');
run_script('schema.sql', create_database('schema_only'));
gives($node, 'SELECT es_head(), count(*) FROM es_read_all(0, NULL)',
	'0|0', '--schema-only: an empty log', 'schema_only');
epoch_is_new('schema_only', '--schema-only: another epoch');
gives($node, q{SELECT es_slot('Order-1')}, '683', '--schema-only: without a boundary', 'schema_only');
gives($node, q{SELECT version, position > 0 FROM es_append('Order-1', 'Placed', '{}', 0)},
	'1|t', '--schema-only: it takes appends', 'schema_only');

# A dump of a dump.
run_ok('pg_dump of a restored database', 'pg_dump', '-Fc', '-f', "$folder/again", 'custom');
restore_ok('pg_restore of that', create_database('again'), "$folder/again");
is(log_digest($node, 'again'), log_digest($node, 'custom'),
	'a dump of a restored database: every event');
goes_on('a dump of a restored database', 'again', one($node, 'SELECT es_head()', 'custom'));

# A restore in place of a living store: only where that was meant.
my $living = log_digest($node, 'again');
restore_fails('pg_restore --clean over events', 'again',
	qr/cannot drop function eventstore\.owner_of_projection_1\(\) because projection "some" requires it/,
	'--clean', '--if-exists', "$folder/again");
is(log_digest($node, 'again'), $living, 'refused: every event is there');
{
	local $ENV{PGOPTIONS} = '-c eventstore.allow_drop=on';
	restore_ok('pg_restore --clean with allow_drop', 'again', '--clean', '--if-exists', "$folder/again");
}
is(log_digest($node, 'again'), log_digest($node, 'custom'), 'restored in its place: every event');
goes_on('a restore in place', 'again', one($node, 'SELECT es_head()', 'custom'));

# ---- while appends are running ----

my $writing = create_database('writing');
one($node, 'CREATE EXTENSION eventstore', $writing);
my @writers = map { client($node, "writer$_", <<'SQL' x 20_000, $writing) } 1 .. 2;
SELECT es_append('Load-' || random()::text, 'Tick'), es_append('Same', 'Tock');
SQL
await($node, 'SELECT count(*) > 200 FROM eventstore.event_log', 'the writers to write', $writing);
run_ok('pg_dump -j2 while appends are running',
	'pg_dump', '-Fd', '-j2', '-f', "$folder/busy", $writing);
$_->{run}->kill_kill for @writers;
restore_ok('pg_restore of that', create_database('busy'), "$folder/busy");
cmp_ok(one($node, 'SELECT count(*) FROM es_read_all(0, NULL)', 'busy'), '>', 200,
	'busy: events have arrived');
is(broken_streams($node, 'busy'), '0', 'busy: versions have no gaps');
all_readable('busy', 'busy: all can be read');
my $last = one($node, 'SELECT max(position) FROM eventstore.event_log', 'busy');
gives($node, "SELECT position > $last FROM es_append('Same', 'Tock')",
	't', 'busy: appends go on', 'busy');

# ---- incomplete ----

# What a custom dump restores without one of its tables' rows.
sub list_without
{
	my ($kind, $name) = @_;
	my ($list) = run_command([ 'pg_restore', '-l', "$folder/custom" ]);

	like($list, qr/$kind eventstore $name /, "the dump has what $name holds");
	$list =~ s/^.*$kind eventstore $name .*\n//m;
	append_to_file("$folder/without.$name", $list);
	return "$folder/without.$name";
}

my $no_table = qr/not restored completely.*HINT:.*event_log, event_tag, stream and event_type/s;
my $no_secret = qr/ids of events cannot be derived.*HINT:.*sequences of the schema eventstore/s;

for my $part (
	[ 'TABLE DATA', 'stream', $no_table ], [ 'TABLE DATA', 'event_type', $no_table ],
	[ 'SEQUENCE SET', 'id_secret_1', $no_secret ], [ 'SEQUENCE SET', 'id_check', $no_secret ])
{
	my ($kind, $name, $says) = @$part;
	my $what = "without $name";
	my $dbname = create_database("without_$name");

	restore_ok("restore $what", $dbname, '-L', list_without($kind, $name), "$folder/custom");
	refused($node, q{SELECT es_append('Order-1', 'Placed')},
		'55000', "$what: the first append is refused", dbname => $dbname, like => $says);
	refused($node, q{SELECT es_append('Order-1', 'Placed')},
		'55000', "$what: the second as well", dbname => $dbname);
	gives($node, 'SELECT sealed FROM eventstore.status', 'f', "$what: not sealed", $dbname);
	restore_ok("$what: what was missing can be added", $dbname,
		'--data-only', '-n', 'eventstore', '-t', $name, "$folder/custom");
	check_restored("first $what", $dbname);
}

# ---- the secret of another store ----

my $foreign = create_database('mixed');
restore_ok('restored', $foreign, "$folder/custom");
one($node, q{SELECT setval('eventstore.id_secret_2', 4711)}, $foreign);
refused($node, 'SELECT event_id FROM es_read_all()', '55000', 'half of another secret: no id is derived',
	dbname => $foreign, like => qr/is not the one that eventstore\.id_check was made with.*HINT:.*sequences/s);
refused($node, q{SELECT es_read_event('019b7ca9-8f2e-7e6a-8e9e-9c21ca8e4bf7')}, '55000', 'nor is an event said not to be there',
	dbname => $foreign, like => qr/ids of events cannot be derived/);
refused($node, q{SELECT es_append('Order-1', 'Placed')}, '55000', 'and no append seals the log',
	dbname => $foreign, like => qr/ids of events cannot be derived/);
restore_ok('the right one is put back', $foreign, '--data-only', '-n', 'eventstore', '-t', 'id_secret_2', "$folder/custom");
check_restored('with the right one', $foreign);

# ---- into a log that has seen appends ----

my $used = create_database('used');
one($node, q{CREATE EXTENSION eventstore; BEGIN; SELECT es_append('A', 'B'); ROLLBACK}, $used);
gives($node, 'SELECT sealed FROM eventstore.status',
	't', 'an append seals, also when it is rolled back', $used);
restore_fails('a sealed log takes no restore', $used, qr/append-only/, "$folder/data");
refused($node, "COPY eventstore.stream FROM STDIN;\n1\tx\t\\N\t\\N\t\\N\t\\N\n\\.\n",
	'42501', 'nor rows of streams',
	dbname => $used, like => qr/HINT:.*eventstore\.restore/);
{
	local $ENV{PGOPTIONS} = '-c eventstore.restore=on';
	restore_ok('with eventstore.restore it does', $used, "$folder/data");
}
check_restored('eventstore.restore', $used);

# ---- into a store that is alive ----

# What was dealt with since the dump does not come back.
my $alive = create_database('alive');
$node->safe_psql($alive, <<'SQL');
CREATE EXTENSION eventstore;
CREATE TABLE refused (data jsonb);
INSERT INTO refused VALUES ('"bad"');
CREATE FUNCTION handle(event es_event) RETURNS void LANGUAGE plpgsql
    AS $$ BEGIN IF event.data IN (SELECT data FROM refused) THEN RAISE 'no'; END IF; END $$;
CREATE FUNCTION tally(state jsonb, event es_event) RETURNS jsonb LANGUAGE sql AS $$ SELECT to_jsonb((state #>> '{}')::int + 1) $$;
SELECT es_create_projection('p', 'handle', on_error => 'skip', max_retries => 0, reset => '');
SELECT es_create_subscription('s');
SELECT es_append('A-1', 'T', '"bad"'), es_append('A-2', 'T', '{"é": [1.00, "東"]}', event_id => '00000000-0000-4000-8000-000000000001');
SELECT es_append('A-3', 'T'), es_save_snapshot('A-3', 1, '100', 'tally');
SELECT es_set_retention('B', 5);
SQL
gives($node, q{SELECT es_wait_for_projection('p', timeout => '60 s')}, 't', 'the projection has come to its dead letter', $alive);
gives($node, q{SELECT es_nack('s', 'me', array_agg(position), 'park') FROM es_fetch('s', 'me')}, '3', 'three events are parked', $alive);
$node->safe_psql($alive, q{SELECT es_delete_stream('A-2'), es_scavenge()});
run_ok('pg_dump of the store', 'pg_dump', '-Fc', '-f', "$folder/alive", $alive);

my $kept = <<'SQL';
SELECT (SELECT count(*) FROM eventstore.dead_letter), (SELECT count(*) FROM eventstore.subscription_event),
       (SELECT count(*) FROM eventstore.retention), (SELECT count(*) FROM eventstore.snapshot), (SELECT count(*) FROM eventstore.removed_id)
SQL
gives($node, $kept, '1|2|1|1|1', 'what is kept when the dump is made', $alive);
$node->safe_psql($alive, <<'SQL');
TRUNCATE refused;
SELECT es_retry_dead_letters('p'), es_discard_parked('s', (SELECT array_agg(position) FROM eventstore.parked_events)),
       es_set_retention('B'), es_delete_snapshots('tally');
SQL
gives($node, $kept, '0|0|0|0|1', 'and when it is restored', $alive);
my ($out, $err);
IPC::Run::run([ 'pg_restore', '--data-only', '-d', $node->connstr($alive), "$folder/alive" ], '>', \$out, '2>', \$err);
like($err, qr/cannot INSERT into "eventstore\.dead_letter": the store keeps it itself/, 'a store that is alive says why it takes no rows');
gives($node, $kept, '0|0|0|0|1', 'what was dealt with has not come back', $alive);

# A new database has it all: the ids that are remembered, and what reducers have made.
for my $encoding ('UTF8', 'EUC_JP')
{
	my $dbname = 'kept_' . lc $encoding;

	$node->safe_psql('postgres', "CREATE DATABASE $dbname TEMPLATE template0 ENCODING '$encoding' LOCALE 'C'");
	restore_ok("pg_restore into $encoding", $dbname, "$folder/alive");
	gives($node, $kept, '1|2|1|1|1', "$encoding: all that was kept is there", $dbname);
	gives($node, q{SELECT es_aggregate('A-3', 'tally', '0')}, '100', "$encoding: a snapshot of the same reducer is used", $dbname);
	gives($node, q{SET client_encoding = 'UTF8'; SELECT version, duplicate FROM es_append('A-2', 'T', '{"é": [1, "東"]}', event_id => '00000000-0000-4000-8000-000000000001')},
		'1|t', "$encoding: an event that was removed before is known", $dbname);
}
$node->stop('immediate');
$node->start;
gives($node, q{SELECT version, duplicate FROM es_append('A-2', 'T', '{"é": [1, "東"]}', event_id => '00000000-0000-4000-8000-000000000001')},
	'1|t', 'after a crash, too', $alive);

# ---- copy ----

my $scheduler = wait_for_scheduler($node);
my $handed_out = one($node, 'SELECT handed_out FROM eventstore.status');
is($node->psql('postgres', 'CREATE DATABASE elsewhere'), 0, 'another database to work from');
accepted($node, 'CREATE DATABASE copy TEMPLATE postgres',
	'a database can be copied while its scheduler runs', dbname => 'elsewhere');
is(log_digest($node, 'copy'), $digest, 'copy: every byte of every event');
epoch_is_new('copy', 'copy: another epoch');
gives($node, 'SELECT es_epoch()',
	(grep { $epochs{$_} eq 'postgres' } keys %epochs)[0], 'copy: the original keeps its own');
is(one($node, 'SELECT count(*) FROM es_read_all(0, NULL)', 'copy'),
	one($node, 'SELECT count(*) FROM eventstore.event_log', 'copy'), 'copy: all can be read');
goes_on('copy', 'copy', $handed_out);
wait_for_scheduler($node, 'copy');
wait_for_scheduler($node, 'postgres', $scheduler);
goes_on('the original', 'postgres', $handed_out);

finish($node);
