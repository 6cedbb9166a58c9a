"""Callbacks, loggers and Trainer settings change nothing of a run; a callback that would is found at once."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from running import metrics, run, weights
from winnow.errors import ConfigError
from winnow.training.observers import HOOKS, WatchedCallback

ALTERATIONS: dict[str, Callable[[Any, Any, Any], object]] = {
    "weights": lambda trainer, module, given: _double(module.weight),
    "frozen weights": lambda trainer, module, given: module.weight.requires_grad_(False),
    "gradients": lambda trainer, module, given: _double(module.weight.grad),
    "other gradients": lambda trainer, module, given: setattr(module.weight, "grad", torch.ones(2, 2)),
    "no gradients": lambda trainer, module, given: module.zero_grad(),
    "learning rate": lambda trainer, module, given: trainer.optimizers[0].param_groups[0].update(lr=9.0),
    "accumulation": lambda trainer, module, given: setattr(trainer, "accumulate_grad_batches", 4),
    "length": lambda trainer, module, given: setattr(trainer, "max_epochs", 4),
    "batch": lambda trainer, module, given: _double(given["batch"][0]),
}


def _double(tensor: Tensor) -> None:
    with torch.no_grad():
        tensor.mul_(2)


class Altering(pl.Callback):
    def __init__(self, alter: Callable[[Any, Any, Any], object]) -> None:
        self.alter = alter

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.alter(trainer, pl_module, batch)


def watched(alter: Callable[[Any, Any, Any], object]) -> None:
    module = nn.Linear(2, 2, bias=False)
    module(torch.ones(2)).sum().backward()
    optimisers = [torch.optim.AdamW(module.parameters())]
    trainer = SimpleNamespace(optimizers=optimisers, accumulate_grad_batches=1, gradient_clip_val=None, max_epochs=9)
    batch = {"batch": [torch.ones(2)]}
    WatchedCallback("mine", Altering(alter)).on_train_batch_start(trainer, module, batch, 0)  # pyright: ignore


@pytest.mark.parametrize("name", ALTERATIONS)
def test_a_callback_that_alters_what_is_learnt(name: str):
    with pytest.raises(ConfigError, match=r"callbacks\.mine: on_train_batch_start of Altering has changed "):
        watched(ALTERATIONS[name])


def test_a_callback_that_reads():
    watched(lambda trainer, module, given: (module.weight.sum().item(), module.weight.grad.norm(), given["batch"]))


def test_every_hook_of_a_callback_is_watched():
    hooks = {name for name, value in vars(pl.Callback).items() if callable(value) and not name.startswith("_")}
    assert hooks - set(HOOKS) == {"state_dict", "load_state_dict"}


def test_a_run_with_everything_that_observes_is_the_run_without(tmp_path: Path):
    pytest.importorskip("tensorboard", reason="pip install -e '.[tensorboard]'")
    pytest.importorskip("mlflow", reason="pip install -e '.[mlflow]'")
    from mlflow.tracking import MlflowClient
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(tmp_path / "plain", "algo=ppo", "iterations=4", "checkpoint.every=1")
    observing = (
        "logger=[csv,tensorboard,mlflow]",
        "callbacks=[timer,device_stats,learning_rate_monitor,model_summary]",
        "trainer.profiler=simple",
        "trainer.deterministic=warn",
        "trainer.enable_model_summary=true",
    )
    directory = tmp_path / "observed"
    run(directory, "algo=ppo", "checkpoint.every=1", *observing, "iterations=2")
    run(directory, "algo=ppo", "checkpoint.every=1", *observing, "iterations=4", f"resume={directory}")

    plain, observed = metrics(tmp_path / "plain"), metrics(directory)
    assert observed == plain
    assert weights(directory) == weights(tmp_path / "plain")
    rewards = [(int(row["iteration"]), row["train/reward/mean"]) for row in plain if "train/reward/mean" in row]
    with (directory / "metrics.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [(int(r["iteration"]), float(r["train/reward/mean"])) for r in table if r["train/reward/mean"]] == rewards
    assert float(table[-1]["callbacks/timer/step_s"]) > 0
    assert [key for key in table[-1] if key.startswith("callbacks/lr-")]
    events = EventAccumulator(str(directory / "tensorboard")).Reload().Scalars("train/reward/mean")
    assert [event.step for event in events] == [iteration for iteration, _ in rewards]
    client = MlflowClient(f"sqlite:///{directory}/mlflow.db")
    (found,) = client.search_runs([client.get_experiment_by_name("winnow").experiment_id])  # pyright: ignore
    history = client.get_metric_history(found.info.run_id, "train/reward/mean")
    assert [(metric.step, metric.value) for metric in history] == rewards
    assert list((directory / "profile").iterdir())
    log = (directory / "run.log").read_text()
    assert log.count("resuming after iteration 2") == 1
    assert json.loads((directory / "summary.json").read_text())["changes"] == []
