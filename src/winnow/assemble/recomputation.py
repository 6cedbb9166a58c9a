"""Iterations and the exported model, computed again in a temporary directory and compared with the run's files."""

import io
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from winnow.assemble import common
from winnow.assemble.export import Trained
from winnow.assemble.rewards import run_rewards
from winnow.assemble.run_start import device_of
from winnow.assemble.training import build_run
from winnow.config import checks
from winnow.config.instantiate import on_cuda
from winnow.config.saved_runs import SavedRun, read_saved_run
from winnow.errors import DIFFERS, DONE, UNDECIDED, ConfigError, Diverged
from winnow.files import sha256_of
from winnow.models.language_model import fingerprint
from winnow.run_logs.file_check import Segment
from winnow.run_logs.hashes import HASHES
from winnow.run_logs.plugin_code import code_of, edited_modules
from winnow.run_logs.run_files import RunFiles
from winnow.run_logs.run_record import RunRecord, this_machine, write_record
from winnow.training.checkpoint import iteration_of

MEASURED_BY_CLOCK = ("time/", "perf/")
SHOWN = 4
"""Number of differing metrics that a line names."""
OBSERVING = ("logger", "trainer", "callbacks")
"""Sections that change nothing of what a run computes; an audit does without them, and so finds it if one did."""
ON_CUDA = "a GPU adds in no fixed order"


@dataclass(frozen=True, slots=True)
class Recomputed:
    """An iteration, or the exported model, that was computed again.

    `differs` names what is not as recorded, `unchecked` what could not be compared. `reasons` may explain a difference:
    another machine or version. `prevented` says why it could not be computed at all.
    """

    name: str
    differs: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    prevented: str | None = None

    @property
    def code(self) -> int:
        if self.prevented is None and not self.differs:
            return DONE
        return UNDECIDED if self.prevented is not None or self.reasons else DIFFERS

    def __str__(self) -> str:
        if self.prevented is not None:
            return f"{self.name}: cannot be computed again here ({self.prevented})"
        if not self.differs:
            return f"{self.name}: computed again, equal"
        why = f", which may be because of {'; '.join(self.reasons)}" if self.reasons else ""
        return f"{self.name}: computed again, differs in {', '.join(self.differs)}{why}"


@dataclass(frozen=True)
class Recomputation:
    """Computes iterations of one segment again, in temporary directories. `kept` are the states by iteration."""

    directory: Path
    record: RunRecord
    segment: Segment
    kept: Mapping[int, Path]

    def results(self, iterations: Sequence[int]) -> Iterator[Recomputed]:
        run = _saved(self.directory, self.segment)
        devices = self.segment.start.ranks or run.cfg.hardware.devices
        if devices not in (1, "auto"):
            why = f"it ran on {devices} devices, and an audit computes on one"
            yield from (Recomputed(f"iteration {number}", prevented=why) for number in iterations)
            return
        cfg, machine = _as_current(run), self.segment.start.machine
        if machine is not None:
            torch.set_num_threads(machine.threads)
        here = this_machine(torch.get_num_threads(), device_of(cfg))
        reasons = (*([] if machine is None else here.differences(machine)), *([ON_CUDA] if on_cuda(cfg) else []))
        for number in iterations:
            yield self._again(cfg, number, reasons)

    def _again(self, cfg: DictConfig, iteration: int, reasons: tuple[str, ...]) -> Recomputed:
        with tempfile.TemporaryDirectory(prefix="winnow-audit-") as folder:
            try:
                # With the run's record in it, a start there compares the training problems with the run's.
                write_record(Path(folder), replace(self.record, starts=(self.segment.start,)))
                cfg.resume = folder
                with (
                    redirect_stdout(io.StringIO()),
                    common.verifiers(cfg) as (verifier, benchmarks),
                    run_rewards(cfg) as rewards,
                    ExitStack() as ends,
                ):
                    run = build_run(cfg, Path(folder), verifier, benchmarks, rewards, ends, stop=iteration)
                    run.recompute(self.kept.get(iteration - 1))
            except Diverged as error:
                return Recomputed(f"iteration {iteration}", (f"its end ({error})",), reasons=reasons)
            except ConfigError as error:
                # The rest of the line says what to type for a resume.
                why = str(error).removeprefix(f"resume={folder}: ").partition("; ")[0]
                return Recomputed(f"iteration {iteration}", prevented=why)
            modules = edited_modules(self.segment.start.code, code_of(map(str, cfg.get("plugins") or [])))
            edited = (f"{module}, whose code was edited" for module in modules)
            return _compared(iteration, RunFiles(self.directory), RunFiles(Path(folder)), (*edited, *reasons))


