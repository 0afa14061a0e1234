-- One event onto one of the streams 1 .. streams; the store finds the version.
\set n random(1, :streams)
SELECT * FROM es_append('Order-' || md5(:n::text)::uuid, :type, :data);
