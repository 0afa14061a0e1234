# A server that does not preload the library, and one that does not any more.
#
# CREATE EXTENSION warns there.  What needs shared memory is refused with the two
# things to do; what does not need it works, and eventstore.status tells.  Once the
# library is preloaded everything works, and a log, or a projection, is not harmed by a
# time without; what a projection names is not dropped then either.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use EventStore;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# with libraries of others, which must stay
my $node = new_node('plain', extension => 0, conf => q{shared_preload_libraries = 'plpgsql, "dict_snowball"'});
my $statement = q{ALTER SYSTEM SET shared_preload_libraries = 'plpgsql', 'dict_snowball', 'eventstore';};
my $hint = qr/HINT:  Run this, then restart the server:\n\Q$statement\E/;

my @appends = (
	q{SELECT es_append('A-1', 'T')},
	q{SELECT es_append_events('A-1', '[{"type": "T"}]')},
	q{SELECT es_append_batch('{A-1}', '{T}', '{"{}"}')},
	q{INSERT INTO eventstore.new_events (stream, type) VALUES ('A-1', 'T')},
	q{COPY eventstore.new_events (stream, type) FROM PROGRAM 'echo A-1,T' (FORMAT csv)},
	q{SELECT es_check_version('A-1', NULL)});
my @reads = (
	'SELECT * FROM es_read_all()', 'SELECT * FROM es_read_all(0, 10, backwards => true)',
	q{SELECT * FROM es_read_category('A')}, q{SELECT * FROM es_read_correlation('c')},
	'SELECT es_head()', 'SELECT es_wait(0)', 'SELECT es_position_at(now())');

my @projections = (
	q{SELECT es_create_projection('new', query => 'SELECT FROM es_batch')},
	(map { "SELECT es_${_}_projection('async')" } qw(alter pause resume rebuild run drop wait_for)),
	q{SELECT es_retry_dead_letters('async')});

sub works_without
{
	my ($version, $what) = @_;

	refused($node, $_, '55000', "$what: $_", like => $hint) 
	  for @appends, @reads, @projections;
	gives($node, q{SELECT es_category('A-1'), es_slot('Order-1')}, 'A|683', "$what: es_category, es_slot");
	gives($node, q{SELECT es_stream_version('A-1')}, $version, "$what: es_stream_version");
	gives($node, q{SELECT count(*) FROM es_read_stream('A-1')}, $version, "$what: es_read_stream");
	gives($node, 'SELECT count(*) FROM eventstore.events', $version, "$what: the view of events");
	like(one($node, 'SELECT es_epoch()'), qr/^[0-9a-f-]{36}$/, "$what: es_epoch");
	gives($node, 'SELECT preloaded, standby, head IS NULL, sealed IS NULL FROM eventstore.status',
		'f|f|t|t', "$what: status says why");
	gives($node, 'SELECT count(*) FROM eventstore.blockers', '0', "$what: blockers");
	return;
}

my ($stdout, $stderr);
$node->psql('postgres', 'CREATE EXTENSION eventstore', stdout => \$stdout, stderr => \$stderr);
like($stdout . $stderr, qr/^\S*\s*WARNING:  eventstore is not loaded when the server starts: nothing can be appended yet\n$hint/,
	'CREATE EXTENSION warns');
works_without(0, 'never preloaded');
accepted($node, 'DROP EXTENSION eventstore', 'DROP EXTENSION works');
one($node, 'CREATE EXTENSION eventstore');
my $epoch = one($node, 'SELECT es_epoch()');

# The hint's two steps.
one($node, $statement);
$node->restart;
gives($node, 'SHOW shared_preload_libraries', 'plpgsql, dict_snowball, eventstore', 'the libraries of others stay');
gives($node, 'SELECT preloaded FROM eventstore.status', 't', 'preloaded: status says so');
gives($node, q{SELECT version, position FROM es_append('A-1', 'T')}, '1|1', 'preloaded: append');
gives($node, 'SELECT stream, position, es_head() FROM es_read_all()', 'A-1|1|1', 'preloaded: read');
gives($node, 'SELECT es_epoch()', $epoch, 'preloaded: the epoch is the same');
ok(wait_for_scheduler($node), 'preloaded: the scheduler comes');
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE inline_model (position bigint);
CREATE TABLE async_model (position bigint);
CREATE FUNCTION keep(event es_event) RETURNS void LANGUAGE sql
    AS $$ INSERT INTO async_model VALUES (event.position) $$;
