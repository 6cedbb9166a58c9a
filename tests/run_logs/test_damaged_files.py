"""Files of a run that were damaged or replaced: each is one line, nothing is waited for, and nothing is written."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from winnow.run_logs.file_check import check_files
from winnow.run_logs.run_files import EvaluationCounts, RunFiles
from winnow.run_logs.run_record import configuration_hashes, read_record

DEEP = "[" * 100_000


def as_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def as_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def as_device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "deep": lambda path: path.write_text(DEEP + "\n"),
    "no UTF-8": lambda path: path.write_bytes(b"\xff\xfe\n"),
    "no JSON": lambda path: path.write_text('{"x":\n'),
    "a list": lambda path: path.write_text("[]\n"),
    "a directory": as_directory,
    "a pipe": as_pipe,
    "a device": as_device,
}


@pytest.fixture
def files(tmp_path: Path) -> RunFiles:
    made = RunFiles(tmp_path, "0123456789abcdef")
    made.append_evaluations([EvaluationCounts(1, "math500", 1, "abc", (1, 0))])
    made.append({"iteration": 1, "reward": 0.5})
    (tmp_path / "run.json").write_text("{}")
    made.refuse_damaged_rows()
    return made


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["metrics.jsonl", "evaluations.jsonl"])
def test_damaged_rows_are_refused_and_named(files: RunFiles, name: str, damage: str):
    DAMAGES[damage](files.directory / name)
    with pytest.raises(ValueError, match=name):
        files.refuse_damaged_rows()
    assert any(name in sentence for sentence in check_files(files.directory, "0123456789abcdef").changed)


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_hashes_are_refused_and_named(files: RunFiles, damage: str):
    DAMAGES[damage](files.hashes)
    with pytest.raises(ValueError, match="hashes"):
        files.recorded_hashes()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_record_is_none(files: RunFiles, damage: str):
    DAMAGES[damage](files.directory / "run.json")
    assert read_record(files.directory) is None


@pytest.mark.parametrize("damage", ["a directory", "a pipe", "a device"])
def test_what_is_no_file_has_no_hash(files: RunFiles, damage: str):
    path = files.directory / "config.yaml"
    path.write_text("a: 1\n")
    assert set(configuration_hashes(files.directory)) == {"config.yaml"}
    DAMAGES[damage](path)
    assert configuration_hashes(files.directory) == {}
