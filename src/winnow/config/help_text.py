"""Text of `--help`: config groups with their choices and keys with their values, for the templates in `conf/hydra/help`.

Hydra prints the template. Its interpolations `${winnow.groups:[…]}`, `${winnow.keys:[…]}` and `${winnow.choices:…}` call
the functions of this module.
"""

import textwrap
from collections.abc import Collection, Iterator
from pathlib import Path

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError

from winnow.config.groups import Groups
from winnow.config.override_errors import close_matches, did_you_mean

WIDTH = 100
LABEL = 16
"""Columns of a line, and those that its label takes."""


def register_help() -> None:
    """Register the interpolations of the help templates with OmegaConf."""
    for name, text in {"groups": _groups, "keys": _keys, "choices": _choices}.items():
        OmegaConf.register_new_resolver(f"winnow.{name}", text, replace=True)


def template_of(group: str) -> str:
    """The override by which `--help` prints the choices of one group."""
    return f"hydra.help.template='${{winnow.choices:{group}}}'"


def _groups(names: Collection[str], *, _root_: DictConfig) -> str:
    """A paragraph for each group, with a further one for each folder of choices, such as paper/ of `experiment`."""
    groups, chosen = _loaded_groups(_root_), _root_.hydra.runtime.choices
    lines = []
    for name in names:
        folders: dict[str, list[str]] = {}
        for choice in groups.choices(name, nested=names):
            folder, _, word = choice.rpartition("/")
            folders.setdefault(folder, []).append(f"[{word}]" if choice == chosen.get(name) else word)
        lines += [_paragraph(f"  {f}/" if f else name, " ".join(words)) for f, words in folders.items()]
    return _escaped("\n".join(lines))


def _keys(names: Collection[str], *, _root_: DictConfig) -> str:
    found = {name: OmegaConf.select(_root_, name, throw_on_missing=False) for name in names}
    return _escaped("  " + "  ".join(f"{name}={_value(value)}" for name, value in found.items()))


def _value(value: object) -> str:
    return "null" if value is None else str(value).replace(" ", "").replace("'", "")


def _choices(name: str, *, _root_: DictConfig) -> str:
    """A paragraph for each choice of a group: the first comment of its YAML."""
    groups = _loaded_groups(_root_)
    if not groups.choices(name):
        known = groups.names()
        hint = did_you_mean(close_matches(name, known), f"groups: {', '.join(known)}")
        raise InterpolationResolutionError(f"--help {name}: no such group; {hint}")
    comments = {choice: _first_comment(groups.loader, f"{name}/{choice}") for choice in groups.choices(name)}
    columns = max(map(len, comments))
    return _escaped("\n".join([f"{name}=", *(_paragraph(choice, text, columns) for choice, text in comments.items())]))


def _loaded_groups(root: DictConfig) -> Groups:
    loader = GlobalHydra.instance().config_loader()
    assert isinstance(loader, ConfigLoaderImpl)
    return Groups(loader, root.hydra.job.config_name)


def _first_comment(loader: ConfigLoaderImpl, name: str) -> str:
    paths = (Path(source.path, f"{name}.yaml") for source in loader.get_sources() if source.scheme() == "file")
    text = next((path.read_text(encoding="utf-8") for path in paths if path.is_file()), "")
    return next(_comments(text), "")


def _comments(text: str) -> Iterator[str]:
    """The comments at the beginning of a YAML, without Hydra's own, such as `# @package _global_`."""
    for line in text.splitlines():
        if line.startswith("# ") and not line.startswith("# @"):
            yield line.removeprefix("# ")


def _paragraph(label: str, text: str, columns: int = LABEL) -> str:
    first, rest = f"  {label:{columns}} ", " " * (columns + 3)
    return textwrap.fill(text, WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)


def _escaped(text: str) -> str:
    return text.replace("$", "$$")  # Hydra fills in the template by string.Template
