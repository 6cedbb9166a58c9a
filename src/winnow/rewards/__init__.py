"""Verification: from a response's text to a verdict and a reward.

Importing this package loads neither torch nor sympy; only the worker processes import sympy.
"""
