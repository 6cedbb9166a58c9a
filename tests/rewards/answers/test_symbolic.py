"""Symbolic equality: math-verify as it is used here, and where this package differs from it.

The tests run in-process, so that no answer in this file may be hostile.
"""

import pytest

from winnow.rewards.answers.parsed import parse_answer
from winnow.rewards.answers.symbolic import equivalent


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("5", r"\sqrt{25}"),
        ("5", "x=5"),
        ("5", r"5\text{ feet}"),
        (r"\sqrt{2}", r"\sqrt{2}\text{ m}"),
        ("(1, 2]", r"1 < x \le 2"),
        ("(-\\infty, 2) \\cup (3, \\infty)", r"x < 2 \text{ or } x > 3"),
        ("x'+x=0", r"\frac{dx}{dt} + x = 0"),
        ("6+9i", "6 + 9 i"),  # two different symbols to math-verify
        (r"m_{\max}=n+1", "n+1"),
        ("f(n)=n^2", "f(x)=x^2"),
        (r"1 \pm \sqrt{2}", r"1+\sqrt{2}, 1-\sqrt{2}"),
        ("x=5", "5"),
        ("(x+1)(x+2)", "x^2+3x+2"),
        (r"\frac{1}{2}\sin 2x", r"\sin x \cos x"),
        (r"\frac{\pi}{2}", r"\frac\pi 2"),
        (r"\{1, 2\}", "2, 1"),
        ("(1, 2)", r"\left(1, 2\right)"),
        ("1 < x < 2", "(1, 2)"),  # the gold's form decides; swapped, they differ
        (r"\text{Evelyn}", "Evelyn"),
        ("E_1+E_2", "E_2+E_1"),
        ("4.5e33", r"4.5 \times 10^{33} \text{ erg}"),
        (r"\begin{pmatrix} 1 \\ 1/2 \end{pmatrix}", r"\begin{bmatrix} 1 \\ 0.5 \end{bmatrix}"),
    ],
)
def test_equal(gold: str, answer: str) -> None:
    assert equivalent(gold, answer)


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("5", "x>5"),
        ("5", "x"),
        ("5", ""),
        ("5", r"\text{not }5"),
        ("x+1", "x+2"),
        ("x+1", "y+1"),
        ("(1, 2)", "(1, 2]"),
        ("(1, 2]", r"1 \le x \le 2"),
        ("1,3", "1,3,3,4"),
        ("6m", "6"),  # math-verify's own dropping of units makes these three equal,
        (r"\frac{1}{m} t", r"\frac{1}{m}"),
        (r"\frac{1}{3} E_{1}+\frac{2}{3} E_{2}", r"\frac{1}{3}"),
        ("y'+y=0", "2y=0"),  # and its reading of y' and of dM/dt these two
        (r"\frac{dM}{dt}=M^6", r"\frac{dM}{dt}=M^7"),
        ("I_0", "i"),
        (r"\sqrt{x^2}", "x"),
        ("1.24e-8", r"1.25 \times 10^{-8} \text{ m}"),  # math-verify alone, rounding to six places, calls these equal
        ("1.24e-8", r"0 \text{ m}"),
        (r"2\sqrt{3}", r"3\sqrt{2}"),
        ("t(0,4]", "5"),  # a gold that cannot be read equals nothing
    ],
)
def test_not_equal(gold: str, answer: str) -> None:
    assert not equivalent(gold, answer)


def test_none_asks_whether_the_gold_can_be_read() -> None:
    assert equivalent(r"\frac{1}{2}", None)
    assert equivalent(r"64\%", None)
    assert equivalent(r"30^\circ.", None)
    assert not equivalent("t(0,4]", None)
    assert not equivalent("", None)
    assert parse_answer("t(0,4]") == ()
