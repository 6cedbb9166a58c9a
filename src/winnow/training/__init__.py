"""Training with Lightning: modules whose `training_step` is an objective, callbacks, checkpoints, and the run."""
