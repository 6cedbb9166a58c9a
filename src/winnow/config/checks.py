"""Checks of a composed configuration against this machine and against the classes that it names."""

import torch
from hydra.utils import get_object
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from winnow.algorithm import ActorCritic, Algorithm, PolicyGradient, Supervised
from winnow.config import ranges
from winnow.config.instantiate import (
    build_algorithm,
    engine_class,
    engine_is_exact,
    on_cuda,
    precision_of,
    samples_exactly,
)
from winnow.config.nodes import choice
from winnow.config.notices import notices_of
from winnow.config.override_errors import composition_error
from winnow.config.reward_functions import check_reward_functions, has_functions
from winnow.config.saved_runs import FOLDER, SavedRun
from winnow.config.targets import check_nodes, check_plugins
from winnow.errors import ConfigError
from winnow.process_group import launched_from_outside


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
    """Check the part of `check_config` that needs torch: algorithm, machine, engine, and all other classes.

    What takes longest to import, the classes of the model and of Lightning, comes last.
    """
    for section in ("algo", "engine"):
        check_nodes(cfg, section)
    algorithm = build_algorithm(cfg)
    _check_entropy(cfg)
    _check_machine(cfg)
    _check_engine(cfg, algorithm)
    notices = notices_of(cfg, algorithm)
    _check_classes(cfg)
    return notices


def check_environment(cfg: DictConfig) -> None:
    """Check that the machine has the devices that `cfg` asks for, and that every class it names may be built.

    Raises:
        ConfigError: what is wrong, and what to type instead.
    """
    check_nodes(cfg, "engine")
    _check_machine(cfg)
    _check_classes(cfg)


def _check_entropy(cfg: DictConfig) -> None:
    """Refuse a choice of the entropy coefficient that a number in an experiment's file replaces."""
    if choice("algo/entropy") == "adaptive" and not isinstance(cfg.algo.get("entropy"), DictConfig):
        raise ConfigError(
            f"algo/entropy=adaptive: an experiment or an override sets algo.entropy={cfg.algo.get('entropy')} in its "
            "place; leave out algo/entropy, or what sets the number"
        )


def _check_machine(cfg: DictConfig) -> None:
    if cfg.engine.get("graphs") and not on_cuda(cfg):
        raise ConfigError("engine.graphs=true: CUDA graphs need a GPU; leave it out, or type hardware=gpu")
    if cfg.hardware.offload and not on_cuda(cfg):
        raise ConfigError("hardware.offload=true: on a CPU shards are in main memory already; leave it out")
    if cfg.hardware.accelerator == "cuda":
        present = torch.cuda.device_count() if torch.cuda.is_available() else 0
        outside = launched_from_outside()
        devices = cfg.hardware.devices
        if devices == "auto":
            devices = (outside and outside.ranks_here) or 1
        if outside is not None and outside.name == "srun" and 0 < present < devices:
            raise ConfigError(
                f"hardware.devices={devices}: srun shows this process {present} of the GPUs here, and ranks count "
                "them all; start it with --gpus-per-node in place of --gpus-per-task, or --gpu-bind=none"
            )
        if devices > present:
            # With a strategy of its own, the group is about several processes, which a CPU has as well.
            instead = "hardware=cpu" if cfg.hardware.strategy == "auto" else "hardware.accelerator=cpu"
            raise ConfigError(
                f"hardware.devices={devices}: torch can use {present} CUDA devices here; type {instead}"
                + (f" or hardware.devices={present}" if present else "")
            )
    if precision_of(cfg) == "64-true" and not engine_class(cfg).exact:
        raise ConfigError(
            f"hardware.precision=64-true: engine={choice('engine')} does not sample in float64; type engine=torch, "
            "or hardware.precision=32-true"
        )


def _check_classes(cfg: DictConfig) -> None:
    check_targets(cfg)
    for node in cfg.logger.values():
        if (require := getattr(get_object(node["_target_"]), "require", None)) is not None:
            require()


def check_targets(cfg: DictConfig) -> None:
    """Check that every `_target_` is in winnow or a package that `plugins` names, and takes the settings it is given.

    Raises:
        ConfigError: the first that does not.
    """
    check_plugins(cfg.plugins)
    for section in cfg:
        if section != "callbacks":
            check_nodes(cfg, str(section))
    if has_functions(cfg):
        check_reward_functions(cfg)
    if cfg.get("callbacks"):
        from winnow.config.callback_targets import check_callbacks  # imports Lightning

        check_callbacks(cfg)


def check_saved(run: SavedRun, instead: str) -> None:
    """Check that the classes of a saved run's configuration can be built here and now.

    Raises:
        ConfigError: one of them cannot, or no longer exists; then the message ends with `instead`.
    """
    run.refuse_removed_targets(str(run.directory), instead)
    run.import_plugins()
    try:
        check_targets(run.cfg)
    except OmegaConfBaseException as error:
        raise ConfigError(
            f"{run.directory / FOLDER}: {composition_error(error)}; bring back the run's own files"
        ) from error


def check_correction(cfg: DictConfig, algorithm: Algorithm) -> None:
    """Refuse a correction where the sampler is the trainer.

    Raises:
        ConfigError: what to type instead.
    """
    corrects = isinstance(algorithm, PolicyGradient | ActorCritic) and algorithm.uses_correction
    if corrects and samples_exactly(cfg):
        engine = choice("engine")
        raise ConfigError(
            f"algo/correction={choice('algo/correction')}: engine={engine} samples with the same log-probabilities "
            f"as the trainer in hardware.precision={precision_of(cfg)}, so that there is nothing to correct; "
            "type algo/correction=none, or engine=vllm, or engine/alter=int8 for a sampler that is off on purpose"
        )


def _check_engine(cfg: DictConfig, algorithm: Algorithm) -> None:
    check_correction(cfg, algorithm)
    engine = choice("engine")
    if cfg.rollout.max_mismatch_kl is not None and (cfg.metrics.kl_rows == 0 or isinstance(algorithm, Supervised)):
        raise ConfigError(
            f"rollout.max_mismatch_kl={cfg.rollout.max_mismatch_kl}: sampler and policy are not compared in this run; "
            "leave it out"
        )
    if not isinstance(algorithm, Supervised) and cfg.metrics.kl_rows == 0 and not engine_is_exact(cfg):
        raise ConfigError(
            f"metrics.kl_rows=0: engine={engine} is compared with the trainer on these rows in every iteration; "
            "type metrics.kl_rows=64"
        )
