"""The oracle: what is known of estimators in theory holds of the product's own, by enumeration."""

import json
from dataclasses import replace
from itertools import product
from math import comb
from pathlib import Path

import pytest
import torch
from torch import Tensor

from winnow import cli
from winnow.algorithm import ActorCritic, PolicyGradient
from winnow.config.compose import composed
from winnow.config.instantiate import build_algorithm
from winnow.engines.alteration import TopK
from winnow.errors import ConfigError
from winnow.experience.collectors import Adaptive, Budgets, CollectorRule, Refill
from winnow.models.precision import new_tensors_in_float64
from winnow.oracle.environment import Environment, gradient
from winnow.oracle.estimator import GradientEstimator
from winnow.oracle.measure import enumerated, iterations
from winnow.oracle.setting import Answer, Setting, ask

ONE = Environment(prompts=1)
"""One prompt with seven responses of one or two tokens; the reward of verdicts is 0 or 1."""
TWO = Environment(prompts=2)
SHORT = Environment(prompts=1, horizon=1)
"""Responses of one token."""
FEW = Environment(vocabulary=2, prompts=1)
"""Three responses."""
NOTHING = Environment(prompts=1, correct=0.0, wrong=0.0)
SUM = ("algo/aggregate=sequence_sum", "algo/clip=none")
EXACT = 1e-10


def algorithm(*words: str) -> PolicyGradient | ActorCritic:
    found = build_algorithm(composed("train", words, ("algo",)))
    assert isinstance(found, PolicyGradient | ActorCritic)
    return found


def answer(words: str, setting: Setting) -> Answer:
    return ask(algorithm(*SUM, *words.split()), setting)


def mean_of(setting: Setting, *words: str) -> Tensor:
    with new_tensors_in_float64():
        estimator = GradientEstimator(setting.environment, setting.tables, algorithm(*words))
        return enumerated(estimator, setting.environment.probabilities(setting.tables.sampler), setting.samples).mean


def test_probabilities_of_responses_and_of_iterations_add_up_to_one():
    table = Setting(TWO).tables.old
    probabilities = TWO.probabilities(table)
    assert torch.allclose(probabilities.sum(1), torch.ones(2).double(), atol=1e-15)
    assert sum(p for _, p in iterations(probabilities, 2)) == pytest.approx(1, abs=1e-13)


def test_the_order_of_samples_is_no_part_of_an_iteration():
    setting = Setting(ONE)
    with new_tensors_in_float64():
        estimator = GradientEstimator(ONE, setting.tables, algorithm("algo=grpo"))
        p = ONE.probabilities(setting.tables.old)[0]
        ordered = sum(p[a] * p[b] * estimator([(a, b)]) for a, b in product(range(len(p)), repeat=2))
    assert torch.allclose(torch.as_tensor(ordered), mean_of(setting, "algo=grpo"), atol=1e-14)


LEAVE_ONE_OUT = "algo=reinforce algo/advantage=group algo.advantage.centre=leave_one_out algo.advantage.scale=none"
UNBIASED = {
    "reinforce": ("algo=reinforce algo/ratio=none", Setting(TWO, samples=1)),
    "a ratio of one": ("algo=reinforce", Setting(TWO, samples=1)),
    "graded reward": ("algo=reinforce", Setting(Environment(prompts=1, graded=True))),
    "leave one out": (LEAVE_ONE_OUT, Setting(ONE)),
    "leave one out of three": (LEAVE_ONE_OUT, Setting(ONE, samples=3)),
    "k1 in the reward": ("algo=reinforce algo/kl=k1 algo.kl.place=reward algo.kl.coef=0.5", Setting(ONE)),
    "k1 in the reward, centred": (f"{LEAVE_ONE_OUT} algo/kl=k1 algo.kl.place=reward algo.kl.coef=0.5", Setting(ONE)),
    "k2 in the loss, one token": ("algo=reinforce algo/kl=k2 algo.kl.coef=0.5", Setting(SHORT)),
    "ratio of sequences, moved": (
        "algo=reinforce algo/ratio=sequence_product algo/aggregate=sequence_mean",
        Setting(ONE, moved=0.5),
    ),
    "ratio of tokens, moved, one token": ("algo=reinforce", Setting(SHORT, moved=0.5)),
    "a critic that is off": ("algo=ppo algo.whiten=false", Setting(ONE)),
    "a critic that is far off, graded": (
        "algo=ppo algo.whiten=false",
        Setting(Environment(prompts=1, graded=True), samples=1, critic_error=5.0),
    ),
    "k1 in the reward, critic": (
        "algo=ppo algo.whiten=false algo/kl=k1 algo.kl.place=reward algo.kl.coef=0.5",
        Setting(ONE, samples=1),
    ),
    "corrected sampler, one token": (
        "algo=reinforce algo/correction=truncated algo.correction.cap=1e9",
        Setting(SHORT, mismatch=0.5),
    ),
}


