# Read models at any moment.
#
# While eight clients append, and workers and appenders apply, a session looks again and
# again: in one REPEATABLE READ snapshot, at the checkpoint, at the read model, and at what
# a fold of the log up to the checkpoint gives.  They are equal each time, for each form,
# inline and async, and so at the end.
#
# EVENTSTORE_TEST_SAMPLES: how often; EVENTSTORE_TEST_SEED.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use EventStore;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ReadModels;
use Test::More;

my $samples = parameter('SAMPLES', 60);
my $seed = parameter('SEED', 1);

my $node = new_node('sampled', conf => <<'CONF');
autovacuum = off
max_connections = 40
deadlock_timeout = 20ms
eventstore.max_workers = 2
CONF
prepare_models($node);
my @forms = qw(handler query reducer);
for my $form (@forms)
{
	create_model($node, "inline_$form", $form, more => q{mode => 'inline'});
	create_model($node, "async_$form", $form, more => 'batch_size => 100');
}

# Snapshots that saw something wrong, and how many different checkpoints were seen.  The
# first statement takes the snapshot; the second and third are later by some time.
my $load = start_load($node, 'load', load_script(20), clients => 8, seed => $seed);
wait_for_events($node, 50);
my $session = open_session($node);
my (@wrong, %seen);
for my $n (1 .. $samples)
{
	$session->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
	my $at = $session->query_safe(<<'SQL');
SELECT string_agg(checkpoint::text, ' ' ORDER BY projection_id)
FROM eventstore.projection_progress JOIN eventstore.projection USING (projection_id)
WHERE mode = 'async'
SQL
	$session->query_safe('SELECT pg_sleep(0.02)');
	my $wrong = $session->query_safe(
		'SELECT wrong FROM model, model_wrong(projection) wrong ORDER BY projection');
	$session->query_safe('COMMIT');
	push @wrong, "sample $n: $wrong" if $wrong ne '';
	$seen{$at} = 1;
}
$session->quit;
is(join("\n", @wrong[ 0 .. ($#wrong > 4 ? 4 : $#wrong) ]), '', "in $samples snapshots read models equal the fold of the log");
cmp_ok(scalar keys %seen, '>', $samples / 4, scalar(keys %seen) . ' of them differ: the workers were at work');
is(finish_load($node, $load), '', 'every append succeeds');
models_caught_up($node, 'at the end');

finish($node);
