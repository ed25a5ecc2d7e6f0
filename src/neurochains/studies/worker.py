"""The process of a worker of the local engine: jobs come in on stdin, results go out on stdout, one JSON line each.

What a model's own code prints goes to stderr. When the process that started it is gone, so is the worker.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
from pathlib import Path

__all__ = ["main"]


def main() -> None:
    """Run jobs until there are none; the arguments are the plan's folder and the device, which may be empty."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one, which then ends it
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    jobs: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(jobs,), daemon=True).start()

    import torch

    from neurochains.studies.runner import Runner

    torch.set_num_threads(1)
    root, device = sys.argv[1:3]
    runner = Runner(Path(root), device=device or None)
    while True:
        result = runner.run(json.loads(jobs.get()))
        answers.write(json.dumps(result, allow_nan=False) + "\n")
        answers.flush()


def _listen(jobs: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        jobs.put(line)
    os._exit(0)  # at once, whatever the main thread computes: nobody waits for it any more
