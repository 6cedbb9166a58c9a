"""Evaluation: held-out accuracy with 95 % intervals, stored samples, and comparison of two evaluations."""
