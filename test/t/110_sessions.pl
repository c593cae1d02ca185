# Session windows against the rule itself, carried out one event after the other:
# small random streams with ties, gaps that are just reached or just missed,
# late events and NULL keys, through batches of any size, restarts and crashes.
# If this failed, a session would depend on how events were batched, or lose or
# count twice what a restart found in memory or in chunks.
#
# PIPELINE_SEED repeats a run; PIPELINE_ROUNDS (4) rounds, each with several streams.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use PostgreSQL::Test::Utils;
use Test::More;

use PipelineNode;

my $seed = $ENV{PIPELINE_SEED} || time % 100000;
my $rounds = $ENV{PIPELINE_ROUNDS} || 4;
my $streams = 6;
my @batch_sizes = (4096, 1, 7, 1000, 50, 4096);
my @views = qw(v f r c a b x y z);
my $bridged = 0;    # streams in which lateness made a difference
my $node = PipelineNode->create('sessions',
	conf => "timezone = 'UTC'\nmax_worker_processes = 64\npipeline.checkpoint_interval = '100ms'\nautovacuum = off\n");

srand($seed);
diag("PIPELINE_SEED=$seed");

sub value
{
	my ($sql) = @_;
	return $node->sql($sql);
}

# Events of a stream: times in units that make ties and exact gaps likely.
sub make_events
{
	my ($gap, $bound) = @_;
	my $keys = 1 + int(rand(6));
	my $time = 0;
	my @events;

	for my $id (1 .. 150 + int(rand(400)))
	{
		my $r = rand;

		$time += $r < 0.3 ? 0 : $r < 0.6 ? 1 : $r < 0.8 ? int(rand($gap)) : $r < 0.9 ? $gap : $r < 0.95 ? $gap + 1 : int(rand(4 * $gap));
		my $at = $time - (rand() < 0.4 ? int(rand($bound + 1)) : 0) - (rand() < 0.05 ? int(rand(6 * $gap)) : 0);
		push @events, { id => $id, at => $at, k => (rand() < 0.1 ? undef : 'k' . int(rand($keys))), v => int(rand(100)) };
	}
	return \@events;
}

# The rule: sessions that are not past take in what they touch; past are those whose end the watermark has
# passed, by more than the lateness that is allowed; late is what would be a past session of its own.
sub sessions_of
{
	my ($events, $gap, $bound, $lateness) = @_;
	my (%open, @rows, @late);
	my $watermark = -1e9;
	my $highest = -1e9;

	for my $event (@$events)
	{
		my $key = $event->{k} // '';
		my @past = grep { $_->{last} + $gap + $lateness < $watermark } @{ $open{$key} };
		my @live = grep { $_->{last} + $gap + $lateness >= $watermark } @{ $open{$key} };
		my @touched = grep { $event->{at} <= $_->{last} + $gap && $event->{at} + $gap >= $_->{first} } @live;
		my @others = grep { my $s = $_; !grep { $_ == $s } @touched } @live;

		push @rows, @past;
		if (!@touched && $event->{at} + $gap + $lateness < $watermark)
		{
			push @late, $event;
		}
		else
		{
			my %merged = (k => $event->{k}, first => $event->{at}, last => $event->{at}, n => 1, v => $event->{v}, top => $event->{v}, ids => $event->{id});

			for my $s (@touched)
			{
				$merged{first} = $s->{first} if $s->{first} < $merged{first};
				$merged{last} = $s->{last} if $s->{last} > $merged{last};
				$merged{top} = $s->{top} if $s->{top} > $merged{top};
				$merged{$_} += $s->{$_} for qw(n v ids);
			}
			push @others, \%merged;
		}
		$open{$key} = \@others;
		$highest = $event->{at} if $event->{at} > $highest;
		$watermark = $highest - $bound if $highest - $bound > $watermark;
	}
	push @rows, map { @$_ } values %open;
	return (\@rows, \@late, $watermark);
}

sub quoted { my ($k) = @_; return defined $k ? "'$k'" : 'NULL'; }

sub time_sql { my ($t) = @_; return "timestamptz '2024-01-01 00:00:00+00' + $t * interval '1 millisecond'"; }

# In transactions of random size, with workers or the server going away in between.
sub insert_events
{
	my ($stream, $disturb) = @_;
	my @events = @{ $stream->{events} };

	while (@events)
	{
		my @some = splice(@events, 0, 1 + int(exp(rand(5))));

		value("INSERT INTO $stream->{name} VALUES " . join(', ', map { "($_->{id}, " . time_sql($_->{at}) . ', ' . quoted($_->{k}) . ", $_->{v})" } @some));
		value("SELECT pg_terminate_backend(pid) FROM pipeline.stat_views WHERE view = '$stream->{name}_v'::regclass AND pid IS NOT NULL") if $disturb && rand() < 0.1;
	}
	return;
}

