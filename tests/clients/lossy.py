#!/usr/bin/python3
"""A bad network between a client and its server, for the tests.

    lossy.py LISTEN TARGET request|answer

Both are paths of Unix sockets.  Passes on what comes in either direction, but for the first
call of es_append: its request is lost, or, when the server has committed and answered, its
answer; and the connection with it.  The client is told the same in both cases: nothing.
Says "lost" when it has done so, and is a good network from then on.
"""
import asyncio
import sys


class Network:
    def __init__(self, target, lose):
        self.target = target
        self.lose = lose            # None: no longer

    def has_lost(self):
        self.lose = None
        print("lost", flush=True)

    async def connect(self, client_reader, client_writer):
        server_reader, server_writer = await asyncio.open_unix_connection(self.target)
        connection = Connection(self)
        pumps = [
            asyncio.ensure_future(connection.requests(client_reader, server_writer)),
            asyncio.ensure_future(connection.answers(server_reader, client_writer))]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            pump.cancel()
        for writer in (client_writer, server_writer):
            writer.close()


class Connection:
    def __init__(self, network):
        self.network = network
        self.appending = False      # an es_append has been passed on

    async def requests(self, reader, writer):
        while data := await reader.read(65536):
            if b"es_append(" in data and self.network.lose == "request":
                self.network.has_lost()
                return
            self.appending |= b"es_append(" in data
            writer.write(data)
            await writer.drain()

    async def answers(self, reader, writer):
        answered = False
        try:
            while True:
                # A message: type, length of what follows with the length itself.
                header = await reader.readexactly(5)
                body = await reader.readexactly(int.from_bytes(header[1:], "big") - 4)
                if self.appending and self.network.lose == "answer":
                    # From the first row of the answer on, until the server is ready for the
                    # next query: by then it has committed.
                    answered |= header[:1] in b"DC"
                    if answered and header[:1] == b"Z":
                        self.network.has_lost()
                        return
                if not answered:
                    writer.write(header + body)
                    await writer.drain()
        except asyncio.IncompleteReadError:
            return


async def main():
    listen, target, lose = sys.argv[1:]
    server = await asyncio.start_unix_server(Network(target, lose).connect, listen)
    await server.serve_forever()


asyncio.run(main())
