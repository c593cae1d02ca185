# Views that read several streams - two topics of an Apache Kafka broker and a
# local stream - against the same SQL over tables: events out of order and late in
# each of them, streams of different pace, idle and unreachable ones, restarts and
# crashes.  If this failed, one stream's position would be committed without the
# state that its events made, or a window joined before all streams are past it.
#
# PIPELINE_SEED repeats a run.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use PostgreSQL::Test::Utils;
use Test::More;

use KafkaBroker;
use PipelineNode;

my $seed = $ENV{PIPELINE_SEED} || time % 100000;
my $broker = KafkaBroker->new;
my $node = PipelineNode->create('streams',
	conf => "timezone = 'UTC'\nmax_worker_processes = 40\npipeline.state_memory = 32MB\npipeline.checkpoint_interval = '50ms'\npipeline.random_batches = on\npipeline.batch_size = 300\n");

srand($seed);
diag("PIPELINE_SEED=$seed");

# What each query reads of a stream goes into the views' late tables, the id with it.
my %queries = (
	joined => q{SELECT w, k, c.n AS calls, t.total AS texts FROM (SELECT k, pipeline.tumble(at, '10 seconds') AS w, count(*) AS n FROM {calls} WHERE id > 0 GROUP BY 1, 2) c
		LEFT JOIN (SELECT k, pipeline.tumble(sent, '10 seconds') AS w, sum(v) AS total FROM {texts} WHERE id > 0 GROUP BY 1, 2) t USING (k, w)},
	pairs => q{SELECT pipeline.tumble(c.at, '5 seconds') AS w, c.id, a.id AS other FROM {calls} c JOIN {acts} a
		ON c.k = a.k AND pipeline.tumble(c.at, '5 seconds') = pipeline.tumble(a.at, '5 seconds') AND c.v < a.v},
	three => q{SELECT w, c.n AS calls, t.n AS texts, a.n AS acts FROM (SELECT pipeline.tumble(at, '5 seconds') AS w, count(*) AS n FROM {calls} WHERE id > 0 AND k < 6 GROUP BY 1) c
		FULL JOIN (SELECT pipeline.tumble(sent, '5 seconds') AS w, count(*) AS n FROM {texts} WHERE id > 0 AND v > 40 GROUP BY 1) t USING (w)
		FULL JOIN (SELECT pipeline.tumble(at, '5 seconds') AS w, count(DISTINCT k) AS n FROM {acts} WHERE id > 0 GROUP BY 1) a USING (w)},
	united => q{SELECT kind, pipeline.tumble(at, '10 seconds') AS w, count(*) AS n, sum(v) AS total, max(id) AS last FROM
		(SELECT id, at, v, 'call' AS kind FROM {calls} UNION ALL SELECT id, sent, v::int, 'text' FROM {texts} WHERE k > 1 UNION ALL SELECT id, at, v, kind FROM {acts}) u GROUP BY 1, 2},
	ordered => q{SELECT pipeline.tumble(at, '10 seconds') AS w, array_agg(id ORDER BY id) AS ids FROM (SELECT id, at FROM {calls} UNION ALL SELECT id, sent FROM {texts}) u GROUP BY 1});

# These know no lateness.
my %endless = (
	totals => q{SELECT k, count(*) AS n, sum(v) AS total FROM (SELECT k, v FROM {calls} UNION ALL SELECT k, v::int FROM {texts} UNION ALL SELECT k, v FROM {acts}) u GROUP BY 1},
	passed => q{SELECT id, at FROM {calls} WHERE v > 30 UNION ALL SELECT id, sent FROM {texts} WHERE v > 20});

sub value
{
	my ($sql) = @_;
	return $node->sql($sql);
}

my $next_id = 1;

sub time_text
{
	my ($ms) = @_;
	return sprintf("2024-01-%02dT%02d:%02d:%02d.%03dZ", 1 + int($ms / 86400000), int($ms / 3600000) % 24, int($ms / 60000) % 60, int($ms / 1000) % 60, $ms % 1000);
}

# Mostly forward, some up to 3 seconds back, a few far behind the bounds on disorder.
sub event_ms
{
	my ($id) = @_;
	return 100000 + $id * 40 - (rand() < 0.02 ? int(rand(60000)) : rand() < 0.4 ? int(rand(2500)) : 0);
}

