# The benchmark measures what it says: its events are the same each time and
# have the model's proportions, and the view of each scenario gives what the
# scenario's batch query gives, also over events that are out of order.  If this
# failed, figures would be published for wrong results.

use strict;
use warnings;

use File::Basename qw(basename);
use FindBin;
use lib "$FindBin::Bin/../lib";

use IPC::Run ();
use PostgreSQL::Test::Utils;
use Test::More;

use KafkaBroker;
use PipelineNode;

my $nexmark = "$FindBin::Bin/../tools/nexmark";
my $scenarios = "$FindBin::Bin/../bench/scenarios";
my $folder = PostgreSQL::Test::Utils::tempdir();
my $events = 20_000;

sub nexmark_csv
{
	my (@arguments) = @_;
	my $out;

	IPC::Run::run([ $nexmark, '--csv', '-', @arguments ], '>', \$out) or die "nexmark failed: $?";
	return $out;
}

# The events as a set.
sub without_places
{
	my ($csv) = @_;
	my @events = $csv =~ /^\d+,(.*)$/mg;

	@events = sort @events;
	return join("\n", @events);
}

# The model
{
	my $csv = nexmark_csv('--count', 50_000);
	my (%kinds, %auctions, %bidders, @prices);
	my ($hot_auctions, $hot_bidders, $bids) = (0, 0, 0);

	is(nexmark_csv('--count', 50_000), $csv, 'the same events each time');
	is(nexmark_csv('--count', 10_000, '--first', 40_000), substr($csv, length(nexmark_csv('--count', 40_000))), 'whichever are made');
	isnt(nexmark_csv('--count', 50_000, '--seed', 2), $csv, 'and others with another seed');
	foreach (split /\n/, $csv)
	{
		my (undef, $kind, $auction, $bidder, $price) = split /,/;

		$kinds{$kind}++;
		next if $kind != 2;
		$bids++;
		$hot_auctions++ if $auction % 100 == 0;
		$hot_bidders++ if $bidder % 100 == 1;
		push @prices, $price;
	}
	is_deeply(\%kinds, { 0 => 1000, 1 => 3000, 2 => 46_000 }, 'one person and three auctions to 46 bids');
	cmp_ok(abs($hot_auctions / $bids - 0.505), '<', 0.02, 'half of all bids are for one auction of each hundred');
	cmp_ok(abs($hot_bidders / $bids - 0.7525), '<', 0.02, 'three quarters are from one person of each hundred');
	cmp_ok(abs(scalar(grep { $_ < 10_000 } @prices) / $bids - 1 / 3), '<', 0.02, 'a third of all prices is low');
	cmp_ok(abs(scalar(grep { $_ >= 1_000_000 } @prices) / $bids - 1 / 3), '<', 0.02, 'and a third high');
	is(without_places(nexmark_csv('--count', 50_000, '--group', 50)), without_places($csv), 'a shuffled stream has the same events');
}

# The scenarios
my $broker = KafkaBroker->new;
my $node = PipelineNode->create('nexmark', conf => "timezone = 'UTC'\n");
my $address = $broker->address;

