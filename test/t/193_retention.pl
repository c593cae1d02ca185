# Old rows of views with one worker and with several are deleted while events come in and processes are killed; what is
# not old is the query over all events.  If this failed, rows would stay for ever, or some would go too early, or twice.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use PostgreSQL::Test::Utils;
use Test::More;

use KafkaBroker;
use PipelineNode;

my $broker = KafkaBroker->new;
my $node = PipelineNode->create('retention', conf => "timezone = 'UTC'\npipeline.checkpoint_interval = '50ms'\n");
my $PARTITIONS = 4;

sub value
{
	my ($sql) = @_;
	return $node->sql($sql);
}

$broker->create_topic('events', $PARTITIONS);
value(qq{
CREATE TABLE archive (id int, at timestamptz, k int);
CREATE SERVER kafka FOREIGN DATA WRAPPER pipeline_kafka OPTIONS (bootstrap_servers '$broker->{address}');
CREATE FOREIGN TABLE events (id int, at timestamptz, k int) SERVER kafka OPTIONS (topic 'events', event_time 'at', out_of_orderness '0', idle_timeout 'off');
CREATE VIEW filtered WITH (pipeline.continuous, pipeline.retention = '2 minutes') AS SELECT id, at, k FROM events WHERE k > 0;
CREATE VIEW filtered_by_two WITH (pipeline.continuous, pipeline.workers = 2, pipeline.retention = '2 minutes') AS SELECT id, at, k FROM events WHERE k > 0;
CREATE VIEW windows WITH (pipeline.continuous, pipeline.retention = '2 minutes') AS
  SELECT pipeline.tumble(at, '10 seconds') AS w, k, count(*) AS n, sum(id) AS ids FROM events GROUP BY w, k;
CREATE VIEW windows_by_two WITH (pipeline.continuous, pipeline.workers = 2, pipeline.retention = '2 minutes') AS
  SELECT pipeline.tumble(at, '10 seconds') AS w, k, count(*) AS n, sum(id) AS ids FROM events GROUP BY w, k;
CREATE VIEW changing WITH (pipeline.continuous, pipeline.emit = 'changes', pipeline.retention = '2 minutes') AS
  SELECT pipeline.tumble(at, '10 seconds') AS w, k, count(*) AS n, sum(id) AS ids FROM events GROUP BY w, k;
});
my $filter = 'SELECT id, at, k FROM archive WHERE k > 0 AND at >= %s';
my $window = q{SELECT w, k, count(*) AS n, sum(id) AS ids FROM archive, LATERAL (SELECT pipeline.tumble(at, '10 seconds') AS w) x
	WHERE upper(w) >= %s AND upper(w) <= pipeline.watermark('%s') GROUP BY w, k};
my %views = (
	filtered => $filter,
	filtered_by_two => $filter,
	windows => $window,
	windows_by_two => $window,
	changing => $window =~ s/AND upper.*GROUP/GROUP/r);

my $second = 0;
my $next_id = 0;
sub produce
{
	my ($seconds) = @_;
	my @rows;

	for my $p (0 .. $PARTITIONS - 1)
	{
		my @records;

		for my $s ($second .. $second + $seconds - 1)
		{
			my ($id, $k, $at) = ($next_id++, int(rand(4)), 1704067200 + $s);
			my @t = gmtime($at);
			my $time = sprintf('%04d-%02d-%02dT%02d:%02d:%02dZ', $t[5] + 1900, $t[4] + 1, @t[3, 2, 1, 0]);

			push @records, qq{{"id": $id, "at": "$time", "k": $k}};
			push @rows, "($id, '$time', $k)";
		}
		$broker->produce_records('events', $p, @records);
	}
	$second += $seconds;
	value('INSERT INTO archive VALUES ' . join(', ', @rows));
	return;
}

my @disturbances = (
	sub { },
	sub { value("SELECT count(pg_terminate_backend(pid)) FROM pipeline.stat_views WHERE pid IS NOT NULL") },
	sub { $node->kill_worker('windows_by_two'); $node->until_true('SELECT true') },
	sub { $node->stop('immediate'); $node->start });

for my $round (1 .. 6)
{
	produce(40 * $round);
	$disturbances[ $round % @disturbances ]->();
	for my $name (sort keys %views)
	{
		my $before = "pipeline.watermark('$name') - interval '2 minutes'";
		my $time = $name =~ /filtered/ ? 'at' : 'upper(w)';

		$node->wait_for($name);
		$node->until_true("SELECT NOT EXISTS (SELECT FROM $name WHERE $time < $before)");
		is($node->rows_differ(sprintf($views{$name}, $before, $name), "SELECT * FROM $name"), '', "round $round: $name has what is not old");
		next if $name eq 'changing';
		is(value("SELECT rows_out - rows_expired - (SELECT count(*) FROM $name) FROM pipeline.stat_views WHERE view = '$name'::regclass"), '0',
			"round $round: $name: what is gone was counted");
	}
}
for my $name (sort keys %views)
{
	cmp_ok(value("SELECT rows_expired FROM pipeline.stat_views WHERE view = '$name'::regclass"), '>', 200, "$name: many rows have expired");
	is(value("SELECT pipeline.verify_state('$name')"), 't', "$name: memory is what is saved");
}

done_testing();
