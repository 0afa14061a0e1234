# es_check() beside everything else: no false alarm.
#
# Writers append with tags, roll back, take streams away and write them again; others scavenge,
# fetch and ack; projections run.  All the while es_check() looks, on the primary and on a
# standby, and finds nothing.  What it finds of a damaged index it finds.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use EventStore;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('check', allows_streaming => 1, conf => "hot_standby_feedback = on\nmax_connections = 40");
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE seen (position bigint);
SELECT es_create_projection('seen', query => 'INSERT INTO seen SELECT position FROM es_batch');
SELECT es_create_subscription('mailer', partitions => 4);
SELECT es_set_retention('Kept', max_count => 3);
SQL
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->append_conf('postgresql.conf', "hot_standby_feedback = on\nmax_standby_streaming_delay = -1");
$standby->start;

# ---- everything at once ----

my @clients = map { client($node, "append$_", <<"SQL") } 1 .. 3;
DO \$\$
BEGIN
    FOR n IN 1 .. 2500 LOOP
        PERFORM es_append('Kept-' || n % 3, 'Tick', tags => ARRAY['a', 'b' || n % 7], payload => '\\x00', content_type => 'a/' || n % 9);
        PERFORM es_append('New$_' || n || '-1', 'Type' || n % 20, tags => ARRAY['a'], metadata => '{"correlation_id": "c"}');
        IF n % 5 = 0 THEN ROLLBACK; ELSE COMMIT; END IF;
    END LOOP;
END \$\$;
SQL
push @clients, client($node, 'lifecycle', <<'SQL');
DO $$
BEGIN
    FOR n IN 1 .. 1000 LOOP
        PERFORM es_append('Life-' || n % 5, 'Tick', tags => ARRAY['life']) FROM generate_series(1, 3);
        COMMIT;
        PERFORM es_truncate_stream('Life-' || n % 5, es_stream_version('Life-' || n % 5));
        COMMIT;
        PERFORM es_save_snapshot('Life-' || n % 5, es_stream_version('Life-' || n % 5), '{}');
        COMMIT;
        PERFORM es_delete_stream('Life-' || (n + 2) % 5);
        IF n % 7 = 0 THEN ROLLBACK; ELSE COMMIT; END IF;
    END LOOP;
END $$;
SQL
push @clients, client($node, 'scavenge', <<'SQL');
DO $$ BEGIN FOR n IN 1 .. 500 LOOP PERFORM es_scavenge(); COMMIT; END LOOP; END $$;
SQL
push @clients, map { client($node, "consumer$_", <<"SQL") } 1 .. 2;
DO \$\$
DECLARE got bigint[];
BEGIN
    FOR n IN 1 .. 700 LOOP
        got := ARRAY(SELECT position FROM es_fetch('mailer', 'c$_', 20));
        COMMIT;
        IF n % 9 = 0 AND cardinality(got) > 1 THEN
            PERFORM es_nack('mailer', 'c$_', got[1:1], CASE WHEN n % 2 = 0 THEN 'park' ELSE 'retry' END);
            got := got[2:];
            COMMIT;
        END IF;
        PERFORM es_ack('mailer', 'c$_', got);
        COMMIT;
    END LOOP;
END \$\$;
SQL

my %checks;
my %found;
sub look
{
	for my $server ($node, $standby)
	{
		$checks{ $server->name }++;
		$found{$_} = 1
		  for split /\n/, one($server, 'SELECT severity, object, problem FROM es_check()');
	}
	return;
}
my $running = 1;
while ($running)
{
	look();
	$running = grep { $_->{run}->pumpable } @clients;
}
finish_client($_) for @clients;
is(slurp_file($_->{err}), '', 'a client has not failed') for @clients;
look();
cmp_ok($checks{check}, '>', 3, 'es_check() has looked more than once');
diag("$checks{check} checks");
is(join("\n", sort keys %found), '', 'and found nothing, on primary and standby');
cmp_ok(one($node, 'SELECT sum(events) FROM eventstore.scavenged'), '>', 100, 'though events were removed');

# ---- it can be interrupted ----

refused($node, q{SET statement_timeout = '1ms'; SELECT * FROM es_check()}, '57014', 'it can be interrupted');

# ---- damage that only a look at the index shows ----

# An index of another state of the table: its file is put back.
one($node, 'CHECKPOINT');
my $file = $node->data_dir . '/' . one($node, q{SELECT pg_relation_filepath('eventstore.event_log_type')});
$node->stop;
my $old = slurp_file($file);
$node->start;
one($node, q{SELECT es_append('After-' || n, 'Tick') FROM generate_series(1, 2000) n});
$node->stop;
open my $out, '>:raw', $file or die $!;
print $out $old;
close $out;
$node->start;
like(one($node, 'SELECT severity, object, problem FROM es_check()'),
	qr/^error\|index eventstore\.event_log_type\|it leads to \d+ rows, the table has \d+$/, 'an index that has lost entries');
accepted($node, 'REINDEX INDEX eventstore.event_log_type', 'is made anew');
sound($node, 'and all is well');

finish($node, $standby);
