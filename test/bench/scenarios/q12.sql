-- How often each bidder bids in each 10 seconds, of event time.
-- floor: 700000
CREATE VIEW result WITH (pipeline.continuous) AS
SELECT bidder, pipeline.tumble(date_time, '10 seconds') AS w, count(*) AS bids
FROM nexmark WHERE event_type = 2 GROUP BY bidder, w;
-- oracle
CREATE TABLE expected AS
SELECT bidder, pipeline.tumble(date_time, '10 seconds') AS w, count(*) AS bids
FROM bid WHERE NOT sentinel GROUP BY bidder, w;
