"""Experience of one iteration: rollouts, scores, selection, advantages and batches, up to the first gradient."""
