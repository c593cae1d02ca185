-- Every bid as it comes.
-- floor: 450000
CREATE VIEW result WITH (pipeline.continuous) AS
SELECT auction, bidder, price, date_time FROM nexmark WHERE event_type = 2;
-- oracle
CREATE TABLE expected AS SELECT auction, bidder, price, date_time FROM bid;
