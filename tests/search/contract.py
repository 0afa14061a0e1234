#!/usr/bin/python3
"""What examples/search promises of a writer, tried on an engine.

  contract.py ENGINE                    each promise, "ok WHAT" or "not ok WHAT"
  contract.py ENGINE documents INDEX    all documents of an index: {key: fields and version}
"""

import json
import pathlib
import random
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / 'examples' / 'search'))

import engine
import search


def documents(target, index):
    """Read without the writer's help."""
    if type(target).__name__ == 'Elastic':
        status, answer = target.request('GET', f'/{index}/_documents')
        assert status == 200, answer
        return answer
    (count, columns, *rows), = target.request('GET', f'/d/select?table={index}&limit=-1&cache=no')[1][1]
    names = [name for name, _ in columns]
    records = [dict(zip(names, row)) for row in rows]
    assert count == [len(records)]
    return {record.pop('_key'): {name: value for name, value in record.items() if name not in ('_id', 'live')}
            for record in records if record['live']}


def product(name):
    return {'name': name, 'department': 'Test', 'description': f'This is {name}.', 'price_cents': 100}


def say(fine, what):
    print('ok' if fine else 'not ok', what)


def try_all(target):
    def there(index='products_9001'):
        return {key: (document['version'], document['name']) for key, document in documents(target, index).items()}

    index = 'products_9001'
    target.create(index)
    target.create(index)
    say(there() == {} and index in target.indexes(), 'made twice, there once')
    say(target.write(index, []) == {}, 'nothing to write')

    say(target.write(index, [('a', 3, product('three')), ('b', 1, product('one'))]) == {}, 'nothing refused')
    say(there() == {'a': (3, 'three'), 'b': (1, 'one')}, 'written')
    say(target.write(index, [('a', 2, product('two')), ('b', 2, product('two'))]) == {}, 'an older version is not an error')
    say(there() == {'a': (3, 'three'), 'b': (2, 'two')}, 'and overwrites nothing')
    target.write(index, [('a', 3, product('three'))])
    say(there()['a'] == (3, 'three'), 'the same version again')

    target.write(index, [('a', 2, None)])
    say(there()['a'] == (3, 'three'), 'an older deletion removes nothing')
    target.write(index, [('a', 5, None), ('c', 7, None), ('b', 3, product('three'))])
    say(there() == {'b': (3, 'three')}, 'a deletion, also of what was never there')
    target.write(index, [('a', 4, product('four')), ('c', 6, product('six'))])
    target.write(index, [('a', 5, None)])
    say(there() == {'b': (3, 'three')}, 'an older version does not bring it back')
    target.write(index, [('a', 6, product('six'))])
    say(there() == {'a': (6, 'six'), 'b': (3, 'three')}, 'a newer one does')

    odd = ['Ünï-1', 'quo"te\'', 'back\\slash', 'a b', '%41', '<&>', '鍵', '9' * 255, '{"_key"}']
    target.write(index, [(key, 1 + n % 3, product(key)) for n, key in enumerate(odd)])
    say(all(there().get(key) == (1 + n % 3, key) for n, key in enumerate(odd)), 'keys and texts of every kind')
    target.write(index, [('money', 1, {**product('dear'), 'price_cents': 2 ** 63 - 1}), ('debt', 1, {**product(''), 'price_cents': -2 ** 63})])
    say(documents(target, index)['money']['price_cents'] == 2 ** 63 - 1 and documents(target, index)['debt']['price_cents'] == -2 ** 63,
        'all of a bigint')

    # Several writers, each in an order of its own: the greatest version stays.
    last = 120
    def write_in_disorder(seed):
        versions = list(range(1, last + 1))
        random.Random(seed).shuffle(versions)
        for version in versions:
            target.write(index, [('race', version, product(f'v{version}') if version % 2 == 0 else None)])
    threads = [threading.Thread(target=write_in_disorder, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    say(there()['race'] == (last, f'v{last}'), 'of racing writers the latest version stays')

    try:
        target.write('products_9999', [('a', 1, product('lost'))])
        say(False, 'no such index: Gone')
    except engine.Gone:
        say('products_9999' not in target.indexes(), 'no such index: Gone')

    target.create('products_9002')
    say(target.serving() is None, 'none serves')
    target.serve(index)
    say(target.serving() == index and [found['key'] for found in target.search('Three', 9)] == ['b'], 'one serves')
    say(target.search('four', 9) == [], 'what was deleted is not found')
    target.serve('products_9002')
    say(target.serving() == 'products_9002' and target.search('three', 9) == [], 'then another')
    for words in 'three"', '(three', 'name:@three', ':', '*', "'", '\\':
        target.search(words, 9)
    say(True, 'whatever people type')
    target.serve('products_9002')
    target.drop(index)
    target.drop(index)
    say(target.indexes() == ['products_9002'], 'dropped twice, gone once')


# Where there is nobody.
def try_unavailable(kind):
    try:
        kind('http://127.0.0.1:1').write('products_1', [('a', 1, product('lost'))])
        say(False, 'nobody there: Unavailable')
    except engine.Unavailable:
        say(True, 'nobody there: Unavailable')


chosen = search.engine_at(sys.argv[1])
if len(sys.argv) > 2:
    print(json.dumps(documents(chosen, sys.argv[3])))
else:
    try_all(chosen)
    try_unavailable(type(chosen))
