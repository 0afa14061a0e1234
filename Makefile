# eventstore: an event store inside PostgreSQL.
#
#   make                build the extension against the PostgreSQL of pg_config
#   make install        put it where that PostgreSQL finds it
#   make installcheck   test what is installed on a running server; see REGRESS
#   make uninstall      take it away again; make clean: remove what was built
#   make demo           set up, build, and show the main job on a private server
#   make test           set up, build, and run every test on private servers
#   make matrix         run every test on the PostgreSQL of each Debian
#   make bench          compare with a plain table
#   make torture        run the long checker
#   make soak           watch two hundred databases rest for ten minutes
#   make mutants        show that the tests fail when what they test is taken away
#   make dist           pack the last commit as PGXN takes it
#   make help           print this

EXTENSION  = eventstore
EXTVERSION = $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" eventstore.control)

MODULE_big = eventstore
OBJS = \
	src/eventstore.o \
	src/append/build.o \
	src/append/call.o \
	src/append/condition.o \
	src/append/execute.o \
	src/append/idempotency.o \
	src/append/inline.o \
	src/append/json.o \
	src/append/new_events.o \
	src/append/payload.o \
	src/append/tag_rows.o \
	src/append/waiting_rows.o \
	src/append/writer.o \
	src/core/args.o \
	src/core/call_scan.o \
	src/core/carrier.o \
	src/core/catalog.o \
	src/core/digest.o \
	src/core/durable.o \
	src/core/error.o \
	src/core/existing.o \
	src/core/from.o \
	src/core/from_call.o \
	src/core/hash.o \
	src/core/json.o \
	src/core/lookup.o \
	src/core/name.o \
	src/core/name_set.o \
	src/core/numbers.o \
	src/core/permutation.o \
	src/core/preload.o \
	src/core/release.o \
	src/core/role.o \
	src/core/settings.o \
	src/core/shmem.o \
	src/core/spi.o \
	src/core/subxact.o \
	src/core/table_cache.o \
	src/core/target.o \
	src/core/uuid7.o \
	src/core/update.o \
	src/core/wait_event.o \
	src/log/boundary.o \
	src/log/change.o \
	src/log/compression.o \
	src/log/database.o \
	src/log/dictionary.o \
	src/log/event_id.o \
	src/log/format.o \
	src/log/guard.o \
	src/log/head.o \
	src/log/mark.o \
	src/log/place.o \
	src/log/positions.o \
	src/log/registry.o \
	src/log/seal.o \
	src/log/secret.o \
	src/log/status.o \
	src/log/stream.o \
	src/log/tags.o \
	src/log/version.o \
	src/projections/aggregate.o \
	src/projections/alter.o \
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
	src/projections/owner.o \
	src/projections/progress.o \
	src/projections/retry.o \
	src/projections/roles.o \
	src/projections/shown.o \
	src/projections/state.o \
	src/projections/switch.o \
	src/projections/sync.o \
	src/projections/turn.o \
	src/projections/wait.o \
	src/read/ask.o \
	src/read/batch.o \
	src/read/conditions.o \
	src/read/count.o \
	src/read/cursor.o \
	src/read/estimate.o \
	src/read/event.o \
	src/read/event_scan.o \
	src/read/filter.o \
	src/read/kept.o \
	src/read/load.o \
	src/read/metadata.o \
	src/read/query.o \
	src/read/read.o \
	src/read/reader.o \
	src/read/request.o \
	src/read/rows.o \
	src/read/wanted.o \
	src/store/check.o \
	src/store/checks.o \
	src/store/index.o \
	src/store/rehash.o \
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
	src/streams/upcaster_owner.o \
	src/streams/visible.o \
	src/subscriptions/ack.o \
	src/subscriptions/claim.o \
	src/subscriptions/commit.o \
	src/subscriptions/declare.o \
	src/subscriptions/fetch.o \
	src/subscriptions/held.o \
	src/subscriptions/lag.o \
	src/subscriptions/nack.o \
	src/subscriptions/offer.o \
	src/subscriptions/partition.o \
	src/subscriptions/scan.o \
	src/subscriptions/subscription.o \
	src/worker/child.o \
	src/worker/demand.o \
	src/worker/evict.o \
	src/worker/launcher.o \
	src/worker/pool.o \
	src/worker/scavenger.o \
	src/worker/scheduler.o \
	src/worker/session.o \
	src/worker/way.o \
	src/worker/worker.o

# The install script is these pieces, in this order.
SQL_PIECES = \
	src/schema.sql \
	src/append/new_events.sql \
	src/log/tables.sql \
	src/core/update.sql \
	src/log/format.sql \
	src/log/boundary.sql \
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
	src/store/store.sql \
	src/store/reset.sql \
	src/log/begin.sql \
	src/grants.sql

DATA_built = $(EXTENSION)--$(EXTVERSION).sql
# The scripts of ALTER EXTENSION UPDATE; see src/README.md.
DATA = $(wildcard $(EXTENSION)--*--*.sql)
PG_CPPFLAGS = -I$(srcdir)/src -DES_VERSION='"$(EXTVERSION)"'
PG_CFLAGS = -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers
EXTRA_CLEAN = $(EXTENSION)--$(EXTVERSION).sql META.json $(EXTENSION)-*.zip

