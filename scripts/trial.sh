#!/usr/bin/env bash
# Tries what the documentation promises in a Debian 12 that has nothing on it yet, made
# by debootstrap: the package, its units, gunicorn, TLS with a client certificate, remote
# write to both receivers, and that nothing is left. Prints every command and what it
# says. As root.
#
#   scripts/trial.sh DEB [ROOT]      (ROOT: a Debian 12 from debootstrap, copied first)
set -euo pipefail

deb=$(realpath "${1:?a Debian package of promagg}")
template=${2:-}
work=$(mktemp -d)
root=$work/root
cleanup() {
  umount -R "$root/proc" "$root/dev" 2>/dev/null || true
  rm -rf --one-file-system "$work"
}
trap cleanup EXIT

if [[ -n $template ]]; then
  cp -a "$template" "$root"
else
  debootstrap --variant=minbase bookworm "$root" >"$work/debootstrap.log"
fi
cp "$deb" "$root/root/promagg.deb"
cp "$(dirname "${BASH_SOURCE[0]}")/trial-inside.sh" "$root/root/trial.sh"
cp /etc/resolv.conf "$root/etc/resolv.conf"
grep -qs localhost "$root/etc/hosts" || echo 127.0.0.1 localhost >>"$root/etc/hosts" # a minimal system has none
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --make-rslave "$root/dev"
mount -t tmpfs tmpfs "$root/dev/shm"
chroot "$root" bash /root/trial.sh install
# From here on with a network and processes of its own.
unshare --net --pid --fork --mount bash -c '
  ip link set lo up
  mount -t proc proc "$1/proc"
  exec chroot "$1" bash /root/trial.sh use' - "$root"
chroot "$root" bash /root/trial.sh purge
