"""`winnow export RUN OUT`: the newest checkpoint of a run as a Hugging Face folder, whether or not the run has ended."""

from pathlib import Path

import torch
from omegaconf import OmegaConf

from winnow import validation
from winnow.app.saved import SavedRun
from winnow.build import parts
from winnow.errors import ConfigError
from winnow.models.export import export
from winnow.models.language_model import fingerprint
from winnow.models.policy import Policy
from winnow.report.card import model_card
from winnow.report.run_files import RunFiles
from winnow.training.checkpoint import newest_valid
from winnow.training.datamodule import IterationData, Progress


def export_checkpoint(run: SavedRun, out: Path) -> str:
    """Write `out` and say what it is.

    Raises:
        ConfigError: `out` is there, `run` has no checkpoint that is whole, or its initial weights are not to be had.
    """
    parts.quiet()
    validation.require_trusted(run.cfg)
    if out.exists():
        raise ConfigError(f"{out}: is there already; type the name of a new directory")
    cfg, checkpoint = run.cfg, newest_valid(run.directory / "checkpoints")
    if checkpoint is None:
        raise ConfigError(f"{run.directory}: no checkpoint there is whole, so there is nothing to export")
    language_model = parts.model_source(cfg).load()
    state = torch.load(checkpoint, weights_only=True, map_location="cpu", mmap=True)
    progress = Progress(**state[IterationData.__qualname__])
    if progress.initial_weights != fingerprint(language_model.model):
        raise ConfigError(f"{run.directory}: it began with other weights than model {cfg.model.name} holds now")
    policy = Policy(language_model.model, cfg.rollout.temperature)
    theirs = {key.removeprefix("policy."): v for key, v in state["state_dict"].items() if key.startswith("policy.")}
    policy.load_state_dict(theirs, strict=language_model.adapter is None)
    config = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(config, dict)
    plain = {str(key): value for key, value in config.items()}
    summary = progress.summary("running", run.choices["algo"], cfg.model.name, run.choices["dataset"], cfg.seed)
    export(language_model, out, model_card(summary, plain, RunFiles(run.directory).rows()))
    return f"model after iteration {progress.iteration}: {out}"
