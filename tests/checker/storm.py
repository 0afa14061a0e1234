#!/usr/bin/python3
"""The storm: as many commits as the server can do, against readers that count.

    storm.py --dsn "host=/socket/dir dbname=x user=y" [--seconds 10] [--writers n] [--readers 1]

The history checker knows every event, and is slow for that: a mistake in the order
of two instructions, open for nanoseconds, could escape it. Here writers append and
commit in loops inside the server, and readers, also inside, only count: the events
up to a head that they took, or as far as a read came, again and again. If an event
ever appears below, the sum is less than what the log holds in the end.

Tried against registries that were broken on purpose: one that publishes a position
after reserving it loses some in each run of ten seconds on two processors. More
processes than processors only make the readers slow, and less likely to find it.

Exit status: 0 every sum is right, 1 one is not, 2 could not run.
"""

import argparse
import os
import signal
import sys
import time

import psycopg2

from session import processes

APPLICATION = "checker storm"

# One to three events a transaction, one in ten rolled back.
WRITER = """
DO $$
DECLARE
    until timestamptz := clock_timestamp() + interval '{seconds} s';
    i int := 0;
BEGIN
    WHILE clock_timestamp() < until LOOP
        i := i + 1;
        FOR n IN 0 .. i % 3 LOOP
            PERFORM es_append('storm-{writer}', 'Counted');
        END LOOP;
        IF i % 10 = 0 THEN
            ROLLBACK;
        ELSE
            COMMIT;
        END IF;
    END LOOP;
END $$"""

READER = """
DO $$
DECLARE
    until timestamptz := clock_timestamp() + interval '{seconds} s';
    last bigint := {base};
    head bigint;
    found bigint;
    seen bigint := 0;
    looks bigint := 0;
BEGIN
    WHILE clock_timestamp() < until LOOP
        looks := looks + 1;
        IF looks % 2 = 0 THEN
            head := es_head();
            IF head < last THEN
                RAISE EXCEPTION 'the head was % after %', head, last;
            END IF;
            SELECT count(*) INTO found FROM es_read_all(last, 1000000) WHERE position <= head;
        ELSE
            SELECT count(*), coalesce(max(position), last) INTO found, head
            FROM es_read_all(last, 1000000);
        END IF;
        seen := seen + found;
        last := head;
        COMMIT;
    END LOOP;
    PERFORM set_config('checker.result', format('%s %s %s', last, seen, looks), false);
END $$"""


def connect(dsn):
    conn = psycopg2.connect(dsn, application_name=APPLICATION)
    conn.autocommit = True
    return conn, conn.cursor()


def client(function, *args):
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        function(*args)
    except psycopg2.Error as problem:
        print(problem, file=sys.stderr)
        sys.exit(1)


def write(dsn, statement):
    _, cursor = connect(dsn)
    cursor.execute("SET synchronous_commit = off")
    cursor.execute(statement)


def read(dsn, statement, results):
    _, cursor = connect(dsn)
    cursor.execute(statement)
    cursor.execute("SHOW checker.result")
    results.put([int(number) for number in cursor.fetchone()[0].split()])


def process(*args):
    return processes.Process(target=client, args=args, daemon=True)


def storm(args, children):
    _, cursor = connect(args.dsn)
    cursor.execute("SELECT es_head()")
    base = cursor.fetchone()[0]
    results = processes.SimpleQueue()
    for number in range(args.writers):
        statement = WRITER.format(seconds=args.seconds, writer=f"{os.getpid()}.{number}")
        children.append(process(write, args.dsn, statement))
    for _ in range(args.readers):
        statement = READER.format(seconds=args.seconds + 1, base=base)
        children.append(process(read, args.dsn, statement, results))
    for child in children:
        child.start()
    deadline = time.monotonic() + args.seconds + 60
    for child in children:
        child.join(max(0, deadline - time.monotonic()))
        if child.exitcode != 0:
            print(f"could not run: a client ended with {child.exitcode}", file=sys.stderr)
            return 2

    good = True
    for number in range(args.readers):
        last, seen, looks = results.get()
        cursor.execute("SELECT count(*) FROM es_read_all(%s, 2147483647) WHERE position <= %s",
                       (base, last))
        there = cursor.fetchone()[0]
        right = seen == there and looks > 0 and there > 0
        good = good and right
        print(f"reader {number}: {'ok' if right else 'FAILED'}: {seen:,} events counted in"
              f" {looks:,} looks, {there:,} in the log, {there - seen:,} lost")
    print("PASS" if good else "FAIL")
    return 0 if good else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--dsn", required=True)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--writers", type=int, default=max(2, os.cpu_count() - 1))
    parser.add_argument("--readers", type=int, default=1)
    args = parser.parse_args()
    children = []
    try:
        return storm(args, children)
    except (psycopg2.Error, KeyboardInterrupt) as problem:
        print(f"could not run: {problem}", file=sys.stderr)
        return 2
    finally:
        for child in children:
            if child.is_alive():
                child.kill()


if __name__ == "__main__":
    sys.exit(main())
