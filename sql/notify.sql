-- What the option notify can be; what it does is in test/t/191_notify.pl.
SET client_min_messages = warning;
CREATE FOREIGN TABLE nf (at timestamptz, k text) SERVER pipeline_local OPTIONS (event_time 'at', out_of_orderness '0', idle_timeout 'off');
CREATE VIEW nf_windows WITH (pipeline.continuous, pipeline.notify = 'closed') AS
SELECT pipeline.tumble(at, '10 minutes') AS w, count(*) AS n FROM nf GROUP BY w;
SELECT options FROM pipeline.views WHERE view = 'nf_windows'::regclass;
INSERT INTO nf SELECT timestamptz '2024-01-01 00:00:00+00' + m * interval '1 minute', 'a' FROM generate_series(0, 100) m;
SELECT pipeline.wait_for('nf_windows');
SELECT count(*), sum(n) FROM nf_windows;
ALTER VIEW nf_windows SET (pipeline.notify = 'off');
ALTER VIEW nf_windows SET (pipeline.notify = 'Some other');
ALTER VIEW nf_windows RESET (pipeline.notify);
CREATE VIEW nf_plain WITH (pipeline.continuous) AS SELECT k, count(*) FROM nf GROUP BY k;
-- refused
ALTER VIEW nf_plain SET (pipeline.notify = 'closed');
CREATE VIEW no WITH (pipeline.continuous, pipeline.notify = 'closed') AS SELECT k FROM nf;
ALTER VIEW nf_windows SET (pipeline.notify = '');
ALTER VIEW nf_windows SET (pipeline.notify = 'a_name_that_is_so_long_that_it_cannot_be_one_of_a_channel_or_anything_else');
DROP FOREIGN TABLE nf CASCADE;
