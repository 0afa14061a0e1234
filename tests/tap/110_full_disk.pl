# A full disk: where the log is, and where the WAL is.
#
# An append that finds no room fails, with 53100 or, if it is the WAL's disk, together with
# the server; what was acknowledged before stays, nothing else is there, and other
# databases go on.  A scheduler that cannot record the head ends and comes back by itself
# when there is room.  Afterwards every acknowledged event is where it was said to be, no
# position has come twice, versions have no gaps, and indexes agree with tables.
#
# Disks of a few megabytes are tmpfs mounts.  An ordinary user may make such in a user
# namespace of his own, if the system allows; otherwise all of this is skipped, and what
# is in the way is said.

use strict;
use warnings FATAL => 'all';

sub lines_of
{
	open(my $file, '<', $_[0]) or return;
	return <$file>;
}

# What there is that keeps an ordinary user from making a namespace, or from mounting there.
sub obstacles
{
	my %forbids = (
		'kernel/unprivileged_userns_clone' => 0,
		'user/max_user_namespaces' => 0,
		'kernel/apparmor_restrict_unprivileged_userns' => 1);
	my @found = map { s{/}{.}r . " = $forbids{$_}" }
	  grep { join('', lines_of("/proc/sys/$_")) eq "$forbids{$_}\n" } sort keys %forbids;
	my @mounts = map { (split / /)[4] } lines_of('/proc/self/mountinfo');

	push @found, 'a chroot, in which the kernel makes no user namespaces'
	  if @mounts && !grep { $_ eq '/' } @mounts;
	push @found, 'a seccomp filter, such as a container has' if grep { /^Seccomp:\s+2$/ } lines_of('/proc/self/status');
	return @found ? join('; ', @found) : 'nothing that is known to forbid it';
}

