
=pod

=head1 NAME

QueryGenerator - random but repeatable queries, rows and tables for the differential test

=head1 DESCRIPTION

A generator is made from a seed and gives the same queries for it on every
machine; it has a random number generator of its own, because Perl's is shared
with other modules.

A query is a hash:

  sql         the text, with placeholders: {S} the stream, {V} an ordinary view
              over it, {tumble}, {hop} and {cumulate} the functions that make windows;
              calls of the latter two begin {hop}(e.id, and {cumulate}(e.id,
  kind        windowed, unwindowed (GROUP BY without a window) or append
  columns     how many columns it has; they are called c1, c2, ...
  inexact     columns (numbers) whose last digits depend on the order of rows
  window_end  windowed: the end of a row's window, from the row's columns
  contributes windowed, if known: a query giving id, at and window_end of the
              events that count, one row per event and window
  reaches     windowed: a query giving id and at of the events that would count
              if they had a time
  hop         its windows overlap: an event may be late for some of them
  optional    the extension may refuse it

Placeholders are filled in by C<fill>, so that the same text runs as a
continuous view and over an ordinary table.  Every query has one right answer:
ordered aggregates and window functions order by something unique, floats are
multiples of 1/4 whose sums are exact.

=cut

package QueryGenerator;

use strict;
use warnings;

# Columns of the stream: name, type, and an expression giving a random value
# for row number id.  Most are NULL now and then.
my @COLUMNS = (
	[ 'k', 'int', 'floor(random() * 12)::int' ],
	[ 'k2', 'text', q{(ARRAY['a','b','c','d','ä','E','f g',''])[1 + floor(random() * 8)::int]} ],
	[ 'kd', 'date', q{date '2024-02-27' + floor(random() * 4)::int} ],
	[ 'kb', 'boolean', 'random() < 0.5' ],
	[ 'kn', 'numeric(6,2)', '(floor(random() * 5) / 4)::numeric(6,2)' ],
	[ 'ku', 'uuid', q{md5(floor(random() * 6)::text)::uuid} ],
	[ 'kc', 'char(4)', q{(ARRAY['x','xy','xyz','z'])[1 + floor(random() * 4)::int]} ],
	[ 'i2', 'smallint', '(floor(random() * 400) - 200)::smallint' ],
	[ 'i4', 'int', '(floor(random() * 200000) - 100000)::int' ],
	[ 'i8', 'bigint', '(floor(random() * 2000000000000) - 1000000000000)::bigint' ],
	[ 'num', 'numeric(12,2)', '(random() * 2000 - 1000)::numeric(12,2)' ],
	[   'numx', 'numeric',
		q{CASE WHEN random() < 0.01 THEN 'NaN'::numeric
		       ELSE round((random() * 1000)::numeric, floor(random() * 9)::int) END} ],
	[ 'f4', 'real', '((floor(random() * 800) - 400) / 4)::real' ],
	[ 'f8', 'double precision', '(floor(random() * 8000) - 4000) / 4' ],
	[   'fx', 'double precision',
		q{(ARRAY['NaN','Infinity','-Infinity','-0','0.25','1.5','-3.75','1024'])
		  [1 + CASE WHEN random() < 0.03 THEN floor(random() * 3)::int
		            ELSE 3 + floor(random() * 5)::int END]::float8} ],
	[   'txt', 'text',
		q{CASE WHEN random() < 0.02 THEN repeat(md5(random()::text), 100)
		       ELSE chr(97 + floor(random() * 26)::int) || substr(md5(random()::text), 1, floor(random() * 12)::int) END} ],
	[ 'vc', 'varchar(12)', q{substr(md5(random()::text), 1, 1 + floor(random() * 11)::int)} ],
	[ 'bo', 'boolean', 'random() < 0.7' ],
	[ 'd', 'date', q{date '1999-12-01' + floor(random() * 20000)::int} ],
	[ 'ts', 'timestamp', q{timestamp '2020-01-01' + floor(random() * 1e8) * interval '1 second'} ],
	[ 'tz', 'timestamptz', q{timestamptz '2020-01-01 00:00:00+00' + floor(random() * 1e8) * interval '1 second'} ],
	[ 'tm', 'time', q{time '00:00' + floor(random() * 86399) * interval '1 second'} ],
	[ 'iv', 'interval', q{floor(random() * 10000) * interval '1 second'} ],
	[ 'ip', 'inet', q{('10.1.' || floor(random() * 4)::int || '.' || floor(random() * 200)::int)::inet} ],
	[   'js', 'jsonb',
		q{(ARRAY['{"a": 1, "b": [1, 2, {"c": null}]}', '{"a": "x"}', '[]', '3.50', '{"z": true}'])
		  [1 + floor(random() * 5)::int]::jsonb} ],
	[ 'ia', 'int[]', 'ARRAY[floor(random() * 5)::int, NULL, floor(random() * 100)::int]' ],
	[ 'by', 'bytea', q{decode(md5(random()::text), 'hex')} ],
	[ 'bt', 'bit(8)', 'floor(random() * 256)::int::bit(8)' ],
	[ 'ir', 'int4range', q{int4range(floor(random() * 50)::int, 50 + floor(random() * 50)::int)} ],
	[ 'mo', 'money', '(floor(random() * 100000) / 100)::numeric::money' ],
	[ 'en', 'mood', q{(ARRAY['sad','ok','happy'])[1 + floor(random() * 3)::int]::mood} ],
);

# Ordinary tables and functions that the queries use.  Keys that no row of the
# stream has, and stream keys that no row has, make outer joins and unmatched
# events; code 'b' twice makes a join multiply rows.
my $FIXTURES = q{
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE TABLE dim1 (id int PRIMARY KEY, name text, region text, weight numeric(6,2), active boolean, opened date);
INSERT INTO dim1 SELECT g, 'name ' || g, CASE WHEN g % 4 <> 0 THEN 'region ' || g % 3 END, g / 4.0, g % 2 = 0, date '2000-01-01' + g
  FROM generate_series(0, 15) g WHERE g NOT IN (3, 7, 8);
CREATE TABLE dim2 (code text, factor int, label text);
INSERT INTO dim2 VALUES ('a', 1, 'one'), ('b', 2, 'two'), ('b', 20, 'twenty'), ('d', 4, NULL), ('ä', 5, 'five'), ('', NULL, 'empty'), ('q', 9, 'nine');
CREATE TABLE dim3 (lo int, hi int, band text);
INSERT INTO dim3 VALUES (-100000, -20000, 'low'), (-20000, 20000, 'middle'), (30000, 100000, 'high');
CREATE VIEW dim_view AS SELECT d.region, count(*) AS shops, sum(d.weight) AS weights FROM dim1 d WHERE d.region IS NOT NULL GROUP BY d.region;
CREATE FUNCTION oracle_mix(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT ($1 * 31 + coalesce($2, 7)) % 1000003';
CREATE AGGREGATE oracle_sum_of_squares(int) (sfunc = oracle_square_step, stype = numeric, initcond = '0');
CREATE AGGREGATE oracle_parity(int) (sfunc = int4xor, stype = int);
};

# The stand-ins for pipeline.tumble, hop and cumulate over ordinary tables.  Written
# with date_bin, so that a mistake in ours shows.  A day is 24 hours to all, whatever
# the session's zone.  hop_in_time leaves out the windows that a row is late for; the
# table arrivals says how far the watermark was before it.
my $TUMBLE = q{
CREATE SCHEMA oracle;
CREATE FUNCTION oracle.tumble(at timestamptz, size interval, origin timestamptz DEFAULT '2000-01-03 00:00:00+00') RETURNS tstzrange
  LANGUAGE sql IMMUTABLE AS 'SELECT tstzrange(date_bin(size, at, origin), date_bin(size, at, origin) + extract(epoch FROM size) * interval ''1 second'')';
CREATE FUNCTION oracle.tumble(at timestamp, size interval, origin timestamp DEFAULT '2000-01-03 00:00:00') RETURNS tsrange
  LANGUAGE sql IMMUTABLE AS 'SELECT tsrange(date_bin(size, at, origin), date_bin(size, at, origin) + extract(epoch FROM size) * interval ''1 second'')';
CREATE FUNCTION oracle.hop(id bigint, at timestamptz, size interval, slide interval) RETURNS SETOF tstzrange LANGUAGE sql STABLE STRICT AS $$
  SELECT tstzrange(s, s + z) FROM (SELECT extract(epoch FROM size) * interval '1 second' AS z, date_bin(slide, at, '2000-01-03 00:00:00+00') - n * extract(epoch FROM slide) * interval '1 second' AS s
    FROM generate_series(0, ceil(extract(epoch FROM size) / extract(epoch FROM slide))::int) n) x WHERE s + z > at $$;
CREATE FUNCTION oracle.hop(id bigint, at timestamp, size interval, slide interval) RETURNS SETOF tsrange LANGUAGE sql STABLE STRICT AS $$
  SELECT tsrange(s, s + z) FROM (SELECT extract(epoch FROM size) * interval '1 second' AS z, date_bin(slide, at, '2000-01-03 00:00:00') - n * extract(epoch FROM slide) * interval '1 second' AS s
    FROM generate_series(0, ceil(extract(epoch FROM size) / extract(epoch FROM slide))::int) n) x WHERE s + z > at $$;
CREATE FUNCTION oracle.hop_in_time(id bigint, at timestamptz, size interval, slide interval) RETURNS SETOF tstzrange LANGUAGE plpgsql STABLE STRICT AS $$
  BEGIN RETURN QUERY SELECT w FROM oracle.hop(id, at, size, slide) w
    WHERE NOT EXISTS (SELECT 1 FROM arrivals a WHERE a.id = hop_in_time.id AND a.watermark >= upper(w)); END $$;
CREATE FUNCTION oracle.hop_in_time(id bigint, at timestamp, size interval, slide interval) RETURNS SETOF tsrange LANGUAGE plpgsql STABLE STRICT AS $$
  BEGIN RETURN QUERY SELECT w FROM oracle.hop(id, at, size, slide) w
    WHERE NOT EXISTS (SELECT 1 FROM arrivals a WHERE a.id = hop_in_time.id AND a.watermark >= upper(w)); END $$;
CREATE FUNCTION oracle.cumulate(id bigint, at timestamptz, size interval, step interval) RETURNS SETOF tstzrange LANGUAGE sql STABLE STRICT AS $$
  SELECT tstzrange(s, s + n * step) FROM date_bin(size, at, '2000-01-03 00:00:00+00') s, generate_series(1, (extract(epoch FROM size) / extract(epoch FROM step))::int) n
  WHERE s + n * step > at $$;
CREATE FUNCTION oracle.cumulate(id bigint, at timestamp, size interval, step interval) RETURNS SETOF tsrange LANGUAGE sql STABLE STRICT AS $$
  SELECT tsrange(s, s + n * step) FROM date_bin(size, at, '2000-01-03 00:00:00') s, generate_series(1, (extract(epoch FROM size) / extract(epoch FROM step))::int) n
  WHERE s + n * step > at $$;
CREATE FUNCTION oracle.cumulate_in_time(id bigint, at timestamptz, size interval, step interval) RETURNS SETOF tstzrange LANGUAGE plpgsql STABLE STRICT AS $$
  BEGIN RETURN QUERY SELECT w FROM oracle.cumulate(id, at, size, step) w
    WHERE NOT EXISTS (SELECT 1 FROM arrivals a WHERE a.id = cumulate_in_time.id AND a.watermark >= upper(w)); END $$;
CREATE FUNCTION oracle.cumulate_in_time(id bigint, at timestamp, size interval, step interval) RETURNS SETOF tsrange LANGUAGE plpgsql STABLE STRICT AS $$
  BEGIN RETURN QUERY SELECT w FROM oracle.cumulate(id, at, size, step) w
    WHERE NOT EXISTS (SELECT 1 FROM arrivals a WHERE a.id = cumulate_in_time.id AND a.watermark >= upper(w)); END $$;
};

=pod

=head1 METHODS

=over

=item QueryGenerator->new(seed => n, time_type => 'timestamptz' | 'timestamp', late => 0 | 1)

late: every windowed query reads the column id and says which events contribute.

=cut

sub new
{
	my ($class, %params) = @_;
	my $seed = (($params{seed} || 1) * 2654435761) & 0xffffffff;
	my $self = bless {
		state => $seed || 88172645,
		time_type => $params{time_type} || 'timestamptz',
		late => $params{late} || 0,
	}, $class;

	$self->random for 1 .. 8;
	return $self;
}

# The next number in [0, 1): xorshift.
sub random
{
	my ($self) = @_;
	my $x = $self->{state};

	$x ^= ($x << 13) & 0xffffffff;
	$x ^= $x >> 17;
	$x ^= ($x << 5) & 0xffffffff;
	$self->{state} = $x;
	return $x / 4294967296;
}

sub below { my ($self, $n) = @_; return int($self->random * $n); }
sub chance { my ($self, $p) = @_; return $self->random < $p; }
sub pick { my ($self, @from) = @_; return $from[ $self->below(scalar @from) ]; }

# n different members of a list, in random order.
sub sample
{
	my ($self, $n, @from) = @_;
	my @picked;

	push @picked, splice(@from, $self->below(scalar @from), 1) while $n-- > 0 && @from;
	return @picked;
}

=pod

=item QueryGenerator->fixtures

SQL that creates the ordinary tables, types and functions; once per database.

=cut

sub fixtures
{
	my $step = q{
CREATE FUNCTION oracle_square_step(numeric, int) RETURNS numeric LANGUAGE sql IMMUTABLE AS 'SELECT $1 + coalesce($2::numeric * $2, 0)';
};
	my $fixtures = $FIXTURES;

	$fixtures =~ s/(?=CREATE AGGREGATE oracle_sum_of_squares)/$step/;
	return $fixtures . $TUMBLE;
}

=pod

=item $generator->column_definitions

The columns of the stream and of the table with the same rows: id, at, and one
of every type.

=cut

sub column_definitions
{
	my ($self) = @_;

	return join(', ', 'id bigint', "at $self->{time_type}", map { "$_->[0] $_->[1]" } @COLUMNS);
}

sub column_names { return ('id', 'at', map { $_->[0] } @COLUMNS); }

=pod

=item $generator->rows_query(count => n, step => seconds, jitter => seconds, stray => p, stray_by => seconds, timeless => p)

A query giving rows 1 to n, event times advancing by step on average, each up
to jitter early or late, a few exactly on window boundaries, a fraction stray of
them up to stray_by too early and a fraction timeless without a finite time.
Run it after setseed().

=cut

sub rows_query
{
	my ($self, %p) = @_;
	my $base = $self->{time_type} eq 'timestamptz' ? q{timestamptz '2024-03-30 18:00:00+00'} : q{timestamp '2024-03-30 18:00:00'};
	my $origin = $self->{time_type} eq 'timestamptz' ? q{timestamptz '2000-01-03 00:00:00+00'} : q{timestamp '2000-01-03 00:00:00'};
	my $at = "$base + round(((id * $p{step} + (random() - 0.5) * 2 * $p{jitter}"
	  . ($p{stray} ? " - CASE WHEN random() < $p{stray} THEN random() * $p{stray_by} ELSE 0 END" : '')
	  . ") * 1000000)::numeric) * interval '1 microsecond'";
	my @values = map { $self->value_expression($_) } @COLUMNS;

	my $timeless = $p{timeless} || 0;

	return "SELECT id, CASE WHEN snap < 0.03 THEN date_bin('5 minutes', at, $origin)"
	  . " WHEN snap > 1 - $timeless * 0.2 THEN '-infinity' WHEN snap > 1 - $timeless THEN NULL ELSE at END AS at, "
	  . join(', ', map { $_->[0] } @COLUMNS)
	  . " FROM (SELECT id, $at AS at, random() AS snap, " . join(', ', @values)
	  . " FROM generate_series(1::bigint, $p{count}) AS id) AS generated ORDER BY id";
}

sub value_expression
{
	my ($self, $column) = @_;
	my ($name, $type, $value) = @$column;
	my $null_fraction = $name =~ /^k/ ? 0.06 : 0.15;

	return "CASE WHEN random() >= $null_fraction THEN ($value)::$type END AS $name";
}

=pod

=item $generator->fill($text, stream => ..., view => ..., tumble => ..., hop => ...)

The text with its placeholders filled in.  hop is the beginning of a call; that of
cumulate differs in the name only.

=cut

sub fill
{
	my ($self, $text, %with) = @_;
	my $cumulate = $with{hop} =~ s/hop/cumulate/r;

	$text =~ s/\{V\}/$with{view}/g;
	$text =~ s/\{S\}/$with{stream}/g;
	$text =~ s/\{tumble\}/$with{tumble}/g;
	$text =~ s/\{hop\}\(e\.id, /$with{hop}/g;
	$text =~ s/\{cumulate\}\(e\.id, /$cumulate/g;
	return $text;
}

# What the ordinary view over the stream keeps of it.
sub view_condition { return 'i8 IS NULL OR i8 > -500000000000'; }

=pod

=item $generator->query

The next query.

=cut

sub query
{
	my ($self) = @_;
	my $r = $self->random;

	$r = 0.6 * $r if $self->{late} && $r < 0.9;
	return $self->windowed if $r < 0.48;
	return $self->two_levels if $r < 0.58;
	return $self->ranked if $r < 0.63;
	return $self->unwindowed if $r < 0.82 || ($self->{late} && $r < 0.95);
	return $self->append;
}

# FROM: the stream by itself, under a view, subquery or CTE, joined with up to
# three tables.  Gives the parts of a query around the select list, and what
# the tables offer as keys and as arguments of aggregates.
sub source
{
	my ($self, $max_joins) = @_;
	my %source = (with => '', where => [], keys => [], args => []);
	my $r = $self->random;

	if ($r < 0.08)
	{
		$source{from} = '(SELECT s.*, s.i4 * 2 AS twice FROM {S} s WHERE s.i2 IS NULL OR s.i2 <> 7) e';
		push @{ $source{args} }, 'e.twice';
	}
	elsif ($r < 0.16)
	{
		$source{with} = q{WITH events AS (SELECT * FROM {S} s WHERE s.txt IS NOT NULL OR s.k > 3) };
		$source{from} = 'events e';
	}
	elsif ($r < 0.24)
	{
		$source{from} = '{V} e';
	}
	else
	{
		$source{from} = '{S} e';
	}

	my @joins = $self->sample($self->pick(0, 0, 1, 1, 2, 3), qw(dim1 dim2 dim3 dim_view lateral));

	splice @joins, $max_joins if @joins > $max_joins;
	$self->add_join(\%source, $_) for sort @joins;
	push @{ $source{where} }, $self->condition while $self->chance(0.35);
	push @{ $source{where} }, $self->semi_join if $self->chance(0.12);
	return \%source;
}

sub add_join
{
	my ($self, $source, $table) = @_;
	my $join = $self->chance(0.5) ? 'JOIN' : 'LEFT JOIN';

	if ($table eq 'dim1')
	{
		my $more = $self->chance(0.2) ? ' AND d1.active' : '';
		$source->{from} .= " $join dim1 d1 ON d1.id = e.k$more";
		push @{ $source->{keys} }, 'd1.name', 'd1.region', 'd1.region', 'd1.active';
		push @{ $source->{args} }, 'd1.weight', 'd1.id';
		$source->{has_dim1} = 1;
	}
	elsif ($table eq 'dim2')
	{
		$source->{from} .= " $join dim2 d2 ON d2.code = e.k2";
		push @{ $source->{keys} }, 'd2.label';
		push @{ $source->{args} }, 'd2.factor';
	}
	elsif ($table eq 'dim3')
	{
		$source->{from} .= " $join dim3 d3 ON e.i4 >= d3.lo AND e.i4 < d3.hi";
		push @{ $source->{keys} }, 'd3.band', 'd3.band';
	}
	elsif ($table eq 'dim_view' && $source->{has_dim1})
	{
		$source->{from} .= " $join dim_view dv ON dv.region = d1.region";
		push @{ $source->{keys} }, 'dv.shops';
		push @{ $source->{args} }, 'dv.weights';
	}
	elsif ($table eq 'lateral')
	{
		$source->{from} .= ' LEFT JOIN LATERAL (SELECT max(factor) AS top FROM dim2 WHERE code = e.k2) l ON true';
		push @{ $source->{args} }, 'l.top';
	}
	return;
}

# A predicate over the stream's columns, never constant.
sub condition
{
	my ($self) = @_;

	return $self->pick(
		'e.i4 > 0', 'e.bo', 'NOT e.bo', q{e.txt >= 'h'}, 'e.k2 IS NOT NULL', 'e.num BETWEEN -500 AND 700',
		'e.id % 3 <> 0', q{e.js ? 'a'}, 'e.f8 < e.f4', 'e.k IN (1, 2, 3, 5, 8)', q{e.d > '2020-01-01'},
		'e.kb IS NOT FALSE', q{e.iv < '2 hours'}, q{e.ip <<= '10.1.1.0/24' OR e.k > 4}, q{e.en <> 'ok'},
		'coalesce(e.i2, 1) > 0', q{e.txt LIKE '%a%' OR e.vc IS NULL});
}

sub semi_join
{
	my ($self) = @_;

	return $self->pick(
		'e.k IN (SELECT id FROM dim1 WHERE active)',
		'EXISTS (SELECT 1 FROM dim2 x WHERE x.code = e.k2)',
		'NOT EXISTS (SELECT 1 FROM dim2 x WHERE x.code = e.k2 AND x.factor > 3)',
		'e.i4 > (SELECT min(lo) FROM dim3) + 1000',
		'coalesce((SELECT x.weight FROM dim1 x WHERE x.id = e.k), 0) < 3');
}

sub where_clause
{
	my ($source) = @_;
	my @where = @{ $source->{where} };

	return @where ? ' WHERE ' . join(' AND ', map { "($_)" } @where) : '';
}

# A window over the event time: the expression to group by, its shape and how to
# get its end from a value.
sub window
{
	my ($self) = @_;
	my $type = $self->{time_type};
	my $size = $self->pick('5 minutes', '7 minutes', '10 minutes', '90 seconds', '1 hour', '3 hours', '1 day');
	my $r = $self->random;

	return $self->hop_window if $self->chance(0.25);
	return $self->cumulate_window if $self->chance(0.2);
	my $origin = $type eq 'timestamptz' ? q{timestamptz '2001-02-03 04:05:06+00'} : q{timestamp '2001-02-03 04:05:06'};

	return $self->range_window("{tumble}(e.at, '$size')") if $r < 0.40;
	return $self->range_window("{tumble}(e.at, '$size', $origin)") if $r < 0.50;
	return $self->start_window("date_bin('$size', e.at, $origin)", $size eq '1 day' ? "interval '24 hours'" : "interval '$size'") if $r < 0.70;
	return $self->trunc_window($type);
}

# Windows that overlap, of all kinds of slices.
sub hop_window
{
	my ($self) = @_;
	my ($size, $slide) = @{ $self->pick([ '10 minutes', '2 minutes' ], [ '10 minutes', '3 minutes' ], [ '7 minutes', '5 minutes' ],
		[ '1 hour', '5 minutes' ], [ '1 hour', '1 minute' ], [ '30 minutes', '30 minutes' ], [ '1 day', '7 hours' ]) };

	return { %{ $self->range_window("{hop}(e.id, e.at, '$size', '$slide')") }, hop => 1 };
}

sub cumulate_window
{
	my ($self) = @_;
	my ($size, $step) = @{ $self->pick([ '10 minutes', '2 minutes' ], [ '1 hour', '5 minutes' ], [ '3 hours', '1 minute' ], [ '30 minutes', '30 minutes' ], [ '24 hours', '2 hours' ]) };

	return { %{ $self->range_window("{cumulate}(e.id, e.at, '$size', '$step')") }, hop => 1 };
}

sub range_window
{
	my ($self, $expression) = @_;
	my $r = $self->random;

	return { expression => $expression, end => 'upper(%s)', shape => 'range' } if $r < 0.8;
	return { expression => "upper($expression)", end => '%s', shape => 'end' };
}

sub start_window
{
	my ($self, $expression, $size) = @_;
	return { expression => $expression, end => "%s + $size", shape => 'start' };
}

sub trunc_window
{
	my ($self, $type) = @_;
	my $unit = $self->pick('minute', 'hour', 'hour', 'day');

	if ($type eq 'timestamptz' && $self->chance(0.3))
	{
		my $length = $unit eq 'day' ? '24 hours' : "1 $unit";
		return $self->start_window("date_trunc('$unit', e.at, 'Asia/Kathmandu')", "interval '$length'");
	}
	return $self->start_window("date_trunc('$unit', e.at)", "interval '1 $unit'");
}

# Up to n expressions to group by.
sub keys_of
{
	my ($self, $source, $n) = @_;
	my @keys = (
		@{ $source->{keys} }, @{ $source->{keys} },
		qw(e.k e.k e.k2 e.k2 e.kd e.kb e.kn e.ku e.kc e.en),
		'e.k % 3', 'upper(e.k2)', 'coalesce(e.k, -1)', q{CASE WHEN e.i4 > 0 THEN 'plus' WHEN e.i4 <= 0 THEN 'minus' END},
		'e.k2 || e.kc', 'e.k IS NULL', 'left(e.vc, 1)', 'masklen(e.ip)', 'network(set_masklen(e.ip, 24))', 'sign(e.num)',
		'e.ia[1]', q{e.js -> 'a'}, 'extract(dow FROM e.kd)');
	my %seen;

	return grep { !$seen{$_}++ } $self->sample($n, @keys);
}

# An aggregate: text, and whether its last digits depend on the order of rows.
# incremental_only: no aggregate for which all rows would have to be kept.
sub aggregate
{
	my ($self, $source, $incremental_only) = @_;
	my $r = $self->random;
	my ($text, $inexact) =
	    $r < 0.14 ? ('count(*)')
	  : $r < 0.24 ? ('count(' . $self->argument($source) . ')')
	  : $r < 0.40 ? ($self->sum_or_average($source))
	  : $r < 0.60 ? ($self->extreme($source))
	  : $r < 0.70 ? ($self->bitwise)
	  : $r < 0.80 || $incremental_only ? $self->statistic
	  :             ($self->buffered);

	$text .= ' FILTER (WHERE ' . $self->condition . ')' if $self->chance(0.2);
	return ($text, $inexact || 0);
}

sub argument
{
	my ($self, $source) = @_;
	return $self->pick(@{ $source->{args} }, map { "e.$_->[0]" } @COLUMNS);
}

sub sum_or_average
{
	my ($self, $source) = @_;
	my $function = $self->pick('sum', 'sum', 'avg');
	my @args = (@{ $source->{args} }, qw(e.i2 e.i4 e.i8 e.num e.numx e.f4 e.f8 e.iv e.i4*2 e.num*e.i2));

	return 'sum(e.mo)' if $self->chance(0.05);
	return 'sum(e.fx)' if $self->chance(0.05);
	return 'sum(CASE WHEN e.bo THEN e.i4 ELSE 0 END)' if $self->chance(0.08);
	return "$function(" . $self->pick(@args) . ')';
}

sub extreme
{
	my ($self, $source) = @_;
	my $function = $self->pick('min', 'max');
	my @args = (@{ $source->{args} },
		map { "e.$_" } qw(i2 i4 i8 num numx f4 f8 fx txt vc kc d ts tz tm iv ip mo en ia at));

	return "$function(" . $self->pick(@args, 'lower(e.txt)', 'e.i4 - e.i2') . ')';
}

sub bitwise
{
	my ($self) = @_;

	return $self->pick(
		'bool_and(e.bo)', 'bool_or(e.bo)', 'every(e.kb)', 'bool_or(e.i4 > 90000)',
		'bit_and(e.i4)', 'bit_or(e.i2)', 'bit_xor(e.i8)', 'bit_or(e.bt)', 'bit_and(e.bt)',
		'range_intersect_agg(e.ir)', 'oracle_sum_of_squares(e.i4)', 'oracle_parity(e.i4)');
}

sub statistic
{
	my ($self) = @_;
	my $of_one = $self->pick('stddev', 'stddev_samp', 'stddev_pop', 'variance', 'var_samp', 'var_pop');
	my $of_two = $self->pick('corr', 'covar_pop', 'covar_samp', 'regr_slope', 'regr_intercept', 'regr_r2', 'regr_avgx', 'regr_avgy', 'regr_sxx', 'regr_sxy');
	my $r = $self->random;

	return ("$of_one(e." . $self->pick('i2', 'i4', 'i8', 'num', 'numx') . ')', 0) if $r < 0.5;
	return ("$of_one(e." . $self->pick('f4', 'f8') . ')', 1) if $r < 0.7;
	return ('regr_count(e.f8, e.f4)', 0) if $r < 0.75;
	return ("$of_two(e.f8, e.f4)", 1);
}

# Aggregates that need all rows of the window: ordered, distinct, ordered-set
# and those without a serialised state.
sub buffered
{
	my ($self) = @_;

	return $self->pick(
		'count(DISTINCT e.k2)', 'count(DISTINCT e.i2)', 'sum(DISTINCT e.i2)', 'count(DISTINCT (e.k, e.kb))',
		'array_agg(e.i4 ORDER BY e.id)', 'array_agg(e.k2 ORDER BY e.i8 DESC NULLS LAST, e.id)', 'array_agg(DISTINCT e.k)',
		q{string_agg(e.vc, ',' ORDER BY e.id)}, q{string_agg(DISTINCT e.k2, '|' ORDER BY e.k2)}, q{string_agg(e.by, '\x00' ORDER BY e.id)},
		'jsonb_agg(e.js ORDER BY e.id)', 'jsonb_agg(e.num ORDER BY e.num, e.id)', 'json_agg(e.txt ORDER BY e.id)',
		'jsonb_object_agg(coalesce(e.k2, \'\'), e.i4 ORDER BY e.id)',
		'percentile_cont(0.5) WITHIN GROUP (ORDER BY e.f8)', 'percentile_cont(0.9) WITHIN GROUP (ORDER BY e.iv)',
		'percentile_cont(ARRAY[0.1, 0.75]) WITHIN GROUP (ORDER BY e.f8)', 'percentile_disc(0.3) WITHIN GROUP (ORDER BY e.txt)',
		'mode() WITHIN GROUP (ORDER BY e.k)', 'rank(100) WITHIN GROUP (ORDER BY e.i2)', 'dense_rank(5) WITHIN GROUP (ORDER BY e.k)',
		'range_agg(e.ir)');
}

# A select item made of aggregates and of the query's own keys.
sub aggregate_expression
{
	my ($self, $source, $incremental_only, @keys) = @_;
	my ($text, $inexact) = $self->aggregate($source, $incremental_only);
	my $r = $self->random;

	return ($text, $inexact) if $r < 0.65 || $inexact;
	return ("coalesce(sum(e.i4), 0) + count(*)", 0) if $r < 0.70;
	return (q{CASE WHEN count(*) > 3 THEN 'many' WHEN count(*) = 1 THEN 'one' ELSE 'few' END}, 0) if $r < 0.75;
	return ('round(avg(e.num), 3)', 0) if $r < 0.79;
	return (q{max(e.vc) || '/' || count(*)}, 0) if $r < 0.83;
	return ('sum(e.i4)::numeric / nullif(count(e.i4), 0)', 0) if $r < 0.87;
	return (q{jsonb_build_object('n', count(*), 'last', max(e.ts), 'sum', sum(e.num))}, 0) if $r < 0.91;
	return ('GREATEST(min(e.i2), -10)', 0) if $r < 0.94;
	return ('(array_agg(e.txt ORDER BY e.id DESC))[1]', 0) if $r < 0.96 && !$incremental_only;
	return ("($text) IS NULL", 0) unless @keys;
	return ("concat_ws('-', " . $self->pick(@keys) . ', count(*))', 0);
}

sub having
{
	my ($self, $incremental_only) = @_;
	my @having = ('count(*) > 1', 'sum(e.i4) IS NOT NULL', 'max(e.f8) > 0 AND count(*) < 500', 'bool_or(e.bo)', q{min(e.txt) < 'm'});

	push @having, 'count(DISTINCT e.k2) > 1' unless $incremental_only;
	return ' HAVING ' . $self->pick(@having);
}

# Window functions over the groups of a window.  Ordering by all keys makes the
# order total.
sub over_groups
{
	my ($self, $window, @keys) = @_;
	my $partition = "PARTITION BY $window";
	my $order = @keys ? 'ORDER BY ' . join(', ', @keys) : '';
	my @choices = (
		"sum(count(*)) OVER ($partition)", "count(*) OVER ($partition)", "max(max(e.num)) OVER ($partition)",
		"round(count(*) / sum(count(*)) OVER ($partition), 6)");

	push @choices, "row_number() OVER ($partition $order)",
	  'rank() OVER (' . join(' ', $partition, 'ORDER BY count(*) DESC') . ')',
	  "sum(sum(e.i4)) OVER ($partition $order)", "lag(count(*), 1, 0) OVER ($partition $order)",
	  "first_value(count(*)) OVER ($partition $order)"
	  if @keys;
	return $self->pick(@choices);
}

# Put a query together from its select list; items are [text, inexact].
sub assemble
{
	my ($self, $source, $items, $tail, %query) = @_;
	my $n = 0;
	my @list = map { $n++; "$_->[0] AS c$n" } @$items;

	$query{columns} = $n;
	$query{inexact} = { map { $_ + 1 => 1 } grep { $items->[$_][1] } 0 .. $#$items };
	$query{sql} = "$source->{with}SELECT " . join(', ', @list) . " FROM $source->{from}" . where_clause($source) . $tail;
	return \%query;
}

# Which events reach a windowed query's windows, with or without a time.
sub reaches
{
	my ($source) = @_;
	return "$source->{with}SELECT DISTINCT e.id, e.at FROM $source->{from}" . where_clause($source);
}

# Which events are in a windowed query's windows, and which windows those are.
sub contributes
{
	my ($source, $window) = @_;
	my $end = sprintf($window->{end}, "($window->{expression})");

	return "$source->{with}SELECT DISTINCT e.id, e.at, $end AS window_end FROM $source->{from}" . where_clause($source);
}

sub windowed
{
	my ($self) = @_;
	my $source = $self->source(3);
	my $window = $self->window;
	my @keys = $self->keys_of($source, $self->pick(0, 1, 1, 1, 2, 2, 3));
	my @items = ([ $window->{expression} ], map { [$_] } @keys);
	my $incremental_only = $self->chance(0.6);
	my $tail;

	push @items, [ $self->aggregate_expression($source, $incremental_only, @keys) ] for 1 .. 1 + $self->below(5);
	push @items, [ $self->over_groups($window->{expression}, @keys) ] if $self->chance(0.25);
	push @items, ['max(e.id)'] if $self->{late};
	$tail = ' GROUP BY ' . ($self->chance(0.5) ? join(', ', map { $_ + 1 } 0 .. @keys) : join(', ', $window->{expression}, @keys));
	$tail .= $self->having($incremental_only) if $self->chance(0.2);
	return $self->assemble($source, \@items, $tail,
		kind => 'windowed',
		hop => $window->{hop},
		window_end => sprintf($window->{end}, 'c1'),
		contributes => contributes($source, $window), reaches => reaches($source));
}

# An aggregate or a window function over the groups of a window, as a subquery.
sub two_levels
{
	my ($self) = @_;
	my $source = $self->source(2);
	my $window = $self->window;
	my @keys = $self->keys_of($source, $self->pick(1, 2));
	my @inner = ("$window->{expression} AS w", (map { "$keys[$_] AS k$_" } 0 .. $#keys), 'count(*) AS n', 'sum(e.i4) AS s', 'max(e.id) AS m');
	my $inner = "SELECT " . join(', ', @inner) . " FROM $source->{from}" . where_clause($source)
	  . ' GROUP BY ' . join(', ', 1 .. 1 + @keys);
	my $keys = join(', ', map { "k$_" } 0 .. $#keys);
	my $end = sprintf($window->{end}, 'c1');
	my %query = (kind => 'windowed', hop => $window->{hop}, window_end => $end, inexact => {}, contributes => contributes($source, $window), reaches => reaches($source));

	if ($self->chance(0.5))
	{
		$query{sql} = "$source->{with}SELECT w AS c1, count(*) AS c2, max(n) AS c3, sum(s) AS c4, avg(n) AS c5, max(m) AS c6 FROM ($inner) g GROUP BY w";
		$query{columns} = 6;
		$query{optional} = 1;
	}
	else
	{
		$query{sql} = "$source->{with}SELECT w AS c1, n AS c2, s AS c3, m AS c4, r AS c5 FROM (SELECT g.*, row_number() OVER (PARTITION BY w ORDER BY n DESC, $keys) AS r FROM ($inner) g) t WHERE r <= 3";
		$query{columns} = 5;
	}
	return \%query;
}

# A window function over the events of a window, without groups.
sub ranked
{
	my ($self) = @_;
	my $source = { with => '', from => '{S} e', where => [ $self->condition ] };
	my $window = $self->window;
	my $w = $window->{expression};
	my %query = (kind => 'windowed', hop => $window->{hop}, window_end => sprintf($window->{end}, 'c1'), inexact => {}, columns => 4, optional => 1,
		contributes => contributes($source, $window), reaches => reaches($source));

	$query{sql} = "SELECT w AS c1, id AS c2, k AS c3, r AS c4 FROM (SELECT $w AS w, e.id, e.k, rank() OVER (PARTITION BY $w, e.k ORDER BY e.num DESC NULLS LAST, e.id) AS r FROM {S} e"
	  . where_clause($source) . ') t WHERE r <= 2';
	return \%query;
}

# Aggregates without a window: kept for ever, shown as they change.
sub unwindowed
{
	my ($self) = @_;
	my $source = $self->source(3);
	my @keys = $self->keys_of($source, $self->pick(0, 1, 1, 2));
	my @items = map { [$_] } @keys;
	my $tail = @keys ? ' GROUP BY ' . join(', ', 1 .. @keys) : '';

	push @items, [ $self->aggregate_expression($source, 1, @keys) ] for 1 .. 1 + $self->below(4);
	push @items, ["rank() OVER (ORDER BY count(*) DESC, $keys[0])"] if @keys == 1 && $self->chance(0.2);
	$tail .= $self->having(1) if @keys && $self->chance(0.25);
	return $self->assemble($source, \@items, $tail, kind => 'unwindowed');
}

# Filter, projection and enrichment: a row per event, as it comes.
sub append
{
	my ($self) = @_;
	my $source = $self->source(3);
	my @expressions = (
		@{ $source->{keys} }, @{ $source->{args} }, (map { "e.$_->[0]" } @COLUMNS), 'e.at',
		'upper(e.txt)', 'e.num * 2', 'e.i4::text', q{e.at + interval '1 hour'}, q{e.js ->> 'a'}, 'e.ia[1]', 'coalesce(e.k, 0) + e.i2',
		q{CASE WHEN e.bo THEN e.txt ELSE 'no' END}, 'extract(epoch FROM e.at)', q{to_char(e.ts, 'YYYY-MM')}, 'e.tz::text',
		'e.k2 IS DISTINCT FROM e.kc', 'ARRAY[e.i4, e.k]', '(SELECT max(x.factor) FROM dim2 x WHERE x.code = e.k2)', 'nullif(e.k, 3)',
		q{format('%s:%s', e.k, e.kd)}, 'e.f8 / 4', 'host(e.ip)', 'isempty(e.ir)', q{date_trunc('month', e.ts)});
	my @items = map { [$_] } ('e.id', $self->sample(1 + $self->below(5), @expressions));

	return $self->assemble($source, \@items, '', kind => 'append');
}

=pod

=back

=cut

1;