# What `make installcheck` runs, on the server that PGHOST and PGPORT name, as a
# superuser.  It needs the settings of tests/eventstore.conf.  Left out are
# tests/tap: they make servers of their own (crash, restart, standby, a library that
# is not preloaded); `make test` runs them.
REGRESS = \
	append append_batch append_events append_only new_events new_events_table idempotency event_id condition \
	read_stream read_all read_category query filter correlation columns scan encodings parallel \
	payload stream_life removed_ids taken_away snapshot upcast \
	projection_inline projection_async projection_views projection_reducer \
	projection_errors projection_drop projection_owner projection_pitfalls projection_hostile \
	declare subscription views rights triggers bad_input catalog maintenance places bookkeeping format slot check reset
ISOLATION = \
	version check_version own_events event_type content_type stream_end stream_removal stream_story \
	head commit blockers wait windows idempotency deadlock timeout terminate savepoint place \
	repeatable_read serializable snapshot derived_id \
	condition_after condition_at_once condition_deadlock condition_levels condition_many condition_own \
	condition_tags condition_trigger \
	new_events new_events_drop boundary create drop drop_lookup drop_order reindex restore restore_parts restore_read restore_two removed_ids reset \
	projection_inline projection_isolation projection_control projection_drop projection_owner \
	projection_races projection_switch projection_windows \
	scan_cursor scan_cursor_session \
	subscription_fetch subscription_lease subscription_control
REGRESS_OPTS = --encoding=UTF8 --no-locale
ISOLATION_OPTS = --inputdir=$(srcdir)/tests/isolation --encoding=UTF8 --no-locale
# PGXS would run all files in one database, one after another.  Each of ours creates
# the extension, and its answers hold positions, which begin at 1 in a new database
# only: each gets one, by a pg_regress of its own.
NO_INSTALLCHECK = 1

# clang is only needed for the bitcode that PostgreSQL's JIT could inline;
# nothing here would gain by it.
override with_llvm = no

PG_CONFIG ?= pg_config
# Nothing here yet on a fresh machine; `make demo` and `make test` install it.
PGXS := $(wildcard $(shell $(PG_CONFIG) --pgxs 2>/dev/null))
ifneq ($(PGXS),)
include $(PGXS)
else
all install installcheck:
	@echo "PostgreSQL's development files are missing: tests/install-deps demo" >&2; exit 1
endif

# PGXS tracks no dependencies: any header, or another version, rebuilds all.
$(OBJS): $(wildcard src/*.h src/*/*.h) eventstore.control

$(EXTENSION)--$(EXTVERSION).sql: $(SQL_PIECES) eventstore.control
	cat $(SQL_PIECES) > $@

ifneq ($(PGXS),)
# each_alone COMMAND,TESTS,FOLDER: runs COMMAND for each test, which leaves its
# differences in FOLDER, and takes back what the test set for the whole server.
define each_alone
@failed=; \
for test in $(2); do \
	if output=$$($(1) $$test 2>&1); then \
		echo "$$output" | grep -E '^(test |ok )'; \
	else \
		failed="$$failed $$test"; \
		echo "$$output"; \
		cat $(3)/regression.diffs 2>/dev/null; \
	fi; \
	$(installcheck_psql) -q -f $(srcdir)/tests/reset.sql >/dev/null || exit 1; \
done; \
test -z "$$failed" || { echo "failed:$$failed" >&2; exit 1; }
endef
installcheck_psql = '$(bindir)/psql' -X -At -d postgres

# not_listed LIST,FILES: what there is and nobody runs, or the other way round.
not_listed = $(filter-out $(1),$(2)) $(filter-out $(2),$(1))

.PHONY: installcheck
installcheck: UNLISTED = $(strip \
	$(call not_listed,$(REGRESS),$(basename $(notdir $(wildcard $(srcdir)/sql/*.sql)))) \
	$(call not_listed,$(ISOLATION),$(basename $(notdir $(wildcard $(srcdir)/tests/isolation/specs/*.spec)))))
installcheck:
	$(if $(UNLISTED),$(error REGRESS and ISOLATION are not what there is: $(UNLISTED)))
	@test "$$($(installcheck_psql) -c "SELECT current_setting('shared_preload_libraries') ~ '\m$(EXTENSION)\M' \
			AND current_setting('max_prepared_transactions')::int > 0")" = t || \
		{ echo "installcheck needs a running server with the settings of tests/eventstore.conf" >&2; exit 1; }
	$(call each_alone,$(pg_regress_installcheck) $(REGRESS_OPTS),$(REGRESS),.)
	$(call each_alone,$(pg_isolation_regress_installcheck) $(ISOLATION_OPTS),$(ISOLATION),output_iso)
endif

.PHONY: help
help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' $(firstword $(MAKEFILE_LIST))

# PGXN's description, with the one version; it travels in the archive of `make dist`.
all: META.json
META.json: META.json.in eventstore.control
	sed 's/@VERSION@/$(EXTVERSION)/' $< > $@
.PHONY: dist
dist: META.json
	git archive --format=zip --prefix=$(EXTENSION)-$(EXTVERSION)/ --add-file=META.json \
		--output=$(EXTENSION)-$(EXTVERSION).zip HEAD

# Each sets itself up and works in a private folder; see the scripts.
.PHONY: demo test matrix bench torture soak mutants
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
# One of the tests; the seconds and the databases may be others.
soak:
	@EVENTSTORE_TEST_SECONDS=$${EVENTSTORE_TEST_SECONDS:-600} \
		EVENTSTORE_TEST_DATABASES=$${EVENTSTORE_TEST_DATABASES:-200} \
		TAP_LIMIT=$${TAP_LIMIT:-3600} tests/run tap 360_projection_idle
mutants:
	@tests/mutants/run $(MUTANTS)
