# A dump restored into a database of another encoding, or one that was changed.
#
# What the store finds by a hash, tags, types with their content types, categories of their
# own and those that share a bucket, the share of a consumer group, the slot, is found as before, and conditions hold.  A log
# whose hashes are not those of its names is refused by the first append, until
# eventstore.rehash() has made them anew.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use EventStore;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('encodings', conf => "autovacuum = off\nmax_worker_processes = 40", extension => 0);
my $folder = $PostgreSQL::Test::Utils::tmp_check;

sub create_database
{
	my ($dbname, $encoding) = @_;
	one($node, "CREATE DATABASE $dbname TEMPLATE template0 ENCODING '$encoding' LOCALE 'C'");
	return $dbname;
}

# Events whose names are not ASCII, given as UTF-8; 1,000 categories besides, so that the
# last ones share buckets.
sub fill
{
	my ($dbname) = @_;
	one($node, <<'SQL', $dbname);
CREATE EXTENSION eventstore;
SET client_encoding = 'UTF8';
SELECT es_set_boundary('é');
SELECT es_append('Café-' || n, 'Öffnet', tags => ARRAY['é', 'gast:ü' || n],
    payload => CASE WHEN n % 3 < 2 THEN '\x00e9c3a900'::bytea END, content_type => CASE WHEN n % 3 = 0 THEN 'text/é' END) FROM generate_series(1, 20) n;
SELECT es_append('C' || n || '-1', 'T') FROM generate_series(1, 1000) n;
SELECT es_append('Späteré' || n % 5 || '-' || n, 'Schließt', tags => ARRAY['ä']) FROM generate_series(1, 20) n;
SQL
	return;
}

# What is found by the names, as UTF-8.
sub found
{
	my ($dbname) = @_;
	return one($node, <<'SQL', $dbname);
SET client_encoding = 'UTF8';
SELECT t, string_agg(position::text, ' ' ORDER BY position)
FROM unnest(ARRAY['é', 'ä', 'gast:ü7']) t, LATERAL es_query(jsonb_build_array(jsonb_build_object('tags', ARRAY[t]))) GROUP BY t ORDER BY t;
SELECT c, string_agg(position::text, ' ' ORDER BY position)
FROM unnest(ARRAY['Café', 'Späteré0', 'Späteré3', 'C7', 'C1000']) c, LATERAL es_read_category(c) GROUP BY c ORDER BY c;
SELECT t, string_agg(position::text, ' ' ORDER BY position)
FROM unnest(ARRAY['Öffnet', 'Schließt']) t, LATERAL es_read_all(types => ARRAY[t]) GROUP BY t ORDER BY t;
SELECT content_type, payload, string_agg(position::text, ' ' ORDER BY position)
FROM es_read_all(types => '{Öffnet}') GROUP BY content_type, payload ORDER BY content_type, payload;
SELECT m, string_agg(position::text, ' ' ORDER BY position)
FROM generate_series(0, 2) m, es_read_category('Café', 0, 1000, m, 3) GROUP BY m ORDER BY m;
SELECT es_slot('Café-1'), es_slot('Café-2é3');
SQL
}

# Conditions on what is there fail, and on what is not pass; types get no second key.
sub decides
{
	my ($what, $dbname) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $append = q{SET client_encoding = 'UTF8'; SELECT version FROM es_append('Café-1', 'Öffnet', condition => '{"query": [%s]}')};

	refused($node, sprintf($append, $_), 'SE004', "$what: the condition $_", dbname => $dbname)
	  for '{"tags": ["é"]}', '{"tags": ["gast:ü7", "é"]}', '{"types": ["Öffnet"]}', '{"types": ["Schließt"], "tags": ["ä"]}';
	gives($node, sprintf($append, '{"tags": ["ö"]}'), '2', "$what: a condition that holds", $dbname);
	gives($node, q{SET client_encoding = 'UTF8'; SELECT version FROM es_append('Späteré3-3', 'Schließt')}, '2', "$what: a stream in a bucket goes on", $dbname);
	gives($node, <<'SQL', '0', "$what: the events of a type have one key", $dbname);
SELECT count(*) FROM (
    SELECT FROM eventstore.event_log JOIN eventstore.event_type USING (type_key)
    WHERE category IS NOT NULL
    GROUP BY category, type, schema_version, content_type HAVING count(DISTINCT type_key) > 1) t
SQL
	sound($node, "$what: sound", $dbname);
	return;
}

sub dump_database
{
	my ($dbname) = @_;
	$node->command_ok([ 'pg_dump', '-f', "$folder/$dbname.sql", $dbname ], "dump of $dbname");
	return "$folder/$dbname.sql";
}

