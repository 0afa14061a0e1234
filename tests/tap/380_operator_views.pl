# What an operator is told: how far projections and subscriptions are behind, and why, in
# eventstore.projections and eventstore.subscriptions; and what went wrong, in the server's
# log.
#
# The lag is in events, through restarts, with a head that is held back, without a
# scheduler, and without a free worker.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use EventStore;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ReadModels;
use Test::More;

my $node = new_node('operator');

$node->safe_psql('postgres', <<'SQL');
CREATE TABLE applied (projection text, position bigint);
CREATE TABLE mended (what text);
CREATE FUNCTION apply(event es_event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM mended) THEN
        RAISE EXCEPTION 'too hot' USING ERRCODE = 'UE001', DETAIL = 'It is boiling.', HINT = 'Cool it down.';
    END IF;
END $$;
SELECT es_create_projection('orders', types => '{Order}',
    query => 'INSERT INTO applied SELECT ''orders'', position FROM es_batch');
SELECT es_create_projection('paused', types => '{Order}', query => 'INSERT INTO applied SELECT ''paused'', position FROM es_batch');
SELECT es_create_projection('never', types => '{Never}', query => 'SELECT 1');
SELECT es_create_projection('inline', mode => 'inline', query => 'INSERT INTO applied SELECT ''inline'', position FROM es_batch');
SELECT es_pause_projection('paused');
SELECT es_create_subscription('mail', types => '{Order}'), es_create_subscription('nothing', types => '{Never}');
SELECT es_append('Shop-1', 'Order');
SQL

my $projections = q{SELECT string_agg(concat_ws(' ', name || ':', lag, reason), ', ' ORDER BY name) FROM eventstore.projections};
my $subscriptions = q{SELECT string_agg(concat_ws(' ', name || ':', lag, reason), ', ' ORDER BY name) FROM eventstore.subscriptions};
my $at_rest = 'inline: 0 applied by appends, never: 0 caught up, orders: 0 caught up, paused: 1 paused';

# ---- restarts ----

comes_true($node, "($projections) = '$at_rest'", 'the lag is in events');
gives($node, $subscriptions, 'mail: 1 nobody fetches, nothing: 0 caught up', 'of subscriptions, too');

# Each restart leaves a gap of positions, the crash a large one.
for my $mode ('fast', 'immediate', 'immediate')
{
	$node->stop($mode);
	$node->start;
	one($node, q{SELECT es_append('Shop-2', 'Other')});
}
comes_true($node, "($projections) = '$at_rest'", 'restarts do not change it');
gives($node, $subscriptions, 'mail: 1 nobody fetches, nothing: 0 caught up', 'nor that of subscriptions');
gives($node, q{SELECT es_head() - 3 > 100, lag_seconds > 0 FROM eventstore.projections WHERE name = 'paused'},
	't|t', 'though there are gaps; one event is late');
gives($node, q{SELECT bool_and(lag_seconds = 0) FROM eventstore.projections WHERE name <> 'paused'}, 't', 'no other is');
gives($node, q{SELECT lag_seconds FROM eventstore.subscriptions WHERE name = 'nothing'}, '0',
	'nor is a subscription that nothing matches');

# ---- a head that is held back ----

my $blocker = open_session($node);
$blocker->query_safe('BEGIN');
$blocker->query_safe(q{SELECT es_append('Slow-1', 'Other')});
my $pid = $blocker->{backend};
one($node, q{SELECT es_append('Shop-1', 'Order')}) for 1 .. 3;
gives($node, q{SELECT blocked_by FROM eventstore.status}, $pid, 'a blocked head: status says by whom');
gives($node, 'SELECT pid FROM eventstore.blockers', $pid, 'as eventstore.blockers does');
comes_true($node, qq{(SELECT lag = 3 AND lag_seconds > 0 AND reason = 'blocked head (process $pid)'
    FROM eventstore.projections WHERE name = 'orders')}, 'what is committed behind it is late');
