"""Pool of worker processes that can be killed: items are assigned in chunks, and each item has its own deadline."""

import json
import os
import pickle
import secrets
import signal
import subprocess
import sys
import threading
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from enum import StrEnum
from multiprocessing.connection import wait
from time import monotonic
from typing import IO, Any, NamedTuple, cast

from winnow import signals

CHUNK = 32  # items assigned to a worker at once; it answers them one by one, so only their delivery is shared
LOOK_SECONDS = 0.1  # between two looks for a signal that ends the program
START_SECONDS = 120.0  # a worker imports sympy, which takes 0.3 s, and many times that on an overloaded machine
GRACE_SECONDS = 0.5  # time beyond a question's timeout after which the parent kills a worker that the kernel did not

WROTE = "wrote to the worker's answers"
"""The reason of an item during which the worker wrote something that is no answer."""

_BOOT = (
    "import json, sys; path, settings = map(json.loads, sys.argv[1:]); sys.path[:] = path; "
    "from winnow.rewards.worker import serve; serve(**settings)"
)


class Failure(StrEnum):
    """The reason why an item has no answer; the third of them was tried twice."""

    RAISED = "raised"
    TIMEOUT = "timeout"
    CRASH = "crash"


class Reply(NamedTuple):
    """A worker's answer, a JSON value, and the seconds that it took; or why there is none."""

    value: Any
    seconds: float
    failure: Failure | None = None
    reason: str = ""


class StartError(RuntimeError):
    """A worker that ended before it was ready. `reason` is the last line of its exception, if there was one."""

    def __init__(self, what: str, code: int, reason: str) -> None:
        self.reason = reason or _ending(code)
        super().__init__(f"a {what} worker ended before it was ready: {self.reason}")


class Broken(Exception):
    """A worker's output is not what it answers: something else in its process writes to the pipe."""


