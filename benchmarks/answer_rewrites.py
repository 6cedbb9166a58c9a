r"""Equivalent rewritings of a gold answer: each leaves its value and changes its text.

Each function takes the text of a gold and returns an answer, or None if it does not apply. Except for reading plain
numbers and for the rewritings by algebra, none of them uses the package that the study judges.
"""

import re
from collections.abc import Callable
from fractions import Fraction
from typing import cast

from sympy import Basic, Expr, Function, Symbol, cos, exp, factor, latex, log, sin, together

from winnow.rewards.answers.parsed import parse_answer
from winnow.rewards.answers.text import normalize, read_number

Rewrite = Callable[[str], str | None]
"""A function from the text of a gold to an answer, or to None."""

SCIENTIFIC = re.compile(r"(-?\d+(?:\.\d+)?)e(-?\d+)")
UNIT = re.compile(r"\\(?:text|mbox)\{[^{}]*\}(?:\^\d)?$|\^(?:\{\\circ\}|\\circ)$|\\?%$|^\\\$")
_PLAIN_FRACTION = re.compile(r"(-?)\\[dt]?frac ?(?:\{(\d+)\}\{(\d+)\}|(\d)(\d)| (\d)(\d))")
FUNCTION = re.compile(r"^([a-zA-Z])\(([a-z])\) ?=")
_RELATION = re.compile(r"=|<|>|\\(?:in|leq?|geq?|geqslant|leqslant|cup|pm|text|mbox|begin)(?![a-z])|where")


def parts(text: str, at: str) -> list[str]:
    """The parts of `text` between the characters `at` outside brackets; a sign stays with the part that follows it."""
    found, depth, start = [], 0, 0
    for index, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if character in at and not depth and text[start:index].strip():
            found.append(text[start:index].strip())
            start = index + (character == ",")
    return [*found, text[start:].strip()]


def listed(gold: str) -> list[str]:
    """The members of a list of answers; a single answer is a list of one."""
    if read_number(normalize(gold)) is not None or "where" in gold:
        return [gold]
    inner = gold.removeprefix(r"\{").removesuffix(r"\}") if gold.startswith(r"\{") else gold
    return parts(inner, ",")


def is_scalar(gold: str) -> bool:
    """True for a single number or expression: no list, tuple, interval, relation or text."""
    return (
        len(listed(gold)) == 1
        and not _RELATION.search(gold)
        and not re.match(r"^\s*(?:\\quad|\\left)?\s*[(\[].*,", gold)
    )


def number(gold: str) -> Fraction | None:
    """The value of a plain number, or None."""
    found = read_number(normalize(gold))
    return None if found is None else found.value


def is_integer(gold: str) -> bool:
    """True for an integer in plain digits."""
    return re.fullmatch(r"-?\d+", gold) is not None


def components(gold: str) -> tuple[str, list[str], str] | None:
    """The opening bracket, the parts and the closing bracket of a single tuple or interval, or None."""
    plain = re.sub(r"\\left|\\right|\\quad", "", gold).strip()
    inner = parts(plain[1:-1], ",") if re.fullmatch(r"[(\[].*[)\]]", plain) and len(parts(plain, ",")) == 1 else []
    balanced = plain[1:-1].count("(") == plain[1:-1].count(")") and r"\cup" not in plain
    return (plain[0], inner, plain[-1]) if len(inner) > 1 and balanced else None


def display_fraction(gold: str) -> str | None:
    r"""Fractions in display size: \frac as \dfrac."""
    return re.sub(r"\\[dt]?frac", r"\\dfrac", gold) if "frac" in gold else None


def spaced(gold: str) -> str | None:
    """Thin spaces around operators and commas."""
    if read_number(normalize(gold)) is not None or r"\text" in gold:
        return None
    loose = re.sub(r"(?<=[\w})]) ?([+=,]) ?(?=[\w\\({])", r" \1\\, ", gold)
    return loose if loose != gold else None


def big_brackets(gold: str) -> str | None:
    r"""Brackets with \left and \right."""
    if (
        not re.search(r"[(\[]", gold)
        or r"\left" in gold
        or r"\text" in gold
        or r"\sqrt[" in gold
        or ")" not in gold + "]"
    ):
        return None
    return re.sub(r"([)\]])", r"\\right\1", re.sub(r"([(\[])", r"\\left\1", gold))


