# What docs/monitoring offers works with the real programs: postgres_exporter runs
# the queries with the rights of pg_monitor and gives out every metric, Prometheus
# scrapes them, each query of the dashboard gives an answer, each alert rule is
# valid and fires when it should.  If this failed, somebody who copied these files
# would see empty panels, and no alert would come when a view stops.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use HTTP::Tiny;
use IO::Socket::INET;
use IPC::Run ();
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

use Oracle qw(wait_until);
use PipelineNode;

my $root = "$FindBin::Bin/../..";
my $docs = "$root/docs/monitoring";
my @running;

sub program
{
	my ($name) = @_;
	my $path = `$root/tools/prometheus path $name`;

	chomp $path;
	die "there is no $name\n" unless -x $path;
	return $path;
}

sub slurp_file_text
{
	my ($path) = @_;
	open my $file, '<', $path or die "could not open file \"$path\": $!\n";
	local $/;
	return scalar <$file>;
}

# Bound by us once, and closed again.
sub free_port
{
	my $socket = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Proto => 'tcp', Listen => 1) or die "could not bind: $!";
	my $port = $socket->sockport;

	close $socket;
	return $port;
}

sub start
{
	my ($log, @command) = @_;

	push @running, IPC::Run::start(\@command, '<', \undef, '>', $log, '2>&1');
	return;
}

sub http_get
{
	my ($url) = @_;
	my $answer = HTTP::Tiny->new(timeout => 10)->get($url);

	return $answer->{success} ? $answer->{content} : undef;
}

sub url_encode
{
	my ($text) = @_;
	$text =~ s/([^A-Za-z0-9_.~-])/sprintf('%%%02X', ord $1)/ge;
	return $text;
}

my ($exporter, $prometheus, $promtool) = map { program($_) } qw(postgres_exporter prometheus promtool);
my $node = PipelineNode->create('exporter', conf => "timezone = 'UTC'\n");
my $log = PostgreSQL::Test::Utils::tempdir();

sub run_sql { return $node->safe_psql('postgres', $_[0]); }

run_sql(q{
CREATE ROLE watcher LOGIN IN ROLE pg_monitor;
CREATE FOREIGN TABLE events (at timestamptz, k int, v int) SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '0', idle_timeout 'off');
CREATE FOREIGN TABLE strict (v int) SERVER pipeline_local OPTIONS (on_error 'stop');
CREATE VIEW minutes WITH (pipeline.continuous) AS SELECT k, pipeline.tumble(at, '1 minute') AS w, sum(100 / v) AS s FROM events WHERE k > 0 GROUP BY k, w;
CREATE VIEW stops WITH (pipeline.continuous) AS SELECT 1 / v AS q FROM strict;
INSERT INTO events SELECT '2024-01-01Z'::timestamptz + i * interval '1 second', i % 10, i FROM generate_series(0, 999) i;
INSERT INTO events VALUES ('2024-01-01Z', 1, 1), ('2024-01-02Z', 1, 0);
SELECT pipeline.wait_for('minutes');
SELECT pipeline.wait_for('stops')});

