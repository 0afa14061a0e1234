# A store that is emptied again and again while writers, workers and consumers are at work.
#
#  - nobody fails but a consumer whose lease has ended;
#  - no position is given twice; versions begin at 1 and have no gaps;
#  - what is there at the end has been applied once, by every projection, and is delivered;
#  - workers go on by themselves, and it is empty again after a crash.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use EventStore;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $writers = 4;
my $resets = 30;
my $node = new_node('reset', conf => "max_worker_processes = 20\neventstore.scavenge_interval = '10ms'");

$node->safe_psql('postgres', <<'SQL');
CREATE TABLE given (position bigint PRIMARY KEY);
CREATE TABLE applied (position bigint PRIMARY KEY);
CREATE TABLE applied_inline (position bigint PRIMARY KEY);
CREATE TABLE handled (position bigint, acked bigint);
CREATE TABLE done (who text);
CREATE TABLE figure (ms float8);
CREATE FUNCTION count_one(state jsonb, event es_event) RETURNS jsonb LANGUAGE sql
    AS $$ SELECT jsonb_build_object('n', coalesce((state ->> 'n')::int, 0) + 1) $$;
SELECT es_create_projection('applied', query => 'INSERT INTO applied SELECT position FROM es_batch', reset => 'TRUNCATE applied'),
       es_create_projection('applied_inline', query => 'INSERT INTO applied_inline SELECT position FROM es_batch', mode => 'inline'),
       es_create_projection('counts', reducer => 'count_one', partition_by => 'all'),
       es_create_subscription('s', partitions => 4);
CREATE PROCEDURE write(n int) LANGUAGE plpgsql
    AS $$
BEGIN
    WHILE (SELECT count(*) = 0 FROM done) LOOP
        INSERT INTO given SELECT position FROM es_append('S-' || (random() * 9)::int, 'T' || (random() * 9)::int, tags => ARRAY['t' || (random() * 9)::int]);
        COMMIT;
        IF random() < 0.1 THEN
            PERFORM es_delete_stream('S-' || (random() * 9)::int);
            COMMIT;
        END IF;
    END LOOP;
END $$;
CREATE PROCEDURE consume(name text) LANGUAGE plpgsql
    AS $$
DECLARE
    got bigint[];
BEGIN
    WHILE (SELECT count(*) = 0 FROM done) LOOP
        got := ARRAY(SELECT position FROM es_fetch('s', name, 20, '10 ms'));
        COMMIT;
        CONTINUE WHEN got = '{}';
        BEGIN
            INSERT INTO handled SELECT u, es_ack('s', name, got) FROM unnest(got) u;
        EXCEPTION WHEN SQLSTATE '55000' THEN
            NULL;               -- the lease has ended with the store
        END;
        COMMIT;
    END LOOP;
END $$;
CREATE PROCEDURE empty(n int) LANGUAGE plpgsql
    AS $$
DECLARE
    begun timestamptz;
BEGIN
    SET eventstore.allow_drop = on;
    FOR i IN 1 .. n LOOP
        begun := clock_timestamp();
        PERFORM es_reset();
        COMMIT;
        INSERT INTO figure SELECT extract(epoch FROM clock_timestamp() - begun) * 1000;
        COMMIT;
        PERFORM pg_sleep(0.03);
    END LOOP;
    INSERT INTO done VALUES ('all');
END $$;
SQL

my @clients = map { client($node, "writer$_", "CALL write($_);\n") } 1 .. $writers;
push @clients, map { client($node, "consumer$_", "CALL consume('consumer$_');\n") } 1 .. 2;
push @clients, client($node, 'reset', "CALL empty($resets);\n");
for my $client (@clients)
{
	finish_client($client);
	is(slurp_file($client->{err}), '', 'no append, fetch, or reset fails');
}
diag('es_reset() took, in milliseconds: '
	  . one($node, 'SELECT round(percentile_cont(0.5) WITHIN GROUP (ORDER BY ms)) || \' in the median, at most \' || round(max(ms)) FROM figure'));

# ---- afterwards ----

gives($node, 'SELECT count(*) FROM figure', $resets, 'the store has been emptied each time');
gives($node, <<'SQL', '0', 'the versions of streams have no gaps');
SELECT count(*) FROM (SELECT FROM eventstore.event_log GROUP BY stream_key HAVING count(*) <> max(version) - min(version) + 1) s
SQL
gives($node, <<'SQL', '0|0|0', 'what is in the log has its stream and type, and nothing else is there');
SELECT (SELECT count(*) FROM eventstore.event_log l LEFT JOIN eventstore.stream s USING (stream_key) WHERE s.name IS NULL),
       (SELECT count(*) FROM eventstore.event_log l WHERE NOT EXISTS (SELECT FROM eventstore.event_type t WHERE t.type_key = l.type_key)),
       (SELECT count(*) FROM eventstore.event_tag t WHERE NOT EXISTS (SELECT FROM eventstore.event_log l WHERE l.position = t.position))
SQL
$node->safe_psql('postgres', q{SELECT es_append('S-1', 'T1', tags => '{t1}'), es_append('Last-1', 'Last')});
for my $projection ('applied', 'counts')
{
	gives($node, "SELECT es_wait_for_projection('$projection', timeout => '60 s')", 't', "$projection: a worker goes on");
}
gives($node, <<'SQL', '0|0', 'all that is there is applied');
SELECT count(*) FILTER (WHERE a.position IS NULL), count(*) FILTER (WHERE i.position IS NULL)
FROM es_read_all(max_count => NULL) e LEFT JOIN applied a USING (position) LEFT JOIN applied_inline i USING (position)
SQL
gives($node, 'SELECT count(*) FROM applied a LEFT JOIN applied_inline i USING (position) WHERE i.position IS NULL',
	'0', 'nothing else is');
my $delivered = one($node, <<'SQL');
SELECT count(*) FROM es_read_all(max_count => NULL) e WHERE NOT EXISTS (SELECT FROM handled h WHERE h.position = e.position)
SQL
cmp_ok($delivered, '>=', 2, 'the last two are still to be delivered');
gives($node, q{SELECT bool_or(stream = 'Last-1') FROM generate_series(1, 2) n, es_fetch('s', 'consumer' || n, NULL)}, 't', 'and are');

# ---- a crash ----

$node->safe_psql('postgres', 'SET eventstore.allow_drop = on; SELECT es_reset()');
my $head = one($node, 'SELECT es_head()');
my $epoch = one($node, 'SELECT es_epoch()');
$node->stop('immediate');
$node->start;
gives($node, "SELECT count(*), es_head() >= $head, es_epoch() = '$epoch' FROM es_read_all()", '0|t|t', 'it is empty after a crash');
gives($node, "SELECT version, position > $head FROM es_append('S-1', 'T1')", '1|t', 'and goes on');
gives($node, q{SELECT es_wait_for_projection('applied', timeout => '60 s')}, 't', 'so do the workers');

finish($node);
