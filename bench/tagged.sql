-- One event with two tags that no other event bears, onto one of the streams.
\set n random(1, :streams - 1)
\set a random(1, 1000000000000)
SELECT * FROM es_append('Order-' || md5(:n::text)::uuid, :type, :data, tags => ARRAY['a:' || :a, 'b:' || :a]);
