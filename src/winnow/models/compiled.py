"""torch.compile, block by block."""

from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from winnow.errors import ConfigError


def compile_blocks(*models: PreTrainedModel, backend: str = "inductor") -> None:
    """Fuse the small operations of each block, for any number of tokens: all blocks share one compilation.

    Attention stays as it is: it is told of its rows by objects, which a compiler would have to guard.
    """
    for model in models:
        blocks = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
        if not blocks:
            raise ConfigError(
                f"hardware.compile=true: {type(model).__name__} has no blocks to compile; type hardware.compile=false"
            )
        for block in blocks:
            block.compile(dynamic=True, backend=backend)
