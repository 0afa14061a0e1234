# Projections that change hands while appends go on.
#
# Created, rebuilt, paused, resumed, altered and dropped under eight writers, with an
# appender open across each switch, in each form, inline and async: no event is lost or
# doubled.  Read models are held against a replay of the log in the midst of it, at any
# moment, and at the end.  Writers who meet in the same row of a read model wait for each
# other, or are told of a deadlock and try again; nobody's update is lost.
#
# EVENTSTORE_TEST_ROUNDS: how often; EVENTSTORE_TEST_SEED.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use EventStore;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ReadModels;
use Test::More;

my $rounds = parameter('ROUNDS', 1);
my $seed = parameter('SEED', 1);

my $node = new_node('rebuild', conf => <<'CONF');
autovacuum = off
max_connections = 40
deadlock_timeout = 20ms
CONF
prepare_models($node);

my @forms = qw(handler query reducer);
my @inline = map { "inline_$_" } @forms;
my @async = map { "async_$_" } @forms;
my $loads = 0;
my $opened = 0;

sub eight_writers
{
	my $load =
	  start_load($node, 'load' . ++$loads, load_script(20), clients => 8, seed => $seed++);
	wait_for_events($node, 100);
	return $load;
}

# No writer was told of anything; who met a deadlock did well at a later try.
sub end_writers
{
	my ($load, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(finish_load($node, $load), '', "$name: every append succeeds");
}

# A transaction that has appended, and will again before it commits.
sub open_appender
{
	my $session = open_session($node);

	$opened++;
	$session->query_safe('BEGIN');
	$session->query_safe("SELECT * FROM es_append('Open-$opened', 'Before')");
	return $session;
}

sub close_appender
{
	my ($session) = @_;

	$session->query_safe("SELECT * FROM es_append('Open-$opened', 'After')");
	$session->query_safe('COMMIT');
	$session->quit;
	return;
}

# The worker finds an appender in the way of a projection that becomes inline.
sub is_hindered
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return comes_true($node, <<"SQL", "$name waits for an appender, and says so");
SELECT last_error ~ 'in the way' FROM eventstore.projections WHERE name = '$name'
SQL
}

sub become_inline
{
	my ($name, $which) = @_;
	$which //= 'inline';
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return comes_true($node, <<"SQL", "$name: they become inline");
SELECT bool_and(state = 'running') FROM eventstore.projections WHERE name LIKE '$which%'
SQL
}

sub each_inline
{
	my ($function) = @_;
	$node->safe_psql('postgres', join '', map { "SELECT $function('$_');\n" } @inline);
	return;
}

