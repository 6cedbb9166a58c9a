"""`winnow check`: right rules pass, and a wrong rule fails the check that is about its slip, and no other."""

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from running import CONF
from winnow import cli
from winnow.conformance.run import RULES, of_rule
from winnow.objectives import KL

PAGE = (Path(__file__).parent.parent / "docs/own_objective.md").read_text()
FILE = re.compile(r"^```(?:python|yaml)\n# ([\w/.]+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^winnow (check .*\b(?:rank$|centred|per_token|forgetful|in_place)\b.*)", re.MULTILINE)
ALGORITHMS = tuple(sorted(path.stem for path in (CONF / "algo").glob("*.yaml")))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project with all files of the page, as working directory; what was imported from it is forgotten."""
    for name, text in FILE.findall(PAGE):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] == "my_project"]:
        del sys.modules[name]


def failed(text: str) -> set[str]:
    """The names of the checks that failed."""
    return {line[16:].split("  ")[1].strip() for line in text.splitlines() if line.startswith("  FAILS")}


def test_the_examples_pass_and_fail_as_the_page_says(project: Path, capsys: pytest.CaptureFixture[str]):
    lines = COMMAND.findall(PAGE)
    assert len(lines) == 5
    for line in lines:
        words, _, comment = line.partition("#")
        expected = set(re.sub(r".*fails: ", "", comment).split(", ")) if comment else set()
        assert cli.exit_code(shlex.split(words)) == bool(expected)
        assert failed(capsys.readouterr().out) == expected, line


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_every_algorithm_keeps_its_promises(algo: str, capsys: pytest.CaptureFixture[str]):
    assert cli.exit_code(["check", f"algo={algo}"]) == 0, capsys.readouterr().out
    assert "0 fail" in capsys.readouterr().out


CHOICES = sorted(path for axis in RULES for path in (CONF / "algo" / axis).glob("*.yaml"))
OUTSIDE = {"gae", "extremes", "none"}
"""Rules of a critic and of pairs, which the algorithms of each cover; and choices that leave something out."""


@pytest.mark.parametrize("path", [path for path in CHOICES if path.stem not in OUTSIDE], ids=lambda p: p.stem)
def test_every_rule_keeps_its_promises(path: Path):
    node = OmegaConf.create({"rollout": {"max_tokens": 32}, "rule": OmegaConf.load(path)})
    rule, axis = instantiate(node.rule, _convert_="all"), path.parent.name
    found = list(of_rule(axis, rule.estimator if isinstance(rule, KL) else rule))
    assert [str(finding) for finding in found if finding.failed] == []
    assert len(found) > 5


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("algo=gppo", "algo=gppo"),
        ("algo=grpo algo/clip=ppo algo/ratio=none", "clipping needs a ratio to clip"),
        ("algo/clip=soft", "algo/clip=soft"),
    ],
)
def test_bad_input_is_one_line(words: str, part: str, capsys: pytest.CaptureFixture[str]):
    assert cli.exit_code(["check", *words.split()]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert part in line
