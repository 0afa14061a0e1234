# Queries by chance, with functions of the store in FROM as nodes of the plan and as functions.
#
# Calls with arguments of all kinds stand in joins, LATERAL, sub-queries, CTEs, set operations
# and groups, under conditions and limits, with planner settings by chance, parameters and
# cursors.  Each query runs with eventstore.enable_scan on and off in one transaction; rows are the
# same, and so is the SQLSTATE of an error.  Where a query does not say the order, rows are
# sorted before they are compared; so that they are the same, LIMIT stands only where the order is
# known.  Appends are counted by what they leave.
#
# Queries come by hundreds, in turn to a log of which nothing is hidden and to one of which some is.
# A query depends on the seed and its number only.  EVENTSTORE_TEST_SEED; EVENTSTORE_TEST_QUERIES:
# how many, by default as many as take 10 seconds; EVENTSTORE_TEST_FIRST: the number of the first,
# to see one again.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use EventStore;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ReadModels;
use Test::More;
use Time::HiRes qw(time);

my $seed = parameter('SEED', 1);
my $queries = parameter('QUERIES', 0);
my $first = parameter('FIRST', 1);
my $seconds = 10;

# ---- the log ----

my $node = new_node('plans', conf => "jit = off\neventstore.scavenge_interval = 0");
my @databases = qw(postgres whole);
$node->safe_psql('postgres', 'CREATE DATABASE whole');
$node->safe_psql('whole', 'CREATE EXTENSION eventstore');
$node->safe_psql($_, <<'SQL') for @databases;
SELECT count(*)
FROM generate_series(1, 40) n,
    LATERAL es_append(
        (ARRAY['Order-1', 'Order-2', 'Order-1', 'Stock-9', 'Invoice-1+a', 'Invoice-1+b', 'Stock', 'Log-1', 'Gone-1'])[1 + n * 7 % 9],
        (ARRAY['Placed', 'Paid', 'Opened', 'Shipped', 'Said', 'Paid'])[1 + n * 5 % 6],
        jsonb_build_object('n', n),
        metadata => CASE n % 3 WHEN 0 THEN '{"correlation_id": "c"}' WHEN 1 THEN '{"correlation_id": "d"}' END::jsonb,
        tags => CASE n % 4 WHEN 0 THEN '{a}' WHEN 1 THEN '{a,b}' WHEN 2 THEN '{}' END::text[],
        schema_version => 1 + n % 2,
        payload => CASE n % 5 WHEN 0 THEN '\x00ff'::bytea END,
        content_type => CASE n % 5 WHEN 0 THEN 'a/b' END);