def dollars(gold: str) -> str | None:
    """The gold between dollar signs."""
    return f"${gold}$" if "$" not in gold else None


def full_stop(gold: str) -> str | None:
    """The gold with a full stop at its end."""
    return f"{gold}." if not gold.endswith(".") else None


def reordered_sum(gold: str) -> str | None:
    """A sum with its terms in reverse order."""
    terms = parts(gold, "+-")
    if not is_scalar(gold) or len(terms) < 2 or "e-" in gold or r"\\" in gold:
        return None
    first, *others = terms
    return "".join([*reversed(others), first if first.startswith("-") else f"+{first}"]).removeprefix("+")


def reordered_list(gold: str) -> str | None:
    """A list with its members in reverse order."""
    members = listed(gold)
    return ", ".join(reversed(members)) if len(members) > 1 else None


def as_a_set(gold: str) -> str | None:
    r"""A list of different members in \{ and \}."""
    members = listed(gold)
    if len(members) < 2 or gold.startswith(r"\{") or len(set(members)) < len(members):
        return None
    return rf"\{{{', '.join(members)}\}}"


def joined_by_and(gold: str) -> str | None:
    """A list with the word and before its last member."""
    *head, last = listed(gold)
    return rf"{', '.join(head)} \text{{ and }} {last}" if head else None


def both_signs_written_out(gold: str) -> str | None:
    r"""An answer with \pm as two answers."""
    if r"\pm" not in gold or gold.startswith(r"\{"):
        return None
    lower, upper = (gold.replace(r"\pm", sign) for sign in "-+")
    return f"{lower}, {upper}"


def decimal_for_fraction(gold: str) -> str | None:
    """A fraction as a decimal number with nine places."""
    value = number(gold)
    return f"{float(value):.9f}".rstrip("0") if value is not None and "/" in gold + "/" * ("frac" in gold) else None


def fraction_for_decimal(gold: str) -> str | None:
    """A decimal number as a fraction."""
    value = number(gold)
    if value is None or "." not in gold or "e" in gold or value.denominator == 1:
        return None
    return rf"{'-' * (value < 0)}\frac{{{abs(value.numerator)}}}{{{value.denominator}}}"


def slash_for_fraction(gold: str) -> str | None:
    r"""A fraction of integers with a slash: \frac{1}{2} as 1/2."""
    match = _PLAIN_FRACTION.fullmatch(gold)
    if not match:
        return None
    top, bottom = (found for found in match.groups()[1:] if found)
    return f"{match[1]}{top}/{bottom}"


def times_ten_to(gold: str) -> str | None:
    r"""Scientific notation with \times 10^{…} instead of e."""
    return rf"{match[1]} \times 10^{{{match[2]}}}" if (match := SCIENTIFIC.fullmatch(gold)) else None


def times_ten_to_in_unicode(gold: str) -> str | None:
    """Scientific notation with the characters × and −."""
    return f"{match[1]}×10^{match[2]}".replace("-", "−") if (match := SCIENTIFIC.fullmatch(gold)) else None


def written_out(gold: str) -> str | None:
    """An integer in e-notation as digits: 4.5e5 as 450000."""
    value = number(gold)
    match = SCIENTIFIC.fullmatch(gold)
    return str(value) if match and value is not None and value.denominator == 1 and 0 <= int(match[2]) <= 12 else None


def grouped_thousands(gold: str) -> str | None:
    """Thousands separated by commas."""
    return f"{int(gold):,}" if is_integer(gold) and abs(int(gold)) >= 1000 else None


def latex_thousands(gold: str) -> str | None:
    """Thousands separated by commas as LaTeX writes them: {,}."""
    grouped = grouped_thousands(gold)
    return grouped.replace(",", "{,}") if grouped else None


def trailing_zero(gold: str) -> str | None:
    """An integer as a decimal number: 9 as 9.0."""
    return f"{gold}.0" if is_integer(gold) else None


def named(gold: str) -> str | None:
    """A number as an equation: 9 as x = 9."""
    return f"x = {gold}" if number(gold) is not None else None


def unit_as_text(gold: str) -> str | None:
    r"""A number with a unit in \text."""
    return rf"{gold} \text{{ cm}}" if number(gold) is not None and not UNIT.search(gold) else None


def unit_as_words(gold: str) -> str | None:
    """A number with a unit in plain words."""
    return f"{gold} square units" if number(gold) is not None and not UNIT.search(gold) and "frac" not in gold else None


