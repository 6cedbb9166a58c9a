"""Guard of a server process: ends it, with all that it has started, when the trainer ends in whatever way.

`python -m winnow.engines.server_guard PARENT FOLDER… -- COMMAND…` runs the command in a process group of its own, ends
with its exit code, and deletes the folders. A trainer that is killed cannot end anything itself; the guard sees that
its parent is no longer process PARENT.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

LOOK_SECONDS = 0.5
GRACE_SECONDS = 10.0
"""Time between the signals SIGTERM and SIGKILL."""


def watch(parent: int, folders: Sequence[str], command: Sequence[str]) -> int:
    """Run `command` until it ends, a SIGTERM comes, or process `parent` is gone; its exit code."""
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the trainer's to answer
    try:
        server = subprocess.Popen(command, start_new_session=True)
        while server.poll() is None and not asked and os.getppid() == parent:
            with suppress(subprocess.TimeoutExpired):
                server.wait(LOOK_SECONDS)
        return _ended(server)
    finally:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)


def _ended(server: subprocess.Popen[bytes]) -> int:
    """Exit code of the server after its whole process group has gone."""
    for number, seconds in ((signal.SIGTERM, GRACE_SECONDS), (signal.SIGKILL, GRACE_SECONDS)):
        until = time.monotonic() + seconds
        while _signalled(server.pid, number) and time.monotonic() < until:
            server.poll()  # reaps it, so that its group can vanish
            time.sleep(0.05)
            number = 0  # the signal once, then only a look
    return server.wait()


def _signalled(group: int, number: int) -> bool:
    """Whether the process group still has a process; it gets the signal if `number` is not 0."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


if __name__ == "__main__":
    mark = sys.argv.index("--")
    sys.exit(watch(int(sys.argv[1]), sys.argv[2:mark], sys.argv[mark + 1 :]))
