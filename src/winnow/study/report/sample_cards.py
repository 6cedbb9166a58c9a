"""Responses as a reader browses them: closed until opened, by arm, iteration and prompt."""

from collections.abc import Sequence
from pathlib import Path

from winnow.report.run_files import SampleRecord
from winnow.study.report.html import Html, join, tag
from winnow.study.report.samples import Glimpse, excerpt, glimpses, strength
from winnow.study.report.words import count, signed
from winnow.study.study import Arm, Study


def section(study: Study) -> Html | None:
    """None where no run kept samples."""
    arms = [card for arm in study.arms if (card := _arm(arm))]
    return join(*arms) if arms else None


def _arm(arm: Arm) -> Html | None:
    found = glimpses(arm)
    if found is None:
        return None
    run, shown = found
    head = tag("summary", tag("b", arm.title), f" · seed {run.seed} · {_name(run.directory)}")
    return tag("details", head, *(_iteration(glimpse) for glimpse in shown))


def _name(directory: Path) -> str:
    return f"{directory.parent.name}/{directory.name}"


def _iteration(glimpse: Glimpse) -> Html:
    records = [record for group in glimpse.prompts for record in group]
    right = sum(record.verdict == "correct" for record in records)
    head = f"Iteration {glimpse.iteration}: {count(len(records), 'response')}, {right} correct"
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
        f"{count(record.length, 'token')}, {record.finish}",
    ]
    return tag(
        "div",
        tag("p", tag("b", " · ".join((record.verdict, kept))), f" · {' · '.join(facts)}", class_="facts"),
        tag("pre", excerpt(record.response)),
        class_=f"response {side} {kept}",
        style=f"--size:{strength(record, group):.2f}",
    )
