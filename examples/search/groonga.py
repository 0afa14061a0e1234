"""Groonga, over HTTP: a table an index, an alias for the name.

Groonga knows no versions of documents. The writer keeps one in each record, and loads on the
condition that what is there is not newer (`ifexists`), under the table's lock, so that a writer
who has slept through its lease cannot overwrite what was written since.

For the same reason a product that is gone leaves its key and version behind, with live = false
and no words: a record that no search finds, and that keeps an older version from coming back.

Crash: Groonga writes its files as the operating system likes. After a crash of its machine, or
of Groonga itself, rebuild the index.
"""

import urllib.parse

from engine import NAME, Engine, Gone, Unavailable

TYPES = {'name': 'ShortText', 'department': 'ShortText', 'description': 'Text', 'price_cents': 'Int64',
         'version': 'Int64', 'live': 'Bool'}
NOTHING = {'name': '', 'department': '', 'description': '', 'price_cents': 0, 'live': False}


class Refused(RuntimeError):
    """The command is wrong, or there is no such thing."""


class Groonga(Engine):
    def command(self, command, body=None, /, **arguments):
        query = urllib.parse.urlencode(arguments)
        status, answer = self.request('GET' if body is None else 'POST', f'/d/{command}?{query}', body)
        if not isinstance(answer, list):
            raise Unavailable(f'{status} {answer}')
        if status >= 400:
            raise Refused(answer[0][3])
        return answer[1]

    def exists(self, name):
        return self.command('object_exist', name=name)

    def make(self, thing, command, **arguments):
        """Unless it is there, or comes to be there just now."""
        if self.exists(thing):
            return
        try:
            self.command(command, **arguments)
        except Refused:
            if not self.exists(thing):
                raise

    def make_table(self, name, **arguments):
        self.make(name, 'table_create', name=name, key_type='ShortText', **arguments)

    def make_column(self, table, name, **arguments):
        self.make(f'{table}.{name}', 'column_create', table=table, name=name, **arguments)

    def create(self, index):
        self.make_table(f'{NAME}_alias', flags='TABLE_HASH_KEY')
        self.make_column(f'{NAME}_alias', 'real_name', type='ShortText')
        self.command('config_set', key='alias.column', value=f'{NAME}_alias.real_name')

        self.make_table(index, flags='TABLE_HASH_KEY')
        for column, kind in TYPES.items():
            self.make_column(index, column, type=kind)
        # Words without regard to case; no inflections.
        self.make_table(f'{index}_words', flags='TABLE_PAT_KEY', default_tokenizer='TokenBigram', normalizer='NormalizerAuto')
        self.make_column(f'{index}_words', 'product', flags='COLUMN_INDEX|WITH_POSITION|WITH_SECTION', type=index,
                         source='name,department,description')

    def write(self, index, documents):
        # The condition cannot name the version that comes, so there is a load for each version.
        by_version = {}
        for key, version, fields in documents:
            record = {'_key': key, **(NOTHING if fields is None else {**fields, 'live': True}), 'version': version}
            by_version.setdefault(version, []).append(record)
        refused = {}
        for version, records in by_version.items():
            refused.update(self.load(index, version, records))
        return refused

    def load(self, index, version, records):
        try:
            self.command('load', records, table=index, ifexists=f'version <= {version}', lock_table='yes')
            return {}
        except Refused as error:
            if not self.exists(index):
                raise Gone(index) from error
            if len(records) == 1:
                return {records[0]['_key']: str(error)}
        refused = {}
        for record in records:
            refused.update(self.load(index, version, [record]))
        return refused

    def serve(self, index):
        self.command('load', [{'_key': NAME, 'real_name': index}], table=f'{NAME}_alias')

    def serving(self):
        if not self.exists(f'{NAME}_alias'):
            return None
        (_, _, *rows), = self.command('select', table=f'{NAME}_alias', filter=f'_key == "{NAME}"', output_columns='real_name', cache='no')
        return rows[0][0] if rows else None

    def indexes(self):
        # The first row says what the columns are.
        names = [row[1] for row in self.command('table_list')[1:]]
        return [name for name in names if name[len(NAME) + 1:].isdigit() and name.startswith(f'{NAME}_')]

    def drop(self, index):
        # Groonga does not wait for searches that still read the table; it may fall over.
        for table in f'{index}_words', index:
            if self.exists(table):
                self.command('table_remove', name=table)

    def search(self, words, count):
        # What people type is words, not commands: each in quotes, and no other syntax. (`name:=x` would assign.)
        query = ' '.join('"' + word.replace('\\', r'\\').replace('"', r'\"') + '"' for word in words.split())
        (_, columns, *rows), = self.command(
            'select', table=NAME, match_columns='name * 10 || department * 5 || description', query=query, query_flags='NONE',
            filter='live == true', output_columns='_key,name,department,description,price_cents',
            sort_keys='-_score,name,_key', limit=count)
        names = [column.lstrip('_') for column, _ in columns]
        return [dict(zip(names, row)) for row in rows]