for my $round (1 .. $rounds)
{
	note("round $round, seed $seed");

	# ---- creation ----

	# Each form waits for an appender that was there before it.
	my $load = eight_writers();
	my $appender = open_appender();
	for my $form (@forms)
	{
		create_model($node, "inline_$form", $form, more => q{mode => 'inline'});
		create_model($node, "async_$form", $form);
	}
	is_hindered($_) for @inline;
	models_right($node, 'creation, an appender in the way');
	close_appender($appender);
	become_inline('creation');
	models_right($node, 'creation, the moment they are inline');
	wait_for_events($node, 100);
	models_right($node, 'creation, under load');
	end_writers($load, 'creation');
	models_caught_up($node, 'creation');

	# Batches of one event, while eight append: the switch catches up with them all the same.
	$load = eight_writers();
	create_model($node, "small_$_", $_, more => q{mode => 'inline', batch_size => 1}) for @forms;
	become_inline('batches of one event', 'small');

	# ---- drop, under load ----

	drop_model($node, "small_$_") for @forms;
	end_writers($load, 'drop');
	models_caught_up($node, 'batches of one event');

	# ---- rebuild ----

	# An appender in the way of leaving inline, and one in the way of coming back.
	$load = eight_writers();
	$appender = open_appender();
	$node->safe_psql('postgres', "SELECT es_rebuild_projection('$_')") for @async;
	models_right($node, 'rebuild of async ones, in the midst');
	my $rebuild = open_session($node);
	session_start($rebuild, "SELECT es_rebuild_projection('$inline[0]')");
	wait_for_wait($node, $rebuild, "wait_event_type IN ('Lock', 'Extension')");
	models_right($node, 'rebuild of an inline one, which waits for an appender');
	close_appender($appender);
	is(session_error($rebuild, ''), '00000', 'it goes on when that has committed');
	$rebuild->quit;
	$appender = open_appender();
	is_hindered($inline[0]);
	models_right($node, 'rebuilt, not yet inline again');
	close_appender($appender);
	become_inline('rebuild of one');
	each_inline('es_rebuild_projection');
	models_right($node, 'rebuild of inline ones');
	become_inline('rebuild of inline ones');
	models_right($node, 'rebuild of inline ones, inline again');
	each_inline('es_rebuild_projection');
	end_writers($load, 'rebuild');
	models_caught_up($node, 'rebuild');

	# ---- pause and resume ----

	$load = eight_writers();
	for my $name ((@inline) x 3)
	{
		$node->safe_psql('postgres', "SELECT es_pause_projection('$name')");
		models_right($node, "$name is paused");
		$node->safe_psql('postgres', "SELECT es_resume_projection('$name')");
	}

	# Who resumes one waits for it: it goes on at once, not when the next one is changed.
	my @stalled;
	for my $cycle (1 .. 15)
	{
		for my $name (@async)
		{
			push @stalled, "$name in cycle $cycle" if one($node, <<"SQL") =~ /f/;
SELECT es_pause_projection('$name');
SELECT es_resume_projection('$name');
SELECT es_wait_for_projection('$name', timeout => '10 s');
SQL
		}
		last if @stalled;
	}
	is("@stalled", '', 'what is resumed goes on');
	models_right($node, 'pause and resume, the last of them');
	end_writers($load, 'pause and resume');
	models_caught_up($node, 'pause and resume');

	# An appender that was there before the pause, or before the resumption, of each form.
	for my $name (@inline)
	{
		$load = eight_writers() if $name eq $inline[0];
		$node->safe_psql('postgres', "SELECT es_pause_projection('$name')");
		$appender = open_appender();
		$node->safe_psql('postgres', "SELECT es_resume_projection('$name')");
		is_hindered($name);
		close_appender($appender);
		become_inline("$name is resumed");
		models_right($node, "$name is resumed, with an appender open across it");
	}

	# ---- several that run one projection ----

	# Sessions and the worker apply it in turns, never two the same events.
	my @runners = map {
		client($node, "runner$loads.$_", join '', map { "SELECT es_run_projection('$_');\n" } (@async) x 20)
	} 1 .. 3;
	my $errors = '';
	for my $runner (@runners)
	{
		finish_client($runner);
		$errors .= slurp_file($runner->{err});
	}
	is($errors, '', 'three sessions run projections that the worker runs');
	models_right($node, 'sessions and worker');
	end_writers($load, 'sessions and worker');
	models_caught_up($node, 'sessions and worker');

	# ---- all in one row ----

	create_model($node, "hot_$_", $_, key => 'category', more => q{mode => 'inline'}) for @forms;
	$load = eight_writers();
	wait_for_events($node, 400);
	models_right($node, 'eight writers in the same rows, in the midst');
	end_writers($load, 'eight writers in the same rows');
	models_caught_up($node, 'eight writers in the same rows');

	# Two in either order: one is told of a deadlock, tries again, and nothing is lost.
	my ($one, $other) = map { open_session($node) } 1 .. 2;
	$_->query_safe('BEGIN') for $one, $other;
	$one->query_safe(q{SELECT * FROM es_append('Load-one', 'Tick')});
	$other->query_safe(q{SELECT * FROM es_append('Pair-other', 'Tick')});
	session_start($one, q{SELECT * FROM es_append('Pair-one', 'Tick')});
	wait_for_wait($node, $one, "wait_event_type = 'Lock'");
	my $second = session_error($other, q{SELECT * FROM es_append('Load-other', 'Tick')});
	my $first = session_error($one, '');
	is(join(' ', sort $first, $second), '00000 40P01', 'in opposite order: one deadlock');
	my ($winner, $loser) = $first eq '00000' ? ($one, $other) : ($other, $one);
	$winner->query_safe('COMMIT');
	$loser->query_safe('ROLLBACK');
	models_right($node, 'after a deadlock');
	is(session_error($loser, q{SELECT * FROM es_append('Load-again', 'Tick')}),
		'00000', 'who was told of it tries again');
	$_->quit for $one, $other;
	models_right($node, 'after a deadlock and another try');
	drop_model($node, "hot_$_") for @forms;

	# ---- alter, which leaves an inline one in the appenders' hands ----

	# The more projections, the longer it takes to read the list of them.
	$node->safe_psql('postgres', <<'SQL');
SELECT es_create_projection('other' || n, query => 'SELECT FROM es_batch', types => '{Other}')
FROM generate_series(1, 120) n;
SELECT es_pause_projection('other' || n) FROM generate_series(1, 120) n;
SQL
	$load = eight_writers();
	my @altering = map {
		client($node, "altering$loads.$_",
			"SELECT es_alter_projection('inline_$forms[$_]', batch_size => 1000);\n" x 1000)
	} 0 .. 2;
	$errors = '';
	for my $client (@altering)
	{
		finish_client($client);
		$errors .= slurp_file($client->{err});
	}
	is($errors, '', 'alter: every statement succeeds');
	end_writers($load, 'alter');
	models_caught_up($node, 'alter');
	$node->safe_psql('postgres', <<'SQL');
SELECT es_drop_projection('other' || n) FROM generate_series(1, 120) n
SQL

	# ---- the next round begins with none ----

	if ($round < $rounds)
	{
		drop_model($node, $_) for @inline, @async;
	}
}

is(broken_streams($node), '0', 'versions have no gaps');
finish($node);
