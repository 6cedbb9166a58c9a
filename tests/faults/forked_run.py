"""A run of a program in a forked child of this process, to which something happens at an exact moment."""

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from running import program
from winnow import signals

Calls = Sequence[tuple[str, int]]
"""Functions, as `module:Class.name`, and which call of each is meant; those of the next are counted from there on."""


@dataclass(frozen=True)
class Ended:
    """How the child ended, and what it printed."""

    code: int
    output: str


def run_with(
    directory: Path,
    words: Sequence[str],
    calls: Calls,
    happens: Callable[[], object],
    beside: Path | None = None,
    name: str = "train",
) -> Ended:
    """Run `python NAME.py WORDS` in `directory`; before the last of `calls`, `happens` is called
    there.

    What it prints is written beside `beside`, or beside `directory`.
    """
    log = (beside or directory).with_suffix(".log")
    child = os.fork()
    if child == 0:
        os._exit(_run(log, [*words, f"hydra.run.dir={directory}"], calls, happens, name))
    _, status = os.waitpid(child, 0)
    return Ended(os.waitstatus_to_exitcode(status), log.read_text())


def _run(log: Path, words: Sequence[str], calls: Calls, happens: Callable[[], object], name: str) -> int:
    code = 1
    try:
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), 1)
        os.dup2(1, 2)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
        signals.forget()
        signals.install()
        loaded = program(name)
        arm(calls, happens)
        code = loaded.exit_code(words)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    return code


def arm(calls: Calls, happens: Callable[[], object]) -> None:
    """Have `happens` called before the last of `calls`."""
    (place, number), *later = calls
    module, _, path = place.partition(":")
    *owners, name = path.split(".")
    owner: object = import_module(module)
    for inner in owners:
        owner = getattr(owner, inner)
    before, count = getattr(owner, name), 0

    def counted(*args: object, **settings: object) -> object:
        nonlocal count
        count += 1
        if count == number:
            arm(later, happens) if later else happens()
        return before(*args, **settings)

    setattr(owner, name, counted)
