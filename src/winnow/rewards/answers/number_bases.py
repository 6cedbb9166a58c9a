r"""Numbers in a written base: `1011_2`, `(1011)_{2}`, `\text{A5}_{11}`, `1011_{\text{two}}`, `1011 \text{ base } 2`."""

import re
from dataclasses import dataclass

from winnow.rewards.answers.text import without_unit
from winnow.rewards.answers.written_numbers import VALUES


@dataclass(frozen=True)
class InBase:
    """Digits as they are written, without zeros that do not count, and their base."""

    digits: str
    base: int


_TEXT = r"\\(?:text(?:rm|bf|it|tt|normal)?|math(?:rm|bf|tt|it)|mbox|operatorname|overline) ?"
_DIGITS = r"[\dA-Za-z]{1,200}(?:[ ,][\dA-Za-z]{3,8})*(?:\.[\dA-Za-z]{1,200})?"
_NUMBER = rf"(?P<sign>-?)(?:{_TEXT}\{{ ?(?P<text>{_DIGITS}) ?\}}|(?P<bare>{_DIGITS}))"
_BASE = (
    rf"(?:\d{{1,2}}|[a-z]{{3,8}}|\(\d{{1,2}}\)|{_TEXT}\{{ ?\(?(?:(?:in )?base[- ~]?)?(?:\d{{1,2}}|[a-z]{{3,8}})\)? ?\}}"
    rf"|{_TEXT}\{{ ?base[- ~]?\}} ?\d{{1,2}})"
)
_IN_BASE = re.compile(
    rf"(?P<open>\\\{{|[(\[{{]?){_NUMBER}(?P<close>\\\}}|[)\]}}]?)"
    rf"(?: ?_ ?(?:\{{ ?(?P<braced>{_BASE}|base[- ]?\d{{1,2}}) ?\}}|(?P<single>\d{{1,2}}|{_TEXT}\{{[a-z]{{3,8}}\}}))"
    rf"| ?(?:{_TEXT}\{{ ?)?\(?,? ?(?:in )?base[- ~]?\}}? ?_?\{{?(?P<said>\d{{1,2}}|[a-z]{{3,11}})\}}?\)? ?\}}?)"
)
_PAIRS = {"": "", "(": ")", "[": "]", "{": "}", "\\{": "\\}"}
_NAMED = {"binary": 2, "ternary": 3, "octal": 8, "decimal": 10, "hexadecimal": 16, "hex": 16}
# A digit that is set as text within a number, \text{A}5_{11}, and a sign before a bracket, -(37)_8.
_LETTER_AS_TEXT = re.compile(
    rf"{_TEXT}\{{ ?([A-Za-z\d]+) ?\}}(?=[A-Z\d(]|{_TEXT})|(?<=[A-Z\d]){_TEXT}\{{ ?([A-Z]) ?\}}"
)
_SIGNED_BRACKET = re.compile(r"-([(\[{])(?=[\dA-Za-z])")


def read_in_base(text: str, letters: bool = False) -> InBase | None:
    r"""The digits and the base of the normalized `text`; None if it is no number in a written base.

    Letters below the base are digits if they are set as text or in brackets, or are capitals beside a digit: `AB_{12}`
    and `2a_{16}` may be variables. With `letters`, for a text that is compared with a number in a base, they are digits
    too.
    """
    if "_" not in text and "base" not in text:
        return None
    text = _SIGNED_BRACKET.sub(r"\1-", _LETTER_AS_TEXT.sub(lambda found: found[1] or found[2], text))
    if not (found := _IN_BASE.fullmatch(text)):
        return None
    digits, base = found["text"] or found["bare"], _base(found["braced"] or found["single"] or found["said"])
    marked = found["open"] != ""
    if _PAIRS[found["open"]] != found["close"] or base is None:
        return None
    capitals = digits == digits.upper() and any(map(str.isdigit, digits))
    if not (letters or found["text"] is not None or (marked and digits == digits.upper()) or capitals):
        return None
    digits = digits.upper().replace(" ", "").replace(",", "")
    if any(int(digit, 36) >= base for digit in digits if digit != "."):
        return None
    return InBase(found["sign"] + trimmed(digits), base)


def trimmed(digits: str) -> str:
    """`digits` without leading zeros and, after a point, without trailing ones."""
    if "." in digits:
        digits = digits.rstrip("0").rstrip(".")
    return digits.lstrip("0") or "0"


def _base(name: str) -> int | None:
    found = re.search(r"\d{1,2}", name)
    word = re.search(r"([a-z]{3,8})\)? ?\}?$", name)
    value = int(found[0]) if found else (VALUES | _NAMED).get(word[1]) if word else None
    return value if value is not None and 2 <= value <= 36 else None


def same_in_base(gold: str, answer: str) -> bool | None:
    """Whether two normalized texts are the same digits in the same base; None if no base is written in either.

    An answer may omit the base of its gold; where the gold has none, an answer may only name base 10. Whatever else an
    answer says, it is not a number in the base of its gold.
    """
    one, other = read_in_base(gold), read_in_base(answer)
    if one is None and other is None:
        return None
    one, other = one or read_in_base(gold, letters=True), other or _of_answer(answer)
    if one is None:
        return other is not None and other.base == 10 and _plain_digits(gold) == other.digits
    if other is None:
        return _plain_digits(answer) == one.digits
    return one == other


def _of_answer(answer: str) -> InBase | None:
    whole = found[1] if (found := _ALL_AS_TEXT.fullmatch(answer)) else answer
    return read_in_base(whole, letters=True) or read_in_base(without_unit(whole), letters=True)


_ALL_AS_TEXT = re.compile(rf"{_TEXT}\{{([^{{}}]* base [^{{}}]*)\}}")
_PLAIN = re.compile(rf"\(?(-?)(?:{_TEXT}\{{)?([\dA-Z]+(?:\.[\dA-Z]+)?)\}}?\)?")


def _plain_digits(text: str) -> str | None:
    return found[1] + trimmed(found[2]) if (found := _PLAIN.fullmatch(text)) else None
