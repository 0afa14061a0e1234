# The application in examples/shop: opened by its one command, driven over HTTP.
#
# What a customer and a clerk would do; what is refused, and why; the same from many sides at
# once, with connections that are lost in between; and that nothing is left after Ctrl-C.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use EventStore;
use HTTP::Tiny;
use IPC::Run;
use JSON::PP;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;

my $base = "$PostgreSQL::Test::Utils::tmp_check/shop";
my $examples = "$FindBin::RealBin/../../examples";

# ---- opening it ----

# A process group of its own, as a terminal would make it.  Our own private folder is not to
# be the shop's.
my $shop = fork() // die "cannot fork: $!";
if (!$shop)
{
	setpgrp;
	$SIG{INT} = 'DEFAULT';
	open(STDIN, '<', '/dev/null');
	open(STDOUT, '>', "$base.out");
	open(STDERR, '>', "$base.err");
	exec('env', '-u', 'EVENTSTORE_PRIVATE', "$examples/shop/shop") or POSIX::_exit(127);
}
$SIG{TERM} = sub { exit 1 };
END
{
	my $status = $?;
	kill('TERM', -$shop) && waitpid($shop, 0) if $shop;
	$? = $status;
}
wait_until(
	sub {
		waitpid($shop, POSIX::WNOHANG()) == 0 or BAIL_OUT('the shop has closed: ' . slurp_file("$base.err"));
		-e "$base.out" && slurp_file("$base.out") =~ /^http:/m;
	},
	'the shop to open');