def unit_in_roman(gold: str) -> str | None:
    r"""A number with a unit in \mathrm."""
    return rf"{gold}\,\mathrm{{m/s^2}}" if number(gold) is not None and not UNIT.search(gold) else None


def unit_dropped(gold: str) -> str | None:
    """A gold with a unit, per cent or dollar sign, without it."""
    unit = UNIT.search(gold)
    return UNIT.sub("", gold).strip() if unit and gold != unit[0] else None


def explicit_product(gold: str) -> str | None:
    r"""Products of a number and a letter with \cdot."""
    if r"\text" in gold or r"\mbox" in gold or "where" in gold or number(gold) is not None:
        return None
    product = re.sub(r"(?<![\d_^.{])(\d+) ?(?=[a-zA-Z])", r"\1 \\cdot ", gold)
    return product if product != gold else None


def sides_swapped(gold: str) -> str | None:
    """An equation with its sides swapped, unless it defines a name."""
    sides = gold.split("=")
    if len(sides) != 2 or len(listed(gold)) > 1 or (gold[0].isalpha() and gold[1:2] in "(="):
        return None
    return f"{sides[1].strip()} = {sides[0].strip()}"


def as_inequality(gold: str) -> str | None:
    """An interval as an inequality in x."""
    held = components(gold)
    if held is None or len(held[1]) != 2 or not (held[0] == "[" or held[2] == "]") or "infty" in gold:
        return None
    left, (low, high), right = held
    first, second = ("<" if bracket in "()" else r"\le" for bracket in (left, right))
    return f"{low} {first} x {second} {high}"


def another_letter(gold: str) -> str | None:
    """The variable of a function renamed: f(x) = x + 1 as f(t) = t + 1."""
    match = FUNCTION.match(gold)
    if not match or len(listed(gold)) > 1 or "where" in gold:
        return None
    return re.sub(rf"(?<![\\a-zA-Z]){match[2]}(?![a-zA-Z])", "t", gold)


def other_matrix(gold: str) -> str | None:
    """A matrix in square brackets instead of round ones."""
    return gold.replace("pmatrix", "bmatrix") if "pmatrix" in gold else None


def unicode_minus(gold: str) -> str | None:
    """Minus signs as the character −."""
    return gold.replace("-", "−") if "-" in gold and r"\text" not in gold else None


def _by_algebra(gold: str, change: Callable[[Expr], Basic]) -> str | None:
    """The gold as sympy prints it after `change`, or None where printing would change its letters or names."""
    if not is_scalar(gold) or number(gold) is not None or "_" in gold or "prime" in gold or re.search("[A-Z]", gold):
        return None
    found = next(iter(parse_answer(gold)), None)
    if (
        not isinstance(found, Expr)
        or isinstance(found, Symbol)
        or found.atoms(Function) - found.atoms(exp, sin, cos, log)
    ):
        return None
    return latex(change(cast(Expr, found.doit())), ln_notation=True)


def printed_by_sympy(gold: str) -> str | None:
    """An expression parsed and printed by sympy."""
    return _by_algebra(gold, lambda found: found)


def expanded(gold: str) -> str | None:
    """An expression with its products expanded."""
    return _by_algebra(gold, lambda found: found.expand())


def over_one_denominator(gold: str) -> str | None:
    """An expression over a common denominator."""
    return _by_algebra(gold, together)


def factored(gold: str) -> str | None:
    """An expression in factors."""
    return _by_algebra(gold, factor)


REWRITINGS: tuple[Rewrite, ...] = (
    printed_by_sympy,
    expanded,
    over_one_denominator,
    factored,
    display_fraction,
    spaced,
    big_brackets,
    dollars,
    full_stop,
    reordered_sum,
    reordered_list,
    as_a_set,
    joined_by_and,
    both_signs_written_out,
    decimal_for_fraction,
    fraction_for_decimal,
    slash_for_fraction,
    times_ten_to,
    times_ten_to_in_unicode,
    written_out,
    grouped_thousands,
    latex_thousands,
    trailing_zero,
    named,
    unit_as_text,
    unit_as_words,
    unit_in_roman,
    unit_dropped,
    explicit_product,
    sides_swapped,
    as_inequality,
    another_letter,
    other_matrix,
    unicode_minus,
)
