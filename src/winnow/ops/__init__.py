"""Pure functions on tensors, of which `conf/algo` composes an algorithm. They import torch, jaxtyping and each other.

Letters in shapes: P prompts, G samples per prompt, N = P·G rows, B rows of a micro-batch, S positions. Position s of
every (B, S) tensor describes token s.
"""
