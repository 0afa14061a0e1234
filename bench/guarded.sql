-- The same, on condition that an order that exists, :n, has got no event since :head.
\set n :step * random(1, :streams / :step - 1)
\set a random(1, 1000000000000)
SELECT * FROM es_append('Order-' || md5(:n::text)::uuid, :type, :data, tags => ARRAY['a:' || :a, 'b:' || :a], condition => ('{"query": [{"tags": ["order:' || :n || '"]}], "after": ' || :head || '}')::jsonb);