CREATE FUNCTION count_up(state jsonb, event es_event) RETURNS jsonb LANGUAGE sql
    AS $$ SELECT jsonb_build_object('n', coalesce((state ->> 'n')::int, 0) + 1) $$;
SELECT es_create_projection('async', 'keep', reset => 'TRUNCATE async_model');
SELECT es_create_projection('inline', mode => 'inline', query => 'INSERT INTO inline_model SELECT position FROM es_batch');
SELECT es_create_projection('counts', mode => 'inline', reducer => 'count_up');
SELECT es_wait_for_projection('async', timeout => '60 s');
SQL
gives($node, q{SELECT es_projection_state('counts', 'A-1'), (SELECT count(*) FROM inline_model), (SELECT count(*) FROM async_model)},
	'{"n": 1}|1|1', 'preloaded: projections');

# Not any more.
one($node, 'ALTER SYSTEM RESET shared_preload_libraries');
$node->restart;
works_without(1, 'not preloaded any more');
refused($node, 'BEGIN; DROP EXTENSION eventstore CASCADE; ROLLBACK', '55006',
	'not preloaded any more: a log with events is not dropped by mistake');
refused($node, 'UPDATE eventstore.event_log SET data = $${"x": 1}$$', '42501',
	'not preloaded any more: the log is append-only');
refused($node, 'DELETE FROM eventstore.stream',
	'42501', 'not preloaded any more: streams cannot be deleted');

# Projections: each statement in a session of its own, which has loaded nothing.
gives($node, 'SELECT name, state, mode FROM eventstore.projections ORDER BY name',
	"async|running|async\ncounts|running|inline\ninline|running|inline",
	'not preloaded any more: the view of projections');
gives($node, q{SELECT es_projection_state('counts', 'A-1'), es_aggregate('A-1', 'count_up')},
	'{"n": 1}|{"n": 1}', 'not preloaded any more: states can be read');
my %names = (
	'TABLE inline_model' => 'inline', 'TABLE async_model' => 'async',
	'FUNCTION keep' => 'async', 'FUNCTION count_up' => 'counts');
for my $object (sort keys %names)
{
	refused($node, "DROP $object", '2BP01', "not preloaded any more: DROP $object",
		like => qr/projection "$names{$object}" depends on it/);
}
accepted($node, "BEGIN; DROP $_ CASCADE; ROLLBACK", "not preloaded any more: DROP $_ CASCADE",
	like => qr/drop cascades to projection "async"/) for 'TABLE async_model', 'FUNCTION keep';
# How far an inline one has come is what was handed out, which only shared memory knows.
refused($node, "DROP $_ CASCADE", '55000', "not preloaded any more: DROP $_ CASCADE", like => $hint)
  for 'TABLE inline_model', 'FUNCTION count_up';
refused($node, 'ALTER TABLE eventstore.event_log DROP COLUMN data CASCADE', '55006',
	'not preloaded any more: a column of the log is not dropped by mistake');

one($node, $statement);
$node->restart;
gives($node, 'SHOW shared_preload_libraries', 'plpgsql, dict_snowball, eventstore', 'the libraries of others stay');
gives($node, q{SELECT version, position > 1 FROM es_append('A-1', 'T', '{}', 1)},
	'2|t', 'preloaded again: append');
gives($node, 'SELECT count(*), max(position) = es_head() FROM es_read_all()',
	'2|t', 'preloaded again: read');
gives($node, 'SELECT es_epoch()', $epoch, 'preloaded again: the epoch is the same');
gives($node, q{SELECT es_wait_for_projection('async', timeout => '60 s')}, 't', 'preloaded again: workers run');
gives($node, <<'SQL', '{"n": 2}|t|t', 'preloaded again: projections have applied each event once');
SELECT es_projection_state('counts', 'A-1'),
       (SELECT array_agg(position ORDER BY position) FROM inline_model) = (SELECT array_agg(position ORDER BY position) FROM eventstore.events),
       (SELECT array_agg(position ORDER BY position) FROM async_model) = (SELECT array_agg(position ORDER BY position) FROM eventstore.events)
SQL

finish($node);
