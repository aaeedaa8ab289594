#!/usr/bin/python3
"""Sends a bounded amount of mixed traffic to the demo application."""

import argparse
import collections
import http.client
import random
import signal
import sys
import threading
import time
import urllib.parse

# Path and how often it is asked for, in percent. The last one does not exist.
PATHS = {"/": 50, "/items/{}": 37, "/slow": 6, "/error": 5, "/no/such/page": 2}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8917", help="default: %(default)s")
    parser.add_argument("--seconds", type=float, help="stop after this time (3, unless --requests is given)")
    parser.add_argument("--requests", type=int, help="stop after this many requests")
    parser.add_argument("--rate", type=float, default=100, help="requests per second at most; default: %(default)s")
    parser.add_argument("--concurrency", type=int, default=4, help="requests at the same time; default: %(default)s")
    arguments = parser.parse_args()
    url = urllib.parse.urlsplit(arguments.url)
    if url.scheme != "http" or not url.hostname:
        parser.error("--url must look like http://host:port")
    if arguments.rate <= 0 or arguments.concurrency < 1:
        parser.error("--rate and --concurrency must be positive")
    if arguments.seconds is None and arguments.requests is None:
        arguments.seconds = 3.0
    return arguments, url.hostname, url.port or 80


class Traffic:
    def __init__(self, arguments, host, port):
        self.host, self.port = host, port
        self.interval = 1 / arguments.rate
        self.left = float("inf") if arguments.requests is None else arguments.requests
        now = time.monotonic()
        self.next = now
        self.end = float("inf") if arguments.seconds is None else now + arguments.seconds
        self.outcomes = collections.Counter()
        self.lock = threading.Lock()
        self.stopped = threading.Event()

    def take_turn(self):
        """Waits for this thread's turn; false when there are no more."""
        with self.lock:
            # After a pause (all threads waiting for answers) the missed turns
            # are dropped, not made up for in a burst.
            turn = self.next = max(self.next, time.monotonic())
            if self.left <= 0 or turn >= self.end or self.stopped.is_set():
                return False
            self.left -= 1
            self.next += self.interval
        return not self.stopped.wait(max(0, turn - time.monotonic()))

    def request(self):
        path = random.choices(list(PATHS), PATHS.values())[0].format(random.randint(1, 20))
        # http.client and not urllib.request: a proxy from the environment has
        # no business between here and a local server.
        connection = http.client.HTTPConnection(self.host, self.port, timeout=10)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            response.read()
            return str(response.status)
        except (OSError, http.client.HTTPException):
            return "failed"
        finally:
            connection.close()

    def run(self):
        while self.take_turn():
            outcome = self.request()
            with self.lock:
                self.outcomes[outcome] += 1


def main():
    arguments, host, port = parse_arguments()
    traffic = Traffic(arguments, host, port)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: traffic.stopped.set())
    threads = [threading.Thread(target=traffic.run) for _ in range(arguments.concurrency)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    outcomes = traffic.outcomes
    by_status = ", ".join(f"{count} x {status}" for status, count in sorted(outcomes.items()))
    print(f"{sum(outcomes.values())} requests: {by_status or 'none'}")
    # Failing answers are part of the traffic; no answer at all is a failure.
    return 1 if outcomes and set(outcomes) == {"failed"} else 0


if __name__ == "__main__":
    sys.exit(main())
