# ReadModels.pm
#   Read models for the tests of projections, and the replay that they must equal.
#
# A model counts the events of each key, adds up a hash of their ids, and notes each event
# of a stream that comes after a later one: so an event that is lost, doubled or out of
# order shows, whatever else happens.  models_wrong() folds the log anew, up to where each
# projection says that it has come, in one snapshot with the model; it may be asked at any
# moment, under load too.

package ReadModels;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use EventStore;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(
  prepare_models create_model model_code drop_model
  models_wrong models_right models_caught_up
  load_script start_load finish_load abandoned_load wait_for_events
  events_there pids_of parameter
);

# ---- models ----

# What stands behind all models of a database, before the first.
sub prepare_models
{
	my ($node, $dbname) = @_;

	$node->safe_psql($dbname // 'postgres', <<'SQL');
CREATE TABLE model (projection text PRIMARY KEY, key text, have text);
CREATE TABLE load AS SELECT false AS over;

-- What each transaction of a load begins with.
CREATE FUNCTION go_on() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT over FROM load) THEN
        RAISE 'the load is over';
    END IF;
END $$;

-- Of one projection: keys whose count or sum is not that of the log, or with events out of
-- order.  STABLE: all in the snapshot of the caller's statement.
CREATE FUNCTION model_wrong(name text) RETURNS SETOF text
LANGUAGE plpgsql STABLE AS $$
DECLARE
    p record;
BEGIN
    SELECT * INTO STRICT p
    FROM eventstore.projection JOIN eventstore.projection_progress USING (projection_id)
         JOIN model ON model.projection = projection.name
    WHERE projection.name = model_wrong.name;
    RETURN QUERY EXECUTE format($q$
        SELECT format('%%s, %%s at %%s: %%s is n=%%s sum=%%s late=%%s, not n=%%s sum=%%s', $1, $6, $2,
                      key, h.n, h.total, h.late, w.n, w.total)
        FROM (SELECT %s AS key, count(*) AS n, sum(hashtext(event_id::text)) AS total
              FROM eventstore.events
              WHERE position > $3 AND ($6 = 'live' OR position <= $2)
                    AND ($4 IS NULL OR type = ANY ($4))
                    AND ($5 IS NULL OR es_category(stream) = ANY ($5))
              GROUP BY 1) w
             FULL JOIN (%s) h USING (key)
        WHERE (h.n, h.total) IS DISTINCT FROM (w.n, w.total) OR h.late > 0
        ORDER BY key
        LIMIT 2$q$, p.key, p.have)
    USING p.name, p.checkpoint, p.start_after, p.types, p.categories,
          CASE WHEN p.live THEN 'live' ELSE p.state END, p.projection_id;
END $$;
SQL
	return;
}

# The expressions that stand for an event's key and its place among the events of that.
# Streams are applied in order; the events of many streams inline are not.
my %keys = (
	stream => [ 'stream', 'version' ],
	category => [ 'es_category(stream)', 'NULL::bigint' ]);

# model_code(NAME, FORM, KEY): the statements that make a model's table and function, and
# the arguments for es_create_projection that say what its code and reset are.
sub model_code
{
	my ($name, $form, $key) = @_;
	my ($key_of, $place) = @{ $keys{$key} };
	my $e_key = $key_of =~ s/stream/e.stream/r;
	my $e_place = $place =~ s/version/e.version/r;

	return (<<"SQL", "reducer => 'fold_$name', partition_by => '$key'") if $form eq 'reducer';
CREATE FUNCTION fold_$name(state jsonb, e es_event) RETURNS jsonb LANGUAGE sql AS \$\$
    SELECT jsonb_build_object(
        'n', coalesce((state->>'n')::bigint, 0) + 1,
        'total', coalesce((state->>'total')::bigint, 0) + hashtext(e.event_id::text),
        'late', coalesce((state->>'late')::int, 0)
                + coalesce(($e_place <= (state->>'place')::bigint)::int, 0),
        'place', $e_place)
\$\$;
SQL

	my $table = <<"SQL";
CREATE TABLE model_$name
    (key text PRIMARY KEY, n bigint, total bigint, late int DEFAULT 0, first bigint, place bigint);
SQL
	my $merge = <<"SQL";
ON CONFLICT (key) DO UPDATE
SET n = m.n + excluded.n, total = m.total + excluded.total, place = excluded.place,
    late = m.late + coalesce((excluded.first <= m.place)::int, 0)
SQL
	my $reset = "reset => 'TRUNCATE model_$name'";
	return ($table . <<"SQL", "handler => 'apply_$name', $reset") if $form eq 'handler';
CREATE FUNCTION apply_$name(e es_event) RETURNS void LANGUAGE sql AS \$\$
    INSERT INTO model_$name AS m (key, n, total, first, place)
    VALUES ($e_key, 1, hashtext(e.event_id::text), $e_place, $e_place)
    $merge
\$\$;
SQL
	return ($table, <<"SQL");
query => \$\$
INSERT INTO model_$name AS m (key, n, total, first, place)
SELECT $key_of, count(*), sum(hashtext(event_id::text)), min($place), max($place)
FROM es_batch GROUP BY 1 ORDER BY 1
$merge\$\$, $reset
SQL
}

