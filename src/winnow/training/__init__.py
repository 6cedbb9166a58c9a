"""What Lightning runs: modules whose `training_step` is an objective, and the callbacks around an iteration."""
