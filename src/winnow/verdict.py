"""Verdicts of the verifier: what the check of one answer can result in."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """The result of one check. Only `correct` is a success; the other four call for different repairs."""

    correct = "correct"
    wrong = "wrong"
    no_answer = "no_answer"  # the response has no closed, non-empty \boxed{}
    timeout = "timeout"  # the check ran past its hard limit and was killed
    crash = "crash"  # the check ended its process or raised, twice


@dataclass(frozen=True)
class Judgement:
    """A verdict, the answer that was judged (None if there was none) and the seconds that its check took.

    `seconds` is 0.0 where no worker process was needed: the answer was compared in this process or found in the cache.
    """

    verdict: Verdict
    answer: str | None
    seconds: float = 0.0
