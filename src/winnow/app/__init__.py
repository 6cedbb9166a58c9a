"""What a user sees around Hydra: one-line errors, exit codes, resuming, sweeps of processes."""

from winnow.app.program import Program, main

__all__ = ["Program", "main"]
