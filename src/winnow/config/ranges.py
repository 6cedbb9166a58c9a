"""What values a setting may have, and which may not be combined."""

from difflib import get_close_matches
from typing import Any

from omegaconf import DictConfig

from winnow.errors import ConfigError

AT_LEAST_ONE = [
    "iterations",
    "rollout.prompts",
    "rollout.samples",
    "rollout.max_tokens",
    "update.minibatches",
    "update.epochs",
    "eval.samples",
    "eval.max_tokens",
    "checkpoint.every",
    "checkpoint.keep",
    "hardware.devices",
]
AT_LEAST_ONE_OR_NULL = (
    "eval.prompts",
    "hardware.token_budget",
    "rollout.max_prompt_tokens",
    "budget.sampled_tokens",
    "budget.trained_tokens",
)
ABOVE_ZERO_OR_NULL = ("rollout.max_mismatch_kl", "budget.seconds", "study.noise")
ABOVE_ZERO = ("rollout.temperature", "eval.temperature", "optim.lr", "optim.eps")
NOT_NEGATIVE = (
    "seed",
    "optim.weight_decay",
    "optim.grad_clip",
    "optim.warmup",
    "eval.every",
    "metrics.kl_rows",
)
CHOICES = {
    "optim.schedule": ("constant", "linear", "cosine"),
    "hardware.precision": ("auto", "32-true", "bf16-mixed"),
    "hardware.attention": ("auto", "eager", "sdpa", "flash_attention_2", "flex_attention"),
    "hardware.accelerator": ("auto", "cpu", "cuda"),
    "dataset.bad_rows": ("error", "drop"),
    "dataset.overlap": ("drop", "keep"),
    "algo.rejected": ("drop", "zero"),
    "algo.reference": ("initial", "previous"),
    "algo.kl.place": ("loss", "reward"),
    "algo.kl.reference": ("initial", "previous"),
    "algo.advantage.centre": ("none", "mean", "leave_one_out"),
    "algo.advantage.scale": ("none", "std"),
}


TINY, HUGE = 1e-12, float("inf")
MAY_BE_NULL = "algo.kl.clamp"
ALGO_RANGES = {
    "algo.entropy": (0, HUGE, "0 or more"),
    "algo.beta": (TINY, HUGE, "above 0"),
    "algo.critic_lr_ratio": (TINY, HUGE, "above 0"),
    "algo.value_clip": (TINY, HUGE, "above 0"),
    "algo.select.pairs": (1, HUGE, "1 or more"),
    "algo.advantage.gamma": (0, 1, "from 0 to 1"),
    "algo.advantage.lam": (0, 1, "from 0 to 1"),
    "algo.advantage.eps": (TINY, HUGE, "above 0"),
    "algo.advantage.w_pos": (0, HUGE, "0 or more"),
    "algo.advantage.w_neg": (0, HUGE, "0 or more"),
    "algo.clip.low": (TINY, 1, "above 0 and at most 1"),
    "algo.clip.high": (TINY, HUGE, "above 0"),
    "algo.clip.c": (1, HUGE, "1 or more"),
    "algo.aggregate.length": (1, HUGE, "1 or more"),
    "algo.correction.cap": (1, HUGE, "1 or more"),
    "algo.correction.floor": (0, 1, "from 0 to 1"),
    "algo.kl.coef": (TINY, HUGE, "above 0; without the term, type algo/kl=none"),
}


def check_ranges(cfg: DictConfig) -> None:
    """Ranges and combinations.

    Raises:
        ConfigError: every problem found, joined by "; ".
    """
    _refuse([*_ranges(cfg), *_choices(cfg), *_sets(cfg), *_group_size(cfg), *_algorithm(cfg), *_budget(cfg)])


def check_evaluation_ranges(cfg: DictConfig) -> None:
    """What an evaluation reads: nothing of the algorithm, which a run may have had another of.

    Raises:
        ConfigError: every problem found, joined by "; ".
    """
    _refuse([*_ranges(cfg), *_choices(cfg), *_sets(cfg), *_evaluation(cfg)])


def _refuse(problems: list[str]) -> None:
    if problems:
        raise ConfigError("; ".join(problems))


def _evaluation(cfg: DictConfig) -> list[str]:
    found = [
        f"{key}={cfg[key]}: must be 1 or more" for key in ("batch", "limit") if cfg[key] is not None and cfg[key] < 1
    ]
    if cfg.hardware.devices != 1:
        found.append(
            f"hardware.devices={cfg.hardware.devices}: an evaluation takes one device; leave it out, "
            "and give each device sets of its own"
        )
    return found


def _read(cfg: DictConfig, key: str) -> Any:
    node: Any = cfg
    for part in key.split("."):
        node = node.get(part) if isinstance(node, DictConfig) else None
    return node


