"""Start of a run in its directory: nothing of the run is written there before it is accepted."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from winnow.config.instantiate import on_cuda
from winnow.config.saved_runs import (
    FOLDER,
    Change,
    changes,
    configuration_texts,
    keep_configuration,
    read_saved_run,
    write_configuration,
)
from winnow.errors import ConfigError
from winnow.run_logs.hashes import HASHES, text_hash
from winnow.run_logs.objective_file import write_objective
from winnow.run_logs.plugin_code import code_of, edited_code
from winnow.run_logs.run_files import RunFiles
from winnow.run_logs.run_log import RunLog
from winnow.run_logs.run_record import (
    RunRecord,
    Start,
    configuration_hashes,
    edited_configuration,
    new_record,
    now,
    read_record,
    this_machine,
    write_record,
)

ABOUT_LENGTH = frozenset(("iterations", "budget", "checkpoint", "logger", "trainer", "callbacks", "debug")) | {
    "task_name",
    "extras",
    "optimized_metric",
    "hparams_search",
}
"""Sections whose changes alter neither what a run computes nor how it is measured."""
OTHER_PROBLEMS = "the training problems are not those of the start before"


@dataclass(frozen=True)
class RunStart:
    """A start of the run in `directory`, with the configuration `cfg`, or a resume of it.

    `problems` is the hash of the training problems, as in `Start`; `objective` is the objective as a formula.
    `ranks` is the number of its processes; None of an evaluation, which is one.
    """

    directory: Path
    cfg: DictConfig
    resumed: bool
    record: RunRecord
    problems: str | None = None
    revisions: Mapping[str, str] = field(default_factory=dict)
    objective: str = ""
    ranks: int | None = None

    @classmethod
    def of(cls, directory: Path, cfg: DictConfig, program: str) -> "RunStart":
        """The start that `cfg` asks for. The record of a directory that has none yet is made, and not yet written.

        Raises:
            ConfigError: the directory holds iterations of another run.
        """
        record = read_record(directory) or new_record(program)
        start = cls(directory, cfg, cfg.get("resume") is not None, record)
        if start.resumed:
            start.refuse_foreign_iterations()
        return start

    def refuse_foreign_iterations(self) -> None:
        """Check that what the files in the directory record is this run's.

        Raises:
            ConfigError: it is not, or cannot be read.
        """
        try:
            RunFiles(self.directory).refuse_damaged_rows()
            recorded = RunFiles(self.directory).recorded_hashes()
        except ValueError as error:
            raise ConfigError(
                f"resume={self.directory}: {error}; bring back this run's own file, or start a new run"
            ) from error
        other = [hashes for hashes in recorded.values() if hashes.run != self.record.run]
        if other:
            raise ConfigError(
                f"resume={self.directory}: iteration {other[0].iteration} in {HASHES} belongs to another run "
                f"({other[0].run}, not {self.record.run}); bring back this run's own files, or start a new run"
            )

    def on_problems(self, problems: str | None, revisions: Mapping[str, str]) -> "RunStart":
        """This start with the hash of its training problems, and the revisions of the hub datasets that were read.

        Raises:
            ConfigError: a resumed run was begun with others, and `resume_force=true` is not typed.
        """
        if self._have_changed(problems) and not self.cfg.resume_force:
            raise ConfigError(
                f"resume={self.directory}: the training problems are not those that the run was begun with (their file "
                "has changed, or what is dropped for eval.sets); bring them back, or type resume_force=true, and the "
                "change is recorded"
            )
        return replace(self, problems=problems, revisions=revisions)

    def _have_changed(self, problems: str | None) -> bool:
        before = [start.problems for start in self.record.starts]
        return self.resumed and bool(before) and None not in (before[-1], problems) and before[-1] != problems

    def accept(self, after: int) -> RunRecord:
        """Write the record with this start, which goes on after `after`, and the configuration of a resumed run.

        The record comes first, so that every configuration that is found in the directory has its hash there.
        """
        found, texts, earlier = self._changes() if self.resumed else [], {}, None
        changed = [str(change) for change in found if self._is_told(change)]
        configuration = configuration_hashes(self.directory / FOLDER)
        if self.resumed:
            changed += edited_configuration(self.record, configuration)
            texts = configuration_texts(self.cfg, HydraConfig.get())  # pyright: ignore[reportArgumentType]
            configuration = {name: text_hash(text) for name, text in texts.items()}
            earlier = keep_configuration(self.directory, after) if found or changed else None
        if self._have_changed(self.problems):
            changed.append(OTHER_PROBLEMS)
        code = self._code()
        changed += self._edited(code)
        start = Start(
            after=after,
            at=now(),
            configuration=configuration,
            machine=this_machine(torch.get_num_threads(), device_of(self.cfg)),
            changed=tuple(changed),
            earlier=earlier,
            problems=self.problems,
            revisions=dict(self.revisions),
            code=code,
            ranks=self.ranks,
        )
        record = replace(self.record, starts=(*self.record.starts, start))
        write_record(self.directory, record)
        if texts:
            write_configuration(self.directory, texts)
        if self.objective:
            write_objective(self.directory, self.objective)
        RunFiles(self.directory).flush_to_disk()  # Hydra, which wrote the configuration of a new run, does not
        return record

    def lines(self) -> list[str]:
        """A line for each setting that this resume changes, for other training problems, and for edited plug-ins."""
        if not self.resumed:
            return []
        other = [OTHER_PROBLEMS] if self._have_changed(self.problems) else []
        return [
            f"changed by this resume: {change}" for change in (*self._changes(), *other, *self._edited(self._code()))
        ]

    def _code(self) -> dict[str, str]:
        return code_of(str(plugin) for plugin in self.cfg.get("plugins") or [])

    def _edited(self, code: Mapping[str, str]) -> list[str]:
        """Sentences on plug-ins, such as reward functions, whose code is not that of the start before."""
        return edited_code(self.record.starts[-1].code, code) if self.resumed and self.record.starts else []

    def _changes(self) -> list[Change]:
        try:
            saved = read_saved_run(self.directory)
        except ConfigError:  # a run that was started without a program, which has no .hydra
            return []
        return changes(saved, self.cfg, HydraConfig.get().runtime.choices)

    def _is_told(self, change: Change) -> bool:
        """Whether reports have to tell of the change; its length matters to a run whose learning rate falls over it."""
        falls = self.cfg.optim.schedule != "constant" and change.key == "iterations"
        return falls or change.section not in ABOUT_LENGTH


def accept_and_log(start: RunStart, log: RunLog | None, after: int) -> RunRecord:
    """Accept the start, which goes on after iteration `after`; only now may anything be written, and so the log."""
    record = start.accept(after)
    if log is not None:
        log.open(start.directory)
    return record


def device_of(cfg: DictConfig) -> str:
    """The name of the GPU that the run computes on, or cpu."""
    return torch.cuda.get_device_name() if on_cuda(cfg) and torch.cuda.is_available() else "cpu"