@pytest.mark.parametrize(("words", "setting"), UNBIASED.values(), ids=list(UNBIASED))
def test_these_estimators_have_no_bias(words: str, setting: Setting):
    assert answer(words, setting).measured.bias < EXACT


def test_k2_in_the_loss_is_exact_for_next_token_distributions_and_not_for_whole_responses():
    found = answer("algo=reinforce algo/kl=k2 algo.kl.coef=0.5", Setting(NOTHING))
    assert found.of_steps is not None
    assert found.of_steps.bias < EXACT
    assert found.measured.bias > 0.01  # an early token also decides which states the later KL is of


def test_k1_in_the_loss_has_no_gradient_and_k3_that_of_the_forward_kl():
    setting = Setting(NOTHING)
    kl = ("algo=reinforce", "algo.kl.coef=1.0", *SUM)
    assert mean_of(setting, "algo/kl=k1", *kl).norm() < EXACT
    forward = gradient(lambda table: -SHORT.kl(Setting(SHORT).tables.reference, table), Setting(SHORT).tables.new)
    assert torch.allclose(mean_of(Setting(replace(SHORT, correct=0.0)), "algo/kl=k3", *kl), forward, atol=EXACT)


@pytest.mark.parametrize("samples", [2, 3])
def test_a_mean_that_a_sample_is_part_of_shrinks_the_gradient(samples: int):
    found = answer(LEAVE_ONE_OUT.replace("leave_one_out", "mean"), Setting(ONE, samples=samples)).measured
    assert found.scale == pytest.approx(1 - 1 / samples, abs=EXACT)
    assert found.cosine == pytest.approx(1, abs=EXACT)


def test_raft_follows_the_log_of_the_probability_of_success():
    """Its mean is ∇p / p times the probability that any of G samples is correct: hard prompts count as much as easy."""
    setting = Setting(ONE, samples=3)
    p = float(ONE.expected_reward(setting.tables.old))
    found = answer("algo=raft", setting).measured
    assert found.scale == pytest.approx((1 - (1 - p) ** 3) / p, abs=EXACT)
    assert found.cosine == pytest.approx(1, abs=EXACT)


def weight_of_a_prompt(p: float, samples: int) -> float:
    """E[A | correct] − E[A | wrong] of rewards 0 and 1 that are centred and divided by their standard deviation."""
    total = 0.0
    for others in range(samples):
        chance = comb(samples - 1, others) * p**others * (1 - p) ** (samples - 1 - others)
        for sign, correct in ((1, others + 1), (-1, others)):
            mean = correct / samples
            deviation = (samples * mean * (1 - mean) / (samples - 1)) ** 0.5
            total += chance * sign * ((correct > others) - mean) / deviation if deviation else 0.0
    return total


@pytest.mark.parametrize("samples", [2, 3, 4])
def test_a_standard_deviation_weighs_prompts_by_their_difficulty(samples: int):
    """From four samples on; with two and three the weight of a prompt is the same whatever its chance of success."""
    setting = Setting(FEW, samples=samples)
    p = float(FEW.expected_reward(setting.tables.old))
    found = answer("algo=grpo algo.advantage.eps=1e-15", setting).measured
    assert found.scale == pytest.approx(weight_of_a_prompt(p, samples), abs=EXACT)
    assert found.cosine == pytest.approx(1, abs=EXACT)
    constant = abs(weight_of_a_prompt(0.5, samples) - weight_of_a_prompt(0.05, samples)) < EXACT
    assert constant == (samples < 4)


