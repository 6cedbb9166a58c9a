"""Objects from configuration nodes."""

from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig

from winnow.algorithm import Algorithm
from winnow.errors import ConfigError


def build_algorithm(cfg: DictConfig) -> Algorithm:
    return build_node(cfg.algo)


def build_node(node: DictConfig, **more: object) -> Any:
    try:
        # _convert_: otherwise ListConfig and DictConfig leak into the package.
        return instantiate(node, _convert_="all", **more)
    except InstantiationException as error:
        if isinstance(error.__cause__, ConfigError):
            raise error.__cause__ from None
        raise


def choice(group: str) -> str:
    """The option chosen for a config group, as the user typed it."""
    return str(HydraConfig.get().runtime.choices.get(group))
