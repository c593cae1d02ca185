# Run TAP test files, some at a time, and count their assertions.
#
#   run_tap.pl RESULT SECONDS FILE ...
#
# Writes "passed failed" to the file RESULT.  A file that ends early, or does not end within what is
# left of the time, counts one failure besides those it reported itself.  TEST_JOBS files run at
# once (2): mostly they wait, for commits, brokers and each other's deaths.  First, one by one,
# come those that say "Runs alone" in their opening comment, because they measure time.
use strict;
use warnings;

use File::Basename qw(basename);
use TAP::Harness;

my ($result, $seconds, @files) = @ARGV;
my $jobs = $ENV{TEST_JOBS} || 2;
my $end = time + $seconds;
my ($passed, $failed) = (0, 0);
my %running; # file by pid

$| = 1;
run_all(1, grep { slurp($_) =~ /^# .*\bRuns alone\b/m } @files);
run_all($jobs, grep { slurp($_) !~ /^# .*\bRuns alone\b/m } @files);

open my $out, '>', $result or die "could not write file \"$result\": $!\n";
print $out "$passed $failed\n";
close $out or die "could not write file \"$result\": $!\n";

sub run_all
{
	my ($at_once, @waiting) = @_;

	while (@waiting || %running)
	{
		while (@waiting && keys %running < $at_once)
		{
			my $file = shift @waiting;
			$running{ start($file) } = $file;
		}
		my $pid = wait;
		collect(delete $running{$pid}) if exists $running{$pid};
	}
	return;
}

# Where a file's output and its counts go until it has ended.
sub place
{
	my ($file) = @_;
	return "$result." . basename($file, '.pl');
}

sub start
{
	my ($file) = @_;
	my $pid = fork // die "could not fork: $!\n";

	return $pid if $pid;
	open STDOUT, '>', place($file) . '.out' or die "could not write output of \"$file\": $!\n";
	open STDERR, '>&', \*STDOUT or die "could not redirect output of \"$file\": $!\n";
	open my $counts, '>', place($file) or die "could not write counts of \"$file\": $!\n";
	print $counts join(' ', run($file)), "\n";
	close $counts or die "could not write counts of \"$file\": $!\n";
	exit 0;
}

# Returns how many assertions passed and failed.
sub run
{
	my ($file) = @_;
	my $left = $end - time > 5 ? $end - time : 5;
	my $harness = TAP::Harness->new(
		{
			timer => 1,
			failures => 1,
			exec => [ 'timeout', '-k', '20', $left, $^X ],
		});
	my $all = eval { $harness->runtests($file) };

	if (!defined $all) # it bailed out, and with it the harness
	{
		print $@;
		return (0, 1);
	}
	# died, timed out, or another number of tests than planned
	return ($all->passed + 0, $all->failed + (!$all->failed && !$all->all_passed ? 1 : 0));
}

sub collect
{
	my ($file) = @_;
	my ($ok, $bad) = split ' ', slurp(place($file)) || '0 1';

	print slurp(place($file) . '.out');
	$passed += $ok;
	$failed += $bad;
	print_log($file) if $bad;
	return;
}

sub slurp
{
	my ($name) = @_;
	open my $in, '<', $name or return '';
	local $/;
	my $text = <$in>;
	close $in;
	return $text;
}

# The end of what the test logged: there a message of die() is found.
sub print_log
{
	my ($file) = @_;
	my $log = "$ENV{TESTLOGDIR}/regress_log_" . basename($file, '.pl');
	my @lines = split /^/, slurp($log);

	splice @lines, 0, @lines - 30 if @lines > 30;
	print "-- end of $log:\n", @lines if @lines;
	return;
}
