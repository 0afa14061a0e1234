# Projections that take too long, fail, or hold what others need.
#
# A handler that loops, sleeps or waits for a lock is ended by eventstore.projection_timeout
# and follows on_error; pause, drop, alter and rebuild end it at once.  While that goes on,
# and while events are refused one after the other, all other projections are what the log
# says, under load.  A session that keeps a projection to itself keeps no worker.  A worker's
# memory stays what it is, however many events and errors there are.
#
# EVENTSTORE_TEST_EVENTS: how many the memory is measured over.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use EventStore;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ReadModels;
use Test::More;

my $events = parameter('EVENTS', 100_000);

my $node = new_node('timeout', conf => <<'CONF');
autovacuum = off
max_connections = 40
deadlock_timeout = 20ms
eventstore.max_workers = 2
eventstore.projection_timeout = 200ms
CONF
prepare_models($node);

sub set
{
	my ($name, $value) = @_;
	$node->safe_psql('postgres', "ALTER SYSTEM SET $name = '$value'; SELECT pg_reload_conf()");
	return;
}

sub append
{
	my ($stream, $type) = @_;
	return one($node, "SELECT position FROM es_append('$stream', '$type')");
}

# The workers that are there, as long as they live.
sub workers
{
	return join ' ', pids_of($node, 'worker');
}

# ---- the time limit, each way to pass it, each way to follow ----

