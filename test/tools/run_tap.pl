# Run TAP test files one after another and count their assertions.
#
#   run_tap.pl RESULT SECONDS FILE ...
#
# Writes "passed failed" to the file RESULT.  A file that ends early, or does not end within what is
# left of the time, counts one failure besides those it reported itself.
use strict;
use warnings;

use File::Basename qw(basename);
use TAP::Harness;

my ($result, $seconds, @files) = @ARGV;
my $end = time + $seconds;
my ($passed, $failed) = (0, 0);

foreach my $file (@files)
{
	my $left = $end - time > 5 ? $end - time : 5;
	my $harness = TAP::Harness->new(
		{
			timer => 1,
			failures => 1,
			exec => [ 'timeout', '-k', '20', $left, $^X ],
		});
	my $all = eval { $harness->runtests($file) };

	next if defined $all && count($all);
	if (!defined $all) # it bailed out, and with it the harness
	{
		print $@;
		$failed++;
	}
	print_log($file);
}

# Returns whether the file passed.
sub count
{
	my ($all) = @_;

	# died, timed out, or another number of tests than planned
	$failed++ if !$all->failed && !$all->all_passed;
	$passed += $all->passed;
	$failed += $all->failed;
	return $all->all_passed;
}

# The end of what the test logged: there a message of die() is found.
sub print_log
{
	my ($file) = @_;
	my $log = "$ENV{TESTLOGDIR}/regress_log_" . basename($file, '.pl');

	open my $in, '<', $log or return;
	my @lines = <$in>;
	close $in;
	splice @lines, 0, @lines - 30 if @lines > 30;
	print "-- end of $log:\n", @lines;
	return;
}

open my $out, '>', $result or die "could not write file \"$result\": $!\n";
print $out "$passed $failed\n";
close $out or die "could not write file \"$result\": $!\n";
