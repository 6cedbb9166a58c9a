r"""Units, which a question asks for and an answer repeats: `9.8 \text{ m/s}^2`, `4.5\times10^{33}` erg, `90^\circ`."""

import re

from winnow.rewards.literal import end_of_number

_OTHER_VALUE = r"(?:or|and|not|no|dozens?|hundreds?|thousands?|millions?|billions?|trillions?)\b"  # or none
_POWER = r"(?:\^(?:\{-?\d\}|-?\d))?"
_INSIDE = rf"(?!(?:[^{{}}]*\b)?{_OTHER_VALUE})[^{{}}\d]*(?:\^\{{?-?\d\}}?[^{{}}\d]*)*"
_PROSE = rf"\\(?:text(?:rm|bf|it|normal)?|mbox) ?\{{{_INSIDE}\}}"
_LETTERS = rf"\\(?:mathrm|operatorname|rm) ?\{{{_INSIDE}\}}"
_WORDS = (
    rf"(?!{_OTHER_VALUE})[A-Za-z]{{4,}}|per|days?|min|hrs?|yrs?|cups?|men|lbs?|ft|mph|kmh|[kcm]m|[km]g|erg|cal|bar|atm|rad|deg|mol"
    r"|AU|k?pc|Mpc"
)
_SYMBOLS = (  # SI's base and derived units with their prefixes, and those of astronomy
    r"(?:[YZEPTGMkhdcmnpf]|\\mu ?|µ|μ|u)?(?:mol|rad|Hz|Pa|Wb|lm|lx|eV|bar|pc|[mgsAKNJWCVFTSHL]|\\Omega|Ω)"
    r"|h|Å|\\AA|ly|[MLR]_(?:\{ ?\\(?:odot|oplus) ?\}|\\(?:odot|oplus))"
)
DEGREE = r"\^ ?(?:\{ ?\\circ ?\}|\\circ(?![A-Za-z]))(?: ?[CF](?![A-Za-z]))?"


def _token(bare: str) -> re.Pattern[str]:
    atom = rf"(?:{_PROSE}|(?:\\mu ?)?{_LETTERS}|(?:{bare})(?![A-Za-z])){_POWER}"
    fraction = rf"\\frac ?\{{ ?(?:{atom} ?){{1,4}}\}}\{{ ?(?:{atom} ?){{1,4}}\}}"
    return re.compile(rf" ?(?:(?:/|\\cdot|\*|\.) ?)?\(?(?:{fraction}|{atom}|{DEGREE})\)?")


MAX_TOKENS = 8
_TOKEN = {False: _token(_WORDS), True: _token(f"{_WORDS}|{_SYMBOLS}")}
_AFTER_ANYTHING = re.compile(
    rf"(?<=[\w)}}\]])(?:(?: ?/)? ?(?:{_PROSE}|\\mathrm ?\{{(?=[A-Za-z]{{2}}){_INSIDE}\}}){_POWER}){{1,{MAX_TOKENS}}}$"
)


def without_unit(text: str, symbols: bool = False) -> str:
    r"""`text` (`clean`) less the unit at its end.

    After a plain number a unit is what is set as text, a word of four letters or more, or a well-known shorter one; with
    `symbols` also those of SI, of a single letter or not (`9.8 m/s^2`). After anything else it is what is set as text
    (`\sqrt{2}\text{ m}`): the m of `\frac{n}{2} m` may well be a variable.
    """
    end = end_of_number(text)
    if end and end < len(text) and _is_unit(text, end, _TOKEN[symbols]):
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
