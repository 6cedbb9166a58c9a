"""A number that is not finite at every place of the computation, once and always, in whole runs of three algorithms."""

import io
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from injections import SITES, STATE, WORDS, Injection
from running import metrics, run
from winnow.assemble.replay import replay_dump
from winnow.errors import DONE, Diverged
from winnow.run_logs.run_files import checkpoint_folders
from winnow.run_logs.run_record import new_record, write_record
from winnow.training.checkpoint import STATE as STATE_FILE
from winnow.training.checkpoint import is_intact, nonfinite_tensors

pytestmark = pytest.mark.faults
QUICK = ("eval.every=0", "checkpoint.every=1", "checkpoint.keep=all", "eval.prompts=1")
TESTS = Path(__file__).parent.parent


def total(directory: Path, name: str) -> float:
    return sum(row.get(name) or 0 for row in metrics(directory))


def status(directory: Path) -> str:
    return json.loads((directory / "summary.json").read_text())["status"]


def check_files(directory: Path) -> None:
    """Every checkpoint is finite, and the first dump is reproduced."""
    folders = checkpoint_folders(directory / "checkpoints")
    assert folders
    for folder in folders:
        assert is_intact(folder)
        assert nonfinite_tensors(torch.load(folder / STATE_FILE, weights_only=True)) == []
    first = min((directory / "faults").glob("*.pt"))
    assert replay_dump(first, io.StringIO()) == DONE


@pytest.mark.parametrize(("algo", "site"), [(algo, site) for algo, sites in SITES.items() for site in sites])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_once_before_the_backward_pass_costs_one_row(tmp_path: Path, algo: str, site: str, value: float):
    with Injection(algo, site, value)() as injection:
        run(tmp_path, *WORDS[algo], *QUICK, "iterations=3")
    assert injection.done == 1
    assert total(tmp_path, "train/nonfinite/rows") == 1
    assert total(tmp_path, "train/updates_skipped_nonfinite") == 0
    assert status(tmp_path) == "done"
    check_files(tmp_path)


@pytest.mark.parametrize("algo", WORDS)
def test_a_gradient_once_costs_one_update(tmp_path: Path, algo: str):
    with Injection(algo, "gradient")():
        run(tmp_path, *WORDS[algo], *QUICK, "iterations=3")
    assert total(tmp_path, "train/updates_skipped_nonfinite") == 1
    assert status(tmp_path) == "done"
    check_files(tmp_path)


@pytest.mark.parametrize("site", ["moment", "weight"])
@pytest.mark.parametrize("algo", WORDS)
def test_a_moment_or_a_weight_ends_the_run(tmp_path: Path, algo: str, site: str):
    with Injection(algo, site)(), pytest.raises(Diverged, match="iteration_000001"):
        run(tmp_path, *WORDS[algo], *QUICK, "iterations=3")
    assert status(tmp_path) == "diverged"
    check_files(tmp_path)


@pytest.mark.parametrize(("algo", "site"), [(algo, site) for algo in WORDS for site in (*SITES[algo], *STATE)])
def test_always_ends_the_run(tmp_path: Path, algo: str, site: str):
    with Injection(algo, site, times=math.inf)(), pytest.raises(Diverged, match="last checkpoint is"):
        run(tmp_path, *WORDS[algo], *QUICK, "iterations=8")
    assert status(tmp_path) == "diverged"
    assert not (tmp_path / "export").exists()
    check_files(tmp_path)


SCRIPT = """
import os, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
from injections import Injection
from running import run
site, times, directory = sys.argv[1:4]
start = 1 if os.environ["RANK"] == "1" else 1_000
with Injection("grpo", site, times=float(times), start=start)():
    run(Path(directory), *sys.argv[4:], "hardware.devices=2")
"""


def on_two_ranks(directory: Path, site: str, times: float, strategy: str = "ddp") -> int:
    """Train on two ranks, of which the second has the fault; the exit code."""
    script = directory.with_suffix(".py")
    script.write_text(SCRIPT.format(tests=str(TESTS)))
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    words = (*WORDS["grpo"], *QUICK, "iterations=4", "hardware.token_budget=300", f"hardware.strategy={strategy}")
    command = [sys.executable, *launcher, script, site, str(times), directory, *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, timeout=300, check=False).returncode


@pytest.mark.parametrize(("site", "rows", "skipped"), [("logprob", 1, 0), ("loss", 1, 0), ("gradient", 0, 1)])
def test_a_fault_of_one_rank_keeps_the_ranks_in_step(tmp_path: Path, site: str, rows: int, skipped: int):
    assert on_two_ranks(tmp_path / "run", site, 1) == 0
    assert total(tmp_path / "run", "train/nonfinite/rows") == rows
    assert total(tmp_path / "run", "train/updates_skipped_nonfinite") == skipped
    assert status(tmp_path / "run") == "done"


def test_a_dump_of_a_sharded_run_is_replayed_with_its_checkpoint(tmp_path: Path):
    """A rank that meets a fault holds a part of the weights, so that the dump names the checkpoint before it."""
    (tmp_path / "run").mkdir()
    write_record(tmp_path / "run", new_record("train"))  # as train.py does, so that all ranks know the run's id
    assert on_two_ranks(tmp_path / "run", "logprob", 1, "fsdp") == 0
    assert total(tmp_path / "run", "train/nonfinite/rows") == 1
    (dump,) = (tmp_path / "run" / "faults").glob("*_rank1.pt")
    out = io.StringIO()
    assert replay_dump(dump, out) == DONE
    assert "those of " in out.getvalue()


@pytest.mark.parametrize("site", ["logprob", "moment", "weight"])
def test_a_fault_of_one_rank_that_stays_ends_all(tmp_path: Path, site: str):
    assert on_two_ranks(tmp_path / "run", site, math.inf) != 0
    assert status(tmp_path / "run") == "diverged"
