#!/bin/bash
# The README's two commands as a newcomer gives them: a bare Debian 12 (debootstrap, chroot) with git, make, a C compiler
# and this machine's Rust toolchain, and a clone of HEAD. Called by `make fresh-clone`; needs root.
#   ODOCK_FRESH_DIR   where the bare Debian lies (default: a new folder in /var/tmp, removed at the end)
#   ODOCK_FRESH_TEST  `no` leaves out `make test`
set -euo pipefail
cd "$(dirname "$0")/.."

[ "$(id -u)" = 0 ] || { echo "fresh-clone needs root: it makes a chroot" >&2; exit 1; }
if ! command -v debootstrap >/dev/null; then
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends debootstrap >/dev/null
fi

keep=${ODOCK_FRESH_DIR:-}
root=${keep:-$(mktemp -d /var/tmp/odock-fresh.XXXXXX)}
mounted=()
mount_at() { # the arguments of mount; the last one is the target
    mount "$@"
    mounted=("${!#}" "${mounted[@]}")
}
clean_up() {
    for target in "${mounted[@]}"; do umount -R "$target" 2>/dev/null || umount -l "$target"; done
    [ -n "$keep" ] || rm -rf --one-file-system "$root"
}
trap clean_up EXIT

# From where this machine gets Debian.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Codename: bookworm' 'Component: main' | head -1)
if [ ! -x "$root/bin/bash" ]; then
    debootstrap --variant=minbase --include=git,make,gcc,libc6-dev,ca-certificates bookworm "$root" "$mirror"
fi
mkdir -p "$root/opt/rust"
mount_at -t proc proc "$root/proc"
mount_at --rbind /dev "$root/dev"
mount --make-rslave "$root/dev"
mount_at --bind -o ro "$(rustc --print sysroot)" "$root/opt/rust"
cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
# How this machine reaches package registries: certificates and client settings.
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
for file in /etc/pip.conf "$HOME/.npmrc" "$HOME/.cargo/config.toml"; do
    [ ! -f "$file" ] || install -D -m 600 "$file" "$root$file"
done
rm -rf "$root/root/odock"
git clone -q . "$root/root/odock"

settings=(HOME=/root LANG=C.UTF-8 PATH=/opt/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt PIP_CERT=/etc/ssl/certs/ca-certificates.crt
    NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt ODOCK_FRESH_TEST="${ODOCK_FRESH_TEST:-yes}")
chroot "$root" /usr/bin/env -i "${settings[@]}" /bin/bash -euo pipefail <<'INSIDE'
cd /root/odock
started=$SECONDS
make up > /tmp/up.log 2>&1 &
up=$!
trap 'kill -INT $(cat .odock/up.lock) 2>/dev/null || true' EXIT
until [ -f .odock/ready.json ]; do
    kill -0 "$up" 2>/dev/null || { tail -40 /tmp/up.log; echo "make up ended before it was ready"; exit 1; }
    [ $((SECONDS - started)) -lt 2400 ] || { tail -40 /tmp/up.log; echo "make up is not ready"; exit 1; }
    sleep 1
done
echo "make up: ready after $((SECONDS - started)) s"
# The call that `up` printed, as it printed it.
command -v curl >/dev/null || apt-get install -y -qq --no-install-recommends curl >/dev/null
sed -n '/^curl /,/}]}/p' /tmp/up.log > /tmp/call.sh
answer=$(bash /tmp/call.sh 2>/dev/null)
echo "$answer"
grep -q '"chat.completion"' <<< "$answer"
kill -INT "$(cat .odock/up.lock)"
wait "$up"
echo "make up: ended with 0"
if [ "$ODOCK_FRESH_TEST" != no ]; then
    make test
fi
INSIDE
