"""Devices of a run: how many `hardware.devices=auto` stands for, and how many GPUs a job of a sweep is to get."""

import torch
from omegaconf import DictConfig

from winnow.algorithm import Algorithm
from winnow.assemble.preflight import available_bytes, fits_whole, training_plan
from winnow.config.instantiate import on_cuda
from winnow.models.language_model import ModelSource
from winnow.models.memory import shape_of
from winnow.process_group import is_guest, launched_from_outside


def on_devices(cfg: DictConfig, count: int) -> DictConfig:
    """The configuration with `count` in the place of `hardware.devices=auto`."""
    if cfg.hardware.devices != "auto":
        return cfg
    cfg = cfg.copy()
    cfg.hardware.devices = count
    return cfg


def chosen_devices(cfg: DictConfig, algorithm: Algorithm, source: ModelSource) -> int:
    """The number of processes on this machine that `hardware.devices=auto` stands for in a training run.

    They are as many as torchrun or srun has started. Else it is one, and every GPU where a whole model does not fit
    one, or where a strategy of several devices is named.
    """
    outside = launched_from_outside()
    if outside is not None:
        return outside.ranks_here or outside.ranks // cfg.hardware.nodes
    present = _gpus_to_train_on(cfg) if on_cuda(cfg) and not is_guest() else 1
    if present <= 1 or cfg.hardware.strategy != "auto":
        return max(1, present)
    alone = on_devices(cfg, 1)
    shape, plan = shape_of(source), training_plan(alone, algorithm, source.lora is not None)
    return 1 if shape is None or fits_whole(shape, plan, available_bytes(alone)) else present


def gpus_of_job(cfg: DictConfig, at_once: int) -> int:
    """The number of GPUs that a job of a sweep is to have for itself, where `at_once` jobs run at a time.

    They are the trainer's, and those of a server that it starts. With `hardware.devices=auto` it is the job's share of
    the GPUs of this machine. A run on a CPU gets none.
    """
    if not on_cuda(cfg):
        return 0
    if cfg.hardware.devices == "auto":
        return max(1, torch.cuda.device_count() // at_once)
    trainers = int(cfg.hardware.devices)
    return max([trainers, *(gpu + 1 for gpu in _of_server(cfg, trainers))])


def _gpus_to_train_on(cfg: DictConfig) -> int:
    """The first GPUs of this machine, as many as a server that the run starts leaves."""
    present = torch.cuda.device_count()
    return min([present, *_of_server(cfg, present - 1)])


def _of_server(cfg: DictConfig, trainers: int) -> list[int]:
    """Numbers of the GPUs of the server that the run starts after its `trainers` ones, if it does."""
    if "url" not in cfg.engine or cfg.engine.url is not None:
        return []
    return [trainers] if cfg.engine.devices is None else [int(gpu) for gpu in cfg.engine.devices]
