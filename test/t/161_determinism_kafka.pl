# A million events of one partition give the same rows, the same late rows and the
# same watermark, whatever the batches are and whenever workers or the server die
# while they are read (P3).  Of four partitions and several workers, events within
# the bound give what one partition gives.  If this failed, a view would depend on
# how busy the machine was, or on what was killed.
#
# Batches of a single event cost a hundred times as much as others: they get the
# first events only, as many as PIPELINE_SINGLES says.  PIPELINE_EVENTS is the
# length of the stream, PIPELINE_SEED repeats the random moments.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use KafkaBroker;
use PipelineNode;

my $events = $ENV{PIPELINE_EVENTS} || 1_000_000;
my $singles = $ENV{PIPELINE_SINGLES} || 20_000;
my $seed = $ENV{PIPELINE_SEED} || int(rand(1_000_000));
my $broker = KafkaBroker->new;
my $node = PipelineNode->create('determinism', conf => "timezone = 'UTC'\njit = off\nmax_worker_processes = 100\npipeline.max_tasks = 100\npipeline.checkpoint_interval = 200ms\n");
my $columns = q{seq bigint, key bigint, amount numeric, ordered_at timestamptz};

diag("PIPELINE_SEED=$seed");
srand($seed);

# A line for each kind of window: its query, and options.
my %views = (
	tumble => [q{SELECT key % 20 AS k, pipeline.tumble(ordered_at, '1 minute') AS w, count(*) AS n, sum(amount) AS s, min(seq) AS first FROM {stream} GROUP BY k, w}],
	hour => [q{SELECT key % 20 AS k, date_trunc('hour', ordered_at, 'Europe/Berlin') AS w, count(*) AS n, avg(amount) AS mean FROM {stream} GROUP BY k, w}],
	day => [q{SELECT key % 20 AS k, date_trunc('day', ordered_at, 'Europe/Berlin') AS w, count(*) AS n, count(DISTINCT key) AS keys FROM {stream} GROUP BY k, w}],
	hop => [q{SELECT key % 5 AS k, pipeline.hop(ordered_at, '5 minutes', '1 minute') AS w, count(*) AS n, max(amount) AS m FROM {stream} GROUP BY k, w}],
	cumulate => [q{SELECT key % 5 AS k, pipeline.cumulate(ordered_at, '1 hour', '10 minutes') AS w, count(*) AS n, sum(seq) AS s FROM {stream} GROUP BY k, w}],
	session => [q{SELECT key % 20 AS k, pipeline.session(ordered_at, '8 seconds') AS w, count(*) AS n, sum(seq) AS s FROM {stream} GROUP BY k, w}],
	session_rows => [q{SELECT key % 20 AS k, pipeline.session(ordered_at, '15 seconds') AS w, array_agg(seq ORDER BY seq) AS list FROM {stream} WHERE key < 40 GROUP BY k, w}],
	top => [q{SELECT seq, amount, w FROM (SELECT seq, amount, pipeline.tumble(ordered_at, '1 minute') AS w, row_number() OVER (PARTITION BY pipeline.tumble(ordered_at, '1 minute') ORDER BY amount DESC, seq) AS r FROM {stream}) AS s WHERE r <= 3}],
	distinct => [q{SELECT DISTINCT key % 20 AS k, pipeline.tumble(ordered_at, '1 minute') AS w FROM {stream}}],
	rows => [q{SELECT pipeline.tumble(ordered_at, '1 minute') AS w, array_agg(seq ORDER BY amount, seq) AS list FROM {stream} WHERE key % 5 = 3 GROUP BY w}],
	count => [q{SELECT key AS k, pipeline.count_window(7) AS w, sum(seq) AS s, min(seq) AS first FROM {stream} GROUP BY k, w}],
	count_slide => [q{SELECT key % 20 AS k, pipeline.count_window(200, 50) AS w, sum(seq) AS s, max(amount) AS m FROM {stream} GROUP BY k, w}],
	inputs => [q{SELECT a.k, a.w, a.n, b.m FROM (SELECT key % 20 AS k, pipeline.tumble(ordered_at, '1 minute') AS w, count(*) AS n FROM {stream} WHERE amount < 300 GROUP BY 1, 2) AS a
		FULL JOIN (SELECT key % 20 AS k, pipeline.tumble(ordered_at, '1 minute') AS w, max(amount) AS m FROM {stream} WHERE amount >= 950 GROUP BY 1, 2) AS b USING (k, w)}],
	lateness => [q{SELECT key % 20 AS k, pipeline.tumble(ordered_at, '1 minute') AS w, count(*) AS n, sum(amount) AS s FROM {stream} GROUP BY k, w}, q{pipeline.allowed_lateness = '15 seconds'}],
	changes => [q{SELECT key % 5 AS k, pipeline.hop(ordered_at, '5 minutes', '1 minute') AS w, count(*) AS n, sum(amount) AS s FROM {stream} GROUP BY k, w}, q{pipeline.emit = 'changes'}],
	totals => [q{SELECT key AS k, count(*) AS n, sum(amount) AS s FROM {stream} GROUP BY k}],
	plain => [q{SELECT seq, amount FROM {stream} WHERE amount > 990}],
);

