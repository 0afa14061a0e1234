# Many streams, many categories.
#
# Beyond the first thousand categories, categories share keys.  Whatever kind of key an
# event has got, it is read by its category, by its type, and by exactly one member of a
# consumer group.  Thousands of streams in one transaction do not fill the lock table.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use EventStore;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('scale', conf => <<'CONF');
autovacuum = off
max_connections = 20
max_locks_per_transaction = 64
CONF

my $types = 3;

# ---- 1,500 categories, by appenders with caches of their own ----

# Each category has two streams and five events in all, of three types.  append(FIRST,
# LAST): by three at the same time, each its third, in ten transactions.
sub append_categories
{
	my ($first, $last) = @_;
	my @appenders = map {
		my $part = $_;
		client($node, "appender$first.$part", join '', map { <<"SQL" } 0 .. 9)
SELECT count(*)
FROM (SELECT array_agg('C' || c || '-' || n % 2 ORDER BY n, c) AS streams,
             array_agg('T' || (c + n) % $types ORDER BY n, c) AS types,
             array_agg(jsonb_build_object('c', c, 'n', n) ORDER BY n, c) AS data
      FROM generate_series(1, 5) n, generate_series($first, $last) c
      WHERE c % 3 = $part AND c / 3 % 10 = $_) b,
     LATERAL es_append_batch(b.streams, b.types, b.data);
SQL
	} 0 .. 2;
	my $streams = 0;
	$streams += $_ for map { finish_client($_) } @appenders;
	return $streams;
}

is(append_categories(1, 1200), 2400, 'three appenders: a row a stream');
is(append_categories(1201, 1500), 600, 'three more');

gives($node, 'SELECT count(*) FROM es_read_all(0, NULL)', '7500', 'all events are there');
gives($node, q{SELECT count(DISTINCT es_category(stream)) FROM es_read_all(0, NULL)},
	'1500', '1,500 categories');
gives($node, <<'SQL', 't|t', 'the first thousand have keys of their own, later ones share');
SELECT count(DISTINCT category) BETWEEN 1000 AND 1200, count(*) FILTER (WHERE category IS NULL) > 0
FROM eventstore.event_types
SQL
is(broken_streams($node), '0', 'versions have no gaps');

# Every category, read by itself, against what the tables say.
gives($node, <<'SQL', '1500|0', 'each category by itself: its events, all of them, in order');
SELECT count(*), count(*) FILTER (WHERE NOT (n = 5 AND own AND rising AND "right"))
FROM generate_series(1, 1500) c,
     LATERAL (SELECT count(*) AS n,
                     bool_and(es_category(stream) = 'C' || c) AS own,
                     array_agg(position) = array_agg(position ORDER BY position) AS rising,
                     array_agg((data->>'n')::int ORDER BY data->>'n') = '{1,2,3,4,5}'
                     AND bool_and((data->>'c')::int = c) AS "right"
              FROM es_read_category('C' || c)) r
SQL
gives($node, q{SELECT count(*) FROM es_read_category('C1501')},
	'0', 'a category that does not exist');
gives($node, q{SELECT count(*) FROM es_read_category('C')}, '0', 'a prefix of categories is none');
gives($node, <<'SQL', 't', 'a page after a position, in the middle of a category');
WITH all_of_it AS (
    SELECT array_agg(position ORDER BY position) AS p
    FROM eventstore.events
    WHERE es_category(stream) = 'C1400')
SELECT array_agg(r.position) = p[3:4]
FROM all_of_it, es_read_category('C1400', p[2], 2) r
GROUP BY p
SQL

# Names around those of a category.
$node->safe_psql('postgres', <<'SQL');
SELECT es_append(name, 'Near')
FROM unnest('{C1400,C1400.,C1400!,C1400!-1,C1400 -1,"C1400,-1",C1400.-1,C1400.5,c1400-1,C14000-1}'
            ::text[]) name
SQL
gives($node, q{SELECT stream FROM es_read_all(0, NULL, '{Near}', '{C1400}')},
	'C1400', 'names that only begin like the category are others');
gives($node, q{SELECT count(*) FROM es_read_category('C1400')},
	'6', 'one without a number belongs to it');
gives($node, q{SELECT count(*) FROM es_read_all(0, NULL, '{Near}')}, '10', 'they are all there');

# By type across all categories: more keys than a cursor merges, and fewer.
for my $type (0 .. $types - 1)
{
	gives($node, <<"SQL", 't', "by type across all categories: T$type");
SELECT array_agg(position) = (SELECT array_agg(position ORDER BY position)
                              FROM eventstore.events WHERE type = 'T$type')
FROM es_read_all(0, NULL, types => '{T$type}')
SQL
}
gives($node, q{SELECT count(*) FROM es_read_all(0, NULL, types => '{T0,T1,T2}')},
	'7500', 'by all types');
