# The examples: read models that are what the log says.
#
# Each example computes its tables a second time, from the whole log; examples/check.sql fails
# if a row differs.  Here they are kept inline from the first event, async, inline from a log
# that is there, in batches of 1 and 7, rebuilt, and rebuilt while others write.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use EventStore;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $examples = "$FindBin::RealBin/../../examples";
my @names = qw(order_summary daily_sales customer_activity product_search current_state file_history);
my $node = new_node('examples');

# True when no inline projection is on its way to be inline.
use constant ALL_INLINE =>
  "SELECT bool_and(state = 'running') FROM eventstore.projections WHERE mode = 'inline'";

# script(FILE, VARIABLE => VALUE...): psql -f
sub script
{
	my ($file, %variables) = @_;
	my @options = map { ('-v', "$_=$variables{$_}") } sort keys %variables;
	my $said = join(' ', $file, map { "$_=$variables{$_}" } sort keys %variables);
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return $node->command_ok(
		[ 'psql', '-Xq', '-d', $node->connstr('postgres'), @options, '-f', "$examples/$file.sql" ], $said);
}

# Are all read models what the log says?
sub check
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return $node->command_ok(
		[ 'psql', '-Xq', '-d', $node->connstr('postgres'), '-f', "$examples/check.sql" ], $name);
}

# The projections of the examples under one name.
sub projections
{
	my ($suffix) = @_;
	return map { $_ eq 'current_state' ? ("${_}_$suffix", "${_}_${suffix}_customers") : ("${_}_$suffix") } @names;
}

# ---- as they are meant to be run ----

script($_, mode => 'inline') for @names;
script('shop_events');
check('inline, from the first event');

# So that nothing is not compared with nothing.
gives($node, 'SELECT count(*), count(DISTINCT type) FROM eventstore.events', '2954|14', 'the history, with all types');
gives($node, 'SELECT count(*), count(DISTINCT status) FROM order_summary_inline.order_summary', '420|5', 'order_summary');
gives($node, 'SELECT sum(orders), sum(refunds) FROM daily_sales_inline.daily_sales', '328|111', 'daily_sales');
gives($node, 'SELECT sum(ordered), sum(reviews) FROM customer_activity_inline.customer_activity', '420|168', 'customer_activity');
gives($node, 'SELECT count(*) FROM product_search_inline.product', '52', 'product_search');
gives($node, 'SELECT count(state) FROM current_state_inline.order_document', '420', 'current_state');

script($_, mode => 'async') for @names;
check('async, from a log that is there');
gives($node, "SELECT count(*) FROM product_search_async.search_products('vacum flsak')",
	one($node, "SELECT count(*) FROM product_search_async.product WHERE name LIKE '%Vacuum Flask%'"),
	'a misspelt search finds them all');

script($_, mode => 'inline', schema => "${_}_late") for @names;
comes_true($node, ALL_INLINE, 'they have become inline');
check('inline, from a log that is there');

script('shop_more');
check('all go on');

# ---- files ----

# Added, modified, deleted, added again; binary ones; times that do not rise.
sub file_events
{
	my ($from, $to) = @_;
	return one($node, <<"SQL");
SELECT count(*)
FROM (
    SELECT
        array_agg('File-r' || n % 2 || '-' || n % 37 ORDER BY n) AS streams,
        array_agg((ARRAY['FileAdded', 'FileModified', 'FileModified', 'FileDeleted'])[1 + n / 37 % 4] ORDER BY n) AS types,
        array_agg(jsonb_build_object('repository', 'r' || n % 2, 'path', 'p' || n % 37) ||
            CASE n % 37 % 5
                WHEN 0 THEN '{"binary": true}'
                ELSE jsonb_build_object('lines_added', n % 11, 'lines_removed', n % 7)
            END ORDER BY n) AS data,
        array_agg(timestamptz '2020-01-01 00:00+00' + n * n % 1009 * interval '1 day' ORDER BY n) AS created_at
    FROM generate_series($from, $to) n) e,
    es_append_batch(streams, types, e.data, created_at => e.created_at)
SQL
}

cmp_ok(file_events($_ * 200 + 1, $_ * 200 + 200), '>', 0, 'files change') for 0 .. 4;
check('files');
gives($node, 'SELECT sum(changes), count(DISTINCT alive) FROM file_history_inline.file', '1000|2', 'file_history');

# ---- batches of any size, rebuilds ----

