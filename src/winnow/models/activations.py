"""Gradient checkpointing."""

from transformers import PreTrainedModel

from winnow.errors import ConfigError


def recompute_activations(*models: PreTrainedModel) -> None:
    """Keep what goes into each block, and run the block again in backward: the same gradients, less memory, more time.

    Transformers recomputes in training mode only, and loads models for evaluation; there is no dropout to be turned on.
    """
    for model in models:
        if not model.supports_gradient_checkpointing:
            raise ConfigError(
                f"hardware.gradient_checkpointing=true: {type(model).__name__} has none; "
                "type hardware.gradient_checkpointing=false"
            )
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.train()
