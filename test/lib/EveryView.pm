
=pod

=head1 NAME

EveryView - a database with a continuous view of every kind, and what each must show

=head1 SYNOPSIS

  my $views = EveryView->new($node, 'shop', $broker);   # $broker may be left out
  $views->create;
  $views->feed(1, 1000);
  $views->wait_for_all;
  is_deeply([ $views->wrong ], [], 'each view is what a batch query gives');

  my $copy = $views->in('copy');                        # the same in a copy of it, or on another server
  $copy->feed_local(1001, 1500);

=head1 DESCRIPTION

Views are over local streams and, with a broker, over a topic; in several schemas, with
names in mixed case, of an owner who is no superuser.  Beside each stream there is an
ordinary table with the same events, from which ordinary SQL computes what a view must
show: rows of windows as far as the view's watermark says they are closed, without the
events that came too late, which the same SQL finds out.

Event number i is at second i of 2025 in all streams.  Some of "Orders" come three minutes
late, some have no time; some records of the topic are not JSON.

=cut

package EveryView;

use strict;
use warnings;

use Oracle qw(difference);

my $TIME = q{timestamptz '2025-01-01 00:00Z' + i * interval '1 second'};
my $KINDS = q{'k' || i % 4};
my $BURSTS = '(i / 7) % 5';

# Of the events of "Orders" with a time, what the watermark was before each.
my $SEEN = q{(SELECT o.*, max(o.at) OVER (ORDER BY o.id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) - interval '1 second' AS mark FROM archive.orders o WHERE o.at IS NOT NULL) s};
my $IN_TIME = qq{(SELECT * FROM $SEEN WHERE mark IS NULL OR mark < date_trunc('minute', at) + interval '1 minute') t};
my $ADMITTED = qq{(SELECT * FROM $SEEN WHERE mark IS NULL OR mark < date_trunc('minute', at) + interval '90 seconds') t};