sub store_rows
{
	my ($stream, $table, $rows) = @_;

	value("INSERT INTO $stream->{name}_$table VALUES " . join(', ', map {
				'(' . quoted($_->{k}) . ', tstzrange(' . time_sql($_->{first}) . ', ' . time_sql($_->{last} + $stream->{gap}) . "), $_->{n}, $_->{v}, $_->{top}, $_->{ids})" } @$rows));
	return;
}

sub play_round
{
	my ($round) = @_;
	my @all;
	my $problems = '';

	$node->append_conf('postgresql.conf', 'pipeline.batch_size = ' . $batch_sizes[ ($round - 1) % @batch_sizes ] . "\n");
	$node->reload;
	for my $i (1 .. $streams)
	{
		my ($gap, $bound) = (1 + int(rand(20)), int(rand(30)));
		my $lateness = 1 + int(rand(5 * $gap));
		my $interval = ('0', '20 milliseconds', '1 hour')[ int(rand(3)) ];
		my $stream = { name => "s$i", gap => $gap, bound => $bound, lateness => $lateness, events => make_events($gap, $bound) };

		value(qq{
SET client_min_messages = warning;
CREATE FOREIGN TABLE s$i (id int, at timestamptz, k text, v int) SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '$bound milliseconds', idle_timeout 'off');
CREATE VIEW s${i}_v WITH (pipeline.continuous) AS
  SELECT k, pipeline.session(at, '$gap milliseconds') AS w, count(*) AS n, sum(v) AS v, max(v) AS top, sum(id) AS ids, sum(v::numeric) AS exact FROM s$i GROUP BY k, w;
CREATE VIEW s${i}_f WITH (pipeline.continuous) AS
  SELECT k, pipeline.session(at, '$gap milliseconds') AS w, count(*) AS n, sum(v) AS v, max(v) AS top, sum(id) AS ids FROM s$i GROUP BY k, w;
CREATE VIEW s${i}_r WITH (pipeline.continuous) AS
  SELECT k, pipeline.session(at, '$gap milliseconds') AS w, array_agg(id ORDER BY id) AS ids FROM s$i GROUP BY k, w;
CREATE VIEW s${i}_c WITH (pipeline.continuous, pipeline.emit = 'changes') AS
  SELECT k, pipeline.session(at, '$gap milliseconds') AS w, count(*) AS n, sum(v) AS v, max(v) AS top, sum(id) AS ids FROM s$i GROUP BY k, w;
CREATE VIEW s${i}_a WITH (pipeline.continuous, pipeline.allowed_lateness = '$lateness milliseconds') AS
  SELECT k, pipeline.session(at, '$gap milliseconds') AS w, count(*) AS n, sum(v) AS v, max(v) AS top, sum(id) AS ids, sum(v::numeric) AS exact FROM s$i GROUP BY k, w;
CREATE VIEW s${i}_b WITH (pipeline.continuous, pipeline.allowed_lateness = '$lateness milliseconds', pipeline.emit = 'changes', pipeline.emit_interval = '$interval') AS
  SELECT k, pipeline.session(at, '$gap milliseconds') AS w, count(*) AS n, sum(v) AS v, max(v) AS top, sum(id) AS ids FROM s$i GROUP BY k, w;
CREATE VIEW s${i}_x WITH (pipeline.continuous, pipeline.emit = 'changes', pipeline.emit_interval = '$interval') AS
  SELECT k, pipeline.session(at, '$gap milliseconds') AS w, array_agg(id ORDER BY id) AS ids FROM s$i GROUP BY k, w;
CREATE VIEW s${i}_y WITH (pipeline.continuous, pipeline.allowed_lateness = '$lateness milliseconds') AS
  SELECT k, pipeline.session(at, '$gap milliseconds') AS w, array_agg(id ORDER BY id) AS ids FROM s$i GROUP BY k, w;
CREATE VIEW s${i}_z WITH (pipeline.continuous, pipeline.allowed_lateness = '$lateness milliseconds', pipeline.emit = 'changes', pipeline.emit_interval = '$interval') AS
  SELECT k, pipeline.session(at, '$gap milliseconds') AS w, array_agg(id ORDER BY id) AS ids FROM s$i GROUP BY k, w;
CREATE TABLE s${i}_rows (k text, w tstzrange, n bigint, v bigint, top int, ids bigint); CREATE TABLE s${i}_late (id int);
CREATE TABLE s${i}_arows (k text, w tstzrange, n bigint, v bigint, top int, ids bigint); CREATE TABLE s${i}_alate (id int);});
		push @all, $stream;
	}
	for my $stream (@all)
	{
		insert_events($stream, 1);
		if (rand() < 0.15)
		{
			$node->stop(rand() < 0.5 ? 'immediate' : 'fast');
			$node->start;
		}
	}
	for my $stream (@all)
	{
		my $name = $stream->{name};
		my ($rows, $late) = sessions_of($stream->{events}, $stream->{gap}, $stream->{bound}, 0);
		my ($admitted, $too_late, $watermark) = sessions_of($stream->{events}, $stream->{gap}, $stream->{bound}, $stream->{lateness});
		my $complete = 'upper(w) < ' . time_sql($watermark);

		store_rows($stream, 'rows', $rows);
		store_rows($stream, 'arows', $admitted);
		value("INSERT INTO ${name}_late VALUES " . join(', ', map { "($_->{id})" } @$late)) if @$late;
		value("INSERT INTO ${name}_alate VALUES " . join(', ', map { "($_->{id})" } @$too_late)) if @$too_late;
		$node->wait_for("${name}_$_") for @views;
		for my $view (@views)
		{
			$problems .= "${name}_$view: state is not what its chunks say\n" if value("SELECT pipeline.verify_state('${name}_$view')") ne 't';
		}

		# what is open is shown, or is not, and no event could change what is complete now without being admitted
		my $lists = 'SELECT k, w, cardinality(ids) AS n, (SELECT sum(i) FROM unnest(ids) i) AS ids FROM';

		$problems .= $_ for grep { $_ } $node->rows_differ("SELECT * FROM ${name}_rows", "SELECT * FROM ${name}_c"),
		  $node->rows_differ("SELECT * FROM ${name}_arows", "SELECT * FROM ${name}_b"),
		  $node->rows_differ("SELECT k, w, n, ids FROM ${name}_rows", "$lists ${name}_x"),
		  $node->rows_differ("SELECT k, w, n, ids FROM ${name}_arows", "$lists ${name}_z"),
		  $node->rows_differ("SELECT k, w, n, ids FROM ${name}_arows WHERE $complete", "$lists ${name}_y"),
		  $node->rows_differ("SELECT *, v::numeric FROM ${name}_arows WHERE $complete", "SELECT * FROM ${name}_a");
		value("SELECT pipeline.advance_watermark('$name', 'infinity')");
		$node->wait_for("${name}_$_") for @views;
		$problems .= $_ for grep { $_ } $node->rows_differ("SELECT *, v::numeric FROM ${name}_arows", "SELECT * FROM ${name}_a"),
		  $node->rows_differ("SELECT k, w, n, ids FROM ${name}_rows", "$lists ${name}_x"),
		  $node->rows_differ("SELECT k, w, n, ids FROM ${name}_arows", "$lists ${name}_y"),
		  $node->rows_differ("SELECT k, w, n, ids FROM ${name}_arows", "$lists ${name}_z"),
		  $node->rows_differ("SELECT id FROM ${name}_alate", "SELECT id FROM ${name}_y_late"),
		  $node->rows_differ("SELECT * FROM ${name}_rows", "SELECT * FROM ${name}_c"),
		  $node->rows_differ("SELECT * FROM ${name}_arows", "SELECT * FROM ${name}_b"),
		  $node->rows_differ("SELECT id FROM ${name}_late", "SELECT id FROM ${name}_c_late"),
		  $node->rows_differ("SELECT id FROM ${name}_alate", "SELECT id FROM ${name}_a_late"),
		  $node->rows_differ("SELECT id FROM ${name}_alate", "SELECT id FROM ${name}_b_late");
		$bridged++ if @$late > @$too_late;
		$problems .= $_ for grep { $_ } $node->rows_differ("SELECT *, v::numeric FROM ${name}_rows", "SELECT * FROM ${name}_v"),
		  $node->rows_differ("SELECT * FROM ${name}_rows", "SELECT * FROM ${name}_f"),
		  $node->rows_differ("SELECT k, w, n, ids FROM ${name}_rows", "SELECT k, w, cardinality(ids) AS n, (SELECT sum(i) FROM unnest(ids) i) AS ids FROM ${name}_r"),
		  $node->rows_differ("SELECT id FROM ${name}_late", "SELECT id FROM ${name}_r_late"),
		  $node->rows_differ("SELECT id FROM ${name}_late", "SELECT id FROM ${name}_f_late"),
		  $node->rows_differ("SELECT id FROM ${name}_late", "SELECT id FROM ${name}_v_late");
	}
	is($problems, '', "round $round: sessions and late events of $streams streams");
	value("SET client_min_messages = warning; DROP FOREIGN TABLE s$_ CASCADE; DROP TABLE s${_}_rows, s${_}_late, s${_}_arows, s${_}_alate") for 1 .. $streams;
	return;
}

play_round($_) for 1 .. $rounds;
cmp_ok($bridged, '>', 0, 'late events were admitted');
$node->stop;
done_testing();
