"""Groups of different sizes, of which a collector passes a part on: which rows are trained on, with which advantage."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from test_policy_gradient import GRPO, algorithm

from fakes import Asked, Drawn, HandMade, SpyCritic, spied
from winnow.algorithm import ActorCritic, Preference
from winnow.experience.batching import Experience
from winnow.experience.metrics import Clock
from winnow.experience.policy_gradient import ActorCriticExperience, PolicyGradientExperience
from winnow.experience.preference import PreferenceExperience
from winnow.objectives import KL
from winnow.ops import advantage, kl, preference, select
from winnow.types import Pair, Rollouts

A, B = (11, 12), (13,)
ASKED = (
    Asked(A, (Drawn((4, 2), True), Drawn((5, 2), False), Drawn((6, 2), False), Drawn((7, 2), False))),
    Asked(B, (Drawn((8, 2), False), Drawn((3, 2), True))),
)
"""Four samples of A, of which one is correct, and two of B: rows 0 to 3, and 4 and 5."""
CHOSEN = torch.tensor([[True, True, False, False], [True, True, False, False]])
CENTRED = {**GRPO, "advantage": partial(advantage.group, scale="none")}


def ragged(chosen: torch.Tensor | None = CHOSEN) -> HandMade:
    one = HandMade([ASKED[0]])
    other = HandMade([ASKED[1]]).rollouts
    wide = torch.full((1, 4), torch.nan)
    wide[0, :2] = other.rewards
    correct = torch.zeros(1, 4, dtype=torch.bool)
    correct[0, :2] = other.correct
    found: Rollouts = one.rollouts
    one.rollouts = replace(
        found,
        prompts=(*found.prompts, replace(other.prompts[0], key="p1")),
        completions=found.completions + other.completions,
        texts=found.texts + other.texts,
        judgements=found.judgements + other.judgements,
        rewards=torch.cat([found.rewards, wide]),
        correct=torch.cat([found.correct, correct]),
        chosen=chosen,
    )
    return one


def trained(collector: HandMade, **changed) -> Experience:
    return PolicyGradientExperience(collector, spied().scorer, algorithm(**changed), 4)(0, Clock())


def told(found: Experience) -> dict[tuple[int, ...], float]:
    """The advantage of each row by its response."""
    rows = [item for item in found.items if not isinstance(item, Pair)]
    return {
        row.token_ids[row.prompt_length :]: pytest.approx(float(row.advantage[-1]), abs=1e-6)
        for row in rows
        if row.advantage is not None
    }


def test_the_baseline_is_over_all_that_was_drawn():
    """A's rewards are 1, −1, −1, −1 with mean −1/2, B's −1 and 1 with mean 0."""
    assert told(trained(ragged(), **CENTRED)) == {(4, 2): 1.5, (5, 2): -0.5, (8, 2): -1, (3, 2): 1}
    every = {(4, 2): 1.5, (5, 2): -0.5, (6, 2): -0.5, (7, 2): -0.5, (8, 2): -1, (3, 2): 1}
    assert told(trained(ragged(None), **CENTRED)) == every


def test_records_and_metrics_hold_what_was_set_aside():
    found = trained(ragged(), **CENTRED)
    assert [record.kept for record in found.records] == [True, True, False, False, True, True]
    assert [record.sample for record in found.records] == [0, 1, 2, 3, 0, 1]
    assert [record.reward for record in found.records] == [1, -1, -1, -1, -1, 1]
    assert found.metrics["sampled_tokens"] == 12
    assert found.metrics["rollout/samples"] == 6
    assert found.metrics["train/samples/passed_on_frac"] == pytest.approx(4 / 6)
    assert found.metrics["rollout/acc"] == pytest.approx((1 / 4 + 1 / 2) / 2)
    assert found.metrics["train/groups/frac_mixed"] == 1
    assert "rollout/samples" not in trained(ragged(None), **CENTRED).metrics


def test_what_is_set_aside_is_not_in_the_batch_even_at_advantage_zero():
    found = trained(ragged(), select=select.best, rejected="zero")
    assert told(found) == {(4, 2): 1, (5, 2): 0, (8, 2): 0, (3, 2): 1}


def test_selection_looks_at_all_samples_and_both_have_to_keep():
    """With A's correct sample set aside A is mixed all the same, and its wrong ones are trained on."""
    chosen = CHOSEN.clone()
    chosen[0, 0] = False
    found = trained(ragged(chosen), select=select.mixed_prompts, advantage=advantage.reward)
    assert told(found) == {(5, 2): -1, (8, 2): -1, (3, 2): 1}


def test_a_penalty_goes_to_the_rows_of_its_own_responses():
    """k1 at the sampler's numbers: response (t, 2) is (t + 2) / 10 + 4 / 10 nats above the initial policy."""
    term = KL(kl.k1, coef=1.0, place="reward")
    found = trained(ragged(), kl=term, select=select.all_samples, advantage=advantage.reward)
    expected = {(t, 2): reward - (t + 6) / 10 for t, reward in ((4, 1), (5, -1), (8, -1), (3, 1))}
    assert told(found) == {key: pytest.approx(value, abs=1e-5) for key, value in expected.items()}


def test_pairs_are_of_what_was_passed_on():
    """Of A's three wrong ones only the second sample may be rejected; row numbers go on after four samples."""
    rule = Preference(
        partial(select.extremes, pairs=1), preference.sigmoid, preference.reverse_kl, 0.1, 0.0, "previous"
    )
    found = PreferenceExperience(ragged(), spied().scorer, rule)(0, Clock())
    pairs = [item for item in found.items if isinstance(item, Pair)]
    assert [(p.chosen.token_ids[-2:], p.rejected.token_ids[-2:]) for p in pairs] == [((4, 2), (5, 2)), ((3, 2), (8, 2))]
    assert found.evidence is not None
    assert found.evidence.numbers == ((0, 1), (5, 4))
    assert [record.kept for record in found.records] == [True, True, False, False, True, True]


def test_a_critic_sees_all_rows_and_trains_on_those_passed_on():
    """Values are t / 10: with γ = λ = 1 the advantage at the last token, 2, is the reward − 0.2."""
    settings = algorithm(**GRPO)
    names = ("select", "ratio", "clip", "aggregate", "kl", "correction", "entropy", "rejected")
    rule = ActorCritic(
        **{name: getattr(settings, name) for name in names},
        advantage=advantage.gae,
        whiten=False,
        value_clip=0.2,
        critic_lr_ratio=1.0,
    )
    critic = SpyCritic()
    found = ActorCriticExperience(ragged(), spied().scorer, critic, rule)(0, Clock())
    assert told(found) == {(4, 2): 0.8, (5, 2): -1.2, (8, 2): -1.2, (3, 2): 0.8}
    assert len(critic.seen) == 6
