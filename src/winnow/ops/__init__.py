"""Pure functions on tensors, of which `conf/algo` composes an algorithm. They import torch and jaxtyping only.

Letters in shapes: P prompts, G samples per prompt, N = P·G rows, B rows of a micro-batch, S positions. Position s of
every (B, S) tensor describes token s.
"""

from jaxtyping import Float
from torch import Tensor

PerToken = Float[Tensor, "b s"]
"""One number for each position of each row of a micro-batch; what stands outside the responses is not used."""
