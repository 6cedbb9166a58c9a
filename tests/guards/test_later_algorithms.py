"""The update check holds the gradient of every algorithm since the paper against plain forwards, and finds no fault."""

from pathlib import Path

import pytest

from running import SINCE, metrics, run

ON_LOG_PROBABILITIES = ("topr", "vespo")
"""Their clipping rule puts a number on log π that has no gradient, at a ratio that is one for the whole response."""


@pytest.mark.parametrize(
    "algo", [a if a in ON_LOG_PROBABILITIES else pytest.param(a, marks=pytest.mark.faults) for a in SINCE]
)
def test_a_right_gradient_passes(tmp_path: Path, algo: str):
    samples = "rollout.samples=8"  # more than the k of passk
    run(tmp_path, f"algo={algo}", samples, "iterations=2", "checks.every=1", "checks.rows=8", "eval.every=0")
    assert [row["iteration"] for row in metrics(tmp_path)] == [0, 1, 2]
