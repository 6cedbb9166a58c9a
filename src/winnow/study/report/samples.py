"""What the models wrote: some responses of one seed of each arm, from `samples/*.jsonl`."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path

from winnow.report.run_files import SampleRecord
from winnow.study.study import Arm, StudyRun

MOST, HEAD, TAIL = 24, 420, 260
"""Responses of an iteration; characters kept of a long one, at its start and, where the answer is, at its end."""
CONTROLS = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {127: 0x2421}
"""Control characters to the signs that Unicode has for showing them."""


@dataclass(frozen=True, slots=True)
class Glimpse:
    """The first `MOST` responses of an iteration, by prompt, in the order in which they were drawn."""

    iteration: int
    prompts: tuple[tuple[SampleRecord, ...], ...]


def glimpses(arm: Arm) -> tuple[StudyRun, tuple[Glimpse, ...]] | None:
    """First, middle and last recorded iteration of the arm's first seed that has samples; None where no seed has."""
    for run in arm.runs:
        files = sorted((run.directory / "samples").glob("iteration_*.jsonl"))
        if files:
            chosen = dict.fromkeys((files[0], files[(len(files) - 1) // 2], files[-1]))
            return run, tuple(_glimpse(path) for path in chosen)
    return None


def excerpt(text: str) -> str:
    """The text with its middle left out where it is long, safe to print: no control character, no half of a surrogate pair."""
    if len(text) > HEAD + TAIL + 40:
        text = f"{text[:HEAD]}\n[… {len(text) - HEAD - TAIL} characters left out …]\n{text[-TAIL:]}"
    return text.translate(CONTROLS).encode("utf-8", "replace").decode("utf-8")


def strength(record: SampleRecord, group: Sequence[SampleRecord]) -> float:
    """Size of the advantage, 0 to 1, as a share of the largest one shown beside it."""
    largest = max(abs(other.advantage or 0.0) for other in group)
    return abs(record.advantage or 0.0) / largest if largest else 0.0


def _glimpse(path: Path) -> Glimpse:
    records = list(islice(_records(path), MOST))
    return Glimpse(
        iteration=int(path.stem.removeprefix("iteration_")),
        prompts=tuple(tuple(group) for _, group in groupby(records, key=lambda record: record.prompt_key)),
    )


def _records(path: Path) -> Iterator[SampleRecord]:
    with path.open(encoding="utf-8", newline="\n") as file:  # not splitlines(): it would also break at U+2028
        for line in file:
            yield SampleRecord(**json.loads(line))
