"""Objects of a run or an evaluation, built from its composed configuration, and from nothing else."""
