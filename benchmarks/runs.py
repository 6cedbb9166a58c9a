"""Measured runs: a real training run in a process of its own, its iterations timed one by one.

This is the only module of the benchmarks that knows how a run is built.
"""

import json
import os
import pkgutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytorch_lightning as pl
import torch
from hydra.utils import get_object
from torch import nn

from benchmarks.process import cpu_seconds
from benchmarks.stand_ins import no_eos_engine
from benchmarks.workload import Work
from winnow.assemble import common
from winnow.assemble.rewards import run_rewards
from winnow.assemble.training import build_run
from winnow.config import checks
from winnow.config.compose import composed
from winnow.models.language_model import LanguageModel
from winnow.run_logs.run_files import SampleRecord
from winnow.training.run import Run


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU seconds of the whole process tree, and wall seconds."""

    cpu: float
    wall: float

    def __sub__(self, other: "Cost") -> "Cost":
        return Cost(self.cpu - other.cpu, self.wall - other.wall)


_NONE = Cost(0.0, 0.0)


@dataclass(frozen=True, slots=True)
class SampledRow:
    """A sampled completion: its prompt, the lengths of both in tokens, and whether the update trained on it."""

    prompt: str
    prompt_tokens: int
    tokens: int
    trained: bool


@dataclass(frozen=True, slots=True)
class Iteration:
    """Cost of one training iteration, and its rows.

    `step` lasts from the end of the previous iteration to the end of this one, bookkeeping and files included.
    `rollout` ends and `update` begins when the first micro-batch is handed out. If no row is trained on, `update` is
    zero.
    """

    step: Cost
    rollout: Cost
    update: Cost
    rows: list[SampledRow]

    @property
    def completion_tokens(self) -> int:
        return sum(row.tokens for row in self.rows)

    @property
    def trained(self) -> list[SampledRow]:
        return [row for row in self.rows if row.trained]


Observed = dict[str, float]


@dataclass
class Observer:
    """Further measurements of each iteration, made in the same process; the time they take is not counted.

    This class observes nothing. A part that needs more than seconds derives its own and appends to `found` in `after`.
    """

    found: list[Observed] = field(default_factory=list)

    def before_update(self) -> None:
        """Called after the rollout, before the update begins."""

    def after(self, model: nn.Module, iteration: Iteration) -> None:
        """Called at the end of each iteration, with the model that was just updated."""


_CHILD = "import sys; from benchmarks.runs import child; child(*sys.argv[1:])"


class Timed(NamedTuple):
    """An iteration and what the observer measured of it."""

    iteration: Iteration
    observed: Observed


def timed(work: Work, words: Sequence[str], warm_up: int, observer: type[Observer] = Observer) -> list[Timed]:
    """Iterations of `work` under the overrides `words`, in a new process on one thread, without the first `warm_up`.

    Raises:
        RuntimeError: the run failed; the message holds its output.
    """
    with TemporaryDirectory() as name:
        folder, out = Path(name), Path(name) / "iterations.json"
        spec = {
            "words": [*work.words(folder), *words],
            "directory": str(folder / "run"),
            "warm_up": warm_up,
            "observer": f"{observer.__module__}:{observer.__qualname__}",
        }
        said = run([sys.executable, "-c", _CHILD, json.dumps(spec), str(out)])
        if not out.is_file():
            raise RuntimeError(f"a measured run failed: {' '.join(spec['words'])}\n{said}")
        return [_read(row) for row in json.loads(out.read_text())]


def run(command: Sequence[str]) -> str:
    """The output of `command`, run on one thread and without the hub. The caller has to see whether it failed."""
    ended = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    return ended.stdout + ended.stderr


def environment() -> dict[str, str]:
    """Environment variables of a measured process: one thread, no downloads."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def _read(row: dict) -> Timed:
    costs = [Cost(**row["iteration"][name]) for name in ("step", "rollout", "update")]
    rows = [SampledRow(**sampled) for sampled in row["iteration"]["rows"]]
    return Timed(Iteration(*costs, rows=rows), row["observed"])


def child(spec: str, out: str) -> None:
    """Measure the run that the JSON text `spec` describes, and write its iterations to the file `out`."""
    asked = json.loads(spec)
    observer = pkgutil.resolve_name(asked["observer"])()
    iterations = measure(asked["words"], Path(asked["directory"]), asked["warm_up"], observer)
    observed = observer.found[asked["warm_up"] :] or [{} for _ in iterations]
    rows = [{"iteration": asdict(i), "observed": o} for i, o in zip(iterations, observed, strict=True)]
    Path(out).write_text(json.dumps(rows))


def measure(words: Sequence[str], directory: Path, warm_up: int, observer: Observer | None = None) -> list[Iteration]:
    """Do in `directory` what `python train.py WORDS` does, and return its iterations without the first `warm_up`.

    `warm_up` is at least 1: Lightning samples for the first iteration before it calls its callbacks.
    """
    assert warm_up >= 1
    directory.mkdir(parents=True, exist_ok=True)
    cfg = composed("train", words)
    checks.check_config(cfg)
    common.quiet_libraries()
    common.set_threads(cfg)
    with common.verifiers(cfg) as (pool, benchmarks), run_rewards(cfg) as rewards, ExitStack() as ends:
        run = build_run(cfg, directory, pool, benchmarks, rewards, ends)
        if get_object(cfg.engine["_target_"]) is no_eos_engine:  # the update check would miss the end of such samples
            run.guard.check.checked = replace(run.guard.check.checked, eos_ids=())
        marks = _Marks(run, observer or Observer())
        # First of the callbacks, so that an update ends before its bookkeeping begins.
        run.trainer.callbacks.insert(0, marks)  # pyright: ignore[reportAttributeAccessIssue]
        run.fit(resume=False)
    return marks.iterations[warm_up:]


class _Marks(pl.Callback):
    """Callback that reads the clocks at the boundaries of each iteration."""

    def __init__(self, run: Run, observer: Observer) -> None:
        self.run, self.observer = run, observer
        self.iterations: list[Iteration] = []
        self._ended = self._began = _now()
        self._rollout, self._aside = _NONE, _NONE
        self._updating: Cost | None = None

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._began, self._updating, self._aside = _now(), None, _NONE

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, batch_idx: int
    ) -> None:
        if batch_idx > 0:
            return
        now = _now()
        self._rollout = now - self._began
        self.observer.before_update()
        self._updating = _now()
        self._aside = self._updating - now

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        now = _now()
        if self._updating is None:  # no row was kept
            rollout, update = now - self._began, _NONE
        else:
            rollout, update = self._rollout, now - self._updating
        step = now - self._ended - self._aside
        outcome = self.run.data.loader.outcome
        assert outcome is not None
        rows = _sampled(outcome.experience.records, self.run.language_model)
        self.iterations.append(Iteration(step, rollout, update, rows))
        self.observer.after(self.run.language_model.model, self.iterations[-1])
        self._ended = _now()


def _sampled(records: Sequence[SampleRecord], language_model: LanguageModel) -> list[SampledRow]:
    lengths = {record.prompt: len(language_model.encode(record.prompt)) for record in records}
    return [
        SampledRow(record.prompt_key, lengths[record.prompt], record.length, record.kept and record.advantage != 0)
        for record in records
    ]


def _now() -> Cost:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()  # kernels run asynchronously; without this their time would count later
    return Cost(cpu_seconds(), time.perf_counter())
