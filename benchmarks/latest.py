"""`outputs/bench/latest.json`: a flat object of named figures, to which each part adds its own."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.figures import Named, Skipped, Value

FOLDER = Path("outputs/bench")
ENDS = ("", "_low", "_high", "_skipped")
"""What a figure's key may end with: its median, its least and greatest value, or the reason that it was not measured."""


def read(folder: Path) -> dict[str, Value]:
    """Nothing where nothing was measured yet."""
    path = folder / "latest.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def merged(
    before: Mapping[str, Value], part: str, names: Sequence[Named], found: Mapping[str, Value]
) -> dict[str, Value]:
    """`before` with the figures of `part` replaced by those `found`; what it had measured before and not now is gone."""
    own = {f"{named.key}{end}" for named in names for end in ENDS}
    kept = {key: value for key, value in before.items() if key not in own and not key.startswith(f"{part}_")}
    return kept | dict(found)


def without(before: Mapping[str, Value], part: str, why: Skipped) -> dict[str, Value]:
    """`before` and the reason that `part` was not measured; what was measured earlier stays, with its date."""
    return dict(before) if f"{part}_date" in before else {**before, f"{part}_skipped": why.why}


def write(folder: Path, figures: Mapping[str, Value]) -> None:
    """In one step, so that a reader finds the old file or the new one."""
    folder.mkdir(parents=True, exist_ok=True)
    neighbour = folder / ".latest.json.tmp"
    neighbour.write_text(json.dumps(dict(sorted(figures.items())), indent=2, ensure_ascii=False) + "\n")
    neighbour.replace(folder / "latest.json")