# Events spread over the streams and their partitions, as they come.
sub send_events
{
	my ($count) = @_;
	my %records;
	my %rows;

	for (1 .. $count)
	{
		my $id = $next_id++;
		my ($k, $v, $at) = (int(rand(8)), 1 + int(rand(50)), time_text(event_ms($id)));
		my $stream = (qw(calls calls texts acts))[ int(rand(4)) ];

		push @{ $rows{$stream} }, sprintf("(%d, %d, %d, '%s')", $id, $k, $v, $at);
		if ($stream eq 'calls')
		{
			push @{ $records{"calls " . int(rand(3))} }, qq({"id": $id, "k": $k, "v": $v, "at": "$at"});
		}
		elsif ($stream eq 'texts')
		{
			push @{ $records{"texts " . int(rand(2))} }, qq({"id": $id, "k": $k, "v": "$v", "sent": "$at"});
		}
	}
	value(join('; ', 'BEGIN', (map { "INSERT INTO past_$_ VALUES " . join(', ', @{ $rows{$_} }) } sort keys %rows),
			$rows{acts} ? 'INSERT INTO acts (id, k, v, at) VALUES ' . join(', ', @{ $rows{acts} }) : (), 'COMMIT'));
	for my $place (sort keys %records)
	{
		my ($topic, $partition) = split / /, $place;
		$broker->produce_records($topic, $partition, @{ $records{$place} });
	}
	return;
}

sub good_rows
{
	my ($view, $stream) = @_;
	return "(SELECT * FROM past_$stream p WHERE NOT EXISTS (SELECT FROM ${view}_late l WHERE l.id = p.id))";
}

sub check_all
{
	my ($name) = @_;

	for my $view (sort keys %queries)
	{
		$node->wait_for($view);
		my $sql = $queries{$view} =~ s/\{(\w+)\}( [cta]\b)?/good_rows($view, $1) . ($2 || ' AS x')/ger;

		is($node->rows_differ("SELECT * FROM ($sql) AS q WHERE upper(w) <= pipeline.watermark('$view')", "SELECT * FROM $view"), '', "$name: $view");
		is(value("SELECT pipeline.verify_state('$view')"), 't', "$name: the state of $view is what is saved");
	}
	for my $view (sort keys %endless)
	{
		$node->wait_for($view);
		is($node->rows_differ($endless{$view} =~ s/\{(\w+)\}/past_$1/gr, "SELECT * FROM $view"), '', "$name: $view");
	}
	return;
}

