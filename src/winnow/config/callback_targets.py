"""Callbacks that a run may have: Winnow's, those of Lightning's that observe, and those of trusted packages."""

from collections.abc import Sequence

from omegaconf import DictConfig
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import Checkpoint

from winnow.config.other_names import callback_meant_by
from winnow.config.override_errors import target_nodes
from winnow.config.targets import PACKAGE, check_target
from winnow.errors import ConfigError

LIGHTNING = "pytorch_lightning"
OBSERVERS = ("DeviceStatsMonitor", "LearningRateMonitor", "ModelSummary", "RichModelSummary")
"""Callbacks of Lightning's that change nothing; what to type instead of the others is in `other_names.yaml`."""


def check_callbacks(cfg: DictConfig) -> None:
    """Check every class below `callbacks`: that of a callback by `check_callback`, and others as those of any node.

    Raises:
        ConfigError: the first that is refused.
    """
    trusted = list(cfg.plugins)
    for path, node in target_nodes(cfg.callbacks, "callbacks"):
        if path.count(".") == 1:  # `callbacks.NAME`, and not something inside one
            check_callback(path, node, trusted)
        else:
            check_target(path, node, trusted)


def check_callback(path: str, node: DictConfig, trusted: Sequence[str]) -> None:
    """Check the class of a callback and its settings.

    Raises:
        ConfigError: it is no callback, or one of Lightning's that changes what is learnt or does what Winnow does, or
            of a package that is not trusted; the message says what to type instead.
    """
    target = str(node["_target_"])
    package, name = target.partition(".")[0], target.rpartition(".")[2]
    if target.startswith("lightning.pytorch."):
        instead = target.replace("lightning.pytorch.", f"{LIGHTNING}.", 1)
        raise ConfigError(
            f"{path}._target_={target}: Lightning is installed as {LIGHTNING}; type {path}._target_={instead}"
        )
    if package == LIGHTNING and name not in OBSERVERS and LIGHTNING not in trusted:
        other = callback_meant_by(name)
        does = f"type {other.type}" if other is not None and other.type else "leave it out"
        why = f" ({other.note})" if other is not None and other.note else ""
        raise ConfigError(f"{path}._target_={target}: no callback that observes{why}; {does}")
    found = check_target(path, node, trusted, (PACKAGE, LIGHTNING))
    if isinstance(found, type) and (not issubclass(found, Callback) or issubclass(found, Checkpoint)):
        raise ConfigError(
            f"{path}._target_={target}: no callback of Lightning's that observes; name a subclass of "
            f"{LIGHTNING}.Callback, or leave it out"
        )
