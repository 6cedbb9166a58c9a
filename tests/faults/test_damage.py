"""Checkpoints with a flipped bit or cut short: all are noticed, the one before is used, and it is never deleted."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from running import SMALL, metrics, program, weights
from winnow.run_logs.run_record import run_id
from winnow.training.checkpoint import MANIFEST, STATE, delete_old, is_intact, newest_valid

FLIPS, TRUNCATIONS = 200, 50
LAST = 3


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three iterations with all of its checkpoints."""
    run = tmp_path_factory.mktemp("damaged") / "run"
    words = ("algo=ppo", f"iterations={LAST}", "checkpoint.every=1", "checkpoint.keep=all", f"hydra.run.dir={run}")
    assert program("train").exit_code([*SMALL, *words]) == 0
    return run


def flipped(path: Path, numbers: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[numbers.randrange(len(content))] ^= 1 << numbers.randrange(8)
    path.write_bytes(content)


def truncated(path: Path, numbers: random.Random) -> None:
    path.write_bytes(path.read_bytes()[: numbers.randrange(path.stat().st_size)])


CASES = [*((flipped, number) for number in range(FLIPS)), *((truncated, number) for number in range(TRUNCATIONS))]


def folder(run: Path, iteration: int) -> Path:
    return run / "checkpoints" / f"iteration_{iteration:06d}"


@pytest.mark.faults
def test_every_flipped_bit_and_every_truncation_is_detected(made: Path, tmp_path: Path):
    """One in four hits the manifest. Retention that is to keep one checkpoint keeps the one before the damaged one."""
    run, own = shutil.copytree(made, tmp_path / "run"), run_id(made)
    newest, before = folder(run, LAST), folder(run, LAST - 1)
    kept = {name: (newest / name).read_bytes() for name in (STATE, MANIFEST)}
    detected = 0
    for damage, number in CASES:
        damage(newest / (MANIFEST if number % 4 == 0 else STATE), random.Random(f"{damage.__name__} {number}"))
        detected += newest_valid(run / "checkpoints", own) == before / STATE
        if number % 25 == 0:
            delete_old(run / "checkpoints", 1, own)
            assert is_intact(before, own)
            assert newest.is_dir()
        for name, content in kept.items():
            (newest / name).write_bytes(content)
    assert detected == FLIPS + TRUNCATIONS == 250
    assert newest_valid(run / "checkpoints", own) == newest / STATE


@pytest.mark.faults
@pytest.mark.parametrize("damage", [flipped, truncated])
@pytest.mark.parametrize("name", [STATE, MANIFEST])
def test_a_run_goes_on_from_the_checkpoint_before_the_damaged_one(
    made: Path, tmp_path: Path, damage: Callable, name: str, capfd: pytest.CaptureFixture[str]
):
    run = shutil.copytree(made, tmp_path / "run")
    damage(folder(run, LAST) / name, random.Random(0))
    (run / "export" / "model.safetensors").unlink()
    assert program("train").exit_code([f"resume={run}"]) == 0
    printed = capfd.readouterr().out
    assert f"iteration_{LAST:06d}: " in printed
    assert f"resuming after iteration {LAST - 1}" in printed
    assert weights(run) == weights(made)
    assert metrics(run) == metrics(made)
    assert is_intact(folder(run, LAST), run_id(made))
