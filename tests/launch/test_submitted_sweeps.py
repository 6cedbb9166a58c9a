"""Sweeps whose jobs submitit runs: the same directories, table and codes as with our own launcher, and preemptions."""

import csv
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

import toy_program
from launch import fake_slurm
from launch.test_sweeps import wait_until
from running import CONF
from winnow.errors import ConfigError
from winnow.launch.submission import require_submitit

pytest.importorskip("submitit")
LAUNCHERS = CONF / "hydra" / "launcher"


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Function that starts a sweep of the toy program in `tmp_path/here`, by submitit on this machine."""
    toy_program.write_conf(tmp_path / "conf")
    (tmp_path / "conf/hydra").mkdir(exist_ok=True)
    (tmp_path / "conf/hydra/launcher").symlink_to(LAUNCHERS)
    (tmp_path / "here").mkdir()

    def start(*words: str, launcher: str = "submitit_local") -> subprocess.Popen[str]:
        words = (f"hydra/launcher={launcher}", "hydra.sweep.dir=sweep", *words)
        command = [sys.executable, toy_program.__file__, "-m", *words]
        environment = os.environ | {"TOY_CONF": str(tmp_path / "conf")}
        environment["PATH"] = f"{tmp_path / 'slurm'}:{os.environ['PATH']}"
        out = {"text": True, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.Popen(command, cwd=tmp_path / "here", env=environment, **out)  # type: ignore

    return start


def table(tmp_path: Path) -> dict[str, tuple[str, str]]:
    with (tmp_path / "here/sweep/summary.csv").open(newline="") as file:
        return {row["overrides"]: (row["status"], row["exit_code"]) for row in csv.DictReader(file)}


def test_a_preempted_job_is_queued_again_and_finishes(start: Callable[..., subprocess.Popen[str]], tmp_path: Path):
    """One job waits for the signal, which submitit's process gets; the others end meanwhile, each in its own way."""
    sweep = start("end=preempted,done,diverged", "seed=1", "hydra.launcher.jobs=2")
    pid = tmp_path / "here/sweep/0/pid"
    wait_until(lambda: pid.exists() and pid.read_text() != "")
    os.kill(parent_of(int(pid.read_text())), signal.SIGUSR2)
    out, _ = sweep.communicate(timeout=120)
    assert sweep.returncode == 1, out
    assert table(tmp_path) == {
        "end=preempted seed=1": ("done", "0"),
        "end=done seed=1": ("done", "0"),
        "end=diverged seed=1": ("diverged", "3"),
    }
    assert "2 of 3 jobs done" in out
    resumed = (tmp_path / "here/sweep/0/seen.json").read_text()
    assert str(tmp_path / "here/sweep/0") in resumed, "the second start went on with the first one's run"
    again = start("end=preempted,done,diverged", "seed=1", "hydra.launcher.jobs=2")
    out, _ = again.communicate(timeout=60)
    assert out.count("already done") == 2
    assert again.returncode == 1


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.faults
def test_an_array_of_slurm_runs_so_many_at_a_time_and_is_queued_again(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path
):
    """The signal comes to every process of the job, as SLURM sends it, and to the run from submitit besides."""
    slurm = tmp_path / "slurm"
    fake_slurm.install(slurm)
    sweep = start("end=preempted,done", "seed=1,2", "hydra.launcher.jobs=2", launcher="submitit_slurm")
    pids = [tmp_path / f"here/sweep/{job}/pid" for job in (0, 1)]
    wait_until(lambda: all(pid.exists() and pid.read_text() != "" for pid in pids), 60)
    for task in (f"{fake_slurm.JOB}_0", f"{fake_slurm.JOB}_1"):
        subprocess.run([slurm / "scancel", "--signal=USR2", task], check=True)
    out, _ = sweep.communicate(timeout=120)
    assert sweep.returncode == 0, out
    assert set(table(tmp_path).values()) == {("done", "0")}
    starts = [line.split() for line in (slurm / "starts").read_text().splitlines()]
    assert sorted(task for task, _ in starts) == sorted(f"{fake_slurm.JOB}_{n}" for n in (0, 0, 1, 1, 2, 3))
    assert {running for _, running in starts} == {"1", "2"}


@pytest.mark.faults
def test_a_signal_to_the_sweep_ends_its_jobs_and_starts_no_other(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path
):
    sweep = start("end=waits", "seed=1,2,3", "hydra.launcher.jobs=2")
    pids = [tmp_path / f"here/sweep/{n}/pid" for n in (0, 1)]
    wait_until(lambda: all(pid.exists() and pid.read_text() != "" for pid in pids))
    sweep.send_signal(signal.SIGTERM)
    out, _ = sweep.communicate(timeout=60)
    assert sweep.returncode == 75, out
    assert sorted(table(tmp_path).values()) == [("not started", ""), ("stopped", "75"), ("stopped", "75")]
    assert not any(Path(f"/proc/{pid.read_text()}").is_dir() for pid in pids)


@pytest.mark.faults
def test_a_job_does_not_outlive_its_sweep(start: Callable[..., subprocess.Popen[str]], tmp_path: Path):
    sweep = start("end=waits", "seed=1")
    pid = tmp_path / "here/sweep/0/pid"
    wait_until(lambda: pid.exists() and pid.read_text() != "")
    sweep.kill()
    sweep.wait()
    wait_until(lambda: not Path(f"/proc/{pid.read_text()}").is_dir())
    assert (tmp_path / "here/sweep/0/checkpoints").is_dir()


@pytest.mark.parametrize(
    ("name", "changed", "said"),
    [
        ("submitit_slurm", {}, "this machine has no sbatch and srun"),
        ("submitit_local", {"timeout_min": 0}, "hydra.launcher.timeout_min=0: must be a whole number, 1 or more"),
        ("submitit_local", {"max_num_timeout": -1}, "must be a whole number, 0 or more"),
    ],
)
def test_what_cannot_be_submitted_is_refused_before_anything_is_made(
    name: str, changed: dict[str, int], said: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("shutil.which", lambda program: None)
    launcher = OmegaConf.load(LAUNCHERS / f"{name}.yaml")
    with pytest.raises(ConfigError, match=said):
        require_submitit(OmegaConf.merge(launcher, changed))  # pyright: ignore[reportArgumentType]


def test_without_submitit_the_words_to_type_are_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'winnow-rl\[slurm\]'"):
        require_submitit(OmegaConf.load(LAUNCHERS / "submitit_local.yaml"))  # pyright: ignore[reportArgumentType]
