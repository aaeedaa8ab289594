#!/usr/bin/env bash
# Makes the release and the packages twice, in folders of different names and the second
# time with nothing of the program compiled before, and compares them byte for byte.
#
#   scripts/dist-check.sh [OS/ARCH]...
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/version.sh # exported: the copies have no git to ask

work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
for tree in first "second one/deeper"; do
  mkdir -p "$work/$tree"
  git ls-files -z | tar --create --null --files-from=- | tar --extract --directory "$work/$tree"
done
echo 'dist-check: first build' >&2
"$work/first/scripts/dist.sh" "$work/a" "$@"
"$work/first/scripts/deb.sh" "$work/a" amd64
echo 'dist-check: second build, from nothing' >&2
(
  # Others' settings, too.
  umask 077
  export BUILD_CACHE=$work/cache TZ=Asia/Kathmandu TMPDIR=$work
  "$work/second one/deeper/scripts/dist.sh" "$work/b" "$@"
  "$work/second one/deeper/scripts/deb.sh" "$work/b" amd64
)
diff --recursive --brief "$work/a" "$work/b"
echo 'dist-check: both builds are the same:' >&2
cd "$work/a"
sha256sum -- *
