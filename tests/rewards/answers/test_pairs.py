"""Pairs of answers that are equal, and near misses that are not, as a table by kind."""

from collections import defaultdict
from pathlib import Path

import pytest

from winnow.rewards.verifier import Verifier
from winnow.verdict import Verdict

Pair = tuple[str, str, bool]


def _pairs_by_kind() -> dict[str, list[Pair]]:
    pairs, kind = defaultdict[str, list[Pair]](list), ""
    for line in (Path(__file__).parent / "pairs.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            kind = line.removeprefix("## ")
        elif line and not line.startswith("#"):
            gold, sign, answer = line.partition(" ≡ " if " ≡ " in line else " ≢ ")
            pairs[kind].append((gold, answer, sign == " ≡ "))
    return pairs


PAIRS = _pairs_by_kind()


@pytest.mark.parametrize("kind", PAIRS)
def test_equal_answers_are_accepted_and_near_misses_refused(kind: str, verifier: Verifier) -> None:
    pairs = PAIRS[kind]
    judged = verifier.judge_answers([gold for gold, _, _ in pairs], [answer for _, answer, _ in pairs])
    wrong = [
        (gold, answer, str(judgement.verdict))
        for (gold, answer, equal), judgement in zip(pairs, judged, strict=True)
        if judgement.verdict is not (Verdict.correct if equal else Verdict.wrong)
    ]
    assert wrong == []
