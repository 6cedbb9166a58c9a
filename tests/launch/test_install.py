"""`winnow train` and `python -m winnow`: the programs without the scripts of the repository, and own YAML files."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from winnow import cli
from winnow.config.compose import CONF
from winnow.config.own_files import VARIABLE, unnamed_directory
from winnow.errors import ConfigError

QUICK = ("debug=default", "logger=none", "hardware=cpu", "iterations=1", "eval.prompts=1", "eval.samples=1")


def winnow(here: Path, *words: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "winnow", *words]
    return subprocess.run(
        command, cwd=here, env=os.environ | dict(env or {}), capture_output=True, text=True, check=False
    )


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv(VARIABLE, raising=False)
    return tmp_path / "here"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_directory_that_nobody_names_is_conf_in_the_working_directory(here: Path, monkeypatch: pytest.MonkeyPatch):
    assert unnamed_directory(installed=True) is None
    write(here / "conf/experiment/mine.yaml", "# @package _global_\nseed: 7\n")
    assert unnamed_directory(installed=True) == "conf"
    assert unnamed_directory(installed=False) is None
    monkeypatch.setenv(VARIABLE, str(here))
    assert unnamed_directory(installed=True) == unnamed_directory(installed=False) == str(here)
    monkeypatch.setenv(VARIABLE, "nowhere")
    with pytest.raises(ConfigError, match=r"WINNOW_CONFIG_DIR=nowhere: no such directory"):
        unnamed_directory(installed=True)


def test_winnows_own_directory_is_not_taken_twice(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(CONF.resolve().parent)
    monkeypatch.delenv(VARIABLE, raising=False)
    assert unnamed_directory(installed=True) is None


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("winnow tr", "train"),
        ("winnow train algo=raf", "algo=raft algo=raftpp"),
        ("winnow evaluate run", "run="),
        ("winnow report nowhere", ""),
    ],
)
def test_tab_completes_commands_and_overrides(
    here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], line: str, words: str
):
    monkeypatch.setenv("COMP_LINE", line)
    assert cli.exit_code(["-sc", "query=bash"]) == 0
    assert capfd.readouterr().out.strip() == words


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_what_a_bare_shell_is_to_run_gives_it_the_completion(
    here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], shell: str
):
    """Hydra's script is bash's; a zsh without the user's settings has no `complete`."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    monkeypatch.setattr(sys, "argv", ["winnow"])  # the command that is completed
    assert cli.exit_code(["-sc", "install=bash"]) == 0
    script = f"{capfd.readouterr().out}\ncomplete -p winnow"
    bare = {"bash": ["--norc"], "zsh": ["-f"]}[shell]
    ran = subprocess.run([shell, *bare, "-c", script], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "-F hydra_bash_completion winnow" in ran.stdout


def test_own_files_are_found_and_shown(here: Path, capfd: pytest.CaptureFixture[str]):
    write(here / "conf/experiment/mine.yaml", "# @package _global_\n# Seven.\nseed: 7\n")
    assert cli.exit_code(["train", "--cfg", "job", "--package", "seed", "experiment=mine"]) == 0
    assert "7" in capfd.readouterr().out
    assert cli.exit_code(["train", "experiment=mien"]) == 2
    assert "did you mean experiment=mine?" in capfd.readouterr().err


def test_jobs_of_a_sweep_start_without_a_script(here: Path):
    write(here / "conf/experiment/mine.yaml", "# @package _global_\nseed: 7\n")
    write(here / "wandb/__init__.py", "raise RuntimeError('the working directory is not on the import path')\n")
    swept = winnow(here, "train", "-m", *QUICK, "experiment=mine", "algo=raft", "hydra.sweep.dir=sweep")
    assert (swept.returncode, swept.stderr) == (0, "")
    assert "seed: 7\n" in (here / "sweep/0/.hydra/config.yaml").read_text()
