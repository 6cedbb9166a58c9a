"""How much of what was sampled moves the policy, and which way."""

from collections.abc import Collection, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from winnow.experience.scorer import ByRow
from winnow.objectives import Aggregate
from winnow.types import Rollouts


def signal_metrics(
    rollouts: Rollouts,
    selected: Bool[Tensor, "p g"],
    advantages: ByRow,
    aggregate: Aggregate,
    moves_without_advantage: bool,
) -> dict[str, float]:
    """Figures over all sampled rows, of which `advantages` holds those in the batch.

    A row weighs what its tokens' gradient coefficients come to at ratio 1, Σ_t |A_t| times the aggregation's weight of a
    token. Its sign is that of its mean advantage: every token's own, but for an actor-critic.
    """
    lengths = _lengths(rollouts)
    mean, mass = torch.zeros(2, len(lengths), dtype=torch.float64)
    tokens = torch.zeros_like(lengths)
    rows = list(advantages)
    if rows:
        stacked = pad_sequence([advantages[i] for i in rows], batch_first=True)
        per_token, _ = aggregate(lengths[rows])
        mean[rows] = stacked.sum(1, dtype=torch.float64) / lengths[rows]
        mass[rows] = stacked.abs().sum(1, dtype=torch.float64) * per_token
        tokens[rows] = (stacked != 0).sum(1)
    moving = rows if moves_without_advantage else tokens.nonzero()
    return {
        "train/signal/rows_frac": len(moving) / len(lengths),
        "train/signal/tokens_kept_frac": int(lengths[selected.flatten()].sum()) / int(lengths.sum()),
        "train/signal/tokens_frac": int(tokens.sum()) / int(lengths.sum()),
        "train/signal/effective_rows": effective_size(mass),
        **_entropies(rollouts, _places(mean > 0), _places(mean < 0)),
    }


def pair_signal_metrics(rollouts: Rollouts, pairs: Sequence[tuple[int, int]]) -> dict[str, float]:
    """The same of preference pairs (chosen, rejected), named by row: they weigh alike, and the chosen rows are the positive."""
    lengths = _lengths(rollouts)
    chosen, rejected = ({pair[side] for pair in pairs} for side in (0, 1))
    paired = sorted(chosen | rejected)
    tokens = int(lengths[paired].sum()) / int(lengths.sum())
    return {
        "train/signal/rows_frac": len(paired) / len(lengths),
        "train/signal/tokens_kept_frac": tokens,
        "train/signal/tokens_frac": tokens,
        "train/signal/effective_rows": float(len(pairs)),
        **_entropies(rollouts, chosen, rejected),
    }


def effective_size(weights: Float[Tensor, " n"]) -> float:
    """(Σ|w|)² / Σw² (Kish 1965): how many of equal weight would be worth as much; 0 without any weight."""
    squares = float(weights.square().sum())
    return float(weights.abs().sum()) ** 2 / squares if squares > 0 else 0.0


def _lengths(rollouts: Rollouts) -> Tensor:
    return torch.tensor([len(c.token_ids) for group in rollouts.completions for c in group])


def _places(where: Bool[Tensor, " n"]) -> list[int]:
    return where.nonzero().flatten().tolist()


def _entropies(rollouts: Rollouts, positive: Collection[int], negative: Collection[int]) -> dict[str, float]:
    """The sampler's, over the tokens of either side; nothing of a side without rows."""
    completions = [c for group in rollouts.completions for c in group]
    return {
        f"train/entropy/{sign}": float(torch.cat([completions[i].entropies for i in sorted(rows)]).mean())
        for sign, rows in (("positive", positive), ("negative", negative))
        if rows
    }
