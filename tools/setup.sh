#!/usr/bin/env bash
# Installs what the first run and the tests need and this machine lacks: Postgres, Redis and nginx from the
# distribution (as root or by sudo), the OpenAI SDKs from their registries. Run by `make setup`; repeating it is harmless.
set -euo pipefail
target=${1:?the target folder}
say() { printf 'setup: %s\n' "$*"; }

postgres_found() { command -v postgres >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null; }
redis_found() { command -v redis-server >/dev/null || command -v valkey-server >/dev/null; }
nginx_found() { command -v nginx >/dev/null || [ -x /usr/sbin/nginx ]; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"; else return 1; fi
}

install_packages() {
  # The packages must not start servers of their own: no main cluster, no services.
  as_root mkdir -p /etc/postgresql-common
  if ! grep -qs '^create_main_cluster' /etc/postgresql-common/createcluster.conf; then
    echo 'create_main_cluster = false' | as_root tee -a /etc/postgresql-common/createcluster.conf >/dev/null
  fi
  say "installing $*"
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
    apt-get install -y -qq --no-install-recommends -o Dpkg::Options::=--force-confold "$@" >/dev/null
}

missing=()
postgres_found || missing+=(postgresql)
redis_found || missing+=(redis-server)
nginx_found || missing+=(nginx-light)
command -v setpriv >/dev/null || missing+=(util-linux)
command -v column >/dev/null || missing+=(bsdmainutils)
command -v python3 >/dev/null || missing+=(python3)
python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
command -v node >/dev/null || missing+=(nodejs)
command -v npm >/dev/null || missing+=(npm)
command -v taskset >/dev/null || missing+=(util-linux)
if [ ${#missing[@]} -gt 0 ]; then
  if command -v apt-get >/dev/null && as_root true; then
    install_packages "${missing[@]}"
  else
    say "cannot install ${missing[*]}: no root and no sudo, or no apt-get. Install them, or give --postgres-url and --redis-url"
    exit 1
  fi
fi

# The unmodified SDKs that the tests speak with, pinned.
if [ ! -x "$target/clients/python/bin/python" ] || ! "$target/clients/python/bin/python" -c 'import openai' 2>/dev/null; then
  say 'installing the OpenAI SDK for Python'
  python3 -m venv "$target/clients/python"
  "$target/clients/python/bin/pip" install -q --disable-pip-version-check -r tests/clients/requirements.txt
fi
if [ ! -d "$target/clients/node/node_modules/openai" ]; then
  say 'installing the OpenAI SDK for Node'
  mkdir -p "$target/clients/node"
  npm install --silent --no-save --no-audit --no-fund --prefix "$target/clients/node" "$(cat tests/clients/node-packages.txt)"
fi
say 'everything is there'
