"""Objectives that explain themselves: formulas of rules and algorithms, from the objects that a run computes with."""

from winnow.explain import pair_formulas, sample_formulas, token_formulas
from winnow.explain.registry import Formula, formula

__all__ = ["Formula", "formula", "pair_formulas", "sample_formulas", "token_formulas"]
