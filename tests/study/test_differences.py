"""Differences of arms to the baseline, by hand: final accuracies in, points, intervals and verdicts out."""

from pathlib import Path

import pytest

from study.studies import ACCURACY, rows, write_run
from winnow.study.differences import baseline, differences, nothing_to_compare
from winnow.study.study import Study, read_study
from winnow.study.tables import differences_table


def study(top: Path, **finals: list[float]) -> Study:
    """A study whose arms end at these accuracies, in per cent, one for each seed from 0 on."""
    for algo, of_seeds in finals.items():
        for seed, final in enumerate(of_seeds):
            write_run(top / f"{algo}{seed}", None, seed, rows({ACCURACY: final / 100}), algo=algo)
    return read_study([top])


def test_an_arm_that_no_claim_is_about_has_a_verdict(tmp_path: Path):
    """Paired differences of 2, 2.1 and 1.9 points: standard deviation 0.1, so the interval is 2 ± 4.303 · 0.1 / √3
    and t = 2 √3 / 0.1 = 34.6 with two degrees of freedom, p = 0.0008."""
    compared = study(tmp_path, grpo=[80, 81, 82], mine=[82, 83.1, 83.9])
    (verdict,) = differences(compared)
    assert verdict.outcome == "better"
    assert verdict.sentence == (
        "The final accuracy of mine is 2.0 points above that of GRPO (95 % CI 1.8 to 2.2, three seeds): better."
    )
    table = differences_table(compared, [verdict])
    assert table.head == ["arm", "seeds", "difference to GRPO, points", "95 % CI over seeds", "p (Holm)", "verdict"]
    assert table.rows == [["mine", "3", "+2.0", "[+1.8, +2.2]", "<0.001", "better"]]


def test_an_arm_that_ends_below_the_baseline_is_worse(tmp_path: Path):
    (verdict,) = differences(study(tmp_path, grpo=[80, 81, 82], mine=[78, 78.9, 80.1]))
    assert verdict.outcome == "worse"
    assert verdict.sentence.startswith("The final accuracy of mine is 2.0 points below that of GRPO")


def test_verdicts_are_corrected_for_the_number_of_arms(tmp_path: Path):
    """Differences of 2.1 and 2.3 points: t = 2.2 / 0.1 = 22 with one degree of freedom, and p = 2 / π · atan(1 / 22) =
    0.0289. It is better alone, and inside noise beside a second arm with the same differences."""
    (alone,) = differences(study(tmp_path / "one", grpo=[80, 81], mine=[82.1, 83.3]))
    assert (alone.outcome, alone.p_holm) == ("better", pytest.approx(0.0289, abs=1e-4))
    first, second = differences(study(tmp_path / "two", grpo=[80, 81], mine=[82.1, 83.3], other=[82.1, 83.3]))
    assert (first.outcome, second.outcome) == ("inside noise", "inside noise")
    assert first.p_holm == second.p_holm == pytest.approx(0.0579, abs=1e-4)
    assert "inside noise after correction for two tests, although both seeds agree in sign" in first.sentence


def test_one_seed_gives_a_difference_and_words_in_place_of_a_verdict(tmp_path: Path):
    compared = study(tmp_path, grpo=[80], mine=[82])
    (verdict,) = differences(compared)
    assert verdict.sentence == (
        "The final accuracy of mine is 2.0 points above that of GRPO (one seed); "
        "no interval and no verdict: fewer than two runs."
    )
    assert differences_table(compared, [verdict]).rows == [["mine", "1", "+2.0", "–", "–", "not measured"]]


def test_an_arm_without_a_seed_or_a_figure_of_the_baseline_is_named(tmp_path: Path):
    study(tmp_path, grpo=[80, 81])
    write_run(tmp_path / "late", None, 7, rows({ACCURACY: 0.9}), algo="late")
    write_run(tmp_path / "blind", None, 0, rows({"train/entropy": 0.1}), algo="blind")
    compared = read_study([tmp_path])
    blind, late = differences(compared)
    assert blind.sentence == "Not measured: final accuracy was not recorded in runs of blind."
    assert late.sentence == "Not measured: GRPO and late have no seed in common."
    assert [row[1:3] for row in differences_table(compared, [blind, late]).rows] == [["0", "–"], ["0", "–"]]


def test_titles_are_those_that_runs_state(tmp_path: Path):
    for algo, final in (("grpo", 0.8), ("mine", 0.82)):
        titled = {"study": {"title": f"My {algo}"}}
        write_run(tmp_path / algo, None, 0, rows({ACCURACY: final}), algo=algo, settings=titled)
    (verdict,) = differences(read_study([tmp_path]))
    assert verdict.sentence.startswith("The final accuracy of My mine is 2.0 points above that of My grpo")


def test_a_study_without_two_arms_says_so(tmp_path: Path):
    alone = study(tmp_path, mine=[80, 81])
    assert differences(alone) == []
    assert nothing_to_compare(alone) == (
        "No difference between arms is shown: mine is the only one. It takes a second arm, with the same seeds."
    )
    assert nothing_to_compare(study(tmp_path, grpo=[80, 81])) is None


def test_a_study_without_evaluations_says_so(tmp_path: Path):
    for algo in ("grpo", "mine"):
        write_run(tmp_path / algo, None, 0, rows({"train/entropy": 0.1}), algo=algo)
    why = nothing_to_compare(read_study([tmp_path]))
    assert why == "No difference between arms is shown: final accuracy was not recorded in any run."


def test_the_baseline_is_the_plainest_algorithm_or_the_arm_with_the_most_seeds(tmp_path: Path):
    assert baseline(study(tmp_path / "a", grpo=[80], raft=[80], mine=[80, 81]).arms).label == "raft"
    assert baseline(study(tmp_path / "b", other=[80], mine=[80], zeta=[80, 81]).arms).label == "zeta"
