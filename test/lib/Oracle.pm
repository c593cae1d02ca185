
=pod

=head1 NAME

Oracle - compares what a continuous view shows with what it should show

=head1 DESCRIPTION

What a view should show comes from ordinary SQL over an ordinary table with the
same rows.  Rows are compared as text, so that 1.0 and 1.00 differ; nothing here
knows how the extension works.

C<difference> compares two queries.  C<check_snapshot> holds a view against an
archive of everything that was produced, at the positions that the same
snapshot shows.  Both give a description of what is wrong, or nothing.

=cut

package Oracle;

use strict;
use warnings;

use Exporter 'import';
use Time::HiRes qw(time sleep);

our @EXPORT_OK = qw(difference check_snapshot wait_until holds_for seconds_of);

my $SAMPLE = 5;

=pod

=head1 FUNCTIONS

=over

=item difference($run, expected => sql, actual => sql, columns => n, inexact => { n => 1 })

Compares two queries with columns c1 to cn as multisets.  $run is given SQL
and returns psql's unaligned output.  Columns in inexact may differ by one part
in 10^9.  Gives undef if they are equal, otherwise counts and a sample.

=cut

sub difference
{
	my ($run, %args) = @_;
	my $inexact = $args{inexact} || {};
	my $sql = %$inexact ? inexact_sql(\%args, $inexact) : exact_sql(\%args);
	my @lines = split /\n/, $run->($sql);
	my ($missing, $unexpected) = split /\|/, shift @lines;

	return undef unless $missing || $unexpected;
	return join("\n", "$missing rows are missing, $unexpected should not be there", @lines);
}

# As text and both ways, multiplicity counts.  Only the differing rows are
# looked at twice.
sub exact_sql
{
	my ($args) = @_;
	my $row = 'ROW(' . join(', ', map { "c$_" } 1 .. $args->{columns}) . ')::text';

	return qq{
WITH expected AS MATERIALIZED (SELECT $row AS r FROM ($args->{expected}) AS e),
actual AS MATERIALIZED (SELECT $row AS r FROM ($args->{actual}) AS a),
missing AS MATERIALIZED (SELECT r FROM expected EXCEPT ALL SELECT r FROM actual),
unexpected AS MATERIALIZED (SELECT r FROM actual EXCEPT ALL SELECT r FROM expected)
SELECT (SELECT count(*) FROM missing) || '|' || (SELECT count(*) FROM unexpected)
UNION ALL (SELECT '  missing    ' || left(r, 400) FROM missing ORDER BY r LIMIT $SAMPLE)
UNION ALL (SELECT '  unexpected ' || left(r, 400) FROM unexpected ORDER BY r LIMIT $SAMPLE)};
}

# Pair rows that agree in the exact columns, by the order of the others.
sub inexact_sql
{
	my ($args, $inexact) = @_;
	my @columns = 1 .. $args->{columns};
	my @loose = map { "c$_" } grep { $inexact->{$_} } @columns;
	my $exact = 'ROW(' . join(', ', map { "c$_" } grep { !$inexact->{$_} } @columns) . ')::text';
	my $all = join(', ', map { "c$_" } @columns);
	my $order = join(', ', @loose);
	my $close = join(' AND ', map { close_enough("e.$_", "a.$_") } @loose);
	my $numbered = "SELECT *, $exact AS r, row_number() OVER (PARTITION BY $exact ORDER BY $order) AS n";

	return qq{
WITH pairs AS MATERIALIZED (
  SELECT e.r IS NOT NULL AS is_expected, a.r IS NOT NULL AS is_actual,
         ROW(@{[ join(', ', map { "e.c$_" } @columns) ]})::text AS expected, ROW(@{[ join(', ', map { "a.c$_" } @columns) ]})::text AS actual
  FROM ($numbered FROM ($args->{expected}) AS x) AS e FULL JOIN ($numbered FROM ($args->{actual}) AS x) AS a ON e.r = a.r AND e.n = a.n
  WHERE e.r IS NULL OR a.r IS NULL OR NOT ($close))
SELECT count(*) FILTER (WHERE is_expected) || '|' || count(*) FILTER (WHERE is_actual) FROM pairs
UNION ALL (SELECT '  missing    ' || left(expected, 400) FROM pairs WHERE is_expected ORDER BY 1 LIMIT $SAMPLE)
UNION ALL (SELECT '  unexpected ' || left(actual, 400) FROM pairs WHERE is_actual ORDER BY 1 LIMIT $SAMPLE)};
}

# Equal, both null, or apart by less than rounding explains.  Zero may come out
# as a tiny number, so there is an absolute bound too.  NaN equals NaN here.
sub close_enough
{
	my ($x, $y) = @_;

	return "CASE WHEN $x IS NULL OR $y IS NULL THEN $x IS NULL AND $y IS NULL WHEN $x = $y THEN true"
	  . " WHEN ${x}::text IN ('NaN', 'Infinity', '-Infinity') OR ${y}::text IN ('NaN', 'Infinity', '-Infinity') THEN false"
	  . " ELSE abs($x - $y) <= 1e-9 * GREATEST(abs($x), abs($y), 1) END";
}

=pod

=item check_snapshot($run, %what)

