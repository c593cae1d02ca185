# Thousands of small random streams - ties, events exactly on boundaries and gaps,
# duplicates, times before 1970, in the far future, infinite or missing - against
# plain SQL that is written from the definitions alone.  Each day of a long stream
# is one of the small ones: when its first event comes, all windows of the day
# before are over.  If this failed, some corner of time would be counted wrongly.
#
# PIPELINE_SEED repeats a run, PIPELINE_ROUNDS says how many days each stream has.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use PostgreSQL::Test::Utils;
use Test::More;

use PipelineNode;

my $seed = $ENV{PIPELINE_SEED} || int(rand(1_000_000));
my $rounds = $ENV{PIPELINE_ROUNDS} || 1000;
my $node = PipelineNode->create('properties', conf => "timezone = 'UTC'\nmax_worker_processes = 64\npipeline.random_batches = on\npipeline.batch_size = 500\n");

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
CREATE FUNCTION sessions_of(events regclass, gap interval, grace interval, OUT late int[], OUT sessions jsonb) LANGUAGE plpgsql AS $$
DECLARE
  e record;
  starts timestamptz[]; ends timestamptz[]; keys int[]; counts int[];
  s timestamptz; f timestamptz; n int; i int;
BEGIN
  late := '{}'; starts := '{}'; ends := '{}'; keys := '{}'; counts := '{}'; sessions := '[]';
  FOR e IN EXECUTE format('SELECT * FROM %s WHERE timed ORDER BY id', events) LOOP
    -- those that are past
    FOR i IN REVERSE cardinality(ends) .. 1 LOOP
      IF ends[i] + grace < e.wm THEN
        sessions := sessions || jsonb_build_array(jsonb_build_array(keys[i], starts[i], ends[i], counts[i]));
        starts := starts[:i-1] || starts[i+1:]; ends := ends[:i-1] || ends[i+1:];
        keys := keys[:i-1] || keys[i+1:]; counts := counts[:i-1] || counts[i+1:];
      END IF;
    END LOOP;
    s := e.at; f := e.at + gap; n := 1;
    FOR i IN REVERSE cardinality(ends) .. 1 LOOP
      IF keys[i] = e.k AND starts[i] <= e.at + gap AND ends[i] >= e.at THEN
        s := least(s, starts[i]); f := greatest(f, ends[i]); n := n + counts[i];
      END IF;
    END LOOP;
    IF e.wm > f + grace THEN
      late := late || e.id;
      CONTINUE;
    END IF;
    FOR i IN REVERSE cardinality(ends) .. 1 LOOP
      IF keys[i] = e.k AND starts[i] <= e.at + gap AND ends[i] >= e.at THEN
        starts := starts[:i-1] || starts[i+1:]; ends := ends[:i-1] || ends[i+1:];
        keys := keys[:i-1] || keys[i+1:]; counts := counts[:i-1] || counts[i+1:];
      END IF;
    END LOOP;
    starts := starts || s; ends := ends || f; keys := keys || e.k; counts := counts || n;
  END LOOP;
  FOR i IN 1 .. cardinality(ends) LOOP
    sessions := sessions || jsonb_build_array(jsonb_build_array(keys[i], starts[i], ends[i], counts[i]));
  END LOOP;
END $$;
SQL

# Windows of an event, as (id, k, v, wm, w): from the definitions, with PostgreSQL's date_bin.
my %windows = (
	tumble => q{SELECT *, tstzrange(s, s + interval '10 seconds') AS w FROM (SELECT *, date_bin('10 seconds', at, '2000-01-03Z') AS s FROM %s WHERE timed) AS x},
	hop => q{SELECT *, tstzrange(s, s + interval '10 seconds') AS w FROM (SELECT *, date_bin('2 seconds', at, '2000-01-03Z') - i * interval '2 seconds' AS s FROM %s, generate_series(0, 4) AS i WHERE timed) AS x},
	cumulate => q{SELECT *, tstzrange(s, s + i * interval '10 seconds') AS w FROM (SELECT *, date_bin('1 minute', at, '2000-01-03Z') AS s FROM %s, generate_series(1, 6) AS i WHERE timed) AS x WHERE at < s + i * interval '10 seconds'},
);
my %calls = (
	tumble => q{pipeline.tumble(at, '10 seconds')},
	hop => q{pipeline.hop(at, '10 seconds', '2 seconds')},
	cumulate => q{pipeline.cumulate(at, '1 minute', '10 seconds')},
);

