"""`evaluate.py run=DIR`: the model that a run exported, evaluated with the run's prompts, sampling and verifier."""

from collections.abc import Sequence
from dataclasses import replace

from hydra.core.override_parser.types import Override

from winnow.config.command_line import CommandLine
from winnow.config.compose import Composer
from winnow.config.heldout_files import OWN
from winnow.config.saved_runs import directory_named, read_saved_run
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
"""Sections whose overrides in a run say how its model is prompted, sampled and judged."""
TRAINING_ONLY = {
    "algo": "",
    "iterations": "",
    "curriculum": "",
    "collector": "",
    "budget": "",
    "update": "",
    "optim": "",
    "metrics": "",
    "checkpoint": "",
    "logger": "",
    "trainer": "",
    "callbacks": "",
    "hparams_search": "",
    "optimized_metric": "",
    "rollout": "type eval.samples=, eval.max_tokens= or eval.temperature=",
    "eval.every": "",
    "eval.prompts": "type limit=",
    "reward.length": "",
    "reward/length": "",
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
"""Settings that an evaluation does not read, with what to type instead, if anything."""


def with_run_overrides(command: CommandLine, composer: Composer) -> CommandLine:
    """The command with the overrides of the run that it names before its own.

    Raises:
        ConfigError: there is no such run or no exported model in it, or a typed setting is read only by training.
    """
    overrides = composer.parse(command.overrides)
    named = next((o for o in reversed(overrides) if o.get_key_element() == "run"), None)
    resumed = any(o.get_key_element() == "resume" for o in overrides)
    if not resumed:
        _refuse_training_settings(overrides)
        _refuse_idle_verifier(overrides)
    # A resumed evaluation has the run's overrides already, and each job of a sweep adds those of the run that it names.
    if named is None or named.value() is None or resumed or named.is_sweep_override() or command.multirun:
        return command
    directory = named.value()
    if isinstance(directory, list | dict):
        raise ConfigError(
            f"{named.input_line}: an evaluation is of one run; type run=RUN_DIR, or -m run=A,B for several"
        )
    folder = directory_named("run", directory)
    if not (folder / ".hydra" / "overrides.yaml").is_file():
        raise ConfigError(f"run={directory}: no run directory; type run=outputs/DAY/NAME, or model=… for another model")
    if (folder / "evaluation.json").is_file():
        raise ConfigError(f"run={directory}: is an evaluation, not a run; continue it with resume={directory}")
    typed = {overridden_key(o) for o in overrides}
    if "model" in typed:
        raise ConfigError(f"run={directory}: the run determines the model; leave out model=, or leave out run=")
    if "model.path" not in typed and not (folder / "export" / "config.json").is_file():
        raise ConfigError(
            f"run={directory}: holds no exported model, as the run has not ended; type winnow export {directory} OUT, "
            f"then run={directory} model.path=OUT"
        )
    run = read_saved_run(folder)
    inherited = [o for o in composer.parse(run.overrides) if _is_inherited(o) and overridden_key(o) not in typed]
    added = [] if "model.path" in typed else [f"model.path={quoted((folder / 'export').resolve())}"]
    if "model/lora" in run.choices and "model/lora" not in typed:
        added.append("model/lora=none")  # adapters are merged into an export
    overrides = (*(str(o.input_line) for o in inherited), *added, *command.overrides)
    return replace(command, overrides=overrides).within(run.config_dir)


def _is_inherited(override: Override) -> bool:
    key = overridden_key(override)
    section = key.split("/")[0].split("@")[0].split(".")[0]
    return section in INHERITED and not key.startswith(("model/lora", "model.lora", "model.path"))


def _refuse_idle_verifier(overrides: Sequence[Override]) -> None:
    """Refuse a verifier of the rewards beside benchmarks: they bring their own, and it would judge no answer."""
    chosen = next((o.value() for o in reversed(overrides) if o.get_key_element() == "eval.sets"), None)
    sets = [str(name) for name in chosen] if isinstance(chosen, list) else []
    if OWN in sets or any(overridden_key(o).startswith("eval.files") for o in overrides):
        return  # the dataset's own held-out problems and own files are judged by it
    for o in overrides if sets else []:
        key, node = overridden_key(o), f"benchmarks.{sets[0]}.verifier"
        if key == "reward/verifier" or key.startswith("reward.verifier"):
            instead = key.replace("reward/verifier", f"reward/verifier@{node}").replace("reward.verifier", node)
            raise ConfigError(
                f"{o.input_line}: each benchmark brings its own verifier; type {instead}={o.value()}, or judge the "
                "samples again afterwards with winnow rescore"
            )


def _refuse_training_settings(overrides: Sequence[Override]) -> None:
    """Refuse settings that would have no effect on an evaluation."""
    for o in overrides:
        key = overridden_key(o)
        for prefix, instead in TRAINING_ONLY.items():
            if key == prefix or key.startswith((f"{prefix}.", f"{prefix}/", f"{prefix}@")):
                raise ConfigError(f"{o.input_line}: an evaluation does not read {prefix}; {instead or 'leave it out'}")
