# Library and SQL objects are upgraded one after the other, in either order, while views
# run.  If this failed, a library would read tables that it does not know, or an
# administrator would not be told what is still to be done.
#
# The server is a copy of the installation, so that scripts that lead to versions which
# do not exist can be put beside the extension's own.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use File::Copy ();
use File::Path qw(make_path);
use PostgreSQL::Test::Utils;
use Test::More;

use PipelineNode;

# A copy of the installation of pg_config, as far as it must be one: programs find
# their files by where they are themselves.
sub copy_of_installation
{
	my $copy = PostgreSQL::Test::Utils::tempdir;
	my %path = map { $_ => `pg_config --$_` =~ s/\n//r } qw(bindir sharedir pkglibdir);
	my $common = $path{bindir};

	$common =~ s{/[^/]*$}{} until $path{sharedir} =~ /^\Q$common\E\// && $path{pkglibdir} =~ /^\Q$common\E\//;
	my ($bin, $share, $lib) = map { $copy . substr($path{$_}, length $common) } qw(bindir sharedir pkglibdir);

	make_path($bin, "$share/extension", $lib =~ s{/[^/]*$}{}r);
	for my $file (glob "$path{bindir}/*")
	{
		File::Copy::copy($file, $bin) or die "could not copy $file: $!\n";
		chmod 0755, "$bin/" . ($file =~ s{.*/}{}r);
	}
	symlink $path{pkglibdir}, $lib or die "could not link $lib: $!\n" unless -e $lib;
	for my $file (glob "$path{sharedir}/* $path{sharedir}/extension/*")
	{
		my $link = $share . substr($file, length $path{sharedir});

		symlink $file, $link or die "could not link $link: $!\n" unless -e $link;
	}
	return ($bin =~ s{/bin$}{}r, "$share/extension");
}

my ($installation, $scripts) = copy_of_installation();
my $node = PipelineNode->new('versions', install_path => $installation);

# Another version brings a view of its own.
append_to_file("$scripts/pipeline_ext--1.0--1.1.sql", "CREATE VIEW pipeline.more AS SELECT 1 AS one;\n");
append_to_file("$scripts/pipeline_ext--1.1--1.0.sql", "DROP VIEW pipeline.more;\n");
append_to_file("$scripts/pipeline_ext--1.0--0.9.sql", "COMMENT ON SCHEMA pipeline IS 'older';\n");
append_to_file("$scripts/pipeline_ext--0.9--1.0.sql", "COMMENT ON SCHEMA pipeline IS 'newer';\n");

$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'pipeline_ext'\nmax_worker_processes = 20\ntimezone = 'UTC'\nfsync = off\n");
$node->start;
$node->safe_psql('postgres', q{
CREATE EXTENSION pipeline_ext;
CREATE FOREIGN TABLE events (id bigint, at timestamptz) SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '0', idle_timeout 'off');
CREATE VIEW totals WITH (pipeline.continuous) AS SELECT id % 3 AS k, count(*) AS n, sum(id) AS s FROM events GROUP BY k;
CREATE VIEW minutes WITH (pipeline.continuous) AS SELECT date_trunc('minute', at) AS m, count(*) AS n FROM events GROUP BY m});

my $fed = 0;

sub feed
{
	my ($n) = @_;

	$node->safe_psql('postgres', "INSERT INTO events SELECT i, timestamptz '2025-01-01' + i * interval '1 second' FROM generate_series($fed + 1, $fed + $n) AS i");
	$fed += $n;
	return;
}

sub right
{
	my ($name) = @_;

	$node->wait_for($_) for qw(totals minutes);
	is($node->rows_differ('SELECT * FROM totals', "SELECT i % 3 AS k, count(*) AS n, sum(i) AS s FROM generate_series(1::bigint, $fed) AS i GROUP BY 1"), '', "$name: groups are right");
	is($node->rows_differ('SELECT m, n FROM minutes', "SELECT m, count(*) AS n FROM (SELECT date_trunc('minute', timestamptz '2025-01-01' + i * interval '1 second') AS m FROM generate_series(1, $fed) AS i) a WHERE m + interval '1 minute' <= timestamptz '2025-01-01' + $fed * interval '1 second' GROUP BY m"), '', "$name: windows are right");
	return;
}

sub refuses
{
	my ($name, $message) = @_;

	for my $sql (q{SELECT pipeline.pause('totals')}, q{SELECT pipeline.watermark('minutes')}, 'CREATE VIEW another WITH (pipeline.continuous) AS SELECT * FROM events', 'DROP VIEW totals', q{ALTER VIEW totals SET (pipeline.checkpoint_interval = '1 s')})
	{
		my (undef, undef, $error) = $node->psql('postgres', $sql);

		like($error, $message, "$name: $sql");
	}
	return;
}

feed(100);
right('at first');

#
# ALTER EXTENSION UPDATE while the old library is loaded.
#
my $newer = qr/ERROR:  the library of pipeline_ext has version 1\.0, but its objects in this database have version 1\.1\nHINT:  Restart the server, so that it loads the new library\./;

$node->safe_psql('postgres', "ALTER EXTENSION pipeline_ext UPDATE TO '1.1'");
feed(100);
$node->until_true(q{SELECT count(*) = 2 FROM pipeline.stat_views WHERE last_error LIKE 'the library of pipeline_ext has version 1.0, but its objects in this database have version 1.1'});
pass('workers say that the library is the older one');
is($node->safe_psql('postgres', 'SELECT sum(n) FROM totals'), 100, 'and wait; views can be read');
is($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT state, ' ') FROM pipeline.views}), 'running', 'they are not stopped');
refuses('newer objects', $newer);
$node->restart;
feed(50);
refuses('newer objects, after a restart', $newer);
$node->safe_psql('postgres', "ALTER EXTENSION pipeline_ext UPDATE TO '1.0'");
right('with objects of its version');

#
# A new library where the objects are still old ones.
#
my $older = qr/ERROR:  the library of pipeline_ext has version 1\.0, but its objects in this database have version 0\.9\nHINT:  Run ALTER EXTENSION pipeline_ext UPDATE in this database\./;

$node->safe_psql('postgres', "ALTER EXTENSION pipeline_ext UPDATE TO '0.9'");
feed(75);
$node->restart;
refuses('older objects', $older);
feed(75);
is($node->safe_psql('postgres', 'SELECT sum(n) FROM totals'), 250, 'views wait and can be read');
like(slurp_file($node->logfile), qr/version 1\.0, but its objects in this database have version 0\.9/, 'the log says why');
$node->safe_psql('postgres', 'ALTER EXTENSION pipeline_ext UPDATE');
right('after ALTER EXTENSION UPDATE');
is($node->safe_psql('postgres', 'SELECT pipeline.version() = extversion FROM pg_extension WHERE extname = $$pipeline_ext$$'), 't', 'library and objects are of one version');

# A rollback tells workers nothing that they believe.
$node->safe_psql('postgres', "BEGIN; ALTER EXTENSION pipeline_ext UPDATE TO '1.1'; ROLLBACK");
feed(60);
right('after a rollback');
$node->safe_psql('postgres', 'DROP EXTENSION pipeline_ext CASCADE');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_class WHERE relname IN ('totals', 'minutes', 'events')}), 0, 'and the extension can be dropped');

my $log = slurp_file($node->logfile);
unlike($log, qr/PANIC|TRAP:|terminated by signal|leak:|refcount leak/, 'the log shows no internal error');

$node->stop;
done_testing();
