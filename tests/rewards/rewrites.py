r"""Answers made from a gold: rewritings that leave it what it is, and near misses that do not.

Each function takes the gold's text and returns an answer, or None where it does not apply; none of them computes with the
package that it is there to judge, but for reading plain numbers.
"""

import re
from collections.abc import Callable
from fractions import Fraction
from typing import cast

from sympy import Basic, Expr, Function, Symbol, cos, exp, factor, latex, log, sin, together

from winnow.rewards.answer_text import normalize, read_number
from winnow.rewards.symbolic import parse_answer

Rewrite = Callable[[str], str | None]

_SCIENTIFIC = re.compile(r"(-?\d+(?:\.\d+)?)e(-?\d+)")
_UNIT = re.compile(r"\\(?:text|mbox)\{[^{}]*\}(?:\^\d)?$|\^(?:\{\\circ\}|\\circ)$|\\?%$|^\\\$")
_PLAIN_FRACTION = re.compile(r"(-?)\\[dt]?frac ?(?:\{(\d+)\}\{(\d+)\}|(\d)(\d)| (\d)(\d))")
_FUNCTION = re.compile(r"^([a-zA-Z])\(([a-z])\) ?=")
_RELATION = re.compile(r"=|<|>|\\(?:in|leq?|geq?|geqslant|leqslant|cup|pm|text|mbox|begin)(?![a-z])|where")


def parts(text: str, at: str) -> list[str]:
    """`text` cut at the characters `at` that lie outside of brackets; a sign stays with what follows it."""
    found, depth, start = [], 0, 0
    for index, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if character in at and not depth and text[start:index].strip():
            found.append(text[start:index].strip())
            start = index + (character == ",")
    return [*found, text[start:].strip()]


def listed(gold: str) -> list[str]:
    if read_number(normalize(gold)) is not None or "where" in gold:
        return [gold]
    inner = gold.removeprefix(r"\{").removesuffix(r"\}") if gold.startswith(r"\{") else gold
    return parts(inner, ",")


def is_scalar(gold: str) -> bool:
    return (
        len(listed(gold)) == 1
        and not _RELATION.search(gold)
        and not re.match(r"^\s*(?:\\quad|\\left)?\s*[(\[].*,", gold)
    )


def number(gold: str) -> Fraction | None:
    found = read_number(normalize(gold))
    return None if found is None else found.value


def is_integer(gold: str) -> bool:
    return re.fullmatch(r"-?\d+", gold) is not None


def components(gold: str) -> tuple[str, list[str], str] | None:
    """A single tuple or interval: its brackets and what they hold."""
    plain = re.sub(r"\\left|\\right|\\quad", "", gold).strip()
    inner = parts(plain[1:-1], ",") if re.fullmatch(r"[(\[].*[)\]]", plain) and len(parts(plain, ",")) == 1 else []
    balanced = plain[1:-1].count("(") == plain[1:-1].count(")") and r"\cup" not in plain
    return (plain[0], inner, plain[-1]) if len(inner) > 1 and balanced else None


# --- rewritings ---------------------------------------------------------------------------------------------------------------


def display_fraction(gold: str) -> str | None:
    return re.sub(r"\\[dt]?frac", r"\\dfrac", gold) if "frac" in gold else None


def spaced(gold: str) -> str | None:
    if read_number(normalize(gold)) is not None or r"\text" in gold:
        return None
    loose = re.sub(r"(?<=[\w})]) ?([+=,]) ?(?=[\w\\({])", r" \1\\, ", gold)
    return loose if loose != gold else None


def big_brackets(gold: str) -> str | None:
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
    return f"${gold}$" if "$" not in gold else None


def full_stop(gold: str) -> str | None:
    return f"{gold}." if not gold.endswith(".") else None


def reordered_sum(gold: str) -> str | None:
    terms = parts(gold, "+-")
    if not is_scalar(gold) or len(terms) < 2 or "e-" in gold or r"\\" in gold:
        return None
    first, *others = terms
    return "".join([*reversed(others), first if first.startswith("-") else f"+{first}"]).removeprefix("+")


def reordered_list(gold: str) -> str | None:
    members = listed(gold)
    return ", ".join(reversed(members)) if len(members) > 1 else None


