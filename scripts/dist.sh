#!/usr/bin/env bash
# Makes what a release has: an archive and a bill of materials (CycloneDX) for each
# system and machine, and the checksums of all. The same commit and compiler give the
# same bytes (scripts/dist-check.sh).
#
#   scripts/dist.sh OUT [OS/ARCH]...
set -euo pipefail

out=$(realpath -m "${1:?where it all goes}")
shift
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/version.sh
if (($# == 0)); then set -- linux/amd64 linux/arm64 darwin/amd64 darwin/arm64; fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out"
made=()
for target in "$@"; do
  os=${target%/*} arch=${target#*/}
  name=promagg-$VERSION.$os-$arch
  mkdir -p "$work/$name"
  scripts/build.sh "$os" "$arch" "$work/$name/promagg"
  cp LICENSE README.md "$work/$name/"
  mkdir "$work/$name/mixin"
  cp packaging/mixin/alerts.yaml packaging/mixin/dashboard.json "$work/$name/mixin/"
  if [[ $os == linux ]]; then cp -R systemd "$work/$name/"; fi
  for made_by_make_man in man completions; do
    if [[ -d dist/$made_by_make_man ]]; then cp -R "dist/$made_by_make_man" "$work/$name/"; fi
  done
  chmod -R u=rwX,go=rX "$work/$name"
  tar --create --format=ustar --sort=name --mtime="@$EPOCH" --owner=0 --group=0 --numeric-owner \
    --directory "$work" "$name" | gzip -9n >"$out/$name.tar.gz"

  # The tool writes down its own checksum: it is built so that this is always the same.
  GOFLAGS=-trimpath CGO_ENABLED=0 go tool -modfile=tools/go.mod cyclonedx-gomod bin \
    -json -std -noserial -notimestamp -version "v$VERSION" -output "$out/$name.cdx.json" "$work/$name/promagg" 2>"$work/log" ||
    { cat "$work/log" >&2; exit 1; }
  made+=("$name.tar.gz" "$name.cdx.json")
done
(cd "$out" && sha256sum "${made[@]}" >sha256sums.txt)
