"""Calibration of this machine for `winnow plan hardware=cpu`: probes of its arithmetic, and short runs for the rest."""

import io
import os
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from winnow.assemble.planning import Options, plan_with
from winnow.launch import programs
from winnow.launch.in_process import run_in_process
from winnow.plan.calibration import calibrated
from winnow.plan.machine import Machine

SMALL = (
    "model=tiny_fresh",
    "model.layers=1",
    "model.width=16",
    "model.heads=2",
    "model.kv_heads=1",
    "model.intermediate=32",
    "hardware=cpu",
    "hardware.threads=1",
    "logger=none",
    "rollout.max_tokens=8",
    "update.minibatches=1",
    "metrics.kl_rows=0",
    "eval.every=0",
    "eval.prompts=1",
    "eval.samples=1",
    "checkpoint.every=1000000",
    "dataset.train_size=2000",
    "algo=reinforce",
)
"""A run whose model costs next to nothing, so that its time is bookkeeping: prompts, verdicts, rows, files."""
PROMPTS = (8, 48)
ITERATIONS = (2, 8)


def calibrate(say: Callable[[str], None]) -> Machine:
    """The costs of this machine: of arithmetic, and what a run takes besides: seconds per row and iteration, memory.

    The runs come first, so that they find no memory that the probes have freed.
    """
    say("timing the bookkeeping of short runs …")
    before = _resident()
    taken = {prompts: _seconds(prompts) for prompts in PROMPTS}
    overhead = max(0.0, _resident() - before)
    say("timing products, memory, updates and decoding of small models …")
    machine = calibrated()
    rest = {prompts: seconds - _predicted(machine, prompts) for prompts, seconds in taken.items()}
    few, many = (8 * prompts for prompts in PROMPTS)
    row = max(0.0, (rest[PROMPTS[1]] - rest[PROMPTS[0]]) / (many - few))
    return replace(machine, row=row, iteration=max(0.0, rest[PROMPTS[0]] - row * few), overhead=overhead)


def _resident() -> float:
    """Bytes of this process in memory; 0 on a system without /proc."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.is_file() else 0.0


def _seconds(prompts: int) -> float:
    """CPU seconds of an iteration: the difference of two runs, so that their starts and ends do not count."""
    first, last = (_run(prompts, iterations) for iterations in ITERATIONS)
    return (last - first) / (ITERATIONS[1] - ITERATIONS[0])


def _run(prompts: int, iterations: int) -> float:
    words = [*SMALL, f"rollout.prompts={prompts}", f"iterations={iterations}"]
    with TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        began = _used()
        run_in_process(programs.installed("train"), [*words, f"hydra.run.dir={Path(folder) / 'run'}"])
        return _used() - began


def _used() -> float:
    ended = os.times()
    return time.process_time() + ended.children_user + ended.children_system


def _predicted(machine: Machine, prompts: int) -> float:
    options = Options(assume=("response_share=1", "response_spread=0", "prompt_tokens=12", "kept=1"))
    return plan_with(machine, [*SMALL, f"rollout.prompts={prompts}"], options).timeline.iteration
