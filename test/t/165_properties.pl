# Thousands of small random streams - ties, events exactly on boundaries and gaps,
# duplicates, times before 1970, in the far future, infinite or missing - against
# plain SQL that is written from the definitions alone.  Each day of a long stream
# is one of the small ones: when its first event comes, all windows of the day
# before are over.  If this failed, some corner of time would be counted wrongly.
#
# Streams are local ones, single partitions of a topic, and a whole topic.  Of a
# single partition, local or of Kafka, the events alone say what is late.  Between
# partitions no order is promised: there a view must be what the definitions make
# of all that is not in its late table, and nothing may be in that but what was
# late for its own partition already.
#
# PIPELINE_SEED repeats a run, PIPELINE_ROUNDS says how many days each stream has;
# in Kafka a fifth of that.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use PostgreSQL::Test::Utils;
use Test::More;

use KafkaBroker;
use PipelineNode;

my $seed = $ENV{PIPELINE_SEED} || int(rand(1_000_000));
my $rounds = $ENV{PIPELINE_ROUNDS} || 1000;
my $broker = KafkaBroker->new;
my $node = PipelineNode->create('properties', conf => "timezone = 'UTC'\nmax_worker_processes = 100\npipeline.max_tasks = 200\npipeline.random_batches = on\npipeline.batch_size = 500\n");

diag("PIPELINE_SEED=$seed");
srand($seed);

# Random events: up to twenty a day, at times that are likely to be on an edge.
$node->sql(<<'SQL');
CREATE FUNCTION random_events(seed float8, rounds int, first timestamptz)
RETURNS TABLE (id int, at timestamptz, k int, v int) LANGUAGE plpgsql AS $$
DECLARE
  base timestamptz;
  previous timestamptz;
BEGIN
  PERFORM setseed(seed);
  id := 0;
  FOR r IN 1 .. rounds LOOP
    base := first + r * interval '1 day';
    previous := base;
    FOR i IN 0 .. (random() * 20)::int LOOP
      id := id + 1;
      k := (random() * 2)::int;
      v := (random() * 5)::int;
      at := CASE WHEN i = 0 THEN base ELSE (ARRAY[
        base + (random() * 6)::int * interval '10 seconds',
        base + (random() * 6)::int * interval '10 seconds' - interval '1 microsecond',
        base + (random() * 30)::int * interval '2 seconds',
        base + random() * interval '60 seconds',
        base + (random() * 60)::int * interval '1 second',
        previous,
        previous + interval '7 seconds',
        previous + interval '7 seconds 1 microsecond',
        previous - interval '7 seconds',
        (ARRAY[NULL, '-infinity', 'infinity', now() + interval '10 years']::timestamptz[])[1 + (random() * 3)::int]
      ])[1 + (random() * 9)::int] END;
      IF isfinite(at) AND at < now() THEN previous := at; END IF;
      RETURN NEXT;
    END LOOP;
  END LOOP;
END $$;

-- sessions of a group, event by event: what is not past, with the time of grace, and touches is merged
CREATE FUNCTION sessions_of(events regclass, gap interval, grace interval)
RETURNS TABLE (late_id int, k int, first timestamptz, ending timestamptz, n bigint) LANGUAGE plpgsql AS $$
DECLARE
  e record;
  starts timestamptz[] := '{}'; ends timestamptz[] := '{}'; keys int[] := '{}'; counts int[] := '{}';
