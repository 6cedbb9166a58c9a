"""Trackers: two runs each, one of them resumed, read back with the tool's own reader; and trackers that fail."""

import csv
import json
import math
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from winnow.config.targets import check_target
from winnow.errors import ConfigError
from winnow.installed import require_package
from winnow.run_logs.csv_table import CSVTracker
from winnow.run_logs.run_files import SampleRecord, Summary
from winnow.run_logs.tracker import NullTracker, RunInfo, Tracker
from winnow.run_logs.tracker_threads import Trackers, ids_in

SUMMARY = Summary("done", "grpo", "tiny", "arithmetic", 1, 4, 0.5, 0.75, 640, 320, 1.5)
REWARDS = [(0, 0.0), (1, 0.125), (2, 0.25), (3, 0.375), (4, 0.5)]
"""Iterations and rewards of a whole run."""


def record() -> SampleRecord:
    return SampleRecord(1, "a:1", 0, "2+2=", "4\n|é\ud800", "4", None, "correct", 1.0, None, True, 2, "eos")


def info(run: str) -> RunInfo:
    return RunInfo("grpo", "tiny", "arithmetic", 1, "", "algo=grpo seed=1", None, ("grpo",), {"run": run, "seed": 1})


def row(iteration: int, late: str | None = None) -> dict[str, float]:
    """The iteration's row; the metric `late` is measured from iteration 3 on."""
    measured = {"iteration": iteration, "train/reward/mean": iteration / 8, "eval/heldout/pass@4": 0.5}
    return measured | ({late: math.nan} if late and iteration >= 3 else {})


def train(directory: Path, make: Callable[[], Tracker], iterations: range, kept: str | None = None) -> str:
    """A start of the run in `directory`, whose id at the tracker a checkpoint has kept; the id."""
    directory.mkdir(exist_ok=True)
    tracker = make()
    run_id = tracker.start(directory, info(directory.name), kept)
    for iteration in iterations:
        tracker.samples(iteration, [record()])
        tracker.log(row(iteration, "train/late"))
    tracker.finish(SUMMARY, failed=False)
    return run_id


def two_runs(folder: Path, make: Callable[[], Tracker]) -> list[tuple[Path, str]]:
    """One run without a break, and one that was killed after iteration 3 and resumed from its checkpoint of 2."""
    whole = train(folder / "whole", make, range(5))
    first = train(folder / "resumed", make, range(4))
    again = train(folder / "resumed", make, range(3, 5), first)
    assert again == first
    return [(folder / "whole", whole), (folder / "resumed", again)]


def test_csv_tables_are_equal(tmp_path: Path):
    (whole, _), (resumed, _) = two_runs(tmp_path, CSVTracker)
    assert (whole / "metrics.csv").read_bytes() == (resumed / "metrics.csv").read_bytes()
    with (resumed / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(int(r["iteration"]), float(r["train/reward/mean"])) for r in rows] == REWARDS
    assert [r["train/late"] for r in rows] == ["", "", "", "nan", "nan"]


def test_csv_without_a_line_that_a_crash_cut_short(tmp_path: Path):
    train(tmp_path, CSVTracker, range(3))
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("3,0.3")
    train(tmp_path, CSVTracker, range(3, 5))
    with (tmp_path / "metrics.csv").open(newline="") as file:
        assert [(int(r["iteration"]), float(r["train/reward/mean"])) for r in csv.DictReader(file)] == REWARDS


def test_tensorboard_reads_one_record_of_each_run(tmp_path: Path):
    pytest.importorskip("tensorboard", reason="pip install -e '.[tensorboard]'")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from winnow.run_logs.tensorboard_run import TensorBoardTracker

    for directory, _ in two_runs(tmp_path, TensorBoardTracker):
        read = EventAccumulator(str(directory / "tensorboard")).Reload()
        assert [(event.step, event.value) for event in read.Scalars("train/reward/mean")] == REWARDS
        assert len(read.Tags()["scalars"]) == 3
        assert "samples/0/text_summary" in read.Tags()["tensors"]


def test_mlflow_reads_one_run_of_each(tmp_path: Path):
    pytest.importorskip("mlflow", reason="pip install -e '.[mlflow]'")
    pytest.importorskip("sqlalchemy", reason="pip install -e '.[mlflow]'")
    from mlflow.tracking import MlflowClient

    from winnow.run_logs.mlflow_run import MLflowTracker

    for directory, run_id in two_runs(tmp_path, MLflowTracker):
        client = MlflowClient(f"sqlite:///{directory}/mlflow.db")
        experiment = client.get_experiment_by_name("winnow")
        assert experiment is not None
        (run,) = client.search_runs([experiment.experiment_id])
        assert (run.info.run_id, run.info.run_name, run.info.status) == (run_id, "algo=grpo seed=1", "FINISHED")
        history = client.get_metric_history(run_id, "train/reward/mean")
        assert [(metric.step, metric.value) for metric in history] == REWARDS
        assert run.data.params["seed"] == "1"
        assert run.data.metrics["eval/heldout/pass_4"] == 0.5


