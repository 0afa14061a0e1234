-- As append.yardstick.sql, with an id that rises.
\set n random(1, :streams)
\set i :i + 1
\set version :i * 1000 + :client_id
INSERT INTO yardstick (stream, version, type, data, id) VALUES ('Order-' || md5(:n::text)::uuid, :version, :type, :data, ('01a00000-0000-7000-8000-' || lpad(to_hex(:version::bigint), 12, '0'))::uuid);
