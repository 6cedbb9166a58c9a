r"""Units, which a question asks for and an answer repeats: `9.8 \text{ m/s}^2`, `4.5\times10^{33}` erg, `90^\circ`."""

import re

from winnow.rewards.literal import read_number

# Words that make another value of the number before them, or none.
_NO_UNIT = r"(?!(?:[^{}]*\b)?(?:or|and|not|no|dozens?|hundreds?|thousands?|millions?|billions?|trillions?)\b)"
_POWER = r"(?:\^(?:\{-?\d\}|-?\d))?"
_INSIDE = rf"{_NO_UNIT}[^{{}}\d]*(?:\^\{{?-?\d\}}?[^{{}}\d]*)*"
_PROSE = rf"\\(?:text(?:rm|bf|it|normal)?|mbox) ?\{{{_INSIDE}\}}"
_LETTERS = rf"\\(?:mathrm|operatorname|rm) ?\{{{_INSIDE}\}}"
_WORDS = (
    rf"{_NO_UNIT}[A-Za-z]{{4,}}|per|days?|mph|kmh|min|hrs?|yrs?|cups?|men|erg|rad|deg|mol|atm|bar|cal|AU|k?pc|Mpc|[kcm]m|[km]g|lbs?|ft"
)
_SYMBOLS = (  # SI's base and derived units with their prefixes, and those of astronomy
    r"(?:[YZEPTGMkhdcmnpf]|\\mu ?|µ|μ|u)?(?:mol|rad|Hz|Pa|Wb|lm|lx|eV|bar|pc|[mgsAKNJWCVFTSHL]|\\Omega|Ω)"
    r"|h|Å|\\AA|ly|[MLR]_(?:\{ ?\\(?:odot|oplus) ?\}|\\(?:odot|oplus))"
)
DEGREE = r"\^ ?(?:\{ ?\\circ ?\}|\\circ(?![A-Za-z]))(?: ?[CF](?![A-Za-z]))?"


def _tail(bare: str) -> re.Pattern[str]:
    atom = rf"(?:{_PROSE}|(?:\\mu ?)?{_LETTERS}|(?:{bare})(?![A-Za-z])){_POWER}"
    fraction = rf"\\frac ?\{{ ?(?:{atom} ?){{1,4}}\}}\{{ ?(?:{atom} ?){{1,4}}\}}"
    return re.compile(rf"(?: ?(?:/|\\cdot|\*|\.)? ?\(?(?:{fraction}|{atom}|{DEGREE})\)?){{1,8}}$")


_AFTER_A_NUMBER = {False: _tail(_WORDS), True: _tail(f"{_WORDS}|{_SYMBOLS}")}
_AFTER_ANYTHING = re.compile(rf"(?<=[\w)}}\]])(?: ?/? ?(?:{_PROSE}|\\mathrm ?\{{(?=[A-Za-z]{{2}}){_INSIDE}\}}){_POWER}){{1,8}}$")


def without_unit(text: str, symbols: bool = False) -> str:
    r"""`text` (`clean`) less the unit at its end.

    After a plain number a unit is what is set as text, a word of four letters or more, or a well-known shorter one; with
    `symbols` also those of SI, of a single letter or not (`9.8 m/s^2`). After anything else it is what is set as text
    (`\sqrt{2}\text{ m}`): the m of `\frac{n}{2} m` may well be a variable.
    """
    for tail in _AFTER_A_NUMBER[symbols].finditer(text):
        if read_number(number := text[: tail.start()].strip()) is not None:
            return number
    return _AFTER_ANYTHING.sub("", text)
