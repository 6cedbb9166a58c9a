"""Pure arithmetic on tensors: operations, not algorithms. Torch and jaxtyping only."""
