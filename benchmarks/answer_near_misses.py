"""Near misses of a gold answer: each resembles the gold and differs in value.

Each function takes the text of a gold and returns an answer, or None if it does not apply.
"""

import re

from benchmarks.answer_rewrites import (
    FUNCTION,
    SCIENTIFIC,
    UNIT,
    Rewrite,
    components,
    is_integer,
    is_scalar,
    listed,
    number,
    parts,
)


def _with_digit(gold: str, index: int) -> str:
    return gold[:index] + str((int(gold[index]) + 1) % 10) + gold[index + 1 :]


def last_digit_up(gold: str) -> str | None:
    """The last digit raised by one, outside the exponent of e-notation and outside a unit."""
    text = re.sub(r"e-?\d+$|\\(?:text|mbox)\{[^{}]*\}(?:\^\d)?$", "", gold)
    digits = [index for index, character in enumerate(text) if character.isdigit()]
    return _with_digit(gold, digits[-1]) if digits else None


def first_digit_up(gold: str) -> str | None:
    """The first digit other than 0 raised by one."""
    digits = [index for index, character in enumerate(gold) if character in "123456789"]
    return _with_digit(gold, digits[0]) if digits else None


def sign_flipped(gold: str) -> str | None:
    """The sign of the first answer changed: p - q as -(p - q)."""
    first, *others = listed(gold)
    if not is_scalar(first) or number(first) == 0 or r"\text" in first or r"\begin" in first:
        return None
    if re.fullmatch(r"[A-Za-z]+", first) or ("_" in first and number(first) is None and first[0].isdigit()):
        return None
    simple = number(first) is not None or len(parts(first, "+-")) == 1
    flipped = first[1:] if first.startswith("-") and simple else f"-{first}" if simple else f"-({first})"
    return ", ".join([flipped, *others])


def ten_times(gold: str) -> str | None:
    """A number times ten."""
    value = number(gold)
    if not value:
        return None
    match = SCIENTIFIC.fullmatch(gold)
    if match:
        return f"{match[1]}e{int(match[2]) + 1}"
    return str(value * 10) if value.denominator == 1 else f"{float(value) * 10:.8g}"


def plus_one(gold: str) -> str | None:
    """Increase by one, except for a rounded number, whose rounding may be larger than one."""
    if number(gold) is not None and not is_integer(gold):
        return None
    return (
        f"{gold}+1" if is_scalar(gold) and not UNIT.search(gold) and "_" not in gold and r"\text" not in gold else None
    )


def a_thousandth_more(gold: str) -> str | None:
    """An integer increased by 0.001."""
    return f"{gold}.001" if is_integer(gold) else None


def doubled(gold: str) -> str | None:
    """Twice an expression."""
    scalar = is_scalar(gold) and number(gold) is None and "_" not in gold and not UNIT.search(gold)
    return f"2({gold})" if scalar and r"\text" not in gold else None


def other_letter(gold: str) -> str | None:
    """The only letter of an expression replaced: 2n as 2z."""
    letters = set(re.findall(r"(?<![\\a-zA-Z])[a-zA-Z](?![a-zA-Z])", gold)) - {"e", "i", "z"}
    if not is_scalar(gold) or len(letters) != 1 or r"\text" in gold or "mbox" in gold:
        return None
    return re.sub(rf"(?<![\\a-zA-Z]){letters.pop()}(?![a-zA-Z])", "z", gold)


def sum_becomes_difference(gold: str) -> str | None:
    """The second term of a sum with the other sign: p - q as p + q."""
    terms = parts(gold, "+-")
    if not is_scalar(gold) or len(terms) < 2 or "e-" in gold:
        return None
    first, second, *others = terms
    flipped = f"+{second[1:]}" if second.startswith("-") else f"-{second.removeprefix('+')}"
    return "".join([first, flipped, *others])


def root_dropped(gold: str) -> str | None:
    r"""A root replaced by its argument: \sqrt{3} as 3."""
    return re.sub(r"\\sqrt ?\{(\w+)\}", r"\1", gold, count=1) if re.search(r"\\sqrt ?\{\w+\}", gold) else None


