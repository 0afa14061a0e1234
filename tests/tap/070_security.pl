# Who may do what, and what nobody may.
#
# A role without grants can call nothing and read nothing; the three lines of the README
# open appending, reading and administering, each just that.  The log cannot be written
# but through the API, by nobody.  Row-level security is not gone around.  What a user puts
# in front of pg_catalog in his search_path changes nothing, at CREATE EXTENSION or later.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use EventStore;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('security', conf => 'autovacuum = off');

$node->safe_psql('postgres', <<'SQL');
CREATE ROLE nobody LOGIN;
CREATE ROLE app LOGIN;
CREATE ROLE reader LOGIN;
CREATE ROLE operator LOGIN;
CREATE ROLE monitor LOGIN IN ROLE pg_monitor;
CREATE ROLE entitled LOGIN;
CREATE ROLE owner LOGIN;

-- The SQLSTATE of a statement, run as whoever calls.
CREATE FUNCTION state_of(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
    RETURN '00000';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE;
END
$$;

SELECT es_append('Order-1', 'Placed', '{"public": true}', metadata => '{"correlation_id": "c"}');
SELECT es_append('Order-2', 'Placed', '{"public": false}', metadata => '{"correlation_id": "c"}');
SQL

# states(ROLE, STATEMENTS...): SQLSTATE of each, as that role.  After the role there may be
# more statements, to set the session up.
sub states
{
	my ($role, @statements) = @_;
	my $list = join ', ', map { '$q$' . $_ . '$q$' } @statements;
	return one($node, <<"SQL");
SET SESSION AUTHORIZATION $role;
SELECT string_agg(state || ' ' || statement, E'\\n' ORDER BY n)
FROM (SELECT n, statement, state_of(statement) AS state
      FROM unnest(ARRAY[$list]) WITH ORDINALITY AS list (statement, n)) s
SQL
}

# All statements end the same way for a role.
sub all_end
{
	my ($role, $state, $name, @statements) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(states($role, @statements), join("\n", map { "$state $_" } @statements), $name);
}

my @appends = (
	q{SELECT es_append('A-1', 'T')}, q{SELECT es_append_events('A-1', '[{"type": "T"}]')},
	q{SELECT es_append_batch('{A-1}', '{T}', '{"{}"}')}, q{SELECT es_check_version('A-1', NULL)});
my @reads = (
	'SELECT * FROM es_read_all()', q{SELECT * FROM es_read_category('Order')},
	q{SELECT * FROM es_read_stream('Order-1')}, q{SELECT * FROM es_read_correlation('c')});
my @looks = (
	'SELECT es_head()', 'SELECT es_epoch()', 'SELECT es_wait(0)', 'SELECT es_position_at(now())');
my @anyone = (q{SELECT es_category('Order-1')});
my @either = (q{SELECT es_stream_version('Order-1')});
my @data = map { "SELECT * FROM eventstore.$_" }
  qw(events streams event_types event_log stream event_type projection_states);
my @state = map { "SELECT * FROM eventstore.$_" } qw(status blockers mark);
my @registers = map { "SELECT * FROM eventstore.${_}_register" }
  qw(position stream_key seal timeline);
my @writes = map {
	my $table = "eventstore.$_";
	("DELETE FROM $table", "TRUNCATE $table", "INSERT INTO $table DEFAULT VALUES")
} qw(event_log stream event_type mark);

# What of the extension a role can use at all, from the catalog: also what is new and
# not in the lists above.
sub usable
{
	my ($role) = @_;
	return one($node, <<"SQL");
SELECT coalesce(string_agg(what, ' ' ORDER BY what COLLATE "C"), '')
FROM (SELECT p.proname AS what
      FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid
      JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'eventstore' AND d.deptype = 'e'
      WHERE has_function_privilege('$role', p.oid, 'EXECUTE')
      UNION
      SELECT c.relname
      FROM pg_class c
      WHERE c.relnamespace = 'eventstore'::regnamespace
        AND CASE
            WHEN c.relkind IN ('r', 'v') THEN
                has_table_privilege('$role', c.oid,
                                    'SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER')
            WHEN c.relkind = 'S' THEN
                has_sequence_privilege('$role', c.oid, 'SELECT,USAGE,UPDATE')
            END) usable
SQL
}

# ---- without grants ----

is(usable('nobody'), 'es_category', 'a plain role has a right on nothing that tells of events');
all_end('nobody', '00000', 'the category in a name is for anyone', @anyone);
all_end('nobody', '42501', 'a plain role is refused everything',
	@appends, @reads, @looks, @either, @data, @state, @registers, @writes);
all_end('monitor', '00000', 'pg_monitor reads status and blockers',
	'SELECT * FROM eventstore.status', 'SELECT * FROM eventstore.blockers');
gives($node,
	'SET SESSION AUTHORIZATION monitor; SELECT preloaded, head = handed_out FROM eventstore.status',
	't|t', 'and sees what is in them');
all_end('monitor', '42501', 'pg_monitor reads no events and appends none',
	@appends, @reads, @data, @writes);

# ---- the README's three lines ----

my ($block) = slurp_file("$FindBin::RealBin/../../README.md") =~ /### Rights.*?```sql\n(.*?)```/s;
my %grant = $block =~ /^-- (append|read|administer)\n(.*?)\n(?=--|\z)/msg;
is(join(' ', sort keys %grant), 'administer append read', 'the README has three lines');
unlike($grant{$_}, qr/\n/, "$_: one line") for sort keys %grant;

one($node, $grant{append});
all_end('app', '00000', 'append: lets append', @appends, @either);
all_end('app', '42501', 'append: lets do nothing else',
	@reads, @looks, @data, @state, @registers, @writes);

one($node, $grant{read});
all_end('reader', '00000', 'read: lets read', @reads, @looks, @either, @data, @state);
all_end('reader', '42501', 'read: lets do nothing else', @appends, @registers, @writes);
all_end('app', '42501', 'read: gives nothing to others', @reads, @looks, @data);

one($node, $grant{administer});
all_end('operator', '00000', 'administer: lets do all that the others may',
	@appends, @reads, @looks, @either, @data, @state);
all_end('operator', '42501', 'administer: but not write the tables', @writes);
is(usable('nobody'), 'es_category', 'the three lines give nothing to a plain role');
all_end('app', '42501', 'settings that guard something are for superusers',
	map { "SET eventstore.$_" } 'restore = on', 'max_event_size = 2048');
gives($node, "SET SESSION AUTHORIZATION app; SELECT state_of('DROP EXTENSION eventstore')",
	'42501', 'nor can a role drop what is not its own');

# ---- the log is written through the API only ----

# An owner that is no superuser, and a role that was given too much.
$node->safe_psql('postgres', <<'SQL');
GRANT ALL ON ALL TABLES IN SCHEMA eventstore TO entitled;
ALTER TABLE eventstore.event_log OWNER TO owner;
ALTER TABLE eventstore.stream OWNER TO owner;
ALTER TABLE eventstore.event_type OWNER TO owner;
GRANT CREATE ON SCHEMA eventstore TO owner;
SQL
my $digest = log_digest($node);
my %key = (event_log => 'position', stream => 'stream_key', event_type => 'type_key');
my @direct;
for my $table (qw(event_log stream event_type))
{
	my $key = $key{$table};
	my $name = "eventstore.$table";

	push @direct, "INSERT INTO $name SELECT * FROM $name",
	  "INSERT INTO $name SELECT * FROM $name ON CONFLICT DO NOTHING",
	  "UPDATE $name SET $key = $key", "UPDATE $name SET $key = $key WHERE false",
	  "DELETE FROM $name", "DELETE FROM ONLY $name WHERE $key = -1",
	  "TRUNCATE $name", "TRUNCATE $name CASCADE",
	  "WITH gone AS (DELETE FROM $name RETURNING *) SELECT count(*) FROM gone",
	  map { "MERGE INTO $name t USING $name s ON t.$key = s.$key WHEN MATCHED THEN $_" } 'DELETE',
	  "UPDATE SET $key = s.$key";
}
push @direct, 'INSERT INTO eventstore.event_log SELECT * FROM eventstore.event_log'
  . ' ON CONFLICT (position) DO UPDATE SET data = excluded.data',
  'INSERT INTO eventstore.stream SELECT * FROM eventstore.stream'
  . ' ON CONFLICT (name) DO UPDATE SET stream_key = 7';

for my $role ('entitled', 'owner', 'postgres')
{
	all_end($role, '42501', "$role cannot write the tables", @direct);
	is(log_digest($node), $digest, "$role: the log is the same");
}
all_end('postgres', '55000', 'the view of events cannot be written',
	q{UPDATE eventstore.events SET data = '{}'}, 'DELETE FROM eventstore.events');
all_end('postgres; SET session_replication_role = replica',
	'42501', 'nor can a superuser with session_replication_role = replica', @direct);
is(log_digest($node), $digest, 'the log is the same after that');

my %rows = (
	stream => "99\tplanted\t\\N\t\\N\t\\N\t\\N", event_type => "99\tC\t\\N\tT\t1\t\\N",
	event_log => "99999\t1\t99\t2001-01-01\t1\t11111111-2222-4333-8444-555555555555\tOrder-1\t{}\t\\N\t\\N\t\\N");
for my $role ('entitled', 'owner', 'postgres')
{
	for my $table (sort keys %rows)
	{
		refused($node, "COPY eventstore.$table FROM STDIN;\n$rows{$table}\n\\.\n", '42501',
			"$role cannot COPY into $table", user => $role, dbname => 'postgres');
	}
}
refused($node,
	"SET session_replication_role = replica;\n"
	  . "COPY eventstore.event_log FROM STDIN;\n$rows{event_log}\n\\.\n",
	'42501', 'nor a superuser with session_replication_role = replica');
is(log_digest($node), $digest, 'the log is the same after COPY');
gives($node, q{SELECT count(*) FROM es_append('Order-1', 'Placed')},
	'1', 'appends work with tables of another owner');
gives($node, q{SET ROLE app; SELECT count(*) FROM es_append('Order-1', 'Placed')},
	'1', 'for a role as well');

# ---- row-level security ----

$node->safe_psql('postgres', <<'SQL');
ALTER TABLE eventstore.event_log ENABLE ROW LEVEL SECURITY;
CREATE POLICY public_only ON eventstore.event_log
    FOR SELECT TO reader USING (data @> '{"public": true}');
SQL
for my $read (@reads)
{
	refused($node, "SET ROLE reader; $read",
		'42501', "row-level security: $read", like => qr/HINT:.*eventstore\.events/);
}
gives($node,
	q{SET ROLE reader; SELECT count(*), min(data->>'public') FROM eventstore.events},
	'1|true', 'row-level security: the view applies the policy');
gives($node, q{SET ROLE reader; SELECT stream, version FROM eventstore.streams},
	'Order-1|1', 'row-level security: so does the view of streams');
gives($node,
	q{SET ROLE app; SELECT version > 1 FROM es_append('Order-2', 'Placed', '{"public": false}')},
	't', 'row-level security: appends are not subject to it');
gives($node, q{SET ROLE owner; SELECT count(*) > 1 FROM eventstore.event_log},
	't', 'row-level security: not for the owner');
gives($node, 'SELECT count(*) > 1 FROM es_read_all()', 't', 'nor for a superuser');
one($node, 'ALTER ROLE reader BYPASSRLS');
gives($node, 'SET ROLE reader; SELECT count(*) > 1 FROM es_read_all()',
	't', 'nor for a role with BYPASSRLS');
one($node, $_)
  for 'ALTER ROLE reader NOBYPASSRLS',
  'ALTER TABLE eventstore.event_log FORCE ROW LEVEL SECURITY',
  'GRANT EXECUTE ON FUNCTION es_read_all TO owner';
refused($node, 'SET ROLE owner; SELECT * FROM es_read_all()',
	'42501', 'FORCE ROW LEVEL SECURITY: for the owner as well');
one($node,
	'ALTER TABLE eventstore.event_log NO FORCE ROW LEVEL SECURITY, DISABLE ROW LEVEL SECURITY');
gives($node, 'SET ROLE reader; SELECT count(*) > 1 FROM es_read_all()',
	't', 'without policies all is read again');

# ---- a search_path with traps ----

# Look-alikes of what SQL inside the extension could call.  Each of them, when called,
# raises an error that nothing else raises.
my $trap = <<'SQL';
CREATE FUNCTION evil.spring() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'trap: % as %', session_user, current_user USING ERRCODE = 'TRAP0';
END $$;
SQL
for my $signature (
	'now()', 'clock_timestamp()', 'gen_random_uuid()', 'pg_is_in_recovery()', 'current_database()',
	'hashtextextended(text, bigint)', 'jsonb_concat(jsonb, jsonb)',
	'jsonb_object_field_text(jsonb, text)', 'max(bigint)', 'to_regclass(text)',
	'set_config(text, text, boolean)', 'pg_extension_config_dump(regclass, text)',
	'es_category(text)', 'pg_stat_get_activity(integer)')
{
	my ($name, $arguments) = $signature =~ /^(\w+)\((.*)\)$/;
	my $type = {
		now => 'timestamptz', clock_timestamp => 'timestamptz', gen_random_uuid => 'uuid',
		pg_is_in_recovery => 'boolean', current_database => 'name', jsonb_concat => 'jsonb',
		jsonb_object_field_text => 'text', to_regclass => 'regclass',
		set_config => 'text', es_category => 'text'
	}->{$name} // 'bigint';
	$trap .= "CREATE FUNCTION evil.$name($arguments) RETURNS $type LANGUAGE plpgsql AS"
	  . " 'BEGIN PERFORM evil.spring(); RETURN NULL; END';\n";
}
my $n = 0;
for my $operator (
	[ '=', 'bigint', 'bigint', 'boolean' ], [ '=', 'name', 'name', 'boolean' ],
	[ '=', 'text', 'text', 'boolean' ],
	[ '=', 'oid', 'oid', 'boolean' ], [ '=', 'int', 'int', 'boolean' ],
	[ '<', 'bigint', 'bigint', 'boolean' ], [ '>', 'bigint', 'bigint', 'boolean' ],
	[ '<=', 'bigint', 'bigint', 'boolean' ],
	[ '||', 'jsonb', 'jsonb', 'jsonb' ], [ '->>', 'jsonb', 'text', 'text' ],
	[ '->', 'jsonb', 'text', 'jsonb' ],
	[ '?', 'jsonb', 'text', 'boolean' ], [ '-', 'timestamptz', 'timestamptz', 'interval' ])
{
	my ($sign, $left, $right, $result) = @$operator;
	$n++;
	$trap .= "CREATE FUNCTION evil.operator_$n($left, $right) RETURNS $result LANGUAGE plpgsql AS"
	  . " 'BEGIN PERFORM evil.spring(); RETURN NULL; END';\n"
	  . "CREATE OPERATOR evil.$sign"
	  . " (LEFTARG = $left, RIGHTARG = $right, FUNCTION = evil.operator_$n);\n";
}
$trap .= "CREATE DOMAIN evil.$_ AS pg_catalog.bytea CHECK (VALUE IS NULL);\n"
  for qw(text uuid jsonb timestamptz);
my $path = 'SET search_path = evil, pg_catalog, public, pg_temp;';

sub create_trapped
{
	my ($dbname) = @_;
	one($node, "CREATE DATABASE $dbname");
	$node->safe_psql($dbname, "CREATE SCHEMA evil;\n$trap\nGRANT USAGE ON SCHEMA evil TO PUBLIC;");
	return;
}

create_trapped('trapped');
my ($state) = error_of($node, "$path SELECT 1::bigint = 1::bigint", dbname => 'trapped');
is($state, 'TRAP0', 'the traps work');
($state) = error_of($node, "$path SELECT now()", dbname => 'trapped');
is($state, 'TRAP0', 'those that are functions too');

# With the traps in front, and in the schema that the extension goes into.
accepted($node, "$path CREATE EXTENSION eventstore SCHEMA public",
	'traps: CREATE EXTENSION', dbname => 'trapped');
create_trapped('trapped_target');
one($node, 'DROP FUNCTION evil.es_category', 'trapped_target');    # that name is taken there
accepted($node, 'SET search_path = evil; CREATE EXTENSION eventstore',
	'traps in the target schema: CREATE EXTENSION',
	dbname => 'trapped_target');
gives($node, <<'SQL', "1\nA-1", 'traps in the target schema: append and read', 'trapped_target');
SELECT version FROM evil.es_append('A-1', 'T');
SELECT stream FROM evil.es_read_stream('A-1');
SQL
gives($node, 'SELECT category, version FROM eventstore.streams',
	'A|1', 'traps in the target schema: views', 'trapped_target');

# The same calls, with and without traps, give the same.
sub everything
{
	my ($dbname, $prefix, $role) = @_;
	my $set = $role ? "SET ROLE $role;" : '';
	my ($status, $stdout, $stderr) = $node->psql($dbname, <<"SQL");
$prefix $set
SET eventstore.metadata = '{"correlation_id": "c"}';
SELECT a.version, a.duplicate
FROM public.es_append('A-1', 'T', '{"x": 1}', metadata => '{"k": 1}', tags => '{a,b}') a;
SELECT a.version
FROM public.es_append_events('A-1', '[{"type": "U", "data": {"x": 2}}, {"type": "T"}]', 1) a;
SELECT a.stream, a.version FROM public.es_append_batch('{B-1,A-1}', '{T,T}', '{"{}","{}"}') a;
SELECT public.es_check_version('A-1', -4);
SELECT r.stream, r.version, r.type, r.data, r.metadata FROM public.es_read_all() r;
SELECT r.version FROM public.es_read_all(types => '{U}', categories => '{A}') r;
SELECT r.version
FROM public.es_read_category('A', consumer_group_member => 0, consumer_group_size => 1) r;
SELECT r.version FROM public.es_read_stream('A-1', backwards => true, types => '{T}') r;
SELECT r.stream FROM public.es_read_correlation('c') r;
SELECT public.es_stream_version('A-1'), public.es_category('A-1'), public.es_wait(0);
SELECT public.es_epoch() IS NULL, public.es_head() IS NULL, public.es_position_at('2001-01-01') = 0;
SELECT e.stream, e.version, e.type FROM eventstore.events e;
SELECT s.stream, s.category, s.version, s.last_event_at IS NULL FROM eventstore.streams s;
SELECT t.category, t.type FROM eventstore.event_types t ORDER BY 1, 2;
SELECT s.version IS NULL, s.preloaded, s.standby, s.sealed FROM eventstore.status s;
SELECT b.pid, b.age FROM eventstore.blockers b;
SQL
	return $stdout . $stderr;
}

one($node, "CREATE DATABASE $_") for 'calm', 'calm_role';
one($node, 'CREATE EXTENSION eventstore', $_) for 'calm', 'calm_role';
is(everything('trapped', $path), everything('calm', ''),
	'traps: a superuser\'s calls do what they should');

# The first append checks what was restored, with the owner's rights: the traps of a role
# must not get those.
create_trapped('trapped_role');
one($node, 'CREATE EXTENSION eventstore SCHEMA public', 'trapped_role');
for my $dbname ('trapped_role', 'calm_role')
{
	$node->safe_psql($dbname, <<"SQL");
INSERT INTO eventstore.stream (stream_key, name) VALUES (5, 'Old-1');
INSERT INTO eventstore.event_type (type_key, category, type, schema_version)
VALUES (eventstore.type_key('Old', NULL, 'T', 1), 'Old', 'T', 1);
INSERT INTO eventstore.event_log
    (position, stream_key, version, created_at, type_key, event_id, stream, data)
VALUES (7, 5, 1, '2001-01-01', eventstore.type_key('Old', NULL, 'T', 1), '11111111-2222-4333-8444-555555555555', 'Old-1', '{}');
$grant{append} $grant{read}
SQL
}
gives($node, 'SELECT sealed FROM eventstore.status',
	'f', 'a log that was restored', 'trapped_role');
is(everything('trapped_role', $path, 'operator'), everything('calm_role', '', 'operator'),
	'traps: nor does a role catch the owner\'s rights');
gives($node, 'SELECT sealed, (SELECT min(position) FROM es_read_all()) FROM eventstore.status',
	't|7', 'it is sealed with what was restored', 'trapped_role');

finish($node);
