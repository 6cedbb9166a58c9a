"""`winnow audit`: iterations of a run computed again from its own files, and compared with what the run recorded.

An iteration follows from the checkpoint before it and the configuration, because every random draw is a function of
its name. So it can be checked without the rest of the run: from a kept checkpoint, or the first one from the start.
"""

import io
import math
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from winnow.assemble import common
from winnow.assemble.run_start import device_of
from winnow.assemble.training import build_run
from winnow.config import checks
from winnow.config.instantiate import on_cuda
from winnow.config.saved_runs import SavedRun, read_saved_run
from winnow.errors import DIFFERS, DONE, UNDECIDED, ConfigError, Diverged
from winnow.run_logs.directory_lock import holder_of
from winnow.run_logs.file_check import Segment, check_files, segment_of, segments
from winnow.run_logs.run_files import RunFiles, checkpoint_folders, iteration_in
from winnow.run_logs.run_record import RunRecord, read_record, this_machine, write_record
from winnow.training.checkpoint import STATE, Damaged, read_manifest

MEASURED_BY_CLOCK = ("time/", "perf/")
SHOWN = 4
"""Number of differing metrics that a line names."""
ON_CUDA = "a GPU adds in no fixed order"
NO_TRACKER = "winnow.run_logs.tracker.NullTracker"


@dataclass(frozen=True, slots=True)
class Recomputed:
    """An iteration that was computed again.

    `differs` names what is not as recorded, `unchecked` what could not be compared. `reasons` may explain a difference:
    another machine or version. `prevented` says why it could not be computed at all.
    """

    iteration: int
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
            return f"iteration {self.iteration}: cannot be computed again here ({self.prevented})"
        if not self.differs:
            return f"iteration {self.iteration}: computed again, equal"
        why = f", which may be because of {'; '.join(self.reasons)}" if self.reasons else ""
        return f"iteration {self.iteration}: computed again, differs in {', '.join(self.differs)}{why}"


def audit(directory: Path, iterations: int, from_start: bool, say: Callable[[str], object]) -> int:
    """Check the run in `directory`, `say` a line for each finding, and return the exit code.

    `iterations` are computed again, chosen at random among those that follow a kept checkpoint, and the first iteration
    if `from_start`, or if there are no others.

    Raises:
        ConfigError: it holds no training run of this version that has ended.
    """
    record = _auditable(directory)
    of_run = segments(directory, record)
    files = check_files(directory, record.run)
    kept, damaged = _checkpoints(directory, record.run)
    edited = (*dict.fromkeys(line for segment in of_run for line in segment.changed), *damaged, *files.changed)
    done = _recorded(directory)
    say(f"{directory}: run {record.run}, {_times(len(done), 'iteration')}, {_times(len(record.starts), 'start')}")
    for line in edited:
        say(f"not as recorded: {line}")
    if not edited:
        say("configuration, metrics, samples, evaluations, checkpoints: as recorded")
    following = [number for number in done if number - 1 in kept]
    chosen = random.SystemRandom().sample(following, min(iterations, len(following)))
    if done and (from_start or (iterations > 0 and not following)):
        chosen = sorted({1, *chosen})
    results, unchecked = [], list(files.unchecked)
    for segment, numbers in groupby(sorted(chosen), lambda number: segment_of(number, of_run)):
        if segment.changed:
            unchecked.append(f"{_numbered(list(numbers))}: not computed again, because {segment.changed[0]}")
            continue
        for result in _Recomputation(directory, record, segment, kept).results(list(numbers)):
            results.append(result)
            say(str(result))
            unchecked += [f"iteration {result.iteration}: {line}" for line in result.unchecked]
    if left := sorted({*done} - {*following, *chosen}):
        unchecked.append(
            f"{_numbered(left)}: no checkpoint is kept directly before {'it' if len(left) == 1 else 'them'}"
        )
    for line in unchecked:
        say(f"not checked: {line}")
    return _verdict(bool(edited), [result.code for result in results], say)


def _verdict(edited: bool, codes: Sequence[int], say: Callable[[str], object]) -> int:
    if edited or DIFFERS in codes:
        say("differs: the files are not those that this configuration and these checkpoints give")
        return DIFFERS
    if UNDECIDED in codes or not codes:
        why = "audit it where it ran, with its versions, data and weights" if codes else "nothing was computed again"
        say(f"undecided: {why}")
        return UNDECIDED
    say(f"equal: {_times(len(codes), 'iteration')} computed again, the same bit for bit")
    return DONE


