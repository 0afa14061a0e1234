"""The log, as the feeder sees it: a subscription for each index, and the products' streams."""

import contextlib
import os
import socket

import psycopg2
import psycopg2.extensions
import psycopg2.extras

from engine import NAME

TYPES = ['ProductCreated', 'ProductUpdated', 'ProductPriceChanged', 'ProductDeleted']

UNDEFINED_OBJECT = '42704'
NOT_YOURS = '55000'

# Waits in Python, so that a signal's handler can run, and raise, while the server has not answered.
psycopg2.extensions.set_wait_callback(psycopg2.extras.wait_select)


class Replaced(Exception):
    """The subscription is gone: another index has taken this one's place."""


class LeaseLost(Exception):
    """The events are somebody else's by now."""


class Unreachable(Exception):
    """The database is not there, or has ended the connection."""


class Log:
    """The subscription `index`, as one consumer sees it.

    The consumer's name is used for one connection only. For an ack renews all that the consumer
    has, also what was fetched by a call whose answer was lost: under a new name it is let go, and
    comes again when its lease has expired.
    """

    def __init__(self, conninfo):
        self.conninfo = conninfo
        self.connection = None
        self.names = 0

    def connect(self):
        self.close()
        self.names += 1
        self.consumer = f'{socket.gethostname()}/{os.getpid()}/{self.names}'
        try:
            self.connection = psycopg2.connect(self.conninfo, application_name=f'feeder {self.consumer}')
        except psycopg2.OperationalError as error:
            raise Unreachable(str(error).strip()) from error
        self.connection.autocommit = True

    def close(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def ask(self, statement, *values):
        if self.connection is None:
            self.connect()
        try:
            with self.connection.cursor() as cursor:
                cursor.execute(statement, values)
                return cursor.fetchall()
        except psycopg2.Error as error:
            if error.pgcode == UNDEFINED_OBJECT:
                raise Replaced from error
            if error.pgcode == NOT_YOURS:
                raise LeaseLost(str(error).strip()) from error
            # A connection that was ended, by whomever, is 57P.., or has no code at all.
            if isinstance(error, (psycopg2.OperationalError, psycopg2.InterfaceError)) or self.connection.closed:
                self.close()
                raise Unreachable(str(error).strip()) from error
            raise

    def subscribe(self, index, partitions, ack_timeout):
        self.ask('SELECT es_create_subscription(%s, types => %s, partitions => %s, ack_timeout => %s, if_not_exists => true)',
                 index, TYPES, partitions, ack_timeout)

    def subscriptions(self):
        """Of this example, newest or not."""
        return [name for name, in self.ask('SELECT name FROM eventstore.subscriptions WHERE name ~ %s', f'^{NAME}_[0-9]+$')]

    def unsubscribe(self, index):
        try:
            self.ask('SELECT es_drop_subscription(%s)', index)
        except Replaced:
            pass

    @contextlib.contextmanager
    def alone(self):
        """One at a time makes and removes indexes. Whoever dies lets the next one in."""
        lock = f'examples/search/{NAME}'
        self.ask('SELECT pg_advisory_lock(hashtextextended(%s, 0))', lock)
        try:
            yield
        finally:
            if self.connection is not None:
                self.ask('SELECT pg_advisory_unlock(hashtextextended(%s, 0))', lock)

    def head(self):
        return self.ask('SELECT es_head()')[0][0]

    def checkpoint(self, index):
        rows = self.ask('SELECT checkpoint FROM eventstore.subscriptions WHERE name = %s', index)
        if not rows:
            raise Replaced
        return rows[0][0]

    def ack_timeout(self, index):
        """In seconds."""
        rows = self.ask('SELECT extract(epoch FROM ack_timeout)::float8 FROM eventstore.subscriptions WHERE name = %s', index)
        if not rows:
            raise Replaced
        return rows[0][0]

    def fetch(self, index, count, wait):
        """The next events: (position, stream, version) each."""
        return self.ask('SELECT position, stream, version FROM es_fetch(%s, %s, %s, %s)', index, self.consumer_name(), count, wait)

    def ack(self, index, positions):
        self.ask('SELECT es_ack(%s, %s, %s::bigint[])', index, self.consumer_name(), positions)

    def park(self, index, positions, reason):
        self.ask("SELECT es_nack(%s, %s, %s::bigint[], 'park', %s)", index, self.consumer_name(), positions, reason)

    def consumer_name(self):
        if self.connection is None:
            self.connect()
        return self.consumer

    def products(self, streams):
        """{stream: its events of TYPES in order, (version, type, data) each}."""
        events = {stream: [] for stream in streams}
        for stream, *event in self.ask(
                'SELECT e.stream, e.version, e.type, e.data'
                ' FROM unnest(%s::text[]) product, es_read_stream(product, types => %s) e'
                ' ORDER BY e.stream, e.version', list(events), TYPES):
            events[stream].append(event)
        return events
