-- One event onto one of the streams 1 .. streams, as a bare INSERT.
--
-- A writer of such a table has to know the next version.  Reading it would cost
-- the yardstick a query; here the client draws a number that nobody else draws,
-- which costs nothing and can never collide.
\set n random(1, :streams)
\set i :i + 1
\set version :i * 1000 + :client_id
INSERT INTO yardstick (stream, version, type, data) VALUES ('Order-' || md5(:n::text)::uuid, :version, :type, :data);
