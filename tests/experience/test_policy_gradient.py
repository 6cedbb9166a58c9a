"""Experience of policy-gradient algorithms without a critic: selection, advantages, and what is scored for them."""

from functools import partial

import pytest
import torch

from fakes import ALL_WRONG, RESPONSES, SEQUENCES, STARTS, HandMade, initial_of, policy_of, sampler, spied
from winnow.algorithm import PolicyGradient
from winnow.errors import ConfigError
from winnow.experience.batching import Experience
from winnow.experience.metrics import Clock
from winnow.experience.policy_gradient import PolicyGradientExperience
from winnow.experience.scoring import Scorer
from winnow.objectives import KL
from winnow.ops import advantage, aggregate, clip, kl, ratio, select
from winnow.ops.ratio import truncated, uncorrected
from winnow.types import Row

K1_IN_REWARD = KL(kl.k1, coef=0.5, place="reward")


def algorithm(**changed) -> PolicyGradient:
    """RAFT++ with the `changed` settings."""
    settings = {
        "select": select.best,
        "advantage": advantage.one,
        "ratio": ratio.token,
        "clip": clip.unclipped,
        "aggregate": aggregate.sequence_mean,
        "kl": None,
        "correction": uncorrected,
        "entropy": 0.0,
        "rejected": "drop",
    }
    return PolicyGradient(**(settings | changed))


GRPO = {"select": select.all_samples, "advantage": advantage.group}


def experience(algorithm: PolicyGradient, scorer: Scorer | None = None, updates: int = 4) -> Experience:
    return PolicyGradientExperience(HandMade(), scorer or spied().scorer, algorithm, updates)(0, Clock())


def rows_of(found: Experience) -> list[Row]:
    return [item for item in found.items if isinstance(item, Row)]


def places_of(found: Experience) -> list[int]:
    """The numbers of the rows that became items."""
    return [SEQUENCES.index(row.token_ids) for row in rows_of(found)]


def advantages_of(found: Experience) -> list[float]:
    """The advantage at each row's last token."""
    return [pytest.approx(float(row.advantage[-1]), abs=1e-6) for row in rows_of(found) if row.advantage is not None]


def test_rejected_rows_are_dropped():
    found = experience(algorithm(rejected="drop"))
    assert places_of(found) == [0, 5]
    assert advantages_of(found) == [1, 1]
    assert found.metrics["train/adv/mean"] == 1
    assert found.metrics["train/samples/kept_frac"] == pytest.approx(2 / 6)


def test_rejected_rows_stay_at_advantage_zero():
    found = experience(algorithm(rejected="zero"))
    assert places_of(found) == [0, 1, 2, 3, 4, 5]
    assert advantages_of(found) == [1, 0, 0, 0, 0, 1]
    assert found.zero_gradient == [False, True, True, True, True, False]
    assert found.metrics["train/adv/mean"] == pytest.approx(2 / 6)
    assert found.metrics["train/samples/kept_frac"] == pytest.approx(2 / 6)


def test_an_advantage_sits_on_response_tokens_only():
    for row, place in zip(rows_of(experience(algorithm(rejected="zero"))), range(6), strict=True):
        expected = 1.0 if place in (0, 5) else 0.0
        assert row.prompt_length == STARTS[place]
        assert row.advantage is not None
        assert row.advantage.tolist() == [0.0] * STARTS[place] + [expected] * len(RESPONSES[place])


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("rejected", ["drop", "zero"])
def test_old_and_reference_log_probabilities_are_those_of_the_row(exact: bool, rejected: str):
    scorer = spied(exact).scorer
    found = experience(algorithm(kl=KL(kl.k3, coef=0.1), rejected=rejected), scorer)
    for row, place in zip(rows_of(found), places_of(found), strict=True):
        torch.testing.assert_close(row.old_logprobs, sampler(place) if exact else policy_of(place))
        torch.testing.assert_close(row.ref_logprobs, initial_of(place))


