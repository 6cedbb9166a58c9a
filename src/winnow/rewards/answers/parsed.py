"""Answers as math-verify reads them, with its known errors of reading corrected.

Only worker processes import this module.
"""

import re
from dataclasses import replace
from functools import lru_cache
from typing import cast

import sympy
from math_verify import LatexExtractionConfig, parse

from winnow.rewards.answers.text import DEGREE, normalize, without_unit

Parsed = sympy.Basic | sympy.MatrixBase

# Only the box is read, because with math-verify's default configuration the last number of any text counts as its
# answer. Its removal of units is off, because it takes for a unit the m of 6m, the t of \frac{1}{m} t and all of
# E_{1}+2E_{2} that follows a \text or \mathrm.
_NORMALIZATION = replace(LatexExtractionConfig().normalization_config, units=False)
_BOX = (
    LatexExtractionConfig(
        boxed_match_priority=0, try_extract_without_anchor=False, normalization_config=_NORMALIZATION
    ),
)
_SPELLINGS = tuple(
    (re.compile(spelling), better)
    for spelling, better in (
        # math-verify reads 4.5e33 as 4.5·e·33, y' as y, and E_1 and I_0 as e and i, without their subscripts.
        (r"^([+-]?(?:\d+(?:\.\d*)?|\.\d+))[eE]([+-]?\d+)(?![\w.^])", r"\1\\cdot 10^{\2}"),
        (r"(?<=[A-Za-z)}])''", r"^{\\prime\\prime}"),
        (r"(?<=[A-Za-z)}])'", r"^{\\prime}"),
        (r"(?<![A-Za-z\\])([EI])_", r"\\mathcal{\1}_"),
        # It cannot read \frac\pi 2, m_{\max}, \hbar, numpy's names, or a box that ends in a percent sign.
        (r"\\frac ?(\\[A-Za-z]+) ?(\w)", r"\\frac{\1}{\2}"),
        (r"(\d+|[A-Za-z])!(?=\^)", r"(\1!)"),
        (r"_\{ ?\\(?:text|mathrm) ?\{([A-Za-z]+) ?\} ?\}", r"_{\1}"),
        (r"_(?:\{ ?\\(max|min|odot|oplus) ?\}|\\(max|min|odot|oplus)(?![A-Za-z]))", r"_{\1\2}"),
        (r"\\hbar(?![A-Za-z])", r"h_{bar}"),
        (r"\bnp\.(?=[a-z])", r"\\"),
        (r"\\?%$", ""),
        # It takes ln 2 for l·n·2, and knows neither \lg nor \log_e.
        (r"(?<![A-Za-z\\_{])(sin|cos|tan|cot|ln|log|lg)(?=[ (_^\\\d{](?![A-Za-z]{2}))", r"\\\1"),
        (r"\\lg(?![A-Za-z])", r"\\log_{10}"),
        (r"\\log_ ?(?:e(?![A-Za-z])|\{ ?e ?\})", r"\\ln "),
        (DEGREE, ""),
    )
)


@lru_cache(maxsize=4096)
def parse_answer(text: str) -> tuple[Parsed, ...]:
    """The expressions that math-verify reads in `text`, without units; empty if it cannot be parsed."""
    respelled = without_unit(_degrees_as_radians(_UPRIGHT_FUNCTION.sub(r"\\\1 ", normalize(text))))
    for spelling, better in _SPELLINGS:
        respelled = spelling.sub(better, respelled)
    return tuple(_unify_symbols(found) for found in _parse_latex(respelled) or _parse_latex(text))


_UPRIGHT_FUNCTION = re.compile(
    r"\\(?:operatorname\*?|mathrm|text|rm) ?\{ ?((?:arc)?(?:sin|cos|tan)|cot|sec|csc|ln|log|lg|exp) ?\}"
)
_TRIGONOMETRIC = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![A-Za-z])(?! ?\^ ?\{? ?-)")
_ANGLE = re.compile(
    r"(?P<angle>\d+(?:\.\d*)?|\\frac ?(?:\{[^{}]*\}\{[^{}]*\}|\d\d)|\([^()]*\)|\{[^{}]*\}|\\[a-z]+ ?|[A-Za-z])"
    rf"(?:{DEGREE}|\\(?:text|mathrm) ?\{{ ?(?:degrees?|deg) ?\}})"
)


def _degrees_as_radians(text: str) -> str:
    r"""The angles of trigonometric functions in radians: `\sin 30^\circ` is 1/2. Elsewhere a degree is a unit."""
    first = _TRIGONOMETRIC.search(text)
    if first is None:
        return text
    return text[: first.end()] + _ANGLE.sub(r"(\g<angle>\\cdot\\frac{\\pi}{180})", text[first.end() :])


def _parse_latex(text: str) -> tuple[Parsed, ...]:
    boxed = f"\\boxed{{{text}}}"
    return tuple(parse(boxed, _BOX, "no_fallback", parsing_timeout=None))  # pyright: ignore[reportArgumentType]


PRIME = sympy.Symbol("prime", real=True)
"""x' is read as x to the power of this symbol, which serves as well as any other name for a derivative."""


def _unify_symbols(found: Parsed) -> Parsed:
    """`found` with i as the imaginary unit, all other symbols real, and dx/dt as x'.

    math-verify guesses from the text whether a symbol is complex, so that the i of 9i and the i of 9 i are two
    different symbols. It also takes the derivative of a symbol to be 0, whatever the equation.
    """
    ours: dict[sympy.Basic, sympy.Basic] = {}
    for symbol in found.free_symbols:
        name = str(symbol)
        if name == "i":
            ours[symbol] = sympy.I
        elif not symbol.is_real:
            ours[symbol] = sympy.Symbol(name, real=True)
    for rate in cast(set[sympy.Derivative], found.atoms(sympy.Derivative)):
        ours[rate] = rate.expr.xreplace(ours) ** (PRIME**rate.derivative_count)
    return cast(Parsed, found.xreplace(ours)) if ours and found not in ours else found
