"""A Flask application as anybody writes it; it does not know of promagg."""

import os

from flask import Flask, request
from prometheus_client import Counter, Gauge, Histogram, Summary

REQUESTS = Counter("requests_total", "Requests served.", ["path", "status"])
LATENCY = Summary("request_seconds", "Time taken per request.", ["path"])
SIZES = Histogram("response_bytes", "Size of responses.", ["path"], buckets=(1, 10, 100, 1000))
IN_PROGRESS = Gauge("requests_in_progress", "Requests being served.", multiprocess_mode="livesum")
# Labelled, so that it is not there before the worker's first request.
WORKER = Gauge("worker_requests", "Requests served by this worker.", ["kind"], multiprocess_mode="liveall")
# Written as the application is loaded: in each worker, or once in their parent (gunicorn's preload_app).
LOADED = Counter("app_loads_total", "Times that the application was loaded.")
LOADED.inc()
LOADED_HERE = Gauge("app_loaded", "Set in the process that has loaded the application.", multiprocess_mode="liveall")
LOADED_HERE.set(1)

app = Flask(__name__)


@app.route("/<name>")
@IN_PROGRESS.track_inprogress()
def page(name):
    with LATENCY.labels(request.path).time():
        body = str(os.getpid())
    status = 404 if name == "missing" else 200
    SIZES.labels(request.path).observe(len(body))
    WORKER.labels("all").inc()
    REQUESTS.labels(request.path, status).inc()
    return body, status
