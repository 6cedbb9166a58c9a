"""Parity: the losses of TRL 1.16 and of Winnow on the same log-probabilities, rewards and masks, in float64.

TRL's side runs TRL's own methods, and Winnow's side its own experience, plan and objective. `python -m
benchmarks.parity` writes the table of docs/parity.md; `tests/bench/test_parity.py` holds every row of it.
"""
