"""`winnow new DIR`: a project outside of the repository, with a conf tree, a package, one reward and its test."""

import re
from importlib.machinery import PathFinder
from importlib.resources import files
from importlib.resources.abc import Traversable
from keyword import iskeyword
from pathlib import Path

from winnow.errors import ConfigError

PLACEHOLDER, SUFFIX = "PACKAGE", ".tmpl"


def write_project(directory: Path) -> str:
    """Write the project, and return lines that say what to type next.

    Its package is called like the directory: `my-project` has the package `my_project`.

    Raises:
        ConfigError: the directory holds something, cannot be made, or has a name that no package can have.
    """
    if not directory.name.isprintable():
        raise ConfigError(f"{str(directory)!r}: has a character that cannot be seen; type another name")
    package = re.sub(r"\W", "_", directory.resolve().name).lower()
    if not package.isidentifier() or iskeyword(package) or not package.isascii():
        raise ConfigError(f"{directory}: no package can be called {package!r}; type another name, such as my_project")
    if PathFinder.find_spec(package) is not None:
        raise ConfigError(
            f"{directory}: there is a package {package} already, which Python would import instead; type another name"
        )
    try:
        if directory.exists() and any(directory.iterdir()):
            raise ConfigError(f"{directory}: holds something already; type the name of a new directory")
        _write(files("winnow") / "assets" / "project", directory, package)
    except OSError as error:
        raise ConfigError(f"{directory}: cannot be written ({error.strerror}); type another directory") from error
    return f"{directory}: written; next:\n  cd {directory}\n  winnow train experiment=first plugins=[{package}]"


def _write(template: Traversable, target: Path, package: str) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for entry in template.iterdir():
        path = target / entry.name.replace(PLACEHOLDER, package).removesuffix(SUFFIX)
        if entry.is_dir():
            _write(entry, path, package)
        elif entry.name.endswith(SUFFIX):
            path.write_text(entry.read_text(encoding="utf-8").replace(PLACEHOLDER, package), encoding="utf-8")
