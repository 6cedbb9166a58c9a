"""`winnow explain` and `winnow diff`."""

from functools import partial
from pathlib import Path

import pytest

from winnow import cli
from winnow.config.compose import composed
from winnow.config.explanation import difference, explain, named_algorithms, nearest
from winnow.errors import ConfigError
from winnow.explain.sources import source_of
from winnow.ops import advantage, ratio


def test_explain_prints_formula_rules_notices_and_the_nearest_algorithm(capfd: pytest.CaptureFixture[str]):
    assert cli.exit_code(["explain", "algo=grpo", "algo.clip.high=0.28", "update.minibatches=1"]) == 0
    text = capfd.readouterr().out
    assert text.startswith("loss = −1/|D| Σ_{a∈D} 1/|a| Σ_t min(s_t·A, clip(s_t, 0.8, 1.28)·A)\n")
    assert "winnow.ops.clip.ppo" in text
    assert "arXiv 1707.06347, Eq. 7" in text
    assert "the ratio is always 1, so algo/ratio and algo/clip change nothing" in text
    assert "rewards: 1 correct, -1 wrong, -1 without an answer" in text
    assert "clip.high: 0.28 here, 0.2 there" in text


def test_explain_prints_latex(capfd: pytest.CaptureFixture[str]):
    assert cli.exit_code(["explain", "algo=raft", "--latex"]) == 0
    text = capfd.readouterr().out
    assert text.startswith("\\begin{aligned}\n\\mathcal{L} &= -\\frac{1}{|D|} \\sum_{a \\in D}")
    assert text.count("\\left") == text.count("\\right")
    assert text.count("{") == text.count("}")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["explain", "algo=grop"], "algo=grop"),
        (["explain", "algo.clip.hihg=0.3"], "algo.clip.hihg"),
        (["explain", "algo=raft,grpo"], "several values are a sweep, and this command takes one; type algo=raft"),
        (["diff", "algo=grpo", "algo=grop"], "algo=grop"),
        (["diff", "algo='grpo", "algo=raft"], "No closing quotation; type overrides as for train.py, in quotes"),
    ],
)
def test_wrong_overrides_are_one_line(capfd: pytest.CaptureFixture[str], words: list[str], part: str):
    assert cli.exit_code(words) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert part in err


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["algo=grpo", "rollout.samples=1"], "rollout.samples=1: a group advantage compares samples of one prompt"),
        (["algo=passk", "algo.advantage.k=8"], "algo.advantage.k=8: must be below rollout.samples=8"),
        (["algo=grpo", "algo/correction=truncated"], "there is nothing to correct"),
        (["algo=grpo", "algo/correction=truncated", "engine/alter=int8"], ""),
        (["algo=passk", "rollout.samples=16", "algo.advantage.k=8"], ""),
    ],
)
def test_explain_says_what_training_would_refuse(words: list[str], part: str):
    text = explain(words)
    assert "does not agree" not in text
    assert ("\nrefused by winnow train: " in text) == (part != "")
    assert part in text


def test_what_a_file_sets_for_another_choice_is_named_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A user's own file may still set values on an axis."""
    mine = tmp_path / "conf" / "experiment" / "mine.yaml"
    mine.parent.mkdir(parents=True)
    mine.write_text("# @package _global_\n# Mine.\nalgo: {advantage: {centre: none, scale: std}}\n")
    monkeypatch.chdir(tmp_path)
    words = ["algo=grpo", "experiment=mine", "algo/advantage=whitened"]
    with pytest.raises(ConfigError, match=r"another choice, type '~algo\.advantage\.centre'"):
        explain(words)
    text = explain([*words, "~algo.advantage.centre", "~algo.advantage.scale"])
    assert "winnow.ops.advantage.whitened" in text


def test_a_robust_loss_without_wrong_labels_is_refused():
    with pytest.raises(ConfigError, match=r"is algo/preference=sigmoid; type algo\.smoothing=0\.1"):
        explain(["algo=dpo", "algo/preference=robust"])


def test_explain_says_which_samples_a_collector_passes_on():
    """DAPO's formula is that of its objective; that its prompts are mixed ones stands below it."""
    text = explain(["algo=dapo", "collector=refill", "rollout.prompts=4", "rollout.samples=2"])
    assert (
        "\nsamples: rounds of 4 prompts × 2 samples, 10 at most, until 4 prompts are mixed: their 8 responses\n" in text
    )
    assert "\nsamples:" not in explain(["algo=dapo"])


def test_pairs_are_explained_with_their_own_sources():
    text = explain(["algo=dpo", "algo/preference=ipo", "algo/divergence=jensen_shannon"])
    assert "IPO, 2310.12036, Eq. 17\n" in text
    assert "rank↓(a⁺)       its place among the prompt's samples, the highest reward first" in text
    assert "DeepSeek-V3.2, Eq. 9\n" in explain(["algo=grpo", "algo/clip=stale_negatives_left_out"])


def test_an_equation_without_a_paper_is_the_papers_in_this_package_alone():
    def mine(ratio: float) -> float:
        """A rule (Eq. 3)."""
        return ratio

    assert source_of(mine) == "Eq. 3"
    assert source_of(ratio.token) == "Eq. 5 of arXiv 2504.11343"


