# PgBouncer in transaction mode.
#
# Forty clients share five server connections, so that what a client does in one
# transaction and in the next is done by different backends, each with caches of its own,
# and by backends that have just served others.  Expected versions still hold, every event
# is read once and in order, and metadata that a client sets for its transaction is on no
# other's events.  The history checker finds nothing either.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use EventStore;
use PgBouncer;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => 'pgbouncer is not installed' unless find_pgbouncer();

my $clients = 40;
my $appends = 12;    # tried by each
my $streams = 8;
my $pool = 5;

my $node = new_node('pooled', conf => 'autovacuum = off');
my $pooled = start_pgbouncer($node, $pool);

# ---- writers ----

# Of a client: for each token, read a stream's version, then append with it, each in a
# transaction of its own.  It prints TOKEN SQLSTATE STREAM EXPECTED VERSION POSITION BACKEND.
# Every other client sets metadata, by SET LOCAL; the rest append without BEGIN.
sub writer_script
{
	my ($number) = @_;
	my ($begin, $commit) = ('', '');
	my $script = "\\set ON_ERROR_STOP off\n";

	($begin, $commit) = (<<"SQL", "COMMIT;\n") if $number % 2;
BEGIN;
SET LOCAL eventstore.metadata = '{"client": "c$number"}';
SQL
	for my $n (1 .. $appends)
	{
		my $token = "c$number.$n";
		my $stream = 'S-' . ($number + $n) % $streams;

		$script .= <<"SQL";
\\set version 0
\\set position 0
\\set backend 0
SELECT es_stream_version('$stream') AS expected \\gset
${begin}SELECT version, position, pg_backend_pid() AS backend
FROM es_append('$stream', 'Tick', '{"t": "$token"}', :expected) \\gset
\\set state :SQLSTATE
${commit}\\echo $token :state $stream :expected :version :position :backend
SQL
	}
	return $script;
}

my @readers = map { client($pooled, "reader$_", reader_script(0, 20_000, "data->>'t'")) } 1 .. 2;
my @writers = map { client($pooled, "writer$_", writer_script($_)) } 1 .. $clients;
my @told = map { [ split / / ] } map { finish_client($_) } @writers;

my %count;
$count{ $_->[1] }++ for @told;
is(scalar(@told), $clients * $appends, 'every client was told something each time');
is(join(' ', sort keys %count), '00000 SE001', 'that it has appended, or that another was first');
cmp_ok($count{'00000'} // 0, '>=', $streams, 'there are winners');
cmp_ok($count{SE001} // 0, '>', 0, 'and losers');

my @won = grep { $_->[1] eq '00000' } @told;
my (%winner, @errors);
for my $told (@won)
{
	my ($token, undef, $stream, $expected, $version) = @$told;
	push @errors, "$token expected $expected and got $version" if $version != $expected + 1;
	push @errors, "$token and $winner{$stream}{$version} both won"
	  if exists $winner{$stream}{$version};
	$winner{$stream}{$version} = $token;
}
is(join("\n", @errors), '', 'each version was won once, by who expected the one before');

# They have really shared connections.
my (%backends, %of_client);
for my $told (@won)
{
	my ($client) = $told->[0] =~ /^(\w+)/;
	$backends{ $told->[6] } = 1;
	$of_client{$client}{ $told->[6] } = 1;
}
cmp_ok(scalar(keys %backends), '<=', $pool, "no more than $pool backends have served them");
cmp_ok(scalar(grep { keys %$_ > 1 } values %of_client), '>', 0, 'clients were served by several');

# ---- what is in the log ----

is( one($node, <<'SQL'), join("\n", sort map { "$_->[0] $_->[2] $_->[4] $_->[5]" } @won),
SELECT concat_ws(' ', data->>'t', stream, version, position) AS line
FROM eventstore.events
ORDER BY concat_ws(' ', data->>'t', stream, version, position) COLLATE "C"
SQL
	'the log holds what the winners were told, and nothing else');
is(broken_streams($node), '0', 'versions have no gaps');
nothing_in_flight($node, 'nobody holds the head back');

my $foreign = <<'SQL';
SELECT count(*) FILTER (WHERE odd), count(*) FILTER (WHERE NOT odd),
       count(*) FILTER (WHERE metadata IS DISTINCT FROM
                              CASE WHEN odd THEN jsonb_build_object('client', client) END)
FROM (SELECT metadata, split_part(data->>'t', '.', 1) AS client,
             substr(split_part(data->>'t', '.', 1), 2)::int % 2 = 1 AS odd
      FROM eventstore.events WHERE data->>'t' ~ '^c') e
SQL
like(one($node, $foreign), qr/^[1-9]\d*\|[1-9]\d*\|0$/,
	'metadata set for a transaction is on its own events and on no others');

# ---- readers ----

my $head = one($node, 'SELECT es_head()');
my $log = one($node, <<'SQL');
SELECT string_agg(position || '=' || (data->>'t'), ' ' ORDER BY position) FROM eventstore.events
SQL
for my $reader (@readers)
{
	wait_until(sub { slurp_file($reader->{out}) =~ /=.*^head $head$/ms }, 'a reader');
	my @pages = slurp_file($reader->{out}) =~ /^page (\S.*)$/mg;
	is(join(' ', @pages), $log, 'a reader has got every event once, in order');
	cmp_ok(scalar(@pages), '>', 1, 'while they were written');
	$reader->{run}->kill_kill;
}

# The look at metadata would have seen a leak: a plain SET stays with the connection.
finish_client(client($pooled, 'careless', <<'SQL'));
SET eventstore.metadata = '{"client": "c1"}';
SQL
my ($victim) = finish_client(client($pooled, 'victim', <<'SQL'));
SELECT version FROM es_append('S-0', 'Tick', '{"t": "c2.leak"}');
SQL
ok($victim, 'after a client that has set its session, another appends');
like(one($node, $foreign), qr/\|1$/, 'and finds metadata on its event that are not its own');

# ---- the checker ----

my $output;
IPC::Run::run([ "$FindBin::RealBin/../checker/checker.py", '--dsn', $pooled->connstr('postgres'),
	'--writers', 30, '--readers', 6, '--seconds', 9, '--seed', 2 ],
	'>&', \$output);
note($output);
is($? >> 8, 0, 'the history checker finds nothing') or diag($output);
nothing_in_flight($node, 'nobody holds the head back afterwards');
is(broken_streams($node), '0', 'versions have no gaps after that');

finish($node);