# The exporter, with nothing but our queries.
my $exporter_port = free_port();
{
	local $ENV{DATA_SOURCE_NAME} = 'host=' . $node->host . ' port=' . $node->port . ' user=watcher dbname=postgres sslmode=disable';
	start("$log/exporter.log", $exporter, '--disable-default-metrics', '--disable-settings-metrics', "--extend.query-path=$docs/postgres_exporter.yaml", "--web.listen-address=127.0.0.1:$exporter_port");
}
my $metrics;
ok(wait_until(60, sub { ($metrics = http_get("http://127.0.0.1:$exporter_port/metrics") // '') =~ /^pg_up 1$/m }), 'the exporter answers')
  or diag($metrics, slurp_file_text("$log/exporter.log"));
like($metrics, qr/^pg_exporter_last_scrape_error 0$/m, 'no query fails');
unlike($metrics, qr/^pg_exporter_user_queries_load_error\{[^}]*\} 1$/m, 'the file of queries is read');

# What it gives out: name => { label => 1 }.
my %exported;
foreach my $line (split /\n/, $metrics)
{
	next unless $line =~ /^(pipeline_\w+)(?:\{(.*)\})? \S+$/;
	my ($name, $labels) = ($1, $2 // '');
	$exported{$name}{$_} = 1 foreach ('', $labels =~ /(\w+)="/g);
}

# Every column of every query is there.
my ($query, @columns);
foreach my $line (split /\n/, slurp_file_text("$docs/postgres_exporter.yaml"))
{
	$query = $1 if $line =~ /^(\w+):$/;
	push @columns, "${query}_$1" if $line =~ /^    - (\w+): \{usage: "(?:COUNTER|GAUGE)"/;
}
cmp_ok(scalar @columns, '>', 40, 'the queries have columns');
is(join(' ', grep { !$exported{$_} } @columns), '', 'and each is a metric');

# They are the numbers that SQL shows.
sub metric
{
	my ($text, $name, $view) = @_;
	return $text =~ /^$name\{[^}]*view="$view"[^}]*\} (\S+)$/m ? $1 + 0 : undef;
}
is(join('|', map { metric($metrics, "pipeline_view_${_}_total", 'minutes') } qw(events filtered late dead_letters rows_out windows_closed)),
	run_sql(q{SELECT events_in, filtered, late, dead_letters, rows_out, windows_closed FROM pipeline.stat_views WHERE view = 'minutes'::regclass}),
	'the numbers are those of stat_views');
run_sql(q{INSERT INTO events VALUES ('2024-01-02Z', 1, 0); SELECT pipeline.wait_for('minutes'); INSERT INTO strict VALUES (0)});
$node->until_true(q{SELECT state = 'stopped' FROM pipeline.views WHERE view = 'stops'::regclass});
my $later;
ok(wait_until(60, sub { ($later = http_get("http://127.0.0.1:$exporter_port/metrics") // '') =~ /^pipeline_view_status_info\{[^}]*status="stopped"[^}]*view="stops"\} 1$/m }), 'a view that has stopped');
is(metric($later, 'pipeline_view_dead_letters_total', 'minutes'), metric($metrics, 'pipeline_view_dead_letters_total', 'minutes') + 1, 'a dead letter more');

# Every metric and every label that alerts and dashboard name is one that the exporter has.
my $dashboard = decode_json(slurp_file_text("$docs/grafana.json"));
my @alerts = slurp_file_text("$docs/alerts.yaml") =~ /^ +expr: (.*)$/mg;
my @targets = map { @{ $_->{targets} } } @{ $dashboard->{panels} };
my @variables = map { $_->{definition} // () } @{ $dashboard->{templating}{list} };
cmp_ok(scalar @alerts, '>', 10, 'there are alerts');
cmp_ok(scalar @targets, '>', 20, 'and panels');

sub unknown_names
{
	my ($expr, $legend) = @_;
	my @names = $expr =~ /\b(pipeline_\w+)/g;
	my @unknown = grep { !$exported{$_} } @names;
	my %labels = map { %{ $exported{$_} // {} } } @names;

	push @unknown, grep { !$labels{$_} } map { /(\w+) *(?:=~|!~|!=|=)/g } $expr =~ /\{([^}]*)\}/g;
	push @unknown, grep { !$labels{$_} } map { split /, */ } $expr =~ /\bby \(([^)]*)\)/g;
	push @unknown, grep { !$labels{$_} } ($legend // '') =~ /\{\{(\w+)\}\}/g;
	push @unknown, 'no metric' unless @names;
	return @unknown;
}
is(join(' ', map { unknown_names($_) } @alerts), '', 'alerts name what there is');
is(join(' ', map { unknown_names($_->{expr}, $_->{legendFormat}) } @targets), '', 'so does the dashboard');
is(join(' ', map { my ($metric, $label) = /^label_values\((\w+)(?:\{.*\})?, (\w+)\)$/; $exported{$metric}{$label} ? () : $_ } @variables), '', 'and its variables');
isnt(join(' ', unknown_names('pipeline_view_nonsense{view="x"}')), '', 'what there is not is found');
isnt(join(' ', unknown_names('pipeline_view_busy{nonsense="x"}')), '', 'labels, too');

# Rules are valid and do what they should.
foreach my $command ([ 'check', 'rules', "$docs/alerts.yaml" ], [ 'test', 'rules', "$root/test/monitoring/alerts_test.yaml" ])
{
	my $output = '';
	ok(IPC::Run::run([ $promtool, @{$command} ], '<', \undef, '>&', \$output), "promtool @{$command}[0 .. 1]") or diag($output);
}

# Prometheus itself scrapes, answers each panel's query, and sees the view that has stopped.
my $prometheus_port = free_port();
open my $config, '>', "$log/prometheus.yml" or die "could not write: $!";
print $config "global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: ['$docs/alerts.yaml']\n",
  "scrape_configs:\n  - job_name: postgres\n    static_configs: [{targets: ['127.0.0.1:$exporter_port']}]\n";
close $config;
start("$log/prometheus.log", $prometheus, "--config.file=$log/prometheus.yml", "--storage.tsdb.path=$log/data", "--web.listen-address=127.0.0.1:$prometheus_port");

sub ask
{
	my ($expr) = @_;
	my $answer = http_get("http://127.0.0.1:$prometheus_port/api/v1/query?query=" . url_encode($expr)) // return [];

	return decode_json($answer)->{data}{result};
}
# a rate is of two scrapes at least
ok(wait_until(60, sub { my $n = ask('count_over_time(pipeline_view_events_total{view="minutes"}[1m])'); @{$n} && $n->[0]{value}[1] >= 2 }), 'Prometheus scrapes')
  or diag(slurp_file_text("$log/prometheus.log"));
my @silent;
foreach my $expr (map { $_->{expr} } @targets)
{
	my $plain = $expr =~ s/\$\w+/.*/gr;

	push @silent, $expr unless @{ ask($plain) };
}
is(join("\n", @silent), '', 'every panel has something to show');
ok(wait_until(60, sub { grep { $_->{metric}{view} eq 'stops' } @{ ask('ALERTS{alertname="PipelineViewStopped"}') } }), 'the alert of the stopped view is on its way');
is(scalar @{ ask('ALERTS{alertname="PipelineViewStopped",view="minutes"}') }, 0, 'and of no other');

$_->kill_kill foreach @running;
$node->stop('fast');
done_testing();

END
{
	my $status = $?;

	eval { $_->kill_kill } foreach @running;
	$? = $status;
}
