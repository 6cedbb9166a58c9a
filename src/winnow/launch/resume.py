"""`resume=RUN_DIR` and `resume=last`: a run continued in its directory, with its own overrides and those typed now."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from hydra.core.override_parser.types import Override, Quote, QuotedString
from omegaconf import DictConfig

from winnow.config.command_line import CommandLine
from winnow.config.compose import Composer
from winnow.config.groups import RENAMED_KEYS
from winnow.config.saved_runs import FOLDER, MISSING_SETTING, Change, SavedRun, changes, directory_named, read_saved_run
from winnow.errors import ConfigError
from winnow.launch.run_directory import CHECKPOINTS, can_begin_again, has_trace, program_in, was_cut_short
from winnow.run_logs.directory_lock import holder_of
from winnow.run_logs.run_record import configuration_hashes, edited_configuration, read_record

KEPT_BY_EVALUATIONS = ("model", "dataset", "seed")
SHOWN = 10
"""Number of changed settings that a refusal names."""


def requested_run(overrides: Sequence[Override], program: str = "train", trace: str = CHECKPOINTS) -> SavedRun | None:
    """The run of `program` that the overrides ask to resume; `trace` is the glob pattern of what it leaves behind.

    A run that ended before it left a trace is begun again.

    Raises:
        ConfigError: there is no such directory, or nothing in it to continue, or an earlier version of Winnow made it.
    """
    typed = next((o for o in reversed(overrides) if o.get_key_element() == "resume"), None)
    value = None if typed is None else typed.value()
    if typed is not None and (typed.is_sweep_override() or isinstance(value, list | dict)):
        raise ConfigError(
            f"{typed.input_line}: continues one run, and is not swept over; type resume=RUN_DIR without -m"
        )
    if value is None:
        return None
    is_training = trace == CHECKPOINTS
    if value == "last":
        directory = next(_resumable(program, trace), None)
        if directory is None:
            lacking = "has a checkpoint" if is_training else "is an evaluation"
            raise ConfigError(
                f"resume=last: no run under outputs/ {lacking}; type resume=RUN_DIR for one elsewhere, or start one "
                "without resume"
            )
    else:
        directory = directory_named("resume", value)
        if not has_trace(directory, trace) and not can_begin_again(directory, program):
            raise ConfigError(f"resume={value}: {_lacking(directory, program, trace)}")
    run = read_saved_run(directory.resolve())
    training_advice = "`winnow report` still reads it; start a new run to continue training"
    run.refuse_removed_targets(f"resume={value}", training_advice if is_training else "start a new evaluation")
    return run


def _lacking(directory: Path, program: str, trace: str) -> str:
    """Why there is nothing to resume in `directory`, and what to type instead."""
    newest = next(_resumable(program, trace), None)
    advice = f"type resume={newest}" if newest is not None else "start a run without resume"
    if not directory.is_dir():
        return f"no such directory; {advice}"
    other = program_in(directory)
    if other not in (None, program):
        return f"is a run of {other}.py; type python {other}.py resume={directory}"
    return f"no {'checkpoint' if trace == CHECKPOINTS else trace} in it; {advice}"


def _resumable(program: str, trace: str) -> Iterator[Path]:
    """The runs under outputs/ that `resume=last` may take, the one that was saved last first."""
    outputs = Path("outputs")
    begun = {path.parents[1]: path for path in outputs.glob(f"**/{FOLDER}/overrides.yaml")}
    saved = [(path.parents[trace.count("/")], path) for path in outputs.glob(f"**/{trace}")]
    times = {directory: path.stat().st_mtime_ns for directory, path in begun.items()}
    for directory in {directory for directory, _ in saved}:
        times[directory] = max(path.stat().st_mtime_ns for of, path in saved if of == directory)
    for directory in sorted(times, key=lambda directory: times[directory], reverse=True):
        again = directory in begun and can_begin_again(directory, program) and was_cut_short(directory)
        if not has_trace(directory, trace) and not again:
            continue
        if (holder := holder_of(directory)) is not None:
            print(f"resume=last: {directory} is still running ({holder}), skipped", flush=True)
            continue
        yield directory


def with_resumed_overrides(command: CommandLine, run: SavedRun, composer: Composer) -> CommandLine:
    """The command with the run's own overrides before those typed now, and with the run's directory.

    Hydra is not to write the configuration: that is done when the run is accepted.
    """
    typed = [o for o in composer.parse(command.overrides) if o.get_key_element() not in ("resume", "hydra.run.dir")]
    replaced = {overridden_key(o) for o in typed} | {"resume", "resume_force"}
    kept = [o for o in composer.parse(_renamed(run.overrides)) if overridden_key(o) not in replaced]
    place = [f"resume={quoted(run.directory)}", f"hydra.run.dir={quoted(run.directory)}", "hydra.output_subdir=null"]
    command = replace(command, overrides=(*(str(o.input_line) for o in (*kept, *typed)), *place))
    return command.within(run.config_dir)


def _renamed(lines: Sequence[str]) -> list[str]:
    """A run's overrides with the present names of keys that an earlier version of Winnow called otherwise."""
    keys = (line.partition("=") for line in lines)
    return ["".join((RENAMED_KEYS.get(key, key), equals, value)) for key, equals, value in keys]