def as_a_set(gold: str) -> str | None:
    members = listed(gold)
    if len(members) < 2 or gold.startswith(r"\{") or len(set(members)) < len(members):
        return None
    return rf"\{{{', '.join(members)}\}}"


def joined_by_and(gold: str) -> str | None:
    *head, last = listed(gold)
    return rf"{', '.join(head)} \text{{ and }} {last}" if head else None


def both_signs_written_out(gold: str) -> str | None:
    if r"\pm" not in gold or gold.startswith(r"\{"):
        return None
    lower, upper = (gold.replace(r"\pm", sign) for sign in "-+")
    return f"{lower}, {upper}"


def decimal_for_fraction(gold: str) -> str | None:
    value = number(gold)
    return f"{float(value):.9f}".rstrip("0") if value is not None and "/" in gold + "/" * ("frac" in gold) else None


def fraction_for_decimal(gold: str) -> str | None:
    value = number(gold)
    if value is None or "." not in gold or "e" in gold or value.denominator == 1:
        return None
    return rf"{'-' * (value < 0)}\frac{{{abs(value.numerator)}}}{{{value.denominator}}}"


def slash_for_fraction(gold: str) -> str | None:
    match = _PLAIN_FRACTION.fullmatch(gold)
    if not match:
        return None
    top, bottom = (found for found in match.groups()[1:] if found)
    return f"{match[1]}{top}/{bottom}"


def times_ten_to(gold: str) -> str | None:
    return rf"{match[1]} \times 10^{{{match[2]}}}" if (match := _SCIENTIFIC.fullmatch(gold)) else None


def times_ten_to_in_unicode(gold: str) -> str | None:
    return f"{match[1]}×10^{match[2]}".replace("-", "−") if (match := _SCIENTIFIC.fullmatch(gold)) else None


def written_out(gold: str) -> str | None:
    """4.5e5 as 450000."""
    value = number(gold)
    match = _SCIENTIFIC.fullmatch(gold)
    return str(value) if match and value is not None and value.denominator == 1 and 0 <= int(match[2]) <= 12 else None


def grouped_thousands(gold: str) -> str | None:
    return f"{int(gold):,}" if is_integer(gold) and abs(int(gold)) >= 1000 else None


def latex_thousands(gold: str) -> str | None:
    grouped = grouped_thousands(gold)
    return grouped.replace(",", "{,}") if grouped else None


def trailing_zero(gold: str) -> str | None:
    return f"{gold}.0" if is_integer(gold) else None


def named(gold: str) -> str | None:
    return f"x = {gold}" if number(gold) is not None else None


def unit_as_text(gold: str) -> str | None:
    return rf"{gold} \text{{ cm}}" if number(gold) is not None and not _UNIT.search(gold) else None


def unit_as_words(gold: str) -> str | None:
    return (
        f"{gold} square units" if number(gold) is not None and not _UNIT.search(gold) and "frac" not in gold else None
    )


def unit_in_roman(gold: str) -> str | None:
    return rf"{gold}\,\mathrm{{m/s^2}}" if number(gold) is not None and not _UNIT.search(gold) else None


def unit_dropped(gold: str) -> str | None:
    return _UNIT.sub("", gold).strip() if _UNIT.search(gold) and gold != _UNIT.search(gold)[0] else None  # pyright: ignore[reportOptionalSubscript]


def explicit_product(gold: str) -> str | None:
    if r"\text" in gold or r"\mbox" in gold or "where" in gold or number(gold) is not None:
        return None
    product = re.sub(r"(?<![\d_^.{])(\d+) ?(?=[a-zA-Z])", r"\1 \\cdot ", gold)
    return product if product != gold else None


def sides_swapped(gold: str) -> str | None:
    sides = gold.split("=")
    if len(sides) != 2 or len(listed(gold)) > 1 or (gold[0].isalpha() and gold[1:2] in "(="):
        return None
    return f"{sides[1].strip()} = {sides[0].strip()}"


def as_inequality(gold: str) -> str | None:
    held = components(gold)
    if held is None or len(held[1]) != 2 or not (held[0] == "[" or held[2] == "]") or "infty" in gold:
        return None
    left, (low, high), right = held
    first, second = ("<" if bracket in "()" else r"\le" for bracket in (left, right))
    return f"{low} {first} x {second} {high}"


