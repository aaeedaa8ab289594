"""A worker that does with the unmodified Python client what it is told, one JSON object per line.

  {"op": "inc" | "set" | "observe", "type": ..., "name": ..., "labels": {...}, "value": ...,
   "mode": a gauge's mode, "bounds": a histogram's bounds}
  {"op": "id", "id": ...}   writes from now on to the files of another process identifier
  {"op": "modes"}           answers with the gauge modes this client has
  {"op": "close"}           closes the descriptors of its files, which stay mapped
  {"op": "exec"}            becomes another program, which ends with its input
  {"op": "fork"}            answers with the PID of a child that inherits all it has. On SIGUSR1 that
                            writes again all that its parent wrote, as a worker of its own
  {"op": "sync"}            answers with the PID, once all before it is done
"""

import json
import os
import signal
import sys

from prometheus_client import Counter, Gauge, Histogram, Summary, values

identifier = None
values.ValueClass = values.MultiProcessValue(lambda: identifier or os.getpid())
metrics = {}
written = []


def do(op):
    getattr(metric(op), op["op"])(op["value"])


def close():
    for fd in os.listdir("/proc/self/fd"):
        path = "/proc/self/fd/" + fd
        if os.path.exists(path) and os.readlink(path).endswith(".db"):
            os.close(int(fd))


def fork():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    child = os.fork()
    if child:
        return child
    null = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):  # its parent's output ends with its parent
        os.dup2(null, fd)
    while True:
        signal.sigwait([signal.SIGUSR1])
        for op in written:
            do(op)


def metric(op):
    name, labelnames = op["name"], sorted(op["labels"])
    if name not in metrics:
        make, extra = {
            "counter": (Counter, {}),
            "gauge": (Gauge, {"multiprocess_mode": op.get("mode", "all")}),
            "summary": (Summary, {}),
            "histogram": (Histogram, {"buckets": op.get("bounds", Histogram.DEFAULT_BUCKETS)}),
        }[op["type"]]
        metrics[name] = make(name, "Written by a test.", labelnames, **extra)
    return metrics[name].labels(**op["labels"]) if labelnames else metrics[name]


for line in sys.stdin:
    op = json.loads(line)
    if op["op"] == "sync":
        print(os.getpid(), flush=True)
    elif op["op"] == "modes":
        print(json.dumps(sorted(Gauge._MULTIPROC_MODES)), flush=True)
    elif op["op"] == "id":
        identifier = op["id"]
    elif op["op"] == "close":
        close()
    elif op["op"] == "exec":
        os.execvp("cat", ["cat"])
    elif op["op"] == "fork":
        print(fork(), flush=True)
    else:
        written.append(op)
        do(op)
