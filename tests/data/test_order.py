"""Orders of problems and curricula: functions of the seed, in given shares, and equal after a resume."""

from collections import Counter
from collections.abc import Sequence

import pytest

from winnow.columns import Columns
from winnow.data.curriculum import ByColumn, ByPassRate, EasyFirst, SometimesSolved
from winnow.data.order import Mixed, Passes, Successes
from winnow.data.problems import Problem
from winnow.errors import ConfigError


def problems(count: int, prefix: str = "", levels: Sequence[object] = ()) -> list[Problem]:
    return [
        Problem(f"{prefix}{i}", f"{i}?", "1", columns=Columns({"level": levels[i]} if levels else {}))  # pyright: ignore
        for i in range(count)
    ]


def keys(found: Sequence[Problem]) -> list[str]:
    return [problem.key for problem in found]


def test_every_pass_holds_every_problem_once():
    order = Passes(problems(10), seed=1)
    first, second = keys(order.take(0, 0, 10)), keys(order.take(1, 10, 10))
    assert sorted(first) == sorted(second) == sorted(keys(problems(10)))
    assert first != second
    assert keys(order.take(0, 4, 8)) == first[4:] + second[:2]
    assert keys(Passes(problems(3), 1, shuffle=False).take(0, 2, 3)) == ["2", "0", "1"]


def test_shares_of_a_mixture_are_exact_and_each_part_keeps_its_own_order():
    """Weights 2 and 1 give a, b, a, a, b, a, …: of any first n, each has its share up to one."""
    mixed = Mixed({name: Passes(problems(50, name), seed=3) for name in "ab"}, {"a": 2, "b": 1})
    found = [key for i in range(4) for key in keys(mixed.take(i, 6 * i, 6))]
    assert "".join(key[0] for key in found[:6]) == "abaaba"
    for n in range(1, 25):
        assert abs(sum(key[0] == "a" for key in found[:n]) - n * 2 / 3) < 1
    for name in "ab":
        alone = keys(Passes(problems(50, name), seed=3).take(0, 0, 16))
        of_part = [key for key in found if key[0] == name]
        assert of_part == alone[: len(of_part)]
    again = Mixed({name: Passes(problems(50, name), seed=3) for name in "ab"}, {"a": 2, "b": 1})
    assert keys(again.take(3, 18, 6)) == found[18:]  # after a resume, without the iterations before


def test_a_curriculum_by_column_goes_from_the_easiest_to_all():
    levels = [5, 1, 4, 2, 3]
    order = ByColumn("level", start=0.2, iterations=4).order(problems(5, levels=levels), 0, True)
    assert isinstance(order, EasyFirst)
    assert [order.size(i) for i in range(6)] == [1, 2, 3, 4, 5, 5]
    for i in range(6):
        drawn = order.take(i, 0, order.size(i))
        assert sorted(str(problem.columns["level"]) for problem in drawn) == list("12345"[: order.size(i)])
    assert keys(order.take(2, 0, 3)) == keys(order.take(2, 0, 3))
    assert Counter(keys(order.take(1, 0, 4))) == {"1": 2, "3": 2}  # more prompts than problems


def test_texts_are_sorted_by_their_numbers():
    levels = ["Level 10", "Level 9", "Level 2"]
    order = ByColumn("level", 0.3, 1).order(problems(3, levels=levels), 0, True)
    assert isinstance(order, EasyFirst)
    assert [problem.columns["level"] for problem in order.problems] == ["Level 2", "Level 9", "Level 10"]


@pytest.mark.parametrize(
    ("column", "levels", "message"),
    [
        (None, [1, 2], "curriculum.column is not set"),
        ("leve", [1, 2], "0 has no such column; there are level"),
        ("level", [1, None], "is None in 1; it has to be a number or a text"),
        ("level", [1, float("nan")], "is nan in 1"),
        ("level", [1, "hard"], "some values are numbers and others texts"),
        ("level", [], "there are none, as the problems are generated"),
    ],
)
def test_a_column_that_says_no_difficulty(column: str | None, levels: list[object], message: str):
    with pytest.raises(ConfigError, match=message):
        ByColumn(column, 0.2, 10).order(problems(2, levels=levels), 0, True)


def learnt(*counts: tuple[int, int]) -> SometimesSolved:
    order = ByPassRate().order(problems(len(counts)), 0, True)
    assert isinstance(order, SometimesSolved)
    order.take(0, 0, 1)
    order.learn(0, {str(i): Successes(*count) for i, count in enumerate(counts)})
    order.take(1, 1, 1)
    return order


def test_pass_rates_by_hand():
    order = learnt((8, 8), (4, 8), (0, 8))
    assert [order.pass_rate(str(i)) for i in range(3)] == [9 / 10, 5 / 10, 1 / 10]
    order.learn(1, {"0": Successes(0, 8)})
    order.take(2, 2, 1)
    assert order.pass_rate("0") == (8 / 2 + 0 + 1) / (8 / 2 + 8 + 2)


def test_problems_are_drawn_by_the_variance_of_their_success():
    """p is 0.9, 0.5 and 0.1, so that the weights are 0.09, 0.25 and 0.09."""
    order = learnt((8, 8), (4, 8), (0, 8))
    drawn = Counter(order.take(i, 0, 1)[0].key for i in range(1, 4001))
    for key, weight in (("0", 0.09), ("1", 0.25), ("2", 0.09)):
        assert drawn[key] / 4000 == pytest.approx(weight / 0.43, abs=0.03)
    assert len(set(keys(order.take(5000, 0, 3)))) == 3  # without repetition


def test_what_is_learnt_counts_from_the_next_iteration_and_survives_a_resume():
    order = ByPassRate().order(problems(20), 7, True)
    first = keys(order.take(0, 0, 6))
    order.learn(0, {key: Successes(8, 8) for key in first})
    assert keys(order.take(0, 0, 6)) == first
    assert order.state(0) == {}  # of an iteration that was left before its update
    order.learn(0, {key: Successes(8, 8) for key in first})
    saved = order.state(1)
    assert saved == {key: [8.0, 8.0] for key in first}
    resumed = ByPassRate().order(problems(20), 7, True)
    resumed.restore(saved)
    assert keys(resumed.take(1, 6, 6)) == keys(order.take(1, 6, 6))
