
=pod

=head1 NAME

KafkaBroker - a real Kafka broker of a test

=head1 SYNOPSIS

  my $broker = KafkaBroker->new;                 # starts it
  $broker->create_topic('orders', 2);
  $broker->produce(topic => 'orders', partitions => 2, count => 1000, csv => $file);
  $broker->stop; $broker->start;                 # same address, same data
  $broker->kill;

=head1 DESCRIPTION

Runs tools/kafka and the programs of test/tools.  A broker ends with the test
that started it; its folder is kept if the test fails.

=cut

package KafkaBroker;

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Path qw(rmtree);
use File::Temp qw(tempdir);
use IPC::Run ();

my $root = abs_path(dirname(__FILE__) . '/../..');
my @brokers;

=pod

=over

=item KafkaBroker->new()

A new broker that answers, with a folder of its own.

=cut

sub new
{
	my ($class) = @_;
	my $dir = tempdir('kafka.XXXXXX', TMPDIR => 1, CLEANUP => 0);
	my $self = bless { dir => $dir }, $class;

	push @brokers, $self;
	$self->start;
	return $self;
}

=pod

=item $broker->start(), stop(), kill()

Stopping waits until the broker is gone, starting until it answers.

=cut

sub start
{
	my ($self) = @_;

	$self->{address} = $self->_kafka('start', $self->{dir});
	return;
}

sub stop
{
	my ($self) = @_;

	$self->_kafka('stop', $self->{dir});
	return;
}

sub kill
{
	my ($self) = @_;

	$self->_kafka('kill', $self->{dir});
	return;
}

=pod

=item $broker->address()

For bootstrap_servers.

=cut

sub address
{
	my ($self) = @_;

	return $self->{address};
}

=pod

=item $broker->create_topic($name, $partitions, [ 'setting=value', ... ]), delete_topic($name), add_partitions($name, $total), delete_records($topic, $partition, $offset)

Return when a client that asks for metadata sees the change.  C<delete_records>
deletes those before the offset.

=cut

sub create_topic
{
	my ($self, $name, $partitions, @settings) = @_;

	$self->_admin('topic', 'create', $name, $partitions, @settings);
	return;
}

sub delete_topic
{
	my ($self, $name) = @_;

	$self->_admin('topic', 'delete', $name);
	return;
}

sub add_partitions
{
	my ($self, $name, $total) = @_;

	$self->_admin('topic', 'add-partitions', $name, $total);
	return;
}

sub delete_records
{
	my ($self, $topic, $partition, $offset) = @_;

	$self->_admin('delete-records', $topic, $partition, $offset);
	return;
}

=pod

=item $broker->end_offsets($topic)

The next offset of each partition, in order.

=cut

sub end_offsets
{
	my ($self, $topic) = @_;

	return map { (split ' ')[2] } split /\n/, $self->_admin('offsets', $topic);
}

=pod

=item $broker->produce(option => value, ...)

Runs test/tools/produce (see its --help) with the options given: an option
'late_share' is given as --late-share; one without a value (keyed) as undef.

=item $broker->produce_start(option => value, ...)

The same without waiting; returns what C<produce_finish> wants.

=cut

sub produce
{
	my ($self, %options) = @_;

	_run($self->_produce_command(%options));
	return;
}

sub produce_start
{
	my ($self, %options) = @_;
	my $output = '';
	my $handle =
	  IPC::Run::start([ $self->_produce_command(%options) ], '<', \undef, '>&', \$output);

	return { handle => $handle, output => \$output };
}

sub produce_finish
{
	my ($self, $run) = @_;

	IPC::Run::finish($run->{handle}) or die "produce failed: ${ $run->{output} }\n";
	return;
}

sub _produce_command
{
	my ($self, %options) = @_;
	my @arguments;

	foreach my $name (sort keys %options)
	{
		my $option = $name;

		$option =~ tr/_/-/;
		push @arguments, "--$option";
		push @arguments, $options{$name} if defined $options{$name};
	}
	return ("$root/test/tools/produce", '--brokers', $self->{address}, @arguments);
}

=pod

=item $broker->produce_records($topic, $partition, @records)

Sends these texts as they are, one record each, in this order.  They may not
contain newlines.

=cut

sub produce_records
{
	my ($self, $topic, $partition, @records) = @_;
	my $input = join('', map { "$_\n" } @records);

	_run_with_input($input, 'kcat', '-P', '-q', '-b', $self->{address}, '-t', $topic, '-p', $partition);
	return;
}

=pod

=item KafkaBroker::events_csv($file, option => value, ...)

Only writes the events to a file, in the format of C<produce>'s csv option.

=back

=cut

sub events_csv
{
	my ($file, %options) = @_;
	my ($program, undef, undef, @arguments) =
	  _produce_command({ address => '' }, %options, csv => $file);

	_run($program, @arguments);
	return;
}

sub _kafka
{
	my ($self, @arguments) = @_;

	return _run("$root/tools/kafka", @arguments);
}

sub _admin
{
	my ($self, @arguments) = @_;

	return _run("$root/tools/kafka", '-d', $self->{dir}, @arguments);
}

# The output of a command, without the last newline.  It dies if the command fails.
sub _run
{
	my (@command) = @_;

	return _run_with_input('', @command);
}

# The output goes through files: a broker that is started keeps a pipe open.
sub _run_with_input
{
	my ($input, @command) = @_;
	my $dir = tempdir(CLEANUP => 1);
	my $ok = IPC::Run::run(\@command, '<', \$input, '>', "$dir/out", '2>', "$dir/err");
	my $output = _slurp("$dir/out");

	die "command failed: @command\n" . _slurp("$dir/err") . $output unless $ok;
	chomp $output;
	return $output;
}

sub _slurp
{
	my ($path) = @_;

	open my $file, '<', $path or die "could not open file \"$path\": $!\n";
	local $/;
	return scalar <$file> // '';
}

END
{
	my $status = $?;

	foreach my $broker (@brokers)
	{
		eval { $broker->kill; };
		rmtree($broker->{dir}) if $status == 0;
	}
	$? = $status;
}

1;
