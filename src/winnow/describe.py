"""A configuration in a few lines: the batch in figures, the budget, and the algorithm in words."""

from omegaconf import DictConfig

from winnow.algorithm import Algorithm, Preference, Supervised
from winnow.instantiation import choice
from winnow.objectives import rule_of
from winnow.ops import select

AXES = ("select", "advantage", "ratio", "clip", "aggregate", "kl", "correction")


def in_figures(cfg: DictConfig, algorithm: Algorithm) -> str:
    """`32 prompts × 8 samples = 256 responses → 4 updates of 64`."""
    rollout, update = cfg.rollout, cfg["update"]
    again = f", {update.epochs} times over" if update.epochs > 1 else ""
    if isinstance(algorithm, Supervised):
        return f"{rollout.prompts} demonstrations → {_updates(rollout.prompts, update.minibatches)}{again}"
    rows = rollout.prompts * rollout.samples
    sampled = f"{rollout.prompts} prompts × {rollout.samples} samples = {rows} responses"
    if isinstance(algorithm, Preference):
        return f"{sampled} → pairs → {update.minibatches} updates{again}"
    everything = rule_of(algorithm.select) is select.all_samples or algorithm.rejected == "zero"
    kept = "" if everything else " → those kept"
    return f"{sampled}{kept} → {_updates(rows, update.minibatches, exactly=everything)}{again}"


def _updates(rows: int, minibatches: int, exactly: bool = True) -> str:
    size = -(-rows // minibatches)
    about = "" if exactly and rows % minibatches == 0 else "up to "
    return f"{minibatches} update{'s' if minibatches > 1 else ''} of {about}{size}"


def budget_in_words(cfg: DictConfig) -> list[str]:
    """`until 1,000,000 sampled tokens or 600 s are spent, at most 100 iterations`; nothing without a budget."""
    b = cfg.budget
    limits = [
        words.format(limit)
        for words, limit in (
            ("{:,} sampled tokens", b.sampled_tokens),
            ("{:,} trained tokens", b.trained_tokens),
            ("{:g} s", b.seconds),
        )
        if limit is not None
    ]
    return [f"until {' or '.join(limits)} are spent, at most {cfg.iterations} iterations"] if limits else []


def in_words(cfg: DictConfig) -> str:
    """`raftpp: select best, advantage one, ratio token, clip ppo(low=0.2, high=0.2), …`."""
    axes = ", ".join(f"{axis} {_chosen(cfg.algo[axis], axis)}" for axis in AXES if axis in cfg.algo)
    others = [f"{k} {v}" for k, v in cfg.algo.items() if isinstance(v, bool | int | float | str) and k != "_target_"]
    return f"{choice('algo')}: {', '.join([axes, *others])}"


def _chosen(node: DictConfig, axis: str) -> str:
    scalars = {k: v for k, v in node.items() if not str(k).startswith("_") and not isinstance(v, DictConfig)}
    inside = ", ".join(f"{k}={v}" for k, v in scalars.items() if v is not None)
    name = choice(f"algo/{axis}")
    return f"{name}({inside})" if inside else name
