# The README's reference says what the catalog says: every public function with
# its arguments and defaults, the type, the views and the settings, and nothing
# else.  The version stands in the control file alone.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use EventStore;
use PostgreSQL::Test::Utils;
use Test::More;

my $root = "$FindBin::RealBin/../..";
my $readme = slurp_file("$root/README.md");
my ($reference) = $readme =~ /^## Reference\n(.*)^## License/ms;
ok($reference, 'the README has a reference');

my $node = new_node('main');

sub lines { return join("\n", sort @_) }

sub catalog { return lines(split(/\n/, $node->safe_psql('postgres', shift))) }

# What stands first in a block of SQL is the signature it documents.
my @signatures = $reference =~ /^```sql\n(es_\w+\(.*\))$/mg;
is( lines(grep { !/^es_event\(/ } @signatures),
	catalog(q{SELECT proname || '(' || pg_get_function_arguments(p.oid) || ')'
		FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass
		WHERE d.deptype = 'e' AND pronamespace = 'public'::regnamespace}),
	'functions');
is( lines(grep { /^es_event\(/ } @signatures),
	catalog(q{SELECT 'es_event(' || string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum) || ')'
		FROM pg_attribute WHERE attrelid = 'es_event'::regclass}),
	'the type es_event');

# The extension's own members.
my $member = q{d.deptype = 'e' AND d.refclassid = 'pg_extension'::regclass
	AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'eventstore')};

my ($views) = $reference =~ /^### Views\n(.*?)^###/ms;
is( lines($views =~ /^`(\w+)`/mg),
	catalog(q{SELECT viewname FROM pg_views WHERE schemaname = 'eventstore'}),
	'views');

my ($settings) = $reference =~ /^### Settings\n(.*?)^###/ms;
is( lines($settings =~ /^(`eventstore\.\w+` \| \S+)/mg),
	catalog(q{SELECT format('`%s` | %s', name, coalesce('`' || nullif(current_setting(name), '') || '`', 'empty'))
		FROM pg_settings WHERE name LIKE 'eventstore.%'}),
	'settings and their defaults');

is( catalog(qq{SELECT p.proname FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass
		WHERE $member AND obj_description(p.oid, 'pg_proc') IS NULL}),
	'', 'every function has a comment');
is( catalog(qq{SELECT c.relname FROM pg_class c JOIN pg_depend d ON d.objid = c.oid AND d.classid = 'pg_class'::regclass
		WHERE $member AND c.relkind IN ('r', 'v', 'S') AND obj_description(c.oid, 'pg_class') IS NULL}),
	'', 'every table, view and sequence has a comment');

my ($meta_version) = slurp_file("$root/META.json") =~ /"version": "([0-9.]+)",\n   "maintainer"/;
is($meta_version, $node->safe_psql('postgres', q{SELECT extversion FROM pg_extension WHERE extname = 'eventstore'}),
	'META.json has the version of the control file');

finish($node);
