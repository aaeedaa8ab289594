#!/usr/bin/env bash
# Runs the example application under gunicorn with promagg beside it, shows the
# merged metrics, and keeps both running under light traffic until Ctrl-C.
#
#   DEMO_SECONDS=N   end by itself after N seconds
#   PROMAGG=path     the promagg to run (default: bin/promagg of this tree)
set -euo pipefail

# A shell cannot trap a signal that was ignored when it started, and that is how
# the background jobs of a script start: with SIGINT ignored.
if [[ -z ${PROMAGG_DEMO_STARTED-} ]]; then
  PROMAGG_DEMO_STARTED=1 exec env --default-signal=INT "$BASH" "${BASH_SOURCE[0]}" "$@"
fi
unset PROMAGG_DEMO_STARTED

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)

# The distribution's own, by path: another python3 earlier on PATH does not see
# the distribution's modules.
readonly python=/usr/bin/python3
readonly gunicorn=/usr/bin/gunicorn
readonly promagg=${PROMAGG:-$root/bin/promagg}

readonly startup_seconds=20
readonly grace_seconds=3

# What was started, in the order in which it is to be stopped.
traffic_pid='' gunicorn_pid='' promagg_pid=''
work=''

say() { printf 'demo: %s\n' "$*"; }

die() {
  say "$*" >&2
  exit 1
}

# launch LOG COMMAND...: starts a command in a session of its own, with its
# output in LOG. Ctrl-C in a terminal goes to every process of the terminal's
# foreground group; in another session they are not reached by it, and this
# script alone decides the order in which things stop. As setsid does not fork
# here, $! is the command, and also the id of the process group of all that the
# command starts.
launch() {
  local log=$1
  shift
  setsid "$@" </dev/null >>"$log" 2>&1 &
}

# The group is not there in the moment before setsid has run; the process is.
running() { [[ -n $1 ]] && { kill -0 -- "-$1" || kill -0 "$1"; } 2>/dev/null; }

# stop PID: asks it to end, and kills it with all its children after the grace
# period.
stop() {
  local pid=$1 deadline=$((SECONDS + grace_seconds))
  running "$pid" || return 0
  kill -TERM "$pid" 2>/dev/null || true
  while running "$pid"; do
    if ((SECONDS > deadline)); then
      { kill -KILL -- "-$pid" || kill -KILL "$pid"; } 2>/dev/null || true
      break
    fi
    sleep 0.05
  done
  wait "$pid" 2>/dev/null || true
}

clean_up() {
  local pid
  # The clean-up takes a bounded time; a second Ctrl-C must not leave half of it.
  trap '' INT TERM HUP PIPE
  # jobs also knows a process that was started and whose id is not yet noted.
  for pid in $traffic_pid $gunicorn_pid $promagg_pid $(jobs -p); do
    stop "$pid"
  done
  if [[ -n $work ]]; then rm -rf -- "$work"; fi
}

trap clean_up EXIT
trap 'exit 0' INT TERM HUP PIPE

case ${DEMO_SECONDS-} in
  *[!0-9]*) die "DEMO_SECONDS must be a whole number of seconds, not '$DEMO_SECONDS'" ;;
esac
for program in "$python" "$gunicorn"; do
  [[ -x $program ]] || die "$program is missing; run scripts/setup.sh demo"
done
[[ -x $promagg ]] || die "$promagg is missing; run make build"

# free_port PORT: prints PORT, or a free one if that is taken.
free_port() {
  "$python" -I -c '
import signal, socket, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
for port in int(sys.argv[1]), 0:
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        s.bind(("127.0.0.1", port))
        s.listen()
    except OSError:
        continue
    print(s.getsockname()[1])
    break
' "$1"
}

# get PORT PATH: prints what a local server answers; fails unless that is 200.
# (Not urllib: it would ask a proxy named in the environment.)
get() {
  "$python" -I -c '
import http.client, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
try:
    connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=5)
    connection.request("GET", sys.argv[2])
    response = connection.getresponse()
    sys.stdout.buffer.write(response.read())
    sys.exit(response.status != 200)
