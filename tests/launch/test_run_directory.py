"""A run directory has one run, and one process that writes it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import toy_program
from winnow.launch.program import Program
from winnow.launch.run_directory import LEFT_BY_RUNS, holds_run
from winnow.run_logs.directory_lock import LOCK, holder_of
from winnow.run_logs.run_record import read_record, run_id

HERE = Path("here")


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return toy_program.program(toy_program.write_conf(tmp_path / "conf"))


@pytest.fixture
def live(toy: Program, tmp_path: Path) -> Iterator[Callable[[Path], subprocess.Popen[bytes]]]:
    """Function that starts a run in a directory, which waits there for a signal."""
    started: list[subprocess.Popen[bytes]] = []

    def start(directory: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, toy_program.__file__, "end=waits", f"hydra.run.dir={directory}"]
        environment = os.environ | {"TOY_CONF": str(tmp_path / "conf")}
        started.append(subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL))
        end = time.monotonic() + 60
        while not (directory / "pid").exists() or not (directory / "pid").read_text():
            assert time.monotonic() < end
            time.sleep(0.02)
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def contents(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def refused(toy: Program, capfd: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line with which the command is refused; it has changed no file below the working directory."""
    before = contents(Path())
    capfd.readouterr()
    assert toy.exit_code(words) == 2
    [line] = capfd.readouterr().err.splitlines()
    assert contents(Path()) == before
    return line


def test_a_live_run_is_neither_overwritten_nor_resumed(
    toy: Program, live: Callable[[Path], subprocess.Popen[bytes]], capfd: pytest.CaptureFixture[str]
):
    process = live(HERE)
    assert "hydra.run.dir=here" in refused(toy, capfd, "hydra.run.dir=here")
    assert f"process {process.pid}" in refused(toy, capfd, "resume=here")
    assert holder_of(HERE) is not None
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 75
    assert not (HERE / LOCK).exists()
    assert toy.exit_code(["resume=here", "end=done", "resume_force=true"]) == 0


def test_a_directory_where_a_run_just_starts_is_refused(
    toy: Program, live: Callable[[Path], subprocess.Popen[bytes]], capfd: pytest.CaptureFixture[str]
):
    """Its process holds the lock, and has written nothing else yet."""
    live(HERE)
    for path in [*HERE.iterdir()]:
        if path.name != LOCK:
            path.rename(Path(f"moved_{path.name}"))
    assert "a run is going on there" in refused(toy, capfd, "hydra.run.dir=here")


def test_resume_last_passes_over_a_live_run(
    toy: Program, live: Callable[[Path], subprocess.Popen[bytes]], capfd: pytest.CaptureFixture[str]
):
    ended, going_on = Path("outputs/ended"), Path("outputs/live")
    toy.exit_code([f"hydra.run.dir={ended}"])
    live(going_on)
    toy_program._save(going_on, 1)
    before = contents(going_on)
    assert toy.exit_code(["resume=last", "iterations=5"]) == 0
    assert "outputs/live is still running" in capfd.readouterr().out
    assert json.loads((ended / "seen.json").read_text())["iterations"] == 5
    assert contents(going_on) == before


@pytest.mark.parametrize("left", LEFT_BY_RUNS)
def test_a_directory_with_anything_of_a_run_is_refused(toy: Program, capfd: pytest.CaptureFixture[str], left: str):
    (HERE / left).parent.mkdir(parents=True)
    (HERE / left).mkdir() if "." not in left else (HERE / left).write_text("")
    assert holds_run(HERE)
    line = refused(toy, capfd, "hydra.run.dir=here")
    assert "resume=here" in line
    assert "another hydra.run.dir" in line


def test_a_directory_with_other_files_gets_no_run(toy: Program, capfd: pytest.CaptureFixture[str]):
    """But one with the log of a job, or with what a refused start has left, does."""
    HERE.mkdir()
    (HERE / "notes.txt").write_text("mine")
    assert "holds notes.txt, which no run wrote; type" in refused(toy, capfd, "hydra.run.dir=here")
    (HERE / "notes.txt").rename(HERE / "output.log")
    (HERE / ".hydra").mkdir()
    assert toy.exit_code(["hydra.run.dir=here"]) == 0


def test_a_second_run_in_a_directory_leaves_the_first_as_it_was(toy: Program, capfd: pytest.CaptureFixture[str]):
    assert toy.exit_code(["hydra.run.dir=here"]) == 0
    first = run_id(HERE)
    refused(toy, capfd, "hydra.run.dir=here", "iterations=4")
    assert run_id(HERE) == first


def test_a_killed_run_is_begun_again_in_its_directory(toy: Program, tmp_path: Path):
    """It had saved nothing, so that nothing is lost; its lock died with it."""
    command = [sys.executable, toy_program.__file__, "end=killed", "algo=raft", "hydra.run.dir=outputs/here"]
    done = subprocess.run(command, env=os.environ | {"TOY_CONF": str(tmp_path / "conf")}, check=False)
    here = Path("outputs/here")
    assert done.returncode == -signal.SIGKILL
    assert (here / LOCK).exists()
    before = read_record(here)
    assert before is not None
    assert toy.exit_code(["resume=last", "end=done", "resume_force=true"]) == 0
    assert run_id(here) == before.run
    assert json.loads((here / "summary.json").read_text())["status"] == "done"
    assert not (here / LOCK).exists()


def test_a_run_that_was_saved_and_whose_checkpoints_are_gone_is_not_begun_again(
    toy: Program, capfd: pytest.CaptureFixture[str]
):
    toy.exit_code(["hydra.run.dir=here"])
    (HERE / "checkpoints/iteration_000003/manifest.json").unlink()
    (HERE / "checkpoints/iteration_000003").rmdir()
    assert "no checkpoint in it" in refused(toy, capfd, "resume=here")


def test_a_directory_that_cannot_be_made_is_one_line(toy: Program, capfd: pytest.CaptureFixture[str]):
    Path("file").write_text("")
    assert "/file is no directory; choose another" in refused(toy, capfd, "hydra.run.dir=file/here")
    assert "cannot be written (" in refused(toy, capfd, "hydra.run.dir=/proc/here")


def test_each_run_has_an_id_of_its_own(toy: Program):
    for name in ("a", "b"):
        toy.exit_code([f"hydra.run.dir={name}"])
    assert len({run_id(Path("a")), run_id(Path("b")), None}) == 3
