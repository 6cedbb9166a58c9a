r"""Text that needs no computer algebra: one spelling for equal typography, and numbers written plainly."""

import re
from dataclasses import dataclass
from fractions import Fraction

_THOUSANDS = re.compile(r"(?<![\d.])\d{1,3}(?:(?: |~|\\[,: ]|,?\\!\s?|\{,\})\d{3})+(?!\d)")
_SPACING = re.compile(r"(?<!\\)\\(?:[!,;: ]|q?quad(?![A-Za-z]))|~")
_TYPOGRAPHY = re.compile(r"\\?\$|(?<!\\)\\[()\[\]]|\\(?:left|right|[bB]igg?|displaystyle)(?![A-Za-z])(?!\s*\.)")
_PERCENT = re.compile(r" ?(?:\\text\{ ?)?\b(?:percent|pct)\b(?: ?\})?")
_LOOSE_SPACE = re.compile(r"\s+(?=\\)|\s*([^\w\s\\])\s*")


def clean(text: str) -> str:
    r"""One spelling for what only typography tells apart: `$`, spacing, `\left`, `\dfrac`, `1{,}000`, a full stop, `\approx …`."""
    text = _THOUSANDS.sub(lambda number: re.sub(r"\D", "", number[0]), " ".join(text.split()))
    text = _TYPOGRAPHY.sub("", _SPACING.sub(" ", text)).replace(r"\dfrac", r"\frac").replace(r"\tfrac", r"\frac")
    text = _PERCENT.sub("%", text)
    exact, _, rounded = text.partition(r"\approx")
    return _LOOSE_SPACE.sub(r"\1", exact.strip() or rounded).strip().rstrip(".,;")


@dataclass(frozen=True)
class PlainNumber:
    """A number read from its digits. `decimal`: written with a point or an exponent, hence possibly rounded."""

    value: Fraction
    decimal: bool = False
    percent: bool = False


_INTEGER = re.compile(r"-?\d{1,400}")
_DIGITS = r"(?:\d{1,400}(?:\.\d{0,400})?|\.\d{1,400})"
_NUMBER = re.compile(
    rf"(?P<sign>[+-]?)(?:"
    rf"(?P<grouped>\d{{1,3}}(?:,\d{{3}}){{1,100}}(?:\.\d{{1,400}})?)"
    rf"|(?:(?P<whole>\d{{1,400}}) )?(?P<top>{_DIGITS})/(?P<bottom>{_DIGITS})"
    rf"|(?P<units>\d{{1,400}})?\\frac ?(?:\{{(?P<num>[+-]?{_DIGITS})\}}\{{(?P<den>{_DIGITS})\}}|(?P<n>\d)(?P<d>\d))"
    rf"|(?P<mantissa>{_DIGITS})(?:[eE](?P<exponent>[+-]?\d{{1,3}})"
    rf"|(?:\\times|\\cdot|\*) ?10\^(?:\{{(?P<power>[+-]?\d{{1,3}})\}}|(?P<digit>\d)))?"
    rf")(?P<percent>\\?%)?"
)


def read_number(text: str) -> PlainNumber | None:
    r"""Integers, decimals, `1,234`, `a/b`, `\frac{a}{b}`, `3\frac{1}{2}`, `1.5e-3`, `1.5\times10^{-3}`; with a sign or `\%`.

    `text` is `clean`. `2e-1` is 0.2 here, not 2·e − 1. None for anything else, a zero denominator, or more than 400 digits.
    """
    if _INTEGER.fullmatch(text):
        return PlainNumber(Fraction(int(text)))
    if not (match := _NUMBER.fullmatch(text)):
        return None
    part = {name: found for name, found in match.groupdict().items() if found}
    value = _value(part)
    if value is None:
        return None
    decimal = "." in text or "exponent" in part
    return PlainNumber(-value if part.get("sign") == "-" else value, decimal, "percent" in part)


def _value(part: dict[str, str]) -> Fraction | None:
    """The unsigned value of the named parts of a number; None if it has none."""
    if "grouped" in part:
        return Fraction(part["grouped"].replace(",", ""))
    if "mantissa" in part:
        power = part.get("exponent") or part.get("power") or part.get("digit") or "0"
        return Fraction(part["mantissa"]) * Fraction(10) ** int(power)
    top = Fraction(part.get("top") or part.get("num") or part["n"])
    bottom = Fraction(part.get("bottom") or part.get("den") or part["d"])
    whole = part.get("whole") or part.get("units")
    if not bottom or (whole and not 0 < top < bottom):  # 5\frac{6}{1} is no mixed number
        return None
    return Fraction(whole or 0) + top / bottom


def same_number(gold: PlainNumber, answer: PlainNumber) -> bool:
    r"""Exact, unless one was written as a decimal: then to six places (math-verify's rule), and to one part in a thousand
    below 0.001, where six places would make every small number equal to 0.

    A per cent sign on one side only is ignored or carried out: `28\%` equals 28 and 0.28.
    """
    if gold.percent is not answer.percent:
        plain, percent = (answer, gold) if gold.percent else (gold, answer)
        return any(same_number(plain, PlainNumber(percent.value / n, percent.decimal)) for n in (1, 100))
    if not (gold.decimal or answer.decimal):
        return gold.value == answer.value
    return abs(gold.value - answer.value) <= min(Fraction(1, 10**6), abs(gold.value) / 1000)
