# The example in examples/search: a read model in an engine outside the database.
#
# The same life on Groonga's own server and on a stand-in that speaks _bulk: events that come
# again, an engine that is away, feeders that are killed, a database that restarts, an index
# built from nothing and swapped in while products change and searches go on.  At each end all
# documents are those that SQL folds from the log.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use EventStore;
use HTTP::Tiny;
use IO::Socket::INET;
use IPC::Run;
use JSON::PP;
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $examples = "$FindBin::RealBin/../../examples";
my $tests = "$FindBin::RealBin/../search";
my $base = $PostgreSQL::Test::Utils::tmp_check;
my $http = HTTP::Tiny->new(timeout => 10);
my $json = JSON::PP->new->utf8->canonical;
$ENV{PYTHONDONTWRITEBYTECODE} = 1;

# ---- processes ----

my %running;

# start(NAME, COMMAND...): in the background; what it says goes to NAME.out.
sub start
{
	my ($name, @command) = @_;
	my $out = "$base/$name.out";
	append_to_file($out, '');
	my $run = IPC::Run::start(\@command, '<', \undef, '>>', $out, '2>&1');
	return $running{$run} = { name => $name, run => $run, out => $out };
}

# The process is gone; what it has said.  A number is a signal to send before.
sub ended
{
	my ($process, $signal) = @_;
	$process->{run}->signal($signal) if defined $signal;
	$process->{run}->finish;
	delete $running{ $process->{run} };
	return slurp_file($process->{out});
}

END
{
	my $status = $?;
	$_->{run}->kill_kill(grace => 0) for values %running;
	$? = $status;
}

# said(PATTERN, PROCESS...): one of them says it; none of them falls.
sub said
{
	my ($pattern, @processes) = @_;
	my @said;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	wait_until(
		sub {
			@said = map { slurp_file($_->{out}) } @processes;
			return grep { $_ =~ $pattern || /Traceback/ } @said;
		},
		"$pattern");
	return unlike(join('', @said), qr/Traceback/, "$pattern: nobody has fallen");
}

