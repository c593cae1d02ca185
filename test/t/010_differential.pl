# A few hundred generated queries as continuous views over a local stream, and
# over an ordinary table with the same rows: no difference, neither in between
# nor at the end, whatever restarts happen while the rows come.  If this failed,
# some aggregate, join, expression, window or restart would change results.
#
# Each round makes a stream and PIPELINE_VIEWS (30) views and inserts rows in
# transactions of random size; PIPELINE_ROUNDS (6) rounds.  PIPELINE_SEED repeats
# a run, PIPELINE_ONLY one round of it.  PIPELINE_DRY_RUN tests the test: ordinary
# views over a copy of the rows take the place of continuous ones.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use Oracle qw(difference wait_until);
use PipelineNode;
use QueryGenerator;

my $seed = $ENV{PIPELINE_SEED} || time % 100000;
my $rounds = $ENV{PIPELINE_ROUNDS} || 6;
my $views_per_round = $ENV{PIPELINE_VIEWS} || 30;
my $dry_run = $ENV{PIPELINE_DRY_RUN} || 0;

my @zones = ('UTC', 'Europe/Berlin', 'America/New_York', 'Asia/Kathmandu');
my @batch_sizes = (4096, 1, 100, 7, 4096, 1000);
my $restarts = 0;
my $refused = 0;
my $compared = 0;

# Event times are at most 2 x jitter and the 5 minutes of a row moved to a window
# boundary out of order, unless strays make late rows.
my %in_time = (step => 20, jitter => 600, out_of_orderness => '26 minutes');
my %with_late = (step => 20, jitter => 60, out_of_orderness => '2 minutes', stray => 0.08, stray_by => 7200);

my $conf = "max_worker_processes = 64\nmax_connections = 40\nshared_buffers = 64MB\njit = off\n";
my $node = $dry_run ? plain_node($conf) : PipelineNode->create('differential', conf => $conf);

sub plain_node
{
	my ($settings) = @_;
	my $plain = PostgreSQL::Test::Cluster->new('differential');

	$plain->init;
	$plain->append_conf('postgresql.conf', $settings);
	$plain->start;
	return $plain;
}

sub run_sql
{
	my ($sql) = @_;
	return $node->safe_psql('postgres', $sql);
}

# One round: everything that it needs to know about itself.
sub make_round
{
	my ($number) = @_;
	my %round = (
		number => $number,
		random => QueryGenerator->new(seed => $seed * 1000 + $number + 500),
		time_type => $number % 3 == 2 ? 'timestamp' : 'timestamptz',
		zone => $zones[ $number % @zones ],
		batch_size => $batch_sizes[ $number % @batch_sizes ],
		late => $number % 5 == 4 && !$dry_run ? 1 : 0,
		timeless => $number % 5 == 3 && !$dry_run ? 0.02 : 0,
		views => []);

	$round{rows} = { $round{late} ? %with_late : %in_time };
	$round{count} = $round{batch_size} == 1 ? 600 : 4000;
	$round{generator} = QueryGenerator->new(seed => $seed * 1000 + $number, time_type => $round{time_type}, late => $round{late});
	return \%round;
}

sub create_stream
{
	my ($round) = @_;
	my $generator = $round->{generator};
	my $columns = $generator->column_definitions;

	run_sql("ALTER DATABASE postgres SET timezone = '$round->{zone}'");
	run_sql("CREATE TABLE ev_all ($columns)");
	run_sql('SELECT setseed(' . $round->{random}->random . '); INSERT INTO ev_all '
		  . $generator->rows_query(count => $round->{count}, timeless => $round->{timeless}, %{ $round->{rows} }));
	run_sql('CREATE INDEX ON ev_all (id); ANALYZE ev_all');
	if ($dry_run)
	{
		run_sql("CREATE TABLE ev ($columns)");
	}
	else
	{
		$node->append_conf('postgresql.conf', "pipeline.batch_size = $round->{batch_size}\n");
		$node->reload;
		run_sql("CREATE FOREIGN TABLE ev ($columns) SERVER pipeline_local OPTIONS (event_time 'at', "
			  . "out_of_orderness '$round->{rows}{out_of_orderness}', idle_timeout 'off')");
	}
	run_sql('CREATE VIEW ev_view AS SELECT * FROM ev WHERE ' . QueryGenerator->view_condition);
	return;
}

