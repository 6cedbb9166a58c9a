"""Worker processes, and how questions are dealt to them: in chunks, with one deadline a question."""

import json
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import wait
from time import monotonic
from typing import IO, NamedTuple, cast

from winnow.verdict import Verdict

Question = tuple[str, str | None]  # gold, answer (None: can the gold be read?)

CHUNK = 32  # questions a worker holds at once; it answers one by one, so that a chunk shares nothing but its delivery
START_SECONDS = 120.0  # a worker imports sympy: 0.3 s alone, many times that on a machine that is overbooked
GRACE_SECONDS = 0.5  # what a question may take beyond its timeout before the parent kills, where the kernel did not

_BOOT = (
    "import json, sys; path, settings = map(json.loads, sys.argv[1:]); sys.path[:] = path; "
    "from winnow.rewards.worker import serve; serve(**settings)"
)


class Reply(NamedTuple):
    verdict: Verdict
    seconds: float


class _Worker:
    """One process and its hand: the questions it was dealt and has not answered, the one it works on first."""

    def __init__(self, settings: str) -> None:
        command = [sys.executable, "-c", _BOOT, json.dumps(sys.path), settings]
        # A session of its own: Ctrl-C in the terminal reaches the trainer, which then decides.
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        self.stdin, self.stdout = cast(IO[bytes], self.process.stdin), cast(IO[bytes], self.process.stdout)
        self.hand: deque[int] = deque()
        self.reserved: list[int] = []  # the question that ended its predecessor, to be asked alone
        self.ready, self.overdue, self.answered, self.partial = False, False, 0, b""
        self.deadline = monotonic() + START_SECONDS

    def deal(self, hand: Sequence[int], questions: Sequence[Question], timeout: float) -> None:
        self.hand.extend(hand)
        self.deadline = monotonic() + timeout + GRACE_SECONDS
        with suppress(BrokenPipeError):  # it died: its closed output will say so
            self.stdin.write(json.dumps([questions[index] for index in hand]).encode() + b"\n")
            self.stdin.flush()

    def lines(self) -> list[str] | None:
        """The lines that have arrived, whole; None at the end of its output, which is its death."""
        data = os.read(self.stdout.fileno(), 1 << 16)
        *whole, self.partial = (self.partial + data).split(b"\n")
        return [line.decode() for line in whole] if data else None

    def end(self) -> int:
        """Kills what is left of it; its exit code (negative: the signal it died of)."""
        self.process.kill()  # no effect on a process that has ended
        with suppress(BrokenPipeError):
            self.stdin.close()
        self.stdout.close()
        return self.process.wait()


def _end_all(workers: list[_Worker]) -> None:
    while workers:
        workers.pop().end()


class WorkerPool:
    """Up to `size` workers, started when there is something to ask and replaced when they die.

    A question that outlives `timeout` seconds kills its worker and no other question: the rest of the chunk goes back to the
    pile. One that ends its worker in another way is asked once more in a fresh process, lest it pay for memory that its
    predecessors filled. Any thread may ask; one round runs at a time. Workers die with the interpreter, with `close`, and with
    whatever interrupts a round (an answer that arrives late must not meet the next question).
    """

    def __init__(
        self, size: int, timeout: float, memory_mb: int, check: str, settings: Mapping[str, str | float | bool]
    ) -> None:
        self.size, self.timeout, self.replaced = size, timeout, 0
        self._settings = json.dumps(
            {"check": check, "settings": dict(settings), "timeout": timeout, "memory_mb": memory_mb}
        )
        self._workers: list[_Worker] = []
        self._closing = False
        self._lock = threading.RLock()
        self._finalizer = weakref.finalize(self, _end_all, self._workers)

    @property
    def pids(self) -> list[int]:
        return [worker.process.pid for worker in self._workers]

    def ask(self, questions: Sequence[Question]) -> list[Reply]:
        with self._lock:
            try:
                return self._round(questions)
            except BaseException:
                _end_all(self._workers)
                raise

    def close(self) -> None:
        """At once: a round that is going on in another thread ends, with an error, instead of being waited for."""
        self._closing = True
        for worker in list(self._workers):
            worker.process.kill()
        with self._lock:
            _end_all(self._workers)
            self._closing = False

    def _round(self, questions: Sequence[Question]) -> list[Reply]:
        replies: dict[int, Reply] = {}
        pile = deque(range(len(questions)))
        chunk = max(1, min(CHUNK, len(questions) // (2 * self.size)))
        self._muster(min(self.size, len(questions)))
        while len(replies) < len(questions):
            self._require_open()
            for worker in self._workers:
                if worker.ready and not worker.hand and (worker.reserved or pile):
                    hand = worker.reserved or [pile.popleft() for _ in range(min(chunk, len(pile)))]
                    worker.reserved = []
                    worker.deal(hand, questions, self.timeout)
            for worker, lines in self._heard():
                if lines is None:
                    self._succeed(worker, questions, replies, pile)
                else:
                    self._note(worker, lines, replies)
        return [replies[index] for index in range(len(questions))]

    def _require_open(self) -> None:
        if self._closing:
            raise RuntimeError("the answer-checking processes were closed while they were asked")

    def _muster(self, count: int) -> None:
        """Between rounds a worker may have been killed from outside; that is nobody's crash."""
        for worker in [worker for worker in self._workers if worker.process.poll() is not None]:
            self._workers.remove(worker)
            worker.end()
        while len(self._workers) < count:
            self._workers.append(_Worker(self._settings))

    def _heard(self) -> list[tuple[_Worker, list[str] | None]]:
        """Blocks until a worker speaks, dies or is overdue; what each has said, None for the dead and the overdue."""
        busy = [worker for worker in self._workers if worker.hand or not worker.ready]
        patience = min(worker.deadline for worker in busy) - monotonic()
        speaking = wait([worker.stdout.fileno() for worker in busy], max(0.0, patience))
        heard = [(worker, worker.lines()) for worker in busy if worker.stdout.fileno() in speaking]
        for worker in busy:
            if worker.stdout.fileno() not in speaking and worker.deadline < monotonic():
                worker.overdue = True
                heard.append((worker, None))
        return heard

    def _note(self, worker: _Worker, lines: list[str], replies: dict[int, Reply]) -> None:
        for line in lines:
            if worker.ready:
                verdict, seconds = line.split()
                replies[worker.hand.popleft()] = Reply(Verdict(verdict), float(seconds))
                worker.answered += 1
            worker.ready = True
        worker.deadline = monotonic() + self.timeout + GRACE_SECONDS

    def _succeed(
        self, worker: _Worker, questions: Sequence[Question], replies: dict[int, Reply], pile: deque[int]
    ) -> None:
        """Puts a new worker in the place of a dead or overdue one, and settles what the question in hand has come to."""
        self._require_open()
        code = worker.end()
        if not worker.ready:
            raise RuntimeError(f"an answer-checking process ended before it was ready (exit code {code}); see above")
        self._workers[self._workers.index(worker)] = successor = _Worker(self._settings)
        self.replaced += 1
        culprit = worker.hand.popleft()
        pile.extendleft(reversed(worker.hand))
        if worker.overdue or code == -signal.SIGALRM:
            replies[culprit] = Reply(Verdict.timeout, self.timeout)
        elif worker.answered:
            successor.reserved = [culprit]
        else:
            replies[culprit] = Reply(Verdict.crash, 0.0)
