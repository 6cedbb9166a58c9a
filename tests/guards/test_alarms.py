"""Alarms: each is raised where its threshold is crossed, once, and none by a run that learns."""

from dataclasses import replace

import pytest

from running import composed
from winnow.guards.alarms import Alarms, AlarmSettings, AlarmState

DEFAULTS = AlarmSettings(
    entropy=0.02,
    accuracy=0.5,
    length_low=0.25,
    length_high=4.0,
    ratio=0.3,
    kl=1.0,
    clip_frac=0.3,
    verdicts=0.01,
    lost=0.1,
)
HEALTHY = {
    "train/entropy": 0.5,
    "rollout/acc": 0.4,
    "rollout/length/mean": 100.0,
    "train/ratio/mean": 1.0,
    "train/kl_ref": 0.1,
    "train/clip_frac": 0.01,
    "verifier/timeout_frac": 0.0,
    "verifier/crash_frac": 0.0,
}


def told(rows: list[dict[str, float]], settings: AlarmSettings = DEFAULTS) -> list[str]:
    """The names of the alarms that hold after rows that each change the healthy one."""
    alarms = Alarms(settings)
    for number, row in enumerate(rows, 1):
        alarms.observe({"iteration": number, **HEALTHY, **row})
    return list(alarms.state.active)


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"train/entropy": 0.009}, "entropy"),  # below 2 % of 0.5
        ({"rollout/length/mean": 24.0}, "short responses"),
        ({"rollout/length/mean": 401.0}, "long responses"),
        ({"train/ratio/mean": 0.52}, "ratio"),
        ({"train/ratio/mean": 1.4}, "ratio"),
        ({"train/clip_frac": 0.31}, "clip_frac"),
        ({"verifier/timeout_frac": 0.006, "verifier/crash_frac": 0.006}, "verdicts"),
        ({"train/reward/lost_frac": 0.11}, "lost"),
        ({"eval/sums/acc": 0.39}, "accuracy sums"),
    ],
)
def test_a_row_beyond_a_threshold_raises_its_alarm_alone(row: dict[str, float], name: str):
    assert told([{"eval/sums/acc": 0.8}, row]) == [name]


@pytest.mark.parametrize(
    "row",
    [
        {"train/entropy": 0.011},
        {"train/entropy": 0.001, "rollout/acc": 0.95},
        {"rollout/length/mean": 26.0},
        {"rollout/length/mean": 399.0},
        {"train/ratio/mean": 1.29},
        {"train/clip_frac": 0.29},
        {"verifier/timeout_frac": 0.01},
        {"train/reward/lost_frac": 0.1},
        {"eval/sums/acc": 0.41},
        {"train/entropy": float("nan"), "train/ratio/mean": float("nan"), "train/kl_ref": float("nan")},
        {"train/kl_ref": 9.0},  # one estimate of KL says little
    ],
)
def test_a_row_within_the_thresholds_raises_none(row: dict[str, float]):
    assert told([{"eval/sums/acc": 0.8}, row]) == []


def test_a_kl_that_stays_above_the_bound_is_an_alarm():
    assert told([{}, {"train/kl_ref": 1.1}, {"train/kl_ref": 5.0}]) == ["kl"]


def test_training_accuracy_is_judged_over_five_iterations():
    good, bad = [{"rollout/acc": 0.5}] * 5, {"rollout/acc": 0.0}
    assert told([*good, bad, bad]) == []  # a mean of 0.3
    assert told([*good, bad, bad, bad]) == ["accuracy training prompts"]  # of 0.2, less than half of 0.5


def test_a_small_accuracy_cannot_fall():
    assert told([{"eval/sums/acc": 0.09}, {"eval/sums/acc": 0.0}]) == []


def test_an_alarm_is_told_once_and_again_after_it_has_ceased():
    alarms = Alarms(DEFAULTS)
    ratios = [1.0, 0.5, 0.5, 1.0, 0.5]
    lines = [alarms.observe({"iteration": i, "train/ratio/mean": ratio}) for i, ratio in enumerate(ratios)]
    assert [len(new) for new in lines] == [0, 1, 0, 0, 1]
    assert alarms.state.lines == (lines[1][0], lines[4][0])


def test_null_turns_an_alarm_off():
    assert told([{"train/ratio/mean": 0.1, "train/clip_frac": 0.9}], replace(DEFAULTS, ratio=None)) == ["clip_frac"]


def test_alarms_go_on_where_a_checkpoint_left_them():
    rows = [{"iteration": i, **HEALTHY, "eval/sums/acc": acc} for i, acc in enumerate((0.8, 0.7, 0.2, 0.1, 0.75))]
    whole, first, second = Alarms(DEFAULTS), Alarms(DEFAULTS), Alarms(DEFAULTS)
    lines = [line for row in rows for line in whole.observe(row)]
    before = [line for row in rows[:3] for line in first.observe(row)]
    second.state = first.state
    assert [*before, *(line for row in rows[3:] for line in second.observe(row))] == lines
    assert second.state == whole.state != AlarmState()


def test_the_configuration_has_these_thresholds():
    assert AlarmSettings(**composed("algo=grpo").alarms) == DEFAULTS