# Some windowed views show their rows before they are final, or change them for late events.
sub changing_options
{
	my ($round, $query) = @_;
	my $random = $round->{random};
	my %options;

	return () if $dry_run;
	$options{emit} = 'changes' if $random->chance(0.3);
	# the oracle of hopping windows knows of no grace
	$options{allowed_lateness} = '1 hour' if $random->chance(0.25) && !($query->{hop} && $round->{late});
	# and some keep their windows, so that late rows can be applied in the end
	$options{keep_closed} = '3650 days' if $random->chance($round->{late} ? 0.5 : 0.1);
	return %options;
}

# Create the views; one that the extension refuses is left out if it may be.
sub create_views
{
	my ($round) = @_;
	my @unexpected;

	while (@{ $round->{views} } < $views_per_round)
	{
		my $query = $round->{generator}->query;
		my $name = 'v' . (1 + @{ $round->{views} });
		my $sql = $round->{generator}->fill($query->{sql}, stream => 'ev', view => 'ev_view', tumble => $dry_run ? 'oracle.tumble' : 'pipeline.tumble',
			hop => $dry_run ? 'oracle.hop(e.id, ' : 'pipeline.hop(');
		my %changing = $query->{kind} eq 'windowed' ? changing_options($round, $query) : ();
		my ($stdout, $stderr);
		my $create = sub {
			my $with = $dry_run ? '' : 'WITH (' . join(', ', 'pipeline.continuous', map { "pipeline.$_ = '$changing{$_}'" } sort keys %changing) . ')';
			return $node->psql('postgres', "CREATE VIEW $name $with AS $sql", stdout => \$stdout, stderr => \$stderr) == 0;
		};
		my $created = $create->();

		if (!$created && %changing && $stderr =~ /kept up to date incrementally/)
		{
			%changing = ();
			$created = $create->();
		}
		if ($created)
		{
			push @{ $round->{views} }, { %$query, name => $name, text => $sql, %changing };
		}
		elsif ($query->{optional} && $stderr =~ /not supported/)
		{
			$refused++;
		}
		else
		{
			push @unexpected, "$sql\n$stderr";
			last if @unexpected > 5;
		}
	}
	is(scalar @unexpected, 0, "round $round->{number}: the generated queries are accepted") or diag(join("\n", @unexpected));
	return;
}

# Insert the next rows; at times with rows that are rolled back, which must not
# be seen, nor move the watermark.
sub insert_batch
{
	my ($round, $from, $to) = @_;
	my $columns = join(', ', QueryGenerator->column_names);
	my $insert = "INSERT INTO ev SELECT $columns FROM ev_all WHERE id BETWEEN $from AND $to ORDER BY id";
	my $ghosts = "INSERT INTO ev (id, at, k, i4) SELECT id, at + interval '20 days', k, i4 FROM ev_all WHERE id BETWEEN $from AND $to";
	my $r = $round->{random}->random;

	return run_sql($insert) if $r < 0.5;
	return run_sql("BEGIN; $insert; SAVEPOINT s; $ghosts; ROLLBACK TO SAVEPOINT s; COMMIT") if $r < 0.7;
	return run_sql("BEGIN; $ghosts; ROLLBACK; $insert") if $r < 0.8;
	my $middle = int(($from + $to) / 2);
	return run_sql("BEGIN; SAVEPOINT s; INSERT INTO ev SELECT $columns FROM ev_all WHERE id BETWEEN $from AND $middle ORDER BY id; "
		  . "RELEASE SAVEPOINT s; INSERT INTO ev SELECT $columns FROM ev_all WHERE id BETWEEN $middle + 1 AND $to ORDER BY id; COMMIT");
}