# Those that may have several workers, for which no order of events of different partitions is promised.
my @parallel = qw(tumble hour day hop cumulate session session_rows top distinct rows inputs plain);
my @unordered = (@parallel, qw(totals lateness changes));

sub make_stream
{
	my ($name, $topic) = @_;

	$node->sql("CREATE FOREIGN TABLE $name ($columns) SERVER shop OPTIONS (topic '$topic', event_time 'ordered_at', out_of_orderness '20 seconds', idle_timeout 'off')");
	return;
}

sub create_views
{
	my ($name, $stream, $kinds, @more) = @_;

	$node->sql(join('', map {
		my ($query, @options) = @{ $views{$_} };
		$query =~ s/\{stream\}/$stream/g;
		"CREATE VIEW ${name}_$_ WITH (" . join(', ', 'pipeline.continuous', @options, @more) . ") AS $query;\n" } @$kinds));
	return;
}

sub records_read
{
	my ($view) = @_;
	my ($status, $out) = $node->psql('postgres', "SELECT events_in FROM pipeline.stat_views WHERE view = '$view'::regclass");

	return $status == 0 ? $out : 0;
}

# Until all is read; as many signals as are given are sent to workers meanwhile, whenever one has read so much more.
sub finish_views
{
	my ($name, $count, $kinds, @signals) = @_;
	my @places = sort { $a <=> $b } map { int(rand($count * 0.9)) } @signals;

	for my $signal (@signals)
	{
		my $view = $name . '_' . $kinds->[ int(rand(@$kinds)) ];
		my $place = shift @places;
		my $deadline = time + 60;

		while (records_read($view) < $place && time < $deadline) { }
		$node->kill_worker($view, $signal);
	}
	$node->wait_for("${name}_$_") for @$kinds;
	return;
}

sub set_batches
{
	my ($size, $random) = @_;

	$node->sql("ALTER SYSTEM SET pipeline.batch_size = $size");
	$node->sql("ALTER SYSTEM SET pipeline.random_batches = $random");
	$node->sql('SELECT pg_reload_conf()');
	return;
}

sub run_views
{
	my ($name, $stream, $count, $size, $random, @signals) = @_;
	my @kinds = sort keys %views;
	my $began = time;

	set_batches($size, $random);
	create_views($name, $stream, \@kinds);
	finish_views($name, $count, \@kinds, @signals);
	note(sprintf('%s: %.1f s', $name, time - $began));
	return;
}

# The late rows of a view, without what is of the moment.
sub late_rows
{
	my ($view) = @_;

	return q{SELECT NULL::jsonb WHERE false} if $node->sql("SELECT to_regclass('${view}_late') IS NULL") eq 't';
	return "SELECT to_jsonb(l) - 'arrived_at' FROM ${view}_late AS l";
}

# The rows of a query as a multiset, in a line.
sub digest
{
	my ($query) = @_;

	return $node->sql("SELECT count(*), sum(hashtextextended(q::text, 0)) FROM ($query) AS q");
}

my %digests;

# Of what is compared with more than once, the digest is kept.
sub same_rows
{
	my ($query, $other, $what) = @_;

	$digests{$other} //= digest($other);
	return pass($what) if digest($query) eq $digests{$other};
	return is($node->rows_differ($query, $other), '', $what);
}

