"""Disk that a run writes to: the room that it needs, rows that are appended whole, and files that it can do without."""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from winnow.errors import ConfigError
from winnow.files import FULL, disk_errno, json_text, replace_json

MARGIN_BYTES = 1 << 20
"""Room for everything that is small: rows, summary, configuration."""
MIN_INODES = 32
"""Files and folders that a run makes before its first checkpoint is written, and some more."""
MB = 1e6


@dataclass(frozen=True, slots=True)
class Room:
    """Free bytes of a file system, and how many files can be made there; None where it does not count them."""

    free: int
    inodes: int | None

    @classmethod
    def at(cls, directory: Path) -> "Room":
        """The room for this user at `directory`, which exists."""
        found = os.statvfs(directory)
        return cls(found.f_bavail * found.f_frsize, found.f_favail if found.f_files else None)


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes that a run writes: for one `checkpoint`, of which at most `checkpoints` are kept, and for an `export`."""

    checkpoint: int
    checkpoints: int
    export: int

    def require_room(self, directory: Path) -> list[str]:
        """Check that a first checkpoint fits, and that all folders can be written; return a warning if more does not.

        Raises:
            ConfigError: the run could not save anything.
        """
        for folder in (directory, *(directory / name for name in ("checkpoints", "samples"))):
            if folder.exists() and not os.access(folder, os.W_OK | os.X_OK):
                raise ConfigError(f"{folder}: cannot be written; make it writable, or choose another hydra.run.dir")
        saves = directory / "checkpoints"
        place = saves if saves.exists() else directory
        room = Room.at(place)
        advice = "make room, or choose another hydra.run.dir"
        if room.free < self.checkpoint + MARGIN_BYTES:
            raise ConfigError(
                f"{place}: {room.free / MB:,.0f} MB are free, and a checkpoint takes {self.checkpoint / MB:,.0f} MB; "
                f"{advice}"
            )
        if room.inodes is not None and room.inodes < MIN_INODES:
            raise ConfigError(f"{place}: {room.inodes} more files can be made there, too few for a run; {advice}")
        # One checkpoint more for a moment: the oldest goes after the newest is written.
        most = self.checkpoint * (self.checkpoints + 1) + self.export
        if room.free >= most + MARGIN_BYTES:
            return []
        return [
            f"note: {place} has {room.free / MB:,.0f} MB free; with {self.checkpoints} checkpoints and the exported "
            f"model the run may need {most / MB:,.0f} MB, and samples come on top"
        ]


@dataclass(eq=False)
class Spared:
    """Files that a run can do without: when the disk is full they are given up, which is said once.

    They are also given up while `reserve` bytes are not free, which checkpoints need.
    """

    what: str
    directory: Path
    say: Callable[[str], object]
    reserve: int = 0
    given_up: bool = field(default=False, init=False)

    def write(self, work: Callable[[], object]) -> None:
        """Have `work` write them, unless they are given up.

        Raises:
            OSError: they cannot be written for another reason than a full disk.
        """
        if self.given_up:
            return
        if self.reserve and Room.at(self.directory).free < self.reserve + MARGIN_BYTES:
            return self._give_up("the room that is left is for checkpoints")
        try:
            work()
        except OSError as error:
            if disk_errno(error) not in FULL:
                raise
            self._give_up(os.strerror(error.errno or 0))

    def _give_up(self, why: str) -> None:
        self.given_up = True
        self.say(f"{self.directory}: no more {self.what} ({why}); the run goes on without")


def replace_or_overwrite_json(path: Path, value: object) -> None:
    """Write `value` to `path` as `files.replace_json` does; where the disk is full, over what is there.

    A file of a few hundred bytes has a block of its own, in which there is room.
    """
    try:
        replace_json(path, value)
    except OSError as error:
        if disk_errno(error) not in FULL or not path.is_file():
            raise
        with path.open("r+b") as file:
            file.write(json_text(value).encode("utf-8", errors="backslashreplace"))
            file.truncate()


def append(path: Path, text: str) -> None:
    """Append lines to a file, all of them or, where the disk is full, nothing."""
    data = memoryview(text.encode())
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        before = os.fstat(descriptor).st_size
        try:
            while data:
                data = data[os.write(descriptor, data) :]
        except OSError:
            with suppress(OSError):
                os.ftruncate(descriptor, before)
            raise
    finally:
        os.close(descriptor)
