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

# The same with a hundredth of the events up to eight seconds late, twice what the stream allows: each view equals
# the batch query over the events that were not late, which are all but those in its late table.
{
	my $said;
	my $sql = slurp_file("$scenarios/nexmark.stream");

	$broker->create_topic('late', 2);
	IPC::Run::run([ $nexmark, '--brokers', $address, '--topic', 'late', '--count', $events, '--rate', 500, '--sentinel', '--group', 211,
			'--late-share', 0.01, '--late-ms', 8000, '--csv', "$folder/late.csv" ], '2>', \$said) or die "nexmark failed: $said";
	$sql =~ s/:'address'/'$address'/g;
	$sql =~ s/topic 'nexmark'/topic 'late'/;
	$sql =~ s/^SELECT format\('COPY ([^%]*) FROM %L[^\n]*'\/(\w+\.csv)'\) \\gexec$/COPY $1 FROM '$folder\/late.csv' WITH (FORMAT csv);/mg;
	$node->sql('DROP FOREIGN TABLE nexmark CASCADE; DROP TABLE nexmark_events CASCADE; DROP SERVER bench CASCADE');
	$node->sql($sql);
}
foreach my $name (qw(q7 q8 q12 q15 q17))
{
	my ($view, $oracle) = split /^-- oracle$/m, slurp_file("$scenarios/$name.sql");

	$node->sql($view);
	$node->wait_for('result');
	my $late = $node->sql('SELECT count(*) FROM result_late');

	is($node->sql("SELECT events_in, late, dead_letters FROM pipeline.stat_views WHERE view = 'result'::regclass"), $events + 2 . "|$late|0",
		"$name, late events: all are accounted for");
	cmp_ok($late, '>', 0, "$name: some are late") if $name =~ /^q(7|12)$/;
	is($node->sql(qq{
BEGIN;
DELETE FROM nexmark_events WHERE place IN (SELECT "offset" * 2 + partition FROM result_late);
$oracle;
SELECT count(*) > 0 FROM expected;
SELECT (SELECT count(*) FROM (TABLE result EXCEPT ALL TABLE expected) a) + (SELECT count(*) FROM (TABLE expected EXCEPT ALL TABLE result) a);
ROLLBACK;}), "t\n0", "$name: the view equals the batch query over what was not late");
	$node->sql('DROP VIEW result');
}
$node->stop;
$broker->stop;
done_testing();
