"""How far an evaluation is: a bar on a terminal, a line a batch in a file or a pipe."""

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from transformers import PreTrainedModel

from winnow.evaluation.results import (
    EvaluationPlan,
    SetFigures,
    average_accuracy,
    results_table,
    set_figures,
    write_plan,
    write_results,
    write_summary,
)
from winnow.evaluation.sets import EvaluationSampler, EvaluationSet
from winnow.evaluation.storage import SampleStore, read_samples, samples_of
from winnow.run_logs.console import print_line


class EvaluationProgress:
    """Counts a set's responses; what an earlier process drew is there from the start, and has no part in speed or accuracy."""

    def __init__(self, terminal: bool | None = None) -> None:
        self._bar: Bar | None = None
        if sys.stdout.isatty() if terminal is None else terminal:
            self._bar = Bar(
                TextColumn("{task.description:<28}"),
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                TimeRemainingColumn(compact=True),
                console=Console(file=sys.stdout, force_terminal=True),
                expand=True,
            )
            self._task = self._bar.add_task("", total=None)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, name: str, total: int, there: int) -> None:
        """A set of `total` responses comes next, of which `there` are on disk."""
        self.total, self.done = total, there
        self.name, self.drawn, self.correct, self.tokens, self._began = name, 0, 0, 0, time.perf_counter()
        if there:
            self._say(f"{name}: {there} responses are there already")
        self._show()

    def advance(self, responses: int, correct: int, tokens: int) -> None:
        self.done += responses
        self.drawn, self.correct, self.tokens = self.drawn + responses, self.correct + correct, self.tokens + tokens
        if self._bar is None:
            speed = self.tokens / (time.perf_counter() - self._began)
            print_line(
                f"{self.name}  {self.done:>{len(str(self.total))}}/{self.total} responses  "
                f"right {self.correct / self.drawn:6.1%}  tokens/s {speed:7,.0f}"
            )
        self._show()

    def _say(self, line: str) -> None:
        print_line(line) if self._bar is None else self._bar.console.print(line, markup=False, highlight=False)

    def _show(self) -> None:
        if self._bar is not None:
            right = f"  {self.correct / self.drawn:.1%} right" if self.drawn else ""
            self._bar.update(self._task, completed=self.done, total=self.total, description=f"{self.name}{right}")


@dataclass(frozen=True, slots=True)
class EvaluationRun:
    """A batch of prompts is drawn, judged and written at a time.

    Batches are fixed by set and place, so that a row is computed in the same company before and after an interruption:
    in floating point, company decides the last bit.
    """

    directory: Path
    subject: EvaluationPlan
    model: PreTrainedModel
    asking: EvaluationSampler
    sets: Sequence[EvaluationSet]
    precision: Callable[[], AbstractContextManager]

    def run(self) -> float:
        """The mean accuracy over the sets.

        Raises:
            ConfigError: the directory holds samples of something else.
        """
        began = time.perf_counter()
        write_plan(self.directory, self.subject)
        store = SampleStore(self.directory / "samples")
        with EvaluationProgress() as progress:
            for s in self.sets:
                self._draw(store, s, progress)
        found = [self._figures(store, s) for s in self.sets]
        seconds = time.perf_counter() - began
        write_results(self.directory, self.subject, found, seconds)
        write_summary(self.directory, self.subject, average_accuracy(found), seconds)
        text = results_table(found)
        (self.directory / "results.md").write_text(text + "\n")
        print_line(f"\n{text}\n\nsamples and figures: {self.directory}")
        return average_accuracy(found).estimate

    def _draw(self, store: SampleStore, s: EvaluationSet, progress: EvaluationProgress) -> None:
        starts = range(0, len(s.prompts), self.subject.batch)
        missing = store.missing(s.name, len(starts))
        there = sum(
            len(s.prompts[starts[b] : starts[b] + self.subject.batch]) for b in set(range(len(starts))) - set(missing)
        )
        progress.begin(s.name, len(s.prompts) * self.asking.samples, there * self.asking.samples)
        for b in missing:
            prompts = s.prompts[starts[b] : starts[b] + self.subject.batch]
            with self.precision(), torch.no_grad():
                rollouts = self.asking.rollouts(self.model, 0, prompts, s.judge)
            drawn = list(samples_of(rollouts))
            store.write(s.name, b, drawn)
            progress.advance(len(drawn), sum(d.correct for d in drawn), sum(d.length for d in drawn))
        store.seal(s.name, len(starts))

    def _figures(self, store: SampleStore, s: EvaluationSet) -> SetFigures:
        return set_figures(s.name, read_samples(store.whole(s.name)), s.whole, s.verifier)
