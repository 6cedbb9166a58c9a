"""Collectors: which prompts and samples an iteration draws, and which of them it trains on, counted by hand."""

from collections.abc import Mapping, Sequence

import pytest
import torch

from winnow.experience.collectors import Adaptive, Budgets, Fixed, Refill, balanced, divided
from winnow.experience.drawing import Drawing, GradientNorms, Judged
from winnow.rewards.reward import JudgedGroup, Rewards
from winnow.rng import seed_of
from winnow.types import Completion, Finish, Prompt, Rewarded
from winnow.verdict import Judgement, Verdict

Task = Mapping[str, str]
"""For each prompt the verdicts on its samples in order: `+` correct, `-` wrong."""


def drawing(
    task: Task, prompts: int, samples: int, seen: list | None = None, norms: GradientNorms = lambda *_: []
) -> Drawing:
    """A drawing whose prompts are the keys of `task` in order, and whose samples have its verdicts."""
    asked = [Prompt(key, (1,), key, "") for key in task]
    number = {
        seed_of(7, "sample", 3, key, g): (key, g, verdict) for key, row in task.items() for g, verdict in enumerate(row)
    }

    def draw(some: Sequence[Prompt], seeds: Sequence[Sequence[int]]) -> Judged:
        groups, rewarded = [], []
        for prompt, of_prompt in zip(some, seeds, strict=True):
            drawn = [number[seed] for seed in of_prompt]
            assert {key for key, _, _ in drawn} == {prompt.key}
            if seen is not None:
                seen.append((prompt.key, [g for _, g, _ in drawn]))
            judged = tuple(Judgement(Verdict.correct if v == "+" else Verdict.wrong, "") for *_, v in drawn)
            done = tuple(Completion((g,), torch.zeros(1), torch.ones(1), Finish.EOS) for _, g, _ in drawn)
            groups.append(JudgedGroup(done, tuple(f"{key}{g}" for key, g, _ in drawn), judged))
            rewarded.append(tuple(Rewarded(1.0 if j.verdict is Verdict.correct else -1.0, j) for j in judged))
        return Judged(some, groups, Rewards(rewarded), 3)

    return Drawing(prompts, samples, lambda first, end: asked[first:end], draw, norms, 7, 3)


def test_a_fixed_collector_draws_what_it_is_told_and_keeps_it():
    found = Fixed()(drawing({"a": "+-", "b": "--", "c": "++"}, prompts=2, samples=2))
    assert [prompt.key for prompt in found.prompts] == ["a", "b"]
    assert found.rewards.tolist() == [[1, -1], [-1, -1]]
    assert found.chosen is None
    assert found.kept.all()


def test_refill_draws_until_enough_prompts_are_mixed_and_keeps_the_first():
    """Rounds of two: a is mixed; c is; e and f are, of which only e is needed. g is never met."""
    seen: list = []
    task = {"a": "+-", "b": "--", "c": "-+", "d": "++", "e": "+-", "f": "-+", "g": "+-"}
    found = Refill(rounds=9, prompts=2, patience=None)(drawing(task, prompts=3, samples=2, seen=seen))
    assert [key for key, _ in seen] == ["a", "b", "c", "d", "e", "f"]
    assert found.kept.all(1).tolist() == [True, False, True, False, True, False]
    assert found.kept.any(1).tolist() == found.kept.all(1).tolist()
    assert found.rounds == 3


def test_refill_makes_do_with_what_is_mixed_after_the_last_round():
    task = {"a": "--", "b": "--", "c": "-+", "d": "--", "e": "+-"}
    found = Refill(rounds=2, prompts=None, patience=None)(drawing(task, prompts=2, samples=2))
    assert len(found.prompts) == 4
    assert found.kept.any(1).tolist() == [False, False, True, False]
    nothing = Refill(rounds=2, prompts=None, patience=None)(drawing({"a": "-", "b": "+"}, prompts=1, samples=1))
    assert not nothing.kept.any()


def test_ragged_groups_go_to_row_numbers_and_back():
    """Prompt a has three samples, b one: rows 0 to 3 are a0, a1, a2, b0."""
    one = drawing({"a": "+-+", "b": "-"}, prompts=2, samples=1)
    one.meet(2)
    one.draw({0: 1})
    one.draw({0: 2, 1: 1})
    found = one.rollouts
    assert found.texts == (("a0", "a1", "a2"), ("b0",))
    assert found.places == [(0, 0), (0, 1), (0, 2), (1, 0)]
    assert found.rows(found.rewards).tolist() == [1, -1, 1, -1]
    assert found.rewards[1].isnan().tolist() == [False, True, True]
    assert found.drawn.tolist() == [[True, True, True], [True, False, False]]
    assert found.matrix(torch.tensor([1, 2, 3, 4])).tolist() == [[1, 2, 3], [4, 0, 0]]
    assert [found.correct[part].tolist() for part in found.by_size()] == [[[False]], [[True, False, True]]]


