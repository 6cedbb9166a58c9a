"""Stand-ins for the verifier and the engine of a measured run, named as `_target_` in the overrides of `workload`.

They make the amount of work known beforehand: which rows are kept, and how long each completion is.
"""

from collections import Counter
from collections.abc import Sequence
from functools import wraps

from winnow.engines.torch_engine import TorchEngine
from winnow.rewards.rules import Exact, Rule
from winnow.rewards.verifier import Verifier
from winnow.verdict import Judgement, Verdict

_EXACT = Exact()


class ScriptedVerdicts(Verifier):
    """Verifier that reads its verdicts off the gold and ignores the completion.

    With the gold `17 1100`, the first two of every four completions of the problem are correct. Completions are counted
    over all calls: the fifth is the first of the next four.
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


@wraps(TorchEngine)  # the check of a configuration reads the accepted settings off this signature
def no_eos_engine(eos_ids: Sequence[int], **settings: int | None) -> TorchEngine:
    """The torch engine without an end-of-sequence token, so that every completion has `rollout.max_tokens` tokens."""
    return TorchEngine((), **settings)  # pyright: ignore[reportArgumentType]
