# What can go wrong with a topic, and what must come of it: an outage is waited
# out, a loss stops the view with a reason and goes on only when told to, a bad
# record ends in the dead letters and takes no neighbour along, and an error that
# is not the record's fault is tried again.  If this failed, a broken topic or a
# broken record would change results silently.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use PostgreSQL::Test::Utils;
use Test::More;

use KafkaBroker;
use Oracle qw(holds_for wait_until);
use PipelineNode;

my $broker = KafkaBroker->new;
my $node = PipelineNode->create('faults', conf => "timezone = 'UTC'\nmax_worker_processes = 64\nmax_connections = 40\n");
my $zero = '2024-01-01T00:00:';

sub run_sql
{
	my ($sql) = @_;
	return $node->safe_psql('postgres', $sql);
}

run_sql(qq{CREATE SERVER shop FOREIGN DATA WRAPPER pipeline_kafka OPTIONS (bootstrap_servers '@{[ $broker->address ]}', "topic.metadata.refresh.interval.ms" '5000')});

# A stream over a topic of the same name, unless options say otherwise.
sub create_stream
{
	my ($name, %options) = @_;
	my %all = (topic => $name, event_time => 'at', out_of_orderness => '0', idle_timeout => 'off', %options);
	my $list = join(', ', map { "$_ '$all{$_}'" } sort keys %all);

	run_sql("CREATE FOREIGN TABLE $name (id bigint, at timestamptz, v int) SERVER shop OPTIONS ($list)");
	return;
}

sub create_view
{
	my ($name, $query) = @_;

	run_sql("CREATE VIEW $name WITH (pipeline.continuous) AS $query");
	return;
}

# Records with ids from first to last and v = id, a second apart.
sub records
{
	my ($first, $last) = @_;
	return map { sprintf('{"id": %d, "at": "2024-01-01T%02d:%02d:%02dZ", "v": %d}', $_, int($_ / 3600), int($_ / 60) % 60, $_ % 60, $_) } $first .. $last;
}

# Until a view has processed all that its topic holds; a failure if it does not
# or has stopped, but the other tests go on.
sub wait_for
{
	my ($view) = @_;
	my ($stdout, $stderr) = ('', '');

	return if wait_until(90, sub {
		$node->psql('postgres', "SELECT pipeline.wait_for('$view', '60 seconds')", stdout => \$stdout, stderr => \$stderr);
		return $stdout eq 't' || $stderr =~ /has stopped|is paused/;
	}) && $stdout eq 't';
	fail("view $view catches up");
	diag($stdout, $stderr);
	return;
}

sub state_of
{
	my ($view) = @_;
	return run_sql("SELECT state FROM pipeline.views WHERE view = '$view'::regclass");
}

# Until a view has stopped; gives the reason.
sub wait_for_stop
{
	my ($view) = @_;

	wait_until(90, sub { state_of($view) eq 'stopped' }) or fail("view $view stops");
	return run_sql("SELECT reason FROM pipeline.views WHERE view = '$view'::regclass");
}

# Until a view's worker is gone.
sub pause
{
	my ($view) = @_;

	$node->psql('postgres', "SELECT pipeline.pause('$view')");
	wait_until(20, sub { run_sql("SELECT pid IS NULL FROM pipeline.stat_views WHERE view = '$view'::regclass") eq 't' }) or fail("view $view pauses");
	return;
}

sub dead_letters_of
{
	my ($view) = @_;
	return run_sql(qq{SELECT coalesce(string_agg("partition" || ':' || "offset", ' ' ORDER BY "partition", "offset"), '') FROM pipeline.dead_letters WHERE view = '$view'::regclass});
}

my $sums = 'count(*) AS n, sum(id) AS ids, sum(v) AS vs';

# The sums that records first to last give.
sub sums_of
{
	my ($first, $last) = @_;
	my $sum = ($first + $last) * ($last - $first + 1) / 2;

	return join('|', $last - $first + 1, $sum, $sum);
}

# A bystander: whatever happens to other topics, this view goes on.
$broker->create_topic('bystander', 1);
create_stream('bystander');
create_view('v_bystander', "SELECT $sums FROM bystander");
my $bystander = 0;

