"""Responses are judged while others are still being sampled."""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import NamedTuple

from winnow.rewards.pool import VerifierPool
from winnow.rewards.verdict import Judgement
from winnow.types import Completion, Prompt


class Heard(NamedTuple):
    """One prompt's samples, in order."""

    completions: tuple[Completion, ...]
    texts: tuple[str, ...]
    judgements: tuple[Judgement, ...]


class Hearing:
    """Judges in a thread beside: whatever has come in since it last looked goes to the verifier together.

    The verifier's own processes do the work; the thread waits for them.
    """

    def __init__(self, pool: VerifierPool, decode: Callable[[tuple[int, ...]], str], prompts: Sequence[Prompt]) -> None:
        self._pool, self._decode, self._prompts = pool, decode, prompts
        self._texts: dict[tuple[int, int], str] = {}
        self._judgements: dict[tuple[int, int], Judgement] = {}
        self._waiting: SimpleQueue[tuple[int, int]] = SimpleQueue()
        self._thread = ThreadPoolExecutor(1, "judge")
        self._rounds: deque[Future[None]] = deque()

    def done(self, prompt: int, sample: int, completion: Completion) -> None:
        """For `Engine.generate`."""
        while self._rounds and self._rounds[0].done():
            self._rounds.popleft().result()  # a verifier that fails is not sampled for to the end
        self._texts[prompt, sample] = self._decode(completion.token_ids)
        self._waiting.put((prompt, sample))
        self._rounds.append(self._thread.submit(self._judge))

    def groups(self, completions: Sequence[Sequence[Completion]]) -> list[Heard]:
        """Everything, once it is judged; what no one has told of is judged now."""
        for p, group in enumerate(completions):
            for g, completion in enumerate(group):
                if (p, g) not in self._texts:
                    self.done(p, g, completion)
        for judged in self._rounds:
            judged.result()
        return [
            Heard(
                tuple(group),
                tuple(self._texts[p, g] for g in range(len(group))),
                tuple(self._judgements[p, g] for g in range(len(group))),
            )
            for p, group in enumerate(completions)
        ]

    def _judge(self) -> None:
        names = _taken(self._waiting)
        if not names:  # an earlier look has taken them
            return
        golds = [self._prompts[p].answer for p, _ in names]
        found = self._pool.judge(golds, [self._texts[name] for name in names])
        self._judgements |= dict(zip(names, found, strict=True))

    def __enter__(self) -> "Hearing":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._thread.shutdown(wait=kind is None, cancel_futures=True)


def _taken(queue: SimpleQueue[tuple[int, int]]) -> list[tuple[int, int]]:
    taken = []
    while True:
        try:
            taken.append(queue.get_nowait())
        except Empty:
            return taken
