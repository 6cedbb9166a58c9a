"""`winnow oracle`: bias and variance of the estimator that a configuration composes, in an environment it can count."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import isfinite
from typing import Literal

from omegaconf import DictConfig

from winnow.assemble.start_lines import collector_of
from winnow.config.compose import composed
from winnow.config.instantiate import build_algorithm
from winnow.config.nodes import build_node
from winnow.config.ranges import collector_problems
from winnow.config.reward_functions import has_functions, penalises_length
from winnow.engines.alteration import UNALTERED
from winnow.errors import ConfigError
from winnow.oracle.environment import Environment
from winnow.oracle.measure import Measured
from winnow.oracle.setting import Answer, Setting, ask

RewardKind = Literal["verdict", "graded", "none"]


@dataclass(frozen=True)
class Asked:
    """The request to `winnow oracle`: what was asked for besides the words of the configuration."""

    vocabulary: int = 2
    horizon: int = 3
    prompts: int = 2
    samples: int = 4
    moved: float = 0.0
    mismatch: float = 0.0
    reward: RewardKind = "verdict"
    draws: int | None = None
    seed: int = 0


def oracle(words: Sequence[str], asked: Asked) -> tuple[Setting, Answer]:
    """The setting, and what the estimator of the words is in it.

    Raises:
        ConfigError: a word is wrong, or there is nothing to measure.
    """
    typed = [word for word in words if word.startswith(("rollout.samples=", "rollout.prompts="))]
    if typed:
        option = typed[0].removeprefix("rollout.").replace("=", " ")
        raise ConfigError(f"{typed[0]}: the oracle has a number of its own; type --{option}")
    cfg = _composed(tuple(words))
    cfg.rollout.samples, cfg.rollout.prompts = asked.samples, asked.prompts
    if problems := collector_problems(cfg, supervised=False):
        raise ConfigError(problems[0].replace("rollout.samples=", "--samples "))
    correct, wrong = cfg.reward.get("correct", 1.0), cfg.reward.get("wrong", 0.0)
    if asked.reward == "none":
        correct = wrong = 0.0
    environment = Environment(
        asked.vocabulary, asked.horizon, asked.prompts, correct, wrong, graded=asked.reward == "graded"
    )
    alter = build_node(cfg.engine.alter) if "alter" in cfg.engine else UNALTERED
    setting = Setting(
        environment,
        asked.samples,
        asked.moved,
        asked.mismatch,
        alter,
        collector_of(cfg),
        draws=asked.draws,
        seed=asked.seed,
    )
    return setting, replace(ask(build_algorithm(cfg), setting), unmeasured=tuple(_unmeasured(cfg)))


def _unmeasured(cfg: DictConfig) -> Iterator[str]:
    """Words of a configuration that a training run would heed, and that the environment has nothing for."""
    if has_functions(cfg):
        yield "reward=function"
    if penalises_length(cfg):
        yield "reward/length"
    if cfg.rollout.staleness:
        yield f"rollout.staleness={cfg.rollout.staleness}"
    if cfg.rollout.temperature != 1:
        yield f"rollout.temperature={cfg.rollout.temperature:g}"


@lru_cache(maxsize=8)
def _composed(words: tuple[str, ...]) -> DictConfig:
    """The configuration of the words, kept for the next setting that they are measured in."""
    return composed("train", words, ("algo", "engine.alter", "collector"))


def text(setting: Setting, answer: Answer) -> str:
    """The answer in words."""
    env, far = setting.environment, setting.distances
    how = f"all {answer.count:,} iterations enumerated" if answer.of_all else f"{answer.count:,} iterations drawn"
    lines = [
        f"{setting.collector.in_words(env.prompts, setting.samples)}, {env.vocabulary} tokens, responses of up to "
        f"{env.horizon}: {how}",
        *([] if answer.of_all else [f"{answer.responses:.1f} responses drawn in an iteration on average"]),
        f"KL in nats a response: {far['moved']:.3g} of the policy from the one before its updates, "
        f"{far['mismatch']:.3g} of the sampler from it, {far['reference']:.3g} to the reference",
    ]
    of = answer.measured
    margin = "" if answer.of_all else f" ± {1.96 * of.error / float(of.truth.norm()):.2g}"
    rows = [
        ("scale", f"{of.scale:.4f}{margin}", "length of the mean estimate along the true gradient (1: the same)"),
        ("cosine", f"{of.cosine:.6f}", "of the angle between both (1: the same direction)"),
        ("bias", f"{of.bias:.3g}{margin}", "distance between both, over the length of the true gradient (0: unbiased)"),
        ("noise", f"{of.noise:.3g}", "standard deviation of one iteration's estimate, over the length of its mean"),
    ]
    if (steps := answer.of_steps) is not None:
        rows.append(
            ("bias, KL of steps", f"{steps.bias:.3g}", "the same as bias, with visits of states held fixed in the KL")
        )
    if answer.idle is not None:
        lines.append(f"without effect: {answer.idle}")
    if answer.unmeasured:
        lines.append(f"not measured, because the environment has nothing for it: {', '.join(answer.unmeasured)}")
    return "\n".join([*lines, *(f"{name:<18} {value:<14} {words}" for name, value, words in rows)])


def as_json(setting: Setting, answer: Answer) -> str:
    """The answer for programs."""
    found = {"iterations": answer.count, "enumerated": answer.of_all, "responses": answer.responses}
    found |= {"kl": setting.distances, "not_measured": answer.unmeasured}
    found |= {"without_effect": answer.idle}
    found |= {"estimate": _figures(answer.measured)}
    if answer.of_steps is not None:
        found |= {"estimate_against_kl_of_steps": _figures(answer.of_steps)}
    return json.dumps(found, indent=1)


def _figures(of: Measured) -> dict[str, float | None]:
    noise = of.noise if isfinite(of.noise) else None  # of a mean of zero
    return {"scale": of.scale, "cosine": of.cosine, "bias": of.bias, "noise": noise, "standard_error": of.error}