def overridden_key(override: Override) -> str:
    """The key or group that an override sets, adds or deletes."""
    return override.get_key_element().lstrip("+~")


def quoted(path: Path | str) -> str:
    """The value of an override that Hydra's parser reads as this text, whatever characters it holds."""
    return QuotedString(str(path), Quote.single).with_quotes()


def refuse_changes(run: SavedRun, cfg: DictConfig, typed: Sequence[Override], trace: str = CHECKPOINTS) -> None:
    """Check that `cfg` continues the run with the settings that it was begun with.

    `typed` are the overrides typed now. A setting that the saved configuration lacks, or that has since been removed,
    comes from another version, and counts only if it is typed. An evaluation, known by its `trace`, compares the rest
    with its plan, `evaluation.json`, before it draws a sample.

    Raises:
        ConfigError: a setting outside `MAY_CHANGE` differs, and `resume_force=true` is not typed.
    """
    if cfg.get("resume_force"):
        return
    record = read_record(run.directory)
    edited = [] if record is None else edited_configuration(record, configuration_hashes(run.directory / FOLDER))
    if edited:
        raise ConfigError(
            f"resume={run.directory}: {FOLDER}/{edited[0]} since the run wrote it; bring it back, or type "
            "resume_force=true to go on with what it says now"
        )
    named = [overridden_key(o).split("@")[0].replace("/", ".") for o in typed]
    found = changes(run, cfg, cfg.hydra.runtime.choices)
    if trace != CHECKPOINTS:
        found = [change for change in found if change.section in KEPT_BY_EVALUATIONS]
    refused = [c for c in found if not c.is_allowed and (MISSING_SETTING not in (c.old, c.new) or _is_named(c, named))]
    options = [change.key.replace("/", ".") + "." for change in refused if "." not in change.key]
    told = [change for change in refused if "." not in change.key or not change.key.startswith(tuple(options))]
    if told:
        more = f" and {len(told) - SHOWN} more" if len(told) > SHOWN else ""
        raise ConfigError(
            f"resume={run.directory}: {', '.join(map(str, told[:SHOWN]))}{more}; a run keeps the settings that it was "
            "begun with: leave out what changes them, or type resume_force=true, and the change is recorded"
        )


def _is_named(change: Change, keys: Sequence[str]) -> bool:
    """Whether one of the dotted `keys` is the change's, or lies above or below it."""
    key = change.key.replace("/", ".") + "."
    return any(key.startswith(f"{name}.") or f"{name}.".startswith(key) for name in keys)
