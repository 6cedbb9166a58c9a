"""Conformance: whether a composed algorithm and each of its rules keep the promises that the framework builds on.

`winnow check` runs it. Each promise is a check on small synthetic numbers in float64, which takes no model and no data.
"""
