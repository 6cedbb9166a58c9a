"""Lists of answers and their matching; removal of units."""

import pytest

from winnow.rewards.answers.lists import match_answers, split_answers
from winnow.rewards.answers.text import normalize, without_unit


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1,3", ["1", "3"]),
        ("1; 3", ["1", "3"]),
        (r"1, 2 \text{ and } 3", ["1", "2", "3"]),
        (r"1, 2, \text{ or } 3", ["1", "2", "3"]),
        ("1 or 3", ["1", "3"]),
        (r"\{1, 3\}", ["1", "3"]),
        (r"x \in \{1, 3\}", ["1", "3"]),
        (r"2 \pm 1", ["2+1", "2-1"]),
        (r"\pm 1, 0", ["+1", "-1", "0"]),
        (r"a \pm b \mp c", ["a+b -c", "a-b +c"]),  # upper signs, lower signs
        (r"(1,2),\left[3,4\right)", ["(1,2)", "[3,4)"]),
        (r"\frac{1,2}{3}", [r"\frac{1,2}{3}"]),
        ("(1,2)", ["(1,2)"]),
        (r"\langle 1, 2 \rangle", [r"\langle 1,2\rangle"]),
        ("1,234", ["1,234"]),
        (r"\text{Monday, Tuesday}", [r"\text{Monday,Tuesday}"]),
        (r"\theta", [r"\theta"]),
        ("for", ["for"]),
        ("1,,2", ["1,,2"]),
        ("", [""]),
    ],
)
def test_the_answers_in_a_text(text: str, found: list[str]) -> None:
    assert [member.replace(" ", "") for member in split_answers(normalize(text))] == [
        part.replace(" ", "") for part in found
    ]


def same(gold: str, answer: str) -> bool | None:
    """Letters are compared without case; the comparison with `?` is undecided."""
    return None if "?" in (gold, answer) else gold.lower() == answer.lower()


@pytest.mark.parametrize(
    ("golds", "answers", "verdict"),
    [
        ("abc", "cab", True),
        ("abc", "ab", False),
        ("abc", "abd", False),
        ("ab", "aab", True),  # a set may repeat itself
        ("ab", "aac", False),
        ("aa", "a", False),  # a double root may not be forgotten
        ("aa", "aa", True),
        ("ab", "b?", None),
        ("ab", "c?", False),
        ("aA", "Aa", True),
    ],
)
def test_members_are_paired_off(golds: str, answers: str, verdict: bool | None) -> None:
    assert match_answers(list(golds), list(answers), same) is verdict


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        (r"9.8 \text{ m/s}^2", "9.8"),
        (r"9.8\,\mathrm{m\,s^{-2}}", "9.8"),
        (r"4.5 \times 10^{33} \text{ erg/s}", r"4.5\times 10^{33}"),
        (r"\frac{3}{4} \text{ cup}", r"\frac{3}{4}"),
        ("10 square units", "10"),
        ("60 miles per hour", "60"),
        (r"25^\circ\text{C}", "25"),
        (r"x = 5\text{ cm}", "x=5"),
        (r"\sqrt{2} \text{ m}", r"\sqrt{2}"),
        (r"\text{Evelyn}", r"\text{Evelyn}"),
        (r"5 \text{ million}", "5000000"),
        (r"5 \text{ dozen}", r"5\text{dozen}"),
        (r"5 \text{ or more}", r"5\text{or more}"),
        ("5 thousand", "5000"),
        (r"4\pi \mathrm{r}^2", r"4\pi\mathrm{r}^2"),
        ("6m", "6m"),
        ("5 x", "5 x"),
        (r"2 \pi", r"2\pi"),
    ],
)
def test_a_unit_is_dropped_and_nothing_else(text: str, rest: str) -> None:
    assert without_unit(normalize(text)) == rest


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("9.8 m/s^2", "9.8"),
        ("3e8 m s^{-1}", "3e8"),
        (r"3.6 \mu m", "3.6"),
        (r"1.4 M_{\odot}", "1.4"),
        ("5 kHz", "5"),
        ("5 x", "5 x"),
        ("5 mm n", "5 mm n"),
        (r"\frac{n}{2} m", r"\frac{n}{2}m"),
    ],
)
def test_symbols_of_units_after_a_number(text: str, rest: str) -> None:
    assert without_unit(normalize(text), symbols=True) == rest
