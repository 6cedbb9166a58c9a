"""The directory of a user's own YAML files: where it is looked for, and when Python files beside it are imported."""

import os
import sys
from collections.abc import Sequence
from importlib.machinery import PathFinder
from pathlib import Path

from winnow.errors import ConfigError

VARIABLE = "WINNOW_CONFIG_DIR"
"""Environment variable that stands for `--config-dir`."""
BESIDE = Path("conf")
"""The directory that an installed Winnow takes where nothing is named."""
OF_ANOTHER_PROGRAM = "train.yaml"
"""A `conf/` with this file is Winnow's own, or another program's: its choices would replace those of Winnow."""


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
