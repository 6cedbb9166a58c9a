"""Programs built on Hydra: one-line errors and exit codes, resumed runs, and sweeps whose jobs are processes."""
