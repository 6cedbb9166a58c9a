"""What cannot run is refused before anything is created; what has no effect is named."""

import inspect
from collections.abc import Iterator
from difflib import get_close_matches
from importlib.util import find_spec
from typing import Any

import torch
from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig, OmegaConf

from winnow.algorithm import ActorCritic, Algorithm, PolicyGradient, Preference, Supervised
from winnow.config import ranges
from winnow.config.instantiate import build_algorithm, choice, engine_class, on_cuda, samples_exactly
from winnow.errors import ConfigError
from winnow.objectives import rule_of
from winnow.ops import advantage, kl, select


def check_config(cfg: DictConfig) -> list[str]:
    """Refuse what cannot run, before anything is created; say what will have no effect.

    Raises:
        ConfigError: what is wrong, and what to type instead.
    """
    ranges.check_ranges(cfg)
    check_environment(cfg)
    algorithm = build_algorithm(cfg)
    _check_engine(cfg, algorithm)
    return settings_without_effect(cfg, algorithm)


def check_environment(cfg: DictConfig) -> None:
    """The machine has what `cfg` asks for, and nothing else is built than what may be.

    Raises:
        ConfigError: what is not so, and what to type instead.
    """
    _check_machine(cfg)
    check_targets(cfg)


def check_targets(cfg: DictConfig) -> None:
    """Every `_target_` is one of ours, or of a package that `plugins` names, and takes the settings it is given.

    Raises:
        ConfigError: the first that does not.
    """
    for plugin in cfg.plugins:
        if find_spec(plugin.split(".")[0]) is None:
            raise ConfigError(f"plugins: no package {plugin} can be imported; install it, or leave it out")
    for path, node in _targets(cfg, ""):
        _check_target(path, node, list(cfg.plugins))


def _check_machine(cfg: DictConfig) -> None:
    if cfg.engine.get("graphs") and not on_cuda(cfg):
        raise ConfigError("engine.graphs=true: a CPU has no CUDA graphs; leave it out, or type hardware=gpu")
    if cfg.hardware.accelerator != "cuda":
        return
    present = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if cfg.hardware.devices > present:
        raise ConfigError(
            f"hardware.devices={cfg.hardware.devices}: torch can use {present} CUDA devices here; type hardware=cpu"
            + (f" or hardware.devices={present}" if present else "")
        )


def _check_engine(cfg: DictConfig, algorithm: Algorithm) -> None:
    exact, engine = samples_exactly(cfg), choice("engine")
    if isinstance(algorithm, PolicyGradient | ActorCritic) and algorithm.uses_correction and exact:
        raise ConfigError(
            f"algo/correction={choice('algo/correction')}: engine={engine} in float32 samples with the trainer's own "
            "numbers, so that there is nothing to correct; type algo/correction=none, or engine=vllm"
        )
    if cfg.rollout.max_mismatch_kl is not None and (cfg.metrics.kl_rows == 0 or isinstance(algorithm, Supervised)):
        raise ConfigError(
            f"rollout.max_mismatch_kl={cfg.rollout.max_mismatch_kl}: no sample is compared with the policy here; leave it out"
        )
    if not isinstance(algorithm, Supervised) and cfg.metrics.kl_rows == 0 and not engine_class(cfg).exact:
        raise ConfigError(
            f"metrics.kl_rows=0: on these rows engine={engine} is compared with the trainer every iteration; "
            "type metrics.kl_rows=64"
        )


def _targets(node: Any, path: str) -> Iterator[tuple[str, DictConfig]]:
    if isinstance(node, DictConfig):
        if "_target_" in node:
            yield path, node
        for key in node:
            if not OmegaConf.is_missing(node, str(key)):
                yield from _targets(node[key], f"{path}.{key}".lstrip("."))
    elif isinstance(node, ListConfig):
        for i, item in enumerate(node):
            yield from _targets(item, f"{path}[{i}]")


def _check_target(path: str, node: DictConfig, plugins: list[str]) -> None:
    """A partial would hide a misspelt keyword until its first call, after a whole rollout."""
    target = str(node["_target_"])
    package = target.split(".")[0]
    if package not in ("winnow", *plugins):
        raise ConfigError(f"{path}._target_={target}: not part of winnow; type plugins=[{package}] if you trust it")
    try:
        known = inspect.signature(get_object(target)).parameters
    except Exception as error:
        raise ConfigError(f"{path}._target_={target}: {error}".replace("\n", " ")) from error
    for key in node:
        if str(key) not in known and not str(key).startswith("_"):
            near = get_close_matches(str(key), known)
            hint = f"did you mean {path}.{near[0]}?" if near else f"known: {', '.join(known)}"
            raise ConfigError(f"{path}.{key}: no such setting of {target}; {hint}")


def settings_without_effect(cfg: DictConfig, algorithm: Algorithm) -> list[str]:
    """Settings that are legal here and change nothing."""
    found = []
    if isinstance(algorithm, Preference | Supervised):
        return found
    updates = cfg["update"].minibatches * cfg["update"].epochs
    if updates == 1 and algorithm.objective.uses_ratio:
        found.append("one update per iteration: the ratio is 1 throughout, so algo/ratio and algo/clip change nothing")
    penalty = algorithm.objective.kl_in_loss
    if penalty is not None and rule_of(penalty.estimator) is kl.k1:
        found.append("k1 in the loss has a gradient of zero on average; algo/kl=k2 or algo.kl.place=reward penalises")
    if penalty is not None and penalty.reference == "previous" and updates == 1:
        found.append("one update per iteration: the previous policy is the current one, so algo.kl changes nothing")
    if algorithm.rejected == "zero" and rule_of(algorithm.select) is select.all_samples:
        found.append("algo/select=all rejects nothing, so algo.rejected changes nothing")
    if rule_of(algorithm.advantage) is advantage.reward and min(cfg.reward.wrong, cfg.reward.no_answer) >= 0:
        found.append("no reward is negative: wrong samples push nothing down (reward=plus_minus_one does)")
    return found