# Disturb the workers in one of the ways that must not matter.
sub disturb
{
	my ($round) = @_;
	my $how = $round->{random}->pick('none', 'none', 'worker', 'worker', 'fast', 'immediate', 'pause');

	return if $how eq 'none' || $dry_run;
	note("disturbing: $how");
	$restarts++;
	if ($how eq 'worker')
	{
		my $share = $round->{random}->random;
		run_sql("SELECT pg_terminate_backend(pid) FROM pipeline.stat_views WHERE pid IS NOT NULL AND hashtext(view::text || '$share') % 3 = 0");
	}
	elsif ($how eq 'pause')
	{
		my $name = $round->{random}->pick(@{ $round->{views} })->{name};
		run_sql("SELECT pipeline.pause('$name')");
		run_sql("SELECT pipeline.resume('$name')");
	}
	else
	{
		$node->stop($how);
		$node->start;
	}
	return;
}

# Until every view has processed what was inserted.
sub wait_for_views
{
	my ($round) = @_;
	my $waits = join('; ', map { "SELECT pipeline.wait_for('$_->{name}', '60 seconds')" } @{ $round->{views} });
	my ($stdout, $stderr);

	return 1 if $dry_run;
	return 1 if $node->psql('postgres', $waits, stdout => \$stdout, stderr => \$stderr) == 0 && $stdout !~ /^f$/m;
	diag($stderr, run_sql('SELECT view, state, reason FROM pipeline.views'));
	return 0;
}

# The rows to judge a view by: those inserted so far, for a windowed view only
# those with a time and, where there are late ones, not those.
sub oracle_rows
{
	my ($round, $view, $last) = @_;
	my @where = ("id <= $last");

	push @where, 'isfinite(at)' if $view->{kind} eq 'windowed' && $round->{timeless};
	# of windows that hop a late row may miss some only, which hop_in_time knows
	push @where, "id NOT IN (SELECT id FROM late_$view->{name})" if $view->{kind} eq 'windowed' && $round->{late} && !$view->{hop};
	return '(SELECT * FROM ev_all WHERE ' . join(' AND ', @where) . ')';
}