# name => [ definition, options, columns, batch query over the tables of schema archive ].
# Both give c1 .. cn; END is where a window ends, and only closed ones are compared.
my %LOCAL = (
	'"App One"."Windowed"' => [
		q{SELECT "Kind", pipeline.tumble(at, '1 minute') AS w, count(*) AS n, sum(amount) AS s FROM "App One"."Orders" GROUP BY "Kind", w}, '', 4,
		qq{SELECT kind, pipeline.tumble(at, '1 minute') AS w, count(*), sum(amount) FROM $IN_TIME GROUP BY kind, w HAVING upper(pipeline.tumble(at, '1 minute')) <= MARK} ],
	'"App One".changes' => [
		q{SELECT "Kind", count(*) AS n, sum(amount) AS s, max(id) AS high FROM "App One"."Orders" GROUP BY "Kind"}, '', 4,
		q{SELECT kind, count(*), sum(amount), max(id) FROM archive.orders GROUP BY kind} ],
	'"App One".open_windows' => [
		q{SELECT "Kind", date_trunc('minute', at) AS m, count(*) AS n FROM "App One"."Orders" GROUP BY "Kind", m}, q{, pipeline.emit = 'changes', pipeline.allowed_lateness = '30 seconds'}, 3,
		qq{SELECT kind, date_trunc('minute', at) AS m, count(*) FROM $ADMITTED GROUP BY kind, m} ],
	'"App One".hop' => [
		q{SELECT w, count(*) AS n, count(DISTINCT "Kind") AS kinds FROM "App One"."Orders", pipeline.hop(at, '1 minute', '20 seconds') AS w GROUP BY w}, '', 3,
		qq{SELECT w, count(*), count(DISTINCT kind) FROM $SEEN, pipeline.hop(at, '1 minute', '20 seconds') AS w WHERE (mark IS NULL OR mark < upper(w)) AND upper(w) <= MARK GROUP BY w} ],
	'"App One"."Renamed"' => [
		q{SELECT k, pipeline.session(at, '10 seconds') AS w, count(*) AS n, min(id) AS low FROM "App One".clicks GROUP BY k, w}, '', 4,
		q{SELECT k, tstzrange(min(at), max(at) + interval '10 seconds'), count(*), min(id)
		  FROM (SELECT *, count(*) FILTER (WHERE new) OVER (PARTITION BY k ORDER BY id) AS session
		        FROM (SELECT *, COALESCE(at - lag(at) OVER (PARTITION BY k ORDER BY id) > interval '10 seconds', true) AS new FROM archive.clicks) a) b
		  GROUP BY k, session HAVING max(at) + interval '10 seconds' < MARK} ],
	'moved.count_windows' => [
		q{SELECT k, pipeline.count_window(7) AS number, count(*) AS n, sum(id) AS s FROM "App One".clicks GROUP BY k, number}, '', 4,
		q{SELECT k, number, count(*), sum(id) FROM (SELECT k, id, (row_number() OVER (PARTITION BY k ORDER BY id) - 1) / 7 + 1 AS number FROM archive.clicks) a GROUP BY k, number HAVING count(*) = 7} ],
	'"App One".rows_kept' => [
		q{SELECT date_trunc('minute', at) AS m, array_agg(id ORDER BY id DESC) AS ids FROM "App One".clicks GROUP BY m}, '', 2,
		q{SELECT date_trunc('minute', at) AS m, array_agg(id ORDER BY id DESC) FROM archive.clicks GROUP BY m HAVING date_trunc('minute', at) + interval '1 minute' <= MARK} ],
	'"App One".rows_replaced' => [
		q{SELECT pipeline.tumble(at, '1 minute') AS w, string_agg(id::text, ',' ORDER BY id) AS ids FROM "App One".clicks GROUP BY w}, q{, pipeline.emit = 'changes'}, 2,
		q{SELECT pipeline.tumble(at, '1 minute') AS w, string_agg(id::text, ',' ORDER BY id) FROM archive.clicks GROUP BY w} ],
	'"App One".joined' => [
		q{SELECT c.id, d.name FROM "App One".clicks c JOIN "App One".names d USING (k) WHERE c.id % 3 = 0}, '', 2,
		q{SELECT c.id, 'n' || c.k FROM archive.clicks c WHERE c.id % 3 = 0 AND c.id > 0} ],
	'"App One".several_streams' => [
		q{SELECT source, count(*) AS n FROM (SELECT 'click' AS source FROM "App One".clicks UNION ALL SELECT 'order' FROM "App One"."Orders") u GROUP BY source}, '', 2,
		q{SELECT 'click', count(*) FROM archive.clicks UNION ALL SELECT 'order', count(*) FROM archive.orders} ],
	'"App One".several_inputs' => [
		q{SELECT a.w, a.n, b.n AS n3 FROM (SELECT date_trunc('minute', at) AS w, count(*) AS n FROM "App One".clicks GROUP BY w) a JOIN (SELECT date_trunc('minute', at) AS w, count(*) AS n FROM "App One".clicks WHERE k = 3 GROUP BY w) b USING (w)}, '', 3,
		q{SELECT date_trunc('minute', at) AS w, count(*), count(*) FILTER (WHERE k = 3) FROM archive.clicks GROUP BY w HAVING count(*) FILTER (WHERE k = 3) > 0 AND date_trunc('minute', at) + interval '1 minute' <= MARK} ],
	'"App One".backfilled' => [
		q{SELECT k, count(*) AS n, min(id) AS low FROM "App One".history_clicks GROUP BY k}, '', 3,
		q{SELECT k, count(*), min(id) FROM (SELECT k, id FROM archive.clicks UNION ALL SELECT i % 5, -i FROM generate_series(1, 100) AS i) a GROUP BY k} ],
	# read before and after others in the order of names, which is that in which a dump drops and creates
	'"App One".a_reader' => [
		q{SELECT pipeline.tumble(upper(w) - interval '1 us', '5 minutes') AS w5, sum(n) AS n FROM "App One"."Windowed" GROUP BY w5}, '', 2,
		qq{SELECT pipeline.tumble(at, '5 minutes') AS w5, count(*)::numeric FROM $IN_TIME GROUP BY w5 HAVING upper(pipeline.tumble(at, '5 minutes')) <= MARK} ],
	'"App One".z_reader' => [
		q{SELECT n > 100 AS many, count(*) AS groups, sum(n) AS n FROM "App One".changes GROUP BY many}, '', 3,
		q{SELECT n > 100 AS many, count(*), sum(n)::numeric FROM (SELECT kind, count(*) AS n FROM archive.orders GROUP BY kind) a GROUP BY many} ]);

