# PgBouncer.pm
#   A PgBouncer in transaction mode before a node, in a folder of its own.
#
# What start_pgbouncer() returns has host, port and connstr(DATABASE), as a node has, and can
# be given where only those are asked for: client().

package PgBouncer;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use EventStore;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

our @EXPORT = qw(find_pgbouncer start_pgbouncer);

my @running;

# The program, if it is installed: on Debian it is not in everybody's path.
sub find_pgbouncer
{
	my ($program) = grep { -x } map { "$_/pgbouncer" } split(/:/, $ENV{PATH}), '/usr/sbin';
	return $program;
}

# start_pgbouncer(NODE, SERVER CONNECTIONS A DATABASE)
sub start_pgbouncer
{
	my ($node, $pool) = @_;
	my $folder = PostgreSQL::Test::Utils::tempdir_short();
	my $port = PostgreSQL::Test::Cluster::get_free_port();
	my $user = one($node, 'SELECT current_user');

	append_to_file("$folder/users", qq("$user" ""\n));
	append_to_file("$folder/pgbouncer.ini", <<"INI");
[databases]
* = host=${\$node->host} port=${\$node->port}
[pgbouncer]
listen_addr =
listen_port = $port
unix_socket_dir = $folder
auth_type = trust
auth_file = $folder/users
pool_mode = transaction
default_pool_size = $pool
max_client_conn = 200
logfile = $PostgreSQL::Test::Utils::log_path/pgbouncer.log
INI
	push @running,
	  IPC::Run::start([ find_pgbouncer(), '-q', "$folder/pgbouncer.ini" ],
		'<', \undef, '>', "$folder/out", '2>', "$folder/err");
	wait_until(sub { -S "$folder/.s.PGSQL.$port" }, 'pgbouncer');
	return bless { host => $folder, port => $port, user => $user }, __PACKAGE__;
}

sub host { return $_[0]->{host} }

sub port { return $_[0]->{port} }

sub connstr
{
	my ($self, $dbname) = @_;
	return "host=$self->{host} port=$self->{port} dbname=$dbname user=$self->{user}";
}

END
{
	my $status = $?;    # which ending a process would change
	$_->kill_kill for @running;
	$? = $status;
}

1;