except (OSError, http.client.HTTPException) as error:
    sys.exit(str(error))
' "$1" "$2"
}

# give_up MESSAGE LOG
give_up() {
  say "$1; its log:" >&2
  sed 's/^/  | /' "$2" >&2
  exit 1
}

# await NAME PID LOG PORT PATH: until PATH answers.
await() {
  local name=$1 pid=$2 log=$3 port=$4 path=$5 deadline=$((SECONDS + startup_seconds))
  until get "$port" "$path" >/dev/null 2>&1; do
    kill -0 "$pid" 2>/dev/null || give_up "$name ended before it was ready" "$log"
    ((SECONDS < deadline)) || give_up "$name was not ready after $startup_seconds seconds" "$log"
    sleep 0.1
  done
  # Something else may have taken the port in the meantime and be answering.
  kill -0 "$pid" 2>/dev/null || give_up "$name ended before it was ready" "$log"
}

work=$(mktemp -d "${TMPDIR:-/tmp}/promagg-demo.XXXXXX")
metrics=$work/metrics
mkdir "$metrics"

promagg_port=$(free_port 9917)
app_port=$(free_port 8917)
if [[ $promagg_port != 9917 ]]; then say "port 9917 is taken, promagg gets $promagg_port"; fi
if [[ $app_port != 8917 ]]; then say "port 8917 is taken, the application gets $app_port"; fi

launch "$work/promagg.log" "$promagg" serve --dir "$metrics" --web.listen-address "127.0.0.1:$promagg_port"
promagg_pid=$!

export PROMETHEUS_MULTIPROC_DIR=$metrics
export PYTHONDONTWRITEBYTECODE=1 # no __pycache__ in the tree
launch "$work/gunicorn.log" "$gunicorn" --config "$here/gunicorn.conf.py" --chdir "$here" \
  --bind "127.0.0.1:$app_port" app:app
gunicorn_pid=$!

await promagg "$promagg_pid" "$work/promagg.log" "$promagg_port" /-/ready
await gunicorn "$gunicorn_pid" "$work/gunicorn.log" "$app_port" /
end=$((SECONDS + 10#${DEMO_SECONDS:-0}))

start_traffic() {
  launch "$work/traffic.log" "$python" "$here/traffic.py" --url "http://127.0.0.1:$app_port" "$@"
  traffic_pid=$!
}

say 'promagg and gunicorn are up; sending traffic for 3 seconds'
start_traffic --seconds 3
wait "$traffic_pid" || give_up 'the application did not answer' "$work/gunicorn.log"
say "$(<"$work/traffic.log")"

say "promagg serves, merged from all workers:"
echo
get "$promagg_port" /metrics || give_up 'promagg did not serve /metrics' "$work/promagg.log"
echo
say "metrics      http://127.0.0.1:$promagg_port/metrics"
say "promagg      http://127.0.0.1:$promagg_port/"
say "application  http://127.0.0.1:$app_port/"
worker=''
read -r worker _ 2>/dev/null <"/proc/$gunicorn_pid/task/$gunicorn_pid/children" || true
if [[ -n $worker ]]; then
  say "Kill a worker (kill -9 $worker) and look again: its demo_worker_requests is gone,"
  say 'and what it had counted in demo_requests_total is still there.'
fi
if [[ -n ${DEMO_SECONDS-} ]]; then
  say "Light traffic goes on; this ends $DEMO_SECONDS seconds after the start, or on Ctrl-C."
else
  say 'Light traffic goes on; Ctrl-C ends it.'
fi

traffic_pid=''
while [[ -z ${DEMO_SECONDS-} ]] || ((SECONDS < end)); do
  kill -0 "$promagg_pid" 2>/dev/null || give_up 'promagg has ended' "$work/promagg.log"
  kill -0 "$gunicorn_pid" 2>/dev/null || give_up 'gunicorn has ended' "$work/gunicorn.log"
  # The generator is bounded, so it is started again and again.
  if ! running "$traffic_pid"; then start_traffic --rate 3 --concurrency 2 --seconds 600; fi
  sleep 0.2
done