# Starts this file anew in a namespace with the disks, as the same user as before: the
# mounts are made by the namespace's root, and the server refuses to be run by a root.
BEGIN
{
	if (!defined $ENV{EVENTSTORE_DISKS})
	{
		my $mount = <<'SH';
set -e
for disk in data wal; do
    mkdir -p "$EVENTSTORE_DISKS/$disk"
    mount -t tmpfs -o size=48m,mode=0700 none "$EVENTSTORE_DISKS/$disk"
done
exec unshare --user --map-user="$0" --map-group="$1" -- "${@:2}"
SH
		my ($group) = split / /, $);
		my @command = (
			qw(unshare --user --map-root-user --mount -- bash -c), $mount, $>, $group);

		$ENV{EVENTSTORE_DISKS} = ($ENV{TESTDIR} // '.') . '/disks';
		open(my $try, '-|', 'sh', '-c', 'exec "$@" 2>&1', 'sh', @command, 'true')
		  or die "could not run a shell: $!";
		my @said = <$try>;
		exec @command, $^X, $0 or die "could not run unshare: $!" if close $try;
		chomp(my $said = $said[-1] // 'unshare failed');
		print "1..0 # SKIP no tmpfs can be mounted here: $said (found: ", obstacles(), ")\n";
		exit 0;
	}
}

use FindBin;
use lib "$FindBin::RealBin/lib";

use EventStore;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $data_disk = "$ENV{EVENTSTORE_DISKS}/data";
my $wal_disk = "$ENV{EVENTSTORE_DISKS}/wal";

# ---- disks ----

# Leaves so much room on a disk.
sub fill_disk
{
	my ($disk, $megabytes) = @_;
	my ($answer) = run_command([ 'df', '--output=avail', '-B1K', $disk ]);
	my ($free) = $answer =~ /(\d+)$/;

	PostgreSQL::Test::Utils::system_or_bail('dd', 'if=/dev/zero', "of=$disk/ballast", 'bs=1K',
		'status=none', 'count=' . ($free - 1024 * $megabytes));
	return;
}

sub give_back
{
	my ($disk) = @_;
	return unlink("$disk/ballast") || die "$disk/ballast: $!";
}

# Begins a new server log.  The old one may tell of a full disk, and of nothing else.
sub next_log
{
	my ($node, $what) = @_;
	my @bad = grep { /PANIC|TRAP:|\bXX\w{3}\b/ && !/No space left on device/ }
	  grep { !/startup XX000 (?:FATAL:  checkpoint request failed|HINT:)/ }
	  split /\n/, slurp_file($node->logfile);
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is(join("\n", @bad), '', "$what: the log tells of a full disk and of nothing else");
	$node->rotate_logfile;
	return;
}

# ---- clients ----

# What they were told, over all rounds.
my (%committed, %unknown);    # node → token → "position|version"; node → token
my %greatest;                 # node → position

# Appends of some kilobytes that do not compress.  For each the SQLSTATE is printed; if
# there is none, the answer was a lost connection.
sub writer_script
{
	my ($name, $appends) = @_;
	return "\\set ON_ERROR_STOP off\n" . join '', map {
		my $hashes = $_ % 2 ? 40 : 200;
		<<"SQL";
\\echo try $name.$_
SELECT 'ok', position, version
FROM es_append('Load-' || $_ % 5, 'Tick', (
    SELECT jsonb_build_object('t', '$name.$_', 'x', string_agg(md5(random()::text || n), ''))
    FROM generate_series(1, $hashes) n));
\\echo end :SQLSTATE
SQL
	} 1 .. $appends;
}

# Waits for the end of writers; how often each SQLSTATE came.
sub finish_writers
{
	my ($node, @writers) = @_;
	my $name = $node->name;
	my %count;

	for my $writer (@writers)
	{
		my ($token, $answer);
		for my $line (finish_client($writer))
		{
			if ($line =~ /^try (\S+)/)
			{
				($token, $answer) = ($1, undef);
				$unknown{$name}{$token} = 1;
			}
			elsif ($line =~ /^ok\|(\d+)\|(\d+)$/)
			{
				$answer = "$1|$2";
				$greatest{$name} = $1 if $1 > ($greatest{$name} // 0);
			}
			elsif ($line =~ /^end (\w{5})$/)
			{
				$count{$1}++;
				delete $unknown{$name}{$token};
				$committed{$name}{$token} = $answer if $1 eq '00000';
			}
		}
	}
	return \%count;
}

# ---- afterwards ----

sub check_log
{
	my ($node, $dbname, $what) = @_;
	my %expected = %{ $committed{ $node->name } };
	my %may = %{ $unknown{ $node->name } };
	my @errors;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	for my $line (split /\n/, one($node, <<'SQL', $dbname))
SELECT data->>'t', position, version FROM eventstore.events WHERE stream LIKE 'Load-%'
SQL
	{
		my ($token, $place) = split /\|/, $line, 2;
		my $promised = delete $expected{$token};

		push @errors, "$token: $place" if !delete $may{$token} && ($promised // '') ne $place;
	}
	push @errors, map { "$_ is lost" } keys %expected;
	is(join("\n", splice(@errors, 0, 10)), '', "$what: the log is what clients were told");
	is(broken_streams($node, $dbname), '0', "$what: versions have no gaps");
	is(one($node, 'SELECT count(*) FROM es_read_all(0, NULL)', $dbname),
		one($node, 'SELECT count(*) FROM eventstore.event_log', $dbname),
		"$what: everything can be read");
	nothing_in_flight($node, "$what: nobody holds the head back", $dbname);
	cmp_ok(one($node, q{SELECT position FROM es_append('After', 'T')}, $dbname),
		'>', $greatest{ $node->name }, "$what: new positions are above all before");
	$node->command_ok(
		[ 'pg_amcheck', '-d', $dbname, qw(-s eventstore --heapallindexed --parent-check) ],
		"$what: indexes agree with tables");
	return;
}

sub create_log
{
	my ($node, $dbname) = @_;
	one($node, 'CREATE EXTENSION eventstore; CREATE EXTENSION amcheck', $dbname);
	one($node, <<'SQL', $dbname);
SELECT es_append('Before-' || n, 'Tick') FROM generate_series(0, 4) n;
SQL
	return;
}

# ---- the log's disk ----

my $node = new_node('data', conf => <<'CONF');
autovacuum = off
max_connections = 20
CONF
mkdir "$data_disk/space" or die "$data_disk/space: $!";
one($node, "CREATE TABLESPACE space LOCATION '$data_disk/space'");
one($node, 'CREATE DATABASE log TABLESPACE space');
create_log($node, 'log');
my $epoch = one($node, 'SELECT es_epoch()', 'log');
my $first_scheduler = wait_for_scheduler($node, 'log');
fill_disk($data_disk, 3);

my $reader = client($node, 'reader', reader_script(0, 20_000, "event_id"), 'log');
my $count = finish_writers($node, map { client($node, "d$_", writer_script("d$_", 600), 'log') } 1 .. 3);
is(join(' ', sort keys %$count), '00000 53100', 'appends succeed, or find no room');
cmp_ok($count->{'00000'}, '>', 100, 'there was room at first');
cmp_ok($count->{53100}, '>', 100, 'and none later');

# What needs no room works.
is(one($node, q{SELECT count(*) FROM es_read_all(0, NULL) WHERE stream LIKE 'Load-%'}, 'log'),
	scalar(keys %{ $committed{data} }), 'all that was acknowledged can be read without room');
is(one($node, 'SELECT head = handed_out FROM eventstore.status', 'log'), 't',
	'failed appends do not hold the head back');
is(one($node, q{SELECT version FROM es_append('Other', 'T')}), '1',
	'a log on another disk takes appends');

# A transaction of which one append has found no room, and the others have.
my $session = open_session($node, 'log');
my $large = q{SELECT * FROM es_append('Large', 'T',
	(SELECT jsonb_agg(md5(n::text)) FROM generate_series(1, 20000) n))};
$session->query_safe('BEGIN');
my $small = session_error($session, q{SELECT * FROM es_append('Small', 'T')});
SKIP:
{
	skip 'not even a small event has room', 4 if $small ne '00000';
	$session->query_safe('SAVEPOINT s');
	is(session_error($session, $large), '53100', 'an append finds no room in a transaction');
	$session->query_safe('ROLLBACK TO s');
	is(session_error($session, 'COMMIT'), '00000', 'which goes back to a savepoint and commits');
	gives($node, q{SELECT string_agg(stream, ' ') FROM eventstore.events WHERE stream IN ('Small', 'Large')},
		'Small', 'what had room is there, and no more', 'log');
	nothing_in_flight($node, 'nobody holds the head back', 'log');
}
$session->quit;

# The scheduler needs room when the mark's old rows cannot be removed: an old snapshot
# keeps them, until their page is full.
$session = open_session($node, 'log');
$session->query_safe($_) for 'BEGIN ISOLATION LEVEL REPEATABLE READ', 'SELECT 1';
await($node, 'SELECT recorded_head = head FROM eventstore.status', 'the scheduler to keep up', 'log');
refused($node, 'UPDATE eventstore.mark SET moved_at = moved_at;' x 1000, '53100',
	'the page of the mark is full', dbname => 'log');
my $log_before = -s $node->logfile;
refused($node, $large, '53100', 'a failed append moves the head', dbname => 'log');
log_says($node, qr/eventstore scheduler 53100 ERROR/, 'the scheduler finds none either', $log_before);
my $head = one($node, 'SELECT es_head()', 'log');
cmp_ok(one($node, 'SELECT head FROM eventstore.mark', 'log'), '<', $head,
	'the scheduler has no room to record it');
$session->query_safe('COMMIT');
$session->quit;

give_back($data_disk);
await($node, "SELECT recorded_head >= $head FROM eventstore.status", 'the scheduler to come back', 'log');
isnt(wait_for_scheduler($node, 'log'), $first_scheduler, 'it is back when there is room, unaided');
check_log($node, 'log', 'room on the data disk');
$count = finish_writers($node, client($node, 'd4', writer_script('d4', 200), 'log'));
is($count->{'00000'}, 200, 'appends find room again');
$head = one($node, 'SELECT es_head()', 'log');
wait_until(sub { slurp_file($reader->{out}) =~ /^head $head$/m }, 'the reader');
$reader->{run}->kill_kill;
my @read = map { split / / } slurp_file($reader->{out}) =~ /^page (\S.*)$/mg;
my @there = split /\n/, one($node, <<'SQL', 'log');
SELECT position || '=' || event_id FROM eventstore.events ORDER BY position
SQL
my ($differs) = grep { $read[$_] ne $there[$_] } 0 .. ($#read < $#there ? $#read : $#there);
is(scalar(@read), scalar(@there), 'a reader has read as many events as there are');
is($differs, undef, 'the same, in order')
  or diag("$read[$differs] instead of $there[$differs]");

# A crash without room.  Recovery may need some; with room it succeeds.
fill_disk($data_disk, 2);
my @writers = map { client($node, "e$_", writer_script("e$_", 3000), 'log') } 1 .. 3;
wait_until(sub { slurp_file($writers[0]->{out}) =~ /end 53100/ }, 'a full disk');
$node->stop('immediate');
finish_writers($node, @writers);
next_log($node, 'full data disk');
$node->start(fail_ok => 1);
$node->stop('immediate', fail_ok => 1);
next_log($node, 'recovery on a full data disk');
give_back($data_disk);
$node->start;
check_log($node, 'log', 'crash with a full data disk');
gives($node, 'SELECT es_epoch()', $epoch, 'the epoch is the same', 'log');

# ---- the disk of the WAL ----

my $wal_node = new_node('wal', conf => <<'CONF',
autovacuum = off
max_connections = 20
wal_keep_size = 1GB     # so that nothing is recycled
min_wal_size = 2MB
max_wal_size = 4MB
CONF
	extension => 0,
	extra => [ qw(-E UTF8 --locale=C --wal-segsize=1), '-X', "$wal_disk/wal" ]);
create_log($wal_node, 'postgres');
my $wal_epoch = one($wal_node, 'SELECT es_epoch()');
$head = one($wal_node, 'SELECT es_head()');
fill_disk($wal_disk, 6);
@writers = map { client($wal_node, "w$_", writer_script("w$_", 5000)) } 1 .. 3;
wait_until(sub { !-e $wal_node->data_dir . '/postmaster.pid' }, 'the end of a server without WAL');
$wal_node->{_pid} = undef;
$count = finish_writers($wal_node, @writers);
cmp_ok($count->{'00000'}, '>', 100, 'until there was no room for WAL, appends were acknowledged');
like(slurp_file($wal_node->logfile), qr/PANIC:.*No space left on device/,
	'the server has stopped when there was none');

# Each start ends the same way, now or at the next appends, until there is room.
for my $try (1 .. 2)
{
	next_log($wal_node, "full disk of the WAL, start $try");
	next unless $wal_node->start(fail_ok => 1);
	finish_writers($wal_node, client($wal_node, "v$try", writer_script("v$try", 20)));
	$wal_node->stop('immediate', fail_ok => 1);
}
next_log($wal_node, 'full disk of the WAL');
give_back($wal_disk);
$wal_node->start;
check_log($wal_node, 'postgres', 'room for WAL');
gives($wal_node, 'SELECT es_epoch()', $wal_epoch, 'the epoch is the same');
cmp_ok(one($wal_node, 'SELECT es_head()'), '>', $head, 'the head has not fallen');
$count = finish_writers($wal_node, client($wal_node, 'u', writer_script('u', 200)));
is($count->{'00000'}, 200, 'appends go on');
$head = one($wal_node, 'SELECT es_head()');
comes_true($wal_node, "SELECT recorded_head >= $head FROM eventstore.status", 'the scheduler works');
check_log($wal_node, 'postgres', 'after more appends');

finish($node, $wal_node);