# create_model(NODE, NAME, FORM, key =>, dbname =>, more => ARGUMENTS OF es_create_projection)
sub create_model
{
	my ($node, $name, $form, %param) = @_;
	my $key = $param{key} // 'stream';
	my ($objects, $arguments) = model_code($name, $form, $key);
	my $have =
	  $form eq 'reducer'
	  ? q{SELECT key, (state->>'n')::bigint AS n, (state->>'total')::bigint AS total,
                 (state->>'late')::int AS late
          FROM eventstore.projection_state WHERE projection_id = $7}
	  : "SELECT key, n, total, late FROM model_$name";

	$arguments .= ", $param{more}" if $param{more};
	$node->safe_psql($param{dbname} // 'postgres', <<"SQL");
$objects
INSERT INTO model VALUES ('$name', \$\$$keys{$key}[0]\$\$, \$\$$have\$\$);
SELECT es_create_projection('$name', $arguments);
SQL
	return;
}

sub drop_model
{
	my ($node, $name, $dbname) = @_;
	$node->safe_psql($dbname // 'postgres', <<"SQL");
SELECT es_drop_projection('$name');
DELETE FROM model WHERE projection = '$name';
DROP TABLE IF EXISTS model_$name;
DROP FUNCTION IF EXISTS apply_$name, fold_$name;
SQL
	return;
}

# What is wrong with the models, at this moment; '': nothing.
sub models_wrong
{
	my ($node, $dbname) = @_;
	return one($node,
		'SELECT wrong FROM model, model_wrong(projection) wrong ORDER BY projection', $dbname);
}

sub models_right
{
	my ($node, $name, $dbname) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(models_wrong($node, $dbname), '', "$name: read models equal a replay");
}

# All projections have come to the head, inline ones are inline, and the models are what
# the log says, to its end.
sub models_caught_up
{
	my ($node, $name, $dbname) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	comes_true($node, <<'SQL', "$name: all run, and come to the head", dbname => $dbname)
SELECT bool_and(state = 'running' AND checkpoint = es_head())
FROM eventstore.projections JOIN model ON name = projection
SQL
	  or diag(one($node, <<'SQL', $dbname));
SELECT name, state, mode, checkpoint, lag, failures, last_error FROM eventstore.projections
SQL
	return models_right($node, $name, $dbname);
}

# ---- load ----

# A script for pgbench: appends of one event and of some, transactions over two streams in
# either order, some that roll back.
sub load_script
{
	my ($streams) = @_;

	return <<"SQL";
\\set s random(1, $streams)
\\set kind random(1, 10)
\\if :kind <= 5
SELECT * FROM es_append('Load-' || :s, 'Tick', jsonb_build_object('n', :kind));
\\elif :kind <= 6
SELECT * FROM es_append_batch(ARRAY['Load-1', 'Pair-' || :s, 'Load-' || :s], '{Tick,Tock,Tock}',
                              '{"{}","{}","{}"}');
\\elif :kind <= 7
BEGIN;
SELECT * FROM es_append('Load-' || :s, 'Tick');
\\sleep 2 ms
SELECT * FROM es_append('Pair-' || :s, 'Tock');
COMMIT;
\\elif :kind <= 8
BEGIN;
SELECT * FROM es_append('Pair-' || :s, 'Tock');
\\sleep 2 ms
SELECT * FROM es_append('Load-' || :s, 'Tick');
COMMIT;
\\elif :kind <= 9
BEGIN;
SELECT * FROM es_append('Load-' || :s, 'Never');
\\sleep 2 ms
ROLLBACK;
\\else
SELECT * FROM es_append('Rare-' || :s, 'Rare');
\\endif
\\sleep 3 ms
SQL
}

# start_load(NODE, NAME, SCRIPT, clients =>, seed =>, dbname =>): pgbench in the background,
# until finish_load.  What ends in a deadlock or a serialization failure is tried again.
sub start_load
{
	my ($node, $name, $script, %param) = @_;
	my $base = "$PostgreSQL::Test::Utils::tmp_check/$name";

	append_to_file("$base.sql", "SELECT go_on();\n$script");
	my $run = IPC::Run::start(
		[
			'pgbench', '-n', '-c', $param{clients}, '-j', 2, '-T', 3600,
			'--max-tries=1000', '--random-seed=' . ($param{seed} // 1), '-f', "$base.sql",
			$node->connstr($param{dbname} // 'postgres')
		],
		'>', "$base.out", '2>', "$base.err");
	return { run => $run, base => $base, clients => $param{clients}, dbname => $param{dbname} };
}

# Ends the load.  Returns what the clients complain of, other than that.
sub finish_load
{
	my ($node, $load) = @_;

	$node->safe_psql($load->{dbname} // 'postgres', 'UPDATE load SET over = true');
	my $complaints = abandoned_load($load);
	$node->safe_psql($load->{dbname} // 'postgres', 'UPDATE load SET over = false');
	return $complaints;
}

# The same of a load whose server has gone.
sub abandoned_load
{
	my ($load) = @_;

	$load->{run}->finish;
	return join "\n", grep { /error/i && !/the load is over|Run was aborted/ }
	  split /\n/, slurp_file("$load->{base}.err");
}

# Until the log has grown by so many positions.
sub wait_for_events
{
	my ($node, $more, $dbname) = @_;
	my $from = one($node, 'SELECT es_head()', $dbname);

	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return await($node, "SELECT es_head() >= $from + $more", 'somebody to append', $dbname);
}

sub events_there
{
	my ($node, $dbname) = @_;
	return one($node, 'SELECT count(*) FROM eventstore.event_log', $dbname);
}

# ---- processes ----

# The pids of background processes: 'worker', 'scheduler', 'launcher'.
sub pids_of
{
	my ($node, $kind, $dbname) = @_;
	my $of = defined $dbname ? "AND datname = '$dbname'" : '';
	return split /\n/, one($node, <<"SQL");
SELECT pid FROM pg_stat_activity WHERE backend_type = 'eventstore $kind' $of ORDER BY pid
SQL
}

# ---- forms of a test ----

# A number that the environment may set, for a longer run: EVENTSTORE_TEST_NAME.
sub parameter
{
	my ($name, $default) = @_;
	return $ENV{"EVENTSTORE_TEST_$name"} // $default;
}

1;
