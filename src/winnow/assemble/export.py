"""`winnow export`: a checkpoint as a Hugging Face folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from winnow.assemble import common
from winnow.config import checks
from winnow.config.nodes import plain_config
from winnow.config.saved_runs import SavedRun
from winnow.errors import ConfigError
from winnow.files import disk_errno, require_new
from winnow.models.export import export_model
from winnow.models.language_model import LanguageModel, fingerprint
from winnow.models.policy import Policy
from winnow.run_logs.model_card import model_card
from winnow.run_logs.run_files import RunFiles, checkpoint_folders, iteration_in
from winnow.run_logs.run_record import read_record, run_id
from winnow.training.checkpoint import STATE, State, is_intact, load_state, newest_valid
from winnow.training.progress import IterationData, RunProgress

NEWEST, BEST = "newest", "best"


@contextmanager
def _folder_errors(out: Path) -> Iterator[None]:
    """Context in which a folder `out` that cannot be made is a ConfigError; the caller knows what a full disk means."""
    try:
        yield
    except OSError as error:
        if disk_errno(error) is not None:
            raise
        raise ConfigError(f"{out}: cannot be written ({error.strerror}); choose another directory") from error


def export_checkpoint(run: SavedRun, out: Path, iteration: str = NEWEST) -> str:
    """Write a checkpoint of a run, which need not have ended, to the folder `out`; return lines about the model.

    `iteration` is the number of one, `newest` or `best`, the one with the highest held-out accuracy.

    Raises:
        ConfigError: `out` exists, `run` has no such complete checkpoint or was made by an earlier version of Winnow, or
            its initial weights cannot be loaded.
    """
    common.quiet_libraries()
    checks.check_saved(run, "`winnow report` still reads it; export it with that version")
    require_new(out)
    trained = Trained.of(run, chosen_checkpoint(run.directory, iteration))
    with _folder_errors(out):
        trained.export(out)
    notices = [f"note: {notice}" for notice in common.export_notices(trained.language_model)]
    return "\n".join([*notices, f"model after iteration {trained.progress.iteration}"])


def chosen_checkpoint(directory: Path, iteration: str) -> Path:
    """The state file of the run's checkpoint after an iteration: a number, `newest` or `best`.

    Raises:
        ConfigError: there is no such intact checkpoint; the message names those that there are.
    """
    run, folder = run_id(directory), directory / "checkpoints"
    newest = newest_valid(folder, run)
    if newest is None:
        raise ConfigError(f"{directory}: has no complete checkpoint, so there is nothing to export")
    if iteration == NEWEST:
        return newest
    best = _progress_of(load_state(newest)).best
    if iteration == BEST and best == 0:
        raise ConfigError(f"--iteration best: {directory} was not evaluated while it was trained; leave the word out")
    wanted = best if iteration == BEST else _number(iteration)
    intact = {iteration_in(path): path / STATE for path in checkpoint_folders(folder) if is_intact(path, run)}
    if wanted not in intact:
        advice = ", or train with checkpoint.best=true" if iteration == BEST else ""
        raise ConfigError(
            f"--iteration {iteration}: no intact checkpoint after iteration {wanted} is kept; type one of "
            f"{', '.join(map(str, intact))}{advice}"
        )
    return intact[wanted]


def _number(iteration: str) -> int:
    if not iteration.isascii() or not iteration.isdecimal() or len(iteration) > 12:
        raise ConfigError(f"--iteration {iteration}: must be the number of an iteration, {NEWEST} or {BEST}")
    return int(iteration)


def _progress_of(state: State) -> RunProgress:
    return RunProgress.of(state[IterationData.__qualname__])


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
        progress = _progress_of(state)
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
        rows = [row for row in RunFiles(self.run.directory).rows() if row["iteration"] <= self.progress.iteration]
        card = model_card(summary, plain_config(cfg), rows)
        out.parent.mkdir(parents=True, exist_ok=True)
        export_model(self.language_model, out, card)
