"""Comparison of a run's files with the hashes that it recorded: what was edited since, and what is missing.

The hashes are the run's own, in `run.json` and `hashes.jsonl`. Who edits a file and its hash is found out only by
computing the iteration again (`winnow audit`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from winnow.run_logs.hashes import HASHES, IterationHashes
from winnow.run_logs.run_files import RunFiles
from winnow.run_logs.run_record import RunRecord, Start, configuration_hashes

CONFIGURATION = ".hydra"


@dataclass(frozen=True, slots=True)
class FileCheck:
    """Sentences on files that are not what the run recorded, and on what cannot be compared."""

    changed: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()

    def __add__(self, other: "FileCheck") -> "FileCheck":
        return replace(self, changed=self.changed + other.changed, unchecked=self.unchecked + other.unchecked)


@dataclass(frozen=True, slots=True)
class Segment:
    """The iterations of a run from one start or resume to the next, with the folder that holds their configuration.

    `changed` has a sentence for each file of the configuration that is not what the run recorded.
    """

    start: Start
    folder: str
    changed: tuple[str, ...]


def segments(directory: Path, record: RunRecord) -> list[Segment]:
    """The segments of the run in `directory`, in order.

    A resume that changes nothing writes the configuration anew without keeping the one before, which says the same.
    """
    found = []
    for number, start in enumerate(record.starts):
        kept = next((n for n, later in enumerate(record.starts) if n > number and later.earlier is not None), None)
        folder = CONFIGURATION if kept is None else str(record.starts[kept].earlier)
        written = record.starts[-1 if kept is None else kept - 1].configuration
        found.append(Segment(start, folder, tuple(_changed_configuration(directory, folder, written))))
    return found


def segment_of(iteration: int, of_run: list[Segment]) -> Segment:
    """The segment that an iteration above 0 was computed in."""
    return [segment for segment in of_run if segment.start.after < iteration][-1]


def _changed_configuration(directory: Path, folder: str, written: Mapping[str, str]) -> Iterator[str]:
    found = configuration_hashes(directory / folder)
    for name in sorted({*found, *written}):
        if name not in found:
            yield f"{folder}/{name} is missing"
        elif name not in written:
            yield f"{folder}/{name} was added"
        elif found[name] != written[name]:
            yield f"{folder}/{name} was edited"


def check_files(directory: Path, run: str) -> FileCheck:
    """Compare metrics, samples, evaluations and summary of the run with the id `run` with their hashes."""
    files = RunFiles(directory, run)
    try:
        recorded, found = files.recorded_hashes(), files.found_hashes()
    except ValueError as error:
        return FileCheck((f"{error}",))
    check = FileCheck()
    for iteration in sorted({*recorded, *found}):
        if iteration not in recorded:
            check += _without_hash(iteration, files, is_last=iteration == max(found))
        elif recorded[iteration].run != run:
            check += FileCheck((f"{HASHES}: iteration {iteration} is of another run, {recorded[iteration].run}",))
        elif iteration not in found:
            check += FileCheck((f"metrics.jsonl: the row of iteration {iteration} is missing",))
        else:
            check += _of_iteration(recorded[iteration], found[iteration])
    return check + FileCheck(tuple(_changed_summary(files)))


def _without_hash(iteration: int, files: RunFiles, is_last: bool) -> FileCheck:
    if is_last and files.read_summary().get("status") != "done":
        return FileCheck(
            unchecked=(f"iteration {iteration}: the run was killed before it recorded the hashes of that",)
        )
    return FileCheck((f"metrics.jsonl: iteration {iteration} has no hash in {HASHES}",))


def _of_iteration(recorded: IterationHashes, found: IterationHashes) -> FileCheck:
    number, changed, unchecked = recorded.iteration, [], []
    if found.metrics != recorded.metrics:
        changed.append(f"metrics.jsonl: the row of iteration {number} was edited")
    if found.evaluations != recorded.evaluations:
        changed.append(f"evaluations.jsonl: the lines of iteration {number} were edited")
    if recorded.samples is not None and found.samples is None:
        unchecked.append(f"samples/iteration_{number:06d}.jsonl is missing")
    elif found.samples != recorded.samples:
        changed.append(f"samples/iteration_{number:06d}.jsonl was edited")
    return FileCheck(tuple(changed), tuple(unchecked))


def _changed_summary(files: RunFiles) -> Iterator[str]:
    """A sentence for each figure in the summary of a finished run that is not in the metrics."""
    summary, rows = files.read_summary(), files.rows()
    if summary.get("status") != "done" or not rows:
        return
    evaluated = [accuracies for row in rows if (accuracies := _accuracies(row))]
    in_rows: dict[str, set[float]] = {
        "iterations": {rows[-1]["iteration"]},
        "sampled_tokens": {rows[-1].get("train/sampled_tokens_total", 0)},
        "trained_tokens": {rows[-1].get("train/tokens_trained_total", 0)},
    }
    if evaluated:
        in_rows |= {"eval_first": evaluated[0], "eval_last": evaluated[-1]}
    for name, values in in_rows.items():
        if summary.get(name) not in values:
            yield f"summary.json: {name} is {summary.get(name)}, which is not what metrics.jsonl says"


def _accuracies(row: Mapping[str, float]) -> set[float]:
    return {value for key, value in row.items() if key.startswith("eval/") and key.endswith("/acc")}
