#!/usr/bin/python3
"""Product search in an engine outside the database.

  search.py [OPTION...] feed              feed the index that serves, for ever; the first time, make it
  search.py [OPTION...] rebuild [--anew]  build an index beside it, let it serve, then feed it for ever;
                                          goes on with one that was begun, unless --anew
  search.py [OPTION...] search WORD...    ask

Any number of feeders may run. Each may be ended or killed at any time.
"""

import argparse
import sys

import psycopg2

from elastic import Elastic
from engine import Gone, Unavailable
from feeder import Feeder
from groonga import Groonga
from log import Log, Replaced

ENGINES = {'groonga': Groonga, 'elasticsearch': Elastic, 'opensearch': Elastic}


def engine_at(address):
    """KIND:URL"""
    kind, _, url = address.partition(':')
    return ENGINES[kind](url)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--engine', type=engine_at, default='groonga:http://127.0.0.1:10041', help='groonga:, elasticsearch: or opensearch:URL')
    parser.add_argument('--database', default='', help='connection string; PGHOST and so on count, too')
    parser.add_argument('--partitions', type=int, default=4, help='most feeders that share the work, for indexes to be made')
    parser.add_argument('--ack-timeout', default='30 s', help='when a feeder is taken for dead, for indexes to be made')
    parser.add_argument('--batch', type=int, default=200, help='most events at once')
    commands = parser.add_subparsers(dest='command', required=True)
    commands.add_parser('feed')
    commands.add_parser('rebuild').add_argument('--anew', action='store_true')
    words = commands.add_parser('search')
    words.add_argument('word', nargs='+')
    words.add_argument('--count', type=int, default=10)
    options = parser.parse_args()

    if options.command == 'search':
        for product in options.engine.search(' '.join(options.word), options.count):
            print(f'{product["key"]:12} {product["price_cents"] / 100:8.2f}  {product["name"]}')
        return
    feeder = Feeder(Log(options.database), options.engine, options.partitions, options.ack_timeout, options.batch)
    feeder.stop_on_signals()
    try:
        if options.command == 'feed':
            feeder.follow()
        else:
            feeder.rebuild(options.anew)
    except Replaced:
        sys.exit('somebody else has begun anew')
    except Gone as index:
        sys.exit(f'{index} is not there any more: rebuild --anew')
    except psycopg2.Error as error:     # what waiting does not mend: a right is missing, the log is another one
        sys.exit(f'{error.pgcode}: {error}'.strip())


if __name__ == '__main__':
    try:
        main()
    except Unavailable as error:
        sys.exit(f'the engine is unavailable: {error}')
