"""All that only observes a run, built from the nodes `logger`, `trainer` and `callbacks`."""

import inspect

import pytorch_lightning as pl
from hydra.utils import get_object
from omegaconf import DictConfig
from pytorch_lightning.callbacks import Checkpoint

from winnow.config.nodes import build_node
from winnow.errors import ConfigError
from winnow.run_logs.console import print_line
from winnow.run_logs.tracker import Tracker
from winnow.run_logs.tracker_threads import Trackers
from winnow.training.lightning_settings import TrainerSettings


def trackers_of(cfg: DictConfig) -> Tracker:
    """All trackers that `logger=` chooses, as one."""
    return Trackers({str(name): _tracker(node) for name, node in cfg.logger.items()}, print_line)


def trainer_settings(cfg: DictConfig) -> TrainerSettings:
    """The arguments of Lightning's Trainer that the run chooses, with its callbacks.

    Raises:
        ConfigError: a `_target_` gives no callback.
    """
    callbacks: dict[str, pl.Callback] = {}
    for name, node in cfg.callbacks.items():
        built = build_node(node)
        if not isinstance(built, pl.Callback) or isinstance(built, Checkpoint):
            kind = type(built).__name__
            raise ConfigError(f"callbacks.{name}._target_={node['_target_']}: gives {kind}, no callback that observes")
        callbacks[str(name)] = built
    return TrainerSettings(**cfg.trainer, callbacks=callbacks)


def _tracker(node: DictConfig) -> Tracker:
    takes_say = "say" in inspect.signature(get_object(node["_target_"])).parameters
    return build_node(node, **({"say": print_line} if takes_say else {}))
