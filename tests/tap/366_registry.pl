# The registry of databases (src/log/database.c) by itself, with invented OIDs.
#
# There is room for ten thousand databases with the settings as they are, a few hundred bytes
# each; each entry stays where it is.  What is dropped makes room, also while it is in the
# list of those that are due.  That list loses nothing, whoever enters a database at
# whatever moment.
#
# The server has the library of tests/modules/registry, and the extension not at all.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use EventStore;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $folder = "$PostgreSQL::Test::Utils::tmp_check/registry";
my $module = "$FindBin::RealBin/../modules/registry";
mkdir $folder or die "mkdir: $!";
run_log([ 'make', '-s', '-C', $folder, '-f', "$module/Makefile", 'all' ]) or die 'the module cannot be built';

my $node = new_node('registry', start => 0, conf => <<"CONF");
autovacuum = off
shared_preload_libraries = '$folder/registry'
CONF
$node->start;

my %functions = (
	'entry(oid, boolean)' => 'bigint',
	'list()' => 'oid[]',
	'drop(oid)' => 'void',
	'note_scheduler(oid, integer)' => 'integer',
	'list_due(oid)' => 'void',
	'call_scheduler(oid)' => 'void',
	'take()' => 'oid[]',
	'take_all(OUT takes bigint, OUT taken bigint, OUT twice bigint, OUT late bigint)' => 'record',
	'stop()' => 'void',
	'mark_some(oid, integer, integer)' => 'bigint',
	'mark_own(oid, integer, integer, OUT rounds bigint, OUT lost bigint)' => 'record',
	'replace_some(oid, integer, integer)' => 'bigint',
	'unseen(oid, integer)' => 'integer');
one($node, "CREATE FUNCTION registry_$_ RETURNS $functions{$_} STRICT LANGUAGE c AS '$folder/registry'")
  for keys %functions;

# ---- ten thousand entries ----

my $first = 100_000;
my $unused = 'SELECT size FROM pg_shmem_allocations WHERE name IS NULL';
my ($n, $max) = (10_000, one($node, 'SHOW eventstore.max_databases'));
is($max, 16384, 'as many databases can have a log, by default');

one($node, 'CREATE TABLE entry (dboid oid, address bigint)');
my $before = one($node, $unused);
one($node, <<"SQL");
INSERT INTO entry SELECT $first + n, registry_entry($first + n, true) FROM generate_series(0, $n - 1) n
SQL
my $each = ($before - one($node, $unused)) / $n;
cmp_ok($each, '<=', 400, sprintf('an entry takes %.0f bytes of shared memory', $each));
gives($node, "SELECT count(DISTINCT address) FROM entry", $n, 'ten thousand databases have entries');
my $same = <<'SQL';
SELECT count(*) FROM entry WHERE address = registry_entry(dboid, false) AND address = registry_entry(dboid, true)
SQL
gives($node, $same, $n, 'another process finds each where it was made');
gives($node, 'SELECT count(*) FROM entry WHERE dboid = ANY (registry_list())', $n, 'the list has all of them');
gives($node, 'SELECT cardinality(registry_list())', $n, 'and no other');
gives($node, "SELECT registry_entry($first + $max, false) IS NULL", 't', 'a database without a log has none');

# ---- the last one, and room that comes back ----

my $make = "SELECT registry_entry(%d, true) IS NOT NULL";
my $beyond = $first + $max;
one($node, <<"SQL");
INSERT INTO entry SELECT $first + n, registry_entry($first + n, true) FROM generate_series($n, $max - 1) n
SQL
gives($node, 'SELECT count(DISTINCT address) FROM entry', $max, 'all that there may be');
refused($node, sprintf($make, $beyond), '53400', 'one more than there may be',
	like => qr/too many databases with an event log\n.*HINT: .*Raise eventstore\.max_databases \(now 16384\)/);
gives($node, $same, $max, 'the others are where they were');
gives($node, 'SELECT registry_take()', '{}', 'none is due');

one($node, "SELECT registry_drop($first + n) FROM generate_series(0, 4) n");
gives($node, 'SELECT cardinality(registry_list())', $max - 5, 'five are dropped');
gives($node, "SELECT count(registry_entry($first + n, false)) FROM generate_series(0, 4) n", '0', 'and not to be found');
refused($node, sprintf($make, $beyond), '53400', 'their room is not free before the launcher has been there');
gives($node, 'SELECT ARRAY(SELECT unnest(registry_take()) ORDER BY 1)',
	'{' . join(',', map { $first + $_ } 0 .. 4) . '}', 'the launcher is told of them');
