"""The parent of some worker.py processes, in whatever PID namespace it is started.

  usage: pool.py N

  I {...}   hands the JSON object to worker I, and its answer back, if it gives one
  kill I    SIGKILL; answers when the worker is gone
  stop I    SIGSTOP; answers when the worker stands still
  cont I    SIGCONT; answers when it is going again
  again I   starts a worker that gets the PID of worker I, which was killed; answers when it is there

It does not import the client itself. The workers end with it.
"""

import os
import signal
import subprocess
import sys


def start():
    return subprocess.Popen(
        [sys.executable, os.path.join(os.path.dirname(__file__), "worker.py")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
    )


def start_as(pid):
    """In a PID namespace of our own nobody else starts processes."""
    with open("/proc/sys/kernel/ns_last_pid", "w") as last:
        last.write(str(pid - 1))
    worker = start()
    if worker.pid != pid:
        sys.exit(f"want PID {pid}, got {worker.pid}")
    return worker


workers = [start() for _ in range(int(sys.argv[1]))]


def send(worker, sig, wait):
    os.kill(worker.pid, sig)
    os.waitpid(worker.pid, wait)


try:
    for line in sys.stdin:
        first, rest = line.rstrip("\n").split(" ", 1)
        if first == "kill":
            workers[int(rest)].kill()
            workers[int(rest)].wait()
            print("killed", flush=True)
        elif first == "again":
            workers[int(rest)] = start_as(workers[int(rest)].pid)
            print("started", flush=True)
        elif first == "stop":
            send(workers[int(rest)], signal.SIGSTOP, os.WUNTRACED)
            print("stopped", flush=True)
        elif first == "cont":
            send(workers[int(rest)], signal.SIGCONT, os.WCONTINUED)
            print("continued", flush=True)
        else:
            worker = workers[int(first)]
            worker.stdin.write(rest + "\n")
            if '"sync"' in rest or '"modes"' in rest:
                print(worker.stdout.readline().strip(), flush=True)
finally:
    for worker in workers:
        worker.kill()
