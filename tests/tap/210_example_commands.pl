# The examples of commands: rules that are kept.
#
# Each example has a view "difference", which says where the log breaks its rule; it must have
# no rows, alone and after many clients have sent commands about few things, at all isolation
# levels.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use EventStore;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $examples = "$FindBin::RealBin/../../examples";
my @names = qw(courses unique_names invoice_numbers idempotent_commands price_grace);
my $node = new_node('example_commands');

sub check
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return $node->command_ok(
		[ 'psql', '-Xq', '-d', $node->connstr('postgres'), '-f', "$examples/check.sql" ], $name);
}

$node->command_ok([ 'psql', '-Xq', '-d', $node->connstr('postgres'), '-f', "$examples/$_.sql" ], $_) for @names;
check('each alone');

# ---- many clients ----

# attempt(CALL): what came of it.  An error that is not the rule's, nor one that any client must
# be ready for, is the client's error.
one($node, <<'SQL');
CREATE FUNCTION attempt(call text) RETURNS text
    LANGUAGE plpgsql
    AS $$
DECLARE
    answer text;
BEGIN
    EXECUTE 'SELECT ' || call INTO answer;
    RETURN coalesce(nullif(answer, ''), 'done');
EXCEPTION
    WHEN raise_exception THEN
        RETURN 'refused';
    WHEN serialization_failure OR deadlock_detected OR SQLSTATE 'SE001' THEN
        RETURN 'once more';
END;
$$;
SELECT courses.define_course('c' || n, 3) FROM generate_series(1, 4) n;
SELECT price_grace.set_price('p' || n, 100) FROM generate_series(1, 3) n;
SELECT idempotent_commands.deposit('a' || n, 50) FROM generate_series(1, 3) n;
SQL

sub command
{
	my $n = int(rand(1_000_000));
	my $student = 's' . int(rand(6));
	my @commands = (
		"courses.subscribe(''c@{[ 1 + $n % 4 ]}'', ''$student'')",
		"courses.subscribe(''c@{[ 1 + $n % 4 ]}'', ''$student'')",
		"courses.leave(''c@{[ 1 + $n % 4 ]}'', ''$student'')",
		"unique_names.claim_name(''Name@{[ $n % 3 ]}'', ''$student'')",
		"unique_names.release_name(''name@{[ $n % 3 ]}'', ''$student'')",
		"invoice_numbers.issue_invoice(''@{[ $n % 2 ]}'', ''$student'', $n)",
		"idempotent_commands.transfer(''00000000-0000-4000-8000-0000000000@{[ 10 + $n % 60 ]}'', ''a@{[ 1 + $n % 3 ]}'', ''a@{[ 1 + int($n / 3) % 3 ]}'', @{[ 10 + $n % 30 ]})",
		"price_grace.set_price(''p@{[ 1 + $n % 3 ]}'', @{[ 100 + $n % 3 ]})",
		"price_grace.place_order(''@{[ $n ]}'', jsonb_build_object(''p1'', @{[ 100 + $n % 3 ]}, ''p@{[ 2 + $n % 2 ]}'', @{[ 100 + int($n / 3) % 3 ]}), ''@{[ 10 * ($n % 2) ]} ms'')");
	return "SELECT attempt('" . $commands[ rand @commands ] . "');\n";
}

srand(1);
my @levels = ('read committed', 'read committed', 'repeatable read', 'serializable');
my @clients = map {
	my $level = $levels[ $_ % 4 ];
	client($node, "client$_", "SET default_transaction_isolation = '$level';\n"
		  . join('', map { command() . ($_ % 50 || $level ne 'read committed' ? '' : "CALL invoice_numbers.remember_series();\n") } 1 .. 250))
} 1 .. 8;
my %came;
$came{$_}++ for map { finish_client($_) } @clients;

# A transaction can turn out not to be serializable when it commits, where attempt() has ended.
my $errors = join('', map { slurp_file($_->{err}) } @clients);
$errors =~ s/^\S+ ERROR:  could not serialize access .*\n(?:(?:DETAIL|HINT):.*\n)*//gm;
is($errors, '', 'no client has failed');
cmp_ok($came{$_} // 0, '>', 0, "some: $_") for ('done', 'refused', 'transferred', 'true', 'false');
note(join(', ', map { "$_: $came{$_}" } grep { !/^\d/ } sort keys %came));
gives($node, <<'SQL', '5|t', 'each example was at work');
SELECT count(*), min(n) > 20
FROM (
    SELECT count(*) AS n
    FROM eventstore.events
    WHERE type IN ('StudentSubscribed', 'NameClaimed', 'InvoiceIssued', 'MoneyTransferred', 'OrderPlaced')
    GROUP BY type) e
SQL
check('with many clients');

# ---- the check finds what is wrong ----

one($node, q{SELECT es_append('Invoice-1-x', 'InvoiceIssued', '{"series": "1", "number": 1}')});
$node->command_fails_like(
	[ 'psql', '-Xq', '-d', $node->connstr('postgres'), '-f', "$examples/check.sql" ],
	qr/not what the log says: invoice_numbers$/m,
	'a number that is there twice is found');

finish($node);
