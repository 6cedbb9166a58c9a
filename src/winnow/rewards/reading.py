r"""What an answer says, as sympy has it: math-verify's parser, told what it gets wrong. Only worker processes import this."""

import re
from dataclasses import replace
from functools import lru_cache
from typing import cast

from math_verify import LatexExtractionConfig, parse
from sympy import Basic, Derivative, I, MatrixBase, Symbol

from winnow.rewards.literal import clean
from winnow.rewards.units import DEGREE, without_unit

Parsed = Basic | MatrixBase

# The box alone is read: with math-verify's default configuration the last number of any text would do as its answer. Its units
# are not used: it takes the m of 6m, the t of \frac{1}{m} t and all of E_{1}+2E_{2} that follows a \text or \mathrm for one.
_NORMALIZATION = replace(LatexExtractionConfig().normalization_config, units=False)
_BOX = (
    LatexExtractionConfig(
        boxed_match_priority=0, try_extract_without_anchor=False, normalization_config=_NORMALIZATION
    ),
)
_SPELLINGS = tuple(
    (re.compile(spelling), better)
    for spelling, better in (
        # math-verify reads 4.5e33 as 4.5·e·33, y' as y, E_1 and I_0 as e and i with nothing to follow,
        (r"^([+-]?(?:\d+(?:\.\d*)?|\.\d+))[eE]([+-]?\d+)(?![\w.^])", r"\1\\cdot 10^{\2}"),
        (r"(?<=[A-Za-z)}])''", r"^{\\prime\\prime}"),
        (r"(?<=[A-Za-z)}])'", r"^{\\prime}"),
        (r"(?<![A-Za-z\\])([EI])_", r"\\mathcal{\1}_"),
        # and cannot read \frac\pi 2, m_{\max}, \hbar, numpy's names, or a box that ends in a per cent sign.
        (r"\\frac ?(\\[A-Za-z]+) ?(\w)", r"\\frac{\1}{\2}"),
        (r"_\{ ?\\(?:text|mathrm) ?\{([A-Za-z]+) ?\} ?\}", r"_{\1}"),
        (r"_(?:\{ ?\\(max|min|odot|oplus) ?\}|\\(max|min|odot|oplus)(?![A-Za-z]))", r"_{\1\2}"),
        (r"\\hbar(?![A-Za-z])", r"h_{bar}"),
        (r"\bnp\.(?=[a-z])", r"\\"),
        (r"\\?%$", ""),
        (DEGREE, ""),
    )
)


@lru_cache(maxsize=4096)
def read(text: str) -> tuple[Parsed, ...]:
    """What math-verify makes of `text`; empty where it cannot be parsed."""
    usual = without_unit(clean(text))
    for spelling, better in _SPELLINGS:
        usual = spelling.sub(better, usual)
    return tuple(_in_our_symbols(found) for found in _parse(usual) or _parse(text))


def _parse(text: str) -> tuple[Parsed, ...]:
    return tuple(parse(f"\\boxed{{{text}}}", _BOX, fallback_mode="no_fallback", parsing_timeout=None))  # pyright: ignore[reportArgumentType]


PRIME = Symbol("prime", real=True)  # x' is read as a power of x, which is as good a name as any


def _in_our_symbols(found: Parsed) -> Parsed:
    """i is the imaginary unit, every other symbol real, dx/dt what x' is. math-verify guesses from the text whether it is complex,
    so that the i of 9i and the i of 9 i are two symbols; and to it the derivative of a symbol is 0, whatever the equation."""
    ours: dict[Basic, Basic] = {}
    for symbol in found.free_symbols:
        name = str(symbol)
        if name == "i":
            ours[symbol] = I
        elif not symbol.is_real:
            ours[symbol] = Symbol(name, real=True)
    for rate in cast(set[Derivative], found.atoms(Derivative)):
        ours[rate] = rate.expr.xreplace(ours) ** (PRIME**rate.derivative_count)
    return cast(Parsed, found.xreplace(ours)) if ours and found not in ours else found