BEGIN
  FOR e IN EXECUTE format('SELECT * FROM %s WHERE timed ORDER BY id', events) LOOP
    -- those that are past
    late_id := NULL;
    FOR i IN REVERSE cardinality(ends) .. 1 LOOP
      IF ends[i] + grace < e.wm THEN
        k := keys[i]; first := starts[i]; ending := ends[i]; n := counts[i];
        RETURN NEXT;
        starts := starts[:i-1] || starts[i+1:]; ends := ends[:i-1] || ends[i+1:];
        keys := keys[:i-1] || keys[i+1:]; counts := counts[:i-1] || counts[i+1:];
      END IF;
    END LOOP;
    k := e.k; first := e.at; ending := e.at + gap; n := 1;
    FOR i IN REVERSE cardinality(ends) .. 1 LOOP
      IF keys[i] = e.k AND starts[i] <= e.at + gap AND ends[i] >= e.at THEN
        first := least(first, starts[i]); ending := greatest(ending, ends[i]); n := n + counts[i];
      END IF;
    END LOOP;
    IF e.wm > ending + grace THEN
      late_id := e.id;
      RETURN NEXT;
      CONTINUE;
    END IF;
    FOR i IN REVERSE cardinality(ends) .. 1 LOOP
      IF keys[i] = e.k AND starts[i] <= e.at + gap AND ends[i] >= e.at THEN
        starts := starts[:i-1] || starts[i+1:]; ends := ends[:i-1] || ends[i+1:];
        keys := keys[:i-1] || keys[i+1:]; counts := counts[:i-1] || counts[i+1:];
      END IF;
    END LOOP;
    starts := starts || first; ends := ends || ending; keys := keys || e.k; counts := counts || n::int;
  END LOOP;
  late_id := NULL;
  FOR i IN 1 .. cardinality(ends) LOOP
    k := keys[i]; first := starts[i]; ending := ends[i]; n := counts[i];
    RETURN NEXT;
  END LOOP;
END $$;
SQL

# Windows of an event, as (id, k, v, wm, w): from the definitions, with PostgreSQL's date_bin.
my %windows = (
	trunc => q{SELECT *, tstzrange(s, s + interval '1 minute') AS w FROM (SELECT *, to_timestamp(floor(extract(epoch FROM at) / 60) * 60) AS s FROM %s WHERE timed) AS x},
	tumble => q{SELECT *, tstzrange(s, s + interval '10 seconds') AS w FROM (SELECT *, date_bin('10 seconds', at, '2000-01-03Z') AS s FROM %s WHERE timed) AS x},
	hop => q{SELECT *, tstzrange(s, s + interval '10 seconds') AS w FROM (SELECT *, date_bin('2 seconds', at, '2000-01-03Z') - i * interval '2 seconds' AS s FROM %s, generate_series(0, 4) AS i WHERE timed) AS x},
	cumulate => q{SELECT *, tstzrange(s, s + i * interval '10 seconds') AS w FROM (SELECT *, date_bin('1 minute', at, '2000-01-03Z') AS s FROM %s, generate_series(1, 6) AS i WHERE timed) AS x WHERE at < s + i * interval '10 seconds'},
);
my %calls = (
	trunc => q{date_trunc('minute', at)},
	tumble => q{pipeline.tumble(at, '10 seconds')},
	hop => q{pipeline.hop(at, '10 seconds', '2 seconds')},
	cumulate => q{pipeline.cumulate(at, '1 minute', '10 seconds')},
);

# What a window is called in a view.
my %names = (trunc => 'lower(w)');

my @kinds = sort keys %windows;
my $values = 'count(*) AS n, sum(v) AS total, max(id) AS last_id';

# Random events, and what the watermark was when each of them came: of its partition, if it had been alone.
sub make_history
{
	my ($name, $days, $first, $disorder, $first_id) = @_;
	my $seed_part = (unpack('%32C*', $name) * 7919 + $seed * 31) % 100_000 / 100_000;

	$node->sql(qq{
CREATE TABLE h_$name AS SELECT id + $first_id AS id, at, k, v FROM random_events($seed_part, $days, '$first');
CREATE TABLE e_$name AS SELECT *, coalesce(max(at) FILTER (WHERE timed) OVER (ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) - interval '$disorder', '-infinity') AS wm
FROM (SELECT *, coalesce(isfinite(at) AND at < now() + interval '1 year', false) AS timed, coalesce(isfinite(at) AND at > now() + interval '1 year', false) AS future FROM h_$name) AS x});
	return;
}

