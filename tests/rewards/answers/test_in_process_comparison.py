"""Decisions without algebra: equal text, plain numbers, and answers that a guard refuses."""

from fractions import Fraction

import pytest

from winnow.rewards.answers.text import normalize, read_number
from winnow.rewards.rules import MathVerify

settle = MathVerify().settle


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("-5", -5),
        ("+5", 5),
        ("007", 7),
        ("5.50", Fraction(11, 2)),
        (".5", Fraction(1, 2)),
        ("1,234,567", 1234567),
        (r"28{,}800", 28800),
        (r"11,\! 111,\! 100", 11111100),
        ("1 000", 1000),
        ("−5", -5),
        ("10^{3}", 1000),
        ("10^-3", Fraction(1, 1000)),
        (r"2×10^(-3)", Fraction(1, 500)),
        ("3/4", Fraction(3, 4)),
        ("-1./3", Fraction(-1, 3)),
        (r"\dfrac{3}{4}", Fraction(3, 4)),
        (r"-\frac{3}{4}", Fraction(-3, 4)),
        (r"\frac34", Fraction(3, 4)),
        (r"3\frac{1}{2}", Fraction(7, 2)),
        ("3 1/2", Fraction(7, 2)),
        ("1.5e-3", Fraction(3, 2000)),
        (r"1.5 \times 10^{-3}", Fraction(3, 2000)),
        (r"7\cdot10^2", 700),
        ("$5$", 5),
        (r"\$5", 5),
        ("5.", 5),
        (r"5 \approx 5.1", 5),
    ],
)
def test_plain_numbers(text: str, value: Fraction) -> None:
    number = read_number(normalize(text))
    assert number is not None
    assert number.value == value


@pytest.mark.parametrize(
    "text", ["", "x", "1/0", r"\frac{1}{0}", "1,23", "1,234,5", "2^3", "5 6", "--5", "5e", "1e9999", "1" * 500]
)
def test_texts_that_are_not_plain_numbers(text: str) -> None:
    assert read_number(normalize(text)) is None


@pytest.mark.parametrize(
    ("gold", "answer", "equal"),
    [
        ("10", "10.0", True),
        ("10", "10.01", False),
        ("123456789012345678901", "123456789012345678902", False),  # exact: a float would call them equal
        ("1/3", "0.333333", True),
        ("1/3", "0.33333", False),
        ("1/3", r"\frac{2}{6}", True),
        ("1.24e-8", r"1.24 \times 10^{-8}", True),
        ("1.24e-8", "1.25e-8", False),  # to six places all three are 0
        ("1.24e-8", "0", False),
        ("4.5e33", r"0.45 \times 10^{34}", True),
        (r"28\%", "28", True),
        (r"28\%", "0.28", True),
        (r"28\%", "28 percent", True),
        (r"28\%", r"2800\%", False),
        ("x+1", "x + 1", True),
        (r"\left(\tfrac12, 3\right)", r"(\frac12,3)", True),
        ("x+1", "1+x", None),  # algebra
        ("5", r"\sqrt{25}", None),
        ("5", r"5\text{ feet}", True),
        ("9.8", r"9.8 \text{ m/s}^2", True),
        ("1/2", "-(1/2)", None),
        ("5", "x=5", True),  # a name for the value is conventional
        ("5", r"f(x) = 5", True),
        ("5", r"\angle ABC = 5", True),
        ("5", "x+y=5", False),  # a sum is no name
        ("1,2", "x=1, y=2", True),
        ("1,2", "y=2, x=1", True),
        ("1,2", "1,2,3", False),
        (r"1,\sqrt{2}", r"\sqrt{2},1", True),  # equal text, member by member
        (r"1,\sqrt{2}", r"2^{1/2},1", None),
        ("x=5", "5=x", None),  # a gold that is an equation
    ],
)
def test_settled_without_algebra(gold: str, answer: str, equal: bool | None) -> None:
    assert settle(gold, answer) is equal


@pytest.mark.parametrize(
    "answer",
    [
        "5=5",
        "2+3=5",
        "x=4=5",
        "4=5",
        "(5=5)",
        "2+3",  # the problem, copied into the box
        r"2 \cdot 2 + 1",
        "2 3",  # math-verify adds numbers that stand side by side
        "{2}{3}",
        r"2 \quad 3",
        r"2^{\circ} 3",
        r"2\ldots 3",
        r"5\text{ (or 6)}",
        "5, 6",
        "5 or 6",
        r"5 \text{ or } 6",
        "1 2 3 4 5",
        "100, 200",
        "5_8",
        "(" * 3000 + "5" + ")" * 3000,
        "(" * 65 + "5" + ")" * 65,
        "5" * 2_000_000,
        "5+0" + " " * 3000,
    ],
)
def test_answers_that_a_guard_refuses_where_the_gold_is_five(answer: str) -> None:
    assert settle("5", answer) is False


@pytest.mark.parametrize(
    "answer", ["=" * 2000, "\\" + "a" * 2000 + "1=", "{" * 60 + "a=" * 900, "a,=" * 600, r"\text{" * 60 + "=" * 900]
)
def test_guards_take_no_time_of_their_own(answer: str) -> None:
    settle("5", answer)