class _Worker:
    """One process and the indices of its unanswered items, of which it is working on the first."""

    def __init__(self, settings: str) -> None:
        command = [sys.executable, "-c", _BOOT, json.dumps(sys.path), settings]
        # In a session of its own, so that Ctrl-C in the terminal reaches the trainer alone, which then decides.
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        self.stdin, self.stdout = cast(IO[bytes], self.process.stdin), cast(IO[bytes], self.process.stdout)
        self.assigned: deque[int] = deque()
        self.retry: list[int] = []  # the item that ended the process before this one, to be asked alone
        self.ready, self.overdue, self.broken, self.answered, self.partial, self.failed = (
            False,
            False,
            False,
            0,
            b"",
            "",
        )
        self.deadline = monotonic() + START_SECONDS
        self._token = secrets.token_hex(8).encode()
        with suppress(BrokenPipeError):
            self.stdin.write(self._token + b"\n")
            self.stdin.flush()

    def assign(self, indices: Sequence[int], items: Sequence[object], timeout: float) -> None:
        self.assigned.extend(indices)
        self.deadline = monotonic() + timeout + GRACE_SECONDS
        with suppress(BrokenPipeError):  # it has died, which its closed output will show
            pickle.dump([items[index] for index in indices], self.stdin, protocol=5)
            self.stdin.flush()

    def lines(self) -> list[bytes] | None:
        """The complete lines that have arrived; None at the end of its output, that is, when the process has ended."""
        data = os.read(self.stdout.fileno(), 1 << 16)
        *whole, self.partial = (self.partial + data).split(b"\n")
        return whole if data else None

    def began(self, line: bytes) -> None:
        """Read the line that says that it is ready, or why it cannot be.

        Raises:
            Broken: it is another line.
        """
        rest = self._after(self._token + b" ", line).decode(errors="replace")
        self.ready = rest == "ready"
        if not self.ready:
            self.failed = rest.removeprefix("failed ")

    def reply(self, line: bytes) -> Reply:
        """The reply to the item that it is working on.

        Raises:
            Broken: the line is none.
        """
        try:
            read = json.loads(self._after(self._prefix(), line))
        except (ValueError, RecursionError) as error:
            raise Broken from error
        match read:
            case [value, int() | float() as seconds, None | str() as error]:
                self.answered += 1
                return Reply(value, seconds, None if error is None else Failure.RAISED, error or "")
        raise Broken

    def check_partial(self) -> None:
        """Check the start of a line whose end has not arrived, which may never do.

        Raises:
            Broken: it is not the start of an answer.
        """
        expected = self._prefix() if self.ready else self._token
        self._after(expected[: len(self.partial)], self.partial)

    def _prefix(self) -> bytes:
        return b"%b %d " % (self._token, self.answered)

    def _after(self, prefix: bytes, line: bytes) -> bytes:
        if not line.startswith(prefix) or (line and self.ready and not self.assigned):
            raise Broken
        return line[len(prefix) :]

    def end(self) -> int:
        """Kill the process if it still runs, and all that it started, and return its exit code (negative: the signal
        that ended it)."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)  # of its session, which a process that it started is in
        self.process.kill()  # no effect on a process that has ended
        with suppress(BrokenPipeError):
            self.stdin.close()
        self.stdout.close()
        return self.process.wait()


def _end_all(workers: list[_Worker]) -> None:
    while workers:
        workers.pop().end()


class WorkerPool:
    """Up to `size` worker processes, started when there is something to ask and replaced when they die.

    An item that takes more than `timeout` seconds ends its worker but affects no other item: the rest of the chunk is
    assigned again. An item that ends its worker in another way is tried once more in a fresh process, because memory
    that earlier items filled may have been the cause. Any thread may ask; one round runs at a time. Workers end with
    the interpreter, with `close`, and with any exception that interrupts a round, because an answer that arrives late
    must not be taken for the answer to the next item.

    `answer`, `settings`, `memory_mb` and `quiet` are those of `worker.serve`; `what` names the workers in messages.
    """

    def __init__(
        self,
        size: int,
        timeout: float,
        memory_mb: int,
        answer: str,
        settings: Mapping[str, Any],
        quiet: bool = True,
        what: str = "verification",
    ) -> None:
        self.size, self.timeout, self.what = size, timeout, what
        self._settings = json.dumps(
            {"answer": answer, "settings": settings, "timeout": timeout, "memory_mb": memory_mb, "quiet": quiet}
        )
        self._workers: list[_Worker] = []
        self._closing = False
        self._lock = threading.RLock()
        self._finalizer = weakref.finalize(self, _end_all, self._workers)

    @property
    def pids(self) -> list[int]:
        return [worker.process.pid for worker in self._workers]

    def ask(self, items: Sequence[object]) -> list[Reply]:
        """One reply for each item, in their order."""
        with self._lock:
            try:
                return self._round(items)
            except BaseException:
                _end_all(self._workers)
                raise

    def close(self) -> None:
        """End all workers at once. A round in another thread is not waited for; it ends with a RuntimeError."""
        self._closing = True
        for worker in list(self._workers):
            worker.process.kill()
        with self._lock:
            _end_all(self._workers)
            self._closing = False

    def _round(self, items: Sequence[object]) -> list[Reply]:
        replies: dict[int, Reply] = {}
        pending = deque(range(len(items)))
        chunk = max(1, min(CHUNK, len(items) // (2 * self.size)))
        self._start_missing_workers(min(self.size, len(items)))
        while len(replies) < len(items):
            self._require_open()
            signals.check()
            for worker in self._workers:
                if worker.ready and not worker.assigned and (worker.retry or pending):
                    indices = worker.retry or [pending.popleft() for _ in range(min(chunk, len(pending)))]
                    worker.retry = []
                    worker.assign(indices, items, self.timeout)
            for worker, lines in self._wait_for_replies():
                if lines is not None:
                    try:
                        self._record(worker, lines, replies)
                    except Broken:
                        worker.broken = True
                if lines is None or worker.broken:
                    self._replace_worker(worker, replies, pending)
        return [replies[index] for index in range(len(items))]

    def _require_open(self) -> None:
        if self._closing:
            raise RuntimeError(f"the {self.what} workers were closed while they were asked")

    def _start_missing_workers(self, count: int) -> None:
        """Have at least `count` workers; one that was killed from outside between rounds is no item's fault."""
        for worker in [worker for worker in self._workers if worker.process.poll() is not None]:
            self._workers.remove(worker)
            worker.end()
        while len(self._workers) < count:
            self._workers.append(_Worker(self._settings))

    def _wait_for_replies(self) -> list[tuple[_Worker, list[bytes] | None]]:
        """Wait for a moment, or until a worker writes, dies or is overdue; the lines of each, None for the dead and the
        overdue."""
        busy = [worker for worker in self._workers if worker.assigned or not worker.ready]
        remaining = min(worker.deadline for worker in busy) - monotonic()
        readable = wait([worker.stdout.fileno() for worker in busy], min(LOOK_SECONDS, max(0.0, remaining)))
        received = [(worker, worker.lines()) for worker in busy if worker.stdout.fileno() in readable]
        for worker in busy:
            if worker.stdout.fileno() not in readable and worker.deadline < monotonic():
                worker.overdue = True
                received.append((worker, None))
        return received

    def _record(self, worker: _Worker, lines: list[bytes], replies: dict[int, Reply]) -> None:
        """Store the replies of a worker, whose first line says that it is ready, and set its next deadline.

        Raises:
            Broken: a line is no reply to an item that it was asked.
        """
        for line in lines:
            if worker.ready:
                reply = worker.reply(line)
                replies[worker.assigned.popleft()] = reply
            else:
                worker.began(line)
                if worker.failed:
                    return
        worker.check_partial()
        if lines:
            worker.deadline = monotonic() + self.timeout + GRACE_SECONDS

    def _replace_worker(self, worker: _Worker, replies: dict[int, Reply], pending: deque[int]) -> None:
        """Start a new worker in place of a dead or overdue one, and decide on the item that it was working on."""
        self._require_open()
        code = worker.end()
        if not worker.ready:
            slow = f"not ready after {START_SECONDS:g} s" if worker.overdue else ""
            raise StartError(self.what, code, worker.failed or (WROTE if worker.broken else slow))
        self._workers[self._workers.index(worker)] = successor = _Worker(self._settings)
        if not worker.assigned:  # it wrote something after its last answer
            return
        failed = worker.assigned.popleft()
        pending.extendleft(reversed(worker.assigned))
        if worker.overdue or code == -signal.SIGALRM:
            replies[failed] = Reply(None, self.timeout, Failure.TIMEOUT, f"took more than {self.timeout:g} s")
        elif worker.answered:
            successor.retry = [failed]
        else:
            reason = WROTE if worker.broken else f"its process ended ({_ending(code)})"
            replies[failed] = Reply(None, 0.0, Failure.CRASH, reason)


def _ending(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
