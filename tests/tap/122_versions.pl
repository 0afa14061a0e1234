# A library of one version, and a store of another.
#
# A library serves stores of its own major version that are not newer than itself; it says so
# of all others, and what to do.  ALTER EXTENSION UPDATE before the restart that loads the
# new library fails as a whole; between the restart and the update the store is served as it
# is; with the update everybody finds what is new, also sessions that have used the store before.
#
# The versions are made up.  The older one has no boundary: what belongs to it is cut out of
# the script of this version, its register is declared as one that came later (core/catalog.c),
# and the update brings it.  Only two of the library's files are compiled again for each.

use strict;
use warnings FATAL => 'all';

use File::Copy;
use FindBin;
use lib "$FindBin::RealBin/lib";

use EventStore;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $root = "$FindBin::RealBin/../..";
my $here = $PostgreSQL::Test::Utils::tmp_check;
my ($old) = slurp_file("$root/eventstore.control") =~ /^default_version = '([\d.]+)'/m;
my ($major, $minor, $patch) = split /\./, $old;
my $later = join '.', $major, $minor, $patch + 9;
my $new = join '.', $major, $minor, $patch + 10;    # as text it is less than the one before

# ---- an installation of our own ----

sub run_or_die
{
	my (@command) = @_;
	run_log(\@command) or die "failed: @command";
	return;
}

