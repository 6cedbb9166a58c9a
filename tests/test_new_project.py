"""`winnow new`: the project's test passes, and it trains."""

import subprocess
import sys
from pathlib import Path

import pytest

from winnow import Run, cli
from winnow.errors import ConfigError
from winnow.new_project import write_project


def test_a_new_project_holds_a_reward_and_a_test_that_passes(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    project = tmp_path / "my-project"
    assert cli.exit_code(["new", str(project)]) == 0
    assert "plugins=[my_project]" in capfd.readouterr().out
    names = {path.relative_to(project).as_posix() for path in project.rglob("*") if path.is_file()}
    assert {"README.md", "conf/experiment/first.yaml", "my_project/rewards.py", "tests/test_rewards.py"} <= names
    assert not [path for path in project.rglob("*") if "PACKAGE" in path.name or path.suffix == ".tmpl"]
    assert not [path for path in project.rglob("*.*") if path.is_file() and "PACKAGE" in path.read_text()]
    tested = subprocess.run([sys.executable, "-m", "pytest", "-q"], cwd=project, capture_output=True, check=False)
    assert tested.returncode == 0, tested.stdout


def test_a_new_project_trains_with_its_reward(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    write_project(tmp_path / "fresh_project")
    monkeypatch.chdir(tmp_path / "fresh_project")
    monkeypatch.setattr(sys, "path", list(sys.path))
    quick = ("debug=default", "logger=none", "hardware=cpu", "iterations=1", "eval.prompts=1", "hydra.run.dir=run")
    assert cli.exit_code(["train", "experiment=first", *quick]) == 2
    assert "type plugins=[fresh_project] if you trust it" in capfd.readouterr().err
    assert cli.exit_code(["train", "experiment=first", "plugins=[fresh_project]", *quick]) == 0
    last = Run.read("run").rows[-1]
    assert 0 <= last["train/reward/brevity/mean"] <= 1


@pytest.mark.parametrize(
    ("name", "words"),
    [("1st", "no package can be called '1st'"), ("class", "no package"), ("json", "there is a package json already")],
)
def test_a_name_that_no_package_can_have(tmp_path: Path, name: str, words: str):
    with pytest.raises(ConfigError, match=words):
        write_project(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_cannot_be_seen(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    assert cli.exit_code(["new", ""]) == 2
    assert "the name is empty" in capfd.readouterr().err
    with pytest.raises(ConfigError, match="cannot be seen"):
        write_project(tmp_path / "a\n")


def test_a_directory_that_holds_something_is_left_alone(tmp_path: Path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds something already"):
        write_project(tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]
