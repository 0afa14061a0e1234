-- The whole of one of the streams first .. last, the columns of the yardstick, to the client.
\set n random(:first, :last)
SELECT position, stream, version, type, data, metadata, event_id, created_at FROM es_read_stream('Order-' || md5(:n::text)::uuid);
