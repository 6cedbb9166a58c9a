"""Rules of an algorithm's axes see the quantities that they name, and no others."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from winnow.algorithm import PolicyGradient, Preference
from winnow.conformance.run import of_rule
from winnow.errors import ConfigError
from winnow.experience.batching import Experience, Plan, TokenBudget
from winnow.objectives import KL, PolicyObjective
from winnow.ops import advantage, aggregate, clip, kl, preference, ratio, select, tokens
from winnow.rule import given, reads, require_callable
from winnow.types import Batch, Row, SampleFacts


def rule(ratio: Tensor, advantage: Tensor, old: Tensor, width: float, *, response: Tensor) -> Tensor:
    return ratio * advantage


def test_a_rule_gets_what_its_signature_names_and_its_settings_do_not_bind():
    one = torch.ones(1)
    assert given(rule, logprobs=one, old=one, response=one).keys() == {"old", "response"}
    assert given(partial(rule, width=1.0, old=one), old=one, response=one).keys() == {"response"}
    assert given(rule, old=None, response=one).keys() == {"response"}
    assert not reads(lambda ratio, **more: ratio, "old")


def rows(*lengths_by_prompt: tuple[int, int]) -> list[Row]:
    """Rows of a prompt's single token, so many response tokens, and advantage 1."""
    return [Row((prompt,) + (9,) * n, 1, advantage=torch.tensor([0.0] + [1.0] * n)) for prompt, n in lengths_by_prompt]


def mean_of_prompts(lengths: Tensor, prompts: Tensor) -> tuple[Tensor, Tensor]:
    """The mean over prompts of each one's mean over all its tokens."""
    same = (prompts[:, None] == prompts[None]).double()
    return 1 / (same @ lengths.double()), 1 / same.sum(1)


@pytest.mark.parametrize("tokens", [4, 1000])
def test_an_aggregation_over_prompts_is_the_same_in_any_micro_batches(tokens: int):
    """Prompt 1 has rows of 1 and 3 tokens, prompt 2 one of 2: tokens weigh ¼ and ½, and the denominator is 2."""
    items = rows((1, 1), (2, 2), (1, 3))
    plan = Plan(1, 1, TokenBudget(tokens, packed=False), mean_of_prompts, seed=0)
    batches = list(plan.micro_batches(Experience(items, [False] * 3), [[0, 1, 2]]))
    weights = {row.token_ids: float(w) for b in batches for row, w in zip(b.items, b.terms.row_weight, strict=True)}
    assert weights == {items[0].token_ids: 0.25, items[1].token_ids: 0.5, items[2].token_ids: 0.25}
    assert {b.terms.denominator for b in batches} == {2.0}
    assert len(batches) == (3 if tokens == 4 else 1)


def policy_gradient(**changed: object) -> PolicyGradient:
    settings = {
        "select": select.all_samples,
        "advantage": advantage.reward,
        "ratio": ratio.token,
        "clip": clip.unclipped,
        "aggregate": aggregate.token_mean,
        "kl": None,
        "correction": ratio.uncorrected,
        "entropy": 0.0,
        "rejected": "drop",
    }
    return PolicyGradient(**(settings | changed))  # pyright: ignore[reportArgumentType]


def facts(rewards: Tensor, lengths: Tensor, truncated: Tensor) -> SampleFacts:
    return SampleFacts(rewards > 0, lengths, truncated, rewards.unsqueeze(2), torch.ones(1))


def test_truncated_responses_are_not_selected_where_the_algorithm_drops_them():
    rewards = torch.tensor([[1.0, -1.0, 1.0]])
    known = facts(rewards, torch.tensor([[2, 3, 3]]), torch.tensor([[False, True, True]]))
    assert policy_gradient().selected(rewards, known).tolist() == [[True, True, True]]
    assert policy_gradient(truncated="drop").selected(rewards, known).tolist() == [[True, False, False]]


def test_a_rule_that_knows_which_samples_are_usable_is_called_once():
    calls = []

    def minus_longest(rewards: Tensor, lengths: Tensor, usable: Tensor) -> Tensor:
        calls.append(usable.tolist())
        return rewards - lengths.masked_fill(~usable, 0).max()

    rewards = torch.tensor([[1.0, torch.nan], [0.0, 2.0]])
    known = facts(rewards, torch.tensor([[1, 9], [2, 3]]), torch.zeros(2, 2, dtype=torch.bool))
    found = policy_gradient(advantage=minus_longest).advantages(rewards, None, torch.ones(2, 2).bool(), known)
    assert found.tolist() == [[-2.0, 0.0], [-3.0, -1.0]]
    assert calls == [[[True, False], [True, True]]]


