"""Two ranks of which one is signalled, killed or hangs: all end in time, what is saved is whole, and it is told."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.process import descendants
from running import CONF, SMALL
from winnow.training.checkpoint import newest_valid

pytestmark = pytest.mark.faults
TESTS = Path(__file__).parent.parent
TIMEOUT, MARGIN = 20, 60
WORDS = (*SMALL, "iterations=4", "checkpoint.every=1", f"hardware.timeout={TIMEOUT}")
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")


@dataclass(frozen=True)
class Ended:
    """How the processes of a run ended: code of the one that was started, its seconds after the fault, its output."""

    code: int
    output: str
    seconds: float


def ended(directory: Path, strategy: str, fault: str, launcher: tuple[str, ...] = TORCHRUN) -> Ended:
    """Start a run of two ranks, of which `fault` befalls one, and wait until no process of it is left."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "FAULT": fault, "PYTHONPATH": str(TESTS)}
    words = [*WORDS, "hardware.devices=2", f"hardware.strategy={strategy}", f"hydra.run.dir={directory}"]
    log = directory.with_suffix(".log")
    with log.open("w") as output:
        command = [sys.executable, *launcher, str(TESTS / "faulty_train.py"), *words]
        run = subprocess.Popen(command, cwd=CONF.parent, env=environment, stdout=output, stderr=output)
    rows, ranks, began = directory / "metrics.jsonl", set(), 0.0
    end = time.monotonic() + 300
    while run.poll() is None or any(map(lives, ranks)):
        assert time.monotonic() < end, log.read_text()
        ranks |= {*descendants(run.pid)} if run.poll() is None else set()
        if not began and rows.exists() and rows.read_bytes().count(b"\n") >= 3:  # the fault is in the third iteration
            began = time.monotonic()
        time.sleep(0.1)
    return Ended(run.returncode, log.read_text(), time.monotonic() - began)


def lives(pid: int) -> bool:
    """Whether this is a living process of train.py; a zombie has an empty command line."""
    try:
        return b"train.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


def status(directory: Path) -> str:
    return json.loads((directory / "summary.json").read_text())["status"]


def saved(directory: Path) -> int:
    found = newest_valid(directory / "checkpoints")
    assert found is not None
    return int(found.parent.name.removeprefix("iteration_"))


CASES = [("ddp", 1, "sampling"), ("fsdp", 0, "sampling"), ("ddp", 0, "scoring"), ("fsdp", 1, "scoring")]
CASES += [("ddp", 1, "updating"), ("fsdp", 0, "updating")]


@pytest.mark.parametrize(("strategy", "rank", "moment"), CASES)
def test_a_signal(tmp_path: Path, strategy: str, rank: int, moment: str):
    run = ended(tmp_path / "run", strategy, f"{rank},{moment},SIGTERM")
    assert run.code == 1, run.output  # torchrun's; that of the first rank was 75
    assert "exitcode  : 75" in run.output
    assert run.seconds < MARGIN
    assert status(tmp_path / "run") == "preempted"
    assert saved(tmp_path / "run") == (3 if moment == "updating" else 2)


@pytest.mark.parametrize(("strategy", "rank", "moment"), [*CASES, ("fsdp", 1, "saving shards")])
def test_a_rank_is_killed(tmp_path: Path, strategy: str, rank: int, moment: str):
    run = ended(tmp_path / "run", strategy, f"{rank},{moment},SIGKILL")
    assert run.code == 1, run.output
    assert run.seconds < MARGIN
    assert len(told(run)) == 1, run.output
    assert "src/winnow" not in run.output, run.output  # torchrun prints a traceback of its own
    assert status(tmp_path / "run") == ("failed" if rank == 1 else "running")
    assert saved(tmp_path / "run") == (1 if moment == "saving shards" else 2)


STALLS = [("ddp", 1, "sampling"), ("fsdp", 0, "sampling"), ("ddp", 0, "verifying"), ("fsdp", 1, "verifying")]
STALLS += [("ddp", 1, "updating"), ("fsdp", 0, "updating")]
PHASES = {"sampling": "generate", "verifying": "reward", "updating": "update"}


