"""The objective of a run as a formula, `objective.md`: written at its start, and read for reports."""

import re
from dataclasses import dataclass
from pathlib import Path

from winnow.files import read_regular, replace_text

OBJECTIVE = "objective.md"
FENCE = "```"
NOTE = re.compile(r"(inert|equal|biased|unstable): ")
LONGEST = 20_000
"""Characters that a report reads at most of a file that anybody may have edited."""


@dataclass(frozen=True, slots=True)
class Objective:
    """The lines of the formula, and what is said of the settings: what has no effect, or not the one it seems to."""

    formula: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def write_objective(directory: Path, text: str) -> None:
    """Write the text of `winnow explain` as a page, atomically."""
    replace_text(directory / OBJECTIVE, f"# Objective\n\n{FENCE}text\n{text}\n{FENCE}\n")


def read_objective(directory: Path) -> Objective:
    """The objective of the run in `directory`; empty without a page that can be read, as of earlier versions."""
    try:
        page = read_regular(directory / OBJECTIVE).decode()[:LONGEST]
    except (OSError, ValueError):
        return Objective()
    lines = page.partition(f"{FENCE}text\n")[2].partition(FENCE)[0].splitlines()
    end = lines.index("") if "" in lines else len(lines)
    notes = tuple(line for line in lines if NOTE.match(line))
    return Objective(tuple(lines[:end]), notes)
