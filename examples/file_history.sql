-- file_history: the files of a repository that are alive, and how much changes each month.
--
--   make demo EVENTS=file-history.jsonl.gz KEEP=1
--   psql -v mode=inline -f examples/file_history.sql
--
-- The demo loads such a log, and with KEEP=1 it says how to start its server again.  One line
-- of the file is one event; a stream is a file at its path:
--
--   {"stream": "File-timescaledb-1", "type": "FileModified",
--    "data": {"repository": "timescaledb", "path": "sql/main/extensions.sql", "lines_added": 4, "lines_removed": 0},
--    "created_at": "2016-10-18T21:16:51-04:00",
--    "metadata": {"correlation_id": "2241a25b…", "author": "83daf34a"}}
--
-- and a binary file has "binary": true in place of the lines.
--
-- mode: inline or async (the default).  schema: where the tables go, and the projection's
-- name; file_history_inline or file_history_async unless given.
--
-- Form: query.  Mode: async.  All files of a repository share the row of the month.

\set ON_ERROR_STOP on
\if :{?mode}
\else
    \set mode async
\endif
\if :{?schema}
\else
    \set schema file_history_:mode
\endif

CREATE SCHEMA :"schema";
-- A projection keeps the search_path that it was created with: names need no schema below.
SET search_path = :"schema", public;

-- A deleted file stays as a row: it can come back, and in one batch it can go and come
-- several times.  So there is one upsert, and no second statement that would delete.
CREATE TABLE file (
    stream text PRIMARY KEY,
    repository text NOT NULL,
    path text NOT NULL,
    alive boolean NOT NULL,
    is_binary boolean NOT NULL,
    lines bigint NOT NULL,
    changes bigint NOT NULL,
    first_at timestamptz NOT NULL,
    last_at timestamptz NOT NULL
);
COMMENT ON TABLE file IS 'Every file that ever was';
COMMENT ON COLUMN file.lines IS 'Lines added less lines removed: how long it is';
CREATE INDEX ON file (repository, path) WHERE alive;

CREATE TABLE churn (
    repository text,
    month date,
    added bigint NOT NULL,
    modified bigint NOT NULL,
    deleted bigint NOT NULL,
    lines_added bigint NOT NULL,
    lines_removed bigint NOT NULL,
    PRIMARY KEY (repository, month)
);
COMMENT ON TABLE churn IS 'What has changed, month by month in UTC';

SELECT es_create_projection(
    :'schema',
    mode => :'mode',
    -- The category: its types are all about the files, and a new type should not be overlooked.
    categories => ARRAY['File'],
    -- The times are those of the authors' clocks and do not rise with the positions: first and
    -- last are least and greatest, and a month can get more after the next one has begun.
    --
    -- ORDER BY: inline, a call that changes many files locks the rows by key, as all the others
    -- do, and no two can wait for each other in a circle.
    query => $query$
        WITH change AS (
            SELECT
                stream,
                version,
                type,
                created_at,
                data->>'repository' AS repository,
                data->>'path' AS path,
                coalesce((data->>'binary')::boolean, false) AS is_binary,
                coalesce((data->>'lines_added')::bigint, 0) AS lines_added,
                coalesce((data->>'lines_removed')::bigint, 0) AS lines_removed
            FROM es_batch
        ), files AS (
            INSERT INTO file AS f (stream, repository, path, alive, is_binary, lines, changes, first_at, last_at)
            SELECT
                stream,
                max(repository),
                max(path),
                (array_agg(type ORDER BY version DESC))[1] <> 'FileDeleted',
                (array_agg(is_binary ORDER BY version DESC))[1],
                sum(lines_added - lines_removed),
                count(*),
                min(created_at),
                max(created_at)
            FROM change
            GROUP BY stream
            ORDER BY stream
            ON CONFLICT (stream) DO UPDATE SET
                alive = excluded.alive,
                is_binary = excluded.is_binary,
                lines = f.lines + excluded.lines,
                changes = f.changes + excluded.changes,
                first_at = least(f.first_at, excluded.first_at),
                last_at = greatest(f.last_at, excluded.last_at)
        )
        INSERT INTO churn AS c (repository, month, added, modified, deleted, lines_added, lines_removed)
        SELECT
            repository,
            date_trunc('month', created_at AT TIME ZONE 'UTC')::date AS month,
            count(*) FILTER (WHERE type = 'FileAdded'),
            count(*) FILTER (WHERE type = 'FileModified'),
            count(*) FILTER (WHERE type = 'FileDeleted'),
            sum(lines_added),
            sum(lines_removed)
        FROM change
        GROUP BY repository, month
        ORDER BY repository, month
        ON CONFLICT (repository, month) DO UPDATE SET
            added = c.added + excluded.added,
            modified = c.modified + excluded.modified,
            deleted = c.deleted + excluded.deleted,
            lines_added = c.lines_added + excluded.lines_added,
            lines_removed = c.lines_removed + excluded.lines_removed
    $query$,
    reset => 'TRUNCATE file, churn');

