-- Every bid as it comes.
CREATE VIEW result WITH (pipeline.continuous) AS
SELECT auction, bidder, price, date_time FROM nexmark WHERE event_type = 2;
-- oracle
CREATE TABLE expected AS SELECT auction, bidder, price, date_time FROM bid;