sub listening
{
	my ($port) = @_;
	wait_until(sub { IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port") }, "port $port");
	return;
}

# ---- engines ----

# A hash of: start and stop it, its address, and one search for a word.
sub groonga
{
	my ($name) = @_;
	my $port = PostgreSQL::Test::Cluster::get_free_port();
	my $process;
	mkdir "$base/$name" or die "$base/$name: $!";
	return {
		address => "groonga:http://127.0.0.1:$port",
		start => sub {
			$process = start("groonga_$name", 'groonga', '--protocol', 'http', '--bind-address', '127.0.0.1', '-p', $port,
				'--log-path', "$base/$name/log", (-e "$base/$name/db" ? '-s' : ('-n', '-s')), "$base/$name/db");
			listening($port);
		},
		stop => sub { ended($process, 'TERM') },
		find => sub {
			my $answer = $http->get("http://127.0.0.1:$port/d/select?table=products&match_columns=name&query=$_[0]&cache=no");
			return $answer->{success} ? $json->decode($answer->{content})->[1][0][0][0] : "status $answer->{status}";
		},
	};
}

# Stopped, the stand-in answers 503.
sub stand_in
{
	my ($name) = @_;
	my $port = PostgreSQL::Test::Cluster::get_free_port();
	my $url = "http://127.0.0.1:$port";
	my $process;
	my $control = sub { $http->post("$url/_test", { content => $json->encode($_[0]) })->{success} or die 'the stand-in does not obey' };
	return {
		address => "opensearch:$url",
		start => sub {
			$process //= start("bulk_$name", "$tests/bulk_server.py", $port);
			listening($port);
			$control->({ down => JSON::PP::false });
		},
		stop => sub { $control->({ down => JSON::PP::true }) },
		control => $control,
		statuses => sub { $json->decode($http->get("$url/_test")->{content}) },
		find => sub {
			my $answer = $http->post("$url/products/_search", {
					content => qq({"size": 10, "query": {"multi_match": {"query": "$_[0]", "fields": ["name"]}}}) });
			return $answer->{success} ? $json->decode($answer->{content})->{hits}{total}{value} : "status $answer->{status}";
		},
	};
}

# ---- the log ----

my $node = new_node('search');
$node->safe_psql('postgres', <<'SQL');
CREATE AGGREGATE merged(jsonb) (sfunc = jsonb_concat, stype = jsonb, initcond = '{}');
-- What was said of each product since it was last created, the last word of each thing.
CREATE VIEW catalogue AS
WITH event AS (
    SELECT stream, version, type, data
    FROM eventstore.events
    WHERE type IN ('ProductCreated', 'ProductUpdated', 'ProductPriceChanged', 'ProductDeleted')
        AND stream NOT LIKE 'Broken-%'
), born AS (
    SELECT DISTINCT ON (stream) stream, version, type
    FROM event
    WHERE type IN ('ProductCreated', 'ProductDeleted')
    ORDER BY stream, version DESC
)
SELECT e.stream, merged(e.data ORDER BY e.version) || jsonb_build_object('version', max(e.version)) AS document
FROM event e
JOIN born b ON b.stream = e.stream AND b.type = 'ProductCreated' AND e.version >= b.version
GROUP BY e.stream;

-- Products change until somebody says stop.
CREATE UNLOGGED TABLE control (stop bool, written bigint);
CREATE PROCEDURE change_products(seed float8)
LANGUAGE plpgsql
AS $$
DECLARE
    product text;
    kind int;
BEGIN
    PERFORM setseed(seed);
    WHILE NOT (SELECT stop FROM control) LOOP
        FOR n IN 1 .. 5 LOOP
            product := 'Product-' || 1 + (random() * 79)::int;
            kind := random() * 9;
            PERFORM es_append(product,
                CASE kind WHEN 0 THEN 'ProductDeleted' WHEN 1 THEN 'ProductCreated' WHEN 2 THEN 'ReviewSubmitted' WHEN 3 THEN 'ProductUpdated' ELSE 'ProductPriceChanged' END,
                CASE kind
                    WHEN 0 THEN '{}'
                    WHEN 1 THEN jsonb_build_object('name', 'Fresh ' || random(), 'department', 'New', 'description', 'Größe "XL"', 'price_cents', 700)
                    WHEN 2 THEN '{"rating": 5}'
                    WHEN 3 THEN jsonb_build_object('name', 'Again ' || random())
                    ELSE jsonb_build_object('price_cents', (random() * 10000)::int) END);
            COMMIT;
        END LOOP;
        UPDATE control SET written = written + 5;
        COMMIT;
        PERFORM pg_sleep(0.01);
        COMMIT;
    END LOOP;
END;
$$;
SQL
$node->command_ok([ 'psql', '-Xq', '-d', $node->connstr('postgres'), '-f', "$examples/shop_events.sql" ], 'a history');
one($node, q{SELECT es_append('Product-900', 'ProductCreated',
	'{"name": "Beacon", "department": "Home", "description": "Always there.", "price_cents": 1}')});

# start_changes: products change; the sub returned ends that.
sub start_changes
{
	my ($seed) = @_;
	one($node, 'TRUNCATE control; INSERT INTO control VALUES (false, 0)');
	my $client = client($node, "changes_$seed", "CALL change_products(0.$seed);");
	return sub {
		one($node, 'UPDATE control SET stop = true');
		finish_client($client);
		return $client->{run}->result == 0;
	};
}

# So many more events have been written.
sub let_change
{
	my ($count) = @_;
	my $written = one($node, 'SELECT written FROM control');
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return await($node, "SELECT written >= $written + $count FROM control", "$count changes");
}

# ---- feeders ----

# feeder(ENGINE, NAME, WHAT search.py TAKES...)
sub feeder
{
	my ($engine, $name, @arguments) = @_;
	return start($name, "$examples/search/search.py", '--engine', $engine->{address}, '--database', $node->connstr('postgres'),
		'--ack-timeout', '2 s', '--batch', 100, @arguments);
}

# The index has everything that is in the log now, and is the log's fold.
sub is_the_log
{
	my ($engine, $index, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $head = one($node, 'SELECT es_head()');

	await($node, "SELECT checkpoint >= $head FROM eventstore.subscriptions WHERE name = '$index'", "$index to catch up")
	  or return 0;
	my $documents = documents($engine, $index);
	my $folded = $json->decode(one($node, 'SELECT jsonb_object_agg(stream, document) FROM catalogue'));
	cmp_ok(keys %$folded, '>', 10, "$name: there are products");
	return is_deeply($documents, $folded, "$name: the documents are the log's fold");
}

sub documents
{
	my ($engine, $index) = @_;
	my ($stdout, $stderr) = run_command([ "$tests/contract.py", $engine->{address}, 'documents', $index ]);
	return $stdout eq '' ? $stderr : $json->decode($stdout);
}

# ---- the writers alone ----

for my $engine (groonga('contract_groonga'), stand_in('contract_bulk'))
{
	my ($kind) = $engine->{address} =~ /^(\w+)/;
	$engine->{start}->();
	my ($stdout, $stderr) = run_command([ "$tests/contract.py", $engine->{address} ]);
	like($_, qr/^ok /, "$kind: $_") for split /\n/, $stdout;
	is($stderr, '', "$kind: all was tried");
	is(scalar(split /\n/, $stdout), 22, "$kind: so many promises");
	$engine->{stop}->();
}

# ---- a life with each engine ----

sub live
{
	my ($kind, $engine) = @_;
	one($node, q{SELECT es_drop_subscription(name) FROM eventstore.subscriptions});
	one($node, q{SELECT es_append_events('Product-901', '[
		{"type": "ProductCreated", "data": {"name": "Ghost", "department": "Home", "description": "Gone.", "price_cents": 1}},
		{"type": "ProductDeleted"}]')});
	$engine->{start}->();

	# From nothing, by two feeders.
	my @feeders = map { feeder($engine, "${kind}_$_", 'feed') } 1, 2;
	wait_until(sub { ($engine->{find}->('beacon')) eq 1 }, 'the first index to serve');
	is_the_log($engine, 'products_1', "$kind, the first index");
	my ($found) = run_command([ "$examples/search/search.py", '--engine', $engine->{address}, 'search', 'always', 'beacon' ]);
	like($found, qr/^Product-900 .* Beacon$/, "$kind: the search finds it");

	# Everything comes again, when the engine has forgotten what was deleted, too.
	my $before = documents($engine, 'products_1');
	ok(!exists $before->{'Product-901'}, "$kind: what was deleted has no document");
	$engine->{control}->({ forget => JSON::PP::true }) if $engine->{control};
	one($node, q{SELECT es_seek_subscription('products_1', 0)});
	is_the_log($engine, 'products_1', "$kind, all events again");
	is_deeply(documents($engine, 'products_1'), $before, "$kind: nothing has changed");

	# What cannot be a product is parked, and holds nobody up.
	one($node, q{SELECT es_append('Broken-1', 'ProductCreated', data) FROM (VALUES ('5'::jsonb), ('{"name": 7}')) v (data)});
	one($node, q{SELECT es_append('Product-900', 'ProductPriceChanged', '{"price_cents": 2}')});
	is_the_log($engine, 'products_1', "$kind, beside what is parked");
	gives($node, q{SELECT string_agg(DISTINCT stream || ': ' || reason, ', ') FROM eventstore.parked_events},
		'Broken-1: version 1: the data is not an object', "$kind: it is parked, and says why") if $kind eq 'groonga';
	gives($node, q{SELECT count(*) > 0 FROM eventstore.parked_events}, 't', "$kind: something is parked");

	# The engine goes away and comes back.
	my $enough = start_changes(1);
	ok(let_change(50), "$kind: products change");
	$engine->{stop}->();
	said(qr/the engine is unavailable/, @feeders);
	ok(let_change(100), "$kind: and go on to change without the engine");
	$engine->{start}->();
	ok(let_change(50), "$kind: and with it");
	$engine->{control}->({ busy => 40 }) if $engine->{control};

	# Feeders are killed, others come.
	for my $n (3 .. 5)
	{
		ended(shift @feeders, 'KILL');
		push @feeders, feeder($engine, "${kind}_$n", 'feed');
		let_change(30);
	}
	my $start = one($node, 'SELECT pg_postmaster_start_time()');
	$node->restart;
	$enough->();		# the restart has ended the one who writes
	isnt(one($node, 'SELECT pg_postmaster_start_time()'), $start, "$kind: the database has restarted");
	is_the_log($engine, 'products_1', "$kind, after the engine, feeders and the database were away");
	unlike(slurp_file($_->{out}), qr/Traceback/, "$kind: no feeder has fallen") for @feeders;

	# Another index beside it, and swapped, the one who builds it being killed once.
	$enough = start_changes(2);
	let_change(20);
	my $searches = "$base/${kind}_searches";
	my $searcher = fork() // die "cannot fork: $!";
	if (!$searcher)
	{
		my %counts;
		until (-e "$searches.stop")
		{
			$counts{ $engine->{find}->('beacon') }++;
			usleep(5_000);		# a person's pace, and one of two processors
		}
		append_to_file($searches, join(' ', map { $_ eq 1 ? 'found' : $_ } sort keys %counts));
		POSIX::_exit(0);
	}
	my $builder = feeder($engine, "${kind}_builder_1", '--batch', 5, '--ack-timeout', '1 s', 'rebuild');
	await($node, q{SELECT count(*) = 1 FROM eventstore.subscriptions WHERE name = 'products_2' AND checkpoint > 0},
		'the other index to be begun');
	unlike(ended($builder, 'KILL'), qr/serves/, "$kind: killed before it is done");
	is($engine->{find}->('beacon'), 1, "$kind: the other index serves");
	$builder = feeder($engine, "${kind}_builder_2", 'rebuild');
	said(qr/^products_2 serves$/m, $builder);
	ok(let_change(20), "$kind: products change all the time");
	append_to_file("$searches.stop", '');
	waitpid($searcher, 0);
	is(slurp_file($searches), 'found', "$kind: every search has found it");
	for my $feeder (@feeders)
	{
		like(ended($feeder), qr/products_1 has been replaced by products_2$/, "$kind: $feeder->{name} is not needed any more");
		is($feeder->{run}->result(0), 0, "$kind: $feeder->{name} ends well");
	}
	ok($enough->(), "$kind: nobody who writes was hindered");
	is_the_log($engine, 'products_2', "$kind, the second index");
	gives($node, 'SELECT string_agg(name, $$ $$) FROM eventstore.subscriptions', 'products_2', "$kind: one subscription is left");

	# Once more: the first index goes, the second stays for those who still read it.
	my $third = feeder($engine, "${kind}_builder_3", 'rebuild', '--anew');
	said(qr/^products_3 serves$/m, $third);
	like(ended($builder), qr/products_2 has been replaced by products_3$/, "$kind: replaced once more");
	is_the_log($engine, 'products_3', "$kind, the third index");
	ok(!ref documents($engine, 'products_1') && ref documents($engine, 'products_2'), "$kind: the first index is gone, the second not yet");

	# Asked to end, a feeder leaves nothing leased behind.
	unlike(ended($third, 'TERM'), qr/Traceback/, "$kind: a feeder ends when it is told to");
	is($third->{run}->result(0), 0, "$kind: and ends well");
	gives($node, q{SELECT pending FROM eventstore.subscriptions}, '0', "$kind: with nothing in its hands");
	return;
}

live('groonga', my $groonga = groonga('groonga'));

# The engine loses everything: what the subscription has come to is worth nothing.
$groonga->{stop}->();
unlink glob("$base/groonga/db*");
$groonga->{start}->();
my $rescue = feeder($groonga, 'rescue', 'feed');
said(qr/^products_4 serves$/m, $rescue);
is_the_log($groonga, 'products_4', 'groonga, after everything was lost');
ended($rescue, 'TERM');
$groonga->{stop}->();
unlike(slurp_file("$base/groonga/log"), qr/\|[AC]\|/, 'Groonga has not fallen');

my $bulk = stand_in('bulk');
live('bulk', $bulk);
my $statuses = $bulk->{statuses}->();
cmp_ok($statuses->{$_} // 0, '>', 0, "bulk: actions that ended with $_") for qw(200 201 404 429);

finish($node);
