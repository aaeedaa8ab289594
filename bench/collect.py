"""Scrapes a multiprocess directory with the Python client's own collector.

For each line on stdin it makes one exposition, the way the client's
documentation says a /metrics view does, and answers on stdout with a line of
JSON, {"seconds": ..., "bytes": ...}, and that many bytes of exposition. The
process lives on between scrapes, so that only the work of a scrape is measured.
"""

import json
import sys
import time

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

for _ in sys.stdin:
    begin = time.perf_counter()
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=sys.argv[1])
    text = generate_latest(registry)
    seconds = time.perf_counter() - begin
    answer = json.dumps({"seconds": seconds, "bytes": len(text)})
    sys.stdout.buffer.write(answer.encode() + b"\n" + text)
    sys.stdout.buffer.flush()
