"""Lock of a directory, so that one process at a time writes there: the file `.lock`, held until the process ends.

The lock is `flock(2)`, which the kernel gives up with the process, however that dies, and which Linux passes on to the
server of an NFS mount. Some network file systems refuse flock and some grant it to every host, so that the file also
names its holder (host, boot, process, start), who renews the file's time stamp every `BEAT_SECONDS`. A lock that flock
gives away although the file still names a holder is

- taken over if the holder was a process of this boot that no longer runs;
- refused if that process still runs;
- watched for `WATCH_SECONDS` if the holder was on another machine: refused if the time stamp moves, else taken over.

One case remains: where flock does nothing, two hosts that take over an abandoned lock in the same second both get it.
"""

import errno
import fcntl
import json
import os
import platform
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

LOCK = ".lock"
BEAT_SECONDS, WATCH_SECONDS = 10.0, 30.0
SURELY_DEAD_SECONDS = 3600.0
"""Age of a time stamp after which its holder is not watched any more; far above the difference of two hosts' clocks."""
MOST_BYTES = 4096
TRIES, TRY_SECONDS = 10, 0.1  # a process that only looks at a lock holds it for a moment itself
UNSUPPORTED = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL, errno.EBADF)
"""Errors with which file systems say that they have no flock."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A process by its host, machine, number and start. `machine` is the boot and the namespace of process numbers."""

    host: str
    machine: str
    pid: int
    started: int
    since: str

    @classmethod
    def here(cls) -> "Holder":
        """This process."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(platform.node(), _machine(), os.getpid(), _started(os.getpid()) or 0, now)

    def runs(self) -> bool | None:
        """Whether the process still runs; None where it belongs to another machine, so that nobody here can know."""
        return _started(self.pid) == self.started if self.machine == _machine() else None

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"


class Held(Exception):
    """The lock is another process's: `holder`, or None where its file does not say whose."""

    def __init__(self, holder: Holder | None) -> None:
        super().__init__(f"held by {holder or 'another process'}")
        self.holder = holder


class DirectoryLock:
    """Lock of `directory`, which has to exist; a context that holds it.

    A file that a killed process left is put back as it was if the context is left by an error, so that a process that
    is refused after all changes nothing. A child process that inherits `descriptor` holds the lock too. `say` gets a
    line before a wait.

    Raises:
        Held: another process holds it.
        OSError: the directory cannot be written.
    """

    def __init__(self, directory: Path, say: Callable[[str], object] = print) -> None:
        self.path, self.say = directory / LOCK, say
        self.descriptor = -1
        self._left = b""
        self._released = threading.Event()

    def __enter__(self) -> "DirectoryLock":
        self.descriptor, is_new = _opened(self.path)
        try:
            if not is_new:
                self._refuse_living_holder()
                self._left = os.pread(self.descriptor, MOST_BYTES, 0)
            self._write(json.dumps(asdict(Holder.here())).encode())
        except BaseException:
            if is_new:
                self.path.unlink(missing_ok=True)
            os.close(self.descriptor)
            raise
        threading.Thread(target=self._beat, daemon=True, name="directory lock").start()
        return self

    def _write(self, content: bytes) -> None:
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, content, 0)
        os.fsync(self.descriptor)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._released.set()
        if _is_at(self.descriptor, self.path):
            if error is not None and self._left:
                self._write(self._left)
            else:
                self.path.unlink()
        os.close(self.descriptor)

    def _beat(self) -> None:
        while not self._released.wait(BEAT_SECONDS):
            with suppress(OSError):  # the lock was released just now, or the server does not answer at the moment
                os.utime(self.descriptor)

    def _refuse_living_holder(self) -> None:
        holder = _read_holder(self.descriptor)
        runs = holder.runs() if holder is not None else False
        if runs or (runs is None and self._moves(holder)):
            raise Held(holder)

    def _moves(self, holder: Holder | None) -> bool:
        """Whether a holder on another machine renews the time stamp while it is watched."""
        before = _time_stamp(self.path)
        if time.time() - before > SURELY_DEAD_SECONDS:
            return False
        self.say(f"{self.path} was left by {holder}; watching it for {WATCH_SECONDS:.0f} s")
        end = time.monotonic() + WATCH_SECONDS
        while time.monotonic() < end:
            time.sleep(min(1.0, WATCH_SECONDS / 10))
            if _time_stamp(self.path) != before:
                return True
        return False


def holder_of(directory: Path) -> Holder | None:
    """The process that holds the lock of `directory`, None if none does. Nothing is written, and nothing waited for.

    A holder on another machine counts if its time stamp is not older than `WATCH_SECONDS`.
    """
    try:
        descriptor = os.open(directory / LOCK, os.O_RDONLY)
    except OSError:
        return None
    try:
        holder = _read_holder(descriptor)
        if not _flock(descriptor, fcntl.LOCK_SH):
            return holder or Holder("an unknown host", "", 0, 0, "an unknown time")
        if holder is None:
            return None
        runs = holder.runs()
        fresh = time.time() - os.fstat(descriptor).st_mtime < WATCH_SECONDS
        return holder if runs or (runs is None and fresh) else None
    finally:
        os.close(descriptor)


def _opened(path: Path) -> tuple[int, bool]:
    """A descriptor of the lock file that has its flock, and whether the file is new, or else empty."""
    holder = None
    for _ in range(TRIES):
        try:
            descriptor, is_new = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644), True
        except FileExistsError:
            try:
                descriptor, is_new = os.open(path, os.O_RDWR), False
            except FileNotFoundError:  # its holder ended just now
                continue
        if _flock(descriptor, fcntl.LOCK_EX) and _is_at(descriptor, path):
            return descriptor, is_new or os.fstat(descriptor).st_size == 0
        holder = _read_holder(descriptor)
        os.close(descriptor)
        if holder is not None and holder.pid == os.getpid() and holder.runs():
            break  # this process itself, which does not wait for itself
        time.sleep(TRY_SECONDS)
    raise Held(holder)


def _flock(descriptor: int, kind: int) -> bool:
    """Whether the flock was granted, or the file system has none, so that the file's contents alone decide."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file still has the name `path`: the holder before may have removed it in between."""
    try:
        at, mine = os.stat(path), os.fstat(descriptor)
    except FileNotFoundError:
        return False
    return (at.st_ino, at.st_dev) == (mine.st_ino, mine.st_dev)


def _read_holder(descriptor: int) -> Holder | None:
    try:
        return Holder(**json.loads(os.pread(descriptor, MOST_BYTES, 0)))
    except (ValueError, TypeError):
        return None


def _time_stamp(path: Path) -> float:
    """The time stamp as the server has it: NFS asks for attributes anew when a file is opened."""
    try:
        with path.open("rb") as file:
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return 0.0


def _machine() -> str:
    """The boot of this machine, with the namespace in which process numbers are valid; the host name without /proc."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return platform.node()


def _started(pid: int) -> int | None:
    """When the process started, in clock ticks since the boot; 0 without /proc, None if there is no such process.

    Together with its number it identifies a process: numbers are used again.
    """
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if after_name[0] == "Z" else int(after_name[19])
    except FileNotFoundError:
        if Path("/proc/self").exists():
            return None
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return 0
    return None
