"""A prompt with three right answers of 2, 2 and 1 tokens and a wrong one of 3, and a prompt with four wrong ones of 1 token.

Under GRPO the first prompt's advantages are ½, ½, ½ and −3/2 over the standard deviation, which cancels in an effective size.
"""

from dataclasses import replace

import pytest
import torch
from test_weigh import GRPO, algorithm

from fakes import Asked, Drawn, HandMade, rollouts, spied
from winnow.algorithm import PolicyGradient
from winnow.experience.metrics import Clock, effective_sample_size, gradient_mass_metrics, pair_gradient_mass_metrics
from winnow.experience.policy_gradient import PolicyGradientExperience
from winnow.objectives import KL
from winnow.ops import aggregate, kl
from winnow.types import Rollouts

THREE_OF_FOUR = Asked((11,), (Drawn((4, 2), True), Drawn((3, 2), True), Drawn((5,), True), Drawn((6, 7, 2), False)))
NONE_OF_FOUR = Asked((12,), tuple(Drawn((t,), False) for t in (3, 4, 5, 6)))
ASKED = (THREE_OF_FOUR, NONE_OF_FOUR)


def found(algorithm: PolicyGradient, *asked: Asked) -> dict[str, float]:
    return PolicyGradientExperience(HandMade(asked or ASKED), spied().scorer, algorithm, 4)(0, Clock()).metrics


def signal(metrics: dict[str, float]) -> dict[str, float]:
    prefix = "train/gradient_mass/"
    return {key.removeprefix(prefix): x for key, x in metrics.items() if key.startswith(prefix)}


def with_entropies() -> Rollouts:
    """A tenth of the token, in nats."""
    drawn = rollouts(ASKED)
    groups = (tuple(replace(c, entropies=torch.tensor(c.token_ids) / 10) for c in group) for group in drawn.completions)
    return replace(drawn, completions=tuple(groups))


def test_an_effective_size():
    """2.5² / (1 + 1 + ¼); signs do not matter, and alike are as many as they are."""
    assert effective_sample_size(torch.tensor([1.0, 1.0, 0.5])) == pytest.approx(6.25 / 2.25)
    assert effective_sample_size(torch.tensor([-1.0, 1.0, 0.5, 0.0])) == pytest.approx(6.25 / 2.25)
    assert effective_sample_size(torch.full((7,), 0.3)) == pytest.approx(7)
    assert effective_sample_size(torch.zeros(3)) == 0


def test_grpo():
    """Four rows of eight and 8 tokens of 12 have an advantage; (½ + ½ + ½ + 3/2)² / (3 · ¼ + 9/4) = 3."""
    metrics = found(algorithm(**GRPO))
    assert signal(metrics) == pytest.approx(
        {"rows_frac": 1 / 2, "tokens_kept_frac": 1, "tokens_frac": 8 / 12, "effective_rows": 3}
    )
    assert metrics["train/groups/frac_mixed"] == 1 / 2


def test_a_token_mean_weighs_rows_by_their_length():
    """(½·2 + ½·2 + ½·1 + 3/2·3)² / (1 + 1 + ¼ + 81/4)"""
    metrics = found(algorithm(**GRPO, aggregate=aggregate.token_mean))
    assert metrics["train/gradient_mass/effective_rows"] == pytest.approx(49 / 22.5)


@pytest.mark.parametrize("rejected", ["drop", "zero"])
def test_raftpp_keeps_the_right_ones_whatever_becomes_of_the_others(rejected: str):
    metrics = found(algorithm(rejected=rejected))
    assert signal(metrics) == {
        "rows_frac": 3 / 8,
        "tokens_kept_frac": 5 / 12,
        "tokens_frac": 5 / 12,
        "effective_rows": 3,
    }
    assert metrics["train/entropy/positive"] == 1
    assert "train/entropy/negative" not in metrics


def test_a_kl_term_moves_rows_that_have_no_advantage():
    metrics = found(algorithm(**GRPO, kl=KL(kl.k3, coef=0.1)))
    assert signal(metrics) == pytest.approx(
        {"rows_frac": 1, "tokens_kept_frac": 1, "tokens_frac": 8 / 12, "effective_rows": 3}
    )


@pytest.mark.parametrize("changed", [{}, GRPO], ids=["raftpp", "grpo"])
def test_where_no_answer_is_right_there_is_no_signal(changed: dict):
    metrics = found(algorithm(**changed), NONE_OF_FOUR)
    assert signal(metrics) | {"tokens_kept_frac": 0} == {
        "rows_frac": 0,
        "tokens_kept_frac": 0,
        "tokens_frac": 0,
        "effective_rows": 0,
    }
    assert metrics["train/groups/frac_mixed"] == 0
    assert not {"train/entropy/positive", "train/entropy/negative"} & set(metrics)


def test_entropy_by_the_sign_of_a_rows_mean_advantage():
    """Row 0 (tokens 4, 2) is at 3 − 1 and positive, row 3 (6, 7, 2) at 1 − 2 + 0 and negative, row 2 (5) at 0 and neither."""
    advantages = {
        0: torch.tensor([0.0, 3.0, -1.0]),
        2: torch.tensor([0.0, 0.0]),
        3: torch.tensor([0.0, 1.0, -2.0, 0.0]),
    }
    everyone = torch.ones(2, 4, dtype=torch.bool)
    metrics = gradient_mass_metrics(with_entropies(), everyone, advantages, aggregate.sequence_mean, False)
    assert metrics["train/entropy/positive"] == pytest.approx((0.4 + 0.2) / 2)
    assert metrics["train/entropy/negative"] == pytest.approx((0.6 + 0.7 + 0.2) / 3)
    assert metrics["train/gradient_mass/rows_frac"] == 2 / 8
    assert metrics["train/gradient_mass/tokens_frac"] == pytest.approx(4 / 12)
    # Σ|A| / length: 4/2 and 3/3.
    assert metrics["train/gradient_mass/effective_rows"] == pytest.approx((2 + 1) ** 2 / (4 + 1))


def test_pairs():
    """Row 3 (tokens 6, 7, 2) is rejected twice, for rows 0 (4, 2) and 2 (5): two pairs, three rows, 6 tokens of 12."""
    metrics = pair_gradient_mass_metrics(with_entropies(), [(0, 3), (2, 3)])
    assert signal(metrics) == {"rows_frac": 3 / 8, "tokens_kept_frac": 0.5, "tokens_frac": 0.5, "effective_rows": 2}
    assert metrics["train/entropy/positive"] == pytest.approx((0.4 + 0.2 + 0.5) / 3)
    assert metrics["train/entropy/negative"] == pytest.approx((0.6 + 0.7 + 0.2) / 3)
    assert signal(pair_gradient_mass_metrics(with_entropies(), [])) == dict.fromkeys(
        ("rows_frac", "tokens_kept_frac", "tokens_frac", "effective_rows"), 0
    )
