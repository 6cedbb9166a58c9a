"""Sampling from the training model itself, in plain PyTorch."""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from transformers import PreTrainedModel

from winnow.engines.base import Done, ignore
from winnow.engines.generation import Generation
from winnow.errors import ConfigError
from winnow.models.attention import is_packed
from winnow.types import Completion, Prompt, Sampling


class TorchEngine:
    """Decodes with the model that is being trained: no second copy of its weights, and its own numbers.

    Each prompt is run through the model once; its keys and values are then repeated for its samples, and all
    samples of all prompts are decoded side by side. Only `forward` is called: no generation_config has a say.
    """

    exact = True

    def __init__(
        self, eos_ids: Sequence[int], pad_id: int = 0, max_rows: int | None = None, graphs: bool = False
    ) -> None:
        """Each of `eos_ids` ends a response. `max_rows` bounds the cache's memory: no more rows are decoded at once, and
        prompts wait until there is room for them (but one prompt's samples always begin together). With `graphs` shapes
        stay fixed between changes of rows, and a CUDA graph replays each step."""
        if max_rows is not None and max_rows < 1:
            raise ConfigError(f"engine.max_rows={max_rows} leaves no row to decode: type 1 or more, or null")
        self.version = -1
        self._eos_ids, self._pad_id, self._max_rows, self._graphs = tuple(eos_ids), pad_id, max_rows, graphs
        self._model: PreTrainedModel | None = None

    def sync(self, model: PreTrainedModel, version: int) -> None:
        """Keep a reference: the weights are the trainer's own, and always current."""
        if model is not self._model:
            require_position_ids(model)
            if self._graphs:
                require_fixed_shapes(model)
        self._model, self.version = model, version

    def generate(
        self,
        prompts: Sequence[Prompt],
        seeds: Sequence[Sequence[int]],
        sampling: Sampling,
        done: Done = ignore,
    ) -> list[list[Completion]]:
        if self._model is None:
            raise RuntimeError("TorchEngine.generate was called before sync: it has no model to sample from")
        if not any(seeds):  # a rank may have no prompt
            return [[] for _ in seeds]
        # Not inference_mode: a buffer that a forward updates (dynamic RoPE) could never be trained through.
        # Blocks that are compiled for the updates are not for sampling, whose cache is a different object in every step.
        with torch.no_grad(), evaluating(self._model), torch.compiler.set_stance("force_eager"):
            generation = Generation(
                self._model, prompts, seeds, sampling, self._eos_ids, self._pad_id, self._max_rows, self._graphs
            )
            rows: dict[int, Completion] = {}
            for ended in generation.run():
                rows |= ended
                for row, completion in ended.items():
                    done(*generation.names[row], completion)
        found = iter(rows[row] for row in range(len(rows)))
        return [[next(found) for _ in group] for group in seeds]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Dropout off; afterwards every module is back in the mode it was in."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def require_position_ids(model: nn.Module) -> None:
    """Refuse an architecture that counts padding as positions: its samples would depend on their batch."""
    causal_lm = next((module for module in model.modules() if isinstance(module, PreTrainedModel)), model)
    if "position_ids" not in inspect.signature(causal_lm.forward).parameters:
        raise ConfigError(
            f"{type(causal_lm).__name__} takes no position_ids, so prompts of different lengths cannot be "
            "batched exactly: choose a decoder that does (Qwen, Llama, GPT-2, …)"
        )


def require_fixed_shapes(model: PreTrainedModel) -> None:
    """A captured step never returns to the host: neither for transformers' masks nor for rotations that depend on the length."""
    if not is_packed(model):
        raise ConfigError(
            f"engine.graphs=true: {type(model).__name__} runs on transformers' own attention here; leave it out, "
            "or type hardware.attention=auto where that is what is in the way"
        )
    rotation = (getattr(model.config.get_text_config(), "rope_parameters", None) or {}).get("rope_type", "default")
    if rotation in ("dynamic", "longrope"):
        raise ConfigError(f"engine.graphs=true: {rotation} rotary positions depend on the length; leave it out")
