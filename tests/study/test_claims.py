"""Verdicts on synthetic studies whose outcome is known."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from study.studies import ACCURACY, ARMS, rows, write_run, write_study
from winnow.study.arms import arm_title
from winnow.study.claims import CLAIMS, Claim, ClaimVerdict, Expectation, verdicts
from winnow.study.measures import FINAL_ACCURACY, MEASURES
from winnow.study.study import read_study
from winnow.study.tables import TABLE_1, claims_list, claims_table, figures_table, table_1

LATE_ENTROPY, LATE_REWARD = MEASURES["late_entropy"], MEASURES["late_reward"]
QWEN = {arm: float(accuracies["qwen"] or 0) for arm, accuracies in TABLE_1.items()}

CLAIM = Claim(
    "k", "Table 9, §1", "Is it better?", "B is better.", "raft", "raftpp", FINAL_ACCURACY, "greater", 2.0, "–"
)


def held(tmp_path: Path, gains: list[float], claim: Claim = CLAIM, others: int = 0) -> ClaimVerdict:
    """The verdict on `claim`, first of its family, where B has `gains` points more than A, by seed."""
    for seed, gain in enumerate(gains):
        for arm, more in (("raft", 0.0), ("raftpp", gain)):
            accuracy = 0.5 + 0.05 * seed + more / 100
            table = rows({ACCURACY: accuracy, "rollout/acc": accuracy, "train/entropy": accuracy + 0.1 * seed})
            write_run(tmp_path / arm / str(seed), arm, seed, table)
    family = [claim, *(replace(claim, key=f"other {i}") for i in range(others))]
    return verdicts(read_study([tmp_path]), family)[0]


def test_a_claim_that_holds(tmp_path: Path):
    verdict = held(tmp_path, [1.7, 1.9, 2.1])
    assert verdict.outcome == "holds"
    assert verdict.sentence == (
        "The final accuracy of RAFT++ is 1.9 points above that of RAFT (95 % CI 1.4 to 2.4, three seeds): holds."
    )


def test_a_claim_that_fails(tmp_path: Path):
    verdict = held(tmp_path, [-1.7, -1.9, -2.1])
    assert verdict.sentence == (
        "The final accuracy of RAFT++ is 1.9 points below that of RAFT (95 % CI 1.4 to 2.4, three seeds): "
        "does not hold."
    )
    assert verdict.difference is not None
    assert verdict.difference.mean == pytest.approx(-1.9)


def test_a_claim_that_is_inside_noise(tmp_path: Path):
    verdict = held(tmp_path, [-1.0, 1.0, 3.0])  # sd 2, which with three seeds finds 3.264 · 2 points
    assert verdict.sentence == (
        "The final accuracy of RAFT++ is 1.0 points above that of RAFT (95 % CI −4.0 to 6.0, three seeds): "
        "inside noise; 80 % power only for a difference of 6.5 points or more."
    )


def test_a_difference_that_no_two_accuracies_have_is_not_said_to_be_detectable(tmp_path: Path):
    verdict = held(tmp_path, [1.0, 40.0], others=6)  # sd 28, which with two seeds and seven tests finds 4000 points
    assert verdict.outcome == "inside noise"
    assert verdict.sentence.endswith("so few seeds with such a spread give no difference 80 % power.")


def test_an_absurd_factor_is_not_said_to_be_detectable(tmp_path: Path):
    for seed, factor in enumerate((2.0, 40.0)):
        for arm, entropy in (("raft", 0.01), ("raftpp", 0.01 * factor)):
            write_run(tmp_path / f"{arm}{seed}", arm, seed, rows({ACCURACY: 0.5, "train/entropy": entropy}))
    claim = replace(CLAIM, measure=LATE_ENTROPY)
    [verdict] = verdicts(read_study([tmp_path]), [claim])
    assert verdict.outcome == "inside noise"
    assert verdict.sentence.endswith("so few seeds with such a spread give no difference 80 % power.")


def test_what_is_found_alone_may_be_noise_in_a_family(tmp_path: Path):
    verdict = held(tmp_path, [1.0, 2.0, 3.0, 4.0, 3.0], others=4)  # p = 0.007, times five
    assert verdict.outcome == "holds"
    verdict = held(tmp_path / "more", [1.0, 2.0, 3.0, 4.0, 3.0], others=9)  # times ten
    assert verdict.outcome == "inside noise"
    assert (
        "inside noise after correction for ten tests, although all five seeds agree in sign; "
        "80 % power only for a difference of 3.6 points or more." in verdict.sentence
    )
    assert verdict.difference is not None
    assert verdict.difference.p < 0.05 < (verdict.p_holm or 0)


@pytest.mark.parametrize(
    ("expects", "gains", "outcome"),
    [
        ("close", [0.4, 0.5, 0.6], "holds"),
        ("close", [-3.9, -4.0, -4.1], "does not hold"),
        ("close", [0.0, 0.5, 2.0], "inside noise"),
        ("no greater", [-3.9, -4.0, -4.1], "holds"),
        ("no greater", [0.4, 0.5, 0.6], "holds"),
        ("no greater", [3.9, 4.0, 4.1], "does not hold"),
        ("no greater", [0.0, 0.5, 2.0], "inside noise"),
    ],
)
def test_no_difference_is_shown_by_the_interval(tmp_path: Path, expects: Expectation, gains: list[float], outcome: str):
    verdict = held(tmp_path, gains, replace(CLAIM, expects=expects))
    assert (verdict.outcome, verdict.p_holm) == (outcome, None)
    assert "2 points" in verdict.sentence


def test_a_ratio_is_told_as_times(tmp_path: Path):
    for seed in range(3):
        for arm, entropy in (("raft", 0.2), ("raftpp", 0.05)):
            table = rows({"train/entropy": entropy * (1 + 0.1 * seed * (arm == "raftpp"))})
            write_run(tmp_path / arm / str(seed), arm, seed, table)
    claim = replace(CLAIM, measure=LATE_ENTROPY, expects="less", margin=1.25)
    (verdict,) = verdicts(read_study([tmp_path]), [claim])
    assert verdict.sentence == (
        "Over the last quarter the entropy of RAFT++ is 0.27 times that of RAFT (95 % CI 0.22 to 0.34, three seeds): "
        "holds."
    )


@pytest.mark.parametrize(
    ("gains", "said"),
    [
        ([1.9], "1.9 points above that of RAFT (one seed); no interval and no verdict: fewer than two runs."),
        ([0.0, 0.0], "0.0 points above that of RAFT (two seeds); no interval and no verdict: identical runs"),
    ],
)
def test_no_verdict_without_an_interval(tmp_path: Path, gains: list[float], said: str):
    verdict = held(tmp_path, gains)
    assert verdict.sentence.startswith(f"The final accuracy of RAFT++ is {said}")
    assert (verdict.outcome, verdict.difference, verdict.p_holm) == ("not measured", None, None)


def test_what_is_missing_is_named(tmp_path: Path):
    write_run(tmp_path / "a", "raft", 0, rows({"train/entropy": 0.1}))
    write_run(tmp_path / "b", "raftpp", 1, rows({ACCURACY: 0.3, "train/entropy": 0.2}))
    study = read_study([tmp_path])
    of_ppo, of_accuracy, of_entropy = verdicts(
        study,
        [replace(CLAIM, b="ppo", key="a"), replace(CLAIM, key="b"), replace(CLAIM, key="c", measure=LATE_ENTROPY)],
    )
    assert of_ppo.sentence == "Not measured: no finished run of PPO."
    assert of_accuracy.sentence == "Not measured: final accuracy was not recorded in runs of RAFT."
    assert of_entropy.sentence == "Not measured: RAFT and RAFT++ have no seed in common."


def test_a_ratio_to_nothing_is_not_measured(tmp_path: Path):
    for arm, entropy in (("raft", 0.0), ("raftpp", 0.1)):
        write_run(tmp_path / arm, arm, 0, rows({"train/entropy": entropy}))
    (verdict,) = verdicts(read_study([tmp_path]), [replace(CLAIM, measure=LATE_ENTROPY, margin=1.25)])
    assert verdict.sentence == "Not measured: late entropy was not recorded, or is 0, in runs of RAFT."


def test_a_kl_before_the_first_update_is_not_measured(tmp_path: Path):
    """The first quarter of six iterations is the first one, whose KL is rounding and alike in both arms."""
    for seed in range(2):
        for arm, kl in (("grpo", 0.01), ("raftpp", 0.02)):
            curves = {"train/kl_ref": lambda i, kl=kl: kl * (i - 1) or 2.9e-13, "train/updates": 4.0}
            write_run(tmp_path / f"{arm}{seed}", arm, seed, rows(curves, iterations=6))
    [claim] = [claim for claim in CLAIMS if claim.key == "raftpp_kl_early"]
    [early] = verdicts(read_study([tmp_path]), [claim])
    assert (early.outcome, early.difference) == ("not measured", None)
    assert early.sentence == (
        "Not measured: the early KL to the initial model is still zero in runs of GRPO and RAFT++, because it is taken "
        "before their first update: more iterations are needed."
    )


def test_prompts_have_an_interval_of_their_own(tmp_path: Path):
    for seed in range(2):
        for arm, right in (("raft", [0, 2, 4]), ("raftpp", [2, 3, 4])):  # 50, 25 and 0 points more
            table = rows({ACCURACY: sum(right) / 12 + (0.01 * seed if arm == "raft" else 0)})
            write_run(tmp_path / arm / str(seed), arm, seed, table, {8: right})
    (verdict,) = verdicts(read_study([tmp_path]), [CLAIM])
    assert verdict.difference is not None
    assert verdict.difference.prompts_low == pytest.approx(25 - 4.3027 * 25 / 3**0.5, abs=1e-2)
    assert "[−37.1, +87.1]" in claims_table([verdict]).markdown()


def test_every_claim_is_of_arms_and_measures_that_there_are():
    assert all(arm_title(arm) != arm for claim in CLAIMS for arm in (claim.a, claim.b))
    assert max(Counter(claim.key for claim in CLAIMS).values()) == 1
    assert {claim.family for claim in CLAIMS} == {"Table 1", "Figure 1", "Figure 2", "Figure 3", "Figure 4"}


def test_the_papers_effects_are_those_of_its_table():
    """A claim of Table 1 has Qwen's difference; the table's rows are averages of three benchmarks."""
    of_table = [claim for claim in CLAIMS if claim.family == "Table 1"]
    assert len(of_table) == 7
    for claim in of_table:
        assert claim.paper_effect == pytest.approx(QWEN[claim.b] - QWEN[claim.a])
        assert all(f"{QWEN[arm]}" in claim.paper for arm in (claim.a, claim.b))
    assert QWEN["raft"] == pytest.approx((77.4 + 40.8 + 38.6) / 3, abs=0.05)
    assert QWEN["base"] == pytest.approx((41.3 + 11.0 + 18.6) / 3, abs=0.05)


def test_a_study_of_all_arms(tmp_path: Path):
    study = read_study([write_study(tmp_path)])
    found = {verdict.claim.key: verdict for verdict in verdicts(study)}
    assert [arm.label for arm in study.arms] == list(ARMS)
    assert {found[key].outcome for key in ("no_clip_under_raft", "dpo_under_raft", "remove_all_wrong_gains")} == {
        "holds"
    }
    assert found["remove_all_correct_gains_not"].outcome == "holds"  # it falls by five points
    assert found["std_adds_little"].outcome == "holds"
    reversed_claim = replace(CLAIM, a="grpo", b="dpo", measure=LATE_REWARD)
    assert verdicts(study, [reversed_claim])[0].outcome == "does not hold"
    markdown = claims_table(list(found.values())).markdown()
    assert markdown.count("\n") == len(CLAIMS) + 2
    assert {line.count(" | ") for line in markdown.splitlines()} == {6}
    assert "**Does clipping matter?** Over the last quarter" in claims_list(list(found.values()))


def test_tables(tmp_path: Path):
    for seed, accuracy in enumerate((0.8, 0.9)):
        table = rows(
            {ACCURACY: lambda i, end=accuracy: end if i else 0.4, "train/sampled_tokens_total": lambda i: 2000.0 * i}
        )
        write_run(tmp_path / f"raft{seed}", "raft", seed, table)
    write_run(tmp_path / "grpo", "grpo", 0, rows({ACCURACY: 0.4}))
    study = read_study([tmp_path])
    raft, grpo = figures_table(study).markdown().splitlines()[2:]
    assert raft.startswith("| RAFT | 2 | 85.0 [17.5, 99.3] |")
    assert "| 16.0k (all the same) |" in raft
    assert grpo.startswith("| GRPO | 1 | 40.0 (one run) |")
    beside = table_1(study).markdown().splitlines()
    assert beside[2] == "| before training |  | 40.0 |  | 23.6 |  | 13.1 |  |"
    assert beside[3] == "| RAFT | 2 | 85.0 [17.5, 99.3] | +45.0 | 52.3 | +28.7 | 25.9 | +12.8 |"
    assert beside[4] == "| GRPO | 1 | 40.0 (one run) | +0.0 | 56.3 | +32.7 | 28.4 | +15.3 |"
    assert len(beside) == 5  # arms that the study lacks have no row
