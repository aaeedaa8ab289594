"""A small Flask application whose workers count into shared memory-mapped files.

Nothing here knows about promagg. With PROMETHEUS_MULTIPROC_DIR set, the
unmodified prometheus_client keeps every value in a file per process in that
directory, and promagg reads them there. So there is no /metrics route either.
"""

import random
import time

from flask import Flask, g, request
from prometheus_client import Counter, Gauge, Histogram, Summary

REQUESTS = Counter(
    "demo_requests",
    "Requests served, by URL rule and status.",
    ["path", "status"],
)
LATENCY = Histogram(
    "demo_latency_seconds",
    "Time taken to serve a request, by URL rule.",
    ["path"],
    buckets=(0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0),
)
RESPONSE_SIZE = Summary(
    "demo_response_size_bytes",
    "Size of response bodies, by URL rule.",
    ["path"],
)
# The live modes count living workers only: what a dead worker had in progress
# is not in progress any more.
IN_PROGRESS = Gauge(
    "demo_requests_in_progress",
    "Requests being served now, in all living workers.",
    multiprocess_mode="livesum",
)
WORKER_REQUESTS = Gauge(
    "demo_worker_requests",
    "Requests served by each living worker.",
    multiprocess_mode="liveall",
)

app = Flask(__name__)


def rule():
    """The URL rule, not the raw path: anyone can invent any number of paths,
    and each would become a time series that is never forgotten."""
    return request.url_rule.rule if request.url_rule else "unmatched"


@app.before_request
def start():
    g.started = time.perf_counter()
    IN_PROGRESS.inc()


@app.after_request
def observe(response):
    path = rule()
    REQUESTS.labels(path, response.status_code).inc()
    LATENCY.labels(path).observe(time.perf_counter() - g.started)
    RESPONSE_SIZE.labels(path).observe(response.calculate_content_length() or 0)
    WORKER_REQUESTS.inc()
    return response


@app.teardown_request
def finish(_error):
    IN_PROGRESS.dec()


@app.route("/")
def index():
    return "Try /items/1, /slow and /error.\n"


@app.route("/items/<id>")
def item(id):
    return {"id": id, "tags": ["tag"] * random.randint(0, 50)}


@app.route("/slow")
def slow():
    time.sleep(random.uniform(0.1, 0.4))
    return "done at last\n"


@app.route("/error")
def error():
    return "this route always fails\n", 500
