"""Thousands of senseless overrides through the real program: exit 2 and one line, or accepted.

All of them take most of an hour of one core: `WINNOW_FUZZ=all pytest -m faults -n 2 FILE` with the name of this file.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from winnow.config.command_line import read_command_line
from winnow.config.compose import Composer, register_unique_name
from winnow.config.override_errors import keys_of
from winnow.launch import programs
from winnow.launch.program import Program

ROOT = Path(__file__).parents[2]
NUMBERS = ["inf", "nan", "-1", "9" * 400, "9" * 5000, "1e999"]
SHAPES = ["true", "null", "", "[]", "[1,[2]]", "{}", "{a: 1}", "${x}", "${seed}", "???"]
TEXTS = ["abc", "\0", "\ud800", "a" * 5000]
ONE_IN, ONE_IN_OF_FAULTS = 307, 1 if os.environ.get("WINNOW_FUZZ") == "all" else 23
"""Every so many cases one is tried in the ordinary suite, and in `make test-faults`."""
PARTS = 4


def cases() -> list[str]:
    """Overrides of every key of the configuration, Hydra's own included, with every value, and deletions of each."""
    register_unique_name()
    composer = Composer("train", ROOT / "conf", read_command_line([]))
    cfg = composer.compose([])
    keys = [*keys_of(cfg), *keys_of(cfg.hydra, "hydra.")]
    kept = [key for key in keys if not key.startswith("benchmarks.") or key.startswith("benchmarks.math500")]
    values = [*NUMBERS, *SHAPES, *TEXTS]
    return [word for key in kept for word in (*(f"{key}={value}" for value in values), f"~{key}", f"+{key}.x=1")]


def program() -> Program:
    """The training program that ends once its configuration is accepted."""
    return replace(programs.training(), run=lambda cfg, directory: None)


def failures(tried: Sequence[str], capfd: pytest.CaptureFixture[str]) -> Iterator[str]:
    """The cases that end in another way than done, or code 2 with one readable line."""
    train = program()
    for case in tried:
        try:
            code = train.exit_code([case, "logger=none"])
        except Exception as error:
            code = repr(error)[:200]
        lines = capfd.readouterr().err.splitlines()
        is_refused = code == 2 and len(lines) == 1 and len(lines[0]) <= 6000
        if code != 0 and not is_refused:
            yield f"{case[:80]!r}: {code}, {lines[:2]}"
        for path in Path.cwd().iterdir():
            shutil.rmtree(path) if path.is_dir() else os.remove(path)


def test_some_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)
    assert list(failures(cases()[::ONE_IN], capfd)) == []


@pytest.mark.faults
@pytest.mark.parametrize("part", range(PARTS))
def test_many_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], part: int):
    monkeypatch.chdir(tmp_path)
    assert list(failures(cases()[::ONE_IN_OF_FAULTS][part::PARTS], capfd)) == []