SELECT es_wait_for_projection(:'schema', timeout => '60 s');

-- ---- use ----

SELECT
    repository,
    count(*) FILTER (WHERE alive) AS files,
    sum(lines) FILTER (WHERE alive) AS lines,
    count(*) FILTER (WHERE NOT alive) AS deleted
FROM file
GROUP BY repository
ORDER BY repository;

-- The files that do not come to rest.
SELECT path, lines, changes, last_at AT TIME ZONE 'UTC' AS last_at
FROM file
WHERE alive
ORDER BY changes DESC, path
LIMIT 5;

-- A year in a line; the months add up.
SELECT
    repository,
    date_part('year', month) AS year,
    sum(added) AS added,
    sum(modified) AS modified,
    sum(deleted) AS deleted,
    sum(lines_added) AS lines_added,
    sum(lines_removed) AS lines_removed
FROM churn
GROUP BY repository, year
ORDER BY repository, year;

-- ---- replay by hand ----

-- The same tables from the whole log, in one go each.
CREATE VIEW file_replayed AS
SELECT
    last.stream,
    last.data->>'repository' AS repository,
    last.data->>'path' AS path,
    last.type IN ('FileAdded', 'FileModified') AS alive,
    last.data @> '{"binary": true}' AS is_binary,
    total.lines,
    -- Versions have no gaps.
    last.version AS changes,
    total.first_at,
    total.last_at
FROM (
    SELECT DISTINCT ON (stream) *
    FROM eventstore.events
    WHERE es_category(stream) = 'File'
    ORDER BY stream, version DESC) last
JOIN (
    SELECT
        stream,
        coalesce(sum((data->'lines_added')::bigint), 0) - coalesce(sum((data->'lines_removed')::bigint), 0) AS lines,
        min(created_at) AS first_at,
        max(created_at) AS last_at
    FROM eventstore.events
    GROUP BY stream) total USING (stream);
COMMENT ON VIEW file_replayed IS 'file, computed from the log by hand';

CREATE VIEW churn_replayed AS
SELECT
    data->>'repository' AS repository,
    date_trunc('month', created_at AT TIME ZONE 'UTC')::date AS month,
    sum((type = 'FileAdded')::int) AS added,
    sum((type = 'FileModified')::int) AS modified,
    sum((type = 'FileDeleted')::int) AS deleted,
    coalesce(sum((data->'lines_added')::bigint), 0) AS lines_added,
    coalesce(sum((data->'lines_removed')::bigint), 0) AS lines_removed
FROM eventstore.events
WHERE es_category(stream) = 'File'
GROUP BY 1, 2;
COMMENT ON VIEW churn_replayed IS 'churn, computed from the log by hand';

-- What one has and the other has not: never anything, once the projection has caught up.
CREATE VIEW difference AS
SELECT 'file' AS name, 'only in the read model' AS side, to_jsonb(kept) AS row
FROM (TABLE file EXCEPT TABLE file_replayed) kept
UNION ALL
SELECT 'file', 'only in the log', to_jsonb(folded)
FROM (TABLE file_replayed EXCEPT TABLE file) folded
UNION ALL
SELECT 'churn', 'only in the read model', to_jsonb(kept)
FROM (TABLE churn EXCEPT TABLE churn_replayed) kept
UNION ALL
SELECT 'churn', 'only in the log', to_jsonb(folded)
FROM (TABLE churn_replayed EXCEPT TABLE churn) folded;
COMMENT ON VIEW difference IS 'Rows by which the two tables and the log differ';

TABLE difference;
