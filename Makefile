# pipeline_ext: continuous queries inside PostgreSQL
#
#   make, make install        build and install into the server of PG_CONFIG
#   make setup                install what building and testing need (Debian)
#   make demo [SOURCE=kafka]  show what it does, in a scratch cluster
#   make test                 setup, build, install, and all tests against scratch clusters;
#                             TESTS="tap restart" runs some of them, see tools/run_tests
#   make bench                all scenarios of the benchmark, and latencies; under 30 minutes.
#                             make bench-endurance: 50 million events through one view
#   make installcheck         regress and isolation tests against a running server that preloads us
#   make format, check-style  code layout; rules that a script can check

MODULE_big = pipeline_ext
EXTENSION = pipeline_ext
DATA_built = pipeline_ext--1.0.sql

SQL_PARTS = src/catalog/catalog.sql src/source/source.sql src/window/window.sql \
	src/ddl/ddl.sql src/api/api.sql src/infer/infer.sql src/monitor/monitor.sql src/monitor/top.sql

SRCS_C = $(wildcard src/*.c src/*/*.c src/*/*/*.c)
SRCS_CPP = $(wildcard src/*/*.cpp)
OBJS = $(SRCS_C:.c=.o) $(SRCS_CPP:.cpp=.o)

# Tests run in the order of their names.
REGRESS = $(sort $(patsubst sql/%.sql,%,$(wildcard sql/*.sql)))
REGRESS_OPTS = --load-extension=pipeline_ext
ISOLATION = $(sort $(patsubst test/specs/%.spec,%,$(wildcard test/specs/*.spec)))
ISOLATION_OPTS = --inputdir=test --load-extension=pipeline_ext

WARNINGS = -Wall -Wextra -Werror -Wno-unused-parameter -Wno-sign-compare \
	-Wno-missing-field-initializers
# -MMD: every object file comes with a list of the headers it was made from.
PG_CPPFLAGS = -Isrc -MMD -MP $(shell pkg-config --cflags rdkafka simdjson 2>/dev/null)
PG_CFLAGS = -std=gnu99 $(WARNINGS) -Wno-cast-function-type -Wno-clobbered
PG_CXXFLAGS = -std=c++17 $(WARNINGS) -Wno-register
SHLIB_LINK = $(shell pkg-config --libs rdkafka simdjson 2>/dev/null) -lstdc++ -lpthread
EXTRA_CLEAN = pipeline_ext--1.0.sql.tmp $(OBJS:.o=.d) results output_iso tmp_check regression.diffs regression.out

.DEFAULT_GOAL := all

# Without PostgreSQL there is still "make setup", and what starts with it.
PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)
# No bitcode: nothing of ours runs per row inside a JIT-compiled expression.
override with_llvm = no
ifneq ($(PGXS),)
include $(PGXS)
else
all install installcheck:
	@echo "$(PG_CONFIG) is missing; run make setup" >&2; exit 1
endif

-include $(OBJS:.o=.d)

pipeline_ext--1.0.sql: $(SQL_PARTS) Makefile
	{ printf '%s\n' '\echo Use "CREATE EXTENSION pipeline_ext" to load this file. \quit'; \
		cat $(SQL_PARTS); } > $@.tmp && mv $@.tmp $@

setup:
	@tools/setup

# The helper programs of tests and demos; no part of the extension.
tools:
	@$(MAKE) -s -C test/tools

demo:
	@PG_CONFIG='$(PG_CONFIG)' tools/demo $(or $(SOURCE),local)

test:
	@PG_CONFIG='$(PG_CONFIG)' tools/run_tests $(TESTS)

# With what is installed; see docs/BENCHMARKS.md.
bench:
	@test/bench/run -f && test/bench/paced

bench-endurance:
	@test/bench/endurance

# Lists of files are given through find, so that an empty folder is no error.
format:
	find src test -name '*.[ch]' -o -name '*.cpp' | xargs clang-format -i

check-style:
	@tools/check_style

clean: clean-tools
clean-tools:
	@$(MAKE) -s -C test/tools clean

.PHONY: setup tools demo test bench bench-endurance format check-style clean-tools