CREATE FUNCTION more(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$ SELECT data || '{"more": true}' $$;
SELECT es_register_upcaster('Opened', 2, 'more', 'Placed', 1), es_register_upcaster('Paid', 1, 'more');
CREATE TABLE thing (id bigint PRIMARY KEY, place bigint, name text, kind text);
INSERT INTO thing
SELECT n, n * 11 % 37, (ARRAY['Order-1', 'Order-2', NULL, 'Nobody', 'Log-1'])[1 + n % 5], (ARRAY['Paid', 'Placed', NULL])[1 + n % 3]
FROM generate_series(1, 9) n;
ANALYZE thing;

-- What a statement gives, and then what it leaves; a cursor takes steps.  Nothing stays.
CREATE FUNCTION outcome(scan boolean, statement text, effect text, params text, steps text[], settings text[]) RETURNS text[]
    LANGUAGE plpgsql
    AS $$
DECLARE
    answer text[] := '{}';
    words text;
    line record;
BEGIN
    FOREACH words IN ARRAY settings LOOP
        PERFORM set_config(split_part(words, '=', 1), split_part(words, '=', 2), true);
    END LOOP;
    PERFORM set_config('eventstore.enable_scan', scan::text, true);
    IF params <> '' THEN
        IF EXISTS (SELECT FROM pg_prepared_statements WHERE name = 'f') THEN
            DEALLOCATE f;
        END IF;
        EXECUTE 'PREPARE f(bigint, text, text[], int) AS ' || statement;
        statement := 'EXECUTE f' || params;
    END IF;
    IF cardinality(steps) > 0 THEN
        EXECUTE 'DECLARE c ' || steps[1] || ' CURSOR FOR ' || statement;
        FOREACH words IN ARRAY steps[2:] LOOP
            answer := answer || words;
            FOR line IN EXECUTE words || ' FROM c' LOOP
                answer := answer || line::text;
            END LOOP;
        END LOOP;
    ELSIF effect = '' THEN
        FOR line IN EXECUTE statement LOOP
            answer := answer || line::text;
        END LOOP;
    ELSE
        EXECUTE statement;
        FOR line IN EXECUTE effect LOOP
            answer := answer || line::text;
        END LOOP;
    END IF;
    RAISE USING ERRCODE = 'TTT00';
EXCEPTION
    WHEN SQLSTATE 'TTT00' THEN
        RETURN answer;
    WHEN OTHERS OR query_canceled THEN
        RETURN ARRAY['error ' || SQLSTATE || ' ' || SQLERRM];
END $$;
-- What was the same: "error", "empty" or "rows"; and with it "node" if there was one.
CREATE FUNCTION compared(statement text, ordered boolean, effect text, params text, steps text[], settings text[]) RETURNS text
    LANGUAGE plpgsql
    AS $$
DECLARE
    with_node text[] := outcome(true, statement, effect, params, steps, settings);
    without text[] := outcome(false, statement, effect, params, steps, settings);
    node boolean := false;
    line text;
BEGIN
    IF NOT ordered THEN
        with_node := array(SELECT unnest(with_node) ORDER BY 1);
        without := array(SELECT unnest(without) ORDER BY 1);
    END IF;
    IF left(with_node[1], 11) = 'error 57014' OR left(without[1], 11) = 'error 57014' THEN
        RETURN 'too long';
    ELSIF with_node IS DISTINCT FROM without AND (left(with_node[1], 11) IS DISTINCT FROM left(without[1], 11) OR left(with_node[1], 5) <> 'error') THEN
        RETURN format(E'DIFFERENT\nnode:     %s\nfunction: %s', with_node, without);
    ELSIF with_node[1] ~ '^error' THEN
        RETURN with_node[1];
    END IF;
    IF params = '' THEN
        FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || statement LOOP
            node := node OR line ~ 'Custom Scan';
        END LOOP;
    END IF;
    RETURN concat_ws(' ', CASE WHEN node THEN 'node' END, CASE WHEN with_node = '{}' THEN 'empty' ELSE 'rows' END);
END $$;
SQL
one($node, q{SELECT es_truncate_stream('Order-2', 3), es_delete_stream('Gone-1'), es_set_retention('Log', max_count => 2)});
my $head = one($node, 'SELECT es_head()');
is(one($node, 'SELECT es_head()', 'whole'), $head, 'logs of the same length');

# ---- queries ----

# A scope is what expressions can be made of: {ints, texts, rows (of es_event), others (to be
# shown as text)}, each a list of expressions.
my ($names, %ctes, $with_params);

sub pick { return $_[ rand @_ ] }
sub chance { return rand() < $_[0] }
sub name { return $_[0] . ++$names }
sub upto { return int(rand($_[0] + 1)) }
sub quoted { my $text = shift; $text =~ s/'/''/g; return "'$text'" }

sub scope_of
{
	my @scopes = grep { defined } @_;
	my %all = map { my $kind = $_; $kind => [ map { @{ $_->{$kind} // [] } } @scopes ] } qw(ints texts rows others);
	return \%all;
}

sub some_type { return pick(qw(Placed Paid Opened Shipped Said Unheard)) }
sub some_stream { return pick(qw(Order-1 Order-2 Stock-9 Invoice-1+a Log-1 Stock Gone-1 Nobody)) }
sub some_types { return '{' . join(',', map { some_type() } 1 .. upto(3)) . '}' }

# Arguments.  A value of the scope is made a valid one, so that it does not depend on the plan
# whether there is an error.
sub place
{
	my ($scope) = @_;
	my @ints = @{ $scope->{ints} };

	return 'least(greatest(coalesce(' . pick(@ints) . ", 0), 0), $head)" if @ints && chance(0.5);
	return '$1' if $with_params && chance(0.4);
	return pick('NULL', 0, upto($head), upto($head), $head);
}

sub max_count { return $with_params && chance(0.2) ? '$4' : pick('NULL', 'NULL', 'NULL', 1000, 1 + upto(11), upto(11)) }
sub backwards { return pick('false', 'false', 'true') }

sub types
{
	my ($scope) = @_;
	my @texts = @{ $scope->{texts} };

	return 'ARRAY[coalesce(' . pick(@texts) . q{, 'Paid'), 'Shipped']} if @texts && chance(0.3);
	return '$3' if $with_params && chance(0.3);
	return chance(0.6) ? 'NULL' : quoted(some_types());
}

sub stream
{
	my ($scope) = @_;
	my @texts = @{ $scope->{texts} };

	return 'coalesce(' . pick(@texts) . q{, 'Order-1')} if @texts && chance(0.5);
	return quoted(some_stream());
}

sub query_argument
{
	return '\'[' . join(', ',
		map {
			my @parts;
			push @parts, '"types": [' . join(', ', map { '"' . some_type() . '"' } 0 .. upto(2)) . ']' if chance(0.6);
			push @parts, '"tags": [' . join(', ', map { '"' . pick(qw(a b none)) . '"' } 0 .. upto(1)) . ']' if chance(0.5);
			'{' . join(', ', @parts) . '}'
		} 0 .. upto(2)) . ']\'';
}

sub call
{
	my ($scope) = @_;
	my $function = pick(qw(es_read_stream es_read_stream es_read_all es_read_all es_read_category es_query es_read_correlation));

	return "$function(" . join(', ', stream($scope), place($scope), max_count(), backwards(), types($scope)) . ')'
	  if $function eq 'es_read_stream';
	return "$function(" . join(', ', place($scope), max_count(), types($scope),
		pick('NULL', 'NULL', q('{Order,Stock}'), q('{}'), q('{Log}')), backwards(), 'NULL', place($scope)) . ')'
	  if $function eq 'es_read_all';
	return "$function(" . join(', ', quoted(pick(qw(Order Stock Invoice Log None))), place($scope), max_count(),
		pick('NULL, NULL, NULL, NULL', 'NULL, NULL, NULL, NULL', q(0, 2, NULL, '+'), '1, 3, NULL, NULL')) . ')'
	  if $function eq 'es_read_category';
	return "$function(" . join(', ', query_argument(), place($scope), max_count(), 'NULL', backwards(), place($scope)) . ')'
	  if $function eq 'es_query';
	return "$function(" . join(', ', quoted(pick(qw(c c d none))), max_count(), place($scope)) . ')';
}

# A call that may be refused.
sub bad_call
{
	return pick(
		'es_read_all(' . ($head + 1 + upto(3)) . ')',
		'es_read_all(NULL, -1)', 'es_read_all(-1)', 'es_read_all(backwards => NULL)', q(es_read_all(types => '{NULL}')),
		'es_read_stream(NULL)', q(es_read_stream('Order-1', -1)), q(es_read_stream('Order-1', max_count => -1)),
		q(es_read_category('Order', 1000000)), q(es_read_category('Order', NULL, NULL, 3, 2)),
		q(es_query('[]')), q(es_query('[{"types": []}]')), q(es_query('[{}]', 1000000)), 'es_query(NULL)',
		q(es_read_correlation('c', key => 'none')), 'es_read_correlation(NULL)');
}

sub of_event
{
	my ($alias) = @_;
	return {
		ints => [ "$alias.position", "$alias.version", "$alias.schema_version" ],
		texts => [ "$alias.type", "$alias.stream", "$alias.content_type" ],
		rows => [$alias],
		others => [ map { "$alias.$_" } qw(data metadata tags event_id created_at payload) ] };
}

# Of a scope, or a constant.
sub int_of
{
	my ($scope, $upper, $depth) = @_;
	my @ints = @{ $scope->{ints} };

	return 'coalesce((' . scalar_query($scope, $upper, $depth) . '), -1)' if $depth < 2 && chance(0.06);
	return upto($head) if !@ints || chance(0.05);
	my $int = pick(@ints);
	return pick($int, $int, $int, $int, "$int + 1", "coalesce($int, 0)", "-$int");
}

sub text_of
{
	my ($scope) = @_;
	my (@texts, @rows, @others) = ();
	@texts = @{ $scope->{texts} };
	@rows = @{ $scope->{rows} };
	@others = @{ $scope->{others} };

	if (@rows && chance(0.25))
	{
		my $row = pick(@rows);
		return pick("$row\::text", "to_jsonb($row)::text", "($row).type", "($row IS NULL)::text", "(($row).data ->> 'n')", "($row = $row)::text");
	}
	return pick(@others) . '::text' if @others && chance(0.25);
	return quoted(some_type()) if !@texts;
	return pick(@texts);
}

# ---- conditions ----

sub condition
{
	my ($scope, $upper, $depth) = @_;
	my $all = scope_of($scope, $upper);
	my @ints = @{ $scope->{ints} };
	my @texts = @{ $scope->{texts} };
	my $kind = rand;

	return 'true' unless @ints && @texts;
	if ($kind < 0.35)
	{
		my $value = pick(upto($head), upto($head), upto($head) . '::int2', upto($head) . '::bigint', -1, 'NULL', $head + 1000,
			$with_params ? ('$1', '$4', '$1') : (), @{ $all->{ints} } ? pick(@{ $all->{ints} }) : ());
		my $operator = pick('<', '<=', '=', '>=', '>', '<>');
		my $int = pick(@ints);
		return chance(0.7) ? "$int $operator $value" : "$value $operator $int";
	}
	if ($kind < 0.6)
	{
		my ($type) = grep { /\.type$/ } @texts;
		my $text = chance(0.5) && defined $type ? $type : pick(@texts);
		return pick(
			"$text = " . quoted(some_type()),
			quoted(some_type()) . " = $text",
			"$text = " . quoted(some_stream()),
			"$text IN (" . join(', ', map { quoted(some_type()) } 0 .. upto(2)) . ')',
			"$text = ANY (" . quoted(some_types()) . ')',
			"$text = ANY ('{Paid,NULL,Placed}')",
			"$text <> " . quoted(some_type()),
			"$text LIKE 'P%'",
			"$text IS NULL",
			$with_params ? ("$text = \$2", "$text = ANY (\$3)", "\$2 = $text") : (),
			@{ $all->{texts} } ? "$text = " . pick(@{ $all->{texts} }) : ());
	}
	return '(' . condition(@_) . ' OR ' . condition(@_) . ')' if $kind < 0.68;
	return 'NOT (' . condition(@_) . ')' if $kind < 0.72;
	return condition(@_) . ' AND ' . condition(@_) if $kind < 0.8;
	return '(' . condition(@_) . ') IS NOT TRUE' if $kind < 0.86;
	return pick('random() < 2', 'true', 'now() > \'2000-01-01\'', '$1 >= 0') =~ s/\$1 >= 0/$with_params ? '$1 >= 0' : 'true'/er if $kind < 0.89;
	return 'true' if $depth >= 2;
	return pick('EXISTS (', 'NOT EXISTS (') . select_of($all, $depth + 1, []) . ')' if $kind < 0.94;
	return pick(@ints) . pick(' IN (', ' IN (', ' NOT IN (', ' = ANY (', ' >= ALL (') . select_of($all, $depth + 1, ['int']) . ')';
}

sub scalar_query
{
	my ($scope, $upper, $depth) = @_;
	my $above = scope_of($scope, $upper);
	my $from = from($above, $depth + 1);
	my @ints = @{ $from->{scope}{ints} };

	return 'SELECT ' . (chance(0.4) || !@ints ? 'count(*)' : pick(qw(max min sum)) . '(' . pick(@ints) . ')::bigint') . " FROM $from->{sql}"
	  . (chance(0.7) ? ' WHERE ' . condition($from->{scope}, $above, $depth + 1) : '');
}

# ---- relations ----

# A relation with a name, and its scope.  What it may refer to is "upper", of the levels around,
# and "left", if it is LATERAL.
sub relation
{
	my ($upper, $left, $depth) = @_;
	my $scope = scope_of($upper, $left);
	my $lateral = defined $left ? 'LATERAL ' : '';
	my $kind = rand;
	my $alias = name('r');

	if ($kind < 0.6 || $depth >= 3)
	{
		my $sql = $lateral . call($scope) . " $alias";
		return { sql => $sql, scope => of_event($alias) } if chance(0.9);
		my $own = of_event($alias);
		s/\.position$/.a/, s/\.type$/.b/ for @{ $own->{ints} }, @{ $own->{texts} };
		# the second, third and fourth keep their places
		return { sql => "$sql (a, stream, version, b)", scope => { %$own, rows => [] } };
	}
	if ($kind < 0.66)
	{
		return { sql => "thing $alias", scope => {
				ints => [ "$alias.id", "$alias.place" ], texts => [ "$alias.name", "$alias.kind" ], rows => [], others => [$alias] } };
	}
	if ($kind < 0.7)
	{
		return { sql => "generate_series(1, " . (1 + upto(5)) . ") $alias", scope => { ints => [$alias], texts => [], rows => [], others => [] } };
	}
	if ($kind < 0.8 && %ctes)
	{
		my $cte = pick(sort keys %ctes);
		return { sql => "$cte $alias", scope => {
				ints => [ map { "$alias.$_" } @{ $ctes{$cte}{ints} } ], texts => [ map { "$alias.$_" } @{ $ctes{$cte}{texts} } ], rows => [], others => [] } };
	}
	# a sub-query, perhaps with whole rows and others going through
	my $from = from($scope, $depth + 1);
	my @list = map { [ 'ints', 'i', int_of($from->{scope}, $scope, $depth + 1) ] } 0 .. upto(1);
	push @list, map { [ 'texts', 't', text_of($from->{scope}) ] } 0 .. upto(1);
	push @list, map { [ 'rows', 'e', pick(@{ $from->{scope}{rows} }) ] } grep { @{ $from->{scope}{rows} } && chance(0.3) } 1;
	push @list, map { [ 'others', 'o', pick(@{ $from->{scope}{others} }) ] } grep { @{ $from->{scope}{others} } && chance(0.3) } 1;
	my $own = { ints => [], texts => [], rows => [], others => [] };
	my @columns = map { my $column = name($_->[1]); push @{ $own->{ $_->[0] } }, "$alias.$column"; "$_->[2] AS $column" } @list;
	my $sql = 'SELECT ' . (chance(0.1) ? 'DISTINCT ' : '') . join(', ', @columns) . " FROM $from->{sql}"
	  . (chance(0.6) ? ' WHERE ' . condition($from->{scope}, $scope, $depth + 1) : '');
	$sql .= ' ORDER BY ' . join(', ', 1 .. @columns) . (chance(0.6) ? ' LIMIT ' . upto(9) : '') . (chance(0.3) ? ' OFFSET ' . upto(3) : '') if chance(0.3);
	# an event keeps its type
	return { sql => "$lateral($sql) $alias", scope => $own };
}

sub from
{
	my ($upper, $depth) = @_;
	my $first = relation($upper, undef, $depth);
	my ($sql, $scope) = ($first->{sql}, $first->{scope});

	my $joins = pick($depth == 0 ? (0, 0, 1, 1, 2) : (0, 0, 0, 1));
	for my $n (1 .. $joins)
	{
		my $join = pick('CROSS JOIN', 'JOIN', 'JOIN', 'LEFT JOIN', 'LEFT JOIN', 'RIGHT JOIN', 'FULL JOIN', ',');
		my $lateral = $join !~ /RIGHT|FULL/ && chance(0.5);
		my $next = relation($upper, ($lateral ? $scope : undef), $depth);
		my $both = scope_of($scope, $next->{scope});
		my @left = @{ $scope->{ints} };
		my @right = @{ $next->{scope}{ints} };
		my $on = '';

		# a comma binds less than what might follow
		$join = 'CROSS JOIN' if $join eq ',' && $n < $joins;
		if ($join !~ /CROSS|,/)
		{
			$on = @left && @right ? pick(@left) . ' = ' . pick(@right) : 'true';
			$on = pick($on, condition($both, $upper, $depth), "$on AND " . condition($both, $upper, $depth)) if $join ne 'FULL JOIN';
			$on = " ON $on";
		}
		$sql .= ($join eq ',' ? '' : ' ') . "$join $next->{sql}$on";
		$scope = $both;
	}
	return { sql => $sql, scope => $scope };
}

# SELECT of given kinds of columns ('int', 'text'; none: anything), without an order.
sub select_of
{
	my ($upper, $depth, $kinds) = @_;
	my $from = from($upper, $depth);
	my $list = join(', ',
		map { $_ eq 'int' ? '(' . int_of($from->{scope}, $upper, $depth) . ')::bigint' : '(' . text_of($from->{scope}) . ')::text' } @$kinds);

	return "SELECT $list FROM $from->{sql}" . (chance(0.5) ? ' WHERE ' . condition($from->{scope}, $upper, $depth) : '');
}

sub ordered_by_all
{
	my (@kinds) = @_;
	my $order = join(', ', map { "$_" . pick('', '', ' DESC', ' NULLS FIRST') } 1 .. @kinds);
	return " ORDER BY $order" . (chance(0.6) ? ' LIMIT ' . upto(12) : '') . (chance(0.3) ? ' OFFSET ' . upto(4) : '');
}

# A read of much under conditions that the scan may use, by itself or for each row of a table.
sub narrowed
{
	my $lateral = chance(0.3);
	my $upper = { ints => [ $lateral ? ('t.place', 't.id') : () ], texts => [ $lateral ? ('t.name', 't.kind') : () ] };
	my $all = pick('NULL', 'NULL', 'NULL', 1 + upto(20));
	my $backwards = backwards();
	my $call = pick(
		"es_read_all(NULL, $all, backwards => $backwards)", "es_read_all(max_count => $all, types => '{Paid,Placed,Said}', backwards => $backwards)",
		"es_read_stream('" . pick(qw(Order-1 Order-2)) . "', NULL, $all, $backwards)", "es_read_category('Order', max_count => $all)",
		"es_query('[{}]', NULL, $all, backwards => $backwards)", q(es_query('[{"tags": ["a"]}, {"types": ["Paid", "Opened"]}]')), "es_read_correlation('c', $all)");
	my @conditions = map {
		my $value = pick((map { upto($head) } 1 .. 4), upto(5), upto($head) . pick('::int2', '::bigint'), @{ $upper->{ints} }, $with_params ? ('$1', '$4') : ());
		my $place = pick('e.position', 'e.position', 'e.version');
		my $operator = pick('<', '<=', '=', '>=', '>');
		my $type = pick(quoted(some_type()), quoted(some_type()), @{ $upper->{texts} }, $with_params ? '$2' : ());
		pick(
			"$place $operator $value", "$place $operator $value", "$value $operator $place",
			"e.type = $type", "$type = e.type",
			'e.type = ANY (' . ($with_params && chance(0.5) ? '$3' : quoted(some_types())) . ')', "e.type IN ('Paid', $type)",
			'e.stream = ' . quoted(some_stream()), 'e.stream = ' . ($lateral ? 't.name' : quoted(some_stream())))
	} 0 .. upto(2);
	my $where = join(' AND ', @conditions);
	my $columns = pick('e.position', 'e.version', 'e.position, e.type', 'e', 'e.data, e.stream');

	return ("SELECT t.id, x.* FROM thing t, LATERAL (SELECT $columns FROM $call e WHERE $where"
		  . (chance(0.4) ? ' ORDER BY e.position LIMIT ' . upto(4) : '') . ') x', 0) if $lateral && chance(0.7);
	return (pick("SELECT t.id FROM thing t WHERE EXISTS (SELECT FROM $call e WHERE $where)",
			"SELECT t.id, array(SELECT e.position FROM $call e WHERE $where) FROM thing t",
			"SELECT t.id, (SELECT count(*) FROM $call e WHERE $where) FROM thing t"), 0) if $lateral;
	return ("SELECT count(*), max(e.position) FROM $call e WHERE $where", 1) if chance(0.2);
	return ("SELECT $columns FROM $call e WHERE $where" . pick('', '', ' ORDER BY e.position', ' ORDER BY e.position DESC', ' ORDER BY e.version, e.position')
		  . (chance(0.3) ? ' LIMIT ' . upto(5) : ''), 1);
}

# A whole query, and whether it says in which order rows come.
sub query
{
	my $none = scope_of();
	my $kind = rand;
	my @kinds = map { pick(qw(int text)) } 0 .. upto(2);
	my $with = '';

	if (chance(0.25))
	{
		my $cte = name('c');
		my $sql = select_of($none, 1, [qw(int int text)]);
		$with = "WITH $cte (i, j, t) AS" . pick(' ', ' ', ' MATERIALIZED ', ' NOT MATERIALIZED ') . "($sql) ";
		$ctes{$cte} = { ints => [qw(i j)], texts => ['t'] };
	}
	if ($kind < 0.2)
	{
		# alone, in its own order
		my $relation = relation($none, undef, 3);
		my $scope = $relation->{scope};
		my ($position) = grep { /\.(?:position|a)$/ } @{ $scope->{ints} };
		my $sql = $with . 'SELECT ' . join(', ', map { $_ eq 'int' ? int_of($scope, $none, 2) : text_of($scope) } @kinds) . " FROM $relation->{sql}";
		$sql .= ' WHERE ' . condition($scope, $none, 2) if chance(0.6);
		$sql .= " ORDER BY $position" . pick('', ' DESC', ' NULLS FIRST') if chance(0.4);
		$sql .= ' LIMIT ' . upto(12) if chance(0.4);
		$sql .= ' OFFSET ' . upto(4) if chance(0.2);
		return ($sql, 1);
	}
	if ($kind < 0.55)
	{
		my $sql = $with . select_of($none, 0, \@kinds);
		return ($sql, 0) if chance(0.5);
		return ($sql . ordered_by_all(@kinds), 1);
	}
	if ($kind < 0.75)
	{
		my $from = from($none, 0);
		my $scope = $from->{scope};
		my @keys = map { chance(0.5) ? int_of($scope, $none, 2) : text_of($scope) } 1 .. upto(2);
		my $sql = $with . 'SELECT ' . join(', ', (map { "($_)::text" } @keys),
			map {
				my ($int, $text) = (int_of($scope, $none, 2), text_of($scope));
				pick('count(*)', "count($text)", "sum($int)", "min($int)", "max($text)", "count(DISTINCT $text)",
					"string_agg($text, ' ' ORDER BY $text)", "array_agg($int ORDER BY $int DESC)", "count($int) FILTER (WHERE $int > 5)")
			} 0 .. upto(1)) . " FROM $from->{sql}";
		$sql .= ' WHERE ' . condition($scope, $none, 0) if chance(0.6);
		$sql .= ' GROUP BY ' . join(', ', 1 .. @keys) if @keys;
		$sql .= ' HAVING count(*) > 1' if chance(0.2);
		return ($sql, 0);
	}
	if ($kind < 0.82)
	{
		my $from = from($none, 0);
		my ($int, $text) = (int_of($from->{scope}, $none, 2), text_of($from->{scope}));
		return ($with . "SELECT $int, $text, count(*) OVER (PARTITION BY $text), rank() OVER (ORDER BY $int), "
			  . "sum($int) OVER (PARTITION BY $text ORDER BY $int) FROM $from->{sql}", 0);
	}
	if ($kind < 0.95)
	{
		my $sql = $with . '(' . select_of($none, 0, \@kinds) . ') '
		  . pick('UNION ALL', 'UNION ALL', 'UNION', 'INTERSECT', 'EXCEPT', 'EXCEPT ALL') . ' (' . select_of($none, 0, \@kinds) . ')';
		return ($sql, 0) if chance(0.5);
		return ($sql . ordered_by_all(@kinds), 1);
	}
	return (pick('SELECT * FROM ', 'SELECT count(*) FROM ', 'SELECT position FROM ') . bad_call() . pick('', '', ' LIMIT 0', ' LIMIT 1', q( WHERE type = 'Paid'), ' WHERE position < 3'), 1);
}

# A query that appends.  Which of two calls comes first, and what is the inner side of a join, costs
# decide, unless each depends on all to its left; then the plan is the same with nodes.  But
# for Memoize, which PostgreSQL puts on a function in LATERAL, volatile or not, if it is dear
# enough: of ours, only es_append_batch, which returns a set.
sub appends
{
	my @things = map { pick('thing', 'thing', 'generate_series(1, 4)', q(unnest('{Paid,Said,Paid}'::text[])), '(VALUES (1), (1), (2))') . " t$_" } 1 .. upto(2);
	my @left = map { $things[$_ - 1] =~ /^thing/ ? (pick("t$_.kind", "t$_.id")) : "t$_" } 1 .. @things;
	my (@calls, @aliases);
	my $n = pick(1, 1, 2);

	for (1 .. $n)
	{
		my $alias = name('a');
		my $of = @left ? 'lower(concat(' . join(', ', @left) . '))' : q('none');
		$of = q('none') if $n == 1 && chance(0.3);
		my $stream = chance(0.6) ? "'New-' || abs(hashtext($of)) % 3" : quoted('New-' . upto(2));
		my $type = "'T' || length($of)";
		my $data = pick(q('{}'::jsonb), q('{"a": 1}'::jsonb), "jsonb_build_object('a', upper($of), 'b', md5($of), 'c', reverse($of), 'd', repeat($of, 2))");
		push @calls, pick(
			"es_append($stream, $type)", "es_append($stream, $type, $data)", "es_append($stream, $type, $data, tags => ARRAY[coalesce(nullif($of, ''), 'x')])",
			"es_append_events($stream, jsonb_build_array('{\"type\": \"A\"}'::jsonb, jsonb_build_object('type', $type, 'data', $data)))",
			"es_append_batch(ARRAY[$stream, 'New-7'], ARRAY[$type, 'B'], '{\"{}\", \"{}\"}')") . " $alias";
		push @aliases, $alias;
		push @left, "$alias.version";
	}
	my $version = pick(@aliases) . '.version';
	my $calls = join(' CROSS JOIN ', map { "LATERAL $_" } @calls);
	my $things = join(' CROSS JOIN ', @things);
	my $sql = 'SELECT ' . pick('count(*)', $version, pick(@aliases), '1') . ' FROM ' . join(' CROSS JOIN ', @things, $calls);
	if (@things && chance(0.2))
	{
		$sql = "SELECT (SELECT max($version) FROM $calls) FROM $things";
	}
	elsif (chance(0.3))
	{
		$sql .= ' WHERE ' . pick("$version > 1", "$version = 1", 'false', 'random() < 2');
	}
	$sql .= ' LIMIT ' . upto(5) if chance(0.4);
	$sql = "WITH x AS ($sql) " . pick('SELECT count(*) FROM x', 'SELECT 1', 'SELECT * FROM x a, x b') if chance(0.2);
	return ($sql, 'join_collapse_limit=1', "@calls" =~ /es_append_batch/ ? 'enable_memoize=off' : ());
}

# ---- how they run ----

my @switches = split /\n/, one($node, <<'SQL');
SELECT name
FROM pg_settings
WHERE name LIKE 'enable\_%' AND vartype = 'bool'
ORDER BY name
SQL
my $force_parallel = one($node, q{SELECT name FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query')});

sub settings
{
	my @settings = map { "$_=off" } grep { chance(0.25) } @switches;

	push @settings, 'from_collapse_limit=1' if chance(0.2);
	push @settings, 'join_collapse_limit=1' if chance(0.2);
	push @settings, 'geqo_threshold=2' if chance(0.1);
	push @settings, 'work_mem=64kB' if chance(0.2);
	push @settings, pick('cursor_tuple_fraction=0.001', 'cursor_tuple_fraction=1') if chance(0.3);
	push @settings, "$force_parallel=on", 'parallel_setup_cost=0', 'parallel_tuple_cost=0' if chance(0.05);
	push @settings, 'plan_cache_mode=' . pick(qw(force_generic_plan force_custom_plan)) if chance(0.6);
	return @settings;
}

sub array { return 'ARRAY[' . join(', ', map { quoted($_) } @_) . ']::text[]' }

# The statement that compares the query of a number.
sub comparison
{
	my ($n) = @_;

	srand $seed * 1_000_000 + $n;
	($names, %ctes) = (0);
	$with_params = chance(0.3);
	my @settings = settings();
	if (chance(0.1))
	{
		$with_params = 0;
		my ($sql, @more) = appends();
		push @settings, @more;
		return ("$sql\n settings @settings", "SELECT compared(\$q\$$sql\$q\$, true, "
			  . q('SELECT stream, version, type, data FROM eventstore.events WHERE stream LIKE ''New%'' ORDER BY position')
			  . ", '', '{}', " . array(@settings) . ')');
	}
	my ($sql, $ordered) = chance(0.25) ? narrowed() : query();
	my $params = $with_params
	  ? '(' . join(', ', pick('NULL', upto($head), upto($head), 0), pick('NULL', map { quoted(some_type()) } 1 .. 4),
		pick(q('{}'), map { quoted(some_types()) } 1 .. 3), pick('NULL', upto(9), upto(9))) . ')'
	  : '';
	my @steps = !$with_params && $ordered && chance(0.4)
	  ? ('SCROLL', map { pick('FETCH', 'FETCH 2', 'FETCH 3', 'FETCH BACKWARD 1', 'FETCH BACKWARD 2', 'FETCH LAST', 'FETCH FIRST', 'FETCH ALL', 'FETCH BACKWARD ALL',
			'FETCH ABSOLUTE ' . upto(5), 'FETCH ABSOLUTE -' . upto(5), 'FETCH RELATIVE ' . (upto(6) - 3)) } 0 .. upto(8))
	  : ();
	my $true = $ordered ? 'true' : 'false';
	return ("$sql" . ($params ? "\n with $params" : '') . (@steps ? "\n steps @steps" : '') . "\n settings @settings",
		"SELECT compared(\$q\$$sql\$q\$, $true, '', " . quoted($params) . ', ' . array(@steps) . ', ' . array(@settings) . ')');
}

# ---- running them ----

note("seed $seed");
my %seen;
my $different = 0;
my $end = time + $seconds;
my $n = $first;
while ($queries ? $n < $first + $queries : time < $end)
{
	my $last = $n - ($n - 1) % 100 + 99;
	my $database = $databases[ ($n - 1) / 100 % 2 ];
	$last = $first + $queries - 1 if $queries && $last >= $first + $queries;
	my @made = map { [ $_, comparison($_) ] } $n .. $last;
	my $script = "SET statement_timeout = '5s';\n" . join '', map { "\\echo query $_->[0]\n$_->[2];\n" } @made;
	my ($out, $err) = ('', '');
	my $status = $node->psql($database, $script, stdout => \$out, stderr => \$err, on_error_stop => 0);
	my %answers = $out =~ /^query (\d+)\n(.*?)(?=^query |\z)/gms;

	for (@made)
	{
		my ($number, $query) = @$_;
		my $answer = $answers{$number} // '';
		chomp $answer;
		my $what = $answer =~ /^error (22004|22023|42704|SE006)/ ? "error $1" : $answer =~ /^(?:node )?(?:rows|empty)$/ || $answer eq 'too long' ? $answer : 'different';
		$seen{$what}++;
		next if $what ne 'different' || $different++ >= 5;
		diag("seed $seed, query $number:\n$query\n" . ($answer eq '' ? "no answer: $err" : $answer));
	}
	last if $status == 2;	# the connection is gone
	$n = $last + 1;
}
my $ran = 0;
$ran += $_ for values %seen;
note("$_: $seen{$_}") for sort keys %seen;

is($different, 0, "$ran queries: the same with nodes as with functions") or diag("EVENTSTORE_TEST_SEED=$seed");
if (!$queries)
{
	my $rows = ($seen{'node rows'} // 0) / $ran;
	my $errors = 0;
	$errors += $seen{$_} for grep { /^error/ } keys %seen;
	cmp_ok($ran, '>=', 100, 'there are some');
	cmp_ok($rows, '>', 0.2, 'nodes give rows in many of them');
	cmp_ok($errors / $ran, '<', 0.15, 'few are refused');
	ok($seen{'error SE006'}, 'some for a place ahead of the log');
	cmp_ok($seen{'too long'} // 0, '<', $ran / 20, 'few take too long');
}

finish($node);
