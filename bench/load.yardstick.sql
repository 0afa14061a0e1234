-- Ten events a stream, one a transaction, for a single client: blocks of width
-- streams are written in rounds of one event a stream.
\set n :i / (10 * :width) * :width + :i % :width
\set version :i % (10 * :width) / :width + 1
\set i :i + 1
INSERT INTO yardstick (stream, version, type, data) VALUES ('Order-' || md5(:n::text)::uuid, :version, :type, :data);
