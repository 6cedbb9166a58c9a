"""A setting of the oracle: environment, policies and number of samples, and what an algorithm's estimate is in it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from math import log10
from statistics import fmean

import torch
from jaxtyping import Float
from torch import Tensor

from winnow.algorithm import ActorCritic, PolicyGradient, PolicyUpdate
from winnow.engines.alteration import UNALTERED, Unaltered
from winnow.errors import ConfigError
from winnow.experience.collectors import CollectorRule, Fixed
from winnow.models.precision import new_tensors_in_float64
from winnow.ops.advantage import pass_at_k
from winnow.oracle.collected import CollectedEstimator
from winnow.oracle.environment import Environment, Table, gradient
from winnow.oracle.estimator import GradientEstimator, Tables
from winnow.oracle.measure import Measured, enumerated, number_of_iterations, of_draws, sampled
from winnow.rule import rule_of, spoken_name

FIXED = Fixed()
MOST_ITERATIONS = 20_000
"""Iterations that are enumerated at most; each takes some 5 to 10 ms."""
SHOWN_DIGITS = 15
"""Digits of the longest number of iterations that is written out."""
MOST_SAMPLES, MOST_DRAWS = 10_000, 1_000_000
"""Samples of a prompt, and iterations that are drawn, at most."""
LAST_SEED = 2**63 - 2
"""The largest seed; the critic's noise has the next one."""
FARTHEST = 100.0
"""Largest distance in logits; far above, probabilities underflow."""
REFERENCE = 0.7
"""Standard deviation of the difference between the logits of the reference policy and those of the policy."""


@dataclass(frozen=True)
class Setting:
    """The circumstances that an estimator is measured in.

    `moved` and `mismatch` are standard deviations of differences in logits: of the policy whose gradient is estimated
    from the one before the updates, and of the sampler from the latter. With `draws`, so many iterations are drawn
    instead of all enumerated; a `collector` that draws other numbers of samples needs that. `alter` is what a sampler
    is altered by besides. A critic's values are the true ones of the policy before the updates, but for noise of the
    standard deviation `critic_error`.
    """

    environment: Environment = field(default_factory=Environment)
    samples: int = 2
    moved: float = 0.0
    mismatch: float = 0.0
    alter: Unaltered = UNALTERED
    collector: CollectorRule = FIXED
    critic_error: float = 0.2
    draws: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if problems := list(self._problems()):
            raise ConfigError("; ".join(problems))
        if self.draws is None and not isinstance(self.collector, Fixed):
            raise ConfigError(
                f"collector: iterations of {type(self.collector).__name__} have other numbers of samples each, and are "
                "not enumerated; type --draws 2000"
            )
        of_prompt = number_of_iterations(len(self.environment.responses), 1, self.samples)
        digits = self.environment.prompts * log10(of_prompt)
        if self.draws is None and digits > log10(MOST_ITERATIONS):
            count = f"{of_prompt**self.environment.prompts:,}" if digits < SHOWN_DIGITS else f"some 10^{digits:.0f}"
            raise ConfigError(
                f"{count} iterations can be drawn, and {MOST_ITERATIONS:,} are enumerated at most; "
                "type --draws 2000, or fewer samples, prompts or tokens"
            )

    def _problems(self) -> Iterator[str]:
        """The numbers that no setting may have."""
        for name, size in (("moved", self.moved), ("mismatch", self.mismatch)):
            if not 0 <= size <= FARTHEST:
                yield f"--{name} {size:g}: the oracle needs distances of 0 or more, {FARTHEST:g} at most"
        if not 1 <= self.samples <= MOST_SAMPLES:
            yield f"--samples {self.samples}: the oracle needs 1 sample or more, {MOST_SAMPLES:,} at most"
        if self.draws is not None and not 2 <= self.draws <= MOST_DRAWS:
            yield f"--draws {self.draws}: the oracle needs 2 draws or more, {MOST_DRAWS:,} at most"
        if not 0 <= self.seed <= LAST_SEED:
            yield f"--seed {self.seed}: must be a whole number from 0 to {LAST_SEED}; type --seed 0"

    @property
    def tables(self) -> Tables:
        """The policies, drawn by the seed."""
        env, generator = self.environment, torch.Generator().manual_seed(self.seed)

        def normal() -> Table:
            return torch.randn(env.states, env.vocabulary, generator=generator, dtype=torch.float64)

        old = normal()
        new, off, reference = (old + size * normal() for size in (self.moved, self.mismatch, REFERENCE))
        return Tables(self.alter.logits(self.alter.weight(off)), old, new, reference)

    @property
    def values(self) -> Float[Tensor, " states"]:
        """The critic's values of the states."""
        noise = torch.randn(
            self.environment.states, generator=torch.Generator().manual_seed(self.seed + 1), dtype=torch.float64
        )
        return self.environment.values(self.tables.old) + self.critic_error * noise

    @property
    def distances(self) -> dict[str, float]:
        """KL divergences between the policies in nats a response."""
        tables, kl = self.tables, self.environment.kl
        return {
            "moved": float(kl(tables.new, tables.old)),
            "mismatch": float(kl(tables.sampler, tables.old)),
            "reference": float(kl(tables.new, tables.reference)),
        }