def _is_there(cfg: DictConfig, key: str) -> bool:
    """Whether the setting exists, even if it is null."""
    parent, _, last = key.rpartition(".")
    node = _read(cfg, parent)
    return isinstance(node, DictConfig) and last in node


def _ranges(cfg: DictConfig) -> list[str]:
    rules = [(key, 1, "1 or more") for key in AT_LEAST_ONE] + [(key, 0, "0 or more") for key in NOT_NEGATIVE]
    found = [f"{key}={_read(cfg, key)}: must be {words}" for key, low, words in rules if _read(cfg, key) < low]
    found += [f"{key}={_read(cfg, key)}: must be above 0" for key in ABOVE_ZERO if not _read(cfg, key) > 0]
    found += [
        f"{key}={value}: must be 1 or more, or null"
        for key in AT_LEAST_ONE_OR_NULL
        if (value := _read(cfg, key)) is not None and value < 1
    ]
    found += [
        f"{key}={value}: must be above 0, or null"
        for key in ABOVE_ZERO_OR_NULL
        if (value := _read(cfg, key)) is not None and not value > 0
    ]
    if len(cfg.optim.betas) != 2 or not all(0 <= beta < 1 for beta in cfg.optim.betas):
        found.append(
            f"optim.betas={list(cfg.optim.betas)}: must be two numbers in [0, 1); type optim.betas=[0.9,0.999]"
        )
    return found


def _choices(cfg: DictConfig) -> list[str]:
    benchmarks = {f"benchmarks.{name}.bad_rows": ("keep", "error", "drop") for name in cfg.benchmarks}
    return [
        f"{key}={value}: must be one of {', '.join(allowed)}"
        for key, allowed in (CHOICES | benchmarks).items()
        if _is_there(cfg, key) and (value := _read(cfg, key)) not in allowed
    ]


def _sets(cfg: DictConfig) -> list[str]:
    known = [str(name) for name in cfg.benchmarks]
    sets = list(cfg.eval.sets)
    found = []
    for name in sets:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            found.append(f"eval.sets: no benchmark {name}; {hint}there are {', '.join(known)}")
    found += [f"eval.sets: {name} is named twice" for name in dict.fromkeys(sets) if sets.count(name) > 1]
    return found


def _group_size(cfg: DictConfig) -> list[str]:
    if cfg.rollout.samples > 1:
        return []
    target = str(_read(cfg, "algo.advantage._target_"))
    select = str(_read(cfg, "algo.select._target_"))
    found = []
    if target.endswith("advantage.group"):
        found.append("rollout.samples=1: a group advantage compares samples of one prompt; type rollout.samples=8")
    if select.endswith(("select.mixed_prompts", "select.extremes")):
        found.append("rollout.samples=1: one sample cannot disagree with itself; type rollout.samples=8")
    return found


def _algorithm(cfg: DictConfig) -> list[str]:
    found = []
    for key, (low, high, words) in ALGO_RANGES.items():
        value = _read(cfg, key)
        known = value is not None or _is_there(cfg, key)
        if known and key != MAY_BE_NULL and not (isinstance(value, int | float) and low <= value <= high):
            found.append(f"{key}={'null' if value is None else value}: must be {words}")
    clamp = _read(cfg, MAY_BE_NULL)
    if clamp is not None and not clamp > 0:
        found.append(f"{MAY_BE_NULL}={clamp}: must be above 0, or null for none")
    correct, wrong = cfg.reward.correct, max(cfg.reward.wrong, cfg.reward.no_answer)
    if not correct > wrong:
        found.append(f"reward.correct={correct}: must be above reward.wrong and reward.no_answer ({wrong})")
    rows = cfg.rollout.prompts * (1 if _from_demonstrations(cfg) else cfg.rollout.samples)
    minibatches = cfg["update"].minibatches  # `cfg.update` is a method of every mapping
    if minibatches > rows:
        found.append(f"update.minibatches={minibatches}: an iteration has only {rows} rows")
    return found


def _budget(cfg: DictConfig) -> list[str]:
    given = [f"budget.{key}={value}" for key, value in cfg.budget.items() if value is not None]
    found = []
    if given and cfg.optim.schedule != "constant":
        found.append(
            f"optim.schedule={cfg.optim.schedule}: falls over `iterations`, which {given[0]} may cut short; "
            "type optim.schedule=constant, or iterations alone"
        )
    if cfg.budget.sampled_tokens is not None and _from_demonstrations(cfg):
        tokens = cfg.budget.sampled_tokens
        found.append(
            f"budget.sampled_tokens={tokens}: demonstrations are not sampled; type budget.trained_tokens={tokens}"
        )
    return found


def _from_demonstrations(cfg: DictConfig) -> bool:
    return str(_read(cfg, "algo._target_")).endswith("Supervised")
