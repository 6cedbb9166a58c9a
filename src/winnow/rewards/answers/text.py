r"""Answers as text: the last `\boxed{…}` of a response, normalized typography, plain numbers, and units."""

import re
from dataclasses import dataclass
from fractions import Fraction

from winnow.rewards.answers.unicode_math import to_latex
from winnow.rewards.answers.written_numbers import (
    joined_thousands,
    multiplied_by_word,
    number_words_as_digits,
    numbers_out_of_text,
    repeating_decimals_as_fractions,
)

_BOX_TOKEN = re.compile(r"\\boxed\s*\{|\\.|[{}]", re.DOTALL)


def last_boxed(response: str) -> str | None:
    r"""Content of the box that opens last among those that close; None if there is no closed box or it is blank.

    Braces are matched with LaTeX's escapes in mind: `\{` opens nothing. Of nested boxes the inner one counts.
    `\boxed 5` and `\fbox{5}` are not accepted: they are 2 and 0 of the 7,620 boxes in MATH's training solutions, and
    every further spelling is one more loophole for a policy to find. The text is read in one pass, so that even 20,000
    unclosed boxes take time in proportion to their length.
    """
    opened: list[re.Match[str]] = []
    last, content = -1, ""
    for token in _BOX_TOKEN.finditer(response):
        if token[0].endswith("{") and token[0] != r"\{":
            opened.append(token)
        elif token[0] == "}" and opened:
            start = opened.pop()
            if start[0] != "{" and start.start() > last:
                last, content = start.start(), response[start.end() : token.start()]
    return content.strip() or None


_PLAIN = re.compile(r"-?[0-9]{1,400}(?:\.[0-9]{1,400})?")
LONGEST_RESPELLED = 4096
"""Longer texts keep the spelling of their numbers, letters and signs: a bound on the time that they can take."""
# Groups of three digits: 1 000, 1~000, 1\,000, 1\:000, 1\!000, 1,\!000 or 1{,}000. `read_number` reads 1,000.
_THOUSANDS = re.compile(r"(?<![\d.])\d{1,3}(?:(?: |~|\\[,: ]|,?\\!\s?|\{,\})\d{3})+(?!\d)")
# Spacing commands, but not the `\\` that ends a row of a matrix.
_SPACING = re.compile(r"(?<!\\)\\(?:[!,;: ]|q?quad(?![A-Za-z]))|~")
# Dollar signs, \( \) \[ \], \left and the like; the invisible delimiters `\left.` and `\right.` stay.
_TYPOGRAPHY = re.compile(
    r"\\?\$|(?<!\\)\\[()\[\]]|\\(?:left|right|[bB]igg?[lmr]?|displaystyle)(?![A-Za-z])(?!\s*\.)|[€£¥₹]"
)
_PERCENT = re.compile(r" ?(\\text\{ ?)?\b(?:percent|pct)\b(?(1) ?\})")
_SPACED_LIST = re.compile(r"\s*\d{1,3}(?:, \d{3})+\s*")
# Space before a command, and around every character that is no letter, digit, underscore or backslash.
_LOOSE_SPACE = re.compile(r"\s+(?=\\)|\s*([^\w\s\\])\s*")


def normalize(text: str) -> str:
    r"""`text` in one spelling, for texts that differ in typography alone.

    Typography is `$`, spacing, `\left`, `\dfrac`, `×`, `1{,}000`, upright letters and a full stop. Of `x \approx y` the
    part before `\approx` is kept. `100,200` is a hundred thousand two hundred, but `100, 200` are two numbers.
    `same_words`, `read_number`, `without_unit` and the guards of `rules` take normalized text.
    """
    if _PLAIN.fullmatch(text):
        return text
    text = text if text.isascii() else to_latex(text)
    text = _THOUSANDS.sub(lambda number: re.sub(r"\D", "", number[0]), " ".join(text.split()))
    text = _TYPOGRAPHY.sub("", _SPACING.sub(" ", text)).replace(r"\dfrac", r"\frac").replace(r"\tfrac", r"\frac")
    text = _PERCENT.sub("%", text)
    if _SPACED_LIST.fullmatch(text):
        text = text.replace(", ", ";")
    if len(text) <= LONGEST_RESPELLED:
        text = _respelled(text)
    exact, _, rounded = text.partition(r"\approx")
    return _LOOSE_SPACE.sub(r"\1", exact.strip() or rounded).strip().rstrip(".,;")


