"""A file system of a test's own that can be filled, used up or turned read-only."""

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(directory: Path) -> Iterator["Disk"]:
    """Context with a disk below `directory`; the test is skipped where none can be mounted."""
    disk = Disk(directory / "image", directory / "disk")
    if os.getuid() != 0 or not disk.make():
        pytest.skip("needs the right to mount a file system")
    try:
        yield disk
    finally:
        disk.unmount()


def succeeds(command: list[str]) -> bool:
    return (
        shutil.which(command[0]) is not None
        and subprocess.run(command, check=False, capture_output=True).returncode == 0
    )


class Disk:
    """A mounted ext4 in a file, which the kernel turns read-only after an error, as it does a disk."""

    def __init__(self, image: Path, place: Path) -> None:
        self.image, self.place = image, place

    def make(self) -> bool:
        """Make and mount it; False where that is not possible."""
        self.place.mkdir()
        with self.image.open("wb") as file:
            file.truncate(64 << 20)
        return succeeds(["mkfs.ext4", "-q", "-N", "512", str(self.image)]) and self.mount()

    def mount(self) -> bool:
        return succeeds(["mount", "-o", "loop,errors=remount-ro", str(self.image), str(self.place)])

    def unmount(self) -> None:
        subprocess.run(["umount", self.place], check=True)

    def harm(self, how: str) -> None:
        match how:
            case "full":
                self._fill(1 << 16)
                self._fill(1)
            case "refused":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            case "inodes":
                self._use_up_inodes()
            case "read-only":
                device = f"loop{os.minor(self.place.stat().st_dev)}"
                Path(f"/sys/fs/ext4/{device}/trigger_fs_error").write_text("a test")

    def mend(self, how: str) -> None:
        if how == "read-only":
            self.unmount()
            subprocess.run(["e2fsck", "-fy", self.image], check=False, capture_output=True)
            assert self.mount()
        for path in self.place.glob("fill*"):
            path.unlink()

    def _fill(self, size: int) -> None:
        try:
            with (self.place / f"fill{size}").open("wb", buffering=0) as file:
                while file.write(b"x" * size):
                    pass
        except OSError:
            return

    def _use_up_inodes(self) -> None:
        for number in range(1000):
            try:
                (self.place / f"fill{number}").touch()
            except OSError:
                return
