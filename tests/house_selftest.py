"""The self-test of tests/house: breaks each rule in a small tree and expects the complaint."""
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

# All rooms, and no complaint.
GOOD_TREE = {
    'include/postgres.h': '#define PG_VERSION_NUM 150000\n',
    'include/fmgr.h': """
#define PG_FUNCTION_INFO_V1(f) int f(void); const int *pg_finfo_##f(void); \
    const int *pg_finfo_##f(void) { static int one = 1; return &one; }
""",
    'include/utils/guc.h': 'extern void DefineCustomBoolVariable(const char *name, int *value);\n',
    'src/compat/compat.h': '#include "postgres.h"\n#if PG_VERSION_NUM >= 160000\n#endif\n',
    'src/core/settings.h': 'extern int es_guc_fast;\nextern int es_guc_slow;\nextern void es_settings_init(void);\n',
    'src/core/settings.c': """
#include "postgres.h"

#include <signal.h>

#include "utils/guc.h"

#include "core/settings.h"
int es_guc_fast = 1;
int es_guc_slow = 0;
void es_settings_init(void)
{
    DefineCustomBoolVariable("eventstore.fast", &es_guc_fast);
    DefineCustomBoolVariable("eventstore.slow", &es_guc_slow);
}
""",
    'src/log/head.h': 'extern int es_head_read(void);\n',
    'src/log/head.c': """
#include "postgres.h"
#include "core/settings.h"
#include "log/head.h"
int es_head_read(void) { return es_guc_fast; }
""",
    'src/log/head.sql': "CREATE FUNCTION es_fetch(n int DEFAULT f(1)) AS 'MODULE_PATHNAME', 'es_fetch';\n"
                        "COMMENT ON FUNCTION es_fetch(int) IS 'Fetches';\n"
                        "CREATE FUNCTION eventstore.once();\nDROP FUNCTION eventstore.once();\n",
    'src/streams/event.h': 'typedef int EsEvent;\n',
    'src/read/read.h': 'extern int es_read(void);\n',
    'src/read/read.c': """
#include "postgres.h"
#include "log/head.h"
#include "read/read.h"
/* The strings and comments may say sprintf(), PG_VERSION_NUM and es_append_back. */
int es_read(void) { return es_head_read() + sizeof("system(1)"); }
""",
    'src/projections/run.h': 'extern int es_run(int (*step) (void));\n',
    'src/projections/run.c': """
#include "postgres.h"
#include "projections/run.h"
#include "read/read.h"
int es_run(int (*step) (void)) { return es_read() + step(); }
""",
    'src/subscriptions/fetch.c': """
#include "postgres.h"
#include "fmgr.h"
#include "compat/compat.h"
#include "log/head.h"
#include "streams/event.h"
PG_FUNCTION_INFO_V1(es_fetch);
int es_fetch(void) { EsEvent head = es_head_read(); return head; }
""",
    'src/append/append.h': 'extern int es_append(void);\nextern int es_append_back(void);\n',
    'src/append/append.c': """
#include "postgres.h"
#include "append/append.h"
#include "core/settings.h"
#include "projections/run.h"
int es_append_back(void) { return es_guc_slow; }
int es_append(void) { return es_run(es_append_back); }
""",
    'src/store/check.c': '#include "postgres.h"\n',
    'src/worker/worker.h': 'extern const char *es_worker_name(void);\nextern void es_worker_main(void);\n',
    'src/worker/worker.c': """
#include "postgres.h"
#include "worker/worker.h"
void es_worker_main(void) { }
const char *es_worker_name(void) { return "es_worker_main"; }
""",
    'src/eventstore.c': """
#include "postgres.h"
#include "append/append.h"
#include "core/settings.h"
#include "worker/worker.h"
const int *Pg_magic_func(void);
const int *Pg_magic_func(void) { return &es_guc_fast; }
void _PG_init(void);
void _PG_init(void) { es_settings_init(); es_append(); es_append_back(); es_worker_name(); }
""",
}