sub fill_for_oracle
{
	my ($round, $text, $rows, $hop) = @_;
	return $round->{generator}->fill($text, stream => $rows, view => "(SELECT * FROM $rows AS kept WHERE " . QueryGenerator->view_condition . ')',
		tumble => 'oracle.tumble', hop => ($hop // 'oracle.hop') . '(e.id, ');
}

# How far event time has got with row number last: one partition, so it follows
# from the rows alone.
sub watermark_of
{
	my ($round, $last) = @_;
	my $at = $round->{time_type} eq 'timestamp' ? q{at AT TIME ZONE 'UTC'} : 'at';

	return run_sql("SELECT max($at) - interval '$round->{rows}{out_of_orderness}' FROM ev_all WHERE isfinite(at) AND id <= $last");
}

# Tables of the rows that come late for each windowed view: their window was
# complete before the row, by the highest time of the rows before it.
sub make_late_tables
{
	my ($round) = @_;

	run_sql("CREATE TABLE arrivals AS SELECT id, max(at) OVER (ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)"
		  . " - interval '$round->{rows}{out_of_orderness}' AS watermark FROM ev_all; CREATE INDEX ON arrivals (id)");
	for my $view (grep { $_->{kind} eq 'windowed' } @{ $round->{views} })
	{
		my $contributes = fill_for_oracle($round, $view->{contributes}, 'ev_all');
		run_sql("CREATE TABLE late_$view->{name} AS SELECT c.id, c.window_end FROM ($contributes) c JOIN arrivals USING (id) WHERE watermark >= c.window_end + interval '" . ($view->{allowed_lateness} // '0') . "'");
	}
	return;
}

# Compare one view; undef or what is wrong.  last: rows inserted so far; final:
# all windows are closed.
sub judge
{
	my ($round, $view, $last, $final) = @_;
	my $expected = fill_for_oracle($round, $view->{sql}, oracle_rows($round, $view, $last), $round->{late} ? 'oracle.hop_in_time' : 'oracle.hop');
	my $columns = join(', ', map { "c$_" } 1 .. $view->{columns});

	if ($view->{kind} eq 'windowed' && !$final && !$view->{emit})
	{
		my $watermark = watermark_of($round, $last);
		my $shown = $dry_run ? $watermark : run_sql("SELECT pipeline.watermark('$view->{name}')");
		my $limit = "timestamptz '$watermark'" . ($round->{time_type} eq 'timestamp' ? q{ AT TIME ZONE 'UTC'} : '');

		return "the watermark is $shown instead of $watermark" if $shown ne $watermark;
		$expected = "SELECT * FROM ($expected) AS q WHERE $view->{window_end} <= $limit";
		return difference(\&run_sql, expected => $expected, actual => "SELECT $columns FROM $view->{name} WHERE $view->{window_end} <= $limit", columns => $view->{columns}, inexact => $view->{inexact})
		  if $dry_run;
	}
	return difference(\&run_sql, expected => $expected, actual => "SELECT $columns FROM $view->{name}", columns => $view->{columns}, inexact => $view->{inexact});
}

# The late table has exactly the late rows, each with the window it missed, and
# timeless rows are dead letters of the windowed views that they reach.
sub judge_outcomes
{
	my ($round, $view) = @_;
	my $difference;

	return undef if $view->{kind} ne 'windowed' || $dry_run;
	if ($round->{late})
	{
		$difference = difference(\&run_sql,
			expected => "SELECT id AS c1, array_agg(window_end ORDER BY window_end) AS c2 FROM late_$view->{name} GROUP BY id",
			actual => "SELECT id AS c1, ARRAY(SELECT upper(w) FROM unnest(late_windows) w ORDER BY 1) AS c2 FROM $view->{name}_late",
			columns => 2);
		return "late rows: $difference" if defined $difference;
	}
	else
	{
		my $late = run_sql("SELECT late FROM pipeline.stat_views WHERE view = '$view->{name}'::regclass");
		return "$late rows came late" if $late != 0;
	}
	if ($round->{timeless})
	{
		my $reaches = fill_for_oracle($round, $view->{reaches}, 'ev_all');
		my $expected = run_sql("SELECT count(*) FROM ($reaches) c WHERE at IS NULL OR NOT isfinite(at)");
		my $found = run_sql("SELECT count(*) FROM pipeline.dead_letters WHERE view = '$view->{name}'::regclass");

		return "$found dead letters instead of $expected" if $found != $expected;
	}
	return undef;
}

sub judge_all
{
	my ($round, $last, $final) = @_;
	my @wrong;

	for my $view (@{ $round->{views} })
	{
		next if $view->{wrong};
		my $what = eval { judge($round, $view, $last, $final) // ($final ? judge_outcomes($round, $view) : undef) } // $@;

		$compared++;
		next unless $what;
		$view->{wrong} = 1;
		push @wrong, describe($round, $view, $last, $final, $what);
	}
	is(scalar @wrong, 0, "round $round->{number}: " . @{ $round->{views} } . " views are right after $last rows" . ($final ? ', all windows closed' : ''))
	  or diag(join("\n\n", @wrong));
	return;
}

# What a person needs to repeat and understand a failure; says also whether
# waiting would have helped, for then wait_for() came back too early.
sub describe
{
	my ($round, $view, $last, $final, $what) = @_;
	my $later = wait_until(3, sub { (eval { judge($round, $view, $last, $final) } // $@) eq '' });

	return "PIPELINE_SEED=$seed PIPELINE_ONLY=$round->{number}, view $view->{name} ($view->{kind}), $round->{time_type}, zone $round->{zone}, batch_size $round->{batch_size}\n"
	  . "$view->{text}\n$what" . ($later ? "\n(it became right a moment later)" : '');
}

# All windows closed: the views advance to the end of their last open window.
sub close_windows
{
	my ($round) = @_;

	return if $dry_run;
	run_sql(q{SELECT pipeline.advance_watermark('ev', 'infinity')});
	ok(wait_for_views($round), "round $round->{number}: the windows closed");
	return;
}

# Late rows that are applied to windows that are kept: as if they had come in time.
sub apply_late
{
	my ($round) = @_;
	my @kept = grep { $_->{keep_closed} && !$_->{wrong} } @{ $round->{views} };
	my @wrong;

	return if !$round->{late} || $dry_run || !@kept;
	run_sql("SELECT pipeline.apply_late('$_->{name}')") for @kept;
	disturb($round) if $round->{random}->chance(0.5);
	ok(wait_for_views($round), "round $round->{number}: late rows are applied");
	local $round->{late} = 0;
	for my $view (@kept)
	{
		my $what = eval { judge($round, $view, $round->{count}, 1) } // $@;
		my $left = run_sql("SELECT count(*) FROM $view->{name}_late");

		$what ||= "$left late rows are left" if $left > 0;
		$compared++;
		push @wrong, describe($round, $view, $round->{count}, 1, $what) if $what;
	}
	is(scalar @wrong, 0, "round $round->{number}: " . @kept . " views are right after late rows were applied") or diag(join("\n\n", @wrong));
	return;
}

sub drop_round
{
	my ($round) = @_;

	run_sql('DROP VIEW ' . join(', ', map { $_->{name} } @{ $round->{views} }));
	run_sql($dry_run ? 'DROP TABLE ev CASCADE' : 'DROP FOREIGN TABLE ev CASCADE');
	run_sql('DROP TABLE IF EXISTS arrivals');
	run_sql("DROP TABLE IF EXISTS late_$_->{name}") for @{ $round->{views} };
	run_sql('DROP TABLE ev_all');
	return if $dry_run;
	is(run_sql(q{SELECT count(*) FROM pg_class WHERE relnamespace = 'pipeline_data'::regnamespace AND relname ~ '^[qtk]_[0-9]+$'}),
		0, "round $round->{number}: dropped views leave nothing behind");
	ok( wait_until(10, sub { run_sql(q{SELECT count(*) FROM pipeline.stat_workers WHERE kind = 'worker'}) == 0 }),
		"round $round->{number}: dropped views leave no workers behind");
	return;
}

sub play_round
{
	my ($round) = @_;
	my $last = 0;

	create_stream($round);
	create_views($round);
	make_late_tables($round) if $round->{late};
	while ($last < $round->{count})
	{
		my $size = int(exp($round->{random}->random * log(1000)));
		my $from = $last + 1;

		$last = $last + $size < $round->{count} ? $last + $size : $round->{count};
		insert_batch($round, $from, $last);
		disturb($round) if $round->{random}->chance(0.3);
		next unless $round->{random}->chance(0.12);
		ok(wait_for_views($round), "round $round->{number}: $last rows are processed");
		judge_all($round, $last, 0);
	}
	ok(wait_for_views($round), "round $round->{number}: all rows are processed");
	close_windows($round);
	judge_all($round, $last, 1);
	apply_late($round);
	drop_round($round);
	return;
}

diag("PIPELINE_SEED=$seed");
run_sql(QueryGenerator->fixtures);
for my $number (1 .. $rounds)
{
	next if $ENV{PIPELINE_ONLY} && $ENV{PIPELINE_ONLY} != $number;
	play_round(make_round($number));
}
note("$compared comparisons, $refused queries refused as not supported, $restarts disturbances");
ok($refused < 0.2 * $rounds * $views_per_round, 'few queries are refused');
$node->stop;
done_testing();
