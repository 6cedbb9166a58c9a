"""`evaluate.py run=DIR`: the model that a run exported, asked as the run asked it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import yaml
from hydra.core.override_parser.types import Override

from winnow.app.command_line import CommandLine
from winnow.app.composition import Composer
from winnow.app.resume import quoted, subject
from winnow.errors import ConfigError

INHERITED = (
    "model",
    "dataset",
    "reward",
    "rollout",
    "eval",
    "benchmark",
    "benchmarks",
    "experiment",
    "seed",
    "plugins",
)
"""What of a run's overrides says how its model is asked and judged."""
TRAINS = {
    "algo": "",
    "iterations": "",
    "update": "",
    "optim": "",
    "metrics": "",
    "checkpoint": "",
    "logger": "",
    "rollout": "type eval.samples=, eval.max_tokens= or eval.temperature=",
    "eval.every": "",
    "eval.prompts": "type limit=",
}
"""What an evaluation does not read, and what to type instead, if anything."""


def complete(command: CommandLine, composer: Composer) -> CommandLine:
    """The command with the overrides of the run that it names before its own.

    Raises:
        ConfigError: no run, one without an exported model, or a setting that only training reads.
    """
    typed = composer.parse(command.overrides)
    directory = next((o.value() for o in reversed(typed) if o.get_key_element() == "run"), None)
    resumed = any(o.get_key_element() == "resume" for o in typed)
    if not resumed:
        refuse_training(typed)
    if directory is None or resumed:
        return command
    folder = Path(str(directory))
    if not (folder / ".hydra" / "overrides.yaml").is_file():
        raise ConfigError(f"run={directory}: no run directory; type run=outputs/DAY/NAME, or model=… for another model")
    if not (folder / "export" / "config.json").is_file():
        raise ConfigError(
            f"run={directory}: no exported model in it, as it has not ended; type resume={directory} to train.py, or "
            f"winnow export {directory} OUT and model.path=OUT"
        )
    theirs = composer.parse(yaml.safe_load((folder / ".hydra" / "overrides.yaml").read_text()))
    mine = {subject(o) for o in typed}
    kept = [str(o.input_line) for o in theirs if _is_inherited(o) and subject(o) not in mine]
    place = [f"model.path={quoted((folder / 'export').resolve())}"]
    place += [] if "model/lora" in mine else ["model/lora=none"]  # the export is merged
    return replace(command, overrides=(*kept, *place, *command.overrides))


def _root(override: Override) -> str:
    return subject(override).split("/")[0].split("@")[0].split(".")[0]


def _is_inherited(override: Override) -> bool:
    return _root(override) in INHERITED and not subject(override).startswith(("model/lora", "model.lora", "model.path"))


def refuse_training(overrides: Sequence[Override]) -> None:
    """A knob that does nothing does not exist."""
    for o in overrides:
        key = subject(o)
        for prefix, instead in TRAINS.items():
            if key == prefix or key.startswith((f"{prefix}.", f"{prefix}/", f"{prefix}@")):
                raise ConfigError(f"{o.input_line}: an evaluation does not read {prefix}; {instead or 'leave it out'}")
