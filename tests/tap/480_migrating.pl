# docs/migrating.md: its examples work, and its statements move real histories.
#
# The guide is run as the README is (lib/Pasted.pm), with a store of 0.1 as the database
# `old`.  Then its one statement moves the history of real repositories, if tests/run knows where
# it is (EVENTSTORE_TEST_HISTORY), or one that is made here, repeated to some 200,000 events: each
# with its version, its time and its place in the order.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use EventStore;
use Pasted;
use PostgreSQL::Test::Utils;
use Test::More;

my $root = "$FindBin::RealBin/../..";
my $guide = slurp_file("$root/docs/migrating.md");
my $node = new_node('migrating', extension => 0, conf => "autovacuum = off\nmax_wal_size = 4GB\n");

# ---- a store of version 0.1 ----

# Its tables and views, without what the library of today does not have any more.
my $old = slurp_file("$root/tests/releases/eventstore--0.1.0.sql");
$old =~ s/^\\echo.*\n//mg;
$old =~ s/'MODULE_PATHNAME'/'eventstore'/g;
one($node, "CREATE DATABASE $_") for qw(old new guide);
$node->psql('old', $old, on_error_stop => 0, on_error_die => 0);
one($node, <<'SQL', 'old');
DROP EVENT TRIGGER IF EXISTS eventstore_load_guard;
ALTER TABLE eventstore.event_log DISABLE TRIGGER ALL;
ALTER TABLE eventstore.stream DISABLE TRIGGER ALL;
ALTER TABLE eventstore.event_type DISABLE TRIGGER ALL;
INSERT INTO eventstore.stream (stream_key, name) SELECT n, 'Order-' || n FROM generate_series(1, 50) n;
INSERT INTO eventstore.event_type (type_key, category, type, schema_version) VALUES (1, 'Order', 'Placed', 1), (2, 'Order', 'Paid', 2);
INSERT INTO eventstore.event_log (position, stream_key, version, type_key, event_id, data, metadata, tags, created_at)
SELECT n * 3, n % 50 + 1, n / 50 + 1, n % 2 + 1, md5(n::text)::uuid, jsonb_build_object('n', n, 'tab', E'\t\\'),
    CASE WHEN n % 3 = 0 THEN '{"user": "ada"}'::jsonb END, CASE WHEN n % 5 = 0 THEN ARRAY['n:' || n, 'a, "b"'] END,
    '2024-05-01 12:00Z'::timestamptz + n * interval '1.000001 s'
FROM generate_series(0, 9999) n;
SQL
one($node, 'CREATE EXTENSION eventstore', $_) for qw(new guide);

# ---- the guide ----

is(join("\n", paste($node, 'guide', $guide, $root)), '', 'the examples');
is(join(' ', broken_links($guide, "$root/docs")), '', 'links');
is(join(' ', missing_contents($guide)), '', 'the contents');
sound($node, 'the log is sound', 'guide');

my $facts = q{SELECT count(*), md5(string_agg((stream, version, type, schema_version, data, metadata, tags, event_id, created_at)::text, '' ORDER BY position))
	FROM eventstore.events};
is(one($node, $facts, 'new'), one($node, $facts, 'old'), 'from 0.1: the same events in the same order');
gives($node, 'SELECT count(*), es_head() FROM eventstore.events', '10000|10000', 'from 0.1: all of them', 'new');
sound($node, 'from 0.1: the log is sound', 'new');

# ---- a history ----

my ($table) = map { $_->{text} =~ /^(CREATE TABLE events \(.*?\);\n)/ms } grep { $_->{language} eq 'sql' } blocks_of($guide);
my ($move) = map { $_->{text} } grep { $_->{text} =~ /^INSERT INTO eventstore\.new_events/ } blocks_of($guide);
my ($compare) = map { $_->{text} =~ /^(SELECT count\(\*\) AS events.*?;)/ms } grep { $_->{language} eq 'sql' } blocks_of($guide);
my ($history) = grep { -r } $ENV{EVENTSTORE_TEST_HISTORY} // '';

