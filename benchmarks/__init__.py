"""What the work costs: against TRL, against this machine's matrix products, and as it grows. `python -m benchmarks --help`."""
