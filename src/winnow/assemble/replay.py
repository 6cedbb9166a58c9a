"""`winnow replay FILE`: the model of a dump with its weights, and a report of the first number that is not finite."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor

from winnow.algorithm import ActorCritic
from winnow.assemble import common
from winnow.assemble.training import module_of
from winnow.config import checks
from winnow.config.instantiate import build_algorithm, precision_of
from winnow.config.saved_runs import read_saved_run
from winnow.errors import DONE, NOT_REPRODUCED, ConfigError
from winnow.guards.fault_file import Dump, read_dump
from winnow.guards.replay import Replayable, Stage, replay
from winnow.models.policy import Critic, Policy
from winnow.models.precision import WEIGHTS
from winnow.packed import Packed
from winnow.training.checkpoint import STATE, load_state
from winnow.training.modules import IterationModule

NEEDED = ("algo", "model", "optim", "plugins", "rollout")
"""Sections of a configuration from which a model and its objective are built."""


def replay_dump(path: Path, out: TextIO) -> int:
    """Compute the numbers of the dump `path` again, write what is found to `out`, and return the exit code.

    Raises:
        ConfigError: it is no dump, or its model or its checkpoint cannot be loaded.
    """
    common.quiet_libraries()
    dump = read_dump(path)
    fault = dump.fault
    out.write(f"iteration {fault.iteration}: {fault.site} not finite, {len(fault.rows)} rows\n")
    module = _module(dump, path)
    out.write(f"weights: {_load_weights(module, dump, path)}\n")
    stages = replay(dump, _replayable(module))
    for stage in stages:
        out.write(f"{stage.name}: {stage.found or 'finite'}\n")
    out.write(f"{_conclusion(stages)}\n")
    return DONE if any(stage.found for stage in stages) else NOT_REPRODUCED


def _conclusion(stages: list[Stage]) -> str:
    first = next((stage for stage in stages if stage.found), None)
    if first is None:
        return "not reproduced: all numbers are finite"
    if first.recomputed:
        return f"reproduced, first in the {first.name}: {first.found}"
    return (
        f"reproduced from the recorded numbers alone: {first.found}; computed anew from the same tokens and weights it "
        "is finite, so that it did not come from them"
    )


def _module(dump: Dump, path: Path) -> IterationModule:
    if missing := [key for key in NEEDED if key not in dump.config]:
        raise ConfigError(f"{path}: its configuration has no section {missing[0]}; type the path of another dump")
    try:
        cfg = OmegaConf.create(dict(dump.config))
        with suppress(ConfigError):  # a dump may have been taken out of its run
            read_saved_run(path.absolute().parent.parent).import_plugins()
        checks.check_targets(cfg)
        return _built(cfg)
    except (OmegaConfBaseException, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: its configuration cannot be used ({error})") from error


def _built(cfg: DictConfig) -> IterationModule:
    algorithm = build_algorithm(cfg)
    language_model = common.model_source(cfg).load()
    language_model.model.to(dtype=WEIGHTS[precision_of(cfg)])  # pyright: ignore[reportCallIssue]
    critic = Critic(language_model.model) if isinstance(algorithm, ActorCritic) else None
    return module_of(cfg, algorithm, Policy(language_model.model, cfg.rollout.temperature), critic)


def _load_weights(module: IterationModule, dump: Dump, path: Path) -> str:
    """Load the weights of the dump, or else of the checkpoint that it names; return where they come from."""
    if dump.weights:
        _load(module, dump.weights, path)
        return "those at the time of the fault"
    if dump.checkpoint is None:
        return "those that the run began with; neither the dump nor a checkpoint holds later ones"
    state = path.absolute().parent.parent / dump.checkpoint / STATE
    if not state.exists():
        raise ConfigError(f"{path}: needs the checkpoint {state.parent}, which is not there; copy it back")
    _load(module, load_state(state)["state_dict"], state)
    return f"those of {state.parent}, the last checkpoint before the fault"


def _load(module: IterationModule, weights: Mapping[str, Tensor], path: Path) -> None:
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    other = [name for name, p in trained.items() if name not in weights or weights[name].shape != p.shape]
    if other:
        raise ConfigError(f"{path}: holds no weight {other[0]} of the shape that the model has; type another dump")
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(weights[name])


def _replayable(module: IterationModule) -> Replayable:
    critic = getattr(module, "critic", None)

    def forward(rows: Packed) -> list[Tensor]:
        values = [] if critic is None else [critic(rows)]
        return [module.policy(rows).logprobs, *values]

    return Replayable(module, forward, lambda batch: module.compute(batch).loss.value)