one($node, 'CREATE DATABASE history');
one($node, "CREATE EXTENSION eventstore; $table", 'history');
one($node, 'CREATE UNLOGGED TABLE line (n bigint GENERATED ALWAYS AS IDENTITY, event jsonb)', 'history');
if ($history)
{
	# quoted as CSV with characters that no line has
	one($node, q{COPY line (event) FROM PROGRAM 'zcat } . $history . q{' (FORMAT csv, QUOTE E'\x01', DELIMITER E'\x02')}, 'history');
	note("the history of $history");
}
else
{
	one($node, <<'SQL', 'history');
INSERT INTO line (event)
SELECT jsonb_build_object('stream', 'File-made-' || n % 3001, 'type', 'File' || (ARRAY['Added', 'Modified', 'Deleted'])[n % 3 + 1],
    'data', jsonb_build_object('path', md5(n::text), 'lines_added', n % 97), 'created_at', '2016-10-18 21:16:51-04'::timestamptz + n * interval '1 min',
    'metadata', jsonb_build_object('author', n % 50))
FROM generate_series(1, 57451) n
SQL
}
one($node, <<'SQL', 'history');
INSERT INTO events (id, stream_id, stream_type, event_type, event_data, metadata, version, created_at)
SELECT md5(times || '.' || n)::uuid, times || '-' || substr(event ->> 'stream', 6), 'File', event ->> 'type', event -> 'data', event -> 'metadata',
    row_number() OVER (PARTITION BY times, event ->> 'stream' ORDER BY n), (event ->> 'created_at')::timestamptz
FROM line, generate_series(1, 4) times
ORDER BY times, n
SQL
my $events = one($node, 'SELECT count(*) FROM events', 'history');
cmp_ok($events, '>=', 200_000, 'a history of 200,000 events');

# A gap in the versions moves nothing.
one($node, 'CREATE TABLE kept AS SELECT * FROM events WHERE global_position = 150000; DELETE FROM events WHERE global_position = 150000', 'history');
refused($node, $move, $_ ? 'SE001' : '00000', 'a gap', dbname => 'history', like => qr/CONTEXT:  row \d{6} of eventstore\.new_events/)
  for one($node, 'SELECT count(*) FROM events e, kept k WHERE e.stream_id = k.stream_id AND e.version > k.version', 'history');
gives($node, 'SELECT count(*) FROM eventstore.events', '0', 'a gap: nothing is moved', 'history');
one($node, 'INSERT INTO events OVERRIDING SYSTEM VALUE SELECT * FROM kept', 'history');

accepted($node, $move, 'the statement', dbname => 'history');
gives($node, $compare, "$events|0", 'versions, data and times are the same', 'history');
gives($node, q{SELECT count(*) FROM (SELECT position, event_id, row_number() OVER (ORDER BY position) AS n FROM es_read_all(0, NULL)) e
	JOIN (SELECT id, row_number() OVER (ORDER BY global_position) AS n FROM events) o ON o.id = e.event_id AND o.n = e.n},
	$events, 'and so is the order', 'history');
is(broken_streams($node, 'history'), '0', 'no version is missing');

# Again, with some more.
one($node, q{INSERT INTO events (stream_id, stream_type, event_type, event_data, version) VALUES ('late-1', 'File', 'FileAdded', '{}', 1)}, 'history');
accepted($node, $move, 'the statement once more', dbname => 'history');
gives($node, $compare, ($events + 1) . '|0', 'only what is new was moved', 'history');
gives($node, 'SELECT count(*) FROM eventstore.events', $events + 1, 'and nothing twice', 'history');
sound($node, 'the log is sound', 'history');

# The other way, through a pipe and without ids.
$node->command_ok([ 'bash', '-c', 'set -o pipefail; psql -qd "$0" -c "COPY (SELECT \'Piped-\' || stream_id, event_type, event_data, version - 1, created_at'
	  . ' FROM events ORDER BY global_position) TO STDOUT" | psql -qd "$0" -c "COPY eventstore.new_events (stream, type, data, expected_version, created_at) FROM STDIN"',
	$node->connstr('history') ], 'COPY');
gives($node, q{SELECT count(*) FROM eventstore.events e JOIN events o ON e.stream = 'Piped-' || o.stream_id AND e.version = o.version
	AND (e.type, e.data, e.created_at) = (o.event_type, o.event_data, o.created_at)}, $events + 1, 'COPY: the same events', 'history');
is(broken_streams($node, 'history'), '0', 'COPY: no version is missing');

finish($node);