gives($node, q{SELECT lag, reason FROM eventstore.projections WHERE name = 'never'}, '0|caught up', 'not for who does not take it');
gives($node, q{SELECT lag, reason FROM eventstore.subscriptions WHERE name = 'mail'}, '4|nobody fetches',
	'one event could be fetched');
one($node, q{SELECT es_ack('mail', 'me', ARRAY(SELECT position FROM es_fetch('mail', 'me')))});
gives($node, q{SELECT lag, reason FROM eventstore.subscriptions WHERE name = 'mail'}, "3|blocked head (process $pid)",
	'the others cannot');
$blocker->query_safe('COMMIT');
$blocker->quit;
comes_true($node, q{(SELECT lag = 0 AND reason = 'caught up' FROM eventstore.projections WHERE name = 'orders')}, 'then it moves on');
gives($node, q{SELECT blocked_by IS NULL FROM eventstore.status}, 't', 'and nobody is in the way');
gives($node, q{SELECT lag, reason FROM eventstore.subscriptions WHERE name = 'mail'}, '3|nobody fetches', 'of the consumer neither');

# ---- nobody to do it ----

sub set
{
	my ($name, $value) = @_;
	$node->safe_psql('postgres', "ALTER SYSTEM SET $name = $value");
	$node->reload;
	return;
}

set('eventstore.max_workers', 0);
comes_true($node, q{NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'eventstore worker')}, 'no worker');
one($node, q{SELECT es_append('Shop-1', 'Order')});
comes_true($node, q{(SELECT lag = 1 AND reason = 'no worker slot (eventstore.max_workers)'
    FROM eventstore.projections WHERE name = 'orders')}, 'without a worker slot it says so');
gives($node, 'SELECT worker_shortage FROM eventstore.status', 'eventstore.max_workers', 'status, too');
set('eventstore.max_workers', 2);
comes_true($node, q{(SELECT lag = 0 AND reason = 'caught up' FROM eventstore.projections WHERE name = 'orders')}, 'with one it moves on');
gives($node, 'SELECT worker_shortage IS NULL FROM eventstore.status', 't', 'and nothing is short');

# ---- errors ----

my $log_at = -s $node->logfile;
$node->safe_psql('postgres', <<'SQL');
SELECT es_create_projection('hot', 'apply', types => '{Hot}', max_retries => 4);
SELECT es_append('Hot-1', 'Hot');
SQL
comes_true($node, q{(SELECT state = 'stopped' FROM eventstore.projections WHERE name = 'hot')}, 'a projection is stopped');
gives($node, q{SELECT lag, reason, last_error, last_sqlstate, last_detail, last_hint, last_context ~ 'function apply\(es_event\) line \d+ at RAISE'
    FROM eventstore.projections WHERE name = 'hot'}, '1|stopped by an error|too hot|UE001|It is boiling.|Cool it down.|t', 'the view shows the error whole');
my $log = substr(slurp_file($node->logfile), $log_at);
my @reports = $log =~ /^\S+ \S+ \S+ \[\d+\] eventstore worker (UE001) .*WARNING: +(projection "hot" [^\n]*)/gm;
is(scalar(@reports), 4, 'five attempts are two warnings, with their SQLSTATE') or diag($log);
like($reports[1] // '', qr/could not apply the event at position \d+: too hot$/, 'the first failure');
like($reports[3] // '', qr/is stopped by an error: too hot$/, 'and the last');
my @details = $log =~ /DETAIL: +(\S[^\n]*)\n\t(It is boiling\.)/g;
is(scalar(@details), 4, 'each with the DETAIL of the error') or diag($log);
is(scalar(() = $log =~ /HINT: +Cool it down\./g), 2, 'its HINT');
is(scalar(() = $log =~ /CONTEXT: +PL\/pgSQL function (?:\w+\.)?apply\(es_event\) line/g), 2, 'and its CONTEXT');

finish($node);
