# Windows that close are told to listeners when their rows are there: each once, in every kind of view, over restarts,
# and without a view ever waiting for whoever listens or notifies.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use PostgreSQL::Test::Utils;
use Test::More;

use PipelineNode;

my $node = PipelineNode->create('notify', conf => "timezone = 'UTC'\npipeline.checkpoint_interval = '20ms'\nwal_level = replica\nmax_wal_senders = 2\n");

sub value
{
	my ($sql) = @_;
	return $node->sql($sql);
}

value(q{
CREATE FOREIGN TABLE events (at timestamptz, k int) SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '0', idle_timeout 'off');
CREATE SCHEMA "odd ""name";
CREATE VIEW tumbling WITH (pipeline.continuous, pipeline.notify = 'closed') AS
  SELECT pipeline.tumble(at, '10 seconds') AS w, count(*) AS n FROM events GROUP BY w;
CREATE VIEW hopping WITH (pipeline.continuous, pipeline.notify = 'closed') AS
  SELECT w, count(*) AS n FROM events, pipeline.hop(at, '20 seconds', '10 seconds') AS w GROUP BY w;
CREATE VIEW sessions WITH (pipeline.continuous, pipeline.notify = 'closed') AS
  SELECT k, pipeline.session(at, '3 seconds') AS w, count(*) AS n FROM events GROUP BY k, w;
CREATE VIEW changing WITH (pipeline.continuous, pipeline.emit = 'changes', pipeline.notify = 'closed') AS
  SELECT pipeline.tumble(at, '10 seconds') AS w, count(*) AS n FROM events GROUP BY w;
CREATE VIEW rows WITH (pipeline.continuous, pipeline.notify = 'closed') AS
  SELECT pipeline.tumble(at, '10 seconds') AS w, percentile_cont(0.5) WITHIN GROUP (ORDER BY k) AS median FROM events GROUP BY w;
CREATE VIEW counting WITH (pipeline.continuous, pipeline.notify = 'closed') AS
  SELECT pipeline.count_window(10) AS c, count(*) AS n FROM events GROUP BY c;
CREATE VIEW "odd ""name"."a 'view'" WITH (pipeline.continuous, pipeline.notify = 'odd') AS
  SELECT pipeline.tumble(at, '10 seconds') AS w, count(*) AS n FROM events GROUP BY w;
CREATE VIEW silent WITH (pipeline.continuous) AS
  SELECT pipeline.tumble(at, '10 seconds') AS w, count(*) AS n FROM events GROUP BY w;
});
my @views = qw(tumbling hopping sessions changing rows counting);

my $second = 0;
sub insert
{
	my ($count) = @_;
	my $last = $second + $count - 1;

	value("INSERT INTO events SELECT timestamptz '2024-01-01 00:00:00+00' + s * interval '1 second', s / 5 FROM generate_series($second, $last) s");
	$second += $count;
	return;
}

sub wait_for_all
{
	$node->wait_for($_) for @views, 'silent', q{"odd ""name"."a ''view''"};
	return;
}

