"""Benchmarks of training costs (`python -m benchmarks --help`), and studies of verifiers, intervals and the sources.

The studies run alone: `python -m benchmarks.verifier_study`, `.prompt_interval_coverage`, `.seed_interval_coverage` and
`.structure`.
"""
