"""A worker that writes at random with the unmodified Python client.

  usage: random_writer.py SEED INDEX [IDENTIFIER]

  go N   does N random steps, then answers "paused"

Gauges hold multiples of a quarter, whose sums are exact in any order.
"""

import os
import random
import sys

from prometheus_client import Counter, Gauge, Histogram, Summary, values

seed, index = int(sys.argv[1]), int(sys.argv[2])
identifier = sys.argv[3] if len(sys.argv) > 3 else None
values.ValueClass = values.MultiProcessValue(lambda: identifier or os.getpid())
rnd = random.Random(seed * 1000 + index)

LABELS = [
    "", " ", "plain", "/a/b?c=d&e=f", 'with "quotes"', '"', "back\\slash", "\\", "\\n", "new\nline", "\n",
    "tab\tx", "cr\rx", "ünïcödé", "日本語", "emoji 😀", "e\u0301", "a,b", "{x}", "a=b", "#", "%s", "x" * 300,
]
ODD_HELP = 'Help with "quotes", back\\slash,\nnewline, 日本語 and 😀.'

counters = [
    Counter("py_odd", ODD_HELP, ["path", "code"]),
    Counter("py_named_total", "The client takes the suffix off and puts it on again.", ["Z", "a", "M"]),
]
plain = Counter("py_plain", "No labels at all.")
summary = Summary("py_summary", "Summary.", ["path"])
plain_summary = Summary("py_plain_summary", "Summary without labels.")
histogram = Histogram("py_default_seconds", "Default bounds.", ["path"])
# The bounds of one family may differ between workers.
mixed = Histogram("py_mixed", "Bounds differ between workers.", ["path"],
                  buckets=[(1, 2, 5), (0.5, 2, 1e6), (-1, 0, 1e-9, 2.5)][index % 3])
gauges = {
    mode: Gauge("py_gauge_" + mode, "Gauge " + mode + ".", ["path"], multiprocess_mode=mode)
    for mode in sorted(Gauge._MULTIPROC_MODES)
}
plain_gauges = {
    mode: Gauge("py_plain_gauge_" + mode, "", multiprocess_mode=mode)
    for mode in sorted(Gauge._MULTIPROC_MODES)
}
# New series all the time: the files have to grow.
fresh = Counter("py_fresh", "New series over time.", ["item"])
fresh_histogram = Histogram("py_fresh_seconds", "New series over time.", ["item"], buckets=(0.1, 1, 10))
items = 0


def amount():
    return rnd.choice([0, 1, 1, 1, rnd.random(), rnd.random() * 1e-6, rnd.randrange(1 << 40)])


def quarters():
    return rnd.randrange(-4000, 4000) / 4


def level(mode):
    # A NaN stays out of min and max, where the client's answer hangs on the
    # order in which it happens to read the files.
    if mode in ("all", "liveall") and rnd.random() < 0.05:
        return rnd.choice([float("nan"), float("inf"), float("-inf"), 1e300, 5e-324])
    return quarters()


def step():
    global items
    path = rnd.choice(LABELS)
    kind = rnd.randrange(12)
    if kind < 2:
        counters[0].labels(path, rnd.choice(["200", "404", "500"])).inc(amount())
    elif kind == 2:
        counters[1].labels(path, rnd.choice("xy"), rnd.choice("xy")).inc(amount())
    elif kind == 3:
        plain.inc(amount())
    elif kind == 4:
        summary.labels(path).observe(amount())
        plain_summary.observe(amount())
    elif kind == 5:
        histogram.labels(path).observe(rnd.expovariate(2))
    elif kind == 6:
        mixed.labels(path).observe(rnd.choice([-1, 0, 1, 2, 2.5, 5, 1e6, 1e7, rnd.random() * 6]))
    elif kind < 9:
        mode = rnd.choice(list(gauges))
        gauges[mode].labels(path).set(level(mode))
    elif kind == 9:
        mode = rnd.choice(list(plain_gauges))
        rnd.choice([plain_gauges[mode].inc, plain_gauges[mode].dec])(quarters())
    elif rnd.random() < 0.05 and items < 600:
        items += 1
        fresh.labels("item-%05d" % items).inc()
        if items % 8 == 0:
            fresh_histogram.labels("item-%05d-%s" % (items, "y" * 200)).observe(rnd.random() * 12)
    elif items:
        fresh.labels("item-%05d" % rnd.randint(1, items)).inc(amount())


for line in sys.stdin:
    for _ in range(int(line.split()[1])):
        step()
    print("paused", flush=True)
