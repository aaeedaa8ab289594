# Sourced by the scripts that make packages: what git says about the checkout, and
# nothing of the time or place of the build. What is set already holds, where there is
# no git to ask. The caller has changed to the root.
#
#   VERSION     1.2.3, or 1.2.3-4-gabcdef, or dev where no tag is
#   REVISION    the commit
#   EPOCH       its time, in seconds
#   DEB_VERSION VERSION as dpkg orders versions
#   ldflags     what the program says about itself

if [[ -z ${VERSION:-} ]]; then
  VERSION=$(git describe --tags --dirty 2>/dev/null) || VERSION=dev
  VERSION=${VERSION#v}
fi
if [[ -z ${REVISION:-} ]]; then REVISION=$(git rev-parse --verify --quiet HEAD 2>/dev/null) || REVISION=; fi
if [[ -z ${EPOCH:-} ]]; then EPOCH=$(git log -1 --format=%ct 2>/dev/null) || EPOCH=0; fi
if [[ -z ${DEB_VERSION:-} ]]; then
  # What comes behind a tag is newer than the tag, what has none is older than all, and
  # 1.2.0-rc.1, with what comes behind it, is older than 1.2.0.
  case $VERSION in
    [0-9]*)
      tag=${VERSION%-[0-9]*-g*}
      behind=${VERSION#"$tag"}
      DEB_VERSION=${tag//-/\~}${behind//-/+}
      ;;
    *) DEB_VERSION=0~$(TZ=UTC date -d "@$EPOCH" +%Y%m%d%H%M%S) ;;
  esac
fi
export VERSION REVISION EPOCH DEB_VERSION
export TZ=UTC LC_ALL=C
umask 022
version_pkg=github.com/prometheus/common/version
# Without a build ID, which would depend on the paths of the compiler's own files.
# shellcheck disable=SC2034 # the caller's
ldflags="-s -w -buildid= -X $version_pkg.Version=$VERSION -X $version_pkg.Revision=$REVISION
  -X $version_pkg.BuildUser=promagg -X $version_pkg.BuildDate=$(date -d "@$EPOCH" +%Y%m%d-%H:%M:%S)"
