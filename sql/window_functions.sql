-- Without this: the same query over a table would give other windows than a continuous view, or a mistake in
-- its arguments would give none at all.
SET timezone = 'UTC';
SET datestyle = 'ISO';
-- tumble: [start, end), before and after the origin, in BC, and at the ends of what timestamps can be
SELECT t, pipeline.tumble(t, '1 minute') AS w
FROM unnest('{2024-01-01 00:00:00+00, 2024-01-01 00:00:59.999999+00, 2024-01-01 00:01:00+00, 1999-12-31 23:59:59+00}'::timestamptz[]) t;
SELECT pipeline.tumble(timestamptz '2024-01-03 12:00', '7 days') AS monday;
SELECT pipeline.tumble(timestamptz '2024-01-01', '45 seconds', '2024-01-01 00:00:10') AS origin_after;
SELECT pipeline.tumble(timestamp '0044-03-15 12:00:01 BC', '1 minute') AS ides;
SELECT pipeline.tumble(timestamptz '4714-11-24 00:00 BC', '7 days') AS first;
SELECT pipeline.tumble(timestamp '4714-11-24 00:00 BC', '10 days', '2000-01-01') AS before_the_first;
SELECT pipeline.tumble(timestamptz '294276-12-31 23:59:59.999999', '1 day') AS last;
SELECT pipeline.tumble(timestamptz 'infinity', '1 day');
SELECT pipeline.tumble(timestamptz '2024-01-01', '1 day', '-infinity');
SELECT pipeline.tumble(NULL::timestamptz, '1 day') IS NULL AS is_null;
-- the same windows as date_bin
SELECT count(*) AS differ FROM generate_series(timestamp '1990-01-01', '2030-01-01', '9 days 04:05:06.789') t
WHERE lower(pipeline.tumble(t, '3 days 01:02:03')) <> date_bin('3 days 01:02:03', t, '2000-01-03');

-- hop: every window that holds the time, in order
SELECT pipeline.hop(timestamptz '2024-01-01 00:00:30', '1 minute', '20 seconds') AS w;
SELECT pipeline.hop(timestamptz '2024-01-01 00:00:30', '1 minute', '25 seconds') AS w;
SELECT pipeline.hop(timestamp '2024-01-01 00:00:30', '1 minute', '1 minute') AS w;
SELECT pipeline.hop(timestamp '2024-01-01 00:00:30', '1 minute', '30 seconds', '2024-01-01 00:00:29.999999') AS w;
SELECT count(*) AS n, bool_and(w @> t) AS hold_it, count(DISTINCT lower(w)) AS different
FROM (VALUES (timestamp '2024-05-06 07:08:09.123456')) v(t), pipeline.hop(t, '1 hour', '7 seconds') w;
SELECT pipeline.hop(timestamp '2000-01-05', '100000000 days', '100000000 days') AS beyond_all_timestamps;
SELECT count(*) FROM pipeline.hop(NULL::timestamp, '1 minute', '1 second');
SELECT pipeline.hop(timestamptz '2024-01-01', '1 minute', '2 minutes');
SELECT pipeline.hop(timestamptz '2024-01-01', '1 minute', '0');
SELECT pipeline.hop(timestamptz 'infinity', '1 minute', '1 second');
SELECT pipeline.hop(timestamptz '4714-11-24 00:00 BC', '1 minute', '1 second');

-- cumulate: windows that grow
SELECT pipeline.cumulate(timestamptz '2024-01-01 00:00:30', '1 minute', '20 seconds') AS w;
SELECT pipeline.cumulate(timestamp '2024-01-01 00:00:40', '1 minute', '20 seconds') AS w;
SELECT pipeline.cumulate(timestamp '2000-01-05', '100000000 days', '100000000 days') AS beyond_all_timestamps;
SELECT pipeline.cumulate(timestamptz '2024-01-01', '1 minute', '25 seconds');
SELECT pipeline.cumulate(timestamptz '2024-01-01', '1 minute', '2 minutes');
SELECT pipeline.cumulate(timestamptz '-infinity', '1 minute', '1 second');

-- what is no length
SELECT pipeline.tumble(timestamptz '2024-01-01', '1 month');
SELECT pipeline.tumble(timestamptz '2024-01-01', '1 month -30 days');
SELECT pipeline.tumble(timestamptz '2024-01-01', '-1 second');
SELECT pipeline.tumble(timestamptz '2024-01-01', '0');
SELECT pipeline.tumble(timestamptz '2024-01-01', '1 day -24 hours');
SELECT pipeline.tumble(timestamptz '2024-01-01', '2147483647 days');

-- these need to know other rows
SELECT pipeline.session(timestamptz '2024-01-01', '1 minute');
SELECT pipeline.session(timestamp '2024-01-01', '1 minute');
SELECT pipeline.count_window(10);
SELECT pipeline.count_window(10, 5);
SELECT pipeline.proctime();