sub compare
{
	my ($name, $other, @kinds) = @_;
	my $began = time;

	for my $kind (@kinds)
	{
		same_rows("SELECT * FROM ${name}_$kind", "SELECT * FROM ${other}_$kind", "$name: $kind: rows as in $other");
		same_rows(late_rows("${name}_$kind"), late_rows("${other}_$kind"), "$name: $kind: late rows as in $other");
		# of several partitions it depends on what the last event of each is
		is($node->sql("SELECT pipeline.watermark('${name}_$kind')"), $node->sql("SELECT pipeline.watermark('${other}_$kind')"), "$name: $kind: watermark as in $other") if $other ne 'one';
	}
	note(sprintf('%s: compared in %.1f s', $name, time - $began));
	return;
}

sub drop_views
{
	my ($name, @kinds) = @_;

	$node->sql('DROP VIEW ' . join(', ', map { "${name}_$_" } @kinds));
	return;
}

# An event every 100 ms, for 28 hours of which one comes twice in Berlin; up to 20 s out of order, one in a hundred by 40 s more.
my %spec = (seed => $seed, keys => 1000, size => 100, start => '2024-10-26T21:30:00', step => '100ms', disorder => '20s', late_share => 0.01, late_by => '40s');

$node->sql(q{CREATE SERVER shop FOREIGN DATA WRAPPER pipeline_kafka OPTIONS (bootstrap_servers '} . $broker->address . q{')});
for my $topic ([ 'first', $singles ], [ 'all', $events ])
{
	my ($name, $count) = @$topic;

	$broker->create_topic($name, 1);
	$broker->produce(topic => $name, count => $count, %spec);
	make_stream("${name}_events", $name);
}

run_views('few', 'first_events', $singles, 4096, 'off');
run_views('single', 'first_events', $singles, 1, 'off', qw(TERM KILL));
compare('single', 'few', sort keys %views);
drop_views($_, keys %views) for qw(few single);

run_views('whole', 'all_events', $events, 1000, 'off');
run_views('seven', 'all_events', $events, 7, 'off', qw(TERM));
compare('seven', 'whole', sort keys %views);
drop_views('seven', keys %views);
run_views('random', 'all_events', $events, 4096, 'on', qw(TERM KILL TERM KILL TERM));
compare('random', 'whole', sort keys %views);
cmp_ok($node->sql("SELECT count(*) FROM whole_$_"), '>', 100, "$_: there is something to compare") for grep { $_ ne 'day' } sort keys %views;
cmp_ok($node->sql("SELECT count(*) FROM whole_${_}_late"), '>', 10, "$_: some events are late") for grep { !/day|hour|count|totals|plain/ } sort keys %views;
is($node->sql(q{SELECT string_agg(DISTINCT n::text, ' ') FROM (SELECT count(*) AS n FROM whole_hour WHERE w BETWEEN '2024-10-27 00:00Z' AND '2024-10-27 01:00Z' GROUP BY k) AS x}), 2, 'an hour comes twice');

drop_views($_, keys %views) for qw(whole random);

# No event is further out of order than the stream allows: it makes no difference how they are spread over partitions,
# which of these are read ahead of others, and who reads them.
my $calm = int($events / 10);

for my $topic ([ 'one', 1 ], [ 'four', 4 ])
{
	my ($name, $partitions) = @$topic;

	$broker->create_topic($name, $partitions);
	$broker->produce(topic => $name, count => $calm, %spec, partitions => $partitions, late_share => 0);
	make_stream("${name}_events", $name);
}
create_views('one', 'one_events', \@unordered);
create_views('four', 'four_events', \@unordered);
create_views('three', 'four_events', \@parallel, 'pipeline.workers = 3');
finish_views('three', $calm, \@parallel, qw(TERM KILL TERM));
finish_views('four', $calm, \@unordered, 'TERM');
for my $name (qw(one three four))
{
	$node->wait_for("${name}_$_") for $name =~ /one|four/ ? @unordered : @parallel;
}
$node->sql("SELECT pipeline.advance_watermark('${_}_events', 'infinity')") for qw(one four);
$node->until_true('SELECT bool_and(advance_to IS NULL) FROM pipeline.views');
compare('four', 'one', @unordered);
compare('three', 'one', @parallel);
is($node->sql('SELECT sum(late) FROM pipeline.stat_views'), 0, 'nothing is late');

$node->stop;
$broker->stop;
done_testing();
