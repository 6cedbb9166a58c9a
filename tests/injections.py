"""Numbers that are not finite, put into whole runs at one place of the computation."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from unittest import mock

import torch
from torch import Tensor
from torch.optim import Optimizer

from winnow.algorithm import ActorCritic, PolicyGradient
from winnow.experience.collect import Collector
from winnow.experience.metrics import Clock
from winnow.experience.scoring import ByRow, Scorer
from winnow.guards.non_finite import NonFiniteGuard
from winnow.models.policy import Critic, Policy, Scores
from winnow.packed import Packed
from winnow.training.modules import ActorCriticModule, Computed, PolicyGradientModule, PreferenceModule
from winnow.types import MicroBatch, PairBatch, Rollouts, Row

WORDS = {
    "grpo": ("algo=grpo", "algo/kl=k3", "algo.entropy=0.001"),
    "ppo": ("algo=ppo", "algo/kl=k3", "algo.entropy=0.001"),
    "dpo": ("algo=dpo",),
}
"""Settings under which an algorithm computes all the numbers that it can."""
SITES = {
    "grpo": ("sampler", "sampler_entropy", "reward", "reference", "advantage", "logprob", "entropy", "loss"),
    "ppo": ("sampler", "sampler_entropy", "reward", "reference", "advantage", "logprob", "entropy", "value", "loss"),
    "dpo": ("sampler", "sampler_entropy", "reward", "reference", "logprob", "loss"),
}
"""The places before the backward pass at which each algorithm has a number."""
STATE = ("gradient", "moment", "weight")


@dataclass
class Injection:
    """`value` at `site` of a run of `algo`, from iteration `start` on (from 0), in so many calls as `times` says."""

    algo: str
    site: str
    value: float = math.nan
    times: float = 1
    start: int = 1
    iteration: int = field(default=-1, init=False)
    done: int = field(default=0, init=False)

    def due(self) -> bool:
        if self.iteration < self.start or self.done >= self.times:
            return False
        self.done += 1
        return True

    @contextmanager
    def __call__(self) -> Iterator["Injection"]:
        spoilt = {"value": "value_"}.get(self.site, self.site)
        with mock.patch.object(Collector, "collect", self._collect(Collector.collect)), getattr(self, spoilt)():
            yield self

    def _collect(self, collect: Callable[..., Rollouts]) -> Callable[..., Rollouts]:
        def spoilt(collector: Collector, iteration: int, clock: Clock) -> Rollouts:
            self.iteration = iteration
            found = collect(collector, iteration, clock)
            if self.site in ("sampler", "sampler_entropy", "reward") and self.due():
                return self._rollouts(found)
            return found

        return spoilt

    def _rollouts(self, found: Rollouts) -> Rollouts:
        """`found` with the value in sample 1 of prompt 0."""
        if self.site == "reward":
            rewards = found.rewards.clone()
            rewards[0, 1] = self.value
            return replace(found, rewards=rewards)
        name = {"sampler": "logprobs", "sampler_entropy": "entropies"}[self.site]
        first = list(found.completions[0])
        first[1] = replace(first[1], **{name: self._at_end(getattr(first[1], name))})
        return replace(found, completions=(tuple(first), *found.completions[1:]))

    def _at_end(self, numbers: Tensor) -> Tensor:
        spoilt = numbers.clone()
        spoilt[-1] = self.value
        return spoilt

    @contextmanager
    def sampler(self) -> Iterator[None]:
        yield

    sampler_entropy = reward = sampler

    @contextmanager
    def reference(self) -> Iterator[None]:
        original = Scorer._kept_scores

        def scores(scorer: Scorer, sequences: Sequence[Row], rows: Sequence[int]) -> ByRow:
            found = dict(original(scorer, sequences, rows))
            if found and self.due():
                first = min(found)
                found[first] = self._at_end(found[first])
            return found

        with mock.patch.object(Scorer, "_kept_scores", scores):
            yield

    @contextmanager
    def advantage(self) -> Iterator[None]:
        plain, per_token = PolicyGradient.advantages, ActorCritic.per_token

        def advantages(algorithm: PolicyGradient, *given: Tensor) -> Tensor:
            found = plain(algorithm, *given).clone()
            # Not in the call that asks which rows will move, without a penalty.
            if self.due():
                found[0, 1] = self.value
            return found

        def gae(algorithm: ActorCritic, rewards: Tensor, *given: Tensor) -> tuple[Tensor, Tensor]:
            found, returns = per_token(algorithm, rewards, *given)
            if self.due():
                found = found.clone()
                found[1, -1] = self.value
                found[1] = torch.where(given[-1][1], self.value, found[1])
            return found, returns

        with (
            mock.patch.object(PolicyGradient, "advantages", advantages),
            mock.patch.object(ActorCritic, "per_token", gae),
        ):
            yield

    @contextmanager
    def logprob(self) -> Iterator[None]:
        with self._policy(lambda scores: scores._replace(logprobs=self._first(scores.logprobs))):
            yield

    @contextmanager
    def entropy(self) -> Iterator[None]:
        with self._policy(lambda scores: scores._replace(entropies=self._first(scores.entropies))):
            yield

    def _first(self, matrix: Tensor | None) -> Tensor:
        """`matrix` with the value at the first response token of its first row."""
        assert matrix is not None
        place = torch.zeros_like(matrix)
        place[0, int(matrix[0].detach().nonzero()[0])] = 1.0
        return torch.where(place > 0, matrix * self.value, matrix)

    @contextmanager
    def _policy(self, change: Callable[[Scores], Scores]) -> Iterator[None]:
        original = Policy.forward

        def forward(policy: Policy, rows: Packed, entropies: bool = False) -> Scores:
            found = original(policy, rows, entropies)
            return change(found) if torch.is_grad_enabled() and self.due() else found

        with mock.patch.object(Policy, "forward", forward):
            yield

    @contextmanager
    def value_(self) -> Iterator[None]:
        original = Critic.forward

        def forward(critic: Critic, rows: Packed) -> Tensor:
            found = original(critic, rows)
            return self._first(found) if torch.is_grad_enabled() and self.due() else found

        with mock.patch.object(Critic, "forward", forward):
            yield

    @contextmanager
    def loss(self) -> Iterator[None]:
        def wrapped(original: Callable[..., Computed]) -> Callable[..., Computed]:
            def compute(module: PolicyGradientModule, batch: MicroBatch | PairBatch) -> Computed:
                found = original(module, batch)
                if not torch.is_grad_enabled() or not self.due():
                    return found
                parts = self._at_end(found.loss.parts)
                return replace(found, loss=replace(found.loss, value=found.loss.value * self.value, parts=parts))

            return compute

        kind = {"grpo": PolicyGradientModule, "ppo": ActorCriticModule, "dpo": PreferenceModule}[self.algo]
        with mock.patch.object(kind, "compute", wrapped(kind.compute)):
            yield

    @contextmanager
    def gradient(self) -> Iterator[None]:
        def spoil(parameter: Tensor, optimizer: Optimizer) -> None:
            assert parameter.grad is not None
            parameter.grad.view(-1)[0] = self.value

        with self._before_step(spoil):
            yield

    @contextmanager
    def moment(self) -> Iterator[None]:
        def spoil(parameter: Tensor, optimizer: Optimizer) -> None:
            optimizer.state[parameter]["exp_avg_sq"].view(-1)[0] = self.value

        with self._before_step(spoil):
            yield

    @contextmanager
    def weight(self) -> Iterator[None]:
        def spoil(parameter: Tensor, optimizer: Optimizer) -> None:
            with torch.no_grad():
                parameter.view(-1)[0] = self.value

        with self._before_step(spoil):
            yield

    @contextmanager
    def _before_step(self, spoil: Callable[[Tensor, Optimizer], None]) -> Iterator[None]:
        original = NonFiniteGuard.before_step

        def before(guard: NonFiniteGuard, module: torch.nn.Module, optimizer: Optimizer) -> None:
            if self.due():
                spoil(optimizer.param_groups[0]["params"][3], optimizer)
            original(guard, module, optimizer)

        with mock.patch.object(NonFiniteGuard, "before_step", before):
            yield
