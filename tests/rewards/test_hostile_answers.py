r"""Answers that are written to take for ever, to fill the memory or to break a parser: none is accepted, and none holds
up the next.

The ordinary suite judges six of them, and `make test-faults` all 54, with the time limit that runs have.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from time import monotonic

import pytest

from winnow.rewards.verifier import Verifier
from winnow.verdict import Verdict


def _nested(before: str, times: int, after: str = "}") -> str:
    return before * times + "1" + after * times


def _matrix(size: int) -> str:
    rows = r"\\".join("&".join(f"x_{{{row}{column}}}" for column in range(size)) for row in range(size))
    return rf"\begin{{pmatrix}}{rows}\end{{pmatrix}}"


HALF, ROOT = r"\frac{1}{2}", r"\sqrt{2}"
HOSTILE: dict[str, tuple[str, str]] = {
    # towers of powers, factorials and other numbers that are too large to write down
    "tower of numbers": ("5", "9^{9^{9^{9}}}"),
    "tower with a symbol": (HALF, "x^{9^{9^{9}}}+1"),
    "huge factorial": (HALF, "(10^9)!"),
    "factorial of a factorial": (HALF, "((20!)!)!"),
    "root of a factorial": (ROOT, r"\sqrt{(10^7)!}"),
    "quotient of factorials": ("1", "(10^{8})!/(10^{8}-1)!"),
    "huge binomial": (HALF, r"\binom{10^{9}}{5\cdot 10^8}"),
    "high power of a root": (HALF, r"(1+\sqrt{2})^{100000}"),
    "complex tower": ("i", r"(1+i\sqrt{2})^{(3+i)^{(5-i)^{7}}}"),
    "huge exponent of ten": ("5", "1e999999999"),
    "two huge sums": (r"10^{10^6}+\sqrt2", r"10^{10^6}+\sqrt3"),
    "root of a huge integer": (r"\sqrt{2^{100000}+1}", r"\sqrt{2^{100000}+3}"),
    "factors of a large integer": (r"\sqrt{6}", rf"\sqrt{{{(2**89 - 1) * (2**107 - 1) * (10**60 + 7)}}}"),
    "gamma function": (HALF, r"\Gamma(10^{20})"),
    "greatest common divisor": ("1", r"\gcd(10^{10^{7}},3)"),
    "floor": ("1", r"\lfloor 10^{10^{8}}\pi\rfloor"),
    "long repeating decimal": (HALF, "0." + "1" * 39 + r"\overline{" + "123456789" * 4 + "}^{10^6}"),
    # deep nesting
    "nested fractions": (HALF, _nested(r"\frac{1}{", 60)),
    "nested continued fractions": ("x", _nested(r"\cfrac{1}{x+", 60)),
    "nested roots": (ROOT, _nested(r"\sqrt{2+", 60)),
    "parentheses": (HALF, _nested("(", 63, ")")),
    "too many parentheses": (HALF, _nested("(", 500, ")")),
    "open brackets": (HALF, "(" * 2000),
    "nested text": ("5", r"\text{" * 400 + "5" + "}" * 400),
    "nested boxes": (HALF, _nested(r"\boxed{", 300)),
    "nested subscripts": ("x_1", "x" + _nested("_{1", 60)),
    "absolute values": ("x", "|" * 1500),
    "primes": ("y'=1", "y" + "'" * 1500 + "=1"),
    # length
    "100,000 characters of a sum": (HALF, "1+" * 50_000 + "1"),
    "100,000 digits": ("5", "5" * 100_000),
    "100,000 backslashes": (HALF, "\\" * 100_000),
    "100,000 root signs": (HALF, "√" * 100_000),
    "100,000 commas": ("1,2", "1," * 50_000),
    "100,000 characters of text": (HALF, r"\text{" + "a " * 50_000 + "}"),
    # texts on which patterns go back and forth
    "units": ("5", "5" + r"\text{ a}" * 200),
    "units in letters": ("5", "5" + " per kg" * 200 + "!"),
    "grouped digits": ("5", ",".join(["123"] * 500) + "x"),
    "number words": ("5", " ".join(["one hundred million"] * 90)),
    "the same digits": (HALF, "0." + "12" * 900 + "..."),
    # sympy
    "expanded power": ("x^2", "(x+y+z+w+a+b)^{300}"),
    "power of powers": ("x+1", "((((x+1)^{20}+1)^{20}+1)^{20}+1)^{20}"),
    "rational functions": ("y=x", r"\frac{(x+1)^{80}-(x-1)^{80}}{(y+2)^{90}}=\frac{y^{70}}{(x+y)^{50}}"),
    "determinant": (HALF, rf"\det{_matrix(9)}"),
    "large matrix": (r"\begin{pmatrix}1\\2\end{pmatrix}", _matrix(20)),
    "power of a matrix": (r"\begin{pmatrix}1&1\\1&0\end{pmatrix}", r"\begin{pmatrix}1&1\\1&0\end{pmatrix}^{1000000}"),
    "integral": ("1", r"\int_0^{\infty}\frac{\sin^{7}(x^{3})e^{-x^2}}{1+x^{11}}dx"),
    "product": ("1", r"\prod_{n=1}^{100000}(n^2+\sqrt{n})"),
    "logarithms of logarithms": (r"\ln 2", "+".join(rf"\ln(\ln({n}+\sqrt{{{n}}}))" for n in range(3, 80))),
    "trigonometric sum": (r"\sin x", "+".join(rf"\sin({n}x)\cos({n + 1}x)^{{{n}}}" for n in range(1, 25))),
    # sets and inequalities
    "union of intervals": (r"(0,1)\cup(2,3)", r"\cup ".join(f"({n},{n}.5)" for n in range(150))),
    "end of an interval": ("[0,1)", "[0,10^{10^{10}})"),
    "inequality of absolute values": ("x>1", r"||||x-1|-2|-3|-4|>\sqrt{|x|}"),
    "many alternatives": ("x>1", r"\text{ or }".join(f"x^2>{n}" for n in range(100))),
    "integers of a set": (r"\{1,2\}", r"\{x\in\mathbb{Z}\mid 0<x<10^{10^{10}}\}"),
}
SHORT = (
    "tower of numbers", "quotient of factorials", "nested roots", "100,000 root signs", "units in letters",
    "rational functions",
)  # fmt: skip


@pytest.fixture(scope="module")
def default_limits() -> Iterator[Verifier]:
    with Verifier(workers=1) as shared:
        yield shared


def _assert_harmless(verifier: Verifier, name: str, limit: float) -> None:
    """A verdict within the time limit that is no acceptance, and a right one on the next answer."""
    start = monotonic()
    (judgement,) = verifier.judge_answers([HOSTILE[name][0]], [HOSTILE[name][1]])
    assert judgement.verdict in (Verdict.wrong, Verdict.timeout, Verdict.crash)
    assert judgement.seconds <= limit
    assert monotonic() - start < 10 * limit  # the start of a worker included, on a busy machine
    (next_one,) = verifier.judge_answers([r"\sqrt{8}"], [rf"2\sqrt{{2}}+0\cdot{len(name)}"])
    assert next_one.verdict is Verdict.correct


@pytest.mark.parametrize("name", SHORT)
def test_six_hostile_answers_are_not_accepted(name: str, verifier: Verifier) -> None:
    _assert_harmless(verifier, name, limit=1.0)


@pytest.mark.faults
@pytest.mark.parametrize("name", HOSTILE)
def test_every_hostile_answer_has_a_verdict_within_two_seconds(name: str, default_limits: Verifier) -> None:
    _assert_harmless(default_limits, name, limit=2.0)


def test_there_are_54_of_them() -> None:
    assert len(HOSTILE) == 54


def test_what_is_settled_without_a_worker_takes_no_time_either() -> None:
    """Answers that no time limit protects, because the calling process judges them: a hundredth of a second each."""
    program = (
        "import json, sys, time; from winnow.rewards.rules import MathVerify, Numeric\n"
        "pairs, start = json.load(sys.stdin), time.process_time()\n"
        "for gold, answer in pairs: MathVerify().settle(gold, answer), Numeric().settle(gold, answer)\n"
        "print(time.process_time() - start)"
    )
    repeated = (
        "\\",
        r"\text{5 ",
        "(",
        "1,",
        "0.1",
        "5 ",
        "½",
        r"\frac{1}{",
        "_",
        "x=",
        " and ",
        r"\cup ",
        "|",
        "<",
        "'",
    )
    pairs = [*HOSTILE.values(), *(("5", "5" + part * (2000 // len(part)) + "x") for part in repeated)]
    done = subprocess.run(
        [sys.executable, "-c", program], input=json.dumps(pairs), capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 10 * 0.01 * len(pairs)
