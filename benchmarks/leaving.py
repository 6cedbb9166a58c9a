"""How fast a run leaves on a signal: in phases that would last a minute, and at random moments of its start.

`python -m benchmarks.leaving` sends SIGTERM to runs of train.py that sample, verify or evaluate for a minute or more,
after 5, 20 and 40 seconds of it, and prints the seconds until each has ended. `--starts N` sends SIGINT to N runs in
their first seconds instead.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from winnow.errors import INTERRUPTED

MODULE = "slow_answers"
SLOW_RULE = '''
"""A rule whose check takes a second for each answer."""
import time
from winnow.rewards.rules import Exact


class Slow(Exact):
    check = "slow_answers:slowly"

    def settle(self, gold, answer):
        return None


def slowly(gold, answer):
    time.sleep(1)
    return gold == answer
'''
QUIET = ("logger=none", "hardware.threads=1", "hardware.accelerator=cpu", "eval.every=0", "iterations=3")
SMALL = ("rollout.prompts=8", "eval.prompts=8")
PHASES: dict[str, Sequence[str]] = {
    "sampling": ("rollout.prompts=4096", "eval.prompts=8"),
    "verifying": (
        "rollout.prompts=256",
        "eval.prompts=1",
        f"plugins=[{MODULE}]",
        f"reward.verifier.rule._target_={MODULE}.Slow",
    ),
    "evaluation": (*SMALL, "dataset.heldout_size=8192", "eval.prompts=null", "eval.samples=16"),
}
"""Settings under which a phase, as the first long one of a run, lasts more than a minute."""
DELAYS = (5.0, 20.0, 40.0)
BEGINS = {"sampling": "iteration 0/", "verifying": "iteration 0/", "evaluation": "prompts ×"}
"""The line after which the phase begins."""
FIRST_SECONDS = 6.0
"""Within it a start of the demo has imported everything and has begun to sample."""


@dataclass(frozen=True, slots=True)
class Left:
    """The exit code of a run, and the seconds from the signal until it had ended."""

    code: int
    seconds: float


def start(directory: Path, words: Sequence[str], output: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "train.py", *QUIET, *words, f"hydra.run.dir={directory / 'run'}"]
    environment = {**os.environ, "PYTHONPATH": str(directory)}
    with output.open("wb") as file:
        return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment)


def end(process: subprocess.Popen[bytes], number: signal.Signals) -> Left:
    began = time.monotonic()
    process.send_signal(number)
    return Left(process.wait(), time.monotonic() - began)


def leave_phase(phase: str, delay: float) -> Left:
    """Run until `phase` has lasted for `delay` seconds, and send SIGTERM.

    Raises:
        RuntimeError: the run ended by itself, or the phase did.
    """
    with tempfile.TemporaryDirectory(prefix="winnow-leaving-") as name:
        directory = Path(name)
        (directory / f"{MODULE}.py").write_text(SLOW_RULE)
        output = directory / "output.txt"
        process = start(directory, PHASES[phase], output)
        while BEGINS[phase] not in output.read_text():
            if process.poll() is not None:
                raise RuntimeError(f"the run ended before {phase}:\n{output.read_text()}")
            time.sleep(0.05)
        lines = len(output.read_text().splitlines())
        time.sleep(delay)
        if process.poll() is not None or len(output.read_text().splitlines()) > lines + 1:
            process.kill()
            raise RuntimeError(f"{phase} was over within {delay:.0f} s:\n{output.read_text()}")
        return end(process, signal.SIGTERM)


def interrupt_start(delay: float) -> Left:
    """SIGINT to a run, `delay` seconds after it was started."""
    with tempfile.TemporaryDirectory(prefix="winnow-leaving-") as name:
        output = Path(name) / "output.txt"
        process = start(Path(name), (), output)
        time.sleep(delay)
        left = end(process, signal.SIGINT)
        if left.code not in (INTERRUPTED, -signal.SIGINT):  # the latter before Python has begun
            print(f"after {delay:.2f} s: exit code {left.code}\n{output.read_text()}")
        return left


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=0, help="interrupt so many starts instead of phases")
    starts = parser.parse_args().starts
    # A shell starts jobs in the background with SIGINT ignored, which the runs would inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for phase in [] if starts else PHASES:
        for delay in DELAYS:
            left = leave_phase(phase, delay)
            print(f"{phase}, after {delay:.0f} s: exit code {left.code} after {left.seconds:.1f} s", flush=True)
    if starts:
        left = [interrupt_start(random.uniform(0, FIRST_SECONDS)) for _ in range(starts)]
        seconds = [each.seconds for each in left]
        print(f"{starts} starts: {median(seconds):.2f} s at the median, {max(seconds):.2f} s at most; exit codes:")
        for code, count in sorted(Counter(each.code for each in left).items()):
            print(f"  {code}: {count}")


if __name__ == "__main__":
    main()
