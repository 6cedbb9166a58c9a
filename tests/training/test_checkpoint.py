"""Checkpoint folders: atomic writes, and detection of damage."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from winnow.training.checkpoint import MANIFEST, STATE, delete_old, is_intact, newest_valid, write_checkpoint


def made(directory: Path, iteration: int, content: bytes, run: str | None = None) -> Path:
    return write_checkpoint(directory, iteration, lambda path: path.write_bytes(content), run)


def spoil_manifest(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / MANIFEST).write_text(text)


def pipe_for_state(folder: Path) -> None:
    (folder / STATE).unlink()
    os.mkfifo(folder / STATE)


def directory_for_state(folder: Path) -> None:
    (folder / STATE).unlink()
    (folder / STATE).mkdir()


def pipe_for_manifest(folder: Path) -> None:
    (folder / MANIFEST).unlink()
    os.mkfifo(folder / MANIFEST)


def file_for_folder(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_bytes(b"")


def link_for_folder(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.symlink_to(folder.with_name("iteration_000003"))


def other_iteration(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | {"iteration": 3}))


DAMAGES = {
    "list": spoil_manifest("[]"),
    "number": spoil_manifest("8"),
    "empty": spoil_manifest(""),
    "no hash": spoil_manifest('{"schema": 2, "iteration": 6}'),
    "hash is a number": spoil_manifest('{"schema": 1, "iteration": 6, "sha256": 6}'),
    "no text": lambda folder: (folder / MANIFEST).write_bytes(b"\xff\xfe\x00"),
    "deep": spoil_manifest("[" * 100_000),
    "huge": spoil_manifest('{"sha256": "' + "0" * (1 << 21) + '"}'),
    "other iteration": other_iteration,
    "pipe for the state": pipe_for_state,
    "pipe for the manifest": pipe_for_manifest,
    "directory for the state": directory_for_state,
    "file for the folder": file_for_folder,
    "link for the folder": link_for_folder,
    "link to itself": lambda folder: ((folder / STATE).unlink(), (folder / STATE).symlink_to(folder / STATE)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_is_neither_used_nor_counted(tmp_path: Path, damage: Callable[[Path], object]):
    """Retention that is to keep one checkpoint keeps the intact one, and the damaged one stays to be looked at."""
    good, bad = made(tmp_path, 3, b"three"), made(tmp_path, 6, b"six")
    damage(bad)
    assert newest_valid(tmp_path) == good / STATE
    delete_old(tmp_path, 1)
    assert newest_valid(tmp_path) == good / STATE
    assert bad.exists()
    made(tmp_path, 9, b"nine")
    delete_old(tmp_path, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["iteration_000009"]


@pytest.mark.parametrize("name", ["iteration_000008.bak", "iteration_000008 (copy)", "copy_of_iteration_000008", "x"])
def test_copies_are_neither_used_nor_counted_nor_deleted(tmp_path: Path, name: str):
    shutil.copytree(made(tmp_path, 8, b"eight"), tmp_path / name)
    (tmp_path / "iteration_000008" / STATE).write_bytes(b"eighy")
    made(tmp_path, 6, b"six")
    assert newest_valid(tmp_path) == tmp_path / "iteration_000006" / STATE
    delete_old(tmp_path, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["iteration_000006", "iteration_000008", name])


def test_a_copy_under_another_iteration_is_not_that_iteration(tmp_path: Path):
    shutil.copytree(made(tmp_path, 3, b"three"), tmp_path / "iteration_000009")
    assert newest_valid(tmp_path) == tmp_path / "iteration_000003" / STATE


def test_a_checkpoint_that_is_not_finite_retires_no_good_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    good = made(tmp_path, 3, b"three")
    for iteration in (6, 9, 12):
        write_checkpoint(
            tmp_path, iteration, lambda path: path.write_bytes(b"nan"), nonfinite=lambda path: ["a.weight"]
        )
        delete_old(tmp_path, 1)
        assert newest_valid(tmp_path) == good / STATE
    assert "a.weight" in capsys.readouterr().out


def test_checkpoints_of_another_run_are_neither_used_nor_deleted(tmp_path: Path):
    other = made(tmp_path, 9, b"nine", "other")
    mine = made(tmp_path, 6, b"six", "mine")
    made(tmp_path, 3, b"three", "mine")
    assert newest_valid(tmp_path, "mine") == mine / STATE
    delete_old(tmp_path, 1, "mine")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["iteration_000006", "iteration_000009"]
    made(tmp_path, 9, b"mine", "mine")
    assert (tmp_path / "iteration_000009.before_mine" / STATE).read_bytes() == b"nine"
    assert not is_intact(other, "other")


def test_a_checkpoint_of_an_earlier_version_has_no_run_and_is_used(tmp_path: Path):
    folder = made(tmp_path, 3, b"three", "mine")
    manifest = json.loads((folder / MANIFEST).read_text())
    earlier = {"schema": 1, "iteration": 3, "sha256": manifest["sha256"]}
    (folder / MANIFEST).write_text(json.dumps(earlier))
    assert newest_valid(tmp_path, "mine") == folder / STATE


def test_every_bit_of_a_manifest_counts(tmp_path: Path):
    folder = made(tmp_path, 3, b"three", "0123456789abcdef")
    content = (folder / MANIFEST).read_bytes()
    for bit in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        (folder / MANIFEST).write_bytes(flipped)
        assert not is_intact(folder), bytes(flipped)


def test_the_newest_intact_checkpoint_is_found(tmp_path: Path):
    made(tmp_path, 3, b"three")
    newest = made(tmp_path, 6, b"six")
    assert newest_valid(tmp_path) == newest / STATE
    assert (newest / STATE).read_bytes() == b"six"


@pytest.mark.parametrize("damage", ["bit", "truncated", "no manifest", "no state"])
def test_a_damaged_checkpoint_is_skipped(tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]):
    good = made(tmp_path, 3, b"three")
    bad = made(tmp_path, 6, b"six")
    if damage == "bit":
        (bad / STATE).write_bytes(b"siy")
    elif damage == "truncated":
        (bad / STATE).write_bytes(b"si")
    else:
        (bad / (MANIFEST if damage == "no manifest" else STATE)).unlink()
    assert newest_valid(tmp_path) == good / STATE
    assert "iteration_000006: incomplete or damaged" in capsys.readouterr().out


def test_a_failed_write_leaves_earlier_checkpoints_intact(tmp_path: Path):
    good = made(tmp_path, 3, b"three")

    def full_disk(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        write_checkpoint(tmp_path, 6, full_disk)
    assert newest_valid(tmp_path) == good / STATE
    made(tmp_path, 6, b"six")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["iteration_000003", "iteration_000006"]
