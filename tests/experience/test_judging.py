"""Responses are judged while others are still being sampled, and the result does not depend on the order."""

import threading
from collections.abc import Sequence

import pytest
import torch

from winnow.experience.collect import AsyncJudging
from winnow.rewards.verifier import Verifier
from winnow.types import Completion, Finish, Prompt
from winnow.verdict import Judgement, Verdict

PROMPTS = [Prompt("a", (1,), "a?", "7"), Prompt("b", (2,), "b?", "3")]
GROUPS = [[Completion((t,), torch.zeros(1), torch.zeros(1), Finish.EOS) for t in (7, 3)] for _ in PROMPTS]


class Pool(Verifier):
    """A verifier that compares text and gold, and waits for `open` before it answers."""

    def __init__(self) -> None:
        super().__init__()
        self.open, self.asked = threading.Event(), []

    def judge(self, golds: Sequence[str], texts: Sequence[str]) -> list[Judgement]:
        self.asked.append(list(texts))
        assert self.open.wait(10)
        return [Judgement(Verdict.correct if g == t else Verdict.wrong, t) for g, t in zip(golds, texts, strict=True)]


def judging_by(pool: Pool) -> AsyncJudging:
    return AsyncJudging(pool, lambda ids: str(ids[0]), PROMPTS)


def test_a_response_is_judged_before_the_others_have_ended() -> None:
    pool = Pool()
    pool.open.set()
    with judging_by(pool) as judging:
        judging.on_completion(1, 1, GROUPS[1][1])
        for _ in range(1000):
            if pool.asked:
                break
            threading.Event().wait(0.01)
        assert pool.asked == [["3"]]  # three are not reported yet
        found = judging.groups(GROUPS)
    assert [[j.verdict for j in group.judgements] for group in found] == [
        [Verdict.correct, Verdict.wrong],
        [Verdict.wrong, Verdict.correct],
    ]
    assert found[0].texts == ("7", "3")
    assert found[1].completions == tuple(GROUPS[1])
    assert sorted(text for texts in pool.asked for text in texts) == ["3", "3", "7", "7"]  # each once


def test_responses_that_end_while_the_verifier_is_busy_are_judged_together() -> None:
    pool = Pool()
    with judging_by(pool) as judging:
        judging.on_completion(0, 0, GROUPS[0][0])
        while not pool.asked:
            threading.Event().wait(0.01)
        for p, g in ((0, 1), (1, 0), (1, 1)):
            judging.on_completion(p, g, GROUPS[p][g])
        pool.open.set()
        judging.groups(GROUPS)
    assert [len(texts) for texts in pool.asked if texts] == [1, 3]


def test_an_error_of_the_verifier_is_raised() -> None:
    class Broken(Pool):
        def judge(self, golds: Sequence[str], texts: Sequence[str]) -> list[Judgement]:
            raise RuntimeError("no worker starts")

    with judging_by(Broken()) as judging, pytest.raises(RuntimeError, match="no worker starts"):
        judging.groups(GROUPS)
