#!/usr/bin/env bash
# What scripts/trial.sh does inside of the new system.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

# run shows a command and runs it.
run() {
  printf '\n$ %s\n' "$1"
  bash -euo pipefail -c "$1"
}

# start shows a command and starts it. What it says goes into a log.
start() {
  printf '\n$ %s &\n' "$2"
  bash -c "exec $2" >"/root/$1.log" 2>&1 &
  pids[$1]=$!
}

stop() {
  kill -TERM "${pids[$1]}"
  wait "${pids[$1]}" || printf '%s ended with %s\n' "$1" "$?"
  unset "pids[$1]"
}

# await runs a command again until it succeeds and shows what it then says.
await() {
  printf '\n$ %s\n' "$1"
  for _ in $(seq 300); do
    if out=$(bash -euo pipefail -c "$1" 2>/dev/null); then
      printf '%s\n' "$out"
      return
    fi
    sleep 0.2
  done
  printf 'gave up on: %s\n' "$1" >&2
  tail -n 20 /root/*.log >&2
  exit 1
}

declare -A pids

case $1 in
install)
  # Services are not to be started in a chroot.
  printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
  chmod +x /usr/sbin/policy-rc.d
  apt-get -qq update
  run 'apt-get -qq install -y --no-install-recommends /root/promagg.deb >/dev/null 2>&1; dpkg -s promagg | grep -E "^(Status|Version)"'
  run 'promagg version | head -1; getent passwd promagg; man --version >/dev/null 2>&1 || true; ls /usr/share/man/man1/promagg*.gz | wc -l'
  apt-get -qq install -y --no-install-recommends gunicorn python3-flask python3-prometheus-client prometheus victoria-metrics \
    curl openssl systemd >/dev/null 2>&1
  run 'systemd-analyze verify --man=no /usr/lib/systemd/system/promagg.service /usr/lib/systemd/system/promagg@.service /usr/lib/systemd/system/promagg.socket && echo verified'
  run 'systemd-analyze security --offline=yes /usr/lib/systemd/system/promagg.service | tail -1'
  ;;

use)
  cd /root
  trap 'kill "${pids[@]}" 2>/dev/null || true' EXIT
  printf '\n== gunicorn\n'
  cat >app.py <<'PY'
from flask import Flask
from prometheus_client import Counter

app = Flask(__name__)
VISITS = Counter("visits", "Visits of the page.")

@app.route("/")
def page():
    VISITS.inc()
    return "hello\n"
PY
  run 'cat app.py'
  start app 'promagg run --web.listen-address 127.0.0.1:9917 -- gunicorn --workers 4 --bind 127.0.0.1:8000 app:app'
  await 'curl -sf http://127.0.0.1:8000/'
  run 'for i in $(seq 99); do curl -sf http://127.0.0.1:8000/ >/dev/null; done; curl -sf http://127.0.0.1:9917/metrics | grep -E "^(# HELP visits|visits|promagg_workers\{)"'
  stop app
  run 'tail -n 3 app.log'

  printf '\n== TLS with a client certificate, scraped by Prometheus\n'
  run 'openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=ca -keyout ca.key -out ca.pem 2>/dev/null
for name in server client; do
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=$name -addext "subjectAltName=DNS:localhost" -keyout $name.key -out $name.csr 2>/dev/null
  openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -copy_extensions copy -out $name.pem 2>/dev/null
done; ls *.pem'
  cat >web.yml <<'YML'
tls_server_config:
  cert_file: server.pem
  key_file: server.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.pem
  min_version: TLS13
YML
  cat >prometheus.yml <<'YML'
global: {scrape_interval: 1s}
scrape_configs:
  - job_name: app
    scheme: https
    tls_config: {ca_file: ca.pem, cert_file: client.pem, key_file: client.key}
    static_configs: [{targets: ["localhost:9917"]}]
  - job_name: stranger
    scheme: https
    tls_config: {ca_file: ca.pem}
    static_configs: [{targets: ["localhost:9917"]}]
YML
  run 'cat web.yml prometheus.yml'
  start app 'promagg run --web.listen-address 127.0.0.1:9917 --web.config.file web.yml -- gunicorn --workers 2 --bind 127.0.0.1:8000 app:app'
  start prometheus 'prometheus --config.file prometheus.yml --storage.tsdb.path tsdb --web.listen-address 127.0.0.1:9090 --web.enable-remote-write-receiver'
  await 'curl -sf http://127.0.0.1:8000/'
  await 'curl -sf "http://127.0.0.1:9090/api/v1/query?query=visits_total%7Bjob%3D%22app%22%7D" | grep -o "\"visits_total\".*1\""'
  await 'promtool query instant http://127.0.0.1:9090 "sort(up)" | grep -E "app.* => 1 " && promtool query instant http://127.0.0.1:9090 up | grep -E "stranger.* => 0 "'
  stop app

  printf '\n== remote write, to Prometheus and VictoriaMetrics\n'
  start victoria 'victoria-metrics -storageDataPath vm -httpListenAddr 127.0.0.1:8428'
  await 'curl -sf http://127.0.0.1:8428/health'
  run 'mkdir -p metrics'
  start app 'env PROMETHEUS_MULTIPROC_DIR=/root/metrics gunicorn --workers 2 --bind 127.0.0.1:8000 app:app'
  await 'curl -sf http://127.0.0.1:8000/'
  start to-prometheus 'promagg export --dir metrics --remote-write http://127.0.0.1:9090/api/v1/write --interval 1s --job written'
  start to-victoria 'promagg export --dir metrics --fold=false --remote-write http://127.0.0.1:8428/api/v1/write --interval 1s --job written'
  await 'promtool query instant http://127.0.0.1:9090 "visits_total{job=\"written\"}" | grep -E "=> 1 "'
  await 'curl -sf "http://127.0.0.1:8428/api/v1/query?query=visits_total" | grep -o "\"visits_total\".*\"1\""'
  run 'promagg check --dir metrics || true'
  stop to-prometheus; stop to-victoria; stop app
  run 'promagg clean --dir metrics && ls -A metrics | wc -l'
  stop victoria; stop prometheus
  ;;

purge)
  run 'apt-get -qq purge -y promagg >/dev/null 2>&1; ! dpkg -s promagg >/dev/null 2>&1 && ! getent passwd promagg && ! command -v promagg && echo "nothing is left"'
  ;;
esac
