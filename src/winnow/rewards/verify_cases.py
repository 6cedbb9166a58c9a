"""`winnow verify CASES.jsonl`: verdicts on rows of gold and prediction, and their agreement with known labels."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TextIO

from winnow.errors import ConfigError
from winnow.jsonl import rows_of_file
from winnow.rewards.answers.text import last_boxed
from winnow.rewards.verifier import Verifier
from winnow.verdict import Judgement, Verdict
from winnow.visible_text import visible

ROWS_AT_ONCE = 256
_SHAPE = '{"gold": "1/2", "pred": "\\\\boxed{0.5}"}, with "equivalent": true or false where it is known'


def verify_cases(path: Path, out: TextIO, verifier: Verifier) -> None:
    """Write one JSON row for each case, batch by batch and in order, then the verifier's settings and the agreement.

    Raises:
        ConfigError: as `read_cases`. Nothing is judged or written then.
    """
    cases = iter(list(read_cases(path)))
    agreement = Agreement()
    while batch := list(islice(cases, ROWS_AT_ONCE)):
        judgements = verifier.judge_answers([case.gold for case in batch], [case.answer for case in batch])
        for case, judgement in zip(batch, judgements, strict=True):
            agreement.count(case, judgement)
            out.write(visible(json.dumps(_json_row(case, judgement), ensure_ascii=False)) + "\n")
        out.flush()
    out.write("verifier: " + ", ".join(f"{key}={value}" for key, value in verifier.settings.items()) + "\n")
    out.write(visible(agreement.table()))


@dataclass(frozen=True)
class Case:
    r"""A row of the file.

    `pred` is judged by its last closed box. Unlike a response in training it is judged as a whole if it has no box.
    """

    gold: str
    pred: str
    equivalent: bool | None = None
    category: str = ""

    @property
    def answer(self) -> str:
        return last_boxed(self.pred) or self.pred


def read_cases(path: Path) -> Iterator[Case]:
    """The rows of a JSONL file. Blank lines are skipped and unknown keys ignored.

    Raises:
        ConfigError: the file cannot be read, or a line is not such a row; the message names the line.
    """
    for row in rows_of_file(path):
        yield _case(row.fields, f"{path}, {row.place}")


def _case(row: dict[str, object], where: str) -> Case:
    gold, pred, equivalent, category = (row.get(key) for key in ("gold", "pred", "equivalent", "category"))
    if not isinstance(gold, str) or not isinstance(pred, str):
        raise ConfigError(f'{where}: "gold" and "pred" must both be present and strings; expected {_SHAPE}')
    if equivalent is not None and not isinstance(equivalent, bool):
        raise ConfigError(f'{where}: "equivalent" is {equivalent!r}; expected true, false or null')
    return Case(gold, pred, equivalent, category if isinstance(category, str) else "")


def _json_row(case: Case, judgement: Judgement) -> dict[str, str | float | bool | None]:
    row = {"verdict": judgement.verdict, "gold": case.gold, "answer": judgement.answer, "seconds": judgement.seconds}
    return row if case.equivalent is None else {**row, "equivalent": case.equivalent}


@dataclass
class Tally:
    """Labelled rows of one category: their number, and the two kinds of disagreement with the label."""

    rows: int = 0
    wrongly_correct: int = 0
    wrongly_rejected: int = 0

    def line(self, category: str) -> str:
        agreeing = self.rows - self.wrongly_correct - self.wrongly_rejected
        share = f"{agreeing} ({agreeing / self.rows:.1%})"
        return f"{category:<24}{self.rows:>8}{share:>16}{self.wrongly_correct:>18}{self.wrongly_rejected:>18}"


class Agreement:
    """Verdicts of all rows, and agreement with the label where a row has one, by category and in all."""

    def __init__(self) -> None:
        self.verdicts: Counter[Verdict] = Counter()
        self.categories: defaultdict[str, Tally] = defaultdict(Tally)
        self.all = Tally()

    def count(self, case: Case, judgement: Judgement) -> None:
        self.verdicts[judgement.verdict] += 1
        if case.equivalent is None:
            return
        accepted = judgement.verdict is Verdict.correct
        for tally in (self.categories[case.category], self.all):
            tally.rows += 1
            tally.wrongly_correct += accepted and not case.equivalent
            tally.wrongly_rejected += case.equivalent and not accepted

    def table(self) -> str:
        lines = ["verdicts: " + (", ".join(f"{name} {count}" for name, count in self.verdicts.most_common()) or "none")]
        if self.all.rows:
            lines.append(f"{'agreement':<24}{'rows':>8}{'agree':>16}{'wrongly correct':>18}{'wrongly rejected':>18}")
            lines += [tally.line(name) for name, tally in sorted(self.categories.items()) if name]
            lines.append(self.all.line("all"))
        else:
            lines.append('agreement: unknown, because no row has "equivalent"')
        return "\n".join(lines) + "\n"