def another_letter(gold: str) -> str | None:
    """f(x) = x + 1 as f(t) = t + 1."""
    match = _FUNCTION.match(gold)
    if not match or len(listed(gold)) > 1 or "where" in gold:
        return None
    return re.sub(rf"(?<![\\a-zA-Z]){match[2]}(?![a-zA-Z])", "t", gold)


def other_matrix(gold: str) -> str | None:
    return gold.replace("pmatrix", "bmatrix") if "pmatrix" in gold else None


def unicode_minus(gold: str) -> str | None:
    return gold.replace("-", "−") if "-" in gold and r"\text" not in gold else None


def _by_algebra(gold: str, change: Callable[[Expr], Basic]) -> str | None:
    """The gold as sympy prints it after `change`; its letters must survive the round trip."""
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
    return _by_algebra(gold, lambda found: found)


def expanded(gold: str) -> str | None:
    return _by_algebra(gold, lambda found: found.expand())


def over_one_denominator(gold: str) -> str | None:
    return _by_algebra(gold, together)


def factored(gold: str) -> str | None:
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


# --- near misses --------------------------------------------------------------------------------------------------------------


def _with_digit(gold: str, index: int) -> str:
    return gold[:index] + str((int(gold[index]) + 1) % 10) + gold[index + 1 :]


def last_digit_up(gold: str) -> str | None:
    """The last digit that is no exponent of e-notation, and no unit's."""
    text = re.sub(r"e-?\d+$|\\(?:text|mbox)\{[^{}]*\}(?:\^\d)?$", "", gold)
    digits = [index for index, character in enumerate(text) if character.isdigit()]
    return _with_digit(gold, digits[-1]) if digits else None


def first_digit_up(gold: str) -> str | None:
    digits = [index for index, character in enumerate(gold) if character in "123456789"]
    return _with_digit(gold, digits[0]) if digits else None


def sign_flipped(gold: str) -> str | None:
    first, *others = listed(gold)
    if not is_scalar(first) or number(first) == 0 or r"\text" in first or r"\begin" in first:
        return None
    if re.fullmatch(r"[A-Za-z]+", first) or ("_" in first and number(first) is None and first[0].isdigit()):
        return None
    simple = number(first) is not None or len(parts(first, "+-")) == 1
    flipped = first[1:] if first.startswith("-") and simple else f"-{first}" if simple else f"-({first})"
    return ", ".join([flipped, *others])


def ten_times(gold: str) -> str | None:
    value = number(gold)
    if not value:
        return None
    match = _SCIENTIFIC.fullmatch(gold)
    if match:
        return f"{match[1]}e{int(match[2]) + 1}"
    return str(value * 10) if value.denominator == 1 else f"{float(value) * 10:.8g}"


def plus_one(gold: str) -> str | None:
    """Of a rounded number one may be within the rounding."""
    if number(gold) is not None and not is_integer(gold):
        return None
    return (
        f"{gold}+1" if is_scalar(gold) and not _UNIT.search(gold) and "_" not in gold and r"\text" not in gold else None
    )


def a_thousandth_more(gold: str) -> str | None:
    return f"{gold}.001" if is_integer(gold) else None


def doubled(gold: str) -> str | None:
    scalar = is_scalar(gold) and number(gold) is None and "_" not in gold and not _UNIT.search(gold)
    return f"2({gold})" if scalar and r"\text" not in gold else None


def other_letter(gold: str) -> str | None:
    """2n as 2z."""
    letters = set(re.findall(r"(?<![\\a-zA-Z])[a-zA-Z](?![a-zA-Z])", gold)) - {"e", "i", "z"}
    if not is_scalar(gold) or len(letters) != 1 or r"\text" in gold or "mbox" in gold:
        return None
    return re.sub(rf"(?<![\\a-zA-Z]){letters.pop()}(?![a-zA-Z])", "z", gold)


def sum_becomes_difference(gold: str) -> str | None:
    terms = parts(gold, "+-")
    if not is_scalar(gold) or len(terms) < 2 or "e-" in gold:
        return None
    first, second, *others = terms
    flipped = f"+{second[1:]}" if second.startswith("-") else f"-{second.removeprefix('+')}"
    return "".join([first, flipped, *others])


def root_dropped(gold: str) -> str | None:
    return re.sub(r"\\sqrt ?\{(\w+)\}", r"\1", gold, count=1) if re.search(r"\\sqrt ?\{\w+\}", gold) else None


