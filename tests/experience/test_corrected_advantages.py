"""The correction weight on each token's advantage, where sampler and policy disagree.

With `step=0.05` the policy gives token t the log-probability −(t + 1)/20 and the sampler −t/10: a ratio of
exp((t − 1)/20).
"""

from functools import partial
from math import exp

import pytest
import torch
from test_actor_critic import ADVANTAGES, ppo
from test_policy_gradient import algorithm, experience, rows_of

from fakes import RESPONSES, SEQUENCES, STARTS, HandMade, SpyCritic, spied
from winnow.experience.metrics import Clock
from winnow.experience.policy_gradient import ActorCriticExperience
from winnow.ops import advantage, ratio, select
from winnow.ops.ratio import masked, truncated

CAP = exp(0.12)
TRUNCATED = {"correction": partial(truncated, cap=CAP)}
MASKED = {"correction": partial(masked, cap=CAP, floor=exp(0.02))}
EVERY = {"select": select.all_samples, "advantage": advantage.reward}


def at(place: int, numbers: list[float]) -> torch.Tensor:
    return torch.tensor([0.0] * STARTS[place] + numbers)


def test_each_tokens_advantage_is_multiplied_by_its_truncated_ratio():
    """Row 0 is tokens 4 and 2 at reward 1, row 1 is 5, 3 and 2 at −1, row 5 is 8 and 1 at 1."""
    rows = rows_of(experience(algorithm(**EVERY, **TRUNCATED), spied(exact=False, step=0.05).scorer))
    torch.testing.assert_close(rows[0].advantage, at(0, [CAP, exp(0.05)]))
    torch.testing.assert_close(rows[1].advantage, at(1, [-CAP, -exp(0.10), -exp(0.05)]))
    torch.testing.assert_close(rows[5].advantage, at(5, [CAP, 1.0]))


def test_each_tokens_advantage_is_multiplied_by_its_masked_ratio():
    rows = rows_of(experience(algorithm(**EVERY, **MASKED), spied(exact=False, step=0.05).scorer))
    torch.testing.assert_close(rows[0].advantage, at(0, [0.0, exp(0.05)]))
    torch.testing.assert_close(rows[1].advantage, at(1, [0.0, -exp(0.10), -exp(0.05)]))
    torch.testing.assert_close(rows[5].advantage, at(5, [0.0, 0.0]))


def test_old_log_probabilities_remain_the_policys():
    plain = rows_of(experience(algorithm(**EVERY), spied(exact=False, step=0.05).scorer))
    for a, b in zip(
        plain, rows_of(experience(algorithm(**EVERY, **MASKED), spied(exact=False, step=0.05).scorer)), strict=True
    ):
        torch.testing.assert_close(a.old_logprobs, b.old_logprobs)


def test_a_row_whose_tokens_are_all_masked_has_no_gradient():
    found = experience(algorithm(**EVERY, **MASKED), spied(exact=False, step=0.05).scorer)
    # Rows 2 (token 6), 4 (token 3: e^0.1, kept) and 5 (tokens 8 and 1).
    assert found.zero_gradient == [False, False, True, False, False, True]
    assert found.records[5].advantage == 1  # the record has the advantage before the correction


def test_metrics_are_over_the_tokens_in_the_batch():
    """Rows 0 and 5 are kept: tokens 4, 2, 8, 1."""
    found = experience(algorithm(**TRUNCATED), spied(exact=False, step=0.05).scorer).metrics
    assert found["train/correction/mean"] == pytest.approx((2 * CAP + exp(0.05) + 1) / 4)
    assert found["train/correction/changed_frac"] == 0.5
    assert found["train/adv/mean"] == 1
    masked = experience(algorithm(**MASKED), spied(exact=False, step=0.05).scorer).metrics
    assert masked["train/correction/mean"] == pytest.approx(exp(0.05) / 4)
    assert masked["train/correction/changed_frac"] == 0.75


def test_without_a_correction_nothing_is_logged_and_nothing_is_scored():
    kit = spied(exact=False)
    found = experience(algorithm(ratio=ratio.log_probability), kit.scorer)
    assert not [name for name in found.metrics if "correction" in name]
    assert kit.policy.rows == []


def test_a_correction_scores_rows_that_no_ratio_needs():
    kit = spied(exact=False, step=0.05)
    rows = rows_of(experience(algorithm(ratio=ratio.log_probability, **TRUNCATED), kit.scorer))
    assert kit.policy.rows == [0, 5]
    torch.testing.assert_close(rows[0].advantage, at(0, [CAP, exp(0.05)]))
    assert rows[0].old_logprobs is None


def test_where_nothing_is_kept_there_is_nothing_to_correct():
    found = experience(
        algorithm(select=lambda rewards, correct: correct & ~correct, **TRUNCATED), spied(exact=False).scorer
    )
    assert (found.items, "train/correction/mean" in found.metrics) == ([], False)


def test_a_critics_advantages_are_corrected_last_and_its_returns_are_not():
    scorer = spied(exact=False, step=0.05).scorer
    found = ActorCriticExperience(HandMade(), scorer, SpyCritic(), ppo(**TRUNCATED))(0, Clock())
    plain = ActorCriticExperience(HandMade(), scorer, SpyCritic(), ppo())(0, Clock())
    assert len(rows_of(found)) == 6
    for row, before in zip(rows_of(found), rows_of(plain), strict=True):
        place = SEQUENCES.index(row.token_ids)
        weights = [min(exp((t - 1) / 20), CAP) for t in RESPONSES[place]]
        torch.testing.assert_close(
            row.advantage, at(place, [a * w for a, w in zip(ADVANTAGES[place], weights, strict=True)])
        )
        torch.testing.assert_close(row.returns, before.returns)
    assert found.metrics["train/adv/mean"] == plain.metrics["train/adv/mean"]
    assert found.metrics["train/correction/changed_frac"] == pytest.approx(5 / 11)  # tokens 4, 5, 6, 7 and 8