def test_mlflow_finds_a_run_that_was_killed_before_its_first_checkpoint(tmp_path: Path):
    pytest.importorskip("mlflow", reason="pip install -e '.[mlflow]'")
    from winnow.run_logs.mlflow_run import MLflowTracker

    first = train(tmp_path / "run", MLflowTracker, range(1))
    assert train(tmp_path / "run", MLflowTracker, range(1)) == first


def test_trackio_reads_one_run_of_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("trackio", reason="pip install -e '.[trackio]'")
    from winnow.run_logs.trackio_run import TrackioTracker

    monkeypatch.delenv("TRACKIO_DIR", raising=False)
    for directory, name in two_runs(tmp_path, TrackioTracker):
        assert (directory / "trackio").is_dir()
        storage = sys.modules["trackio.sqlite_storage"].SQLiteStorage
        if directory.name == "resumed":  # trackio reads the directory of the last run only
            (one,) = storage.get_run_records("winnow")
            assert one["name"] == name
            logs = storage.get_logs("winnow", name)
            assert [(log["step"], log["train/reward/mean"]) for log in logs] == REWARDS


class Faulty(NullTracker):
    """A tracker whose method `at` raises `error`, or hangs without one; it counts the calls of `log`."""

    def __init__(self, at: str, error: BaseException | None) -> None:
        self.at, self.error, self.calls = at, error, 0

    def _act(self, method: str) -> None:
        if method == self.at and self.error is not None:
            raise self.error
        if method == self.at:
            threading.Event().wait()

    def start(self, directory: Path, info: RunInfo, run_id: str | None) -> str:
        self._act("start")
        return "id"

    def log(self, row: Mapping[str, float | int]) -> None:
        self.calls += 1
        self._act("log")

    def samples(self, iteration: int, records: object) -> None:
        self._act("samples")

    def finish(self, summary: Summary, failed: bool) -> None:
        self._act("finish")


@pytest.mark.parametrize("at", ["start", "log", "samples", "finish"])
@pytest.mark.parametrize(
    "error",
    [KeyError("x"), RuntimeError("gone\n" * 99), OSError(28, "full"), SystemExit(1), MemoryError(), None],
    ids=repr,
)
def test_a_tracker_that_fails_is_off_and_the_others_go_on(tmp_path: Path, at: str, error: BaseException | None):
    said: list[str] = []
    faulty = Faulty(at, error)
    began = time.monotonic()
    run_id = train(
        tmp_path / "run", lambda: Trackers({"mine": faulty, "csv": CSVTracker()}, said.append, 0.2), range(5)
    )
    assert time.monotonic() - began < 20
    assert [line.count("\n") for line in said] == [0]
    assert said[0].startswith("logger mine is off (")
    assert faulty.calls == {"start": 0, "log": 1, "samples": 0, "finish": 5}[at]
    assert ids_in(run_id) == {"csv": "metrics.csv"} | ({} if at == "start" else {"mine": "id"})
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        assert [int(r["iteration"]) for r in csv.DictReader(file)] == [0, 1, 2, 3, 4]


def test_ids_of_earlier_versions_and_of_loggers_that_a_resume_does_without(tmp_path: Path):
    assert ids_in("a1b2c3d4") == {"wandb": "a1b2c3d4"}
    assert ids_in("12345678") == {"wandb": "12345678"}
    assert ids_in(None) == ids_in("") == {}
    kept = Trackers({}, print).start(tmp_path, info("x"), json.dumps({"mlflow": "m"}))
    assert json.loads(kept) == {"mlflow": "m"}


def test_a_package_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ConfigError, match=r"logger=x: no_such_package is not installed; type pip install .*\[mlflow\]"):
        require_package("no_such_package", "logger=x", "mlflow")
    # A part of a class's module that is missing, as wandb would be from an installation that was tampered with.
    (tmp_path / "their_tracker.py").write_text("import no_such_package.parts\nclass Tracker: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    node = OmegaConf.create({"_target_": "their_tracker.Tracker"})
    with pytest.raises(
        ConfigError, match="Tracker: no_such_package is not installed; type pip install no_such_package"
    ):
        check_target("logger.x", node, trusted=["their_tracker"])