def _as_current(run: SavedRun) -> DictConfig:
    """The run's configuration as a new run without a tracker would get it, with Hydra's own settings in force."""
    # Not `set_config`, which takes the composed node with its types; what Hydra saved are plain values.
    HydraConfig.instance().cfg = OmegaConf.create({"hydra": run.hydra})  # pyright: ignore
    cfg = run.cfg.copy()
    with open_dict(cfg):
        cfg.resume_force = False
        cfg.hardware.devices = 1
        for section in OBSERVING:
            cfg[section] = {}
        cfg.rollout.problems = cfg.rollout.get("problems")
    return cfg


def _compared(iteration: int, before: RunFiles, again: RunFiles, reasons: tuple[str, ...]) -> Recomputed:
    recorded, computed = before.recorded_hashes()[iteration], again.recorded_hashes()[iteration]
    differs, unchecked = [], []
    for name in ("samples", "weights"):
        if getattr(recorded, name) is None:
            unchecked.append(f"no hash of its {name} was recorded")
        elif getattr(recorded, name) != getattr(computed, name):
            differs.append(name)
    rows = [{row["iteration"]: row for row in files.rows()}.get(iteration, {}) for files in (before, again)]
    is_evaluated = [any(key.startswith("eval/") for key in row) for row in rows]
    without = MEASURED_BY_CLOCK if is_evaluated[0] == is_evaluated[1] else (*MEASURED_BY_CLOCK, "eval/")
    if is_evaluated[0] != is_evaluated[1]:
        unchecked.append("its evaluation, which a resume, a signal or a budget of seconds has added or prevented")
    other = [key for key in {**rows[0], **rows[1]} if not key.startswith(without) and not _same(rows, key)]
    if other:
        more = f" and {len(other) - SHOWN} more" if len(other) > SHOWN else ""
        differs.append(f"metrics ({', '.join(other[:SHOWN])}{more})")
    if all(is_evaluated) and recorded.evaluations != computed.evaluations:
        differs.append("evaluations")
    return Recomputed(f"iteration {iteration}", tuple(differs), tuple(unchecked), reasons)


def _same(rows: Sequence[dict[str, float]], key: str) -> bool:
    one, other = (row.get(key) for row in rows)
    return one == other or (one is not None and other is not None and math.isnan(one) and math.isnan(other))


def _saved(directory: Path, segment: Segment) -> SavedRun:
    """The configuration of a segment, after the checks that make it fit to be built."""
    run = read_saved_run(directory, segment.folder)
    checks.check_saved(run, "audit it with that version")
    common.quiet_libraries()
    return run


def export_again(directory: Path, last: Segment, state: Path) -> Recomputed:
    """Write the model in the run's last state file again, and compare its files with those of `export/`.

    The card, README.md, is not compared: it describes the run, and holds nothing that a model is loaded from.
    """
    run, machine = _saved(directory, last), last.start.machine
    iteration = iteration_of(state)
    name = f"export/ (checkpoint of iteration {iteration})"
    with tempfile.TemporaryDirectory(prefix="winnow-audit-") as folder:
        try:
            trained = Trained.of(run, state)
        except ConfigError as error:
            return Recomputed(name, prevented=str(error).removeprefix(f"{run.directory}: "))
        trained.export(Path(folder) / "export")
        again, before = _hashes_in(Path(folder) / "export"), _hashes_in(run.directory / "export")
    recorded = RunFiles(run.directory).recorded_hashes().get(iteration)
    if recorded is not None and recorded.weights != fingerprint(trained.language_model.model):
        return Recomputed(name, (f"the weights of that checkpoint, which are not those that {HASHES} has",))
    differs = tuple(file for file in sorted({*again, *before}) if again.get(file) != before.get(file))
    here = this_machine(torch.get_num_threads(), device_of(run.cfg))
    # Writing a model computes nothing, so that only versions may explain a difference.
    return Recomputed(name, differs, reasons=() if machine is None else tuple(here.other_versions(machine)))


def _hashes_in(folder: Path) -> dict[str, str]:
    """SHA-256 by path of the files below `folder` but the cards."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "README.md"]
    return {str(path.relative_to(folder)): sha256_of(path) for path in files}