my %KAFKA = (
	'kafka.windowed' => [
		q{SELECT k, date_trunc('minute', at) AS m, count(*) AS n, sum(id) AS s FROM kafka.records GROUP BY k, m}, '', 4,
		q{SELECT k, date_trunc('minute', at) AS m, count(*), sum(id) FROM archive.records WHERE NOT bad GROUP BY k, m HAVING date_trunc('minute', at) + interval '1 minute' <= MARK} ],
	'kafka.workers' => [
		q{SELECT date_trunc('minute', at) AS m, count(*) AS n, max(id) AS high FROM kafka.records GROUP BY m}, ', pipeline.workers = 2', 3,
		q{SELECT date_trunc('minute', at) AS m, count(*), max(id) FROM archive.records WHERE NOT bad GROUP BY m HAVING date_trunc('minute', at) + interval '1 minute' <= MARK} ],
	'kafka.totals' => [
		q{SELECT part, k, count(*) AS n, sum(id) AS s FROM kafka.records GROUP BY part, k}, ', pipeline.workers = 2', 4,
		q{SELECT part, k, count(*), sum(id) FROM archive.records WHERE NOT bad GROUP BY part, k} ],
	'kafka."Copied"' => [
		q{SELECT part, id FROM kafka.records WHERE id % 10 = 1}, '', 2,
		q{SELECT part, id FROM archive.records WHERE NOT bad AND id % 10 = 1} ],
	'kafka.of_both' => [
		q{SELECT source, count(*) AS n, sum(id) AS s FROM (SELECT 'click' AS source, id FROM "App One".clicks UNION ALL SELECT 'record', id FROM kafka.records) u GROUP BY source}, '', 3,
		q{SELECT 'click', count(*), sum(id) FROM archive.clicks UNION ALL SELECT 'record', count(*), sum(id) FROM archive.records WHERE NOT bad} ]);

# When they are created some have other names.
my %FIRST = ('"App One"."Renamed"' => '"App One".sessions', 'moved.count_windows' => '"App One".count_windows');

=pod

=over

=item EveryView->new($node, $database, [ $broker ])

Says where; nothing happens yet.

=item $views->in($database, [ $node ])

The same views in another database, perhaps of another server.

=item $views->create()

Makes the database, the role "ann" who owns all, streams and views; all views have read what
there is, nothing, when it returns.

=cut

sub new
{
	my ($class, $node, $database, $broker) = @_;

	return bless { node => $node, database => $database, broker => $broker }, $class;
}

