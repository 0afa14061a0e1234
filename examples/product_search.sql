-- product_search: a catalogue that can be searched, ranked, and by misspelt words, in place
-- of a search engine beside the database.
--
--   psql -v mode=inline -f examples/product_search.sql
--
-- mode: inline or async (the default).  schema: where the table goes, and the projection's
-- name; product_search_inline or product_search_async unless given.
--
-- Form: handler.  An update names only what has changed, a deleted product can come back, so
-- the order within a stream decides; as statements over a whole batch that would be hard to
-- read, and a catalogue changes too seldom to need it.
-- Mode: inline, so that what has been saved can be found at once.  A row belongs to one
-- stream, so writers of different products do not wait for each other.
--
-- pg_trgm comes with PostgreSQL (package postgresql-contrib on some systems).

\set ON_ERROR_STOP on
\if :{?mode}
\else
    \set mode async
\endif
\if :{?schema}
\else
    \set schema product_search_:mode
\endif

CREATE EXTENSION IF NOT EXISTS pg_trgm;

CREATE SCHEMA :"schema";
-- A projection keeps the search_path that it was created with: names need no schema below.
SET search_path = :"schema", public;

-- The name weighs more than the department, and that more than the description.  Being
-- generated, the vector can never be forgotten by a branch of the handler.
CREATE TABLE product (
    product_id text PRIMARY KEY,
    name text NOT NULL,
    department text NOT NULL,
    description text NOT NULL,
    price_cents bigint NOT NULL,
    words tsvector NOT NULL GENERATED ALWAYS AS (
        setweight(to_tsvector('english', name), 'A')
        || setweight(to_tsvector('english', department), 'B')
        || setweight(to_tsvector('english', description), 'C')) STORED
);
COMMENT ON TABLE product IS 'The catalogue as it is: what was deleted is not there';

CREATE INDEX ON product USING gin (words);
CREATE INDEX ON product USING gin (name gin_trgm_ops);

-- Every event comes exactly once and in the order of its stream, also after a crash.  So a
-- plain INSERT will do: that a product is there already would be an error worth hearing of.
-- So would be a type that is not expected: CASE without ELSE raises it.
CREATE FUNCTION apply_product(event es_event) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    CASE event.type
        WHEN 'ProductCreated' THEN
            INSERT INTO product (product_id, name, department, description, price_cents)
            VALUES (
                event.stream,
                event.data->>'name',
                event.data->>'department',
                event.data->>'description',
                (event.data->>'price_cents')::bigint);
        WHEN 'ProductUpdated' THEN
            UPDATE product
            SET name = coalesce(event.data->>'name', name),
                department = coalesce(event.data->>'department', department),
                description = coalesce(event.data->>'description', description)
            WHERE product_id = event.stream;
        WHEN 'ProductPriceChanged' THEN
            UPDATE product
            SET price_cents = (event.data->>'price_cents')::bigint
            WHERE product_id = event.stream;
        WHEN 'ProductDeleted' THEN
            DELETE FROM product
            WHERE product_id = event.stream;
    END CASE;
END;
$$;
COMMENT ON FUNCTION apply_product(es_event) IS 'Keep the catalogue: one event';

SELECT es_create_projection(
    :'schema',
    mode => :'mode',
    handler => 'apply_product',
    -- By type, not by category: reviews are in the products' streams as well, are many, and
    -- change nothing here.
    types => ARRAY['ProductCreated', 'ProductUpdated', 'ProductPriceChanged', 'ProductDeleted'],
    reset => 'TRUNCATE product');

SELECT es_wait_for_projection(:'schema', timeout => '30 s');

-- ---- use ----

