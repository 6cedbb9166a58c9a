"""Runs whose reward functions fail: rows are lost, counted and named, the others trained on, and what ends a run."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev

import pytest

from benchmarks.process import descendants
from running import CONF, SMALL, metrics, program, run, weights
from winnow.run_logs.run_files import SampleRecord, read_samples
from winnow.training.checkpoint import newest_valid

pytestmark = pytest.mark.usefixtures("their_rewards")
HERE = Path(__file__).parent
DIVERGED = 3


def words(*names: str) -> list[str]:
    functions = ",".join(f"their_rewards:{name}" for name in names)
    return ["reward=function", "plugins=[their_rewards]", f"reward.functions=[{functions}]", "reward.workers=1"]


def samples_of(directory: Path, iteration: int) -> list[SampleRecord]:
    return read_samples(directory / "samples" / f"iteration_{iteration:06d}.jsonl")


def workers() -> list[int]:
    """The worker processes of reward functions that this process has."""
    lines = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in descendants(os.getpid())}
    return [pid for pid, line in lines.items() if b"reward_function:calls_of" in line]


REASONS = {
    0: "fails_at_sevens: KeyError: 'no such length'",
    6: "fails_at_sevens: WrongReturn: returned 0 values for 1 completions",
    2: "fails_at_sevens: returned nan",
}


def test_a_run_learns_from_the_rows_that_are_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run(tmp_path / "run", *words("graded", "fails_at_sevens"), "algo=grpo", "iterations=2", "eval.prompts=1")
    said = capsys.readouterr().out.splitlines()
    for iteration in (1, 2):
        samples = samples_of(tmp_path / "run", iteration)
        rests = [len(sample.response) % 7 for sample in samples]
        assert {*REASONS} <= {*rests}
        for sample, rest in zip(samples, rests, strict=True):
            assert sample.lost == REASONS.get(rest)
            assert (sample.reward is None, sample.kept) == (sample.lost is not None, sample.lost is None)
        for key in {sample.prompt_key for sample in samples}:
            left = [s for s in samples if s.prompt_key == key and s.lost is None]
            rewards = [s.reward or 0.0 for s in left]
            spread = stdev(rewards) if len(left) > 1 else 0.0
            expected = [(r - mean(rewards)) / (spread + 1e-6) if spread > 1e-6 else 0.0 for r in rewards]
            assert [s.advantage for s in left] == pytest.approx(expected, abs=1e-4)
        row = metrics(tmp_path / "run")[iteration]
        assert row["train/reward/lost_frac"] == sum(rest in REASONS for rest in rests) / len(rests)
        assert "train/nonfinite/rows" not in row
    lost = [line for line in said if "without a reward left out" in line]
    first = [len(sample.response) % 7 for sample in samples_of(tmp_path / "run", 1)]
    counts = {REASONS[rest]: (number := first.count(rest), "row" if number == 1 else "rows") for rest in REASONS}
    assert sorted(lost) == sorted(
        f"iteration 1: {number} {rows} without a reward left out: {reason}" for reason, (number, rows) in counts.items()
    )
    assert workers() == []

    # In the trainer's own process the same rows are lost, and the run is the same.
    run(
        tmp_path / "inside",
        *words("graded", "fails_at_sevens"),
        "algo=grpo",
        "iterations=2",
        "eval.prompts=1",
        "reward.isolated=false",
    )
    assert metrics(tmp_path / "inside") == metrics(tmp_path / "run")
    assert weights(tmp_path / "inside") == weights(tmp_path / "run")


@pytest.mark.faults
@pytest.mark.parametrize("isolated", [True, False])
def test_a_function_that_exits_loses_its_rows_and_does_not_end_the_run(tmp_path: Path, isolated: bool):
    place = tmp_path / "run"
    settings = (f"reward.isolated={isolated}", "iterations=2", "eval.prompts=1", f"hydra.run.dir={place}")
    command = [sys.executable, "train.py", *SMALL, *words("leaves_at_sevens"), *settings]
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    done = subprocess.run(
        command, cwd=CONF.parent, env=environment, capture_output=True, text=True, timeout=400, check=False
    )
    slow = [line for line in done.stderr.splitlines() if "is still being imported" in line]  # on a loaded machine
    assert (done.returncode, done.stderr.splitlines()) == (0, slow)
    reason = "leaves_at_sevens: SystemExit: enough"
    for iteration in (1, 2):
        samples = samples_of(place, iteration)
        assert [s.lost for s in samples] == [reason if len(s.response) % 7 == 0 else None for s in samples]
        lost = sum(sample.lost is not None for sample in samples)
        assert 0 < lost < len(samples)
        assert metrics(place)[iteration]["train/reward/lost_frac"] == lost / len(samples)
    first = sum(sample.lost is not None for sample in samples_of(place, 1))
    told = [line for line in done.stdout.splitlines() if "without a reward left out" in line]
    assert told == [f"iteration 1: {first} {'row' if first == 1 else 'rows'} without a reward left out: {reason}"]


@pytest.mark.parametrize("algo", ["grpo", "ppo", "dpo"])
def test_a_run_without_any_reward_ends_with_3_and_keeps_the_last_checkpoint(
    tmp_path: Path, algo: str, capfd: pytest.CaptureFixture[str]
):
    ending = ("guards.max_consecutive=2", "checkpoint.every=1", "iterations=9", "eval.prompts=1", "eval.every=0")
    command = [*SMALL, *words("fails_later"), f"algo={algo}", *ending, f"hydra.run.dir={tmp_path / 'run'}"]
    assert program("train").exit_code([*command, "reward.isolated=false"]) == DIVERGED
    captured = capfd.readouterr()
    cause = "fails_later: ConnectionError: the judge does not answer"
    assert f"iteration 2: 24 rows without a reward left out: {cause}" in captured.out
    [line] = captured.err.splitlines()
    saved = tmp_path / "run" / "checkpoints" / "iteration_000001"
    assert line == f"diverged: 2 updates in a row had no row with a reward ({cause}); the last checkpoint is {saved}"
    checkpoint = newest_valid(tmp_path / "run" / "checkpoints")
    assert checkpoint is not None
    assert checkpoint.parent == saved
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["status"], summary["error"]) == ("diverged", line.replace("diverged", "Diverged", 1))


@pytest.mark.faults
@pytest.mark.parametrize("algo", ["grpo", "ppo", "dpo"])
def test_rows_that_hang_or_take_4_gb_are_lost_and_the_run_goes_on(
    tmp_path: Path, algo: str, capsys: pytest.CaptureFixture[str]
):
    limits = ("reward.timeout=2", "reward.memory_mb=512")
    run(tmp_path, *words("graded", "hangs_and_takes_all"), f"algo={algo}", *limits, "iterations=3")
    said = capsys.readouterr().out
    reasons = {0: "hangs_and_takes_all: took more than 2 s", 1: "hangs_and_takes_all: MemoryError"}
    found: set[str] = set()
    for iteration in (1, 2, 3):
        samples = samples_of(tmp_path, iteration)
        assert [sample.lost for sample in samples] == [reasons.get(sum(s.response_ids or ()) % 16) for s in samples]
        lost = [sample.lost for sample in samples if sample.lost is not None]
        assert metrics(tmp_path)[iteration]["train/reward/lost_frac"] == len(lost) / len(samples)
        found |= {*lost}
    assert found == {*reasons.values()}
    assert all(said.count(reason) == 1 for reason in found)
    assert json.loads((tmp_path / "summary.json").read_text())["status"] == "done"


@pytest.mark.faults
def test_a_function_that_always_hangs_ends_the_run_with_3(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    short = ("reward.timeout=0.5", "guards.max_consecutive=2", f"hydra.run.dir={tmp_path / 'run'}")
    began = time.monotonic()
    assert program("train").exit_code([*SMALL, *words("always_hang"), *short, "iterations=9"]) == DIVERGED
    assert time.monotonic() - began < 120
    captured = capfd.readouterr()
    [line] = captured.err.splitlines()
    assert "always_hang: took more than 0.5 s in 8 calls, and was not called again" in captured.out
    assert line.startswith("diverged: 2 updates in a row had no row with a reward (always_hang: took more than 0.5 s")


@pytest.mark.faults
@pytest.mark.parametrize(("isolated", "signals", "code"), [(True, 1, 75), (False, 2, 128 + signal.SIGTERM)])
def test_a_signal_ends_a_run_whose_function_hangs(tmp_path: Path, isolated: bool, signals: int, code: int):
    """In the trainer's own process the function cannot be left: the watchdog says where it is, a second signal ends."""
    watch = ("watchdog.factor=1", "watchdog.floor=2", "reward.timeout=600", f"reward.isolated={isolated}")
    command = [sys.executable, "train.py", *SMALL, *words("always_hang"), *watch, f"hydra.run.dir={tmp_path / 'run'}"]
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    with (tmp_path / "err.txt").open("w") as err:
        process = subprocess.Popen(command, cwd=CONF.parent, env=environment, stdout=subprocess.DEVNULL, stderr=err)
        try:
            hangs = "watchdog: reward has taken"
            wait_until(lambda: hangs in (tmp_path / "err.txt").read_text() or process.poll() is not None, 200)
            for _ in range(signals):
                assert process.poll() is None
                process.send_signal(signal.SIGTERM)
                time.sleep(1)
            assert process.wait(timeout=60) == code
        finally:
            process.kill()
    said = (tmp_path / "err.txt").read_text()
    assert ("their_rewards.py" in said and "always_hang" in said) == (not isolated)


def wait_until(true: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.2)
