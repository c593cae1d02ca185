-- The persons who are new and have put something up for auction in the same 10 seconds: one topic, read in two places.
-- floor: 700000
CREATE VIEW result WITH (pipeline.continuous) AS
SELECT p.person_id, w FROM
  (SELECT person_id, pipeline.tumble(date_time, '10 seconds') AS w FROM nexmark WHERE event_type = 0 GROUP BY 1, 2) p
  JOIN (SELECT seller AS person_id, pipeline.tumble(date_time, '10 seconds') AS w FROM nexmark WHERE event_type = 1 GROUP BY 1, 2) a USING (person_id, w);
-- oracle
CREATE TABLE expected AS
SELECT DISTINCT p.auction AS person_id, pipeline.tumble(p.date_time, '10 seconds') AS w
FROM nexmark_events p JOIN nexmark_events a ON a.bidder = p.auction AND pipeline.tumble(a.date_time, '10 seconds') = pipeline.tumble(p.date_time, '10 seconds')
WHERE p.kind = 0 AND a.kind = 1 AND NOT p.sentinel AND NOT a.sentinel;
