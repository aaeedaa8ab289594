#!/usr/bin/env bash
# Installs what the demo, the tests and the trial need from the distribution, and
# nothing when it is all there already.
#
#   scripts/setup.sh [demo|test|trial]...      (default: test, which includes demo)
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly go_minor=26
readonly policy=/usr/sbin/policy-rc.d
readonly policy_mark='Temporary file of promagg scripts/setup.sh'

# The interpreters of the distribution, by path: a python3 or gunicorn found
# earlier on PATH (pyenv, a virtualenv) does not see the distribution's modules.
readonly python=/usr/bin/python3
readonly gunicorn=/usr/bin/gunicorn

say() { printf 'setup: %s\n' "$*" >&2; }

usage() {
  echo 'usage: scripts/setup.sh [demo|test|trial]...' >&2
  exit 2
}

packages=()
programs=()

add_demo() {
  packages+=(python3 gunicorn python3-flask python3-prometheus-client)
  programs+=("$python" "$gunicorn" 'flask (Python module)' 'prometheus_client (Python module)')
}

add_test() {
  add_demo
  # gcc and libc6-dev: the race detector needs cgo. util-linux: unshare. mount and
  # those behind it: disks that fail. systemd: what reads our units. tmux: a terminal.
  packages+=(
    curl prometheus victoria-metrics systemd
    ruby ruby-prometheus-client-mmap puma unicorn
    python3-django python3-fastapi python3-uvicorn celery uwsgi-core uwsgi-plugin-python3
    gcc libc6-dev
    util-linux mount e2fsprogs btrfs-progs tmux
  )
  programs+=(
    curl prometheus victoria-metrics systemd-analyze
    ruby 'prometheus-client-mmap (Ruby gem)' puma unicorn
    'django (Python module)' 'fastapi (Python module)' 'uvicorn (Python module)' celery uwsgi
    gcc
    unshare mount mkfs.ext4 mkfs.btrfs tmux
  )
}

add_trial() {
  packages+=(debootstrap)
  programs+=(debootstrap)
}

check_go() {
  local found
  if ! command -v go >/dev/null; then
    say "go 1.$go_minor or newer is needed and no go is on PATH (https://go.dev/dl/)"
    return 1
  fi
  # Asked inside the module, so that a go that fetches its own toolchain
  # answers with the one that will really be used.
  if ! found=$(go env GOVERSION 2>&1); then
    say "go 1.$go_minor or newer is needed, and 'go env' failed: $found"
    return 1
  fi
  if [[ $found =~ go1\.([0-9]+) ]] && ((BASH_REMATCH[1] < go_minor)); then
    say "go 1.$go_minor or newer is needed, found $found (https://go.dev/dl/)"
    return 1
  fi
}

# Prints the packages among the arguments that are not installed.
missing_packages() {
  local -A installed=()
  local name state
  while read -r name state; do
    if [[ $state == installed ]]; then installed[$name]=1; fi
  done < <(dpkg-query -W -f='${Package} ${db:Status-Status}\n' "$@" 2>/dev/null || true)
  for name in "$@"; do
    if [[ -z ${installed[$name]-} ]]; then echo "$name"; fi
  done
}

remove_policy() {
  if grep -qsF "$policy_mark" "$policy"; then rm -f "$policy"; fi
}

# Nothing installed here is wanted as a service: the tests start their own
# servers. Maintainer scripts ask policy-rc.d before they start one.
# A policy that the administrator has set is left alone.
forbid_services() {
  trap remove_policy EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  remove_policy # what a killed run may have left
  if [[ -e $policy || -L $policy ]]; then return 0; fi
  printf '#!/bin/sh\n# %s: no service is started.\nexit 101\n' "$policy_mark" |
    install -m 755 /dev/stdin "$policy"
}

# The package also enables its service for the next boot, and may have started
# it where an existing policy-rc.d allows that.
disable_service() {
  local name=$1
  if [[ -d /run/systemd/system ]]; then
    systemctl disable --now --quiet "$name.service" || true
  else
    if [[ -x /etc/init.d/$name ]]; then "/etc/init.d/$name" stop || true; fi
    if command -v update-rc.d >/dev/null; then update-rc.d "$name" disable || true; fi
  fi >/dev/null 2>&1
}

install_packages() {
  local -a missing
  mapfile -t missing < <(missing_packages "${packages[@]}")
  if ((${#missing[@]} == 0)); then return 0; fi
  if ((EUID != 0)); then
    say 'packages are missing; install them with:'
    echo "sudo apt-get install -y --no-install-recommends ${missing[*]}"
    return 1
  fi
  say "installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  # Ubuntu's needrestart would restart unrelated services.
  export NEEDRESTART_SUSPEND=1
  forbid_services
  apt-get update
  apt-get install -y --no-install-recommends "${missing[@]}"
  # Unicorn's unit has a mistake, too, which systemd-analyze tells of as long as it is enabled.
  local service
  for service in prometheus victoria-metrics unicorn; do
    if [[ " ${missing[*]} " == *" $service "* ]]; then disable_service "$service"; fi
  done
}

have() {
  case $1 in
    *' (Python module)') "$python" -c "import ${1%% *}" >/dev/null 2>&1 ;;
    *' (Ruby gem)') ruby -e 'gem ARGV[0]' "${1%% *}" >/dev/null 2>&1 ;;
    *) command -v "$1" >/dev/null ;;
  esac
}

# Where there is no apt, package names would be guesses: say what must be there.
check_programs() {
  local program
  local -a missing=()
  for program in "${programs[@]}"; do
    if ! have "$program"; then missing+=("$program"); fi
  done
  if ((${#missing[@]} == 0)); then return 0; fi
  say 'this system has no dpkg and apt-get, so nothing can be installed for you; needed:'
  for program in "${programs[@]}"; do
    if have "$program"; then echo "  present  $program"; else echo "  MISSING  $program"; fi
  done >&2
  return 1
}

if (($# == 0)); then set -- test; fi
for group in "$@"; do
  case $group in
    demo | test | trial) "add_$group" ;;
    *) usage ;;
  esac
done

status=0
check_go || status=1
# Not called in a condition: there, "set -e" would not stop a failed apt-get.
if command -v dpkg-query >/dev/null && command -v apt-get >/dev/null; then
  install_packages
else
  check_programs
fi
exit $status
