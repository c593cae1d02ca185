-- How many bids each bidder makes in each of its sessions, which end after 10 seconds without one.
-- floor: 400000
CREATE VIEW result WITH (pipeline.continuous) AS
SELECT bidder, pipeline.session(date_time, '10 seconds') AS w, count(*) AS bids
FROM nexmark WHERE event_type = 2 GROUP BY bidder, w;
-- oracle
CREATE TABLE expected AS
WITH a AS (SELECT bidder, date_time, (date_time - lag(date_time) OVER s > interval '10 seconds' IS NOT FALSE)::int AS begins
  FROM bid WHERE NOT sentinel WINDOW s AS (PARTITION BY bidder ORDER BY date_time)),
b AS (SELECT bidder, date_time, sum(begins) OVER (PARTITION BY bidder ORDER BY date_time ROWS UNBOUNDED PRECEDING) AS number FROM a)
SELECT bidder, tstzrange(min(date_time), max(date_time) + interval '10 seconds') AS w, count(*) AS bids FROM b GROUP BY bidder, number;
