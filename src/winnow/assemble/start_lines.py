"""Lines that a run says at its start: its arithmetic, its budget, its algorithm, and optimisations it cannot have."""

from omegaconf import DictConfig

from winnow.algorithm import Algorithm, Preference, Supervised
from winnow.config.compose import CONF
from winnow.config.groups import option_at
from winnow.config.nodes import build_node, choice
from winnow.experience.collectors import CollectorRule, Fixed
from winnow.models.attention import is_packed
from winnow.models.policy import Policy
from winnow.ops import select
from winnow.rule import rule_of

AXES = (
    "select",
    "advantage",
    "ratio",
    "clip",
    "aggregate",
    "kl",
    "correction",
    "tokens",
    "entropy",
    "preference",
    "divergence",
)
"""Axes of an algorithm, in the order in which they are described."""


def collector_of(cfg: DictConfig) -> CollectorRule:
    """The rule of what an iteration draws and passes on."""
    node = cfg.get("collector")  # which a run of an earlier version does not have
    return Fixed() if node is None else build_node(node)


def batch_arithmetic(cfg: DictConfig, algorithm: Algorithm) -> str:
    """One iteration in numbers: `32 prompts × 8 samples = 256 responses → 4 updates of 64`."""
    rollout, update = cfg.rollout, cfg["update"]
    epochs = f", in {update.epochs} epochs" if update.epochs > 1 else ""
    if isinstance(algorithm, Supervised):
        return f"{rollout.prompts} demonstrations → {_updates_in_words(rollout.prompts, update.minibatches)}{epochs}"
    rows = rollout.prompts * rollout.samples
    sampled = collector_of(cfg).in_words(rollout.prompts, rollout.samples)
    if isinstance(algorithm, Preference):
        return f"{sampled} → pairs → {update.minibatches} updates{epochs}"
    passes_on = isinstance(collector_of(cfg), Fixed) and algorithm.truncated == "keep"
    all_kept = passes_on and (rule_of(algorithm.select) is select.all_samples or algorithm.rejected == "zero")
    kept = "" if all_kept else " → those kept"
    return f"{sampled}{kept} → {_updates_in_words(rows, update.minibatches, exactly=all_kept)}{epochs}"


def _updates_in_words(rows: int, minibatches: int, exactly: bool = True) -> str:
    size = -(-rows // minibatches)
    about = "" if exactly and rows % minibatches == 0 else "up to "
    return f"{minibatches} update{'s' if minibatches > 1 else ''} of {about}{size}"


def budget_in_words(cfg: DictConfig) -> list[str]:
    """A line with the run's budget: `until 1,000,000 sampled tokens or 600 s are spent, at most 100 iterations`."""
    words = {"sampled_tokens": "{:,} sampled tokens", "trained_tokens": "{:,} trained tokens", "seconds": "{:g} s"}
    limits = [words[str(key)].format(limit) for key, limit in cfg.budget.items() if limit is not None]
    return [f"until {' or '.join(limits)} are spent, at most {cfg.iterations} iterations"] if limits else []


def algorithm_summary(cfg: DictConfig) -> str:
    """The algorithm's axes and settings: `raftpp: select best, advantage one, ratio token, clip ppo(low=0.2, …), …`."""
    nodes = {axis: node for axis in AXES if isinstance(node := cfg.algo.get(axis), DictConfig)}
    axes = ", ".join(f"{axis} {_chosen(node, axis)}" for axis, node in nodes.items())
    settings = [f"{k} {v}" for k, v in cfg.algo.items() if isinstance(v, bool | int | float | str) and k != "_target_"]
    if cfg.algo.get("reference") == "synced":
        settings += [f"sync.{k} {v}" for k, v in cfg.algo.sync.items() if not str(k).startswith("_")]
    return f"{choice('algo')}: {', '.join([axes, *settings])}"


def _chosen(node: DictConfig, axis: str) -> str:
    scalars = {k: v for k, v in node.items() if not str(k).startswith("_") and not isinstance(v, DictConfig)}
    if node.get("reference") == "synced":
        scalars |= {f"sync.{k}": v for k, v in node.sync.items() if not str(k).startswith("_")}
    arguments = ", ".join(f"{k}={v}" for k, v in scalars.items() if v is not None)
    name = _name(node, axis)
    return f"{name}({arguments})" if arguments else name


def _name(node: DictConfig, axis: str) -> str:
    """The choice on an axis, or the function itself where one was typed over that of the choice."""
    name, target = choice(f"algo/{axis}"), node.get("_target_")
    path = CONF / "algo" / axis / f"{name}.yaml"
    packaged: object = option_at(path) if path.is_file() else None
    if isinstance(packaged, dict) and axis in packaged:  # a file that sets a number or a node, as of entropy
        packaged = packaged[axis]
    typed_over = isinstance(packaged, dict) and packaged.get("_target_") != target
    return str(target) if typed_over and target else str(name)


def slow_path_notices(cfg: DictConfig, policy: Policy) -> list[str]:
    """Notices about optimisations of the updates that this model's architecture does not allow."""
    notices, name = [], type(policy.model).__name__
    if cfg.hardware.attention == "auto" and not is_packed(policy.model):
        notices.append(
            f"{name} has an attention that cannot be packed: rows are padded, and a prompt is computed for every sample"
        )
    if not policy.plain_head:
        notices.append(
            f"{name} transforms its logits after the output layer: all logits of a micro-batch are in memory at once"
        )
    return notices
