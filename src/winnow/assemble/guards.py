"""Guards of a training run, built from a composed configuration: update check, alarms, watchdog."""

import math
from collections.abc import Callable, Mapping

from omegaconf import DictConfig

from winnow.algorithm import Algorithm, Preference
from winnow.config.instantiate import max_mismatch_kl, precision_of, samples_exactly
from winnow.experience.collect import Judge
from winnow.experience.metrics import Clock
from winnow.guards.alarms import Alarms, AlarmSettings
from winnow.guards.finding import Tolerances
from winnow.guards.update_check import Checked, UpdateCheck
from winnow.guards.watchdog import Watchdog
from winnow.models.language_model import LanguageModel
from winnow.models.policy import AdaptersOff, FrozenCopy
from winnow.models.precision import PRODUCTS
from winnow.ops.aggregate import sequence_mean
from winnow.training.modules import ActorCriticModule, IterationModule


def update_check(
    cfg: DictConfig,
    language_model: LanguageModel,
    algorithm: Algorithm,
    judge: Judge,
    module: IterationModule,
    reference: FrozenCopy | AdaptersOff | None,
    golds: Callable[[int], Mapping[str, str]],
) -> UpdateCheck:
    """The check of the run's updates. `golds` gives the answers to an iteration's problems by key."""
    tolerances, exact = Tolerances.of(PRODUCTS[precision_of(cfg)]), samples_exactly(cfg)
    intended = cfg.rollout.max_mismatch_kl is not None or not exact
    checked = Checked(
        policy=module.policy,
        critic=module.critic if isinstance(module, ActorCriticModule) else None,
        reference=reference,
        algorithm=algorithm,
        aggregate=sequence_mean if isinstance(algorithm, Preference) else algorithm.aggregate,
        # The configuration's, and not those that sampler and policy were given.
        temperature=cfg.rollout.temperature,
        max_tokens=cfg.rollout.max_tokens,
        eos_ids=language_model.eos_ids,
        judge=judge,
        golds=golds,
        exact=exact,
        # The KL of two close distributions is half the mean square of their log-ratio.
        # Samples that were drawn ahead are another policy's.
        sampled_gap=math.inf
        if cfg.rollout.staleness
        else (2 * max_mismatch_kl(cfg)) ** 0.5
        if intended
        else tolerances.logprob,
        tolerances=tolerances,
    )
    return UpdateCheck(checked, cfg.checks.every, cfg.checks.rows, cfg.seed)


def alarms(cfg: DictConfig) -> Alarms:
    """The alarms with their thresholds."""
    return Alarms(AlarmSettings(**cfg.alarms))


def watchdog(cfg: DictConfig, clock: Clock) -> Watchdog:
    """The watchdog of the phases of `clock`."""
    return Watchdog(clock, cfg.watchdog.factor, cfg.watchdog.floor)
