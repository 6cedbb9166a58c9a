"""`summary.csv` of a sweep: a row a job, also for jobs that fail."""

import csv
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

LABELS = ("algo", "model", "dataset", "seed")
FIGURES = ("iterations", "eval_first", "eval_last", "sampled_tokens", "trained_tokens", "seconds")
COLUMNS = ("job", "overrides", "status", "exit_code", *LABELS, *FIGURES, "directory")

Cell = str | int | float | None


@dataclass(frozen=True)
class Row:
    """One job. `labels` are known before it starts; figures come from its `summary.json`, where it left one."""

    job: int
    overrides: str
    directory: Path
    labels: dict[str, Cell]
    status: str = "waiting"
    exit_code: int | None = None

    @property
    def figures(self) -> dict[str, Cell]:
        try:
            return json.loads((self.directory / "summary.json").read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return {}

    @property
    def cells(self) -> dict[str, Cell]:
        figures = self.figures
        return {
            "job": self.job,
            "overrides": self.overrides,
            "status": self.status,
            "exit_code": self.exit_code,
            **{name: figures.get(name, self.labels.get(name)) for name in LABELS},
            **{name: figures.get(name) for name in FIGURES},
            "directory": str(self.directory),
        }


def read(path: Path) -> list[dict[str, str]]:
    """The cells of each row; none where there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: Sequence[Row], earlier: Sequence[Mapping[str, str]] = ()) -> None:
    """Replace the file in one step: a reader, or a kill, meets either the old rows or the new ones.

    `earlier` are the cells of jobs of earlier starts, which stay.
    """
    part = path.with_name(f".{path.name}.part")
    with part.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows([cells.get(name) for name in COLUMNS] for cells in [*earlier, *(row.cells for row in rows)])
    os.replace(part, path)


DEPTH = 3
"""Folders below a sweep's top in which its runs lie: `arm/seed_0`, of arms that lie in a folder themselves."""


def sweep_of(directory: Path) -> str | None:
    """The name of the sweep that a run directory belongs to: `2026-11-23/12-00-00-4f21ab`; None outside a sweep."""
    tops = (parent for parent in directory.parents[:DEPTH] if (parent / "multirun.yaml").is_file())
    return next((f"{top.parent.name}/{top.name}" for top in tops), None)