sub check_bystander
{
	my ($meanwhile) = @_;

	$broker->produce_records('bystander', 0, records($bystander + 1, $bystander + 10));
	$bystander += 10;
	wait_for('v_bystander');
	is(run_sql('SELECT * FROM v_bystander'), sums_of(1, $bystander), "other views go on: $meanwhile");
	return;
}

# Coordinates, times as numbers, nested fields.
$broker->create_topic('shapes', 2);
run_sql(q{CREATE FOREIGN TABLE shapes (seq bigint, ordered_at timestamptz OPTIONS (format 'epoch_ms'), country text OPTIONS (field 'address.country'),
  amount numeric, key int, record_key bytea OPTIONS (metadata 'key'), topic text OPTIONS (metadata 'topic'), p int OPTIONS (metadata 'partition'), o bigint OPTIONS (metadata 'offset'),
  sent timestamptz OPTIONS (metadata 'timestamp')) SERVER shop OPTIONS (topic 'shapes', event_time 'ordered_at', out_of_orderness '1 minute')});
create_view('v_shapes', 'SELECT seq, ordered_at, country, amount, key, record_key, topic, p, o, sent FROM shapes');
my $csv = $node->basedir . '/shapes.csv';
$broker->produce(topic => 'shapes', partitions => 2, count => 2000, csv => $csv, time => 'epoch_ms', keyed => undef, disorder => '1s');
wait_for('v_shapes');
run_sql(qq{CREATE TABLE produced (p int, o bigint, seq bigint, key int, customer_id bigint, amount numeric, ordered_at timestamptz, country text, bad boolean); COPY produced FROM '$csv' WITH (FORMAT csv)});
is($node->rows_differ('SELECT seq, ordered_at, country, amount, key, p, o FROM v_shapes', q{SELECT seq, date_trunc('milliseconds', ordered_at), country, amount, key, p, o FROM produced}), '', 'columns come from the payload and from coordinates');
is(run_sql(q{SELECT count(*) FROM v_shapes WHERE topic <> 'shapes' OR convert_from(record_key, 'UTF8') <> key::text OR abs(extract(epoch FROM sent - now())) > 300}), 0, 'key, topic and timestamp of the record');

# Outage: events wait at the broker, and the time does not count as idle.
$broker->create_topic('outage', 2);
create_stream('outage', idle_timeout => '5 seconds');
create_view('v_outage', "SELECT $sums FROM outage");
create_view('v_outage_windows', q{SELECT pipeline.tumble(at, '1 hour') AS w, count(*) AS n FROM outage GROUP BY w});
$broker->produce_records('outage', 0, records(1, 300));
$broker->produce_records('outage', 1, records(301, 500));
wait_for($_) for qw(v_outage v_outage_windows);
is(run_sql('SELECT * FROM v_outage'), sums_of(1, 500), 'before the outage');
$broker->kill;
$node->until_true(q{SELECT bool_and(activity = 'source unreachable') FROM pipeline.stat_views WHERE view::text LIKE 'v_outage%'}, 60);
ok(holds_for(8, sub { run_sql('SELECT count(*) FROM v_outage_windows') == 0 }), 'an outage does not make a stream idle');
is(state_of('v_outage') . ' ' . state_of('v_outage_windows'), 'running running', 'an outage does not stop views');
$node->kill_worker('v_outage', 'TERM');
$broker->start;
$broker->produce_records('outage', 0, records(501, 600));
wait_for($_) for qw(v_outage v_outage_windows);
is(run_sql('SELECT * FROM v_outage'), sums_of(1, 600), 'after the outage every record counts once');
$node->until_true('SELECT count(*) = 1 FROM v_outage_windows', 30);
is(run_sql('SELECT n FROM v_outage_windows'), 600, 'and the window closes when the stream is idle');
$broker->stop;
$broker->start;
$broker->produce_records('outage', 1, records(601, 650));
wait_for('v_outage');
is(run_sql('SELECT * FROM v_outage'), sums_of(1, 650), 'an orderly restart of the broker');
check_bystander('an outage');

# A topic that goes away: stop, say so, and let the others go on.
$broker->create_topic('deleted', 1);
create_stream('deleted');
create_view('v_deleted', "SELECT $sums FROM deleted");
$broker->produce_records('deleted', 0, records(1, 50));
wait_for('v_deleted');
$broker->delete_topic('deleted');
like(wait_for_stop('v_deleted'), qr/topic "deleted"/, 'a deleted topic stops the view, with the reason');
is(run_sql('SELECT * FROM v_deleted'), sums_of(1, 50), 'what it has is still there');
check_bystander('a topic deleted');