# Late rows have the columns that a view reads: each reads the id.
sub create_views
{
	my ($s) = @_;
	my $sessions = "SELECT k, pipeline.session(at, '7 seconds') AS w, count(*) AS n, max(id) AS last_id FROM $s GROUP BY k, w";

	for my $kind (@kinds)
	{
		my $query = "SELECT k, $calls{$kind} AS w, $values FROM $s GROUP BY k, w";

		$node->sql(qq{
CREATE VIEW ${s}_$kind WITH (pipeline.continuous) AS $query;
CREATE VIEW ${s}_${kind}_changes WITH (pipeline.continuous, pipeline.emit = 'changes') AS $query;
CREATE VIEW ${s}_${kind}_admits WITH (pipeline.continuous, pipeline.allowed_lateness = '3 seconds') AS $query});
	}
	$node->sql(qq{
CREATE VIEW ${s}_session WITH (pipeline.continuous) AS $sessions;
CREATE VIEW ${s}_session_changes WITH (pipeline.continuous, pipeline.emit = 'changes', pipeline.emit_interval = '50 milliseconds') AS $sessions;
CREATE VIEW ${s}_session_admits WITH (pipeline.continuous, pipeline.allowed_lateness = '3 seconds') AS $sessions;
CREATE VIEW ${s}_session_rows WITH (pipeline.continuous) AS SELECT k, pipeline.session(at, '7 seconds') AS w, array_agg(id ORDER BY id) AS ids FROM $s GROUP BY k, w;
CREATE VIEW ${s}_top WITH (pipeline.continuous) AS SELECT id, w FROM (SELECT id, pipeline.tumble(at, '10 seconds') AS w, row_number() OVER (PARTITION BY pipeline.tumble(at, '10 seconds') ORDER BY v DESC, id) AS r FROM $s) AS x WHERE r <= 2;
CREATE VIEW ${s}_distinct WITH (pipeline.continuous) AS SELECT DISTINCT k, pipeline.tumble(at, '10 seconds') AS w FROM $s WHERE id >= 0;
CREATE VIEW ${s}_rows WITH (pipeline.continuous) AS SELECT k, pipeline.tumble(at, '10 seconds') AS w, array_agg(id ORDER BY v, id) AS ids FROM $s GROUP BY k, w;
CREATE VIEW ${s}_rows_changes WITH (pipeline.continuous, pipeline.emit = 'changes', pipeline.emit_interval = '50 milliseconds') AS SELECT k, pipeline.tumble(at, '10 seconds') AS w, array_agg(id ORDER BY v, id) AS ids FROM $s GROUP BY k, w;
CREATE VIEW ${s}_rows_admits WITH (pipeline.continuous, pipeline.allowed_lateness = '3 seconds') AS SELECT k, pipeline.tumble(at, '10 seconds') AS w, array_agg(id ORDER BY v, id) AS ids FROM $s GROUP BY k, w;
CREATE VIEW ${s}_top_both WITH (pipeline.continuous, pipeline.emit = 'changes', pipeline.allowed_lateness = '3 seconds') AS SELECT id, w FROM (SELECT id, w, row_number() OVER (PARTITION BY w ORDER BY v DESC, id) AS r FROM (SELECT id, v, pipeline.hop(at, '10 seconds', '2 seconds') AS w FROM $s) AS y) AS x WHERE r <= 2;
CREATE VIEW ${s}_inputs WITH (pipeline.continuous) AS SELECT w, k, a.n, b.total FROM
  (SELECT k, pipeline.tumble(at, '10 seconds') AS w, count(*) AS n FROM $s WHERE v < 3 AND id >= 0 GROUP BY 1, 2) AS a
  FULL JOIN (SELECT k, pipeline.tumble(at, '10 seconds') AS w, sum(v) AS total FROM $s WHERE v > 1 GROUP BY 1, 2) AS b USING (k, w);
CREATE VIEW ${s}_count WITH (pipeline.continuous) AS SELECT k, pipeline.count_window(3) AS w, sum(v) AS total, min(id) AS first_id FROM $s GROUP BY k, w;
CREATE VIEW ${s}_totals WITH (pipeline.continuous) AS SELECT k, count(*) AS n, sum(v) AS total, count(at) AS times FROM $s GROUP BY k});
	return;
}

sub wait_for_views
{
	my ($s) = @_;

	$node->wait_for($_) for split /\n/, $node->sql("SELECT view FROM pipeline.views WHERE '$s'::regclass = ANY (streams)");
	return;
}

sub check_view
{
	my ($view, $expected, $what) = @_;

	is($node->rows_differ("SELECT * FROM $view", $expected), '', "$view: $what");
	return;
}

sub late_pairs
{
	my ($view) = @_;

	return "SELECT l.id, unnest(l.late_windows) AS late_window FROM ${view}_late AS l";
}

