"""Answers: how they are read from a text, and when two of them are equal.

Nothing here knows of verdicts, rules or processes. The modules that import sympy say so: only workers import them.
"""