$before = one($node, $unused);
accepted($node, sprintf($make, $beyond + $_), "their room is used again: $_") for 0 .. 4;
is(one($node, $unused), $before, 'and no other is');
refused($node, sprintf($make, $beyond + 5), '53400', 'there is no more of it');
gives($node, "$same AND dboid >= $first + 5", $max - 5, 'the others are where they were');

# ---- an OID that comes again ----

my $oid = $first + 7;
my $address = one($node, "SELECT registry_entry($oid, false)");
one($node, "SELECT registry_note_scheduler($oid, 4711)");
one($node, "SELECT registry_list_due(oid) FROM unnest(ARRAY[$oid + 1, $oid, $oid + 2]::oid[]) oid");
one($node, "SELECT registry_drop($oid)");
gives($node, "SELECT registry_entry($oid, false) IS NULL", 't', 'dropped while it is in the list');
gives($node, "SELECT registry_entry($oid, true)", $address, 'its OID comes again before the launcher: the entry is used again');
gives($node, "SELECT registry_note_scheduler($oid, 0)", '0', 'as a new one');
one($node, "SELECT registry_list_due($oid)");
gives($node, 'SELECT registry_take()', sprintf('{%d,%d,%d}', $oid + 1, $oid, $oid + 2),
	'the list has it once, and all others, in the order in which they entered it');
gives($node, "SELECT registry_entry($oid, false)", $address, 'the launcher leaves it alone');
gives($node, 'SELECT registry_take()', '{}', 'and nothing is left');

one($node, "SELECT registry_call_scheduler($oid), registry_call_scheduler($oid)");
gives($node, 'SELECT registry_take()', "{$oid}", 'a scheduler is called twice: once in the list');

# ---- a crowd ----

# Few entries, so that all meet.  One process replaces databases of its own; others wait each time
# until a mark of their own has been seen, which nobody else would have seen later.
my ($crowd, $ms) = (40, 2000);
my ($shared, $owned, $replaced) = ($first + 100, $first + 200, $first + 300);
my $taker = client($node, 'taker', 'SELECT takes, taken, twice, late FROM registry_take_all()');
my @shared = map { client($node, "marks$_", "SELECT registry_mark_some($shared, $crowd, $ms)") } 1 .. 2;
my @owners = map { client($node, "owns$_", "SELECT rounds, lost FROM registry_mark_own($owned + 10 * $_, 3, $ms)") } 0 .. 2;
my $replacer = client($node, 'replaces', "SELECT registry_replace_some($replaced, 10, $ms)");
my ($marked, $rounds, $lost) = (0, 0, 0);
$marked += (finish_client($_))[0] for @shared;
for my $owner (@owners)
{
	my @answer = split /\|/, (finish_client($owner))[0];
	$rounds += $answer[0];
	$lost += $answer[1];
}
my ($revived) = finish_client($replacer);
one($node, 'SELECT registry_stop()');
my ($answer) = finish_client($taker);
my ($takes, $taken, $twice, $late) = split /\|/, $answer // '0|0|-|-';

is(slurp_file($taker->{err}), '', 'whoever takes the list comes to its end');
note("$marked marks, $rounds rounds of marks, $revived entries revived, $taken entries in $takes takes");
cmp_ok($marked, '>', 10_000, 'databases were marked by two processes');
cmp_ok($rounds, '>', 100, 'by three more, one after the other');
cmp_ok($revived, '>', 100, 'and replaced by one');
cmp_ok($taken, '>', 100, 'and taken');
is($twice, 0, 'none was in the list twice');
is($late, 0, 'whoever entered the first one woke the launcher');
is($lost, 0, 'each mark was seen at once');
gives($node, "SELECT registry_unseen($first, 1000)", '0',
	'nothing was lost: whatever was marked before the last take was seen');
gives($node, 'SELECT registry_take()', '{}', 'nothing is left in the list');
one($node, "SELECT registry_list_due($first + n) FROM generate_series(100, 400) n");
gives($node, 'SELECT cardinality(registry_take())', '301', 'each can enter it again');

finish($node);
