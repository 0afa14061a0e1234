-- The first event of a stream that nobody has named before.
\set i :i + 1
\set n :i * 1000 + :client_id
INSERT INTO yardstick (stream, version, type, data) VALUES ('Order-' || md5(:n::text)::uuid, 1, :type, :data);
