"""A directory that someone deletes or moves while it is written to is a failure of the disk, in one line."""

from pathlib import Path

import pytest

from winnow.errors import DiskFailure
from winnow.files import DiskErrors


def test_a_directory_that_is_gone_is_named(tmp_path: Path):
    gone = tmp_path / "run"
    with pytest.raises(DiskFailure, match=r"run: deleted or moved"), DiskErrors(gone, lambda: "make room"):
        (gone / "metrics.jsonl").write_text("{}")


def test_a_file_that_is_missing_elsewhere_is_not_the_disks_failure(tmp_path: Path):
    with pytest.raises(FileNotFoundError), DiskErrors(tmp_path, lambda: "make room"):
        Path("/nowhere/file").read_text()
