-- The events of an order, by its tag, to the client.
\set n random(1, :streams - 1)
SELECT * FROM es_query(('[{"tags": ["order:' || :n || '"]}]')::jsonb);