def _auditable(directory: Path) -> RunRecord:
    record = read_record(directory)
    if record is None or not record.starts:
        raise ConfigError(f"{directory}: holds no run with a readable run.json, so that nothing says what it computed")
    if record.program != "train":
        raise ConfigError(f"{directory}: is a run of {record.program}.py; audit the training run whose model it used")
    if (holder := holder_of(directory)) is not None:
        raise ConfigError(f"{directory}: still runs ({holder}); audit it when it has ended")
    return record


def _recorded(directory: Path) -> list[int]:
    """The iterations with a row and hashes, without 0, the state before training; none if the files are damaged."""
    files = RunFiles(directory)
    try:
        numbers = {*files.iterations()} & {*files.recorded_hashes()}
    except ValueError:
        return []
    return sorted(number for number in numbers if number > 0)


def _checkpoints(directory: Path, run: str) -> tuple[dict[int, Path | None], list[str]]:
    """The states of intact checkpoints by iteration, with None for the start; and sentences on those not intact."""
    intact: dict[int, Path | None] = {}
    damaged = []
    for folder in checkpoint_folders(directory / "checkpoints"):
        try:
            read_manifest(folder, run)
        except Damaged as damage:
            damaged.append(f"checkpoints/{folder.name}: {damage}")
        else:
            intact[iteration_in(folder)] = folder / STATE
    return intact, damaged


@dataclass(frozen=True)
class _Recomputation:
    """Computes iterations of one segment again, in temporary directories. `kept` are the states by iteration."""

    directory: Path
    record: RunRecord
    segment: Segment
    kept: dict[int, Path | None]

    def results(self, iterations: Sequence[int]) -> Iterator[Recomputed]:
        run = read_saved_run(self.directory, self.segment.folder)
        run.refuse_removed_targets(str(self.directory), "audit it with that version")
        checks.check_targets(run.cfg)
        if run.cfg.hardware.devices != 1:
            why = f"it ran on {run.cfg.hardware.devices} devices, and an audit computes on one"
            yield from (Recomputed(number, prevented=why) for number in iterations)
            return
        cfg, machine = _as_current(run), self.segment.start.machine
        common.quiet_libraries()
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
                with redirect_stdout(io.StringIO()), common.verifiers(cfg) as (verifier, benchmarks):
                    run = build_run(cfg, Path(folder), verifier, benchmarks, stop=iteration)
                    run.recompute(self.kept.get(iteration - 1))
            except Diverged as error:
                return Recomputed(iteration, (f"its end ({error})",), reasons=reasons)
            except ConfigError as error:
                # The rest of the line says what to type for a resume.
                why = str(error).removeprefix(f"resume={folder}: ").partition("; ")[0]
                return Recomputed(iteration, prevented=why)
            return _compared(iteration, RunFiles(self.directory), RunFiles(Path(folder)), reasons)


def _as_current(run: SavedRun) -> DictConfig:
    """The run's configuration as a new run without a tracker would get it, with Hydra's own settings in force."""
    # Not `set_config`, which takes the composed node with its types; what Hydra saved are plain values.
    HydraConfig.instance().cfg = OmegaConf.create({"hydra": run.hydra})  # pyright: ignore
    cfg = run.cfg.copy()
    with open_dict(cfg):
        cfg.resume_force, cfg.logger = False, {"_target_": NO_TRACKER}
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
    return Recomputed(iteration, tuple(differs), tuple(unchecked), reasons)


def _same(rows: Sequence[dict[str, float]], key: str) -> bool:
    one, other = (row.get(key) for row in rows)
    return one == other or (one is not None and other is not None and math.isnan(one) and math.isnan(other))


def _times(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _numbered(numbers: Sequence[int]) -> str:
    """`iteration 4`, `iterations 1–3, 7`."""
    runs = [[number for _, number in group] for _, group in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])]
    parts = [str(some[0]) if len(some) == 1 else f"{some[0]}–{some[-1]}" for some in runs]
    return f"iteration{'' if len(numbers) == 1 else 's'} {', '.join(parts)}"
