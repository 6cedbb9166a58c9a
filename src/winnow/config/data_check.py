"""Check of the data files that a configuration names, before torch is imported and a model is loaded.

Nothing here imports torch, so that a missing file or a wrong row is found within a second or two.
"""

from functools import cache

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from winnow.config.heldout_files import benchmarks_of, heldout_files, holds_out
from winnow.config.override_errors import target_nodes
from winnow.config.targets import check_target
from winnow.data.collection import Collection
from winnow.data.mixture import Mixture
from winnow.errors import ConfigError


def check_data(cfg: DictConfig) -> None:
    """Read the local data files of `cfg`, where they are of a moderate size, and check that the others exist.

    Whether a verifier can read the answers is not known before there is one.

    Raises:
        ConfigError: a file is missing or damaged, or holds rows that are no problems.
    """
    hold_out, names = holds_out(cfg), benchmarks_of(cfg)
    nodes = {"dataset": cfg.dataset} | {f"benchmarks.{name}": cfg.benchmarks[name] for name in names}
    for key, node in nodes.items():
        _check(OmegaConf.to_yaml(node, resolve=True), key, hold_out)
    if _is_ours(cfg.dataset):
        for file in heldout_files(cfg):
            file.require_files("dataset", hold_out)


def _is_ours(node: DictConfig) -> bool:
    return all(str(inner["_target_"]).startswith("winnow.") for _, inner in target_nodes(node))


@cache
def _check(text: str, key: str, hold_out: bool) -> None:
    """Check one node, once for all jobs of a sweep that have the same."""
    node = OmegaConf.create(text)
    assert isinstance(node, DictConfig)
    if not _is_ours(node):
        return  # the package of another is not imported before all settings are checked
    for path, inner in target_nodes(node):
        check_target(f"{key}.{path}" if path else key, inner, [])
    try:
        source = instantiate(node, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, ConfigError):
            raise error.__cause__ from None
        return  # a setting is missing, which the building of the run says better
    if isinstance(source, Collection | Mixture):
        source.require_files(key, hold_out)
