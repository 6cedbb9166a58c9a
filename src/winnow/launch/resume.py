"""`resume=RUN_DIR` and `resume=last`: the same directory, the same overrides, and what is typed now."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.types import Override, Quote, QuotedString
from omegaconf import DictConfig, OmegaConf

from winnow.config.command_line import CommandLine
from winnow.config.compose import Composer
from winnow.errors import ConfigError

CHECKPOINTS = "checkpoints/iteration_*/manifest.json"
"""Pattern of what a run leaves that can be resumed."""
HYDRA_RECORDS = ("overrides.yaml", "config.yaml", "hydra.yaml")
FIXED_GROUPS = ("algo", "model", "dataset", "seed")


def requested_run(overrides: Sequence[Override], trace: str = CHECKPOINTS) -> Path | None:
    """The run directory that the overrides ask to resume, as an absolute path; `trace` is the pattern of what it must hold.

    Raises:
        ConfigError: no such directory, or nothing in it to go on from.
    """
    value = next((o.value() for o in reversed(overrides) if o.get_key_element() == "resume"), None)
    if value is None:
        return None
    directory = _newest(trace) if value == "last" else Path(str(value))
    what = "checkpoint" if trace == CHECKPOINTS else trace
    if directory is None:
        raise ConfigError(f"resume=last: no run under outputs/ has a {what}; start one without resume")
    if not directory.is_dir():
        raise ConfigError(f"resume={value}: no such directory; {_advice(trace)}")
    if next(directory.glob(trace), None) is None:
        raise ConfigError(f"resume={value}: no {what} in it; {_advice(trace)}")
    if not all((directory / ".hydra" / name).is_file() for name in HYDRA_RECORDS):
        raise ConfigError(f"resume={value}: its .hydra/ is not complete ({', '.join(HYDRA_RECORDS)}); {_advice(trace)}")
    return directory.resolve()


def _newest(trace: str) -> Path | None:
    newest = max(Path("outputs").glob(f"**/{trace}"), key=lambda path: path.stat().st_mtime_ns, default=None)
    return newest.parents[trace.count("/")] if newest is not None else None


def _advice(trace: str) -> str:
    newest = _newest(trace)
    return f"type resume={newest}" if newest is not None else "start a run without resume"


def with_resumed_overrides(command: CommandLine, directory: Path, composer: Composer) -> CommandLine:
    """The command with the run's own overrides first, in the run's directory."""
    now = [o for o in composer.parse(command.overrides) if o.get_key_element() not in ("resume", "hydra.run.dir")]
    typed = {overridden_key(o) for o in now}
    then = composer.parse(yaml.safe_load((directory / ".hydra/overrides.yaml").read_text()))
    kept = [o for o in then if overridden_key(o) not in typed and o.get_key_element() != "resume"]
    place = [f"resume={quoted(directory)}", f"hydra.run.dir={quoted(directory)}"]
    command = replace(command, overrides=tuple(str(o.input_line) for o in (*kept, *now)) + tuple(place))
    config_dir = _config_dir(directory)
    return command.within(config_dir) if config_dir and command.config_dir is None else command


def overridden_key(override: Override) -> str:
    """What an override is about, whatever it does to it."""
    return override.get_key_element().lstrip("+~")


def _config_dir(directory: Path) -> str | None:
    """The `--config-dir` that the run was started with."""
    sources = _load_record(directory, "hydra.yaml").hydra.runtime.config_sources
    return next((s.path for s in sources if s.provider == "command-line" and Path(s.path).is_dir()), None)


def quoted(path: Path) -> str:
    return QuotedString(str(path), Quote.single).with_quotes()


def refuse_changes(directory: Path, cfg: DictConfig) -> None:
    """
    Raises:
        ConfigError: `cfg` is of another algorithm, model, dataset or seed than the run was.
    """
    choices = _load_record(directory, "hydra.yaml").hydra.runtime.choices
    changed = _changed(dict(choices), dict(cfg.hydra.runtime.choices))
    changed = changed or _changed(dict(_leaves(_load_record(directory, "config.yaml"))), dict(_leaves(cfg)))
    if changed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise ConfigError(
            f"resume={directory}: {', '.join(changed[:3])}{more}; a run keeps its {', '.join(FIXED_GROUPS)}: "
            "leave out what changes them"
        )


def _changed(old: Mapping[Any, object], new: Mapping[Any, object]) -> list[str]:
    keys = [key for key in sorted({*old, *new}) if str(key).split("/")[0].split(".")[0] in FIXED_GROUPS]
    return [f"{key} was {old.get(key)} and is {new.get(key)}" for key in keys if old.get(key) != new.get(key)]


def _load_record(directory: Path, name: str) -> DictConfig:
    loaded = OmegaConf.load(directory / ".hydra" / name)
    assert isinstance(loaded, DictConfig)
    return loaded


def _leaves(cfg: DictConfig) -> Iterator[tuple[str, object]]:
    for section in FIXED_GROUPS:
        yield from _flat(section, OmegaConf.select(cfg, section))


def _flat(path: str, node: Any) -> Iterator[tuple[str, object]]:
    if isinstance(node, DictConfig):
        for key in node:
            yield from _flat(f"{path}.{key}", node[key])
    else:
        yield path, OmegaConf.to_container(node) if OmegaConf.is_config(node) else node
