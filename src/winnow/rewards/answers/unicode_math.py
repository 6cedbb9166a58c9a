r"""Mathematics written in Unicode (`6√3`, `x⁴`, `½`, `–3`, `（1，2）`) respelled in LaTeX."""

import re
import unicodedata

_MINUSES = "−–—‐‑‒﹣"
_SPACES = "\u00a0\u2007\u2008\u2009\u200a\u202f\u205f\u3000\u2002\u2003\u2004\u2005\u2006"
_INVISIBLE = "\u00ad\u180e\u200b\u200c\u200d\u200e\u200f\u2060\u2061\u2062\u2063\u2064\ufe0e\ufe0f\ufeff"
_COMMANDS = {
    "×": "times", "✕": "times", "⨯": "times", "·": "cdot", "⋅": "cdot", "∙": "cdot", "•": "cdot", "÷": "div",
    "±": "pm", "∓": "mp", "≤": "le", "⩽": "le", "≦": "le", "≥": "ge", "⩾": "ge", "≧": "ge", "≠": "ne", "≈": "approx",
    "∞": "infty", "∪": "cup", "⋃": "cup", "∩": "cap", "∈": "in", "∉": "notin", "∖": "setminus", "∅": "emptyset",
    "⌀": "emptyset", "Ø": "emptyset", "∣": "mid", "∧": "wedge", "∨": "vee", "→": "to", "∠": "angle",
    "∆": "Delta", "…": "ldots", "⋯": "cdots", "⟨": "langle", "〈": "langle", "⟩": "rangle", "〉": "rangle",
    "⌊": "lfloor", "⌋": "rfloor", "⌈": "lceil", "⌉": "rceil", "∫": "int", "∑": "sum", "∏": "prod", "α": "alpha",
    "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "ζ": "zeta", "η": "eta", "θ": "theta", "ι": "iota",
    "κ": "kappa", "λ": "lambda", "ν": "nu", "ξ": "xi", "π": "pi", "ρ": "rho", "σ": "sigma", "τ": "tau",
    "φ": "phi", "χ": "chi", "ψ": "psi", "ω": "omega", "ϑ": "theta", "ϕ": "phi", "ϵ": "epsilon", "Γ": "Gamma",
    "Δ": "Delta", "Θ": "Theta", "Λ": "Lambda", "Ξ": "Xi", "Π": "Pi", "Σ": "Sigma", "Φ": "Phi", "Ψ": "Psi",
}  # fmt: skip
# µ, Ω and Å stay, because they are also units (`text` reads them as such).
_TRANSLATION = str.maketrans(
    dict.fromkeys(_MINUSES, "-")
    | dict.fromkeys(_SPACES, " ")
    | dict.fromkeys(_INVISIBLE, "")
    | {character: rf"\{command} " for character, command in _COMMANDS.items()}
    | {letter: rf"\mathbb{{{plain}}}" for letter, plain in zip("ℝℤℕℚℂ", "RZNQC", strict=True)}
    | {
        "°": r"^\circ ",
        "º": r"^\circ ",
        "˚": r"^\circ ",
        "⁄": "/",
        "∕": "/",
        "∗": "*",
        "＊": "*",
        "∶": ":",
        "、": ",",
        "。": ".",
        "′": "'",
    }
    | {
        "’": "'",
        "″": "''",
        "“": '"',
        "”": '"',
        "ⅈ": "i",
        "ⅇ": "e",
        "ℯ": "e",
        "ℓ": "l",
        "【": "[",
        "】": "]",
        "％": r"\%",
        "＄": r"\$",
    }
)
_RAISED = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿⁱ", "0123456789+-=()ni", strict=True))
_LOWERED = dict(zip("₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎ₙₖₓ", "0123456789+-=()nkx", strict=True))
_RUNS = tuple(
    (re.compile(f"[{re.escape(''.join(table))}]+"), mark, str.maketrans(table))
    for mark, table in (("^", _RAISED), ("_", _LOWERED))
)
MAX_ROOTS = 64
"""Texts with more root signs keep them: a bound on the time that a hostile answer can take."""
_SINGLE = re.compile(r" *(\d+(?:\.\d+)?|\\[A-Za-z]+|[A-Za-z])")
_DEGREE_OF_ROOT = {"√": "", "∛": "[3]", "∜": "[4]"}


