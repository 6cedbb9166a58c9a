"""What the invariant tests share: made-up experience, and the gradient of one optimiser batch."""

from collections.abc import Sequence

import pytorch_lightning as pl
import torch
from torch import Tensor

from winnow.experience.experience import Experience
from winnow.experience.plan import Plan
from winnow.models.policy import Policy
from winnow.objectives import Aggregate, PolicyObjective, PreferenceObjective
from winnow.ops.aggregate import sequence_mean
from winnow.rng import uniforms
from winnow.types import Batch, Pair, PairBatch, Row

PROMPT = (3, 4, 5)


def made_up_rows(advantages: Sequence[float], seed: int = 0) -> list[Row]:
    """Rows of 1 to 3 prompt tokens and 2 to 7 of response; old log-probabilities near the policy's, references further."""
    rows = []
    for i, advantage in enumerate(advantages):
        noise = torch.tensor(uniforms(1000 * seed + i, 40))
        length = 2 + int(noise[0] * 6)
        prompt = PROMPT[: 1 + i % 3]
        ids = tuple(int(x * 18) for x in noise[1 : 1 + length])
        per_token = torch.zeros(len(prompt) + length, dtype=torch.float64)
        per_token[len(prompt) :] = 1
        old = per_token * torch.nn.functional.pad(-2.5 - noise[10 : 10 + length], (len(prompt), 0))
        ref = per_token * torch.nn.functional.pad(-2.5 - noise[20 : 20 + length], (len(prompt), 0))
        rows.append(Row(prompt + ids, len(prompt), per_token * advantage, old, ref, values=old, returns=ref))
    return rows


def gradient(
    policy: Policy,
    objective: PolicyObjective | PreferenceObjective,
    items: Sequence[Row] | Sequence[Pair],
    aggregate: Aggregate = sequence_mean,
    token_budget: int = 10_000,
) -> Tensor:
    """Of one optimiser batch holding all `items`, cut to `token_budget`."""
    plan = Plan(minibatches=1, epochs=1, token_budget=token_budget, aggregate=aggregate, seed=0, pad_id=0)
    experience = Experience(items=list(items), inert=[False] * len(items))  # pyright: ignore[reportArgumentType]
    policy.zero_grad()
    for batch in plan.micro_batches(experience, [list(range(len(items)))]):
        loss_of(policy, objective, batch).backward()
    return torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None])


def loss_of(policy: Policy, objective: PolicyObjective | PreferenceObjective, batch: Batch | PairBatch) -> Tensor:
    if isinstance(objective, PreferenceObjective):
        assert isinstance(batch, PairBatch)
        chosen = policy(batch.chosen.tokens, batch.chosen.start).logprobs
        rejected = policy(batch.rejected.tokens, batch.rejected.start).logprobs
        return objective(chosen, rejected, batch).value
    assert isinstance(batch, Batch)
    scores = policy(batch.tokens, batch.start, entropies=True)
    return objective(scores.logprobs, scores.entropies, batch).value


def quiet_trainer(*callbacks: pl.Callback) -> pl.Trainer:
    """One epoch on the CPU, nothing printed and nothing written."""
    return pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
    )
