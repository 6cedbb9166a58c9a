"""What the models wrote: some responses of one seed of each arm, from `samples/*.jsonl`."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path

from winnow.run_logs.run_files import SampleRecord
from winnow.study.report.facts import counted_noun, signed
from winnow.study.report.html import Html, join, tag
from winnow.study.runs import StudyRun
from winnow.study.study import Arm, Study

MOST, HEAD, TAIL = 24, 420, 260
"""Responses of an iteration; characters kept of a long one, at its start and, where the answer is, at its end."""
CONTROLS = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {127: 0x2421}
"""Control characters to the signs that Unicode has for showing them."""


@dataclass(frozen=True, slots=True)
class SampledIteration:
    """The first `MOST` responses of an iteration, by prompt, in the order in which they were drawn."""

    iteration: int
    prompts: tuple[tuple[SampleRecord, ...], ...]


def sampled_iterations(arm: Arm) -> tuple[StudyRun, tuple[SampledIteration, ...]] | None:
    """First, middle and last recorded iteration of the arm's first seed that has samples; None where no seed has."""
    for run in arm.runs:
        files = sorted((run.directory / "samples").glob("iteration_*.jsonl"))
        if files:
            chosen = dict.fromkeys((files[0], files[(len(files) - 1) // 2], files[-1]))
            return run, tuple(_read_iteration(path) for path in chosen)
    return None


def excerpt(text: str) -> str:
    """The text with its middle left out where it is long, safe to print: no control character, no half of a surrogate pair."""
    if len(text) > HEAD + TAIL + 40:
        text = f"{text[:HEAD]}\n[… {len(text) - HEAD - TAIL} characters left out …]\n{text[-TAIL:]}"
    return text.translate(CONTROLS).encode("utf-8", "replace").decode("utf-8")


def advantage_strength(record: SampleRecord, group: Sequence[SampleRecord]) -> float:
    """Size of the advantage, 0 to 1, as a share of the largest one shown beside it."""
    largest = max(abs(other.advantage or 0.0) for other in group)
    return abs(record.advantage or 0.0) / largest if largest else 0.0


def _read_iteration(path: Path) -> SampledIteration:
    records = list(islice(_read_records(path), MOST))
    return SampledIteration(
        iteration=int(path.stem.removeprefix("iteration_")),
        prompts=tuple(tuple(group) for _, group in groupby(records, key=lambda record: record.prompt_key)),
    )


def _read_records(path: Path) -> Iterator[SampleRecord]:
    with path.open(encoding="utf-8", newline="\n") as file:  # not splitlines(): it would also break at U+2028
        for line in file:
            yield SampleRecord(**json.loads(line))


def samples_section(study: Study) -> Html | None:
    """None where no run kept samples."""
    arms = [card for arm in study.arms if (card := _arm(arm))]
    return join(*arms) if arms else None


def _arm(arm: Arm) -> Html | None:
    found = sampled_iterations(arm)
    if found is None:
        return None
    run, shown = found
    head = tag("summary", tag("b", arm.title), f" · seed {run.seed} · {_name(run.directory)}")
    return tag("details", head, *(_iteration(glimpse) for glimpse in shown))


def _name(directory: Path) -> str:
    return f"{directory.parent.name}/{directory.name}"


def _iteration(glimpse: SampledIteration) -> Html:
    records = [record for group in glimpse.prompts for record in group]
    right = sum(record.verdict == "correct" for record in records)
    head = f"Iteration {glimpse.iteration}: {counted_noun(len(records), 'response')}, {right} correct"
    return tag("details", tag("summary", head), *(_prompt(group) for group in glimpse.prompts))


def _prompt(group: Sequence[SampleRecord]) -> Html:
    first = group[0]
    return tag(
        "section",
        tag("p", tag("b", "Prompt "), tag("span", first.prompt_key, class_="mono"), f" · gold {excerpt(first.answer)}"),
        tag("pre", excerpt(first.prompt), class_="prompt"),
        *(_response(record, group) for record in group),
    )


def _response(record: SampleRecord, group: Sequence[SampleRecord]) -> Html:
    advantage = record.advantage
    told = "not trained on" if advantage is None else f"advantage {signed(advantage, 2)}"
    read = "nothing read" if record.extracted is None else f"read “{excerpt(record.extracted)}”"
    side = "plus" if (advantage or 0) > 0 else "minus" if (advantage or 0) < 0 else "still"
    kept = "kept" if record.kept else "rejected"
    facts = [
        read,
        f"gold “{excerpt(record.answer)}”",
        told,
        f"reward {record.reward:g}",
        f"{counted_noun(record.length, 'token')}, {record.finish}",
    ]
    return tag(
        "div",
        tag("p", tag("b", " · ".join((record.verdict, kept))), f" · {' · '.join(facts)}", class_="facts"),
        tag("pre", excerpt(record.response)),
        class_=f"response {side} {kept}",
        style=f"--size:{advantage_strength(record, group):.2f}",
    )