_UNUSUAL = re.compile(
    r"\\(?:text|math|mbox|operatorname|over|bar|d?dot|[lc]dots|wide|varnothing|degree|imath|bm|boldsymbol|emph|rm|not"
    r"|under|middle|[lr]brace|(?:[lg]eq|neq)(?:slant)?[a-pr-z])|\\\{ ?\\\}|\.\(|\.\.\."
)


def _respelled(text: str) -> str:
    """Numbers as plain digits, and e, i and the empty set in one spelling each, wherever they stand in `text`."""
    if "," in text:
        text = joined_thousands(text)
    if _UNUSUAL.search(text):
        for spelling, better in _RESPELLED:
            text = spelling.sub(better, text)
        text = repeating_decimals_as_fractions(_UPRIGHT.sub(_upright_letter, numbers_out_of_text(text)))
    if "illion" in text or "thousand" in text:
        text = multiplied_by_word(text)
    if text[:1].isalpha() or text.startswith(("\\text", "\\mbox", "\\mathrm")):
        text = number_words_as_digits(text)
    return text


_FONT = r"\\(?:text(?:rm|it|bf|sf|up|normal)?|math(?:rm|it|bf|sf|normal)|operatorname|mbox|bm|boldsymbol|rm)"
_UPRIGHT = re.compile(
    rf"{_FONT} ?\{{ ?(?P<letter>[ei]) ?\}}|{_FONT} (?P<bare>[ei])(?![A-Za-z])|\{{ ?\\rm ?(?P<braced>[ei]) ?\}}"
    r"|\\imath(?![A-Za-z]) ?"
)
_RESPELLED = tuple(
    (re.compile(spelling), better)
    for spelling, better in (
        (r"\\lbrace(?![A-Za-z]) ?", r"\\{"),
        (r"\\rbrace(?![A-Za-z]) ?", r"\\}"),
        (r"\\varnothing(?![A-Za-z]) ?|\\\{ ?\\\}", r"\\emptyset "),
        (r"\^? ?\{? ?\\degree(?![A-Za-z]) ?\}?", r"^\\circ "),
        (r"\\middle(?![A-Za-z]) ?", ""),
        (r"^\\(?:text(?:rm|bf|it)?|mbox|mathrm) ?\{ ?([A-Z](?:(?:, ?|,? and )[A-Z])+) ?\}$", r"\1"),
        (r"\\underline ?\{([^{}]*)\}", r"\1"),
        (r"\\not ?=", r"\\ne "),
        # Letters that ran into the command before them, as in 0\leqx\leq1.
        (r"\\([lg]eq|neq)(slant)?([a-pr-z])(?![a-z])", r"\\\1\2 \3"),
    )
)


def _upright_letter(found: re.Match[str]) -> str:
    """The letter, away from letters and digits that it must not be read with: `2\\mathrm{e}3` is not 2000."""
    letter = found["letter"] or found["bare"] or found["braced"] or "i"
    before, after = found.string[: found.start()].rstrip()[-1:], found.string[found.end() :].lstrip()[:1]
    left = r"\cdot " if letter == "e" and before.isdigit() else " " if before.isalpha() else ""
    right = r"\cdot " if letter == "e" and after.isdigit() else " " if after.isalpha() else ""
    return f"{left}{letter}{right}"


# A word set as text that stands alone, or alone on one side of an equation or inside parentheses.
_WORD = re.compile(
    r"(?:^|(?<=[=(]))\\(?:text(?:rm|bf|it|normal)?|mathrm|mathbf|mbox)\{([A-Za-z\d (),.:-]+)\}(?=$|[=)])"
)


def same_words(gold: str, answer: str) -> bool:
    r"""Whether two normalized texts are equal, whether or not their words are set as text (`\text{MR}=\text{MC}`)."""
    return gold == answer or _WORD.sub(r"\1", gold) == _WORD.sub(r"\1", answer)


def same_text(gold: str, answer: str | None) -> bool:
    """Whether the two are equal except for typography; for None, whether `gold` is more than blank."""
    return bool(normalize(gold)) if answer is None else same_words(normalize(gold), normalize(answer))


@dataclass(frozen=True)
class PlainNumber:
    """A number read from its digits. A `decimal` has a point or an exponent, and may therefore be rounded."""

    value: Fraction
    decimal: bool = False
    percent: bool = False