def test_a_mean_over_tokens_follows_the_reward_per_token():
    """1/|a| in the weight makes it the gradient of E[r / |a|]: of two correct responses the shorter is worth more."""
    lengths = torch.tensor([len(response) for response in ONE.responses])
    setting = Setting(ONE, samples=1)
    per_token = gradient(lambda table: (ONE.probabilities(table) * ONE.rewards / lengths).sum(), setting.tables.new)
    assert torch.allclose(mean_of(setting, "algo=reinforce", "algo/clip=none"), per_token, atol=EXACT)


BIASED = {
    "a critic that is off, λ below 1": (
        "algo=ppo algo.whiten=false algo.advantage.lam=0.5",
        Setting(ONE, samples=1, critic_error=1.0),
    ),
    "whitened": ("algo=ppo", Setting(ONE)),
    "a ratio of sequences, summed": ("algo=reinforce algo/ratio=sequence_product", Setting(ONE, moved=0.5)),
    "ratio of tokens, moved": ("algo=reinforce", Setting(ONE, moved=0.5)),
    "no ratio, moved": ("algo=reinforce algo/ratio=none", Setting(ONE, moved=0.5)),
    "sampler off, uncorrected": ("algo=reinforce", Setting(ONE, mismatch=0.5)),
    "sampler off, corrected by token": (
        "algo=reinforce algo/correction=truncated algo.correction.cap=1e9",
        Setting(ONE, mismatch=0.5),
    ),
}


@pytest.mark.parametrize(("words", "setting"), BIASED.values(), ids=list(BIASED))
def test_these_estimators_are_biased(words: str, setting: Setting):
    assert answer(words, setting).measured.bias > 0.01


@pytest.mark.parametrize("seed", range(4))
def test_a_correction_by_token_makes_responses_of_one_token_right_and_leaves_bias_of_longer_ones(seed: int):
    words, off = "algo=reinforce algo/correction=truncated algo.correction.cap=1e9", {"mismatch": 0.5, "samples": 1}
    one, longer = (answer(words, Setting(of, seed=seed, **off)).measured.bias for of in (SHORT, ONE))
    assert one < EXACT < 0.01 < longer


def test_at_lambda_below_one_a_critic_that_is_right_is_all_that_is_wanted():
    words = "algo=ppo algo.whiten=false algo.advantage.lam=0.5"
    assert answer(words, Setting(ONE, samples=1, critic_error=0.0)).measured.bias < EXACT


def test_a_response_that_is_never_drawn_cannot_be_weighed_back_in():
    """Weights make the gradient of what is left right, and no weight that of what is cut off."""
    uncapped = "algo=reinforce algo/correction=truncated algo.correction.cap=1e9"
    some, none = (answer(uncapped, Setting(replace(SHORT, graded=True), alter=TopK(k))).measured for k in (2, 3))
    assert none.bias < EXACT < some.bias


def test_drawn_iterations_have_the_moments_of_all_within_their_error():
    words = "algo=reinforce"
    whole, drawn = answer(words, Setting(ONE)), answer(words, Setting(ONE, draws=300))
    gap = (drawn.measured.mean - whole.measured.mean).norm()
    assert 0 < gap < 3 * drawn.measured.error
    assert drawn.measured.total_variance == pytest.approx(whole.measured.total_variance, rel=0.3)


def test_what_cannot_be_measured_is_one_line():
    with pytest.raises(ConfigError, match="algo: Preference is no estimator"):
        ask(build_algorithm(composed("train", ["algo=dpo"], ("algo",))), Setting(ONE))
    with pytest.raises(ConfigError, match="type --draws 2000"):
        Setting(TWO, samples=8)
    with pytest.raises(ConfigError, match="the true gradient is zero"):
        answer("algo=reinforce", Setting(NOTHING))


