-- Views of advertisements per campaign, which is looked up in a table, and 10 seconds.
-- floor: 900000
CREATE VIEW result WITH (pipeline.continuous) AS
SELECT c.campaign_id, pipeline.tumble(e.event_time, '10 seconds') AS w, count(*) AS views
FROM ad_events e JOIN campaigns c USING (ad_id) WHERE e.event_type = 'view' GROUP BY c.campaign_id, w;
-- oracle
CREATE TABLE expected AS
SELECT c.campaign_id, pipeline.tumble(e.event_time, '10 seconds') AS w, count(*) AS views
FROM ysb_events e JOIN campaigns c USING (ad) WHERE e.kind = 0 AND NOT e.sentinel GROUP BY c.campaign_id, w;
