"""MLflow tracker: Lightning's logger, with a database in the run directory where no tracking server is named."""

import contextlib
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pytorch_lightning.loggers import MLFlowLogger

from winnow.installed import require_package
from winnow.run_logs.run_files import SampleRecord, Summary
from winnow.run_logs.tracker import RunInfo

ENVIRONMENT = {
    # A server that does not answer: by default a call tries it for minutes.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "8",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}
URI = "MLFLOW_TRACKING_URI"
TAG = "winnow.run"
"""Tag with the id in `run.json`, by which a run that was killed before its first checkpoint is found again."""
TAG_LENGTH = 250
NOT_IN_NAMES = re.compile("[^a-zA-Z0-9_/. -]")
COUNTED = "iteration"
"""The metric whose history says which iterations MLflow has."""


class MLflowTracker:
    """Tracker of one run in MLflow (`logger=mlflow`); the step is the iteration.

    MLflow never forgets a value, so that iterations which a resume computes again are not sent again: they are the
    same but for times.

    Args:
        tracking_uri: Of a server or a database; None means MLFLOW_TRACKING_URI, or `mlflow.db` in the run directory.
        name: Replaces the run's name.
    """

    def __init__(self, experiment: str = "winnow", tracking_uri: str | None = None, name: str | None = None) -> None:
        self.experiment, self.tracking_uri, self.name = experiment, tracking_uri, name
        self.logger: MLFlowLogger | None = None
        self.last = -1

    @staticmethod
    def require() -> None:
        """Check that MLflow is installed, as `mlflow` or the smaller `mlflow-skinny`.

        Raises:
            ConfigError: it is not.
        """
        require_package("mlflow", "logger=mlflow", "mlflow")
        require_package("sqlalchemy", "logger=mlflow", "mlflow")

    def start(self, directory: Path, info: RunInfo, run_id: str | None) -> str:
        """Open the run, or the one with `run_id`, and return its id."""
        for key, value in ENVIRONMENT.items():
            os.environ.setdefault(key, value)
        with _variable_kept(URI):
            return self._open(directory, info, run_id)

    def _open(self, directory: Path, info: RunInfo, run_id: str | None) -> str:
        logging.getLogger("pytorch_lightning.loggers.mlflow").setLevel(logging.ERROR)
        uri = self.tracking_uri or os.environ.get(URI)
        identity = str(info.config.get("run", directory.name))
        local = None if uri else (directory / "mlartifacts").absolute().as_uri()
        logger = MLFlowLogger(
            self.experiment,
            tracking_uri=uri or f"sqlite:///{(directory / 'mlflow.db').absolute()}",
            tags={"mlflow.runName": (self.name or info.name)[:TAG_LENGTH], TAG: identity, **_tags(info)},
            artifact_location=local,
        )
        found = run_id or self._found(logger, identity)
        if found is not None:
            logger = MLFlowLogger(self.experiment, tracking_uri=logger._tracking_uri, run_id=found)
        opened = str(logger.run_id)
        if found is None:
            logger.log_hyperparams(dict(info.config))
        else:
            logger.experiment.update_run(opened, status="RUNNING")
            self.last = max(
                (metric.step for metric in logger.experiment.get_metric_history(opened, COUNTED)), default=-1
            )
        self.logger = logger
        return opened

    def log(self, row: Mapping[str, float | int]) -> None:
        """Send the row, unless MLflow has that iteration. `pass@4` is `pass_4` there, whose names have no @."""
        step = int(row["iteration"])
        if self.logger is not None and step > self.last:
            self.logger.log_metrics({NOT_IN_NAMES.sub("_", key): float(value) for key, value in row.items()}, step)
            self.last = step

    def samples(self, iteration: int, records: Sequence[SampleRecord]) -> None: ...

    def finish(self, summary: Summary, failed: bool) -> None:
        """End the run, with its status as MLflow names it: FINISHED, FAILED, or KILLED by a signal."""
        if self.logger is None:
            return
        client, run = self.logger.experiment, str(self.logger.run_id)
        client.set_tag(run, "winnow.status", summary.status)
        stopped = summary.status in ("preempted", "interrupted")
        client.set_terminated(run, "FAILED" if failed else "KILLED" if stopped else "FINISHED")

    def _found(self, logger: MLFlowLogger, identity: str) -> str | None:
        """The id of the run that an earlier start left, if there is one."""
        client = logger._mlflow_client
        experiment = client.get_experiment_by_name(self.experiment)
        if experiment is None:
            return None
        runs = client.search_runs([experiment.experiment_id], f"tags.`{TAG}` = '{identity}'", max_results=1)
        return runs[0].info.run_id if runs else None


@contextlib.contextmanager
def _variable_kept(name: str) -> Iterator[None]:
    """Context after which an environment variable is as before: Lightning's logger sets it for the whole process."""
    before = os.environ.get(name)
    try:
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before


def _tags(info: RunInfo) -> dict[str, str]:
    named = {"algo": info.algo, "model": info.model, "dataset": info.dataset, "seed": str(info.seed)}
    return {f"winnow.{key}": value[:TAG_LENGTH] for key, value in named.items()} | (
        {"winnow.group": info.group[:TAG_LENGTH]} if info.group else {}
    )