def test_entropies_of_tokens_add_up_to_that_of_responses_and_a_choice_of_tokens_reads_them():
    table = Setting(TWO).tables.old
    total = (TWO.probabilities(table) * TWO.token_entropies(table).sum(2)).sum(1).mean()
    assert float(total) == pytest.approx(float(TWO.entropy(table)), abs=1e-13)
    every, chosen = (mean_of(Setting(ONE), "algo=reinforce", *words) for words in ((), ("algo/tokens=top_entropy",)))
    assert not torch.allclose(every, chosen, atol=1e-3)


def test_the_command_prints_figures_and_numbers(capfd: pytest.CaptureFixture[str]):
    small = ["oracle", "algo=raft", "algo/kl=k2", "--prompts", "1", "--samples", "1", "--horizon", "2"]
    assert cli.exit_code(small) == 0
    assert "all 3 iterations enumerated" in (printed := capfd.readouterr().out)
    assert [line.split("  ")[0] for line in printed.splitlines()[2:]] == [
        *("scale", "cosine", "bias", "noise"),
        "bias, KL of steps",
    ]
    assert cli.exit_code([*small, "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["iterations"] == 3
    assert 0 < found["estimate"]["cosine"] < 1


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("algo=sft", "algo: Supervised is no estimator"),
        ("algo=grp", "algo=grp: no such choice"),
        ("algo=grpo --samples 0", "1 sample or more"),
        ("algo=grpo --horizon 60", "type --draws 2000, or fewer samples"),
        ("algo=grpo --vocabulary 9 --horizon 9", "type fewer of either"),
        ("algo=grpo --table kl", "leave algo=grpo out"),
        ("algo=grpo engine/alter=int9", "engine/alter=int9: no such choice"),
        ("algo=passk --samples 4", "algo.advantage.k=4: must be below --samples 4"),
        ("algo=grpo --moved nan", "distances of 0 or more"),
        ("algo=grpo --seed 99999999999999999999999", "type --seed 0"),
        ("algo=grpo --seed -1", "--seed -1: must be a whole number from 0"),
        ("algo=grpo --horizon 1000000000", "type fewer of either"),
        ("algo=grpo --prompts 99999999999999999999999", "type fewer prompts, or shorter responses"),
        ("algo=grpo --samples 1000000000 --draws 2", "10,000 at most"),
        ("algo=grpo --samples 9999", "some 10^22 iterations"),
        ("algo=grpo --draws 1000000000", "--draws 1000000000: the oracle needs"),
    ],
)
def test_bad_words_are_one_line(capfd: pytest.CaptureFixture[str], words: str, part: str):
    assert cli.exit_code(["oracle", *words.split()]) == 2
    line = capfd.readouterr().err
    assert part in line
    assert line.count("\n") == 1


RULES = """
import torch
def endless(rewards): return endless(rewards)
def leaves(rewards): raise SystemExit(7)
def nans(rewards): return rewards * float("nan")
def shapes(rewards): return rewards + torch.ones(5, 1)
def steep(ratio, advantage): return (ratio - ratio).sqrt() * advantage
"""


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("algo.advantage._target_=bad_rules.endless", "algo.advantage: endless raised RecursionError"),
        ("algo.advantage._target_=bad_rules.leaves", "algo.advantage: leaves raised SystemExit: 7"),
        ("algo.advantage._target_=bad_rules.nans", "algo.advantage: nans returned numbers that are not finite"),
        ("algo.advantage._target_=bad_rules.shapes", "algo.advantage: shapes raised RuntimeError: The size of tensor"),
        ("algo.clip._target_=bad_rules.steep", "objective: its gradient is not finite"),
        ("algo.clip._target_=bad_rules.steeep", "bad_rules has no steeep; did you mean bad_rules.steep?"),
        ("algo.clip._target_=bad_rules.right.nothere", "bad_rules has no right; it has endless, leaves, nans"),
    ],
)
def test_rules_that_fail_are_one_line(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: str, part: str
):
    (tmp_path / "bad_rules.py").write_text(RULES)
    monkeypatch.syspath_prepend(tmp_path)
    own = ["algo=reinforce", "algo/clip=none", "algo/advantage=reward", "plugins=[bad_rules]", "--samples", "1"]
    assert cli.exit_code(["oracle", *own, *words.split()]) == 2
    line = capfd.readouterr().err
    assert part in line
    assert line.count("\n") == 1


