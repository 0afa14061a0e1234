-- As append.eventstore.sql, with an id that rises, as a client's version 7 would.
\set n random(1, :streams)
\set i :i + 1
\set id :i * 1000 + :client_id
SELECT * FROM es_append('Order-' || md5(:n::text)::uuid, :type, :data, event_id => ('01a00000-0000-7000-8000-' || lpad(to_hex(:id::bigint), 12, '0'))::uuid);