def test_the_reference_may_be_the_policy_that_sampled():
    kit = spied()
    found = experience(algorithm(kl=KL(kl.k3, coef=0.1, reference="previous")), kit.scorer)
    for row, place in zip(rows_of(found), places_of(found), strict=True):
        torch.testing.assert_close(row.ref_logprobs, sampler(place))
    assert kit.initial.seen == []


def test_log_probabilities_that_nothing_reads_are_absent():
    raft = rows_of(experience(algorithm(ratio=ratio.log_probability, clip=clip.unclipped)))
    assert [(row.old_logprobs, row.ref_logprobs) for row in raft] == [(None, None)] * 2
    raftpp = rows_of(experience(algorithm()))
    assert [row.ref_logprobs for row in raftpp] == [None] * 2
    assert all(row.old_logprobs is not None for row in raftpp)
    shaped = rows_of(experience(algorithm(advantage=advantage.reward, ratio=ratio.log_probability, kl=K1_IN_REWARD)))
    assert [(row.old_logprobs, row.ref_logprobs) for row in shaped] == [(None, None)] * 2


def test_rows_have_the_samplers_log_probabilities_where_a_clip_names_them_and_they_are_not_the_old_ones():
    """Also with a single update, whose own forward gives the old ones; no other row is larger by them."""
    dppo = {"clip": partial(clip.dppo, low=0.2, high=0.2, cap=20.0)}
    for exact, rule, updates, carried in (
        (False, dppo, 2, True),
        (False, dppo, 1, True),
        (True, dppo, 2, False),
        (False, {}, 2, False),
    ):
        rows = rows_of(experience(algorithm(**rule), spied(exact=exact, step=0.05).scorer, updates=updates))
        for place, row in zip((0, 5), rows, strict=True):
            assert (row.old_logprobs is None) == (updates == 1)
            assert (row.sampler_logprobs is not None) == carried
            if carried:
                torch.testing.assert_close(row.sampler_logprobs, sampler(place))


def test_kl_in_the_reward_is_subtracted_before_the_advantage():
    """k1 of row 0 is 0.6 + 0.4 = 1.0, of row 1 it is 0.7 + 0.5 + 0.4 = 1.6, and so on; β is 0.5."""
    found = experience(algorithm(select=select.all_samples, advantage=advantage.reward, kl=K1_IN_REWARD))
    assert advantages_of(found) == [1 - 0.5, -1 - 0.8, -1 - 0.4, -1 - 0.65, -1 - 0.25, 1 - 0.65]
    assert [record.reward for record in found.records] == [1, -1, -1, -1, -1, 1]


def test_a_baseline_needs_the_kl_of_dropped_rows_too():
    """Prompt 0: 0.5 minus the mean of 0.5 and −1.8. Prompt 2: 0.35 minus the mean of −1.25 and 0.35."""
    kit = spied()
    centred = partial(advantage.group, centre="mean", scale="none")
    found = experience(algorithm(advantage=centred, kl=K1_IN_REWARD), kit.scorer)
    assert places_of(found) == [0, 5]
    assert advantages_of(found) == [0.5 - -0.65, 0.35 - -0.45]
    assert kit.initial.rows == [0, 1, 2, 3, 4, 5]
    assert kit.policy.rows == []


@pytest.mark.parametrize("coefficient", [1e-3, 0.5])
def test_kl_in_the_reward_of_a_prompt_whose_rewards_tie_keeps_its_coefficient(coefficient: float):
    """Rows 2 and 3 are wrong. Their k1 are 0.8 and 1.3, the mean is 1.05, and the coefficient does not cancel."""
    found = experience(algorithm(**GRPO, kl=KL(kl.k1, coef=coefficient, place="reward")))
    assert advantages_of(found)[2:4] == [coefficient * 0.25, -coefficient * 0.25]


