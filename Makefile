# pipeline_ext: continuous queries inside PostgreSQL
MODULE_big = pipeline_ext
EXTENSION = pipeline_ext
DATA_built = pipeline_ext--1.0.sql
EXTRA_CLEAN = pipeline_ext--1.0.sql

SQL_PARTS = src/catalog/catalog.sql src/source/source.sql src/window/window.sql \
	src/ddl/ddl.sql src/api/api.sql src/monitor/monitor.sql

SRCS_C = $(wildcard src/*.c src/*/*.c src/*/*/*.c)
SRCS_CPP = $(wildcard src/*/*.cpp)
OBJS = $(SRCS_C:.c=.o) $(SRCS_CPP:.cpp=.o)

PG_CPPFLAGS = -Isrc $(shell pkg-config --cflags rdkafka simdjson)
PG_CFLAGS = -std=gnu99 -Wall -Wextra -Werror -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers -Wno-cast-function-type -Wno-clobbered
SHLIB_LINK = $(shell pkg-config --libs rdkafka simdjson) -lstdc++ -lpthread

PG_CONFIG ?= pg_config
with_llvm = no
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

pipeline_ext--1.0.sql: $(SQL_PARTS)
	{ echo '\echo Use "CREATE EXTENSION pipeline_ext" to load this file. \quit'; cat $^; } > $@
