"""Explanations as text: the loss with its terms, each with its function and source, in Unicode or in LaTeX."""

from collections.abc import Iterator

from winnow.explain.expression import TRUE, Expression, Symbol
from winnow.explain.notation import LATEX, UNICODE, Notation
from winnow.explain.objective import Explanation, Term

EVERYTHING = {"D": "all samples of the optimiser batch"}


def formulas(explanation: Explanation) -> list[str]:
    """The losses and the terms, a line each: `loss = −1/|D| Σ …`."""
    lines = [f"{name.unicode} = {UNICODE.text(loss)}" for name, loss in explanation.losses]
    return lines + [_line(term) for term in explanation.terms if _is_shown(term)]


def _is_shown(term: Term) -> bool:
    """Whether the term is a line of its own; the others stand in the loss."""
    return term.axis not in ("clip", "aggregate", "value_clip", "beta") or (term.formula is None and bool(term.said))


def _line(term: Term) -> str:
    return f"{term.name.unicode} = {_right_side(term, UNICODE)}"


def _right_side(term: Term, notation: Notation) -> str:
    if term.formula is None:
        return term.said
    if term.axis not in ("select", "rejected"):
        return notation.text(term.formula)
    if term.formula == TRUE:
        return EVERYTHING["D"]
    member = "(a⁺, a⁻)" if term.name.unicode == "(a⁺, a⁻)" else "a"
    return f"{{{member} : {notation.text(term.formula)}}}"


def unicode_text(explanation: Explanation) -> str:
    """The explanation for a terminal."""
    return "\n".join([*formulas(explanation), "", *_legend(explanation), "", *_rules(explanation)])


def _legend(explanation: Explanation) -> Iterator[str]:
    for name, symbol in explanation.legend.items():
        yield f"  {name}: {symbol.meaning}"
    for meaning in explanation.domains:
        yield f"  {meaning}"


def _rules(explanation: Explanation) -> Iterator[str]:
    """Axis, function, settings and source of each rule, in columns."""
    rows = [(term.axis, term.function, _settings(term), term.source) for term in explanation.terms if term.rule]
    widths = [max(len(row[i]) for row in rows) for i in range(3)] if rows else []
    for row in rows:
        yield (
            "  " + "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]).rstrip()
        )
    differences = [max(t.proof.value, t.proof.gradient) for t in explanation.terms if t.proof is not None]
    if differences:
        yield f"  each formula was computed beside its function: largest difference {max(differences):.0e}"
    for term in explanation.terms:
        for note in term.notes:
            yield f"  {term.name.unicode}: {note}"
        if term.slope is not None:
            yield f"  the gradient is that of {UNICODE.text(term.slope)}"


def _settings(term: Term) -> str:
    return " ".join(f"{name}={value}" for name, value in term.settings.items())


def latex_text(explanation: Explanation) -> str:
    """The losses and terms as one `aligned` environment."""
    lines = [_latex_line(name, LATEX.text(loss)) for name, loss in explanation.losses]
    for term in explanation.terms:
        if _is_shown(term):
            lines.append(_latex_line(term.name, _latex_side(term)))
    return "\\begin{aligned}\n" + " \\\\\n".join(lines) + "\n\\end{aligned}"


def _latex_line(name: Symbol, right: str) -> str:
    return f"{name.latex} &= {right}"


def _latex_side(term: Term) -> str:
    if term.formula is None or (term.formula == TRUE and term.axis in ("select", "rejected")):
        return rf"\text{{{_right_side(term, LATEX)}}}"
    if term.axis in ("select", "rejected"):
        return rf"\left\{{a : {_text(term.formula)}\right\}}"
    return _text(term.formula)


def _text(formula: Expression) -> str:
    return LATEX.text(formula)
