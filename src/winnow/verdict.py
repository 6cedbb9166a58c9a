"""What a check of an answer can come to."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """Only `correct` is a success; the four others are kept apart because they call for different repairs."""

    correct = "correct"
    wrong = "wrong"
    no_answer = "no_answer"  # no closed, non-empty \boxed{} in the response
    timeout = "timeout"  # the check ran past its hard limit and was killed
    crash = "crash"  # the check ended its process, or raised, twice


@dataclass(frozen=True)
class Judgement:
    """A verdict, the answer that was judged (None: there was none) and the seconds its check took.

    `seconds` is 0.0 for an answer that needed no worker: compared in-process, or known from the cache.
    """

    verdict: Verdict
    answer: str | None
    seconds: float = 0.0
