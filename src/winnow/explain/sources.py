"""Sources of rules: the papers and equations that a rule's docstring names."""

import inspect
import re
from collections.abc import Mapping

from winnow.explain.registry import Rule, settings_of
from winnow.rule import rule_of

PAPER = "arXiv 2504.11343"
"""The paper whose equations the package cites by their number alone."""
ITS_OWN = re.compile(r"((RAFT(\+\+)?|Reinforce(-Rej)?), )?(Eq\.|section)")
"""Citations of that paper; one that begins with another name is of whatever has this name."""
CITES = re.compile(r"arXiv|Eq\.|section \d|[Rr]elease|[A-Z]{3,}|R(?:einforce|EINFORCE)|et al\.|[a-z]+\.net/\S+")


def source_of(rule: Rule) -> str:
    """The sources that the docstring of a rule names in parentheses, or else that of its module; "" without one.

    A source of some settings alone ends in `where NAME=VALUE`, and counts where a rule has these.
    """
    function, settings = rule_of(rule), settings_of(rule)
    found = [source for part in _cited(inspect.getdoc(function) or "") if (source := _where(part, settings))]
    if function.__module__.split(".")[0] == "winnow":
        found = [_in_full(part) for part in found]
    if not found and (module := inspect.getmodule(function)) is not None:
        found = _addresses(inspect.getdoc(module) or "")
    return "; ".join(found)


def first_line(rule: Rule) -> str:
    """The first sentence of the rule's docstring."""
    text = " ".join((inspect.getdoc(rule_of(rule)) or "").split("\n\n")[0].split())
    return re.split(r"(?<=[.!?])(?<!Eq\.)(?<!al\.)\s", text)[0].rstrip(".")


def _cited(doc: str) -> list[str]:
    return [part for part in re.findall(r"\(([^()]*)\)", " ".join(doc.split())) if CITES.search(part)]


def _where(citation: str, settings: Mapping[str, object]) -> str:
    """A citation without its conditions; "" if a rule of these settings does not meet them."""
    source, _, conditions = citation.partition(", where ")
    pairs = [condition.split("=") for condition in conditions.split(" and ") if condition]
    return source if all(str(settings.get(name)) == value for name, value in pairs) else ""


def _in_full(part: str) -> str:
    """A citation with the paper's number where it has none of its own."""
    if "arXiv" in part or not ITS_OWN.match(part):
        return part
    return re.sub(r"(Eq\. ?\d+|section \d[\d.]*)$", rf"\1 of {PAPER}", part)


def _addresses(doc: str) -> list[str]:
    return re.findall(r"\b[\w.]+\.(?:net|org|com|io)/[\w./-]*\w", doc)
