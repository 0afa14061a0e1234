"""The few calls of PostgreSQL's C client library that some cases need.

They are what every driver does: a prepared statement whose parameters travel as
text beside it, and COPY from a buffer.  psql and pgbench can do neither with a
thousand rows a call.
"""

import ctypes
import ctypes.util

COMMAND_OK, TUPLES_OK, COPY_IN = 1, 2, 4                # ExecStatusType

pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
CALLS = {
    'PQconnectdb': (pointer, [text]),
    'PQstatus': (number, [pointer]),
    'PQfinish': (None, [pointer]),
    'PQerrorMessage': (text, [pointer]),
    'PQbackendPID': (number, [pointer]),
    'PQexec': (pointer, [pointer, text]),
    'PQprepare': (pointer, [pointer, text, text, number, pointer]),
    'PQexecPrepared': (pointer, [pointer, text, number, pointer, pointer, pointer, number]),
    'PQresultStatus': (number, [pointer]),
    'PQclear': (None, [pointer]),
    'PQntuples': (number, [pointer]),
    'PQgetvalue': (text, [pointer, number, number]),
    'PQputCopyData': (number, [pointer, text, number]),
    'PQputCopyEnd': (number, [pointer, text]),
    'PQgetResult': (pointer, [pointer]),
}


class Error(Exception):
    pass


class Connection:
    """A connection; every string is bytes."""

    def __init__(self, libdir, conninfo):
        try:
            self.library = ctypes.CDLL(f'{libdir}/libpq.so.5')
        except OSError:
            self.library = ctypes.CDLL(ctypes.util.find_library('pq') or 'libpq.so.5')
        # What only looks at a result does not let other threads in: that would cost more than the look.
        self.looks = ctypes.PyDLL(None, handle=self.library._handle)
        for name, (result, arguments) in CALLS.items():
            for library in (self.library, self.looks):
                call = getattr(library, name)
                call.restype, call.argtypes = result, arguments
        self.connection = self.library.PQconnectdb(conninfo)
        if self.library.PQstatus(self.connection):
            self.fail()

    def fail(self):
        raise Error(self.library.PQerrorMessage(self.connection).decode(errors='replace'))

    def expect(self, result, *statuses):
        got = self.library.PQresultStatus(result)
        self.library.PQclear(result)
        if got not in statuses:
            self.fail()

    def close(self):
        self.library.PQfinish(self.connection)

    def pid(self):
        """The process that serves the connection."""
        return self.library.PQbackendPID(self.connection)

    def prepare(self, name, statement, types=()):
        """types: of the parameters, as OIDs; the server finds out what is not said."""
        oids = (ctypes.c_uint * len(types))(*types)
        self.expect(self.library.PQprepare(self.connection, name, statement, len(types), oids), COMMAND_OK)

    def query(self, name, parameters):
        """Run a prepared statement and take its whole result; the first value of it."""
        values = (text * len(parameters))(*parameters)
        result = self.library.PQexecPrepared(self.connection, name, len(parameters), values, None, None, 0)
        value = self.library.PQgetvalue(result, 0, 0) if self.library.PQntuples(result) > 0 else None
        self.expect(result, TUPLES_OK, COMMAND_OK)
        return value

    def column(self, name, parameters):
        """The same; the first column of it."""
        values = (text * len(parameters))(*parameters)
        result = self.library.PQexecPrepared(self.connection, name, len(parameters), values, None, None, 0)
        column = [self.looks.PQgetvalue(result, row, 0) for row in range(self.looks.PQntuples(result))]
        self.expect(result, TUPLES_OK, COMMAND_OK)
        return column

    def copy(self, statement, rows):
        """COPY … FROM STDIN of rows in text format."""
        self.expect(self.library.PQexec(self.connection, statement), COPY_IN)
        if self.library.PQputCopyData(self.connection, rows, len(rows)) != 1:
            self.fail()
        if self.library.PQputCopyEnd(self.connection, None) != 1:
            self.fail()
        self.expect(self.library.PQgetResult(self.connection), COMMAND_OK)
        while result := self.library.PQgetResult(self.connection):
            self.library.PQclear(result)