# What is appended to which file, and the complaint that must come.
BROKEN_TREES = [
    ({'src/log/head.h': '#include "streams/event.h"\n'},
     'src/log/head.h:2 includes streams/event.h: an arrow up, from log to streams'),
    ({'src/top.h': 'typedef int EsTop;\n', 'src/read/read.h': '#include "top.h"\n'},
     'src/read/read.h:2 includes top.h: an arrow up, from read to the top floor'),
    ({'src/read/read.c': 'int es_append(void);\nint es_up(void) { return es_append(); }\n'},
     'src/read/read.c:6 uses es_append of append/append.c: an arrow up, from read to append'),
    ({'src/log/head.c': 'extern int es_read_count;\nint es_up(void) { return es_read_count; }\n',
      'src/read/read.c': 'int es_read_count;\n'},
     'src/log/head.c:5 uses es_read_count of read/read.c: an arrow up, from log to read'),
    ({'src/projections/run.c': '#include "subscriptions/lease.h"\n',
      'src/subscriptions/lease.h': 'typedef int EsLease;\n'},
     'src/projections/run.c:5 includes subscriptions/lease.h: an arrow between rooms of one floor, '
     'projections and subscriptions'),
    ({'src/append/append.c': 'const char *es_worker_name(void);\nint es_aside(void) { return *es_worker_name(); }\n'},
     'src/append/append.c:7 uses es_worker_name of worker/worker.c: an arrow between rooms of one floor, '
     'append and worker'),
    ({'src/attic/old.h': 'typedef int EsOld;\n'},
     'src/attic: a room without a floor'),
    ({'src/log/a.h': '#include "log/b.h"\n', 'src/log/b.h': '#include "log/c.h"\n#include "log/d.h"\n',
      'src/log/c.h': '#include "log/a.h"\n', 'src/log/d.h': '#include "log/c.h"\n'},
     'src/log/a: a circle of 4 files, the shortest in it: log/a -> log/b -> log/c -> log/a\n'
     '    src/log/a.h:1 includes log/b.h\n    src/log/b.h:1 includes log/c.h\n    src/log/c.h:1 includes log/a.h\n'
     '    all: log/a log/b log/c log/d'),
    ({'src/log/seal.c': '#include "log/head.h"\nint es_seal(void) { return 1; }\n',
      'src/log/head.h': 'int es_seal(void);\n',
      'src/log/head.c': 'int es_head_sealed(void) { return es_seal(); }\n'},
     'src/log/head: a circle of 2 files, the shortest in it: log/head -> log/seal -> log/head\n'
     '    src/log/head.c:5 uses es_seal of log/seal.c\n'
     '    src/log/seal.c:1 includes log/head.h, which declares its es_seal'),
    ({'src/read/lonely.h': 'typedef int EsLonely;\n'},
     'src/read/lonely.h:1: a header that nobody includes'),
    ({'src/read/read.c': 'int es_mine(void) { return 1; }\n'},
     'src/read/read.c:6: es_mine is global, but no other file uses it'),
    ({'src/read/read.c': 'int es_mine;\n'},
     'src/read/read.c:6: es_mine is global, but no other file uses it'),
    ({'src/worker/worker.c': 'void es_idle_main(void) { }\n'},
     'src/worker/worker.c:5: es_idle_main is global, but no other file uses it'),
    ({'src/subscriptions/fetch.c': 'PG_FUNCTION_INFO_V1(es_ghost);\nint es_ghost(void) { return 1; }\n'},
     'src/subscriptions/fetch.c:8: es_ghost is a function for SQL that no .sql names'),
    ({'src/log/head.sql': "CREATE FUNCTION eventstore.status() AS 'MODULE_PATHNAME', 'es_fetch';\n"},
     'src/log/head.sql:5: eventstore.status is called es_fetch in C'),
    ({'src/read/read.h': 'extern int *es_gone(int n,\n                    int m);\n'},
     'src/read/read.h:2: es_gone is declared, but no file defines it'),
    ({'src/read/read.h': 'extern int es_gone[3];\n'},
     'src/read/read.h:2: es_gone is declared, but no file defines it'),
    ({'src/read/read.h': 'extern int es_head_read(void);\n'},
     'src/read/read.h:2: es_head_read of log/head.c is declared, not in a header of its room'),
    ({'src/read/late.c': 'extern int es_read(void);\n'},
     'src/read/late.c:1: es_read of read/read.c is declared, not in a header of its room'),
    ({'src/log/seal.h': '\nextern int es_head_read(void);\n'},
     'src/log/seal.h:2: es_head_read is declared at src/log/head.h:1, too'),
    ({'src/read/read.c': '#if PG_VERSION_NUM < 1\n#endif\n'},
     'src/read/read.c:6: PG_VERSION_NUM outside of compat/'),
    ({'src/read/read.c': '\n' * 600},
     'src/read/read.c:605: 605 lines, more than 600'),
    ({'src/README.md': '## Lock order\n| `log` | a |\n| `stream` | b |\n',
      'src/read/late.c': '/*\n * Lock order: stream,\n * log.\n */\n#include "postgres.h"\n'},
     'src/read/late.c:2: not the lock order of src/README.md: stream, log'),
    ({'src/README.md': '## Lock order\n| `log` | a |\n',
      'src/read/late.c': '/*\n * Lock order: log, row.\n */\n#include "postgres.h"\n'},
     'src/read/late.c:2: "row" is no lock of src/README.md'),
    ({'src/read/late.c': '#include "fmgr.h"\n'},
     'src/read/late.c:1: the first include of a .c is "postgres.h"'),
    ({'src/read/late.c': '#include "postgres.h"\n#include "utils/guc.h"\n\n#include "fmgr.h"\n'},
     'src/read/late.c:4: fmgr.h is included after utils/guc.h'),
    ({'src/read/late.c': '#include "postgres.h"\n#include "read/read.h"\n#include "log/head.h"\n'},
     'src/read/late.c:3: log/head.h is included after read/read.h'),
    ({'src/read/late.c': '#include "postgres.h"\n#include "compat/compat.h"\n#include "fmgr.h"\n'},
     'src/read/late.c:3: fmgr.h is included after compat/compat.h'),
    ({'src/read/late.c': '#include "postgres.h"\n#include "fmgr.h"\n#include <errno.h>\n'},
     'src/read/late.c:3: errno.h is included after fmgr.h'),
    ({'src/read/late.c': '#include "postgres.h"\n#include "fmgr.h"\n#include "fmgr.h"\n'},
     'src/read/late.c:3: fmgr.h is included after fmgr.h'),
    ({'src/read/read.h': '#include "utils/guc.h"\n#include "log/head.h"\n'},
     'src/read/read.h:3: log/head.h is included after utils/guc.h'),
    ({'src/core/settings.c': 'char *es_guc_odd = "odd";\n'},
     'src/core/settings.c:15: es_guc_odd stands after es_guc_slow'),
    ({'src/core/settings.h': 'extern char *es_guc_odd;\n'},
     'src/core/settings.h:4: es_guc_odd stands after es_guc_slow'),
    ({'src/core/settings.c': 'void es_more(void) { DefineCustomBoolVariable("eventstore.odd", 0); }\n'},
     'src/core/settings.c:15: eventstore.odd stands after eventstore.slow'),
    ({'src/read/read.c': 'char *strcpy(char *, const char *);\n'},
     'src/read/read.c:6: a call of strcpy'),
    ({'src/log/head.sql': 'CREATE OR REPLACE FUNCTION es_fetch(\n    t text);\n'},
     'src/log/head.sql:5: es_fetch has no COMMENT ON'),
    ({'Makefile': 'OBJS =\nSQL_PIECES =\n'},
     'Makefile:1: OBJS lacks src/read/read.o'),
    ({'Makefile': 'OBJS = \\\n\tsrc/gone.o\nSQL_PIECES =\n'},
     'Makefile:1: OBJS names src/gone.o, which is not there'),
    ({'Makefile': 'OBJS = src/gone.o \\\n\tsrc/gone.o\nSQL_PIECES =\n'},
     'Makefile:1: OBJS names src/gone.o 2 times'),
    ({'Makefile': 'OBJS =\nSQL_PIECES =\n'},
     'Makefile:2: SQL_PIECES lacks src/log/head.sql'),
    ({'Makefile': 'REGRESS = append\n'},
     'Makefile:1: REGRESS names append, which is not there'),
    ({'sql/append.sql': 'SELECT 1;\n'},
     'Makefile: REGRESS lacks append'),
]