_INTEGER = re.compile(r"-?\d{1,400}")
_DIGITS = r"(?:\d{1,400}(?:\.\d{0,400})?|\.\d{1,400})"
_POWER_OF_TEN = r"10\^(?:\{(?P<braced>[+-]?\d{1,3})\}|\((?P<inner>[+-]?\d{1,3})\)|(?P<bare>[+-]?\d{1,3}))"
_NUMBER = re.compile(
    rf"(?P<sign>[+-]?)(?:"
    rf"(?P<grouped>\d{{1,3}}(?:,\d{{3}}){{1,100}}(?:\.\d{{1,400}})?)"
    rf"|(?:(?P<whole>\d{{1,400}}) )?(?P<top>{_DIGITS})/(?P<bottom>{_DIGITS})"
    rf"|(?P<units>\d{{1,400}})?\\frac ?(?:\{{(?P<num>[+-]?{_DIGITS})\}}\{{(?P<den>{_DIGITS})\}}|(?P<n>\d)(?P<d>\d))"
    rf"|(?:(?P<coefficient>{_DIGITS})(?:\\times|\\cdot|\*|x) ?)?{_POWER_OF_TEN}"
    rf"|(?P<mantissa>{_DIGITS})(?:[eE](?P<exponent>[+-]?\d{{1,3}}))?"
    rf")(?P<percent>\\?%)?"
)


def end_of_number(text: str) -> int:
    """The index at which the plain number that begins the normalized `text` ends; 0 if it begins with no number."""
    return match.end() if (match := _NUMBER.match(text)) else 0


def read_number(text: str) -> PlainNumber | None:
    r"""The value of a plain number in normalized `text`; None for anything else.

    Plain numbers are integers, decimals, `1,234`, `a/b`, `\frac{a}{b}`, `3\frac{1}{2}`, `1.5e-3` and
    `1.5\times10^{-3}`, with or without a sign or `\%`. `2e-1` is 0.2 here, not 2·e − 1. Also None: a zero denominator,
    or more than 400 digits.
    """
    if _INTEGER.fullmatch(text):
        return PlainNumber(Fraction(int(text)))
    if not (match := _NUMBER.fullmatch(text)):
        return None
    part = {name: found for name, found in match.groupdict().items() if found}
    value = _value(part)
    if value is None:
        return None
    decimal = "." in text or "exponent" in part or "coefficient" in part
    return PlainNumber(-value if part.get("sign") == "-" else value, decimal, "percent" in part)


def _value(part: dict[str, str]) -> Fraction | None:
    """The unsigned value of a number, given the groups of `_NUMBER` that matched; None if it has no value."""
    if "grouped" in part:
        return Fraction(part["grouped"].replace(",", ""))
    if power := part.get("braced") or part.get("inner") or part.get("bare"):
        return Fraction(part.get("coefficient", 1)) * Fraction(10) ** int(power)
    if "mantissa" in part:
        return Fraction(part["mantissa"]) * Fraction(10) ** int(part.get("exponent", 0))
    top = Fraction(part.get("top") or part.get("num") or part["n"])
    bottom = Fraction(part.get("bottom") or part.get("den") or part["d"])
    whole = part.get("whole") or part.get("units")
    if not bottom or (whole and not 0 < top < bottom):  # 5\frac{6}{1} is not a mixed number
        return None
    return Fraction(whole or 0) + top / bottom


def same_number(gold: PlainNumber, answer: PlainNumber, relative: float | None = None) -> bool:
    r"""Whether two numbers are equal: exactly, unless one of them was written as a decimal.

    Decimals are compared to within `relative` times the gold. If `relative` is None, they are compared to six places
    (math-verify's rule), and below 0.001 to one part in a thousand, because six places would make all small numbers
    equal to 0. If only one of the two has a percent sign, both readings of it are accepted: `28\%` equals 28 and 0.28.
    """
    if gold.percent is not answer.percent:
        readings = (1, 100)
        if answer.percent:
            return any(same_number(gold, _scaled(answer, n), relative) for n in readings)
        return any(same_number(_scaled(gold, n), answer, relative) for n in readings)
    if not (gold.decimal or answer.decimal):
        return gold.value == answer.value
    size = abs(gold.value)
    within = min(Fraction(1, 10**6), size / 1000) if relative is None else Fraction(relative) * size
    return abs(gold.value - answer.value) <= within


