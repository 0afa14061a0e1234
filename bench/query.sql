-- The events of an order, by its tag, to the client.
\set n :step * random(1, :streams / :step - 1)
SELECT * FROM es_query(('[{"tags": ["order:' || :n || '"]}]')::jsonb);