def test_a_correction_without_effect_is_told(capfd: pytest.CaptureFixture[str]):
    words = ["oracle", "algo=reinforce", "algo/correction=truncated", "--samples", "1"]
    assert cli.exit_code(words) == 0
    assert "without effect: algo.correction" in (said := capfd.readouterr().out)
    assert "refused by winnow train" in said
    assert cli.exit_code([*words, "--mismatch", "0.5"]) == 0
    assert "without effect" not in capfd.readouterr().out


def drawn(words: str, collector: CollectorRule, samples: int = 3, draws: int = 600) -> tuple[Tensor, float, float]:
    """Mean estimate, its standard error and the responses of an iteration, with one prompt and a collector."""
    setting = Setting(FEW, samples=samples, collector=collector, draws=draws, seed=3)
    found = answer(words, setting)
    return found.measured.mean, found.measured.error, found.responses


PLAIN_GROUP = "algo=grpo algo.advantage.scale=none"


def test_one_round_of_adaptive_sampling_is_fixed_sampling():
    """A round of as many samples as are kept keeps all of them."""
    mean, error, count = drawn(PLAIN_GROUP, Adaptive(1, 3, "balance", 1, None))
    exact = answer(PLAIN_GROUP, Setting(FEW, samples=3, seed=3)).measured.mean
    assert count == 3
    assert float((mean - exact).norm()) < 4 * error < float(exact.norm())


def test_refilling_is_sampling_given_that_the_prompt_is_mixed():
    """With one prompt, and rounds enough, the mean is the expectation over mixed groups, which enumeration gives."""
    mean, error, count = drawn(PLAIN_GROUP, Refill(100, None, None))
    setting = Setting(FEW, samples=3, seed=3)
    with new_tensors_in_float64():
        estimator = GradientEstimator(FEW, setting.tables, algorithm(*SUM, *PLAIN_GROUP.split()))
        correct = [FEW.is_correct(0, response) for response in FEW.responses]
        mixed = [
            (group, probability)
            for (group,), probability in iterations(FEW.probabilities(setting.tables.old), 3)
            if len({correct[number] for number in group}) == 2
        ]
        share = sum(probability for _, probability in mixed)
        expected = sum((probability * estimator([group]) for group, probability in mixed), torch.zeros(())) / share
    assert float((mean - expected.flatten()).norm()) < 4 * error < float(expected.norm())
    assert count == pytest.approx(3 / share, rel=0.1)


def test_budgets_are_spent_and_presamples_are_not_trained_on():
    """With one prompt the second part is all samples, or none where no presample is correct: RAFT of the rest."""
    mean, error, count = drawn("algo=raft", Budgets(2, 1e-3, 2.0, "all", None), draws=800)
    setting = Setting(FEW, samples=3, seed=3)
    right = float(FEW.probabilities(setting.tables.old)[0, [FEW.is_correct(0, each) for each in FEW.responses]].sum())
    solved = 1 - (1 - right) ** 2
    exact = solved * answer("algo=raft", setting).measured.mean
    assert count == pytest.approx(2 + 3 * solved, rel=0.05)
    assert float((mean - exact).norm()) < 4 * error < float(exact.norm())


def test_a_collector_is_drawn_and_not_enumerated():
    with pytest.raises(ConfigError, match=r"type --draws 2000"):
        Setting(FEW, collector=Refill(3, None, None))
    with pytest.raises(ConfigError, match=r"type collector\.gradient=all"):
        drawn("algo=raft", Budgets(2, 1e-3, 2.0, "embeddings", None))


def test_words_may_stand_on_both_sides_of_the_options(capsys: pytest.CaptureFixture[str]):
    words = ["algo=grpo", "--samples", "2", "algo/clip=none", "--json", "collector=refill", "--draws", "20"]
    assert cli.exit_code(["oracle", *words]) == 0
    assert json.loads(capsys.readouterr().out)["responses"] >= 4
    assert cli.exit_code(["oracle", "algo=grpo", "--nothing"]) == 2
    assert cli.exit_code(["doctor", "algo=grpo"]) == 2
