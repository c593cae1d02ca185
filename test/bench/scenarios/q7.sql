-- The highest bids of each 10 seconds.
-- floor: 500000
CREATE VIEW result WITH (pipeline.continuous) AS
SELECT auction, bidder, price, date_time, w FROM (
  SELECT auction, bidder, price, date_time, pipeline.tumble(date_time, '10 seconds') AS w,
    rank() OVER (PARTITION BY pipeline.tumble(date_time, '10 seconds') ORDER BY price DESC) AS r
  FROM nexmark WHERE event_type = 2) t
WHERE r = 1;
-- oracle
CREATE TABLE expected AS
SELECT auction, bidder, price, date_time, w FROM (
  SELECT auction, bidder, price, date_time, pipeline.tumble(date_time, '10 seconds') AS w,
    rank() OVER (PARTITION BY pipeline.tumble(date_time, '10 seconds') ORDER BY price DESC) AS r
  FROM bid WHERE NOT sentinel) t
WHERE r = 1;
