"""The parent of some worker.py processes, in whatever PID namespace it is started.

  usage: pool.py N

  I {...}   hands the JSON object to worker I, and its answer back, if it gives one
  kill I    SIGKILL; answers when the worker is gone
  stop I    SIGSTOP; answers when the worker stands still
  cont I    SIGCONT; answers when it is going again

It does not import the client itself. The workers end with it.
"""

import os
import signal
import subprocess
import sys

workers = [
    subprocess.Popen(
        [sys.executable, os.path.join(os.path.dirname(__file__), "worker.py")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
    )
    for _ in range(int(sys.argv[1]))
]


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
