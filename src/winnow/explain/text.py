"""Explanations as text: the loss with its terms, each with its function and source, in Unicode or in LaTeX."""

import re
from collections.abc import Iterator

from winnow.explain.expression import TRUE
from winnow.explain.notation import LATEX, UNICODE, Notation
from winnow.explain.objective import PAIRS, Explanation, Term

EVERYTHING = {"D": "all samples of the optimiser batch"}


def formulas(explanation: Explanation) -> list[str]:
    """The losses and the terms, a line each: `loss = −1/|D| Σ …`."""
    return [f"{name} = {formula}" for name, formula in _equations(explanation)]


def _equations(explanation: Explanation) -> list[tuple[str, str]]:
    losses = [(name.unicode, UNICODE.text(loss)) for name, loss in explanation.losses]
    shown = [term for term in explanation.terms if _is_shown(term)]
    return losses + [(term.name.unicode, _right_side(term, UNICODE)) for term in shown]


def _is_shown(term: Term) -> bool:
    """Whether the term is a line of its own; the others stand in the loss."""
    return term.axis not in ("clip", "aggregate", "value_clip", "preference") or (
        term.formula is None and bool(term.said)
    )


def _right_side(term: Term, notation: Notation) -> str:
    if term.formula is None:
        return term.said
    if term.axis not in ("select", "rejected"):
        return notation.text(term.formula)
    if term.formula == TRUE:
        return EVERYTHING["D"]
    return f"{{{_member(term, '(a⁺, a⁻)')} : {notation.text(term.formula)}}}"


def _member(term: Term, pair: str) -> str:
    """The variable of a set: a sample, or a pair of them."""
    return pair if term.name == PAIRS else "a"


def unicode_text(explanation: Explanation) -> str:
    """The explanation for a terminal."""
    equations = _equations(explanation)
    width = max(len(name) for name, _ in equations)
    lines = [f"{name.ljust(width)} = {formula}" for name, formula in equations]
    return "\n".join([*lines, "", "where", *_legend(explanation), "", "rules", *_rules(explanation)])


def _legend(explanation: Explanation) -> Iterator[str]:
    named = [(name, symbol.meaning) for name, symbol in explanation.legend.items()]
    pairs = named + [tuple(meaning.split(": ", 1)) for meaning in explanation.domains]
    width = max(len(name) for name, _ in pairs) if pairs else 0
    yield from (f"  {name.ljust(width)}  {meaning}" for name, meaning in pairs)
    for term in explanation.terms:
        yield from (f"  {term.name.unicode.ljust(width)}  {note}" for note in term.notes)


def _rules(explanation: Explanation) -> Iterator[str]:
    """Axis, function, settings and source of each rule, in columns."""
    rows = [(term.axis, term.function, _settings(term), term.source) for term in explanation.terms if term.rule]
    widths = [max(len(row[i]) for row in rows) for i in range(3)] if rows else []
    for *row, source in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        yield "  " + "  ".join([*cells, source]).rstrip()
    yield from _proofs(explanation)
    for term in explanation.terms:
        if term.slope is not None:
            yield f"  {term.axis}: the gradient is that of {UNICODE.text(term.slope)}"


def _proofs(explanation: Explanation) -> Iterator[str]:
    """The largest difference of the formulas that are shown from their functions, and the rules without one."""
    shown = [term.proof.largest for term in explanation.terms if term.formula is not None and term.proof is not None]
    if shown:
        of = "computed beside their functions on random numbers, the formulas above differ by at most"
        yield f"  {of} {max(shown):.0e}"
    yield from (f"  {term.axis}: {term.lacking}" for term in explanation.terms if term.lacking)


def _settings(term: Term) -> str:
    return " ".join(f"{name}={value}" for name, value in term.settings.items() if value is not None)


def latex_text(explanation: Explanation) -> str:
    """The losses and terms as one `aligned` environment."""
    lines = [f"{name.latex} &= {LATEX.text(loss)}" for name, loss in explanation.losses]
    for term in explanation.terms:
        if _is_shown(term):
            lines.append(f"{term.name.latex} &= {_latex_side(term)}")
    return "\\begin{aligned}\n" + " \\\\\n".join(lines) + "\n\\end{aligned}"


def _latex_side(term: Term) -> str:
    if term.formula is None or (term.formula == TRUE and term.axis in ("select", "rejected")):
        return rf"\text{{{_escaped(_right_side(term, LATEX))}}}"
    if term.axis in ("select", "rejected"):
        return rf"\left\{{{_member(term, '(a^+, a^-)')} : {LATEX.text(term.formula)}\right\}}"
    return LATEX.text(term.formula)


def _escaped(text: str) -> str:
    """Words as LaTeX takes them inside of `text`."""
    return re.sub(r"([_%&#${}])", r"\\\1", text)
