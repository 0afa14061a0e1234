#!/usr/bin/python3
"""As much of Elasticsearch's and OpenSearch's HTTP as examples/search uses, in memory.

  bulk_server.py PORT

_bulk is strict: NDJSON with a newline at the end, its content type, known keys, and external
versions: an action is taken if its version is greater than or equal to what is there or was
deleted, else it is a conflict (409). An index is never made by writing to it.

For tests: GET /INDEX/_documents gives {id: document with version}; POST /_test may say
{"down": true}       answer everything else with 503
{"busy": n}          answer the next n actions with 429
{"forget": true}     forget the versions of deleted documents, as after gc_deletes
and answers how often each status was given by _bulk.
"""

import fnmatch
import http.server
import json
import sys
import threading

META = {'_index', '_id', 'version', 'version_type'}

lock = threading.Lock()
indexes = {}                            # name: {id: (version, document or None)}
aliases = {}                            # alias: set of indexes
control = {'down': False, 'busy': 0}
statuses = {}


def failure(status, kind, reason=''):
    return status, {'error': {'type': kind, 'reason': reason}, 'status': status}


def bulk(body):
    if not body.endswith(b'\n'):
        return failure(400, 'illegal_argument_exception', 'The bulk request must be terminated by a newline [\\n]')
    lines = iter(body.decode().split('\n')[:-1])
    items = []
    for line in lines:
        (action, meta), = json.loads(line).items()
        document = json.loads(next(lines)) if action != 'delete' else None
        if action not in ('index', 'delete') or set(meta) != META or meta['version_type'] != 'external_gte':
            return failure(400, 'illegal_argument_exception', line)
        status, answer = act(meta, document)
        statuses[str(status)] = statuses.get(str(status), 0) + 1
        items.append({action: {'_index': meta['_index'], '_id': meta['_id'], **answer, 'status': status}})
    return 200, {'took': 0, 'errors': any('error' in item for entry in items for item in entry.values()), 'items': items}


def act(meta, document):
    if control['busy'] > 0:
        control['busy'] -= 1
        return failure(429, 'es_rejected_execution_exception', 'busy')
    if meta['_index'] not in indexes:
        return failure(404, 'index_not_found_exception', f'no such index [{meta["_index"]}]')
    if document is not None and document.get('name') == 'Unmappable':
        return failure(400, 'document_parsing_exception', 'failed to parse')
    documents = indexes[meta['_index']]
    version, before = documents.get(meta['_id'], (-1, None))
    if meta['version'] < version:
        return failure(409, 'version_conflict_engine_exception', f'current version [{version}] is higher')
    documents[meta['_id']] = meta['version'], document
    if document is None:
        return (200, {'result': 'deleted'}) if before is not None else (404, {'result': 'not_found'})
    return (200, {'result': 'updated'}) if before is not None else (201, {'result': 'created'})


def change_aliases(actions):
    wanted = {alias: set(names) for alias, names in aliases.items()}
    for entry in actions:
        (action, what), = entry.items()
        if what['index'] not in indexes:
            return failure(404, 'index_not_found_exception', what['index'])
        names = wanted.setdefault(what['alias'], set())
        if action == 'add':
            names.add(what['index'])
        elif what['index'] in names:
            names.remove(what['index'])
        else:
            return failure(404, 'aliases_not_found_exception', what['alias'])
    aliases.clear()
    aliases.update({alias: names for alias, names in wanted.items() if names})
    return 200, {'acknowledged': True}


def search(name, body):
    names = aliases.get(name) or {name} & set(indexes)
    if not names:
        return failure(404, 'index_not_found_exception', name)
    asked = body['query']['multi_match']
    fields = [field.split('^')[0] for field in asked['fields']]
    hits = []
    for index in names:
        for key, (_, document) in indexes[index].items():
            words = ' '.join(document[field] for field in fields).lower().split() if document else ()
            if all(word in words for word in asked['query'].lower().split()):
                hits.append({'_index': index, '_id': key, '_source': document})
    return 200, {'hits': {'total': {'value': len(hits), 'relation': 'eq'}, 'hits': hits[:body['size']]}}


def answer(method, path, content_type, body):
    parts = path.strip('/').split('/')
    if path == '/_test':
        if body:
            wishes = json.loads(body)
            if wishes.pop('forget', False):
                for documents in indexes.values():
                    for key in [key for key, (_, document) in documents.items() if document is None]:
                        del documents[key]
            control.update(wishes)
        return 200, statuses
    if parts[-1] == '_documents':
        return 200, {key: {**document, 'version': version}
                     for key, (version, document) in indexes[parts[0]].items() if document is not None}
    if control['down']:
        return failure(503, 'cluster_block_exception')
    if path == '/_bulk':
        return bulk(body) if content_type == 'application/x-ndjson' else failure(406, 'media_type_header_exception')
    if path == '/_aliases':
        return change_aliases(json.loads(body)['actions'])
    if parts[0] == '_alias':
        names = aliases.get(parts[1], ())
        return (200, {name: {'aliases': {parts[1]: {}}} for name in names}) if names else failure(404, 'alias_missing')
    if parts[-1] == '_alias':
        return 200, {name: {'aliases': {}} for name in fnmatch.filter(indexes, parts[0])}
    if parts[-1] == '_search':
        return search(parts[0], json.loads(body))
    if method == 'PUT':
        if parts[0] in indexes:
            return failure(400, 'resource_already_exists_exception', parts[0])
        indexes[parts[0]] = {}
        return 200, {'acknowledged': True}
    if parts[0] not in indexes:
        return failure(404, 'index_not_found_exception', parts[0])
    if method == 'DELETE':
        del indexes[parts[0]]
        for names in aliases.values():
            names.discard(parts[0])
        return 200, {'acknowledged': True}
    if parts[-1] == '_refresh':
        return 200, {}
    return failure(400, 'illegal_argument_exception', path)


class Handler(http.server.BaseHTTPRequestHandler):
    wbufsize = -1                       # head and body in one packet, else the second waits for an acknowledgement

    def handle_any(self):
        body = self.rfile.read(int(self.headers.get('Content-Length') or 0))
        try:
            with lock:
                status, result = answer(self.command, self.path, self.headers.get('Content-Type'), body)
        except Exception as error:
            status, result = failure(400, 'test_server_exception', repr(error))
        text = json.dumps(result).encode()
        self.send_response(status)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_PUT = do_POST = do_DELETE = handle_any

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), Handler).serve_forever()