def symbol_dropped(gold: str) -> str | None:
    """6m as 6, 2\\pi as 2: the last letter or Greek letter of a product."""
    match = re.fullmatch(r"(.*[\d}]) ?(?:[a-zA-Z]|\\(?:pi|tau|alpha))", gold)
    return match[1] if match and is_scalar(gold) and "_" not in gold else None


def member_dropped(gold: str) -> str | None:
    *head, _ = listed(gold)
    return ", ".join(head) if head else None


def member_added(gold: str) -> str | None:
    members = listed(gold)
    return ", ".join([*members, "9999"]) if len(members) > 1 else None


def member_doubled(gold: str) -> str | None:
    """The first in the last one's place."""
    first, *others = listed(gold)
    return ", ".join([first, *others[:-1], first]) if others and first != others[-1] else None


def hedged(gold: str) -> str | None:
    return rf"{gold} \text{{ or }} 9999"


def rounded_to_two_places(gold: str) -> str | None:
    value = number(gold)
    if value is None or "frac" not in gold or (value * 100).denominator == 1:
        return None
    return f"{float(value):.2f}"


def other_bracket(gold: str) -> str | None:
    held = components(gold)
    if held is None or len(held[1]) != 2 or "infty" in held[1][0]:
        return None
    left, inner, right = held
    return f"{'[' if left == '(' else '('}{', '.join(inner)}{right}"


def components_swapped(gold: str) -> str | None:
    held = components(gold)
    if held is None:
        return None
    left, (first, second, *others), right = held
    return f"{left}{', '.join([second, first, *others])}{right}" if first != second else None


def component_dropped(gold: str) -> str | None:
    held = components(gold)
    return f"{held[0]}{', '.join(held[1][:-1])}{held[2]}" if held and len(held[1]) > 2 else None


def other_name(gold: str) -> str | None:
    """f(x) = x as g(x) = x, x = 5 as q = 5."""
    if len(listed(gold)) > 1 or "where" in gold:
        return None
    if match := _FUNCTION.match(gold):
        return ("g" if match[1] != "g" else "h") + gold[1:]
    return f"q{gold[1:]}" if re.match(r"[a-zA-Z] ?=", gold) else None


def other_word(gold: str) -> str | None:
    match = re.fullmatch(r"\\text\{(\(?)([A-Za-z]+)(\)?)\}", gold)
    if not match:
        return None
    word = chr(ord("A") + (ord(match[2]) - ord("A") + 1) % 5) if len(match[2]) == 1 else "none"
    return rf"\text{{{match[1]}{word}{match[3]}}}"


def strict_for_weak(gold: str) -> str | None:
    strict = re.sub(r"\\geq?(?:slant)?(?![a-z])", ">", re.sub(r"\\leq?(?:slant)?(?![a-z])", "<", gold))
    return strict if strict != gold else None


def intersection_for_union(gold: str) -> str | None:
    return gold.replace(r"\cup", r"\cap") if r"\cup" in gold else None


def other_base(gold: str) -> str | None:
    match = re.fullmatch(r"(\d+)_\{?(\d)\}?", gold)
    return f"{match[1]}_{{{int(match[2]) + 1}}}" if match else None


def million(gold: str) -> str | None:
    return rf"{gold} \text{{ million}}" if is_integer(gold) and gold != "0" else None


def equated_with_itself(gold: str) -> str | None:
    return f"{gold}={gold}" if is_scalar(gold) and "=" not in gold and not re.search("[a-zA-Z]", gold) else None


def a_chain(gold: str) -> str | None:
    return f"{gold} = 9999" if number(gold) is not None else None


NEAR_MISSES: tuple[Rewrite, ...] = (
    last_digit_up,
    first_digit_up,
    sign_flipped,
    ten_times,
    plus_one,
    a_thousandth_more,
    doubled,
    other_letter,
    sum_becomes_difference,
    root_dropped,
    symbol_dropped,
    member_dropped,
    member_added,
    member_doubled,
    hedged,
    rounded_to_two_places,
    other_bracket,
    components_swapped,
    component_dropped,
    other_name,
    other_word,
    strict_for_weak,
    intersection_for_union,
    other_base,
    million,
    equated_with_itself,
    a_chain,
)