sub restore
{
	my ($file, $dbname, $encoding) = @_;
	create_database($dbname, $encoding);
	$node->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $dbname, '-f', $file ], "restored into $dbname");
	return $dbname;
}

# ---- from one encoding to another ----

my %file;
for my $encoding ('LATIN1', 'SQL_ASCII', 'UTF8')
{
	my $dbname = create_database('from_' . lc $encoding, $encoding);
	fill($dbname);
	sound($node, "$encoding: sound", $dbname);
	my $before = found($dbname);
	is(() = $before =~ /\|\d/g, 17, "$encoding: all is found") or diag($before);
	like($before, qr/^138\|138$/m, "$encoding: slots");
	$file{$encoding} = dump_database($dbname);

	my $copy = restore($file{$encoding}, "${dbname}_to_utf8", 'UTF8');
	is(found($copy), $before, "from $encoding: all is found before the first append");
	decides("from $encoding", $copy);
}
my $copy = restore($file{UTF8}, 'to_latin1', 'LATIN1');
is(found($copy), found('from_utf8'), 'to LATIN1: all is found');
decides('to LATIN1', $copy);

# Bytes that SQL_ASCII took for UTF-8, taken for LATIN1: other names, other hashes.
$copy = restore($file{SQL_ASCII}, 'mistaken', 'LATIN1');
refused($node, q{SELECT es_append('A', 'T')}, '55000', 'bytes that are taken for other names are refused', dbname => $copy);

# ---- changed ----

# pg_dump's rows of a table, changed.
sub tamper
{
	my ($name, $table, $change) = @_;
	my $text = slurp_file($file{UTF8});
	my $changed = 0;

	$text =~ s{(^COPY eventstore\.$table [^\n]*\n)(.*?)(^\\\.$)}{
		my ($head, $rows, $end) = ($1, $2, $3);
		my $before = $rows;
		$change->() for $rows;
		$changed = $rows ne $before;
		"$head$rows$end"}mse;
	ok($changed, "$name: rows of $table are changed");
	append_to_file("$folder/$name.sql", $text);
	return restore("$folder/$name.sql", $name, 'UTF8');
}

sub refused_until_rehashed
{
	my ($what, $dbname, $like) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	refused($node, q{SELECT es_append('Café-1', 'Öffnet')}, '55000', "$what: the first append is refused",
		dbname => $dbname, like => qr/of another format.*$like.*HINT:.*eventstore\.rehash\(\)/s);
	gives($node, 'SELECT sealed FROM eventstore.status', 'f', "$what: not sealed", $dbname);
	accepted($node, 'SELECT eventstore.rehash()', "$what: rehash()", dbname => $dbname);
	is(found($dbname), found('from_utf8'), "$what: all is found");
	decides($what, $dbname);
	return;
}

my $wrong = 4711;
refused_until_rehashed('one tag', tamper('one_tag', 'event_tag', sub { s/^-?\d+/4711/m }), qr/tag/);
refused_until_rehashed('a tag that is none', tamper('strange_tag', 'event_tag', sub { s/\A/-9223372036854775808\t3\n/ }), qr/hash is that of none/);
refused_until_rehashed('all tags', tamper('all_tags', 'event_tag', sub { s/^-?\d+/$wrong++/gme }), qr/tag/);

# As if another hash had made them: the keys of types, in the dictionary and in the log.
my $text = slurp_file($file{UTF8});
my %key = map { $_ => ++$wrong } $text =~ /^(-?\d+)\t[^\t\n]+\t[^\t\n]+\t(?:Öffnet|Schließt|T)\t1\t[^\t\n]+$/gm;
cmp_ok(scalar keys %key, '>', 1000, 'a dump has the keys of types');
$text =~ s/\t(-?\d+)(?=\t(?:[0-9a-f]{8}-|\\N\t))/"\t" . ($key{$1} \/\/ $1)/ge;
$text =~ s/^(-?\d+)(?=\t[^\t\n]+\t[^\t\n]+\t(?:Öffnet|Schließt|T)\t1\t[^\t\n]+$)/$key{$1}/gm;
append_to_file("$folder/other_keys.sql", $text);
refused_until_rehashed('other type keys', restore("$folder/other_keys.sql", 'other_keys', 'UTF8'), qr/key of type/);

# The name of a content type is part of the key.
my $mistaken = tamper('content_type', 'event_type', sub { s{text/é}{text/e} });
refused($node, q{SELECT es_append('A', 'T')}, '55000', 'another content type: the first append is refused',
	dbname => $mistaken, like => qr/of another format.*key of type/s);
accepted($node, 'SELECT eventstore.rehash()', 'another content type: rehash()', dbname => $mistaken);
gives($node, q{SELECT count(*) FROM es_append('A', 'T')}, '1', 'another content type: and appends', $mistaken);
sound($node, 'another content type: sound', $mistaken);

