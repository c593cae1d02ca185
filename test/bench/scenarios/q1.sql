-- Prices in another currency.
CREATE VIEW result WITH (pipeline.continuous) AS
SELECT auction, bidder, (price * 0.908)::numeric(23,3) AS price, date_time FROM nexmark WHERE event_type = 2;
-- oracle
CREATE TABLE expected AS SELECT auction, bidder, (price * 0.908)::numeric(23,3) AS price, date_time FROM bid;
