"""Low-rank adapters (LoRA, Hu et al. 2021, arXiv 2106.09685) on the model's linear layers, by peft."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import PreTrainedModel

from winnow.distributed import whole_tensor
from winnow.errors import ConfigError
from winnow.rng import seed_of

if TYPE_CHECKING:
    from peft import PeftModel


@dataclass(frozen=True, slots=True)
class Lora:
    """Low-rank adapters: W becomes W + alpha / rank · B A, and only A and B are trained.

    B starts at zero, so that the policy starts as the base model. There is no dropout, because with it the importance
    ratio of an unchanged policy would not be 1.
    """

    rank: int
    alpha: float
    target_modules: str | list[str]

    def attach(self, model: PreTrainedModel) -> "PeftModel":
        """Replace linear layers of `model` in place, freeze all other weights, and return peft's view of the model.

        A is the same every time, because models do not know the seed of a run.

        Raises:
            ConfigError: a rank below 1, or target modules that this model does not have.
        """
        from peft import LoraConfig, get_peft_model

        if self.rank < 1:
            raise ConfigError(
                f"model.lora.rank={self.rank}: must be 1 or more; type model/lora=none to train all weights"
            )
        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,  # pyright: ignore[reportArgumentType]
            target_modules=self.target_modules,
            lora_dropout=0.0,
            bias="none",
            task_type="CAUSAL_LM",
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of("lora"))
            try:
                adapter = get_peft_model(model, config)
            except ValueError as error:
                raise ConfigError(
                    f"model.lora.target_modules={self.target_modules}: {' '.join(str(error).split())[:160]}; "
                    "type model.lora.target_modules=all-linear"
                ) from error
        self._require_untied(model)
        return adapter  # pyright: ignore[reportReturnType]

    def _require_untied(self, model: PreTrainedModel) -> None:
        """Refuse an adapter on one of two tied layers, which it would untie; no merged model could represent that."""
        from peft.tuners.lora import LoraLayer

        embedding, output = model.get_input_embeddings(), model.get_output_embeddings()
        if model.config.tie_word_embeddings and (isinstance(embedding, LoraLayer) or isinstance(output, LoraLayer)):
            raise ConfigError(
                f"model.lora.target_modules={self.target_modules}: this model's embedding and output layer are tied; "
                "type model.lora.target_modules=all-linear"
            )


def no_adapter() -> None:
    """The absence of adapters: all weights are trained."""
    return None


def merged_state(adapter: "PeftModel") -> dict[str, torch.Tensor]:
    """The weights of an ordinary model that is equivalent to the adapted one, under its own names, on the CPU."""
    return {name: tensor.cpu() for name, tensor in merged_weights(adapter.get_base_model())}


def merged_weights(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """The weights of `model` under their own names, one at a time, with adapters merged; the model itself is unchanged.

    They are on the model's device and in its dtype. Tied weights are one tensor under two names. Those of a sharded
    model are gathered one after the other, and all ranks have to take them together.
    """
    layers = {name: module for name, module in model.named_modules() if hasattr(module, "get_delta_weight")}
    for key, tensor in model.state_dict().items():
        if ".lora_" in key:
            continue
        name, inner, kind = key.rpartition(".base_layer.")
        if inner and kind == "weight":
            with torch.no_grad():
                layer: Any = layers[name]
                delta = whole_tensor(layer.get_delta_weight(layer.active_adapters[0]))
                tensor = whole_tensor(tensor) + delta.to(tensor.dtype)
        yield f"{name}.{kind}" if inner else key, whole_tensor(tensor)