def test_a_rule_without_a_penalty_is_refused_beside_a_kl_in_the_reward():
    def squared(rewards: torch.Tensor) -> torch.Tensor:
        return rewards.square()

    assert advantages_of(experience(algorithm(select=select.all_samples, advantage=squared))) == [1] * 6
    with pytest.raises(ConfigError, match=r"squared of algo.advantage takes no penalty"):
        algorithm(advantage=squared, kl=K1_IN_REWARD)


def test_selection_reads_the_verdict_and_not_the_shaped_reward():
    """With β = 10 the correct sample of prompt 2 has the shaped reward 1 − 13 and the wrong one −1 − 5."""
    heavy = KL(kl.k1, coef=10.0, place="reward")
    found = experience(algorithm(advantage=advantage.reward, kl=heavy))
    assert places_of(found) == [0, 5]
    assert advantages_of(found) == [1 - 10, 1 - 13]


def test_a_prompt_whose_rewards_tie_has_no_gradient():
    assert experience(algorithm(**GRPO)).zero_gradient == [False, False, True, True, False, False]


@pytest.mark.parametrize("term", [{"kl": KL(kl.k3, coef=0.1)}, {"entropy": 0.01}], ids=["kl", "entropy"])
def test_kl_and_entropy_give_rows_of_advantage_zero_a_gradient(term: dict):
    found = experience(algorithm(**GRPO, **term))
    assert advantages_of(found)[2:4] == [0, 0]
    assert found.zero_gradient == [False] * 6


def test_rejected_rows_cost_no_forward():
    kit = spied(kl_rows=2)
    raft = algorithm(ratio=ratio.log_probability, kl=KL(kl.k3, coef=0.1))
    experience(raft, kit.scorer)
    assert len(kit.policy.rows) == 2
    assert kit.initial.rows == sorted({0, 5, *kit.policy.rows})
    kit = spied(kl_rows=0)
    experience(raft, kit.scorer)
    assert (kit.policy.rows, kit.initial.rows) == ([], [0, 5])


@pytest.mark.parametrize(
    ("exact", "changed", "forwarded"),
    [
        (True, {}, []),
        (False, {}, [0, 5]),
        (False, {"rejected": "zero"}, [0, 5]),  # the others count in the denominator alone
        (False, {"ratio": ratio.log_probability}, []),
        (False, {"ratio": ratio.log_probability, "rejected": "zero"}, []),
    ],
)
def test_without_kl_only_a_ratio_with_an_inexact_sampler_costs_forwards(
    exact: bool, changed: dict, forwarded: list[int]
):
    kit = spied(exact)
    experience(algorithm(**changed), kit.scorer)
    assert (kit.policy.rows, kit.initial.rows) == (forwarded, [])


@pytest.mark.parametrize(
    ("exact", "corrects", "read"), [(False, False, False), (False, True, True), (True, False, True)]
)
def test_one_update_an_iteration_needs_no_forward_before_it(exact: bool, corrects: bool, read: bool):
    """The update's own forward is of the policy that sampled.

    A correction needs the policy's log-probabilities earlier, to compare them with the sampler's; an exact sampler
    gives them without a forward.
    """
    kit = spied(exact)
    changed = {"correction": partial(truncated, cap=2.0)} if corrects else {}
    found = PolicyGradientExperience(HandMade(), kit.scorer, algorithm(**changed), updates=1)(0, Clock())
    assert {item.old_logprobs is not None for item in found.items} == {read}
    assert kit.policy.rows == ([0, 5] if corrects else [])


def test_where_nothing_is_kept_there_are_records_and_no_items():
    kit = spied()
    found = PolicyGradientExperience(HandMade([ALL_WRONG]), kit.scorer, algorithm(), 4)(4, Clock())
    assert (found.items, found.zero_gradient) == ([], [])
    assert [(r.iteration, r.sample, r.kept, r.advantage) for r in found.records] == [(5, 0, False, 0), (5, 1, False, 0)]
    assert found.metrics["train/samples/kept_frac"] == 0
    assert not {"train/adv/mean", "train/adv/std", "train/adv/abs_max"} & set(found.metrics)
