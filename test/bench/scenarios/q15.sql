-- Twelve aggregates of each day, eight of them distinct.
-- floor: 250000
CREATE VIEW result WITH (pipeline.continuous) AS
SELECT date_trunc('day', date_time) AS day, count(*) AS bids,
  count(*) FILTER (WHERE price < 10000) AS low_bids,
  count(*) FILTER (WHERE price >= 10000 AND price < 1000000) AS middle_bids,
  count(*) FILTER (WHERE price >= 1000000) AS high_bids,
  count(DISTINCT bidder) AS bidders,
  count(DISTINCT bidder) FILTER (WHERE price < 10000) AS low_bidders,
  count(DISTINCT bidder) FILTER (WHERE price >= 10000 AND price < 1000000) AS middle_bidders,
  count(DISTINCT bidder) FILTER (WHERE price >= 1000000) AS high_bidders,
  count(DISTINCT auction) AS auctions,
  count(DISTINCT auction) FILTER (WHERE price < 10000) AS low_auctions,
  count(DISTINCT auction) FILTER (WHERE price >= 10000 AND price < 1000000) AS middle_auctions,
  count(DISTINCT auction) FILTER (WHERE price >= 1000000) AS high_auctions
FROM nexmark WHERE event_type = 2 GROUP BY day;
-- oracle
CREATE TABLE expected AS
SELECT date_trunc('day', date_time) AS day, count(*) AS bids,
  count(*) FILTER (WHERE price < 10000) AS low_bids,
  count(*) FILTER (WHERE price >= 10000 AND price < 1000000) AS middle_bids,
  count(*) FILTER (WHERE price >= 1000000) AS high_bids,
  count(DISTINCT bidder) AS bidders,
  count(DISTINCT bidder) FILTER (WHERE price < 10000) AS low_bidders,
  count(DISTINCT bidder) FILTER (WHERE price >= 10000 AND price < 1000000) AS middle_bidders,
  count(DISTINCT bidder) FILTER (WHERE price >= 1000000) AS high_bidders,
  count(DISTINCT auction) AS auctions,
  count(DISTINCT auction) FILTER (WHERE price < 10000) AS low_auctions,
  count(DISTINCT auction) FILTER (WHERE price >= 10000 AND price < 1000000) AS middle_auctions,
  count(DISTINCT auction) FILTER (WHERE price >= 1000000) AS high_auctions
FROM bid WHERE NOT sentinel GROUP BY day;
