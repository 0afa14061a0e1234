# A server that does not preload the library, and one that does not any more.
#
# CREATE EXTENSION is quiet there.  What needs shared memory is refused with the two
# things to do; what does not need it works, and eventstore.status tells.  Once the
# library is preloaded everything works, and a log is not harmed by a time without.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use EventStore;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('plain', extension => 0, conf => q{shared_preload_libraries = ''});
my $hint = qr/HINT:.*ALTER SYSTEM SET shared_preload_libraries.*restart/s;

my @appends = (
	q{SELECT es_append('A-1', 'T')},
	q{SELECT es_append_events('A-1', '[{"type": "T"}]')},
	q{SELECT es_append_batch('{A-1}', '{T}', '{"{}"}')},
	q{SELECT es_check_version('A-1', NULL)});
my @reads = (
	'SELECT * FROM es_read_all()', 'SELECT * FROM es_read_all(0, 10, backwards => true)',
	q{SELECT * FROM es_read_category('A')}, q{SELECT * FROM es_read_correlation('c')},
	'SELECT es_head()', 'SELECT es_wait(0)', 'SELECT es_position_at(now())');

sub works_without
{
	my ($version, $what) = @_;

	refused($node, $_, '55000', "$what: $_", like => $hint) for @appends, @reads;
	gives($node, q{SELECT es_category('A-1')}, 'A', "$what: es_category");
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
is($stdout . $stderr, '', 'CREATE EXTENSION is quiet');
works_without(0, 'never preloaded');
accepted($node, 'DROP EXTENSION eventstore', 'DROP EXTENSION works');
one($node, 'CREATE EXTENSION eventstore');
my $epoch = one($node, 'SELECT es_epoch()');

# The hint's two steps.
one($node, q{ALTER SYSTEM SET shared_preload_libraries = 'eventstore'});
$node->restart;
gives($node, 'SELECT preloaded FROM eventstore.status', 't', 'preloaded: status says so');
gives($node, q{SELECT version, position FROM es_append('A-1', 'T')}, '1|1', 'preloaded: append');
gives($node, 'SELECT stream, position, es_head() FROM es_read_all()', 'A-1|1|1', 'preloaded: read');
gives($node, 'SELECT es_epoch()', $epoch, 'preloaded: the epoch is the same');
ok(wait_for_scheduler($node), 'preloaded: the scheduler comes');

# Not any more.
one($node, 'ALTER SYSTEM RESET shared_preload_libraries');
$node->restart;
works_without(1, 'not preloaded any more');
refused($node, 'BEGIN; DROP EXTENSION eventstore; ROLLBACK', '55006',
	'not preloaded any more: a log with events is not dropped by mistake');
refused($node, 'UPDATE eventstore.event_log SET data = $${"x": 1}$$', '42501',
	'not preloaded any more: the log is append-only');
refused($node, 'DELETE FROM eventstore.stream',
	'42501', 'not preloaded any more: streams cannot be deleted');

one($node, q{ALTER SYSTEM SET shared_preload_libraries = 'eventstore'});
$node->restart;
gives($node, q{SELECT version, position > 1 FROM es_append('A-1', 'T', '{}', 1)},
	'2|t', 'preloaded again: append');
gives($node, 'SELECT count(*), max(position) = es_head() FROM es_read_all()',
	'2|t', 'preloaded again: read');
gives($node, 'SELECT es_epoch()', $epoch, 'preloaded again: the epoch is the same');

finish($node);
