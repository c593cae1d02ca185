# Shared by the scripts of this folder: scratch clusters that run as an unprivileged user.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PG_CONFIG=${PG_CONFIG:-pg_config}

die() { echo "$(basename "$0"): $*" >&2; exit 1; }

# Everything of PostgreSQL that this script needs; call after setup.
find_postgres() {
  command -v "$PG_CONFIG" >/dev/null || die "pg_config is missing; run tools/setup"
  bindir=$("$PG_CONFIG" --bindir)
  pgxs_test=$(dirname "$("$PG_CONFIG" --pgxs)")/../test
}

# A server refuses to run as root, so root's scratch clusters belong to Debian's user postgres.
server_user() {
  if [ "$(id -u)" != 0 ]; then id -un; else echo "${PIPELINE_TEST_USER:-postgres}"; fi
}

# Run a command as that user, in the scratch folder.
as_user() {
  if [ "$(id -u)" != 0 ]; then (cd "$scratch" && "$@")
  else
    (cd "$scratch" && HOME=$scratch exec setpriv --reuid "$(server_user)" --regid "$(id -g "$(server_user)")" \
      --init-groups "$@")
  fi
}

make_scratch() {
  id "$(server_user)" >/dev/null 2>&1 || die "there is no user $(server_user); run tools/setup"
  # not under TMPDIR: a path of a Unix socket has at most 107 bytes
  scratch=$(mktemp -d "/tmp/$1.XXXXXX")
  chmod 755 "$scratch"
  mkdir "$scratch/tmp"
  [ "$(id -u)" != 0 ] || chown "$(server_user)" "$scratch" "$scratch/tmp"
  export TMPDIR=$scratch/tmp
}

# Install what is built; as root or with sudo where the server's folders ask for it.
install_extension() {
  if [ -w "$("$PG_CONFIG" --pkglibdir)" ]; then make -s -C "$root" PG_CONFIG="$PG_CONFIG" install
  else
    command -v sudo >/dev/null || die "cannot write to $("$PG_CONFIG" --pkglibdir): run as root or install sudo"
    sudo -n make -s -C "$root" PG_CONFIG="$PG_CONFIG" install
  fi
}

# start_cluster NAME: a server in the folder of that name below the scratch folder, which is also
# its socket folder; reached without TCP.
start_cluster() {
  local dir=$scratch/$1
  as_user mkdir "$dir"
  as_user "$bindir/initdb" -D "$dir/data" -A trust -U postgres -E UTF8 --locale=C >"$dir.initdb.log" 2>&1 \
    || { cat "$dir.initdb.log" >&2; die "could not make a scratch cluster"; }
  as_user tee -a "$dir/data/postgresql.conf" >/dev/null <<CONF
shared_preload_libraries = 'pipeline_ext'
listen_addresses = ''
unix_socket_directories = '$dir'
max_worker_processes = 32
max_prepared_transactions = 10
fsync = on
log_line_prefix = '%m [%p] %b %q%a '
CONF
  start_again "$1"
}

start_again() {
  local dir=$scratch/$1
  as_user "$bindir/pg_ctl" -D "$dir/data" -l "$dir/server.log" -w -t 60 -s start \
    || { tail -n 30 "$dir/server.log" >&2; die "could not start a scratch cluster"; }
}

stop_cluster() {
  local dir=$scratch/$1
  [ -e "$dir/data/postmaster.pid" ] || return 0
  as_user "$bindir/pg_ctl" -D "$dir/data" -m "${2:-fast}" -w -t 30 -s stop
}

# End whatever still runs below the scratch folder, by its pid files.
stop_everything() {
  local file pid
  while IFS= read -r file; do
    pid=$(head -n 1 "$file") || continue
    if [ "$(readlink "/proc/$pid/cwd" 2>/dev/null)" = "$(dirname "$file")" ]; then
      kill -QUIT "$pid" 2>/dev/null || :
      while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
    fi
  done < <(find "$scratch" -name postmaster.pid 2>/dev/null)
  while IFS= read -r file; do
    "$root/tools/kafka" stop "$(dirname "$file")" || :
  done < <(find "$scratch" -name kafka.pid 2>/dev/null)
}
