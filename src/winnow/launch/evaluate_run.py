"""`evaluate.py run=DIR`: the model that a run exported, asked as the run asked it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import yaml
from hydra.core.override_parser.types import Override

from winnow.config.command_line import CommandLine
from winnow.config.compose import Composer
from winnow.config.saved_runs import read_saved_run
from winnow.errors import ConfigError
from winnow.launch.resume import overridden_key, quoted

INHERITED = (
    "model",
    "dataset",
    "reward",
    "rollout",
    "eval",
    "benchmark",
    "benchmarks",
    "experiment",
    "arm",
    "seed",
    "plugins",
)
"""What of a run's overrides says how its model is asked and judged."""
TRAINING_ONLY = {
    "algo": "",
    "iterations": "",
    "budget": "",
    "update": "",
    "optim": "",
    "metrics": "",
    "checkpoint": "",
    "logger": "",
    "rollout": "type eval.samples=, eval.max_tokens= or eval.temperature=",
    "eval.every": "",
    "eval.prompts": "type limit=",
    "reward.correct": "",
    "reward.wrong": "",
    "reward.no_answer": "",
    "hardware.token_budget": "type batch= or engine.max_rows=",
    "hardware.gradient_checkpointing": "",
    "hardware.compile": "",
    "hardware.strategy": "",
    "debug": "type limit=",
    "study": "",
}
"""What an evaluation does not read, and what to type instead, if anything."""


def with_run_overrides(command: CommandLine, composer: Composer) -> CommandLine:
    """The command with the overrides of the run that it names before its own.

    Raises:
        ConfigError: no run, one without an exported model, or a setting that only training reads.
    """
    typed = composer.parse(command.overrides)
    named = next((o for o in reversed(typed) if o.get_key_element() == "run"), None)
    resumed = any(o.get_key_element() == "resume" for o in typed)
    if not resumed:
        refuse_training(typed)
        _refuse_idle_verifier(typed)
    if named is None or named.value() is None or resumed or named.is_sweep_override() or command.multirun:
        return command  # a resumed evaluation has them already, and each job of a sweep completes its own words
    directory = named.value()
    folder = Path(str(directory))
    if not (folder / ".hydra" / "overrides.yaml").is_file():
        raise ConfigError(f"run={directory}: no run directory; type run=outputs/DAY/NAME, or model=… for another model")
    if (folder / "evaluation.json").is_file():
        raise ConfigError(f"run={directory}: is an evaluation, not a run; type resume={directory} to go on with it")
    mine = {overridden_key(o) for o in typed}
    if "model" in mine:
        raise ConfigError(f"run={directory}: says which model it is; leave out model=, or leave out run=")
    if "model.path" not in mine and not (folder / "export" / "config.json").is_file():
        raise ConfigError(
            f"run={directory}: no exported model in it, as it has not ended; type winnow export {directory} OUT, "
            f"then run={directory} model.path=OUT"
        )
    theirs = composer.parse(yaml.safe_load((folder / ".hydra" / "overrides.yaml").read_text()))
    kept = [str(o.input_line) for o in theirs if _is_inherited(o) and overridden_key(o) not in mine]
    place = [] if "model.path" in mine else [f"model.path={quoted((folder / 'export').resolve())}"]
    # An export is merged. A model without the group has nothing to leave out.
    place += ["model/lora=none"] if "model/lora" in read_saved_run(folder).choices and "model/lora" not in mine else []
    return replace(command, overrides=(*kept, *place, *command.overrides))


def _root(override: Override) -> str:
    return overridden_key(override).split("/")[0].split("@")[0].split(".")[0]


def _is_inherited(override: Override) -> bool:
    return _root(override) in INHERITED and not overridden_key(override).startswith(
        ("model/lora", "model.lora", "model.path")
    )


def _refuse_idle_verifier(overrides: Sequence[Override]) -> None:
    """Benchmarks bring their verifiers; that of the rewards judges the dataset's own held-out split only."""
    chosen = next((o.value() for o in reversed(overrides) if o.get_key_element() == "eval.sets"), None)
    sets = [str(name) for name in chosen] if isinstance(chosen, list) else []
    for o in overrides if sets else []:
        if overridden_key(o) == "reward/verifier" or overridden_key(o).startswith("reward.verifier"):
            node = f"benchmarks.{sets[0]}.verifier"
            key = (
                overridden_key(o).replace("reward/verifier", f"reward/verifier@{node}").replace("reward.verifier", node)
            )
            raise ConfigError(
                f"{o.input_line}: each benchmark brings its own verifier; type {key}={o.value()}, or judge anew "
                "afterwards: winnow rescore"
            )


def refuse_training(overrides: Sequence[Override]) -> None:
    """A knob that does nothing does not exist."""
    for o in overrides:
        key = overridden_key(o)
        for prefix, instead in TRAINING_ONLY.items():
            if key == prefix or key.startswith((f"{prefix}.", f"{prefix}/", f"{prefix}@")):
                raise ConfigError(f"{o.input_line}: an evaluation does not read {prefix}; {instead or 'leave it out'}")
