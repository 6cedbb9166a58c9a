"""Lightning's step on an optimiser batch equals the step computed by hand, for all modules and micro-batch sizes.

The optimiser is SGD, whose step is proportional to the gradient. AdamW would divide out a wrong factor.
"""

import copy
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import SGD

from learning import float64_policy, gradient, made_up_rows, quiet_trainer
from winnow.experience.batching import Experience, Plan, TokenBudget
from winnow.models.attention import is_packed
from winnow.models.policy import Critic, Policy
from winnow.objectives import KL, PolicyObjective, PreferenceObjective, ValueObjective
from winnow.ops import clip, kl, preference, ratio
from winnow.ops.aggregate import sequence_mean
from winnow.training import modules
from winnow.training.modules import (
    ActorCriticModule,
    IterationModule,
    OptimizerSettings,
    PolicyGradientModule,
    PreferenceModule,
)
from winnow.types import MicroBatch, Pair, PairBatch, Row

CLOSE = {"rtol": 0, "atol": 1e-9}
BUDGETS = [10_000, 25, 1]
"""Token budgets with which the seven rows are in one micro-batch, in twos or threes, and one by one."""
CLIPS = [0.0, 0.01, 100.0]
"""Gradient clipping that is off, far below every norm here, and above all of them."""
LR, CRITIC_LR = 0.5, 0.125
OBJECTIVE = PolicyObjective(ratio.token, partial(clip.ppo, low=0.2, high=0.2), KL(kl.k3, coef=0.1), 0.01)
VALUE = ValueObjective(clip=0.5)
PREFERENCE = PreferenceObjective(preference.sigmoid, preference.reverse_kl, beta=0.3, smoothing=0.1)
ROWS = made_up_rows([1.0, -1.0, 0.5, 0.0, -0.25, 2.0, 1.0])
PAIRS = [
    Pair(replace(a, advantage=None), replace(b, advantage=None)) for a, b in itertools.pairwise(made_up_rows([0.0] * 5))
]


@pytest.fixture(autouse=True)
def sgd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modules, "AdamW", SGD)


@pytest.fixture(params=["packed", "padded"])
def policy(request: pytest.FixtureRequest) -> Policy:
    return float64_policy(packed=request.param == "packed")


@pytest.fixture
def critic(policy: Policy) -> Critic:
    """A critic whose head is not zero, so that its backbone has a gradient."""
    critic = Critic(policy.model).double()
    nn.init.normal_(critic.head.weight, std=0.1)
    return critic


def settings(grad_clip: float) -> OptimizerSettings:
    return OptimizerSettings(
        LR, (0.9, 0.95), 1e-8, weight_decay=0.0, grad_clip=grad_clip, warmup=0, schedule="constant"
    )


def planned(token_budget: int, packed: bool) -> Plan:
    return Plan(minibatches=1, epochs=1, budget=TokenBudget(token_budget, packed), aggregate=sequence_mean, seed=0)


@dataclass
class Loader:
    """An iterable without a length, like the real loader."""

    plan: Plan
    items: list[Row] | list[Pair]
    dealt: list[list[int]]

    def __iter__(self) -> Iterator[MicroBatch | PairBatch]:
        experience = Experience(items=self.items, zero_gradient=[False] * len(self.items))
        yield from self.plan.micro_batches(experience, self.dealt)


class Settings(pl.Callback):
    """Sets the optimiser, as the bookkeeping of a run does."""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, IterationModule)
        pl_module.set_optimiser(trainer.optimizers[0], factor=1.0)


def train(
    module: IterationModule, items: list[Row] | list[Pair], token_budget: int, dealt: list[list[int]] | None = None
) -> None:
    """One iteration; without `dealt` all items are one optimiser batch."""
    dealt = [list(range(len(items)))] if dealt is None else dealt
    trainer = quiet_trainer(Settings())
    trainer.fit(module, Loader(planned(token_budget, is_packed(module.policy.model)), items, dealt))
    assert trainer.global_step == len(dealt)


def flat(part: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in part.parameters()])


def clipped(slope: Tensor, limit: float) -> Tensor:
    """`slope` clipped to norm `limit`, with the 1e-6 that torch adds to the norm."""
    return slope if limit == 0 else slope * min(1.0, limit / (float(slope.norm()) + 1e-6))


