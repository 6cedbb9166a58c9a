"""Server that starts `train.py` in forked processes, which find the imported modules in memory: `fork_server.py`.

For each line of standard input, a JSON list of the path of a log and of words, it forks a process that runs train.py
with these words. It writes the process's number, and its exit code (negative: a signal) once it has ended. Importing
takes most of the time of a small run, and is the same in all of them.
"""

import json
import os
import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def import_what_runs_need() -> None:
    import matplotlib.pyplot  # noqa: F401
    import torch  # noqa: F401

    import winnow.assemble.training
    import winnow.config.checks  # noqa: F401


def run_train(log: str, words: list[str]) -> int:
    """Run train.py in this process as if it had been typed."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.argv = [str(ROOT / "train.py"), *words]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0


def serve() -> int:
    """Fork for each line; in the forked process, return its exit code. The server itself returns 0."""
    import_what_runs_need()
    assert len(os.listdir("/proc/self/task")) == 1  # a fork copies no threads, and what they hold stays locked
    print("ready", flush=True)
    while line := sys.stdin.readline():
        log, *words = json.loads(line)
        pid = os.fork()
        if pid == 0:
            return run_train(log, words)
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(serve())
