"""The directory of a user's own YAML files: where it is looked for, and when Python files beside it are imported."""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_store import ConfigStore

from winnow.errors import ConfigError

VARIABLE = "WINNOW_CONFIG_DIR"
"""Environment variable that stands for `--config-dir`."""
BESIDE = Path("conf")
"""The directory that an installed Winnow takes where nothing is named."""
OF_ANOTHER_PROGRAM = "train.yaml"
"""A `conf/` with this file is Winnow's own, or another program's."""


def unnamed_directory(installed: bool) -> str | None:
    """The directory that holds where no `--config-dir` is typed: that of `WINNOW_CONFIG_DIR`, or `./conf`.

    `./conf` counts only if Winnow was `installed`, and not started by a script of its repository.

    Raises:
        ConfigError: the variable names no directory.
    """
    if named := os.environ.get(VARIABLE):
        if not Path(named).is_dir():
            raise ConfigError(f"{VARIABLE}={named}: no such directory; set it to a folder of YAML, or unset it")
        return named
    if installed and BESIDE.is_dir() and not (BESIDE / OF_ANOTHER_PROGRAM).exists():
        return str(BESIDE)
    return None


def require_readable(directory: Path | str | None) -> None:
    """Check the YAML files of a user's own `directory` one by one, so that a message names the file.

    Raises:
        ConfigError: a file is no UTF-8 text or no group of settings, or refers to itself.
    """
    if directory is None:
        return
    files = sorted(path for path in Path(directory).resolve().rglob("*.yaml") if path.is_file())
    chosen = {path: _require_settings(path) for path in files}
    for path in files:
        if circle := _circle(path, chosen):
            way = " -> ".join(found.stem for found in circle)
            raise ConfigError(f"{path}: its defaults lead back to it ({way}); remove one of them")


def require_chosen(directory: Path | str | None, choices: Iterable[tuple[str, object]]) -> None:
    """Check those YAML files of a user's own `directory` that `choices` name, each a group with a choice or several.

    Hydra takes a file that is a list in silence, and what is missing then is told without its path.

    Raises:
        ConfigError: a file is no UTF-8 text or no group of settings.
    """
    if directory is None:
        return
    for group, value in choices:
        for name in value if isinstance(value, list) else [value]:
            if isinstance(name, str) and (path := Path(directory).resolve() / group / f"{name}.yaml").is_file():
                _require_settings(path)


def refuse_schemas(directory: Path | str | None) -> None:
    """Check that no file of a user's own `directory` has the name of a schema of Winnow, Hydra or a plug-in.

    Hydra would merge the two, with several lines of warnings.

    Raises:
        ConfigError: the first that has.
    """
    if directory is not None:
        for name in _schemas(ConfigStore.instance().repo):
            if (path := Path(directory).resolve() / name).is_file():
                raise ConfigError(f"{path}: has the name of a schema of Winnow or Hydra; give it another name")


def refuse_equal_names(directory: Path | str | None, conf: Path) -> None:
    """Check that no file of a user's own `directory` has the name of one in `conf`, Winnow's own folder.

    Hydra takes the latter in silence, so that the former would do nothing.

    Raises:
        ConfigError: the first that has.
    """
    if directory is None or (home := Path(directory).resolve()) == conf.resolve():
        return
    for ours in sorted(conf.rglob("*.yaml")):
        if (path := home / ours.relative_to(conf)).is_file():
            raise ConfigError(
                f"{path}: Winnow has a file of that name, which would be read in its place; "
                f"give yours another, such as my_{path.name}"
            )


def _schemas(store: Mapping[str, Any], below: str = "") -> Iterator[str]:
    for name, entry in store.items():
        if isinstance(entry, dict):
            yield from _schemas(entry, f"{below}{name}/")
        else:
            yield below + name


def _require_settings(path: Path) -> list[Path]:
    """The files beside it that the defaults of a file of settings name."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, yaml.reader.ReaderError) as error:
        raise ConfigError(f"{path}: not UTF-8 text; write it anew") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: too deep to read; write it with fewer levels") from error
    except (OSError, ValueError, yaml.YAMLError):
        return []  # Hydra says it with the line, if the file is chosen at all
    if content is not None and not isinstance(content, dict):
        raise ConfigError(f"{path}: a {type(content).__name__}, not settings; write KEY: VALUE on its lines")
    if _holds_itself(content, ()):
        raise ConfigError(f"{path}: an anchor (&) holds itself; write its value out")
    defaults = (content or {}).get("defaults", [])
    if not isinstance(defaults, list):
        raise ConfigError(f"{path}: `defaults` is {defaults!r}; write a list, such as [base, _self_]")
    return [path.parent / f"{name}.yaml" for name in defaults if isinstance(name, str)]


def _holds_itself(value: object, above: tuple[int, ...]) -> bool:
    if id(value) in above:
        return True
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(_holds_itself(part, (*above, id(value))) for part in parts)


def _circle(path: Path, chosen: Mapping[Path, Sequence[Path]]) -> list[Path] | None:
    """The way from a file by way of the defaults of others back to it; None if there is none."""
    ways, seen = [[path]], set[Path]()
    while ways:
        way = ways.pop()
        for following in chosen.get(way[-1], ()):
            if following == path:
                return [*way, path]
            if following not in seen:
                seen.add(following)
                ways.append([*way, following])
    return None


def import_beside(directory: Path | str | None, plugins: Sequence[str]) -> None:
    """Have the trusted `plugins` that lie beside `directory` imported from there, in this process and its workers.

    The folder is the last of the import path, so that nothing in it takes the place of an installed package.

    Raises:
        ConfigError: an installed package has the name of a plug-in there.
    """
    if directory is None:
        return
    home = Path(directory).resolve().parent
    for name in (plugin.split(".")[0] for plugin in plugins):
        found = PathFinder.find_spec(name, [str(home)]) if name.isidentifier() else None
        if found is None:
            continue
        if str(home) not in sys.path:
            sys.path.append(str(home))
        known = PathFinder.find_spec(name)
        if known is not None and known.origin not in (None, found.origin):
            raise ConfigError(
                f"plugins=[{name}]: {home / name} has the name of an installed package ({known.origin}); rename it"
            )
