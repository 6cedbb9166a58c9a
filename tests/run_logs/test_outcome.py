import math

from winnow.run_logs.outcome import never_updated, outcome_warnings


def table(updates: list[float], **more: float) -> list[dict[str, float]]:
    return [{"iteration": 0}] + [{"iteration": i, "train/updates": n, **more} for i, n in enumerate(updates, 1)]


def test_a_run_without_a_single_step_is_said_to_have_none() -> None:
    assert never_updated(table([0, 0]))
    assert not never_updated(table([0, 1]))
    assert not never_updated(table([]))  # evaluated before training only
    assert not never_updated([{"iteration": 0}, {"iteration": 1, "train/updates": math.nan}])  # not recorded


def test_the_reason_is_said_where_the_rows_have_it() -> None:
    (line,) = outcome_warnings(table([0, 0], **{"train/groups/frac_all_wrong": 1.0}), None, None)
    assert "2 iterations" in line
    assert "every response was wrong" in line
    (line,) = outcome_warnings(table([0], **{"train/groups/frac_all_wrong": 0.5}), None, None)
    assert "1 iteration:" in line
    assert "response" not in line


def test_an_end_below_the_start_is_said_with_both_figures() -> None:
    (line,) = outcome_warnings(table([1]), 0.5, 0.25)
    assert "50.0% → 25.0%" in line
    assert outcome_warnings(table([1]), 0.25, 0.25) == []
    assert outcome_warnings(table([1]), 0.25, 0.5) == []
    assert outcome_warnings(table([1]), None, None) == []
