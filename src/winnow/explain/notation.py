"""Texts of formulas, in Unicode for a terminal and in LaTeX."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from winnow.explain.expression import Apply, Constant, Domain, Expression, Over, Symbol
from winnow.explain.operations import ATOM, MULTIPLY, NEGATES, SUMS, Form, Operation


@dataclass(frozen=True, slots=True)
class Notation:
    """A way to write formulas: the forms of operations, names, numbers, and sums over a domain."""

    form: Callable[[Operation], Form]
    name: Callable[[Symbol], str]
    number: Callable[[float], str]
    index: Callable[[Domain], str]
    sum: str
    reduction: str
    given: str
    brackets: tuple[str, str]

    def text(self, formula: Expression) -> str:
        return self._written(formula)[0]

    def _written(self, formula: Expression) -> tuple[str, float]:
        """The text of a formula, and how tightly its loosest part at an edge binds."""
        match formula:
            case Constant():
                negative = not isinstance(formula.value, bool) and formula.value < 0
                return self.number(formula.value), NEGATES if negative else ATOM
            case Symbol():
                return self.name(formula), ATOM
            case Apply():
                return self._applied(formula)
            case Over():
                return self._reduced(formula)
            case _:
                raise TypeError(type(formula).__name__)

    def _applied(self, formula: Apply) -> tuple[str, float]:
        form = self.form(formula.operation)
        parts = [self._written(argument) for argument in formula.arguments]
        texts = [self._inside(part, needs) for part, needs in zip(parts, form.needs, strict=True)]
        text = form.template.format(*texts)
        if formula.operation is MULTIPLY:
            if texts[1].startswith(self.sum):  # a sum is a factor without a sign before it
                text = f"{texts[0]} {texts[1]}"
            # What a product ends with stays open to the right: (Σ x) · y has to keep its parentheses.
            return text, min(form.level, max(parts[1][1], form.needs[1]))
        return text, form.level

    def _inside(self, part: tuple[str, float], needs: float) -> str:
        left, right = self.brackets
        return part[0] if part[1] >= needs else f"{left}{part[0]}{right}"

    def _reduced(self, formula: Over) -> tuple[str, float]:
        index = self.index(formula.domain)
        if formula.how == "sum" and formula.where is None:
            return f"{self.sum}_{index} {self._inside(self._written(formula.body), SUMS)}", SUMS
        condition = "" if formula.where is None else self.given + self.text(formula.where)
        return self.reduction.format(how=formula.how, index=index, body=self.text(formula.body) + condition), ATOM


def _unicode_number(value: float) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ("∞" if math.isinf(value) else f"{abs(value):.12g}").join(("−" if value < 0 else "", ""))


def _latex_number(value: float) -> str:
    if isinstance(value, bool):
        return rf"\mathrm{{{str(value).lower()}}}"
    text = r"\infty" if math.isinf(value) else f"{abs(value):.12g}"
    mantissa, exponent, power = text.partition("e")
    if exponent:
        text = (r"" if mantissa == "1" else rf"{mantissa} \cdot ") + f"10^{{{int(power)}}}"
    return ("-" if value < 0 else "") + text


UNICODE = Notation(
    form=lambda operation: operation.unicode,
    name=lambda symbol: symbol.unicode,
    number=_unicode_number,
    index=lambda domain: f"{{{domain.unicode}}}" if len(domain.unicode) > 1 else domain.unicode,
    sum="Σ",
    reduction="{how}_{index}({body})",
    given=" | ",
    brackets=("(", ")"),
)
LATEX = Notation(
    form=lambda operation: operation.latex,
    name=lambda symbol: symbol.latex,
    number=_latex_number,
    index=lambda domain: f"{{{domain.latex}}}",
    sum=r"\sum",
    reduction=r"\operatorname{{{how}}}_{index}\left({body}\right)",
    given=r" \mid ",
    brackets=(r"\left(", r"\right)"),
)
