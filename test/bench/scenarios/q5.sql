-- The auctions with the most bids in each 10 seconds that begins every 2 seconds.
-- floor: 600000
CREATE VIEW result WITH (pipeline.continuous) AS
SELECT auction, num, w FROM (
  SELECT auction, w, count(*) AS num, max(count(*)) OVER (PARTITION BY w) AS top
  FROM (SELECT auction, pipeline.hop(date_time, '10 seconds', '2 seconds') AS w FROM nexmark WHERE event_type = 2) b
  GROUP BY auction, w) t
WHERE num = top;
-- oracle
CREATE TABLE expected AS
SELECT auction, num, w FROM (
  SELECT auction, w, count(*) AS num, max(count(*)) OVER (PARTITION BY w) AS top
  FROM (SELECT auction, pipeline.hop(date_time, '10 seconds', '2 seconds') AS w FROM bid WHERE NOT sentinel) b
  GROUP BY auction, w) t
WHERE num = top;
