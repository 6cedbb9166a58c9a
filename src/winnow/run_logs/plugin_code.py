"""Code of the packages that a run trusts (`plugins`), recorded by its hash, so that an edited file is noticed."""

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path

from winnow.files import sha256_of

INSTALLED = frozenset(("site-packages", "dist-packages"))
"""Folders of packages that were installed, whose version says what their code is."""
SHOWN = 12
"""Digits of a hash that a line shows."""


def code_of(packages: Iterable[str]) -> dict[str, str]:
    """The SHA-256 of the file of each imported module of `packages`, by the module's name, and of what these import
    from the folder that the package is in.

    Of a package that was installed, and not imported from a folder of its own, there is its version alone.
    """
    found: dict[str, str] = {}
    for package in dict.fromkeys(name.split(".")[0] for name in packages):
        files = _files_of(package)
        if any(INSTALLED & {*file.parts} for file in files.values()):
            try:
                found[package] = metadata.version(package)
            except metadata.PackageNotFoundError:  # the distribution has another name than its package
                continue
        else:
            found |= {name: sha256_of(file) for name, file in sorted(_with_neighbours(files).items())}
    return found


def _files_of(package: str) -> dict[str, Path]:
    names = [name for name in [*sys.modules] if f"{name}.".startswith(f"{package}.")]
    return {name: file for name in names if (file := _file_of(name)) is not None}


def _file_of(name: str) -> Path | None:
    named = getattr(sys.modules.get(name), "__file__", None)
    return Path(named) if isinstance(named, str) and Path(named).is_file() else None


def _with_neighbours(files: Mapping[str, Path]) -> dict[str, Path]:
    """The files, and those of the imported modules that they import, these again theirs, from the same folder."""
    found, left = dict(files), [*files.items()]
    while left:
        name, file = left.pop()
        home = _folder_of(name, file)
        for other in (above for imported in _imports_of(name, file) for above in _with_packages(imported)):
            beside = None if other in found or other.split(".")[0] == "winnow" else _file_of(other)
            if beside is not None and beside.is_relative_to(home) and not INSTALLED & {*beside.parts}:
                found[other] = beside
                left.append((other, beside))
    return found


def _with_packages(name: str) -> Iterator[str]:
    """`a`, `a.b` and `a.b.c` of `a.b.c`, which are imported with it."""
    parts = name.split(".")
    return (".".join(parts[:end]) for end in range(1, len(parts) + 1))


def _folder_of(name: str, file: Path) -> Path:
    """The folder of the import path in which a module was found: of a.b in PATH/a/b.py and in PATH/a/b/__init__.py."""
    return file.parents[name.count(".") + (file.stem == "__init__")]


def _imports_of(name: str, file: Path) -> Iterator[str]:
    """The names of modules that a file may import, as they stand in it; of `from a import b` a.b."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, RecursionError):  # edited since it was imported, or compiled code
        return
    package = name if file.stem == "__init__" else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def edited_modules(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The modules that both have, and whose code differs."""
    return [name for name in sorted({*before} & {*now}) if before[name] != now[name]]


def edited_code(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """A sentence for each of the `edited_modules`."""
    return [
        f"the code of {name} was {before[name][:SHOWN]} and is {now[name][:SHOWN]}"
        for name in edited_modules(before, now)
    ]
