"""Checks of a composed configuration against this machine and against the classes that it names."""

import inspect
from importlib.util import find_spec

import torch
from hydra._internal.utils import _locate
from omegaconf import DictConfig

from winnow.algorithm import ActorCritic, Algorithm, PolicyGradient, Supervised
from winnow.config import ranges
from winnow.config.instantiate import build_algorithm, choice, engine_class, on_cuda, samples_exactly
from winnow.config.notices import notices_of
from winnow.config.override_errors import close_matches, did_you_mean, one_line, target_nodes
from winnow.errors import ConfigError


def check_config(cfg: DictConfig) -> list[str]:
    """Check everything that can be known of a training configuration before its model and data are loaded.

    Returns:
        Notices about settings that have no effect, or not the effect that they seem to have.

    Raises:
        ConfigError: what is wrong, and what to type instead.
    """
    ranges.check_ranges(cfg)
    return check_components(cfg)


def check_components(cfg: DictConfig) -> list[str]:
    """Check the part of `check_config` that needs torch: machine, classes, algorithm and engine."""
    check_environment(cfg)
    algorithm = build_algorithm(cfg)
    _check_engine(cfg, algorithm)
    return notices_of(cfg, algorithm)


def check_environment(cfg: DictConfig) -> None:
    """Check that the machine has the devices that `cfg` asks for, and that every class it names may be built.

    Raises:
        ConfigError: what is wrong, and what to type instead.
    """
    if cfg.engine.get("graphs") and not on_cuda(cfg):
        raise ConfigError("engine.graphs=true: CUDA graphs need a GPU; leave it out, or type hardware=gpu")
    if cfg.hardware.accelerator == "cuda":
        present = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if cfg.hardware.devices > present:
            raise ConfigError(
                f"hardware.devices={cfg.hardware.devices}: torch can use {present} CUDA devices here; type hardware=cpu"
                + (f" or hardware.devices={present}" if present else "")
            )
    check_targets(cfg)


def check_targets(cfg: DictConfig) -> None:
    """Check that every `_target_` is in winnow or a package that `plugins` names, and takes the settings it is given.

    Raises:
        ConfigError: the first that does not.
    """
    for plugin in cfg.plugins:
        if find_spec(plugin.split(".")[0]) is None:
            raise ConfigError(f"plugins: no package {plugin} can be imported; install it, or leave it out")
    for path, node in target_nodes(cfg):
        _check_target(path, node, list(cfg.plugins))


def _check_engine(cfg: DictConfig, algorithm: Algorithm) -> None:
    exact, engine = samples_exactly(cfg), choice("engine")
    if isinstance(algorithm, PolicyGradient | ActorCritic) and algorithm.uses_correction and exact:
        raise ConfigError(
            f"algo/correction={choice('algo/correction')}: engine={engine} in float32 samples with the same "
            "log-probabilities as the trainer, so that there is nothing to correct; type algo/correction=none, "
            "or engine=vllm"
        )
    if cfg.rollout.max_mismatch_kl is not None and (cfg.metrics.kl_rows == 0 or isinstance(algorithm, Supervised)):
        raise ConfigError(
            f"rollout.max_mismatch_kl={cfg.rollout.max_mismatch_kl}: sampler and policy are not compared in this run; "
            "leave it out"
        )
    if not isinstance(algorithm, Supervised) and cfg.metrics.kl_rows == 0 and not engine_class(cfg).exact:
        raise ConfigError(
            f"metrics.kl_rows=0: engine={engine} is compared with the trainer on these rows in every iteration; "
            "type metrics.kl_rows=64"
        )


def _check_target(path: str, node: DictConfig, plugins: list[str]) -> None:
    # A node with `_partial_: true` would hide a misspelt keyword until its first call, after a whole rollout.
    target = str(node["_target_"])
    package = target.split(".")[0]
    if package not in ("winnow", *plugins):
        raise ConfigError(f"{path}._target_={target}: not part of winnow; type plugins=[{package}] if you trust it")
    try:  # not hydra.utils.get_object, which writes the error to stderr as well
        known = inspect.signature(_locate(target)).parameters
    except Exception as error:
        raise ConfigError(f"{path}._target_={target}: {one_line(str(error))}") from error
    for key in node:
        if str(key) not in known and not str(key).startswith("_"):
            near = [f"{path}.{name}" for name in close_matches(str(key), known)[:1]]
            hint = did_you_mean(near, f"known: {', '.join(known)}")
            raise ConfigError(f"{path}.{key}: no such setting of {target}; {hint}")