-- By words if any product has them: inflected as in English, "quoted phrases", -not, or.  If
-- none has, by likeness to the name.  The threshold is lower than pg_trgm's own 0.6, for a
-- slip in a short word costs many of its trigrams.  BEGIN ATOMIC binds the names now, so it can
-- be called with any search_path.
CREATE FUNCTION search_products(wanted text, max_count int DEFAULT 10)
RETURNS TABLE (product_id text, name text, price_cents bigint, rank real)
LANGUAGE sql
STABLE
SET pg_trgm.word_similarity_threshold = 0.4
BEGIN ATOMIC
    WITH by_words AS (
        SELECT p.product_id, p.name, p.price_cents, ts_rank_cd(p.words, query) AS rank
        FROM product p, websearch_to_tsquery('english', wanted) query
        WHERE p.words @@ query
    ), by_likeness AS (
        SELECT p.product_id, p.name, p.price_cents, word_similarity(wanted, p.name) AS rank
        FROM product p
        WHERE wanted <% p.name
            AND NOT EXISTS (SELECT FROM by_words)
    )
    TABLE by_words
    UNION ALL
    TABLE by_likeness
    ORDER BY rank DESC, name, product_id
    LIMIT max_count;
END;
COMMENT ON FUNCTION search_products(text, int) IS 'Products by words, or, if there are none, by likeness';

-- "boiling" finds what "boils"; the name counts before the description.
SELECT * FROM search_products('boiling water', 3);
SELECT * FROM search_products('kitchen -dishwasher tea', 3);

-- Misspelt.
SELECT * FROM search_products('umbrela', 3);
SELECT * FROM search_products('vacum flsak', 3);

-- ---- replay by hand ----

-- The same table from the whole log: of each product, what came last of each thing since it
-- was last created.
CREATE VIEW replayed AS
SELECT
    created.stream AS product_id,
    coalesce(named.name, created.data->>'name') AS name,
    coalesce(moved.department, created.data->>'department') AS department,
    coalesce(described.description, created.data->>'description') AS description,
    coalesce(priced.price_cents, (created.data->>'price_cents')::bigint) AS price_cents
FROM (
    SELECT DISTINCT ON (stream) *
    FROM eventstore.events
    WHERE type IN ('ProductCreated', 'ProductDeleted')
    ORDER BY stream, version DESC) created
LEFT JOIN LATERAL (
    SELECT u.data->>'name' AS name
    FROM eventstore.events u
    WHERE u.stream = created.stream AND u.version > created.version
        AND u.type = 'ProductUpdated' AND u.data->>'name' IS NOT NULL
    ORDER BY u.version DESC
    LIMIT 1) named ON true
LEFT JOIN LATERAL (
    SELECT u.data->>'department' AS department
    FROM eventstore.events u
    WHERE u.stream = created.stream AND u.version > created.version
        AND u.type = 'ProductUpdated' AND u.data->>'department' IS NOT NULL
    ORDER BY u.version DESC
    LIMIT 1) moved ON true
LEFT JOIN LATERAL (
    SELECT u.data->>'description' AS description
    FROM eventstore.events u
    WHERE u.stream = created.stream AND u.version > created.version
        AND u.type = 'ProductUpdated' AND u.data->>'description' IS NOT NULL
    ORDER BY u.version DESC
    LIMIT 1) described ON true
LEFT JOIN LATERAL (
    SELECT (u.data->>'price_cents')::bigint AS price_cents
    FROM eventstore.events u
    WHERE u.stream = created.stream AND u.version > created.version
        AND u.type = 'ProductPriceChanged'
    ORDER BY u.version DESC
    LIMIT 1) priced ON true
WHERE created.type = 'ProductCreated';
COMMENT ON VIEW replayed IS 'product, computed from the log by hand';

-- What one has and the other has not: never anything, once the projection has caught up.
CREATE VIEW difference AS
WITH kept AS (
    SELECT product_id, name, department, description, price_cents
    FROM product
)
SELECT 'only in the read model' AS side, more.*
FROM (TABLE kept EXCEPT TABLE replayed) more
UNION ALL
SELECT 'only in the log', folded.*
FROM (TABLE replayed EXCEPT TABLE kept) folded;
COMMENT ON VIEW difference IS 'Rows by which product and the log differ';

TABLE difference;
