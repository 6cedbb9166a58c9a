"""Runs written by wandb itself, read back with `wandb leet inspect --json`, and uploaded to a local server."""

import functools
import inspect
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import wandb
from hydra.utils import instantiate
from omegaconf import OmegaConf
from wandb.errors import CommError
from wandb.sdk import wandb_setup

from winnow.errors import ConfigError
from winnow.run_logs import wandb_run
from winnow.run_logs.run_files import SAMPLE_COLUMNS, SampleRecord, Summary
from winnow.run_logs.tracker import NullTracker, RunInfo
from winnow.run_logs.wandb_run import ENVIRONMENT, WandbTracker

pytestmark = [pytest.mark.usefixtures("fresh_wandb"), pytest.mark.alone]

CONF = Path(__file__).parents[2] / "conf" / "logger"
KEY = "0123456789" * 4
CONFIG = {"arm": "raftpp", "seed": 1, "algo": {"clip": {"high": 0.28}}, "eval": {"sets": ["a", "b"]}}
SUMMARY = Summary("done", "grpo", "tiny", "arithmetic", 1, 2, 0.5, 0.75, 640, 320, 1.5)


def record(sample: int = 0, response: str = "4", reward: float = 1.0) -> SampleRecord:
    return SampleRecord(1, "arithmetic:1", sample, "2+2=", response, "4", None, "correct", reward, None, True, 2, "eos")


def info(name: str = "run", group: str | None = None, tags: Sequence[str] = ()) -> RunInfo:
    return RunInfo("grpo", "tiny", "arithmetic", 1, "", name, group, tags, CONFIG)


class Lines(list[str]):
    """Lines for the user."""

    def __call__(self, line: str) -> None:
        self.append(line)


def train(
    directory: Path,
    run: WandbTracker,
    iterations: range = range(1, 3),
    run_id: str | None = None,
    before: Callable[[int], None] = lambda iteration: None,
    group: str | None = "sweep",
) -> str:
    """A run like the trainer's, whose reward grows by 1/8 per iteration; accuracy is 0.5 once, then 0.25."""
    directory.mkdir(exist_ok=True)
    run_id = run.start(directory, info(directory.name, group, ["seed=1"]), run_id)
    for iteration in iterations:
        before(iteration)
        run.samples(iteration, [record()])
        accuracy = 0.5 if iteration == iterations[0] else 0.25
        row = {"iteration": iteration, "train/reward/mean": iteration / 8, "eval/heldout/acc": accuracy}
        run.log(
            row
            | {
                "train/kl_ref": iteration / 4,
                "time/total": 2.0 * iteration,
                "train/sampled_tokens_total": 640 * iteration,
            }
        )
    run.finish(SUMMARY, failed=False)
    return run_id


def wandb_cli(*arguments: str | Path) -> str:
    command = [sys.executable, "-m", "wandb", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | ENVIRONMENT, timeout=60
    ).stdout


def service() -> subprocess.Popen:
    """Return wandb's service process."""
    connection = wandb_setup.singleton()._connection
    assert connection
    assert connection._proc
    return connection._proc._process


@functools.cache
def inspected(leg: Path) -> list[dict]:
    """Records of the `.wandb` file in one of wandb's directories, for a run that has ended."""
    return [json.loads(line) for line in wandb_cli("leet", "inspect", "--json", leg).splitlines()]


def records(leg: Path, kind: str) -> list[dict]:
    return [row[kind] for row in inspected(leg) if row["type"] == kind]


def history(leg: Path, key: str = "train/reward/mean") -> list[tuple[int, float]]:
    rows = [row["item"] for row in records(leg, "history")]
    return [(row["iteration"], row[key]) for row in rows]


def legs(directory: Path, pattern: str = "offline-run-*") -> list[Path]:
    return sorted((directory / "wandb").glob(pattern))


def test_offline_run_holds_everything(tmp_path: Path) -> None:
    said = Lines()
    run_id = train(tmp_path / "run", WandbTracker(project="mine", tags=["x" * 70], say=said))
    (leg,) = legs(tmp_path / "run")
    assert said == [
        f"W&B is offline (no API key; `wandb login` sets one); upload later: wandb sync {tmp_path / 'run' / 'wandb'}"
    ]
    summary = json.loads(wandb_cli("leet", "inspect", "--summary", "--json", leg))
    assert summary["config"] == CONFIG
    assert (summary["run_id"], summary["name"], summary["project"]) == (run_id, "run", "mine")
    assert summary["tags"] == ["seed=1", "x" * 64]
    assert (summary["state"], summary["exit_code"]) == ("finished", 0)
    assert summary["summary"]["eval/heldout/acc"] == {"max": 0.5, "last": 0.25}
    last = {"train/reward/mean": 0.25, "train/kl_ref": 0.5, "time/total": 4.0, "train/sampled_tokens_total": 1280}
    assert {key: summary["summary"][key] for key in last} == last
    assert (summary["summary"]["status"], summary["summary"]["eval_last"]) == ("done", 0.75)
    opened = records(leg, "run")[0]
    assert (opened["run_group"], opened["job_type"]) == ("sweep", "train")
    assert history(leg) == [(1, 0.125), (2, 0.25)]
    assert history(leg, "time/total") == [(1, 2.0), (2, 4.0)]