# What has been notified since the last call, as it comes; and with each what was there then to be seen.
my $listener = $node->background_psql('postgres');
$listener->query_safe('LISTEN closed; LISTEN odd');
my %told;
sub hear
{
	my $output = $listener->query('SELECT 1');
	my $n = 0;

	while ($output =~ /Asynchronous notification "(\w+)" with payload "(.*?)" received from server process/g)
	{
		my ($channel, $payload) = ($1, $2);

		like($payload, qr/^\{"view": "[^{}]+", "windows": \d+(, "after": ("[^"]+"|null), "upto": "[^"]+")?\}$/, 'a payload') if $n++ == 0;
		my ($view) = $payload =~ /"view": "public\.(\w+)"/;
		push @{ $told{ $view // 'odd' } }, $payload;
	}
	return $n;
}

sub told_sum
{
	my ($view) = @_;
	my $sum = 0;

	$sum += $_ for map { /"windows": (\d+)/ } @{ $told{$view} };
	return $sum;
}

# Ranges follow one another, and what they say is in the view.
sub check
{
	my ($when) = @_;

	for my $view (grep { $_ ne 'counting' } @views)
	{
		my ($last, @ranges, @wrong);
		for my $payload (@{ $told{$view} })
		{
			my ($windows) = $payload =~ /"windows": (\d+)/;
			my ($after, $upto) = $payload =~ /"after": (?:"([^"]+)"|null), "upto": "([^"]+)"/;

			push @wrong, "$payload follows $last" if defined $last && (!defined $after || $after lt $last);
			push @ranges, sprintf(q{(%d, timestamptz '%s', timestamptz '%s')}, $windows, $after // '-infinity', $upto);
			$last = $upto;
		}
		push @wrong, value("SELECT string_agg(t::text, ' ') FROM (VALUES ${\ join(', ', @ranges)}) t (windows, after, upto) "
			  . "WHERE windows <> (SELECT count(*) FROM $view WHERE upper(w) > after AND upper(w) <= upto)");
		is(join(', ', grep { $_ ne '' } @wrong), '', "$when: what was told of $view is in it, and nothing is left out");
		my $moment = $view eq 'sessions' ? '<' : '<=';
		is(told_sum($view), value("SELECT count(*) FROM $view WHERE upper(w) $moment pipeline.watermark('$view')"), "$when: $view was told of all windows");
	}
	return;
}

for my $round (1 .. 5)
{
	insert($_) for 33, 1, 21;
	wait_for_all();
	hear();
}
check('at first');
cmp_ok(scalar(@{ $told{tumbling} }), '>', 4, scalar(@{ $told{tumbling} }) . ' notifications');
is(told_sum('counting'), value('SELECT count(*) FROM counting'), 'count windows are told, too');
is((grep { /upto/ } @{ $told{counting} }), '0', 'without times');
like($told{odd}[0], qr/^\{"view": "\\"odd \\"\\"name\\"\.\\"a 'view'\\"", /, 'a name that is quoted');
ok(!exists $told{silent}, 'who does not notify does not');

# Many windows make one notification, which is short.
insert(100_000);
wait_for_all();
hear();
check('many at once');
is((grep { length > 300 } map { @$_ } values %told), '0', 'all payloads are short');

# What is rolled back is not told; after a restart the next ones are.
value("SELECT count(pg_terminate_backend(pid)) FROM pipeline.stat_views WHERE pid IS NOT NULL");
insert(40);
wait_for_all();
hear();
check('after workers were terminated');

# One that notifies and waits for a standby has the lock; views go on, and tell later.
value("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
value('SELECT pg_reload_conf()');
my $stuck = $node->background_psql('postgres');
$stuck->query_until(qr/begun/, "\\echo begun\nBEGIN; CREATE TABLE written (); NOTIFY something; COMMIT;\n");
$node->until_true("SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND backend_type = 'client backend'");
my $before = value("SELECT count(*) FROM tumbling");
value("SET synchronous_commit = local; INSERT INTO events SELECT timestamptz '2024-01-01 00:00:00+00' + s * interval '1 second', 1 FROM generate_series($second, $second + 50) s");
$second += 51;
$node->wait_for($_) for 'tumbling', 'silent';
is(value("SELECT count(*) FROM tumbling"), $before + 5, 'a view closes windows although it cannot notify');
is(hear(), 0, 'and nothing is told yet');
value("ALTER SYSTEM RESET synchronous_standby_names");
value('SELECT pg_reload_conf()');
$stuck->quit;
wait_for_all();
for (1 .. 600)
{
	hear();
	last if told_sum('tumbling') == value('SELECT count(*) FROM tumbling');
}
is(told_sum('tumbling'), value('SELECT count(*) FROM tumbling'), 'what could not be told is told when that has ended');
insert(20);
wait_for_all();
hear();
check('in the end');
$listener->quit;

done_testing();