# The views that show something of windows of ten seconds; {rows} has the events and their windows.
my %shapes = (
	top => 'SELECT id, w FROM (SELECT id, w, row_number() OVER (PARTITION BY w ORDER BY v DESC, id) AS r FROM {rows}) AS x WHERE r <= 2',
	distinct => 'SELECT DISTINCT k, w FROM {rows}',
	rows => 'SELECT k, w, array_agg(id ORDER BY v, id) FROM {rows} GROUP BY k, w',
	inputs => q{SELECT w, k, nullif(count(*) FILTER (WHERE v < 3), 0), sum(v) FILTER (WHERE v > 1) FROM {rows} GROUP BY k, w},
);

sub shape
{
	my ($name, $rows) = @_;

	(my $query = $shapes{$name}) =~ s/\{rows\}/($rows) AS rows/;
	return $query;
}

# A view for each kind of window and each way to give it out, with how much later than a window's end an event may
# come, and which windows it shows.
sub variants
{
	my ($s, $kind, $last) = @_;

	return ([ "${s}_$kind", '0', "upper(w) <= $last" ], [ "${s}_${kind}_changes", '0', 'true' ], [ "${s}_${kind}_admits", '3 seconds', "upper(w) <= $last" ]);
}

# What does not depend on the order of partitions.
sub check_untimed
{
	my ($s, $events) = @_;

	check_view("${s}_totals", "SELECT k, count(*), sum(v), count(at) FROM $events WHERE NOT future GROUP BY k", 'all events');
	is($node->sql("SELECT count(*) FROM pipeline.dead_letters WHERE view = '${s}_tumble'::regclass"), $node->sql("SELECT count(*) FROM $events WHERE NOT timed"), "${s}_tumble: dead letters");
	return;
}