def critic_gradient(critic: Critic, rows: Sequence[Row]) -> Tensor:
    [batch] = Loader(planned(10_000, packed=True), list(rows), [list(range(len(rows)))])
    assert isinstance(batch, MicroBatch)
    critic.zero_grad()
    VALUE(critic(batch.rows), batch.terms).value.backward()
    return torch.cat([p.grad.flatten() for p in critic.parameters() if p.grad is not None])


@pytest.mark.parametrize("grad_clip", CLIPS)
@pytest.mark.parametrize("token_budget", BUDGETS)
def test_policy_gradient_takes_one_step(policy: Policy, token_budget: int, grad_clip: float):
    slope = gradient(copy.deepcopy(policy), OBJECTIVE, ROWS)
    assert 0.01 < slope.norm() < 100
    expected = flat(policy) - LR * clipped(slope, grad_clip)
    module = PolicyGradientModule(policy, settings(grad_clip), OBJECTIVE)
    train(module, ROWS, token_budget)
    torch.testing.assert_close(flat(policy), expected, **CLOSE)
    # The metric is the norm before clipping.
    assert module.take_metrics()["train/grad_norm"] == pytest.approx(float(slope.norm()))


@pytest.mark.parametrize("token_budget", BUDGETS)
def test_two_optimiser_batches_of_unequal_size_take_two_steps(policy: Policy, token_budget: int):
    """Cut row by row, the smaller batch gets a filler row of weight zero."""
    dealt = [[0, 3, 5, 6], [4, 1, 2]]
    by_hand = copy.deepcopy(policy)
    for batch in dealt:
        slope = gradient(by_hand, OBJECTIVE, [ROWS[i] for i in batch])
        nn.utils.vector_to_parameters(flat(by_hand) - LR * slope, by_hand.parameters())
    train(PolicyGradientModule(policy, settings(0.0), OBJECTIVE), ROWS, token_budget, dealt)
    torch.testing.assert_close(flat(policy), flat(by_hand), **CLOSE)


@pytest.mark.parametrize("grad_clip", CLIPS)
@pytest.mark.parametrize("token_budget", [10_000, 50, 1])
def test_preference_takes_one_step(policy: Policy, token_budget: int, grad_clip: float):
    slope = gradient(copy.deepcopy(policy), PREFERENCE, PAIRS)
    assert 0.01 < slope.norm() < 100
    expected = flat(policy) - LR * clipped(slope, grad_clip)
    train(PreferenceModule(policy, settings(grad_clip), PREFERENCE), PAIRS, token_budget)
    torch.testing.assert_close(flat(policy), expected, **CLOSE)


@pytest.mark.parametrize("grad_clip", CLIPS)
@pytest.mark.parametrize("token_budget", BUDGETS)
def test_actor_and_critic_take_a_step_each(policy: Policy, critic: Critic, token_budget: int, grad_clip: float):
    """Each at its own learning rate, each clipped by its own norm."""
    of_policy = gradient(copy.deepcopy(policy), OBJECTIVE, ROWS)
    of_critic = critic_gradient(copy.deepcopy(critic), ROWS)
    assert 0.01 < of_policy.norm() < 100
    assert 0.01 < of_critic.norm() < 100
    expected_policy = flat(policy) - LR * clipped(of_policy, grad_clip)
    expected_critic = flat(critic) - CRITIC_LR * clipped(of_critic, grad_clip)
    module = ActorCriticModule(policy, critic, settings(grad_clip), CRITIC_LR, OBJECTIVE, VALUE)
    train(module, ROWS, token_budget)
    torch.testing.assert_close(flat(policy), expected_policy, **CLOSE)
    torch.testing.assert_close(flat(critic), expected_critic, **CLOSE)


def test_metrics_do_not_depend_on_micro_batches(policy: Policy, critic: Critic):
    found = []
    for token_budget in BUDGETS:
        parts = copy.deepcopy(policy), copy.deepcopy(critic)
        module = ActorCriticModule(*parts, settings(0.0), CRITIC_LR, OBJECTIVE, VALUE)
        train(module, ROWS, token_budget)
        found.append(module.take_metrics())
        assert module.take_metrics() == {}
    for metrics in found:
        assert metrics == pytest.approx(found[0], rel=0, abs=1e-9)
        assert metrics["train/loss/value"] > 0.1
        kl_and_entropy = metrics["train/loss/total"] - metrics["train/loss/policy"] - metrics["train/loss/value"]
        # 0.01 · at most log 20 for the entropy
        assert -0.03 < kl_and_entropy - 0.1 * metrics["train/loss/kl"] < 0
