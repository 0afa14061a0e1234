#!/usr/bin/python3
"""Follows the log from a position until an event of type WritersEnded.

    demo/tail.py AFTER [es_read_all|naive]

Prints a line an event: position, stream, type, and the milliseconds since it was
appended.  `naive` asks for "position > last" instead, as one would without an
event store; it is here to show what that loses.
"""
import sys
import time

import psycopg2

QUERIES = {
    # Waits in the server until there is something.
    "es_read_all": """
        SELECT position, stream, type, extract(epoch FROM clock_timestamp() - created_at) * 1000
        FROM es_read_all(%s, wait => '1 s')""",
    "naive": """
        SELECT position, stream, type, extract(epoch FROM clock_timestamp() - created_at) * 1000
        FROM eventstore.events WHERE position > %s ORDER BY position LIMIT 1000""",
}


def main():
    last = int(sys.argv[1])
    how = sys.argv[2] if len(sys.argv) > 2 else "es_read_all"
    connection = psycopg2.connect("")
    connection.autocommit = True
    cursor = connection.cursor()
    while True:
        cursor.execute(QUERIES[how], (last,))
        for last, stream, kind, age in cursor:
            if kind == "WritersEnded":
                return
            print(f"   {last:8}  {stream:7}  {kind:15}  {age:.1f} ms", flush=True)
        if how == "naive":
            time.sleep(0.002)


try:
    main()
except psycopg2.OperationalError:
    sys.exit("the server has gone")