# The same name again, with other records behind offsets that were read before.
$broker->create_topic('recreated', 1);
create_stream('recreated');
create_view('v_recreated', "SELECT $sums FROM recreated");
$broker->produce_records('recreated', 0, records(1, 100));
wait_for('v_recreated');
pause('v_recreated');
$broker->delete_topic('recreated');
$broker->create_topic('recreated', 1);
$broker->produce_records('recreated', 0, records(1001, 1200));
run_sql(q{SELECT pipeline.resume('v_recreated')});
like(wait_for_stop('v_recreated'), qr/topic "recreated"/, 'a recreated topic stops the view, though its offsets fit');
is(run_sql('SELECT * FROM v_recreated'), sums_of(1, 100), 'nothing of the other topic is counted');

# Retention was faster than the view: stop; go on only if the loss is accepted,
# and count it.
$broker->create_topic('gap', 2);
create_stream('gap');
create_view('v_gap', "SELECT $sums FROM gap");
$broker->produce_records('gap', 0, records(1, 100));
wait_for('v_gap');
pause('v_gap');
$broker->produce_records('gap', 0, records(101, 300));
$broker->delete_records('gap', 0, 200);
run_sql(q{SELECT pipeline.resume('v_gap')});
like(wait_for_stop('v_gap'), qr/topic "gap"/, 'records deleted before they were read stop the view');
is(run_sql('SELECT * FROM v_gap'), sums_of(1, 100), 'nothing behind the gap is counted');
run_sql(q{SELECT pipeline.resume('v_gap')});
wait_for_stop('v_gap');
is(run_sql('SELECT * FROM v_gap'), sums_of(1, 100), 'resume without accepting the loss does not go on');
run_sql(q{SELECT pipeline.resume('v_gap', accept_loss => true)});
wait_for('v_gap');
is(run_sql('SELECT n, ids FROM v_gap'), join('|', 200, 5050 + 25050), 'accept_loss goes on at the earliest record there is');
is(run_sql(q{SELECT lost, dead_letters FROM pipeline.stat_views WHERE view = 'v_gap'::regclass}), '100|0', 'and counts what was lost');
$broker->produce_records('gap', 1, records(301, 310));
wait_for('v_gap');
is(run_sql('SELECT n FROM v_gap'), 210, 'later records count as usual');
pause('v_gap');
$broker->produce_records('gap', 1, records(311, 330));
$broker->delete_records('gap', 1, 15);
run_sql(q{SELECT pipeline.resume('v_gap')});
like(wait_for_stop('v_gap'), qr/topic "gap"/, 'accepting one loss does not accept the next');
check_bystander('a retention gap');

# A partition added later is found and read from its beginning, also by a view
# that started at the latest record.
$broker->create_topic('grown', 1);
create_stream('grown', start => 'latest');
$broker->produce_records('grown', 0, records(1, 40));
create_view('v_grown', "SELECT $sums FROM grown");
wait_for('v_grown');
is(run_sql('SELECT n FROM v_grown'), 0, 'start latest: earlier records do not count');
$broker->produce_records('grown', 0, records(41, 60));
wait_for('v_grown');
is(run_sql('SELECT * FROM v_grown'), sums_of(41, 60), 'start latest: later records do');
$broker->add_partitions('grown', 3);
$broker->produce_records('grown', 1, records(61, 90));
$broker->produce_records('grown', 2, records(91, 100));
$node->until_true('SELECT n = 60 FROM v_grown', 60);
is(run_sql('SELECT * FROM v_grown'), sums_of(41, 100), 'new partitions are read from their beginning');
is(run_sql(q{SELECT string_agg("partition" || ':' || start_offset || '-' || next_offset, ' ' ORDER BY "partition") FROM pipeline.stat_partitions WHERE view = 'v_grown'::regclass}),
	'0:40-60 1:0-30 2:0-10', 'and shown with their positions');
$node->stop('immediate');
$node->start;
$broker->produce_records('grown', 2, records(101, 110));
wait_for('v_grown');
is(run_sql('SELECT * FROM v_grown'), sums_of(41, 110), 'start latest means the first start, not each');

