"""Metrics of gradient mass: the rows and tokens that have a gradient, and the effective number of rows.

The first prompt has three right answers of 2, 2 and 1 tokens and a wrong one of 3, the second four wrong ones of 1
token. Under GRPO the first prompt's advantages are ½, ½, ½ and −3/2 over the standard deviation, which cancels in an
effective size.
"""

from dataclasses import replace

import pytest
import torch
from test_policy_gradient import GRPO, algorithm

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


def metrics_of(algorithm: PolicyGradient, *asked: Asked) -> dict[str, float]:
    return PolicyGradientExperience(HandMade(asked or ASKED), spied().scorer, algorithm, 4)(0, Clock()).metrics


def gradient_mass(metrics: dict[str, float]) -> dict[str, float]:
    prefix = "train/gradient_mass/"
    return {key.removeprefix(prefix): x for key, x in metrics.items() if key.startswith(prefix)}


def with_entropies() -> Rollouts:
    """Rollouts in which the entropy at token t is t/10 nats."""
    drawn = rollouts(ASKED)
    groups = (tuple(replace(c, entropies=torch.tensor(c.token_ids) / 10) for c in group) for group in drawn.completions)
    return replace(drawn, completions=tuple(groups))


def test_effective_sample_size():
    """2.5² / (1 + 1 + ¼). Signs do not matter, and n equal weights count n."""
    assert effective_sample_size(torch.tensor([1.0, 1.0, 0.5])) == pytest.approx(6.25 / 2.25)
    assert effective_sample_size(torch.tensor([-1.0, 1.0, 0.5, 0.0])) == pytest.approx(6.25 / 2.25)
    assert effective_sample_size(torch.full((7,), 0.3)) == pytest.approx(7)
    assert effective_sample_size(torch.zeros(3)) == 0


def test_gradient_mass_of_grpo():
    """Four rows of eight and 8 tokens of 12 have an advantage; (½ + ½ + ½ + 3/2)² / (3 · ¼ + 9/4) = 3."""
    metrics = metrics_of(algorithm(**GRPO))
    assert gradient_mass(metrics) == pytest.approx(
        {"rows_frac": 1 / 2, "tokens_kept_frac": 1, "tokens_frac": 8 / 12, "effective_rows": 3}
    )
    assert metrics["train/groups/frac_mixed"] == 1 / 2


def test_under_a_token_mean_the_mass_of_a_row_grows_with_its_length():
    """(½·2 + ½·2 + ½·1 + 3/2·3)² / (1 + 1 + ¼ + 81/4)"""
    metrics = metrics_of(algorithm(**GRPO, aggregate=aggregate.token_mean))
    assert metrics["train/gradient_mass/effective_rows"] == pytest.approx(49 / 22.5)


@pytest.mark.parametrize("rejected", ["drop", "zero"])
def test_raftpp_has_a_gradient_on_correct_rows_whether_others_are_dropped_or_zeroed(rejected: str):
    metrics = metrics_of(algorithm(rejected=rejected))
    assert gradient_mass(metrics) == {
        "rows_frac": 3 / 8,
        "tokens_kept_frac": 5 / 12,
        "tokens_frac": 5 / 12,
        "effective_rows": 3,
    }
    assert metrics["train/entropy/positive"] == 1
    assert "train/entropy/negative" not in metrics


def test_a_kl_term_gives_rows_without_an_advantage_a_gradient():
    metrics = metrics_of(algorithm(**GRPO, kl=KL(kl.k3, coef=0.1)))
    assert gradient_mass(metrics) == pytest.approx(
        {"rows_frac": 1, "tokens_kept_frac": 1, "tokens_frac": 8 / 12, "effective_rows": 3}
    )


@pytest.mark.parametrize("changed", [{}, GRPO], ids=["raftpp", "grpo"])
def test_where_no_answer_is_right_there_is_no_gradient_mass(changed: dict):
    metrics = metrics_of(algorithm(**changed), NONE_OF_FOUR)
    assert gradient_mass(metrics) | {"tokens_kept_frac": 0} == {
        "rows_frac": 0,
        "tokens_kept_frac": 0,
        "tokens_frac": 0,
        "effective_rows": 0,
    }
    assert metrics["train/groups/frac_mixed"] == 0
    assert not {"train/entropy/positive", "train/entropy/negative"} & set(metrics)


def test_entropy_by_the_sign_of_a_rows_mean_advantage():
    """Row 0 (tokens 4, 2) has 3 − 1 and is positive, row 3 (6, 7, 2) 1 − 2 + 0 and is negative, row 2 (5) neither."""
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


def test_gradient_mass_of_pairs():
    """Row 3 (tokens 6, 7, 2) is rejected twice, for rows 0 (4, 2) and 2 (5): two pairs, three rows, 6 tokens of 12."""
    metrics = pair_gradient_mass_metrics(with_entropies(), [(0, 3), (2, 3)])
    assert gradient_mass(metrics) == {
        "rows_frac": 3 / 8,
        "tokens_kept_frac": 0.5,
        "tokens_frac": 0.5,
        "effective_rows": 2,
    }
    assert metrics["train/entropy/positive"] == pytest.approx((0.4 + 0.2 + 0.5) / 3)
    assert metrics["train/entropy/negative"] == pytest.approx((0.6 + 0.7 + 0.2) / 3)
    assert gradient_mass(pair_gradient_mass_metrics(with_entropies(), [])) == dict.fromkeys(
        ("rows_frac", "tokens_kept_frac", "tokens_frac", "effective_rows"), 0
    )