def _scaled(percent: PlainNumber, divisor: int) -> PlainNumber:
    return PlainNumber(percent.value / divisor, percent.decimal)


# Words that change a value, or deny it, and hence are never a unit.
_PARTS = r"(?:third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|hundredth|thousandth|millionth)s?"
_OTHER_VALUE = (
    rf"(?:or|and|not|no|dozens?|hundreds?|thousands?|millions?|billions?|trillions?|tens|half|halves|{_PARTS})\b"
)
_CHANGED_NUMBER = re.compile(r" ?(?:\\text\{ ?)?(?:squared|cubed|factorial)\b")
_POWER = r"(?:\^(?:\{-?\d\}|-?\d))?"
_INSIDE = rf"(?!(?:[^{{}}]*\b)?{_OTHER_VALUE})[^{{}}\d]*(?:\^\{{?-?\d\}}?[^{{}}\d]*)*"
# A unit set as text, and one set in upright letters.
_PROSE = rf"\\(?:text(?:rm|bf|it|normal)?|mbox) ?\{{{_INSIDE}\}}"
_LETTERS = rf"\\(?:mathrm|operatorname|rm) ?\{{{_INSIDE}\}}"
# Units in plain letters: any word of four letters or more, and well-known shorter ones.
_WORDS = (
    rf"(?!{_OTHER_VALUE})[A-Za-z]{{4,}}|per|days?|min|hrs?|yrs?|cups?|men|lbs?|ft|mph|kmh|[kcm]m|[km]g"
    r"|erg|cal|bar|atm|rad|deg|mol|AU|k?pc|Mpc"
)
# Symbols of SI's base and derived units with their prefixes, and of astronomy's units.
_SYMBOLS = (
    r"(?:[YZEPTGMkhdcmnpf]|\\mu ?|µ|μ|u)?(?:mol|rad|Hz|Pa|Wb|lm|lx|eV|bar|pc|[mgsAKNJWCVFTSHL]|\\Omega|Ω)"
    r"|h|Å|\\AA|ly|[MLR]_(?:\{ ?\\(?:odot|oplus) ?\}|\\(?:odot|oplus))"
)
DEGREE = r"\^ ?(?:\{ ?\\circ ?\}|\\circ(?![A-Za-z]))(?: ?[CF](?![A-Za-z]))?"


def _unit_pattern(bare: str) -> re.Pattern[str]:
    atom = rf"(?:{_PROSE}|(?:\\mu ?)?{_LETTERS}|(?:{bare})(?![A-Za-z])){_POWER}"
    fraction = rf"\\frac ?\{{ ?(?:{atom} ?){{1,4}}\}}\{{ ?(?:{atom} ?){{1,4}}\}}"
    return re.compile(rf" ?(?:(?:/|\\cdot|\*|\.) ?)?\(?(?:{fraction}|{atom}|{DEGREE})\)?")


MAX_TOKENS = 8
"""Factors of a unit that are recognized, as in m·kg·s^{-2}: a bound on the time that a hostile answer can take."""
_UNIT_TOKEN = {False: _unit_pattern(_WORDS), True: _unit_pattern(f"{_WORDS}|{_SYMBOLS}")}
_AFTER_ANYTHING = re.compile(
    rf"(?<=[\w)}}\]])(?:(?: ?/)? ?(?:{_PROSE}|\\mathrm ?\{{(?=[A-Za-z]{{2}}){_INSIDE}\}}){_POWER}){{1,{MAX_TOKENS}}}$"
)


def without_unit(text: str, symbols: bool = False) -> str:
    r"""The normalized `text` without the unit at its end.

    After a plain number, a unit is anything set as text, a word of four letters or more, or a well-known shorter one;
    with `symbols` also any symbol of SI, including single letters (`9.8 m/s^2`). After anything else, only what is set
    as text is a unit (`\sqrt{2}\text{ m}`): the m of `\frac{n}{2} m` may well be a variable.
    """
    end = end_of_number(text)
    if _CHANGED_NUMBER.match(text, end):
        return text
    if end and end < len(text) and _is_unit(text, end, _UNIT_TOKEN[symbols]):
        return text[:end]
    return _AFTER_ANYTHING.sub("", text)


def _is_unit(text: str, start: int, token: re.Pattern[str]) -> bool:
    for _ in range(MAX_TOKENS):
        if not (found := token.match(text, start)):
            return False
        start = found.end()
        if start == len(text):
            return True
    return False
