"""Check of the data files that a configuration names, before torch is imported and a model is loaded.

Nothing here imports torch, so that a missing file or a wrong row is found within a second or two.
"""

import inspect
from collections.abc import Callable, Sequence
from functools import cache
from typing import cast

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from winnow.config.heldout_files import benchmarks_of, heldout_files, holds_out
from winnow.config.mixture_parts import dataset_node
from winnow.config.nodes import build_node
from winnow.config.override_errors import composition_error, target_nodes
from winnow.config.targets import check_target
from winnow.data.arithmetic import Arithmetic
from winnow.data.collection import Collection
from winnow.data.mixture import Mixture
from winnow.data.problems import Problem
from winnow.data.reasoning_gym import ReasoningGym
from winnow.errors import ConfigError


def check_data(cfg: DictConfig) -> None:
    """Read the local data files of `cfg`, where they are of a moderate size, and check that the others exist.

    Answers are checked by the verifier that will judge them, where it is Winnow's.

    Raises:
        ConfigError: a file is missing or damaged, or holds rows that are no problems or have no readable answer.
    """
    hold_out = holds_out(cfg)
    problems = check_dataset(cfg, hold_out)
    if problems is not None and OmegaConf.select(cfg, "curriculum.column") is not None and _is_ours(cfg.curriculum):
        build_node(cfg.curriculum).order(problems, 0, False)  # which needs the column of every problem
    for name in benchmarks_of(cfg):
        check_benchmark(cfg, name)
    if _is_ours(cfg.dataset):
        golds = _Golds(OmegaConf.to_yaml(cfg.reward.verifier, resolve=True))
        for file in heldout_files(cfg):
            file.require_files("dataset", hold_out, golds.bad)


def check_dataset(cfg: DictConfig, hold_out: bool) -> Sequence[Problem] | None:
    """Check the files of the dataset alone, as `check_data`; its training problems, if they were read."""
    verifier = OmegaConf.to_yaml(cfg.reward.verifier, resolve=True)
    return _check(OmegaConf.to_yaml(dataset_node(cfg), resolve=True), "dataset", hold_out, verifier)


def check_benchmark(cfg: DictConfig, name: str) -> None:
    """Check the files of one benchmark alone, as `check_data`."""
    node = cfg.benchmarks[name]
    verifier = OmegaConf.to_yaml(node.verifier, resolve=True)
    _check(OmegaConf.to_yaml(node, resolve=True), f"benchmarks.{name}", False, verifier)


OF_A_TEXT = ("gold", "demonstration")
"""Settings of a dataset that are functions of a field's text."""


def _require_text_function(path: str, node: DictConfig, found: object) -> None:
    settings = {str(name): None for name in node if not str(name).startswith("_")}
    try:
        inspect.signature(cast(Callable[..., object], found)).bind("", **settings)
    except TypeError as error:
        raise ConfigError(
            f"{path}._target_={node['_target_']}: cannot be called with a text ({error}); "
            f"type {path}._target_=winnow.data.collection.verbatim"
        ) from error


def _is_ours(node: DictConfig) -> bool:
    return all(str(inner["_target_"]).startswith("winnow.") for _, inner in target_nodes(node))


class _Golds:
    """The golds that the verifier of a YAML text cannot read; of a verifier that is not Winnow's nothing is known."""

    def __init__(self, verifier: str) -> None:
        self.verifier = verifier

    def bad(self, golds: Sequence[str]) -> Sequence[int]:
        node = OmegaConf.create(self.verifier)
        assert isinstance(node, DictConfig)
        if not _is_ours(node):
            return []
        with build_node(node) as verifier:
            return verifier.check_golds(golds)


@cache
def _check(text: str, key: str, hold_out: bool, verifier: str) -> Sequence[Problem] | None:
    """Check one node, once for all jobs of a sweep that have the same; its problems, if they were read."""
    node = OmegaConf.create(text)
    assert isinstance(node, DictConfig)
    if not _is_ours(node):
        return None  # the package of another is not imported before all settings are checked
    for path, inner in target_nodes(node):
        found = check_target(f"{key}.{path}" if path else key, inner, [])
        if path.split(".")[-1] in OF_A_TEXT:
            _require_text_function(f"{key}.{path}", inner, found)
    try:
        source = instantiate(node, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, ConfigError):
            raise error.__cause__ from None
        raise ConfigError(f"{key}: {composition_error(error).removeprefix(': ')}") from error  # a setting was removed
    bad_golds = _Golds(verifier).bad
    if isinstance(source, Collection):
        return source.require_files(key, hold_out, bad_golds)
    if isinstance(source, Mixture | ReasoningGym):
        source.require_files(key, hold_out, bad_golds)
    return source.load(bad_golds, hold_out).train if isinstance(source, Arithmetic) else None
