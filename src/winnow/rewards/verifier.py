r"""Verifier of responses, and a disk cache of the golds that it cannot read."""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import metadata
from threading import RLock
from types import TracebackType

from winnow.errors import ConfigError
from winnow.files import cache_directory, replace_text
from winnow.rewards.answers.text import last_boxed
from winnow.rewards.rules import MathVerify, Rule
from winnow.rewards.worker_pool import Failure, Reply, WorkerPool
from winnow.verdict import Judgement, Verdict

_MATH_VERIFY = MathVerify()
_READ: dict[str, dict[str, bool]] = {}
"""Whether a worker could read a gold, by the settings of the rule and the gold. The golds of a file are checked before
the run is assembled and again when it is, and no process asks about one twice."""


@dataclass
class Counts:
    """Numbers of answers judged in each way, which add up to the number of responses that held an answer."""

    settled: int = 0  # in-process, by text and plain numbers
    cached: int = 0
    isolated: int = 0  # by a worker


class Verifier:
    r"""Judges responses by the last `\boxed{…}` against a gold answer, by one rule, in processes that can be killed.

    The contract:
    - Only the box is judged. Without one the verdict is `no_answer`, whatever else the text says.
    - What the rule can settle by text and plain numbers is settled in this process, in microseconds, and so are answers
      that a guard refuses. A run whose answers are all numbers never starts a worker.
    - Everything else goes to a worker, once: equal (gold, answer) pairs share a verdict, and the last `cache_size` of
      them are kept, timeouts included.
    - A check that takes more than `timeout` seconds is killed, one that needs more than `memory_mb` of address space
      fails, and one that ends its process is tried once more in a fresh process. None of these affects the verdict on
      another answer.
    - This process uses no signals, and any thread may call. After Ctrl-C, `close`, the end of the interpreter or its
      death by SIGKILL, no worker outlives the question that it is working on.
    """

    def __init__(
        self,
        rule: Rule = _MATH_VERIFY,
        workers: int = 2,
        timeout: float = 2.0,
        memory_mb: int = 1024,
        cache_size: int = 65_536,
    ) -> None:
        if workers < 1 or timeout <= 0:
            raise ConfigError(
                f"reward.verifier: workers={workers} timeout={timeout} must be positive; type e.g. workers=2 timeout=2"
            )
        self.rule, self.counts = rule, Counts()
        settings = {"check": rule.check, "settings": rule.settings}
        self._pool = WorkerPool(workers, timeout, memory_mb, "winnow.rewards.check:check_of", settings)
        self._cache: OrderedDict[tuple[str, str], Judgement] = OrderedDict()
        self._cache_size = cache_size
        self._lock = RLock()

    @property
    def name(self) -> str:
        return self.rule.name

    @property
    def settings(self) -> dict[str, str | float | bool]:
        """The rule's name and settings, to be recorded with every figure that the verifier gave."""
        return {"name": self.rule.name, **self.rule.settings}

    def judge(self, golds: Sequence[str], responses: Sequence[str]) -> list[Judgement]:
        """One judgement for each response. Responses exclude the prompt, which might contain the answer."""
        return self.judge_answers(golds, [last_boxed(response) for response in responses])

    def judge_answers(self, golds: Sequence[str], answers: Sequence[str | None]) -> list[Judgement]:
        """One judgement for each answer that was already extracted; None or blank is `no_answer`."""
        with self._lock:
            return self._judge(golds, answers)

    def check_golds(self, golds: Sequence[str]) -> list[int]:
        """Indices of the golds that cannot be parsed, or not within the limits of time and memory."""
        known = {gold: self.rule.readable(gold) for gold in golds}
        doubtful = [gold for gold, readable in known.items() if readable is None]
        bad = {gold for gold, readable in known.items() if readable is False}
        bad |= cached_bad_golds(doubtful, self.settings, self._unreadable)
        return [index for index, gold in enumerate(golds) if gold in bad]

    def _unreadable(self, golds: Sequence[str]) -> tuple[list[str], bool]:
        """The golds that no worker could read, and whether that is final: none of them timed out or crashed."""
        known = _READ.setdefault(json.dumps(self.settings), {})
        asked = [gold for gold in golds if gold not in known]
        verdicts = [_verdict(reply) for reply in self._pool.ask([(gold, None) for gold in asked])] if asked else []
        read = {gold: verdict is Verdict.correct for gold, verdict in zip(asked, verdicts, strict=True)}
        unsettled = {
            gold for gold, verdict in zip(asked, verdicts, strict=True) if verdict in (Verdict.timeout, Verdict.crash)
        }
        known.update({gold: readable for gold, readable in read.items() if gold not in unsettled})
        found = known | read
        return [gold for gold in golds if not found[gold]], not unsettled

    def close(self) -> None:
        """End the workers. The verifier stays usable: the next question that needs a worker starts one."""
        self._pool.close()

    def __enter__(self) -> "Verifier":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _judge(self, golds: Sequence[str], answers: Sequence[str | None]) -> list[Judgement]:
        judged: list[Judgement | None] = []
        unknown: dict[tuple[str, str], list[int]] = {}
        for index, (gold, answer) in enumerate(zip(golds, answers, strict=True)):
            judged.append(self._known(gold, answer))
            if judged[-1] is None and answer is not None:
                unknown.setdefault((gold, answer), []).append(index)
        for pair, judgement in zip(unknown, self._ask(list(unknown)), strict=True):
            cached = self._remember(pair, judgement)
            first, *others = unknown[pair]
            judged[first] = judgement
            for index in others:
                judged[index] = cached
            self.counts.cached += len(others)
        return [judgement for judgement in judged if judgement is not None]

    def _known(self, gold: str, answer: str | None) -> Judgement | None:
        """The judgement of an answer that needs no worker; None if it needs one."""
        if answer is None or not answer.strip():
            return Judgement(Verdict.no_answer, None)
        if (cached := self._cache.get((gold, answer))) is not None:
            self._cache.move_to_end((gold, answer))
            self.counts.cached += 1
            return cached
        if (equal := self.rule.settle(gold, answer)) is None:
            return None
        self.counts.settled += 1
        return Judgement(Verdict.correct if equal else Verdict.wrong, answer)

    def _ask(self, pairs: list[tuple[str, str]]) -> list[Judgement]:
        self.counts.isolated += len(pairs)
        replies = self._pool.ask(pairs) if pairs else []
        return [
            Judgement(_verdict(reply), answer, reply.seconds) for (_, answer), reply in zip(pairs, replies, strict=True)
        ]

    def _remember(self, pair: tuple[str, str], judgement: Judgement) -> Judgement:
        """The judgement as the cache will return it from now on: the same verdict, with 0 seconds."""
        cached = self._cache[pair] = replace(judgement, seconds=0.0)
        while len(self._cache) > self._cache_size:
            self._cache.popitem(last=False)
        return cached