def test_the_source_of_a_rule_is_that_of_its_settings():
    assert source_of(advantage.group) == "GRPO, arXiv 2402.03300"
    assert source_of(partial(advantage.group, scale="none")) == "Dr. GRPO, arXiv 2503.20783"
    assert source_of(partial(advantage.group, scale="none", centre="leave_one_out")) == "RLOO, arXiv 2402.14740"
    assert source_of(partial(advantage.batch, spread="advantages")) == "arXiv 2501.03262"


def test_diff_says_what_changes_in_formula_and_settings():
    text = difference(["algo=raftpp", "algo/clip=none"], ["algo=raftpp", "seed=3"])
    assert text.splitlines() == [
        "formula:",
        "  − loss = −1/|D| Σ_{a∈D} 1/|a| Σ_t s_t",
        "  + loss = −1/|D| Σ_{a∈D} 1/|a| Σ_t min(s_t, clip(s_t, 0.8, 1.2))",
        "settings:",
        "  algo.clip: unclipped → ppo(low=0.2, high=0.2)",
        "  seed: 0 → 3",
        "findings:",
        "  + inert: no advantage is negative, so algo.clip.low changes nothing",
        "  − unstable: 4 updates per iteration and algo/clip=none: a token's gradient grows with its ratio, without a "
        "bound; type algo/clip=ppo",
    ]
    same = difference(["algo=grpo"], ["algo=grpo"])
    assert same == "formula: the same\nsettings: the same\nfindings: the same\nboth train the same, up to rounding"


def test_diff_says_what_becomes_inert():
    assert difference(["algo=grpo"], ["algo=grpo", "update.minibatches=1"]).splitlines() == [
        "formula: the same",
        "settings:",
        "  update.minibatches: 4 → 1",
        "findings:",
        "  + inert: one update per iteration: the ratio is always 1, so algo/ratio and algo/clip change nothing",
    ]


def test_diff_names_a_rule_that_comes_or_goes_in_one_line_and_a_setting_by_its_key():
    text = difference(["algo=grpo"], ["algo=dpo"])
    assert "\n  algo: PolicyGradient → Preference\n" in text
    assert "\n  algo.clip: ppo(low=0.2, high=0.2) → (not there)\n" in text
    assert "_target_" not in text
    assert "_partial_" not in text
    changed = difference(["algo=grpo"], ["algo=grpo", "algo.clip.high=0.28", "algo/entropy=adaptive"])
    assert "\n  algo.clip.high: 0.2 → 0.28\n" in changed
    assert "\n  algo.entropy: 0.0 → AdaptiveEntropy(" in changed


def test_an_objective_without_difference_is_of_the_samples_that_a_collector_chooses():
    said = "nearest: algo=grpo, whose objective has no difference, on the samples of collector=adaptive"
    assert explain(["algo=grpo", "collector=adaptive"]).endswith(said)
    assert explain(["algo=grpo"]).endswith("nearest: algo=grpo, with no difference")


def test_diff_says_whether_what_changes_has_an_effect():
    assert difference(["algo=raftpp"], ["algo=raftpp", "algo.clip.low=0.5"]).endswith(
        "both train the same, up to rounding"
    )
    assert "train the same" not in difference(["algo=grpo"], ["algo=grpo", "algo.clip.low=0.5"])


@pytest.mark.parametrize("name", sorted(named_algorithms()))
def test_every_named_algorithm_is_nearest_to_itself(name: str):
    found = nearest(composed("train", [f"algo={name}"], ("algo",)))
    assert (found.name, found.differences) == (name, ())


def test_the_nearest_algorithm_is_found_by_rules_and_not_by_name():
    """Reinforce with the group's advantages is GRPO."""
    found = nearest(composed("train", ["algo=reinforce", "algo/advantage=group"], ("algo",)))
    assert (found.name, found.differences) == ("grpo", ())
    assert "nearest: algo=grpo, with no difference" in explain(["algo=reinforce", "algo/advantage=group"])


def test_rewards_of_functions_are_named_with_their_weights():
    words = ["algo=grpo", "reward=function", "reward.functions=[winnow.rewards:accuracy,winnow.rewards:boxed]"]
    assert "rewards: 2·accuracy + 0.5·boxed" in explain([*words, "reward.weights=[2,0.5]"])


def test_a_reference_that_takes_the_policy_after_every_iteration_is_the_policy_that_drew_the_samples():
    words = ["algo=grpo", "algo/kl=k2", "algo.kl.reference=synced", "algo.kl.sync.every=1"]
    assert "π_ref is the policy before the iteration's updates" in explain(words)
    assert "become 0.5 · π" in explain([*words, "algo.kl.sync.share=0.5"])


def test_rules_that_compute_the_same_are_one_to_the_nearest_algorithm():
    uncentred = ["algo=grpo", "algo.advantage.centre=none", "algo.advantage.scale=none"]
    assert "nearest: algo=reinforce, which computes the same\n" in explain(uncentred) + "\n"
    found = nearest(composed("train", [*uncentred, "algo.clip.high=0.3"], ("algo",)))
    assert (found.name, found.differences) == ("reinforce", ("clip.high: 0.3 here, 0.2 there",))
    found = nearest(composed("train", ["algo=dr_grpo", "algo.advantage.eps=1e-4"], ("algo",)))
    assert (found.name, found.differences, found.by_other_words) == ("dr_grpo", (), True)