for my $size (1, 7)
{
	for my $name (projections('async'))
	{
		one($node, "SELECT es_alter_projection('$name', batch_size => $size)");
		one($node, "SELECT es_rebuild_projection('$name')");
	}
	check("rebuilt in batches of $size");
}
one($node, "SELECT es_rebuild_projection('$_')") for projections('inline');
check('the inline ones rebuilt');

# ---- the check finds what is wrong, and a rebuild repairs it ----

one($node, <<'SQL');
UPDATE daily_sales_async.daily_sales
SET orders = orders + 1
WHERE day = (SELECT min(day) FROM daily_sales_async.daily_sales)
SQL
$node->command_fails_like(
	[ 'psql', '-Xq', '-d', $node->connstr('postgres'), '-f', "$examples/check.sql" ],
	qr/not what the log says: daily_sales_async$/m,
	'a wrong row is found');
one($node, q{SELECT es_rebuild_projection('daily_sales_async')});
check('a rebuild repairs it');

# ---- writers that share rows ----

# Until they are told to stop: calls of 16 events each, on streams, customers and days that
# all writers share, in any order.  Each is a transaction of one call: none of them may fail.
one($node, 'CREATE TABLE stop (); CREATE TABLE written (calls bigint)');
my $writer = <<'SQL';
DO $$
DECLARE
    calls bigint := 0;
BEGIN
    WHILE NOT EXISTS (SELECT FROM stop) LOOP
        PERFORM appended.*
        FROM (
            SELECT
                array_agg(stream) AS streams,
                array_agg(type) AS types,
                array_agg(data) AS data,
                array_agg(timestamptz '2025-05-01 00:00+00' + day * interval '1 day') AS created_at
            FROM (
                SELECT
                    CASE kind
                        WHEN 0 THEN 'Product-' || 1 + number % 4
                        WHEN 1 THEN 'Product-' || 1 + number % 50
                        WHEN 2 THEN 'Customer-' || 1 + number % 40
                        ELSE 'Order-' || 1001 + number % 420
                    END AS stream,
                    (ARRAY['ReviewSubmitted', 'ProductPriceChanged', 'CustomerTierChanged',
                        'OrderItemAdded', 'OrderCompleted', 'OrderRefunded'])[1 + kind] AS type,
                    CASE kind
                        WHEN 0 THEN jsonb_build_object('customer_id', customer_id, 'rating', 1 + number % 5)
                        WHEN 1 THEN jsonb_build_object('price_cents', number)
                        WHEN 2 THEN jsonb_build_object('to', 'tier ' || number)
                        WHEN 3 THEN jsonb_build_object('product_id', 'Product-' || number % 50, 'quantity', 1, 'price_cents', number)
                        WHEN 4 THEN jsonb_build_object('customer_id', customer_id, 'total_cents', number)
                        WHEN 5 THEN jsonb_build_object('customer_id', customer_id, 'amount_cents', number)
                    END AS data,
                    day
                FROM (
                    SELECT
                        floor(random() * 6)::int AS kind,
                        floor(random() * 10000)::int AS number,
                        'Customer-' || 1 + floor(random() * 40)::int AS customer_id,
                        floor(random() * 10)::int AS day
                    FROM generate_series(1, 16)) chance) event) call,
            es_append_batch(streams, types, call.data, created_at => call.created_at) appended;
        COMMIT;
        calls := calls + 1;
    END LOOP;
    INSERT INTO written VALUES (calls);
END;
$$;
SQL
my $events = one($node, 'SELECT count(*) FROM eventstore.events');
my @writers = map { client($node, "writer$_", $writer) } 1 .. 4;

sub others_have_written
{
	my ($more) = @_;
	my $position = one($node, 'SELECT es_head()');
	await($node, "SELECT es_head() > $position + $more", 'the writers to write');
	return;
}

# In any snapshot an inline read model is what the log says.
for my $name (@names)
{
	others_have_written(100);
	gives($node, <<"SQL", '0', "$name while others write");
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM ${name}_inline.difference;
COMMIT;
SQL
}

one($node, "SELECT es_rebuild_projection('$_')") for projections('inline');
comes_true($node, ALL_INLINE, 'rebuilt, and inline again, while others write', seconds => 180);
others_have_written(20_000);
one($node, 'INSERT INTO stop DEFAULT VALUES');

finish_client($_) for @writers;
is(join('', map { slurp_file($_->{err}) } @writers), '', 'no writer has failed');
gives($node, 'SELECT count(*) FROM eventstore.events',
	$events + 16 * one($node, 'SELECT sum(calls) FROM written'), 'all was appended');
check('with many writers, and rebuilt while they were writing');

finish($node);
