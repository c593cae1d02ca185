
=pod

=head1 NAME

PipelineNode - a scratch server with the extension, and ways to crash it

=head1 SYNOPSIS

  my $node = PipelineNode->create('main');       # started, with the extension
  $node->safe_psql('postgres', $sql);            # all of PostgreSQL::Test::Cluster
  $node->wait_for('revenue');
  $node->kill_worker('revenue');
  $node->kill_postmaster;
  is($node->rows_differ($sql, $other_sql), '', 'same rows');

=cut

package PipelineNode;

use strict;
use warnings;

use parent 'PostgreSQL::Test::Cluster';
use Errno;
use Time::HiRes qw(time sleep);

my $TIMEOUT = $ENV{PG_TEST_TIMEOUT_DEFAULT} || 180;

=pod

=over

=item PipelineNode->create($name, [ conf => text, extension => 0, init => { option => value } ])

A new server, started; with the extension in database postgres unless told
otherwise.  The options in init are those of PostgreSQL::Test::Cluster.

=cut

sub create
{
	my ($class, $name, %options) = @_;
	my $node = $class->new($name);

	$node->init(%{ $options{init} // {} });
	$node->append_conf('postgresql.conf', <<CONF);
shared_preload_libraries = 'pipeline_ext'
max_worker_processes = 32
max_prepared_transactions = 10
restart_after_crash = on
fsync = on
CONF
	$node->append_conf('postgresql.conf', $options{conf}) if defined $options{conf};
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION pipeline_ext') if $options{extension} // 1;
	return $node;
}

=pod

=item $node->sql($sql)

C<safe_psql> in database postgres.

=cut

sub sql
{
	my ($self, $sql) = @_;

	return $self->safe_psql('postgres', $sql);
}

=pod

=item $node->until_true($sql, [ $seconds ])

Asks until the query gives 't', errors ignored (the server may be restarting).
Dies when it does not in time, with the last answer.

=cut

sub until_true
{
	my ($self, $sql, $seconds) = @_;
	my $deadline = time + ($seconds // $TIMEOUT);

	while (1)
	{
		# psql may give up before it has read the query, and that is no answer either
		my ($status, $out, $err) = eval { $self->psql('postgres', $sql) };

		return if defined $status && $status == 0 && $out eq 't';
		$out //= '';
		$err //= $@;
		die "not true in time: $sql\nlast answer: $out$err\n" if time > $deadline;
		sleep 0.02;
	}
}

# A server that is restarting refuses psql, which may end before it has read what
# it is given; that is no other failure than the refusal.
sub psql
{
	my ($self, $dbname, $sql, %params) = @_;
	my @result = eval { $self->SUPER::psql($dbname, $sql, %params) };

	die $@ if $@ && ($@ !~ /ack Broken pipe/ || $params{on_error_die});
	@result = (2, '', $@) if $@;
	return wantarray ? @result : $result[0];
}

=pod

=item $node->wait_for($view, [ $seconds ])

Until the view has processed all that its stream holds now; dies when it has
not in time, with what the view says about itself.

=cut

sub wait_for
{
	my ($self, $view, $seconds) = @_;
	my $interval = ($seconds // $TIMEOUT) . ' s';

	return if $self->safe_psql('postgres', "SELECT pipeline.wait_for('$view', '$interval')") eq 't';
	die "view $view did not catch up in $interval: "
	  . $self->safe_psql('postgres', "SELECT s FROM pipeline.stat_views AS s WHERE view = '$view'::regclass");
}

=pod

=item $node->worker_pid($view)

The process that runs the view; waits until there is one.

=cut

sub worker_pid
{
	my ($self, $view) = @_;
	my $deadline = time + $TIMEOUT;

	# one query at a time: between two the worker may have gone
	while (1)
	{
		my ($status, $out, $err) = eval { $self->psql('postgres', "SELECT pid FROM pipeline.stat_views WHERE view = '$view'::regclass") };

		return $out if defined $status && $status == 0 && $out =~ /^\d+$/;
		die "view $view has no worker\n" if time > $deadline;
		sleep 0.02;
	}
}

=pod

=item $node->kill_worker($view, [ $signal ])

Ends the worker of a view, by KILL unless told otherwise, and waits until the
server takes connections again: after KILL the postmaster restarts everything.

=cut

sub kill_worker
{
	my ($self, $view, $signal) = @_;
	my $started = $self->started_at;
	my $pid = $self->worker_pid($view);

	# the view may have gone to another task meanwhile, and its worker with it
	while (kill($signal // 'KILL', $pid) != 1)
	{
		die "could not signal worker $pid: $!\n" unless $!{ESRCH};
		$pid = $self->worker_pid($view);
	}
	if (($signal // 'KILL') eq 'KILL')
	{
		$self->until_true("SELECT backend_start > '$started' FROM pg_stat_activity "
			  . "WHERE backend_type = 'checkpointer'");
	}
	else
	{
		$self->until_true("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid");
	}
	return;
}

# Changes with every restart after a crash, which pg_postmaster_start_time() does not.
sub started_at
{
	my ($self) = @_;

	return $self->safe_psql('postgres',
		"SELECT backend_start FROM pg_stat_activity WHERE backend_type = 'checkpointer'");
}

=pod

=item $node->kill_postmaster()

Kills the postmaster and starts the server again as soon as its orphans have
let go of the shared memory.

=cut

sub kill_postmaster
{
	my ($self) = @_;
	my $deadline = time + $TIMEOUT;
	my $pid = $self->{_pid};

	$self->kill9;
	while (kill(0, $pid) || !$self->start(fail_ok => 1))
	{
		die "the server does not start again\n" if time > $deadline;
		$self->{_pid} = undef;
		sleep 0.05;
	}
	return;
}

=pod

=item $node->rows_differ($sql, $other_sql)

Compares two queries as multisets in one snapshot.  An empty string if they are
equal, else how many rows each has of its own and a few of them.

=back

=cut

sub rows_differ
{
	my ($self, $sql, $other_sql) = @_;
	my $result = $self->safe_psql('postgres', <<SQL);
WITH a AS MATERIALIZED (SELECT a::text AS r FROM ($sql) AS a),
b AS MATERIALIZED (SELECT b::text AS r FROM ($other_sql) AS b),
more AS MATERIALIZED (TABLE a EXCEPT ALL TABLE b),
less AS MATERIALIZED (TABLE b EXCEPT ALL TABLE a)
SELECT (SELECT count(*) FROM more), (SELECT count(*) FROM less),
  (SELECT array_agg(r) FROM (TABLE more LIMIT 5) AS s), (SELECT array_agg(r) FROM (TABLE less LIMIT 5) AS s)
SQL
	return $result =~ /^0\|0\|/ ? '' : "rows only in the first|only in the second: $result";
}

1;