# Buckets that another hash has made: only what is in one of its own is found.
$text = slurp_file($file{UTF8});
my ($rows) = $text =~ /^COPY eventstore\.event_type [^\n]*\n(.*?)^\\\.$/ms;
my %in_bucket = map { $_ => 1 } $rows =~ /^(-?\d+)\t\\N\t/gm;
cmp_ok(scalar keys %in_bucket, '>', 1, 'a dump has types in buckets');
$text =~ s/^(-?\d+)\t\\N\t(\d+)\t(\w+)/"$1\t\\N\t" . ($2 + 1) % 256 . "\t$3"/gme;
append_to_file("$folder/buckets.sql", $text);
refused_until_rehashed('other buckets', restore("$folder/buckets.sql", 'buckets', 'UTF8'), qr/key of type/);

# ---- the number of the format ----

for my $format (0, 2)
{
	$text = slurp_file($file{UTF8});
	like($text, qr/setval\('eventstore\.format_register', 1, true\)/, 'a dump says the format');
	$text =~ s/(setval\('eventstore\.format_register'), 1, true/$1, $format, true/;
	$text =~ s/SELECT pg_catalog\.(setval\('eventstore\.format_register', 0)/ALTER SEQUENCE eventstore.format_register MINVALUE 0; SELECT pg_catalog.$1/;
	append_to_file("$folder/format$format.sql", $text);
	restore("$folder/format$format.sql", "format$format", 'UTF8');
}
for my $case ([ 0, 'older' ], [ 2, 'newer' ])
{
	my ($format, $which) = @$case;
	refused($node, $_, '55000', "a log of format $format: $_", dbname => "format$format",
		like => qr/is of format $format.*HINT:.*\b$which version/s)
	  for q{SELECT es_append('A', 'T')}, q{SELECT * FROM es_read_stream('Café-1')}, 'SELECT es_head()', 'SELECT * FROM eventstore.status',
	  'SELECT * FROM es_check()', q{SELECT es_slot('A')}, q{SELECT es_create_subscription('s')}, 'SELECT eventstore.rehash()';
	accepted($node, 'CREATE FUNCTION f() RETURNS int RETURN 1; DROP FUNCTION f(); CREATE TABLE t (); DROP TABLE t',
		"a log of format $format: other work goes on", dbname => "format$format");
}

# Who has used the store before the number comes sees it.  Once there is one, it is not read
# in each call, but by the first append after a restore.
my $session = open_session($node, create_database('format_comes', 'UTF8'));
$session->query_safe($_) for 'CREATE EXTENSION eventstore', 'SELECT es_head()';
one($node, q{SELECT setval('eventstore.format_register', 2)}, 'format_comes');
is(session_error($session, 'SELECT es_head()'), '55000', 'a number that comes later is seen');
one($node, q{SELECT setval('eventstore.format_register', 1)}, 'format_comes');
is($session->query_safe('SELECT version FROM es_append($$A$$, $$T$$)'), '1', 'so is one that is served');
one($node, q{SELECT setval('eventstore.format_register', 2)}, 'format_comes');
$session->query_safe($_) for 'SET eventstore.restore = on', 'INSERT INTO eventstore.stream (stream_key, name) VALUES (1000, $$B$$)';
is(session_error($session, 'SELECT version FROM es_append($$A$$, $$T$$)'), '55000', 'the first append after a restore reads it again');
$session->quit;

# ---- rehash() ----

refused($node, 'SELECT eventstore.rehash()', '55000', 'a sealed log is left alone',
	dbname => 'from_utf8', like => qr/sealed.*HINT:.*eventstore\.restore/s);
my $before = found('from_utf8');
accepted($node, 'SET eventstore.restore = on; SELECT eventstore.rehash()', 'unless a superuser says so', dbname => 'from_utf8');
is(found('from_utf8'), $before, 'then nothing changes');
gives($node, 'SELECT sealed FROM eventstore.status', 'f', 'the next append checks again', 'from_utf8');
decides('rehashed', 'from_utf8');
refused($node, 'DELETE FROM eventstore.event_tag', '42501', 'the guard is there again', dbname => 'from_utf8');
refused($node, 'UPDATE eventstore.event_log SET type_key = 1', '42501', 'on the events, too', dbname => 'from_utf8');
one($node, q{CREATE ROLE other LOGIN});
one($node, q{GRANT EXECUTE ON FUNCTION eventstore.rehash TO other}, 'from_utf8');
refused($node, 'SELECT eventstore.rehash()', '42501', 'only a superuser may', dbname => 'from_utf8', user => 'other');
refused($node, 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT eventstore.rehash()', '55000', 'and not by an old snapshot', dbname => 'from_utf8');

finish($node);
