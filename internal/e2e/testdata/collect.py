"""Prints what the Python client's own collector reads from a directory.

  usage: collect.py DIR

A JSON list of families {"name", "type", "help", "samples": [[name, {labels}, "value"]]}.
"""

import json
import sys

from prometheus_client import multiprocess

print(json.dumps([
    {
        "name": family.name, "type": family.type, "help": family.documentation,
        "samples": [[s.name, s.labels, str(s.value)] for s in family.samples],
    }
    for family in multiprocess.MultiProcessCollector(None, sys.argv[1]).collect()
]))
