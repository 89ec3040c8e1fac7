#!/usr/bin/env bash
# The README's two commands as a newcomer meets them: a bare Debian in a chroot, with git, make, a C compiler and this
# machine's Rust toolchain, and a clone of this repository. Needs root and debootstrap. Run by `make fresh-clone`.
set -euo pipefail
[ "$(id -u)" = 0 ] || { echo 'fresh-clone needs root'; exit 1; }
command -v debootstrap >/dev/null || { apt-get update -qq; apt-get install -y -qq --no-install-recommends debootstrap; }
here=$(git rev-parse --show-toplevel)
root=$(mktemp -d /var/tmp/odock-fresh-XXXXXX)
mirror=$(grep -hoE 'https?://[^ ]+' /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | head -n 1)
finish() {
  for mount in proc sys dev; do umount -l "$root/$mount" 2>/dev/null || true; done
  rm -rf --one-file-system "$root"
}
trap finish EXIT
debootstrap --variant=minbase --include=git,make,gcc,libc6-dev,ca-certificates bookworm "$root" "$mirror"
cp -a /etc/apt/. "$root/etc/apt/"
cp /etc/resolv.conf /etc/hosts "$root/etc/" 2>/dev/null || true
for mount in proc sys dev; do mount --rbind "/$mount" "$root/$mount"; done
cp -a "${RUSTUP_HOME:-$HOME/.rustup}" "$root/root/.rustup"
mkdir -p "$root/root/.cargo"
cp -a "${CARGO_HOME:-$HOME/.cargo}/bin" "$root/root/.cargo/bin"
cp -a "${CARGO_HOME:-$HOME/.cargo}"/config* "$root/root/.cargo/" 2>/dev/null || true
for file in .pip .config .npmrc; do cp -a "$HOME/$file" "$root/root/" 2>/dev/null || true; done
git clone -q "$here" "$root/root/odock"
inside() { chroot "$root" /usr/bin/env -i HOME=/root PATH=/root/.cargo/bin:/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb "$@"; }
inside bash -euc '
  cd /root/odock
  make setup
  cargo build --workspace --locked
  timeout --signal=INT 600 make up > /tmp/up.log 2>&1 &
  for i in $(seq 1 1200); do [ -f .odock/ready.json ] && break; sleep 0.5; done
  cat /tmp/up.log
  command=$(grep -m1 -A6 "curl" /tmp/up.log)
  url=$(sed -nE "s/.*\"gateway_url\": *\"([^\"]+)\".*/\1/p" .odock/ready.json)
  key=$(sed -nE "s/.*\"key\": *\"([^\"]+)\".*/\1/p" .odock/ready.json)
  target/clients/python/bin/python - "$url" "$key" <<PY
import sys, openai
client = openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key=sys.argv[2])
answer = client.chat.completions.create(model="demo-fast", messages=[{"role": "user", "content": "hello"}])
assert answer.usage.completion_tokens == 20, answer
print("the first governed call:", answer.choices[0].message.content)
PY
  pkill -INT -x odock || true
  wait
  make test
'
