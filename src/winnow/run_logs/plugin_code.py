"""Code of the packages that a run trusts (`plugins`), recorded by its hash, so that an edited file is noticed."""

import sys
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path

from winnow.files import sha256_of

INSTALLED = frozenset(("site-packages", "dist-packages"))
"""Folders of packages that were installed, whose version says what their code is."""
SHOWN = 12
"""Digits of a hash that a line shows."""


def code_of(packages: Iterable[str]) -> dict[str, str]:
    """The SHA-256 of the file of each imported module of `packages`, by the module's name.

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
            found |= {name: sha256_of(file) for name, file in sorted(files.items())}
    return found


def _files_of(package: str) -> dict[str, Path]:
    modules = [(name, module) for name, module in sys.modules.items() if f"{name}.".startswith(f"{package}.")]
    named = {name: getattr(module, "__file__", None) for name, module in modules}
    return {name: Path(file) for name, file in named.items() if file is not None and Path(file).is_file()}


def edited_modules(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The modules that both have, and whose code differs."""
    return [name for name in sorted({*before} & {*now}) if before[name] != now[name]]


def edited_code(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """A sentence for each of the `edited_modules`."""
    return [
        f"the code of {name} was {before[name][:SHOWN]} and is {now[name][:SHOWN]}"
        for name in edited_modules(before, now)
    ]
