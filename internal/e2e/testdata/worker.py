"""A worker that does with the unmodified Python client what it is told, one JSON object per line.

  {"op": "inc" | "set" | "observe", "type": ..., "name": ..., "labels": {...}, "value": ...,
   "mode": a gauge's mode, "bounds": a histogram's bounds}
  {"op": "id", "id": ...}   writes from now on to the files of another process identifier
  {"op": "modes"}           answers with the gauge modes this client has
  {"op": "sync"}            answers with the PID, once all before it is done
"""

import json
import os
import sys

from prometheus_client import Counter, Gauge, Histogram, Summary, values

identifier = None
values.ValueClass = values.MultiProcessValue(lambda: identifier or os.getpid())
metrics = {}


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
    else:
        getattr(metric(op), op["op"])(op["value"])
