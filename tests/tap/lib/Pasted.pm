# Pasted.pm
#   A document's examples, run as by a reader who pastes them one after another.
#
# What is printed under an example is what it must print.  The convention:
#
#   * A ```text block directly under an example holds its output, as `psql -q` prints it.
#   * Everything that an SQL example prints stands there, errors and notices too.  Only the
#     empty answers of functions that return void are left out.  An SQL example without a
#     ```text block prints nothing.
#   * A shell example must succeed; its output is compared if it is shown.
#   * A uuid may be any uuid, and a date any date.  Everything else, positions too, is compared
#     letter by letter: a document begins with a new database.
#
# Each SQL example has a psql of its own, so none may count on another one's session.

package Pasted;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use IPC::Run;

our @EXPORT = qw(blocks_of paste broken_links missing_contents);

# ---- a document and its parts ----

# The fenced blocks of a text: language, text, number of the first line, and output, the text
# of the ```text block under it.
sub blocks_of
{
	my ($document) = @_;
	my (@blocks, $open, $above);
	my $number = 0;

	for my $line (split /^/, $document)
	{
		$number++;
		if ($line =~ /^```(\w*)\n/ && !$open)
		{
			$open = { language => $1, text => '', line => $number };
		}
		elsif ($line eq "```\n")
		{
			if ($open->{language} eq 'text' && $above)
			{
				$above->{output} = $open->{text};
				undef $above;
			}
			else
			{
				push @blocks, $above = $open;
			}
			undef $open;
		}
		elsif ($line =~ /```/)
		{
			die "line $number: three backticks that neither open nor close a block";
		}
		elsif ($open)
		{
			$open->{text} .= $line;
		}
		elsif ($line =~ /\S/)
		{
			undef $above;
		}
	}
	die "line $open->{line}: a block without end" if $open;
	return @blocks;
}

# What stands outside of the blocks.
sub prose
{
	my ($document) = @_;
	return $document =~ s/^```.*?^```\n//msgr;
}

# The sections of a document: a list of pairs, the link that leads there, as GitHub makes it,
# and the heading.
sub sections
{
	my ($document) = @_;
	my %seen;

	return map {
		my $link = '#' . (lc($_) =~ s/[^\w\s-]//gr =~ s/\s/-/gr);
		my $before = $seen{$link}++;
		[ $before ? "$link-$before" : $link, $_ ];
	} prose($document) =~ /^##+ (.*)$/mg;
}

# The links of a document in a folder that lead nowhere.
sub broken_links
{
	my ($document, $folder) = @_;
	my %there = map { $_->[0] => 1 } sections($document);

	return grep { !/^https?:/ && !$there{$_} && (/^#/ || !-e "$folder/" . s/#.*//r) }
	  prose($document) =~ /\]\(([^)\s]+)\)/g;
}

# The headings that no link in the document leads to.
sub missing_contents
{
	my ($document) = @_;
	return map { $_->[1] } grep { index($document, "]($_->[0])") < 0 } sections($document);
}

# ---- running the blocks ----

# What differs from run to run.
sub constant
{
	my ($output) = @_;
	$output =~ s/\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b/00000000-0000-0000-0000-000000000000/g;
	$output =~ s/\b\d{4}-\d\d-\d\d\b/2000-01-01/g;
	$output =~ s/[ \n]+\z//;
	return $output =~ s/ +$//mgr;
}

# What a reader's psql prints for an example.
sub run_sql
{
	my ($node, $dbname, $block) = @_;
	my $void = join('|', split(/\n/, $node->safe_psql($dbname,
		q{SELECT DISTINCT proname FROM pg_proc WHERE prorettype = 'void'::regtype})));
	my $output = '';

	IPC::Run::run([ 'psql', '-Xq', '-P', 'pager=off', '-d', $node->connstr($dbname) ],
		'<', \$block->{text}, '>&', \$output);
	return $output =~ s/^ +(?:$void) *\n-+\n *\n\(1 row\)\n\n//mgr;
}

# What a reader's shell prints in a folder, if that is shown or if it fails.
sub run_shell
{
	my ($node, $dbname, $block, $folder) = @_;
	local @ENV{qw(PGHOST PGPORT PGDATABASE)} = ($node->host, $node->port, $dbname);
	my $output = '';

	return "$output\nexit status " . ($? >> 8)
	  unless IPC::Run::run([ 'bash', '-ec', $block->{text} ], '<', \undef, '>&', \$output,
		init => sub { chdir $folder or die "cannot enter $folder: $!" });
	return $block->{output} ? $output : '';
}

# What the server says to what a reader puts into postgresql.conf; it takes effect.
sub run_conf
{
	my ($node, undef, $block) = @_;
	my $output = '';

	$node->append_conf('postgresql.conf', $block->{text});
	return $output
	  unless IPC::Run::run([ 'postgres', '-D', $node->data_dir, '-C', 'port' ], '>&', \$output);
	$node->restart;
	return '';
}

my %run = (sql => \&run_sql, sh => \&run_shell, conf => \&run_conf);

# paste(NODE, DATABASE, DOCUMENT, FOLDER, TEXT => FUNCTION...): runs all blocks of a document
# that lies in a folder; what is wrong with them, a string each.
#
# A block with the whole TEXT of one that is listed is not run; its FUNCTION is called instead.
sub paste
{
	my ($node, $dbname, $document, $folder, %instead) = @_;
	my @wrong;

	for my $block (blocks_of($document))
	{
		my $what = "line $block->{line}:\n$block->{text}";

		if (my $function = delete $instead{ $block->{text} })
		{
			$function->();
		}
		elsif (my $run = $run{ $block->{language} })
		{
			my $output = constant($run->($node, $dbname, $block, $folder));
			my $expected = constant($block->{output} // '');
			push @wrong, "${what}should print:\n$expected\nbut prints:\n$output\n" if $output ne $expected;
		}
		else
		{
			push @wrong, "${what}is neither run nor listed";
		}
	}
	return @wrong, map { "is listed, but is not there: $_" } sort keys %instead;
}

1;
