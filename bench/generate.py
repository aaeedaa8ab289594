"""Writes the value files of many writers with the Python client itself.

Reads on stdin, as JSON, what to write (see generatePeer in generate.go), and
answers with the sums of the values: for each key, in the order of the keys in a
file, and for each writer. PROMETHEUS_MULTIPROC_DIR names the directory.

One process plays all the writers, one after the other: the client asks for the
writer's id before each operation and, where it is another than before, begins
new files for all its metrics, as it does in a worker after a fork.
"""

import json
import random
import sys

from prometheus_client import Counter, Gauge, Histogram, values

order = json.load(sys.stdin)
writer = order["writers"][0]
values.ValueClass = values.MultiProcessValue(process_identifier=lambda: writer)


def metric(family):
    args = family["name"], family["help"], family["label_names"]
    if family["type"] == "counter":
        return Counter(*args, registry=None)
    if family["type"] == "gauge":
        return Gauge(*args, registry=None, multiprocess_mode=family["mode"])
    return Histogram(*args, registry=None, buckets=[float(b) for b in family["bounds"]])


def cells(child):
    """What a child keeps in the file, in the order in which it made it."""
    if isinstance(child, Histogram):
        return [child._sum, *child._buckets]
    return [child._value]


cells = [
    cell
    for family, parent in [(f, metric(f)) for f in order["families"]]
    for labels in family["labels"]
    for cell in cells(parent.labels(*labels))
]

rand = random.Random(order["seed"])
sums = [0] * len(cells)
writers = []
for writer in order["writers"]:
    total = 0
    for i, cell in enumerate(cells):
        value = rand.randrange(order["max_value"])
        cell.inc(value)
        sums[i] += value
        total += value
    writers.append(total)
json.dump({"sums": sums, "writers": writers}, sys.stdout)