sub in
{
	my ($self, $database, $node) = @_;

	return bless { %$self, database => $database, node => $node // $self->{node} }, ref $self;
}

sub sql
{
	my ($self, $sql) = @_;

	return $self->{node}->safe_psql($self->{database}, $sql);
}

sub definitions
{
	my ($self) = @_;

	return $self->{broker} ? (%LOCAL, %KAFKA) : %LOCAL;
}

sub names
{
	my ($self) = @_;
	my %views = $self->definitions;

	return sort keys %views;
}

sub create
{
	my ($self) = @_;
	my $node = $self->{node};
	my %views = $self->definitions;
	my @first = grep { !/_reader$/ } sort keys %views;

	$node->safe_psql('postgres', "CREATE ROLE ann; CREATE ROLE bob; CREATE DATABASE $self->{database}");
	$self->sql(<<SQL);
CREATE EXTENSION pipeline_ext;
CREATE SCHEMA archive;
CREATE TABLE archive.orders (id bigint, kind text, amount numeric, at timestamptz);
CREATE TABLE archive.clicks (id bigint, k bigint, at timestamptz);
CREATE TABLE archive.records (id bigint, part int, k bigint, at timestamptz, bad boolean);
CREATE SCHEMA "App One" AUTHORIZATION ann;
CREATE SCHEMA moved AUTHORIZATION ann;
CREATE SCHEMA kafka AUTHORIZATION ann;
GRANT USAGE ON FOREIGN SERVER pipeline_local TO ann;
SET ROLE ann;
CREATE FOREIGN TABLE "App One"."Orders" (id bigint, gone int, "Kind" text, amount numeric, at timestamptz) SERVER pipeline_local
  OPTIONS (event_time 'at', out_of_orderness '1 second', idle_timeout 'off');
ALTER FOREIGN TABLE "App One"."Orders" DROP COLUMN gone;
CREATE FOREIGN TABLE "App One".clicks (id bigint, k bigint, at timestamptz) SERVER pipeline_local
  OPTIONS (event_time 'at', out_of_orderness '1 second', idle_timeout 'off');
CREATE FOREIGN TABLE "App One".history_clicks (id bigint, k bigint, at timestamptz) SERVER pipeline_local
  OPTIONS (event_time 'at', out_of_orderness '1 second', idle_timeout 'off');
CREATE TABLE "App One".names (k bigint PRIMARY KEY, name text);
INSERT INTO "App One".names SELECT i, 'n' || i FROM generate_series(0, 9) AS i;
SQL
	$self->create_stream if $self->{broker};
	$self->sql("SET ROLE ann;\n" . join('', map { $self->view_sql($_) } @first, grep { /_reader$/ } sort keys %views) . <<SQL);
CREATE INDEX ON "App One"."Windowed" ("Kind", n);
CREATE INDEX "My Index" ON "App One".changes ("Kind");
CREATE VIEW "App One".over_it AS SELECT "Kind", sum(n) FROM "App One"."Windowed" GROUP BY "Kind";
ALTER VIEW "App One".sessions RENAME TO "Renamed";
ALTER VIEW "App One".count_windows SET SCHEMA moved;
GRANT SELECT ON "App One"."Windowed", "App One".changes TO bob;
GRANT SELECT ("Kind") ON "App One".open_windows TO bob;
COMMENT ON VIEW "App One"."Windowed" IS 'it''s windowed';
COMMENT ON COLUMN "App One".changes.n IS 'how many';
SQL
	$self->sql(q{SET ROLE ann; CALL pipeline.backfill('"App One".backfilled', 'SELECT -i AS id, i % 5 AS k, timestamptz ''2024-12-31 00:00Z'' AS at FROM generate_series(1::bigint, 100) AS i')});
	return;
}

sub create_stream
{
	my ($self) = @_;

	$self->{broker}->create_topic('records', 2);
	$self->sql(<<SQL);
CREATE SERVER "Kafka" FOREIGN DATA WRAPPER pipeline_kafka OPTIONS (bootstrap_servers '@{[ $self->{broker}->address ]}');
GRANT USAGE ON FOREIGN SERVER "Kafka" TO ann;
SET ROLE ann;
CREATE FOREIGN TABLE kafka.records (id bigint, k bigint, at timestamptz, part int OPTIONS (metadata 'partition')) SERVER "Kafka"
  OPTIONS (topic 'records', event_time 'at', partition_key 'part', out_of_orderness '5 seconds', idle_timeout 'off', max_skew '1 day');
SQL
	return;
}

sub view_sql
{
	my ($self, $name) = @_;
	my %views = $self->definitions;
	my ($query, $options) = @{ $views{$name} };
	my $first = $FIRST{$name} // $name;

	return "CREATE VIEW $first WITH (pipeline.continuous$options) AS $query;\n";
}

=pod

=item $views->feed($from, $to)

Events of these numbers into all streams.  C<feed_local> and C<feed_archive> do parts of it:
the first all but the topic, the second only the table of what is in the topic, for a copy
that reads the same topic.

=cut

sub feed
{
	my ($self, $from, $to) = @_;

	$self->feed_local($from, $to);
	return unless $self->{broker};
	$self->feed_archive($from, $to);
	$self->feed_topic($from, $to);
	return;
}

sub local_sql
{
	my ($self, $from, $to) = @_;
	my $orders = "SELECT i AS id, $KINDS AS kind, CASE WHEN i % 97 > 0 THEN i * 0.01 END AS amount, "
	  . "CASE WHEN i % 501 < 500 THEN $TIME - CASE WHEN i % 211 = 210 THEN interval '3 minutes' ELSE interval '0' END END AS at FROM generate_series($from, $to) AS i";
	my $clicks = "SELECT i AS id, $BURSTS AS k, $TIME AS at FROM generate_series($from, $to) AS i";

	return qq{BEGIN; INSERT INTO archive.orders $orders; INSERT INTO archive.clicks $clicks;
	  INSERT INTO "App One"."Orders" $orders; INSERT INTO "App One".clicks $clicks; INSERT INTO "App One".history_clicks $clicks; COMMIT;};
}

sub feed_local
{
	my ($self, $from, $to) = @_;

	$self->sql($self->local_sql($from, $to));
	return;
}

sub feed_archive
{
	my ($self, $from, $to) = @_;

	$self->sql("INSERT INTO archive.records SELECT i, i % 2, $BURSTS, $TIME, i % 301 = 300 FROM generate_series($from, $to) AS i");
	return;
}

sub feed_topic
{
	my ($self, $from, $to) = @_;

	for my $part (0, 1)
	{
		my @records;

		for my $i (grep { $_ % 2 == $part } $from .. $to)
		{
			my $k = int($i / 7) % 5;
			my ($h, $m, $s) = (int($i / 3600), int($i / 60) % 60, $i % 60);
			my $record = sprintf('{"id": %d, "k": %d, "at": "2025-01-01T%02d:%02d:%02dZ"}', $i, $k, $h, $m, $s);

			push @records, $i % 301 == 300 ? substr($record, 0, 20) : $record;
		}
		$self->{broker}->produce_records('records', $part, @records) if @records;
	}
	return;
}

=pod

=item $views->wait_for_all()

Dies unless all views have read what there is within a minute.  Views that read others come
after these.

=cut

sub wait_for_all
{
	my ($self) = @_;
	my $late = $self->sql(q{SELECT string_agg(view::text, ', ') FROM (SELECT view FROM pipeline.views WHERE state = 'running' ORDER BY view::text LIKE '%reader' OFFSET 0) v WHERE NOT pipeline.wait_for(view, '60 seconds')});

	die "$self->{database}: not caught up: $late\n" . $self->sql('SELECT view, state, reason, activity, last_error FROM pipeline.stat_views') if $late ne '';
	return;
}

=pod

=item $views->wrong()

What is wrong with each view that does not show what the batch query gives; an empty list if
all are right.  Late rows and dead letters are compared, too.

=back

=cut

sub wrong
{
	my ($self, @names) = @_;
	my %views = $self->definitions;
	my $run = sub { $self->sql($_[0]) };
	my @wrong;

	for my $name (@names ? @names : sort keys %views)
	{
		my ($query, undef, $n, $batch) = @{ $views{$name} };
		my $list = join(', ', map { "c$_" } 1 .. $n);
		my $mark = "pipeline.watermark('$name')";
		my $difference;

		$batch =~ s/MARK/$mark/g;
		$difference = difference($run, columns => $n,
			expected => "SELECT * FROM ($batch) AS x ($list)",
			actual => "SELECT * FROM $name AS x ($list)");
		push @wrong, "$name: $difference" if defined $difference;
	}
	return @wrong if @names;
	push @wrong, map { defined $_ ? $_ : () } (
		difference($run, columns => 1,
			expected => "SELECT at AS c1 FROM $SEEN WHERE mark >= date_trunc('minute', at) + interval '1 minute'",
			actual => q{SELECT at AS c1 FROM "App One"."Windowed_late"}),
		difference($run, columns => 2,
			expected => q{SELECT v AS c1, count(*) AS c2 FROM archive.orders, unnest(ARRAY['"App One"."Windowed"', '"App One".open_windows', '"App One".hop']) AS v WHERE at IS NULL GROUP BY v},
			actual => q{SELECT view::text AS c1, count(*) AS c2 FROM pipeline.dead_letters WHERE stream = '"App One"."Orders"'::regclass GROUP BY view}));
	push @wrong, map { defined $_ ? $_ : () } difference($run, columns => 3,
		expected => q{SELECT v AS c1, part AS c2, count(*) AS c3 FROM archive.records, unnest(ARRAY['kafka.windowed', 'kafka.workers', 'kafka.totals', 'kafka."Copied"', 'kafka.of_both']) AS v WHERE bad GROUP BY v, part},
		actual => q{SELECT view::text AS c1, partition AS c2, count(*) AS c3 FROM pipeline.dead_letters WHERE stream = 'kafka.records'::regclass GROUP BY view, partition})
	  if $self->{broker};
	return @wrong;
}

1;
