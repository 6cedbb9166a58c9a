"""Verdicts that are written down beforehand, so that a benchmark knows which rows will be kept."""

from collections import Counter
from collections.abc import Sequence

from winnow.rewards.rules import Exact, Rule
from winnow.rewards.verifier import Verifier
from winnow.verdict import Judgement, Verdict

_EXACT = Exact()


class ScriptedVerdicts(Verifier):
    """Reads the verdicts off the gold: of the responses to a problem with gold `17 1100` the first two are right, whatever they
    say. They are counted as they come, over all calls: the fifth is the first of the next four.
    """

    def __init__(self, rule: Rule = _EXACT) -> None:
        super().__init__(rule)
        self._seen: Counter[str] = Counter()

    def judge(self, golds: Sequence[str], responses: Sequence[str]) -> list[Judgement]:
        return [self._next(gold) for gold in golds]

    def _next(self, gold: str) -> Judgement:
        pattern = gold.split()[-1]
        place, self._seen[gold] = self._seen[gold], self._seen[gold] + 1
        return Judgement(Verdict.correct if pattern[place % len(pattern)] == "1" else Verdict.wrong, None)
