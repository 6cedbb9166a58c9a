"""From a composed configuration to the objects of a run. Configuration nodes become objects here and nowhere else."""