# start at a time: the broker's, of the record.
$broker->create_topic('since', 1);
$broker->produce_records('since', 0, records(1, 10));
my $since = run_sql(q{SELECT clock_timestamp() + interval '100 ms'});
$node->until_true("SELECT clock_timestamp() > timestamptz '$since' + interval '100 ms'");
$broker->produce_records('since', 0, records(11, 30));
create_stream('since', start => $since);
create_view('v_since', "SELECT $sums FROM since");
wait_for('v_since');
is(run_sql('SELECT * FROM v_since'), sums_of(11, 30), 'start at a time');

# Transactions of producers: aborted ones do not count, nor get in the way.
$broker->create_topic('transactions', 1);
run_sql(q{CREATE FOREIGN TABLE transactions (seq bigint, ordered_at timestamptz) SERVER shop OPTIONS (topic 'transactions', event_time 'ordered_at', out_of_orderness '0')});
create_view('v_transactions', 'SELECT count(*) AS n, sum(seq) AS seqs FROM transactions');
$broker->produce(topic => 'transactions', count => 300, transaction => 'commit');
$broker->produce(topic => 'transactions', first => 300, count => 500, transaction => 'abort');
wait_for('v_transactions');
is(run_sql('SELECT * FROM v_transactions'), '300|44850', 'aborted transactions are not counted');
$broker->produce(topic => 'transactions', first => 1000, count => 10, transaction => 'commit');
wait_for('v_transactions');
is(run_sql('SELECT * FROM v_transactions'), '310|54895', 'later ones are');

# Bad records among good ones.  The same topic under the three ways of on_error,
# and under a view that reads fewer columns.
my @bad = (
	'{"id": 3, "at": "' . $zero . '03Z", "v": ',                  # breaks off
	'{"id": 4, "at": "' . $zero . '04Z", "v": 4} {"id": 5}',      # two documents
	'{"id": "four", "at": "' . $zero . '04Z", "v": 4}',           # wrong type
	'{"id": 99999999999999999999, "at": "' . $zero . '04Z"}',     # out of range
	'{"id": 6, "at": "the day before yesterday", "v": 4}',        # no time
	'not json at all',
	'[1, 2, 3]',                                                  # no object
	'{"id": 7, "at": "2024-13-01T00:00:00Z", "v": 4}',            # no such month
	'{"id": {"x": 1}, "at": "' . $zero . '04Z", "v": 4}',         # object for a number
	'{"id": 8, "at": "2099-01-01T00:00:00Z", "v": 4}',            # far in the future
	"{\"id\": 9, \"at\": \"${zero}04Z\", \"v\": 4, \"x\": \"\xff\xfe\"}"); # not UTF-8
