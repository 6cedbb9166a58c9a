"""Dumps of faults: what is written is read again, and nothing else is."""

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from winnow.errors import ConfigError
from winnow.experience.left_out import Site
from winnow.guards.fault_file import MAX_FAULTS, Fault, FaultFiles, FaultRow, read_dump

ROW = FaultRow((3, 4, 5), 1, {"reward": torch.tensor(1.0), "logprobs": torch.tensor([0.0, -1.0, torch.nan])})
FAULT = Fault(Site.LOGPROB, 12, (ROW,), denominator=4.0, tensors={"w": torch.tensor([torch.inf])})


def files(directory: Path, weights_mb: float = 1.0, checkpoint: Path | None = None) -> FaultFiles:
    return FaultFiles(directory, "run", {"seed": 0}, weights_mb, lambda: checkpoint)


def test_what_is_written_is_read_again(tmp_path: Path):
    module = nn.Linear(2, 2)
    path = files(tmp_path, checkpoint=tmp_path / "checkpoints" / "iteration_000010").write(FAULT, module)
    assert path is not None
    assert path == tmp_path / "faults" / "iteration_000012.pt"
    dump = read_dump(path)
    assert (dump.fault.site, dump.fault.iteration, dump.fault.denominator) == (Site.LOGPROB, 12, 4.0)
    [row] = dump.fault.rows
    assert (row.token_ids, row.prompt_length) == ((3, 4, 5), 1)
    assert torch.equal(row.numbers["logprobs"].isnan(), torch.tensor([False, False, True]))
    assert torch.equal(dump.weights["weight"], module.weight)
    assert dump.checkpoint == "checkpoints/iteration_000010"
    assert dump.config == {"seed": 0}


def test_weights_above_the_limit_are_left_to_the_checkpoint(tmp_path: Path):
    """Six float32 numbers are 24 bytes."""
    kept, left = (files(tmp_path, weights_mb=size).write(FAULT, nn.Linear(2, 2)) for size in (24e-6, 23e-6))
    assert kept is not None
    assert left is not None
    assert read_dump(kept).weights
    assert not read_dump(left).weights


def test_a_run_keeps_the_first_dumps_only(tmp_path: Path):
    written = [files(tmp_path).write(FAULT, nn.Linear(2, 2)) for _ in range(MAX_FAULTS + 2)]
    assert len({path for path in written if path}) == len([*(tmp_path / "faults").iterdir()]) == MAX_FAULTS
    assert written[MAX_FAULTS:] == [None, None]


def test_a_directory_that_cannot_be_written_costs_no_more_than_the_dump(tmp_path: Path):
    (tmp_path / "faults").write_text("a file in the way")
    assert files(tmp_path).write(FAULT, nn.Linear(2, 2)) is None


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("hacked",)


def cut(path: Path) -> bytes:
    written = files(path.parent / "run").write(FAULT, nn.Linear(2, 2))
    assert written is not None
    return written.read_bytes()[:-200]


BAD = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("no dump"),
    "cut": lambda path: path.write_bytes(cut(path)),
    "pickle": lambda path: torch.save({"format": 1, "rows": Malicious()}, path),
    "list": lambda path: torch.save([1, 2], path),
    "number": lambda path: torch.save(torch.ones(1), path),
    "other keys": lambda path: torch.save({"format": 1}, path),
    "other version": lambda path: torch.save({"format": 2}, path),
    "directory": lambda path: path.mkdir(),
    "absent": lambda path: None,
}


@pytest.mark.parametrize("kind", BAD)
def test_a_file_that_is_no_dump_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str):
    monkeypatch.chdir(tmp_path)
    BAD[kind](tmp_path / "dump.pt")
    with pytest.raises(ConfigError, match=r"dump\.pt"):
        read_dump(tmp_path / "dump.pt")
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [("site", "nowhere"), ("rows", [{"token_ids": [1], "prompt_length": 1, "numbers": {}}]), ("config", "[]")],
)
def test_a_dump_with_a_part_that_cannot_be_is_refused(tmp_path: Path, key: str, value: object):
    path = files(tmp_path).write(FAULT, nn.Linear(2, 2))
    assert path is not None
    content = torch.load(path, weights_only=True)
    torch.save(content | {key: value}, path)
    with pytest.raises(ConfigError):
        read_dump(path)