def test_every_namespace_is_drawn_over_iterations(tmp_path: Path) -> None:
    train(tmp_path, WandbTracker(say=Lines()))
    metrics = records(legs(tmp_path)[0], "metric")
    axes = {metric.get("glob_name") or metric["name"]: metric.get("step_metric") for metric in metrics}
    assert axes == {
        "iteration": None,
        "train/*": "iteration",
        "rollout/*": "iteration",
        "eval/*": "iteration",
        "eval/heldout/acc": "iteration",
        "verifier/*": "iteration",
        "perf/*": "iteration",
        "time/*": "iteration",
    }
    (accuracy,) = [metric for metric in metrics if metric.get("name") == "eval/heldout/acc"]
    assert accuracy["summary"] == {"max": True, "last": True}


def test_a_table_is_cut_to_64_rows_of_4_kb(tmp_path: Path) -> None:
    run = WandbTracker(say=Lines())
    run_id = run.start(tmp_path, info(), None)
    run.samples(1, [record(sample, "é" * 3000, reward=sample / 8) for sample in range(70)])
    run.log({"iteration": 1})
    run.finish(SUMMARY, failed=True)
    (leg,) = legs(tmp_path)
    (row,) = records(leg, "history")  # the table is in the iteration's own row
    assert (row["item"]["iteration"], row["item"]["samples._type"]) == (1, "table-file")
    assert (row["item"]["samples.nrows"], row["item"]["samples.ncols"]) == (64, len(SAMPLE_COLUMNS))
    table = json.loads((leg / "files" / row["item"]["samples.path"]).read_text())
    assert table["columns"] == list(SAMPLE_COLUMNS)
    assert len(table["data"]) == 64
    first = dict(zip(table["columns"], table["data"][1], strict=True))
    assert first["response"] == "é" * 2048
    assert (first["sample"], first["reward"], first["advantage"], first["kept"]) == (1, 0.125, None, True)
    (artifact,) = records(leg, "artifact")
    assert (artifact["type"], artifact["name"]) == ("run_table", f"run-{run_id}-samples")
    # A leg that took seconds has its runtime beside the code.
    assert [record["exit_code"] for record in records(leg, "exit")] == [1]


def test_runs_of_one_process_are_separate(tmp_path: Path) -> None:
    first = train(tmp_path / "a", WandbTracker(say=Lines()))
    second = train(tmp_path / "b", WandbTracker(group="mine", name="other", say=Lines()), range(5, 6))
    assert first != second
    (a,), (b,) = legs(tmp_path / "a"), legs(tmp_path / "b")
    assert history(a) == [(1, 0.125), (2, 0.25)]
    assert history(b) == [(5, 0.625)]
    runs = [records(leg, "run")[0] for leg in (a, b)]
    assert [run["run_id"] for run in runs] == [first, second]
    assert [run["run_group"] for run in runs] == ["sweep", "mine"]
    assert [run["display_name"] for run in runs] == ["a", "other"]


def test_a_resumed_run_keeps_id_and_steps_and_is_uploaded_whole(tmp_path: Path, wandb_server, monkeypatch) -> None:
    run_id = train(tmp_path / "run", WandbTracker(say=Lines()), range(1, 3))
    time.sleep(1)  # wandb sorts the directories of a run by the second in which they began
    assert train(tmp_path / "run", WandbTracker(say=Lines()), range(3, 5), run_id=run_id) == run_id
    assert [history(leg) for leg in legs(tmp_path / "run")] == [[(1, 0.125), (2, 0.25)], [(3, 0.375), (4, 0.5)]]
    steps = [row["step"]["num"] for leg in legs(tmp_path / "run") for row in records(leg, "history")]
    assert steps == [1, 2, 3, 4]

    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", wandb_server.url)
    wandb_cli("sync", tmp_path / "run" / "wandb")
    assert [row["train/reward/mean"] for row in wandb_server.history[run_id]] == [0.125, 0.25, 0.375, 0.5]


