"""Made-up rows, a small float64 policy and the gradient of one optimiser batch, for several test modules."""

from collections.abc import Sequence
from dataclasses import replace

import pytorch_lightning as pl
import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from winnow.experience.batching import Experience, Plan, TokenBudget
from winnow.models.attention import is_packed
from winnow.models.backbone import pack_where_exact
from winnow.models.policy import Policy
from winnow.objectives import Aggregate, PolicyObjective, PreferenceObjective
from winnow.ops.aggregate import sequence_mean
from winnow.packed import Packed, pack
from winnow.rng import uniforms
from winnow.types import MicroBatch, Pair, PairBatch, Row

PROMPT = (3, 4, 5)


def float64_policy(packed: bool) -> Policy:
    """A tiny GPT-2, float64 throughout. In Qwen2, norm and rotary tables are float32 inside, an error of 1e-8."""
    config = GPT2Config(vocab_size=20, n_positions=32, n_embd=16, n_layer=2, n_head=2)
    torch.manual_seed(0)
    model = GPT2LMHeadModel(config).double().eval()
    if packed:
        pack_where_exact(model)
        assert is_packed(model)
    return Policy(model, temperature=1.0)


def made_up_rows(advantages: Sequence[float], seed: int = 0) -> list[Row]:
    """Rows with prompts of 1 to 3 and responses of 2 to 7 tokens; old log-probabilities are close to the policy's."""
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
        row = Row(prompt + ids, len(prompt), per_token * advantage, old, ref, values=old, returns=ref)
        rows.append(replace(row, sampler_logprobs=(old + ref) / 2))
    return rows


def rows_of(tokens: Tensor, prompt_length: int) -> Packed:
    """(B, S) tokens, packed as rows of one length whose prompts have `prompt_length` tokens."""
    return pack([Row(tuple(ids), prompt_length) for ids in tokens.tolist()])


def gradient(
    policy: Policy,
    objective: PolicyObjective | PreferenceObjective,
    items: Sequence[Row] | Sequence[Pair],
    aggregate: Aggregate = sequence_mean,
    token_budget: int = 10_000,
    zero_gradient: Sequence[bool] | None = None,
) -> Tensor:
    """The gradient of one optimiser batch of all `items`, cut to `token_budget`, without the `zero_gradient` ones."""
    budget = TokenBudget(token_budget, is_packed(policy.model))
    plan = Plan(minibatches=1, epochs=1, budget=budget, aggregate=aggregate, seed=0)
    zero_gradient = [False] * len(items) if zero_gradient is None else list(zero_gradient)
    experience = Experience(items=list(items), zero_gradient=zero_gradient)  # pyright: ignore[reportArgumentType]
    policy.zero_grad()
    for batch in plan.micro_batches(experience, [list(range(len(items)))]):
        loss_of(policy, objective, batch).backward()
    return torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None])


def loss_of(policy: Policy, objective: PolicyObjective | PreferenceObjective, batch: MicroBatch | PairBatch) -> Tensor:
    if isinstance(objective, PreferenceObjective):
        assert isinstance(batch, PairBatch)
        chosen, rejected = policy(batch.rows).logprobs.chunk(2)
        return objective(chosen, rejected, batch).value
    assert isinstance(batch, MicroBatch)
    scores = policy(batch.rows, entropies=True)
    return objective(scores.logprobs, scores.entropies, batch.terms).value


def quiet_trainer(*callbacks: pl.Callback) -> pl.Trainer:
    """A Lightning trainer for one epoch on the CPU that prints and writes nothing."""
    return pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
    )
