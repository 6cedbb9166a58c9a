"""Nodes of a configuration: the objects that are built from them, and the choices behind them.

Nothing here imports torch, so that what needs no model is built without the import, which takes seconds.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from winnow.config.override_errors import composition_error
from winnow.errors import ConfigError
from winnow.rewards.verifier import Verifier


def build_node(node: DictConfig, **arguments: object) -> Any:
    """The object of the node's `_target_`, built from the node's settings and further `arguments`.

    Raises:
        ConfigError: the object, or one inside it, refuses its settings.
    """
    try:
        # _convert_: otherwise ListConfig and DictConfig leak into the package.
        return instantiate(node, _convert_="all", **arguments)
    except InstantiationException as error:
        if isinstance(error.__cause__, ConfigError):
            raise error.__cause__ from None
        if isinstance(error.__cause__, TypeError) and "missing" in str(error.__cause__):  # a setting was removed
            raise ConfigError(composition_error(error)) from error
        raise


def choice(group: str) -> str:
    """The option chosen for a config group, such as "grpo" for `algo`."""
    return str(HydraConfig.get().runtime.choices.get(group))


def plain_config(cfg: DictConfig) -> dict[str, object]:
    """The configuration as plain dictionaries and lists, interpolations resolved."""
    plain = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def hash_of(plain: object) -> str:
    """SHA-256 of plain settings, in which the order of keys does not matter; keys may be texts and numbers."""

    def in_order(node: object) -> object:
        if isinstance(node, Mapping):
            return {str(key): in_order(node[key]) for key in sorted(node, key=str)}
        return [in_order(each) for each in node] if isinstance(node, list) else node

    return hashlib.sha256(json.dumps(in_order(plain), default=str).encode()).hexdigest()


def verifier_of(cfg: DictConfig, benchmark: str | None) -> Verifier:
    """The verifier of the benchmark, or that of the rewards where there is no such benchmark."""
    node = cfg.benchmarks[benchmark].verifier if benchmark in cfg.benchmarks else cfg.reward.verifier
    return build_node(node)