def build_small_tree(root, files):
    """Appends to the files and compiles the .c among them; the Makefile names all unless it is one of them."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open('w' if name == 'Makefile' else 'a') as file:
            file.write(text)
    for path in (root / name for name in files):
        if path.suffix == '.c':
            subprocess.run([os.environ.get('CC', 'cc'), '-w', '-fPIC', '-I', root / 'include', '-I', root / 'src',
                            '-c', path, '-o', path.with_suffix('.o')], check=True)
    if 'Makefile' not in files:
        made = ' \\\n\t'.join(str(path.relative_to(root).with_suffix('.o')) for path in sorted(root.glob('src/**/*.c')))
        (root / 'Makefile').write_text(f'OBJS = \\\n\t{made}\n\nSQL_PIECES = src/log/head.sql\n')
    for path in root.glob('src/**/*.o'):
        path.touch()


def run(house):
    """`house` is the module of tests/house.  The status is 1 if a complaint did not come."""
    wrong = 0

    def expect(expected, complaints):
        nonlocal wrong
        if not any(complaint.startswith(expected) for complaint in complaints):
            wrong += 1
            print(f'expected: {expected}', *(complaints or ['no complaint']), sep='\n  got: ')

    with tempfile.TemporaryDirectory() as folder:
        good, broken = Path(folder) / 'good', Path(folder) / 'broken'
        build_small_tree(good, {name: text.lstrip() for name, text in GOOD_TREE.items()})
        tree, complaints = house.check(good)
        expect('none', complaints or ['none'])
        expect(str(sorted(house.FLOOR)), [str(sorted(tree.rooms()))])

        for files, expected in BROKEN_TREES:
            shutil.copytree(good, broken)
            build_small_tree(broken, files)
            expect(expected, house.check(broken)[1])
            shutil.rmtree(broken)

        # With an old object, and with none, there is no verdict.
        made = good / 'src/read/read.o'
        os.utime(made, (0, 0))
        for reason in ('is older than the source', 'is missing'):
            try:
                expect(f'{made} {reason}', house.check(good)[1])
            except house.CannotCheck as error:
                expect(f'{made} {reason}', [str(error)])
            made.unlink(missing_ok=True)

    print(f'{len(BROKEN_TREES)} broken trees, {wrong} complaints that did not come')
    return 1 if wrong else 0