Checks one view in one snapshot; $run executes SQL inside it.

  positions    query: partition, start_offset, next_offset
  archive      table of everything produced, with columns "partition", "offset"
  expected     query with columns c1 to cn over {rows}, the events to count
  view         query with columns c1 to cn: what is there
  columns      n
  late         query: partition, offset of late rows; or undef
  may_be_late  query: partition, offset of rows that can be late; or undef
  dead         query: partition, offset of dead letters; or undef
  bad          condition on archive: cannot be decoded
  counters     query: one row with events_in, late, dead_letters; or undef

Gives a list of problems.

=cut

sub check_snapshot
{
	my ($run, %what) = @_;
	my $none = 'SELECT NULL::int AS "partition", NULL::bigint AS "offset" WHERE false';
	my $late = $what{late} || $none;
	my $dead = $what{dead} || $none;
	my $bad = $what{bad} || 'false';
	my $prefix = qq{SELECT t.* FROM $what{archive} t JOIN ($what{positions}) p ON p."partition" = t."partition" AND t."offset" >= p.start_offset AND t."offset" < p.next_offset};
	my $rows = qq{(SELECT t.* FROM ($prefix) t WHERE NOT coalesce($bad, false)
  AND NOT EXISTS (SELECT 1 FROM ($late) l WHERE l."partition" = t."partition" AND l."offset" = t."offset")) AS rows};
	(my $expected = $what{expected}) =~ s/\{rows\}/$rows/g;
	my @problems;
	my $difference = difference($run, expected => $expected, actual => $what{view}, columns => $what{columns});

	push @problems, "contents: $difference" if defined $difference;
	push @problems, check_outcomes($run, $late, $dead, $prefix, $bad, \%what);
	push @problems, check_counters($run, $late, $dead, \%what) if $what{counters};
	return @problems;
}

# Late rows and dead letters: each record once, none beyond the positions, the
# dead letters exactly the bad records.
sub check_outcomes
{
	my ($run, $late, $dead, $prefix, $bad, $what) = @_;
	my $outcomes = qq{(SELECT 'late' AS kind, l."partition", l."offset" FROM ($late) l UNION ALL SELECT 'dead', d."partition", d."offset" FROM ($dead) d)};
	my %checks = (
		'recorded more than once' => qq{SELECT "partition", "offset" FROM $outcomes o GROUP BY 1, 2 HAVING count(*) > 1},
		'recorded but not yet read' => qq{SELECT "partition", "offset" FROM $outcomes o EXCEPT SELECT "partition", "offset" FROM ($prefix) t},
	);

	$checks{'bad, but no dead letter'} = qq{SELECT "partition", "offset" FROM ($prefix) t WHERE $bad EXCEPT SELECT "partition", "offset" FROM ($dead) d}
	  if $what->{bad};
	$checks{'dead letter, but not bad'} = qq{SELECT "partition", "offset" FROM ($dead) d EXCEPT SELECT "partition", "offset" FROM ($prefix) t WHERE $bad}
	  if $what->{bad};
	$checks{'late, but could not be'} = qq{SELECT "partition", "offset" FROM ($late) l EXCEPT SELECT "partition", "offset" FROM ($what->{may_be_late}) m}
	  if $what->{may_be_late};
	return map { problem_of($run, $_, $checks{$_}) } sort keys %checks;
}

# A line about the records that a query finds, or nothing.
sub problem_of
{
	my ($run, $name, $query) = @_;
	my ($count, $sample) = split /\|/, $run->(
		qq{SELECT count(*), string_agg("partition" || ':' || "offset", ' ' ORDER BY "partition", "offset") FILTER (WHERE n <= $SAMPLE)
		   FROM (SELECT q."partition", q."offset", row_number() OVER (ORDER BY q."partition", q."offset") AS n FROM ($query) q) x});

	return $count ? ("$name: $count records, such as $sample") : ();
}

# The counters say what the positions and the stored rows say.
sub check_counters
{
	my ($run, $late, $dead, $what) = @_;
	my ($events_in, $late_count, $dead_count, $read, $late_rows, $dead_rows) = split /\|/, $run->(
		qq{SELECT c.events_in, c.late, c.dead_letters, (SELECT coalesce(sum(p.next_offset - p.start_offset), 0) FROM ($what->{positions}) p),
		   (SELECT count(*) FROM ($late) l), (SELECT count(*) FROM ($dead) d) FROM ($what->{counters}) c});
	my @problems;

	return ('there are no counters') unless defined $dead_rows;
	push @problems, "events_in is $events_in, but $read records were read" if $events_in != $read;
	push @problems, "late is $late_count, but there are $late_rows late rows" if $late_count != $late_rows;
	push @problems, "dead_letters is $dead_count, but there are $dead_rows of them" if $dead_count != $dead_rows;
	return @problems;
}

=pod

=item wait_until($seconds, $condition)

Calls a condition until it is true; returns whether it became so in time.

=cut

sub wait_until
{
	my ($seconds, $condition) = @_;
	my $deadline = time + $seconds;

	while (1)
	{
		return 1 if $condition->();
		return 0 if time > $deadline;
		sleep 0.05;
	}
}

=pod

=item holds_for($seconds, $condition)

Whether a condition is true all the time for so long.

=cut

sub holds_for
{
	my ($seconds, $condition) = @_;
	my $end = time + $seconds;

	while (time < $end)
	{
		return 0 unless $condition->();
		sleep 0.05;
	}
	return 1;
}

=pod

=item seconds_of($action)

How long an action takes.

=cut

sub seconds_of
{
	my ($action) = @_;
	my $begin = time;

	$action->();
	return time - $begin;
}

=pod

=back

=cut

1;
