bind = "127.0.0.1:8917"
workers = 4

# No child_exit hook calling prometheus_client.multiprocess.mark_process_dead():
# promagg asks the kernel which of the processes are alive, and so also knows
# about workers that were killed in a way that runs no hook.
