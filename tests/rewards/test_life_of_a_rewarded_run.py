"""A run with reward functions, from start to report: resume, audit, evaluation, comparison, and an edited function."""

import json
import math
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from injections import Injection
from running import SMALL, metrics, program, run
from winnow import cli
from winnow.files import sha256_of
from winnow.run_logs.plugin_code import SHOWN
from winnow.run_logs.run_files import read_samples
from winnow.run_logs.run_record import read_record

EQUAL, UNDECIDED = 0, 5
FUNCTIONS = '''
def close(completions, **kwargs):
    """The closer to 13 characters the better; without an opinion on some, and without words on others."""
    if any(len(completion) % 5 == 0 for completion in completions):
        raise ValueError("a multiple of five")
    return [None if len(completion) % 3 == 0 else -abs(13 - len(completion)) / 10 for completion in completions]
'''
EDITED = FUNCTIONS.replace("13", "15")
WORDS = (
    "reward=function",
    "plugins=[own_rewards]",
    "reward.functions=[winnow.rewards:accuracy,own_rewards:close]",
    "reward.weights=[1,0.5]",
    "reward.success={name:close,at_least:-0.4}",
    "reward.workers=1",
)


@pytest.fixture(scope="module")
def module_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file of reward functions of one's own, on Python's path."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "own_rewards.py").write_text(FUNCTIONS)
    sys.path.insert(0, str(folder))
    yield folder / "own_rewards.py"
    sys.path.remove(str(folder))
    sys.modules.pop("own_rewards", None)


@pytest.fixture(scope="module")
def finished(module_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two iterations."""
    directory = tmp_path_factory.mktemp("finished") / "run"
    words = (*SMALL, *WORDS, "algo=grpo", "iterations=2", "checkpoint.every=1", "checkpoint.keep=all")
    assert program("train").exit_code([*words, f"hydra.run.dir={directory}"]) == 0
    return directory


@pytest.fixture
def directory(finished: Path, module_file: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the run. What a test writes into the file of functions is taken back."""
    yield shutil.copytree(finished, tmp_path / "run")
    write(module_file, FUNCTIONS)


def write(module_file: Path, text: str) -> None:
    module_file.write_text(text)
    sys.modules.pop("own_rewards", None)  # as in a new process


def said(capfd: pytest.CaptureFixture[str]) -> str:
    captured = capfd.readouterr()
    return captured.out + captured.err


def test_a_resume_tells_of_an_edited_function_and_an_audit_of_why_it_differs(
    directory: Path, module_file: Path, capfd: pytest.CaptureFixture[str]
):
    before = sha256_of(module_file)
    assert cli.exit_code(["audit", str(directory), "--iterations", "1", "--from-start"]) == EQUAL
    assert "computed again, the same bit for bit" in said(capfd)

    write(module_file, EDITED)
    after = sha256_of(module_file)
    assert program("train").exit_code([f"resume={directory}", "iterations=3"]) == 0
    line = f"the code of own_rewards was {before[:SHOWN]} and is {after[:SHOWN]}"
    assert said(capfd).count(f"changed by this resume: {line}") == 1
    record = read_record(directory)
    assert record is not None
    assert [start.code for start in record.starts] == [{"own_rewards": before}, {"own_rewards": after}]
    assert record.changes == [f"after iteration 2: {line}"]
    assert json.loads((directory / "summary.json").read_text())["changes"] == record.changes
    for sample in read_samples(directory / "samples" / "iteration_000003.jsonl"):
        if sample.rewards is not None and sample.rewards["close"] is not None:
            assert sample.rewards["close"] == -abs(15 - len(sample.response)) / 10

    assert cli.exit_code(["audit", str(directory), "--iterations", "0", "--from-start"]) == UNDECIDED
    found = said(capfd)
    assert re.search(r"iteration 1: computed again, differs in .*, which may be because of own_rewards, whose", found)


def test_an_evaluation_has_the_runs_success_and_names_what_fails(
    directory: Path, module_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    words = (f"run={directory}", "limit=8", "eval.samples=2", "hardware=cpu")
    assert program("evaluate").exit_code([*words, f"hydra.run.dir={tmp_path / 'a'}"]) == 0
    failed = re.search(
        r"warning: arithmetic: (\d+) responses? without a reward counted as wrong: close: V.*", said(capfd)
    )
    assert failed
    results = json.loads((tmp_path / "a" / "results.json").read_text())["sets"]["arithmetic"]
    rule = {"name": "reward", "reward": "close", "function": "own_rewards:close", "at_least": -0.4}
    assert results["verifier"] == rule
    rows = [row for path in (tmp_path / "a" / "samples").glob("*.parquet") for row in parquet_rows(path)]
    assert sum(row["verdict"] == "crash" for row in rows) == int(failed[1])
    for row in rows:
        length = len(row["response"])
        assert row["correct"] == (length % 5 != 0 and length % 3 != 0 and abs(13 - length) <= 4)

    write(module_file, EDITED)
    assert program("evaluate").exit_code([*words, f"hydra.run.dir={tmp_path / 'b'}"]) == 0
    said(capfd)
    assert cli.exit_code(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    assert "note: the code of own_rewards is not the same in A and B" in said(capfd)


FAR = """
def far(completions, trainer_state):
    return [trainer_state.global_step + trainer_state.max_steps / 10] * len(completions)
"""


def test_an_evaluation_tells_the_functions_how_far_the_run_was(
    directory: Path, module_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    """The model after two iterations of two, so that every reward is 2.2."""
    write(module_file, FAR)
    words = (f"run={directory}", "limit=2", "eval.samples=1", "hardware=cpu", "reward.weights=[1]")
    for least, right in {2.2: True, 2.3: False}.items():
        function = ("reward.functions=[own_rewards:far]", f"reward.success={{name:far,at_least:{least}}}")
        place = tmp_path / str(least)
        assert program("evaluate").exit_code([*words, *function, f"hydra.run.dir={place}"]) == 0, said(capfd)
        rows = [row for path in (place / "samples").glob("*.parquet") for row in parquet_rows(path)]
        assert [row["correct"] for row in rows] == [right] * 2


def parquet_rows(path: Path) -> list[dict]:
    from pyarrow import parquet

    return parquet.read_table(path).to_pylist()


def test_the_report_shows_the_named_rewards(directory: Path, capfd: pytest.CaptureFixture[str]):
    assert cli.exit_code(["report", str(directory)]) == 0
    page = (directory / "report.html").read_text()
    assert "The mean of each reward function over all samples of an iteration." in page
    assert re.search(r"reward −?[0-9.]+ \(accuracy [01], close (−?[0-9.]+|none)\)", page)
    assert "no reward: close: ValueError: a multiple of five" in page


def test_a_dump_of_such_a_run_is_replayed(module_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    with Injection("grpo", "loss")():
        run(tmp_path, *WORDS, "algo=grpo", "iterations=2", "eval.every=0", "eval.prompts=1")
    [dump] = (tmp_path / "faults").glob("*.pt")
    said(capfd)
    assert cli.exit_code(["replay", str(dump)]) == 0
    assert "reproduced" in said(capfd)
    assert math.isfinite(metrics(tmp_path)[-1]["train/reward/close/mean"])
