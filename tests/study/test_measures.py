"""Measures of a run, and curves over an arm's runs, from rows written by hand."""

import math
from pathlib import Path

import numpy as np
import pytest

from study.studies import ACCURACY, Curves, rows, write_run
from winnow.study.measures import ACCURACY as ANY_ACCURACY
from winnow.study.measures import FINAL_ACCURACY, LATE_ACCURACY, LATE_KL, MEASURES, curve, metric_key
from winnow.study.study import Arm, read_study

RAMP: Curves = {
    ACCURACY: lambda i: i / 10,
    "rollout/acc": lambda i: i / 16,
    "train/kl_ref": lambda i: i / 100,
    "train/sampled_tokens_total": lambda i: 100.0 * i,
}
"""Over iterations 0 to 8, evaluated at 0, 2, 4, 6 and 8."""


def arm(tmp_path: Path, *tables: list[dict[str, float]], correct: dict[int, list[int]] | None = None) -> Arm:
    for seed, table in enumerate(tables):
        write_run(tmp_path / str(seed), "raft", seed, table, correct)
    return read_study([tmp_path]).arms[0]


def test_windows(tmp_path: Path):
    (run,) = arm(tmp_path, rows(RAMP)).runs
    assert FINAL_ACCURACY.value(run) == pytest.approx(80)
    assert LATE_ACCURACY.value(run) == pytest.approx(80)  # of 7 and 8, only 8 was evaluated
    assert MEASURES["early_accuracy"].value(run) == pytest.approx(20)  # of 1 and 2; 0 is before training
    assert MEASURES["early_kl"].value(run) == pytest.approx(0.015)
    assert MEASURES["late_reward"].value(run) == pytest.approx(100 * 7.5 / 16)
    assert MEASURES["sampled_tokens"].value(run) == 800


def test_what_was_not_recorded_is_no_number(tmp_path: Path):
    (run,) = arm(tmp_path, rows({"train/entropy": lambda i: math.nan if i > 6 else 0.1})).runs
    assert len(MEASURES) == 11
    assert all(math.isnan(measure.value(run)) for measure in MEASURES.values())


@pytest.mark.parametrize(
    ("iterations", "updates", "early"),
    [
        (6, 4.0, 0.0),  # iteration 1 alone, before the first update
        (8, 4.0, 0.01 / 2),  # iterations 1 and 2
        (8, lambda i: 4.0 * (i > 1), 0.0),  # no update in iteration 1, so that the KL of iteration 2 is rounding too
        (8, 0.0, 0.0),
    ],
)
def test_a_kl_up_to_the_first_update_is_0_and_not_its_rounding(tmp_path: Path, iterations: int, updates, early: float):
    first = 2 if callable(updates) else 1
    kl = {"train/kl_ref": lambda i: 0.01 * (i - 1) if i > first else 3e-13, "train/updates": updates}
    (run,) = arm(tmp_path, rows(kl, iterations)).runs
    assert MEASURES["early_kl"].value(run) == pytest.approx(early, abs=1e-12)
    assert (MEASURES["early_kl"].value(run) == 0) == (early == 0)


def test_time_of_runs_without_a_total(tmp_path: Path):
    (run,) = arm(tmp_path, rows({"perf/iteration_s": 2.0})).runs
    assert MEASURES["seconds"].value(run) == 16


def test_several_sets_by_their_average(tmp_path: Path):
    table = rows({"eval/a/acc": 0.2, "eval/b/acc": 0.4, "eval/average/acc": 0.3})
    (run,) = arm(tmp_path, table).runs
    assert metric_key(run, ANY_ACCURACY) == "eval/average/acc"
    assert FINAL_ACCURACY.value(run) == pytest.approx(30)


def test_accuracy_by_prompt(tmp_path: Path):
    late = arm(tmp_path, rows(RAMP, iterations=16), correct={12: [0, 0], 14: [1, 3], 16: [3, 3]})
    ((_, found),) = LATE_ACCURACY.prompts_by_seed(late)[0].items()
    assert found.tolist() == [50.0, 75.0]  # of 4 samples, the mean of iterations 14 and 16
    assert LATE_KL.prompts_by_seed(late) == {}


def test_a_curve_over_iterations(tmp_path: Path):
    two = arm(tmp_path, rows(RAMP), rows({ACCURACY: lambda i: i / 10 + (0.2 if i else 0)}))
    found = curve(two, ANY_ACCURACY)
    assert found.x.tolist() == [0, 2, 4, 6, 8]
    assert found.mean.tolist() == pytest.approx([0, 0.3, 0.5, 0.7, 0.9])
    assert found.low is not None
    assert found.high is not None
    assert (found.low[0], found.high[0]) == (0, 0)  # both start from the same model
    assert found.high[1] - 0.3 == pytest.approx(12.706 * 0.1, abs=1e-3)  # t(1) · sd / √2
    assert found.n == 2


def test_only_iterations_that_all_runs_have(tmp_path: Path):
    assert curve(arm(tmp_path, rows(RAMP), rows(RAMP | {"x": 1.0}, every=4)), ACCURACY).x.tolist() == [0, 4, 8]


def test_a_curve_over_tokens_is_interpolated(tmp_path: Path):
    fast = rows(RAMP | {"train/sampled_tokens_total": lambda i: 50.0 * i})  # at 400 tokens where the other is at 800
    found = curve(arm(tmp_path, rows(RAMP), fast), ACCURACY, "sampled_tokens")
    assert found.x.tolist() == [0, 100, 200, 300, 400]
    assert found.mean.tolist() == pytest.approx([1.5 * x / 1000 for x in found.x])  # x / 1000 and x / 500


def test_no_band_of_one_run_and_none_of_equal_ones(tmp_path: Path):
    alone = curve(arm(tmp_path / "one", rows(RAMP)), "train/kl_ref")
    alike = curve(arm(tmp_path / "two", rows(RAMP), rows(RAMP | {"train/entropy": 1.0})), "train/kl_ref")
    assert (alone.low, alone.high, alike.low, alike.high) == (None,) * 4
    assert (alone.n, alike.n) == (1, 2)


def test_a_metric_that_no_run_has(tmp_path: Path):
    found = curve(arm(tmp_path, rows(RAMP)), "train/value/clip_frac")
    assert found.n == len(found.x) == len(found.mean) == 0
    assert curve(arm(tmp_path / "b", rows(RAMP)), ACCURACY, "seconds").n == 0


def test_a_hole_in_one_run_is_a_hole(tmp_path: Path):
    holed = rows(RAMP | {"train/kl_ref": lambda i: math.nan if i == 3 else 0.1})
    assert not np.isin(3, curve(arm(tmp_path, rows(RAMP), holed), "train/kl_ref").x)
