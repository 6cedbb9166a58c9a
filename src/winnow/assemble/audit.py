"""`winnow audit`: iterations of a run computed again from its own files, and compared with what the run recorded.

An iteration follows from the checkpoint before it and the configuration, because every random draw is a function of
its name. So it can be checked without the rest of the run: from a kept checkpoint, or the first one from the start.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from winnow.assemble.recomputation import Recomputation, Recomputed, export_again
from winnow.errors import DIFFERS, DONE, UNDECIDED, ConfigError
from winnow.run_logs.directory_lock import holder_of
from winnow.run_logs.file_check import Segment, check_files, segment_of, segments
from winnow.run_logs.run_files import RunFiles, checkpoint_folders, iteration_in
from winnow.run_logs.run_record import RunRecord, read_record
from winnow.training.checkpoint import STATE, Damaged, read_manifest


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
        for result in Recomputation(directory, record, segment, kept).results(list(numbers)):
            results.append(result)
            say(str(result))
            unchecked += [f"{result.name}: {line}" for line in result.unchecked]
    exported = _exported(directory, of_run[-1], kept if done else {})
    if isinstance(exported, Recomputed):
        say(str(exported))
    else:
        unchecked.append(f"export/: {exported}")
    if left := sorted({*done} - {*following, *chosen}):
        unchecked.append(
            f"{_numbered(left)}: no checkpoint is kept directly before {'it' if len(left) == 1 else 'them'}"
        )
    for line in unchecked:
        say(f"not checked: {line}")
    is_edited = bool(edited) or (isinstance(exported, Recomputed) and exported.code == DIFFERS)
    return _verdict(is_edited, [result.code for result in results], say)


def _exported(directory: Path, last: Segment, kept: Mapping[int, Path]) -> Recomputed | str:
    """The exported model written again from the newest checkpoint, or a sentence that says why it was not."""
    if not (directory / "export").is_dir():
        return "there is none"
    if last.changed:
        return f"not written again, because {last.changed[0]}"
    summary = RunFiles(directory).read_summary()
    state = kept.get(newest := max(kept, default=0))
    if state is None or (summary.get("status"), summary.get("iterations")) != ("done", newest):
        return "no checkpoint of the iteration at which it was written is kept"
    return export_again(directory, last, state)


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


def _checkpoints(directory: Path, run: str) -> tuple[dict[int, Path], list[str]]:
    """The states of intact checkpoints by iteration; and sentences on those not intact."""
    intact: dict[int, Path] = {}
    damaged = []
    for folder in checkpoint_folders(directory / "checkpoints"):
        try:
            read_manifest(folder, run)
        except Damaged as damage:
            damaged.append(f"checkpoints/{folder.name}: {damage}")
        else:
            intact[iteration_in(folder)] = folder / STATE
    return intact, damaged


def _times(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _numbered(numbers: Sequence[int]) -> str:
    """`iteration 4`, `iterations 1–3, 7`."""
    runs = [[number for _, number in group] for _, group in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])]
    parts = [str(some[0]) if len(some) == 1 else f"{some[0]}–{some[-1]}" for some in runs]
    return f"iteration{'' if len(numbers) == 1 else 's'} {', '.join(parts)}"