foreach my $topic ([ 'nexmark', '--group', '1009' ], [ 'ysb', '--ysb', '--ads', "$folder/ads.csv" ])
{
	my ($name, @options) = @$topic;
	my $said;

	$broker->create_topic($name, 2);
	IPC::Run::run([ $nexmark, '--brokers', $address, '--topic', $name, '--count', $events, '--rate', 500, '--sentinel',
			'--csv', "$folder/$name.csv", @options ], '2>', \$said) or die "nexmark failed: $said";
	# the files are read by the server, and psql's variables are not for safe_psql
	my $sql = slurp_file("$scenarios/$name.stream");
	$sql =~ s/:'address'/'$address'/g;
	$sql =~ s/^SELECT format\('COPY ([^%]*) FROM %L[^\n]*'\/(\w+\.csv)'\) \\gexec$/COPY $1 FROM '$folder\/$2' WITH (FORMAT csv);/mg;
	$node->sql($sql);
}
foreach my $file (sort glob("$scenarios/*.sql"))
{
	my $name = basename($file, '.sql');
	my ($view, $oracle) = split /^-- oracle$/m, slurp_file($file);

	$node->sql($view);
	$node->sql($oracle);
	$node->wait_for('result');
	is($node->sql('SELECT (SELECT count(*) > 0 FROM expected), (SELECT count(*) FROM (TABLE result EXCEPT ALL TABLE expected) a),
		(SELECT count(*) FROM (TABLE expected EXCEPT ALL TABLE result) a)'), 't|0|0', "$name: the view equals the batch query");
	is($node->sql("SELECT events_in, late, dead_letters FROM pipeline.stat_views WHERE view = 'result'::regclass"),
		$events + 2 . '|0|0', "$name: every event was taken in");
	$node->sql('DROP VIEW result; DROP TABLE expected');
}

# The queries with windows over events that are up to a second out of order, a hundredth of them by up to eight
# seconds more, twice what the stream allows; midnight is in the middle.  Each query reads the topic in two views:
# both partitions, and only the first one, in which the order of the events alone says what is late (P3).
{
	my $said;
	my $sql = slurp_file("$scenarios/nexmark.stream");

	$broker->create_topic('late', 2);
	IPC::Run::run([ $nexmark, '--brokers', $address, '--topic', 'late', '--count', $events, '--rate', 500, '--sentinel', '--group', 499,
			'--start', 1_436_918_400 + 86_400 - $events / 1000, '--seed', 8, '--late-share', 0.01, '--late-ms', 8000, '--csv', "$folder/late.csv" ],
		'2>', \$said) or die "nexmark failed: $said";
	$sql =~ s/:'address'/'$address'/g;
	$sql =~ s/topic 'nexmark'/topic 'late'/;
	$sql =~ s/^SELECT format\('COPY ([^%]*) FROM %L[^\n]*'\/(\w+\.csv)'\) \\gexec$/COPY $1 FROM '$folder\/late.csv' WITH (FORMAT csv);/mg;
	$node->sql('DROP FOREIGN TABLE nexmark CASCADE; DROP TABLE nexmark_events CASCADE; DROP SERVER bench CASCADE');
	$node->sql($sql);
	(my $one = $sql) =~ s/^.*?(CREATE FOREIGN TABLE) nexmark (.*?)topic 'late'(.*?;).*/$1 one $2topic 'late', partitions '0'$3/s;
	$node->sql($one);
}

# An event's window, and for the watermark what its partition would make of it alone, which no watermark of both exceeds.
$node->sql(q{
CREATE TABLE arrivals AS
SELECT *, coalesce(max(date_time) OVER (PARTITION BY place % 2 ORDER BY place ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
  - interval '4 seconds', '-infinity') AS mark FROM nexmark_events;
CREATE VIEW ten_seconds AS
SELECT *, tstzrange(s, s + interval '10 seconds') AS w FROM (SELECT *, date_bin('10 seconds', date_time, '2000-01-03Z') AS s FROM arrivals) AS a;
CREATE VIEW hops AS
SELECT *, tstzrange(s, s + interval '10 seconds') AS w
FROM (SELECT *, date_bin('2 seconds', date_time, '2000-01-03Z') - i * interval '2 seconds' AS s FROM arrivals, generate_series(0, 4) AS i) AS a;
CREATE VIEW days AS
SELECT *, tstzrange(s, s + interval '1 day') AS w FROM (SELECT *, date_trunc('day', date_time) AS s FROM arrivals) AS a});

# The windows of each query, and the kinds of events that it reads.
my %queries = (
	q5 => [ 'hops', '2' ], q7 => [ 'ten_seconds', '2' ], q8 => [ 'ten_seconds', '0, 1' ], q12 => [ 'ten_seconds', '2' ],
	q15 => [ 'days', '2' ], q16 => [ 'days', '2' ], q17 => [ 'days', '2' ]);
my @sessions = ([ q11 => '10 seconds' ], [ q11_short => '2 seconds' ]);
my @streams = ([ nexmark => '0, 1' ], [ one => '0' ]);

sub scenario
{
	my ($name, $view, $stream) = @_;
	my ($create, $oracle) = split /^-- oracle$/m, slurp_file("$scenarios/$name.sql");

	$create =~ s/VIEW result /VIEW $view /;
	$create =~ s/\bnexmark\b/$stream/g;
	return ($create, $oracle);
}

foreach my $stream (map { $_->[0] } @streams)
{
	$node->sql((scenario($_, "${stream}_$_", $stream))[0]) foreach sort keys %queries;
	foreach my $session (@sessions)
	{
		my ($create) = scenario('q11', "${stream}_$session->[0]", $stream);

		$create =~ s/'10 seconds'/'$session->[1]'/;
		$node->sql($create);
	}
	# and the one that by its definition is about the time at which events are taken in
	$node->sql("CREATE VIEW ${stream}_clock WITH (pipeline.continuous, pipeline.emit = 'changes') AS
SELECT bidder, pipeline.tumble(pipeline.proctime(), '10 seconds') AS w, count(*) AS bids FROM $stream WHERE event_type = 2 GROUP BY bidder, w");
}

# Which events were late for which windows.
sub late_pairs
{
	my ($view) = @_;
	return qq{(SELECT "offset" * 2 + partition AS place, unnest(late_windows) AS w FROM ${view}_late)};
}

sub check_query
{
	my ($name, $stream, $partitions) = @_;
	my $view = "${stream}_$name";
	my ($windows, $kinds) = @{ $queries{$name} };
	my $late = late_pairs($view);
	my $could = "SELECT place, w FROM $windows WHERE place % 2 IN ($partitions) AND kind IN ($kinds) AND mark >= upper(w)";
	my $oracle = (scenario($name, $view, $stream))[1];

	# here an event can be late for some of its windows
	$oracle = qq{
CREATE TABLE expected AS
WITH counts AS (SELECT auction, w, count(*) AS num FROM hops
  WHERE kind = 2 AND NOT sentinel AND place % 2 IN ($partitions) AND (place, w) NOT IN (SELECT place, w FROM $late AS l) GROUP BY auction, w)
SELECT auction, num, w FROM counts JOIN (SELECT w, max(num) AS num FROM counts GROUP BY w) AS m USING (w, num)} if $name eq 'q5';
	is($node->sql(qq{
BEGIN;
DELETE FROM nexmark_events WHERE place % 2 NOT IN ($partitions);
DELETE FROM nexmark_events WHERE place IN (SELECT place FROM $late AS l) AND '$name' <> 'q5';
$oracle;
SELECT count(*) > 0 FROM expected;
SELECT (SELECT count(*) FROM (TABLE $view EXCEPT ALL TABLE expected) a), (SELECT count(*) FROM (TABLE expected EXCEPT ALL TABLE $view) a);
ROLLBACK;}), "t\n0|0", "$view: the view equals the batch query over what was not late");
	if ($stream eq 'one')
	{
		is($node->rows_differ("SELECT place, w FROM $late AS l", $could), '', "$view: what was late is stored");
		cmp_ok($node->sql("SELECT count(*) FROM ($could) AS c"), '>', 0, "$view: some events are late");
	}
	else
	{
		is($node->sql("SELECT count(*) FROM ((SELECT place, w FROM $late AS l) EXCEPT ALL ($could)) AS a"), 0, "$view: what was not late is not stored");
	}
	return;
}

# Sessions one event after the other: what is not past and touches is merged.
sub sessions_by_rule
{
	my ($stream, $gap) = @_;
	my (%live, @over, @late);

	$gap =~ s/ seconds/000/;
	foreach my $row (split /\n/, $node->sql(q{SELECT place, bidder, (extract(epoch FROM date_time) * 1000)::bigint,
		CASE WHEN isfinite(mark) THEN (extract(epoch FROM mark) * 1000)::bigint ELSE 0 END FROM arrivals WHERE kind = 2 AND NOT sentinel AND place % 2 = 0 ORDER BY place}))
	{
		my ($place, $bidder, $at, $mark) = split /\|/, $row;
		my $new = { first => $at, last => $at, bids => 1 };
		my @others;

		foreach my $session (@{ $live{$bidder} })
		{
			if ($session->{last} + $gap < $mark) { push @over, [ $bidder, $session ]; }
			elsif ($session->{first} > $at + $gap || $session->{last} + $gap < $at) { push @others, $session; }
			else
			{
				$new->{first} = $session->{first} if $session->{first} < $new->{first};
				$new->{last} = $session->{last} if $session->{last} > $new->{last};
				$new->{bids} += $session->{bids};
			}
		}
		if ($new->{last} + $gap < $mark) { push @late, $place; }
		else { push @others, $new; }
		$live{$bidder} = \@others;
	}
	foreach my $bidder (keys %live) { push @over, map { [ $bidder, $_ ] } @{ $live{$bidder} }; }
	return ([ sort map { join('|', $_->[0], $_->[1]{first}, $_->[1]{last} + $gap, $_->[1]{bids}) } @over ], [ sort @late ]);
}

# A session that was over is not merged with what comes later, which the batch query does: so ranges that touch are
# counted as one on both sides, and where order decides, each session is held against the rule.
sub check_sessions
{
	my ($name, $gap, $stream, $partitions) = @_;
	my $view = "${stream}_$name";
	my $late = late_pairs($view);

	is($node->rows_differ(qq{
SELECT m.bidder, m.w, sum(v.bids) FROM (SELECT bidder, unnest(range_agg(w)) AS w FROM $view GROUP BY bidder) AS m JOIN $view AS v ON v.bidder = m.bidder AND v.w <@ m.w GROUP BY 1, 2},
qq{
WITH bids AS (SELECT * FROM arrivals WHERE kind = 2 AND NOT sentinel AND place % 2 IN ($partitions) AND place NOT IN (SELECT place FROM $late AS l))
SELECT m.bidder, m.w, count(*)::numeric FROM (SELECT bidder, unnest(range_agg(tstzrange(date_time, date_time + '$gap'))) AS w FROM bids GROUP BY bidder) AS m
JOIN bids AS b ON b.bidder = m.bidder AND m.w @> b.date_time GROUP BY 1, 2}), '', "$view: the view equals the batch query over what was not late");
	if ($stream eq 'one')
	{
		my ($sessions, $late_places) = sessions_by_rule($stream, $gap);

		is_deeply([ sort split /\n/, $node->sql("SELECT bidder, (extract(epoch FROM lower(w)) * 1000)::bigint, (extract(epoch FROM upper(w)) * 1000)::bigint, bids FROM $view") ],
			$sessions, "$view: each session is what the rule says");
		is_deeply([ sort split /\n/, $node->sql("SELECT place FROM $late AS l") ], $late_places, "$view: what was late is stored");
		cmp_ok(scalar(@$late_places), $name eq 'q11' ? '==' : '>', 0, "$view: late are those whose session would be over");
	}
	return;
}

foreach my $stream (@streams)
{
	my ($table, $partitions) = @$stream;
	my $count = $partitions eq '0' ? $events / 2 + 1 : $events + 2;

	foreach my $view (map { "${table}_$_" } (sort keys %queries), 'clock', map { $_->[0] } @sessions)
	{
		$node->wait_for($view);
		is($node->sql("SELECT events_in, late, dead_letters FROM pipeline.stat_views WHERE view = '$view'::regclass"),
			"$count|" . ($view =~ /clock/ ? 0 : $node->sql("SELECT coalesce(sum(cardinality(late_windows)), 0) FROM ${view}_late")) . '|0', "$view: all events are accounted for");
	}
	check_query($_, $table, $partitions) foreach sort keys %queries;
	check_sessions(@$_, $table, $partitions) foreach @sessions;
	is($node->rows_differ("SELECT bidder, sum(bids) FROM ${table}_clock GROUP BY bidder",
		"SELECT bidder, count(*)::numeric FROM arrivals WHERE kind = 2 AND place % 2 IN ($partitions) GROUP BY bidder"), '', "${table}_clock: nothing is late by the clock");
}
cmp_ok($node->sql("SELECT count(*) FROM nexmark_${_}_late"), '>', 0, "$_: of both partitions, too, some are late") foreach qw(q5 q7 q12);
$node->stop;
$broker->stop;
done_testing();