def _verdict(reply: Reply) -> Verdict:
    match reply.failure:
        case None:
            return Verdict.correct if reply.value else Verdict.wrong
        case Failure.TIMEOUT:
            return Verdict.timeout
        case Failure.RAISED | Failure.CRASH:
            return Verdict.crash


MIN_CACHED_GOLDS = 2000
"""The number of golds from which a cache file is worth having; fewer take seconds."""
READER_PACKAGES = ("winnow-rl", "math-verify", "latex2sympy2-extended", "sympy")


def cached_bad_golds(
    golds: Sequence[str],
    rule: Mapping[str, str | float | bool],
    unreadable: Callable[[Sequence[str]], tuple[list[str], bool]],
) -> set[str]:
    """The golds that `unreadable` returns, cached on disk by list of golds, rule, and versions of `READER_PACKAGES`.

    Without the cache every start would check them again, and 100,000 expressions take minutes. `unreadable` also says
    whether its result is final; a result that time ran out for is not cached, because the next one may differ. A cache
    that cannot be read or written is ignored.
    """
    if len(golds) < MIN_CACHED_GOLDS:
        return set(unreadable(golds)[0])
    versions = [f"{name} {metadata.version(name)}" for name in READER_PACKAGES]
    digest = hashlib.sha256(json.dumps([versions, dict(rule), list(golds)]).encode()).hexdigest()
    path = cache_directory() / "golds" / f"{digest[:32]}.json"
    with suppress(OSError, ValueError):
        return set(json.loads(path.read_text()))
    found, final = unreadable(golds)
    if final:
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_text(path, json.dumps(found))
    return set(found)
