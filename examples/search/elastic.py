"""Elasticsearch and OpenSearch: an index with external versions, an alias for the name.

The engine keeps the later version by itself: version_type external_gte. Of a document that was
deleted it remembers the version for index.gc_deletes, which has to be longer than a feeder can
sleep between reading the log and writing; events that come again later are no danger, for the
feeder reads the log anew.
"""

import json

from engine import NAME, Engine, Gone, Unavailable

INDEX = {
    'settings': {'index': {'gc_deletes': '1h'}},
    'mappings': {
        'dynamic': 'strict',
        'properties': {
            'name': {'type': 'text'},
            'department': {'type': 'text', 'fields': {'exact': {'type': 'keyword', 'ignore_above': 256}}},
            'description': {'type': 'text'},
            'price_cents': {'type': 'long'},
        },
    },
}


class Elastic(Engine):
    def call(self, method, path, body=None, missing=None):
        """The answer; `missing` if there is no such thing."""
        status, answer = self.request(method, path, body)
        if status == 404:
            return missing
        if status >= 400:
            raise RuntimeError(f'{method} {path}: {status} {answer}')
        return answer

    def create(self, index):
        status, answer = self.request('PUT', f'/{index}', INDEX)
        if status >= 400 and 'resource_already_exists_exception' not in str(answer):
            raise RuntimeError(f'PUT /{index}: {status} {answer}')

    def write(self, index, documents):
        if not documents:
            return {}
        lines = []
        for key, version, fields in documents:
            target = {'_index': index, '_id': key, 'version': version, 'version_type': 'external_gte'}
            if fields is None:
                lines.append({'delete': target})
            else:
                lines += {'index': target}, fields
        body = ''.join(json.dumps(line) + '\n' for line in lines).encode()
        status, answer = self.request('POST', '/_bulk', body, 'application/x-ndjson')
        if status == 413 and len(documents) > 1:
            half = len(documents) // 2
            return {**self.write(index, documents[:half]), **self.write(index, documents[half:])}
        if status != 200:
            raise RuntimeError(f'POST /_bulk: {status} {answer}')

        # One answer a line, in order. All that were taken stay so if others have to come again.
        refused = {}
        for (key, _, _), item in zip(documents, answer['items'], strict=True):
            (action, result), = item.items()
            error = result.get('error', {})
            if result['status'] < 300 or result['status'] == 409:       # done, or something newer is there
                continue
            if result['status'] == 429 or result['status'] >= 500:
                raise Unavailable(f'{result["status"]} {error}')
            if error.get('type') == 'index_not_found_exception':
                raise Gone(index)
            if action == 'delete' and result['status'] == 404:          # it was not there; its version is remembered now
                continue
            refused[key] = f'{result["status"]} {error.get("type")}: {error.get("reason")}'
        return refused

    def serve(self, index):
        # So that it is not behind the one before in what it finds.
        self.call('POST', f'/{index}/_refresh')
        # All in one request: from one moment to the next.
        others = [name for name in self.call('GET', f'/_alias/{NAME}', missing={}) if name != index]
        self.call('POST', '/_aliases', {'actions': [
            *({'remove': {'index': name, 'alias': NAME}} for name in others),
            {'add': {'index': index, 'alias': NAME}}]})

    def serving(self):
        return next(iter(self.call('GET', f'/_alias/{NAME}', missing={})), None)

    def indexes(self):
        return [name for name in self.call('GET', f'/{NAME}_*/_alias', missing={}) if name[len(NAME) + 1:].isdigit()]

    def drop(self, index):
        self.call('DELETE', f'/{index}')

    def search(self, words, count):
        answer = self.call('POST', f'/{NAME}/_search', {
            'size': count,
            'query': {'multi_match': {
                'query': words, 'type': 'cross_fields', 'operator': 'and', 'fields': ['name^10', 'department^5', 'description']}}})
        return [{'key': hit['_id'], **hit['_source']} for hit in answer['hits']['hits']] if answer else []
