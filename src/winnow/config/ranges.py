"""Allowed values of every setting, and combinations of settings that cannot run.

Nothing here imports torch, so that these checks are made before the imports that take seconds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import Any

from omegaconf import DictConfig, OmegaConf

from winnow.config.override_errors import close_matches
from winnow.errors import ConfigError


@dataclass(frozen=True)
class Rule:
    """A test of a value, and the words that complete "KEY=VALUE: must be …"."""

    words: str
    holds: Callable[[Any], bool]

    def or_null(self, words: str = "or null") -> "Rule":
        """The same rule, which null passes as well."""
        return Rule(f"{self.words}, {words}", lambda value: value is None or self.holds(value))


def _number(words: str, holds: Callable[[float], bool]) -> Rule:
    # The nodes of the config groups are untyped: a value may be a string, or null where the setting needs a number.
    return Rule(words, lambda value: isinstance(value, int | float) and holds(value))


def _one_of(*choices: str) -> Rule:
    return Rule(f"one of {', '.join(choices)}", choices.__contains__)


ONE_OR_MORE = _number("1 or more", lambda x: x >= 1)
NOT_NEGATIVE = _number("0 or more", lambda x: x >= 0)
POSITIVE = _number("above 0", lambda x: x > 0)
FRACTION = _number("from 0 to 1", lambda x: 0 <= x <= 1)
FINITE = _number("a finite number", isfinite)

RULES = {
    "seed": NOT_NEGATIVE,
    "iterations": ONE_OR_MORE,
    "rollout.prompts": ONE_OR_MORE,
    "rollout.samples": ONE_OR_MORE,
    "rollout.max_tokens": ONE_OR_MORE,
    "rollout.max_prompt_tokens": ONE_OR_MORE.or_null(),
    "rollout.temperature": POSITIVE,
    "rollout.max_mismatch_kl": POSITIVE.or_null(),
    "update.minibatches": ONE_OR_MORE,
    "update.epochs": ONE_OR_MORE,
    "optim.lr": POSITIVE,
    "optim.betas": Rule(
        "two numbers in [0, 1); type optim.betas=[0.9,0.999]",
        lambda betas: len(betas) == 2 and all(0 <= beta < 1 for beta in betas),
    ),
    "optim.eps": POSITIVE,
    "optim.weight_decay": NOT_NEGATIVE,
    "optim.grad_clip": NOT_NEGATIVE,
    "optim.warmup": NOT_NEGATIVE,
    "optim.schedule": _one_of("constant", "linear", "cosine"),
    "budget.sampled_tokens": ONE_OR_MORE.or_null(),
    "budget.trained_tokens": ONE_OR_MORE.or_null(),
    "budget.seconds": POSITIVE.or_null(),
    "eval.every": NOT_NEGATIVE,
    "eval.prompts": ONE_OR_MORE.or_null(),
    "eval.samples": ONE_OR_MORE,
    "eval.max_tokens": ONE_OR_MORE,
    "eval.temperature": POSITIVE,
    "batch": ONE_OR_MORE,
    "limit": ONE_OR_MORE.or_null(),
    "checkpoint.every": ONE_OR_MORE,
    "checkpoint.keep": Rule("1 or more, or all", lambda keep: keep == "all" or (isinstance(keep, int) and keep >= 1)),
    "metrics.kl_rows": NOT_NEGATIVE,
    "guards.max_consecutive": ONE_OR_MORE,
    "guards.weights_mb": NOT_NEGATIVE,
    "study.noise": POSITIVE.or_null(),
    "hardware.accelerator": _one_of("auto", "cpu", "cuda"),
    "hardware.devices": ONE_OR_MORE,
    "hardware.token_budget": ONE_OR_MORE.or_null(),
    "hardware.precision": _one_of("auto", "32-true", "64-true", "bf16-mixed"),
    "hardware.attention": _one_of("auto", "eager", "sdpa", "flash_attention_2", "flex_attention"),
    "dataset.bad_rows": _one_of("error", "drop"),
    "dataset.overlap": _one_of("drop", "keep"),
    "reward.correct": FINITE,
    "reward.wrong": FINITE,
    "reward.no_answer": FINITE,
}
"""A setting that a configuration does not have, such as `limit` in training, is not checked."""

REWARD_ROUNDING = 8 * 2.0**-23
"""Relative difference up to which two rewards are the same number in float32, as in `ops.spread`, which needs torch."""

ALGORITHM_RULES = {
    "algo.rejected": _one_of("drop", "zero"),
    "algo.reference": _one_of("initial", "previous"),
    "algo.entropy": NOT_NEGATIVE,
    "algo.beta": POSITIVE,
    "algo.critic_lr_ratio": POSITIVE,
    "algo.value_clip": POSITIVE,
    "algo.select.pairs": ONE_OR_MORE,
    "algo.advantage.centre": _one_of("none", "mean", "leave_one_out"),
    "algo.advantage.scale": _one_of("none", "std"),
    "algo.advantage.gamma": FRACTION,
    "algo.advantage.lam": FRACTION,
    "algo.advantage.eps": POSITIVE,
    "algo.advantage.w_pos": NOT_NEGATIVE,
    "algo.advantage.w_neg": NOT_NEGATIVE,
    "algo.clip.low": _number("above 0 and at most 1", lambda x: 0 < x <= 1),
    "algo.clip.high": POSITIVE,
    "algo.clip.c": ONE_OR_MORE,
    "algo.aggregate.length": ONE_OR_MORE,
    "algo.correction.cap": ONE_OR_MORE,
    "algo.correction.floor": FRACTION,
    "algo.kl.coef": Rule("above 0; without the term, type algo/kl=none", POSITIVE.holds),
    "algo.kl.clamp": POSITIVE.or_null("or null for none"),
    "algo.kl.place": _one_of("loss", "reward"),
    "algo.kl.reference": _one_of("initial", "previous"),
}


def check_ranges(cfg: DictConfig) -> None:
    """Check the values of a training configuration, and their combinations once every value is allowed.

    Raises:
        ConfigError: all problems, joined by "; ".
    """
    _refuse(_values(cfg, RULES | ALGORITHM_RULES) or _combinations(cfg))


def check_evaluation_ranges(cfg: DictConfig) -> None:
    """Check what an evaluation reads, which is nothing of the algorithm: the run may have been made with another.

    Raises:
        ConfigError: all problems, joined by "; ".
    """
    problems = _values(cfg, RULES)
    if cfg.hardware.devices != 1:
        problems.append(
            f"hardware.devices={cfg.hardware.devices}: an evaluation runs on one device; leave it out, "
            "and evaluate other sets on the other devices"
        )
    _refuse(problems)


def _refuse(problems: list[str]) -> None:
    if problems:
        raise ConfigError("; ".join(problems))


def _values(cfg: DictConfig, rules: dict[str, Rule]) -> list[str]:
    """The settings whose value their rule does not allow, and unknown or repeated evaluation sets."""
    rules = rules | {f"benchmarks.{name}.bad_rows": _one_of("keep", "error", "drop") for name in cfg.benchmarks}
    values = {key: OmegaConf.select(cfg, key, default=...) for key in rules}  # `...`: there is no such setting
    problems = [
        f"{key}={'null' if value is None else value}: must be {rules[key].words}"
        for key, value in values.items()
        if value is not ... and not rules[key].holds(value)
    ]
    known, sets = [str(name) for name in cfg.benchmarks], list(cfg.eval.sets)
    for name in dict.fromkeys(sets):
        if name not in known:
            hint = "".join(f"did you mean {near}? " for near in close_matches(name, known)[:1])
            problems.append(f"eval.sets: no benchmark {name}; {hint}there are {', '.join(known)}")
        if sets.count(name) > 1:
            problems.append(f"eval.sets: {name} is named twice")
    return problems


def _combinations(cfg: DictConfig) -> list[str]:
    """Combinations that cannot run, of settings whose values are allowed."""
    algorithm, advantage, select = (
        str(OmegaConf.select(cfg, f"algo{axis}._target_")) for axis in ("", ".advantage", ".select")
    )
    supervised = algorithm.endswith("Supervised")
    rollout, reward, budget, problems = cfg.rollout, cfg.reward, cfg.budget, []
    if rollout.samples == 1 and advantage.endswith("advantage.group"):
        problems.append("rollout.samples=1: a group advantage compares samples of one prompt; type rollout.samples=8")
    if rollout.samples == 1 and select.endswith(("select.mixed_prompts", "select.extremes")):
        problems.append("rollout.samples=1: one sample cannot disagree with itself; type rollout.samples=8")
    other = max(reward.wrong, reward.no_answer)
    if reward.correct - other <= REWARD_ROUNDING * max(abs(reward.correct), abs(other)):
        problems.append(
            f"reward.correct={reward.correct}: must be above reward.wrong and reward.no_answer ({other}) "
            "by more than rounding in float32"
        )
    rows = rollout.prompts * (1 if supervised else rollout.samples)
    minibatches = cfg["update"].minibatches  # `cfg.update` is a method of every mapping
    if minibatches > rows:
        problems.append(f"update.minibatches={minibatches}: an iteration has only {rows} rows")
    limits = [f"budget.{key}={value}" for key, value in budget.items() if value is not None]
    if limits and cfg.optim.schedule != "constant":
        problems.append(
            f"optim.schedule={cfg.optim.schedule}: falls over `iterations`, which {limits[0]} may cut short; "
            "type optim.schedule=constant, or leave out the budget"
        )
    if budget.sampled_tokens is not None and supervised:
        tokens = budget.sampled_tokens
        problems.append(
            f"budget.sampled_tokens={tokens}: demonstrations are not sampled; type budget.trained_tokens={tokens}"
        )
    return problems
