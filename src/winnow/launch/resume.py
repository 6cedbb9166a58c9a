"""`resume=RUN_DIR` and `resume=last`: a run continued in its directory, with its own overrides and those typed now."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override, Quote, QuotedString
from omegaconf import DictConfig, OmegaConf

from winnow.config.command_line import CommandLine
from winnow.config.compose import Composer
from winnow.config.saved_runs import SavedRun, read_saved_run
from winnow.errors import ConfigError

CHECKPOINTS = "checkpoints/iteration_*/manifest.json"
"""Glob pattern, inside a run directory, of what a training run must have left to be resumed."""
FIXED_GROUPS = ("algo", "model", "dataset", "seed")


def requested_run(overrides: Sequence[Override], trace: str = CHECKPOINTS) -> SavedRun | None:
    """The run that the overrides ask to resume; `trace` is the glob pattern of what its directory must hold.

    Raises:
        ConfigError: there is no such directory, or nothing in it to continue, or an earlier version of Winnow made it.
    """
    value = next((o.value() for o in reversed(overrides) if o.get_key_element() == "resume"), None)
    if value is None:
        return None
    newest = _newest(trace)
    directory = newest if value == "last" else Path(str(value))
    is_training = trace == CHECKPOINTS
    if directory is None:
        lacking = "has a checkpoint" if is_training else "is an evaluation"
        raise ConfigError(f"resume=last: no run under outputs/ {lacking}; start one without resume")
    if next(directory.glob(trace), None) is None:
        lacking = f"no {'checkpoint' if is_training else trace} in it" if directory.is_dir() else "no such directory"
        advice = f"type resume={newest}" if newest is not None else "start a run without resume"
        raise ConfigError(f"resume={value}: {lacking}; {advice}")
    run = read_saved_run(directory.resolve())
    training_advice = "`winnow report` still reads it; start a new run to continue training"
    run.refuse_removed_targets(f"resume={value}", training_advice if is_training else "start a new evaluation")
    return run


def _newest(trace: str) -> Path | None:
    newest = max(Path("outputs").glob(f"**/{trace}"), key=lambda path: path.stat().st_mtime_ns, default=None)
    return newest.parents[trace.count("/")] if newest is not None else None


def with_resumed_overrides(command: CommandLine, run: SavedRun, composer: Composer) -> CommandLine:
    """The command with the run's own overrides before those typed now, and with the run's directory."""
    typed = [o for o in composer.parse(command.overrides) if o.get_key_element() not in ("resume", "hydra.run.dir")]
    replaced = {overridden_key(o) for o in typed} | {"resume"}
    kept = [o for o in composer.parse(run.overrides) if overridden_key(o) not in replaced]
    place = [f"resume={quoted(run.directory)}", f"hydra.run.dir={quoted(run.directory)}"]
    command = replace(command, overrides=(*(str(o.input_line) for o in (*kept, *typed)), *place))
    sources = [s.path for s in run.hydra.runtime.config_sources if s.provider == "command-line"]
    # A folder that the run was given by --config-dir, if it still exists; a run has at most one.
    if command.config_dir is None and sources and Path(sources[0]).is_dir():
        return command.within(sources[0])
    return command


def overridden_key(override: Override) -> str:
    """The key or group that an override sets, adds or deletes."""
    return override.get_key_element().lstrip("+~")


def quoted(path: Path | str) -> str:
    """The value of an override that Hydra's parser reads as this text, whatever characters it holds."""
    return QuotedString(str(path), Quote.single).with_quotes()


def refuse_changes(run: SavedRun, cfg: DictConfig) -> None:
    """Check that `cfg` continues the run with the algorithm, model, dataset and seed that it had.

    Raises:
        ConfigError: the first three settings that differ.
    """
    changed = _changed(run.choices, cfg.hydra.runtime.choices)
    changed = changed or _changed(dict(_leaves(run.cfg)), dict(_leaves(cfg)))
    if changed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise ConfigError(
            f"resume={run.directory}: {', '.join(changed[:3])}{more}; a run keeps its {', '.join(FIXED_GROUPS)}: "
            "leave out what changes them"
        )


def _changed(old: Mapping[Any, object], new: Mapping[Any, object]) -> list[str]:
    keys = [key for key in sorted({*old, *new}) if str(key).split("/")[0].split(".")[0] in FIXED_GROUPS]
    return [f"{key} was {old.get(key)} and is {new.get(key)}" for key in keys if old.get(key) != new.get(key)]


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, object]]:
    """Dotted keys and values of every setting in the fixed groups, interpolations resolved."""
    if isinstance(node, DictConfig):
        for key in node if path else [group for group in FIXED_GROUPS if group in node]:
            yield from _leaves(node[key], f"{path}.{key}".lstrip("."))
    else:
        yield path, OmegaConf.to_container(node) if OmegaConf.is_config(node) else node
