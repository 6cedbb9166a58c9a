"""One evaluation in its directory: draws, judges and stores every set's responses, then writes the figures."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import PreTrainedModel

from winnow.evaluation.results import (
    EvaluationPlan,
    average_accuracy,
    results_table,
    set_figures,
    write_figures,
    write_plan,
)
from winnow.evaluation.sets import EvaluationSampler, EvaluationSet, lost_rewards
from winnow.evaluation.storage import SampleStore, read_samples
from winnow.experience.metrics import sample_records
from winnow.run_logs.console import ProgressDisplay, print_line
from winnow.run_logs.run_files import SampleRecord


class EvaluationProgress(ProgressDisplay):
    """Progress of an evaluation: responses of a set done so far, their accuracy and the speed.

    Responses that an earlier process drew count as done, but enter neither accuracy nor speed.
    """

    def __init__(self, terminal: bool | None = None) -> None:
        super().__init__(terminal, description_width=28)

    def begin(self, name: str, total: int, done: int) -> None:
        """Start a set of `total` responses, of which `done` are stored already."""
        self.name, self.total, self.done = name, total, done
        self.drawn, self.correct, self.tokens, self._began = 0, 0, 0, time.perf_counter()
        if done:
            self.say(f"{name}: {done} responses are stored already")
        self.show(done, total, name)

    def advance(self, samples: Sequence[SampleRecord]) -> None:
        """Count the samples of a batch that has just been judged."""
        self.done, self.drawn = self.done + len(samples), self.drawn + len(samples)
        self.correct += sum(sample.correct for sample in samples)
        self.tokens += sum(sample.length for sample in samples)
        accuracy = self.correct / self.drawn
        if not self.terminal:
            speed = self.tokens / (time.perf_counter() - self._began)
            self.say(
                f"{self.name}  {self.done:>{len(str(self.total))}}/{self.total} responses  "
                f"right {accuracy:6.1%}  tokens/s {speed:7,.0f}"
            )
        self.show(self.done, self.total, f"{self.name}  {accuracy:.1%} right")


@dataclass(frozen=True, slots=True)
class EvaluationRun:
    """An evaluation that draws, judges and stores one batch of prompts at a time.

    Which prompts share a batch depends only on their place in the set: the last bit of a floating-point result depends
    on the other rows of the batch, so an interrupted evaluation must continue with the same batches.

    `accept` is called once the plan is known to be that of what the directory holds. `revisions` are the commits of hub
    datasets that were read, by the name of the dataset or benchmark, and `iteration` is the one after which a run
    exported the model, which reward functions are told.
    """

    directory: Path
    plan: EvaluationPlan
    model: PreTrainedModel
    sampler: EvaluationSampler
    sets: Sequence[EvaluationSet]
    precision: Callable[[], AbstractContextManager]
    accept: Callable[[], object] = lambda: None
    revisions: Mapping[str, str] = field(default_factory=dict)
    iteration: int = 0

    def run(self) -> float:
        """Evaluate all sets and return the mean of their accuracies.

        Raises:
            ConfigError: the directory holds samples of another evaluation.
        """
        began = time.perf_counter()
        write_plan(self.directory, self.plan)
        self.accept()
        store = SampleStore(self.directory / "samples")
        with EvaluationProgress() as progress:
            for s in self.sets:
                self._draw(store, s, progress)
        found = [set_figures(s.name, read_samples(store.whole(s.name)), s.whole, s.verifier) for s in self.sets]
        write_figures(self.directory, self.plan, found, time.perf_counter() - began, self.revisions)
        print_line(f"\n{results_table(found)}\n\nsamples and figures: {self.directory}")
        return average_accuracy(found).estimate

    def _draw(self, store: SampleStore, s: EvaluationSet, progress: EvaluationProgress) -> None:
        size = self.plan.batch
        batches = [s.prompts[start : start + size] for start in range(0, len(s.prompts), size)]
        missing = store.missing(s.name, len(batches))
        done = len(s.prompts) - sum(len(batches[number]) for number in missing)
        progress.begin(s.name, len(s.prompts) * self.sampler.samples, done * self.sampler.samples)
        said: set[str] = set()
        for number in missing:
            with self.precision(), torch.no_grad():
                rollouts = self.sampler.rollouts(self.model, self.iteration, batches[number], s.judge)
            for kind, line in lost_rewards(s.name, rollouts).items():
                if kind not in said:
                    said.add(kind)
                    progress.say(f"warning: {line}")
            samples = sample_records(rollouts)
            store.write(s.name, number, samples)
            progress.advance(samples)
        store.seal(s.name, len(batches))
