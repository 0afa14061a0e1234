# eventstore: an event store inside PostgreSQL.
#
#   make            build the extension against the PostgreSQL of pg_config
#   make install    put it where that PostgreSQL finds it
#   make demo       set up, build, and show the main job on a private server
#   make test       set up, build, and run every test on private servers
#   make matrix     run every test on the PostgreSQL of each Debian
#   make bench      compare with a plain table; make torture: the long checker
#   make mutants    show that the tests fail when what they test is taken away

EXTENSION  = eventstore
EXTVERSION = $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" eventstore.control)

MODULE_big = eventstore
OBJS = \
	src/eventstore.o \
	src/append/call.o \
	src/append/condition.o \
	src/append/execute.o \
	src/append/idempotency.o \
	src/append/inline.o \
	src/append/json.o \
	src/append/tag_rows.o \
	src/append/uuid7.o \
	src/append/writer.o \
	src/core/args.o \
	src/core/catalog.o \
	src/core/digest.o \
	src/core/durable.o \
	src/core/lookup.o \
	src/core/name.o \
	src/core/name_set.o \
	src/core/numbers.o \
	src/core/role.o \
	src/core/settings.o \
	src/core/shmem.o \
	src/core/spi.o \
	src/core/subxact.o \
	src/core/table_cache.o \
	src/core/target.o \
	src/log/change.o \
	src/log/dictionary.o \
	src/log/guard.o \
	src/log/head.o \
	src/log/mark.o \
	src/log/positions.o \
	src/log/registry.o \
	src/log/seal.o \
	src/log/status.o \
	src/log/stream.o \
	src/log/tags.o \
	src/log/version.o \
	src/projections/aggregate.o \
	src/projections/call.o \
	src/projections/catchup.o \
	src/projections/changed.o \
	src/projections/code.o \
	src/projections/control.o \
	src/projections/dead_letters.o \
	src/projections/declare.o \
	src/projections/definition.o \
	src/projections/depend.o \
	src/projections/events.o \
	src/projections/failure.o \
	src/projections/figures.o \
	src/projections/progress.o \
	src/projections/retry.o \
	src/projections/state.o \
	src/projections/switch.o \
	src/projections/wait.o \
	src/read/ask.o \
	src/read/batch.o \
	src/read/cursor.o \
	src/read/filter.o \
	src/read/load.o \
	src/read/query.o \
	src/read/read.o \
	src/read/rows.o \
	src/store/reset.o \
	src/streams/gone.o \
	src/streams/lifecycle.o \
	src/streams/reducer.o \
	src/streams/removed.o \
	src/streams/retention.o \
	src/streams/scavenge.o \
	src/streams/snapshot.o \
	src/streams/upcast.o \
	src/streams/upcaster.o \
	src/streams/visible.o \
	src/subscriptions/ack.o \
	src/subscriptions/claim.o \
	src/subscriptions/commit.o \
	src/subscriptions/declare.o \
	src/subscriptions/fetch.o \
	src/subscriptions/held.o \
	src/subscriptions/nack.o \
	src/subscriptions/offer.o \
	src/subscriptions/partition.o \
	src/subscriptions/scan.o \
	src/subscriptions/subscription.o \
	src/worker/evict.o \
	src/worker/launcher.o \
	src/worker/pool.o \
	src/worker/scavenger.o \
	src/worker/scheduler.o \
	src/worker/session.o \
	src/worker/worker.o

# The install script is these pieces, in this order.
SQL_PIECES = \
	src/schema.sql \
	src/log/tables.sql \
	src/log/head.sql \
	src/read/read.sql \
	src/append/append.sql \
	src/log/views.sql \
	src/streams/tables.sql \
	src/streams/streams.sql \
	src/streams/views.sql \
	src/projections/tables.sql \
	src/projections/projections.sql \
	src/projections/views.sql \
	src/subscriptions/tables.sql \
	src/subscriptions/subscriptions.sql \
	src/subscriptions/views.sql \
	src/store/reset.sql \
	src/log/begin.sql \
	src/grants.sql

DATA_built = $(EXTENSION)--$(EXTVERSION).sql
PG_CPPFLAGS = -I$(srcdir)/src -DES_VERSION='"$(EXTVERSION)"'
PG_CFLAGS = -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers
EXTRA_CLEAN = $(EXTENSION)--$(EXTVERSION).sql

# clang is only needed for the bitcode that PostgreSQL's JIT could inline;
# nothing here would gain by it.
override with_llvm = no

PG_CONFIG ?= pg_config
# Nothing here yet on a fresh machine; `make demo` and `make test` install it.
PGXS := $(wildcard $(shell $(PG_CONFIG) --pgxs 2>/dev/null))
ifneq ($(PGXS),)
include $(PGXS)
else
all install:
	@echo "PostgreSQL's development files are missing: tests/install-deps demo" >&2; exit 1
endif

# PGXS tracks no dependencies: any header, or another version, rebuilds all.
$(OBJS): $(wildcard src/*.h src/*/*.h) eventstore.control

$(EXTENSION)--$(EXTVERSION).sql: $(SQL_PIECES) eventstore.control
	cat $(SQL_PIECES) > $@

# Each sets itself up and works in a private folder; see the scripts.
.PHONY: demo test matrix bench torture mutants
demo:
	@demo/demo
test:
	@tests/run $(TESTS)
matrix:
	@tests/matrix/run $(SUITES)
bench:
	@bench/run
torture:
	@tests/checker/run
mutants:
	@tests/mutants/run $(MUTANTS)
