"""Programs around Hydra: one-line errors, exit codes, resuming, and sweeps of processes."""
