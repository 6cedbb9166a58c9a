r"""Traps: responses that fool careless verifiers, each with the verdict of every rule.

The letters are those of math_verify, numeric and exact in this order: c(orrect), w(rong) or n(o answer).
"""

from typing import NamedTuple

ECHO = r"Solve it and put your final answer within \boxed{}."


class Trap(NamedTuple):
    """A response to a problem with the given gold, and the verdict of each rule as a letter."""

    trap: str
    gold: str
    response: str
    math_verify: str
    numeric: str
    exact: str


def _traps(trap: str, *rows: tuple[str, str, str]) -> list[Trap]:
    return [Trap(trap, gold, response, *verdicts) for gold, response, verdicts in rows]


TRAPS = [
    *_traps(
        "last number wins",
        ("5", "the answer is 5", "nnn"),
        ("5", r"\boxed{4}, that is to say 5", "www"),
        ("5", r"\fbox{5}", "nnn"),
    ),
    *_traps(
        "5=5",
        ("5", r"\boxed{5=5}", "www"),
        ("5", r"\boxed{4=5}", "www"),
        ("5", r"\boxed{2+3=5}", "www"),
        ("5", r"\boxed{x=4=5}", "www"),
        ("x=5", r"\boxed{x=4=5}", "www"),
        ("x=5", r"\boxed{5=5}", "www"),
        ("5", r"\boxed{x=5}", "ccw"),
        ("x=5", r"\boxed{5}", "ccw"),
    ),
    *_traps(
        "two boxes",
        ("5", r"\boxed{4}, no: \boxed{5}", "ccc"),
        ("5", r"\boxed{5} or \boxed{4}", "www"),
        ("5", r"\boxed{5} and \boxed{}", "nnn"),
        ("5", r"\boxed{5 \text{ or } 4}", "www"),
        (r"\sqrt{3}", r"\boxed{\sqrt{3}, \sqrt{2}}", "www"),
    ),
    *_traps(
        "echo of the prompt",
        ("5", ECHO, "nnn"),
        ("5", rf"What is 2+3? {ECHO}", "nnn"),
        ("5", r"\boxed{2+3}", "www"),
        ("5", r"\boxed{answer}", "www"),
    ),
    *_traps(
        "unclosed box",
        ("5", r"\boxed{5", "nnn"),
        (r"\frac{1}{2}", r"\boxed{\frac{1}{2}", "nnn"),
        ("5", r"\boxed{4} or \boxed{5", "www"),
    ),
    *_traps(
        "scientific notation",
        ("4.5e33", r"\boxed{4.5e33}", "ccc"),
        ("4.5e33", r"\boxed{4.5 \times 10^{33}}", "ccw"),
        ("4.5e33", r"\boxed{45 \cdot 10^{32}}", "ccw"),
        ("4.5e33", r"\boxed{4.5×10^33}", "ccw"),
        ("4.5e33", r"\boxed{4.5 \times 10^{34}}", "www"),
        ("4.5e33", r"\boxed{4.5}", "www"),
        ("1.24e-8", r"\boxed{1.25 \times 10^{-8}}", "www"),
        ("1.24e-8", r"\boxed{0}", "www"),
    ),
    *_traps(
        "percent",
        (r"28\%", r"\boxed{28}", "ccw"),
        (r"28\%", r"\boxed{0.28}", "ccw"),
        (r"28\%", r"\boxed{28 \text{ percent}}", "ccw"),
        ("0.28", r"\boxed{28\%}", "ccw"),
        (r"28\%", r"\boxed{2800\%}", "www"),
        ("28", r"\boxed{0.28}", "www"),
        ("0.28", r"\boxed{28}", "www"),
    ),
    *_traps(
        "units",
        ("9.8", r"\boxed{9.8 \text{ m/s}^2}", "ccw"),
        ("9.8", r"\boxed{9.8 \frac{\text{m}}{\text{s}^2}}", "ccw"),
        ("9.8", r"\boxed{9.8 m/s^2}", "wcw"),
        ("4.5e33", r"\boxed{4.5 \times 10^{33} \text{ erg/s}}", "ccw"),
        (r"\$18.90", r"\boxed{18.9}", "ccw"),
        ("90", r"\boxed{90^\circ}", "ccw"),
        ("5", r"\boxed{5\text{ million}}", "www"),
        ("5", r"\boxed{5x}", "www"),
        ("6m", r"\boxed{6}", "www"),
        (r"\frac{37}{4} m", r"\boxed{\frac{37}{4}}", "www"),
        (r"\frac{1}{m} t", r"\boxed{\frac{1}{m}}", "www"),
        (r"\frac{1}{3} E_{1}+\frac{2}{3} E_{2}", r"\boxed{\frac{1}{3}}", "www"),
    ),
    *_traps(
        "tolerance",
        ("0.5978", r"\boxed{0.59784}", "wcw"),
        ("0.5978", r"\boxed{0.598}", "www"),
        ("1/3", r"\boxed{0.33333}", "wcw"),
        ("1/3", r"\boxed{0.33}", "www"),
        ("2", r"\boxed{1.9999}", "wcw"),
        ("352146", r"\boxed{352147}", "www"),
        ("10000/3", r"\boxed{10001/3}", "www"),
        ("0", r"\boxed{0.00001}", "www"),
        ("X=125-1.25P", r"\boxed{X=125-1.26P}", "www"),  # expressions are compared at several points
        (r"\lfloor n/2 \rfloor", r"\boxed{\lfloor n/3 \rfloor}", "www"),
    ),
    *_traps(
        "several answers",
        ("69,84", r"\boxed{84, 69}", "ccw"),
        ("69,84", r"\boxed{x=69 \text{ or } x=84}", "ccw"),
        ("69,84", r"\boxed{\{84, 69\}}", "ccw"),
        ("69,84", r"\boxed{69}", "www"),
        ("69,84", r"\boxed{69, 85}", "www"),
        ("69,84", r"\boxed{69, 84, 1}", "www"),
        ("-2,-2", r"\boxed{-2}", "www"),
        (r"1 \pm \sqrt{2}", r"\boxed{1-\sqrt{2}, 1+\sqrt{2}}", "ccw"),
        (r"1 \pm \sqrt{2}", r"\boxed{1+\sqrt{2}}", "www"),
        ("(6,3),(9,3)", r"\boxed{(9,3), (6,3)}", "ccw"),
        ("(6,3),(9,3)", r"\boxed{(3,9), (6,3)}", "www"),
        ("100, 200", r"\boxed{200, 100}", "ccw"),
        ("100200", r"\boxed{100, 200}", "www"),
        ("100200", r"\boxed{100,200}", "ccw"),
        ("(1,2)", r"\boxed{(2,1)}", "www"),
        ("(1,2)", r"\boxed{[1,2]}", "www"),
        ("(-1,2]", r"\boxed{[-1,2]}", "www"),
    ),
    *_traps(
        "functions and equations",
        ("f(n)=n", r"\boxed{n}", "ccw"),
        ("f(n)=n", r"\boxed{f(x)=x}", "ccw"),
        ("f(n)=n", r"\boxed{g(n)=n}", "www"),
        ("f(n)=n", r"\boxed{f(n)=2n}", "www"),
        ("f(x)=x,f(x)=2-x", r"\boxed{f(x)=2-x \text{ or } f(x)=x}", "ccw"),
        ("f(x)=x,f(x)=2-x", r"\boxed{f(x)=x}", "www"),
        ("y=2x+3", r"\boxed{2x - y + 3 = 0}", "ccw"),
        ("y=2x+3", r"\boxed{2x+3=2x+3}", "www"),
        (r"\frac{dM}{dt}=a M^{6}", r"\boxed{\frac{dM}{dt}=a M^{7}}", "www"),
        ("y'+y=0", r"\boxed{2y=0}", "www"),
    ),
    *_traps(
        "bases, letters, symbols",
        ("52_8", r"\boxed{52_{8}}", "ccw"),
        ("52_8", r"\boxed{52}", "ccw"),
        ("52_8", r"\boxed{52_9}", "www"),
        ("52", r"\boxed{52_8}", "www"),
        (r"\text{(C)}", r"\boxed{C}", "ccw"),
        (r"\text{(C)}", r"\boxed{D}", "www"),
        ("2i", r"\boxed{(1+i)^2}", "ccw"),
        (r"6+9i", r"\boxed{6 + 9 \cdot i}", "ccw"),
        (r"\sqrt{a^2 b}", r"\boxed{a\sqrt{b}}", "wcw"),
    ),
]
