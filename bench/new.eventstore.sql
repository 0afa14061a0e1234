-- The first event of a stream that nobody has named before.
\set i :i + 1
\set n :i * 1000 + :client_id
SELECT * FROM es_append('Order-' || md5(:n::text)::uuid, :type, :data);
