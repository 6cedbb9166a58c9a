"""math-verify as it is used here, and where we differ from it. In-process: no hostile answer in this file."""

import json
import os
from pathlib import Path

import pytest

from winnow.rewards.extract import last_boxed
from winnow.rewards.math import equivalent, read
from winnow.rewards.pool import VerifierPool
from winnow.rewards.verdict import Verdict


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("5", r"\sqrt{25}"),
        ("5", "x=5"),
        ("5", r"5\text{ feet}"),
        ("x=5", "5"),
        ("(x+1)(x+2)", "x^2+3x+2"),
        (r"\frac{1}{2}\sin 2x", r"\sin x \cos x"),
        (r"\frac{\pi}{2}", r"\frac\pi 2"),
        (r"\{1, 2\}", "2, 1"),
        ("(1, 2)", r"\left(1, 2\right)"),
        ("1 < x < 2", "(1, 2)"),  # the gold's form leads; swapped, they differ
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
    assert read("t(0,4]") == ()


def test_agreement_with_labelled_cases(verifier: VerifierPool) -> None:
    data = os.environ.get("WINNOW_DATA")
    if not data:
        pytest.skip("WINNOW_DATA is not set: no labelled verifier cases to compare with")
    rows = [json.loads(line) for line in (Path(data) / "verifier_cases.jsonl").open(encoding="utf-8")]
    rows = [row for row in rows if row["strength"] == "firm" and row["extract"] in (None, "boxed")]
    judged = verifier.judge_answers(
        [row["gold"] for row in rows], [last_boxed(row["pred"]) or row["pred"] for row in rows]
    )
    accepted = [judgement.verdict is Verdict.correct for judgement in judged]
    agree = sum(got is row["equivalent"] for got, row in zip(accepted, rows, strict=True))
    false = [row for got, row in zip(accepted, rows, strict=True) if got and not row["equivalent"]]
    assert len(rows) > 300
    assert agree / len(rows) >= 0.97  # 377 of 380 when this was written
    assert not false
