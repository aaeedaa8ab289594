#!/usr/bin/env bash
# Makes Debian packages.
#
#   scripts/deb.sh OUT [ARCH]...      (default: amd64 arm64)
set -euo pipefail

out=$(realpath -m "${1:?where the packages go}")
shift
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/version.sh

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out"
nfpm=$(go tool -modfile=tools/go.mod -n nfpm)
if (($# == 0)); then set -- amd64 arm64; fi
for arch in "$@"; do
  rm -rf "$work/build"
  mkdir -p "$work/build/share/man/man1"
  cp -R systemd packaging "$work/build/"
  scripts/build.sh linux "$arch" "$work/build/promagg"
  # Man pages and completions are made by "make man".
  if [[ -d dist/man ]]; then
    cp dist/man/*.1 "$work/build/share/man/man1/"
    gzip -9n "$work/build/share/man/man1"/*.1
  fi
  for to in promagg.bash:bash-completion/completions/promagg _promagg:zsh/vendor-completions/_promagg \
    promagg.fish:fish/vendor_completions.d/promagg.fish; do
    if [[ -f dist/completions/${to%%:*} ]]; then
      install -Dm644 "dist/completions/${to%%:*}" "$work/build/share/${to#*:}"
    fi
  done
  chmod -R u=rwX,go=rX "$work/build"
  find "$work/build" -exec touch -h -d "@$EPOCH" {} +
  (
    cd "$work/build"
    VERSION=$DEB_VERSION ARCH=$arch SOURCE_DATE_EPOCH=$EPOCH \
      "$nfpm" package --config packaging/nfpm.yaml --packager deb --target "$out/promagg_${DEB_VERSION}_$arch.deb"
  )
done
