-- Statistics of each auction and day.
-- floor: 450000
CREATE VIEW result WITH (pipeline.continuous) AS
SELECT auction, date_trunc('day', date_time) AS day, count(*) AS bids,
  count(*) FILTER (WHERE price < 10000) AS low_bids,
  count(*) FILTER (WHERE price >= 10000 AND price < 1000000) AS middle_bids,
  count(*) FILTER (WHERE price >= 1000000) AS high_bids,
  min(price) AS lowest, max(price) AS highest, avg(price) AS mean, sum(price) AS total
FROM nexmark WHERE event_type = 2 GROUP BY auction, day;
-- oracle
CREATE TABLE expected AS
SELECT auction, date_trunc('day', date_time) AS day, count(*) AS bids,
  count(*) FILTER (WHERE price < 10000) AS low_bids,
  count(*) FILTER (WHERE price >= 10000 AND price < 1000000) AS middle_bids,
  count(*) FILTER (WHERE price >= 1000000) AS high_bids,
  min(price) AS lowest, max(price) AS highest, avg(price) AS mean, sum(price) AS total
FROM bid WHERE NOT sentinel GROUP BY auction, day;
