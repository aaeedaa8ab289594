"""Writes the value files of many writers with the Python client itself.

Reads on stdin, as JSON, what to write (see buildCountersPython in shape.go), and
answers with the sum of all values. PROMETHEUS_MULTIPROC_DIR names the directory.

One process plays all the writers, one after the other: the client asks for the
writer's id before each operation and, where it is another than before, begins
new files for all its metrics, as it does in a worker after a fork.
"""

import json
import random
import sys

from prometheus_client import Counter, values

order = json.load(sys.stdin)
writer = order["writers"][0]
values.ValueClass = values.MultiProcessValue(process_identifier=lambda: writer)

counter = Counter(order["family"], order["help"], order["label_names"], registry=None)
children = [counter.labels(*labels) for labels in order["labels"]]

rand = random.Random(order["seed"])
total = 0
for writer in order["writers"]:
    for child in children:
        value = rand.randrange(order["max_value"])
        child.inc(value)
        total += value
json.dump(total, sys.stdout)
