"""An evaluation from the first prompt to `results.json`; interrupted anywhere, it goes on where it was."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel

from winnow.evaluation import sample
from winnow.evaluation.figures import SetFigures, average, figures, table
from winnow.evaluation.progress import Progress
from winnow.evaluation.results import Subject, write_plan, write_results, write_summary
from winnow.evaluation.sets import Asking, EvaluationSet
from winnow.evaluation.store import Store
from winnow.report.console import print_line


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A batch of prompts is drawn, judged and written at a time.

    Batches are fixed by set and place, so that a row is computed in the same company before and after an interruption:
    in floating point, company decides the last bit.
    """

    directory: Path
    subject: Subject
    model: PreTrainedModel
    asking: Asking
    sets: Sequence[EvaluationSet]
    precision: Callable[[], AbstractContextManager]

    def run(self) -> float:
        """The mean accuracy over the sets.

        Raises:
            ConfigError: the directory holds samples of something else.
        """
        began = time.perf_counter()
        write_plan(self.directory, self.subject)
        store = Store(self.directory / "samples")
        with Progress() as progress:
            for s in self.sets:
                self._draw(store, s, progress)
        found = [self._figures(store, s) for s in self.sets]
        seconds = time.perf_counter() - began
        write_results(self.directory, self.subject, found, seconds)
        write_summary(self.directory, self.subject, average(found), seconds)
        text = table(found)
        (self.directory / "results.md").write_text(text + "\n")
        print_line(f"\n{text}\n\nsamples and figures: {self.directory}")
        return average(found).estimate

    def _draw(self, store: Store, s: EvaluationSet, progress: Progress) -> None:
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
            drawn = list(sample.samples_of(rollouts))
            store.write(s.name, b, drawn)
            progress.advance(len(drawn), sum(d.correct for d in drawn), sum(d.length for d in drawn))
        store.seal(s.name, len(starts))

    def _figures(self, store: Store, s: EvaluationSet) -> SetFigures:
        return figures(s.name, sample.read(store.whole(s.name)), s.whole, s.verifier)
