-- Views of events and streams, as readers are shown them.  security_invoker: the
-- rights, and row-level security, of whoever selects.

CREATE VIEW eventstore.event_types WITH (security_invoker = true) AS
SELECT
    t.category,
    t.type,
    t.schema_version,
    t.content_type,
    (SELECT pg_catalog.count(*)
     FROM eventstore.event_log l
     WHERE l.type_key OPERATOR(pg_catalog.=) t.type_key) AS events
FROM (SELECT DISTINCT type_key, category, type, schema_version, content_type FROM eventstore.event_type) t;
COMMENT ON VIEW eventstore.event_types IS
    'The types, schema versions and content types that are stored; category null: in categories beyond the first thousand';
COMMENT ON COLUMN eventstore.event_types.events IS 'How many there are in the log; counted when asked for';

-- The rule is found by s.name, not by l.stream: so it is asked above the scan of the log, which
-- can be parallel.
CREATE VIEW eventstore.events WITH (security_invoker = true) AS
SELECT
    l.position,
    l.stream,
    l.version,
    t.type,
    t.schema_version,
    l.data,
    l.metadata,
    l.tags,
    coalesce(l.event_id, eventstore.event_id(l.position, l.created_at)) AS event_id,
    l.created_at,
    t.content_type,
    l.payload
FROM eventstore.event_log l
JOIN eventstore.stream s USING (stream_key)
JOIN (SELECT DISTINCT ON (type_key) type_key, type, schema_version, content_type
      FROM eventstore.event_type) t USING (type_key)
WHERE (s.first_version IS NULL OR l.version OPERATOR(pg_catalog.>=) s.first_version)
  AND NOT EXISTS (
    SELECT FROM eventstore.retention r
    WHERE r.name OPERATOR(pg_catalog.=) coalesce(
              (SELECT o.name FROM eventstore.retention o WHERE o.name OPERATOR(pg_catalog.=) s.name),
              es_category(s.name))
      AND (l.created_at OPERATOR(pg_catalog.<) (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) r.max_age)
           OR l.version OPERATOR(pg_catalog.<=) (
              (SELECT pg_catalog.max(m.version) FROM eventstore.event_log m
               WHERE m.stream_key OPERATOR(pg_catalog.=) l.stream_key) OPERATOR(pg_catalog.-) r.max_count)));
COMMENT ON VIEW eventstore.events IS
    'All events that the snapshot sees, as they are stored, also above the head: for questions, not for consumers';

-- The rules by which events are hidden are those of streams/visible.c.
CREATE VIEW eventstore.streams WITH (security_invoker = true) AS
SELECT
    s.name AS stream,
    es_category(s.name) AS category,
    v.version,
    CASE WHEN l.version OPERATOR(pg_catalog.>=) v.shown_from
          AND (r.max_age IS NULL
               OR l.created_at OPERATOR(pg_catalog.>=) (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) r.max_age))
         THEN l.created_at END AS last_event_at,
    coalesce(
        (SELECT e.version
         FROM eventstore.event_log e
         WHERE e.stream_key OPERATOR(pg_catalog.=) s.stream_key
           AND e.version OPERATOR(pg_catalog.>=) v.shown_from
           AND (r.max_age IS NULL
                OR e.created_at OPERATOR(pg_catalog.>=) (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) r.max_age))
         ORDER BY e.version
         LIMIT 1),
        v.version OPERATOR(pg_catalog.+) 1) AS first_version,
    (s.deleted IS TRUE AND s.tombstoned IS NOT TRUE AND greatest(l.version, s.used_version) OPERATOR(pg_catalog.=) s.used_version) AS deleted,
    s.tombstoned IS TRUE AS tombstoned
FROM eventstore.stream s
LEFT JOIN LATERAL (
    SELECT e.version, e.created_at
    FROM eventstore.event_log e
    WHERE e.stream_key OPERATOR(pg_catalog.=) s.stream_key
    ORDER BY e.version DESC
    LIMIT 1) l ON true
LEFT JOIN LATERAL (
    SELECT t.max_count, t.max_age
    FROM eventstore.retention t
    WHERE t.name OPERATOR(pg_catalog.=) coalesce(
        (SELECT o.name FROM eventstore.retention o WHERE o.name OPERATOR(pg_catalog.=) s.name),
        es_category(s.name))) r ON true
CROSS JOIN LATERAL (SELECT
    coalesce(greatest(l.version, s.used_version), 0) AS version,
    greatest(s.first_version, 1,
             coalesce(greatest(l.version, s.used_version), 0) OPERATOR(pg_catalog.-) r.max_count OPERATOR(pg_catalog.+) 1) AS shown_from) v
WHERE l.version IS NOT NULL OR s.used_version IS NOT NULL OR s.tombstoned;
COMMENT ON VIEW eventstore.streams IS 'The streams and their versions';
COMMENT ON COLUMN eventstore.streams.version IS 'Of the last event; it stays when events are taken away';
COMMENT ON COLUMN eventstore.streams.last_event_at IS 'When that was created; null: it has been taken away';
COMMENT ON COLUMN eventstore.streams.first_version IS 'Of the first event that readers are shown; beyond the version: none is';
COMMENT ON COLUMN eventstore.streams.deleted IS 'Deleted, and not written again since';
COMMENT ON COLUMN eventstore.streams.tombstoned IS 'Gone for good: takes no events';

CREATE VIEW eventstore.snapshots WITH (security_invoker = true) AS
SELECT
    s.name AS stream,
    n.kind,
    n.version,
    n.state,
    n.saved_at
FROM eventstore.snapshot n
JOIN eventstore.stream s USING (stream_key);
COMMENT ON VIEW eventstore.snapshots IS 'The snapshots that es_load() and es_aggregate() begin with';
COMMENT ON COLUMN eventstore.snapshots.version IS 'The state is that after the event of this version';
