"""Which golds a rule cannot read, remembered on disk: 100,000 expressions take minutes, and every start would ask again."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from winnow import machine

MANY = 2000
"""Golds that are worth a file; fewer take seconds."""
READERS = ("winnow-rl", "math-verify", "latex2sympy2-extended", "sympy")


def remembered(
    golds: Sequence[str],
    rule: Mapping[str, str | float | bool],
    unreadable: Callable[[Sequence[str]], tuple[list[str], bool]],
) -> set[str]:
    """Those of `golds` that `unreadable` names, asked once for each list of golds, rule and version of what reads them.

    `unreadable` also says whether its answer is final: where time ran out it may be another next time, and is not kept.
    A cache that cannot be written or read is done without.
    """
    if len(golds) < MANY:
        return set(unreadable(golds)[0])
    versions = [f"{name} {metadata.version(name)}" for name in READERS]
    digest = hashlib.sha256(json.dumps([versions, dict(rule), list(golds)]).encode()).hexdigest()
    path = machine.cache() / "golds" / f"{digest[:32]}.json"
    with suppress(OSError, ValueError):
        return set(json.loads(path.read_text()))
    found, final = unreadable(golds)
    if final:
        with suppress(OSError):
            _write(path, json.dumps(found))
    return set(found)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    neighbour = path.with_name(f".{path.name}.{os.getpid()}")
    neighbour.write_text(text)
    neighbour.replace(path)