def to_latex(text: str) -> str:
    r"""`text` with Unicode's signs, letters, digits, fractions and full-width characters as LaTeX spells them.

    What has no counterpart stays as it is. `3½` is the mixed number `3\frac{1}{2}`. Characters without width are
    dropped, except for those that change the order in which the others are shown.
    """
    text = _OVERLINED.sub(_as_repeating, _SMALL_FRACTION.sub(_small_fraction, text))
    for run, mark, table in _RUNS:
        text = run.sub(lambda found, mark=mark, table=table: _script(mark, found[0].translate(table)), text)
    text = "".join(map(_plain, text)) if not text.isascii() else text
    return _roots(text.translate(_TRANSLATION))


# ¹⁄₂, and 0.3̅ or 0.3̇ with a line or a dot above each repeating digit.
_SMALL_FRACTION = re.compile("([⁰¹²³⁴⁵⁶⁷⁸⁹]+)[⁄∕/]([₀₁₂₃₄₅₆₇₈₉]+)")
_OVERLINED = re.compile("(?<=[.0-9\u0304\u0305\u0307])(?:[0-9][\u0304\u0305])+|(?<=[.0-9\u0307])[0-9]\u0307")


def _small_fraction(found: re.Match[str]) -> str:
    top, bottom = (unicodedata.normalize("NFKC", digits) for digits in found.groups())
    return rf"\frac{{{top}}}{{{bottom}}}"


def _as_repeating(found: re.Match[str]) -> str:
    digits = "".join(filter(str.isdecimal, found[0]))
    return rf"\dot{{{digits}}}" if "\u0307" in found[0] else rf"\overline{{{digits}}}"


def _script(mark: str, content: str) -> str:
    return f"{mark}{content}" if len(content) == 1 else f"{mark}{{{content}}}"


def _plain(character: str) -> str:
    r"""A vulgar fraction as `\frac`; full-width, bold, italic and double-struck letters and digits as plain ones."""
    if character.isascii() or ord(character) in _TRANSLATION:
        return character
    kind = unicodedata.decomposition(character).partition(" ")[0]
    if kind == "<fraction>" and (value := unicodedata.numeric(character, None)) is not None:
        top, _, bottom = unicodedata.normalize("NFKC", character).partition("⁄")
        return rf"\frac{{{top}}}{{{bottom}}}" if top and bottom else str(value)
    if kind in ("<wide>", "<font>"):
        return unicodedata.normalize("NFKC", character)
    return character


def _roots(text: str) -> str:
    r"""`√3`, `√x`, `√½` and `√(x+1)` as `\sqrt{…}`, the last first, so that the inner of two is done first."""
    if sum(map(text.count, _DEGREE_OF_ROOT)) > MAX_ROOTS:
        return text
    for index in range(len(text) - 1, -1, -1):
        if (degree := _DEGREE_OF_ROOT.get(text[index])) is not None and (end := _end_of_radicand(text, index + 1)):
            radicand = text[index + 1 : end].strip()
            inner = radicand[1:-1] if radicand[0] in _CLOSING else radicand
            text = rf"{text[:index]}\sqrt{degree}{{{inner}}}{text[end:]}"
    return text


def _end_of_radicand(text: str, start: int) -> int | None:
    """The end of the number, letter, bracket or command with its groups that begins at `start`; None for others."""
    if found := _SINGLE.match(text, start):
        end = found.end()
        while "\\" in found[1] and text[end : end + 1] in ("{", "[") and (closed := _end_of_bracket(text, end)):
            end = closed
        return end
    while text[start : start + 1] == " ":
        start += 1
    return _end_of_bracket(text, start) if text[start : start + 1] in tuple(_CLOSING) else None


_CLOSING = {"(": ")", "{": "}", "[": "]"}


def _end_of_bracket(text: str, start: int) -> int | None:
    """The index after the bracket that closes the one at `start`; None if none does."""
    opening, closing = text[start], _CLOSING[text[start]]
    depth = 0
    for index in range(start, len(text)):
        depth += (text[index] == opening) - (text[index] == closing)
        if depth == 0:
            return index + 1
    return None