@pytest.mark.parametrize(("strategy", "rank", "moment"), STALLS)
def test_a_rank_hangs(tmp_path: Path, strategy: str, rank: int, moment: str):
    run = ended(tmp_path / "run", strategy, f"{rank},{moment},stall")
    assert run.code == 1, run.output
    assert run.seconds < TIMEOUT + MARGIN
    (line,) = told(run)
    assert f"for rank {rank}, which is in {PHASES[moment]} for" in line, run.output
    assert f"rank {rank}: the others have waited in vain for this rank; the stacks of its threads:" in run.output
    assert "faulty_train.py" in run.output.split("the stacks of its threads:")[1]
    assert saved(tmp_path / "run") == 2


def test_a_rank_hangs_and_holds_pythons_lock(tmp_path: Path):
    run = ended(tmp_path / "run", "ddp", "1,sampling,stall with the lock")
    assert run.code == 1, run.output
    assert run.seconds < TIMEOUT + MARGIN
    (line,) = told(run)
    assert line.startswith("ranks: rank 1 is gone, or does not answer"), run.output
    assert "hold_the_lock" in run.output
    assert saved(tmp_path / "run") == 2


def told(run: Ended) -> list[str]:
    return [line for line in run.output.splitlines() if line.startswith("ranks: ")]


FULL = [(1, "writing a file"), (0, "writing a file"), (0, "writing the index"), (0, "writing the rest")]


@pytest.mark.parametrize(("rank", "moment"), FULL)
def test_a_full_disk_under_the_shards(tmp_path: Path, rank: int, moment: str):
    run = ended(tmp_path / "run", "fsdp", f"{rank},{moment},full disk", launcher=())
    assert run.code == 74, run.output
    (line,) = [line for line in run.output.splitlines() if line.startswith(("disk:", "error:", "ranks:"))]
    assert "No space left on device; the state after iteration 1 is kept" in line
    assert "Traceback" not in run.output
    assert status(tmp_path / "run") == "failed"
    assert saved(tmp_path / "run") == 1
    assert not [*(tmp_path / "run").glob("checkpoints/.*")]


OWN = [("fsdp", rank, moment) for rank, moment in ((0, "sampling"), (1, "scoring"), (0, "updating"))]


@pytest.mark.parametrize(("strategy", "rank", "moment"), OWN)
@pytest.mark.parametrize("harm", ["SIGTERM", "SIGKILL", "stall"])
def test_ranks_that_train_py_has_started(tmp_path: Path, strategy: str, rank: int, moment: str, harm: str):
    """The code is the first rank's: 75 on a signal, 1 where the other is gone, and it may be the killed one itself."""
    run = ended(tmp_path / "run", strategy, f"{rank},{moment},{harm}", launcher=())
    killed = harm == "SIGKILL" and rank == 0
    assert run.code == (75 if harm == "SIGTERM" else -9 if killed else 1), run.output
    assert run.seconds < MARGIN + (TIMEOUT if harm == "stall" else 0)
    assert len(told(run)) == (harm != "SIGTERM" and not killed), run.output
    assert "Traceback" not in run.output
    assert saved(tmp_path / "run") == (3 if (harm, moment) == ("SIGTERM", "updating") else 2)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_rank_that_does_not_start_is_told(tmp_path: Path, strategy: str):
    """The variables of torchrun without the second process."""
    of_torchrun = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "GROUP_RANK": "0"}
    store = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29777", "TORCHELASTIC_RUN_ID": "alone"}
    words = [*WORDS, "hardware.devices=2", f"hardware.strategy={strategy}", "hardware.timeout=10"]
    run = subprocess.run(
        [sys.executable, "train.py", *words, f"hydra.run.dir={tmp_path / 'run'}"],
        cwd=CONF.parent,
        env=os.environ | of_torchrun | store | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 1
    assert "ranks: not all have started" in run.stderr
    assert "Traceback" not in run.stderr
