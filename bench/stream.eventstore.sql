-- The whole of one of the streams first .. last, all columns, to the client.
\set n random(:first, :last)
SELECT * FROM es_read_stream('Order-' || md5(:n::text)::uuid);
