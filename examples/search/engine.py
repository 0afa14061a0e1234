"""What the feeder asks of a search engine.

A *document* is (key, version, fields): the product's stream, the version of the event that it
tells of, and a dict; None in place of the dict says that there is no such product any more.

An *index* holds the documents of one generation; its name is NAME_1, NAME_2 and so on. Those who
search use NAME alone, which leads to one index at a time, and from one moment to the next to
another.

Of two documents with one key the later version stays, whichever comes first: that is the one
promise on which the feeder relies. Everything else may be done twice.
"""

import json
import urllib.error
import urllib.request

NAME = 'products'

# Fields and their types.
FIELDS = {'name': str, 'department': str, 'description': str, 'price_cents': int}


class Unavailable(Exception):
    """The engine is not there, or has too much to do: the same again, later."""


class Gone(Exception):
    """There is no such index."""


class Engine:
    """An engine at a URL. Every method may raise Unavailable."""

    timeout = 10                        # seconds for a request

    def __init__(self, url):
        self.url = url.rstrip('/')

    def create(self, index):
        """Make an empty index, unless it is there."""
        raise NotImplementedError

    def write(self, index, documents):
        """Store documents, each with another key; {key: reason} of those that the engine will
        never take. When it returns, the others are stored, or something newer is. Gone if there
        is no such index."""
        raise NotImplementedError

    def serve(self, index):
        """Let searches go to this index from now on."""
        raise NotImplementedError

    def serving(self):
        """The index that searches go to; None: there is none yet."""
        raise NotImplementedError

    def indexes(self):
        """The names of all indexes."""
        raise NotImplementedError

    def drop(self, index):
        """Remove an index, if it is there. No search may be going on in it."""
        raise NotImplementedError

    def search(self, words, count):
        """The products that have all the words, the best first: dicts of FIELDS, and key."""
        raise NotImplementedError

    def request(self, method, path, body=None, content_type='application/json'):
        """(status, answer) of a request; what is not JSON is returned as text."""
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=body, method=method)
        if body is not None:
            request.add_header('Content-Type', content_type)
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as answer:
                status, text = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                status, text = error.code, error.read()
        except Exception as error:      # refused, reset, out of time, cut off: http.client has many names for it
            raise Unavailable(str(error) or repr(error)) from error
        if status == 429 or status >= 500:
            raise Unavailable(f'{status} {text[:200].decode(errors="replace")}')
        try:
            return status, json.loads(text)
        except ValueError:
            return status, text.decode(errors='replace')
