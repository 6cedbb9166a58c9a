"""Figures as a table: on the terminal, and in docs/performance.md."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from rich.table import Table

from benchmarks.figures import Named, Value
from benchmarks.parts import PARTS, Part

BEGIN, END = "<!-- bench -->", "<!-- end -->"


def cells(named: Named, figures: Mapping[str, Value]) -> tuple[str, str] | None:
    """Value with its unit, and least to greatest; None of a figure that is not there."""
    if (why := figures.get(f"{named.key}_skipped")) is not None:
        return str(why), ""
    if (value := figures.get(named.key)) is None:
        return None
    low, high = figures.get(f"{named.key}_low"), figures.get(f"{named.key}_high")
    between = "" if low is None or high is None else f"{_digits(low, named)} to {_digits(high, named)}"
    return f"{_digits(value, named)} {named.unit}".rstrip(), between


def _digits(value: Value, named: Named) -> str:
    return value if isinstance(value, str) else f"{value:,.{named.digits}f}"


def rows(part: Part, figures: Mapping[str, Value]) -> Iterator[tuple[str, str, str, str]]:
    """Key, value, spread, meaning."""
    for named in part.figures:
        if (found := cells(named, figures)) is not None:
            yield named.key, *found, named.says


def on_terminal(part: Part, figures: Mapping[str, Value]) -> Table:
    table = Table(title=f"{part.name}: {part.does}", title_justify="left", caption=_where(part, figures))
    for heading in ("figure", "median", "least to greatest"):
        table.add_column(heading, no_wrap=True)
    table.add_column("what")
    for row in rows(part, figures):
        table.add_row(*row)
    return table


def markdown(figures: Mapping[str, Value]) -> str:
    """A section for each part that has been measured, or was skipped."""
    sections = []
    for part in PARTS.values():
        found = list(rows(part, figures))
        if why := figures.get(f"{part.name}_skipped"):
            sections.append(f"**{part.name}**: skipped. {why}")
        if not found:
            continue
        lines = [f"| {part.name} | median | least to greatest | |", "|---|---|---|---|"]
        lines += [f"| `{key}` | {value} | {between} | {says} |" for key, value, between, says in found]
        sections.append("\n".join([*lines, "", _where(part, figures)]))
    return "\n\n".join(sections)


def _where(part: Part, figures: Mapping[str, Value]) -> str:
    said = [str(figures[key]) for end in ("machine", "versions", "date") if (key := f"{part.name}_{end}") in figures]
    command = figures.get(f"{part.name}_command")
    return "; ".join([f"`{command}`", *said] if command else said)


def fill(path: Path, figures: Mapping[str, Value]) -> None:
    """Write the table between the markers of `path` anew."""
    before, inside, after = _around(path.read_text())
    path.write_text(f"{before}{BEGIN}\n{markdown(figures)}\n{END}{after}" if inside is not None else before)


def _around(text: str) -> tuple[str, str | None, str]:
    found = re.search(f"{BEGIN}\n(.*?){END}", text, flags=re.DOTALL)
    return (text, None, "") if found is None else (text[: found.start()], found[1], text[found.end() :])