def test_the_lengths_of_samples_that_are_not_usable_reach_no_other_rule():
    def by_length(rewards: Tensor, lengths: Tensor) -> Tensor:
        return rewards - lengths.double().mean(1, keepdim=True).to(rewards.dtype)

    rewards = torch.tensor([[1.0, torch.nan], [0.0, 2.0]])
    known = facts(rewards, torch.tensor([[1, 9], [2, 4]]), torch.zeros(2, 2, dtype=torch.bool))
    found = policy_gradient(advantage=by_length).advantages(rewards, None, torch.ones(2, 2).bool(), known)
    assert found.tolist() == [[0.0, 0.0], [-3.0, -1.0]]


def batch(old: Tensor, reference: Tensor) -> Batch:
    every = torch.ones_like(old, dtype=torch.bool)
    return Batch(every, torch.ones(1), 1.0, 1, torch.zeros_like(old), old, reference)


def test_a_kl_weighted_by_the_ratio_is_that_of_the_policy_that_trains():
    """π = ½, π_old = ¼, π_ref = ½: k1 is 0 in both; with π_ref = ¼, log 2 · 2."""
    logprobs, old = torch.tensor([[0.5]]).log(), torch.tensor([[0.25]]).log()
    for reference, expected in ((0.5, 0.0), (0.25, 2 * torch.tensor(2.0).log().item())):
        weighed = KL(kl.k1, coef=1.0, weight="ratio")
        objective = PolicyObjective(ratio.log_probability, clip.unclipped, weighed, 0.0)
        assert objective.uses_old
        loss = objective(logprobs, None, batch(old, torch.tensor([[reference]]).log()))
        assert float(loss.value) == pytest.approx(expected, abs=1e-6)


def test_a_kl_in_the_reward_has_no_ratio_to_be_weighed_by():
    with pytest.raises(ConfigError, match=r"algo\.kl\.weight=none"):
        policy_gradient(kl=KL(kl.k1, coef=1.0, place="reward", weight="ratio"))


def test_a_ratio_rule_may_read_the_advantage_and_a_clip_rule_the_probabilities():
    def signed(logprobs: Tensor, old: Tensor, response: Tensor, advantage: Tensor) -> Tensor:
        return advantage.sign() * (logprobs - old).exp()

    def difference(ratio: Tensor, advantage: Tensor, logprobs: Tensor, old: Tensor) -> Tensor:
        return (logprobs.exp() - old.exp()) * advantage + 0 * ratio

    logprobs, old = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.25]]).log()
    rows = Batch(torch.ones(1, 2).bool(), torch.ones(1), 1.0, 1, torch.tensor([[1.0, -2.0]]), old)
    for objective, expected in (
        (PolicyObjective(signed, clip.unclipped, None, 0.0), -(2.0 + 4.0)),
        (PolicyObjective(ratio.token, difference, None, 0.0), -(0.25 - 0.5)),
    ):
        assert float(objective(logprobs, None, rows).value) == pytest.approx(expected)


def needs_entropies(ratio: Tensor, advantage: Tensor, entropies: Tensor) -> Tensor:
    return ratio * advantage * entropies


def needs_width(ratio: Tensor, advantage: Tensor, width: float) -> Tensor:
    return ratio * advantage * width


def needs_penalty(rewards: Tensor, penalty: Tensor) -> Tensor:
    return rewards - penalty


@pytest.mark.parametrize(
    ("axis", "wrong", "words"),
    [
        ("clip", needs_entropies, "needs `entropies`, which algo/tokens gives, and algo/clip does not"),
        ("clip", needs_width, "needs `width`, which nothing gives; type +algo.clip.width=VALUE"),
        ("clip", partial(needs_width, advantage=torch.ones(1)), "cannot be called"),
        ("clip", lambda ratio: ratio, "by position ratio, advantage, by name logprobs, old, response"),
        ("clip", 3, "a int and no function; add `_partial_: true`"),
        ("advantage", needs_penalty, "needs `penalty`, which this run does not have; give it a default value"),
        ("kl", lambda delta, reference: delta, "needs `reference`, which nothing gives"),
    ],
)
def test_a_rule_that_its_axis_cannot_call_is_refused(axis: str, wrong: object, words: str):
    with pytest.raises(ConfigError) as refusal:
        require_callable(axis, wrong, absent=["penalty"])
    assert words in str(refusal.value)
    require_callable("advantage", needs_penalty)
    require_callable("clip", partial(needs_width, width=1.0))


def penalised(rewards: Tensor, penalty: Tensor | None = None) -> Tensor:
    return rewards if penalty is None else rewards - penalty


def swapped(advantage: Tensor, ratio: Tensor) -> Tensor:
    return advantage * ratio


OURS = {
    "select": select.all_samples,
    "advantage": advantage.reward,
    "ratio": ratio.token,
    "clip": clip.unclipped,
    "aggregate": aggregate.sequence_mean,
    "kl": kl.k2,
    "correction": partial(ratio.truncated, cap=2.0),
    "tokens": tokens.every_token,
    "preference": preference.sigmoid,
    "divergence": preference.reverse_kl,
}