# Sessions of one partition, against the rule.
sub check_sessions
{
	my ($s, $events, $last) = @_;
	my %grace = (session => '0', session_changes => '0', session_admits => '3 seconds', session_rows => '0');
	my %values = (session_rows => 'cardinality(ids)::bigint');

	$node->sql("CREATE TABLE o_$s AS SELECT g AS grace, o.* FROM (VALUES ('0'), ('3 seconds')) AS g (g), sessions_of('$events', '7 seconds', g::interval) AS o");
	for my $name (sort keys %grace)
	{
		my $shown = $name eq 'session_changes' ? 'true' : "ending < $last";
		my $rule = "FROM o_$s AS o WHERE grace = '$grace{$name}' AND late_id";

		is($node->rows_differ("SELECT k, lower(w) AS a1, upper(w) AS a2, " . ($values{$name} // 'n') . " FROM ${s}_$name", "SELECT k, first, ending, n $rule IS NULL AND $shown"), '', "${s}_$name: sessions");
		is($node->rows_differ("SELECT id FROM ${s}_${name}_late", "SELECT late_id $rule IS NOT NULL"), '', "${s}_$name: late rows");
	}
	return;
}

# Windows that keep their rows, which change.
sub check_replaced
{
	my ($s, $events, $last) = @_;
	my ($tumble, $hop) = map { 'SELECT * FROM (' . sprintf($windows{$_}, $events) . ') AS a WHERE wm < upper(w)' } qw(tumble hop);

	check_view("${s}_rows_changes", shape('rows', $tumble), 'windows that are over and those that are open');
	check_view("${s}_rows_admits", shape('rows', "$tumble + interval '3 seconds' AND upper(w) <= $last"), 'windows that are over, with late events');
	check_view("${s}_top_both", shape('top', "$hop + interval '3 seconds'"), 'windows that are over and those that are open, with late events');
	is($node->rows_differ(late_pairs("${s}_rows_admits"), 'SELECT id, w FROM (' . sprintf($windows{tumble}, $events) . ") AS a WHERE wm >= upper(w) + interval '3 seconds'"), '', "${s}_rows_admits: late rows");
	return;
}

# One partition: everything follows from the order of its events.
sub check_one
{
	my ($s, $disorder) = @_;
	my $events = "e_$s";
	my $last = "(SELECT max(at) - interval '$disorder' FROM $events WHERE timed)";

	for my $kind (@kinds)
	{
		my $all = sprintf($windows{$kind}, $events);
		my $w = $names{$kind} // 'w';

		for my $variant (variants($s, $kind, $last))
		{
			my ($view, $lateness, $shown) = @$variant;

			check_view($view, "SELECT k, $w AS w, $values FROM ($all) AS a WHERE wm < upper(w) + interval '$lateness' AND $shown GROUP BY k, a.w", "windows and what is in them");
			is($node->rows_differ(late_pairs($view), "SELECT id, w FROM ($all) AS a WHERE wm >= upper(w) + interval '$lateness'"), '', "$view: late rows");
		}
	}
	my $in_time = 'SELECT * FROM (' . sprintf($windows{tumble}, $events) . ") AS a WHERE wm < upper(w) AND upper(w) <= $last";

	check_view("${s}_$_", shape($_, $in_time), 'windows and what is in them') for sort keys %shapes;
	check_replaced($s, $events, $last);
	check_sessions($s, $events, $last);
	check_view("${s}_count", "SELECT k, w, sum(v), min(id) FROM (SELECT *, (row_number() OVER (PARTITION BY k ORDER BY id) - 1) / 3 + 1 AS w FROM $events WHERE NOT future) AS x GROUP BY k, w HAVING count(*) = 3", 'every three events');
	check_untimed($s, $events);
	is($node->sql("SELECT pipeline.watermark('${s}_tumble')"), $node->sql("SELECT $last"), "$s: watermark");
	cmp_ok($node->sql("SELECT count(*) FROM ${s}_tumble_late"), '>', $node->sql("SELECT count(*) / 2000 FROM $events"), "$s: there are late rows to compare");
	return;
}

# What a view says is late may not be more than what was late for its own partition.
sub check_late_subset
{
	my ($view, $could) = @_;

	is($node->sql("SELECT count(*) FROM (" . late_pairs($view) . " EXCEPT ALL $could) AS a"), 0, "$view: nothing is late that need not be");
	return;
}

# Several partitions: everything follows from what was late.
sub check_several
{
	my ($s, $disorder, @names) = @_;
	my $events = "e_$s";

	$node->sql("CREATE TABLE $events AS " . join(' UNION ALL ', map { "SELECT * FROM e_$_" } @names));
	my $last = '(SELECT min(m) FROM (' . join(' UNION ALL ', map { "SELECT max(at) - interval '$disorder' AS m FROM e_$_ WHERE timed" } @names) . ') AS x)';

	for my $kind (@kinds)
	{
		my $all = sprintf($windows{$kind}, $events);
		my $w = $names{$kind} // 'w';

		for my $variant (variants($s, $kind, $last))
		{
			my ($view, $lateness, $shown) = @$variant;

			check_view($view, "SELECT k, $w AS w, $values FROM ($all) AS a WHERE (id, w) NOT IN (" . late_pairs($view) . ") AND $shown GROUP BY k, a.w", 'what was not late');
			check_late_subset($view, "SELECT id, w FROM ($all) AS a WHERE wm >= upper(w) + interval '$lateness'");
		}
	}
	for my $name (sort keys %shapes)
	{
		my $all = sprintf($windows{tumble}, $events);

		check_view("${s}_$name", shape($name, "SELECT * FROM ($all) AS a WHERE upper(w) <= $last AND id NOT IN (SELECT l.id FROM ${s}_${name}_late AS l)"), 'what was not late');
		check_late_subset("${s}_$name", "SELECT id, w FROM ($all) AS a WHERE wm >= upper(w)");
	}
	check_untimed($s, $events);
	is($node->rows_differ("SELECT k, count(*), min(w), max(w) FROM ${s}_count GROUP BY k", "SELECT k, count(*) / 3, 1, count(*) / 3 FROM $events WHERE NOT future GROUP BY k"), '', "${s}_count: every three events");
	is($node->sql("SELECT pipeline.watermark('${s}_tumble')"), $node->sql("SELECT $last"), "$s: watermark");
	check_several_sessions($s, $events);
	return;
}

# A session that was over is not merged with what comes later: ranges that touch are counted as one on both sides.
sub check_several_sessions
{
	my ($s, $events) = @_;

	$node->sql("SELECT pipeline.advance_watermark('$s', 'infinity')");
	$node->until_true("SELECT bool_and(advance_to IS NULL) FROM pipeline.views WHERE '$s'::regclass = ANY (streams)");
	for my $name (qw(session session_changes session_admits session_rows))
	{
		my $n = $name eq 'session_rows' ? 'cardinality(v.ids)' : 'v.n';
		my $lateness = $name eq 'session_admits' ? '10 seconds' : '7 seconds';

		is($node->rows_differ(qq{
SELECT m.k, m.w, sum($n)::bigint FROM (SELECT k, unnest(range_agg(w)) AS w FROM ${s}_$name GROUP BY k) AS m JOIN ${s}_$name AS v ON v.k = m.k AND v.w <@ m.w GROUP BY 1, 2}, qq{
WITH x AS (SELECT * FROM $events WHERE timed AND id NOT IN (SELECT l.id FROM ${s}_${name}_late AS l))
SELECT m.k, m.w, count(*) FROM (SELECT k, unnest(range_agg(tstzrange(at, at + interval '7 seconds'))) AS w FROM x GROUP BY k) AS m JOIN x ON x.k = m.k AND m.w @> x.at GROUP BY 1, 2}),
			'', "${s}_$name: what was not late");
		is($node->sql("SELECT count(*) FROM ${s}_${name}_late AS l JOIN $events AS e USING (id) WHERE NOT e.at + interval '$lateness' < e.wm"), 0, "${s}_$name: nothing is late that need not be");
	}
	return;
}

my @cases = ([ '0', '1965-01-01Z' ], [ '1 second', '1999-06-01Z' ], [ '5 seconds', '2021-01-01Z' ]);
my $number = 0;

for my $case (@cases)
{
	my ($disorder, $first) = @$case;
	my $s = 's' . ++$number;

	make_history($s, $rounds, $first, $disorder, 0);
	$node->sql("CREATE FOREIGN TABLE $s (id int, at timestamptz, k int, v int) SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '$disorder', idle_timeout 'off')");
	create_views($s);
	# in transactions of any size
	my $events = $node->sql("SELECT max(id) FROM h_$s");

	for (my $from = 0; $from < $events;)
	{
		my $to = $from + 1 + int(rand(4000));

		$node->sql("INSERT INTO $s SELECT * FROM h_$s WHERE id > $from AND id <= $to ORDER BY id");
		$from = $to;
	}
	wait_for_views($s);
	check_one($s, $disorder);
	$node->sql("DROP FOREIGN TABLE $s CASCADE");
}

$node->sql("CREATE SERVER kafka FOREIGN DATA WRAPPER pipeline_kafka OPTIONS (bootstrap_servers '" . $broker->address . "')");
$number = 0;

for my $case (@cases)
{
	my ($disorder, $first) = @$case;
	my $topic = 'k' . ++$number;
	my @partitions = map { "${topic}_$_" } 0 .. 2;
	my $columns = 'id int, at timestamptz, k int, v int';
	my $options = "topic '$topic', event_time 'at', out_of_orderness '$disorder', idle_timeout 'off'";

	$broker->create_topic($topic, 3);
	for my $i (0 .. 2)
	{
		make_history($partitions[$i], int($rounds / 5) || 1, $first, $disorder, $i * 1_000_000);
		$broker->produce_records($topic, $i, split /\n/, $node->sql("SELECT jsonb_build_object('id', id, 'at', at, 'k', k, 'v', v) FROM h_$partitions[$i] ORDER BY id"));
	}
	$node->sql("CREATE FOREIGN TABLE $topic ($columns) SERVER kafka OPTIONS ($options)");
	create_views($topic);
	wait_for_views($topic);
	check_several($topic, $disorder, @partitions);
	$node->sql("DROP FOREIGN TABLE $topic CASCADE");
	next if $number != 2;

	# a partition of it alone
	$node->sql("CREATE FOREIGN TABLE $partitions[1] ($columns) SERVER kafka OPTIONS ($options, partitions '1')");
	create_views($partitions[1]);
	wait_for_views($partitions[1]);
	check_one($partitions[1], $disorder);
	$node->sql("DROP FOREIGN TABLE $partitions[1] CASCADE");
}

$node->stop;
$broker->stop;
done_testing();