@dataclass(frozen=True)
class Answer:
    """An estimator measured in a setting.

    `of_steps` compares it with the gradient in which the KL term is that of the next-token distributions, in states
    visited as often as they are; None without a KL term. `responses` are drawn in an iteration, on average,
    and `unmeasured` are settings of a run that the environment has nothing for. `idle` says of a correction that it has
    nothing to correct.
    """

    count: int
    of_all: bool
    measured: Measured
    of_steps: Measured | None = None
    responses: float = 0.0
    unmeasured: tuple[str, ...] = ()
    idle: str | None = None


def ask(algorithm: object, setting: Setting) -> Answer:
    """Bias and variance of the estimator of `algorithm`.

    Raises:
        ConfigError: the algorithm estimates no gradient of the expected reward, the gradient is zero, or the estimate
            is not finite.
    """
    if not isinstance(algorithm, PolicyGradient | ActorCritic):
        raise ConfigError(
            f"algo: {type(algorithm).__name__} is no estimator of the gradient of the expected reward; type algo=grpo, "
            "or another of raft, raftpp, reinforce, reinforce_rej and ppo"
        )
    if algorithm.objective.adaptive_entropy is not None:
        raise ConfigError("algo/entropy=adaptive: the oracle knows no run that moves it; type algo.entropy=0.01")
    rule = algorithm.advantage
    if rule_of(rule) is pass_at_k and isinstance(rule, partial) and (k := rule.keywords["k"]) >= setting.samples:
        raise ConfigError(
            f"algo.advantage.k={k}: must be below --samples {setting.samples}; type --samples {2 * k} --draws 2000, or "
            f"algo.advantage.k={max(1, setting.samples // 2)}"
        )
    with new_tensors_in_float64():
        tables = setting.tables
        estimator = GradientEstimator(setting.environment, tables, algorithm, setting.values)
        probabilities = setting.environment.probabilities(tables.sampler)
        responses: float = setting.samples * setting.environment.prompts
        if setting.draws is None:
            moments = enumerated(estimator, probabilities, setting.samples)
        elif isinstance(setting.collector, Fixed):
            moments = sampled(estimator, probabilities, setting.samples, setting.draws, setting.seed)
        else:
            collected = CollectedEstimator(estimator, setting.collector, setting.samples, setting.seed)
            found = [collected(iteration) for iteration in range(setting.draws)]
            moments = of_draws([estimate for estimate, _ in found])
            responses = fmean(drawn for _, drawn in found)
        truth = truth_of(algorithm, setting.environment, tables)
        steps = None if algorithm.kl is None else truth_of(algorithm, setting.environment, tables, of_steps=True)
    if not bool(truth.isfinite().all()):
        raise ConfigError(
            "the true gradient is not finite, as a coefficient of the objective is too large; type a smaller "
            "algo.kl.coef or algo.entropy"
        )
    if not bool(truth.any()):
        raise ConfigError("the true gradient is zero: there is neither a reward nor a KL term to follow")
    return Answer(
        moments.count,
        setting.draws is None,
        moments.against(truth),
        None if steps is None else moments.against(steps),
        responses,
        idle=_idle_correction(algorithm) if estimator.exact else None,
    )


def _idle_correction(algorithm: PolicyUpdate) -> str | None:
    if not algorithm.uses_correction:
        return None
    return (
        f"algo.correction, as the sampler is the policy and {spoken_name(algorithm.correction)} has nothing to "
        "correct; such a run is refused by winnow train; type --mismatch 0.5 or engine/alter=int8 for a sampler "
        "that is off"
    )


def truth_of(algorithm: PolicyUpdate, environment: Environment, tables: Tables, of_steps: bool = False) -> Table:
    """The gradient of expected reward − β · KL + c · entropy, by enumeration of the responses."""
    found = gradient(environment.expected_reward, tables.new)
    if (kl := algorithm.kl) is not None:
        other = tables.old if kl.reference == "previous" else tables.reference
        measure = environment.kl_of_steps if of_steps else environment.kl
        found = found - kl.coef * gradient(lambda table: measure(table, other), tables.new)
    if coef := algorithm.objective.entropy_coef:
        found = found + coef * gradient(environment.entropy, tables.new)
    return found