def test_wandb_mode_offline_asks_no_server(tmp_path: Path, wandb_server, monkeypatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", wandb_server.url)
    monkeypatch.setenv("WANDB_MODE", "offline")
    said = Lines()
    train(tmp_path, WandbTracker(say=said))
    assert said == [f"W&B is offline (mode offline); upload later: wandb sync {tmp_path / 'wandb'}"]
    assert wandb_server.asked == []


@pytest.mark.parametrize("run", [WandbTracker(mode="disabled"), NullTracker()])
def test_none_and_disabled_leave_nothing(tmp_path: Path, capsys, run) -> None:
    run_id = train(tmp_path / "run", run, run_id="abc")
    assert run_id == "abc"
    assert list((tmp_path / "run").iterdir()) == []
    assert capsys.readouterr() == ("", "")


def test_wandb_mode_disabled_and_wandb_dir_are_honoured(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "elsewhere"))
    train(tmp_path / "run", WandbTracker(say=Lines()))
    assert len(legs(tmp_path / "elsewhere")) == 1
    monkeypatch.setenv("WANDB_MODE", "disabled")
    wandb.teardown()  # otherwise wandb would not read the environment again
    train(tmp_path / "run", WandbTracker(say=Lines()))
    assert list((tmp_path / "run").iterdir()) == []
    assert len(legs(tmp_path / "elsewhere")) == 1