$broker->create_topic('calls', 3);
$broker->create_topic('texts', 2);
value(qq{
SET client_min_messages = warning;
CREATE SERVER shop FOREIGN DATA WRAPPER pipeline_kafka OPTIONS (bootstrap_servers '@{[ $broker->address ]}', "topic.metadata.refresh.interval.ms" '1000');
CREATE FOREIGN TABLE calls (id int, k int, v int, at timestamptz) SERVER shop OPTIONS (topic 'calls', event_time 'at', out_of_orderness '3 seconds', idle_timeout '1 minute');
CREATE FOREIGN TABLE texts (id int, k smallint, v numeric, sent timestamptz) SERVER shop OPTIONS (topic 'texts', event_time 'sent', out_of_orderness '4 seconds', idle_timeout '1 minute');
CREATE FOREIGN TABLE acts (id int, k int, v int, at timestamptz, kind text GENERATED ALWAYS AS ('act') STORED) SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '2 seconds', idle_timeout '1 minute');
CREATE TABLE past_calls (id int PRIMARY KEY, k int, v int, at timestamptz);
CREATE TABLE past_texts (id int PRIMARY KEY, k smallint, v numeric, sent timestamptz);
CREATE TABLE past_acts (id int PRIMARY KEY, k int, v int, at timestamptz, kind text DEFAULT 'act')});
for my $view (sort keys %queries, sort keys %endless)
{
	my $sql = ($queries{$view} // $endless{$view}) =~ s/\{(\w+)\}/$1/gr;
	value("SET client_min_messages = warning; CREATE VIEW $view WITH (pipeline.continuous) AS $sql");
}

send_events(2000);
check_all('first events');
$node->kill_worker('joined', 'TERM');
send_events(1500);
check_all('a worker ended');
send_events(2500);
$node->kill_worker($_) for qw(united pairs);
send_events(500);
check_all('two workers were killed');
value('ALTER SYSTEM SET pipeline.random_batches = off');
value('SELECT pg_reload_conf()');
send_events(2500);
$node->kill_postmaster;
send_events(500);
check_all('the server was killed');

# The local stream goes on while the broker is away: its events wait for the others'.
my $before = value("SELECT pipeline.watermark('three')");
$broker->stop;
$node->until_true(q{SELECT bool_or(unreachable) FROM pipeline.stat_partitions WHERE view = 'three'::regclass}, 60);
{
	my $id = $next_id++;
	value("INSERT INTO past_acts VALUES ($id, 1, 1, '2024-01-01 05:00Z'); INSERT INTO acts (id, k, v, at) VALUES ($id, 1, 1, '2024-01-01 05:00Z')");
}
value(q{SELECT pipeline.shift_clock('2 hours')});
$node->until_true(q{SELECT bool_or(max_event_time = '2024-01-01 05:00Z') FROM pipeline.stat_partitions WHERE view = 'three'::regclass}, 30);
is(value("SELECT pipeline.watermark('three')"), $before, 'an unreachable stream holds the windows open');
$broker->start;
send_events(500);
check_all('the broker was away');

# A stream that says nothing is left out when it is idle, and its windows close with the others'.
for my $try (1 .. 100)
{
	my $id = $next_id++;
	my $at = time_text(6 * 3600000 + $try * 1000);

	value("INSERT INTO past_calls VALUES ($id, 1, 1, '$at')");
	$broker->produce_records('calls', $_, qq({"id": $id, "k": 1, "v": 1, "at": "$at"})) for 0;
	for my $other (1, 2)
	{
		my $more = $next_id++;
		value("INSERT INTO past_calls VALUES ($more, 1, 1, '$at')");
		$broker->produce_records('calls', $other, qq({"id": $more, "k": 1, "v": 1, "at": "$at"}));
	}
	value(q{SELECT pipeline.shift_clock('31 seconds')});
	$node->wait_for('three');
	last if value(q{SELECT pipeline.watermark('three') > '2024-01-01 05:30Z'}) eq 't';
}
is(value(q{SELECT pipeline.watermark('three') > '2024-01-01 05:30Z'}), 't', 'streams that are idle are left out');
send_events(1);
check_all('idle streams');

for my $view (sort keys %queries)
{
	cmp_ok(value("SELECT count(DISTINCT stream) FROM ${view}_late"), '>', 1, "events of more than one stream were late for $view");
	is(value("SELECT count(*) - count(DISTINCT id) FROM ${view}_late"), 0, 'each once');
}
is(value("SELECT bool_and(s.events_in = p.n AND s.state = 'running') FROM pipeline.stat_views s, LATERAL (SELECT sum(next_offset) AS n FROM pipeline.stat_partitions p WHERE p.view = s.view) p"), 't', 'each event was taken in once');
is(value("SELECT count(*) FROM pipeline.dead_letters"), 0, 'none is a dead letter');
value("SELECT pipeline.advance_watermark(s, 'infinity') FROM unnest('{calls,texts,acts}'::regclass[]) s");
check_all('all windows closed');

# Another stream's history of a week beside a day of this one: windows of a minute are more than memory holds.
value('DROP FOREIGN TABLE calls, texts, acts CASCADE');
$broker->create_topic('week', 1);
$broker->create_topic('day', 1);
$broker->produce_records('week', 0, map { sprintf('{"id": %d, "at": "%s"}', $_, time_text($_ * 60000)) } 0 .. 7 * 1440 - 1);
$broker->produce_records('day', 0, map { sprintf('{"id": %d, "at": "%s"}', $_, time_text(6 * 86400000 + int($_ * 864))) } 0 .. 99999);
value(q{
CREATE FOREIGN TABLE week (id int, at timestamptz) SERVER shop OPTIONS (topic 'week', event_time 'at', out_of_orderness '0', idle_timeout 'off', max_skew '1 minute');
CREATE FOREIGN TABLE day (id int, at timestamptz) SERVER shop OPTIONS (topic 'day', event_time 'at', out_of_orderness '0', idle_timeout 'off', max_skew '1 minute');
ALTER SYSTEM SET pipeline.state_memory = '16MB'});
$node->restart;
# A broker that is busy may answer for one of them much later than for the other, which then goes on alone.
my $both;
for my $try (1 .. 3)
{
	value(q{CREATE VIEW both_of WITH (pipeline.continuous) AS SELECT id, pipeline.tumble(at, '1 minute') AS w, stream, count(*) AS n
	FROM (SELECT id, at, 'week' AS stream FROM week UNION ALL SELECT id, at, 'day' FROM day) u GROUP BY 1, 2, 3});
	$node->wait_for('both_of');
	$both = value(q{SELECT events_in || ' ' || late || ' ' || CASE WHEN state_evictions < 10 THEN 'few' ELSE state_evictions::text END FROM pipeline.stat_views WHERE view = 'both_of'::regclass});
	last if $both =~ /few/ || $try == 3;
	value('DROP VIEW both_of');
}
is($both, '110080 0 few', 'a stream that is ahead waits: memory holds the windows that are open');
value("SELECT pipeline.advance_watermark(s, 'infinity') FROM unnest('{week,day}'::regclass[]) s");
$node->wait_for('both_of');
is(value(q{SELECT string_agg(stream || ':' || n || ':' || windows, ' ' ORDER BY stream) FROM (SELECT stream, sum(n) AS n, count(DISTINCT w) AS windows FROM both_of GROUP BY stream) s}), 'day:100000:1440 week:10080:10080', 'and each event counts in its window');
$node->stop;
done_testing();