def symbol_dropped(gold: str) -> str | None:
    """The last letter or Greek letter of a product dropped: 6m as 6, 2\\pi as 2."""
    match = re.fullmatch(r"(.*[\d}]) ?(?:[a-zA-Z]|\\(?:pi|tau|alpha))", gold)
    return match[1] if match and is_scalar(gold) and "_" not in gold else None


def member_dropped(gold: str) -> str | None:
    """A list without its last member."""
    *head, _ = listed(gold)
    return ", ".join(head) if head else None


def member_added(gold: str) -> str | None:
    """A list with 9999 as a further member."""
    members = listed(gold)
    return ", ".join([*members, "9999"]) if len(members) > 1 else None


def member_doubled(gold: str) -> str | None:
    """The last member of a list replaced by the first."""
    first, *others = listed(gold)
    return ", ".join([first, *others[:-1], first]) if others and first != others[-1] else None


def hedged(gold: str) -> str | None:
    """The gold or 9999."""
    return rf"{gold} \text{{ or }} 9999"


def rounded_to_two_places(gold: str) -> str | None:
    """A fraction rounded to two decimal places: 14/3 as 4.67."""
    value = number(gold)
    if value is None or "frac" not in gold or (value * 100).denominator == 1:
        return None
    return f"{float(value):.2f}"


def other_bracket(gold: str) -> str | None:
    """An interval or pair with the other opening bracket: (0, 1) as [0, 1)."""
    held = components(gold)
    if held is None or len(held[1]) != 2 or "infty" in held[1][0]:
        return None
    left, inner, right = held
    return f"{'[' if left == '(' else '('}{', '.join(inner)}{right}"


def components_swapped(gold: str) -> str | None:
    """A tuple with its first two components swapped."""
    held = components(gold)
    if held is None:
        return None
    left, (first, second, *others), right = held
    return f"{left}{', '.join([second, first, *others])}{right}" if first != second else None


def component_dropped(gold: str) -> str | None:
    """A tuple of three or more without its last component."""
    held = components(gold)
    return f"{held[0]}{', '.join(held[1][:-1])}{held[2]}" if held and len(held[1]) > 2 else None


def other_name(gold: str) -> str | None:
    """The function or the variable renamed: f(x) = x as g(x) = x, x = 5 as q = 5."""
    if len(listed(gold)) > 1 or "where" in gold:
        return None
    if match := FUNCTION.match(gold):
        return ("g" if match[1] != "g" else "h") + gold[1:]
    return f"q{gold[1:]}" if re.match(r"[a-zA-Z] ?=", gold) else None


def other_word(gold: str) -> str | None:
    """Another word, or the next letter of a multiple choice."""
    match = re.fullmatch(r"\\text\{(\(?)([A-Za-z]+)(\)?)\}", gold)
    if not match:
        return None
    word = chr(ord("A") + (ord(match[2]) - ord("A") + 1) % 5) if len(match[2]) == 1 else "none"
    return rf"\text{{{match[1]}{word}{match[3]}}}"


def strict_for_weak(gold: str) -> str | None:
    """A weak inequality made strict."""
    strict = re.sub(r"\\geq?(?:slant)?(?![a-z])", ">", re.sub(r"\\leq?(?:slant)?(?![a-z])", "<", gold))
    return strict if strict != gold else None


def intersection_for_union(gold: str) -> str | None:
    """Unions replaced by intersections."""
    return gold.replace(r"\cup", r"\cap") if r"\cup" in gold else None


def other_base(gold: str) -> str | None:
    """A number in the next higher base: 52 in base 8 as 52 in base 9."""
    match = re.fullmatch(r"(\d+)_\{?(\d)\}?", gold)
    return f"{match[1]}_{{{int(match[2]) + 1}}}" if match else None


def million(gold: str) -> str | None:
    """An integer followed by the word million, which changes its value."""
    return rf"{gold} \text{{ million}}" if is_integer(gold) and gold != "0" else None


def equated_with_itself(gold: str) -> str | None:
    """An equation of the gold with itself: 9 as 9=9."""
    return f"{gold}={gold}" if is_scalar(gold) and "=" not in gold and not re.search("[a-zA-Z]", gold) else None


def a_chain(gold: str) -> str | None:
    """A number equated with another: 9 as 9 = 9999."""
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
