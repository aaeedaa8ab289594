#!/usr/bin/env bash
# Checks two promises about imports, for the files that are built on Linux:
#
#   - memory mapping, and with it unsafe and raw system calls, stays inside
#     internal/mmapfile; but internal/supervise may make system calls, as waiting for
#     any child, subreapers and process groups are had by nothing else;
#   - packages depend on each other in one direction only.
#
# Test files may import what they like, except that nothing imports cmd.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
export GOOS=linux

module=$(go list -m)
failed=0

# Prints the files of the package in directory $2 that import $3, test files
# only if $1 is "test". The package as a whole is known to import it, so this
# runs only when there is a fault to report.
culprits() {
  local kind=$1 dir=$2 import=$3 file
  go list -f '{{join .GoFiles "\n"}}
{{join .CgoFiles "\n"}}
{{join .TestGoFiles "\n"}}
{{join .XTestGoFiles "\n"}}' "$dir" |
    while IFS= read -r file; do
      if [[ -z $file || ($kind == code && $file == *_test.go) ]]; then continue; fi
      # A single file is a package of its own to go list. With -e, as it may
      # not compile without the others.
      if go list -e -f '{{join .Imports "\n"}}
{{join .TestImports "\n"}}
{{join .XTestImports "\n"}}' "$dir/$file" 2>/dev/null | grep -xF -- "$import" >/dev/null; then
        echo "${dir#"$PWD"/}/$file"
      fi
    done
}

# fault KIND DIR IMPORT REASON
fault() {
  local files file
  files=$(culprits "$1" "$2" "$3")
  while IFS= read -r file; do
    echo "$file: imports $3: $4" >&2
  done <<<"${files:-${2#"$PWD"/}}"
  failed=1
}

# within PATH PACKAGE: whether PATH is PACKAGE or below it.
within() { [[ $1 == "$2" || $1 == "$2"/* ]]; }

# Why the package $1 must not import $2, both relative to the module; nothing
# if it may.
direction() {
  local from=$1 to=$2 allowed own p
  if within "$to" cmd && ! within "$from" cmd; then
    echo 'cmd is imported by nobody'
    return
  fi
  for p in internal/fixture internal/testpeer; do
    if within "$to" "$p" && ! within "$from" "$p"; then
      echo 'test support is for tests only'
      return
    fi
  done
  own=$(cut -d/ -f1-2 <<<"$from")
  case $from in
    internal/exact | internal/duration | internal/mmapfile | internal/mmapfile/*) allowed='' ;;
    internal/merge | internal/merge/*) allowed='internal/exact internal/mmapfile' ;;
    internal/expose | internal/expose/*) allowed='internal/merge' ;;
    internal/remotewrite | internal/remotewrite/*) allowed='internal/expose internal/merge' ;;
    internal/fold | internal/fold/*) allowed='internal/exact internal/mmapfile' ;;
    internal/limit | internal/limit/* | internal/supervise | internal/supervise/*) allowed='' ;;
    internal/multiproc | internal/multiproc/*) allowed='internal/duration internal/fold internal/merge internal/mmapfile' ;;
    internal/procs | internal/procs/*) allowed='internal/mmapfile internal/multiproc' ;;
    internal/check | internal/check/*) allowed='internal/merge internal/mmapfile internal/multiproc' ;;
    internal/top | internal/top/*) allowed='internal/mmapfile internal/multiproc internal/procs' ;;
    internal/demo | internal/demo/*) allowed='internal/mmapfile pkg/client' ;;
    # What a worker links must not grow: not even by the packages below it.
    pkg/client) allowed='internal/mmapfile' own='' ;;
    pkg/client/web | pkg/client/web/*) allowed='internal/duration internal/expose internal/fold internal/merge internal/mmapfile internal/multiproc pkg/client' own=$from ;;
    pkg/client/*) allowed='internal/mmapfile pkg/client' own=$from ;;
    # What users copy: they can't import internal packages.
    examples/*) allowed='pkg/client internal/mmapfile' own=$from ;;
    *) return ;;
  esac
  for p in $own $allowed; do
    if within "$to" "$p"; then return; fi
  done
  echo "of this module, $from may import ${allowed:+only }${allowed:-nothing}"
}

# shellcheck disable=SC2016 # $p belongs to the template
listing=$(go list -f '{{$p := .}}
{{- range .Imports}}{{printf "code\t%s\t%s\t%s\n" $p.ImportPath $p.Dir .}}{{end}}
{{- range .TestImports}}{{printf "test\t%s\t%s\t%s\n" $p.ImportPath $p.Dir .}}{{end}}
{{- range .XTestImports}}{{printf "test\t%s\t%s\t%s\n" $p.ImportPath $p.Dir .}}{{end}}' ./...)

while IFS=$'\t' read -r kind package dir import; do
  if [[ -z $kind ]]; then continue; fi
  from=${package#"$module"}
  from=${from#/}

  if [[ $kind == test ]]; then
    if within "$import" "$module/cmd" && ! within "$from" cmd; then
      fault "$kind" "$dir" "$import" 'cmd is imported by nobody, tests included'
    fi
    continue
  fi

  if ! within "$from" internal/mmapfile; then
    case $import in
      syscall | golang.org/x/sys | golang.org/x/sys/*)
        within "$from" internal/supervise || fault "$kind" "$dir" "$import" 'only internal/mmapfile and internal/supervise may'
        ;;
      unsafe | github.com/edsrzf/mmap-go | github.com/edsrzf/mmap-go/*)
        fault "$kind" "$dir" "$import" 'only internal/mmapfile may'
        ;;
    esac
  fi

  if within "$import" "$module"; then
    to=${import#"$module"}
    reason=$(direction "$from" "${to#/}")
    if [[ -n $reason ]]; then fault "$kind" "$dir" "$import" "$reason"; fi
  fi
done <<<"$listing"

exit $failed
