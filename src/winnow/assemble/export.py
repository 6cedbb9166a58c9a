"""`winnow export`: a checkpoint as a Hugging Face folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from winnow.assemble import common
from winnow.config import checks
from winnow.config.instantiate import plain_config
from winnow.config.saved_runs import SavedRun
from winnow.errors import ConfigError
from winnow.files import disk_errno
from winnow.models.export import export_model
from winnow.models.language_model import LanguageModel, fingerprint
from winnow.models.policy import Policy
from winnow.run_logs.model_card import model_card
from winnow.run_logs.run_files import RunFiles
from winnow.run_logs.run_record import read_record
from winnow.training.checkpoint import load_state, newest_valid
from winnow.training.progress import IterationData, RunProgress


@contextmanager
def _folder_errors(out: Path) -> Iterator[None]:
    """Context in which a folder `out` that cannot be made is a ConfigError; the caller knows what a full disk means."""
    try:
        yield
    except OSError as error:
        if disk_errno(error) is not None:
            raise
        raise ConfigError(f"{out}: cannot be written ({error.strerror}); choose another directory") from error


def export_checkpoint(run: SavedRun, out: Path) -> str:
    """Write the newest checkpoint of a run, which need not have ended, to the folder `out`; return a line about it.

    Raises:
        ConfigError: `out` exists, `run` has no complete checkpoint or was made by an earlier version of Winnow, or its
            initial weights cannot be loaded.
    """
    common.quiet_libraries()
    common.keep_compiled_code()
    run.refuse_removed_targets(str(run.directory), "`winnow report` still reads it; export it with that version")
    checks.check_targets(run.cfg)
    with _folder_errors(out):
        if out.exists():
            raise ConfigError(f"{out}: exists already; type the name of a new directory")
    record = read_record(run.directory)
    checkpoint = newest_valid(run.directory / "checkpoints", None if record is None else record.run)
    if checkpoint is None:
        raise ConfigError(f"{run.directory}: has no complete checkpoint, so there is nothing to export")
    trained = Trained.of(run, checkpoint)
    with _folder_errors(out):
        trained.export(out)
    notices = [f"note: {notice}" for notice in common.export_notices(trained.language_model)]
    return "\n".join([*notices, f"model after iteration {trained.progress.iteration}: {out}"])


@dataclass(frozen=True)
class Trained:
    """The model of a run as one of its checkpoints holds it."""

    run: SavedRun
    language_model: LanguageModel
    progress: RunProgress

    @classmethod
    def of(cls, run: SavedRun, checkpoint: Path) -> "Trained":
        """The model with the weights in the state file `checkpoint`.

        Raises:
            ConfigError: the initial weights cannot be loaded or are not those that the run began with.
        """
        language_model = common.model_source(run.cfg).load()
        state = load_state(checkpoint)
        progress = RunProgress(**state[IterationData.__qualname__])
        if progress.initial_weights != fingerprint(language_model.model):
            raise ConfigError(
                f"{run.directory}: began with other weights than those that model {run.cfg.model.name} has now"
            )
        policy = Policy(language_model.model, run.cfg.rollout.temperature)
        weights = {k.removeprefix("policy."): v for k, v in state["state_dict"].items() if k.startswith("policy.")}
        policy.load_state_dict(weights, strict=language_model.adapter is None)
        return cls(run, language_model, progress)

    def export(self, out: Path) -> None:
        """Write the model as a Hugging Face folder `out`."""
        cfg, record = self.run.cfg, read_record(self.run.directory)
        choices = self.run.choices
        summary = self.progress.summary("running", choices["algo"], cfg.model.name, choices["dataset"], cfg.seed)
        if record is not None:
            summary = replace(summary, run=record.run, changes=tuple(record.changes))
        card = model_card(summary, plain_config(cfg), RunFiles(self.run.directory).rows())
        export_model(self.language_model, out, card)
