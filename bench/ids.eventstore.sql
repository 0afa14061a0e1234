-- As append.eventstore.sql, with a random (version 4) id as a client would give.
\set n random(1, :streams)
SELECT * FROM es_append('Order-' || md5(:n::text)::uuid, :type, :data, event_id => gen_random_uuid());
