"""CPU seconds of a tree of processes."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import resident
from benchmarks.cpu import cpu_seconds

BURN = "import time\nwhile time.process_time() < 0.3: pass\nprint('burnt', flush=True)\ninput()"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc: living descendants are not counted here")
def test_a_child_counts_while_it_lives_and_once_it_has_ended():
    before = cpu_seconds()
    child = subprocess.Popen([sys.executable, "-c", BURN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "burnt\n"
    assert cpu_seconds() - before >= 0.28  # a tick of the kernel's clock is a hundredth
    child.communicate("\n")
    assert cpu_seconds() - before >= 0.28


@pytest.mark.skipif(not resident.available(), reason="no /proc/self/clear_refs: peak memory is not measured here")
def test_a_peak_is_of_what_was_held_since_the_reset():
    mebibyte = 2**20
    taken = bytearray(b"x") * (64 * mebibyte)
    before = resident.reset_peak()
    assert resident.peak() - before < 16 * mebibyte
    taken += bytearray(b"x") * (64 * mebibyte)
    assert resident.peak() - before > 48 * mebibyte
    del taken
    assert resident.peak() - before > 48 * mebibyte