my @good = records(1, 3 * @bad);
my @mixed = map { ($good[ 3 * $_ ], $good[ 3 * $_ + 1 ], $bad[$_], $good[ 3 * $_ + 2 ]) } 0 .. $#bad;
my $expected_dead = join(' ', map { '0:' . (4 * $_ + 2) } 0 .. $#bad);

$broker->create_topic('bad', 1);
create_stream('bad');
create_stream('bad_skip', topic => 'bad', on_error => 'skip');
create_stream('bad_stop', topic => 'bad', on_error => 'stop');
create_view($_->[0], $_->[1])
  for (
	[ 'v_bad', "SELECT $sums, max(at) AS last FROM bad" ],
	[ 'v_bad_windows', q{SELECT pipeline.tumble(at, '1 minute') AS w, count(*) AS n, sum(id) AS ids FROM bad GROUP BY w} ],
	[ 'v_bad_skip', "SELECT $sums FROM bad_skip" ], [ 'v_bad_stop', "SELECT $sums FROM bad_stop" ]);
$broker->produce_records('bad', 0, @mixed);
wait_for($_) for qw(v_bad v_bad_windows v_bad_skip);
is(run_sql('SELECT n, ids, vs FROM v_bad'), sums_of(1, scalar @good), 'bad records take no neighbour along');
is(dead_letters_of('v_bad'), $expected_dead, 'each is a dead letter with its coordinates');
is(dead_letters_of('v_bad_windows'), $expected_dead, 'of every view that reads the stream');
is(run_sql(q{SELECT count(*) FROM pipeline.dead_letters WHERE view = 'v_bad'::regclass AND (length(sqlstate) <> 5 OR message = '' OR payload IS NULL OR failed_at IS NULL OR broker_time IS NULL OR stream <> 'bad'::regclass)}), 0, 'with error, payload and times');
is(run_sql(q{SELECT encode(payload, 'escape') FROM pipeline.dead_letters WHERE view = 'v_bad'::regclass AND "offset" = 22}), 'not json at all', 'the payload as it came');
is(run_sql(q{SELECT events_in, dead_letters, skipped FROM pipeline.stat_views WHERE view = 'v_bad'::regclass}), join('|', scalar @mixed, scalar @bad, 0), 'counted as dead letters');
is(run_sql('SELECT n, ids, vs FROM v_bad_skip'), sums_of(1, scalar @good), 'on_error = skip: the good ones count');
is(run_sql(q{SELECT events_in, dead_letters, skipped FROM pipeline.stat_views WHERE view = 'v_bad_skip'::regclass}), join('|', scalar @mixed, 0, scalar @bad), 'on_error = skip: the bad ones are counted');
is(dead_letters_of('v_bad_skip'), '', 'on_error = skip: and not stored');
like(wait_for_stop('v_bad_stop'), qr/partition 0, offset 2\b/, 'on_error = stop: the reason names the record');
is(run_sql(q{SELECT n, ids, (SELECT next_offset FROM pipeline.stat_partitions WHERE view = 'v_bad_stop'::regclass) FROM v_bad_stop}), '2|3|2', 'on_error = stop: what came before is counted');
run_sql(q{SELECT pipeline.resume('v_bad_stop')});
wait_for_stop('v_bad_stop');
is(run_sql('SELECT n, ids FROM v_bad_stop'), '2|3', 'on_error = stop: resume meets the same record again');
run_sql(q{ALTER FOREIGN TABLE bad_stop OPTIONS (SET on_error 'skip'); SELECT pipeline.resume('v_bad_stop')});
wait_for('v_bad_stop');
is(run_sql('SELECT n, ids, vs FROM v_bad_stop'), sums_of(1, scalar @good), 'on_error can be changed, and the view goes on');
check_bystander('bad records');

# Null event time: a dead letter where time matters, an event elsewhere.
$broker->create_topic('timeless', 1);
create_stream('timeless');
create_view('v_timeless', 'SELECT count(*) AS n FROM timeless');
create_view('v_timeless_windows', q{SELECT pipeline.tumble(at, '1 minute') AS w, count(*) AS n FROM timeless WHERE v > 0 GROUP BY w});
$broker->produce_records('timeless', 0, (records(1, 3)), '{"id": 4, "at": null, "v": 4}', '{"id": 5, "v": 5}', '{"id": 6, "v": -1}', (records(7, 70)));
wait_for($_) for qw(v_timeless v_timeless_windows);
is(run_sql('SELECT n FROM v_timeless'), 70, 'records without a time count where no time is used');
is(run_sql('SELECT n FROM v_timeless_windows ORDER BY w LIMIT 1'), 56, 'and not in windows');
is(dead_letters_of('v_timeless') . '/' . dead_letters_of('v_timeless_windows'), '/0:3 0:4', 'where they are dead letters');

# Poison: records that fail in the query, found among their neighbours.
$broker->create_topic('poison', 2);
create_stream('poison');
create_view('v_poison', 'SELECT count(*) AS n, sum(id) AS ids, sum(1000 / (v % 97)) AS quotients FROM poison');
create_view('v_poison_rows', 'SELECT id, 1000 / (v % 97) AS quotient FROM poison WHERE id > 0');
create_view('v_sound', "SELECT $sums FROM poison");
$broker->produce_records('poison', 0, records(1, 1000));
$broker->produce_records('poison', 1, records(1001, 2000));
wait_for($_) for qw(v_poison v_poison_rows v_sound);
my $poison = run_sql(q{SELECT string_agg((g > 1000)::int || ':' || (g - 1) % 1000, ' ' ORDER BY g) FROM generate_series(97, 2000, 97) g});
is(run_sql('SELECT * FROM v_poison'), run_sql('SELECT count(*), sum(g), sum(1000 / (g % 97)) FROM generate_series(1, 2000) g WHERE g % 97 <> 0'), 'a record that fails in the query takes no neighbour along');
is(dead_letters_of('v_poison'), $poison, 'it is a dead letter');
is(run_sql(q{SELECT DISTINCT sqlstate FROM pipeline.dead_letters WHERE view = 'v_poison'::regclass}), '22012', 'with the error');
is($node->rows_differ('SELECT * FROM v_poison_rows', 'SELECT g::bigint, 1000 / (g % 97) FROM generate_series(1, 2000) g WHERE g % 97 <> 0'), '', 'the same in a view of rows');
is(dead_letters_of('v_poison_rows'), $poison, 'with the same dead letters');
is(run_sql('SELECT * FROM v_sound'), sums_of(1, 2000), 'another view of the stream counts them');
is(dead_letters_of('v_sound'), '', 'and has no dead letters');
$broker->produce_records('poison', 0, map { sprintf('{"id": %d, "at": "%s01Z", "v": 0}', $_, $zero) } 1 .. 200);
wait_for('v_poison');
is(run_sql(q{SELECT events_in, dead_letters FROM pipeline.stat_views WHERE view = 'v_poison'::regclass}), '2200|220', 'nothing but poison');

# Not the record's fault: a locked table, a lock timeout, a cancel.  Nothing
# becomes a dead letter, everything counts once.
$broker->create_topic('blameless', 2);
create_stream('blameless');
run_sql(q{CREATE TABLE names (v int PRIMARY KEY, name text); INSERT INTO names SELECT g, 'name ' || g FROM generate_series(0, 9999) g});
create_view('v_joined', 'SELECT count(*) AS n, sum(b.id) AS ids, max(n.name) AS name FROM blameless b JOIN names n USING (v)');
create_view('v_alone', "SELECT $sums FROM blameless");
$broker->produce_records('blameless', 0, records(1, 100));
wait_for($_) for qw(v_joined v_alone);
run_sql(q{ALTER SYSTEM SET lock_timeout = '500ms'; ALTER SYSTEM SET statement_timeout = '30s'; SELECT pg_reload_conf()});
my $locker = $node->background_psql('postgres');
$locker->query_safe('BEGIN; LOCK TABLE names');
$broker->produce_records('blameless', 1, records(101, 300));
wait_for('v_alone');
is(run_sql('SELECT * FROM v_alone'), sums_of(1, 300), 'a lock on a table stops only the views that read it');
ok(holds_for(2, sub { run_sql('SELECT n FROM v_joined') == 100 }), 'which wait');
is(state_of('v_joined'), 'running', 'and do not stop');
check_bystander('a table locked');
$locker->query_safe('COMMIT');
$locker->quit;
wait_for('v_joined');
is(run_sql('SELECT n, ids FROM v_joined'), '300|45150', 'they catch up');
for my $round (1 .. 10)
{
	$broker->produce_records('blameless', $round % 2, records(301 + 100 * ($round - 1), 300 + 100 * $round));
	run_sql(q{SELECT pg_cancel_backend(pid) FROM pipeline.stat_views WHERE view::text IN ('v_joined', 'v_alone') AND pid IS NOT NULL}) for 1 .. 3;
}
wait_for($_) for qw(v_joined v_alone);
is(run_sql('SELECT n, ids FROM v_joined'), '1300|845650', 'cancelled work is done again');
is(run_sql('SELECT * FROM v_alone'), sums_of(1, 1300), 'everywhere');
is(dead_letters_of('v_joined') . dead_letters_of('v_alone'), '', 'nothing became a dead letter');

# A view is bound to columns, not to their names.
run_sql('ALTER TABLE names RENAME COLUMN v TO w');
$broker->produce_records('blameless', 0, records(1301, 1310));
wait_for('v_joined');
is(run_sql('SELECT n FROM v_joined'), 1310, 'a renamed column does not matter to a view');
run_sql('ALTER TABLE names RENAME COLUMN w TO v');
check_bystander('all that');

my $log = slurp_file($node->logfile);
unlike($log, qr/PANIC|TRAP:|terminated by signal|still waiting for backend|leak:|refcount leak/, 'the log shows no internal error');

$node->stop;
done_testing();
