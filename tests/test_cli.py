"""The `winnow` command."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from winnow import cli, doctor
from winnow.doctor import Level

MACHINE = ("Python", "torch", "CPU", "memory", "outputs/", "disk", "embedded model", "verifier", "W&B", "hub cache")


def test_the_doctor_finds_no_fault_with_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    code = cli.exit_code(["doctor"])
    findings = {line[5:23].strip(): line.split()[0] for line in capfd.readouterr().out.splitlines()}
    assert [subject for subject in MACHINE if findings[subject] == "fail"] == []
    assert code == (2 if "fail" in findings.values() else 0)
    assert list(tmp_path.iterdir()) == []


def test_a_check_that_raises_is_a_finding(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    def _broken():
        raise RuntimeError("no such\ndevice")
        yield

    monkeypatch.setattr(doctor, "CHECKS", (_broken,))
    assert cli.exit_code(["doctor"]) == 2
    assert capfd.readouterr().out.split() == ["fail", "broken", "RuntimeError:", "no", "such", "device"]


@pytest.mark.parametrize(
    ("pin", "level", "words"),
    [
        ("hydra-core>=1.3.8,<1.4", Level.OK, "(<1.4,>=1.3.8)"),
        ("hydra-core<1.0", Level.FAIL, "type pip install 'hydra-core<1.0'"),
        ("no-such-package>=1", Level.FAIL, "missing; type pip install 'no-such-package>=1'"),
    ],
)
def test_versions_against_pins(pin: str, level: Level, words: str):
    finding = doctor._package(Requirement(pin))
    assert (finding.level, words in finding.text) == (level, True)


def test_a_folder_that_is_not_writable_is_a_failure(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir("/proc")
    assert next(doctor._outputs()).level == Level.FAIL


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("docotr", "invalid choice: 'docotr' (choose from 'train', 'evaluate', 'new'"),
        ("", "the following arguments are required: COMMAND"),
        ("verify", "CASES.jsonl"),
        ("verify nowhere.jsonl", "nowhere.jsonl"),
        ("doctor --fast", "--fast"),
    ],
)
def test_bad_words_are_one_line(capfd: pytest.CaptureFixture[str], words: str, part: str):
    assert cli.exit_code(words.split()) == 2
    [line] = capfd.readouterr().err.splitlines()
    assert part in line


def test_verify_judges_rows_and_ends_with_the_agreement(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    cases = tmp_path / "cases.jsonl"
    known = [("1/2", "0.5", True), ("\\sqrt{8}", "so \\boxed{2\\sqrt{2}}", True), ("3", "\\boxed{4}", False)]
    cases.write_text("".join(json.dumps({"gold": g, "pred": p, "equivalent": e}) + "\n" for g, p, e in known))
    assert cli.exit_code(["verify", str(cases)]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert [json.loads(line)["verdict"] for line in lines[:3]] == ["correct", "correct", "wrong"]
    assert "3 (100.0%)" in lines[-1]


def test_asking_for_help_imports_nothing_heavy():
    probe = "import sys; from winnow import cli\ntry: cli.exit_code(['--help'])\n"
    probe += "except SystemExit: sys.exit(bool({'torch', 'hydra', 'wandb'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", probe], capture_output=True, check=False).returncode == 0