def test_a_prompt_that_comes_twice_gets_other_samples():
    one = drawing({"a": "+-"}, prompts=1, samples=1)
    one.upcoming = lambda first, end: [Prompt("a", (1,), "a", "")] * (end - first)
    one.meet(2)
    with pytest.raises(KeyError):  # the seed of `a again 1` is none of a's
        one.draw({1: 1})


ADAPTIVE = {"rounds": 3, "samples": 2, "patience": None}


def test_adaptive_with_positives_draws_until_one_is_correct():
    """a has one in its first round, b in its second, c never; of each, two are kept: one of each kind if there are."""
    seen: list = []
    task = {"a": "-+", "b": "---+", "c": "------"}
    found = Adaptive(goal="positives", positives=1, **ADAPTIVE)(drawing(task, prompts=3, samples=2, seen=seen))
    assert seen == [("a", [0, 1]), ("b", [0, 1]), ("c", [0, 1]), ("b", [2, 3]), ("c", [2, 3]), ("c", [4, 5])]
    assert found.sizes.tolist() == [2, 4, 6]
    kept = [[g for g in range(6) if row[g]] for row in found.kept.tolist()]
    assert kept == [[0, 1], [0, 3], [0, 1]]
    assert found.rounds == 3


def test_adaptive_with_balance_wants_half_of_each():
    """Of four, two correct and two others: a has them after two rounds; b, all correct, has three rounds."""
    seen: list = []
    task = {"a": "+-+-", "b": "++++++"}
    found = Adaptive(goal="balance", positives=1, **ADAPTIVE)(drawing(task, prompts=2, samples=4, seen=seen))
    assert [key for key, _ in seen] == ["a", "b", "a", "b", "b"]
    assert found.kept.tolist() == [[True] * 4 + [False] * 2, [True] * 4 + [False] * 2]


@pytest.mark.parametrize(
    ("verdicts", "count", "kept"),
    [
        ("+-+-+-", 4, "0123"),
        ("++++--", 4, "0145"),  # the first two of each kind
        ("-----+", 4, "0125"),  # one correct one, three others
        ("+++++-", 4, "0125"),  # one other, three correct ones
        ("-+-+-+", 3, "012"),  # an odd number: one correct, two others
        ("++", 4, "01"),
        ("---", 2, "01"),
    ],
)
def test_what_stays_of_a_prompt(verdicts: str, count: int, kept: str):
    found = balanced([v == "+" for v in verdicts], count)
    assert "".join(str(g) for g, keep in enumerate(found) if keep) == kept


def test_budgets_by_hand():
    """α = 0, β = 2: n ∝ G / √p. With p = 1, 1/4, 0 and G = 1, 1 that is 1 : 2 : 0 of 2 · 3 samples."""
    asked: list = []

    def norms(rollouts, rows, weights):
        asked.append((list(rows), weights))
        return [2.0, 1.0, 0.0, 1.0, 1.0]  # of a's four correct ones, whose mean is 1, and of b's

    seen: list = []
    task = {"a": "+++++++", "b": "-+------", "c": "----"}
    rule = Budgets(presamples=4, alpha=0.0, beta=2.0, gradient="all", patience=None)
    found = rule(drawing(task, prompts=3, samples=2, seen=seen, norms=norms))
    assert asked == [([0, 1, 2, 3, 5], "all")]
    assert seen[3:] == [("a", [4, 5]), ("b", [4, 5, 6, 7])]
    assert found.kept.sum(1).tolist() == [2, 4, 0]
    assert not found.kept[:, :4].any()


def test_a_hopeless_prompt_gets_less_the_larger_alpha_is():
    """p = 1/4 and 1, G = 1: without α 2 : 1; with α = 3/16 the first has p + α / p = 1, and so 1 : 1 / √(19/16)."""
    equal = Budgets(4, 0.0, 2.0, "all", None)
    assert equal.shares([1.0, 1.0], [0.25, 1.0]) == pytest.approx([2 / 3, 1 / 3])
    damped = Budgets(4, 3 / 16, 2.0, "all", None).shares([1.0, 1.0], [0.25, 1.0])
    assert damped[0] / damped[1] == pytest.approx((19 / 16) ** 0.5)
    assert equal.shares([0.0, 5.0], [0.0, 0.0]) == [0.0, 0.0]


@pytest.mark.parametrize(
    ("total", "shares", "parts"),
    [
        (6, [1 / 3, 2 / 3, 0.0], [2, 4, 0]),
        (4, [0.4, 0.4, 0.2], [1, 2, 1]),  # 1.6, 1.6, 0.8 round to 2, 2, 1; one of the first two was moved most
        (10, [0.24, 0.24, 0.52], [3, 2, 5]),  # 2.4, 2.4, 5.2 round to 2, 2, 5
        (5, [0.0, 0.0], [0, 0]),
    ],
)
def test_whole_parts_have_the_total(total: int, shares: list[float], parts: list[int]):
    assert divided(total, shares) == parts
