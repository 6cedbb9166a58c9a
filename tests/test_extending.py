"""Every example of docs/extending.md, executed in a project outside of the repository."""

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from winnow import cli

PAGE = (Path(__file__).parent.parent / "docs/extending.md").read_text()
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
FILE = re.compile(r"^```(?:python|yaml)\n# ([\w/.]+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^winnow .*", re.MULTILINE)
QUICK = (
    "debug=default",
    "logger=none",
    "hardware=cpu",
    "iterations=1",
    "eval.prompts=1",
    "eval.samples=1",
    "rollout.prompts=2",
)
EXAMPLES = [title for title, text in SECTIONS.items() if FILE.search(text)]
CASES = '{"gold": "a, b", "pred": "B,a", "equivalent": true}\n{"gold": "a", "pred": "c", "equivalent": false}\n'


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project with all files of the page, as working directory; what was imported from it is forgotten."""
    for name, text in FILE.findall(PAGE):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "cases.jsonl").write_text(CASES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] == "my_project"]:
        del sys.modules[name]


@pytest.mark.parametrize("title", EXAMPLES)
def test_an_example_runs(project: Path, title: str, capfd: pytest.CaptureFixture[str]):
    assert all(len(text.splitlines()) <= 30 for _, text in FILE.findall(SECTIONS[title]))
    lines = COMMAND.findall(SECTIONS[title])
    assert lines
    for line in lines:
        _, *words = shlex.split(line, comments=True)
        if "-m" in words:  # its last job
            words = [f"{key}={values.split(',')[-1]}" for key, values in (word.split("=") for word in words[2:])]
            words.insert(0, "train")
        more = (word for word in QUICK if word.split("=")[0] not in line)
        assert cli.exit_code([*words, *more] if words[0] == "train" else words) == 0, capfd.readouterr().err


@pytest.mark.parametrize(
    "words", ["algo/advantage=rank", "algo/clip=soft", "dataset=doubles", "algo/advantage=rank plugins=[]"]
)
def test_nothing_is_imported_before_it_is_trusted(project: Path, words: str, capfd: pytest.CaptureFixture[str]):
    files = sorted(project.rglob("*"))
    assert cli.exit_code(["train", *words.split()]) == 2
    assert "type plugins=[my_project] if you trust it" in capfd.readouterr().err
    assert "my_project" not in sys.modules
    assert str(project) not in sys.path
    assert sorted(project.rglob("*")) == files


def test_a_run_is_resumed_evaluated_exported_and_audited_from_elsewhere(
    project: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    words = ("plugins=[my_project]", "dataset=doubles", "algo/advantage=rank", "checkpoint.every=1")
    assert cli.exit_code(["train", *words, *QUICK, "hydra.run.dir=run"]) == 0
    (project / "elsewhere").mkdir()
    monkeypatch.chdir(project / "elsewhere")
    for command in (
        "train resume=../run iterations=2",
        "evaluate run=../run limit=2 hardware=cpu",
        "export ../run out",
        "audit ../run --iterations 1",
        "report ../run",
    ):
        monkeypatch.setattr(sys, "path", [place for place in sys.path if place != str(project)])
        for name in [name for name in sys.modules if name.split(".")[0] == "my_project"]:
            del sys.modules[name]
        assert cli.exit_code(command.split()) == 0, (command, capfd.readouterr())


def test_a_package_must_not_be_called_as_one_that_is_installed(project: Path, capfd: pytest.CaptureFixture[str]):
    (project / "yaml").mkdir()
    (project / "yaml/__init__.py").touch()
    assert cli.exit_code(["train", "plugins=[yaml]"]) == 2
    assert "has the name of an installed package" in capfd.readouterr().err
