"""Held-out metrics of two prompts with four answers each: three and none are right, then one and none."""

from types import SimpleNamespace

import pytest

from fakes import Asked, Drawn, rollouts
from winnow.evaluation.sets import HeldOutEvaluator, prompt_set_name
from winnow.run_logs.run_files import EvaluationCounts
from winnow.types import Rollouts


def answered(right: int) -> Rollouts:
    return rollouts([Asked((11,), tuple(Drawn((4, 2), i < n) for i in range(4))) for n in (right, 0)])


def evaluator(**sets: Rollouts) -> HeldOutEvaluator:
    """An evaluator that samples nothing: the prompts of a set are its rollouts."""
    asking = SimpleNamespace(engine=None, rollouts=lambda model, version, prompts, judge: prompts)
    named = [SimpleNamespace(name=name, prompts=found, judge=None) for name, found in sets.items()]
    return HeldOutEvaluator(named, None, asking)  # pyright: ignore[reportArgumentType]


def test_pass_at_every_power_of_two():
    """Of the 6 pairs of 4 answers all have a right one if 3 are right, and 3 if 1 is; the other prompt has none."""
    figures = evaluator(three=answered(3), one=answered(1)).evaluate(5).figures
    found = {key: value for key, value in figures.items() if "pass@" in key}
    assert found == pytest.approx(
        {
            "eval/three/pass@1": 3 / 8,
            "eval/three/pass@2": 1 / 2,
            "eval/three/pass@4": 1 / 2,
            "eval/one/pass@1": 1 / 8,
            "eval/one/pass@2": 1 / 4,
            "eval/one/pass@4": 1 / 2,
        }
    )
    assert figures["eval/average/acc"] == pytest.approx(1 / 4)


def test_counts_of_each_prompt():
    three, one = answered(3), answered(1)
    name = prompt_set_name(three.prompts)
    assert evaluator(three=three, one=one).evaluate(5).counts == [
        EvaluationCounts(5, "three", 4, name, (3, 0)),
        EvaluationCounts(5, "one", 4, name, (1, 0)),
    ]
    assert len(name) == 12
    assert prompt_set_name(three.prompts[::-1]) != name
