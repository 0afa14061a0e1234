-- A page of 1,000 events from anywhere in the log, the columns of the yardstick, to the client.
\set after random(:first, :last)
SELECT position, stream, version, type, data, metadata, event_id, created_at FROM es_read_all(:after, 1000);