def test_online_where_a_key_is_found_and_the_server_answers(tmp_path: Path, wandb_server, monkeypatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", wandb_server.url)
    said = Lines()
    run_id = train(tmp_path, WandbTracker(say=said))
    assert said == [f"W&B: {wandb_server.url}/me/winnow/runs/{run_id}"]
    assert [row["train/reward/mean"] for row in wandb_server.history[run_id]] == [0.125, 0.25]
    assert all("samples" in row for row in wandb_server.history[run_id])
    upsert = next(variables for operation, variables in wandb_server.asked if operation == "UpsertBucket")
    assert (upsert["name"], upsert["groupName"], upsert["tags"]) == (run_id, "sweep", ["seed=1"])


def test_a_server_that_falls_silent_while_opening_means_offline_under_the_same_id(
    tmp_path: Path, wandb_server, monkeypatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", wandb_server.url)
    monkeypatch.setattr(wandb_run, "INIT_SECONDS", 1.0)
    wandb_server.silent.add("UpsertBucket")
    said = Lines()
    run_id = train(tmp_path, WandbTracker(say=said))
    assert len(said) == 1
    assert said[0].startswith("W&B is offline (Timed out initializing run")
    (leg,) = legs(tmp_path)
    assert leg.name.endswith(run_id)
    assert history(leg) == [(1, 0.125), (2, 0.25)]


def test_a_server_that_dies_mid_run_costs_the_upload_only(tmp_path: Path, wandb_server, monkeypatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", wandb_server.url)
    monkeypatch.setenv("WANDB_HTTP_TIMEOUT", "1")
    monkeypatch.setattr(wandb_run, "FINISH_SECONDS", 1.0)
    monkeypatch.setattr(wandb_run, "GRACE_SECONDS", 1.0)
    monkeypatch.setattr(wandb_run, "SLOW_SECONDS", 0.5)

    def die(iteration: int) -> None:
        if iteration == 2:
            wandb_server.silent.add("*")

    said = Lines()
    train(tmp_path, WandbTracker(say=said), range(1, 5), before=die)
    (leg,) = legs(tmp_path, "run-*")
    assert [re.sub(r"\(.*\)", "(REASON)", line) for line in said[1:]] == [
        "W&B gets no more tables (REASON); metrics go on, samples are in samples/",
        f"W&B did not take everything (REASON); upload the rest: wandb sync --include-online {tmp_path / 'wandb'}",
    ]
    assert history(leg) == [(1, 0.125), (2, 0.25), (3, 0.375), (4, 0.5)]


def test_a_dead_service_stops_neither_this_run_nor_the_next(tmp_path: Path) -> None:
    def kill(iteration: int) -> None:
        if iteration == 2:
            service().kill()
            service().wait()

    said = Lines()
    train(tmp_path / "a", WandbTracker(say=said), range(1, 5), before=kill)
    assert said[-1].endswith("the run goes on and metrics.jsonl has everything")
    assert sum("is off (" in line for line in said) == 1
    train(tmp_path / "b", WandbTracker(say=Lines()))
    assert history(legs(tmp_path / "b")[0]) == [(1, 0.125), (2, 0.25)]


def test_init_that_fails_online_goes_offline_and_that_fails_everywhere_goes_off(
    tmp_path: Path, wandb_server, monkeypatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", wandb_server.url)
    init = wandb.init

    def refuse_online(**arguments):
        if arguments["mode"] == "online":
            raise CommError("no route\nto host")
        return init(**arguments)

    said = Lines()
    monkeypatch.setattr(wandb, "init", refuse_online)
    train(tmp_path / "a", WandbTracker(say=said))
    assert said[0].startswith("W&B is offline (no route to host); upload later: ")
    assert history(legs(tmp_path / "a")[0]) == [(1, 0.125), (2, 0.25)]

    def refuse(**arguments):
        raise CommError("")

    said.clear()
    monkeypatch.setattr(wandb, "init", refuse)
    run_id = train(tmp_path / "b", WandbTracker(say=said), run_id="abc")
    assert said == ["W&B is off (CommError); the run goes on and metrics.jsonl has everything"]
    assert run_id == "abc"


def test_a_wrong_wandb_variable_does_not_stop_the_run(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "onlien")
    said = Lines()
    train(tmp_path, WandbTracker(say=said))
    assert len(said) == 1
    assert said[0].startswith("W&B is off (1 validation error for Settings mode")


PROCESS = """
import sys
from pathlib import Path
from winnow.run_logs.run_files import Summary
from winnow.run_logs.tracker import NullTracker, RunInfo
from winnow.run_logs.wandb_run import WandbTracker

run = WandbTracker()
run.start(Path(sys.argv[1]), RunInfo("grpo", "tiny", "arithmetic", 1, "", "run", None, (), {}), None)
run.log({"iteration": 1, "train/reward/mean": 0.1})
run.finish(Summary("done", "grpo", "tiny", "arithmetic", 1, 2, 0.5, 0.75, 640, 320, 1.5), failed=False)
"""


@pytest.mark.parametrize("silent", [True, False])
def test_a_process_without_a_server_ends_soon_and_says_one_line(tmp_path: Path, wandb_server, silent: bool) -> None:
    """A server that accepts requests and never answers, like one behind a firewall, and a port without a server.

    With wandb's telemetry on, the former would delay the exit of the process by another ten seconds.
    """
    wandb_server.silent.add("*")
    url = wandb_server.url if silent else "http://127.0.0.1:9"
    environment = {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": url, "WANDB_HTTP_TIMEOUT": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROCESS, str(tmp_path)],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1
    assert done.stdout.startswith(f"W&B is offline (Failed to authenticate with {url}")
    assert history(legs(tmp_path)[0]) == [(1, 0.1)]


KILLED = """
import sys, time
from pathlib import Path
from wandb.sdk import wandb_setup
from winnow.run_logs.tracker import NullTracker, RunInfo
from winnow.run_logs.wandb_run import WandbTracker

run = WandbTracker(mode="offline", say=lambda line: None)
run.start(Path(sys.argv[1]), RunInfo("grpo", "tiny", "arithmetic", 1, "", "run", None, (), {}), None)
for iteration in range(1, 5):
    run.log({"iteration": iteration, "train/reward/mean": iteration / 8})
    time.sleep(0.5)
print(wandb_setup.singleton()._connection._proc._process.pid, flush=True)
time.sleep(60)
"""


def test_a_killed_run_loses_a_second_at_most(tmp_path: Path) -> None:
    """With wandb's default flush interval of 15 s the file would be empty."""
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    for pid in int(process.stdout.readline()), process.pid:
        os.kill(pid, signal.SIGKILL)
    process.wait()
    assert history(legs(tmp_path)[0])[:2] == [(1, 0.125), (2, 0.25)]


def test_a_mode_that_wandb_does_not_know_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="type one of auto, online, offline, disabled"):
        WandbTracker(mode="sometimes")  # pyright: ignore[reportArgumentType]


def test_conf_says_what_the_classes_take() -> None:
    said = Lines()
    config = OmegaConf.load(CONF / "wandb.yaml").wandb
    run = instantiate(config, say=said, tags=["mine"])
    assert (run.project, run.entity, run.mode, run.tags, run.say) == ("winnow", None, "auto", ("mine",), said)
    parameters = {name: p.default for name, p in inspect.signature(WandbTracker).parameters.items() if name != "say"}
    given = OmegaConf.to_container(config)
    assert isinstance(given, dict)
    assert {key: value for key, value in given.items() if key != "_target_"} == parameters | {"tags": []}
    assert OmegaConf.load(CONF / "none.yaml") == {}
