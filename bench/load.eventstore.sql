-- Ten events a stream, one a transaction, for a single client: blocks of width
-- streams are written in rounds of one event a stream.
\set n :i / (10 * :width) * :width + :i % :width
\set i :i + 1
SELECT * FROM es_append('Order-' || md5(:n::text)::uuid, :type, :data);
