#!/usr/bin/env bash
# Builds a static promagg, the same bytes wherever it is built.
#
#   scripts/build.sh OS ARCH OUT
#
# BUILD_CACHE in the environment is a cache for this build, in place of Go's own.
set -euo pipefail

out=$(realpath -m "${3:?usage: scripts/build.sh OS ARCH OUT}")
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/version.sh

if [[ -n ${BUILD_CACHE:-} ]]; then export GOCACHE=$BUILD_CACHE; fi
CGO_ENABLED=0 GOOS=$1 GOARCH=$2 GOAMD64=v1 GOARM64=v8.0 GOFLAGS=-mod=readonly GOEXPERIMENT='' \
  go build -trimpath -buildvcs=false -ldflags "$ldflags" -o "$out" ./cmd/promagg
