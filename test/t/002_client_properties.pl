# Every property that the installed librdkafka knows is classified: allowed
# within bounds, for superusers, as a secret, or never.  If this failed, a newer
# library could bring a dangerous property that users may set.

use strict;
use warnings;

use FindBin;
use Test::More;

my $output = qx{$FindBin::Bin/../tools/check_properties 2>&1};

is($?, 0, 'every client property is classified') or diag($output);
done_testing();
