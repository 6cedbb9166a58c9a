"""Updates that are skipped, because their gradient is zero or not finite."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from learning import float64_policy, made_up_rows, quiet_trainer
from winnow.errors import Diverged
from winnow.experience.batching import Experience, Plan, TokenBudget
from winnow.models.language_model import LanguageModel
from winnow.models.policy import Critic, Policy
from winnow.objectives import PolicyObjective, ValueObjective
from winnow.ops import clip, ratio
from winnow.ops.aggregate import sequence_mean
from winnow.training.modules import ActorCriticModule, IterationModule, OptimizerSettings, PolicyGradientModule
from winnow.types import MicroBatch, PairBatch, Row

OPTIM = OptimizerSettings(0.01, (0.9, 0.95), 1e-8, weight_decay=0.1, grad_clip=1.0, warmup=0, schedule="constant")
OBJECTIVE = PolicyObjective(ratio.log_probability, clip.unclipped, None, 0.0)
SKIPPED = "train/updates_skipped_nonfinite"


def good(advantage: float = 1.0) -> Row:
    return made_up_rows([advantage])[0]


def bad(advantage: float = math.nan) -> Row:
    """A row whose last token has the given advantage."""
    row = good()
    assert row.advantage is not None
    spoilt = row.advantage.clone()
    spoilt[-1] = advantage
    return replace(row, advantage=spoilt)


def weights(part: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in part.parameters()]


def same(left: Sequence[Tensor], right: Sequence[Tensor]) -> bool:
    """Whether all tensors are bit-identical."""
    return len(left) == len(right) and all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


@dataclass(frozen=True)
class Snapshot:
    """The weights and AdamW state of one parameter group."""

    weights: list[Tensor]
    state: list[Tensor]

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, Snapshot)
        return same(self.weights, other.weights) and same(self.state, other.state)


@dataclass
class Recorder(pl.Callback):
    """Snapshots `after[optimiser batch][parameter group]`; each optimiser batch here is one micro-batch."""

    after: list[list[Snapshot]] = field(default_factory=list)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, IterationModule)
        pl_module.set_optimiser(trainer.optimizers[0], factor=1.0)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: object) -> None:
        [optimizer] = trainer.optimizers
        self.after.append(
            [
                Snapshot(
                    [p.detach().clone() for p in group["params"]],
                    [value.clone() for p in group["params"] for value in optimizer.state[p].values()],
                )
                for group in optimizer.param_groups
            ]
        )


@dataclass
class Loader:
    batches: list[list[Row]]
    token_budget: int

    def __iter__(self) -> Iterator[MicroBatch | PairBatch]:
        plan = Plan(1, 1, TokenBudget(self.token_budget, packed=True), sequence_mean, seed=0)
        for rows in self.batches:
            experience = Experience(items=rows, zero_gradient=[False] * len(rows))
            yield from plan.micro_batches(experience, [list(range(len(rows)))])


def train(module: IterationModule, batches: list[list[Row]], token_budget: int = 10_000) -> list[list[Snapshot]]:
    recorder = Recorder()
    trainer = quiet_trainer(recorder)
    trainer.fit(module, Loader(batches, token_budget))
    return recorder.after


@pytest.fixture
def policy(small: LanguageModel) -> Policy:
    return Policy(small.model, temperature=1.0)


@pytest.fixture
def module(policy: Policy) -> PolicyGradientModule:
    return PolicyGradientModule(policy, OPTIM, OBJECTIVE)


@pytest.fixture
def actor_critic(policy: Policy) -> ActorCriticModule:
    critic = Critic(policy.model).double()
    return ActorCriticModule(policy, critic, OPTIM, 0.02, OBJECTIVE, ValueObjective(0.5))


@pytest.mark.parametrize("advantage", [math.nan, math.inf, -math.inf, 1e200])
def test_an_update_with_a_gradient_that_is_not_finite_changes_nothing(module: PolicyGradientModule, advantage: float):
    """With 1e200 the loss is finite, but the square in the gradient norm is not."""
    [[first], [second], [third]] = train(module, [[good()], [bad(advantage)], [good()]])
    assert len(first.state) == 3 * len(first.weights)
    assert second == first
    assert not same(third.weights, second.weights)
    assert not same(third.state, second.state)
    metrics = module.take_metrics()
    assert metrics[SKIPPED] == 1
    assert math.isfinite(metrics["train/grad_norm"])


def test_skipped_updates_are_counted_not_averaged(module: PolicyGradientModule):
    train(module, [[bad()], [good()], [bad()], [bad()]])
    assert module.take_metrics()[SKIPPED] == 3


@pytest.mark.parametrize("token_budget", [1, 10_000])
def test_an_update_with_a_bad_row_is_that_of_its_other_rows(token_budget: int):
    """In one micro-batch with the others or in one of its own: the mean is over the two rows that are left.

    The moments are compared, which after one step are a tenth of the gradient and a twentieth of its square; weights
    move by the learning rate whatever the gradient's size.
    """
    rows, optim = made_up_rows([1.0, -0.5]), replace(OPTIM, grad_clip=0.0)
    module, other = (PolicyGradientModule(float64_policy(packed=True), optim, OBJECTIVE) for _ in range(2))
    [found] = train(module, [[rows[0], bad(), rows[1]]], token_budget)[-1]
    [expected] = train(other, [rows], token_budget)[-1]
    counted = module.take_metrics()
    for a, b in zip(found.state, expected.state, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-14)
    assert counted["train/nonfinite/rows"] == 1
    assert SKIPPED not in counted


def test_a_weight_that_is_not_finite_ends_the_run(module: PolicyGradientModule):
    with torch.no_grad():
        next(module.policy.parameters()).view(-1)[0] = math.inf
    with pytest.raises(Diverged, match="weight policy"):
        train(module, [[good()]])


def test_a_critic_gradient_that_is_not_finite_skips_the_policy_too(actor_critic: ActorCriticModule):
    row = good()
    assert row.returns is not None
    spoilt = replace(row, returns=row.returns * torch.inf)
    first, second = train(actor_critic, [[row], [spoilt]])
    assert second == first
    assert actor_critic.take_metrics()[SKIPPED] == 1


def test_five_skipped_updates_in_a_row_end_the_run(module: PolicyGradientModule):
    with pytest.raises(Diverged, match="5 updates in a row"):
        train(module, [[bad()]] * 5)
    assert module.take_metrics()[SKIPPED] == 5


def test_four_skipped_updates_and_a_good_one_do_not(module: PolicyGradientModule):
    four = [[bad()]] * 4
    snapshots = train(module, [*four, [good()], *four])
    assert len(snapshots) == 9
    assert module.take_metrics()[SKIPPED] == 8


def test_skipped_updates_before_a_checkpoint_count(module: PolicyGradientModule, policy: Policy):
    train(module, [[bad()]] * 4)
    checkpoint = {"state_dict": {}}
    module.on_save_checkpoint(checkpoint)
    resumed = PolicyGradientModule(policy, OPTIM, OBJECTIVE)
    resumed.on_load_checkpoint(checkpoint)
    with pytest.raises(Diverged):
        train(resumed, [[bad()]])


def test_a_parameter_group_without_a_gradient_is_not_moved(actor_critic: ActorCriticModule):
    """With advantages of zero neither momentum nor weight decay moves the policy; the critic continues to train."""
    start = weights(actor_critic.policy)
    first, second, third = train(actor_critic, [[good()], [good(advantage=0.0)], [good()]])
    assert not same(first[0].weights, start)
    assert len(first[0].state) == 3 * len(start)
    assert second[0] == first[0]
    assert not same(second[1].weights, first[1].weights)
    assert not same(third[0].weights, second[0].weights)
    assert SKIPPED not in actor_critic.take_metrics()