@pytest.mark.parametrize("axis", OURS)
def test_a_rule_of_ours_is_one_of_its_own_axis_alone(axis: str):
    require_callable(axis, OURS[axis])
    for home, rule in OURS.items():
        if home != axis:
            with pytest.raises(
                ConfigError, match=rf"^algo\.{axis}: \w+ is a rule of algo/{home}, and of no other axis"
            ):
                require_callable(axis, rule)


@pytest.mark.parametrize(
    ("axis", "wrong", "words"),
    [
        ("select", advantage.one, "one is a rule of algo/advantage"),
        ("correction", ratio.bounded, "bounded is in winnow.ops.ratio and no rule of an axis"),
        ("select", penalised, "takes `penalty` where algo/select gives `correct`"),
        ("clip", swapped, "takes `advantage` where algo/clip gives `ratio`"),
        ("correction", lambda delta: delta, "takes `delta` where algo/correction gives `ratio`"),
    ],
)
def test_a_rule_that_is_given_another_quantity_than_it_names_is_refused(axis: str, wrong: Callable, words: str):
    with pytest.raises(ConfigError) as refusal:
        require_callable(axis, wrong)
    assert words in str(refusal.value)


def test_a_rule_of_ones_own_may_name_what_it_has_by_position_as_it_likes():
    require_callable("clip", lambda rho, adv: rho * adv)
    require_callable("kl", lambda log_ratio: log_ratio)
    require_callable("divergence", lambda delta: delta)
    require_callable("clip", lambda *both: both[0] * both[1])


def test_what_a_rule_returns_is_of_the_kind_that_its_axis_wants():
    like = torch.ones(2, 3)
    with pytest.raises(ConfigError, match="it has to return True or False for each place"):
        policy_gradient(select=lambda rewards, correct: rewards).selected(like, SampleFacts.of_verdicts(like, like > 0))
    with pytest.raises(ConfigError, match=r"algo\.kl: <lambda> returned shape \(\)"):
        KL(lambda delta: delta.mean(), 0.1)(like, like)
    for wrong in (torch.ones(2), None, (torch.ones(2),)):
        returning: Any = {"aggregate": lambda lengths, wrong=wrong: wrong}
        plan = Plan(1, 1, TokenBudget(9, packed=False), **returning, seed=0)
        with pytest.raises(ConfigError, match="it has to return two tensors"):
            list(plan.micro_batches(Experience(rows((1, 1), (2, 2)), [False] * 2), [[0, 1]]))


class Scaled:
    """A rule that is an object."""

    def __init__(self, factor: float = 2.0):
        self.factor = factor

    def __call__(self, rewards: Tensor) -> Tensor:
        return rewards * self.factor


def test_a_rule_may_be_an_object_and_not_its_class():
    require_callable("advantage", Scaled())
    with pytest.raises(ConfigError, match="is a class, of which an object is called; leave out `_partial_: true`"):
        require_callable("advantage", partial(Scaled, factor=1.0))
    with pytest.raises(ConfigError, match=r"Scaled of algo\.advantage takes no penalty"):
        policy_gradient(advantage=Scaled(), kl=KL(kl.k1, 0.1, "reward"))


@pytest.mark.parametrize("rule", [preference.ipo, preference.hinge, preference.sppo])
def test_smoothing_is_refused_where_the_loss_of_a_pair_does_not_read_it(rule: Callable):
    settings = (select.extremes, rule, preference.reverse_kl, 0.1)
    Preference(*settings, 0.0, "initial")
    with pytest.raises(
        ConfigError, match=f"{rule.__name__} of algo.preference does not read it; type algo.smoothing=0"
    ):
        Preference(*settings, 0.1, "initial")


def test_a_rule_that_ends_the_program_has_failed_its_checks():
    def ends(rewards: Tensor) -> Tensor:
        raise SystemExit(0)

    found = list(of_rule("advantage", ends))
    assert found
    assert any(finding.failed and "SystemExit" in str(finding) for finding in found)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan")])
def test_weights_of_which_no_mean_can_be_made_are_refused(weight: float):
    def rule(lengths: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones(len(lengths)), torch.full((len(lengths),), weight)

    plan = Plan(1, 1, TokenBudget(9, packed=False), rule, seed=0)
    with pytest.raises(ConfigError, match=r"algo\.aggregate: rule returned weights or parts"):
        list(plan.micro_batches(Experience(rows((1, 1), (2, 2)), [False] * 2), [[0, 1]]))


def test_a_rule_that_changes_its_inputs_or_raises_is_named():
    rewards = torch.ones(1, 2)
    none = SampleFacts.of_verdicts(rewards, rewards > 0)
    with pytest.raises(ConfigError, match=r"algo\.advantage: <lambda> changes one of its inputs in place"):
        policy_gradient(advantage=lambda rewards: rewards.sub_(1)).advantages(rewards, None, rewards > 0, none)
    with pytest.raises(ConfigError, match=r"algo\.select: <lambda> raised IndexError: .*test_rule\.py:\d+"):
        policy_gradient(select=lambda rewards, correct: [][1]).selected(rewards, none)
