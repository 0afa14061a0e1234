#!/usr/bin/python3
"""Loads a log of events, one JSON object a line, through es_append_batch.

    demo/load.py < events.jsonl[.gz]

A line holds stream, type, data, metadata and created_at.  The lines go to the
server as they are, a thousand a transaction, and it takes them apart itself: so
numbers keep every digit.  The database is named by PGHOST, PGDATABASE and so on.
"""
import gzip
import itertools
import os
import sys
import time

import psycopg2

CHUNK = 1000

APPEND = """
WITH line AS (
    SELECT number, text::jsonb AS event
    FROM unnest(%s::text[]) WITH ORDINALITY AS chunk (text, number)
), columns AS (
    SELECT array_agg(event->>'stream' ORDER BY number) AS streams,
           array_agg(event->>'type' ORDER BY number) AS types,
           array_agg(coalesce(event->'data', '{}') ORDER BY number) AS data,
           array_agg(nullif(event->'metadata', 'null') ORDER BY number) AS metadata,
           array_agg((event->>'created_at')::timestamptz ORDER BY number) AS created_at
    FROM line
)
SELECT count(*)
FROM columns, es_append_batch(streams, types, data, metadata => columns.metadata,
                              created_at => columns.created_at)
"""


def lines(stream):
    """The lines of a plain or gzipped file that are not blank."""
    if stream.peek(2)[:2] == b"\x1f\x8b":
        stream = gzip.GzipFile(fileobj=stream)
    for line in stream:
        line = line.strip()
        if line:
            yield line.decode()


def progress(done, began, size, last=False):
    text = f"   {done:,} events, {done / (time.monotonic() - began):,.0f} events/s"
    if size and not last:
        text += f", {100 * os.lseek(0, 0, os.SEEK_CUR) // size} %"
    if sys.stdout.isatty():
        print("\r" + text + "\x1b[K", end="\n" if last else "", flush=True)
    else:
        print(text, flush=True)


def main():
    connection = psycopg2.connect("")
    cursor = connection.cursor()
    size = os.fstat(0).st_size      # 0 for a pipe
    source = lines(sys.stdin.buffer)
    done = 0
    began = reported = time.monotonic()
    while chunk := list(itertools.islice(source, CHUNK)):
        try:
            cursor.execute(APPEND, (chunk,))
            connection.commit()
        except psycopg2.Error as error:
            sys.exit(f"\nin events {done + 1:,} to {done + len(chunk):,}: {error}")
        done += len(chunk)
        if time.monotonic() - reported > (0.1 if sys.stdout.isatty() else 2):
            reported = time.monotonic()
            progress(done, began, size)
    progress(done, began, size, last=True)

    cursor.execute("SELECT count(*) FROM eventstore.events")
    stored = cursor.fetchone()[0]
    if stored != done:
        sys.exit(f"{done:,} lines, but {stored:,} events stored")


main()
