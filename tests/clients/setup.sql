-- What the clients in this folder work with: seats of a show are reserved, and tickets are sent.
--
--   psql -v category=Show -f tests/clients/setup.sql
--
-- The streams are Show-1, Show-2, .. of one category, with events of two types:
--
--   ShowAnnounced    {"seats": 20}
--   SeatReserved     {"who": "Ada"}

\set ON_ERROR_STOP on
\if :{?category}
\else
    \set category Show
\endif

CREATE SCHEMA :"category";
SET search_path = :"category", public;

-- ---- a read model, kept by a worker: how many seats are left ----

CREATE TABLE seats (
    show text PRIMARY KEY,
    seats_left bigint NOT NULL
);
COMMENT ON TABLE seats IS 'Seats that nobody has reserved yet';

SELECT es_create_projection(
    :'category',
    types => ARRAY['ShowAnnounced', 'SeatReserved'],
    categories => ARRAY[:'category'],
    query => $$
        INSERT INTO seats AS s (show, seats_left)
        SELECT stream, sum(CASE type WHEN 'ShowAnnounced' THEN (data->>'seats')::bigint ELSE -1 END)
        FROM es_batch
        GROUP BY stream
        ORDER BY stream
        ON CONFLICT (show) DO UPDATE SET seats_left = s.seats_left + excluded.seats_left
    $$,
    reset => 'TRUNCATE seats');

-- ---- a subscription: who reserves a seat is sent a ticket, by one of several consumers ----

-- Stands for the world outside.  The key is what makes a second attempt harmless.
CREATE TABLE ticket (
    event_id uuid PRIMARY KEY,
    show text NOT NULL,
    version bigint NOT NULL,
    who text NOT NULL,
    sent_by text NOT NULL,
    sent_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    number bigint GENERATED ALWAYS AS IDENTITY
);
COMMENT ON TABLE ticket IS 'Tickets that were sent';
COMMENT ON COLUMN ticket.event_id IS 'Of the reservation that it was sent for';

SELECT es_create_subscription(
    :'category',
    types => ARRAY['SeatReserved'],
    categories => ARRAY[:'category'],
    partitions => 4,
    ack_timeout => '1 s',
    max_retries => 2);
