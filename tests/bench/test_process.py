"""CPU seconds of a process tree and peak memory of this process, against work of known size."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.process import can_measure_memory, cpu_seconds, peak_memory, reset_peak_memory

BURN = "import time\nwhile time.process_time() < 0.3: pass\nprint('burnt', flush=True)\ninput()"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="without /proc, living descendants are not counted")
def test_a_child_counts_while_it_runs_and_after_it_has_ended():
    before = cpu_seconds()
    child = subprocess.Popen([sys.executable, "-c", BURN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "burnt\n"
    assert cpu_seconds() - before >= 0.28  # the kernel counts in ticks of 0.01 s
    child.communicate("\n")
    assert cpu_seconds() - before >= 0.28


@pytest.mark.skipif(not can_measure_memory(), reason="without /proc/self/clear_refs, peak memory is not measured")
def test_the_peak_is_the_most_held_since_the_reset():
    mebibyte = 2**20
    taken = bytearray(b"x") * (64 * mebibyte)
    before = reset_peak_memory()
    assert peak_memory() - before < 16 * mebibyte
    taken += bytearray(b"x") * (64 * mebibyte)
    assert peak_memory() - before > 48 * mebibyte
    del taken
    assert peak_memory() - before > 48 * mebibyte
