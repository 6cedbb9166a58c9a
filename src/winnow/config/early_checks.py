"""Checks of a composed configuration that need neither torch nor weights: rewards, verifiers, data, the model's files.

Nothing here imports torch, so that a misspelt function or an answer that cannot be read is found within a second or
two. A package of the user's own may import what it likes.
"""

from functools import cache

from omegaconf import DictConfig

from winnow.config.data_check import check_data
from winnow.config.reward_functions import check_reward_functions, has_functions
from winnow.config.targets import check_nodes, check_plugins
from winnow.models.hub import require_model

SECTIONS = ("reward", "dataset", "benchmarks", "curriculum")
"""Sections whose classes are in modules that do not import torch."""


def check_early(cfg: DictConfig) -> None:
    """Check the classes and functions of rewards, verifiers and data, then the files of the data and of the model.

    Raises:
        ConfigError: what is wrong, and what to type instead.
    """
    check_plugins(cfg.plugins)
    for section in SECTIONS:
        check_nodes(cfg, section)
    if has_functions(cfg):
        check_reward_functions(cfg)
    check_data(cfg)
    if str(cfg.model["_target_"]).startswith("winnow.") and isinstance(path := cfg.model.get("path"), str):
        _check_model(path)


@cache
def _check_model(path: str) -> None:
    """Check the model at `path`, once for all jobs of a sweep that have the same."""
    require_model(path)