# Where tests/run has installed the extension, and the settings that say so to a server.
my $settings = slurp_file($ENV{TEMP_CONFIG});
my ($installed, $within) = $settings =~ m{^dynamic_library_path = '(.*/stage)(/.*?):}m;
die "no private installation in $ENV{TEMP_CONFIG}" unless defined $within;
run_or_die('cp', '-a', $installed, "$here/stage");
run_or_die('cp', '-a', $root, "$here/src");
$settings =~ s/\Q$installed\E/$here\/stage/g;
my ($library) = glob "$here/stage$within/eventstore.so";
my ($control) = map { chomp; $_ } `find $here/stage -name eventstore.control`;
my ($scripts) = $control =~ m{(.*)/};

sub replace_file
{
	my ($name, $text) = @_;
	unlink $name;
	append_to_file($name, $text);
	return;
}

# The library as that version would have it.
sub build_library
{
	my ($version) = @_;
	run_or_die('touch', "$here/src/src/core/release.c");
	run_or_die('make', '-s', '-C', "$here/src", "EXTVERSION=$version", 'eventstore.so');
	copy("$here/src/eventstore.so", "$here/library-$version") or die "copy: $!";
	return;
}

# As a package does: a new file in the old one's place.
sub install_library
{
	my ($version) = @_;
	copy("$here/library-$version", "$library.new") or die "copy: $!";
	rename "$library.new", $library or die "rename: $!";
	return;
}

my $catalog = slurp_file("$here/src/src/core/catalog.c");
is($catalog =~ s/REGISTER\(boundary_register\)/REGISTER(boundary_register, .since = "$new")/, 1,
	'the boundary came later');
replace_file("$here/src/src/core/catalog.c", $catalog);
my $another_major = ($major + 1) . '.10.0';
build_library($_) for $old, $new, $another_major;

# The older version's script, and that of the update.
my $script = slurp_file("$scripts/eventstore--$old.sql");
my $update = "SELECT eventstore.require_library('$new');\n";
for my $part (
	slurp_file("$root/src/log/boundary.sql"),
	$script =~ /^(CREATE SEQUENCE eventstore\.boundary_register.*?;\n)/m,
	$script =~ /^(COMMENT ON SEQUENCE eventstore\.boundary_register IS\n.*?;\n)/m,
	$script =~ /^(SELECT [^;\n]*boundary_register.*?;\n)/m)
{
	$script =~ s/\Q$part\E// or die "not in the script: $part";
	$update .= $part;
}
$script =~ s/, es_slot, es_set_boundary// or die 'no rights';
$update .= "REVOKE EXECUTE ON FUNCTION es_slot, es_set_boundary FROM PUBLIC;\n";
unlike($script, qr/boundary/, 'the older version has none');
replace_file("$scripts/eventstore--$old.sql", $script);
install_library($old);

# ---- the server is running, and a new version is installed ----

my $node = new_node('versions', conf => "autovacuum = off\n$settings");
is(one($node, q{SELECT version, library_version FROM eventstore.status}), "$old|$old", 'the older version');
one($node, q{SELECT es_append('Order-' || n, 'Placed') FROM generate_series(1, 10) n});
my $digest = log_digest($node);

install_library($new);
replace_file("$scripts/eventstore--$old--$new.sql", $update);
replace_file($control, slurp_file("$root/eventstore.control") =~ s/\Q$old\E/$new/r);

sub version_is
{
	my ($version, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return gives($node, q{SELECT extversion FROM pg_extension WHERE extname = 'eventstore'}, $version, $name);
}

refused($node, 'ALTER EXTENSION eventstore UPDATE', '55000', 'an update before the restart',
	like => qr/needs the library of eventstore \Q$new\E, but \Q$old\E is loaded.*HINT:.*Restart the server first/s);
version_is($old, 'refused: the version is as before');
is(log_digest($node), $digest, 'refused: so is every event');
gives($node, q{SELECT to_regclass('eventstore.boundary_register') IS NULL, to_regproc('es_slot') IS NULL}, 't|t',
	'refused: nothing of the new version is there');
gives($node, q{SELECT version FROM es_append('Order-1', 'Paid')}, '2', 'refused: appends go on');

# ---- the restart, and days until the update ----

$node->restart;
gives($node, 'SELECT version, library_version, format FROM eventstore.status', "$old|$new|1", 'the new library, the old store');
my $session = open_session($node);
is($session->query_safe('SELECT version FROM es_append($$Order-1$$, $$Sent$$)'), '3', 'it takes appends');
is($session->query_safe('SELECT count(*) FROM es_read_all()'), '12', 'and is read');
sound($node, 'and sound');
ok(wait_for_scheduler($node), 'its scheduler comes');

accepted($node, 'ALTER EXTENSION eventstore UPDATE', 'the update');
version_is($new, 'the new version');
is($session->query('SELECT es_slot($$Order-1$$)'), '683', 'a session that is open finds what is new');
is($session->query_safe('SELECT version FROM es_append($$Order-1$$, $$Received$$)'), '4', 'and goes on');
gives($node, q{SELECT es_slot('Order-1')}, '683', 'others as well');
sound($node, 'the store is sound');

# A new store is made by the older version's script, and updated.
one($node, 'CREATE DATABASE fresh');
one($node, 'CREATE EXTENSION eventstore', 'fresh');
gives($node, q{SELECT es_set_boundary('-'), es_slot('Order-1'), version FROM eventstore.status}, "|611|$new", 'a new store', 'fresh');

# ---- which versions are served ----

sub set_version
{
	my ($version) = @_;
	one($node, "UPDATE pg_extension SET extversion = '$version' WHERE extname = 'eventstore'");
	return;
}

sub is_served
{
	my ($what, @versions) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	for my $version (@versions)
	{
		set_version($version);
		gives($node, q{SELECT count(*) FROM es_append('Order-2', 'Paid')}, '1', "$what: $version takes appends");
		gives($node, 'SELECT count(*) > 10 FROM es_read_all()', 't', "$what: $version is read");
	}
	return;
}

sub is_not_served
{
	my ($what, $like, @versions) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	for my $version (@versions)
	{
		set_version($version);
		refused($node, $_, '55000', "$what: $version: $_", like => qr/of version \Q$version\E.*$like/s)
		  for q{SELECT es_append('A', 'T')}, 'SELECT es_head()', 'SELECT * FROM es_read_all()', q{SELECT * FROM es_read_stream('Order-1')},
		  'SELECT * FROM eventstore.status';
		accepted($node, 'CREATE FUNCTION f() RETURNS int RETURN 1; DROP FUNCTION f(); CREATE TABLE t (); DROP TABLE t; CREATE ROLE r; ALTER ROLE r RENAME TO s; DROP ROLE s',
			"$what: $version: other work goes on");
		refused($node, 'DROP EXTENSION eventstore CASCADE', '55006', "$what: $version: the log is not dropped by mistake");
		accepted($node, 'BEGIN; SET LOCAL eventstore.allow_drop = on; DROP EXTENSION eventstore CASCADE; ROLLBACK',
			"$what: $version: it can be dropped");
	}
	return;
}

my $restart = qr/but the library of eventstore \S+ is loaded.*HINT:.*Restart the server/s;
my $copy = qr/which the library of eventstore \S+ does not serve.*HINT:.*COPY eventstore\.new_events/s;

is_served($new, $old, $later, $new);
is_not_served($new, $restart, "$major.$minor." . ($patch + 11), $major . '.' . ($minor + 1) . '.0', ($major + 1) . '.0.0', '999999.0.0');
is_not_served($new, $copy, '0.1.0', '0.1.99', '1.0', 'unpackaged', '1.0.0.0', '0.2.x', '0.0.9999999');

# From 1.0.0 on a major version is the first number alone.
$node->stop;
install_library($another_major);
$node->start;
my $first = $major + 1;
is_served($another_major, "$first.0.0", "$first.9.0", "$first.9.99", $another_major);
is_not_served($another_major, $restart, "$first.10.1", "$first.11.0", ($first + 1) . '.0.0');
is_not_served($another_major, $copy, $old, '0.99.0');

# ---- what a script asks ----

accepted($node, "SELECT eventstore.require_library('$_')", "require_library('$_')") for "$first.0.0", $another_major;
refused($node, "SELECT eventstore.require_library('$_')", '55000', "require_library('$_')", like => qr/HINT:.*Restart/)
  for "$first.10.1", ($first + 1) . '.0.0', $old;
refused($node, "SELECT eventstore.require_library('$_')", '22023', "require_library('$_')")
  for '', '1', '1.0', '1.0.0.0', '1..0', '1.0.', ' 1.0.0', '-1.0.0', '1.0.99999999999', 'one';
refused($node, 'SELECT eventstore.require_library(NULL)', '22004', 'require_library(NULL)');
one($node, 'CREATE ROLE nobody LOGIN');
refused($node, "SELECT eventstore.require_library('$first.0.0')", '42501', 'require_library() by a stranger', user => 'nobody');

finish($node);
