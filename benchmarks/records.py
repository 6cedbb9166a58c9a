"""Records of measurements: named figures, their file `latest.json`, their tables and their provenance."""

import json
import os
import platform
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

import torch
from rich.table import Table

import winnow
from winnow.files import replace_json
from winnow.models.memory import memory_bytes

FOLDER = Path("outputs/bench")
Value = float | int | str
Figures = Mapping[str, Value]
Measurement = tuple[dict[str, Value], list[dict]]
"""The figures of a part for `latest.json`, and every single measurement behind them for `raw/PART.json`."""


@dataclass(frozen=True, slots=True)
class Named:
    """A figure of a part: its key in `latest.json`, its meaning, its unit, and the number of decimals shown."""

    key: str
    says: str
    unit: str = ""
    digits: int = 2


def _measurable() -> None:
    """Nothing prevents the measurement."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the suite that can be measured alone.

    `skipped` returns the reason why this machine cannot measure the part, or None if it can.
    """

    name: str
    does: str
    figures: Sequence[Named]
    measured: Callable[[], Measurement]
    skipped: Callable[[], str | None] = _measurable


def spread(key: str, values: Sequence[float]) -> dict[str, float]:
    """`{key: median, key_low: least, key_high: greatest}` of one or more values."""
    return {key: median(values), f"{key}_low": min(values), f"{key}_high": max(values)}


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Quotients of paired measurements. Each pair was measured side by side and is divided before averaging."""
    return [a / b for a, b in zip(above, below, strict=True)]


# --- latest.json ----------------------------------------------------------------------------------------------------

ENDS = ("", "_low", "_high", "_skipped")
"""Endings of a figure's keys: its median, least and greatest value, and the reason why it was not measured."""


def read(folder: Path) -> dict[str, Value]:
    """The figures of `latest.json` in `folder`; empty if nothing has been measured yet."""
    path = folder / "latest.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def merged(before: Figures, part: str, names: Sequence[Named], found: Figures) -> dict[str, Value]:
    """`before` with all figures of `part` replaced by `found`. Figures that the part no longer measures are removed."""
    own = {f"{named.key}{end}" for named in names for end in ENDS}
    kept = {key: value for key, value in before.items() if key not in own and not key.startswith(f"{part}_")}
    return kept | dict(found)


def without(before: Figures, part: str, why: str) -> dict[str, Value]:
    """`before` with the reason why `part` was skipped. Figures that were measured earlier stay, with their date."""
    return dict(before) if f"{part}_date" in before else {**before, f"{part}_skipped": why}


def write(folder: Path, figures: Figures) -> None:
    """Write `latest.json` atomically, with sorted keys."""
    folder.mkdir(parents=True, exist_ok=True)
    replace_json(folder / "latest.json", dict(sorted(figures.items())))


# --- tables ---------------------------------------------------------------------------------------------------------

BEGIN, END = "<!-- bench -->", "<!-- end -->"


def cells(named: Named, figures: Figures) -> tuple[str, str] | None:
    """The value with its unit and its range, or None for a figure that is absent."""
    if (why := figures.get(f"{named.key}_skipped")) is not None:
        return str(why), ""
    if (value := figures.get(named.key)) is None:
        return None
    low, high = figures.get(f"{named.key}_low"), figures.get(f"{named.key}_high")
    between = "" if low is None or high is None else f"{_digits(low, named)} to {_digits(high, named)}"
    return f"{_digits(value, named)} {named.unit}".rstrip(), between


def _digits(value: Value, named: Named) -> str:
    return value if isinstance(value, str) else f"{value:,.{named.digits}f}"


def _rows(part: Part, figures: Figures) -> Iterator[tuple[str, str, str, str]]:
    """Key, value, range and meaning of each figure that is present."""
    for named in part.figures:
        if (found := cells(named, figures)) is not None:
            yield named.key, *found, named.says


def on_terminal(part: Part, figures: Figures) -> Table:
    """The figures of one part as a rich table."""
    table = Table(title=f"{part.name}: {part.does}", title_justify="left", caption=_where(part, figures))
    for heading in ("figure", "median", "least to greatest"):
        table.add_column(heading, no_wrap=True)
    table.add_column("what")
    for row in _rows(part, figures):
        table.add_row(*row)
    return table


def markdown(parts: Sequence[Part], figures: Figures) -> str:
    """A Markdown section for each of `parts` that was measured or skipped."""
    sections = []
    for part in parts:
        found = list(_rows(part, figures))
        if why := figures.get(f"{part.name}_skipped"):
            sections.append(f"**{part.name}**: skipped. {why}")
        if not found:
            continue
        lines = [f"| {part.name} | median | least to greatest | |", "|---|---|---|---|"]
        lines += [f"| `{key}` | {value} | {between} | {says} |" for key, value, between, says in found]
        sections.append("\n".join([*lines, "", _where(part, figures)]))
    return "\n\n".join(sections)


def _where(part: Part, figures: Figures) -> str:
    said = [str(figures[key]) for end in ("machine", "versions", "date") if (key := f"{part.name}_{end}") in figures]
    command = figures.get(f"{part.name}_command")
    return "; ".join([f"`{command}`", *said] if command else said)


def fill(path: Path, parts: Sequence[Part], figures: Figures) -> None:
    """Replace the text between the markers of the document `path`, if it has them, by the tables of `parts`."""
    text = path.read_text()
    if found := re.search(f"{BEGIN}\n.*?{END}", text, flags=re.DOTALL):
        table = f"{BEGIN}\n{markdown(parts, figures)}\n{END}"
        path.write_text(text[: found.start()] + table + text[found.end() :])


# --- provenance -----------------------------------------------------------------------------------------------------

PACKAGES = ("torch", "transformers", "pytorch-lightning", "hydra-core", "trl", "vllm")


def provenance(part: str, command: str, seconds: float) -> dict[str, str | float]:
    """The five keys that every part adds to its figures: date, command, machine, versions and duration."""
    return {
        f"{part}_date": datetime.now().astimezone().isoformat(timespec="seconds"),
        f"{part}_command": command,
        f"{part}_machine": this_machine(),
        f"{part}_versions": versions(),
        f"{part}_seconds": round(seconds, 1),
    }


def this_machine() -> str:
    """Processor, cores and memory, e.g. `AMD EPYC, 2 cores, 25 GB`, followed by the name of the GPU if there is one."""
    words = [_processor(), f"{os.cpu_count()} cores", f"{memory_bytes() / 1e9:.0f} GB"]
    if torch.cuda.is_available():
        words.append(torch.cuda.get_device_name())
    return ", ".join(words)


def versions() -> str:
    """`winnow 0.1.0 (commit 0a37f54, changed), Python 3.11.9, torch 2.13.0+cpu, …`, for installed packages."""
    found = [f"winnow {winnow.__version__}{_commit()}", f"Python {platform.python_version()}"]
    return ", ".join(found + [f"{package} {it}" for package in PACKAGES if (it := installed(package))])


def installed(package: str) -> str | None:
    """The installed version of a package, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _commit() -> str:
    """The commit of the checkout that contains the package; "" if it is not in a checkout or git is missing."""
    where = str(Path(winnow.__file__).parent)
    command = ["git", "-C", where, "describe", "--always", "--dirty=, changed", "--exclude=*"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return f" (commit {said.stdout.strip()})" if said.returncode == 0 else ""