is(one($node, q{SELECT count(*) FROM es_read_all(0, NULL, types => '{T1,T1}')}),
	one($node, q{SELECT count(*) FROM eventstore.events WHERE type = 'T1'}),
	'a type named twice counts once');
gives($node, <<'SQL', '50', 'by categories of both kinds');
SELECT count(*)
FROM es_read_all(0, NULL, categories => ARRAY(SELECT 'C' || c FROM generate_series(3, 1500, 150) c))
SQL
gives($node, <<'SQL', 't|t', 'backwards and by type and category at once');
SELECT count(*) > 0,
       array_agg(position) = (SELECT array_agg(position ORDER BY position DESC)
                              FROM eventstore.events
                              WHERE type = 'T1' AND es_category(stream) IN ('C7', 'C1307'))
FROM es_read_all(NULL, NULL, '{T1}', '{C7,C1307}', true)
SQL

# ---- consumer groups ----

# One category with many streams, for each group size: every event to one member, every
# stream to one member, and no member without work.  It comes late, so it shares keys, and
# has more streams than are read one by one.
$node->safe_psql('postgres', <<'SQL');
SELECT count(*)
FROM (SELECT array_agg('Group-' || n % 1500) AS streams, array_agg('T' || n % 3) AS types,
             array_agg(jsonb_build_object('n', n)) AS data
      FROM generate_series(1, 3000) n) b,
     LATERAL es_append_batch(b.streams, b.types, b.data)
SQL
for my $size (1, 2, 3, 7, 16)
{
	gives($node, <<"SQL", "3000|3000|1500|0|$size", "a group of $size: complete and disjoint");
WITH share AS (
    SELECT member, r.position, r.stream
    FROM generate_series(0, $size - 1) member, es_read_category('Group', 0, NULL, member, $size) r)
SELECT count(*), count(DISTINCT position), count(DISTINCT stream),
       (SELECT count(*)
        FROM (SELECT FROM share GROUP BY stream HAVING count(DISTINCT member) > 1) torn),
       count(DISTINCT member)
FROM share
SQL
}
gives($node, <<'SQL', '3006|3006|t', 'with another category that came late');
SELECT count(*), count(DISTINCT position), bool_and(es_category(stream) IN ('Group', 'C1400'))
FROM es_read_all(0, NULL, categories => '{Group,C1400}')
SQL
gives($node, <<'SQL', '7501|7501', 'groups of two in every category, with keys of both kinds');
SELECT count(*), count(DISTINCT position)
FROM generate_series(1, 1500) c, generate_series(0, 1) member,
     es_read_category('C' || c, 0, NULL, member, 2)
SQL

# ---- many streams in one transaction ----

my $session = open_session($node);
my $locks = "SELECT count(*) FROM pg_locks WHERE pid = $session->{backend}";
$session->query_safe('BEGIN');
$session->query_safe(q{SELECT es_append('Wide-0', 'T0')});
my $few = one($node, $locks);
is($session->query_safe(<<'SQL'), '5000', '5,000 streams in one transaction, one by one');
SELECT count(*) FROM generate_series(1, 5000) n, es_append('Wide-' || n, 'T0')
SQL
cmp_ok(one($node, $locks), '<', $few + 10, 'it holds hardly more locks than with one stream');
is($session->query_safe(<<'SQL'), '5000', 'another 5,000 in one call');
SELECT count(*)
FROM es_append_batch(ARRAY(SELECT 'Broad-' || n FROM generate_series(1, 5000) n),
                     array_fill(text 'T0', ARRAY[5000]), array_fill(jsonb '{}', ARRAY[5000]))
SQL
cmp_ok(one($node, $locks), '<', $few + 10, 'hardly more locks for that');
is($session->query_safe(<<'SQL'), '2000', '2,000 streams verified');
SELECT count(*) FROM generate_series(1, 2000) n, es_check_version('Check-' || n, 0)
SQL
cmp_ok(one($node, $locks), '<', $few + 10, 'hardly more locks for those');
$session->query_safe('COMMIT');
$session->quit;
gives($node, q{SELECT count(*), count(DISTINCT stream) FROM es_read_category('Wide', 0, NULL)},
	'5001|5001', 'all of them are there');
gives($node, q{SELECT count(*), count(DISTINCT stream) FROM es_read_category('Broad', 0, NULL)},
	'5000|5000', 'those of the call too');
nothing_in_flight($node, 'nobody holds the head back');
is(broken_streams($node), '0', 'versions have no gaps');

finish($node);
