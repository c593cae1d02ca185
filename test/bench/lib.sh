# Shared by the measurements of this folder: a durable scratch server, a broker, and what they cost.
# shellcheck shell=bash
# shellcheck source=../../tools/lib.sh
. "$(cd "$(dirname "${BASH_SOURCE[0]}")/../../tools" && pwd)/lib.sh"

bench_begin() {
  make -s -C "$root/test/tools"
  find_postgres
  make_scratch pipeline_bench
  trap bench_end EXIT
  trap 'exit 130' INT TERM HUP
}

bench_end() {
  local status=$?
  trap - EXIT
  [ $status = 0 ] || tail -n 30 "$scratch/server/server.log" >&2 || :
  [ -z "${sampler:-}" ] || kill "$sampler" 2>/dev/null || :
  stop_everything
  if [ -n "${KEEP:-}" ]; then echo "kept: $scratch"; else rm -rf "$scratch"; fi
  exit $status
}

# The settings of a server that keeps what it was told.
bench_server() {
  start_cluster server
  stop_cluster server
  as_user tee -a "$scratch/server/data/postgresql.conf" >/dev/null <<CONF
fsync = on
full_page_writes = on
wal_level = replica
shared_buffers = 1GB
max_wal_size = 8GB
checkpoint_timeout = 5min
max_worker_processes = 64
track_commit_timestamp = on
autovacuum_naptime = 1h
${SERVER_CONF:-}
CONF
  start_again server
  value "CREATE EXTENSION pipeline_ext" >/dev/null
  postmaster=$(head -n 1 "$scratch/server/data/postmaster.pid")
}

bench_broker() {
  mkdir -p "$scratch/kafka"
  address=$("$root/tools/kafka" start "$scratch/kafka")
}

topic_create() { "$root/tools/kafka" -d "$scratch/kafka" topic create "$1" "${2:-2}"; }

value() {
  as_user env PGOPTIONS='-c timezone=UTC -c client_min_messages=error -c jit=off' \
    "$bindir/psql" -X -q -A -t -v ON_ERROR_STOP=1 -h "$scratch/server" -U postgres -d postgres -c "$1"
}

# run_file FILE [psql arguments]
run_file() {
  local file=$1; shift
  as_user env PGOPTIONS='-c timezone=UTC -c client_min_messages=error -c jit=off' \
    "$bindir/psql" -X -q -A -t -v ON_ERROR_STOP=1 -h "$scratch/server" -U postgres -d postgres "$@" -f - <"$file"
}

# The processes that do our work: workers and launcher, and those that write for them.
our_processes() {
  local pid
  for pid in $(pgrep -P "$postmaster"); do
    case $(cat "/proc/$pid/cmdline" 2>/dev/null | tr '\0' ' ') in
      *"pipeline "* | *walwriter* | *checkpointer* | *"background writer"*) echo "$pid" ;;
    esac
  done
}

worker_processes() {
  local pid
  for pid in $(our_processes); do
    case $(cat "/proc/$pid/cmdline" 2>/dev/null | tr '\0' ' ') in *"pipeline worker"*) echo "$pid" ;; esac
  done
}

# A worker that ends during a run would take its time along.
workers_gone() {
  while [ -n "$(worker_processes)" ]; do sleep 0.02; done
}

# User and system time that processes and their threads have taken, in seconds.
cpu_of() { # PID ...
  local pid
  for pid in "$@"; do cat "/proc/$pid/stat" 2>/dev/null || :; done |
    awk -v hz="$(getconf CLK_TCK)" '{ sub(/.*\) /, ""); t += ($12 + $13) / hz } END { printf "%.2f", t }'
}

# Memory that is theirs alone and their share of what they have in common, in kB.
pss_of() { memory_of Pss "$@"; }

# Without shared memory, whose pages are taken when they are first touched.
private_of() { memory_of Pss_Anon "$@"; }

memory_of() { # FIELD PID ...
  local field=$1 pid
  shift
  for pid in "$@"; do cat "/proc/$pid/smaps_rollup" 2>/dev/null || :; done | awk -v f="$field:" '$1 == f { t += $2 } END { print t + 0 }'
}

# Write the largest such figure into a file, until killed.
pss_sample() { # FILE
  local largest=0 now
  while :; do
    now=$(pss_of $(our_processes))
    if [ "$now" -gt "$largest" ]; then largest=$now; echo "$largest" >"$1"; fi
    sleep 0.5
  done
}

calc() { awk "BEGIN { printf \"$1\", ($2) }"; } # FORMAT EXPRESSION, in parentheses: a > outside of them is a redirection

median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
