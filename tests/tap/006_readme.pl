# The README's examples work, pasted one after another, and print what stands under them.
#
# All of them are run, from the installation on: the server begins without the library, as a
# new one does.  lib/Pasted.pm says what is run how, and by what convention outputs stand in a
# document.  What cannot be run here is listed, and so is what is done in its place.  The
# signatures in the reference are 005_reference's.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use EventStore;
use Pasted;
use PostgreSQL::Test::Utils;
use Test::More;

my $root = "$FindBin::RealBin/../..";
my $node = new_node('readme', extension => 0, conf => "shared_preload_libraries = ''");

# Nothing is wrong with an example.
sub all_right
{
	my ($name, @wrong) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(join("\n", @wrong), '', $name);
}

# ---- the README ----

my $readme = slurp_file("$root/README.md");
my ($guide, $reference) = split /^(?=## Reference\n)/m, $readme;

all_right('README: the examples', paste(
	$node, 'postgres', $guide, $root,

	# It changes the machine.  tests/matrix builds and installs on bare ones.
	"sudo apt-get install postgresql-15 postgresql-server-dev-15 make gcc\nmake && sudo make install\n" => sub { },

	# The test's server is none of systemd's.
	"sudo systemctl restart postgresql\n" => sub { $node->restart }));
all_right('README: the reference has nothing to be pasted',
	map { $_->{text} } grep { $_->{text} !~ /^es_\w+\(.*\)\n\z/ } blocks_of($reference));
all_right('README: links', broken_links($readme, $root));
all_right('README: the contents', missing_contents($readme));

my $format = slurp_file("$root/docs/format.md");
all_right('docs/format: links', broken_links($format, "$root/docs"));

# ---- the examples' README ----

my $examples = slurp_file("$root/examples/README.md");

$node->safe_psql('postgres', 'CREATE DATABASE examples');
$node->safe_psql('examples', 'CREATE EXTENSION eventstore');
all_right('examples/README: the examples', paste($node, 'examples', $examples, $root));
all_right('examples/README: links', broken_links($examples, "$root/examples"));

# ---- what is wrong is found ----

# finds(TEST NAME, DOCUMENT, EXPECTED NUMBER OF COMPLAINTS, PATTERN OF ALL OF THEM, LISTED...)
sub finds
{
	my ($name, $document, $number, $pattern, @listed) = @_;
	my @wrong = paste($node, 'examples', $document, $root, @listed);
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is(scalar @wrong, $number, "$name: so many") or diag(join("\n", @wrong));
	return like(join("\n", @wrong), $pattern, $name);
}

sub example { return "```$_[0]\n$_[1]\n```\n" . ($_[2] ? "\n```text\n$_[2]```\n" : '') }

my $one = " n \n---\n 1\n(1 row)\n";
finds('nothing', "Text.\n" . example('sql', 'SELECT 1 AS n;', $one), 0, qr/^$/);
finds('another output', example('sql', 'SELECT 2 AS n;', $one), 1, qr/^line 1:.* 1\n.*but prints:.* 2\n/s);
finds('an output that is not shown', example('sql', 'SELECT 1 AS n;'), 1, qr/should print:\n\nbut prints:\n n/);
finds('an output that does not come', example('sql', "SELECT es_wait(0) \\g /dev/null", $one), 1, qr/but prints:\n\n/);
finds('an output that stands apart',
	example('sql', 'SELECT 1 AS n;') . "Text.\n\n" . example('text', $one =~ s/\n\z//r), 2,
	qr/but prints.*is neither run nor listed/s);
finds('an error', example('sql', 'SELECT 1 / 0;'), 1, qr/but prints:\nERROR:  division by zero/);
finds('an error in a table that is there twice', example('sql', 'CREATE TABLE twice ();') x 2, 1,
	qr/^line 4:.*already exists/s);
finds('a command that fails', example('sh', "false\ntrue"), 1, qr/but prints:\n\nexit status 1/);
finds('another output of a command', example('sh', 'echo 2', "1\n"), 1, qr/print:\n1\nbut prints:\n2\n/);
finds('a setting', example('conf', 'work_mem = 5MB') . example('sql', 'SHOW work_mem;', " work_mem\n----------\n 5MB\n(1 row)\n"),
	0, qr/^$/);
finds('a language that nobody runs', example('cobol', 'STOP RUN.'), 1, qr/STOP RUN.*is neither run nor listed/s);
finds('a listed block that is not there', 'Text.', 1, qr/^is listed, but is not there: reboot/, "reboot\n" => sub { });
finds('a listed block', example('sh', 'reboot'), 0, qr/^$/, "reboot\n" => sub { });
is(join(' ', broken_links("## A-b, c\n[](#a-b-c) [](#gone) [](gone.c) [](Makefile)\n", $root)), '#gone gone.c',
	'links that lead nowhere are found');
is(join(' ', missing_contents("[](#a)\n## A\n### B\n")), 'B', 'a heading that the contents lack is found');

# With this setting the server would not start again.
finds('a wrong setting', example('conf', 'work_mem = many'), 1, qr/invalid value for parameter "work_mem"/);

finish($node);
