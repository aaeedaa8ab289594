"""Prints what the Python client reads from a directory from its version 0.18 on, which
writes a timestamp behind each value.

  usage: collect_timestamped.py DIR

It is written down from that client's format and rules, for tests on machines that have
an older one. The output is that of collect.py.
"""

import glob
import json
import os
import struct
import sys


def entries(data):
    used = struct.unpack_from("i", data, 0)[0]
    assert 8 <= used <= len(data), "used is %d of %d bytes" % (used, len(data))
    pos = 8
    while pos < used:
        length = struct.unpack_from("i", data, pos)[0]
        key = data[pos + 4:pos + 4 + length].decode()
        pos += 4 + length + 8 - (length + 4) % 8
        value, timestamp = struct.unpack_from("dd", data, pos)
        pos += 16
        yield key, value, timestamp
    assert pos == used, "the last entry ends at %d, used is %d" % (pos, used)


def go_string(bound):
    if bound == float("inf"):
        return "+Inf"
    return repr(float(bound))


families = {}
for path in sorted(glob.glob(os.path.join(sys.argv[1], "*.db"))):
    parts = os.path.basename(path).split("_")
    with open(path, "rb") as f:
        data = f.read()
    for key, value, timestamp in entries(data):
        family, sample, labels, text = json.loads(key)  # all four, or it is not that client's
        f = families.setdefault(family, {"name": family, "type": parts[0], "help": text, "read": []})
        labels = tuple(sorted(labels.items()))
        mode = pid = None
        if parts[0] == "gauge":
            mode, pid = parts[1], parts[2][:-3]
        f["read"].append((sample, labels, value, timestamp, mode, pid))

for f in families.values():
    samples, buckets, newest = {}, {}, {}
    for sample, labels, value, timestamp, mode, pid in f.pop("read"):
        key = (sample, labels)
        if mode in ("all", "liveall"):
            samples[(sample, labels + (("pid", pid),))] = value
        elif mode in ("min", "livemin"):
            samples[key] = min(samples.setdefault(key, value), value)
        elif mode in ("max", "livemax"):
            samples[key] = max(samples.setdefault(key, value), value)
        elif mode in ("mostrecent", "livemostrecent"):
            if newest.get(key, 0.0) < timestamp:
                samples[key], newest[key] = value, timestamp
        elif f["type"] == "histogram" and sample == f["name"] + "_bucket":
            without = tuple(l for l in labels if l[0] != "le")
            bounds = buckets.setdefault(without, {})
            bound = float(dict(labels)["le"])
            bounds[bound] = bounds.get(bound, 0.0) + value
        else:
            samples[key] = samples.get(key, 0.0) + value
    for labels, bounds in buckets.items():
        total = 0.0
        for bound in sorted(bounds):
            total += bounds[bound]
            samples[(f["name"] + "_bucket", labels + (("le", go_string(bound)),))] = total
        samples[(f["name"] + "_count", labels)] = total
    f["samples"] = [[name, dict(labels), str(value)] for (name, labels), value in samples.items()]

print(json.dumps(list(families.values())))