# On events of type 'Long' these take for ever; others they note.
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE noted (name text, position bigint);
CREATE TABLE locked ();
CREATE FUNCTION loops(e es_event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    WHILE e.type = 'Long' LOOP
    END LOOP;
    INSERT INTO noted VALUES ('loops', e.position);
END $$;
CREATE FUNCTION sleeps(e es_event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF e.type = 'Long' THEN
        PERFORM pg_sleep(600);
    END IF;
    INSERT INTO noted VALUES ('sleeps', e.position);
END $$;
CREATE FUNCTION waits(e es_event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF e.type = 'Long' THEN
        PERFORM FROM locked;
    END IF;
    INSERT INTO noted VALUES ('waits', e.position);
END $$;
CREATE FUNCTION counts(state jsonb, e es_event) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    WHILE e.type = 'Long' LOOP
    END LOOP;
    INSERT INTO noted VALUES ('counts', e.position);
    RETURN state;
END $$;
SQL
my $load = start_load($node, 'load', load_script(20), clients => 2);
create_model($node, "inline_$_", $_, more => q{mode => 'inline'}) for qw(handler query reducer);
create_model($node, "async_$_", $_) for qw(handler query reducer);

my $holder = open_session($node);
$holder->query_safe('BEGIN; LOCK TABLE locked');
my $long = append('Long-1', 'Long');
my $behind = append('Long-1', 'Short');
my $other = append('Long-2', 'Short');
my $more = q{categories => '{Long}', max_retries => 1};
for my $code (
	[ 'loops', q{'loops'} ],
	[ 'sleeps', q{'sleeps'} ],
	[ 'waits', q{'waits'} ],
	[ 'counts', q{reducer => 'counts'} ],
	[ 'asks', <<'SQL' ])
query => $$INSERT INTO noted SELECT 'asks', position FROM es_batch
           CROSS JOIN LATERAL (SELECT pg_sleep(CASE type WHEN 'Long' THEN 600 ELSE 0 END)) s$$
SQL
{
	my ($name, $arguments) = @$code;

	for my $follows (
		[ 'stop', "stopped|$long|57014", '', '' ],
		[ 'skip', 'running||', "$behind $other", "$long skipped" ],
		[ 'park', 'running||', $other, "$long parked, $behind waiting" ])
	{
		my ($on_error, $state, $noted, $letters) = @$follows;

		one($node, "DELETE FROM noted WHERE name = '$name'");
		one($node, "SELECT es_create_projection('$name', $arguments, $more, on_error => '$on_error')");
		comes_true($node, <<"SQL", "$name, $on_error: it is ended, and $on_error follows");
SELECT state = 'stopped' OR checkpoint >= $other FROM eventstore.projections WHERE name = '$name'
SQL
		gives($node, "SELECT state, failed_position, last_sqlstate FROM eventstore.projections WHERE name = '$name'",
			$state, "$name, $on_error: the view tells");
		gives($node, "SELECT string_agg(position::text, ' ' ORDER BY position) FROM noted WHERE name = '$name'",
			$noted, "$name, $on_error: what has been applied");
		gives($node, <<"SQL", $letters, "$name, $on_error: dead letters");
SELECT string_agg(position || ' ' || reason, ', ' ORDER BY position) FROM eventstore.dead_letters
WHERE projection = '$name'
SQL
		one($node, "SELECT es_drop_projection('$name')");
	}
}
$holder->query_safe('COMMIT');
gives($node, 'SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = $$locked$$::regclass', '0',
	'nobody waits for the lock any more');
models_right($node, 'others while all that went on');

# ---- statements about a projection that does not end ----

set('eventstore.projection_timeout', '0');
await($node, <<'SQL', 'workers');
SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'eventstore worker'
SQL

sub wait_for_handler
{
	await($node, <<'SQL', 'the handler to run');
SELECT batch_events > 0 FROM eventstore.projections WHERE name = 'loops'
SQL
	return one($node, q{SELECT worker_pid FROM eventstore.projections WHERE name = 'loops'});
}

one($node, "SELECT es_create_projection('loops', 'loops', categories => '{Long}', reset => '')");
my $worker = wait_for_handler();
for my $statement (
	q{es_pause_projection('loops')}, q{es_resume_projection('loops')},
	q{es_alter_projection('loops', batch_size => 7)}, q{es_rebuild_projection('loops')},
	q{es_resume_projection('loops')}, q{es_retry_dead_letters('loops')})
{
	# A statement that waited for the handler would not come back.
	accepted($node, "SET statement_timeout = '60 s'; SELECT $statement",
		"a handler loops, without a limit: $statement");
	next if $statement =~ /pause/;
	is(wait_for_handler() > 0, 1, "$statement: it loops on");
}
gives($node, q{SELECT state, failures, last_error FROM eventstore.projections WHERE name = 'loops'},
	'rebuilding|0|', 'none of that is a failure');
accepted($node, q{SET statement_timeout = '60 s'; SELECT es_drop_projection('loops')},
	'a handler loops, without a limit: drop');
comes_true($node, <<"SQL", 'its worker is free');
SELECT count(*) = 0 FROM pg_stat_activity WHERE query ~ 'projection "loops"' AND state = 'active'
    AND backend_type = 'eventstore worker'
SQL

# A limit that is set while it loops.
one($node, q{SELECT es_create_projection('loops', 'loops', categories => '{Long}', max_retries => 0)});
wait_for_handler();
set('eventstore.projection_timeout', '200ms');
accepted($node, q{SELECT es_alter_projection('loops', batch_size => 8)}, 'a new limit counts for the next batch');
comes_true($node, q{(SELECT state = 'stopped' FROM eventstore.projections WHERE name = 'loops')},
	'which is ended by it');
one($node, q{SELECT es_drop_projection('loops')});

# Whoever is asked to stop a batch, again and again, stays in office.
my $before = workers();
one($node, q{SELECT es_create_projection('short', query => 'SELECT FROM es_batch')});
my @askers = map {
	client($node, "asker$_", "SELECT es_alter_projection('short', batch_size => $_);\n" x 300)
} 1 .. 2;
my $complaints = '';
for my $asker (@askers)
{
	finish_client($asker);
	$complaints .= slurp_file($asker->{err});
}
is($complaints, '', 'two sessions alter a projection that runs');
is_deeply([ grep { workers() !~ /\b$_\b/ } split / /, $before ], [], 'no worker has ended');
gives($node, q{SELECT failures, dead_letters FROM eventstore.projections WHERE name = 'short'},
	'0|0', 'to be asked is no failure');
one($node, q{SELECT es_drop_projection('short')});
is(finish_load($node, $load), '', 'every append succeeds');
models_caught_up($node, 'statements about a projection');

# ---- a session that keeps projections to itself ----

# As many as there are workers; longer than the limit; after a failure of another one that
# the same workers have run.
$node->safe_psql('postgres', <<'SQL');
CREATE FUNCTION fails(e es_event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    RAISE 'no';
END $$;
SELECT es_create_projection('kept' || n, on_error => 'skip', max_retries => 0,
    query => format('INSERT INTO noted SELECT %L, position FROM es_batch', 'kept' || n))
FROM generate_series(1, 4) n;
SELECT bool_and(es_wait_for_projection('kept' || n, timeout => '30 s')) FROM generate_series(1, 4) n;
SELECT es_create_projection('fails' || n, 'fails', max_retries => 0) FROM generate_series(1, 4) n;
SQL
comes_true($node, q{(SELECT bool_and(state = 'stopped') FROM eventstore.projections WHERE name LIKE 'fails%')},
	'four have failed at the first event');
$holder->query_safe('BEGIN');
$holder->query_safe("SELECT es_alter_projection('kept' || n, batch_size => 1000) FROM generate_series(1, 4) n");
append('Load-1', 'Tick');
is( one($node, <<'SQL'), 't', 'a session keeps four projections to itself: two workers serve the others');
SELECT bool_and(es_wait_for_projection(name, timeout => '30 s')) FROM eventstore.projections WHERE name LIKE 'async%'
SQL
one($node, 'SELECT pg_sleep(0.5)');    # the limit twice over
$holder->query_safe('COMMIT');
is( one($node, <<'SQL'), 't', 'it lets them go: they go on');
SELECT bool_and(es_wait_for_projection(name, timeout => '30 s')) FROM eventstore.projections WHERE name LIKE 'kept%'
SQL
gives($node, <<'SQL', '4|t|t', 'and have applied each event once');
SELECT count(*), bool_and(n = (SELECT count(*) FROM eventstore.event_log)), bool_and(n = d)
FROM (SELECT name, count(*) AS n, count(DISTINCT position) AS d FROM noted WHERE name LIKE 'kept%' GROUP BY 1) k
SQL
gives($node, 'SELECT count(*) FROM eventstore.dead_letters', '0', 'nothing was let pass on that account');
$node->safe_psql('postgres', <<'SQL');
SELECT es_drop_projection(name) FROM eventstore.projections WHERE name ~ '^(kept|fails)'
SQL
$holder->quit;

# ---- errors under load ----

# Each form refuses its own: what it lets pass is what it refused, and all else it applies.
$node->safe_psql('postgres', <<'SQL');
CREATE FUNCTION refuse(bigint) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    IF $1 % 20 = 7 THEN
        RAISE 'refused';
    END IF;
    RETURN $1;
END $$;
CREATE FUNCTION refuses(e es_event) RETURNS void LANGUAGE sql AS $$
    INSERT INTO noted VALUES ('refuses', refuse(e.position))
$$;
CREATE FUNCTION folds(state jsonb, e es_event) RETURNS jsonb LANGUAGE sql AS $$
    SELECT coalesce(state, '{}') || jsonb_build_object(refuse(e.position)::text, 1)
$$;
SELECT es_create_projection('refuses', 'refuses', on_error => 'skip', max_retries => 0, start_after => es_head());
SELECT es_create_projection('folds', reducer => 'folds', partition_by => 'type',
                            on_error => 'skip', max_retries => 0, start_after => es_head());
SELECT es_create_projection('selects', on_error => 'skip', max_retries => 0, start_after => es_head(),
    query => $$INSERT INTO noted SELECT 'selects', refuse(position) FROM es_batch$$);
SQL
$load = start_load($node, 'errors', load_script(20), clients => 4, seed => 2);
wait_for_events($node, 600);
models_right($node, 'errors, in the midst');
is(finish_load($node, $load), '', 'every append succeeds while projections fail');
models_caught_up($node, 'errors');
for my $name (qw(refuses folds selects))
{
	gives($node, "SELECT es_wait_for_projection('$name', timeout => '60 s')", 't', "$name comes to the head");
	gives($node, <<"SQL", "0|t", "$name: each event is applied once, or let pass");
WITH done AS (SELECT position FROM noted WHERE name = '$name'
              UNION ALL SELECT k::bigint FROM eventstore.projection_state JOIN eventstore.projection USING (projection_id),
                        jsonb_object_keys(projection_state.state) k WHERE name = '$name'
              UNION ALL SELECT position FROM eventstore.dead_letters WHERE projection = '$name' AND position % 20 = 7),
     wanted AS (SELECT l.position FROM eventstore.event_log l, eventstore.projection
                WHERE name = '$name' AND l.position > start_after)
SELECT (SELECT count(*) FROM (TABLE done EXCEPT ALL TABLE wanted UNION ALL (TABLE wanted EXCEPT ALL TABLE done)) d),
       (SELECT count(*) > 20 FROM eventstore.dead_letters WHERE projection = '$name')
SQL
	one($node, "SELECT es_drop_projection('$name')");
}

# ---- memory ----

# The process's own, in kB.
sub memory
{
	my ($pid) = @_;
	slurp_file("/proc/$pid/status") =~ /^RssAnon:\s+(\d+) kB/m or die 'no figure';
	return $1;
}

SKIP:
{
	skip 'no /proc here', 4 unless -e "/proc/$$/status";

	set('eventstore.projection_timeout', '60s');
	set('eventstore.max_workers', '1');
	$node->safe_psql('postgres', 'SELECT es_drop_projection(projection) FROM model');
	$node->restart;
	my $from = one($node, 'SELECT es_head()');
	$node->safe_psql('postgres', <<"SQL");
DO \$\$
BEGIN
    FOR n IN 1 .. $events / 5000 LOOP
        PERFORM es_append_batch(array_agg('Many-' || i % 50), array_agg('Tick'::text),
                                array_agg(jsonb_build_object('n', i)))
        FROM generate_series(1, 5000) i;
        COMMIT;
    END LOOP;
END \$\$;
SQL
	my %code = (
		handler => model_code_of('handler'),
		query => model_code_of('query'),
		reducer => model_code_of('reducer'),
		errors => "'fails', on_error => 'skip', max_retries => 0");
	for my $form (qw(handler query reducer errors))
	{
		my $upto = $form eq 'errors' ? $from + 3000 : one($node, 'SELECT es_head()');
		my @samples;
		one($node, "SELECT es_create_projection('many_$form', $code{$form}, start_after => $from, batch_size => 500)");

		# A sample each twentieth of the way.
		for my $part (1 .. 20)
		{
			my $place = $from + int(($upto - $from) * $part / 20);
			await($node, "SELECT es_wait_for_projection('many_$form', $place, '60 s')", "many_$form to come to $place");
			push @samples, memory((pids_of($node, 'worker'))[0]);
		}
		one($node, "SELECT es_drop_projection('many_$form')");

		# After a quarter it has got what it needs.
		my $growth = $samples[-1] - $samples[4];
		cmp_ok($growth, '<', 1024, "$form: the worker's memory stays: @samples[4, 9, 14, 19] kB");
	}
}

sub model_code_of
{
	my ($form) = @_;
	my ($objects, $arguments) = model_code("many_$form", $form, 'stream');
	$node->safe_psql('postgres', $objects);
	return $arguments;
}

finish($node);