my ($folder) = slurp_file("$base.out") =~ /psql -h (\S+) /;
my ($url) = slurp_file("$base.out") =~ m{^(http://127\.0\.0\.1:\d+)/$}m;
ok($url, 'the shop says where it is');

# ---- asking it ----

my $http = HTTP::Tiny->new(timeout => 60);
my $json = JSON::PP->new->utf8->canonical;

# A request; its status, headers and, if it is JSON, content.
sub ask
{
	my ($method, $path, $body, %headers) = @_;
	my $answer = $http->request($method, "$url$path", {
			headers => { 'Content-Type' => 'application/json', %headers },
			content => !defined $body ? '' : ref $body ? $json->encode($body) : $body });
	$answer->{json} = $json->decode($answer->{content})
	  if ($answer->{headers}{'content-type'} // '') eq 'application/json';
	return $answer;
}

# expect(STATUS, TEST NAME, WHAT ask() TAKES): the answer
sub expect
{
	my ($status, $name, @request) = @_;
	my $answer = ask(@request);
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is($answer->{status}, $status, $name) or diag(explain(\@request, $answer->{content}));
	return $answer;
}

# The stream that a creation has made.
sub create
{
	my ($path, $body) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return expect(201, "a creation among $path", 'POST', $path, $body)->{json}{id} // 'none';
}

sub query
{
	my ($sql) = @_;
	my ($out, $err);
	IPC::Run::run([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-h', $folder, '-U', 'postgres', '-d', 'shop', '-c', $sql ],
		'>', \$out, '2>', \$err)
	  or die "$sql: $err";
	chomp $out;
	return $out;
}

# in_parallel(NUMBER, CODE): CODE(1 .. NUMBER) in processes of their own; what they return.
sub in_parallel
{
	my ($number, $code) = @_;
	my @pipes = map {
		my $n = $_;
		my $pid = open(my $pipe, '-|') // die "cannot fork: $!";
		if (!$pid)
		{
			$http = HTTP::Tiny->new(timeout => 60);
			print encode_json([ $code->($n) ]);
			close STDOUT;
			POSIX::_exit(0);
		}
		$pipe;
	} 1 .. $number;
	return map { local $/; my $said = <$_>; @{ decode_json($said) } } @pipes;
}

# ---- customers ----

my $front = expect(200, 'the front page', 'GET', '/', undef, Accept => 'text/html');
like($front->{content}, qr{<a href="/orders/Order-\d+">}, 'has orders of the history');

my $answer = expect(201, 'a customer', 'POST', '/customers', { name => 'Ada <b>Novak</b>', country => 'CH' },
	'X-Correlation-ID' => 'request-1');
my $customer = $answer->{json}{id};
like($customer, qr/^Customer-\d+$/, 'has a name');
is($answer->{headers}{'x-correlation-id'}, 'request-1', 'the request keeps its correlation id');
is($answer->{headers}{location}, "/customers/$customer?after=$answer->{json}{position}", 'the answer says where to look');
$answer = expect(200, 'there', 'GET', $answer->{headers}{location});
is($answer->{json}{name}, 'Ada <b>Novak</b>', 'the customer is');
is($answer->{json}{tier}, 'bronze', 'bronze');
ok(!$answer->{json}{may_be_stale}, 'for certain');
$answer = expect(200, 'as a page', 'GET', "/customers/$customer", undef, Accept => 'text/html,*/*');
like($answer->{content}, qr{<h1>Ada &lt;b&gt;Novak&lt;/b&gt;</h1>}, 'it is escaped');

expect(201, 'a better tier', 'POST', "/customers/$customer/tier", { tier => 'gold', expected_version => 1 });
expect(409, 'not twice', 'POST', "/customers/$customer/tier", { tier => 'gold' });

# ---- an order ----

my $lamp = create('/products',
	{ name => 'Amber Lamp', department => 'Office', description => 'Glows.', price_cents => 1000 });
my $mug = create('/products',
	{ name => 'Tall Mug', department => 'Kitchen', description => 'Holds tea.', price_cents => 250 });
is(ask('GET', '/products?search=ambre')->{json}[0]{product_id}, $lamp, 'a product is found, misspelt');
my $order = create('/orders', { customer_id => $customer });

$answer = expect(201, 'an item', 'POST', "/orders/$order/items",
	{ product_id => $lamp, quantity => 2, expected_version => 1 }, 'X-Correlation-ID' => 'request-2');
is($answer->{json}{version}, 2, 'is version 2');
expect(201, 'a new price', 'POST', "/products/$lamp/price", { price_cents => 1200 });
expect(201, 'one more', 'POST', "/orders/$order/items", { product_id => $lamp });
expect(201, 'another item', 'POST', "/orders/$order/items", { product_id => $mug, quantity => 4 });
is(join(' ', map { "$_->{stream} $_->{version} $_->{type}" } @{ ask('GET', '/correlations/request-2')->{json} }),
	"$order 2 OrderItemAdded", 'the events of a request');

sub lines_of
{
	my ($of) = @_;
	my $shown = ask('GET', "/orders/$of")->{json};
	return join(', ', $shown->{status}, "version $shown->{version}", $shown->{total_cents},
		map { "$_->{quantity} x $_->{name} at $_->{price_cents}" } @{ $shown->{lines} });
}
is(lines_of($order), 'open, version 4, 4000, 3 x Amber Lamp at 1000, 4 x Tall Mug at 250',
	'the order, at the price that it began with');

# Upon a version that is not the last one, nothing happens.
my $head = query('SELECT es_head()');
for my $stale (
	[ 'POST', "/orders/$order/items", { product_id => $mug, expected_version => 3 } ],
	[ 'POST', "/orders/$order/shipment", { carrier => 'Post', parcel => 'P1', expected_version => 3 } ],
	[ 'DELETE', "/orders/$order?expected_version=3" ],
	[ 'DELETE', "/orders/$order/items/$mug?expected_version=5" ])
{
	$answer = expect(409, "$stale->[0] $stale->[1] upon another version", @$stale);
	is($answer->{json}{current_version}, 4, 'says which it has');
}

# What the rules refuse.
for my $refused (
	[ 'no product', 'POST', "/orders/$order/items", { product_id => 'Product-999' } ],
	[ 'pieces', 'DELETE', "/orders/$order/items/$mug?quantity=5" ],
	[ 'pieces', 'DELETE', "/orders/$order/items/Product-1" ],
	[ 'order is open', 'POST', "/orders/$order/completion" ],
	[ 'order is open', 'POST', "/orders/$order/refunds", { amount_cents => 1, reason => 'damaged' } ],
	[ 'no customer', 'POST', '/orders', { customer_id => 'Customer-999' } ])
{
	my ($why, @request) = @$refused;
	$answer = expect(409, "refused: $request[0] $request[1]", @request);
	like($answer->{json}{detail}, qr/$why/, "because: $why");
}

# What is not understood.
my %item = (product_id => $mug);
for my $bad (
	[ 'no body', 'POST', '/customers' ],
	[ 'no JSON', 'POST', '/customers', '{"name": ' ],
	[ 'no country', 'POST', '/customers', { name => 'Ada' } ],
	[ 'no such country', 'POST', '/customers', { name => 'Ada', country => 'ch' } ],
	[ 'no name', 'POST', '/customers', { name => '  ', country => 'CH' } ],
	[ 'a zero byte', 'POST', '/customers', '{"name": "A\u0000a", "country": "CH"}' ],
	[ 'half a character', 'POST', '/customers', '{"name": "A\ud800a", "country": "CH"}' ],
	[ 'half a character in a name', 'POST', '/customers', '{"name": "Ada", "country": "CH", "\ud800": 1}' ],
	[ 'a number for a text', 'POST', '/customers', { name => 5, country => 'CH' } ],
	[ 'too long', 'POST', '/customers', { name => 'a' x 201, country => 'CH' } ],
	[ 'one field more', 'POST', '/customers', { name => 'Ada', country => 'CH', tier => 'gold' } ],
	[ 'no such tier', 'POST', "/customers/$customer/tier", { tier => 'iron' } ],
	[ 'nothing', 'POST', "/orders/$order/items", { %item, quantity => 0 } ],
	[ 'a fraction', 'POST', "/orders/$order/items", { %item, quantity => 1.5 } ],
	[ 'text', 'POST', "/orders/$order/items", { %item, quantity => '2' } ],
	[ 'no number at all', 'POST', "/orders/$order/items", qq({"product_id": "$mug", "quantity": NaN}) ],
	[ 'too many', 'POST', "/orders/$order/items", { %item, quantity => 1001 } ],
	[ 'less than no version', 'POST', "/orders/$order/items", { %item, expected_version => -1 } ],
	[ 'a version beyond numbers', 'POST', "/orders/$order/items",
		qq({"product_id": "$mug", "expected_version": 9223372036854775808}) ],
	[ 'no order', 'POST', "/orders/$customer/items", \%item ],
	[ 'no number', 'GET', '/orders/Order-x' ],
	[ 'no reason', 'DELETE', "/orders/$order?reason=" ],
	[ 'no status', 'GET', '/orders?status=lost' ],
	[ 'not so many', 'GET', '/orders?limit=501' ],
	[ 'a position to come', 'GET', "/customers/$customer?after=9223372036854775807" ],
	[ 'no key', 'POST', "/orders/$order/items", \%item, 'Idempotency-Key' => 'x' ])
{
	my ($what, @request) = @$bad;
	expect(422, "not understood: $what", @request);
}
expect(404, "not there: $_->[1]", @$_)
  for (
	[ 'GET', '/orders/Order-999999' ], [ 'GET', '/customers/Customer-999' ], [ 'GET', '/products/Product-999' ],
	[ 'DELETE', '/orders/Order-999999' ], [ 'DELETE', '/products/Product-999' ],
	[ 'POST', '/orders/Order-999999/items', \%item ], [ 'POST', '/customers/Customer-999/tier', { tier => 'gold' } ],
	[ 'GET', '/nothing' ]);
is(query('SELECT es_head()'), $head, 'nothing of that has left a trace');

# On with the order.
expect(200, 'two mugs less', 'DELETE', "/orders/$order/items/$mug?quantity=2&expected_version=4");
expect(200, 'no lamps', 'DELETE', "/orders/$order/items/$lamp");
is(lines_of($order), 'open, version 6, 500, 2 x Tall Mug at 250', 'what is left');
expect(201, 'shipped', 'POST', "/orders/$order/shipment", { carrier => 'Bike', parcel => 'P900002', expected_version => 6 });
expect(409, 'closed', 'POST', "/orders/$order/items", \%item);
$answer = expect(201, 'completed', 'POST', "/orders/$order/completion", undef);
my $completed = $answer->{json}{position};
my $shown = expect(200, 'the customer', 'GET', "/customers/$customer?after=$completed")->{json};
is("$shown->{completed} $shown->{spent_cents}", '1 500', 'has paid');
is($shown->{orders}[0]{status}, 'completed', 'and has a completed order');
expect(409, 'too much of a refund', 'POST', "/orders/$order/refunds", { amount_cents => 501, reason => 'damaged' });
expect(201, 'a refund', 'POST', "/orders/$order/refunds", { amount_cents => 200, reason => 'damaged' });
expect(409, 'too much of a second', 'POST', "/orders/$order/refunds", { amount_cents => 301, reason => 'damaged' });
$answer = expect(201, 'the rest', 'POST', "/orders/$order/refunds", { amount_cents => 300, reason => 'damaged' });
my $today = query(<<"SQL");
SELECT (created_at AT TIME ZONE 'UTC')::date FROM eventstore.events WHERE position = $answer->{json}{position}
SQL
my ($day) = grep { $_->{day} eq $today } @{ ask('GET', "/sales?after=$answer->{json}{position}")->{json}{days} };
ok($day && $day->{refunded_cents} >= 300, 'is among the sales of today');
$answer = expect(200, 'its page', 'GET', "/orders/$order", undef, Accept => 'text/html');
like($answer->{content}, qr/OrderRefunded.*amount_cents: 300/s, 'shows its history');

my $other = create('/orders', { customer_id => $customer });
expect(201, 'an item', 'POST', "/orders/$other/items", { product_id => $lamp });
is(lines_of($other), 'open, version 2, 1200, 1 x Amber Lamp at 1200', 'another order has the new price');
expect(200, 'cancelled', 'DELETE', "/orders/$other?reason=too%20late&expected_version=2");
is(lines_of($other), 'cancelled, version 3, 1200, 1 x Amber Lamp at 1200', 'stays to be seen');
is(ask('GET', "/orders?customer_id=$customer&status=cancelled")->{json}[0]{order_id}, $other, 'in the list, too');

# ---- a read model that lags, or is stopped ----

query("SELECT es_pause_projection('customer_activity_async')");
my $newest = ask('POST', "/customers/$customer/tier", { tier => 'silver' })->{json}{position};
$shown = expect(200, 'while the read model stands still', 'GET', "/customers/$customer?after=$newest")->{json};
is("$shown->{tier} $shown->{may_be_stale}", 'gold 1', 'the page is old, and says so');
like(ask('GET', "/customers/$customer?after=$newest", undef, Accept => 'text/html')->{content},
	qr/a little out of date/, 'in words as well');
expect(503, 'a customer whom it has not seen', 'GET',
	'/customers/' . create('/customers', { name => 'Bo', country => 'SE' }));
query("SELECT es_resume_projection('customer_activity_async')");
$shown = expect(200, 'when it goes on', 'GET', "/customers/$customer?after=$newest")->{json};
is("$shown->{tier} $shown->{may_be_stale}", 'silver 0', 'the page is new');

# ---- many at once ----

my $shared = create('/orders', { customer_id => $customer });
my @answers = in_parallel(8, sub {
	map { ask('POST', "/orders/$shared/items", { product_id => $mug })->{json}{version} // 0 } 1 .. 4 });
is(join(' ', sort { $a <=> $b } @answers), join(' ', 2 .. 33), 'adding to one order, all come in turn');
is(lines_of($shared), 'open, version 33, 8000, 32 x Tall Mug at 250', 'and the order has it all');

@answers = in_parallel(8, sub {
	my $got = ask('DELETE', "/orders/$shared/items/$mug?quantity=1&expected_version=33");
	"$got->{status} " . ($got->{json}{version} // $got->{json}{current_version}) });
is(join(', ', sort @answers), join(', ', '200 34', ('409 34') x 7), 'upon one version, one comes first');

my $key = '0192d3a4-0000-7000-8000-000000000001';
@answers = in_parallel(8, sub {
	my $got = ask('POST', "/orders/$shared/items", { product_id => $lamp }, 'Idempotency-Key' => $key);
	"$got->{status} $got->{json}{version}" });
is(join(', ', @answers), join(', ', ('201 35') x 8), 'with one key, all are told the same');
expect(422, 'the key of another command', 'DELETE', "/orders/$shared", undef, 'Idempotency-Key' => $key);
$key = '0192d3a4-0000-7000-8000-000000000002';
@answers = in_parallel(8, sub {
	ask('POST', '/orders', { customer_id => $customer }, 'Idempotency-Key' => $key)->{json}{id} });
my %distinct = map { $_ => 1 } @answers;
is(scalar(keys %distinct), 1, 'with one key, one order is created');
is(lines_of($answers[0]), 'open, version 1, 0', 'which is there');

# A product is taken out of the catalogue while it goes into many orders.
my $rare = create('/products',
	{ name => 'Rare Vase', department => 'Gifts', description => 'The last ones.', price_cents => 9900 });
my @orders = map { create('/orders', { customer_id => $customer }) } 1 .. 7;
@answers = in_parallel(8, sub {
	my ($n) = @_;
	my @said;
	if ($n == 8)
	{
		# When some have it.
		wait_until(sub { query("SELECT count(*) > 10 FROM shop.order_line JOIN shop.orders USING (order_id)
			CROSS JOIN generate_series(1, quantity) WHERE product_id = '$rare'") eq 't' }, 'the orders');
		return ask('DELETE', "/products/$rare")->{status};
	}
	for (1 .. 500)
	{
		push @said, ask('POST', "/orders/$orders[$n - 1]/items", { product_id => $rare })->{status};
		last if $said[-1] != 201;
	}
	return $said[-1] });
is(join(' ', sort @answers), '200 409 409 409 409 409 409 409', 'a product is deleted, and refused from then on');
is(query(<<"SQL"), 't', 'it went into no order after it was deleted');
SELECT max(position) FILTER (WHERE type = 'OrderItemAdded') < max(position) FILTER (WHERE type = 'ProductDeleted')
FROM eventstore.events WHERE stream = '$rare' OR data->>'product_id' = '$rare'
SQL

# Connections are lost all the time.  Who is told 503 asks again, with the same key.
$order = create('/orders', { customer_id => $customer });
my $done = "$base.done";
my ($killed, @counts) = in_parallel(7, sub {
	my ($n) = @_;
	if ($n == 1)
	{
		my $count = 0;
		$count += query(<<'SQL') until -e "$done.2" && -e "$done.7";
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE query ~ '(es_append|COMMIT)' AND pid <> pg_backend_pid() AND backend_type = 'client backend'
SQL
		return $count;
	}
	my $count = 0;
	for my $m (1 .. 15)
	{
		my $name = sprintf '0192d3a4-0000-7000-8001-%06d%06d', $n, $m;
		my $got;
		do
		{
			$got = ask('POST', "/orders/$order/items", { product_id => $mug }, 'Idempotency-Key' => $name);
		} while $got->{status} == 503;
		$count++ if $got->{status} == 201;
	}
	append_to_file("$done.$n", '');
	return $count });
cmp_ok($killed, '>', 0, "$killed connections were ended");
is(join(' ', @counts), join(' ', (15) x 6), 'each command is told that it is done');
is(lines_of($order), 'open, version 91, 22500, 90 x Tall Mug at 250', 'and was done once');

# ---- what is in the database ----

is(query(<<'SQL'), '0', 'every event since the history names its request');
SELECT count(*) FROM eventstore.events
WHERE metadata->>'correlation_id' IS NULL AND created_at > now() - interval '1 day'
SQL
is(query(<<'SQL'), 't', 'and no other');
SELECT count(*) = count(DISTINCT metadata->>'correlation_id') FROM eventstore.events WHERE metadata IS NOT NULL
SQL
my $checked;
ok(IPC::Run::run(
		[   'psql', '-Xq', '-h', $folder, '-U', 'postgres', '-d', 'shop',
			'-f', "$examples/check.sql"
		],
	'>&', \$checked), 'the read models are what the log says')
  or diag($checked);

# ---- Ctrl-C ----

# Processes that work below the shop's folder.
sub at_work
{
	return grep { (readlink("$_/cwd") // '') =~ m{^\Q$folder\E(/|$)} } glob('/proc/[0-9]*');
}
cmp_ok(scalar(at_work()), '>', 3, 'there is a server, and the application');
kill 'INT', -$shop;
waitpid($shop, 0);
$shop = 0;
is($? >> 8, 130, 'Ctrl-C closes the shop');
is(scalar(at_work()), 0, 'nobody works there any more');
ok(!-e $folder, 'and nothing is left');
unlike(slurp_file("$base.err"), qr/Traceback|Error/, 'the application has not complained');

done_testing();
