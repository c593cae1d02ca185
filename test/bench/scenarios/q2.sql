-- The bids for some auctions.
-- floor: 1000000
CREATE VIEW result WITH (pipeline.continuous) AS
SELECT auction, price FROM nexmark WHERE event_type = 2 AND auction % 123 = 0;
-- oracle
CREATE TABLE expected AS SELECT auction, price FROM bid WHERE auction % 123 = 0;
