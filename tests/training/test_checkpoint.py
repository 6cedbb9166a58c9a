"""Checkpoint folders: atomic writes, and detection of damage."""

from pathlib import Path

import pytest

from winnow.training.checkpoint import MANIFEST, STATE, newest_valid, write_checkpoint


def made(directory: Path, iteration: int, content: bytes) -> Path:
    return write_checkpoint(directory, iteration, lambda path: path.write_bytes(content))


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
