# With the broker out of reach - nobody listening, or somebody who accepts and
# never answers - the server still obeys at once: shutdown, DROP DATABASE of
# another database and pg_terminate_backend of the worker each take under a
# second, and views on local streams go on.  If this failed, a network problem
# would become a problem of the whole server.  Runs alone: it measures time.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use IO::Socket::INET;
use PostgreSQL::Test::Utils;
use Test::More;

use Oracle qw(seconds_of wait_until);
use PipelineNode;

# Under a second on an idle machine; a busy one gets two.
my $limit = 2;

# A port that nobody listens on: bound by us once, and closed again.
sub closed_port
{
	my $socket = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Proto => 'tcp', Listen => 1) or die "could not bind: $!";
	my $port = $socket->sockport;

	close $socket;
	return $port;
}

# A process that accepts connections, reads what comes and says nothing.
sub start_silent_listener
{
	my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Proto => 'tcp', Listen => 50) or die "could not listen: $!";
	my $port = $listener->sockport;
	my $pid = fork // die "could not fork: $!";

	if ($pid == 0)
	{
		my @clients;

		push @clients, $listener->accept while 1;
	}
	close $listener;
	return ($port, $pid);
}

sub quick
{
	my ($what, $action) = @_;
	my $seconds = seconds_of($action);

	diag(sprintf('%s took %.2f seconds', $what, $seconds));
	ok($seconds < $limit, "$what is quick");
	return;
}

sub test_with_broker_at
{
	my ($name, $port) = @_;
	my $node = PipelineNode->create($name, conf => "max_worker_processes = 32\n");
	my $sql = sub { return $node->safe_psql('postgres', $_[0]); };

	$sql->(qq{
CREATE SERVER broker FOREIGN DATA WRAPPER pipeline_kafka OPTIONS (bootstrap_servers '127.0.0.1:$port');
CREATE FOREIGN TABLE remote (id bigint, at timestamptz, k int) SERVER broker OPTIONS (topic 'events', event_time 'at', out_of_orderness '0');
CREATE FOREIGN TABLE here (id bigint) SERVER pipeline_local;
CREATE VIEW remote_counts WITH (pipeline.continuous) AS SELECT k, count(*) AS n FROM remote GROUP BY k;
CREATE VIEW remote_windows WITH (pipeline.continuous) AS SELECT pipeline.tumble(at, '1 minute') AS w, count(*) AS n FROM remote GROUP BY w;
CREATE VIEW here_count WITH (pipeline.continuous) AS SELECT count(*) AS n FROM here});
	$sql->('CREATE DATABASE another');
	pass("$name: views on an unreachable broker can be created");

	# Let the workers meet the broker before anything is measured.
	$node->worker_pid($_) for qw(remote_counts remote_windows here_count);
	$node->until_true(q{SELECT count(*) = 2 FROM pipeline.stat_views WHERE view::text LIKE 'remote%' AND activity = 'source unreachable'}, 60);
	is($sql->(q{SELECT DISTINCT state FROM pipeline.views}), 'running', "$name: an unreachable broker does not stop a view");

	$sql->('INSERT INTO here SELECT generate_series(1, 100)');
	quick("$name: a view on a local stream", sub { $node->until_true(q{SELECT pipeline.wait_for('here_count', '30 seconds')}, 30); });
	is($sql->('SELECT n FROM here_count'), 100, "$name: views on local streams go on");

	quick("$name: DROP DATABASE of another database", sub { $sql->('DROP DATABASE another'); });
	quick("$name: CREATE DATABASE", sub { $sql->('CREATE DATABASE another'); });
	quick("$name: CREATE DATABASE with this one as TEMPLATE",
		sub { $node->safe_psql('another', 'CREATE DATABASE copy TEMPLATE postgres'); });
	for my $view ('remote_counts', 'remote_windows')
	{
		my $pid = $node->worker_pid($view);

		quick("$name: pg_terminate_backend",
			sub {
				$sql->("SELECT pg_terminate_backend($pid)");
				wait_until(20, sub { $sql->("SELECT count(*) FROM pg_stat_activity WHERE pid = $pid") == 0 }) or die 'the worker does not end';
			});
	}
	$node->worker_pid('remote_counts');
	pass("$name: the worker comes back");

	quick("$name: pause", sub { $sql->(q{SELECT pipeline.pause('remote_windows')}); $node->until_true(q{SELECT pid IS NULL FROM pipeline.stat_views WHERE view = 'remote_windows'::regclass}, 20); });
	quick("$name: DROP VIEW", sub { $sql->('DROP VIEW remote_windows'); });
	quick("$name: fast shutdown", sub { $node->stop('fast'); });
	$node->start;
	$node->worker_pid('remote_counts');
	quick("$name: fast shutdown while workers start", sub { $node->stop('fast'); });
	$node->start;
	$node->worker_pid('remote_counts');
	quick("$name: immediate shutdown", sub { $node->stop('immediate'); });

	my $log = slurp_file($node->logfile);
	unlike($log, qr/PANIC|TRAP:|still waiting for backend|was terminated by signal/, "$name: the log shows no internal error");
	my $complaints = () = $log =~ /127\.0\.0\.1:$port/g;
	ok($complaints < 60, "$name: the log is not flooded") or diag("$complaints messages");
	return;
}

test_with_broker_at('closed', closed_port());

my ($port, $listener) = start_silent_listener();
test_with_broker_at('silent', $port);
kill('TERM', $listener);
waitpid($listener, 0);

done_testing();