sub check_view
{
	my ($view, $expected, $what) = @_;

	is($node->rows_differ("SELECT * FROM $view", $expected), '', "$view: $what");
	return;
}

sub check_late
{
	my ($view, $expected) = @_;

	is($node->rows_differ("SELECT id, unnest(late_windows) AS late_window FROM ${view}_late", $expected), '', "$view: late rows");
	return;
}

my $number = 0;

for my $disorder ('0', '1 second', '5 seconds')
{
	my $s = 's' . ++$number;
	my $first = $number == 1 ? '1965-01-01Z' : $number == 2 ? '1999-06-01Z' : '2021-01-01Z';
	my @kinds = sort keys %windows;
	my $seed_part = (($seed * 31 + $number) % 100_000) / 100_000;

	$node->sql("CREATE TABLE h$number AS SELECT * FROM random_events($seed_part, $rounds, '$first')");
	$node->sql("CREATE TABLE e$number AS SELECT *, coalesce(max(at) FILTER (WHERE timed) OVER (ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) - interval '$disorder', '-infinity') AS wm FROM (SELECT *, coalesce(isfinite(at) AND at < now() + interval '1 year', false) AS timed, coalesce(isfinite(at) AND at > now() + interval '1 year', false) AS future FROM h$number) AS x");
	my $last = "(SELECT max(at) - interval '$disorder' FROM e$number WHERE timed)";

	$node->sql("CREATE FOREIGN TABLE $s (id int, at timestamptz, k int, v int) SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '$disorder', idle_timeout 'off')");
	for my $kind (@kinds)
	{
		my $query = "SELECT k, $calls{$kind} AS w, count(*) AS n, sum(v) AS total, max(id) AS last_id FROM $s GROUP BY k, w";

		$node->sql("CREATE VIEW ${s}_$kind WITH (pipeline.continuous) AS $query");
		$node->sql("CREATE VIEW ${s}_${kind}_changes WITH (pipeline.continuous, pipeline.emit = 'changes') AS $query");
		$node->sql("CREATE VIEW ${s}_${kind}_admits WITH (pipeline.continuous, pipeline.allowed_lateness = '3 seconds') AS $query");
	}
	$node->sql("CREATE VIEW ${s}_session WITH (pipeline.continuous) AS SELECT k, pipeline.session(at, '7 seconds') AS w, count(*) AS n, max(id) AS last_id FROM $s GROUP BY k, w");
	$node->sql("CREATE VIEW ${s}_session_changes WITH (pipeline.continuous, pipeline.emit = 'changes', pipeline.emit_interval = '50 milliseconds') AS SELECT k, pipeline.session(at, '7 seconds') AS w, count(*) AS n, max(id) AS last_id FROM $s GROUP BY k, w");
	$node->sql("CREATE VIEW ${s}_session_admits WITH (pipeline.continuous, pipeline.allowed_lateness = '3 seconds') AS SELECT k, pipeline.session(at, '7 seconds') AS w, count(*) AS n, max(id) AS last_id FROM $s GROUP BY k, w");
	$node->sql("CREATE VIEW ${s}_top WITH (pipeline.continuous) AS SELECT id, w FROM (SELECT id, pipeline.tumble(at, '10 seconds') AS w, row_number() OVER (PARTITION BY pipeline.tumble(at, '10 seconds') ORDER BY v DESC, id) AS r FROM $s) AS x WHERE r <= 2");
	$node->sql("CREATE VIEW ${s}_distinct WITH (pipeline.continuous) AS SELECT DISTINCT k, pipeline.tumble(at, '10 seconds') AS w FROM $s");
	$node->sql("CREATE VIEW ${s}_rows WITH (pipeline.continuous) AS SELECT k, pipeline.tumble(at, '10 seconds') AS w, array_agg(id ORDER BY v, id) AS ids FROM $s GROUP BY k, w");
	$node->sql("CREATE VIEW ${s}_count WITH (pipeline.continuous) AS SELECT k, pipeline.count_window(3) AS w, sum(v) AS total, min(id) AS first_id FROM $s GROUP BY k, w");
	$node->sql("CREATE VIEW ${s}_totals WITH (pipeline.continuous) AS SELECT k, count(*) AS n, sum(v) AS total, count(at) AS times FROM $s GROUP BY k");

	# in transactions of any size
	my $events = $node->sql("SELECT max(id) FROM h$number");
	for (my $from = 0; $from < $events;)
	{
		my $to = $from + 1 + int(rand(4000));

		$node->sql("INSERT INTO $s SELECT * FROM h$number WHERE id > $from AND id <= $to ORDER BY id");
		$from = $to;
	}
	my @views = split /\n/, $node->sql("SELECT view FROM pipeline.views WHERE '$s'::regclass = ANY (streams)");

	$node->wait_for($_) for @views;
	for my $kind (@kinds)
	{
		my $all = sprintf($windows{$kind}, "e$number");
		my $groups = "SELECT k, w, count(*) AS n, sum(v) AS total, max(id) AS last_id FROM ($all) AS a WHERE %s GROUP BY k, w";

		check_view("${s}_$kind", sprintf($groups, "wm < upper(w) AND upper(w) <= $last"), "windows that are over");
		check_late("${s}_$kind", "SELECT id, w FROM ($all) AS a WHERE wm >= upper(w)");
		check_view("${s}_${kind}_changes", sprintf($groups, 'wm < upper(w)'), 'windows that are over and those that are open');
		check_late("${s}_${kind}_changes", "SELECT id, w FROM ($all) AS a WHERE wm >= upper(w)");
		check_view("${s}_${kind}_admits", sprintf($groups, "wm < upper(w) + interval '3 seconds' AND upper(w) <= $last"), 'windows that are over, with late events');
		check_late("${s}_${kind}_admits", "SELECT id, w FROM ($all) AS a WHERE wm >= upper(w) + interval '3 seconds'");
	}
	my $tumble = '(' . sprintf($windows{tumble}, "e$number") . ') AS a';
	my $in_time = "$tumble WHERE wm < upper(w) AND upper(w) <= $last";

	for my $grace ('0 seconds', '3 seconds')
	{
		my $over = $grace eq '0 seconds' ? 'session' : 'session_admits';
		my $wanted = "(SELECT (j->>0)::int, (j->>1)::timestamptz, (j->>2)::timestamptz AS ending, (j->>3)::bigint FROM o$number, jsonb_array_elements(sessions) AS j) AS w";
		my $shown = 'SELECT k, lower(w) AS a1, upper(w) AS a2, n FROM';

		$node->sql("DROP TABLE IF EXISTS o$number; CREATE TABLE o$number AS SELECT * FROM sessions_of('e$number', '7 seconds', '$grace')");
		is($node->rows_differ("$shown ${s}_$over", "SELECT * FROM $wanted WHERE ending < $last"), '', "${s}_$over: sessions");
		is($node->rows_differ("SELECT id AS late_id FROM ${s}_${over}_late", "SELECT unnest(late) AS late_id FROM o$number"), '', "${s}_$over: late rows");
		next if $over ne 'session';
		is($node->rows_differ("$shown ${s}_session_changes", "SELECT * FROM $wanted"), '', "${s}_session_changes: sessions that are over and those that are open");
		is($node->rows_differ("SELECT id AS late_id FROM ${s}_session_changes_late", "SELECT unnest(late) AS late_id FROM o$number"), '', "${s}_session_changes: late rows");
	}
	check_view("${s}_top", "SELECT id, w FROM (SELECT id, w, row_number() OVER (PARTITION BY w ORDER BY v DESC, id) AS r FROM $in_time) AS x WHERE r <= 2", 'best of each window');
	check_view("${s}_distinct", "SELECT DISTINCT k, w FROM $in_time", 'distinct rows of each window');
	check_view("${s}_rows", "SELECT k, w, array_agg(id ORDER BY v, id) FROM $in_time GROUP BY k, w", 'rows of each window');
	check_view("${s}_totals", "SELECT k, count(*), sum(v), count(at) FROM e$number WHERE NOT future GROUP BY k", 'all events');
	check_view("${s}_count", "SELECT k, w, sum(v), min(id) FROM (SELECT *, (row_number() OVER (PARTITION BY k ORDER BY id) - 1) / 3 + 1 AS w FROM e$number WHERE NOT future) AS x GROUP BY k, w HAVING count(*) = 3", 'every three events');
	is($node->sql("SELECT count(*) FROM pipeline.dead_letters WHERE view = '${s}_tumble'::regclass"), $node->sql("SELECT count(*) FROM e$number WHERE NOT timed"), "${s}_tumble: dead letters");
	is($node->sql("SELECT pipeline.watermark('${s}_tumble')"), $node->sql("SELECT $last"), "$s: watermark");
	cmp_ok($node->sql("SELECT count(*) FROM ${s}_tumble_late"), '>', $rounds / 100, "$s: there are late rows to compare");
}

$node->stop;
done_testing();
